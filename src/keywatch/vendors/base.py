"""What a log format has to say of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keywatch.vendors.files import Lines, LogFile


@dataclass(frozen=True)
class Source:
    """A log format.

    Attributes:
        name: What ``--source`` takes.
        recognises: Whether a line (and whether it is the file's first) bears the format's marks.
        lines: The file's records as JSON text with their line numbers; the second argument hears
            of stored bytes as they are read.
        fields: Name of the query in ``keywatch/sql`` that turns ``raw`` (file_id, line, text) into
            the fields that ``vendors/parsed.sql`` reads.
        key_id: Finds the key's id (group 1) in the text of a line that can't be read.
        names_endpoints: Whether a record names its endpoint; else it's made of method and path.
    """

    name: str
    recognises: Callable[[str, bool], bool]
    lines: Callable[[LogFile, Callable[[int], None]], Iterator[Lines]]
    fields: str
    key_id: re.Pattern[str]
    names_endpoints: bool
