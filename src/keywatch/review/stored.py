"""Reviews as the lake keeps them: a case, or the review again, is read and not scored anew.

A stored review is used as long as all that its run rests on is as it was (`state_of`); what does
not follow from the run is read again each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from keywatch import __version__
from keywatch.detect.detectors import load_detectors
from keywatch.detect.scored_window import ScoredWindow
from keywatch.lake import Lake, sql_text
from keywatch.model import Case, Review, Window
from keywatch.review import coverage, recommend
from keywatch.settings import Settings

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_CASES = 2
"""Counts what cases are told with: one stored with less is not read again."""
_DOCUMENTS_AT_ONCE = 5_000

Visit = tuple[str, date, str]
"""key_id, day, prefix"""


@dataclass(frozen=True)
class State:
    """What a review of a window rests on: the lake, the settings, the detectors.

    `mark` is the same where all of it is; `load_id` is the lake's last load, whatever it brought.
    """

    mark: str
    load_id: int


@dataclass(frozen=True)
class ToldReview:
    """A review, and what else is told of its window.

    `suspicious` are its suspicious visits, in order; `worst` has day and prefix of the worst visit
    of each case that has one. `whole`: all its cases are told in full.
    """

    review: Review
    suspicious: tuple[Visit, ...]
    worst: Mapping[str, tuple[date, str]]
    whole: bool = False

    @classmethod
    def of(cls, lake: Lake, review: Review, scored: ScoredWindow) -> ToldReview:
        """That of a window that was scored."""
        worst = {
            one.key_id: (one.day, one.prefix)
            for one in scored.cases
            if one.day is not None and one.prefix is not None
        }
        return cls(review, tuple(scored.suspicious_visits(lake)), worst, is_whole(review))

    def in_full(self, lake: Lake, case: Case, baseline_days: int) -> Case:
        """`case`, one of the review's, in full.

        For one told in brief the temporary tables of its key are made, in the place of any others.
        """
        if not recommend.is_brief(case):
            return case
        recommend.prepare_for(lake, case.key_id, self.review.window, baseline_days)
        day, prefix = self.worst.get(case.key_id, (None, None))
        return recommend.in_full(lake, case, day, prefix)


def is_whole(review: Review) -> bool:
    """Whether all its cases are told in full."""
    return not any(recommend.is_brief(case) for case in review.cases)


def state_of(lake: Lake, window: Window, settings: Settings) -> State:
    """The state that a review of `window` would rest on now."""
    marks = lake.rows(sql_text("state", __package__), start=window.start, end=window.end)
    parts = [_CASES, window, marks, settings.config_hash, settings.deliver.grow_bits, __version__]
    parts += [each.identity for each in load_detectors(settings.content.folders)]
    load_id = lake.value("SELECT coalesce(max(load_id), 0) FROM lake.ingested_files")
    return State(hashlib.sha256(repr(parts).encode()).hexdigest()[:32], load_id)


def find(
    lake: Lake,
    state: State,
    settings: Settings,
    *,
    of_keys: Sequence[str] | None = None,
    same_load: bool = False,
    whole: bool = False,
) -> ToldReview | None:
    """The stored review that rests on `state`; None where there is none.

    With `whole` its cases are told in full, and it is one that was made so; else those that need no
    action are in brief. With `of_keys` it has the cases of these keys alone (ids, masked forms or
    names), as they were stored. With `same_load` only one is found that no load has followed, not
    even of later days: it is the run that a review would make now.
    """
    rows = lake.rows(
        """
        SELECT document::VARCHAR, day, prefix
        FROM (
            FROM lake.reviews
            WHERE state = $mark AND (load_id = $load_id OR NOT $same_load)
            QUALIFY rank() OVER (ORDER BY load_id DESC, run_id) = 1
        )
        WHERE nth = 0 OR $all OR list_has_any([key_id, "key", name], $keys::VARCHAR[])
        ORDER BY nth
        """,
        mark=state.mark,
        load_id=state.load_id,
        same_load=same_load,
        all=of_keys is None,
        keys=list(of_keys or ()),
    )
    if not rows:
        return None
    told: ToldReview = _adapter(ToldReview).validate_json(rows[0][0])
    if whole and not told.whole:
        return None
    about = {each.id: each.about for each in load_detectors(settings.content.folders)}
    cases: list[Case] = []
    worst: dict[str, tuple[date, str]] = {}
    for document, day, prefix in rows[1:]:
        case: Case = _adapter(Case).validate_json(document)
        said = (replace(one, about=about.get(one.detector)) for one in case.evidence)
        case = replace(case, evidence=tuple(said))
        cases.append(case if whole or of_keys is not None else recommend.in_brief(case))
        if prefix is not None:
            worst[case.key_id] = day, prefix
    review = told.review
    now = coverage.as_of_now(lake, review.coverage, review.window, settings)
    return replace(told, review=replace(review, cases=tuple(cases), coverage=now), worst=worst)


def is_kept(lake: Lake, state: State, *, whole: bool = False) -> bool:
    """Whether a review that rests on `state` is stored; with `whole`, its cases in full."""
    heads = lake.rows(
        "SELECT document::VARCHAR FROM lake.reviews "
        "WHERE state = $mark AND load_id = $load_id AND nth = 0",
        mark=state.mark,
        load_id=state.load_id,
    )
    return any(
        not whole or _adapter(ToldReview).validate_json(document).whole for (document,) in heads
    )


def keep(lake: Lake, told: ToldReview, state: State) -> None:
    """Store a review, inside `Lake.writing`; if not all of it is told in full, then in brief."""
    review = told.review
    head = replace(told, review=replace(review, cases=(), health=()), worst={})
    documents = chain(
        [(None, _adapter(ToldReview).dump_json(head))],
        ((case, _document(case, whole=told.whole)) for case in review.cases),
    )
    lake.execute("DELETE FROM lake.reviews WHERE run_id = $id", id=review.run.id)
    nth = 0
    # Of 50,000 cases the documents are half a gigabyte.
    while some := [*islice(documents, _DOCUMENTS_AT_ONCE)]:
        _insert(lake, told, state, nth, some)
        nth += len(some)


def _document(case: Case, *, whole: bool) -> bytes:
    # What a detector's author says of it is long, and known; what owners answer is read each time.
    left_out: dict[str, Any] = {"evidence": {"__all__": {"about"}}, "asked": True}
    return _adapter(Case).dump_json(case if whole else recommend.in_brief(case), exclude=left_out)


def _insert(
    lake: Lake,
    told: ToldReview,
    state: State,
    nth: int,
    documents: Sequence[tuple[Case | None, bytes]],
) -> None:
    """Add documents to a stored review, from the `nth` on: its head (of no case), then cases."""
    cases = [case for case, _ in documents]
    worst = [told.worst.get(case.key_id, (None, None)) if case else (None, None) for case in cases]
    rows = pa.table(
        {
            "key_id": pa.array([case and case.key_id for case in cases], pa.string()),
            "key": pa.array([case and case.key for case in cases], pa.string()),
            "name": pa.array([case and case.name for case in cases], pa.string()),
            "day": pa.array([day for day, _ in worst], pa.date32()),
            "prefix": pa.array([prefix for _, prefix in worst], pa.string()),
            "document": pa.array([document.decode() for _, document in documents], pa.string()),
            "nth": pa.array(range(nth, nth + len(documents)), pa.int64()),
        }
    )
    with lake.registered("told", rows):
        lake.execute(
            "INSERT INTO lake.reviews BY NAME SELECT $id AS run_id, $mark AS state, "
            "$load_id AS load_id, * FROM told",
            id=told.review.run.id,
            mark=state.mark,
            load_id=state.load_id,
        )


def forget_older(lake: Lake) -> None:
    """Delete all but the newest of each window, inside `Lake.writing`."""
    lake.execute(
        """
        DELETE FROM lake.reviews WHERE run_id NOT IN (
            SELECT arg_max(run_id, made_at) FROM lake.runs SEMI JOIN lake.reviews USING (run_id)
            GROUP BY window_start, window_end
        )
        """
    )


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
