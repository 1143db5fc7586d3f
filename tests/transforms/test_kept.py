"""What a graph keeps, read from its edges."""

import numpy as np

import chainrule as cr
from chainrule.transforms.kept import kept_by


def sizes(*results):
    return sorted(entry.nbytes for entry in kept_by(results).values())


def leaf(*shape):
    return cr.tensor(np.ones(shape), requires_grad=True)


def test_what_the_graph_keeps_is_counted_once_and_in_whole_blocks():
    x = leaf(4, 3)  # 96 bytes
    y = x.tanh()  # 96 bytes: the rule of tanh reads y
    z = y * y[:2].sum(axis=0) + x  # the product reads y again, and the sum: 24 bytes; the addition reads nothing
    assert sizes(z) == [24, 96]


def test_rules_are_named_with_what_they_read():
    x, w = leaf(4, 3), leaf(3, 5)
    uses = [(use.node.primitive.name, use.rule, use.reads) for entry in kept_by([x @ w]).values() for use in entry.uses]
    assert uses == [("matmul", "a", "b"), ("matmul", "b", "a")]


def test_several_results_are_one_account():
    x = leaf(5)
    y = x.tanh()
    assert sizes(y * 2, y * 3, np.exp(x)) == [40, 40]


def test_index_arrays_count():
    assert sizes(leaf(9)[np.array([1, 2, 3])]) == [24]


def test_a_checkpoint_keeps_what_it_is_given():
    x = leaf(4, 3)
    assert sizes(cr.checkpoint(lambda x, n: np.exp(np.tanh(x) * n))(x, np.ones(3))) == [24, 96]


def test_a_custom_vjp_keeps_its_inputs_and_residuals():
    f = cr.custom_vjp(lambda x: x * 2)
    f.defvjp(lambda x: (x * 2, {"scale": np.ones(7)}), lambda residuals, g: (g * 2,))
    assert sizes(f(leaf(2))) == [16, 56]


def test_older_levels_inside_a_transform_count():
    found = []

    def f(x):
        y = np.tanh(np.exp(x))
        found.extend(sizes(y))
        return y.sum()

    cr.grad(lambda x: (cr.grad(f)(np.sin(x)) ** 2).sum())(np.ones(10))
    assert found == [80, 80, 80]  # exp and tanh on both levels, and what sin keeps on the older one
