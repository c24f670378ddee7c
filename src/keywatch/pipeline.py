"""What the commands and flows do, as plain functions: load, import, review, watch, deliver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keywatch import deliver, engine
from keywatch.detect import detectors, power, scoring
from keywatch.detect.proxies import proxy_addresses, proxy_sentence
from keywatch.detect.replay import windows_before
from keywatch.detect.scored_window import ScoredWindow, score_window
from keywatch.errors import InputError, LakeBusyError, UsageError
from keywatch.lake import Lake, catalogue_file, utc_now
from keywatch.lake.weeks import last_full_week, without_events
from keywatch.load import late
from keywatch.model import (
    Case,
    HealthFinding,
    KeyOrder,
    OwnerAnswer,
    Rehearsal,
    RehearsedAlert,
    Response,
    Review,
    Verdict,
    Window,
)
from keywatch.notices import notice, steps_of
from keywatch.operate import health
from keywatch.operate import maintain as upkeep
from keywatch.review import (
    alerts,
    history,
    key_list,
    making,
    questions,
    response,
    stored,
    verdict_visits,
    verdicts,
)
from keywatch.review.alerts import Alert
from keywatch.review.history import Details
from keywatch.review.least_privilege import LeastPrivilege, least_privilege
from keywatch.review.rescoring import LastScoring
from keywatch.review.response import NoteKind
from keywatch.review.stored import ToldReview
from keywatch.review.watch import Watched, remember_run
from keywatch.review.watch import watch as watch_lake
from keywatch.settings import GeoIPSettings, LakeSettings, Settings
from keywatch.text.phrases import count, iso_week
from keywatch.vendors import catalogue_by_source

if TYPE_CHECKING:
    import pyarrow as pa

    from keywatch.load.ingest import LoadReport
    from keywatch.load.leaks import LeakReport
    from keywatch.load.origins import GeoIPPaths
    from keywatch.operate.lake_status import LakeStatus
    from keywatch.operate.move import Moved
    from keywatch.operate.repair import RepairReport
    from keywatch.operate.rollups import Rebuilt
    from keywatch.vendors import LogFile
    from keywatch.vendors.openapi import ApiDocument, Imported
    from keywatch.vendors.proposal import Proposal

T = TypeVar("T")
_MOST_DAYS = 36_500


def _quiet(*_: object) -> None:
    return


def ingest(
    lake_folder: Path,
    paths: list[str],
    settings: Settings,
    *,
    source: str | None = None,
    mapping: Sequence[str] = (),
    on_size: Callable[[int], None] = _quiet,
    on_bytes: Callable[[int], None] = _quiet,
) -> LoadReport:
    """Load the logs under `paths` into the lake, which is made where there is none.

    What is found in a folder and is no log is left out. `source` names their format, or `mapping`
    (``column=field``) tells it for this load. `on_size` hears how many stored bytes there
    are, `on_bytes` of each part that was read. The settings' engine reads the lines.

    Raises:
        UsageError, InputError, LakeError, GeoIPError, EngineError: nothing was loaded.
    """
    # Arrow, numpy and GeoIP readers (an HTTP client) take a second: a review need not wait for it.
    from keywatch.load.ingest import load_files
    from keywatch.load.origins import OriginReader
    from keywatch.vendors import find_files, mapped_source

    if source and mapping:
        raise UsageError("--source and --map both tell the format; give one of them")
    format_said = mapped_source(mapping) if mapping else source
    files = find_files(paths)
    on_size(sum(file.size_bytes for file in files))
    with (
        OriginReader(geoip_paths(settings.geoip)) as reader,
        Lake.open(lake_folder, _for_loads(settings.storage), create=True) as lake,
        engine.opened_when_asked(settings.engine) as cluster,
    ):
        report = load_files(
            lake, files, settings.ingest, reader, format_said, on_bytes, engine=cluster
        )
        _publish(lake, settings, utc_now())
    if len(report.left_out) == len(report.files):
        raise InputError(
            "no log there; "
            + "; ".join(
                f"{file.path}: {file.left_out}" for file in report.left_out[:_MOST_FILES_NAMED]
            )
        )
    return report


_MOST_FILES_NAMED = 5


def _for_loads(storage: LakeSettings) -> LakeSettings:
    """Settings with which a load stores: on one core, unless the user said another number.

    It reads lines on another core meanwhile, and to share one insert costs more than it saves.
    """
    return storage.model_copy(update={"threads": storage.threads or 1})


def new_source(
    sample: str, settings: Settings, vendor: str, output: Path
) -> tuple[Proposal, Path, list[str]]:
    """Propose how a log of no known format is read, write it as ``vendors/NAME``, and check it.

    Returns the proposal, the vendor's folder, and what is wrong with it, a sentence each.

    Raises:
        UsageError: the vendor has that name already, or its folder can't be written.
        InputError: the sample can't be read, is known already or has too few fields that are known.
    """
    from keywatch.text.secrets import Redactor
    from keywatch.vendors import find_files
    from keywatch.vendors.proposal import proposed, write_proposal

    file, *others = find_files([sample])
    if others:
        raise UsageError(f"{sample}: holds {1 + len(others)} files; name one as the sample")
    # What is replaced can't be found again: the sample's lines are kept in a file that is shared.
    redactor = Redactor(os.urandom(32))
    proposal = proposed(file, vendor, redactor, settings.ingest.time_zone)
    home = write_proposal(proposal, output)
    return proposal, home, _faults_of_written(home)


def _faults_of_written(home: Path) -> list[str]:
    """What is wrong with a vendor's folder that was just written, known to the process from now."""
    from keywatch.vendors.checking import check_vendor, folders_named
    from keywatch.vendors.registry import read_again

    folders_named([home])
    read_again()
    return check_vendor(home.resolve())


