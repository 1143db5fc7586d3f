"""The examples of the guide run and print what it says."""

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "memory.md"


def test_every_example_in_the_guide_gives_the_output_it_shows():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(GUIDE), module_relative=False, optionflags=flags)
    assert result.attempted >= 20
    assert result.failed == 0
