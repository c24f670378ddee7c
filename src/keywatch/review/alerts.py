"""What a channel hears of: a key, or keys that belong together, from the first action to the end.

An *alert* is opened when a review first gives a key (or a campaign or migration of keys) an action.
It is told again when it rises to a more urgent action, grows, gets more keys, or comes again in a
later window, from elsewhere than the network that it was told of; it is closed by a verdict that
the use was the owner's, or when the key is revoked and the log shows no use since. A verdict that
it was a theft leaves it acknowledged until then.

`update`, `after_verdict`, `withdraw` and `follow_up` say what changes; `store` keeps it. Call
both inside one `Lake.writing`, so that what is told commits together with what it is told of.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import pyarrow as pa

from keywatch import model
from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.lake.weeks import last_event
from keywatch.model import (
    SEVERITIES,
    Action,
    Case,
    Group,
    Review,
    Severity,
    Window,
    most_urgent,
)
from keywatch.review.missed import missed_case
from keywatch.review.settled import worsened
from keywatch.review.verdicts import VerdictReport
from keywatch.settings import ReviewSettings
from keywatch.text.document import blast_radius_of, case_document
from keywatch.text.phrases import count, window_label
from keywatch.text.safe_text import printable

Kind = Literal["key", "campaign", "migration"]
State = Literal["open", "acknowledged", "closed"]
What = Literal["trigger", "update", "acknowledge", "approve", "resolve"]

_REMIND_AFTER = timedelta(hours=24)
"""Use after a revocation is told once, and again when it still goes on this much later."""
_GROUP_CASE = (
    "key_id", "key", "name", "owner", "environment", "action", "severity", "confidence", "bits",
    "summary", "story", "chronology", "blast_radius", "impact", "steps",
)  # fmt: skip
_MOST_OF_A_GROUP = 3


@dataclass(frozen=True)
class Member:
    """A key of an alert: what was told of it, and how it ended.

    `known_use_at` is the last use that was told of, `first_told_use_at` the last one when the alert
    was opened, `used_after` whether use after a revocation was told, `revoked` whether its part
    ended with its revocation.
    """

    key_id: str
    key: str | None
    name: str | None
    action: Action
    bits: float
    known_use_at: datetime | None = None
    first_told_use_at: datetime | None = None
    used_after: bool = False
    ended: str | None = None
    by_verdict: bool = False
    revoked: bool = False


@dataclass(frozen=True)
class Alert:
    """One alert as it stands after its `change`-th change, which `why` tells.

    `is_late`: this change came of log lines that were late. `sequence` orders the changes of all
    alerts, whatever the clock said (0: not stored yet, or before format 5). `document` is the case
    of the JSON contract, or of a group: kind, origin, explanation and its cases in brief.
    """

    alert_id: str
    change: int
    kind: Kind
    members: tuple[Member, ...]
    action: Action
    bits: float
    window: Window
    state: State
    document: dict[str, Any]
    opened_at: datetime
    changed_at: datetime
    why: str
    is_late: bool = False
    sequence: int = field(default=0, compare=False)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Its keys, in order."""
        return tuple(member.key_id for member in self.members)

    @property
    def cases(self) -> list[dict[str, Any]]:
        """The documents of its cases, of a group in brief."""
        return [self.document] if self.kind == "key" else self.document["cases"]

    @property
    def still_used(self) -> bool:
        """Whether a key of it was used after its revocation."""
        return any(member.used_after and member.ended is None for member in self.members)


@dataclass(frozen=True)
class Change:
    """An alert that has just changed, and what of it has to be told."""

    what: What
    alert: Alert


class Outbox(Protocol):
    """Where what has changed goes, to be sent; all of it in the transaction that is open."""

    def tell(self, lake: Lake, changes: list[Change]) -> int:
        """Keep changes of alerts and the messages about them; returns how many messages."""

    def upkeep_is_due(self, lake: Lake, review: Review) -> bool:
        """Whether somebody who is to get the week's upkeep has not got it."""

    def enqueue_upkeep(self, lake: Lake, review: Review) -> int:
        """Keep the messages of the week's upkeep; returns how many."""


