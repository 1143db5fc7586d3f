"""What LAPACK computes, with its derivatives: inverses, factorisations, eigen- and singular values.

All work on the last two axes and are batched over the rest. The public functions, which check their
arguments, and all that is spelled in other operations are in `linalg`. The formulas are those of

    Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation"
    Walter and Lehmann 2010, "Algorithmic differentiation of linear algebra functions" (QR)
    Murray 2016, "Differentiation of the Cholesky decomposition"
    Townsend 2016, "Differentiating the singular value decomposition"

Derivatives that do not exist are not made up: where the vectors of an eigen- or singular value decomposition
are not unique because values are equal, a gradient that depends on those vectors is NaN. Equal values do not
disturb the gradient of a function of the values alone; its second derivatives, which go through the vectors,
are NaN there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.primitive import Primitive, general
from chainrule.ops.ratio import ratio
from chainrule.ops.reductions import _product_of_others

# Helpers of the rules ---------------------------------------------------------------------------------------


def _errors_say(what: str) -> Callable:
    """Decorates value code and rules: an error of LAPACK says what it comes from."""

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def inside(xp: Any, *arrays: Any, **params: Any) -> Any:
            try:
                return function(xp, *arrays, **params)
            except Exception as error:
                if "LinAlgError" not in type(error).__name__:  # PyTorch has a class of its own
                    raise
                shapes = ", ".join(str(tuple(a.shape)) for a in arrays if hasattr(a, "shape"))
                raise np.linalg.LinAlgError(f"{what}: {error} [shapes {shapes}]") from None

        return inside

    return decorate


def _symmetric(x: Any) -> Any:
    return 0.5 * (x + x.mT)


def _diagonal_part(xp: Any, x: Any) -> Any:
    return xp.tril(xp.triu(x))


def _diagonal_matrix(xp: Any, d: Any) -> Any:
    """The square matrices with diagonals `d`."""
    return _diagonal_part(xp, xp.expand_dims(d, axis=-1) * xp.ones_like(xp.expand_dims(d, axis=-2)))


def _identity(xp: Any, d: Any) -> Any:
    """The identity for matrices with diagonals of the shape of `d`."""
    return _diagonal_matrix(xp, xp.ones_like(d))


def _as_matrices(xp: Any, g: Any) -> Any:
    """One number per matrix, in a shape that multiplies matrices."""
    return xp.expand_dims(xp.expand_dims(g, axis=-1), axis=-1)


# Inverse and linear systems (Giles 2008, sections 2.2.3 and 2.3.1) ------------------------------------------

inv = general(
    "inv", _errors_say("inv")(lambda xp, x: xp.linalg.inv(x)),
    lambda g, y: -(y.mT @ g @ y.mT), push=lambda xp, primals, tangents, y: -(y @ tangents[0] @ y),
    text="$x⁻¹", latex="{$x}^{-1}", local=[("−$yᵀ·g·$yᵀ", r"-{$y}^\top \delta {$y}^\top")],
)  # fmt: skip


def _solve_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    a_dot, b_dot = tangents
    right = 0 if b_dot is None else b_dot
    return xp.linalg.solve(primals[0], right if a_dot is None else right - a_dot @ y)


solve = general(
    "solve", _errors_say("solve")(lambda xp, a, b: xp.linalg.solve(a, b)),
    lambda xp, g, a, y: -(xp.linalg.solve(a.mT, g) @ y.mT), lambda xp, g, a: xp.linalg.solve(a.mT, g),
    push=_solve_push, text="$a⁻¹·$b", latex="{$a}^{-1} $b",
    local=[("−$a⁻ᵀ·g·$yᵀ", r"-{$a}^{-\top} \delta {$y}^\top"), ("$a⁻ᵀ·g", r"{$a}^{-\top} \delta")],
)  # fmt: skip


def _pinv_rule(g: Any, x: Any, y: Any) -> Any:
    outside = g.mT @ y @ y.mT  # of the range of x
    beside = y.mT @ y @ g.mT  # of its row space
    return outside - x @ (y @ outside) + beside - (beside @ y) @ x - y.mT @ g @ y.mT


def _pinv_push(xp: Any, primals: Any, tangents: Any, y: Any, *, rtol: Any) -> Any:
    (x,), (t,) = primals, tangents
    outside = y @ y.mT @ t.mT
    beside = t.mT @ y.mT @ y
    return outside - (outside @ x) @ y + beside - y @ (x @ beside) - y @ t @ y


# Golub and Pereyra 1973, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
# variables separate": the derivative along changes that keep the rank
pinv = general(
    "pinv", _errors_say("pinv")(lambda xp, x, *, rtol: xp.linalg.pinv(x, rtol=rtol)), _pinv_rule,
    push=_pinv_push, text="$x⁺", latex="{$x}^{+}",
    local=[("−$yᵀ·g·$yᵀ + (I − $x·$y)·gᵀ·$y·$yᵀ + $yᵀ·$y·gᵀ·(I − $y·$x)",
            r"-{$y}^\top \delta {$y}^\top + (I - $x $y) \delta^\top $y {$y}^\top"
            r" + {$y}^\top $y \delta^\top (I - $y $x)")],
)  # fmt: skip

# Determinants -----------------------------------------------------------------------------------------------
# The derivative of det is the cofactor matrix, which exists for singular matrices too. With x = U·diag(s)·Vᵀ
# it is det(U)·det(V)·U·diag(products of the other s)·Vᵀ, in which nothing is divided by a singular value. Its
# own derivative follows in the same way, from cof(P·x·Q) = cof(P)·cof(x)·cof(Q).


def _others(xp: Any, s: Any) -> Any:
    """For each element of the last axis, the product of all the others."""
    rows = xp.reshape(s, (math.prod(s.shape[:-1]), s.shape[-1]))
    return xp.reshape(_product_of_others(xp, rows), s.shape)


def _cofactor_value(xp: Any, x: Any) -> Any:
    u, s, vh = xp.linalg.svd(x, full_matrices=False)
    sign = _as_matrices(xp, xp.linalg.det(u) * xp.linalg.det(vh))
    return sign * (u * xp.expand_dims(_others(xp, s), axis=-2)) @ vh


def _cofactor_along(xp: Any, x: Any, t: Any) -> Any:
    """The derivative of the cofactor matrix along `t`, its own transpose as a second derivative (of det).

    For a diagonal x it is, with p[i, j] the product of all s but those two,
    Σ_{k≠i} t[k, k]·p[i, k] at place (i, i) and −t[j, i]·p[i, j] at place (i, j).
    """
    u, s, vh = xp.linalg.svd(x, full_matrices=False)
    t = u.mT @ t @ vh.mT
    one = _identity(xp, s)
    pairs = _others(xp, xp.expand_dims(s, axis=-2) * (1 - one) + one) * (1 - one)
    trace = xp.sum(pairs * xp.expand_dims(xp.linalg.diagonal(t), axis=-2), axis=-1)
    inner = _diagonal_matrix(xp, trace) - pairs * t.mT
    return _as_matrices(xp, xp.linalg.det(u) * xp.linalg.det(vh)) * (u @ inner @ vh)


cofactor = general(
    "cofactor", _cofactor_value, lambda xp, g, x: _cofactor_along(xp, x, g),
    push=lambda xp, primals, tangents, y: _cofactor_along(xp, primals[0], tangents[0]),
    text="cof($x)", latex=r"\operatorname{cof}($x)", local=[("D cof($x)[g]", r"D \operatorname{cof}($x)[\delta]")],
)  # fmt: skip
det = general(
    "det", lambda xp, x: xp.linalg.det(x), lambda xp, g, x: _as_matrices(xp, g) * cofactor.on(xp, x),
    push=lambda xp, primals, tangents, y: xp.sum(cofactor.on(xp, primals[0]) * tangents[0], axis=(-2, -1)),
    text="det($x)", latex=r"\det($x)", local=[("g·cof($x)", r"\delta \operatorname{cof}($x)")],
)  # fmt: skip
slogdet = general(
    "slogdet", lambda xp, x: xp.linalg.slogdet(x),
    _errors_say("the derivative of slogdet")(lambda xp, g, x: _as_matrices(xp, g[1]) * xp.linalg.inv(x).mT),
    push=_errors_say("the derivative of slogdet")(lambda xp, primals, tangents, y: (
        xp.zeros_like(y[0]), xp.sum(xp.linalg.inv(primals[0]).mT * tangents[0], axis=(-2, -1)))),
    outputs=["sign", "logabsdet"],
    text="ln|det($x)|", latex=r"\ln |\det($x)|", local=[("g·$x⁻ᵀ", r"\delta {$x}^{-\top}")],
)  # fmt: skip

# Cholesky and QR --------------------------------------------------------------------------------------------


def _lower_half(xp: Any, x: Any) -> Any:
    """The lower triangle with half the diagonal, Φ of Murray 2016."""
    return xp.tril(x) - 0.5 * _diagonal_part(xp, x)


def _cholesky_rule(xp: Any, g: Any, y: Any) -> Any:
    """Murray 2016, equation 10."""
    left = xp.linalg.solve(y.mT, _lower_half(xp, y.mT @ g))
    return _symmetric(xp.linalg.solve(y.mT, left.mT))


def _cholesky_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    """Murray 2016, equation 8."""
    left = xp.linalg.solve(y, _symmetric(tangents[0]))
    return y @ _lower_half(xp, xp.linalg.solve(y, left.mT))


cholesky = general(
    "cholesky", _errors_say("cholesky")(lambda xp, x: xp.linalg.cholesky(x)), _cholesky_rule,
    push=_cholesky_push, text="chol($x)", latex=r"\operatorname{chol}($x)",
    local=[("sym($y⁻ᵀ·Φ($yᵀ·g)·$y⁻¹)",
            r"\operatorname{sym}({$y}^{-\top} \Phi({$y}^\top \delta) {$y}^{-1})")],
)  # fmt: skip


def _divided_by_triangle(xp: Any, x: Any, r: Any) -> Any:
    """x·r⁻ᵀ."""
    return xp.linalg.solve(r, x.mT).mT


@_errors_say("the derivative of qr")
def _qr_rule(xp: Any, g: Any, x: Any, q: Any, r: Any) -> Any:
    """Walter and Lehmann 2010 for at least as many rows as columns; for fewer Roberts and Roberts 2020,
    "QR and LQ decomposition matrix backpropagation algorithms for square, wide, and deep matrices".
    """
    g_q, g_r = g
    n = q.shape[-1]
    if x.shape[-1] > n:
        further, g_further = x[..., n:], g_r[..., n:]
        square = _qr_square_rule(xp, g_q + further @ g_further.mT, g_r[..., :n], q, r[..., :n])
        return xp.concat([square, q @ g_further], axis=-1)
    return _qr_square_rule(xp, g_q, g_r, q, r)


def _qr_square_rule(xp: Any, g_q: Any, g_r: Any, q: Any, r: Any) -> Any:
    m = r @ g_r.mT - g_q.mT @ q
    mirrored = xp.tril(m) + xp.tril(m, k=-1).mT
    return _divided_by_triangle(xp, g_q + q @ mirrored, r)


@_errors_say("the derivative of qr")
def _qr_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    q, r = y
    n = q.shape[-1]
    x, t, r_square = primals[0], tangents[0], r[..., :n]
    w = _divided_by_triangle(xp, t[..., :n], r_square.mT)
    s = q.mT @ w
    below = xp.tril(s, k=-1)
    rotation = below - below.mT  # qᵀ·dq
    q_dot = w - q @ (s - rotation)
    r_dot = (s - rotation) @ r_square
    if x.shape[-1] > n:
        r_dot = xp.concat([r_dot, q_dot.mT @ x[..., n:] + q.mT @ t[..., n:]], axis=-1)
    return q_dot, r_dot


qr = general(
    "qr", _errors_say("qr")(lambda xp, x: xp.linalg.qr(x, mode="reduced")), _qr_rule, push=_qr_push,
    outputs=["q", "r"], text="qr($x)", latex=r"\operatorname{qr}($x)",
    local=[("(g_Q + $q·copyltu($r·g_Rᵀ − g_Qᵀ·$q))·$r⁻ᵀ",
            r"(\delta_Q + $q \operatorname{copyltu}($r \delta_R^\top - \delta_Q^\top $q)) {$r}^{-\top}")],
)  # fmt: skip


def _without_derivative(name: str, value: Callable, outputs: Sequence[str], message: str) -> Primitive:
    """Factors that are not unique: a value, and an error where a gradient is asked for."""

    def refuse() -> Any:
        raise GradientError(message)

    return general(
        name, _errors_say(name)(value), lambda g: refuse(), push=lambda xp, primals, tangents, y: refuse(),
        outputs=outputs, local=[("not defined", r"\text{not defined}")],
    )  # fmt: skip


qr_complete = _without_derivative(
    "qr", lambda xp, x: xp.linalg.qr(x, mode="complete"), ["q", "r"],
    "qr: with mode='complete' and more rows than columns the further columns of Q are not unique and have no "
    "derivative; use mode='reduced'",
)  # fmt: skip

# Vectors that are not unique --------------------------------------------------------------------------------


def _nowhere(xp: Any, where: Any, like: Any) -> Any:
    """NaN at the places `where` a derivative does not exist, 0 elsewhere."""
    return xp.where(where, math.nan, xp.zeros_like(like))


def _used(xp: Any, g: Any) -> Any:
    """Which columns the result depends on, by their cotangent."""
    return xp.any(g != 0, axis=-2)


def _either(xp: Any, columns: Any) -> Any:
    """At place (i, j), whether column i or column j is meant."""
    return xp.expand_dims(columns, axis=-2) | xp.expand_dims(columns, axis=-1)


# Eigenvalues of symmetric matrices (Giles 2008, section 3.1) ------------------------------------------------


def _gaps(xp: Any, w: Any) -> Any:
    """λ_j − λ_i at place (i, j); 1 on the diagonal, where what is divided by it is 0."""
    return xp.expand_dims(w, axis=-2) - xp.expand_dims(w, axis=-1) + _identity(xp, w)


def _eigh_rule(xp: Any, g: Any, w: Any, v: Any) -> Any:
    """V·(diag(g_λ) + (Vᵀ·g_V) / (λ_j − λ_i))·Vᵀ, of which the symmetric part."""
    g_w, g_v = g
    turning, gaps = v.mT @ g_v, _gaps(xp, w)
    inner = ratio.on(xp, 0.5 * (turning - turning.mT), gaps)
    inner = inner + _nowhere(xp, (gaps == 0) & _either(xp, _used(xp, g_v)), gaps)
    return v @ (inner + _diagonal_matrix(xp, g_w)) @ v.mT


def _eigh_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    w, v = y
    inner = v.mT @ _symmetric(tangents[0]) @ v
    gaps = _gaps(xp, w)
    turning = ratio.on(xp, inner - _diagonal_part(xp, inner), gaps) + _nowhere(xp, gaps == 0, gaps)
    return xp.linalg.diagonal(inner), v @ turning


eigh = general(
    "eigh", _errors_say("eigh")(lambda xp, x: xp.linalg.eigh(x)), _eigh_rule, push=_eigh_push,
    outputs=["w", "v"], text="eigh($x)", latex=r"\operatorname{eigh}($x)",
    local=[("$v·(diag(g_λ) + ($vᵀ·g_V)/(λⱼ − λᵢ))·$vᵀ",
            r"$v \left(\operatorname{diag}(\delta_\lambda) + \frac{{$v}^\top \delta_V}"
            r"{\lambda_j - \lambda_i}\right) {$v}^\top")],
)  # fmt: skip


def _eigvalsh_rule(xp: Any, g: Any, x: Any) -> Any:
    v = xp.linalg.eigh(x)[1]
    return (v * xp.expand_dims(g, axis=-2)) @ v.mT


def _eigvalsh_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    v = xp.linalg.eigh(primals[0])[1]
    return xp.sum(v * (_symmetric(tangents[0]) @ v), axis=-2)


eigvalsh = general(
    "eigvalsh", _errors_say("eigvalsh")(lambda xp, x: xp.linalg.eigvalsh(x)), _eigvalsh_rule,
    push=_eigvalsh_push, text="λ($x)", latex=r"\lambda($x)",
    local=[("V·diag(g)·Vᵀ", r"V \operatorname{diag}(\delta) V^\top")],
)  # fmt: skip

# Singular values (Townsend 2016) ----------------------------------------------------------------------------


def _square_gaps(xp: Any, s: Any) -> Any:
    """s_j² − s_i² at place (i, j); 1 on the diagonal."""
    row, column = xp.expand_dims(s, axis=-2), xp.expand_dims(s, axis=-1)
    return (row - column) * (row + column) + _identity(xp, s)


def _svd_rule(xp: Any, g: Any, x_shape: tuple[int, ...], u: Any, s: Any, vh: Any) -> Any:
    g_u, g_s, g_vh = g
    rows, columns = x_shape[-2:]
    v, g_v = vh.mT, g_vh.mT
    turn_u, turn_v, gaps = u.mT @ g_u, vh @ g_v, _square_gaps(xp, s)
    s_row, s_column = xp.expand_dims(s, axis=-2), xp.expand_dims(s, axis=-1)
    inner = ratio.on(xp, turn_u - turn_u.mT, gaps) * s_row + s_column * ratio.on(xp, turn_v - turn_v.mT, gaps)
    used = _used(xp, g_u) | _used(xp, g_v)
    inner = inner + _nowhere(xp, (gaps == 0) & _either(xp, used), gaps)
    total = u @ (inner + _diagonal_matrix(xp, g_s)) @ vh
    if rows == columns:
        return total
    beyond = _nowhere(xp, (s_row == 0) & xp.expand_dims(used, axis=-2), s_row)
    if rows > columns:  # what of g_U lies outside the range of x
        return total + (ratio.on(xp, g_u - u @ turn_u, s_row) + beyond) @ vh
    return total + u @ (ratio.on(xp, g_v - v @ turn_v, s_row) + beyond).mT


def _svd_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    u, s, vh = y
    t, v = tangents[0], vh.mT
    rows, columns = t.shape[-2:]
    inner, gaps = u.mT @ t @ v, _square_gaps(xp, s)
    turning = ratio.on(xp, inner - _diagonal_part(xp, inner), gaps) + _nowhere(xp, gaps == 0, gaps)
    s_row, s_column = xp.expand_dims(s, axis=-2), xp.expand_dims(s, axis=-1)
    u_dot = u @ (turning * s_row - s_column * turning.mT)
    v_dot = v @ (s_column * turning - turning.mT * s_row)
    beyond = _nowhere(xp, s_row == 0, s_row)
    if rows > columns:
        u_dot = u_dot + ratio.on(xp, t @ v - u @ inner, s_row) + beyond
    if columns > rows:
        v_dot = v_dot + ratio.on(xp, t.mT @ u - v @ inner.mT, s_row) + beyond
    return u_dot, xp.linalg.diagonal(inner), v_dot.mT


svd = general(
    "svd", _errors_say("svd")(lambda xp, x: xp.linalg.svd(x, full_matrices=False)), _svd_rule, push=_svd_push,
    outputs=["u", "s", "vh"], text="svd($x)", latex=r"\operatorname{svd}($x)",
    local=[("$u·(diag(g_S) + skew($uᵀ·g_U)/(sⱼ² − sᵢ²)·S + S·skew(Vᵀ·g_V)/(sⱼ² − sᵢ²))·$vh + …",
            r"$u \left(\operatorname{diag}(\delta_S)"
            r" + \frac{\operatorname{skew}({$u}^\top \delta_U)}{s_j^2 - s_i^2} S"
            r" + S \frac{\operatorname{skew}(V^\top \delta_V)}{s_j^2 - s_i^2}\right) $vh + \ldots")],
)  # fmt: skip
svd_full = _without_derivative(
    "svd", lambda xp, x: xp.linalg.svd(x, full_matrices=True), ["u", "s", "vh"],
    "svd: with full_matrices=True the further columns of U (rows of Vh) of a matrix that is not square are "
    "not unique and have no derivative; use full_matrices=False",
)  # fmt: skip


def _svdvals_rule(xp: Any, g: Any, x: Any) -> Any:
    u, _, vh = xp.linalg.svd(x, full_matrices=False)
    return (u * xp.expand_dims(g, axis=-2)) @ vh


def _svdvals_push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    u, _, vh = xp.linalg.svd(primals[0], full_matrices=False)
    return xp.sum(u * (tangents[0] @ vh.mT), axis=-2)


svdvals = general(
    "svdvals", _errors_say("svdvals")(lambda xp, x: xp.linalg.svdvals(x)), _svdvals_rule, push=_svdvals_push,
    text="σ($x)", latex=r"\sigma($x)", local=[("U·diag(g)·Vᵀ", r"U \operatorname{diag}(\delta) V^\top")],
)  # fmt: skip
