"""Layers for sequences: recurrence, embedding and attention, worked out in other ways, and what they refuse."""

import gc
import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.ops import recurrent

F = nn.functional


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_module(module, *inputs, order=2, **options):
    """Gradients of a float64 module by its parameters and its inputs."""
    parameters = {name: p.data for name, p in module.named_parameters()}

    def call(p, *xs):
        y = nn.functional_call(module, p, *xs, **options)
        return y[0] if isinstance(y, tuple) else y

    cr.check_grads(call, (parameters, *inputs), order=order, max_elements=6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Recurrence -------------------------------------------------------------------------------------------------


def by_the_book(kind, layer, x, h, c):
    """One layer in one direction, from the formulas."""
    w, u, b, d = (getattr(layer, f"{name}_l0").data for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    outputs = []
    for step in x:
        if kind == "RNN":
            h = np.tanh(w @ step + b + u @ h + d)
        elif kind == "LSTM":
            i, f, g, o = np.split(w @ step + b + u @ h + d, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (r, z, n), (s, y, m) = np.split(w @ step + b, 3), np.split(u @ h + d, 3)
            r, z = sigmoid(r + s), sigmoid(z + y)
            h = (1 - z) * np.tanh(n + r * m) + z * h
        outputs.append(h)
    return np.array(outputs), h, c


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_follows_its_formulas(kind):
    layer = getattr(nn, kind)(3, 4, dtype=np.float64)
    x, h, c = floats(5, 3), floats(4, seed=1), floats(4, seed=2)
    state = (h[None], c[None]) if kind == "LSTM" else h[None]
    y, final = layer(x, state)
    expected, h, c = by_the_book(kind, layer, x, h, c)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12)
    np.testing.assert_allclose((final[0] if kind == "LSTM" else final).data[0], h, rtol=1e-12)
    if kind == "LSTM":
        np.testing.assert_allclose(final[1].data[0], c, rtol=1e-12)


@pytest.mark.parametrize("kind, options", [("RNN", {}), ("LSTM", {"bidirectional": True}), ("GRU", {"num_layers": 2})])
@pytest.mark.parametrize("lengths", [None, np.array([3, 1])])
def test_derivatives_to_second_order_by_parameters_and_input(kind, options, lengths):
    check_module(getattr(nn, kind)(2, 2, dtype=np.float64, **options), floats(3, 2, 2), lengths=lengths)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_cell_stepped_by_hand_is_the_layer(kind):
    layer, cell = getattr(nn, kind)(3, 4, dtype=np.float64), getattr(nn, f"{kind}Cell")(3, 4, dtype=np.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, state, outputs = floats(5, 2, 3), None, []
    for step in x:
        state = cell(step, state)
        outputs.append((state[0] if kind == "LSTM" else state).data)
    np.testing.assert_allclose(layer(x)[0].data, outputs, rtol=1e-12)


def test_the_path_through_the_cell_state_scales_by_the_forget_gates_only():
    """dc_T/dc_0 = f_1⊙…⊙f_T where the gates do not read the state."""
    layer = nn.LSTM(2, 3, dtype=np.float64)
    layer.weight_hh_l0.data = np.zeros((12, 3))
    x, c = floats(6, 2), cr.tensor(floats(1, 3, seed=1), requires_grad=True)
    _, (_, last) = layer(x, (np.zeros((1, 3)), c))
    last.sum().backward()
    forget = sigmoid(x @ layer.weight_ih_l0.data[3:6].T + (layer.bias_ih_l0.data + layer.bias_hh_l0.data)[3:6])
    np.testing.assert_allclose(c.grad.data[0], forget.prod(axis=0), rtol=1e-12)


def test_the_gradient_of_a_linear_recurrence_is_the_product_of_its_factors():
    """0.5⁵⁰ vanishes and 1.5¹⁰⁰ explodes."""
    for factor, steps, expected in ((0.5, 50, 8.9e-16), (1.5, 100, 4.07e17)):
        layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=np.float64)
        layer.weight_hh_l0.data = np.full((1, 1), factor)
        h = cr.tensor(np.ones((1, 1)), requires_grad=True)
        layer(np.zeros((steps, 1)), h)[1].sum().backward()
        assert h.grad.item() == pytest.approx(expected, rel=5e-3)
        assert h.grad.item() == pytest.approx(factor**steps, rel=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_what_follows_the_end_of_a_sequence_changes_nothing(kind):
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True, batch_first=True, dtype=np.float64)
    lengths = np.array([4, 2])
    x = floats(2, 4, 3)
    other = np.where(np.arange(4)[None, :, None] < lengths[:, None, None], x, 1e6)
    tensors = [cr.tensor(x, requires_grad=True), cr.tensor(other, requires_grad=True)]
    results = [layer(t, lengths=lengths) for t in tensors]
    for (y, final), t in zip(results, tensors, strict=True):
        assert not y.data[1, 2:].any()
        final = final[0] if kind == "LSTM" else final
        (y.sum() + final.sum()).backward()
        assert not t.grad.data[1, 2:].any()
        short = cr.tensor(x[1:, :2], requires_grad=True)
        alone, last = layer(short)
        (alone.sum() + (last[0] if kind == "LSTM" else last).sum()).backward()
        np.testing.assert_allclose(y.data[1, :2], alone.data[0], rtol=1e-12)
        np.testing.assert_allclose(t.grad.data[1, :2], short.grad.data[0], rtol=1e-10)
    np.testing.assert_array_equal(results[0][0].data, results[1][0].data)
    np.testing.assert_array_equal(tensors[0].grad.data, tensors[1].grad.data)


def test_the_state_before_a_sequence_gets_its_gradient_past_the_padding_behind_it():
    layer = nn.LSTM(3, 4, dtype=np.float64).requires_grad_(False)
    x, h, c = floats(5, 1, 3), floats(1, 1, 4, seed=1), floats(1, 1, 4, seed=2)
    padded = cr.grad(lambda h: layer(x, (h, c), lengths=[2])[1][0].sum())(h)
    np.testing.assert_allclose(padded, cr.grad(lambda h: layer(x[:2], (h, c))[1][0].sum())(h), rtol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_other_direction_is_the_layer_on_the_sequence_reversed(kind):
    both, one = getattr(nn, kind)(3, 4, bidirectional=True, dtype=np.float64), getattr(nn, kind)(3, 4, dtype=np.float64)
    reverse = {name.removesuffix("_reverse"): v for name, v in both.state_dict().items() if name.endswith("_reverse")}
    one.load_state_dict(reverse)
    x = floats(5, 2, 3)
    (y, final), (z, last) = both(x), one(x[::-1].copy())
    if kind == "LSTM":
        final, last = final[0], last[0]
    np.testing.assert_allclose(y.data[..., 4:], z.data[::-1], rtol=1e-12)
    np.testing.assert_allclose(final.data[1], last.data[0], rtol=1e-12)


def test_dropout_between_layers_is_for_training_only_and_spares_the_last():
    layer = nn.LSTM(3, 50, 2, dropout=0.5)
    x = floats(4, 2, 3, dtype=np.float32)
    assert (layer(x)[0].data != layer(x)[0].data).any()
    assert layer(x)[0].data.all()
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)


def test_the_forget_gate_can_start_open():
    lstm, gru = nn.LSTM(3, 4, 2, bidirectional=True), nn.GRU(3, 4)
    lstm.reset_forget_bias()
    gru.reset_forget_bias(2.0)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        total = getattr(lstm, f"bias_ih{suffix}").data + getattr(lstm, f"bias_hh{suffix}").data
        assert (total[4:8] == 1).all()
        assert (total[:4] != 1).all()
    assert (gru.bias_ih_l0.data + gru.bias_hh_l0.data)[4:8].tolist() == [2.0] * 4
    for layer in (nn.RNN(3, 4), nn.LSTM(3, 4, bias=False)):
        with pytest.raises(ValueError, match=r"(RNN|LSTM) has no forget gate, or no biases"):
            layer.reset_forget_bias()


def test_recurrent_matrices_can_start_orthogonal():
    layer = nn.GRU(3, 5, 2, dtype=np.float64)
    before = layer.weight_ih_l0.data
    layer.reset_recurrent_orthogonal()
    for name in ("weight_hh_l0", "weight_hh_l1"):
        for gate in np.split(getattr(layer, name).data, 3):
            np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-12)
    assert layer.weight_ih_l0.data is before or (layer.weight_ih_l0.data == before).all()


@pytest.mark.parametrize("kind", recurrent.CELLS)
def test_all_gradients_of_a_layer_come_from_one_walk_back_through_time(kind, monkeypatch):
    walks = []
    back = recurrent._back
    monkeypatch.setattr(recurrent, "_back", lambda *a: walks.append(1) or back(*a))
    cell = recurrent.CELLS[kind]
    shapes = [(3, 2, cell.gates * 2), (cell.states, 2, 2), (cell.gates * 2, 2), (cell.gates * 2,)]
    inputs = [cr.tensor(floats(*shape), requires_grad=True) for shape in shapes]
    y = recurrent.recurrent_layer(kind, *inputs)
    seed = floats(*y.shape, seed=3)
    y.backward(seed, retain_graph=True)
    assert len(walks) == 1
    first = [t.grad.data for t in inputs]
    seed *= 2  # the same array with other numbers: walked anew
    y.backward(seed)
    assert len(walks) == 2
    for t, g in zip(inputs, first, strict=True):
        np.testing.assert_allclose(t.grad.data, 3 * g, rtol=1e-12)
    del seed, y
    gc.collect()
    assert not recurrent._walked


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("through_c", [False, True])
@pytest.mark.parametrize("batch", [3, 64])
def test_an_lstm_without_a_mask_is_that_with_a_mask_of_all(batch, through_c, reverse):
    arrays = floats(7, batch, 8), floats(2, batch, 2, seed=1), floats(8, 2, seed=2)
    g = floats(2, 7, batch, 2, seed=3) * np.array([1.0, through_c])[:, None, None, None]

    def results(mask):
        y, pull = cr.vjp(
            lambda *inputs: recurrent.recurrent_layer("lstm", *inputs, None, mask, reverse=reverse), *arrays
        )
        return [y, *pull(g)]

    for plain, masked in zip(results(None), results(np.ones((7, batch, 1), bool)), strict=True):
        np.testing.assert_allclose(plain, masked, rtol=1e-11, atol=1e-13)


def test_two_layers_that_share_a_cotangent_keep_their_ways_apart():
    inputs = [
        [cr.tensor(floats(*s, seed=i), requires_grad=True) for s in ((3, 2, 8), (2, 2, 2), (8, 2))] for i in (0, 5)
    ]
    total = sum(recurrent.recurrent_layer("lstm", *row) for row in inputs)
    total.sum().backward()
    for row in inputs:
        alone = [cr.tensor(t.data, requires_grad=True) for t in row]
        recurrent.recurrent_layer("lstm", *alone).sum().backward()
        for t, a in zip(row, alone, strict=True):
            np.testing.assert_allclose(t.grad.data, a.grad.data, rtol=1e-12)


X = floats(5, 2, 3, dtype=np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: nn.LSTM(3, 4)(X[:0]),
            r"LSTM: needs an input of shape \(time, batch, 3\).* not empty; got \(0, 2, 3\)",
        ),
        (lambda: nn.LSTM(3, 4)(X[..., :2]), r"LSTM: needs an input of shape .* got \(5, 2, 2\)"),
        (lambda: nn.LSTM(3, 4)(X, np.zeros((1, 2, 4), np.float32)), r"a pair \(h, c\), each of shape \(1, 2, 4\)"),
        (
            lambda: nn.GRU(3, 4, 2)(X, np.zeros((1, 2, 4), np.float32)),
            r"state must be of shape \(2, 2, 4\).* got \(1, 2",
        ),
        (lambda: nn.GRU(3, 4)(X, lengths=[5, 6]), r"GRU: lengths must be from 1 to 5, .*; got \[5 6\]"),
        (lambda: nn.GRU(3, 4)(X, lengths=[5, 0]), r"GRU: lengths must be from 1 to 5"),
        (lambda: nn.GRU(3, 4)(X, lengths=[5]), r"lengths must be integers of shape \(2,\).* got int64 of shape \(1,\)"),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), r"RNN: nonlinearity must be 'tanh' or 'relu', got 'sin'"),
        (lambda: nn.LSTM(3, 0), r"LSTM: hidden_size must be at least 1, got 0"),
        (lambda: nn.LSTMCell(3, 4)(X[0], X[0]), r"LSTMCell: the state must be a pair \(h, c\), each of shape \(2, 4\)"),
        (lambda: nn.GRUCell(3, 4)(X), r"GRUCell: needs an input of shape \(batch, 3\) or \(3,\), got \(5, 2, 3\)"),
    ],
)
def test_a_sequence_that_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Embedding and places ---------------------------------------------------------------------------------------


