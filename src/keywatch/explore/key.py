"""A key, as an analyst asks about it: who used it, from where and for what, before and now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from keywatch.errors import UsageError
from keywatch.explore.common import NEWEST_RUNS, UNREVIEWED, Framed, altair_charts, evidence_of
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.report import drawn
from keywatch.review import history, questions
from keywatch.review.verdict_visits import the_one
from keywatch.text.phrases import count, duration, listed, window_label

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

    from keywatch.explore.common import Frame

_TIMELINE_WIDTH, _MAP_WIDTH, _ENDPOINTS_WIDTH = 640, 520, 420


class KeyView:
    """One key in a window and in the baseline before it; see `keywatch.notebook.LakeView.key`.

    Tables are those of `keywatch.review.history.History`, for this key.
    """

    def __init__(
        self,
        lake: Lake,
        frame: Framed,
        query: Callable[..., Frame],
        key_id: str,
        window: Window,
        baseline_days: int,
    ) -> None:
        self.key_id = key_id
        self.window = window
        self._framed = frame
        self._query = query
        past = history.History(lake, [key_id], window, baseline_days)
        self.first_day = past.first_day
        self._tables = {
            "users": past.users(),
            "timeline": past.timeline(),
            "network": past.origins("network"),
            "address": past.origins("address"),
            "endpoints": past.endpoints(),
            "agents": past.agents(),
            "sequence": past.sequence(),
            "neighbours": past.neighbours(),
            "verdicts": _verdicts(lake, key_id),
        }
        self.facts = history.shown_keys(lake, [key_id])[key_id]
        """The key's inventory entry, and the first and last day of its use."""
        self.asked = questions.asked_in(lake, window).get(key_id, ())
        """The owners who were asked about alerts of the window, and their answers."""
        run_id, document = _document(lake, key_id, window)
        self.case: Mapping[str, Any] | None = document
        """The case as in the review's JSON; None unless the latest run recommends an action."""
        self._is_reviewed = run_id is not None
        self._tables["evidence"] = evidence_of(lake, run_id, key_id)

    def __repr__(self) -> str:
        return f"<key {self.key_id!r}, {window_label(self.window)}>"

    def _repr_html_(self) -> str:
        from keywatch.report.html import render_card

        key, case = self.facts, self.case or {}
        age = f"{duration((self.window.end - key.created_at).days)} old" if key.created_at else ""
        scopes = "unknown" if key.scopes is None else ", ".join(key.scopes) or "none"
        facts = [
            self.key_id, key.owner or "owner unknown", key.environment or "", age,
            f"scopes: {scopes}", f"seen {key.first_day} to {key.last_day}",
        ]  # fmt: skip
        return render_card(
            "key",
            title=key.name or self.key_id,
            summary=self.summary,
            facts=[fact for fact in facts if fact],
            steps=case.get("steps", []),
        )

    @property
    def summary(self) -> str:
        """Who used the key in the window: suspicious, new and usual networks, and what to do."""
        name, label = self.facts.name or self.key_id, window_label(self.window)
        users = self._tables["users"].to_pylist()
        if not users:
            return f"{name} was not used in {label}."
        told = f"{name} was used from {count(len(users), 'network')} in {label}."
        for kind in reversed(drawn.KINDS):
            found = [user for user in users if user["kind"] == kind]
            agents = sorted({agent for user in found for agent in user["agents"]})
            requests = sum(user["requests_now"] for user in found)
            if found:
                told += (
                    f" {kind.capitalize()}: {listed((user['origin'] for user in found), 3)} "
                    f"({count(requests, 'request')} by {listed(agents, 3)})."
                )
        case = self.case
        if not self._is_reviewed:
            told += f" {UNREVIEWED}"
        elif case is None:
            told += " No action is recommended."
        else:
            told += f" Action: {case['action']}, {case['bits']:.1f} bits: {case['summary']}."
        for given in self._tables["verdicts"].to_pylist():
            if given["in_force"] and given["window_start"] == self.window.start:
                told += f" Verdict: {given['verdict']}, {given['judged_by']}: {given['because']}."
        return told

    def _frame(self, name: str) -> Frame:
        return self._framed(self._tables[name])

    def users(self) -> Frame:
        """Networks from which the key was used in the window, and its clients there.

        Suspicious networks are first, then new ones. Columns: key_id, kind (suspicious, new,
        usual), origin, class, country, agents, addresses, requests_before, days_before,
        requests_now, days_now, refused_now, first_seen, last_seen (UTC, in the window).
        """
        return self._frame("users")

    def timeline(self) -> Frame:
        """Requests by day and network."""
        return self._frame("timeline")

    def origins(self, grain: Literal["network", "address"] = "network") -> Frame:
        """Networks (or addresses) from which the key was used, before and now."""
        if grain not in ("network", "address"):
            raise UsageError(f"grain={grain!r}: available: network and address")
        return self._frame(grain)

    def endpoints(self) -> Frame:
        """Endpoints that the key called, before and now, with the scope that each needs."""
        return self._frame("endpoints")

    def agents(self) -> Frame:
        """Clients that used the key, before and now."""
        return self._frame("agents")

    def sequence(self) -> Frame:
        """Steps from one endpoint to the next, before and now."""
        return self._frame("sequence")

    def neighbours(self) -> Frame:
        """Other keys used from the same addresses in the window; suspicious addresses first."""
        return self._frame("neighbours")

    def evidence(self) -> Frame:
        """The evidence of each detector, the most bits first.

        Columns: key_id, day, prefix (null: of the key), detector, family, bits (the detector's
        own), counted_bits (its part of the case's bits; null if not counted), status (test: shown,
        not counted), action (that of a fact), typical, actual, explanation.
        """
        return self._frame("evidence")

    def verdicts(self) -> Frame:
        """Every verdict on the key, latest first: author, reason, window and what it is about."""
        return self._frame("verdicts")

    def events(self, limit: int = 1_000) -> Frame:
        """The first `limit` requests of the window, as logged."""
        return self._query(
            "SELECT ts, address, method, path, endpoint, status, user_agent, response_bytes, "
            "duration_ms, request_id FROM lake.events "
            "WHERE $key_id IN (key_id, principal) AND day >= $start::DATE "
            "AND ts >= $start AND ts < $end ORDER BY ts, request_id LIMIT $limit",
            key_id=self.key_id,
            start=self.window.start,
            end=self.window.end,
            limit=limit,
        )

    def timeline_chart(self, theme: str = "light") -> alt.LayerChart:
        """Requests by day and network, as in the report."""
        charts = altair_charts()
        rows = drawn.timeline_rows(self._tables["timeline"].to_pylist())
        week = [drawn.week_row(self.window)]
        plain = charts.timeline_chart(charts.inline(rows), charts.inline(week), _TIMELINE_WIDTH)
        chart: alt.LayerChart = charts.themed(plain, theme)
        return chart

    def map(self, theme: str = "light") -> alt.LayerChart:
        """The map of the origins of requests, as in the report."""
        charts = altair_charts()
        rows = drawn.map_rows(self._tables["network"].to_pylist())
        plain = charts.map_chart(charts.inline(rows), width=_MAP_WIDTH)
        chart: alt.LayerChart = charts.themed(plain, theme)
        return chart

    def endpoint_chart(self, theme: str = "light") -> alt.LayerChart:
        """Requests per day by endpoint, before and now, as in the report."""
        charts = altair_charts()
        rows = drawn.endpoint_rows(self._tables["endpoints"].to_pylist())
        plain = charts.endpoint_chart(charts.inline(rows), _ENDPOINTS_WIDTH)
        chart: alt.LayerChart = charts.themed(plain, theme)
        return chart


