"""The feed as a process that stays: it loads what lands, sends, outlives what fails, and stops."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from keywatch import cli, pipeline
from keywatch import feed as standing
from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.notices import notice, stopped_when
from keywatch.settings import Settings
from tests.command import keywatch
from tests.forked import Forked
from tests.test_pipeline import NO_REPLAY, crowd, daily, lake_of, line, theft

LONGEST_WAIT_SECONDS = 300
SETTINGS_FILE = """
[storage]
wait_seconds = {wait_seconds}
threads = 1
[ingest]
places = ["in"]
[scoring]
false_revoke_rate = 0.5
[review]
power_keys = 0
replayed_windows = 0
[deliver]
run_seconds = 0.1
first_pause_seconds = 0.001
longest_pause_seconds = 0.001
[deliver.channels.file]
kind = "file"
path = "out/feed.jsonl"
"""
MINUTE = 60.0
THURSDAY = date(2026, 10, 1)


def jsonl(events: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in events)


def lands(file: Path, text: str) -> None:
    """Put a whole file into its place."""
    half = file.with_name(f".{file.name}")
    half.write_text(text, encoding="utf-8")
    half.rename(file)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stay(folder: Path, longest_rest_seconds: float) -> None:
    """``keywatch watch --every 1s`` in a process of its own, its output and errors in files."""
    os.chdir(folder)
    for stream, name in ((1, "said.txt"), (2, "amiss.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), stream)
    standing._LONGEST_REST_SECONDS = longest_rest_seconds
    cli.main(["watch", "--every", "1s"])


class Process:
    """A feed that stays in a folder, with what it has said so far."""

    def __init__(self, folder: Path, longest_rest_seconds: float) -> None:
        self._files = folder / "said.txt", folder / "amiss.txt"
        for file in self._files:
            file.touch()
        self.running = Forked.calling(stay, folder, longest_rest_seconds)

    @property
    def said(self) -> str:
        return self._files[0].read_text(encoding="utf-8")

    @property
    def amiss(self) -> str:
        return self._files[1].read_text(encoding="utf-8")

    def until(self, what: Callable[[], object]) -> None:
        """Wait until `what` is so, while it runs."""

        def so() -> object:
            assert not self.running.ends(0), self.amiss
            return what()

        until(so)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        self.running.signal(number)
        assert self.running.ends(LONGEST_WAIT_SECONDS)
        return self.running.exit_code


@contextmanager
def process(folder: Path, longest_rest_seconds: float = MINUTE) -> Iterator[Process]:
    one = Process(folder, longest_rest_seconds)
    try:
        yield one
    finally:
        one.running.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings, an empty place and a lake until Wednesday; nothing was watched yet."""
    events = [
        each for each in daily(date(2026, 8, 1), 65) + crowd() if each["timestamp"] < f"{THURSDAY}"
    ]
    lake_of(tmp_path, events, [])
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "keywatch.toml").write_text(SETTINGS_FILE.format(wait_seconds=300))
    return tmp_path


def messages(folder: Path) -> list[dict[str, Any]]:
    file = folder / "out" / "feed.jsonl"
    return [json.loads(each) for each in file.read_text().splitlines()] if file.exists() else []


def events_of(folder: Path, condition: str = "true") -> int:
    with Lake.open(folder / "lake") as lake:
        return int(lake.value(f"SELECT count(*) FROM lake.events WHERE {condition}"))


@pytest.mark.slow
def test_what_lands_is_told_and_a_signal_ends_it(folder: Path) -> None:
    with process(folder) as feed:
        feed.until(lambda: "no alerts changed" in feed.said)
        lands(folder / "in" / "thursday.jsonl", jsonl(theft()))
        feed.until(lambda: messages(folder))
        feed.until(lambda: "file: 1 sent" in feed.said)
        assert feed.stop() == 0
        assert feed.amiss == ""
    assert [one["keys"][0]["key_id"] for one in messages(folder)] == ["key_1"]
    # A run without anything new says so once.
    assert feed.said.count("No new log lines.") == 1


@pytest.mark.slow
def test_between_runs_others_write_and_it_goes_on_from_there(folder: Path) -> None:
    with process(folder) as feed:
        feed.until(lambda: "No messages are due." in feed.said)
        (folder / "thursday.jsonl").write_text(jsonl(theft()))
        assert keywatch("ingest", "thursday.jsonl", cwd=folder).code == 0
        feed.until(lambda: messages(folder))
        assert feed.stop(signal.SIGINT) == 0
    assert feed.amiss == ""


@pytest.mark.slow
def test_a_signal_in_a_load_lets_it_finish_and_begins_nothing_else(folder: Path) -> None:
    many = [
        line(f"{THURSDAY}T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}", key_id=f"key_{n % 50}")
        for n in range(30_000)
    ]
    with process(folder) as feed:
        feed.until(lambda: "No messages are due." in feed.said)
        lands(folder / "in" / "many.jsonl", jsonl(many))
        with (folder / "lake" / "writer.lock").open() as lock:

            def is_loading() -> bool:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
                fcntl.flock(lock, fcntl.LOCK_UN)
                return False

            feed.until(is_loading)
        assert feed.stop() == 0
    assert "Loaded 30,000 events" in feed.said
    assert feed.said.count("in week") == 1  # the one before
    assert events_of(folder, f"day = '{THURSDAY}'") == len(many)
    with Lake.open(folder / "lake") as lake:
        assert lake.value("SELECT count(*) FROM lake.review_queue") == 1


