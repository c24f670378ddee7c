"""An address, prefix or network, as an analyst asks about it: which keys were used from there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from keywatch.errors import UsageError
from keywatch.explore.common import (
    BY_ACTION,
    CHART_WIDTH,
    MOST_NAMED,
    NEWEST_RUNS,
    UNREVIEWED,
    WITH_CASE,
    Framed,
    altair_charts,
    card,
    is_reviewed,
)
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.report import drawn
from keywatch.review.history import BEFORE_AND_NOW, end_day
from keywatch.text.phrases import count, listed, named, window_label

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

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
        self._reviewed = is_reviewed(lake, window)
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
        return card(self.place, self.summary)

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
        of_owners = f" of {listed(owners, MOST_NAMED)}" if owners else ""
        new = sum(not key["known"] for key in now)
        used = (
            f"{count(len(now), 'key')}{of_owners} {named(len(now), 'was', 'were')} used from "
            f"{self.place}{where} in {label}, {new:,} of them for the first time."
        )
        labels = _labels(keys)
        advice = [
            f"{action} {listed((labels[key['key_id']] for key in found), MOST_NAMED)}"
            for action in ("revoke", "rotate", "investigate")
            if (found := [key for key in now if key["action"] == action and not _is_cleared(key)])
        ]
        calls = [row["endpoint"] for row in self._endpoints.to_pylist() if row["requests_now"]]
        called = f"{count(len(calls), 'endpoint')} {named(len(calls), 'was', 'were')} called: "
        called = f"{called}{listed(calls, MOST_NAMED)}."
        nothing = "None of them needs an action." if self._reviewed else UNREVIEWED
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
        plain = charts.timeline_chart(drawn_rows, week, CHART_WIDTH)
        chart: alt.LayerChart = charts.themed(plain, theme)
        return chart


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


def _worst_prefix(lake: Lake, window: Window) -> str:
    """The prefix of the window's most suspicious case, otherwise of its most requests."""
    worst: str | None = lake.value(
        f"""
        SELECT f.prefix
        FROM lake.flagged_visits AS f
        JOIN ({NEWEST_RUNS}) AS r USING (window_start, window_end)
        JOIN lake.cases AS c ON c.run_id = r.run_id AND c.key_id = f.key_id
        WHERE window_start = $start AND window_end = $end
        ORDER BY {BY_ACTION}, c.bits DESC, f.key_id, f.prefix
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
        {WITH_CASE.format(key="u.key_id")}
        ORDER BY u.flagged DESC, {BY_ACTION}, requests_now DESC, requests_before DESC, u.key_id
        """,
        start=window.start,
        end=window.end,
    )
