"""Secrets are replaced before anything touches the disk.

What has the form of a secret (``data/secrets.toml``) becomes ``…#<hash>``, a vendor's full API
key (`keywatch.text.key_forms`) ``xyz_4f8a2c…9e1d#<hash>``: the masked form that vendors show, and
16 hex digits of a keyed hash by which the same secret can be recognised, so what was distinct stays
distinct.
The hash is HMAC-SHA-256 (RFC 2104) with a secret of the lake's own, so that a stolen lake can't be
searched for a known key without it.
"""

from __future__ import annotations

import base64
import functools
import hmac
import math
import os
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from keywatch.content import content_path
from keywatch.errors import LakeDamagedError
from keywatch.text.key_forms import KeyForm, key_faults, key_forms

SECRET_FILE = "key-hash.secret"
"""The name of a lake's HMAC secret in its folder."""
HOW_TO_MEND_THE_SECRET = (
    "Restore it from a backup. Without one, keywatch lake repair --new-secret creates a new "
    "secret: keys logged in full then count as new keys, with no history."
)

_OTHER_KEY = re.compile(r"(?P<head>[a-z]{2,6}_(?:live|test)_)?(?P<first>.{6}).{14,}(?P<last>.{4})")
_MASKED = re.compile(
    r"[A-Za-z0-9_.-]{0,24}(?:…|\.{3}|\*{2,})[A-Za-z0-9]{0,12}(?:#[0-9a-f]{16})?", re.ASCII
)
"""Too short on either side of the mask to hide a whole key."""
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_NESTED_PERCENT = re.compile(r"%(?:25)+")
_AROUND_NAMES = re.compile(r"([?&;#=\s])")
_ESCAPE = re.compile(r"\\(?:(?:u00|x)([2-7][0-9A-Fa-f])|([\"'/\\]))")
_HASH = re.compile("(…[A-Za-z0-9]{0,4})#[0-9a-f]{16}")
_HASH_DIGITS = 16
_FORMS = ("token", "bare")
KINDS = (*_FORMS, "place")
"""The tables of ``data/secrets.toml``."""
_MOST_DECODINGS = 5
_MOST_LENGTH = 8000
_UNSURE_LENGTH = 300
"""Of what was cut: a secret that the cut went through may not be known by what is left of it."""
_CACHED_LENGTH = 2000


@dataclass(frozen=True)
class SecretPattern:
    """A form of secrets; see ``data/secrets.toml`` for its fields.

    `key` is the form of a vendor's API key that it finds; where it `is_base64`, encoded.
    """

    id: str
    regex: re.Pattern[str]
    keywords: tuple[str, ...]
    unless: re.Pattern[str] | None
    entropy: float
    length: int | None
    key: KeyForm | None = None
    is_base64: bool = False

    def may_be_in(self, lowered: str) -> bool:
        """Whether a text, given in lower case, holds a keyword."""
        return not self.keywords or any(keyword in lowered for keyword in self.keywords)

    def is_ordinary(self, match: re.Match[str], secret: str) -> bool:
        """Whether it only looks like a secret."""
        if self.unless is not None and self.unless.search(match[0]):
            return True
        if self.length is not None and len(secret) != self.length:
            return True
        return self.entropy > 0 and _entropy(secret) < self.entropy


def _entropy(text: str) -> float:
    """Shannon's, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def secret_patterns(kind: str) -> tuple[SecretPattern, ...]:
    """The patterns of a kind (of `KINDS`), in the order in which they are applied.

    Tokens begin with the vendors' API keys.
    """
    return _patterns(kind, key_forms() if kind == "token" else ())


@functools.cache
def _patterns(kind: str, forms: tuple[KeyForm, ...]) -> tuple[SecretPattern, ...]:
    of_vendors = [each for form in forms if form.is_secret for each in _patterns_of(form)]
    return (*of_vendors, *_bundled_patterns(kind))


def _patterns_of(form: KeyForm) -> Iterator[SecretPattern]:
    """A vendor's key, as it is and in base64."""
    keywords = tuple(each.lower() for each in form.begins)
    yield _key_pattern(form, form.id, form.pattern, keywords)
    encoded = [beginning for beginning, _ in form.base64_beginnings]
    least = form.length * 4 // 3 - 1
    pattern = f"(?:{'|'.join(map(re.escape, encoded))})[A-Za-z0-9]{{{least},}}"
    keywords = tuple({beginning[:5].lower() for beginning in encoded})
    base64_form = _key_pattern(form, f"{form.id}-base64", pattern, keywords)
    yield replace(base64_form, is_base64=True)


