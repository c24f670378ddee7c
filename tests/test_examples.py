"""The examples in docstrings, run: of each module that has some."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
MODULES = [
    ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    for file in sorted(SOURCE.rglob("*.py"))
    if " >>> " in file.read_text("utf-8")
]


def test_the_arithmetic_of_a_score_has_examples() -> None:
    assert {"keywatch.detect.calibration", "keywatch.detect.scoring"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    done = doctest.testmod(import_module(name))
    assert (done.attempted > 0, done.failed) == (True, 0)
