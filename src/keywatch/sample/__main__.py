"""`python -m keywatch.sample OUT`: make a world."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

from . import DEFAULT_END, generate


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 when the arguments make no world."""
    parser = argparse.ArgumentParser(prog="python -m keywatch.sample", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--keys", type=int, default=200, help="number of keys (default 200)")
    parser.add_argument("--weeks", type=int, default=9, help="length of the log (default 9)")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same world (default 1)")
    parser.add_argument("--thefts", type=int, help="number of stolen keys; 0: a quiet world")
    parser.add_argument("--events-per-key-day", type=float, help="mean volume (default 15)")
    parser.add_argument("--end", type=date.fromisoformat, default=DEFAULT_END,
                        help="day after the review week (default 2026-10-05)")  # fmt: skip
    parser.add_argument("--compress", choices=("none", "gz", "zst"), default="gz")
    given = parser.parse_args(arguments)
    try:
        world = generate(**vars(given))
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{world.events:,} lines of {world.keys:,} keys, {world.start} to {world.end} (excluded), "
        f"{world.stolen_keys} keys stolen from {world.review_start} on: {world.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
