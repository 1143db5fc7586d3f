"""The bench that remedies are tried on: copies that train side by side, and which of them go on."""

import math
from itertools import islice

import numpy as np
import pytest
from sick_networks import Framework, digits, mlp, numbers

from chainrule import nn, optim
from chainrule.doctor.bench import LEGS, Bench, Outcome, Trainee, better, front, order
from chainrule.doctor.scores import NONE, Score, score_of
from chainrule.doctor.training import silent, split_of

OURS = Framework(nn, optim, lambda a: a, nn.random.manual_seed)
X, Y = digits(400)


def patient(lr=0.05, **options):
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=lr, **options)
    return OURS.subject(model, nn.functional.cross_entropy, X[:32], Y[:32], optimizer=optimizer, data=(X, Y))


def bench(subject, steps=40, data=True):
    return Bench(subject, split_of(subject) if data else None, steps, 0, silent)


def weights(trainee):
    return [numbers(parameter) for _, parameter in trainee.copy.parameters()]


def test_a_copy_trained_in_legs_is_the_one_trained_in_one_go():
    subject = patient(momentum=0.9)
    here = bench(subject)
    one, other = here.trainee(subject), here.trainee(subject)
    here.train(one, 30)
    for steps in (7, 15, 30):
        here.train(other, steps)
    assert one.outcome.steps == other.outcome.steps == 30
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_copies_see_the_batches_of_a_loop_by_hand():
    subject = patient()
    here = bench(subject)
    trainee = here.trainee(subject)
    here.train(trainee, 12)
    copy = subject.copy()
    for batch in islice(here.batches(), 12):
        copy.step(batch)
    for (_, expected), found in zip(copy.parameters(), weights(trainee), strict=True):
        np.testing.assert_array_equal(found, numbers(expected))


@pytest.mark.parametrize(("factor", "warms_up"), [(1.0, True), (3.0, False)])
def test_a_copy_warms_up_like_the_schedule_while_its_rate_is_the_schedules(factor, warms_up):
    subject = patient(lr=0.4)
    schedule = optim.lr_scheduler.LambdaLR(subject.optimizer, lambda step: min(1, (step + 1) / 8))
    first = subject.optimizer.param_groups[0]["lr"]
    copy = subject.copy()
    copy.optimizer.param_groups[0]["lr"] = factor * first
    here = bench(subject)
    trainee = here.trainee(copy)
    here.train(trainee, 12)
    reached = trainee.copy.optimizer.param_groups[0]["lr"]
    assert schedule.base_lrs == [0.4]
    assert reached == pytest.approx(0.4 if warms_up else factor * first)


def test_a_copy_comes_to_rest_at_a_tenth_of_its_rate_and_swings_no_more():
    here = bench(patient())
    swinging, resting = here.trainee(patient(lr=1.0)), here.trainee(patient(lr=1.0))
    for trainee in (swinging, resting):
        here.train(trainee, 40)
    here.train(swinging, 80)
    here.cool(resting, 80)
    assert resting.copy.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert (swinging.outcome.steps, resting.outcome.steps) == (80, 80)
    assert resting.outcome.loss < swinging.outcome.loss


def test_training_a_copy_leaves_the_network_and_the_random_numbers_as_they_were():
    subject = patient()
    before, drawn = [numbers(p) for _, p in subject.parameters()], nn.random.get_rng_state()
    here = bench(subject)
    here.race([here.trainee(subject), here.trainee(subject)])
    assert nn.random.get_rng_state() == drawn
    for (_, parameter), old in zip(subject.parameters(), before, strict=True):
        np.testing.assert_array_equal(numbers(parameter), old)


def test_those_that_fall_behind_are_given_up_and_the_best_is_not():
    here = bench(patient())
    rates = [1e-6, 0.05, 1e-5, 0.1, 1e-4, 1e-7]
    trainees = [here.trainee(patient(lr)) for lr in rates]
    here.race(trainees)
    finished = {lr for lr, trainee in zip(rates, trainees, strict=True) if trainee.outcome.steps == 40}
    assert finished == {0.05, 0.1}
    assert all(t.outcome.steps >= LEGS[0] * 40 for t in trainees)


