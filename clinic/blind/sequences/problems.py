"""Sequences of numbers and tokens that are told apart, continued, counted or said again."""

from __future__ import annotations

from functools import cache

import numpy as np

from clinic.problems import ALPHABET, Problem, excerpts, split

#: How many different tokens there are in the texts of brackets, of four letters, and of letters to be reversed.
BRACKETS, LETTERS, SYMBOLS = 5, 4, 7

# Numbers over time --------------------------------------------------------------------------------------------------


@cache
def latch() -> Problem:
    """Two signs in the first of 24 steps and noise in all others, (24, 3); four classes.

    The third number is 1 where it matters. Source: Bengio et al. 1994, "Learning Long-Term Dependencies with Gradient
    Descent is Difficult", section 3.
    """
    rng = np.random.default_rng(50)
    signs = rng.integers(0, 2, (2500, 2))
    inputs = rng.normal(0, 0.2, (2500, 24, 3))
    inputs[:, 0, :2] = 2 * signs - 1
    inputs[:, :, 2] = np.arange(24) == 0
    return split("latch", inputs, 2 * signs[:, 0] + signs[:, 1], 4, 2000)


@cache
def adding() -> Problem:
    """Sixteen numbers, of which one in each half is marked, (16, 2); the target is the sum of both, standardised.

    Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", section 5.4.
    """
    rng = np.random.default_rng(51)
    numbers = rng.uniform(-1, 1, (4000, 16))
    marked = np.stack([rng.integers(0, 8, 4000), rng.integers(8, 16, 4000)], 1)
    marks = (np.arange(16) == marked[:, :, None]).any(1)
    total = (numbers * marks).sum(1)
    return split("adding", np.stack([numbers, marks], 2), (total / total.std())[:, None], 1, 3500)


@cache
def gestures() -> Problem:
    """A hand's ways in 20 steps, (20, 2): circles of either sense, to and fro, zigzags or eights; five classes."""
    rng = np.random.default_rng(52)
    labels = rng.integers(0, 5, 2000)
    phase = 2 * np.pi * (rng.uniform(0.8, 1.2, (2000, 1)) * np.arange(20) / 20 + rng.uniform(0, 1, (2000, 1)))
    cosine, sine, saw = np.cos(phase), np.sin(phase), phase / np.pi - 3
    ways = np.stack(
        [
            np.stack([cosine, sine], 2),
            np.stack([cosine, -sine], 2),
            np.stack([cosine, 0 * sine], 2),
            np.stack([saw / 1.5, np.sign(np.sin(4 * phase))], 2),
            np.stack([cosine, np.sin(2 * phase)], 2),
        ]
    )[labels, np.arange(2000)]
    size = rng.uniform(0.7, 1.3, (2000, 1, 1))
    return split("gestures", size * ways + rng.normal(0, 0.1, ways.shape), labels, 5, 1500)


@cache
def forecasts() -> Problem:
    """Two pendulums as three sensors see them for 24 steps, (24, 3); what two of these see next, standardised."""
    rng = np.random.default_rng(53)
    time = np.arange(25)
    speed, phase = rng.uniform(0.3, 0.5, (2000, 2, 1)) * [[1.0], [1.7]], rng.uniform(0, 2 * np.pi, (2000, 2, 1))
    pendulums = rng.uniform(0.7, 1.3, (2000, 2, 1)) * np.sin(speed * time + phase)
    seen = pendulums.swapaxes(1, 2) @ np.array([[1.0, 1.0, 0.3], [1.0, -0.5, 1.0]])
    following = seen[:, -1, [0, 2]]
    noise = rng.normal(0, 0.05, (2000, 24, 3))
    return split("forecasts", seen[:, :-1] + noise, following / following.std(0), 2, 1500)


@cache
def counts() -> Problem:
    """Rare events of two kinds in 30 steps, (30, 2), mostly zeros: how many more of the first, recent ones more."""
    rng = np.random.default_rng(54)
    events = (rng.uniform(size=(2500, 30, 2)) < 0.1).astype(np.float64)
    lead = (events[:, :, 0] - events[:, :, 1]) @ 0.95 ** np.arange(29, -1, -1)
    return split("counts", events, (lead / lead.std())[:, None], 1, 2000)


@cache
def alarms() -> Problem:
    """A machine's heat and noise over 20 steps, (20, 2): all is well in 85%, or it gets hot, or it rattles."""
    rng = np.random.default_rng(55)
    labels = rng.choice(3, 3000, p=(0.85, 0.1, 0.05))
    inputs = rng.normal(0, 0.5, (3000, 20, 2))
    inputs[:, :, 0] += np.where(labels == 1, 1.0, 0.0)[:, None] * np.linspace(-1, 2.5, 20)
    inputs[:, :, 1] *= np.where(labels == 2, 3.0, 1.0)[:, None]
    return split("alarms", inputs, labels, 3, 2400)


# Tokens -------------------------------------------------------------------------------------------------------------


@cache
def brackets() -> Problem:
    """Sixteen brackets of two kinds and letters; how many are open at the end, from none to four."""
    rng = np.random.default_rng(56)
    tokens = np.zeros((4000, 16), int)
    opened = np.zeros(4000, int)
    for step in range(16):
        choice = rng.choice(3, 4000, p=(0.4, 0.3, 0.3))
        opens, closes = (choice == 0) & (opened < 4), (choice == 1) & (opened > 0)
        kind = rng.integers(0, 2, 4000)
        tokens[:, step] = np.where(opens, 1 + kind, np.where(closes, 3 + kind, 0))
        opened += opens.astype(int) - closes
    return split("brackets", tokens, opened, 5, 3500)


@cache
def motifs() -> Problem:
    """Twenty-four of four letters; whether a word of five is among them, or is shuffled; 1.0 or 0.0 in a column."""
    rng = np.random.default_rng(57)
    tokens = rng.integers(0, LETTERS, (4000, 24))
    there = rng.integers(0, 2, 4000)
    start = rng.integers(0, 19, 4000)
    word = np.where(there[:, None] == 1, [0, 3, 3, 1, 2], [3, 1, 0, 2, 3])
    tokens[np.arange(4000)[:, None], start[:, None] + np.arange(5)] = word
    return split("motifs", tokens, there[:, None].astype(np.float32), 1, 3400)


def one_hot_motifs() -> Problem:
    """The same with a column for each letter, (24, 4)."""
    return motifs().with_inputs(lambda tokens: np.eye(LETTERS, dtype=np.float32)[tokens])


@cache
def reversal() -> Problem:
    """Four letters out of six and four blanks, in whose steps they are to be said from the last to the first."""
    rng = np.random.default_rng(58)
    letters = rng.integers(1, SYMBOLS, (4000, 4))
    return split("reversal", np.concatenate([letters, np.zeros((4000, 4), int)], 1), letters[:, ::-1].copy(), 7, 3500)


@cache
def tags() -> Problem:
    """How long the word is that each of 16 characters is in: no word, up to three letters, up to six, or more."""
    pieces, _ = excerpts(59)
    letter = pieces < ALPHABET.index(" ")
    length = np.zeros(pieces.shape, int)
    for row, is_letter in zip(length, letter, strict=True):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], is_letter, [False]]).astype(int)))
        for start, stop in ends.reshape(-1, 2):
            row[start:stop] = stop - start
    return split("tags", pieces, np.digitize(length, [1, 4, 7]), 4, 11_000)
