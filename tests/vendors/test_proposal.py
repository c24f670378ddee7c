"""A source proposed from a sample: it is written, it is in order, and it reads the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keywatch.errors import InputError, UsageError
from keywatch.text.secrets import Redactor
from keywatch.vendors import detect_source, find_files
from keywatch.vendors.checking import check_vendor, folders_named
from keywatch.vendors.proposal import Proposal, proposed, write_proposal
from tests.command import keywatch
from tests.conftest import as_csv, as_json_lines, event

SECRET = "Zk8dQ2mW5xT1vB7nL4pR9sY3"
ROWS = [
    {
        "ts": f"2026-09-30 10:00:{n:02}", "Client IP": "81.2.69.144", "verb": "get",
        "uri": f"/v1/checks/{n}?token={SECRET}", "client.id": "key_1", "status": 200,
    }
    for n in range(12)
]  # fmt: skip
NESTED = [
    {
        "at": 1790000000 + n, "source": {"ip": "81.2.69.144"}, "action": "a.b",
        "auth": [{"x": 1}], "headers": {"authorization": f"Bearer {SECRET}"}, "odd \"name\"": "x",
    }
    for n in range(12)
]  # fmt: skip


def proposal_of(folder: Path, content: bytes, name: str = "acme") -> Proposal:
    sample = folder / "sample.log"
    sample.write_bytes(content)
    (file,) = find_files([str(sample)])
    return proposed(file, name, Redactor(b"x" * 32), None)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (as_json_lines(ROWS), "json"),
        (json.dumps({"data": ROWS}).encode(), "json"),
        (as_csv(ROWS), "csv"),
        (as_json_lines(NESTED), "json"),
        (b"".join(b'time="2026-09-30T10:00:00Z" ip=::1 uri="/v1/x y" user=ana\n' for _ in "abc"),
         "logfmt"),
    ],
)  # fmt: skip
def test_what_is_written_is_in_order_and_reads_the_sample(
    content: bytes, form: str, tmp_path: Path
) -> None:
    proposal = proposal_of(tmp_path, content)
    assert proposal.source.forms == (form,)
    assert (1 <= len(proposal.events) <= 10, proposal.rejects) == (True, ())
    home = write_proposal(proposal, tmp_path)
    written = "".join(file.read_text() for file in home.rglob("*.toml"))
    assert SECRET not in written
    folders_named([home])
    assert check_vendor(home) == []
    (file,) = find_files([str(tmp_path / "sample.log")])
    found = detect_source(file)
    assert found is not None
    assert found.name == "acme"


def test_the_fields_are_named(tmp_path: Path) -> None:
    assert proposal_of(tmp_path, as_json_lines(ROWS)).fields == {
        "time": "ts", "key_id": "client.id", "address": "Client IP", "method": "verb",
        "path": "uri", "status": "status",
    }  # fmt: skip
    nested = proposal_of(tmp_path, as_json_lines(NESTED))
    assert nested.fields == {
        "time": "at", "key": "headers.authorization", "key_id": "headers.authorization",
        "address": "source.ip", "endpoint": "action",
    }  # fmt: skip
    assert nested.events[0]["key_id"] == "Zk8dQ2…9sY3"


@pytest.mark.parametrize(
    ("rows", "name", "error", "words"),
    [
        ([event()], "acme", InputError, "is read as pulsely already"),
        ([{"time": 1790000000, "a": "b"}], "acme", InputError,
         "looks like address and path or endpoint and key_id or key; it has time, a"),
        (ROWS, "pulsely", UsageError, "there is a vendor or source 'pulsely' already"),
        (ROWS, "../x", UsageError, "is no vendor's name"),
    ],
)  # fmt: skip
def test_what_cannot_be_proposed_is_told(
    rows: list[dict[str, Any]], name: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        proposal_of(tmp_path, as_json_lines(rows), name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    proposal = proposal_of(tmp_path, as_json_lines(ROWS))
    write_proposal(proposal, tmp_path)
    with pytest.raises(UsageError, match="already exists"):
        write_proposal(proposal, tmp_path)


def test_the_command_shows_ten_rows_and_writes_what_check_passes(tmp_path: Path) -> None:
    (tmp_path / "Acme API.jsonl").write_bytes(as_json_lines(ROWS))
    ran = keywatch("sources", "new", "Acme API.jsonl", "--output", "own", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("GET /v1/checks/{id}") == 10
    assert "The times have no offset: UTC is assumed." in ran.out
    assert SECRET not in ran.out
    checked = keywatch("sources", "check", "own", cwd=tmp_path)
    assert (checked.code, checked.out) == (0, "1 vendor in order\n")


def test_a_second_vendor_of_a_folder_in_the_settings_is_known_at_once(tmp_path: Path) -> None:
    (tmp_path / "acme.jsonl").write_bytes(as_json_lines(ROWS))
    (tmp_path / "nested.jsonl").write_bytes(as_json_lines(NESTED))
    first = keywatch("sources", "new", "acme.jsonl", "--output", "own", cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    (tmp_path / "keywatch.toml").write_text('[content]\nfolders = ["own"]\n', encoding="utf-8")
    second = keywatch("sources", "new", "nested.jsonl", "--output", "own", cwd=tmp_path)
    assert (second.code, second.err) == (0, "")
    assert second.out.count("To load such logs, name the folder in keywatch.toml:") == 1
