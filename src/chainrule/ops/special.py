"""Special functions of `scipy.special` that have a simple derivative, elementwise.

Values come from SciPy on NumPy arrays, and on other arrays from their own library where it has the function.
Derivatives are formulas in the same functions, so they can be differentiated again; their source is the NIST
Digital Library of Mathematical Functions (DLMF), https://dlmf.nist.gov. Activations are in `network`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np
import scipy.special

from chainrule.core.namespace import PYTHON_SCALARS, fast_numpy
from chainrule.core.primitive import Primitive, elementwise
from chainrule.ops.elementwise import cbrt, exp2, expm1, log1p
from chainrule.ops.indexing import _through_numpy
from chainrule.ops.ratio import ratio

_ROOT_PI = math.sqrt(math.pi)
_ROOT_2 = math.sqrt(2)
_ROOT_2PI = math.sqrt(2 * math.pi)


def _evaluate(name: str, xp: Any, *inputs: Any) -> Any:
    """SciPy's function of that name, or that of the array's own library (`torch.special`) if it has one."""
    function = getattr(scipy.special, name)
    if xp is fast_numpy:
        return function(*inputs)
    if hasattr(xp, "verify"):
        return xp.special(name, *inputs)
    array = next(x for x in inputs if type(x) not in PYTHON_SCALARS)
    library = sys.modules[type(array).__module__.partition(".")[0]]
    own = getattr(getattr(library, "special", None), name, None)
    return own(*inputs) if own is not None else _through_numpy(xp, function, *inputs)


# The error function and the normal distribution (DLMF 7.2, 7.10) --------------------------------------------

erf = elementwise(
    "erf", lambda xp, x: _evaluate("erf", xp, x), lambda xp, x: 2 / _ROOT_PI * xp.exp(-x * x),
    text="erf $x", latex=r"\operatorname{erf} $x",
    local=[("2/√π·exp(−$x²)", r"\frac{2}{\sqrt\pi} e^{-$x^2}")],
)  # fmt: skip
erfc = elementwise(
    "erfc", lambda xp, x: _evaluate("erfc", xp, x), lambda xp, x: -2 / _ROOT_PI * xp.exp(-x * x),
    text="erfc $x", latex=r"\operatorname{erfc} $x",
    local=[("−2/√π·exp(−$x²)", r"-\frac{2}{\sqrt\pi} e^{-$x^2}")],
)  # fmt: skip
erfinv = elementwise(
    "erfinv", lambda xp, x: _evaluate("erfinv", xp, x), lambda xp, y: _ROOT_PI / 2 * xp.exp(y * y),
    text="erf⁻¹ $x", latex=r"\operatorname{erf}^{-1} $x",
    local=[("√π/2·exp($y²)", r"\frac{\sqrt\pi}{2} e^{$y^2}")],
)  # fmt: skip
ndtr = elementwise(
    "ndtr", lambda xp, x: _evaluate("ndtr", xp, x), lambda xp, x: xp.exp(-0.5 * x * x) / _ROOT_2PI,
    text="Φ($x)", latex=r"\Phi($x)", local=[("φ($x)", r"\varphi($x)")],
)  # fmt: skip
ndtri = elementwise(
    "ndtri", lambda xp, x: _evaluate("ndtri", xp, x), lambda xp, y: _ROOT_2PI * xp.exp(0.5 * y * y),
    text="Φ⁻¹($x)", latex=r"\Phi^{-1}($x)", local=[("1/φ($y)", r"\frac{1}{\varphi($y)}")],
)  # fmt: skip


def _hazard_excess(xp: Any, x: Any, y: Any) -> Any:
    """x + y for y = φ(x)/Φ(x); far left, where the sum cancels, its asymptotic series (DLMF 7.12.1)."""
    r = -1 / xp.minimum(x, -200.0)
    return xp.where(x < -200.0, r * (1 - r * r * (2 - 10 * r * r)), x + y)


# φ(x)/Φ(x), by the scaled complementary error function, which neither overflows nor cancels for x → −∞
_normal_hazard = elementwise(
    "normal_hazard", lambda xp, x: 2 / _ROOT_2PI / _evaluate("erfcx", xp, x * (-1 / _ROOT_2)),
    lambda xp, x, y: -y * _hazard_excess(xp, x, y),
    text="φ($x)/Φ($x)", latex=r"\frac{\varphi($x)}{\Phi($x)}", local=[("−$y·($x + $y)", "-$y ($x + $y)")],
)  # fmt: skip
log_ndtr = elementwise(
    "log_ndtr", lambda xp, x: _evaluate("log_ndtr", xp, x), lambda xp, x: _normal_hazard.on(xp, x),
    text="ln Φ($x)", latex=r"\ln \Phi($x)", local=[("φ($x)/Φ($x)", r"\frac{\varphi($x)}{\Phi($x)}")],
)  # fmt: skip

# The logistic function --------------------------------------------------------------------------------------


def _sigmoid_value(xp: Any, x: Any) -> Any:
    if xp is fast_numpy:  # exp(−x) may overflow to infinity: its reciprocal is the right 0
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(0.0 - x))
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, xp.ones_like(x)) / (1 + e)


sigmoid = elementwise(
    "sigmoid", _sigmoid_value, lambda y: y * (1 - y),
    text="σ($x)", latex=r"\sigma($x)", local=[("$y·(1 − $y)", "$y (1 - $y)")],
)  # fmt: skip
expit = sigmoid
log_expit = elementwise(
    "log_expit", lambda xp, x: _evaluate("log_expit", xp, x), lambda xp, x: sigmoid.on(xp, -x),
    text="ln σ($x)", latex=r"\ln \sigma($x)", local=[("σ(−$x)", r"\sigma(-$x)")],
)  # fmt: skip
logit = elementwise(
    "logit", lambda xp, x: _evaluate("logit", xp, x), lambda x: 1 / (x * (1 - x)),
    text="logit $x", latex=r"\operatorname{logit} $x", local=[("1/($x(1 − $x))", r"\frac{1}{$x (1 - $x)}")],
)  # fmt: skip

# The gamma function and its relatives (DLMF 5.2, 5.12, 5.15) ------------------------------------------------


def _polygamma_value(xp: Any, x: Any, *, n: int) -> Any:
    """(−1)ⁿ⁺¹·n!·ζ(n + 1, x), DLMF 25.11.12; SciPy's own `polygamma` turns float32 into float64."""
    if n == 0:
        return _evaluate("digamma", xp, x)
    return (-1.0) ** (n + 1) * math.factorial(n) * _evaluate("zeta", xp, n + 1.0, x)