def import_openapi(
    document: Path, vendor: str, output: Path
) -> tuple[ApiDocument, Imported, list[str]]:
    """Make or extend a vendor's catalogue from the OpenAPI document of its API, and check it.

    Returns what was read, what was written, and what is wrong with it, a sentence each.

    Raises:
        UsageError: no name can be made of the API's title, or it is taken, or can't be written.
        InputError: the document can't be read.
    """
    from keywatch.vendors.openapi import read_openapi, vendor_name, write_catalogue

    read = read_openapi(document)
    if not (name := vendor or vendor_name(read)):
        raise UsageError(f"{document}: has no title to name the vendor by; name it with --vendor")
    done = write_catalogue(read, name, output)
    return read, done, _faults_of_written(done.home)


def ingest_new(
    lake_folder: Path,
    settings: Settings,
    places: Sequence[str] = (),
    *,
    publish: bool = True,
) -> LoadReport | None:
    """Load what is new under `places`, or under the settings' own; None where nothing is.

    A file counts as known where its path and size are as when it was loaded and it has not been
    written since: so a place with years of logs is not read again every few minutes. One that was
    left out is tried again when it has changed, and reported each time. Without `publish` figures
    and heartbeat are left to the run of the feed that follows. The settings' engine reads lines.

    Raises:
        UsageError: no place is named anywhere.
        InputError, LakeError, GeoIPError, EngineError: nothing was loaded.
    """
    from keywatch.load.ingest import LoadReport, left_out_before, load_files
    from keywatch.load.origins import OriginReader
    from keywatch.text.secrets import Redactor

    found = _files_of(settings, places)
    with Lake.open(lake_folder, _for_loads(settings.storage), create=True) as lake:
        known = {
            (path, size): (loaded_at, waits_until)
            for path, size, loaded_at, waits_until in lake.rows(
                "SELECT path, size_bytes, max(loaded_at), arg_max(waits_until, loaded_at) "
                "FROM lake.ingested_files GROUP BY ALL"
            )
        }
        redact = Redactor(lake.secret).redact
        now = utc_now()
        left_out = left_out_before(lake, found, settings.ingest)
        new = []
        for file in found:
            # A secret in a path is stored as its hash.
            state = redact(file.path), file.size_bytes
            loaded_at, waits_until = known.get(state, (None, None))
            changed = loaded_at is None or not file.modified_at or file.modified_at >= loaded_at
            if (changed and file.path not in left_out) or (waits_until and waits_until <= now):
                new.append(file)
        if not new:
            if publish:
                _publish(lake, settings, now)
            return LoadReport(tuple(left_out.values()), (), 0) if left_out else None
        with (
            OriginReader(geoip_paths(settings.geoip)) as reader,
            engine.opened_when_asked(settings.engine) as cluster,
        ):
            report = load_files(lake, new, settings.ingest, reader, engine=cluster)
        if publish:
            _publish(lake, settings, now)
        return replace(report, files=(*report.files, *left_out.values()))


def _publish(
    lake: Lake,
    settings: Settings,
    now: datetime,
    found: Sequence[HealthFinding] | None = None,
) -> None:
    """Write the figures and put the heartbeat into the outbox, where the settings ask for them.

    Neither ends a run whose work is done: what is in the way is told, and the next run tries again.
    """
    beat = not lake.read_only and deliver.heartbeat_is_due(lake, settings.deliver, now)
    if settings.metrics.file is None and not beat:
        return
    from keywatch.operate.metrics import write_metrics

    if found is None:
        found = health.findings(lake, settings, now)
    try:
        if beat:
            with lake.writing():
                deliver.enqueue_heartbeat(lake, settings.deliver, found, now)
        write_metrics(lake, settings, found, now)
    except LakeBusyError as e:
        notice(f"{e}; the heartbeat waits for the next run")
    except UsageError as e:
        notice(f"{e}; see [metrics] file")


def _files_of(settings: Settings, places: Sequence[str]) -> list[LogFile]:
    """The files under `places`, or under the settings' own."""
    from keywatch.vendors import find_files

    named = list(places or settings.ingest.places)
    if not named:
        raise UsageError("no PATH given: name one, or set places under [ingest] in keywatch.toml")
    # A folder that is still empty is no mistake here.
    filled = [place for place in named if not (Path(place).is_dir() and not _has_file(place))]
    return find_files(filled, named=bool(places))


def _has_file(folder: str) -> bool:
    files = (each for each in Path(folder).rglob("*") if each.is_file())
    return any(not each.name.startswith(".") for each in files)


