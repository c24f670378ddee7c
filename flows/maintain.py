"""Maintain the lake: merge small files, expire snapshots, remove unused files."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.common import say, settings_of, step, tells_no_token
from keywatch import pipeline
from keywatch.operate.maintain import render_maintained
from keywatch.settings import Settings


@step("maintain the lake")
def keep_small(lake: Path, settings: Settings) -> int:
    """The number of files in the catalogue afterwards."""
    done = pipeline.maintain(lake, settings)
    say("\n".join(render_maintained(done)))
    return done.files_after


@flow(name="maintain")
@tells_no_token
def maintain(lake: str = "lake", config: str | None = None) -> int:
    """Maintain the lake; returns the number of remaining files."""
    return keep_small(Path(lake), settings_of(config))
