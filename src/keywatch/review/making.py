"""A window scored: detectors, calibration, cases; and how the lake keeps the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from keywatch import __version__
from keywatch.detect import power
from keywatch.detect.detectors import Detector
from keywatch.detect.proxies import proxy_addresses
from keywatch.detect.scored_window import Scored, ScoredWindow, score_again, score_window
from keywatch.detect.scoring import WindowEvidence
from keywatch.lake import Lake, utc_now
from keywatch.lake.weeks import is_newest_week
from keywatch.load import late
from keywatch.load.late import Queued
from keywatch.model import Case, Coverage, HygieneFinding, Review, Run, Standing, Window
from keywatch.notices import step
from keywatch.review import alerts, coverage, new_networks, recommend, settled, stored
from keywatch.review.alerts import Change, Outbox
from keywatch.settings import Settings
from keywatch.text.document import case_document

WATCH = "-watch"
"""Ends the id of a run that the feed stored: it has the alerted keys only."""


def make_review(
    lake: Lake,
    window: Window,
    settings: Settings,
    *,
    whole: bool = True,
    evidence_of: dict[Window, WindowEvidence] | None = None,
    loaded: Sequence[Detector] | None = None,
) -> tuple[Review, ScoredWindow]:
    """The review of `window`, and the scored window it is made of; writes temporary tables only.

    The arguments are as of `score_window`.
    """
    scored = score_window(
        lake, window, settings, whole=whole, evidence_of=evidence_of, loaded=loaded
    )
    return review_of(lake, scored, settings, whole=whole), scored


def review_again(
    lake: Lake,
    scored: ScoredWindow,
    settings: Settings,
    evidence_of: Mapping[Window, WindowEvidence],
) -> Review:
    """The review of what was just `scored`, by other settings; as of `score_again`."""
    again = score_again(lake, scored, settings, evidence_of)
    return review_of(lake, again, settings, whole=False)


def review_of(
    lake: Lake,
    scored: ScoredWindow,
    settings: Settings,
    *,
    whole: bool,
    covered: Coverage | None = None,
) -> Review:
    """The review that `scored` is made into; the temporary tables are its own.

    Where `scored` is a part of the keys, `covered` is the coverage of all, and the rest of the
    review is about the part.
    """
    step("Explaining the cases")
    told = tell(lake, scored, settings.review.warm_up_days, whole=whole)
    if covered is None:
        window = scored.window
        proxies = proxy_addresses(lake, window.start.date(), window.end.date())
        injected = None
        if coverage.injects(scored, proxies, settings):
            step("Estimating the detection power")
            injected = power.inject(lake, window, scored.detectors, settings.review.power_keys)
        counted = coverage.Counted.of(lake)
        covered = coverage.of_run(scored, told.standings, counted, proxies, injected)
    return review_told(lake, scored, told, covered, settings)


@dataclass(frozen=True)
class Told:
    """What is told of the keys of a window, or of some of them, before any verdict.

    `hygiene` has each finding with its bits; `new_networks` are as of `new_networks.find`; columns
    of `strange_days`: key_id, day, address, of what is left out of the baselines.
    """

    standings: Mapping[str, Standing]
    cases: tuple[Case, ...]
    hygiene: tuple[tuple[float, HygieneFinding], ...]
    new_networks: tuple[dict[str, Any], ...]
    strange_days: pa.Table


def tell(lake: Lake, scored: Scored, warm_up_days: int, *, whole: bool) -> Told:
    """All that is told of the keys of `scored`; the temporary tables are its own."""
    standings = _standings(lake, warm_up_days)
    return Told(
        standings=standings,
        cases=tuple(recommend.build_cases(lake, scored, standings, whole=whole)),
        hygiene=_hygiene(lake, scored),
        new_networks=tuple(new_networks.find(lake, scored)),
        strange_days=lake.table("SELECT key_id, day, address FROM strange_days"),
    )


def review_told(
    lake: Lake, scored: ScoredWindow, told: Told, covered: Coverage, settings: Settings
) -> Review:
    """The review of what was `told` and `covered`; no temporary table is read."""
    answer = Review(
        window=scored.window,
        run=_run(lake, scored, told, settings),
        coverage=coverage.as_of_now(lake, covered, scored.window, settings),
        cases=settled.with_verdicts(lake, scored, told.cases, settings),
        groups=scored.groups,
        hygiene=tuple(finding for _, finding in sorted(told.hygiene, key=_by_weight)),
        standings=dict(told.standings),
    )
    return replace(answer, new_networks=new_networks.of_review(told.new_networks, answer))


def _by_weight(one: tuple[float, HygieneFinding]) -> tuple[Any, ...]:
    """Upkeep by rule, what has been due for longest or weighs most first."""
    bits, finding = one
    due = finding.due_on
    return (finding.detector, -bits, due is None, due or date.min, finding.key_id)


def _hygiene(lake: Lake, scored: Scored) -> tuple[tuple[float, HygieneFinding], ...]:
    with scored.tables(lake):
        rows = lake.rows(
            """
            SELECT e.key_id, e.detector, e.explanation, k.key, k.name, k.owner, k.environment,
                CASE WHEN e.rotate THEN 'rotate' ELSE 'none' END, e.due_on, $end::DATE - e.due_on,
                e.bits
            FROM scored_evidence AS e
            LEFT JOIN keys AS k USING (key_id)
            WHERE e.hygiene AND e.status = 'stable'
            """,
            end=scored.window.end,
        )
    return tuple((bits, HygieneFinding(*row)) for *row, bits in rows)


def _run(lake: Lake, scored: ScoredWindow, told: Told, settings: Settings) -> Run:
    """Named by all that the answer depends on; the snapshot is the one it was first made on."""
    with lake.registered("told_strange_days", told.strange_days):
        state = lake.rows(
            "SELECT (SELECT max(load_id) FROM lake.ingested_files), "
            "(SELECT max(import_id) FROM lake.keys), (SELECT count(*) FROM lake.verdicts), "
            "(SELECT count(*) FROM lake.leaked_keys), "
            "(SELECT md5(string_agg(concat_ws(' ', key_id, day, address), chr(10) "
            "ORDER BY key_id, day, address)) FROM told_strange_days)"
        )[0]
    window = scored.window
    parts = [window.start, window.end, state, settings.config_hash, __version__]
    parts += [detector.identity for detector in scored.detectors]
    run_id = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    before = lake.value("SELECT lake_snapshot FROM lake.runs WHERE run_id = $id", id=run_id)
    snapshot = lake.snapshot if before is None else before
    return Run(run_id, snapshot, settings.config_hash, __version__)


def _standings(lake: Lake, warm_up_days: int) -> dict[str, Standing]:
    """What can be said of each key: one of the coverage's four kinds."""
    rows = lake.rows(
        """
        SELECT key_id, CASE
            WHEN h.key_id IS NULL THEN 'silent'
            WHEN h.active_days >= $warm_up_days THEN 'assessed'
            WHEN v.located OR k.in_inventory OR v.catalogued THEN 'warming_up'
            ELSE 'not_assessable'
        END
        FROM keys AS k
        FULL JOIN key_history AS h USING (key_id)
        LEFT JOIN (
            SELECT key_id, bool_or(located) AS located,
                bool_or(key_id IN (SELECT e.key_id FROM visit_endpoints AS e
                    JOIN keys AS u USING (key_id)
                    SEMI JOIN source_catalogue AS c USING (source, endpoint))) AS catalogued
            FROM visits GROUP BY key_id
        ) AS v USING (key_id)
        """,
        warm_up_days=warm_up_days,
    )
    return dict(rows)


