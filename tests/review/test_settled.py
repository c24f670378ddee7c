"""What a verdict makes of the review's outputs; on real lakes."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.model import Case, Review
from keywatch.report import render_review
from keywatch.report.html import render_html
from keywatch.report.ocsf import ocsf_findings
from keywatch.review import alerts
from keywatch.settings import Settings
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.document import review_document
from tests.command import keywatch
from tests.detect.test_learning import FIRST, find, visit, week
from tests.review.test_verdicts import ANA, DEAF
from tests.test_pipeline import HOME, NO_REPLAY, crowd, daily, key, lake_of, line

pytestmark = pytest.mark.usefixtures("mid_october")

WAKEFUL = NO_REPLAY.model_copy(update={"deliver": DeliverSettings(grow_bits=0.5)})
THURSDAY = date(2026, 10, 1)


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A theft on Thursday, as the week's review names it."""
    events = daily(FIRST, 65) + crowd() + visit(THURSDAY)
    made = lake_of(tmp_path_factory.mktemp("stolen"), events, [key(scopes=["admin:*"])])
    assert find(pipeline.review(made, week(), NO_REPLAY)).action == "revoke"
    return made


@pytest.fixture
def lake(stolen: Path, tmp_path: Path) -> Path:
    shutil.copytree(stolen, tmp_path / "lake")
    return tmp_path / "lake"


def review(lake: Path, settings: Settings = NO_REPLAY) -> Review:
    return pipeline.review(lake, week(), settings)


def give(lake: Path, verdict: Any, **more: Any) -> None:
    pipeline.give_verdict(lake, "key_1", verdict, NO_REPLAY, **ANA | more)


def load(lake: Path, events: list[dict[str, Any]]) -> None:
    log = lake.parent / "more.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    pipeline.ingest(lake, [str(log)], NO_REPLAY)


def shown(lake: Path) -> tuple[Case, Review]:
    answer = review(lake)
    return find(answer), answer


@pytest.mark.parametrize("verdict", ["benign", "expected"])
def test_what_a_verdict_clears_no_output_says_to_revoke(lake: Path, verdict: str) -> None:
    give(lake, verdict)
    case, answer = shown(lake)
    assert (case.action, case.steps) == ("none", ())
    assert "key_1" not in {each.key_id for each in answer.alerted()}
    (told,) = [each for each in review_document(answer)["cases"] if each["key_id"] == "key_1"]
    assert (told["action"], told["verdict"]["verdict"]) == ("none", verdict)
    assert told["verdict"]["clears"]
    assert "REVOKE" not in render_review(answer)


def test_a_cleared_case_is_no_finding_to_fail_on(lake: Path) -> None:
    give(lake, "benign")
    options = ("--lake", lake, "--week", "2026-W40", "--fail-on", "investigate")
    ran = keywatch(
        "review", *options, KEYWATCH_REVIEW__REPLAYED_WINDOWS="0", KEYWATCH_REVIEW__POWER_KEYS="0"
    )
    assert (ran.code, ran.err) == (0, "")
    assert "benign, ana, 2026-10-1" in ran.out


def test_a_cleared_case_is_shown_as_one(lake: Path) -> None:
    give(lake, "benign")
    case, answer = shown(lake)
    assert (case.scored_action, answer.cleared()) == ("revoke", (case,))
    text = render_review(answer)
    assert "Cleared by a verdict" in text
    assert "was revoke" in text
    assert case not in answer.watched()
    page = render_html(*pipeline.review_in_detail(lake, week(), NO_REPLAY))
    assert "Cleared by a verdict" in page
    (finding,) = ocsf_findings(answer)
    assert (finding["status"], finding["severity"]) == ("Resolved", "Informational")
    assert finding["status_detail"] == "benign by ana: it is so"


def test_an_undone_verdict_leaves_the_case_as_it_was(lake: Path) -> None:
    give(lake, "benign")
    assert shown(lake)[0].action == "none"
    pipeline.undo_verdict(lake, "key_1", NO_REPLAY, **ANA)
    case, answer = shown(lake)
    assert (case.action, case.verdict, answer.cleared()) == ("revoke", None, ())


def test_what_the_verdict_is_not_about_keeps_the_case_open(lake: Path) -> None:
    give(lake, "benign")
    load(lake, visit(date(2026, 10, 2), ip="92.72.10.5"))
    case, answer = shown(lake)
    assert case.action == "revoke"
    assert case.verdict is not None
    assert case.verdict.still_open == "it does not cover all suspicious visits"
    assert "still open" in render_review(answer)


def test_what_grows_after_its_verdict_is_open_again_and_the_channel_hears(lake: Path) -> None:
    give(lake, "benign")
    more = [
        line(f"2026-10-02T03:{n:02}:30", ip="45.153.78.44", endpoint=f"/v1/members/{n}",
             user_agent="python-requests/2.32", status=200)
        for n in range(60)
    ]  # fmt: skip
    load(lake, more)
    case = find(review(lake, WAKEFUL))
    assert case.action == "revoke"
    assert case.verdict is not None
    assert case.verdict.still_open.startswith("the case has since grown from ")
    with Lake.open(lake) as reading:
        assert [alert.key_ids for alert in alerts.not_over(reading)] == [("key_1",)]
    # With the distance of the settings it is the same case still.
    assert find(review(lake)).action == "none"


def test_a_backtest_asks_what_was_scored(lake: Path) -> None:
    give(lake, "benign")
    rehearsal = pipeline.rehearse(lake, week(), NO_REPLAY)
    assert [(each.key_id, each.action) for each in rehearsal.alerts] == [("key_1", "revoke")]


def test_a_confirmed_theft_is_to_be_revoked_whatever_was_scored(lake: Path) -> None:
    give(lake, "compromised")
    assert find(review(lake)).action == "revoke"
    missed = pipeline.review(lake, week(), DEAF)
    case = find(missed)
    assert (case.action, case.scored_action) == ("revoke", "none")
    assert case.steps[0].startswith("Revoke ply_live_prod_4f8a2c…9e1d now")
    assert [origin.ip for origin in case.origins] == ["45.153.78.122"]
    (finding,) = ocsf_findings(missed)
    assert (finding["status"], finding["severity"]) == ("In Progress", "Critical")


def test_a_verdict_on_another_window_counts_where_they_overlap(lake: Path) -> None:
    give(lake, "benign")
    days = pipeline.review(
        lake, type(week())(week().start, week().end.replace(day=3)), NO_REPLAY, keep=False
    )
    case = find(days)
    assert case.verdict is not None
    assert (case.action, case.verdict.clears) == ("none", True)
    assert HOME not in {origin.ip for origin in case.origins if origin.requests_suspicious}
