"""Logs into the lake: every file of a load, its rejects and its roll-up, in one transaction.

The first chunk is read and parsed before the writer's lock is taken, and again where a load that
was stored meanwhile would have it read in another way. Lines are read beside the storing, in a
thread of this process or by the workers of an engine.

Memory is bounded by ``ingest.chunk_bytes``: lines are parsed, redacted, checked for duplicates,
stored and rolled up a chunk at a time; the transaction makes the whole of it one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from keywatch import __version__
from keywatch.engine import Engine
from keywatch.errors import InputError, TooManyRejectsError
from keywatch.lake import Lake, utc_now
from keywatch.load import ahead, late, path_templates
from keywatch.load.activity import add_activity
from keywatch.load.reading import Listed, ReadChunk, read_chunks
from keywatch.load.rejects import RejectGroup, Rejects, merged
from keywatch.load.workers import Job, read_by_workers, tasks_of
from keywatch.settings import IngestSettings
from keywatch.text.secrets import Redactor
from keywatch.vendors import Contents, LogFile, Source, named_source, source_of
from keywatch.vendors.client_address import is_address
from keywatch.vendors.endpoints import LearntTemplates
from keywatch.vendors.parser import ParsedChunk, Parser
from keywatch.vendors.registry import sources as log_formats

_Span = tuple[datetime, datetime]
_State = tuple[int, str]
"""Size and hash of a file."""

_FIRST_REJECTS_SHOWN = 5
_ADDRESSES_AT_ONCE = 100_000
_ADDRESSES = pa.schema({"address": pa.string()})
_RECORD = pa.schema(
    [(name, pa.int64()) for name in ("file_id", "load_id", "size_bytes")]
    + [(name, pa.int64()) for name in ("lines", "events", "duplicates", "keyless", "rejects")]
    + [("held_back", pa.int64())]
    + [(name, pa.string()) for name in ("path", "sha256", "source")]
    + [(name, pa.timestamp("us")) for name in ("first_ts", "last_ts", "loaded_at", "waits_until")]
)
_LEFT_OUT = pa.schema(
    {
        "path": pa.string(),
        "size_bytes": pa.int64(),
        "modified_at": pa.timestamp("us"),
        "reason": pa.string(),
        "tried_by": pa.string(),
        "seen_at": pa.timestamp("us"),
    }
)
_FEW_REJECTS = 10
"""No reason to leave a file out, as long as most of it can be read: anybody can send a bad line."""

_ENOUGH_LINES = 200_000
"""After so many, of which most can't be read, the rest of a file is not waited for."""

# Of 63 bits: DuckDB hands bounds of a join to Arrow, which takes no larger ones.
_HASH = "(hash(ts, key_id, request_id) >> 1)::BIGINT AS h"
_IDENTITIES = f"SELECT number, day, {_HASH} FROM parsed WHERE reason IS NULL"
_STORED = """
    SELECT ts, key_id, request_id FROM lake.events WHERE ts BETWEEN $first AND $last
    UNION ALL
    SELECT ts, NULL::VARCHAR AS key_id, request_id
    FROM lake.keyless_events WHERE ts BETWEEN $first AND $last
    UNION ALL
    SELECT ts, key_id, request_id FROM lake.held_back WHERE ts BETWEEN $first AND $last
"""
_STORED_IDENTITIES = f"""
    SELECT DISTINCT h FROM identities
    SEMI JOIN (SELECT {_HASH} FROM ({_STORED})) USING (h)
"""
_REPEATED = """
    SELECT number FROM alike
    QUALIFY row_number() OVER (PARTITION BY ts, key_id, request_id ORDER BY file_id, line) > 1
"""
_STORED_BEFORE = f"""
    SELECT a.number FROM alike AS a SEMI JOIN ({_STORED}) AS s
        ON s.ts = a.ts AND s.request_id = a.request_id AND s.key_id IS NOT DISTINCT FROM a.key_id
"""
_PRUNED = """
    -- Where the events were pruned, the roll-ups tell, as far as they can.
    SELECT g.number FROM alike AS g
    SEMI JOIN (FROM lake.activity WHERE day BETWEEN $first::DATE AND $last::DATE) AS a
        ON a.day = g.day AND a.key_id = coalesce(g.principal, g.key_id)
            AND a.address = g.address
            AND a.endpoint = g.endpoint AND a.agent IS NOT DISTINCT FROM g.agent
            AND g.ts BETWEEN a.first_ts AND a.last_ts
    WHERE g.day < $pruned_before
"""
_TABLES = {"events": "events", "keyless": "keyless_events", "held_back": "held_back"}
_NOT_STORED = ["file_id", "line", "reason", "text", "logged_as"]
_COUNTS = ("lines", "events", "duplicates", "keyless", "rejects", "held_back")
_LET_IN = "(held back until now)"
"""Stands for the file of a load that let events in whose time had come."""


