"""`detect/prepare.sql`: what detectors read, from activity made by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest

from keywatch.content import content_path
from keywatch.detect import detectors
from keywatch.lake import Lake, sql_text
from keywatch.model import Window
from keywatch.vendors import catalogue_by_source

START, END = date(2026, 9, 28), date(2026, 10, 5)
WINDOW = Window(datetime.combine(START, time()), datetime.combine(END, time()))
YESTERDAY = START - timedelta(days=1)


@pytest.fixture
def lake(blank: Lake) -> Lake:
    return blank


def use(lake: Lake, day: date, *, key_id: str = "k", address: str = "192.0.2.1",
        endpoint: str = "GET /a", status_class: str = "2xx", agent: str = "curl/8",
        events: int = 1, objects: int = 0, load_id: int = 1, hour: int = 12,
        hashes: Sequence[int] = ()) -> None:  # fmt: skip
    """A row of activity, at noon unless said, and its hour."""
    moment = datetime.combine(day, time(hour))
    lake.execute(
        "INSERT INTO lake.activity VALUES ($key_id, $day, $address, $endpoint, $status_class, "
        "$agent, $events, $hashes, $objects, 0, 0, $moment, $moment, $load_id, $events)",
        key_id=key_id, day=day, address=address, endpoint=endpoint, status_class=status_class,
        agent=agent, events=events, objects=objects, moment=moment, load_id=load_id,
        hashes=list(hashes),
    )  # fmt: skip
    lake.execute(
        "INSERT INTO lake.activity_hours VALUES ($key_id, $moment, $address, $events, $load_id)",
        key_id=key_id, moment=moment, address=address, events=events, load_id=load_id,
    )  # fmt: skip


def logged(lake: Lake, source: str = "pulsely", key_id: str = "k") -> None:
    """An event of the window: its format says whose catalogue the key's calls are of."""
    lake.execute(
        "INSERT INTO lake.events (day, ts, key_id, source) VALUES ($day, $day, $key_id, $source)",
        day=START, key_id=key_id, source=source,
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


def test_a_rhythm_is_of_the_hours_of_each_day(lake: Lake) -> None:
    before = YESTERDAY - timedelta(days=1)
    for load_id in (1, 2):
        use(lake, YESTERDAY, events=6, load_id=load_id)
        use(lake, before, events=3, load_id=load_id)
    lake.execute(
        "INSERT INTO lake.activity_hours VALUES ('k', $hour, '192.0.2.1', 18, 1)",
        hour=datetime.combine(before, time(13)),
    )
    use(lake, START, events=99)
    prepare(lake)
    assert lake.rows(
        "SELECT key_id, days, round(exp(rate), 6), exp(hours) FROM baseline_rhythms"
    ) == [("k", 2, 12.0, pytest.approx(math.sqrt(2)))]
    variances = lake.rows("SELECT rate_variance, hours_variance FROM baseline_rhythms")
    assert variances == [(pytest.approx(0, abs=1e-12), pytest.approx((math.log(2) / 2) ** 2))]


def test_the_past_of_a_stay_has_only_what_is_usual(lake: Lake) -> None:
    """A day at a network that was flagged is no day at two networks at once, nor of the rhythm."""
    before = YESTERDAY - timedelta(days=1)
    for day in (before, YESTERDAY, START):
        use(lake, day)
    use(lake, before, address="198.51.100.1", events=50)
    use(lake, YESTERDAY, address="203.0.113.1", events=50)
    use(lake, START, address="10.9.8.7", events=4)
    flagged = "INSERT INTO lake.flagged_visits (key_id, day, prefix, window_start, window_end) "
    lake.execute(
        flagged + "VALUES ('k', $day, '203.0.113.0/24', $start, $end)",
        day=YESTERDAY, start=WINDOW.start - timedelta(days=7), end=WINDOW.start,
    )  # fmt: skip
    prepare(lake)
    assert lake.rows("SELECT key_id, days FROM baseline_days_beside") == [("k", 1)]
    rates = lake.rows("SELECT days, exp(2 * rate) FROM baseline_rhythms")
    assert rates == [(2, pytest.approx(51))]
    assert lake.rows("FROM stay_hours") == [
        ("k", "10.9.8.0/24", datetime.combine(START, time(12)), 4)
    ]


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


def test_an_environment_is_one_word_however_it_is_written(lake: Lake) -> None:
    words = {
        "a": "Production",
        "b": " prod ",
        "c": "staging",
        "d": "DEV",
        "e": "development",
        "f": "qa",
    }
    for key_id, environment in words.items():
        own_key(lake, key_id, environment=environment)
    prepare(lake)
    assert dict(lake.rows("SELECT key_id, environment FROM keys")) == {
        "a": "prod", "b": "prod", "c": "stg", "d": "dev", "e": "dev", "f": "qa",
    }  # fmt: skip


def test_an_import_that_changes_the_scopes_is_a_change_in_whatever_order_they_are(
    lake: Lake,
) -> None:
    for import_id, scopes in enumerate((["b", "a"], ["a", "b"], ["a"], ["a", "c"]), start=1):
        own_key(
            lake, "k", import_id=import_id, scopes=scopes, imported_at=datetime(2026, 9, import_id)
        )
    own_key(lake, "unscoped")
    own_key(lake, "unscoped", import_id=2, scopes=["a"])
    prepare(lake)
    assert lake.rows("FROM scope_changes ORDER BY ALL") == [
        ("k", datetime(2026, 9, 3), ["a", "b"], ["a"]),
        ("k", datetime(2026, 9, 4), ["a"], ["a", "c"]),
    ]  # fmt: skip


def test_a_planted_key_is_marked(lake: Lake) -> None:
    own_key(lake, "a", honey=True)
    own_key(lake, "b")
    prepare(lake)
    assert lake.rows("SELECT key_id, honey FROM keys ORDER BY key_id") == [
        ("a", True),
        ("b", False),
    ]


def test_a_full_key_is_the_one_s_that_is_shown_like_it(lake: Lake) -> None:
    shown = "ply_live_prod_4f8a2c…9e1d"
    own_key(lake, "owner", key=shown)
    for key_id in ("twin_1", "twin_2"):
        own_key(lake, key_id, key="ply_test_stg_90b781…11ee")
    digest = "0123456789abcdef"
    for day, path, agent, exposed in (
        (
            START,
            f"/a?key={shown}#{digest}&other=ply_test_stg_90b781…11ee#{digest}",
            f"x/1 {shown}#{digest}",
            True,
        ),
        (START, f"/a?key={shown}", "x/1", False),
        (YESTERDAY, f"/a?key={shown}#{digest}", "x/1", True),
        (END, f"/a?key={shown}#{digest}", "x/1", True),
    ):
        lake.execute(
            "INSERT INTO lake.events (day, ts, key_id, endpoint, path, user_agent, exposed) "
            "VALUES ($day, $day, 'sender', 'GET /a', $path, $agent, $exposed)",
            day=day, path=path, agent=agent, exposed=exposed,
        )  # fmt: skip
    prepare(lake)
    assert lake.rows("FROM exposures ORDER BY ALL") == [
        ("owner", shown, "sender", ["the URL", "the user agent"], "GET /a", 1, START, START),
        (None, "ply_test_stg_90b781…11ee", "sender", ["the URL"], "GET /a", 1, START, START),
    ]  # fmt: skip


def pruned(lake: Lake) -> None:
    """The events are gone; what was loaded is known."""
    for source in ("pulsely", None):
        lake.execute(
            "INSERT INTO lake.ingested_files BY NAME SELECT $source AS source", source=source
        )


@pytest.mark.parametrize("known_by", [logged, pruned])
def test_the_fullest_minute_is_of_calls_with_a_limit(
    known_by: Callable[[Lake], None], lake: Lake
) -> None:
    known_by(lake)
    use(lake, YESTERDAY, endpoint="GET /v1/metrics", events=7)
    use(lake, START, endpoint="GET /v1/metrics", events=50)
    use(lake, START, endpoint="GET /v1/metrics/{id}", events=70, status_class="429")
    use(lake, START, endpoint="GET /v1/checks", events=99)
    origin(lake, "192.0.2.1", prefix="192.0.2.0/24", located=False)
    detectors.prepare(lake, WINDOW, 90, catalogue_by_source())
    assert lake.rows("FROM visit_rates") == [
        ("k", START, "192.0.2.0/24", "read:metrics", 60, 70, 50),
    ]  # fmt: skip
    assert lake.rows("FROM baseline_rates") == [("k", "read:metrics", 7)]


@pytest.mark.parametrize(
    ("scopes", "granted"),
    [
        (["read:checks"], True), (["read:*"], True), (["admin:*"], True), (["*"], True),
        (["write:checks", "read:alerts"], False), (["write:*"], False), ([], False), (None, None),
    ],
)  # fmt: skip
def test_a_scope_is_granted_by_its_name_or_by_a_wildcard(
    lake: Lake, scopes: list[str] | None, granted: bool | None
) -> None:
    said = "SELECT grants($scopes::VARCHAR[], 'read:checks')"
    assert lake.value(said, scopes=scopes) is granted


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


MAY, JULY, AUGUST = datetime(2026, 5, 1), datetime(2026, 7, 15), datetime(2026, 8, 15)
TEAM = {"owner": "team", "environment": "prod", "scopes": ["r", "w"]}


def successors(lake: Lake) -> list[tuple[Any, ...]]:
    prepare(lake)
    return lake.rows("SELECT key_id, replaces, is_guess FROM successors ORDER BY ALL")


@pytest.mark.parametrize(
    ("older", "younger"),
    [
        ("grafana-2", "grafana-2-v2"),
        ("grafana", "grafana-new"),
        ("grafana", "Grafana_rotated"),
        ("grafana-old", "grafana"),
        ("grafana", "grafana (v2)"),
        ("grafana(v2)", "grafana(v3)"),
        ("grafana v9", "grafana v10"),
        ("grafana", "grafana 2026-08-15"),
        ("grafana-2026-06", "grafana-2026-08"),
        ("grafana-20260615", "grafana-20260815"),
        ("grafana", "grafana"),
    ],
)
def test_what_a_name_says_of_a_rotation_is_a_guess(lake: Lake, older: str, younger: str) -> None:
    own_key(lake, "a", name=older, created_at=JULY, **TEAM)
    own_key(lake, "b", name=younger, created_at=AUGUST, **TEAM)
    use(lake, START, key_id="a")
    use(lake, START, key_id="b")
    assert successors(lake) == [("b", "a", True)]
    assert ("b", "a") in lake.rows("FROM lineage")


@pytest.mark.parametrize(
    ("older", "younger"),
    [
        ("web-1", "web-2"),
        ("web1", "web2"),
        ("web", "web-2"),
        ("probe-ipv4", "probe-ipv6"),
        ("web-v2", "web-v1"),
        ("web-new", "web"),
        ("web-2026-08", "web-2026-06"),
        ("customer-202601", "customer-202602"),
        ("v1", "v2"),
        ("web", "web-v2-new"),
        ("web", "webhook-v2"),
    ],
)
def test_two_names_are_two_keys(lake: Lake, older: str, younger: str) -> None:
    own_key(lake, "a", name=older, created_at=JULY, **TEAM)
    own_key(lake, "b", name=younger, created_at=AUGUST, **TEAM)
    use(lake, START, key_id="a")
    use(lake, START, key_id="b")
    assert successors(lake) == []


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "another"},
        {"owner": None},
        {"environment": "stg"},
        {"scopes": ["r", "w", "admin:*"]},
        {"scopes": None},
        {"created_at": JULY + timedelta(hours=3)},
        {"created_at": None},
    ],
)
def test_owner_environment_scopes_and_day_have_to_fit_too(
    lake: Lake, other: dict[str, Any]
) -> None:
    own_key(lake, "a", name="web", created_at=JULY, **TEAM)
    own_key(lake, "b", **{"name": "web-v2", "created_at": AUGUST} | TEAM | other)
    assert successors(lake) == []


