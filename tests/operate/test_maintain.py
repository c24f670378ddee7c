"""Upkeep: few files that read the same, and nothing left of what is forgotten."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from keywatch import pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.operate import maintain
from keywatch.settings import LakeSettings
from tests.command import keywatch
from tests.conftest import Loading, event, tables_of
from tests.test_pipeline import AWAY, HOME, NO_REPLAY, WEEK, crowd, daily, key, lake_of, theft

KEEP_ONE_DAY = LakeSettings(keep_snapshots_days=1)


def five_minutes(nth: int) -> list[dict[str, Any]]:
    """A request of one key, five minutes after the one before."""
    moment = datetime(2026, 9, 30) + timedelta(minutes=5 * nth)
    return [event(timestamp=f"{moment.isoformat()}Z", request_id=f"req_{nth}")]


def test_loads_every_five_minutes_become_a_few_files_that_read_the_same(loading: Loading) -> None:
    lake, loads = loading.lake, 8
    for nth in range(loads):
        loading.take(five_minutes(nth), f"{nth}.jsonl")
    stranger = loading.folder / "lake" / "data" / "stranger.parquet"
    stranger.write_bytes(b"not ours")
    before = loading.tables()
    with lake.writing():
        lake.execute(
            "INSERT INTO lake.runs BY NAME SELECT 'run' AS run_id, $start AS window_start, "
            "$end AS window_end, $snapshot AS lake_snapshot",
            start=WEEK.start,
            end=WEEK.end,
            snapshot=lake.snapshot,
        )
    many = 6 * loads
    assert maintain.file_count(lake) > many
    reader = Lake.open(loading.folder / "lake")
    with reader, reader.reading():
        done = maintain.maintain(lake, KEEP_ONE_DAY)
        assert (done.files_before > many, done.files_after < 12) == (True, True)
        assert done.files_after == maintain.file_count(lake)
        # Who reads an older snapshot has its files for a day, and a run is young for so long.
        assert (done.files_removed, done.snapshots_expired, done.unrepeatable) == (0, 0, ())
        assert reader.value("SELECT count(*) FROM lake.events") == loads
    assert loading.tables() == before

    later = maintain.maintain(lake, KEEP_ONE_DAY, now=utc_now() + timedelta(days=2))
    assert later.unrepeatable == (WEEK,)
    assert later.snapshots_expired > loads
    assert later.files_removed >= many
    assert loading.parquet_files() - {stranger} >= loading.listed_files()
    assert len(loading.parquet_files()) < 20
    assert stranger.exists()
    assert loading.tables() == before
    told = list(maintain.render_maintained(later))
    assert "can't be repeated on the data they used any more: 2026-W40" in " ".join(told)


def test_a_review_reads_the_same_after(stolen: Path) -> None:
    before = pipeline.review(stolen, WEEK, NO_REPLAY, keep=False)
    pipeline.maintain(stolen, NO_REPLAY)
    after = pipeline.review(stolen, WEEK, NO_REPLAY, keep=False)
    assert (after.run.id, after.cases, after.coverage) == (
        before.run.id,
        before.cases,
        before.coverage,
    )


def test_old_events_are_pruned_their_roll_ups_stay_and_come_not_again(loading: Loading) -> None:
    lines = [event(timestamp=f"2026-0{n}-15T12:00:00Z", request_id=str(n)) for n in range(5, 10)]
    loading.take(lines, now=datetime(2026, 9, 16))
    before = loading.tables()
    keep = LakeSettings(keep_events_days=60)
    # A clock that is years ahead takes nothing more away.
    for now in (datetime(2026, 9, 16), datetime(2062, 3, 1)):
        done = maintain.maintain(loading.lake, keep, now=now)
        assert done.events_before == date(2026, 7, 17)
    with loading.lake.writing():
        loading.lake.execute("UPDATE lake.maintenance SET made_at = '2026-09-16'")
    months = loading.lake.rows("SELECT month(day) FROM lake.events ORDER BY day")
    assert months == [(8,), (9,)]
    again = loading.take([*lines, event(timestamp="2026-09-15T13:00:00Z")], "again.jsonl")
    assert (again.total("duplicates"), again.total("events")) == (5, 1)
    after = loading.tables()
    assert [row for row in after["activity"] if row in before["activity"]] == before["activity"]
    assert loading.lake.value("SELECT sum(events) FROM lake.activity") == 6
    assert maintain.maintain(loading.lake, LakeSettings()).events_pruned == 0


def test_the_feed_does_it_once_a_day(loading: Loading) -> None:
    lake = loading.lake
    assert not maintain.is_due(lake)
    loading.take(five_minutes(0))
    now = utc_now()
    assert not maintain.is_due(lake, now)
    assert maintain.maintain_if_due(lake, LakeSettings()) is None
    assert maintain.is_due(lake, now + timedelta(days=1, minutes=1))
    with lake.writing():
        lake.execute("UPDATE lake.ingested_files SET loaded_at = loaded_at - INTERVAL 25 HOUR")
    pipeline.watch(loading.folder / "lake", NO_REPLAY)
    assert lake.rows("SELECT what FROM lake.maintenance") == [("maintained",)]
    assert not maintain.is_due(lake, now)


def test_many_loads_are_merged_before_the_day_is_over(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain, "_MOST_LOADS", 3)
    due = []
    for nth in range(4):
        loading.take(five_minutes(nth), f"{nth}.jsonl")
        due.append(maintain.is_due(loading.lake))
        if due[-1]:
            assert maintain.maintain_if_due(loading.lake, LakeSettings()) is not None
    assert due == [False, False, True, False]
    assert loading.lake.value("SELECT count(*) FROM lake.events") == 4


# -------------------------------------------------------------------------------------- to forget


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A review with an alert of key_1, a verdict of it, and a reject that names it."""
    events = daily(date(2026, 8, 25), 41) + theft() + crowd(12)
    events += daily(date(2026, 8, 25), 41, key_id="key_10", user_agent="key_1 proxy/1.0")
    events += [{"key_id": "key_1", "ip": AWAY, "timestamp": "2026-10-01"}]
    folder = tmp_path_factory.mktemp("stolen")
    lake = lake_of(folder, events, [key(), key("key_10", name="other", replaces="key_1")])
    pipeline.review(lake, WEEK, NO_REPLAY)
    pipeline.give_verdict(lake, "key_1", "compromised", NO_REPLAY, by="ana", because="key_1 leaked")
    return lake


