"""A test message to one channel: sent as real ones are, and stored nowhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from keywatch.deliver import sender
from keywatch.deliver.channel import Channel, Envelope, SendError
from keywatch.deliver.channels import open_channel
from keywatch.deliver.claims import claims_of
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Message
from keywatch.errors import ChannelError, LakeBusyError, SecretError, UsageError
from keywatch.hints import unknown
from keywatch.lake import Lake, utc_now
from keywatch.notices import is_stopping
from keywatch.settings.deliver import ChannelSettings, DeliverSettings
from keywatch.text.document import rfc3339
from keywatch.text.safe_text import printable

_LOOK_AGAIN_SECONDS = 1.0
_ERROR_LENGTH = 300

_ARRIVED = {
    "slack": "Slack accepted it; look for it in the conversation",
    "pagerduty": "PagerDuty accepted it; its incident was opened and resolved again",
    "webhook": "the receiver accepted it",
    "mail": "the mail server accepted it; look in the inbox, and in the spam folder",
    "file": "it is in the file",
    "stdout": "it is printed above",
}

_FIXES = [
    ("slack", "HTTP 403", "the webhook was revoked or its channel archived: create a new webhook"),
    ("slack", "HTTP 404", "Slack has no such webhook: create one and store its address"),
    ("slack", "invalid_auth", "store the bot's token (xoxb-…) where the settings name it"),
    ("slack", "not_in_channel", "invite the bot to the conversation: /invite @NAME"),
    ("slack", "channel_not_found", "set conversation to the id of the conversation (C0123456789)"),
    ("slack", "missing_scope", "give the bot the scope chat:write"),
    ("pagerduty", "HTTP 400", "use the integration key of an Events API v2 integration"),
    ("webhook", "HTTP 401", "receiver and Keywatch must have the same signing secret"),
    ("webhook", "HTTP 403", "receiver and Keywatch must have the same signing secret"),
    ("webhook", "HTTP 404", "check the path in url"),
    ("webhook", "HTTP 405", "the receiver must accept POST: check the path in url"),
    ("mail", "(535)", "check username and the password that the settings name"),
    ("file", "No such file", "create the folder of path"),
    ("file", "Permission denied", "let this user write to path"),
    ("file", "temporarily unavailable", "another process has the file: try again"),
    ("", "no connection", "check the address, and that this machine may connect to it"),
    ("", "in time", "check the address, and that this machine may connect to it"),
    ("", "HTTP 429", "the receiver limits messages: try again later"),
    ("", "HTTP 5", "the receiver has a fault: try again later"),
]
"""Kind of channel, a part of what went wrong, and how to fix it; the first that applies."""


def send_test(
    lake: Lake | None, name: str, settings: DeliverSettings, *, wait_seconds: float = 0.0
) -> str:
    """Send one message, marked as a test, to the channel `name` now; returns what became of it.

    It goes the way of real ones: with the channel's credentials and, if there is a lake, with the
    claim of its sender, for which it waits. It is in no outbox, of no alert, and in no budget.

    Raises:
        UsageError: there is no such channel.
        SecretError: a secret of the channel is not where the settings say.
        ChannelError: it did not arrive, as far as is known; the text has the reason and the fix.
        LakeBusyError: another process or machine sent for longer than `wait_seconds`.
    """
    if not settings.channels:
        raise UsageError("no channel is configured: add [deliver.channels.NAME] to keywatch.toml")
    if name not in settings.channels:
        raise UsageError(unknown("channel", name, settings.channels))
    one = settings.channels[name]
    vault = Vault()
    try:
        channel = open_channel(one, vault)
    except SecretError as e:
        raise SecretError(f"channel {name}: {e}") from None
    with _own(lake, name, settings, wait_seconds):
        try:
            _send(channel, trial_messages(name, one))
        except SendError as e:
            raise ChannelError(_failed(name, one, vault.hide(str(e)), e)) from None
        finally:
            channel.close()
    return f"channel {name} ({one.kind}): the test message was sent: {_ARRIVED[one.kind]}"


def trial_messages(name: str, channel: ChannelSettings) -> list[Message]:
    """The test message; for PagerDuty also the one that resolves its incident."""
    at = rfc3339(utc_now())
    test = Message(
        id=f"msg_{uuid.uuid4().hex[:24]}",
        kind="test",
        at=at,
        title=printable(f"Test of the channel {name}: this is no alert"),
        severity="low",
        why="Someone ran keywatch deliver --test or keywatch init. No key is suspected, and "
        "nothing has to be done.",
        command=printable(f"keywatch deliver --test {name}"),
    )
    if channel.kind != "pagerduty":
        return [test]
    over = Message(
        id=f"msg_{uuid.uuid4().hex[:24]}",
        kind="resolve",
        at=at,
        title="CLOSED test",
        severity="low",
        summary_id=test.id,
    )
    return [test, over]


def _send(channel: Channel, messages: list[Message]) -> None:
    test, *after = messages
    channel.send(Envelope(test))
    for message in after:
        try:
            channel.send(Envelope(message))
        except SendError as e:
            raise SendError(
                f"it arrived, but its incident {test.id} was not resolved ({e}): resolve it by hand"
            ) from None


def _failed(name: str, one: ChannelSettings, why: str, error: SendError) -> str:
    told = printable(why, _ERROR_LENGTH)
    fixes = (fix for kind, part, fix in _FIXES if kind in ("", one.kind) and part in told)
    fix = next(fixes, "")
    state = "may have arrived" if error.unanswered else "did not arrive"
    return f"channel {name} ({one.kind}): the test message {state}: {told}" + (
        f"; {fix}" if fix else ""
    )


@contextmanager
def _own(
    lake: Lake | None, name: str, settings: DeliverSettings, wait_seconds: float
) -> Iterator[None]:
    """The only one that sends for the channel, where there is a lake to be sent from."""
    if lake is None:
        yield
        return
    deadline = time.monotonic() + wait_seconds
    with sender.only_sender(lake, wait_seconds), claims_of(lake, settings) as claims:
        while not claims.take({name}):
            if time.monotonic() >= deadline or is_stopping():
                held = claims.others().get(name, "another machine sends for it")
                raise LakeBusyError(f"channel {name}: {held}; try again later")
            time.sleep(_LOOK_AGAIN_SECONDS)
        yield
