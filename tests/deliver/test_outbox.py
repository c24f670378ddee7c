"""The outbox: what is put in, for whom, and what a run may send."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch.deliver import Outbox, outbox, planning
from keywatch.deliver.journal import Journal, Outcome, Record
from keywatch.deliver.message import Attachment
from keywatch.deliver.routing import held_until
from keywatch.lake import Lake, utc_now
from keywatch.model import (
    Action,
    Case,
    HealthFinding,
    HygieneFinding,
    Review,
    Verdict,
    Window,
)
from keywatch.review import alerts
from keywatch.review.verdicts import Given, VerdictReport
from keywatch.settings.deliver import DeliverSettings, QuietHours
from tests.deliver.alerts_of import review_of
from tests.report.reviews import (
    DOUBTED,
    EXPOSED,
    FULL,
    LATE,
    REMINDED,
    SCANNED,
    SECOND,
    WEEK,
)

LONG_AGO = timedelta(days=2)


@pytest.fixture
def lake(blank: Lake) -> Lake:
    return blank


def settings_of(**values: Any) -> DeliverSettings:
    channels = values.pop("channels", {"all": {"kind": "stdout"}})
    return DeliverSettings.model_validate({"channels": channels, **values})


def reviewed(lake: Lake, settings: DeliverSettings, *cases: Case, run: str = "run_1") -> None:
    Outbox(settings).tell(lake, alerts.update(lake, review_of(*cases, run=run), settings.grow_bits))


def keys(number: int, action: Action = "revoke", prefix: str = "key") -> list[Case]:
    return [
        replace(SCANNED, key_id=f"{prefix}_{n:03}", action=action, bits=100.0 - n / 10)
        for n in range(number)
    ]  # fmt: skip


def planned(lake: Lake, settings: DeliverSettings, now: datetime | None = None) -> planning.Plan:
    made = planning.plan(lake, settings, now or utc_now(), settings.channels.keys())
    planning.keep_plan(lake, made)
    return made


def arrived(lake: Lake, made: planning.Plan, remote: str | None = None) -> None:
    outbox.record(
        lake,
        [
            Record(one.delivery_id, utc_now(), "sent", 1, remote=remote)
            for due in made.to_send.values()
            for one in due
        ],
    )


def told(made: planning.Plan, channel: str = "all") -> list[tuple[str, str]]:
    return [
        (one.message.kind, one.message.title.split()[1]) for one in made.to_send.get(channel, [])
    ]


# ---------------------------------------------------------------------------------------- routing


def test_routes_say_who_hears_of_what(lake: Lake) -> None:
    settings = settings_of(
        channels={name: {"kind": "stdout"} for name in ("pager", "chat", "log")},
        routes=[
            {"actions": ["revoke"], "severity": "critical", "channels": ["pager"]},
            {"actions": ["revoke", "investigate"], "channels": ["chat"]},
            {"channels": ["log"]},
        ],
    )
    mild = replace(SCANNED, key_id="key_mild", blast_radius=None)
    reviewed(lake, settings, SCANNED, mild, DOUBTED, replace(SCANNED, key_id="r", action="rotate"))
    made = planned(lake, settings)
    subjects = {name: {title for _, title in told(made, name)} for name in settings.channels}
    assert subjects == {
        "pager": {"key_0700353"},
        "chat": {"key_0700353", "key_mild", "AKIAIOSFODNN7EXAMPLE"},
        "log": {"key_0700353", "key_mild", "AKIAIOSFODNN7EXAMPLE", "r"},
    }


def test_a_channel_that_hears_of_an_alert_when_it_rises_gets_a_trigger(lake: Lake) -> None:
    settings = settings_of(
        channels={"pager": {"kind": "stdout"}, "chat": {"kind": "stdout"}},
        routes=[{"actions": ["revoke"], "channels": ["pager"]}, {"channels": ["chat"]}],
    )
    reviewed(lake, settings, replace(SCANNED, action="investigate"))
    first = planned(lake, settings)
    assert told(first, "pager") == []
    arrived(lake, first, remote="C01:1")
    reviewed(lake, settings, SCANNED, run="run_2")
    second = planned(lake, settings)
    assert told(second, "pager") == [("trigger", "key_0700353")]
    assert told(second, "chat") == [("update", "key_0700353")]
    assert second.to_send["chat"][0].previous == "C01:1"
    arrived(lake, second)
    assert planned(lake, settings).to_send == {}


def test_how_it_ended_is_told_to_those_that_heard_of_it(lake: Lake) -> None:
    settings = settings_of(
        channels={"pager": {"kind": "stdout"}, "chat": {"kind": "stdout"}},
        routes=[{"actions": ["rotate"], "channels": ["pager"]}, {"channels": ["chat"]}],
    )
    reviewed(lake, settings, SCANNED)
    arrived(lake, planned(lake, settings))
    report = VerdictReport(SCANNED.key_id, WEEK, "benign", ())
    Outbox(settings).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))
    made = planned(lake, settings)
    assert told(made, "chat") == [("resolve", "key_0700353")]
    assert "pager" not in made.to_send


def test_a_channel_that_is_added_hears_what_nobody_has_answered(lake: Lake) -> None:
    before = settings_of()
    reviewed(lake, before, SCANNED)
    arrived(lake, planned(lake, before))
    after = settings_of(channels={"all": {"kind": "stdout"}, "new": {"kind": "stdout"}})
    outbox.enqueue(lake, outbox.catch_up(lake, after), after)
    assert told(planned(lake, after), "new") == [("trigger", "key_0700353")]
    assert outbox.catch_up(lake, after) == []


def test_what_is_approved_is_told_to_those_that_carry_it_out_and_once(lake: Lake) -> None:
    channels = {name: {"kind": "stdout"} for name in ("all", "executor")}
    routes = [{"channels": ["all"]}]
    settings = settings_of(channels=channels, routes=routes, approved_channels=["executor"])
    reviewed(lake, settings, SCANNED, DOUBTED)
    arrived(lake, planned(lake, settings))
    (alert,) = outbox.awaiting_approval(lake, settings)
    assert alert.key_ids == (SCANNED.key_id,)
    nobody = settings_of(channels=channels, routes=routes)
    assert outbox.awaiting_approval(lake, nobody) == []
    changes = alerts.approve(lake, alert.alert_id, "ana", "we know nothing of it")
    alerts.store(lake, changes)
    assert outbox.enqueue(lake, changes, settings) == 2
    made = planned(lake, settings)
    assert told(made, "executor") == [("trigger", SCANNED.key_id)]
    assert told(made) == [("acknowledge", SCANNED.key_id)]
    assert outbox.awaiting_approval(lake, settings) == []


def test_only_the_channels_that_are_asked_for_are_planned(lake: Lake) -> None:
    channels = {name: {"kind": "stdout"} for name in ("one", "other")}
    settings = settings_of(channels=channels)
    reviewed(lake, settings, SCANNED)
    made = planning.plan(lake, settings, utc_now(), ["other"])
    assert (set(made.to_send), made.later) == ({"other"}, 1)
    # A channel that is gone from the settings is not waited for.
    del channels["one"]
    made = planning.plan(lake, settings_of(channels=channels), utc_now(), ["other"])
    assert (set(made.to_send), made.later) == ({"other"}, 0)


def test_owners_hear_of_their_own_keys(lake: Lake) -> None:
    settings = settings_of(
        channels={name: {"kind": "stdout"} for name in ("a", "b", "all")},
        routes=[
            {"owners": ["team-observability"], "channels": ["a"]},
            {"owners": ["team-delivery", "team-mobile"], "channels": ["b"]},
            {"channels": ["all"]},
        ],
    )
    unowned = replace(SCANNED, key_id="key_unowned", owner=None)
    reviewed(lake, settings, SCANNED, unowned, EXPOSED)
    made = planned(lake, settings)
    subjects = {name: {title for _, title in told(made, name)} for name in settings.channels}
    assert subjects == {
        "a": {"key_0700353"},
        "b": {"key_0700620"},
        "all": {"key_0700353", "key_unowned", "key_0700620"},
    }


def test_a_campaign_is_told_to_each_owner_of_its_keys(lake: Lake) -> None:
    settings = settings_of(
        channels={name: {"kind": "stdout"} for name in ("a", "b", "c")},
        routes=[
            {"owners": ["team-observability"], "channels": ["a"]},
            {"owners": ["team-delivery"], "channels": ["b"]},
            {"owners": ["team-mobile"], "channels": ["c"]},
        ],
    )
    review = review_of(SCANNED, SECOND, groups=FULL.groups)
    Outbox(settings).tell(lake, alerts.update(lake, review, 10.0))
    assert sorted(planned(lake, settings).to_send) == ["a", "b"]
    assert outbox.catch_up(lake, settings) == []


# ----------------------------------------------------------------------------------------- upkeep


def upkeep_settings(**values: Any) -> DeliverSettings:
    return settings_of(
        channels={name: {"kind": "stdout", "messages_per_hour": 1} for name in ("team", "all")},
        routes=[
            {"owners": ["team-billing"], "upkeep": True, "channels": ["team"]},
            {"upkeep": True, "channels": ["all"]},
        ],
        **values,
    )


def week_of(start: datetime, *findings: HygieneFinding) -> Review:
    window = Window(start, start + timedelta(days=7))
    return replace(review_of(), window=window, hygiene=findings)


def test_a_week_s_upkeep_goes_to_each_channel_once_and_to_the_owner_s_route(lake: Lake) -> None:
    settings = upkeep_settings()
    review = week_of(WEEK.start, LATE, REMINDED)
    assert outbox.upkeep_is_due(lake, review, settings)
    assert outbox.enqueue_upkeep(lake, review, settings) == 2
    assert not outbox.upkeep_is_due(lake, review, settings)
    again = replace(review, run=replace(review.run, id="run_2"), hygiene=(LATE,))
    assert outbox.enqueue_upkeep(lake, again, settings) == 0
    made = planned(lake, settings)
    keys_of = {
        name: [item.key_id for item in one.message.upkeep] for name, (one,) in made.to_send.items()
    }
    assert keys_of == {"team": ["key_0700500"], "all": ["key_0700353", "key_0700500"]}
    arrived(lake, made)
    assert outbox.enqueue_upkeep(lake, review, settings) == 0
    assert outbox.pending(lake) == []
    assert lake.value("SELECT count(*) FROM lake.alerts") == 0


def test_upkeep_of_a_key_with_an_alert_waits_for_it(lake: Lake) -> None:
    both = replace(week_of(WEEK.start, LATE, REMINDED), cases=(SCANNED,))
    outbox.enqueue_upkeep(lake, both, upkeep_settings())
    (one,) = planned(lake, upkeep_settings()).to_send["all"]
    assert [item.key_id for item in one.message.upkeep] == ["key_0700500"]
    assert one.message.why.endswith(
        "1 rotation due. None of these keys is suspected. To rotate a key, create a replacement, "
        "switch its consumers to it, then revoke the old key."
    )


def test_upkeep_is_sent_by_routes_alone(lake: Lake) -> None:
    review = week_of(WEEK.start, LATE, REMINDED)
    for routes in ([], [{"channels": ["all"]}]):
        assert outbox.enqueue_upkeep(lake, review, settings_of(routes=routes)) == 0
    only_upkeep = upkeep_settings()
    nothing_to_do = week_of(WEEK.start)
    assert outbox.enqueue_upkeep(lake, nothing_to_do, only_upkeep) == 0
    # A route for upkeep takes no alert from anybody.
    reviewed(lake, only_upkeep, SCANNED)
    assert sorted(planned(lake, only_upkeep).to_send) == ["all", "team"]


def test_upkeep_takes_no_alert_s_place_in_the_hour(lake: Lake) -> None:
    settings = upkeep_settings()
    outbox.enqueue_upkeep(lake, week_of(WEEK.start, LATE), settings)
    reviewed(lake, settings, SCANNED)
    made = planned(lake, settings)
    assert [one.message.kind for one in made.to_send["all"]] == ["trigger", "upkeep"]
    arrived(lake, made)
    outbox.enqueue_upkeep(lake, week_of(WEEK.end, LATE), settings)
    assert [one.message.kind for one in planned(lake, settings).to_send["all"]] == ["upkeep"]


def test_a_newer_week_s_upkeep_takes_the_place_of_one_that_waits(lake: Lake) -> None:
    settings = upkeep_settings()
    outbox.enqueue_upkeep(lake, week_of(WEEK.start, LATE), settings)
    outbox.enqueue_upkeep(lake, week_of(WEEK.end, LATE), settings)
    made = planned(lake, settings)
    (one,) = made.to_send["all"]
    assert one.message.title == "Key hygiene: 1 key, week 2026-W41"
    arrived(lake, made)
    assert outbox.pending(lake) == []


@pytest.mark.parametrize("kind", ["upkeep", "rotate"])
def test_quiet_hours_hold_back_upkeep_and_what_is_to_be_rotated(kind: str, lake: Lake) -> None:
    quiet = {"start": "22:00", "end": "07:00"}
    settings = upkeep_settings(quiet_hours=quiet)
    if kind == "upkeep":
        outbox.enqueue_upkeep(lake, week_of(WEEK.start, LATE), settings)
    else:
        reviewed(lake, settings, EXPOSED)
    night = datetime(2026, 10, 5, 23)
    lake.execute("UPDATE lake.deliveries SET created_at = $now", now=night - LONG_AGO)
    assert planned(lake, settings, night).to_send == {}
    assert planned(lake, settings, datetime(2026, 10, 6, 7)).to_send != {}


# ------------------------------------------------------------------------------- order, superseding


def test_the_most_urgent_go_first(lake: Lake) -> None:
    settings = settings_of()
    mild = [replace(case, blast_radius=None) for case in keys(3, prefix="mild")]
    reviewed(lake, settings, *keys(3, "investigate", "look"), *mild, *keys(3))
    titles = [title for _, title in told(planned(lake, settings))]
    assert titles == [f"{prefix}_{n:03}" for prefix in ("key", "mild", "look") for n in range(3)]


def test_what_a_newer_message_says_better_is_not_sent(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, replace(SCANNED, action="investigate"))
    reviewed(lake, settings, SCANNED, run="run_2")
    made = planned(lake, settings)
    (message,) = made.to_send["all"]
    assert message.message.action == "revoke"
    arrived(lake, made)
    assert outbox.pending(lake) == []


# ------------------------------------------------------------------- what is true when it is sent


def give_verdict(lake: Lake, settings: DeliverSettings, verdict: Verdict = "benign") -> None:
    report = VerdictReport(SCANNED.key_id, WEEK, verdict, ())
    Outbox(settings).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))


def undone(lake: Lake, settings: DeliverSettings) -> None:
    given = Given("1", "benign", by="ana", because="mine", given_at=utc_now(), until=None)
    report = VerdictReport(SCANNED.key_id, WEEK, "benign", (), withdrawn=given)
    Outbox(settings).tell(lake, alerts.withdraw(lake, report, "bo", "it was not"))


def approved(lake: Lake, settings: DeliverSettings) -> None:
    (alert,) = alerts.not_over(lake)
    Outbox(settings).tell(lake, alerts.approve(lake, alert.alert_id, "ana", "stolen"))


def failed(lake: Lake, made: planning.Plan, **values: Any) -> None:
    for one in made.to_send["all"]:
        now = utc_now()
        outbox.record(
            lake,
            [
                Record(
                    one.delivery_id, now, "failed", one.tries + 1, "down", next_due_at=now, **values
                )
            ],
        )


def test_a_key_that_is_cleared_while_the_receiver_is_down_is_not_told_of(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, SCANNED)
    failed(lake, planned(lake, settings))
    give_verdict(lake, settings)
    assert planned(lake, settings).to_send == {}
    assert outbox.pending(lake) == []
    # Open again, it is news to a channel that has not heard of it.
    undone(lake, settings)
    assert told(planned(lake, settings)) == [("trigger", "key_0700353")]


def test_who_has_heard_of_an_alert_hears_of_its_end_and_of_its_return(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, SCANNED)
    arrived(lake, planned(lake, settings), remote="C01:1")
    give_verdict(lake, settings)
    made = planned(lake, settings)
    assert told(made) == [("resolve", "key_0700353")]
    assert made.to_send["all"][0].previous == "C01:1"
    arrived(lake, made)
    undone(lake, settings)
    made = planned(lake, settings)
    assert told(made) == [("trigger", "key_0700353")]
    arrived(lake, made)
    assert outbox.pending(lake) == []


def test_one_message_tells_of_an_open_alert_as_it_is_now(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, replace(SCANNED, action="investigate"))
    give_verdict(lake, settings, "compromised")
    made = planned(lake, settings)
    (one,) = made.to_send["all"]
    assert (one.message.kind, one.message.action) == ("trigger", "revoke")
    assert one.message.title == "REVOKE key_0700353 (Grafana dashboards)"
    assert one.message.why == "Compromised, says ana: mine."
    assert lake.rows("SELECT kind, message->>'kind' FROM lake.deliveries WHERE change = 2") == [
        ("trigger", "trigger")
    ]
    arrived(lake, made)
    assert outbox.pending(lake) == []


def test_a_channel_that_was_out_of_the_settings_hears_the_end_and_no_stale_alert(
    lake: Lake,
) -> None:
    both = settings_of(channels={name: {"kind": "stdout"} for name in ("all", "late")})
    one = settings_of()
    reviewed(lake, both, SCANNED)
    made = planning.plan(lake, both, utc_now(), ["all"])
    arrived(lake, made)
    give_verdict(lake, settings_of(channels={"other": {"kind": "stdout"}}))
    for settings in (one, both):
        outbox.enqueue(lake, outbox.catch_up(lake, settings), settings)
    made = planned(lake, both)
    assert made.to_send.keys() == {"all"}
    assert told(made) == [("resolve", "key_0700353")]
    arrived(lake, made)
    assert outbox.catch_up(lake, both) == []
    assert outbox.pending(lake) == []


def test_a_program_that_revokes_gets_nothing_but_an_approval_in_force(lake: Lake) -> None:
    settings = settings_of(
        channels={name: {"kind": "stdout"} for name in ("all", "gate")}, approved_channels=["gate"]
    )
    reviewed(lake, settings, SCANNED)
    arrived(lake, planned(lake, settings))
    assert [alert.action for alert in outbox.awaiting_approval(lake, settings)] == ["revoke"]
    approved(lake, settings)
    assert outbox.awaiting_approval(lake, settings) == []
    give_verdict(lake, settings)  # before it was sent
    made = planned(lake, settings)
    assert (told(made, "gate"), told(made)) == ([], [("resolve", "key_0700353")])
    arrived(lake, made)
    undone(lake, settings)
    made = planned(lake, settings)
    assert (told(made, "gate"), told(made)) == ([], [("trigger", "key_0700353")])
    arrived(lake, made)
    assert len(outbox.awaiting_approval(lake, settings)) == 1
    approved(lake, settings)
    made = planned(lake, settings)
    assert told(made, "gate") == [("trigger", "key_0700353")]
    arrived(lake, made)
    give_verdict(lake, settings)
    assert told(planned(lake, settings), "gate") == [("resolve", "key_0700353")]


def test_a_summary_that_waits_loses_the_alerts_that_are_over(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 1}})
    reviewed(lake, settings, *keys(2), SCANNED)
    made = planned(lake, settings)
    *_, summary = made.to_send["all"]
    assert summary.message.title == "2 more alerts: 2 to revoke"
    give_verdict(lake, settings)
    *_, summary = planned(lake, settings).to_send["all"]
    assert summary.message.title == "1 more alert: 1 to revoke"
    assert "key_0700353" not in summary.message.to_json()
    outbox.record(lake, [Record(summary.delivery_id, utc_now(), "sent", 1)])
    Outbox(settings).tell(
        lake,
        alerts.after_verdict(lake, VerdictReport("key_001", WEEK, "benign", ()), "ana", "mine"),
    )
    # Only the key that the summary told of has an end to tell.
    assert told(planned(lake, settings)) == [
        ("trigger", "key_000"), ("resolve", "key_001"), ("resolve", "summary"),
    ]  # fmt: skip


def test_a_summary_is_over_when_none_of_its_alerts_is_open(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 1}})
    reviewed(lake, settings, *keys(2), SCANNED)
    made = planned(lake, settings)
    *_, summary = made.to_send["all"]
    arrived(lake, made)
    give_verdict(lake, settings)
    assert told(planned(lake, settings)) == [("resolve", "key_0700353")]
    arrived(lake, planned(lake, settings))
    report = VerdictReport("key_001", WEEK, "benign", ())
    Outbox(settings).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))
    *_, end = planned(lake, settings).to_send["all"]
    assert (end.message.kind, end.message.summary_id) == ("resolve", summary.delivery_id)
    assert end.message.title == "CLOSED summary of 2 alerts"
    again = planned(lake, settings)
    assert [one.delivery_id for one in again.to_send["all"]].count(end.delivery_id) == 1
    arrived(lake, again)
    assert planned(lake, settings).to_send == {}


def test_a_summary_that_did_not_arrive_has_no_end(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 1}})
    reviewed(lake, settings, *keys(1), SCANNED)
    made = planned(lake, settings)
    _, summary = made.to_send["all"]
    assert SCANNED.key_id in summary.message.to_json()
    outbox.record(lake, [Record(summary.delivery_id, utc_now(), "dead", 3)])
    give_verdict(lake, settings)
    assert "summary" not in " ".join(
        one.message.title for due in planned(lake, settings).to_send.values() for one in due
    )


def test_a_summary_that_some_of_its_recipients_have_gets_its_end(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 1}})
    reviewed(lake, settings, *keys(1), SCANNED)
    made = planned(lake, settings)
    _, summary = made.to_send["all"]
    planning.keep_plan(lake, made)
    outbox.record(lake, [Record(summary.delivery_id, utc_now(), "dead", 3, remote="mail-1")])
    give_verdict(lake, settings)
    due = planned(lake, settings).to_send["all"]
    assert summary.delivery_id in [one.message.summary_id for one in due]


def test_an_alert_that_is_gone_from_the_lake_is_not_sent(lake: Lake) -> None:
    reviewed(lake, settings_of(), SCANNED)
    lake.execute("DELETE FROM lake.alerts")
    assert planned(lake, settings_of()).to_send == {}
    assert outbox.pending(lake) == []


def test_ends_are_no_alarms(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 3}})
    reviewed(lake, settings, *keys(3))
    arrived(lake, planned(lake, settings))
    verdicts: tuple[Verdict, ...] = ("benign", "expected", "compromised")
    for n, verdict in enumerate(verdicts):
        report = VerdictReport(f"key_{n:03}", WEEK, verdict, ())
        Outbox(settings).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))
    made = planned(lake, settings)
    assert sorted(kind for kind, _ in told(made)) == ["acknowledge", "resolve", "resolve"]
    arrived(lake, made)
    # Nor do they use up the next hour's budget.
    lake.execute(
        "UPDATE lake.delivery_outcomes SET recorded_at = recorded_at - INTERVAL 2 HOUR "
        "WHERE sequence <= 3"
    )
    reviewed(lake, settings, *keys(3, prefix="new"), run="run_2")
    assert [kind for kind, _ in told(planned(lake, settings))] == ["trigger"] * 3


# ---------------------------------------------------------------------------------------- the clock


def test_what_was_sent_stays_sent_when_the_clock_is_set_back(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, *keys(3))
    made = planned(lake, settings)
    now = utc_now()
    for one in made.to_send["all"]:
        outbox.record(lake, [Record(one.delivery_id, now, "failed", 1, "HTTP 500", None, now)])
        earlier = now - timedelta(hours=1)
        outbox.record(lake, [Record(one.delivery_id, earlier, "sent", 2)])
    assert outbox.pending(lake) == []
    (standing,) = outbox.standings(lake, ["all"])
    assert (standing.last_sent_at, standing.waiting) == (now - timedelta(hours=1), 0)


@pytest.mark.parametrize("outcome", ["failed", "held", None])
def test_what_a_clock_that_was_ahead_put_off_is_due_now(
    outcome: Outcome | None, lake: Lake
) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 2}})
    reviewed(lake, settings, *keys(2))
    ahead = utc_now() + timedelta(days=400)
    lake.execute("UPDATE lake.deliveries SET created_at = $ahead", ahead=ahead)
    if outcome is not None:
        for one in outbox.pending(lake):
            due = ahead + timedelta(minutes=5)
            outbox.record(lake, [Record(one.delivery_id, ahead, outcome, 1, next_due_at=due)])
    made = planned(lake, settings)
    assert len(made.to_send["all"]) == 2
    outbox.record(lake, [Record(one.delivery_id, ahead, "sent", 2) for one in made.to_send["all"]])
    # Nor do they count for the budget of an hour that is not theirs.
    reviewed(lake, settings, *keys(2, prefix="new"), run="run_2")
    assert len(planned(lake, settings).to_send["all"]) == 2


def test_a_pause_as_long_as_the_settings_say_is_kept(lake: Lake) -> None:
    settings = settings_of(longest_pause_seconds=48 * 3600)
    reviewed(lake, settings, SCANNED)
    (one,) = planned(lake, settings).to_send["all"]
    now = utc_now()
    due = now + timedelta(hours=47)
    outbox.record(lake, [Record(one.delivery_id, now, "failed", 1, "HTTP 500", None, due)])
    assert planned(lake, settings, now).to_send == {}


def test_how_long_the_oldest_message_has_waited_is_known(lake: Lake) -> None:
    reviewed(lake, settings_of(), SCANNED, DOUBTED)
    now = utc_now()
    lake.execute("UPDATE lake.deliveries SET created_at = $ago", ago=now - LONG_AGO)
    (standing,) = outbox.standings(lake, ["all"])
    assert (standing.waiting, standing.waits_for(now)) == (2, LONG_AGO)
    assert outbox.Standing("all").waits_for(now) == timedelta(0)
    assert f"the oldest since {now - LONG_AGO:%Y-%m-%d %H:%M} UTC" in outbox.describe(standing)


BERLIN = {"time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("start", "end", "now", "until"),
    [
        # Summer time ends on 25 October 2026: 02:00 to 03:00 comes twice, 00:00 and 01:00 UTC.
        ("22:00", "02:30", datetime(2026, 10, 25, 0, 15), datetime(2026, 10, 25, 1, 30)),
        ("22:00", "02:30", datetime(2026, 10, 25, 1, 15), datetime(2026, 10, 25, 1, 30)),
        ("22:00", "02:30", datetime(2026, 10, 25, 1, 30), None),
        ("02:30", "07:00", datetime(2026, 10, 25, 0, 29), None),
        ("02:30", "07:00", datetime(2026, 10, 25, 1, 15), datetime(2026, 10, 25, 6)),
        ("22:00", "07:00", datetime(2026, 10, 25, 5, 59), datetime(2026, 10, 25, 6)),
        # It begins on 29 March: 02:30 does not come.
        ("22:00", "02:30", datetime(2026, 3, 29, 0, 59), datetime(2026, 3, 29, 1, 30)),
        ("22:00", "07:00", datetime(2026, 3, 29, 4, 59), datetime(2026, 3, 29, 5)),
    ],
)
def test_quiet_hours_on_the_days_on_which_the_clock_is_set(
    start: str, end: str, now: datetime, until: datetime | None
) -> None:
    quiet = QuietHours.model_validate({"start": start, "end": end, **BERLIN})
    assert held_until(quiet, now) == until


# ------------------------------------------------------------------------ budget and quiet hours


def test_beyond_the_hour_s_budget_one_summary_tells_of_the_rest(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 5}})
    reviewed(lake, settings, *keys(8), *keys(4, "investigate", "look"))
    made = planned(lake, settings)
    *single, summary = made.to_send["all"]
    assert [one.message.title.split()[1] for one in single] == [f"key_{n:03}" for n in range(5)]
    assert summary.message.kind == "summary"
    assert summary.message.title == "7 more alerts: 3 to revoke, 4 to investigate"
    assert len(summary.message.worst) == 7
    assert summary.message.worst[0].startswith("REVOKE key_005")
    arrived(lake, made)
    assert outbox.pending(lake) == []

    # Within the hour: what is to be looked at waits, what is to be revoked for ten minutes only.
    reviewed(lake, settings, *keys(2, "investigate", "later"), run="run_2")
    assert planned(lake, settings).to_send == {}
    assert len(outbox.pending(lake)) == 2
    soon = utc_now() + timedelta(minutes=11)
    assert planned(lake, settings, soon).to_send == {}
    reviewed(lake, settings, *keys(2, prefix="urgent"), run="run_3")
    (summary,) = planned(lake, settings, soon).to_send["all"]
    assert summary.message.title == "2 more alerts: 2 to revoke"
    hour = utc_now() + timedelta(minutes=61)
    assert len(planned(lake, settings, hour).to_send["all"]) == 3


def test_a_summary_that_was_planned_is_sent_after_a_crash(lake: Lake) -> None:
    settings = settings_of(channels={"all": {"kind": "stdout", "messages_per_hour": 1}})
    reviewed(lake, settings, *keys(3))
    first = planned(lake, settings)
    again = planned(lake, settings)
    assert [one.delivery_id for one in again.to_send["all"]] == [
        one.delivery_id for one in first.to_send["all"]
    ]


@pytest.mark.parametrize(
    ("now", "held"),
    [
        (datetime(2026, 10, 5, 19, 59), False),  # 21:59 in Berlin
        (datetime(2026, 10, 5, 20, 0), True),
        (datetime(2026, 10, 6, 4, 59), True),
        (datetime(2026, 10, 6, 5, 0), False),
        (datetime(2026, 12, 6, 5, 0), True),  # 06:00 in Berlin's winter
    ],
)
def test_quiet_hours_hold_back_what_is_to_be_looked_at(
    now: datetime, held: bool, lake: Lake
) -> None:
    quiet = {"start": "22:00", "end": "07:00", "time_zone": "Europe/Berlin"}
    settings = settings_of(quiet_hours=quiet)
    reviewed(lake, settings, SCANNED, DOUBTED)
    lake.execute("UPDATE lake.deliveries SET created_at = $now", now=now - LONG_AGO)
    titles = {title for _, title in told(planned(lake, settings, now))}
    assert titles == {"key_0700353"} | (set() if held else {"AKIAIOSFODNN7EXAMPLE"})
    if held:
        waiting = [one for one in outbox.pending(lake) if one.held_back]
        (due_at,) = [one.due_at for one in waiting]
        assert due_at is not None
        assert due_at > now
        morning = told(planned(lake, settings, due_at))
        assert ("trigger", "AKIAIOSFODNN7EXAMPLE") in morning


def test_what_was_held_back_goes_at_once_when_it_rises(lake: Lake) -> None:
    settings = settings_of(quiet_hours={"start": "00:00", "end": "23:59:59"})
    reviewed(lake, settings, replace(SCANNED, action="investigate"))
    assert planned(lake, settings).to_send == {}
    reviewed(lake, settings, SCANNED, run="run_2")
    assert told(planned(lake, settings)) == [("trigger", "key_0700353")]


# ------------------------------------------------------------------ tries, dead letters, reports


def test_a_dead_letter_is_told_of_and_can_be_tried_again(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, SCANNED)
    (one,) = planned(lake, settings).to_send["all"]
    outbox.record(lake, [Record(one.delivery_id, utc_now(), "dead", 12, "HTTP 404")])
    assert planned(lake, settings).to_send == {}
    (standing,) = outbox.standings(lake, ["all"])
    assert (standing.dead, standing.waiting, standing.last_error) == (1, 0, "HTTP 404")
    assert standing.waiting_since is None
    assert outbox.retry_dead(lake) == 1
    (again,) = planned(lake, settings).to_send["all"]
    assert (again.delivery_id, again.tries) == (one.delivery_id, 0)
    (standing,) = outbox.standings(lake, ["all"])
    created_at = lake.value("SELECT created_at FROM lake.deliveries")
    assert (standing.dead, standing.waiting, standing.waiting_since) == (0, 1, created_at)


def test_a_dead_letter_that_is_out_of_date_is_not_sent_any_more(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, SCANNED)
    (one,) = planned(lake, settings).to_send["all"]
    outbox.record(lake, [Record(one.delivery_id, utc_now(), "dead", 12, "HTTP 404")])
    give_verdict(lake, settings)
    outbox.retry_dead(lake)
    assert planned(lake, settings).to_send == {}
    assert outbox.pending(lake) == []


def test_a_message_that_failed_waits_for_its_time(lake: Lake) -> None:
    settings = settings_of()
    reviewed(lake, settings, SCANNED)
    (one,) = planned(lake, settings).to_send["all"]
    due = utc_now() + timedelta(minutes=5)
    outbox.record(lake, [Record(one.delivery_id, utc_now(), "failed", 1, "HTTP 500", None, due)])
    made = planned(lake, settings)
    assert (made.to_send, made.later) == ({}, 1)
    (again,) = planned(lake, settings, due).to_send["all"]
    assert again.tries == 1


def test_a_channel_s_outbox_is_told_in_words(lake: Lake) -> None:
    channels = {name: {"kind": "stdout"} for name in ("gone", "new", "used")}
    settings = settings_of(channels=channels, routes=[{"channels": ["gone", "used"]}])
    reviewed(lake, settings, SCANNED, DOUBTED)
    at = datetime(2026, 10, 5, 6, 30)
    first, second = planned(lake, settings).to_send["used"]
    outbox.record(lake, [Record(first.delivery_id, at, "sent", 1),
                         Record(second.delivery_id, at, "dead", 12, "HTTP 404")])  # fmt: skip
    found = outbox.standings(lake, ["new", "used"])
    assert [(one.channel, outbox.describe(one)) for one in found] == [
        ("new", "nothing sent yet"),
        ("used", "last sent 2026-10-05 06:30 UTC, 1 dead letter (HTTP 404)"),
        ("gone", "nothing sent yet, 2 messages waiting"),
    ]  # fmt: skip


def test_an_outcome_is_kept_once(lake: Lake) -> None:
    outcome = Record("msg_1", utc_now(), "sent", 1)
    outbox.record(lake, [outcome, outcome])
    outbox.record(lake, [outcome])
    assert lake.value("SELECT count(*) FROM lake.delivery_outcomes") == 1


def test_a_report_goes_to_a_channel_once(lake: Lake) -> None:
    report = Attachment("week.html", "text/html", "PGh0bWw+")
    assert outbox.enqueue_report(lake, "Report", report, ["mail"]) == 1
    assert outbox.enqueue_report(lake, "Report", report, ["mail"]) == 0
    (one,) = outbox.pending(lake)
    assert one.message.attachment == report


def test_without_channels_nothing_is_put_in_and_nothing_is_lost(lake: Lake) -> None:
    none = settings_of(channels={})
    reviewed(lake, none, SCANNED)
    assert outbox.pending(lake) == []
    settings = settings_of()
    outbox.enqueue(lake, outbox.catch_up(lake, settings), settings)
    assert told(planned(lake, settings)) == [("trigger", "key_0700353")]


# ---------------------------------------------------------------------------------------- journal


def test_the_journal_keeps_records_until_they_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    records = [
        Record("msg_1", datetime(2026, 10, 5, 1, 2, 3, 456), "sent", 1, remote="C01:1"),
        Record(
            "msg_2", datetime(2026, 10, 5), "failed", 2, "HTTP 500", None, datetime(2026, 10, 6)
        ),
    ]
    journal.add(records[0])
    assert journal.set_aside() == records[:1]
    with (tmp_path / "outbox.journal.committing").open("ab") as file:
        file.write(b'{"delivery_id": "msg_3", "recor')
    journal.add(records[1])
    # A crash before `forget`: another process finds both.
    assert Journal(tmp_path).set_aside() == records
    journal.forget()
    assert Journal(tmp_path).set_aside() == []


def test_a_window_without_an_iso_week_is_named_by_its_days(lake: Lake) -> None:
    settings = settings_of(case_url="https://keywatch.example.com/{week}/{key_id}")
    review = replace(review_of(SCANNED), window=Window(WEEK.start, WEEK.start + timedelta(days=2)))
    Outbox(settings).tell(lake, alerts.update(lake, review, 10.0))
    (one,) = planned(lake, settings).to_send["all"]
    assert one.message.link == "https://keywatch.example.com/2026-09-28/key_0700353"
    assert one.message.command == "keywatch case key_0700353 --from 2026-09-28 --to 2026-09-30"


# -------------------------------------------------------------------------------------- heartbeat

ENDED = HealthFinding("log_ended", "", "the log has ended: its last event was at long ago")
NOTE = HealthFinding("ip_data_old", "bundled", "old", is_note=True)
BEATING = {"heartbeat": {"channel": "all", "every_hours": 6}}


def test_a_heartbeat_goes_at_most_once_in_its_hours(lake: Lake) -> None:
    settings = settings_of(**BEATING)
    first = datetime(2026, 10, 5, 5, 59)
    times = [first + timedelta(minutes=5) * nth for nth in range(72 * 3)]

    sent = [at for at in times if outbox.enqueue_heartbeat(lake, settings, [], at)]

    assert sent == [first, first + timedelta(hours=6), first + timedelta(hours=12)]
    ids = lake.rows("SELECT DISTINCT delivery_id FROM lake.deliveries")
    assert len(ids) == 3


def test_a_heartbeat_says_how_far_the_log_goes_and_what_is_wrong(lake: Lake) -> None:
    settings = settings_of(**BEATING)
    now = datetime(2026, 10, 5, 6)
    lake.execute(
        "INSERT INTO lake.activity BY NAME SELECT DATE '2026-10-04' AS day, 1204 AS events, "
        "TIMESTAMP '2026-10-04 23:58:10' AS last_ts"
    )
    outbox.enqueue_heartbeat(lake, settings, [NOTE], now)
    outbox.enqueue_heartbeat(lake, settings, [ENDED, NOTE], now + timedelta(hours=6))

    (newest,) = planned(lake, settings, now + timedelta(hours=6)).to_send["all"]

    message = newest.message
    assert message.title == "Running, 1,204 events until 2026-10-04 23:58 UTC, 1 health finding"
    assert message.worst == ("The log has ended: its last event was at long ago.",)
    assert (message.kind, message.severity, message.command) == (
        "heartbeat", "low", "keywatch doctor",
    )  # fmt: skip
    (before,) = lake.rows(
        "SELECT message->>'title' FROM lake.deliveries WHERE delivery_id <> $id",
        id=newest.delivery_id,
    )
    assert before == ("Running, 1,204 events until 2026-10-04 23:58 UTC, no health findings",)


def test_a_heartbeat_waits_in_quiet_hours_and_counts_for_no_budget(lake: Lake) -> None:
    settings = settings_of(
        channels={"all": {"kind": "stdout", "messages_per_hour": 1}},
        quiet_hours={"start": "00:00", "end": "05:00"},
        **BEATING,
    )
    outbox.enqueue_heartbeat(lake, settings, [], datetime(2026, 10, 5, 4))

    assert planned(lake, settings, datetime(2026, 10, 5, 4)).to_send == {}
    reviewed(lake, settings, *keys(1))
    tomorrow = (utc_now() + timedelta(days=1)).replace(hour=6)
    sent = planned(lake, settings, tomorrow).to_send["all"]
    assert sorted(one.message.kind for one in sent) == ["heartbeat", "trigger"]


def test_without_the_setting_there_is_no_heartbeat(lake: Lake) -> None:
    assert not outbox.heartbeat_is_due(lake, settings_of(), utc_now())
    assert outbox.enqueue_heartbeat(lake, settings_of(), [], utc_now()) == 0
