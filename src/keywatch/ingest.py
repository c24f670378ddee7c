"""Logs into the lake: every file of a load, its rejects and its roll-up, in one transaction.

Memory is bounded by ``ingest.chunk_bytes``: lines are parsed, redacted, checked for duplicates,
stored and rolled up a chunk at a time; the transaction makes the whole of it one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keywatch.activity import add_activity
from keywatch.errors import TooManyRejectsError
from keywatch.lake import Lake, utc_now
from keywatch.secrets import Redactor
from keywatch.settings import IngestSettings
from keywatch.sources import Contents, LogFile, Source, detect_source, named_source
from keywatch.sources.parser import ParsedChunk, Parser

_FIRST_REJECTS_SHOWN = 5
_ADDRESSES_AT_ONCE = 100_000
_RECORD = pa.schema(
    [(name, pa.int64()) for name in ("file_id", "load_id", "size_bytes")]
    + [(name, pa.int64()) for name in ("lines", "events", "duplicates", "keyless", "rejects")]
    + [(name, pa.string()) for name in ("path", "sha256", "source")]
    + [(name, pa.timestamp("us")) for name in ("first_ts", "last_ts", "loaded_at")]
)

_IDENTITIES = "SELECT hash(ts, key_id, request_id) AS h FROM parsed WHERE reason IS NULL"
_DUPLICATES = """
    WITH good AS (FROM parsed WHERE reason IS NULL)
    SELECT number FROM good
    WHERE hash(ts, key_id, request_id) IN (FROM twice)
    QUALIFY row_number() OVER (
        PARTITION BY ts, key_id, request_id ORDER BY file_id, line
    ) > 1
    UNION
    SELECT number FROM good SEMI JOIN (
        SELECT ts, key_id, request_id FROM lake.events WHERE ts BETWEEN $first AND $last
    ) USING (ts, key_id, request_id)
    UNION
    SELECT number FROM good SEMI JOIN (
        SELECT ts, request_id FROM lake.keyless_events WHERE ts BETWEEN $first AND $last
    ) USING (ts, request_id)
    WHERE key_id IS NULL
"""
_TABLES = {"events": "events", "keyless": "keyless_events"}
_NOT_STORED = ["file_id", "line", "reason", "text"]
_COUNTS = ("lines", "events", "duplicates", "keyless", "rejects")


class Locator(Protocol):
    """What a load needs of `keywatch.origins.OriginReader`."""

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        """One row an address, with the columns of ``lake.origins``."""


@dataclass(frozen=True)
class FileReport:
    """What became of one file; counts are lines."""

    path: str
    source: str
    lines: int = 0
    events: int = 0
    duplicates: int = 0
    keyless: int = 0
    rejects: int = 0
    first_ts: datetime | None = None
    last_ts: datetime | None = None
    already_loaded: bool = False


@dataclass(frozen=True)
class LoadReport:
    """What became of a load; `first_rejects` as ``file, line: reason``."""

    files: tuple[FileReport, ...]
    first_rejects: tuple[str, ...]
    new_addresses: int

    def total(self, count: str) -> int:
        """The sum over the files of one of ``lines``, ``events`` and so on."""
        return sum(getattr(file, count) for file in self.files)


def load_files(
    lake: Lake,
    files: list[LogFile],
    settings: IngestSettings,
    locator: Locator,
    source_name: str | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> LoadReport:
    """Load `files` in one transaction; a file that was loaded before changes nothing.

    `on_bytes` hears, from another thread, of stored bytes as they are read; `on_wait` is told in
    words when another writer has to be waited for.

    Raises:
        InputError: a file can't be read, or is no known log.
        TooManyRejectsError: more lines are bad than ``ingest.max_reject_share``; nothing was kept.
        LakeBusyError: another writer did not finish in time.
    """
    source = named_source(source_name) if source_name else None
    with lake.writing(on_wait):
        redactor = Redactor(lake.secret)
        load = _Load(lake, redactor)
        new, old = load.split_known(files)
        sources = {file.path: source or detect_source(file) for file in new}
        with Parser(redactor) as parser, ThreadPoolExecutor(1, "keywatch-locate") as thread:
            chunks = (
                parser.parse(*chunk)
                for chunk in load.chunks(new, sources, settings.chunk_bytes, on_bytes)
            )
            origins = [
                thread.submit(locator.locate, addresses)
                for chunk in _ahead(chunks)
                if (addresses := load.take(chunk))
            ]
            reports = [load.report(file, sources[file.path]) for file in new]
            first_rejects = load.first_rejects()
            _check_rejects(reports, settings.max_reject_share, first_rejects)
            load.record_files(new, reports)
            new_addresses = sum(load.store_origins(located.result()) for located in origins)
            load.locate_again(locator)
    lake.keep_copy(utc_now())
    reports += [FileReport(file.path, "", already_loaded=True) for file in old]
    return LoadReport(tuple(reports), first_rejects, new_addresses)


def _ahead(chunks: Iterator[ParsedChunk]) -> Iterator[ParsedChunk]:
    """`chunks`, the next one being read and parsed in a thread while the last one is stored."""
    with ThreadPoolExecutor(1, "keywatch-read") as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def _check_rejects(reports: list[FileReport], max_share: float, first: tuple[str, ...]) -> None:
    lines = sum(report.lines for report in reports)
    rejects = sum(report.rejects for report in reports)
    if lines and rejects > max_share * lines:
        raise TooManyRejectsError(
            f"{rejects:,} of {lines:,} lines can't be read, more than the "
            f"{max_share:.0%} that ingest.max_reject_share allows; nothing was loaded. "
            "The first:\n  " + "\n  ".join(first)
        )


def _only(rows: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows for which `mask` is true; not copied where it is so for all."""
    return rows if pc.all(mask).as_py() else rows.filter(mask)


