"""Machines that send from one lake: each message once where they live, again where one dies."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest

from keywatch.deliver import Outbox, claims, deliver_due, outbox, render_delivery, send_test
from keywatch.deliver.claims import SharedClaims, claims_of
from keywatch.deliver.journal import Record
from keywatch.errors import LakeBusyError, LakeReadOnlyError, LakeUnreachableError
from keywatch.lake import Lake, utc_now
from keywatch.notices import notices_to
from keywatch.operate.diagnosis import diagnose
from keywatch.operate.move import move
from keywatch.review import alerts
from keywatch.settings import LakeSettings, Settings
from keywatch.settings.deliver import DeliverSettings
from tests import postgres
from tests.deliver.alerts_of import review_of
from tests.deliver.machines import send_all
from tests.deliver.receivers import Answer, Receiver, Request
from tests.deliver.test_sender import SIGNING, ids, keys, outcomes, reviewed, settings_of, webhook
from tests.forked import Forked
from tests.long import long_form
from tests.report.reviews import DOUBTED

pytestmark = pytest.mark.skipif(
    postgres.programs() is None, reason="no PostgreSQL server programs here"
)
PATIENCE_SECONDS = 300.0
SHORT_SECONDS = 0.5
"""By which a lease is longer than the channel's timeout, where one is to end in a test."""
MACHINES, KEYS = 4, 8
ROUNDS, KILLS = long_form((3, 6), (1, 3))
NUMBERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as found:
        yield found


@pytest.fixture
def storage(server: str, tmp_path: Path) -> LakeSettings:
    """An empty shared lake; machine ``a`` made it."""
    name = f"lake_{next(NUMBERS)}"
    made = LakeSettings(
        catalog=postgres.database(server, name),
        data_path=str(tmp_path / "shared"),
        wait_seconds=PATIENCE_SECONDS,
    )
    Lake.open(tmp_path / "a", made, create=True).close()
    return made


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SIGNING", SIGNING)


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def was_killed_after(machine: Forked, receiver: Receiver, requests: int) -> bool:
    """Kill it when so many more requests have come; whether it had not ended before."""
    enough = len(receiver.requests) + requests
    until(lambda: len(receiver.requests) >= enough or machine.ends(0))
    return machine.kill() == -signal.SIGKILL


def shared_claims(lake: Lake, lease_seconds: float) -> SharedClaims:
    server = lake.server()
    assert lake.folder is not None
    assert server is not None
    return SharedClaims(lake.folder, server, lease_seconds)


def end_leases(lake: Lake) -> None:
    """As if the time of each had passed."""
    server = lake.server()
    assert server is not None
    server.execute("UPDATE keywatch_claims SET lease_until = now()")
    server.close()


@pytest.mark.slow
def test_four_machines_send_each_message_once(storage: LakeSettings, tmp_path: Path) -> None:
    dice = random.Random(5)
    taken: Counter[str] = Counter()

    def behave(request: Request) -> Answer:
        if dice.random() < 0.2:
            return Answer(503, "", {"Retry-After": "0"})
        taken[request.headers["webhook-id"]] += 1
        return Answer()

    with Receiver(behave).running() as one, Receiver(behave).running() as two:
        settings = settings_of({"one": webhook(one), "two": webhook(two)}, max_tries=50)
        for nth in range(ROUNDS):
            with Lake.open(tmp_path / "a", storage) as lake:
                cases = [replace(each, key_id=f"{each.key_id}-{nth}") for each in keys(KEYS)]
                reviewed(lake, settings, *cases, run=f"run_{nth}")
            machines = [
                Forked.calling(send_all, tmp_path / name, storage, settings, 60.0)
                for name in "abcdefgh"[:MACHINES]
            ]
            for machine in machines:
                assert machine.ends(PATIENCE_SECONDS)
                assert machine.said.splitlines()[-1] == "done", machine.said
    with Lake.open(tmp_path / "a", storage) as lake:
        due = {id_ for (id_,) in lake.rows("SELECT delivery_id FROM lake.deliveries")}
        assert len(due) == 2 * ROUNDS * KEYS
        assert taken == dict.fromkeys(due, 1)
        assert outcomes(lake)["sent"] == len(due)
        assert claims.claimed(lake) == {}


