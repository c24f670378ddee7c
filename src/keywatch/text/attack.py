"""MITRE ATT&CK: what a technique is called, and which tactics it serves (`data/attack.toml`)."""

from __future__ import annotations

import functools
import re
import tomllib
from typing import Any

from keywatch.content import content_path
from keywatch.model import Technique

TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?", re.ASCII)
"""An id of a technique or a sub-technique."""


def technique(uid: str) -> Technique:
    """The technique with this id; one that the table does not have is its id alone."""
    table = _table()
    whole = uid.partition(".")[0]
    known = table["techniques"].get(whole)
    if known is None:
        return Technique(uid)
    tactics = tuple((tactic, table["tactics"][tactic]) for tactic in known["tactics"])
    return Technique(uid, known["name"], table["sub_techniques"].get(uid, ""), tactics)


def version() -> str:
    """The version of ATT&CK that the table is of."""
    return str(_table()["version"])


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(content_path("data/attack.toml").read_text(encoding="utf-8"))
