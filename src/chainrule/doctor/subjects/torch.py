"""PyTorch's networks as subjects. Imported only where a PyTorch module is given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import Primitive
from chainrule.doctor import statistics
from chainrule.doctor.observation import Observer
from chainrule.doctor.subjects.own import local_derivative
from chainrule.doctor.subjects.subject import DoctorError, Step, Subject, all_removed, around, leaves
from chainrule.doctor.vocabulary import ACTIVATIONS, WHOLE, canonical
from chainrule.nn import functional
from chainrule.transforms.forward import jvp


def checked(model: torch.nn.Module) -> torch.nn.Module:
    """The module, if it can be looked into.

    Raises:
        DoctorError: it is scripted, or on several devices.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise DoctorError(
            f"{model.original_name} is a scripted module, which cannot be looked into; give the module it was made of"
        )
    devices = sorted({str(p.device) for p in [*model.parameters(), *model.buffers()]})
    if len(devices) > 1:
        raise DoctorError(
            f"{type(model).__name__} has parameters on {', '.join(devices)}; move all of it to one device"
        )
    return model


@dataclass(frozen=True)
class TorchSubject(Subject):
    """A `torch.nn.Module` under examination."""

    framework = "torch"

    def array(self, tensor: Any) -> Any:
        return tensor.detach() if isinstance(tensor, torch.Tensor) else tensor

    def seen(self, tensor: Any) -> Any:
        return _seen(tensor) if isinstance(tensor, torch.Tensor) else tensor

    def is_recorded(self, tensor: Any) -> bool:
        return isinstance(tensor, torch.Tensor) and tensor.requires_grad

    def requires_grad(self, parameter: Any) -> bool:
        return parameter.requires_grad

    def key(self, tensor: Any) -> Hashable:
        return id(tensor)

    @contextmanager
    def observing(self, observer: Observer, root: bool = True) -> Iterator[None]:
        with noted(observer, {module: path for path, module in self.modules() if path or root}):
            yield

    def gradients(self, loss: Any, values: Sequence[Any]) -> list[Any]:
        wanted = [value for value in values if value.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True) if wanted else ())
        return [next(found) if value.requires_grad else None for value in values]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        buffers = [(buffer, buffer.detach().clone()) for buffer in self.model.buffers()]
        modes = [(module, module.training) for module in self.model.modules()]
        with torch.random.fork_rng(devices=[]):
            drawn = np.random.get_state()  # noqa: NPY002 (models may draw from it)
            try:
                yield
            finally:
                np.random.set_state(drawn)  # noqa: NPY002
                with torch.no_grad():
                    for buffer, value in buffers:
                        buffer.copy_(value)
                for module, training in modes:
                    module.training = training

    def quietly(self) -> AbstractContextManager[None]:
        return torch.no_grad()

    @contextmanager
    def calls_watched(self, called: Callable[[], None]) -> Iterator[None]:
        def hook(module: Any, args: Any) -> None:
            if module.training and torch.is_grad_enabled():
                called()

        with all_removed([self.model.register_forward_pre_hook(hook)]):
            yield

    def backward_watched(self, before: Callable[[Any], Callable[[], None] | None]) -> AbstractContextManager[None]:
        return around(torch.Tensor, "backward", before)

    def number_at_hand(self, loss: torch.Tensor) -> Any:
        return loss.item() if loss.is_cpu else loss.detach()

    def gradient_of(self, parameter: Any) -> Any:
        return parameter.grad

    def seed(self, number: int) -> None:
        if all(parameter.is_cpu for parameter in self.model.parameters()):
            torch.default_generator.manual_seed(number)
        else:  # also for devices that are not in use, and keeps the call stack for each: over a millisecond
            torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002 (models may draw from it)

    def constant(self, array: Any, like: Any) -> Any:
        return torch.as_tensor(array, dtype=like.dtype, device=like.device)

    def leaf(self, tensor: Any) -> Any:
        return tensor.detach().clone().requires_grad_()

    def step(self, batch: Any = None) -> Step:
        self.optimizer.zero_grad(set_to_none=True)
        _, loss = self.run(batch)
        loss.backward()
        size = statistics.overall([p.grad for p in self.model.parameters() if p.grad is not None])
        clipped = False
        if self.clip_norm is not None:
            clipped = size > self.clip_norm
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        return Step(float(loss.detach()), size, clipped)

    def make_optimizer(self, kind: str, **options: Any) -> Any:
        return getattr(torch.optim, kind)(self.model.parameters(), **options)


@contextmanager
def noted(observer: Observer, paths: Mapping[torch.nn.Module, str] | None = None) -> Iterator[None]:
    """Inside, `observer` is told of every function of PyTorch, and of the modules that have a path."""
    notes = _Notes(observer, paths or {})
    with all_removed([]) as hooks, _Mode(notes):
        if paths:
            hooks.append(register_module_forward_pre_hook(notes.entered))
            hooks.append(register_module_forward_hook(notes.left))
        yield
    notes.tell()


