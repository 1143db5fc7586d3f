"""Remedies on chainrule's networks: what they change, what they leave alone, and the code that does the same."""

import numpy as np
import pytest
from sick_networks import SICK, Framework, cured, digits, examined, finding, mlp, numbers, pasted, recurrent, sick

from chainrule import nn, optim, tensor
from chainrule.doctor.examination import examine
from chainrule.doctor.finding import CODES
from chainrule.doctor.rates import full_rate
from chainrule.doctor.remedies import REMEDIES, CannotApply
from chainrule.doctor.remedies.steps import paces
from chainrule.numpy import asarray, concat

OURS = Framework(nn, optim, lambda a: a, nn.random.manual_seed)
X, Y = digits()


@pytest.fixture(params=SICK)
def case(request):
    return request.param


def flow(subject):
    signals = [layer.error_signal for layer in examine(subject).layers]
    return signals[0] / signals[-1]


def test_every_remedy_that_findings_suggest_exists():
    assert {name for code in CODES.values() for name in code.remedies} <= REMEDIES.keys()


def test_the_pasted_code_makes_the_same_network_with_the_same_weights_as_the_remedy(case, tmp_path):
    report, remedy, code, where, x = sick(OURS, case)
    treatment = cured(report, remedy, code, *where)
    twin = sick(OURS, case)[0].subject
    OURS.seed(0)  # as `apply` does
    done = pasted(tmp_path, treatment.code, model=twin.model, optimizer=twin.optimizer, loss_fn=twin.loss_fn, inputs=x)
    made = treatment.subject
    assert repr(done["model"]) == repr(made.model)
    assert repr(done["optimizer"]) == repr(made.optimizer)
    loss = twin.with_(model=done["model"], loss_fn=done["loss_fn"]).run()[1]
    assert np.isfinite(numbers(loss))
    for (path, ours), (_, theirs) in zip(done["model"].named_parameters(), made.model.named_parameters(), strict=True):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-2, atol=1e-6, err_msg=path)


def test_a_remedy_leaves_the_users_network_optimizer_and_random_numbers_as_they_were(case):
    report, remedy, code, where, _ = sick(OURS, case)
    subject = report.subject
    before = {path: numbers(value) for path, value in subject.model.state_dict().items()}
    shown, options, drawn = repr(subject.model), str(subject.optimizer_options), nn.random.get_rng_state()
    cured(report, remedy, code, *where)
    assert repr(subject.model) == shown
    assert str(subject.optimizer_options) == options
    assert nn.random.get_rng_state() == drawn
    for path, value in subject.model.state_dict().items():
        np.testing.assert_array_equal(numbers(value), before[path])


def test_the_optimizer_of_a_cured_network_holds_its_parameters_and_no_others(case):
    report, remedy, code, where, _ = sick(OURS, case)
    subject = cured(report, remedy, code, *where).subject
    held = [p for group in subject.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in subject.model.parameters()}
    subject.step()


@pytest.mark.parametrize("remedy", ["activation", "normalization", "residual", "initialization"])
def test_each_cure_of_a_deep_sigmoid_network_lets_the_error_signal_through(remedy):
    report = examined(OURS, mlp(OURS, 30, 32, "Sigmoid"), X, Y)
    assert flow(report.subject) < 1e-20
    assert flow(cured(report, remedy, "vanishing-gradient").subject) > 1e-2


def test_a_sigmoid_layer_starts_as_the_tanh_layer_it_is_equal_to():
    report = examined(OURS, mlp(OURS, 2, activation="Sigmoid"), X, Y)
    layer = cured(report, "initialization", "vanishing-gradient").subject.model[2]
    weight, bias = numbers(layer.weight).astype(np.float64), numbers(layer.bias)
    np.testing.assert_allclose(weight @ weight.T, 16 * np.eye(24), atol=1e-4)
    np.testing.assert_allclose(bias, -weight.sum(1) / 2, atol=1e-4)


def test_weights_after_which_a_rectifier_comes_get_the_variance_of_he():
    report = examined(OURS, mlp(OURS, 2, 400), X[:200], Y[:200])
    model = cured(report, "initialization", "wrong-initialization").subject.model
    assert numbers(model[2].weight).std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    assert not numbers(model[2].bias).any()


def test_only_the_named_layers_are_drawn_anew_where_they_are_few():
    report = examined(OURS, mlp(OURS, 4), X, Y)
    subject = cured(report, "initialization", "wrong-initialization", "2").subject
    changed = [
        path
        for (path, new), (_, old) in zip(subject.parameters(), report.subject.parameters(), strict=True)
        if not np.array_equal(numbers(new), numbers(old))
    ]
    assert changed == ["2.weight", "2.bias"]


