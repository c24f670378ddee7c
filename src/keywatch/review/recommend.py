"""From a scored case to a recommendation: why, what is at stake, what would break, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from keywatch.detect.detectors import Detector
from keywatch.detect.scored_window import ScoredWindow
from keywatch.detect.scoring import ScoredCase
from keywatch.lake import Lake, quoted
from keywatch.model import (
    Action,
    BlastRadius,
    Case,
    Consumer,
    Evidence,
    Impact,
    Origin,
    Standing,
)
from keywatch.text.phrases import listed
from keywatch.vendors import runbook

_MOST_SESSIONS = 10
_MOST_ORIGINS = 20
_MOST_SESSIONS = 10
_MOST_CONSUMERS = 5
_MOST_SENSITIVE = 10
_MOST_PREFIXES = 5


def build_cases(
    lake: Lake, scored: ScoredWindow, standings: dict[str, Standing], *, whole: bool
) -> list[Case]:
    """Cases of the JSON contract for those of `scored`, in their order.

    Without `whole`, those that need no action have no origins, blast radius, impact and query: to
    read these for every key takes longer than to judge it.

    Reads the temporary tables of `detectors.prepare_window` as well, which are those of `scored`.
    """
    with scored.tables(lake):
        facts = _Facts(lake, scored.detectors)
    return [
        _case(one, standings.get(one.key_id, "silent"), facts, whole or one.recommended != "none")
        for one in scored.cases
    ]


@dataclass(frozen=True)
class _Key:
    """What the inventory and the log say of a key; None is what neither says."""

    key: str | None = None
    name: str | None = None
    owner: str | None = None
    environment: str | None = None
    scopes: Sequence[str] | None = None
    revoked_at: datetime | None = None
    source: str | None = None


class _Facts:
    """What the cases need, by key, read once for all of them."""

    def __init__(self, lake: Lake, detectors: Sequence[Detector]) -> None:
        self.detectors = detectors
        self.keys = {
            key_id: _Key(*row)
            for key_id, *row in lake.rows(
                'SELECT key_id, "key", name, owner, environment, scopes, revoked_at, source '
                "FROM keys SEMI JOIN scored_cases USING (key_id)"
            )
        }
        self.unread: dict[str, int] = dict(
            lake.rows(
                "SELECT key_id, sum(lines)::BIGINT FROM unread_lines "
                "WHERE day >= getvariable('window_start') GROUP BY key_id"
            )
        )
        self.evidence = _many(
            lake.records(
                """
            WITH cases AS (
                SELECT c.key_id, c.day, c.prefix, v.network
                FROM scored_cases AS c
                LEFT JOIN visits AS v USING (key_id, day, prefix)
            ),

            -- The visits of a key at a network that is new to it are judged as one: each detector
            -- is shown where it says most.
            judged AS (
                SELECT c.key_id, v.day, v.prefix, v.day = c.day AND v.prefix = c.prefix AS worst
                FROM cases AS c
                JOIN visits AS v USING (key_id)
                WHERE v.day = c.day AND v.prefix = c.prefix OR v.network = c.network
                    AND EXISTS (FROM new_networks AS n
                        WHERE n.key_id = v.key_id AND n.network = v.network)
            ),

            said AS (
                SELECT e.*, j.worst, sum(e.bits) OVER (
                    PARTITION BY e.key_id, e.detector, j.day, j.prefix) AS visit_bits
                FROM scored_evidence AS e
                JOIN judged AS j ON j.key_id = e.key_id AND j.day = coalesce(e.day, j.day)
                    AND j.prefix = coalesce(e.prefix, j.prefix)
                WHERE e.day IS NOT NULL
                UNION ALL
                SELECT e.*, true, e.bits
                FROM scored_evidence AS e
                SEMI JOIN scored_cases USING (key_id)
                WHERE e.day IS NULL
            )

            SELECT DISTINCT s.* EXCLUDE (worst, visit_bits),
                f.action AS fact_action, s.detector IN (FROM rules) AS is_rule
            FROM (
                FROM said
                QUALIFY rank() OVER (PARTITION BY key_id, detector
                    ORDER BY visit_bits DESC, worst DESC, day, prefix) = 1
                UNION
                -- What a fact asks for that is no theft counts for the key, whatever its visit.
                SELECT e.*, false, e.bits
                FROM scored_evidence AS e
                SEMI JOIN scored_cases USING (key_id)
                JOIN facts AS f
                    ON f.detector = e.detector AND e.bits >= f.certain_bits AND f.action <> 'revoke'
            ) AS s
            LEFT JOIN facts AS f ON f.detector = s.detector AND s.bits >= f.certain_bits
            ORDER BY bits DESC, s.detector, day, prefix
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
                    sum(w.events)::BIGINT AS requests,
                    coalesce(sum(w.events) FILTER (v.suspicious), 0)::BIGINT AS requests_suspicious,
                    bool_or(v.worst) AS worst, bool_or(v.suspicious) AS suspicious
                FROM window_activity AS w
                JOIN places AS p USING (place_id)
                JOIN case_visits AS v
                    ON v.key_id = w.key_id AND v.day = w.day AND v.prefix = w.prefix
                GROUP BY ALL
            )
            SELECT *, count(*) OVER (PARTITION BY key_id) AS origins
            QUALIFY row_number() OVER (PARTITION BY key_id
                ORDER BY worst DESC, suspicious DESC, requests DESC, ip) <= $most
            ORDER BY key_id, worst DESC, suspicious DESC, requests DESC, ip
            """,
                most=_MOST_ORIGINS,
            )
        )
        self.visits = _many(
            lake.records(
                """
            SELECT key_id, suspicious, sum(events)::BIGINT AS events,
                sum(response_bytes)::BIGINT AS response_bytes, count(DISTINCT day) AS days,
                list(DISTINCT prefix ORDER BY prefix) AS prefixes
            FROM case_visits
            GROUP BY ALL
            """
            )
        )
        # Roll-ups count an object once a day, address and endpoint: of several days only the events
        # can tell how many they are.
        self.objects: dict[str, int] = dict(
            lake.rows(
                """
            SELECT e.key_id, count(DISTINCT e.object)
            FROM (
                SELECT coalesce(principal, key_id) AS key_id, day, address, object FROM lake.events
            ) AS e
            SEMI JOIN (
                FROM visit_addresses
                SEMI JOIN (FROM case_visits WHERE suspicious) USING (key_id, day, prefix)
            ) USING (key_id, day, address)
            WHERE e.day >= getvariable('window_start') AND e.day < getvariable('window_end')
            GROUP BY e.key_id
            """
            )
        )
        self.addresses = _many(
            lake.records(
                """
            SELECT key_id, addresses, list(day ORDER BY day) AS days
            FROM (
                SELECT v.key_id, v.day, list(DISTINCT a.address ORDER BY a.address) AS addresses
                FROM case_visits AS v
                JOIN visit_addresses AS a USING (key_id, day, prefix)
                JOIN scored_cases AS c USING (key_id)
                WHERE v.suspicious OR c.action = 'none' AND v.worst
                GROUP BY v.key_id, v.day
            )
            GROUP BY key_id, addresses
            ORDER BY key_id, days
            """
            )
        )
        self.sessions: dict[str, list[str]] = dict(
            lake.rows(
                """
            SELECT key_id, list(session ORDER BY events DESC, session)[:$most]
            FROM (
                SELECT s.key_id, s.session, sum(s.events) AS events
                FROM lake.sessions AS s
                JOIN visit_addresses AS a USING (key_id, day, address)
                JOIN case_visits AS v USING (key_id, day, prefix)
                WHERE v.suspicious AND s.day >= getvariable('window_start')
                    AND s.day < getvariable('window_end')
                GROUP BY ALL
            )
            GROUP BY key_id
            """,
                most=_MOST_SESSIONS,
            )
        )
        self.window_days: tuple[date, date] = lake.rows(
            "SELECT getvariable('window_start')::DATE, getvariable('window_end')::DATE"
        )[0]
        self.consumers = _many(
            lake.records(
                """
            WITH ordinary AS (
                SELECT *, count(DISTINCT day) OVER (PARTITION BY key_id) AS days
                FROM case_visits WHERE NOT suspicious
            )

            SELECT *, count(*) OVER (PARTITION BY key_id) AS consumers
            FROM (
                SELECT v.key_id, a.agent, min(v.place) AS origin,
                    sum(a.events) / any_value(v.days) AS requests_per_day
                FROM ordinary AS v
                JOIN visit_agents AS a USING (key_id, day, prefix)
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
            JOIN keys AS k USING (key_id)
            JOIN catalogue AS c USING (source, endpoint)
            ORDER BY ALL
            """
            )
        )
        self.successors = {
            row[0]: row[1]
            for row in lake.rows(
                "SELECT replaces, arg_max(key_id, (created_at, key_id)) FROM keys "
                "WHERE replaces IS NOT NULL AND created_at IS NOT NULL GROUP BY replaces"
            )
        }


def _many(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[row["key_id"]].append(row)
    return grouped


def _case(one: ScoredCase, standing: Standing, facts: _Facts, whole: bool) -> Case:
    key = facts.keys.get(one.key_id, _Key())
    evidence = _evidence(one, facts)
    blast_radius = _blast_radius(one.key_id, key, facts) if whole else None
    impact = _impact(one.key_id, facts) if whole else None
    origins = facts.origins[one.key_id]
    return Case(
        key_id=one.key_id,
        key=key.key,
        name=key.name,
        owner=key.owner,
        environment=key.environment,
        standing=standing,
        goes_on=one.goes_on,
        action=one.recommended,
        bits=one.bits,
        p_value=one.p_value,
        q_value=one.q_value,
        summary=_summary(one.recommended, evidence),
        origins=tuple(
            Origin(row["ip"], row["prefix"], row["asn"], row["organization"], row["country"],
                   row["class"], row["first_seen"], row["last_seen"], row["requests"],
                   row["requests_suspicious"])
            for row in origins
        ),
        more_origins=origins[0]["origins"] - len(origins) if origins else 0,
        evidence=evidence,
        blast_radius=blast_radius,
        impact=impact,
        steps=_steps(one, key, blast_radius, impact, facts) if blast_radius and impact else (),
        events_query=_events_query(one, facts) if whole else "",
        sessions=tuple(facts.sessions.get(one.key_id, ())),
    )  # fmt: skip


def _evidence(one: ScoredCase, facts: _Facts) -> tuple[Evidence, ...]:
    """That of the worst visit and of those that are judged with it, of their days, and of the key.

    Their bits add up to the case's. Of what went on from earlier windows only the titles are known.

    Facts come first, the most urgent before the others. What does not count has 0 bits here, and so
    has what speaks for the owner; what speaks against has as much less.
    """
    rows = [row for row in facts.evidence[one.key_id] if row["bits"] > 0]
    said: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["fact_action"] is None:
            said[row["detector"]] += row["bits"]
    about = {each.id: each.about for each in facts.detectors}
    items = [
        Evidence(
            detector=row["detector"],
            family=row["family"],
            bits=_counted_bits(row, one.shares, said),
            typical=row["typical"],
            actual=row["actual"],
            explanation=row["explanation"],
            said_bits=float(row["bits"]),
            status=row["status"],
            action=one.action if row["is_rule"] and one.by_rule else row["fact_action"],
            about=about.get(row["detector"]),
            subject=row["subject"],
        )
        for row in rows
    ]
    items += [
        Evidence(
            detector=each.id,
            family=each.family,
            bits=one.shares[each.id],
            typical="",
            actual="in an earlier week, from the same network",
            explanation=each.title,
            about=about[each.id],
        )
        for each in facts.detectors
        if one.shares.get(each.id, 0.0) > 0 and each.id not in said
    ]
    return tuple(sorted(items, key=lambda item: item.order))


def _counted_bits(
    row: Mapping[str, Any], shares: Mapping[str, float], said: Mapping[str, float]
) -> float:
    """What a row of evidence adds to its case: all of a theft's, nothing of another fact's."""
    if row["fact_action"] is not None:
        is_theft = row["fact_action"] == "revoke" and row["day"] is not None
        return float(row["bits"]) if is_theft else 0.0
    return float(shares.get(row["detector"], 0.0) * row["bits"] / said[row["detector"]])


def _summary(action: Action, evidence: tuple[Evidence, ...]) -> str:
    """One sentence: the strongest reason of each family, facts and the strongest first."""
    strongest: dict[str, Evidence] = {}
    for item in (item for item in evidence if item.bits > 0 or item.action):
        strongest.setdefault(item.family, item)
    if not strongest:
        return "no unusual activity"
    reasons = [item.explanation for item in strongest.values()][: 1 if action == "none" else 3]
    return "; ".join(reasons)


def _blast_radius(key_id: str, key: _Key, facts: _Facts) -> BlastRadius:
    suspicious = [row for row in facts.visits[key_id] if row["suspicious"]]
    used = facts.scopes[key_id]
    sensitive = {row["endpoint"] for row in used if row["sensitivity"] in ("critical", "high")}
    return BlastRadius(
        scopes_granted=None if key.scopes is None else tuple(key.scopes),
        scopes_used=tuple(sorted({row["scope"] for row in used if row["scope"]})),
        sensitive_endpoints_used=tuple(sorted(sensitive)[:_MOST_SENSITIVE]),
        requests_suspicious=sum(row["events"] for row in suspicious),
        objects_suspicious=facts.objects.get(key_id, 0) if suspicious else 0,
        response_bytes_suspicious=sum(row["response_bytes"] for row in suspicious),
        lines_unread=facts.unread.get(key_id, 0),
    )


def _impact(key_id: str, facts: _Facts) -> Impact:
    legitimate = [row for row in facts.visits[key_id] if not row["suspicious"]]
    consumers = facts.consumers[key_id]
    needed = {
        row["scope"] for row in facts.scopes[key_id] if row["scope"] and not row["suspicious"]
    }
    per_day = sum(row["events"] / row["days"] for row in legitimate)
    return Impact(
        legitimate_requests_per_day=round(per_day, 1),
        consumers=tuple(
            Consumer(row["agent"], row["origin"], round(row["requests_per_day"], 1))
            for row in consumers
        ),
        consumers_total=consumers[0]["consumers"] if consumers else 0,
        successor_key_id=facts.successors.get(key_id),
        scopes_needed=tuple(sorted(needed)),
    )


def _steps(
    one: ScoredCase, key: _Key, blast_radius: BlastRadius, impact: Impact, facts: _Facts
) -> tuple[str, ...]:
    if one.recommended == "none":
        return ()
    suspicious = next((row for row in facts.visits[one.key_id] if row["suspicious"]), None)
    at_hand = runbook.KeyAtHand(
        key_id=one.key_id,
        where=listed(suspicious["prefixes"], _MOST_PREFIXES) if suspicious else "the origins above",
        requests=blast_radius.requests_suspicious,
        key=key.key,
        owner=key.owner,
        environment=key.environment,
        revoked_at=key.revoked_at,
        successor_key_id=impact.successor_key_id,
        scopes_needed=impact.scopes_needed,
        consumers=tuple(asdict(each) for each in impact.consumers),
        consumers_total=impact.consumers_total,
        source=key.source,
    )
    return runbook.steps(one.recommended, at_hand, suspected=one.action != "none")


def _events_query(one: ScoredCase, facts: _Facts) -> str:
    """SQL over the lake that shows the suspicious requests, all of them and no other.

    Of a case without an action it shows the worst visit's, or all of the window's.
    """
    start, end = facts.window_days
    visits = " OR ".join(
        _among("day", [f"DATE '{day}'" for day in row["days"]])
        + " AND "
        + _among("address", [quoted(address) for address in row["addresses"]])
        for row in facts.addresses[one.key_id]
    )
    return (
        "SELECT ts, address, method, path, status, user_agent FROM lake.events "
        f"WHERE {quoted(one.key_id)} IN (key_id, principal) "
        f"AND ({visits or _between(start, end)}) ORDER BY ts"
    )


def _between(start: date, end: date) -> str:
    return f"day >= DATE '{start}' AND day < DATE '{end}'"


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} = {values[0]}" if len(values) == 1 else f"{column} IN ({', '.join(values)})"
