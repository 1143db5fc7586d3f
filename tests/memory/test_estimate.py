"""`cr.memory(...).estimate`: the account of networks that no machine here could run."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compile import TraceError, Unsupported


def test_the_activations_of_96_layers_of_width_12288_are_309_gigabytes():
    """The example of the theory: batch 32, sequence 2048, float32: 3.2 GB a layer."""
    with nn.init.without_values():
        model = nn.Sequential(*[nn.Linear(12288, 12288) for _ in range(96)])
    account = cr.memory(model).estimate((32, 2048, 12288))
    one = 32 * 2048 * 12288 * 4
    assert f"{one / 1e9:.1f}" == "3.2"
    assert account.nbytes == 96 * one
    assert f"{account.nbytes / 1e9:.0f}" == "309"
    assert "keeps 309.2 GB for the backward pass (estimated from shapes)" in str(account)


def test_checkpoints_and_budgets_can_be_estimated_for_it():
    with nn.init.without_values():
        layers = [nn.Linear(12288, 12288) for _ in range(96)]
    one = 32 * 2048 * 12288 * 4
    plain = cr.memory(nn.Sequential(*layers)).estimate((32, 2048, 12288)).savings[0]
    checked = cr.memory(nn.Sequential(*layers, checkpoint="sqrt")).estimate((32, 2048, 12288))
    assert checked.nbytes == plain.after == 16 * one  # ten inputs of pieces of 9, and the last 6 layers
    budget = cr.memory(nn.Sequential(*layers, checkpoint=cr.MemoryBudget(60e9))).estimate((32, 2048, 12288))
    assert budget.nbytes <= 60e9
    with pytest.raises(ValueError, match=f"need at least {plain.least:,} bytes"):
        cr.memory(nn.Sequential(*layers, checkpoint=cr.MemoryBudget(30e9))).estimate((32, 2048, 12288))


def test_a_large_transformer_with_dropout_can_be_estimated():
    with nn.init.without_values():
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(12288, 96, 49152, batch_first=True), 4)
    account = cr.memory(model).estimate((32, 2048, 12288))
    scores = 32 * 96 * 2048 * 2048 * 4
    assert account.nbytes > 4 * scores


def test_integers_are_given_with_their_dtype():
    with nn.init.without_values():
        model = nn.Sequential(nn.Embedding(50_000, 4096, padding_idx=0), nn.Linear(4096, 50_000))
    account = cr.memory(model).estimate(((64, 1024), "int64"))
    assert account.input_nbytes == 64 * 1024 * 8
    assert account.nbytes == 64 * 1024 * (8 + 1 + 4096 * 4)  # indices, which are padding, and rows
    tokens = np.broadcast_to(np.int64(0), (64, 1024))
    assert cr.memory(model).estimate(tokens).nbytes == account.nbytes


def test_parameters_in_float64_make_an_estimate_in_float64():
    assert cr.memory(nn.Linear(8, 4).double()).estimate((16, 8)).nbytes == 16 * 8 * 8


def test_a_plain_function_can_be_estimated_with_several_shapes():
    account = cr.memory(lambda x, w: np.tanh(x @ w).sum()).estimate((10**6, 10**3), ((10**3, 10**4), np.float64))
    assert account.nbytes == 4 * 10**9 + 8 * 10**7 + 8 * 10**10


def test_a_network_without_values_prints_and_counts_but_does_not_compute():
    with nn.init.without_values():
        model = nn.MLP(4, 8, 2, depth=3, residual=True, norm="batch", init="orthogonal")
        nn.LSTM(4, 8).reset_recurrent_orthogonal()
    assert "parameters" in repr(model)
    with pytest.raises(TypeError, match=r"nn\.init\.without_values\(\)"):
        model(np.zeros((3, 4), np.float32))
    assert nn.Linear(2, 2).weight.detach().numpy().any()


def test_a_function_that_asks_for_values_is_refused():
    def f(x):
        return x.sum() if x.sum() > 0 else x.mean()

    with pytest.raises(TraceError, match=r"memory: the truth .* at .*test_estimate\.py:\d+, but an estimate follows"):
        cr.memory(f).estimate((3,))


def test_an_operation_without_a_form_for_shapes_is_refused():
    with pytest.raises(Unsupported, match=r"memory: .*cholesky.*Call the account with arrays"):
        cr.memory(lambda x: np.linalg.cholesky(x).sum()).estimate((3, 3))


@pytest.mark.parametrize("shape", ["12", 3, (2, -1), (2, 3.5), ((2, 3), "no dtype"), None])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(TypeError, match="memory: argument 0 of estimate must be a shape"):
        cr.memory(nn.Linear(3, 3)).estimate(shape)


def test_an_input_that_does_not_fit_names_the_module():
    with pytest.raises(ValueError, match="does not fit") as caught:
        cr.memory(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6))).estimate((2, 3))
    assert caught.value.__notes__ == ["in module 1 (Linear)"]
