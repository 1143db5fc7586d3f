"""Gradient checking: derivatives against central differences in float64, in both modes and to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.forward import jvp
from chainrule.transforms.reverse import grad
from chainrule.transforms.trees import flatten, unflatten

EXCELLENT, ACCEPTABLE, BUG = 1e-7, 1e-5, 1e-3

#: Central differences of a function of size 1 lose least accuracy near the cube root of float64's precision.
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)

#: Below this share of the largest entry, a difference is rounding of the function's values, not a derivative.
_NOISE = 1e-9


class GradientMismatch(AssertionError):
    """A derivative disagrees with numerical differentiation. `report` holds the whole check."""

    def __init__(self, message: str, report: GradientReport) -> None:
        super().__init__(message)
        self.report = report


@dataclass
class Finding:
    """One comparison.

    Attributes:
        order: 1 for the gradient, 2 for the gradient of the gradient, ...
        mode: "rev" or "fwd".
        where: which input.
        error: relative error |a − n|/(|a| + |n| + tiny), over the elements that are not at a kink.
        kinks: elements where the one-sided derivatives differ and the value given lies between them.
        checked, size: how many elements were compared, of how many.
    """

    order: int
    mode: str
    where: str
    error: float
    kinks: int
    checked: int
    size: int

    @property
    def grade(self) -> str:
        """excellent (< 1e-7), acceptable (< 1e-5), doubtful (< 1e-3) or bug; "kink" where nothing smooth is left."""
        if self.checked and self.kinks == self.checked:
            return "kink"
        for limit, name in ((EXCELLENT, "excellent"), (ACCEPTABLE, "acceptable"), (BUG, "doubtful")):
            if self.error < limit:
                return name
        return "bug"


@dataclass
class GradientReport:
    """What `check_grads` found; prints as a table. `ok` is true where nothing is graded doubtful or a bug."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(f.grade in ("excellent", "acceptable", "kink") for f in self.findings)

    @property
    def error(self) -> float:
        """The largest relative error."""
        return max((f.error for f in self.findings), default=0.0)

    @property
    def kinks(self) -> int:
        """Elements that sit on a kink, where the derivative is a choice."""
        return sum(f.kinks for f in self.findings)

    def __str__(self) -> str:
        lines = [f"{'order':<6}{'mode':<6}{'input':<24}{'rel. error':>12}  {'grade':<12}checked"]
        for f in self.findings:
            note = f" ({f.kinks} at a kink, left out)" if f.kinks else ""
            lines.append(
                f"{f.order:<6}{f.mode:<6}{f.where:<24}{f.error:>12.1e}  {f.grade:<12}{f.checked} of {f.size}{note}"
            )
        return "\n".join(lines)


