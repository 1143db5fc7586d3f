"""Embedding, attention and transformer blocks against PyTorch's, over grids of their settings and masks."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import chainrule as cr
from chainrule import nn

F, TF = nn.functional, torch.nn.functional
TOLERANCE = {np.float64: {"rtol": 1e-9, "atol": 1e-10}, np.float32: {"rtol": 1e-3, "atol": 2e-5}}
TORCH = {np.float64: torch.float64, np.float32: torch.float32}
precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])
# PyTorch warns where the two masks of one call are of different kinds, as some here are.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched")


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def given_to_torch(x):
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


def agree(ours, theirs, arrays, dtype, **options):
    """Both functions on the same arrays and options: same values, same gradients."""
    xs = [cr.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*xs, **options), theirs(*ts, **{key: given_to_torch(value) for key, value in options.items()})
    pairs = list(zip(y, z, strict=True)) if isinstance(y, tuple) else [(y, z)]
    total, other = 0, 0
    for seed, (a, b) in enumerate(pairs, start=20):
        if a is None or b is None:
            assert a is b
            continue
        assert a.dtype == dtype
        np.testing.assert_allclose(a.data, b.detach().numpy(), **TOLERANCE[dtype])
        weights = floats(*a.shape, seed=seed, dtype=dtype)
        total, other = total + (a * weights).sum(), other + (b * torch.tensor(weights)).sum()
    total.backward()
    other.backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), **TOLERANCE[dtype])


def same_gradients(ours, theirs, dtype):
    for (path, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert path == other
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), **TOLERANCE[dtype], err_msg=path)


def masks(batch, heads, queries, keys, dtype):
    rng = np.random.default_rng(3)
    some = rng.random((batch * heads, queries, keys)) > 0.7
    some[..., 0] = False
    padding = rng.random((batch, keys)) > 0.6
    padding[:, 0] = False
    attention = [None, ~np.tri(queries, keys, dtype=bool), some, floats(queries, keys, seed=4, dtype=dtype)]
    return itertools.product(attention, [None, padding, floats(batch, keys, seed=5, dtype=dtype)])


@precisions
@pytest.mark.parametrize("shapes", [((3, 4), (5, 4), (5, 2)), ((2, 3, 3, 4), (2, 3, 5, 4), (2, 3, 5, 2))])
def test_scaled_dot_product_attention(shapes, dtype):
    arrays = [floats(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    mask = np.random.default_rng(0).random((3, 5)) > 0.5
    mask[1] = False  # a query that may attend to nothing
    for options in ({}, {"is_causal": True}, {"attn_mask": mask}, {"scale": 0.3},
                    {"attn_mask": floats(3, 5, seed=7, dtype=dtype)}):  # fmt: skip
        agree(F.scaled_dot_product_attention, TF.scaled_dot_product_attention, arrays, dtype, **options)


@precisions
@pytest.mark.parametrize("kdim", [None, 5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(batch_first, bias, kdim, dtype):
    settings = {"bias": bias, "kdim": kdim, "vdim": kdim, "batch_first": batch_first}
    theirs = torch.nn.MultiheadAttention(6, 2, **settings, dtype=TORCH[dtype])
    ours = nn.MultiheadAttention(6, 2, **settings, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    arrays = [floats(3, 4, 6, dtype=dtype), *(floats(3, 5, kdim or 6, seed=i, dtype=dtype) for i in (1, 2))]
    if not batch_first:
        arrays = [a.swapaxes(0, 1).copy() for a in arrays]
    for attn_mask, padding in masks(3, 2, 4, 5, dtype):
        ours.zero_grad(), theirs.zero_grad()
        average = padding is None
        options = {"attn_mask": attn_mask, "key_padding_mask": padding, "average_attn_weights": average}
        agree(ours, theirs, arrays, dtype, **options)
        same_gradients(ours, theirs, dtype)
    agree(ours, theirs, [a[0] if batch_first else a[:, 0] for a in arrays], dtype, need_weights=False)


@precisions
@pytest.mark.parametrize(
    "batch_first, norm_first, activation", [(True, True, "gelu"), (True, False, "relu"), (False, True, "relu")]
)
def test_a_stack_of_encoder_blocks_from_pytorchs_file(tmp_path, batch_first, norm_first, activation, dtype):
    def stack(n, dtype):
        settings = {"batch_first": batch_first, "norm_first": norm_first, "dtype": dtype}
        block = n.TransformerEncoderLayer(8, 2, 12, 0.0, activation, **settings)
        options = {"enable_nested_tensor": False} if n is torch.nn else {}
        return n.TransformerEncoder(block, 2, n.LayerNorm(8, dtype=dtype), **options)

    ours, theirs = stack(nn, dtype), stack(torch.nn, TORCH[dtype])
    save_file(theirs.state_dict(), tmp_path / "blocks.safetensors")
    ours.load_state_dict(nn.load(tmp_path / "blocks.safetensors"))
    x = floats(3, 4, 8, dtype=dtype) if batch_first else floats(4, 3, 8, dtype=dtype)
    for mask, padding in masks(3, 2, 4, 4, dtype):
        ours.zero_grad(), theirs.zero_grad()
        agree(ours, theirs, [x], dtype, mask=mask, src_key_padding_mask=padding)
        same_gradients(ours, theirs, dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@precisions
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_stack_of_decoder_blocks(norm_first, bias, dtype):
    def stack(n, dtype):
        block = n.TransformerDecoderLayer(8, 2, 12, 0.0, norm_first=norm_first, bias=bias, dtype=dtype)
        return n.TransformerDecoder(block, 2)

    ours, theirs = stack(nn, dtype), stack(torch.nn, TORCH[dtype])
    ours.load_state_dict(theirs.state_dict())
    arrays = [floats(4, 3, 8, dtype=dtype), floats(5, 3, 8, seed=1, dtype=dtype)]
    causal = ~np.tri(4, dtype=bool)
    for memory_mask, padding in masks(3, 2, 4, 5, dtype):
        ours.zero_grad(), theirs.zero_grad()
        options = {"memory_mask": memory_mask, "memory_key_padding_mask": padding}
        agree(ours, theirs, arrays, dtype, tgt_mask=causal, **options)
        same_gradients(ours, theirs, dtype)
    np.testing.assert_allclose(
        ours(*arrays, tgt_is_causal=True).data, ours(*arrays, tgt_mask=causal).data, rtol=1e-6, atol=1e-6
    )


@precisions
@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(padding_idx, dtype):
    ours = nn.Embedding(5, 3, padding_idx, dtype=dtype)
    theirs = torch.nn.Embedding(5, 3, padding_idx, dtype=TORCH[dtype])
    if padding_idx is not None:
        assert not ours.weight.data[padding_idx].any()
    ours.load_state_dict(theirs.state_dict())
    tokens = np.array([[0, 2, 4, 2], [4, 1, 4, 0]])
    weights = floats(2, 4, 3, dtype=dtype)
    y, z = ours(tokens), theirs(torch.tensor(tokens))
    np.testing.assert_array_equal(y.data, z.detach().numpy())
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    same_gradients(ours, theirs, dtype)