class Locator(Protocol):
    """What a load needs of `keywatch.load.origins.OriginReader`."""

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        """One row an address, with the columns of ``lake.origins``."""


@dataclass(frozen=True)
class FileReport:
    """What became of one file; counts are lines, a secret in its `path` is replaced."""

    path: str
    source: str
    lines: int = 0
    events: int = 0
    duplicates: int = 0
    keyless: int = 0
    rejects: int = 0
    held_back: int = 0
    first_ts: datetime | None = None
    last_ts: datetime | None = None
    already_loaded: bool = False
    left_out: str = ""
    """Why it is left out; it is tried again when it changes."""
    waits: bool = False
    """Its last line is half written, and is read when it is complete."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a load; `first_rejects` as ``file, line: reason``.

    `let_in` events of earlier loads were held back until now. `clock_is_doubted` where all that the
    lake holds is ahead of this machine's clock.
    """

    files: tuple[FileReport, ...]
    first_rejects: tuple[str, ...]
    new_addresses: int
    let_in: int = 0
    clock_is_doubted: bool = False
    no_address: Mapping[str, int] = field(default_factory=dict)
    """Requests by what stood where their address should; the most frequent first."""
    address_lists: int = 0
    """Requests that came with a list of addresses, as proxies write it."""
    learnt: tuple[str, ...] = ()
    """Where paths hold an id, as method and path up to it: what this load showed."""
    reject_groups: tuple[RejectGroup, ...] = ()
    """Lines that could not be read, by reason; the most frequent first."""

    def total(self, count: str) -> int:
        """The sum over the files of one of ``lines``, ``events`` and so on."""
        return sum(getattr(file, count) for file in self.files)

    @property
    def left_out(self) -> tuple[FileReport, ...]:
        """The files that were found and are no part of the lake."""
        return tuple(file for file in self.files if file.left_out)


