"""A review as the JSON of the contract; ``review.schema.json`` says each field's unit and range."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from keywatch.model import (
    About,
    AskedOwner,
    BlastRadius,
    Case,
    Consumer,
    Coverage,
    Evidence,
    GivenVerdict,
    Group,
    HealthFinding,
    HygieneFinding,
    Impact,
    NewNetwork,
    Origin,
    Rehearsal,
    RehearsedAlert,
    Response,
    Review,
    Window,
)
from keywatch.text.safe_text import unicode_only

_BITS_DIGITS = 2


def review_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `review_document`; its ``$defs/case`` is `case_document`'s."""
    text = resources.files(__package__).joinpath("review.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def review_document(review: Review) -> dict[str, Any]:
    """The review as JSON values, cases in the review's order.

    Text from logs is kept as it was, for programs; only lone surrogates, which are no Unicode text,
    become U+FFFD.
    """
    run = review.run
    document = {
        "window": _window(review.window),
        "run": {
            "id": run.id,
            "lake_snapshot": run.lake_snapshot,
            "config_hash": run.config_hash,
            "version": run.version,
        },
        "coverage": _coverage(review.coverage),
        "cases": [case_document(case) for case in review.cases],
        "groups": [_group(group) for group in review.groups],
        "hygiene": [_hygiene(finding) for finding in review.hygiene],
        "new_networks": [_new_network(one) for one in review.new_networks],
        "health": [_health(finding) for finding in review.health],
        "response": None if review.response is None else response_document(review.response),
        "attribution": review.attribution,
    }
    return {name: unicode_only(value) for name, value in document.items()}


def case_document(case: Case) -> dict[str, Any]:
    """One case as JSON values, as it stands in ``cases`` of `review_document`."""
    document = {
        "key_id": case.key_id,
        "key": case.key,
        "sessions": list(case.sessions),
        "name": case.name,
        "owner": case.owner,
        "environment": case.environment,
        "standing": case.standing,
        "goes_on": case.goes_on,
        "action": case.action,
        "scored_action": case.as_scored,
        "verdict": _verdict(case.verdict),
        "asked": [_asked(one) for one in case.asked],
        "severity": case.severity,
        "confidence": case.confidence,
        "bits": round(case.bits, _BITS_DIGITS),
        "p_value": case.p_value,
        "q_value": case.q_value,
        "summary": case.summary,
        "story": case.story,
        "done": case.done,
        "chronology": [{"at": rfc3339(step.at), "text": step.text} for step in case.chronology],
        "origins": [_origin(origin) for origin in case.origins],
        "more_origins": case.more_origins,
        "evidence": [_evidence(evidence) for evidence in case.evidence],
        "blast_radius": asdict(case.blast_radius) if case.blast_radius else {},
        "impact": asdict(case.impact) if case.impact else {},
        "steps": list(case.steps),
        "events_query": case.events_query,
    }
    return {name: unicode_only(value) for name, value in document.items()}


def blast_radius_of(document: Mapping[str, Any]) -> BlastRadius | None:
    """That of a case's document, an older Keywatch's too; None where it was told in brief."""
    values = document.get("blast_radius")
    if not values:
        return None
    older = {"requests_accepted": values.get("requests_suspicious", 0)}
    return BlastRadius(**older | _known(BlastRadius, values))


def impact_of(document: Mapping[str, Any]) -> Impact | None:
    """That of a case's document, as of `blast_radius_of`."""
    values = document.get("impact")
    if not values:
        return None
    consumers = tuple(Consumer(**_known(Consumer, one)) for one in values.get("consumers", ()))
    known = {"consumers_total": len(consumers)} | _known(Impact, values)
    return Impact(**known | {"consumers": consumers})


def _known(
    kind: type[BlastRadius | Consumer | Impact], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of `values` that the dataclass has, lists as tuples."""
    names = {field.name for field in fields(kind)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }


def _verdict(given: GivenVerdict | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "verdict": given.verdict,
        "by": given.by,
        "because": given.because,
        "given_at": rfc3339(given.given_at),
        "clears": given.clears,
        "still_open": given.still_open,
    }


def _asked(asked: AskedOwner) -> dict[str, Any]:
    return {
        "owner": asked.owner,
        "asked_at": rfc3339(asked.asked_at),
        "answer": asked.answer,
        "until": asked.until and asked.until.isoformat(),
        "answered_at": asked.answered_at and rfc3339(asked.answered_at),
        "way": asked.way,
        "note": asked.note,
    }


def response_document(found: Response) -> dict[str, Any]:
    """Open alerts and figures as JSON values, without the time at which they were read."""
    open_alerts = [
        asdict(one) | {"opened_at": rfc3339(one.opened_at), "window": _window(one.window)}
        for one in found.open
    ]
    document = asdict(replace(found, open=())) | {"open": open_alerts}
    del document["as_of"]
    return {name: unicode_only(value) for name, value in document.items()}


def rehearsal_document(rehearsal: Rehearsal) -> dict[str, Any]:
    """What would have been alerted as JSON values; ``changes`` where there was a comparison.

    ``detectors`` are those that were compared with, where there were some.
    """
    document: dict[str, Any] = {
        "windows": [_window(window) for window in rehearsal.windows],
        "alerts": [_rehearsed(alert) for alert in rehearsal.alerts],
    }
    if rehearsal.against is not None:
        document["against"] = [_rehearsed(alert) for alert in rehearsal.against]
        document["changes"] = [
            {
                "window": _window(either.window),
                "key_id": either.key_id,
                "action": one.action if one else "none",
                "against": other.action if other else "none",
            }
            for one, other in rehearsal.changes()
            if (either := one or other)
        ]
    if rehearsal.added or rehearsal.replaced:
        document["detectors"] = {
            "added": [*rehearsal.added],
            "replaced": [*rehearsal.replaced],
        }
    return {name: unicode_only(value) for name, value in document.items()}


def _window(window: Window) -> dict[str, str]:
    return {"start": rfc3339(window.start), "end": rfc3339(window.end)}


def _rehearsed(alert: RehearsedAlert) -> dict[str, Any]:
    return {
        "window": _window(alert.window),
        "key_id": alert.key_id,
        "name": alert.name,
        "action": alert.action,
        "bits": round(alert.bits, _BITS_DIGITS),
        "summary": alert.summary,
    }


def json_text(document: dict[str, Any]) -> str:
    """The document as indented ASCII: no control character but the line breaks between fields.

    Raises:
        ValueError: a number is infinite or not a number, which JSON can't say.
    """
    return json.dumps(document, ensure_ascii=True, allow_nan=False, indent=2) + "\n"


def review_text(review: Review) -> Iterator[str]:
    """`json_text` of `review_document`, in parts: of many cases each takes its turn in memory.

    Raises:
        ValueError: as `json_text`.
    """
    around = json_text(review_document(replace(review, cases=())))
    before, none, after = around.partition('\n  "cases": []')
    if not review.cases:
        yield around
        return
    yield before + none.removesuffix("]")
    between = "\n    "
    for case in review.cases:
        yield between + json_text(case_document(case)).rstrip("\n").replace("\n", "\n    ")
        between = ",\n    "
    yield "\n  ]" + after


def rfc3339(time: datetime) -> str:
    """``2026-09-28T00:00:00Z``; a time without a zone is UTC."""
    utc = time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat() + "Z"


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "keys": coverage.keys,
        "assessed": coverage.assessed,
        "warming_up": coverage.warming_up,
        "not_assessable": coverage.not_assessable,
        "silent": coverage.silent,
        "events": coverage.events,
        "unlocated_addresses": coverage.unlocated_addresses,
        "keyless_events": coverage.keyless_events,
        "rejected_lines": coverage.rejected_lines,
        "held_back_events": coverage.held_back_events,
        "history_days": coverage.history_days,
        "keys_without_past": coverage.keys_without_past,
        "proxy_addresses": list(coverage.proxy_addresses),
        "notes": list(coverage.notes),
        "calibration": None if coverage.calibration is None else asdict(coverage.calibration),
        "power": [asdict(power) for power in coverage.power],
        "suppressions": [
            {
                **asdict(suppression),
                "starts_on": suppression.starts_on.isoformat(),
                "ends_on": suppression.ends_on.isoformat(),
                "families": list(suppression.families),
            }
            for suppression in coverage.suppressions
        ],
    }


def _origin(origin: Origin) -> dict[str, Any]:
    return {
        "ip": origin.ip,
        "prefix": origin.prefix,
        "asn": origin.asn,
        "organization": origin.organization,
        "country": origin.country,
        "class": origin.origin_class,
        "first_seen": rfc3339(origin.first_seen),
        "last_seen": rfc3339(origin.last_seen),
        "requests": origin.requests,
        "requests_suspicious": origin.requests_suspicious,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "detector": evidence.detector,
        "family": evidence.family,
        "bits": round(evidence.bits, _BITS_DIGITS),
        "typical": evidence.typical,
        "actual": evidence.actual,
        "explanation": evidence.explanation,
        "said_bits": _rounded(evidence.said_bits),
        "status": evidence.status,
        "action": evidence.action,
        "subject": evidence.subject,
        **_about(evidence.about),
    }


def _about(about: About | None) -> dict[str, Any]:
    if about is None:
        return dict.fromkeys(("title", "technique", "false_positives", "known_gaps"))
    technique = about.technique
    return {
        "title": about.title,
        "technique": {
            "id": technique.uid,
            "name": technique.name,
            "sub_technique": technique.part,
            "tactics": [{"id": uid, "name": name} for uid, name in technique.tactics],
        },
        "false_positives": about.false_positives,
        "known_gaps": about.known_gaps,
    }


def _rounded(bits: float | None) -> float | None:
    return None if bits is None else round(bits, _BITS_DIGITS)


def _group(group: Group) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "key_ids": list(group.key_ids),
        "origin": group.origin,
        "explanation": group.explanation,
    }


def _hygiene(finding: HygieneFinding) -> dict[str, Any]:
    return {
        "key_id": finding.key_id,
        "detector": finding.detector,
        "explanation": finding.explanation,
        "key": finding.key,
        "name": finding.name,
        "owner": finding.owner,
        "environment": finding.environment,
        "action": finding.action,
        "due_on": None if finding.due_on is None else finding.due_on.isoformat(),
        "days": finding.days,
    }


def _health(finding: HealthFinding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "subject": finding.subject,
        "status": finding.status,
        "text": finding.text,
    }


def _new_network(one: NewNetwork) -> dict[str, Any]:
    return {
        "key_id": one.key_id,
        "key": one.key,
        "name": one.name,
        "owner": one.owner,
        "network": one.network,
        "organization": one.organization,
        "countries": list(one.countries),
        "class": one.origin_class,
        "prefixes": list(one.prefixes),
        "addresses": one.addresses,
        "requests": one.requests,
        "first_seen": rfc3339(one.first_seen),
        "last_seen": rfc3339(one.last_seen),
        "old_place_in_use": one.old_place_in_use,
        "owner_keys": one.owner_keys,
        "owner_since": one.owner_since and one.owner_since.isoformat(),
        "open_since": one.open_since and one.open_since.isoformat(),
        "action": one.action,
        "bits": round(one.bits, _BITS_DIGITS),
        "outcome": one.outcome,
    }