_polygamma: Primitive = elementwise(
    "polygamma", _polygamma_value, lambda xp, x, n: _polygamma.on(xp, x, n=n + 1),
    text="ψ⁽ⁿ⁾($x)", latex=r"\psi^{(n)}($x)", local=[("ψ⁽ⁿ⁺¹⁾($x)", r"\psi^{(n+1)}($x)")],
)  # fmt: skip


def polygamma(n: int, x: Any, /) -> Any:
    """The derivative of order `n` of `digamma` at `x`.

    Args:
        n: a single integer, not negative.
        x: any shape.

    Raises:
        TypeError: `n` is not an integer.
        ValueError: `n` is negative.
    """
    try:
        order = index(n)
    except TypeError:
        raise TypeError(f"polygamma: the order n must be a single integer, got {n!r}") from None
    if order < 0:
        raise ValueError(f"polygamma: the order n must not be negative, got {order}")
    return _polygamma(x, n=order)


digamma = elementwise(
    "digamma", lambda xp, x: _evaluate("digamma", xp, x), lambda xp, x: _polygamma.on(xp, x, n=1),
    text="ψ($x)", latex=r"\psi($x)", local=[("ψ′($x)", r"\psi'($x)")],
)  # fmt: skip
gammaln = elementwise(
    "gammaln", lambda xp, x: _evaluate("gammaln", xp, x), lambda xp, x: digamma.on(xp, x),
    text="ln|Γ($x)|", latex=r"\ln |\Gamma($x)|", local=[("ψ($x)", r"\psi($x)")],
)  # fmt: skip
gamma = elementwise(
    "gamma", lambda xp, x: _evaluate("gamma", xp, x), lambda xp, x, y: y * digamma.on(xp, x),
    text="Γ($x)", latex=r"\Gamma($x)", local=[("$y·ψ($x)", r"$y \psi($x)")],
)  # fmt: skip
betaln = elementwise(
    "betaln", lambda xp, a, b: _evaluate("betaln", xp, a, b),
    lambda xp, a, b: digamma.on(xp, a) - digamma.on(xp, a + b),
    lambda xp, a, b: digamma.on(xp, b) - digamma.on(xp, a + b),
    text="ln|B($a, $b)|", latex=r"\ln |\mathrm{B}($a, $b)|",
    local=[("ψ($a) − ψ($a + $b)", r"\psi($a) - \psi($a + $b)"),
           ("ψ($b) − ψ($a + $b)", r"\psi($b) - \psi($a + $b)")],
)  # fmt: skip
beta = elementwise(
    "beta", lambda xp, a, b: _evaluate("beta", xp, a, b),
    lambda xp, a, b, y: y * (digamma.on(xp, a) - digamma.on(xp, a + b)),
    lambda xp, a, b, y: y * (digamma.on(xp, b) - digamma.on(xp, a + b)),
    text="B($a, $b)", latex=r"\mathrm{B}($a, $b)",
    local=[("$y·(ψ($a) − ψ($a + $b))", r"$y (\psi($a) - \psi($a + $b))"),
           ("$y·(ψ($b) − ψ($a + $b))", r"$y (\psi($b) - \psi($a + $b))")],
)  # fmt: skip

