"""The explanation as Markdown tables."""

from __future__ import annotations

from chainrule.explain.explanation import Explanation
from chainrule.explain.tables import tables_of


def markdown(explanation: Explanation) -> str:
    """A section for each table."""
    lines = []
    for table in tables_of(explanation):
        lines += [f"## {table.title}", ""]
        lines.append("| " + " | ".join(table.columns) + " |")
        lines.append("|" + "|".join(" ---: " if k in table.right else " --- " for k in range(len(table.columns))) + "|")
        lines += ["| " + " | ".join(escaped(cell.text) for cell in row) + " |" for row in table.rows]
        if table.note:
            lines += ["", escaped(table.note)]
        lines.append("")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Plain text for Markdown."""
    for character in "\\|*_[]<>`":
        text = text.replace(character, "\\" + character)
    return text
