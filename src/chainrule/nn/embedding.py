"""Tokens and their places as vectors: embeddings and positional encodings."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.tensor import Tensor, tensor
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_probability, as_size, matching


class Embedding(Module):
    """A table of vectors, read by index. They are drawn from a standard normal distribution, as in PyTorch.

    Args:
        num_embeddings: number of rows.
        embedding_dim: length of a row.
        padding_idx: a row that is zero at first and gets no gradient; negative numbers count from the end.
        dtype: of the table.

    Attributes:
        weight: shape (num_embeddings, embedding_dim).

    Raises:
        ValueError: a size is less than 1, or there is no row `padding_idx`.
        TypeError: when called, if the indices are not integers.
        IndexError: when called, if an index is not that of a row.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype: Any = np.float32
    ) -> None:
        self.num_embeddings = as_size("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = as_size("Embedding: embedding_dim", embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx={padding_idx} is none of the {num_embeddings} rows")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(np.empty((self.num_embeddings, self.embedding_dim), dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table afresh."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            rows = self.weight.data.copy()
            rows[self.padding_idx] = 0
            self.weight.data = rows

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An embedding with the given table, shape (num_embeddings, embedding_dim); `freeze`: it is not trained."""
        embeddings = tensor(embeddings)
        if embeddings.ndim != 2:
            raise ValueError(f"Embedding: the table must have shape (rows, width), got {embeddings.shape}")
        rows, width = embeddings.shape
        made = cls(rows, width, padding_idx, dtype=embeddings.dtype)
        made.weight.data = embeddings.data
        made.weight.requires_grad = not freeze
        return made

    def forward(self, indices: Any) -> Any:
        return F.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class PositionalEncoding(Module):
    """x plus a vector that says where in the sequence each element is, made of waves of growing length.

    Element 2i of the vector at place t is sin(t/10000^(2i/d_model)), element 2i + 1 the cosine of the same. For
    vectors that are learned, use an `Embedding` of the places.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    Args:
        d_model: length of the input's last axis.
        max_len: the longest sequence that will come.
        dropout: applied to the sum.
        batch_first: whether inputs have shape (batch, length, d_model), rather than (length, batch, d_model).
        dtype: of the vectors, and so of the inputs.

    Attributes:
        pe: shape (max_len, d_model); a buffer that is not saved.

    Raises:
        ValueError: when called, if the sequence is longer than `max_len` or the input does not end in `d_model`.
        TypeError: when called, if the input is of another dtype.
    """

    pe: Tensor

    def __init__(
        self,
        d_model: int,
        max_len: int = 5000,
        dropout: float = 0.0,
        batch_first: bool = False,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.d_model = as_size("PositionalEncoding: d_model", d_model)
        self.max_len = as_size("PositionalEncoding: max_len", max_len)
        self.dropout = as_probability("PositionalEncoding: dropout", dropout)
        self.batch_first = batch_first
        wave = np.arange(0, self.d_model, 2) / self.d_model
        angle = np.arange(self.max_len)[:, None] / 10_000.0**wave
        encoding = np.empty((self.max_len, self.d_model))
        encoding[:, 0::2] = np.sin(angle)
        encoding[:, 1::2] = np.cos(angle)[:, : self.d_model // 2]
        self.register_buffer("pe", tensor(encoding.astype(dtype)), persistent=False)

    def forward(self, x: Any) -> Any:
        x = matching("PositionalEncoding", x, self.pe)
        shape = tuple(x.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.d_model:
            raise ValueError(f"PositionalEncoding: needs an input whose last axis is {self.d_model} long, got {shape}")
        length = shape[1] if self.batch_first and len(shape) == 3 else shape[0]
        if length > self.max_len:
            raise ValueError(f"PositionalEncoding: a sequence of length {length} is longer than max_len={self.max_len}")
        encoding = self.pe[:length]
        if len(shape) == 3 and not self.batch_first:
            encoding = encoding[:, None]
        return F.dropout(x + encoding, self.dropout, self.training)

    def extra_repr(self) -> str:
        return f"{self.d_model}, max_len={self.max_len}, dropout={self.dropout}, batch_first={self.batch_first}"
