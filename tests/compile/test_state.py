"""What a compiled step reads and writes, changed from outside between its calls: every call sees what is there now."""

import gc
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
from compile.twins import SetUp, assert_same_state, assert_trains_alike, batches, state_of

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional as F


def network():
    return nn.Sequential(nn.Linear(4, 5, dtype=np.float64), nn.Tanh(), nn.Linear(5, 3, dtype=np.float64))


def step_of(model, optimizer):
    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def set_up_with(between, make_model=network, make_optimizer=lambda p: optim.SGD(p, lr=0.1, momentum=0.9)):
    """A training set-up; `between(number, model, optimizer)` is called before each step."""

    def make():
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        return SetUp(step_of(model, optimizer), model, optimizer, lambda number: between(number, model, optimizer))

    return make


def at(number, action):
    """Let `action(model, optimizer)` happen before step `number` alone."""
    return lambda now, model, optimizer: action(model, optimizer) if now == number else None


# Arrays --------------------------------------------------------------------------------------------------------------


def halve_in_place(model, optimizer):
    for parameter in model.parameters():
        parameter.data = parameter.data / 2


def load_other_parameters(model, optimizer):
    model.load_state_dict({name: np.cos(np.asarray(x)) for name, x in model.state_dict().items()})


def load_other_optimizer_state(model, optimizer):
    state = optimizer.state_dict()
    for kept in state["state"].values():
        kept["momentum_buffer"] = np.cos(kept["momentum_buffer"])
    optimizer.load_state_dict(state)


