"""A log format, as ``vendors/NAME/sources/SOURCE.toml`` tells it: which of its fields is what.

The mapping becomes one query, which makes the same columns of every format, or a reason why it
can't. An expression in ``[sql]`` makes a column that no field has as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from keywatch.content import Entry
from keywatch.errors import UsageError, VendorError
from keywatch.hints import did_you_mean
from keywatch.settings.time_zone import is_time_zone
from keywatch.text.key_forms import read_toml
from keywatch.text.secrets import Redactor
from keywatch.vendors.arrow_files import arrow_lines, is_arrow
from keywatch.vendors.documents import json_lines, record_lines
from keywatch.vendors.files import Lines, LogFile, without_mark
from keywatch.vendors.shapes import default_shape, shape_for
from keywatch.vendors.table import header_of, table_lines
from keywatch.vendors.text_lines import LINE_FORMS, line_form_of, text_lines

__all__ = [
    "COLUMNS",
    "FORMS",
    "PASSED_OVER",
    "SOURCE_NAME",
    "FieldPath",
    "Source",
    "columns_said",
    "read_path",
    "read_source",
    "shown_path",
    "value_at",
]

FORMS = {
    "json": "JSON", "csv": "CSV", "access_log": "access log", "logfmt": "key=value",
}  # fmt: skip
COLUMNS = (
    "time", "key_id", "key", "principal", "address", "method", "path", "endpoint", "object",
    "status", "outcome", "user_agent", "response_bytes", "duration_ms", "request_id", "exposed",
    "logged_as",
)  # fmt: skip
_CONVERTED = {
    "key_id": "nullif({}, '')",
    "key": "nullif({}, '')",
    "principal": "nullif({}, '')",
    # Whoever holds a key may send any method; OpenTelemetry has the same word for the rest.
    "method": "CASE WHEN regexp_full_match({0}, '[A-Za-z-]{{1,20}}') THEN upper({0}) "
    "ELSE '_OTHER' END",
    # 0, 000 and - stand for a client that went away: a request without an answer.
    "status": "CASE WHEN try_cast({0} AS SMALLINT) BETWEEN 100 AND 599 "
    "THEN try_cast({0} AS SMALLINT) END",
    "response_bytes": "try_cast({} AS BIGINT)",
    "duration_ms": "try_cast({} AS DOUBLE)",
    "exposed": "try_cast({} AS BOOLEAN)",
}
_TAKEN = frozenset({"nth", "file_id", "line", "text", "record", "ts"})
_TYPES = {
    "status": "SMALLINT", "response_bytes": "BIGINT", "duration_ms": "DOUBLE", "exposed": "BOOLEAN",
}  # fmt: skip
_SOURCE_FIELDS = frozenset(
    {
        "title",
        "forms",
        "marks",
        "required",
        "unless",
        "time_zone",
        "key_id_is_secret",
        "fields",
        "sql",
    }
)
SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""The name of a source, of a vendor that is made of one, and of a field."""
_STEP = re.compile(
    r"""(?:"([^"'\\]{1,100})"|([^.\[\]"'\\\s]{1,100}))"""
    r"""((?:\[(?:\d{1,3}|\w{1,40}=[\w:. -]{1,100})\])*)(?:\.|$)"""
)
_INDEX = re.compile(r"\[(?:(\d+)|(\w+)=([^\]]+))\]")
_LONGEST_ID = 200
PASSED_OVER = "-"
"""The reason of a record that is no request of its own (`Source.unless`)."""
_SCHEME = r"^(?i:bearer|basic|token|apikey)\s+"
_LEAST_SECRET_LENGTH = 16
# Whatever its form: a key of a vendor that nothing is known of must not be stored whole.
_MASKED_ID = (
    f"CASE WHEN strlen({{0}}) < {_LEAST_SECRET_LENGTH} THEN nullif({{0}}, '') "
    f"ELSE mask_key(regexp_replace({{0}}, '{_SCHEME}', '')) END"
)

