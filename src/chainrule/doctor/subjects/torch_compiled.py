"""What `torch.compile` made a network of, or a part of it. Compiled code cannot be looked into; what was written can.

In a loop that is watched, the compiled network runs as ever: nothing is compiled anew, and no number changes. The
network as it was written runs once more beside it, and there it is looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from chainrule.doctor.observation import Observer
from chainrule.doctor.subjects.subject import DoctorError, all_removed, leaves
from chainrule.doctor.subjects.torch import TorchSubject, noted


def is_compiled(model: torch.nn.Module) -> bool:
    """Whether `torch.compile` made a module or a part of it."""
    return any(hasattr(module, "_orig_mod") or _is_compiled_in_place(module) for module in model.modules())


def _is_compiled_in_place(module: torch.nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None


@dataclass(frozen=True)
class CompiledTorchSubject(TorchSubject):
    """A module that is trained by what `torch.compile` made of it, or of parts of it.

    Attributes:
        compiled: what the loop calls.
        _given: the arguments of the call that has just begun, if it is looked at.
    """

    compiled: Any = None
    _given: list[tuple[tuple, dict]] = field(default_factory=list)

    is_rehearsed = True

    def output(self, batch: Any = None) -> Any:
        with _as_written():
            return super().output(batch)

    @contextmanager
    def calls_watched(self, called: Callable[[], None]) -> Iterator[None]:
        def hook(module: Any, args: tuple, kwargs: dict) -> None:
            if module.training and torch.is_grad_enabled():
                self._given[:] = [(args, kwargs)]
                called()
                self._given.clear()

        if _is_compiled_in_place(self.compiled):  # so would be what listens to its calls
            name = type(self.model).__name__
            raise DoctorError(
                f"{name} was compiled in place, by its method compile(), and cannot be watched; train and monitor what "
                "torch.compile(model) gives"
            )
        with all_removed([self.compiled.register_forward_pre_hook(hook, with_kwargs=True)]):
            yield

    @contextmanager
    def observing(self, observer: Observer, root: bool = True) -> Iterator[None]:
        if root:
            with super().observing(observer):
                yield
            return
        args, kwargs = self._given[0]
        # Buffers of its own, which no one writes to before its backward pass has come.
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with self.undisturbed(), _as_written(), super().observing(observer):
            rehearsed = _recorded(torch.func.functional_call(self.model, buffers, args, kwargs))
        with all_removed([]) as hooks, ExitStack() as loss:

            def follow(_: Any, __: tuple, output: Any) -> None:
                hooks[0].remove()  # of several calls, the first is rehearsed
                made = _recorded(output)
                for own, other in zip(made, rehearsed, strict=False):
                    observer.alias(id(own), id(other))
                observer.alive += made
                if made:
                    torch.autograd.graph.register_multi_grad_hook(made, lambda g: self._send_back(rehearsed, g))
                loss.enter_context(noted(observer))

            hooks.append(self.compiled.register_forward_hook(follow))
            hooks.append(self.compiled.register_forward_pre_hook(lambda *_: loss.close()))
            yield

    def _send_back(self, rehearsed: list[torch.Tensor], cotangents: Any) -> None:
        """The backward pass of the rehearsal, once, for the cotangents that reached the outputs in the loop."""
        reached = [(x, g) for x, g in zip(rehearsed, cotangents, strict=False) if g is not None]
        rehearsed.clear()
        if reached:
            outputs, given = zip(*reached, strict=True)
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            torch.autograd.grad(outputs, trained, given, allow_unused=True)


@contextmanager
def _as_written() -> Iterator[None]:
    """Inside, what is compiled runs as Python code."""
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)  # where all modules have hooks
        yield


def _recorded(output: Any) -> list[torch.Tensor]:
    return [x for x in leaves(output) if isinstance(x, torch.Tensor) and x.requires_grad]
