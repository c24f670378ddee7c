"""What keys did before a window and in it: the numbers behind the charts of reports and notebooks.

One `History` reads the lake once for all the keys it is asked for. Its tables are Arrow, sorted,
and each has a column `key_id`; *before* is the baseline, *now* the window. A key that replaces
another has its predecessor's past, as the inventory says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from keywatch.lake import Lake, sql_text
from keywatch.model import Action, Case, Review, Window
from keywatch.vendors import catalogue_by_source
from keywatch.vendors.catalogue import Endpoint

if TYPE_CHECKING:
    import pyarrow as pa

Flag = tuple[str, date, str]
"""A suspicious visit: key_id, day, prefix."""

_NO_FLAGS: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class ShownKey:
    """What the inventory says of a key, and the days it was seen on in the whole lake."""

    key_id: str
    name: str | None
    owner: str | None
    environment: str | None
    scopes: tuple[str, ...] | None
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    replaces: str | None
    first_day: date | None
    last_day: date | None


@dataclass(frozen=True)
class Change:
    """A key whose action is not what it was in the window before; None: it was no case."""

    key_id: str
    name: str | None
    before: Action | None
    now: Action | None
    verdict: str | None


@dataclass(frozen=True)
class Changes:
    """What differs from the newest run of the newest earlier window; `still` alerts are in both."""

    window: Window
    run_id: str
    new: tuple[Change, ...]
    still: tuple[Change, ...]
    ended: tuple[Change, ...]


@dataclass(frozen=True)
class Details:
    """What a report shows beside a review: of its `cases`, and of the keys that it names.

    Tables as of `History`; `keys` and `used_scopes` by key, also of keys with upkeep to do.
    """

    cases: tuple[Case, ...]
    first_day: date
    timeline: pa.Table
    origins: pa.Table
    endpoints: pa.Table
    keys: Mapping[str, ShownKey]
    used_scopes: Mapping[str, tuple[str, ...]]
    changes: Changes | None


def details(
    lake: Lake,
    review: Review,
    baseline_days: int,
    flags: Sequence[Flag] | None = None,
) -> Details:
    """The details of all cases that need an action; `flags` as of `History`."""
    cases = review.alerted()
    upkeep = {finding.key_id for finding in review.hygiene}
    unassessed = {
        key_id
        for key_id, standing in review.standings.items()
        if standing in ("warming_up", "not_assessable")
    }
    named = {*(case.key_id for case in cases), *upkeep, *unassessed}
    return replace(
        _details(lake, review, baseline_days, flags, cases),
        keys=shown_keys(lake, named),
        used_scopes=used_scopes(lake, upkeep, review.window, baseline_days),
        changes=changes(lake, review),
    )


def details_of_case(
    lake: Lake, review: Review, baseline_days: int, flags: Sequence[Flag], case: Case
) -> Details:
    """The details of one case, with nothing of other keys or windows; `flags` as of `History`."""
    return _details(lake, review, baseline_days, flags, (case,))


def _details(
    lake: Lake,
    review: Review,
    baseline_days: int,
    flags: Sequence[Flag] | None,
    cases: tuple[Case, ...],
) -> Details:
    key_ids = [case.key_id for case in cases]
    past = History(lake, key_ids, review.window, baseline_days, flags)
    return Details(
        cases=cases,
        first_day=past.first_day,
        timeline=past.timeline(),
        origins=past.origins(),
        endpoints=past.endpoints(),
        keys={},
        used_scopes={},
        changes=None,
    )


class History:
    """What `key_ids` did in `window` and in the `baseline_days` before it.

    `flags` are the window's suspicious visits where no run has stored them yet; else the lake's.
    Makes temporary tables (``review/history.sql``), so a lake has one history at a time.
    """

    def __init__(
        self,
        lake: Lake,
        key_ids: Iterable[str],
        window: Window,
        baseline_days: int,
        flags: Sequence[Flag] | None = None,
    ) -> None:
        self._lake = lake
        self.window = window
        self.first_day = window.start.date() - timedelta(days=baseline_days)
        _name_keys(lake, key_ids)
        _name_flags(lake, window, flags)
        _name_endpoints(lake)
        for name, day in (
            ("start", self.first_day),
            ("window_start", window.start.date()),
            ("window_end", end_day(window)),
        ):
            lake.execute(f"SET VARIABLE history_{name} = $day", day=day)
        lake.execute(sql_text("history", __package__))

    def timeline(self) -> pa.Table:
        """Requests by key, day and network.

        Columns: key_id, day, origin, class, requests, refused, now (in the window), known (its
        network was used before, by a visit that was not flagged), flagged (suspicious).
        """
        return self._lake.table(
            """
            SELECT key_id, day, origin, min(class) AS class, sum(requests)::BIGINT AS requests,
                sum(refused)::BIGINT AS refused, in_window AS now, bool_or(known) AS known,
                bool_or(flagged) AS flagged
            FROM history
            GROUP BY key_id, day, origin, in_window
            ORDER BY key_id, day, origin
            """
        )

    def origins(self, grain: Literal["network", "address"] = "network") -> pa.Table:
        """Where each key came from, the most used now first.

        Columns: key_id, at grain ``address`` also ip, prefix, origin, asn, organization, country,
        class, latitude, longitude (degrees; the middle of the country where no town is known),
        accuracy_km, addresses, requests_before, days_before, requests_now, days_now, refused_now,
        first_seen, last_seen (UTC), known, flagged.
        """
        address = "ip, prefix," if grain == "address" else ""
        return self._lake.table(
            f"""
            SELECT key_id, {address} origin, asn, organization, country, class, latitude, longitude,
                max(accuracy_km) AS accuracy_km, count(DISTINCT address) AS addresses,
                {BEFORE_AND_NOW},
                min(first_ts) AS first_seen, max(last_ts) AS last_seen,
                bool_or(known) AS known, bool_or(flagged AND in_window) AS flagged
            FROM history
            GROUP BY key_id, {address} origin, asn, organization, country, class, latitude,
                longitude
            ORDER BY key_id, requests_now DESC, requests_before DESC, origin, {address}
                latitude, longitude
            """
        )

    def users(self) -> pa.Table:
        """Who used each key in the window, by network: suspicious ones first, then new ones.

        Columns: key_id, kind (suspicious, new, usual), origin, class, country, agents (the clients
        used from there, sorted), addresses, requests_before, days_before, requests_now, days_now,
        refused_now, first_seen, last_seen (UTC, in the window).
        """
        return self._lake.table(
            f"""
            SELECT key_id,
                CASE WHEN bool_or(flagged AND in_window) THEN 'suspicious'
                    WHEN bool_or(known) THEN 'usual' ELSE 'new' END AS kind,
                origin, min(class) AS class, min(country) AS country,
                list(DISTINCT agent ORDER BY agent) FILTER (in_window) AS agents,
                count(DISTINCT ip) FILTER (in_window) AS addresses, {BEFORE_AND_NOW},
                min(first_ts) FILTER (in_window) AS first_seen,
                max(last_ts) FILTER (in_window) AS last_seen
            FROM history
            GROUP BY key_id, origin
            HAVING bool_or(in_window)
            ORDER BY key_id, list_position(['suspicious', 'new', 'usual'], kind),
                requests_now DESC, origin
            """
        )

    def endpoints(self) -> pa.Table:
        """What each key called, the most called now first.

        Columns: key_id, endpoint, scope and sensitivity (null where no catalogue knows it),
        requests_before, days_before, requests_now, days_now, refused_now, requests_flagged,
        per_day_before and per_day_now (requests a day on which the key was in use).
        """
        return self._lake.table(
            f"""
            WITH days AS (
                SELECT key_id, count(DISTINCT day) FILTER (NOT in_window) AS days_in_use_before,
                    count(DISTINCT day) FILTER (in_window) AS days_in_use_now
                FROM history GROUP BY key_id
            ),

            called AS (
                SELECT key_id, endpoint, {BEFORE_AND_NOW},
                    coalesce(sum(requests) FILTER (in_window AND flagged), 0)::BIGINT
                        AS requests_flagged
                FROM history GROUP BY key_id, endpoint
            )

            SELECT key_id, endpoint, c.scope, c.sensitivity,
                requests_before, days_before, requests_now, days_now, refused_now,
                requests_flagged,
                coalesce(requests_before / nullif(days_in_use_before, 0), 0.0) AS per_day_before,
                coalesce(requests_now / nullif(days_in_use_now, 0), 0.0) AS per_day_now
            FROM called
            JOIN days USING (key_id)
            LEFT JOIN history_catalogue AS c USING (endpoint)
            ORDER BY key_id, requests_now DESC, requests_before DESC, endpoint
            """
        )

    def agents(self) -> pa.Table:
        """The clients of each key, the most used now first.

        Columns: key_id, agent, requests_before, days_before, requests_now, days_now, refused_now.
        """
        return self._lake.table(
            f"SELECT key_id, agent, {BEFORE_AND_NOW} FROM history GROUP BY key_id, agent "
            "ORDER BY key_id, requests_now DESC, requests_before DESC, agent"
        )

    def sequence(self) -> pa.Table:
        """Which endpoint followed which at an address, the most frequent now first.

        Columns: key_id, previous ('' where a session begins), endpoint, requests_before,
        days_before, requests_now, days_now.
        """
        return self._lake.table(
            f"""
            SELECT key_id, previous, endpoint, {_REQUESTS}
            FROM (
                SELECT l.key_id, t.day, t.previous, t.endpoint, t.events AS requests,
                    t.day >= getvariable('history_window_start') AS in_window
                FROM lake.transitions AS t
                JOIN history_lineage AS l ON l.ancestor = t.key_id
                WHERE t.day >= getvariable('history_start')
                    AND t.day < getvariable('history_window_end')
                    AND (l.key_id = l.ancestor OR t.day < getvariable('history_window_start'))
            )
            GROUP BY key_id, previous, endpoint
            ORDER BY key_id, requests_now DESC, requests_before DESC, previous, endpoint
            """
        )

    def neighbours(self) -> pa.Table:
        """Other keys used from each key's addresses of the window; suspicious addresses first.

        Columns: key_id, neighbour_id, name, owner, ip, origin, class, known and flagged (as of the
        key at that address), requests_before, days_before, requests_now, days_now, last_seen (UTC).
        """
        return self._lake.table(
            f"""
            WITH used AS (
                SELECT key_id, address, ip, origin, class, bool_or(known) AS known,
                    bool_or(flagged) AS flagged
                FROM history WHERE in_window GROUP BY ALL
            )

            SELECT u.key_id, a.key_id AS neighbour_id, k.name, k.owner, u.ip, u.origin, u.class,
                u.known, u.flagged, {_REQUESTS}, max(a.last_ts) AS last_seen
            FROM (
                SELECT key_id, day, address, events AS requests, last_ts,
                    day >= getvariable('history_window_start') AS in_window
                FROM lake.activity
                WHERE day >= getvariable('history_start')
                    AND day < getvariable('history_window_end')
            ) AS a
            JOIN used AS u ON u.address = a.address AND u.key_id <> a.key_id
            LEFT JOIN inventory_in_force() AS k ON k.key_id = a.key_id
            GROUP BY u.key_id, a.key_id, k.name, k.owner, u.ip, u.origin, u.class, u.known,
                u.flagged
            ORDER BY u.key_id, u.flagged DESC, u.known, requests_now DESC, requests_before DESC,
                neighbour_id, ip
            """
        )


_REQUESTS = """
    coalesce(sum(requests) FILTER (NOT in_window), 0)::BIGINT AS requests_before,
    count(DISTINCT day) FILTER (NOT in_window) AS days_before,
    coalesce(sum(requests) FILTER (in_window), 0)::BIGINT AS requests_now,
    count(DISTINCT day) FILTER (in_window) AS days_now"""
BEFORE_AND_NOW = f"""{_REQUESTS},
    coalesce(sum(refused) FILTER (in_window), 0)::BIGINT AS refused_now"""
"""Columns of counts before a window and in it; rows have day, in_window, requests and refused."""


def end_day(window: Window) -> date:
    """The day after the window's last one: activity is kept by day."""
    return (window.end - timedelta(microseconds=1)).date() + timedelta(days=1)


