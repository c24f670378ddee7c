"""The quality benchmark: what its contenders make of a few known events, and one small world."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.quality import cases, tables, worlds
from benchmarks.quality.contenders import CONTENDERS, isolation_forest, new_values, risk_score
from benchmarks.quality.evaluate import Task, changed, evaluate, has_setting, week_oddities
from benchmarks.quality.worlds import World
from keywatch.settings import Settings
from tests.long import IS_LONG

SETTINGS = Settings()
START = World(1, 2, 2).review_start


def events(*rows: tuple[str, int, str]) -> pd.DataFrame:
    """Requests of (key, days from the review's start, address); all else is alike."""
    return pd.DataFrame(
        {
            "key_id": key,
            "day": START + timedelta(days=day),
            "ts": START + timedelta(days=day, hours=9),
            "address": address,
            "network": "AS1",
            "country": "DE",
            "endpoint": "GET /v1/checks",
            "product": "curl",
            "agent": "curl/8",
            "user_agent": "curl/8.1",
            "status": 200,
            "response_bytes": 10,
        }
        for key, day, address in rows
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose key `a` had 1.1.1.1 nine and eleven days ago and has two addresses now."""
    known = events(
        *(("a", -11, "1.1.1.2"), ("a", -9, "1.1.1.1"), ("b", -1, "2.2.2.2")),
        *(("a", 0, "1.1.1.1"), ("a", 0, "1.1.1.2"), ("a", 0, "1.1.1.2"), ("b", 6, "2.2.2.2")),
    )
    monkeypatch.setattr(World, "events", lambda *_: known)
    return World(1, 2, 2)


@pytest.mark.parametrize(
    ("history_days", "expected"), [(10, {"a": 2.0}), (11, {}), (8, {"a": 3.0})]
)
def test_a_value_is_new_when_the_days_before_lack_it(
    world: World, history_days: int, expected: dict[str, float]
) -> None:
    scored = new_values.score(
        world, SETTINGS, columns=["address"], history_days=history_days, unit="requests"
    )
    assert dict(zip(scored["key_id"], scored["score"], strict=True)) == expected


def test_a_new_value_counts_once_a_day_where_values_are_counted(world: World) -> None:
    scored = new_values.score(world, SETTINGS, columns=["address"], history_days=10, unit="values")
    assert scored["score"].tolist() == [1.0]


def test_a_strange_address_is_riskier_for_a_key_than_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = [(key, -day, f"1.1.1.{n}") for n, key in enumerate("abcd") for day in range(1, 13)]
    monkeypatch.setattr(
        World, "events", lambda *_: events(*past, ("a", 1, "1.1.1.0"), ("b", 1, "9.9.9.9"))
    )
    scored = risk_score.score(World(1, 4, 3), SETTINGS).set_index("key_id")["score"]
    assert scored["b"] > 0 > scored["a"]


def test_features_are_of_a_day_and_of_the_days_before_it() -> None:
    days = isolation_forest.features(
        events(("a", 0, "1.1.1.1"), ("a", 1, "1.1.1.1"), ("a", 2, "1.1.1.2"), ("a", 2, "1.1.1.2"))
    )
    assert days["new_address"].gt(0).tolist() == [True, False, True]
    assert days["requests_relative"].gt(0).tolist() == [False, False, True]
    assert not days.isna().any(axis=None)


def test_settings_are_changed_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWATCH_SCORING__INVESTIGATE_BITS", "30")
    settings = Settings()
    assert settings.scoring.investigate_bits == 30
    assert changed(settings, "scoring.investigate_bits", 7.0).scoring.investigate_bits == 7
    assert has_setting(settings, "scoring.investigate_bits")
    assert not has_setting(settings, "scoring.no_such_thing")
    assert not has_setting(settings, "nothing.investigate_bits")


def test_oddities_of_other_weeks_are_no_excuse() -> None:
    odd = [{"kind": "journey", "in_review_week": False}]
    assert week_oddities(odd) == ["(none in the week)"]
    assert week_oddities([*odd, {"kind": "backfill", "in_review_week": True}]) == ["backfill"]


def test_a_table_in_text_and_in_markdown() -> None:
    table = tables.Table("Title", ("", "n"), [("one", "1"), ("ten", "10")])
    assert table.text() == "Title\n      n\none   1\nten  10"
    assert table.markdown() == "Title\n\n|  | n |\n| --- | ---: |\n| one | 1 |\n| ten | 10 |"


@pytest.mark.slow
def test_a_small_world_from_nothing_to_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "CACHE", tmp_path)
    settings, rates = SETTINGS, {"0.01", "0.05", "0.1"}
    if not IS_LONG:
        # A review each: two days in place of seven, a family in place of six, a rate of three.
        settings = changed(SETTINGS, "scoring.family_caps_bits", {"client": 14.0})
        rates = {"0.05"}
        monkeypatch.setattr("benchmarks.quality.evaluate.FALSE_REVOKE_RATES", (0.05,))
        monkeypatch.setattr("benchmarks.quality.evaluate.REVIEW_DAYS", 2)
    world = World(seed=1, keys=60, weeks=3)
    task = Task(world, settings, tuple(CONTENDERS), True, "scoring.investigate_bits")
    figures = evaluate(task)
    assert figures["contenders"].keys() == CONTENDERS.keys()
    for one in figures["contenders"].values():
        assert 0 <= one["recall_at_budget"] <= 1
        assert 0 < one["average_precision"] <= 1
    assert len(figures["detection"]) == world.truth["stolen"].sum()
    assert figures["rates"].keys() == rates
    assert figures["ablation"].keys() == settings.scoring.family_caps_bits.keys()
    assert evaluate(task) | {"seconds": {}} == figures | {"seconds": {}}  # as it was kept
    for table in tables.all_tables("Some", [figures]):
        assert max(map(len, table.text().splitlines())) <= 100
    false, missed = (line for line in cases.lines(world, settings) if not line.startswith(" "))
    assert false.endswith("false alarms of seed 1, 60 keys")
    assert missed.endswith(f"misses of {world.truth['stolen'].sum()} thefts")


def test_the_review_week_ends_with_the_log() -> None:
    world = World(1, 2, 2)
    assert (world.review_start, world.end) == (datetime(2026, 9, 28), datetime(2026, 10, 5))
