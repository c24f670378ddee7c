"""The steps, in their order, for each vendor and action."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from datetime import datetime

import pytest

from keywatch.text.safe_text import printable
from keywatch.vendors import runbook
from keywatch.vendors.runbook import KeyAtHand

PULSELY = KeyAtHand(
    key_id="key_1", where="45.153.78.0/24", requests=412, key="ply_live_prod_4f8a2c…9e1d",
    owner="team-a", environment="prod", scopes_needed=("read:checks", "read:metrics"),
    consumers=({"agent": "Grafana/10", "origin": "Hetzner, DE", "requests_per_day": 1439.5},),
)  # fmt: skip
AWS = KeyAtHand(
    key_id="AKIAIOSFODNN7EXAMPLE", where="45.153.78.0/24", requests=3,
    owner="arn:aws:iam::123456789012:user/ops/terraform",
)  # fmt: skip


def test_a_stolen_key_is_revoked_before_it_is_replaced() -> None:
    revoke, replace, switch, look, check = runbook.steps("revoke", PULSELY)
    assert revoke.startswith("Revoke ply_live_prod_4f8a2c…9e1d now, before replacing it")
    assert "environment prod) with read:checks, read:metrics, the scopes in use" in replace
    assert switch.endswith("Grafana/10 at Hetzner, DE (1,440 requests a day)")
    assert look == "Investigate the activity from 45.153.78.0/24: 412 requests"
    assert "no use since" in check


def test_an_exposed_key_is_replaced_before_it_is_revoked() -> None:
    replace, mend, revoke, move, check = runbook.steps("rotate", PULSELY)
    assert replace.startswith("Create a replacement")
    assert move == (
        "Before that, check that each consumer has moved, monthly jobs too: `keywatch keys list "
        "--sort last-use` shows when the old key was last used, `keywatch case key_1` which "
        "consumers still use it. Both keys are valid until the old one is revoked"
    )
    assert mend == (
        "Fix what exposed the old key (see the evidence), and switch the consumers to the new one: "
        "Grafana/10 at Hetzner, DE (1,440 requests a day)"
    )
    assert revoke.startswith(
        "Revoke ply_live_prod_4f8a2c…9e1d as soon as the log shows no further use"
    )
    assert check.startswith("Verify")


def test_an_exposed_key_of_aws_too_and_its_sessions_are_ended() -> None:
    replace, mend, off, move, check, *back = runbook.steps("rotate", AWS)
    assert replace.startswith("Create a replacement: `aws iam create-access-key")
    assert mend.endswith("(see the evidence); no other consumer was active in the window")
    assert "Both keys are valid until the old one is deactivated; a user has two at most" in move
    assert off.startswith("After its last use, deactivate it")
    assert check.startswith("Verify")
    assert "--status Active`" in back[0]
    session = KeyAtHand("ASIAIOSFODNN7EXAMPLE", "x", 0)
    assert runbook.steps("rotate", session)[0].startswith("End the role's sessions now")


def test_an_exposed_key_that_is_revoked_needs_no_replacement() -> None:
    revoked = replace(PULSELY, revoked_at=datetime(2026, 10, 1))
    first, check = runbook.steps("rotate", revoked)
    assert first.startswith("The key is already revoked")
    assert check.startswith("Verify")


def test_a_key_to_rotate_that_is_strange_as_well_is_asked_about_first() -> None:
    ask, look, *rest = runbook.steps("rotate", PULSELY, suspected=True)
    assert ask == (
        "Ask team-a to confirm the use from 45.153.78.0/24; if it is not confirmed, revoke the "
        "key now"
    )
    assert look == "Investigate the activity from 45.153.78.0/24: 412 requests"
    assert tuple(rest) == runbook.steps("rotate", PULSELY)


def test_a_doubted_key_is_asked_about_first() -> None:
    ask, look, if_stolen, *rest = runbook.steps("investigate", PULSELY)
    assert ask == "Ask team-a to confirm the use from 45.153.78.0/24"
    assert look.startswith("Investigate")
    assert "as stolen" in if_stolen
    assert "revoke ply_live_prod_4f8a2c…9e1d now" in if_stolen
    assert tuple(rest) == tuple(
        step for step in runbook.steps("revoke", PULSELY)[1:] if step != look
    )


def test_no_action_no_steps() -> None:
    assert runbook.steps("none", PULSELY) == ()


def test_a_successor_takes_the_place_of_a_replacement() -> None:
    steps = runbook.steps("revoke", KeyAtHand("key_1", "x", 1, successor_key_id="key_2"))
    assert "Use its existing successor key_2" in steps
    assert any(step.startswith("No other consumer") for step in steps)


def test_a_key_that_is_revoked_already() -> None:
    first, *_ = runbook.steps("revoke", KeyAtHand("key_1", "x", 1, revoked_at=datetime(2026, 9, 1)))
    assert first == "The key is already revoked: revoke it again if it is still accepted"


def commands(steps: tuple[str, ...]) -> list[list[str]]:
    return [shlex.split(text) for step in steps for text in re.findall(r"`([^`]+)`", step)]


def test_aws_keys_are_turned_off_by_commands_that_can_be_pasted() -> None:
    found = commands(runbook.steps("revoke", AWS))
    off, limit, end, _, _, _, on, free, resume = found
    assert [command[2] for command in found] == [
        "update-access-key", "attach-user-policy", "put-user-policy", "create-access-key",
        "delete-access-key", "get-access-key-last-used", "update-access-key", "detach-user-policy",
        "delete-user-policy",
    ]  # fmt: skip
    assert off == [
        "aws", "iam", "update-access-key", "--access-key-id", "AKIAIOSFODNN7EXAMPLE",
        "--user-name", "terraform", "--status", "Inactive",
    ]  # fmt: skip
    assert on == [*off[:-1], "Active"]
    assert limit[3:] == free[3:] == [
        "--user-name", "terraform",
        "--policy-arn", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3",
    ]  # fmt: skip
    assert end[3:7] == resume[3:] == [
        "--user-name", "terraform", "--policy-name", "RevokeOlderSessions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key_id", "source", "restrict", "revoke", "back"),
    [
        ("AKIAIOSFODNN7EXAMPLE", None, "--status Inactive", "RevokeOlderSessions", "Active`"),
        ("bG9uZw==", "github_audit", "Active tokens, Revoke", "/credentials/revoke", "Unsuspend"),
        ("ci[bot]", None, "Suspend the app's", "Delete the app's private keys", ", Unsuspend"),
        (
            "//iam.googleapis.com/projects/p/serviceAccounts/a@p.iam.gserviceaccount.com/keys/0a",
            "gcp_audit", "keys disable 0a ", "service-accounts disable a@", "keys enable 0a ",
        ),
        ("0a1b", "kong_audit", "request-termination", "-X DELETE", "/plugins/PLUGIN_ID"),
        ("0a1b", "entra_graph", "AccountEnabled:$false", "credential delete", "AccountEnabled:$tr"),
        ("ana@example.com", "m365_audit", "Disable the account", "SignInSession", "enable the"),
        ("key_abc", "openai_audit", "Restricted with None", "admin_api_keys/key_abc", "again"),
        ("0a1b", "cloudflare_audit", "Client IP Address", "-X DELETE", "addresses to the filter"),
        ("system:serviceaccount:ci:bot", None, "grep ci/bot", "delete serviceaccount bot", "apply"),
        ("ana@example.com", "okta_system", "Suspend ana@example.com", "Clear User", "unsuspend"),
    ],
)  # fmt: skip
def test_what_can_be_taken_back_comes_before_what_cannot(
    key_id: str, source: str | None, restrict: str, revoke: str, back: str
) -> None:
    steps = runbook.steps("revoke", KeyAtHand(key_id, "x", 1, source=source))
    first, second, *middle, _, last = steps
    assert restrict in first or restrict in second
    assert "elete" not in first
    assert any(revoke in step for step in (second, *middle))
    assert back in last or back in steps[-2]


def test_no_command_of_aws_is_cut_in_a_message() -> None:
    longest = "arn:aws:iam::123456789012:user/" + "a" * 64
    session = f"{longest.replace(':iam:', ':sts:').replace('user/', 'assumed-role/')}/run"
    for at_hand in (
        KeyAtHand(AWS.key_id, "x", 1, owner=longest),
        KeyAtHand("ASIAIOSFODNN7EXAMPLE", "x", 1, owner=session),
        KeyAtHand(longest, "x", 1),
        KeyAtHand(longest.replace("user/", "role/"), "x", 1),
    ):
        for step in (*runbook.steps("revoke", at_hand), *runbook.steps("rotate", at_hand)):
            assert printable(step, 400) == step


@pytest.mark.parametrize(
    "owner",
    [None, "team-a", "arn:aws:iam::123456789012:user/x; reboot", "arn:aws:iam::1:user/$(x)"],
)
def test_no_owner_of_a_log_gets_into_a_command(owner: str | None) -> None:
    steps = runbook.steps("revoke", KeyAtHand(AWS.key_id, "x", 1, owner=owner))
    for command in commands(steps):
        assert "USER" in command or command[2] == "get-access-key-last-used"
        assert "reboot" not in command


def test_the_sessions_of_a_role_are_ended_by_a_policy_that_is_one() -> None:
    session = KeyAtHand(
        "ASIAIOSFODNN7EXAMPLE", "x", 1, owner="arn:aws:sts::123456789012:assumed-role/ci/run-7"
    )
    end, *_ = runbook.steps("revoke", session)
    assert len(end) < 400  # what is shown of a step
    (command,) = commands((end.replace("$(date -u +%FT%TZ)", "2026-10-05T00:00:00Z"),))
    assert command[4] == "ci"
    (statement,) = json.loads(command[-1])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"]["DateLessThan"] == {"aws:TokenIssueTime": "2026-10-05T00:00:00Z"}
