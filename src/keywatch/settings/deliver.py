"""What `[deliver]` can say: channels, which action goes where, and when not.

A secret is never written into the settings: a `SecretRef` names where it is kept.
"""

from __future__ import annotations

from datetime import time
from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from keywatch.model import SEVERITIES, Action, Severity
from keywatch.settings.web_address import web_address

Seconds = Annotated[float, Field(gt=0)]
Budget = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(_Section):
    """Where a secret is kept: an environment variable, a file, or a Prefect Secret block."""

    env: str | None = None
    file: Path | None = None
    prefect: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                'a secret does not stand in the settings: write { env = "NAME" }, '
                '{ file = "PATH" } or { prefect = "BLOCK" }'
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.env, self.file, self.prefect)) != 1:
            raise ValueError("set exactly one of env, file and prefect")
        return self

    def __str__(self) -> str:
        """``env NAME``: the place, in words."""
        for kind in ("env", "file", "prefect"):
            if (place := getattr(self, kind)) is not None:
                return f"{kind} {place}"
        raise AssertionError("a place is always named")


class _Channel(_Section):
    timeout_seconds: Seconds = 10.0
    """How long one answer of the receiver is waited for."""
    messages_per_hour: Budget | None = 20
    """Beyond it one summary tells of the rest; absent: no budget."""

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """What has to be resolved before the channel can be used."""
        found = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value for value in found if isinstance(value, SecretRef))

    @property
    def address(self) -> str | SecretRef | None:
        """The web address that it sends to; None where it has none."""
        return None


class SlackChannel(_Channel):
    """An incoming webhook; or a bot's token and a conversation, where messages grow with a case."""

    kind: Literal["slack"]
    webhook_url: SecretRef | None = None
    token: SecretRef | None = None
    conversation: str | None = None
    """The id of the conversation (``C0123456789``) that the bot writes to."""
    api_url: str = "https://slack.com/api/"

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
        """The webhook's, or that of Slack's API."""
        return self.webhook_url or self.api_url


class PagerDutyChannel(_Channel):
    """A service's integration by the Events API v2."""

    kind: Literal["pagerduty"]
    routing_key: SecretRef
    url: str = "https://events.pagerduty.com/v2/enqueue"

    _url = field_validator("url")(web_address)

    @property
    def address(self) -> str:
        """That of the Events API."""
        return self.url


class WebhookChannel(_Channel):
    """JSON by the published schema, signed as Standard Webhooks says."""

    kind: Literal["webhook"]
    url: str | SecretRef
    secret: SecretRef
    """The signing secret, ``whsec_…`` or bare Base64, of at least 24 bytes."""
    previous_secret: SecretRef | None = None
    """The one before it, which signs as well until every receiver knows the new one."""
    messages_per_hour: Budget | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | SecretRef) -> str | SecretRef:
        return web_address(url) if isinstance(url, str) else url

    @property
    def address(self) -> str | SecretRef:
        """The receiver's."""
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
    """Mail by SMTP, with TLS from the start or by STARTTLS."""

    kind: Literal["mail"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls"] = "starttls"
    username: str | None = None
    password: SecretRef | None = None
    sender: MailAddress
    to: Annotated[list[MailAddress], Field(min_length=1)]
    ca_file: Path | None = None
    """Certificates to trust in place of the system's."""

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be set together")
        return self


class FileChannel(_Channel):
    """JSON Lines, one message a line."""

    kind: Literal["file"]
    path: Path
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
    """Alerts of these actions, from this severity up, go to these channels; or upkeep does."""

    actions: tuple[Action, ...] = ("revoke", "rotate", "investigate")
    severity: Severity = SEVERITIES[-1]
    """The least severity."""
    owners: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Of keys of these owners, as the inventory names them; absent: of all keys."""
    upkeep: bool = False
    """The weekly list of upkeep, in place of alerts."""
    channels: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.upkeep and self.model_fields_set & {"actions", "severity"}:
            raise ValueError(
                "a route with upkeep = true carries no alerts: set actions and severity in "
                "another route"
            )
        return self

    def is_for(self, owner: str | None) -> bool:
        """Whether a key of `owner` is among those that it is about."""
        return self.owners is None or owner in self.owners


class QuietHours(_Section):
    """When what is not to be revoked waits; from may be later than to, over midnight."""

    start: time
    end: time
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as e:
            raise ValueError(f"unknown time zone {name!r}; use a name such as Europe/Berlin") from e
        return name


class Heartbeat(_Section):
    """A message at most so often that says that Keywatch runs, and what of its health is wrong."""

    channel: str
    every_hours: Annotated[int, Field(ge=1)] = 24


class DeliverSettings(_Section):
    """How alerts reach people and programs."""

    max_tries: Annotated[int, Field(ge=1)] = 12
    """After so many a message is a dead letter; with the pauses below, about a day."""
    first_pause_seconds: Seconds = 30.0
    longest_pause_seconds: Seconds = 6 * 3600.0
    run_seconds: Seconds = 120.0
    """How long one run tries for each channel; what is left over is due at the next run."""
    grow_bits: Annotated[float, Field(gt=0)] = 10.0
    """A case that was told is told again when it has grown by so much."""
    confirm_hours: Annotated[float, Field(ge=0)] = 24.0
    """So much log after a revocation without use says that the alert is over."""
    case_url: str | None = None
    """Where a case can be read, with ``{key_id}`` and ``{week}`` in it."""
    quiet_hours: QuietHours | None = None
    channels: dict[str, ChannelSettings] = {}
    routes: tuple[Route, ...] = ()
    """Without any for alerts, every channel gets every alert; upkeep goes by routes alone."""
    heartbeat: Heartbeat | None = None
    approved_channels: tuple[str, ...] = ()
    """They hear of a `revoke` that an analyst approved and of nothing else: what revokes keys."""

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
            raise ValueError(f"routes name unknown channels: {', '.join(unknown)}")
        if unknown := sorted(set(self.approved_channels) - self.channels.keys()):
            raise ValueError(f"approved_channels names unknown channels: {', '.join(unknown)}")
        if both := sorted(named & set(self.approved_channels)):
            raise ValueError(
                f"a channel can be in routes or in approved_channels, not both: {', '.join(both)}"
            )
        if self.heartbeat is not None:
            name = self.heartbeat.channel
            if name not in self.channels or name in self.approved_channels:
                raise ValueError(
                    f"heartbeat can't use channel {name}: choose one of deliver.channels that "
                    "is not in approved_channels"
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
