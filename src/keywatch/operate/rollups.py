"""Roll-ups and origins made anew from the events that are kept: by a repair, or on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import pyarrow as pa

from keywatch.lake import Lake
from keywatch.load.activity import as_stored, rolled_up
from keywatch.text.phrases import count

ROLLUPS = {
    "activity": "day",
    "activity_hours": "hour::DATE",
    "transitions": "day",
    "sessions": "day",
}
"""The roll-ups of events, and which day a row is of."""
SCORED_AGAIN = ("replays", "replayed_visits", "reviews")
"""What rests on the roll-ups and is made anew when it is asked for."""

LoadedDay = tuple[int, date, int]
"""A load, a day that it has events of, and how many."""

_EVENTS_AT_ONCE = 500_000
"""More than a chunk of a load has: what was one part becomes one part again."""
_ADDRESSES_AT_ONCE = 20_000
_COLUMNS = (
    "load_id, day, ts, key_id, principal, address, endpoint, object, status, agent, "
    "response_bytes, exposed"
)


class Locator(Protocol):
    """What is needed of `keywatch.load.origins.OriginReader`."""

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        """One row an address, with the columns of ``lake.origins``."""


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did.

    Attributes:
        days: Whose events are kept.
        older_days: Of which there are roll-ups only.
        rows: Of each roll-up that differed, before and after; of the days whose events are kept.
        located: Addresses that the lake did not know.
    """

    days: int
    older_days: int
    rows: dict[str, tuple[int, int]]
    located: int


def rebuild(lake: Lake, locator: Locator) -> Rebuilt:
    """Roll up all events that are kept anew, and locate the addresses that were not; one commit.

    Of days whose events were pruned the roll-ups are the source, and stay. Where what is there says
    the same row by row, nothing is written. A load that was read in several chunks may get fewer
    rows, which count the same requests.

    Raises:
        LakeBusyError: another writer did not finish in time.
    """
    done = Rebuilt(0, 0, {}, 0)
    with suppress(_NothingToKeepError), lake.writing():
        pairs: list[LoadedDay] = lake.rows(
            "SELECT load_id, day, count(*) FROM lake.events GROUP BY ALL ORDER BY ALL"
        )
        days = {day for _, day, _ in pairs}
        older_days = lake.value(
            "SELECT count(DISTINCT day) FROM lake.activity WHERE NOT list_contains($days, day)",
            days=sorted(days),
        )
        rows = _differences(lake, pairs) if pairs else {}
        done = Rebuilt(len(days), older_days, rows, locate_missing(lake, locator))
        if not (done.rows or done.located):
            raise _NothingToKeepError
        for table in SCORED_AGAIN:
            lake.execute(f"DELETE FROM lake.{table}")
    return done


class _NothingToKeepError(Exception):
    """Rolls a transaction back."""


def _differences(lake: Lake, pairs: list[LoadedDay]) -> dict[str, tuple[int, int]]:
    """Roll up `pairs` anew; returns the rows before and after of each roll-up that differed."""
    _name_pairs(lake, pairs)
    for table, day in ROLLUPS.items():
        lake.execute(f"CREATE OR REPLACE TEMP TABLE {table}_before AS {_of_pairs(table, day)}")
    roll_up_again(lake, pairs)
    rows = {}
    for table, day in ROLLUPS.items():
        before, after = f"FROM {table}_before", _of_pairs(table, day)
        lost, new = f"({before}) EXCEPT ALL ({after})", f"({after}) EXCEPT ALL ({before})"
        if lake.value(f"SELECT EXISTS ({lost}) OR EXISTS ({new})"):
            rows[table] = lake.rows(
                f"SELECT (SELECT count(*) {before}), (SELECT count(*) FROM ({after}))"
            )[0]
        lake.execute(f"DROP TABLE {table}_before")
    return rows


def roll_up_again(lake: Lake, pairs: list[LoadedDay]) -> None:
    """Roll up these days of these loads, in order, in place of what there is; inside `writing`.

    A day whose count is 0 has no events: its rows go.
    """
    _name_pairs(lake, pairs)
    for table, day in ROLLUPS.items():
        lake.execute(
            f"DELETE FROM lake.{table} WHERE (load_id, {day}) IN "
            "(SELECT (load_id, day) FROM to_roll_up)"
        )
    for batch in _batches([pair for pair in pairs if pair[2]]):
        for table, rows in _rolled_up(lake, batch).items():
            if rows:
                lake.append(table, rows)


