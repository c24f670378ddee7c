"""`keywatch deliver --test`: one marked message, as real ones go, and the fix if it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keywatch.deliver import message_schema, sender
from keywatch.lake import Lake
from keywatch.text.toml_value import toml_value
from tests.command import Ran, keywatch
from tests.deliver.receivers import Answer, Receiver, in_turn, mail_server
from tests.deliver.test_channels import HTTP, SECRET, SIGNING


def settings(tmp_path: Path, channels: Mapping[str, Mapping[str, Any]]) -> Path:
    """A file with these channels."""
    lines = []
    for name, values in channels.items():
        lines.append(f"[deliver.channels.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    file = tmp_path / "keywatch.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return toml_value(value)


def trial_of(tmp_path: Path, name: str, url: str = "") -> Ran:
    return keywatch(
        "deliver", "--test", name, cwd=tmp_path, TEST_URL=f"{url}/services/T0/{SECRET}",
        TEST_SECRET=SECRET, TEST_SIGNING=SIGNING, TEST_MAIL="mail-pass-word",
    )  # fmt: skip


@pytest.mark.parametrize("name", HTTP)
def test_a_test_message_arrives_and_is_marked(name: str, tmp_path: Path) -> None:
    kind = HTTP[name]
    with Receiver(lambda _: kind.fine).running() as receiver:
        values = kind.settings(receiver.url)
        settings(tmp_path, {"chat": values})
        ran = trial_of(tmp_path, "chat", receiver.url)
        again = trial_of(tmp_path, "chat", receiver.url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"channel chat ({values['kind']}): the test message was sent: ")
    assert again.out == ran.out
    each = 2 if name == "pagerduty" else 1
    assert len(receiver.requests) == 2 * each
    for request in receiver.requests:
        kind.check(request)
    first = receiver.requests[0]
    assert "Test of the channel chat: this is no alert" in first.body.decode()
    assert SECRET not in ran.out
    if name == "webhook":
        assert (first.json["kind"], first.json["action"]) == ("test", "none")
        assert first.json["id"] != receiver.requests[1].json["id"]
    if name == "pagerduty":
        over = receiver.requests[1].json
        assert (first.json["event_action"], over["event_action"]) == ("trigger", "resolve")
        assert first.json["dedup_key"] == over["dedup_key"]
        assert first.json["payload"]["severity"] == "info"


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404, "no_service"), "did not arrive: HTTP 404: no_service"),
        (Answer(503, f"/services/T0/{SECRET}"), "**********; the receiver has a fault: try again"),
        (Answer(307, "", {"Location": "https://evil.example/"}), "set the final address"),
        (Answer(close=True), "may have arrived: no connection or no answer"),
    ],
    ids=["404", "503", "redirect", "close"],
)
def test_what_did_not_arrive_is_said_with_the_fix(
    name: str, answer: Answer, said: str, tmp_path: Path
) -> None:
    kind = HTTP[name]
    with Receiver(lambda _: answer).running() as receiver:
        settings(tmp_path, {"chat": kind.settings(receiver.url)})
        ran = trial_of(tmp_path, "chat", receiver.url)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("keywatch: channel chat (")
    assert said in ran.err
    assert SECRET not in ran.err
    assert len(receiver.requests) == 1


def test_an_incident_that_was_not_resolved_is_named(tmp_path: Path) -> None:
    kind = HTTP["pagerduty"]
    with Receiver(in_turn(kind.fine, then=Answer(500))).running() as receiver:
        settings(tmp_path, {"pager": kind.settings(receiver.url)})
        ran = trial_of(tmp_path, "pager")
    assert ran.code == 3
    incident = receiver.requests[0].json["dedup_key"]
    assert f"it arrived, but its incident {incident} was not resolved (HTTP 500: ok)" in ran.err


def test_slack_s_own_errors_have_a_fix(tmp_path: Path) -> None:
    for error, fix in (
        ("not_in_channel", "invite the bot"),
        ("invalid_auth", "store the bot's token"),
        ("missing_scope", "chat:write"),
    ):
        body = json.dumps({"ok": False, "error": error})
        with Receiver(in_turn(then=Answer(body=body))).running() as receiver:
            settings(tmp_path, {"chat": HTTP["slack-bot"].settings(receiver.url)})
            ran = trial_of(tmp_path, "chat")
        assert ran.code == 3
        assert f"Slack answered {error}; " in ran.err
        assert fix in ran.err


@pytest.mark.parametrize("password", ["TEST_MAIL", "TEST_SECRET"])
def test_a_test_mail(password: str, tmp_path: Path) -> None:
    with mail_server(tmp_path) as box:
        values = {
            "kind": "mail", "host": "localhost", "port": box.port, "username": "keywatch",
            "password": {"env": password}, "ca_file": str(box.ca_file),
            "sender": "keywatch@alerts.example.com", "to": ["soc@example.com"],
        }  # fmt: skip
        settings(tmp_path, {"mail": values})
        ran = trial_of(tmp_path, "mail")
    if password == "TEST_SECRET":
        assert ran.code == 3
        assert "(535); check username and the password" in ran.err
        assert SECRET not in ran.err
        return
    assert (ran.code, ran.err) == (0, "")
    (mail,) = box.mails
    assert mail["Subject"] == "[Keywatch] Test of the channel mail: this is no alert"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "No key is suspected" in body.get_content()


def test_a_file_and_standard_output(tmp_path: Path) -> None:
    settings(
        tmp_path,
        {
            "log": {"kind": "file", "path": str(tmp_path / "alerts.jsonl")},
            "lost": {"kind": "file", "path": str(tmp_path / "nowhere/alerts.jsonl")},
            "out": {"kind": "stdout"},
        },
    )
    assert trial_of(tmp_path, "log").out.endswith("the test message was sent: it is in the file\n")
    assert trial_of(tmp_path, "log").code == 0
    lines = (tmp_path / "alerts.jsonl").read_text("ascii").splitlines()
    assert len(lines) == 2
    for line in lines:
        jsonschema.validate(json.loads(line), message_schema(), cls=jsonschema.Draft202012Validator)
    lost = trial_of(tmp_path, "lost")
    assert lost.code == 3
    assert "did not arrive" in lost.err
    assert "No such file or directory; create the folder of path" in lost.err
    assert "Test of the channel out: this is no alert  [low]" in trial_of(tmp_path, "out").out


def test_a_channel_that_is_not_there_or_can_not_be_used(tmp_path: Path) -> None:
    assert "no channel is configured" in trial_of(tmp_path, "chat").err
    settings(
        tmp_path,
        {
            "chat": {"kind": "stdout"},
            "pager": {"kind": "pagerduty", "routing_key": {"env": "NOT_SET_HERE"}},
        },
    )
    ran = trial_of(tmp_path, "chta")
    assert ran.code == 2
    assert "unknown channel 'chta'; available: chat, pager; did you mean 'chat'?" in ran.err
    ran = trial_of(tmp_path, "pager")
    assert ran.code == 2
    assert "channel pager: the environment variable NOT_SET_HERE is not set" in ran.err
    ran = keywatch("deliver", "--test", "chat", "--dry-run", cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")


def test_a_test_message_waits_for_the_sender_and_is_stored_nowhere(tmp_path: Path) -> None:
    file = settings(tmp_path, {"log": {"kind": "file", "path": str(tmp_path / "alerts.jsonl")}})
    file.write_text("[storage]\nwait_seconds = 0\n" + file.read_text())
    with Lake.open(tmp_path / "lake", create=True) as lake:
        before = lake.snapshot
        with sender.only_sender(lake, 0):
            ran = trial_of(tmp_path, "log")
        assert ran.code == 3
        assert "another process is sending" in ran.err
        assert not (tmp_path / "alerts.jsonl").exists()
        assert trial_of(tmp_path, "log").code == 0
        assert lake.snapshot == before
        assert lake.value("SELECT count(*) FROM lake.deliveries") == 0