# Entropies: 0·ln 0 is 0 -------------------------------------------------------------------------------------
# At a = 0 they do not depend on b, so that derivative is 0 there, even at b = 0. The one with respect to a is
# infinite where its logarithm is.

xlogy = elementwise(
    "xlogy", lambda xp, a, b: _evaluate("xlogy", xp, a, b),
    lambda xp, b: xp.log(b), lambda xp, a, b: ratio.on(xp, a, b),
    text="$a·ln $b", latex=r"$a \ln $b", local=[("ln $b", r"\ln $b"), ("$a/$b", r"\frac{$a}{$b}")],
)  # fmt: skip
xlog1py = elementwise(
    "xlog1py", lambda xp, a, b: _evaluate("xlog1py", xp, a, b),
    lambda xp, b: xp.log1p(b), lambda xp, a, b: ratio.on(xp, a, 1 + b),
    text="$a·ln(1 + $b)", latex=r"$a \ln(1 + $b)",
    local=[("ln(1 + $b)", r"\ln(1 + $b)"), ("$a/(1 + $b)", r"\frac{$a}{1 + $b}")],
)  # fmt: skip
entr = elementwise(
    "entr", lambda xp, x: _evaluate("entr", xp, x), lambda xp, x: -xp.log(x) - 1,
    text="−$x·ln $x", latex=r"-$x \ln $x", local=[("−ln $x − 1", r"-\ln $x - 1")],
)  # fmt: skip
rel_entr = elementwise(
    "rel_entr", lambda xp, a, b: _evaluate("rel_entr", xp, a, b),
    lambda xp, a, b: xp.log(a) - xp.log(b) + 1, lambda xp, a, b: -ratio.on(xp, a, b),
    text="$a·ln($a/$b)", latex=r"$a \ln \frac{$a}{$b}",
    local=[("ln($a/$b) + 1", r"\ln \frac{$a}{$b} + 1"), ("−$a/$b", r"-\frac{$a}{$b}")],
)  # fmt: skip
kl_div = elementwise(
    "kl_div", lambda xp, a, b: _evaluate("kl_div", xp, a, b),
    lambda xp, a, b: xp.log(a) - xp.log(b), lambda xp, a, b: 1 - ratio.on(xp, a, b),
    text="$a·ln($a/$b) − $a + $b", latex=r"$a \ln \frac{$a}{$b} - $a + $b",
    local=[("ln($a/$b)", r"\ln \frac{$a}{$b}"), ("1 − $a/$b", r"1 - \frac{$a}{$b}")],
)  # fmt: skip

# Bessel functions (DLMF 10.6.1 and 10.29.1): the order v carries no derivative ------------------------------
# The derivatives go to the neighbouring orders because those formulas do not divide by x, and so hold at 0.

jv: Primitive = elementwise(
    "jv", lambda xp, v, x: _evaluate("jv", xp, v, x),
    None, lambda xp, v, x: 0.5 * (jv.on(xp, v - 1, x) - jv.on(xp, v + 1, x)),
    text="J[$v]($x)", latex="J_{$v}($x)",
    local=[("", ""), ("(J[$v − 1]($x) − J[$v + 1]($x))/2", r"\tfrac12 (J_{$v-1}($x) - J_{$v+1}($x))")],
)  # fmt: skip
iv: Primitive = elementwise(
    "iv", lambda xp, v, x: _evaluate("iv", xp, v, x),
    None, lambda xp, v, x: 0.5 * (iv.on(xp, v - 1, x) + iv.on(xp, v + 1, x)),
    text="I[$v]($x)", latex="I_{$v}($x)",
    local=[("", ""), ("(I[$v − 1]($x) + I[$v + 1]($x))/2", r"\tfrac12 (I_{$v-1}($x) + I_{$v+1}($x))")],
)  # fmt: skip
ive: Primitive = elementwise(
    "ive", lambda xp, v, x: _evaluate("ive", xp, v, x),
    None, lambda xp, v, x, y: 0.5 * (ive.on(xp, v - 1, x) + ive.on(xp, v + 1, x)) - xp.sign(x) * y,
    text="exp(−|$x|)·I[$v]($x)", latex="e^{-|$x|} I_{$v}($x)",
    local=[("", ""),
           ("exp(−|$x|)·I′[$v]($x) − sign($x)·$y", r"e^{-|$x|} I'_{$v}($x) - \operatorname{sign}($x) $y")],
)  # fmt: skip
j0 = elementwise("j0", lambda xp, x: _evaluate("j0", xp, x), lambda xp, x: -j1.on(xp, x),
                 text="J[0]($x)", latex="J_0($x)", local=[("−J[1]($x)", "-J_1($x)")])  # fmt: skip
