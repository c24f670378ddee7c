"""Lone thefts, years, attacks and the upper bound, in worlds that take seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import attack, bases, lone, upper_bound, worlds, year
from benchmarks.quality.bases import Base, Scored
from benchmarks.quality.evaluate import changed
from benchmarks.quality.measures import wilson
from keywatch import pipeline
from keywatch.model import Window
from keywatch.sample import LOUDNESS, Planned
from keywatch.sample.thefts import KINDS, THEFTS
from keywatch.settings import Settings
from tests.long import IS_LONG, long_form

SETTINGS = changed(Settings(), "review.replayed_windows", long_form(8, 1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    """A world, and a cache of its own for what is made of it."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for module in (worlds, bases):
            patch.setattr(module, "CACHE", cache)
        yield Base(3, 30, 6, SETTINGS)


def case(key_id: str, action: str, q: float, bits: float) -> Scored:
    return Scored(key_id=key_id, action=action, bits=bits, p=q, q=q, strongest=["off_hours"])


@pytest.mark.parametrize(
    ("hits", "tries", "expected"),
    [(0, 0, (0.0, 1.0)), (0, 10, (0.0, 0.278)), (10, 10, (0.722, 1.0)), (98, 100, (0.930, 0.994))],
)
def test_an_interval_of_a_share(hits: int, tries: int, expected: tuple[float, float]) -> None:
    assert wilson(hits, tries) == pytest.approx(expected, abs=5e-4)


