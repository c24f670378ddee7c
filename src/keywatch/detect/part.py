"""Some keys of a window, scored beside what the last scoring of all of them found of the others.

The keys are closed under kinship (`detectors.kin`), so what a key's own past and its owner's say
is as in a scoring of all. What rests on keys at large is as of the last scoring: who else calls
what (`detectors.BY_KEY`) and the fitted models (`detectors.OF_ALL`, and those of the kinds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keywatch.detect import detectors, scoring
from keywatch.detect.detectors import Detector
from keywatch.detect.groups import find_groups, raise_together
from keywatch.detect.replay import Replayed, Replays
from keywatch.detect.scored_window import ScoredWindow, marked_visits
from keywatch.detect.scoring import WindowEvidence
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import Settings
from keywatch.vendors import catalogue_by_source

_MOST_SHARE = 0.5
"""Of the keys in use: to score more of them takes no less than to score all."""
_MOST_ROUNDS = 3


@dataclass(frozen=True)
class Known:
    """What is known of all keys of a window, for a part of them to be scored anew.

    `key_ids` are those in use; `judged` is what the detectors said of them; `rows` are the tables
    of `detectors.BY_KEY` and `OF_ALL`, and `fitted` the models of the detectors that have one.
    """

    window: Window
    detectors: tuple[Detector, ...]
    replays: Replays
    replayed: Replayed
    judged: WindowEvidence
    key_ids: frozenset[str]
    rows: Mapping[str, pa.Table]
    fitted: Mapping[str, Any]

    @classmethod
    def of(cls, lake: Lake, scored: ScoredWindow) -> Known:
        """What `scored` leaves; the temporary tables are its own, and of all keys."""
        return cls(
            window=scored.window,
            detectors=scored.detectors,
            replays=scored.replays,
            replayed=scored.replayed,
            judged=scored.judged,
            key_ids=frozenset(key_id for (key_id,) in lake.rows("FROM window_keys")),
            rows=_rows(lake),
            fitted=scored.fitted,
        )

    def beside(self, key_ids: Iterable[str]) -> dict[str, pa.Table]:
        """The rows of all other keys, and what is of all."""
        own = pa.array(sorted(key_ids), pa.string())
        return {
            name: rows
            if name in detectors.OF_ALL
            else rows.filter(pc.invert(pc.is_in(rows["key_id"], own)))
            for name, rows in self.rows.items()
        }


def score_part(
    lake: Lake, known: Known, key_ids: Set[str], settings: Settings
) -> tuple[ScoredWindow, Known] | None:
    """The window's scoring of these keys and their kin, and what is known of all keys then.

    The cases, groups and evidence are those of the part, without upkeep; how rare each is, is told
    among all keys.
    Afterwards the temporary tables are those of the part, with the others' rows in
    `detectors.BY_KEY`. None where this is no less work than to score all keys, or does not do: a
    key beside the part would be acted on.
    """
    found = None
    part: Set[str] = key_ids
    for _ in range(_MOST_ROUNDS):
        part = frozenset(detectors.kin(lake, sorted(part)))
        if len(part & known.key_ids) > _MOST_SHARE * len(known.key_ids):
            return None
        companions = _judge(lake, known, part, settings)
        if not companions:
            found = part
            break
        part |= companions
    if found is None:
        return None
    evidence = scoring.gather(lake, known.detectors)
    merged = _merged(known, evidence, found)
    groups = find_groups(lake, known.detectors)
    cases, visit_scores = scoring.score(
        lake,
        merged,
        known.replayed.scale,
        settings.scoring,
        [group.key_ids for group in groups if group.kind == "campaign"],
        [each.evidence for each in known.replays.replays],
    )
    cases = raise_together(cases, groups)
    if any(case.recommended != "none" for case in cases if case.key_id not in found):
        return None
    own = [case for case in cases if case.key_id in found]
    scored = ScoredWindow(
        window=known.window,
        detectors=known.detectors,
        replays=replace(
            known.replays,
            replays=tuple(replace(each, is_new=False) for each in known.replays.replays),
        ),
        replayed=known.replayed,
        cases=tuple(own),
        groups=tuple(groups),
        evidence=lake.table("FROM evidence"),
        visit_scores=visit_scores,
        case_visits=marked_visits(lake, own, visit_scores, whole=False),
        judged=evidence,
        fitted=known.fitted,
    )
    in_use = {key_id for (key_id,) in lake.rows("FROM window_keys")}
    after = replace(known, judged=merged, key_ids=known.key_ids | in_use, rows=_rows(lake))
    return scored, after


def _judge(lake: Lake, known: Known, part: Set[str], settings: Settings) -> frozenset[str]:
    """Have the detectors judge the part; other keys that came upon the same new place with one."""
    window = known.window
    detectors.prepare_keys(
        lake,
        sorted(part),
        window,
        settings.review.baseline_days,
        catalogue_by_source(),
        others=known.beside(part) | {"window_reach": _reach(lake, window)},
    )
    fitted = dict(known.fitted)
    for detector in known.detectors:
        if not detector.hygiene:
            detectors.run(lake, detector, window, fitted)
    rows = lake.rows(
        """
        SELECT DISTINCT key_id FROM evidence
        WHERE NOT list_contains($part::VARCHAR[], key_id) AND (detector, subject) IN (
            SELECT (detector, subject) FROM evidence WHERE list_contains($part::VARCHAR[], key_id))
        """,
        part=sorted(part),
    )
    lake.execute(
        "DELETE FROM evidence WHERE NOT list_contains($part::VARCHAR[], key_id)", part=sorted(part)
    )
    return frozenset(key_id for (key_id,) in rows)


def _reach(lake: Lake, window: Window) -> pa.Table:
    """``window_reach`` of all keys."""
    first, end = window.start.date(), window.end.date()
    return lake.table(
        "SELECT max(last_ts) AS last_ts FROM lake.activity WHERE day >= $first AND day < $end",
        first=first,
        end=end,
    )


def _rows(lake: Lake) -> dict[str, pa.Table]:
    names = (*detectors.BY_KEY, *detectors.OF_ALL)
    return {name: lake.table(f"FROM {name}") for name in names}


def _merged(known: Known, evidence: WindowEvidence, part: Set[str]) -> WindowEvidence:
    """What is said of all keys: of the part anew."""
    others = known.judged.without(part & known.key_ids)
    return replace(
        evidence,
        visits=others.visits + evidence.visits,
        networks=others.networks + evidence.networks,
        goes_on=np.concatenate([others.goes_on, evidence.goes_on]),
        bits=np.concatenate([others.bits, evidence.bits]),
        facts=np.concatenate([others.facts, evidence.facts]),
        ruled=np.concatenate([others.ruled, evidence.ruled]),
        moved=np.concatenate([others.moved, evidence.moved]),
        cases=others.cases + evidence.cases,
        fact_actions={
            key_id: action
            for key_id, action in known.judged.fact_actions.items()
            if key_id not in part
        }
        | dict(evidence.fact_actions),
    )