def test_of_three_versions_each_replaces_the_one_before_it(lake: Lake) -> None:
    for key_id, name, made in (("a", "w-v1", MAY), ("b", "w-v2", JULY), ("c", "w-v3", AUGUST)):
        own_key(lake, key_id, name=name, created_at=made, **TEAM)
    assert successors(lake) == [("b", "a", True), ("c", "b", True)]


def test_where_two_could_be_the_successor_none_is(lake: Lake) -> None:
    for key_id, name, made in (("a", "w", MAY), ("b", "w-v2", JULY), ("c", "w-v2", AUGUST)):
        own_key(lake, key_id, name=name, created_at=made, **TEAM)
    assert successors(lake) == []
    for key_id, name, made in (("d", "x", MAY), ("e", "x", JULY), ("f", "x", AUGUST)):
        own_key(lake, key_id, name=name, created_at=made, **TEAM)
    assert successors(lake) == []


def test_what_the_inventory_says_is_no_guess_and_leaves_none(lake: Lake) -> None:
    own_key(lake, "a", name="web", created_at=JULY, **TEAM)
    own_key(lake, "b", name="web-v2", created_at=AUGUST, **TEAM)
    own_key(lake, "c", name="else", created_at=AUGUST, replaces="a", owner="team")
    assert successors(lake) == [("c", "a", False)]


