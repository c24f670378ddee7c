"""The list of keys: what each is, and whether it is in use; and a leaked key's case."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from keywatch.lake import Lake
from keywatch.lake.weeks import week_window
from keywatch.load.inventory import import_keys, insert_keys
from keywatch.load.leaks import import_leaks
from keywatch.model import KeyOrder
from keywatch.report.key_list import key_document, render_keys
from keywatch.review import making
from keywatch.review.key_list import ListedKey, list_keys
from tests.conftest import Loading, event
from tests.load.test_principals import record
from tests.test_pipeline import NO_REPLAY, lake_of

NOW = datetime(2026, 10, 8)


@pytest.fixture
def world(quick: Loading) -> Lake:
    """A key of each state; key_1 reads checks, and key_6 is of the log only."""
    calls = [
        event(key_id=key_id, timestamp=f"2026-10-0{day}T10:00:00Z", endpoint="/v1/checks/1")
        for key_id in ("key_1", "key_3", "key_6")
        for day in (1, 2)
    ]
    quick.take([{**one, "request_id": f"r{n}"} for n, one in enumerate(calls)])
    scopes = ["read:checks", "write:checks", "read:*"]
    same: dict[str, Any] = {"owner": "team-a", "created_at": datetime(2026, 8, 1)}
    insert_keys(
        quick.lake,
        [
            {"key_id": "key_1", "name": "board\x1b[31m", "scopes": scopes, **same},
            {"key_id": "key_2", **same},
            {"key_id": "key_3", "revoked_at": datetime(2026, 10, 3), **same},
            {"key_id": "key_4", "expires_at": datetime(2026, 10, 8), "scopes": [], **same},
            {"key_id": "key_5", "created_at": datetime(2026, 1, 1)},
        ],
    )
    quick.lake.execute("INSERT INTO lake.unlisted_keys VALUES ('key_5', TIMESTAMP '2026-10-01')")
    leaks = quick.write(b'[{"id": "key_2"}]', "leaks.json")
    import_leaks(quick.lake, leaks, ["key_id=id"])
    return quick.lake


def listed(lake: Lake, sort: KeyOrder = "key") -> list[ListedKey]:
    return list_keys(lake, NO_REPLAY, sort, NOW)


def test_each_key_has_its_state_its_use_and_its_rotation(world: Lake) -> None:
    keys = listed(world)
    assert [(one.key_id, one.state, one.requests, one.rotation_in_days) for one in keys] == [
        ("key_1", "in force", 2, 22),
        ("key_2", "never used", 0, 22),
        ("key_3", "revoked", 2, None),
        ("key_4", "expired", 0, None),
        ("key_5", "unlisted", 0, -190),
        ("key_6", "not in inventory", 2, None),
    ]
    assert keys[0].last_use == datetime(2026, 10, 2, 10)
    assert keys[0].networks == 1
    assert (keys[0].scopes_used, keys[1].scopes, keys[3].scopes_used) == (2, None, None)
    assert [one.key_id for one in keys if one.leaked] == ["key_2"]


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("rotation", "key_5"), ("key", "key_1"), ("name", "key_1"), ("owner", "key_1"),
        ("created", "key_5"), ("last-use", "key_1"), ("requests", "key_1"), ("state", "key_4"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_sorted_last(sort: KeyOrder, first: str, world: Lake) -> None:
    assert sort in get_args(KeyOrder)
    keys = listed(world, sort)
    assert keys[0].key_id == first
    assert len(keys) == 6


def test_text_and_json_hold_the_same_keys_and_no_control_character(world: Lake) -> None:
    keys = listed(world)
    text = render_keys(keys)
    assert "\x1b" not in text
    head, first, second, *_ = text.splitlines()
    assert head.split()[:2] == ["key", "name"]
    assert "in 22 days" in first
    assert "2 of 3" in first
    assert second.endswith("never used, leaked")
    document = key_document(keys)
    json.dumps(document)
    assert [one["key_id"] for one in document["keys"]] == [one.key_id for one in keys]
    assert document["keys"][0]["last_use"] == "2026-10-02T10:00:00Z"


def test_a_lake_without_keys_says_what_to_do(quick: Loading) -> None:
    assert render_keys(listed(quick.lake)).startswith("No keys: ")


def test_a_leaked_access_key_is_revoked_with_its_users_name_and_its_consumers(
    tmp_path: Path,
) -> None:
    """The list of access keys and the scanner's report reach the case of the right key."""
    key_id = "AKIA" + "Q3WEXAMPLE000001"
    noon = datetime.combine(date(2026, 9, 1), datetime.min.time()) + timedelta(hours=12)
    moments = [noon + timedelta(days=n) for n in range(27)]
    user = {"type": "IAMUser", "arn": "arn:aws:iam::210987654321:user/deploy"}
    calls = [
        record(0, key_id, user, eventTime=f"{at:%Y-%m-%dT%H:%M:%SZ}", eventID=f"{at}")
        for at in moments
    ]
    access = {"UserName": "deploy", "AccessKeyId": key_id, "Status": "Active",
              "CreateDate": "2026-08-20T00:00:00Z"}  # fmt: skip
    keys, leaks = tmp_path / "keys.json", tmp_path / "leaks.json"
    keys.write_text(json.dumps({"AccessKeyMetadata": [access]}), encoding="utf-8")
    find = {"token": key_id, "type": "aws", "url": "https://example.com/a?<script>"}
    leaks.write_text(json.dumps([find]), encoding="utf-8")
    with Lake.open(lake_of(tmp_path, calls, [])) as lake:
        import_keys(lake, keys)
        before, _ = making.make_review(lake, week_window("2026-W39"), NO_REPLAY)
        import_leaks(lake, leaks)
        answer, scored = making.make_review(lake, week_window("2026-W39"), NO_REPLAY)
        assert scored.suspicious_visits(lake) == []
    assert [one.action for one in before.cases if one.key_id == key_id] in ([], ["none"])
    assert before.run.id != answer.run.id
    (case,) = (one for one in answer.cases if one.key_id == key_id)
    assert (case.name, case.owner, case.action) == ("deploy", "user/deploy", "revoke")
    (fact,) = (one for one in case.evidence if one.detector == "leaked_key")
    assert (fact.bits, fact.action) == (0.0, "revoke")
    assert answer.cases[0] == case
    assert "at https://example.com/a?<script>; 7 requests from 1 prefix" in fact.actual
    assert case.impact is not None
    assert case.impact.consumers_total == 1
    steps = " ".join(case.steps)
    assert f"--access-key-id {key_id} --user-name deploy --status Inactive" in steps
    assert "Boto3/1" in steps
