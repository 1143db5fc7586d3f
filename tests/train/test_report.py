"""The table of gradient flow: which layers it shows."""

import io
import re

import pytest
from rich.console import Console

from chainrule.train.flow import LayerFlow
from chainrule.train.report import report_flow


def rows_of(layers):
    """The layers in the table of a network with so many, and what is printed."""
    console = Console(file=io.StringIO(), width=100)
    flow = [LayerFlow(str(place), 1.0, 1.0, 1e-3) for place in range(layers)]
    report_flow(console, flow, {layer.name: "8 → 8" for layer in flow}, "now")
    text = console.file.getvalue()
    return [int(row) for row in re.findall(r"^ +(\d+) +8 → 8", text, re.MULTILINE)], text


@pytest.mark.parametrize("layers", [1, 3, 31, 40])
def test_up_to_forty_layers_are_all_shown(layers):
    rows, text = rows_of(layers)
    assert rows == list(range(1, layers + 1))
    assert "Gradient flow, now\n" in text


@pytest.mark.parametrize("layers", [41, 201])
def test_of_more_layers_sixteen_are_shown_with_the_first_and_the_last(layers):
    rows, text = rows_of(layers)
    assert len(rows) == 16
    assert (rows[0], rows[-1]) == (1, layers)
    assert f"(16 of {layers} layers)" in text
