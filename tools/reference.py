"""The reference pages of the documentation site as Markdown, made of the code at each build.

A page in docs/ that has the line ``<!-- generated: NAME -->`` gets the text of `PARTS` there
(docs/conf.py); ``python tools/reference.py NAME`` prints it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard, get_args

from cyclopts import App
from cyclopts.argument import Argument
from pydantic import BaseModel

from keywatch.cli import Common, app
from keywatch.deliver import message_schema
from keywatch.detect.detectors import Detector, load_detectors
from keywatch.load.inventory import inventory_schema
from keywatch.model import Technique
from keywatch.operate.lake_status import status_schema
from keywatch.settings import Settings
from keywatch.settings.deliver import ChannelSettings, Heartbeat, QuietHours, Route
from keywatch.settings.explaining import DELIMITER, PREFIX
from keywatch.settings.secret_ref import SecretRef
from keywatch.settings.storage import S3Settings
from keywatch.text.attack import technique
from keywatch.text.document import review_schema
from keywatch.vendors.listing import Listing
from keywatch.vendors.registry import Vendor, vendors
from keywatch.vendors.source import FORMS

Schema = Mapping[str, Any]

_SPECIAL = re.compile(r"([\\*_|<>\[\]`#])")
_OPTION = re.compile(r"(?<![\w\\-])--[a-z][a-z-]*")
_LITERAL = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
_HIDDEN_NAMES = ("--no-", "--empty-")


def plain(text: str) -> str:
    """Text without markup as Markdown on one line, options as code."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _OPTION.sub(lambda found: f"`{found[0]}`", escaped)


def marked(text: str) -> str:
    """Text with code in backticks, single or double, as Markdown on one line."""
    parts = []
    last = 0
    for found in _LITERAL.finditer(text):
        parts += [plain(text[last : found.start()]), code(found[1] or found[2])]
        last = found.end()
    parts.append(plain(text[last:]))
    # Each part lost the spaces at its ends.
    return re.sub(r" (?=[.,;:)])", "", " ".join(part for part in parts if part)).replace("( ", "(")


def code(text: str) -> str:
    """A name or a value as code, also in a table."""
    return f"`{text.replace('|', chr(92) + '|')}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; empty where it has no rows."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    names = list(head)
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(names)} |", "|" + " --- |" * len(names), *body]) + "\n"


# ---------------------------------------------------------------------------------------- commands


def commands() -> str:
    """Each command and group with usage, arguments, options and examples."""
    names = {code(f"--{name}") for name in _docstrings(Common)}
    common = [row for row in map(_option_row, _arguments(app["review"])) if row[0] in names]
    parts = ["## Options of every command\n", table(("option", "meaning", "default"), common)]
    for words, part in walk(app):
        parts.append(f"{'#' * (len(words) + 1)} keywatch {' '.join(words)}\n")
        parts += _command(words, part, common)
    return "\n".join(parts)


