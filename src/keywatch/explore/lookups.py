"""What an analyst asks about more than one key: an address, a rule on networks, a month's verdicts.

    lake.address("45.153.78.0/24").summary   # which keys were used from there, and which are cases
    lake.rule("vpn", new=True).hits()        # the alerts of such a rule beside Keywatch's cases
    lake.lessons("2026-09").verdicts()       # what was decided, and what later reviews made of it

Each view was read from one snapshot and does not change. Text in tables is as it was logged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from keywatch.errors import UsageError
from keywatch.hints import did_you_mean, to_install
from keywatch.lake import Lake, utc_now
from keywatch.model import Window
from keywatch.report import drawn
from keywatch.review.history import BEFORE_AND_NOW, end_day
from keywatch.text.phrases import count, listed, named, window_label

if TYPE_CHECKING:
    from types import ModuleType

    import altair as alt
    import pyarrow as pa

Framed = Callable[["pa.Table"], Any]
"""Makes an Arrow table the kind of table that the caller asked for."""

CLASSES = ("hosting", "vpn", "proxy", "tor", "relay", "isp", "unknown")
"""The classes of networks that a rule can name."""

THEFT, FALSE_ALARM, CASE = "theft", "false alarm", "case, no verdict"
NO_CASE, NOT_REVIEWED = "no case", "not reviewed"
_COLORS = {
    THEFT: "#d1343f", CASE: "#d97d0d", FALSE_ALARM: "#5b84b1", NO_CASE: "#9db7d3",
    NOT_REVIEWED: "#a7adb8",
}  # fmt: skip
_OUTCOME = f"""
    CASE WHEN v.verdict = 'compromised' THEN '{THEFT}'
        WHEN v.verdict IS NOT NULL THEN '{FALSE_ALARM}'
        WHEN r.run_id IS NULL THEN '{NOT_REVIEWED}'
        WHEN c.action <> 'none' THEN '{CASE}'
        ELSE '{NO_CASE}' END"""
NEWEST_RUNS = """
    FROM lake.runs QUALIFY row_number() OVER (
        PARTITION BY window_start, window_end ORDER BY made_at DESC, run_id) = 1"""
"""The newest run of each window."""
_BY_ACTION = "list_position(['revoke', 'rotate', 'investigate', 'none'], c.action)"
UNREVIEWED = "The window has not been reviewed, so it has no cases yet."
_WITH_CASE = f"""
        LEFT JOIN inventory_in_force() AS i ON i.key_id = {{key}}
        LEFT JOIN ({NEWEST_RUNS}) AS r ON r.window_start = $start AND r.window_end = $end
        LEFT JOIN lake.cases AS c ON c.run_id = r.run_id AND c.key_id = {{key}}
        LEFT JOIN verdicts_in_force() AS v
            ON v.key_id = {{key}} AND v.window_start = $start AND v.window_end = $end
