"""Pulsely's audit log: JSON Lines, or CSV with a header."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from typing import cast

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.sources.base import Source
from keywatch.sources.files import Lines, LogFile, numbered_lines, without_mark

REQUIRED = ("timestamp", "key_id", "ip", "method", "endpoint")
_CSV_ROWS = 50_000
_CSV_BUFFER_BYTES = 1024 * 1024


def _recognises(line: str, first: bool) -> bool:
    if line.lstrip().startswith("{"):
        return '"key_id"' in line and '"endpoint"' in line
    return first and {"key_id", "endpoint"} <= set(next(csv.reader([line]), []))


def _lines(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    first = file.head().decode("utf-8-sig", errors="replace").lstrip().partition("\n")[0]
    if ".csv" in file.path.lower() or (not first.startswith("{") and _recognises(first, True)):
        return _csv_lines(file, on_bytes)
    return numbered_lines(file, on_bytes)


def _csv_lines(file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
    """Each row as JSON text; a row that does not fit the header as text that is no JSON."""
    without_mark(file.head(), file.path)
    with file.open(on_bytes) as stream:
        buffered = io.BufferedReader(cast("io.RawIOBase", stream), _CSV_BUFFER_BYTES)
        reader = csv.reader(io.TextIOWrapper(buffered, "utf-8-sig", errors="replace", newline=""))
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in REQUIRED if name not in header]
        if header and missing:
            raise InputError(
                f"{file.path}, line 1: the header lacks {', '.join(missing)}; "
                f"required are {', '.join(REQUIRED)}"
            )
        rows = _rows(reader, header)
        while batch := list(itertools.islice(rows, _CSV_ROWS)):
            numbers, texts = zip(*batch, strict=True)
            yield Lines(pa.array(numbers, pa.int64()), pa.array(texts, pa.string()))


def _rows(reader: Iterator[list[str]], header: list[str]) -> Iterator[tuple[int, str]]:
    while True:
        number = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            yield number, f"not valid CSV: {e}"
            continue
        if len(row) == len(header):
            values = {name: value for name, value in zip(header, row, strict=True) if value != ""}
            yield number, json.dumps(values, ensure_ascii=False)
        elif row:
            yield number, ",".join(row)


SOURCE = Source("pulsely", _recognises, _lines, "source_pulsely", names_endpoints=False)
