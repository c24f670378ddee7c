"""Loading: what becomes of each line, on a real lake in a folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywatch.errors import InputError, TooManyRejectsError
from keywatch.lake import Lake
from keywatch.load.ingest import LoadReport, load_files
from keywatch.load.rejects import Rejects
from keywatch.report import render_load
from keywatch.settings import IngestSettings
from keywatch.vendors import LogFile, find_files, named_source
from tests.conftest import (
    Loading,
    NoWhere,
    as_csv,
    as_json_lines,
    compressed,
    event,
    events,
)
from tests.long import long_form


def counts(report: LoadReport) -> dict[str, int]:
    names = ("lines", "events", "duplicates", "keyless", "rejects")
    return {name: report.total(name) for name in names if report.total(name)}


def stored(loading: Loading, columns: str) -> list[tuple[Any, ...]]:
    return loading.lake.rows(f"SELECT {columns} FROM lake.events ORDER BY ts, request_id")


# ------------------------------------------------------------------------------------ what is kept


def test_an_event_is_stored_field_by_field(quick: Loading) -> None:
    quick.take(
        [event(endpoint="/v1/checks/8812/results?window=24h", response_bytes=5, duration_ms=1.5)]
    )
    assert quick.lake.records("SELECT * EXCLUDE (load_id) FROM lake.events") == [
        {
            "day": datetime(2026, 9, 30).date(),
            "ts": datetime(2026, 9, 30, 0, 0, 4),
            "key_id": "key_0700353",
            "key": "ply_test_stg_90b781…11ee",
            "principal": None,
            "address": "45.153.78.122",
            "method": "GET",
            "endpoint": "GET /v1/checks/{id}/results",
            "object": "8812",
            "path": "/v1/checks/8812/results?window=24h",
            "status": 200,
            "user_agent": "Grafana/10.4.3",
            "agent": "Grafana/10",
            "response_bytes": 5,
            "duration_ms": 1.5,
            "request_id": "req_01",
            "exposed": False,
            "source": "pulsely",
        }
    ]


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.csv.gz", "a.csv.zst", "a.json",
     "a.ndjson", "a.log", "A.JSONL.GZ"],
)  # fmt: skip
def test_every_form_of_a_log_gives_the_same_events(name: str, loading: Loading) -> None:
    rows = events(50)
    form = name.lower()
    content = as_csv(rows) if ".csv" in form else as_json_lines(rows)
    file = loading.folder / name
    file.write_bytes(compressed(content, form))
    assert counts(loading.load(file)) == {"lines": 50, "events": 50}
    assert [row[0] for row in stored(loading, "request_id")] == [f"req_{n}" for n in range(50)]


def test_gzip_of_several_members_is_read_whole(quick: Loading) -> None:
    parts = [gzip.compress(as_json_lines(part)) for part in (events(10)[:5], events(10)[5:])]
    file = quick.folder / "two.jsonl.gz"
    file.write_bytes(b"".join(parts))
    assert counts(quick.load(file)) == {"lines": 10, "events": 10}


def test_paths_may_be_files_folders_and_globs(quick: Loading) -> None:
    rows = events(6)
    for n in range(6):
        quick.write(rows[n : n + 1], f"{'deep/' if n % 2 else ''}{n}.jsonl")
    quick.write(b"not a log", "notes.txt")
    logs = quick.folder / "logs"
    assert counts(quick.load(logs / "*.jsonl", logs / "deep")) == {"lines": 6, "events": 6}
    again = quick.load(logs)
    assert [file.path for file in again.left_out] == [str(logs / "notes.txt")]
    assert sum(file.already_loaded for file in again.files) == 6


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"\xef\xbb\xbf" + as_json_lines(events(2)), 2),
        (as_json_lines(events(2)).replace(b"\n", b"\r\n"), 2),
        (b"\n\n" + as_json_lines(events(2)).replace(b"\n", b"\n \t\r\n\n"), 2),
        (as_json_lines(events(2)).rstrip(b"\n"), 2),
        (b"\xef\xbb\xbf" + as_csv(events(2)).replace(b"\n", b"\r\n"), 2),
        (as_csv([event(user_agent='a "quoted"\nagent')]), 1),
        (as_csv(events(2)).splitlines()[0] + b"\n", 0),
        (b"", 0),
        (b"\n \n", 0),
    ],
    ids=["mark", "crlf", "blank", "no-end", "csv-mark-crlf", "csv-newline", "header", "empty",
         "only-blank"],
)  # fmt: skip
def test_harmless_oddities(content: bytes, lines: int, quick: Loading) -> None:
    name = "log.csv" if b"timestamp,request_id" in content else "log.jsonl"
    report = quick.take(content, name)
    assert counts(report) == ({"lines": lines, "events": lines} if lines else {})
    assert quick.load(quick.folder / "logs").files[0].already_loaded


def test_a_file_that_grew_after_it_was_listed_is_recorded_as_read(loading: Loading) -> None:
    file = loading.write(events(3)[:2])
    listed = find_files([str(file)])
    file.write_bytes(as_json_lines(events(3)))
    load_files(loading.lake, listed, IngestSettings(), NoWhere())
    assert len(stored(loading, "1")) == 3
    assert loading.load(file).files[0].already_loaded


@pytest.mark.parametrize(
    ("field", "column", "most"),
    [("key_id", "key_id", 200), ("endpoint", "path", 2000),
     ("user_agent", "user_agent", 500), ("request_id", "request_id", 200), ("ip", "address", 100)],
)  # fmt: skip
def test_text_is_stored_to_its_limit_and_no_further(
    field: str, column: str, most: int, quick: Loading
) -> None:
    start = "/" if field == "endpoint" else "z"
    texts = [start + "x" * (length - len(start)) for length in (most - 1, most, most + 1)]
    quick.take([event(timestamp=f"2026-09-30T00:00:0{n}Z", request_id=f"r{n}") | {field: text}
                for n, text in enumerate(texts)])  # fmt: skip
    assert stored(quick, column) == [(text[:most],) for text in texts]


# ----------------------------------------------------------------------------------------- rejects


BAD_LINES = {
    b"{": "not valid JSON",
    b'{"timestamp":"2026-09-30T00:00:04Z"}': "ip is missing",
    b"[1, 2]": "timestamp is missing",
    b"null": "not valid JSON",
    b"\x00\x00": "not valid JSON",
    b"\xff\xfe\xfd": "not valid JSON",
    json.dumps(event(timestamp=None)).encode(): "timestamp is missing",
    json.dumps(event(timestamp="2026-09-30T00:00:04")).encode(): (
        "timestamp has no offset; set [ingest] time_zone"
    ),
    json.dumps(event(timestamp="2026-02-30T00:00:04Z")).encode(): (
        "timestamp is no time; 2026-09-30T00:00:04Z is one"
    ),
    json.dumps(event(timestamp="2026-09-30T00:00:04+25:00")).encode(): (
        "timestamp is no time; 2026-09-30T00:00:04Z is one"
    ),
    json.dumps(event(timestamp="0026-09-30T00:00:04Z")).encode(): (
        "timestamp is not between 2000 and 2099"
    ),
    json.dumps(event(ip=None)).encode(): "ip is missing",
    json.dumps(event(method=None)).encode(): "method is missing",
    json.dumps(event(endpoint=None)).encode(): "endpoint is missing",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items())
def test_a_bad_line_is_kept_with_its_number_and_reason(
    line: bytes, reason: str, quick: Loading
) -> None:
    good = as_json_lines(events(2)).splitlines()
    report = quick.take(b"\n".join([good[0], b"", line, good[1]]), max_reject_share=1)
    assert counts(report) == {"lines": 3, "events": 2, "rejects": 1}
    assert quick.lake.rows("SELECT line, reason FROM lake.rejects") == [(3, reason)]
    assert report.first_rejects == (f"{quick.folder}/logs/log.jsonl, line 3: {reason}",)


def test_rejects_are_told_by_reason_with_the_value_that_was_met(quick: Loading) -> None:
    rows = events(20)
    for row in rows[3:9]:
        row["timestamp"] = row["timestamp"].replace("T", " ").rstrip("Z")
    rows[10] |= {"timestamp": "Wed, 30 Sep 2026 00:00:10"}
    rows[11] |= {"ip": None, "client_ip": "81.2.69.144"}
    rows[12] |= {"timestamp": "a-secret-of-some-kind"}
    report = quick.take(rows, max_reject_share=1)
    log = f"{quick.folder}/logs/log.jsonl"
    assert [str(group) for group in report.reject_groups] == [
        "6 lines: timestamp has no offset, like 2026-09-30 00:00:03; set [ingest] time_zone "
        f"({log}, line 4)",
        "2 lines: timestamp is no time, like Wed, 30 Sep 2026 00:00:10; 2026-09-30T00:00:04Z is "
        f"one ({log}, line 11)",
        f"1 line: ip is missing; client_ip looks like it ({log}, line 12)",
    ]
    told = render_load(report)
    assert "9 lines rejected as unreadable:\n  6 lines: timestamp has no offset, like" in told
    assert "a-secret-of-some-kind" not in str(quick.tables())


def test_rejects_of_very_many_reasons_are_bounded() -> None:
    rejects = Rejects("a.csv")
    for n in range(1000):
        rejects.add(f"has {n} fields, and the header 6", n, "{}")
    assert sum(group.lines for group in rejects.groups) == 1000
    assert str(rejects.groups[0]) == "950 lines: other reasons (a.csv, line 50)"
    assert len(rejects.groups) == 51


def test_rows_that_do_not_fit_the_header_are_rejects(quick: Loading) -> None:
    table = as_csv(events(3)).splitlines()
    table.insert(2, b"too,few")
    table.insert(3, table[2] + b",many," + table[1])
    report = quick.take(b"\n".join(table), "log.csv", max_reject_share=1)
    assert counts(report) == {"lines": 5, "events": 3, "rejects": 2}
    assert quick.lake.rows("SELECT line, reason FROM lake.rejects ORDER BY line") == [
        (3, "has 2 fields, and the header 9"),
        (4, "has 12 fields, and the header 9"),
    ]


def test_a_line_of_twenty_megabytes_is_one_reject(quick: Loading) -> None:
    good = as_json_lines(events(2)).splitlines()
    huge = b'{"timestamp":"' + b"x" * 20 * 1024 * 1024
    report = quick.take(b"\n".join([good[0], huge, good[1]]), max_reject_share=1)
    assert counts(report) == {"lines": 3, "events": 2, "rejects": 1}
    ((line, length),) = quick.lake.rows("SELECT line, length(text) FROM lake.rejects")
    assert (line, length <= 1000) == (2, True)


def test_too_many_bad_lines_fail_whole_and_leave_nothing(loading: Loading) -> None:
    before = loading.tables(), loading.parquet_files()
    content = as_json_lines(events(18)) + b"bad\n{}\n" + b"[]\n" * 9
    with pytest.raises(TooManyRejectsError) as raised:
        loading.take(content, chunk_bytes=1024)
    text = str(raised.value)
    log = f"{loading.folder}/logs/log.jsonl"
    assert text.startswith(f"{log}: 11 of 29 lines can't be read, more than the 5% that ingest")
    assert f"1 line: not valid JSON ({log}, line 19)" in text
    assert f"10 lines: timestamp is missing ({log}, line 20)" in text
    assert loading.tables() == before[0]
    loading.take(events(1))  # the next writer clears away what the last one left
    assert loading.parquet_files() == loading.listed_files()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.jsonl.gz", compressed(as_json_lines(events(2000)), ".gz")[:-2000], "can't be read"),
        ("bad.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"no zstd" * 10, "can't be read"),
        ("u16.jsonl", as_json_lines(events(2)).decode().encode("utf-16"), "is UTF-16"),
        ("u16.csv", as_csv(events(2)).decode().encode("utf-16"), "is UTF-16"),
        ("few.csv", b"timestamp,key_id,endpoint\n", "the header lacks ip, method"),
        ("what.log", b"127.0.0.1 - - [30/Sep/2026] \"GET /\" 200\n", "not in a log format known"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_is_named_and_nothing_is_kept(
    name: str, content: bytes, words: str, loading: Loading
) -> None:
    good = loading.write(events(5), "a.jsonl")
    bad = loading.folder / "logs" / name
    bad.write_bytes(content)
    with pytest.raises(InputError) as raised:
        loading.load(good, bad)
    assert str(bad) in str(raised.value)
    assert words in str(raised.value)
    assert not any(loading.tables().values())
    assert counts(loading.load(good)) == {"lines": 5, "events": 5}
    assert loading.parquet_files() == loading.listed_files()


def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no log file found"):
        find_files([str(tmp_path / "nowhere.jsonl")])


def test_a_source_must_be_known() -> None:
    with pytest.raises(InputError, match=r"unknown source 'splunk'; available: .*pulsely"):
        named_source("splunk")


# -------------------------------------------------------------------------------------- duplicates


def test_a_copy_under_another_name_changes_nothing(loading: Loading) -> None:
    loading.take(events(5))
    before = loading.tables()
    copy = loading.write(events(5), "renamed.jsonl")
    report = loading.load(copy)
    assert [file.already_loaded for file in report.files] == [True]
    assert loading.tables() == before


def test_two_copies_in_one_load_count_once(quick: Loading) -> None:
    paths = [quick.write(events(5), name) for name in ("a.jsonl", "b.jsonl")]
    report = quick.load(*paths)
    assert sorted(file.already_loaded for file in report.files) == [False, True]
    assert counts(report) == {"lines": 5, "events": 5}


@pytest.mark.parametrize("chunk_bytes", [1024, 10**8])
def test_the_same_request_in_two_files_counts_once(chunk_bytes: int, loading: Loading) -> None:
    rows = events(30)
    first = loading.write([*rows[:20], rows[3]], "a.jsonl")
    second = loading.write(rows[10:], "b.jsonl")
    report = loading.load(first, second, chunk_bytes=chunk_bytes)
    assert counts(report) == {"lines": 41, "events": 30, "duplicates": 11}
    # Late lines, in another load.
    late = loading.take(rows[5:7] + events(32)[30:], "late.jsonl", chunk_bytes=chunk_bytes)
    assert counts(late) == {"lines": 4, "events": 2, "duplicates": 2}
    assert len(stored(loading, "1")) == 32
    assert loading.lake.value("SELECT sum(events) FROM lake.activity") == 32
    assert loading.lake.value("SELECT sum(events) FROM lake.activity_hours") == 32


def test_a_request_id_used_again_later_or_by_another_key_is_another_request(
    quick: Loading,
) -> None:
    rows = [
        event(),
        event(timestamp="2026-09-30T00:00:05Z"),
        event(key_id="key_2"),
        event(status=500),  # the same request told twice
    ]
    assert counts(quick.take(rows)) == {"lines": 4, "events": 3, "duplicates": 1}


def test_without_request_ids_equal_rows_are_as_many_requests(quick: Loading) -> None:
    rows = [
        event(request_id=None),
        event(request_id=None),
        event(request_id=None, status=404),
        event(request_id=None, endpoint="/v1/checks/8813"),
    ]
    assert counts(quick.take(rows)) == {"lines": 4, "events": 4}
    again = quick.take([event(request_id=""), event(request_id=None, ip="10.0.0.1")], "2.jsonl")
    assert counts(again) == {"lines": 2, "events": 1, "duplicates": 1}


def test_equal_rows_that_a_chunk_divides_are_counted_whatever_file_comes_before(
    quick: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.vendors.files.MOST_LINES", 5)
    later = event(request_id=None, timestamp="2026-09-30T09:00:00Z")
    quick.write([later] * 3, "1.jsonl")
    quick.write([event(request_id=None)] * 20, "2.jsonl")
    assert counts(quick.load(quick.folder / "logs", chunk_bytes=1500)) == {
        "lines": 23, "events": 23,
    }  # fmt: skip


def test_the_size_of_a_chunk_changes_nothing_but_the_parts_of_the_roll_up(tmp_path: Path) -> None:
    rows = events(200) + [event(request_id=None)] * 2
    whole = {}
    for chunk_bytes in (1024, 10**8):
        with Lake.open(tmp_path / str(chunk_bytes), create=True) as lake:
            loading = Loading(tmp_path / str(chunk_bytes), lake)
            loading.take(rows, chunk_bytes=chunk_bytes)
            whole[chunk_bytes] = (
                loading.tables()["events"],
                lake.rows("SELECT key_id, day, address, endpoint, sum(events), min(first_ts) "
                          "FROM lake.activity GROUP BY ALL ORDER BY ALL"),
            )  # fmt: skip
    assert whole[1024] == whole[10**8]


# -------------------------------------------------------------------------------------- properties

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["timestamp", "request_id", "key_id", "key", "ip", "method", "endpoint", "status",
     "user_agent", "response_bytes", "duration_ms", "new"]
)  # fmt: skip
DAMAGED_EVENTS = st.dictionaries(FIELDS, JSON_VALUES, max_size=4).map(
    lambda damage: json.dumps(event() | damage, ensure_ascii=False).encode()
)
LINES = st.one_of(
    DAMAGED_EVENTS,
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode(errors="replace")),
).map(lambda line: line.replace(b"\n", b" "))


@contextmanager
def log_of(content: bytes) -> Iterator[list[LogFile]]:
    """A log in a folder of its own: a property's examples share the test's."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        file.write_bytes(content)
        yield find_files([str(file)])


