"""`checkpoint`: the same gradients to the last bit, for less memory; every composition; functions that change."""

import gc
import tracemalloc

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


def floats(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def block(width=8):
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.3))


def trained(checkpoint):
    """Everything that one backward pass through four blocks leaves behind."""
    nn.random.manual_seed(0)
    blocks = [block() for _ in range(4)]
    x = cr.tensor(floats(16, 8), requires_grad=True)
    h = x
    for part in blocks:
        h = checkpoint(part)(h)
    loss = (h * h).sum()
    loss.backward()
    state = [loss.detach(), x.grad, *(p.grad for b in blocks for p in b.parameters())]
    state += [buffer for b in blocks for buffer in b.buffers()]
    return [t.numpy() for t in state], nn.random.get_rng_state()


def wave(x):
    return np.tanh(x) * x + np.sin(x)


def checked_wave(x):
    return cr.checkpoint(wave)(x)


# The same to the last bit -------------------------------------------------------------------------------------------


def test_gradients_statistics_and_random_state_are_equal_to_the_last_bit_with_dropout_and_batch_norm():
    (plain, plain_rng), (checked, checked_rng) = trained(lambda f: f), trained(cr.checkpoint)
    assert len(plain) == len(checked) == 30
    for a, b in zip(plain, checked, strict=True):
        assert a.tobytes() == b.tobytes()
    assert plain_rng == checked_rng


def test_a_weight_that_is_shared_among_checkpoints_gets_its_contributions_in_the_same_order():
    def gradient(checkpoint):
        nn.random.manual_seed(0)
        cell = nn.Linear(8, 8)
        step = checkpoint(lambda h: cell(cell(h).tanh()).tanh())
        h = cr.tensor(floats(4, 8))
        for _ in range(5):
            h = step(h) + cell(h)
        (h * h).sum().backward()
        return cell.weight.grad.numpy()

    assert gradient(lambda f: f).tobytes() == gradient(cr.checkpoint).tobytes()


def test_values_too_small_to_be_normal_are_the_same_in_the_second_run():
    """Gradients are computed with subnormal numbers as zeros; the values they are of must not be."""

    def gradient(checkpoint):
        x = cr.tensor(np.full(4, 1e-20, np.float32), requires_grad=True)
        checkpoint(lambda x: (x * x) * np.float32(1e38) * x)(x).sum().backward()
        return x.grad.numpy()

    assert gradient(lambda f: f).tobytes() == gradient(cr.checkpoint).tobytes()
    assert gradient(cr.checkpoint).any()


# Compositions -------------------------------------------------------------------------------------------------------


def test_derivatives_of_derivatives_pass_through():
    f, g = checked_wave, wave
    for _ in range(3):
        f, g = cr.grad(f), cr.grad(g)
        assert f(0.3) == pytest.approx(g(0.3), rel=1e-14)


def test_hvp_and_hessian_pass_through():
    x, v = floats(4, dtype=np.float64), floats(4, seed=1, dtype=np.float64)
    plain, checked = (lambda x: wave(wave(x)).sum()), (lambda x: checked_wave(checked_wave(x)).sum())
    np.testing.assert_allclose(cr.hvp(checked, (x,), (v,)), cr.hvp(plain, (x,), (v,)), rtol=1e-12)
    np.testing.assert_allclose(cr.hessian(checked)(x), cr.hessian(plain)(x), rtol=1e-12)


def test_forward_mode_passes_through_and_reverse_mode_over_it():
    assert cr.jvp(checked_wave, (0.3,), (2.0,)) == cr.jvp(wave, (0.3,), (2.0,))
    tangent = lambda f: lambda x: cr.jvp(f, (x,), (2.0,))[1]
    assert cr.grad(tangent(checked_wave))(0.3) == pytest.approx(cr.grad(tangent(wave))(0.3), rel=1e-14)


def test_create_graph_goes_through_it_on_the_same_tape():
    def second(f):
        x = cr.tensor(floats(4, dtype=np.float64), requires_grad=True)
        f(x).sum().backward(create_graph=True)
        first, x.grad = x.grad, None
        (first * first).sum().backward()
        return x.grad.numpy()

    np.testing.assert_allclose(second(checked_wave), second(wave), rtol=1e-13)


