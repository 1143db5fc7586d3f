"""LLVM code, written down as text while it is made.

    module = Module("name")
    function = Function(module, FunctionType(INT, [INT]), "twice")
    builder = IRBuilder(function.append_basic_block())
    builder.ret(builder.add(function.args[0], function.args[0]))
    str(module)

The names are those of `llvmlite.ir`, which keeps a graph of objects to be altered and printed later. Here an
instruction is a line of text from the start, which takes a third of the time. What is wrong is told by LLVM when it
reads the text. Only what this package generates is known here.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

# Types ---------------------------------------------------------------------------------------------------------------


class Type:
    """A type of LLVM: equal ones are one object.

    Attributes:
        text: as it is written.
        intrinsic_name: as the names of intrinsics have it.
        null: its zero, as it is written.
    """

    intrinsic_name = ""
    null = "zeroinitializer"
    _made: ClassVar[dict[tuple[Any, ...], Any]] = {}

    def __new__(cls, *parts: Any) -> Any:
        made = Type._made.get((cls, *parts))
        if made is None:
            made = Type._made[(cls, *parts)] = super().__new__(cls)
            made._set(*parts)
        return made

    def _set(self, *parts: Any) -> None:
        self.text = ""

    def literal(self, value: Any) -> str:
        """A Python number, or several, as a constant of this type."""
        raise TypeError(f"there are no constants of type {self}")

    def __str__(self) -> str:
        return self.text


class VoidType(Type):
    """No value."""

    def _set(self) -> None:
        self.text = "void"


class PointerType(Type):
    """An address."""

    null = "null"
    intrinsic_name = "p0"

    def _set(self) -> None:
        self.text = "ptr"


class IntType(Type):
    """An integer of so many bits; of one, a truth value."""

    null = "0"

    def _set(self, width: int) -> None:
        self.width = width
        self.text = self.intrinsic_name = f"i{width}"

    def literal(self, value: Any) -> str:
        return str(int(value))


class _Floating(Type):
    null = "0.0"

    def literal(self, value: Any) -> str:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"


class DoubleType(_Floating):
    """A number of 64 bits."""

    intrinsic_name = "f64"

    def _set(self) -> None:
        self.text = "double"


class FloatType(_Floating):
    """A number of 32 bits."""

    intrinsic_name = "f32"

    def _set(self) -> None:
        self.text = "float"

    def literal(self, value: Any) -> str:
        return super().literal(ctypes.c_float(value).value)


class _Several(Type):
    brackets = ("[", "]")

    def _set(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        opening, closing = self.brackets
        self.text = f"{opening}{count} x {element}{closing}"

    def literal(self, value: Any) -> str:
        opening, closing = self.brackets
        return f"{opening}{', '.join([f'{self.element} {self.element.literal(each)}' for each in value])}{closing}"


class ArrayType(_Several):
    """Elements side by side in memory."""


class VectorType(_Several):
    """Lanes of a register."""

    brackets = ("<", ">")

    def literal(self, value: Any) -> str:
        return _lanes(self, tuple(value)) if isinstance(value, (list, tuple)) else _splat(self.element, value)


@functools.lru_cache(maxsize=1024)  # the orders in which vectors are put together come again and again
def _lanes(kind: VectorType, values: tuple[Any, ...]) -> str:
    return _Several.literal(kind, values)


def _splat(element: Any, value: Any) -> str:
    return f"splat ({element} {element.literal(value)})"


class FunctionType(Type):
    """The result of a function and what it takes."""

    def __new__(cls, result: Type, arguments: Sequence[Type]) -> Any:
        return super().__new__(cls, result, tuple(arguments))

    def _set(self, result: Type, arguments: tuple[Type, ...]) -> None:
        self.result, self.arguments = result, arguments
        self.text = f"{result} ({', '.join(map(str, arguments))})"


_VOID, _POINTER, _BIT, _INT32 = VoidType(), PointerType(), IntType(1), IntType(32)

# Values --------------------------------------------------------------------------------------------------------------


class Value:
    """What an instruction may take.

    Attributes:
        type: its type.
        text: how an instruction names it.
    """

    __slots__ = ("text", "type")

    def __init__(self, kind: Any, text: str) -> None:
        self.type = kind
        self.text = text

    def __str__(self) -> str:
        return f"{self.type.text} {self.text}"


class Constant(Value):
    """A number, or several for the lanes of a vector or the elements of an array; None is zero.

    Attributes:
        constant: as given.
    """

    __slots__ = ("constant",)

    def __init__(self, kind: Any, constant: Any) -> None:
        self.type = kind
        self.text = kind.null if constant is None else kind.literal(constant)
        self.constant = 0 if constant is None else constant


class _Argument(Value):
    """What a function is given."""

    __slots__ = ("attributes",)

    def __init__(self, kind: Any, text: str) -> None:
        super().__init__(kind, text)
        self.attributes: list[str] = []

    def add_attribute(self, attribute: str) -> None:
        """Such as "noalias"."""
        self.attributes.append(attribute)


class Phi(Value):
    """Its value is that of the block that control came from."""

    __slots__ = ("incoming",)

    def __init__(self, kind: Any, text: str) -> None:
        super().__init__(kind, text)
        self.incoming: list[str] = []

    def add_incoming(self, value: Value, block: Block) -> None:
        """It is `value` where control comes from the end of `block`."""
        self.incoming.append(f"[ {value.text}, {block.text} ]")

    @property
    def line(self) -> str:
        """The instruction."""
        return f"{self.text} = phi {self.type.text} {', '.join(self.incoming)}"


class Block:
    """Instructions without a jump among them.

    Attributes:
        function: the one it belongs to.
        lines: its instructions.
        is_ended: whether the last of them leaves it.
    """

    __slots__ = ("function", "is_ended", "lines", "text")

    def __init__(self, function: Function, name: str) -> None:
        self.function = function
        self.text = name
        self.lines: list[str | Phi] = []
        self.is_ended = False

    def __str__(self) -> str:
        lines = [line if isinstance(line, str) else line.line for line in self.lines]
        return "\n".join([f"{self.text[1:]}:", *lines, ""])


class Function(Value):
    """A function of a module; without blocks, one that is somewhere else.

    Attributes:
        module, name: as given.
        args: its arguments.
        linkage: "" or "internal".
        attributes: such as "noinline".
        blocks: in order; the first is where it begins.
    """

    __slots__ = ("_names", "args", "attributes", "blocks", "kind", "linkage", "module", "name")

    def __init__(self, module: Module, kind: FunctionType, name: str) -> None:
        super().__init__(_POINTER, f"@{name}")
        self.module, self.kind, self.name = module, kind, name
        self._names = len(kind.arguments)
        self.args = tuple([_Argument(each, f"%v{number}") for number, each in enumerate(kind.arguments)])
        self.linkage = ""
        self.attributes: set[str] = set()
        self.blocks: list[Block] = []
        module.globals[name] = self

    def append_basic_block(self, name: str = "") -> Block:
        """A new block, the last so far."""
        block = Block(self, f"{self.new_name()}.{name}")
        self.blocks.append(block)
        return block

    def new_name(self) -> str:
        """A name that nothing in this function has."""
        number = self._names
        self._names = number + 1
        return f"%v{number}"

    def __str__(self) -> str:
        return self.text

    @property
    def definition(self) -> str:
        """All of it."""
        given = [" ".join([str(each.type), *each.attributes, each.text]) for each in self.args]
        head = f"{self.linkage} {self.kind.result} {self.text}({', '.join(given)}) {' '.join(sorted(self.attributes))}"
        if not self.blocks:
            return f"declare {head}\n"
        return f"define {head} {{\n{''.join(map(str, self.blocks))}}}\n"


class GlobalVariable(Value):
    """A variable of a module.

    Attributes:
        initializer: what it begins with.
        linkage: "" or "internal".
        global_constant: whether it stays so.
    """

    __slots__ = ("global_constant", "initializer", "kind", "linkage")

    def __init__(self, module: Module, kind: Any, name: str) -> None:
        super().__init__(_POINTER, f"@{name}")
        self.kind = kind
        self.initializer = Constant(kind, None)
        self.linkage = ""
        self.global_constant = False
        module.globals[name] = self

    @property
    def definition(self) -> str:
        """All of it."""
        return f"{self.text} = {self.linkage} {'constant' if self.global_constant else 'global'} {self.initializer}\n"


class Module:
    """Functions and variables that are compiled together.

    Attributes:
        globals: all of them, by name.
        likely: how often branches are taken, by what they are referred to with.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.globals: dict[str, Any] = {}
        self.likely: dict[tuple[int, int], str] = {}

    @property
    def functions(self) -> list[Function]:
        """Its functions."""
        return [each for each in self.globals.values() if isinstance(each, Function)]

    @property
    def length(self) -> int:
        """How many instructions it has."""
        return sum([len(block.lines) for function in self.functions for block in function.blocks])

    def __str__(self) -> str:
        weights = [
            f'{mark} = !{{ !"branch_weights", i32 {yes}, i32 {no} }}\n' for (yes, no), mark in self.likely.items()
        ]
        return "".join([f"; {self.name}\n", *[each.definition for each in self.globals.values()], *weights])


