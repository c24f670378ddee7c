"""Messages that are to be sent, and what became of them, in the lake.

``lake.deliveries`` has a row for each message to each channel, written in the transaction of what
it tells; ``lake.delivery_outcomes`` says what became of it. Both only grow.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from keywatch import alerts
from keywatch.alerts import Alert, Change
from keywatch.deliver.channel import Envelope
from keywatch.deliver.journal import Outcome, Record
from keywatch.deliver.message import (
    Attachment,
    Kind,
    Message,
    alert_message,
    owners_of,
    report_message,
    severity_of,
    summary_message,
    upkeep_message,
    with_id,
)
from keywatch.deliver.routing import channels_for, held_until, upkeep_for
from keywatch.deliver_settings import DeliverSettings
from keywatch.lake import Lake, utc_now
from keywatch.model import Review
from keywatch.report import rfc3339
from keywatch.report.phrases import count

_HOUR = timedelta(hours=1)
_URGENT_SUMMARY = timedelta(minutes=10)
"""A summary with a revoke in it does not wait for the next hour."""


@dataclass(frozen=True)
class Pending:
    """A message that has not arrived; `due_at` may lie in the future.

    `order` is the alert's change that it tells of, `newest_sent` the last one that has arrived.
    """

    delivery_id: str
    alert_id: str | None
    channel: str
    order: int
    held_back: bool
    message: Message
    tries: int
    due_at: datetime
    previous: str | None
    newest_sent: int = 0

    def envelope(self) -> Envelope:
        """As a channel gets it."""
        return Envelope(self.message, self.tries, self.previous)


@dataclass(frozen=True)
class Standing:
    """A channel's outbox: what waits, what was given up, and when something last arrived."""

    channel: str
    waiting: int = 0
    dead: int = 0
    last_sent_at: datetime | None = None
    last_error: str | None = None


# ------------------------------------------------------------------------------------- putting in


def enqueue(lake: Lake, changes: Sequence[Change], settings: DeliverSettings) -> int:
    """Put what has changed into the outbox, for each channel it concerns; returns how many.

    A channel that has not heard of an alert gets a trigger; how an alert ended is told only to
    those that have. An approval is the trigger for those that wait for it. Call it inside the
    transaction that made the changes.
    """
    if not changes or not settings.channels:
        return 0
    heard = _heard(lake, {change.alert.alert_id for change in changes})
    rows = []
    for change in changes:
        alert = change.alert
        message = alert_message(change, settings.case_url)
        told = heard[alert.alert_id] & settings.channels.keys()
        new = set()
        if change.what in ("trigger", "update"):
            new = set(_channels(settings, alert)) - told
        elif change.what == "approve":
            new = set(settings.approved_channels) - told
        for channel in sorted(told | new):
            kind: Kind = "trigger" if channel in new else message.kind
            delivery_id = _delivery_id(alert.alert_id, str(alert.change), channel)
            rows.append(
                _row(channel, with_id(message, delivery_id, kind), alert.alert_id, alert.change)
            )
    _insert(lake, rows)
    return len(rows)


def catch_up(lake: Lake, settings: DeliverSettings) -> list[Change]:
    """The unanswered alerts of which a channel that the routes name has never heard."""
    waiting = alerts.waiting(lake)
    heard = _heard(lake, {alert.alert_id for alert in waiting})
    return [
        Change("trigger", alert)
        for alert in waiting
        if set(_channels(settings, alert)) - heard[alert.alert_id]
    ]


def _channels(settings: DeliverSettings, alert: Alert) -> list[str]:
    return channels_for(settings, alert.action, severity_of(alert), owners_of(alert))


def awaiting_approval(lake: Lake, settings: DeliverSettings) -> list[Alert]:
    """The alerts to revoke that are not over and of which no approved channel has heard."""
    if not settings.approved_channels:
        return []
    found = [alert for alert in alerts.not_over(lake) if alert.action == "revoke"]
    heard = _heard(lake, {alert.alert_id for alert in found})
    return [alert for alert in found if not heard[alert.alert_id] & set(settings.approved_channels)]


def enqueue_report(lake: Lake, title: str, attachment: Attachment, channels: Iterable[str]) -> int:
    """Put a finished report into the outbox; the same report to the same channel goes once."""
    message = report_message(title, attachment, rfc3339(utc_now()))
    rows = []
    for channel in channels:
        delivery_id = _delivery_id("report", title, attachment.content, channel)
        there = "SELECT count(*) FROM lake.deliveries WHERE delivery_id = $id"
        if not lake.value(there, id=delivery_id):
            rows.append(_row(channel, with_id(message, delivery_id, "report"), None, 1))
    _insert(lake, rows)
    return len(rows)


