"""The least that a key needs, by what its owner did with it: calls, scopes, and addresses.

Suspicious use grants nothing: what reviews flagged and no verdict says is the owner's, and from the
day on which a prefix was flagged all that came from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Any

from keywatch.errors import UsageError
from keywatch.lake import Lake
from keywatch.lake.weeks import last_event
from keywatch.model import Window
from keywatch.text.phrases import count
from keywatch.vendors.policy import PolicyForm
from keywatch.vendors.registry import Vendor, vendor_of_key

__all__ = ["AddressList", "LeastPrivilege", "Use", "address_list", "least_privilege"]

_RENTABLE = frozenset({"hosting", "vpn", "proxy", "tor", "relay"})
_FEWEST_WEEKS = 4
_MOST_ENTRIES = 50
"""A longer list is no list of usual places."""
_MOST_BLOCKED = 0.005
"""Of the owner's requests; with more a list does more harm than a thief."""

_Network = IPv4Network | IPv6Network

# grain: day, address, endpoint, status_class; one key's; suspicious is what is flagged and open
_USE = """
    CREATE OR REPLACE TEMP TABLE key_use AS
    WITH located AS (FROM known_places()),

    flagged AS (
        SELECT f.prefix, min(f.day) AS since
        FROM lake.flagged_visits AS f
        JOIN located AS p USING (prefix)
        WHERE f.key_id = $key_id AND NOT EXISTS (
            FROM verdicts_in_force() AS v
            WHERE v.key_id = f.key_id AND v.verdict IN ('benign', 'expected')
                AND v.window_start = f.window_start AND v.window_end = f.window_end
                AND is_about(v.origins, p.prefix, p.network, p.class)
        )
        GROUP BY f.prefix
    )

    SELECT a.day, p.ip, p.prefix, p.class, a.endpoint, a.status_class,
        f.prefix IS NOT NULL AS is_suspicious, f.since, sum(a.events)::BIGINT AS events
    FROM lake.activity AS a
    JOIN located AS p USING (address)
    LEFT JOIN flagged AS f ON f.prefix = p.prefix AND a.day >= f.since
    WHERE a.key_id = $key_id AND a.day >= $start AND a.day < $end
    GROUP BY ALL
"""
_CALLS = """
    SELECT endpoint,
        coalesce(bool_or(status_class IN ('2xx', '3xx', '-')) FILTER (NOT is_suspicious), false)
            AS is_accepted,
        bool_and(is_suspicious) AS is_suspicious
    FROM key_use
    GROUP BY endpoint
    ORDER BY endpoint
"""
_PLACES = """
    SELECT date_trunc('week', day)::DATE AS week, ip, prefix, class, is_suspicious,
        sum(events)::BIGINT AS events
    FROM key_use
    GROUP BY ALL
    ORDER BY ALL
"""
_KEY = """
    SELECT i."key", i.name, i.scopes, e."key", e.source
    FROM (SELECT $key_id AS key_id)
    LEFT JOIN inventory_in_force() AS i USING (key_id)
    LEFT JOIN (
        SELECT coalesce(principal, key_id) AS key_id,
            arg_max("key", ts) FILTER (principal IS NULL) AS "key", arg_max(source, ts) AS source
        FROM lake.events
        WHERE $key_id IN (key_id, principal) AND day >= $start AND day < $end
        GROUP BY ALL
    ) AS e USING (key_id)
"""
_NOT_REVIEWED = """
    SELECT count(DISTINCT u.day)
    FROM key_use AS u
    WHERE NOT EXISTS (
        FROM lake.runs AS r WHERE u.day >= r.window_start AND u.day < r.window_end
    )
"""


@dataclass(frozen=True)
class Use:
    """Requests of a key from an address in a week, named by its Monday."""

    week: date
    ip: str
    prefix: str
    origin_class: str
    is_suspicious: bool
    events: int


@dataclass(frozen=True)
class AddressList:
    """The addresses that a key is used from, as CIDRs; none where no list fits, and `why_not`.

    `blocked` of the owner's `requests` would have been refused by it, each week by the list that
    the other `weeks` give; `stopped` of the `suspicious` requests come from elsewhere.
    """

    cidrs: tuple[str, ...]
    weeks: int
    requests: int
    blocked: int
    suspicious: int
    stopped: int
    why_not: str = ""
    has_private: bool = False
    """Some of them are private: a condition on public addresses does not see them."""


@dataclass(frozen=True)
class LeastPrivilege:
    """What a key needs, as far as its owner's accepted requests in `window` show.

    `calls` were accepted, `never_accepted` were tried only, `suspicious_calls` are of suspicious
    requests alone. `scopes_used` and `scopes_granted` are None where the vendor has no scopes or
    the inventory does not say; `without_scope` are calls whose scope (or permission) is not known.
    `policy` is in the form that its vendor takes; None where the vendor has none. `left_out` are
    the prefixes that were flagged, with the day from which on. On `days_not_reviewed` a theft may
    be among the use.
    """

    key_id: str
    key: str | None
    name: str | None
    vendor: str
    window: Window
    requests: int
    suspicious_requests: int
    calls: tuple[str, ...]
    never_accepted: tuple[str, ...]
    suspicious_calls: tuple[str, ...]
    scopes_granted: tuple[str, ...] | None
    scopes_used: tuple[str, ...] | None
    without_scope: tuple[str, ...]
    policy: Any
    form: PolicyForm | None
    left_out: tuple[tuple[str, date], ...]
    days_not_reviewed: int
    addresses: AddressList

    @property
    def scopes_unused(self) -> tuple[str, ...]:
        """Granted, and needed by no accepted request."""
        return tuple(sorted(set(self.scopes_granted or ()) - set(self.scopes_used or ())))


