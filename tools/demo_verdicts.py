"""Give a demo lake a past: reviews of earlier weeks, and the verdicts of an analyst.

    keywatch demo --keep demo
    python tools/demo_verdicts.py demo

The analyst knows the sample's truth, and leaves the most suspicious cases of the last week open.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import keywatch
from keywatch import pipeline
from keywatch.model import Window
from keywatch.settings import load_settings

LEFT_OPEN = 3


def stolen_from(truth: Path) -> dict[str, datetime]:
    """When the theft of each stolen key began (naive, UTC), by its id."""
    keys = [json.loads(line) for line in truth.read_text(encoding="utf-8").splitlines()]
    return {
        key["key_id"]: datetime.fromisoformat(key["theft_start"].removesuffix("Z"))
        for key in keys
        if key["stolen"]
    }


def main(demo: Path, earlier_weeks: int = 2) -> int:
    folder, settings = demo / "lake", load_settings(None)
    stolen = stolen_from(demo / "sample" / "truth.jsonl")
    lake = keywatch.open(folder, verdicts=True, by="demo")
    last = lake.week().window
    for weeks_ago in reversed(range(earlier_weeks + 1)):
        ago = timedelta(weeks=weeks_ago)
        window = Window(last.start - ago, last.end - ago)
        found = pipeline.review(folder, window, settings, whole=False)
        left_open = 0 if weeks_ago else LEFT_OPEN
        for case in found.alerted()[left_open:]:
            is_theft = stolen.get(case.key_id, window.end) < window.end
            lake.verdict(
                case.key_id,
                "compromised" if is_theft else "benign",
                "the sample's truth",
                week=f"{window.start:%G-W%V}",
            )
    print(f"demo-verdicts: {earlier_weeks} earlier weeks were reviewed, and verdicts given")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
