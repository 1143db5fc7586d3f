"""Data besides those of the first part: other forms of them, and new ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from clinic.problems import Problem, digits, digits_of_shape, excerpts, split, text

#: How many numbers of goods there are, most of which are rarely sold.
GOODS = 300

# Digits -------------------------------------------------------------------------------------------------------------


def standard_digits() -> Problem:
    """The digits, their pixels standardised by one mean and one spread, as people do with images."""
    centre, spread = digits().inputs.mean(), digits().inputs.std()
    return digits().with_inputs(lambda inputs: (inputs - centre) / spread)


def digit_columns() -> Problem:
    """The digits read from left to right: 8 steps of 8 pixels."""
    return digits_of_shape(8, 8).with_inputs(lambda inputs: np.ascontiguousarray(inputs.swapaxes(1, 2)))


def digit_patches() -> Problem:
    """The digits in four patches of 16 pixels."""

    def patches(inputs: np.ndarray) -> np.ndarray:
        return inputs.reshape(-1, 2, 4, 2, 4).swapaxes(2, 3).reshape(-1, 4, 16)

    return digits().with_inputs(patches)


def odd_digits() -> Problem:
    """Whether a digit is odd, 0.0 or 1.0 in a column."""
    return replace(digits().with_targets(lambda labels: (labels % 2)[:, None].astype(np.float32)), outputs=1)


def mislabelled_digits() -> Problem:
    """The digits, 15% of which bear a label of any kind in training."""
    rng = np.random.default_rng(20)
    labels = digits().targets
    return replace(
        digits(), targets=np.where(rng.uniform(size=len(labels)) < 0.15, rng.integers(0, 10, len(labels)), labels)
    )


@cache
def pairs() -> Problem:
    """Two digits, (2, 64); is the first one the larger number? 0.0 or 1.0 in a column."""
    rng = np.random.default_rng(21)

    def paired(inputs: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = rng.integers(0, len(labels), (2, count))
        return np.stack([inputs[first], inputs[second]], 1), (labels[first] > labels[second]).astype(np.float32)[
            :, None
        ]

    of_digits = digits()
    inputs, targets = paired(of_digits.inputs, of_digits.targets, 4000)
    held_out_inputs, held_out_targets = paired(of_digits.held_out_inputs, of_digits.held_out_targets, 600)
    return Problem("pairs", inputs, targets, held_out_inputs, held_out_targets, 1)


def images() -> Problem:
    """The digits' pixels, to be given back as they are."""
    it = digits()
    return Problem("images", it.inputs, it.inputs, it.held_out_inputs, it.held_out_inputs, 64)


# Points -------------------------------------------------------------------------------------------------------------