def export_events(
    lake_folder: Path,
    settings: Settings,
    output: Path | None = None,
    *,
    key: str | None = None,
    window: Window | None = None,
) -> int:
    """Write events as OCSF API Activity, to standard output by default; returns how many.

    `key` is the id, masked form or name of a key, by default all of them; `window` all of the lake.

    Raises:
        UsageError: the lake has never heard of the key, or the file can't be written.
    """
    from keywatch.report.ocsf_events import write_events
    from keywatch.report.output import lines_to

    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        key_ids = None if key is None else verdict_visits.key_ids(lake, key)
        with lines_to(output) as out:
            return write_events(lake, out, window, key_ids)


def theft_indicators(lake_folder: Path, settings: Settings) -> dict[str, Any]:
    """The addresses of confirmed thefts as a STIX bundle."""
    from keywatch.report.stix import stix_bundle, theft_addresses

    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        return stix_bundle(lake.value("SELECT id FROM lake.identity"), theft_addresses(lake))


def import_keys(
    lake_folder: Path, file: Path, settings: Settings, mapping: Sequence[str] = ()
) -> tuple[int, int]:
    """Import a key inventory; returns the keys read and how many are new or changed.

    `mapping` (``column=field``) tells its form where its content does not.
    """
    from keywatch.load import inventory

    with Lake.open(lake_folder, settings.storage, create=True) as lake:
        return inventory.import_keys(lake, file, mapping)


def import_leaks(
    lake_folder: Path, file: Path, settings: Settings, mapping: Sequence[str] = ()
) -> LeakReport:
    """Import a secret scanner's report of leaked keys; `mapping` as of `import_keys`."""
    from keywatch.load import leaks

    with Lake.open(lake_folder, settings.storage, create=True) as lake:
        return leaks.import_leaks(lake, file, mapping)


def list_keys(lake_folder: Path, settings: Settings, sort: KeyOrder) -> list[key_list.ListedKey]:
    """Every key that the inventory or the log knows, with its use and its state."""
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        return key_list.list_keys(lake, settings, sort)


def repair_lake(lake_folder: Path, settings: Settings, *, new_secret: bool = False) -> RepairReport:
    """Mend a damaged lake (`keywatch.operate.repair.repair`).

    Raises:
        LakeError: there is no lake, somebody else writes, or it can't be written.
    """
    from keywatch.load.origins import OriginReader
    from keywatch.operate.repair import repair

    with OriginReader(geoip_paths(settings.geoip)) as reader:
        return repair(lake_folder, settings.storage, reader, utc_now(), new_secret=new_secret)


def geoip_paths(settings: GeoIPSettings) -> GeoIPPaths:
    """The user's databases, as the settings name them."""
    from keywatch.load.origins import GeoIPPaths

    return GeoIPPaths(**settings.model_dump())


def review(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    *,
    keep: bool = True,
    whole: bool = True,
    now: datetime | None = None,
) -> Review:
    """Score every key of `window` and, with `keep`, store the answer in the lake.

    Without a window: the last ISO week that is over, as of the lake's last event. The same window
    on the same lake with the same settings is the same run, and is stored once. Without `whole`,
    cases that need no action are told in brief (`recommend.build_cases`), which is much faster.
    `now` is the clock that the lake's health goes by (naive, UTC).

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    return _review(
        lake_folder,
        window,
        settings,
        _quiet,
        keep=keep,
        whole=whole,
        now=now or utc_now(),
    )[0]


def review_in_detail(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    *,
    keep: bool = True,
    now: datetime | None = None,
) -> tuple[Review, Details]:
    """`review`, and what the HTML report shows beside it, of the same snapshot.

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    baseline_days = settings.review.baseline_days

    def look(lake: Lake, told: ToldReview) -> Details:
        return history.details(lake, told.review, baseline_days, told.suspicious)

    return _review(
        lake_folder,
        window,
        settings,
        look,
        keep=keep,
        whole=False,
        now=now or utc_now(),
    )


def write_report(lake_folder: Path, window: Window, settings: Settings) -> tuple[Review, Path]:
    """Review `window`, store the answer, and write its page into the settings' folder.

    The page of a week is named for it (``2026-W40.html``) and is written whole or not at all.

    Raises:
        LakeError: there is no lake, or it stayed busy.
        UsageError: the page can't be written.
    """
    from keywatch.report.html import render_html
    from keywatch.report.output import write_whole

    answer, details = review_in_detail(lake_folder, window, settings)
    name = iso_week(window) or f"{window.start:%Y-%m-%d}--{window.end:%Y-%m-%d}"
    file = settings.report.folder / f"{name}.html"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise UsageError(f"{file}: can't be written ({e.strerror})") from e
    write_whole(file, render_html(answer, details))
    return answer, file


def case_in_detail(
    lake_folder: Path, key: str, window: Window | None, settings: Settings
) -> tuple[Review, Case | None, Details | None]:
    """The review less other keys, the case of this key and its history; None where it has no case.

    It is of the stored review of the window, else the window is scored for it. Nothing is stored.

    Raises:
        UsageError: the lake has never heard of the key, or several keys are called so.
        LakeError: there is no lake, or it stayed busy.
    """
    days = settings.review.baseline_days
    with Lake.open(lake_folder, settings.storage) as lake:
        key_id = verdict_visits.key_id_of(lake, key)
        with lake.reading():
            asked = window or last_full_week(lake)
            state = stored.state_of(lake, asked, settings)
            names = (key_id, key)
            told = stored.find(lake, state, settings, of_keys=names)
            if told is None:
                made = making.make_review(lake, asked, settings, whole=False)
                told = ToldReview.of(lake, *made)
            told = replace(told, review=questions.with_answers(lake, told.review))
            _note_no_events(lake, told.review)
            cases = (find_case(told.review, each) for each in names)
            brief = next((case for case in cases if case is not None), None)
            if brief is None:
                return replace(told.review, cases=()), None, None
            past = history.details_of_case(lake, told.review, days, told.suspicious, brief)
            found = told.in_full(lake, brief, days)
            return replace(told.review, cases=(found,)), found, replace(past, cases=(found,))


