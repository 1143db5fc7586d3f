"""The networks as modules: one text for chainrule and PyTorch, whose names for all of this are the same."""

from __future__ import annotations

from typing import Any

from benchmarks.networks import CNN, GPT, LSTM, MLP, Network


def network(nn: Any, case: Network, **how: Any) -> Any:
    """The network of a case, with parameters of its own.

    Args:
        nn: `torch.nn` or `chainrule.nn`.
        case: which network.
        how: of a GPT, `block`, the class of its blocks; `mask`, if it takes one to make them causal; options of what
            stacks them.
    """
    return _MAKERS[type(case)](nn, case, **how)


def _mlp(nn: Any, case: MLP) -> Any:
    layers: list = []
    for fan_in, fan_out in case.layers:
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _cnn(nn: Any, case: CNN) -> Any:
    layers: list = []
    for before, after in case.convolutions:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(case.flat, case.classes))


def _lstm(nn: Any, case: LSTM) -> Any:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(case.features, case.width)
            self.head = nn.Linear(case.width, case.classes)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0].reshape(-1, case.width))

    return Tagger()


def _gpt(nn: Any, case: GPT, block: type, mask: Any = None, **stacking: Any) -> Any:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(case.vocabulary, case.width)
            self.place = nn.Embedding(case.tokens, case.width)
            layer = block(
                case.width, case.heads, 4 * case.width, dropout=0.0, activation="gelu", batch_first=True,
                norm_first=True,
            )  # fmt: skip
            self.blocks = nn.TransformerEncoder(layer, case.layers, nn.LayerNorm(case.width), **stacking)
            self.head = nn.Linear(case.width, case.vocabulary)

        def forward(self, tokens: Any) -> Any:
            x = self.token(tokens) + self.place.weight
            x = self.blocks(x, mask=mask, is_causal=True)
            return self.head(x.reshape(-1, case.width))

    return Transformer()


_MAKERS: dict = {MLP: _mlp, CNN: _cnn, LSTM: _lstm, GPT: _gpt}
