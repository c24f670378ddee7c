"""Whether a lake's files are what its catalogue says of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keywatch.errors import LakeDamagedError
from keywatch.lake import METADATA, Lake

_ENDS_WITH = 8  # the footer's length and the magic


@dataclass(frozen=True)
class NamedFile:
    """A Parquet file that the catalogue names, of whatever snapshot; `path` may be an URL."""

    file_id: int
    table_id: int
    table: str
    path: str
    size_bytes: int
    footer_bytes: int
    rows: int
    deletes: bool
    current: bool
    key: str | None = field(default=None, repr=False)
    """With which it is encrypted, in base64; None if it is not."""


@dataclass(frozen=True)
class Fault:
    """A file that is not what the catalogue says, and how."""

    file: NamedFile
    what: str

    def __str__(self) -> str:
        return f"{self.file.path} ({self.file.table}, {self.file.rows:,} rows): {self.what}"


def named_files(lake: Lake) -> list[NamedFile]:
    """Every Parquet file that the catalogue names."""
    # A catalogue that is damaged may name a file's table no more: the outer joins keep the file.
    kinds = (
        ("data_file", "data_file_id", "record_count"),
        ("delete_file", "delete_file_id", "delete_count"),
    )
    parts = [
        f"""
        SELECT f.{key}, f.table_id, t.table_name, f.path, f.path_is_relative::BOOLEAN,
            t.path, t.path_is_relative::BOOLEAN, s.path, s.path_is_relative::BOOLEAN,
            f.file_size_bytes, f.footer_size, f.{rows}, {kind == "delete_file"},
            f.end_snapshot IS NULL, f.encryption_key
        FROM {METADATA}.ducklake_{kind} AS f
        LEFT JOIN (
            FROM {METADATA}.ducklake_table
            QUALIFY row_number() OVER (PARTITION BY table_id ORDER BY begin_snapshot DESC) = 1
        ) AS t USING (table_id)
        LEFT JOIN (
            FROM {METADATA}.ducklake_schema
            QUALIFY row_number() OVER (PARTITION BY schema_id ORDER BY begin_snapshot DESC) = 1
        ) AS s USING (schema_id)
        """
        for kind, key, rows in kinds
    ]
    found = []
    for row in lake.rows(" UNION ALL ".join(parts) + " ORDER BY ALL"):
        file_id, table_id, table, *paths, size, footer, rows, deletes, current, key = row
        where = lake.data_path
        for path, relative in (paths[4:6], paths[2:4], paths[0:2]):
            if path is not None:
                where = f"{where.rstrip('/')}/{path}" if relative else path
        found.append(
            NamedFile(
                file_id,
                table_id,
                table or "?",
                where,
                size,
                footer,
                rows,
                deletes,
                current,
                key or None,
            )
        )
    return found


def faults(lake: Lake, *, deep: bool = False) -> Iterator[Fault]:
    """The files that are missing, cut or unreadable; with `deep` each is read through."""
    for file in named_files(lake):
        if what := _fault_of(lake, file, deep):
            yield Fault(file, what)


def _fault_of(lake: Lake, file: NamedFile, deep: bool) -> str | None:
    if "://" not in file.path and (what := _fault_at_its_ends(Path(file.path), file)):
        return what
    # By DuckDB, which wrote it: Arrow refuses some of its delta encodings, which are whole.
    content = "read_parquet($path)"
    if file.key is not None:
        content = "read_parquet($path, encryption_config = {footer_key_value: from_base64($key)})"
    try:
        rows = lake.value(f"SELECT count(*) FROM {content}", path=file.path, key=file.key)
        if deep:
            read = f"SELECT bit_xor(hash(COLUMNS(*))) FROM {content}"
            lake.rows(read, path=file.path, key=file.key)
    except (lake.Error, LakeDamagedError) as e:
        return f"can't be read: {str(e.__cause__ or e).splitlines()[0][:200]}"
    return None if rows == file.rows else f"holds {rows:,} rows, not {file.rows:,}"


def _fault_at_its_ends(path: Path, file: NamedFile) -> str | None:
    try:
        with path.open("rb") as content:
            size = path.stat().st_size
            if size != file.size_bytes:
                return f"is {size:,} bytes long, not {file.size_bytes:,}"
            head = content.read(4)
            content.seek(-_ENDS_WITH, os.SEEK_END)
            end = content.read()
    except FileNotFoundError:
        return "is missing"
    except OSError as e:
        return f"can't be read ({e.strerror})"
    length = int.from_bytes(end[:4], "little")
    magic = b"PAR1" if file.key is None else b"PARE"
    if (head, end[4:]) != (magic, magic) or length != file.footer_bytes:
        return "is not a valid Parquet file"
    return None


def journal_faults(file: Path) -> int:
    """How many lines of a journal are cut or damaged; of none, and of an absent one, 0.

    Raises:
        OSError: it can't be read.
    """
    if not file.exists():
        return 0
    return sum(not _is_object(line) for line in file.read_bytes().splitlines() if line.strip())


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
