"""A load whose files are read, parsed and redacted by the workers of an engine.

A task is a file, or some small ones after each other. The worker opens them itself and returns
chunks of rows in which nothing is secret; no line travels, nor does the secret of the lake's
hashes, which the worker finds where its settings say. What becomes of the rows is decided by the
process of the load, in the order of the files. So a task can be done again, by anybody.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from keywatch import __version__, content
from keywatch.engine import Engine, become_worker
from keywatch.errors import EngineError, InputError, KeywatchError
from keywatch.lake import Lake
from keywatch.lake.key_hash import OwnSecret, fingerprint
from keywatch.load.reading import Listed, ReadChunk, read_chunks
from keywatch.settings import IngestSettings, LakeSettings
from keywatch.settings.secret_ref import SecretRef
from keywatch.text.secrets import Redactor
from keywatch.vendors import Contents, LogFile
from keywatch.vendors.endpoints import LearntTemplates
from keywatch.vendors.parser import ParsedChunk, Parser

_TASK_SHARE = 0.5
"""Of ``ingest.chunk_bytes``: the small files of a task."""
_UNPACKED = 8
"""How much larger than a compressed log its text may be expected to be."""
_MOST_RESULT_BYTES = 128 * 1024 * 1024
"""About a gigabyte of lines: the process of the load reads a larger file itself, chunk by chunk."""
_AHEAD = 2
"""Tasks for each worker that are under way or wait to be stored."""
_PACKED = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True)
class Job:
    """What all tasks of one load have in common.

    The secret of the hashes is where `secret` says, else in the folder of the `lake`; it is the one
    with this `fingerprint`.
    """

    version: str
    lake: Path
    secret: SecretRef | None
    fingerprint: str
    folders: tuple[Path, ...]
    settings: IngestSettings
    learnt: LearntTemplates

    @classmethod
    def of(cls, lake: Lake, settings: IngestSettings, learnt: LearntTemplates) -> Job:
        """The job of a load into `lake`, which is in a folder."""
        assert lake.folder is not None
        return cls(
            __version__,
            lake.folder.absolute(),
            lake.secret_ref,
            fingerprint(lake.secret),
            content.known_folders(),
            settings,
            learnt,
        )

    def redactor(self) -> Redactor:
        """One with the lake's secret, as this machine has it.

        Raises:
            EngineError: it has none or another, or runs another Keywatch.
        """
        become_worker(self.version, "the load", self.folders)
        own = OwnSecret(self.lake, LakeSettings(key_hash_secret=self.secret))
        try:
            own.refuse_other(self.fingerprint)
            secret = own.find()
        except KeywatchError as e:
            raise EngineError(f"the worker on {platform.node()}: {e}") from None
        if secret is None:
            raise EngineError(
                f"the worker on {platform.node()} does not have the lake's key-hash secret "
                f"({own.place}); nothing was stored. Make the lake's folder reachable from there, "
                "or name the secret in storage.key_hash_secret"
            )
        return Redactor(secret)


@dataclass(frozen=True)
class Task:
    """Files of one source. Their names, which may hold a secret, are in no log of Dask's."""

    number: int
    files: tuple[Listed, ...] = field(repr=False)

    @property
    def is_pipe(self) -> bool:
        """Whether it can be read by the process of the load only."""
        return any(listed.file.pipe for listed in self.files)


@dataclass(frozen=True)
class _Packed:
    """A `ReadChunk` as it travels, its rows as an Arrow stream."""

    rows: bytes = field(repr=False)
    address_lists: int
    whole: frozenset[int]
    begun: int | None
    unseen: Mapping[int, int]

    @classmethod
    def of(cls, chunk: ReadChunk) -> _Packed:
        rows = _compact(chunk.parsed.rows)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema, options=_PACKED) as stream:
            stream.write_table(rows)
        return cls(
            sink.getvalue().to_pybytes(),
            chunk.parsed.address_lists,
            chunk.whole,
            chunk.begun,
            chunk.unseen,
        )

    def unpacked(self, task: Task) -> ReadChunk:
        with pa.ipc.open_stream(self.rows) as stream:
            rows = stream.read_all().combine_chunks()
        parsed = ParsedChunk(task.files[0].source, rows, self.address_lists)
        return ReadChunk(parsed, self.whole, self.begun, self.unseen)


@dataclass
class Answer:
    """What a worker read of a task's files.

    Attributes:
        host: The worker's machine.
        read_bytes: As stored.
        contents: Of each file that was read to its end, and until when its last line waits.
        unopened: Why some could not be opened there.
        failed: Why others could not be read to their end.
        is_too_large: Whether it is more than one result may hold; then the rest says nothing.
        unexpected: The kind of an error that is no file's; then the rest says nothing.
    """

    host: str
    read_bytes: int = 0
    chunks: list[_Packed] = field(default_factory=list, repr=False)
    contents: dict[int, tuple[Contents | None, datetime | None]] = field(default_factory=dict)
    unopened: dict[int, str] = field(default_factory=dict, repr=False)
    failed: dict[int, str] = field(default_factory=dict, repr=False)
    is_too_large: bool = False
    unexpected: str = ""


