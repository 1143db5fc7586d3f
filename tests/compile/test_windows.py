"""Windows in compiled code: read where they lie, and the same values and gradients as uncompiled.

Nothing in the compiler knows convolution or pooling; both come to it as views, products, sums and comparisons.
"""

import math
import re

import numpy as np
import pytest
from compile.twins import SetUp, assert_trains_alike
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.compile.kernels import Gemm, Loop

F = nn.functional
SMALL = st.integers(1, 3)
few = settings(max_examples=15)


def compiled_and_not(function, *arrays):
    """Check the value of a function and its cotangents against the uncompiled ones, in float64."""

    def with_cotangents(*arrays):
        value, pull = cr.vjp(function, *arrays)
        return value, *pull(np.cos(np.arange(value.size)).reshape(value.shape))

    expected = with_cotangents(*arrays)
    compiled = cr.compile(with_cotangents, strict=True)
    compiled(*arrays)
    for x, y in zip(expected, compiled(*arrays), strict=True):
        np.testing.assert_allclose(np.asarray(y), np.asarray(x), rtol=1e-9, atol=1e-10)
    return compiled


def drawn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@few
@given(SMALL, st.integers(1, 4), st.integers(0, 4), SMALL, st.sampled_from([1, 2]), st.sampled_from([1, 3, 16]),
       st.integers(5, 9), st.booleans())  # fmt: skip
def test_a_convolution_of_any_geometry_is_the_uncompiled_one(
    stride, kernel, padding, dilation, groups, batch, size, flat
):  # fmt: skip
    assume(dilation * (kernel - 1) < size + 2 * padding)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shape, spatial = ((size,), (kernel,)) if flat else ((size, size + 1), (kernel, 2))
    convolution = F.conv1d if flat else F.conv2d
    if not flat and dilation > 1:
        assume(dilation < size + 1 + 2 * padding)
    arrays = drawn(batch, 4, *shape), drawn(6, 4 // groups, *spatial), drawn(6)
    compiled_and_not(lambda x, weight, bias: convolution(x, weight, bias, **options), *arrays)


@few
@given(SMALL, st.integers(1, 4), st.integers(0, 2), SMALL, st.sampled_from([1, 2]), st.sampled_from([1, 3, 16]))
def test_a_transposed_convolution_of_any_geometry_is_the_uncompiled_one(
    stride, kernel, padding, dilation, groups, batch
):
    assume(dilation * (kernel - 1) + 1 + 3 * stride > 2 * padding)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["output_padding"] = max(stride, dilation) - 1
    arrays = drawn(batch, 4, 4, 5), drawn(4, 6 // groups, kernel, kernel), drawn(6)
    compiled_and_not(lambda x, weight, bias: F.conv_transpose2d(x, weight, bias, **options), *arrays)


@few
@given(st.sampled_from(["max", "avg"]), SMALL, st.integers(1, 4), st.integers(0, 2), SMALL, st.booleans(),
       st.sampled_from([1, 3, 16]), st.integers(7, 9))  # fmt: skip
def test_pooling_of_any_geometry_is_the_uncompiled_one(kind, stride, kernel, padding, dilation, ceil, batch, size):
    span = dilation * (kernel - 1) + 1 if kind == "max" else kernel
    assume(2 * padding <= span <= size + 2 * padding)
    x = np.round(drawn(batch, 3, size, 9))  # there are ties
    if kind == "max":
        compiled_and_not(lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil), x)
    else:
        compiled_and_not(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, batch > 1), x)


def test_the_winner_of_a_window_with_not_a_number_is_the_uncompiled_one():
    x = drawn(3, 2, 6, 6)
    x[0, 0, 1, 1] = x[1, 1, 2, :2] = np.nan
    compiled_and_not(lambda x: F.max_pool2d(x, 3, 2, 1), x)


