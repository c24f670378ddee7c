"""From a file's landing to the message: `keywatch watch` of a batch beside a bare COPY of it.

`python -m benchmarks.watch` makes a world (`keywatch.sample`), loads all but its last day into a
lake and watches it once, none of it timed and kept for the next time. Then batches of that day land
one after another: `keywatch watch` loads each, scores the week again and writes to a file channel;
a bare DuckDB process copies the same lines to Parquet. With `--prefect` the flow does it too, on a
server of its own that it starts and stops (a standing server saves that). Each is a whole process.
With `--every 1s` so does one standing process (Linux only): its seconds are from the landing to the
message, the pause included, and its processor time at rest is told too. In each batch a key is
leaked, so each has a message.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self

from benchmarks.review import Measure, measure
from keywatch import pipeline, sample
from keywatch.lake import Lake
from keywatch.settings import load_settings

BARE = """
import duckdb
duckdb.sql("COPY (SELECT * FROM read_json('{batch}', format = 'newline_delimited')) "
    "TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)")
"""
_REST_SECONDS = 60
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
    ratios: dict[str, list[float]] = {}

    def compare(way: str, run: Callable[[], Measure]) -> None:
        for nth in range(given.runs):
            batch = folder / f"{len(ratios)}-{nth}.jsonl"
            batch.write_text(next(batches), encoding="utf-8")
            bare = BARE.format(batch=batch, parquet=folder / "bare.parquet")
            theirs = measure([sys.executable, "-c", bare])
            batch.rename(place / batch.name)
            ours = run()
            ratios.setdefault(way, []).append(ours.seconds / theirs.seconds)
            print(f"{way:>16} {_shown(ours)}   bare COPY {_shown(theirs)}   "
                  f"{ratios[way][-1]:6.1f} times", flush=True)  # fmt: skip

    compare("keywatch watch", lambda: measure(watch))
    if given.prefect:
        compare("with Prefect", lambda: measure([sys.executable, "-c", flow]))
    if given.every:
        with _Standing([*watch, "--every", given.every], folder / "feed.jsonl") as standing:
            compare(f"--every {given.every}", standing.until_the_message)
            print(f"at rest: {standing.at_rest():.2f} s CPU in {_REST_SECONDS} s")
    print(f"{_messages(folder / 'feed.jsonl')} messages arrived")
    for way, found in ratios.items():
        print(f"{way}: min {min(found):.1f}, median {statistics.median(found):.1f}, "
              f"max {max(found):.1f} times the bare COPY of {given.events:,} lines")  # fmt: skip


class _Standing:
    """A process that stays; what it takes from now until the next message is in the file."""

    def __init__(self, command: list[str], feed: Path) -> None:
        self._command = command
        self._feed = feed

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        while "No messages are due" not in (said := self._process.stdout.readline()):
            if not said:
                raise SystemExit("the standing process ended before its first run did")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def until_the_message(self) -> Measure:
        start, cpu_seconds, before = time.perf_counter(), self._cpu_seconds(), _messages(self._feed)
        while _messages(self._feed) == before:
            if self._process.poll() is not None:
                raise SystemExit("the standing process ended")
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        return Measure(seconds, self._cpu_seconds() - cpu_seconds, self._peak_mib())

    def at_rest(self) -> float:
        """Processor seconds while nothing lands, after the run that finds no more."""
        time.sleep(_REST_SECONDS)
        before = self._cpu_seconds()
        time.sleep(_REST_SECONDS)
        return self._cpu_seconds() - before

    def _cpu_seconds(self) -> float:
        told = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def _peak_mib(self) -> float:
        told = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def _messages(feed: Path) -> int:
    return feed.read_bytes().count(b"\n") if feed.exists() else 0


def _shown(one: Measure) -> str:
    return f"{one.seconds:6.2f} s {one.cpu_seconds:5.1f} s CPU {one.peak_mib:5.0f} MiB"


def _batches(log: Path, events: int) -> Iterator[str]:
    leaked: set[str] = set()
    with log.open(encoding="utf-8") as lines:
        while batch := list(islice(lines, events)):
            if len(batch) < events:
                break
            batch[-1] = _leak(batch, leaked)
            yield "".join(batch)
    raise SystemExit("the last day has no more batches: fewer --runs or --events")


def _leak(batch: list[str], leaked: set[str]) -> str:
    """The last line of a batch, in which a key that none before leaked stands in full."""
    own = (json.loads(line) for line in batch)
    request = next(each for each in own if each.get("key") and each["key_id"] not in leaked)
    leaked.add(request["key_id"])
    begins, _, ends = request["key"].partition("…")
    last = json.loads(batch[-1])
    return json.dumps(last | {"user_agent": f"curl/8.4.0 {begins}Zz00Zz{ends}"}) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--weeks", type=int, default=11)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=10_000, help="of a batch")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--every", help="a standing process, too, with this pause, such as 5s")
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
