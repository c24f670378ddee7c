"""How the cost of loads and weekly reviews grows with keys, events and weeks of history.

For each size, `KEYSxWEEKS`, a lake is loaded and reviewed as in its first two weeks of use: all of
the log but its last week is loaded, its last week then is reviewed (the first review, which replays
up to eight weeks before), the week after is loaded, and reviewed. Each step is a whole process, and
all sizes take turns at each step, so that a machine that is busy for a while weighs on all; what
counts are the ratios of one run, of processor seconds. The figures of a run are a file of JSON
Lines, which `tools/draw_growth.py` draws.

    python -m benchmarks.growth [--full | SIZE ...] [--runs 2] [--figures FILE]

A thousand keys have a million events in 13 weeks. Logs (`keywatch.sample`) are not timed and are
kept for the next time: 0.3 GB on disk for a million events, and 0.3 GB of memory while they are
made. Lakes, 0.05 GB for a million events, are removed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Self, TypeAlias

from benchmarks.ingest import count_lines
from benchmarks.review import forget_reviews, measure

EVENTS_PER_KEY_DAY = 12.3
WEEK_DAYS = 7
REPLAYING_WEEKS = 13
"""From so many weeks on, the first review replays all eight weeks that it may."""

LOAD, FIRST, WEEKS_LOAD, NEXT = "load", "first review", "week's load", "next week's review"
STEPS = (LOAD, FIRST, WEEKS_LOAD, NEXT)

IN_PROPORTION = 1.1
"""Target: at most so many times as much for each key or event as with fewer of them."""
LONGER_HISTORY = 1.1
FIRST_BESIDE_NEXT = 4.0
MOST_PEAK_MIB = 2048

_KEYWATCH = [sys.executable, "-m", "keywatch"]


@dataclass(frozen=True)
class Size:
    """So many keys, and so many weeks of log up to and with the first review."""

    keys: int
    weeks: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``5000x13``; ValueError where it is no size."""
        keys, weeks = map(int, text.split("x"))
        if keys < 2 or weeks < 1:
            raise ValueError(f"{text}: a size has 2 keys or more, and 1 week or more")
        return cls(keys, weeks)

    def __str__(self) -> str:
        return f"{self.keys:,} keys, {self.weeks} weeks"


QUICK = [Size(1_000, weeks) for weeks in (4, 13, 26)]
FULL = [
    *(Size(1_000, weeks) for weeks in (4, 13, 26, 52)),
    *(Size(keys, 13) for keys in (5_000, 25_000, 50_000)),
]


@dataclass(frozen=True)
class Figure:
    """One process, a step of a size; `run` is when its run began, in UTC.

    `events` counts lines: of a load those that it read, of a review all that were loaded before.
    """

    run: str
    keys: int
    weeks: int
    step: str
    events: int
    cpu_seconds: float
    seconds: float
    peak_mib: float

    @property
    def size(self) -> Size:
        return Size(self.keys, self.weeks)


Cost: TypeAlias = Callable[[Figure], float]


@dataclass(frozen=True)
class Ratio:
    """How many times as much one took as the other, and at most how many it should."""

    name: str
    times: float
    target: float

    def __str__(self) -> str:
        verdict = "met" if self.times <= self.target else "not met"
        return f"{self.name}: {self.times:.2f} (target: at most {self.target:g}; {verdict})"


def main() -> int:
    given = _arguments()
    sizes = given.sizes or (FULL if given.full else QUICK)
    worlds = {size: made_world(given.cache, size, sizes) for size in sizes}
    figures = []
    with given.figures.open("w", encoding="utf-8") as file:
        for figure in measured(worlds, given.cache, given.runs):
            figures.append(figure)
            file.write(json.dumps(asdict(figure)) + "\n")
            file.flush()
            print(f"{figure.size!s:>24}  {figure.step:<18}  {figure.events:>11,} events  "
                  f"{figure.cpu_seconds:8.1f} s CPU  {figure.peak_mib:6,.0f} MiB",
                  flush=True)  # fmt: skip
    print()
    for ratio in ratios(figures):
        print(ratio)
    peak_mib = max(figure.peak_mib for figure in figures)
    print(f"peak memory: {peak_mib:,.0f} MiB (target: at most {MOST_PEAK_MIB:,})")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(tempfile.gettempdir()) / "keywatch-benchmarks"
    parser.add_argument("sizes", nargs="*", type=Size.parse, metavar="SIZE",
                        help="such as 5000x13 (default: 1000x4 1000x13 1000x26)")  # fmt: skip
    parser.add_argument("--full", action="store_true",
                        help="up to 50,000 keys and up to 52 weeks; takes hours")  # fmt: skip
    parser.add_argument("--runs", type=int, default=2, help="reviews of each lake's next week")
    parser.add_argument("--cache", type=Path, default=cache, help="where logs are kept")
    parser.add_argument("--figures", type=Path, help="file to write (default: in the cache)")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    given.figures = given.figures or given.cache / "growth.jsonl"
    return given