class _Load:
    """One load under way; its temporary tables live on the lake's connection."""

    def __init__(self, lake: Lake, redactor: Redactor) -> None:
        self._lake = lake
        self._redactor = redactor
        self.load_id, self._first_file_id = lake.rows(
            "SELECT 1 + coalesce(max(load_id), 0), 1 + coalesce(max(file_id), 0) "
            "FROM lake.ingested_files"
        )[0]
        self._file_ids: dict[str, int] = {}
        self._counts: dict[int, Counter[str]] = {}
        self._spans: dict[int, tuple[datetime, datetime]] = {}
        self._addresses: set[str] = set()

    def split_known(self, files: list[LogFile]) -> tuple[list[LogFile], list[LogFile]]:
        """New files, and those whose bytes are in the lake or earlier in the list.

        Only a file with the size of another one is read for its hash.
        """
        known = set(self._lake.rows("SELECT size_bytes, sha256 FROM lake.ingested_files"))
        sizes = Counter(file.size_bytes for file in files) + Counter(size for size, _ in known)
        new: list[LogFile] = []
        old: list[LogFile] = []
        for file in files:
            if sizes[file.size_bytes] > 1:
                mark = (file.size_bytes, file.sha256())
                (old if mark in known else new).append(file)
                known.add(mark)
            else:
                new.append(file)
        self._file_ids = {file.path: self._first_file_id + i for i, file in enumerate(new)}
        self._counts = {file_id: Counter() for file_id in self._file_ids.values()}
        return new, old

    def chunks(
        self,
        files: list[LogFile],
        sources: dict[str, Source | None],
        chunk_bytes: int,
        on_bytes: Callable[[int], None],
    ) -> Iterator[tuple[Source, pa.Table]]:
        """The lines of all files (file_id, line, text), about `chunk_bytes` of one source's."""
        for source, group in groupby(files, lambda file: sources[file.path]):
            if source is None:
                continue
            parts: list[pa.Table] = []
            size = 0
            for file in group:
                file_id = pa.scalar(self._file_ids[file.path], pa.int64())
                for numbers, texts in source.lines(file, on_bytes):
                    file_ids = pa.repeat(file_id, len(texts))
                    parts.append(pa.table([file_ids, numbers, texts], ["file_id", "line", "text"]))
                    size += texts.nbytes
                    if size >= chunk_bytes:
                        yield source, pa.concat_tables(parts)
                        parts, size = [], 0
            if parts:
                yield source, pa.concat_tables(parts)

    def take(self, chunk: ParsedChunk) -> list[str]:
        """Drop duplicates, store and roll up; returns the addresses that are new."""
        rows = chunk.rows
        good, keyless = pc.is_null(rows["reason"]), pc.is_null(rows["key_id"])
        numbered = rows.append_column("number", pa.array(np.arange(len(rows))))
        with self._lake.registered("parsed", numbered):
            seen = pc.is_in(numbered["number"], self._duplicates())
            if not pc.all(good).as_py():
                self._store_rejects()
        accepted = pc.and_not(good, seen)
        self._count("lines", rows)
        self._count("rejects", _only(rows, pc.invert(good)))
        self._count("duplicates", _only(rows, seen))
        events = _only(rows, pc.and_not(accepted, keyless))
        self._store("events", chunk.source, events)
        if events:
            add_activity(self._lake, events, self.load_id)
        self._store("keyless", chunk.source, _only(rows, pc.and_(accepted, keyless)))
        return self._new_addresses(_only(rows, accepted))

    def _count(self, what: str, rows: pa.Table) -> None:
        """Add the rows of each file to its count of `what`."""
        for of_file in pc.value_counts(rows["file_id"]).to_pylist():
            self._counts[of_file["values"]][what] += of_file["counts"]

    def _store(self, what: str, source: Source, rows: pa.Table) -> None:
        """Count `rows` as `what` and store them."""
        if rows:
            self._count(what, rows)
            stored = rows.drop_columns(_NOT_STORED)
            for name, value in (("source", source.name), ("load_id", self.load_id)):
                stored = stored.append_column(name, pa.repeat(pa.scalar(value), len(rows)))
            self._lake.append(_TABLES[what], stored)

    def _new_addresses(self, rows: pa.Table) -> list[str]:
        distinct = pa.table({"address": rows["address"].unique().dictionary_decode()})
        with self._lake.registered("addresses", distinct):
            found = self._lake.rows("FROM addresses ANTI JOIN lake.origins USING (address)")
        new = {address for (address,) in found} - self._addresses
        self._addresses |= new
        return sorted(new)

    def _duplicates(self) -> pa.Array:
        """Numbers of the rows whose request came earlier in the chunk, or is in the lake."""
        spans = self._lake.rows(
            "SELECT file_id, min(ts), max(ts) FROM parsed WHERE reason IS NULL GROUP BY file_id"
        )
        for file_id, first, last in spans:
            old = self._spans.get(file_id, (first, last))
            self._spans[file_id] = (min(first, old[0]), max(last, old[1]))
        hashes = np.sort(self._lake.table(_IDENTITIES)["h"].to_numpy())
        twice = pa.table({"h": hashes[1:][hashes[1:] == hashes[:-1]]})
        with self._lake.registered("twice", twice):
            return self._lake.table(
                _DUPLICATES,
                first=min((first for _, first, _ in spans), default=None),
                last=max((last for _, _, last in spans), default=None),
            )["number"]

    def _store_rejects(self) -> None:
        self._lake.execute(
            "INSERT INTO lake.rejects SELECT $load_id, file_id, line, reason, text FROM parsed "
            "WHERE reason IS NOT NULL ORDER BY file_id, line",
            load_id=self.load_id,
        )

    def store_origins(self, located: pa.Table) -> int:
        """Store where addresses are; returns how many."""
        load_ids = pa.repeat(pa.scalar(self.load_id, pa.int64()), located.num_rows)
        self._lake.append("origins", located.append_column("load_id", load_ids))
        return int(located.num_rows)

    def locate_again(self, locator: Locator) -> None:
        """Ask of the older addresses too where this load's new ones were asked of other databases.

        Else a database that is renewed would make old addresses differ from new ones. What was
        said before stays.
        """
        outdated = [
            address
            for (address,) in self._lake.rows(
                """
                WITH newest AS (
                    FROM lake.origins
                    QUALIFY row_number() OVER (PARTITION BY address ORDER BY load_id DESC) = 1
                )
                SELECT address FROM newest
                WHERE asked <> (SELECT any_value(asked) FROM newest WHERE load_id = $load_id)
                ORDER BY address
                """,
                load_id=self.load_id,
            )
        ]
        for first in range(0, len(outdated), _ADDRESSES_AT_ONCE):
            self.store_origins(locator.locate(outdated[first : first + _ADDRESSES_AT_ONCE]))

    def report(self, file: LogFile, source: Source | None) -> FileReport:
        """What became of `file`."""
        file_id = self._file_ids[file.path]
        counts = self._counts[file_id]
        first, last = self._spans.get(file_id, (None, None))
        return FileReport(
            path=file.path,
            source=source.name if source else "",
            lines=counts["lines"],
            events=counts["events"],
            duplicates=counts["duplicates"],
            keyless=counts["keyless"],
            rejects=counts["rejects"],
            first_ts=first,
            last_ts=last,
        )

    def record_files(self, files: list[LogFile], reports: list[FileReport]) -> None:
        """Remember the files, so that loading them again changes nothing."""
        if not files:
            return
        now = utc_now()
        records = []
        for file, report in zip(files, reports, strict=True):
            # An empty file is not read for its lines.
            contents = file.contents or Contents(file.size_bytes, file.sha256())
            records.append(
                {
                    "file_id": self._file_ids[file.path],
                    "load_id": self.load_id,
                    "path": self._redactor.redact(file.path),
                    "sha256": contents.sha256,
                    "size_bytes": contents.size_bytes,
                    "source": report.source,
                    **{name: getattr(report, name) for name in (*_COUNTS, "first_ts", "last_ts")},
                    "loaded_at": now,
                }
            )
        self._lake.append("ingested_files", pa.Table.from_pylist(records, _RECORD))

    def first_rejects(self) -> tuple[str, ...]:
        """The first rejects of this load as ``file, line: reason``."""
        paths = {file_id: path for path, file_id in self._file_ids.items()}
        return tuple(
            f"{paths[file_id]}, line {line}: {reason}"
            for file_id, line, reason in self._lake.rows(
                "SELECT file_id, line, reason FROM lake.rejects WHERE load_id = $load_id "
                "ORDER BY file_id, line LIMIT $limit",
                load_id=self.load_id,
                limit=_FIRST_REJECTS_SHOWN,
            )
        )
