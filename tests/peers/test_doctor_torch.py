"""The doctor sees a PyTorch network as it sees chainrule's own with the same weights, and leaves it as it was."""

import contextlib
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn as tnn

import chainrule as cr
from chainrule import nn
from chainrule.doctor import DoctorError, DoctorWarning
from chainrule.doctor.examination import examine
from chainrule.doctor.subjects import subject_of

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 6)).astype(np.float32), RNG.integers(0, 3, 32)
BATCH = torch.tensor(X), torch.tensor(Y)
CROSS_ENTROPY = tnn.functional.cross_entropy


def twins(*kinds):
    """The same network twice: parts are written `lambda nn: nn.Linear(6, 8)`."""
    theirs = tnn.Sequential(*[kind(tnn) for kind in kinds])
    own = nn.Sequential(*[kind(nn) for kind in kinds])
    state = {name: value.numpy() for name, value in theirs.state_dict().items() if "num_batches" not in name}
    own.load_state_dict(state, strict=False)
    return own, theirs


def linear(a, b):
    return lambda nn: nn.Linear(a, b)


def made(name, *given):
    return lambda nn: getattr(nn, name)(*given)


NETWORKS = {
    "sigmoid": (linear(6, 16), made("Sigmoid"), linear(16, 16), made("Tanh"), linear(16, 3)),
    "relu": (linear(6, 16), made("ReLU"), made("BatchNorm1d", 16), linear(16, 16), made("GELU"), linear(16, 3)),
    "others": (linear(6, 16), made("SiLU"), made("LayerNorm", 16), linear(16, 8), made("LeakyReLU"), linear(8, 8),
               made("ELU"), linear(8, 3), made("Softmax", -1)),
}  # fmt: skip


def close(one, other, where=""):
    if isinstance(one, float):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-7, nan_ok=True), where
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            close(*pair, f"{where}[{place}]")
    elif isinstance(one, dict):
        for name in one:
            if name != "histogram":
                close(one[name], other[name], f"{where}.{name}")
    else:
        assert one == other, where


@pytest.mark.parametrize("name", NETWORKS)
def test_every_measurement_equals_that_of_the_same_network_in_chainrule(name):
    own, theirs = twins(*NETWORKS[name])
    a = examine(subject_of(own, nn.functional.cross_entropy, (X, Y), optimizer=cr.optim.SGD(own.parameters(), lr=0.1)))
    b = examine(subject_of(theirs, CROSS_ENTROPY, BATCH, optimizer=torch.optim.SGD(theirs.parameters(), lr=0.1)))
    for part in ("layers", "activations", "normalizations", "parameters", "loss", "inputs"):
        one, other = getattr(a, part), getattr(b, part)
        as_plain = lambda value: (
            [dataclasses.asdict(x) for x in value] if isinstance(value, tuple) else dataclasses.asdict(value)
        )
        left, right = as_plain(one), as_plain(other)
        for plain in (*(left if isinstance(left, list) else [left]), *(right if isinstance(right, list) else [right])):
            plain.pop("gradient", None)  # a histogram
        close(left, right, part)


class Cut(tnn.Module):
    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.spare, self.how = tnn.Linear(6, 8), tnn.Linear(8, 3), tnn.Linear(2, 2), how
        if how != "unused":
            del self.spare

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.b(self.a(x))
        h = torch.tanh(self.a(x))
        return self.b(h.detach() if self.how == "detach" else h)


@pytest.mark.parametrize(
    "how, code, layer", [("detach", "detached-graph", "a"), ("unused", "unused-parameter", "spare")]
)
def test_cut_paths_and_unused_parameters_are_found(how, code, layer):
    findings = cr.diagnose(Cut(how), CROSS_ENTROPY, BATCH).findings
    assert (findings[0].code, findings[0].layer) == (code, layer)


def test_a_loss_under_no_grad_depends_on_nothing():
    first = cr.diagnose(Cut("no_grad"), CROSS_ENTROPY, BATCH).findings[0]
    assert (first.code, first.evidence["recorded"]) == ("detached-graph", False)


