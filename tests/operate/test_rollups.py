"""Roll-ups made anew from the events: the same row by row as those that grew with the loads."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch.lake import Lake
from keywatch.operate import maintain, rollups
from keywatch.operate.rollups import rebuild, render_rebuilt
from keywatch.settings import LakeSettings
from tests.command import keywatch
from tests.conftest import Loading, NoWhere, event
from tests.load.test_path_templates import customers, day, one
from tests.load.test_principals import ROLE, record, session_of

MADE_ANEW = (*rollups.ROLLUPS, "origins")
NOW = datetime(2026, 11, 1)


def nights(first: datetime, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Requests around midnight, some at the same time, of a few keys and addresses."""
    draw = random.Random(seed)
    for n in range(count):
        moment = first + timedelta(minutes=draw.randrange(48 * 60))
        yield event(
            timestamp=f"{moment.isoformat()}Z", request_id=f"{seed}-{n}",
            key_id=f"key_{draw.randrange(3)}", ip=f"81.2.69.{draw.randrange(1, 4)}",
            endpoint=f"/v1/{draw.choice(['checks', 'members', 'keys'])}/{draw.randrange(9)}",
            status=draw.choice([200, 200, 403, 404]), bytes=draw.randrange(999),
        )  # fmt: skip


@pytest.fixture(scope="module")
def grown_once(empty_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many loads: pruned days, learnt templates, sessions, events held back, midnights, parts."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(empty_lake, folder / "lake")
    with Lake.open(folder / "lake") as lake:
        grow(Loading(folder, lake))
    return folder


@pytest.fixture
def grown(grown_once: Path, tmp_path: Path) -> Iterator[Loading]:
    """A copy of the lake that grew."""
    shutil.copytree(grown_once, tmp_path, dirs_exist_ok=True)
    with Lake.open(tmp_path / "lake") as lake:
        yield Loading(tmp_path, lake)


def grow(loading: Loading) -> None:
    loading.take(nights(datetime(2026, 5, 1), 40, seed=1), "old.jsonl", now=NOW)
    for n in range(4):
        loading.take([*day(n, customers(n), one)], f"{n}.jsonl", now=NOW)
    role = session_of("etl", "nightly", ROLE)
    loading.take(
        [record(n, f"ASIAQ3WR{n // 2:012}", role) for n in range(6)], "trail.json", now=NOW
    )
    for n in range(3):
        loading.take(
            nights(datetime(2026, 10, 1 + n), 300, seed=2 + n), f"night-{n}.jsonl", now=NOW
        )
    ahead = [event(timestamp="2026-11-04T10:00:00Z", request_id="ahead")]
    loading.take(ahead, "ahead.jsonl", now=NOW)
    loading.take([event(timestamp="2026-11-05T00:10:00Z", request_id="then")], "then.jsonl",
                 now=datetime(2026, 11, 5))  # fmt: skip
    maintain.maintain(loading.lake, LakeSettings(keep_events_days=90), now=datetime(2026, 11, 5))


def tables(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    return {name: lake.rows(f"FROM lake.{name} ORDER BY ALL") for name in MADE_ANEW}


def sums(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: lake.rows(
            f"SELECT key_id, {day_of}, address, sum(events) FROM lake.{table} "
            "GROUP BY ALL ORDER BY ALL"
        )
        for table, day_of in rollups.ROLLUPS.items()
    }


def spoil(lake: Lake) -> None:
    """Damage roll-ups of days whose events are kept, in every way a bug could have."""
    kept = "day >= '2026-09-01'"
    lake.execute(f"DELETE FROM lake.activity WHERE {kept} AND events > 1")
    lake.execute(f"INSERT INTO lake.activity FROM lake.activity WHERE {kept} LIMIT 3")
    lake.execute(f"UPDATE lake.transitions SET previous = 'GET /wrong' WHERE {kept}")
    lake.execute("DELETE FROM lake.activity_hours WHERE hour >= '2026-10-01'")
    lake.execute("UPDATE lake.sessions SET events = 99")
    lake.execute("DELETE FROM lake.origins")
    lake.execute("INSERT INTO lake.replays BY NAME SELECT 'old' AS method")


def test_what_grew_is_what_is_rebuilt_and_nothing_is_written(grown: Loading) -> None:
    lake = grown.lake
    before, snapshot = tables(lake), lake.snapshot
    assert all(before.values())
    assert lake.value("SELECT count(*) FROM lake.path_templates") == 1
    done = rebuild(lake, NoWhere())
    assert (done.rows, done.located, done.days, done.older_days) == ({}, 0, 11, 2)
    assert (tables(lake), lake.snapshot) == (before, snapshot)
    assert [*render_rebuilt(done)] == [
        "The roll-ups of 11 days agree with the events.",
        "2 older days without events kept their roll-ups.",
    ]


@pytest.mark.parametrize("events_at_once", [10, 100, rollups._EVENTS_AT_ONCE])
def test_a_lake_that_was_spoilt_is_as_it_grew_after_one_commit(
    grown: Loading, events_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_EVENTS_AT_ONCE", events_at_once)
    lake = grown.lake
    before, counted = tables(lake), sums(lake)
    with lake.writing():
        spoil(lake)
    snapshot = lake.snapshot
    done = rebuild(lake, NoWhere())
    assert set(done.rows) == set(rollups.ROLLUPS)
    assert (done.located, lake.snapshot) == (len(before["origins"]), snapshot + 1)
    assert lake.value("SELECT count(*) FROM lake.replays") == 0
    after = tables(lake)
    # Of addresses, the load that located them is another.
    of_origins = [[row[:-1] for row in each["origins"]] for each in (before, after)]
    assert of_origins[0] == of_origins[1]
    if events_at_once > 1000:
        assert {**after, "origins": []} == {**before, "origins": []}
        return
    # In smaller parts: the same requests, and the very rows of the pruned days.
    assert sums(lake) == counted
    for table in ("activity", "transitions"):
        of_may = [[row for row in each[table] if row[1].month == 5] for each in (before, after)]
        assert of_may[0] == of_may[1] != []


def test_the_command_says_what_it_did_and_maintains(grown: Loading) -> None:
    with grown.lake.writing():
        spoil(grown.lake)
    grown.lake.close()
    ran = keywatch("lake", "maintain", "--rebuild", cwd=grown.folder)
    assert (ran.code, ran.err) == (0, "")
    assert "The roll-ups of 11 days were rebuilt from the events:\n  activity" in ran.out
    assert " became " in ran.out
    again = keywatch("lake", "maintain", "--rebuild", cwd=grown.folder)
    assert again.out.startswith("The roll-ups of 11 days agree with the events.")


def test_without_a_lake_it_exits_as_maintain_does(tmp_path: Any) -> None:
    for words in (["maintain"], ["maintain", "--rebuild"]):
        ran = keywatch("lake", *words, cwd=tmp_path)
        assert (ran.code, ran.err.startswith("keywatch: lake: no lake found")) == (3, True)
