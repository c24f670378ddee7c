"""The service that takes owners' answers: the page at ``[owners] bind``, and Slack's buttons."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import uvicorn

from keywatch import pipeline
from keywatch.deliver import Codes
from keywatch.deliver.credentials import Vault
from keywatch.deliver.slack_buttons import Pressed, listening
from keywatch.errors import UsageError
from keywatch.explore.answers.app import Answers
from keywatch.explore.web import PromptProtocol
from keywatch.lake import Lake
from keywatch.settings import Settings
from keywatch.text.phrases import answer_words

_MOST_AT_ONCE = 100


def serve(folder: Path, settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Take answers until it's interrupted; `on_ready` hears where.

    Raises:
        UsageError: the settings name no way to answer, the port is taken, or Slack refuses.
        LakeError: there is no lake in `folder`.
        SecretError: this machine does not have the lake's secret, or a token is not there.
    """
    owners = settings.owners
    if owners.bind is None and owners.app_token is None:
        raise UsageError(
            "no way to answer: under [owners] in keywatch.toml, set base_url and bind for links, "
            "or app_token for buttons in Slack"
        )
    with Lake.open(folder, settings.storage) as lake:
        codes = Codes.of(lake)
    with ExitStack() as stack:
        if owners.app_token is not None:
            bot = next(
                found
                for name in owners.channel
                if (found := settings.deliver.channels[name]).kind == "slack"
            )
            take = partial(take_button, folder, settings)
            stack.enter_context(listening(bot, owners.app_token, Vault(), take))
            on_ready("Owners answer by buttons in Slack")
        if owners.bind is None:
            _wait()
        else:
            _serve_page(Answers(folder, settings, codes, owners.bind), owners.bind, on_ready)


def take_button(folder: Path, settings: Settings, pressed: Pressed) -> str:
    """Keep the answer of a button; returns what its owner reads.

    Raises:
        UsageError: the code is not valid, the question was answered, or somebody else was asked.
    """
    given = pipeline.answer_question(
        folder, pressed.code, pressed.answer, settings, way="Slack", until=pressed.until,
        by=pressed.user,
    )  # fmt: skip
    keys = ", ".join(given.question.key_ids)
    words = answer_words(given.answer, given.until)
    return f"Your answer about {keys} is recorded: {words}. Result: {given.note}."


def _serve_page(app: Answers, bind: str, on_ready: Callable[[str], None]) -> None:
    host, _, port = bind.rpartition(":")
    config = uvicorn.Config(
        app, host=host.strip("[]"), port=int(port), log_level="error", access_log=False,
        server_header=False, proxy_headers=False, ws="none", http=PromptProtocol,
        limit_concurrency=_MOST_AT_ONCE,
    )  # fmt: skip
    try:
        listening = config.bind_socket()
    except SystemExit:
        raise UsageError(f"{bind} is in use or not of this machine; change bind") from None
    with listening:
        on_ready(f"Owners answer by links, which must lead to {bind}")
        uvicorn.Server(config).run(sockets=[listening])


def _wait() -> None:
    """Until SIGTERM or SIGINT."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
