"""Matrix products get a second thread only where they are large enough for one."""

import pytest
from threadpoolctl import threadpool_info

from chainrule.train import Config
from chainrule.train.threads import suitable_threads


@pytest.mark.parametrize(
    "options, one",
    [
        ({}, True),
        ({"width": 2048}, False),
        ({"model": "cnn"}, True),
        ({"model": "lstm"}, True),
        ({"model": "lstm", "width": 1024}, False),
        ({"model": "transformer"}, False),
        ({"model": "transformer", "width": 16}, True),
    ],
)
def test_small_products_are_made_by_one_thread_and_large_ones_by_as_many_as_before(options, one):
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with suitable_threads(Config.choose(**options), features=64):
        assert threads() == ([1] * len(before) if one else before)
    assert threads() == before
