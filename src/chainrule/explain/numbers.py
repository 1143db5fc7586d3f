"""How numbers and arrays are shown: whole where they are small, summarised where they are large."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.tensor import _raw

#: Arrays of up to this many elements, and two axes, are shown whole.
SHOWN_WHOLE = 9


def is_small(value: Any) -> bool:
    """Whether an array is shown element by element."""
    return value is not None and value.size <= SHOWN_WHOLE and value.ndim <= 2


def as_array(value: Any) -> np.ndarray | None:
    """A value of any array library as a NumPy array; None stays None."""
    value = _raw(value)
    if value is None or isinstance(value, np.ndarray):
        return value
    return np.asarray(value)


def number(value: Any, digits: int = 6, minus: str = "−") -> str:
    """One number with `digits` significant digits."""
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    text = f"{float(value):.{digits}g}"
    if text == "-0":
        text = "0"
    return text.replace("-", minus)


def array(value: Any, digits: int = 6) -> str:
    """An array as text: a number, `[1 2]`, `[[1 2] [3 4]]`, or a summary in words."""
    value = as_array(value)
    if value is None:
        return "not kept"
    if value.ndim == 0:
        return number(value[()], digits)
    if is_small(value):
        return "[" + " ".join(array(part, digits) for part in value) + "]"
    return ", ".join(f"{name} {text}" for name, text in summary(value).items() if name != "shape")


def array_latex(value: Any, digits: int = 6) -> str:
    """As `array`, in LaTeX: vectors as rows, matrices as matrices."""
    value = as_array(value)
    if value is None:
        return r"\text{not kept}"
    if value.ndim == 0:
        return number_latex(value[()], digits)
    if not is_small(value):
        return rf"\text{{{array(value).replace('−', '-').replace('%', chr(92) + '%')}}}"
    rows = value.reshape(1, -1) if value.ndim == 1 else value
    body = r" \\ ".join(" & ".join(number_latex(v, digits) for v in row) for row in rows)
    return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"


def number_latex(value: Any, digits: int = 6) -> str:
    """One number in LaTeX, powers of ten written out."""
    text = number(value, digits, minus="-")
    mantissa, e, exponent = text.partition("e")
    if mantissa in ("nan", "inf", "-inf"):
        return {"nan": r"\text{NaN}", "inf": r"\infty", "-inf": r"-\infty"}[mantissa]
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else mantissa


def summary(value: np.ndarray) -> dict[str, str]:
    """Shape, norm, least and greatest element, and share of zeros of an array."""
    if not value.size:
        return {"shape": shape(value.shape), "empty": ""}
    wide = value.astype(np.float64)
    return {
        "shape": shape(value.shape),
        "norm": number(np.linalg.norm(wide.reshape(-1)), 4),
        "min": number(wide.min(), 4),
        "max": number(wide.max(), 4),
        "zeros": f"{100 * float((wide == 0).mean()):.3g} %",
    }


def shape(lengths: Any) -> str:
    """A shape as it is spoken: `scalar`, `3`, `3×4`; several of them with commas."""
    if lengths and isinstance(lengths[0], (tuple, list)):
        return ", ".join(map(shape, lengths))
    return "×".join(map(str, lengths)) if lengths else "scalar"
