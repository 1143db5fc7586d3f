"""The stages of a compiled function as text: its graph, and its kernels as loops over formulas.

A kernel is written as mathematics: a name is given to what is used more than once, everything else is put where it is
needed. How the loops are unrolled, made vectors of and shared among threads is in the LLVM code.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chainrule.compile.graph import Graph, Value, reachable
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Kernel, Loop

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "remainder": "%", "pow": "**",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
    "logical_and": "and", "logical_or": "or", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
}  # fmt: skip
_PREFIX = {"negative": "-", "logical_not": "not ", "bitwise_invert": "~"}
_UNTOLD = frozenset({"load", "store", "constant", "index", "astype", "product"})
_INDEX_NAMES = "ijlmnopqrstuvwxyz"  # k is what a matrix product sums over
_LONGEST_FORMULA = 100
_MOST_OPERATIONS = 8


def shape_text(shape: Sequence[int]) -> str:
    """`64 x 128`; `1` for a single number."""
    return " x ".join(map(str, shape)) or "1"


def type_text(value: Value) -> str:
    """`float32[64, 128]`"""
    return f"{value.dtype}{list(value.shape)}"


# The graph -----------------------------------------------------------------------------------------------------------


def graph_text(graph: Graph, outputs: Sequence[Value], names: Mapping[Value, str]) -> str:
    """One line for each value that counts; `names` says where inputs come from and outputs go."""
    lines = []
    for value in reachable([*outputs, *(holds for holds, _ in graph.checks)]):
        inputs = [f"%{x.number}" for x in value.inputs]
        params = [] if value.params is None or value.op in ("input", "constant") else [_params_text(value.params)]
        line = f"%{value.number} = {value.op}({', '.join(inputs + params)}): {type_text(value)}"
        lines.append(f"{line}  # {names[value]}" if value in names else line)
    lines += [f"check %{holds.number}: {message}" for holds, message in graph.checks]
    return "\n".join(lines)


def _params_text(params: object) -> str:
    return textwrap.shorten(str(params), 80, placeholder=" ...")


# Kernels -------------------------------------------------------------------------------------------------------------


def kernel_summary(kernel: Kernel) -> str:
    """What a kernel computes, in one line: `matmul + add + maximum -> 64 x 128`."""
    operations = ["matmul"] if isinstance(kernel, Gemm) else []
    for step in kernel.body:
        if step.op == "load" and step.inputs:
            operations.append("gather")
        elif step.op == "accumulate" or (step.op == "store" and len(step.inputs) > 1):
            operations.append("scatter")
        elif step.op not in _UNTOLD:
            operations.append(step.op)
    distinct = list(dict.fromkeys(operations)) or ["copy" if _reads(kernel) else "fill"]
    if len(distinct) > _MOST_OPERATIONS:
        distinct[_MOST_OPERATIONS:] = [f"{len(distinct) - _MOST_OPERATIONS} more"]
    grid = shape_text(_grid(kernel))
    if isinstance(kernel, Loop) and kernel.inner:
        grid = f"{shape_text(kernel.outer)} (over {shape_text(kernel.inner)})"
    return f"{' + '.join(distinct)} -> {grid}"


def _reads(kernel: Kernel) -> bool:
    return any(step.op == "load" for step in kernel.body)


def _grid(kernel: Kernel) -> tuple[int, ...]:
    if isinstance(kernel, Gemm):
        return (*kernel.batch, kernel.m, kernel.n)
    return kernel.outer + kernel.inner


def kernel_text(kernel: Kernel, calls: Sequence[Call], values: Mapping[int, Value], names: Mapping[Value, str]) -> str:
    """A kernel as loops over formulas.

    Args:
        kernel: what to write.
        calls: where it is called; the first decides the shapes that are shown.
        values: the value in each slot.
        names: where values come from and go to.
    """
    arguments = [values[slot] for slot in calls[0].slots]
    letters = _letters(len(arguments))
    lines = []
    for letter, value in zip(letters, arguments, strict=True):
        lines.append(f"{letter} = %{value.number} {type_text(value)}  {names.get(value, '')}".rstrip())
    for call in calls[1:4]:
        numbers = (
            f"{letter} = %{values[slot].number}{_further(offset // values[slot].dtype.itemsize)}"
            for letter, (slot, offset) in zip(letters, call.places(), strict=True)
        )
        lines.append(f"then {', '.join(numbers)}")
    if len(calls) > 4:
        lines.append(f"and {len(calls) - 4} more")
    offsets = [offset // values[slot].dtype.itemsize for slot, offset in calls[0].places()]
    return "\n".join([*lines, *_Writer(kernel, arguments, offsets, letters).lines()])


def _further(elements: int) -> str:
    return f" from element {elements} on" if elements else ""


def _letters(count: int) -> list[str]:
    """Names for arrays: A to Z, then A1 to Z1, and so on."""
    return [chr(ord("A") + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]


class _Writer:
    """Writes the body of one kernel."""

    def __init__(
        self, kernel: Kernel, arguments: Sequence[Value], offsets: Sequence[int], letters: Sequence[str]
    ) -> None:
        self.kernel = kernel
        self.arguments = arguments
        self.offsets = offsets
        self.letters = letters
        grid = _grid(kernel)
        self.indices = [_INDEX_NAMES[i] if i < len(_INDEX_NAMES) else f"i{i}" for i in range(len(grid))]
        self._grid = list(zip(self.indices, grid, strict=True))
        self.outer = len(kernel.outer) if isinstance(kernel, Loop) else len(grid)
        self.varies = self._varying()
        self.formulas: list[str] = []
        self.uses = Counter(i for step in kernel.body for i in step.inputs)

    def lines(self) -> Iterator[str]:
        """The loop's head, then a line for each name and each store."""
        grid = _grid(self.kernel)[: self.outer]
        depth = ""
        if self.outer:
            yield f"for {', '.join(self.indices[: self.outer])} in {shape_text(grid)}:"
            depth = "    "
        named = 0
        for number, step in enumerate(self.kernel.body):
            formula = self._formula(step)
            if step.op in ("store", "accumulate"):
                yield depth + self._inner_loop(step) + formula
                formula = ""
            elif self._deserves_a_name(number, step, formula):
                name = f"t{named}"
                named += 1
                if self.varies[number]:
                    name += f"[{', '.join(self.indices[self.outer :])}]"
                yield f"{depth}{name} = {_bare(formula)}"
                formula = name
            self.formulas.append(formula)

    def _deserves_a_name(self, number: int, step: Instruction, formula: str) -> bool:
        if step.op in ("load", "constant", "index") and not step.inputs:
            return False
        is_long = self.uses[number] > 1 or step.op.startswith("reduce_") or step.op == "product"
        return is_long or len(formula) > _LONGEST_FORMULA

    def _varying(self) -> list[bool]:
        """Which instructions have a value of their own at each point of the inner axes."""
        varies: list[bool] = []
        for step in self.kernel.body:
            own = step.access is not None and any(step.access.strides[self.outer :])
            if step.op == "index":
                own = step.value >= self.outer
            folds = step.op.startswith("reduce_")
            varies.append(own or (not folds and any(varies[i] for i in step.inputs)))
        return varies

    def _inner_loop(self, step: Instruction) -> str:
        assert step.access is not None
        if not any(step.access.strides[self.outer :]) and not any(self.varies[i] for i in step.inputs):
            return ""
        inner = _grid(self.kernel)[self.outer :]
        return f"for {', '.join(self.indices[self.outer :])} in {shape_text(inner)}: "

    def _formula(self, step: Instruction) -> str:
        operands = [self.formulas[i] for i in step.inputs]
        if step.op == "load":
            return self._element(step.access, self._grid, operands)
        if step.op in ("store", "accumulate"):
            sign = "=" if step.op == "store" else "+="
            return f"{self._element(step.access, self._grid, operands[1:])} {sign} {_bare(operands[0])}"
        if step.op == "constant":
            return str(step.value)
        if step.op == "index":
            return self.indices[step.value]
        if step.op == "product":
            return self._product()
        if step.op.startswith("reduce_"):
            over = ", ".join(self.indices[self.outer :])
            inner = shape_text(_grid(self.kernel)[self.outer :])
            return f"{step.op.removeprefix('reduce_')}({_bare(operands[0])} for {over} in {inner})"
        if step.op in _INFIX:
            return f"({operands[0]} {_INFIX[step.op]} {operands[1]})"
        if step.op in _PREFIX:
            return f"({_PREFIX[step.op]}{operands[0]})"
        function = str(step.dtype) if step.op == "astype" else step.op
        return f"{function}({', '.join(map(_bare, operands))})"

    def _product(self) -> str:
        kernel = self.kernel
        assert isinstance(kernel, Gemm)
        *batch, i, j = self._grid
        factors = (
            self._element(kernel.a, [*batch, i, ("k", kernel.k)]),
            self._element(kernel.b, [*batch, ("k", kernel.k), j]),
        )
        return f"sum({' * '.join(factors)} for k in {kernel.k})"

    def _element(self, access: Access | None, grid: Sequence[tuple[str, int]], further: Sequence[str] = ()) -> str:
        assert access is not None
        letter, value = self.letters[access.argument], self.arguments[access.argument]
        access = access._replace(offset=access.offset + self.offsets[access.argument])
        access, grid = _with_even_axes(access, grid)
        places = None if further else places_text(access, value.shape, grid)
        if places is None:
            terms = [_scaled(index, stride) for (index, _), stride in zip(grid, access.strides, strict=True) if stride]
            flat = " + ".join([*terms, *([str(access.offset)] if access.offset else []), *map(_bare, further)])
            return f"{letter}.flat[{flat or 0}]"
        return f"{letter}[{', '.join(places)}]" if value.shape else letter