@pytest.mark.parametrize(
    "masked", [lambda s: s.masked_fill(torch.ones_like(s).triu().bool(), -math.inf),
               lambda s: s + torch.full((3, 3), -math.inf).triu()]
)  # fmt: skip
def test_a_mask_that_leaves_a_row_nothing_breaks_in_the_softmax_not_where_it_is_put_on(masked):
    class Attention(tnn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = tnn.Linear(2, 4), tnn.Linear(4, 3)

        def forward(self, x):
            x = self.embed(x.reshape(-1, 3, 2))
            return self.out((masked(x @ x.mT).softmax(-1) @ x).mean(1))

    finding = cr.diagnose(Attention(), CROSS_ENTROPY, BATCH).findings[0]
    assert (finding.code, finding.evidence["operation"]) == ("non-finite", "softmax")


def test_activations_in_place_are_measured_before_they_overwrite():
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(inplace=True), tnn.Linear(16, 3))
    layer = examine(subject_of(model, CROSS_ENTROPY, BATCH)).layers[0]
    assert layer.output.smallest < 0 <= layer.activation.output.smallest
    assert 0 < layer.activation.gain < 1


def overwritten(values):
    values.data = torch.ones_like(values)
    return values


OVERWRITING = {
    "relu, inplace=True": lambda x: tnn.functional.relu(x, inplace=True),
    "relu_": torch.relu_,
    "*=": lambda x: x.__imul__(0),
    "add_": lambda x: x.add_(100),
    "x[:] =": lambda x: (x.__setitem__(slice(None), 1.0), x)[1],
    "out=": lambda x: (torch.ones(x.shape, out=x.detach()), x)[1],
    "x.data =": overwritten,
}


@pytest.mark.parametrize("overwrite", OVERWRITING.values(), ids=OVERWRITING)
def test_a_monitor_looks_at_values_before_they_are_overwritten(overwrite):
    class Overwriting(tnn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = tnn.Linear(6, 16), tnn.Linear(16, 3)

        def forward(self, x):
            return self.last(overwrite(self.hidden(x)))

    torch.manual_seed(0)
    model = Overwriting()
    with cr.monitor(model, every=1, warn=False) as monitor:
        CROSS_ENTROPY(model(BATCH[0]), BATCH[1]).backward()
    made = torch.nn.functional.linear(BATCH[0], model.hidden.weight, model.hidden.bias)
    seen = monitor.examination.layers[0].output
    assert (seen.smallest, seen.largest) == pytest.approx((made.min().item(), made.max().item()))


def state_of(model, optimizer):
    return (
        [value.clone() for value in model.state_dict().values()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [{k: v.clone() for k, v in kept.items()} for kept in optimizer.state.values()],
        torch.get_rng_state(),
        [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()],
    )


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("thorough", [False, True])
def test_a_diagnosis_changes_nothing(thorough):
    model = tnn.Sequential(tnn.Linear(6, 8), tnn.BatchNorm1d(8), tnn.ReLU(), tnn.Dropout(0.5), tnn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters())
    CROSS_ENTROPY(model(BATCH[0]), BATCH[1]).backward()
    optimizer.step()
    before = state_of(model, optimizer)
    cr.diagnose(model, CROSS_ENTROPY, BATCH, optimizer=optimizer, data=BATCH, thorough=thorough)
    assert same(state_of(model, optimizer), before)


def trained(watch, steps=100):
    torch.manual_seed(0)
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.BatchNorm1d(16), tnn.ReLU(), tnn.Dropout(0.3), tnn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters())

    def step():
        optimizer.zero_grad()
        CROSS_ENTROPY(model(BATCH[0]), BATCH[1]).backward()
        optimizer.step()

    if not watch:
        for _ in range(steps):
            step()
        return model, optimizer, None
    with cr.monitor(model, optimizer=optimizer, every=7) as monitor:
        for _ in range(steps):
            step()
    return model, optimizer, monitor


def test_weights_after_100_steps_are_equal_bit_for_bit_with_and_without_a_monitor():
    alone = state_of(*trained(False)[:2])
    model, optimizer, monitor = trained(True)
    assert same(state_of(model, optimizer), alone)
    assert [sample.step for sample in monitor.history] == list(range(0, 100, 7))
    assert all(layer.error_signal > 0 and layer.update_ratio > 0 for layer in monitor.history[-1].layers)
    assert len(monitor.losses) == 100


def test_no_hook_is_left_when_a_watched_loop_fails():
    model = tnn.Sequential(tnn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    backward = torch.Tensor.backward
    with pytest.raises(RuntimeError, match="shapes"), cr.monitor(model, optimizer=optimizer, every=1):
        CROSS_ENTROPY(model(BATCH[0][:, :5]), BATCH[1])
    assert torch.Tensor.backward is backward
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not tnn.modules.module._has_any_global_hook()
    assert torch.overrides._get_current_function_mode() is None


def test_a_monitor_warns_when_something_turns_bad():
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3))
    torch.nn.init.constant_(model[0].bias, -50)

    def watched():
        with cr.monitor(model, every=1):
            CROSS_ENTROPY(model(BATCH[0]), BATCH[1]).backward()

    with pytest.warns(DoctorWarning, match="step 0: dying-relu in 0"):
        watched()


