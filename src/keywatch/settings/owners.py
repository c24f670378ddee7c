"""The `[owners]` section: how owners of keys are reached, and what they are asked."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from keywatch.settings.deliver import ChannelSettings, MailAddress
from keywatch.settings.secret_ref import SecretRef
from keywatch.settings.web_address import web_address

ContactKind = Literal["mail", "slack"]

_COLUMNS = ("owner", "mail", "slack")
_DURATION = re.compile(r"(\d{1,4})\s*(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(days=7)
_BIND = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_MOST_PORT = 65_535


def _duration(value: object) -> object:
    """``90m``, ``2h`` or ``1d`` as a time span."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration: write minutes, hours or days, such as 2h")
    span = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if not _SHORTEST <= span <= _LONGEST:
        raise ValueError(f"{value} is out of range: from 1m to 7d")
    return span


def _slack_user(value: object) -> object:
    if not (isinstance(value, str) and re.fullmatch(r"[UW][A-Z0-9]{2,20}", value)):
        raise ValueError(
            f"{value!r} is not a Slack user: write the member ID from the profile, such as "
            "U0123456789"
        )
    return value


SlackUser = Annotated[str, BeforeValidator(_slack_user)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Contact(_Section):
    """How an owner is reached: by mail, in Slack, or both."""

    mail: MailAddress | None = None
    slack: SlackUser | None = None
    """The member ID (``U0123456789``), not the name."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.mail is None and self.slack is None:
            raise ValueError("set mail, slack or both")
        return self

    def address(self, kind: str) -> str | None:
        """The address or user for a channel of `kind`; None if there is none."""
        return {"mail": self.mail, "slack": self.slack}.get(kind)


class OwnerSettings(_Section):
    """Asks the owners of keys whether unusual use was theirs."""

    people: dict[str, Contact] = {}
    """Contacts by owner, as in the inventory."""
    file: Path | None = None
    """More contacts: CSV with the columns owner, mail and slack."""
    channel: tuple[str, ...] = ()
    """The channel that sends the questions: one of kind mail, or Slack with a bot token; or one of
    each."""
    ask: tuple[Literal["investigate", "revoke"], ...] = ("investigate",)
    """The actions of alerts about which the owner is asked."""
    answer_within: Duration = timedelta(hours=2)
    """Without an answer for so long after the question was sent, the channels are notified."""
    base_url: str | None = None
    """The address at which owners open links to answer; by default messages contain no links."""
    bind: str | None = None
    """Where keywatch answers serve listens, as ``127.0.0.1:8480``; TLS is a reverse proxy's."""
    app_token: SecretRef | None = None
    """The Slack app's token for socket mode (``xapp-…``); with it, questions have buttons."""

    _contacts: Mapping[str, Contact] = PrivateAttr(default_factory=dict)

    @field_validator("channel", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if re.search(r"[?#]", web_address(url)):
            raise ValueError("write the address without ? and #, such as https://keys.example.com")
        return url.rstrip("/")

    @field_validator("bind")
    @classmethod
    def _bind(cls, bind: str | None) -> str | None:
        if bind is not None:
            found = _BIND.fullmatch(bind)
            if found is None or int(found["port"]) > _MOST_PORT:
                raise ValueError(f"{bind!r}: write HOST:PORT, such as 127.0.0.1:8480")
        return bind

    @model_validator(mode="after")
    def _complete(self) -> Self:
        contacts = dict(self.people)
        if self.file is not None:
            for line, owner, contact in _read(self.file):
                if owner in contacts:
                    raise ValueError(
                        f"{self.file}, line {line}: {owner!r} has a contact already; keep one of "
                        "them"
                    )
                contacts[owner] = contact
        self._contacts = contacts
        if contacts and not self.channel:
            raise ValueError("channel is not set: name the mail or Slack channel that asks")
        if self.bind is not None and self.base_url is None:
            raise ValueError("bind needs base_url, the address that owners open")
        return self

    @property
    def asks(self) -> bool:
        """Whether any owner is asked."""
        return bool(self._contacts)

    def contact(self, owner: str | None) -> Contact | None:
        """The contact of an owner, as in the inventory; None if the owner has none."""
        return None if owner is None else self._contacts.get(owner)

    def check_channels(self, channels: Mapping[str, ChannelSettings]) -> None:
        """Check that questions can be sent by `channels`, those of the settings.

        Raises:
            ValueError: a channel is unknown or of another kind, or an owner can't be reached.
        """
        kinds: list[str] = []
        for name in self.channel:
            found = channels.get(name)
            if found is None:
                raise ValueError(f"channel names {name}, which is not one of deliver.channels")
            bot = found.kind == "slack" and found.token is not None
            if found.kind != "mail" and not bot:
                raise ValueError(
                    f"channel {name} can't ask an owner: use one of kind mail, or slack with token "
                    "and conversation"
                )
            kinds.append(found.kind)
        if len(set(kinds)) < len(kinds):
            raise ValueError("channel names two of one kind: keep one mail and one Slack channel")
        if self.app_token is not None and "slack" not in kinds:
            raise ValueError("app_token needs a Slack channel with a bot token in channel")
        for owner, contact in self._contacts.items():
            if not any(contact.address(kind) for kind in kinds):
                raise ValueError(
                    f"{owner!r} has no {' or '.join(kinds)} contact, which channel "
                    f"{', '.join(self.channel)} needs"
                )


def _read(file: Path) -> Iterator[tuple[int, str, Contact]]:
    """Line, owner and contact of each row.

    Raises:
        ValueError: the file can't be read, or a row is wrong; names file, line and value.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "not UTF-8"
        raise ValueError(f"{file}: can't be read ({why})") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [name.strip().lower() for name in next(rows, [])]
        if sorted(head) != sorted(set(head) & set(_COLUMNS)) or not {"owner"} < set(head):
            raise ValueError(
                f"{file}, line 1: the columns are {', '.join(head) or 'missing'}; write owner, "
                "mail, slack"
            )
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise ValueError(
                    f"{file}, line {rows.line_num}: {len(cells)} values for {len(head)} columns"
                )
            values = {name: cell.strip() for name, cell in zip(head, cells, strict=True)}
            yield rows.line_num, *_contact(file, rows.line_num, values)
    except csv.Error as e:
        raise ValueError(f"{file}, line {rows.line_num}: not CSV ({e})") from None


def _contact(file: Path, line: int, values: dict[str, str]) -> tuple[str, Contact]:
    owner = values.pop("owner")
    if not owner:
        raise ValueError(f"{file}, line {line}: the owner is empty; write it as in the inventory")
    try:
        return owner, _CONTACT.validate_python({k: v for k, v in values.items() if v})
    except ValidationError as e:
        what = "; ".join(
            ": ".join([*map(str, each["loc"]), each["msg"].removeprefix("Value error, ")])
            for each in e.errors()
        )
        raise ValueError(f"{file}, line {line}, {owner!r}: {what}") from None


_CONTACT: TypeAdapter[Contact] = TypeAdapter(Contact)
