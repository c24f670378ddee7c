"""The recipe of an executor: approved revocations make AWS access keys inactive, and nothing else.

Messages are those of a real outbox, sent by the webhook channel; AWS is moto.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from standardwebhooks import Webhook

from deploy.recipes.aws_key_executor import executor as recipe
from keywatch import deliver
from keywatch.deliver import Outbox
from keywatch.lake import Lake
from keywatch.review import alerts
from keywatch.settings import Settings
from keywatch.settings.deliver import DeliverSettings
from tests.deliver.alerts_of import review_of
from tests.prose import ROOT
from tests.report.reviews import SCANNED

FOLDER = ROOT / "deploy/recipes/aws_key_executor"
SECRET = "whsec_" + base64.b64encode(b"a signing secret of a test").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret, of a thief").decode()
NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Account:
    """An AWS account with one user, whose access key is stolen."""

    iam: Any
    key_id: str
    executor: recipe.Executor

    @property
    def status(self) -> str:
        (key,) = self.iam.list_access_keys(UserName="terraform")["AccessKeyMetadata"]
        return str(key["Status"])

    def activate(self) -> None:
        """The way back of README.md."""
        self.iam.update_access_key(UserName="terraform", AccessKeyId=self.key_id, Status="Active")

    def deliver(
        self, message: dict[str, Any], *, secret: str = SECRET, at: datetime = NOW
    ) -> tuple[int, str]:
        """The answer to a message that was signed at a time, and arrives at NOW."""
        body = json.dumps(message)
        headers = {
            "webhook-id": message["id"],
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(message["id"], at, body),
        }
        return self.executor.answer(headers, body.encode(), NOW.timestamp())


@pytest.fixture(scope="module")
def iam() -> Iterator[Any]:
    """IAM of a moto for the module: its clients are slow to make."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        yield boto3.client("iam")


@pytest.fixture
def account(iam: Any, tmp_path: Path) -> Iterator[Account]:
    iam.create_user(UserName="terraform", Path="/ops/")
    key_id = iam.create_access_key(UserName="terraform")["AccessKey"]["AccessKeyId"]
    done = recipe.DoneInFolder(tmp_path / "done")
    yield Account(iam, key_id, recipe.Executor(recipe.secrets_of(SECRET), iam, done))
    iam.delete_access_key(UserName="terraform", AccessKeyId=key_id)
    iam.delete_user(UserName="terraform")


def order(key_id: str, **values: Any) -> dict[str, Any]:
    """A message with an approved revocation."""
    key = {"key_id": key_id, "action": "revoke", "ended": ""}
    said = "Revocation approved by ana: the owner does not know this use."
    return {
        "id": "msg_1", "kind": "trigger", "action": "revoke", "why": said, "keys": [key],
        "more_keys": 0, **values,
    }  # fmt: skip


@contextmanager
def served(executor: recipe.Executor) -> Iterator[str]:
    """The recipe's server; gives its address."""
    with recipe.server(executor, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_an_approval_makes_the_key_inactive_and_once(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNING", SECRET)
    stolen = replace(SCANNED, key_id=account.key_id, key=None)
    opened = Lake.open(tmp_path / "lake", Settings().storage, create=True)
    with served(account.executor) as url, opened as lake:
        channel = {"kind": "webhook", "url": url, "secret": {"env": "SIGNING"}}
        settings = DeliverSettings.model_validate(
            {"channels": {"executor": channel}, "approved_channels": ["executor"]}
        )
        Outbox(settings).tell(lake, alerts.update(lake, review_of(stolen), settings.grow_bits))
        assert not deliver.deliver_due(lake, settings).channels
        assert account.status == "Active"

        (alert,) = deliver.awaiting_approval(lake, settings)
        Outbox(settings).tell(lake, alerts.approve(lake, alert.alert_id, "ana", "not ours"))
        (sent,) = deliver.deliver_due(lake, settings).channels
        assert (sent.sent, account.status) == (1, "Inactive")

        account.activate()
        assert not deliver.deliver_due(lake, settings).channels
        assert account.status == "Active"


def test_a_second_delivery_changes_nothing(account: Account) -> None:
    message = order(account.key_id)
    assert account.deliver(message) == (200, f"inactive: {account.key_id}")
    assert account.status == "Inactive"
    account.activate()
    assert account.deliver(message) == (200, "already done")
    assert account.status == "Active"
    assert account.deliver(message | {"id": "msg_2"})[0] == 200
    assert account.status == "Inactive"


@pytest.mark.parametrize(
    ("secret", "late", "status", "said"),
    [
        (OTHER, timedelta(), 401, "the signature is wrong"),
        (SECRET, timedelta(minutes=6), 401, "too far from the clock"),
        (SECRET, timedelta(minutes=-6), 401, "too far from the clock"),
        (SECRET, timedelta(minutes=4), 200, "inactive"),
    ],
    ids=["forged", "replayed later", "dated ahead", "a little late"],
)
def test_only_what_was_signed_lately_is_carried_out(
    account: Account, secret: str, late: timedelta, status: int, said: str
) -> None:
    answered, text = account.deliver(order(account.key_id), secret=secret, at=NOW - late)
    assert (answered, said in text) == (status, True)
    assert account.status == ("Inactive" if status == 200 else "Active")


@pytest.mark.parametrize(
    "changed", ["webhook-id", "webhook-timestamp", "webhook-signature", "body"]
)
def test_a_signed_message_that_is_changed_is_refused(account: Account, changed: str) -> None:
    body = json.dumps(order(account.key_id))
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", NOW, body),
    }
    if changed == "body":
        body = body.replace("msg_1", "msg_2")
    else:
        headers[changed] += "0"
    assert account.executor.answer(headers, body.encode(), NOW.timestamp())[0] == 401
    for name in headers:
        fewer = {one: text for one, text in headers.items() if one != name}
        assert account.executor.answer(fewer, body.encode(), NOW.timestamp())[0] == 401
    assert account.status == "Active"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"why": "Used from a new network."}, "not approved"),
        ({"action": "investigate"}, "not approved"),
        ({"kind": "summary"}, "messages_per_hour"),
        ({"keys": [{"key_id": "KEY", "action": "investigate", "ended": ""}]}, "no key of it"),
        ({"keys": [{"key_id": "KEY", "action": "revoke", "ended": "benign"}]}, "no key of it"),
        ({"keys": []}, "no key of it"),
    ],
)
def test_what_is_not_an_approved_revocation_is_refused(
    account: Account, values: dict[str, Any], said: str
) -> None:
    text = json.dumps(order(account.key_id, **values)).replace("KEY", account.key_id)
    status, answered = account.deliver(json.loads(text))
    assert (status, said in answered) == (422, True)
    assert account.status == "Active"


