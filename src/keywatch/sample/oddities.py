"""The harmless oddities of real life: what makes an innocent key look strange for a while.

They fall evenly over the whole span, the review week like any other, so that earlier weeks are
a fair comparison. Some bring a second one with them.
"""

from __future__ import annotations

from . import odd_origins, odd_use
from .keys import Happening, Key
from .places import DAY_US, HOUR_US, WEEK_US
from .scene import Oddity, Scene, Trace

SETTLED_DAYS = 5.0
"""No oddity in the first days of the span: there is nothing yet to be odd against."""
TRIES = 40
"""Keys that are tried until one fits the oddity."""
PAIR_SHARE = 0.4
PAIR_WITHIN_DAYS = 2.0

ODDITIES: dict[str, tuple[Oddity, float]] = {
    "isp_address_change": (odd_origins.isp_address_change, 3.5),
    "office_move": (odd_origins.office_move, 1.3),
    "office_to_cloud": (odd_origins.office_to_cloud, 3.5),
    "cloud_migration": (odd_origins.cloud_migration, 1.3),
    "egress_change": (odd_origins.egress_change, 1.0),
    "provider_egress_change": (odd_origins.provider_egress_change, 0.6),
    "vpn_exit_change": (odd_origins.vpn_exit_change, 2.5),
    "new_region": (odd_origins.new_region, 4.0),
    "journey": (odd_origins.journey, 7.0),
    "commercial_vpn": (odd_origins.commercial_vpn, 2.5),
    "contractor": (odd_origins.contractor, 2.0),
    "new_consumer": (odd_use.new_consumer, 2.5),
    "agent_upgrade": (odd_use.agent_upgrade, 2.0),
    "release_new_endpoint": (odd_use.release_new_endpoint, 1.5),
    "incident_day": (odd_use.incident_day, 1.5),
    "engineer_by_hand": (odd_use.engineer_by_hand, 5.0),
    "retry_storm": (odd_use.retry_storm, 4.0),
    "stale_config_403": (odd_use.stale_config_403, 4.0),
    "backfill": (odd_use.backfill, 4.0),
    "quarterly_job": (odd_use.quarterly_job, 3.0),
    "late_lines": (odd_use.late_lines, 3.0),
    "duplicate_lines": (odd_use.duplicate_lines, 3.0),
}
"""Kind → how it is made, and how often in 1,000 keys and a week; one may touch many keys."""

KINDS = (*ODDITIES, "rotation_overlap", "stale_consumer", "new_key", "two_consumers")
"""All kinds of oddity in the truth. The last four come with the keys' lives."""

PAIRS: dict[str, tuple[str, ...]] = {
    "journey": ("agent_upgrade", "commercial_vpn"),
    "cloud_migration": ("agent_upgrade", "release_new_endpoint", "stale_config_403"),
    "office_move": ("release_new_endpoint", "agent_upgrade"),
    "office_to_cloud": ("agent_upgrade", "backfill"),
    "egress_change": ("retry_storm", "engineer_by_hand"),
    "isp_address_change": ("agent_upgrade", "backfill"),
    "vpn_exit_change": ("backfill",),
    "new_region": ("retry_storm", "new_consumer"),
    "contractor": ("backfill", "agent_upgrade"),
    "new_consumer": ("stale_config_403", "engineer_by_hand"),
    "release_new_endpoint": ("backfill", "retry_storm"),
    "incident_day": ("late_lines", "engineer_by_hand"),
    "quarterly_job": ("late_lines", "engineer_by_hand"),
}
"""Kind → those that it may bring on one of its keys within two days."""


def happen(scene: Scene) -> None:
    """Let oddities happen to the keys over the whole span, one after the other."""
    for when_us, kind in _calendar(scene):
        touched = _touch_some(scene, kind, when_us)
        if not touched:
            continue
        for other in PAIRS.get(kind, ()):
            if scene.rng.random() < PAIR_SHARE:
                near_us = when_us + int(scene.rng.uniform(0, PAIR_WITHIN_DAYS) * DAY_US)
                if near_us < scene.end_us - 2 * HOUR_US:
                    _touch_some(scene, other, near_us, touched)


def _calendar(scene: Scene) -> list[tuple[int, str]]:
    """When what is to happen, in time order: each week has its share of each kind."""
    rng = scene.rng
    calendar: list[tuple[int, str]] = []
    for week_us in range(scene.start_us, scene.end_us, WEEK_US):
        low_us = max(week_us, scene.start_us + int(SETTLED_DAYS * DAY_US))
        high_us = min(week_us + WEEK_US, scene.end_us - 2 * HOUR_US)
        for kind, (_, rate) in ODDITIES.items():
            wanted = rate * len(scene.keys) / 1000 * (high_us - low_us) / WEEK_US
            times_us = rng.integers(low_us, high_us, int(wanted + rng.random()))
            calendar += [(when_us, kind) for when_us in times_us.tolist()]
    return sorted(calendar)


def _touch_some(scene: Scene, kind: str, when_us: int, keys: list[Key] | None = None) -> list[Key]:
    """Let it happen to one of the keys that it fits; all keys that it touched."""
    keys = scene.keys if keys is None else keys
    for at in scene.rng.permutation(len(keys))[:TRIES]:
        key = keys[int(at)]
        if key.created_us + DAY_US < when_us:
            traces = ODDITIES[kind][0](scene, key, when_us)
            if touched := _written_down(scene, kind, traces):
                return touched
    return []


def _written_down(scene: Scene, kind: str, traces: list[Trace]) -> list[Key]:
    touched = []
    for key, start_us, end_us in traces:
        if key.created_us < start_us < scene.end_us:
            key.oddities.append(Happening(kind, start_us, end_us))
            touched.append(key)
    return touched


__all__ = ["KINDS", "ODDITIES", "PAIRS", "Scene", "happen"]
