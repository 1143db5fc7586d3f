"""Reductions: sums, products, means, spreads, extremes and running totals along axes.

A public function makes `axis` a tuple of non-negative integers, so that a rule has one case to deal with.
"""

from __future__ import annotations

from typing import Any

from chainrule.core.primitive import Primitive, as_operand, composed, constant, general, linear
from chainrule.ops.axes import normalize_axes, normalize_axis, reduced_size
from chainrule.ops.creation import full
from chainrule.ops.elementwise import zero_safe
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


def _on_rows(xp: Any, function: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """`function(rows)` in the shape of `x`, where elements to be reduced together are a row of a matrix."""
    rest = tuple(i for i in range(len(x.shape)) if i not in axis)
    order = rest + axis
    moved = xp.permute_dims(x, order)
    rows = xp.reshape(moved, (reduced_size(x.shape, rest), reduced_size(x.shape, axis)))
    back = tuple(order.index(i) for i in range(len(order)))
    return xp.permute_dims(xp.reshape(function(rows), moved.shape), back)


def _products_before(xp: Any, x: Any) -> Any:
    """Along the last axis, the product of all elements before each."""
    ones = xp.ones_like(x[..., :1])
    return xp.cumulative_prod(xp.concat([ones, x[..., :-1]], axis=-1), axis=-1)


def _product_of_others(xp: Any, x: Any) -> Any:
    """Along the last axis, the product of all elements but each. No division: right where some are zero."""
    after = xp.flip(_products_before(xp, xp.flip(x, axis=-1)), axis=-1)
    return _products_before(xp, x) * after


def _product_gradient(xp: Any, x: Any, axis: tuple[int, ...]) -> Any:
    return _on_rows(xp, lambda rows: _product_of_others(xp, rows), x, axis)


def _product_rule(xp: Any, g: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _spread(xp, g, x.shape, axis, keepdims) * _product_gradient(xp, x, axis)


def _product_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: Any, keepdims: bool) -> Any:
    return xp.sum(tangents[0] * _product_gradient(xp, primals[0], axis), axis=axis, keepdims=keepdims)


_prod = general(
    "prod",
    lambda xp, x, *, axis, keepdims: xp.prod(x, axis=axis, keepdims=keepdims),
    _product_rule,
    push=_product_push,
    text="prod($x)", latex=r"\prod $x", local=[("$y/$x", r"\frac{$y}{$x}")],
)  # fmt: skip


# Spread -----------------------------------------------------------------------------------------------------


def _divisor(shape: tuple[int, ...], axis: tuple[int, ...], correction: float) -> float:
    n = reduced_size(shape, axis)
    return n - correction if n > correction else 0


def _centred(xp: Any, x: Any, axis: tuple[int, ...]) -> Any:
    return x - xp.sum(x, axis=axis, keepdims=True) / reduced_size(x.shape, axis)


def _var_value(xp: Any, x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    centred = _centred(xp, x, axis)
    return xp.sum(centred * centred, axis=axis, keepdims=keepdims) / _divisor(x.shape, axis, correction)


def _var_rule(xp: Any, g: Any, x: Any, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    g = g * 2 / _divisor(x.shape, axis, correction)
    return _spread(xp, g, x.shape, axis, keepdims) * _centred(xp, x, axis)


_var = composed(
    "var", _var_value, _var_rule,
    text="var($x)", latex=r"\operatorname{var}($x)",
    local=[("2($x − mean($x))/n", r"\frac{2}{n}($x - \overline{$x})")],
)  # fmt: skip

# Where all elements are equal the standard deviation has a kink, and its derivative is 0 by convention.


def _std_rule(xp: Any, g: Any, x: Any, y: Any, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    g = g / (zero_safe(xp, y) * _divisor(x.shape, axis, correction))
    return _spread(xp, g, x.shape, axis, keepdims) * _centred(xp, x, axis)


def _std_push(
    xp: Any, primals: Any, tangents: Any, y: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool
) -> Any:
    (x,), (t,) = primals, tangents
    pushed = xp.sum(t * _centred(xp, x, axis), axis=axis, keepdims=keepdims)
    return pushed / (zero_safe(xp, y) * _divisor(x.shape, axis, correction))


_std = general(
    "std", lambda xp, x, **params: xp.sqrt(_var_value(xp, x, **params)), _std_rule, push=_std_push,
    text="std($x)", latex=r"\operatorname{std}($x)",
    local=[("($x − mean($x))/(n·$y)", r"\frac{$x - \overline{$x}}{n $y}")],
)  # fmt: skip

# Extremes ---------------------------------------------------------------------------------------------------
# The winner takes the gradient. At a tie it is the first along the axis: the derivative is deterministic.


def _winner(xp: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """1 at the first extreme element of each group, 0 elsewhere."""
    if not keepdims:
        y = _keep(xp, y, x.shape, axis)
    hit = xp.astype((x == y) | ((x != x) & (y != y)), y.dtype)  # a NaN wins, as in the value

    def first(rows: Any) -> Any:
        best = xp.argmax(rows, axis=1, keepdims=True)
        return xp.astype(xp.arange(rows.shape[1], dtype=best.dtype) == best, y.dtype)  # the dtype names the library

    return _on_rows(xp, first, hit, axis)


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


# Running totals ---------------------------------------------------------------------------------------------


def _sums_from_here_on(xp: Any, g: Any, axis: int) -> Any:
    return xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis)


_cumulative_sum = linear(
    "cumulative_sum",
    lambda xp, x, *, axis: xp.cumulative_sum(x, axis=axis),
    _sums_from_here_on,
    text="cumsum($x)", latex=r"\operatorname{cumsum}($x)",
    local=[("flip(cumsum(flip(g)))", r"\operatorname{flip}(\operatorname{cumsum}(\operatorname{flip}(\delta)))")],
)  # fmt: skip


def _recurrence(xp: Any, factor: Any, term: Any) -> Any:
    """y with y_i = factor_i·y_(i−1) + term_i along the last axis, from y_(−1) = 0.

    In log n passes over the array, each joining every step with those before it (Hillis and Steele, 1986,
    "Data Parallel Algorithms"). It divides nothing, so zeros among the factors do no harm.
    """
    reach = 1
    while reach < term.shape[-1]:
        late = factor[..., reach:]
        term = xp.concat([term[..., :reach], late * term[..., :-reach] + term[..., reach:]], axis=-1)
        factor = xp.concat([factor[..., :reach], late * factor[..., :-reach]], axis=-1)
        reach *= 2
    return term


def _cumulative_prod_rule(xp: Any, g: Any, x: Any, axis: int) -> Any:
    """Σ_(i ≥ j) g_i ∏_(k ≤ i, k ≠ j) x_k = (∏_(k < j) x_k)·s_j with s_j = g_j + x_(j+1)·s_(j+1)."""
    g, x = xp.moveaxis(g, axis, -1), xp.moveaxis(x, axis, -1)
    following = xp.concat([x[..., 1:], xp.ones_like(x[..., :1])], axis=-1)
    suffix = xp.flip(_recurrence(xp, xp.flip(following, axis=-1), xp.flip(g, axis=-1)), axis=-1)
    return xp.moveaxis(_products_before(xp, x) * suffix, -1, axis)


def _cumulative_prod_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: int) -> Any:
    """dy_i = x_i·dy_(i−1) + dx_i·y_(i−1)."""
    t, x = xp.moveaxis(tangents[0], axis, -1), xp.moveaxis(primals[0], axis, -1)
    return xp.moveaxis(_recurrence(xp, x, t * _products_before(xp, x)), -1, axis)


_cumulative_prod = general(
    "cumulative_prod",
    lambda xp, x, *, axis: xp.cumulative_prod(x, axis=axis),
    _cumulative_prod_rule,
    push=_cumulative_prod_push,
    text="cumprod($x)", latex=r"\operatorname{cumprod}($x)",
    local=[("flip(cumsum(flip(g ⊙ $y)))/$x",
            r"\operatorname{flip}(\operatorname{cumsum}(\operatorname{flip}(\delta \odot $y))) / $x")],
)  # fmt: skip

_any = constant("any", lambda xp, x, *, axis, keepdims: xp.any(x, axis=axis, keepdims=keepdims))
_all = constant("all", lambda xp, x, *, axis, keepdims: xp.all(x, axis=axis, keepdims=keepdims))
_count_nonzero = constant(
    "count_nonzero",
    lambda xp, x, *, axis, keepdims: xp.sum(xp.astype(xp.astype(x, xp.bool), xp.int64), axis=axis, keepdims=keepdims),
)

# Public functions -------------------------------------------------------------------------------------------


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
    """Standard deviation over `axis`: the square root of `var`. Where it is zero, so is its derivative."""
    return _reduce(_std, x, axis, keepdims, correction=correction)


def max(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element over `axis`. The gradient goes to the first of equal winners."""
    return _extreme(_max, x, axis, keepdims)


def min(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element over `axis`. The gradient goes to the first of equal winners."""
    return _extreme(_min, x, axis, keepdims)


def _extreme(primitive: Primitive, x: Any, axis: Any, keepdims: bool) -> Any:
    x = as_operand(primitive.name, x)
    shape = tuple(x.shape)
    if 0 in shape and reduced_size(shape, normalize_axes(axis, len(shape), primitive.name)) == 0:
        raise ValueError(f"{primitive.name}: there is no extreme among no elements (shape {shape}, axis {axis})")
    return _reduce(primitive, x, axis, keepdims)


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
    shape = (*y.shape[:axis], 1, *y.shape[axis + 1 :])
    return concat([full(shape, initial, dtype=y.dtype, device=y.device), y], axis=axis)


def cumulative_sum(x: Any, /, axis: int | None = None, include_initial: bool = False) -> Any:
    """Running sums along `axis` (the flattened array for None); `include_initial` starts them with 0."""
    return _running(_cumulative_sum, x, axis, include_initial, 0)


def cumulative_prod(x: Any, /, axis: int | None = None, include_initial: bool = False) -> Any:
    """Running products along `axis`; `include_initial` starts them with 1.

    The derivative, of any order, is right where elements are zero.
    """
    return _running(_cumulative_prod, x, axis, include_initial, 1)
