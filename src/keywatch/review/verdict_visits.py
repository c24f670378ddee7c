"""What a verdict is about: a key's case in a window, and the visits of it that are named.

An origin is named by an address or a prefix, which both stand for the prefix (the grain of a
visit), or by a network (``AS64496``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import ip_network

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Window

RENTED = ("hosting", "vpn", "proxy", "tor", "relay")
"""Classes of networks that anybody can rent or hide behind; also in ``lake/verdicts.sql``."""

_NETWORK = re.compile(r"AS0*(\d{1,10})", re.IGNORECASE)
_PREFIX_LENGTHS = {4: 24, 6: 48}
_MOST_PLACES = 5


@dataclass(frozen=True)
class Subject:
    """A key's case; `is_alerted`: it has an action, or moved in a group that is to be confirmed."""

    key_id: str
    window: Window
    is_alerted: bool


@dataclass(frozen=True)
class Used:
    """A key's visit; `is_new`: its network is one from which the key never came before the window.

    That is claimed only of a key that was in use before; what was flagged then does not count.
    """

    day: date
    prefix: str
    network: str
    organization: str | None
    requests: int
    is_new: bool

    def is_from(self, origins: Iterable[str]) -> bool:
        """Whether its prefix or network is among them."""
        return not {self.prefix, self.network}.isdisjoint(origins)


def subject(lake: Lake, key: str, window: Window | None) -> Subject:
    """The case that is meant by a key's id, masked form or name.

    Without a window: its newest alert; of a key that has none, the week reviewed last.

    Raises:
        UsageError: no such key, or several keys that were in use are called so, or it was not
            used in that window, or no week was reviewed.
    """
    key_id = the_one(key, _in_use(lake, key, key_ids(lake, key)))
    if found := _alerted(lake, key_id, window):
        return found
    of = window or _reviewed_last(lake)
    if of is None:
        raise UsageError(
            "no week has been reviewed yet: choose one with --week, or review it first"
        )
    used = lake.rows(
        "SELECT 1 FROM lake.activity "
        "WHERE key_id = $key_id AND day >= $start AND day < $end LIMIT 1",
        key_id=key_id,
        start=of.start,
        end=of.end,
    )
    if not used:
        raise UsageError(f"{key} was not used from {_span(of)}: no verdict is possible")
    return Subject(key_id, of, is_alerted=False)


def _in_use(lake: Lake, key: str, found: Sequence[str]) -> Sequence[str]:
    """Those of several keys that are called so that were ever in use; all, where none was."""
    if key in found or len(found) == 1:
        return found
    used = lake.rows(
        """
        SELECT key_id FROM lake.activity WHERE list_contains($key_ids, key_id)
        UNION
        SELECT key_id FROM lake.recommendations WHERE list_contains($key_ids, key_id)
        """,
        key_ids=list(found),
    )
    return [key_id for (key_id,) in used] or found


def key_ids(lake: Lake, key: str) -> list[str]:
    """The keys that have this id, masked form or name, by what the lake knows of them.

    Raises:
        UsageError: there is none.
    """
    known = lake.rows(
        """
        (SELECT key_id FROM lake.activity WHERE key_id = $key LIMIT 1)
        UNION
        SELECT key_id FROM lake.keys WHERE $key IN (key_id, "key", name)
        UNION
        SELECT key_id FROM lake.recommendations
        WHERE $key IN (key_id, document ->> 'key', document ->> 'name')
        UNION
        SELECT m ->> 'key_id'
        FROM (SELECT unnest(members::JSON[]) AS m FROM lake.alerts)
        WHERE $key IN (m ->> 'key_id', m ->> 'key', m ->> 'name')
        """,
        key=key,
    )
    found = {key_id for (key_id,) in known}
    if key not in found:  # Another key, of which no more is known, may have the same masked form.
        # Of one column alone, nearly all files are left unread.
        named = '"key" = $key' if found else '$key IN (key_id, "key")'
        logged = lake.rows(
            f"SELECT DISTINCT coalesce(principal, key_id) FROM lake.events WHERE {named}", key=key
        )
        found.update(key_id for (key_id,) in logged)
    if not found:
        raise UsageError(f"no key {key!r} in the lake; use its key_id, masked form or name")
    return sorted(found)


def key_id_of(lake: Lake, key: str) -> str:
    """The id of the one key that has this id, masked form or name; an id comes before a name.

    Raises:
        UsageError: there is none, or several keys are called so.
    """
    return the_one(key, key_ids(lake, key))


def the_one(key: str, key_ids: Iterable[str]) -> str:
    """That of these keys that is meant by `key`.

    Raises:
        UsageError: several may be meant.
    """
    found = sorted(set(key_ids))
    if key in found:
        return key
    if len(found) > 1:
        raise UsageError(f"{key!r} matches several keys: {', '.join(found)}; use the key_id")
    return found[0]


def _alerted(lake: Lake, key_id: str, window: Window | None) -> Subject | None:
    rows = lake.rows(
        """
        WITH alerted AS (
            SELECT c.key_id, r.window_start, r.window_end, r.made_at
            FROM lake.recommendations AS c
            JOIN lake.runs AS r USING (run_id)
            -- A move is to be confirmed though none of its keys needs an action.
            UNION ALL
            SELECT unnest(key_ids), window_start, window_end, changed_at
            FROM lake.alerts
            WHERE kind = 'migration'
        )

        SELECT window_start, window_end
        FROM alerted
        WHERE key_id = $key_id
            AND ($start::TIMESTAMP IS NULL OR window_start = $start AND window_end = $end)
        ORDER BY window_start > $now, window_start DESC, made_at DESC
        LIMIT 1
        """,
        now=utc_now(),
        key_id=key_id,
        start=window and window.start,
        end=window and window.end,
    )
    return Subject(key_id, Window(*rows[0]), is_alerted=True) if rows else None