def _clouds(name: str, seed: int, shares: tuple[float, ...], features: int, distance: float) -> Problem:
    """Normal clouds around centres that are `distance` from the origin; each class has its share of the examples."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(shares), features))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    labels = rng.choice(len(shares), 1500, p=shares)
    return split(name, centres[labels] + rng.normal(0, 1, (1500, features)), labels, len(shares), 1000)


@cache
def clouds() -> Problem:
    """Clouds around eight points of 20 dimensions; eight classes."""
    return _clouds("blobs", 22, (1 / 8,) * 8, 20, 4.2)


@cache
def rare_clouds() -> Problem:
    """Three clouds, of which one has 80% of the examples and one 5%."""
    return _clouds("imbalanced", 23, (0.8, 0.15, 0.05), 8, 3.5)


@cache
def overlapping_clouds() -> Problem:
    """Four clouds so near each other that nobody can tell them apart in a third of all examples."""
    return _clouds("overlapping", 24, (1 / 4,) * 4, 8, 1.6)


@cache
def rings() -> Problem:
    """Points on three rings about the origin; three classes."""
    rng = np.random.default_rng(25)
    labels = rng.integers(0, 3, 1200)
    angle = rng.uniform(0, 2 * np.pi, 1200)
    radius = 0.5 + 0.6 * labels + rng.normal(0, 0.08, 1200)
    return split("circles", radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels, 3, 800)


@cache
def moons() -> Problem:
    """Two half moons that reach into each other; one output, 0.0 or 1.0 in a column."""
    rng = np.random.default_rng(26)
    lower = rng.integers(0, 2, 1000)
    angle = rng.uniform(0, np.pi, 1000)
    points = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.where(lower[:, None] == 1, [1.0, 0.4] - points, points) + rng.normal(0, 0.1, (1000, 2))
    return split("moons", points - [0.5, 0.2], lower[:, None].astype(np.float32), 1, 700)


@cache
def spirals() -> Problem:
    """Three arms of a spiral; three classes."""
    rng = np.random.default_rng(27)
    labels = rng.integers(0, 3, 1500)
    way = rng.uniform(0.15, 1, 1500)
    angle = 4 * way + 2 * np.pi / 3 * labels + rng.normal(0, 0.1, 1500)
    return split("spirals", 2 * way[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels, 3, 1000)


# Numbers ------------------------------------------------------------------------------------------------------------


@cache
def arm() -> Problem:
    """Where the hand of an arm with three joints is, (2,), from the angles of the joints."""
    rng = np.random.default_rng(28)
    joints = rng.uniform(-1.5, 1.5, (1500, 3))
    angle = np.cumsum(joints, 1)
    hand = np.stack([np.cos(angle).sum(1), np.sin(angle).sum(1)], 1)
    return split("regression", joints, hand - hand.mean(0), 2, 1100)


@cache
def noisy() -> Problem:
    """A sum of waves of which the noise hides nearly half the variance; nobody can explain more."""
    rng = np.random.default_rng(29)
    x = rng.uniform(-1, 1, (2000, 6))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + x[:, 3]
    y = y / y.std() + rng.normal(0, 0.9, 2000)
    return split("noisy", x * np.sqrt(3), y[:, None], 1, 1600)


@cache
def ratings() -> Problem:
    """Stars from 1.0 to 5.0 in a column, from twelve features."""
    rng = np.random.default_rng(30)
    x = rng.normal(size=(1500, 12))
    liking = x[:, :4].sum(1) / 2 + 0.8 * np.tanh(2 * x[:, 4]) + rng.normal(0, 0.2, 1500)
    return split("ratings", x, np.clip(np.round(3 + 1.3 * liking), 1, 5)[:, None], 1, 1100)


# Sequences ----------------------------------------------------------------------------------------------------------


@cache
def waves() -> Problem:
    """Noisy waves of 24 steps, (24, 1): sines, squares, saw teeth or triangles; four classes."""
    rng = np.random.default_rng(31)
    labels = rng.integers(0, 4, 1500)
    turns = rng.uniform(1.5, 2.5, (1500, 1)) * np.arange(24) / 24 + rng.uniform(0, 1, (1500, 1))
    saw = 2 * (turns % 1) - 1
    shapes = np.stack([np.sin(2 * np.pi * turns), np.sign(saw), saw, 2 * np.abs(saw) - 1])
    noise = rng.normal(0, 0.1, (1500, 24))
    return split("waves", (shapes[labels, np.arange(1500)] + noise)[:, :, None], labels, 4, 1100)


def wave_pieces() -> Problem:
    """The waves in six pieces of four steps."""
    return waves().with_inputs(lambda inputs: inputs.reshape(-1, 6, 4))


@cache
def copy() -> Problem:
    """Three letters out of five, then seven blanks; in the last three steps the letters are to be said again."""
    rng = np.random.default_rng(32)
    letters = rng.integers(1, 6, (3000, 3))
    return split("copy", np.concatenate([letters, np.zeros((3000, 7), int)], 1), letters, 6, 2500)


def sentences() -> Problem:
    """Which character follows each of 16 characters of English."""
    read = text()

    def following(pieces: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.concatenate([pieces[:, 1:], last[:, None]], 1)

    return replace(
        read,
        targets=following(read.inputs, read.targets),
        held_out_targets=following(read.held_out_inputs, read.held_out_targets),
    )


@cache
def scrambled() -> Problem:
    """Whether 16 characters are English or were shuffled, 1.0 or 0.0 in a column."""
    rng = np.random.default_rng(33)
    pieces, _ = excerpts(34)
    english = rng.integers(0, 2, len(pieces))
    pieces = np.where(english[:, None] == 1, pieces, rng.permuted(pieces, axis=1))
    return split("scrambled", pieces, english[:, None].astype(np.float32), 1, 11_000)


# Tables -------------------------------------------------------------------------------------------------------------


@cache
def baskets() -> Problem:
    """Six numbers of goods, most of which are rarely sold; which of four departments most of them are from."""
    rng = np.random.default_rng(35)
    department = rng.integers(0, 4, GOODS)
    sold = 1 / np.arange(1, GOODS + 1)
    goods = rng.choice(GOODS, (4000, 6), p=sold / sold.sum())
    counts = np.stack([(department[goods] == one).sum(1) for one in range(4)], 1)
    return split("baskets", goods, counts.argmax(1), 4, 3400)
