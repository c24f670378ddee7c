"""Counts, sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keywatch.model import Window
from keywatch.text import phrases


@pytest.mark.parametrize(
    ("start", "end", "label"),
    [
        ((2026, 9, 28), (2026, 10, 5), "week 2026-W40 (2026-09-28 to 2026-10-04, UTC)"),
        ((2020, 12, 28), (2021, 1, 4), "week 2020-W53 (2020-12-28 to 2021-01-03, UTC)"),
        ((2026, 9, 29), (2026, 10, 6), "2026-09-29 to 2026-10-05 UTC"),
        ((2026, 9, 29), (2026, 9, 30), "2026-09-29 UTC"),
        ((2026, 9, 29, 6), (2026, 9, 30), "2026-09-29 06:00 until 2026-09-30 00:00 UTC"),
    ],
)
def test_windows(start: tuple[int, int, int], end: tuple[int, int, int], label: str) -> None:
    assert phrases.window_label(Window(datetime(*start), datetime(*end))) == label
    aware = Window(datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC))
    assert phrases.window_label(aware) == label


def test_options_that_ask_for_the_window_again() -> None:
    week = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
    days = Window(datetime(2026, 9, 29), datetime(2026, 10, 1))
    hours = Window(datetime(2026, 9, 29, 6), datetime(2026, 9, 29, 7))
    assert phrases.window_options(week) == "--week 2026-W40"
    assert phrases.window_options(days) == "--from 2026-09-29 --to 2026-10-01"
    assert phrases.window_options(hours) == ""


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1240, "1.2 kB"), (999_960, "1.0 MB"),
     (5e9, "5.0 GB"), (2.5e15, "2,500.0 TB")],
)  # fmt: skip
def test_sizes(size_bytes: float, text: str) -> None:
    assert phrases.size(size_bytes) == text


@pytest.mark.parametrize(
    ("days", "text"),
    [(83.9, "84 days"), (2, "2 days"), (1.5, "36 hours"), (55 / 1440, "55 minutes"),
     (0, "0 minutes")],
)  # fmt: skip
def test_durations(days: float, text: str) -> None:
    assert phrases.duration(days) == text


@pytest.mark.parametrize(
    ("per_day", "text"),
    [(1440.0, "1,440 requests a day"), (0.14, "0.1 requests a day"), (1.0, "1 request a day")],
)
def test_rates(per_day: float, text: str) -> None:
    assert phrases.rate(per_day) == text


def test_lists_and_sentences() -> None:
    assert phrases.listed("abc", 3) == "a, b, c"
    assert phrases.listed("abcd", 2) == "a, b and 2 more"
    assert phrases.sentence("revoke it") == "Revoke it."
    assert phrases.sentence("Done.") == "Done."
    assert phrases.sentence("") == ""
