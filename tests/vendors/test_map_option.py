"""A log that no source knows: which fields look like columns, and the mapping that a user names."""

from __future__ import annotations

import io
import json
import shlex
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keywatch.errors import InputError, UsageError
from keywatch.load.ingest import LoadReport, load_files
from keywatch.notices import notices_to
from keywatch.vendors import find_files, mapped_source
from keywatch.vendors.mapping import fields_alike
from tests.conftest import Loading, NoWhere, as_csv, as_json_lines

SECRET = "Zk8dQ2mW5xT1vB7nL4pR9sY3"
ROWS = [
    {
        "@timestamp": f"2026-09-30T10:00:0{n}Z", "client.ip": "81.2.69.144", "verb": "get",
        "Request Path": f"/v1/checks/{n}", "caller": "key_1",
    }
    for n in range(3)
]  # fmt: skip
MAP = ["time=@timestamp", "address=client.ip", "method=verb", "path=Request Path", "key_id=caller"]


def as_logfmt(rows: list[dict[str, Any]]) -> bytes:
    lines = (" ".join(f'{k.replace(" ", "_")}="{v}"' for k, v in row.items()) for row in rows)
    return "\n".join(lines).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def take(quick: Loading, content: bytes, said: list[str], name: str = "log") -> LoadReport:
    file = quick.write(content, name)
    return load_files(
        quick.lake, find_files([str(file)]), quick.settings, NoWhere(), mapped_source(said)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (as_json_lines(ROWS), MAP),
        (json.dumps(ROWS, indent=2).encode(), MAP),
        (json.dumps({"data": ROWS}).encode(), MAP),
        (as_csv(ROWS), MAP),
        (as_csv(ROWS), [one.lower() for one in MAP]),
        (as_csv(ROWS).replace(b",", b"\t"), MAP),
        (as_logfmt(ROWS), [one.replace(" ", "_") for one in MAP]),
        (as_parquet(ROWS), MAP),
    ],
)
def test_a_log_is_read_as_the_user_says(content: bytes, said: list[str], quick: Loading) -> None:
    report = take(quick, content, said)
    assert (report.files[0].source, report.total("events")) == ("mapped", 3)
    assert quick.lake.rows(
        "SELECT DISTINCT key_id, address, endpoint, min(ts) OVER () FROM lake.events"
    ) == [("key_1", "81.2.69.144", "GET /v1/checks/{id}", datetime(2026, 9, 30, 10))]


def test_nested_fields_are_paths(quick: Loading) -> None:
    row = {"at": 1790000000, "who": {"id": "key_1"}, "from": [{"ip": "81.2.69.144"}], "call": "a.b"}
    said = ["time=at", "key_id=who.id", "address=from[0].ip", "endpoint=call"]
    take(quick, as_json_lines([row]), said)
    assert quick.lake.rows("SELECT key_id, address, endpoint FROM lake.events") == [
        ("key_1", "81.2.69.144", "a.b")
    ]


@pytest.mark.parametrize("column", ["key", "key_id"])
@pytest.mark.parametrize("scheme", ["", "Bearer "])
def test_a_full_key_that_names_itself_is_never_stored(
    column: str, scheme: str, quick: Loading
) -> None:
    row = {"time": "2026-09-30T10:00:00Z", "ip": "81.2.69.144", "path": "/x"}
    rows = [row | {"api_key": scheme + SECRET}, {"api_key": SECRET, "time": "x"}, *[row] * 2]
    said = ["time=time", "address=ip", "path=path", f"{column}=api_key"]
    quick.settings = quick.settings.model_copy(update={"max_reject_share": 1})
    report = take(quick, as_json_lines(rows), said)
    assert [report.total(kind) for kind in ("events", "rejects", "keyless")] == [1, 1, 2]
    ((key_id, shown),) = quick.lake.rows('SELECT key_id, "key" FROM lake.events')
    assert key_id == shown
    assert key_id.startswith("Zk8dQ2…9sY3#")
    # The unread line is the same key's.
    assert quick.lake.rows("SELECT key_id FROM lake.rejects") == [(key_id,)]
    assert SECRET not in str(quick.tables())


