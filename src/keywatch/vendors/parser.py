"""From a source's lines to redacted fields, in a database that never touches the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from keywatch.errors import UsageError, VendorError
from keywatch.lake import Lake, sql_text
from keywatch.text.secrets import KINDS, Redactor, suspect_pattern
from keywatch.vendors.client_address import Network, client_address
from keywatch.vendors.endpoints import EndpointTemplates, LearntTemplates
from keywatch.vendors.engine import Engine
from keywatch.vendors.lenient import understood
from keywatch.vendors.outcomes import status_of
from keywatch.vendors.rejected import told_of
from keywatch.vendors.source import PASSED_OVER, Source

_ID_LENGTH = 200
_MOST_REFUSED_ENDPOINTS = 200
"""Endpoints of a key in a chunk that were only ever refused; a scanner's others are one."""
OTHER_PATHS = "(other paths)"
"""In place of their path."""
_NO_ID = "#"
"""What `request_id` begins with where the log has none and it is a digest of the row."""
_DIGESTS = f"""
    -- grain: one row of lacking, in order; with ts and key_id the identity of a request
    SELECT '{_NO_ID}' || md5(concat_ws(chr(31), clean_address(address), method, endpoint, path,
        object, status, outcome, user_agent, response_bytes, duration_ms)) AS id
    FROM lacking
"""
# Too short on either side of the mask to hide a whole key.
_MASKED = f"""
    CASE WHEN strpos(text, '…') BETWEEN 2 AND 25 AND length(text) - strpos(text, '…') <= 12
        THEN text ELSE left(mask_key(text), {_ID_LENGTH}) END
"""
_MOST_CHARACTERS = {
    "path": 2000, "user_agent": 500, "key_id": _ID_LENGTH, "principal": 200, "request_id": 200,
    "address": 2**31 - 1, "endpoint": 200, "object": 300,
}  # fmt: skip
"""Of the texts that are redacted; an address is cut when it is read."""
_KEPT_APART = "principal"
"""Of the one column whose longer texts end with a keyed hash of the whole."""
_PAGE = 64
"""Texts that are searched for secrets at once: it takes longer to begin a search than to go on."""
_REPEATED = ("key_id", "key", "principal", "method", "path", "user_agent", "address", "endpoint",
             "object")  # fmt: skip


@dataclass(frozen=True)
class ParsedChunk:
    """Lines made into fields, with nothing secret in them.

    Attributes:
        source: The format they came in.
        rows: The columns of ``lake.events``, less source and load, and file_id, line, reason and
            text; a row a line, or a record of a document. They are in one chunk, sorted by day,
            principal, address and time, and repeated text is a dictionary of distinct values. A
            line that can't be read has a reason, what is kept of it (`keywatch.vendors.rejected`),
            its key if that can be told, and its time, or that of the readable line before it.
        address_lists: How many rows had a list of addresses, as proxies write it.
    """

    source: Source
    rows: pa.Table
    address_lists: int = 0


def _encoded(column: pa.ChunkedArray, nulls: str = "mask") -> pa.DictionaryArray:
    """Text as a dictionary of its distinct values, of which null is one if `nulls` is `encode`."""
    if not pa.types.is_dictionary(column.type):
        return column.cast(pa.string()).dictionary_encode(nulls).combine_chunks()
    encoded = column.unify_dictionaries().combine_chunks()
    if nulls == "mask" or not encoded.null_count:
        return encoded
    texts = pa.concat_arrays([encoded.dictionary, pa.nulls(1, pa.string())])
    indices = pc.fill_null(encoded.indices, len(texts) - 1)
    return pa.DictionaryArray.from_arrays(indices, texts)


def _of_rows(values: pa.Array, column: pa.DictionaryArray) -> npt.NDArray[np.bool_]:
    """What holds of the distinct values of `column` for its rows; of null nothing does."""
    held: npt.NDArray[np.bool_] = pc.fill_null(pc.take(values, column.indices), False).to_numpy(
        zero_copy_only=False
    )
    return held


def _mapped(column: pa.DictionaryArray, texts: pa.Array) -> pa.DictionaryArray:
    """`column` with `texts` in place of its distinct values; they may be equal among themselves."""
    distinct = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        distinct.indices.take(column.indices), distinct.dictionary
    )


