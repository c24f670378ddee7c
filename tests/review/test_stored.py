"""A case, or a review, that is read from the lake is the one that scoring gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline, sample
from keywatch.detect.detectors import load_detectors
from keywatch.lake import Lake
from keywatch.lake.weeks import last_full_week
from keywatch.model import Case, Window
from keywatch.operate.repair import RepairReport, repair
from keywatch.report import render_case
from keywatch.review import making, stored
from keywatch.review.recommend import is_brief
from keywatch.review.stored import ToldReview
from keywatch.settings import (
    LakeSettings,
    ReportSettings,
    ReviewSettings,
    ScoringSettings,
    Settings,
)
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.document import review_document
from tests.conftest import NoWhere
from tests.operate.test_damage import NOW
from tests.test_pipeline import daily, lake_of

SETTINGS = Settings(review=ReviewSettings(replayed_windows=1)).without_power()
DAYS = SETTINGS.review.baseline_days
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """A lake of two reviewed weeks, with a verdict of each kind on the second."""

    folder: Path
    window: Window

    @property
    def before(self) -> Window:
        return Window(self.window.start - WEEK, self.window.end - WEEK)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("stored")
    made = sample.generate(
        home / "world", keys=16, weeks=5, seed=21, thefts=6, events_per_key_day=6
    )
    folder = home / "lake"
    pipeline.ingest(folder, [str(made.logs[0].parent)], SETTINGS)
    pipeline.import_keys(folder, made.inventory, SETTINGS)
    with Lake.open(folder) as lake:
        world = World(folder, last_full_week(lake))
    pipeline.review(folder, world.before, SETTINGS, whole=False)
    answer = pipeline.review(folder, world.window, SETTINGS, whole=False)
    stolen, mistaken = (case.key_id for case in answer.alerted()[:2])
    say = partial(
        pipeline.give_verdict,
        folder, settings=SETTINGS, by="ana", because="asked", window=world.window,
    )  # fmt: skip
    say(stolen, "compromised")
    say(mistaken, "expected")
    say(answer.watched()[0].key_id, "benign")
    pipeline.review(folder, world.window, SETTINGS, whole=False)
    return world


@pytest.fixture
def lake(world: World) -> Iterator[Lake]:
    with Lake.open(world.folder) as lake, lake.reading():
        yield lake


def found_in(lake: Lake, window: Window, settings: Settings = SETTINGS) -> ToldReview | None:
    return stored.find(lake, stored.state_of(lake, window, settings), settings)


def kind_of(case: Case) -> str:
    if case.verdict:
        return case.verdict.verdict
    return "alerted" if case.action != "none" else "watched" if case.bits else "ordinary"


def rounded(value: Any) -> Any:
    """`value`, dataclasses as dicts; DuckDB adds up in any order, so the last digits differ."""
    if is_dataclass(value) and not isinstance(value, type):
        return rounded(asdict(value))
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_each_stored_case_is_the_scored_one(world: World, lake: Lake) -> None:
    told = found_in(lake, world.window)
    assert told is not None
    answer, scored = making.make_review(lake, world.window, SETTINGS)
    assert told.suspicious == tuple(scored.suspicious_visits(lake))
    kinds = {kind_of(case) for case in answer.cases}
    assert kinds == {"alerted", "watched", "ordinary", "benign", "compromised", "expected"}
    read = [told.in_full(lake, case, DAYS) for case in told.review.cases]
    assert rounded(read) == rounded(answer.cases)
    assert rounded(replace(told.review, cases=())) == rounded(replace(answer, cases=()))


def test_a_case_of_a_reviewed_window_is_shown_without_scoring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lake.open(world.folder) as lake, lake.reading():
        told = found_in(lake, world.window)
        silent = lake.value(
            "SELECT key_id FROM lake.keys WHERE key_id NOT IN "
            "(SELECT key_id FROM lake.activity WHERE day >= $start)",
            start=world.window.start,
        )
    assert told is not None
    key_ids = {kind_of(case): case.key_id for case in told.review.cases}

    def shown(key_id: str) -> tuple[Case | None, str]:
        answer, case, details = pipeline.case_in_detail(world.folder, key_id, None, SETTINGS)
        return case, render_case(case, answer, details) if case else ""

    with monkeypatch.context() as patched:
        patched.setattr(stored, "find", lambda *_, **__: None)
        scored = shown(key_ids["watched"])
    monkeypatch.setattr("keywatch.review.making.make_review", pytest.fail)
    assert shown(silent) == (None, "")
    for key_id in key_ids.values():
        case, text = shown(key_id)
        assert case is not None
        assert not is_brief(case)
        assert key_id in text
    case, text = shown(key_ids["watched"])
    assert text == scored[1]
    assert case is not None
    assert case.name is not None
    assert shown(case.name) == (case, text)


def test_a_review_of_the_same_lake_is_read_and_not_stored_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.review.making.make_review", pytest.fail)
    with Lake.open(world.folder) as lake:
        before = lake.snapshot
    answer, details = pipeline.review_in_detail(world.folder, world.window, SETTINGS)
    assert {case.key_id for case in answer.alerted()} == {case.key_id for case in details.cases}
    with Lake.open(world.folder) as lake:
        assert lake.snapshot == before
        assert lake.rows("SELECT run_id FROM lake.runs WHERE run_id = $id", id=answer.run.id)


def test_a_review_in_full_is_read_where_it_was_made_in_full(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(world.folder, tmp_path / "lake"))
    scored = pipeline.review(folder, world.window, SETTINGS)
    assert not any(is_brief(case) for case in scored.cases)
    monkeypatch.setattr("keywatch.review.making.make_review", pytest.fail)
    read = pipeline.review(folder, world.window, SETTINGS)
    assert rounded(read.cases) == rounded(scored.cases)
    # To the letter: 0 is not 0.0.
    assert json.dumps(review_document(read)) == json.dumps(review_document(scored))
    # In brief it is as if it had been stored so.
    brief = pipeline.review(folder, world.window, SETTINGS, whole=False)
    with Lake.open(world.folder) as lake, lake.reading():
        before = found_in(lake, world.window)
    assert before is not None
    assert rounded(brief.cases) == rounded(before.review.cases)


class _EnoughError(Exception):
    """Takes back what a test wrote."""


@contextmanager
def changed(world: World, sql: str) -> Iterator[Lake]:
    """The lake of the world after `sql`, which is taken back."""
    with suppress(_EnoughError), Lake.open(world.folder) as lake, lake.writing():
        names = {"start": world.window.start, "end": world.window.end}
        lake.execute(sql, **{name: at for name, at in names.items() if f"${name}" in sql})
        yield lake
        raise _EnoughError


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE lake.activity SET load_id = load_id + 1 WHERE day = $start",
        "INSERT INTO lake.keys BY NAME SELECT 99 AS import_id, 'new' AS key_id",
        "INSERT INTO lake.leaked_keys BY NAME SELECT 'l' AS leak_id",
        "INSERT INTO lake.verdicts BY NAME SELECT 'v' AS verdict_id, 'benign' AS verdict",
        "INSERT INTO lake.flagged_visits SELECT * REPLACE ($start - INTERVAL 7 DAY AS "
        "window_start, $start AS window_end) FROM lake.flagged_visits LIMIT 1",
        "INSERT INTO lake.review_queue VALUES ($start - INTERVAL 7 DAY, $start, 1, true)",
        "INSERT INTO lake.origins FROM (FROM lake.origins LIMIT 1)",
        "INSERT INTO lake.path_templates VALUES ('GET /a/', [], 2)",
        "INSERT INTO lake.maintenance VALUES ($end, 'maintained', $end)",
        "INSERT INTO lake.rejects BY NAME SELECT 'k' AS key_id, 2 AS load_id, $start AS ts",
        "UPDATE lake.runs SET window_start = window_start - INTERVAL 70 DAY",
    ],
)
def test_what_a_review_rests_on_has_it_scored_again(world: World, sql: str) -> None:
    with changed(world, sql) as lake:
        assert found_in(lake, world.window) is None


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO lake.activity BY NAME SELECT * REPLACE (9 AS load_id, "
        "$end::DATE AS day) FROM lake.activity LIMIT 1",
        "INSERT INTO lake.review_queue VALUES ($end, $end + INTERVAL 7 DAY, 1, false)",
        "INSERT INTO lake.rejects BY NAME SELECT 2 AS load_id, $start AS ts",
        "DELETE FROM lake.replays",
    ],
)
def test_what_it_does_not_rest_on_leaves_it(world: World, sql: str) -> None:
    with changed(world, sql) as lake:
        assert found_in(lake, world.window) is not None


def test_settings_detectors_and_what_an_alert_goes_by_are_part_of_it(
    world: World, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_found(**parts: object) -> bool:
        settings = SETTINGS.model_copy(update=parts)
        return found_in(lake, world.window, settings) is not None

    assert is_found(report=ReportSettings(folder=Path("elsewhere")))
    assert not is_found(deliver=DeliverSettings(grow_bits=1.0))
    assert not is_found(scoring=ScoringSettings(revoke_bits=9.0))
    monkeypatch.setattr(stored, "load_detectors", lambda _: load_detectors()[1:])
    assert not is_found()


def test_lines_that_no_run_reads_are_counted_anew(world: World) -> None:
    with changed(
        world, "INSERT INTO lake.rejects BY NAME SELECT 1 AS load_id, $start AS ts"
    ) as lake:
        told = found_in(lake, world.window)
        assert told is not None
        rejected = lake.value("SELECT count(*) FROM lake.rejects")
        assert told.review.coverage.rejected_lines == rejected


def test_after_another_load_a_review_is_scored_and_a_case_is_read(world: World) -> None:
    with changed(
        world,
        "INSERT INTO lake.ingested_files BY NAME SELECT * REPLACE (9 AS load_id, $end AS first_ts) "
        "FROM lake.ingested_files LIMIT 1",
    ) as lake:
        state = stored.state_of(lake, world.window, SETTINGS)
        assert stored.find(lake, state, SETTINGS) is not None
        assert stored.find(lake, state, SETTINGS, same_load=True) is None


def test_the_newest_review_of_each_window_stays(world: World) -> None:
    with changed(world, "DELETE FROM lake.maintenance") as lake:
        windows = "SELECT count(DISTINCT run_id) FROM lake.reviews"
        assert lake.value(windows) == 3
        stored.forget_older(lake)
        assert lake.value(windows) == 2
        assert found_in(lake, world.window) is not None


@pytest.fixture(scope="module")
def reviewed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one key with a stored review."""
    folder = lake_of(tmp_path_factory.mktemp("one"), daily(date(2026, 8, 1), 60), [])
    pipeline.review(folder, None, SETTINGS)
    with Lake.open(folder) as lake:
        assert lake.value("SELECT count(*) FROM lake.reviews") == 1
    return folder


@pytest.fixture
def reviewed(reviewed_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reviewed_once, tmp_path / "lake"))


def test_with_a_key_that_is_forgotten_the_stored_reviews_go(reviewed: Path) -> None:
    found = pipeline.forget(reviewed, "key_1", SETTINGS)
    with Lake.open(reviewed) as lake:
        assert lake.value("SELECT count(*) FROM lake.reviews") == 0
    assert "reviews" not in found.mended


def test_a_repair_deletes_the_stored_reviews_where_it_mends(reviewed: Path) -> None:
    assert repair(reviewed, LakeSettings(), NoWhere(), NOW) == RepairReport()
    with Lake.open(reviewed) as lake:
        assert lake.value("SELECT count(*) FROM lake.reviews") == 1
        with lake.writing():
            lake.execute("DELETE FROM lake.activity WHERE day = '2026-08-02'")
    assert repair(reviewed, LakeSettings(), NoWhere(), NOW).done
    with Lake.open(reviewed) as lake:
        assert lake.value("SELECT count(*) FROM lake.reviews") == 0