Chosen = tuple[str, str]
"""The first element of a list whose field of this name has this value."""
Step = str | int | Chosen
FieldPath = tuple[Step, ...]


@dataclass(frozen=True)
class Source:
    """A log format.

    Attributes:
        name: What ``--source`` takes and what events keep.
        vendor: Whose log it is.
        title: Its name for people.
        forms: How it comes: of `FORMS`.
        marks: Field names, all of which a line or a header has to have to be known as this format;
            of alternatives, ``created_at|@timestamp``, one.
        required: Names of `fields` without which a record is no event.
        fields: By column (of `COLUMNS`) or a name of its own for `sql`: where the value stands,
            the first of several that is there.
        sql: By column: an expression over the names of `fields`, which are texts.
        file: Where all this was read.
        time_zone: IANA zone of times without an offset; where it is empty, ``ingest.time_zone``.
        unless: A condition over the names of `fields`; a record that meets it is no request of its
            own and is passed over.
        key_id_is_secret: Whether the log names keys by the full key, whose masked form is the id.
    """

    name: str
    vendor: str
    title: str
    forms: tuple[str, ...]
    marks: tuple[str, ...]
    required: tuple[str, ...]
    fields: Mapping[str, tuple[FieldPath, ...]] = field(hash=False)
    sql: Mapping[str, str] = field(hash=False)
    file: Path
    time_zone: str = ""
    unless: str = ""
    key_id_is_secret: bool = False

    @property
    def names_endpoints(self) -> bool:
        """Whether a record names its endpoint; else it's made of method and path."""
        return "endpoint" in self.fields or "endpoint" in self.sql

    @cached_property
    def key_id(self) -> re.Pattern[str]:
        """Finds the key's id (group 1) in the text of a line that can't be read."""
        names = "|".join(re.escape(name) for name in self.names_of("key_id"))
        return re.compile(rf'"(?:{names})"\s*:\s*"([^"\\]{{1,{_LONGEST_ID}}})"')

    def names_of(self, column: str) -> list[str]:
        """The names of the fields that a column is read from, without what they stand in."""
        return [
            [step for step in path if isinstance(step, str)][-1]
            for path in self.fields.get(column, ())
        ]

    @cached_property
    def _marks(self) -> tuple[tuple[str, ...], ...]:
        """The marks with their alternatives."""
        return tuple(tuple(mark.split("|")) for mark in self.marks)

    def shown_id(self, key_id: str, redactor: Redactor) -> str:
        """The id of a key as events have it: redacted, masked where it is the full key."""
        if self.key_id_is_secret and len(key_id) >= _LEAST_SECRET_LENGTH:
            return redactor.mask_key(self.without_scheme(key_id))
        return redactor.redact(key_id)

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether a record bears the format's marks; without any, whether what is required."""
        if self.marks:
            return all(any(name in record for name in names) for names in self._marks)
        return all(self.has(name, [record]) for name in self.required)

    def told_as(self, column: str) -> str:
        """The field that a column is read from, as reasons name it."""
        return shown_path(self.fields[column][0])

    @staticmethod
    def without_scheme(key: str) -> str:
        """A key out of a header's value, such as ``Bearer …``."""
        return re.sub(_SCHEME, "", key)

    def has(self, column: str, records: Iterable[Mapping[str, Any]]) -> bool:
        """Whether one of `records` has a field that the column is read from."""
        paths = self.fields[column]
        return any(value_at(one, path) is not None for one in records for path in paths)

    def recognises(self, line: str, first: bool) -> bool:
        """Whether a line (and whether it is the file's first) bears the format's marks."""
        if "csv" not in self.forms or line.lstrip().startswith("{"):
            return all(any(f'"{name}"' in line for name in names) for names in self._marks)
        if not first:
            return False
        header = {*header_of(line)[1]}
        return all(any(name.lower() in header for name in names) for names in self._marks)

    def lines(self, file: LogFile, on_bytes: Callable[[int], None]) -> Iterator[Lines]:
        """The file's records as JSON text with their numbers.

        `on_bytes` hears of stored bytes as they are read.

        Raises:
            InputError: the file can't be read, or is no log of this format.
        """
        start = file.head()
        if is_arrow(start):
            return arrow_lines(file, self._top_names, on_bytes)
        head = without_mark(start, file.path).decode(errors="replace").lstrip()
        may_be_text = not LINE_FORMS.keys().isdisjoint(self.forms)
        if may_be_text and (form := line_form_of(head)) in self.forms:
            return text_lines(file, form, on_bytes)
        first = head.partition("\n")[0]
        is_table = ".csv" in file.path.lower() or self.recognises(first, True)
        if "csv" in self.forms and not first.startswith(("{", "[")) and is_table:
            return table_lines(file, self.spelled, self._columns, self.names_of("key_id"), on_bytes)
        shape = shape_for(head, self.fits)
        if shape is None and self.forms[0] in LINE_FORMS:
            return text_lines(file, self.forms[0], on_bytes)
        shape = shape or default_shape(head)
        if shape.is_lines:
            return json_lines(file, shape, on_bytes)
        return record_lines(file, shape.wrapper, on_bytes)

    @property
    def _top_names(self) -> frozenset[str]:
        """The names at the top of a record that the fields are read from."""
        return frozenset(str(path[0]) for paths in self.fields.values() for path in paths)

    @cached_property
    def spelled(self) -> Mapping[str, str]:
        """These names by themselves in lower case, for a table's header may have any."""
        return {name.lower(): name for name in self._top_names}

    @property
    def _columns(self) -> list[list[str]]:
        """What a table's header has to have, in the order of the fields: one of the names each."""
        needed = {*self.required, "key_id"}
        return [self.names_of(name) for name in self.fields if name in needed]

    @cached_property
    def query(self) -> str:
        """Makes of ``raw`` (nth, file_id, line, text) the fields that `Parser` redacts.

        No filter: DuckDB would put it below the reading of the JSON, and read that twice. A year
        out of range is no time at all: Python has none before 1 and after 9999.
        """
        named = ",\n".join(
            f'        {_first_of(paths)} AS "{name}"' for name, paths in self.fields.items()
        )
        columns = ",\n".join(f'    {self._column(name)} AS "{name}"' for name in COLUMNS[1:])
        return f"""-- grain: one record of {self.name}; reads raw (nth, file_id, line, text)
WITH logged AS (
    SELECT nth, file_id, line, TRY(json_transform(text, {_literal(self._structure())})) AS record
    FROM raw
),

named AS (
    SELECT nth, file_id, line, record IS NULL AS "no record",
{named}
    FROM logged
),

timed AS (SELECT *, utc("time", zone := {self._zone}) AS ts FROM named)

SELECT
    nth, file_id, line,
    {self._reason()} AS reason,
    CASE WHEN year(ts) BETWEEN 2000 AND 2099 THEN ts END AS ts,
{columns}
FROM timed
"""

    @property
    def _zone(self) -> str:
        return _literal(self.time_zone) if self.time_zone else "getvariable('time_zone')"

    def _structure(self) -> str:
        """The shape that DuckDB's json_transform takes: each field as text."""
        top: dict[str, Any] = {}
        for path in (path for paths in self.fields.values() for path in paths):
            for n, step in enumerate(path):
                if isinstance(step, tuple):
                    _put(top, (*path[:n], 0, step[0]))
            _put(top, path)
        return json.dumps(top, ensure_ascii=False)

    def _column(self, name: str) -> str:
        """The expression of a column, in its type."""
        if name in ("key_id", "key") and self.key_id_is_secret:
            return _MASKED_ID.format(f'"{name}"')
        if name in self.sql:
            return f"({self.sql[name]})::{_TYPES.get(name, 'VARCHAR')}"
        if name in self.fields:
            return _CONVERTED.get(name, "{}").format(f'"{name}"')
        return f"NULL::{_TYPES.get(name, 'VARCHAR')}"

    def _reason(self) -> str:
        """Why a record is no event; most are, and stop at the first condition."""
        when = self.told_as("time")
        needed = [name for name in self.required if name != "time"]
        all_there = "".join(f" AND \"{name}\" <> ''" for name in needed)
        lacking = "\n".join(
            f"        WHEN coalesce(\"{name}\", '') = '' "
            f"THEN {_literal(f'{self.told_as(name)} is missing')}"
            for name in needed
        )
        no_offset = f"{when} has no offset; set [ingest] time_zone"
        no_time = f"{when} is no time; 2026-09-30T00:00:04Z is one"
        passed_over = f"WHEN ({self.unless}) THEN '{PASSED_OVER}'\n        " if self.unless else ""
        return f"""CASE
        {passed_over}WHEN year(ts) BETWEEN 2000 AND 2099{all_there} THEN NULL
        WHEN "no record" THEN 'not valid JSON'
        WHEN "time" IS NULL THEN {_literal(f"{when} is missing")}
        WHEN ts IS NULL AND utc("time", zone := 'UTC') IS NOT NULL THEN {_literal(no_offset)}
        WHEN ts IS NULL THEN {_literal(no_time)}
        WHEN year(ts) NOT BETWEEN 2000 AND 2099
            THEN {_literal(f"{when} is not between 2000 and 2099")}
{lacking}
    END"""


