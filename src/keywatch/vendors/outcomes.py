"""What became of a request in words, as an HTTP status (`data/statuses.toml`)."""

from __future__ import annotations

import functools
import re
import tomllib
from typing import Any

from keywatch.content import content_path

_REST = re.compile("[^a-z0-9]")


@functools.lru_cache(10_000)
def status_of(outcome: str) -> int:
    """The HTTP status of an error code or another word for what became of a request; else 400.

    A number up to 16 is one of gRPC, one from 100 to 599 an HTTP status.

    >>> [status_of(code) for code in ("Client.UnauthorizedOperation", "SlowDown", "16", "503")]
    [403, 429, 401, 503]
    """
    table = _table()
    code = _REST.sub("", outcome.lower())
    if code.isdecimal() and len(code) == 3 and "100" <= code <= "599":
        return int(code)
    if code in table["grpc"]:
        return int(table["grpc"][code])
    for status in table["status"]:
        if (
            code in status.get("is", ())
            or any(part in code for part in status.get("has", ()))
            or code.startswith(tuple(status.get("begins", ())))
        ):
            return int(status["code"])
    return int(table["otherwise"])


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(content_path("data/statuses.toml").read_text(encoding="utf-8"))
