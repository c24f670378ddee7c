"""AWS CloudTrail: ``{"Records": […]}`` files as delivered to S3, and one event a line (NDJSON)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from keywatch.vendors.base import Source
from keywatch.vendors.documents import record_lines
from keywatch.vendors.files import Lines, LogFile, numbered_lines

_DOCUMENT = re.compile(r'\s*\{\s*"Records"\s*:')


def _recognises(line: str, first: bool) -> bool:
    if first and (_DOCUMENT.match(line) or line.strip() == "{"):
        return True
    return '"eventSource"' in line and '"eventName"' in line


def _lines(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """The records of a document, else the lines."""
    if _DOCUMENT.match(file.head().decode("utf-8-sig", errors="replace")):
        return record_lines(file, "Records", on_bytes)
    return numbered_lines(file, on_bytes)


SOURCE = Source(
    "cloudtrail",
    _recognises,
    _lines,
    "source_cloudtrail",
    re.compile(r'"accessKeyId"\s*:\s*"(\w{16,128})"'),
    names_endpoints=True,
)