def test_an_embedding_reads_rows_and_adds_up_their_gradients():
    layer = nn.Embedding(4, 2, dtype=np.float64)
    tokens = np.array([[3, 0, 3], [1, 3, 0]])
    y = layer(tokens)
    np.testing.assert_array_equal(y.data, layer.weight.data[tokens])
    y.sum().backward()
    assert layer.weight.grad.tolist() == [[2, 2], [1, 1], [0, 0], [3, 3]]
    cr.check_grads(lambda w: F.embedding(tokens, w) ** 2, (layer.weight.data,), order=2)


def test_the_padding_row_gets_no_gradient_in_either_mode():
    weight = floats(3, 2)
    tokens = np.array([0, 1, 1, 2])
    found = cr.jacobian(lambda w: F.embedding(tokens, w, padding_idx=1))(weight)
    assert [part.sum() for part in found] == [2, 0, 0, 2]
    _, tangent = cr.jvp(lambda w: F.embedding(tokens, w, padding_idx=1), (weight,), (np.ones((3, 2)),))
    assert tangent.tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]


def test_a_pretrained_embedding_is_frozen_unless_asked_otherwise():
    table = floats(3, 2)
    frozen, free = nn.Embedding.from_pretrained(table), nn.Embedding.from_pretrained(table, freeze=False)
    np.testing.assert_array_equal(frozen.weight.data, table)
    assert not frozen.weight.requires_grad
    assert free.weight.requires_grad


