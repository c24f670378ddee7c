"""A vendor's runbook (``[runbook]`` of ``vendor.toml``): steps as texts with words to fill in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keywatch.content import Entry

__all__ = ["RUNBOOK_FIELDS", "Runbook", "read_runbook"]

_TEXTS = (
    "revoke", "replace", "overlap", "retire", "switch", "delete", "check", "console", "link",
)  # fmt: skip
_LISTS = ("restrict", "roll_back")
RUNBOOK_FIELDS = frozenset({*_TEXTS, *_LISTS, "names"})
_WORDS = frozenset({"key", "key_id", "owner", "environment", "scopes", "console", "link"})
_WORD = re.compile(r"\{([a-z_]+)\}")
_COMMAND = re.compile(r"`[^`]*`")
_SAFE = re.compile(r"\w[\w+=,.@:/-]*", re.ASCII)
"""What may stand in a command that is there to be pasted; the rest comes from a log."""
_NAME_FIELDS = frozenset({"of", "regex", "otherwise"})


@dataclass(frozen=True)
class _Name:
    """A word that is cut out of the key's owner or id: group 1 of `regex`, else `otherwise`."""

    of: str
    regex: re.Pattern[str]
    otherwise: str

    def found(self, words: Mapping[str, str]) -> str:
        match = self.regex.fullmatch(words[self.of])
        return match[1] if match else self.otherwise


@dataclass(frozen=True)
class Runbook:
    """How keys of one kind are replaced and revoked.

    Attributes:
        restrict: Steps that stop a stolen key at once and can be taken back; they come first.
        revoke: What ends a stolen key; the first step where there is nothing to restrict.
        replace: Make another key.
        overlap: How long the old and the new key are valid side by side.
        retire: Revoke a key that others may have read, once its use has moved. Without it the key
            is revoked as a stolen one is.
        switch: What consumers do; theirs are appended.
        delete: What is left to do once nothing needs the revoked key; may be empty.
        check: See that no use follows.
        roll_back: Steps that take back what was done, where the use was the owner's after all.
        console: Where in the vendor's console keys are.
        link: The vendor's page about it.
        names: Words of its own, by name.
    """

    restrict: tuple[str, ...]
    revoke: str
    replace: str
    overlap: str
    retire: str
    switch: str
    delete: str
    check: str
    roll_back: tuple[str, ...]
    console: str
    link: str
    names: Mapping[str, _Name] = field(hash=False)

    def filled(self, text: str, words: Mapping[str, str]) -> str:
        """`text` with each ``{word}`` filled in.

        Within backticks stands what can be pasted: a value that might be more than one word to a
        shell is left out, and its name in capitals stands for it.
        """
        own = {name: each.found(words) for name, each in self.names.items()}
        known = {**words, "console": self.console, "link": self.link, **own}
        pasted = {name: value if _SAFE.fullmatch(value) else name.upper()
                  for name, value in known.items()}  # fmt: skip
        commands = _COMMAND.sub(lambda found: _with(found[0], pasted), text)
        return _with(commands, known)


def _with(text: str, words: Mapping[str, str]) -> str:
    return _WORD.sub(lambda found: words[found[1]], text)


def read_runbook(entry: Entry) -> Runbook:
    """The runbook of a table of ``vendor.toml``.

    Raises:
        VendorError: a field is missing or wrong, or a text has a word that nothing fills in.
    """
    names = entry.inner("names")
    found = {name: _read_name(names, name) for name in names.table}
    texts = {name: entry.text(name, "") for name in _TEXTS}
    lists = {name: entry.texts(name, ()) for name in _LISTS}
    for name in ("revoke", "replace"):
        entry.text(name)
    every = [*texts.items(), *((name, text) for name in _LISTS for text in lists[name])]
    for name, text in every:
        if unknown := sorted(set(_WORD.findall(text)) - _WORDS - found.keys()):
            known = ", ".join(sorted(_WORDS | found.keys()))
            raise entry.error(f"`{name}` has {{{unknown[0]}}}, which is unknown; use {known}")
    for name in ("console", "link"):
        if not texts[name] and any(f"{{{name}}}" in text for _, text in every):
            raise entry.error(f"`{name}` is used but not set; add it")
    values: dict[str, Any] = {**texts, **lists}
    return Runbook(**values, names=found)


def _read_name(names: Entry, name: str) -> _Name:
    entry = names.inner(name, _NAME_FIELDS)
    if name in _WORDS:
        raise entry.error(f"{name!r} is already defined; use another name")
    of, regex, otherwise = (entry.text(each) for each in ("of", "regex", "otherwise"))
    if of not in ("owner", "key_id"):
        raise entry.error(f"`of` is {of!r}; owner or key_id is expected")
    try:
        pattern = re.compile(regex, re.ASCII)
    except re.error as e:
        raise entry.error(f"`regex` is {regex!r}, which is not a regular expression: {e}") from e
    if pattern.groups != 1:
        raise entry.error(f"`regex` is {regex!r}; it needs one group, the word")
    return _Name(of, pattern, otherwise)
