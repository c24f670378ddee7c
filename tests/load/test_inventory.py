"""Inventories of any form: what is known, what is not, and which list answers for a key."""

from __future__ import annotations

import io
import json
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keywatch.errors import InputError, UsageError
from keywatch.lake import Lake
from keywatch.load.inventory import import_keys, inventory_schema
from keywatch.notices import notices_to
from tests.conftest import Loading

OWN = {
    "key_id": "key_1", "key": "ply_live_prod_4f8a2c…9e1d", "name": "board", "environment": "prod",
    "scopes": ["read:checks", "write:checks"], "created_at": "2026-01-01T01:00:00+01:00",
    "owner": "team-a", "honey": True,
}  # fmt: skip
TOKEN = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
STORED = (
    "key_1", OWN["key"], "board", "team-a", "prod", OWN["scopes"], datetime(2026, 1, 1), True,
)  # fmt: skip
NAMED = "key_id, key, name, owner, environment, scopes, created_at, honey"
HEADER = "key_id;key;name;environment;scopes;created_at;owner;honey\n"
ROW = "key_1;ply_live_prod_4f8a2c…9e1d;board;prod;{};2026-01-01T00:00:00Z;team-a;TRUE\n"


def in_force(lake: Lake, columns: str = NAMED) -> list[tuple[Any, ...]]:
    return lake.rows(f"SELECT {columns} FROM inventory_in_force() ORDER BY key_id")


def take(quick: Loading, text: str, *mapping: str) -> tuple[int, int]:
    return import_keys(quick.lake, quick.write(text.encode(), "keys"), mapping)


def access_keys(*keys: tuple[str, str, str, str]) -> str:
    names = ("UserName", "AccessKeyId", "Status", "CreateDate")
    listed = [dict(zip(names, key, strict=True)) for key in keys]
    return json.dumps({"AccessKeyMetadata": listed}, indent=1)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OWN),
        json.dumps([OWN], indent=2),
        HEADER + ROW.format("read:checks write:checks"),
        HEADER + ROW.format("read:checks, write:checks"),
        (HEADER + ROW).replace(";", "\t").format("read:checks;write:checks"),
        (HEADER + ROW).replace(";", ",").format('"[""read:checks"", ""write:checks""]"'),
        HEADER.title() + ROW.format("read:checks write:checks"),
        (HEADER + ROW).replace("\n", "\r").format("read:checks write:checks"),
    ],
    ids=["lines", "array", "spaces", "commas", "tabs", "json scopes", "other case", "old Mac"],
)
def test_one_key_in_each_of_our_forms(text: str, quick: Loading) -> None:
    assert take(quick, text) == (1, 1)
    assert in_force(quick.lake) == [STORED]
    assert take(quick, text) == (1, 0)


def test_what_is_not_known_is_null_and_no_empty_list(quick: Loading) -> None:
    unknown = dict.fromkeys(("key", "name", "environment", "scopes", "created_at"))
    rows = [{"key_id": "key_1", **unknown}, {**OWN, "key_id": "key_2", "scopes": []}]
    take(quick, "\n".join(map(json.dumps, rows)))
    assert in_force(quick.lake, "name, scopes, created_at") == [
        (None, None, None), ("board", [], datetime(2026, 1, 1)),
    ]  # fmt: skip
    take(quick, HEADER + "key_3;;;;;;;\n")
    assert in_force(quick.lake)[2] == ("key_3", None, None, None, None, None, None, None)


def test_the_schema_is_what_is_read() -> None:
    schema = inventory_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(OWN, schema)
    assert {*schema["required"]} < {*schema["properties"]}


