"""What the pages that Keywatch serves have in common: headers, forms, and slow clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import h11
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from keywatch.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request
    from starlette.types import Message, Send

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""No script at all: the pages need none."""

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Not `no-referrer`: with it a browser would say `Origin: null` of our own form.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_MOST_FORM_BYTES = 64 * 1024
_SHEETS = ("report.css", "desk.css")


def style() -> Response:
    """The style sheet of the pages."""
    templates = resources.files("keywatch.report").joinpath("templates")
    sheets = [templates.joinpath(name).read_text("utf-8") for name in _SHEETS]
    return Response("\n".join(sheets), media_type="text/css")


def guarded(send: Send) -> Send:
    """`send` with the headers of every page; a page's own policy stays."""

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("content-security-policy", _POLICY)
        await send(message)

    return send_guarded


async def read_form(request: Request) -> dict[str, list[str]] | None:
    """The fields of a form; None where it is none, too large, or did not arrive as a whole."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > _MOST_FORM_BYTES:
                return None
    except ClientDisconnect:
        return None
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def first_of(form: Mapping[str, Sequence[str]], name: str) -> str:
    """The first value of a field; empty where there is none."""
    return form.get(name, ("",))[0]


def day_of(text: str) -> date | None:
    """The day that a field names; None where it is empty.

    Raises:
        UsageError: it is no day.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{text!r} is not a date; use the form 2026-12-31") from None


class PromptProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no whole request comes in time.

    Uvicorn waits without an end for the rest of a request, so a few hundred slow clients would take
    all of the process's file descriptors.
    """

    request_seconds = 15.0
    _too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request, if there is more of it."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._wait_no_more()

    def _wait(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._wait_no_more()
        elif self._too_slow is None:
            self._too_slow = self.loop.call_later(self.request_seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None
