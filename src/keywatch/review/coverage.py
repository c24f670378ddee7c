"""What a review covers: how many keys it could assess, by what, and what it could not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pyarrow as pa

from keywatch.detect import power
from keywatch.detect.calibration import RANK_CASES
from keywatch.detect.power import Injected
from keywatch.detect.proxies import proxy_sentence
from keywatch.detect.replay import Replayed
from keywatch.detect.scored_window import ScoredWindow
from keywatch.lake import Lake
from keywatch.load import late
from keywatch.model import CalibrationSummary, Coverage, Power, Standing, Window
from keywatch.review import alerts, new_networks, verdicts
from keywatch.settings import Settings
from keywatch.text.phrases import count, iso_week, listed, named, sentence
from keywatch.text.safe_text import printable

_MOST_WEEKS = 8
_MOST_KEYS_NAMED = 5


def _calibration(replayed: Replayed) -> CalibrationSummary | None:
    if replayed.calibration is None:
        return None
    left_out = replayed.left_out
    return CalibrationSummary(
        windows=len(replayed.replays.replays),
        cases=replayed.calibration.total,
        nominal_rate=replayed.settings.scoring.false_revoke_rate,
        replayed_revokes=replayed.revokes,
        left_out=sum(map(len, left_out.thefts)),
        noisy_keys=len(left_out.noisy),
        outlying_windows=len(left_out.outlying),
        remaining_revokes=replayed.remaining_revokes,
    )


def _with_verdicts(lake: Lake, calibration: CalibrationSummary) -> CalibrationSummary:
    with_verdict, benign = verdicts.realised(lake)
    return replace(calibration, judged=with_verdict, judged_benign=benign)


@dataclass(frozen=True)
class Counted:
    """What of a coverage is counted in a window's tables.

    `unlocated` are the addresses of the window whose place is not known.
    """

    events: int
    unlocated: pa.Array
    keys_without_past: int

    @classmethod
    def of(cls, lake: Lake) -> Counted:
        """That of the temporary tables of `detectors.prepare_window`."""
        addresses = lake.table(
            "SELECT address FROM places SEMI JOIN window_activity USING (place_id) "
            "WHERE NOT located"
        )
        return cls(
            lake.value("SELECT coalesce(sum(events), 0)::BIGINT FROM window_activity"),
            addresses["address"].combine_chunks(),
            new_networks.keys_without_past(lake),
        )

    @classmethod
    def together(cls, parts: Sequence[Counted]) -> Counted:
        """That of all keys, of parts that have no key in common."""
        return cls(
            sum(each.events for each in parts),
            pa.chunked_array([each.unlocated for each in parts], pa.string()).unique(),
            sum(each.keys_without_past for each in parts),
        )


def injects(scored: ScoredWindow, proxies: Sequence[str], settings: Settings) -> bool:
    """Whether the detection power is computed: not without calibration, nor without places."""
    calibration = scored.replayed.calibration
    return calibration is not None and settings.review.power_keys > 0 and not proxies


def of_run(
    scored: ScoredWindow,
    standings: Mapping[str, Standing],
    counted: Counted,
    proxies: tuple[str, ...],
    injected: Injected | None,
) -> Coverage:
    """What of the coverage follows from the run; `as_of_now` adds the rest.

    `proxies` have nearly all requests; `injected` is what was found of injected thefts, where
    `injects` says so.
    """
    kinds = list(standings.values())
    calibration = scored.replayed.calibration
    powers: tuple[Power, ...] = ()
    if injected is not None and calibration is not None:
        keys = scored.window_evidence.keys
        scoring = scored.replayed.settings.scoring
        found = power.power_of_keys(injected, keys, calibration, scoring)
        powers = power.summary(found)
    return Coverage(
        keys=len(kinds),
        assessed=kinds.count("assessed"),
        warming_up=kinds.count("warming_up"),
        not_assessable=kinds.count("not_assessable"),
        silent=kinds.count("silent"),
        events=counted.events,
        unlocated_addresses=len(counted.unlocated),
        calibration=_calibration(scored.replayed),
        power=powers,
        keys_without_past=counted.keys_without_past,
        proxy_addresses=proxies,
    )


def as_of_now(lake: Lake, found: Coverage, window: Window, settings: Settings) -> Coverage:
    """`found`, with what the lake says now of lines that no run reads, and of verdicts."""
    start, end = window.start.date(), window.end.date()
    keyless, rejected, held_back = lake.rows(
        """
        SELECT (SELECT count(*) FROM lake.keyless_events WHERE day >= $start AND day < $end),
            (SELECT count(*) FROM lake.rejects),
            (SELECT count(*) FROM lake.held_back)
        """,
        start=start,
        end=end,
    )[0]
    first, last = _reach(lake, end)
    history = (min(window.start, last) - first).total_seconds() / 86400 if first and last else 0.0
    return replace(
        found,
        keyless_events=keyless,
        rejected_lines=rejected,
        held_back_events=held_back,
        history_days=round(max(history, 0.0), 2),
        notes=_proxy_notes(found.proxy_addresses)
        + _notes(first, last, window, found, settings)
        + _unknown_notes(lake, window)
        + _unread_notes(lake, window)
        + _late_notes(lake, window, settings)
        + tuple(f"{note}." for note in alerts.unlisted_notes(lake))
        + _calibration_notes(found.calibration),
        calibration=found.calibration and _with_verdicts(lake, found.calibration),
        suppressions=verdicts.in_force(lake, window),
    )


def _reach(lake: Lake, end: date) -> tuple[datetime | None, datetime | None]:
    """The log's first event, and its last one before the day `end`."""
    first, last = lake.rows(
        "SELECT min(day), max(day) FILTER (day < $end) FROM lake.activity", end=end
    )[0]
    # Of days that are named, nearly all files are left unread.
    return (
        lake.value("SELECT min(first_ts) FROM lake.activity WHERE day = $day", day=first),
        lake.value("SELECT max(last_ts) FROM lake.activity WHERE day = $day", day=last),
    )


