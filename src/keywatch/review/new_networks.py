"""Networks that a key came from for the first time: what a person looks at once a week.

Reads the temporary tables of `detectors.prepare_window`, which are those of the scored window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from keywatch.detect.scored_window import Scored
from keywatch.lake import Lake
from keywatch.model import Group, NewNetwork, Review, Standing
from keywatch.text.phrases import count

_MOST_PREFIXES = 5

# A place is new where neither its network nor its prefix is in the baseline: databases that
# disagree about a prefix make no new network. What was flagged before is still new, and still open.
_NEW_NETWORKS = """
    WITH flagged AS (
        SELECT l.key_id, p.network, min(f.day) AS since,
            bool_or(coalesce(v.verdict = 'compromised', false)) AS compromised
        FROM lake.flagged_visits AS f
        JOIN lineage AS l ON l.ancestor = f.key_id
        JOIN (SELECT DISTINCT prefix, network FROM places) AS p USING (prefix)
        LEFT JOIN verdicts_in_force() AS v ON v.key_id = f.key_id
            AND v.window_start = f.window_start AND v.window_end = f.window_end
        WHERE f.window_start < $start AND coalesce(v.verdict, '') NOT IN ('benign', 'expected')
        GROUP BY l.key_id, p.network
    ),

    fresh AS (
        SELECT v.*
        FROM visits AS v
        SEMI JOIN (
            SELECT key_id FROM key_history WHERE active_days > 0 UNION SELECT key_id FROM flagged
        ) AS h ON h.key_id = v.key_id
        ANTI JOIN baseline_networks AS n ON n.key_id = v.key_id AND n.network = v.network
        ANTI JOIN baseline_prefixes AS p ON p.key_id = v.key_id AND p.prefix = v.prefix
        WHERE v.class <> 'service'
    ),

    seen AS (
        SELECT key_id, network, list(prefix ORDER BY events DESC, prefix) AS prefixes,
            sum(events)::BIGINT AS requests, min(first_ts) AS first_seen, max(last_ts) AS last_seen,
            max(bits) AS bits, bool_or(suspicious) AS suspicious
        FROM (
            SELECT v.key_id, v.network, v.prefix, sum(v.events) AS events,
                min(v.first_ts) AS first_ts, max(v.last_ts) AS last_ts,
                coalesce(max(s.bits), 0) AS bits,
                coalesce(bool_or(c.suspicious), false) AS suspicious
            FROM fresh AS v
            LEFT JOIN visit_scores AS s USING (key_id, day, prefix)
            LEFT JOIN case_visits AS c USING (key_id, day, prefix)
            GROUP BY v.key_id, v.network, v.prefix
        )
        GROUP BY key_id, network
    ),

    addresses AS (
        SELECT v.key_id, v.network, count(DISTINCT a.ip) AS addresses, min(a.place_id) AS place_id,
            list(DISTINCT p.country ORDER BY p.country) FILTER (p.country <> '-') AS countries
        FROM fresh AS v
        JOIN visit_addresses AS a USING (key_id, day, prefix)
        JOIN places AS p USING (place_id)
        GROUP BY v.key_id, v.network
    ),

    usual AS (
        SELECT key_id, max(last_ts) AS last_ts
        FROM visits
        SEMI JOIN baseline_networks USING (key_id, network)
        GROUP BY key_id
    ),

    owners AS (
        SELECT s.key_id, s.network, count(DISTINCT b.key_id) AS keys, min(b.first_day) AS since
        FROM seen AS s
        JOIN keys AS mine USING (key_id)
        JOIN keys AS other ON other.owner = mine.owner AND other.key_id <> mine.key_id
        JOIN baseline_networks AS b ON b.key_id = other.key_id AND b.network = s.network
        GROUP BY s.key_id, s.network
    ),

    expected AS (
        SELECT v.key_id, v.network, arg_max(s.owner, (s.ends_on, s.owner)) AS by_whom,
            max(s.ends_on) AS ends_on
        FROM fresh AS v
        JOIN lake.suppressions AS s
            ON s.key_id = v.key_id AND is_about([s.origin], v.prefix, v.network, v.class)
            AND list_contains(s.families, 'origin')
            AND v.day BETWEEN s.starts_on AND s.ends_on
        GROUP BY v.key_id, v.network
    ),

    given AS (
        SELECT key_id, verdict, by_whom FROM verdicts_in_force()
        WHERE window_start = $start AND window_end = $end
    )

    SELECT s.*, a.addresses, coalesce(a.countries, []) AS countries, p.class, p.organization,
        k."key", k.name, k.owner,
        coalesce(u.last_ts > s.first_seen, false) AS old_place_in_use,
        coalesce(o.keys, 0) AS owner_keys, o.since AS owner_since,
        f.since AS open_since, coalesce(f.compromised, false) AS compromised,
        e.by_whom AS expected_by, e.ends_on AS expected_until,
        CASE WHEN s.suspicious THEN c.action ELSE 'none' END AS action,
        j.verdict, j.by_whom AS judged_by
    FROM seen AS s
    JOIN addresses AS a USING (key_id, network)
    JOIN places AS p USING (place_id)
    LEFT JOIN keys AS k USING (key_id)
    LEFT JOIN usual AS u USING (key_id)
    LEFT JOIN owners AS o USING (key_id, network)
    LEFT JOIN flagged AS f USING (key_id, network)
    LEFT JOIN expected AS e USING (key_id, network)
    LEFT JOIN scored_cases AS c USING (key_id)
    LEFT JOIN given AS j USING (key_id)