def columns_said(said: Sequence[str], columns: Collection[str], example: str) -> dict[str, str]:
    """The fields that the user names for `columns` (``--map``), each as ``column=field``.

    Raises:
        UsageError: a column is not known or named twice.
    """
    fields: dict[str, str] = {}
    for one in said:
        column, _, name = one.partition("=")
        if column not in columns or not name:
            raise UsageError(
                f"--map {one}: COLUMN=FIELD is expected, such as {example}; columns are "
                f"{', '.join(columns)}"
            )
        if column in fields:
            raise UsageError(f"--map {one}: {column} is listed twice; list it once")
        fields[column] = name
    return fields


def value_at(record: object, path: FieldPath) -> object:
    """What stands in a record where `path` leads to; None where nothing does."""
    value = record
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, Mapping) else None
        elif isinstance(step, tuple):
            inside = value if isinstance(value, list) else []
            value = next((one for one in inside if value_at(one, step[:1]) == step[1]), None)
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _put(table: dict[str, Any], path: FieldPath) -> None:
    """Add `path` to a structure of json_transform."""
    name, *rest = path
    depth = next((n for n, step in enumerate(rest) if isinstance(step, str)), len(rest))
    inner = rest[depth:]
    if inner:
        value = table.get(str(name))
        for _ in range(depth):
            value = value[0] if isinstance(value, list) else value
        value = value if isinstance(value, dict) else {}
        _put(value, tuple(inner))
    else:
        value = "VARCHAR"
    for _ in range(depth):
        value = [value]
    table[str(name)] = value


