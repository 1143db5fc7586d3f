"""Convolution, pooling and their modules against PyTorch's, over grids of their settings, in both precisions."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import chainrule as cr
from chainrule import nn

F, TF = nn.functional, torch.nn.functional
TOLERANCE = {np.float64: {"rtol": 1e-9, "atol": 1e-10}, np.float32: {"rtol": 1e-4, "atol": 1e-4}}
precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def agree(ours, theirs, arrays, dtype):
    """Both functions on the same arrays: same values, same gradients."""
    xs = [cr.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*xs), theirs(*ts)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.data, z.detach().numpy(), **TOLERANCE[dtype])
    weights = floats(*y.shape, seed=9, dtype=dtype)
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), **TOLERANCE[dtype])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@precisions
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    "stride, padding", [*((s, p) for s in (1, 2, 3) for p in (0, 1, 3)), (1, "same")]
)  # fmt: skip
@pytest.mark.parametrize("ndim", [1, 2])
def test_convolution(ndim, stride, padding, dilation, groups, dtype):
    for kernel in ((3,) * ndim, (4, 1)[:ndim], (1,) * ndim):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        arrays = [floats(3, 4, *(9, 7)[:ndim]), floats(8, 4 // groups, *kernel, seed=1), floats(8, seed=2)]
        arrays = [a.astype(dtype) for a in arrays]
        for given in (arrays, arrays[:2]):
            agree(
                lambda *a: getattr(F, f"conv{ndim}d")(*a, **options),  # noqa: B023
                lambda *a: getattr(TF, f"conv{ndim}d")(*a, **options),  # noqa: B023
                given,
                dtype,
            )


@precisions
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    "stride, dilation, output_padding",
    [(s, d, o) for s in (1, 2, 3) for d in (1, 2) for o in range(max(s, d))],
)
@pytest.mark.parametrize("ndim", [1, 2])
def test_transposed_convolution(ndim, stride, dilation, output_padding, padding, groups, dtype):
    options = {"stride": stride, "output_padding": output_padding, "padding": padding, "dilation": dilation}
    arrays = [floats(3, 4, *(5, 4)[:ndim]), floats(4, 6 // groups, *(3, 2)[:ndim], seed=1), floats(6, seed=2)]
    agree(
        lambda *a: getattr(F, f"conv_transpose{ndim}d")(*a, groups=groups, **options),
        lambda *a: getattr(TF, f"conv_transpose{ndim}d")(*a, groups=groups, **options),
        [a.astype(dtype) for a in arrays],
        dtype,
    )


@precisions
@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [None, 1, 2, 4])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("ndim", [1, 2])
def test_pooling(ndim, kernel, stride, padding, ceil_mode, dtype):
    x = [floats(3, 4, *(9, 8)[:ndim]).astype(dtype)]
    for dilation in (1, 2):
        agree(
            lambda a: getattr(F, f"max_pool{ndim}d")(a, kernel, stride, padding, dilation, ceil_mode),  # noqa: B023
            lambda a: getattr(TF, f"max_pool{ndim}d")(a, kernel, stride, padding, dilation, ceil_mode),  # noqa: B023
            x,
            dtype,
        )
    for count_include_pad in (True, False):
        agree(
            lambda a: getattr(F, f"avg_pool{ndim}d")(a, kernel, stride, padding, ceil_mode, count_include_pad),  # noqa: B023
            lambda a: getattr(TF, f"avg_pool{ndim}d")(a, kernel, stride, padding, ceil_mode, count_include_pad),  # noqa: B023
            x,
            dtype,
        )


@precisions
@pytest.mark.parametrize("size", [1, 2, 3, 7, (3, None), (None, 5), (9, 8)])
def test_adaptive_pooling(size, dtype):
    x = floats(2, 3, 9, 8).astype(dtype)
    agree(lambda a: F.adaptive_avg_pool2d(a, size), lambda a: TF.adaptive_avg_pool2d(a, size), [x], dtype)
    if isinstance(size, int):
        agree(lambda a: F.adaptive_avg_pool1d(a, size), lambda a: TF.adaptive_avg_pool1d(a, size), [x[0]], dtype)


def test_ties_and_nans_have_pytorchs_winner():
    x = np.array([[[2.0, 2.0, 1.0, 2.0, 0.0, 0.0, np.nan, 1.0, np.nan]]])
    for stride in (1, 2, 3):
        t, u = cr.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        F.max_pool1d(t, 3, stride).sum().backward()
        TF.max_pool1d(u, 3, stride).sum().backward()
        np.testing.assert_array_equal(np.isnan(F.max_pool1d(t, 3, stride).data), TF.max_pool1d(u, 3, stride).isnan())
        np.testing.assert_array_equal(t.grad.data[0, 0, :6], u.grad.numpy()[0, 0, :6])


def network(n):
    return n.Sequential(
        n.Conv2d(1, 4, 3, padding=1), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2),
        n.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), n.GroupNorm(3, 6), n.ReLU(), n.AdaptiveAvgPool2d(2),
        n.ConvTranspose2d(6, 3, 2, stride=2), n.Flatten(), n.Linear(48, 5),
    )  # fmt: skip


@precisions
def test_a_network_loaded_from_pytorchs_file_gives_its_values_and_gradients(tmp_path, dtype):
    theirs = network(torch.nn).to(torch.float64 if dtype is np.float64 else torch.float32)
    save_file(theirs.state_dict(), tmp_path / "network.safetensors")
    ours = network(nn).to(dtype)
    ours.load_state_dict(nn.load(tmp_path / "network.safetensors"))
    for training in (True, False):
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        agree(ours, theirs, [floats(5, 1, 12, 12).astype(dtype)], dtype)
        for (path, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            np.testing.assert_allclose(p.grad.data, q.grad.numpy(), **TOLERANCE[dtype], err_msg=path)
