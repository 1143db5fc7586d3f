"""The picture is drawn whatever the run was like. What it looks like is for eyes to judge."""

import math
import struct

import pytest
from matplotlib.figure import Figure

from chainrule.train.plot import plot


def history(epochs, layers, signal=lambda layer: 1.0, **quality):
    quality = quality or {"train_accuracy": 0.9, "test_accuracy": 0.8}
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch**3,
            "test_loss": 3 / epoch,
            "error_signal": [signal(layer) for layer in range(layers)],
            "gradient": [signal(layer) for layer in range(layers)],
            **quality,
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize(
    "lines",
    [
        history(1, 1),
        history(3, 200, lambda layer: 0.1**layer),
        history(3, 4, lambda layer: 0.0),
        history(3, 4, lambda layer: math.nan),
        history(3, 2, train_bpc=2.0, test_bpc=2.1, train_perplexity=4.0, test_perplexity=4.3),
        history(3, 2, train_rmse=0.0, test_rmse=0.0, train_r2=1.0, test_r2=math.nan),
    ],
    ids=["one epoch and layer", "200 vanishing layers", "all zeros", "nothing finite", "text", "regression"],
)
def test_every_kind_of_run_has_a_picture_of_the_same_size(lines):
    png = plot(lines, "title")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1320, 880)


def test_a_long_title_is_wrapped(monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda figure, text: titles.append(text))
    plot(history(1, 1), "word " * 40)
    assert max(map(len, titles[0].splitlines())) <= 130
    assert titles[0].split() == ["word"] * 40


@pytest.mark.parametrize("epochs, layers", [(1, 1), (2, 2), (3, 3), (4, 31)])
def test_epochs_and_layers_are_counted_in_whole_numbers(monkeypatch, epochs, layers):
    drawn = []

    class Kept(Figure):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            drawn.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Kept)
    plot(history(epochs, layers), "title")
    *panels, colour_bar = drawn[0].axes
    for ticks in [axes.get_xticks() for axes in panels] + [colour_bar.get_yticks()]:
        assert len(ticks)
        assert all(tick == round(tick) for tick in ticks)