class _LeftOut:
    """The files that were found and can't be taken, with the reasons; named ones are errors."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __contains__(self, file: LogFile) -> bool:
        return file.path in self.reasons

    def leave(self, file: LogFile, error: InputError) -> None:
        """Leave `file` out.

        Raises:
            InputError: `error`, of a file that the user named.
        """
        if file.named:
            raise error
        self.reasons[file.path] = str(error).removeprefix(file.path).lstrip(":, ")


class _StartAgain(Exception):  # noqa: N818 — no error: what is left is loaded
    """A file that was stored in part turned out to be one to leave out."""


def load_files(
    lake: Lake,
    files: list[LogFile],
    settings: IngestSettings,
    locator: Locator,
    source: Source | str | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
    now: datetime | None = None,
    engine: Callable[[], Engine | None] = lambda: None,
) -> LoadReport:
    """Load `files` in one transaction; a file that was loaded before changes nothing.

    A file that was found and can't be taken is left out; one that was named is an error, and then
    nothing is loaded. Events that are ahead of `now` by more than ``ingest.most_ahead_hours`` are
    held back, and let in by the first load after their time. `on_bytes` hears, from another thread,
    of stored bytes as they are read. The `engine` is asked for where there is enough to read for
    several processes; what is stored does not depend on it.

    Raises:
        InputError: a file that was named can't be read, or is no known log.
        TooManyRejectsError: more of its lines are bad than ``ingest.max_reject_share``.
        EngineError: the engine's workers are lost, or do not reach a file.
        LakeBusyError: another writer did not finish in time.
    """
    if isinstance(source, str):
        source = named_source(source)
    limit = ahead.limit_of(now or utc_now(), settings.most_ahead_hours)
    left_out = _LeftOut()

    def reading() -> AbstractContextManager[_Reading]:
        return _reading(lake, files, settings, limit, source, left_out, on_bytes, engine)

    report = None
    while report is None:
        with suppress(_StartAgain):
            if _may_read_first(lake, files):
                with reading() as begun, lake.writing():
                    if begun.is_of(lake):
                        report = begun.store(locator)
            # Who wrote meanwhile has changed how the files are read.
            if report is None:
                with lake.writing(), reading() as begun:
                    report = begun.store(locator)
    lake.keep_copy(utc_now())
    return report


def _may_read_first(lake: Lake, files: Sequence[LogFile]) -> bool:
    """Whether lines may be read before it is known that they are stored.

    A pipe can't be read again, and a secret is made by the writer alone.
    """
    if lake.folder is None or lake.read_only or any(file.pipe for file in files):
        return False
    return lake.check_secret()


@contextmanager
def _reading(
    lake: Lake,
    files: list[LogFile],
    settings: IngestSettings,
    limit: datetime,
    source: Source | None,
    left_out: _LeftOut,
    on_bytes: Callable[[int], None],
    engine: Callable[[], Engine | None],
) -> Iterator[_Reading]:
    """A load of which the first chunk was read and parsed, which needs no lock."""
    redactor = Redactor(lake.secret)
    load = _Load(lake, redactor, settings, limit, left_out)
    learnt = path_templates.known(lake)
    new, old = load.split_known([file for file in files if file not in left_out])
    sources = load.sources(new, source)
    readable = [file for file in new if file not in left_out]
    listed = load.listed(readable, sources)
    tasks = tasks_of(listed, settings.chunk_bytes) if lake.folder else []
    cluster = engine() if len(tasks) > 1 else None
    with Parser(redactor, settings.trusted_proxies, settings.time_zone, learnt) as parser:

        def here(files: Sequence[Listed]) -> Generator[ParsedChunk]:
            chunks = read_chunks(
                files, parser, settings.chunk_bytes, on_bytes, left_out.leave, load.is_left_out
            )
            return _ahead(load.accepted(chunk) for chunk in chunks)

        if cluster is None:
            coming = here(listed)
        else:
            job = Job.of(lake, settings, learnt)
            coming = read_by_workers(
                cluster, job, tasks, here, load.accepted, on_bytes, left_out.leave
            )
        with closing(coming):
            first = next(coming, None)
            parsed = coming if first is None else chain([first], coming)
            yield _Reading(load, learnt, files, readable, old, sources, parsed)


@dataclass(frozen=True)
class _Reading:
    """A load under way: its files, and their lines as they are parsed."""

    load: _Load
    learnt: LearntTemplates
    files: list[LogFile]
    new: list[LogFile]
    old: list[LogFile]
    sources: dict[str, Source | None]
    parsed: Iterator[ParsedChunk]

    def is_of(self, lake: Lake) -> bool:
        """Whether the lake, as it is now, would have the same files read, and in the same way."""
        return (
            path_templates.known(lake).kept == self.learnt.kept and self.load.knows_the_same_files()
        )

    def store(self, locator: Locator) -> LoadReport:
        """Store and roll up, under the writer's lock.

        Raises:
            _StartAgain: a file has to be left out of which some was stored.
        """
        load, left_out, redactor = self.load, self.load.left_out, self.load.redactor
        load.begin()
        with ThreadPoolExecutor(1, "keywatch-locate") as thread:
            origins = [
                thread.submit(locator.locate, addresses)
                for chunk in self.parsed
                if (addresses := load.take(chunk))
            ]
            load.check_rest()
            new = [file for file in self.new if file not in left_out]
            let_in, doubted = load.settle()
            reports = [load.report(file, self.sources[file.path]) for file in new]
            first_rejects, reject_groups = load.first_rejects(), load.reject_groups(new)
            load.record_files(new, reports)
            new_addresses = sum(load.store_origins(located.result()) for located in origins)
            load.locate_again(locator)
        reports += [
            FileReport(redactor.redact(file.path), "", already_loaded=True) for file in self.old
        ]
        not_taken = [file for file in self.files if file in left_out]
        load.record_left_out(not_taken)
        reports += [
            FileReport(redactor.redact(file.path), "", left_out=left_out.reasons[file.path])
            for file in not_taken
        ]
        return LoadReport(
            tuple(reports), first_rejects, new_addresses, let_in, doubted,
            dict(load.no_address.most_common()), load.address_lists, tuple(load.learnt),
            reject_groups,
        )  # fmt: skip


def let_in_due(
    lake: Lake,
    settings: IngestSettings,
    now: datetime | None = None,
) -> int:
    """Let in the events whose time has come, where no load does; returns how many.

    Raises:
        LakeBusyError: another writer did not finish in time.
    """
    limit = ahead.limit_of(now or utc_now(), settings.most_ahead_hours)
    if not ahead.is_due(lake, limit):
        return 0
    with lake.writing():
        load = _Load(lake, Redactor(lake.secret), settings, limit, _LeftOut())
        load.begin()
        return load.settle()[0]


def _tried_by(settings: IngestSettings) -> str:
    """What a file has to be tried again with when it is another."""
    return f"{__version__} {settings.max_reject_share:g}"


def left_out_before(
    lake: Lake, files: Sequence[LogFile], settings: IngestSettings
) -> dict[str, FileReport]:
    """Those of `files`, by path, that were left out before and would be again: nothing changed."""
    known = {
        tuple(state): reason
        for *state, reason in lake.rows(
            "SELECT path, size_bytes, modified_at, reason FROM lake.left_out_files "
            "WHERE tried_by = $tried_by",
            tried_by=_tried_by(settings),
        )
    }
    if not known:
        return {}
    redact = Redactor(lake.secret).redact
    return {
        file.path: FileReport(path, "", left_out=reason)
        for file in files
        if (reason := known.get((path := redact(file.path), file.size_bytes, file.modified_at)))
    }


def _ahead(chunks: Iterator[ParsedChunk]) -> Generator[ParsedChunk]:
    """`chunks`, the next one being read and parsed in a thread while the last one is stored."""
    with ThreadPoolExecutor(1, "keywatch-read") as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def _one_of(values: npt.NDArray[np.int64], few: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of `values` are among `few`; `numpy.isin` would sort them all."""
    if not len(few):
        return np.zeros(len(values), np.bool_)
    few = np.sort(few)
    found: npt.NDArray[np.bool_] = (
        few[np.searchsorted(few, values).clip(max=len(few) - 1)] == values
    )
    return found


