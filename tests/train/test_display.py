"""What is shown while a run goes on."""

import io

import pytest
from rich.console import Console

from chainrule.train import display
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


def test_a_long_epoch_says_now_and_then_how_far_it_has_come(monkeypatch):
    monkeypatch.setattr(display, "SECONDS_OF_SILENCE", -1)
    out = io.StringIO()
    PlainDisplay(Console(file=out, width=90)).at(Position(2, 3, 1500, 4000, 7.25))
    assert out.getvalue().strip() == "epoch 2: step 1,500 of 4,000, 7.2 steps/s, ? left"


def test_a_terminal_says_what_it_waits_for():
    out = io.StringIO()
    with LiveDisplay(Console(file=out, width=90, force_terminal=True, color_system=None)) as live:
        live.waiting("Compiling the step")
    assert "Compiling the step ..." in out.getvalue()


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


BPC = {"train_bpc": 2.5, "test_bpc": 2.25, "test_perplexity": 4.7568}


def test_a_text_shows_bits_per_character_and_perplexity():
    columns = columns_of(metrics(1, **BPC))
    assert (columns["train bpc"], columns["test bpc"], columns["perplexity"]) == ("2.500", "2.250", "4.757")


def samples(display_class, epochs, **console):
    out = io.StringIO()
    with display_class(Console(file=out, width=90, color_system=None, **console)) as display:
        for epoch in range(1, epochs + 1):
            position = Position(epoch, epochs, 10 * epoch, 10 * epochs, 1000.0)
            display.epoch_done(metrics(epoch, **BPC), position)
            display.sample(f"Text [{epoch}] goes\n\n on\x1b[0m\tand {'on ' * 60}", position)
    return out.getvalue()


def test_plain_lines_show_what_was_written_after_1_2_4_and_so_on_epochs_and_after_the_last():
    shown_after = [f"Text [{epoch}]" in samples(PlainDisplay, 10) for epoch in range(1, 11)]
    assert shown_after == [epoch in (1, 2, 4, 8, 10) for epoch in range(1, 11)]


def test_a_terminal_shows_what_was_written_last_between_the_table_and_the_bar():
    frame = samples(LiveDisplay, 3, force_terminal=True).rsplit("grad norm", 1)[-1]
    assert frame.index("2.250") < frame.index("Text [3] goes") < frame.index("epoch 3/3")


@pytest.mark.parametrize("display_class", [PlainDisplay, LiveDisplay])
def test_what_was_written_keeps_its_lines_is_wrapped_and_cannot_control_the_terminal(display_class):
    text = samples(display_class, 1)
    lines = [line for line in text.splitlines() if "│" in line]
    assert lines[0] == "  │ Text [1] goes"
    assert lines[1].startswith("  │  on [0m ")
    assert len(lines) >= 4
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    "count, most, places", [(3, 10, [0, 1, 2]), (201, 3, [0, 100, 200]), (11, 10, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])]
)
def test_places_are_spread_evenly_from_the_first_to_the_last(count, most, places):
    assert spread(count, most) == places
