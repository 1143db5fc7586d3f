"""Machine code for single operations of eager code: NumPy's numbers, the same ones every time, and its errors."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core import native
from chainrule.core.native import Native
from chainrule.nn import functional as F
from chainrule.ops import attention, network, products, recurrent

MASK = np.tri(40, 40, dtype=bool)
CLASSES = np.random.default_rng(1).integers(0, 40, 120)
LENGTHS = (np.arange(6)[:, None] < np.array([6, 2, 4, 1] * 16)[None])[..., None]


def _layer(kind, **given):
    return lambda *inputs: recurrent.recurrent_layer(kind, *inputs, **given)


#: What is called, on arrays of which shapes, by the name of the operation.
CASES = {
    "linear": (products.linear_map, [(120, 40), (60, 40), (60,)]),
    "linear of sequences": (products.linear_map, [(8, 20, 40), (60, 40), (60,)]),
    "relu": (F.relu, [(90, 60)]),
    "leaky_relu": (F.leaky_relu, [(90, 60)]),
    "elu": (F.elu, [(90, 60)]),
    "gelu": (F.gelu, [(90, 60)]),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), [(90, 60)]),
    "silu": (F.silu, [(90, 60)]),
    "softplus": (F.softplus, [(90, 60)]),
    "softmax": (lambda x: F.softmax(x, -1), [(3, 40, 40)]),
    "log_softmax": (lambda x: F.log_softmax(x, 1), [(3, 40, 40)]),
    "cross_entropy": (lambda z: F.cross_entropy(z, CLASSES), [(120, 40)]),
    "batch_norm": (lambda *a: network.batch_norm(*a)[0], [(30, 8, 6, 6), (8,), (8,)]),
    "layer_norm": (network.layer_norm, [(9, 12, 40), (40,), (40,)]),
    "group_norm": (lambda *a: network.group_norm(*a, 2), [(30, 8, 6, 6), (8,), (8,)]),
    "rms_norm": (lambda *a: network.rms_norm(*a, 1e-6), [(9, 12, 40), (40,)]),
    "attention_weights": (lambda s: attention.attention_weights(s, MASK, scale=0.3), [(3, 40, 40)]),
    "convolution": (lambda *a: F.conv2d(*a, padding=1), [(6, 3, 16, 16), (4, 3, 3, 3), (4,)]),
    "convolution with strides": (lambda *a: F.conv2d(*a, stride=2, groups=2), [(6, 4, 16, 16), (4, 2, 3, 3)]),
    "transposed convolution": (lambda *a: F.conv_transpose2d(*a, stride=2), [(6, 4, 14, 14), (4, 3, 3, 3), (3,)]),
    "max_pool": (lambda x: F.max_pool2d(x, 2), [(6, 4, 16, 16)]),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), [(6, 4, 16, 16)]),
    "rnn": (_layer("rnn_tanh"), [(6, 64, 8), (1, 64, 8), (8, 8), (8,)]),
    "lstm": (_layer("lstm", reverse=True), [(6, 64, 32), (2, 64, 8), (32, 8)]),
    "lstm of several lengths": (_layer("lstm", bias=None, mask=LENGTHS), [(6, 64, 32), (2, 64, 8), (32, 8)]),
    "gru": (_layer("gru"), [(6, 64, 24), (1, 64, 8), (24, 8), (24,)]),
}


def drawn(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def value_and_gradients(function, arrays):
    inputs = [cr.tensor(array, requires_grad=True) for array in arrays]
    y = function(*inputs)
    y.backward(np.random.default_rng(7).standard_normal(y.shape).astype(y.dtype))
    return [y.data, *[x.grad.data for x in inputs]]


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled while the test ran: (function, whether there is a program)."""
    seen = []
    compiler = native.compilers[0]

    def watched(function, inputs, params):
        program = compiler(function, inputs, params)
        seen.append((function, program is not None))
        return program

    monkeypatch.setattr(native, "compilers", [watched])
    monkeypatch.setattr(native, "MOST_PROGRAMS", 10**6)  # whatever other tests have called before
    return seen


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_an_operation_on_large_arrays_and_its_gradients_are_those_of_numpy_to_rounding(name, dtype, compiled):
    function, shapes = CASES[name]
    arrays = drawn(shapes, dtype)
    ours = value_and_gradients(function, arrays)
    assert compiled
    assert all(found for _, found in compiled)
    with cr.no_native():
        numpys = value_and_gradients(function, arrays)
    for a, b in zip(ours, numpys, strict=True):
        assert a.dtype == b.dtype == dtype
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=scale * (2e-5 if dtype is np.float32 else 1e-12))


def test_what_ran_before_does_not_change_a_bit():
    function, shapes = CASES["gelu"]
    first = value_and_gradients(function, drawn(shapes, np.float32))
    value_and_gradients(function, drawn([(77, 61)], np.float32))
    again = value_and_gradients(function, drawn(shapes, np.float32))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_small_arrays_and_those_inside_no_native_are_left_to_numpy(compiled):
    value_and_gradients(F.gelu, drawn([(5, 6)], np.float32))
    with cr.no_native():
        value_and_gradients(F.gelu, drawn([(91, 61)], np.float32))
    assert not compiled


def test_a_function_that_is_called_with_ever_new_shapes_is_compiled_for_some_of_them_only(monkeypatch, compiled):
    monkeypatch.setattr(native, "MOST_PROGRAMS", 2)
    own = Native(lambda xp, x: xp.exp(x) + 1, backward=False)
    for n in range(70, 75):
        x = np.ones((n, n))
        np.testing.assert_allclose(own(native.fast_numpy, x), np.exp(1.0) + 1, rtol=1e-15)
    assert len(compiled) == 2


