"""Every case of every detector, whole results compared; and what `check` says of a broken one."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from keywatch.content import content_path
from keywatch.detect import cases, detectors
from keywatch.detect.detectors import Detector
from keywatch.errors import DetectorError
from keywatch.lake import Lake, sql_text

ALL = detectors.load_detectors()
CASES = [(detector, file) for detector in ALL for file in cases.case_files(detector)]


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    with Lake.in_memory() as opened:
        yield opened


@pytest.mark.parametrize(
    ("detector", "file"), CASES, ids=[f"{detector.id}/{file.stem}" for detector, file in CASES]
)
def test_case(lake: Lake, detector: Detector, file: Path) -> None:
    result = cases.run_case(lake, detector, file)

    assert cases.as_toml(result.actual) == cases.as_toml(result.expected)
    assert result.passed


@pytest.mark.parametrize("detector", ALL, ids=[detector.id for detector in ALL])
def test_the_folder_is_in_order(detector: Detector) -> None:
    assert detectors.check(detector) == []
    files = [tomllib.loads(file.read_text("utf-8")) for file in cases.case_files(detector)]
    assert any("expect" in case for case in files), "no positive case"
    assert any("expect" not in case for case in files), "no negative case"
    titles = [case["title"] for case in files]
    assert sorted(set(titles)) == sorted(titles), "two cases of one title"


@pytest.mark.parametrize("detector", ALL, ids=[detector.id for detector in ALL])
def test_the_readme_says_what_the_reader_needs(detector: Detector) -> None:
    text = (detector.folder / "README.md").read_text("utf-8")
    assert text.startswith(f"# {detector.id}\n{detector.title}.")
    assert detector.technique in text
    assert len(text.splitlines()) <= 40
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Why it matters",
        "How it decides" if detector.backstop else "How the bits come about",
        "Known gaps", "False positives", "Tuning",
    ]  # fmt: skip
    linked = re.findall(r"\(tests/([a-z0-9_]+)\.toml\)", text)
    assert linked, "no worked example"
    assert set(linked) <= {file.stem for file in cases.case_files(detector)}


def test_ids_are_unique_and_folders_are_named_after_them() -> None:
    ids = [detector.id for detector in ALL]
    assert ids == sorted(set(ids))
    assert ids == [detector.folder.name for detector in ALL]


def test_the_design_s_detectors_are_there() -> None:
    by_family = {
        "origin": "unfamiliar_origin impossible_travel anonymous_network parallel_origins "
        "shared_origin fleet_move relocation beside_owner unfamiliar_place "
        "session_elsewhere",
        "endpoints": "unfamiliar_endpoint endpoint_mix endpoint_sequence unfamiliar_object "
        "sensitive_call exploration",
        "volume": "request_burst rate_limit_pressure missing_rate_limit bulk_read "
        "object_enumeration",
        "client": "unfamiliar_agent off_hours dormant_wake request_rhythm",
        "policy": "denied_probe revoked_use environment_mismatch rotation_overdue "
        "overlap_overstay wildcard_scope unused_scope unknown_scope scope_change scope_bypass "
        "exposed_key honey_key leaked_key rotation_due unreadable_lines",
        "all": "behaviour_forest",
    }
    found = {family: {d.id for d in ALL if d.family == family} for family in by_family}
    assert found == {family: set(ids.split()) for family, ids in by_family.items()}


def test_the_fields_that_say_how_evidence_is_used() -> None:
    assert {d.id for d in ALL if d.backstop} == {"unfamiliar_place"}
    assert {d.id for d in ALL if d.speaks_of_moves} == {"relocation", "fleet_move"}
    grouping = {d.id: d.groups_as for d in ALL if d.groups_as}
    assert grouping == {"shared_origin": "campaign", "fleet_move": "migration"}
    assert {d.id for d in ALL if d.needs_other_visits} == {
        *grouping, "relocation", "parallel_origins", "impossible_travel", "beside_owner",
        "session_elsewhere",
    }  # fmt: skip
    shared = {d.id: d.question for d in ALL if d.question != d.id}
    same = ("beside_owner", "impossible_travel", "parallel_origins", "session_elsewhere")
    assert shared == dict.fromkeys(same, "two_places_at_once")


@pytest.mark.parametrize(
    "field",
    ['question = "another"', "backstop = true", "speaks_of_moves = true",
     'groups_as = "migration"', "needs_other_visits = true"],
)  # fmt: skip
def test_a_detector_that_is_used_otherwise_is_another(tmp_path: Path, field: str) -> None:
    shutil.copytree(content_path("detectors") / "relocation", tmp_path / "relocation")
    file = tmp_path / "relocation" / "detector.toml"
    text = file.read_text("utf-8")
    text = text.replace("speaks_of_moves = true\n", "").replace("needs_other_visits = true\n", "")
    file.write_text(text, "utf-8")
    before = detectors.load_detector(file.parent).identity
    file.write_text(f"{field}\n{text}", "utf-8")
    assert detectors.load_detector(file.parent).identity != before


def test_the_manual_names_each_field_and_each_table() -> None:
    text = (content_path("detectors") / "README.md").read_text("utf-8")
    fields = set(re.findall(r"^\| (.*?) \|", text, re.MULTILINE))
    named = set(re.findall(r"`([a-z_]+)`", " ".join(fields)))
    used = {name for d in ALL for name in tomllib.loads((d.folder / "detector.toml").read_text())}
    assert used - {"params"} <= named
    made = set(
        re.findall(
            r"CREATE OR REPLACE TEMP (?:TABLE|VIEW) (\w+)",
            sql_text("span", "keywatch.detect") + sql_text("prepare", "keywatch.detect"),
        )
    )
    read = {
        table
        for d in ALL
        for table in re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]+)", re.sub(r"--[^\n]*", "", d.sql))
        if table in made
    }
    assert read <= set(re.findall(r"`([a-z_]+)`", text))


def test_the_reminder_and_the_rule_have_one_period() -> None:
    days = {d.id: d.params["rotation_days"] for d in ALL if "rotation_days" in d.params}
    assert days == {"rotation_due": 90, "rotation_overdue": 90}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("detect.sql", "FROM keys", "FROM keys, (SELECT now())", "reads a clock"),
        ("detect.sql", "$wildcard_bits", "$other_bits", "other_bits, which [params] does not set"),
        ("detect.sql", "$wildcard_bits", "1.0", "wildcard_bits, which detect.sql does not use"),
        ("detect.sql", "AS actual", "AS reality", "actual"),
        ("detect.sql", "AS rotate", "AS revolve", "revolve"),
        ("detect.sql", "-- grain: key", "-- key", "must open with '-- grain"),
        ("detect.sql", "FROM keys", "FROM no_such_table", "no_such_table"),
        ("detect.sql", "FROM keys", "FROM read_text('/etc/passwd')", "a query here reads tables"),
        (
            "detect.sql", "JOIN shared USING (key_id)",
            "JOIN shared USING (key_id); DELETE FROM keys", "one SELECT is run here",
        ),
        ("detector.toml", 'family = "policy"', 'family = "luck"', "family is 'luck'"),
        ("detector.toml", '"stable"', '"done"', "status is 'done'; allowed are draft, test,"),
        ("detector.toml", "hygiene = true", "certain_bits = 5", "certain_bits needs action"),
        ("detector.toml", "hygiene = true", 'action = "revoke"', "action needs certain_bits"),
        (
            "detector.toml", "hygiene = true", 'certain_bits = 5\naction = "none"',
            "action is 'none'; allowed are revoke, rotate, investigate",
        ),
        (
            "detector.toml", "hygiene = true", 'certain_bits = "5"\naction = "revoke"',
            "certain_bits is '5'; a number above 0 is expected",
        ),
        (
            "detector.toml", "hygiene = true",
            'hygiene = true\ncertain_bits = 5\naction = "rotate"',
            "hygiene and action exclude each other",
        ),
        ("detector.toml", "hygiene = true", "hygiene = 1", "hygiene is 1; true or false"),
        ("detector.toml", "hygiene = true", 'backstop = "no"', "backstop is 'no'; true or false"),
        (
            "detector.toml", "hygiene = true", "speaks_of_moves = 0",
            "speaks_of_moves is 0; true or false is expected",
        ),
        (
            "detector.toml", "hygiene = true", "hygiene = true\nbackstop = true",
            "hygiene and backstop exclude each other",
        ),
        (
            "detector.toml", "hygiene = true",
            'backstop = true\ncertain_bits = 5\naction = "revoke"',
            "backstop and certain_bits exclude each other",
        ),
        (
            "detector.toml", "hygiene = true", 'groups_as = "team"',
            "groups_as is 'team'; allowed are campaign, migration",
        ),
        (
            "detector.toml", "hygiene = true", 'groups_as = "migration"',
            "groups_as needs grain = 'visit', which has a place; here 'key'",
        ),
        ("detector.toml", "hygiene = true", 'groups_as = "campaign"', "gives no subject"),
        (
            "detector.toml", "hygiene = true", "needs_other_visits = 1",
            "needs_other_visits is 1; true or false is expected",
        ),
        ("detector.toml", "hygiene = true", "question = 3", "question is 3; use a string"),
        ("detector.toml", "hygiene = true", 'question = " "', "question is ' '; use a string"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_told_in_words(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    path = tmp_path / "wildcard_scope" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")

    broken = detectors.load_detector(tmp_path / "wildcard_scope")

    assert said in " ".join(detectors.check(broken))


def test_a_folder_without_its_parts_is_told_in_words(tmp_path: Path) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    (tmp_path / "wildcard_scope" / "README.md").unlink()
    shutil.rmtree(tmp_path / "wildcard_scope" / "tests")

    broken = detectors.load_detector(tmp_path / "wildcard_scope")

    assert detectors.check(broken) == [
        "README.md is missing",
        "tests/ needs at least one positive and one negative test",
    ]


def test_a_folder_without_a_query_is_told_in_words(tmp_path: Path) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    (tmp_path / "wildcard_scope" / "detect.sql").unlink()

    with pytest.raises(DetectorError, match=r"detect\.sql: can't be read"):
        detectors.load_detector(tmp_path / "wildcard_scope")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("title =", "not valid TOML"),
        ('title = "x"', "kind, family, grain, status, technique, history"),
    ],
)
def test_a_detector_toml_that_lacks_something_is_told_in_words(
    tmp_path: Path, toml: str, said: str
) -> None:
    shutil.copytree(content_path("detectors") / "wildcard_scope", tmp_path / "wildcard_scope")
    (tmp_path / "wildcard_scope" / "detector.toml").write_text(toml, "utf-8")

    with pytest.raises(DetectorError, match=said):
        detectors.load_detector(tmp_path / "wildcard_scope")


CASE = """
title = "x"
[window]
start = 2026-09-28
end = 2026-10-05
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title =", "not a valid test"),
        ('title = "x"', r"title and \[window\] with start and end are required"),
        ('window = {start = 2026-09-28}\ntitle = "x"', "window lacks end"),
        (CASE + "[[evidence]]", "unknown evidence"),
        (CASE + '[[events]]\nkey_id = "k"\nip = "::1"', "events lacks endpoint"),
        (CASE + '[[events]]\nkey_id = "k"\nip = "::1"\nendpoint = "GET /"', "events lacks on"),
        (CASE + "[[events]]\nstatsu = 200", "events has unknown statsu"),
        (CASE + '[[keys]]\nkey_id = "k"\nscope = "read:checks"', "keys has unknown scope"),
        (CASE + '[[origins]]\nip = "::1"', "origins lacks address"),
        (CASE + '[[expect]]\nkey_id = "k"', "expect lacks actual, bits, explanation, typical"),
    ],
)
def test_a_file_that_is_no_case_is_told_in_words(
    lake: Lake, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "case.toml"
    file.write_text(text, "utf-8")

    with pytest.raises(DetectorError, match=f"case.toml: {said}"):
        cases.run_case(lake, ALL[0], file)


def test_a_wrong_expectation_does_not_pass(lake: Lake, tmp_path: Path) -> None:
    (detector,) = (each for each in ALL if each.id == "wildcard_scope")
    right = (detector.folder / "tests" / "admin.toml").read_text("utf-8")
    for wrong in (
        right.replace("bits = 0.5", "bits = 0.51"),
        right.replace('actual = "admin:*"', 'actual = "admin"'),
        right[: right.index("[[expect]]")],
        right + right[right.index("[[expect]]") :],
    ):
        file = tmp_path / "case.toml"
        file.write_text(wrong, "utf-8")
        assert wrong != right
        assert not cases.run_case(lake, detector, file).passed
