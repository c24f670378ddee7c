"""The alert feed: what is new is loaded, scored once, told once, and agrees with the review."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import InputError, UsageError
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.review.watch import render_watched
from keywatch.settings import IngestSettings, Settings
from keywatch.settings.deliver import DeliverSettings, FileChannel
from tests.command import keywatch
from tests.test_pipeline import AWAY, NO_REPLAY, WEEK, crowd, daily, key, line, theft

NEXT_WEEK = Window(WEEK.end, WEEK.end + timedelta(days=7))


def write(file: Path, events: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return file


def of_days(events: Iterable[dict[str, Any]], first: date, end: date) -> list[dict[str, Any]]:
    return [each for each in events if f"{first}" <= each["timestamp"] < f"{end}"]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs until Wednesday, Thursday's beside it, and a lake with the inventory."""
    folder = tmp_path_factory.mktemp("untouched")
    (folder / "logs").mkdir()
    events = daily(date(2026, 8, 1), 65) + crowd()
    write(
        folder / "logs" / "until-wednesday.jsonl",
        of_days(events, date(2026, 8, 1), date(2026, 10, 1)),
    )
    write(
        folder / "thursday.jsonl",
        of_days([*events, *theft()], date(2026, 10, 1), date(2026, 10, 2)),
    )
    inventory = write(folder / "keys.jsonl", [key()])
    pipeline.import_keys(folder / "lake", inventory, NO_REPLAY)
    return folder


def logs_in(folder: Path, copied: Path) -> Path:
    """The logs of a copy of such a folder."""
    return Path(shutil.copytree(copied, folder, dirs_exist_ok=True)) / "logs"


@pytest.fixture
def place(untouched: Path, tmp_path: Path) -> Path:
    """A folder of logs until Wednesday; nothing was watched yet."""
    return logs_in(tmp_path, untouched)


def watched_thursday(place: Path, settings: Settings) -> None:
    """Thursday's theft is told."""
    (place.parent / "thursday.jsonl").rename(place / "thursday.jsonl")
    pipeline.ingest_new(place.parent / "lake", settings)
    (change,) = pipeline.watch(place.parent / "lake", settings).changes
    assert change.alert.action == "revoke"


