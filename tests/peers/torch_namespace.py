"""PyTorch under the names that `operation_cases` calls, so that one case runs on both libraries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import array_api_compat.torch as compat
import numpy as np
import torch
import torch.nn.functional as F


def _tensor(x: Any) -> Any:
    return torch.tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x


def _var(x: Any, axis: Any, keepdims: bool, correction: float = 0.0) -> Any:
    return compat.var(x, axis=axis, keepdims=keepdims, correction=correction)


def _winner(name: str) -> Any:
    """PyTorch's `amax` shares a tie; the cases have none, so it is the same winner."""
    return lambda x, axis, keepdims: getattr(torch, name)(x, dim=() if axis is None else axis, keepdim=keepdims)


def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    every = tuple(range(x.ndim)) if axis is None else axis
    return torch.logsumexp(x, dim=every, keepdim=keepdims) if x.ndim else x * 1


def _batch_norm(x: Any, w: Any, b: Any) -> tuple:
    return (F.batch_norm(x, None, None, w, b, training=True),)


def _cross_entropy(z: Any, targets: Any, reduction: str) -> Any:
    flat = F.cross_entropy(z.reshape(-1, z.shape[-1]), _tensor(np.asarray(targets)).reshape(-1), reduction=reduction)
    return flat.reshape(np.shape(targets)) if reduction == "none" else flat


def _pad(x: Any, widths: Any) -> Any:
    return F.pad(x, [n for pair in reversed(widths) for n in pair])


def _sort(x: Any, axis: int, descending: bool = False) -> Any:
    return torch.sort(x, dim=axis, descending=descending).values


def _take(x: Any, indices: Any, axis: int) -> Any:
    axis %= x.ndim
    indices = torch.as_tensor(indices) % x.shape[axis]
    flat = torch.index_select(x, axis, indices.reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _loss(z: Any, t: Any) -> Any:
    z, t = torch.broadcast_tensors(z, t)
    return F.binary_cross_entropy_with_logits(z, t, reduction="none")


_SPECIAL = [
    "erf",
    "erfc",
    "erfinv",
    "log_ndtr",
    "ndtr",
    "ndtri",
    "logit",
    "digamma",
    "gammaln",
    "entr",
    "sinc",
    "polygamma",
    "xlogy",
    "xlog1py",
    "i0",
    "i0e",
    "i1",
    "i1e",
]
_NETWORK = ["relu", "leaky_relu", "elu", "gelu", "silu", "softplus"]
_NETWORK += ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]
_NETWORK += ["avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "max_pool1d", "max_pool2d"]

namespace = SimpleNamespace(**{name: getattr(compat, name) for name in dir(compat) if not name.startswith("_")})
for _name in _SPECIAL:
    setattr(namespace, _name, getattr(torch.special, _name))
for _name in _NETWORK:
    setattr(namespace, _name, getattr(F, _name))
namespace.j0, namespace.j1 = None, None  # PyTorch gives them no gradient
namespace.absolute, namespace.sigmoid, namespace.exp2 = torch.abs, torch.sigmoid, torch.exp2
namespace.log_expit = F.logsigmoid
namespace.power = torch.pow
namespace.var, namespace.max, namespace.min = _var, _winner("amax"), _winner("amin")
namespace.softmax = lambda x, axis: torch.softmax(x, dim=axis)
namespace.log_softmax = lambda x, axis: torch.log_softmax(x, dim=axis)
namespace.logsumexp = _logsumexp
namespace.binary_cross_entropy_with_logits = _loss
namespace.cross_entropy_with_logits = _cross_entropy
namespace.batch_norm = _batch_norm
namespace.layer_norm = lambda x, w, b: F.layer_norm(x, tuple(w.shape), w, b)
namespace.group_norm = lambda x, w, b, groups: F.group_norm(x, groups, w, b)
namespace.rms_norm = lambda x, w, eps: F.rms_norm(x, tuple(w.shape), w, eps)
namespace.embedding = lambda indices, w: F.embedding(_tensor(np.asarray(indices)), w)
namespace.linear_map = F.linear
namespace.einsum = torch.einsum
namespace.tensordot = lambda a, b, axes: torch.tensordot(a, b, dims=axes)
namespace.split = lambda x, n, axis: torch.chunk(x, n, dim=axis)
namespace.pad, namespace.sort, namespace.take = _pad, _sort, _take
namespace.take_along_axis = lambda x, i, axis: torch.take_along_dim(x, torch.as_tensor(i), dim=axis)
namespace.where = lambda c, a, b: torch.where(_tensor(c), a, b)
namespace.clip = torch.clamp
