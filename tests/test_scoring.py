"""From evidence to cases and actions: caps, facts, second families, order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch.calibration import (
    Calibration,
    Families,
    Visits,
    concatenate,
    fold_of,
    q_values,
)
from keywatch.detectors import Detector, load_detectors
from keywatch.lake import Lake
from keywatch.model import FAMILIES as ALL_FAMILIES
from keywatch.model import Family
from keywatch.scoring import (
    ScoredCase,
    WindowEvidence,
    counting,
    families_of,
    gather,
    score,
)
from keywatch.settings import ScoringSettings

MONDAY, TUESDAY = date(2026, 9, 28), date(2026, 9, 29)
HOME, AWAY = "84.151.10.0/24", "45.153.78.0/24"
CAPS: dict[Family, float] = {
    "origin": 14.0, "endpoints": 12.0, "volume": 7.0, "client": 6.0, "policy": 10.0,
}  # fmt: skip
SETTINGS = ScoringSettings(family_caps_bits=CAPS, investigate_bits=15, second_family_bits=3)
FAMILIES: dict[str, Family] = {
    "unfamiliar_origin": "origin", "anonymous_network": "origin",
    "unfamiliar_endpoint": "endpoints",
    "sensitive_call": "endpoints", "request_burst": "volume", "unfamiliar_agent": "client",
    "dormant_wake": "client", "denied_probe": "policy", "revoked_use": "policy",
    "rotation_overdue": "policy",
}  # fmt: skip
ALL = load_detectors()
COLUMNS = [detector.id for detector in counting(ALL)]

Said = tuple[str, float]
"""A detector and its bits."""


@pytest.fixture
def lake() -> Iterator[Lake]:
    with Lake.in_memory() as lake:
        lake.execute(
            "CREATE TEMP TABLE visits (key_id VARCHAR, day DATE, prefix VARCHAR, network VARCHAR)"
        )
        lake.execute("CREATE TEMP VIEW window_keys AS SELECT DISTINCT key_id FROM visits")
        lake.execute(
            "CREATE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
            "detector VARCHAR, family VARCHAR, hygiene BOOLEAN, bits DOUBLE)"
        )
        yield lake


def visit(lake: Lake, *said: Said, key_id: str = "key_1", day: date = MONDAY,
          prefix: str = AWAY) -> None:  # fmt: skip
    """A visit and what detectors say of it."""
    lake.execute("INSERT INTO visits VALUES ($k, $d, $p, 'AS1')", k=key_id, d=day, p=prefix)
    for detector, bits in said:
        say(lake, detector, bits, key_id=key_id, day=day, prefix=prefix)


def say(lake: Lake, detector: str, bits: float, *, key_id: str = "key_1",
        day: date | None = None, prefix: str | None = None) -> None:  # fmt: skip
    """Evidence: of a visit, of a day (without a prefix) or of a key (without either)."""
    lake.execute(
        "INSERT INTO evidence VALUES ($key, $day, $prefix, $detector, $family, $hygiene, $bits)",
        key=key_id, day=day, prefix=prefix, detector=detector, family=FAMILIES[detector],
        hygiene=next(each.hygiene for each in ALL if each.id == detector), bits=bits,
    )  # fmt: skip


def only_case(lake: Lake, settings: ScoringSettings = SETTINGS,
              detectors: list[Detector] = ALL) -> ScoredCase:  # fmt: skip
    (case,) = judge(lake, settings, detectors)
    return case


def judge(lake: Lake, settings: ScoringSettings = SETTINGS,
          detectors: list[Detector] = ALL) -> list[ScoredCase]:  # fmt: skip
    return score(lake, gather(lake, detectors), families_of(detectors, settings), settings)


def test_no_evidence_no_case(lake: Lake) -> None:
    visit(lake)
    assert judge(lake) == []


def test_a_visit_s_evidence_adds_up(lake: Lake) -> None:
    # Where from, and the root of the squares of what it does.
    visit(lake, ("unfamiliar_origin", 8), ("unfamiliar_agent", 4), ("request_burst", 3))
    case = only_case(lake)
    assert case == ScoredCase(
        "key_1",
        MONDAY,
        AWAY,
        bits=13,
        families={"origin": 8, "client": 4, "volume": 3},
        shares=case.shares,
        certain=False,
        action="none",
    )
    # What each adds to it: of the root by squares.
    assert case.shares == pytest.approx(
        {"unfamiliar_origin": 8, "unfamiliar_agent": 5 * 16 / 25, "request_burst": 5 * 9 / 25}
    )


def test_of_origins_the_strongest_detector_counts(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 10), ("anonymous_network", 6), ("request_burst", 5))
    case = only_case(lake)
    assert case.bits == 10 + 5
    assert case.shares == pytest.approx(
        {"unfamiliar_origin": 10 * 10 / 16, "anonymous_network": 10 * 6 / 16, "request_burst": 5}
    )


def test_of_a_family_the_strongest_detector_is_told(lake: Lake) -> None:
    visit(lake, ("unfamiliar_endpoint", 4), ("sensitive_call", 3))
    assert (only_case(lake).bits, only_case(lake).families) == (5, {"endpoints": 4})


def test_a_detector_is_capped(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 30), ("request_burst", 5))
    assert only_case(lake).bits == CAPS["origin"] + 5


def test_one_detector_alone_never_makes_a_case(lake: Lake) -> None:
    for number, (detector, family) in enumerate(FAMILIES.items()):
        if detector != "revoked_use":
            visit(lake, (detector, 1000), key_id=f"key_{number}")
            assert CAPS[family] < SETTINGS.investigate_bits
    assert {case.action for case in judge(lake)} == {"none"}


def test_no_detector_makes_a_case_alone_by_default() -> None:
    default = ScoringSettings()
    # But for origins: one new address with the keys of many owners is a case.
    others = [cap for family, cap in default.family_caps_bits.items() if family != "origin"]
    assert max(others) < default.investigate_bits
    assert set(default.family_caps_bits) == set(ALL_FAMILIES)


def test_visits_do_not_add_up(lake: Lake) -> None:
    for prefix in (HOME, AWAY):
        for day in (MONDAY, TUESDAY):
            visit(lake, ("unfamiliar_origin", 8), ("unfamiliar_agent", 4), day=day, prefix=prefix)
    assert only_case(lake).bits == 12


def test_the_worst_visit_makes_the_case(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 6), prefix=HOME)
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 6), prefix=AWAY, day=TUESDAY)
    case = only_case(lake)
    assert (case.day, case.prefix, case.bits) == (TUESDAY, AWAY, 15)


@pytest.mark.parametrize(
    ("bits", "action"),
    [(14.99, "none"), (15, "investigate"), (24, "investigate")],
)
def test_the_thresholds_belong_to_the_action(lake: Lake, bits: float, action: str) -> None:
    visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_endpoint", bits - 12))
    assert only_case(lake).action == action


def test_a_fact_has_no_cap_and_needs_no_second_family(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24))
    assert only_case(lake) == ScoredCase(
        "key_1", MONDAY, AWAY, bits=24, families={}, shares={}, certain=True, action="revoke"
    )


def test_a_fact_comes_on_top_of_its_family_s_cap(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24), ("denied_probe", 50), ("unfamiliar_origin", 2))
    assert only_case(lake).bits == 24 + CAPS["policy"] + 2


def test_below_its_certain_bits_a_fact_s_detector_is_like_any_other(lake: Lake) -> None:
    visit(lake, ("revoked_use", 19.99))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (CAPS["policy"], False, "none")


def test_a_forgotten_consumer_is_no_fact(lake: Lake) -> None:
    visit(lake, ("revoked_use", 4), ("denied_probe", 3))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (5, False, "none")


def test_only_a_detector_that_says_so_speaks_of_facts(lake: Lake) -> None:
    visit(lake, ("revoked_use", 30))
    uncertain = [replace(detector, certain_bits=None) for detector in ALL]
    assert only_case(lake, detectors=uncertain).bits == CAPS["policy"]


def test_upkeep_never_adds(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 14), ("rotation_overdue", 9))
    say(lake, "rotation_overdue", 9)
    case = only_case(lake)
    assert (case.bits, case.families, case.action) == (14, {"origin": 14}, "none")


def test_upkeep_alone_is_a_case_without_bits(lake: Lake) -> None:
    say(lake, "rotation_overdue", 9)
    assert only_case(lake) == ScoredCase(
        "key_1", None, None, bits=0, families={}, shares={}, certain=False, action="none"
    )


def test_what_is_said_of_a_day_counts_for_each_of_its_visits(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 10), prefix=AWAY)
    visit(lake, ("unfamiliar_origin", 1), prefix=HOME)
    visit(lake, ("unfamiliar_origin", 12), prefix=AWAY, day=TUESDAY)
    say(lake, "dormant_wake", 5, day=MONDAY)
    assert only_case(lake).bits == 15
    assert lake.rows("SELECT day, prefix, bits FROM visit_scores ORDER BY ALL") == [
        (MONDAY, AWAY, 15), (MONDAY, HOME, 6), (TUESDAY, AWAY, 12),
    ]  # fmt: skip


def test_what_is_said_of_a_day_and_of_the_visit_are_two_sides_of_one_deed(lake: Lake) -> None:
    visit(lake, ("unfamiliar_agent", 4))
    say(lake, "dormant_wake", 3, day=MONDAY)
    assert only_case(lake).bits == 5


def test_other_keys_change_nothing(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 6))
    alone = only_case(lake)
    visit(lake, ("unfamiliar_origin", 14), ("revoked_use", 30), key_id="key_2")
    say(lake, "dormant_wake", 6, key_id="key_2", day=MONDAY)
    assert alone in judge(lake)


def test_the_order_is_by_bits_then_key_then_first_visit(lake: Lake) -> None:
    visits: list[tuple[str, date, str, float]] = [
        (key_id, day, prefix, bits)
        for key_id, bits in (("key_3", 8.0), ("key_1", 8.0), ("key_2", 9.1))
        for day in (TUESDAY, MONDAY)
        for prefix in (HOME, AWAY)
    ]
    expected = [("key_2", MONDAY, AWAY), ("key_1", MONDAY, AWAY), ("key_3", MONDAY, AWAY)]
    for seed in range(3):
        lake.execute("DELETE FROM visits")
        lake.execute("DELETE FROM evidence")
        random.Random(seed).shuffle(visits)
        for key_id, day, prefix, bits in visits:
            visit(lake, ("unfamiliar_origin", bits), key_id=key_id, day=day, prefix=prefix)
        found = judge(lake)
        assert [(case.key_id, case.day, case.prefix) for case in found] == expected


def test_the_order_of_evidence_does_not_matter(lake: Lake) -> None:
    said = [("unfamiliar_origin", 0.1), ("unfamiliar_agent", 0.2), ("request_burst", 0.3),
            ("denied_probe", 0.7), ("unfamiliar_endpoint", 1.1)]  # fmt: skip
    visit(lake, *said, key_id="key_1")
    visit(lake, *reversed(said), key_id="key_2")
    first, second = judge(lake)
    assert first.bits == pytest.approx(second.bits)
    assert (first.key_id, second.key_id) == ("key_1", "key_2")


def test_a_fact_is_not_hidden_by_a_stranger_visit_without_one(lake: Lake) -> None:
    visit(lake, ("revoked_use", 20), prefix=HOME)
    visit(lake, ("unfamiliar_origin", 14), ("request_burst", 2.9), ("unfamiliar_agent", 2.9),
          ("denied_probe", 2.9), prefix=AWAY)  # fmt: skip
    assert only_case(lake).action == "revoke"


def test_what_is_said_of_the_key_counts_for_its_worst_visit(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9))
    say(lake, "denied_probe", 4)
    assert only_case(lake).bits == 13


def test_a_family_without_a_cap_still_counts(lake: Lake) -> None:
    visit(lake, ("revoked_use", 30))
    some = SETTINGS.model_copy(update={"family_caps_bits": {"origin": 14.0}})
    assert only_case(lake, some).action == "revoke"


# ------------------------------------------------------------------------------------- calibrated


def calibration(*weeks: dict[str, tuple[float, float]], keys: int) -> Calibration:
    """Replayed windows of `keys` keys, of which some have bits of origin and of client."""
    parts = [
        WindowEvidence(
            detectors=tuple(COLUMNS),
            visits=tuple((key_id, MONDAY, AWAY) for key_id in week),
            bits=np.array([row(origin, client) for origin, client in week.values()]),
            facts=np.zeros(len(week)),
            cases=np.array([keys // 2, keys - keys // 2]),
        ).as_visits()
        for week in weeks
    ]
    return Calibration(concatenate(parts, len(COLUMNS)), families_of(ALL, SETTINGS))


def row(origin: float, client: float) -> list[float]:
    """A visit's bits by detector."""
    said = {"unfamiliar_origin": origin, "unfamiliar_agent": client}
    return [said.get(name, 0.0) for name in COLUMNS]


