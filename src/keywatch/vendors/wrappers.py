"""What services and log shippers put around a record (`data/wrappers.toml`), and taking it off."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from keywatch.content import content_path

_STEP = re.compile(r"(\w+)(\[\])?(\{\})?")
_LOADS = json.JSONDecoder(strict=False, parse_float=str, parse_constant=lambda _: None).decode


@dataclass(frozen=True)
class _Step:
    name: str
    is_list: bool
    is_text: bool


@dataclass(frozen=True)
class Wrapper:
    """A way from a value to the records in it.

    Attributes:
        title: What puts it there, for people.
        path: As it stands in the file.
        notices: Texts that stand in place of a record, by their beginnings.
    """

    title: str
    path: str
    notices: tuple[str, ...] = ()

    @cached_property
    def steps(self) -> tuple[_Step, ...]:
        """The path's steps."""
        found = [_STEP.fullmatch(step) for step in self.path.split(".")]
        return tuple(_Step(step[1], bool(step[2]), bool(step[3])) for step in found if step)

    @cached_property
    def list_name(self) -> str:
        """The list in which all records stand, where the path begins with one; else empty."""
        return self.steps[0].name if self.steps[0].is_list else ""

    def found_in(self, value: object) -> Iterator[dict[str, Any]]:
        """The records in `value`; none where it is not wrapped like this."""
        return (one for one in _inner(value, self.steps) if isinstance(one, dict))

    def taken_off(self, text: str, *, in_list: bool = False) -> list[str]:
        """The records in the JSON `text`, each as text; `text` itself where it has none.

        What stands in a record's place and is none stays, as a line that can't be read. With
        `in_list` the text is an element of the list that the path begins with.
        """
        steps = self.steps[1:] if in_list else self.steps
        if not steps:
            return [text]
        try:
            found = list(_inner(_LOADS(text), steps))
        except (ValueError, RecursionError):
            return [text]
        texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
                 for one in found]  # fmt: skip
        kept = [one for one in texts if not one.startswith(self.notices)] if self.notices else texts
        return kept if texts else [text]


def _inner(value: object, steps: tuple[_Step, ...]) -> Iterator[object]:
    """What stands where `steps` lead to: records, and what stands there in their place."""
    if not steps:
        yield value
        return
    step = steps[0]
    inner = value.get(step.name) if isinstance(value, dict) else None
    if inner is None:
        return
    if step.is_list and not isinstance(inner, list):
        return
    for one in inner if step.is_list else [inner]:
        if not step.is_text:
            yield from _inner(one, steps[1:])
        elif isinstance(one, str):
            yield from _inner(_parsed(one), steps[1:])


def _parsed(text: str) -> object:
    """The JSON value of `text`; the text where it is no object."""
    try:
        value = _LOADS(text.strip())
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


@cache
def wrappers() -> tuple[Wrapper, ...]:
    """All of them, in the order in which they are tried."""
    table = tomllib.loads(content_path("data/wrappers.toml").read_text(encoding="utf-8"))
    return tuple(
        Wrapper(one["title"], one["path"], tuple(one.get("notices", ())))
        for one in table["wrapper"]
    )
