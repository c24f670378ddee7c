"""A path as a server takes it, and its template: by API catalogue, or as learnt from a log.

The general rule for ids, which comes first, is ``id_pattern``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import NamedTuple, Self
from urllib.parse import unquote

from keywatch.vendors.catalogue import Catalogue
from keywatch.vendors.registry import GENERIC, generic_catalogues, vendor_named

_ID = "{id}"
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_QUERY = re.compile(r"[?#].*", re.DOTALL)


def plain_path(target: str) -> str:
    """The path that a server takes `target` for: a request's target as a log has it.

    Without scheme, host, query and parameters of a segment, decoded once, dots and empty segments
    taken out (RFC 3986, 5.2.4 and 6.2.2). An encoded slash stays encoded.

    >>> plain_path("https://api.example/v1//checks/../%6Beys;v=1?limit=5")
    '/v1/keys'
    """
    path = _QUERY.sub("", _HOST.sub("", target, count=1))
    segments: list[str] = []
    for segment in path.split("/"):
        plain = unquote(segment.partition(";")[0]).replace("/", "%2F")
        if plain == "..":
            segments[-1:] = []
        elif plain not in ("", "."):
            segments.append(plain)
    return "/" + "/".join(segments)


class TemplateMatch(NamedTuple):
    """An endpoint of a catalogue and the ids that its template leaves out, joined with ``/``."""

    endpoint: str
    object: str


class EndpointTemplates:
    """Endpoints of the catalogues, found by method and path."""

    def __init__(self, catalogues: Iterable[Catalogue]) -> None:
        self._by_shape: dict[tuple[str, int], list[list[str]]] = {}
        known = (endpoint for catalogue in catalogues for endpoint in catalogue.endpoints)
        for endpoint in (f"{one.method} {one.template}" for one in known):
            method, _, template = endpoint.partition(" ")
            segments = template.split("/")
            self._by_shape.setdefault((method, len(segments)), []).append(segments)

    @classmethod
    def of_vendor(cls, name: str) -> Self:
        """Those of a vendor's catalogue; of no vendor's (``generic``), the user's own."""
        if name == GENERIC:
            return cls._of(generic_catalogues())
        catalogue = vendor_named(name).catalogue
        return cls._of((catalogue,) if catalogue else ())

    @classmethod
    @cache
    def _of(cls, catalogues: tuple[Catalogue, ...]) -> Self:
        return cls(catalogues)

    def match(self, endpoint: str) -> TemplateMatch | None:
        """The catalogue's endpoint for ``METHOD /path``; None when no catalogue knows it.

        A literal segment wins over ``{id}``.
        """
        method, _, path = endpoint.partition(" ")
        segments = path.split("/")
        best: list[str] | None = None
        for template in self._by_shape.get((method, len(segments)), []):
            fits = all(t in (_ID, s) for t, s in zip(template, segments, strict=True))
            if fits and (best is None or template.count(_ID) < best.count(_ID)):
                best = template
        if best is None:
            return None
        objects = [s for t, s in zip(best, segments, strict=True) if t == _ID != s]
        return TemplateMatch(f"{method} {'/'.join(best)}", "/".join(objects))


class LearntTemplates:
    """Places in paths that hold an id, as a log has shown (`keywatch.load.path_templates`).

    `kept` has, by method and path up to the place (``GET /users/``), the values that are names and
    no ids there. An endpoint of `known`, a catalogue's, is left alone.

    >>> learnt = LearntTemplates({"GET /users/": {"me"}})
    >>> learnt.match("GET /users/ada/photos")
    TemplateMatch(endpoint='GET /users/{id}/photos', object='ada')
    >>> learnt.match("GET /users/me")
    """

    def __init__(
        self, kept: Mapping[str, Collection[str]] | None = None, known: Collection[str] = ()
    ) -> None:
        self.kept = dict(kept or {})
        self._known = known

    def match(self, endpoint: str) -> TemplateMatch | None:
        """The template of ``METHOD /path``; None where no place in it is learnt."""
        if not self.kept or endpoint in self._known:
            return None
        template, objects = "", []
        first, *segments = endpoint.split("/")
        for segment in segments:
            template += f"{first}/" if not template else "/"
            is_id = segment not in ("", _ID) and segment not in self.kept.get(template, (segment,))
            objects += [segment] if is_id else []
            template += _ID if is_id else segment
        return TemplateMatch(template, "/".join(objects)) if objects else None
