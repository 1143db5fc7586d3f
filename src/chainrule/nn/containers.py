"""Modules made of numbered modules: one after the other (`Sequential`), around (`Residual`), or just a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index
from typing import Any, Self, overload

from chainrule.core import state
from chainrule.nn import chain
from chainrule.nn.module import Module
from chainrule.transforms.placement import MemoryBudget


class _Numbered(Module):
    """Modules kept in order under the names "0", "1", ..., and reached by number."""

    def __len__(self) -> int:
        return len(self._listed())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._listed())

    @overload
    def __getitem__(self, place: int) -> Module: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Module:
        if isinstance(place, slice):
            part = type(self).__new__(type(self))
            for name, module in [*self._own_modules()][place]:
                setattr(part, name, module)
            return part._renumbered()
        return self._listed()[index(place)]

    def __setitem__(self, place: int, module: Module) -> None:
        setattr(self, [name for name, _ in self._own_modules()][index(place)], self._checked(module))

    def __delitem__(self, place: int) -> None:
        delattr(self, [name for name, _ in self._own_modules()][index(place)])
        self._renumbered()

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns the container."""
        place = len(self)
        while str(place) in vars(self):
            place += 1
        setattr(self, str(place), self._checked(module))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end; returns the container."""
        for module in modules:
            self.append(module)
        return self

    def _listed(self) -> list[Module]:
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def _checked(self, module: Any) -> Module:
        if not isinstance(module, Module):
            hint = f"; did you mean {module.__name__}()?" if isinstance(module, type) else ""
            raise TypeError(f"{type(self).__name__} is made of modules, got {module!r}{hint}")
        return module

    def _renumbered(self) -> Self:
        """Numbers made consecutive again; names that are no numbers stay."""
        named = [*self._own_modules()]
        for name, _ in named:
            delattr(self, name)
        for place, (name, module) in enumerate(named):
            setattr(self, str(place) if name.isdecimal() else name, module)
        return self


class Sequential(_Numbered):
    """Modules applied one after the other.

        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3))

    With checkpoints, only the inputs of some modules are kept between the passes, and the modules are run again on the
    way back (see `cr.checkpoint`); gradients are equal to the last bit.

    Args:
        modules: the modules, or one mapping from their names to them.
        checkpoint: where to put checkpoints: "sqrt", every √N modules of N (about 2/√N of the activations are kept,
            for one more forward pass); an integer k, every k modules; a `cr.MemoryBudget`, where running modules again
            takes the least time within so many bytes. None: nowhere.

    Raises:
        ValueError: when called, if the memory budget cannot be met; the message names the smallest that can.
    """

    checkpoint: str | int | MemoryBudget | None = None

    def __init__(
        self, *modules: Module | Mapping[str, Module], checkpoint: str | int | MemoryBudget | None = None
    ) -> None:
        if checkpoint is not None:
            self.checkpoint = chain.checked(checkpoint)
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, self._checked(module))
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        modules = self._listed()
        if self.checkpoint is None or state.whole_graphs.get() or not state.is_grad_enabled():
            return chain.run_through(modules, x)
        return chain.run(modules, chain.place(modules, chain.checked(self.checkpoint), x, vars(self)), x)

    def extra_repr(self) -> str:
        return "" if self.checkpoint is None else f"checkpoint={self.checkpoint!r}"


class ModuleList(_Numbered):
    """A list whose modules count as parts of the module it is assigned to; it computes nothing itself."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)


class Residual(Module):
    """x + inner(x): the Jacobian is I + F′, so the gradient has a way past `inner`.

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition", equation 1.

    Args:
        inner: a module whose output has the shape of its input.

    Raises:
        ValueError: when called, if the shapes differ.
    """

    def __init__(self, inner: Module) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        change = self.inner(x)
        if change.shape != x.shape:
            raise ValueError(
                f"Residual adds its input, of shape {tuple(x.shape)}, to the output of {type(self.inner).__name__}, of "
                f"shape {tuple(change.shape)}; they must be equal"
            )
        return x + change
