"""`explain` and `Explanation`: the whole whiteboard for one result, as data. How it is shown is in the renderers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.tensor import Tensor, _raw
from chainrule.explain import repeats
from chainrule.explain.factors import Factor, factors_of
from chainrule.explain.gradients import Gradient, Path, Walk
from chainrule.explain.notation import Formula
from chainrule.explain.recording import Recording, read, record
from chainrule.explain.repeats import Repeat
from chainrule.explain.steps import Step, steps_of
from chainrule.explain.tangents import TangentRow, tangents_of
from chainrule.explain.verdict import Verdict, verdict_along, verdict_on

FORMATS = ("text", "markdown", "latex", "html", "svg", "json")


@dataclass
class Explanation:
    """A result, the steps that made it and the gradients that come back, ready to be read or shown.

    `print(e)` shows it as text; a notebook shows the page with the graph; `e.save("loss.html")` writes a file in the
    format of its name (html, md, tex, json, svg, txt).

    Attributes:
        mode: "reverse" or "forward".
        steps: the forward table, inputs included, in the order of computation.
        result: the last of them.
        tangents: the forward-mode table; empty in reverse mode.
        verdict: the comparison with central differences.
        depth: how many levels of repeated blocks are opened in what is shown; None for all.
        digits: significant digits in what is shown.
    """

    recording: Recording = field(repr=False)
    mode: str
    steps: list[Step]
    walk: Walk | None
    tangents: list[TangentRow]
    verdict: Verdict
    wrt: tuple[str, ...] | None = None
    depth: int | None = 0
    digits: int = 6

    # Rows --------------------------------------------------------------------------------------------------------

    @property
    def result(self) -> Step:
        return self.steps[-1]

    @cached_property
    def gradients(self) -> list[Gradient]:
        """The gradient of every value that one reached, from the result back to the inputs."""
        return list(self.walk.gradients.values()) if self.walk else []

    @cached_property
    def paths(self) -> list[Path]:
        """The backward table: every edge that a gradient came along."""
        return [path for gradient in self.gradients for path in gradient.paths]

    @cached_property
    def inputs(self) -> list[Gradient]:
        """The gradients of the inputs that were asked for, in the order they were given."""
        place = {step.node: k for k, step in enumerate(self.steps)}
        found = [g for g in self.gradients if g.of.is_input and (self.wrt is None or g.of.name.text in self.wrt)]
        return sorted(found, key=lambda g: place[g.of.node])

    @cached_property
    def factors(self) -> list[Factor]:
        """The product of Jacobians along a chain of layers; empty where there is no such chain."""
        return factors_of(self.steps, self.walk) if self.walk else []

    def step(self, name: str) -> Step:
        """The step of that name.

        Raises:
            KeyError: there is none.
        """
        return self._named(self.steps, name, lambda step: step)

    def gradient(self, name: str) -> Gradient:
        """The gradient with respect to the value of that name.

        Raises:
            KeyError: there is no such value, or no gradient reached it.
        """
        return self._named(self.gradients, name, lambda gradient: gradient.of)

    @staticmethod
    def _named(rows: Sequence[Any], name: str, step_of: Callable[[Any], Step]) -> Any:
        for row in rows:
            if step_of(row).name.text == name:
                return row
        known = ", ".join(step_of(row).name.text for row in rows[:20])
        raise KeyError(f"no value is called {name!r}; there are {known}")

    @property
    def derivation(self) -> list[tuple[Formula, Formula]]:
        """The symbolic derivation, line by line: a gradient's symbol, and its formula by the chain rule."""
        return [(g.symbol, g.formula) for g in self.gradients if g.paths and not g.is_alias]

    def formula(self, name: str) -> Formula:
        """The gradient of one value as one formula, the gradients on the way put in.

        Raises:
            KeyError: there is no such value, or no gradient reached it.
            ValueError: in forward mode, which has tangents.
        """
        if self.walk is None:
            raise ValueError("explain: forward mode has tangents and no gradients; leave mode= out")
        return self.walk.composed(self.gradient(name).of.node)

    # Views -------------------------------------------------------------------------------------------------------

    def opened(self, depth: int | None = None) -> Explanation:
        """The same explanation with repeated blocks opened, `depth` levels of them or all."""
        return replace(self, depth=depth)

    def view(self) -> list[Step | Repeat]:
        """The steps as they are shown: repeated blocks once, up to `depth`, and no more than can be read."""
        return self._view

    @cached_property
    def _view(self) -> list[Step | Repeat]:
        items = repeats.collapsed(self.steps, self.depth)
        return items if self.depth is None else repeats.shortened(items)

    # Renderings --------------------------------------------------------------------------------------------------

    def to(self, format: str) -> str:
        """The explanation in one of `FORMATS`.

        Raises:
            ValueError: it is not one of them.
        """
        from chainrule.explain import render

        if format not in FORMATS:
            raise ValueError(f"explain: the format must be one of {', '.join(FORMATS)}, got {format!r}")
        return render.render(self, format)

    def save(self, path: Any) -> None:
        """Write it to a file, in the format that the name ends with: .txt, .md, .tex, .html, .svg or .json."""
        from chainrule.explain.render import write

        write(self, FilePath(path))

    def __str__(self) -> str:
        return self.to("text")

    def __rich__(self) -> Any:
        from chainrule.explain.text import renderable

        return renderable(self)

    def _repr_html_(self) -> str:
        from chainrule.explain.page import embedded

        return embedded(self)