def update(lake: Lake, review: Review, grow_bits: float, *, is_late: bool = False) -> list[Change]:
    """Alerts that `review` opens, raises or lets grow; the others stay as they are.

    `is_late`: its log came late, so that what it says is about an earlier week, and says so.
    """
    known = _relevant(lake, review.window)
    taken: set[str] = set()
    changes: list[Change] = []
    for subject in _subjects(review):
        told = _told(subject, [alert for alert in known if alert.alert_id not in taken])
        if told is None:
            why = _late(_summary(subject), review.window) if is_late else ""
            opened = _opened(subject, review.run.id, review.window, why)
            changes.append(Change("trigger", replace(opened, is_late=is_late)))
            continue
        if told.kind == subject.kind and told.kind != "key":
            taken.add(told.alert_id)
        why = _news(told, subject, review.window, grow_bits)
        if not why:
            continue
        if is_late:
            why = _late(why, review.window)
        own = told.state != "closed" and told.kind == subject.kind
        changed = (
            _changed(told, subject, review.window, why)
            if own
            else _opened(subject, review.run.id, review.window, why)
        )
        what: What = "update" if own else "trigger"
        changes.append(Change(what, replace(changed, is_late=is_late)))
    return changes


def after_verdict(
    lake: Lake,
    report: VerdictReport,
    by: str,
    because: str,
    settings: ReviewSettings | None = None,
) -> list[Change]:
    """What a verdict changes: *benign*, *expected* end a key's part, *compromised* confirms it.

    They end nothing while a flagged visit is left that they are not about. A theft that nobody has
    been told of becomes an alert, acknowledged from the start; one that was taken for the owner's
    is told again.
    """
    said = _said(report.verdict, by, because)
    mine = [
        alert
        for alert in _relevant(lake, report.window)
        if _overlap(alert.window, report.window) and report.key_id in alert.key_ids
    ]
    current = [alert for alert in mine if alert.state != "closed"]
    if report.verdict != "compromised":
        ending = [] if report.left else current
        return [_ended(alert, {report.key_id: said}, said) for alert in ending]
    stolen: dict[str, Any] = {"action": "revoke", "state": "acknowledged"}
    if current:
        return [Change("acknowledge", _next(alert, said, **stolen)) for alert in current]
    own = [alert for alert in mine if alert.kind == "key"]
    if not own:
        case = missed_case(lake, report.key_id, report.window, settings or ReviewSettings())
        return [Change("trigger", _opened_by_verdict(case, report, said))]
    newest = max(own, key=_recency)
    if any(member.revoked for member in newest.members):
        return []
    members = tuple(replace(member, ended=None) for member in newest.members)
    return [Change("trigger", _next(newest, said, members=members, **stolen))]


def _opened_by_verdict(case: Case, report: VerdictReport, said: str) -> Alert:
    subject = _Subject(
        "key", (replace(_member(case), by_verdict=True),), case.action, case.bits,
        case_document(case),
    )  # fmt: skip
    opened = _opened(subject, f"{report.window.start} {said}", report.window, said)
    return replace(opened, state="acknowledged")


def withdraw(lake: Lake, report: VerdictReport, by: str, because: str) -> list[Change]:
    """What an undone verdict changes: what it ended is open again, or as the one before it left it.

    An alert that has ended for another reason since stays as it is.
    """
    withdrawn, restored = report.withdrawn, report.restored
    assert withdrawn is not None
    ended_by = _said(withdrawn.verdict, withdrawn.by, withdrawn.because)
    said = f"verdict {withdrawn.verdict} withdrawn by {by}: {because}"
    changes = []
    for alert in _relevant(lake, report.window):
        mine = [m for m in alert.members if m.key_id == report.key_id]
        acknowledged = (
            withdrawn.verdict == "compromised"
            and alert.state == "acknowledged"
            and _overlap(alert.window, report.window)
        )
        if not any(m.ended == ended_by or (acknowledged and m.ended is None) for m in mine):
            continue
        members = tuple(
            replace(m, ended=None) if m in mine and m.ended == ended_by else m
            for m in alert.members
        )
        reopened = replace(alert, members=members)
        if restored is not None and restored.verdict != "compromised":
            before = _said(restored.verdict, restored.by, restored.because)
            changes.append(_ended(reopened, {report.key_id: before}, said))
            continue
        if restored is None and all(m.by_verdict for m in members):
            changes.append(_ended(reopened, {report.key_id: said}, said))
            continue
        action = most_urgent(m.action for m in members) if restored is None else "revoke"
        state: State = "open" if restored is None else "acknowledged"
        what: What = "trigger" if alert.state == "closed" else "update"
        changes.append(Change(what, _next(reopened, said, action=action, state=state)))
    return changes


