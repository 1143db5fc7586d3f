"""What remedies need of chainrule: its modules, its optimisers, and how values get into parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn, numpy, optim
from chainrule.core import state
from chainrule.core.gated import Gated
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor, tensor
from chainrule.doctor.remedies import operations
from chainrule.doctor.remedies.cuts import CONVERSION, DETACH, NO_GRAD, Cuts, exchanged
from chainrule.doctor.remedies.parts import make_parts
from chainrule.doctor.remedies.tools import Tools
from chainrule.doctor.subjects import Subject
from chainrule.ops import elementwise

PARTS = make_parts(nn, tensor, numpy.concat, numpy.where, __name__)
Residual, Normalized, Standardize = PARTS.Residual, PARTS.Normalized, PARTS.Standardize
Whiten, Logarithm, TruncatedTime = PARTS.Whiten, PARTS.Logarithm, PARTS.TruncatedTime
Tapped, Bridged = PARTS.Tapped, PARTS.Bridged


class Recorded(nn.Module):
    """inner(...), in which detach(), no_grad and conversions to NumPy and back are of no effect."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.cuts = Cuts()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not state.is_grad_enabled():
            return self.inner(*inputs, **options)
        with self.cuts.noted(), ExitStack() as exchanges:
            for owner, name, method in _without_cuts(self.cuts):
                exchanges.enter_context(_exchanged(owner, name, method))
            making = {make: partial(_returned, self.cuts, make) for make in _MAKING}
            exchanges.enter_context(exchanged(making))
            return self.inner(*inputs, **options)


def _without_cuts(cuts: Cuts) -> list[tuple[type, str, Callable]]:
    """Classes, names of methods that cut the path, and others that note it instead."""

    def kept(x: Tensor) -> Tensor:
        cuts.note(DETACH)
        return x

    def converted(x: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = _array(_detach(x), dtype, copy)
        return cuts.leave(array, x) if x.requires_grad else array

    def listed(x: Tensor) -> Any:
        converted(x)
        return _tolist(x)

    def stay_recording(recording: Any) -> None:
        """Enter neither `no_grad` nor `enable_grad`: what is recorded around them goes on being recorded."""
        cuts.note(NO_GRAD)
        recording._tokens.append(state.recording_floor.set(state.recording_floor.get()))

    return [
        (Tensor, "detach", kept),
        (Tensor, "numpy", lambda x: x),  # NumPy's functions take tensors, and so the gradient passes through them
        (Tensor, "__array__", converted),
        (Tensor, "tolist", listed),
        (Tensor, "_refuse_if_recorded", lambda x, what: None),
        (state._Recording, "__enter__", stay_recording),
    ]


def _returned(cuts: Cuts, make: Callable, data: Any, *arguments: Any, **options: Any) -> Tensor:
    """A new tensor, or the one that its numbers came from."""
    made = make(data, *arguments, **options)
    if made.requires_grad:
        return made
    origin = data if isinstance(data, Tensor) and data.requires_grad else cuts.origin_of(_array(made))
    if origin is None:
        return made
    if origin is data:
        cuts.note(CONVERSION)
    return origin.reshape(made.shape).astype(made.dtype)


_reshape: Callable[..., Tensor] = vars(Tensor)["reshape"]
_detach, _array, _tolist = Tensor.detach, Tensor.__array__, Tensor.tolist
_MAKING: tuple[Callable, ...] = (tensor, numpy.asarray, numpy.array)


@contextmanager
def _exchanged(owner: type, name: str, method: Callable) -> Iterator[None]:
    """Inside, a method of a class is another one."""
    usual = getattr(owner, name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, usual)


class Altered(nn.Module):
    """inner(...), in which a rule decides what operations are given: see `operations`."""

    def __init__(self, inner: nn.Module, rule: operations.Rule) -> None:
        super().__init__()
        self.inner = inner
        self.rule = rule

    def forward(self, *inputs: Any, **options: Any) -> Any:
        usual = Primitive.__call__

        def altered(primitive: Primitive, *args: Any, **kwargs: Any) -> Any:
            with _exchanged(Primitive, "__call__", usual):
                given = self.rule(primitive.name, args, numpy.where, numpy.abs)
                return args[0] if given is None else usual(primitive, *given, **kwargs)

        def reshaped(x: Tensor, *shape: Any, **options: Any) -> Tensor:
            given = self.rule("reshape", (x, *shape), numpy.where, numpy.abs)
            return x if given is None else _reshape(*given, **options)

        self.rule.begin()
        with ExitStack() as exchanged:
            exchanged.enter_context(_exchanged(Primitive, "__call__", altered))
            exchanged.enter_context(_exchanged(Gated, "__call__", lambda *_: None))  # one by one, then
            for name, method in (*_OPERATORS.items(), ("reshape", reshaped)):
                exchanged.enter_context(_exchanged(Tensor, name, method))
            return self.inner(*inputs, **options)


_OPERATORS: dict[str, Callable] = {
    "__truediv__": lambda a, b: elementwise.divide(a, b),
    "__rtruediv__": lambda a, b: elementwise.divide(b, a),
    "__pow__": lambda a, b: elementwise.power(a, b),
}
"""Operators that rules alter, by way of `Primitive.__call__`; the usual ones have bound it when they were made."""


class OwnTools(Tools):
    """Chainrule's."""

    nn = nn
    optim = optim
    parts = PARTS
    imports = (
        "import numpy as np",
        "from chainrule import nn, optim, tensor",
        "from chainrule.numpy import concat, where",
    )
    clip = "optim.clip_grad_norm_"

    def fit(self, module: Any, subject: Subject) -> Any:
        like = next(iter(subject.model.parameters()))
        return module.to(like.dtype).train(subject.model.training)

    def fill(self, parameter: Any, values: np.ndarray) -> None:
        parameter.data = values

    def recorded(self, module: Any) -> Any:
        return Recorded(module)

    def altered(self, module: Any, rule: operations.Rule) -> Any:
        return Altered(module, rule)
