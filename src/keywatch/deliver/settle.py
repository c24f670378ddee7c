"""What of the waiting messages is still true, and what a channel is told instead.

A message may wait for days. What a channel gets is settled when it is sent: by the alert as it
stands then, and by what that channel has heard of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from keywatch.deliver.channel import Envelope
from keywatch.deliver.message import Message, alert_message, owners_of, with_id
from keywatch.deliver.routing import channels_for
from keywatch.model import AskedOwner
from keywatch.review.alerts import Alert, Change, severity_of
from keywatch.settings.deliver import DeliverSettings

_ENDS = ("resolve", "acknowledge")
_REPLACED = ("upkeep", "heartbeat")
"""Kinds of which the newest alone is sent, and not in quiet hours."""
_NewsKind = Literal["trigger", "update", "acknowledge", "resolve"]


@dataclass(frozen=True)
class Pending:
    """A message that has not arrived; `due_at` may lie in the future, None: it is due at once.

    `order` is the alert's change that it tells of, `recipients` each one's answer so far.
    `is_restated`: it is no longer as the lake has it.
    """

    delivery_id: str
    alert_id: str | None
    channel: str
    order: int
    message: Message
    created_at: datetime
    tries: int = 0
    due_at: datetime | None = None
    recipients: tuple[tuple[str, str], ...] = ()
    previous: str | None = None
    is_restated: bool = False

    @property
    def held_back(self) -> bool:
        """Whether it waits in quiet hours."""
        return self.message.action in ("investigate", "rotate") or self.message.kind in _REPLACED

    @property
    def is_alarm(self) -> bool:
        """Whether it counts for a budget: an alert that is neither confirmed nor over."""
        return self.alert_id is not None and self.message.kind not in _ENDS

    def envelope(self) -> Envelope:
        """As a channel gets it."""
        return Envelope(self.message, self.tries, self.previous, dict(self.recipients))


@dataclass(frozen=True)
class Told:
    """What a channel was told of an alert.

    `changes` are those that were ever put into its outbox, `sent` the newest that arrived (0:
    none); `is_open`: it has heard of the alert and not of its end; `may_be_open`: it may have, for
    it took a message and gave no answer; `is_undelivered`: a message waits or was given up;
    `remote` is what the receiver calls the alert's last message.
    """

    changes: tuple[int, ...] = ()
    sent: int = 0
    is_open: bool = False
    may_be_open: bool = False
    is_undelivered: bool = False
    remote: str | None = None


@dataclass
class Settled:
    """What is to be sent, the most urgent first, and what is not to be sent any more."""

    kept: list[Pending] = field(default_factory=list)
    superseded: list[Pending] = field(default_factory=list)


def settle(
    waiting: Sequence[Pending],
    told: Mapping[tuple[str, str], Told],
    in_force: Mapping[str, Alert],
    settings: DeliverSettings,
    asked: Mapping[str, Sequence[AskedOwner]] | None = None,
) -> Settled:
    """One message an alert and channel, of the alert as it is now; none where that is told.

    A channel that has not heard of an alert gets a trigger while the alert is open and for that
    channel, and nothing once it is over. One that has heard gets what is new, and the end; one that
    may have heard gets the end as well. Of upkeep and heartbeats the newest one is kept. `asked`
    are the owners who were asked about each alert.
    """
    found = Settled()
    groups: dict[tuple[str, str], list[Pending]] = defaultdict(list)
    for one in waiting:
        repeated = one.message.kind if one.message.kind in _REPLACED else one.delivery_id
        groups[one.alert_id or repeated, one.channel].append(one)
    for (subject, channel), ones in groups.items():
        *before, last = sorted(ones, key=lambda one: one.order)
        kept: Pending | None = last
        if last.alert_id is not None:
            heard = told.get((subject, channel), Told())
            alert = in_force.get(subject)
            kept = _as_it_is(ones, heard, alert, settings, (asked or {}).get(subject, ()))
        found.superseded += before if kept else ones
        if kept is not None:
            found.kept.append(kept)
    found.kept.sort(key=lambda one: (-one.message.rank, one.created_at, one.order, one.delivery_id))
    return found


def routed_to(settings: DeliverSettings, alert: Alert) -> list[str]:
    """The channels that the routes name for `alert` as it is."""
    return channels_for(settings, alert.action, severity_of(alert), owners_of(alert))


def _as_it_is(
    ones: Sequence[Pending],
    heard: Told,
    alert: Alert | None,
    settings: DeliverSettings,
    asked: Sequence[AskedOwner],
) -> Pending | None:
    last = max(ones, key=lambda one: one.order)
    if alert is None:  # it was forgotten, or lost with its file
        return None
    if last.recipients and last.order == alert.change:
        return last  # a part of the recipients has it
    kind = _news(ones, last, heard, alert, settings)
    if kind is None:
        return None
    kept = replace(last, previous=heard.remote)
    if last.order == alert.change and last.message.kind == kind:
        return kept
    message = alert_message(Change(kind, alert), settings.case_url, asked)
    message = with_id(message, last.delivery_id, kind)
    return replace(kept, message=message, order=alert.change, recipients=(), is_restated=True)


def _news(
    ones: Sequence[Pending], last: Pending, heard: Told, alert: Alert, settings: DeliverSettings
) -> _NewsKind | None:
    """What the channel has to be told; None where there is nothing that it should know."""
    if heard.is_open:
        if alert.change <= heard.sent:
            return None
        if alert.state == "closed":
            return "resolve"
        return "acknowledge" if last.message.kind == "acknowledge" else "update"
    if alert.state == "closed":
        return "resolve" if heard.may_be_open else None
    channel = last.channel
    if channel in settings.approved_channels:
        is_for_it = alert.action == "revoke" and _is_approved(ones)
    else:
        is_for_it = channel in routed_to(settings, alert)
    return "trigger" if is_for_it else None


def _is_approved(ones: Sequence[Pending]) -> bool:
    """Whether an approval, a trigger in such a channel, waits, and no end since."""
    ended = max((one.order for one in ones if one.message.kind == "resolve"), default=0)
    return any(one.message.kind == "trigger" and one.order > ended for one in ones)