@pytest.mark.parametrize(
    "error, tokens, message",
    [
        (IndexError, [0, 4], r"embedding: indices of shape \(2,\) run from 0 to 4, but the table has rows 0 to 3"),
        (IndexError, [[-1, 2]], r"run from -1 to 2, but the table has rows 0 to 3"),
        (TypeError, [0.0, 1.0], r"embedding: indices must be integers, got float64 of shape \(2,\)"),
    ],
)
def test_an_index_outside_of_the_table_is_refused(error, tokens, message):
    with pytest.raises(error, match=message):
        nn.Embedding(4, 2)(np.array(tokens))


def test_positions_are_sines_and_cosines_of_growing_wavelength():
    encode = nn.PositionalEncoding(5, max_len=8, dtype=np.float64)
    y = encode(np.zeros((6, 2, 5))).data
    for t in range(6):
        expected = [f(t / 10_000 ** (2 * i / 5)) for i in range(3) for f in (math.sin, math.cos)][:5]
        np.testing.assert_allclose(y[t, 1], expected, rtol=1e-12)
    batch_first = nn.PositionalEncoding(5, max_len=8, batch_first=True, dtype=np.float64)
    np.testing.assert_array_equal(batch_first(np.zeros((2, 6, 5))).data, y.swapaxes(0, 1))
    assert encode.state_dict() == {}
    with pytest.raises(ValueError, match="a sequence of length 9 is longer than max_len=8"):
        encode(np.zeros((9, 1, 5)))