def test_a_round_has_each_kind_of_theft_in_copies_of_one_to_three() -> None:
    copies = lone.plans(seed=1, rounds=2)
    assert Counter(each.kind for copy in copies for each in copy) == dict.fromkeys(KINDS, 2)
    assert {sum(each.keys for each in copy) for copy in copies} == {1, 2, 3}
    assert lone.plans(seed=1, rounds=1) == copies[: len(copies) // 2]


def test_revokes_are_told_at_their_price_in_innocent_keys() -> None:
    caught, doubtful = case("a", "revoke", 0.01, 9.0), case("b", "investigate", 0.2, 8.0)
    thefts = [
        lone.Theft(keys=1, seed=1, kind="scan", named_day=0, weekly=caught),
        lone.Theft(keys=1, seed=1, kind="insider", named_day=None, weekly=doubtful),
        lone.Theft(keys=1, seed=1, kind="insider", named_day=None, weekly=None),
    ]
    innocents = [
        lone.Innocent(keys=1, seed=1, case=case(name, action, q, 7.0), oddities=["journey"])
        for name, action, q in (("c", "revoke", 0.1), ("d", "none", 0.5))
    ]
    table = lone.revoking(thefts, innocents, 20_000, 1, "q-value", lone.by_q_value)
    assert [row[:6] for row in table.rows] == [
        ("0", "0", "1.00", "0.00", "–", "0.33"),
        ("1", "1", "1.00", "0.50", "–", "0.67"),
        ("5", "5", "1.00", "0.50", "–", "0.67"),
        ("20", "20", "1.00", "0.50", "–", "0.67"),
        ("action", "1", "1.00", "0.00", "–", "0.33"),
    ]
    assert lone.by_oddity(innocents).rows == [("journey", "1", "0")]
    rows = {row[0]: row[1:4] for row in lone.naming(thefts).rows}
    assert rows["all loud"] == ("1", "1.00", "1.00")
    assert rows["all slow"] == rows["insider"] == ("2", "0.00", "0.00")


def test_a_year_has_a_theft_a_quarter_and_years_go_through_all_kinds() -> None:
    plans = [year.plan(year.FIRST_SEED + nth, year.REVIEWS) for nth in range(7)]
    for plan in plans:
        quarters = [(each.week - year.WEEKS_BEFORE) // year.QUARTER_WEEKS for each in plan]
        assert quarters == [0, 1, 2, 3]
    assert Counter(each.kind for plan in plans for each in plan) == dict.fromkeys(THEFTS, 2)
    assert year.plan(year.FIRST_SEED, 1)[0].week == year.WEEKS_BEFORE


def test_features_are_of_all_visits_and_of_the_strangest() -> None:
    visits = pd.DataFrame(
        {"one": [1.0, 3.0, -2.0], "two": [4.0, 0.0, 1.0], "key_id": ["a", "a", "b"]}
    )
    told = upper_bound.features(visits)
    assert told.loc["a"].to_dict() == {
        "most one": 3, "most two": 4, "least one": 1, "least two": 0, "at once one": 1,
        "at once two": 4, "visits": 2,
    }  # fmt: skip
    assert told.loc["b", "least one"] == -2


@pytest.mark.slow
def test_thieves_lines_in_a_copy_are_what_a_world_with_the_theft_would_hold(
    base: Base, tmp_path: Path
) -> None:
    days = base.days()
    stolen = base.steal(tmp_path / "thefts", [Planned("scan"), Planned("takeover")], 1)
    lake = tmp_path / "copy"
    bases.copy_lake(base.lake(days[-1]), lake)
    pipeline.ingest(lake, stolen.files_until(days[-1]), SETTINGS)
    found = bases.score(lake, base.week(), SETTINGS)

    whole = tmp_path / "whole"
    pipeline.ingest(whole, [str(base.world.folder / "logs")], SETTINGS)
    pipeline.ingest(whole, stolen.files_until(days[-1]), SETTINGS)
    pipeline.import_keys(whole, base.world.folder / "inventory.jsonl", SETTINGS)
    assert found == bases.score(whole, base.week(), SETTINGS)
    assert bases.named(found)
    changes = pipeline.watch(whole, SETTINGS).changes
    told = {member.key_id for change in changes for member in change.alert.members}
    assert bases.named(found) <= told
    assert base.innocent() == bases.score(base.lake(days[-1]), base.week(), SETTINGS)


@pytest.mark.slow
def test_small_worlds_from_nothing_to_the_tables(base: Base) -> None:
    plan = [Planned("scan"), Planned("insider")]
    thefts, _ = lone.copy_figures(base, plan, 1)
    assert [theft["kind"] for theft in thefts] == ["scan", "insider"]
    assert thefts[0]["named_day"] == 0
    innocents = lone.innocent_cases(base, 1)
    for table in lone.tables(thefts, innocents, Counter({30: 30})):
        assert table.text()


@pytest.mark.slow
@pytest.mark.skipif(not IS_LONG, reason="small worlds of attacks and years: make test-long")
def test_small_worlds_of_attacks_and_years_to_the_tables(base: Base) -> None:
    figures = {name: one(base, 1) for name, one in attack.ATTACKS.items()}
    assert len(figures["noisy"][0]["thefts"]) > 10
    assert [len(each["actions"]) for each in figures["replayed"]] == [3]
    assert len(attack.tables(**figures)) == 4

    found = year.year(year.FIRST_SEED, 30, 2, SETTINGS, analyst=True)
    assert len(found["named"]) == len(found["told"]) == 2
    assert sum(found["told"]) <= sum(found["named"])
    assert [LOUDNESS[theft["kind"]] for theft in found["thefts"]]
    assert " of 1 = " in year.tables([found], 30, SETTINGS)[0].rows[0][1]

    # The year's world, whose lake is there.
    world = worlds.World(year.FIRST_SEED, 30, 10, thefts=year.plan(year.FIRST_SEED, 2))
    told = upper_bound.evidence(world, SETTINGS)
    assert set(told.index) <= set(world.truth.index)
    assert not np.isnan(told.to_numpy(float)).any()


def test_a_week_of_a_world() -> None:
    world = worlds.World(1, 30, 6)
    assert bases.week_of(world, 5) == bases.week_of(world, -1)
    assert bases.week_of(world, -1) == Window(world.review_start, world.end)