def _overlap(one: Window, other: Window) -> bool:
    return one.start < other.end and one.end > other.start


def _said(verdict: str, by: str, because: str) -> str:
    return f"{verdict}, says {by}: {because}"


def approve(lake: Lake, alert_id: str, by: str, because: str) -> list[Change]:
    """An analyst wants the revocation carried out; nothing changes where the alert is over.

    Raises:
        UsageError: there is no such alert, or nobody or nothing is named.
    """
    if not by.strip() or not because.strip():
        raise UsageError("an approval needs a name and a reason")
    found = find(lake, alert_id)
    if found is None:
        raise UsageError(f"no alert {alert_id}")
    if found.state == "closed":
        return []
    why = f"revocation approved by {by}: {because}"
    return [Change("approve", _next(found, why, state="acknowledged"))]


def note(alert: Alert, why: str) -> Change:
    """Something new about `alert`, which stays as it is; `story_of` it may be part of `why`."""
    return Change("update", _next(alert, why))


def story_of(alert: Alert) -> str:
    """What happened, in sentences or in short."""
    if alert.kind == "key":
        return str(alert.document.get("story") or alert.document["summary"])
    return str(alert.document["explanation"])


def to_confirm(alert: Alert) -> tuple[Member, ...]:
    """The keys whose owners can say whether the use was theirs; of a move all that moved."""
    return tuple(
        member
        for member in alert.members
        if member.ended is None and (member.action != "none" or alert.kind == "migration")
    )


def follow_up(lake: Lake, confirm_hours: float) -> list[Change]:
    """What the log says of revoked keys: no use since, which ends their part, or still in use.

    A revocation counts that came after what the alert told of. Refused requests (401, 403) are no
    use. *No use since* is claimed when the log goes on for `confirm_hours` after the revocation, or
    after the last use.
    """
    alerts = _in_force(lake, "state <> 'closed'")
    followed = {m.key_id for a in alerts for m in a.members if m.ended is None}
    read_until = last_event(lake)
    confirmed_after = timedelta(hours=confirm_hours)
    revoked = _use_of_revoked(lake, sorted(followed), read_until) if followed else {}
    changes: list[Change] = []
    for alert in alerts:
        ended: dict[str, str] = {}
        members = list(alert.members)
        in_use = []
        for n, member in enumerate(alert.members):
            if member.ended is not None or member.key_id not in revoked:
                continue
            revoked_at, last_use, refused = revoked[member.key_id]
            if member.first_told_use_at is not None and revoked_at <= member.first_told_use_at:
                continue  # that the revoked key was tried is what the alert is about
            if last_use is not None and _is_news(member, last_use):
                members[n] = replace(member, used_after=True, known_use_at=last_use)
                in_use.append(
                    f"{member.key_id} still in use: revoked at {revoked_at:%Y-%m-%d %H:%M} UTC, "
                    f"last used at {last_use:%Y-%m-%d %H:%M} UTC"
                )
            elif read_until and read_until - (last_use or revoked_at) >= confirmed_after:
                ended[member.key_id] = _no_use_since(revoked_at, last_use, refused, read_until)
        changed = replace(alert, members=tuple(members))
        if in_use:
            stolen: Action = "revoke"
            changes.append(Change("update", _next(changed, "; ".join(in_use), action=stolen)))
        elif ended:
            why = "; ".join(f"{key_id} {text}" for key_id, text in ended.items())
            changes.append(_ended(changed, ended, why, revoked=True))
    return changes


