"""What is wrong with the running of Keywatch itself: logs that stopped, work that was not done.

A log that nobody sends any more looks like a quiet week. So silence is a finding: of the whole
log, of a place it comes from, of a key, of the review, of the feed and of the channels.
`findings` is the one list that the doctor, the report, the metrics and the heartbeat show.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from keywatch import deliver
from keywatch.detect.proxies import proxy_addresses, proxy_sentence
from keywatch.detect.replay import OUTLYING_CHANCE, OUTLYING_SHARE
from keywatch.lake import Lake
from keywatch.lake.weeks import last_event, last_full_week
from keywatch.model import HealthFinding, Window
from keywatch.operate.silence import LEAST_DAYS, Rhythm, any_rhythm_of, rhythm_of
from keywatch.report.upkeep import whose
from keywatch.review.making import WATCH, last_reviewed
from keywatch.review.watch import HOURS_FILE, hours_run
from keywatch.settings import Settings
from keywatch.text.phrases import count, iso_week, listed, named
from keywatch.text.safe_text import printable

_LOG_PATIENCE_DAYS = 1
"""Usual days without any event after which a log or a place has stopped."""
_UNKNOWN_PATIENCE_DAYS = 7
"""The same of a log whose rhythm is not known."""
_KEY_PATIENCE_DAYS = 5
"""The same of a key: a working week, so that a holiday is no alarm."""
_MOST_AT_ONCE = 5
"""More keys that stop on one day are one finding: a part of the log may be missing."""
_FEWEST_LOADS = 3
"""A folder that was loaded from less often is one that was loaded once, and not a place."""
_REVIEW_PATIENCE = timedelta(days=2)
_QUESTION_PATIENCE = timedelta(hours=1)
_FEWEST_HOURS = 24
"""Hours in which the feed ran, before its rest means something."""
_LEFT_OUT_DAYS = 30
_MOST_FILES = 50
_OLD_DATA_DAYS = 60
_DAYS_OF_ADDRESSES = 7
_EARLIER_WEEKS = (3, 8)
"""Reviewed weeks that the newest one is compared with: at least, at most."""
BUNDLED = frozenset({"dbip-country-lite", "dbip-asn-lite", "ip-lists"})
"""The databases and lists that come with Keywatch, as they are named beside what they said."""
_MOST_TEXT = 500
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BUILT = re.compile(r"(?:^|, )(.+?) (\d{4}-\d{2}-\d{2})(?=, |$)", re.ASCII)
"""As `keywatch.load.origins` writes what was asked."""
_DATED = re.compile(r"(?:/(?:[a-z]+=)?\d[\d._T-]*)+$", re.ASCII)


def findings(lake: Lake, settings: Settings, now: datetime) -> tuple[HealthFinding, ...]:
    """Everything that is wrong as of `now` (naive, UTC), the widest first; nothing is written.

    Raises:
        LakeError: the lake can't be read.
    """
    with lake.reading_briefly():
        last = last_event(lake, now)
        return (
            *_log(lake, settings, last, now),
            *_silent(lake, settings, last),
            *_review(lake, now),
            *_feed(lake, now),
            *_outbox(lake, settings, now),
            *_questions(lake, settings, now),
            *_places(settings),
            *_left_out(lake, now),
            *_ip_data(lake, now),
            *_clients_hidden(lake, last),
            *_drift(lake),
        )


def _finding(check: str, subject: str, text: str, *, is_note: bool = False) -> HealthFinding:
    return HealthFinding(check, subject, printable(text, _MOST_TEXT), is_note)


# --------------------------------------------------------------------------------------- the log


def _log(
    lake: Lake, settings: Settings, last: datetime | None, now: datetime
) -> Iterator[HealthFinding]:
    """The log as a whole, by the clock."""
    if last is None:
        return
    days = [
        day
        for (day,) in lake.rows(
            "SELECT DISTINCT day FROM lake.activity WHERE day > $first AND day <= $last",
            first=_baseline(last, settings),
            last=last.date(),
        )
    ]
    rhythm = rhythm_of(days)
    patience = _LOG_PATIENCE_DAYS if rhythm else _UNKNOWN_PATIENCE_DAYS
    if (rhythm or any_rhythm_of(days)).has_stopped(last.date(), now.date(), patience):
        ago = count((now.date() - last.date()).days, "day")
        yield _finding(
            "log_ended",
            "",
            f"the log has ended: its last event was at {last:%Y-%m-%d %H:%M} UTC, {ago} ago; check "
            "that it is still written, then load it with keywatch ingest",
        )


def _baseline(last: datetime, settings: Settings) -> date:
    return last.date() - timedelta(days=settings.review.baseline_days)


def _silent(lake: Lake, settings: Settings, last: datetime | None) -> Iterator[HealthFinding]:
    """Places and keys that stopped while the log went on: as of its end, not of the clock.

    Keys that were last used when their place fell silent are told with the place.
    """
    if last is None:
        return
    keys = _stopped_keys(lake, last, settings)
    for place, (rhythm, stopped_on) in sorted(_stopped_places(lake, last, settings).items()):
        near = (stopped_on - timedelta(days=1), stopped_on)
        with_it = sum(len(keys.pop(day, ())) for day in near)
        also = f", nor from {count(with_it, 'key')} that stopped with it" if with_it else ""
        missed = count(rhythm.missed_days(stopped_on, last.date()), "day")
        yield _finding(
            "place_silent",
            place,
            f"no events from {place} since {stopped_on}{also}: {missed} missed (usually events "
            f"{_usual(rhythm)}); check the system that writes them",
        )
    for stopped_on, stopped in sorted(keys.items()):
        if len(stopped) > _MOST_AT_ONCE:
            who = listed((printable(key_id) for key_id, _, _ in stopped), _MOST_AT_ONCE)
            yield _finding(
                "key_silent",
                f"{stopped_on}",
                f"{count(len(stopped), 'key')} stopped at the same time, last used on {stopped_on} "
                f"({who}): check that no part of the log is missing",
            )
            continue
        for key_id, whom, rhythm in stopped:
            yield _finding(
                "key_silent",
                key_id,
                f"key {printable(key_id)} ({whom}) was used {_usual(rhythm)}, but not since "
                f"{stopped_on}; ask its owner whether it is still needed, and revoke it if not",
            )


def _usual(rhythm: Rhythm) -> str:
    if len(rhythm.weekdays) == len(_WEEKDAYS):
        return "nearly every day"
    return f"nearly every {', '.join(_WEEKDAYS[each] for each in sorted(rhythm.weekdays))}"


def _stopped_keys(
    lake: Lake, last: datetime, settings: Settings
) -> dict[date, list[tuple[str, str, Rhythm]]]:
    """Key, whose it is and its rhythm, by the day of its last use.

    A key that is revoked, expired, replaced or by a verdict stolen has to stop.
    """
    rows = lake.rows(
        """
        WITH inventory AS (FROM inventory_in_force()),

        -- grain: key, day
        days AS (
            SELECT DISTINCT key_id, day FROM lake.activity WHERE day > $first AND day <= $last
        ),

        stopped AS (
            SELECT key_id, list(day) AS days
            FROM days
            GROUP BY key_id
            HAVING max(day) < $last - $patience AND max(day) - min(day) + 1 >= $least
        )

        SELECT s.key_id, i.name, i.owner, s.days
        FROM stopped AS s
        LEFT JOIN inventory AS i USING (key_id)
        WHERE coalesce(i.revoked_at, i.expires_at, $end) >= $end
            AND coalesce(i.expires_at, $end) >= $end
            AND s.key_id NOT IN (SELECT replaces FROM inventory WHERE replaces IS NOT NULL)
            AND s.key_id NOT IN (
                SELECT key_id FROM verdicts_in_force() WHERE verdict = 'compromised'
            )
        ORDER BY s.key_id
        """,
        first=_baseline(last, settings),
        last=last.date(),
        end=last,
        patience=_KEY_PATIENCE_DAYS,
        least=LEAST_DAYS,
    )
    found: dict[date, list[tuple[str, str, Rhythm]]] = defaultdict(list)
    for key_id, name, owner, days in rows:
        rhythm = rhythm_of(days)
        if rhythm and rhythm.has_stopped(max(days), last.date(), _KEY_PATIENCE_DAYS):
            found[max(days)].append((key_id, whose(name, owner), rhythm))
    return found


def _stopped_places(
    lake: Lake, last: datetime, settings: Settings
) -> dict[str, tuple[Rhythm, date]]:
    """The rhythm of each place that has stopped, and its last day.

    A file is taken to have events on each day from its first to its last one.
    """
    first = _baseline(last, settings) + timedelta(days=1)
    days: dict[str, set[date]] = defaultdict(set)
    loads: dict[str, set[int]] = defaultdict(set)
    for path, load_id, begins, ends in lake.rows(
        "SELECT path, load_id, first_ts::DATE, least(last_ts::DATE, $last) "
        "FROM lake.ingested_files WHERE sha256 <> '' AND last_ts >= $first AND first_ts < $end",
        first=first,
        last=last.date(),
        end=last.date() + timedelta(days=1),
    ):
        place = place_of(path, settings.ingest.places)
        begins = max(begins, first)
        days[place].update(begins + timedelta(days=nth) for nth in range((ends - begins).days + 1))
        loads[place].add(load_id)
    stopped = {}
    for place, held in days.items():
        known = place in settings.ingest.places or len(loads[place]) >= _FEWEST_LOADS
        rhythm = rhythm_of(held) if known and place else None
        if rhythm and rhythm.has_stopped(max(held), last.date(), _LOG_PATIENCE_DAYS):
            stopped[place] = (rhythm, max(held))
    return stopped


def place_of(path: str, places: Iterable[str]) -> str:
    """Where a file comes from: the one of `places` it is under, else its folder.

    Folders that are named for a day, a month or a year (``2026/10/01``, ``day=2026-10-01``) are
    part of the folder above; empty for standard input.
    """
    for place in places:
        inside = path.startswith(f"{place.rstrip('/')}/")
        if path == place or inside or fnmatch.fnmatchcase(path, place):
            return place
    folder = path.rpartition("/")[0]
    return _DATED.sub("", folder) or folder


# ------------------------------------------------------------------------- what is to be run


def _review(lake: Lake, now: datetime) -> Iterator[HealthFinding]:
    """Weeks that are over and have no review, in a lake whose weeks are reviewed."""
    newest = last_full_week(lake, now)
    reviewed = last_reviewed(lake, newest)
    if reviewed is None or reviewed >= newest.start or now < newest.end + _REVIEW_PATIENCE:
        return
    weeks = (newest.start - reviewed).days // 7
    before = iso_week(Window(reviewed, reviewed + timedelta(days=7)))
    yield _finding(
        "review_overdue",
        f"{iso_week(newest)}",
        f"{count(weeks, 'week')} up to {iso_week(newest)} {named(weeks, 'is', 'are')} not reviewed "
        f"yet; the last reviewed week is {before}: run keywatch review --missed",
    )


def _feed(lake: Lake, now: datetime) -> Iterator[HealthFinding]:
    """The feed, by the hours in which it ran: silent for over twice its longest rest."""
    hours = hours_run(lake)
    if len(hours) < _FEWEST_HOURS:
        return
    longest = max(later - one for one, later in pairwise(hours))
    if now - hours[-1] > max(2 * longest, timedelta(hours=3)):
        ran = f"{hours[-1]:%Y-%m-%d %H}:00"
        yield _finding(
            "feed_stopped",
            "",
            f"keywatch watch has not run since {ran} UTC; its longest pause before was "
            f"{count(longest / timedelta(hours=1), 'hour')}: check its schedule, or delete "
            f"{HOURS_FILE} in the lake's folder if it was stopped permanently",
        )


def _outbox(lake: Lake, settings: Settings, now: datetime) -> Iterator[HealthFinding]:
    """Messages that were given up, and those that wait for longer than tries go on."""
    for standing in deliver.standings(lake, settings.deliver.channels):
        name = standing.channel
        if standing.dead:
            yield _finding(
                "outbox_dead",
                name,
                f"channel {name}: {count(standing.dead, 'message')} could not be delivered "
                f"({standing.last_error}); fix the cause, then run keywatch deliver --retry-dead",
            )
        if standing.waits_for(now) > deliver.LONG_WAIT:
            mend = (
                "check that keywatch deliver runs"
                if name in settings.deliver.channels
                else "the channel is no longer in the settings"
            )
            yield _finding(
                "outbox_waiting",
                name,
                f"channel {name}: {standing.waiting_words(now)}; {mend}",
            )


def _questions(lake: Lake, settings: Settings, now: datetime) -> Iterator[HealthFinding]:
    """Alerts that wait for an owner, although the time to answer is over."""
    late = deliver.overdue(lake, settings.deliver, now - _QUESTION_PATIENCE)
    if late:
        owners = listed(sorted({printable(one.owner) for one, _ in late}), _MOST_AT_ONCE)
        yield _finding(
            "question_overdue",
            "",
            f"{count(len(late), 'question')} to {owners}: the time to answer is over, and the "
            "channels are not notified yet; check that keywatch deliver or keywatch watch runs",
        )


# ------------------------------------------------------------------------------- what it reads


def _places(settings: Settings) -> Iterator[HealthFinding]:
    """The settings' places on this machine that are not there, or not readable."""
    for place in settings.ingest.places:
        if why := _unreadable(place):
            yield _finding("place_unreadable", place, f"place {place}: {why}; see [ingest] places")