def test_code_that_looks_at_a_value_is_left_to_numpy(compiled):
    own = Native(lambda xp, x: x if x[0, 0] > 0 else -x, backward=False)
    x = -np.ones((80, 80))
    assert np.array_equal(own(native.fast_numpy, x), np.ones((80, 80)))
    assert compiled == [(own, False)]


def test_nan_and_infinity_come_out_as_from_numpy():
    x = drawn([(90, 60)], np.float32)[0]
    x[0, :4] = np.nan, np.inf, -np.inf, -0.0
    for function in (F.relu, F.gelu, F.softmax, F.silu):
        with np.errstate(all="ignore"):
            ours = value_and_gradients(lambda x, f=function: f(x, -1) if f is F.softmax else f(x), [x])
            with cr.no_native():
                numpys = value_and_gradients(lambda x, f=function: f(x, -1) if f is F.softmax else f(x), [x])
        for a, b in zip(ours, numpys, strict=True):
            assert np.array_equal(np.isnan(a), np.isnan(b))
            assert np.array_equal(np.isinf(a), np.isinf(b))


def test_arrays_in_another_order_in_memory_give_the_same():
    x, w, b = drawn([(120, 40), (60, 40), (60,)], np.float32)
    plain = value_and_gradients(products.linear_map, [x, w, b])
    turned = value_and_gradients(products.linear_map, [np.asfortranarray(x), np.asfortranarray(w), b])
    assert all(np.array_equal(a, c) for a, c in zip(plain, turned, strict=True))


def test_shapes_that_do_not_fit_are_refused_in_numpys_words():
    x, w, b = drawn([(120, 40), (60, 41), (60,)], np.float32)
    with pytest.raises(ValueError, match=r"linear: an input of shape \(120, 40\) does not fit a weight"):
        products.linear_map(cr.tensor(x), cr.tensor(w), cr.tensor(b))


def test_python_threads_that_run_one_program_do_not_disturb_each_other():
    arrays = [drawn([(90, 60)], np.float32, seed)[0] for seed in range(8)]
    alone = [F.gelu(x).data for x in arrays]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda x: [F.gelu(x).data for _ in range(50)], arrays))
    for a, row in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for b in row)


def test_a_copied_module_has_the_same_operations():
    layer = nn.TransformerEncoderLayer(64, 4, 128, activation=F.gelu, batch_first=True, dropout=0.0)
    x = drawn([(2, 40, 64)], np.float32)[0]
    expected = layer(x).data
    twin = copy.deepcopy(layer)
    assert network.relu is copy.deepcopy(network.relu)
    assert np.array_equal(twin(x).data, expected)


# Optimisers: written over in place, where nobody can see it ---------------------------------------------------------


def trained(make, shapes=((50, 60), (60,), (40, 50)), steps=5, watch=lambda parameters: None):
    parameters = [nn.Parameter(array) for array in drawn(shapes, np.float32)]
    optimizer = make(parameters)
    seen = []
    for step in range(steps):
        for parameter, g in zip(parameters, drawn(shapes, np.float32, seed=step), strict=True):
            parameter.grad = cr.tensor(g)
        seen.append(watch(parameters))
        optimizer.step()
    return [parameter.data for parameter in parameters], optimizer, seen


OPTIMISERS = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, 0.1, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, 0.1),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_moves_large_parameters_as_it_moves_small_ones(name, compiled):
    ours, _, _ = trained(OPTIMISERS[name])
    assert any(found for _, found in compiled)
    with cr.no_native():
        numpys, _, _ = trained(OPTIMISERS[name])
    for a, b in zip(ours, numpys, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_views_copies_of_the_state_and_graphs_keep_what_they_had_before_a_step():
    parameter = nn.Parameter(drawn([(60, 60)], np.float32)[0])
    optimizer = optim.SGD([parameter], 0.1, momentum=0.9)
    y = (parameter * parameter).sum()
    y.backward(retain_graph=True)
    before = parameter.data.copy()
    view = parameter.data
    optimizer.step()
    state = optimizer.state_dict()["state"][0]["momentum_buffer"]
    known = np.array(state)
    gradient = parameter.grad.data.copy()
    parameter.grad = None
    y.backward()  # the graph has the old value
    np.testing.assert_array_equal(parameter.grad.data, gradient)
    optimizer.step()
    np.testing.assert_array_equal(view, before)
    np.testing.assert_array_equal(state, known)


def test_a_parameter_that_nobody_else_holds_is_written_over():
    places = trained(OPTIMISERS["adam"], watch=lambda parameters: [id(p._value) for p in parameters])[2]
    assert all(row == places[1] for row in places[1:])


def test_parameters_at_different_steps_are_moved_by_their_own_numbers():
    def run():
        a, b = (nn.Parameter(array) for array in drawn([(50, 60), (50, 60)], np.float32))
        optimizer = optim.Adam([a, b], 0.1)
        for step in range(4):
            a.grad = cr.tensor(drawn([(50, 60)], np.float32, seed=step)[0])
            b.grad = cr.tensor(drawn([(50, 60)], np.float32, seed=step)[0]) if step > 1 else None
            optimizer.step()
        return a.data, b.data

    ours = run()
    with cr.no_native():
        numpys = run()
    for x, y in zip(ours, numpys, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
