"""What the commands and flows do, as plain functions: load, import, review."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keywatch import (
    __version__,
    alerts,
    deliver,
    detectors,
    history,
    power,
    recommend,
    scoring,
    verdicts,
)
from keywatch.calibration import Calibration
from keywatch.catalogue import load_catalogues
from keywatch.errors import KeywatchError, LakeError, SecretError, UsageError
from keywatch.history import Details
from keywatch.lake import Lake, duckdb_version, utc_now
from keywatch.model import (
    CalibrationSummary,
    Case,
    Coverage,
    HygieneFinding,
    Rehearsal,
    RehearsedAlert,
    Review,
    Run,
    Standing,
    Window,
)
from keywatch.replay import Judge, Replays, replay, windows_before
from keywatch.report import case_document
from keywatch.settings import GeoIPSettings, Settings
from keywatch.triage import find_groups, raise_together

if TYPE_CHECKING:
    import pyarrow as pa

    from keywatch.ingest import LoadReport
    from keywatch.origins import DatabaseInfo, GeoIPPaths

_WEEK = re.compile(r"(\d{4})-W(\d{2})")

OnText = Callable[[str], None]


T = TypeVar("T")


def _quiet(*_: object) -> None:
    return


def ingest(
    lake_folder: Path,
    paths: list[str],
    settings: Settings,
    *,
    source: str | None = None,
    on_size: Callable[[int], None] = _quiet,
    on_bytes: Callable[[int], None] = _quiet,
    on_wait: OnText = _quiet,
) -> LoadReport:
    """Load the logs under `paths` into the lake, which is made where there is none.

    `on_size` hears how many stored bytes there are, `on_bytes` of each part that was read.

    Raises:
        InputError, LakeError, GeoIPError: nothing was loaded.
    """
    # Arrow, numpy and GeoIP readers (an HTTP client) take a second: a review need not wait for it.
    from keywatch.ingest import load_files
    from keywatch.origins import OriginReader
    from keywatch.sources import find_files

    files = find_files(paths)
    on_size(sum(file.size_bytes for file in files))
    with (
        OriginReader(geoip_paths(settings.geoip)) as reader,
        Lake.open(lake_folder, settings.storage, create=True, on_wait=on_wait) as lake,
    ):
        return load_files(lake, files, settings.ingest, reader, source, on_bytes, on_wait)


def import_keys(
    lake_folder: Path, file: Path, settings: Settings, on_wait: OnText = _quiet
) -> tuple[int, int]:
    """Import a key inventory; returns the keys read and how many are new or changed."""
    from keywatch import inventory

    with Lake.open(lake_folder, settings.storage, create=True, on_wait=on_wait) as lake:
        return inventory.import_keys(lake, file, on_wait)


def geoip_paths(settings: GeoIPSettings) -> GeoIPPaths:
    """The user's databases, as the settings name them."""
    from keywatch.origins import GeoIPPaths

    return GeoIPPaths(**settings.model_dump())


def geoip_databases(settings: GeoIPSettings) -> list[DatabaseInfo]:
    """The databases that answer, in order of precedence."""
    from keywatch.origins import OriginReader

    with OriginReader(geoip_paths(settings)) as reader:
        return list(reader.databases)


def last_full_week(lake: Lake) -> Window:
    """The last ISO week that is over, as of the lake's last event; else the week it lies in.

    Event time decides, not the wall clock: an old log is reviewed as of its own end.
    """
    first, last = lake.rows("SELECT min(day), max(day) FROM lake.activity")[0]
    if last is None:
        first = last = utc_now().date()
    monday = _monday(last + timedelta(days=1)) - timedelta(days=7)
    if first >= monday + timedelta(days=7):
        monday = _monday(last)
    start = datetime.combine(monday, time())
    return Window(start, start + timedelta(days=7))


