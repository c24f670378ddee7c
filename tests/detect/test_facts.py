"""What a fact asks for, and what a detector's status means, in reviews with one of one's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

import keywatch
from keywatch import pipeline
from keywatch.content import content_path
from keywatch.detect.detectors import Detector, load_detector, load_detectors
from keywatch.lake import Lake
from keywatch.model import Action, Case, Review, Status
from keywatch.report import render_case, render_review
from keywatch.report.html import render_html
from keywatch.report.ocsf import ocsf_findings
from keywatch.review import history, making
from keywatch.settings import Settings
from keywatch.text.document import review_document
from tests.report.test_ocsf import VALIDATOR
from tests.test_pipeline import (
    NO_REPLAY,
    SETTINGS,
    TWO_REPLAYS,
    WEEK,
    crowd,
    daily,
    key,
    lake_of,
    line,
    theft,
)

STOLEN, CURIOUS = "key_1", "key_2"
"""One is stolen, by curl; of the other curl asks once, from home, as it does on other days."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = daily(date(2026, 8, 1), 65) + theft() + crowd()
    events += daily(date(2026, 8, 1), 65, key_id=CURIOUS, user_agent="curl/8.4.0")
    keys = [key(), key(CURIOUS, name="curious", key="ply_live_prod_11112c…2222")]
    return lake_of(tmp_path_factory.mktemp("facts"), events, keys)


def curl_user(folder: Path, *lines: str, status: Status = "stable") -> Detector:
    """A detector that gives 25 bits where curl is used, made as a user would: as a folder."""
    mine = folder / "curl_user"
    mine.mkdir(parents=True)
    (mine / "detect.sql").write_text(
        "-- grain: visit; reads visit_agents\n"
        "SELECT key_id, day, prefix, $curl_bits AS bits, 'no curl' AS typical, agent AS actual, "
        "'curl is used' AS explanation FROM visit_agents WHERE product = 'curl'",
        encoding="utf-8",
    )
    toml = (content_path("detectors") / "dormant_wake" / "detector.toml").read_text("utf-8")
    head = [line for line in toml[: toml.index("[params]")].splitlines() if "status" not in line]
    settings = [*head, f'status = "{status}"', *lines, "[params]", "curl_bits = 25.0"]
    (mine / "detector.toml").write_text("\n".join(settings), encoding="utf-8")
    return load_detector(mine)


def reviewed(folder: Path, *more: Detector, settings: Settings = NO_REPLAY) -> Review:
    """The review by the bundled detectors and `more`; nothing is stored."""
    with Lake.open(folder) as lake, lake.reading():
        answer, _ = making.make_review(lake, WEEK, settings, loaded=[*load_detectors(), *more])
        return answer


def cases_of(answer: Review) -> dict[str, Case]:
    return {case.key_id: case for case in answer.cases}


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, Case]:
    return cases_of(reviewed(folder))


@pytest.mark.parametrize("action", ["rotate", "investigate"])
def test_a_fact_that_is_no_theft_asks_for_its_action_and_adds_nothing(
    folder: Path, plain: dict[str, Case], tmp_path: Path, action: Action
) -> None:
    mine = curl_user(tmp_path, "certain_bits = 20", f'action = "{action}"')
    with Lake.open(folder) as lake, lake.reading():
        answer, scored = making.make_review(lake, WEEK, NO_REPLAY, loaded=[*load_detectors(), mine])
        flagged = scored.suspicious_visits(lake)
        details = history.details(lake, answer, 90, flagged)
    found = cases_of(answer)[CURIOUS]
    assert CURIOUS not in {key_id for key_id, _, _ in flagged}
    assert (found.action, found.bits) == (action, plain[CURIOUS].bits if CURIOUS in plain else 0)
    assert found.blast_radius is not None
    assert found.blast_radius.requests_suspicious == 0
    said = [item for item in found.evidence if item.detector == "curl_user"]
    assert len(said) == 7  # of each day: it is a fact about the key, whatever its worst visit
    assert {(item.bits, item.said_bits, item.action) for item in said} == {(0.0, 25.0, action)}
    assert found.summary.startswith("curl is used")
    assert f"1 to {action}" in render_html(answer, details)
    text = render_review(answer)
    assert f"{action.upper()}" in text
    assert "fact  client  curl is used" in text
    # Of the stolen key the theft is more urgent, and the fact stands beside its reasons.
    stolen = cases_of(answer)[STOLEN]
    assert (stolen.action, stolen.bits) == ("revoke", plain[STOLEN].bits)
    assert stolen.steps == plain[STOLEN].steps
    assert {item.detector for item in stolen.evidence} == {
        "curl_user", *(item.detector for item in plain[STOLEN].evidence),
    }  # fmt: skip


