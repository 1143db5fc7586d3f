"""How steps, derivatives and gradients are written, in text and in LaTeX.

The formulas come from the primitives' declarations (`text`, `latex`, `local`); this file puts the user's names into
them and joins them by the chain rule. A declared local derivative that names the cotangent (`g` in text, `\\delta` in
LaTeX) is a whole vector-Jacobian product; any other is a factor of the cotangent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

from chainrule.core.node import Node
from chainrule.core.primitive import Primitive

_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
    ]
)
_SUPERSCRIPT = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
_COTANGENT = re.compile(r"(?<![A-Za-z0-9_∂.])g(?![A-Za-z0-9_′])")
_COTANGENT_LATEX = re.compile(r"\\delta(?![a-zA-Z])")

#: Stands for the cotangent between reading a declaration and writing a formula: a user's variable may be called g.
_MARK = "\ue000"


@dataclass(frozen=True)
class Formula:
    """One formula in both notations."""

    text: str
    latex: str

    def __str__(self) -> str:
        return self.text


ONE, ZERO = Formula("1", "1"), Formula("0", "0")


# Names -------------------------------------------------------------------------------------------------------------


def name_formula(name: str, version: int = 0) -> Formula:
    """A variable's name; `version` k > 0 marks the k-th value that had it: h⁽²⁾."""
    if not version:
        return Formula(name, _name_latex(name))
    return Formula(f"{name}⁽{str(version).translate(_SUPERSCRIPT)}⁾", f"{{{{{_name_latex(name)}}}^{{({version})}}}}")


def _name_latex(name: str) -> str:
    letters, digits = re.fullmatch(r"(.*?)_?(\d*)", name).groups()  # type: ignore[union-attr]
    if not name.isidentifier() or not letters:
        return rf"\mathtt{{{plain_latex(name)}}}"
    letters = _greek_name(letters) if len(letters) == 1 else letters
    if letters in _GREEK:
        body = rf"\{letters}"
    elif len(letters) == 1:
        body = letters
    else:
        body = rf"\mathit{{{plain_latex(letters)}}}"
    return f"{body}_{{{digits}}}" if digits else body


def _greek_name(letter: str) -> str:
    """`alpha` for α; a letter of another script as it is."""
    kind, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    known = {"GREEK SMALL": name.lower(), "GREEK CAPITAL": name.capitalize()}.get(kind, letter)
    return known.replace("lamda", "lambda") if known.replace("lamda", "lambda") in _GREEK else letter


_PLAIN = {
    "\\": r"\textbackslash{}", "−": "-", "–": "--", "…": r"\ldots{}", "′": "'", "’": "'", "⋮": r"$\vdots$",
    "×": r"$\times$", "∂": r"$\partial$", "→": r"$\to$", "‖": r"$\Vert$", "·": r"$\cdot$", "✓": r"$\checkmark$",
    "≤": r"$\le$", "⊙": r"$\odot$", "Σ": r"$\Sigma$", "²": r"$^2$", "σ": r"$\sigma$",
    **{c: "\\" + c for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"$^{{{plain}}}$" for c, plain in zip("⁰¹³⁴⁵⁶⁷⁸⁹⁽⁾⁻", "013456789()-", strict=True)},
}  # fmt: skip


def plain_latex(text: str) -> str:
    """Words for LaTeX's text mode; what pdflatex has no letter for becomes a question mark."""

    def written(c: str) -> str:
        if c in _PLAIN or c.isascii():
            return _PLAIN.get(c, c)
        greek = _greek_name(c)
        return rf"$\{greek}$" if greek in _GREEK else "?"

    return "".join(map(written, text))


def gradient_of(result: Formula, value: Formula) -> Formula:
    """The symbol dL/dv."""
    return Formula(f"d{result.text}/d{value.text}", rf"\frac{{\partial {result.latex}}}{{\partial {value.latex}}}")


def dotted(name: Formula) -> Formula:
    """The symbol of a tangent: v̇."""
    return Formula(f"{name.text[0]}\u0307{name.text[1:]}", rf"\dot{{{name.latex}}}")