@pytest.mark.parametrize("name", ["key", "name", "environment", "scopes", "created_at"])
def test_what_the_schema_requires_is_asked_for(name: str, quick: Loading) -> None:
    assert name in inventory_schema()["required"]
    with pytest.raises(InputError, match=rf"line 2: {name} missing; .* is null"):
        take(quick, json.dumps(OWN) + "\n" + json.dumps({**OWN, "key_id": "k", name: ""}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key_id": None}, "line 1: key_id missing"),
        ({"scopes": {"a": 1, "b": [2]}}, "not met"),
        ({"scopes": [1]}, r"line 1: scopes must be a list of strings, not \[1\]"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at is 2026-01-01T00:00:00, which has no"),
        ({"expires_at": "soon"}, "line 1: expires_at is not RFC 3339 .*, but soon"),
        ({"key_id": ["k"]}, r'line 1: key_id must be text, not \["k"\]'),
        ({"key_id": " "}, "line 1: key_id missing"),
        ({"name": True}, "line 1: name must be text, not true"),
        ({"key": {"a": 1}}, "line 1: key must be text, not "),
    ],
)
def test_a_wrong_value_is_named_with_its_line(
    fields: dict[str, Any], said: str, quick: Loading
) -> None:
    if said == "not met":
        take(quick, json.dumps({**OWN, **fields}))
        assert in_force(quick.lake, "scopes") == [(["a:1", "b:[2]"],)]
        return
    with pytest.raises(InputError, match=said):
        take(quick, json.dumps({**OWN, **fields}))
    assert in_force(quick.lake) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no keys found; keywatch keys schema"),
        (json.dumps(OWN) + "\n{", "line 2: not valid JSON: expecting property name"),
        ('{"key_id":\n"k', "line 2: not valid JSON: unterminated string$"),
        (json.dumps(OWN) + "\n3", "line 2: a JSON object is expected"),
        (json.dumps(OWN) + "\n" + json.dumps(OWN), "line 2: key_id key_1 is listed twice"),
        (HEADER + "key_1;a\n", "line 2: has 2 fields, and the header 8"),
        (
            "id,team\n1,a\n",
            "line 2: not in a form known to Keywatch .Keywatch.s own, AWS .*it has id, team",
        ),
    ],
)
def test_a_file_that_is_no_inventory_is_told_in_words(text: str, said: str, quick: Loading) -> None:
    with pytest.raises(InputError, match=said):
        take(quick, text)


def test_any_list_is_read_as_the_user_maps_it(quick: Loading) -> None:
    text = "id,who.mail,made\nk1,ana@example.com,1760000000\n"
    mapping = ("key_id=id", "owner=who.mail", "created_at=made")
    told: list[str] = []
    assert take(quick, text, *mapping) == (1, 1)
    assert in_force(quick.lake, "key_id, owner, created_at, scopes") == [
        ("k1", "ana@example.com", datetime(2025, 10, 9, 8, 53, 20), None)
    ]
    assert take(quick, json.dumps([{"id": {"x": "k2"}}]), "key_id=id.x") == (1, 1)
    with notices_to(told.append), pytest.raises(InputError, match="line 2: key_id missing"):
        take(quick, text, "key_id=no_such")
    assert (
        "no record has a value in no_such (--map key_id=no_such); the first has id, who" in told[0]
    )
    for wrong in (["owner=a"], ["key_id=a", "key_id=b"], ["key=a", "colour=b"]):
        with pytest.raises(UsageError, match="--map"):
            take(quick, text, *wrong)


def test_a_vendors_list_says_what_it_knows_and_leaves_the_rest(quick: Loading) -> None:
    ours = {**OWN, "key_id": "AKIA1", "owner": "team-a", "name": None}
    take(quick, json.dumps(ours))
    listed = access_keys(("deploy", "AKIA1", "Active", "2026-01-01T00:00:00Z"))
    assert take(quick, listed) == (1, 1)
    assert in_force(quick.lake, "name, owner, scopes, inventory") == [
        ("deploy", "team-a", OWN["scopes"], None)
    ]
    # Neither takes back what the other said, however often they come.
    assert take(quick, json.dumps(ours)) == (1, 0)
    assert take(quick, listed) == (1, 0)


def test_users_without_keys_are_no_keys(quick: Loading) -> None:
    one = access_keys(("ana", "AKIA1", "Active", "2026-01-01T00:00:00Z"))
    assert take(quick, access_keys() + one + access_keys()) == (1, 1)
    with pytest.raises(InputError, match="no keys found"):
        take(quick, access_keys() * 2)


