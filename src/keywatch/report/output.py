"""What is shown, as a file."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from keywatch.errors import UsageError
from keywatch.lake import catalogue_file
from keywatch.settings import LakeSettings

_OWNER_ALONE = 0o600


def refuse_inside_lake(file: Path, lake_folder: Path, settings: LakeSettings) -> None:
    """Refuse to write where a lake keeps its own files.

    Raises:
        UsageError: `file` is inside the lake's folder or data path, or its catalogue.
    """
    place = file.resolve()
    within = [lake_folder]
    if settings.data_path is not None and "://" not in settings.data_path:
        within.append(Path(settings.data_path))
    catalogue = catalogue_file(lake_folder, settings)
    is_catalogue = catalogue is not None and place == catalogue.resolve()
    if is_catalogue or any(place.is_relative_to(folder.resolve()) for folder in within):
        raise UsageError(
            f"{file}: this is among the files of the lake {lake_folder}, and nothing was written; "
            "choose a file outside the lake"
        )


def write_whole(file: Path, text: str | Iterator[str], mode: int = _OWNER_ALONE) -> None:
    """Write `text`, or its parts, as UTF-8: the whole file or, where that fails, nothing.

    `mode` says for whom.

    Raises:
        UsageError: it can't be written.
    """
    with _in_place_of(file, mode) as partial, partial.open("w", encoding="utf-8") as out:
        out.writelines([text] if isinstance(text, str) else text)


@contextmanager
def lines_to(file: Path | None) -> Iterator[TextIO]:
    """Standard output, or `file`: all of it or, where that fails, nothing; gzip where it ends so.

    Raises:
        UsageError: it can't be written.
    """
    if file is None:
        yield sys.stdout
        return
    with _in_place_of(file, _OWNER_ALONE) as partial:
        if file.suffix.lower() == ".gz":
            with gzip.open(partial, "wt", encoding="utf-8") as zipped:
                yield zipped
        else:
            with partial.open("w", encoding="utf-8") as plain:
                yield plain


@contextmanager
def _in_place_of(file: Path, mode: int) -> Iterator[Path]:
    """An empty file beside `file` that takes its place once it was written; a pipe or a device."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        if _is_no_file(file):
            yield file
            return
        partial.touch(mode)
        yield partial
        partial.chmod(mode)
        partial.replace(file)
    except OSError as e:
        raise UsageError(f"{file}: can't be written ({e.strerror})") from e


def _is_no_file(file: Path) -> bool:
    """Whether it is a pipe or a device; /dev/stdout may lead to a file, and is none."""
    within = file.absolute().parts[1:2]
    return within in (("dev",), ("proc",)) or file.is_fifo() or file.is_char_device()
