"""Late data: every week that new lines touch is scored once more, told as late, and lost never."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.deliver.message import alert_message
from keywatch.detect import detectors
from keywatch.lake import Lake
from keywatch.lake.weeks import week_window
from keywatch.load import late
from keywatch.model import Window
from keywatch.review import making
from keywatch.vendors import catalogue_by_source
from tests.conftest import Loading, event
from tests.lake.older_formats import take_back
from tests.test_pipeline import AWAY, NO_REPLAY, daily, lake_of, line, theft

NOW = datetime(2026, 10, 14, 12)
W36, W38, W39, W40, W41, W42 = (week_window(f"2026-W{n}") for n in (36, 38, 39, 40, 41, 42))


def of_days(*days: str, **fields: Any) -> list[dict[str, Any]]:
    return [event(timestamp=f"{day}T12:00:00Z", **fields) for day in days]


def waiting(lake: Lake) -> list[tuple[Window, bool, bool]]:
    return [(each.window, each.is_late, each.is_old) for each in late.queued(lake, 4, NOW)]


# ---------------------------------------------------------------------------------------- the queue


def test_a_first_load_queues_the_newest_week_and_a_later_one_all_that_it_touches(
    quick: Loading,
) -> None:
    quick.take(of_days("2026-08-03", "2026-10-04", "2026-10-13"), "1.jsonl", now=NOW)
    assert waiting(quick.lake) == [(W42, False, False)]
    quick.take(of_days("2026-08-04", "2026-09-15", "2026-10-05", "2026-10-14"), "2.jsonl", now=NOW)
    assert waiting(quick.lake) == [
        (week_window("2026-W32"), True, True),
        (W38, True, False),
        (W41, True, False),
        (W42, False, False),
    ]


def test_lines_of_the_day_after_a_week_are_not_late(quick: Loading) -> None:
    quick.take(of_days("2026-10-01", "2026-10-11"), "1.jsonl", now=NOW)
    quick.take(of_days("2026-10-10", "2026-10-12"), "2.jsonl", now=NOW)
    assert waiting(quick.lake) == [(W41, False, False), (W42, False, False)]


def test_a_load_that_comes_while_a_week_is_scored_stays_in_the_queue(quick: Loading) -> None:
    quick.take(of_days("2026-10-13"), "1.jsonl", now=NOW)
    (queued,) = late.queued(quick.lake, 4, NOW)
    quick.take(of_days("2026-10-14"), "2.jsonl", now=NOW)
    late.leave(quick.lake, queued)
    assert [each.load_id for each in late.queued(quick.lake, 4, NOW)] == [2]


@pytest.mark.parametrize(("watched", "expected"), [(1, [W41, W42]), (2, []), (None, [W42])])
def test_a_lake_of_format_4_queues_what_its_feed_had_not_looked_at(
    loading: Loading, watched: int | None, expected: list[Window]
) -> None:
    loading.take(of_days("2026-08-03", "2026-09-28", "2026-10-04"), "1.jsonl", now=NOW)
    loading.take(of_days("2026-10-05", "2026-10-13"), "2.jsonl", now=NOW)
    with loading.lake.writing():
        take_back(loading.lake, 4)
        if watched is not None:
            loading.lake.execute(f"INSERT INTO lake.watches VALUES ({watched}, NULL)")
    with Lake.open(loading.folder / "lake") as lake:
        assert [each.window for each in late.queued(lake, 4, NOW)] == expected


def test_late_lines_are_no_part_of_what_is_usual_until_they_are_scored(quick: Loading) -> None:
    quick.take(of_days("2026-09-21", "2026-10-12"), "1.jsonl", now=NOW)
    quick.take(of_days("2026-09-22", ip=AWAY), "2.jsonl", now=NOW)

    def usual() -> list[tuple[str]]:
        detectors.prepare(quick.lake, W42, 90, catalogue_by_source())
        return quick.lake.rows("SELECT DISTINCT day::VARCHAR FROM baseline ORDER BY ALL")

    assert usual() == [("2026-09-21",)]
    for each in late.queued(quick.lake, 4, NOW):
        late.leave(quick.lake, each)
    assert usual() == [("2026-09-21",), ("2026-09-22",)]


# ------------------------------------------------------------------------- the feed and the review


def stolen_on(day: str, key_id: str) -> list[dict[str, Any]]:
    """A theft of another week, from a Tor exit: the rule names it where nothing is calibrated."""
    return [
        each | {"timestamp": each["timestamp"].replace("2026-10-01", day), "ip": "185.220.101.1"}
        for each in theft(key_id)
    ]


def load(lake: Path, events: Iterable[dict[str, Any]], name: str) -> None:
    file = lake.parent / name
    file.write_text("".join(json.dumps(each) + "\n" for each in events), encoding="utf-8")
    pipeline.ingest(lake, [str(file)], NO_REPLAY)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Four keys from 1 August to Wednesday 14 October; the feed has scored the last week."""
    keys = [f"key_{n}" for n in range(1, 5)]
    events = [each for key_id in keys for each in daily(date(2026, 8, 1), 75, key_id=key_id)]
    made = lake_of(tmp_path, events, [])
    with Lake.open(made) as opened, opened.writing():
        opened.execute("DELETE FROM lake.review_queue")
    return made


