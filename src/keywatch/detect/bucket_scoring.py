"""A window scored in buckets of its keys, on the processes of an engine.

Each bucket says of its keys what others have to know (`bucket.shares`); what is known of all keys
is made of that here, once; each bucket's keys are scored by it (`bucket.score`); and from there on
everything is numbers, which are put together in order of the keys and scored once, as those of one
process are. So the result does not depend on the number of buckets.
"""

from __future__ import annotations

import heapq
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from keywatch import __version__
from keywatch.detect import bucket, detectors, scoring
from keywatch.detect.bucket import Asked, AtLarge, Bucket, Job, Known, Shares
from keywatch.detect.buckets import families
from keywatch.detect.detectors import Detector
from keywatch.detect.kinds import expected_endpoints
from keywatch.detect.replay import Replayed, replay, windows_before
from keywatch.detect.scored_window import Said, ScoredWindow, scored_of
from keywatch.detect.scoring import WindowEvidence
from keywatch.engine import Engine
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.notices import in_steps
from keywatch.settings import Settings
from keywatch.text.phrases import count, window_name
from keywatch.vendors import catalogue_by_source

_ADDED_UP = {
    "everybody": "SELECT kind, value, sum(keys)::BIGINT AS keys FROM shares "
    "GROUP BY ALL ORDER BY ALL",
    "everybody_in_all": "SELECT kind, sum(keys)::BIGINT AS keys, sum(uses)::BIGINT AS uses "
    "FROM shares GROUP BY ALL ORDER BY ALL",
}
"""What is counted of all keys → the sum of the buckets' counts."""


@dataclass(frozen=True)
class InBuckets:
    """A window that was scored in buckets, what is known of all keys, and the buckets.

    `drawn` says of each bucket how many of its keys, the first by their hash, have thefts injected.
    """

    scored: ScoredWindow
    known: Known
    buckets: tuple[Bucket, ...]
    drawn: tuple[int, ...]


def score_in_buckets(
    engine: Engine,
    lake: Lake,
    window: Window,
    settings: Settings,
    loaded: Sequence[Detector] | None = None,
) -> InBuckets:
    """As `score_window` with these detectors, by the processes of `engine`.

    `case_visits` are still to be marked, in each bucket. Call it inside `Lake.reading`: all
    processes read that snapshot.

    Raises:
        UsageError: the lake is in memory, or a detector of a folder outside compares keys with
            their peers, by tables that a bucket may not have.
        EngineError: the cluster is gone.
    """
    found = detectors.load_detectors(settings.content.folders) if loaded is None else loaded
    loaded = [each for each in found if each.status != "draft"]
    scoring_run = _Run(engine, lake, window, settings, tuple(loaded))
    replays = replay(lake, window, settings, loaded, scoring_run.score)
    known, buckets, said, drawn = scoring_run.found
    replayed = Replayed.of(replays, scoring.families_of(loaded, settings.scoring), settings)
    fitted = known.at_large[window].fitted
    scored = scored_of(lake, window, loaded, replays, replayed, said, settings, fitted)
    return InBuckets(scored, known, buckets, drawn)


