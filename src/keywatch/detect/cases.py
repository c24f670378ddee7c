"""Tests of detectors: events in, exact evidence out, on a real in-memory DuckDB.

A test is a TOML file in ``detectors/<id>/tests``; ``detectors/README.md`` lists its fields.
"""

from __future__ import annotations

import ipaddress
import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from keywatch.detect import detectors
from keywatch.detect.detectors import Detector, test_files
from keywatch.errors import DetectorError
from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.load.inventory import insert_keys
from keywatch.load.leaks import insert_leaks
from keywatch.load.origins import ORIGIN_SCHEMA, parse_address, prefix_of
from keywatch.model import Window
from keywatch.settings import IngestSettings
from keywatch.vendors import catalogue_by_source, find_files

_EVIDENCE = (
    "key_id", "day", "prefix", "bits", "typical", "actual", "explanation", "subject",
    "due_on", "rotate",
)  # fmt: skip
_TABLES = ("window", "origins", "keys", "leaks", "events", "expect", "params")
_TOP = {"title", "baseline_days", "familiar", *_TABLES}
_FIELDS = {
    "window": {"start", "end"},
    "origins": {"address", *ORIGIN_SCHEMA.names},
    "keys": {
        "key_id", "key", "name", "owner", "environment", "scopes", "created_at", "expires_at",
        "revoked_at", "replaces", "honey", "imported_on",
    },
    "leaks": {"key_id", "key", "found_at", "source", "location"},
    "events": {
        "key_id", "key", "ip", "endpoint", "status", "user_agent", "response_bytes", "unreadable",
        "session", "on", "from", "until", "every_days", "at", "times", "step_seconds",
    },
    "expect": set(_EVIDENCE),
}  # fmt: skip
_REQUIRED = {
    "window": {"start", "end"},
    "origins": {"address"},
    "keys": {"key_id"},
    "leaks": {"source"},
    "events": {"key_id", "ip", "endpoint"},
    "expect": {"key_id", "bits", "typical", "actual", "explanation"},
}
_NO_STATUS = "none"
_REFUSED = 403
_BITS_DIGITS = 2
_STEP_SECONDS = 10


@dataclass(frozen=True)
class CaseResult:
    """Outcome of one test; `expected` and `actual` are rows of evidence, equal if it passed."""

    file: Path
    title: str
    expected: list[dict[str, Any]]
    actual: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether the whole result is the expected one."""
        return self.expected == self.actual


def case_files(detector: Detector) -> list[Path]:
    """The detector's tests, by name; ``cases/``, as the folder was once called, is read as well."""
    return test_files(detector.folder)


def run_case(lake: Lake, detector: Detector, file: Path) -> CaseResult:
    """Run one test in `lake`, which is in memory and empty, and is so again afterwards.

    Raises:
        DetectorError: the file is not a test, or the detector's query fails.
    """
    case = _read(file)
    window = Window(*(_midnight(case["window"][edge]) for edge in ("start", "end")))
    with lake.undone(), tempfile.TemporaryDirectory() as folder:
        _load(lake, case, Path(folder))
        days = case.get("baseline_days", 90)
        detectors.prepare(lake, window, days, catalogue_by_source(), only=detector)
        params = {**detector.params, **case.get("params", {})}
        detectors.run(lake, replace(detector, params=params), window)
        actual = [
            _plain(row)
            for row in lake.records(
                f"SELECT {', '.join(_EVIDENCE)} FROM evidence WHERE bits > 0 OR $familiar "
                "ORDER BY key_id, day, prefix, bits DESC, actual",
                # Every ordinary visit has evidence that speaks for the owner.
                familiar=bool(case.get("familiar", False)),
            )
        ]
    return CaseResult(file, case["title"], [_plain(row) for row in case.get("expect", [])], actual)


def as_toml(rows: list[dict[str, Any]]) -> str:
    """Evidence as ``[[expect]]`` tables, to compare with or to put into a test."""
    lines = []
    for row in rows:
        lines.append("[[expect]]")
        lines += [f"{name} = {_toml_value(row[name])}" for name in _EVIDENCE if name in row]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def _read(file: Path) -> dict[str, Any]:
    try:
        case = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise DetectorError(f"{file}: not a valid test: {e}") from e
    if unknown := set(case) - _TOP:
        raise DetectorError(f"{file}: unknown {', '.join(sorted(unknown))}")
    if "title" not in case or "window" not in case:
        raise DetectorError(f"{file}: title and [window] with start and end are required")
    for name, allowed in _FIELDS.items():
        tables = case.get(name, [])
        for table in [tables] if name == "window" else tables:
            if unknown := set(table) - allowed:
                raise DetectorError(f"{file}: {name} has unknown {', '.join(sorted(unknown))}")
            if missing := _REQUIRED[name] - set(table):
                raise DetectorError(f"{file}: {name} lacks {', '.join(sorted(missing))}")
            if name == "events" and not {"on", "from"} & set(table):
                raise DetectorError(f"{file}: events lacks on (a day), or from and until")
    return case