def test_a_detector_counts_by_how_rare_so_much_of_it_was(lake: Lake) -> None:
    week = {f"old_{i}": (i / 10, 0.0) for i in range(1, 101)}
    visit(lake, ("unfamiliar_origin", 9.0))
    (case,) = score(lake, gather(lake, ALL), calibration(week, keys=1000), SETTINGS)
    others = [bits for key, (bits, _) in week.items() if fold_of(key) != fold_of("key_1")]
    assert case.bits == pytest.approx(np.log2(501 / (sum(bits >= 9 for bits in others) + 1)))
    as_much = sum(bits >= 9 for bits, _ in week.values())
    assert case.p_value == pytest.approx((1 + as_much) / 1001, abs=0.01)


def test_a_detector_never_counts_for_more_than_it_says(lake: Lake) -> None:
    quiet = calibration({"old": (0.1, 0.1)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 3.0))
    (case,) = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert case.bits == 3.0


def test_nothing_is_claimed_below_the_floor(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 50), ("unfamiliar_agent", 50))
    few = calibration({"old": (1.0, 1.0)}, keys=10)
    case = score(lake, gather(lake, ALL), few, SETTINGS)[0]
    assert case.p_value == pytest.approx(1 / 11)
    assert case.action == "none"  # one in eleven is no more than the budget would look at


