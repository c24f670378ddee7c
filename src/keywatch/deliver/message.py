"""What is told of an alert, before any channel gives it its form.

All text is one line, cut, and without control characters: names, agents and paths were chosen by
whoever calls the API. `Message` as JSON is what webhooks and files get; ``message.schema.json``
says each field.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import resources
from typing import Any, Literal
from urllib.parse import quote

from pydantic import TypeAdapter

from keywatch.model import (
    ACTIONS,
    ATTRIBUTION,
    SEVERITIES,
    Action,
    AskedOwner,
    HealthFinding,
    HygieneFinding,
    Severity,
    Technique,
    Window,
)
from keywatch.report.health import health_lines
from keywatch.report.parts import if_revoked, strength, what_was_done
from keywatch.report.upkeep import by_rule, key_count, rule_counts
from keywatch.review.alerts import Alert, Change, What, severity_of, story_of
from keywatch.review.questions import Question
from keywatch.text.document import blast_radius_of, impact_of, rfc3339
from keywatch.text.phrases import (
    asked_words,
    count,
    iso_week,
    listed,
    minute,
    sentence,
    window_label,
    window_options,
)
from keywatch.text.safe_text import printable

Kind = Literal[
    "trigger",
    "update",
    "acknowledge",
    "resolve",
    "summary",
    "report",
    "upkeep",
    "heartbeat",
    "test",
    "question",
]

_ID = 200
_NAME = 60
_SENTENCE = 400
_WHY = 600
_MOST_REASONS = 3
_MOST_PLACES = 3
_MOST_KEYS = 20
_MOST_NAMED = 8
_MOST_WORST = 10
_MOST_ASKED = 5
_MOST_OF_A_RULE = 20
_MOST_BITS = 999.0


@dataclass(frozen=True)
class Reason:
    """Typical against actual; `bits` is what counts of it, 0 where it is a fact and no theft."""

    bits: float
    explanation: str
    typical: str
    actual: str


@dataclass(frozen=True)
class Place:
    """An address that the key was used from; `network` is AS number and organisation."""

    ip: str
    network: str
    country: str
    origin_class: str
    requests: int


@dataclass(frozen=True)
class Key:
    """A key of the alert, the masked form of it, and how its part ended if it did."""

    key_id: str
    key: str
    name: str
    owner: str
    environment: str
    action: Action
    bits: float
    ended: str


@dataclass(frozen=True)
class Upkeep:
    """A key that breaks a rule of upkeep, or soon will; `action` is advice.

    `due_on` is a date, empty where the rule has none; `days` have gone by since, or are left.
    """

    rule: str
    key_id: str
    key: str
    name: str
    owner: str
    environment: str
    action: Action
    due_on: str
    days: int | None
    explanation: str


@dataclass(frozen=True)
class Attachment:
    """A file that goes with a report; content in Base64."""

    name: str
    media_type: str
    content: str


@dataclass(frozen=True)
class Recipient:
    """The owner who gets a question, in the place of the channel's own recipients.

    `to` is a mail address or a Slack user.
    """

    owner: str
    to: str


@dataclass(frozen=True)
class Message:
    """One message to one channel; `id` is its idempotency key, the same however often it is sent.

    `bits`, `reasons`, `what_else` (false positives of these detectors), `attacks` (techniques of
    MITRE ATT&CK) and `places` are of the key, or of the worst of `keys`. `summary_id` is the
    `id` of a summary, in the message that all its alerts are over. `asked` says which owners were
    asked about the alert, and their answers. `recipient` is of questions, which go to no program.
    """

    id: str
    kind: Kind
    at: str
    title: str
    severity: Severity
    why: str = ""
    alert_id: str | None = None
    action: Action = "none"
    bits: float = 0.0
    window: str = ""
    keys: tuple[Key, ...] = ()
    more_keys: int = 0
    reasons: tuple[Reason, ...] = ()
    more_reasons: int = 0
    places: tuple[Place, ...] = ()
    more_places: int = 0
    done: str = ""
    may: str = ""
    if_revoked: str = ""
    steps: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()
    command: str = ""
    link: str | None = None
    attachment: Attachment | None = None
    attribution: str = ""
    upkeep: tuple[Upkeep, ...] = ()
    more_upkeep: int = 0
    what_else: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    summary_id: str | None = None
    asked: tuple[str, ...] = ()
    recipient: Recipient | None = None

    @property
    def rank(self) -> float:
        """The larger, the sooner it is sent."""
        action = len(ACTIONS) - ACTIONS.index(self.action)
        severity = len(SEVERITIES) - SEVERITIES.index(self.severity)
        return action * 10_000 + severity * 1000 + min(self.bits, _MOST_BITS)

    def to_json(self) -> str:
        """One line of ASCII."""
        values = asdict(self)
        if self.recipient is None:
            del values["recipient"]
        return json.dumps(values, ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Message:
        """What `to_json` wrote."""
        return _message_type().validate_json(text)


@functools.cache
def _message_type() -> TypeAdapter[Message]:
    return TypeAdapter(Message)


def message_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what webhooks and files get."""
    text = resources.files(__package__).joinpath("message.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def alert_message(
    change: Change, case_url: str | None = None, asked: Sequence[AskedOwner] = ()
) -> Message:
    """The message about a change, without an id: each channel's message has its own.

    `case_url` is where a case can be read, with ``{key_id}`` and ``{week}`` in it. `asked` are the
    owners who were asked about the alert.
    """
    alert = change.alert
    case = _worst_case(alert)
    # A fact may say what to do and have no bits.
    evidence = [i for i in case.get("evidence", []) if i["bits"] > 0 or i.get("action")]
    origins = case.get("origins", [])
    lead = str(case["key_id"])
    over = change.what == "resolve"
    radius, impact = blast_radius_of(case), impact_of(case)
    scopes = radius and radius.scopes_granted
    return Message(
        id="",
        kind="acknowledge" if change.what == "approve" else change.what,
        at=rfc3339(alert.changed_at),
        title=_title(alert, change.what) + _late(alert),
        severity=severity_of(alert),
        why=printable(sentence(_why(alert)), _WHY),
        alert_id=alert.alert_id,
        action=alert.action,
        bits=round(alert.bits, 2),
        window=window_label(alert.window),
        keys=_keys(alert),
        more_keys=max(len(alert.members) - _MOST_KEYS, 0),
        reasons=tuple(_reason(item) for item in evidence[:_MOST_REASONS]),
        more_reasons=max(len(evidence) - _MOST_REASONS, 0) + case.get("more_evidence", 0),
        places=tuple(_place(origin) for origin in origins[:_MOST_PLACES]),
        what_else=_distinct(item.get("false_positives") for item in evidence[:_MOST_REASONS]),
        attacks=_distinct(_technique(item.get("technique")) for item in evidence),
        more_places=max(len(origins) - _MOST_PLACES, 0) + case.get("more_origins", 0),
        done=what_was_done(radius),
        may=printable(", ".join(scopes), _SENTENCE) if scopes else "",
        if_revoked=if_revoked(impact) if impact and not over else "",
        steps=() if over else tuple(printable(step, _SENTENCE) for step in _steps(alert, case)),
        command=_command(lead, alert.window),
        link=case_url and _link(case_url, lead, alert.window),
        attribution=ATTRIBUTION,
        asked=tuple(printable(asked_words(one), _SENTENCE) for one in asked[-_MOST_ASKED:]),
    )