def convolutional(size=8, channels=1, batch=16, bias=True):
    """A network of two convolutions, and pairs of images and classes."""

    def make():
        model = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=bias), nn.BatchNorm2d(8) if not bias else nn.Identity(), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * (size // 4) ** 2, 3),
        )  # fmt: skip
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return SetUp(step, model, optimizer)

    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, batch, channels, size, size)).astype("f4")
    return make, list(zip(images, rng.integers(0, 3, (4, batch)), strict=True))


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "batch norm"])
def test_a_convolutional_network_trains_alike_compiled(batch, bias):
    make, data = convolutional(batch=batch, bias=bias)
    assert_trains_alike(make, data)


def planned(size=8):
    """The plan of a training step."""
    make, data = convolutional(size)
    step = cr.compile(make().step, strict=True)
    for pair in data[:2]:
        step(*pair)
    return step.variants[0].plan


def test_no_matrix_of_windows_is_written():
    written = [value for value in planned().values.values() if value.op == "view"]
    assert not written


def test_bias_and_activation_are_applied_while_a_product_is_in_registers():
    products = [call.kernel for call in planned().program.calls if isinstance(call.kernel, Gemm)]
    assert sum(any(step.op == "maximum" for step in kernel.body) for kernel in products) == 2


def test_one_loop_writes_what_a_pooled_activation_gives_back():
    points = 16 * 6 * 8 * 8
    loops = [call.kernel for call in planned().program.calls if isinstance(call.kernel, Loop)]
    assert [math.prod(loop.outer) for loop in loops if not loop.inner].count(points) == 1


def test_the_listing_tells_where_the_windows_of_a_product_are():
    x, weight = drawn(16, 2, 4, 5), drawn(3, 2, 3, 2)
    convolution = cr.compile(lambda x, weight: F.conv2d(x, weight), strict=True)
    convolution(x, weight)
    text = convolution.show("fused")
    (place,) = re.findall(r"\* \w\.flat\[(.*?)\] for k in 12\)", text)
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(2 * 4 * 5 * 16).reshape(2, 4, 5, 16), (3, 2), (1, 2))
    matrix = windows.transpose(0, 4, 5, 1, 2, 3).reshape(12, 2 * 4 * 16)  # channels and places, windows and batch
    *_, column = re.search(r"for ([\w, ]+) in 3 x 128", text)[1].split(", ")
    for k, index in ((0, 0), (5, 77), (11, 127)):
        digits = place.replace("k", str(k)).replace(column, str(index))
        assert sum(value_of(term) for term in digits.split(" + ")) == matrix[k, index]


def value_of(term):
    """The number that a term such as `80*(7 // 6)` or `37 // 12 % 3` stands for."""
    factor, digit = re.fullmatch(r"(?:(\d+)\*)?\(?(.*?)\)?", term).groups()
    number, *steps = digit.split()
    value = int(number)
    for sign, by in zip(steps[::2], steps[1::2], strict=True):
        value = value // int(by) if sign == "//" else value % int(by)
    return int(factor or 1) * value


def test_the_program_is_as_long_for_large_images_as_for_small_ones():
    small, large = (
        [len(call.kernel.body) for call in planned(size).program.calls] for size in (48, 64)
    )  # fmt: skip
    assert len(large) == len(small)
    assert sum(large) <= sum(small)


@given(st.permutations(range(3)), st.sampled_from([None, 0, 1, 2, (0, 2)]))
def test_what_is_computed_above_a_permutation_is_as_below_it(axes, folded):
    def function(x, y, bias):
        product = (x @ y).transpose(axes)
        product = cr.numpy.maximum(product * 2 + bias, 0).astype(np.float32)
        return product.sum(folded), product

    arrays = drawn(2, 3, 4), drawn(2, 4, 5), drawn(*(1, 1, 1))
    arrays = [array.astype("f8") for array in arrays]
    compiled = cr.compile(lambda *arrays: function(*map(cr.tensor, arrays)), strict=True)
    compiled(*arrays)
    for found, expected in zip(compiled(*arrays), function(*map(cr.tensor, arrays)), strict=True):
        np.testing.assert_allclose(np.asarray(found.numpy()), expected.numpy(), rtol=1e-6)
