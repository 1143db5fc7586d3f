"""Curvature, singular values, trials and the error signal through time on PyTorch's networks: chainrule's figures."""

import numpy as np
import pytest
import torch
from sick_networks import recurrent

from chainrule import nn, optim
from chainrule.doctor.curvature import curvature
from chainrule.doctor.examination import examine
from chainrule.doctor.products import hessian_product, jacobian_products
from chainrule.doctor.singular import singular
from chainrule.doctor.subjects import subject_of
from chainrule.doctor.through_time import through_time
from chainrule.doctor.trial import on_batch, trials

X = np.random.default_rng(0).standard_normal((12, 4))
Y = np.arange(12) % 3


def twins():
    """The same network and batch in both frameworks."""

    def make(nn):
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 3)).double()

    torch.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    return (
        subject_of(
            ours, nn.functional.cross_entropy, (X, Y), optimizer=optim.SGD(ours.parameters(), lr=0.1), data=(X, Y)
        ),
        subject_of(
            theirs,
            torch.nn.functional.cross_entropy,
            (torch.tensor(X), torch.tensor(Y)),
            optimizer=torch.optim.SGD(theirs.parameters(), lr=0.1),
            data=(torch.tensor(X), torch.tensor(Y)),
        ),
    )


def test_the_hessian_times_a_vector_is_that_of_autograds_dense_hessian():
    subject = twins()[1]
    names = [name for name, _ in subject.model.named_parameters()]
    values = tuple(p.detach() for p in subject.model.parameters())

    def loss(*parameters):
        output = torch.func.functional_call(subject.model, dict(zip(names, parameters, strict=True)), subject.batch[0])
        return torch.nn.functional.cross_entropy(output, subject.batch[1])

    blocks = torch.autograd.functional.hessian(loss, values)
    rows = [torch.cat([b.reshape(v.numel(), -1) for b in row], 1) for row, v in zip(blocks, values, strict=True)]
    product, size = hessian_product(subject)
    vector = np.random.default_rng(1).standard_normal(size)
    np.testing.assert_allclose(product(vector), torch.cat(rows).numpy() @ vector, atol=1e-12)


def test_curvature_is_the_same_in_both_frameworks():
    ours, theirs = (curvature(subject, steps=20, samples=5) for subject in twins())
    assert theirs.largest == pytest.approx(ours.largest, rel=1e-9)
    assert theirs.trace == pytest.approx(ours.trace, rel=1e-9)


def test_singular_values_are_the_same_in_both_frameworks():
    ours, theirs = (singular(subject, examine(subject))[0] for subject in twins())
    assert [(s.start, s.end) for s in theirs] == [(s.start, s.end) for s in ours]
    np.testing.assert_allclose([s.largest for s in theirs], [s.largest for s in ours], rtol=1e-9)
    np.testing.assert_allclose([s.typical for s in theirs], [s.typical for s in ours], rtol=1e-9)


