"""What a review says of what it could not assess, and of how sure its numbers are."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from keywatch.lake.weeks import week_window
from keywatch.model import CalibrationSummary, Coverage
from keywatch.review import coverage
from keywatch.settings import ReviewSettings, Settings

WEEK = week_window("2026-W40")
SETTINGS = Settings(review=ReviewSettings(warm_up_days=5))
NOBODY = Coverage(keys=3, assessed=0, warming_up=3, not_assessable=0, silent=0, events=30,
                  unlocated_addresses=0)  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (1, "All p-values are extrapolated from 1 replayed case with"),
        (2, "All p-values are extrapolated from 2 replayed cases with"),
        (4, "All p-values are extrapolated from 4 replayed cases with"),
        (5, "P-values below 0.83 are extrapolated from 5 replayed cases with"),
        (1600, "P-values below 0.0031 are extrapolated from 1,600 replayed cases with"),
    ],
)
def test_what_is_extrapolated_is_a_p_value(cases: int, said: str) -> None:
    (note,) = coverage._calibration_notes(CalibrationSummary(1, cases, 0.05))
    assert note == f"{said} an exponential tail."


@pytest.mark.parametrize(
    ("days_before", "days_of_log", "said"),
    [
        (-1, 0.04, "The lake has only 58 minutes of history, too little to assess keys against "),
        (3, 4, "The lake has only 4 days of history, too little to assess keys against their own "),
        (3, 10, "The log begins on 2026-09-25, too late to assess keys against their own history"),
        (0, 4.8, "The log begins on 2026-09-28, too late to assess keys against their own history"),
        (5, 5.2, "No key of this window was in use on 5 days or more before it, so none was asse"),
        (79, 85, "No key of this window was in use on 5 days or more before it, so none was asse"),
    ],
)
def test_why_no_key_was_assessed(days_before: float, days_of_log: float, said: str) -> None:
    first: datetime = WEEK.start - timedelta(days=days_before)
    last = first + timedelta(days=days_of_log)
    note = coverage._notes(first, last, WEEK, NOBODY, SETTINGS)[0]
    assert note.startswith(said)
    assert note.endswith("Keys were assessed by policy, sensitive calls and peers only.")
