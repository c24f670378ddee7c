"""The `[owners]` section: what is accepted, and what an error says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keywatch.errors import SettingsError
from keywatch.settings import Settings, load_settings

CHANNELS = """
[deliver.channels.mail]
kind = "mail"
host = "smtp.example.com"
sender = "keywatch@example.com"
to = ["soc@example.com"]
[deliver.channels.bot]
kind = "slack"
token = { env = "BOT" }
conversation = "C01"
[deliver.channels.hook]
kind = "slack"
webhook_url = { env = "HOOK" }
"""
MAIL = '[owners]\nchannel = "mail"\n'


def load(folder: Path, text: str) -> Settings:
    file = folder / "keywatch.toml"
    file.write_text(text + CHANNELS, encoding="utf-8")
    return load_settings(file)


def test_contacts_come_from_the_settings_and_a_file(tmp_path: Path) -> None:
    assert not Settings().owners.asks
    file = tmp_path / "owners.csv"
    file.write_text('owner,mail,slack\n"team, b",b@example.com,\nteam-c,,U0123\n', "utf-8")
    text = (
        f'[owners]\nchannel = ["mail", "bot"]\nfile = "{file}"\nanswer_within = "90m"\n'
        'people.team-a = { mail = "a@example.com", slack = "U1234" }\n'
    )
    owners = load(tmp_path, text).owners
    assert owners.answer_within == timedelta(minutes=90)
    found = [owners.contact(name) for name in ("team-a", "team, b", "team-c", "team-d", None)]
    assert [one and (one.mail, one.slack) for one in found] == [
        ("a@example.com", "U1234"), ("b@example.com", None), (None, "U0123"), None, None,
    ]  # fmt: skip
    assert load(tmp_path, text).config_hash == Settings().config_hash


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[owners]\npeople.a = { mail = "a@b.example" }\n', "channel is not set"),
        ('[owners]\nchannel = "none"\n', "channel names none, which is not one of"),
        ('[owners]\nchannel = "hook"\n', "channel hook can't ask an owner: use one of kind mail"),
        ('[owners]\nchannel = ["mail", "mail"]\n', "two of one kind"),
        (MAIL + "people.a = {}\n", "set mail, slack or both"),
        (MAIL + 'people.a = { mail = "Ana" }\n', "'Ana' is not a mail address"),
        (MAIL + 'people.a = { slack = "@ana" }\n', "'@ana' is not a Slack user"),
        (MAIL + 'people.a = { slack = "U0123" }\n', "'a' has no mail contact"),
        (MAIL + 'answer_within = "soon"\n', "'soon' is not a duration: write minutes"),
        (MAIL + 'answer_within = "9d"\n', "9d is out of range"),
        (MAIL + 'base_url = "http://keys.example.com"\n', "an https:// address is needed"),
        (MAIL + 'base_url = "https://keys.example.com?a"\n', "without ? and #"),
        (MAIL + 'bind = "127.0.0.1:8480"\n', "bind needs base_url"),
        (MAIL + 'base_url = "https://k.example"\nbind = "8480"\n', "write HOST:PORT"),
        (MAIL + 'app_token = "xapp-1-secret"\n', "a secret is not allowed in the settings"),
        (MAIL + 'app_token = { env = "APP" }\n', "app_token needs a Slack channel"),
        (MAIL + 'ask = ["rotate"]\n', "owners.ask"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert said in str(raised.value)
    assert "xapp-1-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the columns are missing; write owner, mail, slack"),
        ("name,mail\na,b@c.example\n", "line 1: the columns are name, mail"),
        ("owner,mail\na,b@c.example\n\nb,nobody\n", "line 4, 'b': mail: 'nobody' is not a mail"),
        ("owner,mail\n,b@c.example\n", "line 2: the owner is empty"),
        ("owner,mail\na,b@c.example\na,b@c.example\n", "line 3: 'a' has a contact already"),
        ("owner,mail\na\n", "line 2: 1 values for 2 columns"),
        ('owner,mail\n"a,b@c.example\n', "line 2: not CSV"),
        ("owner,mail,slack\na,,\n", "line 2, 'a': set mail, slack or both"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_line(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "owners.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, f'{MAIL}file = "{file}"\n')
    assert f"{file}, {said}" in str(raised.value)
    file.unlink()
    with pytest.raises(SettingsError, match=r"owners\.csv: can't be read"):
        load(tmp_path, f'{MAIL}file = "{file}"\n')