def test_a_derivative_may_be_taken_inside():
    inside = lambda x: cr.grad(lambda y: wave(y) * y)(x) * x
    assert cr.grad(cr.checkpoint(inside))(0.3) == cr.grad(inside)(0.3)


def test_a_derivative_taken_inside_keeps_apart_what_is_differentiated_around_it():
    """The second run happens when the transform around the first one is over, and has the same levels all the same."""

    def mixed(checkpoint):
        p = cr.tensor(2.0, requires_grad=True)
        inside = checkpoint(lambda x: cr.grad(lambda z: np.sin(z * p) * x * z)(x * p))
        cr.grad(inside)(cr.tensor(0.3)).backward()
        return p.grad.item()

    assert mixed(cr.checkpoint) == pytest.approx(mixed(lambda f: f), rel=1e-13)


def test_numerical_differentiation_agrees_to_second_order():
    cr.check_grads(cr.checkpoint(lambda x, w: np.tanh(x @ w).sum(axis=0) ** 2), (floats(3, 2, dtype=np.float64),
                   floats(2, 4, dtype=np.float64)), order=2)  # fmt: skip


def test_checkpoints_inside_checkpoints_give_the_same_gradient():
    nested = cr.checkpoint(lambda x: checked_wave(cr.checkpoint(lambda y: checked_wave(y) * y)(x)))
    plain = lambda x: wave(wave(x) * x)
    assert cr.grad(nested)(0.7) == cr.grad(plain)(0.7)
    assert cr.grad(cr.grad(nested))(0.7) == pytest.approx(cr.grad(cr.grad(plain))(0.7), rel=1e-13)


def test_pytrees_go_in_and_come_out():
    def f(tree, *, scale):
        h = tree["x"] @ tree["w"][0]
        return {"y": (h * scale, [h.sum()]), "name": "kept", "n": 3, "none": None}

    def total(f, tree):
        out = f(tree, scale=tree["w"][1])
        assert (out["name"], out["n"], out["none"]) == ("kept", 3, None)
        return (out["y"][0] ** 2).sum() + out["y"][1][0]

    tree = {"x": floats(3, 2), "w": (floats(2, 2, seed=1), np.float32(0.5))}
    plain, checked = cr.grad(lambda t: total(f, t))(tree), cr.grad(lambda t: total(cr.checkpoint(f), t))(tree)
    assert plain["x"].tobytes() == checked["x"].tobytes()
    assert plain["w"][0].tobytes() == checked["w"][0].tobytes()
    assert plain["w"][1] == checked["w"][1]


def test_only_the_outputs_that_were_used_get_a_gradient():
    x = cr.tensor(floats(3), requires_grad=True)
    _, second, same = cr.checkpoint(lambda x: (np.tanh(x), x * x, x))(x)
    assert same is x
    second.sum().backward()
    assert x.grad.numpy().tolist() == (2 * x.detach().numpy()).tolist()


def test_it_can_be_walked_back_twice():
    x = cr.tensor(floats(3), requires_grad=True)
    y = checked_wave(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    assert (x.grad.numpy() == 2 * once).all()
    with pytest.raises(cr.GradientError, match="already walked and freed"):
        y.backward()


def test_a_detached_state_cuts_the_walk_as_it_does_without_checkpoints():
    def gradients(checkpoint):
        nn.random.manual_seed(0)
        cell, h, total = nn.Linear(4, 4), cr.tensor(floats(2, 4)), 0
        for t in range(9):
            h = checkpoint(lambda h: cell(h).tanh())(h.detach() if t % 3 == 0 else h)
            total = total + (h * h).sum()
            if t % 3 == 2:
                total.backward()
                total = 0
        return cell.weight.grad.numpy()

    assert gradients(lambda f: f).tobytes() == gradients(cr.checkpoint).tobytes()


def test_functional_call_differentiates_by_other_parameters_than_the_modules_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), checkpoint=1).double()
    x = floats(5, 3, dtype=np.float64)
    other = {name: floats(*p.shape, seed=3, dtype=np.float64) for name, p in model.named_parameters()}
    cr.check_grads(lambda p: nn.functional_call(model, p, x), (other,), order=2)


