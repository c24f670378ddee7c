"""`keywatch ingest` beside a bare DuckDB COPY of the same files, as whole processes.

Both read the same uncompressed JSON Lines, one file a day, and take turns; each ratio is of two
runs beside each other, so that a machine that is busy for a while weighs on both. With `--workers`
the load by one process is compared with one whose lines are read by so many (`--engine dask`), with
`--documents` on logs that are compressed documents as CloudTrail writes them.

    python -m benchmarks.ingest [--events 5000000] [--runs 3] [--workers 2 [--documents]]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.process import Took, run_well

RATIO_TARGET = 2.0
MEMORY_TARGET_MIB = 2048
WEEKS = 12
EVENTS_PER_KEY_DAY = 13.4
ACTIVE_SHARE = 0.88  # not every key is used every day

BARE = """
import sys, duckdb
logs, out = sys.argv[1:]
duckdb.sql(f"COPY (SELECT * FROM read_json('{logs}/*.jsonl')) TO '{out}' "
           "(FORMAT parquet, COMPRESSION zstd)")
"""


def run(*command: str) -> Took:
    """`run_well` of these words."""
    return run_well(command)


def make_logs(folder: Path, events: int) -> list[Path]:
    """Logs of about `events` lines, a file a day."""
    keys = max(2, round(events / (WEEKS * 7 * EVENTS_PER_KEY_DAY * ACTIVE_SHARE)))
    run(
        *(sys.executable, "-m", "keywatch.sample", str(folder), "--compress", "none"),
        *("--keys", str(keys), "--weeks", str(WEEKS), "--seed", "1"),
        *("--events-per-key-day", str(EVENTS_PER_KEY_DAY)),
    )
    return sorted((folder / "logs").iterdir())


def count_lines(logs: list[Path]) -> int:
    return sum(log.read_bytes().count(b"\n") for log in logs)


def measure(folder: Path, runs: int) -> tuple[list[Took], list[Took]]:
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
            f"ratio {loads[-1].seconds / bare[-1].seconds:.2f}, of processor time "
            f"{loads[-1].cpu_seconds / bare[-1].cpu_seconds:.2f}",
            flush=True,
        )
    return bare, loads


def as_documents(logs: list[Path]) -> None:
    """Write each of the logs anew: one compressed document, of CloudTrail's records."""
    for log in logs:
        records = []
        for line in log.read_text(encoding="utf-8").splitlines():
            request = json.loads(line)
            path = request["endpoint"].partition("?")[0]
            records.append(
                {
                    "eventVersion": "1.08",
                    "eventTime": request["timestamp"],
                    "eventID": request["request_id"],
                    "eventSource": "api.amazonaws.com",
                    "eventName": request["method"] + path.replace("/", "")[:30],
                    "awsRegion": "eu-central-1",
                    "sourceIPAddress": request["ip"],
                    "userAgent": request["user_agent"],
                    "userIdentity": {"type": "IAMUser", "accessKeyId": request["key_id"]},
                    "requestParameters": {"path": path},
                }
            )
        document = json.dumps({"Records": records}).encode()
        log.with_suffix(".json.gz").write_bytes(gzip.compress(document, 1))
        log.unlink()


def compare_engines(folder: Path, workers: int, runs: int) -> None:
    """Print what a load takes in one process, and with lines read by `workers` processes."""
    logs, lake, config = folder / "world" / "logs", folder / "lake", folder / "keywatch.toml"
    config.write_text(f"[engine]\nworkers = {workers}\n")
    ratios = []
    for pair in range(1, runs + 1):
        took = []
        for engine in ("local", "dask"):
            shutil.rmtree(lake, ignore_errors=True)
            words = ("--lake", str(lake), "--config", str(config), "--engine", engine)
            took.append(run(sys.executable, "-m", "keywatch", "ingest", str(logs), *words))
        alone, several = took
        ratios.append((several.seconds / alone.seconds, several.cpu_seconds / alone.cpu_seconds))
        print(
            f"pair {pair}: one process {alone.seconds:6.2f} s ({alone.cpu_seconds:6.2f} s of "
            f"processors, {alone.peak_bytes / 2**20:,.0f} MiB), {workers} workers "
            f"{several.seconds:6.2f} s ({several.cpu_seconds:6.2f} s, the largest process "
            f"{several.peak_bytes / 2**20:,.0f} MiB), ratio {ratios[-1][0]:.2f}, of processor time "
            f"{ratios[-1][1]:.2f}",
            flush=True,
        )
    time_ratio, cpu_ratio = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"median ratio {time_ratio:.2f}, of processor time {cpu_ratio:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--documents", action="store_true")
    given = parser.parse_args()
    if given.documents and not given.workers:
        parser.error("--documents needs --workers")
    with tempfile.TemporaryDirectory(prefix="keywatch-ingest-") as name:
        folder = Path(name)
        logs = make_logs(folder / "world", given.events)
        events, size = count_lines(logs), sum(log.stat().st_size for log in logs)
        print(
            f"{events:,} events, {size / 1e6:,.0f} MB of JSON Lines in {len(logs)} files, "
            f"{os.cpu_count()} cores",
            flush=True,
        )
        if given.workers:
            if given.documents:
                as_documents(logs)
            compare_engines(folder, given.workers, given.runs)
            return 0
        bare, loads = measure(folder, given.runs)
    ratios = [load.seconds / one.seconds for one, load in zip(bare, loads, strict=True)]
    cpu = [load.cpu_seconds / one.cpu_seconds for one, load in zip(bare, loads, strict=True)]
    seconds = statistics.median(load.seconds for load in loads)
    peak, bare_peak = (max(each.peak_bytes for each in side) / 2**20 for side in (loads, bare))
    print(
        f"ratio: min {min(ratios):.2f}, median {statistics.median(ratios):.2f}, "
        f"max {max(ratios):.2f} (target: at most {RATIO_TARGET})\n"
        f"ratio of processor time: median {statistics.median(cpu):.2f}\n"
        f"events a second: {events / seconds:,.0f}\n"
        f"peak memory: {peak:,.0f} MiB (target: at most {MEMORY_TARGET_MIB:,}), "
        f"bare COPY {bare_peak:,.0f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
