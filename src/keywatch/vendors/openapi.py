"""A vendor's catalogue from the OpenAPI document of its API: endpoints, scopes, sensitive calls.

OpenAPI 3.0 to 3.2 and Swagger 2.0, as JSON or YAML (https://spec.openapis.org/oas/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keywatch.errors import InputError, UsageError
from keywatch.text.secrets import without_tokens
from keywatch.text.toml_value import toml_value
from keywatch.vendors.catalogue import Endpoint, Scope, read_catalogue
from keywatch.vendors.endpoints import plain_path
from keywatch.vendors.listed import list_text
from keywatch.vendors.registry import vendors
from keywatch.vendors.sensitive_calls import proposed_endpoint
from keywatch.vendors.source import SOURCE_NAME

__all__ = ["ApiDocument", "Imported", "read_openapi", "vendor_name", "write_catalogue"]

_METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
_PARAMETER = re.compile(r"\{[^{}/]*\}")
_LONGEST_TEMPLATE = 145
"""Events' endpoints are cut at 150 characters, the method among them: a longer one is never met."""


@dataclass(frozen=True)
class ApiDocument:
    """What an OpenAPI document says of an API.

    Attributes:
        title: The API's name.
        endpoints: One for each method and path, with the scope that it needs.
        scopes: The scopes that endpoints need, or that the document describes.
        passed_over: Paths that are not in the document itself, or too long.
        unclear_scopes: Scopes that some call names with others: whether all of them are needed or
            one of them, documents don't agree. No endpoint has them.
    """

    title: str
    endpoints: tuple[Endpoint, ...]
    scopes: tuple[Scope, ...]
    passed_over: tuple[str, ...]
    unclear_scopes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """What an import did: the vendor's folder, and endpoints added, known, and gone."""

    home: Path
    added: tuple[Endpoint, ...]
    known: int
    gone: tuple[str, ...]


@dataclass(frozen=True)
class _Call:
    method: str
    template: str
    scopes: frozenset[str]


def read_openapi(file: Path) -> ApiDocument:
    """Read an API's document.

    Raises:
        InputError: it can't be read, is no OpenAPI document, or has no paths in it.
    """
    document = _parsed(file)
    version = document.get("openapi", document.get("swagger"))
    paths = document.get("paths")
    if version is None:
        raise InputError(
            f"{file}: is no OpenAPI document: it has no `openapi` or `swagger` at its top"
        )
    if not isinstance(paths, dict) or not paths:
        raise InputError(f"{file}: `paths` is empty; there is nothing to import")
    found: dict[str, _Call] = {}
    passed_over: list[str] = []
    for path, item in paths.items():
        if str(path).startswith("x-"):
            continue
        calls = _calls(document, str(path), item)
        if calls is None:
            passed_over.append(str(path))
        for call in calls or ():
            name = f"{call.method} {call.template}"
            if len(call.template) > _LONGEST_TEMPLATE:
                passed_over.append(name)
            else:
                found.setdefault(name, call)
    unclear = {scope for call in found.values() if len(call.scopes) > 1 for scope in call.scopes}
    says_scopes = any(call.scopes for call in found.values())
    endpoints = tuple(
        replace(
            proposed_endpoint(call.method, call.template, next(iter(call.scopes - unclear), None)),
            # Of a document without scopes nothing is known of who may call what.
            is_scope_known=says_scopes and not call.scopes & unclear,
        )
        for call in found.values()
    )
    described = _described_scopes(document)
    needed = {endpoint.scope for endpoint in endpoints if endpoint.scope}
    names = dict.fromkeys((*described, *sorted(needed)))
    return ApiDocument(
        title=" ".join(str(_table(document.get("info")).get("title") or "").split()),
        endpoints=endpoints,
        scopes=tuple(Scope(name, described.get(name) or name) for name in names),
        passed_over=tuple(passed_over),
        unclear_scopes=tuple(sorted(unclear)),
    )


def vendor_name(document: ApiDocument) -> str:
    """The name of a vendor that the API's title suggests; empty where it suggests none."""
    words = re.sub(r"\b(rest|http|api|service|openapi|v\d+)\b", " ", document.title.lower())
    name = re.sub(r"[^a-z0-9]+", "_", words).strip("_")[:40]
    return name if SOURCE_NAME.fullmatch(name) else ""


def write_catalogue(document: ApiDocument, name: str, folder: Path) -> Imported:
    """Write ``vendors/NAME/catalogue.toml`` under `folder`, or add to it what is new.

    What stands in the catalogue stays as it is: its sensitivities may be a person's. An endpoint
    that the document has no more stays as well, for logs of the past have it.

    Raises:
        UsageError: the name is another vendor's, or no name, or the file can't be written.
        ContentError: the catalogue that is there can't be read.
    """
    home = folder / "vendors" / name
    if not SOURCE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no vendor's name; --vendor takes small letters, digits, _")
    taken = next((each.folder for each in vendors() if each.name == name), home)
    if taken.resolve() != home.resolve():
        raise UsageError(f"{taken}: a vendor {name!r} already exists; choose another --vendor")
    file = home / "catalogue.toml"
    before = read_catalogue(file) if file.is_file() else None
    known = {endpoint.name for endpoint in before.endpoints} if before else set()
    scopes = {scope.name for scope in before.scopes} if before else set()
    new = [endpoint for endpoint in document.endpoints if endpoint.name not in known]
    now = {endpoint.name for endpoint in document.endpoints}
    entries = [
        *(_scope_toml(scope) for scope in document.scopes if scope.name not in scopes),
        *(_endpoint_toml(endpoint) for endpoint in new),
    ]
    head = "" if before else _HEAD.format(toml_value(document.title or name))
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "vendor.toml").exists():
            (home / "vendor.toml").write_text(
                f"title = {toml_value(document.title or name)}\n", encoding="utf-8"
            )
        if entries:
            with file.open("a", encoding="utf-8") as out:
                out.write(head + "".join(f"\n{entry}" for entry in entries))
    except OSError as e:
        raise UsageError(f"{home}: can't be written ({e.strerror})") from e
    return Imported(home, tuple(new), len(now & known), tuple(sorted(known - now)))


