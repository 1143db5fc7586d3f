"""The kind of each gate is read off the operation's declaration."""

import pytest

from chainrule.explain.steps import GATES, gate_of
from chainrule.ops import elementwise, indexing, layout, linalg, network, products, reductions, special

KINDS = {
    "copies": [elementwise.add, elementwise.subtract, elementwise.negative, reductions._sum, layout._astype],
    "swaps and scales": [elementwise.multiply],
    "scales": [special.sigmoid, elementwise.tanh, elementwise.divide, elementwise.power, reductions._mean],
    "routes": [elementwise.maximum, elementwise.where, network.relu, reductions._max],
    "transposes": [products._matmul, products.linear_step, products._einsum2],
    "sums": [layout._broadcast_to],
    "rearranges": [layout._reshape, layout._permute_dims, indexing.getitem_step, linalg._diagonal],
    "combines": [network._softmax, network.cross_entropy_step, network.batch_norm_step],
}


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_gates_of_their_kind(kind):
    assert {primitive.name: gate_of(primitive) for primitive in KINDS[kind]} == {p.name: kind for p in KINDS[kind]}


def test_every_kind_is_explained_in_words():
    assert set(KINDS) == set(GATES)
