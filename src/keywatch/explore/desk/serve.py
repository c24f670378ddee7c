"""The server of the triage page: on 127.0.0.1, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from keywatch.errors import UsageError
from keywatch.explore.desk.app import Desk
from keywatch.explore.web import PromptProtocol

if TYPE_CHECKING:
    from keywatch.settings import Settings

_HOST = "127.0.0.1"


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