# --------------------------------------------------------------------------------- what is told of


@dataclass(frozen=True)
class _Subject:
    """A key or a group as a review sees it."""

    kind: Kind
    members: tuple[Member, ...]
    action: Action
    bits: float
    document: dict[str, Any]
    goes_on: bool = False


def _subjects(review: Review) -> list[_Subject]:
    """Groups, then the keys with an action that no group tells of."""
    cases = {case.key_id: case for case in review.cases}
    told: set[str] = set()
    subjects = []
    for group in review.groups:
        members = [cases[key_id] for key_id in group.key_ids if key_id in cases]
        if group.kind == "migration":
            # A stolen key that moved along is a case of its own, not a part of a move to confirm.
            members = [case for case in members if case.action in ("investigate", "none")]
        elif all(case.action in ("rotate", "none") for case in members):
            members = []  # an exposed key is no theft: it is told by itself
        if members:
            subjects.append(_group_subject(group, members))
            told.update(case.key_id for case in members)
    subjects += [
        _Subject("key", (_member(case),), case.action, case.bits, case_document(case), case.goes_on)
        for case in review.alerted()
        if case.key_id not in told
    ]
    return subjects


def _group_subject(group: Group, members: Sequence[Case]) -> _Subject:
    confirm: Action = "investigate"
    worst = most_urgent(case.action for case in members)
    return _Subject(
        kind=group.kind,
        members=tuple(_member(case) for case in members),
        action=confirm if worst == "none" else worst,
        bits=max(case.bits for case in members),
        document={
            "kind": group.kind,
            "origin": group.origin,
            "explanation": group.explanation,
            "cases": [_in_brief(case) for case in members],
        },
    )


def _in_brief(case: Case) -> dict[str, Any]:
    document = case_document(case)
    brief = {name: document[name] for name in _GROUP_CASE}
    origins, evidence = document["origins"], [e for e in document["evidence"] if e["bits"] > 0]
    return brief | {
        "origins": origins[:_MOST_OF_A_GROUP],
        "more_origins": document["more_origins"] + len(origins[_MOST_OF_A_GROUP:]),
        "evidence": evidence[:_MOST_OF_A_GROUP],
        "more_evidence": len(evidence[_MOST_OF_A_GROUP:]),
    }


def _member(case: Case) -> Member:
    last_use = max((origin.last_seen for origin in case.origins), default=None)
    return Member(case.key_id, case.key, case.name, case.action, case.bits, last_use, last_use)


# --------------------------------------------------------------------------------------- and again


def _told(subject: _Subject, known: Sequence[Alert]) -> Alert | None:
    """The alert that has told of this subject; None where nobody has heard of it."""
    keys = {member.key_id for member in subject.members}
    if subject.kind == "key":
        covering = [alert for alert in known if keys & _alerted_keys(alert)]
    else:
        covering = [
            alert for alert in known if alert.kind == subject.kind and keys & set(alert.key_ids)
        ]
    return min(
        covering,
        key=lambda alert: (
            alert.state == "closed",
            alert.kind != subject.kind,
            alert.document.get("origin") != subject.document.get("origin"),
            *(-part for part in _recency(alert)),
        ),
        default=None,
    )


def _recency(alert: Alert) -> tuple[float, float]:
    """The larger, the later it changed; the clock counts only where no sequence was kept."""
    return alert.sequence, alert.changed_at.timestamp()


def _alerted_keys(alert: Alert) -> set[str]:
    return {member.key_id for member in alert.members if member.action != "none"}