# Attention --------------------------------------------------------------------------------------------------


def test_attention_is_a_mean_of_values_weighted_by_scaled_scores():
    q, k, v = floats(3, 4), floats(5, 4, seed=1), floats(5, 2, seed=2)
    e = np.exp(q @ k.T / 2)  # the root of the width 4
    np.testing.assert_allclose(
        F.scaled_dot_product_attention(q, k, v).data, e / e.sum(axis=1, keepdims=True) @ v, rtol=1e-12
    )


def test_a_causal_query_does_not_see_what_comes_later():
    q, k, v = floats(4, 3), floats(4, 3, seed=1), floats(4, 2, seed=2)
    before = F.scaled_dot_product_attention(q, k, v, is_causal=True).data
    k[2:], v[2:] = 1e3, -1e3
    after = F.scaled_dot_product_attention(q, k, v, is_causal=True).data
    np.testing.assert_array_equal(before[:2], after[:2])
    assert (before[2:] != after[2:]).all()


def test_a_query_that_may_attend_to_nothing_gets_zeros_and_no_gradient():
    q, k, v = (cr.tensor(floats(2, 3, seed=i), requires_grad=True) for i in range(3))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=np.array([[False, False], [True, False]]))
    y.sum().backward()
    assert y.data[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(y.data[1], v.data[0], rtol=1e-12)
    assert q.grad.data[0].tolist() == [0, 0, 0]
    assert np.isfinite(k.grad.data).all()


def test_heads_attend_apart_each_scaled_by_the_root_of_its_own_width():
    layer = nn.MultiheadAttention(6, 2, batch_first=True, dtype=np.float64)
    layer.in_proj_bias.data = floats(18, seed=3)
    x = floats(4, 6)
    q, k, v = np.split(x @ layer.in_proj_weight.data.T + layer.in_proj_bias.data, 3, axis=1)
    found, weights = [], []
    for head in (slice(0, 3), slice(3, 6)):
        e = np.exp(q[:, head] @ k[:, head].T / math.sqrt(3))
        weights.append(e / e.sum(axis=1, keepdims=True))
        found.append(weights[-1] @ v[:, head])
    y, mean = layer(x, x, x)
    expected = np.concatenate(found, axis=1) @ layer.out_proj.weight.data.T + layer.out_proj.bias.data
    np.testing.assert_allclose(y.data, expected, rtol=1e-10)
    np.testing.assert_allclose(mean.data, np.mean(weights, axis=0), rtol=1e-10)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_normalises_before_its_paths_or_after_their_sums(norm_first):
    block = nn.TransformerEncoderLayer(4, 2, 8, 0.0, norm_first=norm_first, dtype=np.float64)
    x = cr.tensor(floats(3, 1, 4))

    def attend(z):
        return block.self_attn(z, z, z)[0]

    def feed(z):
        return block.linear2(F.relu(block.linear1(z)))

    if norm_first:
        half = x + attend(block.norm1(x))
        expected = half + feed(block.norm2(half))
    else:
        half = block.norm1(x + attend(x))
        expected = block.norm2(half + feed(half))
    np.testing.assert_allclose(block(x).data, expected.data, rtol=1e-12)


def test_masks_of_booleans_and_of_numbers_say_the_same():
    layer = nn.MultiheadAttention(4, 2, dtype=np.float64)
    x = floats(3, 2, 4)
    padding = np.array([[False, False, True], [False, False, False]])
    numbers = np.where(padding, -np.inf, 0.0)
    for a, b in zip(layer(x, x, x, padding), layer(x, x, x, numbers), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_dropout_of_attention_weights_is_for_training_only():
    layer = nn.MultiheadAttention(4, 2, dropout=0.5)
    x = floats(3, 2, 4, dtype=np.float32)
    assert (layer(x, x, x)[0].data != layer(x, x, x)[0].data).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x, x, x)[0].data, layer(x, x, x)[0].data)


