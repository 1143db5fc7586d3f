"""The error signal through time, against closed forms and vector-Jacobian products of what is left of the sequence."""

import numpy as np
import pytest
from sick_networks import numbers, recurrent

import chainrule as cr
from chainrule import nn, optim
from chainrule.doctor.examination import examine
from chainrule.doctor.subjects import subject_of
from chainrule.doctor.through_time import through_time

TIME, BATCH, IN, WIDTH = 9, 2, 3, 4
X = np.random.default_rng(0).standard_normal((TIME, BATCH, IN))


def measured(model, x=X):
    found, notes = through_time(subject_of(model, lambda y: (y[0] if isinstance(y, tuple) else y).sum(), x))
    assert notes == ()
    return found


def seed_of(shape):
    signal = np.random.default_rng(0).standard_normal(shape)
    return signal / np.linalg.norm(signal)


def test_a_plain_rnns_error_signal_is_the_product_of_its_steps_jacobians():
    nn.random.manual_seed(0)
    model = nn.RNN(IN, WIDTH).double()
    states = model(X)[0].detach().numpy()
    weight = model.weight_hh_l0.detach().numpy()
    signal = seed_of((1, BATCH, WIDTH))[0]
    norms = [np.linalg.norm(signal)]
    for h in states[:0:-1]:
        signal = (signal * (1 - h**2)) @ weight
        norms.insert(0, np.linalg.norm(signal))
    (found,) = measured(model)
    assert found.kind == "rnn"
    np.testing.assert_allclose(found.norms, norms, rtol=1e-10)
    assert found.gain == pytest.approx((norms[0] / norms[-1]) ** (1 / (TIME - 1)))
    assert found.spectral_radius == pytest.approx(np.abs(np.linalg.eigvals(weight)).max())


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
def test_norms_are_those_of_the_cotangent_of_the_state_after_each_step(kind, layers):
    nn.random.manual_seed(1)
    model = getattr(nn, kind)(IN, WIDTH, layers).double()
    (found,) = measured(model)
    seed = seed_of((layers, BATCH, WIDTH))
    for step in range(TIME - 1):
        state = model(X[: step + 1])[1]
        parts = [s.detach().numpy() for s in (state if kind == "LSTM" else [state])]

        def last(*parts, step=step):
            final = model(X[step + 1 :], parts if kind == "LSTM" else parts[0])[1]
            return final[0] if kind == "LSTM" else final

        cotangents = cr.vjp(last, *parts)[1](seed)
        assert found.norms[step] == pytest.approx(np.linalg.norm(numbers(cotangents[0])), rel=1e-9)
        if kind == "LSTM":
            assert found.cell_norms[step] == pytest.approx(np.linalg.norm(numbers(cotangents[1])), rel=1e-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_it_is_what_gradient_through_time_tells_of_the_same_error_signal(kind):
    """That one follows a loss through chainrule's own steps, this one repeats calls of either framework's modules.

    Of an LSTM's c that one counts what goes out through the h of the same step too.
    """
    nn.random.manual_seed(3)
    model = getattr(nn, kind)(IN, WIDTH).double()
    (found,) = measured(model)
    signal = seed_of((1, BATCH, WIDTH))

    def loss():
        state = model(X)[1]
        return ((state[0] if kind == "LSTM" else state) * signal).sum()

    (told,) = nn.gradient_through_time(model, loss).layers
    np.testing.assert_allclose(found.norms, told.hidden[::-1], rtol=1e-9)
    assert found.spectral_radius == pytest.approx(max(told.spectral_radius.values()))


def test_cells_in_a_loop_are_measured_like_the_layer_they_make_up():
    nn.random.manual_seed(2)
    layer = nn.GRU(IN, WIDTH).double()

    class Loop(nn.Module):
        def __init__(self):
            self.cell = nn.GRUCell(IN, WIDTH).double()

        def forward(self, x):
            state = None
            for step in range(len(x)):
                state = self.cell(x[step], state)
            return state

    loop = Loop()
    loop.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    (one,), (other,) = measured(layer), measured(loop)
    assert other.path == "cell"
    assert one.norms[-1] == pytest.approx(other.norms[-1])
    assert one.gain == pytest.approx(other.gain, rel=1e-9)  # the same seed in another shape


def test_the_batch_first_layer_inside_a_network_is_found_by_its_path():
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    (found,) = measured(recurrent(type("F", (), {"nn": nn, "optim": optim, "seed": nn.random.manual_seed})), x)
    assert found.path == "rnn"
    assert len(found.norms) == len(found.cell_norms) == 7


def test_a_bidirectional_layer_is_noted_and_not_measured():
    found, notes = through_time(subject_of(nn.RNN(IN, WIDTH, bidirectional=True).double(), lambda y: y[0].sum(), X))
    assert found == ()
    assert "bidirectional" in notes[0]


class Loop(nn.Module):
    """A recurrence h ← tanh(W·h + V·x) as a forward writes it; without inputs after the first, a deep network."""

    def __init__(self, joined, inputs=True):
        super().__init__()
        nn.random.manual_seed(0)
        self.read, self.recur = nn.Linear(IN, WIDTH).double(), nn.Linear(WIDTH, WIDTH).double()
        self.both = nn.Linear(IN + WIDTH, WIDTH).double()
        self.joined, self.inputs = joined, inputs

    def forward(self, x):
        h = cr.numpy.tanh(self.read(x[0]))
        for step in range(1, TIME):
            if self.joined:
                h = cr.numpy.tanh(self.both(cr.numpy.concat([x[step], h], axis=1)))
            else:
                h = cr.numpy.tanh(self.recur(h) + (self.read(x[step]) if self.inputs else 0.0))
        return h


def loops(model):
    return examine(subject_of(model, lambda y: (y * y).sum(), X)).time


def test_a_loop_in_a_forward_has_the_losss_error_signal_at_each_run():
    model = Loop(joined=False)
    (found,) = loops(model)
    weight = model.recur.weight.detach().numpy()
    states = [np.tanh(numbers(model.read(X[0])))]
    for x in X[1:]:
        states.append(np.tanh(numbers(model.recur(states[-1])) + numbers(model.read(x))))
    signal = 2 * states[-1] * (1 - states[-1] ** 2)
    norms = [np.linalg.norm(signal)]
    for h in states[-2:0:-1]:
        signal = (signal @ weight) * (1 - h**2)
        norms.insert(0, np.linalg.norm(signal))
    assert (found.path, found.kind) == ("recur", "loop")
    np.testing.assert_allclose(found.norms, norms, rtol=1e-10)
    assert found.spectral_radius == pytest.approx(np.abs(np.linalg.eigvals(weight)).max())


def test_a_loop_that_joins_state_and_input_is_one_too():
    (found,) = loops(Loop(joined=True))
    assert found.path == "both"
    assert len(found.norms) == TIME - 1
    assert np.isnan(found.spectral_radius)


def test_a_layer_that_is_repeated_without_new_inputs_is_no_recurrence():
    assert loops(Loop(joined=False, inputs=False)) == ()