@pytest.mark.slow
def test_a_busy_lake_is_tried_again(folder: Path) -> None:
    (folder / "keywatch.toml").write_text(SETTINGS_FILE.format(wait_seconds=0.1))
    with (folder / "lake" / "writer.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lands(folder / "in" / "thursday.jsonl", jsonl(theft()))
        with process(folder) as feed:
            feed.until(lambda: "is still writing" in feed.amiss)
            assert messages(folder) == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            feed.until(lambda: messages(folder))
            feed.until(lambda: "the last run had no error" in feed.amiss)
            assert feed.stop() == 0
    assert feed.amiss.count("is still writing") == 1


def test_who_waits_for_another_process_stops_at_a_signal(folder: Path) -> None:
    (folder / "keywatch.toml").write_text(SETTINGS_FILE.format(wait_seconds=10**6))
    with (folder / "lake" / "writer.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lands(folder / "in" / "thursday.jsonl", jsonl(theft()))
        with process(folder) as feed:
            feed.until(lambda: "waiting for it" in feed.amiss)
            assert feed.stop() == 0
        assert "is still writing" not in feed.amiss
    assert messages(folder) == []


@pytest.mark.slow
def test_what_fails_is_told_once_and_stops_nothing(folder: Path) -> None:
    with process(folder, longest_rest_seconds=0) as feed:
        feed.until(lambda: "No messages are due." in feed.said)
        lands(folder / "in" / "broken.jsonl", "no log\n" * 30)
        feed.until(lambda: "broken.jsonl" in feed.said)
        (folder / "in").rename(folder / "gone")
        feed.until(lambda: "in: no log file found" in feed.amiss)
        (folder / "gone").rename(folder / "in")
        feed.until(lambda: "the last run had no error" in feed.amiss)
        lands(folder / "in" / "thursday.jsonl", jsonl(theft()))
        feed.until(lambda: messages(folder))
        assert feed.stop() == 0
    assert feed.amiss.count("in: no log file found") == 1
    with Lake.open(folder / "lake") as lake:
        assert lake.value("SELECT count(*) FROM lake.left_out_files") == 1


@pytest.mark.slow
def test_a_channel_that_was_down_gets_its_message(folder: Path) -> None:
    (folder / "out").rmdir()
    with process(folder, longest_rest_seconds=0) as feed:
        lands(folder / "in" / "thursday.jsonl", jsonl(theft()))
        feed.until(lambda: "1 to be retried" in feed.amiss)
        (folder / "out").mkdir()
        feed.until(lambda: messages(folder))
        assert feed.stop() == 0
    assert len(messages(folder)) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--every", "0.5s"], "a pause of 1s or more"),
        (["--every", "10"], "unable to convert"),
        (["--every", "10s", "--fail-on", "revoke"], "without --every"),
        (["--every", "10s", "-"], "a pipe can be read once only"),
    ],
)
def test_what_can_not_stay_is_refused(words: list[str], why: str, tmp_path: Path) -> None:
    ran = keywatch("watch", *words, cwd=tmp_path)
    assert (ran.code, why in ran.err) == (2, True)


def test_traces_tell_a_file_that_grew_and_a_commit_and_nothing_else(folder: Path) -> None:
    lake, log = folder / "lake", folder / "in" / "thursday.jsonl"
    settings = Settings.model_validate(
        NO_REPLAY.model_dump() | {"ingest": {"places": [str(folder / "in")]}}
    )

    def traces() -> object:
        return pipeline.traces(lake, settings)

    log.write_text(jsonl(theft()[:5]))
    seen = [traces()]
    log.write_text(jsonl(theft()))
    seen.append(traces())
    assert pipeline.ingest_new(lake, settings) is not None
    seen.append(traces())
    assert len({str(each) for each in seen}) == len(seen)
    assert pipeline.ingest_new(lake, settings) is None
    pipeline.watch(lake, settings)
    scored = traces()
    pipeline.ingest_new(lake, settings)
    pipeline.watch(lake, settings)
    pipeline.deliver_due(lake, settings)
    assert traces() == scored


def test_a_run_that_is_to_stop_begins_no_step(folder: Path) -> None:
    told: list[str] = []
    feed = standing.Feed(folder / "lake", NO_REPLAY, [str(folder / "in")], told.append)
    with stopped_when(lambda: True):
        feed.run()
    assert told == []


def test_a_pause_below_a_second_is_refused_before_anything_runs(folder: Path) -> None:
    feed = standing.Feed(folder / "nowhere", NO_REPLAY, [], notice)
    with pytest.raises(UsageError, match="1s or more"):
        standing.stand(feed, timedelta(milliseconds=999), notice)
    assert not (folder / "nowhere").exists()