def test_two_that_are_used_side_by_side_for_a_whole_baseline_are_two_keys(lake: Lake) -> None:
    own_key(lake, "a", name="api-v1", created_at=MAY, **TEAM)
    own_key(lake, "b", name="api-v2", created_at=datetime(2026, 6, 1), **TEAM)
    use(lake, START, key_id="b")
    assert successors(lake) == [("b", "a", True)]  # the old one is silent
    use(lake, START, key_id="a")
    assert successors(lake) == []


# -------------------------------------------------------------------- what is strange is not learnt

BASELINES = re.findall(
    r"CREATE OR REPLACE TEMP (?:TABLE|VIEW) (baseline\w*)", sql_text("prepare", "keywatch.detect")
)
STRANGER, OWN, NEW = "203.0.113.9", "192.0.2.1", "192.88.99.1"
LAST_WEEK = START - timedelta(days=7)
RUN = {"start": datetime.combine(LAST_WEEK, time()), "end": WINDOW.start}


def reviewed(lake: Lake, first: date = LAST_WEEK) -> None:
    """The lake was reviewed, for the first time the week from `first` on."""
    lake.execute(
        "INSERT INTO lake.runs VALUES ('r', $start, $end, 1, 'c', '1', $end, '{}')",
        start=datetime.combine(first, time()),
        end=datetime.combine(first + timedelta(days=7), time()),
    )