def _unreadable(place: str) -> str:
    if "://" in place or place == "-":
        return ""
    path = Path(place)
    if (pattern := re.search(r"[*?\[]", place)) and not path.exists():
        path = Path(f"{place[: pattern.start()]}x").parent
    try:
        if not path.exists():
            return "does not exist"
    except OSError as e:
        return f"can't be read ({e.strerror})"
    needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
    return "" if os.access(path, needed) else "can't be read (no permission)"


def _clients_hidden(lake: Lake, last: datetime | None) -> Iterator[HealthFinding]:
    """A log of which the last days have a proxy's address and no client's."""
    if last is None:
        return
    end = last.date() + timedelta(days=1)
    if proxies := proxy_addresses(lake, end - timedelta(days=_DAYS_OF_ADDRESSES), end):
        yield _finding("clients_hidden", "", proxy_sentence(proxies), is_note=True)


def _left_out(lake: Lake, now: datetime) -> Iterator[HealthFinding]:
    """Files that were found in the last weeks and are no part of the lake, the newest first."""
    rows = lake.rows(
        "SELECT path, arg_max(reason, seen_at), max(seen_at) AS seen_at "
        "FROM lake.left_out_files WHERE seen_at > $since "
        "AND path NOT IN (SELECT path FROM lake.ingested_files) "
        "GROUP BY path ORDER BY seen_at DESC, path",
        since=now - timedelta(days=_LEFT_OUT_DAYS),
    )
    for path, reason, seen_at in rows[:_MOST_FILES]:
        why = reason.partition("\n")[0]
        yield _finding("file_left_out", path, f"skipped since {seen_at:%Y-%m-%d}: {path}: {why}")
    if (more := len(rows) - _MOST_FILES) > 0:
        yield _finding("file_left_out", "", f"skipped: {count(more, 'more file')}")


