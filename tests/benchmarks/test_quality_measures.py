"""The figures of a ranking, against every order of its ties."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality.measures import Flags, Floats, average_precision, caught, share

RANKINGS = st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6)


def plain_precision(stolen: list[bool]) -> float:
    places = [place for place, hit in enumerate(stolen, 1) if hit]
    return float(np.mean([nth / place for nth, place in enumerate(places, 1)]))


def orders(keys: list[tuple[int, bool]]) -> list[list[int]]:
    """Every order of the keys that their scores allow."""
    return [
        list(order)
        for order in permutations(range(len(keys)))
        if all(keys[a][0] >= keys[b][0] for a, b in pairwise(order))
    ]


def columns(keys: list[tuple[int, bool]]) -> tuple[Floats, Flags]:
    return np.array([float(score) for score, _ in keys]), np.array([hit for _, hit in keys])


def test_average_precision_without_ties() -> None:
    scores, stolen = np.array([9.0, 8, 7, 6]), np.array([True, False, True, False])
    assert average_precision(scores, stolen) == pytest.approx((1 + 2 / 3) / 2)


def test_nothing_stolen_has_no_precision() -> None:
    assert np.isnan(average_precision(np.array([1.0]), np.array([False])))
    assert np.isnan(share(0, 0))


@settings(deadline=None)
@given(RANKINGS.filter(lambda keys: any(hit for _, hit in keys)))
def test_a_tie_is_its_mean_over_all_orders(keys: list[tuple[int, bool]]) -> None:
    expected = np.mean([plain_precision([keys[i][1] for i in order]) for order in orders(keys)])
    assert average_precision(*columns(keys)) == pytest.approx(expected)


@settings(deadline=None)
@given(RANKINGS, st.integers(0, 3))
def test_caught_is_the_share_of_orders_that_name_the_key(
    keys: list[tuple[int, bool]], false_alarms: int
) -> None:
    expected = [0.0] * len(keys)
    every = orders(keys)
    for order in every:
        wrong = 0
        for i in order:
            wrong += not keys[i][1]
            if wrong > false_alarms:
                break
            expected[i] += 1 / len(every)
    stolen = [i for i, (_, hit) in enumerate(keys) if hit]
    assert caught(*columns(keys), false_alarms) == pytest.approx([expected[i] for i in stolen])


def test_a_key_that_is_not_scored_is_not_caught() -> None:
    assert caught(np.array([0.0, 0.0]), np.array([True, False]), 5).tolist() == [0.0]