def check_grads(
    function: Callable,
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    eps: float | None = None,
    max_elements: int = 64,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> GradientReport:
    """Compare derivatives of `function` at `args` with central differences in float64.

    The outputs are projected on a random direction u, so each input has one gradient Jᵀu; it is compared with
    (φ(x + ε) − φ(x − ε))/2ε for φ = u·f, element by element. Forward mode is compared along a random direction. For
    order 2 and above, the gradient computed here is the function that is differentiated numerically.

    Args:
        function: of arrays or pytrees of them, returning the same.
        args: its arguments; floating point leaves are checked, in float64, the others held constant.
        order: highest order of derivative.
        modes: "rev", "fwd" or both.
        eps: step of the difference (default: 6e-6 times the element's size where that is over one).
        max_elements: how many elements of each input are perturbed (drawn at random where there are more).
        seed: of the random directions.
        raise_on_failure: raise for a doubtful or wrong derivative; otherwise only report.

    Returns:
        A report with one finding per order, mode and input. Elements at a kink (ReLU at 0) whose given derivative
        lies between the one-sided ones are counted and left out.

    Raises:
        GradientMismatch: a relative error of 1e-5 or more (message: the table).
        ValueError: unknown mode, or no floating point input.
    """
    if set(modes) - {"fwd", "rev"} or not modes:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {tuple(modes)}")
    leaves, treedef = flatten(tuple(args))
    raw = [np.asarray(_raw(leaf)) for leaf in leaves]
    places = [i for i, value in enumerate(raw) if value.dtype.kind == "f"]
    if not places:
        raise ValueError("check_grads: none of the inputs is of floating point")
    names = [f"input {i}" + (f" {raw[i].shape}" if raw[i].shape else "") for i in places]
    constants = list(leaves)

    def flat(*points: Any) -> list:
        filled = list(constants)
        for i, point in zip(places, points, strict=True):
            filled[i] = point
        return flatten(function(*unflatten(treedef, filled)))[0]

    points = [raw[i].astype(np.float64) for i in places]
    check = _Check(names, eps, max_elements, np.random.default_rng(seed), tuple(modes))
    check.run(flat, points, 1, order)
    if raise_on_failure and not check.report.ok:
        raise GradientMismatch(
            f"the derivative of {getattr(function, '__name__', 'the function')} disagrees with central differences:\n"
            f"{check.report}",
            check.report,
        )
    return check.report


def compare_gradients(
    function: Callable, points: Sequence[Any], given: Sequence[Any], names: Sequence[str], max_elements: int = 64
) -> GradientReport:
    """Gradients that are known already against central differences, graded as in `check_grads`.

    Args:
        function: of float64 arrays, returning a scalar.
        points: its arguments.
        given: the gradient with respect to each of them.
        names: of the arguments, for the report.
        max_elements: how many elements of each are perturbed, drawn at random where there are more.
    """
    check = _Check(list(names), None, max_elements, np.random.default_rng(0), ("rev",))
    check._reverse(function, [np.asarray(point, dtype=np.float64) for point in points], given, 1)
    return check.report


class _Check:
    def __init__(self, names: list[str], eps: float | None, limit: int, rng: np.random.Generator, modes: tuple) -> None:
        self.names = names
        self.eps = eps
        self.limit = limit
        self.rng = rng
        self.modes = modes
        self.report = GradientReport()

    def run(self, function: Callable, points: list[np.ndarray], order: int, last: int) -> None:
        """Check one order, then the gradient as a function of its own."""
        weights = [self.rng.standard_normal(np.shape(_raw(y))) for y in function(*points)]

        def projected(*xs: Any) -> Any:
            total: Any = 0.0
            for weight, y in zip(weights, function(*xs), strict=True):
                if isinstance(y, Tensor) and "float" in str(y.dtype):
                    total = total + (weight * y).sum()
                elif not isinstance(y, Tensor) and np.asarray(y).dtype.kind == "f":
                    total = total + np.sum(weight * y)
            return total

        gradient = grad(projected, tuple(range(len(points))))
        given = gradient(*points)
        self._reverse(projected, points, given, order)
        if "fwd" in self.modes:
            self._forward(projected, points, given, order)
        if order < last:
            self.run(lambda *xs: list(gradient(*xs)), points, order + 1, last)

    def _reverse(self, function: Callable, points: list, given: Sequence[Any], order: int) -> None:
        for place, name in enumerate(self.names):
            chosen = self._choose(points[place].size)
            numeric, kinks = np.zeros(len(chosen)), np.zeros(len(chosen), dtype=bool)
            analytic = np.asarray(given[place], dtype=np.float64).reshape(-1)[chosen]
            along = [_Line(function, points, place, element, self.eps) for element in chosen]
            for i, line in enumerate(along):
                numeric[i] = line.central()
            scale = max(np.abs(numeric).max(initial=0.0), np.abs(analytic).max(initial=0.0))
            for i, line in enumerate(along):
                if abs(numeric[i] - analytic[i]) > ACCEPTABLE * scale:
                    numeric[i], kinks[i] = line.closer_look(analytic[i], scale)
            if "rev" in self.modes:
                error = relative_error(analytic[~kinks], numeric[~kinks], scale)
                self.report.findings.append(
                    Finding(order, "rev", name, error, int(kinks.sum()), len(chosen), points[place].size)
                )

    def _forward(self, function: Callable, points: list, given: Sequence[Any], order: int) -> None:
        for place, name in enumerate(self.names):
            directions = [np.zeros_like(p) for p in points]
            directions[place] = self.rng.standard_normal(points[place].shape)
            pushed = np.asarray(_raw(jvp(function, tuple(points), tuple(directions))[1]))
            along = np.asarray(given[place]) * directions[place]
            expected = np.sum(along)  # u·(J v) = (Jᵀu)·v, and Jᵀu was compared with differences
            error = relative_error(pushed, expected, float(np.abs(along).sum()))
            size = points[place].size
            self.report.findings.append(Finding(order, "fwd", name, error, 0, size, size))

    def _choose(self, size: int) -> np.ndarray:
        if size <= self.limit:
            return np.arange(size)
        return np.sort(self.rng.choice(size, self.limit, replace=False))


class _Line:
    """The function along one element of one input."""

    def __init__(self, function: Callable, points: list, place: int, element: int, eps: float | None) -> None:
        self.function = function
        self.points = points
        self.place = place
        self.element = element
        x = abs(float(points[place].reshape(-1)[element]))
        self.step = eps if eps is not None else _STEP * max(1.0, x)

    def at(self, offset: float) -> float:
        moved = list(self.points)
        copy = np.array(self.points[self.place], dtype=np.float64, order="C")  # so that reshape is a view
        copy.reshape(-1)[self.element] += offset
        moved[self.place] = copy if copy.shape else np.float64(copy)
        return float(_raw(self.function(*moved)))

    def central(self, step: float | None = None) -> float:
        h = self.step if step is None else step
        return (self.at(h) - self.at(-h)) / (2 * h)

    def closer_look(self, given: float, scale: float) -> tuple[float, bool]:
        """Where the difference disagrees with `given`: a better difference, and whether this is a kink.

        At a kink the one-sided differences stay apart however small the step; any value between them is an honest
        derivative.
        """
        here = self.at(0.0)
        for step in (self.step, self.step / 16, self.step / 256):
            right, left = (self.at(step) - here) / step, (here - self.at(-step)) / step
            middle = (right + left) / 2
            if abs(middle - given) <= ACCEPTABLE * scale:
                return middle, False
        slack = 1e-4 * scale
        apart = abs(right - left) > 1e-2 * scale
        return self.central(), bool(apart and min(left, right) - slack <= given <= max(left, right) + slack)


def relative_error(given: Any, numeric: Any, scale: float = 0.0) -> float:
    """|a − n|/(|a| + |n| + tiny) in the Euclidean norm; below the rounding noise of `scale`, relative to `scale`."""
    given, numeric = np.asarray(given, dtype=np.float64), np.asarray(numeric, dtype=np.float64)
    if not (np.isfinite(given).all() and np.isfinite(numeric).all()):
        same = np.array_equal(np.nan_to_num(given, nan=1.5), np.nan_to_num(numeric, nan=1.5))
        return 0.0 if same else float("inf")
    difference = float(np.linalg.norm(given - numeric))
    if difference <= _NOISE * max(scale, 1.0):
        return difference / max(scale, 1.0)
    return difference / float(np.linalg.norm(given) + np.linalg.norm(numeric) + np.finfo(np.float64).tiny)


__all__ = ["Finding", "GradientMismatch", "GradientReport", "check_grads", "compare_gradients", "relative_error"]
