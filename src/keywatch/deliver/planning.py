"""What a run of the delivery sends, and what it decides before: holds, summaries, what is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from keywatch.deliver.journal import Outcome, Record
from keywatch.deliver.message import Message, summary_message, summary_over_message, with_id
from keywatch.deliver.outbox import (
    ARRIVED,
    NEWEST_OUTCOMES,
    UNANSWERED,
    delivery_id_of,
    delivery_row,
    insert_rows,
    last_told,
    pending,
    record,
)
from keywatch.deliver.routing import LONGEST_WAIT, held_until
from keywatch.deliver.settle import Pending, settle
from keywatch.lake import Lake
from keywatch.review import alerts, questions
from keywatch.review.alerts import Alert
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.document import rfc3339

_HOUR = timedelta(hours=1)
_URGENT_SUMMARY = timedelta(minutes=10)
"""A summary with a revoke in it does not wait for the next hour."""


@dataclass
class Plan:
    """What a run sends, and what is to be kept before: holds, summaries and what is superseded.

    `later` messages wait for a later run; `restated` ones tell of an alert as it is now and not as
    the lake has them.
    """

    to_send: dict[str, list[Pending]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    summaries: list[dict[str, object]] = field(default_factory=list)
    restated: list[Pending] = field(default_factory=list)
    later: int = 0

    def hold(self, held: Sequence[Pending], now: datetime, until: datetime) -> None:
        """Send these not before `until`."""
        self.records += [_outcome(one, now, "held", until) for one in held]
        self.later += len(held)

    def summarise(self, channel: str, over: Sequence[Pending], now: datetime) -> Pending:
        """The one message in place of `over`."""
        message = summary_message([one.message for one in over], rfc3339(now))
        delivery_id = delivery_id_of("summary", channel, *sorted(one.delivery_id for one in over))
        self.records += [
            replace(_outcome(one, now, "summarised"), summary_id=delivery_id) for one in over
        ]
        return self._add(channel, with_id(message, delivery_id, "summary"), now)

    def end_summaries(self, over: Mapping[tuple[str, str], int], now: datetime) -> list[Pending]:
        """The ends of summaries, each by its id, channel and number of alerts."""
        ends = []
        for (summary_id, channel), alerts_of_it in over.items():
            delivery_id = delivery_id_of("end", summary_id)
            message = summary_over_message(summary_id, alerts_of_it, rfc3339(now))
            ends.append(self._add(channel, with_id(message, delivery_id, "resolve"), now))
        return ends

    def _add(self, channel: str, message: Message, now: datetime) -> Pending:
        """A message of no alert, to be stored and sent."""
        self.summaries.append(delivery_row(channel, message, None, 1, now))
        return Pending(message.id, None, channel, 1, message, now)

    @property
    def is_to_be_kept(self) -> bool:
        """Whether it decided something that the lake has to know before it is sent."""
        return bool(self.records or self.summaries or self.restated)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send and nothing to be kept."""
        return not (self.to_send or self.is_to_be_kept)

    @property
    def orders(self) -> dict[str, int]:
        """The change of each alert that is told of."""
        return {
            one.alert_id: one.order
            for due in self.to_send.values()
            for one in due
            if one.alert_id is not None
        }


def plan(lake: Lake, settings: DeliverSettings, now: datetime, channels: Collection[str]) -> Plan:
    """What is due at `now` for each of `channels`, within quiet hours and budgets; reads only."""
    made = Plan()
    # In the settings' order.
    by_channel: dict[str, list[Pending]] = {
        name: [] for name in settings.channels if name in channels
    }
    still_true = _still_true(lake, settings, made, now, channels)
    for one in (*still_true, *made.end_summaries(_summaries_over(lake, channels), now)):
        by_channel[one.channel].append(one)
    quiet_until = held_until(settings.quiet_hours, now)
    for channel, waiting in by_channel.items():
        due = [one for one in waiting if _is_due(one, now, settings)]
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
    restated = [
        delivery_row(one.channel, one.message, one.alert_id, one.order, one.created_at)
        for one in made.restated
    ]
    ids = [row["delivery_id"] for row in (*restated, *made.summaries)]
    if ids:
        lake.execute("DELETE FROM lake.deliveries WHERE list_contains($ids, delivery_id)", ids=ids)
    insert_rows(lake, [*restated, *made.summaries])
    record(lake, made.records)


def _still_true(
    lake: Lake, settings: DeliverSettings, made: Plan, now: datetime, channels: Collection[str]
) -> list[Pending]:
    """What waits for `channels` as it is now; the rest is put down as superseded."""
    waiting = []
    for one in pending(lake):
        if one.channel in channels:
            waiting.append(one)
        elif one.channel in settings.channels:
            made.later += 1  # of what is no longer in the settings, `standings` tells
    summaries = {one.delivery_id: one for one in waiting if one.message.kind == "summary"}
    parts = _parts(lake, summaries)
    told_of = [*waiting, *(one for ones in parts.values() for one in ones)]
    ids = {one.alert_id for one in told_of if one.alert_id is not None}
    in_force = {alert.alert_id: alert for alert in alerts.in_force(lake, ids)}
    told = {
        (alert_id, channel): one
        for alert_id, by_channel in last_told(lake, ids).items()
        for channel, one in by_channel.items()
    }
    over = _questions_over(lake, waiting)
    waiting = [one for one in waiting if one not in over]
    asked = questions.asked_of_alerts(lake, ids)
    settled = settle(waiting, told, in_force, settings, asked)
    kept = settled.kept
    superseded = settled.superseded + over
    for summary_id, ones in parts.items():
        true = [one for one in ones if _is_true(one, in_force)]
        if len(true) == len(ones):
            continue
        superseded += [summaries[summary_id], *(one for one in ones if one not in true)]
        kept = [one for one in kept if one.delivery_id != summary_id]
        kept += [made.summarise(summaries[summary_id].channel, true, now)] if true else []
    made.restated += [one for one in kept if one.is_restated]
    made.records += [_outcome(one, now, "superseded") for one in superseded]
    return kept


