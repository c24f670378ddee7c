"""A review as OCSF Detection Findings (class 2004), one JSON object a line, for a SIEM or a lake.

Open Cybersecurity Schema Framework 1.8.0. A finding is a case that needs an action, or that a
verdict has cleared, which is resolved; what OCSF has no place for (bits, p-values, the query)
stands in ``unmapped``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from keywatch.model import Action, Case, Confidence, Family, Origin, Review, Severity
from keywatch.text import attack
from keywatch.text.document import case_document

OCSF_VERSION = "1.8.0"
_SEVERITY_IDS: dict[Severity, int] = {"critical": 5, "high": 4, "medium": 3}
_CONFIDENCE_IDS: dict[Confidence, int] = {"high": 3, "medium": 2, "low": 1}
INFORMATIONAL = (1, "Informational")
"""OCSF's number and name of the severity of what needs nothing."""
_TITLES: dict[Action, str] = {
    "revoke": "API key likely stolen: revoke it",
    "rotate": "API key exposed: rotate it",
    "investigate": "Unusual API key activity: investigate it",
    "none": "Usual API key activity",
}
_LEAKED_TITLE = "API key leaked: revoke it"
_TYPES: dict[Action, str] = {
    "revoke": "Stolen API key",
    "rotate": "Exposed API key",
    "investigate": "Stolen API key",
    "none": "API key in use",
}
_ANALYSES: dict[Family, str] = {
    "origin": "Origin Analysis",
    "endpoints": "Endpoint Analysis",
    "volume": "Volume Analysis",
    "client": "Client Analysis",
    "policy": "Policy Analysis",
    "all": "Behavior Analysis",
}
_STATISTICAL = 3
_ON_TRIAL = {"state_id": 3, "state": "Experimental"}


def ocsf_lines(review: Review) -> str:
    """The review's findings as JSON Lines, in ASCII; empty where nothing needs an action."""
    return "".join(
        json.dumps(finding, ensure_ascii=True, allow_nan=False) + "\n"
        for finding in ocsf_findings(review)
    )


def ocsf_findings(review: Review) -> Iterator[dict[str, Any]]:
    """One Detection Finding for each case with an action or cleared by a verdict.

    Times are milliseconds since 1970.
    """
    for case in (*review.alerted(), *review.cleared()):
        yield _finding(case, review)


def _finding(case: Case, review: Review) -> dict[str, Any]:
    # By way of the contract's document: text there is Unicode whatever the log held.
    told = case_document(case)
    severity_id, severity_name = _severity(case)
    # A cleared case is named for what it was.
    found = case.as_scored if case.action == "none" else case.action
    # A key is revoked for its use, or for what is known of it while no use is suspicious.
    radius = case.blast_radius
    is_leaked = found == "revoke" and radius is not None and not radius.requests_suspicious
    counted = [item for item in told["evidence"] if item["bits"] > 0 or item["action"]]
    seen = [origin for origin in case.origins if origin.requests]
    end = milliseconds(review.window.end)
    return {
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200401,
        "type_name": "Detection Finding: Create",
        "time": end,
        "start_time": milliseconds(review.window.start),
        "end_time": end,
        "severity_id": severity_id,
        "severity": severity_name,
        "confidence_id": _CONFIDENCE_IDS[case.confidence],
        "confidence": case.confidence.capitalize(),
        **_status(case),
        "message": told["story"] or told["summary"],
        "metadata": {
            "version": OCSF_VERSION,
            "uid": f"{review.run.id}:{told['key_id']}",
            "product": {
                "name": "Keywatch",
                "vendor_name": "Keywatch",
                "version": review.run.version,
            },
        },
        "finding_info": {
            # The same key in the same window is the same finding, however often it is reviewed.
            "uid": f"{told['key_id']}:{review.window.start:%Y-%m-%d}:{review.window.end:%Y-%m-%d}",
            "title": _LEAKED_TITLE if is_leaked else _TITLES[found],
            "desc": told["story"] or told["summary"],
            "types": [_TYPES["rotate" if is_leaked else found]],
            "created_time": end,
            **_when_seen(seen),
            **_attacks(counted),
            "analytic": _analytic("keywatch"),
            "related_analytics": [
                _analytic(item["detector"]) | (_ON_TRIAL if item["status"] == "test" else {})
                for item in told["evidence"]
            ],
        },
        **_anomaly_analyses(told["key_id"], counted),
        "evidences": [
            *({"src_endpoint": _endpoint(origin)} for origin in told["origins"]),
            *({"data": item} for item in told["evidence"]),
        ],
        "resources": [_resource(told)],
        "remediation": {"desc": "\n".join(told["steps"]) or "No action needed."},
        "unmapped": {
            name: told[name]
            for name in (
                "action", "scored_action", "verdict", "bits", "p_value", "q_value",
                "summary", "chronology", "blast_radius", "impact", "events_query",
            )
        },
    }  # fmt: skip


