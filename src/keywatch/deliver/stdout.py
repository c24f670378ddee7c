"""Text on standard output."""

from __future__ import annotations

from keywatch.deliver.channel import Envelope, SendError
from keywatch.deliver.credentials import Vault
from keywatch.deliver.wording import as_text
from keywatch.settings.deliver import StdoutChannel


class StdoutWriter:
    """Prints each message."""

    def __init__(self, settings: StdoutChannel, vault: Vault) -> None:
        """There is nothing to set."""

    def send(self, envelope: Envelope) -> None:
        try:
            print(as_text(envelope.message), flush=True)
        except (OSError, ValueError) as e:
            raise SendError(f"standard output: {e}") from None

    def close(self) -> None:
        """Standard output stays open."""
