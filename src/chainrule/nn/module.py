"""`Module`: a function with parameters, made of smaller ones.

A module's attributes are its parts: every `Parameter` and every `Module` among them counts, in the order of
assignment, and `register_buffer` marks tensors that belong to the state without being trained. There is no second
register to keep in step. Walking that tree, saving and loading it, and saying where in it an error happened are
here; how it is printed is in `summary`, the modules themselves are in the other files of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from chainrule.core import state
from chainrule.core.calls import marks_a_call, note_place
from chainrule.core.namespace import copy_like, namespace_of
from chainrule.core.tensor import RemovableHook, Tensor, _raw
from chainrule.nn.parameter import Parameter, replace_value
from chainrule.nn.summary import describe
from chainrule.ops.creation import zeros_like


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left aside."""

    missing_keys: list[str]
    unexpected_keys: list[str]


_watchers = state.call_watchers


class Module:
    """Base class of networks and their parts: write `forward`, assign parameters and modules as attributes.

        class Classifier(nn.Module):
            def __init__(self):
                self.hidden = nn.Linear(2, 16)
                self.output = nn.Linear(16, 3)

            def forward(self, x):
                return self.output(self.hidden(x).tanh())

    Attributes:
        training: True after `train()`, False after `eval()`; dropout and batch normalisation look at it.
    """

    training: bool = True

    # Class-level defaults, replaced by the instance's own once it has any: a subclass need not call __init__.
    _buffers: Mapping[str, bool] = {}  # name -> whether it is saved
    _forward_hooks: tuple[Callable, ...] | list[Callable] = ()
    _forward_pre_hooks: tuple[Callable, ...] | list[Callable] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass has its own."""
        raise NotImplementedError(f"{type(self).__name__} needs a forward method: what it computes from its inputs")

    @marks_a_call
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward` of the same arguments. An error in it gets a note that says in which module it happened."""
        try:
            for hook in self._forward_pre_hooks:
                replaced = hook(self, args)
                if replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
            afterwards = [watch(self, args) for watch in (*_watchers,)] if _watchers else ()  # they may come and go
            output = self.forward(*args, **kwargs)
            for hook in self._forward_hooks:
                replaced = hook(self, args, output)
                output = output if replaced is None else replaced
            for after in afterwards:
                if after is not None:
                    after(output)
        except Exception as error:
            note_place(error, self)
            raise
        return output

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> RemovableHook:
        """Call `hook(module, args, output)` after every call; what it returns, if not None, replaces the output."""
        return self._hooked("_forward_hooks", hook)

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> RemovableHook:
        """Call `hook(module, args)` before every call; what it returns, if not None, replaces the arguments."""
        return self._hooked("_forward_pre_hooks", hook)

    def _hooked(self, where: str, hook: Callable) -> RemovableHook:
        hooks = self.__dict__.setdefault(where, [])
        state.structure_changed()
        hooks.append(hook)
        return RemovableHook(hooks, hook)

    # Attributes are parts -----------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        present = self.__dict__.get(name)
        if isinstance(present, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"cannot assign a {type(value).__name__} to the parameter {name!r} of {type(self).__name__}: wrap it "
                f"in nn.Parameter to replace the parameter, or assign to .{name}.data to change its value"
            )
        if name in self._buffers and not (value is None or isinstance(value, Tensor)):
            raise TypeError(
                f"cannot assign a {type(value).__name__} to the buffer {name!r} of {type(self).__name__}; give a tensor"
            )
        object.__setattr__(self, name, value)
        state.structure_changed()

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make `tensor` the attribute `name`, and part of the state: converted by `to`, saved if `persistent`.

        Raises:
            KeyError: the name is taken, empty or has a dot in it.
            TypeError: `tensor` is neither a tensor nor None.
        """
        self._check_new_name(name)
        self.__dict__["_buffers"] = {**self._buffers, name: persistent}
        setattr(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` the attribute `name`, where the name is only known at run time."""
        self._check_new_name(name)
        if not (param is None or isinstance(param, Parameter)):
            raise TypeError(f"register_parameter: {name!r} must be a Parameter or None, got {type(param).__name__}")
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` the attribute `name`, where the name is only known at run time."""
        self._check_new_name(name)
        if not (module is None or isinstance(module, Module)):
            raise TypeError(f"add_module: {name!r} must be a Module or None, got {type(module).__name__}")
        setattr(self, name, module)

    def _check_new_name(self, name: str) -> None:
        if not name or "." in name:
            raise KeyError(f"{name!r} cannot name a part of a module: it must not be empty or have a dot in it")
        if hasattr(type(self), name) or not isinstance(vars(self).get(name), (Tensor, Module, type(None))):
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}")

    # Walking the tree ---------------------------------------------------------------------------------------

    def _own_modules(self) -> Iterator[tuple[str, Module]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes, with their names; one that has two names is given once."""
        seen = set()
        for name, module in self._own_modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules among the attributes."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, each after the one it is part of, with paths such as `layers.0`."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if remove_duplicate and id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, part in module._own_modules():
                yield from walk(f"{path}.{name}" if path else name, part)

        return walk(prefix, self)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _own_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name in self._buffers if (value := vars(self).get(name)) is not None)

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._own_parameters()
        yield from ((name, value) for name, value in self._own_buffers() if self._buffers[name])

    def _named_members(
        self, own: Callable[[Module], Iterator], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix, remove_duplicate) if recurse else iter([(prefix, self)])
        for path, module in modules:
            for name, value in own(module):
                if not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with paths such as `layers.0.weight`; a shared one is given once, under its first path."""
        return self._named_members(Module._own_parameters, prefix, recurse, remove_duplicate)  # type: ignore[return-value]

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once: what an optimiser is given."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their paths."""
        return self._named_members(Module._own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as `layers.0`; this module for the empty path.

        Raises:
            AttributeError: there is none.
        """
        found = dict(self.named_modules(remove_duplicate=False)).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below this one, then on itself; initialisers are often written so."""
        for module in [*self.modules()][::-1]:
            fn(module)
        return self

    # Changing all of it -------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch to training (`mode=False`: to evaluation), here and in all modules below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation: dropout passes everything, batch normalisation uses its running statistics."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them zeros."""
        for parameter in self.parameters():
            grad = parameter.grad
            parameter.grad = None if set_to_none or grad is None else zeros_like(grad)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train all parameters, or freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def to(self, dtype: Any) -> Self:
        """Convert all floating point parameters, their gradients and buffers to `dtype`, in place.

        Raises:
            TypeError: `dtype` is not a floating point type.
        """
        for tensor in [*self.parameters(), *self.buffers()]:
            xp = namespace_of(_raw(tensor))
            wanted = np.dtype(dtype) if isinstance(tensor.dtype, np.dtype) else dtype
            if "float" not in str(wanted):
                raise TypeError(f"to: networks compute with floating point numbers; {dtype} is not such a type")
            if "float" not in str(tensor.dtype) or tensor.dtype == wanted:
                continue
            grad = tensor.grad
            replace_value(tensor, xp.astype(_raw(tensor), wanted))
            tensor.grad = None if grad is None else Tensor(xp.astype(_raw(grad), wanted))
        return self

    def float(self) -> Self:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Convert to float64."""
        return self.to(np.float64)

    # Saving and loading -------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """The values of all parameters and persistent buffers by path, as they are now.

        Values never change in place, so the dictionary stays as it is while training goes on. A shared parameter
        appears under each of its paths, as in PyTorch.
        """
        members = self._named_members(Module._own_state, prefix, recurse=True, remove_duplicate=False)
        return {path: value.detach() for path, value in members}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Take over the values in `state_dict`, all of them or, if anything does not fit, none.

        Args:
            state_dict: tensors or arrays by path, from `state_dict`, `nn.load` or PyTorch; converted to the dtypes
                of this module.
            strict: whether missing and unexpected paths are errors.

        Returns:
            The paths that were missing and those that were not expected.

        Raises:
            ValueError: paths are missing or unexpected (if `strict`), or shapes differ; every fault is named.
        """
        own = dict(self._named_members(Module._own_state, "", recurse=True, remove_duplicate=False))
        given = {id(own[path]) for path in own if path in state_dict}  # a shared parameter need only be given once
        result = LoadResult(
            [path for path, value in own.items() if id(value) not in given],
            [path for path in state_dict if path not in own],
        )
        converted, faults = {}, []
        if strict:
            faults += [f"{path}: missing there" for path in result.missing_keys]
            faults += [f"{path}: not expected here" for path in result.unexpected_keys]
        for path in own.keys() & state_dict.keys():
            try:
                converted[path] = _converted(state_dict[path], own[path])
            except (TypeError, ValueError) as error:
                faults.append(f"{path}: {error}")
        if faults:
            listed = "".join(f"\n  {fault}" for fault in sorted(faults))
            raise ValueError(f"load_state_dict: the state does not fit this {type(self).__name__}:{listed}")
        for path, value in converted.items():
            own[path]._value = value
        return result

    # Printing -----------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` puts between the parentheses, such as `in_features=2, out_features=16`."""
        return ""

    def __repr__(self) -> str:
        return describe(self)


def _converted(given: Any, own: Tensor) -> Any:
    """`given` as a new array like the value of `own`."""
    given = _raw(given)
    if not hasattr(given, "shape") or "complex" in str(given.dtype):
        raise TypeError(f"is a {type(given).__name__} there; expected a tensor or an array of real numbers")
    if tuple(given.shape) != own.shape:
        raise ValueError(f"has shape {tuple(given.shape)} there and {own.shape} here")
    return copy_like(given, _raw(own))
