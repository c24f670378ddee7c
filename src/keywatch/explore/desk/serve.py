"""The server of the triage page: on 127.0.0.1, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from keywatch.errors import UsageError
from keywatch.explore.desk.app import Desk

if TYPE_CHECKING:
    import asyncio

    from keywatch.settings import Settings

_HOST = "127.0.0.1"


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


def serve(
    folder: Path,
    settings: Settings,
    port: int,
    by: str | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the page until it's interrupted; `on_ready` hears its address, token and all.

    Port 0 is any that is free. Without `by` the page is read-only.

    Raises:
        LakeError: there is no lake in `folder`.
        UsageError: the port is taken.
    """
    config = uvicorn.Config(
        _no_app, host=_HOST, port=port, log_level="error", access_log=False, server_header=False,
        proxy_headers=False, ws="none", http=PromptProtocol,
    )  # fmt: skip
    try:
        listening = config.bind_socket()
    except SystemExit:
        raise UsageError(f"port {port} of {_HOST} is in use; choose another with --port") from None
    with listening:
        bound: int = listening.getsockname()[1]
        desk = Desk(folder, settings, bound, by)
        config.app = desk.app
        on_ready(f"http://{_HOST}:{bound}/?token={desk.token}")
        uvicorn.Server(config).run(sockets=[listening])


async def _no_app(*_: object) -> None:
    """Stands in until the port is known, which the page's cookie is named after."""