def ip_data(lake: Lake) -> dict[str, date]:
    """The databases and lists that the lake's addresses were located by, and their build dates."""
    asked: str | None = lake.value("SELECT arg_max(asked, load_id) FROM lake.origins")
    return {name: date.fromisoformat(built_on) for name, built_on in _BUILT.findall(asked or "")}


def _ip_data(lake: Lake, now: datetime) -> Iterator[HealthFinding]:
    """Old databases; of those that come with Keywatch it is a note, for a release brings newer."""
    old = {
        name: built_on
        for name, built_on in ip_data(lake).items()
        if (now.date() - built_on).days > _OLD_DATA_DAYS
    }

    def told(built_on: date) -> str:
        return f"from {built_on}, {(now.date() - built_on).days} days old"

    for name, built_on in old.items():
        if name not in BUNDLED:
            text = f"database {name} is {told(built_on)}: replace it with a newer file ([geoip])"
            yield _finding("ip_data_old", name, text)
    if bundled := [built_on for name, built_on in old.items() if name in BUNDLED]:
        yield _finding(
            "ip_data_old",
            "bundled",
            f"the bundled address databases are {told(min(bundled))}: update Keywatch, or "
            "set newer files in [geoip] of keywatch.toml",
            is_note=True,
        )


# ------------------------------------------------------------------------------------- the scores