def set_gradients(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = cr.tensor(np.ones(parameter.shape))


def fortran_ordered(model, optimizer):
    model[0].weight.data = np.asfortranarray(model[0].weight.detach().numpy())


def view_of_another_array(model, optimizer):
    model[0].weight.data = np.arange(40.0).reshape(10, 4)[::2] / 40


@pytest.mark.parametrize(
    "action",
    [
        halve_in_place, load_other_parameters, load_other_optimizer_state, set_gradients, fortran_ordered,
        view_of_another_array,
    ],
)  # fmt: skip
def test_arrays_put_in_place_of_others_are_used(action):
    assert_trains_alike(set_up_with(at(3, action)), batches(count=6), variants=None)


def test_an_array_put_in_by_the_caller_is_not_written_to():
    model = network()
    step = cr.compile(step_of(model, optim.SGD(model.parameters(), lr=0.1)), strict=True)
    (x, y), *_ = batches(count=1)
    step(x, y)
    mine = np.arange(20.0).reshape(5, 4) / 20
    model[0].weight.data = mine
    kept = mine.copy()
    for _ in range(3):
        step(x, y)
    np.testing.assert_array_equal(mine, kept)
    assert (np.asarray(model[0].weight.detach()) != kept).any()


TAKEN = {
    "detach": lambda model, optimizer: model[0].weight.detach(),
    "numpy": lambda model, optimizer: model[0].weight.detach().numpy(),
    "data": lambda model, optimizer: model[0].weight.data,
    "state dict": lambda model, optimizer: model.state_dict()["0.weight"],
    "gradient": lambda model, optimizer: model[0].weight.grad,
    "array of the gradient": lambda model, optimizer: model[0].weight.grad.numpy(),
    "optimiser state": lambda model, optimizer: optimizer.state_dict()["state"][0]["momentum_buffer"],
    "view": lambda model, optimizer: model[0].weight.detach().numpy()[1:],
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_was_taken_out_before_a_step_stays_what_it_was(name):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = cr.compile(step_of(model, optimizer), strict=True)
    data = batches(count=6)
    taken = []
    for x, y in data:
        step(x, y)
        value = TAKEN[name](model, optimizer)
        taken.append((value, np.array(value)))
    for value, copy in taken:
        np.testing.assert_array_equal(value, copy)
    assert len({copy.tobytes() for _, copy in taken}) == len(taken)


def test_results_do_not_share_memory_with_later_results():
    step = cr.compile(lambda x: (x * 2, cr.numpy.sum(x), x), strict=True)
    results = [step(np.full(3, float(i))) for i in range(4)]
    for i, (doubled, total, same) in enumerate(results):
        np.testing.assert_array_equal(doubled, np.full(3, 2.0 * i))
        np.testing.assert_array_equal(total, 3.0 * i)
        np.testing.assert_array_equal(same, np.full(3, float(i)))


def test_constants_returned_do_not_share_memory_with_later_results():
    step = cr.compile(lambda x: (x, np.zeros(2), cr.numpy.ones(2)), strict=True)
    for _ in range(3):
        _, zeros, ones = step(np.ones(2))
        np.testing.assert_array_equal(zeros, [0, 0])
        np.testing.assert_array_equal(ones, [1, 1])
        zeros[0] = 5


def test_arrays_change_places_as_uncompiled():
    pair = [np.zeros(2), np.ones(2)]

    def function(x):
        pair[0], pair[1] = pair[1], pair[0]
        return x + pair[0]

    step = cr.compile(function, strict=True)
    assert [step(np.zeros(2))[0] for _ in range(5)] == [1, 0, 1, 0, 1]


def test_an_argument_may_be_the_array_of_a_parameter():
    eager, compiled = (nn.Parameter(np.arange(6.0).reshape(2, 3) / 6) for _ in range(2))

    def step_on(parameter):
        def step(x):
            with cr.no_grad():
                parameter.data = parameter.data * 0.5 + cr.numpy.flip(x, axis=1)
            return cr.numpy.sum(parameter.data * x)

        return step

    one, two = step_on(eager), cr.compile(step_on(compiled), strict=True)
    for _ in range(5):
        np.testing.assert_allclose(two(compiled.detach().numpy()), one(eager.detach().numpy()), rtol=1e-12)
    np.testing.assert_allclose(compiled.detach(), eager.detach(), rtol=1e-12)


def test_a_result_that_is_an_argument_does_not_share_its_memory():
    step = cr.compile(lambda x: x, strict=True)
    step(np.zeros(3))
    x = np.ones(3)
    y = step(x)
    x[:] = 5
    np.testing.assert_array_equal(y, np.ones(3))


def test_a_parameter_returned_does_not_share_its_memory():
    p = nn.Parameter(np.ones(3))

    @cr.compile(strict=True)
    def step():
        p.data = p.data * 2
        return p.data

    results = [step() for _ in range(4)]
    assert [float(np.asarray(r)[0]) for r in results] == [2, 4, 8, 16]


# Options and modules -------------------------------------------------------------------------------------------------


def set_lr(model, optimizer):
    optimizer.param_groups[0]["lr"] = 0.5


def set_momentum(model, optimizer):
    optimizer.param_groups[0]["momentum"] = 0.2


def no_momentum(model, optimizer):
    optimizer.param_groups[0]["momentum"] = 0.0


def add_weight_decay(model, optimizer):
    optimizer.param_groups[0]["weight_decay"] = 0.3


def freeze(model, optimizer):
    model[0].weight.requires_grad_(False)


def other_activation(model, optimizer):
    model[1] = nn.ReLU()


def other_layer(model, optimizer):
    model[2] = nn.Linear(5, 3, dtype=np.float64)


def group_added(model, optimizer):
    optimizer.add_param_group({"params": [cr.tensor(np.ones(2), requires_grad=True)]})


@pytest.mark.parametrize(
    ("action", "variants"),
    [
        (set_lr, 1), (set_momentum, 1), (no_momentum, 2), (add_weight_decay, 2), (freeze, 2), (other_activation, 2),
        (other_layer, 3), (group_added, 2),
    ],
)  # fmt: skip
def test_options_and_modules_changed_are_followed(action, variants):
    assert_trains_alike(set_up_with(at(3, action)), batches(count=6), variants)


def test_momentum_switched_on_is_followed():
    def momentum(model, optimizer):
        optimizer.param_groups[0]["momentum"] = 0.9

    make = set_up_with(at(3, momentum), make_optimizer=lambda p: optim.SGD(p, lr=0.1))
    assert_trains_alike(make, batches(count=6), 2)


def test_training_and_evaluation_are_programs_of_their_own():
    def make_model():
        return nn.Sequential(
            nn.Linear(4, 3, dtype=np.float64), nn.BatchNorm1d(3, dtype=np.float64), nn.Dropout(0.5)
        )  # fmt: skip

    def toggle(number, model, optimizer):
        model.train(number % 3 != 2)

    assert_trains_alike(set_up_with(toggle, make_model), batches(count=8), 2)


def test_a_module_may_change_an_option_it_reads():
    dropout = nn.Dropout(0.0)
    step = cr.compile(lambda x: dropout(x), strict=True)
    for p, expected in [(0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0)]:
        dropout.p = p
        np.testing.assert_array_equal(step(np.ones(3)), np.full(3, expected))


def test_a_new_parameter_in_an_attribute_is_used():
    model = network()
    forward = cr.compile(lambda x: model(x).detach(), strict=True)
    x = np.ones((2, 4))
    for _ in range(3):
        model[0].weight = nn.Parameter(np.random.default_rng(0).standard_normal((5, 4)))
        np.testing.assert_allclose(forward(x), model(x).detach(), rtol=1e-12)


@pytest.mark.parametrize("before", [False, True])
def test_hooks_are_called_or_left_out_as_uncompiled(before):
    weight = cr.tensor(np.ones(3), requires_grad=True)
    hook = weight.register_hook(lambda g: g * 2) if before else None

    @cr.compile(strict=True)
    def step(x):
        weight.grad = None
        cr.numpy.sum(weight * x).backward()
        return cr.numpy.sum(x)

    def gradient():
        for _ in range(3):
            step(np.ones(3))
        return float(weight.grad[0])

    assert gradient() == (2 if before else 1)
    hook = hook or weight.register_hook(lambda g: g * 2)
    assert gradient() == 2
    hook.remove()
    assert gradient() == 1


def test_a_forward_hook_added_later_is_called():
    model = network()
    forward = cr.compile(lambda x: cr.numpy.sum(model(x)).detach(), strict=True)
    x = np.ones((1, 4))
    before = [float(forward(x)) for _ in range(3)][-1]
    hook = model.register_forward_hook(lambda module, args, output: output * 2)
    np.testing.assert_allclose([float(forward(x)) for _ in range(3)], 2 * before)
    hook.remove()
    np.testing.assert_allclose([float(forward(x)) for _ in range(3)], before)


# Globals and closures ------------------------------------------------------------------------------------------------

SCALE = 2.0
TABLE = np.arange(3.0)
SETTINGS = {"power": 2, "table": np.arange(3.0)}


def uses_globals(x):
    return SCALE * x ** SETTINGS["power"] + TABLE + SETTINGS["table"]


def test_globals_are_read_at_every_call(monkeypatch):
    compiled = cr.compile(uses_globals, strict=True)
    x = np.array([1.0, 2.0, 3.0])

    def check():
        for _ in range(2):
            np.testing.assert_allclose(compiled(x), uses_globals(x), rtol=1e-14)

    check()
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    check()
    TABLE[1] += 10
    check()
    monkeypatch.setitem(globals(), "TABLE", np.ones(3))
    check()
    monkeypatch.setitem(SETTINGS, "table", np.full(3, 7.0))
    check()
    monkeypatch.setitem(SETTINGS, "power", 3)
    check()
    SETTINGS["table"][2] = 100
    check()


def test_containers_that_grow_or_shrink_are_followed():
    layers, factors = [np.sin], {}

    def function(x):
        for layer in layers:
            x = layer(x)
        for factor in factors.values():
            x = x * factor
        return cr.numpy.sum(x)

    compiled = cr.compile(function, strict=True)
    x = np.ones(3)

    def check():
        for _ in range(3):
            np.testing.assert_allclose(compiled(x), function(x), rtol=1e-12)

    check()
    layers.append(np.cos)
    check()
    factors["a"] = 3.0
    check()
    layers.pop()
    check()
    factors.clear()
    check()


def test_a_variable_of_the_enclosing_function_is_read_at_every_call():
    scale = 1.0
    offset = np.zeros(2)
    compiled = cr.compile(lambda x: x * scale + offset, strict=True)
    x = np.ones(2)
    np.testing.assert_array_equal(compiled(x), [1, 1])
    np.testing.assert_array_equal(compiled(x), [1, 1])
    scale = 2.0
    np.testing.assert_array_equal(compiled(x), [2, 2])
    offset = np.ones(2)
    np.testing.assert_array_equal(compiled(x), [3, 3])
    offset = np.ones((3, 2))
    np.testing.assert_array_equal(compiled(x), np.full((3, 2), 3))
    scale = True
    np.testing.assert_array_equal(compiled(x), np.full((3, 2), 2))


def test_a_global_of_another_dtype_or_shape_compiles_anew():
    box = {"x": np.ones(3)}
    compiled = cr.compile(lambda: box["x"] * 2, strict=True)
    for x in (np.ones(3), np.ones(3, np.float32), np.ones((2, 3)), np.arange(3), np.ones(3)):
        box["x"] = x
        for _ in range(2):
            y = compiled()
            np.testing.assert_array_equal(y, x * 2)
            assert y.dtype == (x * 2).dtype


def test_an_array_that_the_step_writes_to_is_carried_on():
    carried = {"total": cr.tensor(np.zeros(3))}

    @cr.compile(strict=True)
    def step(x):
        carried["total"] = carried["total"] * 0.5 + x
        return carried["total"].sum()

    expected = np.zeros(3)
    for i in range(5):
        x = np.full(3, float(i))
        expected = expected * 0.5 + x
        np.testing.assert_allclose(step(x), expected.sum(), rtol=1e-14)
        np.testing.assert_allclose(carried["total"], expected, rtol=1e-14)


# Arguments -----------------------------------------------------------------------------------------------------------


def affine(x, scale=2.0, *, offset=1.0):
    return x * scale + offset


def layouts():
    x = np.arange(12.0).reshape(3, 4)
    buffer = np.zeros(12 * 8 + 1, np.uint8)
    unaligned = buffer[1:].view(np.float64).reshape(3, 4)
    unaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "C order": x, "Fortran order": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1], "transposed": x.T.copy().T, "read-only": frozen,
        "unaligned": unaligned, "broadcast": np.broadcast_to(x[:1], (3, 4)), "big-endian": x.astype(">f8"),
    }  # fmt: skip


