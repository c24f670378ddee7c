"""One run of `keywatch deliver`: what the log says of revoked keys, then all that is due."""

from __future__ import annotations

import base64
import mimetypes
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keywatch.deliver import outbox, planning, questions, sender
from keywatch.deliver.channel import Channel
from keywatch.deliver.channels import open_channel
from keywatch.deliver.claims import Claim, Claims, claims_of
from keywatch.deliver.credentials import Vault
from keywatch.deliver.message import Attachment, Message
from keywatch.deliver.sender import ChannelReport
from keywatch.errors import InputError, SecretError
from keywatch.lake import Lake, utc_now
from keywatch.model import Review
from keywatch.notices import is_stopping, notice
from keywatch.review import alerts
from keywatch.review.alerts import Change
from keywatch.review.questions import leave_unanswered
from keywatch.settings import Settings
from keywatch.settings.deliver import DeliverSettings
from keywatch.settings.owners import OwnerSettings
from keywatch.settings.secret_ref import PrefectBlock, SecretRef
from keywatch.settings.web_address import nearness
from keywatch.text.phrases import count
from keywatch.text.safe_text import printable

_WHY_LENGTH = 1000
_LARGEST_REPORT_BYTES = 5_000_000
_LOOK_AGAIN_SECONDS = 1.0
_NO_OWNERS = OwnerSettings()


@dataclass(frozen=True)
class DeliveryReport:
    """What a run did: by channel, what waits in all, and channels that can't be used and why.

    `left` are the channels with due messages that another machine was sending for until the end.
    """

    channels: tuple[ChannelReport, ...] = ()
    later: int = 0
    unusable: dict[str, str] = field(default_factory=dict)
    followed: tuple[str, ...] = ()
    left: tuple[Claim, ...] = ()


def render_delivery(done: DeliveryReport) -> tuple[str, list[str]]:
    """What was done, as lines of text; and what is amiss, for standard error."""
    lines = [printable(why, _WHY_LENGTH) for why in done.followed]
    lines += [f"{one.channel}: {one.sent:,} sent" for one in done.channels]
    problems = [
        f"{one.channel}: {one.later:,} to be retried, {one.dead:,} given up: {one.error}"
        for one in done.channels
        if one.error
    ]
    problems += [f"channel {one.channel}: {one}; its messages are left to it" for one in done.left]
    if done.later:
        verb = "waits" if done.later == 1 else "wait"
        problems.append(f"{count(done.later, 'message')} {verb} for the next run")
    if not (lines or problems or done.unusable):
        lines = ["No messages are due."]
    return "".join(f"{line}\n" for line in lines), problems


@dataclass(frozen=True)
class Outbox:
    """The lake's outbox, with channels, routes and owners of these settings (`alerts.Outbox`)."""

    settings: DeliverSettings
    owners: OwnerSettings = _NO_OWNERS

    @classmethod
    def of(cls, settings: Settings) -> Outbox:
        """That of all settings."""
        return cls(settings.deliver, settings.owners)

    def tell(self, lake: Lake, changes: list[Change]) -> int:
        alerts.store(lake, changes)
        asked = questions.ask(lake, changes, self.settings, self.owners)
        told = outbox.enqueue_questions(lake, asked)
        return told + outbox.enqueue(lake, changes, self.settings)

    def upkeep_is_due(self, lake: Lake, review: Review) -> bool:
        return outbox.upkeep_is_due(lake, review, self.settings)

    def enqueue_upkeep(self, lake: Lake, review: Review) -> int:
        return outbox.enqueue_upkeep(lake, review, self.settings)


def deliver_due(
    lake: Lake,
    settings: DeliverSettings,
    owners: OwnerSettings = _NO_OWNERS,
    *,
    again: bool = False,
    wait_seconds: float = 0.0,
    prefect: PrefectBlock | None = None,
) -> DeliveryReport:
    """Send all that is due; with `again`, dead letters too.

    First the channels are notified of alerts whose owners did not answer in time.

    Raises:
        LakeBusyError: another process writes, or one of this machine sends, for longer than it is
            waited for.
    """
    with sender.only_sender(lake, wait_seconds), claims_of(lake, settings) as claims:
        sender.commit(lake, claims.journal)
        followed = _refresh(lake, Outbox(settings, owners), again)
        vault = Vault(prefect)
        channels, unusable = _open(settings, vault)
        run = _Run(lake, settings, owners, channels, claims, vault)
        run.until(time.monotonic() + wait_seconds)
        return DeliveryReport(
            channels=tuple(run.done),
            later=run.later,
            unusable=unusable,
            followed=tuple(change.alert.why for change in followed),
            left=run.left,
        )