def test_an_inactive_key_is_revoked_since_the_first_import_at_the_latest(quick: Loading) -> None:
    key = ("ci", "AKIA1", "Inactive", "2026-01-01T00:00:00Z")
    take(quick, access_keys(key))
    ((since,),) = in_force(quick.lake, "revoked_at")
    assert since is not None
    assert take(quick, access_keys(key)) == (1, 0)
    assert take(quick, access_keys((*key[:2], "Active", key[3]))) == (1, 1)
    assert in_force(quick.lake, "revoked_at") == [(None,)]


def test_a_list_is_whole_for_its_own_keys_only(quick: Loading) -> None:
    keys = [("u", f"AKIA{n}", "Active", "2026-01-01T00:00:00Z") for n in range(4)]
    take(quick, access_keys(*keys))
    take(quick, json.dumps(OWN))
    assert quick.lake.rows("FROM lake.unlisted_keys") == []
    take(quick, access_keys(*keys[:3]))
    assert quick.lake.rows("SELECT key_id FROM lake.unlisted_keys") == [("AKIA3",)]
    take(quick, json.dumps(OWN))
    assert quick.lake.rows("SELECT key_id FROM lake.unlisted_keys") == [("AKIA3",)]
    take(quick, access_keys(*keys))
    assert quick.lake.rows("FROM lake.unlisted_keys") == []


USED = "access_key_{0}_active,access_key_{0}_last_rotated"
REPORT = f"""user,arn,{USED.format(1)},{USED.format(2)}
ci,arn:aws:iam::123456789012:user/ci,false,2026-01-01T00:00:00+00:00,true,2026-02-01T00:00:00+00:00
new,arn:aws:iam::123456789012:user/new,true,2026-03-01T00:00:00+00:00,false,N/A
"""


def test_a_credential_report_is_about_keys_that_are_known(quick: Loading) -> None:
    with pytest.raises(
        InputError, match=r"none of its 3 keys is known; .*aws iam list-access-keys"
    ):
        take(quick, REPORT)
    take(
        quick,
        access_keys(
            ("ci", "AKIA1", "Active", "2026-01-01T00:00:00Z"),
            ("ci", "AKIA2", "Active", "2026-02-01T00:00:00Z"),
        ),
    )
    told: list[str] = []
    with notices_to(told.append):
        assert take(quick, REPORT) == (2, 1)
    assert in_force(quick.lake, "key_id, revoked_at IS NULL, owner, inventory") == [
        ("AKIA1", False, "user/ci", "aws_access_keys"),
        ("AKIA2", True, "user/ci", "aws_access_keys"),
    ]
    assert len(told) == 1
    assert ": 1 key of 3 left out; this form (AWS IAM credential report) has no key ids" in told[0]


def test_a_file_may_be_compressed(quick: Loading) -> None:
    file = quick.write([OWN], "keys.jsonl.gz")
    assert import_keys(quick.lake, file) == (1, 1)


def test_no_list_is_stopped_by_half_a_letter_and_one_that_is_no_text_is_told(
    quick: Loading,
) -> None:
    assert take(quick, json.dumps({**OWN, "key_id": "k\ud800"})) == (1, 1)
    assert in_force(quick.lake, "key_id") == [("k\ufffd",)]
    with pytest.raises(InputError, match="line 2: is not UTF-8"):
        import_keys(quick.lake, quick.write(b"key_id\n\xe9\n", "keys"))


def test_a_list_may_come_through_a_pipe(
    quick: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(OWN).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert import_keys(quick.lake, Path("-")) == (1, 1)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(text,))
    writer.start()
    assert import_keys(quick.lake, tmp_path / "pipe") == (1, 0)
    writer.join()


def test_a_file_that_is_not_there_is_told_in_words(quick: Loading, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: can't be read: no such file"):
        import_keys(quick.lake, tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="can't be read: is a folder"):
        import_keys(quick.lake, tmp_path)
