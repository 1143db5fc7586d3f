"""Values of a long body that lie in memory on the stack until they are needed again.

Where thousands of instructions follow one another, as in a loop of the user's that was unrolled, most values are needed
again long after they were computed: a gradient wants what the forward pass had. LLVM would find memory for them too,
but its allocation of registers takes more than proportionally long for values that live long. Here no value is in
registers for more than some dozen instructions. The memory is volatile to LLVM, or it would look for registers after
all, and take its time to find out what is the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from chainrule.compile import ir
from chainrule.compile.kernels import Instruction

#: From so many instructions on, a body is long.
LONG = 512

#: A value needed so many instructions later is put on the shelf.
_FAR = 64


class Shelf:
    """Where the values of a body are, near or far.

    Args:
        builder: writes the code.
        body: the instructions.
        numbers: which of them are emitted, in order.
        values: what is known before, by number.
        width: bytes of the largest value.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        body: Sequence[Instruction],
        numbers: Sequence[int],
        values: dict[int, ir.Value],
        width: int,
    ) -> None:
        self.builder = builder
        self.near = dict(values)
        self._inputs = [body[number].inputs for number in numbers]
        self._since: dict[int, int] = {}
        self._places, count = _places(numbers, self._inputs)
        with builder.goto_entry_block():
            kind = ir.ArrayType(ir.IntType(8), width)
            self._addresses = [builder.alloca(kind, align=width) for _ in range(count)]

    def fetch(self, position: int) -> dict[int, ir.Value]:
        """All values, those near that the instruction at a position needs."""
        for number in self._inputs[position]:
            since = self._since.get(number)
            if since is not None and position - since > _FAR:
                kind, address = self.near[number].type, self._addresses[self._places[number]]
                self.near[number] = self.builder.load(address, typ=kind, align=4, volatile=True)
                self._since[number] = position
        return self.near

    def put(self, position: int, number: int, value: ir.Value) -> None:
        """Keep what the instruction at a position computed."""
        self.near[number] = value
        if number in self._places and not isinstance(value, ir.Constant):
            self.builder.store(value, self._addresses[self._places[number]], align=4, volatile=True)
            self._since[number] = position


def _places(numbers: Sequence[int], inputs: Sequence[Sequence[int]]) -> tuple[dict[int, int], int]:
    """Places on the shelf for the values that are needed long after they were made, and how many places there are."""
    last = {number: position for position, each in enumerate(inputs) for number in each}
    places: dict[int, int] = {}
    ends: list[tuple[int, int]] = []
    count = 0
    for position, number in enumerate(numbers):
        end = last.get(number, 0)
        if end - position <= _FAR:
            continue
        if ends and ends[0][0] < position:
            places[number] = heappop(ends)[1]
        else:
            places[number] = count
            count += 1
        heappush(ends, (end, places[number]))
    return places, count
