"""From evidence to cases and actions: caps, facts, second families, order."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch.detect import scoring
from keywatch.detect.calibration import (
    Calibration,
    Families,
    Visits,
    bits_of,
    fold_of,
    q_values,
    q_values_of_groups,
    together,
)
from keywatch.detect.detectors import Detector, load_detectors
from keywatch.detect.scoring import (
    ScoredCase,
    WindowEvidence,
    as_cases,
    counting,
    decide,
    decide_alone,
    families_of,
    gather,
    visit_bits,
)
from keywatch.lake import Lake
from keywatch.model import FAMILIES as ALL_FAMILIES
from keywatch.model import Action, Family, Status
from keywatch.settings import ScoringSettings
from tests.detect.evidence import visits_of

MONDAY, TUESDAY = date(2026, 9, 28), date(2026, 9, 29)
HOME, AWAY = "84.151.10.0/24", "45.153.78.0/24"
CAPS: dict[Family, float] = {
    "origin": 14.0, "endpoints": 12.0, "volume": 7.0, "client": 6.0, "policy": 10.0,
}  # fmt: skip
SETTINGS = ScoringSettings(
    family_caps_bits=CAPS, investigate_bits=15, second_family_bits=3, investigate_at_least=0
)
FAMILIES: dict[str, Family] = {
    "unfamiliar_origin": "origin", "anonymous_network": "origin",
    "unfamiliar_endpoint": "endpoints",
    "impossible_travel": "origin", "parallel_origins": "origin", "relocation": "origin",
    "fleet_move": "origin", "unfamiliar_place": "origin", "endpoint_mix": "endpoints",
    "endpoint_sequence": "endpoints", "unfamiliar_object": "endpoints",
    "sensitive_call": "endpoints", "request_burst": "volume", "unfamiliar_agent": "client",
    "dormant_wake": "client", "denied_probe": "policy", "revoked_use": "policy",
    "rotation_overdue": "policy",
}  # fmt: skip
ALL = load_detectors()
COLUMNS = [detector.id for detector in counting(ALL)]

Said = tuple[str, float]
"""A detector and its bits."""


@pytest.fixture
def lake(blank: Lake) -> Lake:
    blank.execute(
        "CREATE TEMP TABLE visits (key_id VARCHAR, day DATE, prefix VARCHAR, network VARCHAR, "
        "class VARCHAR)"
    )
    blank.execute("CREATE TEMP VIEW window_keys AS SELECT DISTINCT key_id FROM visits")
    blank.execute(
        "CREATE TEMP TABLE new_networks (key_id VARCHAR, network VARCHAR, goes_on BOOLEAN)"
    )
    blank.execute("CREATE TEMP TABLE stays (key_id VARCHAR, network VARCHAR, silence_bits DOUBLE)")
    blank.execute(
        "CREATE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
        "detector VARCHAR, family VARCHAR, hygiene BOOLEAN, bits DOUBLE)"
    )
    return blank


def visit(lake: Lake, *said: Said, key_id: str = "key_1", day: date = MONDAY,
          prefix: str = AWAY) -> None:  # fmt: skip
    """A visit and what detectors say of it."""
    lake.execute("INSERT INTO visits VALUES ($k, $d, $p, 'AS1', 'isp')", k=key_id, d=day, p=prefix)
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


def adds_up(where: float, against: float = 0, habits: float = 0) -> float:
    """A visit's bits: one thief in ten does as the owner does (docs: ARCHITECTURE.md)."""
    return round(max(where + math.log2(0.1 + 0.9 * 2 ** (against - habits)), 0), 6)


def only_case(lake: Lake, settings: ScoringSettings = SETTINGS,
              detectors: list[Detector] = ALL) -> ScoredCase:  # fmt: skip
    (case,) = scored(lake, settings, detectors)
    return case


def told(lake: Lake) -> list[str]:
    return [key_id for (key_id,) in lake.rows("SELECT key_id FROM evidence WHERE bits > 0")]


def score(lake: Lake, evidence: WindowEvidence, *about: Any, **more: Any) -> list[ScoredCase]:
    cases, _ = scoring.score(evidence, told(lake), *about, **more)
    return cases


def visit_scores(lake: Lake, detectors: list[Detector] = ALL) -> list[tuple[date, str, float]]:
    families = families_of(detectors, SETTINGS)
    _, scores = scoring.score(gather(lake, detectors), told(lake), families, SETTINGS)
    return [(row["day"], row["prefix"], row["bits"]) for row in scores.to_pylist()]


def scored(lake: Lake, settings: ScoringSettings = SETTINGS,
          detectors: list[Detector] = ALL) -> list[ScoredCase]:  # fmt: skip
    return score(lake, gather(lake, detectors), families_of(detectors, settings), settings)


def test_no_evidence_no_case(lake: Lake) -> None:
    visit(lake)
    assert scored(lake) == []


