"""Reductions: sums, products, means, spreads, extremes and running totals along axes.

A public function makes `axis` a tuple of non-negative integers, so that a rule has one case to deal with.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.core.primitive import Primitive, as_operand, composed, constant, general, linear
from chainrule.ops.axes import normalize_axes, normalize_axis, reduced_size
from chainrule.ops.elementwise import sqrt
from chainrule.ops.joining import concat
from chainrule.ops.layout import astype, reshape


def _spread(xp: Any, g: Any, shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool) -> Any:
    """`g`, one value per group of reduced elements, copied to every element: the transpose of a sum."""
    if not keepdims and g.shape != ():
        g = _keep(xp, g, shape, axis)
    return xp.broadcast_to(g, shape)


def _keep(xp: Any, y: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """`y` with the reduced axes put back as length 1."""
    return xp.reshape(y, tuple(1 if i in axis else n for i, n in enumerate(shape)))


_sum = linear(
    "sum",
    lambda xp, x, *, axis, keepdims: xp.sum(x, axis=axis, keepdims=keepdims),
    lambda xp, g, x_shape, axis, keepdims: _spread(xp, g, x_shape, axis, keepdims),
    text="sum($x)", latex=r"\sum $x", local=[("1", "1")],
)  # fmt: skip

_mean = linear(
    "mean",
    lambda xp, x, *, axis, keepdims: xp.sum(x, axis=axis, keepdims=keepdims) / reduced_size(x.shape, axis),
    lambda xp, g, x_shape, axis, keepdims: _spread(
        xp, g / reduced_size(x_shape, axis), x_shape, axis, keepdims
    ),
    text="mean($x)", latex=r"\overline{$x}", local=[("1/n", r"\frac{1}{n}")],
)  # fmt: skip


def _product_rule(xp: Any, g: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """g times the product of all *other* elements of the group, right where elements are zero.

    Products of everything before and of everything after an element need no division.
    """
    rest = tuple(i for i in range(len(x.shape)) if i not in axis)
    order = rest + axis
    back = tuple(order.index(i) for i in range(len(order)))
    moved = xp.permute_dims(x, order)
    rows = xp.reshape(moved, (math.prod(x.shape[i] for i in rest), reduced_size(x.shape, axis)))
    others = _product_of_others(xp, rows)
    others = xp.permute_dims(xp.reshape(others, moved.shape), back)
    return _spread(xp, g, x.shape, axis, keepdims) * others


def _product_of_others(xp: Any, rows: Any) -> Any:
    ones = xp.ones_like(rows[:, :1])
    before = xp.cumulative_prod(xp.concat([ones, rows[:, :-1]], axis=1), axis=1)
    after = xp.cumulative_prod(xp.flip(xp.concat([rows[:, 1:], ones], axis=1), axis=1), axis=1)
    return before * xp.flip(after, axis=1)


def _product_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: Any, keepdims: bool) -> Any:
    one = xp.ones_like(xp.sum(primals[0], axis=axis, keepdims=True))
    return xp.sum(tangents[0] * _product_rule(xp, one, primals[0], axis, True), axis=axis, keepdims=keepdims)


_prod = general(
    "prod",
    lambda xp, x, *, axis, keepdims: xp.prod(x, axis=axis, keepdims=keepdims),
    _product_rule,
    push=_product_push,
    text="prod($x)", latex=r"\prod $x", local=[("$y/$x", r"\frac{$y}{$x}")],
)  # fmt: skip


def _divisor(n: int, correction: float) -> float:
    return n - correction if n > correction else 0


def _var_value(xp: Any, x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    n = reduced_size(x.shape, axis)
    centred = x - xp.sum(x, axis=axis, keepdims=True) / n
    return xp.sum(centred * centred, axis=axis, keepdims=keepdims) / _divisor(n, correction)


def _var_rule(xp: Any, g: Any, x: Any, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    n = reduced_size(x.shape, axis)
    centred = x - xp.sum(x, axis=axis, keepdims=True) / n
    return _spread(xp, g * (2 / _divisor(n, correction)), x.shape, axis, keepdims) * centred


_var = composed(
    "var", _var_value, _var_rule,
    text="var($x)", latex=r"\operatorname{var}($x)", local=[("2($x − mean($x))/n", r"\frac{2}{n}($x - \overline{$x})")],
)  # fmt: skip


# The winner takes the gradient. At a tie it is the first along the axis, so that the derivative is deterministic.


def _winner(xp: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """1 at the first extreme element of each group, 0 elsewhere."""
    if not keepdims:
        y = _keep(xp, y, x.shape, axis)
    hit = xp.astype((x == y) | ((x != x) & (y != y)), y.dtype)  # a NaN wins, as in the value
    rest = tuple(i for i in range(len(x.shape)) if i not in axis)
    order = rest + axis
    back = tuple(order.index(i) for i in range(len(order)))
    moved = xp.permute_dims(hit, order)
    rows = xp.reshape(moved, (math.prod(x.shape[i] for i in rest), reduced_size(x.shape, axis)))
    first = rows * xp.astype(xp.cumulative_sum(rows, axis=1) == 1, y.dtype)
    return xp.permute_dims(xp.reshape(first, moved.shape), back)


def _extreme_rule(xp: Any, g: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _spread(xp, g, x.shape, axis, keepdims) * _winner(xp, x, y, axis, keepdims)


def _extreme_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: Any, keepdims: bool) -> Any:
    return xp.sum(tangents[0] * _winner(xp, primals[0], y, axis, keepdims), axis=axis, keepdims=keepdims)


_max = general(
    "max", lambda xp, x, *, axis, keepdims: xp.max(x, axis=axis, keepdims=keepdims), _extreme_rule,
    push=_extreme_push,
    text="max($x)", latex=r"\max $x", local=[("1[winner]", r"\mathbb{1}[$x = $y]")],
)  # fmt: skip
_min = general(
    "min", lambda xp, x, *, axis, keepdims: xp.min(x, axis=axis, keepdims=keepdims), _extreme_rule,
    push=_extreme_push,
    text="min($x)", latex=r"\min $x", local=[("1[winner]", r"\mathbb{1}[$x = $y]")],
)  # fmt: skip


def _exclusive_flip_sum(xp: Any, g: Any, axis: int) -> Any:
    return xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis)


_cumulative_sum = linear(
    "cumulative_sum",
    lambda xp, x, *, axis: xp.cumulative_sum(x, axis=axis),
    _exclusive_flip_sum,
    text="cumsum($x)", latex=r"\operatorname{cumsum}($x)",
)  # fmt: skip


def _cumulative_prod_jacobian(xp: Any, x: Any) -> Any:
    """J[..., i, j] = dy_i/dx_j for running products along the last axis: quadratic, but right at zeros.

    y_i is a product of the first i+1 elements; leaving out element j is the same product with x_j replaced by 1.
    """
    n = x.shape[-1]
    eye = xp.eye(n, dtype=x.dtype)
    without = xp.expand_dims(x, axis=-2) * (1 - eye) + eye  # row j: x with 1 in place j
    running = xp.cumulative_prod(without, axis=-1)  # [..., j, i]
    return xp.matrix_transpose(running * xp.triu(xp.ones_like(eye)))


def _cumulative_prod_rule(xp: Any, g: Any, x: Any, axis: int) -> Any:
    g, x = xp.moveaxis(g, axis, -1), xp.moveaxis(x, axis, -1)
    pulled = xp.matmul(xp.expand_dims(g, axis=-2), _cumulative_prod_jacobian(xp, x))
    return xp.moveaxis(pulled[..., 0, :], -1, axis)


def _cumulative_prod_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: int) -> Any:
    t, x = xp.moveaxis(tangents[0], axis, -1), xp.moveaxis(primals[0], axis, -1)
    pushed = xp.matmul(_cumulative_prod_jacobian(xp, x), xp.expand_dims(t, axis=-1))
    return xp.moveaxis(pushed[..., 0], -1, axis)


_cumulative_prod = general(
    "cumulative_prod",
    lambda xp, x, *, axis: xp.cumulative_prod(x, axis=axis),
    _cumulative_prod_rule,
    push=_cumulative_prod_push,
    text="cumprod($x)", latex=r"\operatorname{cumprod}($x)",
)  # fmt: skip

_any = constant("any", lambda xp, x, *, axis, keepdims: xp.any(x, axis=axis, keepdims=keepdims))
_all = constant("all", lambda xp, x, *, axis, keepdims: xp.all(x, axis=axis, keepdims=keepdims))
_count_nonzero = constant(
    "count_nonzero", lambda xp, x, *, axis, keepdims: xp.count_nonzero(x, axis=axis, keepdims=keepdims)
)

# Public functions --------------------------------------------------------------------------------------------------


def _reduce(primitive: Primitive, x: Any, axis: Any, keepdims: bool, **params: Any) -> Any:
    x = as_operand(primitive.name, x)
    axes = normalize_axes(axis, len(x.shape), primitive.name)
    return primitive(x, axis=axes, keepdims=bool(keepdims), **params)


def sum(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Sum over `axis` (an integer, a tuple, or None for all), in `dtype` if given."""
    return _reduce(_sum, x if dtype is None else astype(x, dtype), axis, keepdims)