def _review(
    lake_folder: Path,
    window: Window | None,
    settings: Settings,
    look: Callable[[Lake, ToldReview], T],
    *,
    keep: bool,
    whole: bool,
    now: datetime,
) -> tuple[Review, T]:
    """The review, and what `look` reads in its snapshot.

    It is read from the lake where it is stored, else made. It says how the lake is as of `now`,
    once the review itself is kept. Of several who ask for it at once, one makes it.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        asked = window or last_full_week(lake)
        with _turn(lake, asked) if keep else nullcontext():
            with lake.reading():
                state = stored.state_of(lake, asked, settings)
                told = stored.find(lake, state, settings, same_load=keep, whole=whole)
                scored = None
                if told is None:
                    answer, scored = _make_review(lake, asked, settings, whole=whole)
                    told = ToldReview.of(lake, answer, scored)
                told = replace(told, review=questions.with_answers(lake, told.review))
                queued = late.waiting(lake, asked, settings.review.late_weeks)
                seen = look(lake, told)
            if keep and lake.read_only:
                notice(f"{lake_folder} is read-only: this review is neither stored nor sent")
            elif keep:
                outbox = deliver.Outbox.of(settings)
                making.keep(lake, told.review, scored, settings, outbox, queued, state)
        _note_no_events(lake, told.review)
        with lake.reading_briefly():
            found = health.findings(lake, settings, now)
            answered = response.response(lake, now)
        if keep:
            _publish(lake, settings, now, found)
        return replace(told.review, health=found, response=answered), seen


def _note_no_events(lake: Lake, answer: Review) -> None:
    """Say which weeks the lake has, where it has nothing of the one that was asked for."""
    if not answer.coverage.events and (told := without_events(lake, [answer.window])):
        notice(told)


def _make_review(
    lake: Lake, window: Window, settings: Settings, *, whole: bool
) -> tuple[Review, ScoredWindow]:
    """The review of `window` by the settings' engine; writes temporary tables only.

    Raises:
        EngineError: the cluster can't be reached, or was lost.
    """
    with engine.opened(settings.engine) as cluster:
        if cluster is None:
            return making.make_review(lake, window, settings, whole=whole)
        from keywatch.review import bucket_review

        return bucket_review.make_review(cluster, lake, window, settings, whole=whole)


def _turn(lake: Lake, window: Window) -> AbstractContextManager[None]:
    """The turn of whoever reviews `window`; other windows are reviewed meanwhile."""
    days = iso_week(window) or f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    return lake.turn(f"review {window.start} {window.end}", f"reviewing {days}")


_REPLAYED_DAYS = 7


def rehearse(
    lake_folder: Path,
    span: Window,
    settings: Settings,
    against: Settings | None = None,
    others: Sequence[detectors.Detector] = (),
) -> Rehearsal:
    """What weekly reviews of `span` would have alerted, and by other settings or detectors.

    `against` are the other settings, `others` detectors that are added, or take the place of those
    of their ids, and count as if they were stable. Each week is reviewed with what the lake holds
    today, the same for both sides; nothing is stored.

    Raises:
        UsageError: the span is not a number of whole weeks.
        DetectorError: the query of a detector fails.
    """
    week = timedelta(days=_REPLAYED_DAYS)
    if (span.end - span.start) % week:
        raise UsageError("--from and --to must be a number of whole weeks apart")
    starts = [span.start + nth * week for nth in range((span.end - span.start) // week)]
    windows = tuple(Window(start, start + week) for start in starts)
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        if told := without_events(lake, windows):
            notice(told)
        then = against or settings
        known = detectors.load_detectors(then.content.folders)
        this = _Side(settings, detectors.load_detectors(settings.content.folders))
        other = _Side(then, detectors.with_others(known, others))
        is_compared = against is not None or bool(others)
        for nth, window in enumerate(windows, start=1):
            with steps_of(f"Week {nth} of {len(windows)}"):
                scored = this.review(lake, window)
                if is_compared:
                    other.review_after(this, scored, lake)
        if not is_compared:
            return Rehearsal(windows, tuple(this.alerts))
        ids = {each.id for each in known}
        return Rehearsal(
            windows,
            tuple(this.alerts),
            tuple(other.alerts),
            other_settings=against is not None,
            added=tuple(sorted(each.id for each in others if each.id not in ids)),
            replaced=tuple(sorted(each.id for each in others if each.id in ids)),
        )


class _Side:
    """Weekly reviews by some settings and detectors, and what they would have alerted."""

    def __init__(self, settings: Settings, loaded: Sequence[detectors.Detector]) -> None:
        self.settings = settings.without_power()
        self.loaded = loaded
        self.evidence_of: dict[Window, scoring.WindowEvidence] = {}
        self.alerts: list[RehearsedAlert] = []

    def review(self, lake: Lake, window: Window) -> ScoredWindow:
        """Review a week."""
        answer, scored = making.make_review(
            lake,
            window,
            self.settings,
            whole=False,
            evidence_of=self.evidence_of,
            loaded=self.loaded,
        )
        self._add(answer)
        return scored

    def review_after(self, other: _Side, scored: ScoredWindow, lake: Lake) -> None:
        """Review the week that `other` has just `scored`, by what it found where that is the same.

        The detectors take most of the time.
        """
        if not self._hears_as(other, lake, scored.window):
            self.review(lake, scored.window)
            return
        self.evidence_of = other.evidence_of
        self._add(making.review_again(lake, scored, self.settings, self.evidence_of))

    def _add(self, answer: Review) -> None:
        self.alerts += [
            # What the settings make of the log, whatever was found out about it since.
            RehearsedAlert(
                answer.window, case.key_id, case.name, case.as_scored, case.bits, case.summary
            )
            for case in answer.cases
            if case.as_scored != "none"
        ]

    def _hears_as(self, other: _Side, lake: Lake, window: Window) -> bool:
        """Whether the detectors say the same to both, of the window and of all its replays."""
        return (
            self.loaded == other.loaded
            and self.settings.review.baseline_days == other.settings.review.baseline_days
            and {*windows_before(lake, window, self.settings)}
            <= {*windows_before(lake, window, other.settings)}
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
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        days = settings.review.baseline_days
        detectors.prepare(lake, window, days, catalogue_by_source(), only=detector)
        detectors.run(lake, detector, window)
        return lake.table(
            "SELECT key_id, day, prefix, bits, typical, actual, explanation FROM evidence "
            "ORDER BY bits DESC, key_id, day, prefix"
        )


def least_privilege_of(
    lake_folder: Path, key: str, days: int, settings: Settings
) -> LeastPrivilege:
    """What a key needs, by the owner's use of the last `days` days of the log.

    Raises:
        UsageError: the lake has never heard of the key, several keys are called so, or the key was
            not used then.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"--days {days}: a number from 1 to {_MOST_DAYS:,} is expected")
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        return least_privilege(lake, verdict_visits.key_id_of(lake, key), days)


