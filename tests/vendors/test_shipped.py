"""The shipped sources: their own lines through a load, and none claims another's."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from keywatch.lake import Lake
from keywatch.vendors import sources
from keywatch.vendors.shapes import records_of
from tests.conftest import ROOT, Loading

_OF_AN_EVENT = ("key_id", "address", "endpoint", "object", "status", "agent", "request_id")
"""What a vendor's test may say of an event, as the lake keeps it."""


@dataclass(frozen=True)
class Sample:
    """One of a vendor's tests that has a log."""

    file: Path
    source: str
    log: str
    events: list[dict[str, Any]]
    rejects: list[dict[str, Any]]


def samples() -> list[Sample]:
    tests = [(file, tomllib.loads(file.read_text(encoding="utf-8")))
             for file in sorted((ROOT / "vendors").glob("*/tests/*.toml"))]  # fmt: skip
    return [
        Sample(
            file,
            test["source"],
            test["log"].replace("¦", ""),
            test.get("events", []),
            test.get("rejects", []),
        )
        for file, test in tests
        if "source" in test
    ]


@pytest.mark.parametrize("sample", samples(), ids=lambda each: f"{each.source}-{each.file.stem}")
def test_its_lines_become_events(sample: Sample, tmp_path: Path) -> None:
    with Lake.in_memory() as lake:
        report = Loading(tmp_path, lake).take(sample.log.encode(), "log", max_reject_share=0.6)
        assert [file.source for file in report.files] == [sample.source]
        assert report.total("rejects") == len(sample.rejects)
        assert report.total("events") + report.total("keyless") == len(sample.events)
        stored = lake.rows(f"""
            SELECT ts, principal, {", ".join(_OF_AN_EVENT)}, source FROM (
                SELECT * REPLACE (regexp_replace(key_id, '#[0-9a-f]{{16}}$', '') AS key_id) FROM (
                FROM lake.events UNION ALL BY NAME FROM lake.keyless_events
            ))""")
    names = ("ts", "principal", *_OF_AN_EVENT, "source")
    found = [dict(zip(names, row, strict=True)) for row in stored]
    assert {row["source"] for row in found} == {sample.source}
    for event in sample.events:
        told = {name: event[name] for name in names if name in event}
        if "ts" in told:
            told["ts"] = told["ts"].astimezone(UTC).replace(tzinfo=None)
        assert any(told.items() <= row.items() for row in found), told


def test_no_source_claims_the_lines_of_another() -> None:
    ranked = sorted(sources().values(), key=lambda source: -len(source.marks))
    for sample in samples():
        fitting = [[source for source in ranked if source.fits(record)]
                   for record, _ in records_of(sample.log.strip())]  # fmt: skip
        for found in filter(None, fitting):
            assert found[0].name == sample.source, sample.file
            rivals = [one.name for one in found[1:] if len(one.marks) == len(found[0].marks)]
            assert rivals == [], sample.file


def test_every_source_has_a_line_that_is_refused_and_one_that_is_not() -> None:
    answers: dict[str, set[bool]] = {}
    for sample in samples():
        for event in sample.events:
            if "status" in event:
                answers.setdefault(sample.source, set()).add(event["status"] >= 400)
    without_a_refusal = {"pulsely"}
    assert {name for name in sources() if answers.get(name) != {True, False}} <= without_a_refusal