def question_message(question: Question, alert: Alert) -> Message:
    """What an owner is asked: what was done with the keys, from where and when.

    How to answer is secret, so it is added when it is sent. Steps and evidence are the analyst's.
    """
    whole = alert_message(Change("trigger", alert))
    own = _keys(alert, question.key_ids)
    cases = alert.cases
    case = next((one for one in cases if one["key_id"] in question.key_ids), cases[0])
    radius = blast_radius_of(case)
    many = len(question.key_ids) > 1
    story = story_of(alert) if many else case.get("story") or story_of(alert)
    named = count(len(question.key_ids), "key") if many else own[0].name or own[0].key_id
    origins, more_origins = case.get("origins", []), case.get("more_origins", 0)
    asked_about = [one for one in origins if one["requests_suspicious"]]
    if asked_about and len(asked_about) < len(origins):
        more_origins = 0  # the suspicious ones are the first
    places = [one | {"requests": one["requests_suspicious"]} for one in asked_about] or origins
    return Message(
        id=question.question_id,
        kind="question",
        at=rfc3339(question.asked_at),
        title=f"Was this you? Unusual use of {named}",
        severity=whole.severity,
        why=printable(sentence(story), _WHY),
        action=alert.action,
        bits=whole.bits,
        window=whole.window,
        keys=own,
        more_keys=max(len(question.key_ids) - len(own), 0),
        places=tuple(_place(origin) for origin in places[:_MOST_PLACES]),
        more_places=max(len(places) - _MOST_PLACES, 0) + more_origins,
        done=what_was_done(radius),
        attribution=ATTRIBUTION,
        recipient=Recipient(printable(question.owner, _NAME), question.recipient),
    )


