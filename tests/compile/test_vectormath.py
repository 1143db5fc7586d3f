"""Elementary functions written out in LLVM code: their accuracy, their special values, scalars against vectors."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

pytest.importorskip("llvmlite")

from chainrule.compile import ir, vectormath
from chainrule.compile.lanes import Module
from chainrule.compile.machine import Machine, compile_module

NUMPY_NAMES = {
    "pow": "power",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
BINARY = {"pow", "atan2", "hypot", "logaddexp"}
NAMES = sorted(vectormath.NAMES)
DTYPES = ["float32", "float64"]
COUNT = 30_000
#: More digits than float64 has; where the platform has no such type, float64's functions are the measure.
EXTENDED = np.longdouble


class Compiled:
    """The functions of one dtype and number of lanes, in one module."""

    def __init__(self, dtype: str, lanes: int) -> None:
        self.dtype, self.lanes = np.dtype(dtype), lanes
        self.module = Module("", scales=Machine.host().vector_bits == 512)
        for name in NAMES:
            self._loop_over(name)
        self.native = compile_module(self.module, Machine.host())

    def _loop_over(self, name: str) -> None:
        """Add a function `void (i64 count, ptr inputs..., ptr output)`."""
        element: ir.Type = ir.FloatType() if self.dtype.itemsize == 4 else ir.DoubleType()
        kind = element if self.lanes == 1 else ir.VectorType(element, self.lanes)
        pointers = [ir.PointerType()] * (3 if name in BINARY else 2)
        count_type = ir.IntType(64)
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [count_type, *pointers]), f"all_{name}")
        builder = ir.IRBuilder(function.append_basic_block())
        start, loop = builder.block, builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(count_type)
        count, *inputs, output = function.args
        places = [builder.gep(pointer, [index], source_etype=element) for pointer in (*inputs, output)]
        values = [builder.load(place, typ=kind, align=self.dtype.itemsize) for place in places[:-1]]
        builder.store(vectormath.emit(builder, name, *values), places[-1], align=self.dtype.itemsize)
        following = builder.add(index, ir.Constant(count_type, self.lanes))
        index.add_incoming(ir.Constant(count_type, 0), start)
        index.add_incoming(following, builder.block)
        done = builder.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        builder.position_at_end(done)
        builder.ret_void()

    def __call__(self, name: str, *arguments: Any) -> np.ndarray:
        """The function's values; arguments are filled up to whole vectors."""
        size = np.size(arguments[0])
        padded = -(-size // self.lanes) * self.lanes
        inputs = [np.ones(padded, self.dtype) for _ in arguments]
        for array, argument in zip(inputs, arguments, strict=True):
            array[:size] = argument
        output = np.empty(padded, self.dtype)
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (len(inputs) + 1))
        function = prototype(self.native.address(f"all_{name}"))
        function(padded, *[array.ctypes.data for array in (*inputs, output)])
        return output[:size]


@functools.cache
def compiled(dtype: str, lanes: int) -> Compiled:
    return Compiled(dtype, lanes)


def of_vectors(dtype: str) -> Compiled:
    return compiled(dtype, Machine.host().lanes(dtype))


def erfc_extended(x: np.ndarray) -> np.ndarray:
    """Laplace's continued fraction for x ≥ 2 (Abramowitz and Stegun 7.1.14)."""
    below = x
    for k in range(120, 0, -1):
        below = x + EXTENDED(k) / 2 / below
    return np.exp(-x * x) / below / np.sqrt(np.arccos(EXTENDED(-1)))


def erf_series(x: np.ndarray) -> np.ndarray:
    """The series of positive terms, for |x| up to 2 (Abramowitz and Stegun 7.1.6)."""
    term = 2 * x * np.exp(-x * x) / np.sqrt(np.arccos(EXTENDED(-1)))
    total = term
    for k in range(1, 60):
        term = term * (2 * x * x) / (2 * k + 1)
        total = total + term
    return total


def oracle(name: str) -> Callable[..., np.ndarray]:
    if name == "erf":
        return lambda x: np.where(
            abs(x) < 2, erf_series(np.clip(x, -2, 2)), np.sign(x) * (1 - erfc_extended(np.clip(abs(x), 2, 30)))
        )
    if name == "erfc":
        # The difference loses a factor of 200 of the extended type's precision at most.
        return lambda x: np.where(x < 2, 1 - oracle("erf")(x), erfc_extended(np.clip(x, 2, 200)))
    return getattr(np, NUMPY_NAMES.get(name, name))


