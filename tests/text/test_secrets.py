"""No full key and no secret parameter is in any byte of a lake."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import stat
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest

from keywatch.content import content_path
from keywatch.errors import LakeDamagedError
from keywatch.lake import Lake
from keywatch.load.inventory import import_keys
from keywatch.report import render_load
from keywatch.text.secrets import (
    KINDS,
    Redactor,
    is_masked,
    load_or_create_secret,
    secret_patterns,
    suspect_pattern,
    without_tokens,
)
from keywatch.vendors import sources
from keywatch.vendors.parser import Parser
from tests.conftest import SHARED_DATA, Loading, as_json_lines, event, events
from tests.torture.planted import files_under, percent

# Each stands in one place only, so that a find says where it came from.
FULL = "ply_live_prod_4f8a2cDDDD{:04}bbbbcccc9e1d"
PLACES = (
    "key", "key_id", "path", "query", "encoded", "twice-encoded", "escaped", "agent",
    "agent-encoded", "request", "address", "reject", "reject-escaped", "file", "parameter",
    "object", "extra", "long-path",
)  # fmt: skip
SECRETS = {place: FULL.format(n) for n, place in enumerate(PLACES)}
# What is searched for: the middle of each, which no mask shows.
NEEDLES = {place: secret[20:36] for place, secret in SECRETS.items()}
TOKEN = "hunter2hunter2hunter2"


def hostile_log() -> bytes:
    s = SECRETS
    # One that is written out in full, in lower-case escapes, and twice over.
    escaped = "".join(f"\\u{ord(c):04x}" for c in s["escaped"])
    rows: list[dict[str, Any]] = [
        {"key": s["key"]},
        {"key_id": s["key_id"]},
        {"endpoint": f"/v1/keys/{s['path']}/rotate"},
        {"endpoint": f"/v1/checks?api_key={s['query']}&limit=5"},
        {"endpoint": f"/v1/checks?q={percent(s['encoded'], 1)}"},
        {"endpoint": f"/v1/checks?q={percent(s['twice-encoded'], 2)}"},
        {"user_agent": f"curl/8 ({s['agent']})"},
        {"user_agent": f"curl/8 ({percent(s['agent-encoded'], 1)})"},
        {"request_id": s["request"]},
        {"ip": s["address"]},
        {"endpoint": f"/v1/login?password={TOKEN}&x-amz-signature={TOKEN}1"},
        {"endpoint": f"/v1/{s['object']}"},
        {"note": s["extra"]},
        {"endpoint": "/v1/" + "a/" * 990 + s["long-path"]},
    ]
    lines = [
        json.dumps(event(timestamp=f"2026-09-30T00:00:{n:02}Z", request_id=f"r{n}") | row)
        for n, row in enumerate(rows)
    ]
    lines.append(json.dumps(event(request_id="e", endpoint="/v1/ESC")).replace("ESC", escaped))
    lines.append('{"broken": "' + s["reject"])
    lines.append('{"broken": "' + "".join(f"\\u{ord(c):04X}" for c in s["reject-escaped"]))
    return "\n".join([*lines, ""]).encode()


def everything_in(lake: Lake) -> dict[str, bytes]:
    """Each file's bytes, and what its compression, its pages and its encodings hide."""
    folder = lake.folder
    assert folder is not None
    found = {f"{name}, open": c for name, c in files_under(folder, whole=False).items()}
    # SQLite in this process twice would lose its locks.
    lake.connection.close()
    return found | files_under(folder)


def test_no_byte_of_the_lake_shows_a_key(loading: Loading) -> None:
    file = loading.write(hostile_log(), f"{SECRETS['file']}.jsonl")
    loading.load(file, max_reject_share=1.0)
    assert loading.lake.value("SELECT count(*) FROM lake.rejects") == 2
    for name, content in everything_in(loading.lake).items():
        shown = [place for place, needle in NEEDLES.items() if needle.encode() in content]
        assert not shown, f"{name} shows what stood in: {shown}"
        assert TOKEN.encode() not in content, name


def test_the_search_itself_would_find_a_key(loading: Loading) -> None:
    loading.take([event(user_agent="needle-in-the-agent", request_id="needle-in-the-request")])
    content = b"".join(everything_in(loading.lake).values())
    assert b"needle-in-the-agent" in content
    assert b"needle-in-the-request" in content
    assert b"log.jsonl" in content


