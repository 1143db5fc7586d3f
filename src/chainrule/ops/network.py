"""The steps of a network: activations, softmax and its losses, normalisation, dropout.

Each is one step on a whiteboard and one primitive here, with the vector-Jacobian product a textbook gives. Modules
are in `chainrule.nn`, matrix products in `products`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.namespace import fast_numpy, namespace_of
from chainrule.core.native import FEWEST_ELEMENTS
from chainrule.core.primitive import as_operand, composed, elementwise, linear
from chainrule.core.tensor import _raw
from chainrule.ops.axes import normalize_axes, normalize_axis, reduced_size
from chainrule.ops.layout import reshape
from chainrule.ops.special import erf, sigmoid

# Activations -------------------------------------------------------------------------------------------------------

relu = elementwise(
    "relu", lambda xp, x: xp.maximum(x, 0), lambda y: y > 0, gate=True,
    native=FEWEST_ELEMENTS,
    text="relu($x)", latex=r"\operatorname{ReLU}($x)", local=[("1[$x > 0]", r"\mathbb{1}[$x > 0]")],
)  # fmt: skip

_leaky_relu = elementwise(
    "leaky_relu",
    lambda xp, x, *, negative_slope: xp.where(x > 0, x, negative_slope * x),
    lambda xp, x, negative_slope: xp.where(x > 0, xp.ones_like(x), negative_slope),
    native=FEWEST_ELEMENTS, text="leaky_relu($x)", latex=r"\operatorname{LeakyReLU}($x)",
    local=[("1 if $x > 0 else slope", r"\mathbb{1}[$x > 0] + a \mathbb{1}[$x \le 0]")],
)  # fmt: skip

_elu = elementwise(
    "elu",
    lambda xp, x, *, alpha: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
    lambda xp, x, alpha: xp.where(x > 0, xp.ones_like(x), alpha * xp.exp(xp.minimum(x, 0))),
    native=FEWEST_ELEMENTS, text="elu($x)", latex=r"\operatorname{ELU}($x)",
    local=[("1 if $x > 0 else α·exp($x)", r"\mathbb{1}[$x > 0] + \alpha e^{$x} \mathbb{1}[$x \le 0]")],
)  # fmt: skip

_INVERSE_ROOT_2 = 1 / math.sqrt(2)
_INVERSE_ROOT_2PI = 1 / math.sqrt(2 * math.pi)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)


def _normal_cdf(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + erf.on(xp, x * _INVERSE_ROOT_2))


def _gelu_value(xp: Any, x: Any) -> Any:
    return x * _normal_cdf(xp, x)


def _gelu_derivative(xp: Any, x: Any) -> Any:
    return _normal_cdf(xp, x) + x * (_INVERSE_ROOT_2PI * xp.exp(-0.5 * x * x))


# x·Φ(x), Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2
_gelu_exact = elementwise(
    "gelu", _gelu_value, _gelu_derivative,
    native=FEWEST_ELEMENTS,
    text="$x·Φ($x)", latex=r"$x \Phi($x)", local=[("Φ($x) + $x·φ($x)", r"\Phi($x) + $x \varphi($x)")],
)  # fmt: skip


def _gelu_inner(xp: Any, x: Any) -> Any:
    return xp.tanh(_ROOT_2_OVER_PI * (x + 0.044715 * x * x * x))


def _gelu_tanh_derivative(xp: Any, x: Any) -> Any:
    t = _gelu_inner(xp, x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_ROOT_2_OVER_PI * (1 + 0.134145 * x * x))


_gelu_tanh = elementwise(
    "gelu_tanh", lambda xp, x: 0.5 * x * (1 + _gelu_inner(xp, x)), _gelu_tanh_derivative,
    native=FEWEST_ELEMENTS, text="gelu_tanh($x)", latex=r"\operatorname{GELU}_{\tanh}($x)",
    local=[("(1 + t + $x·(1 − t²)·√(2/π)·(1 + 0.134145·$x²))/2 with t = tanh(√(2/π)·($x + 0.044715·$x³))",
            r"\tfrac12 \left(1 + t + $x (1 - t^2) \sqrt{\tfrac{2}{\pi}} (1 + 0.134145 $x^2)\right)"
            r"\text{ with } t = \tanh\left(\sqrt{\tfrac{2}{\pi}} ($x + 0.044715 $x^3)\right)")],
)  # fmt: skip

# x·σ(x), Elfwing et al. 2017, "Sigmoid-Weighted Linear Units"
silu = elementwise(
    "silu",
    lambda xp, x: x * sigmoid.on(xp, x),
    lambda xp, x: (s := sigmoid.on(xp, x)) * (1 + x * (1 - s)),
    native=FEWEST_ELEMENTS, text="$x·σ($x)", latex=r"$x \sigma($x)",
    local=[("σ($x)(1 + $x(1 − σ($x)))", r"\sigma($x)(1 + $x(1 - \sigma($x)))")],
)  # fmt: skip

# ln(1 + exp(βx))/β without overflow
_softplus = elementwise(
    "softplus",
    lambda xp, x, *, beta: xp.logaddexp(x * beta, xp.zeros_like(x)) / beta,
    lambda xp, x, beta: sigmoid.on(xp, x * beta),
    native=FEWEST_ELEMENTS, text="softplus($x)", latex=r"\ln(1 + e^{$x})", local=[("σ($x)", r"\sigma($x)")],
)  # fmt: skip


def leaky_relu(x: Any, /, negative_slope: float = 0.01) -> Any:
    """`x` where positive, `negative_slope * x` elsewhere."""
    return _leaky_relu(x, negative_slope=negative_slope)


def elu(x: Any, /, alpha: float = 1.0) -> Any:
    """`x` where positive, `alpha * (exp(x) - 1)` elsewhere (Clevert et al. 2015)."""
    return _elu(x, alpha=alpha)


def gelu(x: Any, /, approximate: str = "none") -> Any:
    """x·Φ(x) exactly, or with `approximate="tanh"` by the tanh formula (Hendrycks and Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu_exact(x) if approximate == "none" else _gelu_tanh(x)


def softplus(x: Any, /, beta: float = 1.0) -> Any:
    """ln(1 + exp(beta·x))/beta, a smooth `relu`, without overflow."""
    return _softplus(x, beta=beta)


# Softmax and its logarithm -----------------------------------------------------------------------------------------


def _softmax_value(xp: Any, x: Any, *, axis: int) -> Any:
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


_softmax = composed(
    "softmax",
    _softmax_value,
    lambda xp, g, y, axis: y * (g - xp.sum(g * y, axis=axis, keepdims=True)),
    native=FEWEST_ELEMENTS, text="softmax($x)", latex=r"\operatorname{softmax}($x)",
    local=[("$y ⊙ (g − Σ(g ⊙ $y))", r"$y \odot \left(\delta - \textstyle\sum \delta \odot $y\right)")],
)  # fmt: skip


def _log_softmax_value(xp: Any, x: Any, *, axis: int) -> Any:
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


_log_softmax = composed(
    "log_softmax",
    _log_softmax_value,
    lambda xp, g, y, axis: g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True),
    native=FEWEST_ELEMENTS, text="log_softmax($x)", latex=r"\ln \operatorname{softmax}($x)",
    local=[("g − exp($y) ⊙ Σ(g)", r"\delta - e^{$y} \odot \textstyle\sum \delta")],
)  # fmt: skip


