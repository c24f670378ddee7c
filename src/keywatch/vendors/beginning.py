"""The first records of a file whose format is not known yet, whatever they stand in."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from keywatch.errors import InputError
from keywatch.vendors.arrow_files import first_rows, is_arrow
from keywatch.vendors.files import LogFile, without_mark
from keywatch.vendors.shapes import holds_nothing, records_of
from keywatch.vendors.table import header_of
from keywatch.vendors.text_lines import LINE_FORMS, line_form_of

__all__ = ["Beginning", "beginning_of"]

Record = dict[str, Any]

_LOOKED_AT = 50
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive; give it the ending .zip",
    b"SQLite format 3\0": "a SQLite database",
    b"FEA1": "Feather of version 1; write it anew, as Parquet or Feather of version 2",
}


@dataclass(frozen=True)
class Beginning:
    """What a file begins with.

    Attributes:
        text: As text; empty where the file is none.
        form: Of `keywatch.vendors.source.FORMS`.
        records: The first ones. Of JSON also what stands around a record, and what is in it.
    """

    text: str
    form: str
    records: tuple[Record, ...]

    @property
    def lines(self) -> list[str]:
        """The first lines that are not blank."""
        return [line for line in self.text.split("\n") if line.strip()][:_LOOKED_AT]

    @property
    def is_empty(self) -> bool:
        """Whether there is no record in the whole file, and no place for one."""
        return holds_nothing(self.text) if self.text else not self.records


def beginning_of(file: LogFile) -> Beginning:
    """What `file` begins with.

    Raises:
        InputError: it can't be read, or is of a kind that is no log.
    """
    if file.trouble:
        raise InputError(f"{file.path}: {file.trouble}")
    start = file.head()
    for mark, what in _OTHER_KINDS.items():
        if start.startswith(mark):
            raise InputError(f"{file.path}: is {what}")
    if is_arrow(start):
        return Beginning("", "json", tuple(first_rows(file, _LOOKED_AT)))
    text = without_mark(start, file.path).decode(errors="replace")
    if (form := line_form_of(text)) is not None:
        read = LINE_FORMS[form].read
        found = (read(line) for line in text.split("\n"))
        return Beginning(text, form, tuple(islice((one for one in found if one), _LOOKED_AT)))
    if records := tuple(record for record, _ in records_of(text)):
        return Beginning(text, "json", records)
    if rows := tuple(islice(_rows_of(text), _LOOKED_AT)):
        return Beginning(text, "csv", rows)
    return Beginning(text, "json", ())


def _rows_of(text: str) -> Iterator[Record]:
    """The rows of a table, if that is what begins with `text`."""
    lines = text.lstrip().split("\n")
    separator, _ = header_of(lines[0])
    try:
        rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
        names = [name.strip() for name in next(rows)]
        if len(names) > 1 and all(names):
            for row in rows:
                if len(row) == len(names):
                    yield {name: value for name, value in zip(names, row, strict=True) if value}
    except (csv.Error, StopIteration):
        return
