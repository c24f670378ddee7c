"""Files into chunks of parsed lines, with nothing secret in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.vendors import LogFile, Source
from keywatch.vendors.files import Lines
from keywatch.vendors.parser import ParsedChunk, Parser

_LEAST_LINE_BYTES = 200
"""What a line costs in memory however short it is."""
_UNREAD_BYTES = 1000
"""What one that its reader gave up costs beside its text."""


class Listed(NamedTuple):
    """A file of a load, by its number among the new ones, and its format."""

    file_id: int
    file: LogFile
    source: Source


@dataclass(frozen=True)
class ReadChunk:
    """Lines of one source's files.

    Attributes:
        whole: The files that have no line in any other chunk.
        begun: The file that has, or may have, further lines in the next one.
        unseen: By file, the lines that stand in no row: rows for lines that the reader gave up may
            be worth several.
    """

    parsed: ParsedChunk
    whole: frozenset[int]
    begun: int | None
    unseen: Mapping[int, int]


def read_chunks(
    files: Iterable[Listed],
    parser: Parser,
    chunk_bytes: int,
    on_bytes: Callable[[int], None],
    leave: Callable[[LogFile, InputError], None],
    is_left_out: Callable[[int], bool] = lambda _: False,
) -> Generator[ReadChunk]:
    """All lines of `files` in their order, about `chunk_bytes` of one source's at a time.

    What of a file could not be read is told to `leave`, and lines of it that are in no chunk yet
    come in none. A file that `is_left_out` after a chunk is not read further.

    Raises:
        VendorError: a source's query does not run.
    """
    for source, group in groupby(files, lambda listed: listed.source):
        parts: list[pa.Table] = []
        unread: list[dict[str, Any]] = []
        size, ended = 0, set[int]()
        for file_id, file, _ in group:
            before = len(parts), len(unread)
            is_begun = False
            try:
                for lines in source.lines(file, on_bytes):
                    parts.append(_numbered(file_id, lines))
                    unread += _unread(file_id, lines)
                    size += _held_bytes(lines)
                    if size >= chunk_bytes:
                        is_begun = True
                        yield _parsed(parser, source, parts, unread, ended, file_id)
                        parts, unread, size, ended = [], [], 0, set()
                        before = 0, 0
                        if is_left_out(file_id):
                            break
                if not is_begun:
                    ended.add(file_id)
            except InputError as e:
                leave(file, e)
                parts, unread = parts[: before[0]], unread[: before[1]]
        if parts or unread:
            yield _parsed(parser, source, parts, unread, ended, None)


def _parsed(
    parser: Parser,
    source: Source,
    parts: list[pa.Table],
    unread: list[dict[str, Any]],
    whole: set[int],
    begun: int | None,
) -> ReadChunk:
    unseen = Counter[int]()
    for one in unread:
        unseen[one["file_id"]] += one["lines_worth"] - 1
    parsed = parser.parse(source, pa.concat_tables(parts), unread)
    return ReadChunk(parsed, frozenset(whole), begun, unseen)


def _numbered(file_id: int, lines: Lines) -> pa.Table:
    file_ids = pa.repeat(pa.scalar(file_id, pa.int64()), len(lines.texts))
    return pa.table([file_ids, lines.numbers, lines.texts], ["file_id", "line", "text"])


def _held_bytes(lines: Lines) -> int:
    """About what `lines` take up until their chunk is stored."""
    read: int = max(lines.texts.nbytes, _LEAST_LINE_BYTES * len(lines.texts))
    return read + sum(_UNREAD_BYTES + len(one.text) for one in lines.unread)


def _unread(file_id: int, lines: Lines) -> Iterator[dict[str, Any]]:
    """The lines that the reader could not read, as `Parser.parse` takes them."""
    for one in lines.unread:
        yield {
            "file_id": file_id,
            "line": one.number,
            "reason": one.reason,
            "text": one.text,
            "size_bytes": one.size_bytes,
            "key_id": one.key_id,
            "lines_worth": one.lines_worth,
        }