@given(lines=st.lists(LINES, max_size=12))
@settings(max_examples=long_form(50, 15), deadline=None)
def test_any_line_is_an_event_a_duplicate_or_a_reject(kept_lake: Lake, lines: list[bytes]) -> None:
    lines = [json.dumps(event()).encode(), *lines, b""]
    anything = IngestSettings(max_reject_share=1, chunk_bytes=1024)
    lake = kept_lake
    with lake.undone(), log_of(b"\n".join(lines)) as files:
        report = load_files(lake, files, anything, NoWhere())
        total = {
            name: report.total(name) for name in ("events", "duplicates", "keyless", "rejects")
        }
        assert sum(total.values()) == report.total("lines")
        said = [line for line in lines if line.decode(errors="replace").strip(" \t\r")]
        assert report.total("lines") == len(said)
        assert lake.value("SELECT count(*) FROM lake.events") == total["events"]
        assert lake.value("SELECT count(*) FROM lake.rejects") == total["rejects"]


MOMENTS = st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2098, 12, 31))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@given(moments=st.lists(st.tuples(MOMENTS, OFFSETS), min_size=1, max_size=20, unique=True))
@settings(max_examples=long_form(30, 10), deadline=None)
def test_a_timestamp_is_the_utc_instant_whatever_its_offset(
    kept_lake: Lake, moments: list[tuple[datetime, timezone]]
) -> None:
    rows = [
        event(timestamp=moment.replace(tzinfo=UTC).astimezone(zone).isoformat(), request_id=str(n))
        for n, (moment, zone) in enumerate(moments)
    ]
    with kept_lake.undone(), log_of(as_json_lines(rows)) as files:
        load_files(kept_lake, files, IngestSettings(), NoWhere(), now=datetime(2099, 1, 1))
        times = kept_lake.rows("SELECT ts FROM lake.events ORDER BY request_id::INTEGER")
    assert [ts for (ts,) in times] == [moment for moment, _ in moments]


PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30
).filter(lambda text: text.strip() == text)
WELL_FORMED = st.builds(
    event,
    timestamp=MOMENTS.map(lambda moment: moment.isoformat() + "Z"),
    request_id=PLAIN,
    key_id=PLAIN,
    ip=st.ip_addresses().map(str),
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD", "get"]),
    endpoint=PLAIN.map(lambda text: "/" + text),
    status=st.integers(100, 599) | st.none(),
    user_agent=PLAIN | st.none(),
    response_bytes=st.integers(0, 2**40) | st.none(),
)


def identity(row: dict[str, Any]) -> tuple[str, ...]:
    return row["timestamp"], row["key_id"], row["request_id"]


@given(rows=st.lists(WELL_FORMED, min_size=1, max_size=10, unique_by=identity))
@settings(max_examples=long_form(30, 10), deadline=None)
def test_json_and_csv_of_the_same_events_load_alike(
    kept_lake: Lake, rows: list[dict[str, Any]]
) -> None:
    lake, whole = kept_lake, []
    for content in (as_json_lines(rows), as_csv(rows)):
        with lake.undone(), log_of(content) as files:
            after = datetime(2099, 1, 1)
            report = load_files(lake, files, IngestSettings(), NoWhere(), now=after)
            assert report.total("rejects") == 0
            whole.append(lake.rows("SELECT * EXCLUDE (load_id) FROM lake.events ORDER BY ALL"))
            assert set(lake.rows("SELECT path FROM lake.events")) == {
                (row["endpoint"],) for row in rows
            }
    assert whole[0] == whole[1]