def test_many_strange_keys_together_are_revoked_and_one_is_looked_at(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    for i in range(30):
        visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_agent", 9), key_id=f"key_{i:02}")
    cases = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert {case.action for case in cases} == {"revoke"}
    assert all(case.q_value is not None and case.q_value <= 0.05 for case in cases)
    lake.execute("DELETE FROM evidence WHERE key_id <> 'key_00'")
    for i in range(70):  # 100 keys in use: one alone can't be told from chance at this rate
        visit(lake, key_id=f"quiet_{i:02}")
    (case,) = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert case.action == "investigate"
    assert case.p_value == pytest.approx(1 / 1001)


def test_revoke_by_statistics_needs_a_second_family(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    for i in range(30):
        visit(lake, ("unfamiliar_origin", 14), key_id=f"key_{i:02}")
    cases = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert {case.action for case in cases} == {"investigate"}


def test_the_budget_is_how_many_ordinary_keys_are_looked_at(lake: Lake) -> None:
    week = {f"old_{i}": (12 + i / 10, 0.0) for i in range(8)}
    noisy = calibration(week, keys=1000)
    visit(lake, ("unfamiliar_origin", 13.0), key_id="key_1")
    visit(lake, ("unfamiliar_origin", 6.0), key_id="key_2")
    strict = SETTINGS.model_copy(update={"investigate_per_1000_keys": 1.0})
    evidence = gather(lake, ALL)
    assert [case.action for case in score(lake, evidence, noisy, SETTINGS)] == [
        "investigate", "none",
    ]  # fmt: skip
    assert {case.action for case in score(lake, evidence, noisy, strict)} == {"none"}


def test_what_speaks_for_the_owner_weighs_against_the_rest(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_endpoint", -4))
    visit(lake, ("unfamiliar_endpoint", -4), key_id="key_2")
    (one,) = judge(lake)  # what only speaks for its owner is no case
    assert (one.key_id, one.bits) == ("key_1", 5)
    assert one.families == {"origin": 9, "endpoints": -4}
    assert one.shares == {"unfamiliar_origin": 5}


def test_an_expected_origin_takes_its_evidence_with_it(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 3), ("denied_probe", 4))
    lake.execute(
        "INSERT INTO lake.suppressions VALUES "
        "('s', 'v', 'key_1', 'AS1', 'ana', 'moved', DATE '2026-09-28', DATE '2026-12-31', NULL)"
    )
    assert only_case(lake).bits == 4
    lake.execute("UPDATE lake.suppressions SET ends_on = DATE '2026-09-27'")
    assert only_case(lake).bits == 9 + 5


# ---------------------------------------------------------------------------------------- q-values


def test_q_values_are_benjamini_and_hochberg_s() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert q_values(p, 4).tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert q_values(p, 100).max() == 1.0
    assert q_values(np.zeros(0), 5).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 50))
def test_q_values_keep_the_order_and_are_no_smaller(p: list[float], more: int) -> None:
    q = q_values(np.array(p), len(p) + more)
    order = np.argsort(p, kind="stable")
    assert (np.diff(q[order]) >= -1e-12).all()
    assert (q >= np.array(p) - 1e-12).all()


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_p_values_of_ordinary_keys_are_no_smaller_than_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def week(n: int) -> Visits:
        bits = np.where(rng.random((n, 6)) < 0.2, rng.exponential(3, (n, 6)), 0.0)
        return Visits(np.arange(n), rng.integers(0, 2, n), bits, np.array([n // 2, n - n // 2]))

    families = Families(np.arange(6), np.full(6, 14.0))
    fit = Calibration(concatenate([week(300) for _ in range(4)], 6), families)
    p = fit.p_values(families.total(fit.calibrated(week(1000))))
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 4 * np.sqrt(level * (1 - level) / 300)
