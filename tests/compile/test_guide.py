"""The examples of the guide run and print what it says."""

import doctest
from pathlib import Path

import numpy as np

GUIDE = Path(__file__).parents[2] / "docs" / "compile.md"


def test_every_example_in_the_guide_gives_the_output_it_shows():
    with np.printoptions(precision=8):
        result = doctest.testfile(str(GUIDE), module_relative=False)
    assert result.attempted >= 25
    assert result.failed == 0
