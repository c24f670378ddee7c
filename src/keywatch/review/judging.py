"""A window judged: detectors, calibration, cases; and how the lake keeps the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta

from keywatch import __version__
from keywatch.detect import detectors, power, scoring
from keywatch.detect.calibration import RANK_CASES, Calibration
from keywatch.detect.replay import (
    Judge,
    LeftOut,
    Replays,
    replay,
    revokes,
    to_leave_out,
    windows_before,
)
from keywatch.detect.triage import find_groups, raise_together
from keywatch.lake import Lake, utc_now
from keywatch.lake.weeks import is_newest_week
from keywatch.load import late
from keywatch.load.late import Queued
from keywatch.model import (
    CalibrationSummary,
    Coverage,
    HygieneFinding,
    Review,
    Run,
    Standing,
    Window,
)
from keywatch.review import alerts, new_networks, recommend, settled, verdicts
from keywatch.review.alerts import Change, Outbox
from keywatch.settings import Settings
from keywatch.text.document import case_document
from keywatch.text.phrases import count, iso_week, listed, named
from keywatch.text.safe_text import printable
from keywatch.vendors import catalogue_endpoints

OnText = Callable[[str], None]

_MOST_WEEKS = 8
WATCH = "-watch"
"""Ends the id of a run that the feed stored: it has the alerted keys only."""


def judge_of(
    lake: Lake,
    window: Window,
    settings: Settings,
    loaded: Sequence[detectors.Detector] | None = None,
) -> tuple[list[detectors.Detector], Judge]:
    """The detectors (those `loaded`, else the bundled ones), and what has them all judge `window`.

    Drafts are left out: they run in their own cases and in the workbench only. Windows that are
    replayed for it are judged too.
    """
    found = detectors.load_detectors() if loaded is None else loaded
    loaded = [detector for detector in found if detector.status != "draft"]
    days = settings.review.baseline_days
    first = min(
        (each.start for each in windows_before(lake, window, settings)), default=window.start
    )
    detectors.prepare_span(
        lake, first.date() - timedelta(days=days), window.end.date(), catalogue_endpoints()
    )

    def judge(window: Window) -> scoring.WindowEvidence:
        detectors.prepare_window(lake, window, days)
        for detector in loaded:
            detectors.run(lake, detector, window)
        return scoring.gather(lake, loaded)

    return loaded, judge


def make_review(
    lake: Lake,
    window: Window,
    settings: Settings,
    *,
    whole: bool = True,
    judged: dict[Window, scoring.WindowEvidence] | None = None,
    loaded: Sequence[detectors.Detector] | None = None,
) -> tuple[Review, Replays]:
    """The review of `window` and the replays it rests on; writes temporary tables only.

    `judged` has what other reviews of this lake with these settings and detectors judged, and is
    added to. `loaded` are the detectors, the bundled ones when not given.
    """
    loaded, judge = judge_of(lake, window, settings, loaded)
    judged = {} if judged is None else judged

    def judge_once(window: Window) -> scoring.WindowEvidence:
        if window not in judged:
            judged[window] = judge(window)
        return judged[window]

    replays = replay(lake, window, settings, loaded, judge_once)
    families = scoring.families_of(loaded, settings.scoring)
    replayed = replays.judged(families, settings)
    without = to_leave_out(replayed)
    calibration = replays.calibration(families, without)
    # Last, so that the temporary tables are the window's.
    judged[window] = judge(window)
    groups = find_groups(lake)
    campaigns = [group.key_ids for group in groups if group.kind == "campaign"]
    scored = scoring.score(
        lake,
        judged[window],
        calibration or families,
        settings.scoring,
        campaigns,
        [each.evidence for each in replays.replays],
    )
    scored = raise_together(scored, groups)
    standings = _standings(lake, settings.review.warm_up_days)
    built = recommend.build_cases(lake, scored, standings, loaded, whole=whole)
    cases = settled.with_verdicts(lake, window, built, settings)
    coverage = _coverage(lake, window, standings, settings)
    remaining = replays.judged(families, settings, without) if without else replayed
    summary = (
        None
        if calibration is None
        else _calibration(lake, calibration, settings, replayed, remaining, without)
    )
    cleared = [case.key_id for case in cases if case.verdict and case.verdict.clears]
    networks = new_networks.find(lake, window, groups, standings, cleared)
    coverage = replace(
        coverage,
        keys_without_past=new_networks.keys_without_past(lake),
        notes=coverage.notes + _calibration_notes(summary, coverage, settings),
        calibration=summary,
        suppressions=verdicts.in_force(lake, window),
    )
    run = _run(lake, window, settings, loaded)
    hygiene = _hygiene(lake, window)
    if calibration is not None and settings.review.power_keys:
        # Last: it takes the place of the window's visits.
        powers = power.power_of_keys(
            lake, window, loaded, calibration, settings.scoring, settings.review.power_keys
        )
        coverage = replace(coverage, power=power.summary(powers))
    answer = Review(
        window=window,
        run=run,
        coverage=coverage,
        cases=cases,
        groups=tuple(groups),
        hygiene=hygiene,
        new_networks=networks,
        standings=standings,
    )
    return answer, replays


def _hygiene(lake: Lake, window: Window) -> tuple[HygieneFinding, ...]:
    """Upkeep by rule, what has been due for longest or weighs most first."""
    rows = lake.rows(
        """
        SELECT e.key_id, e.detector, e.explanation, k.key, k.name, k.owner, k.environment,
            CASE WHEN e.rotate THEN 'rotate' ELSE 'none' END, e.due_on, $end::DATE - e.due_on
        FROM evidence AS e
        LEFT JOIN keys AS k USING (key_id)
        WHERE e.hygiene AND e.status = 'stable'
        ORDER BY e.detector, e.bits DESC, e.due_on, e.key_id
        """,
        end=window.end,
    )
    return tuple(HygieneFinding(*row) for row in rows)


def _run(lake: Lake, window: Window, settings: Settings, loaded: list[detectors.Detector]) -> Run:
    """Named by all that the answer depends on; the snapshot is the one it was first made on."""
    state = lake.rows(
        "SELECT (SELECT max(load_id) FROM lake.ingested_files), "
        "(SELECT max(import_id) FROM lake.keys), (SELECT count(*) FROM lake.verdicts), "
        "(SELECT md5(string_agg(concat_ws(' ', key_id, day, address), chr(10) "
        "ORDER BY key_id, day, address)) FROM strange_days)"
    )[0]
    parts = [window.start, window.end, state, settings.config_hash, __version__]
    parts += [detector.identity for detector in loaded]
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
                    SEMI JOIN catalogue AS c USING (endpoint))) AS catalogued
            FROM visits GROUP BY key_id
        ) AS v USING (key_id)
        """,
        warm_up_days=warm_up_days,
    )
    return dict(rows)


