"""The secret of the hashes of keys: one for all machines of a lake, which has its fingerprint."""

from __future__ import annotations

import hmac
from pathlib import Path

from keywatch.errors import SecretError
from keywatch.settings.secret_ref import prefect_block
from keywatch.settings.storage import LakeSettings
from keywatch.text.secrets import SECRET_FILE, load_or_create_secret, parse_secret

_FINGERPRINT_OF = b"keywatch: fingerprint of a key-hash secret"
_FINGERPRINT_DIGITS = 16


def secret_place(folder: Path, settings: LakeSettings) -> str:
    """Where this machine has the secret of the lake in `folder`, in words."""
    return str(settings.key_hash_secret or folder / SECRET_FILE)


def own_secret(folder: Path, settings: LakeSettings) -> bytes | None:
    """This machine's secret of the lake in `folder` (32 bytes); None where it has none.

    Raises:
        SecretError: the settings name a place where there is none.
        LakeDamagedError: the file in the folder is none.
    """
    if (ref := settings.key_hash_secret) is not None:
        secret = parse_secret(ref.read(prefect_block).get_secret_value())
        if secret is None:
            raise SecretError(
                f"{ref}: not a key-hash secret (64 hex digits); store there what key-hash.secret "
                "contains in the folder of a machine that uses the lake"
            )
        return secret
    file = folder / SECRET_FILE
    return load_or_create_secret(file) if file.exists() else None


def fingerprint(secret: bytes) -> str:
    """16 hex digits by which a secret is known again; it can't be found from them."""
    return hmac.digest(secret, _FINGERPRINT_OF, "sha256").hex()[:_FINGERPRINT_DIGITS]


def wrong_secret(folder: Path, settings: LakeSettings, own: str, lakes: str) -> SecretError:
    """What to say of a secret whose fingerprint is not the lake's."""
    return SecretError(
        f"{folder}: this machine's key-hash secret ({secret_place(folder, settings)}, fingerprint "
        f"{own}) is not the lake's (fingerprint {lakes}); nothing was stored, because one key "
        f"would have two hashes. {_MEND}"
    )


def no_secret(folder: Path, lakes: str) -> SecretError:
    """What to say where a machine of a shared lake has no secret."""
    return SecretError(
        f"{folder}: this machine does not have the key-hash secret of the shared lake (fingerprint "
        f"{lakes}); nothing was stored. {_MEND}"
    )


_MEND = (
    "Name the lake's secret in storage.key_hash_secret, or copy key-hash.secret from the folder "
    "of a machine that loads into the lake"
)