def _first_of(paths: tuple[FieldPath, ...]) -> str:
    found = [_value_at(path) for path in paths]
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _value_at(path: FieldPath) -> str:
    value = "record"
    for step in path:
        if isinstance(step, str):
            value += f'."{step}"'
        elif isinstance(step, int):
            value += f"[{step + 1}]"
        else:
            name, wanted = step
            value = f'list_filter({value}, lambda one: one."{name}" = {_literal(wanted)})[1]'
    return value


def read_source(file: Path, vendor: str) -> Source:
    """The source that `file` tells, which is named after it.

    Raises:
        VendorError: the file can't be read, or a field of it is wrong.
    """
    if not SOURCE_NAME.fullmatch(file.stem):
        raise VendorError(f"{file}: a source's name has only lower-case letters, digits and _")
    top = Entry(file, "the top", read_toml(file), _SOURCE_FIELDS, VendorError)
    title, marks = top.text("title"), top.texts("marks")
    forms = top.texts("forms")
    for form in forms:
        if form not in FORMS:
            raise top.error(
                f"`forms` has {form!r}; available: {', '.join(FORMS)}{did_you_mean(form, FORMS)}"
            )
    fields = _read_fields(top.inner("fields"))
    sql = top.inner("sql", frozenset(COLUMNS[1:]))
    expressions = {name: sql.text(name) for name in sql.table}
    _see_what_is_needed(top, fields, expressions)
    required = top.texts("required")
    for name in required:
        if name not in fields:
            raise top.error(f"`required` has {name!r}, which [fields] does not; add it there")
    return Source(
        file.stem, vendor, title, forms, marks, required, fields, expressions, file,
        _read_zone(top), top.text("unless", ""), top.flag("key_id_is_secret"),
    )  # fmt: skip


