"""The upkeep of a lake: few files, old snapshots gone, and what has to be forgotten erased.

A file is removed only when DuckLake itself has scheduled it, and not before readers that may still
have it open are done; what it does not know is left alone.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from keywatch.errors import LakeBusyError, UsageError
from keywatch.lake import Lake, quoted, utc_now
from keywatch.lake.catalogue_copies import copies
from keywatch.lake.folder import SET_ASIDE
from keywatch.lake.weeks import last_event
from keywatch.model import Window
from keywatch.review.stored import forget_older
from keywatch.settings import LakeSettings

FORGOTTEN = "[forgotten]"
"""Stands where a key or an address stood in a text that is kept."""

_EVERY = timedelta(days=1)
_MOST_LOADS = 500
"""Chosen: about 3,000 files. A query of the lake reads the catalogue's rows of all of them, in
SQLite 0.1 s for 10,000 (`benchmarks/catalogue.py`), and a feed has 8,640 loads in a day."""
_GRACE = timedelta(days=1)
"""A review that reads an older snapshot may take this long."""
_REWRITE_SHARE = 0.25
_LARGE_FILE_BYTES = 128 * 1024 * 1024
_EVER = datetime(9999, 1, 1)
# The bounds of a table's columns are not narrowed when its files are written anew.
_WIDEN_BOUNDS = """
    UPDATE __ducklake_metadata_lake.ducklake_table_column_stats
    SET min_value = NULL, max_value = NULL
    WHERE (table_id, column_id) IN (
        SELECT (table_id, column_id) FROM __ducklake_metadata_lake.ducklake_column
        WHERE column_type IN ('varchar', 'json')
    )
"""


@dataclass(frozen=True)
class Maintained:
    """What `maintain` did: files that the catalogue names before and after, and what went.

    `unrepeatable` are the windows of stored runs whose snapshot is gone now: what they said is
    kept, but they can't be run again on just what they saw.
    """

    files_before: int
    files_after: int
    snapshots_expired: int
    files_removed: int
    events_pruned: int
    events_before: date | None
    unrepeatable: tuple[Window, ...]


@dataclass(frozen=True)
class Forgotten:
    """What `forget` erased: rows deleted and texts mended, by table.

    The `set_aside` are folders of a repair, whose damaged files nobody can look through.
    """

    what: str
    set_aside: tuple[Path, ...] = ()
    deleted: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)


def is_due(lake: Lake, now: datetime | None = None) -> bool:
    """Whether the last time is a day ago, or many loads; at first, the lake's first load counts."""
    last, loads = lake.rows(
        """
        WITH last AS (SELECT max(made_at) AS maintained_at FROM lake.maintenance)

        SELECT coalesce(any_value(maintained_at), min(loaded_at)),
            count(DISTINCT load_id) FILTER (maintained_at IS NULL OR loaded_at > maintained_at)
        FROM last
        LEFT JOIN lake.ingested_files ON true
        """
    )[0]
    if last is None:
        return False
    is_old: bool = (now or utc_now()) - last >= _EVERY
    return is_old or loads >= _MOST_LOADS


def maintain(
    lake: Lake,
    settings: LakeSettings,
    now: datetime | None = None,
) -> Maintained:
    """Prune, merge, expire and clean up as `settings` say; no table reads differently after.

    Each step is a transaction of its own, so loads and reviews get their turn, and a run that was
    killed is made up by the next one.

    Raises:
        LakeBusyError: another writer did not finish in time.
    """
    now = now or utc_now()
    if is_purge_due(lake):
        _purge(lake)
    before = file_count(lake)
    with lake.writing():
        forget_older(lake)
    pruned, events_before = _prune(lake, settings.keep_events_days, now)
    runs = set(_repeatable(lake))
    _rewrite_and_merge(lake, _REWRITE_SHARE)
    with lake.writing():
        expired = _expire(lake, now - timedelta(days=settings.keep_snapshots_days))
    gone = sorted(runs - set(_repeatable(lake)), key=lambda run: run[1:])
    with lake.writing():
        removed = _clean_up(lake, now - _GRACE)
        lake.execute(
            "INSERT INTO lake.maintenance VALUES ($now, 'maintained', $events_before)",
            now=now,
            events_before=events_before,
        )
    if removed:
        _copy_anew(lake)
    lake.index_files()
    windows = tuple(dict.fromkeys(Window(start, end) for _, start, end in gone))
    return Maintained(before, file_count(lake), expired, removed, pruned, events_before, windows)