class _Notes:
    """What happens in a pass, told to an observer: when the pass is over if it looks at samples, as in a training loop,
    and else at once, while the line of the user's code that did it can still be told.

    Amid the products of a pass, which push all else out of the caches, looking at an array takes several times as long.
    """

    def __init__(self, observer: Observer, paths: Mapping[torch.nn.Module, str]) -> None:
        self._observer = observer
        self._paths = paths
        self._at_once = observer.limit is None
        self._noted: list[tuple[Callable[..., None], tuple]] = []
        self._seen = cache(_seen)  # what one operation makes, the next is given

    def entered(self, module: Any, arguments: tuple) -> None:
        """A module is called, of this network or another."""
        if module in self._paths:
            self._note(self._observer.enter, self._paths[module], module)

    def left(self, module: Any, arguments: tuple, output: Any) -> None:
        """Its call is over."""
        if module in self._paths:
            self._note(self._tell_of_module, self._paths[module], module, arguments, output)

    def called(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, recorded: bool) -> None:
        """A function was; `recorded` says whether a gradient could be taken of something it was given."""
        self._note(self._tell_of_function, name, args, kwargs, result, recorded, torch.is_grad_enabled())

    def _note(self, tell: Callable[..., None], *what: Any) -> None:
        self._noted.append((tell, what))
        if self._at_once:
            self.tell()

    def tell(self) -> None:
        """Tell the observer of everything that was noted."""
        noted, self._noted = self._noted, []
        with torch._C.DisableTorchFunction():  # what is looked at here is no part of the network
            for tell, what in noted:
                tell(*what)
        self._seen.cache_clear()

    def _tell_of_function(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: Any,
        recorded: bool,
        is_grad_enabled: bool,
    ) -> None:
        observer, seen = self._observer, self._seen
        results = leaves(result)
        made = next((x for x in results if isinstance(x, torch.Tensor)), None)
        if made is None or not made.is_floating_point():
            return
        given = [x for part in (*args, *kwargs.values()) for x in leaves(part) if isinstance(x, torch.Tensor)]
        observer.alive += [*given, *results]  # identities are of living objects
        if name in ("detach", "data") and recorded:
            observer.cut("detach", observer.path)
        elif recorded and not is_grad_enabled:
            observer.cut("no_grad", observer.path)
        if not made.requires_grad:
            observer.unrecorded(name, [x.detach() for x in given], [made.detach()])
            return
        observer.operation(
            name,
            [(id(x), x if id(x) in observer.parameters else seen(x)) for x in given],
            [(id(x), seen(x)) for x in results],
            partial(_listen, made),
            partial(_slope, name, seen(given[0]), seen(made), given[0] is made, kwargs)
            if name in ACTIVATIONS
            else None,
        )

    def _tell_of_module(self, path: str, module: Any, arguments: tuple, output: Any) -> None:
        observer = self._observer
        whole = observer.is_whole(module)
        observer.leave(path, module)
        made = [x for x in leaves(output) if isinstance(x, torch.Tensor)] if whole else []
        if not made or observer.inside_whole:
            return
        given = [x for x in leaves(arguments) if isinstance(x, torch.Tensor)]
        observer.alive += [*given, *made]
        observer.operation(
            next(WHOLE[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in WHOLE),
            [(id(x), x.detach()) for x in given],
            [(id(x), x.detach()) for x in made],
            partial(_listen, made[0]) if made[0].requires_grad else None,
            path=path,
            parameters=[f"{path}.{name}" if path else name for name, _ in module.named_parameters()],
        )


class _Mode(TorchFunctionMode):
    """Takes notes of every function of PyTorch that is called."""

    def __init__(self, notes: _Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        own_name = getattr(func, "__name__", "")
        if _writes(own_name, kwargs):
            self._notes.tell()  # of arrays as they are now
        name = canonical(own_name)
        if name in _UNSEEN:
            return func(*args, **kwargs)
        recorded = any(x.requires_grad for x in args if isinstance(x, torch.Tensor))
        result = func(*args, **kwargs)
        self._notes.called(name, args, kwargs, result, recorded)
        return result


_UNSEEN = frozenset({"get", "set", "backward", "size", "dim", "is_floating_point", "register_hook", "requires_grad"})


def _writes(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a function writes into an array that it is given: `add_`, `+=`, `x[0] = `, `inplace=True`, `out=`."""
    inside = name.startswith("__i") or name in ("__set__", "__setitem__")
    changes = inside if name.startswith("__") else name.endswith("_")
    return changes or bool(options.get("inplace")) or options.get("out") is not None


def _listen(made: torch.Tensor, hear: Callable[[Any], None]) -> None:
    made.register_hook(lambda g: hear(_seen(g)))


def _seen(x: torch.Tensor) -> Any:
    """The array in a tensor, to be looked at."""
    if x.requires_grad:
        x = x.detach()
    return x.numpy() if x.is_cpu and x.dtype in _KNOWN_TO_NUMPY else statistics.on_host(x)


_KNOWN_TO_NUMPY = frozenset({torch.float32, torch.float64})


def _slope(name: str, x: Any, y: Any, in_place: bool, kwargs: Mapping[str, Any], limit: int | None) -> Any:
    """The local derivative, by chainrule's own rule, at about `limit` elements, if there is one."""
    function = getattr(functional, name, None)
    if function is None or (in_place and name != "relu"):  # its input is gone
        return None
    if isinstance(function, Primitive):
        return local_derivative(function, (x, y), {}, limit)
    values = statistics.floating(statistics.sampled(x, limit))
    options = {key: kwargs[key] for key in ("negative_slope", "alpha", "beta", "approximate") if key in kwargs}
    return jvp(partial(function, **options), (values,), (namespace_of(values).ones_like(values),))[1]
