"""Charts as Altair, for the report's page and for notebooks.

Each is one specification over named data, so that a page holds it once for all its cases. What they
draw are the rows of `keywatch.report.drawn`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import altair as alt

from keywatch.report import vega
from keywatch.report.drawn import KINDS, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

Width: TypeAlias = int | Literal["container"]
"""Pixels of what is inside the axes, or as wide as the element that holds the chart."""
Table: TypeAlias = "alt.NamedData | alt.InlineData | pd.DataFrame"

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
_DAYS = alt.Axis(
    format="%-d %b", grid=False, labelOverlap=True, labelSeparation=14, labelFlush=True,
    ticks=False,
    tickCount=alt.TimeIntervalStep(interval="day", step=1),
)  # fmt: skip
# By the element that holds the chart: its own width depends on the labels. Without one, as wide.
_NARROW = "containerSize()[0] < 480"
_NAMES = alt.Axis(
    labelLimit=alt.ExprRef(f"{_NARROW} ? 110 : 230"), labelPadding=9, ticks=False, domain=False
)
_FIT = alt.AutoSizeParams(type="fit-x", contains="padding")
_COUNTRIES = alt.TopoDataFormat(type="topojson", feature="countries")


def _kinds() -> tuple[alt.Color, alt.Shape]:
    """By color and by shape: not everybody tells the colors apart."""
    columns = alt.ExprRef(f"{_NARROW} ? 1 : {len(KINDS)}")
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, columns=columns)
    colors = alt.Scale(domain=list(KINDS), range=list(_COLORS))
    shapes = alt.Scale(domain=list(KINDS), range=list(_SHAPES))
    return (
        alt.Color("kind:N", scale=colors, legend=legend),
        alt.Shape("kind:N", scale=shapes, legend=legend),
    )


def _layered(*charts: alt.Chart) -> alt.LayerChart:
    return cast("alt.LayerChart", alt.layer(*charts))


def _lines(chart: alt.LayerChart, width: Width, step: int) -> alt.LayerChart:
    """With `step` pixels for each name on the left."""
    sized = chart.properties(width=width, height=alt.Step(step))
    return sized.properties(autosize=_FIT) if width == "container" else sized


def inline(rows: Rows) -> alt.InlineData:
    """Rows as a chart's own data."""
    return alt.InlineData(values=rows)


def themed(chart: alt.LayerChart, theme: str = "light") -> alt.LayerChart:
    """The chart by itself, with the colors of a light or a dark page and its own paper."""
    paper = {"light": "#ffffff", "dark": "#171b22"}[theme]
    return cast("alt.LayerChart", chart.configure(**THEMES[theme] | {"background": paper}))


def timeline_chart(rows: Table, week: Table, width: Width = "container") -> alt.LayerChart:
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
                alt.Tooltip("refused:Q", title="denied", format=","),
                alt.Tooltip("kind:N", title="status"),
            ],
        )
    )
    return _lines(_layered(band, points), width, 24)


def map_chart(
    rows: Table, countries: alt.NamedData | None = None, width: Width = "container"
) -> alt.LayerChart:
    """Where requests came from: `rows` as of `map_rows`; `countries` TopoJSON, else the bundled."""
    # As text, which Vega reads: Altair copies and checks each number of a document, many times.
    land = countries or alt.InlineData(values=vega.world_text(), format=_COUNTRIES)
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
                alt.Tooltip("kind:N", title="status"),
            ],
        )
    )
    return (
        _layered(alt.Chart(land).mark_geoshape(style="land", strokeWidth=0.4), points)
        .project("equalEarth")
        .properties(width=width, height=250)
    )


def endpoint_chart(rows: Table, width: Width = "container") -> alt.LayerChart:
    """Requests a day by endpoint: a bar before the window, a point in it; `endpoint_rows`."""
    scale = alt.Scale(type="symlog", constant=1, nice=True)
    axis = alt.Axis(title="requests a day, log scale", tickCount=5, format="~s")
    base = alt.Chart(rows).encode(alt.Y("endpoint:N", sort=None, title=None, axis=_NAMES))
    tips = [
        alt.Tooltip("endpoint:N", title="endpoint"),
        alt.Tooltip("before:Q", title="a day before", format=",.1f"),
        alt.Tooltip("now:Q", title="a day now", format=",.1f"),
        alt.Tooltip("refused:Q", title="denied now", format=","),
        alt.Tooltip("flagged:Q", title="suspicious now", format=","),
        alt.Tooltip("kind:N", title="status"),
    ]
    before = base.mark_bar(height=6, opacity=0.35, style="before").encode(
        alt.X("before:Q", scale=scale, axis=axis), tooltip=tips
    )
    now = base.mark_point(filled=True, size=75, opacity=1).encode(
        alt.X("now:Q", scale=scale, axis=axis), *_kinds(), tooltip=tips
    )
    return _lines(_layered(before, now), width, 20)


def counts_chart(
    rows: Table,
    kinds: Mapping[str, str],
    title: str,
    width: int,
    *,
    times: Sequence[str] | None = None,
) -> alt.LayerChart:
    """How many of each kind there are, by name: a bar a name, in the order of `rows`.

    `rows` as of `count_rows`; `kinds` has the color of each kind, in the order of a bar's parts;
    `title` says what is counted. With `times`, these are the names, below upright bars.
    """
    counts = alt.Axis(title=title, format="d", tickMinStep=1, tickCount=5)
    if times is None:
        x = alt.X("count:Q", axis=counts)
        y = alt.Y("name:N", sort=None, title=None, axis=_NAMES)
    else:
        below = alt.Axis(title=None, labelAngle=0, labelOverlap=True, ticks=False)
        x = alt.X("name:O", scale=alt.Scale(domain=list(times)), axis=below)
        y = alt.Y("count:Q", axis=counts)
    colors = alt.Scale(domain=list(kinds), range=list(kinds.values()))
    bars = (
        alt.Chart(rows)
        .transform_calculate(part=f"indexof({list(kinds)!r}, datum.kind)")
        .mark_bar()
        .encode(
            x,
            y,
            alt.Color("kind:N", scale=colors, legend=alt.Legend(title=None, orient="top")),
            alt.Order("part:Q"),
            tooltip=["name:N", "kind:N", "count:Q"],
        )
    )
    return _layered(bars).properties(width=width, height=alt.Step(16) if times is None else 130)


@cache
def vega_specifications() -> dict[str, dict[str, dict[str, Any]]]:
    """The charts compiled to Vega, by theme and name; to be filled in: rows, week and world.

    Compiled once here, they need not be for each case that is opened in a page.
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
