"""Send what is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.common import say, secret_block, settings_of, step, tells_no_token
from keywatch import pipeline
from keywatch.deliver import render_delivery
from keywatch.errors import SecretError
from keywatch.settings import Settings


@step("send what is due")
def send(lake: Path, settings: Settings, reports: Sequence[Path] = ()) -> int:
    """How many messages were sent; what failed is due again, and only a wrong set-up fails."""
    done = pipeline.deliver_due(lake, settings, reports=reports, prefect_block=secret_block)
    told, problems = render_delivery(done)
    say(told)
    for problem in problems:
        say(problem, logging.WARNING)
    if done.unusable:
        raise SecretError("; ".join(f"channel {name}: {w}" for name, w in done.unusable.items()))
    return sum(channel.sent for channel in done.channels)


@flow(name="deliver")
@tells_no_token
def deliver(lake: str = "lake", config: str | None = None) -> int:
    """Send what is due; returns how many messages were sent."""
    return send(Path(lake), settings_of(config))
