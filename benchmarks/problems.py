"""The functions whose derivatives are timed beside the networks: each is written once, for every array library.

Array functions take the library's namespace `xp` first: exp, sqrt, sin, cos, stack, logsumexp and `smallest` (the
minimum along an axis); the rest is operators and methods that the libraries share. Functions of floats need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log, pi
from typing import Any

#: The step of the integration, and how many there are.
STEP, STEPS = 0.05, 100


def log_sum_exp(xp: Any, x: Any) -> Any:
    """log Σ exp(x)."""
    return xp.logsumexp(x, 0)


def gaussian_mixture(
    xp: Any, alphas: Any, means: Any, factors: Any, points: Any, below: Any, diagonal: Any, *, places: Any
) -> Any:
    """The log-posterior of a mixture of Gaussians, as ADBench defines it (Šrajer, Kukelova, Fitzgibbon 2018).

    Args:
        xp: the array namespace.
        alphas: logarithms of the weights, not normalised, (k).
        means: (k, d).
        factors: of the inverse covariances, whose lower triangular roots Q have these entries: the logarithms of the
            diagonal, then what is below it, column by column; (k, d (d + 1) / 2).
        points: (n, d).
        below, diagonal: masks of Q's two parts, (d, d).
        places: where an entry of Q is found in `factors`, (d, d).
    """
    count, dimensions = points.shape
    logarithms = factors[:, :dimensions]
    scales = xp.exp(logarithms)
    entries = factors[:, places]
    roots = entries * below + xp.exp(entries * diagonal) * diagonal
    whitened = (points - means[:, None, :]) @ roots.swapaxes(1, 2)  # (k, n, d)
    terms = (alphas + logarithms.sum(1))[:, None] - 0.5 * (whitened**2).sum(2)
    likelihood = xp.logsumexp(terms, 0).sum() - count * xp.logsumexp(alphas, 0) - count * dimensions * log(2 * pi) / 2
    return likelihood + _wishart_prior(scales, logarithms, factors[:, dimensions:])


def _wishart_prior(scales: Any, logarithms: Any, rest: Any, gamma: float = 1.0, m: int = 0) -> Any:
    """Of all components; the arguments are the parts of `factors`."""
    components, p = scales.shape
    freedom = p + m + 1
    log_gamma = p * (p - 1) / 4 * log(pi) + sum(lgamma(freedom / 2 + (1 - j) / 2) for j in range(1, p + 1))
    constant = freedom * p * (log(gamma) - log(2) / 2) - log_gamma
    squares = (scales**2).sum() + (rest**2).sum()
    return gamma**2 / 2 * squares - m * logarithms.sum() - components * constant


def reprojection(xp: Any, cameras: Any, points: Any, weights: Any, seen: Any) -> Any:
    """Where cameras see points, less where they were seen: ADBench's bundle adjustment, for n observations at once.

    Args:
        xp: the array namespace.
        cameras: rotation (axis times angle), centre, focal length, principal point, radial distortion; (n, 11).
        points: (n, 3).
        weights: (n).
        seen: (n, 2).

    Returns:
        Weighted errors, (n, 2).
    """
    axis_angle, centre, focal = cameras[:, :3], cameras[:, 3:6], cameras[:, 6:7]
    principal, radial = cameras[:, 7:9], cameras[:, 9:11]
    x, y, z = _rotated(xp, axis_angle, points - centre)
    flat = xp.stack([x / z, y / z], 1)
    square = (flat**2).sum(1)[:, None]
    distorted = flat * (1.0 + radial[:, :1] * square + radial[:, 1:] * square**2)
    return weights[:, None] * (distorted * focal + principal - seen)


def _rotated(xp: Any, axis_angle: Any, points: Any) -> tuple[Any, Any, Any]:
    """Coordinates of the points turned about the axes by the axes' lengths (Rodrigues)."""
    angle = xp.sqrt((axis_angle**2).sum(1))
    sine, cosine = xp.sin(angle), xp.cos(angle)
    u, v, w = (axis_angle[:, i] / angle for i in range(3))
    x, y, z = (points[:, i] for i in range(3))
    along = (u * x + v * y + w * z) * (1.0 - cosine)
    return (
        x * cosine + (v * z - w * y) * sine + u * along,
        y * cosine + (w * x - u * z) * sine + v * along,
        z * cosine + (u * y - v * x) * sine + w * along,
    )


def weight_residual(weights: Any) -> Any:
    """1 - w², which draws the weights of a bundle adjustment to one."""
    return 1.0 - weights**2


def k_means(xp: Any, centres: Any, points: Any) -> Any:
    """Sum of the squared distances of points, (n, d), from the nearest of the centres, (k, d)."""
    squares = (points**2).sum(1)[None, :] + (centres**2).sum(1)[:, None] - 2.0 * (centres @ points.T)
    return xp.smallest(squares, 0).sum()


def determinant(entries: Sequence[Any], size: int = 7) -> Any:
    """The determinant of a matrix given row by row, by minors along the first row, and so on down."""
    return _minor([entries[row * size : (row + 1) * size] for row in range(size)])


def _minor(rows: Sequence[Sequence[Any]]) -> Any:
    first, *others = rows
    if not others:
        return first[0]
    total: Any = 0.0
    for column, entry in enumerate(first):
        term = entry * _minor([[*row[:column], *row[column + 1 :]] for row in others])
        total = total - term if column % 2 else total + term
    return total


def lotka_volterra(parameters: Sequence[Any]) -> Any:
    """The sum of prey and predators after `STEPS` steps of Runge and Kutta's fourth-order method from (1, 1)."""
    populations: tuple[Any, Any] = (1.0, 1.0)
    for _ in range(STEPS):
        populations = runge_kutta(populations, parameters)
    return populations[0] + populations[1]


def runge_kutta(populations: tuple[Any, Any], parameters: Sequence[Any]) -> tuple[Any, Any]:
    """One step of x' = a x - b x y, y' = d x y - c y, with the parameters a, b, c, d."""
    a, b, c, d = parameters

    def rates(x: Any, y: Any) -> tuple[Any, Any]:
        return a * x - b * x * y, d * x * y - c * y

    x, y = populations
    slopes = [rates(x, y)]
    for part in (STEP / 2, STEP / 2, STEP):
        u, v = slopes[-1]
        slopes.append(rates(x + part * u, y + part * v))
    (u1, v1), (u2, v2), (u3, v3), (u4, v4) = slopes
    return x + STEP / 6 * (u1 + 2 * u2 + 2 * u3 + u4), y + STEP / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
