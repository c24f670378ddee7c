"""A lake of an older Keywatch, kept as it was made then, opened with today's code."""

from __future__ import annotations

import shutil
import tarfile
from datetime import date
from pathlib import Path

import pytest

from keywatch import pipeline
from keywatch.errors import LakeDamagedError
from keywatch.lake import FORMAT_VERSION, METADATA, Lake
from keywatch.lake.key_hash import fingerprint
from keywatch.operate.repair import RepairReport, repair
from keywatch.settings import LakeSettings, Settings
from tests.conftest import ROOT, Loading, NoWhere
from tests.load.test_principals import ROLE, record, session_of
from tests.operate.test_damage import NOW

# Made by the code of format 3: five weeks of four keys, an inventory, a review, a verdict.
KEPT = ROOT / "tests" / "data" / "lake-format-3.tar.xz"
ROWS = {
    "events": 420, "activity": 141, "transitions": 141, "ingested_files": 5, "keys": 4,
    "origins": 5, "runs": 1, "cases": 1, "evidence": 1, "verdicts": 1, "suppressions": 1,
}  # fmt: skip


def test_a_kept_lake_of_format_3_is_upgraded_and_reviewed(tmp_path: Path) -> None:
    with tarfile.open(KEPT) as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / "lake"
    with Lake.open(folder) as lake:
        assert lake.value("SELECT version FROM lake.format") == FORMAT_VERSION
        secret = bytes.fromhex((folder / "key-hash.secret").read_text())
        assert lake.secret_fingerprint == fingerprint(secret)
        counts = {table: lake.value(f"SELECT count(*) FROM lake.{table}") for table in ROWS}
        assert counts == ROWS
        hours = "SELECT sum(events)::BIGINT, count(DISTINCT address) FROM lake.activity_hours"
        assert lake.rows(hours) == [(420, 5)]
        assert lake.rows("SELECT key_id, origin, ends_on, families FROM lake.suppressions") == [
            (
                "key_2",
                "91.234.56.0/24",
                date(2026, 12, 31),
                ["origin", "endpoints", "client", "all"],
            )
        ]
        empty = f"SELECT count(*) FROM {METADATA}.ducklake_table_stats WHERE record_count = 0"
        assert lake.value(empty) > 0
        with lake.writing():
            pass
        assert (folder / "data" / "lake.id").read_text() == (
            lake.value("SELECT id FROM lake.identity") + "\n"
        )
    assert repair(folder, LakeSettings(), NoWhere(), NOW) == RepairReport()
    answer = pipeline.review(folder, None, Settings().without_power(), whole=False)
    assert answer.coverage.keys == 4
    assert f"{answer.window.start:%Y-%m-%d}" == "2026-09-28"
    with Lake.open(folder) as lake:
        assert lake.value("SELECT count(*) FROM lake.runs") == 2


def test_what_an_upgraded_lake_loads_has_principals(tmp_path: Path) -> None:
    with tarfile.open(KEPT) as packed:
        packed.extractall(tmp_path, filter="data")
    with Lake.open(tmp_path / "lake") as lake:
        loading = Loading(tmp_path, lake)
        loading.take(
            record(n, f"ASIAQ3WR00000000000{n}", session_of("etl", "nightly", ROLE))
            for n in range(3)
        )
        assert lake.rows("SELECT principal, count(*) FROM lake.events GROUP BY 1 ORDER BY 2") == [
            (ROLE, 3), (None, 420),
        ]  # fmt: skip
        assert lake.rows("SELECT key_id, session FROM lake.sessions ORDER BY 2") == [
            (ROLE, f"ASIAQ3WR00000000000{n}") for n in range(3)
        ]
        assert lake.rows("SELECT count(DISTINCT key_id) FROM lake.activity") == [(5,)]


def test_two_lakes_of_before_marks_in_one_place_are_found_out(tmp_path: Path) -> None:
    with tarfile.open(KEPT) as packed:
        packed.extractall(tmp_path, filter="data")
    shutil.copytree(tmp_path / "lake", tmp_path / "other")
    shared = LakeSettings(data_path=str(tmp_path / "lake" / "data"))
    with Lake.open(tmp_path / "lake") as lake, lake.writing():
        pass
    with pytest.raises(LakeDamagedError, match="Two lakes can't share one place"):
        Lake.open(tmp_path / "other", shared)
