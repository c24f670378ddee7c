"""A window, scored: what the detectors say of it, its cases, and what these rest on.

The connection's temporary tables are those of the window that was scored last
(`detectors.prepare_window`). What a review says and what the lake keeps of a window is read from
its `ScoredWindow`, whatever the connection scores after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from keywatch.detect import detectors, scoring
from keywatch.detect.buckets import Buckets
from keywatch.detect.detectors import Detector
from keywatch.detect.groups import find_members, groups_of, raise_together
from keywatch.detect.replay import Replayed, Replays, ScoreWindows, replay, windows_before
from keywatch.detect.scoring import ScoredCase, WindowEvidence
from keywatch.lake import Lake
from keywatch.model import Group, Window
from keywatch.notices import in_steps, step
from keywatch.settings import Settings
from keywatch.text.phrases import count, window_name
from keywatch.vendors import catalogue_by_source

_SUSPICIOUS_SHARE = 0.5
_LEAST_SUSPICIOUS_BITS = 0.01

# The visits of the whole cases; suspicious are the worst of each and its like. So are all visits
# from a place that these brought: a network, or a prefix of one, that is new to the key. To a key
# without a past every place is new: of such a key nothing is added. None is of a key that only
# facts speak of which are no theft: an exposed key is not yet misused.
_CASE_VISITS = """
    WITH marked AS (
        SELECT v.key_id, v.day, v.prefix, v.network, v.class, v.place, v.events, v.response_bytes,
            h.active_days, coalesce(c.day = v.day AND c.prefix = v.prefix, false) AS worst,
            c.suspected
                AND (worst OR coalesce(s.bits, 0) >= greatest($share * c.bits, $least))
                AS strange
        FROM visits AS v
        JOIN scored_cases AS c USING (key_id)
        JOIN key_history AS h USING (key_id)
        LEFT JOIN visit_scores AS s ON s.key_id = v.key_id AND s.day = v.day
            AND s.prefix = v.prefix
        WHERE $whole OR c.action <> 'none'
    ),

    brought AS (
        SELECT key_id, network AS place FROM marked
        ANTI JOIN baseline_networks USING (key_id, network)
        WHERE strange AND active_days > 0
        UNION
        SELECT key_id, prefix FROM marked
        ANTI JOIN baseline_prefixes USING (key_id, prefix)
        WHERE strange AND active_days > 0
    ),

    expected AS (
        SELECT DISTINCT v.key_id, v.day, v.prefix
        FROM marked AS v
        JOIN lake.suppressions AS s
            ON s.key_id = v.key_id AND is_about([s.origin], v.prefix, v.network, v.class)
            AND list_contains(s.families, 'origin')
            AND v.day BETWEEN s.starts_on AND s.ends_on
    )

    SELECT m.* EXCLUDE (active_days, strange),
        strange OR e.key_id IS NULL AND EXISTS (
            FROM brought AS b
            WHERE b.key_id = m.key_id AND b.place IN (m.network, m.prefix)) AS suspicious
    FROM marked AS m
    LEFT JOIN expected AS e USING (key_id, day, prefix)
"""


# The same of one case without an action: nothing of it is suspicious.
ORDINARY_VISITS = """
    SELECT key_id, day, prefix, network, class, place, events, response_bytes,
        coalesce(day = $day::DATE AND prefix = $prefix, false) AS worst, false AS suspicious
    FROM visits
    WHERE key_id = $key_id
"""


_CASE_VISITS_SCHEMA = pa.schema(
    [
        ("key_id", pa.string()), ("day", pa.date32()), ("prefix", pa.string()),
        ("network", pa.string()), ("class", pa.string()), ("place", pa.string()),
        ("events", pa.int64()), ("response_bytes", pa.int64()), ("worst", pa.bool_()),
        ("suspicious", pa.bool_()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What the detectors say of a window's keys, or of some of them.

    `visits` is what counts of it, by visit; `evidence` is for the cases, as the table that
    `detectors.run` adds to: of each key all that a detector says, if any of it speaks against the
    owner or is upkeep. Most rows only say that a visit is as usual. `members` are the keys that may
    belong together (`groups.find_members`).
    """

    visits: WindowEvidence
    evidence: pa.Table
    members: pa.Table

    @classmethod
    def of(cls, lake: Lake, loaded: Sequence[Detector], visits: WindowEvidence) -> Said:
        """What ``evidence`` has, of which `visits` were gathered."""
        evidence = lake.table(
            "FROM evidence "
            "SEMI JOIN (FROM evidence WHERE bits > 0 OR hygiene) USING (key_id, detector)"
        )
        return cls(visits, evidence, find_members(lake, loaded))

    @property
    def key_ids(self) -> set[str]:
        """Those of which anything is said, for or as upkeep."""
        import pyarrow.compute as pc

        told = self.evidence.filter(pc.field("bits") > 0)["key_id"]
        return {*pc.unique(told).to_pylist()}