def test_standardised_inputs_have_mean_0_and_variance_1_and_constants_stay_finite():
    raw = X * 100 + 500
    raw[:, 0] = 7
    report = examined(OURS, mlp(OURS), raw, Y)
    front = cured(report, "input-scaling").subject.model[0]
    made = numbers(front(raw))
    np.testing.assert_allclose(made[:, 1:].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(made[:, 1:].std(0)[X.std(0)[1:] > 1e-3], 1, atol=1e-3)
    assert not made[:, 0].any()


def test_missing_inputs_become_the_mean_and_infinite_ones_as_large_as_the_farthest():
    raw = X.copy()
    raw[3, 5] = np.nan
    report = examined(OURS, mlp(OURS), raw, Y)
    assert "non-finite" in [finding.code for finding in report.findings]
    treatment = cured(report, "input-scaling", "non-finite")
    raw[7, 9] = np.inf
    with np.errstate(invalid="ignore"):
        made = numbers(treatment.subject.model[0](raw))
    assert made[3, 5] == 0
    assert made[7, 9] == made.max()
    assert np.isfinite(made).all()
    assert "NaN replaced by the mean" in treatment.words[0]


def test_what_a_module_without_parameters_makes_of_the_data_is_scaled_behind_it():
    class Logarithm(nn.Module):
        def forward(self, x):
            return -tensor(x).log()

    raw = np.abs(X) * (X > 0)
    report = examined(OURS, nn.Sequential(Logarithm(), *mlp(OURS)), raw, Y)
    treatment = cured(report, "input-scaling", "non-finite")
    with np.errstate(divide="ignore"):
        made = numbers(treatment.subject.model[0](raw))
    assert np.isfinite(made).all()
    assert (made[raw == 0] == made.max()).all()
    assert "what 0 makes standardised" in treatment.words[0]


def test_whitened_features_are_uncorrelated_and_their_variance_is_1():
    common = X[:, :1]
    mixed = X[:, 20:28] + 10 * common + 3
    report = examined(OURS, mlp(OURS, given=8), mixed, Y)
    made = numbers(cured(report, "input-whitening", "ill-conditioned").subject.model[0](mixed))
    np.testing.assert_allclose(np.cov(made.T, bias=True), np.eye(8), atol=1e-3)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-3)


def test_features_that_are_copies_of_each_other_stay_finite_when_whitened():
    copies = np.repeat(X[:, 20:24], 2, axis=1)
    report = examined(OURS, mlp(OURS, given=8), copies, Y)
    made = numbers(cured(report, "input-whitening", "ill-conditioned").subject.model[0](copies))
    assert np.isfinite(made).all()
    np.testing.assert_allclose(made[:, 0], made[:, 1], atol=1e-3)


def test_branches_begin_with_a_normalization_and_so_does_the_last_layer():
    model = cured(*sick(OURS, "normalized branches")[:1], "normalization", "missing-normalization").subject.model
    normalized = [path for path, module in model.named_modules() if type(module).__name__ == "Normalized"]
    assert normalized == ["1.first", "2.first", "3.first", "4"]
    x = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    seen = []
    model[2].first.inner.register_forward_pre_hook(lambda _, given: seen.append(numbers(given[0])))
    model[2](x * 100 + 7)
    np.testing.assert_allclose(seen[0].std(1), 1, rtol=1e-3)


def test_layers_without_an_activation_in_between_get_one():
    model = cured(*sick(OURS, "missing activations")[:1], "activation", "cannot-overfit-batch").subject.model
    assert [type(m).__name__ for _, m in model.named_modules()].count("ReLU") == 2
    assert (numbers(model[0](X[:9])) >= 0).all()


def test_dropout_and_weight_decay_are_turned_down_to_what_is_usual():
    subject = cured(*sick(OURS, "regularization")[:1], "regularization", "cannot-overfit-batch").subject
    assert subject.model[2].p == 0.1
    assert subject.optimizer.param_groups[0]["weight_decay"] == 1e-4