def keep(
    lake: Lake,
    answer: Review,
    scored: ScoredWindow | None,
    settings: Settings,
    outbox: Outbox,
    queued: Queued | None = None,
    state: stored.State | None = None,
) -> None:
    """Store the run, its evidence, cases and recommendations, unless the like run is there.

    What is to be told of the recommendations commits with them, and so does the week's upkeep where
    it is the newest whole week: of an older one it would be out of date. `queued` is what the
    window waited for, and leaves the queue with it. `scored` is None where `answer` was read from
    the lake; with `state`, what it rests on, it can be read there the next time.
    """
    with lake.reading_briefly():
        weekly = is_newest_week(lake, answer.window)
        is_new = scored is not None and not _is_stored(lake, answer)
        is_unread = scored is not None and _is_unread(lake, answer, state)
        upkeep = weekly and outbox.upkeep_is_due(lake, answer)
    if queued is None and not (is_new or is_unread or upkeep):
        return
    with lake.writing():
        late.leave(lake, queued)
        if scored is not None and not _is_stored(lake, answer):
            scored.replays.and_reviewed(scored.window, scored.window_evidence).keep(lake)
            _keep_flags(lake, answer, scored)
            _keep_run(lake, answer, scored)
            changes = _changes(lake, answer, settings, queued)
            outbox.tell(lake, changes)
        if scored is not None and state is not None and _is_unread(lake, answer, state):
            stored.keep(lake, stored.ToldReview.of(lake, answer, scored), state)
        if weekly:
            outbox.enqueue_upkeep(lake, answer)
    lake.keep_copy(utc_now())


def _is_unread(lake: Lake, answer: Review, state: stored.State | None) -> bool:
    """Whether what was scored can't be read from the lake the next time."""
    whole = stored.is_whole(answer)
    return state is not None and not stored.is_kept(lake, state, whole=whole)


