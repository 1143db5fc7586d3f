"""Recurrences compiled: a time step is compiled once, and what it makes is written where it is needed."""

import numpy as np
import pytest
from compile.test_programs import assert_compiles, assert_same
from compile.twins import SetUp, assert_trains_alike
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import chainrule.numpy as xp
from chainrule import nn, optim
from chainrule.nn import functional as F

BATCH, INPUTS, WIDTH, CLASSES = 5, 3, 20, 4


class Classifier(nn.Module):
    """A recurrent layer, and a linear one on its mean over time."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(width, CLASSES, dtype=np.float64)

    def forward(self, x):
        return self.out(xp.mean(self.layer(x)[0], axis=1))


class OwnCell(nn.Module):
    """A recurrence as a user writes it: a Python loop over time."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(INPUTS, WIDTH, dtype=np.float64)
        self.state = nn.Linear(WIDTH, WIDTH, dtype=np.float64)
        self.out = nn.Linear(WIDTH, CLASSES, dtype=np.float64)

    def forward(self, x):
        h = xp.zeros((BATCH, WIDTH))
        for t in range(x.shape[1]):
            h = xp.tanh(self.inner(x[:, t]) + self.state(h))
        return self.out(h)


def recurrent(kind, **options):
    directions = 2 if options.get("bidirectional") else 1
    return lambda: Classifier(
        getattr(nn, kind)(INPUTS, WIDTH, batch_first=True, dtype=np.float64, **options), WIDTH * directions
    )


MODELS = {
    "LSTM": recurrent("LSTM"), "GRU": recurrent("GRU"), "RNN": recurrent("RNN"), "own cell": OwnCell,
    "two layers, two directions": recurrent("LSTM", num_layers=2, bidirectional=True),
}  # fmt: skip


def set_up(make):
    model = make()
    optimizer = optim.SGD(model.parameters(), lr=0.2)

    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return SetUp(step, model, optimizer)


def data(length, count=3):
    rng = np.random.default_rng(5)
    return [(rng.standard_normal((BATCH, length, INPUTS)), rng.integers(0, CLASSES, BATCH)) for _ in range(count)]