def test_hooks_and_shared_parameters_that_were_there_stay_and_count_once():
    shared = tnn.Linear(6, 6)
    model = tnn.Sequential(shared, tnn.Tanh(), shared, tnn.Linear(6, 3))
    calls = []
    shared.register_forward_hook(lambda *_: calls.append(1))
    report = cr.diagnose(model, CROSS_ENTROPY, BATCH)
    assert [layer.path for layer in report.examination.layers] == ["0", "3"]
    assert len(report.examination.parameters) == 4
    assert calls
    assert len(shared._forward_hooks) == 1


def test_half_precision_is_measured():
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3)).to(torch.bfloat16)
    report = cr.diagnose(model, CROSS_ENTROPY, (BATCH[0].to(torch.bfloat16), BATCH[1]))
    assert report.healthy
    assert all(math.isfinite(layer.error_signal) and layer.error_signal > 0 for layer in report.examination.layers)


COMPILED = {
    "whole": lambda model, backend: torch.compile(model, backend=backend),
    "in place": lambda model, backend: (model.compile(backend=backend), model)[1],
    "a part": lambda model, backend: tnn.Sequential(torch.compile(model[0], backend=backend), *model[1:]),
}


def counting():
    """A backend that runs graphs as they are, and the graphs it was given."""
    graphs = []
    return (lambda graph, _: graphs.append(graph) or graph.forward), graphs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiled", COMPILED.values(), ids=COMPILED)
def test_compiled_modules_are_looked_at_as_they_were_written(compiled):
    backend, graphs = counting()
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3))
    assert len(cr.diagnose(compiled(model, backend), CROSS_ENTROPY, BATCH).examination.layers) == 2
    assert not graphs