def prod(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Product over `axis`; the gradient is right where elements are zero."""
    return _reduce(_prod, x if dtype is None else astype(x, dtype), axis, keepdims)


def mean(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over `axis`."""
    return _reduce(_mean, x if dtype is None else astype(x, dtype), axis, keepdims)


def var(x: Any, /, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Variance over `axis`, divided by n − `correction`."""
    return _reduce(_var, x, axis, keepdims, correction=correction)


def std(x: Any, /, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Standard deviation over `axis`: the square root of `var`."""
    return sqrt(var(x, axis, correction, keepdims))


def max(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element over `axis`. The gradient goes to the first of equal winners."""
    return _reduce(_max, x, axis, keepdims)


def min(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element over `axis`. The gradient goes to the first of equal winners."""
    return _reduce(_min, x, axis, keepdims)


def any(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether any element over `axis` is true (or non-zero)."""
    return _reduce(_any, x, axis, keepdims)


def all(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements over `axis` are true (or non-zero)."""
    return _reduce(_all, x, axis, keepdims)


def count_nonzero(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Number of elements over `axis` that are not zero."""
    return _reduce(_count_nonzero, x, axis, keepdims)


def _running(primitive: Primitive, x: Any, axis: int | None, include_initial: bool, initial: float) -> Any:
    x = as_operand(primitive.name, x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis(axis, len(x.shape), primitive.name)
    y = primitive(x, axis=axis)
    if not include_initial:
        return y
    first = XX
    return concat([first, y], axis=axis)


def cumulative_sum(x: Any, /, axis: int | None = None, include_initial: bool = False) -> Any:
    """Running sums along `axis` (the flattened array for None); `include_initial` starts them with 0."""
    return _running(_cumulative_sum, x, axis, include_initial, 0)


def cumulative_prod(x: Any, /, axis: int | None = None, include_initial: bool = False) -> Any:
    """Running products along `axis`; `include_initial` starts them with 1.

    The derivative is right where elements are zero, at the price of a Jacobian of n × n per row of n.
    """
    return _running(_cumulative_prod, x, axis, include_initial, 1)
