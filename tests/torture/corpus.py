"""Lines as logs have them, what whoever holds a key may make of them, and good ones to compare."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.conftest import event

FULL_KEY = "ply_live_prod_Zq7wMx4Tb9Kc2Vd8Rf3Ng6Hj5Lp1Sy0A"
"""Planted in full: no byte of a lake may show it."""
COLUMNS = ("timestamp", "request_id", "key_id", "key", "ip", "method", "endpoint", "status",
           "user_agent")  # fmt: skip
_LONGEST_SEED_BYTES = 20_000
_MOST_SEEDS = 20_000
_HUGE = 1 / 5000
"""Of the mutations: those that make a field of 300 kB."""
_DEEP = 1 / 500

ODD_VALUES: tuple[Any, ...] = (
    None, True, "", " ", 0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 1e308, -0.0, [], {},
    [[]], {"": ""}, "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:60Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "294247-01-10T04:00Z",
    "2026-02-30T00:00:00Z", "2026-09-30T24:00:00Z", "2026-09-30T00:00:00+25:00", "infinity",
    "2026-09-30T00:00:00-00:00", "2026-09-30 00:00:00Z", "epoch", "99999999999999999999",
    "9223372036854775808", "NaN", "::ffff:1.2.3.4", "[::1%eth0]:80", "1.2.3.4, 5.6.7.8",
    "fe80::%" + "z" * 300, "999.999.999.999", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ufeff",
    "\u2028\x85\x1c", "…", "x…y", "%", "%00", "%ff%fe", "%25" * 40 + "41", "/" * 3000, "=" * 2500,
    "../../etc/passwd", "'; DROP TABLE lake.events; --", "\x1b]0;x\x07", "\u202e", "e\u0301" * 200,
    FULL_KEY, FULL_KEY.replace("_", "%5F"), FULL_KEY.replace("_", "%255F"), f"?token={FULL_KEY}",
    f"curl/8 ({FULL_KEY})", f"%ff{FULL_KEY}", f"{FULL_KEY}{FULL_KEY}",
)  # fmt: skip

TOKENS: tuple[bytes, ...] = (
    b"\0", b"\r", b"\r\n", b"\n", b"\n\r", b"\x0b", b"\x1a", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\xfe\xff",
    b'"', b'""', b'",', b',"', b"'", b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800",
    b"\\x41", b"\\u12",
    b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe9", b"\xe2\x80\xa8", b"\xc2\x85",
    b"{", b"}",
    b"[", b"]", b":", b",", b";", b"\t", b"|", b"null", b"NaN", b"1e999", b"18446744073709551616",
    b"%",
    b"%00", b"%5f", b"//", b"/*", b'"key_id":"key_x",', b'"timestamp":null,', FULL_KEY.encode(),
    b'{"Records":[', b"]}", b"PK\x03\x04", b"\x1f\x8b\x08",
)  # fmt: skip


@dataclass(frozen=True)
class Good:
    """A line that must be loaded: as it is written, and the fields that must be stored."""

    fields: dict[str, Any]
    stored: tuple[Any, ...]
    """ts, key_id, address, method, path, status, user_agent, request_id."""


AGENTS = (
    "Grafana/10.4.3",
    "curl/8.4.0",
    'say "hi", twice; a|b',
    "caf\u00e9 \u2603 \U0001f600",
    "a\\b/1",
)


def good_request(at: random.Random, nth: int) -> Good:
    """A request of Pulsely's log."""
    ts = datetime(2026, 9, 1) + timedelta(seconds=nth)
    fields = event(
        timestamp=ts.isoformat() + at.choice(("Z", "+00:00", ".000Z")),
        request_id=f"good-{nth}",
        key_id=f"good_{nth % 50}",
        ip=f"84.1.{nth % 7}.{nth % 200}",
        method=at.choice(("GET", "POST", "DELETE")),
        endpoint=f"/v1/checks/{nth % 1000}?window={nth % 24}h",
        status=at.choice((200, 201, 404)),
        user_agent=at.choice(AGENTS),
    )
    names = ("key_id", "ip", "method", "endpoint", "status", "user_agent", "request_id")
    return Good(fields, (ts, *(fields[name] for name in names)))


def good_record(at: random.Random, nth: int) -> Good:
    """A record of CloudTrail."""
    ts = datetime(2026, 9, 1) + timedelta(seconds=nth)
    key, agent = f"AKIAGOOD{nth % 50:012}", at.choice(AGENTS)
    address = f"84.1.{nth % 7}.{nth % 200}"
    fields = {
        "eventVersion": "1.08", "userIdentity": {"type": "IAMUser", "accessKeyId": key},
        "eventTime": ts.isoformat() + "Z", "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets", "awsRegion": "us-east-1", "sourceIPAddress": address,
        "userAgent": agent, "requestParameters": None, "eventID": f"good-{nth}",
    }  # fmt: skip
    return Good(fields, (ts, key, address, None, "us-east-1", 200, agent, f"good-{nth}"))