def trained_compiled(compiled, watch):
    """The state after 20 steps of a compiled network, how many graphs were compiled, and the monitor, if any."""
    torch.manual_seed(0)
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.BatchNorm1d(16), tnn.GELU(), tnn.Dropout(0.3), tnn.Linear(16, 3))
    backend, graphs = counting()
    fast = compiled(model, backend)
    optimizer = torch.optim.Adam(fast.parameters())
    watching = {"optimizer": optimizer, "every": 4, "overhead": math.inf, "warn": False}
    with cr.monitor(fast, **watching) if watch else contextlib.nullcontext() as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            CROSS_ENTROPY(fast(BATCH[0]), BATCH[1]).backward()
            optimizer.step()
    return state_of(model, optimizer), len(graphs), monitor


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiled", [COMPILED["whole"], COMPILED["a part"]], ids=["whole", "a part"])
def test_a_compiled_network_is_watched_by_one_that_runs_beside_it(compiled):
    alone, graphs, _ = trained_compiled(compiled, watch=False)
    state, graphs_watched, monitor = trained_compiled(compiled, watch=True)
    assert same(state, alone)
    assert graphs_watched == graphs == 1
    assert [sample.step for sample in monitor.history] == [0, 4, 8, 12, 16]
    assert monitor.examination.loss.follows == ("linear", "gelu", "batch_norm")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_seen_of_a_compiled_network_is_what_is_seen_of_the_network():
    seen = []
    for compiled in (COMPILED["whole"], lambda model, _: model):
        torch.manual_seed(0)
        model = tnn.Sequential(tnn.Linear(6, 16), tnn.BatchNorm1d(16), tnn.Tanh(), tnn.Linear(16, 3))
        network = compiled(model, counting()[0])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with cr.monitor(network, optimizer=optimizer, every=1) as monitor:
            CROSS_ENTROPY(network(BATCH[0]), BATCH[1]).backward()
            optimizer.step()
        seen.append([dataclasses.asdict(part) for part in (*monitor.examination.layers, monitor.examination.loss)])
    close(*seen)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_the_first_rehearsals_of_a_compiled_network_take_no_more_than_their_share_of_the_time():
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3))
    fast = torch.compile(model, backend=counting()[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cr.monitor(fast, optimizer=optimizer, every=1, overhead=0.0) as monitor:
        for _ in range(5):
            CROSS_ENTROPY(fast(BATCH[0]), BATCH[1]).backward()
            optimizer.step()
    assert (monitor.step, len(monitor.history), len(monitor.losses)) == (5, 1, 5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_may_be_called_twice_in_a_step_and_its_losses_go_back_one_by_one():
    torch.manual_seed(0)
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3))
    fast = torch.compile(model, backend=counting()[0])
    gradients = []
    for watch in (False, True):
        model.zero_grad()
        with cr.monitor(fast, every=1, warn=False) if watch else contextlib.nullcontext() as monitor:
            one, two = fast(BATCH[0]), fast(2 * BATCH[0])
            CROSS_ENTROPY(one, BATCH[1]).backward(retain_graph=True)
            CROSS_ENTROPY(one + two, BATCH[1]).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert same(*gradients)
    assert len(monitor.history[0].layers) == 2


def test_a_network_compiled_in_place_is_not_watched_and_the_error_says_what_to_do():
    model = COMPILED["in place"](tnn.Sequential(tnn.Linear(6, 3)), counting()[0])
    with pytest.raises(DoctorError, match=r"compiled in place.*monitor what torch\.compile\(model\) gives"):
        cr.monitor(model).__enter__()
    assert not model._forward_pre_hooks


def test_modules_beside_the_network_are_not_taken_for_parts_of_it():
    model = tnn.Sequential(tnn.Linear(6, 16), tnn.ReLU(), tnn.Linear(16, 3))
    beside = tnn.LSTM(6, 5)
    hook = model[1].register_forward_hook(lambda *_: (beside(BATCH[0]), None)[1])
    with cr.monitor(model, every=1) as monitor:
        CROSS_ENTROPY(model(BATCH[0]), BATCH[1]).backward()
    hook.remove()
    assert [layer.path for layer in monitor.examination.layers] == ["0", "2"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_and_mixed_devices_are_refused_in_one_line():
    model = tnn.Sequential(tnn.Linear(6, 3))
    with pytest.raises(DoctorError, match="is a scripted module, which cannot be looked into; give the module it was"):
        cr.diagnose(torch.jit.script(model), CROSS_ENTROPY, BATCH)
    mixed = tnn.Sequential(tnn.Linear(6, 8), tnn.Linear(8, 3, device="meta"))
    with pytest.raises(DoctorError, match="has parameters on cpu, meta; move all of it to one device"):
        cr.diagnose(mixed, CROSS_ENTROPY, BATCH)
    with pytest.raises(DoctorError, match="the forward pass of Sequential fails on this batch: RuntimeError"):
        cr.diagnose(model, CROSS_ENTROPY, (BATCH[0][:, :4], BATCH[1]))