def test_nothing_in_full_reaches_the_database_that_may_spill() -> None:
    lines = hostile_log().decode().split("\n")
    numbers = list(range(len(lines)))
    raw = pa.table({"file_id": numbers, "line": numbers, "text": lines})
    with Parser(Redactor(b"s" * 32)) as parser:
        chunk = parser.parse(sources()["pulsely"], raw)
    assert chunk.rows.num_rows == len(lines)
    text = unquote(unquote(str(chunk.rows.to_pylist())))
    assert not [place for place, needle in NEEDLES.items() if needle in text]


def test_text_not_yet_redacted_is_never_spilled() -> None:
    with Lake.scratch() as scratch:
        assert scratch.value("SELECT current_setting('temp_directory')") == ""
        scratch.execute("SET memory_limit = '20MB'")
        with pytest.raises(Exception, match="Out of Memory"):
            scratch.rows("SELECT sum(n) OVER (ORDER BY hash(n)) FROM range(10_000_000) AS r (n)")


def test_a_full_key_leaves_its_mask_and_a_keyed_hash(loading: Loading) -> None:
    loading.take(hostile_log(), max_reject_share=1.0)
    secret = loading.lake.secret
    expected = Redactor(secret).key_hash(SECRETS["key"])
    ((key,),) = loading.lake.rows("SELECT key FROM lake.events WHERE request_id = 'r0'")
    assert key == f"ply_live_prod_4f8a2c…9e1d#{expected}"
    assert re.fullmatch("[0-9a-f]{16}", expected)
    exposed = loading.lake.rows("SELECT request_id FROM lake.events WHERE exposed ORDER BY ALL")
    # The key's own field is where a key belongs; these are not.
    assert ("r0",) not in exposed
    assert {("r2",), ("r3",), ("r4",), ("r5",), ("r6",), ("r7",), ("e",)} <= set(exposed)


def test_the_same_key_is_recognised_in_every_place_and_load(loading: Loading) -> None:
    full = SECRETS["key"]
    loading.take([event(key=full)], "a.jsonl")
    loading.take([event(key=full, timestamp="2026-10-01T00:00:00Z", request_id="2",
                        endpoint=f"/v1/{percent(full, 1)}")], "b.jsonl")  # fmt: skip
    keys = loading.lake.rows("SELECT DISTINCT key FROM lake.events")
    assert len(keys) == 1
    assert keys[0][0] in loading.lake.value("SELECT path FROM lake.events WHERE request_id = '2'")


def test_two_lakes_hash_a_key_differently(tmp_path: Path) -> None:
    full, hashes = SECRETS["key"], set()
    for name in ("one", "two"):
        with Lake.open(tmp_path / name, create=True) as lake:
            hashes.add(Redactor(lake.secret).key_hash(full))
    assert len(hashes) == 2


# ------------------------------------------------------------------------------------ the catalogue

REDACTOR = Redactor(b"s" * 32)
CATALOGUE = tomllib.loads(content_path("data/secrets.toml").read_text(encoding="utf-8"))
PATTERNS = [(kind, entry) for kind in KINDS for entry in CATALOGUE[kind]]


def in_re2(text: str, pattern: str) -> bool:
    with Lake.scratch() as scratch:
        return bool(scratch.value("SELECT regexp_matches($text, $p)", text=text, p=pattern))


@pytest.mark.parametrize(("kind", "entry"), PATTERNS, ids=[entry["id"] for _, entry in PATTERNS])
def test_a_pattern_finds_its_examples_and_leaves_the_ordinary(
    kind: str, entry: dict[str, Any]
) -> None:
    (pattern,) = (each for each in secret_patterns(kind) if each.id == entry["id"])
    assert entry["source"]
    assert entry["matches"]
    assert entry["ordinary"]
    for example in entry["matches"]:
        text, secret = example.replace("¦", ""), example.partition("¦")[2]
        assert pattern.regex.search(text), text
        assert pattern.may_be_in(text.lower()), text
        assert in_re2(text, suspect_pattern(kind)), text
        redacted = REDACTOR.redact(text)
        assert secret not in redacted
        assert re.search("…[A-Za-z0-9]{0,4}#[0-9a-f]{16}", redacted), redacted
        assert REDACTOR.redact(redacted) == redacted
    for text in entry["ordinary"]:
        assert REDACTOR.redact(text) == text