j1: Primitive = elementwise(
    "j1", lambda xp, x: _evaluate("j1", xp, x), lambda xp, x: 0.5 * (j0.on(xp, x) - jv.on(xp, 2, x)),
    text="J[1]($x)", latex="J_1($x)", local=[("(J[0]($x) − J[2]($x))/2", r"\tfrac12 (J_0($x) - J_2($x))")],
)  # fmt: skip
i0 = elementwise("i0", lambda xp, x: _evaluate("i0", xp, x), lambda xp, x: i1.on(xp, x),
                 text="I[0]($x)", latex="I_0($x)", local=[("I[1]($x)", "I_1($x)")])  # fmt: skip
i1: Primitive = elementwise(
    "i1", lambda xp, x: _evaluate("i1", xp, x), lambda xp, x: 0.5 * (i0.on(xp, x) + iv.on(xp, 2, x)),
    text="I[1]($x)", latex="I_1($x)", local=[("(I[0]($x) + I[2]($x))/2", r"\tfrac12 (I_0($x) + I_2($x))")],
)  # fmt: skip
i0e = elementwise(
    "i0e", lambda xp, x: _evaluate("i0e", xp, x), lambda xp, x, y: i1e.on(xp, x) - xp.sign(x) * y,
    text="exp(−|$x|)·I[0]($x)", latex="e^{-|$x|} I_0($x)",
    local=[("exp(−|$x|)·I[1]($x) − sign($x)·$y", r"e^{-|$x|} I_1($x) - \operatorname{sign}($x) $y")],
)  # fmt: skip
i1e: Primitive = elementwise(
    "i1e", lambda xp, x: _evaluate("i1e", xp, x),
    lambda xp, x, y: 0.5 * (i0e.on(xp, x) + ive.on(xp, 2, x)) - xp.sign(x) * y,
    text="exp(−|$x|)·I[1]($x)", latex="e^{-|$x|} I_1($x)",
    local=[("exp(−|$x|)·I′[1]($x) − sign($x)·$y", r"e^{-|$x|} I'_1($x) - \operatorname{sign}($x) $y")],
)  # fmt: skip

# sin(πx)/(πx) is the spherical Bessel function j₀(πx); (2n + 1)·jₙ′ = n·jₙ₋₁ − (n + 1)·jₙ₊₁ (DLMF 10.51.1)
_spherical_jn: Primitive = elementwise(
    "spherical_jn",
    lambda xp, x, *, n: xp.astype(_evaluate("spherical_jn", xp, n, x), x.dtype),
    lambda xp, x, n: (
        (n * _spherical_jn.on(xp, x, n=n - 1) if n else 0) - (n + 1) * _spherical_jn.on(xp, x, n=n + 1)
    ) / (2 * n + 1),
    text="jₙ($x)", latex="j_n($x)", local=[("jₙ′($x)", "j_n'($x)")],
)  # fmt: skip
sinc = elementwise(
    "sinc", lambda xp, x: _evaluate("sinc", xp, x),
    lambda xp, x: -math.pi * _spherical_jn.on(xp, x * math.pi, n=1),
    text="sinc $x", latex=r"\operatorname{sinc} $x",
    local=[("(cos(π·$x) − $y)/$x", r"\frac{\cos \pi $x - $y}{$x}")],
)  # fmt: skip

#: What `Tensor.__array_ufunc__` runs for each of SciPy's ufuncs.
SCIPY_UFUNCS: dict[np.ufunc, Callable] = {
    getattr(scipy.special, primitive.name): primitive
    for primitive in (
        *(erf, erfc, erfinv, ndtr, ndtri, log_ndtr, log_expit, logit),
        *(digamma, gammaln, gamma, betaln, beta, xlogy, xlog1py, entr, rel_entr, kl_div),
        *(jv, iv, ive, j0, j1, i0, i1, i0e, i1e),
        *(cbrt, exp2, expm1, log1p),
    )
}
SCIPY_UFUNCS[scipy.special.expit] = sigmoid