def test_too_much_momentum_becomes_the_usual_one_and_the_usual_one_is_left_alone():
    model = mlp(OURS)
    swinging = examined(OURS, model, X, Y, optimizer=optim.SGD(model.parameters(), lr=0.05, momentum=0.999))
    treatment = cured(swinging, "momentum", "oscillating-loss")
    assert treatment.subject.optimizer.param_groups[0]["momentum"] == 0.9
    assert "momentum=0.9" in treatment.code
    assert swinging.subject.optimizer.param_groups[0]["momentum"] == 0.999
    with pytest.raises(CannotApply, match=r"no momentum larger than 0\.9"):
        cured(examined(OURS, mlp(OURS), X, Y), "momentum", "oscillating-loss")


def test_other_rates_are_those_around_the_one_that_a_warm_up_leads_to_and_start_no_warm_up_of_their_own():
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=0.3)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 100)
    subject = OURS.subject(model, nn.functional.cross_entropy, X[:64], Y[:64], optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.003)
    assert full_rate(subject) == 0.3
    tried = [treatment.subject for name, treatment in paces(subject) if name == "learning-rate"]
    assert [full_rate(other) for other in tried] == [0.1, 0.9]
    assert not any("warm_up" in other.optimizer_options for other in tried)


@pytest.mark.parametrize(("norm", "kept"), [(None, None), (0.01, None), (2.0, 2.0)])
def test_adam_keeps_a_clipping_that_cuts_off_only_what_is_unusual(norm, kept):
    model = mlp(OURS)
    given = {"optimizer": optim.SGD(model.parameters(), lr=0.1), "clip_norm": norm}
    subject = OURS.subject(model, nn.functional.cross_entropy, X[:64], Y[:64], **given)
    with_adam = [treatment for name, treatment in paces(subject) if name == "optimizer"]
    assert with_adam
    for treatment in with_adam:
        assert treatment.subject.clip_norm == kept
        assert ("nothing clipped" in treatment.words[0]) == (norm != kept)


def test_longer_batches_are_drawn_from_the_data():
    subject = cured(*sick(OURS, "batch-size")[:1], "batch-size", "dead-batchnorm").subject
    x, y = subject.batch
    assert len(x) == len(y) == 64
    assert all((row == X).all(1).any() for row in x)


def test_a_plain_recurrent_layer_drawn_anew_keeps_its_state_and_its_gradient():
    x = np.random.default_rng(0).standard_normal((300, 20, 3)).astype(np.float32)
    model = recurrent(OURS, "RNN")
    OURS.fill(model.rnn.weight_hh_l0, 0.05 * np.eye(8))
    report = examined(OURS, model, x, (x[:, 0, 0] > 0).astype(np.int64))
    rnn = cured(report, "initialization", "bptt-vanishing", "rnn").subject.model.rnn
    states = numbers(rnn(x)[0])
    assert 0.1 < np.sqrt((states[:, -1] ** 2).mean()) < 0.4
    weight = numbers(rnn.weight_hh_l0).astype(np.float64)
    np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-4)