def key_id_of(lake: Lake, key: str) -> str:
    """The id of the key that is named by its id, masked form or name.

    Raises:
        UsageError: no key, or several keys, have this name.
    """
    found = [
        key_id
        for (key_id,) in lake.rows(
            'SELECT key_id FROM inventory_in_force() WHERE $key IN (key_id, "key", name) '
            "UNION SELECT key_id FROM lake.activity WHERE key_id = $key ORDER BY key_id",
            key=key,
        )
    ]
    if not found:
        raise UsageError(f"no key {key!r} in the lake; use its key_id, masked form or name")
    return the_one(key, found)


def _document(
    lake: Lake, key_id: str, window: Window
) -> tuple[str | None, Mapping[str, Any] | None]:
    """The newest run of the window, and what it has to say of the key where an action is due."""
    run_id = lake.value(
        f"SELECT run_id FROM ({NEWEST_RUNS}) WHERE window_start = $start AND window_end = $end",
        start=window.start,
        end=window.end,
    )
    document = lake.value(
        "SELECT document FROM lake.recommendations WHERE run_id = $run_id AND key_id = $key_id",
        run_id=run_id,
        key_id=key_id,
    )
    return run_id, None if document is None else json.loads(document)


def _verdicts(lake: Lake, key_id: str) -> pa.Table:
    return lake.table(
        "SELECT window_start, window_end, verdict, by_whom AS judged_by, because, given_at, until, "
        "origins, families, verdict_id IN (SELECT verdict_id FROM verdicts_in_force()) AS in_force "
        "FROM lake.verdicts WHERE key_id = $key_id ORDER BY given_at DESC",
        key_id=key_id,
    )
