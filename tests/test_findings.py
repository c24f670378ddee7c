"""Golden findings: what the product finds stays what it is, whatever is moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keywatch import sample
from tests.command import keywatch
from tests.conftest import SHARED_DATA
from tests.findings import alerted, assert_golden, findings

TRAIL = SHARED_DATA / "aws-cloudtrail-invictus-stratus" / "cloudtrail.ndjson.gz"


def run(*words: str | Path) -> str:
    """A command that has to end well; what it says."""
    ran = keywatch(*words)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def reviewed(lake: Path, *options: str) -> dict[str, Any]:
    return findings(json.loads(run("review", "--lake", lake, "--format", "json", *options)))


# A young world without calibration, a quiet one, and one that is calibrated.
@pytest.mark.parametrize(
    ("keys", "weeks", "seed", "thefts"), [(30, 4, 21, 4), (12, 7, 22, 0), (40, 9, 23, 3)]
)
def test_of_a_made_world(keys: int, weeks: int, seed: int, thefts: int, tmp_path: Path) -> None:
    world = sample.generate(
        tmp_path / "world", keys=keys, weeks=weeks, seed=seed, thefts=thefts, events_per_key_day=8
    )
    lake = tmp_path / "lake"
    run("ingest", "--lake", lake, world.logs[0].parent)
    run("keys", "import", "--lake", lake, world.inventory)
    assert_golden(f"world-{seed}", reviewed(lake))


def test_of_the_feed(tmp_path: Path) -> None:
    world = sample.generate(
        tmp_path / "world", keys=20, weeks=5, seed=24, thefts=4, events_per_key_day=8
    )
    lake = tmp_path / "lake"
    run("ingest", "--lake", lake, *world.logs[:-6])
    run("keys", "import", "--lake", lake, world.inventory)
    for first in (-6, -4, -2):
        run("watch", "--lake", lake, "--no-deliver", *world.logs[first : first + 2 or None])
    assert_golden("feed-24", {"alerts": alerted(lake)})


@pytest.mark.skipif(not TRAIL.is_file(), reason="shared/data has no CloudTrail trail")
def test_of_a_trail(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    run("ingest", "--lake", lake, TRAIL)
    assert_golden("cloudtrail", reviewed(lake, "--week", "2023-W28"))
