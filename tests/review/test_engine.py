"""A review on an engine says what a review in one process says, to the last byte.

`make test-cluster` has the long form: three worlds in 1 to 64 buckets, and a worker killed in each
phase.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline, sample
from keywatch.detect import bucket
from keywatch.detect.detectors import load_detectors
from keywatch.engine import Engine, InProcess, opened
from keywatch.engine.cluster import Cluster
from keywatch.errors import EngineError, UsageError
from keywatch.lake import Lake
from keywatch.lake.weeks import last_full_week
from keywatch.model import Window
from keywatch.review import bucket_review, making
from keywatch.settings import (
    EngineSettings,
    IngestSettings,
    LakeSettings,
    ReviewSettings,
    Settings,
)
from keywatch.text.document import json_text, review_document
from tests import postgres
from tests.command import keywatch
from tests.engines import Deadly, kill_other, lacks_a_package, scheduler_and_worker

LONG = "KEYWATCH_TEST_LOADS" in os.environ
BUCKETS = (1, 2, 7, 64)
PHASES = ("shares", "score", "_tell")
SETTINGS = Settings(
    ingest=IngestSettings(max_reject_share=1),
    review=ReviewSettings(power_keys=5, replayed_windows=1),
)
in_long_form = pytest.mark.skipif(not LONG, reason="the long form: make test-cluster")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 20 keys, some stolen, one exposed and one leaked, whose reviews are calibrated."""
    folder = tmp_path_factory.mktemp("engine")
    world = sample.generate(
        folder / "world", keys=20, weeks=7, seed=23, thefts=4, events_per_key_day=4
    )
    with gzip.open(world.logs[-2], "rt") as log:
        lines = [json.loads(line) for line in log]
    (folder / "more.jsonl").write_text("".join(_of_interest(lines)))
    pipeline.ingest(
        folder / "lake", [str(world.logs[0].parent), str(folder / "more.jsonl")], SETTINGS
    )
    pipeline.import_keys(folder / "lake", world.inventory, SETTINGS)
    leaks = folder / "leaks.json"
    leaks.write_text(json.dumps([{"token": _full(lines[0]["key"]), "type": "t", "url": "u"}]))
    assert pipeline.import_leaks(folder / "lake", leaks, SETTINGS).keys
    if LONG:
        with Lake.open(folder / "lake") as lake:
            week = last_full_week(lake)
        before = Window(week.start - timedelta(weeks=1), week.end - timedelta(weeks=1))
        assert pipeline.review(folder / "lake", before, SETTINGS).alerted()
    return folder / "lake"