def _news(told: Alert, subject: _Subject, window: Window, grow_bits: float) -> str:
    """Why an alert that was told must be told again, in words; empty where nothing is new."""
    action, bits = told.action, told.bits
    if subject.kind == "key" and told.kind != "key":
        own = next(m for m in told.members if m.key_id == subject.members[0].key_id)
        action, bits = own.action, own.bits
    worse = worsened((action, bits), (subject.action, subject.bits), grow_bits)
    if worse == "action":
        return f"raised from {action} to {subject.action}"
    if worse == "bits":
        return f"grew from {bits:.1f} to {subject.bits:.1f} bits"
    if subject.kind != "key":
        new = {member.key_id for member in subject.members} - set(told.key_ids)
        if new:
            return f"{len(new)} more {'key' if len(new) == 1 else 'keys'}: {', '.join(sorted(new))}"
    is_later = window.start >= told.window.end or _is_ahead(told.window, window)
    if is_later and not _is_the_same(told, subject):
        return "continues in a later window"
    return ""


def _is_ahead(told: Window, window: Window) -> bool:
    """Whether `told` is a window that the clock had not come to, as `window` is not."""
    return told.start > utc_now() >= window.start


def _end(window: Window) -> datetime:
    return window.end


def _is_the_same(told: Alert, subject: _Subject) -> bool:
    """Whether it is the network of which was told, which the key has come from ever since.

    That stays one open alert, which is not told again each week.
    """
    origins = subject.document.get("origins")
    if not subject.goes_on or not origins:
        return False
    return any(
        (origin["asn"], origin["prefix"]) == (origins[0]["asn"], origins[0]["prefix"])
        or (origin["asn"] is not None and origin["asn"] == origins[0]["asn"])
        for origin in told.document.get("origins", ())
    )  # fmt: skip


def _opened(subject: _Subject, cause: str, window: Window, why: str) -> Alert:
    """An alert that a run, or a verdict, is the `cause` of."""
    now = utc_now()
    origin = str(subject.document.get("origin", ""))
    key_ids = sorted(member.key_id for member in subject.members)
    parts = (cause, subject.kind, origin, *key_ids)
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return Alert(
        alert_id=f"alert_{digest[:16]}",
        change=1,
        kind=subject.kind,
        members=subject.members,
        action=subject.action,
        bits=subject.bits,
        window=window,
        state="open",
        document=subject.document,
        opened_at=now,
        changed_at=now,
        why=why or "opened",
    )


def _changed(told: Alert, subject: _Subject, window: Window, why: str) -> Alert:
    """`told` with what the review says now; what was more urgent before stays so."""
    members = {member.key_id: member for member in told.members}
    for member in subject.members:
        before = members.get(member.key_id)
        if before is not None and before.ended is None:
            first = before.first_told_use_at
            member = replace(member, first_told_use_at=first, used_after=before.used_after)
        members[member.key_id] = member
    return replace(
        _next(told, why, action=most_urgent([told.action, subject.action])),
        members=tuple(members.values()),
        bits=max(told.bits, subject.bits),
        window=window if _is_ahead(told.window, window) else max(told.window, window, key=_end),
        document=subject.document,
    )


def _next(alert: Alert, why: str, **changes: Any) -> Alert:
    now = utc_now()
    made: dict[str, Any] = {"change": alert.change + 1, "changed_at": now, "is_late": False}
    return replace(alert, why=why, **(made | changes))


def _ended(alert: Alert, ended: dict[str, str], why: str, *, revoked: bool = False) -> Change:
    """Some keys' part has ended; the alert is over when no alerted key is left."""
    members = tuple(
        replace(member, ended=ended[member.key_id], revoked=revoked)
        if member.key_id in ended
        else member
        for member in alert.members
    )
    left = any(member.ended is None and member.action != "none" for member in members)
    if left:
        return Change("update", _next(alert, why, members=members))
    return Change("resolve", _next(alert, why, members=members, state="closed"))


def _is_news(member: Member, last_use: datetime) -> bool:
    if member.known_use_at is None:
        return True
    return last_use > member.known_use_at + (_REMIND_AFTER if member.used_after else timedelta(0))


def _no_use_since(
    revoked_at: datetime, last_use: datetime | None, refused: int, read_until: datetime
) -> str:
    text = f"revoked at {revoked_at:%Y-%m-%d %H:%M} UTC, no use since"
    if last_use is not None:
        text += f" {last_use:%Y-%m-%d %H:%M}"
    if refused:
        text += f" (about {count(refused, 'request')} denied)"
    return f"{text}; log read until {read_until:%Y-%m-%d %H:%M} UTC"