def navigator_layer_of(lake_folder: Path, settings: Settings) -> dict[str, Any]:
    """What the detectors cover of ATT&CK, scored by the cases of the lake, if there is one.

    Raises:
        LakeError: the lake can't be read.
    """
    from keywatch.report.navigator import cases_by_detector, navigator_layer

    cases = {}
    if lake_folder.exists():
        with Lake.open(lake_folder, settings.storage) as lake:
            cases = cases_by_detector(lake)
    else:
        notice(f"{lake_folder}: no lake found there, so all scores are 0")
    return navigator_layer(detectors.load_detectors(settings.content.folders), cases)


def power_of_keys(
    lake_folder: Path, window: Window | None, settings: Settings, key: str | None = None
) -> list[power.KeyPower]:
    """What would be caught at each key with a past, or at the one named, as of `window`.

    Raises:
        UsageError: there is no such key in use, too little history to calibrate by, or the log has
            no clients' addresses.
    """
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        reviewed = window or last_full_week(lake)
        days = reviewed.start.date(), reviewed.end.date()
        if proxies := proxy_addresses(lake, *days):
            raise UsageError(proxy_sentence(proxies))
        scored = score_window(lake, reviewed, settings, whole=False)
        calibration = scored.replayed.calibration
        if calibration is None:
            raise UsageError("too little history to replay for calibration")
        powers = power.power_of_keys(
            power.inject(lake, reviewed, scored.detectors),
            scored.window_evidence.keys,
            calibration,
            settings.scoring,
        )
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
        raise UsageError(f"{key}: no such key is in use and has history")
    return named


def give_verdict(
    lake_folder: Path,
    key: str,
    verdict: Verdict,
    settings: Settings,
    *,
    by: str,
    because: str,
    until: date | None = None,
    window: Window | None = None,
    origins: Iterable[str] = (),
    families: Iterable[str] = (),
) -> verdicts.VerdictReport:
    """Keep an analyst's verdict on a key's case (`verdicts.give`), and tell of it."""
    with (
        Lake.open(lake_folder, settings.storage) as lake,
        lake.writing(),
    ):
        report = verdicts.give(
            lake, key, verdict, by=by, because=because, until=until, window=window,
            origins=origins, families=families,
        )  # fmt: skip
        changes = alerts.after_verdict(lake, report, by, because, settings.review)
        deliver.Outbox.of(settings).tell(lake, changes)
        return replace(report, alert=changes[0].what if changes else "")


def undo_verdict(
    lake_folder: Path,
    key: str,
    settings: Settings,
    *,
    by: str,
    because: str,
    window: Window | None = None,
) -> verdicts.VerdictReport:
    """Withdraw the newest verdict on a key's case (`keywatch.review.verdicts.undo`)."""
    with (
        Lake.open(lake_folder, settings.storage) as lake,
        lake.writing(),
    ):
        report = verdicts.undo(lake, key, by=by, because=because, window=window)
        changes = alerts.withdraw(lake, report, by, because)
        deliver.Outbox.of(settings).tell(lake, changes)
        return replace(report, alert=changes[0].what if changes else "")


