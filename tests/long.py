"""Tests of two lengths: `make test` runs the short form, `make test-long` the long one."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_LONG = os.environ.get("KEYWATCH_TEST_LONG") == "1"


def long_form(long: T, short: T) -> T:
    """`long` if the run is `make test-long`, else `short`."""
    return long if IS_LONG else short
