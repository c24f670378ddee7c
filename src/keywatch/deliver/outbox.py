"""Messages that are to be sent, and what became of them, in the lake.

``lake.deliveries`` has a row for each message to each channel, written in the transaction of what
it tells, and written anew where that is no longer true when it is sent; what became of it is in
``lake.delivery_outcomes``, which only grows.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from keywatch.deliver.channel import ACCEPTED
from keywatch.deliver.journal import Record
from keywatch.deliver.message import (
    Attachment,
    Kind,
    Message,
    alert_message,
    heartbeat_message,
    report_message,
    upkeep_message,
    with_id,
)
from keywatch.deliver.routing import upkeep_for
from keywatch.deliver.settle import Pending, Told, routed_to
from keywatch.lake import Lake, utc_now
from keywatch.lake.weeks import last_event
from keywatch.model import HealthFinding, Review
from keywatch.review import alerts, questions
from keywatch.review.alerts import Alert, Change, State, What
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.document import rfc3339
from keywatch.text.phrases import count

LONG_WAIT = timedelta(days=1)
"""A channel is told of whose oldest message has waited longer."""

# grain: a message of which anything became
NEWEST_OUTCOMES = """(
    FROM lake.delivery_outcomes
    QUALIFY row_number() OVER (
        PARTITION BY delivery_id ORDER BY sequence DESC NULLS LAST, recorded_at DESC, tries DESC
    ) = 1
)"""


@dataclass(frozen=True)
class Standing:
    """A channel's outbox: what waits and since when, what was given up, what last arrived."""

    channel: str
    waiting: int = 0
    dead: int = 0
    last_sent_at: datetime | None = None
    last_error: str | None = None
    waiting_since: datetime | None = None

    def waits_for(self, now: datetime) -> timedelta:
        """The age of the oldest message that waits; 0 where none does."""
        since = self.waiting_since
        return timedelta(0) if since is None else max(now - since, timedelta(0))

    def waiting_words(self, now: datetime) -> str:
        """How many messages wait, and since when where that is longer than `LONG_WAIT`."""
        words = f"{count(self.waiting, 'message')} waiting"
        if self.waits_for(now) <= LONG_WAIT:
            return words
        return f"{words}, the oldest since {self.waiting_since:%Y-%m-%d %H:%M} UTC"


# ------------------------------------------------------------------------------------- putting in


def enqueue(lake: Lake, changes: Sequence[Change], settings: DeliverSettings) -> int:
    """Put what has changed into the outbox, for each channel it concerns; returns how many.

    These are the channels that a message of the alert was ever for, and those that should hear of
    it now: by the routes, unless it waits for the owners of its keys, or of an approval those that
    wait for one. What each gets is settled when
    it is sent (`keywatch.deliver.settle`). Call it inside the transaction that made the changes.
    """
    if not changes or not settings.channels:
        return 0
    changed = [change.alert for change in changes]
    told = last_told(lake, {alert.alert_id for alert in changed})
    asked = questions.asked_of_alerts(lake, told)
    withheld = questions.withheld(lake, changed)
    rows = []
    for change in changes:
        alert = change.alert
        message = alert_message(change, settings.case_url, asked.get(alert.alert_id, ()))
        mine = told[alert.alert_id]
        news: Kind = "update" if message.kind == "trigger" else message.kind
        new: set[str] = set()
        if change.what in ("trigger", "update") and alert.alert_id not in withheld:
            new = set(routed_to(settings, alert)) - _hearing(mine)
        elif change.what == "approve":
            new = set(settings.approved_channels) - _hearing(mine)
        for channel in sorted((mine.keys() & settings.channels.keys()) | new):
            if channel in mine and alert.change in mine[channel].changes:
                continue
            kind: Kind = "trigger" if channel in new else news
            delivery_id = delivery_id_of(alert.alert_id, str(alert.change), channel)
            rows.append(
                delivery_row(
                    channel, with_id(message, delivery_id, kind), alert.alert_id, alert.change
                )
            )
    insert_rows(lake, rows)
    return len(rows)