def _calibration(
    lake: Lake,
    calibration: Calibration,
    settings: Settings,
    replayed: Sequence[Sequence[scoring.ScoredCase]],
    remaining: Sequence[Sequence[scoring.ScoredCase]],
    without: LeftOut,
) -> CalibrationSummary:
    """`replayed` are the cases of each replayed window, `remaining` those that are not left out."""
    judged, benign = verdicts.realised(lake)
    return CalibrationSummary(
        windows=len(replayed),
        cases=calibration.replayed.total,
        nominal_rate=settings.scoring.false_revoke_rate,
        replayed_revokes=revokes(replayed),
        left_out=sum(map(len, without.thefts)),
        noisy_keys=len(without.noisy),
        outlying_windows=len(without.outlying),
        remaining_revokes=revokes(remaining),
        judged=judged,
        judged_benign=benign,
    )


def _coverage(
    lake: Lake,
    window: Window,
    standings: dict[str, Standing],
    settings: Settings,
) -> Coverage:
    kinds = list(standings.values())
    start, end = window.start, window.end
    events, unlocated, keyless, rejected, held_back = lake.rows(
        """
        SELECT (SELECT coalesce(sum(events), 0)::BIGINT FROM window_activity),
            (SELECT count(*) FROM places SEMI JOIN window_activity USING (place_id)
                WHERE NOT located),
            (SELECT count(*) FROM lake.keyless_events WHERE day >= $start AND day < $end),
            (SELECT count(*) FROM lake.rejects),
            (SELECT count(*) FROM lake.held_back)
        """,
        start=start.date(),
        end=end.date(),
    )[0]
    first, last = lake.rows(
        "SELECT min(first_ts), max(last_ts) FILTER (day < $end) FROM lake.activity", end=end.date()
    )[0]
    history = (min(start, last) - first).total_seconds() / 86400 if first and last else 0.0
    return Coverage(
        keys=len(kinds),
        assessed=kinds.count("assessed"),
        warming_up=kinds.count("warming_up"),
        not_assessable=kinds.count("not_assessable"),
        silent=kinds.count("silent"),
        events=events,
        unlocated_addresses=unlocated,
        keyless_events=keyless,
        rejected_lines=rejected,
        held_back_events=held_back,
        history_days=round(max(history, 0.0), 2),
        notes=_notes(first, last, window, kinds, settings)
        + _unread_notes(lake, window)
        + _late_notes(lake, window, settings)
        + tuple(f"{note}." for note in alerts.unlisted_notes(lake)),
    )