def test_keys_that_are_unknown_or_of_others_are_refused_and_the_known_one_is_done(
    account: Account,
) -> None:
    unknown = "AKIAIOSFODNN7EXAMPLE"
    assert account.deliver(order(unknown)) == (422, f"{unknown} is unknown in this account")
    assert account.deliver(order("key_0700353"))[0] == 422
    assert account.status == "Active"
    keys = order(account.key_id)["keys"]
    both = order(account.key_id, keys=[*order(unknown)["keys"], *keys])
    assert account.deliver(both)[0] == 422
    assert account.status == "Inactive"
    account.activate()
    assert account.deliver(order(account.key_id, more_keys=3))[0] == 422
    assert account.status == "Inactive"


@pytest.mark.parametrize("kind", ["update", "acknowledge", "resolve", "test", "heartbeat"])
def test_messages_that_ask_for_nothing_are_answered(account: Account, kind: str) -> None:
    assert account.deliver(order(account.key_id, kind=kind)) == (200, "nothing to do")
    assert account.status == "Active"


def test_an_error_of_aws_is_tried_again(account: Account) -> None:
    message = order(account.key_id)
    broken = replace(account.executor, done=recipe.DoneInTable("none", boto3.client("dynamodb")))
    status, text = replace(account, executor=broken).deliver(message)
    assert (status, text) == (502, "AWS: ResourceNotFoundException")
    assert account.deliver(message)[0] == 200


def test_two_secrets_are_taken_during_a_rotation(account: Account) -> None:
    both = replace(account.executor, secrets=recipe.secrets_of(f"{OTHER} {SECRET}"))
    assert replace(account, executor=both).deliver(order(account.key_id))[0] == 200
    for text in ("", "whsec_short", "whsec_" + "é" * 40):
        with pytest.raises(ValueError, match="no signing secret"):
            recipe.secrets_of(text)


def test_a_function_url_answers_and_remembers_in_a_table(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boto3.client("dynamodb").create_table(
        TableName="keywatch-executor", BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    monkeypatch.setenv("KEYWATCH_DONE_TABLE", "keywatch-executor")
    monkeypatch.setenv("KEYWATCH_WEBHOOK_SECRET", SECRET)
    now = datetime.now(UTC)
    body = json.dumps(order(account.key_id))
    signature = Webhook(SECRET).sign("msg_1", now, body)
    event = {
        "headers": {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "Webhook-Signature": signature,
        },
        "body": base64.b64encode(body.encode()).decode(),
        "isBase64Encoded": True,
    }
    first, second = (recipe.lambda_handler(event, None) for _ in range(2))
    assert first == {"statusCode": 200, "body": f"inactive: {account.key_id}"}
    assert second == {"statusCode": 200, "body": "already done"}
    logged = capsys.readouterr().err
    assert [json.loads(line)["status"] for line in logged.splitlines()] == [200, 200]
    assert not [text for text in (SECRET, SECRET[6:], signature) if text in logged]


def test_the_policy_allows_what_the_recipe_calls_and_no_more() -> None:
    policy = json.loads((FOLDER / "policy.json").read_text("utf-8"))
    allowed = {action for one in policy["Statement"] for action in one["Action"]}
    assert allowed == {
        "iam:GetAccessKeyLastUsed", "iam:UpdateAccessKey",
        "dynamodb:GetItem", "dynamodb:PutItem",
    }  # fmt: skip
    assert all(one["Effect"] == "Allow" and one["Resource"] != "*" for one in policy["Statement"])
    code = (FOLDER / "executor.py").read_text("utf-8")
    assert "delete" not in code
    assert "Active" not in code.replace("Inactive", "")