def week_window(week: str) -> Window:
    """The window of an ISO week such as 2026-W40.

    Raises:
        UsageError: it is no such week.
    """
    match = _WEEK.fullmatch(week)
    try:
        if match is None:
            raise ValueError
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
    except ValueError:
        raise UsageError(f"week {week!r} is no ISO week; write it as 2026-W40") from None
    start = datetime.combine(monday, time())
    return Window(start, start + timedelta(days=7))


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def review(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    *,
    keep: bool = True,
    whole: bool = True,
    on_wait: OnText = _quiet,
) -> Review:
    """Judge every key of `window` and, with `keep`, store the answer in the lake.

    Without a window: the last ISO week that is over, as of the lake's last event. The same window
    on the same lake with the same settings is the same run, and is stored once. Without `whole`,
    cases that need no action are told in brief (`recommend.build_cases`), which is much faster.

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    return _review(lake_folder, window, settings, _quiet, keep=keep, whole=whole, on_wait=on_wait)[
        0
    ]


def review_in_detail(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    *,
    keep: bool = True,
    on_wait: OnText = _quiet,
) -> tuple[Review, Details]:
    """`review`, and what the HTML report shows beside it, of the same snapshot.

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    baseline_days = settings.review.baseline_days

    def look(lake: Lake, answer: Review) -> Details:
        return history.details(lake, answer, baseline_days, _suspicious_visits(lake))

    return _review(lake_folder, window, settings, look, keep=keep, whole=False, on_wait=on_wait)


