"""Ids in paths that no rule and no catalogue knows: learnt from how many values a place takes.

``GET /users/ada`` is one endpoint a user: a vocabulary that grows with the customers hides what is
new. A place (method and path up to it) holds an id where the API has answered very many values, of
which most were seen once, or by one key only. What else stands there is a name, and is kept.
"""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

from keywatch.lake import Lake
from keywatch.load.activity import add_calls, stored_parts
from keywatch.vendors.endpoints import LearntTemplates
from keywatch.vendors.registry import catalogue_names

_LEAST_VALUES = 100
"""At a place, less those that came on the day that brought most: one scan teaches nothing."""
_LEAST_RARE_SHARE = 0.5
"""Of the values of a place: seen on one day only, or by one key only."""
_LEAST_KEYS = 10
"""Of fewer keys at a place it says little that a value is one key's only."""
_LONGEST_OBJECT = 300

# A scanner must not teach: only what the API has answered counts.
_ANSWERED = (
    "FROM lake.activity WHERE status_class = '2xx' AND regexp_matches(endpoint, '^[A-Z]+ /')"
)
_PLACES = f"""
    -- grain: path; places that hold an id, and the values that are none
    WITH uses AS (
        SELECT c.path, c.value, a.key_id, a.day
        FROM (SELECT endpoint, key_id, day {_ANSWERED}) AS a
        JOIN crowded AS c USING (endpoint)
    ),
    seen AS (
        SELECT path, value, count(DISTINCT day) AS days, count(DISTINCT key_id) AS keys,
            min(day) AS first_day
        FROM uses GROUP BY ALL
    ),
    at_all AS (SELECT path, count(DISTINCT key_id) AS keys FROM uses GROUP BY ALL),
    busiest AS (
        SELECT path, max(came) AS came
        FROM (SELECT path, first_day, count(*) AS came FROM seen GROUP BY ALL)
        GROUP BY ALL
    ),
    decided AS (
        SELECT s.*, s.days = 1 OR (s.keys = 1 AND t.keys >= $least_keys) AS is_rare, b.came
        FROM seen AS s JOIN at_all AS t USING (path) JOIN busiest AS b USING (path)
    )
    SELECT path, coalesce(list_sort(list(value) FILTER (NOT is_rare)), []) AS kept
    FROM decided
    GROUP BY path
    HAVING count(*) - any_value(came) >= $least_values
        AND count(*) FILTER (is_rare) > $least_share * count(*)
    ORDER BY path
"""


def known(lake: Lake) -> LearntTemplates:
    """What `lake` has learnt so far."""
    return LearntTemplates(
        dict(lake.rows("SELECT path, kept FROM lake.path_templates ORDER BY path")),
        catalogue_names(),
    )


def learn(lake: Lake, load_id: int) -> list[str]:
    """Learn from all that is in `lake`, and tell its history anew; returns the places.

    Call it inside `Lake.writing`, at the end of a load.
    """
    learnt = known(lake)
    answered = lake.rows(f"SELECT DISTINCT endpoint {_ANSWERED} ORDER BY ALL")
    endpoints = [endpoint for (endpoint,) in answered if endpoint and " /" in endpoint]
    before, refused = set(learnt.kept), set[str]()
    # From the left: what stands after an id is one place, whichever id it is.
    while crowded := _crowded(endpoints, learnt, refused):
        with lake.registered("crowded", crowded):
            found: dict[str, list[str]] = dict(
                lake.rows(
                    _PLACES,
                    least_keys=_LEAST_KEYS,
                    least_values=_LEAST_VALUES,
                    least_share=_LEAST_RARE_SHARE,
                )
            )
        learnt.kept |= found
        refused |= set(crowded["path"].to_pylist()) - found.keys()
    new = sorted(learnt.kept.keys() - before)
    if new:
        rows = [{"path": path, "kept": learnt.kept[path], "load_id": load_id} for path in new]
        kinds = {"path": pa.string(), "kept": pa.list_(pa.string()), "load_id": pa.int64()}
        lake.append("path_templates", pa.Table.from_pylist(rows, pa.schema(kinds)))
        _tell_anew(lake, learnt)
    return new


