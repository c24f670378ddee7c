"""One POST: what counts as taken, what is worth another try, and when.

Every channel that speaks HTTP sends through `post`: TLS is verified, no redirect is followed, and
of an answer no more than its beginning is read.
"""

from __future__ import annotations

import email.utils
import logging
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import httpx

from keywatch.deliver.channel import SendError
from keywatch.errors import SecretError
from keywatch.settings.web_address import is_refused

_NEVER = frozenset({400, 410, 413, 422})
"""The receiver says that this message is wrong, or that nobody is there any more."""
_SHOWN = 200
_MOST_BYTES = 1_000_000
_LONGEST_RETRY_AFTER = 24 * 3600.0

# It logs each address, and an address can hold a token.
logging.getLogger("httpx").addFilter(lambda record: record.levelno >= logging.WARNING)


@dataclass(frozen=True)
class Answer:
    """What the receiver said to a message that it took; `text` is the beginning of it."""

    text: str
    headers: Mapping[str, str]


def client(timeout_seconds: float) -> httpx.Client:
    """A client that follows no redirect: what it sends is for the address in the settings only.

    Raises:
        SecretError: the certificates that the environment names can't be read.
    """
    try:
        return httpx.Client(timeout=timeout_seconds, follow_redirects=False)
    except OSError as e:
        raise SecretError(f"SSL_CERT_FILE: no certificates can be read ({e})") from None


def post(http: httpx.Client, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send `body` as JSON.

    Raises:
        SendError: no answer, or one that is not 2xx.
    """
    sent = {
        "content-type": "application/json",
        "user-agent": "keywatch",
        "accept-encoding": "identity",  # a small answer could unpack into a large one
        **headers,
    }
    try:
        with http.stream(
            "POST", url, content=body, headers=sent, extensions={"trace": _look_at_the_peer}
        ) as response:
            text = _beginning(response, http.timeout.read or 0.0)
    except httpx.TimeoutException as e:
        unanswered = isinstance(e, httpx.ReadTimeout)
        raise SendError(f"no answer in time ({type(e).__name__})", unanswered=unanswered) from None
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise _no_answer(e) from None
    if not response.is_success:
        raise refused(response.status_code, text, response.headers)
    return Answer(text, response.headers)


def refused(status: int, text: str, headers: Mapping[str, str]) -> SendError:
    """The error for an answer that is not 2xx."""
    if 300 <= status < 400:
        return SendError(
            f"HTTP {status}: the receiver redirects, which is not followed: set the final address",
            permanent=True,
        )
    return SendError(
        f"HTTP {status}{said(text)}",
        retry_after=retry_after(headers),
        permanent=status in _NEVER,
    )


def said(text: str) -> str:
    """The receiver's words behind a colon; empty where it has none."""
    return f": {text[:_SHOWN]}" if text else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the receiver wants to hear again (RFC 9110, 10.2.3), at most a day."""
    value = next((v for name, v in headers.items() if name.lower() == "retry-after"), "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def _beginning(response: httpx.Response, most_seconds: float) -> str:
    deadline = time.monotonic() + most_seconds
    read = bytearray()
    for chunk in response.iter_raw():
        read += chunk
        if len(read) >= _MOST_BYTES:
            break
        if time.monotonic() > deadline:
            raise SendError("no complete answer in time", unanswered=True)
    return read[:_MOST_BYTES].decode("utf-8", "replace")


def _no_answer(error: Exception) -> SendError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SendError(
                f"the receiver's certificate can't be verified ({type(cause).__name__}): renew it, "
                "or set its authority's certificate in SSL_CERT_FILE"
            )
        cause = cause.__cause__ or cause.__context__
    return SendError(
        f"no connection or no answer ({type(error).__name__})",
        unanswered=isinstance(error, httpx.ReadError | httpx.RemoteProtocolError),
    )


def _look_at_the_peer(event: str, info: Mapping[str, Any]) -> None:
    """Hang up before a byte is sent where the name led to an address that no message is for."""
    if event != "connection.connect_tcp.complete":
        return
    stream = info["return_value"]
    peer = ip_address(str(stream.get_extra_info("server_addr")[0]).partition("%")[0])
    if is_refused(peer):
        with closing(stream):
            raise SendError(
                f"the receiver's name resolves to {peer}, a link-local or cloud metadata address, "
                "which is not allowed; set the receiver's own address",
                permanent=True,
            )
