"""Layers for images: convolution, pooling and normalisation, worked out in other ways, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

import chainrule as cr
from chainrule import nn

F = nn.functional


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_module(module, x, order=2):
    """Gradients of a float64 module by its parameters and its input."""
    parameters = {name: p.data for name, p in module.named_parameters()}
    cr.check_grads(lambda p, x: nn.functional_call(module, p, x), (parameters, x), order=order, max_elements=8)


# Convolution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, padding", [("valid", 0), ("valid", "valid"), ("same", "same"), ("full", (2, 1))])
def test_convolution_is_what_scipy_calls_correlation(mode, padding):
    x, w, b = floats(2, 3, 6, 5), floats(4, 3, 3, 2, seed=1), floats(4, seed=2)
    if mode == "same":
        w = w[..., :1].repeat(3, axis=-1)  # of odd lengths, where all agree on what "same" means
    expected = np.array(
        [[sum(map(lambda a, k: signal.correlate2d(a, k, mode), image, kernel)) for kernel in w] for image in x]
    )
    np.testing.assert_allclose(F.conv2d(x, w, b, padding=padding).data, expected + b[:, None, None], rtol=1e-12)


def test_same_padding_adds_the_odd_zero_at_the_end():
    assert F.conv1d(np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 1, 2)), padding="same").data.tolist() == [[[3, 5, 3]]]


def test_a_dilated_kernel_is_one_with_zeros_in_between():
    x, w = floats(2, 3, 9), floats(4, 3, 3, seed=1)
    spread = np.zeros((4, 3, 5))
    spread[..., ::2] = w
    np.testing.assert_allclose(F.conv1d(x, w, dilation=2).data, F.conv1d(x, spread).data, rtol=1e-12)


def test_groups_are_convolutions_side_by_side():
    x, w = floats(2, 4, 6, 6), floats(6, 2, 3, 3, seed=1)
    halves = [F.conv2d(x[:, 2 * i : 2 * i + 2], w[3 * i : 3 * i + 3]).data for i in range(2)]
    np.testing.assert_allclose(F.conv2d(x, w, groups=2).data, np.concatenate(halves, axis=1), rtol=1e-12)


@given(
    n=st.integers(1, 7), kernel=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 3),
    dilation=st.integers(1, 3), groups=st.sampled_from([1, 2]),
)  # fmt: skip
def test_transposed_convolution_is_the_transpose_of_convolution(n, kernel, stride, padding, dilation, groups):
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩, for the output_padding that brings the size of x back."""
    span = dilation * (kernel - 1) + 1
    if n + 2 * padding < span:
        return
    x, w = floats(2, 4, n), floats(6, 4 // groups, kernel, seed=1)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = F.conv1d(x, w, **options).data
    left_over = (n + 2 * padding - span) % stride
    back = F.conv_transpose1d(y, w, output_padding=left_over, **options).data
    assert back.shape == x.shape
    v = floats(*y.shape, seed=2)
    np.testing.assert_allclose(
        (y * v).sum(), (x * F.conv_transpose1d(v, w, output_padding=left_over, **options).data).sum()
    )


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2, dtype=np.float64), (2, 2, 5)),
        (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dtype=np.float64), (2, 2, 4, 3)),
        (lambda: nn.Conv2d(2, 3, 2, padding=1, padding_mode="circular", bias=False, dtype=np.float64), (2, 3, 3)),
        (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1, dtype=np.float64), (2, 2, 3)),
        (lambda: nn.ConvTranspose2d(4, 2, 2, stride=3, groups=2, dtype=np.float64), (2, 4, 2, 3)),
        (lambda: nn.BatchNorm2d(3, dtype=np.float64), (2, 3, 2, 2)),
        (lambda: nn.GroupNorm(2, 4, dtype=np.float64), (2, 4, 3)),
        (lambda: nn.RMSNorm((2, 3), dtype=np.float64), (2, 2, 3)),
        (lambda: nn.MaxPool2d(3, 2, 1), (2, 1, 4, 5)),
        (lambda: nn.AvgPool1d(2, ceil_mode=True), (2, 1, 5)),
        (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 1, 3, 4)),
    ],
)
def test_derivatives_to_second_order_by_parameters_and_input(make, shape):
    check_module(make(), 3 * floats(*shape))


def test_a_batch_of_one_and_an_image_without_a_batch_are_the_same():
    for layer, shape in ((nn.Conv2d(3, 2, 3), (3, 5, 5)), (nn.MaxPool2d(2), (3, 4, 4)), (nn.AvgPool1d(2), (3, 4)),
                         (nn.ConvTranspose1d(3, 2, 3), (3, 5)), (nn.AdaptiveAvgPool2d(2), (3, 5, 4))):  # fmt: skip
        x = floats(*shape, dtype=np.float32)
        np.testing.assert_array_equal(layer(x).data, layer(x[None]).data[0])


def test_an_empty_batch_passes():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.ConvTranspose2d(2, 3, 2), nn.AvgPool2d(2)
    )
    assert network(np.zeros((0, 1, 6, 6), np.float32)).shape == (0, 3, 2, 2)


