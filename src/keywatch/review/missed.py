"""The case of a theft that no review named: an analyst did, and who has to act must hear of it.

It is read from the roll-ups, for one key, and says what a review's case would: where the flagged
visits came from, what was done there, and what would break.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from keywatch.lake import Lake, quoted
from keywatch.model import BlastRadius, Case, Consumer, Evidence, Impact, Origin, Window
from keywatch.review.history import known_endpoints, shown_keys
from keywatch.review.story import Call, Client, Place, Scene, chronology, done, story
from keywatch.settings import ReviewSettings
from keywatch.vendors import runbook
from keywatch.vendors.catalogue import Endpoint

_MOST_REASONS = 10
_MOST_CONSUMERS = 5
_MOST_SENSITIVE = 10

_SOURCE = "SELECT arg_max(source, ts) FROM lake.events WHERE key_id = $key_id"
_OF_WINDOW = """
    WITH flagged AS (
        SELECT DISTINCT day, prefix FROM lake.flagged_visits
        WHERE key_id = $key_id AND window_start = $start AND window_end = $end
    ),

    used AS (
        SELECT a.*, p.* EXCLUDE (address), f.day IS NOT NULL AS is_flagged
        FROM lake.activity AS a
        JOIN known_places() AS p USING (address)
        LEFT JOIN flagged AS f ON f.day = a.day AND f.prefix = p.prefix
        WHERE a.key_id = $key_id AND a.day >= $start AND a.day < $end
    )