# Values ------------------------------------------------------------------------------------------------------------


def expression(primitive: Primitive, operands: Mapping[str, Formula], variadic: list[Formula], params: Any) -> Formula:
    """How a step's value is written over its operands."""
    words = _words(params)
    text, latex = primitive.text, primitive.latex
    if primitive.variadic:
        inside = [wrapped(f) for f in variadic]
        text += "(" + ", ".join(f.text for f in inside) + ")"
        latex += r"\left(" + ", ".join(f.latex for f in inside) + r"\right)"
    return filled(Formula(text, latex), operands, words)


def _words(params: Any) -> dict[str, str]:
    """Static parameters as they are written in a formula."""
    return {name: _index(value) if name == "index" else str(value) for name, value in (params or {}).items()}


def _index(index: Any) -> str:
    """An index as it is typed: `0, 1:3`; arrays are left out."""

    def part(place: Any) -> str:
        if isinstance(place, slice):
            edges = ["" if edge is None else str(edge) for edge in (place.start, place.stop, place.step)]
            return ":".join(edges[: 3 if place.step is not None else 2])
        return str(place) if isinstance(place, int) else "None" if place is None else "…"

    return ", ".join(map(part, index if isinstance(index, tuple) else (index,)))


def filled(template: Formula, operands: Mapping[str, Formula], words: Mapping[str, str]) -> Formula:
    """A declared formula with names in the places of its operands and static parameters."""
    inside = {name: wrapped(f) for name, f in operands.items()}
    text = Template(template.text).safe_substitute(words, **{n: f.text for n, f in inside.items()})
    latex = Template(template.latex).safe_substitute(words, **{n: f.latex for n, f in inside.items()})
    return Formula(_tidy(text), _tidy_latex(latex))


def scalar_products(formula: Formula) -> Formula:
    """The same with a plain product sign: for numbers, ⊙ is ·."""
    return Formula(formula.text.replace("⊙", "·"), formula.latex.replace(r"\odot", r"\cdot"))


def array_products(formula: Formula) -> Formula:
    """The same with the elementwise product sign: for arrays, · would be a matrix product."""
    return Formula(formula.text.replace("·", " ⊙ "), formula.latex)


def _tidy(text: str) -> str:
    """Constant exponents worked out, doubled parentheses and factors of one removed."""
    if "^" in text:
        text = re.sub(r"\^\((\d+)−1\)", lambda m: _power(int(m[1]) - 1), text)
        text = re.sub(r"\^(\d+)(?![\d.])", lambda m: _power(int(m[1])), text)
    if "((" in text:
        text = re.sub(r"(?<![\w)\]])\(\(([^()]*)\)\)", r"(\1)", text)
    if "1·" in text:
        text = re.sub(r"(?<![\w.)\]])1·", "", text)
    return text.replace("− −", "+ ").replace("+ −", "− ")


def _power(exponent: int) -> str:
    return "" if exponent == 1 else str(exponent).translate(_SUPERSCRIPT)


def _tidy_latex(latex: str) -> str:
    if "-1}" in latex:
        latex = re.sub(r"\^\{(\d+)-1\}", lambda m: "" if m[1] == "2" else f"^{{{int(m[1]) - 1}}}", latex)
    return latex


# Gradients ---------------------------------------------------------------------------------------------------------


def local_template(primitive: Primitive, index: int, shape: tuple[int, ...], params: Any) -> Formula | None:
    """What the declaration says of the derivative with respect to input number `index`, of that shape."""
    written = primitive.local
    place = min(index, len(written) - 1) if primitive.variadic else index
    if not 0 <= place < len(written):
        return None
    given = written[place]
    text, latex = given(shape, **(params or {})) if callable(given) else given
    if not text:
        return None
    return Formula(_COTANGENT.sub(_MARK, text), _COTANGENT_LATEX.sub(_MARK, latex))


def names_cotangent(text: str) -> bool:
    """Whether a derivative, as declared, names the cotangent: then it is a whole vector-Jacobian product."""
    return bool(_COTANGENT.search(text))


