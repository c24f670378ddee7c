"""AWS CloudTrail: ``{"Records": […]}`` files as delivered to S3, and one event a line (NDJSON)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pyarrow as pa

from keywatch.sources.base import Source
from keywatch.sources.files import Lines, LogFile, numbered_lines, without_mark

_DOCUMENT = re.compile(r'\s*\{\s*"Records"\s*:')


def _recognises(line: str, first: bool) -> bool:
    if first and (_DOCUMENT.match(line) or line.strip() == "{"):
        return True
    return '"eventSource"' in line and '"eventName"' in line


def _lines(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """A document is one text (its records are numbered from 1 in SQL); else a line is one."""
    if _DOCUMENT.match(file.head().decode("utf-8-sig", errors="replace")):
        return _document(file, on_bytes)
    return numbered_lines(file, on_bytes)


def _document(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    with file.open(on_bytes) as stream:
        text = without_mark(stream.read(), file.path)
    yield Lines(pa.array([1], pa.int64()), pa.array([text.decode(errors="replace")]))


SOURCE = Source("cloudtrail", _recognises, _lines, "source_cloudtrail", names_endpoints=True)