@pytest.mark.parametrize("place", [0, 7, 63, 64, 99])
def test_an_example_is_found_wherever_it_stands_among_other_texts(place: int) -> None:
    """Texts are searched many at once."""
    examples = [example for _, entry in PATTERNS for example in entry["matches"]]
    ordinary = [f"req_{n}" for n in range(99)]
    with Parser(REDACTOR) as parser:
        for example in examples:
            text, secret = example.replace("¦", ""), example.partition("¦")[2]
            ids = [*ordinary[:place], text, *ordinary[place:]]
            lines = [json.dumps(event(request_id=one, user_agent=f"a/{one}")) for one in ids]
            numbers = list(range(len(lines)))
            raw = pa.table({"file_id": numbers, "line": numbers, "text": lines})
            rows = parser.parse(sources()["pulsely"], raw).rows
            stored = set(rows["request_id"].to_pylist())
            assert stored == {*ordinary, REDACTOR.redact(text)[:200]}
            assert secret not in str(rows.to_pylist())


def test_no_id_of_a_pattern_stands_twice() -> None:
    ids = [entry["id"] for _, entry in PATTERNS]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "harmless",
    [
        "Grafana/10.4.3",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.87",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "aws-cli/2.15.30 md/awscrt#0.19.19 ua/2.0 os/linux#6.5 cfg/retry-mode#standard",
        "[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488 OpenJDK_64-Bit_Server_VM/25.372]",
        "/v1/checks?window=24h&step=60",
        "/v1/objects/0b9f3a52-6c1d-4e0e-9a57-3f1f5e2d7c11/parts/12",
        "/v1/commits/2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "/v1/blobs/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "/v1/posts/ten-things-that-every-operator-of-a-public-api-should-have-written-down-2026",
        "/v1/files/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms",
        "/v1/search?q=50%25%20off&sort=-created_at",
        "/v1/keys/key_0700353/rotate",
        "/v1/sessions?after=2026-09-30T00:00:04Z",
        "/v1/tokens/tok_1a2b3c",
        "arn:aws:iam::123456789012:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX",
        "arn:aws:kms:eu-west-1:123456789012:key/0b9f3a52-6c1d-4e0e-9a57-3f1f5e2d7c11",
        "AKIAIOSFODNN7EXAMPLE",
        "req_0df82668d4e7c2ca",
        "2001:db8::1",
        "100% sure",
    ],
)
def test_ordinary_text_stays_as_it_is(harmless: str) -> None:
    assert REDACTOR.redact(harmless) == harmless


def test_of_five_thousand_random_secrets_of_aws_hardly_one_stays() -> None:
    rng = random.Random(7)
    letters = string.ascii_letters + string.digits + "+"
    secrets = ["".join(rng.choices(letters, k=40)) for _ in range(5000)]
    kept = [each for each in secrets if each in REDACTOR.redact(f"/v1/keys/{each}/rotate")]
    assert len(kept) <= 2


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("ghp_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC3", "{}"),
        ("aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC3dE5f", "/{}/"),
        ("hunter2hunter2", "a=1&client_secret={}"),
    ],
    ids=["token", "bare", "place"],
)
def test_a_load_finds_what_is_encoded_once(secret: str, text: str, loading: Loading) -> None:
    loading.take([event(endpoint=f"/v1/checks?q={percent(text.format(secret), 1)}")])
    (path,) = loading.lake.rows("SELECT path FROM lake.events")[0]
    assert secret not in unquote(path)
    assert "…" in path


def texts_of_real_logs() -> Iterator[str]:
    """What a log may hold where Keywatch keeps text: requests, agents, objects, names."""
    for file in sorted(SHARED_DATA.glob("*/*.gz")):
        if file.name == "apache_access.log.gz":
            for line in gzip.decompress(file.read_bytes()).decode(errors="replace").splitlines():
                yield from line.split('"')[1::2]
        elif "json" in file.name:
            for line in gzip.decompress(file.read_bytes()).decode().splitlines():
                yield from re.findall(r'"([^"\\]{1,200})"', line)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real logs are not in the repository")
def test_real_logs_stay_as_they_are() -> None:
    texts = set(texts_of_real_logs())
    assert len(texts) > 20_000
    changed = {text for text in texts if REDACTOR.redact(text) != text}
    # Signatures of shared links and sessions of a forum.
    real = re.compile(r"[?&](?:sig|sid|stateToken)=|Passcode: from O")
    assert [text for text in changed if not real.search(text)] == []


# ---------------------------------------------------------------------------------------- encodings

KEY = "ply_live_prod_4f8a2cDDDDeeeebbbbcccc9e1d"


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5, 9])
def test_a_key_is_found_however_often_it_is_encoded(times: int) -> None:
    text = percent(KEY, times)
    redacted = REDACTOR.redact(f"/v1/checks?q={text}")
    assert redacted == f"/v1/checks?q={REDACTOR.mask_key(KEY)}"
    assert REDACTOR.exposes(f"/v1/checks?q={text}")


