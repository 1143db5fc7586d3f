"""Compiling a function of arrays to machine code.

The stages, in the order a call goes through them:

    capture, recording   what a function closes over; one run of it as a graph
                         (`tracing`, `operations`, `indexing`, `graph`)
    simplify             the same numbers with less work (`sums`)
    fuse, places         what is computed together, and which elements it reads (`homes`)
    plan, kernels        the order of kernels and the memory between them
    loops, gemm          LLVM code of each kernel (`scalars`, `vectormath`)
    executable, threads  machine code, its cache, and running it on all cores (`machine`, `cache`, `shares`)
    variant, bindings    a program connected to the arrays it reads and writes (`glance`)
    step                 which program to run, call by call
    native               programs for single operations of eager code
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.compile.errors import TraceError, Unsupported
from chainrule.core.native import Native, compilers

__all__ = ["TraceError", "Unsupported", "compile"]


def compile(
    function: Callable | None = None, *, strict: bool = False, limit: int = 16, threads: int | None = None
) -> Any:
    """Make a function of arrays one program of machine code.

    The first call with arguments of new shapes or dtypes runs as ever and is recorded whole: forward pass, backward
    pass, clipping, optimiser, running statistics. Later calls run the compiled program, with equal results to
    rounding. (Where arrays are large, the first call is recorded without computing anything, and runs it too.) Arrays
    the function closes over (parameters, gradients, the optimiser's state) are read at each call and written back in
    place. Python code runs only while recording: it must not read values (`bool`, `float`, `item`),
    nor change anything but arrays.

    Args:
        function: a training step that closes over modules and optimisers, or a pure function such as `cr.grad(f)`.
            Left out, `compile` is a decorator with options.
        strict: raise where the function cannot be compiled, instead of running it as it is after one warning.
        limit: how many different sets of shapes are compiled; then the function runs as it is.
        threads: how many threads share the work; by default all cores where that is faster.

    Returns:
        A function of the same arguments, with `report()` and `show()`.

    Raises:
        TypeError: what is given is no function.
        TraceError: at the first call, where the function reads a value or has a side effect.
        Unsupported: with `strict`, where the function cannot be compiled.
    """
    if function is not None and not callable(function):
        raise TypeError(f"compile: needs a function, got {type(function).__name__}")
    from chainrule.compile import operations  # noqa: F401  (makes traced arrays known)
    from chainrule.compile.step import Compiled  # only now: LLVM takes a moment to load

    if function is None:
        return lambda inner: Compiled(inner, strict, limit, threads)
    return Compiled(function, strict, limit, threads)


def _compile_native(native: Native, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
    from chainrule.compile.native import compile_native  # only now: LLVM takes a moment to load

    return compile_native(native, inputs, params)


compilers[:] = [_compile_native]

# What the package has under the name `compile` is the function: there `import chainrule.compile.report as report` looks
# first, and then for a module of the function's name and `.report`.
compile.__name__ = __name__
