"""Loads of one lake at once: lines are read without the lock, and each request counts once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch.lake import Lake
from keywatch.load.ingest import LoadReport, load_files
from keywatch.operate import integrity
from keywatch.settings import IngestSettings
from keywatch.vendors import find_files
from keywatch.vendors.parser import Parser
from tests.conftest import Loading, NoWhere, as_json_lines, event, tables_of
from tests.forked import Forked
from tests.lake.loader import load_parsing
from tests.load.test_path_templates import customers, day, one

PATIENCE_SECONDS = 300.0
NOW = datetime(2026, 11, 1)


def requests(first: int, last: int, **fields: Any) -> bytes:
    return as_json_lines(
        event(timestamp=f"2026-09-21T08:{n:02}:00Z", request_id=f"r{n}", key_id=f"key_{n % 3}")
        | fields
        for n in range(first, last)
    )


def load(lake: Lake, file: Path) -> LoadReport:
    return load_files(lake, find_files([str(file)]), IngestSettings(), NoWhere(), now=NOW)


def test_lines_are_parsed_while_another_writes(loading: Loading) -> None:
    log = loading.write(requests(0, 40))
    with loading.lake.writing():
        other = Forked.calling(load_parsing, loading.folder / "lake", log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "parsed" not in other.said:
            assert time.monotonic() < deadline, other.said
            time.sleep(0.02)
        assert not other.ends(0)
    assert other.ends(PATIENCE_SECONDS)
    assert other.said.splitlines()[-1] == "loaded"
    assert other.said.count("parsed") == 1
    assert loading.lake.value("SELECT count(*) FROM lake.events") == 40


TEACHES = as_json_lines(row for nth in range(3) for row in day(nth, customers(nth), one))
TAUGHT = as_json_lines(day(4, customers(4), one))
BROKEN = requests(0, 30) + b"no json\n" + requests(30, 40)


@pytest.mark.parametrize(
    ("first", "second", "parsed"),
    [
        pytest.param(requests(0, 40), requests(20, 60), 1, id="overlapping"),
        pytest.param(requests(0, 40), requests(0, 40), 1, id="the same file"),
        pytest.param(TEACHES, TAUGHT, 2, id="what paths hold was learned"),
        pytest.param(BROKEN, BROKEN.replace(b"no json", b"not json"), 1, id="lines that are none"),
    ],
)
def test_what_another_stored_meanwhile_is_as_if_it_was_there_before(
    loading: Loading,
    empty_lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: bytes,
    second: bytes,
    parsed: int,
) -> None:
    logs = [loading.write(first, "first.jsonl"), loading.write(second, "second.jsonl")]
    shutil.copytree(empty_lake, tmp_path / "in-turn")
    with Lake.open(tmp_path / "in-turn") as lake:
        in_turn = [load(lake, log) for log in logs]
        expected = tables_of(lake)
    writing, parse = Lake.writing, Parser.parse
    reports: list[LoadReport] = []
    counted: list[object] = []

    @contextmanager
    def after_another(self: Lake) -> Iterator[None]:
        monkeypatch.setattr(Lake, "writing", writing)
        with Lake.open(tmp_path / "lake") as other:
            reports.append(load(other, logs[0]))
        counted.clear()
        counted.append("before")  # what was read before the lock
        with writing(self):
            yield

    def count(self: Parser, *arguments: Any) -> Any:
        counted.append(arguments)
        return parse(self, *arguments)

    monkeypatch.setattr(Parser, "parse", count)
    monkeypatch.setattr(Lake, "writing", after_another)
    reports.append(load(loading.lake, logs[1]))
    assert len(counted) == parsed
    assert reports == in_turn
    assert tables_of(loading.lake) == expected
    assert list(integrity.faults(loading.lake, deep=True)) == []
    ids = "SELECT file_id, load_id FROM lake.ingested_files ORDER BY ALL"
    loads = sum(not report.files[0].already_loaded for report in in_turn)
    assert loading.lake.rows(ids) == [(nth, nth) for nth in range(1, 1 + loads)]
    where = "SELECT DISTINCT file_id, load_id FROM lake.rejects ORDER BY ALL"
    assert loading.lake.rows(where) == ([(1, 1), (2, 2)] if b"no json" in first else [])