def _name_keys(lake: Lake, key_ids: Iterable[str]) -> None:
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE history_keys AS "
        "SELECT DISTINCT unnest($key_ids::VARCHAR[]) AS key_id",
        key_ids=list(key_ids),
    )


def _name_flags(lake: Lake, window: Window, flags: Sequence[Flag] | None) -> None:
    """Of earlier windows the lake's; of this one those given, else the lake's too."""
    until = window.end if flags is None else window.start
    named = flags if flags is not None else _NO_FLAGS
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE history_flags AS "
        "SELECT DISTINCT key_id, day, prefix FROM lake.flagged_visits "
        "SEMI JOIN history_keys USING (key_id) WHERE window_start < $until "
        "UNION SELECT unnest($key_ids::VARCHAR[]), unnest($days::DATE[]), "
        "unnest($prefixes::VARCHAR[])",
        until=until,
        key_ids=[key_id for key_id, _, _ in named],
        days=[day for _, day, _ in named],
        prefixes=[prefix for _, _, prefix in named],
    )


def known_endpoints(lake: Lake) -> dict[str, Endpoint]:
    """By name the endpoints that the catalogues list for the log formats that `lake` holds."""
    loaded = {source for (source,) in lake.rows("SELECT DISTINCT source FROM lake.ingested_files")}
    return {
        endpoint.name: endpoint for source, endpoint in catalogue_by_source() if source in loaded
    }