class _Run:
    """What is due for `channels`, sent as soon as no other machine sends for them."""

    def __init__(
        self,
        lake: Lake,
        settings: DeliverSettings,
        owners: OwnerSettings,
        channels: Mapping[str, Channel],
        claims: Claims,
        vault: Vault,
    ) -> None:
        self._lake = lake
        self._settings = settings
        self._owners = owners
        self._channels = channels
        self._claims = claims
        self._vault = vault
        self._told = False
        self.done: list[ChannelReport] = []
        self.later = 0
        self.left: tuple[Claim, ...] = ()

    def until(self, deadline: float) -> None:
        """Send; a channel of another machine is waited for while it has due messages."""
        unclaimed = set(self._channels)
        while True:
            with self._lake.reading_briefly():
                made = planning.plan(self._lake, self._settings, utc_now(), unclaimed)
            self.later = made.later
            if made.is_empty:
                return
            if own := self._claims.take(unclaimed):
                self._send(own, made)
                self._claims.release()
                unclaimed -= own
                if not unclaimed:
                    return
            elif time.monotonic() >= deadline or is_stopping():
                self.later += sum(map(len, made.to_send.values()))
                self.left = tuple(
                    one for name, one in self._claims.others().items() if name in unclaimed
                )
                return
            else:
                self._wait(unclaimed)

    def _send(self, own: Collection[str], made: planning.Plan) -> None:
        if self._claims.is_shared:  # who had the channels before may have sent since
            sender.commit(self._lake, self._claims.journal)
            made = planning.plan(self._lake, self._settings, utc_now(), own)
        if made.is_to_be_kept:
            with self._lake.writing():
                self._claims.check(own)
                planning.keep_plan(self._lake, made)
        reply = None
        if any(one.message.kind == "question" for due in made.to_send.values() for one in due):
            reply = questions.replies(self._lake, self._owners, self._vault)
        done = sender.send(
            self._lake, made, self._channels, self._settings, self._claims, self._vault.hide, reply
        )
        self.done += done
        self.later = made.later + sum(one.later for one in done)

    def _wait(self, unclaimed: Collection[str]) -> None:
        if not self._told:
            for name, one in self._claims.others().items():
                if name in unclaimed:
                    notice(f"channel {name}: {one}; waiting for it")
            self._told = True
        time.sleep(_LOOK_AGAIN_SECONDS)


def preview(
    lake: Lake, settings: DeliverSettings, owners: OwnerSettings = _NO_OWNERS
) -> dict[str, list[Message]]:
    """What `deliver_due` would send now, by channel; nothing is kept."""
    planned: dict[str, list[Message]] = {}
    with suppress(_NotKeptError), lake.writing():
        _follow(lake, Outbox(settings, owners))
        made = planning.plan(lake, settings, utc_now(), settings.channels.keys())
        planned = {name: [one.message for one in due] for name, due in made.to_send.items()}
        raise _NotKeptError
    return planned


def unusable_channels(settings: DeliverSettings) -> dict[str, str]:
    """The channels that can't be used, and why; nobody is connected to.

    A Prefect block is not asked for, so what it holds is not looked at.
    """
    vault = Vault(prefect=lambda _: "not asked for")
    unusable = {}
    for name, one in settings.channels.items():
        try:
            if any(ref.prefect is not None for ref in one.secrets):
                for ref in one.secrets:
                    vault.resolve(ref)
            else:
                open_channel(one, vault).close()
        except SecretError as e:
            unusable[name] = str(e)
    return unusable


def near_channels(settings: DeliverSettings) -> dict[str, str]:
    """The channels whose receiver is on this machine or in a private network, and which of both."""
    vault = Vault(prefect=lambda _: "")
    near = {}
    for name, one in settings.channels.items():
        address = one.address
        with suppress(SecretError):  # `unusable_channels` tells of it
            if isinstance(address, SecretRef):
                address = vault.resolve(address).get_secret_value()
            if address and (where := nearness(address)):
                near[name] = where
    return near


def put_report(lake: Lake, file: Path, settings: DeliverSettings) -> int:
    """Put a finished report into the outbox of each mail channel, once; returns how many.

    Raises:
        InputError: it can't be read, or is larger than mail servers take.
    """
    try:
        content = file.read_bytes()
    except OSError as e:
        raise InputError(f"{file}: can't be read ({e.strerror})") from e
    if len(content) > _LARGEST_REPORT_BYTES:
        raise InputError(
            f"{file}: {len(content):,} bytes exceed the limit for mail attachments "
            f"({_LARGEST_REPORT_BYTES:,}); send a smaller report"
        )
    media_type, _ = mimetypes.guess_type(file.name)
    attachment = Attachment(
        name=printable(file.name),
        media_type=media_type or "application/octet-stream",
        content=base64.b64encode(content).decode("ascii"),
    )
    mails = [name for name, one in settings.channels.items() if one.kind == "mail"]
    with lake.writing():
        return outbox.enqueue_report(lake, f"Keywatch report {file.name}", attachment, mails)


class _NotKeptError(Exception):
    """Rolls a transaction back."""


def _refresh(lake: Lake, own: Outbox, again: bool) -> list[Change]:
    """Put into the outbox what has come about since, by the log and by the clock.

    A load may be writing for minutes: it is waited for only if there is something to put.
    """
    settings = own.settings
    with lake.reading_briefly():
        is_due = (
            again
            or alerts.follow_up(lake, settings.confirm_hours)
            or questions.overdue(lake, settings, utc_now())
            or outbox.catch_up(lake, settings)
        )
    if not is_due:
        return []
    with lake.writing():
        followed = _follow(lake, own)
        if again:
            outbox.retry_dead(lake)
    return followed


def _follow(lake: Lake, own: Outbox) -> list[Change]:
    """What the log says of revoked keys, whose owners gave no answer, what a channel has missed."""
    followed = alerts.follow_up(lake, own.settings.confirm_hours)
    own.tell(lake, followed)
    for question, why in questions.overdue(lake, own.settings, utc_now()):
        changes = leave_unanswered(lake, question, why)
        own.tell(lake, changes)
        followed += changes
    outbox.enqueue(lake, outbox.catch_up(lake, own.settings), own.settings)
    return followed


def _open(settings: DeliverSettings, vault: Vault) -> tuple[dict[str, Channel], dict[str, str]]:
    """The channels, and those that can't be used and why: they hold up no other."""
    channels: dict[str, Channel] = {}
    unusable: dict[str, str] = {}
    for name, one in settings.channels.items():
        try:
            channels[name] = open_channel(one, vault)
        except SecretError as e:
            unusable[name] = str(e)
    return channels, unusable
