"""From a review to a message and back: the commands, on a lake in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keywatch import deliver, pipeline
from keywatch.lake import Lake
from keywatch.settings import Settings, load_settings
from tests.command import keywatch
from tests.deliver.receivers import Answer, Receiver
from tests.test_pipeline import NO_REPLAY, WEEK, crowd, daily, key, lake_of, line, theft

pytestmark = pytest.mark.slow

SETTINGS = """
[scoring]
false_revoke_rate = 0.5
[review]
power_keys = 0
replayed_windows = 0
"""


@dataclass
class Setup:
    """A lake with a stolen key that was reviewed, and settings with a file channel."""

    folder: Path
    lake: Path
    config: Path
    out: Path

    def run(self, *words: str | Path) -> Any:
        return keywatch(*words, "--lake", self.lake, "--config", self.config)

    def settings(self, text: str) -> Path:
        self.config.write_text(SETTINGS + text, encoding="utf-8")
        return self.config

    def messages(self) -> list[dict[str, Any]]:
        lines = self.out.read_text("ascii").splitlines() if self.out.exists() else []
        return [json.loads(line) for line in lines]

    def load(self, events: Iterable[dict[str, Any]], name: str) -> None:
        file = self.folder / name
        file.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        assert self.run("ingest", file).code == 0

    def inventory(self, **fields: Any) -> None:
        file = self.folder / "keys-now.jsonl"
        file.write_text(json.dumps(key(**fields)) + "\n", encoding="utf-8")
        assert self.run("keys", "import", file).code == 0


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a stolen key, before its review."""
    events = daily(date(2026, 8, 1), 65) + theft() + crowd()
    return lake_of(tmp_path_factory.mktemp("stolen"), events, [key()])


