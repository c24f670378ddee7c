"""`keywatch init`: questions, tries, the file, and the commands that come next."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from keywatch.errors import UsageError
from keywatch.settings import load_settings
from keywatch.setup import Given, set_up
from keywatch.setup.channels import FORMS, channel_of
from tests.command import keywatch
from tests.deliver.receivers import Receiver
from tests.test_cli import LINE

SIGNING = "whsec_c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1iZS1zaG93bg=="
CITY = "not-a-city.mmdb"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a log of three requests, which is the current one."""
    (tmp_path / "logs").mkdir()
    text = "".join(LINE.format(n=n) for n in range(3))
    (tmp_path / "logs/a.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "odd.log").write_text("quite another log\nof two lines\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Person:
    """Who answers in this order, and hears what is said."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.heard: list[str] = []

    def ask(self, prompt: str) -> str:
        if not self._answers:
            raise EOFError
        return self._answers.pop(0)

    def asked_of(self, given: Given, **options: Any) -> str:
        """All that was said."""
        set_up(given, Path("keywatch.toml"), self.heard.append, self.ask, **options)
        assert self._answers == []
        return "\n".join(self.heard)


def test_five_answers_are_enough(home: Path) -> None:
    person = Person("logs", "", "file alerts.jsonl", "cron", "data/lake")
    said = person.asked_of(Given())

    for n, question in enumerate(("Where is the log", "Which GeoIP", "Which channel", "On which",
                                  "In which folder"), 1):  # fmt: skip
        assert f"\n{n}. {question}" in said
    assert "\n6." not in said
    assert (
        "ok   log: 1 file; sample logs/a.jsonl: 3 requests of 1 key as pulsely, 2026-09-30" in said
    )
    assert "ok   GeoIP: dbip-country-lite of " in said
    assert "ok   channel log (file): the test message was sent: it is in the file" in said
    assert "ok   lake: data/lake can be created" in said
    assert "BAD" not in said
    settings = load_settings()
    assert settings.ingest.places == (str(home / "logs"),)
    assert settings.report.folder == home / "reports"
    (channel,) = settings.deliver.channels.values()
    assert channel.kind == "file"
    assert channel.path == home / "alerts.jsonl"
    assert (home / "keywatch.toml").stat().st_mode & 0o777 == 0o600
    assert "keywatch ingest --lake data/lake " in said
    assert f"*/5 * * * *  cd {home} && " in said
    assert "keywatch watch --lake data/lake\n" in said
    assert not (home / "data").exists()


def test_what_is_given_is_not_asked_for(home: Path) -> None:
    given = Given(places=("logs",), geoip=("bundled",), schedule="none")
    person = Person("none", "")
    said = person.asked_of(given)
    assert said.count("\n1. Which channel") == said.count("\n2. In which folder") == 1
    assert "Where is the log" not in said
    assert load_settings().deliver.channels == {}


def test_without_a_terminal_nothing_is_asked(home: Path) -> None:
    ran = keywatch("init", "--place", "logs/*.jsonl", cwd=home)
    assert (ran.code, ran.err) == (0, "")
    assert "1. " not in ran.out
    assert "Every few minutes, run: keywatch watch\n" in ran.out
    assert load_settings().ingest.places == (str(home / "logs/*.jsonl"),)
    ran = keywatch("init", cwd=home)
    assert (ran.code, ran.out) == (2, "")
    assert "keywatch.toml exists already and was not changed; add --force to replace it" in ran.err
    ran = keywatch("init", "--force", cwd=home)
    assert ran.code == 2
    assert "add --place PATH" in ran.err


def test_in_a_real_terminal(home: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"logs\nbundled\nnone\nnone\nlake\n")
        done = subprocess.run(
            [sys.executable, "-m", "keywatch", "init"],
            stdin=theirs, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5. In which folder should the lake be? [lake]" in done.stdout
    assert "Wrote keywatch.toml.\n" in done.stdout
    assert load_settings().ingest.places == (str(home / "logs"),)


def test_a_file_that_exists_is_replaced_only_when_asked(home: Path) -> None:
    file = home / "keywatch.toml"
    file.write_text("# mine\n", encoding="utf-8")
    person = Person()
    with pytest.raises(UsageError, match="exists already and was not changed"):
        person.asked_of(Given(places=("logs",)))
    assert (file.read_text(), person.heard) == ("# mine\n", [])
    Person("", "", "", "").asked_of(Given(places=("logs",)), replace=True)
    assert "places" in tomllib.loads(file.read_text())["ingest"]
    assert [path.name for path in home.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--place", "nowhere"], 2, "BAD  log: nowhere: no log file found"),
        (["--place", "odd.log"], 2, "BAD  log: odd.log, line 1: not in a log format known to"),
        (["--place", "logs", "--geoip", CITY], 2, f"BAD  GeoIP: {CITY}: can't be read as a"),
        (
            ["--place", "logs", "--channel", "slack env:NOT_SET_HERE"],
            2,
            "BAD  channel chat (slack): the environment variable NOT_SET_HERE is not set",
        ),
        (
            ["--place", "logs", "--channel", "file nowhere/alerts.jsonl"],
            3,
            "No such file or directory; create the folder of path",
        ),
        (["--place", "logs", "--lake", "logs/a.jsonl/lake"], 3, "BAD  lake: "),
    ],
)
def test_what_fails_is_written_with_yes_only(
    words: Sequence[str], code: int, said: str, home: Path
) -> None:
    ran = keywatch("init", *words, cwd=home)
    assert ran.code == code
    assert said in ran.out
    assert ran.out.count("BAD  ") == 1
    assert "was not written: fix what is BAD above, or add --yes" in ran.err
    assert not (home / "keywatch.toml").exists()
    ran = keywatch("init", *words, "--yes", cwd=home)
    assert (ran.code, ran.err) == (0, "")
    assert "Wrote keywatch.toml, although 1 of the checks failed: fix what is BAD above." in ran.out
    load_settings(home / "keywatch.toml")


def test_an_answer_that_fails_can_be_given_again_or_kept(home: Path) -> None:
    person = Person("nowhere", "r", "logs", "", "slack env:NOT_SET_HERE", "", "", "")
    said = person.asked_of(Given())
    assert said.count("BAD  log") == 1
    assert said.count("ok   log") == 1
    assert "although 1 of the checks failed" in said
    assert load_settings().ingest.places == (str(home / "logs"),)
    assert set(load_settings().deliver.channels) == {"chat"}


def test_an_answer_that_is_not_understood_is_asked_for_again(home: Path) -> None:
    person = Person("", "-", "'logs", "logs", "", "slak env:X", "slack https://x/very-secret",
                    "none", "crn", "cron", "")  # fmt: skip
    said = person.asked_of(Given())
    assert "standard input is no place" in said
    assert "a quotation mark is not closed" in said
    assert "unknown kind of channel 'slak'; available: slack" in said
    assert "did you mean 'slack'?" in said
    assert "A secret is not typed" in said
    assert "very-secret" not in said
    assert "unknown schedule 'crn'; available: cron, systemd, none; did you mean 'cron'?" in said


def test_the_end_of_the_input_writes_nothing(home: Path) -> None:
    with pytest.raises(UsageError, match="stopped; nothing was written"):
        Person("logs", "").asked_of(Given())
    assert not (home / "keywatch.toml").exists()


def test_a_format_that_is_not_recognised_is_asked_for(home: Path) -> None:
    person = Person("odd.log", "pulsley", "pulsely", "", "", "", "", "")
    said = person.asked_of(Given())
    assert "\n2. Which format does it have? [none]\n   " in said
    assert "unknown source 'pulsley'; available: " in said
    assert "BAD  log: odd.log: no line is readable as pulsely" in said
    assert "\n6. In which folder" in said
    assert "keywatch ingest --source pulsely" in said
    assert "keywatch sources new SAMPLE" in said


def test_a_format_can_be_left_open(home: Path) -> None:
    said = Person("odd.log", "", "", "", "", "").asked_of(Given())
    assert said.count("BAD  log") == 1
    assert "although 1 of the checks failed" in said
    assert "--source" not in said.partition("Next:")[2]


def test_own_databases_get_the_setting_of_their_type(home: Path) -> None:
    from keywatch.content import content_path

    own = content_path("data/geoip/dbip-country-lite.mmdb")
    ran = keywatch("init", "--place", "logs", "--geoip", own, cwd=home)
    assert (ran.code, ran.err) == (0, "")
    geoip = load_settings().geoip
    assert (geoip.country, geoip.city) == (own, None)
    ran = keywatch("init", "--place", "logs", "--geoip", own, "--geoip", own, "--force", cwd=home)
    assert ran.code == 2
    assert "are both for country: name one of them" in ran.out


def test_a_lake_that_is_there_is_named_with_its_events(home: Path) -> None:
    assert keywatch("ingest", "logs", cwd=home).code == 0
    ran = keywatch("init", "--place", "logs", cwd=home)
    assert "ok   lake: lake has 3 events; new ones are added" in ran.out


def test_the_channel_gets_a_test_message_and_the_file_no_secret(home: Path) -> None:
    with Receiver().running() as receiver:
        channel = f"webhook {receiver.url}/in env:MY_SECRET"
        ran = keywatch("init", "--place", "logs", "--channel", channel, "--schedule", "systemd",
                       cwd=home, MY_SECRET=SIGNING)  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    (request,) = receiver.requests
    assert request.json["kind"] == "test"
    text = (home / "keywatch.toml").read_text()
    assert 'secret = { env = "MY_SECRET" }' in text
    assert SIGNING not in text + ran.out
    assert "echo 'MY_SECRET=…' | sudo tee -a /etc/keywatch.env" in ran.out


def test_the_units_are_made_for_this_folder(home: Path) -> None:
    ran = keywatch("init", "--place", "logs", "--lake", "/srv/lakes/one", "--yes",
                   "--schedule", "systemd", cwd=home, USER="ana")  # fmt: skip
    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    folder = next(line for line in lines if line.startswith("cd "))
    sed = next(line for line in lines if line.startswith("sed "))
    script = f"{folder} && {sed.removesuffix('|').replace('$unit', 'watch.service')}"
    unit = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    assert f"\nWorkingDirectory={home}\n" in unit
    assert "\nUser=ana\n" in unit
    assert f"\nReadWritePaths={home} /srv/lakes/one\n" in unit
    assert "keywatch watch --lake /srv/lakes/one\n" in unit
    assert "/srv/keywatch" not in unit


MAIL = {
    "kind": "mail", "host": "smtp.example.com", "sender": "k@example.com",
    "to": ["soc@example.com"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("slack", "chat", {"kind": "slack", "webhook_url": {"env": "SLACK_WEBHOOK"}}),
        ("slack file:/s", "chat", {"kind": "slack", "webhook_url": {"file": "/s"}}),
        ("pagerduty env:A", "pager", {"kind": "pagerduty", "routing_key": {"env": "A"}}),
        (
            "webhook https://a.example/x",
            "webhook",
            {"kind": "webhook", "url": "https://a.example/x", "secret": {"env": "WEBHOOK_SECRET"}},
        ),
        (
            "webhook env:A env:B",
            "webhook",
            {"kind": "webhook", "url": {"env": "A"}, "secret": {"env": "B"}},
        ),
        ("mail smtp.example.com k@example.com soc@example.com", "mail", MAIL),
        (
            "mail smtp.example.com:465 k@example.com soc@example.com env:P",
            "mail",
            {**MAIL, "port": 465, "security": "tls", "username": "k@example.com",
             "password": {"env": "P"}},
        ),
        ("file /tmp/a", "log", {"kind": "file", "path": "/tmp/a"}),
    ],
)  # fmt: skip
def test_a_channel_in_one_line(text: str, name: str, values: dict[str, Any]) -> None:
    found = channel_of(shlex.split(text))
    assert found is not None
    assert found[:2] == (name, values)
    assert set(found[2].channels) == {name}


@pytest.mark.parametrize("text", ["", "none"])
def test_no_channel(text: str) -> None:
    assert channel_of(shlex.split(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "slack very-secret", "slack https://hooks.slack.com/very-secret", "pagerduty very-secret",
        "webhook https://a.example very-secret", "webhook http://a.example/very-secret",
        "mail smtp.example.com k@example.com soc@example.com very-secret", "slack env:very-secret",
        "mail smtp.example.com:very-secret k@example.com soc@example.com",
        "slack env:A env:very_secret", "file", "file /tmp/a very-secret",
    ],
)  # fmt: skip
def test_what_is_no_channel_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        channel_of(shlex.split(text))
    assert "very-secret" not in str(raised.value)
    assert "very_secret" not in str(raised.value)


def test_each_form_can_be_written() -> None:
    for kind, form in FORMS.items():
        text = form.replace("[:PORT]", "").replace("FROM TO…", "a@example.com b@example.com")
        text = text.replace("URL", "https://a.example").replace("PATH", "/tmp/a")
        found = channel_of(shlex.split(text.replace("HOST", "smtp.example.com")))
        assert found is not None
        assert found[1]["kind"] == kind