def _compact(rows: pa.Table) -> pa.Table:
    """`rows`, whose dictionaries have no text that only lines had which could not be read."""
    for at, name in enumerate(rows.column_names):
        column = rows[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            used = pc.count_distinct(column.indices).as_py()
            if used < len(column.dictionary):
                rows = rows.set_column(at, name, column.dictionary_decode().dictionary_encode())
    return rows


def tasks_of(files: Iterable[Listed], chunk_bytes: int) -> list[Task]:
    """Tasks of files that follow each other, which do not depend on who will do them."""
    most = _TASK_SHARE * chunk_bytes
    groups: list[list[Listed]] = []
    size = most
    for listed in files:
        file = listed.file
        expected = file.size_bytes * (_UNPACKED if file.packed else 1)
        joins = groups and groups[-1][-1].source == listed.source and size + expected <= most
        if joins and not file.pipe and not groups[-1][-1].file.pipe:
            groups[-1].append(listed)
            size += expected
        else:
            groups.append([listed])
            size = expected
    return [Task(number, tuple(group)) for number, group in enumerate(groups)]


def read_by_workers(
    engine: Engine,
    job: Job,
    tasks: Sequence[Task],
    here: Callable[[Sequence[Listed]], Generator[ParsedChunk]],
    accepted: Callable[[ReadChunk], ParsedChunk],
    on_bytes: Callable[[int], None],
    leave: Callable[[LogFile, InputError], None],
) -> Generator[ParsedChunk]:
    """The chunks of all `tasks` in their order, as `accepted`.

    What no worker can read, or too much of, is read `here`. `leave` hears of files that can't be
    read, before their first chunk.

    Raises:
        EngineError: a worker does not reach a file that this process does, or the cluster is gone.
    """
    sent = (_sent(task) for task in tasks if not task.is_pipe)
    with closing(engine.each(read, job, sent, _AHEAD * engine.workers)) as answers:
        for task in tasks:
            answer = None if task.is_pipe else next(answers)
            if answer is None or answer.is_too_large:
                yield from here(task.files)
                continue
            on_bytes(answer.read_bytes)
            _settle(task, answer, leave)
            for chunk in answer.chunks:
                yield accepted(chunk.unpacked(task))


def _sent(task: Task) -> Task:
    """`task` with places that do not depend on a process's folder."""
    return replace(
        task,
        files=tuple(
            listed
            if listed.file.filesystem is not None
            else listed._replace(file=_somewhere(listed.file))
            for listed in task.files
        ),
    )


def _somewhere(file: LogFile) -> LogFile:
    return replace(file, location=str(Path(file.location or file.path).absolute()))


def _settle(task: Task, answer: Answer, leave: Callable[[LogFile, InputError], None]) -> None:
    """Take over what the worker knows of the files.

    Raises:
        EngineError: it does not reach one that this process does, or failed itself.
    """
    if answer.unexpected:
        raise EngineError(
            f"{task.files[0].file.path}, or a file after it: the worker on {answer.host} failed "
            f"({answer.unexpected}); nothing was stored. If memory ran out, lower "
            "ingest.chunk_bytes; a load by one process (--engine local) may tell more"
        )
    for file_id, file, _ in task.files:
        if file_id in answer.unopened:
            try:
                file.head()
            except InputError as e:
                leave(file, e)
            else:
                raise EngineError(
                    f"{file.path}: the worker on {answer.host} can't open it"
                    f"{answer.unopened[file_id]}; nothing was stored. A load by several processes "
                    "needs files that each of them reaches by the same path"
                )
        elif file_id in answer.failed:
            leave(file, InputError(file.path + answer.failed[file_id]))
        else:
            file.contents, file.waits_until = answer.contents[file_id]


def read(job: Job, task: Task) -> Answer:
    """Read the task's files on a worker.

    Raises:
        EngineError: this machine lacks the secret, or runs another Keywatch.
        VendorError: a source's query does not run.
    """
    try:
        return _read(job, task)
    except KeywatchError:
        raise
    except Exception as e:  # noqa: BLE001 — what it says may hold a line, and Dask would log it
        return Answer(platform.node(), unexpected=type(e).__name__)


def _read(job: Job, task: Task) -> Answer:
    redactor = job.redactor()
    answer = Answer(platform.node())
    numbers = {listed.file.path: listed.file_id for listed in task.files}

    def told(file: LogFile, error: InputError) -> str:
        return redactor.redact(str(error).removeprefix(file.path))

    def fail(file: LogFile, error: InputError) -> None:
        answer.failed[numbers[file.path]] = told(file, error)

    def count(size_bytes: int) -> None:
        answer.read_bytes += size_bytes

    opened = []
    for listed in task.files:
        try:
            listed.file.head()
            opened.append(listed)
        except InputError as e:
            answer.unopened[listed.file_id] = told(listed.file, e)
    settings, size = job.settings, 0
    with Parser(redactor, settings.trusted_proxies, settings.time_zone, job.learnt) as parser:
        for chunk in read_chunks(opened, parser, settings.chunk_bytes, count, fail):
            packed = _Packed.of(chunk)
            answer.chunks.append(packed)
            size += len(packed.rows)
            if size > _MOST_RESULT_BYTES:
                return Answer(answer.host, is_too_large=True)
    answer.contents = {
        listed.file_id: (listed.file.contents, listed.file.waits_until) for listed in opened
    }
    return answer