def _notes(
    first: datetime | None,
    last: datetime | None,
    window: Window,
    kinds: list[Standing],
    settings: Settings,
) -> tuple[str, ...]:
    """What the reader must know before trusting the silence."""
    if first is None or last is None:
        return ("The lake holds no event of any key before the window's end.",)
    notes = []
    warm_up = settings.review.warm_up_days
    if "assessed" not in kinds:
        seen = _span((last - first).total_seconds())
        notes.append(
            f"All that the lake holds is {seen} of history: too short to judge any key by habit, "
            f"which takes {warm_up} days before the window. Keys were judged by policy, by "
            "sensitive calls and by their peers only."
        )
    elif young := kinds.count("warming_up"):
        notes.append(
            f"{count(young, 'key')} {named(young, 'was', 'were')} seen on fewer than {warm_up} "
            f"days before the window: {named(young, 'it was', 'they were')} judged by policy, by "
            f"sensitive calls and by {named(young, 'its', 'their')} peers, hardly by habit."
        )
    if last < window.end - timedelta(days=1):
        notes.append(f"The last event is of {last:%Y-%m-%d %H:%M} UTC: the window is not full.")
    return tuple(notes)


_MOST_KEYS_NAMED = 5


def _unread_notes(lake: Lake, window: Window) -> tuple[str, ...]:
    """What the window's log has that nobody could read: the lines of keys, and whole files."""
    keys = lake.rows(
        "SELECT key_id, sum(lines)::BIGINT AS lines FROM unread_lines WHERE day >= $start "
        "GROUP BY key_id ORDER BY lines DESC, key_id",
        start=window.start.date(),
    )
    notes = []
    if keys:
        told = ", ".join(
            f"{count(lines, 'line')} of {printable(key_id)}"
            for key_id, lines in keys[:_MOST_KEYS_NAMED]
        )
        more = len(keys) - _MOST_KEYS_NAMED
        others = f", and lines of {count(more, 'other key')}" if more > 0 else ""
        notes.append(f"{told}{others} could not be read: what they did is not known.")
    files = lake.value(
        "SELECT count(DISTINCT path) FROM lake.left_out_files WHERE seen_at >= $start "
        "AND path NOT IN (SELECT path FROM lake.ingested_files)",
        start=window.start,
    )
    if files:
        notes.append(
            f"{count(files, 'file')} found since the window began could not be read, and "
            f"{'is' if files == 1 else 'are'} left out: keywatch doctor says which."
        )
    return tuple(notes)


def _late_notes(lake: Lake, window: Window, settings: Settings) -> tuple[str, ...]:
    """Which weeks before the window have lines that were not judged yet."""
    waiting = [
        iso_week(each.window) or ""
        for each in late.queued(lake, settings.review.late_weeks)
        if each.is_late and each.window.end <= window.start
    ]
    if not waiting:
        return ()
    return (
        f"Late log lines of {listed(waiting, _MOST_WEEKS)} are not judged yet and no part of what "
        "is usual: keywatch review --missed judges them.",
    )