def summary_message(messages: Sequence[Message], at: str) -> Message:
    """One message in place of `messages` (not empty), which a channel has no room for."""
    ranked = sorted(messages, key=lambda message: -message.rank)
    actions = Counter(message.action for message in ranked)
    counts = ", ".join(
        f"{actions[action]:,} to {action}" if action != "none" else f"{actions[action]:,} other"
        for action in ACTIONS
        if actions[action]
    )
    worst = ranked[0]
    return Message(
        id="",
        kind="summary",
        at=at,
        title=f"{count(len(ranked), 'more alert')}: {counts}",
        severity=worst.severity,
        why="Too many alerts at once to send one by one; the most urgent first.",
        action=worst.action,
        bits=worst.bits,
        worst=tuple(f"{one.title}{_in_brackets(one.bits)}" for one in ranked[:_MOST_WORST]),
        command="keywatch review",
    )


def summary_over_message(summary_id: str, alerts: int, at: str) -> Message:
    """That no alert is left of a summary of `alerts`: an incident that was made of it can close."""
    return Message(
        id="", kind="resolve", at=at, title=f"CLOSED summary of {count(alerts, 'alert')}",
        severity="low", why="All its alerts are closed.", summary_id=summary_id,
    )  # fmt: skip


def report_message(title: str, attachment: Attachment, at: str) -> Message:
    """A finished report, with the file."""
    return Message(
        id="", kind="report", at=at, title=printable(title, _SENTENCE), severity="low",
        why="The report is attached.", attachment=attachment,
    )  # fmt: skip


def upkeep_message(findings: Sequence[HygieneFinding], window: Window, at: str) -> Message:
    """A week's `findings` (not empty) as one message; none of them is an alert."""
    shown = [finding for found in by_rule(findings).values() for finding in found[:_MOST_OF_A_RULE]]
    week = iso_week(window)
    return Message(
        id="",
        kind="upkeep",
        at=at,
        title=f"Key hygiene: {count(key_count(findings), 'key')}{f', week {week}' if week else ''}",
        severity="low",
        why=f"{rule_counts(findings)}. None of these keys is suspected. To rotate a key, create a "
        "replacement, switch its consumers to it, then revoke the old key.",
        window=window_label(window),
        command=f"keywatch review {window_options(window)}".strip(),
        upkeep=tuple(_upkeep(finding) for finding in shown),
        more_upkeep=len(findings) - len(shown),
    )


def heartbeat_message(
    findings: Sequence[HealthFinding], events: int, last: datetime | None, at: str
) -> Message:
    """That Keywatch runs, how far the log goes, and what of its health is wrong; no alert."""
    until = f" until {minute(last)} UTC" if last else ""
    wrong = sum(not one.is_note for one in findings)
    told = count(wrong, "health finding") if wrong else "no health findings"
    return Message(
        id="",
        kind="heartbeat",
        at=at,
        title=f"Running, {count(events, 'event')}{until}, {told}",
        severity="low",
        why="Health findings, the most general first:" if wrong else "No problems found.",
        worst=tuple(health_lines(findings)),
        command="keywatch doctor",
    )


def with_id(message: Message, delivery_id: str, kind: Kind) -> Message:
    """`message` as the one of a channel."""
    return replace(message, id=delivery_id, kind=kind)


def owners_of(alert: Alert) -> set[str | None]:
    """The owners of the alert's keys; None stands for a key without one."""
    cases = alert.cases
    return {case.get("owner") for case in cases}


# ------------------------------------------------------------------------------------------- parts


def _in_brackets(bits: float) -> str:
    return f" ({strength(bits)})" if bits else ""


def _worst_case(alert: Alert) -> dict[str, Any]:
    if alert.kind == "key":
        return alert.document
    cases: list[dict[str, Any]] = alert.document["cases"]
    return min(cases, key=lambda case: (ACTIONS.index(case["action"]), -case["bits"]))


def _title(alert: Alert, what: What) -> str:
    said = {"resolve": "CLOSED", "acknowledge": "ACKNOWLEDGED"}.get(what, alert.action.upper())
    if alert.kind == "key":
        member = alert.members[0]
        name = f" ({printable(member.name, _NAME)})" if member.name else ""
        return f"{said} {printable(member.key_id, _NAME)}{name}"
    origin = printable(alert.document["origin"], _NAME)
    verb = "used from" if alert.kind == "campaign" else "moved to"
    return f"{said} {alert.kind}: {count(len(alert.members), 'key')} {verb} {origin}"


def _late(alert: Alert) -> str:
    """`` (late: 2026-W38)``; empty where the log was in time."""
    day = f"{alert.window.start:%Y-%m-%d}"
    return f" (late: {iso_week(alert.window) or day})" if alert.is_late else ""


def _why(alert: Alert) -> str:
    if alert.change > 1 or alert.why != "opened":
        return alert.why
    return story_of(alert)


