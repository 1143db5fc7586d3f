"""The expression language of `chainrule explain`: arithmetic and known functions over given names.

Python's own parser reads it; this file walks the syntax tree and computes what is on its list, and nothing else. No
text is ever evaluated by Python.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.node import Node
from chainrule.core.tensor import Tensor, _raw
from chainrule.ops import elementwise, layout, linalg, network, products, reductions, special

_LONGEST = 20_000


class ExpressionError(ValueError):
    """A part of an expression cannot be used. `str(error)` is one line; `underlined` shows the part."""

    def __init__(self, message: str, source: str, node: Any = None) -> None:
        super().__init__(message)
        self.source = source
        self.line, self.start, self.end = _span(source, node)

    @property
    def underlined(self) -> str:
        """The line of the expression, and a line that underlines the offending part."""
        if self.start is None:
            return ""
        line = self.source.splitlines()[self.line] if self.source else ""
        return f"  {line}\n  {' ' * self.start}{'^' * max(self.end - self.start, 1)}"


def _span(source: str, node: Any) -> tuple[int, Any, int]:
    """Line and columns of a part of the source, in characters: the parser counts bytes of UTF-8."""
    if isinstance(node, tuple):
        return node
    if node is None or not hasattr(node, "lineno"):
        return 0, None, 0
    lines = source.splitlines()
    line = node.lineno - 1
    encoded = lines[line].encode()
    start = len(encoded[: node.col_offset].decode())
    same = node.end_lineno == node.lineno
    end = len(encoded[: node.end_col_offset].decode()) if same else len(lines[line])
    return line, start, end


# What there is -----------------------------------------------------------------------------------------------------


def _chosen(pair: Callable, reduction: Callable) -> Callable:
    """`max(a, b)` of two arrays, `max(a)` over the elements of one."""

    def choose(a: Any, b: Any = None, /, axis: Any = None) -> Any:
        return reduction(a, axis=axis) if b is None else pair(a, b)

    return choose


def _cross_entropy(logits: Any, target: Any, /) -> Any:
    """Of one row of logits, or the mean over several rows."""
    target = np.asarray(_raw(target)).astype(np.int64)
    return network.cross_entropy_with_logits(logits, target, reduction="mean" if target.ndim else "none")


def _batch_norm(x: Any, weight: Any, bias: Any, /, eps: float = 1e-5) -> Any:
    return network.batch_norm(x, weight, bias, eps=eps)[0]


def _transpose(x: Any, /) -> Any:
    return layout.matrix_transpose(x) if len(x.shape) > 1 else x


FUNCTIONS: dict[str, Callable] = {
    **{name: getattr(elementwise, name) for name in (
        "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "tanh", "square", "sign", "maximum", "minimum", "where", "clip", "logaddexp",
    )},
    **{name: getattr(network, name) for name in (
        "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "softmax", "log_softmax", "logsumexp", "layer_norm",
    )},
    **{name: getattr(reductions, name) for name in ("sum", "mean", "prod", "var", "std")},
    "abs": elementwise.absolute, "ln": elementwise.log, "arcsin": elementwise.asin, "arccos": elementwise.acos,
    "arctan": elementwise.atan, "sigmoid": special.sigmoid, "σ": special.sigmoid, "erf": special.erf,
    "max": _chosen(elementwise.maximum, reductions.max), "min": _chosen(elementwise.minimum, reductions.min),
    "dot": products.dot, "matmul": products.matmul, "linear": products.linear_map, "transpose": _transpose,
    "norm": linalg.vector_norm, "batch_norm": _batch_norm, "cross_entropy": _cross_entropy,
    "binary_cross_entropy": network.binary_cross_entropy_with_logits,
}  # fmt: skip

CONSTANTS = {"pi": math.pi, "π": math.pi, "e": math.e}

#: Arguments that are whole numbers or classes, not values with a gradient: function, place.
_TARGETS = frozenset({"cross_entropy"})

_OPERATORS: dict[type, Callable] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.MatMult: lambda a, b: a @ b,
    ast.Mod: lambda a, b: a % b,
}
_COMPARISONS: dict[type, Callable] = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
}

_REFUSED = {
    ast.Import: "import is not part of the language",
    ast.ImportFrom: "import is not part of the language",
    ast.Lambda: "lambda is not part of the language; write the steps one after the other, with ;",
    ast.BitXor: "^ is not a power here; write **",
    ast.IfExp: "if is not part of the language; use where(condition, a, b)",
}


# Reading -----------------------------------------------------------------------------------------------------------


class Program:
    """Statements of the language: `name = expression`, separated by `;` or new lines; the last one is the result.

    Calling it computes the result from its inputs by name.

    Attributes:
        names: what it needs, in the order of first use.
        targets: those of them that are class numbers, which carry no gradient.

    Raises:
        ExpressionError: it is not well-formed, or uses anything that is not on the language's list.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[Node, ast.AST] = {}
        self._bind: Callable[[str, Any], None] | None = None
        self.statements = self._parsed()
        self.names: list[str] = []
        self.targets: set[str] = set()
        self._collect()
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in self.names]
        self.__signature__ = inspect.Signature(parameters)
        self.__name__ = "L"

    def bind_names(self, bind: Callable[[str, Any], None]) -> None:
        """Tell `bind` what every assigned name means while the program runs."""
        self._bind = bind

    def __call__(self, **inputs: Any) -> Any:
        environment = dict(inputs)
        result: Any = None
        for statement in self.statements:
            result = self._compute(statement.value, environment)
            if isinstance(statement, ast.Assign):
                name = statement.targets[0].id  # type: ignore[attr-defined]
                environment[name] = result
                if self._bind is not None:
                    self._bind(name, result)
        return result

    def error(self, message: str, node: Any = None) -> ExpressionError:
        """An error about a part of this program."""
        return ExpressionError(message, self.source, node)

    def use_of(self, name: str) -> ast.AST | None:
        """Where a name is first used."""
        found = [n for s in self.statements for n in ast.walk(s) if isinstance(n, ast.Name) and n.id == name]
        return min(found, key=lambda n: (n.lineno, n.col_offset), default=None)

    # Checking ----------------------------------------------------------------------------------------------------

    def _parsed(self) -> list[Any]:
        if len(self.source) > _LONGEST:
            raise ExpressionError(f"the expression is longer than {_LONGEST} characters", self.source)
        try:
            tree = ast.parse(self.source.strip(), mode="exec")
        except SyntaxError as error:
            line = max((error.lineno or 1) - 1, 0)
            start = max((error.offset or 1) - 1, 0)
            end = error.end_offset - 1 if error.end_offset and error.end_lineno == error.lineno else start + 1
            raise ExpressionError(
                f"cannot be read: {error.msg}", self.source, (line, start, max(end, start + 1))
            ) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"cannot be read: {error}", self.source) from None
        finally:
            self.source = self.source.strip()
        if not tree.body:
            raise ExpressionError("the expression is empty", self.source)
        for statement in tree.body:
            self._check_statement(statement)
        return tree.body

    def _check_statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            (target, *others) = statement.targets
            if others or not isinstance(target, ast.Name):
                raise self.error("a statement assigns to one name: name = expression", target)
            if target.id in FUNCTIONS:
                raise self.error(f"{target.id} is a function here; choose another name", target)
        elif not isinstance(statement, ast.Expr):
            told = _REFUSED.get(type(statement), f"{_spoken(statement)} is not part of the language")
            raise self.error(told, statement)
        self._check(statement.value)

    def _check(self, node: Any) -> None:
        """That a part is on the list, and everything in it."""
        match node:
            case ast.BinOp():
                if type(node.op) not in _OPERATORS:
                    raise self.error(_REFUSED.get(type(node.op), f"the operator of {_spoken(node)} is not known"), node)
                parts = [node.left, node.right]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                parts = [node.operand]
            case ast.Compare(ops=[operator], comparators=[right]) if type(operator) in _COMPARISONS:
                parts = [node.left, right]
            case ast.Name():
                parts = []
            case ast.Constant():
                if type(node.value) not in (int, float):
                    raise self.error(f"{node.value!r} is not a number", node)
                parts = []
            case ast.List() | ast.Tuple():
                parts = node.elts
            case ast.Call():
                parts = self._checked_call(node)
            case ast.Attribute(attr="T"):
                parts = [node.value]
            case ast.Attribute():
                raise self.error(f"attributes cannot be reached: .{node.attr}", node)
            case ast.Subscript():
                self._index(node.slice)
                parts = [node.value]
            case _:
                raise self.error(_REFUSED.get(type(node), f"{_spoken(node)} is not part of the language"), node)
        for part in parts:
            self._check(part)

    def _checked_call(self, node: ast.Call) -> list[ast.expr]:
        if not isinstance(node.func, ast.Name):
            raise self.error("only known functions can be called, by their names", node.func)
        if node.func.id not in FUNCTIONS:
            close = _closest(node.func.id, FUNCTIONS)
            hint = f"; did you mean {close}?" if close else f"; there are {', '.join(sorted(FUNCTIONS))}"
            raise self.error(f"{node.func.id} is not a known function{hint}", node.func)
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self.error("arguments cannot be spread with *", argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.error("arguments cannot be spread with **", keyword.value)
            self._option(keyword.value)
        return node.args

    def _option(self, node: ast.expr) -> Any:
        """The value of a named argument: a number, a tuple of them, a word, or True or False."""
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise self.error("a named argument must be a plain number or word", node) from None
        return value

    def _index(self, node: ast.expr) -> Any:
        match node:
            case ast.Tuple():
                return tuple(self._index(part) for part in node.elts)
            case ast.Slice():
                return slice(
                    *(None if edge is None else self._index(edge) for edge in (node.lower, node.upper, node.step))
                )
            case ast.Constant(value=int() as number) | ast.Constant(value=None as number):
                return number
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
                return -number
        raise self.error("an index must be made of whole numbers and slices", node)

    def _collect(self) -> None:
        known: set[str] = set()
        for statement in self.statements:
            functions = {n.func for n in ast.walk(statement.value) if isinstance(n, ast.Call)}
            found = [n for n in ast.walk(statement.value) if isinstance(n, ast.Name) and n not in functions]
            for name in sorted(found, key=lambda n: (n.lineno, n.col_offset)):
                if name.id not in known:
                    known.add(name.id)
                    self.names.append(name.id)
            for call in ast.walk(statement.value):
                if isinstance(call, ast.Call) and call.func.id in _TARGETS:  # type: ignore[attr-defined]
                    self.targets |= {
                        n.id for argument in call.args[1:] for n in ast.walk(argument) if isinstance(n, ast.Name)
                    }
            if isinstance(statement, ast.Assign):
                known.add(statement.targets[0].id)  # type: ignore[attr-defined]

    # Computing ---------------------------------------------------------------------------------------------------

    def _compute(self, node: Any, environment: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant():
                return float(node.value)  # type: ignore[arg-type]
            case ast.Name():
                return self._value_of(node, environment)
            case ast.List() | ast.Tuple():
                return self._array(node, environment)
        operands = [self._compute(part, environment) for part in _parts(node)]
        try:
            result = self._applied(node, operands)
        except ExpressionError:
            raise
        except (ValueError, TypeError, GradientError, IndexError, ArithmeticError) as error:
            raise self.error(str(error), node) from None
        if isinstance(result, Tensor) and isinstance(result._node, Node):
            self.places.setdefault(result._node, node)
        return result

    def _value_of(self, node: ast.Name, environment: Mapping[str, Any]) -> Any:
        if node.id in environment:
            return environment[node.id]
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        raise self.error(f"{node.id} is not given; add {node.id}=...", node)

    def _array(self, node: Any, environment: Mapping[str, Any]) -> Any:
        rows = [self._compute(part, environment) for part in node.elts]
        if any(isinstance(row, Tensor) for row in rows):
            raise self.error("a list is made of numbers; give names their arrays as name=[...]", node)
        try:
            return np.array(rows, dtype=np.float64)
        except (ValueError, TypeError):
            raise self.error("the rows of a list must have equal lengths", node) from None

    def _applied(self, node: Any, operands: list[Any]) -> Any:
        match node:
            case ast.BinOp():
                if isinstance(node.op, ast.MatMult) and not all(np.ndim(_raw(x)) for x in operands):
                    raise self.error("@ is a product of matrices and vectors; use * for numbers", node)
                return _OPERATORS[type(node.op)](*operands)
            case ast.UnaryOp():
                return -operands[0] if isinstance(node.op, ast.USub) else operands[0]
            case ast.Compare():
                return _COMPARISONS[type(node.ops[0])](*operands)
            case ast.Attribute():
                return _transpose(operands[0])
            case ast.Subscript():
                return operands[0][self._index(node.slice)]
        options = {keyword.arg: self._option(keyword.value) for keyword in node.keywords}
        return FUNCTIONS[node.func.id](*operands, **options)


def _parts(node: Any) -> list[Any]:
    match node:
        case ast.BinOp():
            return [node.left, node.right]
        case ast.UnaryOp():
            return [node.operand]
        case ast.Compare():
            return [node.left, *node.comparators]
        case ast.Attribute() | ast.Subscript():
            return [node.value]
    return list(node.args)


def _spoken(node: ast.AST) -> str:
    """What a part of Python is called."""
    return {
        "BoolOp": "and/or", "ListComp": "a comprehension", "GeneratorExp": "a comprehension", "Dict": "a dictionary",
        "JoinedStr": "text", "NamedExpr": ":=", "AugAssign": "an assignment like +=", "FunctionDef": "def",
        "Delete": "del", "AnnAssign": "an annotation", "Compare": "this comparison", "UnaryOp": "this sign",
    }.get(type(node).__name__, type(node).__name__.lower())  # fmt: skip


def _closest(name: str, known: Any) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), None)


def value_of(text: str) -> Any:
    """A number or an array written in the language, without names: `2`, `-1/3`, `[[.1, .2], [.3, .4]]`.

    Raises:
        ExpressionError: it is not one.
    """
    program = Program(text)
    if len(program.statements) != 1 or not isinstance(program.statements[0], ast.Expr):
        raise ExpressionError("a value is a number or a list of numbers", program.source, program.statements[0])
    value = program()
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)
