"""The examples of the guide to time run and print what it says."""

import doctest
from pathlib import Path

import numpy as np

GUIDE = Path(__file__).parents[2] / "docs" / "time.md"


def test_every_example_in_the_guide_gives_the_output_it_shows():
    with np.printoptions(precision=8):
        result = doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8")
    assert result.attempted >= 18
    assert result.failed == 0
