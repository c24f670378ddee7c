"""What a vendor's least privilege is written in (``[policy]`` of ``vendor.toml``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keywatch.content import Entry

__all__ = ["POLICY_FIELDS", "PolicyForm", "read_policy"]

POLICY_FIELDS = frozenset(
    {
        "form", "note", "document", "limited", "private", "longest", "version", "unneeded",
        "services", "actions",
    }
)  # fmt: skip
_FORMS = ("scopes", "document")
_SERVICE, _ACTION = re.compile(r"[a-z0-9-]+"), re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")


@dataclass(frozen=True)
class PolicyForm:
    """How a vendor limits what a key may do.

    Attributes:
        form: ``scopes`` of its catalogue, or ``document``, a policy as JSON.
        note: What whoever applies it has to know.
        document: The policy, in which ``"{actions}"`` stands for the list of permissions.
        limited: The same, limited to the list ``"{addresses}"``; None where none can be.
        private: What to do about private addresses, which `limited` does not see.
        longest: Letters that a policy may have, blanks not counted; 0 where that is not known.
        version: What may stand behind a call's name in the log and is no part of the permission.
        unneeded: Calls that need no permission.
        services: The permission's service, by the log's, where it has another name.
        actions: The permissions, by the log's call, where they have other names.
    """

    form: str
    note: str
    document: Any = field(hash=False)
    limited: Any = field(hash=False)
    private: str
    longest: int
    version: re.Pattern[str]
    unneeded: frozenset[str]
    services: Mapping[str, str] = field(hash=False)
    actions: Mapping[str, tuple[str, ...]] = field(hash=False)

    def actions_of(self, calls: Iterable[str]) -> tuple[list[str], list[str]]:
        """The permissions that `calls` need, and the calls that can't be one, each sorted.

        >>> dated = re.compile("2015[0-9]{4}$")
        >>> form = PolicyForm("document", "", {}, None, "", 0, dated, frozenset(), {}, {})
        >>> form.actions_of(["lambda:ListFunctions20150331", "GET /"])
        (['lambda:ListFunctions'], ['GET /'])
        """
        allowed, others = set[str](), set[str]()
        for call in calls:
            service, _, name = call.partition(":")
            plain = f"{service}:{self.version.sub('', name)}"
            if plain in self.unneeded:
                continue
            own = f"{self.services.get(service, service)}:{plain.partition(':')[2]}"
            needed = self.actions.get(plain, (own,))
            if all(map(_ACTION.fullmatch, needed)):
                allowed.update(needed)
            else:
                others.add(call)
        return sorted(allowed), sorted(others)

    def filled(self, actions: Sequence[str], addresses: Sequence[str]) -> Any:
        """The policy that allows these actions and, where there are any, only from `addresses`."""
        template = self.limited if addresses and self.limited else self.document
        return _filled(template, {"{actions}": [*actions], "{addresses}": [*addresses]})


def _filled(template: Any, words: Mapping[str, list[str]]) -> Any:
    """A JSON value in which a text that is one of `words` is replaced by its list."""
    match template:
        case str():
            return words.get(template, template)
        case list():
            return [_filled(each, words) for each in template]
        case dict():
            return {name: _filled(value, words) for name, value in template.items()}
    return template


def read_policy(entry: Entry) -> PolicyForm:
    """The form of a ``[policy]`` table.

    Raises:
        VendorError: a field is missing or wrong.
    """
    form = entry.text("form")
    if form not in _FORMS:
        raise entry.error(f"`form` is {form!r}; use {' or '.join(_FORMS)}")
    version = entry.text("version", "")
    try:
        pattern = re.compile(f"(?:{version})$" if version else "$^", re.ASCII)
    except re.error as e:
        raise entry.error(f"`version` is {version!r}, not a regular expression: {e}") from e
    document = _template(entry, "document", "{actions}")
    if form == "document" and document is None:
        raise entry.error("`document` is missing; write the policy as JSON")
    return PolicyForm(
        form,
        entry.text("note", ""),
        document,
        _template(entry, "limited", "{addresses}"),
        entry.text("private", ""),
        entry.number("longest") if "longest" in entry.table else 0,
        pattern,
        frozenset(entry.texts("unneeded", ())),
        {name: one for name, (one, *_) in _names(entry.inner("services"), _SERVICE).items()},
        _names(entry.inner("actions"), _ACTION),
    )


def _template(entry: Entry, name: str, word: str) -> Any:
    text = entry.text(name, "")
    if not text:
        return None
    try:
        template = json.loads(text)
    except ValueError as e:
        raise entry.error(f"`{name}` is not JSON: {e}") from e
    if f'"{word}"' not in text:
        raise entry.error(f'`{name}` lacks "{word}", which stands for a list; add it')
    return template


def _names(entry: Entry, shape: re.Pattern[str]) -> dict[str, tuple[str, ...]]:
    named = {
        name: (entry.text(name),) if isinstance(value, str) else entry.texts(name)
        for name, value in entry.table.items()
    }
    for name, values in named.items():
        for value in values:
            if not shape.fullmatch(value):
                raise entry.error(f"{name!r} is {value!r}; {shape.pattern} is expected")
    return named
