"""Send messages that are due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.common import say, settings_of, step, tells_no_token
from flows.events import alert_events
from keywatch import pipeline
from keywatch.deliver import render_delivery
from keywatch.errors import SecretError
from keywatch.settings import Settings
from keywatch.settings.secret_ref import prefect_block


@step("send due messages")
def send(lake: Path, settings: Settings, reports: Sequence[Path] = ()) -> int:
    """The number of messages sent; failed ones are retried, and only wrong settings fail."""
    done = pipeline.deliver_due(lake, settings, reports=reports, prefect_block=prefect_block)
    text, problems = render_delivery(done)
    say(text)
    for problem in problems:
        say(problem, logging.WARNING)
    if done.unusable:
        raise SecretError("; ".join(f"channel {name}: {w}" for name, w in done.unusable.items()))
    return sum(channel.sent for channel in done.channels)


@flow(name="deliver")
@tells_no_token
def deliver(lake: str = "lake", config: str | None = None) -> int:
    """Send messages that are due; returns how many were sent."""
    settings = settings_of(config)
    with alert_events(Path(lake), settings):
        return send(Path(lake), settings)