"""
"""What is known of a key in a window: its inventory, run, case and verdict; `key` names it."""
_CHART_WIDTH = 860
_MOST_NAMED = 3
_MOST_DRAWN = 8
_AS_NUMBER = re.compile(r"AS\d{1,10}", re.ASCII)


class AddressView:
    """An address, prefix or network in a window and the baseline before it.

    See `keywatch.notebook.LakeView.address`.
    """

    def __init__(
        self, lake: Lake, frame: Framed, place: str | None, window: Window, baseline_days: int
    ) -> None:
        self.window = window
        self.place = _worst_prefix(lake, window) if place is None else _named(place)
        """The address, prefix or network, as it was asked for."""
        self._frame = frame
        self._baseline_days = baseline_days
        _name_addresses(lake, self.place)
        lake.execute(
            """
            CREATE OR REPLACE TEMP TABLE looked_up AS
            WITH places AS (
                SELECT address, prefix, class,
                    place_of(class, asn, organization, country, located) AS origin
                FROM known_places(among := getvariable('looked_up_addresses'))
            ),

            flags AS (
                SELECT DISTINCT key_id, day, prefix FROM lake.flagged_visits
                WHERE window_start < $end
            )

            SELECT a.key_id, a.day, p.origin, p.class, a.endpoint, a.agent,
                a.day >= $start AS in_window, f.key_id IS NOT NULL AS flagged,
                a.events AS requests,
                CASE WHEN is_denied(a.status_class) THEN a.events ELSE 0 END AS refused,
                a.first_ts, a.last_ts
            FROM lake.activity AS a
            JOIN places AS p USING (address)
            LEFT JOIN flags AS f
                ON f.key_id = a.key_id AND f.day = a.day AND f.prefix = p.prefix
            WHERE a.day >= $first AND a.day < $end
            """,
            first=window.start.date() - timedelta(days=baseline_days),
            start=window.start.date(),
            end=end_day(window),
        )
        self.addresses: int = lake.value("SELECT len(getvariable('looked_up_addresses'))")
        """How many addresses of the lake it names, used in the window or not."""
        self._is_reviewed = _is_reviewed(lake, window)
        self._keys = _keys_there(lake, window)
        self._endpoints = lake.table(
            f"""
            SELECT endpoint, count(DISTINCT key_id) FILTER (in_window) AS keys_now, {BEFORE_AND_NOW}
            FROM looked_up
            GROUP BY endpoint
            ORDER BY requests_now DESC, requests_before DESC, endpoint
            """
        )
        self._timeline = lake.table(
            """
            SELECT day, key_id, sum(requests)::BIGINT AS requests, sum(refused)::BIGINT AS refused,
                in_window AS now,
                bool_or(bool_or(NOT in_window AND NOT flagged))
                    OVER (PARTITION BY key_id) AS known,
                bool_or(flagged) AS flagged
            FROM looked_up
            GROUP BY day, key_id, in_window
            ORDER BY day, key_id
            """
        )
        self._origins: list[str] = [
            f"{origin}, {kind}"
            for origin, kind in lake.rows(
                "SELECT origin, class FROM looked_up GROUP BY ALL "
                "ORDER BY sum(requests) DESC, origin, class"
            )
        ]

    def __repr__(self) -> str:
        return f"<address {self.place!r}, {window_label(self.window)}>"

    def _repr_html_(self) -> str:
        return _card(self.place, self.summary)

    @property
    def summary(self) -> str:
        """Which keys were used from there in the window, and which of them are cases."""
        keys = self._keys.to_pylist()
        now = [key for key in keys if key["requests_now"]]
        where = f" ({listed(self._origins, 1)})" if self._origins else ""
        label = window_label(self.window)
        if not now:
            before = f"; {count(len(keys), 'key')} in the {self._baseline_days} days before"
            return f"No key was used from {self.place}{where} in {label}{before if keys else ''}."
        owners = sorted({key["owner"] for key in now if key["owner"]})
        of_owners = f" of {listed(owners, _MOST_NAMED)}" if owners else ""
        new = sum(not key["known"] for key in now)
        used = (
            f"{count(len(now), 'key')}{of_owners} {named(len(now), 'was', 'were')} used from "
            f"{self.place}{where} in {label}, {new:,} of them for the first time."
        )
        labels = _labels(keys)
        advice = [
            f"{action} {listed((labels[key['key_id']] for key in found), _MOST_NAMED)}"
            for action in ("revoke", "rotate", "investigate")
            if (found := [key for key in now if key["action"] == action and not _is_cleared(key)])
        ]
        calls = [row["endpoint"] for row in self._endpoints.to_pylist() if row["requests_now"]]
        called = f"{count(len(calls), 'endpoint')} {named(len(calls), 'was', 'were')} called: "
        called = f"{called}{listed(calls, _MOST_NAMED)}."
        nothing = "None of them needs an action." if self._is_reviewed else UNREVIEWED
        return f"{used} {_sentence(advice) or nothing} {called}"

    def keys(self) -> Any:
        """The keys that were used from there, suspicious use first.

        Columns: key_id, name, owner, action and bits of the window's case (null: no case), verdict,
        known (used from there before), flagged (suspicious there), agents (clients in the window),
        requests_before, days_before, requests_now, days_now, refused_now, first_seen, last_seen
        (UTC).
        """
        return self._frame(self._keys)

    def endpoints(self) -> Any:
        """What was called from there, the most called first.

        Columns: endpoint, keys_now, requests_before, days_before, requests_now, days_now,
        refused_now.
        """
        return self._frame(self._endpoints)

    def timeline(self) -> Any:
        """Requests from there by day and key.

        Columns: day, key_id, requests, refused, now (in the window), known (used from there
        before), flagged.
        """
        return self._frame(self._timeline)

    def timeline_chart(self, theme: str = "light") -> alt.LayerChart:
        """Requests from there by day and key; the window is shaded."""
        charts = altair_charts()
        labels = _labels(self._keys.to_pylist())
        rows = [row | {"origin": labels[row["key_id"]]} for row in self._timeline.to_pylist()]
        drawn_rows = charts.inline(drawn.timeline_rows(rows, "other keys"))
        week = charts.inline([drawn.week_row(self.window)])
        plain = charts.timeline_chart(drawn_rows, week, _CHART_WIDTH)
        chart: alt.LayerChart = charts.themed(plain, theme)
        return chart


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
        self._is_reviewed = _is_reviewed(lake, window)
        self._hits = _hits(lake, window, rule.new)
        self._missed = _missed(lake, window, self._hits["key_id"].to_pylist())
        self._weeks = _hits_by_week(lake, rule.new)
        self.keys_in_use: int = lake.value(
            "SELECT count(DISTINCT key_id) FROM lake.activity WHERE day >= $start AND day < $end",
            start=window.start.date(),
            end=end_day(window),
        )
        """How many keys were used in the window."""

    def __repr__(self) -> str:
        return f"<rule on {self.rule}, {window_label(self.window)}>"

    def _repr_html_(self) -> str:
        return _card(f"A rule on {self.rule}", self.summary)

    @property
    def summary(self) -> str:
        """How many keys the rule hits, how many of them are cases, and what it misses."""
        hits, missed = self._hits.to_pylist(), self._missed.num_rows
        outcomes = self._hits["outcome"].to_pylist()
        told = (
            f"A rule on {self.rule} would alert on {count(len(hits), 'key')} out of "
            f"{self.keys_in_use:,} in use in {window_label(self.window)}."
        )
        if not self._is_reviewed:
            return f"{told} {UNREVIEWED}"
        cases = sum(hit["action"] not in (None, "none") for hit in hits)
        told += (
            f" Keywatch has {count(cases, 'case')} among them, and {count(missed, 'case')} that "
            f"the rule would miss; {count(outcomes.count(NO_CASE), 'hit')} would be "
            f"{named(outcomes.count(NO_CASE), 'a false alarm', 'false alarms')} unless Keywatch "
            "missed a theft."
        )
        thefts, wrong = outcomes.count(THEFT), outcomes.count(FALSE_ALARM)
        if thefts + wrong:
            told += (
                f" By verdict, {count(thefts, 'hit')} {named(thefts, 'is a theft', 'are thefts')} "
                f"and {wrong:,} {named(wrong, 'is a false alarm', 'are false alarms')}."
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
        return _counts_chart(rows, _COLORS, "keys hit", theme, by_time=True)


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
        return _card(f"Verdicts of {self.month}", self.summary)

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
            told += f" Evidence in false alarms only: {listed(useless, _MOST_NAMED)}."
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
        kinds = {kind: _COLORS[kind] for kind in (THEFT, FALSE_ALARM)}
        return _counts_chart(rows, kinds, "cases with this evidence", theme)


def _is_reviewed(lake: Lake, window: Window) -> bool:
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


def _counts_chart(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, str],
    title: str,
    theme: str,
    *,
    by_time: bool = False,
) -> alt.LayerChart:
    charts = altair_charts()
    shown = {row["kind"] for row in rows}
    colors = {kind: color for kind, color in kinds.items() if kind in shown}
    inline = charts.inline(drawn.count_rows(rows))
    plain = charts.counts_chart(inline, colors, title, _CHART_WIDTH, by_time=by_time)
    chart: alt.LayerChart = charts.themed(plain, theme)
    return chart


def _card(title: str, summary: str) -> str:
    from keywatch.report.html import render_card

    return render_card("summary", title=title, summary=summary)


def _labels(keys: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The name of each key, by its id; with the id where several keys have that name."""
    names = Counter(key["name"] for key in keys)
    return {
        key["key_id"]: f"{name} ({key['key_id']})" if names[name] > 1 else name
        for key in keys
        for name in [key["name"] or key["key_id"]]
    }