def explain(
    what: Any,
    *args: Any,
    wrt: Sequence[str] | str | None = None,
    mode: str = "reverse",
    seed: Any = None,
    loss: Callable | None = None,
    depth: int | None = 0,
    digits: int = 6,
    check: bool = True,
    **inputs: Any,
) -> Explanation:
    """The whiteboard for a function, a module or a recorded tensor: every value, local derivative and gradient.

        cr.explain(lambda w, x, b, y: (w * x + b - y) ** 2, w=2, x=3, b=1, y=8)
        cr.explain(model, batch, loss=lambda output: cr.nn.functional.cross_entropy(output, target))
        cr.explain(loss)

    Args:
        what: a function of numbers and arrays, a module, or a tensor that was recorded (and not walked yet).
        args, inputs: arguments of the function or module. All numbers and arrays of floats are differentiated (a
            Python integer is read as a float); of a module, its parameters are.
        wrt: names of the inputs to differentiate with respect to instead.
        mode: "reverse" for gradients, "forward" for tangents.
        seed: reverse mode: the cotangent of a result that is not a scalar. Forward mode: the name of the input to
            move, or a dictionary from names to tangents.
        loss: applied to what `what` returns.
        depth: how many levels of repeated blocks to show opened; None for all.
        digits: significant digits to show.
        check: compare with central differences, which runs the function again a number of times.

    Returns:
        The rows as data, which render themselves. No trace is left in random generators, buffers or `.grad`.

    Raises:
        GradientError: nothing was recorded, the graph was freed, or the result is not a scalar and no seed is given.
        ValueError: a name or shape does not fit.
    """
    names = (wrt,) if isinstance(wrt, str) else None if wrt is None else tuple(wrt)
    frame = sys._getframe(1)
    return explained(what, args, inputs, names, mode, seed, loss, depth, digits, check, frame)