def test_a_visit_s_evidence_adds_up(lake: Lake) -> None:
    # Where from, and the root of the squares of what it does.
    visit(lake, ("unfamiliar_origin", 8), ("unfamiliar_agent", 4), ("request_burst", 3))
    case = only_case(lake)
    assert case == ScoredCase(
        "key_1",
        MONDAY,
        AWAY,
        bits=adds_up(8, 5),
        families={"origin": 8, "client": 4, "volume": 3},
        shares=case.shares,
        certain=False,
        action="none",
        findings=3,
        deeds=2,
    )
    # What each adds to it: of the root by squares.
    part = adds_up(8, 5) / 13
    shares = {"unfamiliar_origin": 8, "unfamiliar_agent": 5 * 16 / 25, "request_burst": 5 * 9 / 25}
    assert case.shares == pytest.approx({name: part * bits for name, bits in shares.items()})


def test_questions_of_origin_add_up_as_the_root_of_their_squares(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 8), ("anonymous_network", 6), ("request_burst", 5))
    case = only_case(lake)
    assert (case.bits, case.findings) == (adds_up(10, 5), 3)
    part = case.bits / 15
    assert case.shares == pytest.approx(
        {
            "unfamiliar_origin": 6.4 * part,
            "anonymous_network": 3.6 * part,
            "request_burst": 5 * part,
        }
    )


def test_of_one_question_the_strongest_detector_counts(lake: Lake) -> None:
    visit(lake, ("impossible_travel", 7), ("parallel_origins", 5), ("unfamiliar_origin", 3))
    case = only_case(lake)
    assert case.bits == pytest.approx(math.hypot(7, 3), abs=1e-5)
    assert case.findings == 2
    assert "parallel_origins" not in case.shares


def test_habits_excuse_no_place(lake: Lake) -> None:
    habits = ("unfamiliar_agent", -2), ("endpoint_sequence", -6), ("endpoint_mix", -3)
    visit(lake, ("unfamiliar_origin", 12), *habits)
    assert only_case(lake).bits == adds_up(12, 0, 7)
    assert only_case(lake).bits > 12 - math.log2(10)


@given(
    st.lists(st.floats(-30, 30), min_size=4, max_size=4),
    st.floats(0, 14),
    st.floats(0.01, 1),
)
def test_habits_take_no_more_than_the_share_of_imitators(
    deeds: list[float], place: float, imitators: float
) -> None:
    # A place, and four detectors of what a visit does: of three families, two of one.
    families = Families(np.array([0, 1, 1, 2, 3]), np.full(4, 14.0), imitators=imitators)
    (bits,) = families.total(np.array([[place, *deeds]]))
    (alone,) = families.total(np.array([[place, 0, 0, 0, 0]]))
    assert alone == pytest.approx(place)
    assert bits >= alone - math.log2(1 / imitators) - 1e-9
    # One likelihood ratio: against less for, as roots of squares, mixed with the imitators'.
    against = math.hypot(*(min(max(one, 0), 14) for one in deeds))
    habits = math.hypot(*(min(one, 0) for one in deeds))
    ratio = imitators + (1 - imitators) * 2 ** (against - habits)
    assert bits == pytest.approx(max(place + math.log2(ratio), 0), abs=1e-9)
    (shares,) = families.shares(np.array([[place, *deeds]]))
    assert shares.sum() == pytest.approx(bits)
    assert (shares >= 0).all()


@given(st.lists(st.floats(-30, 14), min_size=6, max_size=6), st.integers(0, 5), st.floats(0, 9))
def test_more_against_the_owner_is_never_less_strange(
    said: list[float], detector: int, more: float
) -> None:
    families = Families(
        np.array([0, 0, 0, 1, 1, 2]),
        np.full(3, 14.0),
        of_question=np.array([0, 0, 1, 2, 3, 4]),
        of_move=np.array([False, False, True, False, False, False]),
    )
    stranger = list(said)
    stranger[detector] += more
    before, after = families.total(np.array([said, stranger]))
    assert after >= before - 1e-9


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=12
    )
)
def test_together_is_the_strongest_against_else_the_mean_for(
    rows: list[tuple[int, float, float]],
) -> None:
    group = np.array([row[0] for row in rows])
    bits = np.array([row[1:] for row in rows])
    said = together(bits, group)
    assert said.shape == bits.shape
    for number in set(group.tolist()):
        of_group = bits[group == number]
        expected = [c.max() if c.max() > 0 else c.mean() for c in of_group.T]
        assert said[group == number] == pytest.approx(np.tile(expected, (len(of_group), 1)))
    assert together(bits, np.arange(len(rows))) == pytest.approx(bits)  # one visit changes nothing


def test_a_move_is_no_habit(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 12), ("relocation", -5), ("fleet_move", -4))
    assert only_case(lake).bits == 3


def test_the_usual_place_is_a_habit(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", -3), ("unfamiliar_object", 12), ("endpoint_mix", -4))
    assert only_case(lake).bits == adds_up(0, 12, 5)


def stranger(lake: Lake, network: str, *, goes_on: bool = False, silence_bits: float = 0) -> None:
    """What `prepare.sql` says of a network that is new to key_1."""
    lake.execute(
        "INSERT INTO new_networks VALUES ('key_1', $network, $goes_on)",
        network=network,
        goes_on=goes_on,
    )
    lake.execute(
        "INSERT INTO stays VALUES ('key_1', $network, $bits)", network=network, bits=silence_bits
    )


def test_visits_at_a_new_network_are_scored_as_one(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 4), ("endpoint_mix", -2))
    visit(lake, ("unfamiliar_origin", 7), ("unfamiliar_object", 3), day=TUESDAY)
    apart = only_case(lake).bits
    assert apart == adds_up(9, 4, 2)
    stranger(lake, "AS1")
    case = only_case(lake)
    assert case.bits == adds_up(9, 5, 1)  # what speaks for the owner is the mean of both days
    assert {bits for _, _, bits in visit_scores(lake)} == {case.bits}


