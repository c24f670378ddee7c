"""Charts as Altair, for the report's page and for notebooks.

Each is one specification over named data, so that a page holds it once for all its cases. What is
drawn of a case is made by `timeline_rows`, `map_rows` and `endpoint_rows`, as rows of the tables of
`keywatch.history`. Text in rows comes from logs: it's made printable here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import altair as alt

from keywatch.content import content_path
from keywatch.model import Window
from keywatch.report.phrases import listed
from keywatch.report.safe_text import printable

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Table: TypeAlias = "alt.NamedData | alt.InlineData | pd.DataFrame"

USUAL, NEW, SUSPICIOUS = "usual", "new", "suspicious"
KINDS = (USUAL, NEW, SUSPICIOUS)
"""How an origin or an endpoint stands: seen before, first seen in the window, flagged in it."""

THEMES: dict[str, dict[str, Any]] = {
    name: {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {"aria": False, "labelColor": ink, "titleColor": ink, "gridColor": line,
                 "domainColor": line, "tickColor": line, "labelFontSize": 11, "titleFontSize": 11,
                 "titleFontWeight": "normal"},
        "legend": {"aria": False, "labelColor": ink, "titleColor": ink, "labelFontSize": 11},
        "style": {"land": {"color": land, "stroke": sea}, "window": {"color": band},
                  "before": {"color": ink}},
        "mark": {"aria": False},
    }
    for name, ink, line, land, sea, band in (
        ("light", "#3c4350", "#dfe3ea", "#dfe3ea", "#f7f8fb", "#e6eaf2"),
        ("dark", "#c3cad6", "#343b47", "#39414e", "#171b22", "#29313d"),
    )
}  # fmt: skip
"""Vega-Lite configurations for a light and a dark page."""

_COLORS = ("#5b84b1", "#d97d0d", "#d1343f")
_SHAPES = ("circle", "square", "diamond")
_DAYS = alt.Axis(format="%-d %b", grid=False, labelOverlap=True, labelSeparation=14)
_NAMES = alt.Axis(
    labelLimit=alt.ExprRef("width < 240 ? 110 : 230"), labelPadding=9, ticks=False, domain=False
)
_FIT = alt.AutoSizeParams(type="fit-x", contains="padding")
_COUNTRIES = alt.TopoDataFormat(type="topojson", feature="countries")
_MOST_ORIGINS = 8
_MOST_ENDPOINTS = 16
_ROOM_FOR_USUAL = 5
_LABEL_LENGTH = 64
_OTHERS = "other networks"


@cache
def world() -> dict[str, Any]:
    """The countries of Natural Earth at 1:110 million, as TopoJSON."""
    text = content_path("data/map/countries-110m.json").read_text(encoding="utf-8")
    topology: dict[str, Any] = json.loads(text)
    return topology


def _kinds() -> tuple[alt.Color, alt.Shape]:
    """By color and by shape: not everybody tells the colors apart."""
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1)
    colors = alt.Scale(domain=list(KINDS), range=list(_COLORS))
    shapes = alt.Scale(domain=list(KINDS), range=list(_SHAPES))
    return (
        alt.Color("kind:N", scale=colors, legend=legend),
        alt.Shape("kind:N", scale=shapes, legend=legend),
    )


def _layered(*charts: alt.Chart) -> alt.LayerChart:
    return cast("alt.LayerChart", alt.layer(*charts))


def timeline_chart(
    rows: alt.Data | alt.NamedData, week: alt.Data | alt.NamedData
) -> alt.LayerChart:
    """Requests by day and origin: a point's area grows with its requests.

    `rows` as of `timeline_rows`, in the order in which the origins stand; `week` is one row with
    `start` and `end`, the window that is shaded.
    """
    band = alt.Chart(week).mark_rect(style="window").encode(alt.X("start:T"), alt.X2("end:T"))
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, opacity=0.9)
        .encode(
            alt.X("day:T", title=None, axis=_DAYS, scale=alt.Scale(padding=10)),
            alt.Y("origin:N", sort=None, title=None, axis=_NAMES),
            alt.Size(
                "requests:Q", legend=None, scale=alt.Scale(type="sqrt", zero=True, range=[4, 260])
            ),
            *_kinds(),
            tooltip=[
                alt.Tooltip("origin:N", title="origin"),
                alt.Tooltip("day:T", title="day", format="%a %-d %b %Y"),
                alt.Tooltip("requests:Q", title="requests", format=","),
                alt.Tooltip("refused:Q", title="refused", format=","),
                alt.Tooltip("kind:N", title="seen as"),
            ],
        )
    )
    return _layered(band, points).properties(width="container", height=alt.Step(24), autosize=_FIT)


def map_chart(rows: Table, countries: alt.NamedData | None = None) -> alt.LayerChart:
    """Where requests came from: `rows` as of `map_rows`; `countries` TopoJSON, else the bundled."""
    land = countries or alt.InlineData(values=world(), format=_COUNTRIES)
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, opacity=0.85, stroke="white", strokeWidth=0.6)
        .encode(
            alt.Longitude("longitude:Q"),
            alt.Latitude("latitude:Q"),
            alt.Size(
                "requests:Q", legend=None, scale=alt.Scale(type="sqrt", zero=True, range=[30, 420])
            ),
            *_kinds(),
            tooltip=[
                alt.Tooltip("origins:N", title="origins"),
                alt.Tooltip("requests_now:Q", title="requests now", format=","),
                alt.Tooltip("requests_before:Q", title="requests before", format=","),
                alt.Tooltip("kind:N", title="seen as"),
            ],
        )
    )
    return (
        _layered(alt.Chart(land).mark_geoshape(style="land", strokeWidth=0.4), points)
        .project("equalEarth")
        .properties(width="container", height=250)
    )


def endpoint_chart(rows: Table) -> alt.LayerChart:
    """Requests a day by endpoint: a bar before the window, a point in it; `endpoint_rows`."""
    scale = alt.Scale(type="symlog", constant=1, nice=True)
    axis = alt.Axis(title="requests a day (log)", tickCount=5, format="~s")
    base = alt.Chart(rows).encode(alt.Y("endpoint:N", sort=None, title=None, axis=_NAMES))
    tips = [
        alt.Tooltip("endpoint:N", title="endpoint"),
        alt.Tooltip("before:Q", title="a day before", format=",.1f"),
        alt.Tooltip("now:Q", title="a day now", format=",.1f"),
        alt.Tooltip("refused:Q", title="refused now", format=","),
        alt.Tooltip("kind:N", title="seen as"),
    ]
    before = base.mark_bar(height=6, opacity=0.35, style="before").encode(
        alt.X("before:Q", scale=scale, axis=axis), tooltip=tips
    )
    now = base.mark_point(filled=True, size=75, opacity=1).encode(
        alt.X("now:Q", scale=scale, axis=axis), *_kinds(), tooltip=tips
    )
    return _layered(before, now).properties(width="container", height=alt.Step(20), autosize=_FIT)


@cache
def vega_specifications() -> dict[str, dict[str, dict[str, Any]]]:
    """The charts compiled to Vega, by theme and name; to be filled in: rows, week and world.

    A page that holds these needs no Vega-Lite, and draws a chart in half the time.
    """
    import vl_convert

    rows = alt.NamedData(name="rows")
    countries = alt.NamedData(name="world", format=_COUNTRIES)
    drawn = {
        "timeline": timeline_chart(rows, alt.NamedData(name="week")),
        "map": map_chart(rows, countries),
        "endpoints": endpoint_chart(rows),
    }
    plain = {name: chart.to_dict() | {"config": {}} for name, chart in drawn.items()}
    return {
        theme: {
            name: vl_convert.vegalite_to_vega(chart | {"config": config})
            for name, chart in plain.items()
        }
        for theme, config in THEMES.items()
    }


def week_row(window: Window) -> dict[str, str]:
    """The window as `timeline_chart` shades it."""
    return {"start": _naive(window.start), "end": _naive(window.end)}


def _naive(moment: datetime) -> str:
    # No zone: Vega reads and shows it as local time, so that a day stays the UTC one.
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _noon(day: date) -> str:
    return _naive(datetime.combine(day, time(12)))


def timeline_rows(timeline: Sequence[Row]) -> Rows:
    """Of one key's timeline: day, origin, requests, refused, kind; usual origins first.

    The eight networks that matter most have their own line: suspicious ones, then new ones, then
    the most used; the others share one.
    """
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in timeline:
        total = totals[row["origin"]]
        total[0] += bool(row["flagged"])
        total[1] += not row["known"]
        total[2] += row["requests"]
    ranked = sorted(totals, key=lambda name: ([-n for n in totals[name]], name))
    own = ranked[:_MOST_ORIGINS] if len(ranked) > _MOST_ORIGINS + 1 else ranked
    lines = [*reversed(own), *([_OTHERS] if len(own) < len(ranked) else [])]
    merged: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in timeline:
        line = row["origin"] if row["origin"] in own else _OTHERS
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
    """Of one key's endpoints: requests a day before and now, refused, kind; the new ones first.

    The usual ones keep room beside however many new ones, for comparison.
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
            "kind": _endpoint_kind(row),
        }
        for row in [*shown, *usual[: _MOST_ENDPOINTS - len(shown)]]
    ]


def _kind(row: Row) -> str:
    if row["flagged"]:
        return SUSPICIOUS
    return USUAL if row["known"] else NEW


def _endpoint_kind(row: Row) -> str:
    if row["requests_before"]:
        return USUAL
    return SUSPICIOUS if row["requests_flagged"] else NEW
