"""Attacks on the review itself: what a thief can do about being found.

    python -m benchmarks.quality.attack           quick: 200 keys, one seed
    python -m benchmarks.quality.attack --full    1,000 keys, two seeds

- noisy keys: somebody who holds one key in twenty makes them loud in the four weeks before, so that
  ordinary weeks look wild and thefts in the reviewed week ordinary.
- a stolen week: three keys in a hundred are stolen in the week before, which nobody reviewed; the
  thefts of the reviewed week should be told from innocent keys as they are without.
- a job replayed: an owner's program runs beside it, daily, in another hosting network for three
  weeks. It should be named in the first, stay one open case, and be no news in the next.
- in the owner's own /24: the same from another address of the owner's prefix. Nothing in the log
  tells it from the owner: it is here to say so.

Thefts are added to the base worlds of `benchmarks.quality.lone` (`bases` says how).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from benchmarks.quality.bases import (
    Base,
    Scored,
    Thefts,
    copy_lake,
    named,
    score,
    scored_case,
    scratch,
    write_thefts,
)
from benchmarks.quality.lone import WEEKS
from benchmarks.quality.measures import share
from benchmarks.quality.tables import Table, tell
from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.sample import Planned
from keywatch.sample.attackers import Scene, Theft
from keywatch.sample.keys import Batch, Key
from keywatch.sample.places import DAY_US, WEEK_US, Source, fixed
from keywatch.sample.thefts import THEFTS
from keywatch.settings import load_settings

NOISY_SHARE = 0.05
NOISY_WEEKS = (-5, -4, -3, -2)
NOISE = ("scan", "bulk_read", "enumeration", "vpn_probe")
STOLEN_SHARE = 0.03
REPLAYED_WEEKS = (-3, -2, -1)
DAILY = ("dashboard", "iac", "alert_bridge", "fleet", "synthetic_monitor")
"""Habits of programs that run every day."""
GANG = 3
# Numbers of random streams: each attack draws thefts of its own, the reviewed week's are the same.
DRAW_THEFTS, DRAW_NOISE, DRAW_STOLEN, DRAW_PROGRAMS = 1001, 1002, 1003, 1004


class Compared(TypedDict):
    """The reviewed week as it is and under attack; keys of the attack itself are left out.

    `thefts` are key and kind; of the others the first are the keys that the weekly review names
    (or revokes) without the attack, the second with it.
    """

    seed: int
    thefts: dict[str, str]
    named: list[list[str]]
    revoked: list[list[str]]


class Replayed(TypedDict):
    """A program that was replayed: what each weekly review said, and how often it was told."""

    seed: int
    habit: str
    actions: list[str]
    told: list[int]
    alerts: int


class Near(TypedDict):
    """What the review says of a program that was replayed in the owner's own prefix."""

    seed: int
    habit: str
    action: str
    bits: float


