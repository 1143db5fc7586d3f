"""Truncated backpropagation through time: what a chunk holds, what is carried over it, and what memory it takes."""

import tracemalloc

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim

F = nn.functional


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gradients(module):
    return [p.grad.data for p in module.parameters()]


# What a chunk holds -------------------------------------------------------------------------------------------------


@given(steps=st.integers(1, 30), k=st.integers(1, 40), axis=st.sampled_from([0, 1, -1]))
def test_the_chunks_of_an_array_are_the_array(steps, k, axis):
    x = np.moveaxis(floats(steps, 2, 3), 0, axis)
    chunks = nn.TruncatedBPTT(x, k, axis=axis)
    parts = list(chunks)
    assert len(chunks) == len(parts)
    assert {part.shape[axis] for part in parts[:-1]} <= {k}
    assert 1 <= parts[-1].shape[axis] <= k
    np.testing.assert_array_equal(np.concatenate(parts, axis), x)


@given(lengths=st.lists(st.integers(0, 9), max_size=8), k=st.integers(1, 12), last=st.integers(1, 9))
def test_pieces_of_any_lengths_give_the_chunks_of_the_whole(lengths, k, last):
    ends = np.cumsum([*lengths, last])
    x, y = floats(ends[-1], 2), np.arange(ends[-1])
    pieces = ({"x": x[a:b], "y": y[a:b]} for a, b in zip([0, *ends], ends, strict=False))
    for chunk, (xs, ys) in zip(nn.TruncatedBPTT(pieces, k), nn.TruncatedBPTT((x, y), k), strict=True):
        np.testing.assert_array_equal(chunk["x"], xs)
        np.testing.assert_array_equal(chunk["y"], ys)


def test_arrays_that_share_time_stay_in_their_containers():
    x, y, z = floats(5, 2), np.arange(5), cr.tensor(floats(5))
    first = next(iter(nn.TruncatedBPTT({"b": [y, z], "a": x}, 2)))
    assert type(first["a"]) is np.ndarray
    assert first["a"].shape == (2, 2)
    assert first["b"][0].tolist() == [0, 1]
    assert isinstance(first["b"][1], cr.Tensor)


def test_arrays_of_other_libraries_stay_so():
    x = array_api_strict.asarray(floats(5, 2))
    whole = list(nn.TruncatedBPTT(x, 4))
    pieces = list(nn.TruncatedBPTT(iter([x[:1, :], x[1:, :]]), 4))
    for parts in (whole, pieces):
        assert [part.shape for part in parts] == [(4, 2), (1, 2)]
        assert all(type(part) is type(x) for part in parts)