def test_a_loss_by_hand_that_broadcasts_is_exchanged_for_the_plain_one():
    model = mlp(OURS, made=1)
    network = nn.Sequential(*model, nn.Flatten(0))
    numbers_to_guess = X[:, 20].copy()
    report = examined(OURS, network, X, numbers_to_guess, loss=lambda y, t: ((y - t[:, None]) ** 2).mean())
    treatment = cured(report, "loss", "wrong-loss")
    expected = ((network(X[:64]) - numbers_to_guess[:64]) ** 2).mean()
    assert float(treatment.subject.run()[1].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_truncated_time_computes_the_same_and_cuts_the_gradient_where_it_says():
    report, remedy, code, where, x = sick(OURS, "shorter-time")
    wrapped = cured(report, remedy, code, *where).subject.model.rnn
    y, _ = wrapped(x)
    np.testing.assert_allclose(numbers(y), numbers(report.subject.model.rnn(x)[0]), rtol=1e-5, atol=1e-6)
    leaf = report.subject.leaf(x)
    wrapped(leaf)[0][:, -1].sum().backward()
    reached = np.abs(numbers(leaf.grad)).sum((0, 2)) > 0
    np.testing.assert_array_equal(reached, np.arange(20) >= 20 - wrapped.steps)


def test_open_forget_gates_have_a_bias_of_log_t_in_all():
    report, *_ = sick(OURS, "forget-gate-bias")
    rnn = cured(report, "forget-gate-bias", "bptt-vanishing", "rnn").subject.model.rnn
    np.testing.assert_allclose(numbers(rnn.bias_ih_l0)[8:16] + numbers(rnn.bias_hh_l0)[8:16], np.log(20), atol=0.05)


class Functional(nn.Module):
    """Activations and softmax called as functions."""

    def __init__(self):
        nn.random.manual_seed(0)
        self.first, self.second = nn.Linear(64, 20), nn.Linear(20, 10)

    def forward(self, x):
        return nn.functional.softmax(self.second(nn.functional.sigmoid(self.first(x))), 1)


def test_an_activation_called_as_a_function_is_exchanged_in_a_forward_of_the_copys_own():
    report = examined(OURS, Functional(), X, Y)
    treatment = cured(report, "activation", "vanishing-gradient")
    made = treatment.subject.model
    hidden = nn.functional.relu(made.first(X[:9]))
    np.testing.assert_array_equal(numbers(made(X[:9])), numbers(nn.functional.softmax(made.second(hidden), 1)))
    assert treatment.words[0] == "sigmoid exchanged for relu in the forward of Functional"
    assert "relu instead of sigmoid" in treatment.code
    theirs = report.subject.model
    assert type(theirs) is Functional
    hidden = nn.functional.sigmoid(theirs.first(X[:9]))
    np.testing.assert_array_equal(numbers(theirs(X[:9])), numbers(nn.functional.softmax(theirs.second(hidden), 1)))


@pytest.mark.parametrize("kind", ["closure", "method"])
def test_activations_that_a_variable_holds_and_those_of_tensors_are_exchanged_too(kind):
    act = nn.functional.sigmoid

    class Held(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(64, 20), nn.Linear(20, 10)

        def forward(self, x):
            return self.second(act(self.first(x)))

    class Method(Held):
        def forward(self, x):
            return self.second(self.first(x).tanh())

    nn.random.manual_seed(0)
    report = examined(OURS, {"closure": Held, "method": Method}[kind](), X, Y)
    made = cured(report, "activation", "vanishing-gradient").subject.copy().model
    expected = made.second(nn.functional.relu(made.first(X[:9])))
    np.testing.assert_array_equal(numbers(made(X[:9])), numbers(expected))


def test_an_activation_out_of_reach_of_its_forward_is_refused_and_the_message_says_so():
    act = [nn.functional.sigmoid]

    class Listed(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(64, 20), nn.Linear(20, 10)

        def forward(self, x):
            return self.second(act[0](self.first(x)))

    with pytest.raises(CannotApply, match="sigmoid is called as a function in the forward of Listed"):
        cured(examined(OURS, Listed(), X, Y), "activation", "vanishing-gradient")


def test_a_softmax_called_as_a_function_is_undone_in_the_loss():
    report = examined(OURS, Functional(), X, Y)
    treatment = cured(report, "loss", "loss-activation-mismatch")
    logits = report.subject.model.second(nn.functional.sigmoid(report.subject.model.first(X[:64])))
    loss = treatment.subject.run()[1]
    assert float(loss.detach()) == pytest.approx(float(nn.functional.cross_entropy(logits, Y[:64]).detach()), rel=1e-4)


@pytest.mark.parametrize(
    "remedy, code, said",
    [
        ("forget-gate-bias", "bptt-vanishing", "no LSTM or GRU"),
        ("residual", "vanishing-gradient", "no block has an output of its input's shape"),
        ("loss", "wrong-loss", "fits these outputs and targets already"),
        ("width", "bottleneck", "no hidden layer is 8 times narrower"),
        ("shorter-time", "bptt-vanishing", "does not make it reach further back"),
        ("activation", "vanishing-gradient", "no hidden activation"),
    ],
)
def test_a_remedy_that_does_not_fit_says_why_in_one_line(remedy, code, said):
    model = nn.Sequential(nn.Linear(64, 12), nn.LeakyReLU(), nn.Linear(12, 10))
    with pytest.raises(CannotApply, match=said) as refused:
        cured(examined(OURS, model, X, Y), remedy, code)
    assert "\n" not in str(refused.value)


def test_a_module_that_the_forward_reaches_into_is_left_alone_and_the_message_says_why():
    class Tied(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(64, 10)

        def forward(self, x):
            return x @ self.inner.weight.mT + self.inner(x)

    class Whole(nn.Module):
        def __init__(self):
            self.tied, self.out = Tied(), nn.Linear(10, 10)

        def forward(self, x):
            return self.out(self.tied(x))

    report = examined(OURS, Whole(), X, Y)
    with pytest.raises(CannotApply, match="does not run with it"):
        cured(report, "normalization", "vanishing-gradient", "tied.inner")


# Layers of every kind, and forwards ----------------------------------------------------------------------------------


class Words(nn.Module):
    """Vectors of words, their mean, and what follows from it."""

    def __init__(self, width):
        super().__init__()
        self.vectors, self.out = nn.Embedding(50, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.vectors(x).mean(1))


WORDS = np.random.default_rng(0).integers(0, 50, (40, 6))
CLASSES = np.random.default_rng(1).integers(0, 10, 40)


def test_vectors_of_one_number_become_wider_with_the_layer_that_reads_them():
    treated = cured(examined(OURS, Words(1), WORDS, CLASSES), "width", "bottleneck").subject.model
    assert treated.vectors.embedding_dim == treated.out.in_features == 16


def test_a_channel_between_convolutions_becomes_as_many_as_around_it_with_its_normalization():
    nn.random.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, stride=2), nn.BatchNorm2d(1),
        nn.ReLU(), nn.ConvTranspose2d(1, 8, 2), nn.Flatten(), nn.Linear(8 * 16, 10),
    )  # fmt: skip
    treated = cured(examined(OURS, model, X.reshape(-1, 1, 8, 8), Y), "width", "bottleneck", "2").subject.model
    assert treated[2].out_channels == treated[3].num_features == treated[5].in_channels == 8
    assert treated[2].stride == (2, 2)


def test_all_layers_that_count_on_a_width_are_widened_together():
    report, remedy, code, where, _ = sick(OURS, "width of several layers")
    treated = cured(report, remedy, code, *where).subject.model
    assert treated.reader.hidden_size == treated.writer.hidden_size == treated.out.in_features == 32
    assert treated.out.out_features == 2


def test_a_layer_whose_weights_are_read_twice_is_widened_by_itself():
    class Tied(nn.Module):
        def __init__(self):
            self.encode = nn.Linear(64, 2)

        def forward(self, x):
            return self.encode(x).tanh() @ self.encode.weight

    report = examined(OURS, Tied(), X, X, loss=nn.functional.mse_loss)
    assert cured(report, "width", "bottleneck").subject.model.encode.out_features == 64


def test_a_forward_that_makes_rows_of_the_old_width_makes_them_of_the_new_one():
    class Pooled(nn.Module):
        def __init__(self):
            self.first, self.squeeze = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 1)
            self.read, self.out = nn.Linear(1, 16), nn.Linear(16, 10)

        def forward(self, x):
            means = self.squeeze(self.first(x).relu()).mean((2, 3), keepdims=True)
            return self.out(self.read(means.reshape(len(x), 1)).relu())

    treatment = cured(examined(OURS, Pooled(), X.reshape(-1, 1, 8, 8), Y), "width", "bottleneck", "squeeze")
    assert treatment.subject.model.inner.read.in_features == treatment.subject.model.inner.squeeze.out_channels == 8
    assert "rows of 8 numbers instead of 1 made in the forward of Pooled" in treatment.words


class Recalled(nn.Module):
    """What an LSTM of some units remembers of a sequence."""

    def __init__(self, units):
        super().__init__()
        self.rnn, self.out = nn.LSTM(8, units, batch_first=True), nn.Linear(units, 10)

    def forward(self, x):
        return self.out(self.rnn(x.reshape(-1, 8, 8))[0][:, -1])


def test_a_state_of_one_unit_becomes_wider_and_starts_as_one_that_lasts():
    treated = cured(examined(OURS, Recalled(1), X, Y), "lasting-state", "bottleneck", "rnn").subject.model
    assert treated.rnn.hidden_size == treated.out.in_features == 32
    kept = numbers(treated.rnn.weight_hh_l0)[32:64]
    np.testing.assert_allclose(kept @ kept.T, np.eye(32), atol=1e-5)
    assert (numbers(treated.rnn.bias_ih_l0)[32:64] >= 1).all()


def test_a_narrow_layer_without_a_state_is_not_made_to_last():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.ReLU(), nn.Linear(1, 10))
    with pytest.raises(CannotApply, match="2 has no state that could last"):
        cured(examined(OURS, model, X, Y), "lasting-state", "bottleneck", "2")