def dense(between, start):
    """Largest singular value and root mean square of all of the Jacobian of a function, by PyTorch's own."""
    jacobian = torch.autograd.functional.jacobian(between, start)
    values = torch.linalg.svdvals(jacobian.reshape(jacobian.shape[: jacobian.ndim // 2].numel(), -1))
    return float(values[0]), float(torch.sqrt(torch.mean(values**2)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["ReLU", "SiLU"])
def test_singular_values_of_networks_that_change_values_in_place_are_those_of_the_dense_jacobian(activation, training):
    """Activations in place, an addition in place, and batch normalisation, which assigns its running statistics."""
    norm, act = torch.nn.BatchNorm1d, getattr(torch.nn, activation)

    class Residual(torch.nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.first, self.second, self.last = (torch.nn.Linear(4, n) for n in (4, 4, 3))
            self.norm, self.other_norm = norm(4), norm(4, momentum=None)
            self.act, self.inplace = act(inplace=inplace), inplace

        def onward(self, h):
            h = self.norm(self.act(h))
            return h, self.second(h)

        def to_the_end(self, h, skip):
            h = self.other_norm(self.act(h))
            if self.inplace:
                h += skip
            else:
                h = h + skip
            return self.last(self.act(h))

        def forward(self, x):
            skip, h = self.onward(self.first(x))
            return self.to_the_end(h, skip)

    torch.manual_seed(0)
    model, twin = (Residual(inplace).double() for inplace in (True, False))
    twin.load_state_dict(model.state_dict())
    model.train(training), twin.train(training)
    before = {path: value.clone() for path, value in model.state_dict().items()}
    x = torch.tensor(X)
    subject = subject_of(model, torch.nn.functional.cross_entropy, (x, torch.tensor(Y)))

    found, notes = singular(subject, examine(subject), steps=48, samples=40)

    assert notes == ()
    skip, h = twin.onward(twin.first(x))
    expected = [
        dense(lambda given: twin.onward(given)[1], twin.first(x).detach()),
        dense(lambda given: twin.to_the_end(given, skip.detach()), h.detach()),
    ]
    assert [(value.start, value.end) for value in found] == [("first", "second"), ("second", "last")]
    for value, (largest, typical) in zip(found, expected, strict=True):
        assert value.largest == pytest.approx(largest, rel=1e-6)
        assert value.typical == pytest.approx(typical, rel=0.25)  # by 40 random vectors
    assert all(torch.equal(value, before[path]) for path, value in model.state_dict().items())


def test_jvp_and_vjp_between_layers_are_transposes_of_each_other():
    products = jacobian_products(twins()[1], "0", "4")
    rng = np.random.default_rng(2)
    v, u = rng.standard_normal(products.columns), rng.standard_normal(products.rows)
    assert u @ products.push(v) == pytest.approx(products.pull(u) @ v, rel=1e-12)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layers_that_have_fast_kernels_without_second_derivatives_are_measured_all_the_same(kind):
    framework = type("F", (), {"nn": torch.nn, "seed": torch.manual_seed})
    x = torch.randn(4, 5, 3)
    subject = subject_of(recurrent(framework, kind), torch.nn.functional.cross_entropy, (x, torch.tensor([0, 1, 0, 1])))
    assert curvature(subject, steps=4, samples=1).largest != 0


def test_attention_is_differentiated_twice():
    model = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    subject = subject_of(model, lambda y: (y**2).mean() + y.sum() ** 2, torch.randn(2, 5, 8))
    assert curvature(subject, steps=4, samples=1).largest != 0


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_error_signal_through_time_is_the_same_in_both_frameworks(kind):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 4, 2).double()
    ours = getattr(nn, kind)(3, 4, 2).double()
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((7, 2, 3))
    (one,), _ = through_time(subject_of(ours, lambda y: y[0].sum(), x))
    (other,), _ = through_time(subject_of(theirs, lambda y: y[0].sum(), torch.tensor(x)))
    np.testing.assert_allclose(other.norms, one.norms, rtol=1e-9)
    np.testing.assert_allclose(other.cell_norms, one.cell_norms, rtol=1e-9)
    assert other.spectral_radius == pytest.approx(one.spectral_radius)


def test_a_trial_has_the_same_losses_in_both_frameworks():
    ours, theirs = (on_batch(subject, steps=6) for subject in twins())
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-9)
    np.testing.assert_allclose(theirs.gradient_norms, ours.gradient_norms, rtol=1e-9)
    np.testing.assert_allclose(theirs.update_ratios, ours.update_ratios, rtol=1e-9)


def test_trials_and_curvature_leave_no_trace():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 3)
    )
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(Y)
    optimizer = torch.optim.Adam(model.parameters())
    subject = subject_of(model, torch.nn.functional.cross_entropy, (x, y), optimizer=optimizer, data=(x, y))
    before = {path: value.clone() for path, value in model.state_dict().items()}
    drawn, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trials(subject, thorough=True)
    curvature(subject, steps=3, samples=1)
    singular(subject, examine(subject))
    assert torch.equal(torch.get_rng_state(), drawn)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not optimizer.state
    for path, value in model.state_dict().items():
        assert torch.equal(value, before[path]), path
