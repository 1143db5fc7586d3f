"""What a compiled function must not do: one clear error with the place, and everything left as it was."""

import gc
import random
import re
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compile import TraceError, Unsupported
from chainrule.nn import functional as F

X = np.linspace(1, 2, 3)
KEPT = []
BOX = {"n": 0}


class Counter:
    def __init__(self):
        self.calls = 0


COUNTER = Counter()


def here(function):
    """File and line of the function's second line, as an error should name them."""
    code = function.__code__
    return f"{re.escape(code.co_filename)}:{code.co_firstlineno + 1}"


def branches(x):
    if cr.numpy.sum(x) > 0:
        return x
    return -x


def asserts(x):
    assert (x > 0).all()
    return x


def loops(x):
    while cr.numpy.sum(x) < 100:
        x = x * 2
    return x


def chooses(x):
    return x[0] and x[1]


def takes_a_float(x):
    return x * float(x[0])


def takes_an_int(x):
    return x * int(x[0])


def takes_an_item(x):
    return x * x[0].item()


def takes_a_list(x):
    return x * sum(x.tolist())


def takes_an_array(x):
    return np.asarray(x) * 2


def takes_a_numpy_array(x):
    return cr.numpy.asarray(x).numpy() * 2


def counts_by_value(x):
    return sum(x * i for i in range(x[0]))


def compares_in_a_list(x):
    return x * (x[0] in [1.0, 2.0])


def takes_the_largest(x):
    return max(x) * x


@pytest.mark.parametrize(
    "function",
    [
        branches, asserts, loops, chooses, takes_a_float, takes_an_int, takes_an_item, takes_a_list, takes_an_array,
        takes_a_numpy_array, counts_by_value, compares_in_a_list, takes_the_largest,
    ],
)  # fmt: skip
def test_reading_a_value_is_refused_with_the_line_and_the_way_out(function):
    with pytest.raises(TraceError, match=here(function)) as error:
        cr.compile(function)(X)
    assert "inside a compiled function" in str(error.value)
    assert "cr.numpy.where" in str(error.value)


def test_reading_a_value_inside_a_differentiated_function_is_refused():
    def function(x):
        return cr.numpy.sum(x) * float(cr.numpy.max(x))

    with pytest.raises((TraceError, cr.GradientError)):
        cr.compile(cr.grad(function))(X)


# Side effects --------------------------------------------------------------------------------------------------------


def prints(x):
    print("value")
    return x


def appends(x):
    KEPT.append(x)
    return x


def appends_a_number(x):
    KEPT.append(1)
    return x


def counts(x):
    COUNTER.calls += 1
    return x


def writes_an_entry(x):
    BOX["n"] += 1
    return x


def writes_a_new_entry(x):
    BOX["new"] = 1
    return x


def removes_an_entry(x):
    BOX.pop("n")
    return x


def writes_a_global(x):
    global SEEN
    SEEN = SEEN + 1
    return x


SEEN = 0


@pytest.fixture(autouse=True)
def clean():
    yield
    global SEEN
    KEPT.clear()
    BOX.clear()
    BOX["n"] = 0
    COUNTER.calls = SEEN = 0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (prints, "prints 'value'"), (appends_a_number, r"KEPT\[0\]"), (appends, r"KEPT\[0\]"),
        (counts, "COUNTER.calls"), (writes_an_entry, r"BOX\['n'\]"), (writes_a_new_entry, r"BOX\['new'\]"),
        (removes_an_entry, r"BOX\['n'\]"), (writes_a_global, "SEEN"),
    ],
)  # fmt: skip
def test_a_side_effect_is_refused_by_name(function, name, capsys):
    with pytest.raises(TraceError, match=name):
        cr.compile(function)(X)


def test_opening_a_file_is_refused_by_name(tmp_path):
    path = tmp_path / "log.txt"

    def function(x):
        with open(path, "w") as file:
            file.write("value")
        return x

    with pytest.raises(TraceError, match=r"log\.txt"):
        cr.compile(function)(X)


def test_a_counter_of_an_enclosing_function_is_refused_by_name():
    calls = 0

    def function(x):
        nonlocal calls
        calls += 1
        return x

    with pytest.raises(TraceError, match="calls"):
        cr.compile(function)(X)


def test_a_module_that_counts_its_calls_is_refused_by_name():
    class Model(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 3, dtype=np.float64)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.layer(x)

    model = Model()
    with pytest.raises(TraceError, match="calls"):
        cr.compile(lambda x: model(x).detach())(X)


def test_a_value_kept_outside_cannot_be_used_later():
    box = []

    def function(x):
        y = x * 2
        box.append(y)
        return y

    with pytest.raises(TraceError):
        cr.compile(function)(X)
    for kept in box:
        with pytest.raises(TraceError, match="outside"):
            kept + 1


