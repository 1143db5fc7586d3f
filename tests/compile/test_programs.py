"""Compiled pure functions: values and derivatives equal the uncompiled ones.

Known functions first, then small programs that Hypothesis draws.
"""

import math

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import chainrule.numpy as xp
from chainrule.compile.kernels import Gemm
from chainrule.compile.machine import Machine
from chainrule.nn import functional as F
from chainrule.ops import network, reductions

RNG = np.random.default_rng(7)


def raw(x):
    return np.asarray(x.detach() if isinstance(x, cr.Tensor) else x)


def assert_same(found, expected, rtol=1e-10, atol=1e-12):
    """Equal structure, types, shapes and dtypes; numbers to rounding, NaN and infinities and signs of zeros alike."""
    found, structure = optree.tree_flatten(found)
    expected, wanted = optree.tree_flatten(expected)
    assert structure == wanted
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b)
        a, b = raw(a), raw(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_compiles(function, *argument_sets, **options):
    """The compiled function gives what the function gives, for each set of arguments, first and later."""
    compiled = cr.compile(function, strict=True, **options)
    for args in (argument_sets[0], *argument_sets):
        assert_same(compiled(*args), function(*args))
    assert len(compiled.variants) == 1
    return compiled


# Derivatives ---------------------------------------------------------------------------------------------------------

VECTOR = RNG.standard_normal(4)
OTHER = RNG.standard_normal(4)


def scalar_of(x):
    return xp.sum(xp.sin(x) * x**2) / (1 + xp.sum(x * x))


def vector_of(x):
    return xp.tanh(x) * xp.sum(x), x[1:] * x[:-1]


@pytest.mark.parametrize(
    "function",
    [
        scalar_of, cr.grad(scalar_of), cr.value_and_grad(scalar_of), cr.hessian(scalar_of), cr.jacobian(vector_of),
        lambda x: cr.hvp(scalar_of, (x,), (OTHER,)), lambda x: cr.jvp(vector_of, (x,), (OTHER,)),
        lambda x: cr.vjp(scalar_of, x)[1](2.0), cr.grad(lambda x: xp.sum(cr.grad(scalar_of)(x) ** 2)),
        cr.grad(lambda x: (scalar_of(x), xp.max(x)), has_aux=True),
    ],
    ids=["value", "grad", "value and grad", "hessian", "jacobian", "hvp", "jvp", "vjp", "grad of grad", "aux"],
)  # fmt: skip
def test_every_derivative_of_arrays(function):
    assert_compiles(function, (VECTOR,), (OTHER,))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x * y + x**2 / y - 3, cr.grad(lambda x, y: math.pi * x * y**2, argnums=(0, 1)),
        cr.value_and_grad(lambda x, y: np.sin(x) * np.exp(y)), cr.grad(cr.grad(lambda x, y: x**4 * y)),
        lambda x, y: [x, {"product": x * y}], lambda x, y: cr.jvp(lambda x: x * np.tanh(x) * y, (x,), (1.0,)),
        lambda x, y: -x, lambda x, y: +x, lambda x, y: abs(x - y),
        lambda x, y: 2.0, lambda x, y: x // y + x % y,
    ],
)  # fmt: skip
def test_functions_of_python_floats_return_floats_as_uncompiled(function):
    assert_compiles(function, (0.7, 1.3), (-0.2, 0.4), (3.0, -2.5))


def test_a_tree_of_parameters_keeps_its_structure():
    def loss(parameters, x):
        h = np.tanh(x @ parameters["in"]["w"] + parameters["in"]["b"])
        return np.mean((h @ parameters["out"]) ** 2)

    parameters = {"in": {"w": RNG.standard_normal((4, 5)), "b": RNG.standard_normal(5)},
                  "out": RNG.standard_normal((5, 2))}  # fmt: skip
    assert_compiles(cr.grad(loss), (parameters, RNG.standard_normal((6, 4))), (parameters, np.ones((6, 4))))


# Python loops over numbers -------------------------------------------------------------------------------------------


