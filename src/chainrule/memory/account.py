"""`Account`: what a forward pass keeps, piece by piece, and its sums by module and by operation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: What steps are attributed to that no module made.
OUTSIDE = "(outside of modules)"


@dataclass(frozen=True)
class Reason:
    """Why something is kept; as text, "linear: the gradient of weight reads x".

    Attributes:
        operation: whose rule reads it.
        rule: the input whose gradient the rule gives; empty where all of the operation's rules read it.
        reads: what the rule calls it: an input, the output or a parameter of the operation.
    """

    operation: str
    rule: str
    reads: str

    def __str__(self) -> str:
        return f"{self.operation}: {f'the gradient of {self.rule} reads' if self.rule else 'reads'} {self.reads}"


@dataclass(frozen=True)
class Holding:
    """One piece of memory that is kept until the backward pass.

    Attributes:
        nbytes: its size.
        shape, dtype: of the array.
        kind: "activation", "input" (an argument of the function), or "parameter" (the model's own: parameters and
            buffers that rules read; they are there anyway).
        module, module_kind: path and class of the innermost module that first needs it.
        operation: the first operation that needs it.
        reasons: every rule that reads it.
    """

    nbytes: int
    shape: tuple[int, ...]
    dtype: str
    kind: str
    module: str
    module_kind: str
    operation: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class ModuleSum:
    """What modules of the same kind at places alike keep, such as the `linear` of all `blocks`.

    Attributes:
        module: their path; numbers that differ are written `*`.
        kind: the name of their class.
        count: how many there are.
        nbytes: what they keep together.
    """

    module: str
    kind: str
    count: int
    nbytes: int


@dataclass(frozen=True)
class OperationSum:
    """What the steps of one operation keep.

    Attributes:
        operation: its name.
        pieces: how many pieces of memory they keep that no earlier step does.
        nbytes: what they keep together.
        reads: what their rules read and what for, such as "x (for weight)".
    """

    operation: str
    pieces: int
    nbytes: int
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Saving:
    """What a checkpoint would save.

    Attributes:
        module: path of what is checkpointed; numbers that differ are written `*`.
        kind: the name of its class.
        count: how many such modules there are.
        how: `cr.checkpoint` of each of them, or the argument `checkpoint="sqrt"` of a Sequential.
        before, after: bytes that all modules together keep after a forward pass, as it is and then.
        most: with checkpoints, the most that is kept at any moment: while a part is run again, its inside is there too.
        least: the smallest that a placement of checkpoints can bring `most` down to; None for single modules.
    """

    module: str
    kind: str
    count: int
    how: str
    before: int
    after: int
    most: int
    least: int | None = None


@dataclass(frozen=True)
class Account:
    """What a forward pass keeps for the backward pass; printed as tables.

    Memory that several rules read, or several views look at, is counted once, for the first step that needs it.

    Attributes:
        name: of the function.
        holdings: all pieces of memory, in the order of the steps.
        savings: what checkpoints would save, the largest saving first.
        estimated: whether nothing was run.
    """

    name: str
    holdings: tuple[Holding, ...]
    savings: tuple[Saving, ...]
    estimated: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of activations and inputs that are kept; parameters are not counted."""
        return sum(holding.nbytes for holding in self._counted())

    @property
    def parameter_nbytes(self) -> int:
        """Bytes of parameters and buffers that rules read."""
        return sum(holding.nbytes for holding in self.holdings if holding.kind == "parameter")

    @property
    def input_nbytes(self) -> int:
        """Bytes of the function's own arguments among what is kept."""
        return sum(holding.nbytes for holding in self.holdings if holding.kind == "input")

    @property
    def by_module(self) -> tuple[ModuleSum, ...]:
        """The sums by place in the network, in the order of the steps."""
        places: dict[tuple[str, str], dict[str, int]] = {}
        for holding in self._counted():
            paths = places.setdefault((pattern_of(holding.module), holding.module_kind), {})
            paths[holding.module] = paths.get(holding.module, 0) + holding.nbytes
        return tuple(
            ModuleSum(common_path(paths), kind, len(paths), sum(paths.values())) for (_, kind), paths in places.items()
        )

    @property
    def by_operation(self) -> tuple[OperationSum, ...]:
        """The sums by operation, the largest first."""
        found: dict[str, list[Holding]] = {}
        for holding in self._counted():
            found.setdefault(holding.operation, []).append(holding)
        sums = [
            OperationSum(name, len(held), sum(h.nbytes for h in held), _reads(name, held))
            for name, held in found.items()
        ]
        return tuple(sorted(sums, key=lambda s: -s.nbytes))

    def _counted(self) -> Iterable[Holding]:
        return (holding for holding in self.holdings if holding.kind != "parameter")

    def to_json(self) -> str:
        """The account as JSON: the totals, the sums, the savings and every piece of memory."""
        data = {
            "name": self.name,
            "estimated": self.estimated,
            "bytes": self.nbytes,
            "input_bytes": self.input_nbytes,
            "parameter_bytes": self.parameter_nbytes,
            "by_module": [asdict(row) for row in self.by_module],
            "by_operation": [asdict(row) for row in self.by_operation],
            "savings": [asdict(row) for row in self.savings],
            "holdings": [asdict(row) for row in self.holdings],
        }
        return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from chainrule.memory.table import tables

        yield from tables(self)

    def __str__(self) -> str:
        from chainrule.memory.table import as_text

        return as_text(self)


def _reads(operation: str, held: Sequence[Holding]) -> tuple[str, ...]:
    """What the rules of an operation read, from the reasons."""
    found: dict[str, dict[str, None]] = {}
    for reason in (reason for holding in held for reason in holding.reasons if reason.operation == operation):
        rules = found.setdefault(reason.reads, {})
        if reason.rule:
            rules[reason.rule] = None
    return tuple(f"{reads} (for {', '.join(rules)})" if rules else reads for reads, rules in found.items())


def pattern_of(path: str) -> str:
    """A path with every number in it replaced by `*`."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", path)


def common_path(paths: Iterable[str]) -> str:
    """One path for several of the same pattern: parts that differ are written `*`."""
    split = [path.split(".") for path in paths]
    return ".".join(parts[0] if len(set(parts)) == 1 else "*" for parts in zip(*split, strict=True))