def flag(lake: Lake, day: date, prefix: str = "203.0.113.0/24", key_id: str = "k") -> None:
    lake.execute(
        "INSERT INTO lake.flagged_visits VALUES ('r', $start, $end, $key_id, $day, $prefix)",
        key_id=key_id, day=day, prefix=prefix, **RUN,
    )  # fmt: skip


def verdict(lake: Lake, what: str, origins: list[str] | None = None, key_id: str = "k") -> None:
    lake.execute(
        "INSERT INTO lake.verdicts VALUES ('v', $key_id, $start, $end, $what, 'ana', 'x', $end, "
        "NULL, $origins, NULL, NULL, NULL)",
        key_id=key_id, what=what, origins=origins, **RUN,
    )  # fmt: skip


def places(lake: Lake) -> None:
    origin(lake, OWN, prefix="192.0.2.0/24", asn=1, organization="Own", country="DE")
    origin(lake, STRANGER, prefix="203.0.113.0/24", asn=9, organization="Else", country="RO")
    origin(lake, NEW, prefix="192.88.99.0/24", asn=5, organization="New", country="DE")


def a_month(lake: Lake, *, with_stranger: bool) -> None:
    """A key's own calls, and on one day a stranger's who differs in all that a baseline has."""
    places(lake)
    logged(lake)
    visits = [(START - timedelta(days=n), OWN, 12, "GET /v1/checks", "curl/8", 1)
              for n in range(-6, 28)]  # fmt: skip
    # Some baselines are of keys at a new network alone.
    visits.append((START, NEW, 12, "GET /v1/checks", "curl/8", 1))
    if with_stranger:
        # From a Sunday, where the key rests at night; and once more after the owner came.
        visits += [(YESTERDAY, STRANGER, hour, "GET /v1/metrics", "wget/1", 2) for hour in (3, 13)]
    for day, address, hour, endpoint, agent, hash_ in visits:
        use(lake, day, address=address, hour=hour, endpoint=endpoint, agent=agent, hashes=[hash_])
        lake.execute(
            "INSERT INTO lake.transitions VALUES ('k', $day, $address, '', $endpoint, 1, 1)",
            day=day, address=address, endpoint=endpoint,
        )  # fmt: skip
        lake.execute(
            "INSERT INTO lake.sessions BY NAME SELECT 'k' AS key_id, 'of ' || $day AS session, "
            "$day AS day, $address AS address, 1 AS events, "
            "$day + to_hours($hour) AS first_ts, first_ts AS last_ts",
            day=day, address=address, hour=hour,
        )  # fmt: skip
    detectors.prepare(lake, WINDOW, 90, catalogue_by_source())