@dataclass(frozen=True)
class World:
    """A log, a file a day in order, and its inventory; `end` is the day after the last one."""

    logs: tuple[Path, ...]
    inventory: Path
    end: date


def made_world(cache: Path, size: Size, sizes: Sequence[Size]) -> World:
    """The log of `size`, which ends with the longest one for as many keys."""
    weeks = 1 + max(each.weeks for each in sizes if each.keys == size.keys)
    folder = cache / f"growth-{size.keys}-keys-{weeks}-weeks"
    if not (folder / "made").exists():
        print(f"making {folder}", file=sys.stderr)
        # In a process of its own: a child's peak memory is never less than its parent's was.
        measure(
            [sys.executable, "-m", "keywatch.sample", str(folder), "--compress", "none",
             "--keys", str(size.keys), "--weeks", str(weeks), "--seed", "1",
             "--events-per-key-day", str(EVENTS_PER_KEY_DAY)]
        )  # fmt: skip
        (folder / "made").touch()
    logs = sorted((folder / "logs").iterdir())[-(size.weeks + 1) * WEEK_DAYS :]
    end = date.fromisoformat(logs[-1].name.partition(".")[0]) + timedelta(days=1)
    return World(tuple(logs), folder / "inventory.jsonl", end)


def measured(worlds: dict[Size, World], cache: Path, runs: int) -> Iterator[Figure]:
    """Each step of each size as it ends; the next week's review `runs` times."""
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    with tempfile.TemporaryDirectory(prefix="growth-", dir=cache) as name:
        lakes = {size: Path(name) / f"{size.keys}x{size.weeks}" for size in worlds}
        events = dict.fromkeys(worlds, 0)

        def figure(size: Size, step: str, command: list[str], count: int) -> Figure:
            took = measure([*_KEYWATCH, *command, "--lake", str(lakes[size])])
            return Figure(
                run=began,
                keys=size.keys,
                weeks=size.weeks,
                step=step,
                events=count,
                cpu_seconds=round(took.cpu_seconds, 2),
                seconds=round(took.seconds, 2),
                peak_mib=round(took.peak_mib),
            )

        def load(size: Size, step: str, logs: Sequence[Path]) -> Figure:
            count = count_lines(list(logs))
            events[size] += count
            return figure(size, step, ["ingest", *map(str, logs)], count)

        def review(size: Size, step: str, end: date) -> Figure:
            window = ["--from", str(end - timedelta(days=WEEK_DAYS)), "--to", str(end)]
            output = ["--output", str(Path(name) / "review.txt")]
            return figure(size, step, ["review", *window, *output], events[size])

        for size, world in worlds.items():
            yield load(size, LOAD, world.logs[:-WEEK_DAYS])
        for size, world in worlds.items():
            lake = ["--lake", str(lakes[size])]
            measure([*_KEYWATCH, "keys", "import", str(world.inventory), *lake])
            yield review(size, FIRST, world.end - timedelta(days=WEEK_DAYS))
        for size, world in worlds.items():
            yield load(size, WEEKS_LOAD, world.logs[-WEEK_DAYS:])
        for _ in range(runs):
            for size, world in worlds.items():
                yield review(size, NEXT, world.end)
                forget_reviews(lakes[size])


def ratios(figures: Sequence[Figure]) -> list[Ratio]:
    """What is compared in one run, as far as both sides are there: medians of pairs, in order."""
    sizes = sorted({each.size for each in figures}, key=lambda size: (size.weeks, size.keys))
    found: list[Ratio] = []

    def compare(
        name: str, target: float, more: tuple[Size, str], less: tuple[Size, str], cost: Cost = _cpu
    ) -> None:
        costs = (
            [cost(each) for each in figures if (each.size, each.step) == side]
            for side in (more, less)
        )
        if times := [one / other for one, other in zip(*costs, strict=False)]:
            found.append(Ratio(name, statistics.median(times), target))

    for less in sizes:
        for more in (size for size in sizes if size.weeks == less.weeks and size.keys > less.keys):
            beside = f"{more} beside {less.keys:,} keys"
            of_event = f"an event's {LOAD}, {beside}"
            compare(of_event, IN_PROPORTION, (more, LOAD), (less, LOAD), _cpu_of_event)
            target = round(IN_PROPORTION * more.keys / less.keys, 2)
            for step in (FIRST, NEXT):
                compare(f"{step}, {beside}", target, (more, step), (less, step))
        if less.weeks < REPLAYING_WEEKS:
            continue
        first = f"{FIRST} beside {NEXT}, {less}"
        compare(first, FIRST_BESIDE_NEXT, (less, FIRST), (less, NEXT))
        for more in (size for size in sizes if size.keys == less.keys and size.weeks > less.weeks):
            beside = f"{NEXT}, {more} beside {less.weeks} weeks"
            compare(beside, LONGER_HISTORY, (more, NEXT), (less, NEXT))
    return found


def _cpu(figure: Figure) -> float:
    return figure.cpu_seconds


def _cpu_of_event(figure: Figure) -> float:
    return figure.cpu_seconds / figure.events


if __name__ == "__main__":
    sys.exit(main())
