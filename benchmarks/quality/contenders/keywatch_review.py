"""Keywatch as it is installed: its review of the week."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd

from benchmarks.quality.worlds import World, engine
from keywatch import pipeline
from keywatch.model import Window
from keywatch.settings import Settings


def score(world: World, settings: Settings) -> pd.DataFrame:
    """The cases in the review's own order; `revoke` beside `alert`."""
    cases = review(world, settings, world.end)
    return pd.DataFrame(
        {
            "key_id": [case["key_id"] for case in cases],
            "score": [float(place) for place in range(len(cases), 0, -1)],
            "alert": [case["action"] != "none" for case in cases],
            "revoke": [case["action"] == "revoke" for case in cases],
        }
    )


def review(world: World, settings: Settings, end: datetime) -> list[dict[str, Any]]:
    """The cases of the review week up to `end`, first to last: key_id, action, bits, evidence.

    Kept for the same engine, settings and lake.
    """
    lake = world.lake(settings)

    def fresh() -> list[dict[str, Any]]:
        window = Window(world.review_start, end)
        answer = pipeline.review(lake, window, settings, keep=False)
        return [
            {
                "key_id": case.key_id,
                "action": case.action,
                "bits": case.bits,
                "evidence": [asdict(each) for each in case.evidence],
            }
            for case in answer.cases
        ]

    made_of = (lake.name, engine(), settings.config_hash, end)
    kept: list[dict[str, Any]] = world.keep_json("review", made_of, fresh)
    return kept
