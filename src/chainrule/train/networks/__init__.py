"""The networks that `chainrule train` builds besides `nn.MLP`: for images, and for the characters of a text."""

from chainrule.train.networks.convolutional import ConvolutionalNetwork
from chainrule.train.networks.recurrent import RecurrentNetwork
from chainrule.train.networks.transformer import Transformer

__all__ = ["ConvolutionalNetwork", "RecurrentNetwork", "Transformer"]
