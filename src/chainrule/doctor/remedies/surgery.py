"""`Surgery`: a remedy at work on a copy of a network, and the `Treatment` that comes of it.

Whatever is done to the copy is also told in words and written down as code, so that the user can do the same.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.measurements import Examination, Layer
from chainrule.doctor.remedies.cooldown import cooldown_code
from chainrule.doctor.remedies.tools import Tools, tools_for
from chainrule.doctor.subjects import Subject
from chainrule.doctor.training import Progress, silent


class CannotApply(Exception):
    """A remedy does not fit this network; the message says why in one line."""


@dataclass(frozen=True)
class Treatment:
    """A cured network.

    Attributes:
        subject: the network with everything that it is trained with.
        words: what was done, a sentence each.
        definitions: names of the modules to be defined first, see `parts`.
        statements: the same as code that changes the user's `model`, `optimizer` and `loss_fn`.
    """

    subject: Subject
    words: tuple[str, ...]
    definitions: tuple[str, ...]
    statements: tuple[str, ...]

    @property
    def code(self) -> str:
        """Python code to paste after `model`, `loss_fn` and `inputs` were made."""
        tools = tools_for(self.subject)
        blocks = [tools.parts.sources[name].rstrip() for name in dict.fromkeys(self.definitions)]
        if any("replace(" in line for line in self.statements):
            blocks.append(_REPLACE)
        groups = [] if self.subject.optimizer is None else self.subject.optimizer.param_groups
        steps = filter(None, [optimizer_code(self.subject), cooldown_code(groups)])
        statements = "\n".join([*self.statements, *steps])
        text = "\n".join([*blocks, statements])
        imports = "\n".join(filter(None, [_used(line, text) for line in tools.imports]))
        return "\n\n\n".join(filter(None, [imports, *blocks, statements])) + "\n"


def _used(line: str, text: str) -> str:
    """A line of imports with only the names that `text` uses; empty where it uses none."""
    start, _, names = line.partition("import ")
    used = [name for name in names.split(", ") if re.search(rf"\b{name.split()[-1]}\b[.(]", text)]
    return f"{start}import {', '.join(used)}" if used else ""


_REPLACE = '''def replace(path, module):
    """Put a module in the place of another one."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)'''