def walk(part: App, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Each command and group below `part`, by the words that call it."""
    for name in part:
        if name not in {*part.help_flags, *part.version_flags}:
            yield (*words, name), part[name]
            yield from walk(part[name], (*words, name))


Row = tuple[str, str, str]


def _command(words: tuple[str, ...], part: App, common: list[Row]) -> Iterator[str]:
    told = inspect.cleandoc(part.help).partition("\nParameters\n---")[0]
    yield "\n\n".join(plain(paragraph) for paragraph in told.strip().split("\n\n")) + "\n"
    if part.default_command is not None:
        arguments = _arguments(part)
        takes = "".join(f" {_placed(one)}" for one in arguments if one.index is not None)
        yield f"```text\nkeywatch {' '.join(words)}{takes} [OPTIONS]\n```\n"
        rows = [row for row in map(_option_row, arguments) if row not in common]
        yield table(("argument or option", "meaning", "default"), rows)
    examples = inspect.cleandoc((part.help_epilogue or "").partition("\n\n")[2])
    yield f"```\n{examples}\n```\n"


def _arguments(part: App) -> list[Argument]:
    found = part.assemble_argument_collection(parse_docstring=True)
    return [one for one in found if one.names != ("*",)]


def _placed(argument: Argument) -> str:
    """An argument without a name of its own, as usage shows it."""
    name = argument.name.removeprefix("--").upper()
    several = argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL
    shown = f"{name}…" if several else name
    return shown if argument.required else f"[{shown}]"


def _option_row(one: Argument) -> Row:
    if one.index is not None:
        name = code(_placed(one).strip("[]"))
    else:
        shown = (name for name in one.names if not name.startswith(_HIDDEN_NAMES))
        name = ", ".join(code(name) for name in shown)
    return name, _meaning_of(one), _default_of(one)


def _meaning_of(one: Argument) -> str:
    meaning = plain(one.parameter.help or "")
    if choices := one.get_choices():
        missing = [choice for choice in choices if choice not in (one.parameter.help or "")]
        if missing:
            meaning += f" One of {', '.join(map(code, choices))}."
    for name in one.parameter.env_var or ():
        meaning += f" Also {code(name)}."
    return meaning


def _default_of(one: Argument) -> str:
    if one.required:
        return "required"
    value = one.field_info.default
    nothing = value is inspect.Parameter.empty or value is None or value is False
    return "" if nothing or value in ((), "") else code(str(value))


# ---------------------------------------------------------------------------------------- settings


def settings() -> str:
    """Each section of the settings with its fields."""
    parts: list[str] = []
    for name, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        parts += _section((name,), model)
    for model in CHANNELS:
        kind = get_args(model.model_fields["kind"].annotation)[0]
        parts += _section(("deliver", "channels", "NAME"), model, f"deliver.channels: {kind}")
    parts += _section(("deliver", "routes"), Route)
    parts += _section(("deliver", "quiet_hours"), QuietHours)
    parts += _section(("deliver", "heartbeat"), Heartbeat)
    parts += ["## Secrets\n", marked(SecretRef.__doc__ or "") + "\n", _fields((), SecretRef)]
    return "\n".join(parts)


CHANNELS: tuple[type[BaseModel], ...] = get_args(get_args(ChannelSettings)[0])
_APART = {("deliver", "channels"), ("deliver", "routes"), ("deliver", "quiet_hours"),
          ("deliver", "heartbeat")}  # fmt: skip
"""Fields of [deliver] whose tables are sections of their own."""
_LISTS = {("deliver", "routes")}


def _section(path: tuple[str, ...], model: type[BaseModel], title: str = "") -> Iterator[str]:
    shown = ".".join(path)
    head = f"[[{shown}]]" if path in _LISTS else f"[{shown}]"
    kind = "with " + code(f'kind = "{title.rpartition(" ")[2]}"') + " " if title else ""
    yield f"## {title or shown}\n"
    yield f"`{head}` {kind}– {marked(_first_paragraph(model))}\n"
    yield _fields(path, model)
    for name, field in model.model_fields.items():
        if _is_section(nested := field.annotation):
            yield from _section((*path, name), nested)


def _is_section(kind: object) -> TypeGuard[type[BaseModel]]:
    """Whether a field with this type has a table of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not SecretRef


def _first_paragraph(model: type) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0]


