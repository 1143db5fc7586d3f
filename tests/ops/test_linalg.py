"""Linear algebra: values against NumPy, derivatives against central differences and closed forms, and the
places where a derivative does not exist."""

import re
from itertools import pairwise

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.testing import assert_allclose, assert_array_equal

import chainrule as cr
from chainrule.ops import linalg

FEW = settings(max_examples=max(2, settings.default.max_examples // 8))
SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.sampled_from([(), (1,), (2,), (2, 1)])


def matrices(seed, *shape, rank=None):
    """Random matrices whose singular values are apart and, up to `rank`, not small."""
    rng = np.random.default_rng(seed)
    u, s, vh = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    count = s.shape[-1]
    values = 0.5 + 0.7 * np.arange(count)[::-1] + rng.uniform(0, 0.2, s.shape)
    values[..., count if rank is None else rank :] = 0
    return (u * values[..., None, :]) @ vh


def symmetric(x):
    return 0.5 * (x + x.mT)


def positive_definite(x):
    return x @ x.mT + 0.3 * np.eye(x.shape[-1])


def sign_free(*factors):
    """Factors whose columns or rows LAPACK may turn around, as something that does not see their sign."""
    return tuple(factor * factor for factor in factors)


# What is differentiated, and the shapes of the matrices it is done to (after the axes of the batch).
SQUARE = [(1, 1), (3, 3)]
ANY = [(3, 3), (4, 2), (2, 4)]
CASES = {
    "inv": (linalg.inv, SQUARE),
    "solve for itself": (lambda x: linalg.solve(x, x[..., :1] * 2), SQUARE),
    "solve for a vector": (lambda x: linalg.solve(x, np.arange(x.shape[-1]) + 1.0), SQUARE),
    "det": (linalg.det, SQUARE),
    "slogdet": (linalg.slogdet, SQUARE),
    "pinv": (linalg.pinv, ANY),
    "cholesky": (lambda x: linalg.cholesky(positive_definite(x)), SQUARE),
    "cholesky, upper": (lambda x: linalg.cholesky(positive_definite(x), upper=True), SQUARE),
    "qr": (linalg.qr, ANY),
    "qr, R alone": (lambda x: linalg.qr(x, "r"), ANY),
    "qr, complete": (lambda x: linalg.qr(x, "complete"), [(3, 3), (2, 4)]),
    "eigh": (lambda x: sign_free(*linalg.eigh(symmetric(x))), SQUARE),
    "eigh of the upper triangle": (lambda x: sign_free(*linalg.eigh(symmetric(x), "U")), SQUARE),
    "eigvalsh": (lambda x: linalg.eigvalsh(symmetric(x)), SQUARE),
    "svd": (lambda x: sign_free(*linalg.svd(x, full_matrices=False)), ANY),
    "svd, square": (lambda x: sign_free(*linalg.svd(x)), SQUARE),
    "svdvals": (linalg.svdvals, ANY),
    "trace": (lambda x: linalg.trace(x, offset=1), ANY),
    "diagonal": (lambda x: [linalg.diagonal(x, offset=k) for k in (0, 1, -1, 5)], ANY),
    "matrix_power": (lambda x: [linalg.matrix_power(x, n) for n in (0, 1, 3, 6)], SQUARE),
    "matrix_power, negative": (lambda x: linalg.matrix_power(x, -2), SQUARE),
    "cond": (linalg.cond, ANY),
    "cond, -2": (lambda x: linalg.cond(x, -2), ANY),
    "cond, Frobenius": (lambda x: linalg.cond(x, "fro"), SQUARE),
    "outer": (lambda x: linalg.outer(x.reshape(-1), x.reshape(-1)[:3]), ANY),
    "cross": (lambda x: linalg.cross(x, np.arange(3.0), axis=-1), [(2, 3)]),
    "cross along another axis": (lambda x: linalg.cross(x, x[..., ::-1], axis=-2), [(3, 2)]),
    "multi_dot": (
        lambda x: linalg.multi_dot([x.reshape(-1, 2), x.reshape(2, -1), x.reshape(-1)[::2]]),
        [(2, 2)],
    ),
}


@pytest.mark.parametrize("name", CASES)
@FEW
@given(batch=BATCHES, seed=SEEDS)
def test_first_and_second_derivatives_agree_with_central_differences_in_both_modes(name, batch, seed):
    function, shapes = CASES[name]
    for shape in shapes:
        cr.check_grads(function, (matrices(seed, *batch, *shape),), order=2)


@FEW
@given(seed=SEEDS, batches=st.sampled_from([((), ()), ((2,), ()), ((), (2,)), ((2, 1), (3,))]))
def test_solve_differentiates_both_arguments_through_broadcasting(seed, batches):
    a, b = matrices(seed, *batches[0], 3, 3), matrices(seed, *batches[1], 3, 2)
    cr.check_grads(linalg.solve, (a, b), order=2)


@FEW
@given(seed=SEEDS, columns=st.sampled_from([(), (2,)]))
def test_lstsq_differentiates_solution_and_residuals(seed, columns):
    b = np.random.default_rng(seed).standard_normal((4, *columns))
    cr.check_grads(lambda a, b: linalg.lstsq(a, b)[:2], (matrices(seed, 4, 2), b), order=2)


def test_pinv_is_differentiated_along_changes_that_keep_the_rank():
    left, right = matrices(0, 4, 2), matrices(1, 2, 3)
    cr.check_grads(lambda a, b: linalg.pinv(a @ b), (left, right), order=2)


def test_the_tape_gives_the_second_derivatives_of_functions_of_functions():
    x = matrices(3, 3, 3)

    def loss(x):
        return sum((part**2).sum() for part in sign_free(*linalg.svd(x)))

    t = cr.tensor(x, requires_grad=True)
    loss(t).backward(create_graph=True)
    first, t.grad = t.grad, None
    (first * np.arange(9.0).reshape(3, 3)).sum().backward()
    assert_allclose(t.grad.numpy(), cr.hvp(loss, (x,), (np.arange(9.0).reshape(3, 3),)), rtol=1e-9)


# Values -----------------------------------------------------------------------------------------------------

SAME_AS_NUMPY = {
    "inv": lambda f, x: f.inv(x[..., :2, :2]),
    "det": lambda f, x: f.det(x[..., :2, :2]),
    "slogdet": lambda f, x: f.slogdet(x[..., :2, :2]),
    "pinv": lambda f, x: f.pinv(x),
    "qr": lambda f, x: f.qr(x),
    "qr, complete": lambda f, x: f.qr(x, mode="complete"),
    "qr, R alone": lambda f, x: f.qr(x, mode="r"),
    "svd": lambda f, x: f.svd(x),
    "svd, reduced": lambda f, x: f.svd(x, full_matrices=False),
    "svd, values alone": lambda f, x: f.svd(x, compute_uv=False),
    "svdvals": lambda f, x: f.svdvals(x),
    "eigh": lambda f, x: f.eigh(x[..., :2, :2]),
    "eigh of the upper triangle": lambda f, x: f.eigh(x[..., :2, :2], "U"),
    "eigvalsh": lambda f, x: f.eigvalsh(x[..., :2, :2]),
    "trace": lambda f, x: f.trace(x, offset=-1),
    "diagonal": lambda f, x: f.diagonal(x, offset=1),
    "matrix_rank": lambda f, x: f.matrix_rank(x),
    "matrix_power": lambda f, x: f.matrix_power(x[..., :2, :2], 5),
    "matrix_norm": lambda f, x: f.matrix_norm(x, ord="nuc", keepdims=True),
    "vector_norm": lambda f, x: f.vector_norm(x, axis=(0, -1), ord=3),
    "cond": lambda f, x: f.cond(x),
    "cond, -2": lambda f, x: f.cond(x, -2),
    "cond, 1": lambda f, x: f.cond(x[..., :2, :2], 1),
}


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
@given(batch=BATCHES, shape=st.sampled_from([(2, 2), (3, 3), (3, 2), (2, 3)]), seed=SEEDS)
def test_values_are_numpys(name, batch, shape, seed):
    x = matrices(seed, *batch, *shape)
    expected, given_ = SAME_AS_NUMPY[name](np.linalg, x), SAME_AS_NUMPY[name](linalg, cr.tensor(x))
    many = isinstance(expected, tuple)
    for theirs, ours in zip(expected if many else [expected], given_ if many else [given_], strict=True):
        assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@given(shapes=st.sampled_from([((3,), (3,)), ((2, 3), (3,)), ((3,), (4, 1, 3)), ((1, 3), (2, 3))]), seed=SEEDS)
def test_cross_is_numpys_and_broadcasts(shapes, seed):
    a, b = (np.random.default_rng(seed + i).standard_normal(shape) for i, shape in enumerate(shapes))
    assert_allclose(linalg.cross(cr.tensor(a), b).numpy(), np.linalg.cross(a, b), rtol=1e-14, atol=1e-15)
    if a.shape == b.shape:
        a, b = np.stack([a, b, a], 1), np.stack([b, b, a], 1)
        assert_allclose(linalg.cross(cr.tensor(a), b, axis=0).numpy(), np.linalg.cross(a, b, axis=0), atol=1e-15)


def test_outer_is_numpys():
    a, b = np.arange(3.0), np.arange(4.0) - 1
    assert_array_equal(linalg.outer(cr.tensor(a), b).numpy(), np.linalg.outer(a, b))


def test_factorisations_name_their_parts_as_numpy_does():
    x = np.eye(2)
    for name in ("eigh", "qr", "slogdet", "svd"):
        assert getattr(linalg, name)(x)._fields == getattr(np.linalg, name)(x)._fields


@given(seed=SEEDS, columns=st.sampled_from([(), (2,)]), shape=st.sampled_from([(4, 2), (2, 4), (3, 3)]))
def test_lstsq_is_numpys(seed, columns, shape):
    a = matrices(seed, *shape, rank=min(shape) - seed % 2)
    b = np.random.default_rng(seed).standard_normal((shape[0], *columns))
    for theirs, ours in zip(np.linalg.lstsq(a, b), linalg.lstsq(cr.tensor(a), b), strict=True):
        assert_allclose(ours if isinstance(ours, int) else ours.numpy(), theirs, rtol=1e-10, atol=1e-10)


@given(sizes=st.lists(st.integers(1, 4), min_size=3, max_size=6), from_row=st.booleans(), to_column=st.booleans())
def test_multi_dot_is_the_product_from_left_to_right(sizes, from_row, to_column):
    rng = np.random.default_rng(len(sizes))
    arrays = [rng.standard_normal(pair) for pair in pairwise(sizes)]
    if from_row:
        arrays[0] = arrays[0][0]
    if to_column:
        arrays[-1] = arrays[-1][:, 0]
    expected = arrays[0]
    for x in arrays[1:]:
        expected = expected @ x
    assert_allclose(linalg.multi_dot([cr.tensor(x) for x in arrays]).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_multi_dot_multiplies_in_the_cheapest_order():
    column, row = cr.tensor(np.ones((50, 1)), requires_grad=True), np.ones((1, 50))
    product = linalg.multi_dot([column, row, np.ones((50, 1))])
    shapes = [edge[0].shape for edge in product._node.edges]
    assert shapes == [(50, 1)], "the row times the last column comes first, so no 50 × 50 matrix is made"


def test_matrix_rank_takes_an_absolute_or_a_relative_tolerance():
    x = np.diag([4.0, 1.0, 0.1])
    assert [linalg.matrix_rank(x, tol=0.5).item(), linalg.matrix_rank(x, rtol=0.5).item()] == [2, 1]
    assert_array_equal(linalg.matrix_rank(np.zeros((2, 3, 3))).numpy(), [0, 0])


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32_forward_and_backward(name):
    function, shapes = CASES[name]
    if "vector" in name or "cross" in name or "cholesky" in name:
        return  # their case puts a float64 constant in
    t = cr.tensor(matrices(0, *shapes[-1]), dtype=np.float32, requires_grad=True)
    parts = function(t)
    for part in parts if isinstance(parts, (tuple, list)) else [parts]:
        assert part.dtype == np.float32
        if part.requires_grad:
            part.sum().backward(retain_graph=True)
            assert t.grad.dtype == np.float32


@pytest.mark.parametrize("name", CASES)
def test_the_same_rules_run_on_another_array_library(name):
    function, shapes = CASES[name]
    if "vector" in name or "cross" in name or "cholesky" in name:
        return  # their case puts a NumPy constant in

    def gradient(library):
        t = cr.tensor(library.asarray(matrices(1, *shapes[-1])), requires_grad=True)
        parts = function(t)
        parts = parts if isinstance(parts, (tuple, list)) else [parts]
        sum(((part * part).sum() for part in parts), start=0 * t.sum()).backward()
        return np.from_dlpack(t.grad.data)

    assert_allclose(gradient(array_api_strict), gradient(np), rtol=1e-10, atol=1e-12)


# Closed forms -----------------------------------------------------------------------------------------------


def test_the_gradient_of_log_det_is_the_transposed_inverse():
    x = matrices(0, 4, 4)
    assert_allclose(cr.grad(lambda x: linalg.slogdet(x).logabsdet)(x), np.linalg.inv(x).T, rtol=1e-12)


def test_the_sign_of_a_determinant_has_gradient_zero():
    assert_array_equal(cr.grad(lambda x: linalg.slogdet(x).sign)(np.diag([1.0, -2.0])), np.zeros((2, 2)))


def cofactors_by_minors(x):
    n = len(x)
    minors = [[np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(n)] for i in range(n)]
    return np.array(minors) * (-1.0) ** np.add.outer(np.arange(n), np.arange(n))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
def test_the_gradient_of_det_is_the_cofactor_matrix_whatever_the_rank(rank):
    x = matrices(5, 4, 4, rank=rank)
    assert_allclose(cr.grad(linalg.det)(x), cofactors_by_minors(x), atol=1e-13)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_second_derivatives_of_det_are_right_for_singular_matrices(rank):
    cr.check_grads(linalg.det, (matrices(6, 3, 3, rank=rank),), order=2)
    cr.check_grads(linalg.det, (np.eye(2) * rank,), order=2)


def test_det_of_an_empty_matrix_is_one_with_an_empty_gradient():
    assert linalg.det(np.zeros((0, 0))).item() == 1
    assert cr.grad(linalg.det)(np.zeros((0, 0))).shape == (0, 0)
    assert cr.grad(lambda x: linalg.det(x).sum())(np.zeros((0, 2, 2))).shape == (0, 2, 2)


@pytest.mark.parametrize("function", [linalg.eigvalsh, lambda x: linalg.eigh(x).eigenvalues, linalg.cholesky])
def test_the_gradient_with_respect_to_a_symmetric_matrix_is_symmetric(function):
    g = cr.grad(lambda x: (function(x) * np.arange(3.0)).sum())(positive_definite(matrices(2, 3, 3)))
    assert_allclose(g, g.T, rtol=1e-12)


def test_eigh_and_cholesky_read_one_triangle():
    x = positive_definite(matrices(2, 3, 3))
    lower, upper = np.tril(x), np.triu(x)
    assert_allclose(linalg.eigh(lower).eigenvalues.numpy(), np.linalg.eigvalsh(x), rtol=1e-12)
    assert_allclose(linalg.eigh(upper, UPLO="U").eigenvalues.numpy(), np.linalg.eigvalsh(x), rtol=1e-12)
    assert_allclose(linalg.cholesky(upper, upper=True).numpy(), np.linalg.cholesky(x).T, rtol=1e-12)


# Where derivatives do not exist -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "of_values",
    [
        lambda x: linalg.eigvalsh(x).sum(),
        lambda x: linalg.eigh(x).eigenvalues.sum(),
        lambda x: linalg.svdvals(x).sum(),
        lambda x: linalg.svd(x).S.sum(),
        lambda x: linalg.norm(x, "nuc"),
    ],
)
def test_equal_eigenvalues_do_not_disturb_the_gradient_of_values_alone(of_values):
    identity = np.eye(3)
    assert_allclose(cr.grad(of_values)(identity), identity, atol=1e-15)
    assert_allclose(cr.grad(of_values)(2 * identity), identity, atol=1e-15)


def test_in_forward_mode_too():
    t = symmetric(np.arange(9.0).reshape(3, 3))
    assert_allclose(cr.jvp(lambda x: linalg.eigvalsh(x).sum(), (np.eye(3),), (t,))[1], np.trace(t))
    assert_allclose(cr.jvp(lambda x: linalg.svdvals(x).sum(), (np.eye(3),), (t,))[1], np.trace(t))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "of_vectors",
    [
        lambda x: linalg.eigh(x).eigenvectors[0, 0],
        lambda x: linalg.eigh(x).eigenvectors[0, 1],
        lambda x: linalg.svd(x).U[0, 0],
        lambda x: linalg.svd(x).Vh[1, 0],
    ],
)
@pytest.mark.parametrize("x", [np.eye(2), np.zeros((2, 2)), np.diag([3.0, 3.0])])
def test_vectors_at_equal_values_have_no_finite_gradient(of_vectors, x):
    assert np.isnan(cr.grad(of_vectors)(x)).any()
    assert np.isnan(cr.jvp(of_vectors, (x,), (np.ones((2, 2)),))[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_singular_vectors_of_a_zero_singular_value_of_a_tall_matrix_have_no_finite_gradient():
    x = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert np.isnan(cr.grad(lambda x: linalg.svd(x, full_matrices=False).U[2, 1])(x)).any()
    assert np.isnan(cr.grad(lambda x: linalg.svd(x, full_matrices=False).Vh[1, 2])(x.T)).any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_in_a_stack_only_the_matrices_with_equal_values_lose_their_gradient():
    x = np.stack([np.eye(3), symmetric(matrices(0, 3, 3)), np.diag([1.0, 2.0, 2.0])])
    for factor in (lambda x: linalg.eigh(x).eigenvectors, lambda x: linalg.svd(x).U):
        g = cr.grad(lambda x, factor=factor: (factor(x) ** 2 * np.arange(3.0)).sum())(x)
        assert_array_equal(np.isnan(g).any((-2, -1)), [True, False, True])


def test_vectors_of_a_single_zero_singular_value_of_a_square_matrix_differentiate():
    x = matrices(4, 3, 3, rank=2)
    cr.check_grads(lambda x: sign_free(linalg.svd(x).U, linalg.svd(x).Vh), (x,))


def test_a_vector_apart_from_equal_eigenvalues_has_its_gradient():
    turn = np.linalg.qr(matrices(7, 3, 3))[0]
    x = turn @ np.diag([1.0, 2.0, 2.0]) @ turn.T
    x[:] = symmetric(x)

    def loss(x):  # of the projection on the first eigenvector
        v = linalg.eigh(symmetric(x)).eigenvectors[:, :1]
        return ((v @ v.mT) * np.arange(9.0).reshape(3, 3)).sum()

    cr.check_grads(loss, (x,), modes=("rev",))


@pytest.mark.parametrize("as_what", ["gradient", "tangent"])
def test_full_factors_that_are_not_unique_refuse_a_gradient(as_what):
    x = matrices(0, 3, 2)
    for name, function in {
        "qr: with mode='complete'": lambda x: linalg.qr(x, "complete").Q.sum(),
        "svd: with full_matrices=True": lambda x: linalg.svd(x).U.sum(),
    }.items():
        function(x)
        with pytest.raises(cr.GradientError, match=name):
            cr.grad(function)(x) if as_what == "gradient" else cr.jvp(function, (x,), (x,))


# Norms ------------------------------------------------------------------------------------------------------

VECTOR_ORDERS = [0, 1, 2, 3, 2.5, 0.5, -1, -2, np.inf, -np.inf]
MATRIX_ORDERS = ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


@pytest.mark.parametrize("order", VECTOR_ORDERS)
@FEW
@given(shape=array_shapes(max_dims=3, max_side=3), keepdims=st.booleans(), data=st.data())
def test_vector_norms_of_every_order_are_numpys_and_differentiate_twice(order, shape, keepdims, data):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(data.draw(SEEDS)).permutation(np.arange(1.0, np.prod(shape) + 1)).reshape(shape)
    x = x * np.where(x % 2, -0.4, 0.3)
    options = {"axis": axis, "keepdims": keepdims, "ord": order}
    given_ = linalg.vector_norm(cr.tensor(x), **options).numpy()
    assert_allclose(given_, np.linalg.vector_norm(x, **options), rtol=1e-12)
    if order != 0:
        cr.check_grads(lambda x: linalg.vector_norm(x, **options), (x,), order=2)


@pytest.mark.parametrize("order", MATRIX_ORDERS)
@FEW
@given(shape=st.sampled_from([(2, 3), (3, 2), (3, 3)]), batch=BATCHES, keepdims=st.booleans(), seed=SEEDS)
def test_matrix_norms_of_every_order_are_numpys_and_differentiate_twice(order, shape, batch, keepdims, seed):
    x = matrices(seed, *batch, *shape)
    given_ = linalg.matrix_norm(cr.tensor(x), ord=order, keepdims=keepdims).numpy()
    assert_allclose(given_, np.linalg.matrix_norm(x, ord=order, keepdims=keepdims), rtol=1e-12)
    cr.check_grads(lambda x: linalg.matrix_norm(x, ord=order, keepdims=keepdims), (x,), order=2)


@given(shape=array_shapes(min_dims=0, max_dims=3, max_side=3), keepdims=st.booleans(), data=st.data(), seed=SEEDS)
def test_norm_has_numpys_meaning_of_order_and_axis_and_refuses_what_numpy_refuses(shape, keepdims, data, seed):
    places = st.integers(-len(shape), len(shape) - 1) if shape else st.nothing()
    axis = data.draw(st.none() | places | st.tuples(places, places))
    order = data.draw(st.sampled_from([None, *VECTOR_ORDERS, "fro", "nuc"]))
    x = np.random.default_rng(seed).standard_normal(shape)
    try:
        expected = np.linalg.norm(x, order, axis, keepdims)
    except ValueError:
        with pytest.raises(ValueError, match="norm"):
            linalg.norm(cr.tensor(x), order, axis, keepdims)
    else:
        given_ = linalg.norm(cr.tensor(x), order, axis, keepdims).numpy()
        assert given_.shape == np.shape(expected)
        assert_allclose(given_, expected, rtol=1e-12)


@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_the_norm_of_integers_is_a_float(order):
    norm = linalg.vector_norm(np.array([1, -2]), ord=order)
    assert norm.dtype == np.float64
    assert_allclose(norm.item(), np.linalg.norm([1.0, -2.0], order), rtol=1e-15)


@pytest.mark.parametrize("order", [1, 1.5, 2, 3, np.inf])
def test_the_gradient_of_a_norm_at_zero_is_zero_in_both_modes(order):
    def norm(x):
        return linalg.vector_norm(x, ord=order)

    assert_array_equal(cr.grad(norm)(np.zeros(3)), np.zeros(3))
    assert cr.jvp(norm, (np.zeros(3),), (np.ones(3),))[1] == 0


def test_the_curvature_of_the_norm_is_right_where_an_element_is_zero():
    x = np.array([3.0, 0.0, 4.0])
    expected = np.eye(3) / 5 - np.outer(x, x) / 125
    assert_allclose(cr.hessian(linalg.norm)(x), expected, atol=1e-15)


# Errors -----------------------------------------------------------------------------------------------------

SQUARE_ONLY = ["inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh"]


@pytest.mark.parametrize("name", SQUARE_ONLY)
@pytest.mark.parametrize("shape", [(2, 3), (4, 3, 2), (3,), ()])
def test_matrices_that_are_not_square_are_refused_by_name_and_shape(name, shape):
    with pytest.raises(ValueError, match=rf"{name}: .*got shape {re.escape(str(shape))}"):
        getattr(linalg, name)(np.ones(shape))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: linalg.solve(np.eye(2), np.ones(3)), r"solve: shapes \(2, 2\) and \(3,\) do not fit"),
        (lambda: linalg.solve(np.eye(2), 3.0), r"solve: shapes \(2, 2\) and \(\) do not fit"),
        (lambda: linalg.solve(np.ones((2, 3, 3)), np.ones((4, 3, 1))), "solve: .* do not broadcast"),
        (lambda: linalg.lstsq(np.ones((3, 2)), np.ones(2)), r"lstsq: shapes \(3, 2\) and \(2,\) do not fit"),
        (lambda: linalg.qr(np.eye(2), "raw"), "qr: mode must be .*'raw'"),
        (lambda: linalg.eigh(np.eye(2), "X"), "eigh: UPLO must be 'L' or 'U', got 'X'"),
        (lambda: linalg.svdvals(np.ones(3)), r"svdvals: needs a matrix .*\(3,\)"),
        (lambda: linalg.multi_dot([np.eye(2)]), "multi_dot: needs at least two"),
        (
            lambda: linalg.multi_dot([np.eye(2), np.eye(3)]),
            r"multi_dot: shapes \(2, 2\), \(3, 3\) do not fit",
        ),
        (lambda: linalg.multi_dot([np.eye(2), np.ones(2), np.eye(2)]), "multi_dot: needs matrices"),
        (lambda: linalg.outer(np.eye(2), np.ones(2)), r"outer: needs two vectors, got shapes \(2, 2\)"),
        (lambda: linalg.cross(np.ones(2), np.ones(2)), "cross: needs 3 components"),
        (lambda: linalg.vector_norm(np.ones(2), ord="fro"), "vector_norm: ord must be a number, got 'fro'"),
        (lambda: linalg.matrix_norm(np.eye(2), ord=3), "matrix_norm: ord must be .*got 3"),
        (lambda: linalg.norm(np.ones((2, 2, 2)), 2), "norm: there is no norm of order 2 over 3 axes"),
    ],
)
def test_bad_arguments_are_refused_with_the_operation_and_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: linalg.inv(np.ones((2, 2))), r"inv: Singular matrix \[shapes \(2, 2\)\]"),
        (lambda: linalg.solve(np.ones((2, 2)), np.ones(2)), "solve: Singular matrix"),
        (lambda: linalg.matrix_power(np.zeros((2, 2)), -1), "inv: Singular matrix"),
        (lambda: linalg.cholesky(-np.eye(2)), "cholesky: Matrix is not positive definite"),
        (lambda: linalg.svdvals(np.full((2, 2), np.nan)), "svdvals: SVD did not converge"),
        (
            lambda: cr.grad(lambda x: linalg.slogdet(x).logabsdet)(np.ones((2, 2))),
            "the derivative of slogdet: .*Singular",
        ),
        (
            lambda: cr.grad(lambda x: linalg.qr(x).R.sum())(np.zeros((3, 2))),
            "the derivative of qr: .*Singular",
        ),
    ],
)
def test_what_lapack_refuses_is_said_with_the_operation(call, message):
    with pytest.raises(np.linalg.LinAlgError, match=message):
        call()


def test_complex_values_are_refused():
    with pytest.raises(TypeError, match="det: got complex numbers"):
        linalg.det([[1j]])