@dataclass(frozen=True)
class Scored:
    """The cases of a window, the most suspicious first, and the tables that they rest on.

    Columns of `evidence`: as of `Said.evidence`; of `visit_scores`: key_id,
    day, prefix, bits, of each visit with evidence; of `case_visits`: key_id, day, prefix, network,
    class, place, events, response_bytes, worst, suspicious, of each visit of a case that is told
    in full.
    """

    window: Window
    detectors: tuple[Detector, ...]
    cases: tuple[ScoredCase, ...]
    groups: tuple[Group, ...]
    evidence: pa.Table
    visit_scores: pa.Table
    case_visits: pa.Table

    def of_keys(self, key_ids: Sequence[str]) -> Scored:
        """That of some keys; groups stay whole."""
        import pyarrow.compute as pc

        kept = {*key_ids}
        is_its = pc.field("key_id").isin(pa.array(sorted(kept), pa.string()))
        return Scored(
            window=self.window,
            detectors=self.detectors,
            cases=tuple(case for case in self.cases if case.key_id in kept),
            groups=self.groups,
            evidence=self.evidence.filter(is_its),
            visit_scores=self.visit_scores.filter(is_its),
            case_visits=self.case_visits.filter(is_its),
        )

    @contextmanager
    def tables(self, lake: Lake) -> Iterator[None]:
        """Its tables in SQL for the time inside.

        These are ``scored_evidence``, ``visit_scores``, ``case_visits`` and ``scored_cases``
        (key_id, day, prefix, bits, action, suspected, p_value, q_value).
        """
        with ExitStack() as stack:
            for name, table in (
                ("scored_evidence", self.evidence),
                ("visit_scores", self.visit_scores),
                ("case_visits", self.case_visits),
                ("scored_cases", _case_table(self.cases)),
            ):
                stack.enter_context(lake.registered(name, table))
            yield

    def suspicious_visits(self, lake: Lake) -> list[tuple[str, date, str]]:
        """Key, day and prefix of what is suspicious in it, in this order."""
        with self.tables(lake):
            return lake.rows(
                "SELECT key_id, day, prefix FROM case_visits WHERE suspicious ORDER BY ALL"
            )


@dataclass(frozen=True)
class ScoredWindow(Scored):
    """A window as it was scored, and what it was scored by.

    `replays` are the windows before it that it was calibrated by. `window_evidence` is its
    evidence by visit, as it is scored and replayed; `fitted` has the models that found it, by
    detector.
    """

    replays: Replays
    replayed: Replayed
    window_evidence: WindowEvidence
    fitted: Mapping[str, Any]


@contextmanager
def ordinary_case(lake: Lake, one: ScoredCase) -> Iterator[None]:
    """``scored_cases`` and ``case_visits`` of a case without an action, for the time inside.

    Reads the temporary tables of its window, of its key at least. No visit of it is suspicious.
    """
    visits = lake.table(ORDINARY_VISITS, key_id=one.key_id, day=one.day, prefix=one.prefix)
    with (
        lake.registered("scored_cases", _case_table([one])),
        lake.registered("case_visits", visits),
    ):
        yield


def scorer_of(
    lake: Lake,
    window: Window,
    settings: Settings,
    loaded: Sequence[Detector] | None = None,
    fitted: dict[str, Any] | None = None,
) -> tuple[list[Detector], ScoreWindows]:
    """The detectors (those `loaded`, else the settings'), and what scores windows by them.

    `fitted` gets the models that `window` was scored by, by detector.

    Drafts are left out: they run in their own cases and in the workbench only. Of a window before
    `window`, which is replayed for it, only what counts is asked for.
    """
    found = detectors.load_detectors(settings.content.folders) if loaded is None else loaded
    loaded = [detector for detector in found if detector.status != "draft"]
    days = settings.review.baseline_days
    step(f"Reading the activity for {window_name(window)}")
    first = min(
        (each.start for each in windows_before(lake, window, settings)), default=window.start
    )
    buckets = Buckets.of_span(
        lake,
        first.date() - timedelta(days=days),
        window.end.date(),
        catalogue_by_source(),
        settings.storage.keys_at_once,
    )

    drawn = detectors.keys_to_fit(lake)

    def score_one(asked: Window) -> WindowEvidence:
        is_last = asked == window
        asked_of = loaded if is_last else scoring.gathered(loaded)
        models = {} if fitted is None or not is_last else fitted
        return buckets.score(lake, asked, days, asked_of, loaded, models, drawn, is_last=is_last)

    def score(windows: Sequence[Window]) -> list[WindowEvidence]:
        if [*windows] == [window]:
            step(f"Scoring {window_name(window)}")
            return [score_one(window)]
        what = f"Scoring {count(len(windows), 'earlier window')} for comparison"
        return [*in_steps(what, map(score_one, windows), len(windows))]

    return loaded, score


