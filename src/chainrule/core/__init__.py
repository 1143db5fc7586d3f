"""Tensor, Node, Primitive, recording on and off. Knows no operation and walks no graph."""
