"""Rendered reviews and cases, compared whole with the files in ``golden``.

After a change that is meant, ``KEYWATCH_RENEW_GOLDEN=1 pytest tests/report`` writes them anew;
read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from keywatch.model import Review, Window
from keywatch.report import render_case, render_new_networks, render_review
from keywatch.review.history import Details
from tests.report.pages import details_of
from tests.report.reviews import (
    AILING,
    DOUBTED,
    EMPTY,
    EXPOSED,
    FULL,
    HOSTILE,
    QUIET,
    SCANNED,
    SECOND,
    TO_ROTATE,
    UNASSESSED,
    UPKEEP_ONLY,
    filled_with,
)

GOLDEN = Path(__file__).parent / "golden"
ANSI = re.compile(r"\x1b\[[0-9;]*m")

RENDERED = {
    "review_full": lambda: render_review(FULL),
    "review_full_60_columns": lambda: render_review(FULL, width=60),
    "review_quiet": lambda: render_review(QUIET),
    "review_ailing": lambda: render_review(AILING),
    "review_empty": lambda: render_review(EMPTY),
    "review_unassessed": lambda: render_review(UNASSESSED),
    "review_rotate": lambda: render_review(TO_ROTATE),
    "case_rotate": lambda: render_case(EXPOSED, TO_ROTATE),
    "case_revoke": lambda: render_case(SCANNED, FULL),
    "case_calibrated": lambda: render_case(SECOND, FULL),
    "case_investigate": lambda: render_case(DOUBTED, FULL),
    "case_upkeep_only": lambda: render_case(UPKEEP_ONLY, FULL),
    "case_charts": lambda: render_case(SCANNED, FULL, details_of(FULL)),
    "case_charts_60_columns": lambda: render_case(SCANNED, FULL, details_of(FULL), width=60),
    "case_hostile": lambda: render_case(HOSTILE.cases[0], HOSTILE),
}


@pytest.mark.parametrize("name", RENDERED)
def test_golden(name: str) -> None:
    file = GOLDEN / f"{name}.txt"
    text = RENDERED[name]()
    if os.environ.get("KEYWATCH_RENEW_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_each_golden_file_is_compared() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(RENDERED)


def width_of(line: str) -> int:
    """Terminal cells, counted without the library that laid the line out."""
    return sum(map(cells_of, line))


@cache
def cells_of(char: str) -> int:
    if unicodedata.category(char).startswith("M") or is_second_jamo(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def is_second_jamo(char: str) -> bool:
    """Whether it is a vowel or an end of a Korean syllable: it stands in its start's cells."""
    return "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff"


def check(text: str, width: int) -> None:
    assert text.endswith("\n")
    lines = text.split("\n")
    assert max(map(width_of, lines)) <= width
    assert all(line.isprintable() for line in lines)
    assert all(line == line.rstrip() for line in lines)


LONG = {
    "word": "x" * 100_000,
    "words": "lorem ipsum " * 8_000,
    "wide": "監視" * 50_000,
    "escapes": "\x1b[31m\n" * 20_000,
    "mixed": "日 \x1b[1mA\u0301\u202e" * 15_000,
}


@cache
def filled(kind: str) -> tuple[Review, Details]:
    """A review and its details with the long value in each place; to fill them takes long."""
    review = filled_with(LONG[kind])
    return review, details_of(review, LONG[kind][:3_000])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("kind", LONG)
def test_long_hostile_values_stay_within_the_width(kind: str, width: int) -> None:
    review, details = filled(kind)
    check(render_review(review, width=width), width)
    check(render_case(review.cases[0], review, details, width=width), width)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=80), st.integers(40, 120))
@example("\U0001f3fb", 40)
def test_any_value_stays_within_the_width(text: str, width: int) -> None:
    review = filled_with(text)
    review = replace(review, cases=review.cases[:4])
    check(render_review(review, width=width, lake=Path(text)), width)
    check(render_case(review.cases[0], review, width=width, lake=Path(text)), width)