def _name_pairs(lake: Lake, pairs: list[LoadedDay]) -> None:
    columns = {
        "load_id": pa.array([load_id for load_id, _, _ in pairs], pa.int64()),
        "day": pa.array([day for _, day, _ in pairs], pa.date32()),
    }
    with lake.registered("pairs", pa.table(columns)):
        lake.execute("CREATE OR REPLACE TEMP TABLE to_roll_up AS FROM pairs")


def _of_pairs(table: str, day: str) -> str:
    return f"FROM lake.{table} WHERE (load_id, {day}) IN (SELECT (load_id, day) FROM to_roll_up)"


def _batches(pairs: list[LoadedDay]) -> Iterator[list[LoadedDay]]:
    """Loads together, as long as their events are few; a large load by days."""
    batch: list[LoadedDay] = []
    events = 0
    for _, of_load in groupby(pairs, itemgetter(0)):
        days = list(of_load)
        of_it = sum(each[2] for each in days)
        parts = [days] if of_it <= _EVENTS_AT_ONCE else [[each] for each in days]
        for part in parts:
            of_part = sum(each[2] for each in part)
            if batch and events + of_part > _EVENTS_AT_ONCE:
                yield batch
                batch, events = [], 0
            batch += part
            events += of_part
    if batch:
        yield batch


def _rolled_up(lake: Lake, batch: list[LoadedDay]) -> dict[str, pa.Table]:
    """The rows of each roll-up for a batch."""
    (first_load, first_day, _), (last_load, last_day, _) = batch[0], batch[-1]
    events = lake.table(
        f"SELECT {_COLUMNS} FROM lake.events SEMI JOIN to_roll_up USING (load_id, day) "
        "WHERE load_id BETWEEN $first_load AND $last_load "
        "AND (load_id > $first_load OR day >= $first_day) "
        "AND (load_id < $last_load OR day <= $last_day) "
        # As they were loaded, also at equal times: the order of calls is rolled up too.
        "ORDER BY load_id, day, coalesce(principal, key_id), address, ts, rowid",
        first_load=first_load,
        first_day=first_day,
        last_load=last_load,
        last_day=last_day,
    )
    parts: dict[str, list[pa.Table]] = {table: [] for table in ROLLUPS}
    start = 0
    for load_id, of_load in groupby(batch, itemgetter(0)):
        left = sum(each[2] for each in of_load)
        while left:
            rows = events.slice(start, min(left, _EVENTS_AT_ONCE))
            for table, part in rolled_up(lake, as_stored(rows), load_id).items():
                parts[table].append(part)
            start, left = start + len(rows), left - len(rows)
    return {
        table: pa.concat_tables([each for each in found if each] or found[:1])
        for table, found in parts.items()
    }


def locate_missing(lake: Lake, locator: Locator) -> int:
    """Ask where the addresses are of which the lake does not know it; returns how many."""
    unknown = [
        address
        for (address,) in lake.rows(
            "SELECT DISTINCT address FROM lake.activity WHERE address IS NOT NULL "
            "AND address NOT IN (SELECT address FROM lake.origins) ORDER BY address"
        )
    ]
    load_id = lake.value("SELECT coalesce(max(load_id), 0) FROM lake.ingested_files")
    for start in range(0, len(unknown), _ADDRESSES_AT_ONCE):
        located = locator.locate(unknown[start : start + _ADDRESSES_AT_ONCE])
        ids = pa.repeat(pa.scalar(load_id, pa.int64()), located.num_rows)
        lake.append("origins", located.append_column("load_id", ids))
    return len(unknown)


def render_rebuilt(done: Rebuilt) -> Iterator[str]:
    """What was done, a line each."""
    kept = count(done.days, "day")
    if done.rows:
        yield f"The roll-ups of {kept} were rebuilt from the events:"
        for table, (before, after) in done.rows.items():
            yield f"  {table:20}{count(after, 'row')}, {before:,} before"
    else:
        yield f"The roll-ups of {kept} agree with the events."
    if done.older_days:
        yield f"{count(done.older_days, 'older day')} without events kept their roll-ups."
    if done.located:
        yield f"{count(done.located, 'address', 'addresses')} located."