def test_a_fact_that_is_a_theft_is_revoked(folder: Path, tmp_path: Path) -> None:
    mine = curl_user(tmp_path, "certain_bits = 20", 'action = "revoke"')
    found = cases_of(reviewed(folder, mine))[CURIOUS]
    assert found.action == "revoke"
    assert found.bits >= 25
    assert found.evidence[0].action == "revoke"
    assert found.blast_radius is not None
    assert found.blast_radius.requests_suspicious > 0


def test_a_key_to_rotate_that_is_stolen_too_is_looked_at_first(
    tmp_path: Path, folder: Path
) -> None:
    # Nothing is revoked by statistics or the rule, so the theft is to be investigated.
    careful = {"false_revoke_rate": 1e-9, "unfamiliar_place": "investigate"}
    strict = NO_REPLAY.model_copy(update={"scoring": NO_REPLAY.scoring.model_copy(update=careful)})
    mine = curl_user(tmp_path, "certain_bits = 20", 'action = "rotate"')
    with Lake.open(folder) as lake, lake.reading():
        answer, scored = making.make_review(lake, WEEK, strict, loaded=[*load_detectors(), mine])
        flagged = scored.suspicious_visits(lake)
    found = cases_of(answer)[STOLEN]
    assert found.action == "rotate"
    assert STOLEN in {key_id for key_id, _, _ in flagged}
    assert found.blast_radius is not None
    assert found.blast_radius.requests_suspicious == 10
    assert found.steps[0].startswith("Ask team-a to confirm the use from 45.153.78.0/24")
    assert found.steps[2].startswith("Create a replacement")


FULL_KEY = "ply_live_prod_4f8a2c0000000000009e1d"


def test_what_is_exposed_planted_or_beyond_its_scopes_is_said_by_the_bundled_ones(
    tmp_path: Path,
) -> None:
    planted = key("key_3", name="planted", key="ply_live_prod_3333aa…3333", honey=True)
    keys = [key(), key("key_2", name="narrow", key="ply_live_prod_2222aa…2222"), planted]
    events = crowd(8) + daily(date(2026, 8, 1), 65)
    events += daily(date(2026, 8, 1), 65, key_id="key_2", key="ply_live_prod_2222aa…2222")
    events += [
        line("2026-09-29T08:00:00", key_id="key_2", endpoint=f"/v1/checks?api_key={FULL_KEY}"),
        line("2026-09-30T08:00:00", key_id="key_2", endpoint="/v1/members", key=None),
        line("2026-10-01T08:00:00", key_id="key_3", key="ply_live_prod_3333aa…3333", status=401),
    ]
    answer = pipeline.review(lake_of(tmp_path, events, keys), WEEK, TWO_REPLAYS)
    found = cases_of(answer)
    assert {key_id: case.action for key_id, case in found.items() if case.action != "none"} == {
        "key_1": "rotate", "key_2": "investigate", "key_3": "revoke",
    }  # fmt: skip
    exposed = found["key_1"]
    assert exposed.bits == 0
    assert exposed.evidence[0].actual == (
        "ply_live_prod_4f8a2c…9e1d in the URL and another field of 1 request on 2026-09-29, "
        "sent by key_2, mostly at GET /v1/checks"
    )
    assert exposed.steps[0].startswith("Create a replacement")
    assert found["key_2"].evidence[0].actual.startswith("1 request accepted on 2026-09-30: GET")
    assert found["key_3"].bits >= 30
    text = render_review(answer)
    assert "1 key to revoke, 1 to rotate, 1 to investigate, out of 11 in use." in text
    assert FULL_KEY not in text + str(review_document(answer))
    # The exposed key is told like any alert, by the outbox too.
    with Lake.open(tmp_path / "lake") as lake:
        alerted = lake.rows(
            "SELECT key_id, action FROM lake.cases WHERE action <> 'none' ORDER BY 1"
        )
        assert alerted == [("key_1", "rotate"), ("key_2", "investigate"), ("key_3", "revoke")]
        # A call that it never made is worth a look by itself, let in or not.
        assert lake.rows("SELECT DISTINCT key_id FROM lake.flagged_visits ORDER BY ALL") == [
            ("key_2",), ("key_3",),
        ]  # fmt: skip