@pytest.fixture(scope="module")
def told_once(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `untouched`, after Thursday's theft was told."""
    place = logs_in(tmp_path_factory.mktemp("told"), untouched)
    watched_thursday(place, settings_of(place))
    return place.parent


@pytest.fixture
def told(told_once: Path, tmp_path: Path) -> Path:
    """A folder of logs, of which Thursday's theft was told."""
    return logs_in(tmp_path, told_once)


def settings_of(place: Path, base: Settings = NO_REPLAY) -> Settings:
    channel = FileChannel(kind="file", path=place.parent / "feed.jsonl")
    return base.model_copy(
        update={
            "ingest": IngestSettings(places=(str(place),)),
            "deliver": DeliverSettings(channels={"feed": channel}),
        }
    )


def test_a_theft_is_told_once_when_its_log_is_there(place: Path) -> None:
    lake, settings = place.parent / "lake", settings_of(place, NO_REPLAY)
    assert pipeline.ingest_new(lake, settings) is not None
    before = pipeline.watch(lake, settings)
    assert (before.windows, before.changes) == ((WEEK,), ())
    assert pipeline.ingest_new(lake, settings) is None
    assert pipeline.watch(lake, settings).windows == ()

    (place.parent / "thursday.jsonl").rename(place / "thursday.jsonl")
    assert pipeline.ingest_new(lake, settings) is not None
    watched = pipeline.watch(lake, settings)
    assert (watched.events, watched.keys, watched.windows) == (51, 41, (WEEK,))
    assert [(c.what, c.alert.key_ids) for c in watched.changes] == [("trigger", ("key_1",))]
    assert "status board" in render_watched(watched)
    assert pipeline.watch(lake, settings).changes == ()

    pipeline.deliver_due(lake, settings)
    pipeline.deliver_due(lake, settings)
    messages = [json.loads(text) for text in (place.parent / "feed.jsonl").read_text().splitlines()]
    assert [message["keys"][0]["key_id"] for message in messages] == ["key_1"]


def test_the_review_finds_the_alert_that_the_feed_opened(told: Path) -> None:
    lake, settings = told.parent / "lake", settings_of(told)
    answer = pipeline.review(lake, WEEK, settings)
    assert [(case.key_id, case.action) for case in answer.alerted()] == [("key_1", "revoke")]
    with Lake.open(lake) as opened:
        assert opened.value("SELECT count(*) FROM lake.alerts") == 1
        # The feed keeps the evidence of whom it alerts, the review that of everybody.
        kept = opened.rows(
            "SELECT ends_with(run_id, '-watch'), count(DISTINCT key_id) FROM lake.evidence "
            "GROUP BY ALL ORDER BY ALL"
        )
        flags = opened.value("SELECT count(*) FROM lake.flagged_visits")
    assert kept[-1] == (True, 1)
    assert flags == 1


def test_a_verdict_on_what_the_feed_told_closes_it(told: Path) -> None:
    lake, settings = told.parent / "lake", settings_of(told)
    report = pipeline.give_verdict(lake, "key_1", "benign", settings, by="ana", because="ours")
    assert (report.window, len(report.flagged)) == (WEEK, 1)
    with Lake.open(lake) as opened:
        state = opened.value("SELECT arg_max(state, change) FROM lake.alerts")
    assert state == "closed"


def test_a_revocation_without_use_since_closes_the_alert_without_any_channel(place: Path) -> None:
    lake = place.parent / "lake"
    settings = settings_of(place).model_copy(update={"deliver": DeliverSettings()})
    (place.parent / "thursday.jsonl").rename(place / "thursday.jsonl")
    pipeline.ingest_new(lake, settings)
    pipeline.watch(lake, settings)
    inventory = write(place.parent / "keys.jsonl", [key(revoked_at="2026-10-01T13:00:00Z")])
    pipeline.import_keys(lake, inventory, settings)
    assert pipeline.watch(lake, settings).changes == ()  # the log ends before it could be told
    later = [line(f"2026-10-0{n}T12:00:00", key_id="crowd_00") for n in (2, 3)]
    write(place / "later.jsonl", later)
    pipeline.ingest_new(lake, settings)
    watched = pipeline.watch(lake, settings)
    assert [(change.what, change.alert.state) for change in watched.changes] == [
        ("resolve", "closed")
    ]
    assert "no use since" in render_watched(watched)
    assert pipeline.watch(lake, settings).changes == ()


def test_late_lines_of_the_week_before_are_scored_too(place: Path) -> None:
    lake, settings = place.parent / "lake", settings_of(place)
    pipeline.ingest_new(lake, settings)
    pipeline.watch(lake, settings)
    late = [each | {"timestamp": each["timestamp"].replace("10-01", "09-24")} for each in theft()]
    write(place / "late.jsonl", [*late, line("2026-10-01T09:00:00")])
    pipeline.ingest_new(lake, settings)
    watched = pipeline.watch(lake, settings)
    before = Window(WEEK.start - timedelta(days=7), WEEK.start)
    assert set(watched.windows) == {WEEK, before}
    assert "key_1" in {key_id for each in watched.changes for key_id in each.alert.key_ids}


# ------------------------------------------------------------------------------------ approval


def with_an_executor(place: Path) -> Settings:
    """Of two channels one hears of a revocation once it is approved."""
    files = {name: FileChannel(kind="file", path=place.parent / name) for name in ("feed", "doer")}
    approved = DeliverSettings(channels=files, approved_channels=("doer",))
    return settings_of(place).model_copy(update={"deliver": approved})


@pytest.fixture(scope="module")
def told_of_two(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `untouched`, after Thursday's theft was told with these settings."""
    place = logs_in(tmp_path_factory.mktemp("told-of-two"), untouched)
    watched_thursday(place, with_an_executor(place))
    return place.parent


@pytest.mark.parametrize("approved", [True, False])
def test_a_revocation_is_told_to_the_executor_once_it_is_approved(
    told_of_two: Path, tmp_path: Path, approved: bool
) -> None:
    place = logs_in(tmp_path, told_of_two)
    lake, settings = place.parent / "lake", with_an_executor(place)
    pipeline.deliver_due(lake, settings)
    assert not (place.parent / "doer").exists()
    (waiting,) = pipeline.revokes_to_approve(lake, settings)

    pipeline.settle_revoke(
        lake, waiting.alert_id, settings, approved=approved, by="ana", because="asked the team"
    )
    pipeline.deliver_due(lake, settings)
    feed = [json.loads(text) for text in (place.parent / "feed").read_text().splitlines()]
    assert [each["kind"] for each in feed] == ["trigger", "acknowledge" if approved else "resolve"]
    assert (place.parent / "doer").exists() == approved
    assert pipeline.revokes_to_approve(lake, settings) == []
    with pytest.raises(UsageError, match="no alert"):
        pipeline.settle_revoke(lake, "no", settings, approved=True, by="ana", because="asked")


# ---------------------------------------------------------------------------------- what is new


def test_a_file_that_grew_or_was_written_again_is_loaded_again(place: Path) -> None:
    lake, settings = place.parent / "lake", settings_of(place)
    file = place / "until-wednesday.jsonl"
    pipeline.ingest_new(lake, settings)
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line("2026-09-30T18:00:00")) + "\n")
    grown = pipeline.ingest_new(lake, settings)
    assert grown is not None
    assert grown.total("events") == 1
    text = file.read_text("utf-8")
    file.write_text(text.replace("2026-09-30T18:00:00", "2026-09-30T19:00:00"), "utf-8")
    soon = time.time() + 5
    os.utime(file, (soon, soon))
    again = pipeline.ingest_new(lake, settings)
    assert again is not None
    assert again.total("events") == 1


