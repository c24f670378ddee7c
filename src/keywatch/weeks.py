"""Which week is meant: as an ISO week's name, or as of the lake's last event."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Window

_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def last_event(lake: Lake, now: datetime | None = None) -> datetime | None:
    """The last event that is not of a day after `now`; of all, where all are. None of no event.

    What is ahead of the clock does not decide which weeks there are. Where all of a log is, it is
    the clock that is wrong.
    """
    last: datetime | None = lake.value(
        "SELECT coalesce(max(last_ts) FILTER (day <= $today), max(last_ts)) FROM lake.activity",
        today=(now or utc_now()).date(),
    )
    return last


def last_full_week(lake: Lake, now: datetime | None = None) -> Window:
    """The last ISO week that is over, as of the lake's last event; else the week it lies in.

    Event time decides, not the wall clock: an old log is reviewed as of its own end. But no week
    is over that is ahead of `now` (`last_event`).
    """
    newest = last_event(lake, now)
    last = (newest or now or utc_now()).date()
    first = lake.value("SELECT min(day) FROM lake.activity") or last
    monday = _monday(last + timedelta(days=1)) - timedelta(days=7)
    if first >= monday + timedelta(days=7):
        monday = _monday(last)
    return week_of(monday)


def is_newest_week(lake: Lake, window: Window, now: datetime | None = None) -> bool:
    """Whether it is the last ISO week that is over, as of the lake's last event."""
    last = last_event(lake, now)
    over = last is not None and last.date() >= window.end.date() - timedelta(days=1)
    return over and window == last_full_week(lake, now)


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