@pytest.mark.parametrize("usual", [True, False])
def test_widened_layers_are_drawn_as_usual_where_the_others_were(usual):
    nn.random.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1), nn.Tanh(), nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 10)
    )
    for layer in model[::2] if not usual else ():
        nn.init.normal_(layer.weight, std=3 / np.sqrt(layer.in_features))
    treated = cured(examined(OURS, model, X, Y), "width", "bottleneck", "2").subject.model
    assert treated[2].out_features == 32
    assert (np.abs(numbers(treated[2].weight)).max() <= 1 / np.sqrt(32)) == usual


def test_one_channel_before_a_single_number_is_as_narrow_as_its_neighbours_of_the_same_kind_are_wide():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)
    )
    report = examined(OURS, model, X.reshape(-1, 1, 8, 8), X[:, :1], loss=nn.functional.mse_loss)
    assert cured(report, "width", "slow-convergence").subject.model[2].out_channels == 16


def test_lengths_that_weights_are_multiplied_by_become_such_that_outputs_have_variance_1():
    report, remedy, code, where, x = sick(OURS, "factors of weights")
    model = cured(report, remedy, code, *where).subject.model
    assert numbers(model[0](x[:64])).std() == pytest.approx(1, rel=0.01)
    assert numbers(model[2](model[1](model[0](x[:64])))).std() == pytest.approx(1, rel=0.01)


