"""Losses are their formulas, reduce as asked, have the right gradients, and refuse what does not fit."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

F = nn.functional
LOGITS = np.random.default_rng(0).standard_normal((4, 3))
TARGETS = np.array([0, 2, 1, 2])


def log_softmax(z):
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    "loss, expected",
    [
        (nn.MSELoss(), [0.25, 9]),
        (nn.L1Loss(), [0.5, 3]),
        (nn.HuberLoss(), [0.125, 2.5]),
        (nn.HuberLoss(delta=2.0), [0.125, 4]),
        (nn.SmoothL1Loss(), [0.125, 2.5]),
        (nn.SmoothL1Loss(beta=2.0), [0.0625, 2]),
        (nn.SmoothL1Loss(beta=0.0), [0.5, 3]),
    ],
    ids=repr,
)
def test_a_distance_is_its_formula_averaged_summed_or_kept(loss, expected):
    input, target = np.array([1.5, -1.0]), np.array([1.0, 2.0])
    for reduction, reduced in (("mean", np.mean(expected)), ("sum", np.sum(expected)), ("none", expected)):
        loss.reduction = reduction
        np.testing.assert_allclose(loss(input, target).data, reduced, rtol=1e-12)


def test_binary_cross_entropy_is_its_formula_on_probabilities_and_on_logits():
    p, t = np.array([0.2, 0.9]), np.array([0.0, 0.75])
    expected = -t * np.log(p) - (1 - t) * np.log(1 - p)
    np.testing.assert_allclose(F.binary_cross_entropy(p, t, reduction="none").data, expected, rtol=1e-12)
    z = np.log(p / (1 - p))
    np.testing.assert_allclose(F.binary_cross_entropy_with_logits(z, t, reduction="none").data, expected, rtol=1e-12)


def test_binary_cross_entropy_with_logits_does_not_overflow():
    losses = nn.BCEWithLogitsLoss(reduction="none")(np.array([1000.0, -1000.0]), np.array([0.0, 0.0]))
    np.testing.assert_array_equal(losses.data, [1000, 0])


def test_binary_cross_entropy_cuts_logarithms_off_at_minus_100_with_finite_gradients():
    p = cr.tensor([0.0, 1.0, 1e-60], requires_grad=True)
    losses = F.binary_cross_entropy(p, np.array([1.0, 0.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(losses.data, [100, 100, 100])
    losses.sum().backward()
    assert np.isfinite(p.grad.data).all()


def test_pos_weight_multiplies_the_loss_of_positives_alone():
    z, t = np.array([0.3, -2.0]), np.array([1.0, 0.0])
    plain = F.binary_cross_entropy_with_logits(z, t, reduction="none").data
    weighted = F.binary_cross_entropy_with_logits(z, t, reduction="none", pos_weight=np.array(5.0)).data
    np.testing.assert_allclose(weighted, plain * [5, 1], rtol=1e-12)


def test_cross_entropy_is_minus_the_log_probability_of_the_target():
    rows = -log_softmax(LOGITS)[np.arange(4), TARGETS]
    for reduction, expected in (("none", rows), ("sum", rows.sum()), ("mean", rows.mean())):
        np.testing.assert_allclose(F.cross_entropy(LOGITS, TARGETS, reduction=reduction).data, expected, rtol=1e-12)
        log_p = F.log_softmax(LOGITS, 1)
        np.testing.assert_allclose(F.nll_loss(log_p, TARGETS, reduction=reduction).data, expected, rtol=1e-12)


def test_class_weights_weigh_rows_and_the_mean_divides_by_their_sum():
    weight = np.array([1.0, 2.0, 5.0])
    rows = -log_softmax(LOGITS)[np.arange(4), TARGETS] * weight[TARGETS]
    np.testing.assert_allclose(F.cross_entropy(LOGITS, TARGETS, weight, reduction="none").data, rows, rtol=1e-12)
    np.testing.assert_allclose(nn.CrossEntropyLoss(weight)(LOGITS, TARGETS).data, rows.sum() / 13, rtol=1e-12)
    assert list(nn.CrossEntropyLoss(weight).state_dict()) == ["weight"]


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_ignored_rows_count_nothing_whether_or_not_their_number_is_a_class(ignore_index):
    targets = np.array([0, ignore_index, 1, ignore_index])
    z = cr.tensor(LOGITS, requires_grad=True)
    loss = F.cross_entropy(z, targets, ignore_index=ignore_index)
    np.testing.assert_allclose(loss.data, F.cross_entropy(LOGITS[[0, 2]], targets[[0, 2]]).data, rtol=1e-12)
    loss.backward()
    np.testing.assert_array_equal(z.grad.data[[1, 3]], 0)
    rows = F.cross_entropy(LOGITS, targets, ignore_index=ignore_index, reduction="none").data
    np.testing.assert_array_equal(rows[[1, 3]], 0)


def test_label_smoothing_is_cross_entropy_with_smoothed_probabilities():
    smooth = 0.8 * np.eye(3)[TARGETS] + 0.2 / 3
    expected = -(smooth * log_softmax(LOGITS)).sum(axis=-1).mean()
    np.testing.assert_allclose(F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2).data, expected, rtol=1e-12)
    np.testing.assert_allclose(F.cross_entropy(LOGITS, smooth).data, expected, rtol=1e-12)
    one_hot = np.eye(3)[TARGETS]
    np.testing.assert_allclose(F.cross_entropy(LOGITS, one_hot, label_smoothing=0.2).data, expected, rtol=1e-12)


def test_classes_are_on_axis_1_of_inputs_with_more_axes_and_on_axis_0_of_a_vector():
    z = np.random.default_rng(1).standard_normal((2, 3, 4))
    targets = np.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    rows = F.cross_entropy(z, targets, reduction="none").data
    assert rows.shape == (2, 4)
    np.testing.assert_allclose(rows[1, 2], -log_softmax(z[1, :, 2])[1], rtol=1e-12)
    np.testing.assert_allclose(F.cross_entropy(z[0, :, 0], np.array(2)).data, -log_softmax(z[0, :, 0])[2], rtol=1e-12)


def test_a_masked_class_with_logit_minus_infinity_does_no_harm_where_it_is_not_the_target():
    z = np.array([[0.0, 0.0, -np.inf]])
    for options in ({}, {"weight": np.ones(3)}, {"ignore_index": 2}):
        np.testing.assert_allclose(F.cross_entropy(z, np.array([0]), **options).data, np.log(2), rtol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(np.array([1.0, 2.0, 5.0]), label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="none", ignore_index=1),
        nn.NLLLoss(np.array([1.0, 2.0, 5.0])),
    ],
    ids=repr,
)
def test_classification_losses_have_the_right_gradients(loss):
    cr.check_grads(lambda z: loss(z, TARGETS), (LOGITS,), order=2)


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.L1Loss(reduction="sum"),
        nn.HuberLoss(delta=0.7),
        nn.SmoothL1Loss(beta=0.7),
        nn.BCEWithLogitsLoss(pos_weight=2.0),
        nn.BCEWithLogitsLoss(weight=np.array([1.0, 2.0, 5.0])),
        lambda p, t: nn.BCELoss()(F.sigmoid(p), t),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(np.array([1.0, 2.0, 5.0]), label_smoothing=0.1, reduction="sum"),
    ],
    ids=lambda loss: "BCELoss of a sigmoid" if callable(loss) and not isinstance(loss, nn.Module) else repr(loss),
)
def test_losses_have_the_right_gradients_with_respect_to_predictions_and_targets(loss):
    targets = np.random.default_rng(1).dirichlet(np.ones(3), size=4)
    cr.check_grads(loss, (LOGITS, targets), order=2)


@pytest.mark.parametrize(
    "loss",
    [F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits],
)
def test_a_column_against_a_vector_is_an_error_and_no_matrix(loss):
    with pytest.raises(
        ValueError, match=rf"{loss.__name__}|huber_loss: the input has shape \(3, 1\), the target \(3,\)"
    ):
        loss(np.full((3, 1), 0.5), np.full(3, 0.5))


def test_targets_and_weights_do_not_promote_a_float32_loss():
    x = np.zeros((2, 2), np.float32)
    for loss in (
        F.mse_loss(x, np.ones((2, 2))),
        F.binary_cross_entropy_with_logits(x, np.array([[0, 1], [1, 0]]), weight=np.ones(2), pos_weight=np.ones(2)),
        F.cross_entropy(x, np.array([0, 1]), np.ones(2), label_smoothing=0.1),
        F.cross_entropy(x, np.full((2, 2), 0.5)),
    ):
        assert loss.dtype == np.float32


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.cross_entropy(LOGITS, np.array([0, 1, 2, 3])), ValueError, "but the logits have classes 0 to 2"),
        (lambda: F.cross_entropy(LOGITS, np.array([0, -1, 2, 1])), ValueError, "targets run from -1 to 2"),
        (lambda: F.nll_loss(LOGITS, np.array([0, 1, 2, 3])), ValueError, "nll_loss: targets run from 0 to 3"),
        (lambda: F.cross_entropy(LOGITS, np.array([0, 1])), ValueError, r"need targets of shape \(4,\), got \(2,\)"),
        (lambda: F.cross_entropy(LOGITS, np.ones(4, bool)), TypeError, "class indices"),
        (lambda: F.cross_entropy(LOGITS, np.ones(4)), ValueError, r"must have the shape of the logits, \(4, 3\)"),
        (lambda: F.cross_entropy(LOGITS, TARGETS, np.ones(2)), ValueError, "one factor for each of the 3 classes"),
        (lambda: F.cross_entropy(LOGITS, TARGETS, label_smoothing=2), ValueError, "label_smoothing must be from 0"),
        (lambda: F.mse_loss(LOGITS, LOGITS, "average"), ValueError, "'mean', 'sum' or 'none', got 'average'"),
        (lambda: nn.L1Loss("average"), ValueError, "L1Loss: reduction"),
        (lambda: F.binary_cross_entropy(LOGITS, LOGITS), ValueError, "must be probabilities"),
        (lambda: F.huber_loss(LOGITS, LOGITS, delta=0), ValueError, "delta must be positive"),
        (lambda: F.smooth_l1_loss(LOGITS, LOGITS, beta=-1), ValueError, "beta must not be negative"),
    ],
)  # fmt: skip
def test_a_loss_says_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()
