"""A rule on networks beside Keywatch: which keys it would alert on, which cases it would miss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from keywatch.errors import UsageError
from keywatch.explore.common import (
    BY_ACTION,
    FALSE_ALARM,
    NEWEST_RUNS,
    THEFT,
    UNREVIEWED,
    VERDICT_COLORS,
    WITH_CASE,
    Framed,
    card,
    counts_chart,
    is_reviewed,
)
from keywatch.hints import did_you_mean
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.review.history import end_day
from keywatch.text.phrases import count, named, window_label

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

CLASSES = ("hosting", "vpn", "proxy", "tor", "relay", "isp", "unknown")
"""The classes of networks that a rule can name."""

CASE, NO_CASE, NOT_REVIEWED = "case, no verdict", "no case", "not reviewed"
_COLORS = {
    THEFT: VERDICT_COLORS[THEFT], CASE: "#d97d0d", FALSE_ALARM: VERDICT_COLORS[FALSE_ALARM],
    NO_CASE: "#9db7d3", NOT_REVIEWED: "#a7adb8",
}  # fmt: skip
_OUTCOME = f"""
    CASE WHEN v.verdict = 'compromised' THEN '{THEFT}'
        WHEN v.verdict IS NOT NULL THEN '{FALSE_ALARM}'
        WHEN r.run_id IS NULL THEN '{NOT_REVIEWED}'
        WHEN c.action <> 'none' THEN '{CASE}'
        ELSE '{NO_CASE}' END"""


@dataclass(frozen=True)
class Rule:
    """A rule on networks: it hits a request whose origin is in each list that is not empty.

    With `new`, only in networks (AS numbers) that the key had never used before.
    """

    classes: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    new: bool = False

    @classmethod
    def of(
        cls,
        classes: str | Iterable[str],
        countries: str | Iterable[str],
        networks: str | Iterable[str],
        new: bool,
    ) -> Rule:
        """The rule, checked; one text is a list of one.

        Raises:
            UsageError: all lists are empty, or a class does not exist.
        """
        rule = cls(_texts(classes), _texts(countries), _texts(networks), new)
        if not (rule.classes or rule.countries or rule.networks):
            raise UsageError("a rule needs classes, countries or networks")
        for unknown in set(rule.classes) - set(CLASSES):
            raise UsageError(
                f"unknown class {unknown!r}; available: {', '.join(CLASSES)}"
                f"{did_you_mean(unknown, CLASSES)}"
            )
        return rule

    def __str__(self) -> str:
        parts = [
            f"class {' or '.join(self.classes)}" if self.classes else "",
            f"country {' or '.join(self.countries)}" if self.countries else "",
            f"network {' or '.join(self.networks)}" if self.networks else "",
            "new to the key" if self.new else "",
        ]
        return f"networks ({'; '.join(part for part in parts if part)})"


class RuleView:
    """The alerts of a rule on networks beside Keywatch's cases; see `LakeView.rule`."""

    def __init__(
        self, lake: Lake, frame: Framed, rule: Rule, window: Window, baseline_days: int
    ) -> None:
        self.rule = rule
        self.window = window
        self._frame = frame
        asked = {
            "classes": list(rule.classes), "countries": list(rule.countries),
            "networks": list(rule.networks), "new": rule.new,
            "first": window.start.date() - timedelta(days=baseline_days),
            "end": end_day(window),
        }  # fmt: skip
        lake.execute(
            """
            CREATE OR REPLACE TEMP TABLE rule_visits AS
            WITH visits AS (
                SELECT a.key_id, a.day, p.network, p.class, p.country,
                    place_of(p.class, p.asn, p.organization, p.country, p.located) AS origin,
                    sum(a.events)::BIGINT AS requests,
                    min(a.first_ts) AS first_ts, max(a.last_ts) AS last_ts
                FROM lake.activity AS a
                JOIN known_places() AS p USING (address)
                WHERE a.day < $end
                GROUP BY ALL
            )

            FROM (
                SELECT *, min(day) OVER (PARTITION BY key_id, network) AS network_since FROM visits
            )
            WHERE day >= $first
                AND (len($classes::VARCHAR[]) = 0 OR list_contains($classes::VARCHAR[], class))
                AND (len($countries::VARCHAR[]) = 0
                    OR list_contains($countries::VARCHAR[], country))
                AND (len($networks::VARCHAR[]) = 0 OR list_contains($networks::VARCHAR[], network))
            """,
            **{name: value for name, value in asked.items() if name != "new"},
        )
        self._reviewed = is_reviewed(lake, window)
        self._hits = _hits(lake, window, rule.new)
        self._missed = _missed(lake, window, self._hits["key_id"].to_pylist())
        self._weeks = _hits_by_week(lake, rule.new)
        self._named_weeks = [
            week
            for (week,) in lake.rows(
                "SELECT DISTINCT strftime(day, '%G-W%V') AS week FROM lake.activity "
                "WHERE day >= $first AND day < $end ORDER BY week",
                first=asked["first"],
                end=asked["end"],
            )
        ]
        self.keys_in_use: int = lake.value(
            "SELECT count(DISTINCT key_id) FROM lake.activity WHERE day >= $start AND day < $end",
            start=window.start.date(),
            end=end_day(window),
        )
        """How many keys were used in the window."""

    def __repr__(self) -> str:
        return f"<rule on {self.rule}, {window_label(self.window)}>"

    def _repr_html_(self) -> str:
        return card(f"A rule on {self.rule}", self.summary)

    @property
    def summary(self) -> str:
        """How many keys the rule hits, how many of them are cases, and what it misses."""
        hits, missed = self._hits.to_pylist(), self._missed.num_rows
        outcomes = self._hits["outcome"].to_pylist()
        told = (
            f"A rule on {self.rule} would alert on {count(len(hits), 'key')} out of "
            f"{self.keys_in_use:,} in use in {window_label(self.window)}."
        )
        if not self._reviewed:
            return f"{told} {UNREVIEWED}"
        cases = sum(hit["action"] not in (None, "none") for hit in hits)
        told += (
            f" {cases:,} of these {named(cases, 'has', 'have')} a case, for this use or another, "
            f"and the rule would miss {count(missed, 'case')}; "
            f"{count(outcomes.count(NO_CASE), 'hit')} without a case would be "
            f"{named(outcomes.count(NO_CASE), 'a false alarm', 'false alarms')} unless Keywatch "
            "missed a theft."
        )
        thefts, wrong = outcomes.count(THEFT), outcomes.count(FALSE_ALARM)
        if thefts + wrong:
            told += (
                f" By the verdicts given, {count(thefts, 'hit')} "
                f"{named(thefts, 'is a theft', 'are thefts')} and {wrong:,} "
                f"{named(wrong, 'is a false alarm', 'are false alarms')}."
            )
        return told

    def hits(self) -> Any:
        """The keys that the rule would alert on, Keywatch's cases first.

        Columns: key_id, name, owner, outcome (theft or false alarm: by verdict; case, no verdict;
        no case; not reviewed), action and bits of the case (null: no case), verdict, networks,
        new (a network that the key had never used), requests, days, first_seen, last_seen (UTC).
        """
        return self._frame(self._hits)

    def missed(self) -> Any:
        """Keywatch's cases with an action that the rule does not hit, the most suspicious first.

        Columns: key_id, name, owner, outcome, action, bits, verdict, summary.
        """
        return self._frame(self._missed)

    def by_week(self) -> Any:
        """Hits in each ISO week of the baseline and the window: week, outcome, keys."""
        return self._frame(self._weeks)

    def week_chart(self, theme: str = "light") -> alt.LayerChart:
        """Hits by week, with their outcomes."""
        rows = [
            {"name": row["week"], "kind": row["outcome"], "count": row["keys"]}
            for row in self._weeks.to_pylist()
        ]
        return counts_chart(rows, _COLORS, "keys hit", theme, times=self._named_weeks)


