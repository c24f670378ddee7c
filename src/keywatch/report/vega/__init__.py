"""What a page needs to draw its charts: Vega itself, and the charts compiled to Vega.

Both are made by ``tools/vega.py`` of `keywatch.report.charts` and kept here, so that a report needs
neither Altair nor the converter, which is 84 MB. A test compares them with what the tool makes.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from keywatch.content import content_path


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets ``vegaEmbed``, with their licences."""
    return _file("vega-licences.txt") + _file("vega.js")


@cache
def specifications() -> dict[str, dict[str, dict[str, Any]]]:
    """The charts as Vega, by theme and name; to be filled in: rows, week and world."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(_file("specifications.json"))
    return found


@cache
def world_text() -> str:
    """The countries of Natural Earth at 1:110 million, as TopoJSON."""
    return content_path("data/map/countries-110m.json").read_text(encoding="utf-8")


def world() -> dict[str, Any]:
    """The same as JSON values."""
    topology: dict[str, Any] = json.loads(world_text())
    return topology


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