def test_a_time_zone_says_what_times_without_an_offset_are(quick: Loading) -> None:
    rows = [event(timestamp="2026-09-30 12:00:00")]
    with pytest.raises(TooManyRejectsError, match="timestamp has no offset"):
        quick.take(rows)
    quick.take(rows, time_zone="Europe/Berlin")
    assert quick.lake.value("SELECT ts FROM lake.events") == datetime(2026, 9, 30, 10)


def test_blanks_around_a_key_make_no_other_key(quick: Loading) -> None:
    ids = ["key_1", " key_1 ", "key_1\n", "\tkey_1", 'key 🔑 "x"']
    quick.take([event(key_id=id_, request_id=str(n)) for n, id_ in enumerate([*ids, "  "])])
    assert quick.lake.rows("SELECT key_id, count(*) FROM lake.events GROUP BY 1 ORDER BY 2") == [
        ('key 🔑 "x"', 1),
        ("key_1", 4),
    ]
    assert quick.lake.value("SELECT count(*) FROM lake.keyless_events") == 1


def test_a_request_without_a_key_is_the_same_in_another_file(quick: Loading) -> None:
    quick.take([event(key_id=None), event(key_id="key_1")], "first.jsonl")
    # The request of a key at the same time, under the same id, is another one.
    later = [event(key_id=None), event(key_id="key_2"), event(key_id=None, request_id="req_02")]
    report = quick.take(later, "second.jsonl")
    assert counts(report) == {"lines": 3, "events": 1, "duplicates": 1, "keyless": 1}


