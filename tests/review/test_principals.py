"""A role's theft is named as a long-lived key's is: its owner, its runbook, its sessions."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from keywatch.lake import Lake
from keywatch.lake.weeks import week_window
from keywatch.review import making
from tests.load.test_principals import ROLE, record, session_of
from tests.test_pipeline import NO_REPLAY, key, lake_of

WEEK = week_window("2026-W39")
TOR_EXIT = "185.220.101.1"
STOLEN = "ASIAQ3WSTOLEN0000001"
IDENTITY = session_of("etl", "nightly", ROLE)


def call(moment: datetime, session: str, **fields: Any) -> dict[str, Any]:
    """A call of the role's; its id is the moment."""
    at = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return record(0, session, IDENTITY, eventTime=at, eventID=at, **fields)


def role_world() -> list[dict[str, Any]]:
    """Daily use, one session of which goes on at a Tor exit; and a service that calls for it."""
    noon = datetime.combine(date(2026, 8, 1), datetime.min.time()) + timedelta(hours=12)
    days = [noon + timedelta(days=n) for n in range(57)]
    calls = [call(day, f"ASIAQ3WR{n:012}") for n, day in enumerate(days)]
    stolen_on = datetime(2026, 9, 24, 8)
    calls += [call(stolen_on, STOLEN)]
    calls += [
        call(stolen_on + timedelta(minutes=n), STOLEN, sourceIPAddress=TOR_EXIT,
             userAgent="aws-cli/2.1", eventName=name, eventSource="iam.amazonaws.com")
        for n, name in enumerate(["CreateUser", "CreateAccessKey", "ListUsers"], start=1)
    ]  # fmt: skip
    athena = {"sourceIPAddress": "10.9.9.9", "userAgent": "athena.amazonaws.com",
              "userIdentity": IDENTITY | {"accessKeyId": "ASIAQ3WATHENA0000001",
                                          "invokedBy": "athena.amazonaws.com"}}  # fmt: skip
    return [*calls, call(datetime(2026, 9, 22, 3), "ASIAQ3WATHENA0000001", **athena)]


def test_a_roles_theft_has_its_owner_and_its_runbook(tmp_path: Path) -> None:
    inventory = [key(ROLE, key=ROLE, name="nightly etl", owner="team-data", scopes=["s3:*"])]
    with Lake.open(lake_of(tmp_path, role_world(), inventory)) as lake, lake.reading():
        answer, scored = making.make_review(lake, WEEK, NO_REPLAY)
        with scored.tables(lake):
            of_service = (
                "SELECT detector FROM scored_evidence "
                "WHERE prefix = 'athena.amazonaws.com' AND family IN ('origin', 'client')"
            )
            assert lake.rows(of_service) == []
        by_service = "SELECT count(*) FROM lake.activity WHERE address = 'athena.amazonaws.com'"
        assert lake.value(by_service) == 1
    (case,) = answer.cases
    assert (case.key_id, case.name, case.owner, case.action) == (
        ROLE, "nightly etl", "team-data", "revoke",
    )  # fmt: skip
    assert case.sessions == (STOLEN,)
    assert "aws iam put-role-policy --role-name etl " in " ".join(case.steps)
    told = {one.detector: one.actual for one in case.evidence}
    assert told["session_elsewhere"].startswith(f"session {STOLEN} at 185.220.101.0/24 (")
    assert [one.network for one in answer.new_networks] == ["AS60729"]