def test_logarithms_are_taken_of_features_with_long_tails_alone():
    x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    raw = x.copy()
    raw[:, 20], raw[:, 21] = np.exp(3 * x[:, 20]), -np.exp(3 * x[:, 21])
    front = cured(
        examined(OURS, mlp(OURS), raw, np.resize(Y, 2000)), "input-logarithm", "unscaled-input"
    ).subject.model[0]
    made = numbers(front(raw))
    assert np.flatnonzero(numbers(front.far)).tolist() == [20, 21]
    np.testing.assert_allclose(made.std(0), 1, atol=1e-3)
    assert abs(made[:, 20]).max() < 5
    assert np.corrcoef(made[:, 21], -x[:, 21])[0, 1] > 0.95


def test_sequences_become_uncorrelated_at_every_step():
    report, remedy, code, where, x = sick(OURS, "input-whitening of sequences")
    made = numbers(cured(report, remedy, code, *where).subject.model[0](x)).reshape(-1, 3)
    np.testing.assert_allclose(np.cov(made, rowvar=False), np.eye(3), atol=1e-2)


def test_what_the_user_put_between_layers_is_taken_out_but_activations_stay():
    report, remedy, code, where, _ = sick(OURS, "leaving-out")
    treatment = cured(report, remedy, code, *where)
    assert [type(module).__name__ for module in treatment.subject.model] == ["Linear", "Identity", "ReLU", "Linear"]
    assert treatment.words == ("1 (MinusSquare) taken out",)


def test_a_last_activation_that_reaches_all_targets_stays_where_the_loss_was_the_fault():
    class Ended(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(64, 64)

        def forward(self, x):
            return nn.functional.sigmoid(self.layer(x))

    pixels = (X - X.min()) / (X.max() - X.min())
    report = examined(OURS, Ended(), X, pixels, loss=lambda output, target: ((output - target).mean(0) ** 2).mean())
    treatment = cured(report, "loss", "wrong-loss")
    assert treatment.words == ("mse_loss as the loss",)
    report = examined(OURS, Ended(), X, 3 * pixels, loss=nn.functional.mse_loss)
    assert "sigmoid at the end" in cured(report, "loss", "wrong-loss").words[0]


def test_a_last_activation_is_taken_out_of_the_forward_that_calls_it_and_none_inside():
    class Limited(nn.Module):
        def __init__(self):
            self.net = mlp(OURS)

        def forward(self, x):
            return nn.functional.relu(self.net(x))

    limited = Limited()
    treatment = cured(examined(OURS, limited, X[:64], Y[:64]), "loss", "loss-activation-mismatch")
    assert treatment.words == ("relu at the end of the forward of Limited taken out",)
    np.testing.assert_array_equal(numbers(treatment.subject.model(X[:64])), numbers(limited.net(X[:64])))


def test_softmax_along_another_axis_than_the_classes_is_taken_out_rather_than_undone():
    class OverTime(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            return nn.functional.softmax(self.layer(x), 1)

    x = np.random.default_rng(0).standard_normal((100, 6, 3)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 4, (100, 6))

    def loss(output, target):
        return nn.functional.cross_entropy(output.reshape(-1, 4), target.reshape(-1))

    treatment = cured(examined(OURS, OverTime(), x, y, loss=loss), "loss", "loss-activation-mismatch")
    np.testing.assert_allclose(
        numbers(treatment.subject.output((x, y))), numbers(treatment.subject.model.inner.layer(x)), rtol=1e-5
    )


def test_units_that_are_as_good_as_straight_become_rectifiers():
    model = nn.Sequential(nn.Linear(64, 12), nn.LeakyReLU(1.0), nn.Linear(12, 10))
    treated = cured(examined(OURS, model, X, Y), "activation", "cannot-overfit-batch").subject.model
    assert isinstance(treated[1], nn.ReLU)


def test_a_normalization_whose_shift_turns_everything_off_is_made_anew():
    model = nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))
    nn.init.constant_(model[1].bias, -6.0)
    treated = cured(examined(OURS, model, X, Y), "usual-normalization", "dying-relu").subject.model
    assert not numbers(treated[1].bias).any()


