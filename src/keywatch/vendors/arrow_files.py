"""Parquet and Arrow (Feather) files as their rows, a part at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from datetime import date, datetime, time
from itertools import islice
from typing import IO, Any

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.vendors.files import Lines, LogFile

__all__ = ["arrow_lines", "first_rows", "is_arrow"]

_PARQUET = b"PAR1"
_ARROW = b"ARROW1"
_STREAM = b"\xff\xff\xff\xff"
_ROWS_AT_ONCE = 10_000
_BUFFER_BYTES = 1024 * 1024


def is_arrow(start: bytes) -> bool:
    """Whether a file that begins with `start` is Parquet or Arrow."""
    return start.startswith((_PARQUET, _ARROW, _STREAM))


def arrow_lines(
    file: LogFile, columns: Collection[str], on_bytes: Callable[[int], None]
) -> Iterator[Lines]:
    """The rows as JSON text, numbered from 1, with those of `columns` that there are.

    A time with a zone has its offset, one without a zone has none.

    Raises:
        InputError: the file can't be read.
    """
    number = 1
    with file.open_at_random(on_bytes) as stream:
        for batch in _batches(file, stream, columns):
            rows = batch.to_pylist(maps_as_pydicts="lossy")
            texts = [json.dumps(row, ensure_ascii=False, default=_plain) for row in rows]
            numbers = pa.array(range(number, number + len(texts)), pa.int64())
            yield Lines(numbers, pa.array(texts, pa.string()))
            number += len(texts)


def first_rows(file: LogFile, count: int) -> list[dict[str, Any]]:
    """The first rows, as JSON has them.

    Raises:
        InputError: the file can't be read.
    """
    with file.open_at_random() as stream:
        rows = (
            row
            for batch in _batches(file, stream, None)
            for row in batch.slice(0, count).to_pylist(maps_as_pydicts="lossy")
        )
        found = list(islice(rows, count))
    return [json.loads(json.dumps(row, default=_plain)) for row in found]


def _batches(
    file: LogFile, stream: IO[bytes], columns: Collection[str] | None
) -> Iterator[pa.RecordBatch]:
    mark = stream.read(len(_ARROW))
    stream.seek(0)
    try:
        if mark.startswith(_PARQUET):
            from pyarrow.parquet import ParquetFile

            parquet = ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            names = parquet.schema_arrow.names
            wanted = names if columns is None else [name for name in names if name in columns]
            batches = parquet.iter_batches(_ROWS_AT_ONCE, columns=wanted)
        else:
            batches = _arrow_batches(stream, is_file=mark.startswith(_ARROW))
        for batch in batches:
            kept = batch.schema.names
            if columns is not None:
                kept = [name for name in kept if name in columns]
            yield _in_microseconds(batch.select(kept))
    except (pa.ArrowException, ValueError) as e:
        raise InputError(
            f"{file.path}: is no whole Parquet or Arrow file ({str(e).partition(chr(10))[0]}); "
            "fetch it again"
        ) from e


def _arrow_batches(stream: IO[bytes], *, is_file: bool) -> Iterator[pa.RecordBatch]:
    if is_file:
        opened = pa.ipc.open_file(stream)
        batches = map(opened.get_batch, range(opened.num_record_batches))
    else:
        batches = iter(pa.ipc.open_stream(stream))
    for batch in batches:
        for first in range(0, len(batch), _ROWS_AT_ONCE):
            yield batch.slice(first, _ROWS_AT_ONCE)


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` with no finer times than Python has."""
    fields = [pa.field(field.name, _coarser(field.type)) for field in batch.schema]
    wanted = pa.schema(fields)
    return batch if wanted.equals(batch.schema) else batch.cast(wanted, safe=False)


def _coarser(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _coarser(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_coarser(kind.value_type))
    return kind


def _plain(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)
