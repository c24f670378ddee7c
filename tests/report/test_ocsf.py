"""The findings are what OCSF's own schema says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from keywatch.model import BlastRadius, Review
from keywatch.report.ocsf import OCSF_VERSION, ocsf_findings, ocsf_lines
from keywatch.text.document import case_document
from tests.deliver.alerts_of import messages_of, review_of
from tests.report.reviews import DOUBTED, EMPTY, FULL, HOSTILE, QUIET, SCANNED, SECOND, TO_ROTATE

VALIDATOR = Draft202012Validator(
    OcsfJsonSchemaEmbedded(get_ocsf_schema(version=OCSF_VERSION)).get_class_schema(
        "detection_finding"
    )
)


@pytest.mark.parametrize("review", [FULL, HOSTILE, QUIET, EMPTY])
def test_findings_are_valid_and_one_for_each_case_with_an_action(review: Review) -> None:
    findings = [json.loads(line) for line in ocsf_lines(review).splitlines()]
    for finding, case in zip(findings, (*review.alerted(), *review.cleared()), strict=True):
        assert [error.message for error in VALIDATOR.iter_errors(finding)] == []
        assert finding["resources"][0]["uid"] == case_document(case)["key_id"]
        assert finding["unmapped"]["action"] == case.action


def test_a_finding_is_as_urgent_as_its_message() -> None:
    calm = replace(SCANNED, blast_radius=BlastRadius(requests_suspicious=2, requests_accepted=2))
    campaign = [replace(FULL.groups[0], key_ids=(calm.key_id, SECOND.key_id))]
    in_it = replace(calm, in_campaign=True)
    for review, severity in (
        (review_of(calm), "high"), (review_of(SCANNED), "critical"), (review_of(SECOND), "medium"),
        (review_of(DOUBTED), "medium"),
        (review_of(in_it, replace(in_it, key_id=SECOND.key_id), groups=campaign), "critical"),
    ):  # fmt: skip
        assert {message.severity for message in messages_of(review)} == {severity}
        assert {finding["severity"].lower() for finding in ocsf_findings(review)} == {severity}


def test_a_finding_names_the_technique_and_each_tactic() -> None:
    (first, *_) = ocsf_findings(FULL)
    assert first["finding_info"]["attacks"] == [
        {
            "version": "16",
            "tactic": {"uid": "TA0001", "name": "Initial Access"},
            "technique": {"uid": "T1078", "name": "Valid Accounts"},
            "sub_technique": {"uid": "T1078.004", "name": "Cloud Accounts"},
        }
    ]


def test_a_finding_sets_what_was_seen_against_what_is_typical() -> None:
    (first, *_) = ocsf_findings(FULL)
    counted = [item for item in FULL.cases[0].evidence if item.bits > 0 or item.action]
    (analysis,) = first["anomaly_analyses"]
    assert analysis["analysis_targets"] == [{"name": FULL.cases[0].key_id, "type": "API key"}]
    assert [
        (one["observation_parameter"], one["observed_pattern"], one["observations"])
        for one in analysis["anomalies"]
    ] == [
        (item.detector, item.explanation, [{"value": item.actual or item.explanation}])
        for item in counted
    ]
    assert [
        (one["observation_parameter"], one["observations"]) for one in analysis["baselines"]
    ] == [(item.detector, [{"value": item.typical}]) for item in counted if item.typical]
    (origin,) = (one for one in analysis["anomalies"] if "origin" in one["observation_parameter"])
    assert origin["observation_type"] == "Origin Analysis"


def test_the_schema_would_not_take_anything() -> None:
    (first, *_) = ocsf_findings(FULL)
    assert list(VALIDATOR.iter_errors(first | {"severity_id": 77}))
    assert list(VALIDATOR.iter_errors(first | {"anomaly_analyses": [{"anomalies": []}]}))
    assert list(VALIDATOR.iter_errors({k: v for k, v in first.items() if k != "finding_info"}))


def test_an_exposed_key_is_no_stolen_one() -> None:
    exposed, doubted = ocsf_findings(TO_ROTATE)
    assert exposed["severity"] == doubted["severity"] == "Medium"
    assert exposed["finding_info"]["types"] == ["Exposed API key"]
    assert exposed["finding_info"]["title"] == "API key exposed: rotate it"
    assert exposed["remediation"]["desc"].startswith("Create a replacement")
    assert doubted["finding_info"]["types"] == ["Stolen API key"]
    for finding in (exposed, doubted):
        assert [error.message for error in VALIDATOR.iter_errors(finding)] == []


def test_a_leaked_key_is_no_stolen_one() -> None:
    (exposed, *_) = TO_ROTATE.cases
    leaked = replace(TO_ROTATE, cases=(replace(exposed, action="revoke"),))
    (finding,) = ocsf_findings(leaked)
    assert finding["finding_info"]["title"] == "API key leaked: revoke it"
    assert finding["finding_info"]["types"] == ["Exposed API key"]
    assert finding["severity"] == "High"
    assert [error.message for error in VALIDATOR.iter_errors(finding)] == []


def test_lines_are_ascii_and_nothing_breaks_them() -> None:
    text = ocsf_lines(HOSTILE)
    assert text.isascii()
    assert len(text.splitlines()) == len(HOSTILE.alerted()) + len(HOSTILE.cleared())


def test_a_finding_is_the_same_one_in_another_run_of_the_window() -> None:
    again = replace(FULL, run=replace(FULL.run, id="another"))
    (one, *_), (other, *_) = ocsf_findings(FULL), ocsf_findings(again)
    assert one["finding_info"]["uid"] == other["finding_info"]["uid"]
    assert one["metadata"]["uid"] != other["metadata"]["uid"]