def _unless_equal(column: pa.DictionaryArray, other: pa.DictionaryArray) -> pa.DictionaryArray:
    """`column`, null where it is equal to `other`."""
    texts = column.dictionary_decode()
    equal = pc.fill_null(pc.equal(texts, other.dictionary_decode()), False)
    return pc.if_else(equal, None, texts).dictionary_encode()


def principals(rows: pa.Table) -> pa.Array:
    """Whose each row is: its principal, else its key; a dictionary where the columns are some."""
    key_id = rows["key_id"].combine_chunks()
    principal = rows["principal"].combine_chunks()
    if principal.null_count == len(principal):
        return key_id
    both = (column.cast(pa.string()) for column in (principal, key_id))
    return pc.coalesce(*both).dictionary_encode()


def _sorted(rows: pa.Table) -> pa.Table:
    """`rows` by day, principal, address and time, in one chunk."""
    principal, address = (
        # By text, so that a reader of one key can skip parts of a large file.
        np.append(pc.rank(texts.dictionary).to_numpy().astype(np.int64), 0)[
            texts.indices.fill_null(-1).to_numpy()
        ]
        for texts in (principals(rows), rows["address"].combine_chunks())
    )
    ts, day = (
        rows[name].combine_chunks().cast(kind).fill_null(0).to_numpy()
        for name, kind in (("ts", pa.int64()), ("day", pa.int32()))
    )
    order = np.lexsort((ts, address + (address.max(initial=0) + 1) * principal, day))
    return rows.combine_chunks().take(pa.array(order)).combine_chunks()


