"""The memory account: what a forward pass keeps for the backward pass, where, why, and what checkpoints would save.

It reads the recorded graph (`recording`, `account`) and prints what it finds (`table`); without running, it reads the
graph that a network records on arrays without values (`estimate`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.memory.account import Account

__all__ = ["Account", "memory"]


def memory(function: Callable) -> Memory:
    """Account for what a forward pass keeps until the backward pass.

        print(cr.memory(model)(x))
        print(cr.memory(model).estimate((32, 2048, 12288)))

    Args:
        function: a module, or a function of arrays, tensors and pytrees of them.

    Returns:
        Something to be called with the function's arguments: it runs the function once, leaving no trace in random
        generators and buffers, and returns an `Account`. Its `estimate` does so for shapes, without running.

    Raises:
        TypeError: what is given is no function.
    """
    if not callable(function):
        raise TypeError(f"memory: needs a module or a function, got {type(function).__name__}")
    return Memory(function)


class Memory:
    """What `memory` returns."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Account:
        """The account of a forward pass with these arguments.

        Where nothing among the arguments and in the function requires a gradient, floats and arrays of floats are
        taken to.

        Raises:
            GradientError: nothing is recorded: the function does not compute with its arguments.
        """
        from chainrule.memory.recording import measured

        return measured(self.function, args, kwargs)

    def estimate(self, *shapes: Any, **kwargs: Any) -> Account:
        """The account of a forward pass on tensors of these shapes, without arrays: nothing is computed.

        Args:
            shapes: for each argument of the function its shape, such as (32, 784); (shape, dtype) where it is not of
                the dtype of the network's parameters (or float32); or anything that has a shape and a dtype.
            kwargs: handed to the function as they are.

        Raises:
            TypeError: a shape is not one; or the function reads values, which are not there.
            Unsupported: an operation has no form in which shapes alone are followed (LAPACK's, say); call the account
                with arrays then.
        """
        from chainrule.memory.estimate import estimated

        return estimated(self.function, shapes, kwargs)