def _proxy_notes(proxies: tuple[str, ...]) -> tuple[str, ...]:
    if not proxies:
        return ()
    told = sentence(proxy_sentence(proxies))
    return (f"{told} Until then no detection power is promised.",)


def _notes(
    first: datetime | None,
    last: datetime | None,
    window: Window,
    found: Coverage,
    settings: Settings,
) -> tuple[str, ...]:
    """What the reader must know before trusting the silence."""
    if first is None or last is None:
        return ("The lake has no events of any key before the end of the window.",)
    notes = []
    warm_up = settings.review.warm_up_days
    if not found.assessed:
        notes.append(
            f"{_why_none_is_assessed(first, last, window, warm_up)} Keys were assessed by policy, "
            "sensitive calls and peers only."
        )
    elif young := found.warming_up:
        notes.append(
            f"{count(young, 'key')} {named(young, 'was', 'were')} in use on fewer than {warm_up} "
            f"days before the window, and {named(young, 'was', 'were')} assessed mainly by policy, "
            "sensitive calls and peers."
        )
    if last < window.end - timedelta(days=1):
        notes.append(f"The last event is from {last:%Y-%m-%d %H:%M} UTC: the window is incomplete.")
    return tuple(notes)


def _unknown_notes(lake: Lake, window: Window) -> tuple[str, ...]:
    """What was tried in the window and is no key."""
    tried, addresses, requests = lake.rows(
        """
        SELECT count(DISTINCT key_id), count(DISTINCT address), coalesce(sum(events), 0)::BIGINT
        FROM lake.activity
        SEMI JOIN unknown_credentials_until($end::DATE) USING (key_id)
        WHERE day >= $start AND day < $end
        """,
        start=window.start.date(),
        end=window.end.date(),
    )[0]
    if not tried:
        return ()
    return (
        f"{count(tried, 'unknown credential')} {named(tried, 'was', 'were')} tried from "
        f"{count(addresses, 'address', 'addresses')}, and every request was denied "
        f"({count(requests, 'request')}): not in an inventory and never accepted, they were not "
        "assessed as keys.",
    )


def _why_none_is_assessed(
    first: datetime, last: datetime, window: Window, warm_up_days: int
) -> str:
    if window.start - first >= timedelta(days=warm_up_days):
        return (
            f"No key of this window was in use on {warm_up_days} days or more before it, so none "
            "was assessed against its own history."
        )
    # Rounded, it must not be as long as what is needed.
    is_short = last - first < timedelta(days=warm_up_days - 0.5)
    reach = (
        f"The lake has only {_span((last - first).total_seconds())} of history, too little"
        if is_short
        else f"The log begins on {first:%Y-%m-%d}, too late"
    )
    return (
        f"{reach} to assess keys against their own history, which takes {warm_up_days} days before "
        "the window."
    )


def _unread_notes(lake: Lake, window: Window) -> tuple[str, ...]:
    """What the window's log has that nobody could read: the lines of keys, and whole files."""
    keys = lake.rows(
        "SELECT key_id, count(*) AS lines FROM lake.rejects WHERE key_id IS NOT NULL "
        "AND ts >= $start AND ts < $end GROUP BY key_id ORDER BY lines DESC, key_id",
        start=window.start.date(),
        end=window.end.date(),
    )
    notes = []
    if keys:
        told = ", ".join(
            f"{count(lines, 'line')} of {printable(key_id)}"
            for key_id, lines in keys[:_MOST_KEYS_NAMED]
        )
        more = len(keys) - _MOST_KEYS_NAMED
        others = f", and lines of {count(more, 'other key')}" if more > 0 else ""
        # No colon after a key: `lake forget` takes it for a part of the id.
        notes.append(f"{told}{others} could not be read; their content is unknown.")
    files = lake.value(
        "SELECT count(DISTINCT path) FROM lake.left_out_files WHERE seen_at >= $start "
        "AND path NOT IN (SELECT path FROM lake.ingested_files)",
        start=window.start,
    )
    if files:
        notes.append(
            f"{count(files, 'file')} found since the window began "
            f"{'was' if files == 1 else 'were'} skipped as unreadable: keywatch doctor lists them."
        )
    return tuple(notes)


def _late_notes(lake: Lake, window: Window, settings: Settings) -> tuple[str, ...]:
    """Which weeks before the window have lines that were not scored yet."""
    waiting = [
        iso_week(each.window) or ""
        for each in late.queued(lake, settings.review.late_weeks)
        if each.is_late and each.window.end <= window.start
    ]
    if not waiting:
        return ()
    return (
        f"Late log lines of {listed(waiting, _MOST_WEEKS)} are not scored yet and not part of the "
        "baseline: run keywatch review --missed.",
    )


def _calibration_notes(calibration: CalibrationSummary | None) -> tuple[str, ...]:
    if calibration is None:
        return (
            "Too little history to replay, so scores are not calibrated: facts and the rule for "
            "unfamiliar places decide what to revoke, and a threshold in the settings what to "
            "investigate.",
        )
    # Of fewer cases than a rank needs, each p-value is the tail's.
    which = (
        f"P-values below {RANK_CASES / (calibration.cases + 1):.2g}"
        if calibration.cases >= RANK_CASES
        else "All p-values"
    )
    return (
        f"{which} are extrapolated from {count(calibration.cases, 'replayed case')} with an "
        "exponential tail.",
    )


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 86400:.0f} days"