@pytest.mark.parametrize("review", [FULL, QUIET, HOSTILE], ids=["full", "quiet", "hostile"])
def test_color_changes_nothing_but_color(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NO_COLOR", "1"), ("FORCE_COLOR", "1"), ("COLUMNS", "20")):
        monkeypatch.setenv(name, value)
    plain, colored = render_review(review), render_review(review, color=True)
    assert "\x1b" not in plain
    assert "\x1b[1m" in colored
    assert ANSI.sub("", colored) == plain
    case, details = review.cases[0], details_of(FULL)
    plain, colored = (render_case(case, review, details, color=color) for color in (False, True))
    assert "\x1b" not in plain
    assert ANSI.sub("", colored) == plain


def test_what_is_pasted_into_a_shell_is_quoted() -> None:
    review = replace(FULL, cases=(replace(SCANNED, key_id="k;reboot"),))
    assert "  keywatch case 'k;reboot' --week 2026-W40\n" in render_review(review)
    told = render_review(review, lake=Path("/srv/a lake;\x1b[2J"))
    assert "  keywatch case 'k;reboot' --week 2026-W40 --lake '/srv/a lake;\\x1b[2J'\n" in told


MANY = replace(FULL, cases=(SCANNED,) * 26, new_networks=FULL.new_networks * 21)
QUERIED = replace(SCANNED, events_query="SELECT 1;" * 3_000)


@pytest.mark.parametrize(
    "render",
    [
        partial(render_review, FULL),
        partial(render_review, MANY),
        partial(render_review, AILING),
        partial(render_review, TO_ROTATE),
        partial(render_review, HOSTILE),
        partial(render_new_networks, MANY),
        partial(render_case, EXPOSED, TO_ROTATE),
        partial(render_case, QUERIED, FULL),
        partial(render_case, HOSTILE.cases[0], HOSTILE),
    ],
)
def test_each_command_names_the_lake_that_was_asked(render: Callable[..., str]) -> None:
    text = render(width=30_000, lake=Path("/srv/lake"))  # a line is the longest query, and more
    for command in re.split(r"\bkeywatch (?=[a-z])", text)[1:]:
        assert " --lake /srv/lake" in command
    assert text.replace(" --lake /srv/lake", "") == render(width=30_000)


def test_a_lake_s_quotes_end_none_of_a_step_s() -> None:
    hostile = "`keywatch case 'k`keywatch case reboot'`"
    case = replace(SCANNED, steps=("run keywatch deliver", hostile))
    text = render_case(case, FULL, lake=Path("/a lake"))
    assert "Run keywatch deliver --lake '/a lake'.\n" in text
    assert f"{hostile}.\n" in text


def charted(origins: dict[str, dict[date, int]], window: Window) -> list[str]:
    """The lines of the timeline of a key with these requests by network and day."""
    rows = [
        {"key_id": SCANNED.key_id, "day": day, "origin": origin, "class": "isp", "requests": number,
         "refused": 0, "now": day >= window.start.date(), "known": True, "flagged": False}
        for origin, days in origins.items()
        for day, number in days.items()
    ]  # fmt: skip
    details = replace(details_of(FULL), timeline=pa.Table.from_pylist(rows))
    text = render_case(SCANNED, replace(FULL, window=window), details)
    return text.partition("Requests by network\n")[2].partition("\n\n")[0].split("\n")


def test_a_timeline_s_columns_are_spans_of_days_whose_height_is_their_mean() -> None:
    week = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
    first = date(2026, 7, 26)
    steady = {first + timedelta(days=n): 40 for n in range(71)}
    lines = charted({"AS1 A": steady, "AS2 B": {date(2026, 10, 1): 3}}, week)

    assert lines == [
        "  █████████████│███████  2,840  AS1 A",
        "               │   ▃         3  AS2 B",
        "  Height: requests a day (log); "
        "left of the line one column per 5 days from 2026-07-26, right of it",
        "  one column per day from 2026-09-28.",
    ]


def test_a_timeline_of_a_month_a_quarter_of_an_hour_and_of_a_key_without_a_past() -> None:
    month = Window(datetime(2026, 9, 1), datetime(2026, 10, 1))
    lines = charted({"AS1 A": {date(2026, 9, 30): 9}}, month)
    assert lines[0] == "  │         █  9  AS1 A"
    quarter = Window(datetime(2026, 9, 30, 6), datetime(2026, 9, 30, 6, 15))
    lines = charted({"AS1 A": {date(2026, 9, 29): 9, date(2026, 9, 30): 1}}, quarter)
    assert lines[0] == "  █│▃  10  AS1 A"


def test_more_keys_than_are_told_in_full_are_all_named() -> None:
    cases = tuple(replace(SCANNED, key_id=f"key_{number:03}") for number in range(60))
    text = render_review(replace(FULL, cases=cases))
    assert all(case.key_id in text for case in cases)
    assert "35 more keys with an action" in text
