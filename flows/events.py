"""Prefect's events of alerts: one for each change that a flow makes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

from prefect.events import emit_event

from keywatch import pipeline
from keywatch.review.alerts import Change, severity_of
from keywatch.settings import Settings
from keywatch.text.phrases import window_label
from keywatch.text.safe_text import printable
from keywatch.text.secrets import without_tokens

NAMES = {
    "trigger": "keywatch.alert.opened",
    "update": "keywatch.alert.raised",
    "acknowledge": "keywatch.alert.acknowledged",
    "resolve": "keywatch.alert.closed",
}
"""The name of an event, by what became of the alert."""
_MOST_KEYS = 20
_LONGEST_ID = 200


@contextmanager
def alert_events(lake: Path, settings: Settings) -> Iterator[None]:
    """Emit the changes of alerts that are made meanwhile, also if a later step fails."""
    before = pipeline.newest_change(lake, settings)
    try:
        yield
    finally:
        for change in pipeline.changes_after(lake, settings, before):
            emit(change)


def emit(change: Change) -> None:
    """Send one event. The same change has the same id, however often it is sent."""
    alert = change.alert
    keys = [printable(without_tokens(key_id), _LONGEST_ID) for key_id in alert.key_ids]
    shown = keys[:_MOST_KEYS]
    emit_event(
        NAMES[change.what],
        resource={
            "prefect.resource.id": f"keywatch.alert.{alert.alert_id}",
            "prefect.resource.name": f"{alert.action} {', '.join(shown[:3])}",
            "keywatch.action": alert.action,
            "keywatch.severity": severity_of(alert),
        },
        related=[
            {"prefect.resource.id": f"keywatch.key.{key}", "prefect.resource.role": "key"}
            for key in shown
        ],
        payload={
            "alert_id": alert.alert_id,
            "kind": alert.kind,
            "action": alert.action,
            "severity": severity_of(alert),
            "bits": round(alert.bits, 2),
            "window": window_label(alert.window),
            "keys": shown,
            "more_keys": len(keys) - len(shown),
        },
        occurred=alert.changed_at.replace(tzinfo=UTC),
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"keywatch.alert.{alert.alert_id}.{alert.change}"),
    )