_HEAD = """\
# From the OpenAPI document {}. Sensitivities are proposed by method and
# path (data/sensitive_calls.toml of Keywatch): correct them where they are wrong. A later import
# leaves them as they are. What the fields mean: vendors/README.md, "catalogue.toml".
"""


def _scope_toml(scope: Scope) -> str:
    return _entry("scopes", {"name": scope.name, "meaning": scope.meaning})


def _endpoint_toml(endpoint: Endpoint) -> str:
    return _entry(
        "endpoints",
        {
            "method": endpoint.method, "template": endpoint.template, "scope": endpoint.scope,
            "any_key": None if endpoint.is_scope_known else False,
            "sensitivity": endpoint.sensitivity, "why": endpoint.why or None,
            "technique": endpoint.technique,
        },
    )  # fmt: skip


def _entry(kind: str, fields: Mapping[str, str | bool | None]) -> str:
    lines = [f"{name} = {toml_value(value)}" for name, value in fields.items() if value is not None]
    return "\n".join([f"[[{kind}]]", *lines]) + "\n"


def _parsed(file: Path) -> dict[str, Any]:
    import yaml

    # Examples and descriptions may hold keys, and what is imported is stored and shown.
    text = without_tokens(list_text(file))
    try:
        if text.lstrip().startswith("{"):
            document = json.loads(text)
        else:
            document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except json.JSONDecodeError as e:
        raise InputError(f"{file}, line {e.lineno}: is not valid JSON: {e.msg.lower()}") from e
    except RecursionError as e:
        raise InputError(f"{file}: is not valid JSON: nested too deeply") from e
    except yaml.YAMLError as e:
        where = getattr(e, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        what = getattr(e, "problem", None) or "it can't be parsed"
        raise InputError(f"{file}{line}: is not valid YAML: {what}") from e
    if not isinstance(document, dict):
        raise InputError(f"{file}: is no OpenAPI document: it has no `openapi` at its top")
    return document


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _resolved(document: Mapping[str, Any], item: object) -> Mapping[str, Any] | None:
    """A table, or what it refers to in the same document; None where that is elsewhere."""
    table = _table(item)
    reference = table.get("$ref")
    if reference is None:
        return table
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    steps = [step.replace("~1", "/").replace("~0", "~") for step in reference[2:].split("/")]
    found: object = document
    for step in steps:
        found = _table(found).get(step)
    return found if isinstance(found, dict) else None


def _calls(document: Mapping[str, Any], path: str, item: object) -> list[_Call] | None:
    """What can be called at a path; None where the document does not say."""
    table = _resolved(document, item)
    if table is None or not path.startswith("/"):
        return None
    return [
        _Call(method.upper(), _template(base + path), _scopes(_list(security)))
        for method in _METHODS
        if isinstance(call := table.get(method), dict)
        for security in (call.get("security", document.get("security")),)
        for base in _bases(document, table, call)
    ]


def _bases(*places: Mapping[str, Any]) -> list[str]:
    """The paths before a call's own: of its servers, else of its path's, else of the document's."""
    servers = next(
        (found for each in reversed(places) if (found := _list(each.get("servers")))), []
    )
    if not servers:
        return [str(places[0].get("basePath") or "").rstrip("/")]
    return list(dict.fromkeys(_base(_table(server)) for server in servers))


def _base(server: Mapping[str, Any]) -> str:
    url = str(server.get("url") or "")
    for name, variable in _table(server.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(_table(variable).get("default", "")))
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return "/" + path.strip("/") if path.strip("/") else ""


def _template(path: str) -> str:
    """A path's template as events have it: a segment with a parameter in it is an id."""
    segments = plain_path(_PARAMETER.sub("{id}", path)).split("/")
    return "/".join("{id}" if "{id}" in segment else segment for segment in segments)


def _scopes(alternatives: Iterable[object]) -> frozenset[str]:
    """The scopes that ways to authorise a call name; none where one of them needs no scope."""
    ways = [
        {str(scope) for scopes in _table(way).values() for scope in _list(scopes) if scope}
        for way in alternatives
    ]
    return frozenset().union(*ways) if all(ways) else frozenset()


def _described_scopes(document: Mapping[str, Any]) -> dict[str, str]:
    """By name what the document says of each scope."""
    schemes = {
        **_table(document.get("securityDefinitions")),
        **_table(_table(document.get("components")).get("securitySchemes")),
    }
    found: dict[str, str] = {}
    for each in schemes.values():
        scheme = _resolved(document, each) or {}
        for flow in (scheme, *map(_table, _table(scheme.get("flows")).values())):
            for name, meaning in _table(flow.get("scopes")).items():
                found.setdefault(str(name), " ".join(str(meaning or "").split()))
    return {name: meaning for name, meaning in found.items() if name}