def _fields(path: tuple[str, ...], model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    meanings = _docstrings(model)
    rows = []
    for name, one in schema["properties"].items():
        nested = model.model_fields[name].annotation
        if _is_section(nested) or "const" in one:
            continue
        type_ = "see below" if (*path, name) in _APART else type_text(one, schema)
        default = "required" if name in schema.get("required", ()) else _default(one)
        row = [code(name), type_, default, marked(_first_paragraph_of(meanings.get(name, "")))]
        if path and path[:2] not in _APART and (*path, name) not in _APART:
            row[3] += f"<br>`{PREFIX}{DELIMITER.join((*path, name)).upper()}`"
        rows.append(row)
    return table(("setting", "type", "default", "meaning, environment variable"), rows)


def _first_paragraph_of(text: str) -> str:
    return inspect.cleandoc(text).partition("\n\n")[0]


def undescribed() -> list[str]:
    """The settings whose meaning nothing states, as Model.field; a test wants none."""
    models = [field.annotation for field in Settings.model_fields.values()]
    models += [*CHANNELS, Route, QuietHours, Heartbeat, SecretRef, S3Settings]
    return [
        f"{model.__name__}.{name}"
        for model in models
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
        if name not in _docstrings(model) and name != "kind" and not _is_section(field.annotation)
    ]


@functools.cache
def _docstrings(model: type) -> dict[str, str]:
    """Field → the text in quotes below it, as in the class or the classes it is made of."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if not part.__module__.startswith("keywatch."):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(part))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = text
    return found


def _default(one: Schema) -> str:
    value = one.get("default")
    if value in (None, {}, [], ()):
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {code(json.dumps(each))}" for name, each in value.items())
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return code(json.dumps(value, ensure_ascii=False))


# ----------------------------------------------------------------------------------------- schemas


def schemas() -> str:
    """The fields of each JSON document that Keywatch writes or reads."""
    known = {
        "Review": ("keywatch review --schema", review_schema()),
        "Message": ("keywatch deliver --schema", message_schema()),
        "Inventory": ("keywatch keys schema", inventory_schema()),
        "Lake status": ("keywatch lake status --schema", status_schema()),
    }
    parts = []
    for title, (command, schema) in known.items():
        parts += [f"## {title}\n", f"`{command}` prints the JSON Schema.\n"]
        parts += [marked(schema.get("description", "")) + "\n", _object(schema, schema, title)]
        for name, one in schema.get("$defs", {}).items():
            if "properties" in one:
                parts += [f"### {title}: {name}\n", marked(one.get("description", "")) + "\n"]
                parts.append(_object(one, schema, title))
    return "\n".join(parts)


def _object(one: Schema, whole: Schema, title: str) -> str:
    return table(("field", "type", "meaning"), _object_rows(one, whole, title, ""))


def _object_rows(one: Schema, whole: Schema, title: str, path: str) -> Iterator[list[str]]:
    for name, each in one["properties"].items():
        meaning = marked(
            each.get("description", "") or _resolved(each, whole).get("description", "")
        )
        if name not in one.get("required", ()):
            meaning += " Optional."
        yield [code(path + name), type_text(each, whole, title), meaning.strip()]
        if "properties" in each:
            yield from _object_rows(each, whole, title, f"{path}{name}.")
        elif "properties" in (items := each.get("items", {})):
            yield from _object_rows(items, whole, title, f"{path}{name}[].")


def _resolved(one: Schema, whole: Schema) -> Schema:
    while "$ref" in one:
        found: Any = whole
        for part in one["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        one = found
    return one


_TYPES = {
    "string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
    "null": "null", "object": "table", "array": "list",
}  # fmt: skip
_FORMATS = {"path": "path", "date": "date", "date-time": "time", "time": "time of day"}
_LIMITS = (("minimum", "at least"), ("exclusiveMinimum", "more than"),
           ("maximum", "at most"), ("exclusiveMaximum", "less than"))  # fmt: skip


def type_text(one: Schema, whole: Schema, title: str = "") -> str:
    """What a JSON Schema admits, in a few words; objects are linked below the heading `title`."""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        found = _resolved(one, whole)
        if name == "SecretRef":
            return "[secret](#secrets)"
        if "properties" in found and title:
            return f"[{name}](#{title.lower().replace(' ', '-')}-{name})"
        return type_text(found, whole, title)
    for key in ("anyOf", "oneOf"):
        if key in one:
            return _or(one[key], whole, title)
    if "const" in one:
        return code(json.dumps(one["const"]))
    if "enum" in one:
        return ", ".join(code(json.dumps(each)) for each in one["enum"])
    kinds = one.get("type", "any value")
    if isinstance(kinds, list):
        return _or([{**one, "type": kind} for kind in kinds], whole, title)
    if kinds == "array":
        items = type_text(one["items"], whole, title) if "items" in one else "values"
        return f"list of {items}"
    text = str(_TYPES.get(kinds, kinds))
    if kinds == "string":
        text = _FORMATS.get(one.get("format", ""), text)
    if kinds in ("integer", "number"):
        limits = [f"{words} {_number(one[key])}" for key, words in _LIMITS if key in one]
        text = ", ".join([text, *limits])
    return text


def _or(choices: Iterable[Schema], whole: Schema, title: str) -> str:
    """One of several types; a setting that is null is one that is not set, and goes without it."""
    texts = [
        type_text(each, whole, title) for each in choices if title or each.get("type") != "null"
    ]
    return " or ".join(dict.fromkeys(texts))


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


# --------------------------------------------------------------------------------------- detectors


def detectors() -> str:
    """Each detector with what its folder states."""
    found = load_detectors()
    rows = [
        [
            f"[{code(one.id)}](#{one.id})", plain(one.title), one.family, one.status,
            one.technique,
        ]
        for one in found
    ]  # fmt: skip
    parts = [table(("detector", "finding", "family", "status", "ATT&CK"), rows)]
    for one in found:
        parts += _detector(one)
    return "\n".join(parts)


def _detector(one: Detector) -> Iterator[str]:
    yield f"## {one.id}\n"
    yield f"**{plain(one.title)}.** [How it works](../detectors/{one.id}/README.md)\n"
    rows = [
        ["family, grain", f"{one.family}, {code(one.grain)}"],
        ["status", f"{one.status}{_standing(one)}"],
        ["kind, history", f"{code(one.kind)}, {code(one.history)}"],
        ["ATT&CK", _attack(technique(one.technique))],
        ["known gaps", plain(one.about.known_gaps)],
        ["false positives", plain(one.about.false_positives)],
        ["parameters", "<br>".join(code(f"{name} = {json.dumps(value)}")
                                   for name, value in one.params.items())],
    ]  # fmt: skip
    yield table(("", ""), [row for row in rows if row[1]])


def _standing(one: Detector) -> str:
    if one.hygiene:
        return ", key hygiene: shown, not counted as evidence"
    if one.backstop:
        return ", a rule: adds no bits"
    if one.certain_bits is not None and one.action is not None:
        return f", a fact from {one.certain_bits:g} bits on: {code(one.action)}"
    return ""


def _attack(found: Technique) -> str:
    names = ": ".join(filter(None, (found.name, found.part)))
    tactics = ", ".join(f"{name} ({uid})" for uid, name in found.tactics)
    return f"{found.uid} {names}. Tactics: {tactics}"


# ----------------------------------------------------------------------------------------- sources


def sources() -> str:
    """Each vendor's log formats, key forms, inventories and leak reports."""
    parts = []
    for vendor in vendors():
        parts += [f"## {vendor.name}\n", f"{plain(vendor.title)}. {_about(vendor)}\n"]
        rows = [
            [code(one.name), plain(one.title), ", ".join(FORMS[form] for form in one.forms),
             ", ".join(map(code, one.marks))]
            for one in vendor.sources
        ]  # fmt: skip
        parts.append(table(("log format", "log", "written as", "recognised by"), rows))
        lists = [("inventory", one) for one in vendor.inventories]
        lists += [("leak report", one) for one in vendor.leak_reports]
        rows = [_listing(what, one) for what, one in lists]
        parts.append(table(("list", "form", "title", "command"), rows))
    return "\n".join(parts)


def _about(vendor: Vendor) -> str:
    told = []
    if vendor.keys:
        told.append(f"Keys: {', '.join(code(form.shown) for form, _ in vendor.keys)}.")
    if vendor.catalogue is not None and vendor.catalogue.endpoints:
        told.append(f"Catalogue: {len(vendor.catalogue.endpoints)} endpoints.")
    return " ".join(told)


def _listing(what: str, one: Listing) -> list[str]:
    return [what, code(one.name), plain(one.title), code(one.command) if one.command else ""]


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "schemas": schemas,
    "detectors": detectors,
    "sources": sources,
}
"""What ``<!-- generated: NAME -->`` stands for, by its name."""

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def filled(page: str, others: Mapping[str, Callable[[], str]] = MappingProxyType({})) -> str:
    """A page's text with the parts that its markers name, of `PARTS` and `others`."""
    return _MARKER.sub(lambda found: {**PARTS, **others}[found[1]](), page)


if __name__ == "__main__":
    print(PARTS[sys.argv[1]]())
