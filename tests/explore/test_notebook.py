"""The lake as an analyst sees it from a notebook; on a lake in a folder."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import date, datetime
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import keywatch
from keywatch import pipeline
from keywatch.errors import LakeError, UsageError
from keywatch.explore.address import AddressView
from keywatch.explore.key import KeyView
from keywatch.explore.lessons import LessonsView
from keywatch.explore.notebook import LakeView, VerdictLake
from keywatch.explore.rule import RuleView
from keywatch.explore.week import WeekView
from keywatch.settings import LakeSettings
from tests.test_pipeline import AWAY, SETTINGS, WEEK, crowd, daily, key, lake_of, line, theft

MARKUP = "<img src=x onerror=alert(1)>\u202e"


def pandas(table: object) -> pd.DataFrame:
    """The table, which is a pandas one."""
    assert isinstance(table, pd.DataFrame)
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = (
        daily(date(2026, 8, 1), 65)
        + theft()
        + [line("2026-09-30T05:00:00", key_id="other", ip=AWAY)]
        + crowd()
    )
    keys = [key(name=MARKUP), key("key_2", key="ply_live_prod_000000…0002", name="twin"),
            key("key_3", key="ply_live_prod_000000…0003", name="twin")]  # fmt: skip
    made = lake_of(tmp_path_factory.mktemp("notebook"), events, keys)
    pipeline.review(made, WEEK, SETTINGS)
    pipeline.give_verdict(made, "key_1", "compromised", SETTINGS, by="ana", because="leaked")
    return made


@pytest.fixture(scope="module")
def lake(folder: Path) -> LakeView:
    return keywatch.open(folder)


@pytest.fixture(scope="module")
def stolen(lake: LakeView) -> KeyView:
    return lake.key("key_1")


def test_weeks_are_listed_with_their_numbers(lake: LakeView) -> None:
    weeks = pandas(lake.weeks())
    actions = pandas(lake.cases()).action.tolist()

    assert weeks.week.tolist() == ["2026-W40"]
    assert {name: weeks[name][0] for name in ("revoke", "rotate", "investigate")} == {
        name: actions.count(name) for name in ("revoke", "rotate", "investigate")
    }
    assert weeks.revoke[0] == 1
    assert weeks["start"][0] == pd.Timestamp(WEEK.start)


def test_the_cases_of_the_newest_week_with_their_verdicts(lake: LakeView) -> None:
    cases = pandas(lake.cases())
    assert list(cases.columns) == [
        "key_id", "name", "owner", "environment", "action", "bits", "p_value", "q_value", "summary",
        "verdict", "judged_by", "because", "severity", "confidence", "story", "done",
    ]  # fmt: skip
    first = cases.iloc[0]
    assert first.story.startswith(f"This key {first.done}")
    assert (first.key_id, first.action, first.owner) == ("key_1", "revoke", "team-a")
    assert (first.verdict, first.judged_by, first.because) == ("compromised", "ana", "leaked")
    assert cases.bits.is_monotonic_decreasing
    pd.testing.assert_frame_equal(pandas(lake.week("2026-W40").cases()), cases)


def test_the_evidence_that_counts_adds_up_to_the_case(stolen: KeyView, lake: LakeView) -> None:
    evidence = pandas(stolen.evidence())
    assert stolen.case is not None
    assert evidence.counted_bits.sum() == pytest.approx(stolen.case["bits"], abs=0.1)
    assert set(evidence.family) >= {"origin", "endpoints", "policy"}
    whole = pandas(lake.week().evidence())
    mine = whole[whole.key_id == "key_1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, evidence)


def test_a_key_before_and_now(stolen: KeyView) -> None:
    views = (stolen.timeline(), stolen.origins(), stolen.endpoints())
    timeline, origins, endpoints = map(pandas, views)

    assert timeline.day.dtype.kind == "M"
    suspicious = timeline[timeline.flagged]
    assert suspicious.requests.tolist() == [10]
    assert origins.known.tolist() == [False, True]
    assert endpoints[endpoints.requests_before == 0].endpoint.nunique() == 5
    addresses = pandas(stolen.origins("address"))
    assert AWAY in set(addresses.ip)
    agents = pandas(stolen.agents())
    assert agents.agent.tolist() == ["curl/8", "Grafana/10"]


def test_who_else_came_from_there(stolen: KeyView) -> None:
    neighbours = pandas(stolen.neighbours())
    first = neighbours.iloc[0]
    assert (first.neighbour_id, first.ip, first.requests_now) == ("other", AWAY, 1)
    assert (bool(first.known), bool(first.flagged)) == (False, True)
    # The office that forty quiet keys share comes after.
    assert len(neighbours) == 41
    assert not neighbours.flagged[1:].any()


def test_who_used_a_key_and_with_what(stolen: KeyView) -> None:
    users = pandas(stolen.users())
    assert users.kind.tolist() == ["suspicious", "usual"]
    assert [list(agents) for agents in users.agents] == [["curl/8"], ["Grafana/10"]]
    assert users.requests_now.sum() == 17
    assert users.requests_before.tolist() == [0, 58]
    assert "was used from 2 networks in week 2026-W40" in stolen.summary
    assert "(10 requests by curl/8). Usual: " in stolen.summary
    assert " Action: revoke, " in stolen.summary
    assert stolen.summary.endswith(" Verdict: compromised, ana: leaked.")


def test_what_else_an_address_did(lake: LakeView) -> None:
    away = lake.address(AWAY)
    keys = pandas(away.keys())
    assert keys.key_id.tolist() == ["key_1", "other"]
    assert keys.action.tolist() == ["revoke", "none"]
    assert keys.verdict[0] == "compromised"
    assert keys.requests_now.tolist() == [10, 1]
    assert keys.flagged.tolist() == [True, False]
    endpoints, timeline = pandas(away.endpoints()), pandas(away.timeline())
    assert endpoints.requests_now.sum() == timeline.requests.sum() == 11
    assert "2 keys of team-a were used from" in away.summary
    assert "2 of them for the first time. Revoke <img" in away.summary
    rows = json.dumps(away.timeline_chart().to_dict())
    assert "onerror=alert(1)>\\\\u202e" in rows
    # The default is where the most suspicious case was used from.
    prefix = lake.address()
    assert prefix.place == AWAY.rpartition(".")[0] + ".0/24"
    pd.testing.assert_frame_equal(pandas(prefix.keys()), keys)


def test_an_address_is_named_by_itself_its_prefix_any_longer_one_or_its_network(
    lake: LakeView,
) -> None:
    (network,) = pandas(
        lake.sql("SELECT 'AS' || asn AS n FROM lake.origins WHERE address = $ip", ip=AWAY)
    ).n
    whole = AWAY.split(".")[0] + ".0.0.0/8"
    for place in (AWAY, f"{AWAY}/32", whole, network, f" {network.lower()} "):
        found = pandas(lake.address(place).keys())
        assert found.key_id.tolist() == ["key_1", "other"], place
    for place in ("192.0.2.7", "2001:db8::/32", "AS64496"):
        nothing = lake.address(place)
        assert nothing.addresses == len(pandas(nothing.keys())) == 0
        assert nothing.summary.startswith(f"No key was used from {place} in week 2026-W40")
        nothing.timeline_chart().save(BytesIO(), format="png")
    with pytest.raises(UsageError, match="no address 'the office' in the lake; use an address"):
        lake.address("the office")


def test_the_alerts_of_a_rule_beside_the_cases(lake: LakeView) -> None:
    (kind,) = pandas(lake.sql("SELECT class FROM lake.origins WHERE address = $ip", ip=AWAY))[
        "class"
    ]
    rule = lake.rule(kind, new=True)
    hits, missed, weeks = pandas(rule.hits()), pandas(rule.missed()), pandas(rule.by_week())
    assert hits.key_id.tolist() == ["key_1", "other"]
    assert hits.outcome.tolist() == ["theft", "no case"]
    assert hits.requests.tolist() == [10, 1]
    assert hits.new.all()
    named = set(hits.key_id) | set(missed.key_id)
    cases = pandas(lake.cases())
    assert set(cases[cases.action != "none"].key_id) <= named
    assert not set(hits.key_id) & set(missed.key_id)
    now = weeks[weeks.week == "2026-W40"]
    assert dict(zip(now.outcome, now["keys"], strict=True)) == {"theft": 1, "no case": 1}
    assert f"A rule on networks (class {kind}; new to the key) would alert on 2 keys out of " in (
        rule.summary
    )
    assert "1 hit without a case would be a false alarm unless" in rule.summary
    assert '"kind": "theft"' in json.dumps(rule.week_chart("dark").to_dict())


def test_a_rule_hits_what_meets_all_its_conditions(lake: LakeView) -> None:
    place = "SELECT country, 'AS' || asn AS network FROM lake.origins WHERE address = $ip"
    (away,) = pandas(lake.sql(place, ip=AWAY)).to_dict("records")
    both = pandas(lake.rule(countries=[away["country"]], networks=away["network"]).hits())
    assert both.key_id.tolist() == ["key_1", "other"]
    neither = lake.rule("tor", countries=away["country"])
    assert len(pandas(neither.hits())) == 0
    assert "would alert on 0 keys" in neither.summary
    neither.week_chart().save(BytesIO(), format="png")
    everywhere = pandas(lake.rule(["hosting", "isp", "vpn", "unknown"]).hits())
    assert len(everywhere) > 40
    earlier = lake.rule(networks=away["network"], week="2026-W39")
    assert len(pandas(earlier.hits())) == 0
    with pytest.raises(UsageError, match="a rule needs classes, countries or networks"):
        lake.rule(new=True)
    with pytest.raises(UsageError, match=r"unknown class 'vnp'.*; did you mean 'vpn'"):
        lake.rule("vnp")


def test_what_the_verdicts_of_a_month_taught(lake: LakeView) -> None:
    lessons = lake.lessons()
    verdicts, detectors = pandas(lessons.verdicts()), pandas(lessons.detectors())
    assert verdicts.key_id.tolist() == ["key_1"]
    first = verdicts.iloc[0]
    assert (first.outcome, first.action, first.judged_by) == ("theft", "revoke", "ana")
    assert first.in_force
    assert pd.isna(first.action_after)  # no later week was reviewed
    assert set(detectors.thefts) == {1}
    assert set(detectors.false_alarms) == {0}
    assert lessons.summary.startswith(f"The verdicts of {lessons.month} are 1 theft and 0 false")
    assert "Thefts were 1 of 1 case to revoke." in lessons.summary
    assert '"kind": "theft"' in json.dumps(lessons.detector_chart().to_dict())
    none = lake.lessons("2026-09")
    assert "No verdict of 2026-09 is in force. Record one with keywatch verdict" in none.summary
    assert len(pandas(none.verdicts())) == len(pandas(none.detectors())) == 0
    none.detector_chart().save(BytesIO(), format="png")  # an empty one
    with pytest.raises(UsageError, match="'last' is not a month; use YYYY-MM"):
        lake.lessons("last")


def test_the_order_of_calls(stolen: KeyView) -> None:
    sequence = pandas(stolen.sequence())
    new = sequence[sequence.requests_before == 0]
    assert ("GET /v1/members", "GET /v1/keys") in set(zip(new.previous, new.endpoint, strict=True))
    usual = sequence[(sequence.previous == "") & (sequence.endpoint == "GET /v1/checks/{id}")]
    assert usual[["days_before", "days_now"]].to_numpy().tolist() == [[58, 7]]


def test_the_requests_themselves(stolen: KeyView) -> None:
    events = pandas(stolen.events())
    assert len(events) == 17
    assert events.ts.is_monotonic_increasing
    assert events.ts.between(pd.Timestamp(WEEK.start), pd.Timestamp(WEEK.end), "left").all()
    few = pandas(stolen.events(3))
    assert len(few) == 3


def test_verdicts_of_a_key_and_keys_of_the_lake(stolen: KeyView, lake: LakeView) -> None:
    verdicts, keys = pandas(stolen.verdicts()), pandas(lake.keys())

    assert verdicts[["verdict", "judged_by", "because"]].to_numpy().tolist() == [
        ["compromised", "ana", "leaked"]
    ]
    assert len(keys) == 44
    assert keys.set_index("key_id").requests[["key_1", "key_2"]].tolist() == [75, 0]


def test_charts_have_what_the_report_draws(stolen: KeyView) -> None:
    for chart in (stolen.timeline_chart(), stolen.map("dark"), stolen.endpoint_chart()):
        drawn = chart.to_dict()
        assert '"kind": "suspicious"' in json.dumps(drawn)
        assert drawn["config"]["background"].startswith("#")


@pytest.mark.parametrize(
    ("frames", "kind"), [("pandas", pd.DataFrame), ("arrow", pa.Table), ("polars", pl.DataFrame)]
)
def test_tables_come_as_they_are_asked_for(lake: LakeView, frames: Any, kind: type) -> None:
    asked = lake.with_frames(frames)

    for table in (asked.cases(), asked.keys(), asked.key("key_1").timeline(),
                  asked.sql("SELECT 1 AS one")):  # fmt: skip
        assert isinstance(table, kind)


def test_sql_takes_values_by_name_and_changes_nothing(lake: LakeView) -> None:
    query = "SELECT count(*)::BIGINT AS n FROM lake.events WHERE key_id = $key AND day >= $day"
    found = pandas(lake.sql(query, key="key_1", day=date(2026, 10, 1)))
    assert found.n.tolist() == [14]
    for change in (
        "DELETE FROM lake.events",
        "DROP TABLE lake.runs",
        "INSERT INTO lake.format VALUES (1)",
        "CREATE TABLE lake.x (a INTEGER)",
    ):
        with pytest.raises(UsageError, match="one SELECT is run here"):
            lake.sql(change)
    tables = pandas(lake.tables())
    assert {"events", "runs"} < set(tables.table_name)


def test_nobody_who_writes_has_to_wait_for_a_reader(folder: Path, lake: LakeView) -> None:
    hasty = SETTINGS.model_copy(update={"storage": LakeSettings(wait_seconds=0)})
    with lake._reading() as reading:
        before = reading.value("SELECT count(*) FROM lake.verdicts")
        pipeline.give_verdict(folder, "key_1", "compromised", hasty, by="bo", because="seen")
        assert reading.value("SELECT count(*) FROM lake.verdicts") == before
    later = pandas(lake.key("key_1").verdicts())
    assert len(later) == before + 1


def test_answers_of_one_snapshot_agree_whatever_is_written_meanwhile(
    folder: Path, lake: LakeView
) -> None:
    with lake.one_snapshot():
        before = pandas(lake.key("key_1").verdicts())
        pipeline.give_verdict(folder, "key_1", "compromised", SETTINGS, by="bo", because="again")
        assert len(pandas(lake.key("key_1").verdicts())) == len(before)
        with pytest.raises(UsageError, match="no key"):
            lake.key("nobody")
    assert len(pandas(lake.key("key_1").verdicts())) == len(before) + 1


class Markup(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_each_shows_itself_and_hostile_names_do_nothing(lake: LakeView, stolen: KeyView) -> None:
    views: list[Any] = [lake, lake.week(), stolen]
    views += [lake.address(), lake.rule("hosting"), lake.lessons()]
    shown = [Markup(view._repr_html_()) for view in views]

    assert not {"img", "script"} & {tag for each in shown for tag in each.tags}
    assert all(char.isprintable() or char == "\n" for each in shown for char in each.text)
    assert "onerror=alert(1)>\\u202e" in shown[1].text
    assert "onerror=alert(1)>\\u202e" in shown[2].text
    assert "Revoke <img src=x onerror=alert(1)>\\u202e." in shown[3].text
    assert "2026-W40" in shown[0].text
    assert "Revoke ply_live_prod_4f8a2c…9e1d now" in shown[2].text
    assert "IP Geolocation by DB-IP" in shown[0].text
    assert [repr(view)[:9] for view in views] == ["keywatch.", "<week 202", "<key 'key",
                                             "<address ", "<rule on ", "<verdicts"]  # fmt: skip


def test_a_key_by_its_masked_form_and_name_and_a_name_of_two(lake: LakeView) -> None:
    assert lake.key("ply_live_prod_000000…0002").key_id == "key_2"
    assert lake.key(MARKUP).key_id == "key_1"
    assert lake.week().key("other").facts.owner is None
    with pytest.raises(UsageError, match="several keys: key_2, key_3"):
        lake.key("twin")
    with pytest.raises(UsageError, match="no key 'nobody'"):
        lake.key("nobody")


def test_what_is_not_there_is_said(lake: LakeView, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not been reviewed; run keywatch review --week 2026-W30"):
        lake.week("2026-W30")
    with pytest.raises(UsageError, match="not an ISO week"):
        lake.week("last one")
    with pytest.raises(LakeError, match="no lake found there"):
        keywatch.open(tmp_path)
    with pytest.raises(UsageError, match="pandas, arrow, polars"):
        keywatch.open(folder, frames="csv")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="network and address"):
        lake.key("key_1").origins("town")  # type: ignore[arg-type]


def test_a_lake_that_nobody_reviewed_yet(tmp_path: Path) -> None:
    fresh = keywatch.open(str(lake_of(tmp_path, daily(date(2026, 8, 1), 20), [])))

    assert "No week has been reviewed" in fresh._repr_html_()
    assert len(fresh.weeks()) == 0
    with pytest.raises(UsageError, match="no week has been reviewed; run keywatch review"):
        fresh.cases()
    young = fresh.key("key_1")
    assert young.window.start == datetime(2026, 8, 10)
    assert (young.case, len(young.evidence()), len(young.timeline())) == (None, 0, 16)
    assert "The window has not been reviewed" in young._repr_html_()
    busiest, rule = fresh.address(), fresh.rule("isp")
    assert busiest.place == "84.151.10.0/24"
    assert "The window has not been reviewed" in busiest.summary
    assert "The window has not been reviewed" in rule.summary
    assert pandas(rule.hits()).outcome.tolist() == ["not reviewed"]
    assert "No verdict of" in fresh.lessons().summary


def test_every_public_name_says_what_it_is() -> None:
    for view in (LakeView, VerdictLake, WeekView, KeyView, AddressView, RuleView, LessonsView):
        for name, member in inspect.getmembers(view, inspect.isfunction):
            assert name.startswith("_") or inspect.getdoc(member), f"{view.__name__}.{name}"


def test_the_package_itself_loads_nothing_of_a_notebook() -> None:
    code = "import sys, keywatch; print({'pandas', 'altair', 'duckdb', 'pyarrow'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "set()\n"


def test_verdicts_are_given_and_undone_only_where_the_lake_was_opened_for_it(
    folder: Path, lake: LakeView
) -> None:
    assert not hasattr(lake, "verdict")
    with pytest.raises(UsageError, match="name recorded with verdicts"):
        keywatch.open(folder, verdicts=True, by=" ")
    opened = keywatch.open(folder, verdicts=True, by="eve").with_frames("arrow")
    given = opened.verdict("key_1", "benign", "a test", week="2026-W40")
    assert given.flagged
    assert pandas(lake.cases()).judged_by[0] == "eve"
    undone = opened.undo("key_1", "a mistake")
    assert undone.withdrawn is not None
    assert undone.withdrawn.by == "eve"
    cases = pandas(lake.cases())
    assert (cases.verdict[0], cases.judged_by[0] in ("ana", "bo")) == ("compromised", True)
    said = pandas(lake.key("key_1").verdicts()).verdict.tolist()
    assert said[:2] == ["undo", "benign"]
    with pytest.raises(UsageError, match="one SELECT is run here"):
        opened.sql("DELETE FROM lake.verdicts")


def test_open_alerts_are_a_table_and_are_assigned_where_the_lake_was_opened_for_it(
    folder: Path, lake: LakeView
) -> None:
    found = pandas(lake.alerts())
    assert list(found.columns) == [
        "alert_id", "kind", "action", "severity", "state", "story", "assignee", "comment",
        "key_ids", "names", "opened_at", "week",
    ]  # fmt: skip
    assert len(found) == len(lake.response().open)
    assert not hasattr(lake, "assign")
    opened = keywatch.open(folder, verdicts=True, by="eve")
    with pytest.raises(UsageError, match="no open alert of key_none"):
        opened.assign("key_none", "ana")
    for alert_id in found.alert_id[:1]:
        opened.assign(alert_id, "ana")
        opened.comment(alert_id, "looking")
        first = pandas(lake.alerts()).iloc[0]
        assert (first.assignee, first.comment) == ("ana", "eve: looking")


def test_the_lake_is_the_one_that_the_environment_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYWATCH_LAKE", str(folder))
    assert keywatch.open().folder == folder
