"""A reviewed week, as an analyst asks about it: its cases, their evidence and new networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keywatch.errors import UsageError
from keywatch.explore.common import NEWEST_RUNS, Framed, evidence_of
from keywatch.explore.key import KeyView
from keywatch.lake import Lake, utc_now
from keywatch.model import Window
from keywatch.review import new_networks
from keywatch.text.phrases import count, iso_week, window_label

if TYPE_CHECKING:
    import pyarrow as pa

    from keywatch.explore.common import Frame

_MOST_SHOWN = 20


class WeekView:
    """A reviewed window and its latest run; see `keywatch.notebook.LakeView.week`."""

    def __init__(
        self,
        lake: Lake,
        frame: Framed,
        window: Window | None,
        folder: Path,
        key: Callable[[str, Window], KeyView],
    ) -> None:
        rows = lake.rows(
            f"SELECT window_start, window_end, run_id, coverage FROM ({NEWEST_RUNS}) "
            "WHERE $start::TIMESTAMP IS NULL OR (window_start = $start AND window_end = $end) "
            "ORDER BY window_start > $now, window_start DESC, window_end DESC LIMIT 1",
            start=window and window.start,
            end=window and window.end,
            now=utc_now(),
        )
        if not rows:
            what = (
                f"{window_label(window)} has not been reviewed"
                if window
                else "no week has been reviewed"
            )
            option = f" --week {iso_week(window)}" if window else ""
            raise UsageError(f"{folder}: {what}; run keywatch review{option}")
        start, end, self.run_id, coverage = rows[0]
        self.window = Window(start, end)
        self.coverage: Mapping[str, Any] = json.loads(coverage)
        """Counts of keys and events, and what could not be assessed."""
        self._frame = frame
        self._key = key
        self._cases = _cases(lake, self.run_id, self.window)
        self._evidence = evidence_of(lake, self.run_id, None)
        self._new_networks = new_networks.kept(lake, self.run_id)

    def __repr__(self) -> str:
        return f"<{window_label(self.window)}, run {self.run_id}>"

    def _repr_html_(self) -> str:
        from keywatch.report.html import render_card

        alerted = [case for case in self._cases.to_pylist() if case["action"] != "none"]
        in_use = self.coverage["keys"] - self.coverage["silent"]
        return render_card(
            "week",
            title=window_label(self.window),
            told=f"{count(len(alerted), 'key')} with an action, out of {in_use:,} in use.",
            cases=alerted[:_MOST_SHOWN],
            more=max(len(alerted) - _MOST_SHOWN, 0),
        )

    def cases(self) -> Frame:
        """Every key with evidence, the most suspicious first, as the last review made its case.

        Columns: key_id, name, owner, environment, action, bits, p_value, q_value, summary (with an
        action), verdict, judged_by, because; and, with an action, severity, confidence, story and
        done (the story in short). A verdict that was given since changes `verdict` at once, and
        `action` with the next review.
        """
        return self._frame(self._cases)

    def evidence(self) -> Frame:
        """The evidence of each detector by key, day and prefix; see `KeyView.evidence`."""
        return self._frame(self._evidence)

    def new_networks(self) -> Frame:
        """Networks that are new to a key, with or without an alert; those with an alert first.

        Columns as in `keywatch.model.NewNetwork` (class is its origin_class). Keys without history
        are left out; ``coverage["keys_without_past"]`` counts them.
        """
        return self._frame(self._new_networks)

    def key(self, key: str) -> KeyView:
        """One key in this window; see `LakeView.key`."""
        return self._key(key, self.window)


def _cases(lake: Lake, run_id: str, window: Window) -> pa.Table:
    return lake.table(
        """
        WITH verdicts AS (
            FROM verdicts_in_force() WHERE window_start = $start AND window_end = $end
        )

        SELECT c.key_id, i.name, i.owner, i.environment, c.action, c.bits, c.p_value, c.q_value,
            r.document ->> 'summary' AS summary, v.verdict, v.by_whom AS judged_by, v.because,
            r.document ->> 'severity' AS severity, r.document ->> 'confidence' AS confidence,
            r.document ->> 'story' AS story, r.document ->> 'done' AS done
        FROM lake.cases AS c
        LEFT JOIN inventory_in_force() AS i USING (key_id)
        LEFT JOIN lake.recommendations AS r ON r.run_id = c.run_id AND r.key_id = c.key_id
        LEFT JOIN verdicts AS v ON v.key_id = c.key_id
        WHERE c.run_id = $run_id
        ORDER BY c.bits DESC, c.key_id
        """,
        run_id=run_id,
        start=window.start,
        end=window.end,
    )
