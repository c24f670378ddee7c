"""The Pulsely API as the sample calls it: every endpoint, its scope, how sensitive it is.

`vendors/pulsely/catalogue.toml` holds the same list for the engine; the sample keeps its own so
that a mistake in one shows against the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sensitivity = Literal["none", "low", "high", "critical"]

READ_CHECKS, WRITE_CHECKS = "read:checks", "write:checks"
READ_ALERTS, WRITE_ALERTS = "read:alerts", "write:alerts"
READ_METRICS, ADMIN, ANY = "read:metrics", "admin:*", "any"
SCOPES = (READ_CHECKS, WRITE_CHECKS, READ_ALERTS, WRITE_ALERTS, READ_METRICS, ADMIN)

METRICS_PER_MINUTE = 60
"""Requests a minute under `read:metrics`; those over it get 429."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. `objects` names the kind of id in its path, `bytes` is the median response."""

    method: str
    template: str
    scope: str
    sensitivity: Sensitivity
    objects: str | None
    bytes: int
    queries: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def ok(self) -> int:
        """The status of a call that worked."""
        if self.method == "DELETE":
            return 204
        is_create = self.method == "POST" and not self.template.endswith(
            ("/pause", "/run", "/ack", "/mute")
        )
        return 201 if is_create else 200


_PAGES = ("", "?limit=100", "?limit=50&page=1", "?limit=50&page=2", "?status=failing")
_WINDOWS = ("", "?window=1h", "?window=24h", "?window=7d&step=300")
_ALERTS = ("", "?state=open", "?state=open&limit=20", "?since=24h")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/v1/checks", READ_CHECKS, "none", None, 18_000, _PAGES),
    Endpoint("GET", "/v1/checks/{id}", READ_CHECKS, "none", "check", 1_400),
    Endpoint("POST", "/v1/checks", WRITE_CHECKS, "none", None, 1_300),
    Endpoint("PATCH", "/v1/checks/{id}", WRITE_CHECKS, "none", "check", 1_400),
    Endpoint("DELETE", "/v1/checks/{id}", WRITE_CHECKS, "high", "check", 0),
    Endpoint("POST", "/v1/checks/{id}/pause", WRITE_CHECKS, "high", "check", 300),
    Endpoint("POST", "/v1/checks/{id}/run", WRITE_CHECKS, "none", "check", 500),
    Endpoint("GET", "/v1/checks/{id}/results", READ_CHECKS, "none", "check", 9_000, _WINDOWS),
    Endpoint("GET", "/v1/alerts", READ_ALERTS, "none", None, 4_200, _ALERTS),
    Endpoint("GET", "/v1/alerts/{id}", READ_ALERTS, "none", "alert", 1_800),
    Endpoint("POST", "/v1/alerts/{id}/ack", WRITE_ALERTS, "none", "alert", 240),
    Endpoint("POST", "/v1/alerts/{id}/mute", WRITE_ALERTS, "high", "alert", 240),
    Endpoint("GET", "/v1/alert-channels", READ_ALERTS, "none", None, 2_600),
    Endpoint("POST", "/v1/alert-channels", WRITE_ALERTS, "high", None, 700),
    Endpoint("PATCH", "/v1/alert-channels/{id}", WRITE_ALERTS, "high", "channel", 700),
    Endpoint("DELETE", "/v1/alert-channels/{id}", WRITE_ALERTS, "high", "channel", 0),
    Endpoint("GET", "/v1/metrics", READ_METRICS, "none", None, 6_000, _WINDOWS),
    Endpoint("GET", "/v1/metrics/{id}", READ_METRICS, "none", "metric", 3_500, _WINDOWS),
    Endpoint("GET", "/v1/status-pages", READ_CHECKS, "none", None, 2_100),
    Endpoint("PATCH", "/v1/status-pages/{id}", WRITE_CHECKS, "none", "page", 900),
    Endpoint("GET", "/v1/reports/{id}", READ_CHECKS, "none", "report", 42_000, ("", "?format=pdf")),
    Endpoint("GET", "/v1/export", READ_CHECKS, "high", None, 900_000, ("", "?format=csv")),
    Endpoint("GET", "/v1/members", ADMIN, "low", None, 5_200),
    Endpoint("POST", "/v1/members", ADMIN, "critical", None, 600),
    Endpoint("DELETE", "/v1/members/{id}", ADMIN, "critical", "member", 0),
    Endpoint("GET", "/v1/keys", ADMIN, "low", None, 4_800),
    Endpoint("POST", "/v1/keys", ADMIN, "critical", None, 900),
    Endpoint("DELETE", "/v1/keys/{id}", ADMIN, "critical", "key", 0),
    Endpoint("GET", "/v1/billing", ADMIN, "low", None, 1_900),
    Endpoint("PATCH", "/v1/billing", ADMIN, "critical", None, 1_900),
    Endpoint("GET", "/v1/audit-log", ADMIN, "low", None, 60_000, ("", "?limit=200")),
    Endpoint("GET", "/v1/me", ANY, "none", None, 420),
)

NUMBER_OF: dict[str, int] = {endpoint.name: i for i, endpoint in enumerate(ENDPOINTS)}
"""Endpoint name (`GET /v1/checks`) → its place in `ENDPOINTS`."""

METRICS_ENDPOINTS = tuple(i for i, e in enumerate(ENDPOINTS) if e.scope == READ_METRICS)


def numbers(*names: str) -> list[int]:
    """The places of the named endpoints. A name that does not exist is a KeyError."""
    return [NUMBER_OF[name] for name in names]
