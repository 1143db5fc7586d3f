"""Axes of a product's factors whose elements are not evenly spaced, such as the windows of an array.

The stride along m, n or k is a number, or it is uneven: the lengths and strides of the axes that it is made of, from
the outermost to the innermost. Generated code looks up in a table of constants where the elements are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from chainrule.compile import ir
from chainrule.compile.kernels import Gemm, Instruction, Stride, Uneven
from chainrule.compile.scalars import INT64, int64


def is_even(stride: Stride) -> bool:
    """Whether it is one number."""
    return isinstance(stride, int)


def near(stride: Stride) -> int:
    """From an element to the next, along most of an axis."""
    return stride if isinstance(stride, int) else stride[-1][1]


def digits(stride: Stride, like: Stride) -> Uneven:
    """A stride as one of an axis made of the same axes as another's."""
    if not isinstance(stride, int):
        return stride
    lengths = [n for n, _ in like] if not isinstance(like, int) else [1]
    return tuple((n, stride * math.prod(lengths[i + 1 :])) for i, n in enumerate(lengths))


def distance(builder: ir.IRBuilder, index: ir.Value, stride: Stride) -> ir.Value:
    """How far element number `index` is from the first."""
    if isinstance(stride, int):
        return builder.mul(index, int64(stride))
    places = _table(builder.module, stride)
    return builder.load(builder.gep(places, [index], source_etype=INT64), typ=INT64, align=8)


def _table(module: ir.Module, stride: Uneven) -> ir.GlobalVariable:
    """The distances of all elements from the first, as a constant of the module."""
    name = "places." + ".".join(f"{n}x{step}" for n, step in stride)
    known = module.globals.get(name)
    if known is None:
        steps = itertools.product(*([i * step for i in range(n)] for n, step in stride))
        places = [sum(choice) for choice in steps]
        kind = ir.ArrayType(INT64, len(places))
        known = ir.GlobalVariable(module, kind, name)
        known.initializer = ir.Constant(kind, places)
        known.global_constant = True
        known.linkage = "internal"
    return known


def with_even_rows(kernel: Gemm) -> Gemm:
    """The product with all but the innermost of the axes that m is made of as batch axes, where a is uneven there."""
    along_m = kernel.a.strides[-2]
    if isinstance(along_m, int):
        return kernel
    *_, (rows, step) = along_m
    outer, ahead = _split(kernel, along_m)
    *of_a, _, a_k = kernel.a.strides
    *of_b, b_k, b_n = kernel.b.strides
    return kernel._replace(
        batch=kernel.batch + outer,
        m=rows,
        a=kernel.a._replace(strides=(*of_a, *ahead, step, a_k)),
        b=kernel.b._replace(strides=(*of_b, *(0,) * len(outer), b_k, b_n)),
        body=_with_batch(kernel, outer, rows, -2),
    )


def with_even_columns(kernel: Gemm) -> Gemm:
    """The same for n and b."""
    along_n = kernel.b.strides[-1]
    if isinstance(along_n, int):
        return kernel
    *_, (columns, step) = along_n
    outer, ahead = _split(kernel, along_n)
    *of_a, a_m, a_k = kernel.a.strides
    *of_b, b_k, _ = kernel.b.strides
    return kernel._replace(
        batch=kernel.batch + outer,
        n=columns,
        a=kernel.a._replace(strides=(*of_a, *(0,) * len(outer), a_m, a_k)),
        b=kernel.b._replace(strides=(*of_b, *ahead, b_k, step)),
        body=_with_batch(kernel, outer, columns, -1),
    )


def _split(kernel: Gemm, stride: Uneven) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(n for n, _ in stride[:-1]), tuple(step for _, step in stride[:-1])


def _with_batch(kernel: Gemm, outer: Sequence[int], length: int, axis: int) -> tuple[Instruction, ...]:
    """The body with the axis cut into batch axes and a rest of some length. (It asks for no index along it.)"""
    by = [length * math.prod(outer[i + 1 :]) for i in range(len(outer))]

    def cut(step: Instruction) -> Instruction:
        if step.op == "index" and step.value >= len(kernel.batch):
            return step._replace(value=step.value + len(outer))
        if step.access is None:
            return step
        *batch, along_m, along_n = step.access.strides
        new = (step.access.strides[axis] * n for n in by)
        return step._replace(access=step.access._replace(strides=(*batch, *new, along_m, along_n)))

    return tuple(cut(step) for step in kernel.body)
