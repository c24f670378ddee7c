"""The JSON is what its schema says, and the schema says something."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from keywatch.load.origins import ORIGIN_CLASSES
from keywatch.model import (
    ACTIONS,
    HEALTH_CHECKS,
    BlastRadius,
    Case,
    Consumer,
    Family,
    Impact,
    Review,
    Standing,
    Window,
)
from keywatch.text.document import (
    blast_radius_of,
    case_document,
    impact_of,
    json_text,
    review_document,
    review_schema,
    review_text,
)
from tests.report.reviews import AILING, EMPTY, FULL, HOSTILE, HOSTILE_TEXT, QUIET, SCANNED

VALIDATOR = Draft202012Validator(review_schema(), format_checker=FormatChecker())


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(review_schema())
    assert review_schema()["$id"] == "urn:keywatch:review:1"


def test_every_field_is_described_and_every_object_closed() -> None:
    schema = review_schema()
    for where, node in nodes(schema):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False, where
            assert sorted(node["required"]) == sorted(node["properties"]), where
        for name, field in node.get("properties", {}).items():
            described = field
            if "$ref" in field and "title" not in field:
                described = schema["$defs"][field["$ref"].rpartition("/")[2]]
            assert described["title"], f"{where}.{name}"
            assert described["description"], f"{where}.{name}"


def nodes(value: Any, where: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield where, value
        for name, child in value.items():
            yield from nodes(child, f"{where}.{name}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from nodes(child, f"{where}[{number}]")


def test_the_schema_names_the_same_words_as_the_engine() -> None:
    definitions = review_schema()["$defs"]
    assert definitions["case"]["properties"]["action"]["enum"] == list(ACTIONS)
    assert definitions["case"]["properties"]["standing"]["enum"] == list(get_args(Standing))
    assert definitions["evidence"]["properties"]["family"]["enum"] == list(get_args(Family))
    assert definitions["health_finding"]["properties"]["check"]["enum"] == list(HEALTH_CHECKS)
    assert definitions["origin"]["properties"]["class"]["enum"] == list(ORIGIN_CLASSES)


@pytest.mark.parametrize(
    "review", [FULL, QUIET, EMPTY, AILING], ids=["full", "quiet", "empty", "ailing"]
)
def test_documents_are_valid(review: Review) -> None:
    VALIDATOR.validate(json.loads(json_text(review_document(review))))


def test_health_has_its_check_its_subject_and_whether_it_asks_for_something() -> None:
    health = review_document(AILING)["health"]
    assert [one["status"] for one in health] == ["warn"] * 8 + ["note"]
    assert health[1] == {
        "check": "key_silent",
        "subject": "key_1",
        "status": "warn",
        "text": "key key_1 (no owner) was used nearly every day, but not since 2026-09-01",
    }


def test_a_case_document_is_the_case_of_the_review() -> None:
    assert case_document(SCANNED) == review_document(FULL)["cases"][0]
    VALIDATOR.evolve(schema={"$ref": "urn:keywatch:review:1#/$defs/case"}).validate(
        case_document(SCANNED)
    )


def test_upkeep_says_what_is_due_and_whether_to_rotate() -> None:
    hygiene = {finding["key_id"]: finding for finding in review_document(FULL)["hygiene"]}
    assert hygiene["key_0700500"] == {
        "key_id": "key_0700500",
        "detector": "rotation_due",
        "explanation": "rotate by 2026-10-12",
        "key": "ply_live_prod_4f8a2c…9e1d",
        "name": "Billing export",
        "owner": "team-billing",
        "environment": "prod",
        "action": "rotate",
        "due_on": "2026-10-12",
        "days": -7,
    }
    wildcard = hygiene["key_0700071"]
    assert (wildcard["action"], wildcard["due_on"], wildcard["days"]) == ("none", None, None)


Break = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "broken",
    [
        lambda d: d.pop("attribution"),
        lambda d: d.update(more=1),
        lambda d: d["window"].update(start="2026-09-28"),
        lambda d: d["window"].update(start="2026-09-28T00:00:00+02:00"),
        lambda d: d["coverage"].update(silent=-1),
        lambda d: d["cases"][0].update(action="panic"),
        lambda d: d["cases"][0].update(bits="38"),
        lambda d: d["cases"][0].update(p_value=1.5),
        lambda d: d["cases"][0]["origins"][0].update(country="Romania"),
        lambda d: d["cases"][0]["origins"][0].pop("class"),
        lambda d: d["cases"][0]["evidence"][0].update(family="weather"),
        lambda d: d["cases"][0]["blast_radius"].pop("scopes_granted"),
        lambda d: d["cases"][0]["impact"].update(cost=3),
        lambda d: d["groups"][0].update(kind="club"),
        lambda d: d["hygiene"][0].update(action="revoke"),
        lambda d: d["hygiene"][0].update(due_on="soon"),
        lambda d: d["new_networks"][0].update(open_since="Thursday"),
        lambda d: d["new_networks"][0].pop("outcome"),
    ],
)
def test_a_broken_document_is_not_valid(broken: Break) -> None:
    document = review_document(FULL)
    broken(document)
    assert not VALIDATOR.is_valid(document)


def test_times_are_utc_and_bits_have_two_decimals() -> None:
    plus_two = timezone(timedelta(hours=2))
    review = replace(
        FULL,
        window=Window(
            datetime(2026, 9, 28, 2, tzinfo=plus_two),
            datetime(2026, 10, 5, 0, 0, 0, 500, tzinfo=UTC),
        ),
        cases=(replace(SCANNED, bits=38.13579),),
    )
    document = review_document(review)
    assert document["window"] == {
        "start": "2026-09-28T00:00:00Z",
        "end": "2026-10-05T00:00:00.000500Z",
    }
    assert document["cases"][0]["bits"] == 38.14


@pytest.mark.parametrize("cases", [(), FULL.cases[:1], FULL.cases, HOSTILE.cases])
def test_in_parts_it_is_the_same_text(cases: tuple[Case, ...]) -> None:
    review = replace(FULL, cases=cases)
    parts = list(review_text(review))
    assert "".join(parts) == json_text(review_document(review))
    assert len(parts) == (len(cases) + 2 if cases else 1)


def test_hostile_text_is_kept_and_escaped() -> None:
    text = json_text(review_document(HOSTILE))
    assert text.isascii()
    assert all(char == "\n" or char.isprintable() for char in text)
    assert json.loads(text)["cases"][0]["name"] == HOSTILE_TEXT.replace("\ud800", "\ufffd")


def test_what_json_cannot_say_is_an_error() -> None:
    document = review_document(replace(FULL, cases=(replace(SCANNED, bits=float("inf")),)))
    with pytest.raises(ValueError, match="JSON"):
        json_text(document)


@pytest.mark.parametrize("case", FULL.cases, ids=[case.key_id for case in FULL.cases])
def test_what_is_at_stake_is_read_back_as_it_was_written(case: Case) -> None:
    written = json.loads(json_text(case_document(case)))
    assert (blast_radius_of(written), impact_of(written)) == (case.blast_radius, case.impact)


def test_what_is_at_stake_is_read_of_a_document_in_brief_and_of_an_older_one() -> None:
    brief = case_document(replace(SCANNED, blast_radius=None, impact=None))
    assert (blast_radius_of(brief), impact_of(brief)) == (None, None)
    older = {
        "blast_radius": {"requests_suspicious": 3, "a_field_that_is_gone": 1},
        "impact": {"consumers": [{"agent": "curl/8", "origin": "home", "requests_per_day": 2.0}]},
    }
    assert blast_radius_of(older) == BlastRadius(requests_suspicious=3, requests_accepted=3)
    assert impact_of(older) == Impact(
        consumers=(Consumer("curl/8", "home", 2.0),), consumers_total=1
    )
