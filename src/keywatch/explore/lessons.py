"""The verdicts of a month, looked back on: thefts, false alarms, and the evidence of each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from keywatch.errors import UsageError
from keywatch.explore.common import (
    FALSE_ALARM,
    MOST_NAMED,
    NEWEST_RUNS,
    THEFT,
    VERDICT_COLORS,
    Framed,
    card,
    counts_chart,
)
from keywatch.lake import Lake, utc_now
from keywatch.text.phrases import count, listed

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

_MOST_DRAWN = 8


class LessonsView:
    """The verdicts of a month and what they taught; see `LakeView.lessons`."""

    def __init__(self, lake: Lake, frame: Framed, month: str | None) -> None:
        newest = lake.value("SELECT max(given_at) FROM lake.verdicts") or utc_now()
        self.month = month or f"{newest:%Y-%m}"
        """As ``2026-09``, in UTC."""
        self._frame = frame
        start, end = _month(self.month)
        self._verdicts = _verdicts_of(lake, start, end)
        self._detectors = _detectors_of(lake, start, end)

    def __repr__(self) -> str:
        return f"<verdicts of {self.month}>"

    def _repr_html_(self) -> str:
        return card(f"Verdicts of {self.month}", self.summary)

    @property
    def summary(self) -> str:
        """How many cases were thefts, by action, and which detectors were wrong most often."""
        rows = [row for row in self._verdicts.to_pylist() if row["in_force"]]
        if not rows:
            return (
                f"No verdict of {self.month} is in force. Record one with keywatch verdict, and "
                "later reviews learn from it."
            )
        thefts = [row for row in rows if row["outcome"] == THEFT]
        wrong = [row for row in rows if row["outcome"] == FALSE_ALARM]
        expected = sum(row["until"] is not None for row in wrong)
        of_these = f", {expected:,} of them expected up to a date" if expected else ""
        told = (
            f"The verdicts of {self.month} are {count(len(thefts), 'theft')} and "
            f"{count(len(wrong), 'false alarm')}{of_these}."
        )
        by_action = [
            f"{sum(row['outcome'] == THEFT for row in found):,} of "
            f"{count(len(found), f'case to {action}', f'cases to {action}')}"
            for action in ("revoke", "rotate", "investigate")
            if (found := [row for row in rows if row["action"] == action])
        ]
        if by_action:
            told += f" Thefts were {listed(by_action, len(by_action))}."
        later = [row for row in wrong if row["action_after"] is not None]
        if later:
            quiet = sum(row["action_after"] == "none" for row in later)
            told += (
                f" In the newest review since, {quiet:,} of {count(len(later), 'key')} with a "
                "false alarm need no action."
            )
        useless = [
            f"{row['detector']} ({row['false_alarms']})"
            for row in self._detectors.to_pylist()
            if not row["thefts"] and row["false_alarms"] > 1
        ]
        if useless:
            told += f" Evidence in false alarms only: {listed(useless, MOST_NAMED)}."
        return told

    def verdicts(self) -> Any:
        """The verdicts that were given in the month, latest first; without withdrawals.

        Columns: given_at (UTC), key_id, name, owner, window_start, window_end, verdict, outcome
        (theft, false alarm), in_force (neither withdrawn nor replaced), judged_by, because, action
        and bits of the case then (null: there was none), until and families (of *expected*),
        action_after and bits_after (in the newest review of a later window; null: there is none).
        """
        return self._frame(self._verdicts)

    def detectors(self) -> Any:
        """How often each detector was evidence in the cases that were decided, most often first.

        Columns: detector, family, thefts, false_alarms (cases with a verdict in force).
        """
        return self._frame(self._detectors)

    def detector_chart(self, theme: str = "light") -> alt.LayerChart:
        """Thefts and false alarms by detector, of the eight with most cases."""
        rows = [
            {"name": row["detector"], "kind": kind, "count": row[column]}
            for row in self._detectors.to_pylist()[:_MOST_DRAWN]
            for kind, column in ((THEFT, "thefts"), (FALSE_ALARM, "false_alarms"))
        ]
        return counts_chart(rows, VERDICT_COLORS, "cases with this evidence", theme)


def _month(month: str) -> tuple[datetime, datetime]:
    try:
        start = datetime.fromisoformat(f"{month}-01")
        return start, (start + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        raise UsageError(f"{month!r} is not a month; use YYYY-MM, such as 2026-09") from None


def _verdicts_of(lake: Lake, start: datetime, end: datetime) -> pa.Table:
    return lake.table(
        f"""
        WITH runs AS ({NEWEST_RUNS}),

        later AS (
            SELECT v.verdict_id, r.run_id
            FROM lake.verdicts AS v
            JOIN runs AS r ON r.window_start >= v.window_end
            QUALIFY row_number() OVER (PARTITION BY v.verdict_id
                ORDER BY r.window_start DESC, r.window_end DESC) = 1
        )

        SELECT v.given_at, v.key_id, i.name, i.owner, v.window_start, v.window_end, v.verdict,
            CASE v.verdict WHEN 'compromised' THEN '{THEFT}' ELSE '{FALSE_ALARM}' END AS outcome,
            v.verdict_id IN (SELECT verdict_id FROM verdicts_in_force()) AS in_force,
            v.by_whom AS judged_by, v.because, v.action, v.bits, v.until, v.families,
            CASE WHEN l.run_id IS NOT NULL THEN coalesce(c.action, 'none') END AS action_after,
            c.bits AS bits_after
        FROM lake.verdicts AS v
        LEFT JOIN inventory_in_force() AS i USING (key_id)
        LEFT JOIN later AS l USING (verdict_id)
        LEFT JOIN lake.cases AS c ON c.run_id = l.run_id AND c.key_id = v.key_id
        WHERE v.verdict <> 'undo' AND v.given_at >= $start AND v.given_at < $end
        ORDER BY v.given_at DESC, v.key_id
        """,
        start=start,
        end=end,
    )


def _detectors_of(lake: Lake, start: datetime, end: datetime) -> pa.Table:
    return lake.table(
        f"""
        WITH decided AS (
            SELECT v.verdict = 'compromised' AS is_theft, n.document
            FROM verdicts_in_force() AS v
            JOIN ({NEWEST_RUNS}) AS r USING (window_start, window_end)
            JOIN lake.recommendations AS n ON n.run_id = r.run_id AND n.key_id = v.key_id
            WHERE v.given_at >= $start AND v.given_at < $end
        ),

        evidence AS (
            SELECT is_theft, unnest(from_json(document -> 'evidence', '[{{"detector": "VARCHAR",
                "family": "VARCHAR", "bits": "DOUBLE", "action": "VARCHAR"}}]'), recursive := true)
            FROM decided
        )

        SELECT detector, family, count(*) FILTER (is_theft) AS thefts,
            count(*) FILTER (NOT is_theft) AS false_alarms
        FROM evidence
        WHERE bits > 0 OR "action" IS NOT NULL
        GROUP BY detector, family
        ORDER BY thefts + false_alarms DESC, detector
        """,
        start=start,
        end=end,
    )
