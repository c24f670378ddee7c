"""The database that reads lines serves one parser after another, and nothing of one is left."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest

from keywatch.text.secrets import Redactor
from keywatch.vendors import engine
from keywatch.vendors.engine import Engine
from keywatch.vendors.parser import Parser
from keywatch.vendors.registry import sources
from tests.conftest import event

FULL_KEY = "ply_live_prod_" + "4f8a2c" * 5 + "9e1d"


@pytest.fixture(autouse=True)
def _none_is_kept() -> Iterator[None]:
    """Each test begins with no database that another one has used."""
    engine._idle.clear()
    yield
    engine._idle.clear()


def lines(count: int = 1, **fields: object) -> pa.Table:
    texts = [json.dumps(event(key=FULL_KEY, **fields))] * count
    numbers = pa.array(range(count), pa.int64())
    return pa.table({"file_id": numbers, "line": numbers, "text": texts})


def test_the_next_parser_uses_the_database_with_its_own_secret() -> None:
    redactors = [Redactor(bytes([n]) * 32) for n in range(3)]
    databases, keys = set(), []
    for redactor in redactors:
        with Parser(redactor) as parser:
            databases.add(id(parser._scratch))
            keys += parser.parse(sources()["pulsely"], lines()).rows["key"].to_pylist()
        assert [each.redactor for each in engine._idle] == [None]
    assert len(databases) == 1
    hashes = [key.partition("#")[2] for key in keys]
    assert hashes == [redactor.key_hash(FULL_KEY) for redactor in redactors]


def test_a_query_is_planned_once_for_all_loads() -> None:
    plans = []
    for _ in range(2):
        with Parser(Redactor(b"s" * 32)) as parser:
            parser.parse(sources()["pulsely"], lines())
            plans.append(dict(parser._scratch._plans))
    assert plans[0]
    assert plans[1] == plans[0]


def test_each_parser_reads_its_own_lines_whatever_came_before() -> None:
    found = []
    for count in (3, 1, 0, 2):
        with Parser(Redactor(b"s" * 32)) as parser:
            chunk = parser.parse(sources()["pulsely"], lines(count, status=200 + count))
        found.append(chunk.rows["status"].to_pylist())
    assert found == [[203] * 3, [201], [], [202] * 2]
    assert all(len(slot.table) == 0 for slot in engine._idle[0].scratch._slots.values())


def test_times_without_an_offset_are_of_each_parser_s_zone() -> None:
    hours = []
    for zone in ("Europe/Berlin", "Asia/Tokyo", "Asia/Tokyo", None):
        with Parser(Redactor(b"s" * 32), time_zone=zone) as parser:
            rows = parser.parse(sources()["pulsely"], lines(timestamp="2026-09-30T12:00:00")).rows
        hours += [ts and ts.hour for ts in rows["ts"].to_pylist()]
    assert hours == [10, 3, 3, None]


def test_a_line_that_fails_leaves_the_plan_as_it_was() -> None:
    source = sources()["pulsely"]
    with Parser(Redactor(b"s" * 32)) as parser:
        assert parser.parse(source, lines(2)).rows["reason"].null_count == 2
        broken = lines(2).set_column(2, "text", pa.array(['{"timestamp":', "\ud7ff {}"]))
        assert parser.parse(source, broken).rows["reason"].null_count == 0
        assert parser.parse(source, lines(2)).rows["reason"].null_count == 2


def test_after_an_error_the_database_is_not_kept() -> None:
    with pytest.raises(ZeroDivisionError), Parser(Redactor(b"s" * 32)):
        raise ZeroDivisionError
    assert engine._idle == []


def test_one_is_kept_and_none_that_has_planned_very_much() -> None:
    two = [Engine.take(Redactor(b"s" * 32), None) for _ in range(2)]
    for each in two:
        each.give_back()
    assert engine._idle == two[:1]
    for n in range(engine._MOST_PLANS + 1):
        two[0].scratch.planned(f"SELECT {n} AS n")
    Engine.take(Redactor(b"s" * 32), None).give_back()
    assert engine._idle == []
