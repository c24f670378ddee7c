"""Slack: one message an alert, as Block Kit.

By an incoming webhook each change is a message of its own. With a bot's token the alert's message
is changed in place, and what has become urgent is also said below it, or nobody would hear.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from keywatch.deliver import http
from keywatch.deliver.channel import Channel, Envelope, SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.deliver.wording import (
    facts,
    inert_message,
    key_lines,
    label,
    reason_text,
    upkeep_lines,
)
from keywatch.deliver_settings import SlackChannel
from keywatch.model import Severity
from keywatch.report.phrases import count, sentence

# https://docs.slack.dev/reference/block-kit/blocks
HEADER_LENGTH = 150
TEXT_LENGTH = 3000
_FALLBACK_LENGTH = 1000
_MARKS: dict[Severity, str] = {
    "critical": "🚨",
    "high": "🔴",
    "medium": "🟠",
    "low": "🔵",
}
_CLOSED = "✅"
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_NEVER = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_too_long", "no_text", "invalid_arguments"}
)

# The library writes addresses and tokens at the level DEBUG; what matters is in the errors.
_SILENT = logging.getLogger("keywatch.deliver.slack.sdk")
_SILENT.setLevel(logging.CRITICAL + 1)


def open_slack(settings: SlackChannel, vault: Vault) -> Channel:
    """The webhook's or the bot's way, as the settings say."""
    return WebhookPoster(settings, vault) if settings.webhook_url else BotPoster(settings, vault)


class WebhookPoster:
    """Posts to an incoming webhook."""

    def __init__(self, settings: SlackChannel, vault: Vault) -> None:
        """Raises SecretError where the webhook's address is not there."""
        assert settings.webhook_url is not None
        url = vault.resolve(settings.webhook_url)
        self._client = WebhookClient(
            url.get_secret_value(),
            timeout=math.ceil(settings.timeout_seconds),
            logger=_SILENT,
            retry_handlers=[],  # the outbox tries again
        )

    def send(self, envelope: Envelope) -> None:
        message = envelope.message
        try:
            response = self._client.send(
                text=fallback_of(message),
                blocks=blocks_of(message),
                unfurl_links=False,
                unfurl_media=False,
            )
        except (OSError, HTTPException, SlackClientError, ValueError) as e:
            raise _no_answer(e) from None
        if response.status_code != 200 or response.body != "ok":
            raise http.refused(response.status_code, response.body, dict(response.headers))

    def close(self) -> None:
        """Each post has a connection of its own."""


class BotPoster:
    """Posts and changes messages in one conversation."""

    def __init__(self, settings: SlackChannel, vault: Vault) -> None:
        """Raises SecretError where the token is not there."""
        assert settings.token is not None
        assert settings.conversation is not None
        self._conversation = settings.conversation
        self._client = WebClient(
            token=vault.resolve(settings.token).get_secret_value(),
            base_url=settings.api_url,
            timeout=math.ceil(settings.timeout_seconds),
            logger=_SILENT,
            retry_handlers=[],
        )

    def send(self, envelope: Envelope) -> str:
        message = envelope.message
        if envelope.previous is None or message.alert_id is None:
            return self._post(message)
        conversation, _, stamp = envelope.previous.partition(":")
        try:
            self._call("chat.update", message, channel=conversation, ts=stamp)
        except _GoneError:
            return self._post(message)
        if message.kind == "update" and message.severity in ("critical", "high"):
            self._post(message, thread_ts=stamp, reply_broadcast=True)
        return envelope.previous

    def _post(self, message: Message, **options: Any) -> str:
        metadata = {"event_type": "keywatch_alert", "event_payload": {"delivery_id": message.id}}
        answer = self._call(
            "chat.postMessage",
            message,
            channel=self._conversation,
            unfurl_links=False,
            unfurl_media=False,
            metadata=metadata,
            **options,
        )
        return f"{answer['channel']}:{answer['ts']}"

    def _call(self, method: str, message: Message, **arguments: Any) -> Mapping[str, Any]:
        body = {"text": fallback_of(message), "blocks": blocks_of(message), **arguments}
        try:
            response = self._client.api_call(method, json=body)
        except SlackApiError as e:
            raise _api_error(e) from None
        except (OSError, HTTPException, SlackClientError, ValueError) as e:
            raise _no_answer(e) from None
        data: Mapping[str, Any] = response.data  # type: ignore[assignment]  # JSON, not bytes
        return data

    def close(self) -> None:
        """Each call has a connection of its own."""


