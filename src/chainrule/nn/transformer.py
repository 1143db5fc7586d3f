"""Transformer blocks: attention, a network for each place, and residual paths around both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.nn import functional as F
from chainrule.nn.attention import MultiheadAttention
from chainrule.nn.containers import ModuleList
from chainrule.nn.dropout import Dropout
from chainrule.nn.linear import Linear
from chainrule.nn.module import Module
from chainrule.nn.normalization import LayerNorm
from chainrule.nn.sizes import as_size

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": F.relu, "gelu": F.gelu}


class _Block(Module):
    """What encoder and decoder blocks share: residual paths, each with a normalisation before or after its sum."""

    def _set_up(
        self, d_model: int, dim_feedforward: int, dropout: float, activation: Any, layer_norm_eps: float,
        norm_first: bool, bias: bool, dtype: Any, paths: int,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if not callable(activation) and activation not in _ACTIVATIONS:
            raise ValueError(f"{name}: activation must be 'relu', 'gelu' or a function, got {activation!r}")
        self.linear1 = Linear(d_model, as_size(f"{name}: dim_feedforward", dim_feedforward), bias=bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, dtype=dtype)
        self.norm_first = norm_first
        for i in range(1, paths + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, dtype=dtype))
        for i in range(1, paths + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = activation if callable(activation) else _ACTIVATIONS[activation]

    def _path(self, number: int, x: Any, inner: Callable[[Any], Any]) -> Any:
        """x plus what `inner` makes of it."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return x + dropout(inner(norm(x)))
        return norm(x + dropout(inner(x)))

    def _feedforward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Block):
    """Self-attention, then two linear layers at each place, each with a residual path around it.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.1; with `norm_first`, Xiong et al. 2020, "On
    Layer Normalization in the Transformer Architecture". With `is_causal` it is the block of a GPT.

    Args:
        d_model: width of input and output.
        nhead: number of heads.
        dim_feedforward: width between the two linear layers.
        dropout: of attention weights and of what each path adds.
        activation: "relu", "gelu", or a function, between the two linear layers.
        layer_norm_eps: added to variances.
        batch_first: whether inputs have shape (batch, length, d_model), rather than (length, batch, d_model).
        norm_first: whether a path begins with its normalisation, rather than ending with it.
        bias: whether linear layers and normalisations have biases.
        dtype: of the parameters, and so of the inputs.

    Raises:
        ValueError: the heads do not divide `d_model`; when called, if the input or a mask does not fit.
        TypeError: when called, if the input is of another dtype.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._set_up(
            d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias, dtype, paths=2
        )  # fmt: skip

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Any:  # fmt: skip
        """The block's output, in the shape of `src`. Masks are those of `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        return self._path(2, self._path(1, src, attend), self._feedforward)


class TransformerDecoderLayer(_Block):
    """Self-attention, attention to an encoder's output, then two linear layers, each with a residual path around it.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.1.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype: as
            in `TransformerEncoderLayer`.

    Raises:
        ValueError: the heads do not divide `d_model`; when called, if an input or a mask does not fit.
        TypeError: when called, if an input is of another dtype.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._set_up(
            d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias, dtype, paths=3
        )  # fmt: skip

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """The block's output, in the shape of `tgt`, given an encoder's output. Masks as in `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look_up(x: Any) -> Any:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )[0]

        return self._path(3, self._path(2, self._path(1, tgt, attend), look_up), self._feedforward)


class _Stack(Module):
    """Copies of one block, one after the other, and perhaps a normalisation after the last."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        count = as_size(f"{type(self).__name__}: num_layers", num_layers)
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(count)])
        self.num_layers = count
        self.norm = norm

    def _run(self, x: Any, call: Callable[[Module, Any], Any]) -> Any:
        for layer in self.layers:
            x = call(layer, x)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Encoder blocks one after the other, each a copy of the one given.

    Args:
        encoder_layer: the block; copies start with its parameters, as in PyTorch.
        num_layers: how many copies.
        norm: applied to the result, or None.
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Any:  # fmt: skip
        """The last block's output, in the shape of `src`."""
        return self._run(src, lambda layer, x: layer(x, mask, src_key_padding_mask, is_causal))


class TransformerDecoder(_Stack):
    """Decoder blocks one after the other, each a copy of the one given.

    Args:
        decoder_layer: the block; copies start with its parameters, as in PyTorch.
        num_layers: how many copies.
        norm: applied to the result, or None.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """The last block's output, in the shape of `tgt`."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self._run(tgt, lambda layer, x: layer(x, memory, *masks, tgt_is_causal, memory_is_causal))
