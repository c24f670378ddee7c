"""The alert feed: load what is new, judge what it touched, send what it changes."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.approve import ask
from flows.common import say, settings_of, step, tells_no_token
from flows.deliver import send
from flows.ingest import load
from keywatch import pipeline
from keywatch.review.watch import render_watched
from keywatch.settings import Settings


@step("judge what came in")
def judge(lake: Path, settings: Settings) -> int:
    """How many alerts changed."""
    watched = pipeline.watch(lake, settings)
    say(render_watched(watched))
    return len(watched.changes)


@flow(name="watch")
@tells_no_token
def watch(lake: str = "lake", config: str | None = None) -> int:
    """Load, judge, send; returns how many alerts changed."""
    settings = settings_of(config)
    load(Path(lake), settings)
    changed = judge(Path(lake), settings)
    if settings.deliver.approved_channels:
        ask(Path(lake), config, settings)
    send(Path(lake), settings)
    return changed
