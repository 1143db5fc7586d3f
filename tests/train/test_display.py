"""What is shown while a run goes on."""

import io

import pytest
from rich.console import Console

from chainrule.train.display import LiveDisplay, PlainDisplay, Position, columns_of, duration, spread


def metrics(epoch, **quality):
    quality = quality or {"train_accuracy": 0.5, "test_accuracy": 0.25}
    return {"epoch": epoch, "loss": 1.5, "gradient_norm": 1e-3, "steps_per_second": 1234.5, **quality}


def shown(display_class, epochs, **console):
    out = io.StringIO()
    with display_class(Console(file=out, width=90, **console)) as display:
        for epoch in range(1, epochs + 1):
            display.at(Position(epoch, epochs, 10 * epoch - 5, 10 * epochs, 1000.0))
            display.epoch_done(metrics(epoch), Position(epoch, epochs, 10 * epoch, 10 * epochs, 1000.0))
    return out.getvalue()


def test_a_long_run_prints_a_heading_and_about_twenty_plain_lines_with_the_first_and_the_last_epoch():
    heading, *lines = shown(PlainDisplay, 400).splitlines()
    assert heading.split() == ["epoch", "loss", "train", "test", "grad", "norm", "steps/s", "left"]
    assert 20 <= len(lines) <= 22
    assert [lines[0].split()[0], lines[-1].split()[0]] == ["1", "400"]
    assert lines[-1].split()[:5] == ["400", "1.5000", "50.0%", "25.0%", "1.00e-03"]


def test_a_short_run_prints_every_epoch():
    assert len(shown(PlainDisplay, 3).splitlines()) == 1 + 3


def test_plain_lines_have_no_control_characters():
    assert "\x1b" not in shown(PlainDisplay, 3, force_terminal=True)


@pytest.mark.parametrize("display_class", [PlainDisplay, LiveDisplay])
def test_a_note_is_a_line_of_its_own(display_class):
    out = io.StringIO()
    with display_class(Console(file=out, width=90, force_terminal=True, color_system=None)) as display:
        display.note("Something to know [1]")
    assert "Something to know [1]\n" in out.getvalue()


def test_a_terminal_shows_the_last_epochs_a_bar_the_speed_and_the_time_left():
    last_frame = shown(LiveDisplay, 30, force_terminal=True, color_system=None).split("\x1b[2K")[-12:]
    frame = "".join(last_frame)
    for expected in ("grad norm", "epoch 30/30", "100%", "1,000 steps/s", "left"):
        assert expected in frame


@pytest.mark.parametrize("seconds, text", [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05")])
def test_durations_are_written_as_clocks_write_them(seconds, text):
    assert duration(seconds) == text


def test_regression_shows_rmse_in_place_of_accuracy():
    columns = columns_of(metrics(1, train_rmse=12.5, test_rmse=1e6))
    assert columns["train RMSE"] == "12.5"
    assert columns["test RMSE"] == "1e+06"


@pytest.mark.parametrize(
    "count, most, places", [(3, 10, [0, 1, 2]), (201, 3, [0, 100, 200]), (11, 10, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])]
)
def test_places_are_spread_evenly_from_the_first_to_the_last(count, most, places):
    assert spread(count, most) == places