def _questions_over(lake: Lake, waiting: Iterable[Pending]) -> list[Pending]:
    """The questions of `waiting` that nobody has to answer any more."""
    found = [one for one in waiting if one.message.kind == "question"]
    if not found:
        return []
    open_ones = {one.question_id: one.alert_id for one in questions.pending(lake)}
    of_alerts = alerts.in_force(lake, set(open_ones.values()))
    live = {alert.alert_id for alert in of_alerts if alert.state != "closed"}
    return [one for one in found if open_ones.get(one.delivery_id) not in live]


def _parts(lake: Lake, summaries: Collection[str]) -> dict[str, list[Pending]]:
    """What each of these summaries stands for."""
    found: dict[str, list[Pending]] = defaultdict(list)
    if summaries:
        for summary_id, id_, alert_id, channel, order, message, created_at, tries in lake.rows(
            f"""
            SELECT o.summary_id, d.delivery_id, d.alert_id, d.channel, d.change, d.message,
                d.created_at, o.tries
            FROM {NEWEST_OUTCOMES} AS o
            JOIN lake.deliveries AS d USING (delivery_id)
            WHERE o.outcome = 'summarised' AND list_contains($summaries, o.summary_id)
            ORDER BY d.rank DESC, d.created_at, d.delivery_id
            """,
            summaries=list(summaries),
        ):
            message = Message.from_json(message)
            one = Pending(id_, alert_id, channel, order, message, created_at, tries)
            found[summary_id].append(one)
    return found


def _summaries_over(lake: Lake, channels: Collection[str]) -> dict[tuple[str, str], int]:
    """How many alerts each summary had of which none is left, where its channel has no end yet."""
    rows = lake.rows(
        f"""
        SELECT s.delivery_id, s.channel, count(*) AS alerts_of_it
        FROM lake.deliveries AS s
        JOIN {NEWEST_OUTCOMES} AS o ON o.outcome = 'summarised' AND o.summary_id = s.delivery_id
        JOIN lake.deliveries AS d ON d.delivery_id = o.delivery_id
        LEFT JOIN (
            SELECT alert_id, arg_max(state, change) AS state FROM lake.alerts GROUP BY alert_id
        ) AS a ON a.alert_id = d.alert_id
        WHERE s.kind = 'summary' AND list_contains($channels, s.channel)
            AND s.delivery_id IN (FROM {ARRIVED} UNION FROM {UNANSWERED})
            AND NOT EXISTS (
                FROM lake.deliveries AS e
                WHERE e.kind = 'resolve' AND (e.message->>'summary_id') = s.delivery_id
            )
        GROUP BY s.delivery_id, s.channel
        HAVING bool_and(coalesce(a.state, 'closed') = 'closed')
        ORDER BY s.delivery_id
        """,
        channels=list(channels),
    )
    return {(summary_id, channel): alerts_of_it for summary_id, channel, alerts_of_it in rows}


def _is_true(one: Pending, in_force: Mapping[str, Alert]) -> bool:
    alert = in_force.get(one.alert_id or "")
    return alert is not None and alert.state != "closed" and alert.change == one.order


def _is_due(one: Pending, now: datetime, settings: DeliverSettings) -> bool:
    """Whether its pause is over; one that no pause explains was reckoned by a wrong clock."""
    longest = max(timedelta(seconds=settings.longest_pause_seconds), LONGEST_WAIT)
    return one.due_at is None or one.due_at <= now or one.due_at > now + longest


def _outcome(one: Pending, at: datetime, outcome: Outcome, due: datetime | None = None) -> Record:
    return Record(
        one.delivery_id, at, outcome, one.tries, next_due_at=due, recipients=one.recipients
    )


def _within_budget(
    lake: Lake, channel: str, due: list[Pending], budget: int, now: datetime
) -> tuple[list[Pending], list[Pending]]:
    """What the hour has room for, the most urgent first, and the rest; only alarms count."""
    sent = lake.value(
        "SELECT count(*) FROM lake.delivery_outcomes AS o JOIN lake.deliveries AS d "
        "USING (delivery_id) WHERE d.channel = $channel AND d.alert_id IS NOT NULL "
        "AND d.kind NOT IN ('acknowledge', 'resolve') AND o.outcome = 'sent' "
        "AND o.recorded_at > $since AND o.recorded_at <= $until",
        channel=channel,
        since=now - _HOUR,
        until=now + _HOUR,  # what a wrong clock put later does not use up the budget till then
    )
    alarms = [one for one in due if one.is_alarm]
    over = alarms[max(budget - sent, 0) :]
    ids = {one.delivery_id for one in over}
    return [one for one in due if one.delivery_id not in ids], over


def _summary_now(lake: Lake, channel: str, over: Sequence[Pending], now: datetime) -> bool:
    """Whether it is time for a summary: one an hour, sooner where something is to be revoked."""
    last = lake.value(
        "SELECT max(created_at) FROM lake.deliveries "
        "WHERE channel = $channel AND kind = 'summary' AND created_at <= $until",
        channel=channel,
        until=now + _HOUR,
    )
    urgent = any(one.message.action == "revoke" for one in over)
    return last is None or now - last >= (_URGENT_SUMMARY if urgent else _HOUR)