@pytest.fixture(scope="module")
def reviewed(loaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake after the review of the week, without any channel."""
    folder = tmp_path_factory.mktemp("reviewed") / "lake"
    shutil.copytree(loaded, folder)
    pipeline.review(folder, WEEK, NO_REPLAY)
    return folder


@pytest.fixture
def setup(reviewed: Path, tmp_path: Path) -> Setup:
    shutil.copytree(reviewed, tmp_path / "lake")
    made = Setup(tmp_path, tmp_path / "lake", tmp_path / "keywatch.toml", tmp_path / "alerts.jsonl")
    made.settings(f'[deliver.channels.log]\nkind = "file"\npath = "{made.out}"\n')
    return made


def test_a_stolen_key_arrives_once_and_its_verdict_closes_it(setup: Setup) -> None:
    dry = setup.run("deliver", "--dry-run")
    assert dry.code == 0, dry.err
    assert "REVOKE key_1 (status board)  [critical]" in dry.out
    assert setup.messages() == []

    ran = setup.run("deliver")
    assert (ran.code, ran.out) == (0, "log: 1 sent\n"), ran.err
    assert setup.run("deliver").out == "No messages are due.\n"
    assert setup.run("review", "--week", "2026-W40").code == 0
    assert setup.run("deliver").out == "No messages are due.\n"
    (message,) = setup.messages()
    schema = json.loads(keywatch("deliver", "--schema").out)
    jsonschema.validate(message, schema, cls=jsonschema.Draft202012Validator)
    assert message["kind"] == "trigger"
    assert message["keys"][0]["key_id"] == "key_1"
    assert message["places"][0]["ip"] == "45.153.78.122"
    assert message["reasons"][0]["typical"]
    assert message["steps"][0].startswith("Revoke ply_live_prod_4f8a2c…9e1d now")
    assert message["command"] == "keywatch case key_1 --week 2026-W40"

    said = ("--by", "ana", "--because", "it was me", "--week", "2026-W40")
    assert setup.run("verdict", "key_1", "benign", *said).code == 0
    assert setup.run("deliver").out == "log: 1 sent\n"
    closed = setup.messages()[-1]
    assert (closed["kind"], closed["alert_id"]) == ("resolve", message["alert_id"])
    assert closed["why"] == "Benign, says ana: it was me."


def test_a_revoked_key_is_followed_until_its_use_ends(setup: Setup) -> None:
    setup.run("deliver")
    setup.inventory(revoked_at="2026-10-05T09:00:00Z")
    setup.load([line("2026-10-05T11:00:00")], "used.jsonl")
    ran = setup.run("deliver")
    assert "key_1 still in use: revoked at 2026-10-05 09:00 UTC" in ran.out
    setup.load(daily(date(2026, 10, 6), 2, key_id="crowd_00"), "later.jsonl")
    ran = setup.run("deliver")
    assert "no use since 2026-10-05 11:00" in ran.out
    assert [message["kind"] for message in setup.messages()] == ["trigger", "update", "resolve"]
    assert setup.messages()[1]["severity"] == "critical"


def test_without_a_channel_it_says_how_to_name_one(setup: Setup) -> None:
    setup.settings("")
    for words in (("deliver",), ("deliver", "--dry-run")):
        ran = setup.run(*words)
        assert (ran.code, ran.out) == (0, "No messages are due.\n")
        assert ran.err == "no channel is configured: add [deliver.channels.NAME] to keywatch.toml\n"


def test_a_channel_that_is_down_is_no_failure_and_is_told_of(setup: Setup) -> None:
    with Receiver(lambda _: Answer(404, "no_service")).running() as receiver:
        (setup.folder / "secret").write_text(
            "whsec_c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1iZS1zaG93bg==\n", encoding="utf-8"
        )
        setup.settings(
            "[deliver]\nmax_tries = 2\nfirst_pause_seconds = 0.01\n"
            f'[deliver.channels.hook]\nkind = "webhook"\nurl = "{receiver.url}"\n'
            f'secret = {{ file = "{setup.folder / "secret"}" }}\n'
        )
        ran = setup.run("deliver")
    assert ran.code == 0
    assert ran.out == "hook: 0 sent\n"
    assert ran.err == "hook: 0 to be retried, 1 given up: HTTP 404: no_service\n"

    doctor = setup.run("doctor")
    assert doctor.code == 0
    told = next(text for text in doctor.out.splitlines() if "channel hook (" in text)
    assert told.startswith("note channel hook (webhook): nothing sent yet, 1 dead letter (HTTP 404")
    review = json.loads(setup.run("review", "--week", "2026-W40", "--format", "json").out)
    (dead,) = [one for one in review["health"] if one["check"] == "outbox_dead"]
    assert (dead["subject"], dead["text"]) == (
        "hook",
        "channel hook: 1 message could not be delivered (HTTP 404: no_service); fix the "
        "cause, then run keywatch deliver --retry-dead",
    )
    assert f"warn {dead['text']}" in doctor.out
    with Receiver().running() as receiver:
        setup.settings(
            f'[deliver.channels.hook]\nkind = "webhook"\nurl = "{receiver.url}"\n'
            f'secret = {{ file = "{setup.folder / "secret"}" }}\n'
        )
        assert setup.run("deliver").out == "No messages are due.\n"
        assert setup.run("deliver", "--retry-dead").out == "hook: 1 sent\n"
        assert len(receiver.requests) == 1
    assert "last sent" in setup.run("doctor").out


def test_a_secret_that_is_not_there_is_a_bad_setting(setup: Setup) -> None:
    setup.settings(
        f'[deliver.channels.log]\nkind = "file"\npath = "{setup.out}"\n'
        '[deliver.channels.pager]\nkind = "pagerduty"\nrouting_key = { env = "NOT_SET_HERE" }\n'
    )
    ran = setup.run("deliver")
    assert ran.code == 2
    assert "channel pager: the environment variable NOT_SET_HERE is not set" in ran.err
    assert len(setup.messages()) == 1  # the others are sent all the same
    doctor = setup.run("doctor")
    assert doctor.code == 2
    assert "BAD  channel pager (pagerduty): nothing sent yet, 1 message waiting; the" in doctor.out


def test_a_report_goes_with_a_mail_only(setup: Setup) -> None:
    report = setup.folder / "week.html"
    report.write_text("<html></html>", encoding="utf-8")
    ran = setup.run("deliver", "--report", report)
    assert (ran.code, ran.out) == (0, "log: 1 sent\n")
    ran = setup.run("deliver", "--report", setup.folder / "none.html")
    assert ran.code == 2
    assert "none.html: can't be read" in ran.err


def test_a_review_and_its_messages_commit_together(
    loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"
    shutil.copytree(loaded, folder)
    config = tmp_path / "keywatch.toml"
    config.write_text(SETTINGS + '[deliver.channels.out]\nkind = "stdout"\n', encoding="utf-8")
    settings: Settings = load_settings(config)

    def crash(*_: object) -> int:
        tell(*_)  # type: ignore[arg-type]
        raise OSError("no space left on device")

    tell = deliver.Outbox.tell
    monkeypatch.setattr(deliver.Outbox, "tell", crash)
    with pytest.raises(OSError, match="no space"):
        pipeline.review(folder, WEEK, settings)
    tables = ("runs", "recommendations", "alerts", "deliveries")
    with Lake.open(folder) as lake:
        assert [lake.value(f"SELECT count(*) FROM lake.{name}") for name in tables] == [0] * 4
    monkeypatch.setattr(deliver.Outbox, "tell", tell)
    pipeline.review(folder, WEEK, settings)
    with Lake.open(folder) as lake:
        assert [lake.value(f"SELECT count(*) FROM lake.{name}") for name in tables] == [1] * 4


def test_a_theft_that_goes_on_is_told_again_from_elsewhere_only(setup: Setup) -> None:
    setup.run("deliver")
    more = [
        {**event, "timestamp": event["timestamp"].replace("10-01", "10-08"),
         "request_id": event["request_id"] + "-2"}
        for event in theft()
    ]  # fmt: skip
    setup.load(daily(date(2026, 10, 5), 7) + more, "next.jsonl")
    assert setup.run("review", "--week", "2026-W41").code == 0
    # From the network that it was told of: one open case, and no news each week.
    assert setup.run("deliver").out == "No messages are due.\n"
    elsewhere = [
        {**event, "ip": "193.32.248.7", "timestamp": event["timestamp"].replace("10-08", "10-15"),
         "request_id": event["request_id"] + "-3"}
        for event in more
    ]  # fmt: skip
    setup.load(daily(date(2026, 10, 12), 7) + elsewhere, "later.jsonl")
    assert setup.run("review", "--week", "2026-W42").code == 0
    assert setup.run("deliver").out == "log: 1 sent\n"
    first, second = setup.messages()
    assert (second["kind"], second["alert_id"]) == ("update", first["alert_id"])
    assert "week 2026-W42" in second["window"]


def test_an_undone_verdict_is_told_where_its_alert_was_closed(setup: Setup) -> None:
    setup.run("deliver")
    said = ("--by", "ana", "--because", "it was me")
    assert setup.run("verdict", "key_1", "benign", *said).code == 0
    setup.run("deliver")
    ran = setup.run("verdict", "key_1", "undo", "--by", "bo", "--because", "it was not")
    assert ran.code == 0, ran.err
    assert (
        "benign by ana (it was me), is withdrawn.\nThe key has no verdict for this window now."
        in ran.out
    )
    assert setup.run("deliver").out == "log: 1 sent\n"
    kinds = [message["kind"] for message in setup.messages()]
    assert kinds == ["trigger", "resolve", "trigger"]
    assert len({message["alert_id"] for message in setup.messages()}) == 1
    refused = setup.run("verdict", "key_1", "undo", "--by", "bo", "--because", "x",
                        "--until", "2026-12-01")  # fmt: skip
    assert (refused.code, "--until can be used with expected" in refused.err) == (2, True)


UPKEEP = """
[deliver.channels.log]
kind = "file"
path = "{log}"

[deliver.channels.team]
kind = "file"
path = "{team}"

[[deliver.routes]]
channels = ["log"]

[[deliver.routes]]
owners = ["team-b"]
upkeep = true
channels = ["team"]
"""


@pytest.fixture
def old_key(loaded: Path, tmp_path: Path) -> Setup:
    """The lake before any review, with a key that is overdue and a route for its upkeep."""
    shutil.copytree(loaded, tmp_path / "lake")
    made = Setup(tmp_path, tmp_path / "lake", tmp_path / "keywatch.toml", tmp_path / "team.jsonl")
    made.settings(UPKEEP.format(log=tmp_path / "log.jsonl", team=made.out))
    made.inventory(
        key_id="crowd_00", name="nightly", owner="team-b", created_at="2026-04-08T00:00:00Z"
    )
    return made


def test_a_whole_week_s_review_sends_the_owner_his_upkeep_once(old_key: Setup) -> None:
    for week in ("2026-W39", "2026-W40", "2026-W40"):
        assert old_key.run("review", "--week", week).code == 0
    dry = old_key.run("deliver", "--dry-run")
    assert "Key hygiene: 1 key, week 2026-W40  [low]" in dry.out
    assert old_key.run("deliver").out == "log: 1 sent\nteam: 1 sent\n"
    (message,) = old_key.messages()
    jsonschema.validate(message, deliver.message_schema(), cls=jsonschema.Draft202012Validator)
    assert (message["kind"], message["alert_id"], message["action"]) == ("upkeep", None, "none")
    assert message["upkeep"] == [
        {
            "rule": "rotation_overdue",
            "key_id": "crowd_00",
            "key": "ply_live_prod_4f8a2c…9e1d",
            "name": "nightly",
            "owner": "team-b",
            "environment": "prod",
            "action": "rotate",
            "due_on": "2026-07-07",
            "days": 90,
            "explanation": "rotation overdue by 90 days, since 2026-07-07",
        }
    ]
    # More of the week is loaded and it is reviewed again: it has had its message.
    old_key.load([line("2026-10-04T23:00:00", key_id="crowd_01")], "late.jsonl")
    assert old_key.run("review", "--week", "2026-W40").code == 0
    assert old_key.run("deliver").out == "No messages are due.\n"


def test_a_route_that_is_added_later_gets_the_week_s_upkeep_too(old_key: Setup) -> None:
    assert old_key.run("review", "--week", "2026-W40").code == 0
    old_key.run("deliver")
    more = old_key.folder / "more.jsonl"
    text = UPKEEP.format(log=old_key.folder / "log.jsonl", team=old_key.out)
    old_key.settings(
        f'{text}[deliver.channels.more]\nkind = "file"\npath = "{more}"\n'
        '[[deliver.routes]]\nupkeep = true\nchannels = ["more"]\n'
    )
    assert old_key.run("review", "--week", "2026-W40").code == 0
    assert old_key.run("deliver").out == "more: 1 sent\n"
    assert len(old_key.messages()) == 1


def test_the_feed_sends_no_upkeep_and_upkeep_is_no_finding(old_key: Setup) -> None:
    watched = old_key.run("watch", "--no-deliver")
    assert watched.code == 0, watched.err
    with Lake.open(old_key.lake) as lake:
        kinds = lake.rows("SELECT DISTINCT kind FROM lake.deliveries")
    assert kinds == [("trigger",)]
    quiet = old_key.run("review", "--week", "2026-W38", "--format", "json", "--fail-on", "rotate")
    review = json.loads(quiet.out)
    assert [finding["action"] for finding in review["hygiene"]] == ["rotate"]
    assert {case["action"] for case in review["cases"]} == {"none"}
    assert quiet.code == 0
    for action in ("investigate", "none"):
        assert old_key.run("review", "--week", "2026-W38", "--fail-on", action).code == 0
