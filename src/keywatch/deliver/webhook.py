"""JSON by ``message.schema.json``, signed as Standard Webhooks 1.0 says.

``webhook-id`` is the message's id, the same however often it is sent: a receiver that keeps the ids
it has acted on acts once. While a secret is rotated, both sign: ``webhook-signature`` has two
signatures with a space between them, and a receiver takes the message by either.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

from keywatch.deliver import http
from keywatch.deliver.channel import Envelope
from keywatch.deliver.credentials import Vault
from keywatch.errors import SecretError
from keywatch.settings.deliver import WebhookChannel
from keywatch.settings.secret_ref import SecretRef
from keywatch.text.phrases import count

_FEWEST_BYTES = 24
"""Standard Webhooks 1.0, signature scheme."""


class WebhookSender:
    """POSTs each message to one address."""

    def __init__(self, settings: WebhookChannel, vault: Vault) -> None:
        """Raises SecretError where the address or the signing secret is not there, or wrong."""
        address = settings.url
        self._url = SecretStr(address) if isinstance(address, str) else vault.web_address(address)
        refs = [settings.secret, settings.previous_secret]
        self._signers = [_signer(ref, vault) for ref in refs if ref is not None]
        self._http = http.client(settings.timeout_seconds)

    def send(self, envelope: Envelope) -> None:
        message = envelope.message
        body = message.to_json()
        now = datetime.now(UTC)
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(
                signer.sign(message.id, now, body) for signer in self._signers
            ),
        }
        http.post(self._http, self._url.get_secret_value(), body.encode("ascii"), headers)

    def close(self) -> None:
        self._http.close()


def _signer(ref: SecretRef, vault: Vault) -> Webhook:
    text = vault.resolve(ref).get_secret_value().removeprefix("whsec_")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise SecretError(
            f"the secret in {ref} is not a signing secret; expected whsec_ followed by Base64"
        ) from None
    if len(secret) < _FEWEST_BYTES:
        raise SecretError(
            f"the signing secret in {ref} has {count(len(secret), 'byte')}, but at least "
            f"{_FEWEST_BYTES} are needed; create one with: echo whsec_$(openssl rand -base64 32)"
        )
    return Webhook(secret)
