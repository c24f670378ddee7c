"""The layer names each technique once, with its detectors and the cases that they count in."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from keywatch import pipeline
from keywatch.detect.detectors import load_detectors
from keywatch.lake import Lake
from keywatch.notices import notices_to
from keywatch.report.navigator import cases_by_detector, navigator_layer
from tests.test_pipeline import SETTINGS

ALL = {each.id: each for each in load_detectors()}
AGENT, DENIED = ALL["unfamiliar_agent"], ALL["denied_probe"]


def test_techniques_are_scored_by_distinct_cases() -> None:
    one, other = ("key_1", "2026-09-28"), ("key_2", "2026-09-28")
    same = replace(DENIED, technique=AGENT.technique)
    layer = navigator_layer([AGENT, same], {AGENT.id: {one}, same.id: {one, other}})
    (technique,) = layer["techniques"]
    assert (technique["techniqueID"], technique["score"]) == (AGENT.technique, 2)
    assert technique["comment"] == f"{AGENT.id}: {AGENT.title}\n{same.id}: {same.title}"
    assert layer["layout"]["expandedSubtechniques"] == "annotated"
    assert layer["gradient"]["maxValue"] == 2
    assert layer["versions"]["layer"] == "4.5"


@pytest.mark.parametrize("left_out", [replace(AGENT, status="draft"), replace(AGENT, hygiene=True)])
def test_drafts_and_hygiene_cover_nothing(left_out: object) -> None:
    assert navigator_layer([left_out], {})["techniques"] == []  # type: ignore[list-item]


def test_without_a_lake_all_that_is_covered_has_no_case(tmp_path: Path) -> None:
    told: list[str] = []
    with notices_to(told.append):
        layer = pipeline.navigator_layer_of(tmp_path / "none", SETTINGS)
    assert told == [f"{tmp_path / 'none'}: no lake found there, so all scores are 0"]
    listed = [each["techniqueID"] for each in layer["techniques"]]
    assert len(listed) == len(set(listed))
    assert set(listed) >= {each.technique for each in ALL.values() if not each.hygiene}
    assert {each["score"] for each in layer["techniques"]} == {0}


def test_the_newest_run_of_a_window_counts() -> None:
    said = [
        {"detector": "unfamiliar_agent", "bits": 3.0, "action": None},
        {"detector": "honey_key", "bits": 0.0, "action": "revoke"},
        {"detector": "off_hours", "bits": 0.0, "action": None},
    ]
    monday = datetime(2026, 9, 28)
    with Lake.in_memory() as lake:
        for run, hour, key_id in (("old", 1, "key_2"), ("new", 2, "key_1")):
            lake.execute(
                "INSERT INTO lake.runs (run_id, window_start, window_end, made_at) "
                "VALUES ($run, $start, $end, $made)",
                run=run, start=monday, end=datetime(2026, 10, 5), made=datetime(2026, 10, 5, hour),
            )  # fmt: skip
            lake.execute(
                "INSERT INTO lake.recommendations VALUES ($run, $key, 'revoke', $document::JSON)",
                run=run, key=key_id, document=json.dumps({"evidence": said}),
            )  # fmt: skip
        case = {("key_1", "2026-09-28")}
        assert cases_by_detector(lake) == {"unfamiliar_agent": case, "honey_key": case}
