"""What the doctor measures, against closed forms and plain NumPy; and that looking changes nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import chainrule as cr
from chainrule import nn
from chainrule.doctor import DoctorError, anatomy, statistics
from chainrule.doctor.diagnosis import examination_of
from chainrule.doctor.examination import examine
from chainrule.doctor.subjects import subject_of

F = nn.functional


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 6)).astype(np.float32), rng.integers(0, 3, 32)


def network(*between):
    nn.random.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 3))


def examined(model, batch, loss=F.cross_entropy, **given):
    return examine(subject_of(model, loss, batch, **given))


def with_trials(model, batch, **given):
    return examination_of(subject_of(model, F.cross_entropy, batch, **given))


def by_hand(model, batch):
    """The error signals of Linear, sigmoid, Linear, softmax cross-entropy, by the chain rule in float64."""
    x, y = np.asarray(batch[0], np.float64), batch[1]
    w1, b1, w2, b2 = (np.asarray(p.detach().numpy(), np.float64) for p in model.parameters())
    a = 1 / (1 + np.exp(-(x @ w1.T + b1)))
    z = a @ w2.T + b2
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    d2 = (p - np.eye(3)[y]) / len(y)
    da = d2 @ w2
    return da * a * (1 - a), da, d2, a


def test_error_signals_and_both_shares_of_the_gain_are_those_of_the_chain_rule(batch):
    model = network(nn.Sigmoid())
    d1, da, d2, a = by_hand(model, batch)
    first, last = examined(model, batch).layers
    norm = np.linalg.norm
    assert first.error_signal == pytest.approx(norm(d1), rel=1e-4)
    assert last.error_signal == pytest.approx(norm(d2), rel=1e-4)
    assert last.weight_gain == pytest.approx(norm(da) / norm(d2), rel=1e-4)
    assert first.activation.gain == pytest.approx(norm(d1) / norm(da), rel=1e-4)
    assert first.activation.gain <= 0.25
    assert first.activation.slope == pytest.approx(np.sqrt(np.mean((a * (1 - a)) ** 2)), rel=1e-4)
    assert first.gradient_norm == pytest.approx(norm(d1.T @ batch[0]), rel=1e-4)


def test_the_update_ratio_is_how_far_a_step_of_the_optimiser_moves_the_weight(batch):
    model = network(nn.ReLU())
    optimizer = cr.optim.Adam(model.parameters(), lr=0.01)
    seen = with_trials(model, batch, optimizer=optimizer).layers[0].update_ratio
    before = model[0].weight.detach().numpy().copy()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    after = model[0].weight.detach().numpy()
    assert seen == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-4)


def test_a_unit_is_zero_only_if_it_is_for_every_example(batch):
    model = network(nn.ReLU())
    model[0].weight.data = np.zeros((8, 6), np.float32)
    model[0].bias.data = np.array([-1, -1, -1, 1, 1, 1, 1, 1], np.float32)
    activation = examined(model, batch).layers[0].activation
    assert activation.zero_units == activation.saturated == activation.output.zeros == 3 / 8


def test_units_are_twins_only_where_weights_and_gradients_are_equal(batch):
    model = network(nn.Tanh())
    model[0].weight.data = np.full((8, 6), 0.1, np.float32)
    model[0].bias.data = np.zeros(8, np.float32)
    assert examined(model, batch).layers[0].twins == 0  # the next layer's weights tell them apart
    model[2].weight.data = np.full((3, 8), 0.1, np.float32)
    assert examined(model, batch).layers[0].twins == 1


def test_layers_around_which_a_path_leads_are_told(batch):
    model = network(nn.ReLU(), nn.Residual(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), nn.Linear(8, 8))
    assert [layer.skipped for layer in examined(model, batch).layers] == [False, True, False, False]


def test_an_activation_is_found_behind_a_normalisation_and_dropout(batch):
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.1), nn.GELU())
    first, last = examined(model, batch).layers
    assert (first.activation.name, first.normalization, last.activation) == ("gelu", "1", None)


def test_functions_called_in_forward_are_seen_like_modules(batch):
    class Functional(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(np.tanh(self.a(x)))

    first, _ = examined(Functional(), batch).layers
    assert (first.path, first.activation.name) == ("a", "tanh")


def test_recurrent_and_attention_modules_are_one_layer_each():
    class Mixed(nn.Module):
        def __init__(self):
            self.lstm, self.attention = nn.LSTM(4, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            h, _ = self.lstm(x)
            return self.out(self.attention(h, h, h)[0][:, -1])

    rng = np.random.default_rng(0)
    batch = rng.normal(size=(5, 7, 4)).astype(np.float32), rng.integers(0, 3, 5)
    layers = examined(Mixed(), batch).layers
    assert [(layer.path, layer.kind) for layer in layers] == [
        ("lstm", "recurrent"), ("attention", "attention"), ("out", "linear"),
    ]  # fmt: skip
    assert all(layer.gradient_norm > 0 for layer in layers)


def test_the_loss_is_known_with_what_it_follows(batch):
    loss = examined(network(nn.ReLU(), nn.Softmax(-1)), (batch[0], batch[1] % 3)).loss
    assert (loss.name, loss.follows[0]) == ("cross_entropy", "linear")
    model = nn.Sequential(network(nn.ReLU()), nn.Softmax(-1))
    loss = examined(model, batch).loss
    assert (loss.follows, loss.follows_path, loss.sums_to_one) == (("softmax", "linear", "relu"), "1", 1.0)
    loss = examined(network(nn.ReLU()), (batch[0], np.eye(3, dtype=np.float32)[batch[1]]), F.mse_loss).loss
    assert (loss.name, loss.targets_whole, loss.classes) == ("mse_loss", True, 2)


def state_of(model, optimizer):
    return (
        [p._value.copy() for p in [*model.parameters(), *model.buffers()]],
        [None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()],
        [{k: np.copy(v) for k, v in kept.items()} for kept in optimizer.state.values()],
        nn.random.get_rng_state(),
        [(dict(vars(m)).get("_forward_hooks"), dict(vars(m)).get("_forward_pre_hooks")) for m in model.modules()],
    )


def test_examining_changes_nothing(batch):
    model = network(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
    optimizer = cr.optim.Adam(model.parameters())
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    with_trials(model, batch, optimizer=optimizer)  # leaves empty lists of hooks the first time
    before = state_of(model, optimizer)
    exam = with_trials(model, batch, optimizer=optimizer)
    assert exam.layers[0].update_ratio > 0
    np.testing.assert_equal(state_of(model, optimizer), before)


def test_no_hook_stays_when_the_forward_pass_fails(batch):
    model = network(nn.ReLU())
    with pytest.raises(DoctorError, match=r"the forward pass of Sequential fails on this batch: ValueError.*\(32, 5\)"):
        examined(model, (batch[0][:, :5], batch[1]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "model, loss, said",
    [
        (nn.ReLU(), F.cross_entropy, "ReLU has no parameters"),
        (nn.Linear(6, 3), lambda z, y: z, r"the loss must be one number, got shape \(32, 3\)"),
        (nn.Linear(6, 3), lambda z, y: None, "the loss must be a tensor with one number, got NoneType"),
        (nn.Linear(6, 3), lambda z, y: 1 / 0, "the loss of Linear fails on this batch: ZeroDivisionError"),
        (lambda x: x, F.cross_entropy, "expected a chainrule.nn.Module or a torch.nn.Module, got function"),
    ],
)
def test_what_cannot_be_examined_is_refused_in_one_line(model, loss, said, batch):
    with pytest.raises(DoctorError, match=said) as caught:
        examined(model, batch, loss)
    assert "\n" not in str(caught.value)


# Statistics ---------------------------------------------------------------------------------------------------------


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=3), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_a_norm_neither_overflows_nor_underflows(x):
    expected = np.linalg.norm(x.astype(np.float64).ravel())
    assert statistics.norm(x) == pytest.approx(expected, rel=1e-5, abs=1e-45)
    assert statistics.norm(x.T) == pytest.approx(expected, rel=1e-5, abs=1e-45)


def test_a_norm_of_what_is_not_finite_says_so():
    assert statistics.norm(np.array([1, np.inf])) == math.inf
    assert math.isnan(statistics.norm(np.array([1, np.nan])))
    assert statistics.norm(np.zeros(0)) == 0


def test_a_spread_tells_what_is_not_finite_and_describes_the_rest():
    spread = statistics.spread(np.array([0.0, 2.0, np.nan, np.inf]))
    assert (spread.count, spread.mean, spread.std, spread.largest, spread.zeros) == (4, 1, 1, 2, 0.25)
    assert spread.not_finite == 0.5


def test_units_of_a_convolution_over_time_are_its_channels():
    model = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 8, 3))
    model[0].bias.data = np.array([-50, -50, 0, 0, 0], np.float32)
    x = np.random.default_rng(0).normal(size=(16, 2, 10)).astype(np.float32)
    first, last = examined(model, (x, np.arange(16) % 3)).layers
    assert (first.units, first.size, last.units) == (5, 40, 3)
    assert first.activation.zero_units == 2 / 5


def test_a_batch_normalisation_is_seen_in_both_modes(batch):
    model = network(nn.BatchNorm1d(8), nn.ReLU())
    (norm,) = examined(model, batch).normalizations
    assert (norm.path, norm.name, norm.uses_batch) == ("1", "batch_norm", True)
    model[1].eval()
    exam = examined(model, batch)
    assert [(n.path, n.name, n.uses_batch) for n in exam.normalizations] == [("1", "batch_norm", False)]
    assert exam.layers[0].normalization == "1"


@given(st.integers(1, 24), st.floats(0, 0.6), st.booleans(), st.integers(0, 999))
def test_a_feature_changes_often_where_over_a_tenth_of_it_is_not_its_median(examples, share, in_order, seed):
    generator = np.random.default_rng(seed)
    values = np.where(generator.random((examples, 4)) < share, generator.normal(size=(examples, 4)), 0.0)
    values = np.sort(values, axis=0) if in_order else values
    unusual = np.mean(values != np.median(values, axis=0), axis=0)
    np.testing.assert_array_equal(anatomy._often_changing(values, (0,)), unusual > 0.1)
    images = values.T.reshape(1, 4, examples, 1)
    np.testing.assert_array_equal(anatomy._often_changing(images, (0, 2, 3)), unusual > 0.1)
