"""The README's examples run and print what it says."""

import doctest
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
def test_every_example_in_the_readme_gives_the_output_it_shows():
    with np.printoptions(precision=8):
        result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 20
    assert result.failed == 0


def test_every_file_the_readme_links_to_is_there():
    import re

    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
