"""The views for dashboards, and the queries of docs/dashboards.md, in a DuckDB without Keywatch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pytest

from keywatch.lake import Lake
from keywatch.lake.attach import extension_file
from keywatch.review import alerts
from keywatch.settings import Settings
from tests.deliver.alerts_of import review_of
from tests.prose import ROOT
from tests.report.reviews import DOUBTED, SCANNED

VIEWS = (ROOT / "deploy/dashboards/views.sql").read_text("utf-8")
ATTACH, *QUERIES = re.findall(
    r"```sql\n(.*?)```", (ROOT / "docs/dashboards.md").read_text("utf-8"), re.DOTALL
)
LAKE = "/srv/keywatch/lake"
"""The lake of the documents."""
RUNS = [("old", "2026-09-28", 3), ("new", "2026-09-28", 5), ("next", "2026-10-05", 7)]
CASES = [
    ("old", "key_1", "revoke", 50.0), ("new", "key_1", "investigate", 12.0),
    ("new", "key_2", "none", 1.0), ("next", "key_1", "revoke", 30.0),
    ("next", "key_2", "revoke", 40.0),
]  # fmt: skip
ACTIVITY = [
    ("key_1", date(2026, 9, 28), "192.0.2.1", "200", 8),
    ("key_1", date(2026, 9, 28), "192.0.2.1", "403", 2),
    ("key_2", date(2026, 9, 28), "192.0.2.2", "200", 5),
    ("key_2", date(2026, 9, 29), "192.0.2.2", "200", 4),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a lake with three runs, two open alerts and one that is closed."""
    folder = tmp_path_factory.mktemp("dashboards")
    coverage = json.dumps({"events": 19, "keys": 4, "assessed": 2, "rejected_lines": 1})
    with Lake.open(folder / "lake", Settings().storage, create=True) as lake, lake.writing():
        for run_id, start, snapshot in RUNS:
            lake.execute(
                "INSERT INTO lake.runs SELECT $run_id, $start::TIMESTAMP, "
                "$start::TIMESTAMP + INTERVAL 7 DAY, $snapshot, 'c', '1', $start::TIMESTAMP, $text",
                run_id=run_id, start=start, snapshot=snapshot, text=coverage,
            )  # fmt: skip
        for run_id, key_id, action, bits in CASES:
            lake.execute(
                "INSERT INTO lake.cases VALUES ($run_id, $key_id, $action, $bits, 0.1, 0.1)",
                run_id=run_id, key_id=key_id, action=action, bits=bits,
            )  # fmt: skip
        for key_id, day, address, status, events in ACTIVITY:
            lake.execute(
                "INSERT INTO lake.activity BY NAME SELECT $key_id AS key_id, $day AS day, "
                "$address AS address, $status AS status_class, $events AS events",
                key_id=key_id, day=day, address=address, status=status, events=events,
            )  # fmt: skip
        changes = alerts.update(lake, review_of(SCANNED, DOUBTED), 10.0)
        alerts.store(lake, changes)
        over = replace(changes[0].alert, alert_id="alert_over", state="closed")
        alerts.store(lake, [alerts.Change("resolve", over)])
        lake.execute(
            "INSERT INTO lake.alert_notes SELECT alert_id, 'assigned', 'ana', 'ben', "
            "TIMESTAMP '2026-10-05', 1 FROM lake.alerts WHERE action = 'revoke'"
        )
    return folder


@pytest.fixture
def plain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that has attached the lake as the document says, with the views."""
    monkeypatch.chdir(folder)
    with duckdb.connect() as connection:
        for name in ("ducklake", "sqlite_scanner"):
            connection.execute(f"LOAD '{extension_file(name)}'")
        connection.execute(ATTACH.replace(LAKE, str(folder / "lake")))
        connection.execute(VIEWS)
        yield connection


@pytest.mark.parametrize("document", ["dashboards.md", "lake.md"])
def test_a_copied_lake_is_read_from_any_folder(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue has the path that the lake was created by, and there may be another lake."""
    texts = (ROOT / "docs" / document).read_text("utf-8")
    (attach,) = re.findall(r"^ATTACH[^;]*sqlite:[^;]*;", texts, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    used("key_1")
    shutil.copytree("lake", "copy")
    used("key_2")
    (tmp_path / "elsewhere").mkdir()
    for here in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(here)
        for name, key_ids in (("copy", ["key_1"]), ("lake", ["key_1", "key_2"])):
            with duckdb.connect() as connection:
                for extension in ("ducklake", "sqlite_scanner"):
                    connection.execute(f"LOAD '{extension_file(extension)}'")
                connection.execute(attach.replace(LAKE, str(tmp_path / name)))
                files = connection.execute("SELECT DISTINCT filename FROM lake.activity").fetchall()
                found = connection.execute("SELECT key_id FROM lake.activity ORDER BY 1").fetchall()
            assert found == [(key_id,) for key_id in key_ids]
            assert all(file.startswith(str(tmp_path / name)) for (file,) in files)


def used(key_id: str) -> None:
    """Add a key's use to the lake in ``lake``, by a relative path."""
    with Lake.open(Path("lake"), Settings().storage, create=True) as lake, lake.writing():
        lake.execute(
            "INSERT INTO lake.activity BY NAME SELECT $id AS key_id, DATE '2026-09-28' AS day, "
            "1 AS events", id=key_id,
        )  # fmt: skip


def test_the_queries_of_the_document_answer(plain: duckdb.DuckDBPyConnection) -> None:
    in_force, by_week, by_day, copy = QUERIES
    found = plain.execute(in_force).fetchall()
    assert [(row[0], row[2], row[4]) for row in found] == [
        ("revoke", [SCANNED.key_id], "ana"), ("investigate", [DOUBTED.key_id], None),
    ]  # fmt: skip
    assert [row[1:] for row in plain.execute(by_week).fetchall()] == [
        ("2026-W40", 0, 0, 1), ("2026-W41", 2, 0, 0),
    ]  # fmt: skip
    assert plain.execute(by_day).fetchall() == [
        (date(2026, 9, 28), 15, 2, pytest.approx(2 / 15)), (date(2026, 9, 29), 4, 1, 0.0),
    ]  # fmt: skip
    plain.execute(copy)
    views = set(re.findall(r"VIEW (\w+)", VIEWS)) - {"newest_runs"}
    copied = plain.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'dashboards'"
    )
    assert {name for (name,) in copied.fetchall()} == views


def test_each_run_has_its_coverage(plain: duckdb.DuckDBPyConnection) -> None:
    found = plain.execute(
        "SELECT run_id, requests, keys, assessed, rejected_lines, silent FROM coverage_by_run "
        "ORDER BY lake_snapshot"
    ).fetchall()
    assert found == [(run_id, 19, 4, 2, 1, None) for run_id, _, _ in RUNS]


def test_nothing_is_written_into_the_lake(plain: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="read-only"):
        plain.execute("CREATE VIEW lake.mine AS FROM lake.runs")
    with pytest.raises(duckdb.Error, match="read-only"):
        plain.execute("DELETE FROM lake.alerts")