def _attacks(evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The techniques of what counts, an entry for each tactic; none where no detector is known."""
    techniques = {
        item["technique"]["id"]: item["technique"] for item in evidence if item["technique"]
    }
    attacks = [
        {
            "version": attack.version(),
            **({"tactic": {"uid": tactic["id"], "name": tactic["name"]}} if tactic else {}),
            "technique": _named(uid.partition(".")[0], technique["name"]),
            **({"sub_technique": _named(uid, technique["sub_technique"])} if "." in uid else {}),
        }
        for uid, technique in techniques.items()
        for tactic in technique["tactics"] or [None]
    ]
    return {"attacks": attacks} if attacks else {}


def _anomaly_analyses(key_id: str, evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What counts, as deviations from what is typical of the key; none where nothing does."""
    if not evidence:
        return {}
    asked = [
        {"observation_parameter": item["detector"], "observation_type": _ANALYSES[item["family"]]}
        for item in evidence
    ]
    return {
        "anomaly_analyses": [
            {
                "analysis_targets": [{"name": key_id, "type": "API key"}],
                "anomalies": [
                    question
                    | {
                        "observed_pattern": item["explanation"],
                        "observations": [{"value": item["actual"] or item["explanation"]}],
                    }
                    for question, item in zip(asked, evidence, strict=True)
                ],
                "baselines": [
                    question | {"observations": [{"value": item["typical"]}]}
                    for question, item in zip(asked, evidence, strict=True)
                    if item["typical"]
                ],
            }
        ]
    }


def _named(uid: str, name: str) -> dict[str, str]:
    return {"uid": uid, "name": name} if name else {"uid": uid}


def _severity(case: Case) -> tuple[int, str]:
    """OCSF's number and name of the case's severity."""
    if case.action == "none":
        return INFORMATIONAL
    return _SEVERITY_IDS[case.severity], case.severity.capitalize()


def _status(case: Case) -> dict[str, Any]:
    given = case.verdict
    if given is None:
        return {"status_id": 1, "status": "New"}
    detail = {"status_detail": f"{given.verdict} by {given.by}: {given.because}"}
    if given.clears:
        return {"status_id": 4, "status": "Resolved"} | detail
    return {"status_id": 2, "status": "In Progress"} | detail


def _when_seen(origins: list[Origin]) -> dict[str, int]:
    if not origins:
        return {}
    return {
        "first_seen_time": milliseconds(min(origin.first_seen for origin in origins)),
        "last_seen_time": milliseconds(max(origin.last_seen for origin in origins)),
    }


def _analytic(name: str) -> dict[str, Any]:
    return {"name": name, "uid": name, "type_id": _STATISTICAL, "type": "Statistical"}


def _endpoint(origin: dict[str, Any]) -> dict[str, Any]:
    # A service that calls for itself is logged by its name.
    place: dict[str, Any] = {"type_id": 0, address_field(origin["ip"]): origin["ip"]}
    if origin["asn"] is not None:
        place["autonomous_system"] = {
            "number": origin["asn"],
            "name": origin["organization"] or f"AS{origin['asn']}",
        }
    if origin["country"] is not None:
        place["location"] = {"country": origin["country"]}
    return place


def address_field(address: str) -> str:
    """Where an endpoint has its address: ``ip``, or ``svc_name`` where that is a service's name."""
    try:
        ip_address(address)
    except ValueError:
        return "svc_name"
    return "ip"


def _resource(told: dict[str, Any]) -> dict[str, Any]:
    resource: dict[str, Any] = {"uid": told["key_id"], "type": "API key"}
    if told["name"] or told["key"]:
        resource["name"] = told["name"] or told["key"]
    if told["owner"]:
        resource["owner"] = {"name": told["owner"]}
    if told["environment"]:
        resource["labels"] = [told["environment"]]
    return resource


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970; a time without a zone is UTC."""
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
