"""Copies of a lake's catalogue, where it is a SQLite file: two, an hour apart or more, beside it.

SQLite is only ever opened here in a process of its own: DuckDB has another SQLite built in, and
when two of them have one file open in one process, closing it in one takes the locks of the other.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

_EVERY = timedelta(hours=1)
_KEPT = 2
_NAMED = "%Y%m%dT%H%M%SZ"
_BACKUP = """
import os, sqlite3, sys
source, half, final = sys.argv[1:]
with sqlite3.connect(f"file:{source}?mode=ro", uri=True) as live, sqlite3.connect(half) as copy:
    live.backup(copy)
copy.execute("PRAGMA journal_mode = DELETE")
copy.close()
descriptor = os.open(half, os.O_RDONLY)
os.fsync(descriptor)
os.chmod(half, 0o600)
os.replace(half, final)
"""
_CHECK = """
import sqlite3, sys
try:
    catalogue = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    said = catalogue.execute("PRAGMA quick_check(1)").fetchone()[0]
    catalogue.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()
except sqlite3.Error as e:
    said = str(e)
print(said)
"""


def copies(catalogue: Path) -> list[tuple[datetime, Path]]:
    """The copies beside `catalogue` and their times (UTC), the newest first."""
    found = []
    for file in catalogue.parent.glob(f"{catalogue.stem}.copy-*.sqlite"):
        with suppress(ValueError):
            made = datetime.strptime(file.stem.rpartition("copy-")[2], _NAMED).replace(tzinfo=UTC)
            found.append((made.replace(tzinfo=None), file))
    return sorted(found, reverse=True)


def keep_copy(catalogue: Path, now: datetime) -> None:
    """Copy `catalogue` where the last copy is an hour old; a copy that fails fails nothing else."""
    before = copies(catalogue)
    if before and now - before[0][0] < _EVERY:
        return
    final = catalogue.with_name(f"{catalogue.stem}.copy-{now:{_NAMED}}.sqlite")
    half = final.with_suffix(".half")
    if _in_a_process(_BACKUP, catalogue, half, final) is None:
        half.unlink(missing_ok=True)
        return
    for _, file in copies(catalogue)[_KEPT:]:
        file.unlink(missing_ok=True)


def what_is_wrong(catalogue: Path) -> str | None:
    """What SQLite finds wrong with a catalogue; None where it is whole."""
    if not catalogue.exists():
        return "is missing"
    if not catalogue.stat().st_size:
        return "is empty"
    said = _in_a_process(_CHECK, catalogue)
    if said is None:
        return "can't be read"
    return None if said.strip() == "ok" else said.strip().splitlines()[0]


def _in_a_process(code: str, *arguments: Path) -> str | None:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout
