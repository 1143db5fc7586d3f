"""Compiled training steps: the same losses, parameters, gradients, statistics and random draws as uncompiled ones.

What may change between the calls of a step from outside is in `test_state.py`.
"""

import numpy as np
import pytest
from compile.twins import SetUp, assert_trains_alike, batches

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional as F

DTYPES = [np.float64, np.float32]


def network(dtype=np.float64, *between):
    return nn.Sequential(nn.Linear(4, 5, dtype=dtype), *between, nn.Tanh(), nn.Linear(5, 3, dtype=dtype))


def step_of(model, optimizer, loss=F.mse_loss, before_update=lambda: None):
    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        before_update()
        optimizer.step()
        return value.detach()

    return step


def training(make_optimizer, dtype=np.float64, make_model=network, **options):
    def make():
        model = make_model(dtype)
        optimizer = make_optimizer(model.parameters())
        return SetUp(step_of(model, optimizer, **options), model, optimizer)

    return make


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD weight decay": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "SGD nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "Adam weight decay": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "Adam amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "AdamW amsgrad": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "RMSprop momentum": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9),
    "RMSprop centered": lambda p: optim.RMSprop(p, lr=0.01, centered=True, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_moves_as_uncompiled(name, dtype):
    assert_trains_alike(training(OPTIMIZERS[name], dtype), batches(dtype=dtype))


def test_groups_of_parameters_keep_options_of_their_own():
    def make_optimizer(parameters):
        first, *rest = parameters
        return optim.Adam(
            [{"params": [first], "lr": 0.1, "weight_decay": 0.2}, {"params": rest, "betas": (0.8, 0.9)}], lr=0.01
        )

    assert_trains_alike(training(make_optimizer), batches())


@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "AdamW"])
def test_a_learning_rate_schedule_outside_of_the_step_is_followed(name):
    def make():
        model = network()
        optimizer = OPTIMIZERS[name](model.parameters())
        schedule = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        return SetUp(step_of(model, optimizer), model, optimizer, lambda number: number and schedule.step())

    assert_trains_alike(make, batches())


# Gradients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("bound", [0.05, 100.0])
def test_clipping_by_norm_scales_alike_whether_it_bites_or_not(norm, bound, dtype):
    def make():
        model = network(dtype)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            total = optim.clip_grad_norm_(model.parameters(), bound, norm_type=norm)
            optimizer.step()
            return total

        return SetUp(step, model, optimizer)

    assert_trains_alike(make, batches(count=4, dtype=dtype))


def test_clipping_by_value_cuts_alike():
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        clip = lambda: optim.clip_grad_value_(model.parameters(), 0.05)
        return SetUp(step_of(model, optimizer, before_update=clip), model, optimizer)

    assert_trains_alike(make, batches(count=4))


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("place", ["start", "middle", "end", "outside", "nowhere"])
def test_gradients_may_be_forgotten_anywhere(place, set_to_none):
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

        def forget(here):
            if here == place:
                optimizer.zero_grad(set_to_none)

        def step(x, y):
            forget("start")
            loss = F.mse_loss(model(x), y)
            forget("middle")
            loss.backward()
            optimizer.step()
            forget("end")
            return loss.detach()

        return SetUp(step, model, optimizer, lambda number: forget("outside"))

    # Where gradients are added to those of the step before, the first step is unlike the others: there are none yet.
    unlike = place == "nowhere" or (not set_to_none and place in ("end", "outside"))
    assert_trains_alike(make, batches(count=5), variants=None if unlike else 1)


def test_two_backward_calls_accumulate():
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            first = F.mse_loss(model(x[:3]), y[:3])
            (first / 2).backward()
            second = F.mse_loss(model(x[3:]), y[3:])
            (second / 2).backward()
            optimizer.step()
            return first.detach() + second.detach()

        return SetUp(step, model, optimizer)

    assert_trains_alike(make, batches())


def test_frozen_parameters_stay():
    def make():
        model = network()
        model[0].weight.requires_grad_(False)
        optimizer = optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        return SetUp(step_of(model, optimizer), model, optimizer)

    assert_trains_alike(make, batches())


