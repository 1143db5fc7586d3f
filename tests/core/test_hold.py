"""An array that a graph needs is read-only for exactly as long as the graph needs it."""

import gc

import numpy as np
import pytest

import chainrule as cr


def test_numpy_refuses_to_change_an_array_the_graph_keeps():
    x = np.ones(3)
    y = cr.tensor([1.0, 2.0, 3.0], requires_grad=True) * x
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 5
    y.sum().backward()
    x[0] = 5  # the walk is over


def test_the_array_is_writeable_again_when_the_graph_is_dropped_without_a_walk():
    x = np.ones(3)
    y = cr.tensor([1.0, 2.0, 3.0], requires_grad=True) * x
    assert not x.flags.writeable
    del y
    gc.collect()
    assert x.flags.writeable


def test_two_graphs_hold_an_array_until_the_last_lets_go():
    x = np.ones(3)
    t = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    first, second = t * x, t * x
    first.sum().backward()
    assert not x.flags.writeable
    second.sum().backward()
    assert x.flags.writeable


def test_the_owner_of_a_views_memory_is_held_too():
    owner = np.ones((2, 3))
    view = owner[0]
    y = cr.tensor([1.0, 2.0, 3.0], requires_grad=True) * view
    for array in (owner, view):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    y.sum().backward()
    assert owner.flags.writeable
    assert view.flags.writeable


def test_view_and_owner_are_restored_in_whichever_order_they_are_let_go():
    for view_first in (True, False):
        owner = np.ones((2, 3))
        view = owner[0]
        t = cr.tensor(np.ones((2, 3)), requires_grad=True)
        graphs = [t[0] * view, t * owner]
        for graph in graphs if view_first else graphs[::-1]:
            graph.sum().backward()
        assert owner.flags.writeable
        assert view.flags.writeable


def test_memory_that_numpy_does_not_own_is_copied():
    buffer = bytearray(np.ones(3).tobytes())
    x = np.frombuffer(buffer)
    t = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = t * x
    x[0] = 5
    y.sum().backward()
    assert t.grad.tolist() == [1, 1, 1]


def test_an_array_that_was_read_only_stays_so():
    x = np.ones(3)
    x.setflags(write=False)
    (cr.tensor([1.0, 2.0, 3.0], requires_grad=True) * x).sum().backward()
    assert not x.flags.writeable


def test_what_no_rule_reads_is_not_held():
    x = np.ones(3)
    y = cr.tensor([1.0, 2.0, 3.0], requires_grad=True) + x
    x[0] = 5
    assert y.tolist() == [2, 3, 4]


def test_a_function_cannot_change_its_argument_while_it_is_differentiated():
    x = np.ones(3)

    def meddles(t):
        y = t * t
        x[0] = 7
        return y.sum()

    with pytest.raises(ValueError, match="read-only"):
        cr.grad(meddles)(x)
    assert x.flags.writeable
    np.testing.assert_array_equal(cr.grad(lambda t: (t * t).sum())(x), [2, 2, 2])


def test_a_tensor_does_not_share_memory_with_what_it_was_made_from():
    x = np.ones(3)
    t = cr.tensor(x, requires_grad=True)
    x[0] = 5
    (t * t).sum().backward()
    assert t.grad.tolist() == [2, 2, 2]


def test_what_a_tensor_shows_cannot_be_written():
    t = cr.tensor([1.0, 2.0])
    for shown in (t.numpy(), t.data, np.asarray(t)):
        with pytest.raises(ValueError, match="read-only"):
            shown[0] = 5
