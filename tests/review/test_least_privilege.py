"""What a key needs: suspicious use grants nothing, and an address list says what it would cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import pipeline
from keywatch.errors import UsageError, VendorError
from keywatch.lake import Lake
from keywatch.report.least_privilege import least_privilege_document, render_least_privilege
from keywatch.review.least_privilege import Use, address_list
from keywatch.review.least_privilege import _needed as needed
from keywatch.vendors.catalogue import Catalogue, Endpoint
from keywatch.vendors.registry import read_vendor, vendor_named
from tests.test_pipeline import AWAY, HOME, NO_REPLAY, WEEK, daily, key, lake_of, line, theft

FIRST = date(2026, 8, 31)
"""A Monday; five weeks from there on end with the sample's week."""


def use(week: int, ip: str, events: int = 100, **fields: Any) -> Use:
    prefix = f"{ip.rpartition('.')[0]}.0/24" if "." in ip else "2001:db8::/48"
    given: dict[str, Any] = {"prefix": prefix, "origin_class": "isp", "is_suspicious": False}
    given |= fields
    return Use(week=FIRST + timedelta(weeks=week), ip=ip, events=events, **given)


def steady(ip: str = "203.0.113.7", **fields: Any) -> list[Use]:
    return [use(week, ip, **fields) for week in range(5)]


CHANGING = [use(week, f"203.0.113.{week}") for week in range(5)]
ROAMING = [use(week, f"203.{week}.113.7") for week in range(5)]
THIEF = [use(4, "198.51.100.9", 40, is_suspicious=True)]


@pytest.mark.parametrize(
    ("uses", "cidrs", "blocked", "stopped"),
    [
        (steady() + THIEF, ("203.0.113.7/32",), 0, 40),
        (steady() + steady("203.0.113.6") + steady("2001:db8::1"),
         ("203.0.113.6/31", "2001:db8::1/128"), 0, 0),
        # One request in 200 from where the owner never was in another week is what it may cost.
        ([*steady(), use(2, "192.0.2.1", 2)], ("192.0.2.1/32", "203.0.113.7/32"), 2, 0),
        (CHANGING + THIEF, ("203.0.113.0/24",), 0, 40),
        # A thief at the owner's prefix is not stopped by a list of prefixes.
        ([*CHANGING, use(4, "203.0.113.99", 40, is_suspicious=True)], ("203.0.113.0/24",), 0, 0),
        # What a service does for the key comes from nowhere.
        (steady() + steady("cloudformation.amazonaws.com", origin_class="service"),
         ("203.0.113.7/32",), 0, 0),
    ],
)  # fmt: skip
def test_a_list_fits_that_the_weeks_agree_on(
    uses: list[Use], cidrs: tuple[str, ...], blocked: int, stopped: int
) -> None:
    found = address_list(uses)
    assert (found.cidrs, found.blocked, found.stopped) == (cidrs, blocked, stopped)
    assert found.why_not == ""
    assert found.weeks == 5


@pytest.mark.parametrize(
    ("uses", "why_not"),
    [
        (steady()[:3], "it has 3 weeks of use, and 4 are needed"),
        (ROAMING,
         "its origins change (500 of 500 requests came from places seen in no other week)"),
        # Anyone can rent an address in the prefix.
        ([use(week, f"203.0.113.{week}", origin_class="hosting") for week in range(5)],
         "its origins change (500 of 500 requests came from places seen in no other week)"),
        ([*steady(), use(2, "192.0.2.1", 3)],
         "its origins change (3 of 503 requests came from places seen in no other week)"),
        (steady("", prefix="(none)"),
         "its origins change (500 of 500 requests came from places seen in no other week)"),
        ([each for n in range(51) for each in steady(f"203.{n}.113.7")],
         "its origins change (51 prefixes are in use, more than 50)"),
    ],
)  # fmt: skip
def test_no_list_fits_a_key_that_roams(uses: list[Use], why_not: str) -> None:
    found = address_list(uses + THIEF)
    assert (found.cidrs, found.stopped, found.suspicious) == ((), 0, 40)
    assert found.why_not == why_not


def flagged(lake: Path, *visits: tuple[str, date, str]) -> None:
    """As a review of the week would have flagged them."""
    with Lake.open(lake) as opened, opened.writing():
        for key_id, day, prefix in visits:
            opened.execute(
                "INSERT INTO lake.flagged_visits VALUES ('r', $start, $end, $key, $day, $prefix)",
                start=WEEK.start, end=WEEK.end, key=key_id, day=day, prefix=prefix,
            )  # fmt: skip