def runge_kutta(x, v, k, dt):
    """A pendulum, ten steps of the classical method."""

    def slope(x, v):
        return v, -k * np.sin(x)

    for _ in range(10):
        a, b = slope(x, v)
        c, d = slope(x + dt / 2 * a, v + dt / 2 * b)
        e, f = slope(x + dt / 2 * c, v + dt / 2 * d)
        g, h = slope(x + dt * e, v + dt * f)
        x, v = x + dt / 6 * (a + 2 * c + 2 * e + g), v + dt / 6 * (b + 2 * d + 2 * f + h)
    return x * x + v


def determinant(rows):
    if len(rows) == 1:
        return rows[0][0]
    minors = ([row[:j] + row[j + 1 :] for row in rows[1:]] for j in range(len(rows)))
    return sum((-1) ** j * rows[0][j] * determinant(minor) for j, minor in enumerate(minors))


def test_an_integrator_in_python_floats():
    assert_compiles(cr.value_and_grad(runge_kutta, argnums=(0, 1, 2)), (0.3, 0.1, 2.0, 0.05), (1.3, -0.1, 3.0, 0.01))


def test_a_determinant_by_minors_in_python_floats():
    matrices = RNG.standard_normal((2, 5, 5)).tolist()
    compiled = assert_compiles(cr.grad(determinant), *[(m,) for m in matrices])
    a = np.array(matrices[0])
    np.testing.assert_allclose(compiled(matrices[0]), np.linalg.det(a) * np.linalg.inv(a).T, rtol=1e-9)


def test_a_determinant_by_minors_of_an_array():
    def of_array(a):
        return determinant([[a[i, j] for j in range(4)] for i in range(4)])

    assert_compiles(cr.grad(of_array), (RNG.standard_normal((4, 4)),), (RNG.standard_normal((4, 4)),))


# Known functions of arrays -------------------------------------------------------------------------------------------


def log_sum_exp(x):
    top = np.max(x)
    return top + np.log(np.sum(np.exp(x - top)))


def mixture(weights, means, scales, x):
    """Log-likelihood of a Gaussian mixture with diagonal covariances."""
    z = (x[:, None, :] - means) * np.exp(scales)
    terms = weights - network.logsumexp(weights) + np.sum(scales, axis=1) - 0.5 * np.sum(z * z, axis=2)
    return xp.sum(network.logsumexp(terms, axis=1))


