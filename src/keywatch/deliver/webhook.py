"""JSON by ``message.schema.json``, signed as Standard Webhooks 1.0 says.

``webhook-id`` is the message's id, the same however often it is sent: a receiver that keeps the ids
it has acted on acts once.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

from keywatch.deliver import http
from keywatch.deliver.channel import Envelope
from keywatch.deliver.credentials import Vault
from keywatch.deliver_settings import WebhookChannel
from keywatch.errors import SecretError


class WebhookSender:
    """POSTs each message to one address."""

    def __init__(self, settings: WebhookChannel, vault: Vault) -> None:
        """Raises SecretError where the address or the signing secret is not there, or wrong."""
        address = settings.url
        self._url = SecretStr(address) if isinstance(address, str) else vault.web_address(address)
        secret = vault.resolve(settings.secret)
        try:
            self._signer = Webhook(secret.get_secret_value())
        except (Base64Error, ValueError, RuntimeError):
            raise SecretError(
                f"the secret in {settings.secret} is no signing secret; "
                "whsec_ and Base64 is expected"
            ) from None
        self._http = http.client(settings.timeout_seconds)

    def send(self, envelope: Envelope) -> None:
        message = envelope.message
        body = message.to_json()
        now = datetime.now(UTC)
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message.id, now, body),
        }
        http.post(self._http, self._url.get_secret_value(), body.encode("ascii"), headers)

    def close(self) -> None:
        self._http.close()
