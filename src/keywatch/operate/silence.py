"""Whether something that happened day after day has stopped; its own rhythm says what is too long.

A rhythm is the weekdays on which it happened nearly always, and the longest rest: how many such
days in a row went by without it. So weekends are no rest to a key that works from Monday to Friday,
and what comes once a week or a month has no rhythm here: its silence says nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

LEAST_DAYS = 28
"""A rhythm is known after four of each weekday."""
_NEARLY_ALWAYS = 0.8
_LEAST_WEEKDAYS = 5
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rhythm:
    """The usual `weekdays` (0 is Monday), and the longest rest in such days."""

    weekdays: frozenset[int]
    rest_days: int

    def missed_days(self, last: date, until: date) -> int:
        """How many usual days lie between `last` and `until`, neither included.

        >>> weekdays = Rhythm(frozenset(range(5)), rest_days=0)
        >>> weekdays.missed_days(date(2026, 10, 2), date(2026, 10, 6))  # Friday to Tuesday
        1
        """
        between = range(1, (until - last).days)
        return sum((last + each * _DAY).weekday() in self.weekdays for each in between)

    def has_stopped(self, last: date, until: date, patience_days: int) -> bool:
        """Whether more usual days than `patience_days` and twice the longest rest were missed.

        `until` itself is not over and does not count.
        """
        return self.missed_days(last, until) > max(patience_days, 2 * self.rest_days)


def rhythm_of(days: Collection[date]) -> Rhythm | None:
    """The rhythm of what happened on `days`; None where it is not known, or is no daily one.

    >>> days = [date(2026, 9, 1) + n * _DAY for n in range(30)]
    >>> rhythm_of([day for day in days if day.weekday() < 5])
    Rhythm(weekdays=frozenset({0, 1, 2, 3, 4}), rest_days=0)
    >>> rhythm_of(days[:20]) is None
    True
    """
    if not days:
        return None
    first, last = min(days), max(days)
    if (last - first).days + 1 < LEAST_DAYS:
        return None
    held = set(days)
    spanned = [first + each * _DAY for each in range((last - first).days + 1)]
    usual = frozenset(
        weekday
        for weekday in range(7)
        if _share(held, [day for day in spanned if day.weekday() == weekday]) >= _NEARLY_ALWAYS
    )
    return Rhythm(usual, _longest_rest(held, usual)) if len(usual) >= _LEAST_WEEKDAYS else None


def any_rhythm_of(days: Collection[date]) -> Rhythm:
    """As if every day was a usual one, with the longest rest that there was; `days` not empty."""
    every = frozenset(range(7))
    return Rhythm(every, _longest_rest(days, every))


def _share(held: Collection[date], of: Collection[date]) -> float:
    return sum(day in held for day in of) / len(of)


def _longest_rest(days: Collection[date], usual: frozenset[int]) -> int:
    ordered = sorted(days)
    rhythm = Rhythm(usual, 0)
    return max((rhythm.missed_days(*pair) for pair in pairwise(ordered)), default=0)
