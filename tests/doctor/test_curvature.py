"""Eigenvalues, traces and singular values from products, against dense Hessians and Jacobians."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.doctor import DoctorError
from chainrule.doctor.curvature import curvature
from chainrule.doctor.examination import examine
from chainrule.doctor.lanczos import hutchinson, lanczos
from chainrule.doctor.products import hessian_product, jacobian_products
from chainrule.doctor.singular import singular
from chainrule.doctor.subjects import subject_of

X = np.random.default_rng(0).standard_normal((12, 4))
Y = np.arange(12) % 3


def network():
    nn.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 3)).double()


def subject(model=None, loss=nn.functional.cross_entropy):
    return subject_of(model or network(), loss, (X, Y))


def dense_hessian(model):
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    flat = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])

    def loss(vector):
        parts, place = {}, 0
        for name, shape in zip(names, shapes, strict=True):
            parts[name] = vector[place : place + int(np.prod(shape))].reshape(shape)
            place += int(np.prod(shape))
        return nn.functional.cross_entropy(nn.functional_call(model, parts, X), Y)

    return cr.hessian(loss)(flat)


# Lanczos ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_lanczos_in_full_finds_the_eigenvalues_of_a_symmetric_matrix(size, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    ritz = lanczos(matrix.__matmul__, size, size, rng)
    np.testing.assert_allclose(ritz.values, np.linalg.eigvalsh(matrix), atol=1e-8 * np.abs(matrix).sum())


def test_every_ritz_value_is_as_near_to_an_eigenvalue_as_its_residual_says():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((60, 60))
    matrix = matrix + matrix.T
    true = np.linalg.eigvalsh(matrix)
    ritz = lanczos(matrix.__matmul__, 60, 15, rng)
    distances = np.abs(ritz.values[:, None] - true).min(1)
    assert (distances <= ritz.residuals + 1e-10).all()
    assert ritz.products == 15


def test_the_basis_stays_orthogonal_where_eigenvalues_span_many_orders_of_magnitude():
    rng = np.random.default_rng(2)
    values = np.concatenate([np.geomspace(1e-6, 1, 60), [1e6]])
    ritz = lanczos(lambda v: values * v, 61, 40, rng)
    assert np.sum(np.isclose(ritz.values, 1e6, rtol=1e-9)) == 1  # no ghosts


def test_hutchinsons_trace_is_exact_for_a_diagonal_matrix_and_close_for_others():
    rng = np.random.default_rng(3)
    diagonal = rng.standard_normal(20)
    assert hutchinson(lambda v: diagonal * v, 20, 1, rng) == pytest.approx(diagonal.sum())
    root = rng.standard_normal((20, 20))
    matrix = root @ root.T
    assert hutchinson(matrix.__matmul__, 20, 4000, rng) == pytest.approx(np.trace(matrix), rel=0.02)


# The Hessian --------------------------------------------------------------------------------------------------------


def test_the_hessian_times_a_vector_is_that_of_the_dense_hessian():
    patient = subject()
    product, size = hessian_product(patient)
    vector = np.random.default_rng(4).standard_normal(size)
    np.testing.assert_allclose(product(vector), dense_hessian(patient.model) @ vector, atol=1e-12)


def test_curvature_is_that_of_the_dense_hessian():
    patient = subject()
    dense = dense_hessian(patient.model)
    values = np.linalg.eigvalsh(dense)
    found = curvature(patient, steps=len(values), samples=5)
    rng = np.random.default_rng(0)
    rng.standard_normal(len(values))  # the first vector of Lanczos
    assert found.largest == pytest.approx(values[np.argmax(np.abs(values))], rel=1e-8)
    assert found.trace == pytest.approx(hutchinson(dense.__matmul__, len(values), 5, rng), rel=1e-8)
    assert found.condition <= np.abs(values).max() / np.abs(values[np.abs(values) > 1e-12]).min() * (1 + 1e-6)
    assert found.condition == pytest.approx(found.largest / found.smallest)


def test_a_few_products_suffice_for_the_largest_eigenvalue_and_are_counted():
    patient = subject()
    found = curvature(patient, steps=12, samples=2)
    assert found.largest == pytest.approx(np.linalg.eigvalsh(dense_hessian(patient.model))[-1], rel=1e-3)
    assert found.products == 14


def test_measuring_curvature_leaves_no_trace():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3)).double()
    before = {path: value.numpy().copy() for path, value in model.state_dict().items()}
    state = nn.random.get_rng_state()
    curvature(subject(model), steps=5, samples=1)
    assert nn.random.get_rng_state() == state
    assert all(p.grad is None for p in model.parameters())
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[path])


def test_frozen_parameters_are_no_directions():
    model = network()
    model[0].requires_grad_(False)
    assert hessian_product(subject(model))[1] == sum(p.size for p in model.parameters() if p.requires_grad)


def test_a_loss_that_is_not_finite_is_one_clear_error():
    with pytest.raises(DoctorError, match="Hessian cannot be measured"):
        curvature(subject(loss=lambda output, target: (output * np.inf).sum()), steps=3, samples=1)


# Jacobians ----------------------------------------------------------------------------------------------------------


def dense_jacobian(model, start, end):
    here = model[: start + 1](X).detach().numpy()
    found = cr.jacobian(lambda h: model[start + 1 : end + 1](h))(here)
    return found.detach().numpy().reshape(found.shape[0] * found.shape[1], here.size)


def test_products_with_a_jacobian_between_layers_are_those_of_the_dense_one():
    patient = subject()
    dense = dense_jacobian(patient.model, 0, 4)
    products = jacobian_products(patient, "0", "4")
    rng = np.random.default_rng(5)
    tangent, cotangent = rng.standard_normal(products.columns), rng.standard_normal(products.rows)
    np.testing.assert_allclose(products.push(tangent), dense @ tangent, atol=1e-12)
    np.testing.assert_allclose(products.pull(cotangent), dense.T @ cotangent, atol=1e-12)


def test_singular_values_between_neighbouring_layers_are_those_of_the_dense_jacobians():
    patient = subject()
    found, notes = singular(patient, examine(patient), steps=60, samples=200)
    assert notes == ()
    assert [(pair.start, pair.end) for pair in found] == [("0", "2"), ("2", "4")]
    for pair, (start, end) in zip(found, [(0, 2), (2, 4)], strict=True):
        values = np.linalg.svd(dense_jacobian(patient.model, start, end), compute_uv=False)
        assert pair.largest == pytest.approx(values[0], rel=1e-6)
        assert pair.typical == pytest.approx(np.sqrt(np.mean(values**2)), rel=0.1)


def test_layers_that_run_twice_are_noted_and_not_measured():
    class Twice(nn.Module):
        def __init__(self):
            self.one, self.out = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()

        def forward(self, x):
            return self.out(self.one(self.one(x)))

    patient = subject(Twice())
    found, notes = singular(patient, examine(patient))
    assert found == ()
    assert "'one' ran 2 times" in notes[0]
