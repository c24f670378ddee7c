"""Addresses of confirmed thefts as STIX 2.1 indicators, for those who block or look for them.

No key is named: whoever gets the bundle learns where thieves came from, and not from whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid5

from keywatch.lake import Lake
from keywatch.text.document import rfc3339
from keywatch.text.phrases import count

__all__ = ["TheftAddress", "stix_bundle", "theft_addresses"]

_NAMESPACE = UUID("6f3c7c0e-7d0b-5c57-9d4e-2b1f1a3c9e50")
_KEYWATCH = {
    "type": "identity",
    "spec_version": "2.1",
    "id": f"identity--{uuid5(_NAMESPACE, 'keywatch')}",
    "created": "2026-01-01T00:00:00Z",
    "modified": "2026-01-01T00:00:00Z",
    "name": "Keywatch",
    "identity_class": "system",
}
"""One object, wherever it is exported: its times never change."""
# Of visits that a verdict in force calls a theft; what has no public address is no indicator.
_ADDRESSES = """
    WITH located AS (FROM known_places()),

    stolen AS (
        SELECT DISTINCT f.key_id, f.day, f.prefix, v.given_at
        FROM lake.flagged_visits AS f
        JOIN verdicts_in_force() AS v USING (key_id, window_start, window_end)
        JOIN located AS p USING (prefix)
        WHERE v.verdict = 'compromised' AND is_about(v.origins, p.prefix, p.network, p.class)
    )

    SELECT p.ip, min(a.first_ts), max(a.last_ts), count(DISTINCT a.key_id), min(s.given_at),
        max(s.given_at)
    FROM lake.activity AS a
    JOIN located AS p USING (address)
    JOIN stolen AS s ON s.key_id = a.key_id AND s.day = a.day AND s.prefix = p.prefix
    WHERE p.class NOT IN ('private', 'reserved', 'service', 'invalid', 'none')
    GROUP BY p.ip
    ORDER BY p.ip
"""


@dataclass(frozen=True)
class TheftAddress:
    """An address that stolen keys were used from, and when verdicts said so; times are UTC."""

    ip: str
    first_seen: datetime
    last_seen: datetime
    keys: int
    confirmed_at: datetime
    changed_at: datetime


def theft_addresses(lake: Lake) -> list[TheftAddress]:
    """The public addresses of visits that a verdict *compromised* is about, in order."""
    return [TheftAddress(*row) for row in lake.rows(_ADDRESSES)]


def stix_bundle(lake_id: str, found: Sequence[TheftAddress]) -> dict[str, Any]:
    """A bundle with an indicator for each address; ids stay the same from export to export."""
    own = uuid5(_NAMESPACE, lake_id)
    bundle = {"type": "bundle", "id": f"bundle--{own}"}
    indicators = [_indicator(each, own) for each in found]
    return bundle | ({"objects": [_KEYWATCH, *indicators]} if indicators else {})


def _indicator(one: TheftAddress, own: UUID) -> dict[str, Any]:
    kind = f"ipv{ip_address(one.ip).version}-addr"
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--{uuid5(own, one.ip)}",
        "created_by_ref": _KEYWATCH["id"],
        "created": rfc3339(one.confirmed_at),
        "modified": rfc3339(one.changed_at),
        "name": f"Stolen API keys used from {one.ip}",
        "description": f"{count(one.keys, 'API key')} used from here, confirmed as stolen by an "
        f"analyst; last seen {rfc3339(one.last_seen)}.",
        "indicator_types": ["malicious-activity"],
        "pattern": f"[{kind}:value = '{one.ip}']",
        "pattern_type": "stix",
        "pattern_version": "2.1",
        "valid_from": rfc3339(one.first_seen),
    }
