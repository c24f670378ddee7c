"""Properties: another key's events never change this key's own-history evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch.detect import detectors
from keywatch.lake import Lake
from keywatch.load.origins import ORIGIN_SCHEMA
from keywatch.model import Window
from keywatch.vendors import catalogue_by_source
from tests.long import long_form

WINDOW = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
FIRST = date(2026, 8, 20)
LAST_DAY = 45
"""Days from the first to the last one of the log."""
ADDRESSES = {
    "84.151.10.20": ("84.151.10.0/24", 3320, "DE", "isp"),
    "84.151.10.99": ("84.151.10.0/24", 3320, "DE", "isp"),
    "37.4.9.8": ("37.4.9.0/24", 3209, "DE", "isp"),
    "45.153.78.122": ("45.153.78.0/24", 9009, "RO", "vpn"),
    "163.47.11.23": ("163.47.11.0/24", 14061, "SG", "hosting"),
}
ENDPOINTS = ["GET /v1/checks", "GET /v1/members", "POST /v1/keys", "GET /v1/checks/{id}"]
CATALOGUE = catalogue_by_source()
OWN = [d for d in detectors.load_detectors() if d.history in ("none", "own")]
OWNER = [d for d in detectors.load_detectors() if d.history == "owner"]

Row = tuple[int, str, str, str, str, int]

rows = st.lists(
    st.tuples(
        st.integers(0, LAST_DAY),
        st.sampled_from(sorted(ADDRESSES)),
        st.sampled_from(ENDPOINTS),
        st.sampled_from(["2xx", "401", "403", "404", "-"]),
        st.sampled_from(["Grafana/10", "Grafana/11", "curl/8", "(none)"]),
        st.integers(1, 400),
    ),
    max_size=25,
)


def activity(key_id: str, drawn: list[Row], load_id: int = 1) -> list[dict[str, Any]]:
    """Rows of ``lake.activity``; each is one hour's use as well."""
    made = []
    for day, address, endpoint, status, agent, events in drawn:
        moment = datetime.combine(FIRST + timedelta(days=day), time(9))
        made.append({
            "key_id": key_id, "day": moment.date(), "address": address, "endpoint": endpoint,
            "status_class": status, "agent": agent, "events": events,
            "objects": list(range(min(events // 2, 64))), "object_count": events // 2,
            "response_bytes": 100, "exposed": 0, "first_ts": moment,
            "last_ts": moment + timedelta(minutes=5), "load_id": load_id,
        })  # fmt: skip
    return made


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    with Lake.in_memory() as opened:
        yield opened


def evidence(
    lake: Lake,
    made: list[dict[str, Any]],
    keys: Sequence[tuple[str, str | None]],
    chosen: list[detectors.Detector],
) -> dict[str, list[tuple[Any, ...]]]:
    """What `chosen` say of each of the keys."""
    with lake.undone():
        origins = [
            {"address": a, "ip": a, "prefix": p, "asn": n, "organization": "x", "country": c,
             "class": k, "located": True}
            for a, (p, n, c, k) in ADDRESSES.items()
        ]  # fmt: skip
        lake.connection.register("o", pa.Table.from_pylist(origins, schema=ORIGIN_SCHEMA))
        lake.execute("INSERT INTO lake.origins BY NAME SELECT * FROM o")
        if made:
            table = pa.Table.from_pylist(made)
            at = table.schema.get_field_index("objects")
            objects = table["objects"].cast(pa.list_(pa.uint32()))
            lake.connection.register("a", table.set_column(at, "objects", objects))
            lake.execute("INSERT INTO lake.activity BY NAME SELECT * FROM a")
            lake.execute(
                "INSERT INTO lake.activity_hours BY NAME "
                "SELECT key_id, date_trunc('hour', first_ts) AS hour, address, events, load_id "
                "FROM a"
            )
        for key_id, owner in keys:
            lake.execute(
                "INSERT INTO lake.keys BY NAME SELECT 1 AS import_id, $key_id AS key_id, "
                "$owner AS owner, 'prod' AS environment, ['read:checks'] AS scopes, "
                "TIMESTAMP '2026-07-01' AS created_at, TIMESTAMP '2026-10-01' AS revoked_at",
                key_id=key_id,
                owner=owner,
            )
        detectors.prepare(lake, WINDOW, 90, CATALOGUE)
        for detector in chosen:
            detectors.run(lake, detector, WINDOW)
        said = lake.rows(
            "SELECT key_id, day, prefix, detector, round(bits, 9), typical, actual, explanation "
            "FROM evidence ORDER BY ALL"
        )
    return {key_id: [row for row in said if row[0] == key_id] for key_id, _ in keys}


def assert_each_speaks_for_itself(
    lake: Lake,
    drawn: list[list[Row]],
    keys: Sequence[tuple[str, str | None]],
    chosen: list[detectors.Detector],
) -> None:
    """The evidence of each key is the same among all of them, alone, and without the first.

    The inventory names all of them each time, and a key beside them ends the log on the last day:
    that a key is silent shows only as long as there is a log. One lake of many keys takes as long
    as one of one.
    """
    last = activity(
        "the log's last", [(LAST_DAY, "84.151.10.99", ENDPOINTS[0], "2xx", "curl/8", 1)]
    )

    def found(used: slice) -> list[list[tuple[Any, ...]]]:
        """What is said of the keys that are `used`."""
        names = [key_id for key_id, _ in keys][used]
        pairs = zip(names, drawn[used], strict=True)
        made = [row for key_id, rows in pairs for row in activity(key_id, rows)]
        made += last
        said = evidence(lake, made, keys, chosen)
        return [said[key_id] for key_id in names]

    alone, others = slice(0, 1), slice(1, None)
    assert found(alone) + found(others) == found(slice(None))


@settings(max_examples=long_form(8, 3), deadline=None)
@given(drawn=st.lists(rows, min_size=4, max_size=4))
def test_other_keys_never_change_own_history_evidence(lake: Lake, drawn: list[list[Row]]) -> None:
    keys = [(f"key_{n}", "team-a") for n in range(1, 5)]
    assert_each_speaks_for_itself(lake, drawn, keys, OWN)


@settings(max_examples=long_form(8, 3), deadline=None)
@given(drawn=st.lists(rows, min_size=4, max_size=4))
def test_strangers_never_change_evidence_that_reads_the_owner_s_keys(
    lake: Lake, drawn: list[list[Row]]
) -> None:
    keys = [("key_1", "team-a"), ("key_2", "team-b"), ("key_3", None), ("key_4", "team-c")]
    assert_each_speaks_for_itself(lake, drawn, keys, OWNER)


QUIET = [
    (day, "84.151.10.20", ENDPOINTS[0], "2xx", "Grafana/10", 20) for day in range(0, LAST_DAY, 2)
]
ABUSED = [
    (42, address, endpoint, status, "curl/8", 60)
    for address in ("45.153.78.122", "163.47.11.23")
    for endpoint in ENDPOINTS
    for status in ("2xx", "403")
]
BUSY = [
    (day, address, endpoint, status, agent, 40)
    for day in range(0, LAST_DAY, 5)
    for address in ADDRESSES
    for endpoint in ENDPOINTS
    for status in ("2xx", "401", "403", "404")
    for agent in ("Grafana/11", "curl/8")
]


@pytest.mark.parametrize(
    ("chosen", "owners", "least"),
    [(OWN, ["team-a"] * 2, 5), (OWNER, ["team-a", "team-b"], 3)],
    ids=["own history", "the owner's history"],
)  # fmt: skip
def test_a_neighbour_that_does_everything_changes_nothing(
    lake: Lake, chosen: list[detectors.Detector], owners: list[str], least: int
) -> None:
    keys = list(zip(["key_1", "key_2"], owners, strict=True))
    mine, last = activity("key_1", QUIET + ABUSED), activity("end", [(LAST_DAY, *ABUSED[0][1:])])
    alone = evidence(lake, mine + last, keys, chosen)["key_1"]
    beside = evidence(lake, mine + last + activity("key_2", BUSY), keys, chosen)["key_1"]
    assert beside == alone
    assert len({row[3] for row in alone}) >= least, "the abuse has to be seen"


def parts_of(key_id: str, drawn: list[Row]) -> list[dict[str, Any]]:
    """`activity` in two loads each, which add up to it."""
    parts = []
    for n, (day, address, endpoint, status, agent, events) in enumerate(drawn):
        for share in (events // 2, events - events // 2):
            if share:
                part = activity(key_id, [(day, address, endpoint, status, agent, share)], n)
                part[0]["object_count"] = round(share / events * (events // 2))
                part[0]["objects"] = list(range(min(events // 2, 64)))
                parts += part
    return parts


@settings(max_examples=long_form(5, 2), deadline=None)
@given(drawn=st.lists(rows, min_size=3, max_size=3))
def test_bits_are_finite_and_loading_in_parts_changes_nothing(
    lake: Lake, drawn: list[list[Row]]
) -> None:
    keys = [("key_1", "team-a"), ("key_2", "team-b"), ("key_3", "team-c")]
    mine = list(zip([key_id for key_id, _ in keys], drawn, strict=True))
    everything = OWN + OWNER
    at_once = [row for key_id, rows in mine for row in activity(key_id, rows)]
    in_parts = [row for key_id, rows in mine for row in parts_of(key_id, rows)]
    whole = evidence(lake, at_once, keys, everything)
    halves = evidence(lake, in_parts, keys, everything)

    assert all(0 < abs(row[4]) < 1000 for said in whole.values() for row in said)
    # Objects of two parts add up to within one: everything but their count stays the same.
    counted = ("object_enumeration", "behaviour_forest")

    def same(said: dict[str, list[Any]]) -> list[Any]:
        # How many objects there were is told within the same bound; the bits don't change.
        told = ("unfamiliar_object",)
        return [
            row[:5] if row[3] in told else row
            for rows in said.values()
            for row in rows
            if row[3] not in counted
        ]

    assert same(halves) == same(whole)
