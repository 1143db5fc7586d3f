"""`Optimizer`: which parameters are moved, how they are grouped, and what is remembered about each between steps.

How far they move is the update rule of each optimiser, in the files beside this one. A rule is a pure function of
arrays; `step` is the loop that hands it the arrays and gives the results back to the parameters, so a compiler can
trace the same rules. Values that something else holds, such as a recorded graph, are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache, partial
from sys import getrefcount
from typing import Any, Self

import numpy as np

from chainrule.core.namespace import copy_like, fast_numpy, namespace_of, namespaces
from chainrule.core.native import Native
from chainrule.core.state import option_changed, structure_changed, tracer
from chainrule.core.subnormal import flushed
from chainrule.core.tensor import RemovableHook, Tensor, _raw
from chainrule.ops.creation import zeros_like

#: From so many elements on, the parameters of a group are moved by machine code.
_FEWEST = 2048

#: How often an array is referred to, as `_move_together` counts it, that only its parameter or its state holds: there,
#: in a list, in a tuple, in a variable, and in the call that counts.
_REFERENCES_OF_OWN = 5

#: NumPy's flags of an array that owns its memory, may be written, and is in C order and aligned.
_OWN = 0x0505


class Group(dict[str, Any]):
    """What a group of parameters is described by: "params" and the options of the optimiser.

    A compiled step asks for the options' numbers anew, but which of them are in use is part of its program: it is
    told when one is switched on or off.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self or bool(self[name]) != bool(value):
            structure_changed()
        option_changed()
        super().__setitem__(name, value)

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value