def in_any_file(lake: Path, mark: str) -> list[str]:
    """The files of the lake that hold `mark`, Parquet read as what it is."""
    found = []
    for file in sorted(lake.rglob("*")):
        if file.suffix == ".parquet":
            text = str(duckdb.sql(f"SELECT * FROM '{file}'").fetchall())
            text += str(duckdb.sql(f"SELECT * FROM parquet_metadata('{file}')").fetchall())
        elif file.is_file():
            text = file.read_bytes().decode("latin-1")
        else:
            continue
        text = text.replace("key_10", "")
        if mark in text:
            found.append(file.name)
    return found


def test_a_key_is_forgotten_everywhere(stolen: Path) -> None:
    assert in_any_file(stolen, "key_1")
    with Lake.open(stolen) as lake:
        others = lake.rows("SELECT count(*) FROM lake.events WHERE key_id <> 'key_1'")
    asked = keywatch("lake", "forget", "key_1", "--lake", stolen)
    assert asked.code == 2
    assert "--yes" in asked.err
    assert in_any_file(stolen, "key_1")
    aside = stolen / "set-aside-20261001T000000Z"
    aside.mkdir()
    ran = keywatch("lake", "forget", "key_1", "--yes", "--lake", stolen)
    assert ran.code == 0, ran.err
    assert f"{aside} was set aside by a repair and may contain it" in ran.out
    tables = {row.split()[0] for row in ran.out.splitlines() if "deleted" in row}
    assert tables >= {
        "activity", "activity_hours", "alerts", "cases", "events", "evidence", "flagged_visits",
        "keys", "recommendations", "rejects", "transitions", "verdicts",
    }  # fmt: skip
    assert in_any_file(stolen, "key_1") == []
    with Lake.open(stolen) as lake:
        assert lake.rows("SELECT count(*) FROM lake.events WHERE key_id <> 'key_1'") == others
        agents = lake.rows("SELECT DISTINCT user_agent FROM lake.events WHERE key_id = 'key_10'")
        assert agents == [("[forgotten] proxy/1.0",)]
        assert lake.rows("SELECT DISTINCT replaces FROM lake.keys WHERE key_id = 'key_10'") == [
            ("[forgotten]",)
        ]
        # Nothing is pruned by bounds that are not there any more.
        assert lake.value("SELECT count(*) FROM lake.events WHERE key_id = 'crowd_00'") == 65
        pending = "SELECT count(*) FROM lake.maintenance WHERE what = 'to purge'"
        assert lake.value(pending) == 0
    again = keywatch("lake", "forget", "key_1", "--yes", "--lake", stolen)
    assert (again.code, "no such key or address" in again.err) == (2, True)