def _only(rows: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows for which `mask` is true; not copied where it is so for all."""
    return rows if pc.all(mask).as_py() else rows.filter(mask)


def _without(chunk: ParsedChunk, file_ids: Set[int]) -> ParsedChunk:
    """`chunk` less the rows of these files."""
    if not file_ids:
        return chunk
    gone = pc.is_in(chunk.rows["file_id"], pa.array([*file_ids], pa.int64()))
    return replace(chunk, rows=chunk.rows.filter(pc.invert(gone)).combine_chunks())


def _logged_as(rows: pa.Table, source: Source) -> pa.ChunkedArray:
    """The format that each row was logged in: that of its file, or of the lake it comes from."""
    named = rows["logged_as"]
    if named.null_count == len(named):
        return pa.chunked_array([pa.repeat(pa.scalar(source.name), len(rows))])
    known = pc.is_in(named, value_set=pa.array([*log_formats()], pa.string()))
    return pc.if_else(known, named, source.name)


class _Load:
    """One load under way; its temporary tables live on the lake's connection."""

    def __init__(
        self,
        lake: Lake,
        redactor: Redactor,
        settings: IngestSettings,
        limit: datetime,
        left_out: _LeftOut,
    ) -> None:
        self._lake = lake
        self.redactor = redactor
        self._settings = settings
        self._limit = limit
        self.left_out = left_out
        self.load_id = self._first_file_id = 0
        self._known: dict[_State, datetime | None] = {}
        # Of this load: the first file is 0.
        self._file_ids: dict[str, int] = {}
        self._files: dict[int, LogFile] = {}
        self._bad: Counter[int] = Counter()
        self._looked_at: Counter[int] = Counter()
        self._begun: set[int] = set()
        self._rejects: dict[int, Rejects] = {}
        self._counts: dict[int, Counter[str]] = {}
        self._spans: dict[int, _Span] = {}
        self._spans_ahead: dict[int, _Span] = {}
        self._pruned_before: date | None = None
        self._addresses: set[str] = set()  # that this load has had
        self._no_addresses: set[str] = set()
        self.no_address: Counter[str] = Counter()
        self.learnt: list[str] = []
        self.address_lists = 0

    def begin(self) -> None:
        """Number the load, after those that the lake has; only under the writer's lock."""
        self.load_id, self._first_file_id = self._lake.rows(
            "SELECT 1 + coalesce(max(load_id), 0), 1 + coalesce(max(file_id), 0) "
            "FROM lake.ingested_files"
        )[0]
        self._pruned_before = self._lake.value("SELECT max(events_before) FROM lake.maintenance")

    def _known_files(self) -> dict[_State, datetime | None]:
        """The files of the lake, and until when a last line that is half written is waited for."""
        return {
            (size, sha256): waits_until
            for size, sha256, waits_until in self._lake.rows(
                "SELECT size_bytes, sha256, max(waits_until) FROM lake.ingested_files GROUP BY ALL"
            )
        }

    def knows_the_same_files(self) -> bool:
        """Whether the lake still has just those files that `split_known` compared this load's to.

        Other sizes do not matter.
        """
        sizes = {file.size_bytes for file in self._files.values()}
        before, now = (
            {state: until for state, until in known.items() if state[0] in sizes}
            for known in (self._known, self._known_files())
        )
        return before == now

    def split_known(self, files: list[LogFile]) -> tuple[list[LogFile], list[LogFile]]:
        """New files, and those whose bytes are in the lake or earlier in the list.

        Only a file with the size of another one is read for its hash.
        """
        now = utc_now()
        self._known = self._known_files()
        known = dict(self._known)
        sizes = Counter(file.size_bytes for file in files) + Counter(size for size, _ in known)
        new: list[LogFile] = []
        old: list[LogFile] = []
        for file in files:
            try:
                again = sizes[file.size_bytes] > 1 and not file.pipe and not file.trouble
                mark = (file.size_bytes, file.sha256()) if again else None
            except InputError as e:
                self.left_out.leave(file, e)
                continue
            if mark is None:
                new.append(file)
                continue
            # The half line that it broke off in is taken as it is when nothing followed for long.
            until = known.get(mark)
            (old if mark in known and (until is None or until > now) else new).append(file)
            known[mark] = None
        self._file_ids = {file.path: number for number, file in enumerate(new)}
        self._files = {self._file_ids[file.path]: file for file in new}
        self._counts = {file_id: Counter() for file_id in self._file_ids.values()}
        return new, old

    def sources(self, files: list[LogFile], named: Source | None) -> dict[str, Source | None]:
        """The format of each file by its path; what has none is left out."""
        found: dict[str, Source | None] = {}
        for file in files:
            try:
                found[file.path] = source_of(file, named)
            except InputError as e:
                self.left_out.leave(file, e)
        return found

    def listed(self, files: list[LogFile], sources: dict[str, Source | None]) -> list[Listed]:
        """Those of `files` that have lines, with their numbers and formats."""
        return [
            Listed(self._file_ids[file.path], file, source)
            for file in files
            if (source := sources[file.path]) is not None
        ]

    def is_left_out(self, file_id: int) -> bool:
        """Whether a file is one to leave out, as far as is known."""
        return self._files[file_id] in self.left_out

    def accepted(self, chunk: ReadChunk) -> ParsedChunk:
        """What of `chunk` may be stored: nothing of a file that is left out, as far as is known."""
        of_files = chunk.parsed.rows["file_id"].unique().to_pylist()
        parsed = _without(chunk.parsed, set(filter(self.is_left_out, of_files)))
        for file_id, lines in chunk.unseen.items():
            self._bad[file_id] += lines
            self._looked_at[file_id] += lines
        accepted = self._without_unreadable(parsed, chunk.whole)
        if chunk.begun is not None and not self.is_left_out(chunk.begun):
            self._begun.add(chunk.begun)
            self._leave_if_hopeless(chunk.begun)
        return accepted

    def _without_unreadable(self, chunk: ParsedChunk, whole: frozenset[int]) -> ParsedChunk:
        """`chunk` less those of its `whole` files of which too much can't be read."""
        rows = chunk.rows
        for of_file in pc.value_counts(rows["file_id"]).to_pylist():
            self._looked_at[of_file["values"]] += of_file["counts"]
        rejected = pc.is_valid(rows["reason"])
        if not pc.any(rejected).as_py():
            return chunk
        told = ["file_id", "line", "reason", "key_id", "text"]
        bad = rows.filter(rejected).select(told).to_pylist()
        read = _only(rows, pc.is_null(rows["reason"])).select(["file_id", "key_id"])
        keys_read = {
            tuple(row.values())
            for row in read.group_by(["file_id", "key_id"]).aggregate([]).to_pylist()
        }
        for row in sorted(bad, key=lambda row: (row["file_id"], row["line"])):
            file_id = row["file_id"]
            if file_id not in self._rejects:
                path = self.redactor.redact(self._files[file_id].path)
                self._rejects[file_id] = Rejects(path)
            self._rejects[file_id].add(row["reason"], row["line"], row["text"])
            # What one key sends does not say that the file is no log: its other lines can be read.
            if row["key_id"] is None or (row["file_id"], row["key_id"]) not in keys_read:
                self._bad[row["file_id"]] += 1
        out = {
            file_id
            for file_id in {row["file_id"] for row in bad}
            if file_id in whole and not self._acceptable(file_id)
        }
        return _without(chunk, out)

    def _leave_if_hopeless(self, file_id: int) -> None:
        """Leave a file out before its end where so little of it can be read."""
        looked_at = self._looked_at[file_id]
        if looked_at >= _ENOUGH_LINES and 2 * self._bad[file_id] > looked_at:
            self._acceptable(file_id)

    def _acceptable(self, file_id: int) -> bool:
        """Whether enough of a file can be read; if not, it is left out."""
        bad, lines = self._bad[file_id], self._looked_at[file_id]
        share = self._settings.max_reject_share
        if bad <= share * lines or (bad <= _FEW_REJECTS and 2 * bad <= lines):
            return True
        file = self._files[file_id]
        groups = self._rejects[file_id].groups[:_FIRST_REJECTS_SHOWN]
        told = "\n  ".join(map(str, groups))
        self.left_out.leave(
            file,
            TooManyRejectsError(
                f"{file.path}: {bad:,} of {lines:,} lines can't be read, more than the {share:.0%} "
                f"that ingest.max_reject_share allows; nothing was loaded:\n  {told}"
            ),
        )
        return False

    def check_rest(self) -> None:
        """Look again at the files that were too large for one chunk.

        Raises:
            _StartAgain: one is to be left out after all, and some of it was stored.
        """
        for file_id in self._begun:
            if self._files[file_id] in self.left_out or not self._acceptable(file_id):
                raise _StartAgain

    def take(self, chunk: ParsedChunk) -> list[str]:
        """Drop duplicates, store and roll up; returns the addresses that are new."""
        rows = chunk.rows
        good, keyless = pc.is_null(rows["reason"]), pc.is_null(rows["key_id"])
        numbered = rows.append_column("number", pa.array(np.arange(len(rows))))
        with self._lake.registered("parsed", numbered):
            seen = pc.is_in(numbered["number"], self._duplicates(numbered))
            if not pc.all(good).as_py():
                self._store_rejects()
        accepted = pc.and_not(good, seen)
        limit = pa.scalar(self._limit, rows["ts"].type)
        is_ahead = pc.and_(accepted, pc.fill_null(pc.greater(rows["ts"], limit), False))
        self._store("held_back", chunk.source, _only(rows, is_ahead))
        on_time = pc.and_not(accepted, is_ahead)
        self._count("lines", rows)
        files = rows.select(["file_id"])
        self._count("rejects", _only(files, pc.invert(good)))
        self._count("duplicates", _only(files, seen))
        events = _only(rows, pc.and_not(on_time, keyless))
        self._store("events", chunk.source, events)
        if events:
            add_activity(self._lake, events, self.load_id)
        self._store("keyless", chunk.source, _only(rows, pc.and_(on_time, keyless)))
        self.address_lists += chunk.address_lists
        return self._new_addresses(_only(rows.select(["address"]), accepted))

    def _count(self, what: str, rows: pa.Table) -> None:
        """Add the rows of each file to its count of `what`."""
        for of_file in pc.value_counts(rows["file_id"]).to_pylist():
            self._counts[of_file["values"]][what] += of_file["counts"]

    def _store(self, what: str, source: Source, rows: pa.Table) -> None:
        """Count `rows` as `what` and store them."""
        if rows:
            self._count(what, rows)
            if what == "held_back":
                self._count("held_back_keyless", rows.filter(pc.is_null(rows["key_id"])))
            stored = rows.drop_columns(_NOT_STORED)
            stored = stored.append_column("source", _logged_as(rows, source))
            stored = stored.append_column("load_id", pa.repeat(pa.scalar(self.load_id), len(rows)))
            self._lake.append(_TABLES[what], stored)

    def _new_addresses(self, rows: pa.Table) -> list[str]:
        addresses = rows["address"].combine_chunks()
        texts = addresses.dictionary.to_pylist()
        counts = np.bincount(addresses.indices.to_numpy(), minlength=len(texts)).tolist()
        counted = {text: count for text, count in zip(texts, counts, strict=True) if count}
        unseen = counted.keys() - self._addresses
        self._addresses |= unseen
        self._no_addresses |= {address for address in unseen if not is_address(address)}
        if self._no_addresses:
            for text, count in counted.items():
                if text in self._no_addresses:
                    self.no_address[text] += count
        with self._lake.registered("addresses", pa.table({"address": [*unseen]}, _ADDRESSES)):
            found = self._lake.rows("FROM addresses ANTI JOIN lake.origins USING (address)")
        return sorted(address for (address,) in found)

    def _duplicates(self, numbered: pa.Table) -> pa.Array:
        """Numbers of the rows whose request came earlier in the chunk, or is in the lake."""
        spans = self._lake.rows(
            "SELECT file_id, min(ts), max(ts), ts > $limit FROM parsed WHERE reason IS NULL "
            "GROUP BY ALL",
            limit=self._limit,
        )
        for file_id, first, last, is_ahead in spans:
            of_files = self._spans_ahead if is_ahead else self._spans
            old = of_files.get(file_id, (first, last))
            of_files[file_id] = (min(first, old[0]), max(last, old[1]))
        if not spans:
            return pa.array([], pa.int64())
        first, last = min(first for _, first, _, _ in spans), max(last for _, _, last, _ in spans)
        identities = self._lake.table(_IDENTITIES)
        span = {"first": first, "last": last}
        with self._lake.registered("identities", identities):
            stored = self._lake.table(_STORED_IDENTITIES, **span)["h"].to_numpy()
        hashes = identities["h"].to_numpy()
        in_order = np.sort(hashes)
        twice = in_order[1:][in_order[1:] == in_order[:-1]]
        # Few are alike by their hash: only these are compared.
        alike = _one_of(hashes, np.concatenate([twice, stored]))
        found = [_REPEATED, *([_STORED_BEFORE] if len(stored) else [])]
        if (pruned_before := self._pruned_before) is not None:
            alike |= identities["day"].to_numpy() < np.datetime64(pruned_before)
            found.append(_PRUNED)
        if not alike.any():
            return pa.array([], pa.int64())
        some = numbered.take(identities["number"].filter(pa.array(alike)))
        with self._lake.registered("alike", some):
            sql = " UNION ".join(f"({each})" for each in found)
            return self._lake.table(sql, **span, pruned_before=pruned_before)["number"]

    def _store_rejects(self) -> None:
        self._lake.execute(
            "INSERT INTO lake.rejects BY NAME SELECT $load_id AS load_id, "
            "$first + file_id AS file_id, line, reason, text, key_id, ts "
            "FROM parsed WHERE reason IS NOT NULL ORDER BY file_id, line",
            load_id=self.load_id,
            first=self._first_file_id,
        )

    def settle(self) -> tuple[int, bool]:
        """Let in what is due (`ahead`): how many events of earlier loads, and if all is ahead.

        Lines of this load that are let in at once, as all that the lake holds is ahead of the
        clock, count as events after all.
        """
        doubted = ahead.clock_is_doubted(self._lake, self._limit)
        let_in = ahead.settle(self._lake, self._limit, self.load_id, doubted=doubted)
        if doubted:
            for file_id, counts in self._counts.items():
                let_in -= (held := counts.pop("held_back", 0))
                counts["keyless"] += (keyless := counts.pop("held_back_keyless", 0))
                counts["events"] += held - keyless
                if span := self._spans_ahead.get(file_id):
                    self._spans[file_id] = span
        if let_in:
            self._record_let_in(let_in)
        self.learnt = path_templates.learn(self._lake, self.load_id)
        late.enqueue(self._lake, self.load_id, self._limit)
        return let_in, doubted and bool(let_in or self._spans)

    def _record_let_in(self, count: int) -> None:
        """As a file of this load, for what was there before is read anew by what came in."""
        first, last = self._lake.rows(
            "SELECT min(ts), max(ts) FROM (SELECT ts FROM lake.events WHERE load_id = $load_id "
            "UNION ALL SELECT ts FROM lake.keyless_events WHERE load_id = $load_id)",
            load_id=self.load_id,
        )[0]
        file_id = self._first_file_id + len(self._file_ids)
        record = dict.fromkeys(_RECORD.names, 0) | {
            "file_id": file_id, "load_id": self.load_id, "path": _LET_IN, "sha256": "",
            "source": "", "lines": count, "events": count, "first_ts": first, "last_ts": last,
            "loaded_at": utc_now(),
        }  # fmt: skip
        self._lake.append("ingested_files", pa.Table.from_pylist([record], _RECORD))

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
                WITH newest AS (FROM origins_in_force())
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
            path=self.redactor.redact(file.path),
            source=source.name if source else "",
            lines=counts["lines"],
            events=counts["events"],
            duplicates=counts["duplicates"],
            keyless=counts["keyless"],
            rejects=counts["rejects"],
            held_back=counts["held_back"],
            first_ts=first,
            last_ts=last,
            waits=file.waits_until is not None,
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
                    "file_id": self._first_file_id + self._file_ids[file.path],
                    "load_id": self.load_id,
                    "path": self.redactor.redact(file.path),
                    "sha256": contents.sha256,
                    "size_bytes": contents.size_bytes,
                    "source": report.source,
                    **{name: getattr(report, name) for name in (*_COUNTS, "first_ts", "last_ts")},
                    "loaded_at": now,
                    "waits_until": file.waits_until,
                }
            )
        self._lake.append("ingested_files", pa.Table.from_pylist(records, _RECORD))

    def record_left_out(self, files: list[LogFile]) -> None:
        """Remember what was left out, each state of a file once."""
        if not files:
            return
        known = left_out_before(self._lake, files, self._settings)
        now, tried_by = utc_now(), _tried_by(self._settings)
        rows = [
            {
                "path": self.redactor.redact(file.path),
                "size_bytes": file.size_bytes,
                "modified_at": file.modified_at,
                "reason": self.redactor.redact(self.left_out.reasons[file.path]),
                "tried_by": tried_by,
                "seen_at": now,
            }
            for file in files
            if file.path not in known
        ]
        if rows:
            self._lake.append("left_out_files", pa.Table.from_pylist(rows, _LEFT_OUT))

    def reject_groups(self, files: list[LogFile]) -> tuple[RejectGroup, ...]:
        """The rejects of `files` by reason, the most frequent first."""
        ids = (self._file_ids[file.path] for file in files)
        return merged(self._rejects[id_] for id_ in ids if id_ in self._rejects)

    def first_rejects(self) -> tuple[str, ...]:
        """The first rejects of this load as ``file, line: reason``."""
        if not self._rejects:
            return ()
        paths = {id_: self.redactor.redact(path) for path, id_ in self._file_ids.items()}
        return tuple(
            f"{paths[file_id - self._first_file_id]}, line {line}: {reason}"
            for file_id, line, reason in self._lake.rows(
                "SELECT file_id, line, reason FROM lake.rejects WHERE load_id = $load_id "
                "ORDER BY file_id, line LIMIT $limit",
                load_id=self.load_id,
                limit=_FIRST_REJECTS_SHOWN,
            )
        )
