"""A detector as its author works on it; on a lake in a folder."""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

import keywatch
from keywatch import pipeline
from keywatch.content import content_path
from keywatch.detect.detectors import load_detectors
from keywatch.errors import DetectorError, UsageError
from keywatch.explore.notebook import LakeView
from keywatch.lake import Lake
from tests.prose import ROOT
from tests.test_pipeline import SETTINGS, WEEK, crowd, daily, key, lake_of, theft


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> LakeView:
    events = daily(date(2026, 8, 1), 65) + theft() + crowd()
    folder = lake_of(tmp_path_factory.mktemp("workbench"), events, [key()])
    pipeline.review(folder, WEEK, SETTINGS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KEYWATCH_REVIEW__REPLAYED_WINDOWS", "1")
        return keywatch.open(folder)


def test_bundled_detectors_are_listed_and_each_shows_itself(lake: LakeView) -> None:
    listed = lake.detectors()
    assert isinstance(listed, pd.DataFrame)
    assert {"unfamiliar_agent", "off_hours"} < set(listed.id)
    shown = lake.detector("unfamiliar_agent")
    assert "new_product_prior" in shown._repr_html_()
    assert (
        repr(shown) == "<detector unfamiliar_agent, week 2026-W40 (2026-09-28 to 2026-10-04, UTC)>"
    )
    assert "visit_agents" in shown.sql
    assert shown.check() == []


def test_other_numbers_change_what_it_says(lake: LakeView) -> None:
    detector = lake.detector("unfamiliar_agent")
    before = detector.evidence()
    assert (before.key_id[0], before.actual[0]) == ("key_1", "curl/8")
    after = detector.with_params(new_product_prior=1.0).evidence()
    # p = (0 + 2 × 1) / (57 + 2)
    assert after.bits[0] == pytest.approx(4.88, abs=0.01)
    assert before.bits[0] == pytest.approx(7.2, abs=0.01)
    assert detector.params["new_product_prior"] == 0.2


@pytest.mark.slow
def test_cases_decide_about_the_numbers(lake: LakeView) -> None:
    detector = lake.detector("unfamiliar_agent")
    assert detector.test().passed.all()
    changed = detector.with_params(new_product_prior=1.0).test().set_index("case")
    assert not changed.passed["new_client"]
    assert "bits = 7.15" in changed.expected["new_client"]
    assert "bits = 4.83" in changed.actual["new_client"]


@pytest.mark.slow
def test_a_replay_says_which_alerts_differ_and_stores_nothing(lake: LakeView) -> None:
    with lake._reading() as reading:
        snapshot = reading.snapshot
    other = lake.detector("unfamiliar_agent").with_params(new_product_prior=1.0)
    replayed = other.replay(weeks=1)
    assert list(replayed.columns) == [
        "week", "key_id", "name", "action", "bits", "action_then", "bits_then", "summary",
    ]  # fmt: skip
    stolen = replayed.set_index("key_id").loc["key_1"]
    assert stolen.week == "2026-W40"
    assert stolen.bits_then < stolen.bits
    with lake._reading() as reading:
        assert reading.snapshot == snapshot


def test_a_folder_of_ones_own_is_one_detector_more(lake: LakeView, tmp_path: Path) -> None:
    mine = tmp_path / "curl_user"
    shutil.copytree(content_path("detectors") / "unfamiliar_agent", mine)
    (mine / "detect.sql").write_text(
        "-- grain: visit; reads visit_agents\n"
        "SELECT key_id, day, prefix, 3.0 AS bits, 'no curl' AS typical, agent AS actual, "
        "'a person' AS explanation FROM visit_agents WHERE product = 'curl'",
        encoding="utf-8",
    )
    detector = lake.detector(mine)
    assert detector.evidence().bits.tolist() == [3.0]
    assert not detector.test().passed.all()
    assert any("does not use" in sentence for sentence in detector.check())
    (mine / "detect.sql").write_text("-- grain: visit\nSELECT nothing", encoding="utf-8")
    with pytest.raises(DetectorError, match=r"detect\.sql"):
        lake.detector(mine).evidence()


def test_the_documented_parameters_exist() -> None:
    detectors = {each.id: each for each in load_detectors()}
    texts = [
        file.read_text("utf-8")
        for file in (ROOT / "docs" / "notebooks.md", ROOT / "src/keywatch/explore/workbench.py")
    ]
    named = [
        (re.findall(r'detector\("(\w+)"\)', text), re.findall(r"with_params\((\w+)=", text))
        for text in texts
    ]
    assert all(ids and params for ids, params in named)
    for ids, params in named:
        assert set(params) <= {each for one in ids for each in detectors[one].params}


def test_what_is_not_there_is_said(lake: LakeView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown detector 'nobody': give a folder"):
        lake.detector("nobody")
    with pytest.raises(UsageError, match="has no speed; available: prior_strength_days"):
        lake.detector("unfamiliar_agent").with_params(speed=1)
    with pytest.raises(UsageError, match="at least one week"):
        lake.detector("unfamiliar_agent").replay(weeks=0)
    with pytest.raises(UsageError, match="not an ISO week"):
        lake.detector("unfamiliar_agent", week="soon")


def test_sql_reads_data_frames_beside_the_lake(lake: LakeView) -> None:
    query = "SELECT c.key_id, $n AS n FROM cases AS c JOIN lake.runs ON true WHERE action = $action"
    for frames in ("pandas", "arrow", "polars"):
        view = lake.with_frames(frames)
        found = lake.sql(query, cases=view.cases(), n=2, action="revoke")
        assert isinstance(found, pd.DataFrame)
        assert found.to_numpy().tolist() == [["key_1", 2]]
    with pytest.raises(Lake.Error):
        lake.sql("SELECT * FROM cases")