def least_privilege(lake: Lake, key_id: str, days: int) -> LeastPrivilege:
    """What a key (or a principal) needs, by the last `days` days of the lake's log.

    Raises:
        UsageError: the key was not used then.
    """
    last = last_event(lake)
    end = datetime.combine((last or datetime(1970, 1, 1)).date() + timedelta(days=1), time())
    window = Window(end - timedelta(days=days), end)
    span = {"key_id": key_id, "start": window.start.date(), "end": window.end.date()}
    lake.execute(_USE, **span)
    uses = [Use(*row) for row in lake.rows(_PLACES)]
    if not uses:
        raise UsageError(
            f"{key_id}: not used in the last {count(days, 'day')} of the log, up to {last:%Y-%m-%d}"
            if last
            else f"{key_id}: the lake has no events; load a log first"
        )
    listed, name, granted, logged, source = lake.rows(_KEY, **span)[0]
    calls = lake.rows(_CALLS)
    accepted = tuple(endpoint for endpoint, is_accepted, _ in calls if is_accepted)
    addresses = address_list(uses)
    vendor, _ = vendor_of_key(key_id, listed or logged, source)
    used, without, policy = _needed(vendor, accepted, addresses)
    return LeastPrivilege(
        key_id=key_id,
        key=listed or logged,
        name=name,
        vendor=vendor.title,
        window=window,
        requests=sum(use.events for use in uses if not use.is_suspicious),
        suspicious_requests=sum(use.events for use in uses if use.is_suspicious),
        calls=accepted,
        never_accepted=tuple(call for call, good, alone in calls if not good and not alone),
        suspicious_calls=tuple(call for call, _, alone in calls if alone),
        scopes_granted=None if granted is None or used is None else tuple(sorted(granted)),
        scopes_used=used,
        without_scope=without,
        policy=policy,
        form=vendor.policy,
        left_out=tuple(
            lake.rows("SELECT DISTINCT prefix, since FROM key_use WHERE is_suspicious ORDER BY ALL")
        ),
        days_not_reviewed=lake.value(_NOT_REVIEWED),
        addresses=addresses,
    )


def _needed(
    vendor: Vendor, calls: Sequence[str], addresses: AddressList
) -> tuple[tuple[str, ...] | None, tuple[str, ...], Any]:
    """Scopes (None where the vendor has none), calls whose permission is not known, the policy."""
    form = vendor.policy
    if form is None:
        return None, (), None
    if form.form == "document":
        actions, others = form.actions_of(calls)
        cidrs = () if addresses.has_private else addresses.cidrs
        return None, tuple(others), form.filled(actions, cidrs) if actions else None
    known = {} if vendor.catalogue is None else {
        each.name: each.scope for each in vendor.catalogue.endpoints if each.is_scope_known
    }  # fmt: skip
    scopes = {scope for call in calls if (scope := known.get(call))}
    return tuple(sorted(scopes)), tuple(call for call in calls if call not in known), None


def address_list(uses: Iterable[Use]) -> AddressList:
    """The narrowest list that the owner's weeks agree on: of addresses, else of prefixes.

    Of networks in which addresses can be rented single addresses are listed, never a prefix.
    Calls that a service makes for the key come from no address and are left out of all figures.
    """
    placed = [use for use in uses if use.origin_class != "service"]
    own = [use for use in placed if not use.is_suspicious]
    strange = [use for use in placed if use.is_suspicious]
    weeks = len({use.week for use in own})
    requests = sum(use.events for use in own)
    suspicious = sum(use.events for use in strange)
    nothing = AddressList((), weeks, requests, 0, suspicious, 0)
    if weeks < _FEWEST_WEEKS:
        return replace(
            nothing, why_not=f"it has {count(weeks, 'week')} of use, and {_FEWEST_WEEKS} are needed"
        )
    blocked = entries = 0
    for by_prefix in (False, True):
        found = [(_network(use, by_prefix), use) for use in own]
        blocked = _blocked(found)
        networks = _collapsed(network for network, _ in found if network)
        entries = len(networks)
        if blocked <= _MOST_BLOCKED * requests and 0 < entries <= _MOST_ENTRIES:
            return replace(
                nothing,
                cidrs=tuple(map(str, networks)),
                blocked=blocked,
                stopped=sum(use.events for use in strange if not _is_in(use.ip, networks)),
                has_private=any(use.origin_class == "private" for use in own),
            )
    if blocked > _MOST_BLOCKED * requests:
        why = f"{blocked:,} of {requests:,} requests came from places seen in no other week"
    else:
        why = f"{entries:,} prefixes are in use, more than {_MOST_ENTRIES}"
    return replace(nothing, why_not=f"its origins change ({why})")


def _network(use: Use, by_prefix: bool) -> _Network | None:
    """What the list has of a request; None where it did not come from an address."""
    whole = by_prefix and use.origin_class not in _RENTABLE
    try:
        return ip_network(use.prefix if whole else use.ip)
    except ValueError:
        return None


def _blocked(found: Sequence[tuple[_Network | None, Use]]) -> int:
    """Requests from what one week alone has: the list of the other weeks would not hold it."""
    weeks = defaultdict[_Network | None, set[date]](set)
    for network, use in found:
        weeks[network].add(use.week)
    return sum(use.events for network, use in found if network is None or len(weeks[network]) == 1)


def _collapsed(networks: Iterable[_Network]) -> list[_Network]:
    every = {*networks}
    return [
        *collapse_addresses(each for each in every if isinstance(each, IPv4Network)),
        *collapse_addresses(each for each in every if isinstance(each, IPv6Network)),
    ]


def _is_in(address: str, networks: Iterable[_Network]) -> bool:
    try:
        asked = ip_address(address)
    except ValueError:
        return False
    return any(asked in each for each in networks)
