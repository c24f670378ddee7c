"""Full keys are replaced before anything touches the disk.

A full key found anywhere becomes ``ply_live_prod_4f8a2c…9e1d#<hash>``: the masked form that the
vendor shows, and 16 hex digits of a keyed hash by which the same key can be recognised.
The hash is HMAC-SHA-256 (RFC 2104) with a secret of the lake's own, so that a stolen lake can't be
searched for a known key without it.
"""

from __future__ import annotations

import functools
import hmac
import os
import re
import secrets
from pathlib import Path
from urllib.parse import unquote

from keywatch.errors import LakeDamagedError

SECRET_FILE = "key-hash.secret"
"""The name of a lake's HMAC secret in its folder."""
HOW_TO_MEND_THE_SECRET = (
    "Restore it from a backup. Where there is none, keywatch lake repair --new-secret makes a new "
    "one: keys that were logged in full are then other keys, without a past."
)

_U = r"(?:_|%5[Ff]|\\u005[Ff])"
FULL_KEY_PATTERN = rf"ply{_U}(?:live|test){_U}(?:[a-z0-9]{{2,12}}{_U})?[A-Za-z0-9]{{16,}}"
"""A Pulsely key with nothing masked. Also valid RE2: DuckDB looks for suspects with it."""

_PARAMETER_NAME = (
    r"[?&;](?i:api[_-]?key|key|token|access[_-]?token|auth|authorization|password|passwd|secret"
    r"|signature|sig|x-amz-signature|x-amz-security-token)="
)
_PARAMETER_VALUE = r"[^&;#\s\"']+"
SECRET_PARAMETER_PATTERN = _PARAMETER_NAME + _PARAMETER_VALUE
"""A query parameter whose name says that its value is a secret."""

SUSPECT_PATTERN = f"{FULL_KEY_PATTERN}|{SECRET_PARAMETER_PATTERN}"

_FULL_KEY = re.compile(FULL_KEY_PATTERN)
_PARAMETER = re.compile(f"({_PARAMETER_NAME})({_PARAMETER_VALUE})")
_ESCAPED_ASCII = re.compile(r"\\u00([2-7][0-9A-Fa-f])")
_MASK = re.compile(r"…|\.\.\.|\*\*")
_HASH_DIGITS = 16
_DECODINGS = 2  # as often as sql/parsed.sql decodes


def is_masked(key: str) -> bool:
    """Whether the vendor has already masked this display form."""
    return bool(_MASK.search(key)) and not _FULL_KEY.search(key)


class Redactor:
    """Replaces full keys in text; two redactors with the same secret give the same hash."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.redact = functools.lru_cache(maxsize=65536)(self._redact)
        self.mask_key = functools.lru_cache(maxsize=65536)(self._mask_key)

    def key_hash(self, full_key: str) -> str:
        """16 hex digits of HMAC-SHA-256 of the full key."""
        return hmac.digest(self._secret, full_key.encode(), "sha256").hex()[:_HASH_DIGITS]

    def _mask_key(self, key: str) -> str:
        """The masked form of a key field's value; a masked one is returned as it is."""
        if is_masked(key):
            return key
        head, underscore, tail = key.rpartition("_")
        shown = f"{tail[:6]}…{tail[-4:]}" if len(tail) >= 16 else "…"
        return f"{head}{underscore}{shown}#{self.key_hash(key)}"

    def _redact(self, text: str) -> str:
        """`text` with each full key and each secret parameter's value replaced."""
        if "\\u00" in text:
            text = _ESCAPED_ASCII.sub(lambda m: chr(int(m[1], 16)), text)
        decoded = text
        for _ in range(_DECODINGS):
            decoded = unquote(decoded)
            if "%" in text and _FULL_KEY.search(decoded):
                text = decoded
        text = _FULL_KEY.sub(lambda m: self._mask_key(unquote(m[0])), text)
        return _PARAMETER.sub(self._mask_parameter, text)

    def _mask_parameter(self, match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        return match[0] if is_masked(value) else f"{name}…#{self.key_hash(value)}"


def load_or_create_secret(file: Path) -> bytes:
    """The lake's HMAC secret (32 bytes); made with mode 0600 where there is none.

    Raises:
        LakeDamagedError: the file is there and is not a secret.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = file.read_text(encoding="ascii", errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            raise LakeDamagedError(
                f"{file}: not a key-hash secret (64 hex digits). {HOW_TO_MEND_THE_SECRET}"
            ) from None
        return bytes.fromhex(text)
    secret = secrets.token_bytes(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(secret.hex() + "\n")
    return secret
