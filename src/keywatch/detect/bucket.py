"""A bucket of a review's keys, scored by whichever process has the task.

The process opens the lake read-only, as of the snapshot that the review is made on, and makes the
temporary tables of the bucket's keys: these are closed under kinship (`detect/buckets.py`). What
keys at large do is known once all buckets have said it of themselves (`shares`) and it was put
together (`AtLarge`); then the detectors score the keys (`score`). Tables stay in the process for
the next task of the bucket, as far as memory allows. A process that does not have them makes them:
so it does not matter which one has a task, nor how often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from keywatch.detect import detectors, scoring
from keywatch.detect.detectors import Detector
from keywatch.detect.power import Injected, inject
from keywatch.detect.scored_window import Said
from keywatch.detect.scoring import WindowEvidence
from keywatch.engine import become_worker
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import LakeSettings
from keywatch.vendors.catalogue import Endpoint


@dataclass(frozen=True)
class Bucket:
    """Some keys, closed under kinship. `number` tells it from the others of the review."""

    number: int
    key_ids: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What all tasks of one review have in common.

    `name` is no other review's. The last of `windows` is the reviewed one; all of them lie in the
    span ``[start, end)`` with their baselines. With `one_by_one` a window's tables are not made
    before the window before it is scored, and none is asked for again. `whole_windows` has what is
    known of each beforehand (`detectors.of_whole_window`). Models are fitted to the keys of
    `drawn_to_fit` (`detectors.keys_to_fit`), and `power_keys` have thefts injected.
    """

    name: str
    version: str
    lake: Path
    storage: LakeSettings
    folders: tuple[Path, ...]
    snapshot: int
    start: date
    end: date
    windows: tuple[Window, ...]
    baseline_days: int
    detectors: tuple[Detector, ...]
    catalogue: Sequence[tuple[str, Endpoint]]
    whole_windows: Mapping[Window, Mapping[str, pa.Table]]
    drawn_to_fit: Set[str] | None
    power_keys: int
    one_by_one: bool = False

    @property
    def reviewed(self) -> Window:
        """The reviewed window."""
        return self.windows[-1]

    @property
    def rounds(self) -> Sequence[tuple[Window, ...]]:
        """The windows that are scored together, in their order."""
        return [(window,) for window in self.windows] if self.one_by_one else [self.windows]

    def detectors_of(self, window: Window) -> Sequence[Detector]:
        """The detectors that score a window: of one that is replayed, those that count."""
        return self.detectors if window == self.reviewed else scoring.gathered(self.detectors)


Shares = Mapping[str, pa.Table]
"""What a bucket's keys say of themselves to all others in one window.

By name: the tables of `detectors.shared_tables`; ``everybody`` and ``everybody_in_all`` as far as
the bucket goes; ``shown`` (key_id, key, in_inventory) of each key; ``pasts`` (key_id) of those that
called anything before; ``drawn`` (key_id, nth), the first of its keys to have thefts injected, of
the reviewed window; and of each detector that is fitted, as ``rows_of_…``, the rows of its query of
the keys that are drawn for it.
"""


@dataclass(frozen=True)
class AtLarge:
    """What is known of all keys of a window: tables by name, and the fitted models by detector."""

    tables: Mapping[str, pa.Table]
    fitted: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A job, and the windows of one of its rounds."""

    job: Job
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Known:
    """A job, and what is known of all keys in its windows, or in those of a round."""

    job: Job
    at_large: Mapping[Window, AtLarge]


_SHOWN = 'SELECT key_id, "key", in_inventory FROM keys'
_PASTS = "SELECT DISTINCT key_id FROM baseline_endpoints"
_DRAWN = """
    SELECT key_id, hash(key_id) AS nth
    FROM key_history
    SEMI JOIN baseline_prefixes USING (key_id)
    WHERE active_days > 0
    ORDER BY nth, key_id
    LIMIT $most
"""
_LATER = frozenset(("leaks", "key_forms", "exposures", "expected_endpoints"))
"""Tables of a window that are made of all buckets' shares only."""


def shares(asked: Asked, bucket: Bucket) -> list[Shares]:
    """What the bucket's keys say of themselves in each of the windows."""
    with _tables_of(asked.job, bucket) as tables:
        return [tables.shares(window) for window in asked.windows]


def score(known: Known, bucket: Bucket) -> tuple[list[WindowEvidence], Said | None]:
    """What the detectors say of the bucket's keys: of each window, and more of the reviewed one."""
    job = known.job
    with _tables_of(job, bucket) as tables:
        visits = [tables.score(window, known.at_large[window]) for window in known.at_large]
        is_last = job.reviewed in known.at_large
        return visits, Said.of(tables.lake, job.detectors, visits[-1]) if is_last else None


@contextmanager
def reviewed_tables(known: Known, bucket: Bucket) -> Iterator[Lake]:
    """The lake with the bucket's temporary tables of the reviewed window, for the time inside.

    They have what is known of all keys, and no evidence.
    """
    job = known.job
    with _tables_of(job, bucket) as tables:
        tables.show(job.reviewed)
        tables.learn(known.at_large[job.reviewed])
        scoring.name_roles(tables.lake, job.detectors)
        yield tables.lake


def inject_into(lake: Lake, known: Known, bucket: Bucket, most: int) -> Injected:
    """What the detectors say of thefts injected into the first keys of the bucket, `most` of them.

    `lake` has its `reviewed_tables`. No injected call is one that others may go by: those from
    usual places are the key's own. So it does not matter that other buckets inject some, too.
    """
    job = known.job
    uses = known.at_large[job.reviewed].tables["past_uses"]
    own = pa.array(bucket.key_ids, pa.string())
    others = {"uses": uses.filter(pc.invert(pc.is_in(uses["key_id"], own)))}
    return inject(lake, job.reviewed, job.detectors, most, others)