def test_a_copy_that_diverges_has_no_loss_and_stops():
    subject = patient(lr=1e6)
    here = bench(subject)
    trainee = here.trainee(subject)
    with np.errstate(all="ignore"):
        here.race([trainee])
    assert not trainee.outcome.finite
    assert trainee.outcome.cost == math.inf


def test_a_copy_has_come_to_the_worst_of_what_was_seen_of_it():
    subject = patient()
    here = bench(subject, data=False)
    trainee = here.trainee(subject)
    here.train(trainee, 10)
    copy, losses = subject.copy(), {}
    for step in range(1, 11):
        copy.step()
        losses[step] = float(copy.run()[1].detach())
    assert trainee.outcome.loss == pytest.approx(max(losses[k] for k in (8, 9, 10)), rel=1e-5)


def test_a_network_with_longer_batches_is_trained_on_those():
    subject = patient()
    longer = subject.with_(batch=(X[:50], Y[:50]))
    assert [len(next(bench(subject).batches(s))[1]) for s in (subject, longer)] == [32, 50]


def reached(loss, accuracy=math.nan):
    score = NONE if math.isnan(accuracy) else Score("accuracy", accuracy, 0.02)
    return Trainee(None, None, iter(()), Outcome(2.0, loss, score, None, 10))


def test_in_front_are_the_least_losses_and_the_best_answers():
    sure, quick, slow, wild = reached(5.0, 0.9), reached(0.5, 0.6), reached(0.8, 0.6), reached(9.0, 0.1)
    assert front([wild, slow, sure, quick], 3) == [quick, slow, sure]
    assert front([wild, slow, sure, quick], 2) == [quick, sure]
    assert front([wild, slow], 3) == [slow, wild]


def test_outcomes_are_ordered_by_answers_then_by_loss_and_those_that_diverged_come_last():
    outcomes = [
        reached(math.nan).outcome,
        reached(0.9, 0.7).outcome,
        reached(0.5, 0.7).outcome,
        reached(2, 0.8).outcome,
    ]
    ordered = sorted(outcomes, key=order)
    assert [o.loss for o in ordered[:3]] == [2, 0.5, 0.9]
    assert not ordered[3].finite


def test_running_statistics_of_a_copy_in_chainrule_stay_what_training_made_of_them():
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    own = numbers(model[1].running_var)
    x = 5 * np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    optimizer = optim.Adam(model.parameters())
    subject = OURS.subject(model, nn.functional.cross_entropy, x, np.arange(64) % 3, optimizer=optimizer)
    here = bench(subject, steps=50, data=False)
    trainee = here.trainee(subject)
    here.train(trainee, 50)
    seen = numbers(trainee.copy.model[0](x)).var(axis=0, ddof=1)
    np.testing.assert_allclose(numbers(trainee.copy.model[1].running_var), seen, rtol=0.2)
    np.testing.assert_array_equal(numbers(model[1].running_var), own)


def test_answers_no_better_than_one_for_all_examples_are_worth_the_same():
    score = Score("accuracy", 0.06, 0.02, blind=0.12)
    guessing = Outcome(2.3, 2.3, score, None)
    lucky = Outcome(2.3, 2.3, Score("accuracy", 0.10, 0.02, blind=0.12), None)
    knowing = Outcome(2.3, 2.3, Score("accuracy", 0.30, 0.02, blind=0.12), None)
    assert not better(lucky, guessing)
    assert better(knowing, lucky)
    assert [o.tells_nothing for o in (guessing, lucky, knowing)] == [True, True, False]


def test_what_one_answer_for_all_comes_to_is_the_share_of_the_commonest_class():
    targets = np.array([0, 1, 1, 1, 2])
    assert score_of(np.eye(3)[[0, 0, 0, 0, 0]], targets).blind == pytest.approx(3 / 5)
    assert score_of(np.zeros(5), np.array([0.5, 1.5, 2.5, 0.1, 7.0])).blind == 0


def test_what_a_diverged_network_answers_does_not_make_a_good_answer_chance():
    targets = np.random.default_rng(0).normal(size=(200, 1))
    wild = np.random.default_rng(1).normal(size=(200, 1)) ** 9
    found = score_of(wild, targets)
    assert found.value < 0
    assert found.noise < 0.1
    bad, good = (Outcome(1.0, loss, score, None) for loss, score in ((-9.0, found), (0.1, Score("R²", 0.9, 0.03))))
    assert better(good, bad, same_loss=False)