def _drift(lake: Lake) -> Iterator[HealthFinding]:
    """Whether the newest reviewed week has more or fewer strange keys than chance allows.

    A key is strange where its p-value is among the share that makes a replayed week outlying
    (`replay.to_leave_out`). Their number is Poisson at the median rate of the weeks reviewed
    before, per key in use; beyond one chance in a thousand on either side the scores no longer mean
    what they did.
    """
    fewest, most = _EARLIER_WEEKS
    weeks = _strange_keys(lake, most + 1)
    if len(weeks) <= fewest:
        return
    from scipy.special import pdtr, pdtrc

    (week, in_use, strange), *earlier = weeks
    usual = max(median(number / max(keys, 1) for _, keys, number in earlier) * in_use, 1.0)
    more = strange > usual
    if (pdtrc(strange - 1, usual) if more else pdtr(strange, usual)) < OUTLYING_CHANCE:
        meaning = (
            "a release, a campaign or changed habits" if more else "detectors may no longer work"
        )
        yield _finding(
            "scores_drifted",
            f"{iso_week(week)}",
            f"{strange:,} of {count(in_use, 'key')} had unusual activity in {iso_week(week)}; "
            f"{usual:.1f} were expected from the {count(len(earlier), 'week')} before: {meaning}; "
            "compare with keywatch backtest",
        )


def _strange_keys(lake: Lake, most: int) -> Sequence[tuple[Window, int, int]]:
    """Window, keys in use and strange keys of the calibrated reviews, the newest week first."""
    rows = lake.rows(
        """
        WITH newest AS (
            SELECT window_start, window_end, arg_max(run_id, made_at) AS run_id,
                arg_max(coverage, made_at) AS coverage
            FROM lake.runs
            WHERE window_end - window_start = INTERVAL 7 DAY AND isodow(window_start) = 1
                AND NOT ends_with(run_id, $watch)
            GROUP BY ALL
        )

        SELECT n.window_start, n.window_end,
            any_value((n.coverage->>'keys')::BIGINT - (n.coverage->>'silent')::BIGINT) AS in_use,
            count(*) FILTER (c.p_value <= $share)
        FROM newest AS n
        LEFT JOIN lake.cases AS c USING (run_id)
        WHERE (n.coverage->'calibration'->>'windows') IS NOT NULL
        GROUP BY n.window_start, n.window_end
        ORDER BY n.window_start DESC
        LIMIT $most
        """,
        watch=WATCH,
        share=OUTLYING_SHARE,
        most=most,
    )
    return [(Window(start, end), in_use, strange) for start, end, in_use, strange in rows]
