"""What to do about a key, step by step: replace it, switch its consumers, revoke it, check.

A stolen key is revoked first: until then the thief uses it, and what breaks meanwhile is said
beside the steps. A key to rotate, such as one that was exposed, is replaced first, then revoked:
nobody is seen to misuse it, and its consumers go on.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keywatch.model import Action

_AWS_KEY = re.compile(r"A(KIA|SIA)[A-Z0-9]{12,}")
_AWS_TEMPORARY_KEY = "ASIA"
# What may stand in a command that is there to be pasted; an owner's name comes from a log.
_AWS_USER = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:user/(?:[\w+=,.@/-]+/)?([\w+=,.@-]+)")
_AWS_ROLE = re.compile(r"arn:aws[a-z-]*:sts::\d{12}:assumed-role/([\w+=,.@-]+)/[\w+=,.@-]+")
_OLDER_SESSIONS = (
    '\'{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*",'
    '"Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":'
    "\"'$(date -u +%FT%TZ)'\"}}}]}'"
)


@dataclass(frozen=True)
class KeyAtHand:
    """What the steps depend on: the key as the inventory has it, and who uses it.

    `consumers` have agent, origin and requests_per_day and are the first of `consumers_total`;
    `scopes_needed` are those that ordinary use needs; `where` names the suspicious origins and
    `requests` counts what was done from there.
    """

    key_id: str
    where: str
    requests: int
    key: str | None = None
    owner: str | None = None
    environment: str | None = None
    revoked_at: datetime | None = None
    successor_key_id: str | None = None
    scopes_needed: tuple[str, ...] = ()
    consumers: tuple[dict[str, Any], ...] = field(default=())
    consumers_total: int = 0

    @property
    def shown(self) -> str:
        """The masked key, else its id."""
        return self.key or self.key_id


def steps(action: Action, at_hand: KeyAtHand, *, suspected: bool = False) -> tuple[str, ...]:
    """The steps in their order; none for a key that needs no action.

    `suspected`: a key to rotate is used in a strange way as well.
    """
    requests = "request" if at_hand.requests == 1 else "requests"
    done = f": {at_hand.requests:,} {requests}" if at_hand.requests else ""
    look = f"Look at what was done from {at_hand.where}{done}"
    owner = at_hand.owner or "the key's owner"
    ask = f"Ask {owner} whether the use from {at_hand.where} is theirs"
    if action == "none":
        return ()
    if action == "rotate":
        rotation = _Vendor.of(at_hand).rotate()
        doubt = (f"{ask}; if it is not, revoke the key now", look) if suspected else ()
        return (*doubt, *rotation)
    stolen = _Vendor.of(at_hand).revoke()
    if action == "revoke":
        return (*stolen[:-1], look, stolen[-1])
    first, *rest = stolen
    return (
        ask,
        look,
        f"If nobody knows of it, it is stolen, and what follows is to do: {_lower(first)}",
        *rest,
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


class _Vendor(ABC):
    """How keys of one vendor are replaced and revoked."""

    def __init__(self, at_hand: KeyAtHand) -> None:
        self.at_hand = at_hand

    @staticmethod
    def of(at_hand: KeyAtHand) -> _Vendor:
        if not _AWS_KEY.fullmatch(at_hand.key_id):
            return _Pulsely(at_hand)
        temporary = at_hand.key_id.startswith(_AWS_TEMPORARY_KEY)
        return _AwsSession(at_hand) if temporary else _AwsKey(at_hand)

    @abstractmethod
    def revoke(self) -> tuple[str, ...]:
        """For a stolen key; the check comes last."""

    @abstractmethod
    def rotate(self) -> tuple[str, ...]:
        """For a key that others may have read; nobody is seen to misuse it."""

    def switch(self, to_it: str = "Switch the consumers to it") -> str:
        if consumers := self._consumers():
            return f"{to_it}: {consumers}"
        return "No other consumer was seen in the window: nothing has to be switched"

    def mend(self) -> str:
        """Or the new key is exposed as the old one was."""
        mend = "Mend what exposed the old key (see why)"
        if consumers := self._consumers():
            return f"{mend}, and switch the consumers to the new one: {consumers}"
        return f"{mend}; no other consumer was seen in the window"

    def _consumers(self) -> str:
        consumers = "; ".join(
            f"{one['agent']} at {one['origin']} ({one['requests_per_day']:,.0f} requests a day)"
            for one in self.at_hand.consumers
        )
        more = self.at_hand.consumers_total - len(self.at_hand.consumers)
        return f"{consumers}; and {more:,} more" if consumers and more > 0 else consumers

    def check(self) -> str:
        return (
            "Check that no use follows: import the inventory with revoked_at, and keywatch deliver "
            "says “no use since” or “still in use”"
        )


class _Pulsely(_Vendor):
    """In the dashboard; a key is shown once and can't be changed."""

    def revoke(self) -> tuple[str, ...]:
        if self.at_hand.revoked_at is not None:
            return (
                "The key is revoked already: revoke it again if it is still accepted",
                self.check(),
            )
        return (
            f"Revoke {self.at_hand.shown} now, before it is replaced (Pulsely dashboard: Settings, "
            "API keys, Revoke)",
            self._replacement(),
            self.switch(),
            self.check(),
        )

    def rotate(self) -> tuple[str, ...]:
        if self.at_hand.revoked_at is not None:
            return self.revoke()
        return (
            self._replacement(),
            self.mend(),
            f"Revoke {self.at_hand.shown} as soon as the log shows no more use of it (Pulsely "
            "dashboard: Settings, API keys, Revoke): until then whoever has read it can use it",
            self.check(),
        )

    def _replacement(self) -> str:
        scopes = ", ".join(self.at_hand.scopes_needed)
        if self.at_hand.successor_key_id:
            limit = f"; it needs no more than {scopes}" if scopes else ""
            return f"Its successor exists: {self.at_hand.successor_key_id}{limit}"
        environment = (
            f", environment {self.at_hand.environment}" if self.at_hand.environment else ""
        )
        return (
            "Make a replacement (Pulsely dashboard: Settings, API keys, Create"
            f"{environment}) with {scopes or 'only the scopes it needs'}"
            f"{', which are those that were used' if scopes else ''}"
        )


