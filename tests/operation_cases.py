"""Every differentiable primitive with inputs to try it on, for all the suites that go through them.

A case draws shapes, axes and numbers and gives a call to make with an array namespace `xp` (chainrule's or a
peer's) and the arrays to make it with. `tests/ops/test_every_primitive.py` checks derivatives and other array
libraries, `tests/peers` compares with PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import chainrule.ops  # noqa: F401  (fills the namespace)
from chainrule.ops import attention, indexing, network, recurrent, windows


class Draw:
    """What a case draws from: Hypothesis for structure, NumPy's generator for the numbers."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.rng = np.random.default_rng(data.draw(st.integers(0, 2**20), label="seed"))

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def choice(self, *options: Any) -> Any:
        return self._data.draw(st.sampled_from(options))

    def shape(self, least: int = 0, most: int = 3, side: tuple[int, int] = (1, 3)) -> tuple[int, ...]:
        return tuple(self.integer(*side) for _ in range(self.integer(least, most)))

    def axes(self, ndim: int) -> Any:
        """None, an axis (perhaps negative), or a tuple of axes."""
        if ndim == 0:
            return None
        some = self._data.draw(st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True))
        return self.choice(None, some[0], some[0] - ndim, tuple(some))

    def array(self, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> np.ndarray:
        return self.rng.uniform(low, high, shape)

    def apart(self, shape: tuple[int, ...], gap: float = 0.05) -> np.ndarray:
        """Numbers no two of which are closer than `gap`, so that the order of elements is no kink."""
        n = int(np.prod(shape))
        return (self.rng.permutation(n) * gap * 4 - n * gap * 2 + self.rng.uniform(0, gap, n)).reshape(shape)

    def pair(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Two shapes that broadcast."""
        full = self.shape()

        def cut(shape: tuple[int, ...]) -> tuple[int, ...]:
            stretched = tuple(1 if self.choice(True, False, False) else n for n in shape)
            return stretched[self.integer(0, len(shape)) :] if self.choice(True, False, False) else stretched

        return (full, cut(full)) if self.choice(True, False) else (cut(full), full)

    def matrix(self, n: int, m: int, batch: tuple[int, ...] = ()) -> np.ndarray:
        """Well conditioned, singular values well apart."""
        u, _, vh = np.linalg.svd(self.rng.standard_normal((*batch, n, m)), full_matrices=False)
        s = np.arange(1, min(n, m) + 1) * 0.6 + self.rng.uniform(0, 0.2, min(n, m))
        return (u * s) @ vh

    def definite(self, n: int, batch: tuple[int, ...] = ()) -> np.ndarray:
        a = self.matrix(n, n, batch)
        return a @ np.swapaxes(a, -1, -2)


@dataclass(frozen=True)
class Case:
    """`build(draw)` gives (call, arrays): `call(xp, *arrays)` runs the operation."""

    name: str
    build: Callable[[Draw], tuple[Callable, list[np.ndarray]]]

    def __str__(self) -> str:
        return self.name


def _unary(name: str, low: float = -2.0, high: float = 2.0) -> Case:
    return Case(name, lambda d: (lambda xp, x: getattr(xp, name)(x), [d.array(d.shape(), low, high)]))


def _binary(name: str, first: tuple = (-2.0, 2.0), second: tuple = (-2.0, 2.0)) -> Case:
    def build(d: Draw) -> tuple:
        a, b = d.pair()
        return lambda xp, x, y: getattr(xp, name)(x, y), [d.array(a, *first), d.array(b, *second)]

    return Case(name, build)


def _reduction(name: str, draw: Callable = Draw.array, **extra: Any) -> Case:
    def build(d: Draw) -> tuple:
        shape = d.shape()
        options = {"axis": d.axes(len(shape)), "keepdims": d.choice(True, False), **extra}
        return lambda xp, x: getattr(xp, name)(x, **options), [draw(d, shape)]

    return Case(name, build)


def _along(name: str, draw: Callable = Draw.array, **extra: Any) -> Case:
    def build(d: Draw) -> tuple:
        shape = d.shape(1)
        axis = d.integer(-len(shape), len(shape) - 1)
        return lambda xp, x: getattr(xp, name)(x, axis=axis, **extra), [draw(d, shape)]

    return Case(name, build)


def _case(name: str) -> Callable:
    def wrap(build: Callable) -> Case:
        case = Case(name, build)
        CASES.append(case)
        return case

    return wrap


CASES: list[Case] = [
    *(
        _unary(name)
        for name in [
            "negative",
            "positive",
            "square",
            "abs",
            "sign",
            "exp",
            "expm1",
            "exp2",
            "sin",
            "cos",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "atan",
            "erf",
            "erfc",
            "sigmoid",
            "log_expit",
            "ndtr",
            "log_ndtr",
            "relu",
            "gelu",
            "silu",
            "softplus",
            "elu",
            "leaky_relu",
            "sinc",
        ]
    ),
    *(
        _unary(name, 0.3, 2.0)
        for name in [
            "reciprocal",
            "log",
            "log1p",
            "log2",
            "log10",
            "sqrt",
            "cbrt",
            "digamma",
            "gammaln",
            "gamma",
            "entr",
        ]
    ),
    *(_unary(name, -0.8, 0.8) for name in ["asin", "acos", "atanh", "tan", "erfinv"]),
    *(_unary(name, 0.1, 0.9) for name in ["logit", "ndtri"]),
    *(_unary(name, 0.2, 0.8) for name in ["floor", "ceil", "trunc", "round"]),
    *(_unary(name) for name in ["i0", "i0e", "i1", "i1e", "j0", "j1"]),
    _unary("acosh", 1.2, 3.0),
    *(_binary(name) for name in ["add", "subtract", "multiply", "logaddexp", "binary_cross_entropy_with_logits"]),
    *(_binary(name) for name in ["maximum", "minimum"]),
    _binary("divide", (-2, 2), (0.5, 2)),
    _binary("floor_divide", (0.1, 0.9), (1.0, 2.0)),
    _binary("remainder", (0.1, 0.9), (1.0, 2.0)),
    _binary("power", (0.5, 2), (-2, 2)),
    _binary("hypot", (0.3, 2), (0.3, 2)),
    _binary("atan2", (0.3, 2), (0.3, 2)),
    _binary("copysign", (0.3, 2), (-2, 2)),
    *(_binary(name, (0.3, 2), (0.3, 2)) for name in ["xlogy", "xlog1py", "rel_entr", "kl_div", "betaln", "beta"]),
    *(_reduction(name) for name in ["sum", "mean", "var", "prod", "logsumexp"]),
    *(_reduction(name, Draw.apart) for name in ["max", "min"]),
    _reduction("var", correction=0.5),
    *(_along(name) for name in ["cumulative_sum", "cumulative_prod", "softmax", "log_softmax", "flip"]),
    *(_along(name, Draw.apart) for name in ["sort"]),
    _along("sort", Draw.apart, descending=True),
]


@_case("std")
def _std(d: Draw) -> tuple:
    shape = d.shape(1, side=(2, 4))
    axis = d.integer(0, len(shape) - 1)
    return lambda xp, x: xp.std(x, axis=axis), [d.apart(shape)]


@_case("gelu tanh")
def _gelu_tanh(d: Draw) -> tuple:
    return lambda xp, x: xp.gelu(x, approximate="tanh"), [d.array(d.shape())]


@_case("polygamma")
def _polygamma(d: Draw) -> tuple:
    n = d.integer(0, 2)
    return lambda xp, x: xp.polygamma(n, x), [d.array(d.shape(), 0.5, 2.0)]


@_case("where")
def _where(d: Draw) -> tuple:
    a, b = d.pair()
    condition = d.rng.random(np.broadcast_shapes(a, b)) > 0.5
    return lambda xp, x, y: xp.where(condition, x, y), [d.array(a), d.array(b)]


@_case("clip")
def _clip(d: Draw) -> tuple:
    return lambda xp, x: xp.clip(x, -1.0, 0.5), [d.array(d.shape())]


@_case("matmul")
def _matmul(d: Draw) -> tuple:
    n, k, m = d.integer(1, 3), d.integer(1, 3), d.integer(1, 3)
    a, b = d.choice(((n, k), (k, m)), ((k,), (k, m)), ((n, k), (k,)), ((k,), (k,)), ((2, n, k), (k, m)),
                    ((n, k), (2, k, m)), ((2, 1, n, k), (3, k, m)), ((k,), (2, k, m)), ((2, n, k), (k,)))  # fmt: skip
    return lambda xp, x, y: xp.matmul(x, y), [d.array(a), d.array(b)]


@_case("linear")
def _linear(d: Draw) -> tuple:
    rows, n, m = d.shape(0, 2), d.integer(1, 3), d.integer(1, 3)
    return lambda xp, x, w, b: xp.linear_map(x, w, b), [d.array((*rows, n)), d.array((m, n)), d.array((m,))]


@_case("tensordot")
def _tensordot(d: Draw) -> tuple:
    axes, a, b = d.choice((0, (2,), (3,)), (1, (2, 3), (3, 2)), (2, (3, 1, 2), (1, 2, 2)),
                          (((0, 2), (1, 0)), (2, 3, 4), (4, 2)))  # fmt: skip
    return lambda xp, x, y: xp.tensordot(x, y, axes), [d.array(a), d.array(b)]


@_case("vecdot")
def _vecdot(d: Draw) -> tuple:
    a, b = d.choice(((3,), (3,)), ((2, 3), (2, 3)), ((2, 1, 3), (4, 3)))
    return lambda xp, x, y: xp.vecdot(x, y), [d.array(a), d.array(b)]


@_case("einsum")
def _einsum(d: Draw) -> tuple:
    text, *shapes = d.choice(
        ("ij,jk->ik", (2, 3), (3, 2)), ("ij,kj", (2, 3), (4, 3)), ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        ("i,i->i", (3,), (3,)), ("i,j->ij", (2,), (3,)), ("...i,ij->...j", (2, 2, 3), (3, 2)), ("ij->", (2, 3)),
        ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij->ji", (2, 3)), ("ij,jk,kl->il", (2, 2), (2, 3), (3, 2)),
        ("ij,i,j->", (2, 3), (2,), (3,)), ("ijk,k->ij", (2, 2, 3), (3,)), ("ij,k->j", (2, 3), (2,)),
        ("iij,j->i", (2, 2, 3), (3,)), ("abc,cd,de->abe", (2, 1, 2), (2, 3), (3, 2)),
    )  # fmt: skip
    return lambda xp, *xs: xp.einsum(text, *xs), [d.array(s) for s in shapes]


@_case("reshape")
def _reshape(d: Draw) -> tuple:
    shape = d.shape()
    return lambda xp, x: xp.reshape(x, (-1,)) * 2, [d.array(shape)]


@_case("permute_dims")
def _permute_dims(d: Draw) -> tuple:
    shape = d.shape()
    order = tuple(int(i) for i in d.rng.permutation(len(shape)))
    return lambda xp, x: xp.permute_dims(x, order), [d.array(shape)]


@_case("broadcast_to")
def _broadcast_to(d: Draw) -> tuple:
    a, b = d.pair()
    return lambda xp, x: xp.broadcast_to(x, np.broadcast_shapes(a, b)), [d.array(a)]


@_case("astype")
def _astype(d: Draw) -> tuple:
    return lambda xp, x: xp.astype(x, x.dtype), [d.array(d.shape())]


@_case("roll")
def _roll(d: Draw) -> tuple:
    shape = d.shape(1)
    shift, axis = d.integer(-4, 4), d.integer(0, len(shape) - 1)
    return lambda xp, x: xp.roll(x, shift, axis=axis), [d.array(shape)]


@_case("tril triu")
def _triangles(d: Draw) -> tuple:
    name, k = d.choice("tril", "triu"), d.integer(-2, 2)
    return lambda xp, x: getattr(xp, name)(x, k=k), [d.array((*d.shape(0, 1), d.integer(1, 3), d.integer(1, 3)))]


@_case("concat")
def _concat(d: Draw) -> tuple:
    axis = d.integer(-2, 1)
    shapes = [tuple(d.integer(1, 3) if i == axis % 2 else 2 for i in range(2)) for _ in range(d.integer(1, 3))]
    return lambda xp, *xs: xp.concat(xs, axis=axis), [d.array(s) for s in shapes]


@_case("stack")
def _stack(d: Draw) -> tuple:
    shape = d.shape(0, 2)
    axis = d.integer(-len(shape) - 1, len(shape))
    return lambda xp, *xs: xp.stack(xs, axis=axis), [d.array(shape) for _ in range(d.integer(1, 3))]


@_case("split")
def _split(d: Draw) -> tuple:
    weights = d.rng.standard_normal(2).tolist()
    return lambda xp, x: sum(w * p for w, p in zip(weights, xp.split(x, 2, axis=1), strict=True)), [d.array((2, 4))]


@_case("pad")
def _pad(d: Draw) -> tuple:
    shape = d.shape(1, 2)
    widths = tuple((d.integer(0, 2), d.integer(0, 2)) for _ in shape)
    return lambda xp, x: xp.pad(x, widths), [d.array(shape)]


@_case("getitem")
def _getitem(d: Draw) -> tuple:
    index = d.choice(
        0, -1, slice(None, None, 2), slice(2, None, -1), (slice(1), 2), (..., 1), (None, 1), (1, None, slice(1, 3)),
        np.array([0, 2, 2]), (slice(None), np.array([[1, 0], [1, 1]])), (np.array([0, 1]), np.array([1, 1])),
        np.array([True, False, True]), np.array([[True, False, True], [False] * 3, [True] * 3]), ([0, 0], slice(2)),
    )  # fmt: skip
    return lambda xp, x: x[index], [d.array((3, 3))]


@_case("scatter_add")
def _scatter_add(d: Draw) -> tuple:
    index, shape = d.choice(((np.array([0, 2, 0]),), (3, 2)), ((slice(1, 3), 0), (2,)))
    return lambda xp, x: indexing.scatter_add(x, shape=(4, 2), index=index), [d.array(shape)]


@_case("setitem")
def _setitem(d: Draw) -> tuple:
    index, shape = d.choice((0, (3,)), ((slice(None), 1), (3,)), (np.array([0, 2, 0]), (3, 3)), (..., ()),
                            (np.array([True, False, True]), (2, 3)), ((slice(0, 2), slice(1)), (1, 1)))  # fmt: skip

    def call(xp: Any, x: Any, v: Any) -> Any:
        y = x * 1
        y[index] = v
        return y

    return call, [d.array((3, 3)), d.array(shape)]


@_case("take")
def _take(d: Draw) -> tuple:
    indices, axis = d.choice(np.array([0, 2, 0]), np.array([[1, -1]])), d.integer(-2, 1)
    return lambda xp, x: xp.take(x, indices, axis=axis), [d.array((3, 3))]


@_case("take_along_axis")
def _take_along_axis(d: Draw) -> tuple:
    axis = d.integer(-2, 1)
    indices = d.rng.integers(0, 3, (3, 3))
    return lambda xp, x: xp.take_along_axis(x, indices, axis=axis), [d.array((3, 3))]


@_case("cross_entropy")
def _cross_entropy(d: Draw) -> tuple:
    rows, classes = d.choice((), (3,), (2, 2)), d.integer(1, 4)
    targets, reduction = d.rng.integers(0, classes, rows), d.choice("none", "mean", "sum")
    return lambda xp, z: xp.cross_entropy_with_logits(z, targets, reduction=reduction), [d.array((*rows, classes))]


@_case("batch_norm")
def _batch_norm(d: Draw) -> tuple:
    shape = (d.integer(2, 4), d.integer(1, 3), *d.shape(0, 1))
    return (lambda xp, x, w, b: xp.batch_norm(x, w, b)[0]), [
        d.apart(shape),
        d.array(shape[1:2]),
        d.array(shape[1:2]),
    ]


@_case("layer_norm")
def _layer_norm(d: Draw) -> tuple:
    inner = d.choice((3,), (2, 2))
    shape = (*d.shape(0, 2), *inner)
    return (lambda xp, x, w, b: xp.layer_norm(x, w, b)), [d.apart(shape), d.array(inner), d.array(inner)]


@_case("attention_weights")
def _attention_weights(d: Draw) -> tuple:
    batch, queries, keys, width = d.shape(0, 2), d.integer(1, 3), d.integer(1, 3), d.integer(1, 3)
    mask = d.rng.random((*d.choice((), batch), queries, keys)) > 0.3
    return lambda xp, q, k: attention.weights_of(q, k, 0.7, mask), [
        d.array((*batch, queries, width)),
        d.array((*batch, keys, width)),
    ]


@_case("embedding")
def _embedding(d: Draw) -> tuple:
    rows, width = d.integer(1, 4), d.integer(1, 3)
    indices = d.rng.integers(0, rows, d.shape())
    return lambda xp, w: xp.embedding(indices, w), [d.array((rows, width))]


@_case("added_rows")
def _added_rows(d: Draw) -> tuple:
    indices = d.rng.integers(0, 3, d.shape(1, 2))
    return lambda xp, g: attention.added_rows(g, indices, rows=3), [d.array((*indices.shape, d.integer(1, 2)))]


def _recurrence(kind: str) -> None:
    def build(d: Draw) -> tuple:
        cell = recurrent.CELLS[kind]
        time, batch, width, reverse = d.integer(1, 3), d.integer(1, 2), d.integer(1, 2), d.choice(False, True)
        lengths = d.rng.integers(1, time + 1, batch)
        mask = d.choice(None, np.arange(time)[:, None, None] < lengths[:, None])
        gates = cell.gates * width
        shapes = [(time, batch, gates), (cell.states, batch, width), (gates, width), *d.choice([], [(gates,)])]

        def call(xp: Any, projected: Any, state: Any, weight: Any, bias: Any = None) -> Any:
            return recurrent.recurrent_layer(kind, projected, state, weight, bias, mask, reverse=reverse)

        return call, [d.array(shape) for shape in shapes]

    CASES.append(Case(kind, build))


for _kind in recurrent.CELLS:
    _recurrence(_kind)


@_case("group_norm")
def _group_norm(d: Draw) -> tuple:
    groups, size = d.integer(1, 2), d.integer(1, 2)
    channels = (groups * size,)
    shape = (d.integer(1, 2), *channels, *d.shape(0, 1), 2)
    return (lambda xp, x, w, b: xp.group_norm(x, w, b, groups)), [d.apart(shape), d.array(channels), d.array(channels)]


@_case("rms_norm")
def _rms_norm(d: Draw) -> tuple:
    inner = d.choice((3,), (2, 2))
    return (lambda xp, x, w: xp.rms_norm(x, w, eps=1e-3)), [d.array((*d.shape(0, 2), *inner)), d.array(inner)]


def _windowed(d: Draw, ndim: int) -> dict[str, Any]:
    """Geometry of a convolution, and sizes of input and kernel that fit it."""
    kernel = tuple(d.integer(1, 3) for _ in range(ndim))
    dilation = tuple(d.integer(1, 2) for _ in range(ndim))
    padding = tuple(d.integer(0, 2) for _ in range(ndim))
    spans = [e * (k - 1) + 1 for k, e in zip(kernel, dilation, strict=True)]
    size = tuple(max(s - 2 * p, 1) + d.integer(0, 2) for s, p in zip(spans, padding, strict=True))
    options = {"stride": tuple(d.integer(1, 3) for _ in range(ndim)), "padding": padding, "dilation": dilation}
    return {"kernel": kernel, "size": size, "options": {**options, "groups": d.integer(1, 2)}}


def _convolution(name: str, ndim: int, transposed: bool) -> None:
    def build(d: Draw) -> tuple:
        geometry = _windowed(d, ndim)
        options, kernel, size = geometry["options"], geometry["kernel"], geometry["size"]
        groups, inner, outer = options["groups"], d.integer(1, 2), d.integer(1, 2)
        weight, out = (outer * groups, inner, *kernel), outer * groups
        if transposed:
            weight, out = (inner * groups, outer, *kernel), outer * groups
            size = tuple(n + 2 * p for n, p in zip(d.shape(ndim, ndim), options["padding"], strict=True))
        bias = [d.array((out,))] if d.choice(True, False) else []
        x = d.array((*d.choice((1,), (2,)), inner * groups, *size))
        return lambda xp, x, w, *b: getattr(xp, name)(x, w, *b, **options), [x, d.array(weight), *bias]

    CASES.append(Case(name, build))


for _ndim in (1, 2):
    _convolution(f"conv{_ndim}d", _ndim, transposed=False)
    _convolution(f"conv_transpose{_ndim}d", _ndim, transposed=True)


def _pooling(name: str, ndim: int, numbers: Callable, **options: Any) -> None:
    def build(d: Draw) -> tuple:
        kernel = tuple(d.integer(1, 3) for _ in range(ndim))
        stride = d.choice(None, tuple(d.integer(1, 3) for _ in range(ndim)))
        drawn = {key: d.choice(*values) for key, values in options.items()}
        padding = tuple(d.integer(0, k // 2) for k in kernel)
        size = tuple(2 * k - 1 + d.integer(0, 2) for k in kernel)
        x = numbers(d, (*d.choice((), (2,)), d.integer(1, 2), *size))
        return lambda xp, x: getattr(xp, name)(x, kernel, stride, padding, **drawn), [x]

    CASES.append(Case(name, build))


def _adaptive(ndim: int) -> None:
    def build(d: Draw) -> tuple:
        size = tuple(d.integer(1, 3) for _ in range(ndim))
        return lambda xp, x: getattr(xp, f"adaptive_avg_pool{ndim}d")(x, size), [d.array((2, 2, *d.shape(ndim, ndim)))]

    CASES.append(Case(f"adaptive_avg_pool{ndim}d", build))


for _ndim in (1, 2):
    _pooling(f"max_pool{_ndim}d", _ndim, Draw.apart, dilation=(1, 2), ceil_mode=(True, False))
    _pooling(f"avg_pool{_ndim}d", _ndim, Draw.array, ceil_mode=(True, False), count_include_pad=(True, False))
    _adaptive(_ndim)


@_case("windows")
def _windows(d: Draw) -> tuple:
    grid = _grid(d)
    return lambda xp, x: windows.windows(x, grid=grid), [d.array((2, *grid.length, 2))]


@_case("overlap_add")
def _overlap_add(d: Draw) -> tuple:
    grid = _grid(d)
    return lambda xp, x: windows.overlap_add(x, grid=grid), [d.array((2, *grid.kernel, *grid.count, 2))]


def _grid(d: Draw) -> windows.Grid:
    """Any at all: windows may lie outside of the array, or leave parts of it out."""
    row = [(d.integer(1, 4), d.integer(1, 2), d.integer(1, 2), d.integer(1, 2), d.integer(0, 2)) for _ in range(2)]
    return windows.Grid(*zip(*row, strict=True), count=(d.integer(1, 3), d.integer(1, 3)))


@_case("dropout")
def _dropout(d: Draw) -> tuple:
    shape = d.shape()
    mask = d.rng.random(shape) > 0.4
    return lambda xp, x: network.dropout_step(x, mask, scale=1 / 0.6), [d.array(shape)]


def _linalg(name: str, draw: Callable) -> None:
    def build(d: Draw) -> tuple:
        return lambda xp, x: getattr(xp.linalg, name)(x), [draw(d)]

    CASES.append(Case(f"linalg.{name}", build))


def _square(d: Draw) -> np.ndarray:
    return d.matrix(*[d.integer(1, 3)] * 2, d.shape(0, 1))


def _any_matrix(d: Draw) -> np.ndarray:
    return d.matrix(d.integer(1, 4), d.integer(1, 4), d.shape(0, 1))


_linalg("inv", _square)
_linalg("det", _square)
_linalg("pinv", _any_matrix)
_linalg("svdvals", _any_matrix)
_linalg("vector_norm", _any_matrix)
_linalg("matrix_norm", _any_matrix)


@_case("linalg.diagonal")
def _diagonal(d: Draw) -> tuple:
    offset, shape = d.integer(-1, 1), (*d.shape(0, 1), d.integer(2, 3), d.integer(2, 3))
    return lambda xp, x: xp.linalg.diagonal(x, offset=offset), [d.array(shape)]


@_case("linalg.slogdet")
def _slogdet(d: Draw) -> tuple:
    return lambda xp, x: xp.linalg.slogdet(x)[1], [_square(d)]


@_case("linalg.solve")
def _solve(d: Draw) -> tuple:
    n, batch = d.integer(1, 3), d.shape(0, 1)
    b = d.choice((n,), (n, 2)) if not batch else (*batch, n, 2)
    return lambda xp, x, y: xp.linalg.solve(x, y), [d.matrix(n, n, batch), d.array(b)]


@_case("linalg.cholesky")
def _cholesky(d: Draw) -> tuple:
    def call(xp: Any, x: Any) -> Any:
        return xp.linalg.cholesky(0.5 * (x + xp.matrix_transpose(x)))

    return call, [d.definite(d.integer(1, 3), d.shape(0, 1))]


@_case("linalg.eigh")
def _eigh(d: Draw) -> tuple:
    def call(xp: Any, x: Any) -> Any:
        w, v = xp.linalg.eigh(0.5 * (x + xp.matrix_transpose(x)))
        return xp.expand_dims(w, axis=-2) * v * v  # without the sign that the vectors are free to choose

    return call, [d.definite(d.integer(1, 3), d.shape(0, 1))]


@_case("linalg.eigvalsh")
def _eigvalsh(d: Draw) -> tuple:
    def call(xp: Any, x: Any) -> Any:
        return xp.linalg.eigvalsh(0.5 * (x + xp.matrix_transpose(x)))

    return call, [d.definite(d.integer(1, 3), d.shape(0, 1))]


@_case("linalg.svd")
def _svd(d: Draw) -> tuple:
    def call(xp: Any, x: Any) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=False)
        return xp.matmul(u * u, xp.expand_dims(s, axis=-1)) + xp.sum(vh * vh * xp.expand_dims(s, axis=-1))

    return call, [_any_matrix(d)]


@_case("linalg.qr")
def _qr(d: Draw) -> tuple:
    n = d.integer(1, 3)

    def call(xp: Any, x: Any) -> Any:
        q, r = xp.linalg.qr(x)
        return xp.sum(q * q * xp.exp(q * q), axis=-1) + xp.sum(r * r)

    return call, [d.matrix(d.integer(n, 4), n, d.shape(0, 1))]
