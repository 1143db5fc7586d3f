"""The account of a run: the function runs once, watched, and what its graph keeps is sorted and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.node import Forgotten, Node
from chainrule.core.tensor import Tensor, _raw
from chainrule.memory.account import OUTSIDE, Account, Holding, Reason
from chainrule.memory.places import Place, Watch
from chainrule.memory.savings import savings
from chainrule.transforms.kept import Kept, arrays_in, kept_by, leaves_of, nbytes_of, owner
from chainrule.transforms.trees import flatten, leaf_at, lift, unflatten


def measured(function: Callable, args: tuple, kwargs: dict) -> Account:
    """The account of one run of `function`; see `chainrule.memory`."""
    leaves, treedef = flatten((args, kwargs))
    watch = Watch(function)
    with state.put_back(), state.enable_grad(), state.watching(watch):
        results = recorded(function(*args, **kwargs))
    if not results:
        lifted = [_lifted(leaf) for leaf in leaves]
        watch = Watch(function)
        args, kwargs = unflatten(treedef, lifted)
        with state.put_back(), state.enable_grad(), state.watching(watch):
            results = recorded(function(*args, **kwargs))
        leaves = lifted
    return drawn_up(function, results, watch, leaves)


def recorded(result: Any) -> list[Tensor]:
    """The recorded tensors in a function's result."""
    return [x for x in flatten(result)[0] if isinstance(x, Tensor) and isinstance(x._node, Node)]


def _lifted(leaf: Any) -> Any:
    if type(leaf) is not float and "float" not in str(getattr(leaf, "dtype", "")):
        return leaf
    value, _ = lift(leaf, "memory", "an argument")
    return leaf_at(value, state.tape_level())


def drawn_up(
    function: Callable, results: Sequence[Tensor], watch: Watch, leaves: Sequence[Any], *, is_estimate: bool = False
) -> Account:
    """The account of what the graph of `results` keeps.

    Raises:
        GradientError: there is no graph.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not results:
        raise GradientError(
            f"memory: nothing was recorded for the result of {name}: no parameter or argument that requires a gradient "
            "goes into it, so a forward pass keeps nothing"
        )
    kept = kept_by(results)
    for use in (use for entry in kept.values() for use in entry.uses):
        if isinstance(use.node, Forgotten):
            watch.places[use.node] = watch.place_of(use.node.modules)
    given = {id(leaf) for leaf in leaves}
    arguments = {id(owner(array)): nbytes_of(array) for array in arrays_in(leaves)}
    own = [tensor for module in watch.modules.values() for tensor in (*module.parameters(), *module.buffers())]
    own += [tensor for tensor in leaves_of(results) if id(tensor) not in given]
    of_model = {id(owner(_raw(tensor))) for tensor in own} - arguments.keys()
    holdings = [_holding(key, entry, watch, arguments, of_model) for key, entry in kept.items()]
    return Account(name, tuple(holdings), savings(kept, watch, of_model), is_estimate)


def _holding(key: int, entry: Kept, watch: Watch, arguments: dict[int, int], of_model: set[int]) -> Holding:
    first = entry.uses[0].node
    places = watch.places.get(first) or (Place(OUTSIDE, ""),)
    return Holding(
        # Of an argument that is part of a larger array, such as a batch of a data set, that part alone.
        nbytes=min(entry.nbytes, arguments.get(key, entry.nbytes)),
        shape=entry.shape,
        dtype=str(entry.dtype),
        kind="parameter" if key in of_model else "input" if key in arguments else "activation",
        module=places[-1].path,
        module_kind=places[-1].kind,
        operation=_name(first),
        reasons=tuple(dict.fromkeys(Reason(_name(use.node), use.rule, use.reads) for use in entry.uses)),
    )


def _name(node: Node) -> str:
    return "checkpoint" if isinstance(node, Forgotten) else node.primitive.name  # type: ignore[union-attr]
