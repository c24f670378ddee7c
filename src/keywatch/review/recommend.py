"""From a scored case to a recommendation: why, what is at stake, what would break, what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

from keywatch.detect import detectors
from keywatch.detect.detectors import Detector
from keywatch.detect.scored_window import ORDINARY_VISITS, Scored, ordinary_case
from keywatch.detect.scoring import ScoredCase
from keywatch.lake import Lake, quoted, sql_text
from keywatch.model import (
    Action,
    BlastRadius,
    Case,
    Consumer,
    Evidence,
    Impact,
    Origin,
    Standing,
    Window,
)
from keywatch.review.story import Call, Client, Place, Scene, chronology, done, story
from keywatch.text.phrases import listed, sentence
from keywatch.vendors import catalogue_by_source, runbook

_MOST_SENSITIVE = 10
_MOST_PREFIXES = 5


def build_cases(
    lake: Lake, scored: Scored, standings: dict[str, Standing], *, whole: bool
) -> list[Case]:
    """Cases of the JSON contract for those of `scored`, in their order.

    Without `whole`, those that need no action are told in brief: without origins, blast radius,
    impact and query. To read these for every key takes longer than to score it.

    Reads the temporary tables of `detectors.prepare_window` as well, which are those of `scored`.
    """
    with scored.tables(lake):
        evidence = _many(lake.records(sql_text("evidence", __package__)))
        facts = _Facts(lake)
    campaigns = [group.key_ids for group in scored.groups if group.kind == "campaign"]
    in_campaign = {key_id for key_ids in campaigns for key_id in key_ids}
    return [
        _case(
            one,
            standings.get(one.key_id, "silent"),
            _evidence(one, evidence[one.key_id], scored.detectors),
            facts,
            whole=whole or one.recommended != "none",
            in_campaign=one.key_id in in_campaign,
        )
        for one in scored.cases
    ]


def is_brief(case: Case) -> bool:
    """Whether `case` was told in brief."""
    return case.blast_radius is None


def in_brief(case: Case) -> Case:
    """`case` as `build_cases` tells it without `whole`."""
    return case if case.action != "none" or case.as_scored != "none" else replace(case, **_BRIEF)


def in_full(lake: Lake, case: Case, day: date | None, prefix: str | None) -> Case:
    """`case`, which was told in brief, as `build_cases` tells it with `whole`.

    `day` and `prefix` are its worst visit. Reads the temporary tables of its window, which may be
    those of this key alone (`prepare_for`).
    """
    one = ScoredCase(
        case.key_id, day, prefix, case.bits, families={}, shares={}, certain=False, action="none"
    )
    with ordinary_case(lake, one):
        return replace(case, **_full(one, _Facts(lake)))


def prepare_for(lake: Lake, key_id: str, window: Window, baseline_days: int) -> None:
    """Make the temporary tables that `in_full` reads, of the key and of what its past rests on."""
    detectors.prepare_keys(
        lake, [key_id], window, baseline_days, catalogue_by_source(),
        sql=sql_text("facts", __package__) + ORDINARY_VISITS,
    )  # fmt: skip


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
    """What the cases told in full need, by key, read once for all of them (``facts.sql``)."""

    def __init__(self, lake: Lake) -> None:
        lake.execute(sql_text("facts", __package__))
        self.keys = {key_id: _Key(*row) for key_id, *row in lake.rows("FROM case_keys")}
        self.unread: dict[str, int] = dict(lake.rows("FROM case_unread"))
        self.origins = _many(lake.records("FROM case_origins ORDER BY key_id, nth"))
        self.totals = _many(lake.records("FROM case_totals ORDER BY key_id, suspicious"))
        self.objects = {
            key_id: (objects, accessed)
            for key_id, objects, accessed in lake.rows("FROM case_objects")
        }
        self.calls = _many(lake.records("FROM case_calls ORDER BY key_id, requests DESC, endpoint"))
        self.places = _many(
            lake.records("FROM case_places ORDER BY key_id, requests DESC, network, country, class")
        )
        self.clients = _many(
            lake.records("FROM case_clients ORDER BY key_id, requests DESC, client")
        )
        self.log_ends_at: datetime | None = lake.value("FROM case_log")
        self.addresses = _many(lake.records("FROM case_addresses ORDER BY key_id, days"))
        self.sessions: dict[str, list[str]] = dict(lake.rows("FROM case_sessions"))
        self.window_days: tuple[date, date] = lake.rows(
            "SELECT getvariable('window_start')::DATE, getvariable('window_end')::DATE"
        )[0]
        self.consumers = _many(lake.records("FROM case_consumers ORDER BY key_id, nth"))
        self.scopes = _many(lake.records("FROM case_scopes ORDER BY ALL"))
        self.successors: dict[str, str] = dict(lake.rows("FROM case_successors"))


def _many(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[row["key_id"]].append(row)
    return grouped


def _case(
    one: ScoredCase,
    standing: Standing,
    evidence: tuple[Evidence, ...],
    facts: _Facts,
    *,
    whole: bool,
    in_campaign: bool,
) -> Case:
    key = facts.keys.get(one.key_id, _Key())
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
        evidence=evidence,
        in_campaign=in_campaign,
        **(_full(one, facts) | _told(one, standing, evidence, facts) if whole else _BRIEF),
    )


_BRIEF: dict[str, Any] = {
    "origins": (),
    "more_origins": 0,
    "blast_radius": None,
    "impact": None,
    "steps": (),
    "events_query": "",
    "sessions": (),
    "story": "",
    "done": "",
    "chronology": (),
}
"""What a case told in brief has in the place of `_full`."""


def _full(one: ScoredCase, facts: _Facts) -> dict[str, Any]:
    """What a case told in full has more than one in brief."""
    key = facts.keys.get(one.key_id, _Key())
    origins = facts.origins[one.key_id]
    blast_radius = _blast_radius(one.key_id, key, facts)
    impact = _impact(one.key_id, facts)
    return {
        "origins": tuple(
            Origin(row["ip"], row["prefix"], row["asn"], row["organization"], row["country"],
                   row["class"], row["first_seen"], row["last_seen"], row["requests"],
                   row["requests_suspicious"])
            for row in origins
        ),
        "more_origins": origins[0]["origins"] - len(origins) if origins else 0,
        "blast_radius": blast_radius,
        "impact": impact,
        "steps": _steps(one, key, blast_radius, impact, facts),
        "events_query": _events_query(one, facts),
        "sessions": tuple(facts.sessions.get(one.key_id, ())),
    }  # fmt: skip


def _told(
    one: ScoredCase, standing: Standing, evidence: tuple[Evidence, ...], facts: _Facts
) -> dict[str, Any]:
    """The story of the suspicious visits; of a case without one, what asks for the action."""
    if one.recommended == "none":
        return {}
    scene = _scene(one.key_id, standing, facts)
    if scene is None:
        summary = sentence(_summary(one.recommended, evidence))
        return {"story": f"{summary} No suspicious use in this window."}
    return {"story": story(scene), "done": done(scene), "chronology": chronology(scene)}


def _scene(key_id: str, standing: Standing, facts: _Facts) -> Scene | None:
    places = [
        Place(row["suspicious"], row["network"], row["country"], row["class"], row["place"],
              row["requests"], row["first_seen"], row["last_seen"])
        for row in facts.places[key_id]
    ]  # fmt: skip
    if not any(place.suspicious for place in places):
        return None
    return Scene(
        calls=[
            Call(row["endpoint"], row["requests"], row["denied"], row["accepted"], row["objects"],
                 row["denied_at"], row["accepted_at"], row["accepted_until"], row["sensitivity"],
                 row["why"])
            for row in facts.calls[key_id]
        ],
        places=places,
        clients=[
            Client(row["client"], row["requests"], row["is_new"]) for row in facts.clients[key_id]
        ],
        accessed=facts.objects.get(key_id, (0, 0))[1],
        has_past=standing == "assessed",
        revoked_at=facts.keys.get(key_id, _Key()).revoked_at,
        log_ends_at=facts.log_ends_at,
    )  # fmt: skip


def _evidence(
    one: ScoredCase, rows: Sequence[Mapping[str, Any]], loaded: Sequence[Detector]
) -> tuple[Evidence, ...]:
    """That of the worst visit and of those that are scored with it, of their days, and of the key.

    Their bits add up to the case's. Of what went on from earlier windows only the titles are known.

    Facts come first, the most urgent before the others. What does not count has 0 bits here, and so
    has what speaks for the owner; what speaks against has as much less.
    """
    said: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["fact_action"] is None:
            said[row["detector"]] += row["bits"]
    about = {each.id: each.about for each in loaded}
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
        for each in loaded
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
    suspicious = [row for row in facts.totals[key_id] if row["suspicious"]]
    used = facts.scopes[key_id]
    sensitive = {row["endpoint"] for row in used if row["sensitivity"] in ("critical", "high")}
    calls = facts.calls[key_id] if suspicious else []
    return BlastRadius(
        scopes_granted=None if key.scopes is None else tuple(key.scopes),
        scopes_used=tuple(sorted({row["scope"] for row in used if row["scope"]})),
        sensitive_endpoints_used=tuple(sorted(sensitive)[:_MOST_SENSITIVE]),
        requests_suspicious=sum(row["events"] for row in suspicious),
        objects_suspicious=facts.objects.get(key_id, (0, 0))[0] if suspicious else 0,
        response_bytes_suspicious=sum(row["response_bytes"] for row in suspicious),
        lines_unread=facts.unread.get(key_id, 0),
        requests_accepted=sum(row["accepted"] for row in calls),
        requests_denied=sum(row["denied"] for row in calls),
        sensitive_endpoints_suspicious=tuple(
            sorted(
                row["endpoint"]
                for row in calls
                if row["accepted"] and row["sensitivity"] in ("critical", "high")
            )[:_MOST_SENSITIVE]
        ),
    )


def _impact(key_id: str, facts: _Facts) -> Impact:
    legitimate = [row for row in facts.totals[key_id] if not row["suspicious"]]
    consumers = facts.consumers[key_id]
    needed = {
        row["scope"] for row in facts.scopes[key_id] if row["scope"] and not row["suspicious"]
    }
    per_day = sum((row["events"] / row["days"] for row in legitimate), 0.0)
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
    suspicious = next((row for row in facts.totals[one.key_id] if row["suspicious"]), None)
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