@pytest.mark.parametrize("name", ["a.jsonl", "ply_live_prod_4f8a2cDDDDbbbbcccc9e1d.jsonl"])
def test_a_file_is_known_by_its_name_though_a_key_stands_in_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs" / name, [line("2026-09-30T18:00:00")])
    choices = Settings(ingest=IngestSettings(places=(str(tmp_path / "logs"),)))
    first = pipeline.ingest_new(tmp_path / "lake", choices)
    assert first is not None
    assert first.total("events") == 1
    # Not even as a file that was loaded before, which would have been read for its hash.
    assert pipeline.ingest_new(tmp_path / "lake", choices) is None


def test_an_empty_place_is_no_mistake_and_one_that_is_not_there_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pipeline.ingest_new(tmp_path / "lake", NO_REPLAY, [str(tmp_path / "empty")]) is None
    with pytest.raises(InputError, match="nowhere"):
        pipeline.ingest_new(tmp_path / "lake", NO_REPLAY, [str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="places"):
        pipeline.ingest_new(tmp_path / "lake", NO_REPLAY)


# --------------------------------------------------------------------------------- missed weeks


def test_weeks_without_a_review_are_made_up(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", daily(date(2026, 8, 1), 65))
    pipeline.ingest(tmp_path / "lake", [str(log)], NO_REPLAY)
    lake = tmp_path / "lake"
    assert pipeline.missed_weeks(lake, NO_REPLAY) == [WEEK]
    first = Window(datetime(2026, 9, 14), datetime(2026, 9, 21))
    pipeline.review(lake, first, NO_REPLAY)
    weeks = pipeline.missed_weeks(lake, NO_REPLAY)
    assert weeks == [
        Window(first.start + timedelta(weeks=n), first.end + timedelta(weeks=n)) for n in (1, 2)
    ]
    for week in weeks:
        pipeline.review(lake, week, NO_REPLAY)
    assert pipeline.missed_weeks(lake, NO_REPLAY) == []


# ------------------------------------------------------------------------------------ the command


def test_the_command_loads_scores_and_sends(place: Path) -> None:
    config = place.parent / "keywatch.toml"
    config.write_text(
        "[scoring]\nfalse_revoke_rate = 0.5\n[review]\npower_keys = 0\nreplayed_windows = 0\n"
        '[deliver.channels.feed]\nkind = "file"\npath = "feed.jsonl"\n',
        encoding="utf-8",
    )
    (place.parent / "thursday.jsonl").rename(place / "thursday.jsonl")
    ran = keywatch("watch", "logs", "--fail-on", "investigate", cwd=place.parent)
    assert ran.code == 1, ran.err
    assert "status board" in ran.out
    assert len((place.parent / "feed.jsonl").read_text().splitlines()) == 1
    again = keywatch("watch", "logs", "--fail-on", "investigate", cwd=place.parent)
    assert again.code == 0, again.err
    assert "No new log lines.\nNo new events to score." in again.out
    silent = keywatch(
        "watch", "logs", "--no-deliver", "--lake", place.parent / "other", cwd=place.parent
    )
    assert "sent" not in silent.out
    assert AWAY not in silent.err


def test_missed_reviews_write_their_pages_and_send(place: Path) -> None:
    config = place.parent / "keywatch.toml"
    config.write_text(
        "[scoring]\nfalse_revoke_rate = 0.5\n[review]\npower_keys = 0\nreplayed_windows = 0\n"
        '[report]\nfolder = "pages"\n'
        '[deliver.channels.feed]\nkind = "file"\npath = "feed.jsonl"\n',
        encoding="utf-8",
    )
    events = daily(date(2026, 8, 1), 66) + crowd()
    write(place / "rest.jsonl", [*of_days(events, date(2026, 10, 1), date(2026, 10, 6)), *theft()])
    assert keywatch("ingest", "logs", cwd=place.parent).code == 0
    ran = keywatch("review", "--missed", "--fail-on", "revoke", cwd=place.parent)
    assert ran.code == 1, ran.err
    assert "key_1" in (place.parent / "pages" / "2026-W40.html").read_text("utf-8")
    assert len((place.parent / "feed.jsonl").read_text().splitlines()) == 1
    again = keywatch("review", "--missed", "--fail-on", "revoke", cwd=place.parent)
    assert again.code == 0, again.err
    assert "All past weeks have been reviewed." in again.out
    assert keywatch("review", "--missed", "--format", "json", cwd=place.parent).code == 2
