"""What every channel is: it sends one message, or says why it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr

from keywatch.deliver.message import Message

ACCEPTED = "accepted"
"""The answer of a recipient who has the message."""


@dataclass(frozen=True)
class Reply:
    """How the owner who gets a question answers it, until `expires_at` (naive, UTC).

    `code` is a secret, and so is the link; neither is ever stored. `has_buttons`: in Slack.
    """

    code: SecretStr
    base_url: str | None
    expires_at: datetime
    has_buttons: bool = False

    @property
    def link(self) -> SecretStr | None:
        """The address of the form to answer; None where there is none."""
        if self.base_url is None:
            return None
        return SecretStr(f"{self.base_url}/answer?code={self.code.get_secret_value()}")


@dataclass(frozen=True)
class Envelope:
    """A message on its way: `tries` before this one, and what the receiver calls the alert's last.

    `previous` is the channel's own reference, as `Channel.send` returned it; None where it gave
    none. `recipients` are the answers to the tries before, where not all recipients have it.
    `reply` is how to answer a question.
    """

    message: Message
    tries: int = 0
    previous: str | None = None
    recipients: Mapping[str, str] = field(default_factory=dict)
    reply: Reply | None = None


class SendError(Exception):
    """The receiver did not take a message; the text says why and holds no secret.

    `retry_after` is the pause in seconds that the receiver asked for; `permanent` says that the
    same message can never succeed. Where a channel has several recipients, `recipients` has each
    one's answer so far, and `remote` is what the receiver calls the message that some of them have.
    `unanswered`: all of the message went out, and whether it arrived is not known.
    """

    def __init__(
        self,
        text: str,
        *,
        retry_after: float | None = None,
        permanent: bool = False,
        recipients: Mapping[str, str] | None = None,
        remote: str | None = None,
        unanswered: bool = False,
    ) -> None:
        super().__init__(text)
        self.retry_after = None if permanent else retry_after
        self.permanent = permanent
        self.recipients = recipients or {}
        self.remote = remote
        self.unanswered = unanswered


class Channel(Protocol):
    """A way to somebody; one thread at a time uses it."""

    def send(self, envelope: Envelope) -> str | None:
        """Send; returns what the receiver calls the message, if it says so.

        Raises:
            SendError: it did not arrive, as far as is known.
        """

    def close(self) -> None:
        """Let go of connections and files."""
