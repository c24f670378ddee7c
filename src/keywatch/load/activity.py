"""Daily roll-ups: what everything after ingestion reads instead of the raw history.

A chunk of a load is rolled up on its own, and adding the parts up again is exact; of objects,
which two parts may share, a part keeps a sketch that merges by union.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from keywatch.lake import Lake
from keywatch.vendors.parser import principals

SESSION_GAP = timedelta(minutes=30)
"""A request this long after the one before it begins a session."""
SKETCH_SIZE = 64
"""Hashes kept of a row's objects: the smallest (bottom-k; Cohen and Kaplan 2007)."""

_MOST_RESPONSE_BYTES = 2**40  # what a log may claim of a request; the sum stays an integer
_STATUS_CLASSES = ["-", "401", "403", "404", "429", "1xx", "2xx", "3xx", "4xx", "5xx"]
_MOST_EVENTS = 200_000
_HOUR_US = 3_600_000_000
_MINUTE_US = 60_000_000
_MOST_NUMBERS = 2**63
_CLASS_OF_STATUS = np.repeat(np.arange(4, 10), 100)
_CLASS_OF_STATUS[:100] = 0
_CLASS_OF_STATUS[[401, 403, 404, 429]] = range(1, 5)

Ints = npt.NDArray[np.int64]


def add_activity(lake: Lake, events: pa.Table, load_id: int) -> None:
    """Roll up `events`, a part of a load.

    Its columns are those of ``lake.events``, repeated text as dictionaries of distinct values, and
    its rows are in one chunk, sorted by day, principal, address and time. Each has a key.
    """
    for table, rows in rolled_up(lake, events, load_id).items():
        if rows:
            lake.append(table, rows)


def rolled_up(lake: Lake, events: pa.Table, load_id: int) -> dict[str, pa.Table]:
    """The rows of each roll-up for `events`, which are as of `add_activity`; nothing is stored."""
    sessions = _sessions(events)
    at = events.schema.get_field_index("key_id")
    events = events.set_column(at, "key_id", principals(events))
    rollups = {
        "sessions": sessions,
        "activity": _activity(lake, events),
        "activity_hours": _hours(events),
        "transitions": _transitions(events),
    }
    return {table: _of_load(rows, load_id) for table, rows in rollups.items()}


def add_calls(lake: Lake, events: pa.Table, load_id: int) -> None:
    """Roll up into ``lake.activity`` alone; the rest is as of `add_activity`."""
    at = events.schema.get_field_index("key_id")
    events = events.set_column(at, "key_id", principals(events))
    lake.append("activity", _of_load(_activity(lake, events), load_id))


def as_stored(rows: pa.Table) -> pa.Table:
    """Rows of ``lake.events`` as `add_activity` takes them: one chunk, text as dictionaries."""
    columns = [
        column.cast(pa.string()).dictionary_encode() if _is_text(column.type) else column
        for column in (column.combine_chunks() for column in rows.columns)
    ]
    return pa.table(columns, rows.column_names)


def stored_parts(rows: pa.Table) -> Iterator[pa.Table]:
    """Rows as of `as_stored`, so many at a time that memory does not grow with a day."""
    for start in range(0, len(rows), _MOST_EVENTS):
        yield as_stored(rows.slice(start, _MOST_EVENTS))


def _is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _of_load(rows: pa.Table, load_id: int) -> pa.Table:
    return rows.append_column("load_id", pa.repeat(pa.scalar(load_id, pa.int64()), len(rows)))