@dataclass(frozen=True)
class OwnersQuestion:
    """A question as its owner reads it; `answered` says how it was answered, if it was."""

    question: questions.Question
    message: deliver.Message
    answered: str = ""


def read_question(lake_folder: Path, code: str, settings: Settings) -> OwnersQuestion:
    """The question that a code answers (`keywatch.deliver.codes`).

    Raises:
        UsageError: the code is not valid or has expired, or the question is not stored any more.
        LakeError: there is no lake, or it can't be read.
    """
    with Lake.open(lake_folder, settings.storage) as lake, lake.reading():
        question = _question_of(lake, code)
        alert = alerts.find(lake, question.alert_id)
        if alert is None:
            raise UsageError(_NO_QUESTION)
        answered = ""
        try:
            questions.check_open(lake, question)
        except UsageError as e:
            answered = str(e)
        return OwnersQuestion(question, deliver.question_message(question, alert), answered)


def answer_question(
    lake_folder: Path,
    code: str,
    said: OwnerAnswer,
    settings: Settings,
    *,
    way: questions.Way,
    until: date | None = None,
    by: str | None = None,
) -> questions.Answered:
    """Keep an owner's answer to a question, give its verdict, and notify the channels.

    Raises:
        UsageError: as `read_question` and `keywatch.review.questions.answer` say.
        LakeError: there is no lake, or it stayed busy; nothing was kept.
    """
    outbox = deliver.Outbox.of(settings)
    with Lake.open(lake_folder, settings.storage) as lake:
        question = _question_of(lake, code)
        with lake.writing():
            return questions.answer(
                lake, question, said, partial(outbox.tell, lake), way=way, until=until, by=by,
                settings=settings.review,
            )  # fmt: skip


_NO_QUESTION = "this question is not stored any more; contact the security team"


def _question_of(lake: Lake, code: str) -> questions.Question:
    question_id = deliver.Codes.of(lake).question_id(code, utc_now())
    question = questions.find(lake, question_id)
    if question is None:
        raise UsageError(_NO_QUESTION)
    return question


def deliver_due(
    lake_folder: Path,
    settings: Settings,
    *,
    again: bool = False,
    reports: Sequence[Path] = (),
    prefect_block: Callable[[str], str] | None = None,
) -> deliver.DeliveryReport:
    """Send what is due (`keywatch.deliver.deliver_due`), with `reports` as attachments of mails.

    `prefect_block` gives the value of a Prefect Secret block by its name.

    Raises:
        InputError: a report can't be read.
        LakeError: there is no lake, or it stayed busy; nothing is lost.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        for report in reports:
            deliver.put_report(lake, report, settings.deliver)
        return deliver.deliver_due(
            lake,
            settings.deliver,
            settings.owners,
            again=again,
            wait_seconds=settings.storage.wait_seconds,
            prefect=prefect_block,
        )


def alert_response(lake_folder: Path, settings: Settings, now: datetime | None = None) -> Response:
    """The alerts that are not closed, and how fast and how rightly alerts are answered.

    Raises:
        LakeError: there is no lake.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        return response.response(lake, now or utc_now())


def note_alert(
    lake_folder: Path, named: str, settings: Settings, kind: NoteKind, text: str, *, by: str
) -> Alert:
    """Store an assignment or a comment of an open alert, which is named by its id or a key of it.

    Raises:
        UsageError: there is no such alert, or nobody or nothing is named.
        LakeError: there is no lake, or it stayed busy.
    """
    with Lake.open(lake_folder, settings.storage) as lake, lake.writing():
        alert = response.find_open(lake, named)
        response.add_note(lake, alert, kind, text, by)
        return alert


