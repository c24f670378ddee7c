"""One line, one file, one name never stops a load or bends it: what becomes of hostile input."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import threading
import time
import tracemalloc
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch import pipeline
from keywatch.content import content_path
from keywatch.errors import InputError, TooManyRejectsError
from keywatch.lake import Lake, utc_now
from keywatch.load.ingest import LoadReport, load_files
from keywatch.load.inventory import import_keys
from keywatch.load.origins import GeoIPPaths, OriginReader
from keywatch.model import Window
from keywatch.operate.diagnosis import diagnose
from keywatch.report import render_load
from keywatch.report.parts import what_was_done
from keywatch.settings import IngestSettings, Settings
from keywatch.text.secrets import Redactor
from keywatch.vendors import LogFile, find_files
from keywatch.vendors.documents import record_lines
from keywatch.vendors.files import BLOCK_BYTES, numbered_lines
from keywatch.vendors.lenient import end_of_value, understood
from keywatch.vendors.parser import Parser
from keywatch.vendors.wrappers import wrappers
from tests.conftest import Loading, NoWhere, as_csv, as_json_lines, event, events
from tests.long import long_form


def ignore(_: int) -> None:
    return


ODD_AGENTS = {
    r"curl \ud83d": "curl \ufffd",
    r"\udc00 bot": "\ufffd bot",
    r"a\u0000b": "a\ufffdb",
    "a\tb": "a\tb",
    "a\x1b[31mb": "a\x1b[31mb",
    "a\x7f\x85b": "a\x7f\x85b",
    r"a\x41\_b": r"a\x41\_b",
    "a\u2028b\ufeffc": "a\u2028b\ufeffc",
}


def with_agent(text: str, **fields: Any) -> bytes:
    """An event's line with `text` as it is between the agent's quotes."""
    return json.dumps(event(user_agent="AGENT", **fields)).replace("AGENT", text).encode()


@pytest.mark.parametrize(("written", "kept"), ODD_AGENTS.items())
def test_an_odd_agent_costs_no_line(written: str, kept: str, quick: Loading) -> None:
    report = quick.take(with_agent(written) + b"\n")
    assert (report.total("events"), report.total("rejects")) == (1, 0)
    stored = quick.lake.value("SELECT user_agent FROM lake.events")
    # DuckDB's own reader takes the NUL as it is.
    assert stored.replace("\0", "\ufffd") == kept


def test_bytes_that_are_no_utf8_become_the_replacement_character(quick: Loading) -> None:
    quick.take(with_agent("caf~").replace(b"~", b"\xe9") + b"\n")
    assert quick.lake.value("SELECT user_agent FROM lake.events") == "caf\ufffd"


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        (b"\xef\xbb\xbf" + with_agent("a"), "a"),
        (with_agent("a")[:-1] + b",}", "a"),
        (with_agent("a")[:-1] + b', "duration_ms": NaN, "response_bytes": 1e999}', "a"),
        (with_agent("a")[:-1] + b', "user_agent": "b",}', "a"),
        (with_agent("a")[:-1] + b', "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}", "a"),
        (with_agent('say "hi"'), "say "),  # what stands before the break
        (with_agent("a") + b" trailing", "a"),
    ],
    ids=["mark", "comma", "numbers", "twice", "deep", "quotes", "trailing"],
)
def test_what_can_be_understood_is_an_event(line: bytes, agent: str, quick: Loading) -> None:
    report = quick.take(b"\n".join([line, *as_json_lines(events(1)).splitlines(), b""]))
    assert (report.total("events"), report.total("rejects")) == (2, 0)
    assert (
        quick.lake.value("SELECT user_agent FROM lake.events WHERE request_id = 'req_01'") == agent
    )


@pytest.mark.parametrize("path", ["/v1/%ff", "/v1/caf%E9", "/v1/%", "/v1/%C3%28?a=%00"])
def test_percent_signs_of_any_kind_stop_nothing_and_hide_no_key(
    path: str, loading: Loading
) -> None:
    key = "ply_live_prod_" + "0123456789abcdef" * 2
    rows = [
        event(request_id="1", endpoint=path),
        event(request_id="2", endpoint=f"{path}/{key.replace('_', '%5F')}"),
    ]
    rows += [event(request_id="3", user_agent=f"%ff {key}")]
    assert loading.take(rows).total("events") == 3
    stored = loading.lake.rows(
        "SELECT path, user_agent, exposed FROM lake.events ORDER BY request_id"
    )
    assert stored[0][0] == path
    assert [exposed for _, _, exposed in stored] == [False, True, True]
    assert "0123456789abcdef0" not in str(stored)


def test_a_query_that_fails_at_a_line_costs_that_line_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "ply_live_prod_" + "0123456789abcdef" * 2
    rows = [event(request_id=str(n)) for n in range(5)] + [event(request_id="bad", user_agent=key)]
    texts = as_json_lines(rows).decode().splitlines()

    def fails(text: str) -> str:
        raise ValueError(f"no redaction of {text}")

    redactor = Redactor(b"s" * 32)
    monkeypatch.setattr(redactor, "redact", fails)
    import pyarrow as pa

    from keywatch.vendors import sources

    lines = pa.table({"file_id": [1] * 6, "line": list(range(6)), "text": texts})
    with Parser(redactor) as parser:
        monkeypatch.setattr(parser, "_redactor", Redactor(b"s" * 32))
        found = parser.parse(sources()["pulsely"], lines).rows.to_pylist()
    assert sorted(row["request_id"] for row in found if not row["reason"]) == list("01234")
    (bad,) = (row for row in found if row["reason"])
    assert (bad["line"], bad["key_id"]) == (5, "key_0700353")
    assert "0123456789abcdef0" not in str(bad)


@pytest.mark.parametrize("status", [0, "000", "-", None, 9000, "ok"])
def test_a_status_that_is_none_is_null(status: Any, quick: Loading) -> None:
    report = quick.take([event(status=status)])
    assert report.total("events") == 1
    assert quick.lake.rows("SELECT status FROM lake.events") == [(None,)]


def test_a_method_that_is_none_has_one_name(quick: Loading) -> None:
    quick.take([event(method="G E T"), event(request_id="2", method="X" * 50)])
    assert quick.lake.rows("SELECT DISTINCT method, endpoint FROM lake.events") == [
        ("_OTHER", "_OTHER /v1/checks/{id}")
    ]


def test_a_line_without_a_key_is_kept_apart(quick: Loading) -> None:
    report = quick.take([event(), event(key_id=None), event(request_id="2", key_id="")])
    assert (report.total("events"), report.total("keyless")) == (1, 2)


def test_a_line_that_stays_unread_has_its_key_and_a_time(quick: Loading) -> None:
    rows = as_json_lines(events(2)).splitlines()
    bad = [
        b'{"key_id": "key_0700353", "timestamp": "when"}',
        b'{"timestamp": "2026-10-01T00:00:00Z", "key_id": "key_2", "no ip": 1}',
        b'"key_id": "key_3" and "key_id": "key_4"',
        b'oh "key_id": "key_5',
    ]
    quick.take(b"\n".join([rows[0], *bad, rows[1], b""]))
    assert quick.lake.rows("SELECT line, key_id, ts FROM lake.rejects ORDER BY line") == [
        (2, "key_0700353", datetime(2026, 9, 30)),
        (3, "key_2", datetime(2026, 10, 1)),
        (4, None, datetime(2026, 9, 30)),
        (5, None, datetime(2026, 9, 30)),
    ]


def test_understood_never_fails_and_gives_an_object() -> None:
    for text in (
        "",
        "{",
        "[1]",
        "{}",
        '{"a"',
        '{"a":',
        '{"a":1,,}',
        "\\",
        '{"\\ud800": "\\ud800"}',
    ):
        found = understood(text)
        assert found is None or isinstance(json.loads(found), dict)


@pytest.mark.parametrize("text", ["x", "\\\\", '\\"', "é"])
@pytest.mark.parametrize("end", ["", '"}'])
def test_a_long_string_takes_no_more_memory_than_its_text(text: str, end: str) -> None:
    line = '{"a": "' + text * 500_000 + end
    tracemalloc.start()
    try:
        ends_at = end_of_value(line, 0)
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ends_at == (len(line) if end else None)
    assert most_bytes < 10_000_000


# ---------------------------------------------------------------------------------- lines and ends


def log_written(loading: Loading, content: bytes, ago: timedelta = timedelta(0)) -> Path:
    file = loading.folder / "logs" / "log.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    when = time.time() - ago.total_seconds()
    os.utime(file, (when, when))
    return file


def test_a_half_written_line_waits_and_no_event_counts_twice(loading: Loading) -> None:
    content = as_json_lines(events(3))
    first = loading.load(log_written(loading, content[:-30]))
    assert (first.total("lines"), first.total("events"), first.files[0].waits) == (2, 2, True)
    assert "1 file ends with an incomplete line; the next load reads the rest." in render_load(
        first
    )
    assert loading.load(log_written(loading, content[:-30])).files[0].already_loaded
    second = loading.load(log_written(loading, content))
    assert (second.total("events"), second.total("duplicates")) == (1, 2)
    assert loading.lake.value("SELECT count(*) FROM lake.rejects") == 0


def test_a_half_line_that_nobody_went_on_with_is_taken_as_it_is(loading: Loading) -> None:
    old = timedelta(days=2)
    content = as_json_lines(events(20))[:-120]
    report = loading.load(log_written(loading, content, old))
    assert (report.total("events"), report.total("rejects"), report.files[0].waits) == (
        19,
        1,
        False,
    )
    # What is compressed was finished; a whole object needs no newline.
    packed = loading.folder / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(content))
    assert loading.load(packed).total("rejects") == 1
    other = as_json_lines(events(40)[30:]).rstrip(b"\n")
    assert loading.load(log_written(loading, other)).total("events") == 10


def test_a_waiting_line_is_looked_at_again_when_its_time_is_over(loading: Loading) -> None:
    file = log_written(loading, as_json_lines(events(20))[:-120])
    loading.load(file)
    loading.lake.execute("UPDATE lake.ingested_files SET waits_until = $ago",
                         ago=utc_now() - timedelta(seconds=1))  # fmt: skip
    log_written(loading, file.read_bytes(), timedelta(days=2))
    assert loading.load(file).total("rejects") == 1


def test_a_line_of_forty_megabytes_is_a_reject_of_its_key(quick: Loading) -> None:
    good = as_json_lines(events(30)).splitlines()
    huge = json.dumps(event(user_agent="x" * 40 * 1024 * 1024, request_id="huge")).encode()
    report = quick.take(b"\n".join([*good[:15], huge, *good[15:], b""]))
    assert (report.total("lines"), report.total("events")) == (31, 30)
    assert quick.lake.rows("SELECT line, reason, key_id, text->>'bytes' FROM lake.rejects") == [
        (16, "longer than 16 MiB", "key_0700353", str(len(huge) + 1))
    ]


def test_a_long_line_at_any_place_leaves_its_neighbours_alone(
    quick: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.vendors.files.MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("keywatch.vendors.files.BLOCK_BYTES", 700)
    rows = as_json_lines(events(12)).splitlines()
    for at in (2, 5, 9, 12):
        rows.insert(at, with_agent("x" * (900 + 300 * at)))
    for end in (b"", b"\n"):
        report = quick.take(b"\n".join(rows) + end, f"{len(end)}.jsonl")
        assert (report.total("lines"), report.total("rejects")) == (16, 4)
    lines = quick.lake.rows("SELECT line FROM lake.rejects WHERE load_id = 1 ORDER BY line")
    assert lines == [(3,), (6,), (10,), (13,)]
    assert quick.lake.value("SELECT count(*) FROM lake.events") == 12


@pytest.mark.parametrize("listed_bytes", [0, 1, 10**9])
def test_a_file_is_read_whole_whatever_size_it_was_listed_with(
    listed_bytes: int, tmp_path: Path
) -> None:
    file = tmp_path / "grown.jsonl"
    file.write_bytes(as_json_lines(events(3)))
    read = numbered_lines(LogFile(str(file), listed_bytes), ignore)
    assert [number for lines in read for number in lines.numbers.to_pylist()] == [1, 2, 3]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_vertical_tab_is_a_line_wherever_it_stands(end: bytes, quick: Loading) -> None:
    report = quick.take(as_json_lines(events(3)) + b"\x0b" + end)
    # Without its end it may be the beginning of one.
    assert (report.total("lines"), report.files[0].waits) == ((4, False) if end else (3, True))


@pytest.mark.parametrize(
    "time",
    ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "294247-01-10T04:00:00Z",
     "9999-12-31T23:59:59.999999Z", "1999-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_year_that_python_does_not_know_costs_that_line(time: str, quick: Loading) -> None:
    rows = events(2)
    report = quick.take([rows[0], event(timestamp=time), rows[1]])
    assert (report.total("events"), report.total("rejects")) == (2, 1)
    report = quick.take([record(0), record(1) | {"eventTime": time}], "trail.json")
    assert (report.total("events"), report.total("rejects")) == (1, 1)
    reasons = quick.lake.rows("SELECT reason, ts FROM lake.rejects ORDER BY load_id")
    assert reasons == [
        ("timestamp is not between 2000 and 2099", datetime(2026, 9, 30)),
        ("eventTime is not between 2000 and 2099", datetime(2023, 7, 10, 11, 42, 18)),
    ]


def test_short_lines_and_unread_ones_count_for_what_they_take_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.vendors.files.MOST_LINES", 1000)
    monkeypatch.setattr("keywatch.vendors.documents.MOST_LINES", 1000)
    sizes: list[int] = []
    parse = Parser.parse

    def counted(self: Parser, source: Any, lines: Any, unread: Any = ()) -> Any:
        sizes.append(len(lines) + len(unread))
        return parse(self, source, lines, unread)

    monkeypatch.setattr(Parser, "parse", counted)
    (tmp_path / "short.jsonl").write_bytes(as_json_lines([event()]) + b"0\n" * 5000)
    (tmp_path / "short.csv").write_bytes(as_csv([event(request_id="2")]) + b"x\n" * 5000)
    (tmp_path / "trail.json").write_bytes(
        b'{"Records":[' + json.dumps(record(0)).encode() + b",0" * 5000 + b"]}"
    )
    with Lake.in_memory() as lake:
        report = load_files(
            lake,
            find_files([str(tmp_path)]),
            IngestSettings(chunk_bytes=200_000, max_reject_share=1),
            NoWhere(),
        )
    assert (report.total("lines"), report.total("events")) == (3 * 5001, 3)
    assert sum(sizes) == 3 * 5001
    assert max(sizes) <= 2000


def test_a_file_that_is_hopeless_is_not_read_to_its_end(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.vendors.files.MOST_LINES", 50)
    monkeypatch.setattr("keywatch.load.ingest._ENOUGH_LINES", 200)
    bad, good = b"no line\n" * 5000, as_json_lines(events(3))
    loading.write(as_json_lines(events(9)[3:]), "good.jsonl")
    file = loading.write(good + bad, "hopeless.jsonl")
    # Not yet mostly bad where enough was looked at, and acceptable at its end.
    late = loading.write(as_json_lines(events(130)[10:]) + bad[: 8 * 100] + good * 60, "late.jsonl")
    options: dict[str, Any] = {"chunk_bytes": 1024, "max_reject_share": 0.3}
    report = loading.load(loading.folder / "logs", **options)
    (left_out,) = report.left_out
    assert left_out.path == str(file)
    assert 200 <= int(left_out.left_out.split(" of ")[1].split()[0]) < 1000
    assert report.total("rejects") == 100
    assert late.name in {Path(one.path).name for one in report.files if one.events}
    with pytest.raises(TooManyRejectsError, match=r"hopeless\.jsonl: \d{3} of \d{3} lines"):
        loading.load(file, **options)


# --------------------------------------------------------------------------------------------- CSV


def test_an_unclosed_quote_costs_its_own_row_at_most(quick: Loading) -> None:
    table = as_csv(events(1000)).splitlines()
    table[3] = table[3].replace(b"/v1/checks/8812", b'"/v1/checks')
    table[9] = table[9].replace(b"Grafana/10.4.3", b'"open agent')
    table[700] = table[700].replace(b"Grafana/10.4.3", b'"said ""hi"", and\nleft"')
    report = quick.take(b"\n".join(table) + b"\n", "log.csv")
    assert (report.total("events"), report.total("rejects")) == (999, 1)
    assert quick.lake.rows("SELECT line, key_id FROM lake.rejects") == [(4, "key_0700353")]
    agents = quick.lake.rows("SELECT DISTINCT user_agent FROM lake.events ORDER BY 1")
    assert agents == [("Grafana/10.4.3",), ("open agent",), ('said "hi", and\nleft',)]


def test_rows_that_swallow_others_are_told_apart_from_rows_with_newlines(quick: Loading) -> None:
    table = as_csv(events(6)).splitlines()
    # Two unclosed quotes, which would make one row of four.
    table[2] = table[2].replace(b"Grafana/10.4.3", b'"first')
    table[5] = table[5].replace(b"Grafana/10.4.3", b'"second')
    report = quick.take(b"\n".join(table) + b"\n", "log.csv")
    assert (report.total("lines"), report.total("events")) == (6, 6)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_headers_in_another_dress_are_known(separator: str, quick: Loading) -> None:
    header = ["Timestamp", " KEY_ID", "ip", "Method", "Endpoint", "user_agent"]
    row = ["2026-09-30T00:00:04Z", "key_1", "81.2.69.144", "GET", "/v1/checks", "x" * 200_000]
    quick.take(f"{separator.join(header)}\r\n{separator.join(row)}\r\n".encode(), "log.txt")
    assert quick.lake.rows("SELECT key_id, length(user_agent) FROM lake.events") == [("key_1", 500)]


def test_a_csv_is_read_in_parts_of_bounded_size(tmp_path: Path) -> None:
    from keywatch.vendors import sources

    rows = events(60, user_agent="x" * 500_000)
    file = tmp_path / "log.csv.gz"
    file.write_bytes(gzip.compress(as_csv(rows), 1))
    sizes = [
        lines.texts.nbytes for lines in sources()["pulsely"].lines(LogFile(str(file), 1), ignore)
    ]
    assert len(sizes) > 3
    assert max(sizes) < 2 * BLOCK_BYTES


# --------------------------------------------------------------------------------------- documents


def record(n: int, pad: str = "") -> dict[str, Any]:
    return {
        "eventTime": "2023-07-10T11:42:18Z", "eventID": f"id-{n}", "eventName": "ListBuckets",
        "eventSource": "s3.amazonaws.com", "sourceIPAddress": "10.0.0.1",
        "userAgent": f"boto {pad}", "userIdentity": {"accessKeyId": "AKIATFQR7NSCUXC3DDDP"},
    }  # fmt: skip


def test_a_document_is_read_in_parts_of_bounded_size(tmp_path: Path) -> None:
    records = [record(n, "x" * 100_000) for n in range(200)]
    file = tmp_path / "trail.json.gz"
    file.write_bytes(gzip.compress(json.dumps({"Records": records}).encode(), 1))
    parts = list(record_lines(LogFile(str(file), 1), wrappers()[0], ignore))
    assert len(parts) > 2
    assert max(part.texts.nbytes for part in parts) < 2 * BLOCK_BYTES
    assert [n for part in parts for n in part.numbers.to_pylist()] == list(range(1, 201))
    texts = [text for part in parts for text in part.texts.to_pylist()]
    assert [json.loads(text) for text in texts] == records


def test_documents_may_follow_each_other_with_other_fields_and_odd_records(quick: Loading) -> None:
    odd = json.dumps(record(3)).replace("boto ", "\\ud800 \\x41 \x01")
    content = (
        f'{{"Version": [1, {{"a": "]}}"}}], "Records": [{json.dumps(record(1))}, \n'
        f'{json.dumps(record(2))}], "n": 1e5}}\n{{"Records":[{odd}]}}{{"Records":[]}}\n'
    )
    content = content.replace('{"Version"', '{"Records": [], "Version"', 1)
    report = quick.take(content.encode(), "trail.json")
    assert (report.total("lines"), report.total("events")) == (3, 3)


@pytest.mark.parametrize(("worth", "taken"), [(1, True), (90, False)])
def test_what_follows_a_document_counts_by_its_bytes(
    worth: int, taken: bool, quick: Loading
) -> None:
    content = json.dumps({"Records": [record(n) for n in range(100)]}).encode()
    quick.write(content + b"#" * (worth * len(content) // 100), "trail.json")
    report = quick.load(quick.folder / "logs")
    assert (report.total("events"), len(report.left_out)) == ((100, 0) if taken else (0, 1))


# ------------------------------------------------------------------------------------------- files


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_what_a_file_is_its_first_bytes_tell(quick: Loading) -> None:
    parts = [as_json_lines(events(90)[10 * n : 10 * n + 10]) for n in range(9)]
    for name, content in {
        "audit.log": parts[0],
        "audit.log.1": parts[1],
        "audit.log.2.gz": gzip.compress(parts[2]),
        "audit.log-20260929": parts[3],
        "plain.json.gz": parts[4],
        "packed.jsonl": gzip.compress(parts[5]),
        "old": bz2.compress(parts[6]),
        "older.xz": lzma.compress(parts[7]),
        "all.zip": zipped(**{"deep/a.jsonl": parts[8], "readme": b"no log"}),
        ".hidden": b"nobody looks",
    }.items():
        (quick.folder / "logs").mkdir(exist_ok=True)
        (quick.folder / "logs" / name).write_bytes(content)
    report = quick.load(quick.folder / "logs")
    assert report.total("events") == 90
    logs = quick.folder / "logs"
    assert [file.path for file in report.left_out] == [f"{logs}/all.zip/readme"]
    again = quick.load(logs)
    assert sum(file.already_loaded for file in again.files) == 9


BAD_FILES = {
    "manifest.json": b'{"files": 1}',
    "digest.json": b'{"awsAccountId": "1", "digestStartTime": "2026-09-30T00:00:00Z"}',
    "nginx.log": b'127.0.0.1 - - [30/Sep/2026] "GET /" 200\n',
    "cut.jsonl.gz": gzip.compress(as_json_lines(events(2000)))[:-2000],
    "bad.zst": b"\x28\xb5\x2f\xfd" + b"no zstd" * 10,
    "t.parquet": b"PAR1 and so on PAR1",
    "broken.zip": b"PK\x03\x04 and no more",
    "wide.jsonl": as_json_lines(events(1)).decode().encode("utf-16"),
    "few.csv": b"timestamp,key_id,endpoint\n",
    "mixed.jsonl": as_json_lines(events(3)) + b"no line\n" * 20,
}


def test_a_bad_file_in_a_folder_is_left_out_remembered_and_tried_again(loading: Loading) -> None:
    loading.write(events(40, user_agent="good"), "a.jsonl")
    logs = loading.folder / "logs"
    for name, content in BAD_FILES.items():
        (logs / name).write_bytes(content)
    odd = os.fsencode(logs) + b"/caf\xe9.jsonl"
    Path(os.fsdecode(odd)).write_bytes(as_json_lines(events(60, user_agent="odd name")[50:]))
    report = loading.load(logs)
    assert report.total("events") == 50
    assert {Path(file.path).name for file in report.left_out} == set(BAD_FILES)
    text = render_load(report)
    assert "10 files skipped:" in text
    assert "few.csv: line 1: the header lacks ip, method" in text
    known = "SELECT path, size_bytes, reason FROM lake.left_out_files ORDER BY path"
    stored = loading.lake.rows(known)
    assert [(Path(path).name, size) for path, size, _ in stored] == [
        (name, len(content)) for name, content in sorted(BAD_FILES.items())
    ]
    # Reported each time, remembered once; what has changed is tried again.
    assert len(loading.load(logs).left_out) == len(BAD_FILES)
    assert loading.lake.rows(known) == stored
    (logs / "few.csv").write_bytes(as_csv(events(70)[60:]))
    assert loading.load(logs).total("events") == 10


def test_the_feed_reads_what_is_left_out_again_only_when_it_changes(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.jsonl").write_bytes(as_json_lines(events(5)))
    (logs / "b.json").write_bytes(b'{"files": 1}')
    choices = Settings(ingest=IngestSettings(places=(str(logs),)))
    lake = tmp_path / "lake"
    for _ in range(2):
        report = pipeline.ingest_new(lake, choices)
        assert report is not None
        assert [Path(file.path).name for file in report.left_out] == ["b.json"]
        told = [file.path for file in report.files]
    assert told == [str(logs / "b.json")]
    (logs / "b.json").write_bytes(as_json_lines(events(9)[5:]))
    report = pipeline.ingest_new(lake, choices)
    assert report is not None
    assert (report.total("events"), report.left_out) == (4, ())


@pytest.mark.parametrize("name", sorted(BAD_FILES))
def test_a_bad_file_that_was_named_is_an_error(name: str, quick: Loading) -> None:
    (quick.folder / "logs").mkdir()
    file = quick.folder / "logs" / name
    file.write_bytes(BAD_FILES[name])
    with pytest.raises(InputError) as raised:
        quick.load(file)
    assert str(raised.value).startswith(str(file))
    assert quick.lake.value("SELECT count(*) FROM lake.events") == 0


def test_a_folder_without_any_log_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "manifest.json").write_bytes(b'{"files": 1}')
    with pytest.raises(InputError, match=r"no log there; .*manifest\.json: line 1: not in a log"):
        pipeline.ingest(tmp_path / "lake", [str(tmp_path / "logs")], Settings())


def test_a_large_file_that_turns_out_bad_takes_nothing_with_it(loading: Loading) -> None:
    loading.write(events(20), "a.jsonl")
    loading.write(events(60)[20:], "z.jsonl")
    cut = gzip.compress(as_json_lines(events(4000, key_id="key_cut")), 1)[:-2000]
    (loading.folder / "logs" / "cut.jsonl.gz").write_bytes(cut)
    worse = as_json_lines(events(300, key_id="key_worse")) + b"no line\n" * 300
    loading.write(worse, "worse.jsonl")
    report = loading.load(loading.folder / "logs", chunk_bytes=2048)
    assert report.total("events") == 60
    assert [Path(file.path).name for file in report.left_out] == ["cut.jsonl.gz", "worse.jsonl"]
    assert loading.lake.rows("SELECT DISTINCT key_id FROM lake.activity") == [("key_0700353",)]
    assert loading.parquet_files() >= loading.listed_files()


def test_a_few_bad_lines_of_a_stranger_stop_nothing(quick: Loading) -> None:
    report = quick.take(as_json_lines(events(8)) + b"stranger\n" * 7)
    assert (report.total("events"), report.total("rejects")) == (8, 7)
    with pytest.raises(TooManyRejectsError):
        quick.take(as_json_lines(events(8)) + b"stranger\n" * 11, "more.jsonl")


def test_one_key_that_breaks_its_lines_does_not_get_the_file_left_out(quick: Loading) -> None:
    broken = as_json_lines([event(ip=None)])
    report = quick.take(as_json_lines(events(30)) + broken * 300)
    assert (report.total("events"), report.total("rejects")) == (30, 300)
    with pytest.raises(TooManyRejectsError):  # nothing of that key can be read: no log of ours
        quick.take(broken * 300, "none.jsonl")


def test_a_pipe_is_read_whole(quick: Loading) -> None:
    content = as_json_lines(events(9000))
    assert len(content) > 5 * 256 * 1024
    fifo = quick.folder / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(gzip.compress(content),))
    writer.start()
    report = quick.load(fifo)
    writer.join()
    assert (report.total("events"), report.files[0].path) == (9000, str(fifo))
    assert quick.load(quick.write(content)).total("duplicates") == 9000


def test_standard_input_is_read_whole(quick: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    class Standard:
        buffer = io.BytesIO(as_csv(events(300)))

    monkeypatch.setattr("sys.stdin", Standard)
    report = load_files(quick.lake, find_files(["-"]), quick.settings, NoWhere())
    assert (report.total("events"), report.files[0].path) == (300, "-")


def test_a_lake_in_the_folder_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_json_lines(events(3)))
    for _ in range(2):
        report = pipeline.ingest(tmp_path / "lake", [str(tmp_path)], Settings())
        assert [Path(file.path).name for file in report.files] == ["a.jsonl"]


# -------------------------------------------------------------------------------------- properties

MARKS = st.sampled_from(
    [b"", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\x03\x04",
     b"PAR1", b"BZh9", b"\xfd7zXZ\x00", b'{"Records": [', b"timestamp,key_id,ip,method,endpoint\n",
     as_json_lines([event()]), as_csv([event()]), json.dumps({"Records": [record(1)]}).encode()]
)  # fmt: skip
CONTENTS = st.builds(
    lambda mark, body, end, pack: pack(mark + body + end),
    MARKS,
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace")),
    st.sampled_from([b"", b"\n", b'"', b"]}"]),
    st.sampled_from([bytes, gzip.compress, lambda content: gzip.compress(content)[:-4]]),
)
NAMES = st.sampled_from(["x.jsonl", "x.csv", "x.json.gz", "x.zip", "x", "x.log.1"])


@given(contents=st.dictionaries(NAMES, CONTENTS, min_size=1, max_size=4))
@settings(max_examples=long_form(40, 15), deadline=None)
def test_no_bytes_stop_a_load(contents: dict[str, bytes]) -> None:
    good = events(3, key_id="key_good")
    with TemporaryDirectory() as name, Lake.in_memory() as lake:
        folder = Path(name)
        (folder / "good.jsonl").write_bytes(as_json_lines(good))
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        report: LoadReport = load_files(
            lake, find_files([name]), IngestSettings(chunk_bytes=1024), NoWhere()
        )
        kinds = ("events", "duplicates", "keyless", "rejects")
        total = {kind: report.total(kind) for kind in kinds}
        assert sum(total.values()) == report.total("lines")
        assert {Path(file.path).name for file in report.files} >= {"good.jsonl"}
        assert len(report.files) == 1 + len(contents)
        for kind, table in (
            ("events", "events"),
            ("keyless", "keyless_events"),
            ("rejects", "rejects"),
        ):
            assert lake.value(f"SELECT count(*) FROM lake.{table}") == total[kind]
        kept = "SELECT count(*) FROM lake.events WHERE key_id = 'key_good'"
        assert lake.value(kept) == len(good)
        assert lake.value("SELECT coalesce(sum(events), 0) FROM lake.activity") == total["events"]


# ------------------------------------------------------------------------------- what is said of it


def test_unread_lines_are_told_in_the_case_the_coverage_and_by_doctor(tmp_path: Path) -> None:
    rows = [
        event(timestamp=f"2026-{day:%m-%d}T12:00:00Z", request_id=f"{day:%j}")
        for day in (datetime(2026, 9, 1) + timedelta(days=n) for n in range(33))
    ]
    bad = [event(timestamp="2026-10-01T13:00:00Z", ip=None, request_id=f"b{n}") for n in range(12)]
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.jsonl").write_bytes(as_json_lines(rows + bad))
    (logs / "nginx.log").write_bytes(BAD_FILES["nginx.log"])
    pipeline.ingest(tmp_path / "lake", [str(logs)], Settings())
    window = Window(datetime(2026, 9, 28), datetime(2026, 10, 5))
    answer = pipeline.review(tmp_path / "lake", window, Settings(), keep=False)
    (case,) = answer.cases
    assert case.blast_radius is not None
    assert case.blast_radius.lines_unread == 12
    assert "12 unreadable lines" in what_was_done(case.blast_radius)
    said = [each.actual for each in case.evidence if each.detector == "unreadable_lines"]
    assert said == ["12 unreadable lines of this key on 2026-10-01, mostly: ip is missing"]
    notes = " ".join(answer.coverage.notes)
    assert "12 lines of key_0700353 could not be read; their content is unknown." in notes
    assert "1 file found since the window began was skipped as unreadable" in notes
    told = [
        one.text
        for one in diagnose(tmp_path / "lake", Settings(), utc_now())
        if one.check == "file_left_out"
    ]
    assert len(told) == 1
    assert "nginx.log: line 1: not in a log format known to Keywatch" in told[0]


def test_a_database_that_is_overwritten_while_it_is_read_ends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "country.mmdb"
    file.write_bytes(content_path("data/geoip/dbip-country-lite.mmdb").read_bytes())
    with OriginReader(GeoIPPaths(country=file)) as reader:
        os.truncate(file, 0)
        found = reader.locate([f"81.2.{n}.144" for n in range(50)])
    assert set(found["country"].to_pylist()) != {None}


def test_a_name_in_the_inventory_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    names = ["next\x85line", "line\u2028separator", "file\x1cseparator"]
    file = tmp_path / "keys.jsonl"
    rows = [
        {"key_id": f"k{n}", "key": "ply_…", "name": name, "environment": "prod", "scopes": ["a"],
         "created_at": "2026-01-01T00:00:00Z"}
        for n, name in enumerate(names)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row, ensure_ascii=False).replace("\x1c", "\\u001c") + "\n"
                            for row in rows), "utf-8")  # fmt: skip
    with Lake.in_memory() as lake:
        assert import_keys(lake, file) == (3, 3)
        stored = lake.rows("SELECT name FROM lake.keys ORDER BY key_id")
    assert [name for (name,) in stored] == names
