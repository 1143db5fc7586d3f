"""Products of Hessians and Jacobians with vectors, for networks of either framework.

Each framework's file has `hessian_product(subject)` and `jacobian_products(subject, start, end)`. Vectors are flat
float64 NumPy arrays, so what is done with them is written once (`curvature`, `singular`). The network is to be in
`undisturbed` from before they are made until they are no longer used: what it puts back would spoil a recorded graph.
"""

from __future__ import annotations

from typing import Any

from chainrule.doctor.lanczos import Product
from chainrule.doctor.products.maps import JacobianProducts
from chainrule.doctor.subjects import Subject


def hessian_product(subject: Subject) -> tuple[Product, int]:
    """The Hessian of the loss by all trained parameters, times a vector; and the vector's length."""
    return _of(subject).hessian_product(subject)


def jacobian_products(subject: Subject, start: str, end: str) -> JacobianProducts:
    """The Jacobian of the output of the module at path `end` by that of the module at `start`, on the batch.

    Raises:
        DoctorError: one of them does not run exactly once, or the later one does not depend on the earlier one.
    """
    return _of(subject).jacobian_products(subject, start, end)


def _of(subject: Subject) -> Any:
    if subject.framework == "torch":
        from chainrule.doctor.products import torch as found
    else:
        from chainrule.doctor.products import own as found  # type: ignore[no-redef]
    return found
