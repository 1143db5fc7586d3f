"""`detect_anomaly` names the operation and the line that first made a NaN or infinity."""

import numpy as np
import pytest

import chainrule as cr

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_forward_names_the_operation_and_the_line():
    t = cr.tensor([1.0, -1.0], requires_grad=True)
    with (
        cr.detect_anomaly(),
        pytest.raises(cr.AnomalyError, match=r"(?s)^log made.*test_anomaly\.py:\d+, in test_forward"),
    ):
        np.log(t)


def test_backward_names_the_operation_and_the_line_that_recorded_it():
    t = cr.tensor([0.0, 1.0], requires_grad=True)
    with cr.detect_anomaly():
        y = np.sqrt(t)  # the value is fine, its derivative at 0 is not
        z = (y * 2).sum()
        with pytest.raises(cr.AnomalyError, match=r"gradient of sqrt.*test_anomaly\.py:\d+, in test_backward"):
            z.backward()


def test_outside_nothing_is_raised():
    t = cr.tensor([0.0, 1.0], requires_grad=True)
    np.sqrt(t).sum().backward()
    assert np.isinf(t.grad.numpy()[0])


def test_it_ends_with_the_block_even_after_an_error():
    t = cr.tensor([-1.0], requires_grad=True)
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly():
        np.log(t)
    assert np.isnan(np.log(t).item())


def test_functional_transforms_are_watched_too():
    with cr.detect_anomaly(), pytest.raises(cr.AnomalyError, match="sqrt"):
        cr.grad(lambda x: np.sqrt(x).sum())(np.zeros(2))
