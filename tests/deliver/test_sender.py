"""Sending: one channel down, a lake that is busy, a sender that is killed."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keywatch.deliver import Outbox, deliver_due, outbox, planning, put_report
from keywatch.deliver.channel import Envelope
from keywatch.deliver.claims import Claims
from keywatch.deliver.message import Message
from keywatch.deliver.sender import only_sender, send
from keywatch.errors import LakeBusyError
from keywatch.lake import Lake, utc_now
from keywatch.model import Action, Case
from keywatch.notices import notices_to
from keywatch.operate.diagnosis import diagnose
from keywatch.review import alerts
from keywatch.review.verdicts import VerdictReport
from keywatch.settings import LakeSettings, Settings, load_settings
from keywatch.settings.deliver import DeliverSettings
from tests.deliver.alerts_of import review_of
from tests.deliver.receivers import Answer, Receiver, Request, in_turn, mail_server
from tests.forked import Forked
from tests.long import long_form
from tests.report.reviews import DOUBTED, SCANNED, WEEK

pytestmark = pytest.mark.usefixtures("new_lake")

SIGNING = "whsec_c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1iZS1zaG93bg=="
QUICK = {"first_pause_seconds": 0.05, "longest_pause_seconds": 0.4, "run_seconds": 10}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SIGNING", SIGNING)


def webhook(receiver: Receiver, **values: Any) -> dict[str, Any]:
    return {
        "kind": "webhook", "url": receiver.url, "secret": {"env": "TEST_SIGNING"},
        "timeout_seconds": 1, **values,
    }  # fmt: skip


def settings_of(channels: dict[str, Any], **values: Any) -> DeliverSettings:
    return DeliverSettings.model_validate({**QUICK, "channels": channels, **values})


def reviewed(lake: Lake, settings: DeliverSettings, *cases: Case, run: str = "run_1") -> None:
    with lake.writing():
        Outbox(settings).tell(lake, alerts.update(lake, review_of(*cases, run=run), 10.0))


def keys(number: int) -> list[Case]:
    """Of all severities, in no order."""
    rng = random.Random(4)
    kinds: list[Action] = ["revoke", "rotate", "investigate"]
    actions = rng.choices(kinds, k=number)
    return [
        replace(
            SCANNED, key_id=f"key_{n:04}", action=action, bits=round(rng.uniform(10, 60), 2),
            blast_radius=SCANNED.blast_radius if rng.random() < 0.5 else None,
        )
        for n, action in enumerate(actions)
    ]  # fmt: skip


def ids(requests: Sequence[Request]) -> list[str]:
    return [request.headers["webhook-id"] for request in requests]


def outcomes(lake: Lake) -> Counter[str]:
    return Counter(
        outcome for (outcome,) in lake.rows("SELECT outcome FROM lake.delivery_outcomes")
    )


def test_a_message_that_fails_is_tried_again_with_the_same_id(tmp_path: Path) -> None:
    fails = [Answer(500), Answer(429, "", {"Retry-After": "1"}), Answer(close=True)]
    with (
        Receiver(in_turn(*fails, then=Answer())).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, SCANNED)
        begun = time.monotonic()
        report = deliver_due(lake, settings)
        assert time.monotonic() - begun >= 1  # Retry-After is heard
        assert len(set(ids(receiver.requests))) == 1
        assert len(receiver.requests) == 4
        assert (report.channels[0].sent, report.later) == (1, 0)
        assert outcomes(lake) == {"failed": 2, "unanswered": 1, "sent": 1}
        assert deliver_due(lake, settings).channels == ()


def give_verdict(lake: Lake, settings: DeliverSettings) -> None:
    report = VerdictReport(SCANNED.key_id, WEEK, "benign", ())
    with lake.writing():
        Outbox(settings).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))


@pytest.mark.parametrize("tries", [0, 1])
def test_a_receiver_that_was_down_hears_nothing_of_a_key_that_was_cleared(
    tries: int, tmp_path: Path
) -> None:
    with (
        Receiver(lambda _: Answer(503, "", {"Retry-After": "3600"})).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, SCANNED)
        for _ in range(tries):
            deliver_due(lake, settings)
        give_verdict(lake, settings)
        receiver.behave = lambda _: Answer()
        report = deliver_due(lake, settings)
        assert (report.channels, report.later) == ((), 0)
        assert len(receiver.requests) == tries


@pytest.mark.parametrize("answer", [Answer(hang_seconds=300), Answer(close=True)])
@pytest.mark.parametrize("max_tries", [1, 12])
def test_who_may_have_heard_of_a_cleared_key_hears_the_end(
    answer: Answer, max_tries: int, tmp_path: Path
) -> None:
    with (
        Receiver(lambda _: answer).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        hook = webhook(receiver) | {"timeout_seconds": 0.5}
        settings = settings_of({"hook": hook}, max_tries=max_tries, first_pause_seconds=0.001)
        reviewed(lake, settings, SCANNED)
        deliver_due(lake, settings)
        tries = len(receiver.requests)
        give_verdict(lake, settings)
        receiver.behave = lambda _: Answer()
        deliver_due(lake, settings)
        (end,) = receiver.requests[tries:]
        assert end.json["kind"] == "resolve"
        assert end.headers["webhook-id"] != receiver.requests[0].headers["webhook-id"]
        assert deliver_due(lake, settings).channels == ()


def test_a_channel_that_comes_back_to_the_settings_hears_what_is_true_then(tmp_path: Path) -> None:
    with Receiver().running() as receiver, Lake.open(tmp_path / "lake") as lake:
        both = settings_of({"hook": webhook(receiver), "chat": webhook(receiver)})
        chat = settings_of({"chat": webhook(receiver)})
        reviewed(lake, both, DOUBTED)
        deliver_due(lake, both)
        reviewed(lake, both, SCANNED)  # waits for both, and only chat gets it
        deliver_due(lake, chat)
        receiver.requests.clear()
        give_verdict(lake, chat)
        with lake.writing():
            report = VerdictReport(DOUBTED.key_id, WEEK, "benign", ())
            Outbox(chat).tell(lake, alerts.after_verdict(lake, report, "ana", "mine"))
        deliver_due(lake, chat)
        assert [request.json["kind"] for request in receiver.requests] == ["resolve"] * 2
        receiver.requests.clear()
        deliver_due(lake, both)
        (end,) = [request.json for request in receiver.requests]
        assert (end["kind"], end["keys"][0]["key_id"]) == ("resolve", DOUBTED.key_id)
        assert deliver_due(lake, both).channels == ()


class _Waits:
    """A channel whose first message takes until `seen` is set."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.got: list[Message] = []

    def send(self, envelope: Envelope) -> None:
        self.got.append(envelope.message)
        assert self.seen.wait(300)

    def close(self) -> None:
        self.seen.set()