def case_in_detail(
    lake_folder: Path, key: str, window: Window | None, settings: Settings
) -> tuple[Review, Case | None, Details | None]:
    """The case of a key, and its history; both None where the key has no case.

    The whole window is judged for it, and nothing is stored.

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    baseline_days = settings.review.baseline_days

    def look(lake: Lake, answer: Review) -> tuple[Case | None, Details | None]:
        found = find_case(answer, key)
        if found is None:
            return None, None
        suspicious = _suspicious_visits(lake)
        return found, history.details(lake, answer, baseline_days, suspicious, [found])

    answer, (found, shown) = _review(
        lake_folder, window, settings, look, keep=False, whole=True, on_wait=_quiet
    )
    return answer, found, shown


def _review(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    look: Callable[[Lake, Review], T],
    *,
    keep: bool,
    whole: bool,
    on_wait: OnText,
) -> tuple[Review, T]:
    """The review, and what `look` reads in its snapshot beside its temporary tables."""
    with Lake.open(lake_folder, settings.storage) as lake:
        with lake.reading():
            answer, replays = make_review(
                lake, window or last_full_week(lake), settings, whole=whole
            )
            seen = look(lake, answer)
        if keep:
            _keep(lake, answer, replays, settings, on_wait)
        return answer, seen


def _suspicious_visits(lake: Lake) -> list[history.Flag]:
    return lake.rows("SELECT key_id, day, prefix FROM case_visits WHERE suspicious ORDER BY ALL")


def _judging(
    lake: Lake,
    window: Window,
    settings: Settings,
    loaded: Sequence[detectors.Detector] | None = None,
) -> tuple[list[detectors.Detector], Judge]:
    """The detectors (those `loaded`, else the bundled ones), and what has them all judge `window`.

    It judges windows that are replayed for it too.
    """
    catalogue = [entry for each in load_catalogues() for entry in each.endpoints]
    loaded = detectors.load_detectors() if loaded is None else list(loaded)
    days = settings.review.baseline_days
    first = min(
        (each.start for each in windows_before(lake, window, settings)), default=window.start
    )
    detectors.prepare_span(lake, first.date() - timedelta(days=days), window.end.date(), catalogue)

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
    loaded, judge = _judging(lake, window, settings, loaded)
    judged = {} if judged is None else judged

    def judge_once(window: Window) -> scoring.WindowEvidence:
        if window not in judged:
            judged[window] = judge(window)
        return judged[window]

    replays = replay(lake, window, settings, loaded, judge_once)
    families = scoring.families_of(loaded, settings.scoring)
    calibration = replays.calibration(families, settings)
    # Last, so that the temporary tables are the window's.
    judged[window] = judge(window)
    scored = scoring.score(lake, judged[window], calibration or families, settings.scoring)
    groups = find_groups(lake)
    scored = raise_together(scored, groups)
    standings = _standings(lake, settings.review.warm_up_days)
    cases = tuple(recommend.build_cases(lake, scored, standings, whole=whole))
    coverage = _coverage(lake, window, standings, settings)
    summary = _calibration(lake, replays, calibration, settings)
    coverage = replace(
        coverage,
        notes=coverage.notes + _calibration_notes(summary, coverage, settings),
        calibration=summary,
        suppressions=verdicts.in_force(lake, window),
    )
    run = _run(lake, window, settings, loaded)
    hygiene = lake.rows(
        "SELECT key_id, detector, explanation FROM evidence WHERE hygiene "
        "ORDER BY detector, bits DESC, key_id"
    )
    if calibration is not None:
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
        hygiene=tuple(HygieneFinding(*row) for row in hygiene),
        standings=standings,
    )
    return answer, replays


_REPLAYED_DAYS = 7


def rehearse(
    lake_folder: Path,
    span: Window,
    settings: Settings,
    against: Settings | None = None,
    others: Sequence[detectors.Detector] | None = None,
) -> Rehearsal:
    """What weekly reviews of `span` would have alerted, and by other settings or detectors.

    `against` are the other settings, `others` the detectors that take the place of the bundled
    ones. Each week is reviewed with what the lake holds today; nothing is stored.

    Raises:
        UsageError: the span is not a number of whole weeks.
    """
    week = timedelta(days=_REPLAYED_DAYS)
    if (span.end - span.start) % week:
        raise UsageError("--from and --to must be a number of whole weeks apart")
    starts = [span.start + nth * week for nth in range((span.end - span.start) // week)]
    windows = tuple(Window(start, start + week) for start in starts)
    return Rehearsal(
        windows=windows,
        alerts=_would_alert(lake_folder, windows, settings),
        against=_would_alert(lake_folder, windows, against or settings, others)
        if against or others
        else None,
    )


def said_by(
    lake_folder: Path, detector: detectors.Detector, window: Window, settings: Settings
) -> pa.Table:
    """What `detector` alone says of `window`, the most first; less than 0 speaks for the owner.

    Columns: key_id, day, prefix (null: of the key), bits, typical, actual, explanation. Nothing is
    stored.

    Raises:
        DetectorError: its query fails.
    """
    catalogue = [entry for each in load_catalogues() for entry in each.endpoints]
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        detectors.prepare(lake, window, settings.review.baseline_days, catalogue)
        detectors.run(lake, detector, window)
        return lake.table(
            "SELECT key_id, day, prefix, bits, typical, actual, explanation FROM evidence "
            "ORDER BY bits DESC, key_id, day, prefix"
        )


def _would_alert(
    lake_folder: Path,
    windows: Sequence[Window],
    settings: Settings,
    loaded: Sequence[detectors.Detector] | None = None,
) -> tuple[RehearsedAlert, ...]:
    quick = settings.model_copy(
        update={"review": settings.review.model_copy(update={"power_keys": 0})}
    )
    judged: dict[Window, scoring.WindowEvidence] = {}
    alerts: list[RehearsedAlert] = []
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        for window in windows:
            answer, _ = make_review(lake, window, quick, whole=False, judged=judged, loaded=loaded)
            alerts += [
                RehearsedAlert(window, case.key_id, case.name, case.action, case.bits, case.summary)
                for case in answer.alerted()
            ]
    return tuple(alerts)


def _run(lake: Lake, window: Window, settings: Settings, loaded: list[detectors.Detector]) -> Run:
    """Named by all that the answer depends on; the snapshot is the one it was first made on."""
    state = lake.rows(
        "SELECT (SELECT max(load_id) FROM lake.ingested_files), "
        "(SELECT max(import_id) FROM lake.keys), (SELECT count(*) FROM lake.verdicts), "
        "(SELECT md5(string_agg(concat_ws(' ', key_id, day, address), chr(10) "
        "ORDER BY key_id, day, address)) FROM quarantine)"
    )[0]
    parts = [window.start, window.end, state, settings.config_hash, __version__]
    parts += [(detector.id, detector.sql, detector.params) for detector in loaded]
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
    lake: Lake, replays: Replays, calibration: Calibration | None, settings: Settings
) -> CalibrationSummary | None:
    if calibration is None:
        return None
    judged, benign = verdicts.realised(lake)
    return CalibrationSummary(
        windows=len(replays.replays),
        cases=calibration.replayed.total,
        nominal_rate=settings.scoring.false_revoke_rate,
        replayed_revokes=replays.revoked(calibration, settings),
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
    events, unlocated, keyless, rejected = lake.rows(
        """
        SELECT (SELECT coalesce(sum(events), 0)::BIGINT FROM window_activity),
            (SELECT count(*) FROM places SEMI JOIN window_activity USING (place_id)
                WHERE NOT located),
            (SELECT count(*) FROM lake.keyless_events WHERE day >= $start AND day < $end),
            (SELECT count(*) FROM lake.rejects)
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
        history_days=round(max(history, 0.0), 2),
        notes=_notes(first, last, window, kinds, settings) + deliver.undelivered_notes(lake),
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
    elif kinds.count("warming_up"):
        notes.append(
            f"{kinds.count('warming_up')} keys were seen on fewer than {warm_up} days before the "
            "window: they were judged by policy, by sensitive calls and by their peers, "
            "hardly by habit."
        )
    if last < window.end - timedelta(days=1):
        notes.append(f"The last event is of {last:%Y-%m-%d %H:%M} UTC: the window is not full.")
    return tuple(notes)


