"""The upkeep of a lake: few files, old snapshots gone, and what has to be forgotten erased.

A file is removed only when DuckLake itself has scheduled it, and not before readers that may still
have it open are done; what it does not know is left alone.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_LOGGED = frozenset(
    ("method", "endpoint", "endpoints", "path", "kept", "object", "previous", "agent", "agents",
     "user_agent", "status_class", "request_id")
)  # fmt: skip
"""Columns, and fields of documents, with text of the log: what a key is called is no part of it."""
_OF_KEYS = frozenset(
    ("key_id", "key_ids", "key", "keys", "principal", "session", "sessions", "replaces")
)
"""Columns, and fields of documents, that name keys."""
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
        known = _known(lake, named)
        if known is None and not is_purge_due(lake):
            raise UsageError(
                f"{named!r}: no such key or address in the lake. Name a key by its id, masked form "
                "or name (keywatch keys list shows them), or one whole address as logged (keywatch "
                "case KEY shows them); not a prefix, an owner or another word"
            )
        found = Forgotten(named) if known is None else _erase(lake, known)
        lake.execute("INSERT INTO lake.maintenance VALUES (NULL, 'to purge', NULL)")
    _purge(lake)
    folder = lake.folder
    aside = () if folder is None else tuple(sorted(folder.glob(f"{SET_ASIDE}*")))
    return replace(found, set_aside=aside)


@dataclass(frozen=True)
class _Known:
    """What is forgotten: how rows name it, and what else a key is called in texts that do."""

    marks: tuple[str, ...]
    names: tuple[str, ...] = ()
    is_address: bool = False

    @property
    def own(self) -> tuple[str, ...]:
        """The columns by which a row is its own."""
        return ("address", "ip") if self.is_address else ("key_id", "principal")

    @property
    def clear(self) -> list[str]:
        """Those of `marks` that no text has as a word without being about it."""
        return [mark for mark in self.marks if self.is_address or _is_clear(mark)]

    @property
    def unclear(self) -> list[str]:
        """The others, as ``api`` and ``1``: looked for only where a key is named."""
        return [mark for mark in self.marks if mark not in self.clear]


def _is_clear(mark: str) -> bool:
    """Whether an id is no word that a log may have: ``key_1`` is not; ``api``, ``v1``, ``200`` are.

    It has letters and digits, and 12 characters, or five with ``_`` or ``-`` among them; or it is
    16 capitals or digits, or a mail address or a masked form.
    """
    if len(mark) >= 5 and re.search("[@…]", mark):
        return True
    if re.search(r"[^\W\d_]", mark) and re.search(r"\d", mark):
        return len(mark) >= 12 or (len(mark) >= 5 and re.search("[_-]", mark) is not None)
    return len(mark) >= 16 and (mark.isupper() or mark.isdigit())


def _known(lake: Lake, named: str) -> _Known | None:
    """What is called so, if the lake or the inventory has it."""
    with suppress(ValueError):
        address = str(ip_address(named.strip().strip("[]")))
        return _known_address(lake, named, address)
    return _known_key(lake, named) if named.strip() else None


def _known_address(lake: Lake, named: str, address: str) -> _Known | None:
    logged = lake.rows(
        "SELECT DISTINCT address FROM lake.origins WHERE $ip IN (address, ip)", ip=address
    )
    known = _Known(tuple(sorted({named, address, *(text for (text,) in logged)})), is_address=True)
    lake.create_text_function("mend_text", _mender(known.marks, ()))
    for table, texts in _text_columns(lake).items():
        mine = _of_it(known, table, texts)
        if mine and lake.value(
            f"SELECT count(*) FROM lake.{table} WHERE {mine}", marks=list(known.marks)
        ):
            return known
    return None


def _known_key(lake: Lake, named: str) -> _Known | None:
    of_ids = " UNION ".join(
        f"SELECT key_id FROM lake.{table} WHERE key_id = $named"
        for table, texts in _text_columns(lake).items()
        if "key_id" in texts
    )
    key_ids = [
        key_id
        for (key_id,) in lake.rows(
            f"""
            {of_ids}
            UNION
            SELECT key_id FROM lake.keys WHERE $named IN ("key", name)
            UNION
            SELECT key_id FROM lake.events WHERE "key" = $named
            UNION
            SELECT key_id FROM lake.held_back WHERE "key" = $named
            UNION
            SELECT coalesce(key_id, "key") FROM lake.leaked_keys WHERE "key" = $named
            UNION
            SELECT session FROM lake.sessions WHERE session = $named
            UNION
            SELECT principal FROM lake.events WHERE principal = $named
            UNION
            SELECT principal FROM lake.held_back WHERE principal = $named
            ORDER BY key_id
            """,
            named=named,
        )
    ]
    if not key_ids:
        return None
    if len(key_ids) > 1:
        raise UsageError(f"{named!r} matches {len(key_ids)} keys: {', '.join(key_ids)}; use the id")
    key_id = key_ids[0]
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
    others = sorted(set(shown or ()) - shared - {key_id})
    return _Known((key_id, *others), tuple(names or ()))


def _of_it(known: _Known, table: str, texts: Mapping[str, str]) -> str:
    """The condition by which rows of `table` are its own; of `marks`, which the query is given."""
    conditions = [
        f"list_contains($marks::VARCHAR[], {name})" for name in known.own if name in texts
    ]
    if table == "rejects":
        if known.clear:
            conditions.append(f"({_names_one('text', known.clear)} AND mend_text(text) <> text)")
        if known.unclear:
            quotes = _names_one("text", [f'"{mark}"' for mark in _written(known.unclear)])
            conditions.append(f"({quotes} AND mend_document(text) <> text)")
    return " OR ".join(conditions)


def _erase(lake: Lake, known: _Known) -> Forgotten:
    """Delete what is of it, and mend what names it."""
    found = Forgotten(known.marks[0])
    columns, clear, unclear = _text_columns(lake), known.clear, known.unclear
    lake.create_text_function("mend_text", _mender(clear, known.names))
    lake.create_text_function("mend_logged", _mender(clear, ()))
    lake.create_text_function("mend_document", _document_mender(unclear, known.names))
    lake.create_text_function("mend_words", _mender(unclear, known.names))
    lake.create_text_function("mend_key", lambda text: FORGOTTEN if text in unclear else text)
    if not known.is_address:
        _delete_alerts(lake, known.marks[0], found)
    for table, texts in columns.items():
        if mine := _of_it(known, table, texts):
            _count_and_delete(lake, table, mine, found, marks=list(known.marks))
    # Stored reviews are made anew.
    del columns["reviews"]
    for table, texts in columns.items():
        if clear:
            for name, kind in texts.items():
                mend = "mend_logged" if name in _LOGGED else "mend_text"
                naming = _names_one(f'"{name}"::VARCHAR', clear)
                _mend(lake, table, name, kind, mend, naming, found)
        if unclear:
            _mend_unclear(lake, table, texts, unclear, found)
    if found.deleted or found.mended:
        lake.execute("DELETE FROM lake.reviews")
    return found


def _mend_unclear(
    lake: Lake, table: str, texts: Mapping[str, str], marks: Sequence[str], found: Forgotten
) -> None:
    """Where an id may be a word: columns of keys, and documents and reasons that name the key."""
    for name, kind in texts.items():
        if kind == "JSON":
            quotes = [f'"{mark}"' for mark in _written(marks)]
            naming = _names_one(f'"{name}"::VARCHAR', quotes)
            _mend(lake, table, name, kind, "mend_document", naming, found)
    some = "[" + ", ".join(map(quoted, marks)) + "]"
    if {"why", "key_ids"} <= texts.keys():
        naming = f"list_has_any(key_ids, {some})"
        _mend(lake, table, "why", texts["why"], "mend_words", naming, found)
    for name in _OF_KEYS & texts.keys():
        is_list = texts[name] == "VARCHAR[]"
        naming = f'list_has_any("{name}", {some})' if is_list else f'"{name}" IN {some}'
        _mend(lake, table, name, texts[name], "mend_key", naming, found)


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
    lake: Lake, table: str, column: str, kind: str, mend: str, naming: str, found: Forgotten
) -> None:
    name = f'"{column}"'
    mended = f"{mend}({name})"
    if kind == "VARCHAR[]":
        mended = f"list_transform({name}, lambda each: {mend}(each))"
    elif kind == "JSON":
        mended = f"{mend}({name}::VARCHAR)::JSON"
    differs = f"{naming} AND {mended} IS DISTINCT FROM {name}"
    count = lake.value(f"SELECT count(*) FROM lake.{table} WHERE {differs}")
    if count:
        lake.execute(f"UPDATE lake.{table} SET {name} = {mended} WHERE {differs}")
        found.mended[table] = found.mended.get(table, 0) + count


def _names_one(column: str, marks: Sequence[str]) -> str:
    each = (f"contains({column}, {quoted(mark)})" for mark in _written(marks))
    return f"({' OR '.join(each)})"


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

    if not marks:
        return lambda text: text
    of_marks = pattern(marks)
    of_names = pattern([name for name in names if name.strip()]) if any(names) else None

    def mend(text: str) -> str:
        mended, count = of_marks.subn(FORGOTTEN, text)
        return of_names.sub(FORGOTTEN, mended) if count and of_names else mended

    return mend


def _document_mender(marks: Sequence[str], names: Sequence[str]) -> Callable[[str], str]:
    """Mends a document in JSON that names one of `marks` where it names keys; others stay.

    In such a document values that are one of them, and sentences with one, are mended.
    """
    in_words = _mender(marks, names)

    def names_it(value: object, field: str = "") -> bool:
        if isinstance(value, dict):
            return any(names_it(each, name) for name, each in value.items())
        if isinstance(value, list):
            return any(names_it(each, field) for each in value)
        return field in _OF_KEYS and value in marks

    def mended(value: object, field: str = "") -> object:
        if isinstance(value, dict):
            return {name: mended(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [mended(each, field) for each in value]
        if not isinstance(value, str) or field in _LOGGED:
            return value
        if field in _OF_KEYS:
            return FORGOTTEN if value in marks else value
        return in_words(value) if " " in value else value

    def mend(text: str) -> str:
        try:
            document = json.loads(text)
        except ValueError:
            return text
        return json.dumps(mended(document)) if names_it(document) else text

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

    if done.deleted or done.mended:
        yield f"{printable(done.what)} erased."
    else:
        yield f"An interrupted erasure is complete; the lake has no {printable(done.what)}."
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