@pytest.mark.parametrize("n", [1, 5, 40_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_log_sum_exp_of_few_and_many(n, threads):
    assert_compiles(
        cr.value_and_grad(log_sum_exp), (RNG.standard_normal(n),), (RNG.uniform(0, 800, n),), threads=threads
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("shape", [(4096,), (64, 64), (4, 30, 40)])
def test_log_sum_exp_in_rows_takes_special_values_as_uncompiled(shape, bad):
    def draws():
        for start, stop in ((5, 6), (1024, 2048), (0, math.prod(shape))):  # one number, a row, everything
            x = RNG.standard_normal(math.prod(shape)) - 3000.0 * (bad < 0)
            x[start:stop] = bad
            yield (x.reshape(shape),)

    def log_sum_exps(x):
        return network.logsumexp(x), network.logsumexp(x, keepdims=True)

    assert_compiles(
        lambda x: (log_sum_exps(x), cr.vjp(log_sum_exps, x)[1]((2.0, np.full((1,) * x.ndim, 3.0)))), *draws()
    )


def test_a_compiled_log_sum_exp_in_rows_is_exact_to_a_few_units_in_the_last_place():
    x = RNG.uniform(-8, 8, 6400)
    compiled = cr.compile(cr.value_and_grad(network.logsumexp), strict=True)
    compiled(x)
    value, gradient = compiled(x)

    e = np.exp(x.astype(np.longdouble) - x.max())
    assert abs(value - (np.log(e.sum()) + x.max())) <= np.spacing(value)
    assert (abs(gradient - e / e.sum()) <= 10 * np.spacing(gradient)).all()


def test_a_large_result_is_finished_from_the_end_that_was_made_last():
    x = RNG.standard_normal(4 * Machine.host().l2_bytes // 8)
    compiled = assert_compiles(cr.grad(lambda x: np.logaddexp.reduce(x, 0)), (x,))
    (variant,) = compiled.variants
    assert [call.kernel.backward for call in variant.plan.program.calls][-1]


@pytest.mark.parametrize("activation", [F.gelu, F.silu], ids=["gelu", "silu"])
def test_of_an_activation_its_derivative_is_kept_for_the_way_back_not_what_that_is_made_of(activation):
    rows, weights = RNG.standard_normal((256, 8)), (RNG.standard_normal((8, 96)), RNG.standard_normal((96, 4)))
    gradient = cr.grad(lambda first, second: xp.sum(activation(rows @ first) @ second), argnums=(0, 1))
    (variant,) = assert_compiles(gradient, weights).variants
    wide = [value for value in variant.plan.values.values() if value.shape == (256, 96)]
    assert len(wide) == 3  # the activation, its derivative, and the cotangent


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_wanted_in_another_order_are_written_in_that_order(parts):
    factors = RNG.standard_normal((2, 4, 6, 5)), RNG.standard_normal((parts, 2, 4, 5, 3)), RNG.standard_normal((3, 2))

    def heads_side_by_side(x, weights, out):
        product = x @ weights[0] if parts == 1 else np.stack([x @ each for each in weights], 1)
        along_rows = np.moveaxis(product, -2, 1)
        return along_rows.reshape(12, -1), along_rows.reshape(-1, 3) @ out, product.sum((0, -2))

    (variant,) = assert_compiles(heads_side_by_side, factors).variants
    (_the_sum,) = [call for call in variant.plan.program.calls if not isinstance(call.kernel, Gemm)]


def test_a_gaussian_mixture():
    def draw():
        return tuple(RNG.standard_normal(s) for s in ((3,), (3, 2), (3, 2), (50, 2)))

    assert_compiles(cr.value_and_grad(mixture, argnums=(0, 1, 2)), draw(), draw())


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("ij,jk->ik", ((3, 4), (4, 5))), ("bij,bkj->bik", ((2, 3, 4), (2, 5, 4))), ("ii->i", ((4, 4),)),
        ("ijk,k,j->i", ((2, 3, 4), (4,), (3,))), ("i,j,k->kji", ((2,), (3,), (4,))), ("ij,ij->", ((3, 4), (3, 4))),
    ],
)  # fmt: skip
def test_einsum(text, shapes):
    function = cr.value_and_grad(lambda *xs: xp.sum(xp.einsum(text, *xs) ** 2), argnums=tuple(range(len(shapes))))
    assert_compiles(function, *[[RNG.standard_normal(s) for s in shapes] for _ in range(2)])


def test_a_distance_matrix_and_nearest_points():
    def spread(points, centres):
        d = np.sum((points[:, None] - centres) ** 2, axis=2)
        return np.sum(np.min(d, axis=1)), np.argmin(d, axis=1), np.argmax(d), np.sqrt(d)

    assert_compiles(spread, *[(RNG.standard_normal((20, 2)), RNG.standard_normal((4, 2))) for _ in range(2)])


# Indexing ------------------------------------------------------------------------------------------------------------

TABLE = RNG.standard_normal((5, 3))


def test_a_table_is_read_at_indices_given_as_arguments():
    def function(table, i):
        return cr.value_and_grad(lambda t: xp.sum(xp.tanh(t[i]) ** 2))(table)

    assert_compiles(
        function, (TABLE, np.array([0, 2, 2])), (TABLE, np.array([4, -1, -5])), (TABLE * 2, np.array([1] * 3))
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_indices_of_every_integer_type(dtype):
    assert_compiles(lambda t, i: t[i], (TABLE, np.array([0, 4, 2], dtype)), (TABLE, np.array([3, 3, 1], dtype)))


@pytest.mark.parametrize("bad", [5, -6, 2**40])
def test_an_index_out_of_range_raises_as_uncompiled(bad):
    compiled = assert_compiles(lambda t, i: t[i], (TABLE, np.array([0, 4])))
    with pytest.raises(IndexError):
        compiled(TABLE, np.array([0, bad]))
    np.testing.assert_array_equal(compiled(TABLE, np.array([1, 2])), TABLE[[1, 2]])


@pytest.mark.parametrize(
    "function",
    [
        lambda t, i, j: t[i, j], lambda t, i, j: t[i][:, 1], lambda t, i, j: t[:, j], lambda t, i, j: t[i, 1:],
        lambda t, i, j: t[i[:, None], j], lambda t, i, j: t[i * 2 % 5, j], lambda t, i, j: xp.take(t, j, axis=1),
        lambda t, i, j: xp.take_along_axis(t[:3], i[:, None] % 3, axis=1),
        lambda t, i, j: xp.sum(t[i, j] ** 2) * t[i[0], j[1]], lambda t, i, j: t[None, i, :, None] * 2,
        lambda t, i, j: t[np.array([0, 1]), j[:2]], lambda t, i, j: t[xp.argmax(t, axis=0), j],
    ],
)  # fmt: skip
def test_indices_may_be_combined_with_everything(function):
    i, j = np.array([0, 4, 1, 1, 2]), np.array([2, 0, -1])
    assert_compiles(function, (TABLE, i[:3], j), (TABLE * 2, i[2:], j[::-1].copy()))


ASSIGNMENTS = {
    "element": lambda t, v, i: t.__setitem__(1, v[0]),
    "slice": lambda t, v, i: t.__setitem__(slice(1, 3), v[:2]),
    "stepped": lambda t, v, i: t.__setitem__(slice(None, None, 2), v[:3]),
    "number": lambda t, v, i: t.__setitem__(slice(2, None), 7.0),
    "column": lambda t, v, i: t.__setitem__((slice(None), 1), v[:, 0]),
    "twice": lambda t, v, i: [t.__setitem__(0, v[1]), t.__setitem__(slice(0, 2), v[2:4])],
    "itself": lambda t, v, i: t.__setitem__(slice(1, None), t[:-1]),
    "constant places": lambda t, v, i: t.__setitem__(np.array([3, 0]), v[:2]),
    "given places": lambda t, v, i: t.__setitem__(i, v[:3]),
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignment_is_followed_with_its_gradients(name):
    def function(table, values, i):
        def loss(table, values):
            t = table * 1
            ASSIGNMENTS[name](t, values, i)
            return xp.sum(xp.sin(t) * np.arange(15.0).reshape(5, 3))

        return cr.value_and_grad(loss, argnums=(0, 1))(table, values)

    i = np.array([4, 0, 2])
    assert_compiles(function, (TABLE, TABLE[::-1] * 2, i), (TABLE + 1, TABLE * 3, i[::-1].copy()))


def test_in_place_arithmetic_on_tensors():
    def function(x):
        t = cr.tensor(x) if not isinstance(x, cr.Tensor) else x
        t = t * 1
        t += 2
        t *= t
        t[1] -= 5
        return t

    assert_compiles(function, (cr.tensor(VECTOR),), (cr.tensor(OTHER),))


# Layout --------------------------------------------------------------------------------------------------------------

A = RNG.standard_normal((3, 4))
LAYOUTS = {
    "concat": lambda a: xp.concat([a, a * 2, a[:1]], axis=0),
    "stack": lambda a: xp.stack([a, a + 1], axis=1),
    "split": lambda a: [part * i for i, part in enumerate(xp.split(a, 2, axis=1))],
    "pad": lambda a: xp.pad(a, ((1, 2), (0, 1))),
    "roll": lambda a: xp.roll(a, (1, -2), axis=(0, 1)),
    "flip": lambda a: xp.flip(a, axis=1) @ a.T,
    "tril": lambda a: xp.tril(a, k=-1) + xp.triu(a, k=2),
    "transpose and reshape": lambda a: xp.reshape(a.T, (2, 6)) @ xp.reshape(a, (6, 2)),
    "reshape of a slice": lambda a: xp.reshape(a[:, 1:3], (6,)) * 2,
    "reshape of a broadcast": lambda a: xp.reshape(xp.broadcast_to(a[:, :1], (3, 4)), (2, 6)),
    "cumulative sum": lambda a: xp.cumulative_sum(a, axis=1),
    "cumulative product": lambda a: xp.cumulative_prod(a, axis=0),
    "moveaxis": lambda a: xp.moveaxis(xp.reshape(a, (3, 2, 2)), 0, 2) * 3,
    "squeeze": lambda a: xp.squeeze(a[:1], axis=0) * xp.expand_dims(a[:, 0], axis=1),
    "tile": lambda a: xp.tile(a, (2, 1)), "repeat": lambda a: xp.repeat(a, 2, axis=0),
    "diagonal": lambda a: xp.linalg.diagonal(a @ a.T), "outer": lambda a: xp.linalg.outer(a[0], a[1]),
    "trace": lambda a: xp.linalg.trace(a @ a.T), "iterated": lambda a: sum(row * i for i, row in enumerate(a)),
    "meshgrid": lambda a: xp.meshgrid(a[0], a[:, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_with_gradients(name):
    def loss(a):
        leaves = optree.tree_leaves(LAYOUTS[name](a))
        return sum(xp.sum(xp.sin(leaf) * np.arange(1.0, leaf.size + 1).reshape(leaf.shape)) for leaf in leaves)

    assert_compiles(lambda a: (LAYOUTS[name](a), cr.grad(loss)(a)), (A,), (A * 2 - 1,))


# Special values ------------------------------------------------------------------------------------------------------

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e308, -1e308, 5e-324, 2.5, -2.5])
UNARY = """
    negative square abs sign exp expm1 exp2 sin cos sinh cosh tanh asinh atan reciprocal log log1p log2 log10 sqrt
    asin acos atanh acosh tan floor ceil trunc isnan isfinite isinf signbit logical_not
"""
BINARY = """
    add subtract multiply divide floor_divide remainder pow maximum minimum hypot atan2 copysign logaddexp equal less
    less_equal not_equal logical_and
"""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_special_values_go_through_elementwise_functions_alike(dtype):
    x = np.tile(SPECIAL, 3).astype(dtype)  # long enough for vectors and a rest
    a, b = (grid.ravel().astype(dtype) for grid in np.meshgrid(SPECIAL, SPECIAL))
    names = UNARY.split(), BINARY.split()

    def function(x, a, b):
        return [getattr(xp, name)(x) for name in names[0]], [getattr(xp, name)(a, b) for name in names[1]]

    compiled = cr.compile(function, strict=True)
    expected = function(x, a, b)
    compiled(x, a, b)
    found = compiled(x, a, b)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for group, results, wanted in zip(names, found, expected, strict=True):
        for name, result, value in zip(group, results, wanted, strict=True):
            result, value = raw(result), raw(value)
            assert result.dtype == value.dtype, name
            tiny = np.finfo(dtype).tiny
            np.testing.assert_allclose(result, value, rtol=tolerance, atol=tiny, err_msg=name)
            if value.dtype.kind == "f":
                zero = value == 0
                same = np.signbit(result[zero & (result == 0)]) == np.signbit(value[zero & (result == 0)])
                assert same.all(), f"{name}: sign of zero"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["max", "min", "sum", "prod", "argmax", "argmin", "any", "all", "mean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.0])
def test_special_values_go_through_reductions_alike(name, bad):
    def draws():
        for place in (0, 7, 30):
            x = np.round(RNG.standard_normal((4, 31)), 1)
            x[1, place] = bad
            x[2] = bad
            yield (x,)

    function = lambda x: [getattr(xp, name)(x, axis=axis) for axis in (None, 0, 1)]
    assert_compiles(function, *draws())


def test_ties_share_gradients_as_uncompiled():
    x = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-0.0, 0.0, -1.0, -1.0]])

    def function(x):
        return [
            cr.grad(lambda x: xp.sum(xp.max(x, axis=1)))(x), cr.grad(lambda x: xp.min(x))(x),
            cr.grad(lambda x: xp.sum(xp.maximum(x, xp.zeros_like(x))))(x),
            cr.grad(lambda x: xp.sum(xp.abs(x) + xp.clip(x, 0.0, 1.0)))(x),
            cr.grad(lambda x: xp.sum(xp.where(x > 0, x**2, -x)))(x), cr.grad(lambda x: xp.prod(x))(x),
        ]  # fmt: skip

    assert_compiles(function, (x,), (x[::-1].copy(),))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a / b, lambda a, b: a // b, lambda a, b: a % b, lambda a, b: a**2 + b, lambda a, b: a << (b % 5),
        lambda a, b: (a & b) | (a ^ b), lambda a, b: ~a + abs(b), lambda a, b: (a > b) * a, lambda a, b: xp.sum(a),
        lambda a, b: xp.mean(a), lambda a, b: xp.max(a) - xp.min(b), lambda a, b: xp.astype(a, xp.float32) * b,
        lambda a, b: a * 2.5 - b, lambda a, b: xp.cumulative_sum(a), lambda a, b: xp.where(a > 2, a, b),
        lambda a, b: (a == b) & (a != 3), lambda a, b: xp.sqrt(a * 1.0), lambda a, b: xp.prod(b),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("int32", "int64"), ("uint8", "uint8"), ("int8", "uint16")])
def test_integers_compute_as_numpy_does(function, dtypes):
    a, b = np.array([1, 2, 3, 7, 100]).astype(dtypes[0]), np.array([3, 2, 1, 2, 7]).astype(dtypes[1])
    assert_compiles(function, (a, b), (b.astype(dtypes[0]), a.astype(dtypes[1])))


# Programs that Hypothesis draws --------------------------------------------------------------------------------------

SHAPE = st.lists(st.sampled_from([0, 1, 1, 2, 3, 5]), max_size=3).map(tuple)
ONE_TO_ONE = [
    xp.tanh, xp.sin, xp.negative, xp.square, xp.abs, xp.exp, lambda x: x * 0.5 + 1, lambda x: 1 / (2 + x * x),
    lambda x: xp.where(x > 0, x, 0.1 * x), lambda x: xp.clip(x, -1.0, 1.0), lambda x: xp.log1p(x * x), lambda x: x * x,
]  # fmt: skip
TWO_TO_ONE = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (1 + b * b), xp.maximum,
    lambda a, b: xp.where(a > b, a * b, b),
]  # fmt: skip
FOLDS = [reductions.sum, reductions.mean, reductions.max, reductions.var, network.logsumexp]