@pytest.mark.parametrize("first", ["C order", "Fortran order", "read-only", "broadcast"])
def test_arguments_of_any_layout_are_read_right(first):
    compiled = cr.compile(affine)
    found = layouts()
    compiled(found[first])
    for name, x in found.items():
        kept = x.copy()
        for _ in range(2):
            np.testing.assert_allclose(compiled(x), affine(x), rtol=1e-14, err_msg=name)
        np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("state", [{}, {"mean": None}], ids=["nothing", "None"])
def test_a_program_for_the_call_that_makes_a_state_is_not_run_where_there_is_one(state):
    first = dict(state)

    def step(x):
        known = state.get("mean")
        state["mean"] = x * 1.0 if known is None else 0.5 * (known + x)
        return (x - state["mean"]).sum()

    compiled = cr.compile(step, strict=True)
    found = [float(compiled(np.full(3, i))) for i in (1.0, 2.0, 4.0)]
    state.clear()
    state.update(first)
    assert found == [float(step(np.full(3, i))) for i in (1.0, 2.0, 4.0)]


ARGUMENTS = {
    "Python floats": 2.5, "integers": 3, "bools": True, "NumPy floats": np.float64(2.5),
    "NumPy float32": np.float32(2.5), "NumPy integers": np.int64(3), "0-d arrays": np.array(2.5),
    "tensors": cr.tensor([1.0, 2.0]), "0-d tensors": cr.tensor(2.5), "integer arrays": np.arange(3),
    "bool arrays": np.array([True, False]), "float32 arrays": np.ones(3, np.float32),
    "empty arrays": np.zeros((0, 3)), "int8 arrays": np.arange(3, dtype=np.int8),
    "uint32 arrays": np.arange(3, dtype=np.uint32),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_every_type_give_what_the_function_gives(name):
    x = ARGUMENTS[name]

    def function(x):
        return x * 3 + x, cr.numpy.sum(cr.numpy.asarray(x) * 1.5), {"it": x, "two": [x * 2]}

    compiled = cr.compile(function)
    expected = function(x)
    for _ in range(3):
        assert_same_tree(compiled(x), expected)


def assert_same_tree(found, expected):
    assert type(found) is type(expected) or np.shape(found) == np.shape(expected) == ()
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same_tree(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same_tree(a, b)
    elif expected is None or isinstance(expected, str):
        assert found == expected
    else:
        a, b = (np.asarray(x.detach() if isinstance(x, cr.Tensor) else x) for x in (found, expected))
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-12)


def test_other_python_values_compile_anew_but_floats_do_not():
    compiled = cr.compile(lambda x, n: x * n, strict=True)
    for n in (2.0, 3.0, 4.0):
        np.testing.assert_array_equal(compiled(np.ones(2), n), np.ones(2) * n)
    assert len(compiled.variants) == 1
    for n in (2, 3, 2):
        np.testing.assert_array_equal(compiled(np.ones(2), n), np.ones(2) * n)
    assert len(compiled.variants) == 3


def test_one_true_and_one_are_different_arguments():
    compiled = cr.compile(lambda x, flag: x + 1 if flag is True else x, strict=True)
    for flag, expected in [(True, 1.0), (1, 0.0), (True, 1.0), (1, 0.0)]:
        assert float(compiled(np.float64(0), flag)) == expected


def test_keywords_and_defaults_may_be_left_out_or_given():
    compiled = cr.compile(affine, strict=True)
    x = np.ones(3)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), affine(x))
        np.testing.assert_array_equal(compiled(x, 3.0), affine(x, 3.0))
        np.testing.assert_array_equal(compiled(x, offset=5.0), affine(x, offset=5.0))
        np.testing.assert_array_equal(compiled(x=x, offset=x), affine(x, offset=x))
        np.testing.assert_array_equal(compiled(offset=x, x=x), affine(x, offset=x))