class Optimizer:
    """Base class of the optimisers.

    A subclass has two functions:

        scalars(group, step)                            the numbers of its formula, from a group's options
        update(xp, parameter, gradient, state, scalars, options) -> (parameter, state)

    and `state_names(options)`, the names of the arrays it keeps for each parameter, zeros at first. `scalars` are
    apart from the rest because they change from step to step (schedules, bias corrections) while the computation
    stays the same.

    Args:
        params: parameters, or groups of them: dicts with "params" and options that differ from the defaults.
        defaults: the options of groups that do not say otherwise.

    Attributes:
        param_groups: a list of dicts; options may be changed between steps.
        state: what is kept for each parameter: the arrays of `state_names`, and "step", the number of its updates.

    Raises:
        TypeError: `params` is not made of parameters.
        ValueError: it is empty, holds a parameter twice, or an option is out of range.
    """

    _step_pre_hooks: Sequence[Callable] = ()
    _step_post_hooks: Sequence[Callable] = ()

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(
                f"{self._name}: params must be several parameters, got one {type(params).__name__}; "
                "give a list or model.parameters()"
            )
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._remember_nothing()
        given = list(params)
        if not given:
            raise ValueError(
                f"{self._name}: there are no parameters to optimise; was an iterator such as model.parameters() "
                "used up before?"
            )
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def _remember_nothing(self) -> None:
        """Of the numbers of the last step, which are kept to save time."""
        self._arrays_of: tuple = ()
        self._arrays: list[Any] = []
        self._answers: dict[int, tuple[Any, Any]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """An optimiser in the same state; of copies of the parameters, where those are copied along with it."""
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin._remember_nothing()
        own = {name: value for name, value in vars(self).items() if name not in vars(twin)}
        vars(twin).update(deepcopy(own, memo))
        return twin

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Take more parameters, with options of their own.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(f"{self._name}: a group is a dict with 'params', got {param_group!r}")
        params = param_group["params"]
        group = Group(self.defaults)
        group.update(param_group, params=[params] if isinstance(params, Tensor) else list(params))
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for place, parameter in enumerate(group["params"]):
            self._check_parameter(parameter, place)
            if id(parameter) in known:
                raise ValueError(
                    f"{self._name}: parameter {place} of the group, of shape {parameter.shape}, is there twice; it "
                    "would be moved twice in each step"
                )
            known.add(id(parameter))
        if not group["params"]:
            raise ValueError(f"{self._name}: there are no parameters in the group")
        self.check_options(group)
        self.param_groups.append(group)
        structure_changed()

    def _check_parameter(self, parameter: Any, place: int) -> None:
        if not isinstance(parameter, Tensor):
            hint = "; give model.parameters(), without names" if isinstance(parameter, tuple) else ""
            raise TypeError(f"{self._name}: parameter {place} must be a tensor, got {type(parameter).__name__}{hint}")
        if not parameter.is_leaf:
            raise ValueError(
                f"{self._name}: parameter {place}, of shape {parameter.shape}, is the result of an operation; only "
                "leaves have a value of their own to move"
            )
        parameter.grad = parameter.grad  # from here on `_grad` is set, so the loops need not ask

    # What an optimiser says of itself -----------------------------------------------------------------------

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise a ValueError that names the option which is out of range."""
        for name in ("lr", "weight_decay", "momentum", "eps"):
            if name in options and not options[name] >= 0:
                raise ValueError(f"{self._name}: {name} must not be negative, got {options[name]}")

    def state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The arrays kept for each parameter of a group with these options."""
        return ()

    def scalars(self, group: Mapping[str, Any], step: int) -> tuple[float, ...]:
        """The numbers that `update` computes with in step number `step`, counted from 1."""
        raise NotImplementedError

    @staticmethod
    def update(
        xp: Any, parameter: Any, gradient: Any, state: Mapping[str, Any], scalars: Any, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """One step for one parameter.

        Args:
            xp: the array namespace.
            parameter, gradient: arrays of one shape and dtype.
            state: the arrays of `state_names`, of the same shape and dtype.
            scalars: 0-d arrays of the same dtype, in the order of `scalars`.
            options: which of the options are in use (not zero), by name.

        Returns:
            The new parameter and the new state.
        """
        raise NotImplementedError

    # Steps --------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients first, if given; its result is returned.
        """
        loss = None if closure is None else closure()
        for hook in self._step_pre_hooks:
            hook(self, (), {})
        with flushed():  # a running mean of gradients that vanish becomes subnormal and stays so
            self._move()
        for hook in self._step_post_hooks:
            hook(self, (), {})
        return loss

    def register_step_pre_hook(self, hook: Callable[[Optimizer, tuple, dict], None]) -> RemovableHook:
        """Call `hook(optimizer, args, kwargs)` before every step, when the gradients are there."""
        return self._hooked("_step_pre_hooks", hook)

    def register_step_post_hook(self, hook: Callable[[Optimizer, tuple, dict], None]) -> RemovableHook:
        """Call `hook(optimizer, args, kwargs)` after every step."""
        return self._hooked("_step_post_hooks", hook)

    def _hooked(self, where: str, hook: Callable) -> RemovableHook:
        hooks = self.__dict__.setdefault(where, [])
        structure_changed()
        hooks.append(hook)
        return RemovableHook(hooks, hook)

    def __trace_parts__(self) -> Iterator[tuple[str, Any, Any]]:
        """What a compiled step depends on: the arrays it keeps, and which options are in use.

        The options' numbers are not among them: a compiled step asks for those anew.
        """
        self.prepare()
        options = [
            {name: bool(value) for name, value in group.items() if name != "params"} for group in self.param_groups
        ]
        yield "options", None, str(options)
        for number, group in enumerate(self.param_groups):
            yield f"group {number}", None, group
        for number, parameter in enumerate(self._parameters()):
            yield f"parameter {number}", None, parameter
            kept = self.state.get(parameter, {})
            for name in kept:
                if name != "step":
                    yield f"state of parameter {number}: {name}", kept, name

    def prepare(self) -> None:
        """Make the state of every parameter that is trained, as the first step would."""
        for group in self.param_groups:
            names = self.state_names(group)
            for parameter in group["params"] if names else ():
                if parameter.requires_grad and parameter not in self.state:
                    value = _raw(parameter)
                    self.state[parameter] = self._new_state(namespace_of(value), value, names)

    def _move(self) -> None:
        recording = tracer.get()
        counted: list[dict[str, Any]] = []
        for group in self.param_groups:
            names = self.state_names(group)
            with_gradient = [parameter for parameter in group["params"] if parameter._grad is not None]
            if recording is not None or not self._move_together(group, names, with_gradient):
                self._move_one_by_one(group, names, with_gradient, recording, counted)
        if recording is not None and counted:
            recording.after(partial(_count, counted))

    def _move_one_by_one(
        self, group: Group, names: tuple[str, ...], parameters: list[Tensor], recording: Any, counted: list
    ) -> None:
        update = self.update
        step, known_step, dtype, scalars = 1, 0, None, None
        state: dict[str, Any] = {}
        for parameter in parameters:
            value, g = parameter._value, parameter._grad._value  # type: ignore[union-attr]
            xp = namespaces.get(type(value)) or namespace_of(value)
            if g.dtype is not value.dtype:
                g = _in_dtype(xp, g, value)
            if names:
                state = self.state.get(parameter) or self._begun(parameter, xp, value, names)
                step = state["step"] + 1
            if step != known_step or dtype is not value.dtype:
                known_step, dtype = step, value.dtype
                if recording is None:
                    scalars = self._as_arrays(xp, self.scalars(group, step), dtype)
                else:
                    scalars = recording.ask(partial(self._scalars_now, group, state, dtype), is_fixed=not names)
            parameter._value, kept = update(xp, value, g, state, scalars, group)
            if names:
                state.update(kept)
                if recording is None:
                    state["step"] = step
                else:
                    counted.append(state)

    def _move_together(self, group: Group, names: tuple[str, ...], parameters: list[Tensor]) -> bool:
        """Move all parameters by one program, where they are large NumPy arrays that are at the same step."""
        values = [parameter._value for parameter in parameters]
        gradients = [parameter._grad._value for parameter in parameters]  # type: ignore[union-attr]
        if any(type(x) is not np.ndarray for x in (*values, *gradients)) or sum(x.size for x in values) < _FEWEST:
            return False
        dtype = values[0].dtype
        if any(x.dtype is not dtype for x in (*values, *gradients)):
            return False
        states = [self.state.get(p) or self._begun(p, fast_numpy, p._value, names) for p in parameters if names]
        steps = {state["step"] for state in states} if names else {0}
        if len(steps) > 1:
            return False
        step = steps.pop() + 1
        scalars = self._as_arrays(fast_numpy, self.scalars(group, step), dtype)
        kept = [state[name] for state in states for name in names]
        in_use = tuple([(name, bool(group[name])) for name in self.defaults])
        update = _update_of_all(self.update, len(values), names, in_use)
        # Written over where nobody else has them: a graph that was kept, a copy of the state, a view.
        moved = [
            x if getrefcount(x) == _REFERENCES_OF_OWN and x.flags.num & _OWN == _OWN else np.array(x, order="C")
            for x in (*values, *kept)
        ]
        given = (*moved[: len(values)], *gradients, *moved[len(values) :], *scalars)
        update.into(moved, *given)
        for parameter, value in zip(parameters, moved, strict=False):
            parameter._value = value
        for place, state in enumerate(states):
            state.update(zip(names, moved[len(values) + place * len(names) :], strict=False))
            state["step"] = step
        return True

    def _begun(self, parameter: Tensor, xp: Any, value: Any, names: Iterable[str]) -> dict[str, Any]:
        state = self.state[parameter] = self._new_state(xp, value, names)
        return state

    def _scalars_now(self, group: Group, state: Mapping[str, Any], dtype: Any) -> Any:
        """The numbers of the formula for the step that comes next; the same array as long as they stay the same."""
        numbers = self.scalars(group, state.get("step", 0) + 1)
        known, row = self._answers.get(id(group), (None, None))
        if known != (numbers, dtype):
            row = np.array(numbers, dtype)
            self._answers[id(group)] = (numbers, dtype), row
        return row

    def _as_arrays(self, xp: Any, numbers: tuple[float, ...], dtype: Any) -> list[Any]:
        """0-d arrays, which NumPy multiplies by faster than by Python floats; those of the last call are kept."""
        key = (xp, numbers, dtype)
        if key != self._arrays_of:
            row = xp.asarray(numbers, dtype=dtype)
            self._arrays_of, self._arrays = key, [row[place, ...] for place in range(len(numbers))]
        return self._arrays

    @staticmethod
    def _new_state(xp: Any, value: Any, names: Iterable[str]) -> dict[str, Any]:
        return {"step": 0, **{name: xp.zeros_like(value) for name in names}}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none or parameter._grad is None:
                    parameter.grad = None
                else:
                    parameter._grad = zeros_like(parameter._grad)

    # Saving and loading -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Options and state as plain values and arrays; parameters are numbered through all groups.

        Returns:
            {"state": {number: {"step": ..., ...}}, "param_groups": [{..., "params": [numbers]}]}, as in PyTorch.
        """
        numbers = {id(p): n for n, p in enumerate(self._parameters())}
        return {
            "state": {numbers[id(p)]: dict(state) for p, state in self.state.items() if state["step"]},
            "param_groups": [
                {**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, all of it or, if anything does not fit, nothing.

        Args:
            state_dict: of an optimiser of this kind over parameters of the same shapes in the same order; keys of
                "state" may have become strings, and arrays tensors, on the way through a file.

        Raises:
            ValueError: it does not fit; the message names the first fault.
        """
        try:
            groups, state = list(state_dict["param_groups"]), dict(state_dict["state"])
            sizes = [len(group["params"]) for group in groups]
        except (TypeError, KeyError) as error:
            raise ValueError(f"{self._name}: not the state dict of an optimiser: {error!r}") from None
        own_sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != own_sizes:
            raise ValueError(
                f"{self._name}: the state is of groups of {sizes} parameters, this optimiser has groups of {own_sizes}"
            )
        loaded_groups = [self._loaded_group(own, group) for own, group in zip(self.param_groups, groups, strict=True)]
        group_of = {id(p): group for group in loaded_groups for p in group["params"]}
        numbers = {str(number): parameter for number, parameter in enumerate(self._parameters())}
        loaded_state = {}
        for number, kept in state.items():
            if str(number) not in numbers:
                raise ValueError(f"{self._name}: there is state for a parameter {number!r}, which is not here")
            parameter = numbers[str(number)]
            loaded_state[parameter] = self._loaded_state(number, parameter, group_of[id(parameter)], kept)
        self.param_groups[:] = loaded_groups
        structure_changed()
        self.state = {p: kept for p, kept in loaded_state.items() if kept}

    def _loaded_group(self, own: Group, group: Mapping[str, Any]) -> Group:
        missing = [name for name in self.defaults if name not in group]
        if missing:
            raise ValueError(f"{self._name}: the state lacks the options {missing}; is it of another optimiser?")
        loaded = Group(group)
        loaded.update(params=own["params"])
        self.check_options(loaded)
        return loaded

    def _loaded_state(self, number: Any, parameter: Tensor, options: Group, kept: Mapping[str, Any]) -> dict[str, Any]:
        names = self.state_names(options)
        if not names:
            return {}
        missing = [name for name in names if kept.get(name) is None]
        if missing:
            raise ValueError(f"{self._name}: the state of parameter {number} lacks {missing}")
        state = {"step": int(_raw(kept.get("step", 1)))}
        for name in names:
            array = copy_like(_raw(kept[name]), _raw(parameter))
            if tuple(array.shape) != parameter.shape:
                raise ValueError(
                    f"{self._name}: {name} of parameter {number} has shape {tuple(array.shape)}, the parameter "
                    f"{parameter.shape}"
                )
            state[name] = array
        return state

    def __repr__(self) -> str:
        groups = "\n".join(
            f"  group {place}: {len(group['params'])} parameters, "
            + ", ".join(f"{name}={value}" for name, value in group.items() if name != "params")
            for place, group in enumerate(self.param_groups)
        )
        return f"{self._name}(\n{groups}\n)"


@lru_cache(maxsize=64)
def _update_of_all(
    update: Callable, count: int, names: tuple[str, ...], options: tuple[tuple[str, bool], ...]
) -> Native:
    """An update rule for `count` parameters at once, as a function of arrays alone.

    It takes the parameters, their gradients, the arrays of the state of each and the numbers of the formula, and gives
    the new parameters, and the new arrays of the state of each.
    """
    in_use = dict(options)

    def step(xp: Any, *arrays: Any) -> tuple:
        states, scalars = arrays[2 * count :], arrays[(2 + len(names)) * count :]
        values, kept = [], []
        for place in range(count):
            state = dict(zip(names, states[place * len(names) :], strict=False))
            value, new = update(xp, arrays[place], arrays[count + place], state, scalars, in_use)
            values.append(value)
            kept += [new[name] for name in names]
        return (*values, *kept)

    first, last = 2 * count, (2 + len(names)) * count
    return Native(step, backward=True, fewest=0, replaces=(*range(count), *range(first, last)))


def _count(states: list[dict[str, Any]]) -> None:
    for state in states:
        state["step"] += 1


def _in_dtype(xp: Any, gradient: Any, value: Any) -> Any:
    """A gradient that was set by hand may be a tensor of tensors, or of another dtype."""
    gradient = _raw(gradient)
    return gradient if gradient.dtype == value.dtype else xp.astype(gradient, value.dtype)