class _Run:
    """The windows of one scoring, scored in buckets."""

    def __init__(
        self,
        engine: Engine,
        lake: Lake,
        window: Window,
        settings: Settings,
        loaded: tuple[Detector, ...],
    ) -> None:
        self._engine = engine
        self._lake = lake
        self._window = window
        self._settings = settings
        self._loaded = loaded
        self.found: tuple[Known, tuple[Bucket, ...], Said, tuple[int, ...]]
        """What is known of all keys of the window, the buckets, what is said, the drawn keys."""

    def score(self, replayed: Sequence[Window]) -> list[WindowEvidence]:
        """What the detectors say of these windows, and of the reviewed one at the same time."""
        job = self._job(replayed)
        buckets = self._buckets(families(self._lake))
        # Where a worker has room for its part of a window, it makes each table once.
        job = replace(job, one_by_one=len(buckets) <= self._engine.workers)
        visits: list[WindowEvidence] = []
        for windows in job.rounds:
            what = window_name(windows[-1])
            if len(windows) > 1:
                what += f" and {count(len(windows) - 1, 'earlier window')}"
            shares = self._engine.each(bucket.shares, Asked(job, windows), buckets)
            shared = [*in_steps(f"Reading the activity for {what}", shares, len(buckets))]
            at_large = {
                window: _at_large(self._lake, job, window, of_window)
                for window, of_window in zip(windows, zip(*shared, strict=True), strict=True)
            }
            parts = self._engine.each(bucket.score, Known(job, at_large), buckets)
            scored = [*in_steps(f"Scoring {what}", parts, len(buckets))]
            visits += [
                WindowEvidence.together(of_window)
                for of_window in zip(*(each for each, _ in scored), strict=True)
            ]
        # The reviewed window is in the last round.
        of_keys = [each for _, each in scored if each is not None]
        said = Said(
            visits[-1],
            pa.concat_tables([each.evidence for each in of_keys]),
            pa.concat_tables([each.members for each in of_keys]),
        )
        drawn = _drawn([each[-1]["drawn"] for each in shared], job.power_keys)
        known = Known(job, {self._window: at_large[self._window]})
        self.found = known, tuple(buckets), said, drawn
        return visits[:-1]

    def _job(self, replayed: Sequence[Window]) -> Job:
        settings, lake = self._settings, self._lake
        if lake.folder is None:
            raise UsageError("a lake in memory can't be reviewed on an engine")
        for each in self._loaded:
            if each.may_read_all_keys:
                raise UsageError(
                    f"{each.folder}: compares keys with their peers, and may read of them what "
                    "another worker has; review without --engine"
                )
        windows = (*replayed, self._window)
        days = settings.review.baseline_days
        # The span that a review in one process has, whichever windows are still to be scored.
        before = windows_before(lake, self._window, settings)
        first = min((each.start for each in before), default=self._window.start)
        start, end = first.date() - timedelta(days=days), self._window.end.date()
        detectors.begin_span(lake, start, end)
        return Job(
            name=uuid.uuid4().hex,
            version=__version__,
            lake=lake.folder.absolute(),
            storage=settings.storage.model_copy(update={"threads": 1}),
            folders=settings.content.folders,
            snapshot=lake.snapshot,
            start=start,
            end=end,
            windows=windows,
            baseline_days=days,
            detectors=self._loaded,
            catalogue=catalogue_by_source(),
            whole_windows={each: detectors.of_whole_window(lake, each) for each in windows},
            drawn_to_fit=detectors.keys_to_fit(lake),
            power_keys=settings.review.power_keys,
        )

    def _buckets(self, kin: Sequence[Sequence[str]]) -> list[Bucket]:
        """As many as there are workers, or more, so that each is of about `keys_at_once` at most.

        There is always one, if without any key; kin are together, and buckets of about one size.
        """
        enough = math.ceil(sum(map(len, kin)) / self._settings.storage.keys_at_once)
        filled: list[list[str]] = [[] for _ in range(max(self._engine.workers, enough))]
        sizes = [(0, number) for number in range(len(filled))]
        for family in sorted(kin, key=len, reverse=True):
            size, number = heapq.heappop(sizes)
            filled[number] += family
            heapq.heappush(sizes, (size + len(family), number))
        used = [key_ids for key_ids in filled if key_ids] or [[]]
        return [Bucket(number, tuple(key_ids)) for number, key_ids in enumerate(used)]


def _at_large(lake: Lake, job: Job, window: Window, parts: Sequence[Shares]) -> AtLarge:
    """What is known of all keys of a window, by what each bucket says of its own."""
    shared = {name: pa.concat_tables([part[name] for part in parts]) for name in parts[0]}
    tables = dict(job.whole_windows[window])
    for name in detectors.shared_tables(job.detectors):
        tables[name] = _in_order(shared[name])
    for name, query in _ADDED_UP.items():
        with lake.registered("shares", shared[name]):
            tables[name] = lake.table(query)
    detectors.set_window(lake, window, job.baseline_days)
    detectors.put_in_place(lake, "keys", _in_order(shared["shown"]))
    detectors.make_again(lake, ("leaks", "key_forms", "exposures"))
    tables |= {name: lake.table(f"FROM {name} ORDER BY ALL") for name in ("leaks", "exposures")}
    uses = tables["uses"].filter(pc.invert(tables["uses"]["begins"]))
    tables["past_uses"] = uses.filter(pc.is_in(uses["key_id"], shared["pasts"]["key_id"]))
    tables["expected_endpoints"] = expected_endpoints(
        tables["past_uses"].select(["key_id", "endpoint"])
    )
    fitted = {
        each.id: detectors.fitted_to(each, shared[f"rows_of_{each.id}"])
        for each in detectors.to_fit(job.detectors_of(window))
    }
    return AtLarge(tables, fitted)


def _in_order(rows: pa.Table) -> pa.Table:
    """The rows in order of their columns."""
    order = [(name, "ascending") for name in rows.column_names]
    return rows.sort_by(order).combine_chunks()


def _drawn(firsts: Sequence[pa.Table], most: int) -> tuple[int, ...]:
    """How many keys of each bucket are among the first of all, by their hash and id."""
    numbers = [pa.array([number] * len(each), pa.int64()) for number, each in enumerate(firsts)]
    rows = pa.concat_tables(
        [each.append_column("bucket", of) for each, of in zip(firsts, numbers, strict=True)]
    ).sort_by([("nth", "ascending"), ("key_id", "ascending")])
    counts = Counter(rows["bucket"].to_pylist()[:most])
    return tuple(counts[number] for number in range(len(firsts)))
