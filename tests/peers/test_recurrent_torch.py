"""Recurrent layers and cells against PyTorch's, over grids of layers, directions, states and lengths."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import chainrule as cr
from chainrule import nn

TOLERANCE = {np.float64: {"rtol": 1e-9, "atol": 1e-11}, np.float32: {"rtol": 1e-3, "atol": 2e-6}}
TORCH = {np.float64: torch.float64, np.float32: torch.float32}
TIME, BATCH, IN, WIDTH = 5, 3, 4, 6
precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])
KINDS = {
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
}
kinds = pytest.mark.parametrize("kind, options", KINDS.values(), ids=KINDS)


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both(make, dtype):
    """Our module and PyTorch's with the same parameters."""
    ours, theirs = make(nn, dtype), make(torch.nn, TORCH[dtype])
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def flat(results):
    """Every tensor in nested tuples."""
    return [t for part in results for t in flat(part)] if isinstance(results, tuple) else [results]


def agree(ours, theirs, inputs, dtype, call=None):
    """Values, and gradients by inputs and parameters; `inputs` may hold a tuple, the state of an LSTM."""

    def of(kind, given):
        return tuple(of(kind, part) for part in given) if isinstance(given, tuple) else kind(given)

    xs = of(lambda a: cr.tensor(a, requires_grad=True), inputs)
    ts = of(lambda a: torch.tensor(a, requires_grad=True), inputs)
    y, z = flat(ours(*xs)), flat((call or theirs)(*ts))
    total, other = 0, 0
    for seed, (a, b) in enumerate(zip(y, z, strict=True), start=30):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.data, b.detach().numpy(), **TOLERANCE[dtype])
        weights = floats(*a.shape, seed=seed, dtype=dtype)
        total, other = total + (a * weights).sum(), other + (b * torch.tensor(weights)).sum()
    total.backward()
    other.backward()
    for x, t in zip(flat(xs), flat(ts), strict=True):
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), **TOLERANCE[dtype])


def same_gradients(ours, theirs, dtype):
    for (path, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert path == other
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), **TOLERANCE[dtype], err_msg=path)


def state(kind, rows, dtype, batch=(BATCH,)):
    parts = tuple(floats(rows, *batch, WIDTH, seed=10 + i, dtype=dtype) for i in range(2))
    return parts if kind == "LSTM" else parts[0]


@precisions
@kinds
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_layer_with_and_without_an_initial_state(kind, options, layers, bidirectional, batch_first, dtype):
    settings = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first, **options}
    ours, theirs = both(lambda n, d: getattr(n, kind)(IN, WIDTH, **settings, dtype=d), dtype)
    x = floats(*((BATCH, TIME) if batch_first else (TIME, BATCH)), IN, dtype=dtype)
    agree(ours, theirs, (x,), dtype)
    same_gradients(ours, theirs, dtype)
    agree(ours, theirs, (x, state(kind, layers * (1 + bidirectional), dtype)), dtype)
    same_gradients(ours, theirs, dtype)


@precisions
@kinds
@pytest.mark.parametrize("bidirectional", [False, True])
def test_variable_lengths_are_pytorchs_packed_sequences(kind, options, bidirectional, dtype):
    settings = {"num_layers": 2, "bidirectional": bidirectional, **options}
    ours, theirs = both(lambda n, d: getattr(n, kind)(IN, WIDTH, **settings, dtype=d), dtype)
    lengths = np.array([2, 5, 1])

    def packed(t, *start):
        y, final = theirs(pack_padded_sequence(t, torch.tensor(lengths), enforce_sorted=False), *start)
        return pad_packed_sequence(y)[0], final

    inputs = (floats(TIME, BATCH, IN, dtype=dtype), state(kind, 2 * (1 + bidirectional), dtype))
    agree(lambda *a: ours(*a, lengths=lengths), theirs, inputs, dtype, packed)
    same_gradients(ours, theirs, dtype)


@precisions
@kinds
def test_a_sequence_without_a_batch_or_biases(kind, options, dtype):
    ours, theirs = both(lambda n, d: getattr(n, kind)(IN, WIDTH, bias=False, **options, dtype=d), dtype)
    agree(ours, theirs, (floats(TIME, IN, dtype=dtype), state(kind, 1, dtype, batch=())), dtype)
    same_gradients(ours, theirs, dtype)


@precisions
@kinds
@pytest.mark.parametrize("batch", [(), (BATCH,)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell(kind, options, batch, bias, dtype):
    ours, theirs = both(lambda n, d: getattr(n, f"{kind}Cell")(IN, WIDTH, bias=bias, **options, dtype=d), dtype)
    x, start = floats(*batch, IN, dtype=dtype), state(kind, 1, dtype, batch)
    start = tuple(part[0] for part in start) if isinstance(start, tuple) else start[0]
    agree(ours, theirs, (x,), dtype)
    agree(ours, theirs, (x, start), dtype)
    same_gradients(ours, theirs, dtype)


@kinds
def test_a_network_loaded_from_pytorchs_file(tmp_path, kind, options):
    def make(n):
        return n.Sequential(n.Embedding(7, IN), getattr(n, kind)(IN, WIDTH, 2, bidirectional=True, **options))

    ours, theirs = make(nn), make(torch.nn)
    save_file(theirs.state_dict(), tmp_path / "network.safetensors")
    ours.load_state_dict(nn.load(tmp_path / "network.safetensors"))
    tokens = np.random.default_rng(0).integers(0, 7, (TIME, BATCH))
    for a, b in zip(flat(ours(tokens)), flat(theirs(torch.tensor(tokens))), strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), **TOLERANCE[np.float32])


@kinds
def test_parameters_start_from_pytorchs_distribution(kind, options):
    nn.random.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(nn, kind)(IN, 64, **options), getattr(torch.nn, kind)(IN, 64, **options)
    for (path, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert p.shape == tuple(q.shape), path
        assert np.abs(p.data).max() <= 1 / 8
        assert p.data.std() == pytest.approx(q.std().item(), rel=0.15), path
