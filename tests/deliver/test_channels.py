"""Every channel, by one table: what arrives, and what a receiver that misbehaves makes of it."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError
from standardwebhooks import Webhook

from keywatch.deliver import message_schema, near_channels
from keywatch.deliver.channel import Channel, Envelope, SendError
from keywatch.deliver.channels import open_channel
from keywatch.deliver.credentials import Vault
from keywatch.deliver.http import refused, retry_after
from keywatch.deliver.message import Message, summary_message, summary_over_message, with_id
from keywatch.deliver.pagerduty import event_of
from keywatch.errors import SecretError
from keywatch.settings.deliver import ChannelSettings, DeliverSettings
from tests.deliver.alerts_of import SOLO, messages_of, upkeep_of
from tests.deliver.receivers import (
    Answer,
    Receiver,
    Request,
    in_turn,
    mail_server,
    own_certificate,
)
from tests.report.reviews import FULL, filled_with

SECRET = "c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1iZS1zaG93bg=="
SIGNING = f"whsec_{SECRET}"
BOT_OK = '{"ok": true, "channel": "C01", "ts": "1790000000.000100"}'

HOSTILE_TEXT = (
    "<!channel> <!here> @channel <https://evil.example/x|ok> https://evil.example/a?b=1 "
    "www.evil.example <img src=x onerror=alert(1)><script>alert(1)</script> "
    "\x1b[2J\x1b]8;;https://evil.example\x07click\x1b]8;;\x07 \r\nBcc: all@evil.example\r\n\r\n"
    "*bold* `code` :skull: javascript:alert(1) =cmd|' /C calc'!A0 \u202e\u2028"
)
HOSTILE = [
    HOSTILE_TEXT,
    "=cmd|' /C calc'!A0",
    HOSTILE_TEXT + "x" * 100_000,
    "<!channel>" * 10_000,
    "&" * 100_000,
]


@dataclass(frozen=True)
class Kind:
    """How a channel's settings look, its usual answer, and what the vendor allows."""

    settings: Callable[[str], dict[str, Any]]
    fine: Answer
    check: Callable[[Request], None]


def check_slack(request: Request) -> None:
    """https://docs.slack.dev/reference/block-kit/blocks"""
    body = request.json
    assert len(body["text"]) <= 40_000
    assert "<" not in body["text"].replace("&lt;", "")
    assert 1 <= len(body["blocks"]) <= 50
    for block in body["blocks"]:
        match block["type"]:
            case "header":
                assert block["text"]["type"] == "plain_text"
                assert 1 <= len(block["text"]["text"]) <= 150
            case "section":
                assert 1 <= len(block["text"]["text"]) <= 3000
                if block["text"]["type"] == "mrkdwn":
                    assert "evil" not in block["text"]["text"]
                    assert "<!" not in block["text"]["text"]
            case "context":
                assert 1 <= len(block["elements"]) <= 10
                assert all(1 <= len(part["text"]) <= 3000 for part in block["elements"])
            case other:
                raise AssertionError(other)


def check_pagerduty(request: Request) -> None:
    """https://developer.pagerduty.com/docs/events-api-v2-overview"""
    assert len(request.body) <= 512 * 1024
    event = request.json
    assert event["routing_key"] == SECRET
    assert event["event_action"] in ("trigger", "acknowledge", "resolve")
    assert 1 <= len(event["dedup_key"]) <= 255
    if event["event_action"] == "trigger":
        payload = event["payload"]
        assert 1 <= len(payload["summary"]) <= 1024
        assert payload["severity"] in ("critical", "error", "warning", "info")
        assert payload["source"]


def check_webhook(request: Request) -> None:
    body = Webhook(SIGNING).verify(request.body, request.headers)
    jsonschema.validate(body, message_schema(), cls=jsonschema.Draft202012Validator)
    assert request.headers["webhook-id"] == body["id"]
    assert len(request.body) < 100_000