def _summary(subject: _Subject) -> str:
    return str(subject.document["summary" if subject.kind == "key" else "explanation"])


def _late(why: str, window: Window) -> str:
    return f"log lines came late, about the earlier {window_label(window)}: {why}"


# ------------------------------------------------------------------------------------ in the lake


def _use_of_revoked(
    lake: Lake, key_ids: list[str], read_until: datetime | None
) -> dict[str, tuple[datetime, datetime | None, int]]:
    """Of the revoked of `key_ids`: when, the last use that was not refused since, and refusals."""
    rows = lake.rows(
        """
        SELECT i.key_id, i.revoked_at,
            max(a.last_ts) FILTER (NOT is_denied(a.status_class)) AS last_use,
            coalesce(sum(a.events) FILTER (is_denied(a.status_class)), 0)::BIGINT AS refused
        FROM inventory_in_force() AS i
        LEFT JOIN lake.activity AS a
            ON a.key_id = i.key_id AND a.day >= i.revoked_at::DATE AND a.last_ts > i.revoked_at
                AND a.last_ts <= $read_until
        WHERE list_contains($key_ids, i.key_id) AND i.revoked_at <= $read_until
        GROUP BY ALL
        """,
        read_until=read_until,
        key_ids=key_ids,
    )
    return {
        key_id: (revoked_at, last_use, refused) for key_id, revoked_at, last_use, refused in rows
    }


def severity_of(alert: Alert) -> Severity:
    """As `model.severity_of` says; a move to confirm is *low*, and neither a theft nor none.

    *critical* where a key of it is used after its revocation.
    """
    if alert.kind == "migration" and alert.action != "revoke":
        return "low"
    if alert.still_used:
        return "critical"
    cases = alert.cases
    found = [
        model.severity_of(alert.action, blast_radius_of(case), is_shared=alert.kind == "campaign")
        for case in [case for case in cases if case["action"] != "none"] or cases
    ]
    return min(found, key=SEVERITIES.index)


def unlisted_notes(lake: Lake) -> tuple[str, ...]:
    """What is to be said of keys with an alert that the inventory no longer lists.

    Nothing says when such a key was revoked, so its alert would stay open for ever.
    """
    since: dict[str, datetime] = dict(lake.rows("SELECT key_id, since FROM lake.unlisted_keys"))
    return tuple(
        f"{printable(member.key_id)} has an open alert ({alert.alert_id}), but has been missing "
        f"from the inventory since {since[member.key_id]:%Y-%m-%d}: if it was revoked, import its "
        "line with revoked_at (keywatch keys import), and the alert closes once the log shows no "
        "further use; if the use was the owner's, close it with keywatch verdict "
        f"{shlex.quote(printable(member.key_id))} benign --by NAME --because REASON"
        for alert in (not_over(lake) if since else ())
        for member in alert.members
        if member.key_id in since and member.ended is None and member.action != "none"
    )


def not_over(lake: Lake) -> list[Alert]:
    """The alerts that are not closed, the oldest first."""
    return _in_force(lake, "state <> 'closed'")


def opened_since(lake: Lake, since: datetime) -> list[Alert]:
    """The alerts that were opened then or later, as they stand, the oldest first."""
    return _in_force(lake, "opened_at >= $since", since=since)


def waiting(lake: Lake) -> list[Alert]:
    """The alerts that nobody has answered, the oldest first."""
    return _in_force(lake, "state = 'open'")


def in_force(lake: Lake, alert_ids: Collection[str]) -> list[Alert]:
    """These alerts as they stand, the oldest first; without those that are not there."""
    return (
        _in_force(lake, "list_contains($ids, alert_id)", ids=list(alert_ids)) if alert_ids else []
    )


def find(lake: Lake, alert_id: str) -> Alert | None:
    """This alert as it stands; None if there is none."""
    return next(iter(in_force(lake, [alert_id])), None)