def _load(lake: Lake, case: dict[str, Any], folder: Path) -> None:
    lines = [
        {**line, "request_id": f"req_{i}"}
        for i, line in enumerate(line for event in case.get("events", []) for line in _lines(event))
    ]
    logs = []
    for name, of_it in (
        ("case.jsonl", [line for line in lines if "session" not in line]),
        ("trail.jsonl", [_as_record(line) for line in lines if "session" in line]),
    ):
        if of_it:
            logs.append(folder / name)
            logs[-1].write_text(
                "".join(json.dumps(line) + "\n" for line in of_it), encoding="utf-8"
            )
    if logs:
        files = find_files([str(log) for log in logs])
        locator = _CaseOrigins(case.get("origins", []))
        load_files(lake, files, IngestSettings(max_reject_share=1), locator)
    keys = case.get("keys", [])
    for day in sorted({key.get("imported_on", case["window"]["end"]) for key in keys}):
        imported = [key for key in keys if key.get("imported_on", case["window"]["end"]) == day]
        insert_keys(lake, imported, _midnight(day))
    if leaks := case.get("leaks", []):
        insert_leaks(lake, [{**leak, "leak_id": f"leak_{n}"} for n, leak in enumerate(leaks)])


def _lines(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One line a request: ``on`` a day or ``from``/``until`` (half open), ``times`` from ``at``.

    ``{n}`` in an endpoint, an address or a session is the number of the request in its table.
    """
    first = event.get("on") or event["from"]
    until = event.get("until", first + timedelta(days=1))
    names = ("key_id", "key", "status", "user_agent", "response_bytes")
    fields: dict[str, Any] = {name: event[name] for name in names if name in event}
    fields.setdefault("status", 200)
    if fields["status"] == _NO_STATUS:
        del fields["status"]
    n = 0
    for day in range(0, (until - first).days, event.get("every_days", 1)):
        start = datetime.combine(first + timedelta(days=day), event.get("at", time(12)))
        for i in range(event.get("times", 1)):
            moment = start + timedelta(seconds=i * event.get("step_seconds", _STEP_SECONDS))
            n += 1
            method, _, path = event["endpoint"].replace("{n}", str(n)).partition(" ")
            line = {
                "timestamp": f"{moment.isoformat()}Z",
                "ip": event["ip"].replace("{n}", str(n)),
                "method": method,
                "endpoint": path,
                **fields,
            }
            if event.get("unreadable"):
                del line["ip"]
            if "session" in event:
                line |= {"session": event["session"].replace("{n}", str(n)), "call": method}
            yield line


def _as_record(line: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a call that a role's session makes, as ``service:Action``."""
    service, _, action = line["call"].partition(":")
    record = {
        "eventTime": line["timestamp"],
        "eventID": line["request_id"],
        "eventSource": f"{service}.amazonaws.com",
        "eventName": action,
        "sourceIPAddress": line["ip"],
        "userAgent": line.get("user_agent"),
        "userIdentity": {
            "type": "AssumedRole",
            "accessKeyId": line["session"],
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": line["key_id"]}},
        },
    }
    return record | ({"errorCode": "AccessDenied"} if line["status"] == _REFUSED else {})


class _CaseOrigins:
    """The test's own origins in place of databases; an address not listed is unknown."""

    def __init__(self, origins: list[dict[str, Any]]) -> None:
        self._places = {origin["address"]: origin for origin in origins}

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        return pa.Table.from_pylist([self._row(text) for text in addresses], schema=ORIGIN_SCHEMA)

    def _row(self, text: str) -> dict[str, Any]:
        parsed = parse_address(text)
        row: dict[str, Any] = {
            "ip": parsed.ip,
            "prefix": prefix_of(parsed.ip) if parsed.ip else None,
            "class": "unknown" if parsed.kind == "global" else parsed.kind,
            "database": "case",
            **self._place(text, parsed.ip),
            "address": text,
        }
        row["located"] = row.get("asn") is not None or row.get("country") is not None
        return row

    def _place(self, text: str, ip: str | None) -> Mapping[str, Any]:
        if ip is None or text in self._places:
            return self._places.get(text, {})
        ranges = (each for each in self._places if "/" in each)
        found = next((r for r in ranges if _within(ip, r)), None)
        return self._places[found] if found else {}


def _within(ip: str, network: str) -> bool:
    return ipaddress.ip_address(ip) in ipaddress.ip_network(network)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without nulls, and with bits as they are compared."""
    kept = {name: value for name, value in row.items() if value is not None}
    return {**kept, "bits": round(float(kept["bits"]), _BITS_DIGITS)}
