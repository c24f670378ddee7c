"""Weeks about New Year, long and short years, leap days; what `--week` and `--from` may say."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from keywatch.errors import UsageError
from keywatch.lake.weeks import days_window, last_full_week, week_of, week_window, without_events
from keywatch.model import Window
from keywatch.text.phrases import iso_week, window_options
from tests.conftest import Loading, event

LONG_YEARS = {2004, 2009, 2015, 2020, 2026, 2032, 2037, 2043, 2048}
"""Those with a week 53 (ISO 8601), of 2000 to 2050."""


def test_a_year_has_53_weeks_where_its_28_december_says_so() -> None:
    for year in range(2000, 2051):
        last = 53 if year in LONG_YEARS else 52
        first, final = week_window(f"{year}-W01"), week_window(f"{year}-W{last}")
        assert final.end == week_window(f"{year + 1}-W01").start
        assert (final.end - first.start) == timedelta(weeks=last)
        assert iso_week(final) == f"{year}-W{last}"
        for wrong in ("00", f"{last + 1}", "54", "99"):
            with pytest.raises(UsageError, match=f"{year} has {year}-W01 to {year}-W{last}"):
                week_window(f"{year}-W{wrong}")


@pytest.mark.parametrize(
    ("day", "week"),
    [
        ("2026-12-28", "2026-W53"), ("2027-01-01", "2026-W53"), ("2027-01-03", "2026-W53"),
        ("2027-01-04", "2027-W01"), ("2024-12-30", "2025-W01"), ("2025-12-29", "2026-W01"),
        ("2023-01-01", "2022-W52"), ("2024-02-29", "2024-W09"), ("2028-02-29", "2028-W09"),
        ("2000-02-29", "2000-W09"), ("2020-12-31", "2020-W53"), ("2021-01-03", "2020-W53"),
    ],
)  # fmt: skip
def test_a_day_is_in_its_week_by_its_name_and_in_the_lake(
    day: str, week: str, quick: Loading
) -> None:
    window = week_window(week)
    moment = datetime.fromisoformat(day)
    assert window.start <= moment < window.end
    assert window_options(window) == f"--week {week}"
    quick.take([event(timestamp=f"{day}T12:00:00Z")], now=moment + timedelta(days=1))
    assert quick.lake.value("SELECT date_trunc('week', day) FROM lake.activity") == window.start
    assert last_full_week(quick.lake, moment + timedelta(days=8)) == window


def test_a_week_of_two_years_is_over_when_its_sunday_is(quick: Loading) -> None:
    quick.take(
        [event(timestamp=f"{day}T12:00:00Z") for day in ("2026-12-01", "2027-01-02")],
        now=datetime(2027, 1, 2, 13),
    )
    assert last_full_week(quick.lake, datetime(2027, 1, 2, 13)) == week_window("2026-W52")
    quick.take([event(timestamp="2027-01-03T12:00:00Z")], "2.jsonl", now=datetime(2027, 1, 3, 13))
    assert last_full_week(quick.lake, datetime(2027, 1, 3, 13)) == week_window("2026-W53")
    # Until then the clock says what day it is.
    assert last_full_week(quick.lake, datetime(2027, 1, 2, 13)) == week_window("2026-W52")


@pytest.mark.parametrize("text", ["2026-W53", "2026-w53", "2026W53", "2026w53"])
def test_a_week_as_people_write_it(text: str) -> None:
    assert week_window(text) == Window(datetime(2026, 12, 28), datetime(2027, 1, 4))


@pytest.mark.parametrize(
    "text",
    ["", "W40", "2026", "2026-40", "2026-W4", "2026-W040", "26-W40", "2026-W40-1", " 2026-W40",
     "2026-W40\n", "2026–W40", "202\u0666-W40", "2026-W4\uff10", "-026-W40", "2026-W-1", "2026-W4O",
     "0000-W01", "0001-W01", "9999-W52", "9999-W53"],
)  # fmt: skip
def test_what_is_no_week_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="week"):
        week_window(text)


def test_days_are_refused_that_no_baseline_or_week_can_be_counted_from() -> None:
    assert days_window(date(2024, 2, 28), date(2024, 3, 1)).end == datetime(2024, 3, 1)
    assert week_of(date(2024, 2, 26)).end == datetime(2024, 3, 4)
    for first, end in ((date(1, 1, 1), date(1, 1, 8)), (date(9999, 12, 1), date(9999, 12, 31))):
        with pytest.raises(UsageError, match="1970"):
            days_window(first, end)
    with pytest.raises(UsageError, match="must be after"):
        days_window(date(2026, 10, 5), date(2026, 10, 5))


def test_a_lake_of_events_without_a_key_says_how_to_name_the_key(quick: Loading) -> None:
    quick.lake.execute(
        "INSERT INTO lake.keyless_events (day, request_id) VALUES ('2026-08-03', 'r')"
    )
    assert without_events(quick.lake, [week_window("2026-W50")]) == (
        "the lake has no events of a key, and 1 event without one: if a field of the log names the "
        "key, load it into a new lake with keywatch ingest PATH --map key_id=FIELD"
    )


def test_a_week_without_events_names_those_that_have_some(quick: Loading) -> None:
    asked = week_window("2026-W50")
    assert without_events(quick.lake, [asked]) == (
        "the lake has no events: load a log with keywatch ingest PATH"
    )
    days = ("2026-08-03", "2026-09-21", "2026-09-30", "2026-10-05")
    quick.take([event(timestamp=f"{day}T12:00:00Z") for day in days])
    assert without_events(quick.lake, [asked]) == (
        "no events in week 2026-W50 (2026-12-07 to 2026-12-13, UTC): the lake has events from "
        "2026-08-03 to 2026-10-05 (2026-W32, 2026-W39 to 2026-W41)"
    )
    assert without_events(quick.lake, [week_window("2026-W39"), week_window("2026-W40")]) is None
    told = without_events(quick.lake, [week_window(f"2026-W{n}") for n in range(32, 42)])
    assert told is not None
    assert told.startswith("no events in week 2026-W33 (")
    assert "week 2026-W38 (2026-09-14 to 2026-09-20, UTC): the lake" in told
    # The first day of a window is in it, the day after its last one is not.
    first = days_window(date(2026, 9, 30), date(2026, 10, 1))
    assert without_events(quick.lake, [first]) is None
    assert without_events(quick.lake, [days_window(date(2026, 9, 29), date(2026, 9, 30))])