class _AwsKey(_Vendor):
    """A user's access key: a user has two at most, so the old one can be off before the new."""

    def revoke(self) -> tuple[str, ...]:
        return (
            f"Turn the key off now, before it is replaced: `{self._command('update-access-key')} "
            "--status Inactive`",
            self._replacement(),
            self.switch(),
            f"When nothing needs it any more: `{self._command('delete-access-key')}`",
            self.check(),
        )

    def rotate(self) -> tuple[str, ...]:
        return (
            self._replacement(),
            self.mend(),
            f"When its last use is past, turn it off: `{self._command('update-access-key')} "
            "--status Inactive`, then "
            f"`{self._command('delete-access-key')}`",
            self.check(),
        )

    def check(self) -> str:
        last_used = f"aws iam get-access-key-last-used --access-key-id {self.at_hand.key_id}"
        return f"Check that no use follows: `{last_used}`, and the next logs"

    def _replacement(self) -> str:
        return (
            f"Make a replacement: `aws iam create-access-key --user-name {self._user()}`, and cut "
            "the user's policies down to what it calls"
        )

    def _command(self, name: str) -> str:
        return f"aws iam {name} --access-key-id {self.at_hand.key_id} --user-name {self._user()}"

    def _user(self) -> str:
        match = _AWS_USER.fullmatch(self.at_hand.owner or "")
        return match[1] if match else "USER"


class _AwsSession(_Vendor):
    """Temporary keys end by themselves; the role's sessions can be ended sooner."""

    def revoke(self) -> tuple[str, ...]:
        match = _AWS_ROLE.fullmatch(self.at_hand.owner or "")
        role = match[1] if match else "ROLE"
        return (
            "End the role's sessions now: `aws iam put-role-policy --role-name "
            f"{role} --policy-name AWSRevokeOlderSessions --policy-document {_OLDER_SESSIONS}`",
            "Find the long-lived key or identity that assumed the role, and judge that too",
            self.switch("Let the consumers assume it again"),
            self.check(),
        )

    def rotate(self) -> tuple[str, ...]:
        return self.revoke()
