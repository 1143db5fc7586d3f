"""One page for each family of operations, made from the declarations: formula, local derivative, what is kept.

`python -m chainrule.explain.reference FOLDER` writes them.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import chainrule.ops
from chainrule.core.primitive import Primitive
from chainrule.explain import notation
from chainrule.explain.markdown import escaped
from chainrule.explain.notation import Formula
from chainrule.explain.steps import GATES, gate_of


def families() -> dict[str, list[Primitive]]:
    """The differentiable operations by the file they are declared in, in the order of declaration."""
    found: dict[str, list[Primitive]] = {}
    taken: set[Primitive] = set()
    for module in iter_modules(chainrule.ops.__path__):
        family = import_module(f"chainrule.ops.{module.name}")
        for value in vars(family).values():
            own = isinstance(value, Primitive) and value.differentiable and _is_declared_in(value, family.__name__)
            if own and value not in taken:
                taken.add(value)
                found.setdefault(module.name, []).append(value)
    return found


def page(name: str, primitives: list[Primitive]) -> str:
    """One family as a Markdown page."""
    summary = (import_module(f"chainrule.ops.{name}").__doc__ or "").strip().splitlines()[0]
    lines = [
        f"# {summary}",
        "",
        "*g* is the upstream gradient, *y* the operation's value. A local derivative without *g* is a factor of *g*.",
        "",
        "| operation | is written | with respect to | local derivative | reads, and so keeps | on the way back |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for primitive in primitives:
        lines += _rows(primitive)
    return "\n".join(lines) + "\n"


def _rows(primitive: Primitive) -> list[str]:
    operands = {row: Formula(row, row) for row in primitive.row}
    written = _unfilled(notation.expression(primitive, operands, [Formula("a", "a"), Formula("b", "b")], None).text)
    rows = []
    rules = primitive.rules if primitive._any_rule is None else [primitive.rule(0)]  # one for any number of inputs
    for index, rule in enumerate(rules):
        if rule is None:
            continue
        local = notation.local_template(primitive, index, (), _example_parameters(primitive))
        formula = "" if local is None else _unfilled(notation.shown(notation.filled(local, operands, {})).text)
        which = "each" if primitive.variadic else primitive.inputs[index]
        kept = ", ".join(read for read, source in zip(rule.reads, rule.sources, strict=True) if source is not None)
        cells = [primitive.name, written, which, formula, kept or "nothing", gate_of(primitive)]
        rows.append("| " + " | ".join(map(escaped, cells)) + " |")
    return rows


def _unfilled(text: str) -> str:
    """Static parameters by their names: they have no values here."""
    return text.replace("$eps", "ε").replace("$", "")


def _example_parameters(primitive: Primitive) -> dict[str, str]:
    """Static parameters for a notation that depends on them."""
    functions = [pair for pair in primitive.local if callable(pair)]
    names = {name for function in functions for name in list(inspect.signature(function).parameters)[1:]}
    return dict.fromkeys(names, "sum")


def _is_declared_in(primitive: Primitive, module: str) -> bool:
    return primitive.value.__module__ == module


def write(folder: Path) -> None:
    """Write a page for each family, and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    index = [
        "# Operations",
        "",
        "Made from the declarations by `python -m chainrule.explain.reference docs/operations`.",
        "",
    ]
    for name, primitives in families().items():
        (folder / f"{name}.md").write_text(page(name, primitives), encoding="utf-8")
        index.append(f"- [{name}]({name}.md): {', '.join(p.name for p in primitives)}")
    index += ["", "## On the way back", "", *[f"- **{gate}**: {told}" for gate, told in GATES.items()]]
    (folder / "index.md").write_text("\n".join(index) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
