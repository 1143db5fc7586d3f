"""`nn.Sequential(checkpoint=...)`: the same gradients, less memory, every choice of places."""

import gc
import tracemalloc

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import chain


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(checkpoint=None, layers=40, width=32):
    nn.random.manual_seed(0)
    modules = []
    for place in range(layers):
        modules += [nn.Linear(width, width), nn.LayerNorm(width) if place % 3 else nn.Tanh(), nn.Dropout(0.1)]
    return nn.Sequential(*modules, nn.BatchNorm1d(width), checkpoint=checkpoint)


def gradients(model, x):
    nn.random.manual_seed(1)
    (model(x) ** 2).sum().backward()
    return [p.grad.numpy().tobytes() for p in model.parameters()] + [b.numpy().tobytes() for b in model.buffers()]


def kept(model, x):
    """Bytes that a forward pass leaves behind, by Python's own account."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = model(x)
    bytes_kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del result
    return bytes_kept


BUDGETS = [cr.MemoryBudget(300_000), cr.MemoryBudget(10**9)]


@pytest.mark.parametrize("checkpoint", ["sqrt", 1, 7, 1000, *BUDGETS])
def test_gradients_and_buffers_are_equal_to_the_last_bit(checkpoint):
    x = floats(64, 32)
    assert gradients(network(checkpoint), x) == gradients(network(), x)


def test_every_root_of_n_layers_of_256_keeps_less_than_15_percent():
    x = floats(256, 64)
    layers = lambda: [part for _ in range(256) for part in (nn.Linear(64, 64), nn.Tanh())]
    whole, checked = kept(nn.Sequential(*layers()), x), kept(nn.Sequential(*layers(), checkpoint="sqrt"), x)
    assert whole > 256 * x.nbytes
    assert checked < 0.15 * whole


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_budget_is_kept_in_the_forward_pass(share):
    x = floats(512, 32)
    whole = kept(network(), x)
    model = network(cr.MemoryBudget(share * whole))
    model(x)  # is measured here
    assert kept(model, x) < share * whole + 300_000  # nodes and other small objects


def test_a_budget_that_cannot_be_met_says_the_smallest_that_can_and_where():
    model = nn.Sequential(nn.Identity(), network(cr.MemoryBudget(1000)))
    with pytest.raises(ValueError, match=r"input of shape \(64, 32\) \(float32\): 121 modules need at least") as caught:
        model(floats(64, 32))
    assert caught.value.__notes__ == ["in module 1 (Sequential)"]
    smallest = int(str(caught.value).split("at least ")[1].split(" bytes")[0].replace(",", ""))
    network(cr.MemoryBudget(smallest))(floats(64, 32))
    with pytest.raises(ValueError, match="cannot be met"):
        network(cr.MemoryBudget(smallest - 1))(floats(64, 32))


def test_measuring_for_a_budget_leaves_no_trace():
    model, plain, x = network(cr.MemoryBudget(10**9)), network(), floats(64, 32)
    states = []
    for each in (model, plain):
        nn.random.manual_seed(1)
        each(x)
        states.append((nn.random.get_rng_state(), [b.numpy().tobytes() for b in each.buffers()]))
    assert states[0] == states[1]
    assert model[-1].num_batches_tracked.item() == 1


def test_what_a_module_keeps_is_measured_without_its_parameters():
    x = floats(16, 8)
    linear, tanh, norm = chain.measured([nn.Linear(8, 4), nn.Tanh(), nn.LayerNorm(4)], x)
    assert linear[1:] == (0, x.nbytes, 256, True, False, False)
    assert tanh[1:] == (0, 256, 256, False, True, False)
    assert (norm.input, norm.output, norm.keeps_output) == (256, 256, False)
    assert linear.seconds > 0


def test_a_plan_is_made_for_each_shape():
    model = network(cr.MemoryBudget(300_000))
    plain = network()
    for batch in (16, 64, 80):
        assert gradients(model, floats(batch, 32)) == gradients(plain, floats(batch, 32))
        model.zero_grad()
        plain.zero_grad()


def test_an_embedding_may_come_first_and_a_flatten_in_between():
    def make(checkpoint):
        nn.random.manual_seed(0)
        return nn.Sequential(nn.Embedding(10, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3), checkpoint=checkpoint)

    tokens = np.arange(6).reshape(2, 3) % 10
    for checkpoint in (1, "sqrt", cr.MemoryBudget(700)):
        assert gradients(make(checkpoint), tokens) == gradients(make(None), tokens)


def test_a_residual_network_of_1000_layers_trains_with_checkpoints():
    nn.random.manual_seed(0)
    model = nn.MLP(2, 8, 2, depth=1000, residual=True, norm="layer", checkpoint="sqrt")
    x = floats(32, 2)
    target = (x[:, 0] > 0).astype(int)
    optimizer = cr.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("checkpoint, error", [("log", TypeError), (2.5, TypeError), (0, ValueError), (-3, ValueError)])
def test_other_choices_are_refused(checkpoint, error):
    with pytest.raises(error, match="Sequential: "):
        nn.Sequential(nn.Tanh(), checkpoint=checkpoint)


def test_a_budget_needs_modules_of_one_result():
    with pytest.raises(TypeError, match="LSTM returned tuple"):
        nn.Sequential(nn.LSTM(3, 4), checkpoint=cr.MemoryBudget(100))(floats(5, 2, 3))


def test_it_prints_its_choice():
    assert repr(nn.Sequential(nn.Tanh(), checkpoint="sqrt")).startswith("Sequential(checkpoint='sqrt'\n")
    assert repr(nn.Sequential(nn.Tanh())) == "Sequential(\n  (0): Tanh()\n)"