def test_vectors_far_from_the_usual_size_are_drawn_anew_with_everything_else():
    model = Words(16)
    nn.init.normal_(model.vectors.weight, 0, 30)
    treated = cured(examined(OURS, model, WORDS, CLASSES), "initialization", "wrong-initialization").subject.model
    assert 0.9 < numbers(treated.vectors.weight).std() < 1.1


class Spelled(nn.Module):
    """Vectors of words through a plain recurrent layer."""

    def __init__(self):
        super().__init__()
        self.vectors, self.rnn, self.out = nn.Embedding(50, 8), nn.RNN(8, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        return self.out(self.rnn(self.vectors(x))[0][:, -1])


def test_a_recurrent_layer_is_drawn_anew_for_the_vectors_that_were_drawn_with_it():
    model = Spelled()
    nn.init.constant_(model.vectors.weight, 1e-3)
    treated = cured(examined(OURS, model, WORDS, CLASSES), "initialization", "wrong-initialization").subject.model
    states = numbers(treated.rnn(treated.vectors(WORDS))[0])
    assert 0.1 < np.sqrt((states[:, -1] ** 2).mean()) < 0.4


def test_a_normalization_of_a_single_number_is_taken_out_and_slow_statistics_are_made_anew():
    model = nn.Sequential(
        nn.Linear(64, 8), nn.BatchNorm1d(8, momentum=1e-4), nn.ReLU(), nn.Linear(8, 1), nn.LayerNorm(1)
    )
    report = examined(OURS, model, X, (Y[:, None] > 4).astype(np.float32), loss=nn.functional.mse_loss)
    assert isinstance(cured(report, "normalization", "dead-batchnorm", "4").subject.model[4], nn.Identity)
    assert cured(report, "usual-normalization", "slow-convergence").subject.model[1].momentum == 0.1


def test_a_rectified_recurrence_gets_tanh_and_an_orthogonal_matrix():
    model = recurrent(OURS, "RNN")
    model.rnn = nn.RNN(3, 8, batch_first=True, nonlinearity="relu")
    x = np.random.default_rng(0).normal(size=(32, 12, 3)).astype(np.float32)
    treated = cured(examined(OURS, model, x, Y[:32] % 2), "bounded-state", "bptt-exploding").subject.model
    matrix = numbers(treated.rnn.weight_hh_l0)
    assert treated.rnn.nonlinearity == "tanh"
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-5)


class Undefined(nn.Module):
    """Operations at the edge of where they are defined."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 10)

    def forward(self, x):
        x = tensor(x)[:, :1] * 0
        weights = nn.functional.softmax(x - np.inf, 1)
        return self.out(concat([x.log(), 1 / x, (x / x) ** 0.5, weights], axis=1) * 1e-6)


def test_guarded_operations_are_finite_forward_and_backward():
    with np.errstate(all="ignore"):
        report = examined(OURS, Undefined(), X, Y)
    guarded = cured(report, "guarding", "non-finite").subject
    loss = guarded.run()[1]
    loss.backward()
    assert np.isfinite(numbers(loss))
    assert all(np.isfinite(numbers(parameter.grad)).all() for parameter in guarded.model.parameters())
    with np.errstate(all="ignore"):
        assert not np.isfinite(numbers(report.subject.model(X[:2]))).all()


class Clamped(nn.Module):
    """A last activation that is called as a function, as those before it are."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(64, 12), nn.Linear(12, 1)

    def forward(self, x):
        return nn.functional.tanh(self.out(nn.functional.tanh(self.hidden(x))))


def test_the_last_call_of_an_activation_is_left_out_and_no_other():
    nn.random.manual_seed(0)
    model = Clamped()
    report = examined(OURS, model, X, 20 * X[:, :1], loss=nn.functional.mse_loss)
    treated = cured(report, "loss", "loss-activation-mismatch").subject.model
    x = tensor(X[:5])
    np.testing.assert_array_equal(numbers(treated(x)), numbers(model.out(nn.functional.tanh(model.hidden(x)))))


