"""A lake's folder as files: whose the Parquet files are, and what a writer that died left there.

The place of the Parquet files holds ``lake.id``, the id that the catalogue's table ``identity``
holds too. ``writer.journal`` in the lake's folder has a line for each transaction under way: what
is left of it when its writer is gone was written by this lake, in that time.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keywatch.errors import LakeDamagedError

MARKER = "lake.id"
SET_ASIDE = "set-aside-"
"""Begins the names of the folders into which a repair moves what is damaged."""
_IN_USE = ".in-use"
"""Ends the name of the file whose lock says that a process spills into the folder beside it."""
_JOURNAL = "writer.journal"
_OWN_FILE = re.compile(
    r"ducklake-([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"(?:-delete)?\.parquet"
)
_LAKE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@contextmanager
def spill_folder(parent: Path) -> Iterator[Path]:
    """A new folder (0700) in `parent` for what one connection spills, gone afterwards.

    DuckDB gives the files that it spills to the same names in each process: two of them in one
    folder read each other's. What processes left that were killed is removed.
    """
    _remove_abandoned(parent)
    place = parent / uuid.uuid4().hex
    mark = place.with_suffix(_IN_USE)
    with mark.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            mark.unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    for mark in parent.glob(f"*{_IN_USE}"):
        with suppress(OSError), mark.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
            mark.unlink(missing_ok=True)


def write_safely(file: Path, content: bytes) -> None:
    """Write a small file (0600) so that after a power cut it is whole or as it was."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    half.replace(file)


def parse_marker(text: str, where: object) -> str:
    """The id that a marker's text holds.

    Raises:
        LakeDamagedError: it holds none.
    """
    if not _LAKE_ID.fullmatch(text.strip()):
        raise LakeDamagedError(
            f"{where}: contains no lake id; if the Parquet files beside it are this lake's, "
            "remove it: the next load or review recreates it"
        )
    return text.strip()


def parquet_files(place: Path) -> Iterator[Path]:
    """Every Parquet file under `place`, whoever wrote it."""
    return (file for file in place.rglob("*.parquet") if file.is_file())


@dataclass(frozen=True)
class Writing:
    """A transaction: of which lake, and when it ran (ms since 1970); `until` None: it may still."""

    lake: str
    since: int
    until: int | None = None
    creates: bool = False

    def wrote(self, file: Path) -> bool:
        """Whether `file` has a name that DuckLake gave in this time, and was written in it."""
        # File systems keep times of modification less exactly.
        return self.named(file.name) and self.since - 2000 <= int(1000 * file.stat().st_mtime)

    def named(self, name: str) -> bool:
        """Whether DuckLake gave a Parquet file this name in this time.

        It is a UUID of version 7 (RFC 9562), which begins with the time in milliseconds.
        """
        found = _OWN_FILE.fullmatch(name)
        if found is None or self.until is None:
            return False
        return self.since <= int(found[1] + found[2], 16) <= self.until


class WriterJournal:
    """The transactions that this folder's writers began and did not end; under their lock only."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _JOURNAL

    def begin(self, lake: str, *, creates: bool = False) -> None:
        """Note that a transaction begins."""
        self._write([*self.unfinished(), Writing(lake, _now_ms(), creates=creates)])

    def end(self) -> None:
        """Note that the transaction that began last is over, and left nothing."""
        self._write(self.unfinished()[:-1])

    def unfinished(self) -> list[Writing]:
        """Those that never ended; a line that a crash cut short is none."""
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(Writing(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found

    def close(self) -> list[Writing]:
        """Those whose writer is gone, for this process has their lock now."""
        now = _now_ms()
        ended = [replace(each, until=each.until or now) for each in self.unfinished()]
        if ended:
            self._write(ended)
        return ended

    def forget(self, settled: Collection[Writing]) -> None:
        """Drop those of which nothing is left."""
        self._write([each for each in self.unfinished() if each not in settled])

    def _write(self, writings: list[Writing]) -> None:
        # Not safe from a power cut, which costs a millisecond: what is lost by it is only that some
        # files without a use stay.
        if not writings:
            self._file.unlink(missing_ok=True)
            return
        text = "".join(json.dumps(asdict(each)) + "\n" for each in writings)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)


def remove_remains(place: Path, died: Collection[Writing], known: Collection[str]) -> int:
    """Remove what dead transactions wrote under `place`; returns how many files.

    `known` are the names of the files that the catalogue has, or ever had: none of them is touched,
    nor any file that was not written by one of the transactions.
    """
    remains = [
        file
        for file in parquet_files(place)
        if file.name not in known and any(each.wrote(file) for each in died)
    ]
    for file in remains:
        file.unlink(missing_ok=True)
    return len(remains)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