def maintain_if_due(lake: Lake, settings: LakeSettings) -> Maintained | None:
    """`maintain` where it is due and nobody is in the way; else None."""
    if lake.folder is None or not is_due(lake):
        return None
    with suppress(LakeBusyError):
        return maintain(lake, settings)
    return None


def file_count(lake: Lake) -> int:
    """How many files the catalogue names, those of deleted rows included."""
    return int(
        lake.value(
            "SELECT coalesce(sum(file_count + delete_file_count), 0)::BIGINT "
            "FROM ducklake_table_info('lake')"
        )
    )


def _prune(lake: Lake, keep_days: int | None, now: datetime) -> tuple[int, date | None]:
    """Delete events older than that; roll-ups stay. How many, and the first day that is kept."""
    if keep_days is None:
        return 0, None
    # A clock that is ahead takes nothing away.
    newest = last_event(lake, now) or now
    first = min(newest, now).date() - timedelta(days=keep_days)
    count = 0
    with lake.writing():
        for table in ("events", "keyless_events"):
            old = lake.value(f"SELECT count(*) FROM lake.{table} WHERE day < $day", day=first)
            if old:
                lake.execute(f"DELETE FROM lake.{table} WHERE day < $day", day=first)
            count += old
    return count, first


def _rewrite_and_merge(lake: Lake, share: float) -> None:
    with lake.writing():
        lake.rows(f"CALL ducklake_rewrite_data_files('lake', delete_threshold => {share})")
    with lake.writing():
        lake.rows(
            f"CALL ducklake_merge_adjacent_files('lake', max_file_size => {_LARGE_FILE_BYTES})"
        )


def _expire(lake: Lake, before: datetime) -> int:
    return len(
        lake.rows(f"CALL ducklake_expire_snapshots('lake', older_than => {_instant(before)})")
    )


def _clean_up(lake: Lake, before: datetime) -> int:
    return len(
        lake.rows(f"CALL ducklake_cleanup_old_files('lake', older_than => {_instant(before)})")
    )


def _instant(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S}+00'"


def _repeatable(lake: Lake) -> list[tuple[str, datetime, datetime]]:
    """Stored runs whose snapshot is there."""
    return [
        (run_id, start, end)
        for run_id, start, end in lake.rows(
            "SELECT run_id, window_start, window_end FROM lake.runs WHERE lake_snapshot IN "
            "(SELECT snapshot_id FROM ducklake_snapshots('lake'))"
        )
    ]


# ------------------------------------------------------------------------------------- to forget


def forget(lake: Lake, named: str) -> Forgotten:
    """Erase a key (its id, masked form or name) or an address from every table and file.

    Rows of it are deleted; where it is named in a text about others, the text is mended. Then all
    older snapshots expire and each file that held it is written anew, in a step that the next
    `forget` or `maintain` makes up if this one is killed.

    Raises:
        UsageError: the lake has never heard of it, or several keys are called so.
        LakeBusyError: another writer did not finish in time.
    """
    with lake.writing():
        is_address, marks, names = _marks(lake, named)
        found = _erase(lake, is_address, marks, names)
        if not (found.deleted or found.mended) and not is_purge_due(lake):
            raise UsageError(f"{named}: no such key or address in the lake")
        lake.execute("INSERT INTO lake.maintenance VALUES (NULL, 'to purge', NULL)")
    _purge(lake)
    folder = lake.folder
    aside = () if folder is None else tuple(sorted(folder.glob(f"{SET_ASIDE}*")))
    return replace(found, set_aside=aside)


def _marks(lake: Lake, named: str) -> tuple[bool, list[str], list[str]]:
    """Whether it is an address; what says that a text is about it; what else is it called there."""
    with suppress(ValueError):
        address = str(ip_address(named.strip().strip("[]")))
        logged = lake.rows(
            "SELECT DISTINCT address FROM lake.origins WHERE $ip IN (address, ip)", ip=address
        )
        return True, sorted({named, address, *(text for (text,) in logged)}), []
    key_ids = [
        key_id
        for (key_id,) in lake.rows(
            """
            SELECT key_id FROM lake.keys WHERE $named IN (key_id, "key", name)
            UNION
            SELECT key_id FROM lake.activity WHERE key_id = $named
            UNION
            SELECT key_id FROM lake.events WHERE "key" = $named
            ORDER BY key_id
            """,
            named=named,
        )
    ]
    if len(key_ids) > 1:
        raise UsageError(f"{named!r} matches {len(key_ids)} keys: {', '.join(key_ids)}; use the id")
    key_id = key_ids[0] if key_ids else named
    shown, names = lake.rows(
        """
        SELECT list(DISTINCT "key") FILTER ("key" IS NOT NULL),
            list(DISTINCT name) FILTER (name IS NOT NULL)
        FROM (
            SELECT "key", name FROM lake.keys WHERE key_id = $key_id
            UNION ALL SELECT DISTINCT "key", NULL FROM lake.events WHERE key_id = $key_id
            UNION ALL SELECT DISTINCT "key", NULL FROM lake.held_back WHERE key_id = $key_id
        )
        """,
        key_id=key_id,
    )[0]
    # A masked form that two keys have is no mark of one of them.
    shared = {
        text
        for (text,) in lake.rows(
            'SELECT DISTINCT "key" FROM lake.events WHERE key_id <> $key_id '
            'AND list_contains($shown::VARCHAR[], "key")',
            key_id=key_id,
            shown=list(shown or ()),
        )
    }
    return False, [key_id, *sorted(set(shown or ()) - shared)], list(names or ())


def _erase(lake: Lake, is_address: bool, marks: Sequence[str], names: Sequence[str]) -> Forgotten:
    """Delete what is of it, and mend what names it."""
    found = Forgotten(marks[0])
    own = ("address", "ip") if is_address else ("key_id",)
    columns = _text_columns(lake)
    if not is_address:
        _delete_alerts(lake, marks[0], found)
    for table, texts in columns.items():
        mine = " OR ".join(
            f"list_contains($marks::VARCHAR[], {name})" for name in own if name in texts
        )
        if table == "rejects":
            told = [_names_it("text", mark) for mark in _written(marks)]
            mine = " OR ".join([*filter(None, [mine]), *told])
        if mine:
            _count_and_delete(lake, table, mine, found, marks=list(marks))
    lake.create_text_function("mend_text", _mender(marks, names))
    # Stored reviews are made anew.
    del columns["reviews"]
    for table, texts in columns.items():
        for name, kind in texts.items():
            _mend(lake, table, name, kind, marks, found)
    if found.deleted or found.mended:
        lake.execute("DELETE FROM lake.reviews")
    return found


def _delete_alerts(lake: Lake, key_id: str, found: Forgotten) -> None:
    """Alerts of this key alone, with their messages and questions; those of a group are mended."""
    alone = (
        "SELECT alert_id FROM lake.alerts GROUP BY alert_id HAVING bool_and(key_ids = [$key_id])"
    )
    asked = f"SELECT question_id FROM lake.questions WHERE alert_id IN ({alone})"
    of_them = f"SELECT delivery_id FROM lake.deliveries WHERE alert_id IN ({alone}) UNION {asked}"
    for table, mine in (
        ("answers", f"question_id IN ({asked})"),
        ("delivery_outcomes", f"delivery_id IN ({of_them})"),
        ("deliveries", f"delivery_id IN ({of_them})"),
        ("questions", f"alert_id IN ({alone})"),
        ("alert_notes", f"alert_id IN ({alone})"),
        ("alerts", f"alert_id IN ({alone})"),
    ):
        _count_and_delete(lake, table, mine, found, key_id=key_id)


def _count_and_delete(lake: Lake, table: str, mine: str, found: Forgotten, **named: object) -> None:
    count = lake.value(f"SELECT count(*) FROM lake.{table} WHERE {mine}", **named)
    if count:
        lake.execute(f"DELETE FROM lake.{table} WHERE {mine}", **named)
        found.deleted[table] = found.deleted.get(table, 0) + count


def _mend(
    lake: Lake, table: str, column: str, kind: str, marks: Sequence[str], found: Forgotten
) -> None:
    name = f'"{column}"'
    text = f"{name}::VARCHAR"
    mended = f"mend_text({name})"
    if kind == "VARCHAR[]":
        mended = f"list_transform({name}, lambda each: mend_text(each))"
    elif kind == "JSON":
        mended = f"mend_text({text})::JSON"
    naming = "(" + " OR ".join(_names_it(text, mark) for mark in _written(marks)) + ")"
    differs = f"{naming} AND {mended} IS DISTINCT FROM {name}"
    count = lake.value(f"SELECT count(*) FROM lake.{table} WHERE {differs}")
    if count:
        lake.execute(f"UPDATE lake.{table} SET {name} = {mended} WHERE {differs}")
        found.mended[table] = found.mended.get(table, 0) + count


def _names_it(column: str, mark: str) -> str:
    return f"contains({column}, {quoted(mark)})"


