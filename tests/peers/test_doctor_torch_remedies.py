"""Remedies, prescriptions and repair on PyTorch's networks."""

import numpy as np
import pytest
import torch
from sick_networks import SICK, Framework, cured, digits, examined, mlp, numbers, pasted, sick

from chainrule.doctor.prescription import prescribe, repair
from chainrule.doctor.remedies import CannotApply

THEIRS = Framework(torch.nn, torch.optim, torch.as_tensor, torch.manual_seed)
X, Y = digits()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", SICK)
def test_the_pasted_code_makes_the_same_network_with_the_same_weights_as_the_remedy(case, tmp_path):
    report, remedy, code, where, x = sick(THEIRS, case)
    treatment = cured(report, remedy, code, *where)
    twin = sick(THEIRS, case)[0].subject
    torch.manual_seed(0)  # as `apply` does
    done = pasted(tmp_path, treatment.code, model=twin.model, optimizer=twin.optimizer, loss_fn=twin.loss_fn, inputs=x)
    made = treatment.subject
    assert repr(done["model"]) == repr(made.model)
    assert repr(done["optimizer"]) == repr(made.optimizer)
    assert torch.isfinite(twin.with_(model=done["model"], loss_fn=done["loss_fn"]).run()[1])
    for (path, ours), (_, theirs) in zip(done["model"].named_parameters(), made.model.named_parameters(), strict=True):
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-2, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("case", SICK)
def test_a_remedy_leaves_the_users_network_optimizer_and_random_numbers_as_they_were(case):
    report, remedy, code, where, _ = sick(THEIRS, case)
    subject = report.subject
    before = {path: numbers(value) for path, value in subject.model.state_dict().items()}
    shown, options, drawn = repr(subject.model), repr(subject.optimizer), torch.get_rng_state()
    made = cured(report, remedy, code, *where).subject
    assert repr(subject.model) == shown
    assert repr(subject.optimizer) == options
    assert torch.equal(torch.get_rng_state(), drawn)
    for path, value in subject.model.state_dict().items():
        np.testing.assert_array_equal(numbers(value), before[path])
    held = [p for group in made.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in made.model.parameters()}


def test_truncated_time_computes_the_same_and_cuts_the_gradient_where_it_says():
    report, remedy, code, where, x = sick(THEIRS, "shorter-time")
    wrapped = cured(report, remedy, code, *where).subject.model.rnn
    leaf = torch.tensor(x, requires_grad=True)
    y, _ = wrapped(leaf)
    torch.testing.assert_close(y, report.subject.model.rnn(leaf)[0])
    y[:, -1].sum().backward()
    reached = np.abs(leaf.grad.numpy()).sum((0, 2)) > 0
    np.testing.assert_array_equal(reached, np.arange(20) >= 20 - wrapped.steps)


def test_a_deep_sigmoid_network_is_cured_by_at_least_two_remedies():
    report = examined(THEIRS, mlp(THEIRS, 20, 32, "Sigmoid"), X, Y)
    assert "vanishing-gradient" in [finding.code for finding in report.findings]
    prescription = prescribe(report, steps=40)
    singles = [cure for cure in prescription.cures if cure.helped and len(cure.remedies) == 1]
    assert len(singles) >= 2
    assert prescription.best.after.score.value > prescription.untreated.score.value + 0.3


def test_repair_returns_a_torch_module_and_optimizer_ready_to_train(tmp_path):
    model = mlp(THEIRS, 10, activation="Sigmoid")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = torch.tensor(X), torch.tensor(Y)
    found = repair(model, torch.nn.functional.cross_entropy, (x[:64], y[:64]), optimizer=optimizer, data=(x, y))
    assert found.cured
    assert isinstance(found.model, torch.nn.Module)
    losses = []
    for start in [*range(0, 1600, 64)] * 3:
        found.optimizer.zero_grad()
        loss = found.loss_fn(found.model(x[start : start + 64]), y[start : start + 64])
        loss.backward()
        found.optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    torch.save(found.model, tmp_path / "whole.pt")  # the modules put in can be saved
    again = torch.load(tmp_path / "whole.pt", weights_only=False)
    torch.testing.assert_close(again.eval()(x), found.model.eval()(x))


def test_a_transformer_layers_activation_is_refused_because_it_is_called_as_a_function():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.TransformerEncoderLayer(16, 2, 32, activation=torch.tanh, batch_first=True)
            self.out = torch.nn.Linear(16, 10)

        def forward(self, x):
            return self.out(self.inner(x.reshape(len(x), 4, 16)).mean(1))

    torch.manual_seed(0)
    with pytest.raises(CannotApply, match="tanh is called as a function"):
        cured(examined(THEIRS, Network(), X, Y), "activation", "vanishing-gradient")


def test_a_nan_made_by_a_module_that_prepares_the_data_is_repaired_behind_it():
    class Logarithm(torch.nn.Module):
        def forward(self, x):
            return -x.log()

    x, y = digits(256)
    x = torch.tensor(np.abs(x) * (x > 0))
    torch.manual_seed(0)
    model = torch.nn.Sequential(Logarithm(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batch = (x[:64], torch.tensor(y[:64]))
    found = repair(model, torch.nn.functional.cross_entropy, batch, optimizer=optimizer, steps=12)
    assert found.cured
    assert torch.isfinite(found.loss_fn(found.model(batch[0]), batch[1]))


class Cut(torch.nn.Module):
    """A network whose two layers `between` cuts apart."""

    def __init__(self, between):
        super().__init__()
        self.first, self.out = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)
        self.between = between

    def forward(self, x):
        return self.out(self.between(self.first(x)))


def gradients(model):
    torch.nn.functional.cross_entropy(model(torch.as_tensor(X[:64])), torch.as_tensor(Y[:64])).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    "between",
    [
        lambda h: torch.from_numpy(h.tanh().detach().numpy()),
        lambda h: torch.tensor(np.array(h.tanh().detach().numpy())),
        lambda h: torch.as_tensor(h.tanh().numpy(force=True).reshape(-1, 4, 4)).reshape(-1, 16),
        lambda h: torch.tensor(h.tanh().tolist()),
        lambda h: h.new_tensor(h.tanh().data.numpy().astype(np.float64)),
    ],
    ids=["array", "copy", "reshaped", "list", "of another type"],
)
def test_what_comes_back_from_numpy_is_the_tensor_it_came_from(between):
    torch.manual_seed(0)
    report = examined(THEIRS, Cut(between), X[:64], Y[:64])
    treatment = cured(report, "gradient-path", "detached-graph")
    assert "a conversion to NumPy and back" in treatment.words[0]
    torch.manual_seed(0)
    for ours, theirs in zip(gradients(treatment.subject.model), gradients(Cut(torch.tanh)), strict=True):
        torch.testing.assert_close(ours, theirs)
