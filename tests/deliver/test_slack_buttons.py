"""Buttons in Slack by socket mode, against a Slack of this machine that checks tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from keywatch.deliver.credentials import Vault
from keywatch.deliver.slack_buttons import Pressed, listening
from keywatch.errors import UsageError
from keywatch.explore.answers.serve import take_button
from keywatch.settings.deliver import SlackChannel
from keywatch.settings.secret_ref import SecretRef
from tests.deliver.asking import APP_TOKEN, BOT_TOKEN, OWNER, Asking, asking, in_days
from tests.deliver.receivers import Answer, Receiver, Request

pytest.importorskip("slack_sdk", reason="slack-sdk is not installed: make setup")

MINUTES = 180.0


@dataclass
class Slack:
    """Its end of the web socket: what is put into `to_send` goes out, `confirmed` came back."""

    url: str
    to_send: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)
    confirmed: SimpleQueue[str] = field(default_factory=SimpleQueue)

    def press(self, user: str, action: str, code: str, day: str | None = None) -> None:
        """As Slack says that `user` pressed a button; returns when that is confirmed."""
        payload = {
            "type": "block_actions",
            "user": {"id": user},
            "container": {"channel_id": "D01", "message_ts": "1.2"},
            "actions": [{"action_id": f"keywatch_answer_{action}", "value": code}],
            "state": {
                "values": {"keywatch_answer_": {"keywatch_answer_day": {"selected_date": day}}}
            },
        }
        self.send("interactive", payload)

    def send(self, kind: str, payload: dict[str, Any]) -> None:
        name = f"envelope-{time.monotonic_ns()}"
        self.to_send.put({"type": kind, "envelope_id": name, "payload": payload})
        assert self.confirmed.get(timeout=MINUTES) == name


@contextmanager
def web_socket() -> Iterator[Slack]:
    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        if connection.request.path != "/link/?ticket=t1":
            return
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                connection.send(json.dumps(slack.to_send.get()))

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        try:
            for text in connection:
                slack.confirmed.put(json.loads(text)["envelope_id"])
        except ConnectionClosed:
            pass
        finally:
            over.set()

    with serve(handle, "127.0.0.1", 0) as server:
        slack = Slack(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/link/?ticket=t1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield slack
        finally:
            server.shutdown()
            thread.join()


def api(slack: Slack, request: Request) -> Answer:
    """Slack's methods, each with the token that it wants."""
    is_open = request.path == "/api/apps.connections.open"
    token = APP_TOKEN if is_open else BOT_TOKEN
    if request.headers["authorization"] != f"Bearer {token}":
        return Answer(body='{"ok": false, "error": "invalid_auth"}')
    more = {"url": slack.url} if is_open else {"channel": "D01", "ts": "1.2"}
    return Answer(body=json.dumps({"ok": True} | more))


def said(made: Asking, count: int) -> list[tuple[str, str]]:
    """Method and text of what Slack was told after the question, once there is so much."""
    deadline = time.monotonic() + MINUTES
    while True:
        found = [
            (each.path.rpartition("/")[2], each.json["blocks"][0]["text"]["text"])
            for each in made.slack.requests
            if each.path.endswith(("chat.update", "chat.postEphemeral"))
        ]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.mark.slow
def test_only_who_was_asked_answers_by_a_button_and_once(tmp_path: Path) -> None:
    with (
        web_socket() as slack,
        asking(tmp_path, base_url=None, app_token={"env": "TEST_APP"}) as (made),
    ):
        made.slack.behave = partial(api, slack)
        made.deliver()
        (question,) = made.asked()
        (buttons,) = (block for block in question["blocks"] if block["type"] == "actions")
        picker, *rest = buttons["elements"]
        assert "No: the key is treated as stolen." in json.dumps(question["blocks"])
        assert [each["text"]["text"] for each in rest] == [
            "Yes, this once", "Yes, until that day", "No", "Not my key",
        ]  # fmt: skip
        assert (buttons["block_id"], picker["action_id"]) == (
            "keywatch_answer_", "keywatch_answer_day",
        )  # fmt: skip
        code = rest[0]["value"]
        bot = made.settings.deliver.channels["bot"]
        assert isinstance(bot, SlackChannel)
        take = partial(take_button, made.lake, made.settings)
        with listening(bot, SecretRef(env="TEST_APP"), Vault(), take):
            slack.press("U9999999999", "once", code)
            assert said(made, 1)[-1] == (
                "chat.postEphemeral",
                "Not recorded: only the person who was asked can answer this question.",
            )
            slack.press(OWNER, "no", code[:-1] + "A" * 2)
            assert "not valid" in said(made, 2)[-1][1]
            slack.send("events_api", {"event": "hello"})
            slack.send("interactive", {"type": "block_actions", "actions": []})
            slack.press(OWNER, "day", code, f"{in_days(9)}")
            assert made.rows("FROM lake.answers") == []
            slack.press(OWNER, "until", code, f"{in_days(9)}")
            method, text = said(made, 3)[-1]
            assert method == "chat.update"
            assert text.startswith(f"Your answer about key_1 is recorded: yes, until {in_days(9)}")
            slack.press(OWNER, "no", code)
            assert "was answered at" in said(made, 4)[-1][1]
        assert made.rows("SELECT answer, until, way, by_whom FROM lake.answers") == [
            ("yes", in_days(9), "Slack", OWNER)
        ]
        assert made.rows("SELECT by_whom FROM lake.verdicts") == [("team-a (owner, by Slack)",)]
        for secret in (code, APP_TOKEN, BOT_TOKEN):
            assert secret.encode() not in made.every_byte()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(body='{"ok": false, "error": "invalid_auth"}'), "Slack answered invalid_auth"),
        (Answer(body="<html>"), "the answer is not from Slack"),
        (Answer(302, headers={"location": "http://127.0.0.1/"}), "redirects"),
        (Answer(body='{"ok": true, "url": "ws://slack.example/?t=1"}'), "https:// address"),
        (Answer(body='{"ok": true, "url": "wss://169.254.169.254/"}'), "link-local"),
        (Answer(body='{"ok": true, "url": "wss://slack.example:8443/"}'), "its port is not 443"),
        (Answer(body='{"ok": true}'), "it is not one"),
        (Answer(401, body=f"no {APP_TOKEN}"), "HTTP 401"),
    ],
)
def test_a_slack_that_refuses_is_named_without_its_token(
    answer: Answer, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_APP", APP_TOKEN)
    monkeypatch.setenv("TEST_BOT", BOT_TOKEN)
    adapter: TypeAdapter[SlackChannel] = TypeAdapter(SlackChannel)
    with Receiver(lambda _: answer).running() as receiver:
        bot = adapter.validate_python(
            {
                "kind": "slack", "token": {"env": "TEST_BOT"}, "conversation": "C01",
                "api_url": f"{receiver.url}/api/",
            }
        )  # fmt: skip

        def unasked(_: Pressed) -> str:
            raise AssertionError

        with (
            pytest.raises(UsageError) as raised,
            listening(bot, SecretRef(env="TEST_APP"), Vault(), unasked),
        ):
            pass
    assert why in str(raised.value)
    assert APP_TOKEN not in str(raised.value)
