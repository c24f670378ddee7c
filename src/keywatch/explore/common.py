"""What the views of `keywatch.open` share: cases and verdicts of keys in SQL, charts and cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from keywatch.errors import UsageError
from keywatch.hints import to_install
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.report import drawn

if TYPE_CHECKING:
    from types import ModuleType

    import altair as alt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    Frame: TypeAlias = "pd.DataFrame | pa.Table | pl.DataFrame"

Framed = Callable[["pa.Table"], "Frame"]
"""Makes an Arrow table the kind of table that the caller asked for."""

THEFT, FALSE_ALARM = "theft", "false alarm"
"""What a verdict says of a case."""
VERDICT_COLORS = {THEFT: "#d1343f", FALSE_ALARM: "#5b84b1"}

UNREVIEWED = "The window has not been reviewed, so it has no cases yet."
CHART_WIDTH = 860
MOST_NAMED = 3

NEWEST_RUNS = """
    FROM lake.runs QUALIFY row_number() OVER (
        PARTITION BY window_start, window_end ORDER BY made_at DESC, run_id) = 1"""
"""The newest run of each window."""
WITH_CASE = f"""
        LEFT JOIN inventory_in_force() AS i ON i.key_id = {{key}}
        LEFT JOIN ({NEWEST_RUNS}) AS r ON r.window_start = $start AND r.window_end = $end
        LEFT JOIN lake.cases AS c ON c.run_id = r.run_id AND c.key_id = {{key}}
        LEFT JOIN verdicts_in_force() AS v
            ON v.key_id = {{key}} AND v.window_start = $start AND v.window_end = $end
"""
"""What is known of a key in a window: its inventory, run, case and verdict; `key` names it."""
BY_ACTION = "list_position(['revoke', 'rotate', 'investigate', 'none'], c.action)"
"""The order of cases, the most urgent first."""


def is_reviewed(lake: Lake, window: Window) -> bool:
    """Whether a review of exactly this window is stored."""
    found: bool = lake.value(
        "SELECT count(*) > 0 FROM lake.runs WHERE window_start = $start AND window_end = $end",
        start=window.start,
        end=window.end,
    )
    return found


def altair_charts() -> ModuleType:
    """`keywatch.report.charts`, whose library only notebooks and the triage page have."""
    try:
        from keywatch.report import charts
    except ModuleNotFoundError as e:
        raise UsageError(f"charts need {e.name}: {to_install('notebooks')}") from e
    return charts


def counts_chart(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, str],
    title: str,
    theme: str,
    *,
    times: Sequence[str] | None = None,
) -> alt.LayerChart:
    """Bars of counts, of rows with name, kind and count; the rest as of `charts.counts_chart`."""
    charts = altair_charts()
    rows = rows or [{"name": "none", "kind": next(iter(kinds)), "count": 0}]  # a chart has a size
    shown = {row["kind"] for row in rows}
    colors = {kind: color for kind, color in kinds.items() if kind in shown}
    inline = charts.inline(drawn.count_rows(rows))
    plain = charts.counts_chart(inline, colors, title, CHART_WIDTH, times=times)
    chart: alt.LayerChart = charts.themed(plain, theme)
    return chart


def rows_of(table: object) -> list[dict[str, Any]]:
    """The rows of a view's table that was asked for as an Arrow table."""
    import pyarrow as pa

    assert isinstance(table, pa.Table)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def card(title: str, summary: str) -> str:
    """What a notebook shows of a view: HTML, in which text of a log is only text."""
    from keywatch.report.html import render_card

    return render_card("summary", title=title, summary=summary)


def evidence_of(lake: Lake, run_id: str | None, key_id: str | None) -> pa.Table:
    """The evidence of a run, of one key or of all, the most that counts first.

    What counts is in the documents of the run's recommendations.
    """
    return lake.table(
        """
        WITH counted AS (
            SELECT key_id, unnest(from_json(document -> 'evidence', '[{"detector": "VARCHAR",
                "bits": "DOUBLE", "actual": "VARCHAR", "explanation": "VARCHAR",
                "status": "VARCHAR", "action": "VARCHAR"}]'),
                recursive := true)
            FROM lake.recommendations
            WHERE run_id = $run_id AND ($key_id::VARCHAR IS NULL OR key_id = $key_id)
        ),

        -- Visits of which a detector says the same are told apart by how much it says.
        said AS (
            SELECT *, row_number() OVER (PARTITION BY key_id, detector, actual, explanation
                ORDER BY bits DESC, day, prefix) = 1 AS is_first
            FROM lake.evidence
            WHERE run_id = $run_id AND ($key_id::VARCHAR IS NULL OR key_id = $key_id)
        )

        SELECT s.key_id, s.day, s.prefix, s.detector, s.family, s.bits,
            CASE WHEN s.is_first THEN c.bits END AS counted_bits,
            c.status, c.action, s.typical, s.actual, s.explanation
        FROM said AS s
        LEFT JOIN counted AS c ON c.key_id = s.key_id AND c.detector = s.detector
            AND c.actual = s.actual AND c.explanation = s.explanation
        ORDER BY counted_bits DESC NULLS LAST, s.bits DESC, s.key_id, s.detector, s.day, s.prefix
        """,
        run_id=run_id,
        key_id=key_id,
    )