@pytest.mark.parametrize(
    ("fields", "is_known"),
    [
        ({}, True),
        ({"request_id": "req_99"}, True),  # as far as roll-ups tell
        ({"timestamp": "2026-09-30T00:00:05Z"}, True),
        ({"timestamp": "2026-09-30T00:00:07Z"}, False),
        ({"timestamp": "2026-09-29T00:00:04Z"}, False),
        ({"key_id": "key_2"}, False),
        ({"ip": "45.153.78.123"}, False),
        ({"endpoint": "/v1/members"}, False),
        ({"user_agent": "curl/8.4.0"}, False),
    ],
)
def test_of_pruned_events_the_roll_ups_tell_what_was_there(
    fields: dict[str, Any], is_known: bool, quick: Loading
) -> None:
    quick.take([event(), event(timestamp="2026-09-30T00:00:06Z", request_id="req_02")], "1.jsonl")
    quick.lake.execute("DELETE FROM lake.events")
    quick.lake.execute("INSERT INTO lake.maintenance (events_before) VALUES (DATE '2026-10-01')")
    report = quick.take([event(**fields)], "2.jsonl")
    assert report.total("duplicates") == is_known


class Renewed(NoWhere):
    """Databases of a certain build; remembers which addresses were asked."""

    def __init__(self, asked: str) -> None:
        self.asked, self.addresses = asked, list[str]()

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        self.addresses += addresses
        rows = super().locate(addresses)
        at = rows.schema.get_field_index("asked")
        return rows.set_column(at, "asked", pa.array([self.asked] * len(rows), pa.string()))


def test_with_renewed_databases_older_addresses_are_located_again_once(quick: Loading) -> None:
    def load(asked: str, *addresses: str) -> list[str]:
        rows = [event(ip=ip, request_id=f"{asked} {ip}") for ip in addresses]
        locator = Renewed(asked)
        file = quick.write(rows, f"{asked}.jsonl")
        load_files(quick.lake, find_files([str(file)]), quick.settings, locator)
        return locator.addresses

    assert load("2026-08", "10.0.0.1", "10.0.0.2") == ["10.0.0.1", "10.0.0.2"]
    assert load("2026-09", "10.0.0.1", "10.0.0.3") == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    # All are of the new databases now, and without a new address nothing is asked at all.
    assert load("2026-09 again", "10.0.0.1") == []
    assert quick.lake.rows(
        "SELECT address, list(asked ORDER BY load_id) FROM lake.origins GROUP BY 1 ORDER BY 1"
    ) == [
        ("10.0.0.1", ["2026-08", "2026-09"]),
        ("10.0.0.2", ["2026-08", "2026-09"]),
        ("10.0.0.3", ["2026-09"]),
    ]
