"""Trying what was answered: the log, the GeoIP databases, the channel, the lake's folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from keywatch import deliver
from keywatch.errors import (
    GeoIPError,
    InputError,
    KeywatchError,
    LakeReadOnlyError,
    UnknownFormatError,
)
from keywatch.lake import Lake, catalogue_file
from keywatch.load.origins import GeoIPPaths, OriginReader, role_of
from keywatch.load.reading import Listed, read_chunks
from keywatch.settings import LakeSettings
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.phrases import count, size
from keywatch.text.safe_text import printable
from keywatch.text.secrets import Redactor
from keywatch.vendors import LogFile, Source, find_files, named_source, source_of
from keywatch.vendors.parser import Parser

_MOST_FILES = 10
_SAMPLE_BYTES = 1_000_000
_MOST_TEXT = 500


@dataclass(frozen=True)
class Tried:
    """What came of trying one answer: a sentence, and the error if it failed."""

    what: str
    text: str
    error: KeywatchError | None = None

    def __str__(self) -> str:
        """As `keywatch doctor` shows it."""
        return f"{'ok  ' if self.error is None else 'BAD '} {self.what}: {self.text}"


def _failed(what: str, error: KeywatchError) -> Tried:
    return Tried(what, printable(str(error), _MOST_TEXT), error)


def try_places(places: Sequence[str], source: str | None) -> tuple[Tried, bool]:
    """Find the files and read a sample of one; also whether the format was not recognised.

    Of the files, the one that was changed last is read, or the next one where that can't be.
    """
    is_unknown = False
    try:
        named = None if source is None else named_source(source)
        files = find_files(list(places), named=False)
        newest = sorted(files, key=_changed_at, reverse=True)
        problem: InputError | None = None
        for file in newest[:_MOST_FILES]:
            try:
                found = source_of(file, named)
                if found is not None:
                    return Tried(
                        "log", f"{count(len(files), 'file')}; {_sample(file, found)}"
                    ), False
            except InputError as e:
                is_unknown = is_unknown or isinstance(e, UnknownFormatError)
                problem = problem or e
        raise problem or InputError(
            f"{', '.join(places)}: only empty files; a later run of keywatch ingest reads new lines"
        )
    except KeywatchError as e:
        return _failed("log", e), is_unknown


def _changed_at(file: LogFile) -> float:
    return file.modified_at.timestamp() if file.modified_at is not None else 0.0


def _sample(file: LogFile, source: Source) -> str:
    """What the beginning of `file` has, in words.

    Raises:
        InputError: it can't be read, or has no readable line.
    """
    problems: list[InputError] = []
    # Nothing of it is stored, so no secret has to be found again.
    with (
        Parser(Redactor(os.urandom(32))) as parser,
        closing(
            read_chunks(
                [Listed(1, file, source)],
                parser,
                _SAMPLE_BYTES,
                lambda _: None,
                lambda _, problem: problems.append(problem),
            )
        ) as chunks,
    ):
        chunk = next(chunks, None)
    if problems:
        raise problems[0]
    rows = chunk.parsed.rows if chunk is not None else None
    if rows is None or not len(rows):
        raise InputError(f"{file.path}: no line found in it")
    bad = rows["reason"].is_valid()
    read = rows.filter(pc.invert(bad))
    unreadable = len(rows) - len(read)
    if not len(read):
        reason = rows["reason"][0].as_py()
        raise InputError(f"{file.path}: no line is readable as {source.name} ({reason})")
    keys = len(read["key_id"].unique().drop_null())
    first, last = (bound(read["ts"]).as_py() for bound in (pc.min, pc.max))
    told = (
        f"sample {file.path}: {count(len(read), 'request')} of {count(keys, 'key')} as "
        f"{source.name}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    )
    return printable(
        f"{told}; {count(unreadable, 'line')} unreadable" if unreadable else told, _MOST_TEXT
    )


def try_geoip(files: Sequence[Path]) -> tuple[Tried, dict[str, Path]]:
    """Open the user's databases and the bundled ones; also the setting that each file is for."""
    roles: dict[str, Path] = {}
    try:
        for file in files:
            role = role_of(file)
            if role in roles:
                raise GeoIPError(f"{roles[role]} and {file} are both for {role}: name one of them")
            roles[role] = file
        with OriginReader(GeoIPPaths(**roles)) as reader:
            told = ", ".join(f"{each.name} of {each.built_on}" for each in reader.databases)
        return Tried("GeoIP", told), roles
    except KeywatchError as e:
        return _failed("GeoIP", e), roles


def try_channel(name: str, settings: DeliverSettings) -> Tried:
    """Send a test message to the channel `name`."""
    try:
        text, error = deliver.send_test(None, name, settings), None
    except KeywatchError as e:
        text, error = str(e), e
    # What is said begins with the channel.
    told = printable(text.partition(": ")[2], _MOST_TEXT)
    return Tried(f"channel {name} ({settings.channels[name].kind})", told, error)


def try_lake(folder: Path) -> Tried:
    """See what lake is in `folder`, or that one can be created there; nothing is left behind."""
    try:
        catalogue = catalogue_file(folder, LakeSettings())
        if catalogue is not None and catalogue.exists():
            with Lake.open(folder) as lake:
                events = lake.value("SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity")
            return Tried("lake", f"{folder} has {count(events, 'event')}; new ones are added")
        above = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        try:
            with tempfile.TemporaryFile(dir=above):
                free = shutil.disk_usage(above).free
        except OSError as e:
            raise LakeReadOnlyError(
                f"{folder}: nothing can be written in {above} ({e.strerror}); choose another folder"
            ) from e
        return Tried("lake", f"{folder} can be created, {size(free)} free")
    except KeywatchError as e:
        return _failed("lake", e)
