"""Worlds without thefts, loaded once, to copies of which thieves' lines are added.

What the owners do is drawn from other random streams than the thefts, so the lines of an innocent
world and those of thieves, drawn later, make together what a world with these thefts would be. A
lake that is copied shares its Parquet files, which nobody changes, by hard links; the weeks that
were replayed are in the catalogue, and a load of the reviewed week leaves them valid. So another
theft costs a copy, a small load and one review, and the answer is that of a lake made from nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from benchmarks.quality.evaluate import NO_ODDITY
from benchmarks.quality.worlds import CACHE, World, digest, engine, kept
from keywatch import pipeline, sample
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.review import making
from keywatch.sample import Planned
from keywatch.sample.places import DAY_US
from keywatch.sample.world import EVENTS_PER_KEY_DAY, Made, make, steal
from keywatch.sample.write import write_world
from keywatch.settings import Settings

WEEK = timedelta(days=7)
WEEK_DAYS = 7
LATE_DAYS = 2
"""So many days of the week bring late lines of the week before, which has to be replayed again."""
STRONGEST = 3
"""Detectors that are named of a case."""


class Scored(TypedDict):
    """What a review says of one key. `strongest` are detectors, the one with most bits first."""

    key_id: str
    action: str
    bits: float
    p: float
    q: float
    strongest: list[str]


@dataclass(frozen=True)
class Thefts:
    """Thieves' lines in files by the day they are written, and what they steal."""

    files: dict[date, Path]
    kinds: dict[str, str]
    """Key → kind of theft."""
    days: dict[str, list[date]]
    """Key → days (UTC) on which its thief calls, in order."""

    def files_until(self, day: date) -> list[str]:
        return [str(file) for each, file in sorted(self.files.items()) if each <= day]


@dataclass(frozen=True)
class Base:
    """The innocent world of a seed; its last week is the one that thieves come in."""

    seed: int
    keys: int
    weeks: int
    settings: Settings = field(repr=False)

    @property
    def world(self) -> World:
        return World(self.seed, self.keys, self.weeks, thefts=0)

    @cached_property
    def made(self) -> Made:
        """The same world in memory, for thefts to be drawn from."""
        return make(
            keys=self.keys, weeks=self.weeks, seed=self.seed, thefts_wanted=0,
            end=sample.DEFAULT_END, events_per_key_day=EVENTS_PER_KEY_DAY,
        )  # fmt: skip

    def week(self, number: int = -1) -> Window:
        """A week of the world: the first is 0, the last -1."""
        return week_of(self.world, number)

    def days(self) -> list[date]:
        """The days of the last week."""
        return [(self.week().start + timedelta(days=n)).date() for n in range(WEEK_DAYS)]

    def lake(self, day: date | None = None) -> Path:
        """The lake as it is at the end of that day of the last week, the weeks before replayed.

        None: before the week. Each day is loaded into a copy of the day before, as a feed does.
        """
        made_of = digest(self.settings.config_hash, engine(), self.world.lake_digest(self.settings))
        if day is None:
            return kept(self.world.folder / f"before-{made_of}", self._load_before)
        days = self.days()
        nth = days.index(day)

        def next_day(lake: Path) -> None:
            copy_lake(self.lake(days[nth - 1] if nth else None), lake)
            if files := self._logs(days[nth : nth + 1]):
                pipeline.ingest(lake, files, self.settings)
            if nth < LATE_DAYS:
                score(lake, self.week(), self.settings, keep_replays=True)

        return kept(self.world.folder / f"day{nth + 1}-{made_of}", next_day)

    def _load_before(self, lake: Path) -> None:
        start = self.week().start.date()
        days = [start - timedelta(days=n) for n in range((self.weeks - 1) * WEEK_DAYS, 0, -1)]
        pipeline.ingest(lake, self._logs(days), self.settings)
        pipeline.import_keys(lake, self.world.folder / "inventory.jsonl", self.settings)

    def _logs(self, days: Iterable[date]) -> list[str]:
        return [str(self.world.folder / "logs" / f"{day}.jsonl.gz") for day in days]

    def innocent(self, week: int = -1) -> list[Scored]:
        """The review of a week of the whole world: every key of it that has bits is innocent."""
        lake = self.lake(self.days()[-1])
        made_of = (lake.name, week)
        found: list[Scored] = self.world.keep_json(
            "innocent", made_of,
            lambda: score(lake, self.week(week), self.settings, keep_replays=True),
        )  # fmt: skip
        return found

    def oddities(self, key_id: str, week: int = -1) -> list[str]:
        """What harmless befalls the key in that week: kinds, each once."""
        return oddities_in(self.week(week), self.world.truth["oddities"][key_id])

    def steal(
        self, folder: Path, plan: Sequence[Planned], draw: int, without: Iterable[int] = ()
    ) -> Thefts:
        """Draw the planned thefts and write the thieves' lines under `folder`."""
        return write_thefts(steal(self.made, plan, draw, without), folder)


