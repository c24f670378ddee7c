"""One POST: what counts as taken, what is worth another try, and when."""

from __future__ import annotations

import email.utils
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from keywatch.deliver.channel import SendError

_NEVER = frozenset({400, 410, 413, 422})
"""The receiver says that this message is wrong, or that nobody is there any more."""
_SHOWN = 200
_LONGEST_RETRY_AFTER = 24 * 3600.0

# It logs each address, and an address can hold a token.
logging.getLogger("httpx").addFilter(lambda record: record.levelno >= logging.WARNING)


def client(timeout_seconds: float) -> httpx.Client:
    """A client that follows no redirect: what it sends is for the address in the settings only."""
    return httpx.Client(timeout=timeout_seconds, follow_redirects=False)


def post(http: httpx.Client, url: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    """Send `body` as JSON.

    Raises:
        SendError: no answer, or one that is not 2xx.
    """
    sent = {"content-type": "application/json", "user-agent": "keywatch", **headers}
    try:
        response = http.post(url, content=body, headers=sent)
    except httpx.TimeoutException as e:
        raise SendError(f"no answer in time ({type(e).__name__})") from None
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise SendError(f"no connection or no answer ({type(e).__name__})") from None
    if not response.is_success:
        raise refused(response.status_code, response.text, response.headers)
    return response


def refused(status: int, text: str, headers: Mapping[str, str]) -> SendError:
    """The error for an answer that is not 2xx."""
    mend = "; redirects are not followed: name the last address" if 300 <= status < 400 else ""
    said = f": {text[:_SHOWN]}" if text else ""
    return SendError(
        f"HTTP {status}{said}{mend}",
        retry_after=retry_after(headers),
        permanent=status in _NEVER,
    )


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
