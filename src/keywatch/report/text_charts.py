"""Small charts of one key in text: requests by network over time, and endpoints before and now.

Heights and lengths grow with the logarithm: a thief and an owner differ by powers of ten.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from keywatch.model import Case, Window
from keywatch.report.drawn import KINDS, NEW, SUSPICIOUS, USUAL, endpoint_rows, timeline_rows
from keywatch.report.layout import Cell, Grid, Page, styled
from keywatch.review.history import Details
from keywatch.text.phrases import count

_LEVELS = " ▁▂▃▄▅▆▇█"
_STYLES = {USUAL: "", NEW: "yellow", SUSPICIOUS: "bold red"}
_MOST_COLUMNS = 13
_LEAST_COLUMNS = 4
_WIDTH_OF_TEXT = 60
_BAR_LENGTH = 12


def add_charts(page: Page, case: Case, window: Window, details: Details, width: int) -> None:
    """The key's timeline and endpoints, where anything is known of it."""
    timeline = _of(case, details.timeline.to_pylist())
    if timeline:
        _add_timeline(page, timeline_rows(timeline), window, details.first_day, width)
    endpoints = _of(case, details.endpoints.to_pylist())
    if endpoints:
        _add_endpoints(page, endpoint_rows(endpoints))


def _of(case: Case, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["key_id"] == case.key_id]


def _add_timeline(
    page: Page, rows: Sequence[dict[str, Any]], window: Window, first_day: date, width: int
) -> None:
    """A line a network: columns of days before the window, a bar, columns of the window."""
    days: dict[str, dict[date, int]] = defaultdict(dict)
    kinds: dict[str, str] = {}
    for row in rows:
        name = row["origin"]
        days[name][date.fromisoformat(row["day"][:10])] = row["requests"]
        kinds[name] = max(kinds.get(name, USUAL), row["kind"], key=KINDS.index)
    start, end = window.start.date(), window.end.date()
    if end == start:
        end += timedelta(days=1)
    room = max(_LEAST_COLUMNS, min(_MOST_COLUMNS, (width - _WIDTH_OF_TEXT) // 2))
    first = max(first_day, min(day for by_day in days.values() for day in by_day))
    before = _spans(min(first, start), start, room)
    now = _spans(start, end, room)
    most = max(_rate(by_day, span) for by_day in days.values() for span in before + now)
    page.heading("Requests by network")
    cells: list[list[Cell]] = [
        [
            styled((_columns(by_day, before, most), "dim"), "│",
                   (_columns(by_day, now, most), _STYLES[kinds[name]])),
            f"{sum(by_day.values()):,}",
            _named(name, kinds[name]),
        ]
        for name, by_day in reversed(days.items())
    ]  # fmt: skip
    page.add(Grid(cells, align=("left", "right")), indent=2)
    left = f"left of the line {_each(before)} from {before[0][0]}, " if before else ""
    page.add(styled((f"Height: requests a day (log); {left}right of it {_each(now)} from {start}.",
                     "dim")), indent=2)  # fmt: skip


def _spans(start: date, end: date, most: int) -> list[tuple[date, date]]:
    """At most `most` half-open spans of whole days, all but the first of one length."""
    length = max(1, math.ceil((end - start).days / most))
    starts = [end - timedelta(days=length * n) for n in range(1, most + 1)]
    spans = [(max(each, start), each + timedelta(days=length)) for each in starts]
    return [span for span in reversed(spans) if span[0] < span[1]]


def _rate(by_day: dict[date, int], span: tuple[date, date]) -> float:
    """Requests a day in the span."""
    requests = sum(number for day, number in by_day.items() if span[0] <= day < span[1])
    return requests / (span[1] - span[0]).days


def _columns(by_day: dict[date, int], spans: Sequence[tuple[date, date]], most: float) -> str:
    return "".join(_LEVELS[_level(_rate(by_day, span), most, len(_LEVELS) - 1)] for span in spans)


def _level(value: float, most: float, steps: int) -> int:
    """0 for nothing, else 1 to `steps`."""
    if value <= 0:
        return 0
    return min(math.ceil(steps * math.log1p(value) / math.log1p(most)), steps)


def _each(spans: Sequence[tuple[date, date]]) -> str:
    days = (spans[-1][1] - spans[-1][0]).days
    return f"one column per {'day' if days == 1 else count(days, 'day')}"


def _named(name: str, kind: str) -> Cell:
    return styled(name, (f"  {kind}", _STYLES[kind])) if kind != USUAL else name


def _add_endpoints(page: Page, rows: Sequence[dict[str, Any]]) -> None:
    most = max(max(row["before"], row["now"]) for row in rows)
    page.heading("Requests a day by endpoint")
    heads: list[Cell] = [styled((head, "dim")) for head in ("before", "", "now", "", "endpoint")]
    cells: list[list[Cell]] = [
        [
            f"{row['before']:,.1f}",
            styled((_bar(row["before"], most), "dim")),
            f"{row['now']:,.1f}",
            styled((_bar(row["now"], most), _STYLES[row["kind"]])),
            styled(
                row["endpoint"],
                (f"  {row['kind']}" if row["kind"] != USUAL else "", _STYLES[row["kind"]]),
                f"  {row['refused']:,} denied" if row["refused"] else "",
            ),
        ]
        for row in rows
    ]
    page.add(Grid([heads, *cells], align=("right", "left", "right", "left")), indent=2)


def _bar(value: float, most: float) -> str:
    return "━" * _level(value, most, _BAR_LENGTH)
