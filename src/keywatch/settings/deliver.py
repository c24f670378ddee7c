"""The `[deliver]` section: channels, routes and quiet hours.

Secrets are not in the settings: a `SecretRef` names the place of a secret.
"""

from __future__ import annotations

from datetime import time
from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from keywatch.hints import did_you_mean
from keywatch.model import SEVERITIES, Action, Severity
from keywatch.settings.secret_ref import SecretRef
from keywatch.settings.web_address import web_address

Seconds = Annotated[float, Field(gt=0)]
Budget = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Channel(_Section):
    timeout_seconds: Seconds = 10.0
    """The longest wait for an answer of the receiver."""
    messages_per_hour: Budget | None = 20
    """Further messages become one summary; absent: no limit."""

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """The secrets to resolve before the channel can be used."""
        found = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value for value in found if isinstance(value, SecretRef))

    @property
    def address(self) -> str | SecretRef | None:
        """The web address of the receiver; None if the channel has none."""
        return None


class SlackChannel(_Channel):
    """An incoming webhook; or a bot's token and a conversation, where messages are updated."""

    kind: Literal["slack"]
    webhook_url: SecretRef | None = None
    """The address of an incoming webhook, which is a secret."""
    token: SecretRef | None = None
    """A bot's token, together with `conversation`."""
    conversation: str | None = None
    """The id of the conversation (``C0123456789``)."""
    api_url: str = "https://slack.com/api/"
    """The address of Slack's API."""

    _api_url = field_validator("api_url")(web_address)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        bot = self.token is not None and self.conversation is not None
        if (self.webhook_url is not None) == bot or (self.token is None) != (
            self.conversation is None
        ):
            raise ValueError("set webhook_url, or token and conversation")
        return self

    @property
    def address(self) -> str | SecretRef:
        """The address of the webhook or of Slack's API."""
        return self.webhook_url or self.api_url


class PagerDutyChannel(_Channel):
    """An integration of a service (Events API v2)."""

    kind: Literal["pagerduty"]
    routing_key: SecretRef
    """The integration key of the service."""
    url: str = "https://events.pagerduty.com/v2/enqueue"
    """The address of the Events API; another one for a service in the EU."""

    _url = field_validator("url")(web_address)

    @property
    def address(self) -> str:
        """The address of the Events API."""
        return self.url


class WebhookChannel(_Channel):
    """JSON with a published schema, signed by Standard Webhooks."""

    kind: Literal["webhook"]
    url: str | SecretRef
    """The address of the receiver, or where it is kept if it is a secret itself."""
    secret: SecretRef
    """The signing secret, ``whsec_…`` or bare Base64, of at least 24 bytes."""
    previous_secret: SecretRef | None = None
    """The secret before it, which signs as well until every receiver has the new one."""
    messages_per_hour: Budget | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | SecretRef) -> str | SecretRef:
        return web_address(url) if isinstance(url, str) else url

    @property
    def address(self) -> str | SecretRef:
        """The address of the receiver."""
        return self.url


def _mail_address(text: str) -> str:
    try:
        parsed = Address(addr_spec=text)
        is_one = bool(parsed.username and parsed.domain) and str(parsed) == text
    except (ValueError, IndexError, MessageError):
        is_one = False
    if not (is_one and text.isascii()):
        raise ValueError(
            f"{text!r} is not a mail address: use the form name@example.com, in ASCII; put several "
            "addresses in a list"
        )
    return text


MailAddress = Annotated[str, AfterValidator(_mail_address)]


class MailChannel(_Channel):
    """Mail by SMTP, with TLS or STARTTLS."""

    kind: Literal["mail"]
    host: str
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port; with TLS usually 465."""
    security: Literal["starttls", "tls"] = "starttls"
    """TLS after a plain greeting, or from the start."""
    username: str | None = None
    """For a server with a login."""
    password: SecretRef | None = None
    """Together with `username`."""
    sender: MailAddress
    """The address in From."""
    to: Annotated[list[MailAddress], Field(min_length=1)]
    """The recipients."""
    ca_file: Path | None = None
    """Trusted certificates instead of the system's."""

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be set together")
        return self


class FileChannel(_Channel):
    """JSON Lines, one message per line."""

    kind: Literal["file"]
    path: Path
    """The file to append to; it is created if it does not exist."""
    messages_per_hour: Budget | None = None


class StdoutChannel(_Channel):
    """Text on standard output, for cron's mail or a log."""

    kind: Literal["stdout"]
    messages_per_hour: Budget | None = None


ChannelSettings = Annotated[
    SlackChannel | PagerDutyChannel | WebhookChannel | MailChannel | FileChannel | StdoutChannel,
    Field(discriminator="kind"),
]