def upkeep_is_due(lake: Lake, review: Review, settings: DeliverSettings) -> bool:
    """Whether a channel that the routes name has not got the week's upkeep yet."""
    return bool(_upkeep_rows(lake, review, settings))


def enqueue_upkeep(lake: Lake, review: Review, settings: DeliverSettings) -> int:
    """Put the week's upkeep into the outbox, once a channel; returns how many messages."""
    rows = _upkeep_rows(lake, review, settings)
    _insert(lake, rows)
    return len(rows)


def _upkeep_rows(lake: Lake, review: Review, settings: DeliverSettings) -> list[dict[str, object]]:
    # What is to be done about a key with an action stands in its alert.
    alerted = {case.key_id for case in review.alerted()}
    rest = [finding for finding in review.hygiene if finding.key_id not in alerted]
    rows = []
    for channel, findings in upkeep_for(settings, rest).items():
        week = str(review.window.start.date())
        delivery_id = _delivery_id("upkeep", week, channel)
        there = "SELECT count(*) FROM lake.deliveries WHERE delivery_id = $id"
        if not lake.value(there, id=delivery_id):
            message = upkeep_message(findings, review.window, rfc3339(utc_now()))
            message = with_id(message, delivery_id, "upkeep")
            # A newer week's list takes the place of one that still waits.
            rows.append(_row(channel, message, None, review.window.start.toordinal()))
    return rows


def _heard(lake: Lake, alert_ids: set[str]) -> defaultdict[str, set[str]]:
    heard: defaultdict[str, set[str]] = defaultdict(set)
    if alert_ids:
        for alert_id, channel in lake.rows(
            "SELECT DISTINCT alert_id, channel FROM lake.deliveries "
            "WHERE list_contains($alert_ids, alert_id)",
            alert_ids=sorted(alert_ids),
        ):
            heard[alert_id].add(channel)
    return heard


def _delivery_id(*parts: str) -> str:
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"msg_{digest[:24]}"


def _row(channel: str, message: Message, alert_id: str | None, order: int) -> dict[str, object]:
    return {
        "delivery_id": message.id,
        "alert_id": alert_id,
        "change": order,
        "channel": channel,
        "kind": message.kind,
        "severity": message.severity,
        "rank": message.rank,
        "held_back": message.action in ("investigate", "rotate") or message.kind == "upkeep",
        "message": message.to_json(),
        "created_at": utc_now(),
    }


_DELIVERIES = pa.schema(
    [
        ("delivery_id", pa.string()),
        ("alert_id", pa.string()),
        ("change", pa.int32()),
        ("channel", pa.string()),
        ("kind", pa.string()),
        ("severity", pa.string()),
        ("rank", pa.float64()),
        ("held_back", pa.bool_()),
        ("message", pa.string()),
        ("created_at", pa.timestamp("us")),
    ]
)


def _insert(lake: Lake, rows: Sequence[dict[str, object]]) -> None:
    if rows:
        lake.append("deliveries", pa.Table.from_pylist(list(rows), schema=_DELIVERIES))


# ------------------------------------------------------------------------------ what became of it


_NEWEST = """(
    FROM lake.delivery_outcomes
    QUALIFY row_number() OVER (PARTITION BY delivery_id ORDER BY recorded_at DESC, tries DESC) = 1
)"""


def record(lake: Lake, records: Sequence[Record]) -> None:
    """Keep what became of messages; one that is kept already changes nothing."""
    if not records:
        return
    # Arrow would import pandas, which takes longer than most runs.
    lake.execute(
        """
        INSERT INTO lake.delivery_outcomes BY NAME
        SELECT DISTINCT * FROM (
            SELECT unnest($ids::VARCHAR[]) AS delivery_id,
                unnest($moments::TIMESTAMP[]) AS recorded_at,
                unnest($outcomes::VARCHAR[]) AS outcome, unnest($tries::INTEGER[]) AS tries,
                unnest($errors::VARCHAR[]) AS error, unnest($remotes::VARCHAR[]) AS remote,
                unnest($dues::TIMESTAMP[]) AS next_due_at
        ) AS n
        WHERE NOT EXISTS (
            FROM lake.delivery_outcomes AS o
            WHERE o.delivery_id = n.delivery_id AND o.recorded_at = n.recorded_at
        )
        ORDER BY recorded_at
        """,
        ids=[one.delivery_id for one in records],
        moments=[one.recorded_at for one in records],
        outcomes=[one.outcome for one in records],
        tries=[one.tries for one in records],
        errors=[one.error for one in records],
        remotes=[one.remote for one in records],
        dues=[one.next_due_at for one in records],
    )