def test_printing_works_again_after_a_refusal(capsys):
    with pytest.raises(TraceError):
        cr.compile(prints)(X)
    capsys.readouterr()
    print("after")
    assert capsys.readouterr().out == "after\n"


def adds_in_place(x):
    x += 1
    return x


def assigns(x):
    x[0] = 1
    return x


def writes_into_another_array(x):
    np.multiply(x, 2, out=KEPT[0])
    return x


def sums_into_another_array(x):
    np.sum(x, out=KEPT[0])
    return x


@pytest.mark.parametrize("function", [adds_in_place, assigns, writes_into_another_array, sums_into_another_array])
def test_writing_into_an_array_is_refused_with_the_line(function):
    KEPT.append(np.zeros(3) if function is not sums_into_another_array else np.zeros(()))
    x = X.copy()
    with pytest.raises(TraceError, match=here(function)):
        cr.compile(function)(x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(KEPT[0], np.zeros_like(KEPT[0]))


def test_moving_a_tensor_from_place_to_place_is_refused_by_name():
    pair = [cr.tensor(np.ones(2)), cr.tensor(np.zeros(2))]

    def function(x):
        pair[0], pair[1] = pair[1], pair[0]
        return x + pair[0]

    with pytest.raises(TraceError, match=r"pair\[0\]"):
        cr.compile(function)(np.zeros(2))


def test_changing_the_learning_rate_inside_is_refused():
    weight = cr.tensor(X, requires_grad=True)
    optimizer = optim.SGD([weight], lr=0.1)

    def step(x):
        cr.numpy.sum(weight * x).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    with pytest.raises(TraceError, match="learning rate"):
        cr.compile(step)(X)


@pytest.mark.parametrize("draw", [np.random.rand, np.random.default_rng(0).random, random.random])
def test_random_numbers_that_are_not_drawn_anew_are_refused(draw):
    with pytest.raises(TraceError, match="random numbers"):
        cr.compile(lambda x: x + draw())(X)


# What is left behind -------------------------------------------------------------------------------------------------


def training(fault):
    model = nn.Sequential(
        nn.Linear(3, 3, dtype=np.float64), nn.BatchNorm1d(3, dtype=np.float64), nn.Dropout(0.5)
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        fault(loss)
        return loss.detach()

    return step, model, optimizer


def read_loss(loss):
    return float(loss.detach())


def raise_error(loss):
    raise KeyError("own")


def sort_values(loss):
    return np.sort(np.ones(3) * loss.detach())


def snapshot(model, optimizer):
    """Objects and copies of everything a step may change."""
    parts = {}
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        parts[name] = p._value, np.array(p.detach())
        parts[f"{name}.grad"] = p.grad, None if p.grad is None else np.array(p.grad)
    for number, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            parts[f"{number} {name}"] = value, np.array(value)
    return parts


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize(
    ("fault", "error"), [(read_loss, TraceError), (raise_error, KeyError), (sort_values, Unsupported)]
)
def test_a_failed_recording_leaves_the_state_as_it_was(fault, error, steps_before):
    step, model, optimizer = training(fault)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 3))
    sound = step.__closure__[step.__code__.co_freevars.index("fault")]
    sound.cell_contents, wrong = (lambda loss: None), sound.cell_contents
    for _ in range(steps_before):
        step(x, y)
    sound.cell_contents = wrong
    before = snapshot(model, optimizer)
    draws = nn.random.get_rng_state()
    with pytest.raises(error):
        cr.compile(step, strict=True)(x, y)
    after = snapshot(model, optimizer)
    if steps_before:
        assert after.keys() == before.keys()
    for name, (held, content) in before.items():
        assert after[name][0] is held or not isinstance(held, np.ndarray), name
        np.testing.assert_array_equal(after[name][1], content, err_msg=name)
    assert nn.random.get_rng_state() == draws
    sound.cell_contents = lambda loss: None
    assert np.isfinite(float(step(x, y)))  # and it trains on


# Running uncompiled --------------------------------------------------------------------------------------------------


