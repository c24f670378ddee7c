"""The API catalogues: what the bundled ones say, and what a wrong file is told."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from keywatch.content import content_path
from keywatch.errors import CatalogueError, ContentError
from keywatch.vendors.catalogue import Catalogue, Endpoint, Scope, read_catalogue
from tests.conftest import SHARED_DATA
from tools.make_aws_catalogue import LONGEST_WHY, Event, sensitivity_of, to_toml, why_of


@pytest.fixture(scope="module")
def pulsely() -> Catalogue:
    return read_catalogue(content_path("vendors/pulsely/catalogue.toml"))


@pytest.fixture(scope="module")
def aws() -> Catalogue:
    return read_catalogue(content_path("vendors/aws/catalogue.toml"))


def _templates(catalogue: Catalogue, sensitivity: str) -> set[str]:
    found = (each for each in catalogue.endpoints if each.sensitivity == sensitivity)
    return {f"{each.method} {each.template}" for each in found}


def test_pulsely_has_the_scopes_of_the_vendor(pulsely: Catalogue) -> None:
    assert [scope.name for scope in pulsely.scopes] == [
        "read:checks",
        "write:checks",
        "read:alerts",
        "write:alerts",
        "read:metrics",
        "admin:*",
    ]
    limits = {s.name: s.requests_per_minute for s in pulsely.scopes if s.requests_per_minute}
    assert limits == {"read:metrics": 60}


def test_pulsely_sensitivities(pulsely: Catalogue) -> None:
    assert len(pulsely.endpoints) == 32
    assert _templates(pulsely, "critical") == {
        "POST /v1/keys",
        "DELETE /v1/keys/{id}",
        "POST /v1/members",
        "DELETE /v1/members/{id}",
        "PATCH /v1/billing",
    }
    assert _templates(pulsely, "high") == {
        "DELETE /v1/checks/{id}",
        "POST /v1/checks/{id}/pause",
        "POST /v1/alerts/{id}/mute",
        "POST /v1/alert-channels",
        "PATCH /v1/alert-channels/{id}",
        "DELETE /v1/alert-channels/{id}",
        "GET /v1/export",
    }
    assert _templates(pulsely, "low") == {
        "GET /v1/members",
        "GET /v1/keys",
        "GET /v1/billing",
        "GET /v1/audit-log",
    }


@pytest.mark.parametrize(
    ("method", "template", "scope"),
    [
        ("GET", "/v1/checks/{id}/results", "read:checks"),
        ("POST", "/v1/checks/{id}/run", "write:checks"),
        ("GET", "/v1/alert-channels", "read:alerts"),
        ("POST", "/v1/alerts/{id}/ack", "write:alerts"),
        ("GET", "/v1/metrics/{id}", "read:metrics"),
        ("PATCH", "/v1/status-pages/{id}", "write:checks"),
        ("GET", "/v1/export", "read:checks"),
        ("GET", "/v1/audit-log", "admin:*"),
        ("GET", "/v1/me", None),
    ],
)
def test_pulsely_scopes(pulsely: Catalogue, method: str, template: str, scope: str | None) -> None:
    endpoint = pulsely.find(method, template)
    assert endpoint is not None
    assert endpoint.scope == scope


def test_an_unlisted_endpoint_is_not_found(pulsely: Catalogue) -> None:
    assert pulsely.find("PUT", "/v1/checks") is None


def test_aws_calls(aws: Catalogue) -> None:
    assert len(aws.endpoints) == 380
    assert "Adan Alvarez" in aws.credit
    create_key = aws.find("CALL", "iam:CreateAccessKey")
    assert create_key is not None
    assert (create_key.scope, create_key.sensitivity, create_key.technique) == (
        "iam",
        "critical",
        "T1136",
    )
    sensitivity = {each.template: each.sensitivity for each in aws.endpoints}
    assert sensitivity["cloudtrail:DeleteTrail"] == "critical"
    assert sensitivity["cloudtrail:StopLogging"] in {"high", "critical"}
    assert sensitivity["ec2:DescribeInstances"] == "low"
    assert sensitivity["s3:PutObject"] == "low"
    assert sensitivity["ec2:ModifySnapshotAttribute"] == "high"


def test_aws_reasons_are_short_and_credit_is_in_the_file(aws: Catalogue) -> None:
    assert all(0 < len(each.why) <= LONGEST_WHY for each in aws.endpoints)
    text = content_path("vendors/aws/catalogue.toml").read_text(encoding="utf-8")
    head = text[:600]
    assert "TrailDiscover by Adan Alvarez" in head
    assert "CC BY 4.0" in head


def test_aws_file_is_what_the_tool_makes() -> None:
    source = SHARED_DATA / "aws-abused-api-traildiscover" / "events.json.gz"
    if not source.exists():
        pytest.skip(f"{source.name} absent")
    with gzip.open(source, "rt", encoding="utf-8") as file:
        made = to_toml(json.load(file))
    assert made == content_path("vendors/aws/catalogue.toml").read_text(encoding="utf-8")


def _event(name: str, tactics: list[str], in_wild: bool, implications: str = "x") -> Event:
    return Event(
        eventName=name,
        eventSource="iam.amazonaws.com",
        awsService="IAM",
        description="Does it.",
        mitreAttackTactics=tactics,
        mitreAttackTechniques=["T1098 - Account Manipulation"],
        usedInWild=in_wild,
        securityImplications=implications,
    )


@pytest.mark.parametrize(
    ("tactics", "in_wild", "expected"),
    [
        (["TA0007 - Discovery"], True, "low"),
        (["TA0007 - Discovery", "TA0006 - Credential Access"], True, "critical"),
        (["TA0003 - Persistence"], True, "critical"),
        (["TA0003 - Persistence"], False, "high"),
        (["TA0010 - Exfiltration"], True, "high"),
        (["TA0009 - Collection", "T1496 - Resource Hijacking"], True, "high"),
    ],
)
def test_aws_rule(tactics: list[str], in_wild: bool, expected: str) -> None:
    assert sensitivity_of(_event("MadeUp", tactics, in_wild)) == expected


def test_aws_why_drops_the_preamble_and_cuts_at_a_word() -> None:
    text = "Attackers might use MadeUp to " + "take things " * 20 + "away. And more."
    why = why_of(_event("MadeUp", [], True, text))
    assert why.startswith("take things take")
    assert why.endswith(("take…", "things…"))
    assert len(why) <= LONGEST_WHY
    assert why_of(_event("MadeUp", [], True, "")) == "Does it"


GOOD = """
calls = "[a-z]+:[A-Za-z]+"
[[scopes]]
name = "read"
meaning = "See things."
requests_per_minute = 5
[[endpoints]]
method = "GET"
template = "/things/{id}"
scope = "read"
sensitivity = "high"
why = "shows things"
technique = "T1213"
[[endpoints]]
method = "CALL"
template = "toy:Call"
sensitivity = "none"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "toy" / "catalogue.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def test_a_catalogue_is_read_whole(tmp_path: Path) -> None:
    assert read_catalogue(_write(tmp_path, GOOD)) == Catalogue(
        name="toy",
        endpoints=(
            Endpoint("GET", "/things/{id}", "read", "high", "shows things", "T1213", 5),
            Endpoint("CALL", "toy:Call", None, "none"),
        ),
        scopes=(Scope("read", "See things.", 5),),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"[a-z]+:', '"(', "`calls` is '([A-Za-z]+', which is not a regular expression"),
        ('[A-Za-z]+"', "[A-Za-z]+", "line 2"),
        ("[[scopes]]", "nom = 1\n[[scopes]]", "unknown field 'nom'"),
        ("[[scopes]]", "[[scope]]", "unknown field 'scope'"),
        ("requests_per_minute = 5", "requests_per_minute = 0", "scopes[0] (read)"),
        ('"GET"', '"GETS"', "endpoints[0] (GETS /things/{id}): method 'GETS'"),
        ('"/things/{id}"', '"things"', "must look like /v1/checks/{id}"),
        ('"toy:Call"', '"toyCall"', "endpoints[1] (CALL toyCall)"),
        ('scope = "read"', 'scope = "write"', "scope 'write' is not in [[scopes]]"),
        ('sensitivity = "high"', 'sensitivity = "HIGH"', "sensitivity 'HIGH'"),
        ('why = "shows things"', "", "`why` is required with every sensitivity except none"),
        ('sensitivity = "none"', 'sensitivity = "none"\nwhy = "x"', "`why` is required with"),
        ('"T1213"', '"1213"', "must be an ATT&CK id"),
        ('meaning = "See things."', "meaning = 3", "`meaning` must be a string"),
        (
            'method = "CALL"\ntemplate = "toy:Call"',
            'method = "GET"\ntemplate = "/things/{id}"',
            "twice",
        ),
    ],
)
def test_a_wrong_catalogue_names_file_and_entry(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in GOOD
    path = _write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CatalogueError, match=re.escape(says)) as caught:
        read_catalogue(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("relative", ["", "/etc/passwd", "data/../../x"])
def test_content_stays_inside(relative: str) -> None:
    with pytest.raises(ContentError, match="not a path inside"):
        content_path(relative)
