"""What `make check` says of SQL."""

from __future__ import annotations

import pytest

from tools.sql_style import faults

FINE = """\
-- grain: key, day
CREATE TEMP TABLE visits AS
SELECT key_id, "by", n.end, coalesce(left(a, 2), 'select'), true AS is_new, f(recursive := true)
FROM lake.activity AS n -- from
WHERE day < $end AND end_of(day) = 1;
"""


def test_what_is_in_order_has_no_fault() -> None:
    assert list(faults(FINE, rows=False)) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("FROM", "from", 4, "keyword 'from': write it in upper case"),
        ("TEMP", "temp", 2, "keyword 'temp': write it in upper case"),
        (" AND ", " and ", 5, "keyword 'and': write it in upper case"),
        ("'select'", "'" + "s" * 60 + "'", 3, "150 columns: break it at 100"),
        ("visits AS", "visits AS ", 2, "space at its end: remove it"),
        ("-- from", "/* from */", 4, "a comment of another kind: write --"),
        ("grain: key", "key", 2, "no grain: put a line `-- grain: COLUMNS` above it"),
    ],
)
def test_a_fault_is_named_with_its_line(old: str, new: str, line: int, what: str) -> None:
    assert list(faults(FINE.replace(old, new, 1), rows=False)) == [(line, what)]


def test_a_detector_begins_with_its_grain() -> None:
    (fault,) = faults("SELECT key_id FROM visits\n", rows=True)
    assert fault == (1, "no grain: begin with a line `-- grain: COLUMNS`")


def test_each_table_has_a_grain_of_its_own() -> None:
    second = FINE + "\nCREATE VIEW days AS FROM visits;\n"
    assert [line for line, _ in faults(second, rows=False)] == [7]
    assert list(faults(second, rows=False, grain=False)) == []
