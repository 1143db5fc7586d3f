"""`chainrule explain` as a user types it."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from chainrule.cli import main

NEURON = ["explain", "(w*x + b - y)**2", "w=2", "x=3", "b=1", "y=8"]


def run(capsys, *arguments):
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_whiteboard_of_one_neuron(capsys):
    status, out, err = run(capsys, *NEURON)
    assert (status, err) == (0, "")
    for row in ("v1 = w·x +6 ", "v2 = v1 \\+ b +7 ", "v3 = v2 − y +−1 ", "L = v3² +1 ", "2·v3 = −2 +1 +−2"):
        assert re.search(row, out), row
    for row in ("dL/dw +−6 ", "dL/dx +−4 ", "dL/db +−2 ", "dL/dy +2 "):
        assert re.search(row, out), row
    assert out.count("excellent") == 5


def test_wrt_chooses_the_inputs(capsys):
    _, out, _ = run(capsys, *NEURON, "--wrt", "w,b", "--format", "json")
    data = json.loads(out)
    inputs = {s["name"]["text"] for s in data["steps"] if s["operation"] == "input"}
    assert inputs == {"w", "b"}
    assert {f["of"] for f in data["verdict"]["findings"]} == {"w", "b", "all inputs together"}


def test_forward_mode_takes_a_name_or_tangents(capsys):
    command = ["explain", "x1*x2 + sin(x1)", "x1=2", "x2=3", "--mode", "forward", "--seed"]
    _, one, _ = run(capsys, *command, "x1", "--format", "markdown")
    _, other, _ = run(capsys, *command, "x1=1,x2=0", "--format", "markdown")
    assert one == other
    assert "| 5 | L = v1 + v2 | 6.9093 | L̇ = v̇1 + v̇2 | 2.58385 |" in one


def test_an_array_result_takes_a_seed(capsys):
    command = ["explain", "w*[1,2]", "w=3"]
    status, _, err = run(capsys, *command)
    assert status == 2
    assert "--seed" in err.splitlines()[0]
    status, out, _ = run(capsys, *command, "--seed", "[10,1]", "--format", "json")
    assert status == 0
    assert {g["of"]: g["value"] for g in json.loads(out)["gradients"]}["w"] == 12


BAD = {
    "an unknown name": (["explain", "w*q", "w=1"], "q is not given", "q"),
    "a name that is not used": (["explain", "w*w", "w=1", "v=2"], "v is given, but", None),
    "a name given twice": (["explain", "w*w", "w=1", "w=2"], "given twice", None),
    "a value that is none": (["explain", "w*w", "w=one"], "one is not given", "one"),
    "no equals sign": (["explain", "w*w", "w"], "not NAME=VALUE", None),
    "shapes that do not fit": (["explain", "sum(W@x)", "W=[[1,2,3]]", "x=[1,2]"], "3 columns against 2 rows", "W@x"),
    "an import": (["explain", "import os"], "import is not part", "import os"),
    "a call": (["explain", "exec(w)", "w=1"], "exec is not a known function", "exec"),
    "an attribute": (["explain", "w.data", "w=1"], "attributes cannot be reached", "w.data"),
    "an array result": (["explain", "w*[1,2]", "w=1"], "only a scalar has a gradient", "w*[1,2]"),
    "a NaN on the way": (["explain", "z = sqrt(w); L = z*2", "w=-1"], "has NaN (from w = −1)", "sqrt(w)"),
    "a division by zero": (["explain", "1/w", "w=0"], "has an infinity", "1/w"),
    "an unknown format": (["explain", "w*w", "w=1", "--format", "pdf"], "--format must be", None),
    "an unknown suffix": (["explain", "w*w", "w=1", "--output", "x.doc"], "must end with", None),
    "a folder that is not there": (["explain", "w*w", "w=1", "--output", "no/x.md"], "cannot write", None),
    "an unknown mode": (["explain", "w*w", "w=1", "--mode", "sideways"], "mode must be", None),
    "an unknown wrt": (["explain", "w*w", "w=1", "--wrt", "v"], "--wrt names 'v'", None),
    "a class that is not there": (["explain", "cross_entropy(z, t)", "z=[1,2]", "t=5"], "targets run from 5", None),
    "no file": (["explain", "nowhere.py:f"], "there is no file nowhere.py", None),
    "nothing that moves": (["explain", "2*3"], "does not depend on any input", "2*3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_status_2_and_underlined(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, told, underlined = BAD[case]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    first, *marked = err.rstrip("\n").splitlines()
    assert first.startswith("Error: ")
    assert told in first
    if underlined is not None:
        line, marks = marked
        assert line[marks.index("^") : len(marks)] == underlined
    else:
        assert len(marked) in (0, 2)


def test_a_function_in_a_file_is_explained_with_its_own_names(capsys, tmp_path):
    file = tmp_path / "model.py"
    file.write_text("import numpy as np\ndef loss(w, x):\n    hidden = np.tanh(w * x)\n    return (hidden - 1) ** 2\n")
    status, out, _ = run(capsys, "explain", f"{file}:loss", "w=2", "x=0.3", "--wrt", "w")
    assert status == 0
    assert "hidden = tanh v1" in out
    assert "dloss/dw" in out


def test_an_error_in_a_file_names_its_line(capsys, tmp_path):
    file = tmp_path / "model.py"
    file.write_text("def loss(w):\n    raise KeyError('weights')\n")
    status, _, err = run(capsys, "explain", f"{file}:loss", "w=2")
    assert (status, err) == (2, "Error: loss, line 2: KeyError: 'weights'\n")
    status, _, err = run(capsys, "explain", f"{file}:los", "w=2")
    assert (status, err) == (2, f"Error: {file} has no function 'los'; it has loss\n")


@pytest.mark.parametrize("suffix", ["txt", "md", "tex", "html", "svg", "json"])
def test_every_format_is_written_whole_to_a_file(suffix, capsys, tmp_path):
    file = tmp_path / f"neuron.{suffix}"
    status, out, err = run(capsys, *NEURON, "--output", str(file))
    assert (status, out, err) == (0, "", "")
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    assert "loss" not in file.read_text()
    assert len(file.read_text()) > 500


def test_a_terminal_without_the_signs_of_mathematics_still_shows_the_numbers():
    for format, encoding in (("text", "latin-1"), ("json", "utf-8")):
        command = [sys.executable, "-c", "from chainrule.cli import main; main()", *NEURON, "--format", format]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        done = subprocess.run(command, capture_output=True, env=environment, timeout=100)
        assert done.returncode == 0, done.stderr
        assert "v1" in done.stdout.decode(encoding)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
@pytest.mark.parametrize(
    "arguments",
    [
        NEURON,
        ["explain", "σ_1 = sigmoid(w_in*x)**3; h = σ_1; L = h/x**2", "w_in=2", "x=-1e-5"],
        [
            "explain",
            "z = layer_norm(x@W, w, b); L = mean(z*z)",
            "x=[[1,2],[3,5]]",
            "W=[[1,2],[3,4]]",
            "w=[1,2]",
            "b=[0,1]",
        ],
        ["explain", "x1*x2 + sin(x1)", "x1=2", "x2=3", "--mode", "forward", "--seed", "x1"],
    ],
)
def test_the_latex_compiles_as_it_is(arguments, capsys, tmp_path):
    assert main([*arguments, "--output", str(tmp_path / "it.tex")]) == 0
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "it.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-2000:]
