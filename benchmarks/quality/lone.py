"""Lone thefts: one to three in a week of a lake where nothing else is wrong.

    python -m benchmarks.quality.lone             quick: 200 keys, one seed
    python -m benchmarks.quality.lone --full      200 and 1,000 keys, over 100 loud thefts

Each theft is scored at the end of every day on which its thief calls, as `keywatch watch` scores
it: the whole week as far as it has come (`bases` says how that is had for little). It is *named*
when one of these says revoke or investigate. The weekly review of the same lake says what is to be
revoked; innocent weeks, the last five of each base world, say at what price. Copies of a base that
were scored before are kept under the temporary folder, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypedDict

import numpy as np

from benchmarks.quality.bases import Base, Scored, copy_lake, named, score, scratch
from benchmarks.quality.measures import share, wilson
from benchmarks.quality.tables import Table, tell
from keywatch import pipeline
from keywatch.sample import LOUDNESS, Planned
from keywatch.sample.thefts import THEFTS
from keywatch.settings import load_settings

WEEKS = 17
"""Of a base world: the five that are innocent have eight to be replayed before each."""
INNOCENT_WEEKS = 5
SIZES = (1, 2, 3)
"""Thefts in a copy, by turns."""
GANG = (2, 3)
KEY_WEEKS = 20_000
"""Innocent revokes are told of so many: 20 weeks of 1,000 keys."""
ALLOWED = (0, 1, 5, 20)
GOALS = {"loud": 0.98, "slow": 0.7}
WORST = 20
"""Innocent cases that are listed."""

Score = tuple[float, ...]


class Theft(TypedDict):
    """What became of one theft. `day` of naming counts from its first; None: never in its days."""

    keys: int
    seed: int
    kind: str
    named_day: int | None
    weekly: Scored | None


class Innocent(TypedDict):
    """An innocent key that a weekly review gives bits."""

    keys: int
    seed: int
    case: Scored
    oddities: list[str]


def main() -> int:
    given = _arguments()
    settings = load_settings()
    thefts: list[Theft] = []
    innocents: list[Innocent] = []
    key_weeks: Counter[int] = Counter()
    disturbed = 0
    for keys, rounds in given.sizes.items():
        for seed in given.seeds:
            base = Base(seed, keys, given.weeks, settings)
            innocents += innocent_cases(base, given.innocent_weeks)
            key_weeks[keys] += keys * given.innocent_weeks
            for draw, plan in enumerate(plans(seed, rounds), 1):
                found, others = copy_figures(base, plan, draw)
                thefts += found
                disturbed += others
                print(f"{keys:,} keys, seed {seed}, copy {draw}: {_told(found)}",
                      file=sys.stderr, flush=True)  # fmt: skip
    print(f"{len(thefts)} thefts; {given.weeks} weeks, settings {settings.config_hash}")
    print(f"Innocent keys revoked in copies only: {disturbed}")
    figures = {"thefts": thefts, "innocents": innocents, "key_weeks": key_weeks}
    tell(tables(thefts, innocents, key_weeks), figures, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.lone", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--full", action="store_true", help="four seeds of 200 keys (two rounds) and 1,000 (one)")
    add("--keys", type=int, help="in each world, instead of both sizes")
    add("--seeds", type=int, nargs="+", help="of the base worlds (11; with --full 11 to 14)")
    add("--rounds", type=int, help="of all kinds of theft for each base world")
    add("--innocent-weeks", type=int, default=INNOCENT_WEEKS, metavar="N")
    add("--weeks", type=int, default=WEEKS, help="of each base world (default %(default)s)")
    add("--markdown", action="store_true", help="tables for docs/detection.md")
    add("--json", type=Path, metavar="FILE", help="also all cases")
    given = parser.parse_args()
    given.seeds = given.seeds or ([11, 12, 13, 14] if given.full else [11])
    given.sizes = {200: 2, 1000: 1} if given.full else {200: 1}
    if given.keys:
        given.sizes = {given.keys: 1}
    if given.rounds:
        given.sizes = dict.fromkeys(given.sizes, given.rounds)
    return given


def plans(seed: int, rounds: int) -> list[tuple[Planned, ...]]:
    """The thefts of each copy: in a round every kind once, and one campaign of a few keys."""
    rng = np.random.default_rng(seed)
    found: list[tuple[Planned, ...]] = []
    for nth in range(rounds):
        found.append((Planned("campaign", keys=GANG[nth % len(GANG)]),))
        kinds = [list(THEFTS)[i] for i in rng.permutation(len(THEFTS))]
        for size in cycle(SIZES):
            if not kinds:
                break
            found.append(tuple(Planned(kind) for kind in kinds[:size]))
            kinds = kinds[size:]
    return found


def copy_figures(base: Base, plan: Sequence[Planned], draw: int) -> tuple[list[Theft], int]:
    """The thefts of one copy of the base, and how many innocent keys they have revoked."""
    made_of = (base.lake(base.days()[-1]).name, tuple(plan), draw)
    thefts, others = base.world.keep_json("lone", made_of, lambda: _copy(base, plan, draw))
    return thefts, others


def _copy(base: Base, plan: Sequence[Planned], draw: int) -> tuple[list[Theft], int]:
    days = base.days()
    with scratch() as folder:
        stolen = base.steal(folder / "thefts", plan, draw)

        def scored_on(nth: int) -> list[Scored]:
            lake = folder / f"lake{nth}"
            copy_lake(base.lake(days[nth]), lake)
            pipeline.ingest(lake, stolen.files_until(days[nth]), base.settings)
            return score(lake, base.week(), base.settings)

        named_day: dict[str, int] = {}
        reviews: dict[int, list[Scored]] = {}
        for nth, day in enumerate(days):
            active = [key_id for key_id, when in stolen.days.items() if day in when]
            if set(active) - set(named_day):
                reviews[nth] = scored_on(nth)
                for key_id in named(reviews[nth]).intersection(active):
                    first = days.index(stolen.days[key_id][0])
                    named_day.setdefault(key_id, nth - first)
        last = len(days) - 1
        if last not in reviews:
            reviews[last] = scored_on(last)
        weekly = {case["key_id"]: case for case in reviews[last]}
    before = {case["key_id"]: case["action"] for case in base.innocent()}
    others = sum(
        case["action"] == "revoke" != before.get(key_id) and key_id not in stolen.kinds
        for key_id, case in weekly.items()
    )
    return [
        Theft(keys=base.keys, seed=base.seed, kind=kind, named_day=named_day.get(key_id),
              weekly=weekly.get(key_id))
        for key_id, kind in stolen.kinds.items()
    ], others  # fmt: skip


def innocent_cases(base: Base, weeks: int) -> list[Innocent]:
    """Every case of the last `weeks` weekly reviews of the base world."""
    return [
        Innocent(keys=base.keys, seed=base.seed, case=case,
                 oddities=base.oddities(case["key_id"], -nth))
        for nth in range(1, weeks + 1) for case in base.innocent(-nth)
    ]  # fmt: skip


def tables(
    thefts: Sequence[Theft], innocents: Sequence[Innocent], key_weeks: Counter[int]
) -> list[Table]:
    """What the figures say, the loud and the quiet first."""
    found = [naming(thefts)]
    for keys in key_weeks:
        of_size = [theft for theft in thefts if theft["keys"] == keys]
        cases = [each for each in innocents if each["keys"] == keys]
        for words, by in SCORES.items():
            found.append(revoking(of_size, cases, key_weeks[keys], keys, words, by))
    return [*found, by_oddity(innocents), worst(innocents)]


def naming(thefts: Sequence[Theft]) -> Table:
    """The share of thefts named by the feed, by class and by kind, with 95 % intervals."""
    groups: dict[str, list[Theft]] = {}
    for theft in sorted(thefts, key=lambda each: LOUDNESS[each["kind"]]):
        groups.setdefault(f"all {LOUDNESS[theft['kind']]}", []).append(theft)
    for theft in sorted(thefts, key=lambda each: (each["keys"], LOUDNESS[each["kind"]])):
        words = f"{LOUDNESS[theft['kind']]}, {theft['keys']:,} keys"
        groups.setdefault(words, []).append(theft)
    for theft in sorted(thefts, key=lambda each: (LOUDNESS[each["kind"]], each["kind"])):
        groups.setdefault(theft["kind"], []).append(theft)
    rows = []
    for name, group in groups.items():
        hits = sum(theft["named_day"] is not None for theft in group)
        first = sum(theft["named_day"] == 0 for theft in group)
        revoked = sum(_is_revoked(theft["weekly"]) for theft in group)
        low, high = wilson(hits, len(group))
        goal = GOALS.get(name.removeprefix("all "), "")
        rows.append((name, str(len(group)), f"{share(first, len(group)):.2f}",
                     f"{share(hits, len(group)):.2f}", f"{low:.2f}–{high:.2f}",
                     str(goal), f"{share(revoked, len(group)):.2f}"))  # fmt: skip
    header = ("", "thefts", "on its first day", "named", "95 %", "goal", "revoked")
    return Table("Lone thefts that the feed names", header, rows)


def _is_revoked(case: Scored | None) -> bool:
    return case is not None and case["action"] == "revoke"


def by_q_value(case: Scored) -> Score:
    return (-case["q"], case["bits"])


def by_bits(case: Scored) -> Score:
    return (case["bits"],)


SCORES: dict[str, Callable[[Scored], Score]] = {"q-value": by_q_value, "bits": by_bits}
"""By what cases can be put in order, the higher the surer."""


def revoking(
    thefts: Sequence[Theft], innocents: Sequence[Innocent], key_weeks: int, keys: int,
    words: str, score: Callable[[Scored], Score],
) -> Table:  # fmt: skip
    """The share of thefts whose weekly case stands before all innocent cases but a few."""
    ranked = sorted((score(each["case"]) for each in innocents), reverse=True)
    rows = []
    for allowed in ALLOWED:
        here = int(allowed * key_weeks / KEY_WEEKS)
        least = ranked[here] if here < len(ranked) else (-np.inf, 0.0)
        rows.append((str(allowed), str(here), *_recalls(thefts, _beyond(score, least)),
                     ", ".join(f"{abs(part):.3g}" for part in least)))  # fmt: skip
    false = sum(each["case"]["action"] == "revoke" for each in innocents)
    rows.append(("action", str(false), *_recalls(thefts, _is_revoked), ""))
    header = ("innocent", "here", "loud", "slow", "probe", "all", f"beyond {words}")
    title = (
        f"Revoke by {words}, {keys:,} keys: recall at so many innocent keys revoked in 20 weeks\n"
        f"of 1,000 keys (here: of {key_weeks:,} key-weeks; action: what the review calls revoke)"
    )
    return Table(title, header, rows)


def _beyond(score: Callable[[Scored], Score], least: Score) -> Callable[[Scored], bool]:
    return lambda case: score(case) > least


def _recalls(thefts: Sequence[Theft], is_caught: Callable[[Scored], bool]) -> Iterable[str]:
    for group in ("loud", "slow", "probe", "all"):
        weekly = [t["weekly"] for t in thefts if group in ("all", LOUDNESS[t["kind"]])]
        caught = sum(case is not None and is_caught(case) for case in weekly)
        yield f"{share(caught, len(weekly)):.2f}" if weekly else "–"


def by_oddity(innocents: Sequence[Innocent]) -> Table:
    """Innocent keys to revoke or to investigate, by what befell them in the week."""
    counts: dict[str, Counter[str]] = {}
    for each in innocents:
        for kind in each["oddities"]:
            counts.setdefault(kind, Counter())[each["case"]["action"]] += 1
    order = sorted(counts, key=lambda kind: (-counts[kind]["revoke"], -counts[kind]["investigate"]))
    rows = [
        (kind, str(counts[kind]["revoke"]), str(counts[kind]["investigate"]))
        for kind in order if counts[kind]["revoke"] + counts[kind]["investigate"]
    ]  # fmt: skip
    title = "Innocent keys by what befell them (an oddity in the week; a key may have several)"
    return Table(title, ("", "revoke", "investigate"), rows)


def worst(innocents: Sequence[Innocent]) -> Table:
    """The innocent cases that a thief has to stand out against."""
    order = sorted(innocents, key=lambda each: by_q_value(each["case"]), reverse=True)
    rows: list[tuple[str, ...]] = [
        (", ".join(each["oddities"]), f"{each['keys']:,}/{each['seed']}", each["case"]["action"],
         f"{each['case']['q']:.3g}", f"{each['case']['bits']:.1f}",
         ", ".join(each["case"]["strongest"]))
        for each in order[:WORST]
    ]  # fmt: skip
    header = ("", "keys/seed", "action", "q", "bits", "strongest")
    return Table(f"The {WORST} strangest innocent cases", header, rows)


def _told(thefts: Sequence[Theft]) -> str:
    return ", ".join(
        f"{t['kind']} {'missed' if t['named_day'] is None else 'named'}" for t in thefts
    )


if __name__ == "__main__":
    sys.exit(main())
