"""The wording that all channels for people share, and text that no program interprets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from keywatch.deliver.channel import Reply
from keywatch.deliver.message import Key, Message, Place, Reason, Upkeep
from keywatch.report.upkeep import rule_name
from keywatch.text.phrases import count, minute, sentence

_SCHEME = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*)(://)")
_MAILTO = re.compile(r"(?i)\b(mailto|javascript|data|tel|file):")
# Mail and chat programs make a link of whatever looks like a host.
_HOST = re.compile(r"(?i)\b((?:[\w-]+\.)+)([^\W\d_]{2,}|xn--[a-z0-9-]+)\b")
_FORMULA = tuple("=+-@")
_LABELS = {
    "trigger": "New alert",
    "update": "Update",
    "acknowledge": "Acknowledged",
    "resolve": "Closed",
    "summary": "Summary",
    "report": "Report",
    "upkeep": "Key hygiene, no alert",
    "heartbeat": "Heartbeat, no alert",
    "test": "Test message, no alert",
    "question": "A question to the owner of a key",
}


def inert(text: str) -> str:
    """`text` in which nothing becomes a link, a mention or a formula.

    Addresses get brackets, as analysts write them: ``https[:]//evil[.]example``.
    """
    text = _SCHEME.sub(r"\1[:]//", text)
    text = _MAILTO.sub(r"\1[:]", text)
    text = _HOST.sub(lambda match: f"{match[1][:-1]}[.]{match[2]}", text)
    return f"'{text}" if text.startswith(_FORMULA) else text


_OUR_OWN = {
    "id",
    "alert_id",
    "at",
    "kind",
    "severity",
    "action",
    "link",
    "attachment",
    "attribution",
    "recipient",
}


def inert_message(message: Message) -> Message:
    """`message` with `inert` done to all that can hold text from a log."""
    if message.kind == "report":
        return message
    changes = {
        item.name: _inert_value(getattr(message, item.name))
        for item in fields(message)
        if item.name not in _OUR_OWN
    }
    return replace(message, **changes)


def _inert_value(value: Any) -> Any:
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, tuple):
        return tuple(_inert_value(item) for item in value)
    if isinstance(value, Key | Reason | Place | Upkeep):
        return replace(
            value,
            **{item.name: _inert_value(getattr(value, item.name)) for item in fields(value)},
        )
    return value


def label(message: Message) -> str:
    """``New alert``."""
    return _LABELS[message.kind]


def reason_text(reason: Reason) -> str:
    """The explanation with its bits; a fact that has none stands by itself."""
    bits = f" ({reason.bits:.1f} bits)" if reason.bits else ""
    return f"{sentence(reason.explanation)}{bits}"


def place_text(place: Place) -> str:
    """``45.153.78.122 (AS9009 M247, RO, vpn): 91 requests``."""
    known = ", ".join(part for part in (place.network, place.country, place.origin_class) if part)
    return f"{place.ip} ({known or 'not located'}): {count(place.requests, 'request')}"


def key_text(key: Key) -> str:
    """A key of a group, in one line."""
    facts = [part for part in (key.key, key.name, key.owner and f"owner {key.owner}") if part]
    ended = f"; {key.ended}" if key.ended else ""
    return f"{key.key_id} ({', '.join(facts) or 'not in the inventory'}): {key.action}{ended}"


def facts(message: Message) -> Iterator[tuple[str, str]]:
    """Label and text of what is known of the alert, less reasons and steps."""
    if len(message.keys) == 1:
        key = message.keys[0]
        yield "key", " · ".join(part for part in (key.key_id, key.key, key.name) if part)
        if text := " · ".join(part for part in (key.owner, key.environment) if part):
            yield "owner" if key.owner else "environment", text
        if key.ended:
            yield "ended", key.ended
    if message.window:
        yield "window", message.window
    for place in message.places:
        yield "from", place_text(place)
    if message.more_places:
        yield "from", f"and {count(message.more_places, 'more address', 'more addresses')}"
    if message.done:
        yield "activity", message.done
    if message.may:
        yield "scopes", message.may
    for text in message.what_else:
        yield "may also be", text
    for text in message.attacks:
        yield "ATT&CK", text
    if message.if_revoked:
        yield "if revoked", message.if_revoked
    for text in message.asked:
        yield "owner asked", text


def key_lines(message: Message) -> list[str]:
    """The keys of a group, one a line; none for an alert of one key."""
    if len(message.keys) < 2:
        return []
    more = [f"and {count(message.more_keys, 'more key')}"] if message.more_keys else []
    return [key_text(key) for key in message.keys] + more


def upkeep_lines(message: Message) -> dict[str, list[str]]:
    """A line a key with upkeep to do, by the rule it breaks; the last one says how many more."""
    rules: dict[str, list[str]] = {}
    for item in message.upkeep:
        who = ", ".join(part for part in (item.name, item.owner or "no owner") if part)
        line = f"{item.key_id} ({who}): {item.explanation}"
        rules.setdefault(rule_name(item.rule), []).append(line)
    if message.more_upkeep:
        more = f"and {message.more_upkeep:,} more"
        rules["not listed here"] = [f"{more}: see {message.command} --format json"]
    return rules


def reply_lines(reply: Reply) -> list[str]:
    """How the owner answers; with the code, which is a secret."""
    until = f"{minute(reply.expires_at)} UTC"
    if reply.link is not None:
        return [f"To answer, until {until}: {reply.link.get_secret_value()}", _WARNING]
    code = reply.code.get_secret_value()
    return [
        f"To answer, until {until}, one of:",
        f"  keywatch answer {code} yes",
        f"  keywatch answer {code} yes --until DATE",
        f"  keywatch answer {code} no",
        f"  keywatch answer {code} not-mine",
        _WARNING,
    ]


_WARNING = "The answer counts as yours: do not forward this message."


def as_text(message: Message, reply: Reply | None = None) -> str:
    """The whole message as plain text, lines of any length; of a question, how to answer it."""
    lines = [f"{message.title}  [{message.severity}]"]
    if message.why:
        lines.append(f"  {message.why}")
    for name, text in facts(message):
        lines.append(f"  {name:13}{text}")
    lines += [f"  - {line}" for line in (*key_lines(message), *message.worst)]
    for rule, keys in upkeep_lines(message).items():
        lines += [f"  {rule}", *(f"  - {line}" for line in keys)]
    for reason in message.reasons:
        lines.append(f"  why          {reason_text(reason)}")
        lines.append(f"               typical  {reason.typical}")
        lines.append(f"               actual   {reason.actual}")
    if message.more_reasons:
        lines.append(f"               and {count(message.more_reasons, 'more reason')}")
    for number, step in enumerate(message.steps, start=1):
        lines.append(f"  step {number:>2}.     {sentence(step)}")
    for name, text in (
        ("details", message.command),
        ("link", message.link or ""),
        ("id", message.id),
    ):
        if text:
            lines.append(f"  {name:13}{text}")
    if message.attribution:
        lines.append(f"  {message.attribution}")
    if reply is not None:
        lines += ["", *reply_lines(reply)]
    return "\n".join(lines) + "\n"
