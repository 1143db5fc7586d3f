"""NumPy's reductions with NumPy's arguments: `out`, `initial`, `where` and `ddof` beside axis, dtype and keepdims.

The derivatives are in `chainrule.ops.reductions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import PYTHON_SCALARS, namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import _raw
from chainrule.numpy.arguments import flag, in_dtype, into, is_default, masked, plain, refuse
from chainrule.numpy.dtypes import result_type
from chainrule.ops import elementwise, ordering, reductions

# Sums and products -------------------------------------------------------------------------------------------------


def sum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    """The sum over `axis`, plus `initial`, of the elements where `where` holds."""
    y = reductions.sum(in_dtype("sum", masked(a, where, 0), dtype), axis, keepdims=flag(keepdims))
    return into(out, y if is_default(initial) else y + initial, "sum")


def prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    """The product over `axis`, times `initial`, of the elements where `where` holds."""
    y = reductions.prod(in_dtype("prod", masked(a, where, 1), dtype), axis, keepdims=flag(keepdims))
    return into(out, y if is_default(initial) else y * initial, "prod")


def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sums along `axis`, of the flattened array for None."""
    return into(out, reductions.cumulative_sum(in_dtype("cumsum", a, dtype), axis), "cumsum")


def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running products along `axis`, of the flattened array for None."""
    return into(out, reductions.cumulative_prod(in_dtype("cumprod", a, dtype), axis), "cumprod")


def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    """Running sums along `axis`; `include_initial` starts them with 0."""
    x = _one_axis("cumulative_sum", x, axis)
    return into(
        out, reductions.cumulative_sum(in_dtype("cumulative_sum", x, dtype), axis, include_initial), "cumulative_sum"
    )


def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    """Running products along `axis`; `include_initial` starts them with 1."""
    x = _one_axis("cumulative_prod", x, axis)
    return into(
        out, reductions.cumulative_prod(in_dtype("cumulative_prod", x, dtype), axis, include_initial), "cumulative_prod"
    )


def _one_axis(name: str, x: Any, axis: Any) -> Any:
    x = as_operand(name, x)
    if axis is None and len(x.shape) != 1:
        raise ValueError(f"{name}: shape {tuple(x.shape)} has no single axis; name one with axis=")
    return x


# Means and spreads -------------------------------------------------------------------------------------------------


def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """The arithmetic mean over `axis` of the elements where `where` holds."""
    if is_default(where) or where is True:
        return into(out, reductions.mean(in_dtype("mean", a, dtype), axis, keepdims=flag(keepdims)), "mean")
    total = sum(a, axis, dtype, keepdims=keepdims, where=where)
    return into(out, total / _counted(total, a, where, axis, keepdims), "mean")


def _counted(total: Any, a: Any, where: Any, axis: Any, keepdims: Any) -> Any:
    """How many elements of each group `where` leaves in, as numbers like those of `total`."""
    mask = np.broadcast_to(np.asarray(_raw(where)), tuple(as_operand("mean", a).shape))
    count = np.count_nonzero(mask, axis, keepdims=flag(keepdims))
    dtype = total.dtype if "float" in str(total.dtype) else None
    return namespace_of(_raw(total)).asarray(count, dtype=dtype)


def var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    """The variance over `axis`: squared distances from the mean, summed and divided by n − `ddof`.

    `correction` is the array API's name for `ddof`.
    """
    refuse("var", mean=mean)
    return into(out, _variance("var", a, axis, dtype, ddof, keepdims, where, correction), "var")


def std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    """The standard deviation over `axis`: the root of `var`."""
    refuse("std", mean=mean)
    return into(out, _variance("std", a, axis, dtype, ddof, keepdims, where, correction), "std")


def _variance(name: str, a: Any, axis: Any, dtype: Any, ddof: Any, keepdims: Any, where: Any, correction: Any) -> Any:
    if not is_default(correction):
        if ddof != 0:
            raise ValueError(f"{name}: ddof and correction are two names of one argument; give one of them")
        ddof = correction
    a = in_dtype(name, a, dtype)
    if is_default(where) or where is True:
        return getattr(reductions, name)(a, axis, ddof, flag(keepdims))
    distance = masked(a - mean(a, axis, keepdims=True, where=where), where, 0)
    squares = reductions.sum(distance * distance, axis, keepdims=flag(keepdims))
    y = squares / (_counted(squares, a, where, axis, keepdims) - ddof)
    return elementwise.sqrt(y) if name == "std" else y


# Extremes ----------------------------------------------------------------------------------------------------------


def max(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    """The largest over `axis` of `initial` and the elements where `where` holds; the first of equals wins."""
    return into(out, _extreme("max", elementwise.maximum, a, axis, keepdims, initial, where), "max")


def min(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    """The smallest over `axis` of `initial` and the elements where `where` holds; the first of equals wins."""
    return into(out, _extreme("min", elementwise.minimum, a, axis, keepdims, initial, where), "min")


amax, amin = max, min


def _extreme(name: str, choose: Any, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    if is_default(initial):
        if not (is_default(where) or where is True):
            raise ValueError(f"{name}: with where= there may be no element left; give initial= for that case")
        return getattr(reductions, name)(a, axis, flag(keepdims))
    a = masked(a, where, initial)
    if 0 in a.shape:
        y = reductions.sum(a, axis, keepdims=flag(keepdims))  # there are only zeros, in the right shape
        return y + initial
    return choose(getattr(reductions, name)(a, axis, flag(keepdims)), initial)


def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """The largest less the smallest element over `axis`."""
    return into(out, max(a, axis, keepdims=keepdims) - min(a, axis, keepdims=keepdims), "ptp")


# Quantiles ---------------------------------------------------------------------------------------------------------


def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    """The middle element over `axis`, or the mean of the middle two."""
    return into(out, ordering.median(a, axis, flag(keepdims)), "median")


def quantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """The elements over `axis` below which lies the part `q` of them, linear between neighbours."""
    refuse("quantile", weights=weights, method=None if method == "linear" else method)
    return into(out, _quantile("quantile", a, q, axis, keepdims), "quantile")


def percentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """As `quantile`, with `q` between 0 and 100."""
    refuse("percentile", weights=weights, method=None if method == "linear" else method)
    return into(out, _quantile("percentile", a, q, axis, keepdims), "percentile")


def _quantile(name: str, a: Any, q: Any, axis: Any, keepdims: Any) -> Any:
    a, q = as_operand(name, a), plain(name, "q", q)
    dtype = result_type(a, q if type(q) in PYTHON_SCALARS else np.asarray(q).dtype)
    return getattr(ordering, name)(in_dtype(name, a, dtype), q, axis, flag(keepdims))


# Results without a gradient ----------------------------------------------------------------------------------------


def any(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    """Whether any element over `axis` is true, of those where `where` holds."""
    return into(out, reductions.any(masked(a, where, False), axis, flag(keepdims)), "any")


def all(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    """Whether all elements over `axis` are true, of those where `where` holds."""
    return into(out, reductions.all(masked(a, where, True), axis, flag(keepdims)), "all")


def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """How many elements over `axis` are not zero."""
    return reductions.count_nonzero(a, axis, flag(keepdims))


def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """The index of the first largest element along `axis`, or in the flattened array for None."""
    return into(out, ordering.argmax(a, axis, flag(keepdims)), "argmax")


def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """The index of the first smallest element along `axis`, or in the flattened array for None."""
    return into(out, ordering.argmin(a, axis, flag(keepdims)), "argmin")


__all__ = [
    *("sum", "prod", "cumsum", "cumprod", "cumulative_sum", "cumulative_prod"),
    *("mean", "var", "std", "max", "min", "amax", "amin", "ptp", "median", "quantile", "percentile"),
    *("any", "all", "count_nonzero", "argmax", "argmin"),
]