def test_the_baselines_are_found() -> None:
    manual = (content_path("detectors") / "README.md").read_text("utf-8")
    assert set(re.findall(r"`(baseline_[a-z_]+)`", manual)) <= set(BASELINES)
    assert len(BASELINES) == len(set(BASELINES))


@pytest.fixture(scope="module")
def months() -> dict[str, dict[str, list[Any]]]:
    """Each baseline of lakes that differ in what a stranger did, and what was said of it."""
    found = {}
    for name in ("never", "flagged", "compromised", "benign", "expected", "elsewhere", "ordinary"):
        with Lake.in_memory() as lake:
            if name not in ("never", "ordinary"):
                reviewed(lake)
                flag(lake, YESTERDAY)
            if name in ("compromised", "benign", "expected"):
                verdict(lake, name)
            if name == "elsewhere":  # a verdict on another place of the case
                verdict(lake, "benign", ["198.51.100.0/24"])
            a_month(lake, with_stranger=name != "never")
            tables = [*BASELINES, "key_history"]
            found[name] = {table: sorted(map(repr, lake.rows(f"FROM {table}"))) for table in tables}
    return found


@pytest.mark.parametrize("table", [*BASELINES, "key_history"])
def test_what_was_flagged_is_in_no_baseline_until_a_verdict_says_it_is_the_owner_s(
    months: dict[str, dict[str, list[Any]]], table: str
) -> None:
    without, with_it = months["never"][table], months["ordinary"][table]
    assert without != with_it, "the stranger does nothing that this table would show"
    for name in ("flagged", "compromised", "elsewhere"):
        assert months[name][table] == without, name
    for name in ("benign", "expected"):
        assert months[name][table] == with_it, name


def test_only_the_flagged_visit_itself_is_out_of_the_baseline(lake: Lake) -> None:
    places(lake)
    reviewed(lake)
    flag(lake, YESTERDAY)
    for key_id in ("k", "other"):
        for day in (YESTERDAY - timedelta(days=1), YESTERDAY, START):
            for address in (OWN, STRANGER):
                use(lake, day, key_id=key_id, address=address)
    prepare(lake)
    past = "FROM past_places JOIN places USING (place_id)"
    assert lake.value(f"SELECT count(*) {past}") == 8
    assert lake.rows(f"SELECT key_id, day, prefix {past} WHERE is_flagged") == [
        ("k", YESTERDAY, "203.0.113.0/24")
    ]


# ----------------------------------------------------------------- networks that are not usual yet


def unsettled(lake: Lake) -> list[tuple[str, str]]:
    prepare(lake)
    return lake.rows("SELECT key_id, network FROM unsettled_networks ORDER BY ALL")


def a_quarter(lake: Lake, key_id: str = "k", *, days: int = 80, until: date = END,
              address: str = OWN) -> None:  # fmt: skip
    """Daily use from one address, until the window's end unless said."""
    for n in range((until - START).days + days):
        use(lake, START - timedelta(days=days - n), key_id=key_id, address=address)


@pytest.mark.parametrize("since_days", [1, 7, 30, 60])
def test_a_new_network_does_not_become_usual_by_lasting(lake: Lake, since_days: int) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=63))
    a_quarter(lake)
    a_quarter(lake, days=since_days, address=STRANGER)
    assert unsettled(lake) == [("k", "AS9")]
    assert lake.rows("SELECT DISTINCT network FROM baseline_networks") == [("AS1",)]
    assert lake.rows("SELECT networks, seen_networks FROM key_history") == [(1, 2)]
    assert lake.rows("FROM new_networks") == [("k", "AS9", True)]