def score_window(
    lake: Lake,
    window: Window,
    settings: Settings,
    *,
    whole: bool = True,
    evidence_of: dict[Window, WindowEvidence] | None = None,
    loaded: Sequence[Detector] | None = None,
) -> ScoredWindow:
    """`window`, scored by the detectors and calibrated by the windows before it.

    Afterwards the temporary tables of `detectors.prepare_window` are this window's. Without
    `whole`, visits are marked of the cases with an action alone. `evidence_of` has what other
    reviews of this lake with these settings and detectors found, and is added to. `loaded` are the
    detectors, the settings' when not given.
    """
    fitted: dict[str, Any] = {}
    loaded, score = scorer_of(lake, window, settings, loaded, fitted)
    evidence_of = {} if evidence_of is None else evidence_of

    def score_once(windows: Sequence[Window]) -> list[WindowEvidence]:
        missing = [each for each in windows if each not in evidence_of]
        evidence_of.update(zip(missing, score(missing), strict=True))
        return [evidence_of[each] for each in windows]

    replays = replay(lake, window, settings, loaded, score_once)
    (evidence_of[window],) = score([window])
    return _scored(
        lake, window, loaded, replays, evidence_of[window], fitted, settings, whole=whole
    )


def score_again(
    lake: Lake,
    scored: ScoredWindow,
    settings: Settings,
    evidence_of: Mapping[Window, WindowEvidence],
) -> ScoredWindow:
    """What was just `scored`, by other settings; without `whole` of `score_window`.

    `evidence_of` has all windows that are replayed for it. The temporary tables are its window's.
    """
    window, loaded = scored.window, scored.detectors
    replays = replay(
        lake, window, settings, loaded, lambda some: [evidence_of[each] for each in some]
    )
    return _scored(lake, window, loaded, replays, scored.window_evidence, scored.fitted, settings,
                   whole=False)  # fmt: skip


def _scored(
    lake: Lake,
    window: Window,
    loaded: Sequence[Detector],
    replays: Replays,
    window_evidence: WindowEvidence,
    fitted: Mapping[str, Any],
    settings: Settings,
    *,
    whole: bool,
) -> ScoredWindow:
    families = scoring.families_of(loaded, settings.scoring)
    replayed = Replayed.of(replays, families, settings)
    said = Said.of(lake, loaded, window_evidence)
    scored = scored_of(lake, window, loaded, replays, replayed, said, settings, fitted)
    return replace(scored, case_visits=mark_visits(lake, scored, whole=whole))


def scored_of(
    lake: Lake,
    window: Window,
    loaded: Sequence[Detector],
    replays: Replays,
    replayed: Replayed,
    said: Said,
    settings: Settings,
    fitted: Mapping[str, Any],
) -> ScoredWindow:
    """`window` by what the detectors `said`, scored by what `replayed` gives.

    Reads nothing of the lake. Its `case_visits` are still to be marked (`mark_visits`).
    """
    groups = groups_of(lake, said.members)
    cases, visit_scores = scoring.score(
        said.visits,
        said.key_ids,
        replayed.scale,
        settings.scoring,
        [group.key_ids for group in groups if group.kind == "campaign"],
        [each.evidence for each in replays.replays],
    )
    cases = raise_together(cases, groups)
    return ScoredWindow(
        window=window,
        detectors=tuple(loaded),
        replays=replays,
        replayed=replayed,
        cases=tuple(cases),
        groups=tuple(groups),
        evidence=said.evidence,
        visit_scores=visit_scores,
        case_visits=_CASE_VISITS_SCHEMA.empty_table(),
        window_evidence=said.visits,
        fitted=fitted,
    )


def mark_visits(lake: Lake, scored: Scored, *, whole: bool) -> pa.Table:
    """The `case_visits` of what was `scored`; without `whole`, of cases with an action alone.

    Reads the temporary tables of the window, or of a part of its keys: then they have no visits of
    the others.
    """
    with scored.tables(lake):
        return lake.table(
            _CASE_VISITS, share=_SUSPICIOUS_SHARE, least=_LEAST_SUSPICIOUS_BITS, whole=whole
        )


def _case_table(cases: Sequence[ScoredCase]) -> pa.Table:
    return pa.table(
        {
            "key_id": pa.array([one.key_id for one in cases], pa.string()),
            "day": pa.array([one.day for one in cases], pa.date32()),
            "prefix": pa.array([one.prefix for one in cases], pa.string()),
            "bits": pa.array([one.bits for one in cases], pa.float64()),
            "action": pa.array([one.recommended for one in cases], pa.string()),
            "suspected": pa.array([one.action != "none" for one in cases], pa.bool_()),
            "p_value": pa.array([one.p_value for one in cases], pa.float64()),
            "q_value": pa.array([one.q_value for one in cases], pa.float64()),
        }
    )
