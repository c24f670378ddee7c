"""What happens in worlds of 1,000 keys: oddities, pairs of them, and thefts."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from keywatch.sample import DEFAULT_END, LOUDNESS, ODDITIES, odd_use, places
from keywatch.sample.attackers import Theft
from keywatch.sample.keys import BORN_KINDS, Batch, Key, newest_object
from keywatch.sample.oddities import PAIR_WITHIN_DAYS, PAIRS
from keywatch.sample.places import DAY_US
from keywatch.sample.scene import SERVICES, Scene
from keywatch.sample.thefts import CAMPAIGN_KEYS, CHANGING_HABITS, KINDS, YOUNG_DAYS, Planned
from keywatch.sample.world import EVENTS_PER_KEY_DAY, Made, default_thefts, make, steal

SEEDS = (1, 2, 3, 4)
KEYS, WEEKS = 1000, 4


def _make(seed: int, *, keys: int = KEYS, thefts: int | None = None) -> Made:
    wanted = default_thefts(keys) if thefts is None else thefts
    return make(keys=keys, weeks=WEEKS, seed=seed, thefts_wanted=wanted, end=DEFAULT_END,
                events_per_key_day=EVENTS_PER_KEY_DAY)  # fmt: skip


@pytest.fixture(scope="module")
def worlds() -> list[Made]:
    return [_make(seed) for seed in SEEDS]


def _stolen(worlds: list[Made]) -> list[tuple[Made, Theft, Batch]]:
    return [
        (made, theft, batch) for made in worlds
        for theft, batch in zip(made.thefts, made.stolen, strict=True)
    ]  # fmt: skip


@cache
def _class_of(code: int) -> str:
    """The class of the network that an IPv4 address lies in."""
    for network in places.networks():
        for first, length in network.prefixes:
            if first <= code < first + (1 << (32 - length)):
                return network.kind
    raise LookupError(code)


def _weeks_of_beginnings(made: Made, kind: str) -> Counter[int]:
    return Counter(
        (o.start_us - made.start_us) // (7 * DAY_US)
        for key in made.keys for o in key.oddities if o.kind == kind
    )  # fmt: skip


def test_every_oddity_falls_into_the_review_week_of_some_world(worlds: list[Made]) -> None:
    found = Counter(
        o.kind for made in worlds for key in made.keys for o in key.oddities
        if o.is_current(made.review_us) and o.kind != "two_consumers"
    )  # fmt: skip
    assert set(ODDITIES) == {*found, "two_consumers"}
    assert min(found.values()) >= 3


def test_the_review_week_is_a_week_like_others(worlds: list[Made]) -> None:
    for made in worlds:
        odd = [k for k in made.keys if any(o.is_current(made.review_us) for o in k.oddities)]
        assert 0.1 < len(odd) / KEYS < 0.35
    weeks: Counter[int] = Counter()
    for made in worlds:
        for kind in ("journey", "engineer_by_hand", "retry_storm", "stale_config_403", "backfill"):
            weeks += _weeks_of_beginnings(made, kind)
    review = weeks[WEEKS - 1]
    assert 0.7 < review / np.mean([weeks[1], weeks[2]]) < 1.4


def _has_pair(key: Key, kind: str, other: str) -> bool:
    within_us = (PAIR_WITHIN_DAYS + 3) * DAY_US  # an upgrade takes up to three days
    return any(
        abs(b.start_us - a.start_us) < within_us
        for a in key.oddities if a.kind == kind
        for b in key.oddities if b.kind == other
    )  # fmt: skip


def test_every_pair_of_oddities_meets_on_some_key(worlds: list[Made]) -> None:
    keys = [key for made in worlds for key in made.keys if len(key.oddities) > 1]
    rules = [(kind, other) for kind, others in PAIRS.items() for other in others]
    assert [rule for rule in rules if not any(_has_pair(key, *rule) for key in keys)] == []


def test_many_keys_have_two_oddities_in_the_review_week(worlds: list[Made]) -> None:
    for made in worlds:
        kinds = [{o.kind for o in k.oddities if o.is_current(made.review_us)} for k in made.keys]
        assert sum(len(each - {"new_key", "rotation_overlap"}) > 1 for each in kinds) >= 8


def test_migrations_move_many_keys_at_once(worlds: list[Made]) -> None:
    for kind in ("egress_change", "provider_egress_change", "office_move", "isp_address_change"):
        moved: Counter[tuple[int, int]] = Counter()
        for nth, made in enumerate(worlds):
            moved.update((nth, o.start_us) for k in made.keys for o in k.oddities if o.kind == kind)
        assert max(moved.values()) >= 3, kind


def test_an_export_reads_what_the_key_never_reads(worlds: list[Made]) -> None:
    wide = [key for made in worlds for key in made.keys if key.wide]
    assert wide
    assert all(key.usual["check"] <= len(key.objects["check"]) for key in wide)
    assert any(key.usual["check"] < len(key.objects["check"]) / 2 for key in wide)


def test_all_kinds_of_theft_in_every_world(worlds: list[Made]) -> None:
    for made in worlds:
        assert len(made.thefts) == default_thefts(KEYS)
        assert {theft.kind for theft in made.thefts} == set(KINDS)
        assert len({theft.key.number for theft in made.thefts}) == len(made.thefts)
    assert LOUDNESS.keys() == set(KINDS)
    assert {k for k, v in LOUDNESS.items() if v == "slow"} == {
        "slow_reader", "same_provider", "insider", "replayed_program",
    }  # fmt: skip


def test_thefts_lie_where_they_are_planned() -> None:
    plan = [Planned("scan", 1), Planned("slow_reader", 2), Planned("campaign", 2, keys=3),
            Planned("insider"), Planned("bulk_read", 0, victim=7)]  # fmt: skip
    made = make(keys=120, weeks=WEEKS, seed=9, thefts_wanted=plan, end=DEFAULT_END,
                events_per_key_day=EVENTS_PER_KEY_DAY)  # fmt: skip
    weeks = [{int(t - made.start_us) // (7 * DAY_US) for t in b.time_us} for b in made.stolen]
    assert [theft.kind for theft in made.thefts] == [
        "scan", "slow_reader", "campaign", "campaign", "campaign", "insider", "bulk_read",
    ]  # fmt: skip
    assert weeks == [{1}, {2}, {2}, {2}, {2}, {3}, {0}]
    assert made.thefts[-1].key.number == 7
    with pytest.raises(ValueError, match="no week 4"):
        steal(made, [Planned("scan", 4)], draw=1)


def test_other_thefts_of_the_same_world_are_the_thieves_lines_alone() -> None:
    made = _make(9, keys=120, thefts=0)
    plan = [Planned("scan"), Planned("takeover")]
    one, again, other = steal(made, plan, 1), steal(made, plan, 1), steal(made, plan, 2)
    assert sum(len(batch) for batch in one.own) == 0
    for a, b in zip(one.stolen, again.stolen, strict=True):
        assert np.array_equal(a.time_us, b.time_us)
    assert [t.key.key_id for t in one.thefts] != [t.key.key_id for t in other.thefts]
    taken = {theft.key.number for theft in one.thefts}
    spared = steal(made, plan, 1, without=taken)
    assert taken.isdisjoint(theft.key.number for theft in spared.thefts)


def test_a_leaked_program_does_elsewhere_what_it_does_at_home(worlds: list[Made]) -> None:
    programs = [each for each in _stolen(worlds) if each[1].kind == "replayed_program"]
    assert len(programs) >= len(SEEDS)
    alike = []
    for made, theft, batch in programs:
        own = made.own[theft.key.number]
        assert set(batch.agent) <= set(own.agent)
        assert set(batch.address).isdisjoint(own.address)
        usual = {made.pools.calls.texts[call] for call in own.call}
        alike += [made.pools.calls.texts[call] in usual for call in batch.call]
    assert np.mean(alike) > 0.9


def test_engineers_work_where_their_team_is() -> None:
    """In the office, at home, and on machines of the team's other keys."""
    made = _make(9, keys=120, thefts=0)
    scene = Scene(np.random.default_rng(1), made.keys, made.start_us, made.end_us, made.pools.book)
    found: Counter[str] = Counter()
    for key in [key for key in made.keys if key.habit in SERVICES] * 3:
        team = [
            slot.source_at(made.review_us) for k in scene.of_owner(key.owner) for slot in k.slots
        ]
        assert odd_use.engineer_by_hand(scene, key, made.review_us)
        line = key.slots[-1].source_at(made.review_us)
        if any(line is office for office in key.owner.offices):
            found["office"] += 1
        elif any(line is each for each in (*team, *key.owner.egress)):
            found["another key's"] += 1
        else:
            assert line.network in key.owner.homes
            found["home"] += 1
    assert min(found.values()) > 0.1 * sum(found.values())
    assert len(found) == 3


