"""Questions to owners on their way: whom they go to, how they are answered, and when time is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from keywatch.deliver.channel import Reply, SendError
from keywatch.deliver.codes import VALID, Codes
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message, question_message
from keywatch.deliver.routing import held_until
from keywatch.errors import LakeDamagedError, SecretError
from keywatch.lake import Lake
from keywatch.review import alerts, questions
from keywatch.review.alerts import Alert, Change
from keywatch.review.questions import Question
from keywatch.settings.deliver import DeliverSettings
from keywatch.settings.owners import OwnerSettings
from keywatch.text.phrases import duration

_SECONDS_OF_A_DAY = 86_400


def ask(
    lake: Lake, changes: Sequence[Change], settings: DeliverSettings, owners: OwnerSettings
) -> list[tuple[str, Message]]:
    """Ask the owners of alerts that were opened or raised; returns channel and message of each.

    Call it inside the transaction that made the changes. An owner without a contact is not asked.
    """
    asked = []
    for change in changes:
        alert = change.alert
        is_news = change.what in ("trigger", "update") and alert.state == "open"
        if owners.asks and is_news and alert.action in owners.ask:
            for question in questions.to_ask(lake, alert, _reached(alert, owners)):
                whole = _addressed(question, settings, owners)
                questions.store(lake, [whole])
                asked.append((whole.channel, question_message(whole, alert)))
    return asked


def _reached(alert: Alert, owners: OwnerSettings) -> dict[str, str]:
    """The owner of each key of `alert` whose owner has a contact."""
    cases = alert.cases
    owner_of = {case["key_id"]: case.get("owner") for case in cases}
    return {
        member.key_id: owner
        for member in alerts.to_confirm(alert)
        if (owner := owner_of.get(member.key_id)) and owners.contact(owner)
    }


def _addressed(question: Question, settings: DeliverSettings, owners: OwnerSettings) -> Question:
    contact = owners.contact(question.owner)
    assert contact is not None
    channel, to = next(
        (name, to)
        for name in owners.channel
        if (to := contact.address(settings.channels[name].kind))
    )
    return replace(question, channel=channel, recipient=to, within=owners.answer_within)


# --------------------------------------------------------------------------------- when time is up

# grain: a question that nobody has answered; when it was first sent, and how its message stands
_SENT = """
    SELECT q.question_id,
        min(o.recorded_at) FILTER (o.outcome IN ('sent', 'unanswered')) AS sent_at,
        last(o.outcome ORDER BY o.sequence) = 'dead' AS is_dead,
        last(o.error ORDER BY o.sequence) AS error
    FROM lake.questions AS q
    ANTI JOIN lake.answers AS a USING (question_id)
    LEFT JOIN lake.delivery_outcomes AS o ON o.delivery_id = q.question_id
    GROUP BY q.question_id
"""


def overdue(lake: Lake, settings: DeliverSettings, now: datetime) -> list[tuple[Question, str]]:
    """The questions for which no answer is waited any more, and why.

    The time to answer counts from when a question was sent. Of one that was not, the same time is
    left to send it, after quiet hours.
    """
    waiting = questions.pending(lake)
    in_force = {one.alert_id: one for one in alerts.in_force(lake, {q.alert_id for q in waiting})}
    waiting = [
        one
        for one in waiting
        if (alert := in_force.get(one.alert_id)) is not None and alert.state != "closed"
    ]
    if not waiting:
        return []
    sent = {question_id: rest for question_id, *rest in lake.rows(_SENT)}
    found = []
    for one in waiting:
        sent_at, is_dead, error = sent[one.question_id]
        if why := _why_over(one, settings, now, sent_at, error if is_dead else None):
            found.append((one, why))
    return found


def _why_over(
    one: Question,
    settings: DeliverSettings,
    now: datetime,
    sent_at: datetime | None,
    rejected: str | None,
) -> str:
    """Why no answer is waited for; empty while one is."""
    within = duration(one.within.total_seconds() / _SECONDS_OF_A_DAY)
    if sent_at is not None:
        return f"no answer within {within}" if now >= sent_at + one.within else ""
    if rejected is not None:
        return f"the question could not be delivered ({rejected})"
    if one.channel not in settings.channels:
        return f"the question could not be sent (channel {one.channel} is not in the settings)"
    quiet = settings.quiet_hours if one.action != "revoke" else None
    due_at = held_until(quiet, one.asked_at) or one.asked_at
    return f"the question could not be sent within {within}" if now >= due_at + one.within else ""


# ----------------------------------------------------------------------------------- how to answer


def replies(lake: Lake, owners: OwnerSettings, vault: Vault) -> Callable[[Message], Reply]:
    """From a question's message to how it is answered; for threads, it no longer needs the lake.

    Raises (when called):
        SendError: this machine does not have the lake's secret.
    """
    try:
        codes = Codes.of(lake)
    except (SecretError, LakeDamagedError) as e:
        missing = str(e)

        def refuse(_: Message) -> Reply:
            raise SendError(f"the question can't be signed: {missing}")

        return refuse

    def reply(message: Message) -> Reply:
        asked_at = datetime.fromisoformat(message.at).replace(tzinfo=None)
        code = vault.hold(codes.code(message.id, asked_at))
        return Reply(
            code, owners.base_url, asked_at + VALID, has_buttons=owners.app_token is not None
        )

    return reply