class _Groups:
    """Rows that are equal in some columns, as groups in the order of these columns."""

    def __init__(self, *codes: Ints) -> None:
        """`codes` are the columns as numbers, none negative."""
        numbers = _combined(*codes)
        self._rows = np.argsort(numbers, kind="stable")
        self._starts = np.flatnonzero(np.diff(numbers[self._rows], prepend=-1))
        self.sizes = np.diff(self._starts, append=len(self._rows))
        self.first = self._rows[self._starts]
        self.last = self._rows[self._starts + self.sizes - 1]

    def __len__(self) -> int:
        return len(self._starts)

    def of_rows(self) -> Ints:
        """The number of each row's group."""
        groups = np.empty_like(self._rows)
        groups[self._rows] = np.repeat(np.arange(len(self)), self.sizes)
        return groups

    def total(self, values: npt.NDArray[np.generic]) -> Ints:
        """The sum of each group's values."""
        return np.add.reduceat(values[self._rows], self._starts, dtype=np.int64)

    def most_in_one(self, spans: Ints) -> Ints:
        """How many of each group's rows fall into the fullest of the `spans`."""
        width = int(spans.max() - spans.min()) + 1
        pairs = np.sort(self.of_rows() * width + (spans - spans.min()))
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        first = np.searchsorted(pairs[starts] // width, np.arange(len(self)))
        most: Ints = np.maximum.reduceat(np.diff(starts, append=len(pairs)), first)
        return most


def _combined(*codes: Ints) -> Ints:
    """One number a row, equal where all `codes` are, and in their order."""
    numbers, count = np.zeros(len(codes[0]), np.int64), 1
    for code in codes:
        width = int(code.max()) + 1
        if count * width > _MOST_NUMBERS:
            distinct, numbers = np.unique(numbers, return_inverse=True)
            count = len(distinct)
        numbers, count = numbers * width + code, count * width
    return numbers


def _codes(events: pa.Table, column: str) -> Ints:
    """A column as numbers: of a dictionary the place in it, of times microseconds; null is -1."""
    values = events[column].chunk(0)
    if pa.types.is_dictionary(values.type):
        values = values.indices
    elif pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    codes: Ints = values.cast(pa.int64()).fill_null(-1).to_numpy()
    return codes


def _activity(lake: Lake, events: pa.Table) -> pa.Table:
    """Rows of ``lake.activity``, less the load."""
    status_class = _CLASS_OF_STATUS[np.maximum(_codes(events, "status"), 0)]
    same = ["day", "key_id", "address", "endpoint", "agent"]
    groups = _Groups(*(_codes(events, name) for name in same), status_class)
    objects, object_count = _objects(lake, events["object"].chunk(0), groups)
    response_bytes = _codes(events, "response_bytes").clip(0, _MOST_RESPONSE_BYTES)
    classes = pa.DictionaryArray.from_arrays(status_class[groups.first], _STATUS_CLASSES)
    columns = dict(zip(same, events.select(same).take(groups.first).columns, strict=True)) | {
        "status_class": classes,
        "events": groups.sizes,
        "objects": objects,
        "object_count": object_count,
        "response_bytes": groups.total(response_bytes),
        "exposed": groups.total(events["exposed"].to_numpy()),
        "first_ts": events["ts"].take(groups.first),
        "last_ts": events["ts"].take(groups.last),
        "peak_per_minute": groups.most_in_one(_codes(events, "ts") // _MINUTE_US),
    }
    return pa.table(columns)


def _objects(lake: Lake, objects: pa.DictionaryArray, groups: _Groups) -> tuple[pa.ListArray, Ints]:
    """Each group's sketch of its distinct objects, and how many they are."""
    with lake.registered("objects", pa.table({"object": objects.dictionary})):
        hashes = lake.table(
            "SELECT (md5_number_lower(object) & 4294967295)::UINTEGER AS hash FROM objects"
        )["hash"].to_numpy()
    by_hash = np.argsort(hashes, kind="stable")
    rank = np.empty_like(by_hash)
    rank[by_hash] = np.arange(len(by_hash))
    seen = objects.is_valid()
    pairs = groups.of_rows()[seen.to_numpy(zero_copy_only=False)] << 32
    pairs |= rank[objects.indices.filter(seen).to_numpy()]
    pairs = _distinct(pairs)
    hashed = _distinct(pairs >> 32 << 32 | hashes[by_hash[pairs & 0xFFFFFFFF]])
    group = hashed >> 32
    smallest = np.arange(len(group)) - np.searchsorted(group, group) < SKETCH_SIZE
    sizes = np.bincount(group[smallest], minlength=len(groups))
    offsets = np.concatenate([[0], sizes.cumsum()]).astype(np.int32)
    sketches = pa.ListArray.from_arrays(offsets, hashed[smallest].astype(np.uint32))
    return sketches, np.bincount(pairs >> 32, minlength=len(groups))


def _distinct(numbers: Ints) -> Ints:
    """The distinct ones, sorted. NumPy's own hashes them, which takes several times as long."""
    numbers = np.sort(numbers)
    distinct: Ints = numbers[np.diff(numbers, prepend=-1) != 0]
    return distinct


def _sessions(events: pa.Table) -> pa.Table:
    """Rows of ``lake.sessions``, less the load."""
    rows = events.filter(events["principal"].is_valid()).combine_chunks()
    if not rows:
        return rows
    same = ["principal", "key_id", "day", "address"]
    groups = _Groups(*(_codes(rows, name) for name in same))
    return pa.table(
        dict(
            zip(
                ["key_id", "session", "day", "address"],
                rows.select(same).take(groups.first).columns,
                strict=True,
            )
        )
        | {
            "events": groups.sizes,
            "first_ts": rows["ts"].take(groups.first),
            "last_ts": rows["ts"].take(groups.last),
        }
    )


def _hours(events: pa.Table) -> pa.Table:
    """Rows of ``lake.activity_hours``, less the load."""
    hours = _codes(events, "ts") // _HOUR_US
    groups = _Groups(_codes(events, "key_id"), hours, _codes(events, "address"))
    return pa.table(
        {
            "key_id": events["key_id"].take(groups.first),
            "address": events["address"].take(groups.first),
            "hour": pa.array(hours[groups.first] * _HOUR_US, pa.timestamp("us")),
            "events": groups.sizes,
        }
    )


def _transitions(events: pa.Table) -> pa.Table:
    """Rows of ``lake.transitions``, less the load."""
    stream = _combined(_codes(events, "key_id"), _codes(events, "address"))
    in_time = np.argsort(stream, kind="stable")
    gap = np.diff(_codes(events, "ts")[in_time])
    goes_on = (np.diff(stream[in_time]) == 0) & (gap < SESSION_GAP // timedelta(microseconds=1))
    endpoints = events["endpoint"].chunk(0)
    endpoint = _codes(events, "endpoint")
    previous = np.full(len(events), len(endpoints.dictionary))
    previous[in_time[1:][goes_on]] = endpoint[in_time[:-1][goes_on]]
    same = ["day", "key_id", "address", "endpoint"]
    groups = _Groups(*(_codes(events, name) for name in same), previous)
    named = pa.concat_arrays([endpoints.dictionary, pa.array([""])])
    columns = dict(zip(same, events.select(same).take(groups.first).columns, strict=True)) | {
        "previous": pa.DictionaryArray.from_arrays(previous[groups.first], named),
        "events": groups.sizes,
    }
    return pa.table(columns)