def test_an_address_is_forgotten_and_one_that_begins_alike_is_not(loading: Loading) -> None:
    lines = [
        event(timestamp=f"2026-09-30T0{n}:00:00Z", ip=ip, request_id=str(n))
        for n, ip in enumerate(["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.10", HOME])
    ]
    loading.take(lines)
    with loading.lake.writing():
        loading.lake.execute(
            "INSERT INTO lake.alerts BY NAME SELECT 'a' AS alert_id, 1 AS change, "
            "['key_0700353', 'other'] AS key_ids, 'from 192.0.2.1. and 192.0.2.10' AS why, "
            """'{"ip": "192.0.2.1", "prefix": "192.0.2.0/24"}'::JSON AS document"""
        )
    done = maintain.forget(loading.lake, "192.0.2.1")
    assert done.deleted["events"] >= 1
    addresses = loading.lake.rows("SELECT DISTINCT address FROM lake.events ORDER BY ALL")
    assert addresses == [("192.0.2.10",), (HOME,)]
    assert loading.lake.rows("SELECT why, document ->> 'ip', key_ids FROM lake.alerts") == [
        ("from [forgotten]. and 192.0.2.10", "[forgotten]", ["key_0700353", "other"])
    ]
    mark = "192.0.2.1"
    left = [text for text in map(str, tables_of(loading.lake).values()) if f"'{mark}'" in text]
    assert left == []


