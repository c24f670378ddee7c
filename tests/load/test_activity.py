"""The roll-up says of the events what the events say themselves."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from hashlib import md5
from typing import Any

import pytest

from keywatch.load import activity
from keywatch.load.activity import SESSION_GAP, SKETCH_SIZE
from tests.conftest import Loading, event


def test_a_row_is_a_key_a_day_an_address_an_endpoint_a_status_and_an_agent(
    quick: Loading,
) -> None:
    full = "ply_live_" + "a1" * 12
    rows = [
        event(timestamp="2026-09-30T10:00:00Z", endpoint="/v1/checks/1", response_bytes=10),
        event(timestamp="2026-09-30T10:59:59Z", endpoint="/v1/checks/2", response_bytes=5),
        event(timestamp="2026-09-30T11:00:00Z", endpoint=f"/v1/checks/2?key={full}"),
        event(timestamp="2026-09-30T11:00:01Z", status=403),
        event(timestamp="2026-10-01T00:00:00Z", status=None, user_agent=None),
    ]
    quick.take(rows)
    assert quick.lake.rows(
        "SELECT day, endpoint, status_class, agent, events, object_count, response_bytes, exposed, "
        "first_ts, last_ts, peak_per_minute FROM lake.activity ORDER BY day, status_class"
    ) == [
        (date(2026, 9, 30), "GET /v1/checks/{id}", "2xx", "Grafana/10", 3, 2, 15, 1,
         datetime(2026, 9, 30, 10), datetime(2026, 9, 30, 11), 1),
        (date(2026, 9, 30), "GET /v1/checks/{id}", "403", "Grafana/10", 1, 1, 0, 0,
         datetime(2026, 9, 30, 11, 0, 1), datetime(2026, 9, 30, 11, 0, 1), 1),
        (date(2026, 10, 1), "GET /v1/checks/{id}", "-", "(none)", 1, 1, 0, 0,
         datetime(2026, 10, 1), datetime(2026, 10, 1), 1),
    ]  # fmt: skip
    assert quick.lake.rows("SELECT hour, events FROM lake.activity_hours ORDER BY hour") == [
        (datetime(2026, 9, 30, 10), 2),
        (datetime(2026, 9, 30, 11), 2),
        (datetime(2026, 10, 1), 1),
    ]


@pytest.mark.parametrize(
    ("status", "status_class"),
    [(200, "2xx"), (304, "3xx"), (401, "401"), (403, "403"), (404, "404"), (429, "429"),
     (422, "4xx"), (503, "5xx"), (None, "-")],
)  # fmt: skip
def test_status_classes(status: int | None, status_class: str, quick: Loading) -> None:
    quick.take([event(status=status)])
    assert quick.lake.value("SELECT status_class FROM lake.activity") == status_class


def test_loads_add_up(quick: Loading) -> None:
    for n in range(3):
        quick.take([event(timestamp=f"2026-09-30T10:00:0{n}Z")], f"{n}.jsonl")
    assert quick.lake.rows(
        "SELECT sum(events), min(first_ts), max(last_ts), count(DISTINCT load_id) "
        "FROM lake.activity GROUP BY key_id, day"
    ) == [(3, datetime(2026, 9, 30, 10), datetime(2026, 9, 30, 10, 0, 2), 3)]


@pytest.mark.parametrize(
    ("user_agent", "agent"),
    [
        ("Grafana/10.4.3", "Grafana/10"),
        ("[aws-cli/2.1 Python/3]", "aws-cli/2"),
        ("curl", "curl"),
        ("Terraform/v1.5", "Terraform/v1"),
        ("Mozilla/5.0 (X11) AppleWebKit/537 Chrome/120.0 Safari/537", "browser Chrome"),
        ("Mozilla/5.0", "browser other"),
        ("", "(none)"),
        (None, "(none)"),
    ],
)
def test_agents_are_product_and_major_version(
    user_agent: str | None, agent: str, quick: Loading
) -> None:
    quick.take([event(user_agent=user_agent)])
    assert quick.lake.value("SELECT agent FROM lake.activity") == agent


def at(seconds: float, **fields: Any) -> dict[str, Any]:
    """An event so long after half past eleven in the evening."""
    moment = datetime(2026, 9, 30, 23, 30) + timedelta(seconds=seconds)
    return event(timestamp=moment.isoformat() + "Z", request_id=str(seconds), **fields)


def mixed_events() -> list[dict[str, Any]]:
    return [
        at(
            n * 7,
            key_id=f"key_{n % 3}",
            ip=f"192.0.2.{n % 4}",
            endpoint=f"/v1/checks/{n % 11}" if n % 5 else "/v1/me",
            status=(200, 403, None, 503)[n % 4],
            user_agent=("curl/8.4.0", None)[n % 2],
            response_bytes=n if n % 3 else None,
        )
        for n in range(400)
    ]


@pytest.mark.parametrize("most_numbers", [2**63, 50])
def test_a_roll_up_is_what_sql_says_of_the_events(
    most_numbers: int, quick: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "_MOST_NUMBERS", most_numbers)
    quick.take(mixed_events())
    rolled = quick.lake.rows(
        "SELECT key_id, day, address, endpoint, status_class, agent, events, object_count, "
        "len(objects), response_bytes, first_ts, last_ts FROM lake.activity ORDER BY ALL"
    )
    assert rolled == quick.lake.rows(
        "SELECT key_id, day, address, endpoint, CASE status WHEN 200 THEN '2xx' "
        "WHEN 403 THEN '403' WHEN 503 THEN '5xx' ELSE '-' END AS status_class, agent, count(*), "
        "count(DISTINCT object), count(DISTINCT object), coalesce(sum(response_bytes), 0)::BIGINT, "
        "min(ts), max(ts) FROM lake.events GROUP BY ALL ORDER BY ALL"
    )
    assert len(rolled) > 40
    assert quick.lake.rows(
        "SELECT key_id, hour, address, events FROM lake.activity_hours ORDER BY ALL"
    ) == quick.lake.rows(
        "SELECT key_id, date_trunc('hour', ts), address, count(*) FROM lake.events "
        "GROUP BY ALL ORDER BY ALL"
    )
    assert quick.lake.rows(
        "SELECT key_id, day, address, endpoint, left(status_class, 1), agent, peak_per_minute "
        "FROM lake.activity ORDER BY ALL"
    ) == quick.lake.rows(
        "SELECT key_id, day, address, endpoint, status, agent, max(events) FROM ("
        "SELECT key_id, day, address, endpoint, coalesce(left(status::VARCHAR, 1), '-') AS status, "
        "agent, date_trunc('minute', ts) AS minute, count(*) AS events FROM lake.events "
        "GROUP BY ALL) GROUP BY ALL ORDER BY ALL"
    )


def hash_of(text: str) -> int:
    return int.from_bytes(md5(text.encode()).digest()[8:12], "little")


def test_a_sketch_is_the_smallest_hashes_of_the_distinct_objects(quick: Loading) -> None:
    quick.take([at(n / 8, endpoint=f"/v1/checks/{n % 100}?page={n}") for n in range(300)])
    hashes = sorted(hash_of(str(n)) for n in range(100))
    assert quick.lake.rows("SELECT objects, object_count FROM lake.activity") == [
        (hashes[:SKETCH_SIZE], 100)
    ]


def test_the_sketch_of_two_parts_is_that_of_the_whole(quick: Loading) -> None:
    rows = [at(n / 8, endpoint=f"/v1/checks/{n % 90}") for n in range(200)]
    quick.take(rows[:120], "a.jsonl")
    quick.take(rows[120:], "b.jsonl")
    united = quick.lake.value(
        "SELECT list_sort(list_distinct(flatten(list(objects))))[:$size] FROM lake.activity",
        size=SKETCH_SIZE,
    )
    assert united == sorted(hash_of(str(n)) for n in range(90))[:SKETCH_SIZE]


def test_an_endpoint_without_objects_has_an_empty_sketch(quick: Loading) -> None:
    quick.take([event(endpoint="/v1/me")])
    assert quick.lake.rows("SELECT objects, object_count FROM lake.activity") == [([], 0)]


def transitions(loading: Loading) -> dict[tuple[str, ...], int]:
    return {
        row[:-1]: row[-1]
        for row in loading.lake.rows(
            "SELECT key_id, address, previous, endpoint, sum(events)::BIGINT FROM lake.transitions "
            "GROUP BY ALL"
        )
    }


def test_transitions_cross_no_key_no_address_and_no_gap(quick: Loading) -> None:
    gap = SESSION_GAP.total_seconds()
    quick.take(
        [
            at(0, key_id="a", ip="192.0.2.1", endpoint="/one"),
            at(1, key_id="b", ip="192.0.2.1", endpoint="/other"),
            at(2, key_id="a", ip="192.0.2.2", endpoint="/elsewhere"),
            at(gap - 0.001, key_id="a", ip="192.0.2.1", endpoint="/two"),
            at(gap + 1, key_id="b", ip="192.0.2.1", endpoint="/other"),
            at(gap + 2, key_id="a", ip="192.0.2.1", endpoint="/one"),
            at(gap + 3, key_id="a", ip="192.0.2.1", endpoint="/two"),
        ]
    )
    assert transitions(quick) == {
        ("a", "192.0.2.1", "", "GET /one"): 1,
        ("a", "192.0.2.1", "GET /one", "GET /two"): 2,
        ("a", "192.0.2.1", "GET /two", "GET /one"): 1,
        ("a", "192.0.2.2", "", "GET /elsewhere"): 1,
        ("b", "192.0.2.1", "", "GET /other"): 2,
    }


@pytest.mark.parametrize(
    ("pause_seconds", "previous"), [(1799.999999, "GET /one"), (1800, ""), (1800.000001, "")]
)
def test_a_session_ends_with_half_an_hour_without_a_request(
    pause_seconds: float, previous: str, quick: Loading
) -> None:
    quick.take([at(0, endpoint="/one"), at(pause_seconds, endpoint="/two")])
    assert quick.lake.rows("SELECT previous FROM lake.transitions WHERE endpoint = 'GET /two'") == [
        (previous,)
    ]


def test_a_session_goes_on_over_midnight_and_counts_on_the_day_of_the_request(
    quick: Loading,
) -> None:
    quick.take([at(1790, endpoint="/one"), at(1810, endpoint="/two")])
    assert quick.lake.rows(
        "SELECT day, previous, endpoint, events FROM lake.transitions ORDER BY ALL"
    ) == [(date(2026, 9, 30), "", "GET /one", 1), (date(2026, 10, 1), "GET /one", "GET /two", 1)]


def test_every_event_is_in_one_transition(quick: Loading) -> None:
    rows = mixed_events()
    quick.take(reversed(rows))
    counted = Counter[str]()
    for (key_id, *_), events in transitions(quick).items():
        counted[key_id] += events
    assert counted == Counter(row["key_id"] for row in rows)


def test_a_log_may_claim_any_number_of_bytes(quick: Loading) -> None:
    quick.take([at(n, response_bytes=2**63 - 1) for n in range(3)])
    assert quick.lake.value("SELECT response_bytes FROM lake.activity") == 3 * 2**40
