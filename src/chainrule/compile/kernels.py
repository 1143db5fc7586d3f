"""Kernels as data: what the compiler hands to code generation.

A program is a list of calls of kernels. A kernel is a description that can be hashed and compared, so equal work in a
deep network is generated once. `loops` and `gemm` turn a description into LLVM code; nothing here knows LLVM, and
nothing knows what a network is.

There are two kinds. A `Loop` runs a few scalar instructions at every point of a grid and may fold some of its axes
(softmax over rows, the sum of a column, a whole scalar program on a grid of one point). A `Gemm` is a matrix product
whose result passes through instructions of the same kind before it is stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

#: The length and stride of each of the axes, outermost first, that an axis is made of.
Uneven: TypeAlias = "tuple[tuple[int, int], ...]"

#: From an element to the next along an axis.
Stride: TypeAlias = "int | Uneven"


class Access(NamedTuple):
    """Which element of an array a point of the grid means: `offset + Σ stride·index`, in elements.

    Attributes:
        argument: number of the kernel's pointer argument.
        offset: of the point at which all indices are 0.
        strides: one per axis of the grid; 0 where the array is stretched along the axis.
    """

    argument: int
    offset: int
    strides: tuple[Any, ...]


class Instruction(NamedTuple):
    """One scalar instruction of a kernel's body; it may name the results of earlier ones by their number.

    Attributes:
        op: one of

            load        the element at `access`; with an input (int64), that many elements further: a gather
            store       input 0 to `access`; with a second input (int64), that many elements further: a scatter
            accumulate  as store, but added to what is there
            constant    `value`, a Python number
            index       the index along axis number `value` of the grid, int64
            product     in a `Gemm`, the element of the matrix product
            reduce_sum, reduce_prod, reduce_max, reduce_min, reduce_any, reduce_all
                        input 0 folded over all inner axes. max and min give NaN where one is among the elements
            astype      input 0 converted to `dtype` as NumPy does
            select      input 1 where input 0 (bool) holds, else input 2
            or an elementwise function of inputs of one dtype, by its array API name (see `scalars.FUNCTIONS`).

        dtype: of the result; of the memory for load, store and accumulate (whose input has it too).
        inputs: numbers of earlier instructions.
        access: for load, store and accumulate.
        value: for constant and index.
    """

    op: str
    dtype: np.dtype
    inputs: tuple[int, ...] = ()
    access: Access | None = None
    value: Any = None


class Loop(NamedTuple):
    """Instructions at every point of a grid.

    The outer axes are independent of each other and may be shared among threads. For each of their points the inner
    axes are run through, more than once where an instruction needs the result of a reduction: an instruction that
    varies along inner axes belongs to the pass after the last reduction it depends on. A load may read what an
    earlier pass of the same outer point has stored.

    Attributes:
        outer: lengths of the outer axes.
        inner: lengths of the inner axes; empty where nothing is reduced.
        body: the instructions. Accesses have strides for the outer axes, then the inner ones; those of a store that
            depends on no inner axis have stride 0 there, and it is done once for each outer point.
        arguments: dtype of each pointer argument.
        serial: whether one thread must do all of it in order (an accumulate may meet one place twice).
        backward: whether a thread goes through its share from the last point to the first.
    """

    outer: tuple[int, ...]
    inner: tuple[int, ...]
    body: tuple[Instruction, ...]
    arguments: tuple[np.dtype, ...]
    serial: bool = False
    backward: bool = False


class Gemm(NamedTuple):
    """A (batched) matrix product, its result passed through `body` before it is stored.

    Attributes:
        batch: lengths of the batch axes.
        m, n, k: the product is (m × k)·(k × n).
        dtype: of both factors and of the product: float32 or float64.
        a, b: accesses with strides (*batch, m, k) and (*batch, k, n): any strides, a transposed factor too. Those along
            m, n and k may be `Uneven` (then no index is asked for in `body`). Where both are along k, they are made of
            axes of the same lengths.
        body: instructions over the grid (*batch, m, n), with `product` among them and at least one store.
        arguments: dtype of each pointer argument. No array that is stored to is also `a` or `b`.
        workspace: number of the pointer argument (to 64-byte aligned memory) where all threads keep packed factors, if
            `gemm.workspace_bytes` asks for one; without it they use their stacks.
    """

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    dtype: np.dtype
    a: Access
    b: Access
    body: tuple[Instruction, ...]
    arguments: tuple[np.dtype, ...]
    workspace: int | None = None


Kernel: TypeAlias = "Loop | Gemm"


class Call(NamedTuple):
    """One call of a kernel.

    Where a kernel begins in an array belongs to the call, so that the steps of a recurrence, each of which reads and
    writes its own part of the same arrays, call the same kernel.

    Attributes:
        kernel: what to call.
        slots: the slot that each pointer argument is taken from.
        offsets: how many bytes further each argument points; empty where all point to the slot's address itself.
    """

    kernel: Kernel
    slots: tuple[int, ...]
    offsets: tuple[int, ...] = ()

    def places(self) -> Iterator[tuple[int, int]]:
        """Slot and offset of each argument."""
        return itertools.zip_longest(self.slots, self.offsets, fillvalue=0)


class Program(NamedTuple):
    """Calls to be made in order, and what their slots point to.

    Attributes:
        calls: in order; each sees what those before it have stored.
        scratch: byte offset of each slot that lives in the program's own scratch memory, by slot number.
        scratch_bytes: size of that memory.
        slots: number of slots; those that are not in `scratch` are given an address by the caller.
        threads: how many threads share each call.
    """

    calls: tuple[Call, ...]
    scratch: dict[int, int]
    scratch_bytes: int
    slots: int
    threads: int