def test_thefts_lie_in_the_review_week(worlds: list[Made]) -> None:
    for made, theft, batch in _stolen(worlds):
        assert len(batch) > 0
        assert made.review_us <= batch.time_us.min() <= batch.time_us.max() < made.end_us
        assert batch.time_us.min() > theft.key.created_us


def test_campaigns(worlds: list[Made]) -> None:
    gangs: dict[tuple[int, int], list[Batch]] = defaultdict(list)
    for made, theft, batch in _stolen(worlds):
        if theft.kind == "campaign":
            gangs[made.seed, int(batch.address[0]) >> 8].append(batch)
    assert {seed for seed, _ in gangs} == set(SEEDS)
    assert all(1 <= n <= 3 for n in Counter(seed for seed, _ in gangs).values())
    low, high = CAMPAIGN_KEYS
    assert all(low <= len(batches) <= high for batches in gangs.values())
    assert all(len(batch) <= 6 for batches in gangs.values() for batch in batches)
    assert any(all(len(batch) == 1 for batch in batches) for batches in gangs.values())
    times = [np.concatenate([b.time_us for b in batches]) for batches in gangs.values()]
    assert any(np.ptp(each) > DAY_US for each in times)


def test_no_family_of_evidence_tells_all_loud_thefts(worlds: list[Made]) -> None:
    loud = [each for each in _stolen(worlds) if LOUDNESS[each[1].kind] == "loud"]
    classes = Counter(_class_of(int(b.address[0])) for _, _, b in loud if b.address[0] > 0)
    assert {"hosting", "vpn", "cloud", "isp"} <= classes.keys()
    assert max(classes.values()) < 0.6 * len(loud)
    as_owner = [
        theft for made, theft, batch in loud
        if made.pools.agents.texts[batch.agent[0]] in [a for _, a in theft.key.slots[0].agents]
    ]  # fmt: skip
    assert 0.1 < len(as_owner) / len(loud) < 0.6
    own_class = [
        theft for made, theft, batch in loud if batch.address[0] > 0 and any(
            first <= batch.address[0] < first + (1 << (32 - length))
            for first, length in theft.key.slots[0].source_at(made.review_us).network.prefixes
        )
    ]  # fmt: skip
    assert own_class
    assert sum(np.ptp(batch.time_us) > DAY_US / 2 for _, _, batch in loud) > 0.15 * len(loud)