def arguments(name: str, dtype: str) -> list[np.ndarray]:
    """Numbers of all sizes, and many where the function varies."""
    generator = np.random.default_rng(0)
    integers = {"float32": np.uint32, "float64": np.uint64}[dtype]

    def draw(spread: float) -> np.ndarray:
        everything = generator.integers(0, np.iinfo(integers).max, COUNT, dtype=integers).view(dtype)
        everything = everything[np.isfinite(everything)]
        near_one = 1 + generator.normal(size=COUNT) * 0.1
        uniform = [generator.uniform(-span, span, COUNT) for span in (1, 6, spread)]
        return np.concatenate([everything[: COUNT // 2], near_one, *uniform]).astype(dtype)

    spread = 1e5 if name in {"sin", "cos", "tan"} else 720 if dtype == "float64" else 100
    drawn = [
        generator.permutation(draw(spread)) if name in BINARY else draw(spread) for _ in range(1 + (name in BINARY))
    ]
    return [x[: min(map(len, drawn))] for x in drawn]


def errors_in_ulp(name: str, dtype: str, values: np.ndarray, exact: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray:
    info = np.finfo(dtype)
    scale = abs(exact)
    if name == "logaddexp":
        scale = functools.reduce(np.maximum, [scale, *map(abs, inputs)])
    unit = np.ldexp(EXTENDED(1), np.frexp(np.maximum(scale, info.tiny))[1] - 1 - info.nmant)
    same = (values == exact.astype(dtype)) | (np.isnan(values) & np.isnan(exact))
    errors = abs(values.astype(EXTENDED) - exact) / unit
    # A result just past the largest number may be infinite or not, whichever way it is rounded.
    return np.where(same & ~np.isfinite(errors), 0, errors)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_errors_stay_within_the_bounds_that_are_promised(name: str, dtype: str) -> None:
    inputs = arguments(name, dtype)
    exact = oracle(name)(*(x.astype(EXTENDED) for x in inputs))
    errors = errors_in_ulp(name, dtype, of_vectors(dtype)(name, *inputs), exact, inputs)
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    bound = vectormath.ULP_BOUNDS[name][DTYPES.index(dtype)]
    assert errors[worst] <= bound, [float(x[worst]) for x in inputs]


SPECIAL = [0.0, 1.0, 2.0, 3.0, 0.5, 2.5, 1e-30, 1e30, 1e-42, 5e-324, 1e-310, 1e308, np.inf, np.nan]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values_are_numpys(name: str, dtype: str) -> None:
    numbers = np.array([sign * x for x in SPECIAL for sign in (1, -1)], dtype=dtype)
    pairs = np.array(list(itertools.product(numbers, numbers)), dtype=dtype).T
    inputs = list(pairs) if name in BINARY else [numbers]
    function = getattr(special, name) if name in {"erf", "erfc"} else oracle(name)
    want, got = function(*inputs), of_vectors(dtype)(name, *inputs)
    tolerance = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=4 * np.finfo(dtype).smallest_subnormal)
    signed = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(want)[signed])
    exact = signed & (np.isinf(want) | (want == 0))
    if name not in {"erfc"}:  # SciPy gives up subnormal results
        np.testing.assert_array_equal(got[exact], want[exact])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_scalar_has_the_value_it_has_in_a_vector(name: str, dtype: str) -> None:
    inputs = [x[::97] for x in arguments(name, dtype)]
    np.testing.assert_array_equal(compiled(dtype, 1)(name, *inputs), of_vectors(dtype)(name, *inputs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_next_to_multiples_of_a_right_angle_keep_their_precision(name: str, dtype: str) -> None:
    x = (np.arange(1, 60_000) * (np.pi / 2)).astype(dtype)
    exact = oracle(name)(x.astype(EXTENDED))
    errors = errors_in_ulp(name, dtype, of_vectors(dtype)(name, x), exact, [x])
    assert errors.max() <= vectormath.ULP_BOUNDS[name][DTYPES.index(dtype)]


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(BINARY))
@given(x=FINITE, y=FINITE | st.integers(-1000, 1000).map(float))
def test_any_two_numbers_give_what_the_extended_type_gives(name: str, x: float, y: float) -> None:
    inputs = [np.array([x]), np.array([y])]
    exact = oracle(name)(*(value.astype(EXTENDED) for value in inputs))
    errors = errors_in_ulp(name, "float64", of_vectors("float64")(name, *inputs), exact, inputs)
    assert errors[0] <= vectormath.ULP_BOUNDS[name][1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_below_the_smallest_normal_number_are_reached_gradually(dtype: str) -> None:
    tiny = float(np.log(np.finfo(dtype).smallest_normal))
    x = np.linspace(tiny - 17, tiny + 1, 1000).astype(dtype)
    got = of_vectors(dtype)("exp", x)
    unit = float(np.finfo(dtype).smallest_subnormal)
    subnormal = x < tiny
    np.testing.assert_allclose(got[subnormal], np.exp(x[subnormal].astype(np.float64)), rtol=0, atol=2 * unit)
    assert (np.diff(got) >= 0).all()


def test_a_function_is_defined_once_in_a_module() -> None:
    module = ir.Module()
    kind = ir.VectorType(ir.FloatType(), 4)
    function = ir.Function(module, ir.FunctionType(kind, [kind]), "twice")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(vectormath.emit(builder, "exp", vectormath.emit(builder, "exp", *function.args)))
    assert str(module).count("define internal") == 1