def _calibration_notes(
    calibration: CalibrationSummary | None, coverage: Coverage, settings: Settings
) -> tuple[str, ...]:
    if calibration is None:
        return (
            "Too little history can be replayed to calibrate the scores: facts and the rule for an "
            "unfamiliar place decide what to revoke, and a threshold in the settings what to look "
            "at.",
        )
    return (
        f"P-values below {RANK_CASES / (calibration.cases + 1):.2g} are extrapolated from "
        f"{calibration.cases:,} replayed cases by an exponential tail.",
    )


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 86400:.0f} days"


def keep(
    lake: Lake,
    answer: Review,
    replays: Replays,
    settings: Settings,
    outbox: Outbox,
    on_wait: OnText,
    judged: Queued | None = None,
) -> None:
    """Store the run, its evidence, cases and recommendations, unless the like run is there.

    What is to be told of the recommendations commits with them, and so does the week's upkeep where
    it is the newest whole week: of an older one it would be out of date. `judged` is what the
    window waited for, and leaves the queue with it.
    """
    weekly = is_newest_week(lake, answer.window)
    if (
        judged is None
        and _is_stored(lake, answer)
        and not (weekly and outbox.upkeep_is_due(lake, answer))
    ):
        return
    with lake.writing(on_wait):
        late.leave(lake, judged)
        if not _is_stored(lake, answer):
            replays.keep(lake)
            _keep_flags(lake, answer)
            _keep_run(lake, answer)
            changes = _changes(lake, answer, settings, judged)
            outbox.tell(lake, changes)
        if weekly:
            outbox.enqueue_upkeep(lake, answer)
    lake.keep_copy(utc_now())


def _changes(lake: Lake, answer: Review, settings: Settings, judged: Queued | None) -> list[Change]:
    """What the review changes about alerts; nothing where it is for the record only."""
    if judged is not None and judged.is_for_the_record:
        return []
    is_late = judged is not None and judged.is_late
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
    replays: Replays,
    settings: Settings,
    outbox: Outbox,
    judged: Queued | None = None,
) -> list[Change]:
    """Store only what is new about alerts; returns their changes. Call it inside `Lake.writing`.

    A week is watched again and again: its run is stored when an alert changes, less the evidence
    of the keys that are not alerted; and whenever all that it was `judged` for came late, for its
    review is of before.
    """
    late.leave(lake, judged)
    replays.keep(lake)
    _keep_flags(lake, answer)
    # Of a week so old nobody has waited: it is for the record.
    changes = [] if judged and judged.is_old else _changes(lake, answer, settings, judged)
    if changes or (judged and judged.is_late):
        watched = replace(answer, run=replace(answer.run, id=answer.run.id + WATCH))
        _keep_run(lake, watched, [case.key_id for case in answer.alerted()])
    outbox.tell(lake, changes)
    return changes


_FLAGS = "SELECT key_id, day, prefix FROM case_visits WHERE suspicious ORDER BY ALL"


def suspicious_visits(lake: Lake) -> list[tuple[str, date, str]]:
    """Key, day and prefix of what the review just made finds suspicious."""
    return lake.rows(_FLAGS)


def _keep_flags(lake: Lake, answer: Review) -> None:
    """The newest review of a window says what is suspicious in it; what a verdict says stays."""
    window = {"start": answer.window.start, "end": answer.window.end}
    same = (
        "window_start = $start AND window_end = $end "
        "AND run_id NOT IN (SELECT verdict_id FROM lake.verdicts)"
    )
    before = f"SELECT key_id, day, prefix FROM lake.flagged_visits WHERE {same}"
    if set(lake.rows(before, **window)) == set(suspicious_visits(lake)):
        return
    lake.execute(f"DELETE FROM lake.flagged_visits WHERE {same}", **window)
    lake.execute(
        "INSERT INTO lake.flagged_visits SELECT $id, $start, $end, key_id, day, prefix "
        f"FROM ({_FLAGS})",
        **window,
        id=answer.run.id,
    )


def _keep_run(lake: Lake, answer: Review, only: Sequence[str] | None = None) -> None:
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
    lake.execute(
        "INSERT INTO lake.evidence SELECT $id, key_id, day, prefix, detector, family, bits, "
        f"typical, actual, explanation FROM evidence WHERE bits > 0 AND {of_keys} ORDER BY ALL",
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