def _crowded(endpoints: list[str], learnt: LearntTemplates, refused: set[str]) -> pa.Table:
    """The leftmost places with very many values (endpoint, path, value), less those `refused`."""
    at: dict[int, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for endpoint in endpoints:
        match = learnt.match(endpoint)
        first, *segments = (match.endpoint if match else endpoint).split("/")
        path = f"{first}/"
        for depth, value in enumerate(segments):
            if value not in ("", "{id}") and path not in learnt.kept and path not in refused:
                at[depth][path].append((endpoint, value))
            path += f"{value}/"
    for depth in sorted(at):
        rows = [
            {"endpoint": endpoint, "path": path, "value": value}
            for path, uses in at[depth].items()
            if len({value for _, value in uses}) >= _LEAST_VALUES
            for endpoint, value in uses
        ]
        if rows:
            return pa.Table.from_pylist(rows)
    return pa.table({"endpoint": pa.array([], pa.string()), "path": pa.array([], pa.string())})


def _tell_anew(lake: Lake, learnt: LearntTemplates) -> None:
    """Put the templates in place of the endpoints in events and roll-ups, as if known before."""
    matches = [
        {"endpoint": endpoint, "template": match.endpoint, "object": match.object}
        for (endpoint,) in lake.rows(
            "SELECT endpoint FROM lake.activity UNION SELECT endpoint FROM lake.keyless_events "
            "UNION SELECT endpoint FROM lake.held_back ORDER BY endpoint"
        )
        if endpoint is not None and (match := learnt.match(endpoint))
    ]
    with lake.registered("retold_rows", pa.Table.from_pylist(matches)):
        lake.execute("CREATE OR REPLACE TEMP TABLE retold AS FROM retold_rows")
    for table in ("events", "keyless_events", "held_back"):
        lake.execute(
            f"UPDATE lake.{table} AS e SET endpoint = r.template, "
            f"object = left(concat_ws('/', e.object, r.object), {_LONGEST_OBJECT}) "
            "FROM retold AS r WHERE r.endpoint = e.endpoint"
        )
    _tell_activity_anew(lake)
    lake.execute(
        """
        CREATE OR REPLACE TEMP TABLE retold_steps AS
        SELECT t.key_id, t.day, t.address, coalesce(p.template, t.previous) AS previous,
            coalesce(e.template, t.endpoint) AS endpoint, sum(t.events)::BIGINT AS events, t.load_id
        FROM lake.transitions AS t
        LEFT JOIN retold AS p ON p.endpoint = t.previous
        LEFT JOIN retold AS e ON e.endpoint = t.endpoint
        WHERE p.endpoint IS NOT NULL OR e.endpoint IS NOT NULL
        GROUP BY ALL;
        DELETE FROM lake.transitions
        WHERE previous IN (SELECT endpoint FROM retold)
            OR endpoint IN (SELECT endpoint FROM retold);
        INSERT INTO lake.transitions BY NAME FROM retold_steps ORDER BY ALL;
        DROP TABLE retold_steps;
        DROP TABLE retold;
        DELETE FROM lake.replays;
        DELETE FROM lake.replayed_visits
        """
    )


def _tell_activity_anew(lake: Lake) -> None:
    """Roll up the retold events again, for their objects are others; of pruned days rename only."""
    pruned = "day < (SELECT max(events_before) FROM lake.maintenance)"
    lake.execute(
        "UPDATE lake.activity AS a SET endpoint = r.template FROM retold AS r "
        f"WHERE r.endpoint = a.endpoint AND a.{pruned}"
    )
    of_these = "endpoint IN (SELECT template FROM retold UNION SELECT endpoint FROM retold)"
    kept = f"coalesce(NOT {pruned}, true)"
    lake.execute(f"DELETE FROM lake.activity WHERE {of_these} AND {kept}")
    days = lake.rows(
        f"SELECT DISTINCT day, load_id FROM lake.events WHERE {of_these} AND {kept} ORDER BY ALL"
    )
    for day, load_id in days:
        rows = lake.table(
            "SELECT * EXCLUDE (load_id) FROM lake.events "
            f"WHERE day = $day AND load_id = $load_id AND {of_these} "
            "ORDER BY coalesce(principal, key_id), address, ts",
            day=day,
            load_id=load_id,
        )
        for part in stored_parts(rows):
            add_calls(lake, part, load_id)
