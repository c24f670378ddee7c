"""Disks that are full or read-only, and too little memory: a sentence with the mend, exit 3."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Ran, keywatch
from tests.conftest import as_json_lines, event

EVENTS = 3000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(where)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not in every container")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def log(folder: Path, day: int, count: int = EVENTS) -> Path:
    file = folder / f"{day}.jsonl"
    rows = (
        event(
            timestamp=f"2026-09-{day:02}T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
            request_id=os.urandom(12).hex(),
            ip=f"84.{n % 200}.{n // 200}.7",
        )
        for n in range(count)
    )
    file.write_bytes(as_json_lines(rows))
    return file


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWATCH_REVIEW__POWER_KEYS", "0")


def refused(done: Ran, *words: str) -> None:
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    assert "error in Keywatch" not in done.err
    for word in words:
        assert word in done.err


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_space(
    disk: Path, tmp_path: Path
) -> None:
    lake = disk / "lake"
    assert keywatch("ingest", log(tmp_path, 7, 50), "--lake", lake).code == 0
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.truncate(0)
        free = os.statvfs(disk)
        file.write(bytes(max(free.f_bavail * free.f_frsize - 100_000, 0)))
    refused(keywatch("ingest", log(tmp_path, 8), "--lake", lake), "the disk is full", "Free some")
    filler.unlink()
    assert "50 events" in keywatch("doctor", "--lake", lake).out
    done = keywatch("ingest", tmp_path / "8.jsonl", "--lake", lake)
    assert done.code == 0, done.err
    told = keywatch("doctor", "--lake", lake, "--deep").out
    assert f"{EVENTS + 50:,} events" in told
    assert "do not belong to the lake" not in told, "what the failed load had written is gone"


def test_a_read_only_lake_is_reviewed_and_stores_nothing(disk: Path, tmp_path: Path) -> None:
    lake = disk / "lake"
    assert keywatch("ingest", log(tmp_path, 7, 50), "--lake", lake).code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = keywatch("review", "--week", "2026-W37", "--lake", lake)
    assert done.code == 0, done.err
    assert "is read-only: this review is neither stored" in done.err
    refused(keywatch("ingest", log(tmp_path, 8, 50), "--lake", lake), "read-only", "writable")
    assert keywatch("case", "key_0700353", "--week", "2026-W37", "--lake", lake).code == 0


def test_too_little_memory_is_said_with_the_mend(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    refused(
        keywatch("ingest", log(tmp_path, 7), "--lake", lake, KEYWATCH_STORAGE__MEMORY_LIMIT="3MB"),
        "out of memory", "storage.memory_limit",
    )  # fmt: skip
    wrong = keywatch(
        "ingest", tmp_path / "7.jsonl", "--lake", lake, KEYWATCH_STORAGE__MEMORY_LIMIT="lots"
    )
    assert wrong.code == 2
    assert "storage.memory_limit" in wrong.err
    assert keywatch("ingest", tmp_path / "7.jsonl", "--lake", lake).code == 0


def test_a_damaged_inventory_is_an_error_of_input(tmp_path: Path) -> None:
    for name, content in {
        "cut": b'{"key_id": "k',
        "bytes": b"\xff\xfe\x00",
        "text": b"[1, 2]",
    }.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_bytes(content)
        done = keywatch("keys", "import", file, "--lake", tmp_path / "lake")
        assert done.code == 2, done.err
        assert str(file) in done.err
        assert "Traceback" not in done.err
