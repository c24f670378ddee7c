"""Which week is meant: as an ISO week's name, or as of the lake's last event."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Window

_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def last_full_week(lake: Lake) -> Window:
    """The last ISO week that is over, as of the lake's last event; else the week it lies in.

    Event time decides, not the wall clock: an old log is reviewed as of its own end.
    """
    first, last = lake.rows("SELECT min(day), max(day) FROM lake.activity")[0]
    if last is None:
        first = last = utc_now().date()
    monday = _monday(last + timedelta(days=1)) - timedelta(days=7)
    if first >= monday + timedelta(days=7):
        monday = _monday(last)
    return week_of(monday)


def is_newest_week(lake: Lake, window: Window) -> bool:
    """Whether it is the last ISO week that is over, as of the lake's last event."""
    last = lake.value("SELECT max(day) FROM lake.activity")
    over = last is not None and last >= window.end.date() - timedelta(days=1)
    return over and window == last_full_week(lake)


def week_of(monday: date) -> Window:
    """The seven days from `monday` on."""
    start = datetime.combine(monday, time())
    return Window(start, start + timedelta(days=7))


def week_window(week: str) -> Window:
    """The window of an ISO week such as 2026-W40.

    Raises:
        UsageError: it is no such week.
    """
    match = _WEEK.fullmatch(week)
    try:
        if match is None:
            raise ValueError
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
    except ValueError:
        raise UsageError(f"week {week!r} is no ISO week; write it as 2026-W40") from None
    return week_of(monday)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
