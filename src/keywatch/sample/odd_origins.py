"""Harmless oddities of where: other lines, networks and countries, for a time or for good."""

from __future__ import annotations

import numpy as np

from . import habits, owners, places
from .keys import Key, Move, Sessions, Slot
from .places import DAY_US, HOUR_US, Network, Source
from .scene import (
    CLOUDS,
    FOREVER_US,
    SERVICES,
    STAFF,
    Scene,
    Trace,
    add_slot,
    change_source,
    replace_line,
)

_LINES = ("isp", "business", "mobile")
_CONTRACTED = (*STAFF, "iac", "weekly_report", "dashboard", "sleeper")


def isp_address_change(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The line keeps its network and gets other addresses; everybody on it moves."""
    here = [slot.source_at(when_us) for slot in key.slots[:2]]
    old = next((s for s in here if s.network.kind in _LINES and (s.pool or s.lease_days)), None)
    if old is None:
        return []
    if old.pool:
        new = places.fixed(scene.rng, old.network, len(old.pool))
    else:
        new = places.leased(scene.rng, old.network, days=old.lease_days)
    return replace_line(scene, key, old, new, when_us)


def office_move(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """An office with a line of another network; all the owner's keys used there move."""
    here = [slot.source_at(when_us) for slot in key.slots]
    old = next((s for s in here if any(s is office for office in key.owner.offices)), None)
    if old is None:
        return []
    without = (old.network.asn,)
    network = places.pick_network(scene.rng, "business isp", key.owner.country, without=without)
    new = places.fixed(scene.rng, network, int(scene.rng.integers(1, 4)))
    return replace_line(scene, key, old, new, when_us)


def office_to_cloud(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A job that ran in the office runs in the owner's cloud from now on."""
    if key.habit not in SERVICES or key.slots[0].source_at(when_us).network.kind in CLOUDS:
        return []
    egress = key.owner.egress
    change_source(key.slots[0], when_us, egress[int(scene.rng.integers(len(egress)))])
    return [(key, when_us, None)]


def cloud_migration(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The owner's keys leave one provider for another within two days."""
    old = _cloud_of(key, when_us)
    if old is None:
        return []
    new = owners.near_cloud(scene.rng, key.owner.country, without=(old.asn,))
    return _move_cloud(scene, key, old, new, when_us, spread_us=2 * DAY_US)


def egress_change(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """Another NAT or proxy: all the owner's keys in one cloud leave it elsewhere, at once."""
    old = _cloud_of(key, when_us)
    if old is None:
        return []
    new = old
    if scene.rng.random() < 0.5:
        new = places.pick_network(scene.rng, "cloud vpn business", old.country, without=(old.asn,))
    return _move_cloud(scene, key, old, new, when_us, spread_us=0)


def provider_egress_change(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A provider's fixed addresses in one region leave from another network, for all owners."""
    old = _cloud_of(key, when_us)
    if old is None:
        return []
    rng = scene.rng
    network = places.pick_network(rng, "cloud", old.country, without=(old.asn,))
    moved: dict[int, Source] = {}
    touched: list[Trace] = []
    for other in scene.keys:
        source = other.slots[0].source_at(when_us)
        if source.network != old or not source.pool:
            continue
        new = moved.setdefault(id(source), places.fixed(rng, network, len(source.pool)))
        change_source(other.slots[0], when_us, new)
        touched.append((other, when_us, None))
    return touched


def vpn_exit_change(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The owner's shared VPN leaves in another country; everybody behind it moves."""
    old = key.slots[0].source_at(when_us)
    if old.network.kind != "vpn":
        return []
    rng = scene.rng
    exits = [n for n in places.networks_of("vpn") if n.country != old.network.country]
    network = exits[int(rng.integers(len(exits)))]
    if old.pool:
        new = places.fixed(rng, network, len(old.pool))
        return replace_line(scene, key, old, new, when_us)
    new = places.fresh(rng, network, blocks=len(old.blocks), length=24)
    touched: list[Trace] = []
    for other in scene.of_owner(key.owner):
        source = other.slots[0].source_at(when_us)
        if source.network == old.network and not source.pool:
            change_source(other.slots[0], when_us, new)
            touched.append((other, when_us, None))
    return touched


def new_region(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The provider stays, a part of the use comes from another country from now on."""
    old = key.slots[0].source_at(when_us)
    if old.network.kind not in CLOUDS:
        return []
    regions = [
        n for n in places.networks_of(old.network.kind)
        if n.asn == old.network.asn and n.country != old.network.country
    ]  # fmt: skip
    if not regions:
        return []
    rng = scene.rng
    region = regions[int(rng.integers(len(regions)))]
    new = places.fixed(rng, region) if old.pool else places.fresh(rng, region, blocks=3, length=24)
    key.slots.append(Slot([(0, new)], list(key.slots[0].agents)))
    share = float(rng.uniform(0.2, 0.6))
    key.moves.append(Move(when_us, FOREVER_US, len(key.slots) - 1, share))
    return [(key, when_us, None)]


def journey(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A person is abroad for days: a hotel's line, a roaming mobile, perhaps a VPN."""
    if key.habit not in STAFF:
        return []
    rng = scene.rng
    country = _abroad(scene, key)
    until_us = when_us + int(rng.uniform(2, 9) * DAY_US)
    hotel = places.leased(rng, places.pick_network(rng, "isp business", country), days=3)
    roaming = places.fresh(rng, places.pick_network(rng, "mobile", country), blocks=2, length=22)
    ways = [(hotel, 0.97), (roaming, 0.35)]
    if rng.random() < 0.25:
        ways.append((places.fresh(rng, key.owner.vpn, blocks=1, length=24), 0.4))
    for source, share in ways:
        _come_from(key, source, share, when_us, until_us)
    return [(key, when_us, until_us)]


def commercial_vpn(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A member of staff takes up a VPN of their own, for days or for good."""
    if key.habit not in STAFF:
        return []
    rng = scene.rng
    country = key.owner.country if rng.random() < 0.4 else None
    network = places.pick_network(rng, "vpn", country)
    until_us = when_us + int(rng.uniform(1, 10) * DAY_US) if rng.random() < 0.6 else None
    source = places.fresh(rng, network, blocks=int(rng.integers(1, 4)), length=24)
    _come_from(key, source, float(rng.uniform(0.3, 0.95)), when_us, until_us or FOREVER_US)
    return [(key, when_us, until_us)]


def contractor(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """Somebody in another country works with the key too, by day, for a week or more."""
    if key.habit not in _CONTRACTED:
        return []
    rng = scene.rng
    country = _abroad(scene, key)
    network = places.pick_network(rng, "isp business", country)
    source = places.leased(rng, network, days=float(rng.choice([1, 7, 60])), v6=rng.random() < 0.2)
    agent = key.slots[0].agent_at(when_us)
    if rng.random() < 0.5:
        agent = habits.any_agent(rng, "curl", "requests", "postman")
    until_us = when_us + int(rng.uniform(7, 45) * DAY_US)
    days_us = np.arange(when_us // DAY_US, until_us // DAY_US) * DAY_US
    days_us = days_us[((days_us // DAY_US + 3) % 7 < 5) & (rng.random(len(days_us)) < 0.7)]
    days_us = np.repeat(days_us, rng.integers(1, 5, len(days_us)))
    hours = habits.office_hours(rng, len(days_us)) - places.UTC_OFFSET_HOURS[country]
    times_us = days_us + hours * HOUR_US
    times_us = times_us[(times_us >= when_us) & (times_us < scene.end_us)]
    if not len(times_us):
        return []
    lengths = rng.integers(2, 9, len(times_us))
    key.extra.append(Sessions.of(times_us, lengths, -1, add_slot(key, source, agent)))
    return [(key, when_us, until_us)]


def _abroad(scene: Scene, key: Key) -> str:
    abroad = [c for c in places.UTC_OFFSET_HOURS if c != key.owner.country]
    return abroad[int(scene.rng.integers(len(abroad)))]


def _come_from(key: Key, source: Source, share: float, when_us: int, until_us: int) -> None:
    slot = add_slot(key, source, key.slots[0].agent_at(when_us))
    key.moves.append(Move(when_us, until_us, slot, share))


def _cloud_of(key: Key, when_us: int) -> Network | None:
    """The owner's cloud the key is used from."""
    source = key.slots[0].source_at(when_us)
    return source.network if source.network in key.owner.clouds else None


def _move_cloud(
    scene: Scene, key: Key, old: Network, new: Network, when_us: int, *, spread_us: int
) -> list[Trace]:
    """The owner's keys in one cloud leave it through another network, within the spread."""
    rng = scene.rng
    egress = places.fixed(rng, new, int(rng.integers(1, 4)))
    touched: list[Trace] = []
    for other in scene.of_owner(key.owner):
        source = other.slots[0].source_at(when_us)
        if source.network != old or other.habit in ("ci", "synthetic_monitor"):
            continue
        to = egress
        if not source.pool:
            to = places.fresh(rng, new, blocks=len(source.blocks), length=24)
        at_us = when_us + int(rng.uniform(0, 1) * spread_us)
        change_source(other.slots[0], at_us, to)
        touched.append((other, at_us, None))
    return touched
