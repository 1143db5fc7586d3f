"""`compile`: a function of arrays as one program.

    @cr.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

The first call with arguments of new shapes runs as ever and is recorded (`recording`); the recorded graph is
simplified, fused, planned and turned into machine code (`variant`). What is large is recorded without computing
anything: then the program runs in the first call already. This file decides, call by call, which program to run, or
whether to record another.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial, update_wrapper
from types import MethodType
from typing import Any

import optree

from chainrule.compile.bindings import Misfit
from chainrule.compile.errors import Unsupported
from chainrule.compile.recording import NeedsValues, record
from chainrule.compile.report import Report, report_of, show
from chainrule.compile.shortcut import Shortcut
from chainrule.compile.variant import Variant, failed
from chainrule.core import state
from chainrule.core.tensor import Tensor

#: Recording replaces what others may look at, for a moment.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def _garbage_left() -> Iterator[None]:
    """Without the search for garbage in cycles: recording and planning make many objects at once, and keep them."""
    was_searched_for = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_searched_for:
            gc.enable()


class Compiled:
    """A function that is recorded at its first call and run as machine code afterwards. See `compile`."""

    def __init__(self, function: Callable, strict: bool, limit: int, threads: int | None) -> None:
        update_wrapper(self, function)
        self.function = function
        self.strict = strict
        self.limit = limit
        self.threads = threads
        self.variants: list[Variant] = []
        self._latest: Variant | None = None
        self._shortcut: Shortcut | None = None
        self._gave_up: str | None = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        own = vars(instance)  # it lives and dies with its object
        key = f"_compiled_{self.function.__name__}"
        if key not in own:
            own[key] = Compiled(MethodType(self.function, instance), self.strict, self.limit, self.threads)
        return own[key]

    def report(self, measure: bool = False) -> Report:
        """What was compiled and what it costs, as numbers; printed, as tables.

        Args:
            measure: also run the programs and each of their kernels, on memory made for that, and tell their times.

        Raises:
            RuntimeError: the function was not called yet, or could not be compiled.
        """
        return report_of(self._name, self.variants, self._gave_up, measure)

    def show(self, stage: str) -> str:
        """A stage of the programs as text.

        Args:
            stage: "graph" (the simplified graph), "fused" (the kernels as formulas), "llvm" or "asm".

        Raises:
            ValueError: there is no such stage.
            RuntimeError: the function was not called yet, or could not be compiled.
        """
        return show(self._name, self.variants, self._gave_up, stage)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def __trace_parts__(self) -> Iterator[tuple[str, Any, Any]]:
        """What a compiled function depends on that calls this one."""
        yield "function", self.__dict__, "function"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, computed by the program for arguments like these."""
        if _watchers and self._gave_up is None and not _is_inside():
            for watch in _watchers:
                watch(partial(self.function, *args, **kwargs))
        if self._shortcut is not None and not kwargs and not _is_inside():
            result = self._shortcut(args)
            if result is not None:
                return result
        if (
            self._gave_up is not None
            or _is_inside()
            or any(isinstance(x, Tensor) and x._node is not None for x in args)
        ):
            return self.function(*args, **kwargs)
        latest = self._latest
        try:
            if latest is not None and not kwargs and latest.accepts(args) and latest.fits():
                return self._run(latest, args, args, kwargs)
        except Misfit:
            pass
        call: Any = (args, kwargs)
        leaves, treedef = optree.tree_flatten(call, none_is_leaf=True)
        for variant in self.variants:
            if variant.accepts(leaves, treedef) and (variant.fits() or variant.fits_closely(self.function)):
                try:
                    result = self._run(variant, leaves, args, kwargs)
                except Misfit:
                    continue
                self._latest = variant if variant.is_flat else None
                return result
        with _one_at_a_time, _garbage_left():
            return self._record(leaves, treedef, args, kwargs)

    def _run(self, variant: Variant, leaves: Sequence[Any], args: tuple, kwargs: dict) -> Any:
        with variant.lock:
            result = variant.run(leaves)
            self._shortcut = variant.shortcut()
        return self.function(*args, **kwargs) if result is failed else result

    def _record(self, leaves: list, treedef: Any, args: tuple, kwargs: dict) -> Any:
        if len(self.variants) >= self.limit:
            self._give_up(
                f"it was compiled for {self.limit} different sets of shapes or values already; the next calls run "
                "uncompiled. Pad arrays to a few shapes, or raise cr.compile(limit=...)"
            )
            return self.function(*args, **kwargs)
        try:
            try:
                return self._record_once(leaves, treedef, args, kwargs)
            except (NeedsValues, Misfit):
                return self._record_once(leaves, treedef, args, kwargs, with_values=True)
        except Unsupported as error:
            self._give_up(str(error))
            return self.function(*args, **kwargs)

    def _record_once(self, leaves: list, treedef: Any, args: tuple, kwargs: dict, with_values: bool = False) -> Any:
        recording = record(self.function, leaves, treedef, with_values)
        is_flat = not kwargs and len(leaves) == len(args) and all(x is y for x, y in zip(leaves, args, strict=True))
        variant = Variant(recording, leaves, treedef, is_flat, self.threads)
        result = recording.result
        if not recording.trace.has_values:
            del recording  # it holds arrays that are to be written to
            result = variant.run(leaves)
            if result is failed:
                return self.function(*args, **kwargs)
        self.variants.append(variant)
        self._latest = variant if is_flat else None
        return result

    def _give_up(self, reason: str) -> None:
        name = getattr(self.function, "__qualname__", repr(self.function))
        if self.strict:
            raise Unsupported(f"{name} cannot be compiled: {reason}")
        self._gave_up, self._shortcut = reason, None
        warnings.warn(f"cr.compile: {name} runs uncompiled: {reason}", RuntimeWarning, stacklevel=4)


_watchers = state.compiled_watchers
_tracer, _level, _anomaly = state.tracer.get, state.current_level.get, state.anomaly_detection.get


def _is_inside() -> bool:
    """Whether a call belongs to another recording or to a transform, or anomalies are looked for."""
    return _tracer() is not None or _level() != 0 or _anomaly()