@functools.cache
def seeds(
    folders: tuple[Path, ...],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[bytes]]:
    """Requests, records and lines of any kind to begin from: our own and those of `folders`."""
    at = random.Random(0)
    requests = [good_request(at, n).fields | {"request_id": f"fuzz-{n}"} for n in range(200)]
    records = [good_record(at, n).fields | {"eventID": f"fuzz-{n}"} for n in range(200)]
    others: list[bytes] = []
    for file in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            with suppress(EOFError):
                content = gzip.decompress(content)
        if b"\0" not in content[:10_000]:
            others += [one for one in content.split(b"\n") if 1 < len(one) <= _LONGEST_SEED_BYTES]
    at.shuffle(others)
    for line in others[:_MOST_SEEDS]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            (requests if "key_id" in found else records).append(found)
    return requests, records, others[:_MOST_SEEDS]


class Mutator:
    """Makes lines nobody has written of those that somebody has."""

    def __init__(self, at: random.Random, folders: list[Path]) -> None:
        self._at = at
        self.requests, self.records, self._others = seeds(tuple(folders))

    def json_line(self, seeds: list[dict[str, Any]], *, whole: bool = False) -> bytes:
        """A line of JSON, mostly; one that keeps its brackets where it has to be `whole`."""
        if not whole and self._others and self._at.random() < 0.02:
            return self.torn(self._at.choice(self._others))
        line = self._json(dict(self._at.choice(seeds)))
        return line if whole or self._at.random() < 0.4 else self.torn(line)

    def row(self, separator: str) -> bytes:
        """A row of a CSV, mostly."""
        fields = self._at.choice(self.requests)
        cells = [str(fields.get(name, "")) for name in COLUMNS]
        for _ in range(self._at.randrange(3)):
            cells[self._at.randrange(len(cells))] = self._cell()
        if self._at.random() < 0.1:
            cells.pop(self._at.randrange(len(cells)))
        elif self._at.random() < 0.1:
            cells.insert(self._at.randrange(len(cells)), self._cell())
        line = csv_row(cells, separator) if self._at.random() < 0.7 else separator.join(cells)
        encoded = line.encode(errors="surrogatepass")
        return encoded if self._at.random() < 0.4 else self.torn(encoded)

    def torn(self, line: bytes) -> bytes:
        """`line` with bytes in place of others, up to four times."""
        for _ in range(self._at.randint(1, 4)):
            start = self._at.randrange(len(line) + 1)
            end = min(len(line), start + self._at.choice((0, 0, 1, 2, 10, 1000)))
            line = line[:start] + self._at.choice(self._tears)(self, line) + line[end:]
        return line

    def _json(self, fields: dict[str, Any]) -> bytes:
        fields = {name: value for name, value in fields.items() if isinstance(name, str)}
        for _ in range(self._at.randint(1, 3)):
            name = self._at.choice(list(fields) or ["key_id"])
            kind = self._at.random()
            if kind < 0.15:
                fields.pop(name, None)
            elif kind < 0.25:
                fields[
                    self._at.choice(("", name.upper(), name + " ", "\0", "\ud800", FULL_KEY))
                ] = 1
            else:
                fields[name] = self._value()
        text = json.dumps(fields, ensure_ascii=self._at.random() < 0.5)
        if self._at.random() < 0.1:  # a name twice
            text = f'{text[:-1]}, "{self._at.choice(list(fields) or [""])}": "again"}}'
        if self._at.random() < _DEEP:
            depth = self._at.choice((50, 500, 5000, 100_000))
            text = f'{text[:-1]}, "deep": {"[" * depth}{"]" * depth}}}'
        return text.encode(errors="surrogatepass").replace(b"\n", b" ")

    def _value(self) -> Any:
        if self._at.random() < _HUGE:
            return self._at.choice(("x", "é", "%41", "/a", '"', "\\", "[", "\0")) * 100_000
        return self._at.choice(ODD_VALUES)

    def _cell(self) -> str:
        value = self._value()
        return value if isinstance(value, str) else json.dumps(value)

    _tears: tuple[Callable[[Mutator, bytes], bytes], ...] = (
        lambda self, _: b"",
        lambda self, _: self._at.choice(TOKENS),
        lambda self, _: self._at.choice(TOKENS),
        lambda self, _: self._at.randbytes(self._at.randint(1, 8)),
        lambda self, line: line[: self._at.randrange(len(line) + 1)][-200:],
    )


def csv_row(cells: list[str], separator: str) -> str:
    """`cells` as one row, quoted where that is needed."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="").writerow(cells)
    return text.getvalue()


def not_blank(content: bytes) -> Iterator[bytes]:
    """The lines of `content` that a log would count."""
    return (line for line in content.split(b"\n") if line.strip(b" \t\r\n"))