def test_two_machines_at_once_ask_an_owner_once(
    storage: LakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_BOT", "xoxb-secret-of-the-bot")
    taken = Answer(body='{"ok": true, "channel": "D01", "ts": "1.2"}', hang_seconds=0.5)
    with Receiver(lambda _: taken).running() as slack:
        bot = {
            "kind": "slack", "token": {"env": "TEST_BOT"}, "conversation": "C01",
            "api_url": f"{slack.url}/api/",
        }  # fmt: skip
        settings = Settings.model_validate(
            {
                "deliver": {"channels": {"bot": bot}},
                "owners": {"channel": "bot", "people": {"team-a": {"slack": "U0123456789"}}},
            }
        )
        with Lake.open(tmp_path / "a", storage) as lake, lake.writing():
            case = replace(DOUBTED, owner="team-a")
            changes = alerts.update(lake, review_of(case), 10.0)
            assert Outbox(settings.deliver, settings.owners).tell(lake, changes) == 1
        (tmp_path / "b").mkdir()
        shutil.copy(tmp_path / "a" / "key-hash.secret", tmp_path / "b")
        machines = [
            Forked.calling(
                send_all, tmp_path / name, storage, settings.deliver, 60.0, settings.owners
            )
            for name in "ab"
        ]
        for machine in machines:
            assert machine.ends(PATIENCE_SECONDS)
            assert machine.said.splitlines()[-1] == "done", machine.said
        (asked,) = slack.requests
        assert asked.json["channel"] == "U0123456789"
    with Lake.open(tmp_path / "a", storage) as lake:
        assert outcomes(lake) == {"sent": 1}


@pytest.mark.slow
def test_of_machines_that_are_killed_in_turn_nothing_is_lost(
    storage: LakeSettings, tmp_path: Path
) -> None:
    dice = random.Random(6)
    with Receiver().running() as receiver:
        settings = settings_of({"hook": webhook(receiver)})
        with Lake.open(tmp_path / "a", storage) as lake:
            reviewed(lake, settings, *keys(KILLS * 10))
        kills = 0
        for nth in range(KILLS):
            machine = Forked.calling(
                send_all, tmp_path / "abcd"[nth % 4], storage, settings, SHORT_SECONDS
            )
            kills += was_killed_after(machine, receiver, dice.randint(1, 6))
        last = Forked.calling(send_all, tmp_path / "a", storage, settings, SHORT_SECONDS)
        assert last.ends(PATIENCE_SECONDS)
        assert last.exit_code == 0, last.said
        arrived = Counter(ids(receiver.requests))
    with Lake.open(tmp_path / "a", storage) as lake:
        due = {id_ for (id_,) in lake.rows("SELECT delivery_id FROM lake.deliveries")}
        assert arrived.keys() == due
        # Only the message that was under way is sent again.
        assert sum(arrived.values()) - len(due) <= kills
        assert kills > 0
        assert outcomes(lake) == {"sent": len(due)}


def test_a_machine_that_dies_leaves_its_claim_and_another_sends_after_the_lease(
    storage: LakeSettings, tmp_path: Path
) -> None:
    arrived = threading.Event()

    def behave(request: Request) -> Answer:
        if len(receiver.requests) < 3:
            return Answer()
        arrived.set()
        return Answer(hang_seconds=PATIENCE_SECONDS)

    with Receiver(behave).running() as receiver:
        settings = settings_of({"hook": webhook(receiver, timeout_seconds=2)})
        with Lake.open(tmp_path / "a", storage) as lake:
            reviewed(lake, settings, *keys(6))
        dies = Forked.calling(send_all, tmp_path / "a", storage, settings, SHORT_SECONDS)
        assert arrived.wait(PATIENCE_SECONDS), dies.said
        assert dies.kill() == -signal.SIGKILL
        receiver.behave = lambda _: Answer()
        told: list[str] = []
        with Lake.open(tmp_path / "b", storage) as lake, notices_to(told.append):
            done = deliver_due(lake, settings, wait_seconds=PATIENCE_SECONDS)
            # What was sent and recorded is not sent again; what was under way is.
            sent = ids(receiver.requests)
            assert done.channels[0].sent == 4
            assert Counter(sent) == Counter([*dict.fromkeys(sent), sent[2]])
            assert len(set(sent)) == 6
            assert outcomes(lake) == {"sent": 6}
        assert not told or "has been sending since" in told[0]


def test_a_test_message_waits_for_the_machine_that_has_the_channel(
    storage: LakeSettings, tmp_path: Path
) -> None:
    with Receiver().running() as receiver, Lake.open(tmp_path / "b", storage) as lake:
        settings = settings_of({"hook": webhook(receiver), "other": webhook(receiver)})
        with claims_of(lake, settings) as theirs:
            assert theirs.take({"hook"}) == {"hook"}
            with pytest.raises(LakeBusyError, match=r"channel hook: .* has been sending since"):
                send_test(lake, "hook", settings)
            assert receiver.requests == []
            assert "was sent" in send_test(lake, "other", settings)
        assert "was sent" in send_test(lake, "hook", settings)
        assert [request.json["kind"] for request in receiver.requests] == ["test", "test"]
        assert claims.claimed(lake) == {}
        assert lake.value("SELECT count(*) FROM lake.deliveries") == 0


def test_a_machine_that_stood_still_sends_nothing_that_another_has_taken_over(
    storage: LakeSettings, tmp_path: Path
) -> None:
    arrived = threading.Event()

    def behave(request: Request) -> Answer:
        if len(receiver.requests) == 2:
            arrived.set()
        return Answer(hang_seconds=0 if len(receiver.requests) != 2 else 1)

    with Receiver(behave).running() as receiver:
        settings = settings_of({"hook": webhook(receiver, timeout_seconds=3)})
        with Lake.open(tmp_path / "a", storage) as lake:
            reviewed(lake, settings, *keys(5))
        still = Forked.calling(send_all, tmp_path / "a", storage, settings, SHORT_SECONDS)
        assert arrived.wait(PATIENCE_SECONDS), still.said
        still.signal(signal.SIGSTOP)
        with Lake.open(tmp_path / "b", storage) as lake:
            (done,) = deliver_due(lake, settings, wait_seconds=PATIENCE_SECONDS).channels
            assert (done.sent, done.error) == (4, None)
            before = len(receiver.requests)
            still.signal(signal.SIGCONT)
            assert still.ends(PATIENCE_SECONDS)
            assert still.exit_code == 0, still.said
            assert len(receiver.requests) == before
            assert len(set(ids(receiver.requests))) == 5


def test_a_claim_is_one_machine_s_for_its_lease(storage: LakeSettings, tmp_path: Path) -> None:
    with Lake.open(tmp_path / "a", storage) as lake:
        assert claims.claimed(lake) == {}
        one, two = shared_claims(lake, 600), shared_claims(lake, 600)
        try:
            assert one.take(["a", "b"]) == {"a", "b"}
            assert two.take(["b", "c"]) == {"c"}
            assert set(two.others()) == {"a", "b"}
            assert set(claims.claimed(lake)) == {"a", "b", "c"}
            assert one.begin("a")
            assert not two.begin("a")
            end_leases(lake)
            assert not one.begin("a")
            with pytest.raises(LakeBusyError, match="channel a, b: another machine sends now"):
                one.check(["a", "b"])
            assert two.take(["a"]) == {"a"}
            two.check(["a"])
            one.release()
            assert set(one.others()) == {"a"}
        finally:
            one.close()
            two.close()
        assert claims.claimed(lake) == {}


def test_a_lease_is_renewed_while_its_machine_lives(storage: LakeSettings, tmp_path: Path) -> None:
    with Lake.open(tmp_path / "a", storage) as lake:
        one = shared_claims(lake, 2)
        try:
            one.take(["a"])
            first = claims.claimed(lake)["a"]
            until(lambda: claims.claimed(lake)["a"].until > first.until)
            assert claims.claimed(lake)["a"].since == first.since
        finally:
            one.close()


def test_who_finds_a_channel_claimed_says_by_whom_and_sends_for_the_others(
    storage: LakeSettings, tmp_path: Path
) -> None:
    with (
        Receiver().running() as receiver,
        Lake.open(tmp_path / "a", storage) as lake,
    ):
        settings = settings_of({"free": webhook(receiver), "taken": webhook(receiver)})
        reviewed(lake, settings, *keys(1))
        other = shared_claims(lake, 600)
        other.take(["taken", "nobody's"])
        report = deliver_due(lake, settings)
        assert [(one.channel, one.sent) for one in report.channels] == [("free", 1)]
        (left,) = report.left
        assert (left.channel, report.later) == ("taken", 1)
        assert f"channel taken: {left}; its messages are left to it" in render_delivery(report)[1]
        used = Settings().model_copy(update={"storage": storage, "deliver": settings})
        found = diagnose(tmp_path / "a", used, utc_now())
        lines = {one.text.split()[1]: one.text for one in found if one.check == "channel"}
        assert (
            f"; {left.by} has been sending since {left.since:%Y-%m-%d %H:%M:%S}" in (lines["taken"])
        )
        assert "sending" not in lines["free"]
        assert f"process {os.getpid()}" in left.by
        with pytest.raises(LakeBusyError, match=f"{os.getpid()} has been sending since .* nothing"):
            move(tmp_path / "a", storage, tmp_path / "moved", LakeSettings())
        other.close()
        assert deliver_due(lake, settings).channels[0].sent == 1


def test_what_one_machine_sent_is_known_to_another_while_the_lake_is_busy(
    storage: LakeSettings, tmp_path: Path
) -> None:
    hasty = storage.model_copy(update={"wait_seconds": 0.2})
    with Receiver().running() as receiver, Lake.open(tmp_path / "a", storage) as lake:
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, *keys(2))
        with Lake.open(tmp_path / "b", hasty) as one, Lake.open(tmp_path / "c", hasty) as two:
            with lake.writing():
                assert deliver_due(one, settings).channels[0].sent == 2
                with pytest.raises(LakeBusyError):
                    deliver_due(two, settings)
            assert deliver_due(two, settings).channels == ()
            assert outcomes(two) == {"sent": 2}
            assert deliver_due(one, settings).channels == ()
        assert len(receiver.requests) == 2