def test_what_goes_on_adds_what_earlier_windows_said(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9))
    stranger(lake, "AS1", goes_on=True)
    now = gather(lake, ALL)
    said = [5.0 if name == "unfamiliar_object" else 0.0 for name in COLUMNS]
    before = replace(now, bits=bits_of(np.array([said])))
    elsewhere = replace(before, visits=visits_of([(*before.names()[0], "AS2")]))
    scale = families_of(ALL, SETTINGS)
    (alone,) = score(lake, now, scale, SETTINGS, earlier=[elsewhere])
    (case,) = score(lake, now, scale, SETTINGS, earlier=[elsewhere, before])
    assert (alone.bits, case.bits) == (9, adds_up(9, 5))
    assert case.goes_on
    assert now.begun().names() == []


def test_of_a_family_the_strongest_detector_is_told(lake: Lake) -> None:
    visit(lake, ("unfamiliar_endpoint", 4), ("sensitive_call", 3))
    assert (only_case(lake).bits, only_case(lake).families) == (adds_up(0, 5), {"endpoints": 4})


def test_a_detector_is_capped(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 30), ("request_burst", 5))
    assert only_case(lake).bits == adds_up(CAPS["origin"], 5)


def test_one_detector_alone_never_makes_a_case(lake: Lake) -> None:
    for number, (detector, family) in enumerate(FAMILIES.items()):
        if detector not in ("revoked_use", "unfamiliar_place"):
            visit(lake, (detector, 1000), key_id=f"key_{number}")
            assert CAPS[family] < SETTINGS.investigate_bits
    assert {case.action for case in scored(lake)} == {"none"}


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
    assert only_case(lake).bits == adds_up(8, 4)


def test_the_worst_visit_makes_the_case(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 6), prefix=HOME)
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 6), prefix=AWAY, day=TUESDAY)
    case = only_case(lake)
    assert (case.day, case.prefix, case.bits) == (TUESDAY, AWAY, adds_up(9, 6))


@pytest.mark.parametrize(
    ("bits", "action"),
    [(14.99, "none"), (15, "investigate"), (24, "investigate")],
)
def test_the_thresholds_belong_to_the_action(lake: Lake, bits: float, action: str) -> None:
    # On top of a place what a visit does is worth 0.15 bits less than by itself.
    visit(
        lake,
        ("unfamiliar_origin", 12),
        ("unfamiliar_endpoint", math.log2((2 ** (bits - 12) - 0.1) / 0.9)),
    )
    assert only_case(lake).action == action


def test_a_fact_has_no_cap_and_needs_no_second_family(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24))
    assert only_case(lake) == ScoredCase(
        "key_1", MONDAY, AWAY, bits=24, families={}, shares={}, certain=True, action="revoke",
        fact_action="revoke",
    )  # fmt: skip


def asks_for(action: Action, detector: str = "denied_probe", bits: float = 5) -> list[Detector]:
    """All detectors, of which one's evidence is a fact from `bits` on that asks for `action`."""
    return [
        replace(each, certain_bits=bits, action=action) if each.id == detector else each
        for each in ALL
    ]


def test_a_fact_that_is_no_theft_adds_nothing_and_asks_for_its_action(lake: Lake) -> None:
    visit(lake, ("denied_probe", 6))
    actions: tuple[Action, ...] = ("rotate", "investigate")
    for action in actions:
        detectors = asks_for(action)
        evidence = gather(lake, detectors)
        # No visit of it is strange, and the key stays among the ordinary ones of a replay.
        assert evidence.names() == evidence.without_facts().names() == []
        assert evidence.without_facts().keys == evidence.keys == 1
        case = only_case(lake, detectors=detectors)
        assert (case.bits, case.action, case.certain) == (0, "none", False)
        assert (case.fact_action, case.recommended) == (action, action)
        assert visit_scores(lake, detectors) == []


def test_a_theft_s_key_is_no_ordinary_one(lake: Lake) -> None:
    visit(lake, ("denied_probe", 6))
    visit(lake, ("unfamiliar_origin", 6), key_id="key_2")
    evidence = gather(lake, asks_for("revoke"))
    assert evidence.keys == 2
    ordinary = evidence.without_facts()
    assert (ordinary.keys, [key_id for key_id, _, _ in ordinary.names()]) == (1, ["key_2"])