def test_several_properties_are_judged_one_by_one():
    targets = (X[:, :10] > 0).astype(np.float32)
    report = examined(OURS, nn.Sequential(*mlp(OURS), nn.Softmax(1)), X, targets, loss=nn.functional.mse_loss)
    treated = cured(report, "loss", "wrong-loss").subject
    assert isinstance(treated.model[5], nn.Identity)
    assert treated.loss_fn is nn.functional.binary_cross_entropy_with_logits or "logits" in treated.loss_fn.name


class Table(nn.Module):
    """A thing's vector beside a number, in one table."""

    def __init__(self):
        super().__init__()
        self.vectors, self.out = nn.Embedding(50, 3), nn.Linear(4, 10)

    def forward(self, x):
        return self.out(concat([self.vectors(np.asarray(x[:, 0], np.int64)), tensor(x[:, 1:])], axis=1))


def test_numbers_beside_names_of_things_are_scaled_before_the_layer_that_reads_both():
    x = np.stack([WORDS[:, 0], 1e4 * np.arange(40)], 1).astype(np.float32)
    treated = cured(examined(OURS, Table(), x, CLASSES), "input-scaling", "unscaled-input", "out").subject.model
    given = []
    treated.out[1].register_forward_pre_hook(lambda _, arguments: given.append(numbers(arguments[0])))
    treated(x)
    np.testing.assert_allclose(given[0].std(0), 1, rtol=1e-3)


def test_findings_made_by_hand_suggest_what_their_codes_do():
    assert finding("bottleneck", "2").remedies == ("width", "lasting-state")
    assert recurrent(OURS).rnn.hidden_size == 8


# Values that leave the tensors and come back ------------------------------------------------------------------------


class Cut(nn.Module):
    """A network whose two layers `between` cuts apart."""

    def __init__(self, between):
        super().__init__()
        self.first, self.out = nn.Linear(64, 16), nn.Linear(16, 10)
        self.between = between

    def forward(self, x):
        return self.out(self.between(self.first(x)))


def attached(between):
    nn.random.manual_seed(0)
    return cured(examined(OURS, Cut(between), X[:64], Y[:64]), "gradient-path", "detached-graph")


def gradients(model):
    nn.functional.cross_entropy(model(X[:64]), Y[:64]).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "between",
    [
        lambda h: tensor(h.tanh().detach().numpy()),
        lambda h: tensor(np.array(h.tanh().detach())).reshape(-1, 16),
        lambda h: tensor(np.asarray(h.tanh().detach()).reshape(-1, 4, 4)).reshape(-1, 16),
        lambda h: asarray(h.tanh().detach().tolist(), dtype=np.float32),
        lambda h: tensor(np.tanh(h.detach().numpy())),
    ],
    ids=["array", "copy", "reshaped", "list", "computed in NumPy"],
)
def test_what_comes_back_from_numpy_is_the_tensor_it_came_from(between):
    treatment = attached(between)
    assert "a conversion to NumPy and back" in treatment.words[0]
    nn.random.manual_seed(0)
    for ours, theirs in zip(gradients(treatment.subject.model), gradients(Cut(lambda h: h.tanh())), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_what_numpy_made_of_other_numbers_is_not_taken_for_a_tensor():
    treatment = attached(lambda h: tensor(np.flip(np.asarray(h.tanh().detach()), 1)))
    assert "straight to first, past what has no derivative" in treatment.words[0]


def test_a_path_is_open_though_a_state_that_starts_at_zero_tells_its_weights_nothing():
    class LastStep(nn.Module):
        """Of the backward direction it has seen one step, whose state before it is zero."""

        def __init__(self):
            self.rnn, self.out = nn.LSTM(8, 6, batch_first=True, bidirectional=True), nn.Linear(12, 10)

        def forward(self, x):
            return self.out(self.rnn(x)[0].detach()[:, -1])

    nn.random.manual_seed(0)
    report = examined(OURS, LastStep(), X[:64].reshape(-1, 8, 8), Y[:64])
    assert "detach() (test_remedies.py:" in cured(report, "gradient-path", "detached-graph").words[0]


def test_the_code_says_which_line_cuts_the_path_and_what_to_write_there():
    def between(h):
        return tensor(h.tanh().detach().numpy())

    code = attached(between).code
    assert "test_remedies.py:" in code
    assert "#   - return tensor(h.tanh().detach().numpy())\n" in code
    assert "#   + return h.tanh()\n" in code
