"""Events as OCSF API Activity: what the schema says, and read back the same."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from keywatch import pipeline
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.model import Case, Window
from keywatch.report.ocsf import OCSF_VERSION
from keywatch.report.ocsf_events import api_activity, write_events
from tests.test_pipeline import SETTINGS, WEEK, crowd, daily, key, lake_of, line, theft

VALIDATOR = Draft202012Validator(
    OcsfJsonSchemaEmbedded(get_ocsf_schema(version=OCSF_VERSION)).get_class_schema(
        "api_activity", ["datetime"]
    )
)
FULL_KEY = "ply_live_prod_4f8a2c77aa0b1c2d9e1d"
ALL_COLUMNS = "SELECT * EXCLUDE (load_id) FROM lake.events ORDER BY ts, key_id, request_id"
EVENT: dict[str, Any] = {
    "ts": datetime(2026, 9, 30, 0, 0, 4, 123456), "key_id": "key_1", "key": None,
    "principal": None, "address": "203.0.113.7", "method": "GET",
    "endpoint": "GET /v1/checks/{id}", "object": "8812", "path": "/v1/checks/8812?limit=1",
    "status": 200, "user_agent": "curl/8.4.0", "response_bytes": 12, "duration_ms": 3.0,
    "request_id": "r-1", "exposed": False, "source": "pulsely",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "activity"),
    [
        ({}, 2),
        ({"method": "PURGE", "status": None, "duration_ms": 2.5, "exposed": True}, 0),
        ({"method": None, "endpoint": "iam:CreateAccessKey", "path": "eu-west-1"}, 1),
        ({"method": None, "endpoint": "s3:TerminateStuff", "address": "AWS Internal"}, 4),
        ({"method": None, "endpoint": "42", "object": None, "user_agent": None, "path": None}, 0),
        ({"address": "", "source": "mapped", "principal": "arn:aws:iam::1:role/x"}, 2),
        ({"status": 403, "key": "ply_live_prod_4f8a2c…9e1d", "user_agent": "\x1b[31m\n"}, 2),
    ],
)
def test_an_event_is_as_the_schema_says(changed: dict[str, Any], activity: int) -> None:
    told = json.loads(json.dumps(api_activity(EVENT | changed)))
    assert [error.message for error in VALIDATOR.iter_errors(told)] == []
    assert (told["activity_id"], told["type_uid"]) == (activity, 600300 + activity)


def test_the_schema_would_not_take_any_event() -> None:
    told = api_activity(EVENT)
    assert list(VALIDATOR.iter_errors(told | {"api": {}}))
    assert list(VALIDATOR.iter_errors(told | {"activity_id": 5}))


def read_back(lake: Path, folder: Path) -> Path:
    """A new lake of the exported events of another one."""
    file = folder / "events.jsonl.gz"
    written = pipeline.export_events(lake, SETTINGS, file)
    report = pipeline.ingest(folder / "again", [str(file)], SETTINGS)
    assert [report.total(count) for count in ("lines", "events", "rejects")] == [written] * 2 + [0]
    return folder / "again"


def told(case: Case) -> Case:
    """What has to be the same, but for rounding."""
    evidence = tuple(
        replace(one, bits=round(one.bits, 6), said_bits=round(one.said_bits or 0.0, 6))
        for one in case.evidence
    )
    return replace(case, bits=round(case.bits, 6), evidence=evidence)


def test_a_lake_of_exported_events_gives_the_same_cases(tmp_path: Path) -> None:
    events = daily(date(2026, 8, 1), 65) + theft() + crowd()
    events += [line("2026-10-02T09:00:00", endpoint=f"/v1/checks?key={FULL_KEY}", key_id="key_2")]
    lake = lake_of(tmp_path, events, [key()])
    again = read_back(lake, tmp_path)
    pipeline.import_keys(again, tmp_path / "keys.jsonl", SETTINGS)
    one, other = (pipeline.review(each, WEEK, SETTINGS, keep=False) for each in (lake, again))
    stolen = next(case for case in one.cases if case.key_id == "key_1")
    assert stolen.action == "revoke"
    assert "exposed_key" in {item.detector for item in stolen.evidence}
    assert [told(case) for case in other.cases] == [told(case) for case in one.cases]
    assert FULL_KEY.encode() not in gzip.decompress((tmp_path / "events.jsonl.gz").read_bytes())


CLOUDTRAIL = {
    "eventVersion": "1.08", "eventSource": "iam.amazonaws.com", "eventName": "ListUsers",
    "eventTime": "2026-09-30T10:00:00Z", "awsRegion": "eu-west-1",
    "sourceIPAddress": "203.0.113.7", "userAgent": "aws-cli/2.1", "eventID": "e-1",
    "userIdentity": {
        "type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/ops",
        "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
    },
}  # fmt: skip
ROLE = {
    "type": "AssumedRole", "arn": "arn:aws:sts::123456789012:assumed-role/app/i-1",
    "accessKeyId": "ASIATFQR7NSCUXC3DDDP",
    "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::123456789012:role/app"}},
}  # fmt: skip


RECORDS = {
    "sessions, a service, and a principal that the log does not name": [
        CLOUDTRAIL,
        CLOUDTRAIL | {"eventID": "e-2", "errorCode": "AccessDenied"},
        CLOUDTRAIL | {"eventID": "e-3", "userIdentity": ROLE, "sourceIPAddress": "AWS Internal"},
        CLOUDTRAIL | {"eventID": "e-4", "userIdentity": {"accessKeyId": "ASIATFQR7NSCUXC3DDDQ"}},
    ],
    "odd values, a key in full, and equal lines without an id": [
        line("2026-09-30T10:00:00"),
        line("2026-09-30T10:00:00.123456", duration_ms=2.5, response_bytes=7),
        line("2026-09-30T10:00:02", endpoint=f"/v1/x?a={FULL_KEY}&b=1?#c", status=None),
        line("2026-09-30T10:00:03", response_bytes=9, status=None, user_agent="", ip="2001:db8::1"),
        line("2026-09-30T10:00:04", key=FULL_KEY, key_id="käy \x1b[31m", method="BREW"),
        *[line("2026-09-30T10:00:05") | {"request_id": None}] * 2,
    ],
}


@pytest.mark.parametrize("records", RECORDS.values(), ids=RECORDS)
def test_what_is_stored_is_read_back(records: list[dict[str, Any]], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    pipeline.ingest(tmp_path / "lake", [str(log)], SETTINGS)
    again = read_back(tmp_path / "lake", tmp_path)
    with Lake.open(tmp_path / "lake") as lake:
        before = lake.records(ALL_COLUMNS)
    with Lake.open(again) as lake:
        assert lake.records(ALL_COLUMNS) == before
    assert len(before) == len(records)


def test_a_window_and_a_key_are_exported_alone(tmp_path: Path) -> None:
    folder = lake_of(
        tmp_path, daily(date(2026, 9, 25), 5) + daily(date(2026, 9, 25), 5, key_id="k"), []
    )
    window = Window(datetime(2026, 9, 27), datetime(2026, 9, 29))
    out = io.StringIO()
    with Lake.open(folder) as lake:
        assert write_events(lake, out, window, ["k"]) == 2
    found = [json.loads(each) for each in out.getvalue().splitlines()]
    assert [each["time_dt"][:10] for each in found] == ["2026-09-27", "2026-09-28"]
    assert {each["actor"]["user"]["credential_uid"] for each in found} == {"k"}


def test_a_key_that_nobody_knows_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = lake_of(tmp_path, daily(date(2026, 9, 25), 1), [])
    file = tmp_path / "events.jsonl"
    file.write_text("before", "utf-8")
    with pytest.raises(UsageError, match="no key 'nobody' in the lake"):
        pipeline.export_events(folder, SETTINGS, file, key="nobody")
    assert file.read_text("utf-8") == "before"
