"""Long chains shown once, and large arrays in a line."""

import numpy as np
import pytest

from chainrule import nn
from chainrule.explain import explain
from chainrule.explain.repeats import Repeat
from chainrule.explain.tables import tables_of
from chainrule.nn import functional as F

X = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
T = np.arange(8) % 3


def deep(depth, **options):
    nn.random.manual_seed(0)
    m = nn.MLP(16, 16, 3, depth=depth, residual=True, **options)
    return explain(m, X, loss=lambda output: F.cross_entropy(output, T), check=False)


def test_a_hundred_residual_layers_are_one_block_and_few_rows():
    e = deep(101, norm="layer")
    (block,) = [item for item in e.view() if isinstance(item, Repeat)]
    assert block.count == 100
    assert [step.operation for step in block.first if not step.is_input] == ["layer_norm", "relu", "linear", "add"]
    assert len(e.steps) > 800
    forward, backward = tables_of(e)[:2]
    for step in block.first:
        assert any(row[1].text.startswith(step.name.text) for row in forward.rows)
        assert any(step.name.text in (row[0].text, row[1].text) for row in backward.rows)
    assert sum(len(table.rows) for table in tables_of(e)) < 100
    assert "99 more blocks like steps" in str(e)


def test_a_collapsed_view_hides_no_row_of_the_data():
    e = deep(30)
    shown = [s for item in e.view() for s in (item.steps if isinstance(item, Repeat) else [item])]
    assert shown == e.steps
    assert e.opened().view() == e.steps
    assert len(str(e.opened()).splitlines()) > 3 * len(str(e).splitlines())


def test_repeats_inside_repeats_are_opened_one_level_at_a_time():
    def nested(x):
        for _ in range(6):
            for _ in range(9):
                x = np.tanh(x)
            x = x * 2.0 + 1.0
        return x

    e = explain(nested, x=0.3, check=False)
    closed, once, fully = (len(e.opened(depth).view()) for depth in (0, 1, None))
    assert closed < once < fully == len(e.steps)


def test_small_graphs_are_shown_whole():
    e = explain(lambda a, b, c, d: a * b + c * d + a * b + c * d, a=1.0, b=2.0, c=3.0, d=4.0)
    assert e.view() == e.steps


@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_different_scalar_nodes_come_out_right_and_readable(seed):
    rng = np.random.default_rng(seed)
    plan = np.stack([*rng.integers(1, 40, (2, 10_000)), rng.integers(0, 3, 10_000)], axis=1).tolist()

    def tangle(a, b):
        values = [a, b]
        for p, q, k in plan[: 10_000 if seed == 0 else 500]:
            x, y = values[max(-p, -len(values))], values[max(-q, -len(values))]
            values.append(np.tanh(x) if k == 0 else x * y if k == 1 else (x + y) * 0.5)
        return sum(values[-40:], values[-1])

    e = explain(tangle, a=0.5, b=1.5)
    assert e.verdict.ok
    assert len(e.steps) > (8000 if seed == 0 else 400)
    assert all(len(table.rows) < 250 for table in tables_of(e))
    assert "more steps, up to" in str(e)


def test_large_arrays_are_summarised_and_never_dumped():
    w = np.zeros((300, 400))
    w[0, :100] = 2.0
    w[0, 100] = -1.0
    e = explain(lambda w: (w * w).sum(), w=w, check=False)
    text = str(e)
    assert "norm 20.02, min −1, max 2, zeros 99.9 %" in text
    assert "300×400" in text
    for format in ("text", "markdown", "latex", "html", "svg", "json"):
        assert len(e.to(format)) < 60_000