def test_a_key_that_is_cleared_while_a_run_sends_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, looks = _Waits(), []

    def look(lake: Lake, orders: Mapping[str, int]) -> set[str]:
        looks.append(orders)
        if len(looks) == 2:  # what the first look found is known
            channel.seen.set()
        return changed_since(lake, orders)

    changed_since = outbox.changed_since
    monkeypatch.setattr(outbox, "changed_since", look)
    first = replace(SCANNED, key_id="key_first", bits=SCANNED.bits + 100)
    settings = settings_of({"all": {"kind": "stdout", "timeout_seconds": 300}})
    with Lake.open(tmp_path / "lake") as lake:
        reviewed(lake, settings, first, SCANNED)
        made = planning.plan(lake, settings, utc_now(), ["all"])
        give_verdict(lake, settings)
        claims = Claims(tmp_path / "lake")
        (done,) = send(lake, made, {"all": channel}, settings, claims, str)
        assert (done.sent, done.later) == (1, 1)
        assert [message.keys[0].key_id for message in channel.got] == ["key_first"]


def test_a_receiver_s_pause_is_kept_for_the_next_run(tmp_path: Path) -> None:
    with (
        Receiver(lambda _: Answer(503, "", {"Retry-After": "3600"})).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, SCANNED)
        assert deliver_due(lake, settings).later == 1
        [(asked_seconds,)] = lake.rows(
            "SELECT epoch(next_due_at - recorded_at) FROM lake.delivery_outcomes"
        )
        assert asked_seconds == pytest.approx(3600, abs=0.001)
        assert deliver_due(lake, settings).later == 1
        assert len(receiver.requests) == 1


def test_tries_come_to_an_end(tmp_path: Path) -> None:
    with (
        Receiver(lambda _: Answer(500, "oops")).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        settings = settings_of({"hook": webhook(receiver)}, max_tries=3)
        reviewed(lake, settings, SCANNED)
        report = deliver_due(lake, settings)
        assert (report.channels[0].sent, report.channels[0].dead, report.later) == (0, 1, 0)
        assert report.channels[0].error == "HTTP 500: oops"
        assert len(receiver.requests) == 3
        receiver.behave = lambda _: Answer()
        assert deliver_due(lake, settings).channels == ()
        assert deliver_due(lake, settings, again=True).channels[0].sent == 1
        assert len(set(ids(receiver.requests))) == 1


def test_a_message_that_can_never_be_taken_is_not_tried_again(tmp_path: Path) -> None:
    answers = in_turn(Answer(400, "no"), then=Answer())
    with (
        Receiver(answers).running() as receiver,
        Lake.open(tmp_path / "lake") as lake,
    ):
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, SCANNED, DOUBTED)
        report = deliver_due(lake, settings)
        assert (report.channels[0].sent, report.channels[0].dead) == (1, 1)
        assert len(receiver.requests) == 2


