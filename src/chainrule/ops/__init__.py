"""The primitives, one file per family. They know no transform.

Importing this package fills the namespace that rules see when they run on tensors: the public functions below,
under their array API names.
"""

from __future__ import annotations

import numpy as _np

from chainrule.core.namespace import namespaces as _namespaces
from chainrule.core.namespace import tensor_namespace as _tensor_namespace
from chainrule.core.tensor import Tensor as _Tensor
from chainrule.ops import (
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    joining,
    layout,
    linalg,
    network,
    ordering,
    pooling,
    products,
    recurrent,
    reductions,
    special,
)

for _family in (
    attention, convolution, creation, elementwise, indexing, joining, layout, network, ordering, pooling,
    products, recurrent, reductions, special,
):  # fmt: skip
    for _name, _function in vars(_family).items():
        if (
            callable(_function)
            and not _name.startswith("_")
            and getattr(_function, "__module__", "").startswith(("chainrule.ops", "chainrule.core.primitive"))
        ):
            setattr(_tensor_namespace, _name, _function)
_tensor_namespace.abs = elementwise.absolute
_tensor_namespace.pow = elementwise.power
_tensor_namespace.linalg = linalg
_tensor_namespace.pi, _tensor_namespace.inf, _tensor_namespace.nan, _tensor_namespace.e = (
    _np.pi, _np.inf, _np.nan, _np.e,
)  # fmt: skip
_namespaces[_Tensor] = _tensor_namespace

from chainrule.ops import methods as _methods  # noqa: E402, F401  (binds operators once the namespace is there)
