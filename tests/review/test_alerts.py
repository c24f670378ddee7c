"""When an alert is opened, told again, left alone and closed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.load.inventory import import_keys, insert_keys
from keywatch.model import Case, Group, Origin, Review, Window
from keywatch.operate.diagnosis import diagnose
from keywatch.review import alerts, verdicts
from keywatch.review.alerts import Change
from keywatch.review.verdicts import Given, VerdictReport
from keywatch.settings import Settings
from tests.deliver.alerts_of import review_of
from tests.report.reviews import (
    DOUBTED,
    EXPOSED,
    FULL,
    SCANNED,
    SECOND,
    TO_ROTATE,
    WEEK,
    watched,
)

CAMPAIGN = FULL.groups[0]
NEXT_WEEK = Window(WEEK.end, WEEK.end + timedelta(days=7))
DOUBT = replace(SCANNED, action="investigate")


@pytest.fixture
def lake(blank: Lake) -> Lake:
    return blank


def told(lake: Lake, review: Review) -> list[Change]:
    changes = alerts.update(lake, review, grow_bits=10.0)
    alerts.store(lake, changes)
    return changes


def summary(changes: Sequence[Change]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(change.what, change.alert.key_ids, change.alert.action) for change in changes]


def test_each_key_with_an_action_is_an_alert_once(lake: Lake) -> None:
    review = review_of(SCANNED, DOUBTED, watched(1))
    assert summary(told(lake, review)) == [
        ("trigger", ("key_0700353",), "revoke"),
        ("trigger", ("AKIAIOSFODNN7EXAMPLE",), "investigate"),
    ]
    assert told(lake, review_of(SCANNED, DOUBTED, run="run_2")) == []


def test_what_is_kept_is_what_was_told(lake: Lake) -> None:
    (change,) = told(lake, review_of(SCANNED))
    assert alerts.waiting(lake) == [change.alert]
    assert change.alert.document["key_id"] == SCANNED.key_id
    assert change.alert.opened_at == change.alert.changed_at


@pytest.mark.parametrize(
    ("first", "then", "window", "why"),
    [
        (DOUBT, SCANNED, WEEK, "raised from investigate to revoke"),
        (DOUBT, replace(DOUBT, bits=DOUBT.bits + 10), WEEK, "grew from 40.7 to 50.7 bits"),
        (DOUBT, replace(DOUBT, bits=DOUBT.bits + 9.9), WEEK, ""),
        (SCANNED, DOUBT, WEEK, ""),
        (DOUBT, DOUBT, NEXT_WEEK, "continues in a later window"),
        (DOUBT, DOUBT, Window(WEEK.start + timedelta(days=1), WEEK.end + timedelta(days=1)), ""),
    ],
    ids=["rises", "grows", "grows-little", "falls", "later", "overlaps"],
)
def test_an_alert_is_told_again_when_it_rises_grows_or_goes_on(
    first: Case, then: Case, window: Window, why: str, lake: Lake
) -> None:
    (opened,) = told(lake, review_of(first))
    changes = told(lake, replace(review_of(then, run="run_2"), window=window))
    assert [(change.what, change.alert.why) for change in changes] == (
        [("update", why)] if why else []
    )
    for change in changes:
        assert change.alert.alert_id == opened.alert.alert_id
        assert change.alert.change == 2
        assert alerts.waiting(lake) == [change.alert]


HERE = replace(DOUBT.origins[0], prefix="45.153.78.0/24", asn=9009)


def goes_on(*origins: Origin) -> Case:
    return replace(DOUBT, origins=origins, goes_on=True)


@pytest.mark.parametrize(
    ("first", "then", "is_news"),
    [
        (HERE, goes_on(HERE), False),
        (HERE, goes_on(replace(HERE, prefix="45.9.0.0/24")), False),  # of the same network
        (HERE, goes_on(replace(HERE, asn=64500)), True),
        (replace(HERE, asn=None), goes_on(replace(HERE, asn=None)), False),
        (replace(HERE, asn=None), goes_on(replace(HERE, asn=None, prefix="45.9.0.0/24")), True),
        (HERE, goes_on(replace(HERE, asn=64500), HERE), True),  # the first is the one it is about
        (HERE, goes_on(), True),
        (HERE, replace(goes_on(HERE), goes_on=False), True),
    ],
    ids=["same", "same-as", "other-as", "same-prefix", "other-prefix", "second", "none", "not-on"],
)
def test_a_network_that_goes_on_is_told_once(
    first: Origin, then: Case, is_news: bool, lake: Lake
) -> None:
    told(lake, review_of(replace(DOUBT, origins=(replace(HERE, asn=64501, prefix="x"), first))))
    changes = told(lake, replace(review_of(then, run="run_2"), window=NEXT_WEEK))
    assert [change.alert.why for change in changes] == ["continues in a later window"] * is_news


def test_what_came_late_says_of_which_week_it_is(lake: Lake) -> None:
    (opened,) = alerts.update(lake, review_of(DOUBT), 10.0, is_late=True)
    assert opened.alert.is_late
    assert opened.alert.why == (
        "log lines came late, about the earlier week 2026-W40 (2026-09-28 to 2026-10-04, UTC): "
        f"{DOUBT.summary}"
    )
    alerts.store(lake, [opened])
    (risen,) = alerts.update(lake, review_of(SCANNED, run="run_2"), 10.0, is_late=True)
    assert risen.alert.why.endswith(": raised from investigate to revoke")


def test_an_exposed_key_is_an_alert_and_an_overdue_one_is_none(lake: Lake) -> None:
    review = TO_ROTATE
    assert {finding.action for finding in review.hygiene} == {"rotate", "none"}
    assert summary(told(lake, review)) == [
        ("trigger", ("key_0700620",), "rotate"),
        ("trigger", ("AKIAIOSFODNN7EXAMPLE",), "investigate"),
    ]
    stolen = replace(EXPOSED, action="revoke")
    (change,) = told(lake, review_of(stolen, DOUBTED, run="run_2"))
    assert change.alert.why == "raised from rotate to revoke"


def test_an_exposed_key_makes_no_campaign(lake: Lake) -> None:
    group = replace(CAMPAIGN, key_ids=("key_0700620", "key_0700901"))
    review = review_of(EXPOSED, watched(1), groups=[group])
    assert summary(told(lake, review)) == [("trigger", ("key_0700620",), "rotate")]


def test_an_action_that_was_urgent_stays_so(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    (change,) = told(lake, replace(review_of(DOUBT, run="run_2"), window=NEXT_WEEK))
    assert change.alert.action == "revoke"


# ------------------------------------------------------------------------------------------ groups


def test_a_campaign_is_one_alert(lake: Lake) -> None:
    review = review_of(SCANNED, SECOND, DOUBTED, groups=[CAMPAIGN])
    assert summary(told(lake, review)) == [
        ("trigger", CAMPAIGN.key_ids, "revoke"),
        ("trigger", ("AKIAIOSFODNN7EXAMPLE",), "investigate"),
    ]
    assert told(lake, replace(review, run=replace(review.run, id="run_2"))) == []
    # Its keys alone, should a later review see no group: they were told of.
    assert told(lake, review_of(SCANNED, SECOND, run="run_3")) == []


def test_of_each_key_of_a_campaign_the_worst_is_told_and_the_rest_counted(lake: Lake) -> None:
    places = tuple(replace(HERE, ip=f"45.153.78.{n}") for n in range(5))
    strong, weak = SCANNED.evidence[0], replace(SCANNED.evidence[0], bits=0.0)
    many = replace(SCANNED, origins=places, evidence=(*[strong] * 4, weak), more_origins=2)
    (change,) = told(lake, review_of(many, SECOND, groups=[CAMPAIGN]))
    brief, _ = change.alert.document["cases"]
    assert (len(brief["origins"]), brief["more_origins"]) == (3, 4)
    assert (len(brief["evidence"]), brief["more_evidence"]) == (3, 1)


def test_an_open_alert_is_told_again_and_not_one_that_closed_later(lake: Lake) -> None:
    told(lake, review_of(DOUBT))
    give_verdict(lake, "benign")
    (second,) = told(lake, review_of(SCANNED, run="run_2"))
    (third,) = told(lake, replace(review_of(SCANNED, run="run_3"), window=NEXT_WEEK))
    assert third.alert.alert_id == second.alert.alert_id
    first = alerts.in_force(lake, [one.alert_id for one in alerts._relevant(lake, WEEK)])[0]
    alerts.store(lake, [Change("resolve", replace(first, change=9, state="closed"))])
    grown = replace(SCANNED, bits=SCANNED.bits + 10)
    (again,) = told(lake, replace(review_of(grown, run="run_4"), window=NEXT_WEEK))
    assert (again.what, again.alert.alert_id) == ("update", second.alert.alert_id)


def test_a_campaign_that_gets_a_key_is_told_again(lake: Lake) -> None:
    told(lake, review_of(SCANNED, SECOND, groups=[CAMPAIGN]))
    larger = replace(CAMPAIGN, key_ids=(*CAMPAIGN.key_ids, DOUBTED.key_id))
    (change,) = told(lake, review_of(SCANNED, SECOND, DOUBTED, groups=[larger], run="run_2"))
    assert change.what == "update"
    assert change.alert.why == f"1 more key: {DOUBTED.key_id}"
    assert set(change.alert.key_ids) == set(larger.key_ids)


def test_a_key_of_a_campaign_that_becomes_worse_is_told_by_itself(lake: Lake) -> None:
    second = replace(SECOND, action="investigate")
    told(lake, review_of(SCANNED, second, groups=[CAMPAIGN]))
    changes = told(lake, review_of(SCANNED, SECOND, run="run_2"))
    assert summary(changes) == [("trigger", (SECOND.key_id,), "revoke")]
    assert changes[0].alert.why == "raised from investigate to revoke"


def test_two_campaigns_on_the_same_keys_stay_two(lake: Lake) -> None:
    other = replace(CAMPAIGN, origin="203.0.113.9 (Elsewhere, XX)")
    review = review_of(SCANNED, SECOND, groups=[CAMPAIGN, other])
    assert len(told(lake, review)) == 2
    assert told(lake, replace(review, run=replace(review.run, id="run_2"))) == []


def test_a_campaign_without_anything_to_act_on_is_none(lake: Lake) -> None:
    quiet = [replace(case, action="none") for case in (SCANNED, SECOND)]
    assert told(lake, review_of(*quiet, groups=[CAMPAIGN])) == []


def test_a_migration_is_to_be_confirmed_and_hides_no_theft(lake: Lake) -> None:
    quiet = watched(1)
    move = Group("migration", (quiet.key_id, SCANNED.key_id), "AS24940: 5.9.1.2", "they moved")
    assert summary(told(lake, review_of(quiet, SCANNED, groups=[move]))) == [
        ("trigger", (quiet.key_id,), "investigate"),
        ("trigger", (SCANNED.key_id,), "revoke"),
    ]


def test_a_migration_is_confirmed_by_a_verdict_on_a_key_of_it(lake: Lake) -> None:
    first, second = watched(1), watched(2)
    move = Group("migration", (first.key_id, second.key_id), "AS24940: 5.9.1.2", "they moved")
    told(lake, review_of(first, second, groups=[move]))
    assert first.name is not None
    with lake.writing():
        report = verdicts.give(lake, first.name, "expected", by="ana", because="new provider")
    assert (report.key_id, report.window) == (first.key_id, WEEK)
    (change,) = alerts.after_verdict(lake, report, "ana", "new provider")
    assert change.what == "resolve"


# ---------------------------------------------------------------------------------------- verdicts


def give_verdict(lake: Lake, verdict: Any, key_id: str = SCANNED.key_id) -> list[Change]:
    report = VerdictReport(key_id, WEEK, verdict, ())
    changes = alerts.after_verdict(lake, report, "ana", "tried it")
    alerts.store(lake, changes)
    return changes


@pytest.mark.parametrize("verdict", ["benign", "expected"])
def test_a_verdict_that_it_was_the_owner_closes_the_alert(verdict: str, lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    (change,) = give_verdict(lake, verdict)
    assert (change.what, change.alert.state) == ("resolve", "closed")
    assert change.alert.why == f"{verdict}, says ana: tried it"
    assert alerts.waiting(lake) == []
    assert give_verdict(lake, verdict) == []
    # The same week again tells nothing that was answered, unless it has risen.
    assert told(lake, review_of(SCANNED, run="run_2")) == []
    grown = replace(SCANNED, bits=SCANNED.bits + 20)
    (again,) = told(lake, review_of(grown, run="run_3"))
    assert (again.what, again.alert.change) == ("trigger", 1)
    assert again.alert.alert_id != change.alert.alert_id


def test_a_verdict_on_another_week_leaves_the_alert_open(lake: Lake) -> None:
    told(lake, replace(review_of(SCANNED), window=NEXT_WEEK))
    assert give_verdict(lake, "benign") == []
    assert len(alerts.waiting(lake)) == 1


def test_a_later_week_is_a_new_alert(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    give_verdict(lake, "benign")
    (again,) = told(lake, replace(review_of(SCANNED, run="run_2"), window=NEXT_WEEK))
    assert again.what == "trigger"


def test_a_verdict_that_it_was_a_theft_acknowledges(lake: Lake) -> None:
    told(lake, review_of(DOUBT))
    (change,) = give_verdict(lake, "compromised")
    assert (change.what, change.alert.state, change.alert.action) == (
        "acknowledge", "acknowledged", "revoke",
    )  # fmt: skip
    assert alerts.waiting(lake) == []


def test_a_theft_that_was_taken_for_the_owner_s_is_told_again(lake: Lake) -> None:
    told(lake, review_of(DOUBT))
    (closed,) = give_verdict(lake, "benign")
    (again,) = give_verdict(lake, "compromised")
    assert (again.what, again.alert.state, again.alert.action) == (
        "trigger", "acknowledged", "revoke",
    )  # fmt: skip
    assert again.alert.alert_id == closed.alert.alert_id
    assert [member.ended for member in again.alert.members] == [None]


def test_the_alert_that_changed_last_is_told_again_whatever_the_clock_said(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(lake, review_of(DOUBT))
    give_verdict(lake, "benign")
    monkeypatch.setattr(alerts, "utc_now", lambda: utc_now() - timedelta(hours=1))
    (risen,) = told(lake, review_of(SCANNED, run="run_2"))
    give_verdict(lake, "benign")
    (again,) = give_verdict(lake, "compromised")
    assert again.alert.alert_id == risen.alert.alert_id


def test_a_theft_of_which_nobody_was_told_is_an_alert_and_acknowledged(lake: Lake) -> None:
    (opened,) = give_verdict(lake, "compromised")
    assert (opened.what, opened.alert.state, opened.alert.action, opened.alert.change) == (
        "trigger", "acknowledged", "revoke", 1,
    )  # fmt: skip
    assert [member.by_verdict for member in opened.alert.members] == [True]
    assert alerts.waiting(lake) == []
    (over,) = withdrawn(lake, "compromised")
    assert (over.what, over.alert.state) == ("resolve", "closed")


def test_an_approval_needs_a_name_and_a_reason(lake: Lake) -> None:
    (opened,) = told(lake, review_of(SCANNED))
    alert_id = opened.alert.alert_id
    for by, because in [(" ", "stolen"), ("ana", " ")]:
        with pytest.raises(UsageError, match="needs a name and a reason"):
            alerts.approve(lake, alert_id, by, because)
    with pytest.raises(UsageError, match="no alert alert_x"):
        alerts.approve(lake, "alert_x", "ana", "stolen")
    (change,) = alerts.approve(lake, alert_id, "ana", "stolen")
    assert (change.what, change.alert.state) == ("approve", "acknowledged")
    assert change.alert.why == "revocation approved by ana: stolen"
    give_verdict(lake, "benign")
    assert alerts.approve(lake, alert_id, "ana", "stolen") == []


def test_a_campaign_is_over_when_all_its_keys_are_answered(lake: Lake) -> None:
    told(lake, review_of(SCANNED, SECOND, groups=[CAMPAIGN]))
    (first,) = give_verdict(lake, "benign", SCANNED.key_id)
    (second,) = give_verdict(lake, "benign", SECOND.key_id)
    assert [first.what, second.what] == ["update", "resolve"]
    ended = {member.key_id: member.ended for member in second.alert.members}
    assert ended == dict.fromkeys(CAMPAIGN.key_ids, "benign, says ana: tried it")


# --------------------------------------------------------------------------------- after revocation


def activity(lake: Lake, key_id: str, last: datetime, status: str = "2xx", events: int = 3) -> None:
    lake.execute(
        "INSERT INTO lake.activity BY NAME SELECT $key_id AS key_id, $day AS day, "
        "'192.0.2.1' AS address, 'GET /v1/checks' AS endpoint, $status AS status_class, "
        "$events AS events, $last AS first_ts, $last AS last_ts",
        key_id=key_id, day=last.date(), status=status, events=events, last=last,
    )  # fmt: skip


def revoke(lake: Lake, moment: datetime, key_id: str = SCANNED.key_id) -> None:
    insert_keys(
        lake,
        [{"key_id": key_id, "key": "ply_live_prod_4f8a2c…9e1d", "name": "x", "environment": "prod",
          "scopes": [], "created_at": datetime(2026, 1, 1), "revoked_at": moment}],
    )  # fmt: skip


def followed(lake: Lake) -> list[Change]:
    changes = alerts.follow_up(lake, confirm_hours=24)
    alerts.store(lake, changes)
    return changes


REVOKED = datetime(2026, 10, 6, 9, 0)


def test_a_revoked_key_without_use_closes_the_alert(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    assert followed(lake) == []
    revoke(lake, REVOKED)
    activity(lake, "another", REVOKED + timedelta(hours=23))
    assert followed(lake) == []  # the log has not gone on for a day yet
    activity(lake, SCANNED.key_id, REVOKED + timedelta(hours=5), status="401", events=7)
    activity(lake, "another", REVOKED + timedelta(hours=24))
    (change,) = followed(lake)
    assert (change.what, change.alert.state) == ("resolve", "closed")
    assert change.alert.why == (
        "key_0700353 revoked at 2026-10-06 09:00 UTC, no use since (about 7 requests "
        "denied); log read until 2026-10-07 09:00 UTC"
    )
    assert followed(lake) == []


def test_nothing_is_said_of_refusals_where_there_were_none(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    revoke(lake, REVOKED)
    activity(lake, "another", REVOKED + timedelta(hours=25))
    (change,) = followed(lake)
    assert change.alert.why == (
        "key_0700353 revoked at 2026-10-06 09:00 UTC, no use since; "
        "log read until 2026-10-07 10:00 UTC"
    )


def test_a_revoked_key_in_use_raises_the_alert_and_is_over_when_it_stops(lake: Lake) -> None:
    told(lake, review_of(DOUBT))
    revoke(lake, REVOKED)
    activity(lake, DOUBT.key_id, REVOKED + timedelta(hours=2))
    (raised,) = followed(lake)
    assert (raised.what, raised.alert.action, raised.alert.still_used) == ("update", "revoke", True)
    assert raised.alert.why.startswith("key_0700353 still in use: revoked at 2026-10-06 09:00")
    activity(lake, DOUBT.key_id, REVOKED + timedelta(hours=12))
    assert followed(lake) == []  # told today
    activity(lake, DOUBT.key_id, REVOKED + timedelta(hours=30))
    assert [change.what for change in followed(lake)] == ["update"]
    activity(lake, "another", REVOKED + timedelta(hours=55))
    (closed,) = followed(lake)
    assert closed.what == "resolve"
    assert "no use since 2026-10-07 15:00" in closed.alert.why


@pytest.mark.parametrize(("seconds_after_known", "is_told"), [(-1, False), (0, False), (1, True)])
def test_only_use_after_the_last_one_that_was_told_is_news(
    seconds_after_known: int, is_told: bool, lake: Lake
) -> None:
    (opened,) = told(lake, review_of(SCANNED))
    (member,) = opened.alert.members
    known = member.known_use_at
    assert known is not None
    # Told of more since; the alert began before the revocation.
    later = replace(member, first_told_use_at=known - timedelta(hours=2))
    alerts.store(lake, [Change("update", replace(opened.alert, change=2, members=(later,)))])
    revoke(lake, known - timedelta(hours=1))
    activity(lake, SCANNED.key_id, known + timedelta(seconds=seconds_after_known))
    assert len(followed(lake)) == is_told


def test_the_first_use_after_a_revocation_is_news_where_none_was_known(lake: Lake) -> None:
    told(lake, review_of(replace(SCANNED, origins=())))
    revoke(lake, REVOKED)
    activity(lake, SCANNED.key_id, REVOKED + timedelta(seconds=1))
    (raised,) = followed(lake)
    assert raised.alert.still_used
    activity(lake, SCANNED.key_id, REVOKED + timedelta(hours=24, seconds=1))
    assert followed(lake) == []  # a day after the one that was told, and no more
    activity(lake, SCANNED.key_id, REVOKED + timedelta(hours=24, seconds=2))
    assert len(followed(lake)) == 1


def test_trying_a_key_that_was_revoked_before_is_not_answered_by_that(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    revoke(lake, WEEK.start)
    activity(lake, SCANNED.key_id, SCANNED.origins[0].last_seen, status="401")
    activity(lake, "another", REVOKED)
    assert followed(lake) == []
    assert len(alerts.waiting(lake)) == 1


def test_a_confirmed_theft_is_followed_too(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    give_verdict(lake, "compromised")
    revoke(lake, REVOKED)
    activity(lake, "another", REVOKED + timedelta(days=2))
    assert [change.what for change in followed(lake)] == ["resolve"]


# -------------------------------------------------------------------------------------- withdrawn


def given(verdict: Any, because: str = "tried it") -> Given:
    return Given("v", verdict, "ana", because, datetime(2026, 10, 6), None)


def withdrawn(lake: Lake, verdict: Any, restored: Given | None = None) -> list[Change]:
    report = VerdictReport(
        SCANNED.key_id, WEEK, "undo", (), withdrawn=given(verdict), restored=restored
    )
    changes = alerts.withdraw(lake, report, "bo", "it was not")
    alerts.store(lake, changes)
    return changes


@pytest.mark.parametrize("verdict", ["benign", "expected"])
def test_what_a_withdrawn_verdict_closed_is_open_again(verdict: str, lake: Lake) -> None:
    (opened,) = told(lake, review_of(SCANNED))
    give_verdict(lake, verdict)
    (change,) = withdrawn(lake, verdict)
    assert (change.what, change.alert.state) == ("trigger", "open")
    assert change.alert.alert_id == opened.alert.alert_id
    assert change.alert.why == f"verdict {verdict} withdrawn by bo: it was not"
    assert alerts.waiting(lake) == [change.alert]
    assert withdrawn(lake, verdict) == []


def test_a_theft_that_was_none_waits_again_with_the_action_it_had(lake: Lake) -> None:
    told(lake, review_of(DOUBT))
    give_verdict(lake, "compromised")
    (change,) = withdrawn(lake, "compromised")
    assert (change.what, change.alert.state, change.alert.action) == (
        "update", "open", "investigate",
    )  # fmt: skip


def test_the_verdict_before_it_holds_again(lake: Lake) -> None:
    told(lake, review_of(SCANNED))
    give_verdict(lake, "compromised")
    (closed,) = withdrawn(lake, "compromised", given("benign", "mine"))
    assert (closed.what, closed.alert.members[0].ended) == ("resolve", "benign, says ana: mine")
    told(lake, review_of(DOUBTED))
    (back,) = alerts.withdraw(
        lake,
        VerdictReport(SCANNED.key_id, WEEK, "undo", (), withdrawn=given("benign", "mine"),
                      restored=given("compromised")),
        "bo",
        "it was not",
    )  # fmt: skip
    assert (back.what, back.alert.state, back.alert.action) == ("trigger", "acknowledged", "revoke")


# ------------------------------------------------------------------- keys that are no longer listed


def imported(lake: Lake, folder: Path, *key_ids: str, **fields: Any) -> None:
    file = folder / "keys.jsonl"
    same = {
        "key": "ply_live_prod_4f8a2c0000009e1d", "name": "a", "environment": "prod",
        "scopes": ["read:checks"], "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    lines = [json.dumps({"key_id": key_id, **same, **fields}) + "\n" for key_id in key_ids]
    file.write_text("".join(lines), encoding="utf-8")
    import_keys(lake, file)


def test_an_alert_of_a_key_that_the_inventory_lost_says_how_it_is_closed(tmp_path: Path) -> None:
    mine = SCANNED.key_id
    with Lake.open(tmp_path / "lake", create=True) as lake:
        imported(lake, tmp_path, mine, "key_a", "key_b")
        with lake.writing():
            alerts.store(lake, alerts.update(lake, review_of(SCANNED), 10.0))
        assert alerts.unlisted_notes(lake) == ()
        imported(lake, tmp_path, "key_c")  # one key alone is no inventory
        assert alerts.unlisted_notes(lake) == ()
        imported(lake, tmp_path, "key_a", "key_b", "key_c")
        (note,) = alerts.unlisted_notes(lake)
        (alert,) = alerts.not_over(lake)
        assert note.startswith(
            f"{mine} has an open alert ({alert.alert_id}), but has been missing from the inventory "
        )
        assert "import its line with revoked_at (keywatch keys import)" in note
        assert f"keywatch verdict {mine} benign" in note
        snapshot = lake.snapshot
        imported(lake, tmp_path, "key_a", "key_b", "key_c")
        assert lake.snapshot == snapshot
        told = [
            one for one in diagnose(tmp_path / "lake", Settings(), utc_now()) if one.text == note
        ]
        assert [one.status for one in told] == ["note"]
        imported(lake, tmp_path, mine, revoked_at="2026-10-05T09:00:00Z")
        assert alerts.unlisted_notes(lake) == ()
        imported(lake, tmp_path, "key_a", "key_b", "key_c")
        assert alerts.unlisted_notes(lake) == ()  # a revoked key may be gone


def test_a_key_that_is_listed_again_is_no_longer_missed(tmp_path: Path) -> None:
    with Lake.open(tmp_path / "lake", create=True) as lake:
        with lake.writing():
            alerts.store(lake, alerts.update(lake, review_of(SCANNED), 10.0))
        imported(lake, tmp_path, SCANNED.key_id, "key_a", "key_b")
        imported(lake, tmp_path, "key_a", "key_b")
        assert len(alerts.unlisted_notes(lake)) == 1
        imported(lake, tmp_path, SCANNED.key_id)
        assert alerts.unlisted_notes(lake) == ()