def test_a_convolution_starts_within_one_over_the_root_of_what_a_kernel_reads():
    nn.random.manual_seed(0)
    for layer in (nn.Conv2d(8, 40, 5, groups=2), nn.ConvTranspose2d(40, 8, 5, groups=2)):
        bound = 1 / np.sqrt(4 * 25)
        assert 0.99 * bound < np.abs(layer.weight.data).max() <= bound
        assert np.abs(layer.bias.data).max() <= bound
        assert abs(layer.weight.data.std() - bound / np.sqrt(3)) < 0.01 * bound


def test_only_the_input_is_kept_of_a_convolution_not_its_windows():
    x, w = cr.tensor(floats(4, 2, 16, 16), requires_grad=True), cr.tensor(floats(3, 2, 5, 5), requires_grad=True)
    kept = {id(a): a.size for _, _, row in F.conv2d(x, w)._node.edges for a in row if isinstance(a, np.ndarray)}
    assert sum(kept.values()) == x.size + w.size


# Pooling ----------------------------------------------------------------------------------------------------


def test_the_winner_takes_the_gradient_and_the_first_of_equals_wins():
    x = cr.tensor([[[[1.0, 5.0, 2.0, 2.0], [4.0, 3.0, 2.0, 2.0]]]], requires_grad=True)
    y = F.max_pool2d(x, 2)
    (y * np.array([[[[3.0, 7.0]]]])).sum().backward()
    assert y.data.tolist() == [[[[5.0, 2.0]]]]
    assert x.grad.tolist() == [[[[0, 3, 7, 0], [0, 0, 0, 0]]]]


def test_the_winner_of_several_windows_gets_a_gradient_from_each():
    x = cr.tensor([[[0.0, 9.0, 1.0, 2.0]]], requires_grad=True)
    F.max_pool1d(x, 2, stride=1).sum().backward()
    assert x.grad.tolist() == [[[0, 2, 0, 1]]]


def test_a_nan_wins_wherever_it_is():
    for place in range(3):
        values = np.array([4.0, 5.0, 6.0])
        values[place] = np.nan
        x = cr.tensor(values[None, None], requires_grad=True)
        y = F.max_pool1d(x, 3)
        y.sum().backward()
        assert np.isnan(y.item())
        assert x.grad.data[0, 0].tolist() == [float(i == place) for i in range(3)]


def test_nothing_outside_of_the_input_wins():
    assert F.max_pool1d(np.full((1, 1, 3), -5.0), 2, padding=1).data.tolist() == [[[-5.0, -5.0]]]


def test_adaptive_pooling_to_one_element_is_the_mean():
    x = floats(2, 3, 5, 4)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1).data[..., 0, 0], x.mean(axis=(2, 3)), rtol=1e-12)


# Normalisation ----------------------------------------------------------------------------------------------


