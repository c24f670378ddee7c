"""Load new lines from the places in the settings."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.common import say, settings_of, step, tells_no_token
from keywatch import pipeline
from keywatch.report import render_load
from keywatch.settings import Settings


@step("load new lines")
def load(lake: Path, settings: Settings) -> int:
    """The number of new events."""
    report = pipeline.ingest_new(lake, settings)
    if report is None:
        say("No new log lines.")
        return 0
    say(render_load(report))
    return report.total("events")


@flow(name="ingest")
@tells_no_token
def ingest(lake: str = "lake", config: str | None = None) -> int:
    """Load the new files; returns the number of new events."""
    return load(Path(lake), settings_of(config))