@pytest.mark.parametrize(
    ("fact", "bits", "use", "recommended"),
    [
        ("rotate", 3.0, "none", "rotate"),
        ("rotate", 14.0, "investigate", "rotate"),
        ("investigate", 14.0, "investigate", "investigate"),
        ("investigate", 3.0, "none", "investigate"),
    ],
)
def test_the_more_urgent_of_use_and_facts_is_recommended(
    lake: Lake, fact: Action, bits: float, use: str, recommended: str
) -> None:
    visit(lake, ("unfamiliar_origin", bits))
    visit(lake, ("denied_probe", 6), day=TUESDAY)
    case = only_case(lake, SETTINGS.model_copy(update={"investigate_bits": 14.0}), asks_for(fact))
    assert (case.action, case.recommended) == (use, recommended)


def test_a_theft_is_more_urgent_than_an_exposure(lake: Lake) -> None:
    visit(lake, ("denied_probe", 6), ("revoked_use", 24))
    case = only_case(lake, detectors=asks_for("rotate"))
    assert (case.bits, case.action, case.fact_action, case.recommended) == (
        24, "revoke", "revoke", "revoke",
    )  # fmt: skip


def test_a_fact_about_a_key_out_of_use_is_a_case(lake: Lake) -> None:
    visit(lake, key_id="key_2")
    say(lake, "denied_probe", 6)
    case = only_case(lake, detectors=asks_for("rotate"))
    assert (case.key_id, case.day, case.bits, case.recommended) == ("key_1", None, 0, "rotate")


def test_below_its_certain_bits_it_is_suspicion_as_ever(lake: Lake) -> None:
    visit(lake, ("denied_probe", 4))
    case = only_case(lake, detectors=asks_for("rotate"))
    assert (case.bits, case.recommended) == (adds_up(0, 4), "none")


@pytest.mark.parametrize("status", ["test", "draft"])
def test_what_is_not_stable_counts_nothing(lake: Lake, status: Status) -> None:
    visit(lake, ("revoked_use", 24), ("unfamiliar_origin", 3))
    tried = [replace(each, status=status) if each.id == "revoked_use" else each for each in ALL]
    evidence = gather(lake, tried)
    assert "revoked_use" not in evidence.detectors
    assert (evidence.facts.tolist(), evidence.fact_actions) == ([0.0], {})
    case = only_case(lake, detectors=tried)
    assert (case.bits, case.families, case.recommended) == (3, {"origin": 3}, "none")


def test_a_fact_comes_on_top_of_its_family_s_cap(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24), ("denied_probe", 50), ("unfamiliar_origin", 2))
    assert only_case(lake).bits == pytest.approx(24 + adds_up(2, CAPS["policy"]))


def test_below_its_certain_bits_a_fact_s_detector_is_like_any_other(lake: Lake) -> None:
    visit(lake, ("revoked_use", 19.99))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (adds_up(0, CAPS["policy"]), False, "none")


def test_a_forgotten_consumer_is_no_fact(lake: Lake) -> None:
    visit(lake, ("revoked_use", 4), ("denied_probe", 3))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (adds_up(0, 5), False, "none")


def test_only_a_detector_that_says_so_speaks_of_facts(lake: Lake) -> None:
    visit(lake, ("revoked_use", 30))
    uncertain = [replace(detector, certain_bits=None) for detector in ALL]
    assert only_case(lake, detectors=uncertain).bits == adds_up(0, CAPS["policy"])


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
    assert only_case(lake).bits == adds_up(10, 5)
    assert sorted(visit_scores(lake)) == [
        (MONDAY, AWAY, adds_up(10, 5)), (MONDAY, HOME, adds_up(1, 5)), (TUESDAY, AWAY, 12),
    ]  # fmt: skip


def test_what_is_said_of_a_day_and_of_the_visit_are_two_sides_of_one_deed(lake: Lake) -> None:
    visit(lake, ("unfamiliar_agent", 4))
    say(lake, "dormant_wake", 3, day=MONDAY)
    assert only_case(lake).bits == adds_up(0, 5)


def test_other_keys_change_nothing(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 6))
    alone = only_case(lake)
    visit(lake, ("unfamiliar_origin", 14), ("revoked_use", 30), key_id="key_2")
    say(lake, "dormant_wake", 6, key_id="key_2", day=MONDAY)
    assert alone in scored(lake)


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
        found = scored(lake)
        assert [(case.key_id, case.day, case.prefix) for case in found] == expected


def test_the_order_of_evidence_does_not_matter(lake: Lake) -> None:
    said = [("unfamiliar_origin", 0.1), ("unfamiliar_agent", 0.2), ("request_burst", 0.3),
            ("denied_probe", 0.7), ("unfamiliar_endpoint", 1.1)]  # fmt: skip
    visit(lake, *said, key_id="key_1")
    visit(lake, *reversed(said), key_id="key_2")
    first, second = scored(lake)
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
    assert only_case(lake).bits == adds_up(9, 4)


def test_a_family_without_a_cap_still_counts(lake: Lake) -> None:
    visit(lake, ("revoked_use", 30))
    some = SETTINGS.model_copy(update={"family_caps_bits": {"origin": 14.0}})
    assert only_case(lake, some).action == "revoke"


# ------------------------------------------------------------------------------------- calibrated