# ------------------------------------------------------------------------------------------ status


def test_a_draft_does_not_run(folder: Path, plain: dict[str, Case], tmp_path: Path) -> None:
    mine = curl_user(tmp_path, "certain_bits = 20", 'action = "revoke"', status="draft")
    with Lake.open(folder) as lake, lake.reading():
        answer, _ = making.make_review(lake, WEEK, NO_REPLAY, loaded=[*load_detectors(), mine])
        assert lake.rows("SELECT key_id FROM evidence WHERE detector = 'curl_user'") == []
    assert cases_of(answer) == plain


def test_on_trial_a_detector_is_shown_and_counts_nothing(folder: Path, tmp_path: Path) -> None:
    plain = cases_of(reviewed(folder, settings=SETTINGS))
    mine = curl_user(tmp_path, "certain_bits = 20", 'action = "revoke"', status="test")
    with Lake.open(folder) as lake, lake.reading():
        answer, scored = making.make_review(
            lake, WEEK, SETTINGS, loaded=[*load_detectors(), mine]
        )  # fmt: skip
        assert scored.replays.replays
        assert all("curl_user" not in each.evidence.detectors for each in scored.replays.replays)
        details = history.details(lake, answer, 90, scored.suspicious_visits(lake))
    found = cases_of(answer)
    stolen = found[STOLEN]
    (said,) = (item for item in stolen.evidence if item.detector == "curl_user")
    assert (said.bits, said.said_bits, said.status, said.action) == (0.0, 25.0, "test", None)
    without = tuple(item for item in stolen.evidence if item is not said)
    assert replace(stolen, evidence=without) == plain[STOLEN]
    assert found[CURIOUS].action == "none"
    assert "curl" not in found[CURIOUS].summary
    # Whoever reads it is told.
    assert render_review(answer).count("test, not counted") == 1
    told = render_case(stolen, answer)
    assert "Test, not counted" in told
    assert "25.0" in told
    assert "curl user, test, not counted" in render_html(answer, details)
    (document,) = (
        item
        for each in review_document(answer)["cases"] if each["key_id"] == STOLEN
        for item in each["evidence"] if item["detector"] == "curl_user"
    )  # fmt: skip
    assert (document["bits"], document["said_bits"], document["status"]) == (0.0, 25.0, "test")
    (finding,) = ocsf_findings(answer)
    assert {"data": document} in finding["evidences"]
    (analytic,) = (
        each for each in finding["finding_info"]["related_analytics"] if each["name"] == "curl_user"
    )
    assert analytic["state"] == "Experimental"
    assert list(VALIDATOR.iter_errors(finding)) == []


def test_a_detector_on_trial_makes_no_group(folder: Path, tmp_path: Path) -> None:
    events = [
        line("2026-10-01T03:00:00", key_id=key_id, ip="45.153.78.122", key=None)
        for key_id in ("crowd_00", "crowd_01", "crowd_02")
    ]
    shared = tmp_path / "shared"
    shared.mkdir()
    owners = [key(f"crowd_0{n}", owner=f"team-{n}") for n in range(3)]
    lake_folder = lake_of(shared, crowd(12) + events, owners)
    tried: list[tuple[Status, bool]] = [("stable", True), ("test", False)]
    for status, grouped in tried:
        detectors = [
            replace(each, status=status) if each.id == "shared_origin" else each
            for each in load_detectors()
        ]
        with Lake.open(lake_folder) as lake, lake.reading():
            answer, _ = making.make_review(lake, WEEK, NO_REPLAY, loaded=detectors)
        assert bool(answer.groups) is grouped


def test_the_workbench_asks_what_a_draft_would_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYWATCH_REVIEW__REPLAYED_WINDOWS", "0")
    pipeline.review(folder, WEEK, NO_REPLAY)
    curl_user(tmp_path, "certain_bits = 20", 'action = "revoke"', status="draft")
    replayed = keywatch.open(folder).detector(tmp_path / "curl_user").replay(weeks=1)
    row = replayed.set_index("key_id").loc[CURIOUS]
    assert (pd.isna(row.action), row.action_then) == (True, "revoke")
