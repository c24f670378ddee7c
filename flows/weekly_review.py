"""The weekly audit review: each week that is over and has none yet, and who hears of it."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.approve import ask
from flows.common import leave_artifacts, say, settings_of, step, tells_no_token
from flows.deliver import send
from keywatch import pipeline
from keywatch.model import Window
from keywatch.settings import Settings


@step("find the weeks to review")
def find_weeks(lake: Path, settings: Settings) -> list[Window]:
    """The weeks that are over and were not reviewed, the oldest first."""
    return pipeline.missed_weeks(lake, settings)


@step("review a week")
def review_week(lake: Path, window: Window, settings: Settings) -> Path:
    """Its page; the cases and the coverage are left as artifacts."""
    answer, page = pipeline.write_report(lake, window, settings)
    leave_artifacts(answer, page)
    return page


@flow(name="weekly-review")
@tells_no_token
def weekly_review(lake: str = "lake", config: str | None = None) -> list[str]:
    """Review each week that has no review yet, and send what comes of it; returns the pages."""
    settings = settings_of(config)
    pages = [review_week(Path(lake), week, settings) for week in find_weeks(Path(lake), settings)]
    if settings.deliver.approved_channels:
        ask(Path(lake), config, settings)
    if not pages:
        say("All past weeks have been reviewed.")
    send(Path(lake), settings, pages)
    return [str(page) for page in pages]
