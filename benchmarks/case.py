"""A key's case beside the review that it is read from.

`python -m benchmarks.case` takes the world of `benchmarks.review`, reviews its last week, reviews
it again, and shows the case of an alerted key and of one that is told in brief; each is a whole
process, and the figure is its processor time.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.review import (
    Material,
    add_world_arguments,
    forget_reviews,
    made_material,
    measure,
    world_folder,
)
from keywatch.lake import Lake

TARGET_CPU_SECONDS = 1.0


def main() -> int:
    given = _arguments()
    material, size = made_material(world_folder(given), given)
    print(size)
    forget_reviews(material.lake)
    within = ["--lake", str(material.lake), "--from", material.start, "--to", material.end]
    review = ["review", *within, "--output", str(material.raw.with_name("review.txt"))]
    _show("review, scored", review)
    _show("review, read", review, given.runs)
    for name, key_id in _keys(material).items():
        _show(f"case, {name}", ["case", key_id, *within], given.runs)
    print(f"target of a case: {TARGET_CPU_SECONDS} s")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.case", description=__doc__)
    add_world_arguments(parser)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def _keys(material: Material) -> dict[str, str]:
    """An alerted key of the newest run, and one that is told in brief."""
    with Lake.open(material.lake) as lake:
        rows = lake.rows(
            "SELECT CASE action WHEN 'none' THEN 'in brief' ELSE 'alerted' END AS kind, "
            "min(key_id) FROM lake.cases SEMI JOIN lake.reviews USING (run_id) GROUP BY kind "
            "ORDER BY kind"
        )
    return dict(rows)


def _show(name: str, command: list[str], runs: int = 1) -> None:
    measured = [measure([sys.executable, "-m", "keywatch", *command]) for _ in range(runs)]
    seconds = sorted(each.cpu_seconds for each in measured)
    print(f"{name:>16}  {seconds[0]:6.2f} to {seconds[-1]:6.2f} s CPU", flush=True)


if __name__ == "__main__":
    sys.exit(main())