def decide_revocation(
    lake_folder: Path, named: str, settings: Settings, *, approved: bool, by: str, because: str
) -> list[str]:
    """`settle_revoke` of an open alert to revoke, which is named by its id or a key of it.

    Raises:
        UsageError: there is no such alert, or several keys are called so, or nobody or nothing is
            named.
        LakeError: there is no lake, or it stayed busy.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        alert = response.find_open(lake, named, "revoke")
        if named != alert.alert_id:
            key_ids = verdict_visits.key_ids(lake, named)
            if not set(key_ids) <= set(alert.key_ids):
                verdict_visits.the_one(named, key_ids)
    done = settle_revoke(
        lake_folder, alert.alert_id, settings, approved=approved, by=by, because=because
    )
    if approved and not settings.deliver.approved_channels:
        done.append("No channel receives approved revocations: set [deliver] approved_channels.")
    return done


def try_channel(lake_folder: Path, name: str, settings: Settings) -> str:
    """Send a test message to a channel now (`deliver.send_test`); returns what became of it.

    A lake is not needed. One that is there is claimed as for other messages.

    Raises:
        UsageError, SecretError, ChannelError: it was not sent, or did not arrive.
        LakeError: the lake stayed busy.
    """
    catalogue = catalogue_file(lake_folder, settings.storage)
    if catalogue is not None and not catalogue.exists():
        return deliver.send_test(None, name, settings.deliver)
    with Lake.open(lake_folder, settings.storage) as lake:
        wait = settings.storage.wait_seconds
        return deliver.send_test(lake, name, settings.deliver, wait_seconds=wait)


def revokes_to_approve(lake_folder: Path, settings: Settings) -> list[Alert]:
    """The alerts to revoke that an analyst has to approve first (`[deliver] approved_channels`)."""
    with Lake.open(lake_folder, settings.storage) as lake:
        return deliver.awaiting_approval(lake, settings.deliver)


def newest_change(lake_folder: Path, settings: Settings) -> int:
    """The sequence of the last change of an alert, for `changes_after`; 0 where there is none."""
    with Lake.open(lake_folder, settings.storage) as lake:
        return alerts.newest(lake)


def changes_after(lake_folder: Path, settings: Settings, sequence: int) -> list[alerts.Change]:
    """What became of alerts since the change of this sequence, in order."""
    with Lake.open(lake_folder, settings.storage) as lake:
        return alerts.changes_after(lake, sequence)


def settle_revoke(
    lake_folder: Path,
    alert_id: str,
    settings: Settings,
    *,
    approved: bool,
    by: str,
    because: str,
) -> list[str]:
    """An analyst's answer to an alert to revoke; returns what became of it, a line a key.

    Approved, it is due to the channels that waited for it. Declined, each key of it gets the
    verdict *benign*, which closes the alert.

    Raises:
        UsageError: there is no such alert, or nobody or nothing is named.
        LakeError: there is no lake, or it stayed busy.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        if approved:
            with lake.writing():
                changes = alerts.approve(lake, alert_id, by, because)
                deliver.Outbox.of(settings).tell(lake, changes)
            return [f"{change.alert.alert_id}: {change.alert.why}" for change in changes] or [
                f"{alert_id} is closed: nothing to approve"
            ]
        declined = [each for each in alerts.not_over(lake) if each.alert_id == alert_id]
        for alert in declined:
            for member in alert.members:
                if member.action != "none" and member.ended is None:
                    with lake.writing():
                        report = verdicts.give(
                            lake, member.key_id, "benign", by=by, because=because,
                            window=alert.window,
                        )  # fmt: skip
                        changes = alerts.after_verdict(lake, report, by, because)
                        deliver.Outbox.of(settings).tell(lake, changes)
        return [
            f"{member.key_id}: verdict benign, by {by}"
            for alert in declined
            for member in alert.members
        ] or [f"{alert_id} is closed: nothing to decline"]


def watch(
    lake_folder: Path,
    settings: Settings,
    now: datetime | None = None,
    last: LastScoring | None = None,
) -> Watched:
    """Score what came in since the last time (`keywatch.review.watch.watch`); nothing is sent yet.

    That it ran at `now` is kept, for the health to know whether the feed goes on. `last` is what
    the run before left in this process, and gets what this one leaves.

    Raises:
        LakeError: there is no lake, or it stayed busy; nothing is lost.
    """
    from keywatch.load.ingest import let_in_due

    with Lake.open(lake_folder, settings.storage) as lake:
        let_in_due(lake, settings.ingest)
        watched = watch_lake(lake, settings, deliver.Outbox.of(settings), last)
        upkeep.maintain_if_due(lake, settings.storage)
        try:
            remember_run(lake, now or utc_now())
        except OSError as e:
            notice(f"{lake_folder}: the time of this run can't be stored there ({e.strerror})")
        _publish(lake, settings, now or utc_now())
        return watched


def traces(
    lake_folder: Path, settings: Settings, places: Sequence[str] = ()
) -> list[tuple[str, int, object]]:
    """Paths, sizes and times of the logs and of the lake's catalogue, without opening the lake.

    Another answer than before means that a run of the feed may have something to do. `places` are
    as of `ingest_new`. Of a catalogue in PostgreSQL nothing shows.

    Raises:
        InputError: a place has no file, or can't be listed.
    """
    found: list[tuple[str, int, object]] = []
    if places or settings.ingest.places:
        files = _files_of(settings, places)
        found += [(file.path, file.size_bytes, file.modified_at) for file in files]
    if catalogue := catalogue_file(lake_folder, settings.storage):
        for file in (catalogue, catalogue.with_name(f"{catalogue.name}-wal")):
            with suppress(FileNotFoundError):
                seen = file.stat()
                found.append((str(file), seen.st_size, seen.st_mtime_ns))
    return found


def init_lake(lake_folder: Path, settings: Settings) -> tuple[LakeStatus, bool]:
    """Create the lake that the settings describe, or join it; returns its status, and if it's new.

    Raises:
        SecretError: this machine has another secret than the lake, or none of a shared one.
        LakeError: it can't be created or opened.
    """
    from keywatch.operate.lake_status import lake_status

    with Lake.open(lake_folder, settings.storage, create=True) as lake:
        _ = lake.secret
        return lake_status(lake, settings.storage), lake.is_new


def status_of_lake(lake_folder: Path, settings: Settings) -> LakeStatus:
    """Where the lake is, what it holds and what it needs (`keywatch.operate.lake_status`).

    Raises:
        LakeError: there is no lake, or it can't be read.
    """
    from keywatch.operate.lake_status import lake_status

    with Lake.open(lake_folder, settings.storage) as lake:
        return lake_status(lake, settings.storage)