KINDS = ["unary", *["binary"] * 2, *["reduce"] * 2, "layout", "matmul", "gather", "assign", "softmax"]


def one_step(draw, values):
    """A drawn operation on some of the values so far, as a function of all of them; None where it does not fit."""
    shapes = [v.shape for v in values]
    i = draw(st.integers(0, len(values) - 1))
    shape, rank = shapes[i], len(shapes[i])
    kind = draw(st.sampled_from(KINDS))
    if kind == "unary":
        f = draw(st.sampled_from(ONE_TO_ONE))
        return lambda vs: f(vs[i])
    if kind == "binary":
        f = draw(st.sampled_from(TWO_TO_ONE))
        j = draw(st.sampled_from([j for j, other in enumerate(shapes) if fit(shape, other)]))
        return lambda vs: f(vs[i], vs[j])
    if kind == "matmul":
        fitting = [j for j, other in enumerate(shapes) if rank >= 1 and len(other) == 2 and other[0] == shape[-1]]
        if not fitting:
            return lambda vs: xp.matmul(xp.reshape(vs[i], (1, -1)), xp.reshape(vs[i], (-1, 1)))
        j = draw(st.sampled_from(fitting))
        return lambda vs: xp.matmul(vs[i], vs[j])
    if rank == 0:
        return lambda vs: xp.reshape(vs[i], (1, 1)) * 2
    axis = draw(st.integers(-rank, rank - 1))
    if kind == "reduce":
        keepdims = draw(st.booleans())
        fold = draw(st.sampled_from(FOLDS if shape[axis] else [reductions.sum]))
        whole = draw(st.booleans()) and 0 not in shape
        return lambda vs: fold(vs[i], axis=None if whole else axis, keepdims=keepdims)
    if kind == "softmax":
        return (lambda vs: F.softmax(vs[i], axis)) if shape[axis] else (lambda vs: vs[i] * 2)
    if kind == "gather":
        if not shape[axis]:
            return lambda vs: xp.flip(vs[i], axis=axis)
        indices = np.array(draw(st.lists(st.integers(0, shape[axis] - 1), max_size=4)), np.int64)
        return lambda vs: xp.take(vs[i], indices, axis=axis)
    if kind == "assign":
        start = draw(st.integers(0, shape[0]))

        def assign(vs):
            y = vs[i] * 1
            y[start:] = xp.sin(vs[i][start:])
            return y

        return assign
    return layout(draw, i, shape, axis)