@pytest.mark.parametrize("before", ["", "x", "xy", '{"k":"'])
@pytest.mark.parametrize("after", ["", "z", '","n":1}'])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_is_found_in_base64_at_each_place(before: str, after: str, encode: Any) -> None:
    encoded = encode(f"{before}{KEY}{after}".encode()).decode()
    redacted = REDACTOR.redact(f"/v1/q/{encoded}/x?a={encoded.rstrip('=')}")
    assert encoded[12:40] not in redacted
    assert redacted.count("ply_live_prod_4f8a2c…") == 2
    assert REDACTOR.exposes(f"/v1/q/{encoded}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/x?%61pi_key=S3cr3t&b=1", "/x?api_key={}&b=1"),
        ("/x?%2561pi_key=S3cr3t", "/x?api_key={}"),
        ("/x?%74oken=S3cr3t%26rest", "/x?token={}"),
        ("/x?token%5B%5D=S3cr3t", "/x?token[]={}"),
        ("/x?user%5Bpassword%5D=S3cr3t", "/x?user[password]={}"),
        ("/x;token=S3cr3t;v=2", "/x;token={};v=2"),
        ("/x#access_token=S3cr3t", "/x#access_token={}"),
        (r"app {\"client_secret\":\"S3cr3t\"}", r"app {\"client_secret\":\"{}\"}"),
        (r"app \u0074oken=S3cr3t", "app token={}"),
        ("https://ana:S3cr3t@h/x", "https://ana:{}@h/x"),
    ],
)
def test_a_secret_leaves_its_hash_and_nothing_else_changes(text: str, shown: str) -> None:
    redacted = REDACTOR.redact(text)
    assert re.sub("…#[0-9a-f]{16}", "{}", redacted) == shown
    assert "S3cr3t" not in redacted


@pytest.mark.parametrize("field", ["endpoint", "user_agent", "request_id"])
@pytest.mark.parametrize("text", [percent(KEY, 3), base64.b64encode(f"x{KEY}".encode()).decode()])
def test_an_encoded_key_counts_as_exposed(field: str, text: str, quick: Loading) -> None:
    quick.take([event(**{field: f"/v1/q/{text}"}), event(request_id="2", endpoint="/v1/x?key=S3c")])
    shown = REDACTOR.mask_key(KEY).partition("#")[0]
    exposed = quick.lake.rows(
        "SELECT exposed, contains(concat(path, user_agent, request_id), $shown) FROM lake.events "
        "ORDER BY ALL",
        shown=shown,
    )
    assert exposed == [(False, False), (True, True)]


def test_what_was_distinct_stays_distinct() -> None:
    texts = [f"/v1/x?token=S3cr3t{n}" for n in range(1000)]
    assert len({REDACTOR.redact(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "unit", ["eyJ", "_eyJ", "ply_live_", "%25", "%41", "a=%", "token[", ":@", "sk-", "\\"]
)
def test_hostile_text_is_cut_before_it_is_searched(unit: str) -> None:
    text = unit * 100_000 + KEY
    assert len(REDACTOR.redact(text)) <= 8000
    assert KEY[20:30] not in REDACTOR.redact(text)


@pytest.mark.parametrize("at", [7900, 7960, 7985, 7995, 8000])
def test_of_a_secret_that_the_cut_goes_through_nothing_is_left(at: int) -> None:
    text = "/" * at + KEY
    assert "4f8a2cDDDD" not in REDACTOR.redact(text)


# ------------------------------------------------------------------------------ the key's own field


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("ply_live_prod_4f8a2cDDDDeeee9e1d", "ply_live_prod_4f8a2c…9e1d"),
        ("ply_live_prod_4f8a2c_x", "…"),
        ("ply_live_4f8a2c1234_567890abcdef_x", "ply_live_4f8a2c…ef_x"),
        ("hunter2_password", "…"),
        ("short", "…"),
        ("sk_live_51Hq8aB2cD4eF6gH8iJ0kLmNoP", "sk_live_51Hq8a…mNoP"),
        ("", "…"),
    ],
)
def test_of_a_key_field_no_more_is_shown_than_ten_characters(key: str, shown: str) -> None:
    assert REDACTOR.mask_key(key) == f"{shown}#{REDACTOR.key_hash(key)}"


def test_a_masked_key_stays() -> None:
    for key in ("ply_test_stg_90b781…11ee", "ply_live_…#0123456789abcdef", "AKIA****WXYZ"):
        assert REDACTOR.mask_key(key) == key
    assert is_masked("abc…def")
    assert not is_masked(f"…{SECRETS['key']}")
    assert not is_masked(f"{SECRETS['key']}…")


