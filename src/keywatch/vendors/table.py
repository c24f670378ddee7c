"""CSV with a header, as JSON text a row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.vendors.files import (
    MAX_LINE_BYTES,
    Lines,
    LogFile,
    Unread,
    numbered_lines,
)

_SEPARATORS = ",;\t|"
_MOST_LINES_A_ROW = 200
_MOST_LENGTH_A_ROW = 1024 * 1024
_TOLD_LENGTH = 20_000
_KEY_ID = re.compile(r"[^\s,;\"']{1,200}")

csv.field_size_limit(MAX_LINE_BYTES)


def header_of(line: str) -> tuple[str, list[str]]:
    """The separator and the column names of a CSV's first line, in lower case."""
    found = [(each, row_of(line.rstrip("\r\n"), each) or []) for each in _SEPARATORS]
    separator, names = max(found, key=lambda one: len(one[1]))
    return separator, [name.strip().lower() for name in names]


def table_lines(
    file: LogFile,
    spelled: Mapping[str, str],
    required: Sequence[Sequence[str]],
    key_id: Collection[str],
    on_bytes: Callable[[int], None],
) -> Iterator[Lines]:
    """Each row as JSON text; a row that does not fit the header is unread.

    `spelled` are the names that columns get, by those in lower case. Of each of `required` the
    header has to have one; `key_id` are the names of the key's column.

    Raises:
        InputError: the file can't be read, or its header lacks a column.
    """
    table: _Table | None = None
    for numbers, texts, unread in numbered_lines(file, on_bytes, file.quiet):
        lines = zip(numbers.to_pylist(), texts.to_pylist(), strict=True)
        if table is None:
            if not len(numbers):
                yield Lines(numbers, texts, unread)
                continue
            number, line = next(lines)
            table = _Table(file.path, number, line, spelled, required, key_id)
        for number, line in lines:
            table.take(number, line)
        yield table.taken(unread)
    if table is not None:
        table.end()
        yield table.taken(())


class _Table:
    """Rows of a CSV put together of its lines.

    A quoted field may hold newlines, so a row may have several lines; but where the quote is never
    closed, or what it makes of them is no row, its first line alone is at fault.
    """

    def __init__(
        self,
        path: str,
        number: int,
        line: str,
        spelled: Mapping[str, str],
        required: Sequence[Sequence[str]],
        key_id: Collection[str],
    ) -> None:
        self._separator, header = header_of(line)
        self._names = [spelled.get(name, name) for name in header]
        at = (n for n, name in enumerate(self._names) if name in key_id)
        self._key_id_at = next(at, None)
        if missing := [each[0] for each in required if not {*each} & {*self._names}]:
            raise InputError(
                f"{path}, line {number}: the header lacks {', '.join(missing)}; "
                f"required are {', '.join(each[0] for each in required)}"
            )
        self._open: list[tuple[int, str]] = []
        self._open_length = 0
        self._numbers: list[int] = []
        self._texts: list[str] = []
        self._unread: list[Unread] = []

    def take(self, number: int, line: str) -> None:
        """Take the next line."""
        line = line.rstrip("\r\n")
        if not self._open and (line.count('"') % 2 == 0 or self._fits(line)):
            self._take_row(number, line)
            return
        self._open.append((number, line))
        self._open_length += len(line)
        if len(self._open) == 1:
            return
        if line.count('"') % 2:
            row = self._fits("\n".join(text for _, text in self._open))
            if row is None:
                self._give_up()
            else:
                self._keep(self._open[0][0], row)
                self._open, self._open_length = [], 0
        elif len(self._open) > _MOST_LINES_A_ROW or self._open_length > _MOST_LENGTH_A_ROW:
            self._give_up()

    def end(self) -> None:
        """There are no more lines."""
        while self._open:
            self._give_up()

    def taken(self, unread: Sequence[Unread]) -> Lines:
        """What was taken since the last time."""
        lines = Lines(
            pa.array(self._numbers, pa.int64()),
            pa.array(self._texts, pa.string()),
            (*unread, *self._unread),
        )
        self._numbers, self._texts, self._unread = [], [], []
        return lines

    def _give_up(self) -> None:
        """The first open line is a row by itself or none; those after it are taken again."""
        (number, line), *rest = self._open
        self._open, self._open_length = [], 0
        self._take_row(number, line)
        for one in rest:
            self.take(*one)

    def _fits(self, text: str, *, strict: bool = True) -> list[str] | None:
        """The fields of `text` where they are one row of this table."""
        row = row_of(text, self._separator, strict=strict)
        return row if row is not None and len(row) == len(self._names) else None

    def _take_row(self, number: int, line: str) -> None:
        if row := self._fits(line) or self._fits(line, strict=False):
            self._keep(number, row)
            return
        row = row_of(line, self._separator) or []
        at = self._key_id_at
        told = row[at] if at is not None and at < len(row) and _KEY_ID.fullmatch(row[at]) else None
        why = f"has {len(row)} fields, and the header {len(self._names)}"
        size = len(line.encode())
        self._unread.append(Unread(number, why, line[:_TOLD_LENGTH], size, told))

    def _keep(self, number: int, row: list[str]) -> None:
        values = {
            name: value for name, value in zip(self._names, row, strict=True) if value.strip() != ""
        }
        self._numbers.append(number)
        self._texts.append(json.dumps(values, ensure_ascii=False))


def row_of(text: str, separator: str, *, strict: bool = False) -> list[str] | None:
    """The fields of one row; None where `text` is none."""
    # Not splitlines, for there are other characters that end a line to it.
    *lines, last = text.replace("\r", " ").split("\n")
    lines = [*(f"{line}\n" for line in lines), last]
    try:
        rows = list(csv.reader(lines, delimiter=separator, strict=strict))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None if rows else []
