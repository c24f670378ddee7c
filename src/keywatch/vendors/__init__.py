"""What is known of each vendor (``vendors/NAME/``): log formats, keys, endpoints, runbook."""

from __future__ import annotations

from keywatch.errors import InputError
from keywatch.vendors.files import Contents, LogFile, find_files, without_mark
from keywatch.vendors.registry import catalogue_endpoints, service_words, sources, vendor_faults
from keywatch.vendors.shapes import holds_nothing, records_of
from keywatch.vendors.source import Source

__all__ = [
    "Contents",
    "LogFile",
    "Source",
    "catalogue_endpoints",
    "detect_source",
    "find_files",
    "named_source",
    "service_words",
    "sources",
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
        InputError: there is none; names those there are, and what is wrong with others.
    """
    known = sources()
    if name not in known:
        raise InputError(f"unknown source {name!r}; available: {', '.join(known)}{_left_out()}")
    return known[name]


def _left_out() -> str:
    return "".join(f"; skipped: {fault}" for fault in vendor_faults())


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
    # Of two formats that know a record, the one that has to find more in it is meant.
    known = sorted(sources().values(), key=lambda source: -len(source.marks))
    for record, _ in records_of(text):
        for source in known:
            if source.fits(record):
                return source
    for number, line in enumerate(head):
        for source in known:
            if source.recognises(line, number == 0):
                return source
    if holds_nothing(text):
        return None
    raise InputError(
        f"{file.path}, line 1: not in a log format known to Keywatch ({', '.join(sources())}); "
        f"set the format with --source, or see README.md, Input{_left_out()}"
    )
