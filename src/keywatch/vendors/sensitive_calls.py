"""Which calls of an HTTP API look sensitive by method and path (``data/sensitive_calls.toml``)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

from keywatch.content import content_path
from keywatch.vendors.catalogue import Endpoint, Sensitivity

__all__ = ["proposed_endpoint"]

_BETWEEN = re.compile(r"[/.:]")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+[a-z]*")


@dataclass(frozen=True)
class _Rule:
    resources: frozenset[str] | None
    actions: frozenset[str] | None
    methods: frozenset[str] | None
    sensitivity: Sensitivity
    why: str
    technique: str

    def fits(self, method: str, resource: str, action: str) -> bool:
        return all(
            allowed is None or value in allowed
            for allowed, value in (
                (self.methods, method), (self.resources, resource), (self.actions, action)
            )
        )  # fmt: skip


def proposed_endpoint(method: str, template: str, scope: str | None) -> Endpoint:
    """The catalogue's entry for a call, with the sensitivity that its method and path suggest.

    >>> proposed_endpoint("POST", "/v1/apiKeys/{id}/rotate", None).sensitivity
    'critical'
    >>> proposed_endpoint("GET", "/v1/checks/{id}", None).sensitivity
    'none'
    """
    actions, rules = _rules()
    # What is called is the last that has a name: a key in /orgs/{id}/keys/{id}.
    names = [words for name in _BETWEEN.split(template) if (words := _words(name))]
    action = names.pop() if len(names) > 1 and names[-1] in actions else ""
    resource = names[-1] if names else ""
    for rule in rules:
        if rule.fits("GET" if method == "HEAD" else method, resource, action):
            return Endpoint(method, template, scope, rule.sensitivity, rule.why, rule.technique)
    return Endpoint(method, template, scope, "none")


def _words(name: str) -> str:
    """The words of a name in small letters; empty for the place of an id."""
    return "" if name == "{id}" else " ".join(_WORD.findall(name)).lower()


@cache
def _rules() -> tuple[frozenset[str], tuple[_Rule, ...]]:
    table = tomllib.loads(content_path("data/sensitive_calls.toml").read_text(encoding="utf-8"))
    resources = {name: frozenset(words) for name, words in table["resources"].items()}
    return frozenset(table["actions"]), tuple(
        _Rule(
            resources[rule["resource"]] if "resource" in rule else None,
            _those(rule, "actions"), _those(rule, "methods"),
            cast(Sensitivity, rule["sensitivity"]), rule["why"], rule["technique"],
        )
        for rule in table["rules"]
    )  # fmt: skip


def _those(rule: Mapping[str, list[str]], name: str) -> frozenset[str] | None:
    return frozenset(rule[name]) if name in rule else None
