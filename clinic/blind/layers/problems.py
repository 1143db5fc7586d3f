"""Data of their own: tables, counted words, questions about a digit, drawings, pulses, and noise to be taken away."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from clinic.problems import Problem, digit_images, digits, split
from clinic.wider.problems import standard_digits

#: How many kinds there are in the first columns of a census: trades, towns, schools.
LEVELS = (30, 12, 6)
#: How many words the counted texts are made of.
WORDS = 400
#: Which digits have a property: odd, at least five, with a loop, prime, square.
PROPERTIES = ((1, 3, 5, 7, 9), (5, 6, 7, 8, 9), (0, 6, 8, 9), (2, 3, 5, 7), (0, 1, 4, 9))

# Tables -------------------------------------------------------------------------------------------------------------


@cache
def census() -> Problem:
    """Three columns of kinds, as numbers of `LEVELS`, and five of measurements; who earns more, 0.0 or 1.0."""
    rng = np.random.default_rng(50)
    kinds = np.stack([rng.integers(0, level, 3000) for level in LEVELS], 1)
    numbers = rng.normal(size=(3000, 5))
    worth = sum(rng.normal(0, 1.2, level)[column] for level, column in zip(LEVELS, kinds.T, strict=True))
    worth = worth + 1.2 * numbers[:, 0] + numbers[:, 1] * numbers[:, 2] + rng.normal(0, 0.2, 3000)
    earns = (worth > np.median(worth)).astype(np.float32)[:, None]
    return split("census", np.concatenate([kinds, numbers], 1), earns, 1, 2400)


@cache
def fraud() -> Problem:
    """Ten features of payments, of which one in sixteen is a fraud; 0.0 or 1.0 in a column."""
    rng = np.random.default_rng(51)
    false = rng.uniform(size=3000) < 1 / 16
    x = rng.normal(size=(3000, 10))
    x[false, :3] += [2.5, -2.5, 2.5]
    return split("fraud", x, false.astype(np.float32)[:, None], 1, 2200)


@cache
def sales() -> Problem:
    """How often something is sold in a day, a whole number from 0 up, in a column; the rate depends on six features."""
    rng = np.random.default_rng(52)
    x = rng.normal(size=(2400, 6))
    rate = np.exp(np.clip(1.6 + 0.7 * x[:, 0] + 0.6 * np.sin(2 * x[:, 1]) - 0.5 * x[:, 2] * (x[:, 3] > 0), -2, 4))
    return split("sales", x, rng.poisson(rate)[:, None].astype(np.float32), 1, 1800)


@cache
def parity() -> Problem:
    """Four bits and two of no account, -1 or 1 and a little noise; whether the four have an even sum; two classes."""
    rng = np.random.default_rng(53)
    bits = rng.integers(0, 2, (2400, 6))
    noisy = 2 * bits - 1 + rng.normal(0, 0.15, bits.shape)
    return split("parity", noisy, bits[:, :4].sum(1) % 2, 2, 1800)


@cache
def tides() -> Problem:
    """The height of the sea, standardised, at a time from -1 to 1: many waves, the fastest of ten periods."""
    rng = np.random.default_rng(54)
    time = rng.uniform(-1, 1, 1600)
    waves = [(1.0, 2, 0.3), (0.8, 5, 1.1), (0.6, 7, 2.0), (0.5, 10, 0.7)]
    height = np.sum([size * np.sin(np.pi * periods * time + phase) for size, periods, phase in waves], 0)
    height = (height - height.mean()) / height.std()
    return split("regression", time[:, None], height[:, None], 1, 1200)


# Words --------------------------------------------------------------------------------------------------------------


@cache
def bags() -> Problem:
    """How often each of `WORDS` words is in a text, mostly never; what it is about, one of six."""
    rng = np.random.default_rng(55)
    common = 1 / np.arange(1, WORDS + 1)
    topics = 0.6 * common / common.sum() + 0.4 * rng.dirichlet(np.full(WORDS, 0.05), 6)
    labels = rng.integers(0, 6, 2400)
    lengths = 8 + rng.poisson(30, 2400)
    counts = np.stack([rng.multinomial(length, topics[label]) for length, label in zip(lengths, labels, strict=True)])
    return split("bags", counts.astype(np.float32), labels, 6, 1800)


def frequencies() -> Problem:
    """The same as shares of the text, so that all numbers are small."""
    return bags().with_inputs(lambda counts: counts / counts.sum(1, keepdims=True))


# Digits -------------------------------------------------------------------------------------------------------------


def _has(labels: np.ndarray) -> np.ndarray:
    """Which of the properties digits have, as 0.0 and 1.0, (examples, 5)."""
    return np.stack([np.isin(labels, having) for having in PROPERTIES], 1).astype(np.float32)


def attributes() -> Problem:
    """Which properties a standardised digit has: five columns of 0.0 and 1.0."""
    return replace(standard_digits().with_targets(_has), outputs=len(PROPERTIES))


@cache
def questions() -> Problem:
    """A digit's 64 pixels and which of five properties is asked for, as five zeros and ones; has it? 0.0 or 1.0."""
    rng = np.random.default_rng(56)

    def asked(inputs: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        row, question = rng.integers(0, len(labels), count), rng.integers(0, len(PROPERTIES), count)
        choice = np.eye(len(PROPERTIES), dtype=np.float32)[question]
        return np.concatenate([inputs[row], choice], 1), (_has(labels[row]) * choice).sum(1, keepdims=True)

    it = digits()
    inputs, targets = asked(it.inputs, it.targets, 5000)
    held_out_inputs, held_out_targets = asked(it.held_out_inputs, it.held_out_targets, 800)
    return Problem("questions", inputs, targets, held_out_inputs, held_out_targets, 1)


@cache
def denoised() -> Problem:
    """Digits as images with noise, (1, 8, 8); the same without."""
    rng = np.random.default_rng(57)
    clean = digit_images().inputs, digit_images().held_out_inputs
    noisy = [(images + rng.normal(0, 0.3, images.shape)).astype(np.float32) for images in clean]
    return Problem("denoised", noisy[0], clean[0], noisy[1], clean[1], 1)


def digit_bytes() -> Problem:
    """Digits as images of whole numbers from 0 to 255."""
    return digit_images().with_inputs(lambda images: np.round(images * 255).astype(np.float32))


# Signals and drawings -----------------------------------------------------------------------------------------------


@cache
def pulses() -> Problem:
    """Two noisy channels of 48 steps, (2, 48), with a pulse each; which comes first, and is it wide: four classes."""
    rng = np.random.default_rng(58)
    count, time = 2000, np.arange(48)
    first, wide = rng.integers(0, 2, (2, count))
    early, late = rng.uniform(6, 20, count), rng.uniform(26, 42, count)
    centres = np.where(first[:, None] == 0, np.stack([early, late], 1), np.stack([late, early], 1))
    width = np.where(wide == 1, 4.0, 1.5)[:, None, None]
    signal = 2 * np.exp(-(((time - centres[:, :, None]) / width) ** 2)) + rng.normal(0, 0.3, (count, 2, 48))
    return split("pulses", signal, 2 * first + wide, 4, 1500)


@cache
def shapes() -> Problem:
    """Drawings of 12 by 12 pixels with noise, (1, 12, 12): a square, a cross, a ring or a stroke; four classes."""
    rng = np.random.default_rng(59)
    count = 1800
    labels = rng.integers(0, 4, count)
    size = rng.uniform(2.5, 4.0, count)[:, None, None]
    x, y = (np.arange(12) - rng.uniform(4, 7, count)[:, None, None] for _ in range(2))
    y = y.swapaxes(1, 2)
    within = (np.abs(x) <= size) & (np.abs(y) <= size)
    square = within & (np.maximum(np.abs(x), np.abs(y)) > size - 1)
    cross = within & ((np.abs(x) < 0.6) | (np.abs(y) < 0.6))
    ring = np.abs(np.hypot(x, y) - size) < 0.6
    stroke = within & (np.abs(x - y) < 0.8)
    drawings = np.choose(labels[:, None, None], [square, cross, ring, stroke]) + rng.normal(0, 0.2, (count, 12, 12))
    return split("shapes", drawings[:, None], labels, 4, 1400)
