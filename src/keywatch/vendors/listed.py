"""The records of a whole small file, with where each stands: JSON values, lists of them, or CSV."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from keywatch.errors import InputError
from keywatch.text.safe_text import unicode_only
from keywatch.vendors.files import BLOCK_BYTES, LogFile, find_files, without_mark
from keywatch.vendors.table import header_of

__all__ = ["Listed", "list_text", "listed_records"]

_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")
_MOST_BYTES = 1 << 30


class Listed(NamedTuple):
    """A record and where it stands: a file and a line."""

    where: str
    record: dict[str, Any]


def list_text(path: Path) -> str:
    """The text of a file, which may be compressed; ``-`` is standard input.

    Raises:
        InputError: it can't be read, is no UTF-8, or has more than 1 GB.
    """
    file = _only(path)
    if file.trouble:
        raise InputError(f"{file.path}: {file.trouble}")
    with file.guarded(), file.open() as stream:
        content = bytearray()
        while len(content) <= _MOST_BYTES and (block := stream.read(BLOCK_BYTES)):
            content += block
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path}: has more than 1 GB; import it in parts")
    content = without_mark(content, str(path))
    try:
        text = content.decode()
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise InputError(f"{path}, line {line}: is not UTF-8; convert it (iconv -t UTF-8)") from e
    # Spreadsheets of old Macs end lines so.
    return text if "\n" in text else text.replace("\r", "\n")


def _only(path: Path) -> LogFile:
    if str(path) != "-" and (path.is_dir() or not path.exists()):
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: can't be read: {what}")
    found = find_files([str(path)])
    if len(found) != 1:
        raise InputError(f"{path}: holds {len(found)} files; name one of them")
    return found[0]


def listed_records(
    text: str, path: str, records: Sequence[Sequence[str]] = (), encoded: str = ""
) -> Iterator[Listed]:
    """The records in `text`, of which `path` is the file's name.

    Of a JSON object that has lists at one of `records` (names from the outside in) these are the
    records, each with the fields of what stands around it. `encoded` is the name of a field that
    holds the file itself in base64.

    Raises:
        InputError: a value is cut off or a row does not fit its header; names file and line.
    """
    if not text.lstrip().startswith(("{", "[")):
        yield from _rows(text, path)
        return
    for where, value in _values(text, path):
        if encoded and isinstance(inner := value.get(encoded), str):
            yield from _rows(_decoded(inner, f"{where}: {encoded}"), f"{path}, {encoded}")
            continue
        names = next((each for each in records if each[0] in value), ())
        for record in _inside(value, names):
            yield Listed(where, record)


def _decoded(text: str, where: str) -> str:
    try:
        return base64.b64decode(text, validate=False).decode()
    except ValueError as e:
        raise InputError(f"{where} is not text in base64; save the answer as it is") from e


def _values(text: str, path: str) -> Iterator[Listed]:
    """JSON objects that follow one another, and those in lists."""
    at, line = 0, 1
    while True:
        between = _BETWEEN.match(text, at)
        assert between is not None
        line += text.count("\n", at, between.end())
        at = between.end()
        if at >= len(text):
            return
        # A list's elements are read one by one, each with its line.
        if text[at] in "[]":
            at += 1
            continue
        where = f"{path}, line {line}"
        try:
            value, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as e:
            what = e.msg.removesuffix(" starting at").lower()
            raise InputError(f"{path}, line {e.lineno}: not valid JSON: {what}") from e
        except RecursionError as e:
            raise InputError(f"{where}: not valid JSON: nested too deeply") from e
        if not isinstance(value, dict):
            raise InputError(f"{where}: a JSON object is expected")
        yield Listed(where, unicode_only(value))
        line += text.count("\n", at, end)
        at = end


def _inside(value: dict[str, Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The objects that `names` lead to, with the fields of what stands around them."""
    if not names:
        yield value
        return
    inner = value.get(names[0])
    around = {name: each for name, each in value.items() if name != names[0]}
    for one in inner if isinstance(inner, list) else [inner]:
        if isinstance(one, dict):
            yield from _inside({**around, **one}, names[1:])


def _rows(text: str, path: str) -> Iterator[Listed]:
    """The rows of a table with a header; empty fields are None."""
    lines = text.lstrip().split("\n")
    separator, _ = header_of(lines[0])
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
    before = text[: len(text) - len(text.lstrip())].count("\n")
    try:
        header = [name.strip() for name in next(rows, [])]
        while True:
            line = before + rows.line_num + 1
            row = next(iter(islice(rows, 1)), None)
            if row is None:
                return
            if not row or row == [""]:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {line}: has {len(row)} fields, and the header {len(header)}"
                )
            named = zip(header, (value.strip() for value in row), strict=True)
            yield Listed(f"{path}, line {line}", {name: value or None for name, value in named})
    except csv.Error as e:
        raise InputError(f"{path}, line {before + rows.line_num}: not valid CSV: {e}") from e