def _changes(lake: Lake, answer: Review, settings: Settings, queued: Queued | None) -> list[Change]:
    """What the review changes about alerts; nothing where it is for the record only."""
    if queued is not None and queued.is_for_the_record:
        return []
    is_late = queued is not None and queued.is_late
    return alerts.update(lake, answer, settings.deliver.grow_bits, is_late=is_late)


def _is_stored(lake: Lake, answer: Review) -> bool:
    stored = "SELECT count(*) FROM lake.runs WHERE run_id = $id"
    return bool(lake.value(stored, id=answer.run.id))


def last_reviewed(lake: Lake, until: Window) -> datetime | None:
    """The Monday of the last week, `until` included, that has a review; the feed's are none."""
    monday: datetime | None = lake.value(
        "SELECT max(window_start) FROM lake.runs "
        "WHERE window_end - window_start = INTERVAL 7 DAY AND NOT ends_with(run_id, $watch) "
        "AND isodow(window_start) = 1 AND window_start <= $last",
        watch=WATCH,
        last=until.start,
    )
    return monday


def keep_news(
    lake: Lake,
    answer: Review,
    scored: ScoredWindow,
    settings: Settings,
    outbox: Outbox,
    queued: Queued | None = None,
) -> list[Change]:
    """Store only what is new about alerts; returns their changes. Call it inside `Lake.writing`.

    A week is watched again and again: its run is stored when an alert changes, less the evidence
    of the keys that are not alerted; and whenever all that was `queued` for it came late, for its
    review is of before.
    """
    late.leave(lake, queued)
    scored.replays.keep(lake)
    _keep_flags(lake, answer, scored)
    # Of a week so old nobody has waited: it is for the record.
    changes = [] if queued and queued.is_old else _changes(lake, answer, settings, queued)
    if changes or (queued and queued.is_late):
        watched = replace(answer, run=replace(answer.run, id=answer.run.id + WATCH))
        _keep_run(lake, watched, scored, [case.key_id for case in answer.alerted()])
    outbox.tell(lake, changes)
    return changes


def _keep_flags(lake: Lake, answer: Review, scored: ScoredWindow) -> None:
    """The newest review of a window says what is suspicious in it; what a verdict says stays."""
    window = {"start": answer.window.start, "end": answer.window.end}
    same = (
        "window_start = $start AND window_end = $end "
        "AND run_id NOT IN (SELECT verdict_id FROM lake.verdicts)"
    )
    before = f"SELECT key_id, day, prefix FROM lake.flagged_visits WHERE {same}"
    flagged = set(lake.rows(before, **window))
    if flagged == set(scored.suspicious_visits(lake)):
        return
    if flagged:
        lake.execute(f"DELETE FROM lake.flagged_visits WHERE {same}", **window)
    with scored.tables(lake):
        lake.execute(
            "INSERT INTO lake.flagged_visits SELECT $id, $start, $end, key_id, day, prefix "
            "FROM case_visits WHERE suspicious ORDER BY ALL",
            **window,
            id=answer.run.id,
        )


def _keep_run(
    lake: Lake, answer: Review, scored: ScoredWindow, only: Sequence[str] | None = None
) -> None:
    """The run and what it says, of the keys named by `only` or of all."""
    run = answer.run
    lake.execute(
        "INSERT INTO lake.runs VALUES ($id, $start, $end, $snapshot, $config, $version, $now, "
        "$coverage)",
        id=run.id,
        start=answer.window.start,
        end=answer.window.end,
        snapshot=run.lake_snapshot,
        config=run.config_hash,
        version=run.version,
        now=utc_now(),
        coverage=json.dumps(asdict(answer.coverage), default=str),
    )
    of_keys = "($all OR list_contains($only::VARCHAR[], key_id))"
    named = {"id": run.id, "all": only is None, "only": list(only or ())}
    with scored.tables(lake):
        lake.execute(
            "INSERT INTO lake.evidence SELECT $id, key_id, day, prefix, detector, family, bits, "
            "typical, actual, explanation FROM scored_evidence "
            f"WHERE bits > 0 AND {of_keys} ORDER BY ALL",
            **named,
        )
        lake.execute(
            "INSERT INTO lake.cases SELECT $id, key_id, action, bits, p_value, q_value "
            f"FROM scored_cases WHERE {of_keys} ORDER BY bits DESC, key_id",
            **named,
        )
    new_networks.keep(lake, run.id, answer.new_networks)
    alerted = answer.alerted()
    lake.execute(
        "INSERT INTO lake.recommendations SELECT $id, unnest($key_ids::VARCHAR[]), "
        "unnest($actions::VARCHAR[]), unnest($documents::VARCHAR[])",
        id=run.id,
        key_ids=[case.key_id for case in alerted],
        actions=[case.action for case in alerted],
        documents=[json.dumps(case_document(case)) for case in alerted],
    )
