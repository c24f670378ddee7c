"""Which field of a log is which column: as the user says, or as names and values suggest.

What columns are called elsewhere is data: ``data/columns.toml``.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any

from keywatch.content import content_path
from keywatch.errors import InputError, UsageError
from keywatch.notices import notice
from keywatch.vendors.beginning import Beginning, beginning_of
from keywatch.vendors.client_address import client_address, is_address
from keywatch.vendors.files import LogFile
from keywatch.vendors.registry import GENERIC, MAPPED
from keywatch.vendors.source import (
    COLUMNS,
    FORMS,
    FieldPath,
    Source,
    columns_said,
    read_path,
    shown_path,
)

__all__ = [
    "best_records",
    "call_of",
    "field_alike",
    "fields_alike",
    "lacking",
    "map_options",
    "mapped_source",
    "seen_by",
    "source_of_fields",
    "told_fields",
]

_NAMED = tuple(column for column in COLUMNS if column not in ("exposed", "logged_as"))
"""The columns that ``--map`` takes; the others are another lake's."""
_DEEPEST, _MOST_FIELDS, _MOST_TOLD = 4, 300, 20
_NOT_NAMING = re.compile(r"[^a-z0-9]")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*|\d{9,19}(\.\d+)?|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d .*"
)
_METHOD = re.compile(r"(?i:get|post|put|patch|delete|head|options)")
_PATH = re.compile(r"/.*|https?://.+", re.DOTALL)
_NUMBER = re.compile(r"\d{1,18}(\.\d+)?")
_NAME = re.compile(r"[^\s]{1,200}")

_FORMS_OF: Mapping[str, Callable[[str], object]] = {
    "time": _TIME.fullmatch,
    "address": lambda text: is_address(client_address(text)),
    "method": _METHOD.fullmatch,
    "path": _PATH.fullmatch,
    "status": re.compile(r"[1-5]\d\d(\.0)?").fullmatch,
    "response_bytes": _NUMBER.fullmatch,
    "duration_ms": _NUMBER.fullmatch,
    "key_id": re.compile(r"\S.{0,199}").fullmatch,
    "key": re.compile(r"(?:(?i:bearer|basic|token|apikey) )?\S{4,}").fullmatch,
    "endpoint": _NAME.fullmatch,
    "object": _NAME.fullmatch,
    "request_id": _NAME.fullmatch,
}
"""What a value of a column looks like; of another any text may be one."""
_BY_VALUE = ("time", "address", "path", "method")
"""Columns that a value alone can tell."""


@cache
def _names() -> Mapping[str, tuple[str, ...]]:
    table = tomllib.loads(content_path("data/columns.toml").read_text(encoding="utf-8"))
    return {column: tuple(names) for column, names in table.items()}


def _plain(name: str) -> str:
    return _NOT_NAMING.sub("", name.lower())


def _rank(column: str, path: FieldPath) -> int | None:
    """How likely a field of this name is the column, 0 the likeliest; None where it is not."""
    names = [step for step in path if isinstance(step, str)]
    known = [_plain(name) for name in _names().get(column, ())]
    found = [
        known.index(name)
        for name in (_plain("".join(names)), _plain(names[-1]))
        if name in known
    ]  # fmt: skip
    return min(found, default=None)


def _values(record: Mapping[str, Any]) -> Iterator[tuple[FieldPath, str]]:
    """The fields of a record that hold a text or a number, with their values as texts."""
    waiting: list[tuple[FieldPath, Any]] = [((name,), value) for name, value in record.items()]
    for _ in range(_MOST_FIELDS):
        if not waiting:
            return
        path, value = waiting.pop(0)
        if isinstance(value, Mapping) and len(path) < _DEEPEST:
            waiting += [((*path, name), inner) for name, inner in value.items()]
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield path, str(value)


def fields_alike(records: Iterable[Mapping[str, Any]]) -> dict[str, FieldPath]:
    """The fields that look like columns, by name and value; by value alone where no name does.

    Where the full key is all that tells whose a request is, `key` is there and `key_id` is not.
    """
    values: dict[FieldPath, str] = {}
    for record in records:
        for path, value in _values(record):
            if value.strip() not in ("", "-"):
                values.setdefault(path, value.strip())
    found: dict[str, FieldPath] = {}
    for column in _names():
        if named := _named_like(column, values, {*found.values()}):
            found[column] = named
    for column in _BY_VALUE:
        looks = _FORMS_OF[column]
        alike = [
            path for path, value in values.items() if path not in found.values() and looks(value)
        ]
        if alike and column not in found:
            found[column] = alike[0]
    if "path" in found:
        found.pop("endpoint", None)
    return {column: found[column] for column in COLUMNS if column in found}


def field_alike(record: Mapping[str, Any], column: str) -> str:
    """The field of a record that is named like a column and holds one; empty where none is."""
    path = _named_like(column, dict(_values(record)), frozenset())
    return shown_path(path) if path else ""


