"""What counts as a rhythm, and when it has stopped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from keywatch.operate.silence import any_rhythm_of, rhythm_of

FIRST = date(2026, 6, 1)  # a Monday


def days(count: int, when: Callable[[date], bool] = lambda _: True) -> list[date]:
    every = (FIRST + timedelta(days=n) for n in range(count))
    return [day for day in every if when(day)]


def works(day: date) -> bool:
    return day.weekday() < 5


DAILY = days(90)
WORKING = days(90, works)
SUNDAY_TO_THURSDAY = days(90, lambda day: day.weekday() not in (4, 5))
HOLIDAY = days(90, lambda day: works(day) and not date(2026, 7, 6) <= day <= date(2026, 7, 10))


@pytest.mark.parametrize(
    ("happened", "weekdays", "rest"),
    [
        (DAILY, {0, 1, 2, 3, 4, 5, 6}, 0),
        (WORKING, {0, 1, 2, 3, 4}, 0),
        (SUNDAY_TO_THURSDAY, {6, 0, 1, 2, 3}, 0),
        (HOLIDAY, {0, 1, 2, 3, 4}, 5),
    ],
)
def test_a_rhythm_is_the_usual_weekdays_and_the_longest_rest(
    happened: list[date], weekdays: set[int], rest: int
) -> None:
    rhythm = rhythm_of(happened)

    assert rhythm is not None
    assert (set(rhythm.weekdays), rhythm.rest_days) == (weekdays, rest)


@pytest.mark.parametrize(
    "happened",
    [
        [],
        days(27),  # too little is known
        days(90, lambda day: day.day == 1),  # monthly
        days(90, lambda day: day.weekday() == 2),  # weekly
        days(90, lambda day: day.toordinal() % 2 == 0),
        days(90, lambda day: day.weekday() in (0, 1, 2, 3)),
    ],
)
def test_what_is_not_daily_has_no_rhythm(happened: list[date]) -> None:
    assert rhythm_of(happened) is None


@pytest.mark.parametrize(
    ("happened", "silent_days", "stopped"),
    [
        (DAILY, 6, False),  # of which the last is not over
        (DAILY, 7, True),
        # It ends on Saturday 29 August: until Monday a week later five working days are missed.
        (WORKING, 10, False),
        (WORKING, 11, True),
        # A week of holiday was seen before: two are no longer than twice that.
        (HOLIDAY, 17, False),
        (HOLIDAY, 18, True),
    ],
)
def test_it_has_stopped_after_a_working_week_and_twice_the_longest_rest(
    happened: list[date], silent_days: int, stopped: bool
) -> None:
    rhythm = rhythm_of(happened)
    assert rhythm is not None
    last = max(happened)

    assert rhythm.has_stopped(last, last + timedelta(days=silent_days), 5) is stopped


def test_a_weekend_is_no_silence_of_what_works_on_weekdays() -> None:
    rhythm = rhythm_of(WORKING[:-1])
    assert rhythm is not None
    friday = date(2026, 8, 21)

    assert rhythm.missed_days(friday, date(2026, 8, 24)) == 0
    assert not rhythm.has_stopped(friday, date(2026, 8, 24), 0)


def test_without_a_rhythm_the_longest_rest_counts_in_days() -> None:
    weekly = any_rhythm_of(days(30, lambda day: day.weekday() == 2))

    assert weekly.rest_days == 6
    assert any_rhythm_of([FIRST]).rest_days == 0
