"""Where content lies: `data/`, `detectors/` and `vendors/`, bundled and in folders of the user's.

The bundled content is in a wheel or in a checkout. A folder of the user's (``[content] folders``)
is laid out the same: ``detectors/NAME/`` and ``vendors/NAME/``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keywatch.errors import ContentError
from keywatch.hints import did_you_mean

__all__ = ["Entry", "add_folders", "content_path", "digest_of", "folders_of", "known_folders"]

_PACKAGED = Path(__file__).resolve().parent / "_content"
_CHECKOUT = Path(__file__).resolve().parents[2]
_KINDS = {"detectors": "detector.toml", "vendors": "vendor.toml"}
"""The file that each folder of a kind has."""

_added: tuple[Path, ...] = ()


def content_path(relative: str) -> Path:
    """Return the path of a bundled file or folder, such as `data/secrets.toml`.

    `relative` uses forward slashes and starts at the project's root. An installed wheel
    keeps it under `keywatch/_content/`, a checkout at the root of the repository; the
    wheel's own comes first. Raises ContentError when it's in neither, or when `relative`
    would leave the content.
    """
    parts = PurePosixPath(relative).parts
    if not parts or PurePosixPath(relative).is_absolute() or ".." in parts:
        raise ContentError(f"{relative!r} is not a path inside Keywatch's bundled content")
    for root in (_PACKAGED, _CHECKOUT):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise ContentError(
        f"{relative} is missing from this installation (looked in {_PACKAGED} and {_CHECKOUT}). "
        "Install Keywatch again, or restore the file from the repository."
    )


def add_folders(folders: Iterable[Path]) -> None:
    """Make the vendors in `folders` known to this process; a folder that is known stays.

    For the whole process on purpose: what a secret looks like must not depend on which settings
    the code that meets it has at hand. An error's text is redacted as well.

    Raises:
        ContentError: a folder is absent, or has neither ``vendors/`` nor ``detectors/`` in it.
    """
    global _added
    for folder in folders:
        path = folder.resolve()
        if not any((path / kind).is_dir() for kind in _KINDS):
            what = "has no vendors/ or detectors/ in it" if path.is_dir() else "is not a folder"
            raise ContentError(f"{folder}: {what}; name the folder that contains them")
        if path not in _added:
            _added = (*_added, path)


def known_folders() -> tuple[Path, ...]:
    """The folders that were added, in their order: what is read of them is cached by this."""
    return _added


def folders_of(kind: str, outside: Iterable[Path] = ()) -> list[Path]:
    """The folders of a kind (``detectors`` or ``vendors``): the bundled ones, then those `outside`.

    By name in each place. Only what has its TOML file counts.
    """
    return [
        path
        for root in (content_path(kind), *(folder / kind for folder in outside))
        if root.is_dir()
        for path in sorted(root.iterdir())
        if (path / _KINDS[kind]).is_file()
    ]


def digest_of(folders: Iterable[Path]) -> str:
    """A SHA-256 over all content in `folders`: other content scores otherwise."""
    digest = hashlib.sha256()
    for folder in folders:
        for kind in _KINDS:
            for file in sorted((folder / kind).rglob("*")):
                if file.suffix in (".toml", ".sql") and file.is_file():
                    digest.update(f"{file.relative_to(folder)}\0".encode())
                    digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One TOML table of a content file, which knows where it is for its errors."""

    path: Path
    where: str
    table: Mapping[str, Any]
    allowed: frozenset[str] | set[str]
    error_type: type[ContentError] = ContentError

    def __post_init__(self) -> None:
        unknown = sorted(set(self.table) - self.allowed)
        if unknown:
            known = sorted(self.allowed)
            hint = did_you_mean(unknown[0], known)
            raise self.error(f"unknown field {unknown[0]!r}; use {', '.join(known)}{hint}")

    def error(self, what: str) -> ContentError:
        """The error of this entry, with its file and place."""
        return self.error_type(f"{self.path}: {self.where}: {what}")

    def text(self, field: str, default: str | None = None) -> str:
        """A text; without a `default` it has to be there and not empty."""
        value = self.table.get(field, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.error(f"`{field}` must be a string, not {value!r}")
        return value

    def texts(self, field: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts; without a `default` it has to have one."""
        value = self.table.get(field, default)
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise self.error(f"`{field}` must be a list of strings, not {value!r}")
        if (not value and default is None) or not all(
            isinstance(one, str) and one for one in value
        ):
            raise self.error(f"`{field}` must be a list of strings, not {value!r}")
        return tuple(value)

    def number(self, field: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.table.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self.error(f"`{field}` must be a positive number, not {value!r}")
        return value

    def flag(self, field: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.table.get(field, default)
        if not isinstance(value, bool):
            raise self.error(f"`{field}` is {value!r}; true or false is expected")
        return value

    def inner(self, field: str, allowed: frozenset[str] | None = None) -> Entry:
        """The table called `field`, empty where it is absent; any name without `allowed`."""
        value = self.table.get(field, {})
        if not isinstance(value, dict):
            raise self.error(f"`{field}` must be a table, not {value!r}; write [{field}]")
        where = field if self.where == "the top" else f"{self.where}.{field}"
        known = frozenset(value) if allowed is None else allowed
        return Entry(self.path, where, value, known, self.error_type)

    def entries(self, field: str, allowed: frozenset[str] | None, *, least: int = 1) -> list[Entry]:
        """The tables of ``[[field]]``, `least` of them at least; any name without `allowed`."""
        tables = self.table.get(field, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.error(f"`{field}` must be tables; write [[{field}]]")
        if len(tables) < least:
            raise self.error(f"`{field}` must be at least one [[{field}]] table")
        return [
            Entry(
                self.path,
                f"{field}[{at}]{_label(table)}",
                table,
                frozenset(table) if allowed is None else allowed,
                self.error_type,
            )
            for at, table in enumerate(tables)
        ]

    def refuse_twice(self, field: str, keys: list[str]) -> None:
        """See that no two entries of `field` have the same key."""
        seen: set[str] = set()
        for at, key in enumerate(keys):
            if key in seen:
                raise self.error(f"{field}[{at}] {key!r} is listed twice; remove one")
            seen.add(key)


def _label(table: Mapping[str, Any]) -> str:
    named = [str(table[field]) for field in ("method", "template", "name") if field in table]
    return f" ({' '.join(named)})" if named else ""