def week_of(world: World, number: int) -> Window:
    """A week of the world: the first is 0, the last -1."""
    first = world.end - world.weeks * WEEK if number >= 0 else world.end
    return Window(first + number * WEEK, first + (number + 1) * WEEK)


def oddities_in(window: Window, oddities: Iterable[dict[str, Any]]) -> list[str]:
    """The kinds of those that begin in the window, or are passing and last into it; sorted."""
    start, end = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (window.start, window.end))
    return sorted({
        each["kind"] for each in oddities
        if each["start"] < end and (each["start"] >= start or (each["end"] or "") > start)
    }) or [NO_ODDITY]  # fmt: skip


def write_thefts(stolen: Made, folder: Path) -> Thefts:
    """Write the thieves' lines of a world without owners' lines."""
    logs, _ = write_world(stolen, folder, "none")
    days: dict[str, set[date]] = {}
    for theft, batch in zip(stolen.thefts, stolen.stolen, strict=True):
        days.setdefault(theft.key.key_id, set()).update(
            date(1970, 1, 1) + timedelta(days=int(day)) for day in set(batch.time_us // DAY_US)
        )
    return Thefts(
        files={date.fromisoformat(file.name[:10]): file for file in logs if file.stat().st_size},
        kinds={theft.key.key_id: theft.kind for theft in stolen.thefts},
        days={key_id: sorted(each) for key_id, each in days.items()},
    )


def score(
    lake: Path, window: Window, settings: Settings, *, keep_replays: bool = False
) -> list[Scored]:
    """What `keywatch watch` would say of the week now: the keys with bits, most suspicious first.

    Nothing is stored but, with `keep_replays`, the weeks that were replayed for it.
    """
    with Lake.open(lake, settings.storage) as opened:
        with opened.reading():
            answer, scored = making.make_review(
                opened, window, settings.without_power(), whole=False
            )
        if keep_replays:
            with opened.writing():
                scored.replays.keep(opened)
    return [scored_case(case) for case in answer.cases if case.bits > 0 or case.action != "none"]


def scored_case(case: Any) -> Scored:
    """A case in brief. Without calibration a p- and a q-value are 1."""
    strongest = sorted(case.evidence, key=lambda each: -each.bits)[:STRONGEST]
    return {
        "key_id": case.key_id,
        "action": case.action,
        "bits": case.bits,
        "p": 1.0 if case.p_value is None else case.p_value,
        "q": 1.0 if case.q_value is None else case.q_value,
        "strongest": [each.detector for each in strongest],
    }


def named(cases: Iterable[Scored]) -> set[str]:
    """The keys to revoke or to investigate."""
    return {case["key_id"] for case in cases if case["action"] in ("revoke", "investigate")}


def copy_lake(lake: Path, to: Path) -> None:
    """Copy a lake that nobody has open; Parquet files are linked."""
    shutil.copytree(lake, to, copy_function=_link_parquet, dirs_exist_ok=True)


def _link_parquet(source: str, target: str) -> None:
    if source.endswith(".parquet"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the cache, for the time inside."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=CACHE) as folder:
        yield Path(folder)