def _calibration_notes(
    calibration: CalibrationSummary | None, coverage: Coverage, settings: Settings
) -> tuple[str, ...]:
    rate = settings.scoring.false_revoke_rate
    in_use = coverage.keys - coverage.silent
    if calibration is None:
        return (
            "Too little history can be replayed to calibrate the scores: only facts are revoked, "
            "and the threshold in the settings decides what to look at.",
        )
    # Benjamini and Hochberg: the smallest p-value times the keys in use must not be over the rate.
    needed = math.ceil(in_use / (rate * (calibration.cases + 1)))
    if needed > 1:
        return (
            f"{calibration.cases:,} replayed cases let no p-value be below "
            f"{1 / (calibration.cases + 1):.2g}: with {in_use:,} keys in use, revoke at a false "
            f"discovery rate of {rate:g} can be claimed only where {needed} keys or more stand out "
            "as much; what stands out alone is to be looked at.",
        )
    return ()


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 86400:.0f} days"


def _keep(
    lake: Lake, answer: Review, replays: Replays, settings: Settings, on_wait: OnText
) -> None:
    """Store the run, its evidence, cases and recommendations, unless the like run is there.

    What is to be told of the recommendations commits with them.
    """
    run = answer.run
    stored = "SELECT count(*) FROM lake.runs WHERE run_id = $id"
    if lake.value(stored, id=run.id):
        return
    with lake.writing(on_wait):
        if lake.value(stored, id=run.id):
            return
        replays.keep(lake)
        # The newest review of a window says what is suspicious in it.
        lake.execute(
            "DELETE FROM lake.flagged_visits WHERE window_start = $start AND window_end = $end",
            start=answer.window.start,
            end=answer.window.end,
        )
        lake.execute(
            "INSERT INTO lake.flagged_visits SELECT $id, $start, $end, key_id, day, prefix "
            "FROM case_visits WHERE suspicious ORDER BY key_id, day, prefix",
            id=run.id,
            start=answer.window.start,
            end=answer.window.end,
        )
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
        lake.execute(
            "INSERT INTO lake.evidence SELECT $id, key_id, day, prefix, detector, family, bits, "
            "typical, actual, explanation FROM evidence WHERE bits > 0 ORDER BY ALL",
            id=run.id,
        )
        lake.execute(
            "INSERT INTO lake.cases SELECT $id, key_id, action, bits, p_value, q_value "
            "FROM scored_cases ORDER BY bits DESC, key_id",
            id=run.id,
        )
        alerted = answer.alerted()
        lake.execute(
            "INSERT INTO lake.recommendations SELECT $id, unnest($key_ids::VARCHAR[]), "
            "unnest($actions::VARCHAR[]), unnest($documents::VARCHAR[])",
            id=run.id,
            key_ids=[case.key_id for case in alerted],
            actions=[case.action for case in alerted],
            documents=[json.dumps(case_document(case)) for case in alerted],
        )
        changes = alerts.update(lake, answer, settings.deliver.grow_bits)
        deliver.tell(lake, changes, settings.deliver)


