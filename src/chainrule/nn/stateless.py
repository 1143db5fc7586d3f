"""`functional_call`: run a module with other parameters than its own, so that transforms can differentiate by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    own = [attributes[name] for attributes, name, _ in places]
    try:
        for attributes, name, value in places:
            attributes[name] = value
        return module(*args, **kwargs)
    finally:
        for (attributes, name, _), value in zip(places, own, strict=True):
            attributes[name] = value