def test_a_parameter_that_no_gradient_reaches_stays():
    def make():
        model = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), nn.Linear(4, 3, dtype=np.float64))
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model[0](x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return SetUp(step, model, optimizer)

    assert_trains_alike(make, batches())


def test_a_shared_parameter_gets_the_sum_of_its_gradients():
    def make():
        first, second = (nn.Linear(4, 4, dtype=np.float64) for _ in range(2))
        second.weight = first.weight
        model = nn.Sequential(first, nn.Tanh(), second, nn.Linear(4, 3, dtype=np.float64))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return SetUp(step_of(model, optimizer), model, optimizer)

    assert_trains_alike(make, batches())


def test_a_penalty_on_gradients_is_differentiated_itself():
    def make():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            slope = cr.grad(lambda x: cr.numpy.sum(model(x)[:, 0]))(x)
            loss = F.mse_loss(model(x), y) + 0.1 * cr.numpy.sum(slope**2)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return SetUp(step, model, optimizer)

    assert_trains_alike(make, batches())


# Layers --------------------------------------------------------------------------------------------------------------

LAYERS = {
    "batch norm": lambda dtype: nn.BatchNorm1d(5, dtype=dtype),
    "batch norm, plain average": lambda dtype: nn.BatchNorm1d(5, momentum=None, dtype=dtype),
    "batch norm, no statistics": lambda dtype: nn.BatchNorm1d(5, track_running_stats=False, dtype=dtype),
    "layer norm": lambda dtype: nn.LayerNorm(5, dtype=dtype),
    "dropout": lambda dtype: nn.Dropout(0.3),
    "relu": lambda dtype: nn.ReLU(),
    "gelu": lambda dtype: nn.GELU(),
    "softmax": lambda dtype: nn.Softmax(dim=1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_trains_as_uncompiled(name, dtype):
    make_model = lambda dtype: network(dtype, LAYERS[name](dtype))
    assert_trains_alike(training(OPTIMIZERS["SGD momentum"], dtype, make_model), batches(dtype=dtype))


def test_dropout_draws_anew_in_every_step():
    dropout = nn.Dropout(0.5)
    step = cr.compile(lambda x: dropout(x), strict=True)
    masks = {step(np.ones(64)).numpy().tobytes() for _ in range(5)}
    assert len(masks) == 5


def test_two_dropouts_in_one_step_have_masks_of_their_own():
    def make():
        model = nn.Sequential(nn.Linear(4, 8, dtype=np.float64), nn.Dropout(0.5), nn.Dropout(0.5))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return SetUp(step_of(model, optimizer), model, optimizer)

    assert_trains_alike(make, batches(outputs=8))


def test_an_embedding_and_attention_train_as_uncompiled():
    class Model(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(7, 4, dtype=np.float64)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype=np.float64)
            self.head = nn.Linear(4, 3, dtype=np.float64)

        def forward(self, words):
            x = self.table(words)
            x, _ = self.attention(x, x, x)
            return self.head(x).mean(axis=1)

    def make():
        model = Model()
        optimizer = optim.SGD(model.parameters(), lr=0.1)  # not Adam: a gradient that is zero but for rounding
        return SetUp(step_of(model, optimizer, F.cross_entropy), model, optimizer)

    rng = np.random.default_rng(0)
    assert_trains_alike(make, [(rng.integers(0, 7, (2, 3)), rng.integers(0, 3, 2)) for _ in range(4)])


# Losses --------------------------------------------------------------------------------------------------------------

WEIGHTS = np.array([0.5, 1.0, 2.0])
OF_LABELS = {
    "cross entropy": {},
    "cross entropy, sum": {"reduction": "sum"},
    "cross entropy, smoothed": {"label_smoothing": 0.1},
    "cross entropy, weighted": {"weight": WEIGHTS},
    "cross entropy, weighted and smoothed": {"weight": WEIGHTS, "label_smoothing": 0.2},
}
OF_NUMBERS = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": lambda z, y: F.huber_loss(z, y, delta=0.4),
    "smooth l1": F.smooth_l1_loss,
    "binary cross entropy": lambda z, y: F.binary_cross_entropy_with_logits(z, (y > 0) * 1.0),
    "binary cross entropy, weighted": lambda z, y: F.binary_cross_entropy_with_logits(
        z, (y > 0) * 1.0, pos_weight=WEIGHTS
    ),
    "soft cross entropy": lambda z, y: F.cross_entropy(z, F.softmax(y, 1)),
    "mse, per row": lambda z, y: F.mse_loss(z, y, reduction="none").mean(axis=1).sum(),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_LABELS)
def test_every_loss_of_labels_trains_as_uncompiled(name, dtype):
    data = batches(count=4, labels=True, dtype=dtype)
    for _, y in data[1:]:
        y[::2] = -100  # rows to ignore, another number of them in each step
    loss = lambda z, y: F.cross_entropy(z, y, **OF_LABELS[name])
    assert_trains_alike(training(OPTIMIZERS["SGD"], dtype, loss=loss), data)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_every_loss_of_numbers_trains_as_uncompiled(name, dtype):
    data = batches(count=4, dtype=dtype)
    assert_trains_alike(training(OPTIMIZERS["SGD"], dtype, loss=OF_NUMBERS[name]), data)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_matter(threads):
    data = batches(count=3, rows=300)
    assert_trains_alike(training(OPTIMIZERS["Adam"]), data, threads=threads)


def test_a_step_without_a_result_returns_none():
    model = network()
    inner = step_of(model, optim.SGD(model.parameters(), lr=0.1))

    def without_result(x, y):
        inner(x, y)

    step = cr.compile(without_result, strict=True)
    (x, y), *_ = batches(count=1)
    for _ in range(3):
        before = model[0].weight.detach().numpy().copy()
        assert step(x, y) is None
        assert (model[0].weight.detach().numpy() != before).any()