def _named_like(
    column: str, values: Mapping[FieldPath, str], taken: Set[FieldPath]
) -> FieldPath | None:
    looks = _FORMS_OF.get(column, bool)
    ranked = [
        (rank, len(path), path)
        for path, value in values.items()
        if path not in taken and (rank := _rank(column, path)) is not None and looks(value)
    ]
    return min(ranked, key=lambda one: one[:2])[2] if ranked else None


def best_records(begins: Beginning) -> list[Mapping[str, Any]]:
    """Those of the first records that look most like requests, not what stands around them."""
    best = max(begins.records, key=lambda one: len(fields_alike([one])), default=None)
    if best is None:
        return []
    return [one for one in begins.records if one.keys() & best.keys() >= {*list(best)[:1]}]


def lacking(columns: Iterable[str]) -> list[str]:
    """What `columns` lack to be events."""
    there = {*columns}
    groups = [("time",), ("address",), ("path", "endpoint"), ("key_id", "key")]
    return [" or ".join(group) for group in groups if not there & {*group}]


def map_options(found: Mapping[str, FieldPath]) -> str:
    """``--map time=ts --map …``, ready for a shell."""
    return " ".join(
        f"--map {shlex.quote(f'{column}={shown_path(path)}')}" for column, path in found.items()
    )


def told_fields(records: Iterable[Mapping[str, Any]]) -> str:
    """The names of the first fields of `records`, for an error."""
    paths = dict.fromkeys(shown_path(path) for one in records for path, _ in _values(one))
    shown = list(paths)[:_MOST_TOLD]
    return ", ".join(shown) + (", …" if len(paths) > len(shown) else "")


def call_of(columns: Iterable[str]) -> str:
    """Which column says what was called."""
    return "endpoint" if "endpoint" in {*columns} else "path"


def source_of_fields(
    fields: Mapping[str, tuple[FieldPath, ...]],
    *,
    name: str,
    vendor: str,
    title: str,
    forms: tuple[str, ...],
    marks: tuple[str, ...],
    file: Path,
    time_zone: str = "",
    key_id_is_secret: bool,
) -> Source:
    """A source of these `fields` alone; paths without their methods are of any."""
    without_method = "path" in fields and not fields.keys() & {"method", "endpoint"}
    return Source(
        name=name, vendor=vendor, title=title, forms=forms, marks=marks,
        required=("time", "address", call_of(fields)), fields=fields,
        sql={"method": "'ANY'"} if without_method else {}, file=file, time_zone=time_zone,
        key_id_is_secret=key_id_is_secret,
    )  # fmt: skip


def mapped_source(said: Sequence[str]) -> Source:
    """The source of a log whose columns the user names, each as ``column=field``.

    A field's name is taken as it is, or as the path to it (``actor.id``, ``items[0].name``).

    Raises:
        UsageError: a column is not known, named twice or lacking.
    """
    fields: dict[str, tuple[FieldPath, ...]] = {}
    for column, name in columns_said(said, _NAMED, "time=@timestamp").items():
        # A name may have dots itself, and a table's header has names only.
        path = read_path(name)
        fields[column] = ((name,),) if path in (None, (name,)) else ((name,), path)
    if missing := lacking(fields):
        raise UsageError(
            f"--map lacks {' and '.join(missing)}; add --map {missing[0].split()[0]}=FIELD"
        )
    is_secret = "key_id" not in fields or fields["key_id"] == fields.get("key")
    if "key" not in fields and any(
        _rank("key", path) is not None and _rank("key_id", path) is None
        for path in fields["key_id"]
    ):
        is_secret, fields["key"] = True, fields["key_id"]
    fields.setdefault("key_id", fields.get("key", ()))
    return source_of_fields(
        fields, name=MAPPED, vendor=GENERIC, title="as --map says", forms=tuple(FORMS),
        marks=(), file=Path("--map"), key_id_is_secret=is_secret,
    )  # fmt: skip


def seen_by(source: Source, file: LogFile) -> Source | None:
    """`source`, which the user mapped, where `file` has its fields; None for an empty file.

    Raises:
        InputError: a field is not there; names the one that looks like it.
    """
    begins = beginning_of(file)
    if begins.is_empty:
        return None
    records = [
        {source.spelled.get(name.lower(), name): value for name, value in record.items()}
        if begins.form == "csv" else record
        for record in begins.records
    ]  # fmt: skip
    if not any(source.fits(record) for record in records):
        missing = next((name for name in source.required if not source.has(name, records)), "time")
        raise InputError(_no_field(file, source, missing, records))
    for column in source.fields:
        if not source.has(column, records):
            notice(f"{_no_field(file, source, column, records)}. The load continues without it")
    return source


def _no_field(
    file: LogFile, source: Source, column: str, records: Sequence[Mapping[str, Any]]
) -> str:
    name = shown_path(source.fields[column][0])
    if not records:
        return f"{file.path}: has no records with fields, so --map {column}={name} finds nothing"
    alike = fields_alike(records)
    other = alike.get(column) or (alike.get("key") if column == "key_id" else None)
    hint = (
        f"; {shown_path(other)} looks like it: --map {column}={shown_path(other)}" if other else ""
    )
    return f"{file.path}: no field {name!r} for {column}{hint}; it has {told_fields(records)}"
