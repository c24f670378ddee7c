"""Draw docs/growth.png: what loads and reviews cost, from figures of `benchmarks.growth`.

    python tools/draw_growth.py docs/growth_keys.jsonl docs/growth_weeks.jsonl

Each file is one run: lakes that differ in keys, and lakes that differ in weeks. Both axes are
logarithmic; a dashed line is growth in proportion, from the smallest size on. A point is the median
of the figures of its size.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import altair as alt

from benchmarks.growth import MOST_PEAK_MIB, STEPS, Figure, Size
from keywatch.report.charts import THEMES

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "growth.png"
_COLORS = ("#5b84b1", "#d1343f", "#8fb8de", "#d97d0d")
_MEASURED, _PROPORTION = "measured", "in proportion"


def figures_of(file: Path) -> list[Figure]:
    return [Figure(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def growth_chart(by_keys: Sequence[Figure], by_weeks: Sequence[Figure]) -> alt.VConcatChart:
    keys = f"keys, {by_keys[0].weeks} weeks"
    weeks = f"weeks of log, {by_weeks[0].keys:,} keys"
    rows = [
        alt.hconcat(
            _panel(by_keys, "keys", keys, measure, title),
            _panel(by_weeks, "weeks", weeks, measure, title),
        )
        for measure, title in (("cpu_seconds", "processor seconds"), ("peak_mib", "peak MiB"))
    ]
    theme = THEMES["light"] | {"background": "#ffffff"}
    return cast("alt.VConcatChart", alt.vconcat(*rows).configure(**theme))


def _panel(
    figures: Sequence[Figure], across: str, title: str, measure: str, measure_title: str
) -> alt.LayerChart:
    points = medians(figures, across, measure)
    sizes = sorted({point["size"] for point in points})
    base = alt.Chart(alt.InlineData(values=[*points, *proportional(points)])).encode(
        alt.X("size:Q", title=title, scale=alt.Scale(type="log", padding=12),
              axis=alt.Axis(values=sizes, format=",", grid=False)),
        alt.Y("cost:Q", title=measure_title, scale=alt.Scale(type="log", nice=False, padding=12),
              axis=alt.Axis(format=",", tickCount=5)),
        alt.Color("step:N", scale=alt.Scale(domain=list(STEPS), range=list(_COLORS)),
                  legend=alt.Legend(title=None, orient="top", symbolType="circle")),
    )  # fmt: skip
    layers = [
        base.mark_line(point=alt.OverlayMarkDef(size=40)).transform_filter(
            alt.datum.kind == _MEASURED
        )
    ]
    if measure == "cpu_seconds":
        layers.append(
            base.mark_line(strokeDash=[4, 4], opacity=0.4).transform_filter(
                alt.datum.kind == _PROPORTION
            )
        )
    else:
        limit = alt.Chart(alt.InlineData(values=[{"cost": MOST_PEAK_MIB}]))
        layers.append(limit.mark_rule(strokeDash=[4, 4]).encode(alt.Y("cost:Q")))
    return cast("alt.LayerChart", alt.layer(*layers).properties(width=330, height=230))


def medians(figures: Iterable[Figure], across: str, measure: str) -> list[dict[str, Any]]:
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    for each in figures:
        size: Size = each.size
        costs[each.step, getattr(size, across)].append(getattr(each, measure))
    return [
        {"step": step, "size": size, "cost": statistics.median(found), "kind": _MEASURED}
        for (step, size), found in sorted(costs.items())
    ]


def proportional(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each step, from its smallest size to its largest."""
    found = []
    for step in STEPS:
        own = [point for point in points if point["step"] == step]
        for point in (own[0], own[-1]) if len(own) > 1 else ():
            cost = own[0]["cost"] * point["size"] / own[0]["size"]
            found.append(point | {"cost": cost, "kind": _PROPORTION})
    return found


def main(by_keys: str, by_weeks: str, picture: str = str(PICTURE)) -> int:
    chart = growth_chart(figures_of(Path(by_keys)), figures_of(Path(by_weeks)))
    chart.save(picture, scale_factor=2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
