"""What is wrong with settings, in sentences: where, the value found, and what was expected.

A value is shown only where its setting is a number, a switch or one of some words: what was written
elsewhere may be a secret.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from keywatch.hints import did_you_mean, nearest

PREFIX = "KEYWATCH_"
DELIMITER = "__"

_SHOWN = frozenset(
    {
        "bool_parsing", "bool_type", "float_parsing", "float_type", "greater_than",
        "greater_than_equal", "int_from_float", "int_parsing", "int_type", "less_than",
        "less_than_equal", "literal_error", "time_parsing", "union_tag_invalid",
    }
)  # fmt: skip
"""Kinds of error whose setting can't be a secret."""
_MOST_SHOWN = 60

Place = tuple[int | str, ...]
"""Names and positions from the top of the settings down."""


def explain(
    error: ValidationError, top: type[BaseModel], file: Path | None, text: str, values: Any
) -> str:
    """A line for each fault: file and line, or the variable, the setting, and what is expected.

    `text` is the file's, and `values` what TOML makes of it.
    """
    found = []
    for one in error.errors(include_url=False):
        place = _place(one["loc"], top)
        name = ".".join(map(str, place)) or "the settings"
        variable = _variable(place)
        if variable is not None:
            line, where = 0, variable
        elif file is not None:
            line = _line(text, values, place)
            where = f"{file}:{line}"
        else:
            line, where = 0, "the settings"
        found.append((line, f"{where}: {name}: {_said(one, top)}"))
    return "\n".join(sentence for _, sentence in sorted(found, key=lambda pair: pair[0]))


def ignored_variables(top: type[BaseModel]) -> list[str]:
    """The variables that look like settings but name no section, in sentences."""
    sections = [name.upper() for name in top.model_fields]
    told = []
    for name in sorted(os.environ):
        section, delimiter, rest = name.removeprefix(PREFIX).partition(DELIMITER)
        if name.startswith(PREFIX) and delimiter and section not in sections:
            meant = nearest(section, sections)
            if meant is not None:
                told.append(
                    f"the variable {name} is ignored: it names no section of the settings; did you "
                    f"mean {PREFIX}{meant}{DELIMITER}{rest}?"
                )
    return told


def not_json(top: type[BaseModel]) -> str:
    """Which variables should hold JSON and do not; a list or a table is written so."""
    wrong = []
    for name, value in sorted(os.environ.items()):
        place = tuple(name.removeprefix(PREFIX).lower().split(DELIMITER))
        annotation = _annotation(top, place) if name.startswith(PREFIX) else None
        if annotation is not None and _is_complex(annotation) and not _is_json(value):
            wrong.append(name)
    return (
        f"{', '.join(wrong) or 'the environment'}: not valid JSON: write a list as "
        '\'["a", "b"]\' and a table as \'{"name": "value"}\''
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_complex(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return any(map(_is_complex, get_args(annotation)))
    return get_origin(annotation) in (dict, list, tuple)


# ----------------------------------------------------------------------------------- what is wrong


def _said(error: ErrorDetails, top: type[BaseModel]) -> str:
    kind, told, value = error["type"], error["msg"], error["input"]
    place, context = error["loc"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = _names_at(top, place[:-1])
        hint = did_you_mean(str(place[-1]), known)
        return f"unknown setting{hint or '; available: ' + ', '.join(known)}"
    if kind == "missing":
        return "missing; it is required"
    if kind == "union_tag_not_found":
        return f"kind is missing; set it to one of {_kinds(top, place)}"
    if kind == "value_error":
        return told.removeprefix("Value error, ")
    if kind == "union_tag_invalid":
        tag, expected = context["tag"], context["expected_tags"]
        return f"kind is {_shown(tag)}, but should be one of {expected}{_meant(tag, expected)}"
    told = told.removeprefix("Input ")
    told = told.partition(", unable to")[0] if "parsing" in kind else told
    if kind == "literal_error":
        told += _meant(str(value), context["expected"])
    return f"{_shown(value)} {told}" if kind in _SHOWN else told


def _meant(word: str, expected: str) -> str:
    return did_you_mean(word, re.findall("'([^']*)'", expected))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]


def _kinds(top: type[BaseModel], place: Place) -> str:
    models = _models(_annotation(top, place))
    return ", ".join(repr(word) for model in models for word in _words(_type_of(model, "kind")))


# -------------------------------------------------------------------------------- where it is wrong


def _place(location: Place, top: type[BaseModel]) -> Place:
    """The place of an error less what is in no file: a channel's kind, the mark of a key."""
    return tuple(
        part
        for number, part in enumerate(location)
        if part != "[key]" and not _is_kind(part, _annotation(top, location[:number]))
    )


def _is_kind(part: int | str, annotation: Any) -> bool:
    models = _models(annotation) if get_origin(annotation) in (Annotated, Union, UnionType) else []
    return any(part in _words(_type_of(model, "kind")) for model in models)


def _variable(place: Place) -> str | None:
    """The variable that sets what is at `place`, or a table that it is in."""
    set_ = {name.upper(): name for name in os.environ}
    for length in range(len(place), 0, -1):
        name = PREFIX + DELIMITER.join(map(str, place[:length])).upper()
        if name in set_:
            return set_[name]
    return None


def _line(text: str, values: Any, place: Place) -> int:
    """The line (from 1) of the statement that first has `place`, or else the table it lacks in.

    A beginning of the file that is TOML by itself ends with a whole statement. So the place was
    written between the first beginning that has it and the one before.
    """
    inside: list[int | str] = []
    for part in place:
        found = _inner(values, part)
        if found is None:
            break
        inside.append(part)
        values = found
    lines = text.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            beginning: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _has(beginning, inside):
            return start
        start = end + 1
    return 1


def _inner(values: Any, part: int | str) -> Any:
    if isinstance(values, Mapping):
        return values.get(part)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return values[part]
    return None


def _has(values: Any, place: Iterable[int | str]) -> bool:
    for part in place:
        values = _inner(values, part)
        if values is None:
            return False
    return True


# --------------------------------------------------------------------------- what the settings have


def _names_at(top: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    return [
        name for model in _models(_annotation(top, tuple(place))) for name in model.model_fields
    ]


def _annotation(top: type[BaseModel], place: Place) -> Any:
    """The type of what is at `place`; None where the settings have no such place."""
    annotation: Any = top
    rest = list(place)
    while rest and annotation is not None:
        origin, inner = get_origin(annotation), get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = _type_of(annotation, str(rest.pop(0)))
        elif origin is Annotated:
            annotation = inner[0]
        elif origin in (Union, UnionType):
            of_kind = [one for one in inner if rest[0] in _words(_type_of(one, "kind"))]
            if of_kind:
                rest.pop(0)
            models = _models(annotation)
            annotation = of_kind[0] if of_kind else models[0] if models else inner[0]
        elif origin is dict:
            rest.pop(0)
            annotation = inner[1]
        elif origin in (list, tuple):
            rest.pop(0)
            annotation = inner[0]
        else:
            annotation = None
    return annotation


def _type_of(model: Any, name: str) -> Any:
    fields = getattr(model, "model_fields", {})
    return fields[name].annotation if name in fields else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
