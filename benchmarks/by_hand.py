"""What one would write by hand beside Keywatch: processor seconds and peak memory, on one log.

Each is a whole process (Keywatch two: a load, and the first review of the last full week, which
replays the weeks before) and reads the same uncompressed JSON Lines, one file a day; they take
turns. Polars is no dependency: it runs where this Python has it, or the one that `--polars` names.

    python -m benchmarks.by_hand [--events 1000000] [--runs 3] [--polars /path/to/venv/bin/python]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.ingest import count_lines, make_logs, run
from benchmarks.process import Took
from keywatch.content import content_path

# Arguments: the folder of the logs, the file of the result, the two databases.
PANDAS = """
import glob, sys
import geoip2.database, geoip2.errors
import pandas as pd

logs, out, country_file, network_file = sys.argv[1:]
events = pd.concat(pd.read_json(log, lines=True) for log in sorted(glob.glob(f"{logs}/*.jsonl")))
with (
    geoip2.database.Reader(country_file) as countries,
    geoip2.database.Reader(network_file) as networks,
):
    def origin(ip):
        try:
            return countries.country(ip).country.iso_code, networks.asn(ip).autonomous_system_number
        except (geoip2.errors.AddressNotFoundError, ValueError):
            return None, None
    events["country"], events["network"] = zip(*map(origin, events["ip"]))
"""
GROUPS = """
found = events.groupby(["key_id", "ip", "endpoint"], dropna=False).agg(
    requests=("timestamp", "size"), first=("timestamp", "min"), last=("timestamp", "max"),
    country=("country", "first"), network=("network", "first"),
)
found.to_csv(out)
"""
FOREST = """
import numpy as np
from sklearn.ensemble import IsolationForest

events["day"] = events["timestamp"].dt.date
events["hour"] = events["timestamp"].dt.hour
events["refused"] = events["status"].isin([401, 403])
events["failed"] = events["status"] >= 400
found = np.log1p(
    events.groupby(["key_id", "day"]).agg(
        requests=("status", "size"), addresses=("ip", "nunique"), networks=("network", "nunique"),
        countries=("country", "nunique"), endpoints=("endpoint", "nunique"),
        agents=("user_agent", "nunique"), hours=("hour", "nunique"), refused=("refused", "sum"),
        failed=("failed", "sum"), response_bytes=("response_bytes", "sum"),
    )
)
samples = min(4096, len(found))
forest = IsolationForest(n_estimators=300, max_samples=samples, random_state=0).fit(found)
found["strangeness"] = -forest.score_samples(found)
found.sort_values("strangeness").tail(1000).to_csv(out)
"""
POLARS = """
import sys
import polars as pl

logs, out = sys.argv[1:3]
(
    pl.scan_ndjson(f"{logs}/*.jsonl")
    .group_by("key_id", "ip", "endpoint")
    .agg(requests=pl.len(), first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
    .sink_parquet(out)
)
"""


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="keywatch-by-hand-") as name:
        folder = Path(name)
        logs = make_logs(folder / "world", given.events)
        events = count_lines(logs)
        print(f"{events:,} events in {len(logs)} files", flush=True)
        ways = _ways(folder, given.polars)
        found: dict[str, list[Took]] = {}
        for _ in range(given.runs):
            for way, do in ways.items():
                found.setdefault(way, []).append(do())
                print(f"{way:34}{_shown(found[way][-1])}", flush=True)
    print(f"\nmedians of {given.runs}\n{'':34}{'processor s':>12}{'peak MiB':>10}")
    for way, runs in found.items():
        cpu_seconds = statistics.median(each.cpu_seconds for each in runs)
        peak_mib = statistics.median(each.peak_bytes for each in runs) / 2**20
        print(f"{way:34}{cpu_seconds:12.1f}{peak_mib:10,.0f}")
    return 0


def _ways(folder: Path, polars: str) -> dict[str, Callable[[], Took]]:
    databases = [content_path(f"data/geoip/dbip-{name}-lite.mmdb") for name in ("country", "asn")]
    arguments = [*map(str, (folder / "world" / "logs", folder / "out", *databases))]
    lake = ["--lake", str(folder / "lake")]
    keywatch = [sys.executable, "-m", "keywatch"]

    def ingest() -> Took:
        shutil.rmtree(folder / "lake", ignore_errors=True)
        return run(*keywatch, "ingest", arguments[0], *lake)

    ways: dict[str, Callable[[], Took]] = {
        "pandas, geoip2 a row, groupby": lambda: run(
            sys.executable, "-c", PANDAS + GROUPS, *arguments
        ),
        "pandas, geoip2, IsolationForest": lambda: run(
            sys.executable, "-c", PANDAS + FOREST, *arguments
        ),
        "polars, scan and sink": lambda: run(polars, "-c", POLARS, *arguments),
        "keywatch ingest": ingest,
        "keywatch review, the first": lambda: run(*keywatch, "review", *lake),
    }
    if subprocess.run([polars, "-c", "import polars"], capture_output=True, check=False).returncode:
        print(f"without polars, which {polars} does not have: name one that has it with --polars")
        del ways["polars, scan and sink"]
    return ways


def _shown(one: Took) -> str:
    return f"{one.seconds:8.1f} s {one.cpu_seconds:8.1f} s CPU {one.peak_bytes / 2**20:8,.0f} MiB"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_hand", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--polars", default=sys.executable, metavar="PYTHON",
                        help="a Python that has polars")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