@pytest.fixture
def stolen(tmp_path: Path) -> Path:
    """Five weeks of an owner at home, and a theft that goes on for a day after it was flagged."""
    events = daily(FIRST, 35) + theft() + daily(FIRST, 2, endpoint="/v1/members", status=403)
    events += [line("2026-10-02T03:00:00", ip=AWAY, endpoint="/v1/audit-log")]
    lake = lake_of(tmp_path, events, [key(scopes=["read:checks", "read:metrics"])])
    flagged(lake, ("key_1", date(2026, 10, 1), "45.153.78.0/24"))
    return lake


def test_what_a_thief_called_is_not_granted(stolen: Path) -> None:
    found = pipeline.least_privilege_of(stolen, "status board", 90, NO_REPLAY)
    assert found.calls == ("GET /v1/checks/{id}",)
    assert found.never_accepted == ("GET /v1/members",)
    assert {"GET /v1/audit-log", "GET /v1/keys"} <= set(found.suspicious_calls)
    assert (found.scopes_used, found.scopes_unused) == (("read:checks",), ("read:metrics",))
    assert found.left_out == (("45.153.78.0/24", date(2026, 10, 1)),)
    assert (found.addresses.cidrs, found.addresses.stopped) == ((f"{HOME}/32",), 11)
    assert (found.days_not_reviewed, found.requests, found.suspicious_requests) == (35, 37, 11)
    told = " ".join(render_least_privilege(found).split())
    assert "To drop: read:metrics" in told
    assert "would have blocked 11 of 11 suspicious requests" in told
    assert "Of the owner's 37 requests in 5 weeks it would have blocked 0 (0.00 %)" in told
    assert "35 days of this use have not been reviewed" in told
    document = json.loads(json.dumps(least_privilege_document(found)))
    assert document["scopes_unused"] == ["read:metrics"]
    assert document["addresses"]["cidrs"] == [f"{HOME}/32"]
    assert (document["from"], document["to"]) == ("2026-07-07", "2026-10-04")


def test_what_a_verdict_says_is_the_owners_counts_again(stolen: Path) -> None:
    pipeline.give_verdict(
        stolen, "key_1", "benign", NO_REPLAY, by="ana", because="I tried it", window=WEEK
    )
    found = pipeline.least_privilege_of(stolen, "key_1", 90, NO_REPLAY)
    assert (found.suspicious_calls, found.left_out) == ((), ())
    assert "GET /v1/members" in found.calls


def trail(*calls: tuple[str, str, str, str]) -> list[dict[str, Any]]:
    """Records of CloudTrail by day, source address, call and error code."""
    return [
        {
            "eventVersion": "1.08", "eventTime": f"{day}T10:00:00Z", "eventID": f"e-{n}",
            "eventSource": call.partition(":")[0] + ".amazonaws.com",
            "eventName": call.partition(":")[2], "sourceIPAddress": address,
            "userAgent": "aws-cli/2.1", "awsRegion": "eu-west-1", "errorCode": error,
            "userIdentity": {
                "type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/ops",
                "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
            },
        }
        for n, (day, address, call, error) in enumerate(calls)
    ]  # fmt: skip


def usual(address: str) -> Iterable[tuple[str, str, str, str]]:
    for n in range(5):
        day = str(FIRST + timedelta(weeks=n))
        yield day, address, "s3:ListObjectsV2", ""
        yield day, address, "lambda:ListFunctions20150331", ""
        yield day, address, "monitoring:PutMetricData", ""
        yield day, address, "sts:GetCallerIdentity", ""
        yield day, address, "iam:CreateUser", "AccessDenied"


@pytest.mark.parametrize(
    ("address", "statements"), [("198.51.100.17", 2), ("10.0.0.7", 1), ("AWS Internal", 1)]
)
def test_an_aws_key_gets_a_policy_of_its_calls(
    address: str, statements: int, tmp_path: Path
) -> None:
    records = trail(
        *usual(address), ("2026-10-01", "203.0.113.9", "secretsmanager:GetSecretValue", "")
    )
    lake = lake_of(tmp_path, records, [])
    flagged(lake, ("AKIAIOSFODNN7EXAMPLE", date(2026, 10, 1), "203.0.113.0/24"))
    found = pipeline.least_privilege_of(lake, "AKIAIOSFODNN7EXAMPLE", 60, NO_REPLAY)
    assert found.policy is not None
    allowed, *limited = found.policy["Statement"]
    assert allowed["Action"] == [
        "cloudwatch:PutMetricData", "lambda:ListFunctions", "s3:ListBucket",
    ]  # fmt: skip
    assert len(limited) == statements - 1
    for statement in limited:
        assert statement["Condition"]["NotIpAddress"] == {"aws:SourceIp": [f"{address}/32"]}
    told = " ".join(render_least_privilege(found).split())
    assert ("use aws:VpcSourceIp" in told) == (address == "10.0.0.7")
    assert "Called by suspicious requests only: secretsmanager:GetSecretValue." in told


