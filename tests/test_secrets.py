"""No full key and no secret parameter is in any byte of a lake."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keywatch.errors import LakeDamagedError
from keywatch.lake import Lake
from keywatch.secrets import Redactor, is_masked, load_or_create_secret
from keywatch.sources import SOURCES
from keywatch.sources.parser import Parser
from tests.conftest import Loading, event, events

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


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def hostile_log() -> bytes:
    s = SECRETS
    # One that is written out in full, in lower-case escapes, and twice over.
    escaped = "".join(f"\\u{ord(c):04x}" for c in s["escaped"])
    rows: list[dict[str, Any]] = [
        {"key": s["key"]},
        {"key_id": s["key_id"]},
        {"endpoint": f"/v1/keys/{s['path']}/rotate"},
        {"endpoint": f"/v1/checks?api_key={s['query']}&limit=5"},
        {"endpoint": f"/v1/checks?q={percent(s['encoded'])}"},
        {"endpoint": f"/v1/checks?q={quote(percent(s['twice-encoded']))}"},
        {"user_agent": f"curl/8 ({s['agent']})"},
        {"user_agent": f"curl/8 ({percent(s['agent-encoded'])})"},
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
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    found = {f"{file}, lake open": content for file, content in before.items()}
    # SQLite in this process twice would lose its locks.
    lake.connection.close()
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            content += "\n".join(str(column.to_pylist()) for column in table.columns).encode()
            content += str(pq.read_metadata(file).to_dict()).encode()
        if file.suffix == ".sqlite":
            with sqlite3.connect(file) as catalogue:
                content += "\n".join(catalogue.iterdump()).encode()
            catalogue.close()
        text = content.decode(errors="replace")
        found[str(file)] = (text + unquote(text) + unquote(unquote(text))).encode()
    return found


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
        chunk = parser.parse(SOURCES["pulsely"], raw)
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
                        endpoint=f"/v1/{percent(full)}")], "b.jsonl")  # fmt: skip
    keys = loading.lake.rows("SELECT DISTINCT key FROM lake.events")
    assert len(keys) == 1
    assert keys[0][0] in loading.lake.value("SELECT path FROM lake.events WHERE request_id = '2'")


def test_two_lakes_hash_a_key_differently(tmp_path: Path) -> None:
    full, hashes = SECRETS["key"], set()
    for name in ("one", "two"):
        with Lake.open(tmp_path / name, create=True) as lake:
            hashes.add(Redactor(lake.secret).key_hash(full))
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "harmless",
    [
        "Grafana/10.4.3",
        "/v1/checks?window=24h&step=60",
        "/v1/replying/to/ply_docs",
        "pulsely-python/3.2.1",
        "ply_live_prod_4f8a2c…9e1d",
        "/v1/checks?token=abc…9e1d",
        "100% sure",
    ],
)
def test_ordinary_text_stays_as_it_is(harmless: str) -> None:
    assert Redactor(b"s" * 32).redact(harmless) == harmless


def test_a_key_field_that_is_not_masked_is() -> None:
    redactor = Redactor(b"s" * 32)
    assert redactor.mask_key("ply_test_stg_90b781…11ee") == "ply_test_stg_90b781…11ee"
    assert redactor.mask_key("short") == f"…#{redactor.key_hash('short')}"
    assert is_masked("abc…def")
    assert not is_masked(f"…{SECRETS['key']}")


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