def explained(
    what: Any,
    args: Sequence[Any],
    inputs: Mapping[str, Any],
    wrt: Sequence[str] | None = None,
    mode: str = "reverse",
    seed: Any = None,
    loss: Callable | None = None,
    depth: int | None = 0,
    digits: int = 6,
    check: bool = True,
    frame: Any = None,
) -> Explanation:
    """As `explain`, with the inputs in a dictionary, where names may be any; `frame` may name a tensor's values."""
    if mode not in ("reverse", "forward"):
        raise ValueError(f"explain: mode must be 'reverse' or 'forward', got {mode!r}")
    wrt = None if wrt is None else tuple(wrt)
    if isinstance(what, Tensor):
        recording = read(what, frame)
    elif callable(what):
        recording = record(what, args, inputs, wrt, loss)
    else:
        raise TypeError(f"explain: give a function, a module or a tensor, not {type(what).__name__}")
    steps = steps_of(recording)
    _refuse_values_that_are_not_finite(steps)
    if mode == "forward":
        return _forward(recording, steps, seed, wrt, depth, digits, check)
    if seed is None and steps[-1].shape != ():
        raise GradientError(
            f"explain: the result has shape {steps[-1].shape}; only a scalar has a gradient. Reduce it, for example "
            "with .sum(), or give seed=, a cotangent of that shape"
        )
    with state.enable_grad():
        walk = Walk(steps, recording.root, seed)
    verdict = Verdict({}, "it was not asked for")
    if check:
        gradients = {node: g.value for node, g in walk.gradients.items() if g.of.is_input}
        names = {node: g.of.name.text for node, g in walk.gradients.items()}
        verdict = verdict_on(recording, walk.seed, gradients, names)
    return Explanation(recording, mode, steps, walk, [], verdict, wrt, depth, digits)


def _forward(
    recording: Recording, steps: list[Step], seed: Any, wrt: Any, depth: int | None, digits: int, check: bool
) -> Explanation:
    tangents = _seed_tangents(recording, seed)
    rows = tangents_of(recording, steps, tangents)
    verdict = verdict_along(recording, tangents, rows[-1].value) if check else Verdict({}, "it was not asked for")
    return Explanation(recording, "forward", steps, None, rows, verdict, wrt, depth, digits)


def _seed_tangents(recording: Recording, seed: Any) -> dict[str, Any]:
    """The tangent of every named input: a name moves that input alone, by one in every element."""
    inputs = recording.inputs
    if seed is None and len(inputs) == 1:
        seed = next(iter(inputs))
    if seed is None:
        raise ValueError(f"explain: forward mode needs seed=, the input to move: one of {', '.join(inputs)}")
    given: Mapping[str, Any] = (
        dict.fromkeys([seed] if isinstance(seed, str) else [], None) if isinstance(seed, str) else seed
    )
    if not isinstance(given, Mapping):
        raise TypeError("explain: in forward mode, seed is an input's name or a dictionary from names to tangents")
    tangents = {}
    for name, value in given.items():
        if name not in inputs:
            raise ValueError(f"explain: seed names {name!r}, which is not an input; the inputs are {', '.join(inputs)}")
        leaf = inputs[name]
        tangent = np.ones(leaf.shape) if value is None else np.asarray(value, dtype=np.float64)
        if tangent.shape != tuple(leaf.shape):
            raise ValueError(f"explain: the seed of {name} has shape {tangent.shape}, the input {tuple(leaf.shape)}")
        tangents[name] = tangent
    return tangents


class NotFinite(ValueError):
    """A step made a NaN or an infinity. `step` is that step."""

    def __init__(self, message: str, step: Step) -> None:
        super().__init__(message)
        self.step = step


def _refuse_values_that_are_not_finite(steps: Sequence[Step]) -> None:
    for step in steps:
        value = step.value
        if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
            kind = "NaN" if np.isnan(value).any() else "an infinity"
            what = f"the input {step.name}" if step.is_input else f"{step.name} = {step.expression}"
            read = ", ".join(f"{o.formula} = {_short(o.value)}" for o in step.operands)
            raise NotFinite(f"explain: {what} has {kind}" + (f" (from {read})" if read else ""), step)


def _short(value: Any) -> str:
    from chainrule.explain.numbers import array

    return array(_raw(value))


__all__ = ["FORMATS", "Explanation", "NotFinite", "explain"]