def calibration(*weeks: dict[str, tuple[float, float]], keys: int) -> Calibration:
    """Replayed windows of `keys` keys, of which some have bits of origin and of client.

    A rule speaks against those that are called ``ruled_…``.
    """
    parts = [
        WindowEvidence(
            detectors=tuple(COLUMNS),
            visits=visits_of((key_id, MONDAY, AWAY, "") for key_id in week),
            goes_on=np.zeros(len(week), bool),
            bits=bits_of(
                np.array([row(*said) for said in week.values()]).reshape(-1, len(COLUMNS))
            ),
            facts=np.zeros(len(week)),
            ruled=np.array([key_id.startswith("ruled_") for key_id in week], bool),
            moved=np.zeros(len(week), bool),
            cases=np.array([keys // 2, keys - keys // 2]),
        ).as_visits()
        for week in weeks
    ]
    return Calibration.of(parts, families_of(ALL, SETTINGS))


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
    assert case.p_value is not None
    assert case.p_value <= (1 + as_much) / 1001 + 0.01


def test_a_detector_never_counts_for_more_than_it_says(lake: Lake) -> None:
    quiet = calibration({"old": (0.1, 0.1)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 3.0))
    (case,) = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert case.bits == 3.0


def test_below_the_floor_the_tail_extrapolates(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 50), ("unfamiliar_agent", 50))
    few = calibration({"old": (1.0, 1.0)}, keys=10)
    case = score(lake, gather(lake, ALL), few, SETTINGS)[0]
    # One exceedance of 1 and 1.85 bits, and a prior of five cases at half the ideal rate.
    assert few.tail.cases == 1
    assert 0.15 < few.tail.rate < math.log(2)
    beyond = few.tail.share * math.exp(-few.tail.rate * (case.bits - few.tail.start))
    assert case.p_value == pytest.approx(beyond)
    assert beyond < 1 / 11


@given(st.lists(st.floats(0.1, 40), min_size=1, max_size=60), st.integers(100, 5000))
def test_the_tail_is_monotone_and_never_above_the_rank(scores: list[float], keys: int) -> None:
    fit = calibration({f"old_{i}": (bits, 0.0) for i, bits in enumerate(scores)}, keys=keys)
    asked = np.linspace(0, 60, 121)
    p = fit.p_values(asked)
    assert (np.diff(p) <= 1e-12).all()
    rank = (1 + len(fit.scores) - np.searchsorted(fit.scores, asked)) / (keys + 1)
    assert (p[asked > 0] <= rank[asked > 0] + 1e-12).all()
    assert (p > 0).all()


@given(st.floats(0.5, 12), st.integers(20, 2000))
def test_beyond_the_replayed_scores_the_tail_goes_below_the_floor(most: float, keys: int) -> None:
    fit = calibration({f"old_{i}": (most * i / 10, 0.0) for i in range(1, 11)}, keys=keys)
    floor = 1 / (keys + 1)
    assert fit.p_values(np.array([most + 80])) < floor
    assert fit.p_values(np.array([0.0])) == 1
    # Never steeper than bits promise, nor flatter than the prior's own low quantile allows.
    assert 0 < fit.tail.rate <= math.log(2)
    assert fit.tail.cases <= 20
    # An exponential tail: each further bit divides by the same.
    p = fit.p_values(most + np.array([80.0, 81.0, 82.0]))
    assert p[1] / p[0] == pytest.approx(p[2] / p[1]) == pytest.approx(math.exp(-fit.tail.rate))


def test_the_tail_by_hand() -> None:
    # Of 40 replayed scores the 20 largest, which exceed 2.0 by 0.1, 0.2, …, 2.0: 21 bits in all.
    # The prior: 5 cases at half of ln 2. The lower decile of a Gamma of 25 is 18.84.
    fit = calibration({f"old_{i}": (0.1 * i, 0.0) for i in range(1, 41)}, keys=100_000)
    assert fit.scores.max() == pytest.approx(4.0)
    assert (fit.tail.start, fit.tail.cases) == (0.0, 40)  # 2 % of 100,000 are more than there are
    fit = calibration({f"old_{i}": (0.1 * i, 0.0) for i in range(1, 41)}, keys=1000)
    assert fit.tail.start == pytest.approx(2.0)
    assert fit.tail.share == 21 / 1001
    assert fit.tail.rate == pytest.approx(18.84 / (21 + 5 / (math.log(2) / 2)), rel=1e-3)


def test_a_rank_that_is_known_is_not_undercut_by_the_tail() -> None:
    # 20 of 1,000 keys have the same 6 bits: so much is no rarer than 21 in 1,001.
    alike = {f"alike_{i}": (6.0, 0.0) for i in range(20)}
    trifles = {f"trifle_{i}": (0.05 * i, 0.0) for i in range(1, 41)}
    fit = calibration(alike | trifles, keys=1000)
    so_much = fit.scores.max()
    assert fit.p_values(np.array([so_much])) == pytest.approx(21 / 1001)
    assert fit.p_values(np.array([so_much + 20])) < 1 / 1001


ODD = {f"odd_{i}": (11.0 + i / 10, 0.0) for i in range(8)}
"""Replayed cases worth a look: the rule is not asked."""


def test_a_lone_theft_of_a_quiet_lake_is_revoked(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_agent", 6), key_id="key_00")
    for i in range(30):
        visit(lake, key_id=f"quiet_{i:02}")
    (case,) = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert (case.action, case.findings) == ("revoke", 2)
    assert case.q_value is not None
    assert case.q_value <= 0.05


def test_revoke_by_statistics_needs_two_findings_and_bits(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 14), ("unfamiliar_agent", 2.9))
    assert score(lake, gather(lake, ALL), quiet, SETTINGS)[0].action == "investigate"
    say(lake, "anonymous_network", 5, day=MONDAY, prefix=AWAY)
    assert score(lake, gather(lake, ALL), quiet, SETTINGS)[0].action == "revoke"
    strict = SETTINGS.model_copy(update={"revoke_bits": 18.0})
    assert score(lake, gather(lake, ALL), quiet, strict)[0].action == "investigate"


def test_a_key_that_moved_is_revoked_for_deeds_only(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 14), ("anonymous_network", 8))
    stranger(lake, "AS1", silence_bits=3)
    (case,) = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert (case.moved, case.deeds, case.action) == (True, 0, "investigate")
    say(lake, "sensitive_call", 6, day=MONDAY, prefix=AWAY)
    assert score(lake, gather(lake, ALL), quiet, SETTINGS)[0].action == "revoke"
    lake.execute("UPDATE stays SET silence_bits = 2.9")
    lake.execute("DELETE FROM evidence WHERE detector = 'sensitive_call'")
    assert score(lake, gather(lake, ALL), quiet, SETTINGS)[0].action == "revoke"


