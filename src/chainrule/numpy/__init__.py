"""The array API namespace of `Tensor` (version 2024.12), with NumPy's names and arguments.

    import chainrule.numpy as cnp

    x = cnp.linspace(0.0, 1.0, 5)
    cnp.sum(cnp.tanh(x))

Every function takes tensors, arrays and numbers and returns tensors. `np.tanh(t)` reaches the same functions through
NumPy's protocols, which importing this package binds to `Tensor`; so code that is written with `numpy` stays as it
is. Functions are defined in the files of this package, operations and their derivatives in `chainrule.ops`.
"""

# ruff: noqa: F403  (the `__all__` of each file is its share of the namespace)
from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any as _Any

from chainrule.numpy import linalg as linalg
from chainrule.numpy import protocols as _protocols
from chainrule.numpy.creation import *
from chainrule.numpy.dtypes import *
from chainrule.numpy.dtypes import NamespaceInfo as __array_namespace_info__  # noqa: F401
from chainrule.numpy.layout import *
from chainrule.numpy.products import *
from chainrule.numpy.reductions import *
from chainrule.numpy.selection import *
from chainrule.numpy.values import *

__array_api_version__ = "2024.12"

#: Elementwise functions under every name that NumPy has for them; what NumPy defines in terms of others; predicates.
globals().update(_protocols.further_names())

if TYPE_CHECKING:

    def __getattr__(name: str) -> _Any: ...