def test_group_norm_of_one_group_is_layer_norm_and_of_as_many_as_channels_normalises_each():
    x = floats(3, 4, 5, 2)
    np.testing.assert_allclose(F.group_norm(x, 1).data, F.layer_norm(x, (4, 5, 2)).data, rtol=1e-12)
    y = F.group_norm(x, 4, eps=0).data
    np.testing.assert_allclose(y.mean(axis=(2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(2, 3)), 1, rtol=1e-12)


def test_rms_norm_leaves_a_mean_square_of_one_and_the_sign():
    x = 7 * floats(3, 6)
    y = F.rms_norm(x, (6,)).data
    np.testing.assert_allclose((y**2).mean(axis=1), 1, rtol=1e-9)
    np.testing.assert_array_equal(np.sign(y), np.sign(x))


# What is refused --------------------------------------------------------------------------------------------

X = floats(2, 4, 5, 5)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: F.conv2d(X, floats(2, 4, 8, 3), padding=1),
            r"conv2d: the kernel is larger than the padded input: it spans \(8, 3\) .* the input \(7, 7\) \(size",
        ),
        (
            lambda: F.conv2d(X, floats(2, 4, 3, 3), dilation=3),
            r"it spans \(7, 7\) \(kernel \(3, 3\), dilation \(3, 3\)\)",
        ),
        (
            lambda: F.conv2d(X, floats(2, 3, 3, 3)),
            r"has 4 channels \(axis 1\); a weight of shape \(2, 3, 3, 3\) .* takes 3",
        ),
        (lambda: F.conv2d(X, floats(6, 1, 3, 3), groups=3), r"groups must divide .* 4 and 6; got 3"),
        (lambda: F.conv2d(X, floats(6, 4, 3, 3), groups=0), r"groups must divide .* got 0"),
        (lambda: F.conv2d(X, floats(2, 4, 3)), r"needs a weight of 4 axes, none empty, got shape \(2, 4, 3\)"),
        (
            lambda: F.conv2d(X[0, 0], floats(2, 4, 3, 3)),
            r"input of shape \(batch, channels, height, width\).*got \(5, 5\)",
        ),
        (lambda: F.conv2d(X, floats(2, 4, 3, 3), floats(3)), r"bias has shape \(3,\), it must be \(2,\)"),
        (lambda: F.conv2d(X, floats(2, 4, 3, 3), stride=2, padding="same"), r"padding='same' is for stride 1 only"),
        (lambda: F.conv2d(X, floats(2, 4, 3, 3), padding="full"), r"padding must be .* got 'full'"),
        (lambda: F.conv2d(X, floats(2, 4, 3, 3), padding=(1, 2, 3)), r"one integer or 2, .* got \(1, 2, 3\)"),
        (lambda: F.conv2d(X, floats(2, 4, 3, 3), stride=0), r"stride must be at least 1, got 0"),
        (lambda: F.conv_transpose2d(X, floats(3, 2, 3, 3)), r"has 4 channels .* takes 3"),
        (lambda: F.conv_transpose2d(X, floats(4, 2, 3, 3), output_padding=1), r"output_padding must be less than"),
        (lambda: F.conv_transpose2d(X, floats(4, 2, 1, 1), padding=3), r"nothing is left of the output: .* \(-1, -1\)"),
        (lambda: F.max_pool2d(X, 6), r"max_pool2d: the window is larger than the padded input: it spans \(6, 6\)"),
        (lambda: F.max_pool2d(X, 2, padding=2), r"padding must be at most half of the window, got \(2, 2\)"),
        (lambda: F.avg_pool1d(X, 2), r"avg_pool1d: needs an input of shape \(batch, channels, length\)"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=0), r"divisor_override must not be zero"),
        (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), r"cannot pool an input of size \(5, 5\) to the size \(1, 2, 3\)"),
        (lambda: F.group_norm(X, 3), r"group_norm: needs .* whose channels divide into 3 groups, got \(2, 4, 5, 5\)"),
        (lambda: F.group_norm(X, 2, floats(3)), r"group_norm: an input .* has 4 channels .* weight has shape \(3,\)"),
        (lambda: F.rms_norm(X, (4,)), r"rms_norm: an input of shape \(2, 4, 5, 5\) does not end in the shape \(4,\)"),
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            r"Conv2d: groups must divide in_channels and out_channels, 3 and 4; got 2",
        ),
        (lambda: nn.Conv2d(3, 4, 0), r"Conv2d: kernel_size must be at least 1, got 0"),
        (
            lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
            r"padding_mode must be one of zeros, reflect, .* got 'mirror'",
        ),
        (lambda: nn.Conv2d(3, 4, 3, padding="some"), r"padding must be .* got 'some'"),
        (
            lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"),
            r"ConvTranspose2d: padding must be a number .*; got 'same'",
        ),
        (
            lambda: nn.BatchNorm2d(4, dtype=np.float64)(X[0]),
            r"BatchNorm2d: needs .* \(batch, 4, height, width\), got \(4, 5, 5\)",
        ),
        (lambda: nn.GroupNorm(3, 4), r"GroupNorm: 4 channels do not divide into 3 groups"),
        (lambda: nn.GroupNorm(1, 3, dtype=np.float64)(X), r"GroupNorm: needs .* \(batch, 3, ...\), got \(2, 4, 5, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dtypes_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match="conv2d: input, weight and bias must have one dtype; got float64, float32"):
        F.conv2d(X, floats(2, 4, 3, 3, dtype=np.float32))
    with pytest.raises(TypeError, match="max_pool2d: needs floating point numbers, got int64"):
        F.max_pool2d(np.ones((1, 1, 4, 4), np.int64), 2)
    with pytest.raises(TypeError, match=r"Conv2d: the parameters are float32, the input is float64"):
        nn.Conv2d(4, 2, 3)(X)
    with pytest.raises(TypeError, match=r"Conv2d: stride must be an integer, or 2 of them, got 1\.5"):
        nn.Conv2d(4, 2, 3, stride=1.5)


def test_an_error_inside_a_network_says_where():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 2, 5)))
    with pytest.raises(ValueError, match="larger than the padded input") as caught:
        network(np.zeros((1, 1, 8, 8), np.float32))
    assert caught.value.__notes__ == ["in module 1.1 (Conv2d)"]


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "padding"), [(6, 2, 2, 0), (7, 2, 2, 0), (6, 2, 3, 0), (6, 2, 2, 1), (6, 3, 2, 0)]
)
def test_every_element_gets_the_gradient_of_the_windows_it_is_in_and_no_other(
    length, kernel, stride, padding, monkeypatch
):
    x = cr.tensor(np.zeros((2, 3, length, length)), requires_grad=True)

    y = F.avg_pool2d(x, kernel, stride, padding)
    with monkeypatch.context() as patch:  # what was never written must not be read
        patch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan if dtype is float else 7, dtype))
        (y.sum() * kernel**2).backward()

    starts = range(-padding, length + padding - kernel + 1, stride)
    along = np.array([sum(start <= i < start + kernel for start in starts) for i in range(length)])
    np.testing.assert_allclose(x.grad.data, np.broadcast_to(np.outer(along, along), x.shape))
