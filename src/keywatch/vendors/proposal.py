"""A vendor's folder proposed from a sample of its log: what the fields are, and a test of it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from keywatch.errors import InputError, UsageError
from keywatch.text.secrets import Redactor
from keywatch.text.toml_value import toml_value
from keywatch.vendors.beginning import Beginning, beginning_of
from keywatch.vendors.checking import parsed_log, plain
from keywatch.vendors.files import LogFile
from keywatch.vendors.mapping import (
    best_records,
    call_of,
    fields_alike,
    lacking,
    source_of_fields,
    told_fields,
)
from keywatch.vendors.parser import Parser
from keywatch.vendors.registry import sources, vendors
from keywatch.vendors.source import SOURCE_NAME, FieldPath, Source, read_path, shown_path, value_at

__all__ = ["Proposal", "proposed", "write_proposal"]

_MOST_ROWS = 10
_LONGEST_LINE = 8000
"""A redactor leaves out what is behind."""
_HAS_OFFSET = re.compile(r"\d{9,19}(\.\d+)?|.*([Zz]|UTC|[+-]\d\d:?\d\d)")
_TESTED = (
    "ts", "key_id", "address", "method", "endpoint", "object", "status", "user_agent",
    "response_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """A vendor that is not written yet.

    Attributes:
        source: Its one source, of its name.
        log: The first records of the sample, with each secret replaced.
        events: These as they are read, by column.
        rejects: What could not be read: line and reason.
    """

    source: Source
    log: str
    events: tuple[Mapping[str, Any], ...]
    rejects: tuple[tuple[int, str], ...]

    @property
    def fields(self) -> dict[str, str]:
        """By column the field that it is read from."""
        return {name: shown_path(paths[0]) for name, paths in self.source.fields.items()}


def proposed(file: LogFile, name: str, redactor: Redactor, time_zone: str | None) -> Proposal:
    """What the fields of a sample are, by their names and values.

    Times without an offset are of `time_zone`, of UTC where that is none.

    Raises:
        UsageError: `name` can't be a vendor's, or is one's.
        InputError: the sample is known already, or too little of it looks like a request.
    """
    _see_name(name)
    begins = beginning_of(file)
    records = best_records(begins)
    fields = {
        column: path
        for column, path in fields_alike(records).items()
        if read_path(_toml_path(path)) == path
    }
    if missing := lacking(fields):
        raise InputError(
            f"{file.path}: no field looks like {' and '.join(missing)}; it has "
            f"{told_fields(records) or 'no fields'}. Write the source by hand: vendors/README.md"
        )
    for known in sources().values():
        if begins.form in known.forms and any(known.fits(one) for one in records):
            raise InputError(f"{file.path}: is read as {known.name} already: keywatch ingest")
    source = _source(name, begins, records, fields, time_zone)
    log = _sample(begins, records, source, redactor)
    with Parser(redactor) as parser:
        # It is no vendor yet; its endpoints are those that no catalogue lists.
        reader = replace(source, vendor="generic")
        _, chunk = parsed_log(reader, log, parser, detect=False)
    rows = chunk.rows.sort_by("line")
    bad = rows["reason"].is_valid()
    return Proposal(
        source, log,
        tuple({column: plain(row[column]) for column in _TESTED}
              for row in rows.filter(pc.invert(bad)).to_pylist()),
        tuple((row["line"], row["reason"]) for row in rows.filter(bad).to_pylist()),
    )  # fmt: skip


def _see_name(name: str) -> None:
    if not SOURCE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no vendor's name; --vendor takes small letters, digits, _")
    if name in sources() or name in {vendor.name for vendor in vendors()}:
        raise UsageError(f"there is a vendor or source {name!r} already; give another --vendor")


def _source(
    name: str,
    begins: Beginning,
    records: Sequence[Mapping[str, Any]],
    fields: Mapping[str, FieldPath],
    time_zone: str | None,
) -> Source:
    paths = {column: (path,) for column, path in fields.items()}
    if "key_id" not in paths:
        paths["key_id"] = paths["key"]
    marked = (str(fields[column][0]) for column in ("time", "address", call_of(fields)))
    times = (value_at(one, fields["time"]) for one in records)
    has_offset = all(_HAS_OFFSET.fullmatch(str(time)) for time in times if time)
    return source_of_fields(
        paths, name=name, vendor=name, title=f"{name} log", forms=(begins.form,),
        marks=tuple(dict.fromkeys(marked)), file=Path(f"{name}.toml"),
        time_zone="" if has_offset else time_zone or "UTC",
        key_id_is_secret="key_id" not in fields,
    )  # fmt: skip


def _sample(
    begins: Beginning, records: Sequence[Mapping[str, Any]], source: Source, redactor: Redactor
) -> str:
    """The first records as a log of the same form, with each secret replaced."""
    secrets = {
        str(value): redactor.mask_key(source.without_scheme(str(value)))
        for path in source.fields.get("key", ())
        for one in records
        if (value := value_at(one, path))
    }

    def without_secrets(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_secrets(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [without_secrets(inner) for inner in value]
        if not isinstance(value, str):
            return value
        for secret, masked in secrets.items():
            value = value.replace(secret, masked)
        return redactor.redact(value)

    if begins.form == "logfmt":
        lines = [line for line in begins.lines if len(line) < _LONGEST_LINE][:_MOST_ROWS]
        return "".join(f"{without_secrets(line)}\n" for line in lines)
    shown = [without_secrets(dict(one)) for one in records[:_MOST_ROWS]]
    if begins.form == "json":
        return "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in shown)
    text = io.StringIO()
    names = dict.fromkeys(name for one in shown for name in one)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(shown)
    return text.getvalue()


def write_proposal(proposal: Proposal, folder: Path) -> Path:
    """Write ``vendors/NAME`` under `folder`, and return it.

    Raises:
        UsageError: it is there already, or can't be written.
    """
    name = proposal.source.name
    home = folder / "vendors" / name
    if home.exists():
        raise UsageError(f"{home}: already exists; choose another --vendor or --output")
    try:
        for file, text in (
            ("vendor.toml", _vendor_toml(name)),
            (f"sources/{name}.toml", _source_toml(proposal.source)),
            ("tests/sample.toml", _test_toml(proposal)),
        ):
            path = home / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{home}: can't be written ({e.strerror})") from e
    return home


def _vendor_toml(name: str) -> str:
    return (
        "# Add the form of the keys ([[keys]]) and the steps to replace and revoke them\n"
        f"# ([runbook]): see vendors/README.md of Keywatch.\ntitle = {toml_value(name)}\n"
    )


def _source_toml(source: Source) -> str:
    lines = [
        f"title = {toml_value(source.title)}",
        f"forms = {toml_value(list(source.forms))}",
        f"marks = {toml_value(list(source.marks))}",
        f"required = {toml_value(list(source.required))}",
    ]
    if source.time_zone:
        lines += [
            "# The sample's times have no offset.", f"time_zone = {toml_value(source.time_zone)}"
        ]  # fmt: skip
    if source.key_id_is_secret:
        lines.append("key_id_is_secret = true")
    lines += ["", "[fields]"]
    lines += [
        f"{name} = {toml_value(_toml_path(paths[0]))}" for name, paths in source.fields.items()
    ]
    if source.sql:
        lines += [
            "",
            "[sql]",
            *(f"{name} = {toml_value(text)}" for name, text in source.sql.items()),
        ]
    return "\n".join(lines) + "\n"


def _toml_path(path: FieldPath) -> str:
    """A path as a source's file has it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif isinstance(step, tuple):
            text += f"[{step[0]}={step[1]}]"
        else:
            name = step if re.fullmatch(r"[^.\[\]\"'\\\s]+", step) else f'"{step}"'
            text += f".{name}" if text else name
    return text


def _test_toml(proposal: Proposal) -> str:
    lines = [
        'title = "The first records of a sample; secrets are replaced"',
        f"source = {toml_value(proposal.source.name)}",
        f"log = {toml_value(proposal.log)}",
    ]
    for event in proposal.events:
        lines += ["", "[[events]]"]
        lines += [
            f"{name} = {toml_value(value)}" for name, value in event.items() if value is not None
        ]
    for line, reason in proposal.rejects:
        lines += ["", "[[rejects]]", f"line = {line}", f"reason = {toml_value(reason)}"]
    return "\n".join(lines) + "\n"
