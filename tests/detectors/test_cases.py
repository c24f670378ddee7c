"""Every case of every detector, whole results compared; and what `check` says of a broken one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keywatch import cases, detectors
from keywatch.content import content_path
from keywatch.detectors import Detector

ALL = detectors.load_detectors()
CASES = [(detector, file) for detector in ALL for file in cases.case_files(detector)]


@pytest.mark.parametrize(
    ("detector", "file"), CASES, ids=[f"{detector.id}/{file.stem}" for detector, file in CASES]
)
def test_case(detector: Detector, file: Path) -> None:
    result = cases.run_case(detector, file)

    assert result.actual == result.expected


@pytest.mark.parametrize("detector", ALL, ids=[detector.id for detector in ALL])
def test_the_folder_is_in_order(detector: Detector) -> None:
    assert detectors.check(detector) == []
    results = [cases.run_case(detector, file) for file in cases.case_files(detector)]
    assert any(result.expected for result in results), "no positive case"
    assert any(not result.expected for result in results), "no negative case"


def test_the_thirteen_detectors_of_this_version_are_there() -> None:
    assert {detector.id for detector in ALL} >= {
        "unfamiliar_origin", "anonymous_network", "unfamiliar_endpoint", "unfamiliar_agent",
        "denied_probe", "object_enumeration", "request_burst", "sensitive_call", "revoked_use",
        "dormant_wake", "environment_mismatch", "rotation_overdue", "wildcard_scope",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("detect.sql", "FROM keys", "FROM keys, (SELECT now())", "reads a clock"),
        ("detect.sql", "$wildcard_bits", "$other_bits", "other_bits, which [params] does not set"),
        ("detect.sql", "$wildcard_bits", "1.0", "wildcard_bits, which detect.sql does not use"),
        ("detect.sql", "AS actual", "AS reality", "actual"),
        ("detect.sql", "-- grain: key", "-- key", "must open with '-- grain"),
        ("detect.sql", "FROM keys", "FROM no_such_table", "no_such_table"),
        ("detector.toml", 'family = "policy"', 'family = "luck"', "family is 'luck'"),
    ],
)
def test_a_broken_folder_is_told_in_words(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    path = tmp_path / "wildcard_scope" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")

    (broken,) = detectors.load_detectors(tmp_path)

    assert said in " ".join(detectors.check(broken))


def test_a_folder_without_its_parts_is_told_in_words(tmp_path: Path) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    (tmp_path / "wildcard_scope" / "README.md").unlink()
    shutil.rmtree(tmp_path / "wildcard_scope" / "cases")

    (broken,) = detectors.load_detectors(tmp_path)

    assert detectors.check(broken) == [
        "README.md is missing",
        "cases/ needs a positive and a negative case at least",
    ]