def program(make, length):
    nn.random.manual_seed(0)
    step = cr.compile(set_up(make).step, strict=True)
    step(*data(length, 1)[0])
    return step.report().programs[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_recurrent_network_trains_as_the_uncompiled_one(name):
    assert_trains_alike(lambda: set_up(MODELS[name]), data(6))


@pytest.mark.parametrize("name", MODELS)
def test_more_time_steps_need_the_same_kernels_and_the_same_calls_for_each_step(name):
    short, long = program(MODELS[name], 8), program(MODELS[name], 16)
    assert len(short.kernels) == len(long.kernels)
    assert (long.calls - short.calls) % 8 == 0


def test_a_step_of_an_lstm_is_two_kernels_forward_and_one_back():
    assert program(MODELS["LSTM"], 16).calls - program(MODELS["LSTM"], 12).calls == 3 * 4


def test_what_is_put_together_is_computed_in_its_place():
    def stacked(x):
        state, states = x, []
        for _ in range(6):
            state = xp.tanh(state) * 2
            states.append(state)
        return xp.sum(xp.stack(states) @ xp.ones((5, 2)))

    compiled = assert_compiles(stacked, (np.random.default_rng(1).standard_normal((4, 5)),))
    assert not any("copy" in kernel.name for kernel in compiled.report().programs[0].kernels)


def test_a_part_that_is_also_read_by_number_or_in_another_shape_keeps_its_elements():
    def function(x):
        a, b, c = xp.sin(x), xp.cos(x), xp.tanh(x)
        whole = xp.concat([a, b, c], axis=1) @ xp.ones((12, 2))
        return whole, a[:, np.array([2, 0])], xp.reshape(b, (4, 3)) @ xp.ones((3, 2)), c[:, None][np.array([1])]

    assert_compiles(function, (np.random.default_rng(7).standard_normal((3, 4)),))


# Programs of parts and pieces ----------------------------------------------------------------------------------------


MOVES = ["stack", "concat", "piece", "turn", "compute", "pad", "product", "flatten", "take", "squeeze"]


@st.composite
def parts_and_pieces(draw):
    """A function of a (3, 4) array that puts parts together, takes pieces of them, and computes in between."""
    steps = draw(st.lists(st.sampled_from(MOVES), max_size=9))
    numbers = draw(st.lists(st.integers(0, 7), min_size=len(steps) * 4, max_size=len(steps) * 4))

    def function(x):
        rest = iter(numbers)
        known = [x, xp.sin(x)]
        for step in steps:
            one, other, n, m = (next(rest) for _ in range(4))
            a, b = known[-1 - one % len(known)], known[-1 - other % len(known)]
            if step == "stack":
                a = xp.stack([a, a + n, xp.cos(a)], axis=m % (a.ndim + 1)) if a.ndim < 4 else a
            elif step == "concat":
                a = xp.concat([a, b] if a.shape == b.shape else [a, a * 2], axis=m % a.ndim)
            elif step == "piece":
                axis = m % a.ndim
                start = n % a.shape[axis]
                a = a[(slice(None),) * axis + (slice(start, None, 1 + other % 2),)]
            elif step == "turn":
                a = xp.permute_dims(a, tuple(np.roll(range(a.ndim), n)))
            elif step == "pad":
                a = xp.concat([xp.zeros_like(a), a], axis=m % a.ndim)
            elif step == "product":
                a = a @ xp.matrix_transpose(a) if a.ndim > 1 else a
            elif step == "flatten":
                a = xp.reshape(a, (a.shape[0], -1))
            elif step == "take":
                a = a[(slice(None),) * (m % a.ndim) + (np.array([n, 0, other]) % a.shape[m % a.ndim],)]
            elif step == "squeeze":
                a = a[..., None, :] if a.ndim < 4 else a
            else:
                a = a * b if a.shape == b.shape else xp.tanh(a)
            if a.size <= 2000:
                known.append(a / (1 + xp.max(xp.abs(a))))
        return tuple(known[-3:])

    return function


@given(parts_and_pieces())
def test_programs_of_parts_and_pieces_give_the_numbers_of_numpy(function):
    assert_compiles(function, (np.random.default_rng(2).standard_normal((3, 4)),))


@given(parts_and_pieces())
def test_gradients_of_parts_and_pieces_are_those_of_the_uncompiled_function(function):
    def scalar(x):
        return sum(xp.sum(y * y) for y in function(x))

    x = np.random.default_rng(3).standard_normal((3, 4))
    compiled = cr.compile(cr.grad(scalar), strict=True)
    for _ in range(2):
        assert_same(compiled(x), cr.grad(scalar)(x), rtol=1e-8, atol=1e-10)


def test_sums_over_the_rows_of_arrays_in_any_order_are_added_up():
    def function(x):
        arrays = [xp.permute_dims(xp.cos(x), (2, 1, 0)), xp.sin(x), xp.permute_dims(x, (2, 1, 0)), x * x, x[::-1]]
        rows = [xp.sum(a, axis=0) for a in arrays]
        return rows[0] + (rows[1] + rows[2]) + (rows[3] + rows[4]) + xp.sin(x[0])

    assert_compiles(function, (np.random.default_rng(8).standard_normal((3, 4, 3)),))


# Long sums -----------------------------------------------------------------------------------------------------------


def test_a_product_over_a_long_axis_is_done_in_parts_with_the_same_result():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2048, 96)), rng.standard_normal((2048, 100))
    compiled = assert_compiles(lambda a, b: xp.matmul(xp.matrix_transpose(a), b) * 2 + 1, (a, b))
    assert [kernel.name for kernel in compiled.report().programs[0].kernels] == [
        "matmul -> 8 x 96 x 100", "reduce_sum + multiply + add -> 96 x 100 (over 8)",
    ]  # fmt: skip


def test_what_follows_the_product_of_a_linear_layer_is_computed_with_it():
    layer = nn.Linear(6, 7, dtype=np.float64)
    compiled = assert_compiles(
        lambda x: xp.tanh(layer(x)).detach(), (np.random.default_rng(6).standard_normal((2, 3, 6)),)
    )
    assert [kernel.name for kernel in compiled.report().programs[0].kernels] == ["matmul + add + tanh -> 6 x 7"]


def test_the_gradient_of_a_weight_that_every_step_uses_is_one_product_and_that_of_a_bias_one_sum():
    names = [kernel.name for kernel in program(OwnCell, 16).kernels]
    assert sum("matmul" in name and f"-> {WIDTH} x {WIDTH}" in name for name in names) == 1
    assert names.count(f"reduce_sum + multiply + add -> {WIDTH} (over {16 * BATCH})") == 1
