"""Lakes in a test's own folder, and logs to load into them."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from keywatch.lake import Lake
from keywatch.lake.attach import CONFIG
from keywatch.load.ingest import LoadReport, load_files
from keywatch.load.origins import ORIGIN_SCHEMA
from keywatch.settings import IngestSettings
from keywatch.vendors import find_files

# Lakes of tests are small: a second thread costs more than it does, and the next test has the core.
os.environ["KEYWATCH_STORAGE__THREADS"] = "1"
CONFIG["threads"] = 1  # where a test opens a lake without settings

CHROMIUM = os.environ.get("KEYWATCH_CHROMIUM") or shutil.which("chromium")
NO_CHROMIUM = (
    "no Chromium on the PATH, so no page is tested: "
    "apt-get install chromium, or set KEYWATCH_CHROMIUM"
)

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# Every table but those of a review; a load writes no other.
LOADED_TABLES = (
    "events", "keyless_events", "ingested_files", "rejects", "origins", "activity",
    "activity_hours", "transitions", "held_back",
)  # fmt: skip
# What differs between two loads of the same lines.
LOAD_MARKS = {"load_id", "file_id", "loaded_at", "path"}


@pytest.fixture(autouse=True)
def _no_content_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of content are made known to a whole process, which tests share."""
    monkeypatch.setattr("keywatch.content._added", ())


def pytest_collection_finish() -> None:
    """Leave what is imported out of every later garbage collection: a tenth of a test's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, at most 8: about a tenth of the time a test waits for others.

    The plugin would count physical cores, of which two processors may be one.
    """
    mine = getattr(os, "sched_getaffinity", None)
    return min(8, (len(mine(0)) if mine else os.cpu_count() or 1) + 1)


def pytest_report_header() -> list[str]:
    return [] if CHROMIUM else [NO_CHROMIUM]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    count = sum(NO_CHROMIUM in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_sep("=", f"{count} skipped: {NO_CHROMIUM}", yellow=True)


@pytest.fixture
def mid_october(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are given on 12 October 2026, whatever the clock says."""
    monkeypatch.setattr("keywatch.review.verdicts.utc_now", lambda: datetime(2026, 10, 12, 9))


class NoWhere:
    """A locator that has no database: each address is known by its text only."""

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        rows = [{"address": text, "class": "unknown", "located": False} for text in addresses]
        return pa.Table.from_pylist(rows, ORIGIN_SCHEMA)


def event(**fields: Any) -> dict[str, Any]:
    """One event of Pulsely's log; `fields` replace its fields, None takes one out."""
    whole = {
        "timestamp": "2026-09-30T00:00:04Z", "request_id": "req_01", "key_id": "key_0700353",
        "key": "ply_test_stg_90b781…11ee", "ip": "45.153.78.122", "method": "GET",
        "endpoint": "/v1/checks/8812", "status": 200, "user_agent": "Grafana/10.4.3",
    } | fields  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def events(count: int, **fields: Any) -> list[dict[str, Any]]:
    """`count` distinct events, a second apart."""
    return [
        event(
            timestamp=f"2026-09-30T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
            request_id=f"req_{n}",
            **fields,
        )
        for n in range(count)
    ]


def as_json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def compressed(content: bytes, name: str) -> bytes:
    """`content` as a file of this name is stored."""
    if name.endswith(".gz"):
        return gzip.compress(content)
    if name.endswith(".zst"):
        return bytes(pa.compress(content, codec="zstd", asbytes=True))
    return content


@dataclass
class Loading:
    """A lake in a folder, and what a test does with it."""

    folder: Path
    lake: Lake
    settings: IngestSettings = field(default_factory=IngestSettings)

    def write(self, content: bytes | Iterable[dict[str, Any]], name: str = "log.jsonl") -> Path:
        """A log under the test's folder; rows as JSON Lines or CSV, as the name says."""
        file = self.folder / "logs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            rows = list(content)
            content = as_csv(rows) if ".csv" in name else as_json_lines(rows)
        file.write_bytes(compressed(content, name))
        return file

    def load(self, *paths: Path, now: datetime | None = None, **settings: Any) -> LoadReport:
        """Load these files, with these settings in place of the defaults."""
        return load_files(
            self.lake,
            find_files([str(path) for path in paths]),
            self.settings.model_copy(update=settings),
            NoWhere(),
            now=now,
        )

    def take(self, content: bytes | Iterable[dict[str, Any]], name: str = "log.jsonl",
             now: datetime | None = None, **settings: Any) -> LoadReport:  # fmt: skip
        """Write a log and load it."""
        return self.load(self.write(content, name), now=now, **settings)

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything a load wrote, sorted, less what differs from one load to the next."""
        return tables_of(self.lake)

    def parquet_files(self) -> set[Path]:
        return set((self.folder / "lake" / "data").rglob("*.parquet"))

    def listed_files(self) -> set[Path]:
        """The Parquet files that the catalogue names."""
        return listed_files(self.lake)


def tables_of(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    kept = {
        table: [
            name
            for (name,) in lake.rows(
                "SELECT column_name FROM duckdb_columns() "
                "WHERE database_name = 'lake' AND table_name = $table ORDER BY column_index",
                table=table,
            )
            if name not in LOAD_MARKS
        ]
        for table in LOADED_TABLES
    }
    return {
        table: lake.rows(f"SELECT {', '.join(names)} FROM lake.{table} ORDER BY ALL")
        for table, names in kept.items()
    }


def listed_files(lake: Lake) -> set[Path]:
    return {
        Path(file)
        for (table,) in lake.rows("SELECT table_name FROM ducklake_table_info('lake')")
        for (file,) in lake.rows(
            "SELECT data_file FROM ducklake_list_files('lake', $table)", table=table
        )
    }


@pytest.fixture(scope="session")
def empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty lake to be copied: to make one takes longer than to open it."""
    folder = tmp_path_factory.mktemp("empty") / "lake"
    Lake.open(folder, create=True).close()
    return folder


@pytest.fixture
def new_lake(tmp_path: Path, empty_lake: Path) -> Path:
    """The folder of an empty lake: ``lake`` in the test's own."""
    return Path(shutil.copytree(empty_lake, tmp_path / "lake"))


@pytest.fixture
def loading(tmp_path: Path, new_lake: Path) -> Iterator[Loading]:
    """An empty lake in a folder."""
    with Lake.open(new_lake) as lake:
        yield Loading(tmp_path, lake)


@pytest.fixture(scope="session")
def kept_lake() -> Iterator[Lake]:
    """An empty lake in memory for all tests: what is done to it is to be undone (`Lake.undone`)."""
    with Lake.in_memory() as lake:
        yield lake


@pytest.fixture
def blank(kept_lake: Lake) -> Iterator[Lake]:
    """An empty lake in memory, in a transaction that is undone: for tests of many small cases."""
    with kept_lake.undone():
        yield kept_lake


@pytest.fixture
def quick(tmp_path: Path, blank: Lake) -> Loading:
    """An empty lake in memory: for what becomes of a line, not of a file of the lake."""
    return Loading(tmp_path, blank)