class _Exponentials(NamedTuple):
    """Σexp(x) as exp(top)·total.

    Attributes:
        terms: exp(x − the maximum), or if there are rows, exp(x − the row's maximum).
        weight: of a row's terms in the total; 1 if there are no rows.
        total, top: with axes of length 1 where they were reduced.
    """

    terms: Any
    weight: Any
    total: Any
    top: Any


def _exponentials(xp: Any, x: Any, axis: tuple[int, ...]) -> _Exponentials:
    rows = _rows(xp, x, axis)
    if rows is x:
        top = _finite(xp, xp.max(x, axis=axis, keepdims=True))  # all −∞: the sum is 0, not NaN
        terms = xp.exp(x - top)
        return _Exponentials(terms, 1, xp.sum(terms, axis=axis, keepdims=True), top)
    tops = xp.max(rows, axis=1, keepdims=True)
    terms = xp.exp(rows - _finite(xp, tops))
    top = _finite(xp, xp.max(tops, axis=(0, 1), keepdims=True))
    weight = xp.exp(xp.where(xp.isfinite(tops) | (tops < 0), tops, 0) - top)
    total = xp.sum(xp.sum(terms, axis=1, keepdims=True) * weight, axis=(0, 1), keepdims=True)
    return _Exponentials(terms, weight, total, top)


def _finite(xp: Any, x: Any) -> Any:
    """x, and 0 where that is infinite or not a number."""
    return xp.where(xp.isfinite(x), x, 0)