def test_nested_containers_go_in_and_out():
    def function(tree, further=()):
        total = tree["a"] + tree["b"][0] * 2
        return {"total": total, "parts": [tree["b"], (total, None, "text")], "further": further}

    compiled = cr.compile(function, strict=True)
    for i in range(3):
        tree = {"b": [np.full(2, float(i)), (1.5, None)], "a": np.arange(2.0)}
        assert_same_tree(compiled(tree, further=(np.float64(i),)), function(tree, further=(np.float64(i),)))
    assert len(compiled.variants) == 1


def test_swapped_keys_and_renamed_keys_are_not_mixed_up():
    compiled = cr.compile(lambda tree: tree.get("a", 0.0) * 2 + tree.get("b", 0.0), strict=True)
    for tree in ({"a": 1.0, "b": 5.0}, {"b": 1.0, "a": 5.0}, {"a": 1.0}, {"b": 1.0}, {"a": 3.0}, {"b": 3.0}):
        assert compiled(tree) == tree.get("a", 0.0) * 2 + tree.get("b", 0.0)


def test_a_list_and_a_tuple_of_the_same_length_are_not_mixed_up():
    compiled = cr.compile(lambda xs: xs[0] + 1 if isinstance(xs, list) else xs[0] - 1, strict=True)
    for xs, expected in [([1.0], 2.0), ((1.0,), 0.0), ([5.0], 6.0), ((5.0,), 4.0)]:
        assert compiled(xs) == expected


