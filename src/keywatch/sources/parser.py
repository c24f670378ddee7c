"""From a source's lines to redacted fields, in a database that never touches the disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from keywatch.endpoints import EndpointTemplates
from keywatch.lake import Lake, sql_text
from keywatch.secrets import (
    FULL_KEY_PATTERN,
    SECRET_PARAMETER_PATTERN,
    SUSPECT_PATTERN,
    Redactor,
)
from keywatch.sources.base import Source

_REPEATED = ("key_id", "key", "address", "method", "user_agent", "agent")


@dataclass(frozen=True)
class ParsedChunk:
    """Lines made into fields, with nothing secret in them.

    Attributes:
        source: The format they came in.
        rows: The columns of ``sql/parsed.sql``; a row a line, or a record of a document. They are
            sorted by day, key, address and time, and repeated text is a dictionary.
    """

    source: Source
    rows: pa.Table


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Text as a dictionary of its distinct values."""
    return column.cast(pa.string()).dictionary_encode().combine_chunks()


def _with(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def _sorted(rows: pa.Table) -> pa.Table:
    """`rows` by day, key, address and time, in one chunk."""
    key_id, address = (
        rows[name].combine_chunks().indices.fill_null(0).to_numpy().astype(np.int64)
        for name in ("key_id", "address")
    )
    ts, day = (
        rows[name].combine_chunks().cast(kind).fill_null(0).to_numpy()
        for name, kind in (("ts", pa.int64()), ("day", pa.int32()))
    )
    order = np.lexsort((ts, address + (address.max(initial=0) + 1) * key_id, day))
    return rows.combine_chunks().take(pa.array(order)).combine_chunks()


class Parser:
    """Makes fields of lines; a context manager. One thread at a time may use it."""

    def __init__(self, redactor: Redactor) -> None:
        self._scratch = Lake.scratch()
        self._scratch.create_text_function("redact", redactor.redact)
        self._scratch.create_text_function("mask_key", redactor.mask_key)
        self._templates = EndpointTemplates.bundled()
        self._templates_sql = sql_text("templates")
        self._parsed_sql = sql_text("parsed")

    def __enter__(self) -> Parser:
        """The parser itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        self._scratch.connection.close()

    def parse(self, source: Source, lines: pa.Table) -> ParsedChunk:
        """The fields of `lines` (file_id, line, text), which came in the format of `source`."""
        with self._scratch.registered("raw", lines):
            rows = self._scratch.table(
                f"WITH fields AS ({sql_text(source.fields)}) FROM ({self._parsed_sql})",
                suspect=SUSPECT_PATTERN,
                full_key=FULL_KEY_PATTERN,
                parameter=SECRET_PARAMETER_PATTERN,
            )
        for name in _REPEATED:
            rows = _with(rows, name, _encoded(rows[name]))
        if source.names_endpoints:
            for name in ("endpoint", "object"):
                rows = _with(rows, name, _encoded(rows[name]))
        else:
            rows = self._with_endpoints(rows)
        return ParsedChunk(source, _sorted(rows.drop_columns("call")))

    def _with_endpoints(self, rows: pa.Table) -> pa.Table:
        """`rows` with the endpoint and object of each call, worked out once for equal calls."""
        calls = _encoded(rows["call"])
        numbered = pa.table({"n": np.arange(len(calls.dictionary)), "call": calls.dictionary})
        with self._scratch.registered("calls", numbered):
            templates = self._scratch.table(self._templates_sql)
        for name, texts in self._by_catalogue(templates).items():
            # Many calls have the same endpoint: its numbers are to be those of distinct ones.
            distinct = texts.dictionary_encode()
            indices = distinct.indices.take(calls.indices)
            rows = _with(rows, name, pa.DictionaryArray.from_arrays(indices, distinct.dictionary))
        return rows

    def _by_catalogue(self, templates: pa.Table) -> dict[str, pa.Array]:
        """Columns endpoint and object, a catalogue's where one knows the path better."""
        endpoints = templates["endpoint"].to_pylist()
        objects = templates["object"].to_pylist()
        matches = {endpoint: self._templates.match(endpoint) for endpoint in set(endpoints)}
        for i, endpoint in enumerate(endpoints):
            match = matches[endpoint]
            if match is not None and match.endpoint != endpoint:
                endpoints[i] = match.endpoint
                objects[i] = "/".join(filter(None, (objects[i], match.object)))
        return {
            "endpoint": pa.array(endpoints, pa.string()),
            "object": pa.array(objects, pa.string()),
        }