#: The longest row that a core's nearest cache holds beside what is made of it.
_ROW = 1024


def _rows(xp: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """All of a long array as rows of one length, for a compiler, which runs a row through all steps at once; else x."""
    size = math.prod(x.shape)
    if not hasattr(xp, "verify") or len(axis) < len(x.shape) or size <= _ROW:
        return x
    length = next((n for n in range(_ROW, _ROW // 8, -1) if size % n == 0), size)
    return x if length == size else xp.reshape(x, (size // length, length))


def _logsumexp_value(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    parts = _exponentials(xp, x, axis)
    y = xp.log(parts.total) + parts.top
    if len(y.shape) != len(x.shape):  # from rows
        y = xp.reshape(y, (1,) * len(x.shape))
    return y if keepdims else xp.squeeze(y, axis=axis)


def _logsumexp_rule(xp: Any, g: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    if not keepdims:
        g, y = xp.expand_dims(g, axis=axis), xp.expand_dims(y, axis=axis)
    if not hasattr(xp, "verify"):
        return g * xp.exp(x - _finite(xp, y))
    parts = _exponentials(xp, x, axis)  # those of the value: a compiler sees that they are, and has them
    if len(parts.total.shape) != len(x.shape):
        g, y = xp.reshape(g, (1, 1)), xp.reshape(y, (1, 1))
    of_row = g * parts.weight / xp.where(xp.isfinite(y), parts.total, 1)
    return xp.reshape(parts.terms * of_row, x.shape)


_logsumexp = composed(
    "logsumexp", _logsumexp_value, _logsumexp_rule,
    text="logsumexp($x)", latex=r"\ln \textstyle\sum e^{$x}", local=[("exp($x − $y)", "e^{$x - $y}")],
)  # fmt: skip


def softmax(x: Any, /, axis: int = -1) -> Any:
    """exp(x)/Σexp(x) along `axis`."""
    x = as_operand("softmax", x)
    return _softmax(x, axis=normalize_axis(axis, len(x.shape), "softmax"))


def log_softmax(x: Any, /, axis: int = -1) -> Any:
    """The logarithm of `softmax` along `axis`, without overflow."""
    x = as_operand("log_softmax", x)
    return _log_softmax(x, axis=normalize_axis(axis, len(x.shape), "log_softmax"))


def logsumexp(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """ln Σexp(x) over `axis`, without overflow."""
    x = as_operand("logsumexp", x)
    axes = normalize_axes(axis, len(x.shape), "logsumexp")
    if not axes:
        return x + 0
    return _logsumexp(x, axis=axes, keepdims=bool(keepdims))


# Losses on logits --------------------------------------------------------------------------------------------------


def _one_hot(xp: Any, targets: Any, classes: int, dtype: Any) -> Any:
    return xp.astype(xp.expand_dims(targets, axis=-1) == xp.arange(classes), dtype)


def _cross_entropy_value(xp: Any, z: Any, targets: Any, *, reduction: str) -> Any:
    """The loss over rows of logits, and the probabilities, which the rule reads."""
    shifted = z - xp.max(z, axis=-1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=-1, keepdims=True)
    if xp is fast_numpy and len(z.shape) == 2:
        at_target = shifted[_rows_and(targets)]
    else:
        at_target = xp.sum(shifted * _one_hot(xp, targets, z.shape[-1], z.dtype), axis=-1)
    losses = xp.log(total[..., 0]) - at_target
    if reduction != "none":
        losses = xp.sum(losses, axis=tuple(range(len(losses.shape))))
        if reduction == "mean":
            losses = losses / math.prod(targets.shape)
    return losses, e / total


def _rows_and(targets: Any) -> tuple:
    return np.arange(targets.shape[0]), targets


def _cross_entropy_rule(xp: Any, g: Any, p: Any, targets: Any, reduction: str) -> Any:
    """(p − one-hot)·g, and where p itself is differentiated, the product with its Jacobian too."""
    g, g_p = g if type(g) is list else (g, None)
    total: Any = 0
    if g is not None:
        if reduction == "none":
            g = xp.expand_dims(g, axis=-1)
        elif reduction == "mean":
            g = g / math.prod(targets.shape)
        if xp is fast_numpy and len(p.shape) == 2:
            total = p * g
            total[_rows_and(targets)] -= g[:, 0] if reduction == "none" else g
        else:
            total = (p - _one_hot(xp, targets, p.shape[-1], p.dtype)) * g
    return total if g_p is None else total + p * (g_p - xp.sum(g_p * p, axis=-1, keepdims=True))


def _p_minus_y(shape: tuple[int, ...], reduction: str) -> tuple[str, str]:
    averaged = reduction == "mean" and math.prod(shape[:-1]) > 1
    return ("(p − y)/n", r"\frac{p - y}{n}") if averaged else ("p − y", "p - y")


# The gradient p − y: Bridle 1990; Goodfellow, Bengio, Courville 2016, "Deep Learning", section 6.2.2.3
cross_entropy_step = composed(
    "cross_entropy", _cross_entropy_value, _cross_entropy_rule, None, residuals=["p"],
    native=FEWEST_ELEMENTS, text="cross_entropy($z, $targets)", latex=r"-\ln \operatorname{softmax}($z)_{$targets}",
    local=[_p_minus_y],
)  # fmt: skip


def cross_entropy_with_logits(logits: Any, targets: Any, /, reduction: str = "none") -> Any:
    """−ln softmax(logits)[target] for each row, or the mean or sum over all of them.

    Args:
        logits: shape (..., classes).
        targets: class indices, integers of shape (...).
        reduction: "none", "mean" or "sum".

    Returns:
        Losses of shape (...), or a scalar.

    Raises:
        TypeError: targets are not integers.
        ValueError: shapes do not fit, or a target is not a class.
    """
    logits, targets = as_operand("cross_entropy", logits), as_operand("cross_entropy", targets)
    raw = _raw(targets)
    check_targets("cross_entropy", logits, raw)
    if getattr(targets, "_value", None) is not raw:  # of a tensor, the value needs no protection
        targets = raw
    return cross_entropy_step(logits, targets, reduction=reduction)[0]


def check_targets(name: str, logits: Any, targets: Any) -> None:
    """That `targets` has one class index for each row of `logits`.

    Raises:
        TypeError: targets are not integers.
        ValueError: shapes do not fit, or a target is not a class.
    """
    if logits.shape[:-1] != targets.shape or not logits.shape:
        raise ValueError(
            f"{name}: logits of shape {tuple(logits.shape)} need targets of shape {tuple(logits.shape[:-1])}, "
            f"got {tuple(targets.shape)}"
        )
    classes = logits.shape[-1]
    xp = namespace_of(targets)
    if hasattr(xp, "verify") and "int" in str(targets.dtype):  # looked at in every run of a compiled program
        xp.verify((targets >= 0) & (targets < classes), f"{name}: a target is none of the {classes} classes")
        return
    if type(targets) is np.ndarray and targets.dtype == np.int64:
        if not targets.size or targets.view(np.uint64).max() < classes:  # a negative number is a huge unsigned one
            return
    elif "int" not in str(targets.dtype):
        raise TypeError(f"{name}: targets must be class indices (integers), got {targets.dtype}")
    elif not math.prod(targets.shape) or 0 <= int(targets.min()) <= int(targets.max()) < classes:
        return
    raise ValueError(
        f"{name}: targets run from {int(targets.min())} to {int(targets.max())}, "
        f"but the logits have classes 0 to {classes - 1}"
    )


# max(z, 0) − z·t + ln(1 + exp(−|z|)); its derivative with respect to z is σ(z) − t
binary_cross_entropy_with_logits = elementwise(
    "binary_cross_entropy",
    lambda xp, z, t: xp.maximum(z, 0) - z * t + xp.log1p(xp.exp(-xp.abs(z))),
    lambda xp, z, t: sigmoid.on(xp, z) - t,
    lambda z: -z,
    text="bce($z, $t)", latex=r"-$t \ln \sigma($z) - (1 - $t) \ln(1 - \sigma($z))",
    local=[("σ($z) − $t", r"\sigma($z) - $t"), ("−$z", "-$z")],
)  # fmt: skip

# Normalisation -----------------------------------------------------------------------------------------------------
# With x̂ = (x − μ)/√(v + ε), y = x̂·w + b over the axes the statistics are taken from (n elements):
#     dx = (1/√(v + ε))·(ĝ − mean(ĝ) − x̂·mean(ĝ⊙x̂)),  ĝ = g·w
# Ioffe and Szegedy 2015, "Batch Normalization", section 3; Ba et al. 2016 for layer normalisation. The three terms
# are the direct path, the path through the mean and the path through the variance.


def _normalize_value(xp: Any, x: Any, weight: Any, bias: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    n = reduced_size(x.shape, axis)
    mean = xp.sum(x, axis=axis, keepdims=True) / n
    centred = x - mean
    var = xp.sum(centred * centred, axis=axis, keepdims=True) / n
    return centred * (1 / xp.sqrt(var + eps)) * weight + bias, mean, var


def _normalize_x(xp: Any, g: Any, x: Any, weight: Any, mean: Any, var: Any, axis: tuple, eps: float) -> Any:
    g, g_mean, g_var = g if type(g) is list else (g, None, None)
    n = reduced_size(x.shape, axis)
    centred = x - mean
    dx = 0
    if g is not None:
        scale = 1 / xp.sqrt(var + eps)
        normal = centred * scale
        g = g * weight
        through_mean = xp.sum(g, axis=axis, keepdims=True) / n
        through_var = xp.sum(g * normal, axis=axis, keepdims=True) / n
        dx = scale * (g - through_mean - normal * through_var)
    if g_mean is not None:
        dx = dx + g_mean / n
    return dx if g_var is None else dx + g_var * (2 / n) * centred


def _normalize_weight(xp: Any, g: Any, x: Any, mean: Any, var: Any, eps: float) -> Any:
    g = g[0] if type(g) is list else g
    return xp.zeros_like(mean) if g is None else g * ((x - mean) * (1 / xp.sqrt(var + eps)))


def _normalize_bias(xp: Any, g: Any, mean: Any) -> Any:
    g = g[0] if type(g) is list else g
    return xp.zeros_like(mean) if g is None else g


_THREE_TERMS = (
    "(ĝ − mean(ĝ) − x̂ ⊙ mean(ĝ ⊙ x̂))/√(var + $eps) with ĝ = g ⊙ $weight, x̂ = ($x − mean)/√(var + $eps)",
    r"\frac{1}{\sqrt{v + \varepsilon}}"
    r"\left(\hat g - \overline{\hat g} - \hat x \odot \overline{\hat g \odot \hat x}\right)"
    r"\text{ with } \hat g = \delta \odot $weight,\ \hat x = \frac{$x - \mu}{\sqrt{v + \varepsilon}}",
)
_NORMAL = "($x − mean)/√(var + $eps)", r"\frac{$x - \mu}{\sqrt{v + \varepsilon}}"


def _normalization(name: str) -> Any:
    return composed(
        name, _normalize_value, _normalize_x, _normalize_weight, _normalize_bias, residuals=["mean", "var"],
        native=FEWEST_ELEMENTS, text=f"{name}($x)·$weight + $bias",
        latex=r"\frac{$x - \mu}{\sqrt{v + \varepsilon}} \odot $weight + $bias",
        local=[
            _THREE_TERMS,
            (f"Σ(g ⊙ {_NORMAL[0]})", rf"\textstyle\sum \delta \odot {_NORMAL[1]}"),
            ("Σ g", r"\textstyle\sum \delta"),
        ],
    )  # fmt: skip


batch_norm_step = _normalization("batch_norm")
layer_norm_step = _normalization("layer_norm")
group_norm_step = _normalization("group_norm")


def batch_norm(x: Any, weight: Any, bias: Any, /, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """Each channel (axis 1) normalised by its own statistics over the batch and all further axes.

    Args:
        x: shape (batch, channels, ...).
        weight, bias: shape (channels,).

    Returns:
        y of the shape of `x`; the batch's mean and (biased) variance, shape (channels,), as constants.
    """
    x = as_operand("batch_norm", x)
    axis = (0, *range(2, len(x.shape)))
    y, mean, var = batch_norm_step(x, _per_channel(weight, x), _per_channel(bias, x), axis=axis, eps=eps)
    return y, mean.reshape(-1), var.reshape(-1)


def _per_channel(parameter: Any, x: Any) -> Any:
    """`parameter`, one value per channel, in a shape that broadcasts against `x` along axis 1."""
    return parameter if len(x.shape) == 2 else parameter.reshape((-1,) + (1,) * (len(x.shape) - 2))


def layer_norm(x: Any, weight: Any, bias: Any, /, eps: float = 1e-5) -> Any:
    """`x` normalised over its last axes, those of `weight` and `bias`."""
    x = as_operand("layer_norm", x)
    axis = tuple(range(len(x.shape) - len(weight.shape), len(x.shape)))
    return layer_norm_step(x, weight, bias, axis=axis, eps=eps)[0]


def group_norm(x: Any, weight: Any, bias: Any, /, num_groups: int, eps: float = 1e-5) -> Any:
    """Each of `num_groups` groups of channels (axis 1) of a sample normalised by its own statistics.

    Args:
        x: shape (batch, channels, ...).
        weight, bias: shape (channels,).

    Source: Wu and He 2018, "Group Normalization", equations 1, 2 and 7.
    """
    x = as_operand("group_norm", x)
    batch, channels, *further = x.shape
    size = channels // num_groups
    split = reshape(x, (batch, num_groups, size, *further))
    weight, bias = (
        reshape(as_operand("group_norm", p), (num_groups, size, *(1,) * len(further))) for p in (weight, bias)
    )
    y = group_norm_step(split, weight, bias, axis=tuple(range(2, len(split.shape))), eps=eps)[0]
    return reshape(y, tuple(x.shape))


# With x̂ = x/√(q + ε), q the mean of x² over the axes (n elements), and y = x̂·w:
#     dx = (1/√(q + ε))·(ĝ − x̂·mean(ĝ⊙x̂)),  ĝ = g·w
# Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.


def _rms_norm_value(xp: Any, x: Any, weight: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    mean_square = xp.sum(x * x, axis=axis, keepdims=True) / reduced_size(x.shape, axis)
    return x / xp.sqrt(mean_square + eps) * weight, mean_square


def _rms_norm_x(xp: Any, g: Any, x: Any, weight: Any, mean_square: Any, axis: tuple, eps: float) -> Any:
    g, g_square = g if type(g) is list else (g, None)
    n = reduced_size(x.shape, axis)
    dx = 0
    if g is not None:
        scale = 1 / xp.sqrt(mean_square + eps)
        normal = x * scale
        g = g * weight
        dx = scale * (g - normal * (xp.sum(g * normal, axis=axis, keepdims=True) / n))
    return dx if g_square is None else dx + g_square * (2 / n) * x


def _rms_norm_weight(xp: Any, g: Any, x: Any, mean_square: Any, eps: float) -> Any:
    g = g[0] if type(g) is list else g
    return xp.zeros_like(mean_square) if g is None else g * (x / xp.sqrt(mean_square + eps))


_rms_norm = composed(
    "rms_norm", _rms_norm_value, _rms_norm_x, _rms_norm_weight, residuals=["mean_square"],
    native=FEWEST_ELEMENTS, text="rms_norm($x)·$weight", latex=r"\frac{$x}{\sqrt{q + \varepsilon}} \odot $weight",
    local=[
        ("(ĝ − x̂ ⊙ mean(ĝ ⊙ x̂))/√(mean_square + $eps) with ĝ = g ⊙ $weight, x̂ = $x/√(mean_square + $eps)",
         r"\frac{1}{\sqrt{q + \varepsilon}}\left(\hat g - \hat x \odot \overline{\hat g \odot \hat x}\right)"
         r"\text{ with } \hat g = \delta \odot $weight,\ \hat x = \frac{$x}{\sqrt{q + \varepsilon}}"),
        ("Σ(g ⊙ $x/√(mean_square + $eps))", r"\textstyle\sum \delta \odot \frac{$x}{\sqrt{q + \varepsilon}}"),
    ],
)  # fmt: skip


def rms_norm(x: Any, weight: Any, /, eps: float) -> Any:
    """`x` scaled to a mean square of 1 over its last axes, those of `weight`, then by `weight`."""
    x = as_operand("rms_norm", x)
    axis = tuple(range(len(x.shape) - len(weight.shape), len(x.shape)))
    return _rms_norm(x, weight, axis=axis, eps=eps)[0]


# Dropout -----------------------------------------------------------------------------------------------------------

# Srivastava et al. 2014, "Dropout"; inverted, so that evaluation needs no scaling. `mask` is drawn by the caller.
dropout_step = linear(
    "dropout",
    lambda xp, x, mask, *, scale: x * xp.astype(mask, x.dtype) * scale,
    lambda xp, g, mask, scale: g * xp.astype(mask, g.dtype) * scale,
    None,
    native=FEWEST_ELEMENTS,
    text="dropout($x)", latex=r"\operatorname{dropout}($x)", local=[("$mask·$scale", r"$scale \, $mask")],
)  # fmt: skip

__all__ = [
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy_with_logits",
    "dropout_step",
    "elu",
    "gelu",
    "group_norm",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
]