def _relevant(lake: Lake, window: Window) -> list[Alert]:
    """The alerts that are not over, and those that were told of a part of `window`."""
    return _in_force(
        lake,
        "state <> 'closed' OR (window_start < $end AND window_end > $start)",
        start=window.start,
        end=window.end,
    )


def newest(lake: Lake) -> int:
    """The sequence of the last change of any alert; 0 where there is none."""
    found: int = lake.value("SELECT coalesce(max(sequence), 0) FROM lake.alerts")
    return found


def changes_after(lake: Lake, sequence: int) -> list[Change]:
    """What became of alerts since a change of this sequence, in order."""
    rows = lake.rows(
        f"""
        SELECT {_COLUMNS}, CASE
            WHEN state = 'closed' THEN 'resolve'
            WHEN coalesce(state_before, 'closed') = 'closed' THEN 'trigger'
            WHEN state <> state_before THEN 'acknowledge'
            ELSE 'update' END
        FROM (
            SELECT *, lag(state) OVER (PARTITION BY alert_id ORDER BY change) AS state_before
            FROM lake.alerts
        )
        WHERE sequence > $sequence
        ORDER BY sequence
        """,
        sequence=sequence,
    )
    return [Change(row[-1], _alert(row)) for row in rows]


_COLUMNS = """
    alert_id, change, kind, members, action, bits, window_start, window_end, state, document,
    opened_at, changed_at, why, coalesce(is_late, false), coalesce(sequence, 0)
"""


def _in_force(lake: Lake, condition: str, **parameters: object) -> list[Alert]:
    rows = lake.rows(
        f"""
        SELECT {_COLUMNS}
        FROM (
            FROM lake.alerts
            QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY change DESC) = 1
        )
        WHERE {condition}
        ORDER BY opened_at, alert_id
        """,
        **parameters,
    )
    return [_alert(row) for row in rows]


def _alert(row: Sequence[Any]) -> Alert:
    return Alert(
        alert_id=row[0], change=row[1], kind=row[2],
        members=tuple(_read_member(member) for member in json.loads(row[3])), action=row[4],
        bits=row[5], window=Window(row[6], row[7]), state=row[8],
        document=json.loads(row[9]), opened_at=row[10], changed_at=row[11], why=row[12],
        is_late=row[13], sequence=row[14],
    )  # fmt: skip


def _read_member(values: dict[str, Any]) -> Member:
    for name in ("known_use_at", "first_told_use_at"):
        if at := values[name]:
            values[name] = datetime.fromisoformat(at)
    return Member(**values)


_SCHEMA = pa.schema(
    [
        ("alert_id", pa.string()),
        ("change", pa.int32()),
        ("kind", pa.string()),
        ("key_ids", pa.list_(pa.string())),
        ("action", pa.string()),
        ("bits", pa.float64()),
        ("window_start", pa.timestamp("us")),
        ("window_end", pa.timestamp("us")),
        ("state", pa.string()),
        ("document", pa.string()),
        ("members", pa.string()),
        ("opened_at", pa.timestamp("us")),
        ("changed_at", pa.timestamp("us")),
        ("why", pa.string()),
        ("is_late", pa.bool_()),
        ("sequence", pa.int64()),
    ]
)


def store(lake: Lake, changes: Sequence[Change]) -> None:
    """Keep the changes; each is the alert's newest from now on."""
    if not changes:
        return
    last = newest(lake)
    rows = [_row(change.alert, last + n) for n, change in enumerate(changes, start=1)]
    lake.append("alerts", pa.Table.from_pylist(rows, schema=_SCHEMA))


def _row(alert: Alert, sequence: int) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "change": alert.change,
        "kind": alert.kind,
        "key_ids": list(alert.key_ids),
        "action": alert.action,
        "bits": alert.bits,
        "window_start": alert.window.start,
        "window_end": alert.window.end,
        "state": alert.state,
        "document": json.dumps(alert.document),
        "members": json.dumps([asdict(member) for member in alert.members], default=_iso),
        "opened_at": alert.opened_at,
        "changed_at": alert.changed_at,
        "why": alert.why,
        "is_late": alert.is_late,
        "sequence": sequence,
    }


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")
