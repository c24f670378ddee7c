"""From a file's landing to the message: `keywatch watch` of a batch beside a bare COPY of it.

`python -m benchmarks.watch` makes a world (`keywatch.sample`), loads all but its last day into a
lake and watches it once, none of it timed and kept for the next time. Then batches of that day land
one after another: `keywatch watch` loads each, judges the week again and writes to a file channel;
a bare DuckDB process copies the same lines to Parquet. With `--prefect` the flow does it too, on a
server of its own that it starts and stops (a standing server saves that). Each is a whole process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.review import Measure, measure
from keywatch import pipeline, sample
from keywatch.lake import Lake
from keywatch.settings import load_settings

BARE = """
import duckdb
duckdb.sql("COPY (SELECT * FROM read_json('{batch}', format = 'newline_delimited')) "
    "TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)")
"""
FLOW = """
import os
os.environ.update(PREFECT_HOME={home!r}, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120", PREFECT_LOGGING_LEVEL="ERROR")
from flows.watch import watch
watch(lake={lake!r}, config={config!r})
"""


def main() -> int:
    given = _arguments()
    name = f"watch-{given.keys}-keys-{given.weeks}-weeks-seed-{given.seed}"
    kept = Path(given.cache) / name
    if not (kept / "made").exists():
        _make(kept, given)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(kept / "lake", folder / "lake")
        _compare(folder, kept, given)
    return 0


def _compare(folder: Path, kept: Path, given: argparse.Namespace) -> None:
    place = folder / "in"
    place.mkdir()
    config = folder / "keywatch.toml"
    config.write_text(
        f'[ingest]\nplaces = ["{place}"]\n'
        f'[deliver.channels.feed]\nkind = "file"\npath = "{folder / "feed.jsonl"}"\n',
        encoding="utf-8",
    )
    with Lake.open(folder / "lake") as lake:
        print(f"{lake.value('SELECT count(*) FROM lake.events'):,} events in the lake")
    batches = _batches(kept / "last-day.jsonl", given.events)
    watch = [sys.executable, "-m", "keywatch", "watch", "--lake", str(folder / "lake"),
             "--config", str(config)]  # fmt: skip
    flow = FLOW.format(home=str(folder), lake=str(folder / "lake"), config=str(config))
    ways = {"keywatch watch": watch}
    if given.prefect:
        ways["with Prefect"] = [sys.executable, "-c", flow]
    ratios: dict[str, list[float]] = {way: [] for way in ways}
    for nth in range(given.runs):
        for way, command in ways.items():
            batch = place / f"{nth}-{len(way)}.jsonl"
            batch.write_text(next(batches), encoding="utf-8")
            ours = measure(command)
            bare = BARE.format(batch=batch, parquet=folder / "bare.parquet")
            theirs = measure([sys.executable, "-c", bare])
            ratios[way].append(ours.seconds / theirs.seconds)
            print(f"{way:>16} {_shown(ours)}   bare COPY {_shown(theirs)}   "
                  f"{ratios[way][-1]:6.1f} times", flush=True)  # fmt: skip
    feed = folder / "feed.jsonl"
    messages = len(feed.read_text("utf-8").splitlines()) if feed.exists() else 0
    print(f"{messages} messages arrived")
    for way, found in ratios.items():
        print(f"{way}: min {min(found):.1f}, median {statistics.median(found):.1f}, "
              f"max {max(found):.1f} times the bare COPY of {given.events:,} lines")  # fmt: skip


def _shown(one: Measure) -> str:
    return f"{one.seconds:6.2f} s {one.cpu_seconds:5.1f} s CPU {one.peak_mib:5.0f} MiB"


def _batches(log: Path, events: int) -> Iterator[str]:
    with log.open(encoding="utf-8") as lines:
        while batch := list(islice(lines, events)):
            if len(batch) < events:
                break
            yield "".join(batch)
    raise SystemExit("the last day has no more batches: fewer --runs or --events")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--weeks", type=int, default=11)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=10_000, help="of a batch")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prefect", action="store_true", help="the flow, too")
    parser.add_argument("--cache", type=Path, help="where worlds are kept",
                        default=Path(tempfile.gettempdir()) / "keywatch-benchmarks")  # fmt: skip
    return parser.parse_args()


def _make(kept: Path, given: argparse.Namespace) -> None:
    if kept.exists() and any(kept.iterdir()):
        raise SystemExit(f"{kept}: an earlier run did not finish it; remove it")
    print(f"making {kept}", file=sys.stderr)
    kept.mkdir(parents=True, exist_ok=True)
    world = sample.generate(
        kept / "world", keys=given.keys, weeks=given.weeks, seed=given.seed, compress="none"
    )
    *before, last = world.logs
    shutil.move(last, kept / "last-day.jsonl")
    settings = load_settings(None)
    pipeline.ingest(kept / "lake", [str(log) for log in before], settings)
    pipeline.import_keys(kept / "lake", world.inventory, settings)
    pipeline.watch(kept / "lake", settings)
    shutil.rmtree(kept / "world")
    (kept / "made").touch()


if __name__ == "__main__":
    sys.exit(main())
