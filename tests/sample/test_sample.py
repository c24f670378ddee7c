"""A made world keeps its contract, its truth and its seed."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tomllib
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import maxminddb
import pytest

from keywatch.content import content_path
from keywatch.sample import ODDITIES, World, generate, places, world
from keywatch.sample.__main__ import main
from keywatch.sample.api import ENDPOINTS, SCOPES
from keywatch.sample.habits import HABITS
from keywatch.sample.make_networks import moved_prefixes
from keywatch.sample.thefts import KINDS

Row = dict[str, Any]

LINE_FIELDS = {
    "timestamp", "request_id", "key_id", "key", "ip", "method", "endpoint", "status",
    "user_agent", "response_bytes", "duration_ms",
}  # fmt: skip
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MASKED = re.compile(r"ply_(live_prod|test_stg|test_dev)_[0-9a-f]{6}…[0-9a-f]{4}")
TEMPLATES = {
    method: [
        re.compile(re.escape(e.template).replace(r"\{id\}", "[A-Za-z0-9_-]+") + r"(\?[^ ]+)?")
        for e in ENDPOINTS
        if e.method == method
    ]
    for method in ("GET", "POST", "PATCH", "DELETE")
}


def _lines(path: Path) -> list[Row]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.decode("utf-8").splitlines()]


def _digest(made: World) -> str:
    whole = hashlib.sha256()
    for path in (*made.logs, made.inventory, made.truth):
        data = path.read_bytes()
        whole.update(gzip.decompress(data) if path.suffix == ".gz" else data)
    return whole.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return generate(tmp_path_factory.mktemp("world"), keys=200, weeks=5, seed=3)


@pytest.fixture(scope="module")
def events(made: World) -> list[Row]:
    return [line for path in made.logs for line in _lines(path)]


@pytest.fixture(scope="module")
def truth(made: World) -> list[Row]:
    return _lines(made.truth)


@pytest.fixture(scope="module")
def inventory(made: World) -> list[Row]:
    return _lines(made.inventory)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    one = generate(tmp_path / "one", keys=30, weeks=2, seed=7)
    two = generate(tmp_path / "two", keys=30, weeks=2, seed=7, compress="none")
    other = generate(tmp_path / "other", keys=30, weeks=2, seed=8)
    assert _digest(one) == _digest(two)
    assert _digest(one) != _digest(other)


def test_thefts_leave_the_innocent_world_as_it_is(tmp_path: Path) -> None:
    kept = []
    for thefts in (0, 5):
        made = generate(tmp_path / str(thefts), keys=60, weeks=2, seed=2, thefts=thefts)
        assert made.stolen_keys == thefts
        stolen = {t["key_id"] for t in _lines(made.truth) if t["stolen"]}
        kept.append((stolen, [line for path in made.logs for line in _lines(path)]))
    (_, quiet), (stolen, loud) = kept
    assert [e for e in quiet if e["key_id"] not in stolen] == [
        e for e in loud if e["key_id"] not in stolen
    ]
    assert {e["request_id"] for e in quiet} < {e["request_id"] for e in loud}


def test_every_line_keeps_the_contract(events: list[Row], inventory: list[Row]) -> None:
    masked = {k["key_id"]: k["key"] for k in inventory}
    for event in events:
        assert event.keys() == LINE_FIELDS
        assert TIMESTAMP.fullmatch(event["timestamp"])
        assert event["key"] == masked[event["key_id"]]
        assert any(t.fullmatch(event["endpoint"]) for t in TEMPLATES[event["method"]])
        assert isinstance(event["status"], int)
        assert event["response_bytes"] >= 0
        assert event["duration_ms"] > 0
        assert re.fullmatch(r"req_[0-9a-f]{16}", event["request_id"])


def test_a_file_a_day_in_time_order_but_for_late_and_doubled_lines(made: World) -> None:
    days = [made.start + timedelta(days=n) for n in range((made.end - made.start).days)]
    assert [path.name for path in made.logs] == [f"{day}.jsonl.gz" for day in days]
    seen: set[str] = set()
    disordered = doubled = total = 0
    for path, day in zip(made.logs, days, strict=True):
        latest = ""
        for line in _lines(path):
            total += 1
            assert line["timestamp"][:10] <= str(day)
            disordered += line["timestamp"] < latest
            latest = max(latest, line["timestamp"])
            doubled += line["request_id"] in seen
            seen.add(line["request_id"])
    assert total == made.events
    assert 0 < doubled < total * 0.02
    assert 0 < disordered < total * 0.03


def test_duckdb_reads_the_logs(made: World) -> None:
    found = duckdb.sql(
        f"SELECT count(*), min(timestamp) FROM read_json('{made.out}/logs/*.jsonl.gz')"
    ).fetchone()
    assert found is not None
    assert found[0] == made.events


def test_inventory(inventory: list[Row], made: World) -> None:
    assert len({k["key_id"] for k in inventory}) == made.keys == len(inventory)
    known = {k["key_id"] for k in inventory}
    for key in inventory:
        assert MASKED.fullmatch(key["key"])
        assert key["environment"] in ("prod", "stg", "dev")
        assert set(key["scopes"]) <= set(SCOPES)
        assert key["scopes"]
        assert datetime.fromisoformat(key["created_at"]).date() < made.end
        assert key.get("replaces", key["key_id"]) in known
    assert any("replaces" in k for k in inventory)
    assert any("revoked_at" in k for k in inventory)


def test_nothing_answers_before_a_key_is_made_or_after_it_is_revoked(
    events: list[Row], inventory: list[Row]
) -> None:
    created = {k["key_id"]: k["created_at"] for k in inventory}
    revoked = {k["key_id"]: k["revoked_at"] for k in inventory if "revoked_at" in k}
    for event in events:
        key = event["key_id"]
        assert event["timestamp"][:19] >= created[key][:19]
        if event["timestamp"][:19] > revoked.get(key, "9")[:19]:
            assert event["status"] == 401


def test_truth_agrees_with_the_logs(events: list[Row], truth: list[Row], made: World) -> None:
    by_key: dict[str, dict[str, Row]] = defaultdict(dict)
    for event in events:
        by_key[event["key_id"]][event["request_id"]] = event
    assert sum(t["stolen"] for t in truth) == made.stolen_keys
    assert sum(t["theft_requests"] for t in truth) == made.theft_events
    for told in truth:
        assert told["habit"] in HABITS
        for oddity in told["oddities"]:
            assert oddity["kind"] in ODDITIES
            assert oddity["start"] < (oddity["end"] or "9")
            is_over = oddity["start"] < str(made.review_start) > (oddity["end"] or "")
            assert oddity["in_review_week"] is not is_over
        if not told["stolen"]:
            assert told["theft"] is told["theft_start"] is told["theft_end"] is None
            assert told["theft_addresses"] == told["theft_days"] == []
            continue
        assert told["theft_requests"] > 0
        assert str(made.review_start) <= told["theft_start"] < told["theft_end"]
        assert told["theft_days"][0] == told["theft_start"][:10]
        assert told["theft_days"] == sorted(set(told["theft_days"]))
        theirs = [e for e in by_key[told["key_id"]].values() if e["ip"] in told["theft_addresses"]]
        if told["theft"] == "insider":  # from the owner's office: the address proves nothing
            assert len(theirs) >= told["theft_requests"]
            continue
        assert len(theirs) == told["theft_requests"]
        assert {e["timestamp"][:10] for e in theirs} == set(told["theft_days"])
        first, last = told["theft_start"][:19], told["theft_end"][:19]
        assert all(first <= e["timestamp"][:19] <= last for e in theirs)


def test_one_theft_of_each_kind_where_there_are_keys_for_it(truth: list[Row]) -> None:
    assert {t["theft"] for t in truth if t["stolen"]} == set(KINDS)


def test_loud_and_slow(truth: list[Row]) -> None:
    requests = {t["theft"]: t["theft_requests"] for t in truth if t["stolen"]}
    assert requests["scan"] > 50
    assert requests["slow_reader"] < 150
    assert requests["vpn_probe"] < 20


def test_quiet_world(tmp_path: Path) -> None:
    made = generate(tmp_path, keys=40, weeks=2, seed=5, thefts=0)
    assert made.stolen_keys == made.theft_events == 0
    assert not any(t["stolen"] for t in _lines(made.truth))


def test_default_thefts() -> None:
    assert [world.default_thefts(n) for n in (10, 100, 200, 1000)] == [1, 8, 16, 36]


def test_addresses_lie_in_their_network(events: list[Row]) -> None:
    stated = {(network.asn, network.country): network.kind for network in places.networks()}
    with (
        maxminddb.open_database(str(content_path("data/geoip/dbip-asn-lite.mmdb"))) as asns,
        maxminddb.open_database(str(content_path("data/geoip/dbip-country-lite.mmdb"))) as places_,
    ):
        for address in sorted({e["ip"] for e in events})[::7]:
            asn: Any = asns.get(address)
            country: Any = places_.get(address)
            place = (asn["autonomous_system_number"], country["country"]["iso_code"])
            assert place in stated, address


def test_endpoints_agree_with_the_catalogue() -> None:
    listed = tomllib.loads(content_path("vendors/pulsely/catalogue.toml").read_text("utf-8"))[
        "endpoints"
    ]
    theirs = {(e["method"], e["template"], e.get("scope", "any"), e["sensitivity"]) for e in listed}
    ours = {(e.method, e.template, e.scope, e.sensitivity) for e in ENDPOINTS}
    assert ours == theirs


def test_other_databases_are_compared_first(tmp_path: Path) -> None:
    geoip = content_path("data/geoip")
    made = generate(tmp_path, keys=5, weeks=2, thefts=0, geoip_dir=geoip)
    assert made.events > 0


def test_networks_agree_with_the_bundled_databases() -> None:
    assert moved_prefixes(content_path("data/geoip")) == []
    assert len(places.networks()) > 120
    assert len({n.country for n in places.networks()}) >= 25


def test_some_use_ipv6(events: list[Row]) -> None:
    assert any(":" in e["ip"] for e in events)


def test_volume_follows_the_wish(tmp_path: Path) -> None:
    few = generate(tmp_path / "few", keys=100, weeks=2, seed=1, events_per_key_day=8)
    many = generate(tmp_path / "many", keys=100, weeks=2, seed=1, events_per_key_day=40)
    assert 5 < few.events / 1400 < 11
    assert 25 < many.events / 1400 < 50


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--keys", "20", "--weeks", "2", "--end", "2026-03-02",
                 "--thefts", "0", "--compress", "zst"]) == 0  # fmt: skip
    assert "2026-02-16" in capsys.readouterr().out
    found = duckdb.sql(f"SELECT count(*) FROM read_json('{tmp_path}/logs/*.jsonl.zst')").fetchone()
    assert found is not None
    assert found[0] > 0
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--keys", "1"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(("keys", "weeks", "thefts"), [(1, 9, 0), (10, 1, 0), (10, 9, 11)])
def test_numbers_that_make_no_world(tmp_path: Path, keys: int, weeks: int, thefts: int) -> None:
    with pytest.raises(ValueError, match="a world has"):
        generate(tmp_path, keys=keys, weeks=weeks, thefts=thefts, end=date(2026, 10, 5))