"""


def missed_case(lake: Lake, key_id: str, window: Window, settings: ReviewSettings) -> Case:
    """The case of a stolen key, of what is flagged of it in `window`; to be revoked.

    Its bits are the review's, few or none; its evidence is what each detector said of the flagged
    visits, in bits of its own.
    """
    facts = shown_keys(lake, [key_id])[key_id]
    called = _Called(lake, key_id, window, settings.baseline_days)
    used = _Used(lake, key_id, window)
    shown_key, bits = _shown(lake, key_id, window)
    requests = sum(origin.requests for origin in used.flagged)
    successor = lake.value(
        """
        SELECT arg_max(key_id, (created_at, key_id))
        FROM inventory_in_force()
        WHERE replaces = $key_id AND created_at IS NOT NULL
        """,
        key_id=key_id,
    )
    scene = _scene(lake, key_id, window, used, facts.revoked_at, settings)
    where = ", ".join(dict.fromkeys(origin.prefix or origin.ip for origin in used.flagged))
    at_hand = runbook.KeyAtHand(
        key_id=key_id,
        where=where or "the flagged origins",
        requests=requests,
        key=shown_key,
        owner=facts.owner,
        environment=facts.environment,
        revoked_at=facts.revoked_at,
        successor_key_id=successor,
        scopes_needed=called.scopes_needed,
        consumers=tuple(asdict(one) for one in used.consumers),
        consumers_total=used.consumers_total,
        source=lake.value(_SOURCE, key_id=key_id),
    )
    return Case(
        key_id=key_id,
        key=shown_key,
        name=facts.name,
        owner=facts.owner,
        environment=facts.environment,
        standing="assessed" if used.days_before >= settings.warm_up_days else "warming_up",
        action="revoke",
        bits=bits,
        p_value=None,
        q_value=None,
        summary="theft not found by any review",
        origins=used.flagged,
        evidence=_evidence(lake, key_id, window),
        blast_radius=BlastRadius(
            scopes_granted=facts.scopes,
            scopes_used=called.scopes,
            sensitive_endpoints_used=called.sensitive,
            requests_suspicious=requests,
            objects_suspicious=used.flagged_objects,
            response_bytes_suspicious=used.flagged_bytes,
            requests_accepted=scene.accepted if scene else 0,
            requests_denied=scene.denied if scene else 0,
            sensitive_endpoints_suspicious=called.sensitive,
        ),
        impact=Impact(
            legitimate_requests_per_day=used.ordinary_per_day,
            consumers=used.consumers,
            consumers_total=used.consumers_total,
            successor_key_id=successor,
            scopes_needed=called.scopes_needed,
        ),
        steps=runbook.steps("revoke", at_hand),
        events_query=_events_query(key_id, window, [origin.ip for origin in used.flagged]),
        story=story(scene) if scene else "",
        done=done(scene) if scene else "",
        chronology=chronology(scene) if scene else (),
    )


class _Used:
    """What the key did in the window, where and by what, flagged and not."""

    def __init__(self, lake: Lake, key_id: str, window: Window) -> None:
        named = {"key_id": key_id, "start": window.start, "end": window.end}
        places = lake.rows(
            f"""
            {_OF_WINDOW}
            SELECT ip, nullif(prefix, ip) AS prefix, asn, organization,
                nullif(country, '-') AS country, class,
                min(first_ts) AS first_seen, max(last_ts) AS last_seen,
                sum(events)::BIGINT AS requests, sum(object_count)::BIGINT AS objects,
                coalesce(sum(response_bytes), 0)::BIGINT AS response_bytes
            FROM used
            WHERE is_flagged
            GROUP BY ALL
            ORDER BY requests DESC, ip
            """,
            **named,
        )
        self.flagged = tuple(Origin(*place[:-2]) for place in places)
        self.flagged_objects: int = sum(place[-2] for place in places)
        self.flagged_bytes: int = sum(place[-1] for place in places)
        consumers = lake.rows(
            f"""
            {_OF_WINDOW}
            SELECT agent, min(place_of(class, asn, organization, country, located)) AS origin,
                round(sum(events) / count(DISTINCT day), 1)::DOUBLE AS requests_per_day,
                count(*) OVER () AS consumers_total
            FROM used
            WHERE NOT is_flagged
            GROUP BY agent, network
            ORDER BY requests_per_day DESC, agent, origin
            LIMIT {_MOST_CONSUMERS}
            """,
            **named,
        )
        self.consumers = tuple(Consumer(*row[:-1]) for row in consumers)
        self.consumers_total: int = consumers[0][-1] if consumers else 0
        self.ordinary_per_day: float = lake.value(
            f"{_OF_WINDOW} SELECT coalesce(round(sum(events) / count(DISTINCT day), 1), 0)::DOUBLE "
            "FROM used WHERE NOT is_flagged",
            **named,
        )
        self.days_before: int = lake.value(
            "SELECT count(DISTINCT day) FROM lake.activity WHERE key_id = $key_id AND day < $start",
            key_id=key_id,
            start=window.start,
        )


class _Called:
    """What the key called with success, and the scopes that this needs."""

    def __init__(self, lake: Lake, key_id: str, window: Window, baseline_days: int) -> None:
        rows = lake.rows(
            """
            SELECT a.endpoint, bool_or(f.day IS NOT NULL), bool_or(f.day IS NULL)
            FROM lake.activity AS a
            JOIN known_places() AS p USING (address)
            LEFT JOIN lake.flagged_visits AS f
                ON f.key_id = a.key_id AND f.day = a.day AND f.prefix = p.prefix
            WHERE a.key_id = $key_id AND a.day >= $first AND a.day < $end
                AND a.status_class LIKE '2%'
            GROUP BY a.endpoint
            ORDER BY a.endpoint
            """,
            key_id=key_id,
            first=window.start - timedelta(days=baseline_days),
            end=window.end,
        )
        known = known_endpoints(lake)
        found = [(known[name], stolen, own) for name, stolen, own in rows if name in known]
        self.sensitive = tuple(
            endpoint.name
            for endpoint, stolen, _ in found
            if stolen and endpoint.sensitivity in ("critical", "high")
        )[:_MOST_SENSITIVE]
        self.scopes = tuple(sorted({each.scope for each, _, _ in found if each.scope}))
        self.scopes_needed = tuple(
            sorted({each.scope for each, _, own in found if own and each.scope})
        )


def _scene(
    lake: Lake,
    key_id: str,
    window: Window,
    used: _Used,
    revoked_at: datetime | None,
    settings: ReviewSettings,
) -> Scene | None:
    """What is known of the flagged visits; None where the window has none."""
    if not used.flagged:
        return None
    named = {"key_id": key_id, "start": window.start, "end": window.end}
    known = known_endpoints(lake)
    calls = lake.rows(
        f"""
        {_OF_WINDOW}
        SELECT endpoint, sum(events)::BIGINT AS requests,
            coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT,
            coalesce(sum(events) FILTER (is_accepted(status_class)), 0)::BIGINT,
            min(first_ts) FILTER (is_denied(status_class)),
            min(first_ts) FILTER (is_accepted(status_class)),
            max(last_ts) FILTER (is_accepted(status_class))
        FROM used WHERE is_flagged GROUP BY endpoint ORDER BY requests DESC, endpoint
        """,
        **named,
    )
    places = lake.rows(
        f"""
        {_OF_WINDOW}
        SELECT is_flagged, network, nullif(country, '-') AS country, class,
            min(place_of(class, asn, organization, country, located)),
            sum(events)::BIGINT AS requests, min(first_ts), max(last_ts)
        FROM used
        WHERE day BETWEEN (SELECT min(day) FROM flagged) AND (SELECT max(day) FROM flagged)
        GROUP BY ALL ORDER BY requests DESC, network, country, class
        """,
        **named,
    )
    clients = lake.rows(
        f"""
        {_OF_WINDOW}
        SELECT split_part(agent, '/', 1) AS client, sum(events)::BIGINT AS requests,
            client NOT IN (
                SELECT split_part(agent, '/', 1) FROM lake.activity
                WHERE key_id = $key_id AND day < $start)
        FROM used WHERE is_flagged GROUP BY client ORDER BY requests DESC, client
        """,
        **named,
    )
    touched, accessed = _objects(lake, known, named)
    return Scene(
        calls=[_call(row, touched.get(row[0], 0), known.get(row[0])) for row in calls],
        places=[Place(*place) for place in places],
        clients=[Client(*client) for client in clients],
        accessed=accessed,
        has_past=used.days_before >= settings.warm_up_days,
        revoked_at=revoked_at,
        log_ends_at=lake.value(
            "SELECT max(last_ts) FROM lake.activity WHERE day >= $start AND day < $end",
            start=window.start,
            end=window.end,
        ),
    )


def _objects(
    lake: Lake, known: Mapping[str, Endpoint], named: Mapping[str, Any]
) -> tuple[dict[str, int], int]:
    """The distinct objects of accepted flagged requests: by endpoint, and of all ordinary ones.

    Of events that were pruned there are none.
    """
    sensitive = [name for name, one in known.items() if one.sensitivity in ("critical", "high")]
    rows = lake.rows(
        f"""
        {_OF_WINDOW}
        SELECT e.endpoint, count(DISTINCT e.object),
            count(DISTINCT e.object) FILTER (NOT list_contains($sensitive, e.endpoint))
        FROM lake.events AS e
        SEMI JOIN (SELECT day, address FROM used WHERE is_flagged) USING (day, address)
        WHERE coalesce(e.principal, e.key_id) = $key_id AND e.day >= $start AND e.day < $end
            AND coalesce(e.status, 0) < 400
        GROUP BY CUBE (e.endpoint)
        """,
        **named,
        sensitive=sensitive,
    )
    accessed = next((others for endpoint, _, others in rows if endpoint is None), 0)
    return {endpoint: objects for endpoint, objects, _ in rows if endpoint}, accessed


def _call(row: tuple[Any, ...], objects: int, known: Endpoint | None) -> Call:
    sensitivity, why = (known.sensitivity, known.why) if known else (None, None)
    endpoint, requests, denied, accepted, denied_at, accepted_at, accepted_until = row
    return Call(
        endpoint, requests, denied, accepted, objects, denied_at, accepted_at, accepted_until,
        sensitivity, why,
    )  # fmt: skip


def _shown(lake: Lake, key_id: str, window: Window) -> tuple[str | None, float]:
    """The masked key, and what the newest review of the window made of it."""
    named = {"key_id": key_id, "start": window.start, "end": window.end}
    key = lake.value(
        'SELECT "key" FROM inventory_in_force() WHERE key_id = $key_id',
        key_id=key_id,
    ) or lake.value(
        'SELECT arg_max("key", (ts, "key")) FROM lake.events '
        "WHERE key_id = $key_id AND principal IS NULL AND day >= $start AND day < $end",
        **named,
    )
    bits = lake.value(
        "SELECT c.bits FROM lake.cases AS c JOIN lake.runs AS r USING (run_id) "
        "WHERE c.key_id = $key_id AND r.window_start = $start AND r.window_end = $end "
        "ORDER BY r.made_at DESC LIMIT 1",
        **named,
    )
    return key, bits or 0.0


def _evidence(lake: Lake, key_id: str, window: Window) -> tuple[Evidence, ...]:
    """The most that each detector said of a flagged visit, or of its day, at the newest review."""
    rows = lake.rows(
        """
        WITH newest AS (
            SELECT r.run_id
            FROM lake.runs AS r
            SEMI JOIN lake.evidence AS e USING (run_id)
            WHERE r.window_start = $start AND r.window_end = $end
            ORDER BY r.made_at DESC
            LIMIT 1
        ),

        flagged AS (
            SELECT DISTINCT day, prefix FROM lake.flagged_visits
            WHERE key_id = $key_id AND window_start = $start AND window_end = $end
        )

        SELECT e.detector, e.family, e.bits, e.typical, e.actual, e.explanation
        FROM lake.evidence AS e
        SEMI JOIN newest USING (run_id)
        SEMI JOIN flagged AS f ON f.day = e.day AND coalesce(e.prefix = f.prefix, true)
        WHERE e.key_id = $key_id
        QUALIFY row_number() OVER (
            PARTITION BY e.detector
            ORDER BY e.bits DESC, e.day, e.prefix, e.explanation, e.actual) = 1
        ORDER BY e.bits DESC, e.detector
        LIMIT $most
        """,
        key_id=key_id,
        start=window.start,
        end=window.end,
        most=_MOST_REASONS,
    )
    return tuple(Evidence(*row) for row in rows)


def _events_query(key_id: str, window: Window, addresses: list[str]) -> str:
    listed = ", ".join(quoted(address) for address in addresses)
    return (
        "SELECT ts, address, method, path, status, user_agent FROM lake.events "
        f"WHERE {quoted(key_id)} IN (key_id, principal) AND day >= DATE '{window.start:%Y-%m-%d}' "
        f"AND ts < TIMESTAMP '{window.end}' AND address IN ({listed}) ORDER BY ts"
    )