@dataclass
class Surgery:
    """A remedy at work.

    Attributes:
        subject: a copy; its network may be changed and replaced.
        exam: what was measured of it.
        code: of the finding that asks for the remedy; empty for none.
        where: paths of the modules to treat; empty for everywhere.
        steps: how many steps of training are planned, for a learning rate that fits them.
        batches: makes the batches of that training.
        seed: of whatever is drawn.
        progress: told of everything that takes long.
    """

    subject: Subject
    exam: Examination
    code: str
    where: tuple[str, ...]
    steps: int
    batches: Callable
    seed: int = 0
    progress: Progress = silent
    words: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tools: Tools = tools_for(self.subject)
        self.nn: Any = self.tools.nn
        self._known = {id(parameter) for _, parameter in self.subject.parameters()}

    # Looking ----------------------------------------------------------------------------------------------------

    @property
    def modules(self) -> dict[str, Any]:
        """The modules of the network as it is now, by path."""
        return dict(self.subject.modules())

    def layers(self, *kinds: str) -> list[Layer]:
        """The layers to treat, of these kinds if any are named; all of them where none is at the places named."""
        fitting = [layer for layer in self.exam.layers if not kinds or layer.kind in kinds]
        chosen = [layer for layer in fitting if self.concerns(layer.path)]
        return chosen or fitting

    def concerns(self, path: str) -> bool:
        """Whether the module at a path, or one around it, is among those to treat."""
        return not self.where or any(path == place or path.startswith(f"{place}.") for place in self.where)

    def kind(self, path: str) -> str:
        """Name of the class of the module at a path; empty where there is none."""
        module = self.modules.get(path)
        return "" if module is None else type(module).__name__

    def forward_of(self, path: str) -> str:
        """The forward of the module at a path, or of the nearest one around it that is the user's, and its line."""
        module = self.modules.get(path)
        while path and (module is None or type(module).__module__.startswith((self.nn.__name__, "chainrule."))):
            path = parent_of(path)
            module = self.modules.get(path)
        code = getattr(getattr(type(module), "forward", None), "__code__", None)
        line = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
        return f"the forward of {path or self.exam.model}{line}"

    def numbers(self, parameter: Any) -> np.ndarray:
        """A parameter's values in NumPy."""
        return np.array(statistics.as_numpy(self.subject.array(parameter)))

    def run(self) -> None:
        """Run the network as it is now on the batch; what it raises goes on."""
        with self.subject.undisturbed(), self.subject.quietly(), np.errstate(all="ignore"):
            self.subject.run()

    # Changing ---------------------------------------------------------------------------------------------------

    def put(self, path: str, module: Any) -> None:
        """Put a module, new or around an old one, in the place of the one at `path`."""
        if not path:
            self.subject = self.subject.with_(model=module)
            return
        parent, _, name = path.rpartition(".")
        setattr(self.modules[parent], name, module)

    def new(self, kind: str, *arguments: Any, **options: Any) -> Any:
        """A new module of the framework's `nn`, in the dtype and on the device of the network."""
        return self.fitted(getattr(self.nn, kind)(*arguments, **options))

    def fitted(self, module: Any) -> Any:
        """A new module in the dtype, on the device and in the mode of the network."""
        return self.tools.fit(module, self.subject)

    def define(self, name: str) -> Any:
        """A module of `parts`; its source becomes part of the code."""
        self.definitions.append(name)
        return getattr(self.tools.parts, name)

    def for_each(self, paths: Sequence[str], *lines: str) -> None:
        """Write a loop over paths."""
        self.loop("path", [f'"{path}"' for path in paths], *lines)

    def loop(self, variable: str, values: Sequence[str], *lines: str) -> None:
        """Write a loop over values that are given as code."""
        listed = textwrap.wrap(", ".join(values) + ("," if len(values) == 1 else ""), 100)
        if len(listed) > 1:
            self.statements += [f"for {variable} in (", *(f"    {line}" for line in listed), "):"]
        else:
            self.statements.append(f"for {variable} in ({listed[0]}):")
        self.statements += [f"    {line}" for line in lines]

    def done(self) -> Treatment:
        """The cured network, its optimiser over the parameters it has now.

        Raises:
            CannotApply: the optimiser cannot be made anew.
        """
        subject = self.subject
        if subject.optimizer is not None:
            subject = subject.with_(optimizer=self._optimizer())
        return Treatment(subject, tuple(self.words), tuple(self.definitions), tuple(self.statements))

    def _optimizer(self) -> Any:
        """An optimiser like the one there is, with nothing remembered, over the parameters there are now."""
        old = self.subject.optimizer
        present = [p for _, p in self.subject.parameters()]
        alive = {id(p) for p in present}
        groups = [
            {**group, "params": [p for p in group["params"] if id(p) in alive]} for group in map(dict, old.param_groups)
        ]
        groups[0]["params"] += [p for p in present if id(p) not in self._known]
        try:
            return type(old)([group for group in groups if group["params"]])
        except Exception as error:
            raise CannotApply(f"the optimiser {type(old).__name__} cannot be made anew: {error}") from None


def parent_of(path: str) -> str:
    """The path of the module that has the module or the parameter at a path."""
    return path.rpartition(".")[0]


# An optimiser as code -----------------------------------------------------------------------------------------------


def optimizer_code(subject: Subject) -> str:
    """The line that makes the subject's optimiser; empty where it has none."""
    if subject.optimizer is None:
        return ""
    groups = subject.optimizer.param_groups
    kind = type(subject.optimizer)
    name = f"optim.{kind.__name__}" if hasattr(tools_for(subject).optim, kind.__name__) else kind.__name__
    usual = signature(kind).parameters
    given = {
        option: value
        for option, value in groups[0].items()
        if option not in ("params", "lr") and option in usual and usual[option].default != value
    }
    options = ", ".join(f"{option}={value!r}" for option, value in given.items())
    line = f"optimizer = {name}(model.parameters(), lr={number(groups[0]['lr'])}{', ' + options if options else ''})"
    return line if len(groups) == 1 else f"{line}  # had {len(groups)} parameter groups"


def number(x: Any) -> str:
    """A number as code, with three significant digits where more say nothing."""
    return f"{float(x):.3g}"
