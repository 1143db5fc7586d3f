"""`chainrule doctor`: a network from a file, its exit status, and what it says of bad input."""

import json

import pytest

from chainrule.cli import main

NETWORK = """
import numpy as np
from chainrule import nn, optim

def parts(depth, activation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    layers = [nn.Linear(6, 16), activation()]
    for _ in range(depth):
        layers += [nn.Linear(16, 16), activation()]
    model = nn.Sequential(*layers, nn.Linear(16, 2))
    return model, nn.functional.cross_entropy, (x, y), optim.Adam(model.parameters(), lr=0.01), (x, y)

def healthy():
    return parts(1, nn.ReLU)

def sick():
    return parts(20, nn.Sigmoid)

def number():
    return 3

def odd():
    return {"model": 1, "loss": 2}

def failing():
    raise RuntimeError("no data")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


def test_the_exit_status_says_whether_anything_was_found(file, capsys):
    assert main(["doctor", f"{file}:healthy", "--quick"]) == 0
    assert "Healthy" in capsys.readouterr().out
    assert main(["doctor", f"{file}:sick", "--quick"]) == 1
    assert "vanishing-gradient" in capsys.readouterr().out


def test_repairing_shows_what_was_tried_and_the_code_of_the_best(file, capsys):
    assert main(["doctor", f"{file}:sick", "--quick", "--repair"]) == 1
    said = capsys.readouterr().out
    assert "After 100 steps on a copy" in said
    assert "Best: " in said
    code = said.split("The same as code, after that of your own:")[1]
    compile(code, "pasted", "exec")
    assert "nn." in code


def test_the_report_goes_to_files_and_to_other_programs(file, capsys, tmp_path):
    assert main(["doctor", f"{file}:sick", "--quick", "--json", "-", "--html", str(tmp_path / "page.html")]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["code"] == "vanishing-gradient"
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "name, said",
    [
        ("number", "number() must return (model, loss, batch), or more of"),
        ("odd", "the dict of odd() lacks batch; its keys are model, loss, batch, optimizer, data, clip_norm"),
        ("failing", "failing() fails: RuntimeError: no data"),
        ("missing", "has no function 'missing'; it has parts, healthy, sick, number, odd, failing"),
    ],
)
def test_what_cannot_be_examined_is_one_line_and_status_2(file, capsys, name, said):
    assert main(["doctor", f"{file}:{name}"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
