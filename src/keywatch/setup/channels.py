"""A channel in one line, such as ``slack env:SLACK_WEBHOOK``; a secret is named, never typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keywatch.errors import UsageError
from keywatch.hints import unknown
from keywatch.settings import explaining
from keywatch.settings.deliver import DeliverSettings

FORMS = {
    "slack": "slack env:NAME",
    "pagerduty": "pagerduty env:NAME",
    "webhook": "webhook URL env:NAME",
    "mail": "mail HOST[:PORT] FROM TO… env:NAME",
    "file": "file PATH",
}
"""How each kind is written."""
_NAMES = {
    "slack": "chat", "pagerduty": "pager", "webhook": "webhook", "mail": "mail", "file": "log",
}  # fmt: skip
_VARIABLES = {
    "slack": "SLACK_WEBHOOK", "pagerduty": "PAGERDUTY_KEY", "webhook": "WEBHOOK_SECRET",
}  # fmt: skip
_TLS_PORT = 465

Values = dict[str, Any]


def channel_of(words: Sequence[str]) -> tuple[str, Values, DeliverSettings] | None:
    """The channel that `words` describe: its name, its values for TOML, and the settings with it.

    None for ``none``.

    Raises:
        UsageError: they describe none; what was typed in place of a secret's name is not shown.
    """
    if list(words) in ([], ["none"]):
        return None
    kind, *rest = words
    if kind not in FORMS:
        raise UsageError(unknown("kind of channel", kind, [*FORMS, "none"]))
    values = {"kind": kind} | _values(kind, rest)
    name = _NAMES[kind]
    try:
        return name, values, DeliverSettings.model_validate({"channels": {name: values}})
    except ValidationError as e:
        lines = explaining.explain(e, DeliverSettings, None, "", {}).splitlines()
        told = "; ".join(line.partition(f"channels.{name}")[2].lstrip(".: ") for line in lines)
        raise UsageError(f"channel {kind}: {told}") from None


def _values(kind: str, words: list[str]) -> Values:
    refs = [_reference(word) for word in words if _is_reference(word)]
    plain = [word for word in words if not _is_reference(word)]
    match kind:
        case "slack" if not plain and len(refs) < 2:
            return {"webhook_url": _or_variable(refs, kind)}
        case "pagerduty" if not plain and len(refs) < 2:
            return {"routing_key": _or_variable(refs, kind)}
        case "webhook" if len(plain) == 1 and len(refs) < 2:
            return {"url": plain[0], "secret": _or_variable(refs, kind)}
        case "webhook" if not plain and len(refs) == 2:
            return {"url": refs[0], "secret": refs[1]}
        case "mail" if len(plain) > 2 and len(refs) < 2 and all("@" in one for one in plain[1:]):
            return _mail(plain, refs)
        case "file" if len(plain) == 1 and not refs:
            return {"path": str(Path(plain[0]).expanduser().absolute())}
    raise UsageError(
        f"write the channel as {FORMS[kind]}. A secret is not typed: env:NAME names an environment "
        "variable that has it, file:PATH a file"
    )


def _mail(plain: list[str], refs: list[Values]) -> Values:
    host, sender, *to = plain
    name, _, port = host.partition(":")
    values: Values = {"host": name}
    if port and not (port.isascii() and port.isdigit()):
        raise UsageError(f"write the channel as {FORMS['mail']}; a port is a number")
    if port:
        values["port"] = int(port)
    if values.get("port") == _TLS_PORT:
        values["security"] = "tls"
    values |= {"sender": sender, "to": to}
    return values | ({"username": sender, "password": refs[0]} if refs else {})


def _is_reference(word: str) -> bool:
    return word.startswith(("env:", "file:"))


def _reference(word: str) -> Values:
    place, _, name = word.partition(":")
    if place == "file":
        return {"file": str(Path(name).expanduser().absolute())}
    if not name.isidentifier():
        raise UsageError(
            "env: takes the name of an environment variable, such as env:SLACK_WEBHOOK"
        )
    return {"env": name}


def _or_variable(refs: list[Values], kind: str) -> Values:
    return refs[0] if refs else {"env": _VARIABLES[kind]}
