"""Every output in the guide is what the tool prints; the pages about operations are what the declarations say.

`CHAINRULE_UPDATE_DOCS=1 pytest tests/explain/test_guide.py` writes them anew.
"""

import contextlib
import io
import os
import re
import shlex
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.explain import reference

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "explain.md"
UPDATING = bool(os.environ.get("CHAINRULE_UPDATE_DOCS"))
EXAMPLE = re.compile(r"```console\n\$ (?P<command>.*)\n(?P<shown>(?:.*\n)*?)```|"
                     r"```python\n(?P<code>(?:.*\n)*?)```\n\n```text\n(?P<printed>(?:.*\n)*?)```")  # fmt: skip
EXAMPLES = list(EXAMPLE.finditer(GUIDE.read_text(encoding="utf-8")))


def produced(example, monkeypatch, capsys):
    if example["command"] is not None:
        monkeypatch.setenv("COLUMNS", "112")
        main(shlex.split(example["command"])[1:])
        captured = capsys.readouterr()
        text = captured.out + captured.err
    else:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(example["code"], str(GUIDE), "exec"), {"__name__": "guide"})  # noqa: S102
        text = output.getvalue()
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def settled(text):
    """Without the last digits of rounding errors, which differ between machines."""
    return re.sub(r"\d(?:\.\d+)?e[-−]\d+", "…", text)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_guide_shows_what_is_printed(number, monkeypatch, capsys):
    example = EXAMPLES[number]
    text = produced(example, monkeypatch, capsys)
    if UPDATING:
        _replace(example, text)
    else:
        shown = example["shown"] if example["command"] is not None else example["printed"]
        assert re.sub(" +", " ", settled(text)) == re.sub(" +", " ", settled(shown))


def _replace(example, text):
    head = (
        f"```console\n$ {example['command']}\n"
        if example["command"]
        else f"```python\n{example['code']}```\n\n```text\n"
    )
    page = GUIDE.read_text(encoding="utf-8")
    start = page.index(head) + len(head)
    GUIDE.write_text(page[:start] + text + page[page.index("```", start) :], encoding="utf-8")


def test_the_guide_walks_through_every_trace():
    commands = " ".join(example["command"] or "" for example in EXAMPLES)
    for trace in ("sub**2", "x=-2 y=5 z=-4", "x=2 y=3 z=4", '"x*x"', "(3*x + 2)**2", "x**2 + 3*x + 1", "sigmoid(z2)",
                  "--mode forward", "cross_entropy(z2, t)"):  # fmt: skip
        assert trace in commands


def test_the_pages_about_operations_are_made_from_the_declarations(tmp_path):
    if UPDATING:
        reference.write(DOCS / "operations")
    reference.write(tmp_path)
    made = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.iterdir()}
    kept = {page.name: page.read_text(encoding="utf-8") for page in (DOCS / "operations").iterdir()}
    assert made == kept


def test_every_operation_says_how_its_derivative_is_written():
    silent = [
        primitive.name
        for family in reference.families().values()
        for primitive in family
        for place, rule in enumerate(primitive.rules)
        if rule is not None and not (place < len(primitive.local) or (primitive.variadic and primitive.local))
    ]
    assert silent == []
