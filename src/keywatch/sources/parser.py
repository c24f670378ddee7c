"""From a source's lines to redacted fields, in a database that never touches the disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keywatch.endpoints import EndpointTemplates
from keywatch.lake import Lake, sql_text
from keywatch.secrets import (
    FULL_KEY_PATTERN,
    SECRET_PARAMETER_PATTERN,
    SUSPECT_PATTERN,
    Redactor,
)
from keywatch.sources.base import Source

_REPEATED = ("key_id", "key", "method", "user_agent")


@dataclass(frozen=True)
class ParsedChunk:
    """Lines made into fields, with nothing secret in them.

    Attributes:
        source: The format they came in.
        rows: The columns of ``sql/parsed.sql``, endpoint, object and agent; a row a line, or a
            record of a document. They are in one chunk, sorted by day, key, address and time, and
            repeated text is a dictionary of distinct values.
    """

    source: Source
    rows: pa.Table


def _encoded(column: pa.ChunkedArray, nulls: str = "mask") -> pa.DictionaryArray:
    """Text as a dictionary of its distinct values, of which null is one if `nulls` is `encode`."""
    return column.cast(pa.string()).dictionary_encode(nulls).combine_chunks()


def _mapped(column: pa.DictionaryArray, texts: pa.Array) -> pa.DictionaryArray:
    """`column` with `texts` in place of its distinct values; they may be equal among themselves."""
    distinct = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        distinct.indices.take(column.indices), distinct.dictionary
    )


def _sorted(rows: pa.Table) -> pa.Table:
    """`rows` by day, key, address and time, in one chunk."""
    key_id, address = (
        # By text, so that a reader of one key can skip parts of a large file.
        np.append(pc.rank(texts.dictionary).to_numpy().astype(np.int64), 0)[
            texts.indices.fill_null(-1).to_numpy()
        ]
        for texts in (rows[name].combine_chunks() for name in ("key_id", "address"))
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
        columns = {name: _encoded(rows[name]) for name in _REPEATED} | {
            "agent": self._worked_out("agent_of(text)", rows["user_agent"]),
            "address": self._worked_out("clean_address(text)", rows["address"]),
        }
        if source.names_endpoints:
            columns |= {name: _encoded(rows[name]) for name in ("endpoint", "object")}
        else:
            columns |= self._endpoints(rows["call"])
        rows = rows.drop_columns(["call", *(columns.keys() - {"agent"})])
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        return ParsedChunk(source, _sorted(rows))

    def _worked_out(self, expression: str, column: pa.ChunkedArray) -> pa.DictionaryArray:
        """An SQL expression of `text`, of each distinct text of `column` and of null once."""
        encoded = _encoded(column, nulls="encode")
        with self._scratch.registered("texts", pa.table({"text": encoded.dictionary})):
            texts = self._scratch.table(f"SELECT {expression} AS worked_out FROM texts")
        return _mapped(encoded, texts["worked_out"].cast(pa.string()).combine_chunks())

    def _endpoints(self, column: pa.ChunkedArray) -> dict[str, pa.DictionaryArray]:
        """The endpoint and object of each call, worked out once for equal calls."""
        calls = _encoded(column)
        numbered = pa.table({"n": np.arange(len(calls.dictionary)), "call": calls.dictionary})
        with self._scratch.registered("calls", numbered):
            templates = self._scratch.table(self._templates_sql)
        return {
            name: _mapped(calls, texts) for name, texts in self._by_catalogue(templates).items()
        }

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