def test_a_baseline_that_forgets_the_old_place_s_beginning_makes_nothing_usual(lake: Lake) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=200))
    a_quarter(lake, days=210)
    a_quarter(lake, days=100, address=STRANGER)
    assert unsettled(lake) == [("k", "AS9")]  # both are older than the baseline
    assert lake.rows("SELECT DISTINCT network FROM baseline_networks") == [("AS1",)]


def test_a_move_that_the_baseline_no_longer_sees_is_one(lake: Lake) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=200))
    a_quarter(lake, days=210, until=START - timedelta(days=100))
    a_quarter(lake, days=100, address=STRANGER)
    assert unsettled(lake) == []


def test_networks_from_before_the_first_review_are_usual(lake: Lake) -> None:
    places(lake)
    a_quarter(lake)
    a_quarter(lake, days=30, address=STRANGER)
    assert unsettled(lake) == []
    reviewed(lake, START - timedelta(days=29))  # the day after
    assert unsettled(lake) == []
    reviewed(lake, START - timedelta(days=30))
    assert unsettled(lake) == [("k", "AS9")]


def test_a_review_of_a_week_before_the_log_makes_nothing_unusual(lake: Lake) -> None:
    places(lake)
    a_quarter(lake)
    a_quarter(lake, days=30, address=STRANGER)
    reviewed(lake, START - timedelta(days=87))  # ends as the log begins
    assert unsettled(lake) == []
    reviewed(lake, START - timedelta(days=86))
    assert unsettled(lake) == [("k", "AS9")]


def test_the_networks_of_a_key_s_first_week_are_usual(lake: Lake) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=35))
    a_quarter(lake, days=30)
    for n, is_late in ((24, False), (23, True)):  # the first is its seventh day
        use(lake, START - timedelta(days=n), address=STRANGER)
        assert unsettled(lake) == ([("k", "AS9")] if is_late else [])
        lake.execute(f"DELETE FROM lake.activity WHERE address = '{STRANGER}'")
    # Of a key of fewer than five days nobody can tell.
    for n in (60, 50, 40, 20):
        use(lake, START - timedelta(days=n), key_id="seldom")
    use(lake, START, key_id="seldom")
    use(lake, START - timedelta(days=5), key_id="seldom", address=STRANGER)
    assert unsettled(lake) == []


@pytest.mark.parametrize(
    ("others", "owner", "days", "is_usual"),
    [(2, "team", 3, True), (1, "team", 3, False), (2, "else", 3, False), (2, "team", 2, False)],
)
def test_two_other_keys_of_the_owner_make_a_network_usual(
    lake: Lake, others: int, owner: str, days: int, is_usual: bool
) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=63))
    own_key(lake, "k", owner="team")
    a_quarter(lake)
    use(lake, START - timedelta(days=20), address=STRANGER)
    for n in range(others):
        own_key(lake, f"other_{n}", owner=owner)
        a_quarter(lake, f"other_{n}")
        a_quarter(lake, f"other_{n}", days=days, address=STRANGER)
    assert (("k", "AS9") not in unsettled(lake)) == is_usual


@pytest.mark.parametrize(("silent_days", "is_usual"), [(7, True), (6, False)])
def test_a_network_is_usual_that_did_the_work_while_the_older_ones_were_silent(
    lake: Lake, silent_days: int, is_usual: bool
) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=63))
    silent_from = START - timedelta(days=40)
    a_quarter(lake, until=silent_from)
    a_quarter(lake, days=40 - silent_days)  # the old place comes back
    a_quarter(lake, days=40, address=STRANGER)
    assert (unsettled(lake) == []) == is_usual


@pytest.mark.parametrize(("silent_days", "is_usual"), [(20, True), (10, False)])
def test_a_key_that_rests_for_days_has_moved_after_a_longer_silence(
    lake: Lake, silent_days: int, is_usual: bool
) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=80))
    silent_from = 40
    for n in range(80, 0, -10):
        if not silent_from - silent_days < n <= silent_from:
            use(lake, START - timedelta(days=n))
    use(lake, START - timedelta(days=65))  # five days of use, none further apart than ten days
    use(lake, START)
    for n in range(silent_from, silent_from - silent_days, -3):
        use(lake, START - timedelta(days=n), address=STRANGER)
    assert (unsettled(lake) == []) == is_usual


