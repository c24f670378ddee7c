"""Ids that were tried and are no keys: whoever guesses makes as many of them as they like."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.detect import detectors
from keywatch.lake import Lake
from keywatch.vendors import catalogue_by_source
from tests.conftest import Loading, event
from tests.test_pipeline import SETTINGS, WEEK, crowd, daily, key, lake_of, line, theft

GUESSES = 300


def guesses() -> list[dict[str, Any]]:
    return [
        line(f"2026-10-0{1 + n % 4}T{n % 24:02}:{n % 60:02}:00", key_id=f"guess_{n}",
             ip=f"185.220.101.{n % 200}", user_agent="curl/8.4.0", status=401)
        for n in range(GUESSES)
    ]  # fmt: skip


def test_guesses_change_no_case_and_are_counted_in_a_note(tmp_path: Path) -> None:
    ours = daily(date(2026, 8, 1), 65) + theft() + crowd()
    quiet = pipeline.review(lake_of(tmp_path / "quiet", ours, [key()]), WEEK, SETTINGS)
    loud = pipeline.review(lake_of(tmp_path / "loud", ours + guesses(), [key()]), WEEK, SETTINGS)

    assert [(case.key_id, case.action, case.bits, case.q_value) for case in loud.cases] == [
        (case.key_id, case.action, case.bits, case.q_value) for case in quiet.cases
    ]
    assert loud.coverage.keys == quiet.coverage.keys
    (note,) = set(loud.coverage.notes) - set(quiet.coverage.notes)
    assert note == (
        "300 unknown credentials were tried from 200 addresses, and every request was denied "
        "(300 requests): not in an inventory and never accepted, they were not assessed as keys."
    )


def test_a_guess_is_no_key_of_the_list_and_its_case_says_why(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, daily(date(2026, 8, 1), 65) + guesses(), [])
    assert [one.key_id for one in pipeline.list_keys(lake, SETTINGS, "last-use")] == ["key_1"]
    assert pipeline.explain_absence(lake, "guess_7", WEEK, SETTINGS) == (
        "guess_7: 1 request from 2026-09-28 to 2026-10-05, all denied. No inventory has it and no "
        "request with it was ever accepted, so it is not assessed as a key."
    )


@pytest.mark.parametrize(
    ("statuses", "in_inventory", "with_inventory", "is_key"),
    [
        ((401, 401), False, False, False),
        ((401, 200), False, False, True),
        ((403, 401), False, False, True),  # 403: perhaps a key that may not do it
        ((403, 401), False, True, False),
        ((401, 401), True, True, True),
        ((401, 404), False, True, True),
        ((None, 401), False, True, True),
    ],
)
def test_an_id_is_a_key_unless_none_of_its_requests_was_ever_let_in(
    quick: Loading,
    tmp_path: Path,
    statuses: tuple[int | None, ...],
    in_inventory: bool,
    with_inventory: bool,
    is_key: bool,
) -> None:
    # The last request decides about all before it: a key may begin with a denied one.
    times = ("2026-08-30T01:00:00Z", "2026-09-30T01:00:00Z")
    quick.take(
        event(key_id="tried", status=status, request_id=at, timestamp=at)
        for at, status in zip(times, statuses, strict=True)
    )
    lake: Lake = quick.lake
    if with_inventory:
        listed = "tried" if in_inventory else "other"
        lake.execute("INSERT INTO lake.keys (import_id, key_id) VALUES (1, $key_id)", key_id=listed)
    detectors.prepare(lake, WEEK, 90, catalogue_by_source())
    assert lake.rows("FROM window_keys") == ([("tried",)] if is_key else [])
    assert lake.rows("FROM unknown_credentials") == ([] if is_key else [("tried",)])