def _with_even_axes(access: Access, grid: Sequence[tuple[str, int]]) -> tuple[Access, list[tuple[str, int]]]:
    """An access and its grid with each uneven axis as those it is made of, their indices digits of its own."""
    strides: list[int] = []
    found: list[tuple[str, int]] = []
    for (index, length), stride in zip(grid, access.strides, strict=True):
        inner = length
        for n, step in [(length, stride)] if isinstance(stride, int) else stride:
            inner //= n
            digit = index if inner == 1 else f"{index} // {inner}"
            found.append((digit if n * inner == length else f"{digit} % {n}", n))
            strides.append(step)
    return access._replace(strides=tuple(strides)), found


def _scaled(index: str, stride: int) -> str:
    if stride == 1:
        return index
    return f"{stride}*({index})" if " " in index else f"{stride}*{index}"


def _bare(formula: str) -> str:
    """Without the brackets around all of it."""
    if not (formula.startswith("(") and formula.endswith(")")):
        return formula
    depth = 0
    for place, letter in enumerate(formula):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place < len(formula) - 1:
            return formula
    return formula[1:-1]


def places_text(access: Access, shape: Sequence[int], grid: Sequence[tuple[str, int]]) -> list[str] | None:
    """The index along each axis of an array in C order.

    Args:
        access: which element of it.
        shape: of the array.
        grid: name and length of each axis of the grid.

    Returns:
        Formulas in the names of the grid; None where an axis of the grid runs over several axes of the array.
    """
    if access.offset < 0 or any(stride < 0 for stride in access.strides):
        return None
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    terms: list[list[str]] = [[] for _ in shape]
    last = [0] * len(shape)
    for (index, length), stride in zip(grid, access.strides, strict=True):
        if stride and length > 1:
            axis = next(axis for axis, step in enumerate([*steps, 1]) if stride >= step)
            if axis == len(shape) or stride % steps[axis]:
                return None
            terms[axis].append(_scaled(index, stride // steps[axis]))
            last[axis] += stride // steps[axis] * (length - 1)
    offset = access.offset
    for axis, step in enumerate(steps):
        start, offset = divmod(offset, step) if step else (0, offset)
        if start or not terms[axis]:
            terms[axis].append(str(start))
        if last[axis] + start >= shape[axis]:
            return None
    return [" + ".join(added) for added in terms]


def kernels_text(
    calls: Iterable[Call], values: Mapping[int, Value], names: Mapping[Value, str]
) -> Iterator[tuple[str, str]]:
    """For each different kernel, in the order of first calls: a heading and the kernel."""
    by_kernel: dict[int, list[Call]] = {}
    for call in calls:
        by_kernel.setdefault(id(call.kernel), []).append(call)
    for number, found in enumerate(by_kernel.values()):
        kernel = found[0].kernel
        times = "once" if len(found) == 1 else f"{len(found)} times"
        yield f"kernel {number}, called {times}: {kernel_summary(kernel)}", kernel_text(kernel, found, values, names)
