"""`keywatch ingest` beside a bare DuckDB COPY of the same files, as whole processes.

Both read the same uncompressed JSON Lines, one file a day, and take turns; each ratio is of two
runs beside each other, so that a machine that is busy for a while weighs on both.

    python -m benchmarks.ingest [--events 5000000] [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from keywatch.sample import World, generate

RATIO_TARGET = 3.0
MEMORY_TARGET_BYTES = 2 * 1024**3
WEEKS = 12
EVENTS_PER_KEY_DAY = 13.4

BARE = """
import sys, duckdb
logs, out = sys.argv[1:]
duckdb.sql(f"COPY (SELECT * FROM read_json('{logs}/*.jsonl')) TO '{out}' "
           "(FORMAT parquet, COMPRESSION zstd)")
"""


@dataclass(frozen=True)
class Run:
    """What a process took."""

    seconds: float
    peak_bytes: int


def run(*command: str) -> Run:
    """Run a command to its end; its words go nowhere.

    Raises SystemExit when it fails.
    """
    started = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        process = os.posix_spawn(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        )
        _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Run(seconds, used.ru_maxrss * 1024)


def sample(folder: Path, events: int) -> World:
    """Logs of about `events` lines."""
    keys = max(2, round(events / (WEEKS * 7 * EVENTS_PER_KEY_DAY * 0.88)))
    return generate(
        folder,
        keys=keys,
        weeks=WEEKS,
        seed=1,
        events_per_key_day=EVENTS_PER_KEY_DAY,
        compress="none",
    )


def measure(folder: Path, runs: int) -> tuple[list[Run], list[Run]]:
    """The runs of the bare COPY and of Keywatch, in pairs."""
    logs, out, lake = folder / "world" / "logs", folder / "bare.parquet", folder / "lake"
    bare, loads = [], []
    for pair in range(1, runs + 1):
        bare.append(run(sys.executable, "-c", BARE, str(logs), str(out)))
        shutil.rmtree(lake, ignore_errors=True)
        loads.append(
            run(sys.executable, "-m", "keywatch", "ingest", str(logs), "--lake", str(lake))
        )
        print(
            f"pair {pair}: bare COPY {bare[-1].seconds:6.2f} s, "
            f"keywatch ingest {loads[-1].seconds:6.2f} s, "
            f"ratio {loads[-1].seconds / bare[-1].seconds:.2f}",
            flush=True,
        )
    return bare, loads


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keywatch-ingest-") as name:
        folder = Path(name)
        world = sample(folder / "world", given.events)
        size = sum(file.stat().st_size for file in world.logs)
        print(
            f"{world.events:,} events, {size / 1e6:,.0f} MB of JSON Lines in {len(world.logs)} "
            f"files, {os.cpu_count()} cores",
            flush=True,
        )
        bare, loads = measure(folder, given.runs)
    ratios = [load.seconds / one.seconds for one, load in zip(bare, loads, strict=True)]
    peak = max(load.peak_bytes for load in loads)
    print(
        f"ratio: min {min(ratios):.2f}, median {statistics.median(ratios):.2f}, "
        f"max {max(ratios):.2f} (target: at most {RATIO_TARGET})\n"
        f"events a second: {world.events / statistics.median(one.seconds for one in loads):,.0f}\n"
        f"peak memory: {peak / 2**20:,.0f} MiB (target: at most {MEMORY_TARGET_BYTES / 2**20:,.0f}),"
        f" bare COPY {max(one.peak_bytes for one in bare) / 2**20:,.0f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