def test_a_purge_that_was_killed_is_made_up(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.take([event(key_id="key_1"), event(key_id="key_2")])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keywatch.operate.maintain._purge", killed)
    with pytest.raises(KeyboardInterrupt):
        maintain.forget(loading.lake, "key_1")
    monkeypatch.undo()
    assert in_any_file(loading.folder / "lake", "key_1")
    maintain.maintain(loading.lake, LakeSettings())
    assert in_any_file(loading.folder / "lake", "key_1") == []


def test_a_name_of_two_keys_and_a_typo_are_refused(loading: Loading) -> None:
    loading.take([event(key_id="key_1")])
    with pytest.raises(UsageError, match="no such key or address"):
        maintain.forget(loading.lake, "key_11")
    with loading.lake.writing():
        loading.lake.execute(
            "INSERT INTO lake.keys BY NAME SELECT unnest(['key_1', 'key_2']) AS key_id, "
            "'web' AS name, 1 AS import_id"
        )
    with pytest.raises(UsageError, match="2 keys: key_1, key_2"):
        maintain.forget(loading.lake, "web")


WORDS = ("GET", "ana", "v1", "checks", "cli", "192.0.2.0/24", "192.0.2.99", "Pulsely", "", " ")


def test_what_is_neither_a_key_nor_an_address_is_refused_and_changes_nothing(
    loading: Loading,
) -> None:
    loading.take([event(key_id="key_1", ip="192.0.2.1", user_agent="cli/1.0 (ana)")])
    with loading.lake.writing():
        loading.lake.execute(
            "INSERT INTO lake.keys BY NAME SELECT 'key_1' AS key_id, 'ana' AS owner, 1 AS import_id"
        )
    before = tables_of(loading.lake)
    for word in WORDS:
        with pytest.raises(UsageError, match=r"no such key or address.*keywatch keys list"):
            maintain.forget(loading.lake, word)
    assert tables_of(loading.lake) == before
    ran = keywatch("lake", "forget", "GET", "--yes", "--lake", loading.folder / "lake")
    assert (ran.code, "no such key or address" in ran.err) == (2, True)


@pytest.mark.parametrize("word", ["GET", "v1", "1", "api", "rotate", "200", "proxy"])
def test_a_key_that_is_called_like_a_word_takes_nothing_from_others(
    loading: Loading, word: str
) -> None:
    line = {"method": "GET", "path": "/v1/api/checks/1", "user_agent": "proxy/1.0 api 200"}
    loading.take(
        [
            event(key_id="key_1", **line),
            event(key_id=word, **line),
            {"key_id": "key_1", "ip": AWAY, "path": "/v1/api"},
            {"key_id": word, "ip": AWAY, "path": "/v1/api"},
        ]
    )
    others = ("events", "activity", "transitions", "activity_hours", "rejects")
    kept = {
        table: loading.lake.rows(f"FROM lake.{table} WHERE key_id = 'key_1' ORDER BY ALL")
        for table in others
    }
    assert all(kept.values())
    with loading.lake.writing():
        loading.lake.execute(
            "INSERT INTO lake.keys BY NAME SELECT 'key_1' AS key_id, $word AS replaces, "
            "'api proxy' AS name, 'rotate' AS environment, 1 AS import_id",
            word=word,
        )
        loading.lake.execute(
            "INSERT INTO lake.alerts BY NAME FROM (VALUES "
            "('both', ['key_1', $word], 'rotate', $word || ' grew', "
            "json_object('keys', [$word], 'why', 'with ' || $word, 'endpoint', 'GET /v1/api')), "
            "('other', ['key_1'], 'rotate', 'GET /v1/api 1 200 proxy: rotate', "
            "json_object('key_id', 'key_1', 'action', $word, 'why', 'with ' || $word))) "
            "AS a (alert_id, key_ids, action, why, document)",
            word=word,
        )
        other = loading.lake.rows("FROM lake.alerts WHERE alert_id = 'other'")
    done = maintain.forget(loading.lake, word)
    assert done.deleted["events"] == 1
    assert done.deleted["rejects"] == 1
    for table, rows in kept.items():
        assert loading.lake.rows(f"FROM lake.{table} ORDER BY ALL") == rows
    assert loading.lake.rows("SELECT replaces, name, environment FROM lake.keys") == [
        ("[forgotten]", "api proxy", "rotate")
    ]
    assert loading.lake.rows("FROM lake.alerts WHERE alert_id = 'other'") == other
    assert loading.lake.rows(
        "SELECT key_ids, why, action, document ->> '$.keys[0]', document ->> 'why', "
        "document ->> 'endpoint' FROM lake.alerts WHERE alert_id = 'both'"
    ) == [
        (["key_1", "[forgotten]"], "[forgotten] grew", "rotate", "[forgotten]", "with [forgotten]",
         "GET /v1/api")
    ]  # fmt: skip


def test_lines_that_could_not_be_read_go_with_their_own_address(loading: Loading) -> None:
    unread = [{"key_id": "key_1", "ip": ip} for ip in ("192.0.2.1", "192.0.2.10")]
    loading.take([event(ip=HOME), *unread], max_reject_share=1.0)
    assert maintain.forget(loading.lake, "192.0.2.1").deleted == {"rejects": 1}
    assert loading.lake.value("SELECT count(*) FROM lake.rejects WHERE text LIKE '%.10%'") == 1


def test_with_a_principal_the_events_of_its_sessions_go(loading: Loading) -> None:
    loading.take([event(key_id="session_1"), event(key_id="session_2"), event(key_id="key_1")])
    with loading.lake.writing():
        loading.lake.execute(
            "UPDATE lake.events SET principal = 'deploy' WHERE key_id LIKE 'session%'"
        )
    assert maintain.forget(loading.lake, "deploy").deleted == {"events": 2}
    assert loading.lake.rows("SELECT key_id, principal FROM lake.events") == [("key_1", None)]


@pytest.mark.parametrize("shown", ["abc…9e1d", "key@example", "AKIAIOSFODNNEXAMPLE", "key-7"])
def test_an_id_that_is_no_word_goes_from_the_texts_of_others(loading: Loading, shown: str) -> None:
    loading.take([event(key_id=shown), event(key_id="key_1", user_agent=f"proxy/1.0 {shown}.")])
    maintain.forget(loading.lake, shown)
    agents = loading.lake.rows("SELECT key_id, user_agent FROM lake.events")
    assert agents == [("key_1", "proxy/1.0 [forgotten].")]