def test_of_a_mapped_file_one_chunk_at_a_time_is_read(tmp_path):
    np.save(tmp_path / "x.npy", floats(7, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    chunks = list(nn.TruncatedBPTT(mapped, 3))
    assert all(type(chunk) is np.ndarray and chunk.base is None for chunk in chunks)
    np.testing.assert_array_equal(np.concatenate(chunks), mapped)


# What is carried ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_values_are_those_of_the_whole_sequence(kind):
    layer = getattr(nn, kind)(3, 4, 2, dtype=np.float64)
    x, outputs = floats(7, 2, 3), []
    chunks = nn.TruncatedBPTT(x, 3)
    for chunk in chunks:
        y, chunks.state = layer(chunk, chunks.state)
        outputs.append(y.data)
    expected, final = layer(x)
    np.testing.assert_allclose(np.concatenate(outputs), expected.data, rtol=1e-12)
    ours, theirs = (state if kind == "LSTM" else (state,) for state in (chunks.state, final))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_gradients_of_one_chunk_that_holds_everything_are_those_of_full_backpropagation_through_time():
    layer = nn.LSTM(3, 4, dtype=np.float64)
    x = floats(7, 2, 3)
    (layer(x)[0] ** 2).sum().backward()
    full = gradients(layer)
    layer.zero_grad()
    chunks = nn.TruncatedBPTT(x, 7)
    for chunk in chunks:
        y, chunks.state = layer(chunk, chunks.state)
        (y**2).sum().backward()
    for a, b in zip(gradients(layer), full, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_gradient_goes_back_past_the_beginning_of_a_chunk():
    """h_t = w·h_(t−1) from h_0 = 1: the loss Σ h_t of four steps, cut in the middle, has slope 1+2w, then w²(1+2w)."""
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=np.float64)
    w = 0.5
    layer.weight_hh_l0.data = np.full((1, 1), w)
    chunks = nn.TruncatedBPTT(np.zeros((4, 1, 1)), 2, state=np.ones((1, 1, 1)))
    slopes = []
    for chunk in chunks:
        layer.zero_grad()
        y, chunks.state = layer(chunk, chunks.state)
        y.sum().backward()
        slopes.append(layer.weight_hh_l0.grad.item())
    assert slopes == pytest.approx([1 + 2 * w, w**2 * (1 + 2 * w)], rel=1e-15)
    assert chunks.state.item() == w**4


def test_gradients_of_chunks_add_up_until_the_loop_steps():
    layer = nn.GRU(2, 3, dtype=np.float64)
    x = floats(6, 1, 2)

    def run(every):
        layer.zero_grad()
        chunks, seen = nn.TruncatedBPTT(x, 2), []
        for place, chunk in enumerate(chunks, 1):
            y, chunks.state = layer(chunk, chunks.state)
            y.sum().backward()
            if place % every == 0:
                seen.append(layer.weight_hh_l0.grad.data)
                layer.zero_grad()
        return seen

    np.testing.assert_allclose(np.sum(run(1), axis=0), run(3)[0], rtol=1e-12)


def test_each_pass_begins_with_the_state_that_was_given():
    start = (cr.tensor(floats(1, 2, 4), requires_grad=True), floats(1, 2, 4, seed=1))
    chunks = nn.TruncatedBPTT(floats(5, 2, 3), 2, state=start)
    layer = nn.LSTM(3, 4, dtype=np.float64)
    seen = []
    for _ in range(2):
        for place, chunk in enumerate(chunks):
            if place == 0:
                assert not chunks.state[0].requires_grad
                seen.append([np.asarray(part) for part in chunks.state])
            _, chunks.state = layer(chunk, chunks.state)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], [np.asarray(start[0].data), start[1]])


def test_states_of_several_layers_are_carried_in_any_container():
    lstm, gru = nn.LSTM(3, 4), nn.GRU(4, 5)
    chunks = nn.TruncatedBPTT(floats(6, 2, 3, dtype=np.float32), 2, state={"lstm": None, "gru": None})
    for chunk in chunks:
        state = chunks.state
        y, first = lstm(chunk, state["lstm"])
        y, second = gru(y, state["gru"])
        chunks.state = {"lstm": first, "gru": second}
    assert not any(part.requires_grad for part in [*chunks.state["lstm"], chunks.state["gru"]])


