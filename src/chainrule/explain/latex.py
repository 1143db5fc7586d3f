"""The explanation as a LaTeX document that compiles as it is: pdflatex with amsmath, amssymb, booktabs, longtable."""

from __future__ import annotations

from chainrule.explain.explanation import Explanation
from chainrule.explain.notation import Formula, plain_latex
from chainrule.explain.tables import Table, tables_of

_HEAD = r"""\documentclass{article}
\usepackage[landscape,margin=1.5cm]{geometry}
\usepackage{amsmath,amssymb,longtable,array}
\renewcommand{\mathbb}[1]{\mathbf{#1}}  % the AMS fonts have no such figure 1
\setlength{\parindent}{0pt}
\begin{document}
"""


def latex(explanation: Explanation) -> str:
    """A whole document."""
    return _HEAD + "\n".join(_section(table) for table in tables_of(explanation)) + "\\end{document}\n"


def _section(table: Table) -> str:
    align = "".join("r" if k in table.right else "l" for k in range(len(table.columns)))
    head = " & ".join(rf"\textbf{{{plain_latex(column)}}}" for column in table.columns)
    style = r"\displaystyle " if table.is_list else ""
    rows = "\n".join(" & ".join(_cell(cell, style) for cell in row) + r" \\[6pt]" for row in table.rows)
    note = f"\n{plain_latex(table.note)}.\n" if table.note else ""
    return (
        f"\\section*{{{plain_latex(table.title)}}}\n\\begin{{longtable}}{{{align}}}\n"
        f"{head} \\\\[2pt] \\hline\\noalign{{\\smallskip}}\n\\endhead\n{rows}\n\\end{{longtable}}\n{note}"
    )


def _cell(formula: Formula, style: str) -> str:
    return f"${style}{formula.latex}$" if formula.latex else ""