def test_a_channel_that_is_down_or_hangs_holds_up_no_other(tmp_path: Path) -> None:
    hangs = Receiver(lambda _: Answer(hang_seconds=60))
    with (
        Receiver().running() as fine,
        hangs.running(),
        Lake.open(tmp_path / "lake") as lake,
    ):
        nobody = {**webhook(fine), "url": "http://127.0.0.1:9"}
        channels = {"hangs": webhook(hangs), "down": nobody, "fine": webhook(fine)}
        settings = settings_of(channels, run_seconds=3, first_pause_seconds=60)
        reviewed(lake, settings, *keys(30))
        report = deliver_due(lake, settings)
        by_name = {one.channel: one for one in report.channels}
        assert by_name["fine"].sent == len(fine.requests) == 30
        for name in ("hangs", "down"):
            assert by_name[name].sent == 0
            assert by_name[name].later == 30
            assert by_name[name].error is not None
        assert report.later == 60
        # A receiver that answers to nothing is not asked thirty times.
        assert len(hangs.requests) <= 4
        tries = lake.value("SELECT max(tries) FROM lake.delivery_outcomes")
        assert tries == 1


def test_a_report_is_mailed_once_with_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MAIL", "mail-pass-word")
    report = tmp_path / "week.html"
    report.write_bytes(b"<html>\r\n\xc3\xa9</html>\n")
    with mail_server(tmp_path) as box, Lake.open(tmp_path / "lake") as lake:
        mail = {
            "kind": "mail", "host": "localhost", "port": box.port, "username": "keywatch",
            "password": {"env": "TEST_MAIL"}, "ca_file": box.ca_file,
            "sender": "keywatch@example.com", "to": ["soc@example.com"],
        }  # fmt: skip
        settings = settings_of({"mail": mail, "out": {"kind": "stdout"}})
        assert put_report(lake, report, settings) == 1
        assert put_report(lake, report, settings) == 0
        assert [one.channel for one in deliver_due(lake, settings).channels] == ["mail"]
    (got,) = box.mails
    (attached,) = got.iter_attachments()
    assert attached.get_filename() == "week.html"
    assert attached.get_content_type() == "text/html"
    assert attached.get_payload(decode=True) == report.read_bytes()
    assert "week.html" in got["Subject"]


def test_who_has_a_mail_does_not_get_it_again_and_hears_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MAIL", "mail-pass-word")
    to = ["a@example.com", "b@example.com", "c@example.com"]
    with mail_server(tmp_path) as box, Lake.open(tmp_path / "lake") as lake:
        mail = {
            "kind": "mail", "host": "localhost", "port": box.port, "username": "keywatch",
            "password": {"env": "TEST_MAIL"}, "ca_file": box.ca_file,
            "sender": "keywatch@example.com", "to": to,
        }  # fmt: skip
        settings = settings_of({"mail": mail}, first_pause_seconds=0.01)
        box.replies = {to[1]: ["550 no"], to[2]: ["451 later"]}
        reviewed(lake, settings, SCANNED)
        (done,) = deliver_due(lake, settings).channels
        assert box.asked == [*to, to[2]]
        assert (done.sent, done.dead) == (0, 1)
        assert done.error is not None
        assert done.error.startswith("not delivered to b@example.com: the mailbox does not exist")
        (standing,) = outbox.standings(lake, ["mail"])
        assert (standing.dead, standing.waiting) == (1, 0)
        # His mailbox is there now: the others have the mail.
        assert deliver_due(lake, settings, again=True).channels[0].sent == 1
        assert box.asked[4:] == [to[1]]

        box.asked.clear()
        box.replies = {to[0]: ["550 no"]}
        give_verdict(lake, settings)
        deliver_due(lake, settings)
        assert box.asked == to
        assert box.mails[-1]["Subject"].startswith("[Keywatch] CLOSED")


