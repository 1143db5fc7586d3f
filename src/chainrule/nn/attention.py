"""Attention as a layer of several heads."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from chainrule.core.primitive import as_operand
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.linear import Linear
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_probability, as_size, matching
from chainrule.ops.attention import causal_mask, split_mask, weights_of
from chainrule.ops.elementwise import add, logical_and, logical_not
from chainrule.ops.joining import unstack
from chainrule.ops.layout import expand_dims, permute_dims, reshape
from chainrule.ops.products import linear_map, matmul
from chainrule.ops.reductions import mean


class MultiheadAttention(Module):
    """Attention in several subspaces at once, each with its own projections of queries, keys and values.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2.

    Args:
        embed_dim: width of queries and outputs.
        num_heads: number of subspaces, each of width embed_dim/num_heads.
        dropout: the probability with which a weight is left out in training.
        bias: whether the projections have biases (zeros at first).
        kdim, vdim: widths of keys and values; `embed_dim` if left out.
        batch_first: whether inputs have shape (batch, length, width), rather than (length, batch, width).
        dtype: of the parameters, and so of the inputs.

    Attributes:
        in_proj_weight: shape (3·embed_dim, embed_dim), the projections of queries, keys and values; None where widths
            differ, and then there are `q_proj_weight`, `k_proj_weight` and `v_proj_weight`.
        in_proj_bias: shape (3·embed_dim,), or None.
        out_proj: the linear layer after the heads.

    Raises:
        ValueError: the heads do not divide `embed_dim`; when called, if an input or a mask does not fit.
        TypeError: when called, if an input is of another dtype.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.embed_dim = as_size("MultiheadAttention: embed_dim", embed_dim)
        self.num_heads = as_size("MultiheadAttention: num_heads", num_heads)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"MultiheadAttention: {num_heads} heads do not divide embed_dim={embed_dim}")
        self.kdim = self.embed_dim if kdim is None else as_size("MultiheadAttention: kdim", kdim)
        self.vdim = self.embed_dim if vdim is None else as_size("MultiheadAttention: vdim", vdim)
        self.dropout = as_probability("MultiheadAttention: dropout", dropout)
        self.batch_first = batch_first
        if self.kdim == self.vdim == self.embed_dim:
            self.in_proj_weight = Parameter(np.empty((3 * self.embed_dim, self.embed_dim), dtype))
        else:
            self.in_proj_weight = None
            for name, width in (("q", self.embed_dim), ("k", self.kdim), ("v", self.vdim)):
                setattr(self, f"{name}_proj_weight", Parameter(np.empty((self.embed_dim, width), dtype)))
        self.in_proj_bias = Parameter(np.empty(3 * self.embed_dim, dtype)) if bias else None
        self.out_proj = Linear(self.embed_dim, self.embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters afresh: the projections into the heads by Xavier's rule, biases zero."""
        for weight in self._weights():
            init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def _weights(self) -> list[Any]:
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [getattr(self, f"{name}_proj_weight") for name in "qkv"]

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """What each query finds, and how much it attended to each key.

        Args:
            query: shape (queries, batch, embed_dim), or (batch, queries, embed_dim) with `batch_first`, or without a
                batch (queries, embed_dim).
            key, value: shapes (keys, batch, kdim) and (keys, batch, vdim), or as above.
            key_padding_mask: shape (batch, keys), or (keys,) without a batch: True where a key is padding, to be left
                out, or numbers to be added to the scores.
            need_weights: whether to return the weights.
            attn_mask: shape (queries, keys) or (batch·num_heads, queries, keys): True where a query may NOT attend (as
                in PyTorch; `scaled_dot_product_attention` has it the other way round), or numbers to be added.
            average_attn_weights: whether the weights returned are the mean over the heads.
            is_causal: query i may attend to keys 0 to i only.

        Returns:
            The output, in the shape of `query`; the weights, shape (batch, queries, keys) or, if not averaged, (batch,
            num_heads, queries, keys), or None.
        """
        weight = self._weights()[0]
        same = query is key and key is value
        query = matching("MultiheadAttention", query, weight)
        key, value = (query, query) if same else (matching("MultiheadAttention", x, weight) for x in (key, value))
        batched = len(query.shape) == 3
        self._check(query, key, value)
        rows = [query] if same else [query, key, value]
        if not batched:
            rows = [expand_dims(x, 0) for x in rows]
        elif not self.batch_first:
            rows = [permute_dims(x, (1, 0, 2)) for x in rows]
        batch, queries, keys = rows[0].shape[0], rows[0].shape[1], rows[-1].shape[1]
        scores = (batch, self.num_heads, queries, keys)
        mask, bias = self._masks(key_padding_mask, attn_mask, is_causal, batched, scores)
        q, k, v = self._heads(rows)
        weights = weights_of(q, k, 1 / math.sqrt(self.embed_dim // self.num_heads), mask, bias)
        weights = F.dropout(weights, self.dropout, self.training)
        found = permute_dims(matmul(weights, v), (0, 2, 1, 3))
        y = self.out_proj(reshape(found, (batch, queries, self.embed_dim)))
        if not need_weights:
            weights = None
        elif average_attn_weights:
            weights = mean(weights, axis=1)
        if not batched:
            return y[0], None if weights is None else weights[0]
        return y if self.batch_first else permute_dims(y, (1, 0, 2)), weights

    def _heads(self, rows: list[Any]) -> list[Any]:
        """Queries, keys and values of each head, shape (batch, heads, length, width)."""
        if len(rows) == 1 and self.in_proj_weight is not None:  # all three from one input: one product
            batch, length, width = rows[0].shape
            y = linear_map(rows[0], self.in_proj_weight, self.in_proj_bias)
            y = reshape(y, (batch, length, 3, self.num_heads, width // self.num_heads))
            return list(unstack(permute_dims(y, (2, 0, 3, 1, 4))))
        rows = rows * 3 if len(rows) == 1 else rows
        weights = self._weights()
        if len(weights) == 1:
            weights = list(unstack(reshape(weights[0], (3, self.embed_dim, self.embed_dim))))
        biases: Any = [None] * 3
        if self.in_proj_bias is not None:
            biases = unstack(reshape(self.in_proj_bias, (3, self.embed_dim)))
        heads = []
        for x, weight, bias in zip(rows, weights, biases, strict=True):
            batch, length, _ = x.shape
            y = linear_map(x, weight, bias)
            y = reshape(y, (batch, length, self.num_heads, self.embed_dim // self.num_heads))
            heads.append(permute_dims(y, (0, 2, 1, 3)))
        return heads

    def _check(self, query: Any, key: Any, value: Any) -> None:
        shapes = [tuple(x.shape) for x in (query, key, value)]
        widths = (self.embed_dim, self.kdim, self.vdim)
        ndim = len(shapes[0])
        fits = ndim in (2, 3) and all(len(s) == ndim and s[-1] == w for s, w in zip(shapes, widths, strict=True))
        if not fits or shapes[1][:-1] != shapes[2][:-1] or 0 in shapes[0] + shapes[1]:
            raise ValueError(
                f"MultiheadAttention: queries, keys and values must have the widths {widths} and one number of axes, "
                f"keys and values one length, none empty; got {shapes[0]}, {shapes[1]}, {shapes[2]}"
            )
        place = 0 if self.batch_first else 1
        if ndim == 3 and shapes[0][place] != shapes[1][place]:
            raise ValueError(
                f"MultiheadAttention: queries come in a batch of {shapes[0][place]}, keys in one of {shapes[1][place]} "
                f"(axis {place}; batch_first={self.batch_first})"
            )

    def _masks(
        self, padding: Any, mask: Any, is_causal: bool, batched: bool, shape: tuple[int, ...]
    ) -> tuple[Any, Any]:
        """All masks as one of booleans, True where a query may attend, and one of numbers to be added to the scores.

        Both broadcast to (batch, heads, queries, keys), or are None.
        """
        batch, heads, queries, keys = shape
        given = []
        if mask is not None:
            mask = as_operand("MultiheadAttention: attn_mask", mask)
            if tuple(mask.shape) == (batch * heads, queries, keys):
                mask = reshape(mask, shape)
            elif tuple(mask.shape) != (queries, keys):
                raise ValueError(
                    f"MultiheadAttention: attn_mask has shape {tuple(mask.shape)}; it must be {(queries, keys)} "
                    f"(queries, keys) or {(batch * heads, queries, keys)} (batch·heads, queries, keys)"
                )
            given.append(mask)
        if padding is not None:
            padding = as_operand("MultiheadAttention: key_padding_mask", padding)
            wanted = (batch, keys) if batched else (keys,)
            if tuple(padding.shape) != wanted:
                raise ValueError(
                    f"MultiheadAttention: key_padding_mask has shape {tuple(padding.shape)}; it must be {wanted}"
                )
            given.append(reshape(padding, (batch, 1, 1, keys)))
        parts = [split_mask("MultiheadAttention", part, shape, self.out_proj.weight.dtype) for part in given]
        allowed = [
            logical_not(forbidden) for forbidden, _ in parts if forbidden is not None
        ]  # PyTorch's other way round
        if is_causal:
            allowed.append(causal_mask(queries, keys))
        numbers = [bias for _, bias in parts if bias is not None]
        return reduce(logical_and, allowed) if allowed else None, reduce(add, numbers) if numbers else None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"
