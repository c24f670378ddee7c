"""What is known of each vendor (``vendors/NAME/``): log formats, keys, endpoints, runbook."""

from __future__ import annotations

from keywatch.errors import InputError
from keywatch.vendors.beginning import beginning_of
from keywatch.vendors.files import Contents, LogFile, find_files
from keywatch.vendors.registry import catalogue_endpoints, service_words, sources, vendor_faults
from keywatch.vendors.source import Source

__all__ = [
    "Contents",
    "LogFile",
    "Source",
    "catalogue_endpoints",
    "detect_source",
    "find_files",
    "named_source",
    "service_words",
    "sources",
]


def named_source(name: str) -> Source:
    """The source called `name`.

    Raises:
        InputError: there is none; names those there are, and what is wrong with others.
    """
    known = sources()
    if name not in known:
        raise InputError(f"unknown source {name!r}; available: {', '.join(known)}{_left_out()}")
    return known[name]


def _left_out() -> str:
    return "".join(f"; skipped: {fault}" for fault in vendor_faults())


def detect_source(file: LogFile) -> Source | None:
    """The source whose marks the file's first lines bear; None for an empty file.

    Raises:
        InputError: no source knows these lines.
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
    raise InputError(
        f"{file.path}, line 1: not in a log format known to Keywatch ({', '.join(sources())}); "
        f"set the format with --source, or see README.md, Input{_left_out()}"
    )
