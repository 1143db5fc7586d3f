"""Attention, and the embedding of tokens that usually comes before it.

Attention is three steps on a whiteboard and here: scores q·kᵀ, weights softmax(scores·scale), a mean of values
weights·v. Only the second is new; the other two are matrix products. An embedding is a choice of rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import csc_array

from chainrule.core.namespace import fast_numpy, namespace_of
from chainrule.core.native import FEWEST_ELEMENTS
from chainrule.core.primitive import Primitive, as_operand, composed, linear
from chainrule.core.tensor import _raw
from chainrule.ops.layout import matrix_transpose
from chainrule.ops.network import softmax
from chainrule.ops.products import matmul

# Attention ----------------------------------------------------------------------------------------------------------


def _weights_value(xp: Any, scores: Any, mask: Any, *, scale: float) -> Any:
    """softmax(scores·scale) along the last axis, over what `mask` leaves; zeros where it leaves nothing."""
    scores = xp.where(mask, scores * scale, -math.inf)
    top = xp.max(scores, axis=-1, keepdims=True)
    e = xp.exp(scores - xp.where(top == -math.inf, 0, top))
    total = xp.sum(e, axis=-1, keepdims=True)
    return e / xp.where(total == 0, 1, total)


# Vaswani et al. 2017, "Attention Is All You Need", equation 1; the derivative is that of softmax, times the scale
attention_weights = composed(
    "attention_weights",
    _weights_value,
    lambda xp, g, y, scale: y * (g - xp.sum(g * y, axis=-1, keepdims=True)) * scale,
    None,
    native=FEWEST_ELEMENTS, text="softmax($scores·scale, $mask)", latex=r"\operatorname{softmax}(s \, $scores)",
    local=[("scale·$y ⊙ (g − Σ(g ⊙ $y))", r"s \, $y \odot \left(\delta - \textstyle\sum \delta \odot $y\right)")],
)  # fmt: skip


def weights_of(query: Any, key: Any, scale: float, mask: Any = None, bias: Any = None) -> Any:
    """How much each query attends to each key, shape (..., queries, keys); each row sums to 1.

    Args:
        query: shape (..., queries, width).
        key: shape (..., keys, width).
        scale: times the scores.
        mask: True where a query may attend; broadcast to the shape of the result. A query that may attend to nothing
            has weights of zero.
        bias: numbers to be added to the scores; broadcast.
    """
    scores = matmul(query, matrix_transpose(key))
    if mask is None and bias is None:
        return softmax(scores * scale, axis=-1)
    if bias is None:
        return attention_weights(scores, mask, scale=scale)
    return attention_weights(scores * scale + bias, np.ones((), bool) if mask is None else mask, scale=1.0)


def causal_mask(queries: int, keys: int) -> np.ndarray:
    """True where query i may attend to key j: j ≤ i."""
    return np.tri(queries, keys, dtype=bool)


def split_mask(name: str, mask: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """A mask as one of booleans and one of numbers, of which it is one; the other is None.

    Raises:
        TypeError: it is neither of booleans nor of the dtype of the scores.
        ValueError: it does not broadcast to `shape`, that of the scores.
    """
    mask = as_operand(name, mask)
    given = tuple(mask.shape)
    if len(given) > len(shape) or any(m not in (1, n) for m, n in zip(given[::-1], shape[::-1], strict=False)):
        raise ValueError(f"{name}: a mask of shape {given} does not fit scores of shape {shape} (..., queries, keys)")
    if "bool" in str(mask.dtype):
        return mask, None
    if mask.dtype != dtype:
        raise TypeError(f"{name}: a mask must be of booleans, or of numbers of dtype {dtype}; got {mask.dtype}")
    return None, mask


# Embedding ----------------------------------------------------------------------------------------------------------


def _chosen(xp: Any, weight: Any, indices: Any) -> Any:
    if xp is fast_numpy or hasattr(xp, "verify"):  # a library with NumPy's indexing
        return weight[indices]
    rows = xp.take(weight, xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(rows, (*indices.shape, weight.shape[1]))


def _added_rows(xp: Any, g: Any, indices: Any, *, rows: int) -> Any:
    """Zeros of shape (rows, width) with each slice of `g` along its last axis added to the row of its index."""
    width = g.shape[-1]
    if hasattr(xp, "verify"):
        return xp.scatter_add(g, shape=(rows, width), index=(indices,))
    g, indices = xp.reshape(g, (-1, width)), xp.reshape(indices, (-1,))
    n = indices.shape[0]
    if xp is fast_numpy:  # a product with a matrix of one 1 per column: ten times faster than np.add.at
        return csc_array((np.ones(n, g.dtype), indices, np.arange(n + 1)), shape=(rows, n)) @ g
    hot = xp.expand_dims(indices, axis=0) == xp.expand_dims(xp.arange(rows, dtype=indices.dtype), axis=1)
    return xp.matmul(xp.astype(hot, g.dtype), g)


embedding_step: Primitive = linear(
    "embedding", _chosen,
    lambda xp, g, indices, weight_shape: added_rows.on(xp, g, indices, rows=weight_shape[0]), None,
    text="$weight[$indices]", latex=r"{$weight}_{$indices}",
    local=[("g added to rows $indices of zeros", r"\delta \text{ added to rows } $indices \text{ of zeros}")],
)  # fmt: skip
added_rows: Primitive = linear(
    "added_rows", _added_rows, lambda xp, g, indices: embedding_step.on(xp, g, indices), None,
    text="rows($g)", latex=r"\operatorname{rows}($g)", local=[("g[$indices]", r"\delta_{$indices}")],
)  # fmt: skip


def embedding(indices: Any, weight: Any) -> Any:
    """Rows of a table, one for each index.

    Args:
        indices: integers of any shape.
        weight: the table, shape (rows, width).

    Returns:
        Shape (*indices.shape, width).

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is not that of a row.
    """
    indices, weight = _raw(as_operand("embedding", indices)), as_operand("embedding", weight)
    if len(weight.shape) != 2:
        raise ValueError(f"embedding: the table must have shape (rows, width), got {tuple(weight.shape)}")
    if "int" not in str(indices.dtype):
        raise TypeError(f"embedding: indices must be integers, got {indices.dtype} of shape {tuple(indices.shape)}")
    _check_rows(indices, weight.shape[0])
    return embedding_step(weight, indices)


def _check_rows(indices: Any, rows: int) -> None:
    xp = namespace_of(indices)
    if hasattr(xp, "verify"):  # looked at in every run of a compiled program
        xp.verify((indices >= 0) & (indices < rows), f"embedding: an index is none of the {rows} rows of the table")
        return
    if not math.prod(indices.shape):
        return
    least, most = int(xp.min(indices, axis=None)), int(xp.max(indices, axis=None))
    if least < 0 or most >= rows:
        raise IndexError(
            f"embedding: indices of shape {tuple(indices.shape)} run from {least} to {most}, but the table has rows 0 "
            f"to {rows - 1}"
        )


__all__ = ["embedding"]
