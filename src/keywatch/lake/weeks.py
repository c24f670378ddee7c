"""Which week is meant: as an ISO week's name, or as of the lake's last event."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Window
from keywatch.text.phrases import count, listed, window_label

_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.ASCII | re.IGNORECASE)
_MOST_NAMED = 6
_YEARS = range(1970, 9000)
"""A baseline before and a week after are days that a calendar has."""


def last_event(lake: Lake, now: datetime | None = None) -> datetime | None:
    """The last event that is not of a day after `now`; of all, where all are. None of no event.

    What is ahead of the clock does not decide which weeks there are. Where all of a log is, it is
    the clock that is wrong.
    """
    day = lake.steady_value(
        "SELECT coalesce(max(day) FILTER (day <= $today), max(day)) FROM lake.activity",
        today=(now or utc_now()).date(),
    )
    # Of a day that is named, nearly all files are left unread.
    last: datetime | None = lake.steady_value(
        "SELECT max(last_ts) FROM lake.activity WHERE day = $day", day=day
    )
    return last


def last_full_week(lake: Lake, now: datetime | None = None) -> Window:
    """The last ISO week that is over, as of the lake's last event; else the week it lies in.

    Event time decides, not the wall clock: an old log is reviewed as of its own end. But no week
    is over that is ahead of `now` (`last_event`).
    """
    return _last_full_week(lake, last_event(lake, now) or now or utc_now())


def _last_full_week(lake: Lake, newest: datetime) -> Window:
    last = newest.date()
    first = lake.steady_value("SELECT min(day) FROM lake.activity") or last
    monday = _monday(last + timedelta(days=1)) - timedelta(days=7)
    if first >= monday + timedelta(days=7):
        monday = _monday(last)
    return week_of(monday)


def is_newest_week(lake: Lake, window: Window, now: datetime | None = None) -> bool:
    """Whether it is the last ISO week that is over, as of the lake's last event."""
    last = last_event(lake, now)
    if last is None or last.date() < window.end.date() - timedelta(days=1):
        return False
    return window == _last_full_week(lake, last)


def without_events(lake: Lake, windows: Sequence[Window]) -> str | None:
    """Which of `windows` have no event, and what the lake has instead; None where all have some."""
    days = [day for (day,) in lake.rows("SELECT DISTINCT day FROM lake.activity ORDER BY day")]
    empty = [
        window
        for window in windows
        if not any(window.start.date() <= day < window.end.date() for day in days)
    ]
    if not empty:
        return None
    if not days:
        return _no_events(lake)
    # Each run of weeks, one after another, by its first and last Monday.
    runs: list[tuple[date, date]] = []
    for monday in sorted({_monday(day) for day in days}):
        if runs and runs[-1][1] == monday - timedelta(days=7):
            runs[-1] = (runs[-1][0], monday)
        else:
            runs.append((monday, monday))
    weeks = [_week_name(a) if a == z else f"{_week_name(a)} to {_week_name(z)}" for a, z in runs]
    return (
        f"no events in {listed(map(window_label, empty), _MOST_NAMED)}: the lake has events from "
        f"{days[0]} to {days[-1]} ({listed(weeks, _MOST_NAMED)})"
    )


def _no_events(lake: Lake) -> str:
    keyless = lake.value("SELECT count(*) FROM lake.keyless_events")
    if not keyless:
        return "the lake has no events: load a log with keywatch ingest PATH"
    return (
        f"the lake has no events of a key, and {count(keyless, 'event')} without one: if a field "
        "of the log names the key, load it into a new lake with keywatch ingest PATH "
        "--map key_id=FIELD"
    )


def _week_name(monday: date) -> str:
    return "{}-W{:02}".format(*monday.isocalendar())


def week_of(monday: date) -> Window:
    """The seven days from `monday` on."""
    start = datetime.combine(monday, time())
    return Window(start, start + timedelta(days=7))


def week_window(week: str) -> Window:
    """The window of an ISO week such as 2026-W40; ``2026w40`` is the same.

    A year has 52 weeks or 53. Its first one is that of 4 January, so the days about New Year may
    be of a week of the other year.

    Raises:
        UsageError: it is no such week.
    """
    match = _WEEK.fullmatch(week)
    if match is None:
        raise UsageError(f"week {week!r} is not an ISO week; use the form 2026-W40")
    year, number = int(match[1]), int(match[2])
    if year not in _YEARS:
        raise UsageError(f"week {week!r} is not in the years {_YEARS[0]} to {_YEARS[-1]}")
    try:
        monday = date.fromisocalendar(year, number, 1)
    except ValueError:
        last = date(year, 12, 28).isocalendar().week
        raise UsageError(
            f"week {week!r} is not an ISO week: {year} has {year}-W01 to {year}-W{last}"
        ) from None
    return week_of(monday)


def days_window(first: date, end: date) -> Window:
    """The window from the day `first` to the day before `end`.

    Raises:
        UsageError: it holds no day, or is of no year that a log can be of.
    """
    if end <= first:
        raise UsageError(f"--to {end} must be after --from {first}")
    if first.year not in _YEARS or end.year not in _YEARS:
        raise UsageError(
            f"--from {first} --to {end}: days must be in the years {_YEARS[0]} to {_YEARS[-1]}"
        )
    return Window(datetime.combine(first, time()), datetime.combine(end, time()))


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