class _Drip(threading.Thread):
    """A server that sends a byte of its answer every now and then, for ever."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.over = threading.Event()

    def run(self) -> None:
        connection, _ = self._socket.accept()
        connection.recv(65536)
        with connection, self._socket:
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-drip: ")
            while not self.over.wait(0.2):
                try:
                    connection.sendall(b".")
                except OSError:
                    return


@pytest.mark.slow
def test_an_answer_that_never_ends_is_given_up(tmp_path: Path) -> None:
    drip = _Drip()
    drip.start()
    with (
        Receiver().running() as fine,
        Lake.open(tmp_path / "lake") as lake,
    ):
        channels = {"drip": {**webhook(fine), "url": drip.url}, "fine": webhook(fine)}
        settings = settings_of(channels, run_seconds=1)
        reviewed(lake, settings, SCANNED)
        report = deliver_due(lake, settings)
        drip.over.set()
        by_name = {one.channel: one for one in report.channels}
        assert by_name["fine"].sent == 1
        assert by_name["drip"].error == "no answer: the channel does not respond"
        assert (by_name["drip"].later, report.later) == (1, 1)
        assert outcomes(lake)["unanswered"] == 1


def test_what_was_sent_while_the_lake_is_busy_is_not_sent_again(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    patient = LakeSettings(wait_seconds=0.2)
    told: list[str] = []
    with Lake.open(folder) as lake:
        with Receiver().running() as receiver:
            settings = settings_of({"hook": webhook(receiver)})
            reviewed(lake, settings, SCANNED)
            with Lake.open(folder, patient) as sending:
                with lake.writing(), notices_to(told.append):
                    report = deliver_due(sending, settings)
                assert report.channels[0].sent == 1
                assert "stay in the journal" in "".join(told)
                assert lake.value("SELECT count(*) FROM lake.delivery_outcomes") == 0
                assert deliver_due(sending, settings).channels == ()
            assert len(receiver.requests) == 1
        assert outcomes(lake) == {"sent": 1}


def test_only_one_sends_at_a_time(tmp_path: Path) -> None:
    with (
        Lake.open(tmp_path / "lake") as lake,
        only_sender(lake, 0),
        pytest.raises(LakeBusyError, match="another process is sending"),
    ):
        deliver_due(lake, settings_of({"out": {"kind": "stdout"}}))


def test_a_channel_without_its_secret_holds_up_no_other(tmp_path: Path) -> None:
    with Receiver().running() as fine, Lake.open(tmp_path / "lake") as lake:
        missing = {**webhook(fine), "secret": {"env": "TEST_NOT_SET"}}
        odd = {**webhook(fine), "secret": {"env": "TEST_ODD"}}
        os.environ["TEST_ODD"] = "whsec_é"
        block = {**webhook(fine), "secret": {"prefect": "signing"}}
        channels = {"missing": missing, "odd": odd, "block": block, "fine": webhook(fine)}
        settings = settings_of(channels)
        reviewed(lake, settings, SCANNED)
        report = deliver_due(lake, settings)
        del os.environ["TEST_ODD"]
        assert [one.channel for one in report.channels] == ["fine"]
        assert report.later == 3
        assert report.unusable == {
            "missing": "the environment variable TEST_NOT_SET is not set",
            "odd": "the secret in env TEST_ODD is not a signing secret; expected whsec_ followed "
            "by Base64",
            "block": "the Prefect block signing can be read inside a Prefect flow only; use env "
            "or file on the command line",
        }
        report = deliver_due(lake, settings, prefect={"signing": SIGNING}.__getitem__)
        assert [one.channel for one in report.channels] == ["block"]


def test_what_a_channel_trips_over_is_an_error_of_that_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Receiver().running() as receiver, Lake.open(tmp_path / "lake") as lake:
        settings = settings_of({"hook": webhook(receiver)}, max_tries=1)
        reviewed(lake, settings, SCANNED, DOUBTED)
        # What no channel expects: a message that is not as this version writes it.
        lake.execute(
            'UPDATE lake.deliveries SET message = replace(message, \'"at": "20\', \'"at": "x\')'
        )
        report = deliver_due(lake, settings)
        assert report.channels[0].sent == 2
    assert SIGNING not in caplog.text


def test_doctor_tells_since_when_a_channel_waits_and_of_a_receiver_that_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"
    long_ago = datetime(2026, 10, 5, 6)
    hook = {"kind": "webhook", "secret": {"env": "TEST_SIGNING"}}
    channels = {
        "far": {**hook, "url": "https://soar.example.com/"},
        "near": {**hook, "url": "https://10.1.2.3/"},
        "wrong": {**hook, "url": {"env": "TEST_URL"}},
    }
    monkeypatch.setenv("TEST_URL", "https://169.254.169.254/")
    settings = settings_of(channels)

    def told() -> dict[str, tuple[str, str]]:
        found = diagnose(folder, Settings(deliver=settings), utc_now())
        lines = [one for one in found if one.check == "channel"]
        return {one.text.split()[1]: (one.status, one.text) for one in lines}

    with Lake.open(folder) as lake:
        assert lake.secret
        assert told()["far"] == ("ok", "channel far (webhook): nothing sent yet")
        reviewed(lake, settings, SCANNED)
        assert told()["far"] == ("ok", "channel far (webhook): nothing sent yet, 1 message waiting")
        lake.execute("UPDATE lake.deliveries SET created_at = $at", at=long_ago)
    late = "nothing sent yet, 1 message waiting, the oldest since 2026-10-05 06:00 UTC"
    assert told() == {
        "far": ("ok", f"channel far (webhook): {late}"),
        "near": (
            "note",
            f"channel near (webhook): {late}; its receiver is in a private network: check that "
            "this is intended",
        ),
        "wrong": (
            "bad",
            f"channel wrong (webhook): {late}; the address in env TEST_URL: it is a link-local or "
            "cloud metadata address, which is not allowed; set the receiver's own address",
        ),
    }


# --------------------------------------------------------------------------------- crash and order

KEYS, KILLS, MOST_BETWEEN = long_form((1000, 20, 60), (250, 5, 30))
FAILING = 0.3


@pytest.mark.slow
def test_many_recommendations_through_failures_and_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(7)
    effects: dict[str, int] = {}
    order: list[str] = []

    def behave(request: Request) -> Answer:
        """Acts once on an id; fails before or after it has acted, as real ones do."""
        id_ = request.headers["webhook-id"]
        if id_ not in order_set:
            order_set.add(id_)
            order.append(id_)
        dice = rng.random()
        if dice < FAILING / 2:
            return Answer(503, "", {"Retry-After": "0"}) if dice < FAILING / 4 else Answer(500)
        effects[id_] = effects.get(id_, 0) + 1
        return Answer(close=True) if dice < FAILING else Answer()

    order_set: set[str] = set()
    with Receiver(behave).running() as receiver:
        config = tmp_path / "keywatch.toml"
        config.write_text(
            "[deliver]\nfirst_pause_seconds = 0.2\nlongest_pause_seconds = 1.0\nmax_tries = 40\n"
            f'run_seconds = 30\n[deliver.channels.hook]\nkind = "webhook"\nurl = "{receiver.url}"\n'
            'secret = { env = "TEST_SIGNING" }\n',
            encoding="utf-8",
        )
        with Lake.open(tmp_path / "lake") as lake:
            reviewed(lake, load_settings(config).deliver, *keys(KEYS))
            rank: dict[str, float] = dict(
                lake.rows("SELECT delivery_id, rank FROM lake.deliveries")
            )
        assert len(rank) == KEYS
        begun = time.monotonic()
        kills = runs = 0
        while runs < KILLS + 20:
            runs += 1
            process = Forked("deliver", "--lake", tmp_path / "lake", "--config", config)
            if kills < KILLS:
                seen = len(receiver.requests)
                while len(receiver.requests) < seen + rng.randint(1, MOST_BETWEEN):
                    if process.ends(0.001):
                        break
                kills += process.kill() == -signal.SIGKILL
                continue
            assert process.ends(600)
            assert process.exit_code == 0, process.said
            with Lake.open(tmp_path / "lake") as lake:
                if not outbox.pending(lake):
                    break
        seconds = time.monotonic() - begun
        with Lake.open(tmp_path / "lake") as lake:
            left = outbox.pending(lake)
            kept = outcomes(lake)
            sent = lake.value(
                "SELECT count(DISTINCT delivery_id) FROM lake.delivery_outcomes "
                "WHERE outcome = 'sent'"
            )
    twice = sum(count - 1 for count in effects.values())
    with capsys.disabled():
        print(
            f"\n{KEYS:,} recommendations, {kills} kills, {len(receiver.requests):,} requests, "
            f"{kept['failed']:,} recorded failures, {len(effects):,} arrived, {twice} sent again "
            f"after the receiver had acted (same id), {seconds:.0f} s"
        )
    assert kills == KILLS
    assert left == []
    assert set(effects) == set(rank)  # every one arrived, and no other id was ever sent
    assert sent == KEYS
    assert set(kept) == {"sent", "failed", "unanswered"}
    assert [rank[id_] for id_ in order] == sorted(rank.values(), reverse=True)
