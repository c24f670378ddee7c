"""Logs that are no JSON: a web server's lines, key=value, tables, Parquet and Arrow."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from keywatch.errors import InputError
from keywatch.vendors import find_files
from keywatch.vendors.arrow_files import arrow_lines
from keywatch.vendors.text_lines import access_record, logfmt_record
from tests.conftest import SHARED_DATA, Loading, event, events

AT = "[30/Sep/2026:10:00:01 +0200]"


# ------------------------------------------------------------------------------------- access logs


@pytest.mark.parametrize(
    ("before", "address", "user"),
    [
        ("81.2.69.144 - -", "81.2.69.144", None),
        ("2001:db8::1 - ana", "2001:db8::1", "ana"),
        ("vhost.example:443 81.2.69.144 - ana smith", "81.2.69.144", "ana smith"),
        ("<190>Sep 30 10:00:00 web nginx: 81.2.69.144 - -", "81.2.69.144", None),
        ("1.1.1.1, 10.0.0.1 - -", "1.1.1.1, 10.0.0.1", None),
        ("client.example - ana", "client.example", "ana"),
        ('81.2.69.144 - ""', "81.2.69.144", None),
    ],
)
def test_what_stands_before_the_time(before: str, address: str, user: str | None) -> None:
    record = access_record(f'{before} {AT} "GET / HTTP/1.1" 200 7')
    assert record is not None
    assert (record["remote_addr"], record.get("remote_user")) == (address, user)


def test_fields_of_ones_own_never_replace_those_of_the_format() -> None:
    line = (
        f'81.2.69.144 - ana {AT} "GET / HTTP/1.1" 200 7 "-" "x" remote_addr=1.1.1.1 rt=0.5 a="b c"'
    )
    record = access_record(line)
    assert record is not None
    assert (record["remote_addr"], record["rt"], record["a"]) == ("81.2.69.144", "0.5", "b c")


@pytest.mark.parametrize(
    "line",
    [
        "", "GET / HTTP/1.1", f"- - {AT}", f'81.2.69.144 - - {AT} "GET / HTTP/1.1 200 7',
        '81.2.69.144 - - [] "GET / HTTP/1.1" 200 7', " " * 2000 + f'{AT} "x" 200 7',
    ],
)  # fmt: skip
def test_other_lines_are_none_of_an_access_log(line: str) -> None:
    assert access_record(line) is None


def test_a_public_access_log_is_read_whole(quick: Loading) -> None:
    file = SHARED_DATA / "web-access-elastic-apache" / "apache_access.log.gz"
    if not file.exists():
        pytest.skip("the shared data web-access-elastic-apache is not beside this checkout")
    report = quick.load(file)
    assert report.files[0].source == "access_log"
    assert (report.total("lines"), report.total("rejects")) == (10_000, 0)
    assert report.total("keyless") + report.total("duplicates") == 10_000
    told = quick.lake.rows(
        "SELECT min(ts), max(ts), count(DISTINCT address) FROM lake.keyless_events"
    )
    first, last = datetime(2015, 5, 17, 10, 5), datetime(2015, 5, 20, 21, 5, 59)
    assert told == [(first, last, 1753)]


def test_a_key_in_the_query_is_masked_and_never_stored(quick: Loading) -> None:
    secret = "Zk8dQ2mW5xT1vB7nL4pR9sY3"
    report = quick.take(
        "".join(
            f'81.2.69.144 - - [30/Sep/2026:10:00:0{n} +0200] "GET /v1/x?{name}={secret} HTTP/1.1" '
            f'200 7 "https://h/?{name}={secret}" "curl/8"\n'
            for n, name in enumerate(["api_key", "access_token", "key", "token"])
        ).encode(),
        "access.log",
    )
    assert report.total("events") == 4
    ((key_id,),) = quick.lake.rows("SELECT DISTINCT key_id FROM lake.events")
    assert key_id.startswith("Zk8dQ2…9sY3#")
    assert secret not in str(quick.tables())


def test_a_log_of_json_with_the_names_of_nginx_is_an_access_log(quick: Loading) -> None:
    report = quick.take(
        b'{"time_iso8601":"2026-09-30T10:00:01+02:00","remote_addr":"81.2.69.144",'
        b'"remote_user":"ana","request":"GET /v1/x HTTP/1.1","status":200,"request_time":0.25}\n'
    )
    assert report.files[0].source == "access_log"
    assert quick.lake.rows("SELECT ts, key_id, endpoint, duration_ms FROM lake.events") == [
        (datetime(2026, 9, 30, 8, 0, 1), "ana", "GET /v1/x", 250.0)
    ]


# ----------------------------------------------------------------------------------------- logfmt


def test_logfmt_has_quoted_values_and_their_escapes() -> None:
    line = r'time=2026-09-30T10:00:01Z level=info msg="a \"b\" c=d" path=/v1/x?a=1 empty= done'
    assert logfmt_record(line) == {
        "time": "2026-09-30T10:00:01Z", "level": "info", "msg": 'a "b" c=d', "path": "/v1/x?a=1",
        "empty": "",
    }  # fmt: skip
    assert logfmt_record("GET /v1/x?a=1 b=2") is None


# ------------------------------------------------------------------------------- Parquet and Arrow


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue()


def as_feather(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(table, sink)
    return sink.getvalue()


def as_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


WRITERS = [as_parquet, as_feather, as_stream]


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_rows_of_parquet_and_arrow_are_records(
    written: Callable[[pa.Table], bytes], unit: str, quick: Loading
) -> None:
    rows = events(5)
    table = pa.Table.from_pylist(rows)
    at = pa.array(
        [datetime.fromisoformat(row["timestamp"]) for row in rows], pa.timestamp(unit, "+02:00")
    )
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", at)
    report = quick.take(written(table), "log.dat")
    assert (report.files[0].source, report.total("events")) == ("pulsely", 5)
    # The same requests as in JSON; and the file is known when it comes again.
    assert quick.take(rows, "log.jsonl").total("duplicates") == 5
    assert quick.load(quick.folder / "logs" / "log.dat").files[0].already_loaded


def test_times_without_a_zone_have_no_offset(quick: Loading) -> None:
    table = pa.Table.from_pylist([event(timestamp=datetime(2026, 9, 30, 12), request_id="a")])
    report = quick.take(as_parquet(table), "log.parquet", max_reject_share=1)
    assert report.total("rejects") == 1
    assert "timestamp has no offset" in report.first_rejects[0]
    twice = as_parquet(pa.concat_tables([table, table]))
    quick.take(twice, "twice.parquet", time_zone="Europe/Berlin")
    assert quick.lake.rows("SELECT ts FROM lake.events") == [(datetime(2026, 9, 30, 10),)]


def test_a_parquet_in_a_zip_is_read(quick: Loading) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.parquet", as_parquet(pa.Table.from_pylist(events(3))))
    assert quick.take(sink.getvalue(), "logs.zip").total("events") == 3


def test_nested_and_odd_values_are_what_json_has(quick: Loading) -> None:
    rows: list[dict[str, Any]] = [
        {
            "a": {"b": [{"at": datetime(2026, 9, 30, tzinfo=timezone(timedelta(hours=2)))}]},
            "c": b"\xff", "d": datetime(2026, 9, 30, tzinfo=UTC).date(), "left out": 1,
        }
    ]  # fmt: skip
    file = quick.write(as_parquet(pa.Table.from_pylist(rows)), "log.parquet")
    (found,) = find_files([str(file)])
    ((text,),) = (
        lines.texts.to_pylist() for lines in arrow_lines(found, {"a", "c", "d"}, lambda _: None)
    )
    assert text == (
        '{"a": {"b": [{"at": "2026-09-30T00:00:00+02:00"}]}, "c": "\ufffd", "d": "2026-09-30"}'
    )
    assert found.contents is not None
    assert found.contents.size_bytes == file.stat().st_size


def test_a_damaged_parquet_is_named(quick: Loading) -> None:
    content = as_parquet(pa.Table.from_pylist(events(3)))
    with pytest.raises(InputError, match=r"log\.parquet: .*fetch it again|log\.parquet: .*Fetch"):
        quick.take(content[:-20], "log.parquet")


# ---------------------------------------------------------------------------------------- tables


def test_a_header_may_have_any_case_a_mark_and_blanks(quick: Loading) -> None:
    content = (
        '\ufeff"Timestamp";KEY_ID ; Ip;"Method";Endpoint;"Some text"\r\n'
        '2026-09-30T10:00:01Z;key_1;81.2.69.144;GET;/v1/x;"two\r\nlines; and more"\r\n'
    )
    report = quick.take(content.encode(), "log.csv")
    assert (report.total("events"), report.total("rejects")) == (1, 0)