def test_new_shapes_compile_anew_up_to_the_limit_which_is_told_once():
    calls = []
    compiled = cr.compile(lambda x: cr.numpy.sum(x * x), limit=3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for n in range(1, 8):
            calls.append(float(compiled(np.full(n, 2.0))))
    assert calls == [4.0 * n for n in range(1, 8)]
    assert len(compiled.variants) == 3
    assert [w.category for w in told] == [RuntimeWarning]
    assert told[0].filename == __file__


# Where it is called --------------------------------------------------------------------------------------------------


def test_a_decorated_method_belongs_to_each_instance():
    class Counter:
        def __init__(self, start):
            self.scale = start
            self.total = cr.tensor(np.zeros(2))

        @cr.compile(strict=True)
        def add(self, x):
            self.total = self.total + x * self.scale
            return self.total.sum()

    first, second = Counter(1.0), Counter(10.0)
    for _ in range(3):
        first.add(np.ones(2))
        second.add(np.ones(2))
    np.testing.assert_array_equal(first.total, [3, 3])
    np.testing.assert_array_equal(second.total, [30, 30])
    first.scale = 2.0
    first.add(np.ones(2))
    np.testing.assert_array_equal(first.total, [5, 5])


def test_a_compiled_function_inside_another_belongs_to_it():
    inner = cr.compile(lambda x: cr.numpy.tanh(x) * 2, strict=True)
    outer = cr.compile(lambda x: inner(x) + inner(x * x), strict=True)
    x = np.linspace(-1, 1, 5)
    for _ in range(3):
        np.testing.assert_allclose(outer(x), np.tanh(x) * 2 + np.tanh(x * x) * 2, rtol=1e-12)
    np.testing.assert_allclose(inner(x), np.tanh(x) * 2, rtol=1e-12)


def test_a_compiled_function_can_be_differentiated():
    compiled = cr.compile(lambda x: cr.numpy.sum(x**3), strict=True)
    x = np.linspace(-1, 1, 5)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x), np.sum(x**3), rtol=1e-12)
        np.testing.assert_allclose(cr.grad(compiled)(x), 3 * x**2, rtol=1e-12)
        t = cr.tensor(x, requires_grad=True)
        compiled(t).backward()
        np.testing.assert_allclose(t.grad, 3 * x**2, rtol=1e-12)
        np.testing.assert_allclose(cr.hessian(compiled)(x), np.diag(6 * x), rtol=1e-12)
        _, tangent = cr.jvp(compiled, (x,), (np.ones(5),))
        np.testing.assert_allclose(tangent, np.sum(3 * x**2), rtol=1e-12)


