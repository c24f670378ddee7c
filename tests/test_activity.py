"""The roll-up says of the events what the events say themselves."""

from __future__ import annotations

from datetime import date, datetime

import pytest

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
        "first_ts, last_ts FROM lake.activity ORDER BY day, status_class"
    ) == [
        (date(2026, 9, 30), "GET /v1/checks/{id}", "2xx", "Grafana/10", 3, 2, 15, 1,
         datetime(2026, 9, 30, 10), datetime(2026, 9, 30, 11)),
        (date(2026, 9, 30), "GET /v1/checks/{id}", "403", "Grafana/10", 1, 1, 0, 0,
         datetime(2026, 9, 30, 11, 0, 1), datetime(2026, 9, 30, 11, 0, 1)),
        (date(2026, 10, 1), "GET /v1/checks/{id}", "-", "(none)", 1, 1, 0, 0,
         datetime(2026, 10, 1), datetime(2026, 10, 1)),
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
