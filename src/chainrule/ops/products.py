"""Products that sum: matrix products, tensor contractions, `einsum`, and the affine step of a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import fast_numpy
from chainrule.core.native import FEWEST_ELEMENTS
from chainrule.core.primitive import as_operand, composed, linear
from chainrule.ops import reductions
from chainrule.ops.axes import normalize_axes
from chainrule.ops.elementwise import multiply
from chainrule.ops.indexing import getitem
from chainrule.ops.layout import moveaxis, permute_dims, reshape

# Matrix product ----------------------------------------------------------------------------------------------------


def _matmul_a(xp: Any, g: Any, b: Any, a_shape: tuple[int, ...]) -> Any:
    if len(b.shape) == 1:
        return xp.expand_dims(g, axis=-1) * b if len(a_shape) > 1 else g * b
    if len(a_shape) == 1:
        return xp.matmul(b, xp.expand_dims(g, axis=-1))[..., 0]
    return xp.matmul(g, b.mT)


def _matmul_b(xp: Any, g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if len(a.shape) == 1:
        return xp.expand_dims(a, axis=-1) * xp.expand_dims(g, axis=-2) if len(b_shape) > 1 else g * a
    if len(b_shape) == 1:
        return xp.matmul(a.mT, xp.expand_dims(g, axis=-1))[..., 0]
    return xp.matmul(a.mT, g)


#: A product is one operation of NumPy's, which programs that do not train call with all kinds of small matrices.
_FEWEST_OF_A_PRODUCT = 4096

_matmul = linear(
    "matmul", lambda xp, a, b: xp.matmul(a, b), _matmul_a, _matmul_b, joint=False, native=_FEWEST_OF_A_PRODUCT,
    text="$a·$b", latex=r"$a \, $b",
    local=[("g·$bᵀ", r"\delta \, {$b}^\top"), ("$aᵀ·g", r"{$a}^\top \, \delta")],
)  # fmt: skip


def matmul(a: Any, b: Any, /) -> Any:
    """Matrix product over the last two axes, batched over the rest; vectors as in `np.matmul`."""
    a, b = as_operand("matmul", a), as_operand("matmul", b)
    m, n = tuple(a.shape), tuple(b.shape)
    if not m or not n:
        raise ValueError(f"matmul: needs arrays of at least one dimension, got shapes {m} and {n}; use * for scalars")
    if m[-1] != n[0 if len(n) == 1 else -2]:
        raise ValueError(
            f"matmul: shapes {m} and {n} do not fit: {m[-1]} columns against {n[0 if len(n) == 1 else -2]} rows"
        )
    return _matmul(a, b)


# The affine step y = x·Wᵀ + b ----------------------------------------------------------------------------------------


def _rows(xp: Any, x: Any) -> Any:
    """All leading axes made one."""
    return x if len(x.shape) == 2 else xp.reshape(x, (-1, x.shape[-1]))


def _linear_value(xp: Any, x: Any, weight: Any, bias: Any) -> Any:
    _check_fit(x, weight)
    if len(x.shape) == 2:  # (W·xᵀ)ᵀ: OpenBLAS takes up to half as long for it as for x·Wᵀ
        y = xp.matmul(weight, x.mT).mT
    else:  # one product instead of one for each matrix of x
        y = xp.reshape(xp.matmul(_rows(xp, x), weight.mT), (*x.shape[:-1], weight.shape[0]))
    if xp is fast_numpy and y.dtype == bias.dtype and bias.ndim == 1:
        y += bias
        return y
    return y + bias


def _linear_x(xp: Any, g: Any, weight: Any) -> Any:
    if len(g.shape) == 2:  # as the value: features stay the outer axis in memory all the way back
        return xp.matmul(weight.mT, g.mT).mT
    return xp.reshape(xp.matmul(_rows(xp, g), weight), (*g.shape[:-1], weight.shape[1]))


def _check_fit(x: Any, weight: Any) -> None:
    if x.shape[-1:] != weight.shape[-1:] or len(weight.shape) != 2:
        raise ValueError(
            f"linear: an input of shape {tuple(x.shape)} does not fit a weight of shape {tuple(weight.shape)} "
            "(out, in): the input's last axis must be as long as the weight's"
        )


linear_step = composed(
    "linear",
    _linear_value,
    _linear_x,
    lambda xp, g, x: xp.matmul(_rows(xp, g).mT, _rows(xp, x)),
    lambda xp, g: xp.sum(g, axis=tuple(range(len(g.shape) - 1))),
    native=FEWEST_ELEMENTS, text="$x·$weightᵀ + $bias", latex=r"$x \, {$weight}^\top + $bias",
    local=[("g·$weight", r"\delta \, $weight"), ("gᵀ·$x", r"\delta^\top \, $x"), ("Σ g", r"\textstyle\sum \delta")],
)  # fmt: skip


def linear_map(x: Any, weight: Any, bias: Any = None) -> Any:
    """`x @ weight.T + bias`: the affine step of a network.

    Args:
        x: inputs, shape (..., in).
        weight: shape (out, in), as in PyTorch.
        bias: shape (out,) or None.

    Raises:
        ValueError: the shapes do not fit.
    """
    if bias is not None:
        return linear_step(x, weight, bias)
    x, weight = as_operand("linear", x), as_operand("linear", weight)
    _check_fit(x, weight)
    return _matmul(x, permute_dims(weight, (1, 0)))


# Contractions ------------------------------------------------------------------------------------------------------


def tensordot(a: Any, b: Any, /, axes: Any = 2) -> Any:
    """Sum of products over `axes`: a number of last and first axes, or a pair of axis lists."""
    a, b = as_operand("tensordot", a), as_operand("tensordot", b)
    if isinstance(axes, int):
        if axes < 0:
            raise ValueError(f"tensordot: axes must not be negative, got {axes}")
        left = tuple(range(len(a.shape) - axes, len(a.shape)))
        right = tuple(range(axes))
    else:
        left, right = (tuple(side) if isinstance(side, (tuple, list)) else (side,) for side in axes)
    left = normalize_axes(left, len(a.shape), "tensordot")
    right = normalize_axes(right, len(b.shape), "tensordot")
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError(
            f"tensordot: shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit over axes {left} and {right}"
        )
    free_a = [i for i in range(len(a.shape)) if i not in left]
    free_b = [i for i in range(len(b.shape)) if i not in right]
    inner = int(np.prod([a.shape[i] for i in left], dtype=int))
    shape = (*(a.shape[i] for i in free_a), *(b.shape[i] for i in free_b))
    rows = int(np.prod([a.shape[i] for i in free_a], dtype=int))
    columns = int(np.prod([b.shape[i] for i in free_b], dtype=int))
    flat_a = reshape(permute_dims(a, (*free_a, *left)), (rows, inner))
    flat_b = reshape(permute_dims(b, (*right, *free_b)), (inner, columns))
    return reshape(_matmul(flat_a, flat_b), shape)


def vecdot(a: Any, b: Any, /, axis: int = -1) -> Any:
    """Sum of products along `axis`, the other axes broadcast."""
    a, b = as_operand("vecdot", a), as_operand("vecdot", b)
    a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"vecdot: lengths {a.shape[-1]} and {b.shape[-1]} along axis {axis} differ")
    return reductions.sum(multiply(a, b), axis=-1)


def dot(a: Any, b: Any, /) -> Any:
    """`np.dot`: a product with scalars, else a sum over the last axis of `a` and the second last of `b`."""
    a, b = as_operand("dot", a), as_operand("dot", b)
    if not a.shape or not b.shape:
        return a * b if hasattr(a, "_node") else b * a
    if len(b.shape) == 1 or len(b.shape) == len(a.shape) == 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((len(a.shape) - 1,), (len(b.shape) - 2,)))


def _contract(xp: Any, a: Any, b: Any, left: str, right: str, out: str) -> Any:
    """One product of two arrays with labelled axes as a (batched) matrix product.

    No label repeats within an operand, and every label of one operand is in the other or in `out`.
    """
    batch = [c for c in out if c in left and c in right]
    inner = [c for c in left if c in right and c not in out]
    free_a = [c for c in out if c in left and c not in right]
    free_b = [c for c in out if c in right and c not in left]
    size_a, size_b = dict(zip(left, a.shape, strict=True)), dict(zip(right, b.shape, strict=True))
    a = xp.permute_dims(a, tuple(left.index(c) for c in (*batch, *free_a, *inner)))
    b = xp.permute_dims(b, tuple(right.index(c) for c in (*batch, *free_b, *inner)))
    shape_a, shape_b = [size_a[c] for c in free_a], [size_b[c] for c in free_b]
    inner_size = int(np.prod([size_a[c] for c in inner], dtype=int))
    ahead_a, ahead_b = tuple(a.shape[: len(batch)]), tuple(b.shape[: len(batch)])
    a = xp.reshape(a, (*ahead_a, int(np.prod(shape_a, dtype=int)), inner_size))
    b = xp.reshape(b, (*ahead_b, int(np.prod(shape_b, dtype=int)), inner_size))
    if inner_size == 1 or (not free_a and not free_b and batch):
        product = xp.expand_dims(a, axis=-2) * xp.expand_dims(b, axis=-3)  # no sum worth a call of BLAS
        product = product[..., 0] if inner_size == 1 else xp.sum(product, axis=-1)
    else:
        product = xp.matmul(a, b.mT)
    product = xp.reshape(product, (*product.shape[: len(batch)], *shape_a, *shape_b))
    order = [*batch, *free_a, *free_b]
    return xp.permute_dims(product, tuple(order.index(c) for c in out))


_einsum2 = linear(
    "einsum",
    lambda xp, a, b, *, left, right, out: _contract(xp, a, b, left, right, out),
    lambda xp, g, b, left, right, out: _contract(xp, g, b, out, right, left),
    lambda xp, g, a, left, right, out: _contract(xp, g, a, out, left, right),
    joint=False,
    text="einsum($left, $right → $out; $a, $b)", latex=r"\sum_{$left,$right \to $out} $a $b",
    local=[("einsum($out, $right → $left; g, $b)", r"\sum_{$out,$right \to $left} \delta $b"),
           ("einsum($out, $left → $right; g, $a)", r"\sum_{$out,$left \to $right} \delta $a")],
)  # fmt: skip


def einsum(subscripts: str, /, *operands: Any, **ignored: Any) -> Any:
    """Einstein's summation, as `np.einsum`: labels, `...`, repeated labels, implicit or explicit output.

    Operands are taken two at a time, in the order `np.einsum_path` finds, each step a matrix product.

    Raises:
        ValueError: the labels do not fit the operands.
    """
    if not isinstance(subscripts, str):
        raise TypeError("einsum: give the labels as a string, as in einsum('ij,jk->ik', a, b)")
    unknown = set(ignored) - {"optimize", "dtype", "order", "casting"}
    if unknown or any(ignored.get(name) is not None for name in ("dtype",)):
        raise TypeError(f"einsum: the arguments {sorted(ignored)} are not supported; only optimize is")
    arrays = [as_operand("einsum", x) for x in operands]
    inputs, out = _labels(subscripts, [len(x.shape) for x in arrays])
    sizes = _label_sizes(subscripts, inputs, [tuple(x.shape) for x in arrays])
    if len(arrays) > 2:
        shapes = [np.broadcast_to(0.0, tuple(sizes[c] for c in labels)) for labels in inputs]
        path = np.einsum_path(",".join(inputs) + "->" + out, *shapes, optimize="greedy")[0][1:]
    else:
        path = [tuple(range(len(arrays)))]
    for step in path:
        taken = [(arrays[i], inputs[i]) for i in step]
        arrays = [x for i, x in enumerate(arrays) if i not in step]
        inputs = [labels for i, labels in enumerate(inputs) if i not in step]
        needed = out + "".join(inputs)
        wanted = "".join(dict.fromkeys(c for _, labels in taken for c in labels if c in needed)) if arrays else out
        arrays.append(_step(taken, wanted))
        inputs.append(wanted)
    return arrays[0]


def _step(taken: list[tuple[Any, str]], out: str) -> Any:
    others = ["".join(labels for j, (_, labels) in enumerate(taken) if j != i) + out for i in range(len(taken))]
    prepared = [_prepare(x, labels, other) for (x, labels), other in zip(taken, others, strict=True)]
    result, left = prepared[0]
    for b, right in prepared[1:]:
        wanted = out if len(prepared) == 2 else "".join(dict.fromkeys(c for c in left + right))
        result, left = _einsum2(result, b, left=left, right=right, out=wanted), wanted
    return permute_dims(result, tuple(left.index(c) for c in out)) if left != out else result


def _prepare(x: Any, labels: str, needed: str) -> tuple[Any, str]:
    """Take diagonals of repeated labels and sum over those that nothing else has."""
    for c in [c for c in dict.fromkeys(labels) if labels.count(c) > 1]:
        while labels.count(c) > 1:
            i, j = labels.index(c), labels.rindex(c)
            diagonal = np.arange(x.shape[i])
            x = getitem(moveaxis(x, (i, j), (0, 1)), (diagonal, diagonal))
            labels = c + "".join(label for k, label in enumerate(labels) if k not in (i, j))
    alone = tuple(i for i, c in enumerate(labels) if c not in needed)
    if alone:
        x = reductions.sum(x, axis=alone)
        labels = "".join(c for c in labels if c in needed)
    return x, labels


def _labels(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Every operand's labels and the output's, with `...` spelled out in letters that are not used."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(parts)} operands, {len(ndims)} were given")
    unused = iter(c for c in map(chr, range(192, 10_000)) if c.isalpha() and c not in text)
    widths = [n - len(part.replace("...", "")) if "..." in part else 0 for part, n in zip(parts, ndims, strict=True)]
    if any(w < 0 for w in widths):
        raise ValueError(f"einsum: {subscripts!r} has more labels than the operands have axes {tuple(ndims)}")
    dots = "".join(next(unused) for _ in range(max(widths, default=0)))
    inputs = [part.replace("...", dots[len(dots) - w :]) for part, w in zip(parts, widths, strict=True)]
    for part, labels, n in zip(parts, inputs, ndims, strict=True):
        if len(labels) != n:
            raise ValueError(f"einsum: {part!r} names {len(labels)} axes, its operand has {n}")
    if arrow:
        out = out.replace("...", dots)
    else:
        joined = "".join(part.replace("...", "") for part in parts)
        out = dots + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    if any(c not in "".join(inputs) for c in out) or len(set(out)) < len(out):
        raise ValueError(f"einsum: the output labels of {subscripts!r} must be distinct and occur in an operand")
    return inputs, out


def _label_sizes(subscripts: str, inputs: list[str], shapes: list[tuple[int, ...]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for c, n in zip(labels, shape, strict=True):
            known = sizes.setdefault(c, n)
            if known != n and 1 not in (known, n):
                raise ValueError(f"einsum: {subscripts!r} does not fit shapes {shapes}: {known} against {n}")
            sizes[c] = n if known == 1 else known
    return sizes
