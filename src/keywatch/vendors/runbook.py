"""What to do about a key, step by step: replace it, switch its consumers, revoke it, check.

A stolen key is stopped first: until then the thief uses it, and what breaks meanwhile is said
beside the steps. Where the vendor can restrict it in a way that can be taken back, that comes
before it is revoked. A key to rotate, such as one that was exposed, is replaced first, then
revoked: nobody is seen to misuse it, and its consumers go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keywatch.model import Action
from keywatch.vendors.registry import runbook_for
from keywatch.vendors.runbook_file import Runbook


@dataclass(frozen=True)
class KeyAtHand:
    """What the steps depend on: the key as the inventory has it, and who uses it.

    `consumers` have agent, origin and requests_per_day and are the first of `consumers_total`;
    `scopes_needed` are those that ordinary use needs; `where` names the suspicious origins and
    `requests` counts what was done from there; `source` is the format of its log.
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
    source: str | None = None

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
    look = f"Investigate the activity from {at_hand.where}{done}"
    owner = at_hand.owner or "the key's owner"
    ask = f"Ask {owner} to confirm the use from {at_hand.where}"
    if action == "none":
        return ()
    plan = _Plan(at_hand)
    if action == "rotate":
        doubt = (f"{ask}; if it is not confirmed, revoke the key now", look) if suspected else ()
        return (*doubt, *plan.rotate(), *plan.end())
    first, *rest = plan.revoke()
    if action == "revoke":
        return (first, *rest, look, *plan.end())
    return (
        ask,
        look,
        f"If the use is not confirmed, treat the key as stolen: {_lower(first)}",
        *rest,
        *plan.end(),
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


class _Plan:
    """How one key is replaced and revoked, by the runbook of its vendor."""

    def __init__(self, at_hand: KeyAtHand) -> None:
        self._at_hand = at_hand
        self._runbook: Runbook = runbook_for(at_hand.key_id, at_hand.key, at_hand.source)
        scopes = ", ".join(at_hand.scopes_needed)
        self._words = {
            "key": at_hand.shown,
            "key_id": at_hand.key_id,
            "owner": at_hand.owner or "",
            "environment": f", environment {at_hand.environment}" if at_hand.environment else "",
            "scopes": f"{scopes}, the scopes in use" if scopes else "only the scopes it needs",
        }

    def revoke(self) -> tuple[str, ...]:
        """For a stolen key; `end` follows."""
        if self._at_hand.revoked_at is not None:
            return ("The key is already revoked: revoke it again if it is still accepted",)
        runbook = self._runbook
        stop = map(self._filled, (*runbook.restrict, runbook.revoke))
        delete = (self._filled(runbook.delete),) if runbook.delete else ()
        return (*stop, self._replacement(), self._switch(), *delete)

    def rotate(self) -> tuple[str, ...]:
        """For a key that others may have read, nobody is seen to misuse it; `end` follows."""
        if self._at_hand.revoked_at is not None or not self._runbook.retire:
            return self.revoke()
        retire = self._filled(self._runbook.retire)
        return self._replacement(), self._mend(), retire, self._move()

    def end(self) -> tuple[str, ...]:
        """What follows in either case: the check, and the way back."""
        if self._at_hand.revoked_at is not None:
            return (self._check(),)
        return (self._check(), *map(self._filled, self._runbook.roll_back))

    def _filled(self, text: str) -> str:
        return self._runbook.filled(text, self._words)

    def _replacement(self) -> str:
        if self._at_hand.successor_key_id:
            scopes = ", ".join(self._at_hand.scopes_needed)
            limit = f"; the scopes it needs are {scopes}" if scopes else ""
            return f"Use its existing successor {self._at_hand.successor_key_id}{limit}"
        return self._filled(self._runbook.replace)

    def _switch(self) -> str:
        if consumers := self._consumers():
            to_it = self._filled(self._runbook.switch) or "Switch the consumers to the replacement"
            return f"{to_it}: {consumers}"
        return "No other consumer was active in the window, so none has to be switched"

    def _mend(self) -> str:
        """Or the new key is exposed as the old one was."""
        mend = "Fix what exposed the old key (see the evidence)"
        if consumers := self._consumers():
            return f"{mend}, and switch the consumers to the new one: {consumers}"
        return f"{mend}; no other consumer was active in the window"

    def _move(self) -> str:
        """How long both keys are valid, and how to see that nobody needs the old one."""
        overlap = self._runbook.overlap or "Both keys are valid until the old one is revoked"
        return self._filled(
            "Before that, check that each consumer has moved, monthly jobs too: "
            "`keywatch keys list --sort last-use` shows when the old key was last used, "
            f"`keywatch case {{key_id}}` which consumers still use it. {overlap}"
        )

    def _consumers(self) -> str:
        consumers = "; ".join(
            f"{one['agent']} at {one['origin']} ({one['requests_per_day']:,.0f} requests a day)"
            for one in self._at_hand.consumers
        )
        more = self._at_hand.consumers_total - len(self._at_hand.consumers)
        return f"{consumers}; and {more:,} more" if consumers and more > 0 else consumers

    def _check(self) -> str:
        return self._filled(self._runbook.check) or (
            "Verify that use has stopped: import the inventory with revoked_at; keywatch deliver "
            "reports “no use since” or “still in use”"
        )
