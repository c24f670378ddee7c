"""What keys did before a window and in it; on a lake in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.model import Review, Window
from keywatch.review import history
from keywatch.review.history import Change, History
from tests.test_pipeline import AWAY, HOME, NO_REPLAY, WEEK, crowd, daily, key, lake_of, line, theft

HOME_NETWORK, AWAY_NETWORK = "AS3320 Deutsche Telekom AG, DE", "AS396982 Google LLC, DK"
DAYS = 30
SUSPICIOUS = [("key_1", date(2026, 10, 1), "45.153.78.0/24")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = (
        daily(date(2026, 8, 1), 65)
        + theft()
        + daily(date(2026, 10, 2), 2, key_id="key_3", endpoint="/v1/checks")
        + [line("2026-09-20T01:00:00", key_id="key_3", endpoint="/v1/billing", status=403)]
        + crowd(3)
    )
    keys = [
        key(scopes=["read:checks", "admin:*"]),
        key("key_2", name="unused"),
        key("key_3", replaces="key_1", name="next"),
    ]
    folder = lake_of(tmp_path_factory.mktemp("history"), events, keys)
    pipeline.review(folder, WEEK, NO_REPLAY)
    return folder


@pytest.fixture
def lake(folder: Path) -> Iterator[Lake]:
    with Lake.open(folder) as opened, opened.reading():
        yield opened


def rows(table: Any, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in table.to_pylist()]


def test_a_timeline_has_every_day_and_network_with_its_kind(lake: Lake) -> None:
    timeline = History(lake, ["key_1"], WEEK, DAYS, SUSPICIOUS).timeline()

    assert timeline.column_names == [
        "key_id", "day", "origin", "class", "requests", "refused", "now", "known", "flagged",
    ]  # fmt: skip
    assert rows(timeline.slice(0, 1), *timeline.column_names) == [
        ("key_1", date(2026, 8, 29), HOME_NETWORK, "isp", 1, 0, False, True, False)
    ]
    stranger = [row for row in timeline.to_pylist() if row["origin"] == AWAY_NETWORK]
    assert [tuple(row.values()) for row in stranger] == [
        ("key_1", date(2026, 10, 1), AWAY_NETWORK, "hosting", 10, 5, True, False, True)
    ]
    assert len(timeline) == DAYS + 7 + 1


def test_the_window_and_the_days_before_it_are_half_open(lake: Lake) -> None:
    window = Window(datetime(2026, 9, 2), datetime(2026, 9, 4))
    timeline = History(lake, ["key_1"], window, 2).timeline()

    assert rows(timeline, "day", "now") == [
        (date(2026, 8, 31), False), (date(2026, 9, 1), False),
        (date(2026, 9, 2), True), (date(2026, 9, 3), True),
    ]  # fmt: skip


def test_without_flags_the_lake_s_own_are_shown(lake: Lake) -> None:
    stored = History(lake, ["key_1"], WEEK, DAYS).timeline()
    none = History(lake, ["key_1"], WEEK, DAYS, []).timeline()

    assert [row["day"] for row in stored.to_pylist() if row["flagged"]] == [date(2026, 10, 1)]
    assert not any(none["flagged"].to_pylist())


def test_a_network_flagged_before_is_not_known_now(lake: Lake) -> None:
    later = Window(datetime(2026, 10, 5), datetime(2026, 10, 12))
    flagged = History(lake, ["key_1"], later, DAYS).origins()

    assert (AWAY_NETWORK, False) in rows(flagged, "origin", "known")


@pytest.mark.parametrize(
    ("grain", "first"), [("network", ()), ("address", (AWAY, "45.153.78.0/24"))]
)
def test_origins_before_and_now(lake: Lake, grain: Any, first: tuple[str, ...]) -> None:
    origins = History(lake, ["key_1"], WEEK, DAYS, SUSPICIOUS).origins(grain)

    names = ["ip", "prefix"] if grain == "address" else []
    found = rows(
        origins, *names, "origin", "class", "country", "addresses", "requests_before",
        "days_before", "requests_now", "days_now", "refused_now", "known", "flagged",
    )  # fmt: skip
    assert found[0] == (*first, AWAY_NETWORK, "hosting", "DK", 1, 0, 0, 10, 1, 5, False, True)
    assert found[1][len(names) :] == (
        HOME_NETWORK, "isp", "DE", 1, 30, 30, 7, 7, 0, True, False,
    )  # fmt: skip
    assert len(found) == 2
    latitude, longitude = origins["latitude"][0].as_py(), origins["longitude"][0].as_py()
    assert (54 < latitude < 58, 8 < longitude < 13) == (True, True)


def test_endpoints_before_and_now_with_what_they_need(lake: Lake) -> None:
    endpoints = History(lake, ["key_1"], WEEK, DAYS, SUSPICIOUS).endpoints()
    by_name = {row["endpoint"]: row for row in endpoints.to_pylist()}

    usual = by_name["GET /v1/checks/{id}"]
    assert (usual["scope"], usual["requests_before"], usual["requests_flagged"]) == (
        "read:checks",
        30,
        0,
    )
    assert (usual["per_day_before"], usual["per_day_now"]) == (1.0, 1.0)
    members = by_name["GET /v1/members"]
    assert (members["requests_before"], members["requests_now"], members["requests_flagged"]) == (
        0,
        2,
        2,
    )
    assert members["sensitivity"] == "low"
    assert set(by_name) == {
        "GET /v1/checks/{id}", "GET /v1/members", "GET /v1/keys", "GET /v1/billing",
        "GET /v1/export", "GET /v1/alerts",
    }  # fmt: skip


def test_clients_before_and_now(lake: Lake) -> None:
    agents = History(lake, ["key_1"], WEEK, DAYS).agents()

    assert rows(agents, "agent", "requests_before", "requests_now") == [
        ("curl/8", 0, 10), ("Grafana/10", 30, 7),
    ]  # fmt: skip


def test_a_successor_has_its_predecessor_s_past_but_not_its_present(lake: Lake) -> None:
    timeline = History(lake, ["key_3"], WEEK, DAYS).timeline()

    before = [row for row in timeline.to_pylist() if not row["now"]]
    assert sum(row["requests"] for row in before) == DAYS + 1
    assert rows(timeline.slice(len(before)), "day", "requests", "known") == [
        (date(2026, 10, 2), 1, True), (date(2026, 10, 3), 1, True),
    ]  # fmt: skip


def test_many_keys_are_read_at_once_and_none_gives_nothing(lake: Lake) -> None:
    one, other = (
        History(lake, [key_id], WEEK, DAYS).endpoints() for key_id in ("crowd_00", "key_1")
    )
    both = History(lake, ["key_1", "crowd_00"], WEEK, DAYS)

    assert both.endpoints().to_pylist() == one.to_pylist() + other.to_pylist()
    assert len(History(lake, [], WEEK, DAYS).origins()) == 0
    assert len(History(lake, ["never seen", "x'; DROP TABLE y"], WEEK, DAYS).timeline()) == 0


def test_what_is_known_of_a_key(lake: Lake) -> None:
    known = history.shown_keys(lake, ["key_3", "crowd_00", "key_2"])

    assert known["key_3"].replaces == "key_1"
    assert (known["key_3"].first_day, known["key_3"].last_day) == (
        date(2026, 9, 20),
        date(2026, 10, 3),
    )
    assert (known["key_2"].name, known["key_2"].first_day) == ("unused", None)
    assert (known["crowd_00"].owner, known["crowd_00"].scopes) == (None, None)


def test_only_what_succeeded_says_which_scopes_are_needed(lake: Lake) -> None:
    used = history.used_scopes(lake, ["key_3", "key_2"], WEEK, DAYS)

    assert used == {"key_3": ("read:checks",)}


@pytest.mark.slow
def test_changes_since_the_newest_run_of_the_window_before(tmp_path: Path) -> None:
    stays = [
        line(f"{day}T04:00:00", ip=AWAY, user_agent="curl/8.4.0", endpoint=path)
        for day in ("2026-09-24", "2026-10-01")
        for path in ("/v1/members", "/v1/keys", "/v1/billing")
    ]
    lake_folder = lake_of(tmp_path, daily(date(2026, 8, 1), 65) + stays + crowd(), [key()])
    week_before = Window(datetime(2026, 9, 21), datetime(2026, 9, 28))
    first = pipeline.review(lake_folder, week_before, NO_REPLAY)
    assert [case.key_id for case in first.alerted()] == ["key_1"]
    pipeline.give_verdict(
        lake_folder,
        "key_1",
        "compromised",
        NO_REPLAY,
        by="ana",
        because="leaked",
        window=week_before,
    )

    review, details = pipeline.review_in_detail(lake_folder, WEEK, NO_REPLAY)

    now = review.cases[0].action
    assert details.changes is not None
    assert (details.changes.window, details.changes.run_id) == (week_before, first.run.id)
    same = Change("key_1", "status board", first.cases[0].action, now, "compromised")
    assert (details.changes.new, details.changes.still, details.changes.ended) == ((), (same,), ())

    quiet = replace(review, cases=())
    with Lake.open(lake_folder) as lake:
        ended = history.changes(lake, quiet)
        nothing = history.changes(lake, replace(review, window=week_before))
    assert ended is not None
    assert [(change.key_id, change.now) for change in ended.ended] == [("key_1", None)]
    assert nothing is None


def test_details_are_of_the_cases_and_of_keys_with_upkeep(folder: Path) -> None:
    review, details = pipeline.review_in_detail(folder, WEEK, NO_REPLAY, keep=False)
    alerted: Review = review

    assert [case.key_id for case in details.cases] == [case.key_id for case in alerted.alerted()]
    assert set(details.timeline["key_id"].to_pylist()) == {case.key_id for case in details.cases}
    assert {finding.key_id for finding in review.hygiene} <= set(details.keys)
    assert [row["day"] for row in details.timeline.to_pylist() if row["flagged"]] == [
        date(2026, 10, 1)
    ]


def test_a_case_has_details_of_its_own_key_only(folder: Path) -> None:
    _, case, details = pipeline.case_in_detail(folder, "key_1", WEEK, NO_REPLAY)
    assert case is not None
    assert details is not None
    assert set(details.endpoints["key_id"].to_pylist()) == {case.key_id}
    assert pipeline.case_in_detail(folder, "key_2", WEEK, NO_REPLAY)[1:] == (None, None)
    assert HOME in {origin.ip for origin in case.origins}
