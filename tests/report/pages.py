"""Details to show beside the reviews of `tests.report.reviews`, without a lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from keywatch.model import Case, Review, Window
from keywatch.review.history import Change, Changes, Details, ShownKey

FIRST_DAY = date(2026, 6, 30)
WEEK_BEFORE = Window(datetime(2026, 9, 21), datetime(2026, 9, 28))


def details_of(review: Review, text: str | None = None) -> Details:
    """Details of the review's alerted cases; with `text` it stands wherever a log could put it."""

    def own(value: str) -> str:
        return value if text is None else text

    cases = review.alerted()
    return Details(
        cases=cases,
        first_day=FIRST_DAY,
        timeline=_table(cases, lambda case: _timeline(case, own)),
        origins=_table(cases, lambda case: _origins(case, own)),
        endpoints=_table(cases, lambda case: _endpoints(case, own)),
        keys={
            key_id: _key(key_id, own)
            for key_id in {case.key_id for case in cases}
            | {finding.key_id for finding in review.hygiene}
            | set(review.standings)
        },
        used_scopes={finding.key_id: (own("read:metrics"),) for finding in review.hygiene[:3]},
        changes=Changes(
            WEEK_BEFORE,
            "1e7c",
            new=tuple(Change(one.key_id, one.name, None, one.action, None) for one in cases[:1]),
            still=tuple(
                Change(case.key_id, case.name, "investigate", case.action, None)
                for case in cases[1:2]
            ),
            ended=(Change(own("key_gone"), own("Old job"), "investigate", None, "benign"),),
        ),
    )  # fmt: skip


def _table(cases: tuple[Case, ...], rows_of: Callable[[Case], list[dict[str, Any]]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"key_id": case.key_id, **row} for case in cases for row in rows_of(case)]
    )


def _timeline(case: Case, own: Callable[[str], str]) -> list[dict[str, Any]]:
    office = {"origin": own("AS3320 Deutsche Telekom AG, DE"), "class": "isp", "known": True,
              "flagged": False, "refused": 0}  # fmt: skip
    days = [
        {"day": FIRST_DAY + timedelta(days=n), "requests": 1_400 + n, "now": n >= 90, **office}
        for n in range(97)
    ]
    theft = {"day": date(2026, 10, 1), "origin": own("AS9009 M247 Europe SRL, RO"),
             "class": "hosting", "requests": 412, "refused": 61, "now": True, "known": False,
             "flagged": True}  # fmt: skip
    return [*days, theft]


def _origins(case: Case, own: Callable[[str], str]) -> list[dict[str, Any]]:
    home = {
        "origin": own("AS3320 Deutsche Telekom AG, DE"), "asn": 3320,
        "organization": own("Deutsche Telekom AG"), "country": own("DE"), "class": "isp",
        "latitude": 51.0, "longitude": 10.0, "accuracy_km": 350, "addresses": 3,
        "requests_before": 90_000, "days_before": 90, "requests_now": 10_080, "days_now": 7,
        "refused_now": 0, "first_seen": datetime(2026, 6, 30), "last_seen": datetime(2026, 10, 4),
        "known": True, "flagged": False,
    }  # fmt: skip
    away = home | {
        "origin": own("AS9009 M247 Europe SRL, RO"), "asn": 9009, "country": own("RO"),
        "class": "hosting", "latitude": 45.9, "longitude": 25.0, "addresses": 1,
        "requests_before": 0, "days_before": 0, "requests_now": 412, "days_now": 1,
        "refused_now": 61, "first_seen": datetime(2026, 10, 1, 2, 11),
        "last_seen": datetime(2026, 10, 1, 3, 4), "known": False, "flagged": True,
    }  # fmt: skip
    nowhere = home | {"origin": own("private address"), "latitude": None, "longitude": None,
                      "country": None}  # fmt: skip
    return [home, away, nowhere]


def _endpoints(case: Case, own: Callable[[str], str]) -> list[dict[str, Any]]:
    usual = {
        "endpoint": own("GET /v1/metrics/{id}"), "scope": "read:metrics", "sensitivity": "none",
        "requests_before": 90_000, "days_before": 90, "requests_now": 10_080, "days_now": 7,
        "refused_now": 0, "requests_flagged": 0, "per_day_before": 1_000.0, "per_day_now": 1_440.0,
    }  # fmt: skip
    new = usual | {
        "endpoint": own("GET /v1/members"), "scope": None, "sensitivity": "high",
        "requests_before": 0, "days_before": 0, "requests_now": 61, "days_now": 1,
        "refused_now": 61, "requests_flagged": 61, "per_day_before": 0.0, "per_day_now": 8.7,
    }  # fmt: skip
    return [usual, new]


def _key(key_id: str, own: Callable[[str], str]) -> ShownKey:
    return ShownKey(
        key_id, own("Grafana dashboards"), own("team-observability"), own("prod"),
        (own("read:metrics"), own("read:checks")), datetime(2026, 5, 8), datetime(2027, 5, 8),
        None, own("key_0600001"), date(2026, 6, 30), date(2026, 10, 4),
    )  # fmt: skip
