"""The secret of the hashes of keys: one for all machines of a lake, which has its fingerprint."""

from __future__ import annotations

import hmac
from pathlib import Path

from keywatch.errors import LakeDamagedError, SecretError
from keywatch.settings.secret_ref import prefect_block
from keywatch.settings.storage import LakeSettings
from keywatch.text.secrets import (
    HOW_TO_MEND_THE_SECRET,
    SECRET_FILE,
    load_or_create_secret,
    parse_secret,
)

_FINGERPRINT_OF = b"keywatch: fingerprint of a key-hash secret"
_FINGERPRINT_DIGITS = 16
_MEND = (
    "Name the lake's secret in storage.key_hash_secret, or copy key-hash.secret from the folder "
    "of a machine that loads into the lake"
)


def fingerprint(secret: bytes) -> str:
    """16 hex digits by which a secret is known again; it can't be found from them."""
    return hmac.digest(secret, _FINGERPRINT_OF, "sha256").hex()[:_FINGERPRINT_DIGITS]


class OwnSecret:
    """This machine's secret of the lake in `folder`: where the settings say, else a file there."""

    def __init__(self, folder: Path, settings: LakeSettings) -> None:
        self._folder = folder
        self._ref = settings.key_hash_secret
        self._is_shared = settings.catalog is not None
        self._file = folder / SECRET_FILE
        self._found: bytes | None = None

    @property
    def place(self) -> str:
        """Where it is, or would be, in words."""
        return str(self._ref or self._file)

    def find(self) -> bytes | None:
        """The secret (32 bytes); None where this machine has none.

        Raises:
            SecretError: the settings name a place where there is none.
            LakeDamagedError: the file is none.
        """
        if self._found is None:
            if self._ref is not None:
                self._found = self._named()
            elif self._file.exists():
                self._found = load_or_create_secret(self._file)
        return self._found

    def _named(self) -> bytes:
        assert self._ref is not None
        secret = parse_secret(self._ref.read(prefect_block).get_secret_value())
        if secret is None:
            raise SecretError(
                f"{self._ref}: not a key-hash secret (64 hex digits); store there what "
                f"{SECRET_FILE} contains in the folder of a machine that uses the lake"
            )
        return secret

    def find_or_make(self) -> bytes:
        """The secret; made, in the folder, where this machine has none."""
        self._found = self.find() or load_or_create_secret(self._file)
        return self._found

    def refuse_other(self, known: str | None) -> None:
        """See that the secret, if there is one, has the fingerprint that is `known` of the lake's.

        Raises:
            SecretError: it is another.
        """
        secret = self.find()
        if secret and known and fingerprint(secret) != known:
            raise SecretError(
                f"{self._folder}: this machine's key-hash secret ({self.place}, fingerprint "
                f"{fingerprint(secret)}) is not the lake's (fingerprint {known}); nothing was "
                f"stored, because one key would have two hashes. {_MEND}"
            )

    def missing(self, known: str | None) -> SecretError | LakeDamagedError:
        """What to say where the lake's keys were hashed, and this machine has no secret."""
        if self._is_shared and known:
            return SecretError(
                f"{self._folder}: this machine does not have the key-hash secret of the shared "
                f"lake (fingerprint {known}); nothing was stored. {_MEND}"
            )
        return LakeDamagedError(
            f"{self._file}: missing, and the lake has keys that were hashed with it. "
            f"{HOW_TO_MEND_THE_SECRET}"
        )