"""
_ORDER = "ORDER BY action = 'none', bits DESC, requests DESC, key_id, network"

SCHEMA = pa.schema(
    [
        ("key_id", pa.string()), ("key", pa.string()), ("name", pa.string()),
        ("owner", pa.string()), ("network", pa.string()), ("organization", pa.string()),
        ("countries", pa.list_(pa.string())), ("class", pa.string()),
        ("prefixes", pa.list_(pa.string())), ("addresses", pa.int64()), ("requests", pa.int64()),
        ("first_seen", pa.timestamp("us")), ("last_seen", pa.timestamp("us")),
        ("old_place_in_use", pa.bool_()), ("owner_keys", pa.int64()), ("owner_since", pa.date32()),
        ("open_since", pa.date32()), ("action", pa.string()), ("bits", pa.float64()),
        ("outcome", pa.string()),
    ]
)  # fmt: skip
"""As ``lake.new_networks``, less the run."""


def find(lake: Lake, scored: Scored) -> list[dict[str, Any]]:
    """A row a key and new network, in no order.

    A key without any past is left out: all of its networks are new.
    """
    window = scored.window
    with scored.tables(lake):
        return lake.records(_NEW_NETWORKS, start=window.start, end=window.end)


def of_review(found: Iterable[Mapping[str, Any]], review: Review) -> tuple[NewNetwork, ...]:
    """What was found: alerted networks first, then by bits, then by requests.

    What `review` has cleared is not alerted.
    """
    cleared = {case.key_id for case in review.cleared()}
    rows = [{**row, "action": "none"} if row["key_id"] in cleared else row for row in found]
    rows.sort(
        key=lambda row: (
            row["action"] == "none", -row["bits"], -row["requests"], row["key_id"], row["network"],
        )
    )  # fmt: skip
    return tuple(_new_network(row, review) for row in rows)


def keys_without_past(lake: Lake) -> int:
    """How many keys in use are left out."""
    number: int = lake.value(
        "SELECT count(*) FROM key_history AS h WHERE active_days = 0 AND NOT EXISTS ("
        "FROM quarantine AS q JOIN lineage AS l ON l.ancestor = q.key_id WHERE l.key_id = h.key_id)"
    )
    return number


def keep(lake: Lake, run_id: str, networks: Sequence[NewNetwork]) -> None:
    """Store them for a run, inside `Lake.writing`."""
    rows = [
        {**vars(one), "class": one.origin_class, "countries": list(one.countries),
         "prefixes": list(one.prefixes)}
        for one in networks
    ]  # fmt: skip
    with lake.registered("found_networks", pa.Table.from_pylist(rows, SCHEMA)):
        lake.execute("INSERT INTO lake.new_networks SELECT $id, * FROM found_networks", id=run_id)


def kept(lake: Lake, run_id: str) -> pa.Table:
    """Those of a run, in the order of `find`."""
    return lake.table(
        f"SELECT * EXCLUDE (run_id) FROM lake.new_networks WHERE run_id = $id {_ORDER}",
        id=run_id,
    )


def _new_network(row: Mapping[str, Any], review: Review) -> NewNetwork:
    return NewNetwork(
        key_id=row["key_id"],
        key=row["key"],
        name=row["name"],
        owner=row["owner"],
        network=row["network"],
        organization=row["organization"],
        countries=tuple(row["countries"]),
        origin_class=row["class"],
        prefixes=tuple(row["prefixes"][:_MOST_PREFIXES]),
        addresses=row["addresses"],
        requests=row["requests"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        old_place_in_use=row["old_place_in_use"],
        owner_keys=row["owner_keys"],
        owner_since=row["owner_since"],
        open_since=row["open_since"],
        action=row["action"],
        bits=row["bits"],
        outcome=_outcome(row, review.groups, review.standings.get(row["key_id"])),
    )


def _outcome(row: Mapping[str, Any], groups: Sequence[Group], standing: Standing | None) -> str:
    """The outcome in a phrase, the most telling part first."""
    said = []
    if row["action"] != "none":
        said.append(f"to {row['action']}")
    said += [
        f"{group.kind} of {count(len(group.key_ids), 'key')}"
        + (", to be confirmed" if group.kind == "migration" else "")
        for group in groups
        if group.network == row["network"] and row["key_id"] in group.key_ids
    ]
    if row["expected_by"] is not None:
        said.append(f"expected by {row['expected_by']} until {row['expected_until']}")
    if row["open_since"] is not None:
        state = "verdict compromised" if row["compromised"] else "still open"
        said.append(f"flagged since {row['open_since']}, {state}")
    if row["suspicious"] and row["verdict"] is not None:
        said.append(f"verdict {row['verdict']} by {row['judged_by']}")
    if not said and standing == "warming_up":
        said.append("warming up: too little history to assess it")
    if not said:
        said.append("below the action threshold" if row["bits"] else "nothing unusual")
    return "; ".join(said)
