"""A case's numbers agree with each other: its query, its counts, its places and its consumers."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.deliver.message import alert_message
from keywatch.lake import Lake
from keywatch.model import Case, Review
from keywatch.report import render_case
from keywatch.review import alerts
from keywatch.review.alerts import Change
from tests.test_pipeline import AWAY, NO_REPLAY, WEEK, crowd, daily, key, lake_of, line

FIRST = date(2026, 8, 1)
# The thief's provider; only AWAY's prefix is loud.
NEARBY = "45.153.79.4"
QUIET_DAY = date(2026, 10, 3)
OFFICE = "84.151.10.21"


def calls(day: date, ip: str, objects: range, **fields: Any) -> list[dict[str, Any]]:
    """Checks read by their numbers, one a second."""
    return [
        line(f"{day}T03:{n // 60:02}:{n % 60:02}", ip=ip, endpoint=f"/v1/checks/{number}",
             **({"user_agent": "curl/8.4.0"} | fields))
        for n, number in enumerate(objects)
    ]  # fmt: skip


def theft() -> list[dict[str, Any]]:
    """Three days, 100 objects of which each day reads 80; and one call in the owner's manner."""
    tuesday = date(2026, 9, 29)
    loud = [
        event
        for n in range(3)
        for event in calls(tuesday + timedelta(days=n), AWAY, range(10 * n, 10 * n + 80))
    ]
    return [*loud, line(f"{QUIET_DAY}T12:30:00", ip=NEARBY)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of two consumers, of which one is there on a single day of the week, and its theft."""
    events = [*daily(FIRST, 65), *theft(), *crowd()]
    events += [line(f"2026-09-30T1{n}:30:00", ip=OFFICE, user_agent="Deploy/2.0") for n in range(7)]
    events += daily(FIRST, 57, ip=OFFICE, user_agent="Deploy/2.0")
    return lake_of(tmp_path_factory.mktemp("theft"), events + fleet(), [key()])


def fleet() -> list[dict[str, Any]]:
    """A key of seven clients, stolen from thirty addresses of IPv6, written at length."""
    agents = [f"Worker{n}/1.0" for n in range(7)]
    own = [
        line(f"{FIRST + timedelta(days=day)}T0{n}:00:00", key_id="fleet", user_agent=agent)
        for day in range(65)
        for n, agent in enumerate(agents)
    ]
    stolen = [
        event
        for n in range(30)
        for event in calls(date(2026, 10, 1), f"2A02:C207:0:0:0:0:0:{n + 1:x}",
                           range(100 * n, 100 * n + 4), key_id="fleet")
    ]  # fmt: skip
    stolen[:3] = [each | {"method": "DELETE"} for each in stolen[:3]]
    return own + stolen


@pytest.fixture(scope="module")
def answer(folder: Path) -> Review:
    return pipeline.review(folder, WEEK, NO_REPLAY)


@pytest.fixture(scope="module")
def case(answer: Review) -> Case:
    return next(case for case in answer.cases if case.key_id == "key_1")


def test_the_query_shows_every_suspicious_request_and_no_other(folder: Path, case: Case) -> None:
    with Lake.open(folder) as lake:
        rows = lake.records(case.events_query)

    assert {row["address"] for row in rows} == {AWAY, NEARBY}
    assert case.blast_radius is not None
    assert len(rows) == case.blast_radius.requests_suspicious == 3 * 80 + 1
    assert sum(origin.requests_suspicious for origin in case.origins) == len(rows)


def test_an_object_that_is_read_on_three_days_is_one(case: Case) -> None:
    assert case.blast_radius is not None
    assert case.blast_radius.objects_suspicious == 100 + 1


def test_what_came_with_the_theft_is_no_consumer(case: Case) -> None:
    assert case.impact is not None
    assert [one.agent for one in case.impact.consumers] == ["Deploy/2", "Grafana/10"]
    assert all("AS3320" in one.origin for one in case.impact.consumers)


def test_consumers_add_up_to_what_would_stop(case: Case) -> None:
    assert case.impact is not None
    rates = [one.requests_per_day for one in case.impact.consumers]
    assert (rates, case.impact.legitimate_requests_per_day) == ([1.0, 1.0], 2.0)
    assert case.impact.consumers_total == 2


@pytest.fixture(scope="module")
def of_fleet(answer: Review) -> Case:
    return next(case for case in answer.cases if case.key_id == "fleet")


def test_addresses_are_asked_for_as_they_were_logged(folder: Path, of_fleet: Case) -> None:
    with Lake.open(folder) as lake:
        rows = lake.records(of_fleet.events_query)

    assert of_fleet.blast_radius is not None
    assert len(rows) == of_fleet.blast_radius.requests_suspicious == 120
    assert of_fleet.blast_radius.objects_suspicious == 120


def test_what_was_deleted_was_not_read(of_fleet: Case) -> None:
    assert of_fleet.done == "deleted 3 checks and read 117 objects"


def test_what_is_not_listed_is_counted(answer: Review, of_fleet: Case) -> None:
    assert (len(of_fleet.origins), of_fleet.more_origins) == (20, 11)
    assert of_fleet.impact is not None
    assert (len(of_fleet.impact.consumers), of_fleet.impact.consumers_total) == (5, 7)

    text = render_case(of_fleet, answer)

    assert "and 11 more addresses" in text
    assert "About 7 requests a day by 7 consumers would fail" in text
    assert "and 2 more consumers" in text
    (switch,) = [step for step in of_fleet.steps if step.startswith("Switch")]
    assert switch.endswith("; and 2 more")


def test_a_message_counts_the_places_that_it_leaves_out(folder: Path, of_fleet: Case) -> None:
    with Lake.open(folder) as lake:
        (message,) = [
            alert_message(Change("trigger", alert))
            for alert in alerts.not_over(lake)
            if alert.members[0].key_id == "fleet"
        ]

    assert len(message.places) + message.more_places == 31
    assert message.done.startswith("120 suspicious requests, 120 objects")
