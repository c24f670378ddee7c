"""Ids in paths that no rule knows: what teaches them, and what a lake then says of its past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from keywatch.load import path_templates
from keywatch.operate.repair import repair
from keywatch.report import render_load
from keywatch.settings import LakeSettings
from keywatch.vendors.parser import OTHER_PATHS
from tests.conftest import Loading, NoWhere, event

NOW = datetime(2026, 11, 1)


def named(n: int) -> str:
    """A name that no rule takes for an id."""
    return "".join("abcdefghij"[int(digit)] for digit in f"{n:04}") + "-inc"


def day(
    n: int, paths: list[str], key: Callable[[int], int] = int, **fields: Any
) -> Iterator[dict[str, Any]]:
    """A request a path on the `n`th day."""
    start = datetime(2026, 9, 1) + timedelta(days=n)
    for at, path in enumerate(paths):
        yield event(
            timestamp=f"{start + timedelta(seconds=at):%Y-%m-%dT%H:%M:%SZ}",
            request_id=f"{n}-{at}", key_id=f"key_{key(at)}", endpoint=path,
        ) | fields  # fmt: skip


def customers(n: int, count: int = 80, suffix: str = "") -> list[str]:
    """Paths of customers that only the `n`th day has."""
    return [f"/customers/{named(n * 1000 + at)}{suffix}" for at in range(count)]


def one(_: int) -> int:
    return 1


def endpoints(loading: Loading) -> list[str]:
    return [
        name
        for (name,) in loading.lake.rows("SELECT DISTINCT endpoint FROM lake.activity ORDER BY ALL")
    ]


def test_a_place_that_takes_ever_other_values_is_an_id(loading: Loading) -> None:
    lasting = ["/customers/search", "/status"]
    loading.take([*day(0, lasting + customers(0), one)], "0.jsonl", now=NOW)
    assert len(endpoints(loading)) == 82
    two = [*customers(1), *(f"{path}/orders/ab{at}" for at, path in enumerate(customers(2, 50)))]
    loading.take([*day(1, lasting + two, one)], "1.jsonl", now=NOW)
    report = loading.take([*day(2, lasting + customers(3), one)], "2.jsonl", now=NOW)
    told = "Learnt that 1 place in paths holds an id: GET /customers/{id}."
    assert told in render_load(report)
    learnt = loading.lake.rows("SELECT path, kept, load_id FROM lake.path_templates ORDER BY path")
    assert learnt == [("GET /customers/", ["search"], 3)]
    assert endpoints(loading) == [
        "GET /customers/search", "GET /customers/{id}",
        *(f"GET /customers/{{id}}/orders/ab{at}" for at in sorted(range(50), key=str)),
        "GET /status",
    ]  # fmt: skip
    # The roll-up of the past is the one of whoever had known it before.
    objects = (
        "SELECT sum(events), sum(object_count), max(len(objects)) FROM lake.activity "
        "WHERE endpoint = 'GET /customers/{id}'"
    )
    assert loading.lake.rows(objects) == [(240, 240, 64)]
    stored = "SELECT endpoint, object FROM lake.events WHERE path = $path"
    assert loading.lake.rows(stored, path=customers(0)[7]) == [
        ("GET /customers/{id}", named(7))
    ]  # fmt: skip
    steps = (
        "SELECT previous, endpoint, sum(events) FROM lake.transitions "
        "WHERE day = '2026-09-01' GROUP BY ALL ORDER BY ALL"
    )
    assert loading.lake.rows(steps) == [
        ("", "GET /customers/search", 1),
        ("GET /customers/search", "GET /status", 1),
        ("GET /customers/{id}", "GET /customers/{id}", 79),
        ("GET /status", "GET /customers/{id}", 1),
    ]


def test_in_whichever_order_the_days_come_the_lake_is_the_same(loading: Loading) -> None:
    days = {n: [*day(n, [*customers(n, 70), "/customers/search"], one)] for n in range(3)}
    said = []
    for order in ((0, 1, 2), (2, 0, 1)):
        for table in ("events", "activity", "transitions", "path_templates", "ingested_files"):
            loading.lake.execute(f"DELETE FROM lake.{table}")
        for n in order:
            loading.take(days[n], f"{n}.jsonl", now=NOW)
        said.append(
            [
                loading.lake.rows(f"SELECT {columns} FROM lake.{table} ORDER BY ALL")
                for table, columns in {
                    "path_templates": "path, kept",
                    "events": "ts, endpoint, object",
                    "activity": "key_id, day, endpoint, events, objects, object_count, first_ts",
                    "transitions": "key_id, day, previous, endpoint, events",
                }.items()
            ]
        )
    assert said[0] == said[1]
    assert said[0][0] == [("GET /customers/", ["search"])]


def test_a_key_of_each_customer_makes_its_place_an_id(quick: Loading) -> None:
    # Each key uses its own path each day: what stands there is the key's.
    for n in range(3):
        paths = [f"/{named(at)}/orders" for at in range(60 * (n + 1))]
        quick.take(day(n, paths, int), f"{n}.jsonl", now=NOW)
    assert endpoints(quick) == ["GET /{id}/orders"]


@pytest.mark.parametrize(
    "days",
    [
        # One day of a scan that is answered.
        {0: (customers(0, 400), {})},
        # Nothing there, not allowed, not understood.
        {n: (customers(n), {"status": status}) for n, status in enumerate((404, 405, 400, 403))},
        # A large vocabulary that all keys use every day.
        {n: ([f"/rpc/{named(at)}" for at in range(60 * (n + 1))], {}) for n in range(4)},
        # Too few.
        {n: (customers(n, 40), {}) for n in range(3)},
        # The catalogue names it.
        {n: ([f"/v1/checks/{named(n * 1000 + at)}" for at in range(80)], {}) for n in range(3)},
    ],
    ids=["one day", "refused", "vocabulary", "few", "catalogue"],
)
def test_what_teaches_nothing(
    days: dict[int, tuple[list[str], dict[str, Any]]], quick: Loading
) -> None:
    for n, (paths, fields) in days.items():
        quick.take(day(n, paths, lambda at: at % 12, **fields), f"{n}.jsonl", now=NOW)
        # Another order of keys, so that no path is one key's.
        again = day(n, paths, lambda at: (at + 1) % 12, user_agent="other", **fields)
        quick.take(
            [row | {"request_id": f"again-{row['request_id']}"} for row in again],
            f"again-{n}.jsonl",
            now=NOW,
        )
    assert quick.lake.rows("FROM lake.path_templates") == []


def test_what_waits_for_its_time_comes_in_as_learnt(quick: Loading) -> None:
    now = datetime(2026, 9, 2, 12)
    early = [*day(0, customers(0, 110), one), *day(9, customers(9, 3), one)]
    quick.take(early, "0.jsonl", now=now)
    quick.take(day(1, [*customers(1), *customers(2)], one), "1.jsonl", now=now)
    quick.take(day(2, ["/status"], one), "2.jsonl", now=NOW)
    assert quick.lake.rows(
        "SELECT endpoint, sum(events) FROM lake.activity WHERE day = '2026-09-10' GROUP BY ALL"
    ) == [("GET /customers/{id}", 3)]


def test_a_repair_rolls_up_as_learnt(loading: Loading) -> None:
    for n in range(3):
        loading.take([*day(n, customers(n), one)], f"{n}.jsonl", now=NOW)
    rollups = "SELECT endpoint, sum(events), sum(object_count) FROM lake.activity GROUP BY ALL"
    before = loading.lake.rows(rollups)
    assert before == [("GET /customers/{id}", 240, 240)]
    with loading.lake.writing():
        loading.lake.execute("DELETE FROM lake.activity WHERE day = '2026-09-01'")
    loading.lake.close()
    report = repair(loading.folder / "lake", LakeSettings(), NoWhere(), NOW)
    assert report.left == []
    with loading.lake.open(loading.folder / "lake") as lake:
        assert lake.rows(rollups) == before


def test_pruned_days_are_renamed(loading: Loading) -> None:
    loading.take([*day(0, customers(0, 110), one)], "0.jsonl", now=NOW)
    with loading.lake.writing():
        loading.lake.execute("DELETE FROM lake.events WHERE day < '2026-09-02'")
        loading.lake.execute(
            "INSERT INTO lake.maintenance VALUES ('2026-09-02', 'maintained', '2026-09-02')"
        )
    loading.take([*day(1, [*customers(1), *customers(2)], one)], "1.jsonl", now=NOW)
    assert loading.lake.rows(
        "SELECT day::VARCHAR, endpoint, sum(events) FROM lake.activity GROUP BY ALL ORDER BY ALL"
    ) == [("2026-09-01", "GET /customers/{id}", 110), ("2026-09-02", "GET /customers/{id}", 160)]
    # A line of a pruned day that comes again is still known.
    assert loading.take([*day(0, customers(0, 5), one)], "5.jsonl", now=NOW).total("events") == 0


def test_a_scanner_adds_few_endpoints(quick: Loading) -> None:
    scan = day(0, [f"/{named(at)}/x" for at in range(3000)], one, status=404)
    owner = day(0, ["/status", "/v1/checks"], lambda _: 2)
    quick.take([*scan, *owner], now=NOW)
    rows = quick.lake.rows(
        "SELECT key_id, endpoint LIKE $other, count(*), sum(events) FROM lake.activity "
        "WHERE status_class = '404' GROUP BY ALL ORDER BY ALL",
        other=f"%{OTHER_PATHS}",
    )
    assert rows == [("key_1", False, 200, 200), ("key_1", True, 1, 2800)]
    assert quick.lake.value("SELECT count(*) FROM lake.transitions") <= 205
    # What was called is there still, and where the key was let in stays.
    assert quick.lake.value("SELECT count(DISTINCT path) FROM lake.events") == 3002
    assert "GET /v1/checks" in endpoints(quick)


def test_what_is_answered_once_or_catalogued_is_no_other_path(quick: Loading) -> None:
    paths = [f"/{named(at)}/x" for at in range(300)]
    refused = day(0, [*paths, "/v1/checks"], one, status=403)
    answered = day(1, paths[-5:], one)
    quick.take([*refused, *answered], now=NOW)
    said = endpoints(quick)
    assert {f"GET {path}" for path in paths[-5:]} | {"GET /v1/checks"} <= set(said)
    assert len(said) == 200 + 5 + 1 + 1


def test_places_are_learnt_from_the_left(quick: Loading) -> None:
    for n in range(3):
        paths = [f"/orgs/{named(n * 1000 + at)}/repos/{named(at)}-x" for at in range(80)]
        quick.take(day(n, paths, one), f"{n}.jsonl", now=NOW)
    assert [path for path, *_ in quick.lake.rows("FROM lake.path_templates ORDER BY path")] == [
        "GET /orgs/",
    ]
    assert path_templates.known(quick.lake).match("GET /orgs/abcd/repos/x") == (
        "GET /orgs/{id}/repos/x",
        "abcd",
    )
