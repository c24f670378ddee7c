"""API catalogues: which endpoints an API has, the scope each needs, and how sensitive it is.

They are files in `data/apis`, one an API: content, not engine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from keywatch.content import content_path
from keywatch.errors import CatalogueError
from keywatch.text.attack import TECHNIQUE

__all__ = [
    "Catalogue",
    "Endpoint",
    "Scope",
    "Sensitivity",
    "catalogue_endpoints",
    "load_catalogue",
    "read_catalogue",
]

Sensitivity = Literal["none", "low", "high", "critical"]

_HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATH = re.compile(r"/[^\s?#]*")
_CALL = re.compile(r"[a-z0-9.-]+:[A-Za-z0-9_]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Scope:
    """A permission a key can have; `requests_per_minute` is the API's limit, if any."""

    name: str
    meaning: str
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of request.

    HTTP APIs: `method` and a path `template` such as `/v1/checks/{id}`. AWS: `method` is
    CALL and `template` the event source without `.amazonaws.com`, a colon and the event
    name: `iam:CreateUser`. `scope` is None when any key may call it. `why` says in a few
    words what a thief gains (empty when `sensitivity` is `none`); `technique` is the
    MITRE ATT&CK id, where one fits; `requests_per_minute` is the limit of its scope, if any.
    """

    method: str
    template: str
    scope: str | None
    sensitivity: Sensitivity
    why: str = ""
    technique: str | None = None
    requests_per_minute: int | None = None

    @property
    def name(self) -> str:
        """What events call it: `GET /v1/checks/{id}`, or `iam:CreateUser` for a CALL."""
        return self.template if self.method == "CALL" else f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One API's endpoints and scopes; `credit` must be shown where its words are."""

    name: str
    endpoints: tuple[Endpoint, ...]
    scopes: tuple[Scope, ...]
    credit: str = ""

    def find(self, method: str, template: str) -> Endpoint | None:
        """Return the endpoint of this method and template, or None when it isn't listed."""
        wanted = (method, template)
        return next((each for each in self.endpoints if _key(each) == wanted), None)


def load_catalogues() -> list[Catalogue]:
    """Read all bundled catalogues, by name; errors as of `load_catalogue`."""
    return [load_catalogue(path.stem) for path in sorted(content_path("data/apis").glob("*.toml"))]


@cache
def catalogue_endpoints() -> tuple[Endpoint, ...]:
    """The endpoints of all bundled catalogues; read once."""
    return tuple(endpoint for catalogue in load_catalogues() for endpoint in catalogue.endpoints)


def load_catalogue(name: str) -> Catalogue:
    """Read the bundled catalogue of this name: `pulsely` or `aws`.

    Raises ContentError when there's none, CatalogueError when its file is wrong.
    """
    if not _NAME.fullmatch(name):
        raise CatalogueError(f"{name!r} is not a catalogue's name; bundled are pulsely and aws")
    return read_catalogue(content_path(f"data/apis/{name}.toml"))


def read_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue file; the file's stem must be its `name`.

    Raises CatalogueError, naming the file, the entry and the mend.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"{path}: {error}") from error
    top = _Entry(path, "the top", table, {"name", "credit", "scopes", "endpoints"})
    name = top.text("name")
    if name != path.stem:
        raise top.error(f"name is {name!r}, but the file is {path.name}; make them the same")
    scopes = tuple(_read_scope(entry) for entry in top.entries("scopes", _SCOPE_FIELDS))
    top.refuse_twice("scopes", [scope.name for scope in scopes])
    limits = {scope.name: scope.requests_per_minute for scope in scopes}
    endpoints = tuple(
        _read_endpoint(entry, limits) for entry in top.entries("endpoints", _ENDPOINT_FIELDS)
    )
    top.refuse_twice("endpoints", [" ".join(_key(each)) for each in endpoints])
    return Catalogue(name, endpoints, scopes, top.text("credit", ""))


_SCOPE_FIELDS = frozenset({"name", "meaning", "requests_per_minute"})
_ENDPOINT_FIELDS = frozenset({"method", "template", "scope", "sensitivity", "why", "technique"})


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.method, endpoint.template


@dataclass(frozen=True, slots=True)
class _Entry:
    """One TOML table, which knows where it is for its errors."""

    path: Path
    where: str
    table: Mapping[str, Any]
    allowed: frozenset[str] | set[str]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.table) - self.allowed)
        if unknown:
            raise self.error(f"unknown field {unknown[0]!r}; use {', '.join(sorted(self.allowed))}")

    def error(self, what: str) -> CatalogueError:
        return CatalogueError(f"{self.path}: {self.where}: {what}")

    def text(self, field: str, default: str | None = None) -> str:
        value = self.table.get(field, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.error(f"`{field}` must be a text, not {value!r}; write it in")
        return value

    def entries(self, field: str, allowed: frozenset[str]) -> list[_Entry]:
        tables = self.table.get(field)
        if not isinstance(tables, list) or not tables or not isinstance(tables[0], dict):
            raise self.error(f"`{field}` must be at least one [[{field}]] table")
        return [
            _Entry(self.path, f"{field}[{at}]{_label(table)}", table, allowed)
            for at, table in enumerate(tables)
        ]

    def refuse_twice(self, field: str, keys: list[str]) -> None:
        seen: set[str] = set()
        for at, key in enumerate(keys):
            if key in seen:
                raise self.error(f"{field}[{at}] {key!r} is there twice; take one out")
            seen.add(key)


def _label(table: Mapping[str, Any]) -> str:
    named = [str(table[field]) for field in ("method", "template", "name") if field in table]
    return f" ({' '.join(named)})" if named else ""


def _read_scope(entry: _Entry) -> Scope:
    limit = entry.table.get("requests_per_minute")
    if limit is not None and (not isinstance(limit, int) or limit <= 0):
        raise entry.error(f"`requests_per_minute` must be a positive number, not {limit!r}")
    return Scope(entry.text("name"), entry.text("meaning"), limit)


def _read_endpoint(entry: _Entry, limits: Mapping[str, int | None]) -> Endpoint:
    method, template = entry.text("method"), entry.text("template")
    if method == "CALL":
        shape, example = _CALL, "iam:CreateUser"
    elif method in _HTTP_METHODS:
        shape, example = _PATH, "/v1/checks/{id}"
    else:
        raise entry.error(f"method {method!r} is not CALL or one of {sorted(_HTTP_METHODS)}")
    if not shape.fullmatch(template):
        raise entry.error(f"template {template!r} must look like {example}")
    scope = entry.text("scope") if "scope" in entry.table else None
    if scope is not None and scope not in limits:
        raise entry.error(f"scope {scope!r} is not in [[scopes]]; add it or correct the name")
    sensitivity = entry.text("sensitivity")
    if sensitivity not in get_args(Sensitivity):
        raise entry.error(f"sensitivity {sensitivity!r} is not of {get_args(Sensitivity)}")
    why = entry.text("why", "")
    if bool(why) is (sensitivity == "none"):
        raise entry.error("`why` goes with every sensitivity but none; add it or take it out")
    technique = entry.text("technique") if "technique" in entry.table else None
    if technique is not None and not TECHNIQUE.fullmatch(technique):
        raise entry.error(f"technique {technique!r} must be an ATT&CK id such as T1098.001")
    limit = limits[scope] if scope is not None else None
    return Endpoint(method, template, scope, cast(Sensitivity, sensitivity), why, technique, limit)