class _GoneError(SendError):
    """The message that was to be changed is not there, or can't be changed any more."""


def _api_error(error: SlackApiError) -> SendError:
    answer = error.response
    said = answer.get("error") if isinstance(answer.data, dict) else None
    if said in _GONE:
        return _GoneError(f"Slack says {said}")
    if said is None or answer.status_code != 200:
        return http.refused(answer.status_code, str(said or ""), dict(answer.headers))
    return SendError(f"Slack says {said}", permanent=said in _NEVER)


def _no_answer(error: Exception) -> SendError:
    reason = getattr(error, "reason", error)
    return SendError(f"no connection or no answer ({type(reason).__name__})")


# --------------------------------------------------------------------------------------- Block Kit


def fallback_of(message: Message) -> str:
    """What notifications show."""
    shown = inert_message(message)
    return _escaped(f"{label(message)}: {shown.title}. {shown.why}"[:_FALLBACK_LENGTH])


def blocks_of(message: Message) -> list[dict[str, Any]]:
    """The message in about fifteen blocks of the 50 that are allowed.

    What can hold text from a log is ``plain_text``, where Slack looks for no mention, link or
    emoji; markup is our own words only.
    """
    shown = inert_message(message)
    mark = _CLOSED if message.kind == "resolve" else _MARKS[message.severity]
    blocks = [
        {"type": "header", "text": _plain([f"{mark} {shown.title}"], HEADER_LENGTH)},
        _marked(f"*{label(message)}* · {message.severity}"),
        *_section("", [shown.why] if shown.why else []),
        *_section("", [f"{name}: {text}" for name, text in facts(shown)]),
        *_section("", [f"• {line}" for line in (*key_lines(shown), *shown.worst)]),
        *(
            block
            for rule, lines in upkeep_lines(shown).items()
            for block in _section("", [sentence(rule), *(f"• {line}" for line in lines)])
        ),
        *_section("Why", _reason_lines(shown)),
        *_section("Do now", [f"{n}. {sentence(step)}" for n, step in enumerate(shown.steps, 1)]),
    ]
    if message.link:
        blocks.append(_marked(f"<{_escaped(message.link)}|Open the case>"))
    foot = [text for text in (shown.command, message.id, message.attribution) if text]
    blocks.append({"type": "context", "elements": [_plain([text], TEXT_LENGTH) for text in foot]})
    return blocks


def _reason_lines(message: Message) -> list[str]:
    lines = []
    for reason in message.reasons:
        lines.append(reason_text(reason))
        lines.append(f"    typical: {reason.typical}")
        lines.append(f"    actual: {reason.actual}")
    if message.more_reasons:
        lines.append(f"and {count(message.more_reasons, 'more reason')}")
    return lines


def _section(heading: str, lines: Sequence[str]) -> list[dict[str, Any]]:
    """The lines under their heading; no block where there are none."""
    if not lines:
        return []
    blocks = [_marked(f"*{heading}*")] if heading else []
    return [*blocks, {"type": "section", "text": _plain(lines, TEXT_LENGTH)}]


def _marked(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _plain(lines: Sequence[str], length: int) -> dict[str, Any]:
    text = "\n".join(lines)
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return {"type": "plain_text", "text": cut, "emoji": False}


def _escaped(text: str) -> str:
    """As Slack's markup wants it: no ``<!channel>``, no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
