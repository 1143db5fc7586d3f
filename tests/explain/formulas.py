"""Evaluates the formulas that `explain` prints, by themselves, from the values of the names in them.

An independent reading of the notation: · is a matrix product (or a product with a number), ⊙ an elementwise one, ᵀ a
transpose, 1[…] an indicator, Σ at the start a sum down to the shape wanted, Σ(…) elsewhere a sum along the last axis.
"""

import re

import numpy as np
import scipy.special


class Value:
    """An array that multiplies as on a whiteboard."""

    def __init__(self, array, transposed=False):
        self.array = np.asarray(array, dtype=float)
        self.transposed = transposed

    @property
    def T(self):
        return Value(self.array.T if self.array.ndim > 1 else self.array, not self.transposed)

    def __matmul__(self, other):
        a, b = self.array, of(other).array
        if not a.ndim or not b.ndim:
            return Value(a * b)
        if a.ndim == b.ndim == 1 and (self.transposed or of(other).transposed):
            return Value(np.outer(a, b))
        return Value(a @ b)

    def __rmatmul__(self, other):
        return of(other) @ self

    def __neg__(self):
        return Value(-self.array)

    def _with(operation):
        return lambda self, other: Value(operation(self.array, of(other).array))

    __add__, __radd__ = _with(np.add), _with(lambda a, b: b + a)
    __sub__, __rsub__ = _with(np.subtract), _with(lambda a, b: b - a)
    __mul__, __rmul__ = _with(np.multiply), _with(np.multiply)
    __truediv__, __rtruediv__ = _with(np.divide), _with(lambda a, b: b / a)
    __pow__ = _with(np.power)
    __gt__, __ge__, __le__, __lt__ = map(_with, (np.greater, np.greater_equal, np.less_equal, np.less))


def of(x):
    return x if isinstance(x, Value) else Value(x)


def evaluate(formula, known, shape, axis=-1):
    """The value of a printed formula.

    `known` has the values of names and symbols such as dL/dz1; `shape` is that of the result; mean(…) runs over `axis`.
    """
    names = {}
    for symbol in sorted(known, key=len, reverse=True):
        key = f"S{len(names)}_"
        pattern = rf"(?<![A-Za-z0-9_.⁽]){re.escape(symbol)}(?![A-Za-z0-9_(]|⁽)"
        formula, count = re.subn(pattern, key, formula)
        if count:
            names[key] = of(known[symbol])
    formula, _, definitions = formula.partition(" with ")
    names |= {name: lambda x, f=f: Value(f(of(x).array)) for name, f in FUNCTIONS.items()}
    names |= {
        "average": lambda x: Value(of(x).array.mean(axis=axis, keepdims=True)),
        "total": lambda x: Value(of(x).array.sum(axis=-1, keepdims=True)),
        "down": lambda x: Value(_down(of(x).array, shape)),
        "choose": lambda condition, a, b: Value(np.where(of(condition).array, of(a).array, of(b).array)),
        "pi_": Value(np.pi),
    }
    for definition in definitions.split(", ") if definitions else ():
        name, _, meaning = definition.partition(" = ")
        names[_spelled(name)] = _value(meaning, names)
    return np.broadcast_to(_value(formula, names).array, shape)


def _value(formula, names):
    return of(eval(_spelled(formula), {"__builtins__": {}}, dict(names)))  # noqa: S307


FUNCTIONS = {
    "exp": np.exp, "ln": np.log, "sin": np.sin, "cos": np.cos, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sign": np.sign, "sqrt": np.sqrt, "σ": scipy.special.expit, "Φ": scipy.special.ndtr, "floor": np.floor,
    "φ": lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi), "ψ": scipy.special.digamma,
    "ψprime": lambda x: scipy.special.polygamma(1, x),
}  # fmt: skip
_WORDS = "|".join(name for name in FUNCTIONS if name not in ("sqrt", "floor"))


def _spelled(formula):
    """The formula as a Python expression."""
    formula = formula.strip().replace("ĝ", "ghat").replace("x̂", "xhat").replace("′", "prime")
    formula = re.sub(r"^(.*?) if (.*?) else (.*)$", r"choose(\2, \1, \3)", formula)
    formula = formula.replace("mean(", "average(").replace("√(", "sqrt(").replace("√π", "sqrt(π)")
    formula = (
        formula.replace("⌊", "floor(")
        .replace("⌋", ")")
        .replace("π", "pi_")
        .replace("ln 10", "ln(10)")
        .replace("ln 2", "ln(2)")
    )
    formula = re.sub(r"√(\w+)", r"sqrt(\1)", formula)
    formula = re.sub(rf"(?<!\w)({_WORDS})\s+(−?\s*\w+(?:\s*/\s*\w+)?)", r"\1(\2)", formula)
    formula = re.sub(r"1\[([^\]]*)\]", r"(\1)", formula)
    if formula.startswith("Σ"):
        formula = f"down({formula[1:]})"
    formula = formula.replace("Σ(", "total(").replace("ᵀ", ".T").replace("−", "-").replace("·", "@").replace("⊙", "*")
    for sign, power in (("²", "**2"), ("³", "**3")):
        formula = re.sub(rf"\s*{sign}", power, formula)
    formula = re.sub(r"([\w)])\s*\(", lambda m: m[0] if _is_name(formula, m.start(1)) else f"{m[1]}*(", formula)
    return formula.replace("≥", ">=").replace("≤", "<=").replace("^", "**")


def _is_name(formula, place):
    """Whether the word that ends at `place` is a function, not a factor."""
    word = re.search(r"[\wσΦφψ]+$", formula[: place + 1])
    return bool(word) and word[0] in {*FUNCTIONS, "average", "total", "down", "choose"}


def _down(array, shape):
    while array.ndim > len(shape):
        array = array.sum(axis=0)
    for axis, length in enumerate(shape):
        if length == 1 != array.shape[axis]:
            array = array.sum(axis=axis, keepdims=True)
    return array
