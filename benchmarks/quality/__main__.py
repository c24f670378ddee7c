"""How well Keywatch tells stolen keys from others, beside what others would do.

    python -m benchmarks.quality                            all contenders, all tables
    python -m benchmarks.quality --only keywatch --brief    our review alone: while tuning
    python -m benchmarks.quality --cases 3                  what it got wrong in world 3

Worlds (keywatch.sample), their lakes and whatever was computed from unchanged code are kept under
the temporary folder. Settings come from keywatch.toml and KEYWATCH_* as in every command.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.quality import cases, tables
from benchmarks.quality.contenders import CONTENDERS
from benchmarks.quality.evaluate import Figures, Task, evaluate, has_setting
from benchmarks.quality.worlds import World, engine
from keywatch.settings import load_settings

PROCESSES = 2


def main() -> int:
    given = _arguments()
    settings = load_settings()
    if given.cases is not None:
        print("\n".join(cases.lines(World(given.cases, given.keys, given.weeks), settings)))
        return 0
    groups = {"Tuned on": given.seeds, "Held out": given.held_out}
    tasks = [
        Task(World(seed, given.keys, given.weeks), settings, tuple(given.only),
             not given.brief, given.rate_setting)
        for seeds in groups.values() for seed in seeds
    ]  # fmt: skip
    worlds = _evaluate(tasks)
    print(f"{given.keys:,} keys, {given.weeks} weeks, settings {settings.config_hash}")
    if not given.brief and not has_setting(settings, given.rate_setting):
        print(f"No setting {given.rate_setting}: no false-revoke rates.")
    for name, seeds in groups.items():
        if seeds:
            figures = [worlds[seed] for seed in seeds]
            group = f"{name}, seeds {', '.join(map(str, seeds))}"
            if given.markdown:
                print(f"\n{tables.contenders(group, figures).markdown()}")
            else:
                for table in tables.all_tables(group, figures):
                    print(f"\n{table.text()}")
    if given.json:
        document = {
            "keys": given.keys, "weeks": given.weeks, "engine": engine(),
            "settings": settings.config_hash, "groups": groups, "worlds": list(worlds.values()),
        }  # fmt: skip
        # What there is none of is null, which JSON knows, and not NaN.
        strict = json.loads(json.dumps(document), parse_constant=lambda _: None)
        given.json.write_text(json.dumps(strict, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--keys", type=int, help="in each world (default 1000)")
    add("--weeks", type=int, help="the reviewed one included (default 9)")
    add("--seeds", type=_seeds, help="worlds that we tune on (default 1-4)")
    add("--held-out", type=_seeds, help="worlds that we don't (default 5-8)")
    add("--quick", action="store_true", help="two small worlds: 200 keys, 5 weeks, seeds 1 and 5")
    add("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"of {', '.join(CONTENDERS)}")  # fmt: skip
    add("--brief", action="store_true",
        help="no days to detection, ablation, false-revoke rates and quiet worlds")  # fmt: skip
    add("--rate-setting", default="scoring.false_revoke_rate", metavar="SECTION.NAME",
        help="what sets the false-revoke rate (default %(default)s)")  # fmt: skip
    add("--cases", type=int, metavar="SEED", help="only list the false alarms and misses there")
    add("--markdown", action="store_true", help="the table of docs/detection.md")
    add("--json", type=Path, metavar="FILE", help="also all figures, world by world")
    given = parser.parse_args()
    usual = (200, 5, [1], [5]) if given.quick else (1000, 9, [1, 2, 3, 4], [5, 6, 7, 8])
    for name, value in zip(("keys", "weeks", "seeds", "held_out"), usual, strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def _seeds(text: str) -> list[int]:
    """`1-4,7` as numbers; an empty text is none."""
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _evaluate(tasks: list[Task]) -> dict[int, Figures]:
    """Each world's figures by seed, in the tasks' order; says of each how long it took."""
    done: dict[int, Figures] = {}
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(evaluate, task) for task in tasks]):
            figures = future.result()
            done[figures["seed"]] = figures
            took = ", ".join(f"{part} {s:g}" for part, s in figures["seconds"].items() if s >= 0.1)
            print(f"seed {figures['seed']}, seconds: {took}", file=sys.stderr, flush=True)
    return {task.world.seed: done[task.world.seed] for task in tasks}


if __name__ == "__main__":
    sys.exit(main())
