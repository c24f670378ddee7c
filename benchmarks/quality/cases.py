"""The false alarms and the misses of one world, a line each: what to look at when tuning."""

from __future__ import annotations

from typing import Any

from benchmarks.quality.contenders.keywatch_review import review
from benchmarks.quality.evaluate import week_oddities
from benchmarks.quality.worlds import World
from keywatch.settings import Settings

ACTUAL_CHARACTERS = 48


def lines(world: World, settings: Settings) -> list[str]:
    """Key, habit, what befell it, action, bits, and each family's strongest evidence."""
    cases = {case["key_id"]: case for case in review(world, settings, world.end)}
    truth = world.truth
    alerted = {key_id for key_id, case in cases.items() if case["action"] != "none"}
    false = [key_id for key_id in cases if key_id in alerted and not truth["stolen"][key_id]]
    stolen = truth.index[truth["stolen"]]
    missed = [key_id for key_id in cases if key_id in stolen and key_id not in alerted]
    missed += [key_id for key_id in stolen if key_id not in cases]
    return [
        f"{len(false)} false alarms of seed {world.seed}, {world.keys:,} keys",
        *(_line(truth.loc[key_id], cases[key_id]) for key_id in false),
        f"{len(missed)} misses of {len(stolen)} thefts",
        *(_line(truth.loc[key_id], cases.get(key_id)) for key_id in missed),
    ]


def _line(truth: Any, case: dict[str, Any] | None) -> str:
    story = (
        f"theft {truth['theft']}, {truth['theft_requests']} requests"
        if truth["stolen"]
        else ", ".join(week_oddities(truth["oddities"]))
    )
    start = f"  {truth.name}  {truth['habit']}  {story}"
    if case is None:
        return f"{start}  no case"
    top: dict[str, dict[str, Any]] = {}
    for each in sorted(case["evidence"], key=lambda each: -each["bits"]):
        if each["bits"] > 0:
            top.setdefault(each["family"], each)
    said = (
        f"{family} {each['bits']:.1f} {each['detector']} ({each['actual'][:ACTUAL_CHARACTERS]})"
        for family, each in top.items()
    )
    return f"{start}  {case['action']} {case['bits']:.1f}  {'; '.join(said)}"
