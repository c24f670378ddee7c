"""Whether a vendor's folder is in order: its files, its queries, and its own ``tests/``."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from keywatch.content import Entry, add_folders, content_path
from keywatch.errors import ContentError, InputError, UsageError, VendorError
from keywatch.lake import Lake
from keywatch.text.key_forms import read_toml
from keywatch.text.secrets import Redactor, suspect_pattern
from keywatch.vendors import detect_source
from keywatch.vendors.files import LogFile
from keywatch.vendors.listing import listing_of
from keywatch.vendors.parser import ParsedChunk, Parser
from keywatch.vendors.registry import Vendor, read_vendor, vendor_faults, vendor_of_key
from keywatch.vendors.source import Source

__all__ = ["check_vendor", "folders_named", "parsed_log", "plain"]

_TEST_FIELDS = frozenset(
    {"title", "source", "list", "log", "events", "rejects", "rows", "keys", "ordinary"}
)
_KEY_FIELDS = frozenset({"key", "masked", "environment"})
_REJECT_FIELDS = frozenset({"line", "reason"})
_EVENT_FIELDS = frozenset(
    {
        "ts", "key_id", "key", "principal", "address", "method", "endpoint", "object", "path",
        "status", "user_agent", "agent", "response_bytes", "duration_ms", "request_id", "exposed",
    }
)  # fmt: skip
_BREAK = "¦"
"""Stands in the keys and logs of tests, for a scanner of secrets would take them for a leak."""
_HASH = re.compile("#[0-9a-f]{16}$")
_SECRET = b"only for tests of content, which are redacted alike each time"


def folders_named(folders: list[Path]) -> list[Path]:
    """The vendors' folders that are meant by `folders`, made known to this process.

    Each is a vendor's own folder, or one with ``vendors/`` in it.

    Raises:
        UsageError: it is neither.
    """
    found: list[Path] = []
    for folder in folders:
        path = folder.resolve()
        if (path / "vendor.toml").is_file() and path.parent.name == "vendors":
            root, inside = path.parent.parent, [path]
        else:
            root = path
            inside = sorted(each.parent for each in (path / "vendors").glob("*/vendor.toml"))
        if not inside:
            raise UsageError(
                f"{folder}: no vendor found there; give a folder vendors/NAME with a vendor.toml, "
                "or the folder that contains vendors/"
            )
        if root / "vendors" != content_path("vendors"):
            add_folders([root])
        found += inside
    return found


def check_vendor(folder: Path) -> list[str]:
    """What is wrong with a vendor's folder, a sentence each; empty when nothing is.

    The vendor has to be known to this process.
    """
    try:
        vendor = read_vendor(folder)
    except VendorError as e:
        return [str(e)]
    clashes = [str(fault) for fault in vendor_faults() if str(folder) in str(fault)]
    if clashes:
        return clashes
    with Parser(Redactor(_SECRET, stored=False)) as parser:
        wrong = [fault for source in vendor.sources for fault in _query_faults(parser, source)]
    # A query that fails would fail in each test again.
    return wrong or [*_untested(vendor), *_test_faults(vendor)]


def _query_faults(parser: Parser, source: Source) -> Iterator[str]:
    try:
        parser.see(source)
    except VendorError as e:
        yield str(e)


def _files(vendor: Vendor) -> list[Path]:
    return sorted((vendor.folder / "tests").glob("*.toml"))


def _untested(vendor: Vendor) -> Iterator[str]:
    """What no test is about: a source, or how keys look."""
    try:
        tests = [read_toml(file) for file in _files(vendor)]
    except VendorError as e:
        yield str(e)
        return
    tested = {test.get(kind) for test in tests for kind in ("source", "list")}
    for source in vendor.sources:
        if source.name not in tested:
            yield f"{vendor.folder / 'tests'}: no test has source = {source.name!r}; add one"
    for each in (*vendor.inventories, *vendor.leak_reports):
        if each.name not in tested:
            yield f"{vendor.folder / 'tests'}: no test has list = {each.name!r}; add one"
    if vendor.keys and not any(test.get("keys") for test in tests):
        yield f"{vendor.folder / 'tests'}: no test has [[keys]], which vendor.toml names; add one"


def _test_faults(vendor: Vendor) -> Iterator[str]:
    with Parser(Redactor(_SECRET, stored=False)) as parser, Lake.in_memory() as lake:
        for file in _files(vendor):
            try:
                test = Entry(file, "the top", read_toml(file), _TEST_FIELDS, VendorError)
                test.text("title")
                yield from (f"{file}: {fault}" for fault in _run(vendor, test, parser, lake))
            except ContentError as e:
                yield str(e)


def _run(vendor: Vendor, test: Entry, parser: Parser, lake: Lake) -> Iterator[str]:
    redactor = Redactor(_SECRET, stored=False)
    for entry in test.entries("keys", _KEY_FIELDS, least=0):
        yield from _key_faults(vendor, entry, redactor, lake)
    for text in test.texts("ordinary", ()):
        if (shown := redactor.redact(text)) != text:
            yield f"ordinary: {text!r} is taken for a secret: {shown!r}"
    if "source" in test.table:
        events = test.entries("events", _EVENT_FIELDS, least=0)
        rejects = test.entries("rejects", _REJECT_FIELDS, least=0)
        yield from _log_faults(_parsed(vendor, test, parser), events, rejects)
    if "list" in test.table:
        yield from _list_faults(vendor, test)


def _list_faults(vendor: Vendor, test: Entry) -> Iterator[str]:
    """What differs from the ``[[rows]]`` that a list is to be read as."""
    name, log = test.text("list"), test.text("log").replace(_BREAK, "")
    found = listing_of((*vendor.inventories, *vendor.leak_reports), log, "log")
    if found is None or found.name != name:
        yield f"the list is taken for {found.name if found else 'none'}, and {name} is expected"
        return
    rows = [row for _, row in found.rows(log, "log")]
    expected = [entry.table for entry in test.entries("rows", None, least=0)]
    if len(rows) != len(expected):
        yield f"{len(rows)} rows are read, and {len(expected)} are expected"
    for n, (row, wanted) in enumerate(zip(rows, expected, strict=False)):
        for column, value in wanted.items():
            value = value.replace(_BREAK, "") if isinstance(value, str) else value
            if row.get(column) != value:
                yield f"rows[{n}]: {column} is {row.get(column)!r}, and {value!r} is expected"


def _key_faults(vendor: Vendor, entry: Entry, redactor: Redactor, lake: Lake) -> Iterator[str]:
    full = entry.text("key").replace(_BREAK, "")
    masked, environment = entry.text("masked", ""), entry.text("environment", "")
    of_vendor, form = vendor_of_key(full, full, None)
    if form is None or of_vendor.name != vendor.name:
        yield f"{entry.where}: is not a key of {vendor.name}; see `begins` and `length`"
        return
    shown = _HASH.sub("", redactor.mask_key(full)) if form.is_secret else full
    if shown != (masked or full):
        yield f"{entry.where}: is shown as {shown!r}, and {masked or full!r} is expected"
    redacted = redactor.redact(f"x {full} y")
    if (full in redacted) is form.is_secret:
        yield f"{entry.where}: is {'not ' if form.is_secret else ''}redacted in a text"
    suspect = "SELECT regexp_matches($text, $pattern)"
    if form.is_secret and not lake.value(suspect, text=full, pattern=suspect_pattern("token")):
        yield f"{entry.where}: DuckDB does not find it; is `letters` the same to RE2?"
    found = lake.value("SELECT environment_of($shown)", shown=shown) or ""
    if found != environment:
        yield f"{entry.where}: environment is {found!r}, and {environment!r} is expected"


def _parsed(vendor: Vendor, test: Entry, parser: Parser) -> ParsedChunk:
    """The test's log as it is loaded.

    Raises:
        VendorError: it is taken for another format, or there is no such source.
    """
    name = test.text("source")
    source = next((each for each in vendor.sources if each.name == name), None)
    if source is None:
        known = ", ".join(each.name for each in vendor.sources)
        raise test.error(f"source is {name!r}; {vendor.name} has {known or 'none'}")
    log = test.text("log").replace(_BREAK, "")
    try:
        found, chunk = parsed_log(source, log, parser)
    except InputError as e:
        raise test.error(f"log{e}") from e
    if found != source:
        raise test.error(f"the log is taken for {found.name if found else 'an empty file'}")
    return chunk


def parsed_log(
    source: Source, log: str, parser: Parser, *, detect: bool = True
) -> tuple[Source | None, ParsedChunk]:
    """A log as it is loaded by `source`, and the source it is taken for.

    Raises:
        InputError: it can't be read, or no source knows it.
    """
    with tempfile.TemporaryDirectory(prefix="keywatch-") as folder:
        file = Path(folder) / "log"
        file.write_text(log, encoding="utf-8")
        listed = LogFile(str(file), file.stat().st_size)
        try:
            found = detect_source(listed) if detect else source
            parts = list(source.lines(listed, lambda _: None))
        except InputError as e:
            raise InputError(str(e).removeprefix(str(file))) from e
    lines = pa.table(
        [
            pa.repeat(pa.scalar(1, pa.int64()), sum(len(part.texts) for part in parts)),
            pa.concat_arrays([part.numbers for part in parts]),
            pa.concat_arrays([part.texts for part in parts]),
        ],
        ["file_id", "line", "text"],
    )
    unread = [
        {"file_id": 1, "line": one.number, "reason": one.reason, "text": one.text,
         "size_bytes": one.size_bytes, "key_id": one.key_id}
        for part in parts for one in part.unread
    ]  # fmt: skip
    return found, parser.parse(source, lines, unread)


def _log_faults(chunk: ParsedChunk, events: list[Entry], rejects: list[Entry]) -> Iterator[str]:
    rows = chunk.rows.sort_by("line")
    bad = rows["reason"].is_valid()
    found = rows.filter(pc.invert(bad)).to_pylist()
    if len(found) != len(events):
        yield f"{len(found)} events are read, and {len(events)} are expected"
    for row, expected in zip(found, events, strict=False):
        for name, value in expected.table.items():
            got = plain(row[name])
            if got != plain(value):
                yield f"{expected.where}: {name} is {got!r}, and {value!r} is expected"
    left = [(row["line"], row["reason"]) for row in rows.filter(bad).to_pylist()]
    told = [(entry.number("line"), entry.text("reason")) for entry in rejects]
    if left != told:
        yield f"rejected are {left}, and {told} are expected"


def plain(value: Any) -> Any:
    """A value as tests have it: a time in UTC, a key without its hash."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return _HASH.sub("", value) if isinstance(value, str) else value
