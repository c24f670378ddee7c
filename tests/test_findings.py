"""Golden findings: what the product finds stays what it is, whatever is moved."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keywatch import sample
from keywatch.cli import main
from tests.conftest import SHARED_DATA
from tests.findings import alerted, assert_golden, findings

TRAIL = SHARED_DATA / "aws-cloudtrail-invictus-stratus" / "cloudtrail.ndjson.gz"


class Keywatch:
    """The command line in this process; each command has to end well."""

    def __init__(self, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.lake = lake
        self._capsys = capsys

    def __call__(self, command: str, *words: str | Path) -> str:
        self._capsys.readouterr()
        umask = os.umask(0o077)
        try:
            main([*command.split(), "--lake", *map(str, (self.lake, *words))])
        except SystemExit as e:
            if e.code:
                raise AssertionError(self._capsys.readouterr().err) from None
        finally:
            os.umask(umask)
        return self._capsys.readouterr().out

    def findings(self, *options: str) -> dict[str, object]:
        return findings(json.loads(self("review", "--format", "json", *options)))


@pytest.fixture
def keywatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keywatch:
    return Keywatch(tmp_path / "lake", capsys)


# A young world without calibration, a quiet one, and one that is calibrated.
@pytest.mark.parametrize(
    ("keys", "weeks", "seed", "thefts"), [(30, 4, 21, 4), (12, 7, 22, 0), (40, 9, 23, 3)]
)
def test_of_a_made_world(
    keys: int, weeks: int, seed: int, thefts: int, tmp_path: Path, keywatch: Keywatch
) -> None:
    world = sample.generate(
        tmp_path / "world", keys=keys, weeks=weeks, seed=seed, thefts=thefts, events_per_key_day=8
    )
    keywatch("ingest", world.logs[0].parent)
    keywatch("keys import", world.inventory)
    assert_golden(f"world-{seed}", keywatch.findings())


def test_of_the_feed(tmp_path: Path, keywatch: Keywatch) -> None:
    world = sample.generate(
        tmp_path / "world", keys=20, weeks=5, seed=24, thefts=4, events_per_key_day=8
    )
    keywatch("ingest", *world.logs[:-6])
    keywatch("keys import", world.inventory)
    for first in (-6, -4, -2):
        keywatch("watch", "--no-deliver", *world.logs[first : first + 2 or None])
    assert_golden("feed-24", {"alerts": alerted(keywatch.lake)})


@pytest.mark.skipif(not TRAIL.is_file(), reason="shared/data has no CloudTrail trail")
def test_of_a_trail(keywatch: Keywatch) -> None:
    keywatch("ingest", TRAIL)
    assert_golden("cloudtrail", keywatch.findings("--week", "2023-W28"))
