"""Which keys belong together: by the evidence's subject and the detector's own word."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from keywatch.detect.detectors import Detector, load_detectors
from keywatch.detect.groups import find_members, groups_of
from keywatch.lake import Lake
from keywatch.model import Group

DAY = date(2026, 9, 28)
ALL = load_detectors()


@pytest.fixture
def lake(blank: Lake) -> Lake:
    """Three keys at two addresses of a prefix; no sentence of the evidence names them."""
    blank.execute(
        "CREATE TEMP TABLE visits AS SELECT unnest(['key_1', 'key_2', 'key_3']) AS key_id, "
        "$day::DATE AS day, '45.153.78.0/24' AS prefix, 'AS9009' AS network, 'M247' AS place",
        day=DAY,
    )
    blank.execute(
        "CREATE TEMP TABLE visit_addresses AS SELECT key_id, day, prefix, "
        "if(key_id = 'key_3', '45.153.78.9', '45.153.78.122') AS ip FROM visits"
    )
    blank.execute(
        "CREATE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
        "detector VARCHAR, actual VARCHAR, subject VARCHAR)"
    )
    return blank


def say(lake: Lake, detector: str, subject: str | None, *key_ids: str) -> None:
    lake.execute(
        "INSERT INTO evidence SELECT unnest($key_ids::VARCHAR[]), $day, '45.153.78.0/24', "
        "$detector, 'several owners share it', $subject",
        key_ids=list(key_ids), day=DAY, detector=detector, subject=subject,
    )  # fmt: skip


def find_groups(lake: Lake, loaded: list[Detector]) -> list[Group]:
    return groups_of(lake, find_members(lake, loaded))


def known_by(groups: list[Group]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(group.kind, group.key_ids, group.origin) for group in groups]


def test_a_campaign_is_known_by_what_its_keys_share_not_by_a_sentence(lake: Lake) -> None:
    say(lake, "shared_origin", "45.153.78.122", "key_1", "key_2")
    say(lake, "shared_origin", "45.153.78.0/24", "key_3")
    assert known_by(find_groups(lake, ALL)) == [
        ("campaign", ("key_1", "key_2"), "45.153.78.122 (M247)")
    ]


def test_a_migration_is_shown_by_its_addresses_and_comes_first(lake: Lake) -> None:
    say(lake, "shared_origin", "45.153.78.122", "key_1", "key_2")
    say(lake, "fleet_move", None, "key_1", "key_2", "key_3")
    assert known_by(find_groups(lake, ALL)) == [
        ("migration", ("key_1", "key_2", "key_3"), "AS9009: 45.153.78.122, 45.153.78.9 (M247)"),
        ("campaign", ("key_1", "key_2"), "45.153.78.122 (M247)"),
    ]


def test_a_detector_says_itself_that_it_groups_and_on_trial_it_does_not(lake: Lake) -> None:
    say(lake, "off_hours", "45.153.78.122", "key_1", "key_2")
    (off_hours,) = (each for each in ALL if each.id == "off_hours")
    grouping: Detector = replace(off_hours, groups_as="campaign")
    assert len(find_groups(lake, [grouping])) == 1
    assert find_groups(lake, [off_hours]) == []
    assert find_groups(lake, [replace(grouping, status="test")]) == []
