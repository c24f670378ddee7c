"""What owners of keys are asked about alerts, and what follows from their answers.

A question is about the keys of one owner in one alert, and about the networks that they were used
from. An alert to investigate waits for its owners: the channels are notified when one of them does
not confirm the use, or does not answer in time. *Yes* is a verdict by the owner (*expected* until a
day, else *benign*), *no* is *compromised*. *Not mine* is no verdict. Nor is a *yes* about a key
that is to be revoked: whoever has stolen it may read the owner's mail too.

``lake.questions`` and ``lake.answers`` only grow. Call what writes inside `Lake.writing`, so that a
question is asked, and answered, once by all machines.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

import pyarrow as pa

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import AskedOwner, OwnerAnswer, Review, Verdict, Window
from keywatch.review import alerts, response, verdicts
from keywatch.review.alerts import Alert, Change
from keywatch.review.verdict_visits import flagged_origins
from keywatch.settings import ReviewSettings
from keywatch.text.phrases import answer_words, minute

Way = Literal["link", "Slack", "command"]

_RAISED = ("no", "not_mine", "unanswered")
"""Answers after which the channels are notified."""


@dataclass(frozen=True)
class Question:
    """What an owner is asked; `origins` are as verdicts name them, `within` is the time to answer.

    `key_ids` are the owner's in the alert. Times are UTC.
    """

    question_id: str
    alert_id: str
    key_ids: tuple[str, ...]
    owner: str
    channel: str
    recipient: str
    origins: tuple[str, ...]
    window: Window
    action: str
    asked_at: datetime
    within: timedelta


@dataclass(frozen=True)
class Answered:
    """What came of an answer: `note` says it to the owner."""

    question: Question
    answer: OwnerAnswer
    until: date | None
    note: str


# ------------------------------------------------------------------------------------------ asking


def to_ask(lake: Lake, alert: Alert, owners_of: dict[str, str]) -> list[Question]:
    """The questions about `alert` that were not asked yet, without channel, recipient and time.

    `owners_of` has the owner of each key whose owner can be asked. Of a key in this alert, each
    network is asked about once.
    """
    origins = flagged_origins(lake, owners_of, alert.window)
    asked: dict[str, set[str]] = defaultdict(set)
    known = set()
    for question in of_alerts(lake, [alert.alert_id])[alert.alert_id]:
        for key_id in question.key_ids:
            asked[key_id].update(question.origins)
            known.add(key_id)
    new: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for key_id, owner in owners_of.items():
        there = set(origins.get(key_id, ())) - asked[key_id]
        if there or key_id not in known:
            new[owner][key_id] = there
    return [
        _question(alert, owner, tuple(sorted(keys)), tuple(sorted(set().union(*keys.values()))))
        for owner, keys in sorted(new.items())
    ]


def _question(
    alert: Alert, owner: str, key_ids: tuple[str, ...], origins: tuple[str, ...]
) -> Question:
    parts = "\n".join((alert.alert_id, owner, *key_ids, "", *origins))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()
    return Question(
        f"ask_{digest[:24]}", alert.alert_id, key_ids, owner, "", "", origins, alert.window,
        alert.action, utc_now(), timedelta(0),
    )  # fmt: skip


_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("alert_id", pa.string()),
        ("key_ids", pa.list_(pa.string())),
        ("owner", pa.string()),
        ("channel", pa.string()),
        ("recipient", pa.string()),
        ("origins", pa.list_(pa.string())),
        ("window_start", pa.timestamp("us")),
        ("window_end", pa.timestamp("us")),
        ("action", pa.string()),
        ("asked_at", pa.timestamp("us")),
        ("within_s", pa.int64()),
    ]
)


def store(lake: Lake, questions: Iterable[Question]) -> None:
    """Keep new questions."""
    rows = [
        {
            "question_id": one.question_id,
            "alert_id": one.alert_id,
            "key_ids": list(one.key_ids),
            "owner": one.owner,
            "channel": one.channel,
            "recipient": one.recipient,
            "origins": list(one.origins),
            "window_start": one.window.start,
            "window_end": one.window.end,
            "action": one.action,
            "asked_at": one.asked_at,
            "within_s": int(one.within.total_seconds()),
        }
        for one in questions
    ]
    if rows:
        lake.append("questions", pa.Table.from_pylist(rows, schema=_SCHEMA))


# ------------------------------------------------------------------------------------ what is known


def find(lake: Lake, question_id: str) -> Question | None:
    """The question of this id; None if there is none."""
    return next(iter(_read(lake, "question_id = $id", id=question_id)), None)


def of_alerts(lake: Lake, alert_ids: Iterable[str]) -> dict[str, list[Question]]:
    """The questions about each of these alerts, the first one first."""
    found: dict[str, list[Question]] = {alert_id: [] for alert_id in alert_ids}
    if found:
        for one in _read(lake, "list_contains($ids, alert_id)", ids=list(found)):
            found[one.alert_id].append(one)
    return found


def pending(lake: Lake) -> list[Question]:
    """The questions that nobody has answered, and of which the channels were not notified."""
    return _read(lake, "question_id NOT IN (SELECT question_id FROM lake.answers)")


def _read(lake: Lake, condition: str, **parameters: object) -> list[Question]:
    rows = lake.rows(
        "SELECT question_id, alert_id, key_ids, owner, channel, recipient, origins, window_start, "
        "window_end, action, asked_at, within_s FROM lake.questions "
        f"WHERE {condition} ORDER BY asked_at, question_id",
        **parameters,
    )
    return [
        Question(
            id_, alert_id, tuple(key_ids), owner, channel, recipient, tuple(origins),
            Window(start, end), action, asked_at, timedelta(seconds=within_s),
        )
        for (
            id_, alert_id, key_ids, owner, channel, recipient, origins, start, end, action,
            asked_at, within_s,
        ) in rows
    ]  # fmt: skip


def withheld(lake: Lake, found: Collection[Alert]) -> set[str]:
    """Those of the alerts `found` that wait for their owners, by id: no channel gets them yet.

    They are open and to be investigated, all their keys' owners were asked, one at least has time
    left, and none has said anything but *yes*.
    """
    ids = [one.alert_id for one in found if one.state == "open" and one.action == "investigate"]
    if not ids:
        return set()
    rows = lake.rows(
        """
        SELECT q.alert_id, flatten(list(q.key_ids)) AS key_ids
        FROM lake.questions AS q
        LEFT JOIN lake.answers AS a USING (question_id)
        WHERE list_contains($ids, q.alert_id)
        GROUP BY q.alert_id
        HAVING bool_or(a.answer IS NULL)
            AND NOT coalesce(bool_or(list_contains($raised, a.answer)), false)
        """,
        ids=ids,
        raised=list(_RAISED),
    )
    asked = {alert_id: set(key_ids) for alert_id, key_ids in rows}
    return {
        one.alert_id
        for one in found
        if one.alert_id in asked
        and {member.key_id for member in alerts.to_confirm(one)} <= asked[one.alert_id]
    }


# grain: question_id; the answer in force: the owner's, else that there was none
_ANSWER = """(
    FROM lake.answers
    QUALIFY row_number() OVER (
        PARTITION BY question_id ORDER BY answer = 'unanswered', answered_at
    ) = 1
)"""


def asked_of_alerts(lake: Lake, alert_ids: Collection[str]) -> dict[str, tuple[AskedOwner, ...]]:
    """Who was asked about each of these alerts, and the answers."""
    found: dict[str, list[AskedOwner]] = defaultdict(list)
    if alert_ids:
        for alert_id, _, asked in _asked(lake, "list_contains($ids, alert_id)", ids=[*alert_ids]):
            found[alert_id].append(asked)
    return {alert_id: tuple(asked) for alert_id, asked in found.items()}


def asked_in(lake: Lake, window: Window) -> dict[str, tuple[AskedOwner, ...]]:
    """By key: who was asked about alerts that a part of `window` was told in, and the answers."""
    found: dict[str, list[AskedOwner]] = defaultdict(list)
    for _, key_ids, asked in _asked(
        lake, "window_start < $end AND window_end > $start", start=window.start, end=window.end
    ):
        for key_id in key_ids:
            found[key_id].append(asked)
    return {key_id: tuple(asked) for key_id, asked in found.items()}


def with_answers(lake: Lake, review: Review) -> Review:
    """`review` with what the owners of its cases were asked, and their answers so far."""
    asked = asked_in(lake, review.window)
    cases = tuple(replace(case, asked=asked.get(case.key_id, ())) for case in review.cases)
    return replace(review, cases=cases)


def _asked(
    lake: Lake, condition: str, **parameters: object
) -> list[tuple[str, list[str], AskedOwner]]:
    rows = lake.rows(
        f"""
        SELECT q.alert_id, q.key_ids, q.owner, q.asked_at, a.answer, a.until, a.answered_at,
            coalesce(a.way, ''), coalesce(a.note, '')
        FROM lake.questions AS q
        LEFT JOIN {_ANSWER} AS a USING (question_id)
        WHERE {condition}
        ORDER BY q.asked_at, q.question_id
        """,
        **parameters,
    )
    return [(alert_id, key_ids, AskedOwner(*rest)) for alert_id, key_ids, *rest in rows]


# --------------------------------------------------------------------------------------- answering


def check_open(lake: Lake, question: Question) -> None:
    """See that the owner has not answered yet.

    Raises:
        UsageError: the question was answered; says when and how.
    """
    rows = lake.rows(
        "SELECT answer, until, answered_at, way FROM lake.answers "
        "WHERE question_id = $id AND answer <> 'unanswered'",
        id=question.question_id,
    )
    for answer, until, answered_at, way in rows:
        raise UsageError(
            f"this question was answered at {answered_at:%Y-%m-%d %H:%M} UTC by {way}: "
            f"{answer_words(answer, until)}; tell the security team if that is wrong"
        )


def answer(
    lake: Lake,
    question: Question,
    said: OwnerAnswer,
    tell: Callable[[list[Change]], object],
    *,
    way: Way,
    until: date | None = None,
    by: str | None = None,
    settings: ReviewSettings | None = None,
) -> Answered:
    """Keep an owner's answer and the verdict that follows; `tell` gets what changes about alerts.

    `until` goes with *yes*: the last day (UTC) on which the use is expected; None means this once.
    `by` is the person, where the way says it.

    Raises:
        UsageError: it was answered before, by somebody else than was asked, or the day is past, too
            far, or not asked for.
    """
    if way == "Slack" and by != question.recipient:
        raise UsageError("only the person who was asked can answer this question")
    _check_until(said, until)
    check_open(lake, question)
    alert = alerts.find(lake, question.alert_id)
    follows = _follows(lake, question, alert, said, until)
    _record(lake, question, said, until, way, by, follows.note)
    by_whom, because = (
        f"{question.owner} (owner, by {way})",
        f"answered {answer_words(said, until)}",
    )
    for key_id, origins in follows.about.items():
        assert follows.verdict is not None
        report = verdicts.give(
            lake, key_id, follows.verdict, by=by_whom, because=because, window=follows.window,
            origins=origins, until=until,
        )  # fmt: skip
        changes = alerts.after_verdict(lake, report, by_whom, because, settings)
        # An acknowledgement is for channels that know the alert; of a theft now all have to know.
        tell([replace(one, what="update") if one.what == "acknowledge" else one for one in changes])
    if follows.words and alert is not None:
        story = alerts.story_of(alert)
        words = f"answered {follows.words}, by {way}"
        response.add_note(lake, alert, "comment", words, f"{question.owner} (owner)")
        tell([alerts.note(alert, f"{question.owner} {words}. {story}")])
    return Answered(question, said, until, follows.note)


def leave_unanswered(lake: Lake, question: Question, why: str) -> list[Change]:
    """The time is over, or the question can't be sent: what changes about an alert that waits.

    `why` says which, as ``no answer within 2 h``.
    """
    alert = alerts.find(lake, question.alert_id)
    _record(lake, question, "unanswered", None, "", None, why)
    if alert is None or alert.state != "open" or alert.action != "investigate":
        return []
    asked = f"{question.owner} was asked at {minute(question.asked_at)} UTC: {why}"
    return [alerts.note(alert, f"{asked}. {alerts.story_of(alert)}")]


def earliest_end() -> date:
    """The first day (UTC) until which an owner may expect a use: tomorrow."""
    return utc_now().date() + timedelta(days=1)


def _check_until(said: OwnerAnswer, until: date | None) -> None:
    if until is None:
        return
    if said != "yes":
        raise UsageError("a day can be given with yes only")
    first, last = earliest_end(), verdicts.latest_end()
    if not first <= until <= last:
        raise UsageError(f"{until} is not possible: choose a day from {first} to {last}")


def _record(
    lake: Lake,
    question: Question,
    said: OwnerAnswer | Literal["unanswered"],
    until: date | None,
    way: str,
    by: str | None,
    note: str,
) -> None:
    lake.execute(
        "INSERT INTO lake.answers VALUES ($id, $said, $until, $now, $way, $by, $note)",
        id=question.question_id,
        said=said,
        until=until,
        now=utc_now(),
        way=way,
        by=by,
        note=note,
    )


@dataclass(frozen=True)
class _Follows:
    """What follows from an answer: `verdict` in `window` on the keys and origins of `about`.

    `note` says it to the owner, `words` to the channels; empty where there is nothing to say.
    """

    note: str
    words: str = ""
    verdict: Verdict | None = None
    window: Window | None = None
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _follows(
    lake: Lake, question: Question, alert: Alert | None, said: OwnerAnswer, until: date | None
) -> _Follows:
    if alert is None:
        return _Follows("the alert is not stored any more")
    if said == "no":
        # Whoever closed it did not know.
        window = question.window if alert.state == "closed" else alert.window
        about = _about(lake, question, alert, window)
        note, words = "the security team is notified of a theft", "" if about else "no"
        return _Follows(note, words, "compromised", window, about)
    if alert.state == "closed":
        return _Follows("the alert was closed before")
    if said == "not_mine":
        return _Follows("the security team is notified", "that it is not their key")
    words = answer_words("yes", until)
    if alert.state != "open" or alert.action != "investigate":
        return _Follows("the security team decides", f"{words}; the verdict is yours")
    about = _about(lake, question, alert, alert.window)
    if not about:
        return _Follows("the use is not unusual any more")
    verdict: Verdict = "benign" if until is None else "expected"
    note = f"the use counts as yours (verdict {verdict})"
    return _Follows(note, "", verdict, alert.window, about)


def _about(
    lake: Lake, question: Question, alert: Alert, window: Window
) -> dict[str, tuple[str, ...]]:
    """What of the question is flagged still, by key; of keys whose part has not ended otherwise.

    Later visits from elsewhere are not what the owner was asked about. A key that was asked about
    without any visit (a fact about it) has no origin.
    """
    now = flagged_origins(lake, question.key_ids, window)
    ended = {member.key_id for member in alert.members if member.ended is not None}
    if alert.state == "closed":
        ended = set()
    about = {}
    for key_id in question.key_ids:
        there = tuple(sorted(set(now.get(key_id, ())) & set(question.origins)))
        is_fact = not question.origins and key_id not in now
        if key_id not in ended and (there or is_fact):
            about[key_id] = there
    return about
