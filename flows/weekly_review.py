"""The weekly audit review: each past week without a review, and its messages."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.approve import ask
from flows.common import leave_artifacts, say, settings_of, step, tells_no_token
from flows.deliver import send
from flows.events import alert_events
from keywatch import pipeline
from keywatch.model import Window
from keywatch.settings import Settings


@step("find the weeks to review")
def find_weeks(lake: Path, settings: Settings) -> list[Window]:
    """The past weeks without a review, the oldest first."""
    return pipeline.missed_weeks(lake, settings)


@step("review a week")
def review_week(lake: Path, window: Window, settings: Settings) -> Path:
    """The page of the week; the cases and the coverage are stored as artifacts."""
    answer, page = pipeline.write_report(lake, window, settings)
    leave_artifacts(answer, page)
    return page


@flow(name="weekly-review")
@tells_no_token
def weekly_review(lake: str = "lake", config: str | None = None) -> list[str]:
    """Review each past week without a review, and send the messages; returns the pages."""
    settings = settings_of(config)
    with alert_events(Path(lake), settings):
        weeks = find_weeks(Path(lake), settings)
        pages = [review_week(Path(lake), week, settings) for week in weeks]
        if settings.deliver.approved_channels:
            ask(Path(lake), config, settings)
        if not pages:
            say("All past weeks have been reviewed.")
        send(Path(lake), settings, pages)
    return [str(page) for page in pages]
