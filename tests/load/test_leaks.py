"""Reports of leaked keys: recognised, matched to keys, and never a secret kept."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime

import pytest

from keywatch.errors import InputError, UsageError
from keywatch.lake.weeks import week_window
from keywatch.load import late
from keywatch.load.inventory import import_keys, insert_keys
from keywatch.load.leaks import LeakedKey, LeakReport, import_leaks
from keywatch.report.key_list import render_leaks
from keywatch.text.secrets import Redactor
from tests.conftest import Loading, event

FULL = "ply_live_prod_" + "4f8a2c0000000000009e1d"
TOKEN = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
ACCESS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"


def message(*found: tuple[str, str]) -> str:
    return json.dumps([{"token": token, "type": "t", "url": url} for token, url in found])


def take(quick: Loading, text: str, *mapping: str) -> LeakReport:
    return import_leaks(quick.lake, quick.write(text.encode(), "leaks"), mapping)


def test_a_find_is_the_key_with_its_hash_its_id_or_the_hash_that_the_vendor_logs(
    quick: Loading,
) -> None:
    hashed = base64.b64encode(hashlib.sha256(TOKEN.encode()).digest()).decode()
    masked = Redactor(quick.lake.secret).mask_key(FULL)
    insert_keys(
        quick.lake,
        [
            {"key_id": "key_1", "key": masked, "name": "board", "owner": "team-a"},
            {"key_id": hashed},
            {"key_id": ACCESS_KEY, "revoked_at": datetime(2026, 1, 1)},
        ],
    )
    text = message(
        (FULL, f"https://example.com/{FULL}"), (TOKEN, "b"), (f"{ACCESS_KEY}:x", "c"), ("pa55", "d")
    )
    report = take(quick, text)
    assert (report.finds, report.new, report.unknown) == (4, 4, 1)
    assert {*report.keys} == {
        LeakedKey("key_1", "board", "team-a", True),
        LeakedKey(hashed, None, None, True),
        LeakedKey(ACCESS_KEY, None, None, False),
    }
    kept = str(quick.lake.rows("FROM lake.leaked_keys"))
    assert all(secret[12:] not in kept for secret in (FULL, TOKEN))
    assert "pa55" not in kept
    assert take(quick, text).new == 0
    told = render_leaks(report)
    assert "  key_1 (board, team-a): in force: revoke it" in told
    assert f"  {ACCESS_KEY}: revoked or expired" in told
    assert "  1 finding matches no key in the inventory or the log; matched again" in told


def test_a_key_that_only_the_log_knows_and_a_find_that_waits_for_an_inventory(
    quick: Loading,
) -> None:
    quick.take([event(key_id="key_1", key=FULL)])
    assert [one.key_id for one in take(quick, message((FULL, "a"))).keys] == ["key_1"]
    other = FULL.replace("4f8a", "aaaa")
    assert take(quick, message((other, "a"))).unknown == 1
    shown = "ply_live_prod_aaaa2c****9e1d"
    row = {
        "key_id": "key_2", "key": shown, "name": "n", "environment": "prod", "scopes": [],
        "created_at": "2026-01-01",
    }  # fmt: skip
    import_keys(quick.lake, quick.write([row], "keys.jsonl"))
    assert [one.key_id for one in take(quick, message((other, "a"))).keys] == ["key_2"]


def test_keys_in_force_are_named_first() -> None:
    ended = [LeakedKey(f"old_{n}", None, None, False) for n in range(3)]
    alive = [LeakedKey(f"key_{n}", None, None, True) for n in range(21)]
    lines = render_leaks(LeakReport("gitleaks", 24, 0, (*ended, *alive), 0)).splitlines()
    assert lines[1] == "  key_0: in force: revoke it"
    assert lines[-1] == "  and 4 more keys, 1 in force (keywatch keys list)"


def test_the_feed_looks_at_a_new_find_without_a_new_line(quick: Loading) -> None:
    quick.take([event(key_id="key_1", timestamp="2026-09-30T10:00:00Z")])
    quick.lake.execute("DELETE FROM lake.review_queue")
    for finds in ([], [("x", "a")], [("x", "a"), ("y", "b")]):
        take(quick, message(*finds))
        waiting = [one.window for one in late.queued(quick.lake, 4)]
        assert waiting == ([week_window("2026-W40")] if finds else [])


def test_a_key_within_a_line_is_found(quick: Loading) -> None:
    insert_keys(quick.lake, [{"key_id": "k", "key": Redactor(quick.lake.secret).mask_key(FULL)}])
    report = take(quick, message((f"curl -H 'Authorization: {FULL}'", "a")))
    assert [one.key_id for one in report.keys] == ["k"]


def test_the_time_and_the_place_are_kept_as_a_log_s(quick: Loading) -> None:
    text = "what;seen;where\nkey_1;2026-09-30 07:05:14 +0000 UTC;https://u:S3cr3t@h/x\n"
    take(quick, text, "key_id=what", "found_at=seen", "location=where")
    ((found_at, location, source),) = quick.lake.rows(
        "SELECT found_at, location, source FROM lake.leaked_keys"
    )
    assert found_at == datetime(2026, 9, 30, 7, 5, 14)
    assert "S3cr3t" not in location
    assert source == "another scanner"
    with pytest.raises(InputError, match=r"line 2: found_at is no time \(key_1\)"):
        take(quick, text, "key_id=what", "found_at=what")


@pytest.mark.parametrize(
    ("text", "mapping", "error", "said"),
    [
        ('[{"a": 1}]', [], InputError, "line 1: not in a form known .*TruffleHog.*it has a"),
        (message(("", "a")), [], InputError, "without secrets, so no key can be identified"),
        ("a\n1\n", ["location=a"], UsageError, "--map lacks key_id"),
    ],
)
def test_a_report_that_says_nothing_of_a_key_is_told_in_words(
    text: str, mapping: list[str], error: type[Exception], said: str, quick: Loading
) -> None:
    with pytest.raises(error, match=said):
        take(quick, text, *mapping)
    assert quick.lake.rows("FROM lake.leaked_keys") == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("[]\n", "empty report"),
        ('{"id": "a", "type": "path_scan", "total_incidents": 0}', "GitGuardian (ggshield)"),
        (
            '{"runs": [{"tool": {"driver": {"name": "gitleaks"}}, "results": []}]}',
            "gitleaks (SARIF)",
        ),
    ],
)
def test_a_report_without_findings_is_fine(text: str, title: str, quick: Loading) -> None:
    report = take(quick, text)
    assert report == LeakReport(title, 0, 0, (), 0)
    assert render_leaks(report) == f"{title}: no findings"


@pytest.mark.parametrize(
    ("seen", "found_at"),
    [
        ("Mon Jul 5 12:54:43 2021 +0530", datetime(2021, 7, 5, 7, 24, 43)),
        ("2022-06-16 10:17:40 -0700 -0700", datetime(2022, 6, 16, 17, 17, 40)),
        ("2022-06-16 10:17:40 +0200 CEST", datetime(2022, 6, 16, 8, 17, 40)),
    ],
)
def test_a_time_is_read_as_scanners_write_it(seen: str, found_at: datetime, quick: Loading) -> None:
    take(quick, json.dumps({"id": "k", "seen": seen}), "key_id=id", "found_at=seen")
    assert quick.lake.value("SELECT found_at FROM lake.leaked_keys") == found_at


def test_a_report_of_an_older_trufflehog_among_its_log_has_secrets_in_base64(
    quick: Loading,
) -> None:
    insert_keys(quick.lake, [{"key_id": ACCESS_KEY}])
    find = {
        "SourceMetadata": {"Data": {"Git": {"file": "keys", "line": 4, "commit": "fbc14303"}}},
        "DetectorName": "AWS",
        "Raw": base64.b64encode(ACCESS_KEY.encode()).decode(),
    }
    report = take(quick, '{"level": "info-0", "msg": "running"}\n' + json.dumps(find))
    assert ([one.key_id for one in report.keys], report.finds) == ([ACCESS_KEY], 1)