def test_of_a_line_that_cannot_be_read_known_fields_are_kept(quick: Loading) -> None:
    lines: list[dict[str, Any]] = [
        {"key": "S3cr3t01", "ip": None},
        {"timestamp": "S3cr3t02"},
        {"ip": None, "note": "S3cr3t03", "endpoint": "/v1/x?q=S3cr3t04"},
    ]
    bad = [event(request_id=f"r{n}", status="200") | line for n, line in enumerate(lines)]
    quick.take([*bad, *events(3)], max_reject_share=1.0)
    kept = [json.loads(text) for (text,) in quick.lake.rows("SELECT text FROM lake.rejects")]
    assert "S3cr3t" not in str(kept)
    assert [each["request_id"] for each in kept] == ["r0", "r1", "r2"]
    assert kept[2]["endpoint"] == "/v1/x"
    assert kept[2]["key"] == "ply_test_stg_90b781…11ee"
    assert kept[2].keys() == {
        "timestamp", "request_id", "key_id", "method", "status", "key", "endpoint", "bytes",
        "digest",
    }  # fmt: skip


def test_of_a_cloudtrail_record_that_cannot_be_read_no_parameter_is_kept(quick: Loading) -> None:
    record = {
        "eventTime": "now", "eventSource": "sts.amazonaws.com", "eventName": "GetSessionToken",
        "userIdentity": {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "sessionToken": "S3cr3t01"},
        "requestParameters": {"name": "S3cr3t02"}, "responseElements": {"sessionToken": "S3cr3t03"},
    }  # fmt: skip
    good = record | {"eventTime": "2026-09-30T00:00:04Z", "eventID": "1", "requestParameters": None}
    quick.take([record, good], max_reject_share=1.0)
    ((kept, key_id),) = quick.lake.rows("SELECT text, key_id FROM lake.rejects")
    assert key_id == "AKIAIOSFODNN7EXAMPLE"
    assert {"eventSource", "eventName", "accessKeyId", "bytes", "digest"} == json.loads(kept).keys()


def test_an_error_shows_no_token() -> None:
    said = f"{KEY}.jsonl: no log file found; deliver.channels.x.token: write env or file"
    assert without_tokens(said) == said.replace(KEY, "ply_live_prod_4f8a2c…9e1d")
    by_its_hash = "no key 'ply_live_prod_4f8a2c…9e1d#0123456789abcdef' in the lake"
    assert without_tokens(by_its_hash) == by_its_hash


def test_a_report_of_a_load_shows_no_token_of_a_file_name(quick: Loading) -> None:
    file = quick.write(b"\n".join([b"{", *as_json_lines(events(9)).splitlines()]), f"{KEY}.jsonl")
    (file.parent / f"{KEY}.bin").write_bytes(b"no log")
    report = quick.load(file.parent, max_reject_share=1.0)
    assert report.total("rejects") == len(report.left_out) == 1
    assert KEY not in render_load(report)
    assert "ply_live_prod_4f8a2c…9e1d" in render_load(report)


def test_the_inventory_keeps_no_secret(quick: Loading) -> None:
    row = {
        "key_id": "key_1", "key": KEY, "name": "bot token=S3cr3t", "environment": "prod",
        "owner": "https://ana:S3cr3t@h", "scopes": [f"read:{KEY}"], "created_at": "2026-01-01",
    }  # fmt: skip
    import_keys(quick.lake, quick.write([row], "keys.jsonl"))
    kept = str(quick.lake.rows("FROM lake.keys"))
    assert "S3cr3t" not in kept
    assert KEY[20:30] not in kept


def test_a_key_field_of_two_keys_shows_neither() -> None:
    one, other = FULL.format(1), FULL.format(2)
    masked = Redactor(b"s" * 32).mask_key(one + other)
    assert one[20:36] not in masked
    assert other[20:36] not in masked


def test_secret_and_folders_are_private(loading: Loading) -> None:
    loading.take(events(3))
    _ = loading.lake.secret
    lake = loading.folder / "lake"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (lake, *lake.iterdir())}
    assert modes["key-hash.secret"] == 0o600
    assert modes["writer.lock"] == 0o600
    assert {modes[name] for name in ("lake", "data", "tmp")} == {0o700}


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key-hash.secret"
    secret = load_or_create_secret(file)
    assert load_or_create_secret(file) == secret
    file.write_text("x", encoding="ascii")
    with pytest.raises(LakeDamagedError, match="not a key-hash secret"):
        load_or_create_secret(file)
