"""The report: in words, as JSON, as a page that needs nothing else."""

import json
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

F = nn.functional
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 6)).astype(np.float32), RNG.integers(0, 3, 32)


@pytest.fixture(scope="module")
def sick():
    nn.random.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(6, 6), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(6, 3))
    return cr.diagnose(model, F.cross_entropy, (X, Y), optimizer=cr.optim.SGD(model.parameters(), lr=0.1))


def test_it_says_what_where_why_what_to_try_and_where_to_read_on(sick):
    said = re.sub(r"\s+", " ", str(sick))
    assert "Sequential (chainrule), 13 layers, batch of 32" in said
    assert "vanishing-gradient in" in said
    assert "0.24 by the activation (sigmoid; a sigmoid's derivative is 0.25 at most)" in said
    assert "Try: activation, initialization, normalization, residual." in said
    assert "Glorot and Bengio 2010" in said
    assert "Follows from vanishing-gradient." in said
    assert all(line == line.rstrip() for line in str(sick).splitlines())


def test_a_healthy_network_gets_one_line_and_the_table():
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    report = cr.diagnose(model, F.cross_entropy, (X, Y))
    assert report.healthy
    assert "Healthy: nothing was found that hinders learning." in str(report)


def test_a_hundred_layers_fit_on_a_screen():
    model = nn.MLP(6, 16, 3, depth=100, residual=True, norm="layer")
    said = str(cr.diagnose(model, F.cross_entropy, (X, Y)))
    assert len(said.splitlines()) < 60
    assert "..." in said


def test_as_json_it_holds_every_finding_and_measurement(sick):
    content = json.loads(sick.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["healthy"] is False
    first = content["findings"][0]
    assert (first["code"], first["severity"]) == ("vanishing-gradient", "severe")
    assert first["evidence"]["ratio"] == sick.findings[0].evidence["ratio"]
    assert len(content["examination"]["layers"]) == 13


def test_numbers_that_are_not_finite_do_not_break_the_json():
    model = nn.Sequential(nn.Linear(6, 3))
    model[0].weight.data = np.full((3, 6), np.nan, np.float32)
    content = json.loads(cr.diagnose(model, F.cross_entropy, (X, Y)).to_json())
    assert content["findings"][0]["code"] == "non-finite"


def test_the_page_needs_nothing_else_and_names_every_finding(sick, tmp_path):
    page = sick.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']+""", page)
    assert "<script" not in page
    assert page.count("<svg") == 2
    for finding in sick.findings:
        assert finding.code in page
    for layer in sick.examination.layers:
        assert f"<b>{layer.path}</b>" in page


def test_names_that_look_like_markup_are_only_shown(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            self.add_module("<b>&", nn.Linear(6, 3))

        def forward(self, x):
            return vars(self)["<b>&"](x)

    page = cr.diagnose(Odd(), F.cross_entropy, (X, Y)).save(tmp_path / "page.html").read_text()
    assert "<b><b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_a_file_that_cannot_be_written_leaves_what_was_there(sick, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        sick.save(tmp_path / "nowhere" / "report.html")
    assert sick.save(tmp_path / "report.json").read_text().startswith("{")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json"]