def test_a_handful_of_days_is_no_work(lake: Lake) -> None:
    places(lake)
    reviewed(lake, START - timedelta(days=63))
    a_quarter(lake, until=START - timedelta(days=20))
    for n in (20, 19):
        use(lake, START - timedelta(days=n), address=STRANGER)
    use(lake, START, address=STRANGER)
    assert unsettled(lake) == [("k", "AS9")]
    use(lake, START - timedelta(days=15), address=STRANGER)
    assert unsettled(lake) == []


@pytest.mark.parametrize("what", ["benign", "expected", "compromised"])
def test_a_verdict_makes_the_prefix_usual_that_it_is_about(lake: Lake, what: str) -> None:
    places(lake)
    origin(lake, "203.0.114.9", prefix="203.0.114.0/24", asn=9, country="RO")
    reviewed(lake)
    a_quarter(lake)
    for n in (1, 2, 3):
        use(lake, START - timedelta(days=n), address=STRANGER)
        use(lake, START - timedelta(days=n), address="203.0.114.9")
    flag(lake, YESTERDAY)
    verdict(lake, what)
    prepare(lake)
    usual = [("192.0.2.0/24", 80)] + [("203.0.113.0/24", 3)] * (what != "compromised")
    assert lake.rows("SELECT prefix, days FROM baseline_prefixes ORDER BY ALL") == usual


@pytest.mark.parametrize(("what", "usual"), [("expected", True), ("benign", False)])
def test_an_expected_network_is_the_owner_s_and_a_benign_visit_speaks_for_itself(
    lake: Lake, what: str, usual: bool
) -> None:
    places(lake)
    origin(lake, "203.0.114.9", prefix="203.0.114.0/24", asn=9, country="RO")
    reviewed(lake)
    a_quarter(lake)
    use(lake, YESTERDAY, address=STRANGER)
    use(lake, YESTERDAY, address="203.0.114.9")  # never flagged
    flag(lake, YESTERDAY)
    verdict(lake, what, ["203.0.113.0/24", "AS9"])
    prepare(lake)
    expected = [("192.0.2.0/24",), ("203.0.113.0/24",)] + [("203.0.114.0/24",)] * usual
    assert lake.rows("SELECT prefix FROM baseline_prefixes ORDER BY ALL") == expected


# ---------------------------------------------------------------------------------------- the stays


def hourly(lake: Lake, since: datetime, until: datetime, address: str = OWN) -> None:
    """A call in each hour, half open."""
    for n in range(int((until - since) / timedelta(hours=1))):
        moment = since + timedelta(hours=n)
        use(lake, moment.date(), hour=moment.hour, address=address)


def stay(lake: Lake) -> dict[str, Any]:
    prepare(lake)
    row: list[dict[str, Any]] = lake.table("FROM stays").to_pylist()
    assert len(row) == 1
    return row[0]


MONTH_AGO = WINDOW.start - timedelta(days=28)
NOON = datetime.combine(START + timedelta(days=2), time(12))


def test_who_goes_on_leaves_no_silence_around_a_stay(lake: Lake) -> None:
    places(lake)
    hourly(lake, MONTH_AGO, WINDOW.end)
    hourly(lake, NOON, NOON + timedelta(hours=10), STRANGER)
    found = stay(lake)
    assert (found["since"], found["until"], found["done"], found["goes_on"]) == (
        NOON, NOON + timedelta(hours=9), 10, False,
    )  # fmt: skip
    assert (found["owner_goes_on"], found["is_beside"]) == (True, True)
    assert (found["missing_events"], found["silence_bits"]) == (0, 0)


def test_who_moved_has_left_a_silence_to_the_end(lake: Lake) -> None:
    places(lake)
    hourly(lake, MONTH_AGO, NOON)
    hourly(lake, NOON, WINDOW.end, STRANGER)
    found = stay(lake)
    # From the hour after the first one to the last: Wednesday 13:00 to Sunday 23:00.
    assert (found["silent_since"], found["silent_until"]) == (NOON, None)
    assert found["missing_events"] == pytest.approx(4 * 24 + 11)
    assert found["silence_bits"] == pytest.approx(0.5 * np.log2(1 + 107 / 0.5))  # days say more
    assert (found["owner_goes_on"], found["is_beside"]) == (False, False)