def catch_up(lake: Lake, settings: DeliverSettings) -> list[Change]:
    """What channels of the settings have missed.

    That is unanswered alerts which the routes now send to them, less those that wait for the owners
    of their keys; and what came of those that they were told of while they were not in the
    settings.
    """
    waiting = alerts.waiting(lake)
    withheld = questions.withheld(lake, waiting)
    waiting = [alert for alert in waiting if alert.alert_id not in withheld]
    told = last_told(lake, {alert.alert_id for alert in waiting})
    missed = [
        alert.alert_id
        for alert in waiting
        if any(
            not told[alert.alert_id][channel].is_open
            and alert.change not in told[alert.alert_id][channel].changes
            for channel in routed_to(settings, alert)
        )
    ]
    missed += [
        alert_id
        for (alert_id,) in lake.rows(
            f"""
            SELECT DISTINCT t.alert_id
            FROM ({_TOLD}) AS t
            JOIN (SELECT alert_id, max(change) AS newest FROM lake.alerts GROUP BY alert_id) AS a
                USING (alert_id)
            WHERE list_contains($channels, t.channel) AND (t.is_open OR t.is_undelivered)
                AND NOT list_contains(t.changes, a.newest)
            """,
            channels=list(settings.channels),
        )
    ]
    return [Change(_WHAT[alert.state], alert) for alert in alerts.in_force(lake, missed)]


_WHAT: dict[State, What] = {"open": "trigger", "acknowledged": "acknowledge", "closed": "resolve"}


def awaiting_approval(lake: Lake, settings: DeliverSettings) -> list[Alert]:
    """The alerts to revoke that are not over and of which no approved channel has heard."""
    if not settings.approved_channels:
        return []
    found = [alert for alert in alerts.not_over(lake) if alert.action == "revoke"]
    told = last_told(lake, {alert.alert_id for alert in found})
    return [
        alert
        for alert in found
        if not any(
            told[alert.alert_id][channel].is_open or told[alert.alert_id][channel].is_undelivered
            for channel in settings.approved_channels
        )
    ]


def _hearing(told: Mapping[str, Told]) -> set[str]:
    return {channel for channel, one in told.items() if one.is_open}


def enqueue_questions(lake: Lake, asked: Iterable[tuple[str, Message]]) -> int:
    """Put questions to owners into the outbox, each with its channel; returns how many."""
    # Of no alert: what a channel was told of an alert is not what an owner was asked.
    rows = [delivery_row(channel, message, None, 1) for channel, message in asked]
    insert_rows(lake, rows)
    return len(rows)


def enqueue_report(lake: Lake, title: str, attachment: Attachment, channels: Iterable[str]) -> int:
    """Put a finished report into the outbox; the same report to the same channel goes once."""
    message = report_message(title, attachment, rfc3339(utc_now()))
    rows = []
    for channel in channels:
        delivery_id = delivery_id_of("report", title, attachment.content, channel)
        there = "SELECT count(*) FROM lake.deliveries WHERE delivery_id = $id"
        if not lake.value(there, id=delivery_id):
            rows.append(delivery_row(channel, with_id(message, delivery_id, "report"), None, 1))
    insert_rows(lake, rows)
    return len(rows)


def upkeep_is_due(lake: Lake, review: Review, settings: DeliverSettings) -> bool:
    """Whether a channel that the routes name has not got the week's upkeep yet."""
    return bool(_upkeep_rows(lake, review, settings))


def enqueue_upkeep(lake: Lake, review: Review, settings: DeliverSettings) -> int:
    """Put the week's upkeep into the outbox, once a channel; returns how many messages."""
    rows = _upkeep_rows(lake, review, settings)
    insert_rows(lake, rows)
    return len(rows)