def is_product(template: Formula) -> bool:
    """Whether a declared derivative is the whole vector-Jacobian product, not a factor of the cotangent."""
    return _MARK in template.text or "g_" in template.text


def shown(local: Formula) -> Formula:
    """A declared derivative with a letter for the cotangent."""
    return Formula(local.text.replace(_MARK, "g"), local.latex.replace(_MARK, r"\delta"))


def local_formula(node: Node, index: int, operands: Mapping[str, Formula]) -> Formula | None:
    """The derivative of a step with respect to one input, over the user's names."""
    primitive: Primitive = node.primitive  # type: ignore[assignment]
    shape = next((tuple(parent.shape) for parent, rule, _ in node.edges or () if rule.index == index), ())
    template = local_template(primitive, index, shape, node.params)
    if template is None:
        return None
    return filled(template, operands, _words(node.params))


def times(upstream: Formula | None, local: Formula, *, scalar: bool) -> Formula:
    """The chain rule for one edge: the cotangent `upstream` (None for 1) and what the edge makes of it."""
    if is_product(local):
        g = wrapped(upstream or ONE, "⊙")
        grouped = g.text if g.text.isidentifier() or _is_bracketed(g.text) else f"({g.text})"
        text = re.sub(_MARK + "(?=[ᵀ⁻])", lambda _: grouped, local.text).replace(_MARK, g.text)
        tight = g.latex if g.latex.startswith(r"\left(") else rf"\left({g.latex}\right)"
        latex = re.sub(_MARK + r"(?=\^)", lambda _: tight, local.latex).replace(_MARK, g.latex)
        return Formula(_tidy(text), _tidy_latex(latex))
    if upstream is None or upstream.text == "1":
        return local
    if local.text in ("1", "−1"):
        sign = "" if local.text == "1" else "−"
        inside = wrapped(upstream) if sign else upstream
        return Formula(sign + inside.text, sign.replace("−", "-") + inside.latex)
    other = "" if scalar else "·"
    left, right = wrapped(upstream, other), wrapped(local, other)
    dot, dot_latex = ("·", r" \cdot ") if scalar else (" ⊙ ", r" \odot ")
    return Formula(f"{left.text}{dot}{right.text}", f"{left.latex}{dot_latex}{right.latex}")


def plus(terms: list[Formula]) -> Formula:
    """The sum over paths."""
    text, latex = " + ".join(t.text for t in terms), " + ".join(t.latex for t in terms)
    return Formula(text.replace("+ −", "− "), latex.replace("+ -", "- "))


def row(terms: list[Formula]) -> Formula:
    """The gradients of a step's several outputs, one after the other."""
    text, latex = ", ".join(t.text for t in terms), r",\ ".join(t.latex for t in terms)
    return Formula(f"({text})", rf"\left({latex}\right)")


def summed(formula: Formula) -> Formula:
    """The sum over the axes along which an input was stretched."""
    inside = wrapped(formula)
    text = inside.text if inside.text.startswith("(") else f" {inside.text}"
    return Formula(f"Σ{text}", rf"\textstyle\sum {inside.latex}")


def wrapped(formula: Formula, also: str = "") -> Formula:
    """In parentheses, unless it binds as tightly as a product; `also` names further signs that are too loose."""
    if not _is_loose(formula.text, also):
        return formula
    return Formula(f"({formula.text})", rf"\left({formula.latex}\right)")


def _is_loose(text: str, also: str) -> bool:
    """Whether there is a sign or a condition outside all brackets."""
    if text.isalnum():
        return False
    if text.startswith("−"):
        return True
    depth = 0
    for place, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and (c in "+−Σ" or c in also or text.startswith((" if ", " with ", " where ", ", "), place)):
            return True
    return False


def _is_bracketed(text: str) -> bool:
    """Whether one pair of parentheses holds all of it."""
    depth = 0
    for place, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and place < len(text) - 1:
            return False
    return text.startswith("(")
