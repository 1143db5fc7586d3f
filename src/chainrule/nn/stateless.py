"""`functional_call`: run a module with other parameters than its own, so that transforms can differentiate by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chainrule.core.state import side_states
from chainrule.core.tensor import Tensor, tensor
from chainrule.nn.module import Module


def functional_call(module: Module, parameters_and_buffers: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """`module(*args, **kwargs)` with some of its parameters or buffers replaced while it runs.

        def loss(parameters):
            return nn.functional.cross_entropy(nn.functional_call(model, parameters, x), target)

        gradients = cr.grad(loss)(dict(model.named_parameters()))

    A parameter that the module has under several paths is replaced where it is named, and only there.

    Args:
        module: what to run.
        parameters_and_buffers: tensors or arrays by path; those left out stay the module's own.
        args, kwargs: inputs of the module.

    Raises:
        KeyError: a path is not one of the module's parameters or buffers.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    places = []
    for path, value in parameters_and_buffers.items():
        owner, _, name = path.rpartition(".")
        attributes = vars(modules[owner]) if owner in modules else {}
        if not hasattr(attributes.get(name), "shape"):
            raise KeyError(f"functional_call: {type(module).__name__} has no parameter or buffer {path!r}")
        places.append((attributes, name, value if isinstance(value, Tensor) else tensor(value)))
    outside = _replaced()
    try:
        _replace((*outside, *places))
        return module(*args, **kwargs)
    finally:
        _replace(outside)


#: What is replaced now: (attributes, name, its own value, the value it has instead).
_now: list[tuple[dict, str, Any, Any]] = []


def _replaced() -> tuple[tuple[dict, str, Any], ...]:
    return tuple((attributes, name, value) for attributes, name, _, value in _now)


def _replace(places: Sequence[tuple[dict, str, Any]]) -> None:
    """Let modules have these values in place of their own, and only these."""
    while _now:
        attributes, name, own, _ = _now.pop()
        attributes[name] = own
    for attributes, name, value in places:
        _now.append((attributes, name, attributes[name], value))
        attributes[name] = value


side_states.append((_replaced, _replace))  # a checkpoint runs modules again with the values they had
