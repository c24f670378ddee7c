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


@dataclass(frozen=True)
class ParsedChunk:
    """Lines made into fields, with nothing secret in them.

    Attributes:
        source: The format they came in.
        rows: The columns of ``sql/parsed.sql``; a row a line, or a record of a document.
    """

    source: Source
    rows: pa.Table


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
        if source.names_endpoints:
            return ParsedChunk(source, rows.drop_columns("call"))
        return ParsedChunk(source, self._with_endpoints(rows))

    def _with_endpoints(self, rows: pa.Table) -> pa.Table:
        """`rows` with the endpoint and object of each call, worked out once for equal calls."""
        encoded = rows["call"].cast(pa.string()).combine_chunks().dictionary_encode()
        calls = pa.table({"n": np.arange(len(encoded.dictionary)), "call": encoded.dictionary})
        with self._scratch.registered("calls", calls):
            templates = self._scratch.table(self._templates_sql)
        rows = rows.drop_columns(["call", "endpoint", "object"])
        for name, values in self._by_catalogue(templates).items():
            column = pa.DictionaryArray.from_arrays(encoded.indices, values)
            rows = rows.append_column(name, column)
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
