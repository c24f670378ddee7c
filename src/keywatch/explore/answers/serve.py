"""The service that takes owners' answers: the page at ``[owners] bind``, and Slack's buttons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import uvicorn

from keywatch.deliver import Codes
from keywatch.errors import UsageError
from keywatch.explore.answers.app import Answers
from keywatch.explore.web import PromptProtocol
from keywatch.lake import Lake
from keywatch.settings import Settings

_MOST_AT_ONCE = 100


def serve(folder: Path, settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Take answers until it's interrupted; `on_ready` hears where.

    Raises:
        UsageError: the settings name no way to answer, or the port is taken.
        LakeError: there is no lake in `folder`.
        SecretError: this machine does not have the lake's secret.
    """
    owners = settings.owners
    if owners.bind is None:
        raise UsageError("no way to answer: set base_url and bind under [owners] in keywatch.toml")
    with Lake.open(folder, settings.storage) as lake:
        codes = Codes.of(lake)
    host, _, port = owners.bind.rpartition(":")
    app = Answers(folder, settings, codes, owners.bind)
    config = uvicorn.Config(
        app, host=host.strip("[]"), port=int(port), log_level="error", access_log=False,
        server_header=False, proxy_headers=False, ws="none", http=PromptProtocol,
        limit_concurrency=_MOST_AT_ONCE,
    )  # fmt: skip
    try:
        listening = config.bind_socket()
    except SystemExit:
        raise UsageError(f"{owners.bind} is in use or not of this machine; change bind") from None
    with listening:
        on_ready(f"Owners answer at {owners.base_url}, which must lead to {owners.bind}")
        uvicorn.Server(config).run(sockets=[listening])