def _upkeep_rows(lake: Lake, review: Review, settings: DeliverSettings) -> list[dict[str, object]]:
    # What is to be done about a key with an action stands in its alert.
    alerted = {case.key_id for case in review.alerted()}
    rest = [finding for finding in review.hygiene if finding.key_id not in alerted]
    rows = []
    for channel, findings in upkeep_for(settings, rest).items():
        week = str(review.window.start.date())
        delivery_id = delivery_id_of("upkeep", week, channel)
        there = "SELECT count(*) FROM lake.deliveries WHERE delivery_id = $id"
        if not lake.value(there, id=delivery_id):
            message = upkeep_message(findings, review.window, rfc3339(utc_now()))
            message = with_id(message, delivery_id, "upkeep")
            # A newer week's list takes the place of one that still waits.
            rows.append(delivery_row(channel, message, None, review.window.start.toordinal()))
    return rows


def heartbeat_is_due(lake: Lake, settings: DeliverSettings, now: datetime) -> bool:
    """Whether a heartbeat is wanted, and the channel's last one is as old as the settings say."""
    if settings.heartbeat is None:
        return False
    last = lake.value(
        "SELECT max(created_at) FROM lake.deliveries "
        "WHERE channel = $channel AND kind = 'heartbeat'",
        channel=settings.heartbeat.channel,
    )
    return last is None or now - last >= timedelta(hours=settings.heartbeat.every_hours)


def enqueue_heartbeat(
    lake: Lake, settings: DeliverSettings, findings: Sequence[HealthFinding], now: datetime
) -> int:
    """Put a heartbeat into the outbox where one is due; returns how many messages.

    Call it inside a transaction: of several runs at once, one makes it.
    """
    beat = settings.heartbeat
    if beat is None or not heartbeat_is_due(lake, settings, now):
        return 0
    events = lake.value("SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity")
    message = heartbeat_message(findings, events, last_event(lake, now), rfc3339(now))
    nth = int((now - datetime(1970, 1, 1)) / timedelta(hours=beat.every_hours))
    delivery_id = delivery_id_of("heartbeat", f"{nth} of {beat.every_hours} hours", beat.channel)
    # A newer one takes the place of one that still waits.
    row = delivery_row(beat.channel, with_id(message, delivery_id, "heartbeat"), None, nth)
    insert_rows(lake, [row | {"created_at": now}])
    return 1


# grain: a message that a channel has, in part at least
ARRIVED = """(
    SELECT DISTINCT delivery_id
    FROM lake.delivery_outcomes
    WHERE outcome = 'sent' OR (outcome IN ('failed', 'dead') AND remote IS NOT NULL)
)"""

# grain: a message that was sent and may have arrived
UNANSWERED = """(
    SELECT DISTINCT delivery_id FROM lake.delivery_outcomes WHERE outcome = 'unanswered'
)"""

# grain: an alert and a channel that a message of it was ever for
_TOLD = f"""
    WITH arrived AS {ARRIVED}, unanswered AS {UNANSWERED}, known AS (
        SELECT d.alert_id, d.channel, d.change, d.kind,
            n.delivery_id IS NULL OR n.next_due_at IS NOT NULL OR n.outcome = 'dead'
                AS is_undelivered,
            d.delivery_id IN (FROM arrived)
                OR n.outcome = 'summarised' AND (
                    n.summary_id IS NULL OR n.summary_id IN (FROM arrived)
                ) AS has_arrived,
            d.delivery_id IN (FROM unanswered)
                OR coalesce(n.summary_id IN (FROM unanswered), false) AS is_unanswered,
            r.remote
        FROM lake.deliveries AS d
        LEFT JOIN {NEWEST_OUTCOMES} AS n USING (delivery_id)
        LEFT JOIN (
            SELECT delivery_id, last(remote ORDER BY sequence NULLS FIRST) AS remote
            FROM lake.delivery_outcomes
            WHERE remote IS NOT NULL
            GROUP BY delivery_id
        ) AS r USING (delivery_id)
        WHERE d.alert_id IS NOT NULL
    )
    SELECT alert_id, channel, list(change) AS changes,
        coalesce(max(change) FILTER (has_arrived), 0) AS sent,
        coalesce(last(kind <> 'resolve' ORDER BY change) FILTER (has_arrived), false) AS is_open,
        coalesce(
            last(kind <> 'resolve' ORDER BY change) FILTER (has_arrived OR is_unanswered), false
        ) AS may_be_open,
        bool_or(is_undelivered) AS is_undelivered,
        last(remote ORDER BY change) FILTER (remote IS NOT NULL) AS remote
    FROM known
    GROUP BY alert_id, channel
"""


