"""What is known of each vendor (``vendors/NAME/``): log formats, keys, endpoints, runbook."""

from __future__ import annotations

import shlex

from keywatch.errors import InputError, UnknownFormatError
from keywatch.hints import unknown
from keywatch.vendors.beginning import Beginning, beginning_of
from keywatch.vendors.files import Contents, LogFile, find_files
from keywatch.vendors.mapping import (
    best_records,
    fields_alike,
    lacking,
    map_options,
    mapped_source,
    seen_by,
    told_fields,
)
from keywatch.vendors.registry import catalogue_by_source, service_words, sources, vendor_faults
from keywatch.vendors.source import Source

__all__ = [
    "Contents",
    "LogFile",
    "Source",
    "catalogue_by_source",
    "detect_source",
    "find_files",
    "mapped_source",
    "named_source",
    "service_words",
    "source_of",
    "sources",
]


def named_source(name: str) -> Source:
    """The source called `name`.

    Raises:
        InputError: there is none; names those there are, and what is wrong with others.
    """
    known = sources()
    if name not in known:
        raise InputError(f"{unknown('source', name, known)}{_left_out()}")
    return known[name]


def _left_out() -> str:
    return "".join(f"; skipped: {fault}" for fault in vendor_faults())


def detect_source(file: LogFile) -> Source | None:
    """The source whose marks the file's first lines bear; None for an empty file.

    Raises:
        UnknownFormatError: no source knows these lines.
        InputError: the file can't be read.
    """
    begins = beginning_of(file)
    # Of two formats that know a record, the one that has to find more in it is meant.
    known = sorted(sources().values(), key=lambda source: -len(source.marks))
    for record in begins.records:
        for source in known:
            if begins.form in source.forms and source.fits(record):
                return source
    for number, line in enumerate(begins.lines):
        for source in known:
            if source.recognises(line, number == 0):
                return source
    if begins.is_empty:
        return None
    raise UnknownFormatError(
        f"{file.path}, line 1: not in a log format known to Keywatch ({', '.join(sources())}); "
        f"{_how_to_read(file, begins)}{_left_out()}"
    )


def _how_to_read(file: LogFile, begins: Beginning) -> str:
    """The command that reads a log of no known format, as far as its fields tell."""
    records = best_records(begins)
    alike = fields_alike(records)
    missing = lacking(alike)
    if "time" in missing or len(missing) > 2:
        return "set the format with --source, or see docs/input.md"
    command = f"keywatch ingest {shlex.quote(file.path)} {map_options(alike)}"
    if missing:
        more = " ".join(f"--map {each.split()[0]}=FIELD" for each in missing)
        return f"by its fields ({told_fields(records)}) it may be read by: {command} {more}"
    return (
        f"its fields look like these columns: {command} (to keep that: keywatch sources new "
        f"{shlex.quote(file.path)})"
    )


def source_of(file: LogFile, named: Source | None) -> Source | None:
    """The format of `file`, which is the `named` one if there is any; None for an empty file.

    Raises:
        InputError: no source knows it, or it lacks a field that the user mapped.
    """
    if named is None or file.trouble:
        return detect_source(file)
    return named if named.marks else seen_by(named, file)
