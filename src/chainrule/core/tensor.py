"""`Tensor`: a handle on a value and the node that made it.

This file holds what a handle is: construction, conversion, gradients, hooks, assignment. Operators and methods
such as `+` and `sum` are operations; `chainrule.ops.methods` binds them to this class, and
`chainrule.transforms.backward` binds `backward`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.namespace import copy_like, is_array, namespace_of
from chainrule.core.node import Leaf, Node, Tangent


class Tensor:
    """An array that remembers how it was made.

    Made by `cr.tensor(data)` and by operations on other tensors. The value is never changed in place: assignment
    (`t[i] = v`, `t += v`) moves the handle to a new value, so what the graph recorded stays as it was.

    Attributes:
        shape, dtype, ndim, size: of the value.
        requires_grad: whether operations on this tensor are recorded.
        grad: the accumulated gradient after `backward()`, a tensor of the same shape, or None.
        data: the value as a read-only array; assigning to it replaces the value without recording.
    """

    __slots__ = ("__weakref__", "_grad", "_node", "_value")

    _value: Any
    _node: Any
    _grad: Tensor | None

    #: NumPy's binary operators give way to this class's reflected ones.
    __array_priority__ = 1000.0

    def __init__(self, value: Any, node: Node | Tangent | None = None) -> None:
        self._value = value
        self._node = node

    # What it is --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape

    @property
    def dtype(self) -> Any:
        return self._value.dtype

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    @property
    def size(self) -> int:
        total = 1
        for length in self._value.shape:
            total *= length
        return total

    @property
    def device(self) -> Any:
        return getattr(_raw(self), "device", "cpu")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        raw = _raw(self)
        body = np.array2string(np.asarray(raw), separator=", ", prefix="tensor(", threshold=200)
        notes = "" if str(raw.dtype) in ("float64", "int64", "bool") else f", dtype={raw.dtype}"
        if isinstance(self._node, Leaf):
            notes += ", requires_grad=True"
        elif isinstance(self._node, Node):
            notes += f", made by {self._node.primitive.name}"  # type: ignore[union-attr]
        elif isinstance(self._node, Tangent):
            notes += ", with a tangent"
        return f"tensor({body}{notes})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __hash__(self) -> int:
        return id(self)

    # Gradients ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted == self.requires_grad:
            return
        if not wanted:
            if not self.is_leaf:
                raise GradientError("requires_grad can only be turned off on a leaf; use detach() on a result")
            self._node = None
            state.structure_changed()
            return
        kind = str(self.dtype)
        if "float" not in kind:
            raise TypeError(
                f"a tensor of dtype {kind} cannot require a gradient: derivatives exist for floating point values. "
                "Convert it first, for example cr.tensor(x, dtype=np.float64, requires_grad=True)"
            )
        self._node = Leaf(self, state.tape_level())
        state.structure_changed()

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor itself."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None or isinstance(self._node, Leaf)

    @property
    def grad(self) -> Tensor | None:
        try:
            return self._grad
        except AttributeError:
            return None

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            self._grad = None
            recording = state.tracer.get()
            if recording is not None:
                recording.forget_gradient(self)
            return
        value = value if isinstance(value, Tensor) else tensor(value, dtype=self.dtype)
        if value.shape != self.shape:
            raise ValueError(f"a gradient of shape {value.shape} does not fit a tensor of shape {self.shape}")
        self._grad = value

    def detach(self) -> Tensor:
        """The same value as a constant: no transform sees through it."""
        return Tensor(_raw(self))

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHook:
        """Call `hook(grad)` when the gradient of this tensor is known; what it returns, if not None, replaces it.

        Raises:
            GradientError: the tensor does not require a gradient.
        """
        if not isinstance(self._node, Node):
            raise GradientError("cannot register a hook on a tensor that does not require a gradient")
        if self._node.hooks is None:
            self._node.hooks = []
        self._node.hooks.append(hook)
        if self.is_leaf:
            state.structure_changed()
        return RemovableHook(self._node.hooks, hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate result in `.grad` during `backward()`; leaves always do."""
        if self.is_leaf and self.requires_grad:
            return
        kept = ref(self)

        def store(grad: Tensor) -> None:
            tensor = kept()
            if tensor is not None:
                tensor.grad = grad

        self.register_hook(store)

    # Taking the value out ----------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        return _read_only(_raw(self))

    @data.setter
    def data(self, value: Any) -> None:
        array = copy_like(_raw(value), self._value)
        if array.shape != self.shape:
            raise ValueError(f"cannot replace a value of shape {self.shape} by one of shape {tuple(array.shape)}")
        state.note_assignment(self)
        self._value = array

    def numpy(self) -> Any:
        """The value as a read-only NumPy array.

        Raises:
            GradientError: the tensor is recorded; its gradient would be lost without a word.
        """
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._refuse_if_recorded("np.asarray (or .numpy())")
        value = np.asarray(_raw(self), dtype=dtype)
        return np.array(value) if copy else _read_only(value)

    def item(self) -> Any:
        """The single element as a Python number. It leaves the graph: nothing flows back through it."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element; this one has shape {self.shape}")
        return _raw(self).item() if self.shape else np.asarray(_raw(self)).item()

    def tolist(self) -> Any:
        """The value as (nested) Python lists of numbers. They leave the graph."""
        return np.asarray(_raw(self)).tolist()

    def __bool__(self) -> bool:
        return bool(_raw(self))

    def __float__(self) -> float:
        self._refuse_if_recorded("float()")
        return float(self.item())

    def __int__(self) -> int:
        self._refuse_if_recorded("int()")
        return int(self.item())

    def __index__(self) -> int:
        self._refuse_if_recorded("use as an index")
        return _raw(self).__index__()

    def _refuse_if_recorded(self, what: str) -> None:
        node = self._node
        if node is None or (isinstance(node, Node) and node.edges is None):
            return  # a constant, or a result whose graph was walked and freed
        maker = f" made by {node.primitive.name}" if isinstance(node, Node) and node.primitive else ""
        raise GradientError(
            f"{what} on a recorded tensor{maker} of shape {self.shape} would drop its gradient. Use the chainrule or "
            "NumPy function on the tensor itself (np.tanh(t), not math.tanh(t); cr.numpy.zeros for an array to fill), "
            "or take the value out on purpose: t.detach().numpy() or t.item()"
        )

    # Moving the handle -------------------------------------------------------------------------------------------

    def _become(self, other: Tensor) -> Tensor:
        """Assignment: this handle moves to the value and node of `other`."""
        if self.is_leaf:
            state.note_assignment(self)
        if isinstance(self._node, Leaf):
            if other._node is None:
                self._value = other._value
                return self
            if state.recording_floor.get() <= self._node.level:
                raise GradientError(
                    "in-place assignment to a leaf that requires a gradient would lose it: work on a copy "
                    "(`t = t + 0`), or update it inside `with cr.no_grad():`"
                )
        self._value = other._value
        self._node = other._node
        return self

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise GradientError("only leaves can be copied; detach() the result first")
        twin = type(self).__new__(type(self))
        twin._value = copy.copy(_raw(self))
        twin._node = None
        twin.requires_grad = self.requires_grad
        if self.grad is not None:
            twin._grad = Tensor(_raw(self.grad))
        memo[id(self)] = twin
        return twin

    if TYPE_CHECKING:  # bound by chainrule.ops.methods and chainrule.transforms.backward

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...


class RemovableHook:
    """What `register_hook` returns: `remove()` takes the hook away; also a context manager."""

    def __init__(self, hooks: list, hook: Callable) -> None:
        self._hooks = hooks
        self._hook = hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            state.structure_changed()

    def __enter__(self) -> RemovableHook:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _raw(x: Any) -> Any:
    """The array inside all levels of tensors."""
    while isinstance(x, Tensor):
        x = x._value
    return x


def _read_only(array: Any) -> Any:
    if isinstance(array, np.ndarray):
        array = array.view()
        array.setflags(write=False)
    return array


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor holding a copy of `data`.

    Args:
        data: a number, (nested) list, NumPy array, or array of another library that follows the array API.
        dtype: of the value; by default that of `data` (Python floats become float64, as in NumPy).
        requires_grad: record what is done with it, so that `backward()` can give its gradient.

    Raises:
        TypeError: `data` is complex or not numeric, or a gradient is asked of integers or booleans.
    """
    data = _raw(data)
    if not is_array(data) or isinstance(data, np.generic):
        data = np.asarray(data)
    kind = str(data.dtype)
    if "complex" in kind:
        raise TypeError(f"complex values ({kind}) are not supported; use separate real and imaginary parts")
    if kind == "object" or kind.startswith(("<U", "|S", "<M", "<m", "str")):
        raise TypeError(f"cannot make a tensor of dtype {kind}; give numbers or booleans")
    made = Tensor(namespace_of(data).asarray(data, dtype=dtype, copy=True))
    if requires_grad:
        made.requires_grad = True
    return made
