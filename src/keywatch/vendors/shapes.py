"""How a log stands in its file: one record a line or JSON values, plain or wrapped.

The file's beginning tells; what it tells holds for the whole of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from keywatch.vendors.wrappers import Wrapper, wrappers

_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
_BETWEEN = re.compile(r"[\s,]*")
_EMPTY_LISTS = re.compile(r"\A(?:\s*\[[\s,\[\]]*\]\s*)*\Z")
_LIST_BEGINS = re.compile(
    r"""\{\s*(?:"[^"]*"\s*:\s*(?:"[^"]*"|[\w.+-]+)\s*,\s*)*"(\w+)"\s*:\s*\["""
)
_LOOKED_AT = 50
_OF_EACH = 3
"""Records of one value that are looked at: they are of one kind, mostly."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How records stand in a file.

    Attributes:
        is_lines: One value a line; else values that may have many lines, and lists of them.
        wrapper: What is around each; None for nothing.
        is_prefixed: Other text stands before the value in each line, as container runtimes and
            syslog write it.
    """

    is_lines: bool
    wrapper: Wrapper | None = None
    is_prefixed: bool = False


def records_of(head: str) -> Iterator[tuple[Record, Shape]]:
    """The first records that may be in a file which begins with `head`, each with its shape.

    Of a value there may be several: itself, and what is in it.
    """
    text = head.lstrip()
    if not text.startswith(("{", "[")):
        yield from _prefixed(text)
        return
    is_lines, values = _first_values(text)
    shape = Shape(is_lines)
    for value in values:
        for one in islice(value if isinstance(value, list) else [value], _OF_EACH):
            yield from _with_wrappers(one, shape)
    if not is_lines:
        yield from _of_long_list(text)


def shape_for(head: str, fits: Callable[[Record], bool]) -> Shape | None:
    """The shape in which a record that `fits` stands in the file; None where none is found."""
    return next((shape for record, shape in records_of(head) if fits(record)), None)


def holds_nothing(head: str) -> bool:
    """Whether a file that begins with `head` is whole and has lists for records, all empty."""
    text = _EMPTY_LISTS.sub("", head)
    if not text.strip(" \t\r\n,"):
        return True
    values = list(islice(_values(text), _LOOKED_AT))
    names = {wrapper.list_name for wrapper in wrappers()}
    return bool(values) and all(
        isinstance(value, dict) and any(value.get(name) == [] for name in names) for value in values
    )


def default_shape(head: str) -> Shape:
    """How a file stands of which no record is known."""
    text = head.lstrip()
    return Shape(is_lines=not text.startswith(("{", "[")) or _first_values(text)[0])


def _with_wrappers(value: object, shape: Shape) -> Iterator[tuple[Record, Shape]]:
    if not isinstance(value, dict):
        return
    yield value, shape
    for wrapper in wrappers():
        if wrapper.steps[0].name not in value:
            continue
        # A list may be longer than a line may be.
        is_lines = shape.is_lines and (shape.is_prefixed or not wrapper.list_name)
        for record in islice(wrapper.found_in(value), _OF_EACH):
            yield record, replace(shape, is_lines=is_lines, wrapper=wrapper)


@lru_cache(maxsize=2)
def _first_values(text: str) -> tuple[bool, tuple[object, ...]]:
    """Whether `text`, which begins with a JSON value, has one a line; and the first values.

    A line that is one tells. Remembered, for a file is looked at to know it and to read it.
    """
    if text.startswith("{"):
        records = tuple(_of_lines(text))
        if records and not _begins_with_list(text):
            return True, records
    return False, tuple(islice(_values(text), _LOOKED_AT))


def _begins_with_list(text: str) -> bool:
    """Whether a document begins whose list goes on in other lines, of which some may be whole."""
    first = text.partition("\n")[0]
    begins = _LIST_BEGINS.match(first)
    lists = {wrapper.list_name for wrapper in wrappers()}
    return bool(begins and begins[1] in lists) and next(_of_lines(first), None) is None


def _of_lines(text: str) -> Iterator[Record]:
    """Those of the first lines that are JSON objects."""
    for line in islice(text.split("\n"), _LOOKED_AT):
        if line.startswith("{"):
            try:
                value, end = _DECODER.raw_decode(line)
            except (ValueError, RecursionError):
                continue
            if not line[end:].strip() and value:
                yield value


def _values(text: str) -> Iterator[object]:
    """The values that follow one another, of a list its elements, as far as they are whole."""
    at = 0
    while at < len(text):
        between = _BETWEEN.match(text, at)
        assert between is not None
        at = between.end()
        # A list may be longer than what is seen of it.
        if text.startswith(("[", "]"), at):
            at += 1
            continue
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value


def _of_long_list(text: str) -> Iterator[tuple[Record, Shape]]:
    """The first records of a document whose list goes on beyond what is seen of it."""
    for wrapper in wrappers():
        if not wrapper.list_name:
            continue
        begins = re.search(rf'"{wrapper.list_name}"\s*:\s*\[', text)
        if begins is None:
            continue
        for value in islice(_values(text[begins.end() :]), _OF_EACH):
            for record in wrapper.found_in({wrapper.list_name: [value]}):
                yield record, Shape(is_lines=False, wrapper=wrapper)


def _prefixed(text: str) -> Iterator[tuple[Record, Shape]]:
    for line in islice(text.split("\n"), _LOOKED_AT):
        at = line.find("{")
        if at > 0:
            for value in _of_lines(line[at:]):
                yield from _with_wrappers(value, Shape(is_lines=True, is_prefixed=True))