def _written(marks: Sequence[str]) -> list[str]:
    """`marks` as they stand in text, and in JSON."""
    return list(dict.fromkeys([*marks, *(json.dumps(mark)[1:-1] for mark in marks)]))


def _mender(marks: Sequence[str], names: Sequence[str]) -> Callable[[str], str]:
    """Puts `FORGOTTEN` where a text has one of `marks` as a word of its own, and then for `names`.

    ``key_1`` is no part of ``key_10`` or ``key_1-v2``, nor 192.0.2.1 of 192.0.2.10.
    """

    def pattern(words: Sequence[str]) -> re.Pattern[str]:
        longest_first = sorted(_written(words), key=len, reverse=True)
        some = "|".join(map(re.escape, longest_first))
        return re.compile(rf"(?<![\w:-])(?<!\d\.)(?:{some})(?![\w:-]|\.\d)")

    of_marks = pattern(marks)
    of_names = pattern([name for name in names if name.strip()]) if any(names) else None

    def mend(text: str) -> str:
        mended, count = of_marks.subn(FORGOTTEN, text)
        return of_names.sub(FORGOTTEN, mended) if count and of_names else mended

    return mend


def _text_columns(lake: Lake) -> dict[str, dict[str, str]]:
    """The columns of the lake's tables that hold text, and their types."""
    columns: dict[str, dict[str, str]] = {}
    for table, name, kind in lake.rows(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = 'lake' AND data_type IN ('VARCHAR', 'VARCHAR[]', 'JSON') "
        "ORDER BY table_name, column_index"
    ):
        columns.setdefault(table, {})[name] = kind
    return columns


def is_purge_due(lake: Lake) -> bool:
    """Whether something was erased and is in old files still."""
    return bool(lake.value("SELECT count(*) FROM lake.maintenance WHERE what = 'to purge'"))


def _purge(lake: Lake) -> None:
    """Leave no older snapshot, and no file that holds a deleted row.

    A reader that has one of them open fails and has to try again.
    """
    if lake.folder is None:
        lake.execute("DELETE FROM lake.maintenance WHERE what = 'to purge'")
        return
    _rewrite_and_merge(lake, 0.0)
    with lake.writing():
        _expire(lake, _EVER)
    with lake.writing():
        lake.rows("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
    with lake.writing():
        lake.execute(_WIDEN_BOUNDS)
    catalogue = lake.sqlite_file
    if catalogue is not None:
        # What SQLite deletes stays in its file until then.
        with closing(sqlite3.connect(catalogue, timeout=60)) as database:
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _copy_anew(lake)
    with lake.writing():
        lake.execute("DELETE FROM lake.maintenance WHERE what = 'to purge'")


def _copy_anew(lake: Lake) -> None:
    """Older copies of the catalogue name files that are gone, or hold what was forgotten."""
    if lake.sqlite_file is not None:
        for _, copy in copies(lake.sqlite_file):
            copy.unlink()
        lake.keep_copy(utc_now())


def render_maintained(done: Maintained) -> Iterator[str]:
    """What was done, a line each."""
    from keywatch.text.phrases import count, iso_week, listed

    yield f"{count(done.files_before, 'file')} became {done.files_after:,}."
    if done.events_pruned:
        yield (
            f"{count(done.events_pruned, 'event')} from before {done.events_before} pruned; their "
            "roll-ups stay."
        )
    if done.snapshots_expired:
        yield f"{count(done.snapshots_expired, 'old snapshot')} expired."
    if done.unrepeatable:
        weeks = [iso_week(one) or f"{one.start:%Y-%m-%d}" for one in done.unrepeatable]
        yield (
            "Runs that can't be repeated on the data they used any more: "
            f"{listed(weeks, 8)}. Their results stay."
        )
    if done.files_removed:
        yield f"{count(done.files_removed, 'file')} removed that no snapshot uses any more."


def render_forgotten(done: Forgotten) -> Iterator[str]:
    """What was erased, a line each."""
    from keywatch.text.phrases import count
    from keywatch.text.safe_text import printable

    yield f"{printable(done.what)} erased."
    for table, rows in sorted(done.deleted.items()):
        yield f"  {table:20}{count(rows, 'row')} deleted"
    for table, rows in sorted(done.mended.items()):
        yield f"  {table:20}{count(rows, 'text')} repaired"
    for folder in done.set_aside:
        named = printable(str(folder))
        yield f"{named} was set aside by a repair and may contain it: delete the folder."
    yield (
        "No older snapshot is left. Logs, written reports and sent messages may still contain it."
    )
