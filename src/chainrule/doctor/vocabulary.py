"""Which operations the doctor pays attention to, by chainrule's names, and what other names mean the same."""

from __future__ import annotations

from functools import cache

ACTIVATIONS: dict[str, float] = {
    "relu": 1, "leaky_relu": 1, "elu": 1, "gelu": 1, "gelu_tanh": 1, "silu": 1, "softplus": 1, "sigmoid": 0.25,
    "tanh": 1, "relu6": 1, "hardtanh": 1, "selu": 1.0507, "softsign": 1, "hardsigmoid": 1 / 6, "hardswish": 1.5,
    "mish": 1, "sin": 1, "log_expit": 1,
}  # fmt: skip
"""Elementwise nonlinearities of networks, and the largest size of their local derivative."""

RECTIFIERS = frozenset({"relu", "relu6", "hardtanh"})
"""Those that are flat where a unit is off: such a unit passes no gradient."""

BOUNDED = frozenset({"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign", "relu6"})
"""Those that saturate."""

PRODUCTS: dict[str, str] = {
    "linear": "linear", "matmul": "product", "addmm": "product", "einsum": "product", "tensordot": "product",
    "bilinear": "linear", "convolution": "convolution", "conv1d": "convolution", "conv2d": "convolution",
    "conv3d": "convolution", "conv_transpose": "convolution", "conv_transpose1d": "convolution",
    "conv_transpose2d": "convolution", "transposed_convolution": "convolution", "embedding": "embedding",
}  # fmt: skip
"""Operations that make a layer where they read a parameter, and the kind of layer."""

NORMALIZATIONS = frozenset({"batch_norm", "layer_norm", "group_norm", "rms_norm", "instance_norm"})

WHOLE: dict[str, str] = {
    "RNN": "rnn", "LSTM": "lstm", "GRU": "gru", "RNNCell": "rnn_cell", "LSTMCell": "lstm_cell", "GRUCell": "gru_cell",
    "MultiheadAttention": "multihead_attention", "BatchNorm1d": "batch_norm", "BatchNorm2d": "batch_norm",
    "BatchNorm3d": "batch_norm",
}  # fmt: skip
"""Modules that are looked at from outside, by the name of their class, and what that step is called."""

WHOLE_KINDS: dict[str, str] = {
    "rnn": "recurrent", "lstm": "recurrent", "gru": "recurrent", "rnn_cell": "recurrent", "lstm_cell": "recurrent",
    "gru_cell": "recurrent", "multihead_attention": "attention",
}  # fmt: skip
"""Those of them that make a layer, and the kind of layer."""

LOSSES = frozenset({
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "hinge_embedding_loss",
    "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "cosine_embedding_loss", "ctc_loss",
})  # fmt: skip

LAYOUT = frozenset({
    "reshape", "view", "flatten", "permute_dims", "transpose", "permute", "squeeze", "expand_dims", "unsqueeze",
    "moveaxis", "contiguous", "getitem", "broadcast_to", "expand", "unstack", "unbind", "split", "chunk", "concat",
    "stack", "dropout", "max_pool", "avg_pool", "adaptive_avg_pool", "max_pool1d", "max_pool2d", "avg_pool1d",
    "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "astype", "to", "float", "double", "clone", "output",
    "identity", "mT", "T",
})  # fmt: skip
"""Operations that move values about and, pooling and dropout aside, do not change them."""

SYNONYMS: dict[str, str] = {
    "absolute": "abs", "sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide",
    "truediv": "divide", "pow": "power", "mm": "matmul", "bmm": "matmul", "cat": "concat", "concatenate": "concat",
    "swish": "silu", "logsigmoid": "log_expit", "neg": "negative", "special_expit": "sigmoid", "expit": "sigmoid",
    "iadd": "add", "radd": "add", "isub": "subtract", "rsub": "subtract", "imul": "multiply", "rmul": "multiply",
    "itruediv": "divide", "rtruediv": "divide", "rpow": "power", "ipow": "power", "feature_dropout": "dropout",
    "dropout1d": "dropout", "dropout2d": "dropout", "alpha_dropout": "dropout", "pairwise_distance": "pairwise",
    "max_pool2d_with_indices": "max_pool2d", "boolean_dispatch": "max_pool2d", "_adaptive_avg_pool2d": "avg_pool2d",
    "clip": "clamp",
}  # fmt: skip
"""Other libraries' names for operations, by what chainrule calls them."""


@cache
def canonical(name: str) -> str:
    """Chainrule's name for an operation: `relu_` and `__add__` are `relu` and `add`."""
    name = name.strip("_")
    return SYNONYMS.get(name, name)
