"""Years of weekly reviews of 200 keys, with one theft a quarter.

    python -m benchmarks.quality.year                quick: one year
    python -m benchmarks.quality.year --years 12     the figures of docs/detection.md
    python -m benchmarks.quality.year --analyst      every alert gets the true verdict

The weeks are reviewed in order in one lake and each answer is kept, as `keywatch review --missed`
does, so what one week finds is out of the usual of the next. The whole log is loaded before the
first review: a review reads nothing after its window. Nobody gives a verdict, but with `--analyst`.
A year that was reviewed before is kept under the temporary folder: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from benchmarks.quality.bases import copy_lake, named, oddities_in, scored_case, scratch, week_of
from benchmarks.quality.measures import share, wilson
from benchmarks.quality.tables import Table, tell
from benchmarks.quality.worlds import World, engine
from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.sample import LOUDNESS, Planned
from keywatch.sample.thefts import THEFTS
from keywatch.settings import Settings, load_settings

KEYS = 200
REVIEWS = 52
WEEKS_BEFORE = 8
"""Of log, before the first review."""
QUARTER_WEEKS = 13
FIRST_SEED = 101


class Theft(TypedDict):
    """What the review of its week said of a stolen key, and whether any review named it later."""

    key_id: str
    kind: str
    action: str
    named_later: bool


class FalseAlarm(TypedDict):
    """An innocent key in a week that names it; `goes_on` where an earlier week has named it."""

    key_id: str
    week: int
    action: str
    goes_on: bool
    oddities: list[str]


class Year(TypedDict):
    """What the reviews of a year say.

    `named` are the keys that each week's review names, stolen ones too; `told` are the alerts that
    were opened or changed in each. `revoked` are stolen keys to revoke.
    """

    seed: int
    thefts: list[Theft]
    named: list[int]
    told: list[int]
    false_alarms: list[FalseAlarm]
    revoked: list[str]


def main() -> int:
    given = _arguments()
    settings = load_settings()
    years: list[Year] = []
    for seed in range(FIRST_SEED, FIRST_SEED + given.years):
        years.append(year(seed, given.keys, given.reviews, settings, analyst=given.analyst))
        print(f"year {seed}: {_in_brief(years[-1])}", file=sys.stderr, flush=True)
    verdicts = "a true verdict on every alert" if given.analyst else "no verdicts"
    print(f"{len(years)} years of {given.reviews} reviews, {given.keys} keys, {verdicts}, "
          f"settings {settings.config_hash}")  # fmt: skip
    tell(tables(years, given.keys, settings), years, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.year", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--years", type=int, default=1, help="that are pooled (default 1)")
    add("--full", action="store_const", const=12, dest="years", help="twelve years")
    add("--keys", type=int, default=KEYS)
    add("--reviews", type=int, default=REVIEWS, help="in a year (default %(default)s)")
    add("--analyst", action="store_true", help="somebody gives each alert the true verdict")
    add("--markdown", action="store_true", help="tables for docs/detection.md")
    add("--json", type=Path, metavar="FILE", help="also all figures")
    return parser.parse_args()


def plan(seed: int, reviews: int) -> tuple[Planned, ...]:
    """One theft a quarter, in any week of it; successive seeds go through all kinds in turn.

    Without campaigns: they are several thefts at once.
    """
    kinds = np.random.default_rng(0).permutation(list(THEFTS)).tolist()
    rng = np.random.default_rng(seed)
    quarters = range(0, reviews, QUARTER_WEEKS)
    turn = (seed - FIRST_SEED) * len(quarters)
    return tuple(
        Planned(
            kinds[(turn + nth) % len(kinds)],
            WEEKS_BEFORE + first + int(rng.integers(min(QUARTER_WEEKS, reviews - first))),
        )
        for nth, first in enumerate(quarters)
    )


def year(seed: int, keys: int, reviews: int, settings: Settings, *, analyst: bool) -> Year:
    """The reviews of one year of a world of its own."""
    world = World(seed, keys, WEEKS_BEFORE + reviews, thefts=plan(seed, reviews))
    made_of = (world.lake(settings).name, engine(), settings.config_hash, analyst)
    found: Year = world.keep_json("year", made_of, lambda: _reviewed(world, settings, analyst))
    return found


def _reviewed(world: World, settings: Settings, analyst: bool) -> Year:
    truth = world.truth
    began = {
        str(key_id): str(start).removesuffix("Z")
        for key_id, start in truth["theft_start"][truth["stolen"]].items()
    }
    found = Year(
        seed=world.seed, thefts=[], named=[], told=[], false_alarms=[], revoked=[]
    )  # fmt: skip
    before: set[str] = set()
    revoked: set[str] = set()
    with scratch() as folder:
        lake = folder / "lake"
        copy_lake(world.lake(settings), lake)
        for number in range(WEEKS_BEFORE, world.weeks):
            window = week_of(world, number)
            answer = pipeline.review(lake, window, settings.without_power(), whole=False)
            cases = [scored_case(case) for case in answer.cases]
            actions = {case["key_id"]: case["action"] for case in cases}
            alerted = sorted(named(cases))
            found["named"].append(len(alerted))
            for key_id in alerted:
                stolen = key_id in began and began[key_id] < window.end.isoformat()
                if stolen and actions[key_id] == "revoke":
                    revoked.add(key_id)
                if not stolen:
                    odd = oddities_in(window, truth["oddities"][key_id])
                    found["false_alarms"].append(
                        FalseAlarm(key_id=key_id, week=number, action=actions[key_id],
                                   goes_on=key_id in before, oddities=odd)
                    )  # fmt: skip
                if analyst:
                    pipeline.give_verdict(
                        lake, key_id, "compromised" if stolen else "benign", settings,
                        by="analyst", because="the truth", window=window,
                    )  # fmt: skip
            before.update(alerted)
            found["thefts"] += [
                Theft(key_id=key_id, kind=str(truth["theft"][key_id]), named_later=False,
                      action=actions.get(key_id, "none"))
                for key_id, start in began.items()
                if window.start.isoformat() <= start < window.end.isoformat()
            ]  # fmt: skip
            for theft in found["thefts"]:
                theft["named_later"] |= not _is_named(theft) and theft["key_id"] in alerted
        found["told"] = _told(lake, world, settings)
    found["revoked"] = sorted(revoked)
    return found


def _told(folder: Path, world: World, settings: Settings) -> list[int]:
    """How many alerts each week opened or changed."""
    with Lake.open(folder, settings.storage) as lake:
        told = Counter(
            start
            for (start,) in lake.rows(
                "SELECT window_start FROM lake.alerts WHERE state <> 'closed'"
            )
        )
    weeks = range(WEEKS_BEFORE, world.weeks)
    return [told[week_of(world, number).start] for number in weeks]


def tables(years: Sequence[Year], keys: int, settings: Settings) -> list[Table]:
    """The goals, the thefts by kind, and the innocent keys by what befell them."""
    thefts = [theft for each in years for theft in each["thefts"]]
    false = [one for each in years for one in each["false_alarms"]]
    weeks = sum(len(each["named"]) for each in years)
    told = [count for each in years for count in each["told"]]
    at_once = [count for each in years for count in each["named"]]
    hits = sum(_is_named(theft) for theft in thefts)
    low, high = wilson(hits, len(thefts))
    right = sum(len(each["revoked"]) for each in years)
    wrong = sum(
        len({one["key_id"] for one in each["false_alarms"] if one["action"] == "revoke"})
        for each in years
    )
    begun = [one for one in false if not one["goes_on"]]
    budget = settings.scoring.investigate_per_1000_keys * keys / 1000
    goals = [
        ("thefts named", f"{hits} of {len(thefts)} = {share(hits, len(thefts)):.2f}, "
         f"{low:.2f}–{high:.2f}", "0.9"),
        ("in a later week", str(sum(theft["named_later"] for theft in thefts)), ""),
        ("innocent of those revoked", f"{wrong} of {wrong + right} = "
         f"{share(wrong, wrong + right):.2f}", "0.1"),
        ("alerts opened or changed a week", f"{share(sum(told), weeks):.2f}, at most {max(told)}",
         f"{budget:g}"),
        ("innocent keys named for the first time", f"{share(len(begun), weeks):.2f}",
         f"{budget:g}"),
        ("named in a week, open cases too", f"{share(sum(at_once), weeks):.2f}, "
         f"at most {max(at_once)}", ""),
    ]  # fmt: skip
    by_kind = [
        (kind, LOUDNESS[kind], *(
            str(sum(is_one(theft) for theft in thefts if theft["kind"] == kind))
            for is_one in (lambda _: True, _is_named, lambda t: t["action"] == "revoke")
        ))
        for kind in sorted({theft["kind"] for theft in thefts})
    ]  # fmt: skip
    counts: dict[str, Counter[str]] = {}
    for one in begun:
        for kind in one["oddities"]:
            counts.setdefault(kind, Counter())[one["action"]] += 1
    by_oddity = [
        (kind, str(n["revoke"]), str(n["investigate"]))
        for kind, n in sorted(counts.items(), key=lambda pair: -pair[1].total())
    ]
    return [
        Table("A year of weekly reviews, one theft a quarter", ("", "figure", "goal"), goals),
        Table("Thefts by kind", ("", "", "thefts", "named", "revoked"), by_kind),
        Table("Innocent keys by what befell them", ("", "revoke", "investigate"), by_oddity),
    ]


def _is_named(theft: Theft) -> bool:
    return theft["action"] in ("revoke", "investigate")


def _in_brief(each: Year) -> str:
    thefts = ", ".join(f"{theft['kind']} {theft['action']}" for theft in each["thefts"])
    innocent = {one["key_id"] for one in each["false_alarms"]}
    return f"{sum(each['told'])} alerts told, {len(innocent)} innocent keys named; {thefts}"


if __name__ == "__main__":
    sys.exit(main())
