"""Send what is due."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.logging import get_run_logger

from flows.common import patient, say, secret_block, settings_of
from keywatch import pipeline
from keywatch.deliver import render_delivery
from keywatch.errors import SecretError
from keywatch.settings import Settings


@task(name="send what is due", **patient())
def send(lake: Path, settings: Settings, reports: Sequence[Path] = ()) -> int:
    """How many messages were sent; what failed is due again, and only a wrong set-up fails."""
    done = pipeline.deliver_due(
        lake, settings, reports=reports, prefect_block=secret_block, on_wait=say
    )
    told, problems = render_delivery(done)
    say(told)
    for problem in problems:
        get_run_logger().warning(problem)
    if done.unusable:
        raise SecretError("; ".join(f"channel {name}: {w}" for name, w in done.unusable.items()))
    return sum(channel.sent for channel in done.channels)


@flow(name="deliver")
def deliver(lake: str = "lake", config: str | None = None) -> int:
    """Send what is due; returns how many messages were sent."""
    return send(Path(lake), settings_of(config))
