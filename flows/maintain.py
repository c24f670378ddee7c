"""Keep the lake small: merge files, expire snapshots, remove what nobody needs."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from flows.common import patient, say, settings_of
from keywatch import pipeline
from keywatch.maintain import render_maintained
from keywatch.settings import Settings


@task(name="keep the lake small", **patient())
def keep_small(lake: Path, settings: Settings) -> int:
    """How many files the catalogue names after."""
    done = pipeline.maintain(lake, settings, say)
    say("\n".join(render_maintained(done)))
    return done.files_after


@flow(name="maintain")
def maintain(lake: str = "lake", config: str | None = None) -> int:
    """Maintain the lake; returns how many files are left."""
    return keep_small(Path(lake), settings_of(config))
