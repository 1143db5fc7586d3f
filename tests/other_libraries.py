"""Whether operations give on arrays of another library what they give on NumPy arrays."""

import numpy as np
from array_api_compat import array_namespace
from numpy.testing import assert_allclose

import chainrule as cr


def assert_same_on(library, function, *arrays):
    """Values, first and second derivatives and tangents of `function` on `library` are those on NumPy."""
    ours = derivatives(function, [library.asarray(x) for x in arrays])
    for result, oracle in zip(ours, derivatives(function, arrays), strict=True):
        assert array_namespace(result) is array_namespace(library.asarray(0.0))
        assert_allclose(np.asarray(result), oracle, rtol=1e-12, atol=1e-13)


def assert_same_constants_on(library, function, *arrays):
    """As `assert_same_on`, for results that carry no gradient."""
    ours = parts(function(*(cr.tensor(library.asarray(x)) for x in arrays)))
    for result, oracle in zip(ours, parts(function(*map(cr.tensor, arrays))), strict=True):
        assert array_namespace(result.data) is array_namespace(library.asarray(0.0))
        assert_allclose(np.asarray(result), np.asarray(oracle))


def derivatives(function, arrays):
    """Of a scalar that depends on every element of the result in its own way."""

    def scalar(*xs):
        return sum(((part + 1) ** 3).sum() for part in parts(function(*xs)))

    every = tuple(range(len(arrays)))
    gradient = cr.grad(scalar, every)
    second = cr.grad(lambda *xs: sum((g * g).sum() for g in gradient(*xs)), every)
    values = [part.data for part in parts(function(*map(cr.tensor, arrays)))]
    return [*values, *gradient(*arrays), *second(*arrays), *cr.jvp(scalar, tuple(arrays), tuple(arrays))]


def parts(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]
