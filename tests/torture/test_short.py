"""``make torture`` in short: each command is killed once, and four processes share a lake."""

from __future__ import annotations

import random
from pathlib import Path

from tests.long import long_form
from tests.torture.__main__ import COMMANDS, kills, many


def test_a_short_torture_loses_nothing(tmp_path: Path) -> None:
    random.seed(3)
    rows = kills(tmp_path / "kills", len(COMMANDS))
    assert [row.times for row in rows] == [1] * len(COMMANDS)
    assert {row.lost for row in rows} == {"0 times"}
    assert sum(row.cut_short for row in rows) > 0
    row = many(tmp_path / "many", long_form(5, 2), [""] * 4, "4 processes", None)
    assert row.times >= 4
    assert row.lost.startswith("0 of ")
