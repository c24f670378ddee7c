"""What a source's TOML can say: alternatives of marks, elements by name, records passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keywatch.content import add_folders
from keywatch.errors import VendorError
from keywatch.lake import Lake
from keywatch.vendors.source import Source, read_source
from tests.conftest import Loading

MAPPING = """
title = "Gate log"
forms = ["json"]
marks = ["gate", "at|@at"]
required = ["time", "endpoint"]
unless = "stage = 'received'"

[fields]
time = ["@at", "at"]
key_id = "credential"
address = "ip"
endpoint = "call"
object = "details[key=target].value"
user_agent = "details[key=user agent].value"
request_id = "id"
stage = "stage"
"""


def read(tmp_path: Path, text: str = MAPPING) -> Source:
    file = tmp_path / "vendors" / "gate" / "sources" / "gate.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return read_source(file, "gate")


def line(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "gate": "north", "at": f"2026-09-30T00:00:{n:02}Z", "credential": "key_1", "id": str(n),
        "ip": "45.153.78.122", "call": "open", "stage": "answered",
        "details": [{"key": "door", "value": "a"}, {"key": "target", "value": f"t{n}"},
                    {"key": "user agent", "value": "gatectl/2.1"}],
    } | fields  # fmt: skip


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Loading]:
    """An empty lake of a process that knows the source."""
    read(tmp_path)
    (tmp_path / "vendors" / "gate" / "vendor.toml").write_text('title = "Gate"\n')
    add_folders([tmp_path])
    with Lake.in_memory() as lake:
        yield Loading(tmp_path, lake)


def test_an_element_of_a_list_is_found_by_its_name(gate: Loading) -> None:
    twice = [{"key": "target", "value": 7}, {"key": "target", "value": 8}]
    every = [[], "none", None, twice]
    gate.take([line(1), *(line(n, details=details) for n, details in enumerate(every, 2))])
    found = gate.lake.rows("SELECT object, agent FROM lake.events ORDER BY ts")
    assert found == [("t1", "gatectl/2"), *[(None, "(none)")] * 3, ("7", "(none)")]


def test_a_record_that_is_no_request_of_its_own_is_passed_over(gate: Loading) -> None:
    report = gate.take([line(1, stage="received"), line(1), line(2, stage=None), line(3, call="")])
    assert gate.lake.rows("SELECT object FROM lake.events ORDER BY ts") == [("t1",), ("t2",)]
    assert (report.total("lines"), report.total("events"), report.total("rejects")) == (3, 2, 1)


def test_a_file_of_which_all_is_passed_over_has_no_line(gate: Loading) -> None:
    report = gate.take([line(n, stage="received") for n in range(3)])
    assert (report.total("lines"), report.total("events"), report.total("rejects")) == (0, 0, 0)


def test_a_line_that_breaks_off_is_passed_over_alike(gate: Loading) -> None:
    broken = json.dumps(line(2, stage="received"))[:-3]
    report = gate.take((json.dumps(line(1)) + "\n" + broken).encode() + b"\n")
    assert (report.total("events"), report.total("rejects")) == (1, 0)


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        ({"gate": "", "at": ""}, True),
        ({"gate": "", "@at": None}, True),
        ({"gate": ""}, False),
        ({"at": "", "@at": ""}, False),
    ],
)
def test_of_marks_that_are_alternatives_one_is_enough(
    record: dict[str, Any], fits: bool, tmp_path: Path
) -> None:
    source = read(tmp_path)
    assert source.fits(record) is fits
    assert source.recognises(json.dumps(record), first=False) is fits


@pytest.mark.parametrize(
    "path",
    ["a[=x].b", "a[key=].b", "a[a b=c].b", "a[key=a]]", "a[key='a'].b", "a[key=a]].b"],
)
def test_a_wrong_choice_of_an_element_is_told(path: str, tmp_path: Path) -> None:
    with pytest.raises(VendorError, match=r"items\[key=agent\]\.value is expected"):
        read(tmp_path, MAPPING.replace("details[key=target].value", path))
