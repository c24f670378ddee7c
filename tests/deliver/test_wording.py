"""Text for people: what reads as before, and what no program may take for more."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from keywatch.deliver import message_schema
from keywatch.deliver.message import (
    alert_message,
    heartbeat_message,
    question_message,
    summary_message,
    with_id,
)
from keywatch.deliver.wording import as_text, facts, inert, reason_text, upkeep_lines
from keywatch.review.questions import Question
from tests.deliver.alerts_of import changes_of, messages_of, review_of, upkeep_of
from tests.report.reviews import (
    AILING,
    DOUBTED,
    EXPOSED,
    FULL,
    HOME_V6,
    LATE,
    M247,
    REMINDED,
    SCANNED,
    SECOND,
    WEEK,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    "text",
    [
        "45.153.78.122 (AS9009 M247 Europe S.A., RO): 412 requests",
        "2a02:8109:b6bf:9200:a5d1:7c1:12fe:77",
        "Grafana/10.4.3",
        "read:checks, admin:*",
        "GET /v1/checks/{id}/results",
        "5.2 MB of answers; 3.14 bits.",
        "arn:aws:iam::123456789012:user/terraform",
    ],
)
def test_what_is_no_address_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://evil.example/x", "https[:]//evil[.]example/x"),
        ("see www.evil.co.uk now", "see www.evil.co[.]uk now"),
        ("javascript:alert(1)", "javascript[:]alert(1)"),
        ("mailto:a@evil.example", "mailto[:]a@evil[.]example"),
        ("пример.рф", "пример[.]рф"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
    ],
)
def test_what_a_program_would_follow_is_broken(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_an_alert_as_text_has_all_that_is_needed_to_decide() -> None:
    (message,) = messages_of(review_of(SCANNED))
    assert as_text(message) == (GOLDEN / "alert.txt").read_text(encoding="utf-8")


def test_a_week_s_upkeep_as_text() -> None:
    assert as_text(upkeep_of(FULL)) == (GOLDEN / "upkeep.txt").read_text(encoding="utf-8")


def test_a_heartbeat_as_text_and_by_its_schema() -> None:
    last = datetime(2026, 10, 4, 23, 58)
    message = heartbeat_message(AILING.health, 180_425, last, "2026-10-05T06:00:00Z")
    message = with_id(message, "msg_heartbeat", "heartbeat")

    jsonschema.validate(
        json.loads(message.to_json()), message_schema(), cls=jsonschema.Draft202012Validator
    )
    assert as_text(message) == (GOLDEN / "heartbeat.txt").read_text(encoding="utf-8")


def test_more_upkeep_than_fits_is_counted_and_no_rule_is_left_out() -> None:
    many = [replace(LATE, key_id=f"key_{n:03}") for n in range(50)]
    message = upkeep_of(replace(FULL, hygiene=(*many, REMINDED)))
    assert message.title == "Key hygiene: 51 keys, week 2026-W40"
    assert message.why.startswith("50 rotation overdue, 1 rotation due.")
    assert [item.rule for item in message.upkeep] == ["rotation_overdue"] * 20 + ["rotation_due"]
    assert message.more_upkeep == 30
    assert upkeep_lines(message)["not listed here"] == [
        "and 30 more: see keywatch review --week 2026-W40 --format json"
    ]


def test_a_key_to_rotate_is_replaced_first_and_says_what_it_is() -> None:
    (message,) = messages_of(review_of(EXPOSED))
    assert (message.action, message.severity) == ("rotate", "medium")
    lines = as_text(message).splitlines()
    assert lines[0] == "ROTATE key_0700620 (Mobile app)  [medium]"
    steps = [line.partition(".")[2].strip() for line in lines if line.startswith("  step ")]
    words = ["Create", "Fix", "Revoke", "Before", "Verify"]
    assert [step.split()[0] for step in steps] == words


def test_an_environment_is_not_called_the_owner() -> None:
    for owner, environment, shown in (
        ("team-mobile", "prod", "  owner        team-mobile · prod"),
        ("team-mobile", None, "  owner        team-mobile"),
        (None, "prod", "  environment  prod"),
    ):
        case = replace(EXPOSED, owner=owner, environment=environment)
        (message,) = messages_of(review_of(case))
        assert shown in as_text(message).splitlines()
    (message,) = messages_of(review_of(replace(EXPOSED, owner=None, environment=None)))
    assert not {"owner", "environment"} & dict(facts(message)).keys()


def test_a_fact_without_bits_is_a_reason_and_has_none() -> None:
    (change,) = changes_of(review_of(replace(EXPOSED, bits=0.0)))
    (fact,) = change.alert.document["evidence"]
    document = change.alert.document | {"evidence": [fact | {"bits": 0.0, "action": "rotate"}]}
    message = alert_message(replace(change, alert=replace(change.alert, document=document)))
    assert reason_text(message.reasons[0]) == (
        "The full key stood in a path, a query or an agent, where others read it."
    )
    summary = summary_message([message], "2026-10-05T06:00:00Z")
    assert summary.title == "1 more alert: 1 to rotate"
    assert summary.worst == ("ROTATE key_0700620 (Mobile app)",)


def test_a_campaign_tells_apart_what_is_stolen_exposed_and_to_be_asked() -> None:
    asked = replace(DOUBTED, key_id="key_asked")
    group = replace(FULL.groups[0], key_ids=("key_0700353", "key_0700620", "key_asked"))
    (message,) = messages_of(review_of(SCANNED, EXPOSED, asked, groups=[group]))
    assert message.steps == (
        "Revoke now: ply_live_prod_4f8a2c…9e1d",
        "Then replace each and switch its consumers; keywatch case KEY lists the steps",
        "Replace, then revoke: ply_live_prod_a1b2c3…77aa",
        "Ask the owners to confirm this use: key_asked",
        "Import the inventory with revoked_at: Keywatch then reports any further use",
    )


def test_an_owner_is_asked_about_the_own_key_of_a_campaign_and_what_is_unusual_of_it() -> None:
    usual = replace(HOME_V6, requests_suspicious=0)
    second = replace(SECOND, origins=(M247, usual), more_origins=7)
    (change,) = changes_of(review_of(SCANNED, second, groups=FULL.groups))
    question = Question(
        "ask_1", change.alert.alert_id, (SECOND.key_id,), "team-delivery", "mail", "d@example.com",
        (), WEEK, "revoke", datetime(2026, 10, 5), timedelta(hours=2),
    )  # fmt: skip
    message = question_message(question, change.alert)
    assert message.why == SECOND.story
    assert [(place.ip, place.requests) for place in message.places] == [
        (M247.ip, M247.requests_suspicious)
    ]
    assert message.more_places == 0
    both = replace(question, key_ids=(SCANNED.key_id, SECOND.key_id))
    assert question_message(both, change.alert).why.startswith("One address that no key had used")


def test_a_campaign_as_text_names_its_keys() -> None:
    (message,) = messages_of(review_of(SCANNED, SECOND, groups=FULL.groups))
    lines = as_text(message).splitlines()
    assert lines[0] == (
        "REVOKE campaign: 2 keys used from 45.153.78.122 (M247 Europe SRL, RO)  [critical]"
    )
    keys = [line for line in lines if line.startswith("  - ")]
    assert [line.split()[1] for line in keys] == ["key_0700353", "key_0700411"]
    assert keys[0].endswith("owner team-observability): revoke")
    assert any(
        "Revoke now: ply_live_prod_4f8a2c…9e1d, ply_live_prod_77b0aa…01fc" in x for x in lines
    )