def _is_cleared(key: Mapping[str, Any]) -> bool:
    return key["verdict"] in ("benign", "expected")


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _texts(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _month(month: str) -> tuple[datetime, datetime]:
    try:
        start = datetime.fromisoformat(f"{month}-01")
        return start, (start + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        raise UsageError(f"{month!r} is not a month; use YYYY-MM, such as 2026-09") from None


def _worst_prefix(lake: Lake, window: Window) -> str:
    """The prefix of the window's most suspicious case, otherwise of its most requests."""
    worst: str | None = lake.value(
        f"""
        SELECT f.prefix
        FROM lake.flagged_visits AS f
        JOIN ({NEWEST_RUNS}) AS r USING (window_start, window_end)
        JOIN lake.cases AS c ON c.run_id = r.run_id AND c.key_id = f.key_id
        WHERE window_start = $start AND window_end = $end
        ORDER BY {_BY_ACTION}, c.bits DESC, f.key_id, f.prefix
        LIMIT 1
        """,
        start=window.start,
        end=window.end,
    )
    busiest: str | None = worst or lake.value(
        """
        SELECT p.prefix
        FROM lake.activity AS a
        JOIN known_places() AS p USING (address)
        WHERE a.day >= $start AND a.day < $end
        GROUP BY p.prefix
        ORDER BY sum(a.events) DESC, p.prefix
        LIMIT 1
        """,
        start=window.start.date(),
        end=end_day(window),
    )
    if busiest is None:
        raise UsageError(f"no key was used in {window_label(window)}; name an address")
    return busiest


def _named(place: str) -> str:
    place = place.strip()
    return place.upper() if _AS_NUMBER.fullmatch(place.upper()) else place


def _name_addresses(lake: Lake, place: str) -> None:
    """Set the variable `looked_up_addresses`: the addresses, as logged, that `place` names."""
    lake.execute(
        "SET VARIABLE looked_up_addresses = (SELECT coalesce(list(address ORDER BY address), []) "
        "FROM known_places() WHERE $place IN (address, ip, prefix, network))",
        place=place,
    )
    if lake.value("SELECT len(getvariable('looked_up_addresses'))"):
        return
    if _AS_NUMBER.fullmatch(place):
        return
    try:
        asked = ip_network(place, strict=False)
    except ValueError:
        raise UsageError(
            f"no address {place!r} in the lake; use an address, a prefix such as 192.0.2.0/24, or "
            "a network such as AS64496"
        ) from None
    known = lake.rows(
        "SELECT address, ip FROM known_places() WHERE class NOT IN ('service', 'none', 'invalid') "
        "ORDER BY address"
    )
    found = [address for address, ip in known if ip_address(ip) in asked]
    lake.execute("SET VARIABLE looked_up_addresses = $found::VARCHAR[]", found=found)


def _keys_there(lake: Lake, window: Window) -> pa.Table:
    return lake.table(
        f"""
        WITH used AS (
            SELECT key_id, bool_or(NOT in_window AND NOT flagged) AS known,
                bool_or(flagged AND in_window) AS flagged,
                coalesce(list(DISTINCT agent ORDER BY agent) FILTER (in_window), []) AS agents,
                {BEFORE_AND_NOW}, min(first_ts) AS first_seen, max(last_ts) AS last_seen
            FROM looked_up
            GROUP BY key_id
        )

        SELECT u.key_id, i.name, i.owner, c.action, c.bits, v.verdict, u.* EXCLUDE (key_id)
        FROM used AS u
        {_WITH_CASE.format(key="u.key_id")}
        ORDER BY u.flagged DESC, {_BY_ACTION}, requests_now DESC, requests_before DESC, u.key_id
        """,
        start=window.start,
        end=window.end,
    )


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
        {_WITH_CASE.format(key="h.key_id")}
        ORDER BY {_BY_ACTION}, c.bits DESC NULLS LAST, requests DESC, h.key_id
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
        {_WITH_CASE.format(key="n.key_id")}
        WHERE n.run_id = r.run_id AND c.action <> 'none'
            AND NOT list_contains($hit::VARCHAR[], n.key_id)
        ORDER BY {_BY_ACTION}, c.bits DESC, n.key_id
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