def _name_endpoints(lake: Lake) -> None:
    known = known_endpoints(lake)
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE history_catalogue AS SELECT "
        "unnest($endpoints::VARCHAR[]) AS endpoint, unnest($scopes::VARCHAR[]) AS scope, "
        "unnest($sensitivities::VARCHAR[]) AS sensitivity",
        endpoints=list(known),
        scopes=[endpoint.scope for endpoint in known.values()],
        sensitivities=[endpoint.sensitivity for endpoint in known.values()],
    )


def shown_keys(lake: Lake, key_ids: Iterable[str]) -> dict[str, ShownKey]:
    """What is known of each of these keys, by id; one that no inventory knows has only its days."""
    _name_keys(lake, key_ids)
    rows = lake.records(
        """
        WITH inventory AS (
            FROM inventory_in_force() SEMI JOIN history_keys USING (key_id)
        ),

        seen AS (
            SELECT key_id, min(day) AS first_day, max(day) AS last_day
            FROM lake.activity SEMI JOIN history_keys USING (key_id) GROUP BY key_id
        )

        SELECT key_id, i.name, i.owner, i.environment, i.scopes, i.created_at, i.expires_at,
            i.revoked_at, i.replaces, s.first_day, s.last_day
        FROM history_keys
        LEFT JOIN inventory AS i USING (key_id)
        LEFT JOIN seen AS s USING (key_id)
        ORDER BY key_id
        """
    )
    for row in rows:
        row["scopes"] = None if row["scopes"] is None else tuple(row["scopes"])
    return {row["key_id"]: ShownKey(**row) for row in rows}


