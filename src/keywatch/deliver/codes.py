"""Codes with which an owner answers a question: signed, for a week, and for one question.

A code is the question's id, when it expires, and a keyed digest of both; the id is itself a digest
of the alert, the owner, the keys and their networks. The key is derived from the lake's secret, so
every machine that has the secret makes and checks the same codes. A code is a secret: it is made
when its message is sent, and is in no stored message, log or error. That it answers once, the lake
sees to (`keywatch.review.questions.check_open`).
"""

from __future__ import annotations

import base64
import hmac
import re
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from keywatch.errors import UsageError
from keywatch.lake import Lake

VALID = timedelta(days=7)
"""How long after it is asked a question can be answered."""

_PURPOSE = b"keywatch: answers of owners"
_FORM = re.compile(r"(ask_[0-9a-f]{24})\.([0-9a-f]{1,10})\.[A-Za-z0-9_-]{43}", re.ASCII)


class Codes:
    """Makes and checks the codes of one lake."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _PURPOSE, "sha256")

    def __repr__(self) -> str:
        return "Codes()"

    @classmethod
    def of(cls, lake: Lake) -> Codes:
        """Those of `lake`.

        Raises:
            SecretError: this machine does not have the lake's secret.
        """
        return cls(lake.secret)

    def code(self, question_id: str, asked_at: datetime) -> SecretStr:
        """The code of a question that was asked at `asked_at` (naive, UTC)."""
        return SecretStr(self._signed(question_id, _seconds(asked_at + VALID)))

    def question_id(self, code: str, now: datetime) -> str:
        """The question that `code` is for, at `now` (naive, UTC).

        Raises:
            UsageError: it is no code of this lake, or it has expired; holds nothing of it.
        """
        found = _FORM.fullmatch(code)
        expires = int(found[2], 16) if found else 0
        own = self._signed(found[1] if found else "", expires)
        if not hmac.compare_digest(own.encode(), code.encode("utf-8", "replace")) or not found:
            raise UsageError("this code is not valid; open the link of the message as it was sent")
        if expires <= _seconds(now):
            raise UsageError("this code has expired; contact the security team")
        return found[1]

    def _signed(self, question_id: str, expires: int) -> str:
        text = f"{question_id}.{expires:x}"
        digest = hmac.digest(self._key, text.encode("ascii"), "sha256")
        return f"{text}.{base64.urlsafe_b64encode(digest).decode('ascii').rstrip('=')}"


def _seconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())