def retry_dead(lake: Lake) -> int:
    """Make every dead letter due again, with all its tries; returns how many."""
    now = utc_now()
    dead = lake.rows(f"SELECT delivery_id FROM {_NEWEST} WHERE outcome = 'dead'")
    record(lake, [Record(id_, now, "failed", 0, "to be tried again", None, now) for (id_,) in dead])
    return len(dead)


def pending(lake: Lake) -> list[Pending]:
    """What has not arrived, due or not, the most urgent first."""
    rows = lake.rows(
        f"""
        SELECT d.delivery_id, d.alert_id, d.channel, d.change, d.held_back, d.message,
            coalesce(o.tries, 0), coalesce(o.next_due_at, d.created_at), p.remote,
            coalesce(p.newest_sent, 0)
        FROM lake.deliveries AS d
        LEFT JOIN {_NEWEST} AS o USING (delivery_id)
        LEFT JOIN (
            SELECT s.alert_id, s.channel, arg_max(o.remote, o.recorded_at) AS remote,
                max(s.change) AS newest_sent
            FROM lake.delivery_outcomes AS o
            JOIN lake.deliveries AS s USING (delivery_id)
            WHERE o.outcome = 'sent'
            GROUP BY ALL
        ) AS p USING (alert_id, channel)
        WHERE o.delivery_id IS NULL OR o.next_due_at IS NOT NULL
        ORDER BY d.rank DESC, d.created_at, d.change, d.delivery_id
        """
    )
    return [
        Pending(row[0], row[1], row[2], row[3], row[4], Message.from_json(row[5]), *row[6:])
        for row in rows
    ]


def standings(lake: Lake, channels: Iterable[str]) -> list[Standing]:
    """How each channel's outbox is, and of channels that the settings no longer name."""
    rows = lake.rows(
        f"""
        SELECT d.channel,
            count(*) FILTER (o.delivery_id IS NULL OR o.next_due_at IS NOT NULL),
            count(*) FILTER (o.outcome = 'dead'),
            max(o.recorded_at) FILTER (o.outcome = 'sent'),
            arg_max(o.error, o.recorded_at) FILTER (o.outcome IN ('failed', 'dead'))
        FROM lake.deliveries AS d
        LEFT JOIN {_NEWEST} AS o USING (delivery_id)
        GROUP BY d.channel
        ORDER BY d.channel
        """
    )
    found = {row[0]: Standing(*row) for row in rows}
    named = list(channels)
    return [found.get(name, Standing(name)) for name in named] + [
        standing for name, standing in found.items() if name not in named
    ]


def describe(standing: Standing) -> str:
    """A channel's outbox in words."""
    last = standing.last_sent_at
    parts = [f"last sent {last:%Y-%m-%d %H:%M} UTC" if last else "nothing sent yet"]
    if standing.waiting:
        parts.append(f"{count(standing.waiting, 'message')} waiting")
    if standing.dead:
        parts.append(
            f"{count(standing.dead, 'dead letter')} ({standing.last_error}): "
            "mend it, then keywatch deliver --retry-dead"
        )
    return ", ".join(parts)


def undelivered_notes(lake: Lake) -> tuple[str, ...]:
    """What the next review says of messages that were given up."""
    return tuple(
        f"Channel {standing.channel}: {count(standing.dead, 'message')} could not be delivered "
        f"({standing.last_error}); mend it, then keywatch deliver --retry-dead."
        for standing in standings(lake, ())
        if standing.dead
    )


# ------------------------------------------------------------------------------------ what is next


@dataclass
class Plan:
    """What a run sends, and what is to be kept before: holds, summaries and what is superseded.

    `after` has what follows a message once that has arrived; `later` messages wait for a later run.
    """

    to_send: dict[str, list[Pending]] = field(default_factory=dict)
    after: dict[str, Pending] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    summaries: list[dict[str, object]] = field(default_factory=list)
    later: int = 0

    def hold(self, held: Sequence[Pending], now: datetime, until: datetime) -> None:
        """Send these not before `until`."""
        self.records += [_outcome(one, now, "held", until) for one in held]
        self.later += len(held)

    def summarise(self, channel: str, over: Sequence[Pending], now: datetime) -> Pending:
        """The one message in place of `over`."""
        message = summary_message([one.message for one in over], rfc3339(now))
        delivery_id = _delivery_id("summary", channel, *sorted(one.delivery_id for one in over))
        message = with_id(message, delivery_id, "summary")
        self.summaries.append(_row(channel, message, None, 1))
        self.records += [_outcome(one, now, "summarised", None) for one in over]
        held_back = all(one.held_back for one in over)
        return Pending(delivery_id, None, channel, 1, held_back, message, 0, now, None)


