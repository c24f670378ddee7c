"""Log formats: one module each, which reads lines and names the SQL that makes fields of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from keywatch.errors import InputError
from keywatch.sources import cloudtrail, pulsely
from keywatch.sources.base import Source
from keywatch.sources.files import Contents, LogFile, find_files, without_mark

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
    head = list(itertools.islice(_head_lines(file), _LINES_TO_LOOK_AT))
    if not head:
        return None
    for source in SOURCES.values():
        if any(source.recognises(line, i == 0) for i, line in enumerate(head)):
            return source
    raise InputError(
        f"{file.path}, line 1: not a log that Keywatch knows ({', '.join(SOURCES)}); "
        "name the format with --source, or see README.md, Input"
    )


def _head_lines(file: LogFile) -> Iterator[str]:
    text = without_mark(file.head(), file.path).decode(errors="replace")
    return (line for line in text.splitlines() if line.strip())