class Route(_Section):
    """Sends alerts with these actions and at least this severity, or key hygiene, to channels."""

    actions: tuple[Action, ...] = ("revoke", "rotate", "investigate")
    """Only alerts with one of these actions."""
    severity: Severity = SEVERITIES[-1]
    """The lowest severity."""
    owners: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Only for keys of these owners, as in the inventory; absent: all keys."""
    upkeep: bool = False
    """The weekly list of key hygiene instead of alerts."""
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    """The names of the channels."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.upkeep and self.model_fields_set & {"actions", "severity"}:
            raise ValueError(
                "a route with upkeep = true carries no alerts: set actions and severity in "
                "another route"
            )
        return self

    def is_for(self, owner: str | None) -> bool:
        """Whether the route applies to keys of `owner`."""
        return self.owners is None or owner in self.owners


class QuietHours(_Section):
    """When all messages except `revoke` wait; may span midnight."""

    start: time
    """The first minute, such as ``22:00``."""
    end: time
    """The minute after the last."""
    time_zone: str = "UTC"
    """IANA zone of both times."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as e:
            raise ValueError(f"unknown time zone {name!r}; use a name such as Europe/Berlin") from e
        return name


class Heartbeat(_Section):
    """A regular message that Keywatch is running, with its health findings."""

    channel: str
    """The name of the channel."""
    every_hours: Annotated[int, Field(ge=1)] = 24
    """The least time between two of these messages."""


class DeliverSettings(_Section):
    """How alerts are sent to people and programs."""

    max_tries: Annotated[int, Field(ge=1)] = 12
    """Then a message is a dead letter; with the pauses below, after about a day."""
    first_pause_seconds: Seconds = 30.0
    """The longest pause after the first failed attempt; later ones grow exponentially."""
    longest_pause_seconds: Seconds = 6 * 3600.0
    """The longest pause between two attempts."""
    run_seconds: Seconds = 120.0
    """The time of one run for each channel; remaining messages are due at the next run."""
    grow_bits: Annotated[float, Field(gt=0)] = 10.0
    """An alert is sent again when its case has grown by so many bits."""
    confirm_hours: Annotated[float, Field(ge=0)] = 24.0
    """A log without use for so long after the revocation closes the alert."""
    case_url: str | None = None
    """The address of a case, with ``{key_id}`` and ``{week}``."""
    quiet_hours: QuietHours | None = None
    """When messages wait."""
    channels: dict[str, ChannelSettings] = {}
    """The channels, by a name of your choice."""
    routes: tuple[Route, ...] = ()
    """Without routes for alerts, every channel gets every alert; key hygiene needs a route."""
    heartbeat: Heartbeat | None = None
    """A regular sign that Keywatch is running; by default none."""
    approved_channels: tuple[str, ...] = ()
    """Receive only `revoke` alerts that an analyst approved: for programs that revoke keys."""

    @field_validator("case_url")
    @classmethod
    def _case_url(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                web_address(url.format(key_id="key", week="2026-W40"))
            except (KeyError, IndexError) as e:
                raise ValueError("only {key_id} and {week} are replaced in it") from e
        return url

    @model_validator(mode="after")
    def _known_channels(self) -> Self:
        named = {name for route in self.routes for name in route.channels}
        if unknown := sorted(named - self.channels.keys()):
            hint = did_you_mean(unknown[0], self.channels)
            raise ValueError(f"routes name unknown channels: {', '.join(unknown)}{hint}")
        if unknown := sorted(set(self.approved_channels) - self.channels.keys()):
            hint = did_you_mean(unknown[0], self.channels)
            raise ValueError(
                f"approved_channels names unknown channels: {', '.join(unknown)}{hint}"
            )
        if both := sorted(named & set(self.approved_channels)):
            raise ValueError(
                f"a channel can be in routes or in approved_channels, not both: {', '.join(both)}"
            )
        if self.heartbeat is not None:
            name = self.heartbeat.channel
            if name not in self.channels or name in self.approved_channels:
                raise ValueError(
                    f"heartbeat can't use channel {name}: choose one of deliver.channels that "
                    f"is not in approved_channels{did_you_mean(name, self.channels)}"
                )
            if self.channels[name].kind == "pagerduty":
                raise ValueError(
                    f"a heartbeat can't go to a pager: {name} is of kind pagerduty; "
                    "choose another channel"
                )
        weekly = {name for route in self.routes if route.upkeep for name in route.channels}
        if pagers := sorted(name for name in weekly if self.channels[name].kind == "pagerduty"):
            raise ValueError(
                f"key hygiene can't go to a pager: {', '.join(pagers)} is of kind pagerduty; "
                "choose another channel in the route with upkeep = true"
            )
        return self
