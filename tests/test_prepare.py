"""`sql/prepare.sql`: what detectors read, from activity made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest

from keywatch import detectors
from keywatch.lake import Lake
from keywatch.model import Window

START, END = date(2026, 9, 28), date(2026, 10, 5)
WINDOW = Window(datetime.combine(START, time()), datetime.combine(END, time()))
YESTERDAY = START - timedelta(days=1)


@pytest.fixture
def lake() -> Iterator[Lake]:
    with Lake.in_memory() as lake:
        yield lake


def use(lake: Lake, day: date, *, key_id: str = "k", address: str = "192.0.2.1",
        endpoint: str = "GET /a", status_class: str = "2xx", agent: str = "curl/8",
        events: int = 1, objects: int = 0, load_id: int = 1) -> None:  # fmt: skip
    """A row of activity at noon, and its hour."""
    noon = datetime.combine(day, time(12))
    lake.execute(
        "INSERT INTO lake.activity VALUES ($key_id, $day, $address, $endpoint, $status_class, "
        "$agent, $events, [], $objects, 0, 0, $noon, $noon, $load_id, $events)",
        key_id=key_id, day=day, address=address, endpoint=endpoint, status_class=status_class,
        agent=agent, events=events, objects=objects, noon=noon, load_id=load_id,
    )  # fmt: skip
    lake.execute(
        "INSERT INTO lake.activity_hours VALUES ($key_id, $noon, $address, $events, $load_id)",
        key_id=key_id, noon=noon, address=address, events=events, load_id=load_id,
    )  # fmt: skip


def origin(lake: Lake, address: str, **fields: Any) -> None:
    columns = {"address": address, "ip": address, "class": "isp", "located": True} | fields
    lake.execute(
        f"INSERT INTO lake.origins ({', '.join(columns)}) "
        f"VALUES ({', '.join(f'${name}' for name in columns)})",
        **columns,
    )


def own_key(lake: Lake, key_id: str, **fields: Any) -> None:
    columns = {"key_id": key_id, "import_id": 1} | fields
    lake.execute(
        f"INSERT INTO lake.keys ({', '.join(columns)}) "
        f"VALUES ({', '.join(f'${name}' for name in columns)})",
        **columns,
    )


def prepare(lake: Lake, baseline_days: int = 90) -> None:
    """Prepare `WINDOW`; addresses that no test located are in networks of their own."""
    for (address,) in lake.rows(
        "SELECT DISTINCT address FROM lake.activity ANTI JOIN lake.origins USING (address)"
    ):
        origin(lake, address, prefix=f"{address.rpartition('.')[0]}.0/24", located=False)
    detectors.prepare(lake, WINDOW, baseline_days, [])


def test_an_empty_lake_gives_empty_tables(lake: Lake) -> None:
    prepare(lake)
    assert lake.rows("FROM visits UNION ALL FROM visits") == []
    assert lake.rows("FROM key_history") == []


def test_the_parts_of_two_loads_add_up(lake: Lake) -> None:
    for load_id in (1, 2):
        use(lake, YESTERDAY, events=3, objects=2, load_id=load_id)
        use(lake, START, events=5, objects=1, load_id=load_id)
    prepare(lake)
    assert lake.rows("SELECT events, objects, endpoints, succeeded FROM visits") == [(10, 2, 1, 10)]
    assert lake.rows("SELECT events FROM visit_addresses") == [(10,)]
    assert lake.rows("SELECT events FROM visit_agents") == [(10,)]
    assert lake.rows("SELECT events FROM window_hours") == [(10,)]
    assert lake.rows("SELECT events, objects FROM baseline_days") == [(6, 4)]
    assert lake.rows("SELECT days FROM baseline_addresses") == [(1,)]
    assert lake.rows("SELECT days, events FROM baseline_endpoints") == [(1, 6)]
    assert lake.rows("SELECT days FROM baseline_agents") == [(1,)]
    assert lake.rows("SELECT active_days, mean_events, max_objects FROM key_history") == [(1, 6, 4)]


def test_window_and_baseline_are_half_open(lake: Lake) -> None:
    first = START - timedelta(days=30)
    for day in (first - timedelta(days=1), first, YESTERDAY, START, END - timedelta(days=1), END):
        use(lake, day)
    prepare(lake, baseline_days=30)
    assert lake.rows("SELECT day FROM visits ORDER BY day") == [(START,), (END - timedelta(1),)]
    assert lake.rows("SELECT day FROM baseline_days ORDER BY day") == [(first,), (YESTERDAY,)]
    assert lake.rows("SELECT hour::DATE FROM window_hours ORDER BY ALL") == [
        (START,), (END - timedelta(1),),
    ]  # fmt: skip
    assert lake.rows("SELECT hour::DATE FROM baseline_hours ORDER BY ALL") == [
        (first,), (YESTERDAY,),
    ]  # fmt: skip


def test_a_late_line_counts_on_its_own_day(lake: Lake) -> None:
    use(lake, START, load_id=1)
    use(lake, YESTERDAY, events=2, load_id=2)
    prepare(lake)
    assert lake.rows("SELECT day, events FROM visits") == [(START, 1)]
    assert lake.rows("SELECT day, events FROM baseline_days") == [(YESTERDAY, 2)]


@pytest.mark.parametrize("baseline_days", [90, 400])
def test_days_seen_are_counted_not_rows(lake: Lake, baseline_days: int) -> None:
    use(lake, START)
    first = START - timedelta(days=baseline_days)
    for day in (first, YESTERDAY):
        for agent in ("curl/8", "wget/1"):
            for status_class in ("2xx", "404"):
                use(lake, day, agent=agent, status_class=status_class, events=2)
    use(lake, YESTERDAY, status_class="403")
    use(lake, YESTERDAY, address="192.0.2.9", status_class="401", agent="wget/1")
    prepare(lake, baseline_days)
    assert lake.rows("SELECT days, denied_days, events, first_day FROM baseline_endpoints") == [
        (2, 1, 18, first)
    ]
    assert lake.rows("SELECT agent, product, days FROM baseline_agents ORDER BY agent") == [
        ("curl/8", "curl", 2), ("wget/1", "wget", 2),
    ]  # fmt: skip
    assert lake.rows(
        "SELECT address, days, first_day, last_day FROM baseline_addresses ORDER BY address"
    ) == [("192.0.2.1", 2, first, YESTERDAY), ("192.0.2.9", 1, YESTERDAY, YESTERDAY)]
    assert lake.rows("SELECT prefix, addresses, days FROM baseline_prefixes") == [
        ("192.0.2.0/24", 2, 3)
    ]
    assert lake.rows("SELECT active_days, address_days, addresses, prefixes FROM key_history") == [
        (2, 3, 2, 1)
    ]
    assert lake.rows("SELECT mean_denied, max_denied FROM key_history") == [(1, 2)]


def test_the_windows_of_one_span_are_each_as_if_they_were_alone(lake: Lake) -> None:
    for n in range(30):
        use(
            lake,
            END - timedelta(days=n),
            address=f"192.0.2.{n % 7}",
            agent=f"curl/{n % 3}",
            events=n,
        )
    tables = ("visits", "key_history", "baseline_addresses", "baseline_endpoints", "window_hours")

    def answers() -> list[Any]:
        return [sorted(lake.rows(f"FROM {table}")) for table in tables]

    earlier = Window(WINDOW.start - timedelta(days=7), WINDOW.start)
    prepare(lake, baseline_days=14)
    alone = {WINDOW: answers()}
    detectors.prepare(lake, earlier, 14, [])
    alone[earlier] = answers()
    assert alone[earlier] != alone[WINDOW]
    detectors.prepare_span(lake, START - timedelta(days=21), END, [])
    for window in (earlier, WINDOW):
        detectors.prepare_window(lake, window, 14)
        assert answers() == alone[window]


def test_keys_not_in_use_have_no_history(lake: Lake) -> None:
    use(lake, START, key_id="new")
    use(lake, YESTERDAY, key_id="silent")
    prepare(lake)
    assert lake.rows("SELECT key_id, active_days, usual_place FROM key_history") == [
        ("new", 0, None)
    ]
    for table in ("baseline_days", "baseline_addresses", "baseline_endpoints", "baseline_agents"):
        assert lake.rows(f"FROM {table}") == []


def test_peers_are_keys_of_like_scopes_and_like_use(lake: Lake) -> None:
    for key_id, scopes in (("a", ["r", "w"]), ("b", ["w", "r"]), ("c", ["r"])):
        own_key(lake, key_id, scopes=scopes)
        use(lake, YESTERDAY, key_id=key_id)
        use(lake, START, key_id=key_id)
    prepare(lake)
    assert lake.rows("SELECT key_id, peer_group FROM peers ORDER BY key_id") == [
        ("a", "r w|GET /a"), ("b", "r w|GET /a"), ("c", "r|GET /a"),
    ]  # fmt: skip


def test_an_owners_prefixes_are_told_key_by_key(lake: Lake) -> None:
    own_key(lake, "a", owner="team", environment="prod")
    own_key(lake, "b", owner="team", environment="stg")
    own_key(lake, "c")
    for key_id in ("a", "b", "c"):
        use(lake, YESTERDAY, key_id=key_id)
        use(lake, START, key_id=key_id)
    use(lake, YESTERDAY, key_id="a", address="192.0.2.2")
    prepare(lake)
    assert lake.rows(
        "SELECT owner, key_id, prefix, environment, days FROM owner_prefixes ORDER BY key_id"
    ) == [("team", "a", "192.0.2.0/24", "prod", 2), ("team", "b", "192.0.2.0/24", "stg", 1)]


def test_the_newest_import_of_a_key_is_in_force(lake: Lake) -> None:
    own_key(lake, "k", name="old", scopes=["admin:*"])
    own_key(lake, "k", name="new", import_id=2)
    lake.execute(
        "INSERT INTO lake.events (day, ts, key_id, key) VALUES "
        "($day, $day, 'k', 'ply_live_prod_1…2'), ($day, $day, 'unlisted', 'ply_test_stg_1…2')",
        day=START,
    )
    prepare(lake)
    assert lake.rows(
        "SELECT key_id, name, scopes, logged_environment, in_inventory FROM keys ORDER BY key_id"
    ) == [("k", "new", None, "prod", True), ("unlisted", None, None, "stg", False)]


def test_a_prefix_in_two_networks_is_known_by_the_more_telling_one(lake: Lake) -> None:
    prefix = "192.0.2.0/24"
    origin(lake, "192.0.2.1", prefix=prefix, asn=1, organization="Home", country="AT")
    origin(lake, "192.0.2.2", prefix=prefix, asn=2, organization="Tunnel", country="RO",
           **{"class": "vpn"})  # fmt: skip
    use(lake, START, address="192.0.2.1", events=9)
    use(lake, START, address="192.0.2.2")
    prepare(lake)
    assert lake.rows("SELECT prefix, network, country, class, place, events FROM visits") == [
        (prefix, "AS2", "RO", "vpn", "AS2 Tunnel, RO", 10)
    ]


def test_the_usual_place_is_where_most_days_are_whatever_the_address(lake: Lake) -> None:
    origin(lake, "192.0.2.1", prefix="192.0.2.0/24", asn=1, organization="Rare", country="AT")
    for n in (1, 2, 3):
        origin(lake, f"198.51.{n}.1", prefix=f"198.51.{n}.0/24", asn=2, organization="Usual",
               country="DE")  # fmt: skip
        use(lake, START - timedelta(days=n), address=f"198.51.{n}.1")
    use(lake, START - timedelta(days=1))
    use(lake, START - timedelta(days=2))
    use(lake, START)
    prepare(lake)
    assert lake.rows("SELECT usual_place, networks, countries FROM key_history") == [
        ("AS2 Usual, DE", 2, 2)
    ]


def test_an_address_without_a_place_is_its_own(lake: Lake) -> None:
    origin(lake, "", ip=None, located=False, **{"class": "none"})
    origin(lake, "cloudtrail.amazonaws.com", ip=None, located=False, **{"class": "service"})
    use(lake, START, address="")
    use(lake, START, address="cloudtrail.amazonaws.com")
    prepare(lake)
    assert lake.rows("SELECT prefix, network, country, located FROM visits ORDER BY prefix") == [
        ("(none)", "none", "-", False),
        ("cloudtrail.amazonaws.com", "service", "-", False),
    ]


def test_ties_are_broken_by_name(lake: Lake) -> None:
    for key_id in (f"k{n}" for n in range(20)):
        for name in ("b", "a", "c"):
            use(lake, YESTERDAY, key_id=key_id, endpoint=f"GET /{name}", agent=f"{name}/1")
        use(lake, START, key_id=key_id)
    prepare(lake)
    assert lake.rows("SELECT DISTINCT usual_endpoint, usual_agent FROM key_history") == [
        ("GET /a", "a/1")
    ]
