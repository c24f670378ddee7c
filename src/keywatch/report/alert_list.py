"""Alerts that are not closed, and how fast and how rightly alerts are answered.

Every value that comes from a log, an inventory or a person goes through `printable`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from datetime import datetime

from keywatch.model import OpenAlert, Response
from keywatch.report.layout import Cell, Grid, Page, Stack, styled
from keywatch.report.parts import (
    CELL_LENGTH,
    ID_LENGTH,
    NAME_LENGTH,
    SENTENCE_LENGTH,
    STYLES,
    action_label,
)
from keywatch.text.phrases import count, duration, iso_week, listed, percent, sentence
from keywatch.text.safe_text import printable

MOST_NAMES = 3
_MOST_SHOWN = 10
_MOST_DETECTORS = 5


def render_alerts(found: Response, *, color: bool = False, width: int = 100) -> str:
    """All alerts that are not closed and the figures, as text that ends with a line break."""
    page = Page(width, color=color)
    _add(page, found, len(found.open))
    return page.text


def add_response(page: Page, found: Response | None) -> None:
    """The same, as a part of a review; nothing while there was no alert."""
    if found is None or not (found.open or found.alerts):
        return
    page.heading(f"Open alerts: {len(found.open):,}")
    _add(page, found, _MOST_SHOWN, indent=2)


def _add(page: Page, found: Response, most: int, indent: int = 0) -> None:
    if found.open:
        shared = _shared_names(found.open)
        rows = [_row(one, found.as_of, shared) for one in found.open[:most]]
        page.add(Grid(rows), indent=indent)
    else:
        page.add("No alert is open.", indent=indent)
    if (more := len(found.open) - most) > 0:
        page.add(f"and {more:,} more: {page.command('alerts list')}", indent=indent)
    page.add(Grid([[text] for text in response_sentences(found)]), indent=indent)


def _shared_names(alerts: Iterable[OpenAlert]) -> set[str]:
    """The names that several keys of these alerts have."""
    keys = {each for one in alerts for each in zip(one.key_ids, one.names, strict=True)}
    return {name for name, times in Counter(name for _, name in keys).items() if times > 1}


def _row(one: OpenAlert, now: datetime, shared: Set[str]) -> list[Cell]:
    who = f"assigned to {printable(one.assignee, NAME_LENGTH)}" if one.assignee else "not assigned"
    comment = printable(one.comment, SENTENCE_LENGTH) if one.comment else ""
    named = (
        f"{printable(name, CELL_LENGTH)} ({printable(key_id, ID_LENGTH)})"
        if name in shared
        else printable(name, CELL_LENGTH)
        for key_id, name in zip(one.key_ids, one.names, strict=True)
    )
    names = listed(named, MOST_NAMES)
    week = iso_week(one.window) or f"{one.window.start.date()}"
    acknowledged = "acknowledged, " if one.state == "acknowledged" else ""
    state = f"{acknowledged}open for {age(one, now)}, week {week}, {who}"
    return [
        styled((action_label(one.action), STYLES[one.action])),
        one.severity,
        Stack((
            styled((names, "bold"), f"  {printable(one.alert_id, ID_LENGTH)}"),
            state,
            *((f"comment of {comment}",) if comment else ()),
        )),
    ]  # fmt: skip


def age(one: OpenAlert, now: datetime) -> str:
    """``3 days``, since it was opened."""
    return duration(max((now - one.opened_at).total_seconds(), 0.0) / 86_400)


def response_sentences(found: Response) -> list[str]:
    """The figures, a sentence each; none where there was no alert."""
    if not found.alerts:
        return []
    told = [
        f"Last {found.days} days: {count(found.alerts, 'alert')}, {found.closed:,} closed",
        _median("median time to detect", found.detect_hours),
        _median("to close", found.close_hours),
    ]
    lines = [sentence(", ".join(part for part in told if part))]
    answered = found.right + found.wrong
    if not answered:
        return [*lines, "No alert has a verdict yet: whether they were right is not known."]
    lines.append(
        f"{found.right:,} of {count(answered, 'alert')} with a verdict "
        f"{'was a theft' if answered == 1 else 'were thefts'} ({percent(found.right / answered)})."
    )
    by_detector = [
        f"{one.detector.replace('_', ' ')} {one.right:,} of {one.right + one.wrong:,}"
        for one in found.detectors[:_MOST_DETECTORS]
    ]
    if by_detector:
        lines.append(f"Thefts by detector: {', '.join(by_detector)}.")
    return lines


def _median(words: str, hours: float | None) -> str:
    return "" if hours is None else f"{words} {duration(max(hours, 0.0) / 24)}"
