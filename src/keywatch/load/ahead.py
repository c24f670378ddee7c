"""Events ahead of the clock: set apart, and let in when their time has come.

The clock of one host must not decide which week is the last one. But as long as all that a lake
holds is ahead, it is this machine's clock that is doubted, and nothing is held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from keywatch.lake import Lake
from keywatch.load.activity import add_activity, as_stored

_EVER = datetime(9999, 12, 31)
_FROM_THE_LAKE = {
    "activity": "day",
    "transitions": "day",
    "activity_hours": "hour",
    "sessions": "day",
}
_ANY_UNTIL = """
    SELECT EXISTS (FROM lake.activity WHERE day <= $day)
        OR EXISTS (FROM lake.keyless_events WHERE day <= $day)
"""
_ANY_AFTER = """
    SELECT EXISTS (FROM lake.activity WHERE day > $day)
        OR EXISTS (FROM lake.keyless_events WHERE day > $day)
"""


@dataclass(frozen=True)
class HeldBack:
    """What a lake holds back: events, of how many keys, and the span of what they claim."""

    events: int
    keys: int
    first_ts: datetime | None
    last_ts: datetime | None


def limit_of(now: datetime, most_ahead_hours: float) -> datetime:
    """The last moment that an event may claim."""
    try:
        return now + timedelta(hours=most_ahead_hours)
    except OverflowError:
        return _EVER


def held_back(lake: Lake) -> HeldBack:
    """What `lake` holds back."""
    return HeldBack(
        *lake.rows("SELECT count(*), count(DISTINCT key_id), min(ts), max(ts) FROM lake.held_back")[
            0
        ]
    )


def clock_is_doubted(lake: Lake, limit: datetime) -> bool:
    """Whether all that `lake` holds is of days after `limit`."""
    return not lake.value(_ANY_UNTIL, day=limit.date())


def is_due(lake: Lake, limit: datetime) -> bool:
    """Whether the time of an event that is held back has come, or one has to be held back."""
    due = "SELECT EXISTS (FROM lake.held_back WHERE ts <= $limit)"
    return bool(lake.value(due, limit=limit)) or (
        bool(lake.value(_ANY_AFTER, day=limit.date())) and not clock_is_doubted(lake, limit)
    )


def settle(lake: Lake, limit: datetime, load_id: int, *, doubted: bool) -> int:
    """Let in what is not ahead of `limit` any more, hold back what is; returns how many came in.

    Where the clock is `doubted` (`clock_is_doubted`), all is let in. A lake of an older Keywatch
    may hold days after `limit`: they leave the events and roll-ups. Call it inside `Lake.writing`.
    """
    if doubted:
        limit = _EVER
    elif lake.value(_ANY_AFTER, day=limit.date()):
        _take_out(lake, limit)
    return sum(_let_in(lake, rows, load_id) for rows in _due(lake, limit))


def _take_out(lake: Lake, limit: datetime) -> None:
    day = limit.date()
    for table in ("events", "keyless_events"):
        lake.execute(
            f"INSERT INTO lake.held_back BY NAME FROM lake.{table} WHERE day > $day", day=day
        )
        lake.execute(f"DELETE FROM lake.{table} WHERE day > $day", day=day)
    for table, column in _FROM_THE_LAKE.items():
        lake.execute(f"DELETE FROM lake.{table} WHERE {column}::DATE > $day", day=day)


def _due(lake: Lake, limit: datetime) -> Iterator[pa.Table]:
    """What is due, a day at a time, taken out of what is held back."""
    due = "FROM lake.held_back WHERE ts <= $limit"
    days = lake.rows(f"SELECT DISTINCT day {due} ORDER BY day", limit=limit)
    for (day,) in days:
        yield lake.table(
            f"SELECT * EXCLUDE (load_id) {due} AND day = $day "
            "ORDER BY coalesce(principal, key_id), address, ts",
            limit=limit,
            day=day,
        )
    if days:
        lake.execute(f"DELETE {due}", limit=limit)


def _let_in(lake: Lake, rows: pa.Table, load_id: int) -> int:
    """Store `rows`, of one day, and roll them up."""
    rows = as_stored(rows)
    rows = rows.append_column("load_id", pa.repeat(pa.scalar(load_id, pa.int64()), len(rows)))
    keyless = rows["key_id"].is_null()
    for table, of_it in (("events", pc.invert(keyless)), ("keyless_events", keyless)):
        if part := rows.filter(of_it).combine_chunks():
            lake.append(table, part)
            if table == "events":
                add_activity(lake, part.drop_columns(["load_id"]), load_id)
    return len(rows)