def _key_pattern(form: KeyForm, name: str, regex: str, keywords: tuple[str, ...]) -> SecretPattern:
    return SecretPattern(name, re.compile(regex, re.ASCII), keywords, None, 0.0, None, form)


@functools.cache
def _bundled_patterns(kind: str) -> tuple[SecretPattern, ...]:
    content = tomllib.loads(content_path("data/secrets.toml").read_text(encoding="utf-8"))
    parts: dict[str, str] = {}
    for name, part in content["parts"].items():
        parts[name] = _filled(part, parts)
    return tuple(
        SecretPattern(
            entry["id"],
            re.compile(_filled(entry["regex"], parts), re.ASCII),
            tuple(entry.get("keywords", ())),
            re.compile(_filled(entry["unless"], parts), re.ASCII) if "unless" in entry else None,
            entry.get("entropy", 0.0),
            entry.get("length"),
        )
        for entry in content[kind]
    )


def _filled(regex: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        regex = regex.replace(f"{{{name}}}", part)
    return regex


def suspect_pattern(kind: str) -> str:
    """All patterns of a kind as one, for RE2, which says where Python has to look."""
    alternatives = (_NAMED_GROUP.sub("(?:", each.regex.pattern) for each in secret_patterns(kind))
    return "|".join(f"(?:{each})" for each in alternatives)


def is_masked(key: str) -> bool:
    """Whether this is a display form, of which the middle is left out."""
    return _MASKED.fullmatch(key) is not None


class Redactor:
    """Replaces secrets in text; two redactors with the same secret give the same hash.

    Raises:
        VendorError: a vendor's ``[[keys]]`` can't be read, so that its keys would be stored whole.
            Not where the text is not `stored`.
    """

    def __init__(
        self, secret: bytes, kinds: tuple[str, ...] = KINDS, *, stored: bool = True
    ) -> None:
        if stored and (faults := key_faults()):
            raise next(iter(faults.values()))
        self._secret = secret
        self._forms = [form for form in key_forms() if form.is_secret]
        self._patterns = [pattern for kind in kinds for pattern in secret_patterns(kind)]
        self._redact_short = functools.lru_cache(maxsize=65536)(self._redact)
        self.mask_key = functools.lru_cache(maxsize=65536)(self._mask_key)

    def key_hash(self, full_key: str) -> str:
        """16 hex digits of HMAC-SHA-256 of the full key."""
        hashed = hmac.digest(self._secret, full_key.encode(errors="replace"), "sha256")
        return hashed.hex()[:_HASH_DIGITS]

    def redact(self, text: str) -> str:
        """`text` with each secret in it replaced; decoded where it was encoded.

        What is behind the first 8,000 characters is left out.
        """
        return self._redact_short(text) if len(text) <= _CACHED_LENGTH else self._redact(text)

    def exposes(self, text: str) -> str:
        """The masked form of a vendor's full key in `text`, as it is or encoded; else nothing."""
        decoded = text[:_MOST_LENGTH]
        for _ in range(_MOST_DECODINGS + 1):
            lowered = decoded.lower()
            for pattern in self._patterns:
                if pattern.key is not None and pattern.may_be_in(lowered):
                    for match in pattern.regex.finditer(decoded):
                        if keys := _keys_of(pattern, match[0]):
                            return self.mask_key(keys[0])
            further = _decoded(decoded)
            if further == decoded:
                break
            decoded = further
        return ""

    def _mask_key(self, key: str) -> str:
        """The masked form of a key field's value; a masked one is returned as it is.

        Of a vendor's key that is what the vendor shows; of others ten characters of 24 or more.
        """
        if is_masked(key):
            return key
        matches = (form.whole.fullmatch(key) for form in self._forms)
        shown = next(filter(None, matches), None) or _OTHER_KEY.fullmatch(key)
        if shown is None:
            return f"…#{self.key_hash(key)}"
        return f"{shown['head'] or ''}{shown['first']}…{shown['last']}#{self.key_hash(key)}"

    def _redact(self, text: str) -> str:
        is_cut = len(text) > _MOST_LENGTH
        shown = decoded = self._without_secrets(text[:_MOST_LENGTH])
        for decode in (_names_decoded, *[_decoded] * _MOST_DECODINGS):
            further = decode(decoded)
            if further == decoded:
                if decode is _decoded:
                    break
                continue
            decoded = self._without_secrets(further)
            if decoded != further:
                shown = decoded
        return shown[:-_UNSURE_LENGTH] if is_cut else shown

    def _without_secrets(self, text: str) -> str:
        lowered = text.lower()
        for pattern in self._patterns:
            if pattern.may_be_in(lowered):
                text = pattern.regex.sub(functools.partial(self._replaced, pattern), text)
        return text

    def _replaced(self, pattern: SecretPattern, match: re.Match[str]) -> str:
        group = match.lastgroup or 0
        secret = match[group]
        if is_masked(secret) or pattern.is_ordinary(match, secret):
            return match[0]
        if pattern.key is not None:
            keys = _keys_of(pattern, secret)
            masked = " ".join(map(self.mask_key, keys)) if keys else secret
        else:
            masked = f"…#{self.key_hash(secret)}"
        before = match.start(group) - match.start()
        after = match.end(group) - match.start()
        return match[0][:before] + masked + match[0][after:]


def without_tokens(text: str) -> str:
    """`text` with the middle of each token left out: for what is said and not kept.

    Places are not looked at: an error names settings, and what follows is its own words. A hash of
    the lake's, by which a key is named, stays.
    """
    shown = Redactor(secrets.token_bytes(), _FORMS, stored=False).redact(text)
    return _HASH.sub(lambda found: found[0] if found[0] in text else found[1], shown)


def _names_decoded(text: str) -> str:
    """`text` with the names of parameters decoded, but not yet their values."""
    if "%" not in text:
        return text
    parts = _AROUND_NAMES.split(text)
    for i, after in enumerate(parts[1:]):
        if after == "=" and "%" in parts[i]:
            parts[i] = unquote(_NESTED_PERCENT.sub("%", parts[i]))
    return "".join(parts)


def _decoded(text: str) -> str:
    """`text` less one layer of encoding: percent signs, however often they are, and backslashes."""
    if "%" in text:
        text = unquote(_NESTED_PERCENT.sub("%", text))
    if "\\" in text:
        text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else m[2], text)
    return text