# Instructions --------------------------------------------------------------------------------------------------------

_COMPARISONS = {">": "gt", "<": "lt", "==": "eq", "!=": "ne", ">=": "ge", "<=": "le"}


def _binary(name: str) -> Callable[..., Value]:
    def method(self: IRBuilder, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        told = f"{name} {' '.join(flags)}" if flags else name
        return self._result(x.type, f"{told} {x.type.text} {x.text}, {y.text}")

    return method


def _compare(name: str, prefix: str) -> Callable[..., Value]:
    def method(self: IRBuilder, operator: str, x: Value, y: Value) -> Value:
        kind = x.type
        suffix = _COMPARISONS.get(operator, operator)
        told = suffix if suffix == operator or (name == "icmp" and suffix in ("eq", "ne")) else prefix + suffix
        result = VectorType(_BIT, kind.count) if isinstance(kind, VectorType) else _BIT
        return self._result(result, f"{name} {told} {kind.text} {x.text}, {y.text}")

    return method


def _cast(name: str) -> Callable[..., Value]:
    def method(self: IRBuilder, x: Value, kind: Type) -> Value:
        return x if x.type is kind else self._result(kind, f"{name} {x} to {kind.text}")

    return method


class IRBuilder:
    """Writes instructions.

    Attributes:
        block: the block they are added to.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self._place: int | None = None  # the end

    @property
    def function(self) -> Function:
        """The function that is written."""
        return self.block.function

    @property
    def module(self) -> Any:
        """The module it belongs to."""
        return self.block.function.module

    # Where ---------------------------------------------------------------------------------------------------------

    def append_basic_block(self, name: str = "") -> Block:
        """A new block of the function; this one goes on."""
        return self.block.function.append_basic_block(name)

    def position_at_end(self, block: Block) -> None:
        """Go on at the end of a block."""
        self.block, self._place = block, None

    def position_at_start(self, block: Block) -> None:
        """Go on at the start of a block."""
        self.block, self._place = block, 0

    @contextmanager
    def goto_entry_block(self) -> Iterator[None]:
        """Inside, write at the end of the block that the function begins with."""
        before, entry = self.block, self.block.function.blocks[0]
        self.block, self._place = entry, len(entry.lines) - 1 if entry.is_ended else None
        yield
        self.position_at_end(before)

    @contextmanager
    def if_then(self, condition: Value, likely: bool | None = None) -> Iterator[None]:
        """Inside is what is done where the condition holds."""
        then, after = self.append_basic_block("then"), self.append_basic_block("after")
        self.cbranch(condition, then, after, likely)
        with self._branch(then, after):
            yield
        self.position_at_end(after)

    @contextmanager
    def if_else(self, condition: Value) -> Iterator[tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
        """Two contexts, for what is done where the condition holds and where not."""
        then, otherwise, after = (self.append_basic_block(name) for name in ("then", "else", "after"))
        self.cbranch(condition, then, otherwise)
        yield self._branch(then, after), self._branch(otherwise, after)
        self.position_at_end(after)

    @contextmanager
    def _branch(self, block: Block, after: Block) -> Iterator[None]:
        self.position_at_end(block)
        yield
        if not self.block.is_ended:
            self.branch(after)

    def _write(self, line: str | Phi) -> None:
        if self._place is None:
            self.block.lines.append(line)
        else:
            self.block.lines.insert(self._place, line)
            self._place += 1

    def _result(self, kind: Any, text: str) -> Value:
        name = self.block.function.new_name()
        self._write(f"{name} = {text}")
        return Value(kind, name)

    def _end(self, line: str) -> None:
        self._write(line)
        self.block.is_ended = True

    # Jumps ---------------------------------------------------------------------------------------------------------

    def branch(self, block: Block) -> None:
        """Go on in a block."""
        self._end(f"br label {block.text}")

    def cbranch(self, condition: Value, then: Block, otherwise: Block, likely: bool | None = None) -> None:
        """Go on in one of two blocks."""
        mark = ""
        if likely is not None:
            marks = self.module.likely
            mark = f", !prof {marks.setdefault((99, 1) if likely else (1, 99), f'!{len(marks)}')}"
        self._end(f"br i1 {condition.text}, label {then.text}, label {otherwise.text}{mark}")

    def ret(self, value: Value) -> None:
        """Return a value."""
        self._end(f"ret {value}")

    def ret_void(self) -> None:
        """Return nothing."""
        self._end("ret void")

    def phi(self, kind: Type) -> Phi:
        """A value that depends on where control came from; tell it with `add_incoming`."""
        phi = Phi(kind, self.block.function.new_name())
        self._write(phi)
        return phi

    def call(self, function: Function, arguments: Sequence[Value], tail: bool = False) -> Value:
        """The result of a function."""
        result = function.kind.result
        given = ", ".join([f"{x.type.text} {x.text}" for x in arguments])
        text = f"{'tail ' if tail else ''}call {result.text} {function.text}({given})"
        if result is _VOID:
            self._write(text)
            return Value(_VOID, "")
        return self._result(result, text)

    # Memory --------------------------------------------------------------------------------------------------------

    def alloca(self, kind: Type, size: int = 1, align: int = 0) -> Value:
        """The address of memory on the stack."""
        return self._result(_POINTER, f"alloca {kind}, i32 {size}{f', align {align}' if align else ''}")

    def load(self, address: Value, typ: Type, align: int = 0, volatile: bool = False) -> Value:
        """What is in memory."""
        name = "load volatile" if volatile else "load"
        return self._result(typ, f"{name} {typ.text}, ptr {address.text}{f', align {align}' if align else ''}")

    def store(self, value: Value, address: Value, align: int = 0, volatile: bool = False) -> None:
        """Write to memory."""
        name = "store volatile" if volatile else "store"
        self._write(f"{name} {value}, ptr {address.text}{f', align {align}' if align else ''}")

    def gep(self, address: Value, indices: Sequence[Value], source_etype: Type) -> Value:
        """The address so many elements further; for a vector of indices, a vector of addresses."""
        (index,) = indices
        kind = VectorType(_POINTER, index.type.count) if isinstance(index.type, VectorType) else _POINTER
        return self._result(kind, f"getelementptr {source_etype.text}, {address}, {index}")

    # Arithmetic ----------------------------------------------------------------------------------------------------

    add, sub, mul = _binary("add"), _binary("sub"), _binary("mul")
    udiv, sdiv, urem = _binary("udiv"), _binary("sdiv"), _binary("urem")
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")
    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    fadd, fsub, fmul, fdiv, frem = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv", "frem"))

    icmp_signed, icmp_unsigned = _compare("icmp", "s"), _compare("icmp", "u")
    fcmp_ordered, fcmp_unordered = _compare("fcmp", "o"), _compare("fcmp", "u")

    trunc, zext, sext, bitcast = (_cast(name) for name in ("trunc", "zext", "sext", "bitcast"))
    fptrunc, fpext, fptosi, fptoui = (_cast(name) for name in ("fptrunc", "fpext", "fptosi", "fptoui"))
    sitofp, uitofp = _cast("sitofp"), _cast("uitofp")

    def fneg(self, x: Value) -> Value:
        """-x, the sign bit turned."""
        return self._result(x.type, f"fneg {x}")

    def neg(self, x: Value) -> Value:
        """-x of integers."""
        return self.sub(Constant(x.type, None), x)

    def not_(self, x: Value) -> Value:
        """Every bit turned."""
        return self.xor(x, Constant(x.type, -1))

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """x where the condition holds, else y."""
        return self._result(x.type, f"select {condition}, {x}, {y}")

    def extract_element(self, vector: Value, lane: Value) -> Value:
        """One lane."""
        return self._result(vector.type.element, f"extractelement {vector}, {lane}")

    def insert_element(self, vector: Value, value: Value, lane: Value) -> Value:
        """The vector with another value in one lane."""
        return self._result(vector.type, f"insertelement {vector}, {value}, {lane}")

    def shuffle_vector(self, x: Value, y: Value, lanes: Value) -> Value:
        """The lanes of two vectors, x's first, that the constants `lanes` count."""
        kind = VectorType(x.type.element, lanes.type.count)
        return self._result(kind, f"shufflevector {x}, {y}, {lanes}")
