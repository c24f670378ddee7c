"""A machine that sends from a shared lake, in a process of its own (`tests.forked`)."""

from __future__ import annotations

from pathlib import Path

from keywatch.deliver import claims, deliver_due
from keywatch.lake import Lake
from keywatch.notices import notices_to
from keywatch.settings import LakeSettings
from keywatch.settings.deliver import DeliverSettings
from keywatch.settings.owners import OwnerSettings


def send_all(
    folder: Path,
    storage: LakeSettings,
    settings: DeliverSettings,
    margin_seconds: float,
    owners: OwnerSettings | None = None,
) -> None:
    """Send what is due until nothing is; say what was sent, problems and notices, a line each."""
    claims.LEASE_MARGIN_SECONDS = margin_seconds
    with Lake.open(folder, storage) as lake, notices_to(_say):
        asks = owners or OwnerSettings()
        while True:
            done = deliver_due(lake, settings, asks, wait_seconds=storage.wait_seconds)
            for one in done.channels:
                _say(f"{one.channel}: {one.sent} sent, {one.error}")
            if not done.later:
                break
    _say("done")


def _say(words: str) -> None:
    print(words, flush=True)
