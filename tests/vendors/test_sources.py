"""Log formats: found by their content, and read as they really are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch.errors import InputError
from keywatch.load.ingest import load_files
from keywatch.vendors import LogFile, detect_source, find_files
from tests import object_store
from tests.conftest import SHARED_DATA, Loading, NoWhere, as_csv, as_json_lines, events


def shared(name: str) -> Path:
    file = SHARED_DATA / name
    if not file.exists():
        pytest.skip(f"the shared data {name} is not beside this checkout")
    return file


def record(**fields: Any) -> dict[str, Any]:
    """One CloudTrail record; `fields` replace its fields, None takes one out."""
    whole: dict[str, Any] = {
        "eventVersion": "1.08",
        "eventTime": "2023-07-10T11:42:18Z",
        "eventID": "875240ac-e821-4fc6-a311-8c352a1d20f5",
        "eventSource": "secretsmanager.amazonaws.com",
        "eventName": "GetSecretValue",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "10.248.16.43",
        "userAgent": "Boto3/1.26.165 Python/3.10.6",
        "userIdentity": {"type": "IAMUser", "accessKeyId": "AKIATFQR7NSCUXC3DDDP"},
        "requestParameters": {"secretId": "prod/db"},
    } | fields
    return {name: value for name, value in whole.items() if value is not None}


def document(records: list[dict[str, Any]], indent: int | None = None) -> bytes:
    return json.dumps({"Records": records}, indent=indent).encode()


# -------------------------------------------------------------------------------------- detection


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (as_json_lines(events(1)), "pulsely"),
        (as_csv(events(1)), "pulsely"),
        (b"bad first line\n" + as_json_lines(events(1)), "pulsely"),
        (as_json_lines([record()]), "cloudtrail"),
        (document([record()]), "cloudtrail"),
        (b"[" + as_json_lines([record()]).strip() + b"]", "cloudtrail"),
        (b"\xef\xbb\xbf" + document([record()], indent=2), "cloudtrail"),
        (document([]), None),
        (b"", None),
    ],
)
def test_the_content_tells_the_format(content: bytes, source: str | None, tmp_path: Path) -> None:
    file = tmp_path / "some.log"
    file.write_bytes(content)
    found = detect_source(LogFile(str(file), len(content)))
    assert (found.name if found else None) == source


def test_other_logs_are_refused_with_the_mend(tmp_path: Path) -> None:
    file = tmp_path / "error.log"
    file.write_text("2026/09/30 10:05:03 [error] 7#7: *1 open() failed (2: No such file)\n")
    with pytest.raises(InputError, match=r"error.log, line 1: not in a log format known .*"
                       r"set the format with --source"):  # fmt: skip
        detect_source(LogFile(str(file), 10))


# ------------------------------------------------------------------------------------- CloudTrail


def test_a_record_is_stored_field_by_field(quick: Loading) -> None:
    quick.take([record()])
    (row,) = quick.lake.records(
        "SELECT ts, key_id, key, address, method, endpoint, object, path, status, agent, "
        "request_id, source FROM lake.events"
    )
    assert row == {
        "ts": datetime(2023, 7, 10, 11, 42, 18),
        "key_id": "AKIATFQR7NSCUXC3DDDP",
        "key": "AKIATFQR7NSCUXC3DDDP",
        "address": "10.248.16.43",
        "method": None,
        "endpoint": "secretsmanager:GetSecretValue",
        "object": "prod/db",
        "path": "us-east-1",
        "status": 200,
        "agent": "Boto3/1",
        "request_id": "875240ac-e821-4fc6-a311-8c352a1d20f5",
        "source": "cloudtrail",
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"errorCode": "Client.UnauthorizedOperation"}, 403),
        ({"errorCode": ""}, 200),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Failure"}}, 401),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Success"}}, 200),
        ({"responseElements": "x"}, 200),
    ],
)
def test_outcomes_are_statuses(fields: dict[str, Any], status: int, quick: Loading) -> None:
    quick.take([record(**fields)])
    assert quick.lake.value("SELECT status FROM lake.events") == status


def test_times_without_an_offset_are_utc(quick: Loading) -> None:
    times = ["2023-07-10 11:42:18", "2023-07-10T11:42:18.000", "2023-07-10 11:42:18.000000000"]
    quick.take([record(eventTime=time, eventID=str(n)) for n, time in enumerate(times)])
    assert quick.lake.rows("SELECT DISTINCT ts FROM lake.events") == [
        (datetime(2023, 7, 10, 11, 42, 18),)
    ]


def test_documents_in_any_dress_and_number_load_alike(quick: Loading) -> None:
    records = [record(eventID=f"id-{n}") for n in range(9)]
    quick.write(document(records[:3]), "1.json")
    quick.write(document(records[3:6], indent=2), "2.json.gz")
    quick.write(as_json_lines(records[5:]), "3.json")
    report = quick.load(quick.folder / "logs")
    assert (report.total("lines"), report.total("events"), report.total("duplicates")) == (10, 9, 1)


def test_a_bad_record_of_a_document_is_told_by_its_number(quick: Loading) -> None:
    records = [record(eventID="1"), record(eventTime=None), record(eventName=None)]
    report = quick.take(document(records), "log.json", max_reject_share=1)
    assert report.total("events") == 1
    assert quick.lake.rows("SELECT line, reason FROM lake.rejects ORDER BY line") == [
        (2, "eventTime is missing"),
        (3, "eventName is missing"),
    ]


def test_a_document_that_was_cut_is_told_as_such(quick: Loading) -> None:
    whole = document([record(eventID=f"id-{n}") for n in range(50)])
    for cut in (len(whole) // 2, len(whole) - 20, len(whole) - 1):
        with pytest.raises(InputError, match=r"log\.json: breaks off in record \d+"):
            quick.take(whole[:cut], "log.json", max_reject_share=1)
    quick.write(document([record()]), "good.json")
    report = quick.load(quick.folder / "logs")
    assert (report.total("events"), len(report.left_out)) == (1, 1)


@pytest.mark.parametrize("between", [",\n", "\n,"])
def test_a_record_without_an_end_costs_only_itself(between: str, quick: Loading) -> None:
    texts = [json.dumps(record(eventID=f"id-{n}")) for n in range(40)]
    texts[7] = texts[7].replace("{", "{{", 1)
    texts[20] += ", " + json.dumps(record(eventID="id-40"))
    texts[30] = texts[30].replace("}", "", 1)
    log = f'{{"Records": [{between.join(texts)}]}}\n'
    report = quick.take(log.encode(), "log.json", max_reject_share=1)
    found = {id_ for (id_,) in quick.lake.rows("SELECT request_id FROM lake.events")}
    # What is left of the two is read where it can be.
    assert found >= {f"id-{n}" for n in range(41)} - {"id-7", "id-30"}
    assert report.total("events") + report.total("rejects") == 41


def test_the_same_event_of_two_regions_counts_once(quick: Loading) -> None:
    rows = [record(awsRegion=region) for region in ("us-east-1", "eu-west-1")]
    report = quick.take(rows)
    assert (report.total("events"), report.total("duplicates")) == (1, 1)


@pytest.mark.parametrize("identity", [None, {}, {"type": "AWSService"}, {"accessKeyId": ""}])
def test_records_without_a_key_are_kept_apart(
    identity: dict[str, Any] | None, quick: Loading
) -> None:
    rows = [record(), record(eventID="2", userIdentity=identity)]
    report = quick.take(rows)
    assert (report.total("events"), report.total("keyless")) == (1, 1)
    assert quick.lake.value("SELECT count(*) FROM lake.keyless_events") == 1
    assert quick.lake.value("SELECT sum(events) FROM lake.activity") == 1
    again = quick.take([rows[1], record(eventID="3", userIdentity=identity)], "again.jsonl")
    assert (again.total("keyless"), again.total("duplicates")) == (1, 1)


def test_the_real_attack_is_loaded_whole_and_twice_changes_nothing(loading: Loading) -> None:
    file = shared("aws-cloudtrail-invictus-stratus/cloudtrail.ndjson.gz")
    report = loading.load(file)
    assert {name: report.total(name) for name in ("lines", "keyless", "rejects")} == {
        "lines": 2900,
        "keyless": 85,
        "rejects": 0,
    }
    assert report.total("events") + report.total("duplicates") == 2815
    before = loading.tables()
    assert loading.load(file).files[0].already_loaded
    with gzip.open(file) as lines:
        other = loading.write(lines.read() + b"\n", "copy.ndjson")
    assert loading.load(other).total("duplicates") == 2900
    after = loading.tables()
    assert {name: rows for name, rows in before.items() if name != "ingested_files"} == {
        name: rows for name, rows in after.items() if name != "ingested_files"
    }


def test_the_real_detonations_load_and_their_addresses_are_kept_as_logged(
    quick: Loading,
) -> None:
    file = shared("aws-cloudtrail-stratus-detonations/cloudtrail.ndjson.gz")
    report = quick.load(file)
    with gzip.open(file) as lines:
        logged = [json.loads(line) for line in lines if line.strip()]
    assert (report.total("lines"), report.total("rejects")) == (len(logged), 0)
    addresses = {row[0] for row in quick.lake.rows("SELECT address FROM lake.origins")}
    assert addresses == {one["sourceIPAddress"] for one in logged}


# ----------------------------------------------------------------------------------------- remote


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 bucket called `logs`, in this process."""
    for name, value in object_store.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with object_store.server() as client:
        client.create_bucket(Bucket="logs")
        yield client


def test_a_log_on_an_object_store(bucket: Any, quick: Loading) -> None:
    rows = events(20)
    bucket.put_object(Bucket="logs", Key="audit/1.jsonl", Body=as_json_lines(rows[:10]))
    bucket.put_object(
        Bucket="logs", Key="audit/2.jsonl.gz", Body=gzip.compress(as_json_lines(rows[10:]))
    )
    bucket.put_object(Bucket="logs", Key="audit/readme.txt", Body=b"no log")
    uri = f"s3://logs/audit?endpoint_override={bucket.endpoint}&scheme=http&region=us-east-1"
    report = load_files(quick.lake, find_files([uri]), quick.settings, NoWhere())
    assert (len(report.files), report.total("events")) == (3, 20)
    assert [file.path for file in report.left_out] == ["s3://logs/audit/readme.txt"]
    again = load_files(quick.lake, find_files([uri]), quick.settings, NoWhere())
    assert [file.already_loaded for file in again.files] == [True, True, False]
    assert again.files[0].path == "s3://logs/audit/1.jsonl"
    missing = uri.replace("/audit", "/nowhere")
    with pytest.raises(InputError, match="nowhere"):
        find_files([missing])