def _texts(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _hits(lake: Lake, window: Window, new: bool) -> pa.Table:
    return lake.table(
        f"""
        WITH hit AS (
            SELECT key_id, list(DISTINCT origin ORDER BY origin) AS networks,
                bool_or(network_since >= $start::DATE) AS new, sum(requests)::BIGINT AS requests,
                count(DISTINCT day) AS days, min(first_ts) AS first_seen, max(last_ts) AS last_seen
            FROM rule_visits
            WHERE day >= $start::DATE AND (NOT $new OR network_since >= $start::DATE)
            GROUP BY key_id
        )

        SELECT h.key_id, i.name, i.owner, {_OUTCOME} AS outcome, c.action, c.bits, v.verdict,
            h.* EXCLUDE (key_id)
        FROM hit AS h
        {WITH_CASE.format(key="h.key_id")}
        ORDER BY {BY_ACTION}, c.bits DESC NULLS LAST, requests DESC, h.key_id
        """,
        start=window.start,
        end=window.end,
        new=new,
    )


def _missed(lake: Lake, window: Window, hit: Sequence[str]) -> pa.Table:
    return lake.table(
        f"""
        SELECT n.key_id, i.name, i.owner, {_OUTCOME} AS outcome, c.action, c.bits, v.verdict,
            n.document ->> 'summary' AS summary
        FROM lake.recommendations AS n
        {WITH_CASE.format(key="n.key_id")}
        WHERE n.run_id = r.run_id AND c.action <> 'none'
            AND NOT list_contains($hit::VARCHAR[], n.key_id)
        ORDER BY {BY_ACTION}, c.bits DESC, n.key_id
        """,
        start=window.start,
        end=window.end,
        hit=list(hit),
    )


def _hits_by_week(lake: Lake, new: bool) -> pa.Table:
    return lake.table(
        f"""
        WITH hit AS (
            SELECT DISTINCT key_id, date_trunc('week', day)::DATE AS monday
            FROM rule_visits
            WHERE NOT $new OR network_since >= date_trunc('week', day)::DATE
        )

        SELECT strftime(h.monday, '%G-W%V') AS week, {_OUTCOME} AS outcome, count(*) AS "keys"
        FROM hit AS h
        LEFT JOIN ({NEWEST_RUNS}) AS r
            ON r.window_start = h.monday AND r.window_end = h.monday + INTERVAL 7 DAY
        LEFT JOIN lake.cases AS c ON c.run_id = r.run_id AND c.key_id = h.key_id
        LEFT JOIN verdicts_in_force() AS v
            ON v.key_id = h.key_id AND v.window_start = r.window_start
            AND v.window_end = r.window_end
        GROUP BY ALL
        ORDER BY week, outcome
        """,
        new=new,
    )
