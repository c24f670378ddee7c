"""Path templates: a catalogue's where it knows the path, else the general rule."""

from __future__ import annotations

import pytest

from keywatch.vendors.catalogue import Catalogue, Endpoint
from keywatch.vendors.endpoints import EndpointTemplates, TemplateMatch
from tests.conftest import Loading, event


def templates(*known: str) -> EndpointTemplates:
    endpoints = tuple(
        Endpoint(method, template, scope=None, sensitivity="none")
        for method, _, template in (one.partition(" ") for one in known)
    )
    return EndpointTemplates([Catalogue("test", endpoints, ())])


@pytest.mark.parametrize(
    ("endpoint", "match"),
    [
        ("GET /v1/keys/blue", TemplateMatch("GET /v1/keys/{id}", "blue")),
        ("GET /v1/keys/{id}", TemplateMatch("GET /v1/keys/{id}", "")),
        ("GET /v1/keys/current", TemplateMatch("GET /v1/keys/current", "")),
        ("GET /v1/keys/a/runs/b", TemplateMatch("GET /v1/keys/{id}/runs/{id}", "a/b")),
        ("POST /v1/keys/blue", None),
        ("GET /v1/keys", None),
    ],
)
def test_a_literal_segment_wins_and_ids_are_objects(
    endpoint: str, match: TemplateMatch | None
) -> None:
    known = templates("GET /v1/keys/{id}", "GET /v1/keys/current", "GET /v1/keys/{id}/runs/{id}")
    assert known.match(endpoint) == match


@pytest.mark.parametrize(
    ("path", "endpoint", "object_"),
    [
        ("/v1/checks", "GET /v1/checks", None),
        ("/v1/checks/", "GET /v1/checks", None),
        ("/v1/checks/8812", "GET /v1/checks/{id}", "8812"),
        ("/v1/checks/8812?window=24h#top", "GET /v1/checks/{id}", "8812"),
        ("/v9/a/12/34/b", "GET /v9/a/{id}/{id}/b", "12/34"),
        ("/x/f47ac10b-58cc-4372-a567-0e02b2c3d479", "GET /x/{id}",
         "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        ("/x/0123456789abcdef", "GET /x/{id}", "0123456789abcdef"),
        ("/x/chk_9f8e7d", "GET /x/{id}", "chk_9f8e7d"),
        ("/x/ann@example.com", "GET /x/{id}", "ann@example.com"),
        ("/x/status-pages", "GET /x/status-pages", None),
        ("/x/2026-09-30", "GET /x/{id}", "2026-09-30"),
        ("/x/2026-09-30T10:00:00Z/y", "GET /x/{id}/y", "2026-09-30T10:00:00Z"),
        ("/x/12,13,14", "GET /x/{id}", "12,13,14"),
        ("/x/10.0.0.7", "GET /x/{id}", "10.0.0.7"),
        ("/x/2001:db8::7", "GET /x/{id}", "2001:db8::7"),
        ("/x/chk-8812", "GET /x/{id}", "chk-8812"),
        ("/2.0/v1/oauth-2", "GET /2.0/v1/oauth-2", None),
        ("//v1/./a/..//checks/", "GET /v1/checks", None),
        ("/v1/%63hecks/%38812", "GET /v1/checks/{id}", "8812"),
        ("/v1/a%2Fb", "GET /v1/a%2Fb", None),
        ("https://API.example:443/v1/checks;v=1?x=//", "GET /v1/checks", None),
        ("/../../v1/checks", "GET /v1/checks", None),
        ("/", "GET /", None),
        ("?a=b", "GET /", None),
        ("/v1/checks/not-a-number", "GET /v1/checks/{id}", "not-a-number"),
    ],
)  # fmt: skip
def test_paths_become_endpoints_and_objects(
    path: str, endpoint: str, object_: str | None, quick: Loading
) -> None:
    quick.take([event(endpoint=path)])
    assert quick.lake.rows("SELECT endpoint, object FROM lake.events") == [(endpoint, object_)]


def test_every_method_has_endpoints_of_its_own(quick: Loading) -> None:
    quick.take([event(method=method, request_id=method) for method in ("GET", "DELETE", "get")])
    assert quick.lake.rows("SELECT endpoint, count(*) FROM lake.events GROUP BY 1 ORDER BY 1") == [
        ("DELETE /v1/checks/{id}", 1),
        ("GET /v1/checks/{id}", 2),
    ]