def power_of_keys(
    lake_folder: Path, window: Window | None, settings: Settings, key: str | None = None
) -> list[power.KeyPower]:
    """What would be caught at each key with a past, or at the one named, as of `window`.

    Raises:
        UsageError: there is no such key in use, or too little history to calibrate by.
    """
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        reviewed = window or last_full_week(lake)
        loaded, judge = _judging(lake, reviewed, settings)
        families = scoring.families_of(loaded, settings.scoring)
        replays = replay(lake, reviewed, settings, loaded, judge)
        calibration = replays.calibration(families, settings)
        if calibration is None:
            raise UsageError("too little history can be replayed to calibrate by")
        judge(reviewed)
        powers = power.power_of_keys(lake, reviewed, loaded, calibration, settings.scoring)
        key_ids = {
            key_id
            for (key_id,) in lake.rows(
                "SELECT key_id FROM keys WHERE $key IN (key_id, key, name)", key=key
            )
        }
    if key is None:
        return powers
    named = [power for power in powers if power.key_id in key_ids]
    if not named:
        raise UsageError(f"{key}: no key of that name is in use and has a past")
    return named


def give_verdict(
    lake_folder: Path,
    key: str,
    verdict: verdicts.Verdict,
    settings: Settings,
    *,
    by: str,
    because: str,
    until: date | None = None,
    window: Window | None = None,
    on_wait: OnText = _quiet,
) -> verdicts.VerdictReport:
    """Keep an analyst's verdict on a key's case (`keywatch.verdicts.give`)."""
    with (
        Lake.open(lake_folder, settings.storage, on_wait=on_wait) as lake,
        lake.writing(on_wait),
    ):
        report = verdicts.give(
            lake, key, verdict, by=by, because=because, until=until, window=window
        )
        deliver.tell(lake, alerts.judge(lake, report, by, because), settings.deliver)
        return report


def undo_verdict(
    lake_folder: Path,
    key: str,
    settings: Settings,
    *,
    by: str,
    because: str,
    window: Window | None = None,
    on_wait: OnText = _quiet,
) -> verdicts.VerdictReport:
    """Withdraw the newest verdict on a key's case (`keywatch.verdicts.undo`)."""
    with (
        Lake.open(lake_folder, settings.storage, on_wait=on_wait) as lake,
        lake.writing(on_wait),
    ):
        report = verdicts.undo(lake, key, by=by, because=because, window=window)
        deliver.tell(lake, alerts.withdraw(lake, report, by, because), settings.deliver)
        return report


def deliver_due(
    lake_folder: Path,
    settings: Settings,
    *,
    again: bool = False,
    report: Path | None = None,
    prefect_block: Callable[[str], str] | None = None,
    on_wait: OnText = _quiet,
) -> deliver.DeliveryReport:
    """Send what is due (`keywatch.deliver.deliver_due`), with `report` as a mail's attachment.

    `prefect_block` gives the value of a Prefect Secret block by its name.

    Raises:
        InputError: the report can't be read.
        LakeError: there is no lake, or it stayed busy; nothing is lost.
    """
    with Lake.open(lake_folder, settings.storage, on_wait=on_wait) as lake:
        if report is not None:
            deliver.put_report(lake, report, settings.deliver, on_wait)
        return deliver.deliver_due(
            lake,
            settings.deliver,
            again=again,
            wait_seconds=settings.storage.wait_seconds,
            prefect=prefect_block,
            on_wait=on_wait,
        )


def preview_deliveries(
    lake_folder: Path, settings: Settings, on_wait: OnText = _quiet
) -> dict[str, list[str]]:
    """The messages that are due, as text, by channel; nothing is sent or kept."""
    with Lake.open(lake_folder, settings.storage, on_wait=on_wait) as lake:
        planned = deliver.preview(lake, settings.deliver, on_wait)
    return {name: [deliver.as_text(one) for one in messages] for name, messages in planned.items()}


def find_case(answer: Review, key: str) -> Case | None:
    """The case of a key, by its id, its masked form or its name."""
    for case in answer.cases:
        if key in (case.key_id, case.key, case.name):
            return case
    return None


