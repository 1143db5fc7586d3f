"""The gradient at each step back in time, against recurrences written out, closed forms and each sequence alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.nn import time_views

KINDS = ["RNN", "LSTM", "GRU"]


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(factor):
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=np.float64)
    layer.weight_hh_l0.data = np.full((1, 1), factor)
    layer.weight_ih_l0.data = np.ones((1, 1))
    return layer


def of_last_step(layer, x, **options):
    return nn.gradient_through_time(layer, lambda: (layer(x, **options)[0][-1] ** 2).sum())


# What it says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor, steps", [(0.5, 50), (1.5, 100), (1.0, 20), (1e-3, 100), (1e3, 100)])
def test_the_gradient_of_a_linear_recurrence_is_a_power_at_each_step_back(factor, steps):
    layer = linear(factor)
    x = np.zeros((steps + 1, 1, 1))
    x[0] = 1.0
    (time,) = nn.gradient_through_time(layer, lambda: layer(x)[0][-1].sum()).layers
    np.testing.assert_allclose(time.hidden, factor ** np.arange(steps + 1.0), rtol=1e-12)
    np.testing.assert_allclose(time.gain, factor, rtol=1e-12)
    np.testing.assert_allclose(time.remaining, time.hidden, rtol=1e-12)
    assert time.mean_gain == pytest.approx(factor)
    assert time.spectral_radius == {"h": pytest.approx(factor)}
    assert time.cell is None
    assert time.direct is None


def written_out(kind, layer, x):
    """The states after each step, from the formulas, in operations of their own."""
    w, u, b, d = (p.data for p in layer.parameters())
    h = c = cr.tensor(np.zeros((x.shape[1], layer.hidden_size)), requires_grad=True)
    states = []
    for step in x:
        z, m = step @ w.T + b, h @ u.T + d
        if kind == "RNN":
            h = np.tanh(z + m)
        elif kind == "LSTM":
            i, f, g, o = (part for part in np.split(z + m, 4, axis=-1))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (z_r, z_z, z_n), (m_r, m_z, m_n) = np.split(z, 3, axis=-1), np.split(m, 3, axis=-1)
            keep = sigmoid(z_z + m_z)
            h = (1 - keep) * np.tanh(z_n + sigmoid(z_r + m_r) * m_n) + keep * h
        states.append((h, c) if kind == "LSTM" else (h,))
        for part in states[-1]:
            part.retain_grad()
    return states


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_the_states_gradients_where_the_formulas_are_written_out(kind):
    layer = getattr(nn, kind)(3, 4, dtype=np.float64)
    x, weights = floats(6, 2, 3), floats(6, 2, 4, seed=1)
    (time,) = nn.gradient_through_time(layer, lambda: (layer(x)[0] ** 2 * weights).sum()).layers
    states = written_out(kind, layer, x)
    sum((h**2 * w).sum() for (h, *_), w in zip(states, weights, strict=True)).backward()
    for values, part in ((time.hidden, 0), (time.cell, 1))[: len(states[0])]:
        norms = [np.linalg.norm(s[part].grad.data) for s in states[::-1]]
        np.testing.assert_allclose(values, norms, rtol=1e-12)


def test_gains_leave_out_what_the_loss_feeds_into_each_step():
    """With h_t = w·h_(t−1) and the loss Σ h_t, the gradient grows to 1/(1−w), but each step passes on w of it."""
    layer = linear(0.5)
    (time,) = nn.gradient_through_time(layer, lambda: layer(np.ones((30, 1, 1)))[0].sum()).layers
    np.testing.assert_allclose(time.hidden, 2 * (1 - 0.5 ** np.arange(1, 31)), rtol=1e-12)
    np.testing.assert_allclose(time.gain, 0.5, rtol=1e-12)


@given(openness=st.floats(-3.0, 6.0), reads_state=st.booleans(), seed=st.integers(0, 99))
def test_the_path_through_the_cell_alone_scales_by_the_forget_gate(openness, reads_state, seed):
    """With the same forget gate at all steps, whatever the others read, the path is a power of it."""
    layer = nn.LSTM(2, 3, dtype=np.float64)
    layer.weight_ih_l0.data = floats(12, 2, seed=seed)
    hidden = floats(12, 3, seed=seed + 1) * reads_state
    hidden[3:6] = 0
    layer.weight_hh_l0.data = hidden
    inputs = layer.weight_ih_l0.data.copy()
    inputs[3:6] = 0
    layer.weight_ih_l0.data = inputs
    layer.reset_forget_bias(openness)
    (time,) = of_last_step(layer, floats(8, 2, 2, seed=seed)).layers
    np.testing.assert_allclose(time.direct / time.direct[0], sigmoid(openness) ** np.arange(8), rtol=1e-9)
    if not reads_state:  # then there is no other path
        np.testing.assert_allclose(time.cell, time.direct, rtol=1e-9)
        assert not time.hidden[1:].any()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_without_the_matrix_all_of_the_gradient_goes_past_it(kind):
    """Gates change from step to step here."""
    layer = getattr(nn, kind)(2, 3, dtype=np.float64)
    layer.weight_hh_l0.data = np.zeros_like(layer.weight_hh_l0.data)
    (time,) = of_last_step(layer, 3 * floats(8, 2, 2)).layers
    np.testing.assert_allclose(time.direct, time.cell if kind == "LSTM" else time.hidden, rtol=1e-12)


def test_the_path_of_a_gru_past_its_matrix_scales_by_the_update_gate():
    layer = nn.GRU(2, 3, dtype=np.float64)
    layer.weight_ih_l0.data = np.zeros((9, 2))
    layer.weight_hh_l0.data = np.zeros((9, 3))
    layer.reset_forget_bias(1.5)
    (time,) = of_last_step(layer, floats(8, 2, 2)).layers
    np.testing.assert_allclose(time.direct / time.direct[0], sigmoid(1.5) ** np.arange(8), rtol=1e-9)
    np.testing.assert_allclose(time.hidden, time.direct, rtol=1e-9)


def test_the_spectral_radius_is_that_of_each_gates_part_of_the_matrix():
    layer = nn.LSTM(2, 4, dtype=np.float64)
    radii = {"i": 0.5, "f": 2.0, "g": 1.0, "o": 0.0}
    orthogonal = nn.init.orthogonal_(nn.Parameter(np.empty((4, 4)))).data
    layer.weight_hh_l0.data = np.concatenate([radius * orthogonal for radius in radii.values()])
    assert of_last_step(layer, floats(3, 2, 2)).layers[0].spectral_radius == pytest.approx(radii)


def test_an_orthogonal_linear_recurrence_keeps_every_norm():
    layer = nn.RNN(4, 4, nonlinearity="relu", bias=False, dtype=np.float64)
    layer.weight_hh_l0.data = np.eye(4)[[1, 2, 3, 0]]  # keeps positive numbers so
    layer.weight_ih_l0.data = np.eye(4)
    (time,) = of_last_step(layer, np.ones((9, 2, 4))).layers
    np.testing.assert_allclose(time.gain, 1.0, rtol=1e-12)
    assert time.spectral_radius["h"] == pytest.approx(1.0)
    assert time.reach() is None


def test_steps_that_the_loss_does_not_depend_on_are_left_out():
    layer = nn.GRU(3, 4, dtype=np.float64)
    x = floats(9, 2, 3)
    (time,) = nn.gradient_through_time(layer, lambda: (layer(x)[0][5] ** 2).sum()).layers
    (alone,) = of_last_step(layer, x[:6]).layers
    for ours, theirs in ((time.hidden, alone.hidden), (time.gain, alone.gain), (time.direct, alone.direct)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_other_lengths_are_aligned_at_their_ends(kind):
    layer = getattr(nn, kind)(3, 4, bidirectional=True, dtype=np.float64)
    x, lengths = floats(7, 2, 3), np.array([7, 3])

    def loss(x, lengths=None):
        final = layer(x, lengths=lengths)[1]
        return ((final[0] if kind == "LSTM" else final) ** 2).sum()

    both = nn.gradient_through_time(layer, lambda: loss(x, lengths)).layers
    alone = [nn.gradient_through_time(layer, lambda own=x[:n, [k]]: loss(own)).layers for k, n in enumerate(lengths)]
    for time, long, short in zip(both, *alone, strict=True):
        for name in ("hidden", "cell", "direct"):
            if getattr(time, name) is not None:
                padded = np.concatenate([getattr(short, name), np.zeros(4)])
                np.testing.assert_allclose(getattr(time, name), np.hypot(getattr(long, name), padded), rtol=1e-12)


# Where it looks ------------------------------------------------------------------------------------------------------


def test_every_layer_and_direction_has_a_row_of_its_own_under_its_matrix_name():
    class Model(nn.Module):
        def __init__(self):
            self.encoder = nn.LSTM(3, 4, 2, bidirectional=True, dtype=np.float64)
            self.decoder = nn.GRU(8, 5, dtype=np.float64)

        def forward(self, x):
            return self.decoder(self.encoder(x)[0])[0]

    model = Model()
    x = floats(6, 2, 3)
    report = nn.gradient_through_time(model, lambda: (model(x)[-1] ** 2).sum())
    names = [f"encoder.weight_hh_l{layer}{direction}" for layer in (0, 1) for direction in ("", "_reverse")]
    assert [layer.name for layer in report.layers] == [*names, "decoder.weight_hh_l0"]
    assert all(len(layer) == 6 and layer.hidden.all() for layer in report.layers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_stepped_by_hand_gives_the_report_of_its_layer(kind):
    layer, cell = getattr(nn, kind)(3, 4, dtype=np.float64), getattr(nn, f"{kind}Cell")(3, 4, dtype=np.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x = floats(6, 2, 3)

    def loss():
        state = None
        for step in x:
            state = cell(step, state)
        return ((state[0] if kind == "LSTM" else state) ** 2).sum()

    (by_hand,), (whole,) = nn.gradient_through_time(cell, loss).layers, of_last_step(layer, x).layers
    assert by_hand.name == "weight_hh"
    np.testing.assert_allclose(by_hand.hidden, whole.hidden, rtol=1e-12)
    np.testing.assert_allclose(by_hand.gain, whole.gain, rtol=1e-12)


def test_a_network_that_is_called_with_other_parameters_has_their_report():
    layer, other = nn.GRU(3, 4, dtype=np.float64), nn.GRU(3, 4, dtype=np.float64)
    x, state = floats(6, 2, 3), other.state_dict()
    (ours,) = nn.gradient_through_time(layer, lambda: (nn.functional_call(layer, state, x)[0][-1] ** 2).sum()).layers
    (theirs,) = of_last_step(other, x).layers
    assert ours.name == theirs.name
    assert ours.spectral_radius == theirs.spectral_radius
    np.testing.assert_array_equal(ours.hidden, theirs.hidden)


def test_float32_is_measured_in_float64():
    layer = nn.LSTM(3, 4)
    (ours,) = of_last_step(layer, floats(6, 2, 3, dtype=np.float32)).layers
    (exact,) = of_last_step(layer.double(), floats(6, 2, 3, dtype=np.float32).astype(np.float64)).layers
    assert ours.hidden.dtype == np.float64
    np.testing.assert_allclose(ours.hidden, exact.hidden, rtol=1e-4)


# What it leaves alone ------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def __init__(self):
        self.rnn = nn.RNN(3, 4, 2, dropout=0.5, dtype=np.float64)
        self.norm = nn.BatchNorm1d(4, dtype=np.float64)

    def forward(self, x):
        return self.norm(self.rnn(x)[0][-1])


def test_parameters_gradients_buffers_random_numbers_and_hooks_are_as_before():
    model = Noisy()
    x = floats(5, 4, 3)
    calls = []
    (model(x) ** 2).sum().backward()
    model.rnn.weight_hh_l0.register_hook(lambda g: calls.append(1))
    before = {name: value.data.copy() for name, value in model.state_dict().items()}
    grads = [p.grad for p in model.parameters()]
    random = nn.random.get_rng_state()
    nn.gradient_through_time(model, lambda: (model(x) ** 3).sum())
    assert all((value.data == before[name]).all() for name, value in model.state_dict().items())
    assert all(p.grad is g and p.requires_grad for p, g in zip(model.parameters(), grads, strict=True))
    assert nn.random.get_rng_state() == random
    assert not calls
    assert "_run_steps" not in vars(model.rnn)
    (model(x) ** 2).sum().backward()
    assert calls == [1]


def test_nothing_is_left_behind_where_the_loss_raises():
    layer = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="LSTM: needs an input"):
        nn.gradient_through_time(layer, lambda: layer(floats(5, 2, 7, dtype=np.float32)))
    assert "_run_steps" not in vars(layer)
    assert all(p.requires_grad for p in layer.parameters())


def test_it_measures_inside_no_grad_and_where_parameters_are_frozen():
    layer = nn.GRU(3, 4, dtype=np.float64)
    x = floats(5, 2, 3)
    (expected,) = of_last_step(layer, x).layers
    layer.requires_grad_(False)
    with cr.no_grad():
        (time,) = of_last_step(layer, x).layers
    np.testing.assert_array_equal(time.hidden, expected.hidden)
    assert not any(p.requires_grad for p in layer.parameters())


# How it looks --------------------------------------------------------------------------------------------------------


def test_the_print_has_a_bar_for_the_steps_back_the_radius_and_a_verdict():
    fading, growing = linear(0.5), linear(1.5)
    x = np.ones((41, 1, 1))
    for layer, word, pace in ((fading, "VANISHING", "0.5"), (growing, "EXPLODING", "1.5")):
        text = str(nn.gradient_through_time(layer, lambda layer=layer: layer(x)[0][-1].sum()))
        assert f"spectral radius {pace}00" in text
        rows = [line.split() for line in text.splitlines() if "█" in line]
        assert (rows[0][0], rows[-1][0]) == ("0", "40")
        lengths = [len(row[2]) for row in rows]
        assert lengths == sorted(lengths, reverse=layer is fading)
        assert f"{word}: 40 steps back" in text
        assert f"{pace} times as large with each step" in text
    assert "Reaches: 40 steps back" in str(nn.gradient_through_time(one := linear(1.0), lambda: one(x)[0][-1].sum()))


def test_it_fits_into_a_narrow_terminal():
    from io import StringIO

    from rich.console import Console

    layer = nn.LSTM(3, 4)
    console = Console(file=StringIO(), width=80)
    console.print(of_last_step(layer, floats(30, 2, 3, dtype=np.float32)))
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)


def test_every_step_of_a_short_sequence_has_its_line():
    layer = nn.GRU(3, 4)
    text = str(of_last_step(layer, floats(9, 2, 3, dtype=np.float32)))
    assert [line.split()[0] for line in text.splitlines() if line[:11].strip().isdigit()] == [str(k) for k in range(9)]


@pytest.mark.parametrize("count, most", [(1, 17), (17, 17), (18, 17), (1000, 17)])
def test_places_are_spread_from_the_first_to_the_last(count, most):
    places = time_views.spread(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    assert len(places) == min(count, most)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_gradient_that_overflows_or_dies_is_said_to():
    growing, dead = linear(1e30), linear(-1.0)
    ones = np.ones((30, 1, 1))
    text = str(nn.gradient_through_time(growing, lambda: (growing(ones * 1e-300)[0][-1] * 1e100).sum()))
    assert "EXPLODING: the gradient overflows within 29 steps back." in text
    x = np.where(np.arange(30) == 29, -1.0, 1.0)[:, None, None]
    assert "29 steps back nothing of the gradient is left" in str(
        nn.gradient_through_time(dead, lambda: dead(x)[0][-1].sum())
    )
    assert "No gradient" in str(nn.gradient_through_time(dead, lambda: (0 * dead(x)[0]).sum()))
    assert "One step" in str(nn.gradient_through_time(one := linear(1.0), lambda: one(ones[:1])[0].sum()))


def test_the_picture_is_a_png_file(tmp_path):
    layer = nn.LSTM(3, 4, 2)
    of_last_step(layer, floats(9, 2, 3, dtype=np.float32)).plot(tmp_path / "time.png")
    assert (tmp_path / "time.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in tmp_path.iterdir()] == ["time.png"]


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_loss_that_has_nothing_to_do_with_recurrence_is_refused():
    layer, dense = nn.RNN(3, 4, dtype=np.float64), nn.Linear(3, 4)
    x = floats(5, 2, 3)
    for model, loss, message in (
        (dense, lambda: dense(x.astype(np.float32)).sum(), "the loss ran no RNN, LSTM or GRU, nor a cell of one"),
        (layer, lambda: layer(x)[0], r"must return a tensor of shape \(\), such as a mean; got shape \(5, 2, 4\)"),
        (layer, lambda: layer(x)[0].sum().item(), r"must return a tensor of shape \(\), such as a mean; got float"),
        (layer, lambda: layer(x)[0].sum().detach(), "does not depend on any recurrent layer's state"),
    ):
        with pytest.raises(ValueError, match=f"gradient_through_time: .*{message}"):
            nn.gradient_through_time(model, loss)


def test_the_mean_gain_is_the_pace_of_what_remains():
    (time,) = of_last_step(nn.GRU(3, 4, dtype=np.float64), floats(9, 2, 3)).layers
    assert time.mean_gain**8 == pytest.approx(time.remaining[-1])
    assert time.remaining[time.reach(0.1)] < 0.1 <= time.remaining[time.reach(0.1) - 1]
    assert math.isclose(time.remaining[-1], np.prod(time.gain[:-1]))
