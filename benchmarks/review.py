"""A week's review beside one bare GROUP BY over the raw log.

`python -m benchmarks.review` makes a world (`keywatch.sample`), loads it into a lake and copies its
log to Parquet, none of it timed and kept for the next time; then it runs `keywatch review` and the
bare query by turns, each a whole process, and compares them pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from benchmarks import process
from keywatch import pipeline, sample
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import load_settings

TARGET_RATIO = 2.0

# {raw} is the Parquet file.
BARE_QUERY = """
import time
import duckdb
start = time.perf_counter()
groups = duckdb.sql(
    "SELECT count(*) FROM ("
    "SELECT key_id, ip, endpoint, count(*) FROM read_parquet('{raw}') GROUP BY ALL)"
).fetchall()
print(time.perf_counter() - start)
"""
# The SQL of a review: no imports, no calibration, no cases, no text.
ENGINE = """
import time
from datetime import datetime
from pathlib import Path
from keywatch.detect import detectors, scoring
from keywatch.vendors import catalogue_by_source
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import load_settings
settings = load_settings(None)
window = Window(datetime.fromisoformat('{start}'), datetime.fromisoformat('{end}'))
known, catalogue = detectors.load_detectors(), catalogue_by_source()
with Lake.open(Path('{lake}'), settings.storage) as lake, lake.reading():
    start = time.perf_counter()
    detectors.prepare(lake, window, settings.review.baseline_days, catalogue)
    for detector in known:
        detectors.run(lake, detector, window)
    scoring.gather(lake, known)
    print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Material:
    """What both commands read."""

    lake: Path
    raw: Path
    start: str
    end: str
    lines: int


@dataclass(frozen=True)
class Measure:
    """One process, from its start to its end; `inner_seconds` is what it printed, if anything."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    inner_seconds: float | None = None


def main() -> int:
    given = _arguments()
    folder = world_folder(given)
    material, size = made_material(folder, given)
    print(size)
    print(f"window {material.start} to {material.end} (excluded)\n")
    review = [sys.executable, "-m", "keywatch", "review", "--lake", str(material.lake),
              "--from", material.start, "--to", material.end,
              "--output", str(folder / "review.txt")]  # fmt: skip
    bare = [sys.executable, "-c", BARE_QUERY.format(raw=material.raw)]
    whole = _compare(
        material.lake, "keywatch review", review, bare, given.runs, lambda each: each.seconds
    )
    print(f"\nratio, whole processes: {whole} (target: median at most {TARGET_RATIO})")
    if given.engine:
        code = ENGINE.format(lake=material.lake, start=material.start, end=material.end)
        print()
        engine = _compare(material.lake, "the review's SQL", [sys.executable, "-c", code], bare,
                          given.runs, lambda each: each.inner_seconds or each.seconds)  # fmt: skip
        print(f"\nratio, SQL only, on both sides: {engine}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review", description=__doc__)
    add_world_arguments(parser)
    parser.add_argument("--runs", type=int, default=5, help="pairs")
    parser.add_argument("--engine", action="store_true", help="compare the SQL alone, too")
    return parser.parse_args()


def add_world_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which world is used."""
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--weeks", type=int, default=13, help="the reviewed one included")
    parser.add_argument("--events-per-key-day", type=float, default=15.0,
                        help="mean volume (default 15, the sample's own)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compress", choices=("none", "gz"), default="none")
    parser.add_argument("--cache", type=Path, help="where worlds are kept",
                        default=Path(tempfile.gettempdir()) / "keywatch-benchmarks")  # fmt: skip


def world_folder(given: argparse.Namespace) -> Path:
    """Where the world of these options is kept."""
    name = (
        f"review-{given.keys}-keys-{given.weeks}-weeks-{given.events_per_key_day:g}-a-day"
        f"-seed-{given.seed}-{given.compress}"
    )
    return Path(given.cache) / name


def made_material(folder: Path, given: argparse.Namespace) -> tuple[Material, str]:
    """The world's lake and raw Parquet, and in words how much it is; made where it is missing."""
    note = folder / "made.json"
    if not note.exists():
        note.write_text(json.dumps(_make(folder, given)), encoding="utf-8")
    made = json.loads(note.read_text("utf-8"))
    material = Material(folder / "lake", folder / "raw.parquet", **made)
    with Lake.open(material.lake) as lake:
        counts = ", ".join(
            f"{lake.value(f'SELECT count(*) FROM lake.{table}'):,} {table}"
            for table in ("events", "activity", "activity_hours", "origins")
        )
    words = f"{given.keys:,} keys, {given.weeks} weeks, {material.lines:,} lines; in the lake "
    return material, words + counts


def _make(folder: Path, given: argparse.Namespace) -> dict[str, str | int]:
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: an earlier run did not finish it; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"making {folder}", file=sys.stderr)
    world = sample.generate(
        folder / "world",
        keys=given.keys,
        weeks=given.weeks,
        seed=given.seed,
        events_per_key_day=given.events_per_key_day,
        compress=given.compress,
    )
    settings = load_settings(None)
    pipeline.ingest(folder / "lake", [str(folder / "world" / "logs")], settings)
    pipeline.import_keys(folder / "lake", world.inventory, settings)
    # The weeks before are replayed once and kept, as by the review of the week before.
    start, end = (datetime(*day.timetuple()[:3]) for day in (world.review_start, world.end))
    pipeline.review(folder / "lake", Window(start, end), settings)
    pattern = str(folder / "world" / "logs" / "*").replace("'", "''")
    raw = str(folder / "raw.parquet").replace("'", "''")
    duckdb.sql(
        f"COPY (SELECT * FROM read_json('{pattern}', format = 'newline_delimited')) "
        f"TO '{raw}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return {
        "start": world.review_start.isoformat(),
        "end": world.end.isoformat(),
        "lines": world.events,
    }


def forget_reviews(lake: Path) -> None:
    """Have the next review of a window scored, not read from the lake."""
    with Lake.open(lake) as opened, opened.writing():
        opened.execute("DELETE FROM lake.reviews")


def _compare(
    lake: Path,
    name: str,
    command: list[str],
    bare: list[str],
    runs: int,
    seconds: Callable[[Measure], float],
) -> str:
    """Run both by turns, print each pair; returns what the pairs' ratios are, in words."""
    ratios, cpu_ratios = [], []
    print(f"{'pair':>4}  {name:>28}  {'bare GROUP BY':>28}  {'ratio':>5}")
    for nth in range(runs):
        forget_reviews(lake)
        ours, theirs = measure(command), measure(bare)
        ratios.append(seconds(ours) / seconds(theirs))
        cpu_ratios.append(ours.cpu_seconds / theirs.cpu_seconds)
        print(f"{nth + 1:>4}  {_shown(ours, seconds)}  {_shown(theirs, seconds)}  "
              f"{ratios[-1]:5.2f}", flush=True)  # fmt: skip
    return (
        f"min {min(ratios):.2f}, median {statistics.median(ratios):.2f}, max {max(ratios):.2f}; "
        f"CPU of the whole processes, which a busy machine blurs less: median "
        f"{statistics.median(cpu_ratios):.2f}"
    )


def _shown(one: Measure, seconds: Callable[[Measure], float]) -> str:
    return f"{seconds(one):6.2f} s {one.cpu_seconds:5.1f} s CPU {one.peak_mib:5.0f} MiB"


def measure(command: list[str]) -> Measure:
    """Run a command to its end.

    Raises SystemExit when it fails.
    """
    took = process.run_well(command)
    return Measure(
        took.seconds, took.cpu_seconds, took.peak_bytes / 2**20, _number(took.output.decode())
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