def flagged(lake: Path) -> list[str]:
    with Lake.open(lake) as opened:
        return [
            key_id
            for (key_id,) in opened.rows(
                "SELECT DISTINCT key_id FROM lake.flagged_visits ORDER BY key_id"
            )
        ]


def test_a_delivery_of_three_weeks_is_scored_whole_and_told_as_late(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_lines = [
        *stolen_on("2026-09-03", "key_1"), *stolen_on("2026-09-17", "key_2"),
        *stolen_on("2026-09-24", "key_3"), line("2026-10-14T15:00:00"),
    ]  # fmt: skip
    load(lake, late_lines, "late.jsonl")

    # The feed is killed when it has scored one of them.
    keep_news = making.keep_news
    kept: list[Window] = []

    def killed(lake: Lake, answer: Any, *rest: Any) -> Any:
        if kept:
            raise KeyboardInterrupt
        kept.append(answer.window)
        return keep_news(lake, answer, *rest)

    monkeypatch.setattr("keywatch.review.making.keep_news", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.watch(lake, NO_REPLAY)
    monkeypatch.undo()
    assert kept == [W38]
    with Lake.open(lake) as opened:
        assert [each.window for each in late.queued(opened, 4)] == [W36, W39, W42]
        first = opened.rows("SELECT key_ids, why FROM lake.alerts")
    assert [key_ids for key_ids, _ in first] == [["key_2"]]
    assert first[0][1].startswith("log lines came late, about the earlier week 2026-W38")

    watched = pipeline.watch(lake, NO_REPLAY)
    assert watched.windows == (W39, W42, W36)
    told = [(change.alert.key_ids, change.alert.is_late) for change in watched.changes]
    assert told == [(("key_3",), True)]
    message = alert_message(watched.changes[0])
    assert message.title.endswith("(late: 2026-W39)")
    assert "the earlier week 2026-W39" in message.why
    # What is older is kept, and nobody is told.
    assert flagged(lake) == ["key_1", "key_2", "key_3"]
    assert pipeline.watch(lake, NO_REPLAY).windows == ()


def test_a_week_that_was_reviewed_is_opened_again_for_late_lines(lake: Path) -> None:
    for window in (W40, W41):
        pipeline.review(lake, window, NO_REPLAY)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == []
    load(lake, stolen_on("2026-10-01", "key_3"), "late.jsonl")
    assert pipeline.missed_weeks(lake, NO_REPLAY) == [W40]
    before = pipeline.review(lake, W41, NO_REPLAY, keep=False)
    assert "Late log lines of 2026-W40" in " ".join(before.coverage.notes)

    # The feed tells of it; the page is of before, so the review makes it again, and tells no more.
    (change,) = pipeline.watch(lake, NO_REPLAY).changes
    assert (change.alert.key_ids, change.alert.is_late) == (("key_3",), True)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == [W40]
    pipeline.review(lake, W40, NO_REPLAY)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == []
    with Lake.open(lake) as opened:
        assert opened.value("SELECT count(*) FROM lake.alerts") == 1
    after = pipeline.review(lake, W41, NO_REPLAY, keep=False)
    assert "Late" not in " ".join(after.coverage.notes)


def test_without_a_feed_the_missed_review_tells_of_late_lines(lake: Path) -> None:
    for window in (W39, W41):
        pipeline.review(lake, window, NO_REPLAY)
    lines = [*stolen_on("2026-09-03", "key_1"), *stolen_on("2026-09-24", "key_3")]
    load(lake, lines, "late.jsonl")
    assert pipeline.missed_weeks(lake, NO_REPLAY) == [W36, W39]
    for window in (W36, W39):
        pipeline.review(lake, window, NO_REPLAY)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == []
    with Lake.open(lake) as opened:
        told = opened.rows("SELECT key_ids, why FROM lake.alerts")
        runs = opened.value("SELECT count(*) FROM lake.runs WHERE window_start = '2026-08-31'")
    assert [key_ids for key_ids, _ in told] == [["key_3"]]
    assert told[0][1].startswith("log lines came late")
    assert runs == 1
    assert timedelta(days=7) == W36.end - W36.start