def test_ids_of_keys_stay_as_they_are(quick: Loading) -> None:
    row = {"time": "2026-09-30T10:00:00Z", "ip": "81.2.69.144", "path": "/x", "api_key": "key_1"}
    take(quick, as_json_lines([row]), ["time=time", "address=ip", "path=path", "key_id=api_key"])
    assert quick.lake.rows("SELECT key_id, endpoint FROM lake.events") == [("key_1", "ANY /x")]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["tim=ts"], "tim=ts: COLUMN=FIELD is expected"),
        (["time"], "COLUMN=FIELD is expected"),
        (["time=a", "time=b"], "time is listed twice"),
        (["time=a", "address=b"], "lacks path or endpoint and key_id or key; add --map path=FIELD"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused(said: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mapped_source(said)


@pytest.mark.parametrize("write", [as_json_lines, as_csv, as_parquet])
def test_a_field_that_is_not_there_names_the_one_alike(write: Any, quick: Loading) -> None:
    said = [one.replace("client.ip", "ip_addr") for one in MAP]
    with pytest.raises(InputError, match=r"no field 'ip_addr' for address; client\.ip looks like"):
        take(quick, write(ROWS), said)


def test_a_field_that_may_be_left_out_is_told(quick: Loading) -> None:
    told: list[str] = []
    with notices_to(told.append):
        take(quick, as_json_lines(ROWS), [*MAP[:2], "method=METHOD", *MAP[3:]])
    assert len(told) == 1
    assert "no field 'METHOD' for method; verb looks like it: --map method=verb" in told[0]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (
            {"time": 1790000000, "client_ip": "81.2.69.144", "path": "/x", "api_key": SECRET},
            {"time": "time", "key": "api_key", "address": "client_ip", "path": "path"},
        ),
        (
            {"when": "2026-09-30 10:00:00", "peer": "::1", "what": "https://h/x", "how": "GET"},
            {"time": "when", "address": "peer", "path": "what", "method": "how"},
        ),
        (
            {"id": 7, "actor": {"id": "u1"}, "source": {"ip": "::1"}, "action": "a.b", "ts": 1e9},
            {"request_id": "id", "key_id": "actor.id", "address": "source.ip", "endpoint": "action",
             "time": "ts"},
        ),
        # Names alone are not enough.
        ({"time": "soon", "ip": "n/a", "path": "x", "status": "up"}, {}),
    ],
)  # fmt: skip
def test_fields_are_known_by_name_and_value(record: dict[str, Any], found: dict[str, str]) -> None:
    alike = fields_alike([record])
    assert {column: ".".join(map(str, path)) for column, path in alike.items()} == found


def test_an_unknown_log_names_the_command_that_reads_it(quick: Loading) -> None:
    file = quick.write(as_json_lines(ROWS), "my log.jsonl")
    with pytest.raises(InputError, match="not in a log format known to Keywatch") as raised:
        quick.load(file)
    command = str(raised.value).partition("may be read by: ")[2]
    words = shlex.split(command)
    assert words[:3] == ["keywatch", "ingest", str(file)]
    # Nothing says that a caller is a key.
    assert words[-2:] == ["--map", "key_id=FIELD"]


def test_the_command_that_is_named_reads_the_log(quick: Loading) -> None:
    rows = [
        {"time": 1790000000 + n, "client_ip": "81.2.69.144", "path": "/x", "api_key": SECRET}
        for n in range(3)
    ]
    with pytest.raises(InputError) as raised:
        quick.take(rows, "a.jsonl")
    words = shlex.split(str(raised.value).partition("columns: ")[2].partition(" (to keep")[0])
    assert take(quick, as_json_lines(rows), words[4::2], "b.jsonl").total("events") == 3
