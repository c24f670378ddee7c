"""A made world as CloudTrail, of long-lived keys and of roles: both are reviewed alike."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.quality import roles, worlds
from benchmarks.quality.worlds import World
from keywatch.settings import Settings


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(worlds, "CACHE", tmp_path)
    return World(seed=5, keys=8, weeks=3, thefts=2)


def test_only_who_calls_differs(world: World, tmp_path: Path) -> None:
    trails = []
    for name, (identity, _) in roles.IDENTITIES.items():
        roles.write_trail(world, identity, tmp_path / f"{name}.gz")
        with gzip.open(tmp_path / f"{name}.gz", "rt", encoding="utf-8") as lines:
            trails.append([json.loads(line) for line in lines])
    keys, sessions = ([each.pop("userIdentity") for each in trail] for trail in trails)
    assert trails[0] == trails[1]
    used = {each["accessKeyId"] for each in keys}
    assert len({each["accessKeyId"] for each in sessions}) > 80
    assert len({each["sessionContext"]["sessionIssuer"]["arn"] for each in sessions}) == len(used)


def test_endpoints_are_as_sensitive_as_the_samples() -> None:
    named = {f"{service}:{call}" for service, call in roles.calls().values()}
    assert len(named) == len(roles.calls())


@pytest.mark.slow
def test_a_role_is_reviewed_as_a_key_is(world: World) -> None:
    settings = Settings().without_power()
    keys, sessions = (roles.review(world, name, settings) for name in roles.IDENTITIES)
    assert keys.events == sessions.events
    assert {key: case["action"] for key, case in keys.cases.items()} == {
        key: case["action"] for key, case in sessions.cases.items()
    }
    assert keys.named(set(world.truth.index[world.truth.stolen]))