def test_a_compiled_forward_pass_with_parameters_can_be_differentiated():
    model = network()
    forward = cr.compile(lambda x: model(x))
    x = np.ones((2, 4))
    with cr.no_grad():
        forward(x), forward(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forward(x).sum().backward()
    grad = model[0].weight.grad.numpy().copy()
    model.zero_grad()
    model(x).sum().backward()
    np.testing.assert_allclose(grad, model[0].weight.grad, rtol=1e-12)


def test_recording_switched_off_and_on_are_programs_of_their_own():
    weight = cr.tensor(np.ones(3), requires_grad=True)

    @cr.compile
    def step(x):
        loss = cr.numpy.sum(weight * x)
        if cr.is_grad_enabled():
            loss.backward()
        return loss.detach()

    x = np.arange(3.0)
    with cr.no_grad():
        step(x), step(x)
    assert weight.grad is None
    step(x)
    np.testing.assert_array_equal(weight.grad, x)


@pytest.fixture
def threads_take_turns_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("threads_take_turns_often")
def test_threads_may_call_one_compiled_function_or_several():
    functions = [lambda x: cr.numpy.sum(cr.numpy.tanh(x) * x), lambda x: cr.numpy.sum(cr.numpy.exp(x))]
    compiled = [cr.compile(functions[0], strict=True), cr.compile(functions[1], strict=True, threads=2)]
    arguments = [np.linspace(0, 1 + seed, 50) for seed in range(4)]
    wrong = []

    def work(x):
        expected = [float(function(x)) for function in functions]
        for i in range(200):
            if abs(float(compiled[i % 2](x)) - expected[i % 2]) > 1e-9 * expected[i % 2]:
                wrong.append((len(x), i))

    threads = [threading.Thread(target=work, args=(x,)) for x in arguments]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


@pytest.mark.usefixtures("threads_take_turns_often")
def test_threads_may_share_one_training_step():
    model = nn.Linear(3, 1, dtype=np.float64)
    total = cr.tensor(np.zeros(3))
    box = {"total": total}

    @cr.compile(strict=True)
    def step(x):
        box["total"] = box["total"] + x
        return box["total"].sum() + 0 * model.weight.detach().sum()

    step(np.ones(3)), step(np.ones(3))
    threads = [threading.Thread(target=lambda: [step(np.ones(3)) for _ in range(50)]) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    np.testing.assert_array_equal(box["total"], np.full(3, 202.0))


def test_state_after_compiled_steps_goes_on_uncompiled():
    make = set_up_with(lambda *_: None, make_optimizer=lambda p: optim.Adam(p, lr=0.01))
    data = batches(count=8)
    nn.random.manual_seed(0)
    eager = make()
    nn.random.manual_seed(0)
    mixed = make()
    compiled = cr.compile(mixed.step, strict=True)
    for number, batch in enumerate(data):
        eager.step(*batch)
        (compiled if number % 3 else mixed.step)(*batch)
    assert_same_state(state_of(mixed), state_of(eager))


def test_an_object_with_a_compiled_method_is_freed():
    class Holder:
        @cr.compile
        def double(self, x):
            return x * 2

    holder = Holder()
    for _ in range(2):
        np.testing.assert_array_equal(holder.double(np.ones(3)), 2 * np.ones(3))
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_a_call_that_fails_its_checks_finds_no_gradient_where_there_was_none():
    model = nn.Linear(3, 4)
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])

    def accumulate(x, labels):
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        return loss

    def gradient(function, labels):
        model.zero_grad()
        function(x, labels)
        return np.array(model.weight.grad.data)

    compiled = cr.compile(accumulate, strict=True)
    for _ in range(3):
        gradient(compiled, labels)
    one_ignored = np.where(np.arange(6) == 0, -100, labels)  # no class: the program leaves this call to Python
    np.testing.assert_array_equal(gradient(compiled, one_ignored), gradient(accumulate, one_ignored))
    np.testing.assert_allclose(gradient(compiled, labels), gradient(accumulate, labels), rtol=1e-5)


def test_a_dropped_gradient_that_somebody_kept_is_not_written_over():
    model = nn.Linear(3, 4)
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])

    @cr.compile(strict=True)
    def accumulate(x):
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        return loss

    kept = []
    for factor in (1.0, 2.0, 3.0, 4.0):
        model.zero_grad()
        accumulate(np.float32(factor) * x)
        kept.append((model.weight.grad, np.array(model.weight.grad.data)))
    for gradient, was in kept:
        np.testing.assert_array_equal(gradient.data, was)
