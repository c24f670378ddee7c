"""What came in since the last time: the weeks it touches are scored again, and alerts change."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from keywatch.lake import Lake
from keywatch.lake.folder import write_safely
from keywatch.load import late
from keywatch.load.late import Queued
from keywatch.model import Window
from keywatch.review import alerts, making
from keywatch.review.alerts import Change, Outbox
from keywatch.review.rescoring import LastScoring
from keywatch.settings import Settings
from keywatch.text.phrases import count, window_label
from keywatch.text.safe_text import printable

_MOST_OLD_AT_ONCE = 2
"""Weeks that are scored for the record only: an old log is no reason to let the feed wait."""
_MOST_NAMES = 3
HOURS_FILE = "watch.hours"
"""In the lake's folder: the hours in which the feed ran."""
_MOST_HOURS = 14 * 24


@dataclass(frozen=True)
class Watched:
    """How many events of how many keys were new, in which weeks, and what changed for it."""

    events: int = 0
    keys: int = 0
    windows: tuple[Window, ...] = ()
    changes: tuple[Change, ...] = ()


def watch(
    lake: Lake, settings: Settings, outbox: Outbox, last: LastScoring | None = None
) -> Watched:
    """Score the weeks that wait for it (`late`), the oldest first, as far as they came.

    And say of revoked keys whether they are still in use (`keywatch.review.alerts.follow_up`).

    A week is the window of its review, so replayed weeks are shared with it and an alert that the
    feed opened is the one that the review finds. What changes about an earlier week is told as
    late; of one more than ``review.late_weeks`` back it is kept and not told. A week leaves the
    queue in the transaction that keeps what was scored, so a feed that was killed goes on there.
    `last` is what the run before left in this process: then the newest of the weeks is scored as
    far as it has changed (`keywatch.review.rescoring`). Of several feeds one scores at a time, and
    the others then find nothing left of what it scored.
    """
    # A review without detection power: it says nothing of an alert, and takes longer than one.
    quick = settings.without_power()
    watched = Watched()
    if late.queued(lake, settings.review.late_weeks):
        with lake.turn("watch", "scoring new events"):
            watched = _score(lake, quick, outbox, last)
    return replace(watched, changes=(*watched.changes, *_follow_up(lake, settings, outbox)))


def _score(lake: Lake, settings: Settings, outbox: Outbox, last: LastScoring | None) -> Watched:
    windows = _next(late.queued(lake, settings.review.late_weeks))
    events, keys = _new(lake, windows)
    changes: list[Change] = []
    newest = max((window.start for window in windows), default=None)
    for window in windows:
        going_on = last if window.start == newest else None
        with lake.reading():
            queued = late.waiting(lake, window, settings.review.late_weeks)
            answer, scored = (
                going_on.review(lake, window, settings)
                if going_on
                else making.make_review(lake, window, settings, whole=False)
            )
        with lake.writing():
            changes += making.keep_news(lake, answer, scored, settings, outbox, queued)
        if going_on:
            going_on.keep()
    return Watched(events, keys, tuple(windows), tuple(changes))


def remember_run(lake: Lake, now: datetime) -> None:
    """Keep in the lake's folder that the feed ran in this hour; two weeks of such hours are kept.

    In the lake it would be a commit and a Parquet file every few minutes, to say that nothing is
    new.
    """
    if lake.folder is None:
        return
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = sorted({*hours_run(lake), hour})[-_MOST_HOURS:]
    text = "".join(f"{each.isoformat(timespec='minutes')}\n" for each in hours)
    write_safely(lake.folder / HOURS_FILE, text.encode("ascii"))


def hours_run(lake: Lake) -> list[datetime]:
    """The hours in which the feed ran on this machine, the newest last."""
    if lake.folder is None:
        return []
    try:
        lines = (lake.folder / HOURS_FILE).read_text("ascii", "replace").splitlines()
    except OSError:
        return []
    hours = []
    for line in lines:
        with suppress(ValueError):
            hours.append(datetime.fromisoformat(line).replace(tzinfo=None))
    return sorted(hours)


def _next(queued: list[Queued]) -> list[Window]:
    """What this run scores: those that may alert, then some for the record."""
    recent = [each.window for each in queued if not each.is_old]
    return recent + [each.window for each in queued if each.is_old][-_MOST_OLD_AT_ONCE:]


def _new(lake: Lake, windows: list[Window]) -> tuple[int, int]:
    """How many events of how many keys the windows wait for."""
    events, keys = lake.rows(
        """
        SELECT coalesce(sum(events), 0)::BIGINT, count(DISTINCT key_id)
        FROM lake.activity AS a
        SEMI JOIN lake.review_queue AS q
            ON a.load_id = q.load_id AND a.day >= q.window_start AND a.day < q.window_end
                AND list_contains($starts::TIMESTAMP[], q.window_start)
        """,
        starts=[window.start for window in windows],
    )[0]
    return events, keys


def _follow_up(lake: Lake, settings: Settings, outbox: Outbox) -> list[Change]:
    hours = settings.deliver.confirm_hours
    if not alerts.follow_up(lake, hours):
        return []
    with lake.writing():
        changes = alerts.follow_up(lake, hours)
        outbox.tell(lake, changes)
    return changes


def render_watched(watched: Watched) -> str:
    """What was new and what changed for it, a line an alert."""
    if not watched.windows and not watched.changes:
        return "No new events to score."
    weeks = " and ".join(window_label(window) for window in watched.windows)
    new = f"{count(watched.events, 'new event')} of {count(watched.keys, 'key')} in {weeks}"
    news = (
        f"{count(len(watched.changes), 'alert')} changed"
        if watched.changes
        else "no alerts changed"
    )
    lines = [f"{new if weeks else 'No new events to score'}: {news}."]
    for change in watched.changes:
        alert = change.alert
        names = [member.name or member.key_id for member in alert.members[:_MOST_NAMES]]
        more = len(alert.members) - len(names)
        told = ", ".join(names) + (f" and {count(more, 'more key')}" if more else "")
        line = f"  {alert.action.upper():12}{alert.bits:6.1f}  {told}: {alert.why}"
        lines.append(printable(line, max_length=300))
    return "\n".join(lines)
