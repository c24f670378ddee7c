"""A load whose files are read by an engine's workers stores what a load in one process stores.

`make test-cluster` has the long form: other tasks and chunks.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest

from keywatch import pipeline
from keywatch.engine import Common, Engine, InProcess, Result, SomeTask, opened, opened_when_asked
from keywatch.engine.cluster import Cluster
from keywatch.errors import EngineError, InputError, TooManyRejectsError
from keywatch.feed import Feed
from keywatch.lake import Lake
from keywatch.load import workers
from keywatch.load.ingest import LoadReport, load_files
from keywatch.load.reading import Listed
from keywatch.load.workers import Answer, Job, Task, tasks_of
from keywatch.settings import EngineSettings, IngestSettings, Settings
from keywatch.vendors import LogFile, find_files, sources
from keywatch.vendors.parser import Parser
from tests.command import keywatch
from tests.conftest import Loading, NoWhere, as_json_lines, event, events
from tests.engines import Deadly, kill_other, scheduler_and_worker
from tests.torture.planted import plant, shown_in
from tests.vendors.test_sources import document, record

LONG = "KEYWATCH_TEST_LOADS" in os.environ
ROLL_UPS = {
    "activity": "key_id, day, address, endpoint, status_class, agent, sum(events), "
    "sum(response_bytes), sum(exposed), min(first_ts), max(last_ts)",
    "activity_hours": "key_id, hour, address, sum(events)",
    "transitions": "key_id, day, address, endpoint, sum(events)",
}
"""What does not depend on the parts, one a chunk."""


class Shipping(InProcess):
    """This process as an engine: what goes to a worker and back is pickled, as on a cluster."""

    def __init__(self) -> None:
        super().__init__(workers=2)
        self.results: list[bytes] = []
        self.tasks = 0

    def arrived(self, common: Any, task: Any) -> tuple[Any, Any]:
        """What the worker gets; tests have it differ."""
        return common, task

    def each(
        self,
        function: Callable[[Common, SomeTask], Result],
        common: Common,
        tasks: Iterable[SomeTask],
        ahead: int | None = None,
    ) -> Generator[Result]:
        assert ahead == 4
        for task in tasks:
            self.tasks += 1
            sent = pickle.dumps((function, *self.arrived(common, task)))
            ran, *arguments = pickle.loads(sent)
            self.results.append(pickle.dumps(ran(*arguments)))
            yield pickle.loads(self.results[-1])


def loaded(lake: Lake, *paths: Path, engine: Engine | None = None, **settings: Any) -> LoadReport:
    return load_files(
        lake,
        find_files([str(path) for path in paths]),
        IngestSettings(**settings),
        NoWhere(),
        engine=lambda: engine,
    )


def stored(loading: Loading) -> dict[str, list[tuple[Any, ...]]]:
    """What a load wrote, row by row, and what its roll-ups come to."""
    tables = loading.tables()
    for table, columns in ROLL_UPS.items():
        tables[table] = loading.lake.rows(
            f"SELECT {columns} FROM lake.{table} GROUP BY ALL ORDER BY ALL"
        )
    tables["paths"] = loading.lake.rows("SELECT path FROM lake.ingested_files ORDER BY file_id")
    tables["left_out"] = loading.lake.rows(
        "SELECT path, size_bytes, reason FROM lake.left_out_files ORDER BY ALL"
    )
    return tables


@pytest.fixture
def alone(tmp_path: Path, empty_lake: Path) -> Iterator[Loading]:
    """A lake with the same secret, for the load in one process."""
    with Lake.open(shutil.copytree(empty_lake, tmp_path / "alone")) as lake:
        yield Loading(tmp_path, lake)


def write_logs(loading: Loading) -> Path:
    """Logs of every kind, in an order in which formats change; returns their folder."""
    rows = events(120)
    loading.write(rows[:40], "a.jsonl")
    loading.write(rows[30:60], "b.csv")
    loading.write(document([record(eventID=f"id-{n}") for n in range(30)]), "c.json")
    loading.write(rows[55:90], "d.jsonl.gz")
    # Equal rows without an id, told apart by their number in the file, across chunks and files.
    same = [event(request_id=None)] * 25
    later = [event(request_id=None, timestamp="2026-09-30T09:00:00Z")] * 4
    loading.write(later, "e.jsonl")
    loading.write(same, "f.jsonl")
    hostile = [
        b'{"timestamp": "2026-09-30T00:00:04Z", "key_id": "key_1"', b"\xff\xfe\x00no text", b"[1]",
        json.dumps(event(user_agent="a\u0000b", request_id="r1")).encode(),
        json.dumps(event(ip="1.2.3.4, 10.0.0.1", request_id="r2")).encode(),
        json.dumps(event(key_id=None, request_id="r3")).encode(),
        json.dumps(event(timestamp="2199-01-01T00:00:00Z", request_id="r4")).encode(),
        json.dumps(event(timestamp="2098-01-01T00:00:00Z", request_id="r5")).encode(),
    ]  # fmt: skip
    loading.write(b"\n".join(hostile) + b"\n" + as_json_lines(rows[90:]), "g.jsonl")
    loading.write(as_json_lines(rows[:9]) + b"no line\n" * 90, "h-mostly-bad.jsonl")
    cut = loading.write(events(300, status=404), "i-cut.jsonl.gz")
    cut.write_bytes(cut.read_bytes()[:-300])
    loading.write(b"\x00\x01\x02 no log", "j.bin")
    loading.write(b"", "k.jsonl")
    return loading.write(rows[100:], "sub/l.jsonl.zst").parent.parent


def write_three(loading: Loading) -> list[Path]:
    """Three logs of 30 requests each, of three keys."""
    return [loading.write(events(30, key_id=f"key_{n}"), f"{n}.jsonl") for n in range(3)]


@pytest.mark.parametrize("chunk_bytes", [1024, 5000, 12_000, 40_000] if LONG else [12_000])
def test_whatever_the_tasks_the_same_is_stored(
    loading: Loading, alone: Loading, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a file breaks off after its first chunk.
    monkeypatch.setattr("keywatch.vendors.files.BLOCK_BYTES", 4096)
    logs = write_logs(loading)
    engine = Shipping()
    settings: dict[str, Any] = {"chunk_bytes": chunk_bytes, "max_reject_share": 0.5}
    expected = loaded(alone.lake, logs, **settings)
    report = loaded(loading.lake, logs, engine=engine, **settings)
    assert engine.tasks > 3
    assert stored(loading) == stored(alone)
    assert replace(report, first_rejects=()) == replace(expected, first_rejects=())
    assert report.first_rejects == expected.first_rejects
    assert {Path(file.path).name for file in report.left_out} == {
        "h-mostly-bad.jsonl", "i-cut.jsonl.gz", "j.bin",
    }  # fmt: skip
    assert all(report.total(kind) for kind in ("rejects", "duplicates", "keyless", "held_back"))
    again = loaded(loading.lake, logs, engine=engine, **settings)
    assert again.total("lines") == 0
    assert stored(loading) == stored(alone)


def test_tasks_do_not_depend_on_workers_and_small_files_share_one() -> None:
    pulsely, trail = sources()["pulsely"], sources()["cloudtrail"]
    sizes = [10, 30, 9, 9, 900, 5, 5, 5]
    files = [Listed(n, LogFile(f"{n}.jsonl", size), pulsely) for n, size in enumerate(sizes)]
    files[3].file.packed = True
    files[6] = files[6]._replace(source=trail)
    found = [[listed.file_id for listed in task.files] for task in tasks_of(files, 100)]
    assert found == [[0, 1, 2], [3], [4], [5], [6], [7]]
    assert "jsonl" not in repr(tasks_of(files, 100))


def test_all_bytes_are_heard_of(loading: Loading) -> None:
    logs = write_three(loading)
    heard: list[int] = []
    load_files(
        loading.lake,
        find_files([str(log) for log in logs]),
        IngestSettings(chunk_bytes=4096),
        NoWhere(),
        on_bytes=heard.append,
        engine=Shipping,
    )
    assert sum(heard) == sum(log.stat().st_size for log in logs)


def test_a_file_that_was_named_and_is_bad_is_an_error(loading: Loading) -> None:
    good = loading.write(events(60), "good.jsonl")
    bad = loading.write(as_json_lines(events(60)) + b"no line\n" * 60, "bad.jsonl")
    cut = loading.write(events(300), "cut.jsonl.gz")
    cut.write_bytes(cut.read_bytes()[:-300])
    for file, error in ((bad, TooManyRejectsError), (cut, InputError)):
        with pytest.raises(error) as alone:
            loaded(loading.lake, good, file, chunk_bytes=4096)
        with pytest.raises(error) as raised:
            loaded(loading.lake, good, file, chunk_bytes=4096, engine=Shipping())
        assert str(file) in str(raised.value)
        assert str(raised.value).split(" of ")[1:] == str(alone.value).split(" of ")[1:]
    assert loading.lake.value("SELECT count(*) FROM lake.ingested_files") == 0


def test_what_is_too_large_for_a_result_and_a_pipe_are_read_by_the_load(
    loading: Loading, alone: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = events(200)
    large = loading.write(rows[:150], "large.jsonl")
    small = [loading.write(rows[150 + n : 160 + n], f"small-{n}.jsonl") for n in range(3)]
    expected = loaded(alone.lake, large, *small, chunk_bytes=3000)
    pipe = loading.folder / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(small[0].read_bytes(),))
    writer.start()
    monkeypatch.setattr(workers, "_MOST_RESULT_BYTES", 7000)
    engine = Shipping()
    report = loaded(loading.lake, large, pipe, *small[1:], chunk_bytes=3000, engine=engine)
    writer.join()
    answers: list[Answer] = [pickle.loads(result) for result in engine.results]
    assert [answer.is_too_large for answer in answers].count(True) == 1
    assert report.total("events") == expected.total("events") == 162
    assert loading.tables()["events"] == alone.tables()["events"]


def test_a_small_load_asks_for_no_engine(loading: Loading) -> None:
    log = loading.write(events(5))
    load_files(
        loading.lake,
        find_files([str(log)]),
        IngestSettings(),
        NoWhere(),
        engine=lambda: pytest.fail("asked"),
    )
    with opened_when_asked(EngineSettings(kind="dask", scheduler="tcp://127.0.0.1:1")):
        pass  # not asked, so nothing connects


def test_the_settings_engine_reads_for_flows_but_not_for_the_feed(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[str] = []

    @contextmanager
    def opened(settings: EngineSettings) -> Iterator[Engine | None]:
        engines.append(settings.kind)
        yield None

    monkeypatch.setattr("keywatch.engine.opened", opened)
    settings = Settings(
        ingest=IngestSettings(chunk_bytes=4096, places=(str(tmp_path / "logs"),)),
        engine=EngineSettings(kind="dask"),
    )
    write_three(loading)
    Feed(tmp_path / "lake", settings, (), lambda _: None).run()
    assert engines == ["local"]
    for n in range(3):
        loading.write(events(30, key_id=f"key_{n + 3}"), f"{n + 3}.jsonl")
    assert pipeline.ingest_new(tmp_path / "lake", settings) is not None
    assert engines == ["local", "dask"]


# ---------------------------------------------------------------------------------------- secrets


def test_nothing_secret_comes_from_a_worker(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    random.seed(7)
    planted = plant(loading.folder, 1)
    monkeypatch.setattr(workers, "_PACKED", pa.ipc.IpcWriteOptions())
    engine = Shipping()
    report = loaded(
        loading.lake, planted.logs, engine=engine, chunk_bytes=20_000, max_reject_share=1
    )
    assert engine.tasks > 1
    assert report.total("events") > 100
    results = {str(n): result for n, result in enumerate(engine.results)}
    assert any(b"Grafana/10.4.3" in result for result in results.values())
    assert shown_in(results, planted.ways) == []


def test_the_secret_of_the_hashes_is_not_sent(loading: Loading) -> None:
    logs = write_three(loading)
    secret = loading.lake.secret
    jobs: list[bytes] = []

    class Spying(Shipping):
        def arrived(self, common: Any, task: Any) -> tuple[Any, Any]:
            jobs.append(pickle.dumps((common, task)))
            return common, task

    loaded(loading.lake, *logs, engine=Spying(), chunk_bytes=4096)
    assert len(jobs) > 1
    assert not any(form in job for job in jobs for form in (secret, secret.hex().encode()))


class Elsewhere(Shipping):
    """A worker that does not have what the load has."""

    def __init__(self, **differs: Any) -> None:
        super().__init__()
        self.differs = differs

    def arrived(self, common: Job, task: Task) -> tuple[Job, Task]:
        folder = self.differs.get("logs")
        if folder is None:
            return replace(common, **self.differs), task
        moved = tuple(
            listed._replace(file=replace(listed.file, location=str(folder / "log")))
            for listed in task.files
        )
        return common, replace(task, files=moved)


@pytest.mark.parametrize(
    ("differs", "told"),
    [
        ({"logs": Path("/nowhere")}, "0.jsonl: the worker on .* can't open it: .*/nowhere/log"),
        ({"lake": Path("/nowhere")}, "does not have the lake's key-hash secret"),
        ({"fingerprint": "0" * 16}, "is not the lake's"),
        ({"version": "0.0.1"}, "the load 0.0.1: install the same version"),
    ],
)
def test_a_worker_that_lacks_something_is_named_and_nothing_is_stored(
    loading: Loading, differs: dict[str, Any], told: str
) -> None:
    logs = write_three(loading)
    loading.lake.secret  # noqa: B018 — made, and known to the lake
    before = loading.tables()
    with pytest.raises(EngineError, match=told) as raised:
        loaded(loading.lake, *logs, engine=Elsewhere(**differs), chunk_bytes=4096)
    assert "nothing was stored" in str(raised.value)
    assert loading.tables() == before


def test_a_file_that_is_gone_is_left_out(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    write_three(loading)

    class Late(Shipping):
        def arrived(self, common: Any, task: Any) -> tuple[Any, Any]:
            (loading.folder / "logs/1.jsonl").unlink(missing_ok=True)
            return common, task

    report = loaded(loading.lake, loading.folder / "logs", engine=Late(), chunk_bytes=4096)
    (gone,) = report.left_out
    assert gone.path.endswith("1.jsonl")
    assert report.total("lines") == 60


def test_an_unexpected_error_names_the_file_and_says_nothing_of_a_line(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = write_three(loading)

    def fail(self: Parser, *_: Any) -> Any:
        raise ValueError("a line with a secret")

    monkeypatch.setattr(Parser, "parse", fail)
    engine = Shipping()
    with pytest.raises(EngineError, match=r"0\.jsonl.* failed \(ValueError\)"):
        loaded(loading.lake, *logs, engine=engine, chunk_bytes=4096)
    assert not any(b"a line with" in result for result in engine.results)


# ---------------------------------------------------------------------------------------- on Dask


def _nothing(common: int, task: Task) -> int:
    return common + task.number


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    loading: Loading, alone: Loading, tmp_path: Path
) -> None:
    logs = write_three(loading)
    expected = loaded(alone.lake, *logs, chunk_bytes=4096)
    with opened(EngineSettings(kind="dask", workers=2)) as cluster:
        assert cluster is not None
        engine = Deadly(cluster, tmp_path, ("read",))
        report = loaded(loading.lake, *logs, engine=engine, chunk_bytes=4096)
        # As it is some time after the scheduler was lost.
        assert isinstance(cluster, Cluster)
        cluster._client.close()
        with pytest.raises(EngineError, match="nothing was stored"):
            next(cluster.each(_nothing, 0, [Task(0, ())], 1))
    assert engine.killed == ["read"]
    assert stored(loading) == stored(alone)
    assert report == expected


def test_a_lost_scheduler_is_an_error_and_nothing_is_stored(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(loading)
    config = tmp_path / "keywatch.toml"
    config.write_text("[ingest]\nchunk_bytes = 4096\n")
    before = loading.tables()
    words = ("ingest", tmp_path / "logs", "--lake", tmp_path / "lake", "--config", config)
    with scheduler_and_worker(tmp_path) as (address, pid), monkeypatch.context() as patched:
        patched.setattr(workers, "read", partial(kill_other, pid))
        ran = keywatch(*words, "--engine", f"dask:{address}")
    assert ran.code == EngineError.exit_code == 3
    assert address in ran.err
    assert "nothing was stored" in ran.err
    assert loading.tables() == before
    assert keywatch(*words).code == 0
    assert len(loading.tables()["events"]) == 90