def test_a_compiled_step_runs_on_the_chunks():
    x = floats(40, 2, 3, dtype=np.float32)

    def train(compiled):
        nn.random.manual_seed(0)
        layer = nn.LSTM(3, 4)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(chunk, state):
            optimizer.zero_grad()
            y, state = layer(chunk, state)
            loss = (y**2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach(), [part.detach() for part in state]

        step = cr.compile(step, strict=True) if compiled else step
        zeros = np.zeros((1, 2, 4), np.float32)
        chunks, losses = nn.TruncatedBPTT(x, 10, state=[zeros, zeros]), []
        for chunk in chunks:
            loss, chunks.state = step(chunk, chunks.state)
            losses.append(loss.item())
        return losses

    np.testing.assert_allclose(train(True), train(False), rtol=1e-5)


# Memory -------------------------------------------------------------------------------------------------------------


def peak_of_training(pieces_or_array, k):
    nn.random.manual_seed(0)
    layer, head = nn.LSTM(2, 8), nn.Linear(8, 2)
    optimizer = optim.SGD([*layer.parameters(), *head.parameters()], lr=0.01)
    chunks = nn.TruncatedBPTT(pieces_or_array, k)
    tracemalloc.start()
    for x in chunks:
        optimizer.zero_grad()
        y, chunks.state = layer(x, chunks.state)
        F.mse_loss(head(y), x).backward()
        optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("form", ["mapped", "pieces"])
def test_the_memory_of_training_does_not_grow_with_the_sequence(form, tmp_path):
    def sequence(steps):
        if form == "pieces":
            return (np.ones((60, 32, 2), np.float32) for _ in range(steps // 60))
        np.save(tmp_path / f"{steps}.npy", np.ones((steps, 32, 2), np.float32))
        return np.load(tmp_path / f"{steps}.npy", mmap_mode="r")

    peak_of_training(sequence(60), 30)  # what is made once
    short, long = (peak_of_training(sequence(steps), 30) for steps in (240, 2400))
    assert long < 1.3 * short
    assert peak_of_training(sequence(2400), 2400) > 5 * long


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: nn.TruncatedBPTT(floats(5, 2), 0), ValueError, "TruncatedBPTT: k must be at least 1, got 0"),
        (lambda: nn.TruncatedBPTT(floats(5, 2), 2.5), TypeError, "TruncatedBPTT: k must be an integer, got 2.5"),
        (lambda: nn.TruncatedBPTT(floats(0, 2), 2), ValueError, "the sequence has no steps"),
        (lambda: nn.TruncatedBPTT((), 2), ValueError, "the sequence has no steps"),
        (lambda: list(nn.TruncatedBPTT(iter([]), 2)), ValueError, "the sequence has no steps"),
        (lambda: list(nn.TruncatedBPTT(iter([floats(0, 2)]), 2)), ValueError, "the sequence has no steps"),
        (lambda: nn.TruncatedBPTT(5, 2), TypeError, "needs arrays or an iterator of them, got int"),
        (lambda: nn.TruncatedBPTT([1.0, 2.0], 2), TypeError, "needs arrays, got a float among them"),
        (lambda: list(nn.TruncatedBPTT("text", 2)), TypeError, "needs arrays, got a str among them"),
        (lambda: nn.TruncatedBPTT(floats(5), 2, axis=1), ValueError, r"an array of shape \(5,\) has no axis 1"),
        (
            lambda: nn.TruncatedBPTT((floats(5, 2), floats(4, 2)), 2),
            ValueError,
            r"arrays of shapes \(5, 2\), \(4, 2\) have different numbers of steps along axis 0",
        ),
        (
            lambda: list(nn.TruncatedBPTT(iter([floats(2, 3), floats(2, 4)]), 3)),
            ValueError,
            r"has steps of shape \(4,\), those before had \(3,\)",
        ),
        (lambda: len(nn.TruncatedBPTT(iter([]), 2)), TypeError, "the number of chunks is not known"),
    ],
)
def test_what_cannot_be_cut_into_chunks_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_iterator_that_was_used_up_is_refused():
    chunks = nn.TruncatedBPTT(iter([floats(4, 2)]), 2)
    assert len(list(chunks)) == 2
    with pytest.raises(ValueError, match="used up has none left"):
        list(chunks)


def run(layer, chunks):
    """A loop that forgets to hand the state on."""
    for chunk in chunks:
        layer(chunk, chunks.state)


def test_a_state_of_another_batch_is_refused_by_the_layer():
    layer = nn.LSTM(3, 4, dtype=np.float64)
    chunks = nn.TruncatedBPTT(floats(5, 2, 3), 2, state=(np.zeros((1, 7, 4)), np.zeros((1, 7, 4))))
    message = r"LSTM: the state must be a pair \(h, c\), each of shape \(1, 2, 4\).* got \(1, 7, 4\), \(1, 7, 4\)"
    with pytest.raises(ValueError, match=message):
        run(layer, chunks)


def test_a_state_that_is_not_handed_on_is_noticed_at_the_next_chunk():
    layer = nn.RNN(3, 4, dtype=np.float64)
    chunks = nn.TruncatedBPTT(floats(5, 2, 3), 2)
    with pytest.raises(RuntimeError, match="the state after chunk 0 was not assigned, so that chunk 1 would begin"):
        run(layer, chunks)