def _with_bounded_endpoints(rows: pa.Table, known: EndpointTemplates) -> pa.Table:
    """`rows`, in which a key that asks for paths that there are not adds a bounded number of them.

    Of the endpoints that only ever refused it (4xx), less those that are `known`, the first ones
    stay; the others are one for each method. Their rows keep status and path.
    """
    endpoints = rows["endpoint"].combine_chunks()
    names = endpoints.dictionary.to_pylist()
    if len(names) <= _MOST_REFUSED_ENDPOINTS:
        return rows
    keys = principals(rows).indices.fill_null(-1).to_numpy().astype(np.int64) + 1
    codes = endpoints.indices.fill_null(len(names)).to_numpy().astype(np.int64)
    status = rows["status"].combine_chunks().cast(pa.int64()).fill_null(0).to_numpy()
    uses = keys * (len(names) + 1) + codes
    refused = (status // 100 == 4) & (codes < len(names))
    refused &= ~np.isin(uses, np.unique(uses[~refused]))
    scanned, first = np.unique(uses[refused], return_index=True)
    unknown = np.array([known.match(name) is None for name in names])
    scanned, first = (each[unknown[scanned % (len(names) + 1)]] for each in (scanned, first))
    scanner = scanned // (len(names) + 1)
    in_time = np.lexsort((first, scanner))
    nth = np.arange(len(scanned)) - np.searchsorted(scanner[in_time], scanner[in_time])
    others = np.isin(uses, scanned[in_time[nth >= _MOST_REFUSED_ENDPOINTS]]) & refused
    if not others.any():
        return rows
    bounded = [f"{name.partition(' ')[0]} {OTHER_PATHS}" for name in names]
    texts = pa.concat_arrays([endpoints.dictionary, pa.array(bounded, endpoints.dictionary.type)])
    indices = pa.array(codes + np.where(others, len(names), 0), mask=codes == len(names))
    column = _mapped(pa.DictionaryArray.from_arrays(indices, texts), texts)
    return rows.set_column(rows.schema.get_field_index("endpoint"), "endpoint", column)


_LINES_A_FILE = 2**40


def _places(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Of each row one number for its file and line: DuckDB keeps no order."""
    places: npt.NDArray[np.int64] = (
        rows["file_id"].to_numpy() * _LINES_A_FILE + rows["line"].to_numpy()
    )
    return places


class _Times:
    """When the lines that could be read were logged: what is known of those between them."""

    def __init__(self, rows: pa.Table) -> None:
        places = _places(rows)
        self._order = np.argsort(places)
        self._places = places[self._order]
        self._ts = rows["ts"]

    def before(self, file_id: int, line: int) -> datetime | None:
        """The time of the line before this one in the file, else of the one after; None of none."""
        at = int(np.searchsorted(self._places, file_id * _LINES_A_FILE + line))
        for near in (at - 1, at):
            if 0 <= near < len(self._places) and self._places[near] // _LINES_A_FILE == file_id:
                time: datetime = self._ts[int(self._order[near])].as_py()
                return time
        return None


_LINES = pa.schema(
    {"nth": pa.int64(), "file_id": pa.int64(), "line": pa.int64(), "text": pa.string()}
)


class Parser:
    """Makes fields of lines; a context manager. One thread at a time may use it."""

    def __init__(
        self,
        redactor: Redactor,
        trusted_proxies: Sequence[Network] = (),
        time_zone: str | None = None,
        learnt: LearntTemplates | None = None,
    ) -> None:
        self._trusted = trusted_proxies
        self._learnt = learnt or LearntTemplates()
        self._engine = Engine.take(redactor, time_zone)
        self._scratch = self._engine.scratch
        self._redactor = redactor
        self._alike: Counter[tuple[int, datetime, str | None, str]] = Counter()
        self._templates_sql = sql_text("templates", __package__)
        self._redacted_sql = sql_text("redacted", __package__)
        self._suspect_pages_sql = sql_text("suspect_pages", __package__)

    def __enter__(self) -> Parser:
        """The parser itself."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Keep the database for the next parser, or close it: after an error it may be busy."""
        if error is None:
            self._engine.give_back()
        else:
            self._engine.close()

    def parse(
        self, source: Source, lines: pa.Table, unread: Sequence[Mapping[str, Any]] = ()
    ) -> ParsedChunk:
        """The fields of `lines` (file_id, line, text), which came in the format of `source`.

        `unread` (each with file_id, line, reason, text, size_bytes, key_id) are those that its
        reader gave up.

        Raises:
            VendorError: the source's query does not run.
        """
        self.see(source)
        numbered = lines.append_column("nth", pa.array(np.arange(len(lines))))
        lines = numbered.select(_LINES.names).cast(_LINES)
        rows = self._fields(source, lines)
        bad = rows["reason"].is_valid()
        rejects = list(unread)
        if pc.any(bad).as_py():
            read, more = self._second_pass(source, lines, rows.filter(bad))
            rows = rows.filter(pc.invert(bad))
            times = _Times(rows)
            rows = pa.concat_tables([rows, read])
            rejects += more
        elif rejects:
            times = _Times(rows)
        rows = self._numbered_alike(rows)
        rows = rows.append_column("text", pa.nulls(len(rows), pa.string()))
        if rejects:
            told = [self._told(source, reject, times) for reject in rejects]
            rows = pa.concat_tables([rows, pa.Table.from_pylist(told, rows.schema)])
        columns = {name: _encoded(rows[name]) for name in _REPEATED}
        is_list = pc.match_substring(columns["address"].dictionary, ",")
        lists = int(_of_rows(is_list, columns["address"]).sum())
        if not source.names_endpoints:
            columns |= self._endpoints(source, columns["method"], columns["path"])
        columns |= {
            "agent": self._worked_out("agent_of(text)", rows["user_agent"]),
            "address": self._addresses(rows["address"]),
        }
        rows = self._with_status(rows)
        rows = rows.drop_columns(["nth", *(columns.keys() - {"agent"})])
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        rows = _sorted(rows)
        if not source.names_endpoints:
            rows = _with_bounded_endpoints(rows, EndpointTemplates.of_vendor(source.vendor))
        return ParsedChunk(source, rows, lists)

    def see(self, source: Source) -> None:
        """See that the query of `source` runs, on no line at all.

        Raises:
            VendorError: it does not, or does more than read the lines.
        """
        try:
            self._scratch.check_select(source.query)
            with self._scratch.registered("raw", _LINES.empty_table()):
                self._scratch.planned(source.query)
        except (Lake.Error, UsageError) as e:
            raise VendorError(f"{source.file}: [sql]: {str(e).partition(chr(10))[0]}") from e

    def _fields(self, source: Source, lines: pa.Table) -> pa.Table:
        """One row a line that is not passed over, in order; what the query fails at is a reject.

        What DuckDB says of that may hold the line in full, and goes nowhere.
        """
        try:
            return self._queried(source, lines)
        except Lake.ResourceError:
            raise
        except Lake.Error:
            pass
        if len(lines) > 1:
            half = len(lines) // 2
            parts = (lines.slice(0, half), lines.slice(half))
            return pa.concat_tables([self._fields(source, part) for part in parts])
        failed = lines.select(["nth", "file_id", "line"]).to_pylist()[0] | {
            "reason": "can't be understood"
        }
        return pa.Table.from_pylist([failed], self._queried(source, lines.slice(0, 0)).schema)

    def _queried(self, source: Source, lines: pa.Table) -> pa.Table:
        with self._scratch.registered("raw", lines):
            rows = self._scratch.planned(source.query)
        if source.unless:
            rows = rows.filter(pc.fill_null(pc.not_equal(rows["reason"], PASSED_OVER), True))
        return self._redacted(rows)

    def _redacted(self, rows: pa.Table) -> pa.Table:
        """`rows` without secrets: each distinct text is looked at once, and repeated ones encoded.

        `exposed` is true where a full key stood in a row; one without an id gets its digest.
        """
        columns = {name: _encoded(rows[name]) for name in _REPEATED}
        # Blanks around an id make no other key.
        key_ids = pc.utf8_trim(columns["key_id"].dictionary, " \t\r\n")
        key_ids = pc.if_else(pc.equal(key_ids, ""), None, key_ids)
        columns["key_id"] = _mapped(columns["key_id"], key_ids)
        longest = pc.max(pc.utf8_length(columns[_KEPT_APART].dictionary)).as_py() or 0
        if longest > _MOST_CHARACTERS[_KEPT_APART]:
            # As long as they are whole: of the two only this one ends with a hash.
            columns["principal"] = _unless_equal(columns["principal"], columns["key_id"])
        ids = rows["request_id"].cast(pa.string()).combine_chunks()
        columns["request_id"] = pa.DictionaryArray.from_arrays(np.arange(len(ids)), ids)
        is_id = pc.equal(rows["key"], columns["key_id"].dictionary_decode())
        suspect = np.zeros(len(rows), np.bool_)
        # What another lake found in them, which masked it.
        exposed = pc.fill_null(rows["exposed"], False).to_numpy().copy()
        for name, found in self._found(columns):
            texts = columns[name].dictionary
            at = np.zeros((2, len(texts)), np.bool_)
            at[0, found["n"]], at[1, found["n"]] = True, found["exposed"]
            suspect |= _of_rows(pa.array(at[0]), columns[name])
            exposed |= _of_rows(pa.array(at[1]), columns[name])
            texts = pc.replace_with_mask(texts, at[0], found["text"].combine_chunks())
            columns[name] = _mapped(columns[name], texts)
        columns["key"] = self._masked(columns["key"], is_id, suspect)
        if columns["principal"].null_count < len(rows):
            columns["principal"] = _unless_equal(columns["principal"], columns["key_id"])
        columns["request_id"] = columns["request_id"].dictionary_decode()
        for name, column in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        rows = rows.set_column(rows.schema.get_field_index("exposed"), "exposed", [exposed])
        return self._identified(rows.append_column("day", rows["ts"].cast(pa.date32())))

    def _found(self, columns: Mapping[str, pa.DictionaryArray]) -> Iterator[tuple[str, pa.Table]]:
        """What has to be replaced in the distinct texts of each column (n, text, exposed)."""
        texts = [columns[name].dictionary for name in _MOST_CHARACTERS]
        sizes = [len(each) for each in texts]
        every = pa.concat_arrays(texts)
        most = np.repeat([*_MOST_CHARACTERS.values()], sizes)
        apart = np.repeat([name == _KEPT_APART for name in _MOST_CHARACTERS], sizes)
        patterns = {kind: suspect_pattern(kind) for kind in KINDS}
        where = np.flatnonzero(self._may_be_suspect(every, most, patterns))
        numbered = {
            "n": where,
            "text": every.take(pa.array(where)),
            "most": most[where],
            "apart": apart[where],
        }
        with self._scratch.registered("texts", pa.table(numbered)):
            found = self._scratch.planned(self._redacted_sql, **patterns)
        numbers, first = found["n"].to_numpy(), 0
        for name, size in zip(_MOST_CHARACTERS, sizes, strict=True):
            begin, end = np.searchsorted(numbers, (first, first + size))
            if begin < end:
                of_column = found.slice(begin, end - begin)
                yield name, of_column.set_column(0, "n", pa.array(numbers[begin:end] - first))
            first += size

    def _may_be_suspect(
        self, texts: pa.Array, most: npt.NDArray[np.int64], patterns: Mapping[str, str]
    ) -> npt.NDArray[np.bool_]:
        """Of which texts each has to be looked at: most lines of a page of them show nothing."""
        firsts = np.append(np.arange(0, len(texts), _PAGE), len(texts)).astype(np.int32)
        pages = pa.ListArray.from_arrays(pa.array(firsts), texts.fill_null(""))
        numbered = pa.table({"n": np.arange(len(pages)), "text": pc.binary_join(pages, "\n")})
        with self._scratch.registered("pages", numbered):
            found = self._scratch.planned(self._suspect_pages_sql, **patterns)["n"].to_numpy()
        suspect = np.zeros(len(pages), np.bool_)
        suspect[found] = True
        too_long = pc.greater(pc.binary_length(texts), pa.array(most)).fill_null(False)
        held: npt.NDArray[np.bool_] = np.repeat(suspect, np.diff(firsts)) | too_long.to_numpy(
            zero_copy_only=False
        )
        return held

    def _masked(
        self, keys: pa.DictionaryArray, is_id: pa.ChunkedArray, suspect: npt.NDArray[np.bool_]
    ) -> pa.DictionaryArray:
        """The masked forms of `keys`; one that is the id, and in no way suspect, is no secret."""
        masked = self._worked_out(_MASKED, pa.chunked_array([keys]))
        no_secret = pc.fill_null(is_id, False).to_numpy() & ~suspect
        if not no_secret.any():
            return masked
        shown = pc.if_else(no_secret, keys.dictionary_decode(), masked.dictionary_decode())
        return shown.dictionary_encode()

    def _identified(self, rows: pa.Table) -> pa.Table:
        """`rows`, of which those without an id have the digest of all that is in them."""
        ids = rows["request_id"].combine_chunks()
        lacking = pc.fill_null(pc.equal(ids, ""), True)
        if not pc.any(lacking).as_py():
            return rows
        with self._scratch.registered("lacking", rows.filter(lacking)):
            digests = self._scratch.table(_DIGESTS)["id"].cast(pa.string()).combine_chunks()
        at = rows.schema.get_field_index("request_id")
        return rows.set_column(at, "request_id", pc.replace_with_mask(ids, lacking, digests))

    def _second_pass(
        self, source: Source, lines: pa.Table, bad: pa.Table
    ) -> tuple[pa.Table, list[dict[str, Any]]]:
        """The fields of what can be understood of the lines of the rows `bad`, and what is left."""
        raw = lines.take(bad["nth"])
        texts = [understood(text) for text in raw["text"].to_pylist()]
        at = raw.schema.get_field_index("text")
        rows = self._fields(source, raw.set_column(at, "text", pa.array(texts, pa.string())))
        still_bad = rows["reason"].is_valid()
        rejects = (
            rows.filter(still_bad).select(["nth", "file_id", "line", "ts", "key_id"]).to_pylist()
        )
        reason_at = dict(zip(bad["nth"].to_pylist(), bad["reason"].to_pylist(), strict=True))
        for reject in rejects:
            nth = reject["nth"]
            reject |= {"text": lines["text"][nth].as_py(), "reason": reason_at[nth]}
        return rows.filter(pc.invert(still_bad)), rejects

    def _told(self, source: Source, reject: Mapping[str, Any], times: _Times) -> dict[str, Any]:
        """What is kept of a line that can't be read: with its key, if its text names one."""
        text = reject["text"] or ""
        key_id = reject["key_id"]
        if key_id is None and len(found := set(source.key_id.findall(text))) == 1:
            key_id = found.pop()
        return {
            "file_id": reject["file_id"],
            "line": reject["line"],
            "reason": reject["reason"],
            "ts": reject.get("ts") or times.before(reject["file_id"], reject["line"]),
            "key_id": key_id and source.shown_id(key_id, self._redactor)[:_ID_LENGTH],
            "text": told_of(
                text,
                reject.get("size_bytes") or len(text.encode()),
                reject["reason"],
                source,
                self._redactor,
            ),
        }

    def _numbered_alike(self, rows: pa.Table) -> pa.Table:
        """`rows` in which those without an id that are alike are told apart by their number.

        They are as many requests. In another file that has them too they get the same numbers.
        """
        alike = pc.fill_null(pc.starts_with(rows["request_id"], _NO_ID), False).to_numpy()
        if not alike.any():
            return rows
        where = np.flatnonzero(alike)
        where = where[np.argsort(rows["nth"].to_numpy()[where])]
        ids = rows["request_id"].to_pylist()
        of_row = (rows[name].take(where).to_pylist() for name in ("file_id", "ts", "key_id"))
        newest: dict[int, datetime] = {}
        for at, file_id, ts, key_id in zip(where.tolist(), *of_row, strict=True):
            newest[file_id] = max(ts, newest.get(file_id, ts))
            request = (file_id, ts, key_id, ids[at])
            self._alike[request] += 1
            if (number := self._alike[request]) > 1:
                ids[at] = f"{ids[at]}.{number}"
        # Of a file in the order of time the next chunk can only go on with these.
        last = [one for one in self._alike if one[1] == newest.get(one[0])]
        self._alike = Counter({one: self._alike[one] for one in last})
        at = rows.schema.get_field_index("request_id")
        return rows.set_column(at, "request_id", pa.chunked_array([pa.array(ids, pa.string())]))

    def _with_status(self, rows: pa.Table) -> pa.Table:
        """`rows` with the status that their outcome stands for, where they have none."""
        outcomes = _encoded(rows["outcome"])
        statuses = pa.array([status_of(one) for one in outcomes.dictionary.to_pylist()], pa.int16())
        told = pa.chunked_array([statuses.take(outcomes.indices)])
        status = pc.coalesce(rows["status"], told)
        at = rows.schema.get_field_index("status")
        return rows.set_column(at, "status", status).drop_columns(["outcome"])

    def _addresses(self, column: pa.ChunkedArray) -> pa.DictionaryArray:
        """The client's address of each row, '' where the log has none."""
        encoded = _encoded(column, nulls="encode")
        texts = encoded.dictionary.to_pylist()
        clients = ["" if text is None else client_address(text, self._trusted) for text in texts]
        return _mapped(encoded, pa.array(clients, pa.string()))

    def _worked_out(self, expression: str, column: pa.ChunkedArray) -> pa.DictionaryArray:
        """An SQL expression of `text`, of each distinct text of `column` and of null once."""
        encoded = _encoded(column, nulls="encode")
        with self._scratch.registered("column_texts", pa.table({"text": encoded.dictionary})):
            texts = self._scratch.planned(f"SELECT {expression} AS worked_out FROM column_texts")
        return _mapped(encoded, texts["worked_out"].cast(pa.string()).combine_chunks())

    def _endpoints(
        self, source: Source, methods: pa.DictionaryArray, paths: pa.DictionaryArray
    ) -> dict[str, pa.DictionaryArray]:
        """The endpoint and object of each call, worked out once for equal calls."""
        width = max(1, len(paths.dictionary))
        calls = pc.add(pc.multiply(methods.indices.cast(pa.int64()), width), paths.indices)
        calls = calls.dictionary_encode()
        distinct = calls.dictionary.to_numpy()
        numbered = pa.table(
            {
                "n": np.arange(len(distinct)),
                "method": methods.dictionary.take(distinct // width),
                "path": paths.dictionary.take(distinct % width),
            }
        )
        with self._scratch.registered("calls", numbered):
            templates = self._scratch.planned(self._templates_sql)
        return {
            name: _mapped(calls, texts)
            for name, texts in self._by_catalogue(source.vendor, templates).items()
        }

    def _by_catalogue(self, vendor: str, templates: pa.Table) -> dict[str, pa.Array]:
        """Columns endpoint and object: by the vendor's catalogue, else as learnt."""
        known = EndpointTemplates.of_vendor(vendor)
        endpoints = templates["endpoint"].to_pylist()
        objects = templates["object"].to_pylist()
        matches = {
            endpoint: known.match(endpoint) or self._learnt.match(endpoint)
            for endpoint in set(endpoints)
        }
        for i, endpoint in enumerate(endpoints):
            match = matches[endpoint]
            if match is not None and match.endpoint != endpoint:
                endpoints[i] = match.endpoint
                objects[i] = "/".join(filter(None, (objects[i], match.object)))
        return {
            "endpoint": pa.array(endpoints, pa.string()),
            "object": pa.array(objects, pa.string()),
        }
