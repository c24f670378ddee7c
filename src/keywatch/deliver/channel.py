"""What every channel is: it sends one message, or says why it could not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keywatch.deliver.message import Message


@dataclass(frozen=True)
class Envelope:
    """A message on its way: `tries` before this one, and what the receiver calls the alert's last.

    `previous` is the channel's own reference, as `Channel.send` returned it; None where it gave
    none.
    """

    message: Message
    tries: int = 0
    previous: str | None = None


class SendError(Exception):
    """The receiver did not take a message; the text says why and holds no secret.

    `retry_after` is the pause in seconds that the receiver asked for; `permanent` says that the
    same message can never succeed.
    """

    def __init__(
        self, text: str, *, retry_after: float | None = None, permanent: bool = False
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.permanent = permanent


class Channel(Protocol):
    """A way to somebody; one thread at a time uses it."""

    def send(self, envelope: Envelope) -> str | None:
        """Send; returns what the receiver calls the message, if it says so.

        Raises:
            SendError: it did not arrive, as far as is known.
        """

    def close(self) -> None:
        """Let go of connections and files."""
