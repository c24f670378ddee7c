"""What of the replayed windows is no part of ordinary weeks, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from keywatch.detect.calibration import Calibration, bits_of, q_values_of_groups
from keywatch.detect.detectors import load_detectors
from keywatch.detect.replay import NOTHING, LeftOut, Replay, Replayed, Replays, to_leave_out
from keywatch.detect.scoring import ScoredCase, WindowEvidence, counting, families_of, score_cases
from keywatch.model import Window
from keywatch.settings import Settings
from tests.detect.evidence import visits_of

DETECTORS = load_detectors()
COLUMNS = [detector.id for detector in counting(DETECTORS)]
SETTINGS = Settings()
FAMILIES = families_of(DETECTORS, SETTINGS.scoring)
KEYS = 200
WINDOWS = 8
MONDAY = date(2026, 9, 28)
ODD = 6.0
"""Bits of a visit that an analyst would want to see."""


def evidence(strange: dict[str, float], rng: np.random.Generator) -> WindowEvidence:
    """A week of `KEYS` keys: a tenth has a trifle to it, and some are `strange`."""
    trifles = rng.choice(KEYS, KEYS // 10, replace=False)
    bits = {f"key_{n}": float(min(rng.exponential(0.7), 4)) for n in trifles} | strange
    said = np.zeros((len(bits), len(COLUMNS)))
    # A place and a client: two things that the score adds up.
    for name in ("unfamiliar_origin", "unfamiliar_agent"):
        said[:, COLUMNS.index(name)] = list(bits.values())
    rows = len(bits)
    return WindowEvidence(
        detectors=tuple(COLUMNS),
        visits=visits_of([(key_id, MONDAY, "192.0.2.0/24", "") for key_id in bits]),
        goes_on=np.zeros(rows, bool),
        bits=bits_of(said),
        facts=np.zeros(rows),
        ruled=np.zeros(rows, bool),
        moved=np.zeros(rows, bool),
        cases=np.array([KEYS // 2, KEYS // 2]),
    )


def replays(strange: Sequence[dict[str, float]], seed: int = 1) -> Replays:
    """The last of the windows have what is `strange` in each."""
    rng = np.random.default_rng(seed)
    weeks: list[dict[str, float]] = [{}] * (WINDOWS - len(strange)) + list(strange)
    end = datetime(2026, 10, 5, tzinfo=UTC)
    return Replays("m", 1, 1, tuple(
        Replay(Window(end - timedelta(weeks=nth + 1), end - timedelta(weeks=nth)),
               evidence(week, rng), is_new=False)
        for nth, week in enumerate(weeks)
    ))  # fmt: skip


def calibrated(found: Replays) -> tuple[LeftOut, Calibration]:
    without = to_leave_out(found.scored(FAMILIES, SETTINGS))
    calibration = found.calibration(FAMILIES, without)
    assert calibration is not None
    return without, calibration


def scored(scale: Calibration, key_id: str, bits: float = ODD) -> ScoredCase:
    """What is made of one strange key in an ordinary week."""
    week = evidence({key_id: bits}, np.random.default_rng(99))
    cases, _ = score_cases(week, scale, SETTINGS.scoring)
    return next(case for case in cases if case.key_id == key_id)


def action(scale: Calibration, key_id: str, bits: float = ODD) -> str:
    """What is made of it."""
    return scored(scale, key_id, bits).action


def noise(keys: int, weeks: int) -> list[dict[str, float]]:
    return [{f"noisy_{n}": ODD + 1 for n in range(keys)} for _ in range(weeks)]


@pytest.mark.parametrize("weeks", [2, 4])
def test_noisy_keys_hide_no_other_key(weeks: int) -> None:
    _, quiet = calibrated(replays([]))
    found = replays(noise(KEYS // 20, weeks))
    without, loud = calibrated(found)
    assert without.noisy >= {f"noisy_{n}" for n in range(KEYS // 20)}
    assert action(quiet, "key_x") != "none"
    assert action(loud, "key_x") != "none"
    # What this is for: learnt as ordinary they make it as common as they are.
    learnt = found.calibration(FAMILIES, NOTHING)
    assert learnt is not None
    common, rare = (scored(scale, "key_x").p_value for scale in (learnt, loud))
    assert common is not None
    assert rare is not None
    assert common > 10 * rare


def test_a_noisy_key_is_compared_with_itself() -> None:
    _, loud = calibrated(replays(noise(1, 4)))
    assert action(loud, "noisy_0", ODD) == "none"  # as in half of its weeks
    assert action(loud, "noisy_0", 14.0) != "none"  # as never before
    assert action(loud, "key_x", ODD) != "none"


def test_a_week_of_many_thefts_is_no_ordinary_week() -> None:
    stolen = {f"stolen_{n}": ODD + n / 10 for n in range(KEYS // 20)}
    without, after = calibrated(replays([stolen]))
    assert without.outlying == {WINDOWS - 1}
    assert after.windows == WINDOWS - 1
    assert max(after.tail.start, 0) < ODD
    assert action(after, "key_x") != "none"


def test_where_many_windows_are_strange_none_is_an_exception() -> None:
    stolen = [{f"stolen_{week}_{n}": ODD for n in range(KEYS // 10)} for week in range(WINDOWS)]
    without, _ = calibrated(replays(stolen))
    assert without.outlying == frozenset()


def test_of_ordinary_weeks_hardly_anything_is_left_out() -> None:
    rare = dict.fromkeys((0.01, 0.05), 0)
    for seed in range(20):
        without, calibration = calibrated(replays([], seed))
        assert without.outlying == frozenset()
        # By chance a key is strange twice; those that are strange once stand for it.
        assert 1 <= without.weight <= 0.95 ** (1 - WINDOWS)
        rng = np.random.default_rng(seed + 1000)
        for _ in range(5):
            week, _ = score_cases(evidence({}, rng), calibration, SETTINGS.scoring)
            for share in rare:
                rare[share] += sum(c.p_value is not None and c.p_value <= share for c in week)
    # Of 20,000 keys; a fifth more is what 20 samples of 1,600 replayed cases leave to chance.
    for share, found in rare.items():
        assert found <= share * 20_000 * 1.2


def test_the_like_windows_are_scored_once_and_others_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Replayed.of(replays([]), FAMILIES, SETTINGS)
    assert Replayed.of(replays([]), FAMILIES, SETTINGS) is first
    for other in (
        Replayed.of(replays([{"key_x": ODD}]), FAMILIES, SETTINGS),
        Replayed.of(stolen_in_each(replays([])), FAMILIES, SETTINGS),
        Replayed.of(Replays("m", 1, 1, replays([]).replays[1:]), FAMILIES, SETTINGS),
        Replayed.of(replays([]), replace(FAMILIES, imitators=0.5), SETTINGS),
        Replayed.of(replays([]), FAMILIES, with_scoring(investigate_per_1000_keys=1)),
    ):
        again = Replayed.of(replays([]), FAMILIES, SETTINGS)
        assert other is not again
        assert (again.revokes, again.left_out) == (first.revokes, first.left_out)
        assert again.calibration is not None
        assert first.calibration is not None
        assert np.array_equal(again.calibration.scores, first.calibration.scores)
        remaining = other.remaining_revokes
        with monkeypatch.context() as patched:
            patched.setattr(Replays, "scored", None)
            assert other.remaining_revokes == remaining
    assert Replayed.of(replays([]), FAMILIES, SETTINGS) is again


def stolen_in_each(found: Replays) -> Replays:
    stolen = frozenset({found.replays[0].evidence.names()[0][0]})
    return replace(found, replays=tuple(replace(each, stolen=stolen) for each in found.replays))


def with_scoring(**values: float) -> Settings:
    return SETTINGS.model_copy(update={"scoring": SETTINGS.scoring.model_copy(update=values)})


def test_a_single_window_is_never_outlying() -> None:
    only = Replays("m", 1, 1, replays([]).replays[:1])
    assert to_leave_out(only.scored(FAMILIES, SETTINGS)).outlying == frozenset()


def test_what_goes_on_makes_nothing_else_surer() -> None:
    # Beside nine weeks-old cases a new one is the first of its 100 tests, not the tenth.
    p = np.array([0.0005] * 9 + [0.004])
    begun = np.array([False] * 9 + [True])
    alone = q_values_of_groups(p, 100, [], begun)
    assert alone[-1] == pytest.approx(0.4)
    assert alone[:9] == pytest.approx(0.05)
    together = q_values_of_groups(p, 100, [], np.ones(10, bool))
    assert together[-1] == pytest.approx(0.04)


@pytest.mark.parametrize(("began", "expected"), [(14.0, "revoke"), (ODD / 2, "investigate")])
def test_what_goes_on_is_revoked_only_where_its_first_week_would_be(
    began: float, expected: str
) -> None:
    _, scale = calibrated(replays([]))
    rng = np.random.default_rng(99)
    first = at_network(evidence({"key_x": began}, rng), goes_on=False)
    now = at_network(evidence({"key_x": 14.0}, rng), goes_on=True)
    cases, _ = score_cases(now, scale, SETTINGS.scoring, earlier=[first])
    found = next(case for case in cases if case.key_id == "key_x")
    assert found.goes_on
    assert found.q_value is not None
    assert found.q_value <= SETTINGS.scoring.false_revoke_rate
    assert found.action == expected


def at_network(week: WindowEvidence, *, goes_on: bool) -> WindowEvidence:
    """The same, key_x being at a network that is new to it."""
    visits = [(*visit, "AS1" if visit[0] == "key_x" else "") for visit in week.names()]
    is_x = week.is_of({"key_x"})
    return replace(week, visits=visits_of(visits), goes_on=is_x & goes_on)