HTTP = {
    "slack": Kind(
        lambda url: {"kind": "slack", "webhook_url": {"env": "TEST_URL"}},
        Answer(),
        check_slack,
    ),
    "slack-bot": Kind(
        lambda url: {
            "kind": "slack",
            "token": {"env": "TEST_SECRET"},
            "conversation": "C01",
            "api_url": f"{url}/api/",
        },
        Answer(body=BOT_OK),
        check_slack,
    ),
    "pagerduty": Kind(
        lambda url: {"kind": "pagerduty", "routing_key": {"env": "TEST_SECRET"}, "url": url},
        Answer(202, '{"status": "success"}'),
        check_pagerduty,
    ),
    "webhook": Kind(
        lambda url: {
            "kind": "webhook",
            "url": {"env": "TEST_URL"},
            "secret": {"env": "TEST_SIGNING"},
        },
        Answer(),
        check_webhook,
    ),
}
MESSAGES = messages_of(FULL) + messages_of(SOLO)


@contextmanager
def opened(
    kind: Kind, url: str, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[tuple[Channel, Vault]]:
    monkeypatch.setenv("TEST_URL", f"{url}/services/T0/{SECRET}")
    monkeypatch.setenv("TEST_SECRET", SECRET)
    monkeypatch.setenv("TEST_SIGNING", SIGNING)
    vault = Vault()
    channel = open_channel(channel_settings({**kind.settings(url), **settings}), vault)
    try:
        yield channel, vault
    finally:
        channel.close()


def channel_settings(values: dict[str, Any]) -> ChannelSettings:
    adapter: TypeAdapter[ChannelSettings] = TypeAdapter(ChannelSettings)
    return adapter.validate_python(values)


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.title[:20])
def test_what_arrives_keeps_to_the_receiver_s_limits(
    name: str, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = HTTP[name]
    with (
        Receiver(lambda _: kind.fine).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        channel.send(Envelope(message))
    (request,) = receiver.requests
    kind.check(request)
    text = request.body.decode()
    assert message.id in text
    assert "https://db-ip.com" in text  # the credit stands wherever located addresses do
    for key in message.keys:
        assert key.key_id in text
    for reason in message.reasons:
        assert reason.actual.split()[0] in text


@pytest.mark.parametrize("name", [name for name in HTTP if name != "pagerduty"])
@pytest.mark.parametrize("text", [None, *HOSTILE[:2]], ids=["ordinary", "all", "formula"])
def test_a_week_s_upkeep_arrives_whole_and_harmless(
    name: str, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = upkeep_of(FULL if text is None else filled_with(text))
    kind = HTTP[name]
    with (
        Receiver(lambda _: kind.fine).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        channel.send(Envelope(message))
    (request,) = receiver.requests
    kind.check(request)
    texts = list(texts_in(request.json))
    assert message.id in request.body.decode()
    if text is None:
        for item in message.upkeep:
            assert any(item.key_id in each for each in texts)
        assert any("rotate by 2026-10-12" in each for each in texts)
        assert any("since 2026-08-10" in each for each in texts)
    for each in texts:
        assert "\x1b" not in each
        assert "\u202e" not in each
        assert name == "webhook" or "https://evil" not in each
    if name == "webhook":
        assert request.json["kind"] == "upkeep"
        assert (request.json["action"], request.json["severity"]) == ("none", "low")


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize(
    ("answer", "permanent", "pause"),
    [
        (Answer(500, "oops"), False, None),
        (Answer(503, "", {"Retry-After": "7"}), False, 7.0),
        (Answer(429, "slow down", {"Retry-After": "30"}), False, 30.0),
        (Answer(429, "", {"retry-after": "soon"}), False, None),
        (Answer(404, "no_service"), False, None),
        (Answer(400, "invalid_payload"), True, None),
        (Answer(close=True), False, None),
        (Answer(hang_seconds=30), False, None),
        (Answer(307, "", {"Location": "https://evil.example/"}), True, None),
    ],
    ids=["500", "503", "429", "429-odd", "404", "400", "close", "hang", "redirect"],
)
def test_what_a_receiver_does_wrong_is_an_error_with_a_pause_and_no_secret(
    name: str,
    answer: Answer,
    permanent: bool,
    pause: float | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    kind = HTTP[name]
    begun = time.monotonic()
    with (
        Receiver(in_turn(answer, then=kind.fine)).running() as receiver,
        opened(kind, receiver.url, monkeypatch, timeout_seconds=1) as (channel, vault),
    ):
        with pytest.raises(SendError) as raised:
            channel.send(Envelope(MESSAGES[0]))
        channel.send(Envelope(MESSAGES[0], tries=1))
        shown = f"{raised.value!r} {vault!r} {channel!r} {vars(channel)} {caplog.text}"
    assert time.monotonic() - begun < 15
    assert raised.value.permanent is permanent
    assert raised.value.retry_after == pause
    assert len(receiver.requests) == 2
    assert receiver.requests[0].headers.get("webhook-id") == receiver.requests[1].headers.get(
        "webhook-id"
    )
    assert SECRET not in shown
    assert SECRET not in vault.hide(f"can't reach {receiver.url}/services/T0/{SECRET}")


@pytest.mark.parametrize("name", HTTP)
def test_a_receiver_that_says_when_is_heard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    late = Answer(429, "", {"Retry-After": format_datetime(moment, usegmt=True)})
    with (
        Receiver(lambda _: late).running() as receiver,
        opened(HTTP[name], receiver.url, monkeypatch) as (channel, _),
        pytest.raises(SendError) as raised,
    ):
        channel.send(Envelope(MESSAGES[0]))
    assert raised.value.retry_after == pytest.approx(60, abs=10)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("name", HTTP)
def test_no_redirect_is_followed_and_none_counts_as_taken(
    name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = HTTP[name]
    with (
        Receiver(lambda _: kind.fine).running() as other,
        Receiver(lambda _: Answer(status, "", {"Location": other.url})).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        with pytest.raises(SendError, match=f"HTTP {status}: .* not followed") as raised:
            channel.send(Envelope(MESSAGES[0]))
        assert other.requests == []
    assert raised.value.permanent


@pytest.mark.parametrize("name", HTTP)
def test_of_an_answer_that_does_not_end_only_the_beginning_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in (200, 400):
        answer = Answer(status, endless=True)
        with (
            Receiver(in_turn(then=answer)).running() as receiver,
            opened(HTTP[name], receiver.url, monkeypatch, timeout_seconds=300) as (channel, _),
        ):
            if status == 200 and "slack" not in name:
                channel.send(Envelope(MESSAGES[0]))  # nothing is asked of what these answer
                continue
            with pytest.raises(SendError) as raised:
                channel.send(Envelope(MESSAGES[0]))
            assert len(str(raised.value)) < 400


@pytest.mark.parametrize("name", HTTP)
def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = HTTP[name]
    with Receiver(lambda _: kind.fine, own_certificate(tmp_path)).running() as receiver:
        with (
            opened(kind, receiver.url, monkeypatch) as (channel, _),
            pytest.raises(SendError, match="certificate can't be verified") as raised,
        ):
            channel.send(Envelope(MESSAGES[0]))
        assert not raised.value.permanent
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with opened(kind, receiver.url, monkeypatch) as (channel, _):
            channel.send(Envelope(MESSAGES[0]))
        assert len(receiver.requests) == 1
        elsewhere = receiver.url.replace("localhost", "127.0.0.2")
        with (
            opened(kind, elsewhere, monkeypatch) as (channel, _),
            pytest.raises(SendError),
        ):
            channel.send(Envelope(MESSAGES[0]))
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("name", HTTP)
def test_a_name_that_leads_to_a_forbidden_address_gets_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywatch.deliver.http.is_refused", lambda address: address.is_loopback)
    with Receiver(lambda _: HTTP[name].fine).running() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        with (
            opened(HTTP[name], url, monkeypatch) as (channel, _),
            pytest.raises(
                SendError, match=r"the receiver's name resolves to 127\.0\.0\.1"
            ) as raised,
        ):
            channel.send(Envelope(MESSAGES[0]))
        assert raised.value.permanent
        assert receiver.requests == []


BAD_ADDRESSES = [
    "http://soar.example.com/",
    "https:///path",
    "https://host:port/",
    "https://a b.example/",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/latest/meta-data",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[fd00:ec2::254]/",
    "https://100.100.100.200/",
    "https://metadata.google.internal/",
    "https://0.0.0.0/",
]


@pytest.mark.parametrize("place", ["settings", "env", "file"])
@pytest.mark.parametrize("url", BAD_ADDRESSES)
def test_an_address_is_checked_wherever_it_stands(
    url: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SIGNING", SIGNING)
    monkeypatch.setenv("TEST_URL", url)
    (tmp_path / "url").write_text(f"{url}\n", encoding="utf-8")
    refs = {"settings": url, "env": {"env": "TEST_URL"}, "file": {"file": tmp_path / "url"}}
    kinds: list[dict[str, Any]] = [
        {"kind": "webhook", "url": refs[place], "secret": {"env": "TEST_SIGNING"}}
    ]
    if place == "settings":
        kinds.append({"kind": "pagerduty", "routing_key": {"env": "TEST_SIGNING"}, "url": url})
    else:
        kinds.append({"kind": "slack", "webhook_url": refs[place]})
    for values in kinds:
        with pytest.raises((SecretError, ValidationError)) as raised:
            open_channel(channel_settings(values), Vault())
        said = str(raised.value)
        assert "https:// address is needed" in said or "link-local or cloud metadata" in said
        assert place == "settings" or url not in said


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://soar.example.com/", ""),
        ("https://8.8.8.8/", ""),
        ("https://10.1.2.3/", "in a private network"),
        ("https://[fd12::1]/", "in a private network"),
        ("https://localhost/", "on this machine"),
        ("http://127.0.0.1:8080/", "on this machine"),
    ],
)
def test_a_receiver_that_is_near_is_known(
    url: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_URL", url)
    monkeypatch.setenv("TEST_SIGNING", SIGNING)
    secret = {"secret": {"env": "TEST_SIGNING"}}
    channels: dict[str, Any] = {
        "one": {"kind": "webhook", "url": {"env": "TEST_URL"}, **secret},
        "two": {"kind": "webhook", "url": url, **secret},
        "chat": {"kind": "slack", "webhook_url": {"env": "TEST_URL"}},
        "lost": {"kind": "slack", "webhook_url": {"env": "TEST_NOT_SET"}},
        "out": {"kind": "stdout"},
    }
    near = near_channels(DeliverSettings.model_validate({"channels": channels}))
    assert near == (dict.fromkeys(("one", "two", "chat"), where) if where else {})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("99999999999", 86400.0),
        ("9" * 400, 86400.0),
        ("Fri, 01 Jan 5000 00:00:00 GMT", 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 -2300", 86400.0),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0.0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
    ],
)
def test_a_pause_that_is_asked_for_has_a_ceiling_and_hides_no_end(
    value: str, seconds: float | None
) -> None:
    assert retry_after({"Retry-After": value}) == seconds
    gone = refused(410, "gone", {"Retry-After": value})
    assert (gone.permanent, gone.retry_after) == (True, None)


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("text", HOSTILE, ids=["all", "formula", "long", "mentions", "ampersands"])
def test_hostile_text_arrives_harmless_and_cut(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Receiver(lambda _: HTTP[name].fine).running() as receiver,
        opened(HTTP[name], receiver.url, monkeypatch) as (channel, _),
    ):
        for message in hostile_messages(text):
            channel.send(Envelope(message))
    assert len(receiver.requests) > 1
    for request in receiver.requests:
        HTTP[name].check(request)
        for value in texts_in(request.json):
            assert "\x1b" not in value
            assert "\u202e" not in value
            assert "\r" not in value
            if name != "webhook":  # programs get text as it was, less control characters
                assert "https://evil" not in value
                assert "www.evil.example" not in value
                assert not value.startswith(("=", "+", "@"))


@lru_cache(1)  # neighbouring tests send the same to other channels
def hostile_messages(text: str) -> tuple[Message, ...]:
    """Of three cases, and of a review with its groups: `text` is wherever it can be."""
    review = filled_with(text)
    few = replace(review, cases=review.cases[:3], groups=())
    return (*messages_of(few), *messages_of(review))


def texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from texts_in(item)
        case list():
            for item in value:
                yield from texts_in(item)


# ------------------------------------------------------------------------------------------- Slack


def test_a_bot_changes_its_message_and_says_aloud_what_is_urgent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urgent, doubted = messages_of(SOLO)
    kind = HTTP["slack-bot"]
    with (
        Receiver(lambda _: kind.fine).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        remote = channel.send(Envelope(urgent))
        grown = replace(urgent, kind="update")
        assert channel.send(Envelope(grown, previous=remote)) == remote
        channel.send(Envelope(replace(doubted, kind="update"), previous=remote))
        channel.send(Envelope(replace(urgent, kind="resolve"), previous=remote))
        channel.send(Envelope(replace(urgent, kind="trigger"), previous=remote))  # it came back
    assert [request.path for request in receiver.requests] == [
        "/api/chat.postMessage", "/api/chat.update", "/api/chat.postMessage", "/api/chat.update",
        "/api/chat.update", "/api/chat.update", "/api/chat.postMessage",
    ]  # fmt: skip
    first, update, aloud, *_ = (request.json for request in receiver.requests)
    assert first["channel"] == "C01"
    assert first["metadata"]["event_payload"] == {"delivery_id": urgent.id}
    assert update["ts"] == aloud["thread_ts"] == "1790000000.000100"
    assert aloud["reply_broadcast"] is True


def test_a_message_that_is_gone_is_posted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = HTTP["slack-bot"]
    gone = Answer(body='{"ok": false, "error": "message_not_found"}')
    with (
        Receiver(in_turn(gone, then=kind.fine)).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        assert channel.send(Envelope(MESSAGES[0], previous="C01:1.2")) == "C01:1790000000.000100"
    assert [request.path for request in receiver.requests] == [
        "/api/chat.update",
        "/api/chat.postMessage",
    ]


@pytest.mark.parametrize(
    ("said", "permanent"), [("invalid_blocks", True), ("not_in_channel", False)]
)
def test_what_slack_says_no_to(said: str, permanent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(body=json.dumps({"ok": False, "error": said}))
    with (
        Receiver(lambda _: answer).running() as receiver,
        opened(HTTP["slack-bot"], receiver.url, monkeypatch) as (channel, _),
        pytest.raises(SendError, match=said) as raised,
    ):
        channel.send(Envelope(MESSAGES[0]))
    assert raised.value.permanent is permanent


@pytest.mark.parametrize("name", [*HTTP, "mail"])
def test_certificates_that_can_t_be_read_are_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    odd = tmp_path / "odd.pem"
    odd.write_text("no certificate", encoding="utf-8")
    channel = (
        mail_channel(9, odd, "tls", monkeypatch)
        if name == "mail"
        else opened(HTTP[name], "http://localhost:9", monkeypatch)
    )
    with pytest.raises(SecretError, match="no certificates can be read"), channel:
        raise AssertionError(name)


# ----------------------------------------------------------------------------------------- webhook


def test_while_a_secret_is_rotated_both_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    before = "whsec_" + base64.b64encode(b"the secret before that one").decode()
    monkeypatch.setenv("TEST_BEFORE", before)
    rotated = {"previous_secret": {"env": "TEST_BEFORE"}}
    with (
        Receiver().running() as receiver,
        opened(HTTP["webhook"], receiver.url, monkeypatch, **rotated) as (channel, vault),
    ):
        channel.send(Envelope(MESSAGES[0]))
    (request,) = receiver.requests
    for secret in (SIGNING, before):
        assert Webhook(secret).verify(request.body, request.headers)["id"] == MESSAGES[0].id
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    assert before not in f"{vars(channel)} {vault.hide(before)}"


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (base64.b64encode(b"x").decode(), "has 1 byte, but at least 24"),
        (base64.b64encode(b"x" * 23).decode(), "has 23 bytes, but at least 24"),
        (base64.b64encode(b"x" * 24).decode(), ""),
        (base64.b64encode(b"x" * 25).decode().rstrip("="), ""),
        ("not base64 at all, and long enough for it", "is not a signing secret"),
        ("\u00e9" * 40, "is not a signing secret"),
    ],
)
@pytest.mark.parametrize("which", ["secret", "previous_secret"])
def test_a_signing_secret_that_protects_nothing_is_refused(
    which: str, secret: str, said: str, bare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SHORT", secret if bare else f"whsec_{secret}")
    settings: dict[str, Any] = {which: {"env": "TEST_SHORT"}}
    if not said:
        with opened(HTTP["webhook"], "http://localhost:9", monkeypatch, **settings):
            return
    with (
        pytest.raises(SecretError, match=said) as raised,
        opened(HTTP["webhook"], "http://localhost:9", monkeypatch, **settings),
    ):
        raise AssertionError(secret)
    assert secret not in str(raised.value)
    assert "env TEST_SHORT" in str(raised.value)


# --------------------------------------------------------------------------------------- PagerDuty


def test_pagerduty_hears_of_one_incident_from_its_start_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = HTTP["pagerduty"]
    message = MESSAGES[0]
    with (
        Receiver(lambda _: kind.fine).running() as receiver,
        opened(kind, receiver.url, monkeypatch) as (channel, _),
    ):
        for told in ("trigger", "update", "acknowledge", "resolve"):
            channel.send(Envelope(replace(message, kind=told)))
    events = [request.json for request in receiver.requests]
    assert [event["event_action"] for event in events] == [
        "trigger", "trigger", "acknowledge", "resolve",
    ]  # fmt: skip
    assert {event["dedup_key"] for event in events} == {message.alert_id}


def test_pagerduty_s_incident_of_a_summary_ends_with_it() -> None:
    summary = with_id(summary_message(MESSAGES, MESSAGES[0].at), "msg_1", "summary")
    end = with_id(summary_over_message("msg_1", 2, MESSAGES[0].at), "msg_2", "resolve")
    events = [event_of(message) for message in (summary, end)]
    assert {event["dedup_key"] for event in events} == {"msg_1"}
    assert [event["event_action"] for event in events] == ["trigger", "resolve"]


# -------------------------------------------------------------------------------------------- mail


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_tls_with_a_stable_id(
    security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mail_server(tmp_path, tls=security == "tls") as box,
        mail_channel(box.port, box.ca_file, security, monkeypatch) as (channel, _),
    ):
        remote = channel.send(Envelope(MESSAGES[0]))
        channel.send(Envelope(MESSAGES[0], tries=1))
        channel.send(Envelope(replace(MESSAGES[0], id="msg_x", kind="update"), previous=remote))
    first, second, update = box.mails
    assert box.logins == [("keywatch", "mail-pass-word")]
    assert first["Message-ID"] == second["Message-ID"] == f"<{MESSAGES[0].id}@alerts.example.com>"
    assert update["In-Reply-To"] == first["Message-ID"]
    assert MESSAGES[0].title in first["Subject"]
    text, page = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert page is not None
    for key in MESSAGES[0].keys:
        assert key.key_id in text.get_content()
        assert key.key_id in page.get_content()


@contextmanager
def mail_channel(
    port: int, trusted: Path, security: str, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[tuple[Channel, Vault]]:
    monkeypatch.setenv("TEST_MAIL", "mail-pass-word")
    vault = Vault()
    values = {
        "kind": "mail", "host": "localhost", "port": port, "security": security,
        "username": "keywatch", "password": {"env": "TEST_MAIL"}, "ca_file": trusted,
        "sender": "keywatch@alerts.example.com", "to": ["soc@example.com"], "timeout_seconds": 5,
    } | settings  # fmt: skip
    channel = open_channel(channel_settings(values), vault)
    try:
        yield channel, vault
    finally:
        channel.close()


@pytest.mark.parametrize(("said", "permanent"), [("451 later", False), ("554 never", True)])
def test_a_mail_server_that_refuses(
    said: str, permanent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mail_server(tmp_path) as box,
        mail_channel(box.port, box.ca_file, "starttls", monkeypatch) as (channel, _),
    ):
        box.refuse = [said]
        with pytest.raises(SendError, match=said[:3]) as raised:
            channel.send(Envelope(MESSAGES[0]))
        channel.send(Envelope(MESSAGES[0]))
    assert raised.value.permanent is permanent
    assert len(box.mails) == 1


THREE = ["a@example.com", "b@example.com", "c@example.com"]


def test_each_recipient_has_an_answer_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mail_server(tmp_path) as box,
        mail_channel(box.port, box.ca_file, "starttls", monkeypatch, to=THREE) as (channel, _),
    ):
        box.replies = {THREE[1]: ["550 no"], THREE[2]: ["451 later", "421 closing"]}
        tries: list[SendError] = []
        for _ in range(3):
            answers = tries[-1].recipients if tries else {}
            with pytest.raises(SendError) as raised:
                channel.send(Envelope(MESSAGES[0], recipients=answers))
            tries.append(raised.value)
    assert box.asked == [*THREE, THREE[2], THREE[2]]
    assert len(box.mails) == 2
    assert [error.permanent for error in tries] == [False, False, True]
    assert {error.remote for error in tries} == {str(box.mails[0]["Message-ID"])}
    assert [dict(error.recipients) for error in tries] == [
        dict(zip(THREE, ("accepted", "550", last), strict=True))
        for last in ("451", "421", "accepted")
    ]
    assert str(tries[0]) == (
        "not delivered to b@example.com: the mailbox does not exist or refuses mail from here "
        "(550); c@example.com: the server can't accept the mail at the moment (451)"
    )
    assert str(tries[2]).endswith("or refuses mail from here (550)")
    assert [mail["To"] for mail in box.mails] == [", ".join(THREE)] * 2


@pytest.mark.parametrize(
    ("command", "reply", "permanent", "said"),
    [
        ("MAIL", "530 login", True, "the sender is refused: the server requires a login or TLS"),
        ("MAIL", "552 size", True, "the sender is refused: the mailbox is full or the mail too"),
        (
            "MAIL",
            "451 later",
            False,
            "the sender is refused: the server can't accept the mail at the moment",
        ),
        ("soc@example.com", "552 full", True, "soc@example.com: the mailbox is full"),
        (
            "soc@example.com",
            "530 login",
            True,
            "soc@example.com: the server requires a login or TLS",
        ),
        (
            "soc@example.com",
            "452 full",
            False,
            "soc@example.com: the server is temporarily out of storage",
        ),
        ("soc@example.com", "577 odd", True, "soc@example.com: refused"),
        (
            "soc@example.com",
            "421 bye",
            False,
            "soc@example.com: the server is temporarily unavailable",
        ),
        ("DATA", "552 size", True, "the mail is refused: the mailbox is full or the mail too"),
        (
            "DATA",
            "452 full",
            False,
            "the mail is refused: the server is temporarily out of storage",
        ),
    ],
)
def test_what_a_mail_server_says_is_told_in_words(
    command: str,
    reply: str,
    permanent: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        mail_server(tmp_path) as box,
        mail_channel(box.port, box.ca_file, "starttls", monkeypatch) as (channel, _),
    ):
        if command == "DATA":
            box.refuse = [reply]
        else:
            box.replies = {command: [reply]}
        with pytest.raises(SendError) as raised:
            channel.send(Envelope(MESSAGES[0]))
    assert said in str(raised.value)
    assert f"({reply[:3]})" in str(raised.value)
    assert (raised.value.permanent, raised.value.remote) == (permanent, None)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(("command", "unanswered"), [("RCPT", False), ("DATA", True)])
def test_a_mail_may_have_arrived_where_its_text_was_sent_and_no_answer_came(
    command: str, unanswered: bool, security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {} if security == "starttls" else {"username": None, "password": None}
    with (
        mail_server(tmp_path, tls=security == "tls") as box,
        mail_channel(box.port, box.ca_file, security, monkeypatch, **login) as (channel, _),
    ):
        box.hangs_up_at = command
        with pytest.raises(SendError) as raised:
            channel.send(Envelope(MESSAGES[0]))
        assert (raised.value.unanswered, raised.value.permanent) == (unanswered, False)
        assert len(box.mails) == unanswered
        box.hangs_up_at = ""
        channel.send(Envelope(MESSAGES[0], tries=1))
    assert len({str(mail["Message-ID"]) for mail in box.mails}) == 1


def test_a_mail_server_without_starttls_gets_nothing_and_is_named_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server(tmp_path, offers_tls=False) as box:
        with (
            mail_channel(box.port, box.ca_file, "starttls", monkeypatch) as (channel, _),
            pytest.raises(SendError, match="offers no STARTTLS") as raised,
        ):
            channel.send(Envelope(MESSAGES[0]))
        assert not raised.value.permanent
        with (
            mail_channel(box.port, box.ca_file, "tls", monkeypatch) as (channel, _),
            pytest.raises(SendError, match="check that security and port match"),
        ):
            channel.send(Envelope(MESSAGES[0]))
    assert box.mails == []
    assert box.logins == []


def test_a_wrong_password_or_certificate_is_told_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = ""
    with mail_server(tmp_path) as box:
        for wrong, said in (
            ({"ca_file": None}, "SSLCertVerificationError"),
            ({"password": {"env": "TEST_SECRET"}}, "535"),
        ):
            monkeypatch.setenv("TEST_SECRET", SECRET)
            with (
                mail_channel(box.port, box.ca_file, "starttls", monkeypatch, **wrong) as opened,
                pytest.raises(SendError, match=said) as raised,
            ):
                opened[0].send(Envelope(MESSAGES[0]))
            assert not raised.value.permanent
            shown += f"{raised.value!r} {opened[1]!r} {vars(opened[0])}"
    assert set(box.logins) == {("keywatch", SECRET)}
    assert box.mails == []
    assert "mail-pass-word" not in shown + caplog.text
    assert SECRET not in shown + caplog.text


@pytest.mark.parametrize("text", HOSTILE, ids=["all", "formula", "long", "mentions", "ampersands"])
def test_hostile_text_in_mail(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    review = filled_with(text)
    with (
        mail_server(tmp_path) as box,
        mail_channel(box.port, box.ca_file, "starttls", monkeypatch) as (channel, _),
    ):
        for message in messages_of(replace(review, cases=review.cases[:3], groups=())):
            channel.send(Envelope(message))
        for message in messages_of(review):
            channel.send(Envelope(message))
    assert len(box.mails) > 1
    for mail in box.mails:
        assert mail["Bcc"] is None
        assert mail["To"] == "soc@example.com"
        assert len(mail["Subject"]) <= 200
        text_part, page = mail.get_body(("plain",)), mail.get_body(("html",))
        assert text_part is not None
        assert page is not None
        for content in (text_part.get_content(), page.get_content()):
            assert len(content) < 60_000
            assert "\x1b" not in content
            assert "https://evil" not in content
            assert "\nBcc:" not in content
            assert not any(line.startswith("=") for line in content.splitlines())
        assert "<script" not in page.get_content()
        assert "<img" not in page.get_content()


# ----------------------------------------------------------------------------- file and stdout


def test_a_file_gets_each_message_once_and_mends_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    settings = channel_settings({"kind": "file", "path": path})
    first = open_channel(settings, Vault())
    first.send(Envelope(MESSAGES[0]))
    first.send(Envelope(MESSAGES[0]))
    first.close()
    with path.open("ab") as file:
        file.write(b'{"id": "msg_half')
    second = open_channel(settings, Vault())
    second.send(Envelope(MESSAGES[0], tries=1))
    second.send(Envelope(MESSAGES[-1]))
    second.close()
    lines = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert [line["id"] for line in lines] == [MESSAGES[0].id, MESSAGES[-1].id]
    for line in lines:
        jsonschema.validate(line, message_schema(), cls=jsonschema.Draft202012Validator)
    assert Message.from_json(json.dumps(lines[0])) == MESSAGES[0]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_can_t_be_written_is_an_error_to_try_again(tmp_path: Path) -> None:
    channel = open_channel(
        channel_settings({"kind": "file", "path": tmp_path / "no" / "x"}), Vault()
    )
    with pytest.raises(SendError, match="No such file") as raised:
        channel.send(Envelope(MESSAGES[0]))
    assert not raised.value.permanent


@pytest.mark.parametrize("text", HOSTILE, ids=["all", "formula", "long", "mentions", "ampersands"])
def test_hostile_text_on_standard_output_and_in_a_file(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review = filled_with(text)
    file = open_channel(channel_settings({"kind": "file", "path": tmp_path / "a"}), Vault())
    out = open_channel(channel_settings({"kind": "stdout"}), Vault())
    message = messages_of(replace(review, cases=review.cases[:1], groups=()))[0]
    for channel in (file, out):
        channel.send(Envelope(message))
        channel.close()
    for shown in (capsys.readouterr().out, (tmp_path / "a").read_text("ascii")):
        assert "\x1b" not in shown
        assert "\r" not in shown
        assert len(shown) < 60_000
    assert len((tmp_path / "a").read_text("ascii").splitlines()) == 1