def assert_runs_uncompiled(function, *args, match=""):
    compiled = cr.compile(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        results = [compiled(*args) for _ in range(3)]
    assert [w.category for w in told] == [RuntimeWarning]
    assert re.search(match, str(told[0].message))
    assert told[0].filename == __file__
    with pytest.raises(Unsupported, match=match):
        cr.compile(function, strict=True)(*args)
    return results


def test_returning_a_recorded_tensor_runs_uncompiled_so_that_backward_works():
    weight = cr.tensor(X, requires_grad=True)
    for result in assert_runs_uncompiled(lambda x: cr.numpy.sum(weight * x), X, match="recorded tensor"):
        weight.grad = None
        result.backward()
        np.testing.assert_array_equal(weight.grad, X)


def test_a_tensor_recorded_outside_runs_uncompiled():
    weight = cr.tensor(X, requires_grad=True)
    doubled = weight * 2
    results = assert_runs_uncompiled(lambda x: (doubled * x).detach(), X, match="doubled")
    np.testing.assert_array_equal(results[0], X * X * 2)


@pytest.mark.parametrize("dtype", [np.complex128, np.float16, np.longdouble])
def test_dtypes_without_compiled_form_run_uncompiled(dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    x = X.astype(dtype)
    for result in assert_runs_uncompiled(lambda x: x * 2, x, match=str(np.dtype(dtype))):
        np.testing.assert_array_equal(result, x * 2)


def test_masks_that_are_computed_inside_run_uncompiled():
    for result in assert_runs_uncompiled(lambda x: x[x > 1.2], X, match="unknown shape"):
        np.testing.assert_array_equal(result, X[X > 1.2])


def test_masks_from_outside_run_uncompiled_and_the_places_they_mark_do_not():
    mask = X > 1.2
    for result in assert_runs_uncompiled(lambda x: x[mask], X, match=r"read at each call.*mask\.nonzero\(\)"):
        np.testing.assert_array_equal(result, X[mask])
    marked = mask.nonzero()
    compiled = cr.compile(lambda x: x[marked], strict=True)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(X), X[mask])


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_afterwards_as_it_was(enabled):
    during = []

    def fails(x):
        during.append(gc.isenabled())
        return bool(x.sum())

    try:
        gc.enable() if enabled else gc.disable()
        cr.compile(lambda x: x * 2)(X)
        assert gc.isenabled() is enabled
        with pytest.raises(TraceError):
            cr.compile(fails)(X)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert during == [False]


def test_modules_of_the_compiler_can_be_imported_under_a_name():
    import chainrule.compile.report as report

    assert report.__name__ == "chainrule.compile.report"
    assert callable(cr.compile)


def test_strict_refuses_at_every_call():
    compiled = cr.compile(lambda x: np.sort(x), strict=True)
    for _ in range(2):
        with pytest.raises(Unsupported, match="sort"):
            compiled(X)


def test_strict_refuses_more_shapes_than_the_limit():
    compiled = cr.compile(lambda x: x * 2, strict=True, limit=2)
    compiled(np.ones(1)), compiled(np.ones(2))
    with pytest.raises(Unsupported, match="limit"):
        compiled(np.ones(3))
    np.testing.assert_array_equal(compiled(np.ones(2)), [2, 2])


# Errors of the function itself ---------------------------------------------------------------------------------------


def test_an_error_of_the_function_comes_as_it_is():
    def function(x):
        raise KeyError("own")

    compiled = cr.compile(function)
    for _ in range(2):
        with pytest.raises(KeyError, match="own"):
            compiled(X)


def test_shapes_that_do_not_fit_give_the_usual_error():
    function = lambda a, b: cr.numpy.matmul(a, b)
    with pytest.raises(Exception) as usual:  # noqa: PT011
        function(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(usual.type) as found:
        cr.compile(function)(np.ones((2, 3)), np.ones((2, 3)))
    assert "matmul" in str(found.value)


@pytest.mark.parametrize("bad", [3, -4, 100])
def test_an_index_out_of_range_raises_at_every_call(bad):
    table = np.arange(6.0).reshape(3, 2)
    look_up = cr.compile(lambda table, i: F.embedding(i, table), strict=True)
    good = np.array([0, 2])
    for _ in range(2):
        np.testing.assert_array_equal(look_up(table, good), table[good])
    for _ in range(2):
        with pytest.raises(IndexError):
            look_up(table, np.array([0, bad]))
    np.testing.assert_array_equal(look_up(table, good), table[good])


@pytest.mark.parametrize("bad", [3, -5])
def test_a_label_out_of_range_raises_and_changes_nothing(bad):
    model = nn.Linear(3, 3, dtype=np.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @cr.compile(strict=True)
    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = np.ones((2, 3))
    for _ in range(2):
        step(x, np.array([0, 1]))
    before = snapshot(model, optimizer)
    with pytest.raises((IndexError, ValueError)):
        step(x, np.array([0, bad]))
    for name, (_, content) in before.items():
        if not name.endswith(".grad"):  # zero_grad() came first
            np.testing.assert_array_equal(snapshot(model, optimizer)[name][1], content)
    step(x, np.array([2, 1]))


def test_something_else_than_a_function_is_refused():
    with pytest.raises(TypeError):
        cr.compile(3)
