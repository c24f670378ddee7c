"""How alerts are answered: who works on one, comments, and how fast and how rightly they end.

Notes of people stand in ``lake.alert_notes``, which is append-only. The figures are of the alerts
that were opened in the last 90 days, whatever week they are about.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pyarrow as pa

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import ACTIONS, SEVERITIES, Action, DetectorRecord, OpenAlert, Response
from keywatch.review import alerts
from keywatch.review.alerts import Alert, severity_of, story_of

NoteKind = Literal["assigned", "comment"]

DAYS = 90
_LONGEST_TEXT = 1_000


@dataclass(frozen=True)
class Note:
    """What a person noted about an alert; of *assigned* the text says to whom."""

    kind: NoteKind
    text: str
    noted_by: str
    noted_at: datetime


def add_note(lake: Lake, alert: Alert, kind: NoteKind, text: str, by: str) -> Note:
    """Store a note, inside `Lake.writing`.

    Raises:
        UsageError: nobody or nothing is named, or the text is too long.
    """
    text, by = text.strip(), by.strip()
    if not by:
        raise UsageError("a note needs its author: --by NAME")
    if kind == "comment" and not text:
        raise UsageError("the comment is empty")
    if max(len(text), len(by)) > _LONGEST_TEXT:
        raise UsageError(f"a note has at most {_LONGEST_TEXT:,} characters")
    note = Note(kind, text, by, utc_now())
    newest: int = lake.value("SELECT coalesce(max(sequence), 0) FROM lake.alert_notes")
    row = {
        "alert_id": alert.alert_id,
        "kind": kind,
        "text": text,
        "noted_by": by,
        "noted_at": note.noted_at,
        "sequence": newest + 1,
    }
    lake.append("alert_notes", pa.Table.from_pylist([row], schema=_SCHEMA))
    return note


_SCHEMA = pa.schema(
    [
        ("alert_id", pa.string()), ("kind", pa.string()), ("text", pa.string()),
        ("noted_by", pa.string()), ("noted_at", pa.timestamp("us")), ("sequence", pa.int64()),
    ]
)  # fmt: skip


def notes_of(lake: Lake, alert_ids: Iterable[str]) -> dict[str, list[Note]]:
    """The notes of each of these alerts that has some, the oldest first."""
    found: dict[str, list[Note]] = defaultdict(list)
    for alert_id, *values in lake.rows(
        "SELECT alert_id, kind, text, noted_by, noted_at FROM lake.alert_notes "
        "WHERE list_contains($ids::VARCHAR[], alert_id) ORDER BY sequence",
        ids=list(alert_ids),
    ):
        found[alert_id].append(Note(*values))
    return found


def find_open(lake: Lake, named: str, action: Action | None = None) -> Alert:
    """The alert that is not closed with this id, or of the key with this id, masked form or name.

    An id comes before a name. With `action`, one with that action.

    Raises:
        UsageError: there is none, or there are several.
    """
    current = [alert for alert in alerts.not_over(lake) if action in (None, alert.action)]
    found = [alert for alert in current if named in (alert.alert_id, *alert.key_ids)] or [
        alert for alert in current if _called(alert, named)
    ]
    if not found:
        which = f"open alert to {action}" if action else "open alert"
        raise UsageError(f"no {which} of {named}; keywatch alerts list shows the open ones")
    if len(found) > 1:
        ids = ", ".join(alert.alert_id for alert in found)
        key_ids = sorted({key_id for alert in found for key_id in _called(alert, named)})
        keys = f"; it is the name of several keys: {', '.join(key_ids)}" if key_ids[1:] else ""
        raise UsageError(f"{named} has several open alerts, name one by its id: {ids}{keys}")
    return found[0]


def _called(alert: Alert, named: str) -> list[str]:
    """The ids of its keys that have this masked form or name."""
    return [each.key_id for each in alert.members if named in (each.key, each.name)]


def response(lake: Lake, now: datetime) -> Response:
    """The alerts that are not closed, the most urgent first, and the figures of `DAYS` days."""
    current = alerts.not_over(lake)
    notes = notes_of(lake, (alert.alert_id for alert in current))
    shown = [_open_alert(alert, notes.get(alert.alert_id, ())) for alert in current]
    recent = alerts.opened_since(lake, now - timedelta(days=DAYS))
    verdicts = _verdicts(lake)
    outcomes = {alert.alert_id: _was_right(alert, verdicts) for alert in recent}
    over = [alert for alert in recent if alert.state == "closed"]
    return Response(
        as_of=now,
        days=DAYS,
        open=tuple(sorted(shown, key=_urgency)),
        alerts=len(recent),
        closed=len(over),
        right=sum(right is True for right in outcomes.values()),
        wrong=sum(right is False for right in outcomes.values()),
        detect_hours=_median(_hours_to_detect(alert) for alert in recent),
        close_hours=_median(_hours(alert.opened_at, alert.changed_at) for alert in over),
        detectors=_records(recent, outcomes),
    )


def _open_alert(alert: Alert, notes: Sequence[Note]) -> OpenAlert:
    assigned = [note.text for note in notes if note.kind == "assigned"]
    comments = [f"{note.noted_by}: {note.text}" for note in notes if note.kind == "comment"]
    return OpenAlert(
        alert_id=alert.alert_id,
        kind=alert.kind,
        key_ids=alert.key_ids,
        names=tuple(member.name or member.key_id for member in alert.members),
        action=alert.action,
        severity=severity_of(alert),
        state=alert.state,
        opened_at=alert.opened_at,
        window=alert.window,
        story=story_of(alert),
        assignee=(assigned[-1] or None) if assigned else None,
        comment=comments[-1] if comments else None,
    )


def _urgency(alert: OpenAlert) -> tuple[int, int, datetime]:
    return ACTIONS.index(alert.action), SEVERITIES.index(alert.severity), alert.opened_at


def _hours(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds() / 3600


def _hours_to_detect(alert: Alert) -> float | None:
    """From the first suspicious request; None of an alert without one, or of an older Keywatch."""
    begun = [case["chronology"][0]["at"] for case in alert.cases if case.get("chronology")]
    if not begun:
        return None
    return _hours(datetime.fromisoformat(min(begun).removesuffix("Z")), alert.opened_at)


def _median(hours: Iterable[float | None]) -> float | None:
    known = [each for each in hours if each is not None]
    return statistics.median(known) if known else None


_Verdicts = Mapping[str, Sequence[tuple[datetime, datetime, str]]]


def _verdicts(lake: Lake) -> _Verdicts:
    """The verdicts in force, by key: window and verdict."""
    found: dict[str, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    for key_id, start, end, verdict in lake.rows(
        "SELECT key_id, window_start, window_end, verdict FROM verdicts_in_force()"
    ):
        found[key_id].append((start, end, verdict))
    return found


def _was_right(alert: Alert, verdicts: _Verdicts) -> bool | None:
    """Whether a person says that it was a theft; None where nobody has said anything."""
    said = {
        verdict
        for key_id in alert.key_ids
        for start, end, verdict in verdicts.get(key_id, ())
        if start < alert.window.end and end > alert.window.start
    }
    return "compromised" in said if said else None


def _records(
    found: Sequence[Alert], outcomes: Mapping[str, bool | None]
) -> tuple[DetectorRecord, ...]:
    """By detector, those with most verdicts first."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for alert in found:
        right = outcomes[alert.alert_id]
        if right is None:
            continue
        detectors = {
            item["detector"]
            for case in alert.cases
            for item in case.get("evidence", ())
            if item["bits"] > 0 or item.get("action")
        }
        for detector in detectors:
            counts[detector][0 if right else 1] += 1
    ranked = sorted(counts.items(), key=lambda one: (-sum(one[1]), one[0]))
    return tuple(DetectorRecord(detector, *both) for detector, both in ranked)