def test_some_victims_are_hard_to_tell(worlds: list[Made]) -> None:
    stolen = _stolen(worlds)
    odd = [t for m, t, _ in stolen if any(o.is_current(m.review_us) for o in t.key.oddities)]
    young = [t for m, t, _ in stolen if t.key.created_us > m.end_us - YOUNG_DAYS * DAY_US]
    changing = [t for _, t, _ in stolen if t.key.habit in CHANGING_HABITS]
    assert len(odd) >= 3 * len(SEEDS)
    assert len(young) >= len(SEEDS)
    assert len(changing) >= 3 * len(SEEDS)


def test_thieves_know_no_object_before_it_exists(worlds: list[Made]) -> None:
    for made, theft, batch in _stolen(worlds):
        lived = (batch.time_us - made.start_us) / (made.end_us - made.start_us)
        paths = [made.pools.calls.texts[call].partition("?")[0] for call in batch.call]
        for kind in BORN_KINDS:
            ids = theft.key.owner.objects[kind]
            newest = newest_object(len(ids), lived)
            number = {f"/v1/{kind}s/{text}": i for i, text in enumerate(ids)}
            for path, latest in zip(paths, newest, strict=True):
                called = path.split(" ")[1].removesuffix("/ack").removesuffix("/mute")
                assert number.get(called, 0) <= latest


def test_thieves_use_what_others_use_too(worlds: list[Made]) -> None:
    agents: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, set[str]] = defaultdict(set)
    for made in worlds:
        for who, batches in (("own", made.own), ("stolen", made.stolen)):
            for batch in batches:
                agents[who] |= {made.pools.agents.texts[a] for a in np.unique(batch.agent)}
                some = np.unique(batch.address)[::20].tolist()
                classes[who] |= {_class_of(address) for address in some if address > 0}
    assert agents["stolen"] <= agents["own"]
    assert classes["stolen"] - classes["own"] <= {"tor"}


def test_thefts_change_nothing_else() -> None:
    quiet, loud = _make(9, keys=120, thefts=0), _make(9, keys=120)
    assert not quiet.thefts
    for one, other in zip(quiet.own, loud.own, strict=True):
        assert np.array_equal(one.time_us, other.time_us)
        assert np.array_equal(one.address, other.address)
