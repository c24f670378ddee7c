"""How the vendors' API keys look: ``[[keys]]`` of each ``vendors/NAME/vendor.toml``.

A form is told in parts: what it begins with, an environment, letters and length. Of these follow
the patterns that redact it, mask it, find its masked form and read its environment.
"""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType

from keywatch.content import Entry, folders_of, known_folders
from keywatch.errors import VendorError

__all__ = ["KEY_FIELDS", "KeyForm", "key_faults", "key_forms", "read_forms", "read_toml"]

_FIRST, _LAST = 6, 4
"""How many characters of a key's random part are shown."""
_LEAST_LENGTH = 16
"""Of a secret's random part: of a shorter one the mask would show most."""
_BEGINNING = re.compile(r"[A-Za-z0-9_.:-]{3,24}")
_CLASS = r"(?:[A-Za-z0-9]-[A-Za-z0-9]|[A-Za-z0-9_.+/=]|-$)+"
_LETTERS = re.compile(_CLASS)
_ENVIRONMENT = re.compile(
    r"\[(?:[A-Za-z0-9]-[A-Za-z0-9]|[A-Za-z0-9_])+\]\{\d{1,2},\d{1,2}\}|[a-z0-9]+(?:\|[a-z0-9]+)*"
)
_DROPPED = (0, 2, 3)
"""Characters of base64 that say something of what stands before, by how many bytes that are."""
KEY_FIELDS = frozenset(
    {"begins", "environment", "environments", "letters", "length", "is_secret", "runbook"}
)


@dataclass(frozen=True)
class KeyForm:
    """How one kind of a vendor's keys looks.

    Attributes:
        vendor: The vendor's name.
        id: The vendor's name and the form's number.
        begins: What such keys begin with, one of these.
        environment: A pattern of the environment's name between the beginning and the random
            part, followed by ``_``; empty where keys have none.
        environments: Environments that a beginning says.
        letters: Of the random part, as in a character class.
        length: Of the random part, at least.
        is_secret: Whether who has it can use it; else it is a name, such as an access key's id.
    """

    vendor: str
    id: str
    begins: tuple[str, ...]
    environment: str
    environments: Mapping[str, str] = field(hash=False)
    letters: str
    length: int
    is_secret: bool

    @cached_property
    def _head(self) -> str:
        begins = "|".join(re.escape(each) for each in self.begins)
        return f"(?:{begins})" + (f"(?:(?:{self.environment})_)?" if self.environment else "")

    @property
    def pattern(self) -> str:
        """A whole key, valid and the same for re and RE2."""
        return f"{self._head}[{self.letters}]{{{self.length},}}"

    @cached_property
    def whole(self) -> re.Pattern[str]:
        """A whole key; of its groups ``head``, ``first`` and ``last`` are shown."""
        middle = max(0, self.length - _FIRST - _LAST)
        return re.compile(
            f"(?P<head>{self._head})(?P<first>[{self.letters}]{{{_FIRST}}})"
            f"[{self.letters}]{{{middle},}}(?P<last>[{self.letters}]{{{_LAST}}})",
            re.ASCII,
        )

    @property
    def masked_pattern(self) -> str:
        """The masked form, for RE2, with the hash that redaction appends."""
        return (
            f"{self._head}[{self.letters}]{{{_FIRST}}}…[{self.letters}]{{{_LAST}}}#[0-9a-f]{{16}}"
        )

    @property
    def environment_pattern(self) -> str:
        """The beginning of a key, for RE2; its group 1 is the environment."""
        begins = "|".join(re.escape(each) for each in self.begins)
        return f"^(?:{begins})({self.environment})_" if self.environment else ""

    @cached_property
    def base64_beginnings(self) -> tuple[tuple[str, str], ...]:
        """What a key begins with in base64 at each place in a group of bytes (RFC 4648, section 4).

        With each goes what makes of it the begin of a group again.
        """
        found = {}
        for begins in self.begins:
            for before, dropped in enumerate(_DROPPED):
                data = bytes(before) + begins.encode()
                whole = base64.b64encode(data).decode()[: len(data) * 8 // 6]
                found[whole[dropped:]] = whole[:dropped]
        return tuple(found.items())

    def is_form_of(self, shown: str) -> bool:
        """Whether a key, whole or masked, is of this form."""
        return shown.startswith(self.begins) and (
            "…" in shown or "..." in shown or "*" in shown or bool(self.whole.fullmatch(shown))
        )

    @property
    def shown(self) -> str:
        """How such keys look, in words: ``xyz_live_(ENVIRONMENT_)…``."""
        named = "(ENVIRONMENT_)…" if self.environment else "…"
        return ", ".join(f"{each}{named}" for each in self.begins)


def key_forms() -> tuple[KeyForm, ...]:
    """The forms of all vendors whose ``[[keys]]`` can be read; the bundled vendors' first."""
    return _known(known_folders())[0]


def key_faults() -> Mapping[str, VendorError]:
    """Why the forms of a vendor can't be read, by its folder; its keys are stored as they are."""
    return _known(known_folders())[1]


@cache
def _known(outside: tuple[Path, ...]) -> tuple[tuple[KeyForm, ...], Mapping[str, VendorError]]:
    forms: list[KeyForm] = []
    faults: dict[str, VendorError] = {}
    for folder in folders_of("vendors", outside):
        try:
            forms += read_forms(folder)
        except VendorError as e:
            faults[str(folder)] = e
    return tuple(forms), MappingProxyType(faults)


def read_toml(file: Path) -> dict[str, object]:
    """The content of a vendor's TOML file.

    Raises:
        VendorError: it can't be read, or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise VendorError(f"{file}: can't be read ({e.strerror})") from e
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise VendorError(f"{file}: not valid TOML: {e}") from e


def read_forms(folder: Path) -> list[KeyForm]:
    """The forms that the vendor in `folder` names.

    Raises:
        VendorError: its file can't be read, or a form is wrong.
    """
    file = folder / "vendor.toml"
    keys = {"keys": read_toml(file).get("keys", [])}
    top = Entry(file, "the top", keys, {"keys"}, VendorError)
    return [
        _read_form(entry, folder.name, number)
        for number, entry in enumerate(top.entries("keys", KEY_FIELDS, least=0), start=1)
    ]


def _read_form(entry: Entry, vendor: str, number: int) -> KeyForm:
    begins = entry.texts("begins")
    for each in begins:
        if not _BEGINNING.fullmatch(each):
            raise entry.error(
                f"`begins` has {each!r}; 3 to 24 letters, digits and _.:- are expected"
            )
    letters = entry.text("letters")
    if not _LETTERS.fullmatch(letters):
        raise entry.error(f"`letters` is {letters!r}; a character class such as A-Za-z0-9")
    environment = entry.text("environment", "")
    if environment and not _ENVIRONMENT.fullmatch(environment):
        raise entry.error(
            f"`environment` is {environment!r}; [a-z0-9]{{2,12}} or dev|prod is expected"
        )
    environments = entry.inner("environments", frozenset(begins))
    is_secret = entry.flag("is_secret", default=True)
    length = entry.number("length")
    if is_secret and length < _LEAST_LENGTH:
        raise entry.error(f"`length` is {length}; a secret has {_LEAST_LENGTH} or more")
    return KeyForm(
        vendor,
        f"{vendor}-key" if number == 1 else f"{vendor}-key-{number}",
        begins,
        environment,
        {each: environments.text(each) for each in environments.table},
        letters,
        length,
        is_secret,
    )