@dataclass
class _Tables:
    """The temporary tables of a bucket, on a connection of their own.

    Those of `shown` have their names, those of the windows in `aside` have others.
    """

    job: Job
    bucket: Bucket
    lake: Lake
    shown: Window | None = None
    aside: list[Window] = field(default_factory=list)

    @classmethod
    def open(cls, job: Job, bucket: Bucket) -> _Tables:
        lake = Lake.open(job.lake, job.storage)
        try:
            lake.look(job.snapshot)
            detectors.prepare_span_of_keys(
                lake, bucket.key_ids, job.start, job.end, job.catalogue, alone=True
            )
        except BaseException:
            lake.close()
            raise
        return cls(job, bucket, lake)

    @property
    def keys(self) -> int:
        """How many keys' tables there are, those of each window for themselves."""
        return len(self.bucket.key_ids) * (len(self.aside) + (self.shown is not None))

    def show(self, window: Window, tables: Set[str] | None = None) -> None:
        """Make the tables of a window, unless they are there; with `tables`, those for now."""
        if self.shown == window:
            return
        self._put_aside()
        days = self.job.baseline_days
        if window in self.aside:
            self.aside.remove(window)
            detectors.set_window(self.lake, window, days)
            self._rename(f"{_aside(window)}{{}}", "{}")
        else:
            made = (tables or detectors.tables_of_window().keys()) - _LATER
            others = self.job.whole_windows[window]
            detectors.prepare_window(self.lake, window, days, made, others)
        self.shown = window if tables is None else None

    def _put_aside(self) -> None:
        """Keep the tables that are shown, if they are asked for again and so many may be kept."""
        if self.shown is None:
            return
        if self.shown == self.job.reviewed or (not self.job.one_by_one and self._has_room(1)):
            self._rename("{}", f"{_aside(self.shown)}{{}}")
            self.aside.append(self.shown)
        self.shown = None

    def _has_room(self, windows: int) -> bool:
        """Whether the tables of so many more windows may be kept."""
        more = windows * len(self.bucket.key_ids)
        return self.keys + more <= self.job.storage.keys_at_once

    def _rename(self, old: str, new: str) -> None:
        tables = [name for name, is_table in detectors.tables_of_window().items() if is_table]
        names = (*tables, "expected_endpoints", "evidence")
        detectors.rename(self.lake, names, old, new, missing_ok=True)

    def shares(self, window: Window) -> Shares:
        lake, job = self.lake, self.job
        names = (*detectors.shared_tables(job.detectors), "everybody", "everybody_in_all")
        fitted = detectors.to_fit(job.detectors_of(window))
        self._put_aside()
        is_kept = window == job.reviewed or job.one_by_one or self._has_room(2)
        read = " ".join((*names, _SHOWN, _PASTS, *(each.sql for each in fitted)))
        self.show(window, None if is_kept else detectors.rests_on(read))
        found = {name: lake.table(f"FROM {name}") for name in names}
        found |= {"shown": lake.table(_SHOWN), "pasts": lake.table(_PASTS)}
        for each in fitted:
            rows = detectors.rows_to_fit(lake, each, window, job.drawn_to_fit)
            found[f"rows_of_{each.id}"] = rows
        if window == job.reviewed:
            found["drawn"] = lake.table(_DRAWN, most=job.power_keys)
        return found

    def learn(self, at_large: AtLarge) -> None:
        """Have the tables of the shown window contain what is known of all keys."""
        for name, rows in at_large.tables.items():
            if name in detectors.tables_of_window() or name in _LATER:
                detectors.put_in_place(self.lake, name, rows)

    def score(self, window: Window, at_large: AtLarge) -> WindowEvidence:
        self.show(window)
        self.learn(at_large)
        detectors.begin_evidence(self.lake)
        fitted = dict(at_large.fitted)
        for each in self.job.detectors_of(window):
            detectors.run(self.lake, each, window, fitted)
        # What keys at large do may speak of others too: these are scored in their own bucket.
        self.lake.execute(
            "DELETE FROM evidence "
            "WHERE key_id NOT IN (SELECT unnest(getvariable('only_keys')::VARCHAR[]))"
        )
        return scoring.gather(self.lake, self.job.detectors)


def _aside(window: Window) -> str:
    return f"of_{window.start:%Y%m%d}_{window.end:%Y%m%d}_"


_made: OrderedDict[tuple[str, int], _Tables] = OrderedDict()
"""The tables of this process that no task is at, by job and bucket; the newest are the last."""
_guard = Lock()


@contextmanager
def _tables_of(job: Job, bucket: Bucket) -> Iterator[_Tables]:
    become_worker(job.version, "the review", job.folders)
    with _guard:
        tables = _made.pop((job.name, bucket.number), None)
    if tables is None:
        _make_room(job, 0)
        tables = _Tables.open(job, bucket)
    try:
        yield tables
    except BaseException:
        tables.lake.close()
        raise
    with _guard:
        _made[job.name, bucket.number] = tables
    _make_room(job, 1)


def _make_room(job: Job, fewest: int) -> None:
    """Close the oldest tables: all of other jobs', and of this one's what is too much."""
    with _guard:
        closing = [key for key in _made if key[0] != job.name]
        own = [key for key in _made if key[0] == job.name]
        keys = sum(_made[key].keys for key in own)
        for key in own[: len(own) - fewest]:
            if keys > job.storage.keys_at_once:
                keys -= _made[key].keys
                closing.append(key)
        tables = [_made.pop(key) for key in closing]
    for each in tables:
        each.lake.close()


def forget() -> None:
    """Close all tables of this process."""
    with _guard:
        tables = list(_made.values())
        _made.clear()
    for each in tables:
        each.lake.close()
