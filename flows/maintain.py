"""Keep the lake small: merge files, expire snapshots, remove what nobody needs."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.common import say, settings_of, step, tells_no_token
from keywatch import pipeline
from keywatch.operate.maintain import render_maintained
from keywatch.settings import Settings


@step("keep the lake small")
def keep_small(lake: Path, settings: Settings) -> int:
    """How many files the catalogue names after."""
    done = pipeline.maintain(lake, settings)
    say("\n".join(render_maintained(done)))
    return done.files_after


@flow(name="maintain")
@tells_no_token
def maintain(lake: str = "lake", config: str | None = None) -> int:
    """Maintain the lake; returns how many files are left."""
    return keep_small(Path(lake), settings_of(config))
