"""The data: digits, blobs, circles, text and regression, as plain arrays that every network is trained on.

Each is small and can be learned by a small network in a few hundred steps, and each is split once: the first part is
trained on, the second is what scores are measured on.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from chainrule.data import load_digits

#: The characters of the texts: what is none of them counts as the last.
ALPHABET = string.ascii_lowercase + " ."
#: How many characters a network reads.
CONTEXT = 16


@dataclass(frozen=True)
class Problem:
    """Inputs and what to make of them.

    Attributes:
        name: of the data: digits, blobs, circles, text, regression, or one of its own.
        inputs, targets: to train on; float32 numbers (or characters as integers), and integer classes, one or one
            per step, or float32 columns.
        held_out_inputs, held_out_targets: to measure on.
        outputs: how many numbers a network gives for an example: one per class or column, or one.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    held_out_inputs: np.ndarray
    held_out_targets: np.ndarray
    outputs: int

    @property
    def features(self) -> int:
        """Length of the inputs' last axis."""
        return self.inputs.shape[-1]

    def with_inputs(self, change: Callable[[np.ndarray], np.ndarray]) -> Problem:
        """The same problem, all of its inputs changed."""
        return replace(self, inputs=change(self.inputs), held_out_inputs=change(self.held_out_inputs))

    def with_targets(self, change: Callable[[np.ndarray], np.ndarray]) -> Problem:
        """The same problem, all of its targets changed."""
        return replace(self, targets=change(self.targets), held_out_targets=change(self.held_out_targets))


def split(name: str, inputs: Any, targets: Any, outputs: int, train: int) -> Problem:
    """A problem whose first `train` examples are trained on, and whose others are held out."""
    inputs = np.asarray(inputs, np.int64 if np.asarray(inputs).dtype.kind == "i" else np.float32)
    targets = np.asarray(targets, np.int64 if np.asarray(targets).dtype.kind == "i" else np.float32)
    return Problem(name, inputs[:train], targets[:train], inputs[train:], targets[train:], outputs)


@cache
def digits() -> Problem:
    """Handwritten digits as rows of 64 pixels from 0 to 1; ten classes."""
    images, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    return split("digits", images.reshape(-1, 64)[order], labels[order], 10, 1200)


def digits_of_shape(*shape: int) -> Problem:
    """The digits, their pixels arranged like this."""
    return digits().with_inputs(lambda inputs: inputs.reshape(-1, *shape))


def digit_images() -> Problem:
    """The digits as images, (1, 8, 8)."""
    return digits_of_shape(1, 8, 8)


def digit_rows() -> Problem:
    """The digits read row by row: 8 steps of 8 pixels."""
    return digits_of_shape(8, 8)


def digit_scan() -> Problem:
    """The digits read in small pieces: 32 steps of 2 pixels."""
    return digits_of_shape(32, 2)


@cache
def blobs() -> Problem:
    """Clouds around five points of six dimensions, (6,), which touch each other; five classes."""
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 1.6, (5, 6))
    labels = rng.integers(0, 5, 1000)
    return split("blobs", centres[labels] + rng.normal(0, 0.8, (1000, 6)), labels, 5, 700)


@cache
def circles() -> Problem:
    """Points of the plane on two rings about the origin; two classes."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 1000)
    angle = rng.uniform(0, 2 * np.pi, 1000)
    radius = np.where(labels == 1, 0.7, 1.4) + rng.normal(0, 0.1, 1000)
    return split("circles", radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels, 2, 700)


def binary_circles() -> Problem:
    """The rings with one output: targets are 0.0 or 1.0, in a column."""
    return replace(circles().with_targets(lambda labels: labels[:, None].astype(np.float32)), outputs=1)


@cache
def friedman() -> Problem:
    """A smooth function of five of ten features, with noise; inputs and targets standardised.

    Source: Friedman 1991, "Multivariate Adaptive Regression Splines", equation 61.
    """
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, (1200, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y += rng.normal(0, 0.5, 1200)
    return split("regression", (x - 0.5) * np.sqrt(12), ((y - y.mean()) / y.std())[:, None], 1, 900)


@cache
def signals() -> Problem:
    """Noisy waves of 24 steps, (24, 1); the target is their frequency, standardised."""
    rng = np.random.default_rng(4)
    frequency = rng.uniform(0.5, 2.5, 1000)
    phase = rng.uniform(0, 2 * np.pi, 1000)
    time = np.arange(24) / 24
    waves = np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None]) + rng.normal(0, 0.05, (1000, 24))
    target = (frequency - frequency.mean()) / frequency.std()
    return split("regression", waves[:, :, None], target[:, None], 1, 700)


@cache
def _characters() -> np.ndarray:
    """The help texts of Python, which come with it, as numbers of characters of `ALPHABET`."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics)).lower()[:200_000]
    number = {character: place for place, character in enumerate(ALPHABET)}
    return np.array([number.get(character, len(ALPHABET) - 1) for character in text])


def excerpts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the text, (12000, CONTEXT), and the character that follows each."""
    text = _characters()
    starts = np.random.default_rng(seed).integers(0, len(text) - CONTEXT, 12_000)
    return text[starts[:, None] + np.arange(CONTEXT)], text[starts + CONTEXT]


@cache
def text() -> Problem:
    """Which of the 28 characters follows 16 characters of English."""
    pieces, following = excerpts(5)
    return split("text", pieces, following, len(ALPHABET), 11_000)


@cache
def recall() -> Problem:
    """What the first of 16 characters of English was: a space, a vowel, a consonant or something else."""
    pieces, _ = excerpts(6)
    kinds = np.array([0 if c == " " else 1 if c in "aeiou" else 3 if c == "." else 2 for c in ALPHABET])
    return split("text", pieces, kinds[pieces[:, 0]], 4, 11_000)
