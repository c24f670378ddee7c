"""Rendered reviews and cases, compared whole with the files in ``golden``.

After a change that is meant, ``KEYWATCH_RENEW_GOLDEN=1 pytest tests/report`` writes them anew;
read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keywatch.model import Review
from keywatch.report import render_case, render_review
from tests.report.reviews import (
    DOUBTED,
    EMPTY,
    FULL,
    HOSTILE,
    QUIET,
    SCANNED,
    SECOND,
    UNJUDGED,
    UPKEEP_ONLY,
    filled_with,
)

GOLDEN = Path(__file__).parent / "golden"
ANSI = re.compile(r"\x1b\[[0-9;]*m")

RENDERED = {
    "review_full": lambda: render_review(FULL),
    "review_full_60_columns": lambda: render_review(FULL, width=60),
    "review_quiet": lambda: render_review(QUIET),
    "review_empty": lambda: render_review(EMPTY),
    "review_unjudged": lambda: render_review(UNJUDGED),
    "case_revoke": lambda: render_case(SCANNED, FULL),
    "case_calibrated": lambda: render_case(SECOND, FULL),
    "case_investigate": lambda: render_case(DOUBTED, FULL),
    "case_upkeep_only": lambda: render_case(UPKEEP_ONLY, FULL),
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
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in line
        if not unicodedata.category(char).startswith("M")
    )


def check(text: str, width: int) -> None:
    assert text.endswith("\n")
    lines = text.split("\n")
    assert max(map(width_of, lines)) <= width
    assert all(char.isprintable() for line in lines for char in line)
    assert all(line == line.rstrip() for line in lines)


LONG = {
    "word": "x" * 100_000,
    "words": "lorem ipsum " * 8_000,
    "wide": "監視" * 50_000,
    "escapes": "\x1b[31m\n" * 20_000,
    "mixed": "日 \x1b[1mA\u0301\u202e" * 15_000,
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("kind", LONG)
def test_long_hostile_values_stay_within_the_width(kind: str, width: int) -> None:
    review = filled_with(LONG[kind])
    check(render_review(review, width=width), width)
    check(render_case(review.cases[0], review, width=width), width)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=80), st.integers(40, 120))
def test_any_value_stays_within_the_width(text: str, width: int) -> None:
    review = filled_with(text)
    review = replace(review, cases=review.cases[:4])
    check(render_review(review, width=width), width)
    check(render_case(review.cases[0], review, width=width), width)


@pytest.mark.parametrize("review", [FULL, QUIET, HOSTILE], ids=["full", "quiet", "hostile"])
def test_color_changes_nothing_but_color(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NO_COLOR", "1"), ("FORCE_COLOR", "1"), ("COLUMNS", "20")):
        monkeypatch.setenv(name, value)
    plain, colored = render_review(review), render_review(review, color=True)
    assert "\x1b" not in plain
    assert "\x1b[1m" in colored
    assert ANSI.sub("", colored) == plain
    plain, colored = (render_case(review.cases[0], review, color=color) for color in (False, True))
    assert "\x1b" not in plain
    assert ANSI.sub("", colored) == plain


def test_what_is_pasted_into_a_shell_is_quoted() -> None:
    review = replace(FULL, cases=(replace(SCANNED, key_id="k;reboot"),))
    assert "  keywatch case 'k;reboot' --week 2026-W40\n" in render_review(review)


def test_more_keys_than_are_told_in_full_are_all_named() -> None:
    cases = tuple(replace(SCANNED, key_id=f"key_{number:03}") for number in range(60))
    text = render_review(replace(FULL, cases=cases))
    assert all(case.key_id in text for case in cases)
    assert "35 more keys to act on" in text
