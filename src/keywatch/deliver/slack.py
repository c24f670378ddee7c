"""Slack: one message an alert, as Block Kit.

By an incoming webhook each change is a message of its own. With a bot's token the alert's message
is changed in place, and what has become urgent is also said below it, or nobody would hear.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from keywatch.deliver import http
from keywatch.deliver.channel import Channel, Envelope, Reply, SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.deliver.wording import (
    facts,
    inert_message,
    key_lines,
    label,
    reason_text,
    reply_lines,
    upkeep_lines,
)
from keywatch.model import Severity
from keywatch.settings.deliver import SlackChannel
from keywatch.text.phrases import count, sentence
from keywatch.text.safe_text import printable

# https://docs.slack.dev/reference/block-kit/blocks
HEADER_LENGTH = 150
TEXT_LENGTH = 3000
_FALLBACK_LENGTH = 1000
_ERROR_LENGTH = 100
_MARKS: dict[Severity, str] = {
    "critical": "🚨",
    "high": "🔴",
    "medium": "🟠",
    "low": "🔵",
}
_CLOSED = "✅"
BUTTONS = "keywatch_answer_"
"""How the ids of what a question is answered with begin."""
ANSWERS = {
    "once": "Yes, this once",
    "until": "Yes, until that day",
    "no": "No",
    "not_mine": "Not my key",
}
"""The buttons of a question."""
_MEANING = (
    "No: the key is treated as stolen. Not my key: you are not its owner. In both cases, and "
    "without an answer in time, the security team is notified."
)
_SUGGESTED = timedelta(days=30)
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_NEVER = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_too_long", "no_text", "invalid_arguments"}
)


def open_slack(settings: SlackChannel, vault: Vault) -> Channel:
    """The webhook's or the bot's way, as the settings say."""
    return WebhookPoster(settings, vault) if settings.webhook_url else BotPoster(settings, vault)


class WebhookPoster:
    """Posts to an incoming webhook."""

    def __init__(self, settings: SlackChannel, vault: Vault) -> None:
        """Raises SecretError where the webhook's address is not there."""
        assert settings.webhook_url is not None
        self._url = vault.web_address(settings.webhook_url)
        self._http = http.client(settings.timeout_seconds)

    def send(self, envelope: Envelope) -> None:
        url = self._url.get_secret_value()
        body = _content(envelope.message) | {"unfurl_links": False, "unfurl_media": False}
        answer = http.post(self._http, url, _json(body), {})
        if answer.text != "ok":
            raise SendError(f"Slack refused the message{http.said(answer.text)}")

    def close(self) -> None:
        self._http.close()


class BotPoster:
    """Posts and changes messages in one conversation."""

    def __init__(self, settings: SlackChannel, vault: Vault) -> None:
        """Raises SecretError where the token is not there."""
        assert settings.token is not None
        assert settings.conversation is not None
        self._conversation = settings.conversation
        self._api = settings.api_url.rstrip("/")
        self._token = vault.resolve(settings.token)
        self._http = http.client(settings.timeout_seconds)

    def send(self, envelope: Envelope) -> str:
        message = envelope.message
        if message.recipient is not None:
            return self._post(message, envelope.reply, channel=message.recipient.to)
        if envelope.previous is None or message.alert_id is None:
            return self._post(message)
        conversation, _, stamp = envelope.previous.partition(":")
        try:
            self._call("chat.update", message, channel=conversation, ts=stamp)
        except _GoneError:
            return self._post(message)
        if message.kind in ("trigger", "update") and message.severity in ("critical", "high"):
            self._post(message, thread_ts=stamp, reply_broadcast=True)
        return envelope.previous

    def _post(self, message: Message, reply: Reply | None = None, **options: Any) -> str:
        metadata = {"event_type": "keywatch_alert", "event_payload": {"delivery_id": message.id}}
        posted = {
            "channel": self._conversation,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": metadata,
        }
        answer = self._call("chat.postMessage", message, reply, **posted | options)
        return f"{answer['channel']}:{answer['ts']}"

    def _call(
        self, method: str, message: Message, reply: Reply | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        body = _content(message, reply) | arguments
        return call_api(self._http, self._api, method, self._token, body)

    def close(self) -> None:
        self._http.close()


class _GoneError(SendError):
    """The message that was to be changed is not there, or can't be changed any more."""


def call_api(
    client: httpx.Client, api: str, method: str, token: SecretStr, body: Mapping[str, Any]
) -> dict[str, Any]:
    """What Slack's API, at the address `api`, answers to a call.

    Raises:
        SendError: no answer, one that is not Slack's, or a refusal.
    """
    headers = {"authorization": f"Bearer {token.get_secret_value()}"}
    answer = http.post(client, f"{api}/{method}", _json(body), headers)
    try:
        data = json.loads(answer.text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise SendError("the answer is not from Slack: set api_url to the address of its API")
    if data.get("ok") is not True:
        error = printable(str(data.get("error")), _ERROR_LENGTH)
        raise _api_error(error, http.retry_after(answer.headers))
    return data


def _api_error(error: str, retry_after: float | None) -> SendError:
    if error in _GONE:
        return _GoneError(f"Slack answered {error}")
    permanent = error in _NEVER
    return SendError(f"Slack answered {error}", retry_after=retry_after, permanent=permanent)


def _content(message: Message, reply: Reply | None = None) -> dict[str, Any]:
    blocks = blocks_of(message)
    if reply is not None:
        blocks[-1:-1] = _answering(reply)
    return {"text": fallback_of(message), "blocks": blocks}


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode("ascii")


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
        *_section(
            "Next steps", [f"{n}. {sentence(step)}" for n, step in enumerate(shown.steps, 1)]
        ),
    ]
    if message.link:
        blocks.append(_marked(f"<{_escaped(message.link)}|Open the case>"))
    foot = [text for text in (shown.command, message.id, message.attribution) if text]
    blocks.append({"type": "context", "elements": [_plain([text], TEXT_LENGTH) for text in foot]})
    return blocks


def _answering(reply: Reply) -> list[dict[str, Any]]:
    """How the owner answers a question: buttons, where something listens for them, or a link.

    Their values hold the code, which Slack gives back as it is.
    """
    lines = reply_lines(reply)
    if reply.has_buttons:
        code = reply.code.get_secret_value()
        buttons = [
            {
                "type": "button",
                "action_id": f"{BUTTONS}{answer}",
                "value": code,
                "text": _plain([text], TEXT_LENGTH),
                **({"style": "danger"} if answer == "no" else {}),
            }
            for answer, text in ANSWERS.items()
        ]
        day = (reply.expires_at + _SUGGESTED).date().isoformat()
        picker = {"type": "datepicker", "action_id": f"{BUTTONS}day", "initial_date": day}
        block = {"type": "actions", "block_id": BUTTONS, "elements": [picker, *buttons]}
        return [block, _context(_MEANING), _context(lines[-1])]
    if reply.link is not None:
        link = _escaped(reply.link.get_secret_value())
        return [_marked(f"*<{link}|Answer this question>*"), _context(lines[-1])]
    return [{"type": "section", "text": _plain(lines, TEXT_LENGTH)}]


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [_plain([text], TEXT_LENGTH)]}


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