def used_scopes(
    lake: Lake, key_ids: Iterable[str] | None, window: Window, baseline_days: int
) -> dict[str, tuple[str, ...]]:
    """The scopes that each key needed in the baseline and the window, by the API catalogues.

    Of `key_ids`, or of all keys. Only requests that succeeded count. A key of which no call is in a
    catalogue is left out.
    """
    of_keys = ""
    if key_ids is not None:
        _name_keys(lake, key_ids)
        of_keys = "SEMI JOIN history_keys USING (key_id)"
    _name_endpoints(lake)
    rows = lake.rows(
        f"""
        SELECT a.key_id, list(DISTINCT c.scope ORDER BY c.scope)
        FROM (
            SELECT DISTINCT key_id, endpoint FROM lake.activity {of_keys}
            WHERE day >= $start AND day < $end AND status_class LIKE '2%'
        ) AS a
        JOIN history_catalogue AS c USING (endpoint)
        WHERE c.scope IS NOT NULL
        GROUP BY a.key_id
        """,
        start=window.start.date() - timedelta(days=baseline_days),
        end=end_day(window),
    )
    return {key_id: tuple(scopes) for key_id, scopes in rows}


def changes(lake: Lake, review: Review) -> Changes | None:
    """`review` beside the newest run of the newest window that ended before it began.

    None where no earlier window of the same length was reviewed.
    """
    window = review.window
    earlier = lake.rows(
        "SELECT run_id, window_start, window_end FROM lake.runs WHERE window_end <= $start "
        "AND window_end - window_start = $end::TIMESTAMP - $start::TIMESTAMP "
        "ORDER BY window_end DESC, made_at DESC LIMIT 1",
        start=window.start,
        end=window.end,
    )
    if not earlier:
        return None
    run_id, start, end = earlier[0]
    before = {
        key_id: (action, name)
        for key_id, action, name in lake.rows(
            "SELECT key_id, action, document ->> 'name' FROM lake.recommendations "
            "WHERE run_id = $run_id ORDER BY key_id",
            run_id=run_id,
        )
    }
    verdicts: dict[str, str] = dict(
        lake.rows(
            "SELECT key_id, verdict FROM verdicts_in_force() "
            "WHERE window_start = $start AND window_end = $end",
            start=start,
            end=end,
        )
    )
    now = {case.key_id: case for case in review.alerted()}
    actions: dict[str, Action] = {case.key_id: case.action for case in review.cases}

    def change(key_id: str, name: str | None) -> Change:
        was = before.get(key_id, (None, None))[0]
        return Change(key_id, name, was, actions.get(key_id), verdicts.get(key_id))

    return Changes(
        window=Window(start, end),
        run_id=run_id,
        new=tuple(change(key, case.name) for key, case in now.items() if key not in before),
        still=tuple(change(key, case.name) for key, case in now.items() if key in before),
        ended=tuple(change(key, name) for key, (_, name) in before.items() if key not in now),
    )