def test_hooks_run_once_and_may_change_the_gradient():
    x = cr.tensor(floats(3), requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append("x"))
    y = checked_wave(x)
    y.register_hook(lambda g: g * 2)
    y.sum().backward()
    expected = cr.tensor(floats(3), requires_grad=True)
    (wave(expected) * 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), expected.grad.numpy(), rtol=1e-6)
    assert seen == ["x"]


def test_an_anomaly_inside_is_found_where_it_is_made():
    with cr.detect_anomaly(), pytest.raises(cr.AnomalyError, match="log made a value"), np.errstate(all="ignore"):
        cr.checkpoint(lambda x: np.log(x))(cr.tensor([-1.0], requires_grad=True))


def test_a_compiled_step_with_checkpoints_trains_as_without_compiling():
    def losses(compiled):
        nn.random.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(8, 8), nn.Dropout(0.2), nn.Tanh()] * 3, checkpoint="sqrt")
        block = cr.checkpoint(nn.Linear(8, 8))
        optimizer = cr.optim.SGD([*model.parameters(), *block.function.parameters()], lr=0.1)

        def step(x):
            optimizer.zero_grad()
            loss = (block(model(x)) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = cr.compile(step, strict=True) if compiled else step
        return [step(floats(4, 8, seed=i)).item() for i in range(4)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


def test_an_explanation_shows_the_steps_inside():
    f = lambda x: wave(x)
    g = lambda x: cr.checkpoint(wave)(x)
    assert str(cr.explain(g, 0.3)) == str(cr.explain(f, 0.3))


# What it sees again -------------------------------------------------------------------------------------------------


def test_parameters_that_were_updated_between_the_passes_have_their_old_values_in_the_second_run():
    def gradient(checkpoint):
        layer = nn.Linear(2, 2)
        layer.weight.data, layer.bias.data = np.eye(2), np.zeros(2)
        y = checkpoint(lambda x: layer(layer(x)))(floats(3, 2)).sum()
        layer.weight.data = np.full((2, 2), 5.0)
        y.backward()
        assert (layer.weight.detach().numpy() == 5).all()
        return layer.weight.grad.numpy()

    assert gradient(lambda f: f).tobytes() == gradient(cr.checkpoint).tobytes()


def test_a_callers_array_cannot_change_between_the_passes():
    x, w = floats(3, 2), cr.tensor(floats(2, 2), requires_grad=True)
    y = cr.checkpoint(lambda x: np.tanh(x @ w))(x)
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    y.sum().backward()
    x[0] = 1


def test_backward_inside_no_grad_still_records_the_second_run():
    x = cr.tensor(0.5, requires_grad=True)
    y = checked_wave(x)
    with cr.no_grad():
        y.backward()
    assert x.grad.item() == cr.grad(wave)(0.5)


def test_nothing_is_recorded_where_nothing_requires_a_gradient():
    with cr.no_grad():
        assert not checked_wave(cr.tensor(1.0, requires_grad=True)).requires_grad
    assert not checked_wave(cr.tensor(1.0)).requires_grad
    assert checked_wave(1.0).item() == wave(1.0)


# Memory -------------------------------------------------------------------------------------------------------------


def kept_bytes(run):
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = run()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return after - before, peak - before


def test_the_inside_is_gone_after_the_first_run_without_the_garbage_collector():
    x = cr.tensor(floats(1000, 100), requires_grad=True)

    def many(x):
        for _ in range(10):
            x = np.tanh(x)
        return x

    gc.disable()
    try:
        plain, _ = kept_bytes(lambda: many(x))
        checked, _ = kept_bytes(lambda: cr.checkpoint(many)(x))
        left, _ = kept_bytes(lambda: cr.checkpoint(many)(x).sum().backward())
    finally:
        gc.enable()
    assert plain > 9.9 * 400_000
    assert checked < 1.1 * 400_000
    assert left < 1.1 * 400_000  # the gradient


def test_nested_halving_needs_memory_that_grows_with_the_logarithm_of_the_depth():
    x = cr.tensor(floats(250, 100), requires_grad=True)

    def layers(count):
        def run(x):
            return np.tanh(x) if count == 1 else layers(count - count // 2)(layers(count // 2)(x))

        return cr.checkpoint(run) if count > 1 else run

    def peak(count):
        x.grad = None
        return kept_bytes(lambda: layers(count)(x).sum().backward())[1] / 100_000

    shallow, deep = peak(16), peak(256)
    assert deep - shallow < 4 * 2.5  # a doubling costs about two activations; without checkpoints, 240 more
    assert deep < 30


# Functions that change ----------------------------------------------------------------------------------------------


class Changing(nn.Module):
    """Does something else each time."""

    def __init__(self, how):
        self.how, self.runs = how, 0

    def forward(self, x):
        return cr.checkpoint(self.run)(x)

    def run(self, x):
        self.runs += 1
        return self.how(x, self.runs)


@pytest.mark.parametrize(
    "how, message",
    [
        (lambda x, n: np.tanh(x) if n == 1 else np.sin(x), r"operation 1 was tanh of shape \(3,\) .* and is sin"),
        (lambda x, n: np.tanh(x[n:]) * 2, r"operation 1 was .* of shape \(2,\) .* and is .* of shape \(1,\)"),
        (lambda x, n: np.tanh(x) if n == 1 else np.tanh(np.tanh(x)), "operation 2 was not there"),
        (lambda x, n: np.tanh(np.tanh(x)) if n == 1 else np.tanh(x), "the second run ended before it"),
        (lambda x, n: np.tanh(x) * n, r"result 0 was an array of shape \(3,\) .* 0.76"),
        (lambda x, n: (np.tanh(x), n), "result 1 was 1 in the first run and is 2"),
        (lambda x, n: (np.tanh(x), 0)[: 3 - n], "it returned 2 values, and 1"),
    ],
)
def test_a_function_that_changes_between_the_runs_is_an_error_that_names_what_changed_and_where(how, message):
    model = nn.Sequential(nn.Identity(), Changing(how))
    y = model(cr.tensor([1.0, 2.0, 3.0], requires_grad=True))
    y = y[0] if isinstance(y, tuple) else y
    with pytest.raises(cr.GradientError, match=message) as caught:
        y.sum().backward()
    assert caught.value.__notes__ == ["in module 1 (Changing)"]


def test_a_module_switched_to_evaluation_between_the_passes_is_an_error():
    dropout = nn.Dropout(0.5)
    y = cr.checkpoint(dropout)(cr.tensor(floats(100), requires_grad=True)).sum()
    dropout.eval()
    with pytest.raises(cr.GradientError, match=r"Dropout did not do the same"):
        y.backward()


def test_a_function_that_reads_another_recorded_tensor_in_the_second_run_is_an_error():
    a, b = cr.tensor([1.0], requires_grad=True), cr.tensor([1.0], requires_grad=True)
    tensors = [a * 1, b * 1]
    y = cr.checkpoint(lambda x: x * tensors[0])(cr.tensor([2.0], requires_grad=True))
    tensors.reverse()
    with pytest.raises(cr.GradientError, match="made from other tensors"):
        y.backward(np.ones(1))


def test_a_tensor_from_inside_that_is_kept_outside_cannot_be_walked_back_from():
    kept = []

    def leaking(x):
        y = np.tanh(x)
        kept.append(y)
        return y * y

    x = cr.tensor([1.0, 2.0], requires_grad=True)
    cr.checkpoint(leaking)(x)
    with pytest.raises(cr.GradientError, match="kept outside"):
        kept[0].sum().backward()


def test_an_error_of_the_second_run_says_in_which_module():
    class Sometimes(nn.Module):
        fails = False

        def forward(self, x):
            if self.fails:
                raise RuntimeError("no")
            return np.tanh(x)

    inner = Sometimes()
    model = nn.Sequential(nn.Identity(), nn.Sequential(inner, nn.Tanh(), checkpoint=1))
    y = model(cr.tensor([1.0], requires_grad=True)).sum()
    inner.fails = True
    with pytest.raises(RuntimeError) as caught:
        y.backward()
    assert caught.value.__notes__ == ["in module 1.0 (Sometimes)"]


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="checkpoint: needs a function, got int"):
        cr.checkpoint(3)