def test_without_the_server_outcomes_wait_on_the_machine(tmp_path: Path) -> None:
    settings = DeliverSettings.model_validate({"channels": {"out": {"kind": "stdout"}}})
    record = Record("msg_1", datetime(2026, 10, 5), "sent", 1)
    with postgres.server() as catalog:
        storage = LakeSettings(catalog=catalog, data_path=str(tmp_path / "shared"))
        lake = Lake.open(tmp_path / "a", storage, create=True)
        held = claims_of(lake, settings)
        own = held.__enter__()
        assert own.take(["out"]) == {"out"}
        own.journal.add(record)
        assert own.journal.set_aside() == [record]
        assert not (tmp_path / "a" / "outbox.journal").exists()
    with pytest.raises(LakeUnreachableError):
        own.begin("out")
    own.journal.add(record)
    held.__exit__(None, None, None)
    lake.close()
    assert "msg_1" in (tmp_path / "a" / "outbox.journal").read_text()


def test_a_role_that_only_reads_sends_nothing(storage: LakeSettings, tmp_path: Path) -> None:
    with Receiver().running() as receiver, Lake.open(tmp_path / "a", storage) as lake:
        settings = settings_of({"hook": webhook(receiver)})
        reviewed(lake, settings, *keys(1))
        server = lake.server()
        assert server is not None
        server.execute(
            "CREATE ROLE analyst LOGIN; GRANT USAGE ON SCHEMA public TO analyst; "
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO analyst"
        )
        server.close()
        role = (storage.catalog or "").replace(f"user={postgres.USER}", "user=analyst")
        with (
            Lake.open(tmp_path / "b", storage.model_copy(update={"catalog": role})) as reader,
            pytest.raises(LakeReadOnlyError),
        ):
            deliver_due(reader, settings)
        assert receiver.requests == []
        assert len(outbox.pending(lake)) == 1