def layout(draw, i, shape, axis):
    rank = len(shape)
    order = tuple(draw(st.permutations(range(rank))))
    start, step = draw(st.integers(0, max(shape[0], 1))), draw(st.sampled_from([1, 2, -1]))
    shift = draw(st.integers(-3, 3))
    return draw(
        st.sampled_from([
            lambda vs: xp.permute_dims(vs[i], order), lambda vs: xp.reshape(vs[i], (-1,)),
            lambda vs: xp.reshape(xp.permute_dims(vs[i], order), (math.prod(shape),)),
            lambda vs: vs[i][start::step], lambda vs: xp.flip(vs[i], axis=axis),
            lambda vs: xp.roll(vs[i], shift, axis=axis), lambda vs: xp.concat([vs[i], vs[i] * 2], axis=axis),
            lambda vs: xp.stack([vs[i], vs[i]], axis=axis),
            lambda vs: xp.expand_dims(vs[i], axis=axis), lambda vs: vs[i][..., None] * 3,
            lambda vs: xp.broadcast_to(vs[i], (2, *shape)), lambda vs: xp.pad(vs[i], ((1, 2),) * rank),
            lambda vs: xp.cumulative_sum(vs[i], axis=axis),
        ])
    )  # fmt: skip


def fit(a, b):
    """Whether the shapes broadcast."""
    return all(n == m or 1 in (n, m) for n, m in zip(a[::-1], b[::-1], strict=False))