def test_what_is_no_permission_is_named() -> None:
    form = vendor_named("aws").policy
    assert form is not None
    assert form.actions_of(["s3:CopyObject", "GET /x", "iam:{id}"]) == (
        ["s3:GetObject", "s3:PutObject"], ["GET /x", "iam:{id}"],
    )  # fmt: skip


def test_of_a_vendor_without_a_policy_the_calls_are_listed(tmp_path: Path) -> None:
    log = [
        {"ts": f"{FIRST}T10:00:00Z", "who": "k", "from": HOME, "verb": "GET", "what": "/a\x1b[31m"}
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in log), "utf-8")
    mapping = ["time=ts", "key_id=who", "address=from", "method=verb", "path=what"]
    pipeline.ingest(tmp_path / "lake", [str(file)], NO_REPLAY, mapping=mapping)
    found = pipeline.least_privilege_of(tmp_path / "lake", "k", 7, NO_REPLAY)
    assert (found.policy, found.scopes_used, found.without_scope) == (None, None, ())
    told = render_least_privilege(found)
    assert "Calls in use\n  GET /a\\x1b[31m\n" in told
    assert "No address list fits this key: it has 1 week of use, and 4 are needed." in told
    with pytest.raises(UsageError, match="a number from 1 to"):
        pipeline.least_privilege_of(tmp_path / "lake", "k", 0, NO_REPLAY)


def test_a_call_whose_scope_is_not_known_is_named() -> None:
    endpoints = [
        Endpoint("GET", "/v1/checks", "read:checks", "none"),
        Endpoint("GET", "/v1/me", None, "none"),
        Endpoint("GET", "/v1/beta", None, "none", is_scope_known=False),
    ]
    pulsely = vendor_named("pulsely")
    vendor = replace(pulsely, catalogue=Catalogue("pulsely", tuple(endpoints), ()))
    calls = [each.name for each in endpoints] + ["GET /v1/new"]
    assert needed(vendor, calls, address_list([])) == (
        ("read:checks",), ("GET /v1/beta", "GET /v1/new"), None,
    )  # fmt: skip


def test_a_key_that_was_not_used_is_named(stolen: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "more.jsonl"
    inventory.write_text(json.dumps(key("key_9", name="idle")) + "\n", "utf-8")
    pipeline.import_keys(stolen, inventory, NO_REPLAY)
    with pytest.raises(UsageError, match="key_9: not used in the last 7 days of the log, up to"):
        pipeline.least_privilege_of(stolen, "idle", 7, NO_REPLAY)
    with pytest.raises(UsageError, match="key_9: not used in the last 1 day of the log, up to"):
        pipeline.least_privilege_of(stolen, "idle", 1, NO_REPLAY)
    with pytest.raises(UsageError, match="a number from 1 to 36,500 is expected"):
        pipeline.least_privilege_of(stolen, "idle", 99_999_999, NO_REPLAY)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('form = "acl"', "`form` is 'acl'; use scopes or document"),
        ('form = "document"', "`document` is missing; write the policy as JSON"),
        ('form = "document"\ndocument = "{"', "`document` is not JSON: "),
        ('form = "document"\ndocument = "{}"', '`document` lacks "{actions}"'),
        ('form = "scopes"\nversion = "("', "`version` is '(', not a regular expression"),
        ('form = "scopes"\n[policy.actions]\n"s3:A" = "B"', "'s3:A' is 'B'; "),
        ('form = "scopes"\nunneded = ["x"]', "unknown field 'unneded'"),
    ],
)
def test_a_wrong_policy_is_named(policy: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "vendor.toml").write_text(f'title = "Acme"\n[policy]\n{policy}\n', "utf-8")
    with pytest.raises(VendorError) as raised:
        read_vendor(folder)
    assert said in str(raised.value)
    assert str(folder / "vendor.toml") in str(raised.value)


def test_days_are_half_open_and_end_with_the_log(stolen: Path) -> None:
    found = pipeline.least_privilege_of(stolen, "key_1", 3, NO_REPLAY)
    assert (found.window.start, found.window.end) == (datetime(2026, 10, 2), datetime(2026, 10, 5))
    assert (found.requests, found.addresses.suspicious) == (3, 1)
