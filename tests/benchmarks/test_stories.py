"""What a review makes of short stories told of one key among 5 or among 30 steady ones."""

from __future__ import annotations

import fcntl
import ipaddress
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import stories
from benchmarks.quality.stories import (
    COUNTRY,
    STORIES,
    STRANGER,
    SUBJECTS,
    WEEK,
    Story,
    Subject,
    Telling,
    World,
)
from keywatch.lake import Lake
from keywatch.load.origins import OriginReader
from keywatch.settings import Settings
from tests.long import IS_LONG

SETTINGS = Settings().without_power()
SIZES = (5, 30)
WORLDS = ((5, False), (30, False), (30, True))
"""Keys, and whether the cast is behind one exit."""


def told(nth: int, story: Story) -> list[tuple[Subject, int]]:
    """Of whose key the `nth` story is told, and among how many.

    By turns of a fleet's key and of a person's, among 5 or 30; in the long form among both. The
    benchmark tells each in all four ways.
    """
    if IS_LONG:
        return [(SUBJECTS[(nth + at) % 2], keys) for at, keys in enumerate(SIZES)]
    return [(SUBJECTS[nth // 2 % 2], 30 if story.behind_one_exit else SIZES[nth % 2])]


TOLD = [
    pytest.param(story, subject, keys, id=f"{story.name}-{keys}")
    for nth, story in enumerate(STORIES.values())
    for subject, keys in told(nth, story)
]

Base = Callable[[World], Path]


@cache
def world_of(keys: int, *, behind_one_exit: bool = False) -> World:
    """A world, whose keys are drawn once."""
    return World(keys, behind_one_exit=behind_one_exit)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Base:
    """The lake of a world, made by whichever of the test processes asks first."""
    # Under xdist each process has a folder of its own in that of the run.
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def made(world: World) -> Path:
        folder = shared / f"stories-{world.keys}-{world.behind_one_exit}"
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole = folder / "whole"
            if not whole.exists():
                world.make(folder, SETTINGS)
                whole.touch()
        return folder / "lake"

    return made


@pytest.mark.slow
@pytest.mark.parametrize(("story", "subject", "keys"), TOLD)
def test_a_story_ends_with_an_action_that_is_right(
    base: Base, tmp_path: Path, story: Story, subject: Subject, keys: int
) -> None:
    world = world_of(keys, behind_one_exit=story.behind_one_exit)
    found = stories.outcome(base(world), tmp_path, world, story, subject, SETTINGS)
    assert found.action in story.allowed, f"{found.bits:.1f} bits"
    assert found.is_grouped or not story.is_migration
    assert found.others == ()


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "behind_one_exit"), WORLDS)
def test_the_keys_are_steady(base: Base, keys: int, behind_one_exit: bool) -> None:
    world = world_of(keys, behind_one_exit=behind_one_exit)
    with Lake.open(base(world)) as lake:
        found = lake.rows(
            "SELECT key_id, list(DISTINCT address ORDER BY address), count(DISTINCT agent), "
            "max(day) FROM lake.activity GROUP BY ALL ORDER BY key_id"
        )
        known = lake.value("SELECT count(*) FROM lake.keys")
        # Four weeks, and the reviewed one.
        assert lake.value("SELECT count(*) FROM lake.replays") == 5
        assert lake.value("SELECT count(*) FROM lake.recommendations") == 0
    assert known == len(found) == keys
    for key, (key_id, addresses, agents, last_day) in zip(world.all_keys, found, strict=True):
        assert (key_id, addresses, agents) == (key.key_id, sorted(key.addresses), 1)
        # The cast's last week comes with the story.
        last = datetime.combine(last_day, datetime.min.time())
        assert (last < WEEK.start) == (key in world.cast)


def origins(*addresses: str) -> list[dict[str, Any]]:
    with OriginReader() as reader:
        rows: list[dict[str, Any]] = reader.locate(addresses).to_pylist()
    return rows


def telling(name: str, subject: Subject = "fleet", world: World | None = None) -> Telling:
    """The story as it is told."""
    world = world or world_of(30)
    told = Telling(world, world.subject(subject))
    STORIES[name].tell(told)
    return told


def new_addresses(told: Telling) -> list[str]:
    """Where the key comes from in the story and never did before."""
    addresses = {call.address for call in told.calls[told.key.number]}
    return sorted(addresses - set(told.key.addresses))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_places_are_what_the_stories_say(subject: Subject) -> None:
    world = world_of(30)
    key = world.subject(subject)
    usual = origins(*key.addresses)
    assert {each["country"] for each in usual} == {COUNTRY}
    everybody = origins(*(each for key in world.all_keys for each in key.addresses))

    def new(name: str) -> dict[str, Any]:
        (address,) = new_addresses(telling(name, subject, world))
        (found,) = origins(address)
        prefixes = {each["prefix"] for each in everybody}
        assert found["prefix"] not in prefixes
        return found

    stranger = new("40 requests from 91.234.56.78")
    assert stranger["address"] == STRANGER
    assert stranger["country"] not in {each["country"] for each in everybody}
    assert stranger["asn"] not in {each["asn"] for each in everybody}
    assert new("40 requests from a Tor exit")["class"] == "tor"
    for name in ("another provider, the old place silent", "moved into hosting, old place silent"):
        assert new(name)["country"] == COUNTRY
        assert new(name)["asn"] not in {each["asn"] for each in usual}
    assert new("another provider, the old place silent")["class"] == "isp"
    assert new("moved into hosting, old place silent")["class"] == "hosting"
    assert new("the journey: 5 requests abroad")["country"] != COUNTRY

    region = telling("a second region of the provider", subject, world)
    was, now = origins(region.key.addresses[0], *new_addresses(region))
    assert (now["asn"], now["country"]) == (was["asn"], "GB")
    assert was["class"] == now["class"] == ("isp" if region.key.is_person else "hosting")

    (neighbour,) = new_addresses(telling("a new address of the same /24", subject, world))
    assert ipaddress.ip_address(neighbour) in ipaddress.ip_network(usual[0]["prefix"])
    (sibling,) = new_addresses(telling("at the place of the owner's other key", subject, world))
    assert sibling in world.cast[2].addresses
    assert world.cast[2].owner == key.owner


def test_an_exit_of_five_keys_changes_within_the_country() -> None:
    world = world_of(30, behind_one_exit=True)
    told = telling("the VPN exit of 5 keys changes", world=world)
    (was,) = {key.addresses for key in world.cast}
    assert len({key.owner for key in world.cast}) == 1
    (now,) = new_addresses(told)
    before, after = origins(*was, now)
    assert before["country"] == after["country"] == COUNTRY
    assert before["asn"] != after["asn"]
    for calls in told.calls.values():
        moved = min(call.at for call in calls if call.address == now)
        assert {call.address for call in calls if call.at >= moved} == {now}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(
    ("name", "requests", "goes_on"),
    [
        ("40 requests from 91.234.56.78", 40, True),
        ("3 requests from 91.234.56.78", 3, True),
        ("curl: members, channels, export", 40, True),
        ("at the place of the owner's other key", 40, True),
        ("the journey: 5 requests abroad", 5, False),
    ],
)
def test_the_owner_goes_on_or_falls_silent(
    name: str, requests: int, goes_on: bool, subject: Subject
) -> None:
    told = telling(name, subject)
    calls = told.calls[told.key.number]
    times = [call.at for call in calls if call.address in new_addresses(told)]
    assert len(times) == requests
    own = [call.at for call in calls if call.address in told.key.addresses]
    assert any(times[0] < at < times[0] + 86_400 for at in own) == goes_on


def test_a_release_reaches_four_keys_and_nobody_s_place() -> None:
    told = telling("a release: new endpoints, 4 keys", world=world_of(5))
    assert len(told.about) == 4
    for key in told.world.cast:
        calls = told.calls[key.number]
        assert {call.address for call in calls} <= set(key.addresses)
        usual = {endpoint for routine in key.routines for endpoint in routine}
        new = {call.endpoint for call in calls} - usual
        assert len(new) == (3 if key.number in told.about else 0)


def test_names_choose_stories() -> None:
    assert [story.name for story in stories._wanted(["Tor", "journey"])] == [
        "40 requests from a Tor exit",
        "the journey: 5 requests abroad",
    ]
    with pytest.raises(SystemExit, match="no story has pigeon in its name"):
        stories._wanted(["pigeon"])