@st.composite
def programs(draw):
    """Arrays, the steps of a program on them, and which of its values it returns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    arrays = [rng.uniform(-1.5, 1.5, draw(SHAPE)) for _ in range(draw(st.integers(1, 3)))]
    values, steps = list(arrays), []
    for _ in range(draw(st.integers(3, 15))):
        step = one_step(draw, values)
        value = raw(step([cr.tensor(v) for v in values]))
        if value.size <= 2000 and value.ndim <= 5 and (np.abs(value) < 1e6).all():
            steps.append(step)
            values.append(value)
    kept = draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=4))
    return arrays, steps, [*kept, len(values) - 1]


def run(steps, kept, arrays):
    values = list(arrays)
    for step in steps:
        values.append(step(values))
    return [values[i] for i in kept]


def with_gradients(steps, kept):
    def loss(*arrays):
        results = run(steps, kept, arrays)
        weights = [np.cos(np.arange(float(math.prod(y.shape)))).reshape(y.shape) for y in results]
        return sum(xp.sum(y * w) for y, w in zip(results, weights, strict=True))

    def function(*arrays):
        gradients = cr.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
        return run(steps, kept, [cr.tensor(x) if not isinstance(x, cr.Tensor) else x for x in arrays]), gradients

    return function


@pytest.mark.parametrize("threads", [1, 2])
@given(program=programs())
def test_small_programs_give_the_same_values_and_gradients(program, threads):
    arrays, steps, kept = program
    function = with_gradients(steps, kept)
    expected = function(*[cr.tensor(x) for x in arrays])
    compiled = cr.compile(function, strict=True, threads=threads)
    tensors = [cr.tensor(x) for x in arrays]
    for _ in range(2):
        for a, b in zip(optree.tree_leaves(compiled(*tensors)), optree.tree_leaves(expected), strict=True):
            a, b = raw(a), raw(b)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(b).max(initial=0)))
