"""Silence is an alarm: each kind of finding where it is due, and not where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from keywatch import cli, pipeline
from keywatch.deliver.journal import Outcome, Record
from keywatch.deliver.outbox import record
from keywatch.lake import Lake
from keywatch.load.origins import OriginReader
from keywatch.model import HEALTH_CHECKS, HealthFinding
from keywatch.operate import diagnosis, health
from keywatch.review import watch
from keywatch.settings import IngestSettings, ReviewSettings, Settings
from keywatch.settings.deliver import DeliverSettings, FileChannel, Heartbeat
from tests.conftest import Loading, event

FIRST = date(2026, 7, 6)  # a Monday
DAYS = 91
LAST = FIRST + timedelta(days=DAYS - 1)  # Sunday 4 October 2026
NOW = datetime(2026, 10, 5, 6)
QUICK = Settings(review=ReviewSettings(replayed_windows=0, power_keys=0))


@pytest.fixture
def lake(blank: Lake) -> Lake:
    return blank


def found(lake: Lake, now: datetime = NOW, **sections: object) -> list[HealthFinding]:
    told = health.findings(lake, Settings().model_copy(update=sections), now)
    assert {one.check for one in told} <= set(HEALTH_CHECKS)
    return list(told)


def checks(lake: Lake, now: datetime = NOW, **sections: object) -> list[tuple[str, str]]:
    return [(one.check, one.subject) for one in found(lake, now, **sections)]


def days(when: Callable[[date], bool] = lambda _: True, until: date = LAST) -> list[date]:
    every = (FIRST + timedelta(days=n) for n in range((until - FIRST).days + 1))
    return [day for day in every if when(day)]


def works(day: date) -> bool:
    return day.weekday() < 5


def use(lake: Lake, key_id: str, on: Iterable[date]) -> None:
    """One request of a key at noon of each day."""
    lake.execute(
        "INSERT INTO lake.activity BY NAME SELECT $key_id AS key_id, day, 1 AS events, "
        "day + INTERVAL 12 HOUR AS first_ts, day + INTERVAL 12 HOUR AS last_ts, 1 AS load_id "
        "FROM (SELECT unnest($days::DATE[]) AS day)",
        key_id=key_id,
        days=list(on),
    )


def import_key(lake: Lake, key_id: str, **fields: object) -> None:
    lake.execute(
        "INSERT INTO lake.keys BY NAME SELECT 1 AS import_id, $key_id AS key_id, "
        "$name AS name, $owner AS owner, $revoked_at::TIMESTAMP AS revoked_at, "
        "$expires_at::TIMESTAMP AS expires_at, $replaces::VARCHAR AS replaces",
        key_id=key_id,
        **dict.fromkeys(("name", "owner", "revoked_at", "expires_at", "replaces")) | fields,
    )


def load_file(lake: Lake, path: str, on: date, load_id: int = 1, until: date | None = None) -> None:
    lake.execute(
        "INSERT INTO lake.ingested_files BY NAME SELECT $path AS path, $load_id AS load_id, "
        "'digest' AS sha256, $first::TIMESTAMP AS first_ts, $last::TIMESTAMP AS last_ts",
        path=path,
        load_id=load_id,
        first=datetime(on.year, on.month, on.day, 1),
        last=datetime((until or on).year, (until or on).month, (until or on).day, 23),
    )


# ---------------------------------------------------------------------------------------- the log


def test_a_log_that_goes_on_is_healthy(lake: Lake) -> None:
    use(lake, "key_1", days())

    assert checks(lake) == []


def test_a_lake_without_events_has_no_finding(lake: Lake) -> None:
    assert checks(lake) == []


@pytest.mark.parametrize(
    ("on", "now", "ended"),
    [
        (days(), datetime(2026, 10, 6, 23), False),
        (days(), datetime(2026, 10, 7), True),
        (days(), datetime(2026, 11, 22), True),
        (days(works), datetime(2026, 10, 5, 6), False),  # the weekend after Friday
        (days(works), datetime(2026, 10, 6, 23), False),
        (days(works), datetime(2026, 10, 7), True),
        (days(lambda day: day.weekday() == 0), datetime(2026, 10, 5, 6), False),  # weekly
        (days(lambda day: day.weekday() == 0), datetime(2026, 10, 11), False),
        (days(lambda day: day.weekday() == 0), datetime(2026, 10, 12), True),
        ([LAST], datetime(2026, 10, 12), False),  # an hour that was looked at once
        ([LAST], datetime(2026, 10, 13), True),
    ],
)
def test_a_log_has_ended_when_its_own_rhythm_says_so(
    lake: Lake, on: list[date], now: datetime, ended: bool
) -> None:
    use(lake, "key_1", on)

    assert checks(lake, now) == [("log_ended", "")] * ended


def test_the_end_of_a_log_is_one_finding_whatever_ended_with_it(lake: Lake) -> None:
    for nth in range(12):
        use(lake, f"key_{nth}", days())
    for nth, day in enumerate(days()):
        load_file(lake, f"logs/{day}.jsonl", day, nth)

    (one,) = found(lake, datetime(2026, 11, 22, 8))

    assert one.check == "log_ended"
    assert one.text == (
        "the log has ended: its last event was at 2026-10-04 12:00 UTC, 49 days ago; check that it "
        "is still written, then load it with keywatch ingest"
    )


# ----------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/log/eu/a.jsonl", "/var/log/eu"),
        ("/var/log/us/2026/10/01/a.jsonl.gz", "/var/log/us"),
        ("logs/2026-10-01/a.jsonl", "logs"),
        ("s3://bucket/trail/us-east-1/2026/10/01/a.json.gz", "s3://bucket/trail/us-east-1"),
        ("s3://bucket/x/year=2026/month=10/day=01/a.json", "s3://bucket/x"),
        ("/2026/a.jsonl", "/2026"),
        ("/srv/audit/eu/2026/a.jsonl", "/srv/audit"),
        ("/srv/audit.jsonl", "/srv"),
        ("/srv/b-3.jsonl", "/srv/b-*.jsonl"),
        ("/srv/c.jsonl", "/srv/c.jsonl"),
        ("a.jsonl", ""),
        ("-", ""),
    ],
)
def test_the_place_of_a_file_is_the_settings_or_its_folder_less_dates(
    path: str, place: str
) -> None:
    assert (
        health.place_of(path, ("/srv/audit/", "/srv/b-*.jsonl", "/srv/c.jsonl")).rstrip("/")
        == place
    )


def two_places(lake: Lake, silent_since: date, loads: int = 91) -> None:
    """Two folders with a file a day, one of which ends."""
    for nth, day in enumerate(days()):
        load_file(lake, f"logs/eu/{day}.jsonl", day, nth % loads)
        if day <= silent_since:
            load_file(lake, f"logs/us/{day}.jsonl", day, nth % loads)


@pytest.mark.parametrize(
    ("silent_since", "loads", "said"),
    [
        (date(2026, 10, 1), 91, [("place_silent", "logs/us")]),
        (date(2026, 10, 2), 91, []),  # one day is missed, and Sunday is not over
        (date(2026, 7, 20), 91, []),  # too short to have a rhythm
        (date(2026, 10, 1), 2, []),  # an archive that was loaded once
    ],
)
def test_a_place_that_had_events_daily_falls_silent(
    lake: Lake, silent_since: date, loads: int, said: list[tuple[str, str]]
) -> None:
    use(lake, "key_1", days())
    two_places(lake, silent_since, loads)

    assert checks(lake) == said


def test_keys_that_stopped_with_their_place_are_told_with_it(lake: Lake) -> None:
    use(lake, "key_1", days())
    for nth in range(3):
        use(lake, f"key_us_{nth}", days(until=date(2026, 9, 20)))
    two_places(lake, date(2026, 9, 20))

    (one,) = found(lake)

    assert one.text == (
        "no events from logs/us since 2026-09-20, nor from 3 keys that stopped with it: 13 days "
        "missed (usually events nearly every day); check the system that writes them"
    )


def test_a_place_of_the_settings_is_one_however_it_was_loaded(lake: Lake) -> None:
    use(lake, "key_1", days())
    load_file(lake, "logs/eu/all.jsonl", FIRST, until=LAST)
    load_file(lake, "logs/us/all.jsonl", FIRST, until=date(2026, 9, 20))
    ingest = IngestSettings(places=("logs/us",))

    assert ("place_silent", "logs/us") in checks(lake, ingest=ingest)


def test_places_that_can_not_be_read_are_found(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    there = (f"{tmp_path}", f"{tmp_path}/a.jsonl", f"{tmp_path}/*.gz", "s3://bucket/a", "-")
    away = (f"{tmp_path}/b.jsonl", f"{tmp_path}/none/*.gz")

    assert checks(lake, ingest=IngestSettings(places=there)) == []
    assert checks(lake, ingest=IngestSettings(places=away)) == [
        ("place_unreadable", place) for place in away
    ]


def test_files_that_are_left_out_are_found_until_they_are_loaded(lake: Lake) -> None:
    for path, seen_at in (("old", datetime(2026, 8, 1)), ("new\x1b", datetime(2026, 10, 1))):
        lake.execute(
            "INSERT INTO lake.left_out_files BY NAME SELECT $path AS path, "
            "'no log\nat all' AS reason, $seen_at AS seen_at",
            path=path,
            seen_at=seen_at,
        )

    (one,) = found(lake)
    assert one.text == r"skipped since 2026-10-01: new\x1b: no log"

    load_file(lake, "new\x1b", date(2026, 10, 4))
    assert checks(lake) == []


# ------------------------------------------------------------------------------------------- keys


def test_a_key_that_stopped_against_its_habit_is_found(lake: Lake) -> None:
    use(lake, "key_1", days())
    use(lake, "key_2", days(works, until=date(2026, 9, 18)))
    import_key(lake, "key_2", name="board\x07", owner="team-a")

    (one,) = found(lake)

    assert (one.check, one.subject) == ("key_silent", "key_2")
    assert one.text == (
        r"key key_2 (board\x07, team-a) was used nearly every Mon, Tue, Wed, Thu, Fri, but not "
        "since 2026-09-18; ask its owner whether it is still needed, and revoke it if not"
    )


@pytest.mark.parametrize(
    "on",
    [
        days(lambda day: day.day == 1),  # monthly
        days(lambda day: day.weekday() == 1, until=date(2026, 9, 20)),  # weekly
        days(works, until=date(2026, 9, 25)),  # a week of holiday, the weekends before and after
        days(until=date(2026, 9, 28)),  # five days, and Sunday is not over
        days(lambda day: works(day) and not 3 <= day.day <= 14, until=date(2026, 9, 18)),
        days(lambda day: day.toordinal() % 3 == 0, until=date(2026, 8, 30)),
        days(until=date(2026, 7, 25)),
    ],
)
def test_a_key_that_rests_as_it_does_is_healthy(lake: Lake, on: list[date]) -> None:
    use(lake, "key_1", days())
    use(lake, "key_2", on)

    assert checks(lake) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"revoked_at": datetime(2026, 9, 1)},
        {"expires_at": datetime(2026, 9, 1)},
        {"revoked_at": datetime(2027, 9, 1), "expires_at": datetime(2026, 9, 1)},
    ],
)
def test_a_key_that_is_revoked_or_expired_has_to_stop(
    lake: Lake, fields: dict[str, object]
) -> None:
    use(lake, "key_1", days())
    use(lake, "key_2", days(until=date(2026, 8, 31)))
    import_key(lake, "key_2", **fields)

    assert checks(lake) == []


def test_a_key_that_is_replaced_or_was_stolen_has_to_stop(lake: Lake) -> None:
    use(lake, "key_1", days())
    for key_id in ("key_2", "key_3"):
        use(lake, key_id, days(until=date(2026, 8, 31)))
    assert checks(lake) == [("key_silent", "key_2"), ("key_silent", "key_3")]

    import_key(lake, "key_1", replaces="key_2")
    lake.execute(
        "INSERT INTO lake.verdicts BY NAME SELECT 'v' AS verdict_id, 'key_3' AS key_id, "
        "'compromised' AS verdict, $now AS given_at, $now AS window_start, $now AS window_end",
        now=NOW,
    )

    assert checks(lake) == []


def test_many_keys_that_stop_at_once_are_one_finding(lake: Lake) -> None:
    use(lake, "key_0", days())
    for nth in range(1, 9):
        use(lake, f"key_{nth}", days(until=date(2026, 9, 20)))

    (one,) = found(lake)

    assert (one.check, one.subject) == ("key_silent", "2026-09-20")
    assert one.text.startswith(
        "8 keys stopped at the same time, last used on 2026-09-20 (key_1, key_2, "
    )


# -------------------------------------------------------------------------- reviews and the feed


def review_week(
    lake: Lake, start: date, *, strange: int = 0, in_use: int = 200, ending: str = ""
) -> None:
    """A stored review of the week from `start` on."""
    begins = datetime(start.year, start.month, start.day)
    coverage = {"keys": in_use + 5, "silent": 5, "calibration": {"windows": 8}}
    lake.execute(
        "INSERT INTO lake.runs BY NAME SELECT $id AS run_id, $start AS window_start, "
        "$end AS window_end, $end AS made_at, $coverage AS coverage",
        id=f"run-{start}{ending}",
        start=begins,
        end=begins + timedelta(days=7),
        coverage=json.dumps(coverage),
    )
    lake.execute(
        "INSERT INTO lake.cases BY NAME SELECT $id AS run_id, 'key_' || n AS key_id, "
        "CASE WHEN n < $strange THEN 0.01 ELSE 0.5 END AS p_value "
        "FROM range($in_use) AS t(n)",
        id=f"run-{start}{ending}",
        strange=strange,
        in_use=in_use,
    )


@pytest.mark.parametrize(
    ("reviewed", "ending", "now", "said"),
    [
        (None, "", datetime(2026, 10, 8), []),
        (date(2026, 9, 28), "", datetime(2026, 10, 8), []),
        (date(2026, 9, 21), "", datetime(2026, 10, 6, 23), []),
        (date(2026, 9, 21), "", datetime(2026, 10, 7), [("review_overdue", "2026-W40")]),
        (date(2026, 9, 21), "-watch", datetime(2026, 10, 8), []),
    ],
)
def test_a_week_that_is_over_has_to_be_reviewed_where_weeks_are(
    lake: Lake, reviewed: date | None, ending: str, now: datetime, said: list[tuple[str, str]]
) -> None:
    use(lake, "key_1", [*days(), date(2026, 10, 6)])
    if reviewed:
        review_week(lake, reviewed, ending=ending)

    assert checks(lake, now) == said


def test_an_overdue_review_says_how_many_weeks(lake: Lake) -> None:
    use(lake, "key_1", [*days(), date(2026, 10, 6)])
    review_week(lake, date(2026, 9, 7))

    assert found(lake, datetime(2026, 10, 8))[0].text == (
        "3 weeks up to 2026-W40 are not reviewed yet; the last reviewed week is 2026-W37: run "
        "keywatch review --missed"
    )


@pytest.mark.parametrize(
    ("every_hours", "times", "silent_hours", "stopped"),
    [
        (1, 30, 3, False),
        (1, 30, 4, True),
        (24, 30, 48, False),
        (24, 30, 49, True),
        (1, 20, 100, False),  # it never ran regularly
    ],
)
def test_the_feed_has_stopped_after_twice_its_longest_rest(
    tmp_path: Path, every_hours: int, times: int, silent_hours: int, stopped: bool
) -> None:
    with Lake.open(tmp_path / "lake", create=True) as lake:
        ran = datetime(2026, 9, 1, 0, 5)
        for _ in range(times):
            ran += timedelta(hours=every_hours)
            watch.remember_run(lake, ran)
            watch.remember_run(lake, ran + timedelta(minutes=10))

        now = ran.replace(minute=0) + timedelta(hours=silent_hours)
        assert len(watch.hours_run(lake)) == times
        assert checks(lake, now) == [("feed_stopped", "")] * stopped
        (tmp_path / "lake" / watch.HOURS_FILE).unlink()  # as the finding says, for good
        assert checks(lake, now) == []


def test_hours_that_are_no_hours_are_left_aside(tmp_path: Path) -> None:
    with Lake.open(tmp_path / "lake", create=True) as lake:
        (tmp_path / "lake" / "watch.hours").write_bytes(b"2026-09-01T10:00\n\xff\n2026-09-01T1")
        watch.remember_run(lake, datetime(2026, 9, 1, 11, 30))

        assert watch.hours_run(lake) == [datetime(2026, 9, 1, 10), datetime(2026, 9, 1, 11)]


# ------------------------------------------------------------------------------------- the outbox


def test_dead_letters_and_messages_that_wait_too_long_are_found(lake: Lake) -> None:
    created = {"a": NOW - timedelta(hours=30), "b": NOW - timedelta(hours=30), "c": NOW}
    for channel, created_at in created.items():
        lake.execute(
            "INSERT INTO lake.deliveries BY NAME SELECT $id AS delivery_id, $id AS channel, "
            "$at AS created_at",
            id=channel,
            at=created_at,
        )
    dead: Outcome = "dead"
    record(lake, [Record("a", NOW, dead, 12, "HTTP 404")])
    channels = {name: FileChannel(kind="file", path=Path(name)) for name in ("a", "c")}

    told = found(lake, deliver=DeliverSettings(channels=dict(channels)))

    assert [(one.check, one.subject) for one in told] == [
        ("outbox_dead", "a"),
        ("outbox_waiting", "b"),
    ]
    assert "1 message could not be delivered (HTTP 404)" in told[0].text
    assert "the channel is no longer in the settings" in told[1].text


# ---------------------------------------------------------------------------- data and the scores


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("GeoLite2 City 2026-08-06, ip-lists 2026-08-06", []),
        (
            "GeoLite2 City 2026-08-05, dbip-asn-lite 2026-08-01, ip-lists 2026-08-06",
            [("GeoLite2 City", False), ("bundled", True)],
        ),
    ],
)
def test_old_data_about_addresses_is_found_and_what_is_bundled_is_a_note(
    lake: Lake, asked: str, said: list[tuple[str, bool]]
) -> None:
    for load_id, names in ((1, "GeoLite2 City 2020-01-01"), (2, asked)):
        lake.execute(
            "INSERT INTO lake.origins BY NAME SELECT $asked AS asked, $load_id AS load_id",
            asked=names,
            load_id=load_id,
        )

    assert [(one.subject, one.is_note) for one in found(lake)] == said


def test_the_bundled_databases_are_known_by_their_names() -> None:
    with OriginReader() as reader:
        assert {each.name for each in reader.databases} == health.BUNDLED


@pytest.mark.parametrize(
    ("strange", "in_use", "drifted"),
    [
        ([4, 5, 3, 4, 6], 200, False),
        ([20, 5, 3, 4, 6], 200, True),
        ([0, 40, 42, 37, 39], 2000, True),
        ([0, 2, 3, 2, 2], 200, False),  # too few to say that there are fewer
        ([20, 4, 4], 200, False),  # too few weeks to compare with
    ],
)
def test_scores_drift_where_chance_gives_no_such_number_of_strange_keys(
    lake: Lake, strange: list[int], in_use: int, drifted: bool
) -> None:
    newest = date(2026, 9, 28)
    for nth, number in enumerate(strange):
        review_week(lake, newest - timedelta(weeks=nth), strange=number, in_use=in_use)
    review_week(lake, newest, strange=150, ending="-watch")

    assert checks(lake) == [("scores_drifted", "2026-W40")] * drifted


def test_a_fleet_that_grew_has_more_strange_keys(lake: Lake) -> None:
    for nth in range(1, 6):
        review_week(lake, date(2026, 9, 28) - timedelta(weeks=nth), strange=4, in_use=200)
    review_week(lake, date(2026, 9, 28), strange=20, in_use=1000)

    assert checks(lake) == []


# ------------------------------------------------------------------- where the findings are shown


@pytest.fixture
def weekly(tmp_path: Path, loading: Loading) -> Path:
    """A lake with an event a day, of which a week was reviewed; the newest week is 2026-W40."""
    loading.take(
        event(timestamp=f"{day}T12:00:00Z", request_id=f"{day}") for day in days(until=LAST)
    )
    review_week(loading.lake, date(2026, 9, 14))
    return tmp_path / "lake"


def test_a_review_says_how_the_lake_is_once_the_review_is_kept(weekly: Path) -> None:
    now = datetime(2026, 11, 22)
    with Lake.open(weekly) as lake:
        assert checks(lake, now) == [("log_ended", ""), ("review_overdue", "2026-W40")]

    answer = pipeline.review(weekly, None, QUICK, now=now)

    assert [one.check for one in answer.health] == ["log_ended"]


def test_the_doctor_shows_the_same_list(weekly: Path) -> None:
    now = datetime(2026, 11, 22)
    with Lake.open(weekly) as lake:
        expected = health.findings(lake, Settings(), now)

    told = diagnosis.diagnose(weekly, Settings(), now)

    assert [one.health for one in told if one.health] == list(expected)
    assert [one.document() for one in told if one.check == "log_ended"] == [
        {"check": "log_ended", "status": "warn", "text": expected[0].text, "subject": ""}
    ]
    assert [one.check for one in told][:5] == ["settings", "lake", "files", "journal", "secret"]


def test_the_doctor_fails_on_findings_where_that_is_asked(
    weekly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.doctor(fail_on_findings=True, common=cli.Common(lake=weekly))

    assert ended.value.code == 1
    assert (
        "warn the log has ended: its last event was at 2026-10-04 12:00" in capsys.readouterr().out
    )


# ---------------------------------------------------------------------------------- the heartbeat


def test_a_heartbeat_goes_out_with_the_feed_once_and_says_what_is_wrong(
    tmp_path: Path, loading: Loading
) -> None:
    log = loading.write([event(timestamp="2026-09-20T12:00:00Z")])
    channels = {"log": FileChannel(kind="file", path=tmp_path / "sent.jsonl")}
    deliver = DeliverSettings(
        channels=dict(channels), heartbeat=Heartbeat(channel="log", every_hours=6)
    )
    settings = Settings().model_copy(update={"deliver": deliver})
    folder = tmp_path / "lake"
    pipeline.ingest(folder, [str(log)], Settings())

    for minutes in (0, 5, 10, 360):
        pipeline.watch(folder, settings, now=NOW + timedelta(minutes=minutes))
        pipeline.deliver_due(folder, settings)

    sent = [json.loads(line) for line in (tmp_path / "sent.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in sent] == ["heartbeat"] * 2
    assert sent[0]["title"] == "Running, 1 event until 2026-09-20 12:00 UTC, 1 health finding"
    assert sent[0]["worst"][0].startswith(
        "The log has ended: its last event was at 2026-09-20 12:00"
    )


def test_a_log_with_a_proxys_address_is_noted(lake: Lake) -> None:
    use(lake, "key_1", days())
    lake.execute("UPDATE lake.activity SET address = '10.0.0.7'")
    assert "clients_hidden" not in [check for check, _ in checks(lake)]
    lake.execute(
        "INSERT INTO lake.origins BY NAME SELECT '10.0.0.7' AS address, '10.0.0.7' AS ip, "
        "'private' AS class, 1 AS load_id"
    )
    (told,) = (one for one in found(lake) if one.check == "clients_hidden")
    assert told.is_note
    assert told.text.startswith(
        "places cannot be assessed: nearly all requests come from 10.0.0.7, "
    )
