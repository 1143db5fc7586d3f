"""Backpropagation through time, truncated and measured, against PyTorch's autograd on loops written out."""

import numpy as np
import pytest
import torch

from chainrule import nn

KINDS = ["RNN", "LSTM", "GRU"]


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def both(kind, suffix, *sizes):
    ours = getattr(nn, kind + suffix)(*sizes, dtype=np.float64)
    theirs = getattr(torch.nn, kind + suffix)(*sizes, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 4, 10, 99])
def test_truncated_gradients_are_those_of_a_loop_that_detaches_the_state_after_k_steps(kind, k):
    ours, theirs = both(kind, "", 3, 4, 2)
    x = floats(10, 2, 3)
    chunks = nn.TruncatedBPTT(x, k)
    for chunk in chunks:
        y, chunks.state = ours(chunk, chunks.state)
        (y**2).sum().backward()
    state = None
    for start in range(0, 10, k):
        y, state = theirs(torch.tensor(x[start : start + k]), state)
        (y**2).sum().backward()
        state = tuple(part.detach() for part in state) if kind == "LSTM" else state.detach()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_norms_in_the_report_are_those_of_the_gradients_that_pytorch_retains(kind):
    ours = getattr(nn, kind)(3, 4, dtype=np.float64)
    theirs = getattr(torch.nn, f"{kind}Cell")(3, 4, dtype=torch.float64)
    ours.load_state_dict({f"{name}_l0": value for name, value in theirs.state_dict().items()})
    x = floats(12, 2, 3)
    (time,) = nn.gradient_through_time(ours, lambda: (ours(x)[0][-1] ** 2).sum()).layers
    state, states = None, []
    for step in x:
        state = theirs(torch.tensor(step), state)
        states.append(state if kind == "LSTM" else (state,))
        for part in states[-1]:
            part.retain_grad()
    (states[-1][0] ** 2).sum().backward()
    for values, part in ((time.hidden, 0), (time.cell, 1))[: len(states[0])]:
        np.testing.assert_allclose(values, [float(s[part].grad.norm()) for s in states[::-1]], rtol=1e-9)
    matrix = theirs.weight_hh.detach().chunk(len(time.spectral_radius))
    radii = [float(torch.linalg.eigvals(gate).abs().max()) for gate in matrix]
    np.testing.assert_allclose(list(time.spectral_radius.values()), radii, rtol=1e-9)


def test_the_report_of_a_pytorch_network_is_that_of_its_weights_loaded_here():
    """The gradient that reaches the layer's output there is put in as a loss here."""
    ours, theirs = both("LSTM", "", 3, 4)
    head = torch.nn.Linear(4, 1, dtype=torch.float64)
    x = floats(6, 2, 3)
    y, _ = theirs(torch.tensor(x))
    y.retain_grad()
    head(y[-1]).pow(2).sum().backward()
    g = y.grad.numpy()
    (time,) = nn.gradient_through_time(ours, lambda: (ours(x)[0] * g).sum()).layers
    assert time.hidden[0] == pytest.approx(np.linalg.norm(g[-1]))
    assert time.hidden.all()
