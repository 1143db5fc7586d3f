"""The table of gradient flow: which layers it shows, and that it judges the step that it shows."""

import io
import re

import pytest
from rich.console import Console

from chainrule.train.report import report_flow


def epoch(number, layers, findings):
    names = [str(place) for place in range(layers)]
    numbers = {name: [1.0] * layers for name in ("error_signal", "gradient", "update_ratio")}
    return {"epoch": number, "layers": names, **numbers, "findings": findings}


def printed(history):
    """The layers in the table, and what is printed."""
    console = Console(file=io.StringIO(), width=100)
    report_flow(console, history, dict.fromkeys(history[-1]["layers"], "8 → 8"))
    text = console.file.getvalue()
    return [int(row) for row in re.findall(r"^ +(\d+) +8 → 8", text, re.MULTILINE)], text


@pytest.mark.parametrize("layers", [1, 3, 31, 40])
def test_up_to_forty_layers_are_all_shown(layers):
    rows, text = printed([epoch(1, layers, {})])
    assert rows == list(range(1, layers + 1))
    assert "Gradient flow, first step of epoch 1\n" in text


@pytest.mark.parametrize("layers", [41, 201])
def test_of_more_layers_sixteen_are_shown_with_the_first_and_the_last(layers):
    rows, text = printed([epoch(1, layers, {})])
    assert len(rows) == 16
    assert (rows[0], rows[-1]) == (1, layers)
    assert f"(16 of {layers} layers)" in text


def test_the_verdict_is_of_the_epoch_in_the_table_and_others_are_told_as_earlier():
    sick, well = epoch(1, 3, {"vanishing-gradient": "It was."}), epoch(2, 3, {})
    _, text = printed([sick, well])
    assert "first step of epoch 2" in text
    assert "Healthy: the error signal at the first layer is 1 times that at the last." in text
    assert "Earlier it was otherwise: vanishing-gradient in 1 of 2 epochs, the last of them 1." in text
    assert "VANISHING: It was." in printed([well, sick])[1]
    assert "Healthy" not in printed([well, sick])[1]


def test_an_epoch_of_an_older_version_has_no_findings_and_is_shown_all_the_same():
    old = epoch(1, 3, {})
    del old["findings"]
    assert "Healthy" in printed([old])[1]