def last_told(lake: Lake, alert_ids: Collection[str]) -> dict[str, defaultdict[str, Told]]:
    """What each channel was told of each of these alerts."""
    found: dict[str, defaultdict[str, Told]] = {
        alert_id: defaultdict(Told) for alert_id in alert_ids
    }
    if found:
        for alert_id, channel, changes, *rest in lake.rows(
            f"SELECT * FROM ({_TOLD}) WHERE list_contains($alert_ids, alert_id)",
            alert_ids=sorted(found),
        ):
            found[alert_id][channel] = Told(tuple(changes), *rest)
    return found


def delivery_id_of(*parts: str) -> str:
    """The same for the same parts: a message that is made twice is stored and sent once."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"msg_{digest[:24]}"


def delivery_row(
    channel: str,
    message: Message,
    alert_id: str | None,
    order: int,
    created_at: datetime | None = None,
) -> dict[str, object]:
    """The row of ``lake.deliveries`` for a message to a channel.

    `order` is the change of the alert that it tells of, or the number of a message of none.
    """
    created_at = created_at or utc_now()
    one = Pending(message.id, alert_id, channel, order, message, created_at)
    return {
        "delivery_id": message.id,
        "alert_id": alert_id,
        "change": order,
        "channel": channel,
        "kind": message.kind,
        "severity": message.severity,
        "rank": message.rank,
        "held_back": one.held_back,
        "message": message.to_json(),
        "created_at": created_at,
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


def insert_rows(lake: Lake, rows: Sequence[dict[str, object]]) -> None:
    """Store rows of ``lake.deliveries``; inside a transaction."""
    if rows:
        lake.append("deliveries", pa.Table.from_pylist(list(rows), schema=_DELIVERIES))


# ------------------------------------------------------------------------------ what became of it


def record(lake: Lake, records: Sequence[Record]) -> None:
    """Keep what became of messages, in this order; one that is kept already changes nothing."""
    if not records:
        return
    # In the order of `records`, not of their times: a clock may be set back.
    kept = list(dict.fromkeys(records))
    # Arrow would import pandas, which takes longer than most runs.
    lake.execute(
        """
        INSERT INTO lake.delivery_outcomes BY NAME
        SELECT n.* EXCLUDE (place),
            coalesce((SELECT max(sequence) FROM lake.delivery_outcomes), 0) + place AS sequence
        FROM (
            SELECT unnest(range(1, len($ids) + 1)) AS place,
                unnest($ids::VARCHAR[]) AS delivery_id,
                unnest($moments::TIMESTAMP[]) AS recorded_at,
                unnest($outcomes::VARCHAR[]) AS outcome, unnest($tries::INTEGER[]) AS tries,
                unnest($errors::VARCHAR[]) AS error, unnest($remotes::VARCHAR[]) AS remote,
                unnest($dues::TIMESTAMP[]) AS next_due_at,
                unnest($summaries::VARCHAR[]) AS summary_id,
                unnest($recipients::VARCHAR[])::JSON AS recipients
        ) AS n
        WHERE NOT EXISTS (
            FROM lake.delivery_outcomes AS o
            WHERE o.delivery_id = n.delivery_id AND o.recorded_at = n.recorded_at
                AND o.outcome = n.outcome AND o.tries = n.tries
        )
        ORDER BY place
        """,
        ids=[one.delivery_id for one in kept],
        moments=[one.recorded_at for one in kept],
        outcomes=[one.outcome for one in kept],
        tries=[one.tries for one in kept],
        errors=[one.error for one in kept],
        remotes=[one.remote for one in kept],
        dues=[one.next_due_at for one in kept],
        summaries=[one.summary_id for one in kept],
        recipients=[json.dumps(dict(one.recipients)) if one.recipients else None for one in kept],
    )


def retry_dead(lake: Lake) -> int:
    """Make every dead letter due again, with all its tries; returns how many.

    Of a mail that some recipients have, the others are tried again.
    """
    now = utc_now()
    dead = lake.rows(
        f"SELECT delivery_id, recipients FROM {NEWEST_OUTCOMES} WHERE outcome = 'dead'"
    )
    records = [
        Record(
            id_, now, "failed", 0, "to be retried", None, now,
            recipients=tuple(each for each in _recipients(answers) if each[1] == ACCEPTED),
        )
        for id_, answers in dead
    ]  # fmt: skip
    record(lake, records)
    return len(dead)


def _recipients(answers: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(json.loads(answers).items()) if answers else ()


def pending(lake: Lake) -> list[Pending]:
    """What has not arrived, due or not, the most urgent first."""
    rows = lake.rows(
        f"""
        SELECT d.delivery_id, d.alert_id, d.channel, d.change, d.message, d.created_at,
            coalesce(o.tries, 0) AS tries, o.next_due_at, o.recipients
        FROM lake.deliveries AS d
        LEFT JOIN {NEWEST_OUTCOMES} AS o USING (delivery_id)
        WHERE o.delivery_id IS NULL OR o.next_due_at IS NOT NULL
        ORDER BY d.rank DESC, d.created_at, d.change, d.delivery_id
        """
    )
    # When a message was put in does not say when it is due: the clock may have been ahead then.
    return [
        Pending(
            id_, alert_id, channel, order, Message.from_json(message), created_at, tries, due_at,
            _recipients(recipients),
        )
        for id_, alert_id, channel, order, message, created_at, tries, due_at, recipients in rows
    ]  # fmt: skip


def changed_since(lake: Lake, orders: Mapping[str, int]) -> set[str]:
    """The alerts that are no longer at the change that `orders` gives them."""
    newest = "SELECT alert_id, max(change) FROM lake.alerts WHERE list_contains($ids, alert_id)"
    rows = lake.rows(f"{newest} GROUP BY alert_id", ids=list(orders)) if orders else []
    return {alert_id for alert_id, change in rows if change != orders[alert_id]}


def standings(lake: Lake, channels: Iterable[str]) -> list[Standing]:
    """How each channel's outbox is, and of channels that the settings no longer name."""
    rows = lake.rows(
        f"""
        SELECT d.channel,
            count(*) FILTER (o.delivery_id IS NULL OR o.next_due_at IS NOT NULL),
            count(*) FILTER (o.outcome = 'dead'),
            last(o.recorded_at ORDER BY o.sequence NULLS FIRST, o.recorded_at)
                FILTER (o.outcome = 'sent'),
            last(o.error ORDER BY o.sequence NULLS FIRST, o.recorded_at)
                FILTER (o.outcome IN ('unanswered', 'failed', 'dead')),
            min(d.created_at) FILTER (o.delivery_id IS NULL OR o.next_due_at IS NOT NULL)
        FROM lake.deliveries AS d
        LEFT JOIN {NEWEST_OUTCOMES} AS o USING (delivery_id)
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
    """A channel's outbox as a phrase."""
    last = standing.last_sent_at
    parts = [f"last sent {last:%Y-%m-%d %H:%M} UTC" if last else "nothing sent yet"]
    if standing.waiting:
        parts.append(standing.waiting_words(utc_now()))
    if standing.dead:
        parts.append(f"{count(standing.dead, 'dead letter')} ({standing.last_error})")
    return ", ".join(parts)
