"""What came in since the last time: the weeks it touches are judged again, and alerts change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keywatch import alerts, deliver, judging
from keywatch.alerts import Change
from keywatch.lake import Lake, utc_now
from keywatch.model import Window
from keywatch.report import printable
from keywatch.report.phrases import count, window_label
from keywatch.settings import Settings
from keywatch.weeks import week_of

_MOST_WEEKS = 2
"""Lines that come later than a week after are judged by the next review, not by the feed."""
_MOST_NAMES = 3


@dataclass(frozen=True)
class Watched:
    """How many events of how many keys were new, in which weeks, and what changed for it."""

    events: int = 0
    keys: int = 0
    windows: tuple[Window, ...] = ()
    changes: tuple[Change, ...] = ()


def watch(lake: Lake, settings: Settings, on_wait: Callable[[str], None]) -> Watched:
    """Judge the weeks that were loaded into since the last watch, as far as they have come.

    And say of revoked keys whether they are still in use (`keywatch.alerts.follow_up`).

    A week is the window of its review, so replayed weeks are shared with it and an alert that the
    feed opened is the one that the review finds. The first time only the newest week is judged.
    Run again, nothing happens: what was watched commits with what was told.
    """
    since = lake.value("SELECT max(load_id) FROM lake.watches")
    loaded = lake.value("SELECT coalesce(max(load_id), 0) FROM lake.ingested_files")
    if since == loaded:
        return Watched(changes=tuple(_follow_up(lake, settings, on_wait)))
    new = lake.rows(
        """
        SELECT date_trunc('week', day)::DATE AS monday, sum(events)::BIGINT
        FROM lake.activity
        WHERE load_id > coalesce($since::BIGINT, -1)
        GROUP BY monday
        ORDER BY monday DESC
        LIMIT $most
        """,
        since=since,
        most=1 if since is None else _MOST_WEEKS,
    )
    # A review without detection power: it says nothing of an alert, and takes longer than one.
    quick = settings.without_power()
    windows = [week_of(monday) for monday, _ in new]
    changes: list[Change] = []
    for window in reversed(windows):
        with lake.reading():
            answer, replays = judging.make_review(lake, window, quick, whole=False)
        with lake.writing(on_wait):
            changes += judging.keep_news(lake, answer, replays, quick)
    first = min((window.start for window in windows), default=utc_now())
    keys = lake.value(
        "SELECT count(DISTINCT key_id) FROM lake.activity "
        "WHERE load_id > coalesce($since::BIGINT, -1) AND load_id <= $loaded AND day >= $first",
        since=since,
        loaded=loaded,
        first=first.date(),
    )
    with lake.writing(on_wait):
        lake.execute("INSERT INTO lake.watches VALUES ($id, $now)", id=loaded, now=utc_now())
    changes += _follow_up(lake, settings, on_wait)
    return Watched(sum(events for _, events in new), keys, tuple(windows), tuple(changes))


def _follow_up(lake: Lake, settings: Settings, on_wait: Callable[[str], None]) -> list[Change]:
    hours = settings.deliver.confirm_hours
    if not alerts.follow_up(lake, hours):
        return []
    with lake.writing(on_wait):
        changes = alerts.follow_up(lake, hours)
        deliver.tell(lake, changes, settings.deliver)
    return changes


def render_watched(watched: Watched) -> str:
    """What was new and what changed for it, a line an alert."""
    if not watched.windows and not watched.changes:
        return "Nothing new to judge."
    weeks = " and ".join(window_label(window) for window in watched.windows)
    new = f"{count(watched.events, 'new event')} of {count(watched.keys, 'key')} in {weeks}"
    news = f"{count(len(watched.changes), 'alert')} changed" if watched.changes else "no news"
    lines = [f"{new if weeks else 'Nothing new to judge'}: {news}."]
    for change in watched.changes:
        alert = change.alert
        names = [member.name or member.key_id for member in alert.members[:_MOST_NAMES]]
        more = len(alert.members) - len(names)
        told = ", ".join(names) + (f" and {count(more, 'more key')}" if more else "")
        line = f"  {alert.action.upper():12}{alert.bits:6.1f}  {told}: {alert.why}"
        lines.append(printable(line, max_length=300))
    return "\n".join(lines)