def main() -> int:
    given = _arguments()
    settings = load_settings()
    figures: dict[str, list[Any]] = {"noisy": [], "stolen": [], "replayed": [], "near": []}
    for seed in given.seeds:
        base = Base(seed, given.keys, given.weeks, settings)
        for name, attack in ATTACKS.items():
            made_of = (base.lake(base.days()[-1]).name, given.programs)
            found = base.world.keep_json(f"attack-{name}", made_of, _task(attack, base, given))
            figures[name] += found
            print(f"seed {seed}: {name} done", file=sys.stderr, flush=True)
    print(f"{given.keys:,} keys, {given.weeks} weeks, seeds {given.seeds}, "
          f"settings {settings.config_hash}")  # fmt: skip
    tell(tables(**figures), figures, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.attack", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--full", action="store_true", help="1,000 keys, seeds 11 and 12, ten programs each")
    add("--keys", type=int, help="in each world")
    add("--seeds", type=int, nargs="+")
    add("--programs", type=int, help="that are replayed, in each world")
    add("--weeks", type=int, default=WEEKS, help="of each base world (default %(default)s)")
    add("--markdown", action="store_true", help="tables for docs/detection.md")
    add("--json", type=Path, metavar="FILE", help="also all figures")
    given = parser.parse_args()
    usual = (1000, [11, 12], 10) if given.full else (200, [11], 3)
    for name, value in zip(("keys", "seeds", "programs"), usual, strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def noisy_keys(base: Base, _: int) -> list[Compared]:
    """One key in twenty, made loud in the weeks before."""
    rng = np.random.default_rng((base.seed, DRAW_NOISE))
    held = _in_use(base, rng, max(round(base.keys * NOISY_SHARE), 2))
    noise = [
        Planned(NOISE[int(rng.integers(len(NOISE)))], week, victim=key.number)
        for key in held for week in NOISY_WEEKS
    ]  # fmt: skip
    return [_compared(base, noise, DRAW_NOISE, held)]


def stolen_week(base: Base, _: int) -> list[Compared]:
    """Many thefts in the week before the reviewed one."""
    count = max(round(base.keys * STOLEN_SHARE), 2)
    kinds = list(THEFTS)
    plan = [Planned(kinds[nth % len(kinds)], -2) for nth in range(count)]
    return [_compared(base, plan, DRAW_STOLEN, [])]


def _compared(base: Base, plan: Sequence[Planned], draw: int, held: Sequence[Key]) -> Compared:
    """The reviewed week, with a theft of each kind in it, before and after the planned attack."""
    with scratch() as folder:
        week = [*(Planned(kind) for kind in THEFTS), Planned("campaign", keys=GANG)]
        numbers = {key.number for key in held}
        thefts = base.steal(folder / "thefts", week, DRAW_THEFTS, numbers)
        taken = {key.number for key in base.made.keys if key.key_id in thefts.kinds}
        attack = base.steal(folder / "attack", plan, draw, taken)
        before = _week_with(base, folder / "before", [thefts])
        after = _week_with(base, folder / "after", [attack, thefts])
    apart = set(attack.kinds)
    return Compared(
        seed=base.seed,
        thefts=thefts.kinds,
        named=[sorted(named(cases) - apart) for cases in (before, after)],
        revoked=[sorted(_revoked(cases) - apart) for cases in (before, after)],
    )


def _week_with(base: Base, lake: Path, thefts: Iterable[Thefts]) -> list[Scored]:
    last = base.days()[-1]
    copy_lake(base.lake(last), lake)
    for each in thefts:
        pipeline.ingest(lake, each.files_until(last), base.settings)
    return score(lake, base.week(), base.settings)


def _revoked(cases: Iterable[Scored]) -> set[str]:
    return {case["key_id"] for case in cases if case["action"] == "revoke"}


def replayed_jobs(base: Base, programs: int) -> list[Replayed]:
    """Each program in a lake of its own; its weeks reviewed in order and kept."""
    rng = np.random.default_rng((base.seed, DRAW_PROGRAMS))
    made = base.made
    first_us = made.end_us + REPLAYED_WEEKS[0] * WEEK_US
    found = []
    for key in _in_use(base, rng, programs, habits=DAILY):
        scene = Scene(rng, made.keys, made.start_us, made.end_us, first_us, made.end_us, made.pools)
        theft = Theft("replayed_program", key, scene)
        theft.run_program(
            first_us + int(rng.uniform(0.1, 1) * DAY_US), made.end_us,
            fixed(rng, theft.foreign("hosting")),
        )  # fmt: skip
        with scratch() as folder:
            lake = folder / "lake"
            copy_lake(base.lake(base.days()[-1]), lake)
            _load(base, lake, folder / "theft", [theft])
            actions = []
            for week in REPLAYED_WEEKS:
                answer = pipeline.review(
                    lake, base.week(week), base.settings.without_power(), whole=False
                )
                cases = {case.key_id: scored_case(case)["action"] for case in answer.cases}
                actions.append(cases.get(key.key_id, "none"))
            told, alerts = _told(base, lake, key.key_id)
        found.append(Replayed(seed=base.seed, habit=key.habit, actions=actions, told=told,
                              alerts=alerts))  # fmt: skip
    return found


def _told(base: Base, lake: Path, key_id: str) -> tuple[list[int], int]:
    """How often each of the weeks changed an alert of the key, and how many alerts there are."""
    with Lake.open(lake, base.settings.storage) as opened:
        rows = opened.rows(
            "SELECT window_start, alert_id FROM lake.alerts WHERE list_contains(key_ids, $key)",
            key=key_id,
        )
    starts = [start for start, _ in rows]
    told = [starts.count(base.week(week).start) for week in REPLAYED_WEEKS]
    return told, len({alert_id for _, alert_id in rows})


def near_owners(base: Base, programs: int) -> list[Near]:
    """Programs replayed for days from another address of the owner's own /24."""
    rng = np.random.default_rng((base.seed, DRAW_PROGRAMS))
    made = base.made
    scene = Scene(
        rng, made.keys, made.start_us, made.end_us, made.review_us, made.end_us, made.pools
    )
    thefts = []
    for key in _in_use(base, rng, programs, habits=DAILY, fixed_only=True):
        theft = Theft("replayed_program", key, scene)
        start_us = made.review_us + int(rng.uniform(0, 3) * DAY_US)
        theft.run_program(start_us, start_us + 3 * DAY_US, _neighbour(key, made.review_us))
        thefts.append(theft)
    with scratch() as folder:
        lake = folder / "lake"
        copy_lake(base.lake(base.days()[-1]), lake)
        _load(base, lake, folder / "theft", thefts)
        cases = {case["key_id"]: case for case in score(lake, base.week(), base.settings)}
    found = []
    for theft in thefts:
        case = cases.get(theft.key.key_id)
        found.append(Near(
            seed=base.seed, habit=theft.key.habit, action=case["action"] if case else "none",
            bits=case["bits"] if case else 0.0,
        ))  # fmt: skip
    return found


def _neighbour(key: Key, at_us: int) -> Source:
    """Another address of the /24 that the key is used from."""
    source = key.slots[0].source_at(at_us)
    first = source.pool[0] >> 8 << 8
    address = next(first + host for host in range(1, 255) if first + host not in source.pool)
    return Source(source.network, pool=(address,))


def _load(base: Base, lake: Path, folder: Path, thefts: Sequence[Theft]) -> None:
    made = replace(
        base.made, own=[Batch.empty()] * len(base.made.keys), thefts=list(thefts),
        stolen=[theft.batch() for theft in thefts],
    )  # fmt: skip
    files = write_thefts(made, folder).files_until(base.days()[-1])
    pipeline.ingest(lake, files, base.settings)


def _in_use(
    base: Base, rng: np.random.Generator, count: int, *, habits: Sequence[str] = (),
    fixed_only: bool = False,
) -> list[Key]:  # fmt: skip
    """Keys that were in use in all of the weeks, as many as there are of those wanted."""
    made = base.made
    settled_us = made.start_us + (made.end_us - made.start_us) // 2

    def fits(key: Key) -> bool:
        pool = key.slots[0].source_at(made.review_us).pool
        return (
            key.revoked_us is None and key.ramp is None and key.created_us < settled_us
            and (not habits or key.habit in habits)
            and (not fixed_only or bool(pool and pool[0] > 0))
        )  # fmt: skip

    fitting = [key for key in made.keys if fits(key)]
    return [fitting[i] for i in rng.permutation(len(fitting))[:count]]


def tables(
    noisy: Sequence[Compared], stolen: Sequence[Compared], replayed: Sequence[Replayed],
    near: Sequence[Near],
) -> list[Table]:  # fmt: skip
    """What each attack changes."""
    rows = [
        row for words, found in (("noisy keys", noisy), ("a stolen week before", stolen))
        for row in _difference(words, found)
    ]  # fmt: skip
    header = ("", "thefts named", "revoked", "innocent named", "innocent revoked", "share")
    changes = [
        (words, *(str(sum(map(count, found))) for count in (_lost, _added, _newly_revoked)))
        for words, found in (("noisy keys", noisy), ("a stolen week before", stolen))
    ]
    jobs = [
        (each["habit"], *each["actions"], "/".join(map(str, each["told"])), str(each["alerts"]))
        for each in replayed
    ]
    first = sum(each["actions"][0] in ("revoke", "investigate") for each in replayed)
    quiet = sum(each["alerts"] == 1 and sum(each["told"][1:]) == 0 for each in replayed)
    found_near = sum(each["action"] in ("revoke", "investigate") for each in near)
    return [
        Table("The reviewed week as it is and under attack (share: innocent of those revoked)",
              header, rows),
        Table("Alerts that the attack takes away or adds (goal: none)",
              ("", "lost", "added", "innocent newly revoked"), changes),
        Table(f"A job replayed for three weeks: {first} of {len(replayed)} named in the first, "
              f"{quiet} told once",
              ("", "week 1", "week 2", "week 3", "told", "alerts"), jobs),
        Table(f"In the owner's own /24: {found_near} of {len(near)} named (beyond detection)",
              ("", "action", "bits"),
              [(each["habit"], each["action"], f"{each['bits']:.1f}") for each in near]),
    ]  # fmt: skip


def _difference(words: str, found: Sequence[Compared]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for nth, when in enumerate(("without", "with")):
        innocent_named, wrong = (
            sum(len(_innocent(each, keys[nth])) for each, keys in zip(found, lists, strict=True))
            for lists in ([f["named"] for f in found], [f["revoked"] for f in found])
        )
        hits = sum(len(set(each["named"][nth]) & set(each["thefts"])) for each in found)
        revoked = sum(len(each["revoked"][nth]) for each in found)
        rows.append((f"{words}: {when}", f"{hits} of {sum(len(f['thefts']) for f in found)}",
                     str(revoked - wrong), str(innocent_named), str(wrong),
                     f"{share(wrong, revoked):.3f}"))  # fmt: skip
    return rows


def _innocent(found: Compared, keys: Iterable[str]) -> set[str]:
    return set(keys) - set(found["thefts"])


def _lost(found: Compared) -> int:
    return len(set(found["named"][0]) - set(found["named"][1]))


def _added(found: Compared) -> int:
    return len(set(found["named"][1]) - set(found["named"][0]))


def _newly_revoked(found: Compared) -> int:
    return len(_innocent(found, set(found["revoked"][1]) - set(found["revoked"][0])))


Attack = Callable[[Base, int], Sequence[Any]]
ATTACKS: dict[str, Attack] = {
    "noisy": noisy_keys, "stolen": stolen_week, "replayed": replayed_jobs, "near": near_owners,
}  # fmt: skip


def _task(attack: Attack, base: Base, given: argparse.Namespace) -> Callable[[], Sequence[Any]]:
    return lambda: attack(base, given.programs)


if __name__ == "__main__":
    sys.exit(main())
