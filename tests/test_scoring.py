"""From evidence to cases and actions: caps, facts, second families, order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from keywatch.detectors import Detector, load_detectors
from keywatch.lake import Lake
from keywatch.scoring import ScoredCase, score
from keywatch.settings import ScoringSettings

MONDAY, TUESDAY = date(2026, 9, 28), date(2026, 9, 29)
HOME, AWAY = "84.151.10.0/24", "45.153.78.0/24"
CAPS = {"origin": 14.0, "endpoints": 12.0, "volume": 7.0, "client": 6.0, "policy": 10.0}
SETTINGS = ScoringSettings(
    family_caps_bits=CAPS, investigate_bits=15, revoke_bits=21, second_family_bits=3
)
FAMILIES = {
    "unfamiliar_origin": "origin", "anonymous_network": "origin",
    "unfamiliar_endpoint": "endpoints",
    "sensitive_call": "endpoints", "request_burst": "volume", "unfamiliar_agent": "client",
    "dormant_wake": "client", "denied_probe": "policy", "revoked_use": "policy",
    "rotation_overdue": "policy",
}  # fmt: skip
ALL = load_detectors()

Said = tuple[str, float]
"""A detector and its bits."""


@pytest.fixture
def lake() -> Iterator[Lake]:
    with Lake.in_memory() as lake:
        lake.execute("CREATE TEMP TABLE visits (key_id VARCHAR, day DATE, prefix VARCHAR)")
        lake.execute(
            "CREATE TEMP TABLE evidence (key_id VARCHAR, day DATE, prefix VARCHAR, "
            "detector VARCHAR, family VARCHAR, hygiene BOOLEAN, bits DOUBLE)"
        )
        yield lake


def visit(lake: Lake, *said: Said, key_id: str = "key_1", day: date = MONDAY,
          prefix: str = AWAY) -> None:  # fmt: skip
    """A visit and what detectors say of it."""
    lake.execute("INSERT INTO visits VALUES ($k, $d, $p)", k=key_id, d=day, p=prefix)
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
    (case,) = score(lake, detectors, settings)
    return case


def test_no_evidence_no_case(lake: Lake) -> None:
    visit(lake)
    assert score(lake, ALL, SETTINGS) == []


def test_a_visit_s_evidence_adds_up(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 8), ("unfamiliar_agent", 4), ("request_burst", 2.5))
    assert only_case(lake) == ScoredCase(
        "key_1", MONDAY, AWAY, bits=14.5, families=2, certain=False, action="none"
    )


def test_a_family_is_capped(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 10.6), ("anonymous_network", 10.5), ("request_burst", 5))
    assert only_case(lake).bits == CAPS["origin"] + 5


def test_one_family_alone_never_makes_a_case(lake: Lake) -> None:
    for number, (detector, family) in enumerate(FAMILIES.items()):
        if detector != "revoked_use":
            visit(lake, (detector, 1000), key_id=f"key_{number}")
            assert CAPS[family] < SETTINGS.investigate_bits
    assert {case.action for case in score(lake, ALL, SETTINGS)} == {"none"}


def test_no_family_makes_a_case_alone_by_default() -> None:
    default = ScoringSettings()
    assert max(default.family_caps_bits.values()) < default.investigate_bits
    assert set(default.family_caps_bits) == set(FAMILIES.values())


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
    [(14.99, "none"), (15, "investigate"), (20.99, "investigate"), (21, "revoke")],
)
def test_the_thresholds_belong_to_the_action(lake: Lake, bits: float, action: str) -> None:
    visit(lake, ("unfamiliar_origin", 12), ("unfamiliar_endpoint", bits - 12))
    assert only_case(lake).action == action


@pytest.mark.parametrize(("second", "action"), [(2.99, "investigate"), (3, "revoke")])
def test_revoke_needs_a_second_family(lake: Lake, second: float, action: str) -> None:
    wide = SETTINGS.model_copy(update={"family_caps_bits": CAPS | {"origin": 30.0}})
    visit(lake, ("unfamiliar_origin", 25), ("unfamiliar_agent", second), ("request_burst", 1))
    assert only_case(lake, wide).action == action


def test_two_detectors_of_one_family_are_one_family(lake: Lake) -> None:
    wide = SETTINGS.model_copy(update={"family_caps_bits": CAPS | {"origin": 30.0}})
    visit(lake, ("unfamiliar_origin", 12), ("anonymous_network", 12))
    case = only_case(lake, wide)
    assert (case.families, case.action) == (1, "investigate")


def test_a_fact_has_no_cap_and_needs_no_second_family(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24))
    assert only_case(lake) == ScoredCase(
        "key_1", MONDAY, AWAY, bits=24, families=1, certain=True, action="revoke"
    )


def test_a_fact_comes_on_top_of_its_family_s_cap(lake: Lake) -> None:
    visit(lake, ("revoked_use", 24), ("denied_probe", 50), ("unfamiliar_agent", 2))
    assert only_case(lake).bits == 24 + CAPS["policy"] + 2


def test_below_its_certain_bits_a_fact_s_detector_is_like_any_other(lake: Lake) -> None:
    visit(lake, ("revoked_use", 19.99))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (CAPS["policy"], False, "none")


def test_a_forgotten_consumer_is_no_fact(lake: Lake) -> None:
    visit(lake, ("revoked_use", 4), ("denied_probe", 4))
    case = only_case(lake)
    assert (case.bits, case.certain, case.action) == (8, False, "none")


def test_only_a_detector_that_says_so_speaks_of_facts(lake: Lake) -> None:
    visit(lake, ("revoked_use", 30))
    uncertain = [replace(detector, certain_bits=None) for detector in ALL]
    assert only_case(lake, detectors=uncertain).bits == CAPS["policy"]


def test_upkeep_never_adds(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 14), ("rotation_overdue", 9))
    say(lake, "rotation_overdue", 9)
    case = only_case(lake)
    assert (case.bits, case.families, case.action) == (14, 1, "none")


def test_upkeep_alone_is_a_case_without_bits(lake: Lake) -> None:
    say(lake, "rotation_overdue", 9)
    assert only_case(lake) == ScoredCase(
        "key_1", None, None, bits=0, families=0, certain=False, action="none"
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


def test_what_is_said_of_a_day_shares_its_family_s_cap_with_the_visit(lake: Lake) -> None:
    visit(lake, ("unfamiliar_agent", 5))
    say(lake, "dormant_wake", 5, day=MONDAY)
    assert only_case(lake).bits == CAPS["client"]


def test_other_keys_change_nothing(lake: Lake) -> None:
    visit(lake, ("unfamiliar_origin", 9), ("unfamiliar_agent", 6))
    alone = only_case(lake)
    visit(lake, ("unfamiliar_origin", 14), ("revoked_use", 30), key_id="key_2")
    say(lake, "dormant_wake", 6, key_id="key_2", day=MONDAY)
    assert alone in score(lake, ALL, SETTINGS)


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
        found = score(lake, ALL, SETTINGS)
        assert [(case.key_id, case.day, case.prefix) for case in found] == expected


def test_the_order_of_evidence_does_not_matter(lake: Lake) -> None:
    said = [("unfamiliar_origin", 0.1), ("unfamiliar_agent", 0.2), ("request_burst", 0.3),
            ("denied_probe", 0.7), ("unfamiliar_endpoint", 1.1)]  # fmt: skip
    visit(lake, *said, key_id="key_1")
    visit(lake, *reversed(said), key_id="key_2")
    first, second = score(lake, ALL, SETTINGS)
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