def _keys_of(pattern: SecretPattern, text: str) -> list[str]:
    """The full keys in what a vendor's pattern found: itself, or what it decodes to."""
    assert pattern.key is not None
    if not pattern.is_base64:
        return [text]
    for beginning, before in pattern.key.base64_beginnings:
        if not text.startswith(beginning):
            continue
        aligned = before + text
        whole = aligned[: len(aligned) - (len(aligned) % 4 == 1)]
        decoded = base64.b64decode(whole + "==").decode("latin-1")
        if found := [match[0] for match in pattern.key.whole.finditer(decoded)]:
            return found
    return []


def parse_secret(text: str) -> bytes | None:
    """The HMAC secret (32 bytes) that `text` holds as hex digits; None where it holds none."""
    text = text.strip()
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{64}", text) else None


def load_or_create_secret(file: Path) -> bytes:
    """The lake's HMAC secret (32 bytes); made with mode 0600 where there is none.

    Raises:
        LakeDamagedError: the file is there and is not a secret.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = parse_secret(file.read_text(encoding="ascii", errors="replace"))
        if found is None:
            raise LakeDamagedError(
                f"{file}: not a key-hash secret (64 hex digits). {HOW_TO_MEND_THE_SECRET}"
            ) from None
        return found
    secret = secrets.token_bytes(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(secret.hex() + "\n")
    return secret