def explain_absence(lake_folder: Path, key: str, window: Window, settings: Settings) -> str:
    """What to say of a key without a case: ordinary, silent or unknown; never just nothing.

    Raises:
        UsageError: the lake has never heard of the key.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        key_id = lake.value(
            "SELECT key_id FROM lake.keys WHERE $key IN (key_id, key, name) UNION ALL "
            "SELECT key_id FROM lake.activity WHERE key_id = $key LIMIT 1",
            key=key,
        )
        if key_id is None:
            raise UsageError(f"no key {key!r} in the lake; give its key_id, masked form or name")
        events, last = lake.rows(
            "SELECT coalesce(sum(events) FILTER (day >= $start AND day < $end), 0)::BIGINT, "
            "max(last_ts) FROM lake.activity WHERE key_id = $key_id",
            key_id=key_id,
            start=window.start.date(),
            end=window.end.date(),
        )[0]
    span = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    if events:
        return f"{key_id}: {events:,} requests from {span}, nothing out of the ordinary."
    seen = f"last seen {last:%Y-%m-%d %H:%M} UTC" if last else "never seen"
    return f"{key_id}: not used from {span} ({seen}); there is nothing to judge."


@dataclass(frozen=True)
class Diagnosis:
    """One thing `diagnose` looked at; `exit_code` is not 0 when it stands in the way."""

    text: str
    note: bool = False
    exit_code: int = 0


_OLD_GEOIP_DAYS = 90


def diagnose(lake_folder: Path, settings: Settings) -> list[Diagnosis]:
    """Settings, the lake, the GeoIP databases' age, the detectors and the channels."""
    parts: tuple[Callable[[], list[Diagnosis]], ...] = (
        lambda: [Diagnosis(f"settings {settings.config_hash}")],
        lambda: [_lake_diagnosis(lake_folder, settings)],
        lambda: [_database_diagnosis(each) for each in geoip_databases(settings.geoip)],
        lambda: [Diagnosis(f"{len(detectors.load_detectors())} detectors")],
        lambda: _channel_diagnoses(lake_folder, settings),
    )
    found: list[Diagnosis] = []
    for part in parts:
        try:
            found += part()
        except KeywatchError as e:
            found.append(Diagnosis(str(e), exit_code=e.exit_code))
    return found


def _lake_diagnosis(folder: Path, settings: Settings) -> Diagnosis:
    with Lake.open(folder, settings.storage) as lake:
        files, events, last, rejects, keys = lake.rows(
            "SELECT (SELECT count(*) FROM lake.ingested_files), "
            "(SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity), "
            "(SELECT max(last_ts) FROM lake.activity), "
            "(SELECT count(*) FROM lake.rejects), "
            "(SELECT count(DISTINCT key_id) FROM lake.keys)"
        )[0]
        until = f" until {last:%Y-%m-%d %H:%M} UTC" if last else ""
        return Diagnosis(
            f"lake {folder}: DuckDB {duckdb_version()}, snapshot {lake.snapshot}, {files:,} files, "
            f"{events:,} events{until}, {rejects:,} rejected lines, {keys:,} keys in the inventory"
        )


def _database_diagnosis(database: DatabaseInfo) -> Diagnosis:
    days = (utc_now().date() - database.built_on).days
    text = f"{database.name} of {database.built_on}, {days} days old"
    if days <= _OLD_GEOIP_DAYS:
        return Diagnosis(text)
    mend = "update Keywatch, or name newer files in [geoip] of keywatch.toml"
    return Diagnosis(f"{text}: {mend}", note=True)


def _channel_diagnoses(folder: Path, settings: Settings) -> list[Diagnosis]:
    """Each channel: whether it could be used, and how its outbox is; nothing is sent."""
    standings = [deliver.Standing(name) for name in settings.deliver.channels]
    # What is wrong with the lake stands in its own line.
    with suppress(LakeError), Lake.open(folder, settings.storage) as lake:
        standings = deliver.standings(lake, settings.deliver.channels)
    unusable = deliver.unusable_channels(settings.deliver)
    found = []
    for standing in standings:
        channel = settings.deliver.channels.get(standing.channel)
        kind = channel.kind if channel else "no longer in the settings"
        text = f"channel {standing.channel} ({kind}): {deliver.describe(standing)}"
        if why := unusable.get(standing.channel):
            found.append(Diagnosis(f"{text}; {why}", exit_code=SecretError.exit_code))
        else:
            found.append(Diagnosis(text, note=standing.dead > 0 or channel is None))
    return found
