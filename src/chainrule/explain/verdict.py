"""The verdict: gradients and tangents of an explanation against central differences in float64."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.node import Leaf, Node
from chainrule.core.tensor import Tensor, _raw
from chainrule.explain.recording import Recording, undisturbed
from chainrule.transforms.backward import pull_back
from chainrule.transforms.check import Finding, compare_gradients

#: Seconds that the comparison of single inputs may take; all of them together are always compared.
BUDGET = 0.6

TOGETHER = "all inputs together"


@dataclass
class Verdict:
    """Findings by input, and what was not looked at, with the reason."""

    findings: dict[str, Finding]
    left_out: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is doubtful or a bug."""
        return all(f.grade in ("excellent", "acceptable", "kink") for f in self.findings.values())


def verdict_on(recording: Recording, seed: Any, gradients: Mapping[Node, Any], names: Mapping[Node, str]) -> Verdict:
    """Compare the gradient of every leaf with central differences of the recorded function.

    Args:
        seed: the cotangent of the result.
        gradients: by leaf, as the backward walk gave them; those of narrower types are computed again in float64.
        names: by leaf.
    """
    if recording.run is None:
        return Verdict({}, "there is no function to run again: a tensor was explained")
    held = {node: node.tensor() for node in gradients if isinstance(node, Leaf)}
    leaves = {
        node: leaf
        for node, leaf in held.items()
        if leaf is not None and isinstance(_raw(leaf), (np.ndarray, np.generic))
    }
    if not leaves:
        return Verdict({}, "the inputs are not NumPy arrays")
    seed = np.asarray(_raw(seed), dtype=np.float64)
    try:
        with _float64(recording, list(leaves.values())):
            given = _gradients_in_float64(recording, seed, leaves, gradients)
            return _compared(recording, seed, list(leaves.values()), given, [names[node] for node in leaves])
    except (ValueError, TypeError, ArithmeticError) as error:  # LinAlgError is a ValueError
        return Verdict({}, f"the function fails near its inputs: {error}")


def verdict_along(recording: Recording, tangents: Mapping[str, Any], result: Any) -> Verdict:
    """Compare the tangent of the result with the central difference along the seed.

    Args:
        tangents: by input.
        result: the tangent of the result.
    """
    if recording.run is None:
        return Verdict({}, "there is no function to run again: a tensor was explained")
    leaves = [recording.inputs[name] for name in tangents]
    with _float64(recording, leaves):
        points = [np.array(_raw(leaf)) for leaf in leaves]
        weights = np.random.default_rng(0).standard_normal(np.shape(result))
        phi = _scalar_function(recording, weights, leaves)
        directions = [np.asarray(t, dtype=np.float64) for t in tangents.values()]

        def along(t: Any) -> Any:
            return phi(*[p + t * d for p, d in zip(points, directions, strict=True)])

        report = compare_gradients(along, [np.float64(0.0)], [np.sum(weights * result)], ["the seed"])
    return Verdict({f.where: f for f in report.findings})


def _compared(recording: Recording, seed: np.ndarray, leaves: list[Tensor], given: list, names: list[str]) -> Verdict:
    phi = _scalar_function(recording, seed, leaves)
    points = [np.array(_raw(leaf)) for leaf in leaves]
    started = time.perf_counter()
    first, second = phi(*points), phi(*points)
    cost = (time.perf_counter() - started) / 2
    if first != second and not (np.isnan(first) and np.isnan(second)):
        return Verdict({}, "the function gives another value each time it runs")
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal(p.shape) for p in points]

    def together(t: Any) -> Any:
        return phi(*[p + t * d for p, d in zip(points, directions, strict=True)])

    slope = sum(float(np.sum(g * d)) for g, d in zip(given, directions, strict=True))
    findings: dict[str, Finding] = {}
    affordable = int(BUDGET / max(cost, 1e-7)) // 2
    elements = min(affordable // max(len(leaves), 1), 64)
    checked = range(len(leaves)) if elements else np.linspace(0, len(leaves) - 1, max(affordable, 1)).astype(int)
    for k in dict.fromkeys(int(k) for k in checked):
        report = compare_gradients(
            lambda x, k=k: phi(*points[:k], x, *points[k + 1 :]), [points[k]], [given[k]], [names[k]], max(elements, 1)
        )
        findings[names[k]] = report.findings[0]
    if len(leaves) > 1:
        report = compare_gradients(together, [np.float64(0.0)], [slope], [TOGETHER])
        findings[TOGETHER] = report.findings[0]
    missing = len(leaves) - len([name for name in findings if name != TOGETHER])
    left_out = f"{missing} inputs were only compared together with the others: the function is slow" if missing else ""
    return Verdict(findings, left_out)


def _scalar_function(recording: Recording, seed: np.ndarray, leaves: Sequence[Tensor]) -> Callable:
    """Seed · result as a function of the leaves' values."""

    def phi(*points: Any) -> float:
        for leaf, point in zip(leaves, points, strict=True):
            leaf._value = np.asarray(point)[()] if np.ndim(point) == 0 else point
        with state.no_grad():
            result = recording.run(True)  # type: ignore[misc]
        return float(np.sum(seed * np.asarray(_raw(result))))

    return phi


def _gradients_in_float64(recording: Recording, seed: np.ndarray, leaves: dict, gradients: Mapping[Node, Any]) -> list:
    if all(node.dtype == np.float64 for node in leaves):
        return [np.asarray(gradients[node]) for node in leaves]
    with state.enable_grad():
        root = recording.run(True)  # type: ignore[misc]
    start = np.asarray(seed, dtype=root.dtype)
    found = pull_back([(root._node, start if start.shape else start[()])])
    return [np.asarray(found.get(leaf._node, np.zeros(leaf.shape))) for leaf in leaves.values()]


@contextmanager
def _float64(recording: Recording, leaves: Sequence[Tensor]) -> Iterator[None]:
    """The leaves and the buffers of modules in float64 meanwhile; then as they were, bit by bit."""
    buffers = [buffer for _, _, buffer, _ in recording.names.buffers]
    earlier = [(t, t._value, t._node) for t in (*leaves, *buffers)]
    try:
        for tensor, value, node in earlier:
            if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f" and value.dtype.itemsize < 8:
                tensor._value = value.astype(np.float64)
                if node is not None:
                    tensor._node = Leaf(tensor, node.level)
        with undisturbed(recording.names):
            yield
    finally:
        for tensor, value, node in earlier:
            tensor._value, tensor._node = value, node
