"""API catalogues: which endpoints an API has, the scope each needs, and how sensitive it is.

A vendor's is `vendors/NAME/catalogue.toml`: content, not engine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from keywatch.content import Entry
from keywatch.errors import CatalogueError
from keywatch.text.attack import TECHNIQUE

__all__ = ["Catalogue", "Endpoint", "Scope", "Sensitivity", "read_catalogue"]

Sensitivity = Literal["none", "low", "high", "critical"]

_HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATH = re.compile(r"/[^\s?#]*")
_CALL = r"[^\s/]\S*"
"""What a call's name looks like where the catalogue does not say; no path."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A permission a key can have; `requests_per_minute` is the API's limit, if any."""

    name: str
    meaning: str
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of request.

    HTTP APIs: `method` and a path `template` such as `/v1/checks/{id}`. APIs whose log names the
    call: `method` is CALL and `template` that name, such as `iam:CreateUser`. `scope` is None when
    any key may call it (`any_key`), or when that is not known. `why` says in a few words what a
    thief gains (empty when `sensitivity` is `none`); `technique` is the MITRE ATT&CK id, where one
    fits; `requests_per_minute` is the limit of its scope, if any.
    """

    method: str
    template: str
    scope: str | None
    sensitivity: Sensitivity
    why: str = ""
    technique: str | None = None
    requests_per_minute: int | None = None
    is_scope_known: bool = True

    @property
    def any_key(self) -> bool:
        """Whether any valid key may call it."""
        return self.scope is None and self.is_scope_known

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


def read_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue file; its folder is the vendor's, which gives it its name.

    Raises CatalogueError, naming the file, the entry and the mend.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"{path}: {error}") from error
    top = Entry(path, "the top", table, _TOP_FIELDS, CatalogueError)
    scopes = tuple(_read_scope(entry) for entry in top.entries("scopes", _SCOPE_FIELDS, least=0))
    top.refuse_twice("scopes", [scope.name for scope in scopes])
    limits = {scope.name: scope.requests_per_minute for scope in scopes}
    calls = _calls(top)
    endpoints = tuple(
        _read_endpoint(entry, limits, calls) for entry in top.entries("endpoints", _ENDPOINT_FIELDS)
    )
    top.refuse_twice("endpoints", [" ".join(_key(each)) for each in endpoints])
    return Catalogue(path.parent.name, endpoints, scopes, top.text("credit", ""))


_TOP_FIELDS = frozenset({"calls", "credit", "scopes", "endpoints"})
_SCOPE_FIELDS = frozenset({"name", "meaning", "requests_per_minute"})
_ENDPOINT_FIELDS = frozenset(
    {"method", "template", "scope", "any_key", "sensitivity", "why", "technique"}
)


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.method, endpoint.template


def _calls(top: Entry) -> re.Pattern[str]:
    text = top.text("calls", _CALL)
    try:
        return re.compile(text)
    except re.error as e:
        raise top.error(f"`calls` is {text!r}, which is not a regular expression: {e}") from e


def _read_scope(entry: Entry) -> Scope:
    limit = entry.number("requests_per_minute") if "requests_per_minute" in entry.table else None
    return Scope(entry.text("name"), entry.text("meaning"), limit)


def _read_endpoint(
    entry: Entry, limits: Mapping[str, int | None], calls: re.Pattern[str]
) -> Endpoint:
    method, template = entry.text("method"), entry.text("template")
    if method == "CALL":
        shape, example = calls, f"`calls` ({calls.pattern})"
    elif method in _HTTP_METHODS:
        shape, example = _PATH, "/v1/checks/{id}"
    else:
        raise entry.error(f"method {method!r} is not CALL or one of {sorted(_HTTP_METHODS)}")
    if not shape.fullmatch(template):
        raise entry.error(f"template {template!r} must look like {example}")
    scope = entry.text("scope") if "scope" in entry.table else None
    if scope is not None and scope not in limits:
        raise entry.error(f"scope {scope!r} is not in [[scopes]]; add it or correct the name")
    is_scope_known = entry.table.get("any_key", True)
    if not isinstance(is_scope_known, bool) or (scope is not None and "any_key" in entry.table):
        raise entry.error("any_key is true or false, and only without a scope")
    sensitivity = entry.text("sensitivity")
    if sensitivity not in get_args(Sensitivity):
        raise entry.error(f"sensitivity {sensitivity!r} is not of {get_args(Sensitivity)}")
    why = entry.text("why", "")
    if bool(why) is (sensitivity == "none"):
        raise entry.error("`why` is required with every sensitivity except none; add or remove it")
    technique = entry.text("technique") if "technique" in entry.table else None
    if technique is not None and not TECHNIQUE.fullmatch(technique):
        raise entry.error(f"technique {technique!r} must be an ATT&CK id such as T1098.001")
    limit = limits[scope] if scope is not None else None
    return Endpoint(
        method, template, scope, cast(Sensitivity, sensitivity), why, technique, limit,
        is_scope_known,
    )  # fmt: skip
