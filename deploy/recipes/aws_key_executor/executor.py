"""Deactivate AWS access keys when Keywatch sends an approved revocation; see README.md.

A recipe: copy it and adapt it. It needs Python 3.11 or newer and boto3, and nothing of Keywatch.
`lambda_handler` is for a Lambda function URL, ``python executor.py`` for a server of your own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

TOLERANCE_SECONDS = 300
"""How far a message's time may be from the clock, before or after."""
LONGEST_BODY_BYTES = 1_000_000
_ACCESS_KEY = re.compile(r"AKIA[A-Z0-9]{12,}", re.ASCII)
_APPROVED = "revocation approved by "
_ORDERS = frozenset({"trigger", "summary"})
"""Kinds that an approved channel expects something of; the others report or end an alert."""
_FEWEST_SECRET_BYTES = 24


class RefusedError(Exception):
    """A message that is not carried out, with the HTTP status of the answer.

    Keywatch sends 401 and 5xx again; 400, 413 and 422 become dead letters at once.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Done(Protocol):
    """The ids of the messages that were carried out."""

    def has(self, message_id: str) -> bool: ...

    def add(self, message_id: str) -> None: ...


@dataclass(frozen=True)
class DoneInFolder:
    """One empty file for each id, named by its digest."""

    folder: Path

    def has(self, message_id: str) -> bool:
        return self._file(message_id).exists()

    def add(self, message_id: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file(message_id).touch()

    def _file(self, message_id: str) -> Path:
        return self.folder / hashlib.sha256(message_id.encode()).hexdigest()


@dataclass(frozen=True)
class DoneInTable:
    """A DynamoDB table whose partition key is ``id``, a string."""

    table: str
    client: Any

    def has(self, message_id: str) -> bool:
        found = self.client.get_item(
            TableName=self.table, Key={"id": {"S": message_id}}, ConsistentRead=True
        )
        return "Item" in found

    def add(self, message_id: str) -> None:
        self.client.put_item(TableName=self.table, Item={"id": {"S": message_id}})


@dataclass(frozen=True)
class Executor:
    """Carries out messages; `secrets` are the signing secrets that are valid now, decoded."""

    secrets: tuple[bytes, ...]
    iam: Any
    done: Done

    def answer(
        self, headers: Mapping[str, str], body: bytes, now_seconds: float
    ) -> tuple[int, str]:
        """Carry a message out; the status and text of the answer.

        The status is 2xx only if every key of an approved revocation is inactive, or if the message
        asks for nothing. `headers` have lower-case names; `now_seconds` are since 1970, UTC.
        """
        try:
            message_id = verified(self.secrets, headers, body, now_seconds)
            status, text = 200, self._carried_out(message_id, body)
        except RefusedError as e:
            status, text = e.status, str(e)
        except (BotoCoreError, ClientError) as e:
            # Its text may quote the request.
            status, text = 502, f"AWS: {_code(e) or type(e).__name__}"
        log(status=status, text=text)
        return status, text

    def _carried_out(self, message_id: str, body: bytes) -> str:
        message = _read(message_id, body)
        if message["kind"] not in _ORDERS:
            return "nothing to do"
        key_ids = _keys_to_revoke(message)
        if self.done.has(message_id):
            return "already done"
        # All that can be done is done, whatever else is in the message.
        failed = [reason for key_id in key_ids if (reason := self._deactivate(key_id))]
        if message.get("more_keys"):
            failed.append(f"{message['more_keys']} more keys are not in the message")
        if failed:
            raise RefusedError(422, "; ".join(failed))
        self.done.add(message_id)
        return f"inactive: {', '.join(key_ids)}"

    def _deactivate(self, key_id: str) -> str | None:
        """Why it could not be; None if it is inactive."""
        if not _ACCESS_KEY.fullmatch(key_id):
            return "a key of it is not an AWS access key"
        try:
            user = self.iam.get_access_key_last_used(AccessKeyId=key_id)["UserName"]
            self.iam.update_access_key(UserName=user, AccessKeyId=key_id, Status="Inactive")
        except ClientError as e:
            if _code(e) == "NoSuchEntity":
                return f"{key_id} is unknown in this account"
            raise
        return None


def verified(
    secrets: Iterable[bytes], headers: Mapping[str, str], body: bytes, now_seconds: float
) -> str:
    """The id of a message that was signed with one of the secrets, and lately.

    The scheme is Standard Webhooks 1.0, symmetric signatures (v1).

    Raises:
        RefusedError: a header is missing, the time is far from the clock, or no signature is right.
    """
    message_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not re.fullmatch(r"\d{1,12}", sent, re.ASCII):
        raise RefusedError(401, "not signed")
    if abs(now_seconds - int(sent)) > TOLERANCE_SECONDS:
        raise RefusedError(401, "the time of the message is too far from the clock")
    signed = f"{message_id}.{sent}.".encode() + body
    given = headers.get("webhook-signature", "").encode().split()
    for secret in secrets:
        right = b"v1," + base64.b64encode(hmac.digest(secret, signed, "sha256"))
        if any(hmac.compare_digest(right, one) for one in given):
            return message_id
    raise RefusedError(401, "the signature is wrong")


def secrets_of(text: str) -> tuple[bytes, ...]:
    """The signing secrets in a text: one, or during a rotation two with a space between them.

    Raises:
        ValueError: there is none, or one is not ``whsec_`` and Base64; its text has no secret.
    """
    try:
        found = tuple(
            base64.b64decode(one.removeprefix("whsec_"), validate=True) for one in text.split()
        )
    except ValueError:
        found = ()
    if not found or min(map(len, found)) < _FEWEST_SECRET_BYTES:
        raise ValueError("no signing secret: whsec_ followed by Base64 is expected")
    return found


def log(**fields: object) -> None:
    """One line of JSON to standard error: no header, no body, no secret."""
    print(json.dumps(fields), file=sys.stderr, flush=True)


def _read(message_id: str, body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except ValueError:
        message = None
    if not isinstance(message, dict) or message.get("id") != message_id:
        raise RefusedError(400, "not a message of Keywatch")
    if not isinstance(message.get("kind"), str):
        raise RefusedError(400, "a message without a kind")
    return message


def _keys_to_revoke(message: Mapping[str, Any]) -> list[str]:
    """The ids of the keys that an analyst approved the revocation of; at least one."""
    if message["kind"] == "summary":
        raise RefusedError(422, "a summary names no keys: raise messages_per_hour")
    why = str(message.get("why", ""))
    if message.get("action") != "revoke" or not why.lower().startswith(_APPROVED):
        raise RefusedError(422, "not approved: name this channel in approved_channels")
    keys = message.get("keys", [])
    found = [str(key["key_id"]) for key in keys if key["action"] == "revoke" and not key["ended"]]
    if not found:
        raise RefusedError(422, "no key of it is to be revoked")
    return found


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


# ------------------------------------------------------------------------------------------ set up


def from_environment() -> Executor:
    """The executor that the environment describes (README.md has the variables)."""
    text = os.environ.get("KEYWATCH_WEBHOOK_SECRET") or Path(
        os.environ["KEYWATCH_WEBHOOK_SECRET_FILE"]
    ).read_text(encoding="utf-8")
    done: Done
    if table := os.environ.get("KEYWATCH_DONE_TABLE"):
        done = DoneInTable(table, boto3.client("dynamodb"))
    else:
        done = DoneInFolder(Path(os.environ["KEYWATCH_DONE_FOLDER"]))
    return Executor(secrets_of(text), boto3.client("iam"), done)


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """The answer to one request to a Lambda function URL."""
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = {name.lower(): value for name, value in event["headers"].items()}
    status, text = from_environment().answer(headers, raw, time.time())
    return {"statusCode": status, "body": text}


def server(executor: Executor, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1, for a proxy that ends TLS; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not re.fullmatch(r"\d{1,9}", length) or int(length) > LONGEST_BODY_BYTES:
                status, text = 413, "a body of a known, small length is expected"
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(length))
                status, text = executor.answer(headers, body, time.time())
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    with server(from_environment(), int(os.environ.get("PORT", "8500"))) as running:
        running.serve_forever()
