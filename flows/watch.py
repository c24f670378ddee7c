"""The alert feed: load new lines, score the affected weeks, send alerts that changed."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.approve import ask
from flows.common import say, settings_of, step, tells_no_token
from flows.deliver import send
from flows.events import alert_events
from flows.ingest import load
from keywatch import pipeline
from keywatch.review.watch import render_watched
from keywatch.settings import Settings


@step("score the affected weeks")
def score(lake: Path, settings: Settings) -> int:
    """The number of alerts that changed."""
    watched = pipeline.watch(lake, settings)
    say(render_watched(watched))
    return len(watched.changes)


@flow(name="watch")
@tells_no_token
def watch(lake: str = "lake", config: str | None = None) -> int:
    """Load, score, send; returns the number of alerts that changed."""
    settings = settings_of(config)
    load(Path(lake), settings)
    with alert_events(Path(lake), settings):
        changed = score(Path(lake), settings)
        if settings.deliver.approved_channels:
            ask(Path(lake), config, settings)
        send(Path(lake), settings)
    return changed
