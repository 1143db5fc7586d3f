"""What cuts a gradient's path in a forward, noted as it is undone: `detach`, `no_grad`, and conversions to NumPy.

A value that leaves the tensors and comes back is known by its numbers: where a new constant has all of those that a
tensor was converted to, nothing happened in between, and it is that tensor.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from sys import modules
from types import ModuleType
from typing import Any

import numpy as np

from chainrule.core.anomaly import users_frame

DETACH, NO_GRAD, CONVERSION = "detach()", "no_grad", "a conversion to NumPy and back"


@dataclass
class Cuts:
    """The cuts of one forward.

    Attributes:
        places: what cut the path, and the file and the line of the call.
        left: the numbers of each tensor that was converted, and the tensor; of the forward that runs.
    """

    places: dict[tuple[str, str, int], None] = field(default_factory=dict)
    left: list[tuple[np.ndarray, Any]] = field(default_factory=list)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Around a forward, after which its values are forgotten."""
        try:
            yield
        finally:
            self.left.clear()

    def note(self, what: str) -> None:
        """Something cut the path on the line that runs."""
        frame = users_frame()
        self.places[what, frame.f_code.co_filename, frame.f_lineno] = None

    def leave(self, array: Any, origin: Any) -> Any:
        """The array that a tensor was converted to; it is remembered, unless all its numbers are alike."""
        values = np.array(array)  # what is done to the array later is not done to these
        if values.size > 1 and (values != values.flat[0]).any():
            self.left.append((values, origin))
        return array

    def origin_of(self, array: np.ndarray) -> Any:
        """The tensor that has the numbers of an array, in any shape; None where none of those that left has them."""
        for values, origin in reversed(self.left):
            same = values.size == array.size and np.array_equal(values.ravel().astype(array.dtype), array.ravel())
            if same:
                self.note(CONVERSION)
                return origin
        return None

    # Telling -----------------------------------------------------------------------------------------------------

    @property
    def words(self) -> str:
        """What cut the path, and where: "detach() (net.py:12)"."""
        kinds = [kind for kind in (DETACH, NO_GRAD, CONVERSION) if any(what == kind for what, _, _ in self.places)]
        lines = dict.fromkeys(f"{Path(file).name}:{line}" for _, file, line in self.places)
        return f"{' and '.join(kinds)} ({', '.join(lines)})"

    @property
    def statements(self) -> Iterator[str]:
        """Comments that say which lines to change, and into what."""
        for file, line in dict.fromkeys((file, line) for _, file, line in self.places):
            old = linecache.getline(file, line).strip()
            kinds = " and ".join(what for what, *place in self.places if place == [file, line])
            yield f"# {Path(file).name}:{line}:  without {kinds}"
            new = rewritten(old)
            if old:
                yield f"#   - {old}"
            if new:
                yield f"#   + {new}"


class _Rewriter(ast.NodeTransformer):
    """Expressions without what takes values out of the graph and brings them back."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if method and name in _OUT and not node.args:
            return node.func.value  # type: ignore[attr-defined]
        return node.args[0] if name in _BACK and len(node.args) == 1 else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        return node.value if node.attr == "data" else node


_OUT = frozenset({"detach", "numpy", "tolist"})
_BACK = frozenset({"array", "asarray", "as_tensor", "detach", "from_numpy", "tensor"})


def rewritten(line: str) -> str:
    """A line of code without `detach()` and conversions to NumPy and back; empty where that is more than one line."""
    try:
        tree = ast.parse(line)
    except SyntaxError:  # a part of a statement, or the head of a block
        return ""
    new = ast.unparse(_Rewriter().visit(tree))
    return "" if new == ast.unparse(ast.parse(line)) else new


# Functions that user code calls by a name of its own ------------------------------------------------------------------


@contextmanager
def exchanged(functions: Mapping[Callable, Callable]) -> Iterator[None]:
    """Inside, wherever a module has one of these functions under a name, it has the other one."""
    homes = _homes(tuple(functions), len(modules))
    for module, name, function in homes:
        setattr(module, name, functions[function])
    try:
        yield
    finally:
        for module, name, function in homes:
            setattr(module, name, function)


@lru_cache(maxsize=4)
def _homes(functions: tuple[Callable, ...], _: int) -> list[tuple[ModuleType, str, Callable]]:
    """Modules that have one of these functions, and its name there, but for the insides of this package."""
    known = {id(function): function for function in functions}
    return [
        (module, name, known[id(value)])
        for key, module in [*modules.items()]
        if isinstance(module, ModuleType) and (key in _OPEN or not key.startswith("chainrule."))
        for name, value in [*vars(module).items()]
        if id(value) in known
    ]


_OPEN = frozenset({"chainrule.numpy"})
