"""Secrets planted in every kind and place, and looked for in every byte that Keywatch writes.

Each holds a mark and its number, so that a find says which it was. The mark is looked for in
whatever a file hides: compression, pages and encodings of Parquet, percent signs, base64.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import sqlite3
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import duckdb

from tests.conftest import ROOT, as_json_lines, event

MARK = "Qz7Nq9Kx"
LOGGED = event()["key_id"]
"""The key of most lines; the inventory calls it planted, so its case is the first of a review."""
LAKE = Path("demo/lake")
"""Into which the commands load, below the folder in which they write."""
_ALNUM = string.ascii_letters + string.digits
_MARKS_IN_BASE64 = [
    base64.b64encode(b"\0" * before + MARK.encode())[[0, 2, 3][before] : (before + 8) * 8 // 6]
    for before in range(3)
]
FOUND = re.compile(
    rb"%s([0-9]{4})|%s" % (MARK.encode(), b"|".join(map(re.escape, _MARKS_IN_BASE64)))
)


def random_text(length: int) -> str:
    return "".join(random.choices(_ALNUM, k=length))


def marked(number: int, length: int) -> str:
    """Letters and digits with the mark where no mask shows them."""
    return f"{random_text(6)}{MARK}{number:04d}{random_text(length - 18)}"


def percent(text: str, times: int) -> str:
    for nth in range(times):
        text = quote(text, safe="") if nth else "".join(f"%{byte:02X}" for byte in text.encode())
    return text


def in_base64(text: str, before: str, urlsafe: bool) -> str:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    return encode(f"{before}{text}".encode()).decode()


def jwt(number: int) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"sub": random_text(9)}).encode()).decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{payload.rstrip('=')}.{marked(number, 43)}"


def full_key(number: int) -> str:
    return f"ply_live_prod_{marked(number, 32)}"


TOKENS: dict[str, Callable[[int], str]] = {
    "pulsely key": full_key,
    "jwt": jwt,
    "github": lambda n: "ghp_" + marked(n, 36),
    "github fine-grained": lambda n: "github_pat_" + marked(n, 82),
    "gitlab": lambda n: "glpat-" + marked(n, 20),
    "gitlab application": lambda n: "gloas-" + marked(n, 64),
    "github installation": lambda n: f"ghs_1234567_{jwt(n)}",
    "stripe": lambda n: "sk_live_" + marked(n, 24),
    "webhook secret": lambda n: "whsec_" + marked(n, 32),
    "slack": lambda n: f"xoxb-123456789012-{marked(n, 24)}",
    "google": lambda n: "AIza" + marked(n, 35),
    "google auth key": lambda n: "AQ.Ab" + marked(n, 48),
    "groq": lambda n: "gsk_" + marked(n, 52),
    "openai": lambda n: "sk-proj-" + marked(n, 48),
    "npm": lambda n: "npm_" + marked(n, 36),
    "sendgrid": lambda n: f"SG.{random_text(22)}.{marked(n, 43)}",
    "vault": lambda n: "hvs." + marked(n, 24),
    "aws secret": lambda n: marked(n, 40),
    "aws session": lambda n: "IQoJb3JpZ2lu" + marked(n, 200),
}
"""Known by their own form: they may stand anywhere."""

PLACES: dict[str, str] = {
    **{f"{name}=": f"/v1/x?a=1&{name}={{}}&b=2" for name in (
        "client_secret", "refresh_token", "session", "jwt", "token[]", "%61pi_key", "x-api-key",
        "apiToken", "pwd", "key", "X-Amz-Signature", "user[password]", "code",
    )},
    "#access_token=": "/cb#access_token={}&state=1",
    ";token=": "/v1/x;token={};v=2/y",
    "user:…@host": "https://ana:{}@example.com/v1/x",
    "user:…@host without a scheme": "/v1/x?remote=ana:{}@example.com",
    "JSON in a query": '/v1/x?f={{"client_secret":"{}"}}',
    "bearer in a query": "/v1/x?h=Bearer%20{}",
}  # fmt: skip
AGENT_PLACES = {
    "Bearer": "app/1 Authorization: Bearer {}",
    "Basic": "app/1 (Basic {}==)",
    "header": "sh -c curl -H 'X-Api-Key: {}'",
    "header without a space": "curl -H X-Api-Key:{}",
    "cookie": "curl -H 'Cookie: a=1; s={}'",
    "assignment": "app/1 aws_secret_access_key={}",
    "JSON": 'app/1 {{"client_secret": "{}", "n": 1}}',
    "escaped JSON": 'app/1 {{\\"apiKey\\":\\"{}\\"}}',
    "repr": "app/1 {{'db_password': '{}'}}",
}
KEY_FORMS: dict[str, Callable[[str], str]] = {
    **{f"percent-encoded {n} times": lambda key, n=n: percent(key, n) for n in range(1, 6)},  # type: ignore[misc]
    **{
        f"base64 at {len(before)}{', URL-safe' if urlsafe else ''}":
            lambda key, before=before, urlsafe=urlsafe: in_base64(key, before, urlsafe)  # type: ignore[misc]
        for before in ("", "x", "xy") for urlsafe in (False, True)
    },
    "escaped": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
}  # fmt: skip
KEY_FIELDS = ("request_id", "key_id", "ip", "key", "method", "note")
REJECTS: dict[str, Callable[[str], str]] = {
    "a line that breaks off": lambda s: f'{{"key": "{s}',
    "no JSON": lambda s: f"GET /v1/x password {s}",
    "no time": lambda s: _line(timestamp=None, key=s, user_agent=s),
    "a time that is none": lambda s: _line(timestamp=s),
    "no address": lambda s: _line(ip=None, note={"a": [s]}, endpoint=f"/v1/x?q={s}"),
    "a list": lambda s: json.dumps([s]),
}
CLOUDTRAIL: dict[str, Callable[[str], dict[str, Any]]] = {
    "sessionToken": lambda s: {"responseElements": {"credentials": {"sessionToken": s}}},
    "requestParameters": lambda s: {"requestParameters": {"password": s, "userName": "ana"}},
    "sessionToken of a reject": lambda s: {
        "eventTime": "now", "responseElements": {"credentials": {"sessionToken": s}}
    },
    "requestParameters of a reject": lambda s: {
        "eventTime": "now", "requestParameters": {"name": s, "secretString": s}
    },
}  # fmt: skip


class Planted(NamedTuple):
    """Files with secrets in them: how many, in how many ways, and what each is."""

    logs: Path
    inventory: Path
    ways: list[str]
    """By the number of the secret."""

    def another(self, way: str) -> int:
        """The number of one more secret, which is planted elsewhere."""
        self.ways.append(way)
        return len(self.ways) - 1


def _line(**fields: Any) -> str:
    return json.dumps(event(**{"request_id": random_text(20)} | fields))


def _rows(number: Callable[[str], int]) -> Iterable[str]:
    """A line of Pulsely's log for each way; `number` counts a way's secret."""
    for name, token in TOKENS.items():
        for field, text in (("endpoint", "/v1/s/{}/x"), ("user_agent", "app/1 ({})")):
            secret = token(number(f"{name} in {field}"))
            yield _line(**{field: text.format(secret)})
    for field, places in (("endpoint", PLACES), ("user_agent", AGENT_PLACES)):
        for name, text in places.items():
            secret = marked(number(f"{name} in {field}"), 24)
            yield _line(**{field: text.format(secret)})
    for name, form in KEY_FORMS.items():
        secret = form(full_key(number(f"key {name}")))
        yield _line(endpoint=f"/v1/q?x={secret}")
    for field in KEY_FIELDS:
        yield _line(**{field: full_key(number(f"key in {field}"))})
    yield _line(key=marked(number("another key in its field"), 30))
    for name, reject in REJECTS.items():
        yield reject(marked(number(f"reject: {name}"), 24))


def _records(number: Callable[[str], int]) -> Iterable[dict[str, Any]]:
    for name, fields in CLOUDTRAIL.items():
        yield {
            "eventTime": "2026-09-30T00:00:04Z", "eventID": random_text(12),
            "eventSource": "sts.amazonaws.com", "eventName": "GetSessionToken",
            "sourceIPAddress": "81.2.69.144", "userAgent": "aws-cli/2.15.30",
            "userIdentity": {"accessKeyId": "AKIAIOSFODNN7EXAMPLE"},
        } | fields(marked(number(f"CloudTrail's {name}"), 40))  # fmt: skip


def plant(folder: Path, times: int) -> Planted:
    """Logs, CloudTrail and an inventory under `folder` with each way `times` times."""
    planted = Planted(folder / "logs", folder / "keys.jsonl", [])
    logs, number = planted.logs, planted.another
    logs.mkdir(parents=True)
    lines: list[str] = []
    records: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    for nth in range(times):
        for line in _rows(number):
            lines += [line, _line()]
        records += _records(number)
        keys.append(
            {
                "key_id": f"key_{nth}" if nth else LOGGED, "honey": not nth,
                "key": full_key(number("key in the inventory")),
                "name": f"bot {full_key(number('name in the inventory'))}", "owner": "team",
                "environment": "prod", "scopes": [full_key(number("scope in the inventory"))],
                "created_at": "2026-01-01T00:00:00Z",
            }
        )  # fmt: skip
    random.shuffle(lines)
    name = full_key(number("file name"))
    (logs / f"{name}.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (logs / "trail.json").write_text(json.dumps({"Records": records}), encoding="utf-8")
    name = full_key(number("name of a file that is left out"))
    (logs / f"{name}.bin").write_bytes(b"no log")
    planted.inventory.write_bytes(as_json_lines(keys))
    return planted


def read_whole(file: Path) -> bytes:
    """The bytes of `file`, what its format hides, and both decoded."""
    content = file.read_bytes()
    if content[:4] == b"PAR1" == content[-4:]:
        for of in (f"read_parquet('{file}')", f"parquet_metadata('{file}')"):
            content += str(duckdb.sql(f"FROM {of}").fetchall()).encode()
    if content.startswith(b"SQLite format 3\0"):
        with sqlite3.connect(file) as catalogue:
            content += "\n".join(catalogue.iterdump()).encode()
        catalogue.close()
    text = content.decode(errors="replace")
    for _ in range(5):
        if "%" not in text:
            break
        text = unquote(text)
        content += text.encode(errors="replace")
    return content


def shown_in(contents: dict[str, bytes], ways: list[str]) -> list[str]:
    """What was found, as ``place: way``."""
    return sorted(
        {
            f"{name}: {ways[int(match[1])] if match[1] else 'something in base64'}"
            for name, content in contents.items()
            for match in FOUND.finditer(content)
        }
    )


def files_under(folder: Path, *, whole: bool = True) -> dict[str, bytes]:
    """What the files hold; not `whole`, while a process has them open, their bytes alone."""
    read = read_whole if whole else Path.read_bytes
    return {str(file): read(file) for file in folder.rglob("*") if file.is_file()}


def run_commands(out: Path, planted: Planted, kills: int) -> None:
    """Load, review and deliver with commands into `out`, some of them killed, beside a demo.

    What is said on the terminal counts as written, errors and their tracebacks too.
    """
    temporary = out / "tmp"
    temporary.mkdir(parents=True)
    config = out / "keywatch.toml"
    config.write_text(
        "[ingest]\nmax_reject_share = 1.0\n[review]\npower_keys = 0\nreplayed_windows = 1\n"
        f'[deliver.channels.file]\nkind = "file"\npath = "{out}/sent.jsonl"\n'
    )
    short = out / "short.toml"
    short.write_text('[ingest]\nmax_reject_share = 1.0\n[storage]\nmemory_limit = "20MB"\n')
    strict = out / "strict.toml"
    strict.write_text("[ingest]\nmax_reject_share = 0.0\n")
    said: Counter[str] = Counter()

    def start(
        *arguments: str | Path, settings: Path = config, lake: Path = out / LAKE
    ) -> subprocess.Popen[bytes]:
        said["commands"] += 1
        with (out / f"said-{said['commands']}.txt").open("wb") as terminal:
            return subprocess.Popen(
                [sys.executable, "-m", "keywatch", *map(str, arguments), "--config", settings],
                cwd=out,
                env=os.environ
                | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(temporary),
                   "KEYWATCH_LAKE": str(lake)},
                stdout=terminal,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(*arguments: str | Path, settings: Path = config) -> int:
        return start(*arguments, settings=settings).wait(timeout=900)

    assert run("demo", "--keys", "60", "--keep", out / LAKE.parent) == 0
    named = next(planted.logs.glob("*.jsonl"))
    for settings in (strict, short):
        run("ingest", named, settings=settings)
    began = time.monotonic()
    assert run("ingest", planted.logs) == 0
    takes = time.monotonic() - began
    for nth in range(kills):
        process = start("ingest", planted.logs, lake=out / f"killed-{nth}")
        try:
            process.wait(random.uniform(0.3, 1.0) * takes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
    assert run("keys", "import", planted.inventory) == 0
    for kind in ("text", "json", "html"):
        assert run("review", "--week", "2026-W40", "--format", kind) == 0
    run("deliver")
    run("doctor", "--deep")
