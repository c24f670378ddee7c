"""Weeks that new lines touched: each waits in a queue until a review has scored it.

Lines are *late* where their week was over for a day when they came. Until they are scored they are
no part of what is usual (``late_places`` of ``detect/span.sql``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from keywatch.lake import Lake
from keywatch.lake.weeks import last_event
from keywatch.model import Window

_LATE_AFTER = timedelta(days=1)
_NO_LOAD = -1


@dataclass(frozen=True)
class Queued:
    """A window that waits, for loads up to `load_id`, as of when it was read.

    `is_late`: all that it waits for came late. `is_old`: it lies more than ``review.late_weeks``
    back from the lake's last event.
    """

    window: Window
    load_id: int
    is_late: bool
    is_old: bool

    @property
    def is_for_the_record(self) -> bool:
        """Whether nobody is to be told what a review of it finds."""
        return self.is_late and self.is_old


def enqueue(lake: Lake, load_id: int, now: datetime) -> None:
    """Queue the weeks that a load touched; of the first load the newest alone.

    Call it inside the transaction of the load.
    """
    newest = last_event(lake, now)
    if newest is None:  # nothing but empty files so far
        return
    lake.execute(
        """
        WITH touched AS (
            SELECT DISTINCT date_trunc('week', day)::TIMESTAMP AS window_start
            FROM lake.activity
            WHERE load_id = $load_id
        )

        INSERT INTO lake.review_queue
        SELECT window_start, window_start + INTERVAL 7 DAY, $load_id,
            window_start + INTERVAL 7 DAY <= $late_before
        FROM touched
        WHERE window_start = date_trunc('week', $newest)
            OR EXISTS (FROM lake.activity WHERE load_id < $load_id)
        ORDER BY window_start
        """,
        load_id=load_id,
        newest=newest,
        late_before=newest - _LATE_AFTER,
    )


def enqueue_newest(lake: Lake, now: datetime) -> None:
    """Queue the newest week for what is no load, so that the feed does not wait for one."""
    if (newest := last_event(lake, now)) is not None:
        lake.execute(
            """
            INSERT INTO lake.review_queue
            SELECT monday, monday + INTERVAL 7 DAY, $load_id, false
            FROM (SELECT date_trunc('week', $newest::TIMESTAMP)::TIMESTAMP AS monday)
            WHERE monday NOT IN (SELECT window_start FROM lake.review_queue)
            """,
            load_id=_NO_LOAD,
            newest=newest,
        )


def queued(lake: Lake, late_weeks: int, now: datetime | None = None) -> list[Queued]:
    """The windows that wait, the oldest first; none that has not begun."""
    newest = last_event(lake, now)
    if newest is None:
        return []
    rows = lake.rows(
        "SELECT window_start, window_end, max(load_id), bool_and(is_late) FROM lake.review_queue "
        "WHERE window_start <= $newest GROUP BY ALL ORDER BY window_start",
        newest=newest,
    )
    monday = newest.date() - timedelta(days=newest.weekday() + 7 * late_weeks)
    return [
        Queued(Window(start, end), load_id, is_late, is_old=start.date() < monday)
        for start, end, load_id, is_late in rows
    ]


def waiting(lake: Lake, window: Window, late_weeks: int) -> Queued | None:
    """What `window` waits for; None where nothing new came."""
    found = [each for each in queued(lake, late_weeks) if each.window == window]
    return found[0] if found else None


def leave(lake: Lake, queued: Queued | None) -> None:
    """Take what was scored out of the queue; a load that has come since stays.

    Call it inside the transaction that keeps the review.
    """
    if queued is not None:
        lake.execute(
            "DELETE FROM lake.review_queue WHERE window_start = $start AND window_end = $end "
            "AND load_id <= $load_id",
            start=queued.window.start,
            end=queued.window.end,
            load_id=queued.load_id,
        )
