"""What is drawn of a key, as rows: for the charts of pages and notebooks, and for those of text.

Rows are made of the tables of `keywatch.review.history`, of one key. Text in them comes from logs:
it's made printable here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from keywatch.model import Window
from keywatch.text.phrases import listed
from keywatch.text.safe_text import printable

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]

USUAL, NEW, SUSPICIOUS = "usual", "new", "suspicious"
KINDS = (USUAL, NEW, SUSPICIOUS)
"""How an origin or an endpoint stands: seen before, first seen in the window, flagged in it."""

_MOST_ORIGINS = 8
_MOST_ENDPOINTS = 16
_ROOM_FOR_USUAL = 5
_LABEL_LENGTH = 64


def week_row(window: Window) -> dict[str, str]:
    """The window as `timeline_chart` shades it."""
    return {"start": _naive(window.start), "end": _naive(window.end)}


def _naive(moment: datetime) -> str:
    # No zone: Vega reads and shows it as local time, so that a day stays the UTC one.
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _noon(day: date) -> str:
    return _naive(datetime.combine(day, time(12)))


def timeline_rows(timeline: Sequence[Row], others: str = "other networks") -> Rows:
    """Of one key's timeline: day, origin, requests, refused, kind; usual origins first.

    The eight networks that matter most have their own line: suspicious ones, then new ones, then
    the most used; the `others` share one.
    """
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in timeline:
        total = totals[row["origin"]]
        total[0] += bool(row["flagged"])
        total[1] += not row["known"]
        total[2] += row["requests"]
    ranked = sorted(totals, key=lambda name: ([-n for n in totals[name]], name))
    own = ranked[:_MOST_ORIGINS] if len(ranked) > _MOST_ORIGINS + 1 else ranked
    lines = [*reversed(own), *([others] if len(own) < len(ranked) else [])]
    merged: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in timeline:
        line = row["origin"] if row["origin"] in own else others
        point = merged.setdefault(
            (line, row["day"]),
            {"day": _noon(row["day"]), "origin": printable(line, _LABEL_LENGTH),
             "requests": 0, "refused": 0, "kind": USUAL},
        )  # fmt: skip
        point["requests"] += row["requests"]
        point["refused"] += row["refused"]
        point["kind"] = max(point["kind"], _kind(row), key=KINDS.index)
    order = {name: number for number, name in enumerate(lines)}
    return [merged[at] for at in sorted(merged, key=lambda at: (order[at[0]], at[1]))]


def map_rows(origins: Sequence[Row]) -> Rows:
    """Of one key's origins: a point a place with its requests, before and now, and its kind.

    Origins that no database places are left out.
    """
    places: dict[tuple[float, float, str], list[Row]] = defaultdict(list)
    for row in origins:
        if row["latitude"] is not None and row["longitude"] is not None:
            places[row["latitude"], row["longitude"], _kind(row)].append(row)
    points = [
        {
            "latitude": latitude,
            "longitude": longitude,
            "kind": kind,
            "origins": listed((printable(row["origin"], _LABEL_LENGTH) for row in rows), 3),
            "requests_before": sum(row["requests_before"] for row in rows),
            "requests_now": sum(row["requests_now"] for row in rows),
            "requests": sum(row["requests_before"] + row["requests_now"] for row in rows),
        }
        for (latitude, longitude, kind), rows in places.items()
    ]
    # What matters most is drawn last, on top; of one kind the small ones.
    return sorted(points, key=lambda point: (KINDS.index(point["kind"]), -point["requests"]))


def endpoint_rows(endpoints: Sequence[Row]) -> Rows:
    """Of one key's endpoints: requests a day before and now, refused, kind; the usual ones last.

    *suspicious* are those that suspicious visits called, of which `flagged` says how often. The
    usual ones keep room beside however many others, for comparison.
    """

    def rank(row: Row) -> tuple[int, float]:
        return -KINDS.index(_endpoint_kind(row)), -max(row["per_day_now"], row["per_day_before"])

    ranked = sorted(endpoints, key=rank)
    usual = [row for row in ranked if _endpoint_kind(row) == USUAL]
    new = ranked[: len(ranked) - len(usual)]
    room = _MOST_ENDPOINTS - min(len(usual), _ROOM_FOR_USUAL)
    shown = new[:room]
    return [
        {
            "endpoint": printable(row["endpoint"], _LABEL_LENGTH),
            "before": round(row["per_day_before"], 2),
            "now": round(row["per_day_now"], 2),
            "refused": row["refused_now"],
            "flagged": row["requests_flagged"],
            "kind": _endpoint_kind(row),
        }
        for row in [*shown, *usual[: _MOST_ENDPOINTS - len(shown)]]
    ]


def count_rows(counts: Sequence[Row]) -> Rows:
    """Of counts by name and kind: the same, as `counts_chart` draws them."""
    return [dict(row) | {"name": printable(row["name"], _LABEL_LENGTH)} for row in counts]


def _kind(row: Row) -> str:
    if row["flagged"]:
        return SUSPICIOUS
    return USUAL if row["known"] else NEW


def _endpoint_kind(row: Row) -> str:
    if row["requests_flagged"]:
        return SUSPICIOUS
    return USUAL if row["requests_before"] else NEW
