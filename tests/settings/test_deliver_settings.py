"""What `[deliver]` takes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywatch.errors import SettingsError
from keywatch.settings import Settings, load_settings
from keywatch.settings.secret_ref import SecretRef

SECRET = "https://hooks.slack.com/services/T0/B0/very-secret-text"

WHOLE = """
[deliver]
max_tries = 5
grow_bits = 12
case_url = "https://keywatch.example.com/{week}/{key_id}"
quiet_hours = { start = "22:00", end = "07:00", time_zone = "Europe/Berlin" }

[deliver.channels.chat]
kind = "slack"
webhook_url = { env = "SLACK_WEBHOOK" }

[deliver.channels.bot]
kind = "slack"
token = { prefect = "slack-token" }
conversation = "C0123456789"

[deliver.channels.pager]
kind = "pagerduty"
routing_key = { file = "/run/secrets/pagerduty" }

[deliver.channels.soar]
kind = "webhook"
url = "https://soar.example.com/keywatch"
secret = { env = "WEBHOOK_SECRET" }

[deliver.channels.mail]
kind = "mail"
host = "smtp.example.com"
username = "keywatch"
password = { env = "SMTP_PASSWORD" }
sender = "keywatch@example.com"
to = ["soc@example.com"]

[deliver.channels.log]
kind = "file"
path = "/var/log/keywatch/alerts.jsonl"

[[deliver.routes]]
actions = ["revoke"]
channels = ["pager", "soar"]

[[deliver.routes]]
severity = "medium"
channels = ["chat", "mail", "log"]
"""


def load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "keywatch.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def test_every_kind_of_channel_can_be_set(tmp_path: Path) -> None:
    deliver = load(tmp_path, WHOLE).deliver
    kinds = {name: channel.kind for name, channel in deliver.channels.items()}
    assert kinds == {
        "chat": "slack", "bot": "slack", "pager": "pagerduty", "soar": "webhook", "mail": "mail",
        "log": "file",
    }  # fmt: skip
    budgets = {name: channel.messages_per_hour for name, channel in deliver.channels.items()}
    assert budgets == {
        "chat": 20, "bot": 20, "pager": 20, "soar": None, "mail": 20, "log": None,
    }  # fmt: skip
    assert [str(ref) for ref in deliver.channels["bot"].secrets] == ["prefect slack-token"]


def test_a_route_can_be_for_owners_and_for_upkeep(tmp_path: Path) -> None:
    text = WHOLE + (
        '[[deliver.routes]]\nowners = ["team-a"]\nchannels = ["bot"]\n'
        '[[deliver.routes]]\nowners = ["team-a"]\nupkeep = true\nchannels = ["bot"]\n'
    )
    *before, alerts, upkeep = load(tmp_path, text).deliver.routes
    assert [(route.owners, route.upkeep) for route in before] == [(None, False)] * 2
    assert (alerts.upkeep, upkeep.upkeep) == (False, True)
    for route in (alerts, upkeep):
        told = [route.is_for(owner) for owner in ("team-a", "Team-A", "team-b", None)]
        assert told == [True, False, False, False]
    assert before[0].is_for(None)


def test_who_is_told_does_not_change_how_a_review_is_named(tmp_path: Path) -> None:
    assert load(tmp_path, WHOLE).config_hash == Settings().config_hash
    assert load(tmp_path, "[review]\nwarm_up_days = 6").config_hash != Settings().config_hash


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'kind = "slack"\nwebhook_url = "{SECRET}"', "a secret is not allowed in the settings"),
        ('kind = "slack"', "set webhook_url, or token and conversation"),
        ('kind = "slack"\ntoken = { env = "X" }', "set webhook_url, or token and conversation"),
        (
            'kind = "slack"\ntoken = { env = "X" }\nconversation = "C"\n'
            'webhook_url = { env = "Y" }',
            "set webhook_url, or token and conversation",
        ),
        ('kind = "pager"', "kind"),
        ('kind = "stdout"\ncolour = true', "colour"),
        ('kind = "pagerduty"\nrouting_key = {}', "set exactly one of env, file and prefect"),
        (
            'kind = "pagerduty"\nrouting_key = { env = "X", file = "Y" }',
            "set exactly one of env, file and prefect",
        ),
        (
            'kind = "webhook"\nsecret = { env = "X" }\nurl = "http://soar.example.com/"',
            "an https:// address is needed",
        ),
        (
            'kind = "webhook"\nsecret = { env = "X" }\nurl = "file:///etc/passwd"',
            "an https:// address is needed",
        ),
        (
            'kind = "mail"\nhost = "x"\nsender = "a@b"\nto = ["c@d"]\nusername = "u"',
            "username and password must be set together",
        ),
        ('kind = "mail"\nhost = "x"\nsender = "a@b"\nto = []', "to"),
        ('kind = "mail"\nhost = "x"\nsender = "a@b"\nto = ["c@d"]\nsecurity = "none"', "security"),
    ],
)
def test_a_channel_that_is_set_wrongly_is_refused_without_its_secret(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, f"[deliver.channels.one]\n{text}\n")
    assert said in str(raised.value)
    assert "deliver.channels.one" in str(raised.value)
    assert "very-secret-text" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[deliver.routes]]\nchannels = ["chat"]',
            "routes name unknown channels: chat",
        ),
        ("[[deliver.routes]]\nchannels = []", "channels"),
        ('[[deliver.routes]]\nowners = []\nchannels = ["all"]', "owners"),
        (
            '[[deliver.routes]]\nupkeep = true\nactions = ["rotate"]\nchannels = ["all"]',
            "a route with upkeep = true carries no alerts",
        ),
        (
            '[[deliver.routes]]\nupkeep = true\nseverity = "low"\nchannels = ["all"]',
            "a route with upkeep = true carries no alerts",
        ),
        (
            '[deliver.channels.pager]\nkind = "pagerduty"\nrouting_key = { env = "X" }\n'
            '[[deliver.routes]]\nupkeep = true\nchannels = ["pager"]',
            "key hygiene can't go to a pager: pager is of kind pagerduty",
        ),
        (
            '[deliver]\nquiet_hours = { start = "22:00", end = "07:00", time_zone = "Berlin" }',
            "unknown time zone 'Berlin'",
        ),
        ('[deliver]\ncase_url = "https://x.example/{key}"', "only {key_id} and {week}"),
        ('[deliver]\ncase_url = "javascript:alert({key_id})"', "an https:// address is needed"),
        ("[deliver]\nmax_tries = 0", "max_tries"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "", " ", "not an address", "a@x, b@x", "a@", "@x", "a@x.", "a@x y", " a@x", "a@@x",
        "Name <a@x>", "<a@x>", "a@x\\nBcc: b@x", "ä@x", "a@ä.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["to", "sender"])
def test_what_is_no_mail_address_is_refused(address: str, place: str, tmp_path: Path) -> None:
    to, sender = (address, "k@x") if place == "to" else ("soc@x", address)
    with pytest.raises(
        SettingsError, match="is not a mail address: use the form name@example"
    ) as raised:
        load(
            tmp_path,
            '[deliver.channels.mail]\nkind = "mail"\nhost = "x"\n'
            f'sender = "{sender}"\nto = ["a@b", "{to}"]\n',
        )
    assert f"deliver.channels.mail.{place}" in str(raised.value)


def test_a_reference_says_where_and_a_number_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(SecretRef(file=Path("/run/x"))) == "file /run/x"
    monkeypatch.setenv("KEYWATCH_DELIVER__MAX_TRIES", "3")
    assert load(tmp_path, "").deliver.max_tries == 3
