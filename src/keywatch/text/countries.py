"""Countries by their names, as they stand in a sentence (``countries.csv``)."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources


def country_name(code: str) -> str:
    """``the Netherlands`` of ``NL`` (ISO 3166-1 alpha-2); the code itself where it is not known.

    >>> country_name("SE")
    'Sweden'
    >>> country_name("ZZ")
    'ZZ'
    """
    return _names().get(code, code)


@cache
def _names() -> dict[str, str]:
    text = resources.files(__package__).joinpath("countries.csv").read_text(encoding="utf-8")
    return {row["code"]: row["name"] for row in csv.DictReader(text.splitlines())}