@pytest.mark.parametrize("norm_first", [True, False])
def test_derivatives_of_transformer_blocks_to_second_order(norm_first):
    options = {"norm_first": norm_first, "activation": "gelu", "dtype": np.float64}
    encoder = nn.TransformerEncoderLayer(4, 2, 3, 0.0, **options)
    decoder = nn.TransformerDecoderLayer(4, 2, 3, 0.0, **options)
    check_module(encoder, floats(3, 1, 4), is_causal=True)
    check_module(decoder, floats(2, 1, 4), floats(3, 1, 4, seed=1), order=1)


def test_a_causal_encoder_is_blind_to_the_future():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True, dtype=np.float64), 2)
    x = floats(1, 5, 4)
    y = encoder(x, is_causal=True).data
    x[0, 3:] += 1
    z = encoder(x, is_causal=True).data
    np.testing.assert_array_equal(y[0, :3], z[0, :3])
    assert (y[0, 3:] != z[0, 3:]).any()


def test_the_copies_of_a_stack_start_equal_and_are_trained_apart():
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2)
    first, second = (layer.linear1.weight for layer in stack.layers)
    assert first is not second
    np.testing.assert_array_equal(first.data, second.data)


Q, K = floats(3, 2, 4, dtype=np.float32), floats(5, 2, 4, dtype=np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.scaled_dot_product_attention(Q, K, K[:3]), r"got \(3, 2, 4\), \(5, 2, 4\), \(3, 2, 4\)"),
        (
            lambda: F.scaled_dot_product_attention(Q[0], K[0][:, :3], K[0]),
            r"queries of shape .* got \(2, 4\), \(2, 3\)",
        ),
        (
            lambda: F.scaled_dot_product_attention(Q[0], K[0], K[0], np.ones((3, 2), bool)),
            r"a mask of shape \(3, 2\) does not fit scores of shape \(2, 2\)",
        ),
        (
            lambda: F.scaled_dot_product_attention(Q[0], K[0], K[0], np.ones((2, 2), bool), is_causal=True),
            r"either attn_mask or is_causal=True, not both",
        ),
        (lambda: nn.MultiheadAttention(4, 3), r"MultiheadAttention: 3 heads do not divide embed_dim=4"),
        (lambda: nn.MultiheadAttention(4, 2)(Q, K, K[:3]), r"keys and values one length"),
        (lambda: nn.MultiheadAttention(4, 2)(Q, K[:, :1], K[:, :1]), r"in a batch of 2, keys in one of 1 \(axis 1"),
        (lambda: nn.MultiheadAttention(4, 2)(Q[:0], K, K), r"none empty; got \(0, 2, 4\)"),
        (
            lambda: nn.MultiheadAttention(4, 2)(Q, K, K, np.ones((5, 2), bool)),
            r"key_padding_mask has shape \(5, 2\); it must be \(2, 5\)",
        ),
        (
            lambda: nn.MultiheadAttention(4, 2)(Q, K, K, attn_mask=np.ones((5, 3), bool)),
            r"attn_mask has shape \(5, 3\); it must be \(3, 5\) \(queries, keys\) or \(4, 3, 5\)",
        ),
        (
            lambda: nn.TransformerEncoderLayer(4, 2, activation="tanh"),
            r"activation must be 'relu', 'gelu' or a function",
        ),
    ],
)
def test_what_does_not_fit_attention_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mask_of_another_dtype_is_refused():
    with pytest.raises(TypeError, match=r"a mask must be of booleans, or of numbers of dtype float32; got float64"):
        nn.MultiheadAttention(4, 2)(Q, K, K, attn_mask=np.zeros((3, 5)))