def _read_zone(top: Entry) -> str:
    name = top.text("time_zone", "")
    if not is_time_zone(name or "UTC"):
        raise top.error(f"`time_zone` is {name!r}; a zone such as Europe/Berlin is expected")
    return name


def _read_fields(entry: Entry) -> dict[str, tuple[FieldPath, ...]]:
    fields = {}
    for name, value in entry.table.items():
        if not SOURCE_NAME.fullmatch(name):
            raise entry.error(f"{name!r} is not a valid name; use lower-case letters, digits and _")
        if name in _TAKEN:
            raise entry.error(f"{name!r} is taken by the query itself; choose another name")
        texts = (entry.text(name),) if isinstance(value, str) else entry.texts(name)
        fields[name] = tuple(_read_path(entry, name, text) for text in texts)
    every = [path for paths in fields.values() for path in paths]
    for path in every:
        for before in (path[:n] for n in range(1, len(path))):
            if before in every:
                raise entry.error(
                    f"{shown_path(before)} is read whole and as {shown_path(path)}; "
                    "name one of them only"
                )
    return fields


def shown_path(path: FieldPath) -> str:
    """``items.0.name``: a path as errors show it."""
    return ".".join("=".join(step) if isinstance(step, tuple) else str(step) for step in path)


def _read_path(entry: Entry, name: str, text: str) -> FieldPath:
    path = read_path(text)
    if path is None:
        raise entry.error(
            f"`{name}` is {text!r}; a path such as actor.id, items[0].name or "
            "items[key=agent].value is expected"
        )
    return path


def read_path(text: str) -> FieldPath | None:
    """``resources[0].ARN`` → ("resources", 0, "ARN"); a name with dots stands in quotes.

    ``details[key=User-Agent].value`` → ("details", ("key", "User-Agent"), "value"). None where it
    is no path.
    """
    steps: list[Step] = []
    at = 0
    while at < len(text) and (match := _STEP.match(text, at)):
        steps.append(match[1] or match[2])
        indices = _INDEX.finditer(match[3])
        steps += [int(each[1]) if each[1] else (each[2], each[3]) for each in indices]
        at = match.end()
    return None if at < len(text) or not steps or text.endswith(".") else tuple(steps)


def _see_what_is_needed(
    top: Entry, fields: Mapping[str, tuple[FieldPath, ...]], sql: Mapping[str, str]
) -> None:
    for name in ("time", "key_id", "address"):
        if name not in fields:
            raise top.error(f"[fields] lacks {name}; add it")
    if "endpoint" in fields.keys() | sql.keys():
        return
    if missing := [name for name in ("method", "path") if name not in fields.keys() | sql.keys()]:
        raise top.error(
            f"[fields] lacks {' and '.join(missing)}; add it, or an endpoint that the log names"
        )
