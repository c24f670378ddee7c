"""From a scored case to a recommendation: why, what is at stake, what would break, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from keywatch import runbook
from keywatch.lake import Lake
from keywatch.model import Action, Case, Evidence, Origin, Standing
from keywatch.scoring import ScoredCase

_MOST_ORIGINS = 20
_MOST_CONSUMERS = 5
_MOST_SENSITIVE = 10
_SUSPICIOUS_SHARE = 0.5


def build_cases(
    lake: Lake, scored: Sequence[ScoredCase], standings: dict[str, Standing], *, whole: bool
) -> list[Case]:
    """Cases of the JSON contract for `scored`, in its order.

    Without `whole`, those that need no action have no origins, blast radius, impact and query: to
    read these for every key takes longer than to judge it.

    Reads the temporary tables of `detectors.prepare` and `scoring.score`; makes ``scored_cases``
    (key_id, day, prefix, bits, action, p_value, q_value).
    """
    _keep_cases(lake, scored)
    _mark_visits(lake, whole)
    facts = _Facts(lake)
    return [
        _case(one, standings.get(one.key_id, "silent"), facts, whole or one.action != "none")
        for one in scored
    ]


def _keep_cases(lake: Lake, scored: Sequence[ScoredCase]) -> None:
    columns = {
        "key_id": pa.array([one.key_id for one in scored], pa.string()),
        "day": pa.array([one.day for one in scored], pa.date32()),
        "prefix": pa.array([one.prefix for one in scored], pa.string()),
        "bits": pa.array([one.bits for one in scored], pa.float64()),
        "action": pa.array([one.action for one in scored], pa.string()),
        "p_value": pa.array([one.p_value for one in scored], pa.float64()),
        "q_value": pa.array([one.q_value for one in scored], pa.float64()),
    }
    with lake.registered("case_rows", pa.table(columns)):
        lake.execute("CREATE OR REPLACE TEMP TABLE scored_cases AS FROM case_rows")


def _mark_visits(lake: Lake, whole: bool) -> None:
    """``case_visits``: the visits of the whole cases; suspicious are the worst and its like."""
    lake.execute(
        """
        CREATE OR REPLACE TEMP TABLE case_visits AS
        SELECT v.*, coalesce(c.day = v.day AND c.prefix = v.prefix, false) AS worst,
            c.action <> 'none' AND (worst OR coalesce(s.bits, 0) >= $share * c.bits) AS suspicious
        FROM visits AS v
        JOIN scored_cases AS c USING (key_id)
        LEFT JOIN visit_scores AS s ON s.key_id = v.key_id AND s.day = v.day
            AND s.prefix = v.prefix
        WHERE $whole OR c.action <> 'none'
        """,
        share=_SUSPICIOUS_SHARE,
        whole=whole,
    )


class _Facts:
    """What the cases need, by key, read once for all of them."""

    def __init__(self, lake: Lake) -> None:
        self.keys = _one(lake.records("SELECT * FROM keys SEMI JOIN scored_cases USING (key_id)"))
        self.evidence = _many(
            lake.records(
                """
            SELECT e.*, coalesce(e.bits >= f.certain_bits, false) AS certain
            FROM evidence AS e
            JOIN scored_cases AS c ON c.key_id = e.key_id AND (e.day IS NULL
                OR e.day = c.day AND coalesce(e.prefix = c.prefix, true))
            LEFT JOIN facts AS f USING (detector)
            ORDER BY e.bits DESC, e.detector, e.day, e.prefix
            """
            )
        )
        self.origins = _many(
            lake.records(
                """
            FROM (
                SELECT w.key_id, p.ip, nullif(p.prefix, p.ip) AS prefix, p.asn, p.organization,
                    nullif(p.country, '-') AS country, p.class,
                    min(w.first_ts) AS first_seen, max(w.last_ts) AS last_seen,
                    sum(w.events)::BIGINT AS requests, bool_or(v.worst) AS worst
                FROM window_activity AS w
                JOIN places AS p USING (place_id)
                JOIN case_visits AS v
                    ON v.key_id = w.key_id AND v.day = w.day AND v.prefix = w.prefix
                GROUP BY ALL
            )
            QUALIFY row_number() OVER (PARTITION BY key_id ORDER BY worst DESC, requests DESC, ip)
                <= $most
            ORDER BY key_id, worst DESC, requests DESC, ip
            """,
                most=_MOST_ORIGINS,
            )
        )
        self.visits = _many(
            lake.records(
                """
            SELECT key_id, suspicious,
                sum(events)::BIGINT AS events, sum(objects)::BIGINT AS objects,
                sum(response_bytes)::BIGINT AS response_bytes, count(DISTINCT day) AS days,
                min(first_ts) AS first_ts, max(last_ts) AS last_ts,
                list(DISTINCT prefix ORDER BY prefix)[:5] AS prefixes
            FROM case_visits
            GROUP BY ALL
            """
            )
        )
        self.consumers = _many(
            lake.records(
                """
            FROM (
                SELECT v.key_id, a.agent, min(v.place) AS origin,
                    sum(a.events) / count(DISTINCT v.day) AS requests_per_day
                FROM case_visits AS v
                JOIN visit_agents AS a USING (key_id, day, prefix)
                WHERE NOT v.suspicious
                GROUP BY v.key_id, a.agent, v.network
            )
            QUALIFY row_number() OVER (
                PARTITION BY key_id ORDER BY requests_per_day DESC, agent, origin) <= $most
            ORDER BY key_id, requests_per_day DESC, agent, origin
            """,
                most=_MOST_CONSUMERS,
            )
        )
        self.scopes = _many(
            lake.records(
                """
            WITH used AS (
                SELECT v.key_id, e.endpoint, v.suspicious
                FROM case_visits AS v
                JOIN visit_endpoints AS e USING (key_id, day, prefix)
                WHERE e.succeeded > 0
                UNION
                SELECT key_id, endpoint, false FROM baseline_endpoints
                SEMI JOIN case_visits USING (key_id)
            )
            SELECT DISTINCT u.key_id, u.suspicious, c.scope, c.endpoint, c.sensitivity
            FROM used AS u
            JOIN catalogue AS c USING (endpoint)
            ORDER BY ALL
            """
            )
        )
        self.successors = {
            row[0]: row[1]
            for row in lake.rows(
                "SELECT replaces, arg_max(key_id, created_at) FROM keys "
                "WHERE replaces IS NOT NULL GROUP BY replaces"
            )
        }


def _one(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["key_id"]: row for row in rows}


def _many(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[row["key_id"]].append(row)
    return grouped


def _case(one: ScoredCase, standing: Standing, facts: _Facts, whole: bool) -> Case:
    key = facts.keys.get(one.key_id, {})
    evidence = _evidence(one, facts)
    blast_radius = _blast_radius(one.key_id, key, facts) if whole else {}
    impact = _impact(one.key_id, facts) if whole else {}
    return Case(
        key_id=one.key_id,
        key=key.get("key"),
        name=key.get("name"),
        owner=key.get("owner"),
        environment=key.get("environment"),
        standing=standing,
        action=one.action,
        bits=one.bits,
        p_value=one.p_value,
        q_value=one.q_value,
        summary=_summary(one.action, evidence),
        origins=tuple(
            Origin(row["ip"], row["prefix"], row["asn"], row["organization"], row["country"],
                   row["class"], row["first_seen"], row["last_seen"], row["requests"])
            for row in facts.origins[one.key_id]
        ),
        evidence=evidence,
        blast_radius=blast_radius,
        impact=impact,
        steps=_steps(one, key, blast_radius, impact, facts),
        events_query=_events_query(one, facts) if whole else "",
    )  # fmt: skip


def _evidence(one: ScoredCase, facts: _Facts) -> tuple[Evidence, ...]:
    """That of the worst visit, of its day, and of the key itself; their bits add up to the case's.

    Upkeep and what speaks for the owner have 0 bits here, and what speaks against as much less.
    """
    rows = [row for row in facts.evidence[one.key_id] if row["bits"] > 0]
    said: dict[str, float] = defaultdict(float)
    for row in rows:
        said[row["detector"]] += row["bits"]
    items = [
        Evidence(
            detector=row["detector"],
            family=row["family"],
            bits=float(row["bits"])
            if row["certain"]
            else one.shares.get(row["detector"], 0.0) * row["bits"] / said[row["detector"]],
            typical=row["typical"],
            actual=row["actual"],
            explanation=row["explanation"],
        )
        for row in rows
    ]
    return tuple(sorted(items, key=lambda item: (-item.bits, item.detector)))


def _summary(action: Action, evidence: tuple[Evidence, ...]) -> str:
    """One sentence: the strongest reason of each family, the strongest first."""
    strongest: dict[str, Evidence] = {}
    for item in (item for item in evidence if item.bits > 0):
        strongest.setdefault(item.family, item)
    if not strongest:
        return "nothing out of the ordinary"
    reasons = [item.explanation for item in strongest.values()][: 1 if action == "none" else 3]
    return "; ".join(reasons)


def _blast_radius(key_id: str, key: dict[str, Any], facts: _Facts) -> dict[str, Any]:
    suspicious = [row for row in facts.visits[key_id] if row["suspicious"]]
    used = facts.scopes[key_id]
    return {
        "scopes_granted": key.get("scopes"),
        "scopes_used": sorted({row["scope"] for row in used if row["scope"]}),
        "sensitive_endpoints_used": sorted(
            {row["endpoint"] for row in used if row["sensitivity"] in ("critical", "high")}
        )[:_MOST_SENSITIVE],
        "requests_suspicious": sum(row["events"] for row in suspicious),
        "objects_suspicious": sum(row["objects"] for row in suspicious),
        "response_bytes_suspicious": sum(row["response_bytes"] for row in suspicious),
    }


def _impact(key_id: str, facts: _Facts) -> dict[str, Any]:
    legitimate = [row for row in facts.visits[key_id] if not row["suspicious"]]
    return {
        "legitimate_requests_per_day": round(
            sum(row["events"] / row["days"] for row in legitimate), 1
        ),
        "consumers": [
            {"agent": row["agent"], "origin": row["origin"],
             "requests_per_day": round(row["requests_per_day"], 1)}
            for row in facts.consumers[key_id]
        ],
        "successor_key_id": facts.successors.get(key_id),
        "scopes_needed": sorted(
            {row["scope"] for row in facts.scopes[key_id] if row["scope"] and not row["suspicious"]}
        ),
    }  # fmt: skip


def _steps(
    one: ScoredCase,
    key: dict[str, Any],
    blast_radius: dict[str, Any],
    impact: dict[str, Any],
    facts: _Facts,
) -> tuple[str, ...]:
    if one.action == "none":
        return ()
    suspicious = next((row for row in facts.visits[one.key_id] if row["suspicious"]), None)
    at_hand = runbook.KeyAtHand(
        key_id=one.key_id,
        where=", ".join(suspicious["prefixes"]) if suspicious else "the origins above",
        requests=blast_radius["requests_suspicious"],
        key=key.get("key"),
        owner=key.get("owner"),
        environment=key.get("environment"),
        revoked_at=key.get("revoked_at"),
        successor_key_id=impact["successor_key_id"],
        scopes_needed=tuple(impact["scopes_needed"]),
        consumers=tuple(impact["consumers"]),
    )
    return runbook.steps(one.action, at_hand)


def _events_query(one: ScoredCase, facts: _Facts) -> str:
    """SQL over the lake that shows the worst visit's events, or all of the window's."""
    condition = f"key_id = {_literal(one.key_id)}"
    addresses = [row for row in facts.origins[one.key_id] if row["worst"]]
    if one.day is not None:
        condition += f" AND day = DATE '{one.day}'"
    if one.prefix is not None and addresses:
        listed = ", ".join(_literal(row["ip"]) for row in addresses)
        condition += f" AND address IN ({listed})"
    return (
        "SELECT ts, address, method, path, status, user_agent FROM lake.events "
        f"WHERE {condition} ORDER BY ts"
    )


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