def test_a_key_that_rests_for_days_is_silent_on_days_not_in_requests(lake: Lake) -> None:
    places(lake)
    for n in (28, 26, 21, 19, 14, 12, 7, 5):  # Mondays and Wednesdays of four weeks
        use(lake, START - timedelta(days=n), events=200)
    use(lake, START + timedelta(days=1), hour=10, address=STRANGER, events=30)
    use(lake, START + timedelta(days=2))
    found = stay(lake)
    # Tuesday from 11 on, Wednesday until 11: a noon of 80 requests, on (8 + 0.5) / (20 + 1) of
    # weekdays.
    share = 8.5 / 21
    assert found["missing_events"] == pytest.approx(80)
    assert found["silence_bits"] == pytest.approx(
        -np.log2(1 - share + share * (1 + 2 * 80 / share) ** -0.5)
    )


def test_of_what_comes_after_the_end_of_the_log_nothing_is_known(lake: Lake) -> None:
    places(lake)
    hourly(lake, MONTH_AGO, NOON)
    hourly(lake, NOON, NOON + timedelta(hours=1), STRANGER)
    found = stay(lake)
    assert (found["silent_until"], found["missing_events"], found["silence_bits"]) == (None, 0, 0)


def test_who_comes_back_was_silent_meanwhile(lake: Lake) -> None:
    places(lake)
    back = NOON + timedelta(days=1)
    hourly(lake, MONTH_AGO, NOON)
    hourly(lake, NOON, back, STRANGER)
    hourly(lake, back, WINDOW.end)
    found = stay(lake)
    assert (found["silent_since"], found["silent_until"]) == (NOON, back)
    assert found["missing_events"] == pytest.approx(23)
    assert not found["is_beside"]
    # Who is back within a day may never have been away.
    assert found["owner_goes_on"]


@pytest.mark.parametrize(("hours", "is_handover"), [(2, True), (3, True), (4, False)])
def test_a_handover_may_take_some_hours(lake: Lake, hours: int, is_handover: bool) -> None:
    places(lake)
    last = NOON + timedelta(hours=hours)
    hourly(lake, MONTH_AGO, last + timedelta(hours=1))
    hourly(lake, NOON, WINDOW.end, STRANGER)
    found = stay(lake)
    assert found["is_beside"] != is_handover
    if is_handover:
        assert (found["silent_since"], found["silent_until"]) == (last + timedelta(hours=1), None)
        assert found["missing_events"] == pytest.approx(4 * 24 + 11 - hours)
    else:
        assert (found["silent_until"], found["silence_bits"]) == (last, 0)


def test_a_stay_that_goes_on_began_with_the_window(lake: Lake) -> None:
    places(lake)
    reviewed(lake)
    hourly(lake, MONTH_AGO, WINDOW.end)
    hourly(lake, NOON - timedelta(days=7), NOON, STRANGER)
    found = stay(lake)
    assert (found["goes_on"], found["since"]) == (True, WINDOW.start)
    assert found["until"] == NOON - timedelta(hours=1)
    assert (found["is_beside"], found["silence_bits"]) == (True, 0)


def test_a_key_without_a_past_has_no_new_networks(lake: Lake) -> None:
    places(lake)
    use(lake, START, address=STRANGER)
    prepare(lake)
    assert lake.rows("FROM new_networks") == lake.rows("FROM stays") == []


def test_a_place_of_the_owner_s_is_where_another_key_was_seen_on_three_days(lake: Lake) -> None:
    places(lake)
    for key_id, owner, days in (("k", "team", 9), ("long", "team", 3), ("short", "team", 2),
                                ("else", "other", 9)):  # fmt: skip
        own_key(lake, key_id, owner=owner)
        a_quarter(lake, key_id, days=days, address=OWN if key_id == "k" else STRANGER)
    prepare(lake)
    assert lake.rows("FROM owner_places ORDER BY ALL") == [
        ("k", "203.0.113.0/24"), ("long", "192.0.2.0/24"), ("short", "192.0.2.0/24"),
        ("short", "203.0.113.0/24"),
    ]  # fmt: skip
