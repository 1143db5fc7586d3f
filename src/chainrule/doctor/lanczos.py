"""Eigenvalues and traces of matrices that are known only by their products with vectors.

Vectors are flat float64 NumPy arrays, whatever computes the product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenvalues.

    Attributes:
        values: in ascending order.
        residuals: of each, a bound of its distance to the nearest true eigenvalue.
        products: how many products it took.
    """

    values: np.ndarray
    residuals: np.ndarray
    products: int


def lanczos(product: Product, size: int, steps: int, generator: np.random.Generator) -> Ritz:
    """Ritz values of a symmetric matrix from a Krylov space, its basis kept orthogonal by reorthogonalising in full.

    Args:
        product: the matrix times a vector.
        size: length of vectors.
        steps: dimension of the space at most; it ends earlier where the space is exhausted.
        generator: draws the first vector.

    Source: Golub and Van Loan 2013, "Matrix Computations", sections 10.1 (algorithm 10.1.1) and 10.3.4 (complete
    reorthogonalisation); the residual bound is theorem 10.1.1's.
    """
    vector = generator.standard_normal(size)
    basis = [vector / np.linalg.norm(vector)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        for _ in range(2):  # once more against the rounding of the first time (Parlett: twice is enough)
            for known in basis:
                image = image - (known @ image) * known
        length = float(np.linalg.norm(image))
        scale = max(map(abs, [*diagonal, *beside]))
        if len(basis) == min(steps, size) or length <= 1e-10 * scale:
            break
        beside.append(length)
        basis.append(image / length)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return Ritz(values, length * np.abs(vectors[-1]), len(diagonal))


def hutchinson(product: Product, size: int, samples: int, generator: np.random.Generator) -> float:
    """The trace, as the mean of vᵀAv over vectors of random signs: exact for a diagonal matrix.

    Source: Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".
    """
    signs = [generator.choice([-1.0, 1.0], size) for _ in range(samples)]
    return float(np.mean([sign @ product(sign) for sign in signs]))
