"""PagerDuty's Events API v2: an alert, or a summary, is one incident; its id is ``dedup_key``."""

from __future__ import annotations

import json
from typing import Any

from keywatch.deliver import http
from keywatch.deliver.channel import Envelope
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.deliver.wording import facts, inert_message, key_lines, label, place_text, reason_text
from keywatch.model import Severity
from keywatch.settings.deliver import PagerDutyChannel

# https://developer.pagerduty.com/docs/events-api-v2-overview
SUMMARY_LENGTH = 1024
_SEVERITIES: dict[Severity, str] = {
    "critical": "critical",
    "high": "error",
    "medium": "warning",
    "low": "info",
}
_ACTIONS = {"acknowledge": "acknowledge", "resolve": "resolve"}


class PagerDutySender:
    """Sends events of one integration."""

    def __init__(self, settings: PagerDutyChannel, vault: Vault) -> None:
        """Raises SecretError where the routing key is not there."""
        self._url = settings.url
        self._routing_key = vault.resolve(settings.routing_key)
        self._http = http.client(settings.timeout_seconds)

    def send(self, envelope: Envelope) -> str:
        event = event_of(envelope.message)
        event["routing_key"] = self._routing_key.get_secret_value()
        http.post(self._http, self._url, json.dumps(event).encode("ascii"), {})
        return str(event["dedup_key"])

    def close(self) -> None:
        self._http.close()


def event_of(message: Message) -> dict[str, Any]:
    """The event less the routing key; a few kilobytes of the 512 kB that are allowed."""
    action = _ACTIONS.get(message.kind, "trigger")
    event: dict[str, Any] = {
        "event_action": action,
        "dedup_key": message.alert_id or message.summary_id or message.id,
    }
    if action != "trigger":
        return event
    shown = inert_message(message)
    if message.link:
        event["links"] = [{"href": message.link, "text": "Case"}]
    return event | {
        "client": "Keywatch",
        "payload": {
            "summary": f"{shown.title}: {shown.why}"[:SUMMARY_LENGTH],
            "source": shown.keys[0].key_id if shown.keys else "keywatch",
            "severity": _SEVERITIES[message.severity],
            "timestamp": message.at,
            "class": f"{label(message)}: {message.action}",
            "custom_details": _details(shown),
        },
    }


def _details(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = dict(facts(message))
    told["from"] = [place_text(place) for place in message.places]
    told["keys"] = [*key_lines(message), *message.worst]
    told["reasons"] = [
        {"why": reason_text(reason), "typical": reason.typical, "actual": reason.actual}
        for reason in message.reasons
    ]
    told["steps"] = [f"{number}. {step}" for number, step in enumerate(message.steps, start=1)]
    told["case"] = message.command
    told["message_id"] = message.id
    told["attribution"] = message.attribution
    return {name: value for name, value in told.items() if value}
