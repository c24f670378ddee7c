"""The names of MITRE ATT&CK's techniques and tactics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keywatch.detect.detectors import check, load_detectors
from keywatch.model import Technique
from keywatch.text.attack import technique

DETECTORS = load_detectors()


@pytest.mark.parametrize("uid", sorted({each.technique for each in DETECTORS}))
def test_each_technique_of_a_detector_has_its_names(uid: str) -> None:
    found = technique(uid)
    assert found.name
    assert found.tactics
    assert bool(found.part) is ("." in uid)


def test_a_technique_in_words() -> None:
    assert str(technique("T1098.003")) == (
        "T1098.003 Account Manipulation: Additional Cloud Roles (Persistence, Privilege Escalation)"
    )
    assert str(technique("T1499")) == "T1499 Endpoint Denial of Service (Impact)"


def test_one_that_is_not_in_the_table_is_its_id() -> None:
    assert technique("T9999.001") == Technique("T9999.001")
    assert str(technique("T9999.001")) == "T9999.001"


@pytest.mark.parametrize("uid", ["T78", "T1078.4", "Valid Accounts", "T1078 "])
def test_what_is_no_id_of_attack_fails_the_check(uid: str) -> None:
    wrong = check(replace(DETECTORS[0], technique=uid))
    assert f"technique is {uid!r}; an ATT&CK id such as T1078.004" in wrong


def test_what_the_author_says_of_a_detector_is_on_one_line_each() -> None:
    for each in DETECTORS:
        about = each.about
        assert "\n" not in about.false_positives + about.known_gaps
        assert (about.title, bool(about.false_positives), bool(about.known_gaps)) == (
            each.title, True, True,
        )  # fmt: skip