def test_a_rule_decides_where_too_little_was_ordinary_yet(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    evidence = gather(lake, ALL)
    assert "unfamiliar_place" not in evidence.detectors  # it adds no bits
    quiet = calibration({"old": (1.0, 1.0)}, keys=1000)
    (case,) = score(lake, evidence, quiet, SETTINGS)
    assert (case.bits, case.action, case.by_rule) == (5, "revoke", True)
    (case,) = score(lake, evidence, families_of(ALL, SETTINGS), SETTINGS)
    assert (case.action, case.by_rule) == ("revoke", True)
    # Where statistics can tell, a rule that is rare says what to look at, and revokes nothing.
    (case,) = score(lake, evidence, calibration(ODD, keys=1000), SETTINGS)
    assert (case.ruled, case.action, case.by_rule) == (True, "investigate", True)
    look = SETTINGS.model_copy(update={"unfamiliar_place": "investigate"})
    (case,) = score(lake, evidence, quiet, look)
    assert (case.action, case.by_rule) == ("investigate", True)


@pytest.mark.parametrize("action", ["revoke", "investigate"])
@pytest.mark.parametrize("odd", [4, 5])
def test_the_rule_decides_where_fewer_than_five_cases_were_odd(
    lake: Lake, action: str, odd: int
) -> None:
    asked = SETTINGS.model_copy(update={"unfamiliar_place": action})
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    scale = calibration(dict(list(ODD.items())[:odd]), keys=1000)
    assert scale.cases_of(math.log2(100)) == odd  # ten of 1,000 are looked at
    (case,) = score(lake, gather(lake, ALL), scale, asked)
    assert (case.action, case.by_rule) == (action if odd < 5 else "investigate", True)


@pytest.mark.parametrize(("ruled", "expected"), [(4, "investigate"), (5, "none")])
def test_a_rule_that_speaks_often_in_ordinary_weeks_finds_nothing(
    lake: Lake, ruled: int, expected: str
) -> None:
    # Of 1,000 keys ten may be looked at, five of them by the rule, the scored one included.
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    scale = calibration(ODD | {f"ruled_{n}": (1.0, 0.0) for n in range(ruled)}, keys=1000)
    (case,) = score(lake, gather(lake, ALL), scale, SETTINGS)
    assert (case.action, case.by_rule) == (expected, expected != "none")


@pytest.mark.parametrize(("ruled", "expected"), [(0, "investigate"), (4, "none")])
def test_what_a_rule_names_comes_out_of_the_budget(lake: Lake, ruled: int, expected: str) -> None:
    # Within the budget of ten in 1,000, but not beside four that are ruled.
    week = {f"old_{n}": (20.0, 20.0) for n in range(7)}
    scale = calibration(week | {f"ruled_{n}": (1.0, 0.0) for n in range(ruled)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_agent", 12))
    careful = SETTINGS.model_copy(update={"revoke_bits": 100.0})
    (case,) = score(lake, gather(lake, ALL), scale, careful)
    assert case.p_value is not None
    assert case.p_value < 0.01 < case.p_value + 4 / 1001
    assert (case.action, case.by_rule) == (expected, False)


def test_what_is_expected_there_no_rule_names(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1), ("request_burst", 4))
    lake.execute(
        "INSERT INTO lake.suppressions VALUES ('s', 'v', 'key_1', 'AS1', 'ana', 'moved', "
        "DATE '2026-09-28', DATE '2026-12-31', ['origin', 'client'])"
    )
    case = only_case(lake)
    assert (case.ruled, case.action) == (False, "none")


@pytest.mark.parametrize("status", ["test", "draft"])
def test_a_rule_on_trial_decides_nothing(lake: Lake, status: Status) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    tried = [replace(each, status=status) if each.backstop else each for each in ALL]
    assert only_case(lake, detectors=tried).action == "none"


def test_a_rule_names_the_key_whatever_visit_is_its_worst(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    visit(lake, ("request_burst", 7), ("unfamiliar_agent", 6), day=TUESDAY, prefix=HOME)
    case = only_case(lake)
    assert (case.day, case.prefix, case.ruled, case.action) == (TUESDAY, HOME, True, "revoke")


@pytest.mark.parametrize(
    ("keys", "at_least", "bits", "action"),
    [
        # 5 keys: one in ten weeks is 2 % of the cases, 5.64 bits; 1 % is 6.64.
        (5, 0.1, 5.7, "investigate"),
        (5, 0.1, 5.6, "none"),
        (5, 0.0, 5.7, "none"),
        (5, 0.0, 6.7, "investigate"),
        # 1000 keys: the budget of 10 is more than either.
        (1000, 0.1, 6.7, "investigate"),
        (1000, 0.1, 6.6, "none"),
        (1000, 0.0, 6.7, "investigate"),
    ],
)
def test_the_larger_budget_counts(keys: int, at_least: float, bits: float, action: str) -> None:
    some = SETTINGS.model_copy(update={"investigate_at_least": at_least})
    quiet = calibration({"old": (1.0, 1.0)}, keys=1000)
    case = ScoredCase("k", MONDAY, AWAY, bits, {}, {}, certain=False, action="none")
    assert decide([case], keys, quiet, some)[0].action == action


def test_a_small_lake_may_look_once_in_ten_weeks(lake: Lake) -> None:
    few = calibration({"old": (1.0, 1.0)}, keys=60)
    visit(lake, ("unfamiliar_origin", 6.0))
    for i in range(4):
        visit(lake, key_id=f"quiet_{i}")
    evidence = gather(lake, ALL)
    assert score(lake, evidence, few, SETTINGS)[0].action == "none"
    some = SETTINGS.model_copy(update={"investigate_at_least": 0.1})
    assert score(lake, evidence, few, some)[0].action == "investigate"


def test_one_case_alone_is_decided_as_if_it_came_alone(lake: Lake) -> None:
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_agent", 6))
    for i in range(30):
        visit(lake, key_id=f"quiet_{i:02}")
    cases = score(lake, gather(lake, ALL), quiet, SETTINGS)
    assert decide_alone(cases, 31, quiet, SETTINGS) == cases


@given(
    st.floats(0, 20),
    st.floats(0, 14),
    st.integers(1, 3000),
    st.sampled_from(["none", "ruled", "moved", "certain"]),
)
@settings(deadline=None, max_examples=40)
def test_alone_a_case_is_decided_as_in_a_review_of_it_only(
    origin: float, client: float, keys: int, what: str
) -> None:
    quiet = calibration({f"old_{i}": (i / 3, 1.0) for i in range(20)}, keys=1000)
    evidence = WindowEvidence(
        detectors=tuple(COLUMNS),
        visits=visits_of([("k", MONDAY, AWAY, "AS1")]),
        goes_on=np.array([False]),
        bits=bits_of(np.array([row(origin, client)])),
        facts=np.array([24.0 * (what == "certain")]),
        ruled=np.array([what == "ruled"]),
        moved=np.array([what == "moved"]),
        cases=np.array([keys, 0]),
    )
    counted, bits = visit_bits(evidence, quiet)
    cases = as_cases(evidence, quiet.families, counted, bits, SETTINGS, [0])
    assert decide_alone(cases, keys, quiet, SETTINGS) == decide(cases, keys, quiet, SETTINGS)


def test_a_campaign_is_one_test(lake: Lake) -> None:
    for i in range(4):
        visit(lake, ("unfamiliar_origin", 9), key_id=f"key_{i}")
    quiet = calibration({f"old_{i}": (1.0, 1.0) for i in range(20)}, keys=1000)
    evidence = gather(lake, ALL)
    apart = score(lake, evidence, quiet, SETTINGS)
    keys = [case.key_id for case in apart]
    together = score(lake, evidence, quiet, SETTINGS, [keys[:3], keys[2:]])
    # Four tests of one p-value make q = p; so does the one of all four (Simes).
    assert [case.q_value for case in together] == pytest.approx([case.p_value for case in apart])


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
    (one,) = scored(lake)  # what only speaks for its owner is no case
    assert (one.key_id, one.bits) == ("key_1", adds_up(9, 0, 4))
    assert one.families == {"origin": 9, "endpoints": -4}
    assert one.shares == pytest.approx({"unfamiliar_origin": one.bits})


def test_an_expected_origin_takes_its_evidence_with_it(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 3), ("denied_probe", 4))
    lake.execute(
        "INSERT INTO lake.suppressions VALUES ('s', 'v', 'key_1', 'AS1', 'ana', 'moved', "
        "DATE '2026-09-28', DATE '2026-12-31', ['origin', 'client'])"
    )
    assert only_case(lake).bits == adds_up(0, 4)
    lake.execute("UPDATE visits SET class = 'tor'")  # who hides in that network is nobody's move
    assert only_case(lake).bits == adds_up(9, 5)
    lake.execute(f"UPDATE lake.suppressions SET origin = '{AWAY}'")
    assert only_case(lake).bits == adds_up(0, 4)
    lake.execute("UPDATE lake.suppressions SET ends_on = DATE '2026-09-27'")
    assert only_case(lake).bits == adds_up(9, 5)


def test_what_is_expected_is_so_in_the_families_that_are_named(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 3), ("unfamiliar_endpoint", 4))
    lake.execute(
        "INSERT INTO lake.suppressions VALUES "
        "('s', 'v', 'key_1', 'AS1', 'ana', 'new', DATE '2026-09-28', DATE '2026-12-31', $given)",
        given=["endpoints"],
    )
    assert only_case(lake).families == {"origin": 9, "client": 3}
    lake.execute("UPDATE lake.suppressions SET families = ['origin', 'client']")
    assert only_case(lake).families == {"endpoints": 4}


def test_what_speaks_for_the_owner_stays_where_a_place_is_expected(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", -2), ("request_burst", 6))
    lake.execute(
        "INSERT INTO lake.suppressions VALUES ('s', 'v', 'key_1', 'AS1', 'ana', 'moved', "
        "DATE '2026-09-28', DATE '2026-12-31', ['origin', 'client'])"
    )
    assert only_case(lake).families == {"client": -2, "volume": 6}


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


def test_a_group_is_one_test_with_simes_s_p_value() -> None:
    # Simes of 0.01, 0.04 and 0.9: the least of 3 · 0.01, 3 · 0.04 / 2 and 0.9, so 0.03. With 0.02
    # and 0.5 alone that makes 3 of 10 - 2 = 8 tests: 0.02 · 8 = 0.16, 0.03 · 8 / 2 = 0.12,
    # 0.5 · 8 / 3 is more than 1.
    p = np.array([0.01, 0.02, 0.04, 0.5, 0.9])
    q = q_values_of_groups(p, 10, [np.array([0, 2, 4])], np.ones(5, bool))
    # No member is surer than its group; one that is weaker alone stays so: 0.04 · 8 / 2, and 1.
    assert q.tolist() == pytest.approx([0.12, 0.12, 0.16, 1.0, 1.0])


@given(
    st.lists(st.floats(1e-6, 1), min_size=2, max_size=15),
    st.integers(0, 20),
    st.integers(2, 6),
)
def test_groups_are_one_test_each(p: list[float], more: int, size: int) -> None:
    values = np.array(p)
    size = min(size, len(p))
    group = np.arange(size)
    q = q_values_of_groups(values, len(p) + more, [group], np.ones(len(p), bool))
    simes = min(sorted(p[:size])[k] * size / (k + 1) for k in range(size))
    tested = np.array([simes, *p[size:]])
    expected = q_values(tested, len(p) + more - size + 1)
    assert q[size:] == pytest.approx(expected[1:])  # the others, as among so many tests
    assert (q[:size] >= expected[0] - 1e-12).all()
    assert (q >= values - 1e-12).all()
    assert q[group[values[:size].argmin()]] == pytest.approx(expected[0])  # its strongest member
    assert (
        q_values_of_groups(values, len(p) + more, [], np.ones(len(p), bool)).tolist()
        == q_values(values, len(p) + more).tolist()
    )


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_p_values_of_ordinary_keys_are_no_smaller_than_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def week(n: int) -> Visits:
        bits = np.where(rng.random((n, 6)) < 0.2, rng.exponential(3, (n, 6)), 0.0)
        counts = np.array([n // 2, n - n // 2])
        return Visits(
            np.arange(n), rng.integers(0, 2, n), np.arange(n), bits_of(bits), counts,
            np.zeros(n, bool),
        )  # fmt: skip

    families = Families(np.arange(6), np.full(6, 14.0))
    fit = Calibration.of([week(300) for _ in range(4)], families)
    p = fit.p_values(families.total(fit.calibrated(week(1000))))
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 4 * np.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize("budget", [10.0, 1.0, 0.0])
def test_a_smaller_budget_never_revokes_more(lake: Lake, budget: float) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    less = SETTINGS.model_copy(update={"investigate_per_1000_keys": budget})
    (case,) = score(lake, gather(lake, ALL), calibration(ODD, keys=1000), less)
    assert case.action == ("investigate" if budget == 10 else "none")


def test_the_rule_can_be_off(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 5), ("unfamiliar_place", 1))
    off = SETTINGS.model_copy(update={"unfamiliar_place": "none"})
    for scale in (calibration({"old": (1.0, 1.0)}, keys=1000), families_of(ALL, SETTINGS)):
        (case,) = score(lake, gather(lake, ALL), scale, off)
        assert (case.ruled, case.action, case.by_rule) == (True, "none", False)


def test_a_case_without_bits_is_never_looked_at(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 0.5), ("endpoint_mix", -3))
    many = SETTINGS.model_copy(update={"investigate_at_least": 10.0})
    (case,) = score(lake, gather(lake, ALL), calibration({"old": (1.0, 1.0)}, keys=60), many)
    assert (case.bits, case.action) == (0, "none")
