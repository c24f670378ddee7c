"""A review made in buckets of its keys, on the processes of an engine.

Scoring is of all keys (`detect/bucket_scoring.py`); what is told of a case is read in the tables of
its bucket, by the same functions as in one process, and put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from keywatch.detect.bucket import Bucket, Known, forget, inject_into, reviewed_tables
from keywatch.detect.bucket_scoring import score_in_buckets
from keywatch.detect.detectors import Detector
from keywatch.detect.power import Injected
from keywatch.detect.proxies import proxy_addresses
from keywatch.detect.scored_window import Scored, ScoredWindow, mark_visits
from keywatch.engine import Engine
from keywatch.lake import Lake
from keywatch.model import Review, Window
from keywatch.notices import in_steps
from keywatch.review import coverage, making
from keywatch.review.coverage import Counted
from keywatch.review.making import Told
from keywatch.settings import Settings


@dataclass(frozen=True)
class _Telling:
    """What is told, and how: the same of all buckets."""

    known: Known
    warm_up_days: int
    whole: bool


@dataclass(frozen=True)
class _Part:
    """A bucket with its keys' cases; so many of its keys have thefts injected, if any are."""

    bucket: Bucket
    scored: Scored
    injected: int | None

    @property
    def number(self) -> int:
        return self.bucket.number


def make_review(
    engine: Engine,
    lake: Lake,
    window: Window,
    settings: Settings,
    *,
    whole: bool = True,
    loaded: Sequence[Detector] | None = None,
) -> tuple[Review, ScoredWindow]:
    """As `making.make_review`, by the processes of `engine`; the same to the last digit.

    Raises:
        EngineError: the cluster is gone.
    """
    try:
        return _made(engine, lake, window, settings, whole=whole, loaded=loaded)
    finally:
        engine.everywhere(forget)


def _made(
    engine: Engine,
    lake: Lake,
    window: Window,
    settings: Settings,
    *,
    whole: bool,
    loaded: Sequence[Detector] | None,
) -> tuple[Review, ScoredWindow]:
    made = score_in_buckets(engine, lake, window, settings, loaded)
    proxies = proxy_addresses(lake, window.start.date(), window.end.date())
    injects = coverage.injects(made.scored, proxies, settings)
    asked = [
        _Part(bucket, made.scored.of_keys(bucket.key_ids), drawn if injects else None)
        for bucket, drawn in zip(made.buckets, made.drawn, strict=True)
    ]
    telling = engine.each(_tell, _Telling(made.known, settings.review.warm_up_days, whole), asked)
    parts = [*in_steps("Explaining the cases", telling, len(asked))]
    scored = replace(made.scored, case_visits=pa.concat_tables([one.case_visits for one in parts]))
    told = _together(scored, [one.told for one in parts])
    injected = [one.injected for one in parts if one.injected is not None]
    covered = coverage.of_run(
        scored,
        told.standings,
        Counted.together([one.counted for one in parts]),
        proxies,
        Injected.together(injected) if injected else None,
    )
    return making.review_told(lake, scored, told, covered, settings), scored


@dataclass(frozen=True)
class _ToldPart:
    """What is told of a bucket's keys, with the visits of their cases, and what is counted."""

    told: Told
    case_visits: pa.Table
    counted: Counted
    injected: Injected | None


def _tell(telling: _Telling, part: _Part) -> _ToldPart:
    with reviewed_tables(telling.known, part.bucket) as lake:
        case_visits = mark_visits(lake, part.scored, whole=telling.whole)
        scored = replace(part.scored, case_visits=case_visits)
        told = making.tell(lake, scored, telling.warm_up_days, whole=telling.whole)
        counted = Counted.of(lake)
        injected = None
        if part.injected is not None:
            injected = inject_into(lake, telling.known, part.bucket, part.injected)
        return _ToldPart(told, case_visits, counted, injected)


def _together(scored: Scored, parts: Sequence[Told]) -> Told:
    cases = {case.key_id: case for part in parts for case in part.cases}
    return Told(
        standings={key_id: each for part in parts for key_id, each in part.standings.items()},
        cases=tuple(cases[case.key_id] for case in scored.cases),
        hygiene=tuple(one for part in parts for one in part.hygiene),
        new_networks=tuple(one for part in parts for one in part.new_networks),
        strange_days=pa.concat_tables([part.strange_days for part in parts]),
    )