def move_lake(
    lake_folder: Path, settings: Settings, new_folder: Path, new_settings: Settings
) -> Moved:
    """Copy a lake into a new one (`keywatch.operate.move.move`).

    Raises:
        LakeError: there is no lake, one is busy, or the new one is not empty.
        SecretError: this machine does not have the lake's secret, or the new settings name another.
    """
    from keywatch.operate.move import move

    return move(lake_folder, settings.storage, new_folder, new_settings.storage)


def maintain(lake_folder: Path, settings: Settings) -> upkeep.Maintained:
    """Keep the lake small and quick (`keywatch.operate.maintain.maintain`).

    Raises:
        LakeError: there is no lake, or it stayed busy.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        return upkeep.maintain(lake, settings.storage)


def rebuild(lake_folder: Path, settings: Settings) -> Rebuilt:
    """Roll up the events that are kept anew (`keywatch.operate.rollups.rebuild`).

    Raises:
        LakeError: there is no lake, or it stayed busy.
        GeoIPError: a database is missing or damaged.
    """
    from keywatch.load.origins import OriginReader
    from keywatch.operate.rollups import rebuild

    with (
        OriginReader(geoip_paths(settings.geoip)) as reader,
        Lake.open(lake_folder, settings.storage) as lake,
    ):
        return rebuild(lake, reader)


def forget(lake_folder: Path, named: str, settings: Settings) -> upkeep.Forgotten:
    """Erase a key or an address from the lake (`keywatch.operate.maintain.forget`).

    Raises:
        UsageError: the lake has never heard of it.
        LakeError: there is no lake, or it stayed busy.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        return upkeep.forget(lake, named)


def missed_weeks(
    lake_folder: Path, settings: Settings, now: datetime | None = None
) -> list[Window]:
    """The weeks that are over and have to be reviewed, the oldest first.

    Those since the last one that has a review (the last full week alone where none was ever
    reviewed), those that lines came late for, and those of which the feed has said more since.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        last = last_full_week(lake, now)
        reviewed = making.last_reviewed(lake, last)
        again = [each.window for each in late.queued(lake, settings.review.late_weeks, now)]
        again += _outdated(lake)
    week = last.end - last.start
    first = last.start if reviewed is None else reviewed + week
    weeks = (last.start - first) // week + 1
    missed = [Window(first + nth * week, first + (nth + 1) * week) for nth in range(max(weeks, 0))]
    over = {each for each in again if each.start <= last.start}
    return sorted(over.union(missed), key=lambda each: each.start)


def _outdated(lake: Lake) -> list[Window]:
    """Weeks that were reviewed, and that the feed has scored since with more of their log."""
    rows = lake.rows(
        """
        WITH newest AS (
            SELECT window_start, window_end, ends_with(run_id, $watch) AS is_feed,
                max(made_at) AS made_at, arg_max(reviewed, made_at) AS run_id
            FROM (SELECT *, replace(run_id, $watch, '') AS reviewed FROM lake.runs)
            GROUP BY ALL
        )

        SELECT f.window_start, f.window_end
        FROM newest AS f
        JOIN newest AS r USING (window_start, window_end)
        WHERE f.is_feed AND NOT r.is_feed AND f.made_at > r.made_at AND f.run_id <> r.run_id
            AND f.window_end - f.window_start = INTERVAL 7 DAY
        """,
        watch=making.WATCH,
    )
    return [Window(start, end) for start, end in rows]


def preview_deliveries(lake_folder: Path, settings: Settings) -> dict[str, list[str]]:
    """The messages that are due, as text, by channel; nothing is sent or kept."""
    with Lake.open(lake_folder, settings.storage) as lake:
        planned = deliver.preview(lake, settings.deliver, settings.owners)
    return {name: [deliver.as_text(one) for one in messages] for name, messages in planned.items()}


def find_case(answer: Review, key: str) -> Case | None:
    """The case of a key, by its id, else its masked form or its name."""
    named = [case for case in answer.cases if key in (case.key_id, case.key, case.name)]
    return next((case for case in named if case.key_id == key), named[0] if named else None)


def explain_absence(lake_folder: Path, key: str, window: Window, settings: Settings) -> str:
    """What to say of a key without a case: ordinary, silent or unknown; never just nothing.

    Raises:
        UsageError: the lake has never heard of the key, or several keys are called so.
    """
    with Lake.open(lake_folder, settings.storage) as lake:
        key_id = verdict_visits.key_id_of(lake, key)
        events, last = lake.rows(
            "SELECT coalesce(sum(events) FILTER (day >= $start AND day < $end), 0)::BIGINT, "
            "max(last_ts) FROM lake.activity WHERE key_id = $key_id",
            key_id=key_id,
            start=window.start.date(),
            end=window.end.date(),
        )[0]
        is_unknown = lake.value(
            "SELECT $key_id IN (FROM unknown_credentials_until($end))",
            key_id=key_id,
            end=window.end.date(),
        )
    span = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    if events and is_unknown:
        return (
            f"{key_id}: {count(events, 'request')} from {span}, all denied. No inventory has it "
            "and no request with it was ever accepted, so it is not assessed as a key."
        )
    if events:
        return f"{key_id}: {count(events, 'request')} from {span}, no unusual activity."
    seen = f"last seen {last:%Y-%m-%d %H:%M} UTC" if last else "never seen"
    return f"{key_id}: not used from {span} ({seen}), so there is nothing to assess."
