"""Events ahead of the clock: held back, counted, let in when their time comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.lake.weeks import is_newest_week, last_event, last_full_week
from keywatch.load.ingest import let_in_due
from keywatch.model import Window
from keywatch.report import render_load
from keywatch.settings import IngestSettings
from tests.command import keywatch
from tests.conftest import Loading, event, tables_of
from tests.test_pipeline import NO_REPLAY, lake_of

NOW = datetime(2026, 10, 6, 12)
LAST_WEEK = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))


def at(moment: str, n: int = 0, **fields: Any) -> dict[str, Any]:
    return event(timestamp=f"{moment}Z", request_id=f"req_{moment}_{n}", **fields)


ON_TIME = [at("2026-09-20T12:00:00"), at("2026-10-05T12:00:00"), at("2026-10-06T11:00:00")]
AHEAD = [
    at("2062-03-01T00:00:00"),
    at("2026-10-07T12:00:01", endpoint="/v1/checks?key=ply_live_prod_4f8a2c9d8e7b6a5f4f8a2c9d8e7b"),
]


def held(lake: Lake) -> list[datetime]:
    return [ts for (ts,) in lake.rows("SELECT ts FROM lake.held_back ORDER BY ts")]


def test_what_is_ahead_by_more_than_a_day_is_held_back_and_counted(quick: Loading) -> None:
    within = at("2026-10-07T12:00:00")
    report = quick.take([*ON_TIME, within, *AHEAD], now=NOW)
    (file,) = report.files
    assert (file.lines, file.events, file.held_back) == (6, 4, 2)
    assert (file.first_ts, file.last_ts) == (datetime(2026, 9, 20, 12), datetime(2026, 10, 7, 12))
    assert held(quick.lake) == [datetime(2026, 10, 7, 12, 0, 1), datetime(2062, 3, 1)]
    assert "2 events dated in the future, held back" in render_load(report)
    (path,) = quick.lake.rows("SELECT path FROM lake.held_back WHERE day < '2030-01-01'")[0]
    assert "4f8a2c9d8e7b6a5f" not in path
    assert quick.lake.value("SELECT held_back FROM lake.ingested_files") == 2
    # A file that grew has the same lines again.
    again = quick.take([*ON_TIME, within, *AHEAD, at("2026-10-06T11:30:00")], "2.jsonl", now=NOW)
    assert (again.total("duplicates"), again.total("events")) == (6, 1)
    assert len(held(quick.lake)) == 2


def test_how_far_ahead_is_a_setting(quick: Loading) -> None:
    quick.take([*ON_TIME, *AHEAD], now=NOW, most_ahead_hours=48)
    assert held(quick.lake) == [datetime(2062, 3, 1)]


def test_they_come_in_when_their_time_comes_as_if_they_had_been_loaded_then(
    quick: Loading,
) -> None:
    soon = [at("2026-10-07T12:30:00", n, key_id=f"key_{n}") for n in range(3)]
    quick.take([*ON_TIME, *soon], now=NOW)
    assert len(held(quick.lake)) == len(soon)
    quick.lake.execute(
        "INSERT INTO lake.held_back SELECT * REPLACE (NULL AS key_id) FROM lake.held_back LIMIT 1"
    )
    later = NOW + timedelta(days=2)
    report = quick.take([at("2026-10-06T12:00:00")], "later.jsonl", now=later)
    assert (report.let_in, held(quick.lake)) == (4, [])
    # The record of what came in spans it: a run or a replay of those days is made anew.
    spans = "SELECT first_ts, last_ts FROM lake.ingested_files WHERE events = 4 AND lines = 4"
    assert quick.lake.rows(f"{spans} AND sha256 = ''") == [
        (datetime(2026, 10, 6, 12), datetime(2026, 10, 7, 12, 30))
    ]
    assert "4 events released that had been held back" in render_load(report)
    with Lake.in_memory() as other:
        whole = Loading(quick.folder, other)
        whole.take([*ON_TIME, *soon, at("2026-10-06T12:00:00")], "whole.jsonl", now=later)
        expected, found = tables_of(other), tables_of(quick.lake)
    for table in ("events", "activity_hours", "held_back", "origins"):
        assert found[table] == expected[table], table
    assert quick.lake.value("SELECT sum(events) FROM lake.activity") == 7
    assert quick.lake.value("SELECT count(*) FROM lake.keyless_events") == 1
    assert quick.lake.value("SELECT max(load_id) FROM lake.ingested_files") == 2


def test_without_a_new_file_they_come_in_as_well(quick: Loading) -> None:
    quick.take([*ON_TIME, *AHEAD], now=NOW)
    assert let_in_due(quick.lake, IngestSettings(), now=NOW) == 0
    assert let_in_due(quick.lake, IngestSettings(), now=NOW + timedelta(days=1)) == 1
    assert held(quick.lake) == [datetime(2062, 3, 1)]
    # What was scored before is scored anew: it counts as a load.
    loads = quick.lake.rows("SELECT load_id, path, lines FROM lake.ingested_files ORDER BY load_id")
    assert loads[1] == (2, "(held back until now)", 1)
    assert quick.lake.value("SELECT max(load_id) FROM lake.activity") == 2


def test_where_all_is_ahead_the_clock_is_doubted_and_not_the_log(quick: Loading) -> None:
    report = quick.take(AHEAD, now=NOW)
    assert (report.total("events"), report.total("held_back"), report.let_in) == (2, 0, 0)
    assert report.clock_is_doubted
    assert "this machine's clock" in render_load(report)
    assert held(quick.lake) == []
    assert last_event(quick.lake, NOW) == datetime(2062, 3, 1)
    # Until there is something else.
    report = quick.take(ON_TIME, "2.jsonl", now=NOW)
    assert not report.clock_is_doubted
    assert held(quick.lake) == [datetime(2062, 3, 1)]
    for table in ("events", "activity", "transitions"):
        assert quick.lake.value(f"SELECT max(day)::VARCHAR FROM lake.{table}") == "2026-10-07"
    assert quick.lake.value("SELECT max(hour)::DATE::VARCHAR FROM lake.activity_hours") < "2027"


def test_the_clock_bounds_which_weeks_exist_in_a_lake_that_has_one_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Keywatch left it before it held events back."""
    lake = lake_of(tmp_path, ON_TIME, [])
    with Lake.open(lake) as opened, opened.writing():
        for table, moment in (("activity", "last_ts"), ("events", "ts")):
            opened.execute(
                f"INSERT INTO lake.{table} BY NAME SELECT * REPLACE ('2062-03-01'::DATE AS day, "
                f"'2062-03-01'::TIMESTAMP AS {moment}) FROM lake.{table} LIMIT 1"
            )
    with Lake.open(lake) as opened:
        assert last_event(opened, NOW) == datetime(2026, 10, 6, 11)
        assert last_full_week(opened, NOW) == LAST_WEEK
        assert is_newest_week(opened, LAST_WEEK, NOW)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == [LAST_WEEK]
    pipeline.watch(lake, NO_REPLAY)
    with Lake.open(lake) as opened:
        assert held(opened) == [datetime(2062, 3, 1)]
        assert opened.value("SELECT max(day)::VARCHAR FROM lake.activity") == "2026-10-06"
        # Such a week was reviewed, before there was a clock to ask.
        opened.execute(
            "INSERT INTO lake.runs BY NAME SELECT 'far' AS run_id, "
            "'2062-02-27'::TIMESTAMP AS window_start, '2062-03-06'::TIMESTAMP AS window_end"
        )
    answer = pipeline.review(lake, None, NO_REPLAY)
    assert answer.window == LAST_WEEK
    assert answer.coverage.held_back_events == 1
    assert pipeline.missed_weeks(lake, NO_REPLAY) == []
    with pytest.raises(UsageError, match=r"nothing was flagged|was not used"):
        pipeline.give_verdict(lake, "key_0700353", "benign", NO_REPLAY, by="ana", because="ours")
    ran = keywatch("doctor", "--lake", lake)
    assert "1 event of 1 key held back as dated in the future: 2062-03-01" in ran.out
