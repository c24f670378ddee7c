"""What a key needs, as text and as JSON values; every value of a log goes through `printable`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from keywatch.report.layout import Page, styled
from keywatch.review.least_privilege import AddressList, LeastPrivilege
from keywatch.text.phrases import count, listed, named, window_label
from keywatch.text.safe_text import printable

__all__ = ["least_privilege_document", "render_least_privilege"]

_MOST_CALLS, _MOST_TOLD = 200, 20


def least_privilege_document(found: LeastPrivilege) -> dict[str, Any]:
    """The answer as JSON values; days are both included."""
    addresses = found.addresses
    return {
        "key_id": found.key_id,
        "key": found.key,
        "name": found.name,
        "vendor": found.vendor,
        "from": found.window.start.date().isoformat(),
        "to": (found.window.end.date() - timedelta(days=1)).isoformat(),
        "requests": found.requests,
        "suspicious_requests": found.suspicious_requests,
        "calls": [*found.calls],
        "never_accepted": [*found.never_accepted],
        "suspicious_calls": [*found.suspicious_calls],
        "scopes_granted": found.scopes_granted and [*found.scopes_granted],
        "scopes_used": None if found.scopes_used is None else [*found.scopes_used],
        "scopes_unused": [*found.scopes_unused],
        "without_scope": [*found.without_scope],
        "policy": found.policy,
        "left_out": [
            {"prefix": prefix, "since": since.isoformat()} for prefix, since in found.left_out
        ],
        "days_not_reviewed": found.days_not_reviewed,
        "addresses": {
            "cidrs": [*addresses.cidrs],
            "why_not": addresses.why_not or None,
            "weeks": addresses.weeks,
            "requests": addresses.requests,
            "blocked": addresses.blocked,
            "suspicious": addresses.suspicious,
            "stopped": addresses.stopped,
        },
    }


def render_least_privilege(found: LeastPrivilege, *, color: bool = False, width: int = 100) -> str:
    """What the key needs, what was left out of it, and the addresses it is used from."""
    page = Page(width, color=color)
    title = f"Least privilege of {printable(found.key_id)}"
    page.add(styled((title, "bold"), f" · {window_label(found.window)} · {found.vendor}"))
    page.add(
        f"{count(found.requests, 'request')} by the owner, accepted at "
        f"{count(len(found.calls), 'endpoint')}."
    )
    _add_left_out(page, found)
    if found.calls:
        _add_permissions(page, found)
    else:
        page.add("No accepted request of the owner is left: there is nothing to allow.")
    _add_addresses(page, found)
    return page.text


def _add_left_out(page: Page, found: LeastPrivilege) -> None:
    """What was suspicious, and what may be without anyone having looked."""
    if found.left_out:
        since = listed((f"{printable(prefix)} since {day}" for prefix, day in found.left_out), 5)
        page.add(
            "Excluded as suspicious (flagged, without a verdict benign or expected): "
            f"{since} ({count(found.suspicious_requests, 'request')})."
        )
    if found.suspicious_calls:
        page.add(f"Called by suspicious requests only: {_names(found.suspicious_calls)}.")
    if found.never_accepted:
        page.add(f"Never accepted, so not included: {_names(found.never_accepted)}.")
    if found.days_not_reviewed:
        page.add(
            f"{count(found.days_not_reviewed, 'day')} of this use "
            f"{named(found.days_not_reviewed, 'has', 'have')} not been reviewed; a theft then "
            "would count as the owner's use. Review those weeks first (keywatch review --week)."
        )


def _add_permissions(page: Page, found: LeastPrivilege) -> None:
    if found.scopes_used is not None:
        _add_scopes(page, found, found.scopes_used)
    elif found.policy is not None:
        page.heading("Policy")
        for line in json.dumps(found.policy, indent=2).splitlines():
            page.add(line)
        letters = len(json.dumps(found.policy, separators=(",", ":")))
        if found.form and 0 < found.form.longest < letters:
            page.add(f"{letters:,} characters; a policy holds {found.form.longest:,}: split it.")
    else:
        page.heading("Calls in use")
        for call in found.calls[:_MOST_CALLS]:
            page.add(printable(call), indent=2)
        if len(found.calls) > _MOST_CALLS:
            page.add(f"and {len(found.calls) - _MOST_CALLS:,} more (--format json)", indent=2)
    if found.without_scope:
        page.add(f"Not covered (permission unknown): {_names(found.without_scope)}.")
    if found.form and found.form.note:
        page.add(f"{found.form.note}.")


def _add_scopes(page: Page, found: LeastPrivilege, used: Sequence[str]) -> None:
    page.heading("Scopes")
    page.add(f"Needed: {', '.join(used) or 'none'}", indent=2)
    if found.scopes_granted is None:
        page.add("Granted: not known; import the key inventory", indent=2)
        return
    page.add(f"Granted: {printable(', '.join(found.scopes_granted)) or 'none'}", indent=2)
    page.add(f"To drop: {printable(', '.join(found.scopes_unused)) or 'none'}", indent=2)


def _add_addresses(page: Page, found: LeastPrivilege) -> None:
    addresses = found.addresses
    page.heading("Addresses")
    if addresses.why_not:
        page.add(f"No address list fits this key: {addresses.why_not}.")
        return
    for cidr in addresses.cidrs:
        page.add(cidr, indent=2)
    page.add(_what_it_does(addresses))
    if addresses.has_private and found.form and found.form.private:
        page.add(f"{found.form.private}.")


def _what_it_does(addresses: AddressList) -> str:
    """How many requests it would have stopped, the owner's and the suspicious ones."""
    stopped = (
        f"This list would have blocked {addresses.stopped:,} of "
        f"{count(addresses.suspicious, 'suspicious request')}"
        if addresses.suspicious
        else "No suspicious requests are known that this list could have blocked"
    )
    return (
        f"{stopped}. Of the owner's {count(addresses.requests, 'request')} in "
        f"{count(addresses.weeks, 'week')} it would have blocked {addresses.blocked:,} "
        f"({addresses.blocked / addresses.requests:.2%}), each week checked against the list "
        "from the other weeks."
    ).replace("%", " %")


def _names(calls: Sequence[str]) -> str:
    return listed((printable(call) for call in calls), _MOST_TOLD)
