"""Every elementwise function and conversion as native code, beside NumPy, on all dtypes and widths of vectors."""

import dataclasses
import functools
import warnings

import numpy as np
import pytest
from compile.loop_interpreter import numpy_function, run

from chainrule.compile.kernels import Access, Instruction, Loop
from chainrule.compile.machine import Machine
from chainrule.compile.scalars import FUNCTIONS

DTYPES = [np.dtype(code) for code in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]
SHIFTS = ("bitwise_left_shift", "bitwise_right_shift")


def special_values(dtype):
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind == "f":
        info = np.finfo(dtype)
        some = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 100.0, float(info.max), float(info.tiny), float(info.smallest_subnormal)]
        return [sign * x for x in [*some, np.inf] for sign in (1, -1)] + [np.nan]
    info = np.iinfo(dtype)
    return [x for x in (0, 1, 2, 3, 7, -1, -2, -3, info.max, info.min, info.max - 1) if info.min <= x <= info.max]


@functools.cache
def samples(dtype):
    """Two flat arrays: all pairs of special values, then random ones."""
    rng = np.random.default_rng(7)
    special = np.array(special_values(dtype), dtype)
    x, y = (part.ravel() for part in np.meshgrid(special, special))
    if dtype.kind == "f":
        more = (rng.standard_normal((2, 301)) * 10 ** rng.uniform(-2, 2, (2, 301))).astype(dtype)
    elif dtype.kind == "b":
        more = rng.random((2, 301)) < 0.5
    else:
        more = rng.integers(-50 if dtype.kind == "i" else 0, 100, (2, 301)).astype(dtype)
    return np.concatenate([x, more[0]]), np.concatenate([y, more[1]])


def machine_of(bits, dtype):
    """This machine, said to have vectors of so many bits; 0 for none."""
    return dataclasses.replace(Machine.host(), vector_bits=bits or 8 * dtype.itemsize)


def names(dtype):
    return [name for name, function in FUNCTIONS.items() if dtype.kind in function.kinds]


@functools.cache
def results(dtype, bits):
    """What one kernel with all functions of a dtype gives."""
    x, y = samples(dtype)
    exponent = np.abs(y) % 5 if dtype.kind in "iu" else y  # NumPy refuses negative ones
    n = len(x)
    along = (1,)
    body = [Instruction("load", dtype, access=Access(i, 0, along)) for i in range(3)]
    outputs = []
    for name in names(dtype):
        function = FUNCTIONS[name]
        second = 2 if name == "pow" else 1
        kind = np.dtype(bool) if function.truth else dtype
        body.append(Instruction(name, kind, (0, second)[: function.inputs]))
        body.append(Instruction("store", kind, (len(body) - 1,), Access(3 + len(outputs), 0, along)))
        outputs.append(np.full(n, 77).astype(kind))
    arguments = [x, y, exponent, *outputs]
    loop = Loop((n,), (), tuple(body), tuple(a.dtype for a in arguments))
    run(loop, arguments, machine=machine_of(bits, dtype))
    return dict(zip(names(dtype), outputs, strict=True)), (x, y, exponent)


@pytest.mark.parametrize("bits", [0, 128, 256, None])
@pytest.mark.parametrize("dtype, name", [(dtype, name) for dtype in DTYPES for name in names(dtype)], ids=str)
def test_a_function_gives_what_numpy_gives(dtype, name, bits):
    outputs, (x, y, exponent) = results(dtype, Machine.host().vector_bits if bits is None else bits)
    inputs = (x, exponent if name == "pow" else y)[: FUNCTIONS[name].inputs]
    with np.errstate(all="ignore"):
        expected = numpy_function(name)(*inputs)
    assert outputs[name].dtype == expected.dtype
    if FUNCTIONS[name].approximate and dtype.kind == "f":
        rtol = 1e-6 if dtype.itemsize == 4 else 1e-13  # how accurate they are is for the tests of `vectormath` to say
        np.testing.assert_allclose(outputs[name], expected, rtol=rtol, atol=np.finfo(dtype).tiny)
    else:
        np.testing.assert_array_equal(outputs[name], expected)
    if dtype.kind == "f" and not FUNCTIONS[name].truth and name not in ("maximum", "minimum"):
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(outputs[name])[known], np.signbit(expected)[known])


def in_range(x, target):
    """Values whose conversion to an integer dtype is defined."""
    if x.dtype.kind != "f" or target.kind not in "iu":
        return x
    info = np.iinfo(target)
    with np.errstate(invalid="ignore"):
        return x[(x > float(info.min) - 1) & (x < float(info.max))]


@pytest.mark.parametrize("bits", [0, None])
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_a_conversion_gives_what_astype_gives(source, bits):
    for target in DTYPES:
        x = in_range(samples(source)[0], target)
        body = (
            Instruction("load", source, access=Access(0, 0, (1,))),
            Instruction("astype", target, (0,)),
            Instruction("store", target, (1,), Access(1, 0, (1,))),
        )
        y = np.empty(len(x), target)
        wide = source if source.itemsize > target.itemsize else target
        machine = machine_of(bits, wide) if bits == 0 else Machine.host()
        run(Loop((len(x),), (), body, (source, target)), [x, y], machine=machine)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(y, x.astype(target), err_msg=f"{source} to {target}")


def test_an_unknown_instruction_is_named_in_the_error():
    body = (Instruction("load", DTYPES[0], access=Access(0, 0, (1,))), Instruction("frobnicate", DTYPES[0], (0,)))
    with pytest.raises(NotImplementedError, match="frobnicate: no code is known"):
        run(Loop((3,), (), body, (DTYPES[0],)), [np.zeros(3, "f4")])


def test_a_function_refuses_a_dtype_that_it_is_not_defined_for():
    body = (Instruction("load", np.dtype("i4"), access=Access(0, 0, (1,))), Instruction("sqrt", np.dtype("i4"), (0,)))
    with pytest.raises(TypeError, match="sqrt: no code is known for int32"):
        run(Loop((3,), (), body, (np.dtype("i4"),)), [np.zeros(3, "i4")])
