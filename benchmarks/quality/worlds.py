"""Made worlds and what is computed from them, kept under one folder and named by what made them.

Everything is written beside its place and renamed into it: runs may share the folder, and what is
there is whole.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

import keywatch
from keywatch import pipeline, sample
from keywatch.content import content_path
from keywatch.lake import Lake
from keywatch.sample import Planned
from keywatch.settings import Settings

CACHE = Path(tempfile.gettempdir()) / "keywatch-benchmarks" / "quality"
ENGINE = Path(keywatch.__file__).parent
CODE = (ENGINE, content_path("data"), content_path("detectors"))
REVIEW_DAYS = 7

# What can't change a lake, but for the two functions of pipeline.py that make one. A module that is
# not named here makes the lakes anew when it changes: slow, but never wrong. Of the settings, the
# values that matter are looked at.
AFTER_THE_LAKE = {
    *("__main__.py", "calibration.py", "cases.py", "cli.py", "detectors", "detectors.py", "kinds"),
    *("inject.sql", "model.py", "pipeline.py", "power.py", "prepare.sql", "recommend.py"),
    *("replay.py", "report", "sample", "scored_window.py", "scoring.py", "settings.py"),
    *("roll_ups.sql", "span.sql", "groups.py", "verdicts.py"),
}


@dataclass(frozen=True)
class World:
    """A made world of `keys` keys: `weeks` weeks of log, of which the last one is reviewed.

    `thefts` is the number of stolen keys, or those planned; None for as many as the generator
    likes.
    """

    seed: int
    keys: int
    weeks: int
    thefts: int | tuple[Planned, ...] | None = None

    @cached_property
    def folder(self) -> Path:
        """Logs, inventory and truth; made where they are missing."""
        made_of = digest(self.seed, self.keys, self.weeks, self.thefts, _generator())
        name = f"world-{self.keys}-{self.weeks}-{self.seed}-{made_of}"

        def make(folder: Path) -> None:
            sample.generate(
                folder, keys=self.keys, weeks=self.weeks, seed=self.seed, thefts=self.thefts
            )

        return kept(CACHE / name, make)

    def lake_digest(self, settings: Settings) -> str:
        """Names all that a lake depends on but the log."""
        return digest(settings.ingest, settings.geoip, _ingest())

    def lake(self, settings: Settings) -> Path:
        """The world's lake; loaded where it is missing."""

        def load(lake: Path) -> None:
            pipeline.ingest(lake, [str(self.folder / "logs")], settings)
            pipeline.import_keys(lake, self.folder / "inventory.jsonl", settings)

        return kept(self.folder / f"lake-{self.lake_digest(settings)}", load)

    @cached_property
    def truth(self) -> pd.DataFrame:
        """One row a key, as the generator tells it, by `key_id`."""
        lines = (self.folder / "truth.jsonl").read_text("utf-8").splitlines()
        return pd.DataFrame([json.loads(line) for line in lines]).set_index("key_id")

    @property
    def end(self) -> datetime:
        """The end of the review week (excluded), which is that of the log."""
        return datetime.combine(sample.DEFAULT_END, time())

    @property
    def review_start(self) -> datetime:
        return self.end - timedelta(days=REVIEW_DAYS)

    def events(self, settings: Settings) -> pd.DataFrame:
        """One row a request, by key and time; the columns are those of the query.

        From the lake, so that whoever reads it has Keywatch's parsing, path templates and GeoIP
        for nothing. A network is an ASN; an address that no database knows has the network `-`.
        """
        with Lake.open(self.lake(settings)) as lake:
            table = lake.table(
                """
                SELECT e.key_id, e.day::TIMESTAMP AS day, e.ts, e.address,
                    coalesce('AS' || o.asn, '-') AS network, coalesce(o.country, '-') AS country,
                    e.endpoint, split_part(coalesce(e.agent, ''), '/', 1) AS product,
                    coalesce(e.agent, '') AS agent, coalesce(e.user_agent, '') AS user_agent,
                    e.status, e.response_bytes
                FROM lake.events AS e
                LEFT JOIN lake.origins AS o USING (address)
                ORDER BY e.key_id, e.ts
                """
            )
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def theft_days(self, settings: Settings) -> pd.DataFrame:
        """The thieves' requests: key_id, day, requests.

        Those from the thief's addresses between the theft's first and last request.
        """
        stolen = self.truth[self.truth.stolen]
        with Lake.open(self.lake(settings)) as lake:
            table = lake.table(
                """
                WITH thefts AS (
                    SELECT unnest($keys::VARCHAR[]) AS key_id,
                        unnest($addresses::VARCHAR[][]) AS addresses,
                        unnest($starts::VARCHAR[])::TIMESTAMP AS start,
                        unnest($ends::VARCHAR[])::TIMESTAMP AS until
                )

                SELECT key_id, day::TIMESTAMP AS day, count(*) AS requests
                FROM lake.events
                JOIN thefts USING (key_id)
                WHERE ts BETWEEN start AND until + INTERVAL 1 SECOND
                    AND list_contains(addresses, address)
                GROUP BY ALL
                ORDER BY ALL
                """,
                keys=stolen.index.tolist(),
                addresses=stolen.theft_addresses.tolist(),
                starts=[text.removesuffix("Z") for text in stolen.theft_start],
                ends=[text.removesuffix("Z") for text in stolen.theft_end],
            )
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def keep_frame(
        self, name: str, parts: Sequence[object], make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """What `make` returns, from the cache when it was made of the same `parts` before."""

        def write(file: Path) -> None:
            make().to_parquet(file)

        return pd.read_parquet(kept(self.folder / f"{name}-{digest(*parts)}.parquet", write))

    def keep_json(self, name: str, parts: Sequence[object], make: Callable[[], Any]) -> Any:
        """As `keep_frame`, for what JSON can say."""

        def write(file: Path) -> None:
            file.write_text(json.dumps(make()), encoding="utf-8")

        file = kept(self.folder / f"{name}-{digest(*parts)}.json", write)
        return json.loads(file.read_text("utf-8"))


@cache
def engine() -> str:
    """A digest of all that a review depends on but the lake and the settings."""
    return _digest_files(CODE, without={"sample"})


@cache
def contender_code(file: str) -> str:
    """A digest of a contender's source file and of this one, which gives it the events."""
    return _digest_files([Path(file), Path(__file__)])


@cache
def _generator() -> str:
    return _digest_files([ENGINE / "sample"])


@cache
def _ingest() -> str:
    return digest(
        _digest_files(CODE, without=AFTER_THE_LAKE),
        inspect.getsource(pipeline.ingest),
        inspect.getsource(pipeline.import_keys),
    )


def _times() -> tuple[int, ...]:
    """When each source file was last written."""
    roots = (*CODE, Path(__file__).parent)
    files = (file for root in roots for file in sorted(root.rglob("*")))
    return tuple(f.stat().st_mtime_ns for f in files if f.is_file() and f.suffix != ".pyc")


_TIMES = _times()


def digest(*parts: object) -> str:
    """12 hex digits of the parts' text."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _digest_files(paths: Iterable[Path], without: Set[str] = frozenset()) -> str:
    """By name and content of the files, folders' too, but for paths that have a part `without`."""
    skipped = {"__pycache__", *without}
    whole = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(path.parent)
            if file.is_file() and skipped.isdisjoint(name.parts):
                whole.update(f"{name}\0".encode())
                whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def kept(place: Path, make: Callable[[Path], None]) -> Path:
    """`place`, which `make` writes (a file or a folder) when it isn't there."""
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as scratch:
        made = Path(scratch) / place.name
        make(made)
        if _times() != _TIMES:
            raise SystemExit("the source changed during the run: run it again")
        # Another run may have been faster; its folder can't be replaced, and needn't be.
        with suppress(OSError):
            made.rename(place)
    if not place.exists():
        raise OSError(f"{place}: could not be written")
    return place
