"""Two machines that do all of it at once, on one lake in PostgreSQL and an S3, while others read.

It takes minutes: `make test-cluster` runs it. Its short form is in `test_shared_lake.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keywatch.lake import Lake
from keywatch.notices import notices_to
from keywatch.operate import integrity
from keywatch.settings import load_settings
from tests import object_store, postgres
from tests.command import keywatch
from tests.conftest import as_json_lines, event
from tests.forked import Forked
from tests.test_pipeline import key

SECONDS = float(os.environ.get("KEYWATCH_TEST_SECONDS", "0"))
"""For how long; `make test-cluster` sets it."""
pytestmark = [
    pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL server programs here"),
    pytest.mark.skipif(not SECONDS, reason="takes minutes: make test-cluster"),
]
LEAST_ROUNDS = 3
KEYS = 400
"""Planted ones a machine: each round uses one, which is an alert of its own."""
MONDAY = datetime(2026, 9, 21)
WEEK = "2026-W39"


def works(folder: Path, config: Path, name: str, seconds: float) -> None:
    """A machine: it loads, scores and sends, and now and then reviews or maintains; says each."""
    end = time.monotonic() + seconds
    nth = 0
    while nth < LEAST_ROUNDS or time.monotonic() < end:
        log = folder / "logs" / f"{nth}.jsonl"
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(as_json_lines(lines_of(name, nth)))
        done = [["watch"]]
        if nth % 3 == 1:
            done.append(["review", "--week", WEEK])
        if nth % 3 == 2:
            done.append(["lake", "maintain"])
        for words in done:
            ran = keywatch(*words, "--lake", folder, "--config", config)
            print(f"{' '.join(words)}: {ran.code} {ran.err if ran.code else ''}", flush=True)
        nth += 1
    print(f"rounds: {nth}", flush=True)


def lines_of(name: str, nth: int) -> list[dict[str, object]]:
    """Some use of ordinary keys, and the first of a planted one."""
    moment = MONDAY + timedelta(days=nth % 6, minutes=nth // 6)
    return [
        event(
            timestamp=f"{moment + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}",
            request_id=f"{name}-{nth}-{n}",
            key_id=f"planted_{name}_{nth}" if n == 0 else f"key_{n % 4}",
            # Each from a network of its own: those at one place would be one alert.
            ip=f"{11 + nth % 100}.{ord(name)}.{nth}.7" if n == 0 else "81.187.9.20",
        )
        for n in range(20)
    ]


def reads(folder: Path, config: Path, stop: Path) -> None:
    """A machine that only reads, until there is a file `stop`: what it sees agrees, and grows."""
    seen = rounds = 0
    while not stop.exists() or not rounds:
        with (
            notices_to(lambda _: None),
            Lake.open(folder, load_settings(config).storage) as lake,
            lake.reading(),
        ):
            stored, rolled_up = lake.rows(
                "SELECT (SELECT count(*) FROM lake.events), "
                "(SELECT coalesce(sum(events), 0)::BIGINT FROM lake.activity)"
            )[0]
            assert stored == rolled_up >= seen
            seen = stored
        ran = keywatch("keys", "list", "--lake", folder, "--config", config)
        assert ran.code == 0, ran.err
        rounds += 1
    print("read", flush=True)


@pytest.mark.slow
def test_every_event_and_message_is_there_once_and_no_reader_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "secret").write_text("5e" * 32)
    inventory = tmp_path / "inventory.jsonl"
    inventory.write_bytes(
        as_json_lines(
            key(f"planted_{name}_{nth}", honey=True) for name in "ab" for nth in range(KEYS)
        )
    )
    with postgres.server() as catalog, object_store.server() as store:
        store.create_bucket(Bucket="lakes")
        folders = {name: tmp_path / name for name in ("a", "b", "reader")}
        for folder in folders.values():
            folder.mkdir()
            (folder / "keywatch.toml").write_text(
                f'[ingest]\nplaces = ["{folder}/logs"]\n'
                f'[storage]\ncatalog = "{catalog}"\ndata_path = "s3://lakes/two"\n'
                f'key_hash_secret = {{ file = "{tmp_path}/secret" }}\nwait_seconds = 600\n'
                f'[storage.s3]\nendpoint = "http://{store.endpoint}"\n'
                "[review]\nreplayed_windows = 0\npower_keys = 0\n"
                f'[deliver.channels.feed]\nkind = "file"\npath = "{tmp_path}/feed.jsonl"\n'
            )
        a = folders["a"]
        options = ("--lake", a, "--config", a / "keywatch.toml")
        assert keywatch("lake", "init", *options).code == 0
        assert keywatch("keys", "import", inventory, *options).code == 0

        reader = folders["reader"]
        stop = tmp_path / "stop"
        reading = Forked.calling(reads, reader, reader / "keywatch.toml", stop)
        machines = {
            name: Forked.calling(
                works, folders[name], folders[name] / "keywatch.toml", name, SECONDS
            )
            for name in "ab"
        }
        rounds = {}
        for name, machine in machines.items():
            assert machine.ends(SECONDS + 900)
            assert machine.exit_code == 0, machine.said
            *commands, last = machine.said.splitlines()
            assert {line.partition(": ")[2].strip() for line in commands} == {"0"}, commands
            rounds[name] = int(last.removeprefix("rounds: "))
        stop.touch()
        assert reading.ends(900)
        assert (reading.exit_code, reading.said.strip()) == (0, "read")
        # What one of them found due while the other sent.
        assert keywatch("deliver", *options).code == 0

        messages = [json.loads(line) for line in (tmp_path / "feed.jsonl").read_text().splitlines()]
        assert len({message["id"] for message in messages}) == len(messages)
        opened = Counter(
            about["key_id"]
            for message in messages
            if message["kind"] == "trigger"
            for about in message["keys"]
            if about["key_id"].startswith("planted")
        )
        assert opened == {
            f"planted_{name}_{nth}": 1 for name, count in rounds.items() for nth in range(count)
        }
        with Lake.open(a, load_settings(a / "keywatch.toml").storage) as lake:
            events = 20 * sum(rounds.values())
            assert lake.rows(
                "SELECT count(*), count(DISTINCT request_id), "
                "(SELECT sum(events)::BIGINT FROM lake.activity) FROM lake.events"
            ) == [(events, events, events)]
            assert list(integrity.faults(lake, deep=True)) == []
        print(f"{sum(rounds.values())} rounds, {len(messages)} messages")