def _keys(alert: Alert, only: Collection[str] | None = None) -> tuple[Key, ...]:
    cases = alert.cases
    facts = {case["key_id"]: case for case in cases}
    members = [member for member in alert.members if only is None or member.key_id in only]
    ranked = sorted(members, key=lambda m: (ACTIONS.index(m.action), -m.bits, m.key_id))
    return tuple(
        Key(
            key_id=printable(member.key_id, _ID),
            key=printable(member.key or "", _NAME),
            name=printable(member.name or "", _NAME),
            owner=_fact(facts, member.key_id, "owner"),
            environment=_fact(facts, member.key_id, "environment"),
            action=member.action,
            bits=round(member.bits, 2),
            ended=printable(member.ended or "", _SENTENCE),
        )
        for member in ranked[:_MOST_KEYS]
    )


def _fact(facts: Mapping[str, dict[str, Any]], key_id: str, name: str) -> str:
    return printable(facts.get(key_id, {}).get(name) or "", _NAME)


def _upkeep(finding: HygieneFinding) -> Upkeep:
    return Upkeep(
        rule=printable(finding.detector, _NAME),
        key_id=printable(finding.key_id, _ID),
        key=printable(finding.key or "", _NAME),
        name=printable(finding.name or "", _NAME),
        owner=printable(finding.owner or "", _NAME),
        environment=printable(finding.environment or "", _NAME),
        action=finding.action,
        due_on="" if finding.due_on is None else finding.due_on.isoformat(),
        days=finding.days,
        explanation=printable(finding.explanation, _SENTENCE),
    )


def _reason(item: Mapping[str, Any]) -> Reason:
    return Reason(
        bits=item["bits"],
        explanation=printable(item["explanation"]),
        typical=printable(item["typical"]),
        actual=printable(item["actual"]),
    )


def _distinct(texts: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(printable(text, _SENTENCE) for text in dict.fromkeys(texts) if text)


def _technique(technique: Mapping[str, Any] | None) -> str:
    if technique is None:
        return ""
    tactics = tuple((tactic["id"], tactic["name"]) for tactic in technique["tactics"])
    return str(Technique(technique["id"], technique["name"], technique["sub_technique"], tactics))


def _place(origin: Mapping[str, Any]) -> Place:
    asn = f"AS{origin['asn']}" if origin["asn"] is not None else None
    network = " ".join(part for part in (asn, origin["organization"]) if part)
    return Place(
        ip=printable(origin["ip"], _NAME),
        network=printable(network, _NAME),
        country=printable(origin["country"] or "", _NAME),
        origin_class=printable(origin["class"] or "", _NAME),
        requests=origin["requests"],
    )


def _steps(alert: Alert, case: Mapping[str, Any]) -> Sequence[str]:
    if alert.kind == "key":
        return tuple(case["steps"])
    verdict = "keywatch verdict KEY expected --by NAME --because REASON"
    if alert.kind == "migration":
        owners = {each["owner"] for each in alert.document["cases"] if each["owner"]}
        whom = listed(sorted(owners), _MOST_NAMED) if owners else "the keys' owners"
        return (
            f"Ask {whom} to confirm the move to {alert.document['origin']}",
            f"If confirmed, give the verdict: {verdict}",
            "If not, treat the keys as stolen and revoke them",
        )
    cases = alert.document["cases"]
    revoke = [each["key"] or each["key_id"] for each in cases if each["action"] == "revoke"]
    rotate = [each["key"] or each["key_id"] for each in cases if each["action"] == "rotate"]
    look = [
        each["key"] or each["key_id"]
        for each in cases
        if each["action"] not in ("revoke", "rotate")
    ]
    steps = []
    if revoke:
        steps.append(f"Revoke now: {listed(revoke, _MOST_NAMED)}")
        steps.append(
            "Then replace each and switch its consumers; keywatch case KEY lists the steps"
        )
    if rotate:
        steps.append(f"Replace, then revoke: {listed(rotate, _MOST_NAMED)}")
    if look:
        steps.append(f"Ask the owners to confirm this use: {listed(look, _MOST_NAMED)}")
    return (*steps, "Import the inventory with revoked_at: Keywatch then reports any further use")


def _command(key_id: str, window: Window) -> str:
    """What shows the whole case; quoted for a shell, for it is there to be pasted."""
    return f"keywatch case {shlex.quote(printable(key_id, _ID))} {window_options(window)}".strip()


def _link(case_url: str, key_id: str, window: Window) -> str:
    week = iso_week(window) or str(window.start.date())
    return case_url.format(key_id=quote(key_id[:_ID], safe=""), week=week)