def plan(lake: Lake, settings: DeliverSettings, now: datetime, channels: Collection[str]) -> Plan:
    """What is due at `now` for each of `channels`, within quiet hours and budgets; reads only."""
    made = Plan()
    by_channel: dict[str, list[Pending]] = defaultdict(list)
    for one in _without_superseded(pending(lake), made, now):
        by_channel[one.channel].append(one)
    quiet_until = held_until(settings.quiet_hours, now)
    for channel, waiting in by_channel.items():
        if channel not in channels:
            # Where it is no longer in the settings, `standings` tells of it.
            made.later += len(waiting) if channel in settings.channels else 0
            continue
        due = [one for one in waiting if one.due_at <= now]
        made.later += len(waiting) - len(due)
        if quiet_until is not None:
            made.hold([one for one in due if one.held_back], now, quiet_until)
            due = [one for one in due if not one.held_back]
        budget = settings.channels[channel].messages_per_hour
        if budget is not None:
            due, over = _within_budget(lake, channel, due, budget, now)
            if over and _summary_now(lake, channel, over, now):
                due.append(made.summarise(channel, over, now))
            else:
                made.hold(over, now, now + _URGENT_SUMMARY)
        if due:
            made.to_send[channel] = due
    return made


def keep_plan(lake: Lake, made: Plan) -> None:
    """Store what the plan decided; inside a transaction."""
    _insert(lake, made.summaries)
    record(lake, made.records)


def _without_superseded(waiting: Sequence[Pending], made: Plan, now: datetime) -> list[Pending]:
    """`waiting` with one message an alert and channel, the newest, which says all of it better.

    That an alert is over is told after what it was: an end without a beginning says nothing.
    """
    by_alert: dict[tuple[str, str], list[Pending]] = defaultdict(list)
    for one in waiting:
        weekly = "upkeep" if one.message.kind == "upkeep" else one.delivery_id
        by_alert[one.alert_id or weekly, one.channel].append(one)
    kept: set[str] = set()
    for ones in by_alert.values():
        *before, last = sorted(ones, key=lambda one: one.order)
        if last.alert_id is not None and last.order < last.newest_sent:
            before = ones
        elif last.message.kind == "resolve" and before:
            *before, first = before
            made.after[first.delivery_id] = last
            kept.add(first.delivery_id)
        else:
            kept.add(last.delivery_id)
        made.records += [_outcome(one, now, "superseded", None) for one in before]
    return [one for one in waiting if one.delivery_id in kept]


def _outcome(one: Pending, at: datetime, outcome: Outcome, due: datetime | None) -> Record:
    return Record(one.delivery_id, at, outcome, one.tries, next_due_at=due)


def _within_budget(
    lake: Lake, channel: str, due: list[Pending], budget: int, now: datetime
) -> tuple[list[Pending], list[Pending]]:
    """What the hour has room for, the most urgent first, and the rest; summaries are no part."""
    sent = lake.value(
        "SELECT count(*) FROM lake.delivery_outcomes AS o JOIN lake.deliveries AS d "
        "USING (delivery_id) WHERE d.channel = $channel AND d.alert_id IS NOT NULL "
        "AND o.outcome = 'sent' AND o.recorded_at > $since",
        channel=channel,
        since=now - _HOUR,
    )
    counted = [one for one in due if one.alert_id is not None]
    free = [one for one in due if one.alert_id is None]
    room = max(budget - sent, 0)
    return counted[:room] + free, counted[room:]


def _summary_now(lake: Lake, channel: str, over: Sequence[Pending], now: datetime) -> bool:
    """Whether it is time for a summary: one an hour, sooner where something is to be revoked."""
    last = lake.value(
        "SELECT max(created_at) FROM lake.deliveries WHERE channel = $channel AND kind = 'summary'",
        channel=channel,
    )
    urgent = any(one.message.action == "revoke" for one in over)
    return last is None or now - last >= (_URGENT_SUMMARY if urgent else _HOUR)
