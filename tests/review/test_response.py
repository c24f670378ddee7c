"""Open alerts with their notes, and how fast and how rightly alerts are answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import DetectorRecord, Review, Verdict
from keywatch.report.alert_list import render_alerts
from keywatch.review import alerts
from keywatch.review.alerts import Alert
from keywatch.review.response import DAYS, add_note, find_open, notes_of, response
from keywatch.review.verdicts import VerdictReport
from tests.deliver.alerts_of import review_of
from tests.report.reviews import DOUBTED, FULL, SCANNED, SECOND, WEEK


def later() -> datetime:
    """Five hours after an alert of the test was opened."""
    return utc_now() + timedelta(hours=5)


@pytest.fixture
def lake(blank: Lake) -> Lake:
    return blank


def told(lake: Lake, review: Review) -> list[Alert]:
    changes = alerts.update(lake, review, grow_bits=10.0)
    alerts.store(lake, changes)
    return [change.alert for change in changes]


def give_verdict(lake: Lake, key_id: str, verdict: Verdict) -> None:
    report = VerdictReport(key_id, WEEK, verdict, ())
    lake.execute(
        "INSERT INTO lake.verdicts BY NAME SELECT $id AS verdict_id, $key_id AS key_id, "
        "$start AS window_start, $end AS window_end, $verdict AS verdict, $now AS given_at",
        id=f"v_{key_id}", key_id=key_id, start=WEEK.start, end=WEEK.end, verdict=verdict,
        now=utc_now(),
    )  # fmt: skip
    alerts.store(lake, alerts.after_verdict(lake, report, "ana", "I looked"))


def test_a_lake_without_alerts_has_no_figures(lake: Lake) -> None:
    found = response(lake, later())
    assert (found.open, found.alerts, found.detect_hours, found.close_hours) == ((), 0, None, None)
    assert render_alerts(found) == "No alert is open.\n"


def test_open_alerts_come_by_urgency_with_their_age(lake: Lake) -> None:
    told(lake, review_of(DOUBTED, SECOND, SCANNED))
    found = response(lake, later())
    assert [(one.names, one.action, one.severity) for one in found.open] == [
        (("Grafana dashboards",), "revoke", "critical"),
        (("CI smoke tests",), "revoke", "medium"),
        (("AKIAIOSFODNN7EXAMPLE",), "investigate", "medium"),
    ]
    assert found.open[0].story == SCANNED.story
    text = render_alerts(found)
    assert "open for 5 hours, week 2026-W40, not assigned" in text
    assert "No alert has a verdict yet: whether they were right is not known." in text


def test_the_last_assignment_and_the_last_comment_are_shown(lake: Lake) -> None:
    (alert,) = told(lake, review_of(SCANNED))
    add_note(lake, alert, "assigned", " ana ", "bob")
    add_note(lake, alert, "comment", "asked the team", "ana")
    add_note(lake, alert, "comment", "no answer\nyet", "ana")
    (shown,) = response(lake, later()).open
    assert (shown.assignee, shown.comment) == ("ana", "ana: no answer\nyet")
    text = render_alerts(response(lake, later()))
    assert "assigned to ana" in text
    assert "comment of ana: no answer\\nyet" in text
    add_note(lake, alert, "assigned", "", "ana")
    assert response(lake, later()).open[0].assignee is None
    assert [note.kind for note in notes_of(lake, [alert.alert_id])[alert.alert_id]] == [
        "assigned", "comment", "comment", "assigned",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "by"),
    [("comment", " ", "ana"), ("comment", "seen", ""), ("comment", "x" * 1001, "ana")],
)
def test_a_note_needs_an_author_and_a_text_of_some_length(
    kind: str, text: str, by: str, lake: Lake
) -> None:
    (alert,) = told(lake, review_of(SCANNED))
    with pytest.raises(UsageError):
        add_note(lake, alert, kind, text, by)  # type: ignore[arg-type]


def test_an_alert_is_found_by_its_id_or_a_key_of_it(lake: Lake) -> None:
    twin = replace(DOUBTED, name=SCANNED.name)
    first, second = told(lake, review_of(SCANNED, twin))
    for named in (first.alert_id, "key_0700353", "ply_live_prod_4f8a2c…9e1d"):
        assert find_open(lake, named) == first
    assert find_open(lake, second.key_ids[0]) == second
    with pytest.raises(UsageError, match=f"{first.alert_id}, {second.alert_id}"):
        find_open(lake, "Grafana dashboards")
    assert find_open(lake, "Grafana dashboards", "revoke") == first
    with pytest.raises(UsageError, match="no open alert of key_1"):
        find_open(lake, "key_1")
    give_verdict(lake, SCANNED.key_id, "benign")
    with pytest.raises(UsageError, match="no open alert to revoke of key_0700353"):
        find_open(lake, SCANNED.key_id, "revoke")


def test_a_name_of_several_keys_is_told_with_their_ids(lake: Lake) -> None:
    twin = replace(DOUBTED, name=SCANNED.name)
    told(lake, review_of(SCANNED, twin, SECOND))
    text = render_alerts(response(lake, later()))
    for case in (SCANNED, twin):
        assert f"Grafana dashboards ({case.key_id})  " in text
    assert "CI smoke tests  " in text
    both = ", ".join(sorted([SCANNED.key_id, twin.key_id]))
    with pytest.raises(UsageError, match=f"the name of several keys: {both}"):
        find_open(lake, "Grafana dashboards")


def test_an_id_comes_before_a_name(lake: Lake) -> None:
    twin = replace(DOUBTED, name=SCANNED.key_id)
    first, _ = told(lake, review_of(SCANNED, twin))
    assert find_open(lake, SCANNED.key_id) == first


def test_an_alert_is_right_by_the_verdict_on_a_key_of_it(lake: Lake) -> None:
    told(lake, review_of(SCANNED, DOUBTED, replace(SECOND, verdict=None)))
    give_verdict(lake, SCANNED.key_id, "compromised")
    give_verdict(lake, DOUBTED.key_id, "expected")
    found = response(lake, later())
    assert (found.alerts, found.closed, found.right, found.wrong) == (3, 1, 1, 1)
    assert {one.detector: one for one in found.detectors} == {
        "unfamiliar_agent": DetectorRecord("unfamiliar_agent", 1, 1),
        "unfamiliar_endpoint": DetectorRecord("unfamiliar_endpoint", 1, 1),
        **{
            name: DetectorRecord(name, 1, 0)
            for name in ("anonymous_network", "denied_probe", "object_enumeration",
                         "rotation_overdue", "unfamiliar_origin")
        },
    }  # fmt: skip
    assert "1 of 2 alerts with a verdict were thefts (50 %)." in render_alerts(found)


def test_times_are_medians_of_the_alerts_of_the_last_days(lake: Lake) -> None:
    opened = told(lake, review_of(SCANNED, DOUBTED))[0].opened_at
    first = SCANNED.chronology[0].at.replace(microsecond=0), DOUBTED.chronology[0].at
    hours = [(opened - each).total_seconds() / 3600 for each in first]
    found = response(lake, later())
    assert found.detect_hours == pytest.approx(sum(hours) / 2, abs=0.01)
    assert found.close_hours is None
    give_verdict(lake, DOUBTED.key_id, "benign")
    assert response(lake, later()).close_hours == pytest.approx(0.0, abs=1.0)
    much_later = response(lake, opened + timedelta(days=DAYS + 1))
    assert (much_later.alerts, much_later.detect_hours) == (0, None)
    assert len(much_later.open) == 1


def test_related_keys_are_one_alert_with_the_gravest_severity(lake: Lake) -> None:
    cases = (replace(SCANNED, in_campaign=True), replace(SECOND, in_campaign=True, verdict=None))
    told(lake, review_of(*cases, groups=FULL.groups[:1]))
    (shown,) = response(lake, later()).open
    assert (shown.kind, len(shown.key_ids), shown.severity) == ("campaign", 2, "critical")