def _reviewed_last(lake: Lake) -> Window | None:
    rows = lake.rows(
        "SELECT window_start, window_end FROM lake.runs "
        "ORDER BY window_start > $now, window_end DESC, made_at DESC LIMIT 1",
        now=utc_now(),
    )
    return Window(*rows[0]) if rows else None


def used_from(lake: Lake, key_id: str, window: Window) -> list[Used]:
    """The key's visits of the window, by day and prefix."""
    rows = lake.rows(
        """
        WITH RECURSIVE lineage AS (
            SELECT $key_id AS key_id
            UNION
            SELECT i.replaces FROM lineage JOIN inventory_in_force() AS i USING (key_id)
            WHERE i.replaces IS NOT NULL
        ),

        used AS (
            SELECT a.key_id, a.day, p.prefix, p.network, min(p.organization) AS organization,
                sum(a.events)::BIGINT AS requests
            FROM lake.activity AS a
            SEMI JOIN lineage USING (key_id)
            JOIN known_places() AS p USING (address)
            WHERE a.day < $end
            GROUP BY ALL
        ),

        past AS (
            FROM used ANTI JOIN lake.flagged_visits USING (key_id, day, prefix) WHERE day < $start
        )

        SELECT day, prefix, network, organization, requests,
            EXISTS (FROM past) AND network NOT IN (SELECT network FROM past) AS is_new
        FROM used
        WHERE key_id = $key_id AND day >= $start
        ORDER BY day, prefix, network
        """,
        key_id=key_id,
        start=window.start,
        end=window.end,
    )
    return [Used(*row) for row in rows]


def named_origin(text: str) -> str:
    """An origin as the lake names it: a prefix (``203.0.113.0/24``) or a network (``AS64496``).

    Raises:
        UsageError: it is a prefix that is wider than one of a visit.
    """
    name = text.strip()
    if network := _NETWORK.fullmatch(name):
        return f"AS{network[1]}"
    try:
        given = ip_network(name, strict=False)
    except ValueError:
        return name  # a place that has no address goes by the name it has in the log
    length = _PREFIX_LENGTHS[given.version]
    if given.prefixlen < length:
        raise UsageError(
            f"--origin {name} is wider than a /{length}: list each /{length}, or give the "
            "network, such as AS64496"
        )
    from keywatch.load.origins import prefix_of

    return prefix_of(str(given.network_address))


def places(used: Iterable[Used]) -> str:
    """``203.0.113.0/24 (AS64496 Example, 12 requests), …``: the most used first."""
    counts: dict[tuple[str, str], int] = {}
    for visit in used:
        owner = visit.network if visit.network != visit.prefix else ""
        place = visit.prefix, " ".join(part for part in (owner, visit.organization) if part)
        counts[place] = counts.get(place, 0) + visit.requests
    ranked = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
    told = [
        f"{prefix} ({f'{network}, ' if network else ''}{n:,} request{'s' if n != 1 else ''})"
        for (prefix, network), n in ranked[:_MOST_PLACES]
    ]
    more = len(ranked) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")


def refuse_rented(lake: Lake, origins: Iterable[str], used: Iterable[Used]) -> None:
    """Refuse to expect a whole network of which the lake knows rented addresses only.

    Raises:
        UsageError: such a network is named.
    """
    rented = lake.rows(
        """
        SELECT network, min(organization)
        FROM known_places()
        WHERE list_contains($origins, network) AND asn IS NOT NULL
        GROUP BY network
        HAVING bool_and(list_contains($rented, class))
        ORDER BY network
        """,
        origins=list(origins),
        rented=list(RENTED),
    )
    for network, organization in rented:
        there = places(visit for visit in used if visit.network == network)
        raise UsageError(
            f"--origin {network} ({organization}) is a hosting or VPN network open to anyone: "
            f"list the prefixes instead{f': {there}' if there else ''}"
        )


def flagged_origins(
    lake: Lake, key_ids: Iterable[str], window: Window
) -> dict[str, tuple[str, ...]]:
    """The networks that the flagged visits of each key in the window came from, in order.

    In the place of a network that anybody can rent, and of one without a number, are its prefixes.
    """
    rows = lake.rows(
        """
        SELECT f.key_id, f.prefix, min(p.network), coalesce(bool_or(list_contains($rented, class)),
            false) AS is_rented
        FROM (SELECT DISTINCT key_id, prefix FROM lake.flagged_visits
            WHERE list_contains($key_ids, key_id) AND window_start = $start AND window_end = $end
        ) AS f
        LEFT JOIN known_places() AS p USING (prefix)
        GROUP BY ALL
        ORDER BY ALL
        """,
        key_ids=list(key_ids),
        rented=list(RENTED),
        start=window.start,
        end=window.end,
    )
    found: dict[str, dict[str, None]] = {}
    for key_id, prefix, network, is_rented in rows:
        is_numbered = network is not None and _NETWORK.fullmatch(network) is not None
        name = network if is_numbered and not is_rented else prefix
        found.setdefault(key_id, {})[name] = None
    return {key_id: tuple(sorted(names)) for key_id, names in found.items()}


def _span(window: Window) -> str:
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"