def _of_interest(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A key in the URL of another one's request, and lines of three keys that can't be read."""
    key_ids = list(dict.fromkeys(line["key_id"] for line in lines))
    others = next(line for line in lines if line["key_id"] == key_ids[1])
    exposed = f"/v1/checks?key={_full(lines[0]['key'])}"
    yield json.dumps({**others, "request_id": "req_exposed", "endpoint": exposed}) + "\n"
    for key_id, count in zip(key_ids, (12, 3, 1), strict=False):
        line = next(line for line in lines if line["key_id"] == key_id)
        for nth in range(count):
            bad = {**line, "request_id": f"req_bad_{key_id}_{nth}"}
            del bad["ip"]
            yield json.dumps(bad) + "\n"


def _full(masked: str) -> str:
    """A key that is masked so."""
    first, _, last = masked.partition("…")
    return f"{first}{'0' * 12}{last}"


@pytest.fixture(scope="module")
def alone(folder: Path) -> str:
    """The review of one process."""
    with Lake.open(folder) as lake, lake.reading():
        answer, _ = making.make_review(lake, last_full_week(lake), SETTINGS)
    assert answer.alerted()
    assert answer.coverage.power
    assert answer.coverage.calibration
    assert answer.hygiene
    assert answer.new_networks
    said = {each.detector for case in answer.cases for each in case.evidence}
    assert {"exposed_key", "leaked_key", "unreadable_lines"} <= said
    return json_text(review_document(answer))


def reviewed(folder: Path, engine: Engine, settings: Settings = SETTINGS) -> str:
    with Lake.open(folder, settings.storage) as lake, lake.reading():
        answer, _ = bucket_review.make_review(engine, lake, last_full_week(lake), settings)
    return json_text(review_document(answer))


@in_long_form
@pytest.mark.parametrize("buckets", BUCKETS)
def test_in_buckets_the_review_is_the_same(folder: Path, alone: str, buckets: int) -> None:
    assert reviewed(folder, InProcess(buckets)) == alone
    assert not bucket._made


@in_long_form
@pytest.mark.parametrize("weeks", [3, 7], ids=["young", "quiet"])
def test_in_buckets_other_worlds_are_the_same(weeks: int, tmp_path: Path) -> None:
    is_young = weeks == 3
    world = sample.generate(
        tmp_path / "world", keys=24, weeks=weeks, seed=29, thefts=4 * is_young, events_per_key_day=4
    )
    lake = tmp_path / "lake"
    pipeline.ingest(lake, [str(world.logs[0].parent)], SETTINGS)
    pipeline.import_keys(lake, world.inventory, SETTINGS)
    with Lake.open(lake) as opened_lake, opened_lake.reading():
        answer, _ = making.make_review(opened_lake, last_full_week(opened_lake), SETTINGS)
    assert bool(answer.coverage.calibration) is not is_young
    assert bool(answer.alerted()) is is_young
    alone = json_text(review_document(answer))
    for buckets in BUCKETS:
        assert reviewed(lake, InProcess(buckets)) == alone, buckets


@in_long_form
def test_fitted_to_some_keys_it_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keywatch.detect.detectors.MOST_FITTED_KEYS", 8)
    with Lake.open(folder) as lake, lake.reading():
        answer, _ = making.make_review(lake, last_full_week(lake), SETTINGS)
    assert reviewed(folder, InProcess(2)) == json_text(review_document(answer))


@in_long_form
def test_in_more_buckets_than_are_kept_it_is_the_same(
    folder: Path, alone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    opened_tables = bucket._Tables.open

    def counted(job: bucket.Job, one: bucket.Bucket) -> bucket._Tables:
        made.append(one.number)
        return opened_tables(job, one)

    monkeypatch.setattr(bucket._Tables, "open", counted)
    few = SETTINGS.model_copy(update={"storage": LakeSettings(keys_at_once=14)})
    assert reviewed(folder, InProcess(), few) == alone
    assert len(made) > len({*made}) > 1
    assert not bucket._made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Engine]:
    """Two worker processes."""
    with opened(EngineSettings(kind="dask", workers=2)) as cluster:
        assert cluster is not None
        assert cluster.workers == 2
        yield cluster


def test_a_worker_that_is_killed_changes_nothing(
    folder: Path, alone: str, cluster: Engine, tmp_path: Path
) -> None:
    phases = PHASES if LONG else ("score",)
    deadly = Deadly(cluster, tmp_path, phases)
    assert reviewed(folder, deadly) == alone
    assert deadly.killed == list(phases)


def test_what_is_no_engine_is_a_usage_error(tmp_path: Path) -> None:
    ran = keywatch("review", "--lake", tmp_path, "--engine", "ray")
    assert ran.code == 2
    assert "--engine" in ran.err


@in_long_form
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL's programs are not here")
def test_with_a_catalogue_in_postgresql_it_is_the_same(
    folder: Path, cluster: Engine, tmp_path: Path
) -> None:
    with postgres.server() as catalog:
        storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "data"))
        shared = SETTINGS.model_copy(update={"storage": storage})
        pipeline.move_lake(folder, SETTINGS, tmp_path / "lake", shared)
        with Lake.open(tmp_path / "lake", storage) as lake, lake.reading():
            answer, _ = making.make_review(lake, last_full_week(lake), shared)
        assert answer.alerted()
        found = reviewed(tmp_path / "lake", cluster, shared)
    assert found == json_text(review_document(answer))


def test_a_cluster_of_its_own_accepts_nobody_else(cluster: Engine) -> None:
    assert isinstance(cluster, Cluster)
    scheme, _, place = cluster.scheduler.partition("://")
    host, _, port = place.partition(":")
    assert (scheme, host) == ("tls", "127.0.0.1")
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port))) as plain,
        stranger.wrap_socket(plain) as connection,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        connection.recv(1)


def test_a_worker_that_lacks_a_package_is_told(cluster: Engine) -> None:
    with pytest.raises(EngineError, match=r"No module named 'numpy'.*the same versions"):
        next(cluster.each(lacks_a_package, None, [bucket.Bucket(0, ())]))


def test_a_lost_scheduler_is_an_error_and_the_next_try_completes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = shutil.copytree(folder, tmp_path / "lake")
    before = _stored(lake)
    words = ("review", "--lake", lake, "--config", _quick(tmp_path))
    with scheduler_and_worker(tmp_path) as (address, pid), monkeypatch.context() as patched:
        patched.setattr(bucket, "score" if LONG else "shares", partial(kill_other, pid))
        ran = keywatch(*words, "--engine", f"dask:{address}")
    assert ran.code == EngineError.exit_code == 3
    assert address in ran.err
    assert "nothing was stored" in ran.err
    assert _stored(lake) == before
    assert keywatch(*words).code == 0
    assert _stored(lake) != before


def _quick(folder: Path) -> Path:
    """Settings of a review that replays nothing."""
    file = folder / "quick.toml"
    file.write_text("[review]\nreplayed_windows = 0\n")
    return file


def _stored(folder: Path) -> tuple[int, int]:
    with Lake.open(folder) as lake:
        return lake.snapshot, lake.value("SELECT count(*) FROM lake.runs")


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keywatch.engine.cluster", None)
    with pytest.raises(EngineError, match=r"pip install '\.\[cluster\]'"):
        opened(EngineSettings(kind="dask")).__enter__()


def test_another_version_of_keywatch_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.detect.bucket_scoring.__version__", "0.0.0")
    with pytest.raises(EngineError, match="same version"):
        reviewed(folder, InProcess(2))


def test_a_detector_from_outside_that_compares_with_peers_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    mine = replace(load_detectors()[0], history="peers", folder=tmp_path / "mine")
    with (
        Lake.open(folder) as lake,
        lake.reading(),
        pytest.raises(UsageError, match="mine: compares keys with their peers"),
    ):
        bucket_review.make_review(InProcess(), lake, last_full_week(lake), SETTINGS, loaded=[mine])


def test_a_lake_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="in memory"):
        bucket_review.make_review(
            InProcess(), Lake.in_memory(), last_full_week(Lake.in_memory()), SETTINGS
        )
