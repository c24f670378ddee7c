"""Short-lived credentials and whose they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keywatch.text.secrets import Redactor
from tests.conftest import Loading, as_json_lines

ACCOUNT = "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/etl"
SSO = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0a1b"
USER = f"arn:aws:iam::{ACCOUNT}:user/ann"


def session_of(role: str, name: str, issuer: str | None = None) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}",
    }
    if issuer:
        identity["sessionContext"] = {"sessionIssuer": {"type": "Role", "arn": issuer}}
    return identity


def record(n: int, key_id: str | None, identity: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "eventTime": f"2026-09-30T10:{n:02}:00Z", "eventID": f"id-{n}",
        "eventSource": "s3.amazonaws.com", "eventName": "GetObject", "awsRegion": "eu-west-1",
        "sourceIPAddress": "52.16.10.20", "userAgent": "Boto3/1.34.0",
        "userIdentity": identity | ({"accessKeyId": key_id} if key_id else {}),
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("key_id", "identity", "principal"),
    [
        ("ASIAQ3WR000000000001", session_of("etl", "nightly", ROLE), ROLE),
        ("ASIAQ3WR000000000001", session_of("etl", "nightly"), f"arn:aws:iam::{ACCOUNT}:role/etl"),
        # People, each by the name that they sign in under.
        ("ASIAQ3WR000000000001", session_of("AWSReservedSSO_Admin_0a1b", "ann", SSO), f"{SSO}:ann"),
        ("ASIAQ3WR000000000001", session_of("etl", "ann@example.com", ROLE),
         f"{ROLE}:ann@example.com"),
        ("ASIAQ3WR000000000001", {"type": "IAMUser", "arn": USER}, USER),
        ("ASIAQ3WR000000000001", {"type": "Root", "arn": f"arn:aws:iam::{ACCOUNT}:root"},
         f"arn:aws:iam::{ACCOUNT}:root"),
        ("ASIAQ3WR000000000001", {"type": "IAMUser"}, None),
        # A long-lived key stands for itself.
        ("AKIAQ3WEXAMPLE000001", {"type": "IAMUser", "arn": USER}, None),
    ],
)  # fmt: skip
def test_a_session_is_its_principals(
    key_id: str, identity: dict[str, Any], principal: str | None, quick: Loading
) -> None:
    quick.take([record(1, key_id, identity)])
    assert quick.lake.rows("SELECT key_id, principal FROM lake.events") == [(key_id, principal)]


def test_roll_ups_are_of_the_principal_and_sessions_are_kept(quick: Loading) -> None:
    role, key = session_of("etl", "nightly", ROLE), {"type": "IAMUser", "arn": USER}
    sessions = [record(n, f"ASIAQ3WR{n // 2:012}", role) for n in range(4)]
    elsewhere = record(4, f"ASIAQ3WR{1:012}", role, sourceIPAddress="151.244.107.20")
    quick.take([*sessions, elsewhere, record(5, "AKIAQ3WEXAMPLE000001", key)])
    for table in ("activity", "activity_hours", "transitions"):
        assert quick.lake.rows(
            f"SELECT key_id, sum(events) FROM lake.{table} GROUP BY 1 ORDER BY 1"
        ) == [("AKIAQ3WEXAMPLE000001", 1), (ROLE, 5)]
    assert quick.lake.rows(
        "SELECT key_id, session, address, events, last_ts - first_ts FROM lake.sessions "
        "ORDER BY session, address DESC"
    ) == [
        (ROLE, f"ASIAQ3WR{0:012}", "52.16.10.20", 2, timedelta(minutes=1)),
        (ROLE, f"ASIAQ3WR{1:012}", "52.16.10.20", 2, timedelta(minutes=1)),
        (ROLE, f"ASIAQ3WR{1:012}", "151.244.107.20", 1, timedelta(0)),
    ]
    # Its order of calls is one, whichever session each was made in.
    assert (
        quick.lake.value(
            "SELECT sum(events) FROM lake.transitions WHERE previous = '' AND key_id = $role",
            role=ROLE,
        )
        == 2
    )


def test_a_principal_in_a_log_is_hostile_too(quick: Loading) -> None:
    full = "ply_live_prod_" + "4f8a2c9e1d" * 4
    identity = {"type": "IAMUser", "arn": f"arn:aws:iam::1:user/{full}"}
    quick.take(as_json_lines([record(1, "ASIAQ3WR000000000001", identity)]))
    stored = quick.lake.rows("SELECT principal, exposed FROM lake.events")[0]
    assert full not in stored[0]
    assert stored[1]
    assert full not in str(quick.lake.rows("FROM lake.activity"))


def test_long_principals_stay_distinct(quick: Loading) -> None:
    path = "p" * (200 - len(f"arn:aws:iam::{ACCOUNT}:role/"))
    fits = f"arn:aws:iam::{ACCOUNT}:role/{path}"
    roles = [fits, *(f"{fits}/{n}" for n in range(3)), f"{fits}/0"]
    quick.take(
        [
            record(n, f"ASIAQ3WR00000000000{n}", session_of("etl", "nightly", role))
            for n, role in enumerate(roles)
        ]
    )
    stored = [text for (text,) in quick.lake.rows("SELECT principal FROM lake.events ORDER BY ts")]
    assert stored[0] == fits
    redactor = Redactor(quick.lake.secret)
    assert stored[1:] == [f"{fits[:183]}#{redactor.key_hash(role)}" for role in roles[1:]]
    assert {len(text) for text in stored} == {200}
    keys = quick.lake.rows("SELECT DISTINCT key_id FROM lake.activity")
    assert {key_id for (key_id,) in keys} == set(stored)
    assert len(set(stored)) == 4


def test_a_long_key_that_is_its_own_principal_has_none(quick: Loading) -> None:
    who = "s" * 230
    actor = {"user": {"uid": who, "credential_uid": who}, "session": {"uid": "s", "issuer": who}}
    line = {
        "class_uid": 6003, "activity_id": 2, "time": 1790762400000, "metadata": {"uid": "1"},
        "api": {"operation": "Read", "service": {"name": "x"}}, "actor": actor,
        "src_endpoint": {"ip": "52.16.10.20"},
    }  # fmt: skip
    quick.take([line])
    assert quick.lake.rows("SELECT key_id, principal FROM lake.events") == [(who[:200], None)]
