"""Log formats: one module each, which reads lines and names the SQL that makes fields of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from keywatch.errors import InputError
from keywatch.vendors import cloudtrail, pulsely
from keywatch.vendors.base import Source
from keywatch.vendors.files import Contents, LogFile, find_files, without_mark

SOURCES: Mapping[str, Source] = MappingProxyType(
    {source.name: source for source in (pulsely.SOURCE, cloudtrail.SOURCE)}
)

__all__ = [
    "SOURCES",
    "Contents",
    "LogFile",
    "Source",
    "detect_source",
    "find_files",
    "named_source",
]

_LINES_TO_LOOK_AT = 50
_OTHER_KINDS = {
    b"PAR1": "Parquet; write it as JSON Lines (DuckDB: COPY (FROM 'x.parquet') TO 'x.jsonl')",
    b"PK\x03\x04": "a zip archive; give it the ending .zip",
    b"SQLite format 3\0": "a SQLite database",
}


def named_source(name: str) -> Source:
    """The source called `name`.

    Raises:
        InputError: there is none; names those there are.
    """
    if name not in SOURCES:
        raise InputError(f"no source {name!r}; there are: {', '.join(SOURCES)}")
    return SOURCES[name]


def detect_source(file: LogFile) -> Source | None:
    """The source whose marks the file's first lines bear; None for an empty file.

    Raises:
        InputError: no source knows these lines.
    """
    if file.trouble:
        raise InputError(f"{file.path}: {file.trouble}")
    start = file.head()
    for mark, what in _OTHER_KINDS.items():
        if start.startswith(mark):
            raise InputError(f"{file.path}: is {what}")
    text = without_mark(start, file.path).decode(errors="replace")
    head = [line for line in text.split("\n") if line.strip()][:_LINES_TO_LOOK_AT]
    if not head:
        return None
    for source in SOURCES.values():
        if any(source.recognises(line, i == 0) for i, line in enumerate(head)):
            return source
    raise InputError(
        f"{file.path}, line 1: not a log that Keywatch knows ({', '.join(SOURCES)}); "
        "name the format with --source, or see README.md, Input"
    )
