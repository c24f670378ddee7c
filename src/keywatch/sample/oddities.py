"""The harmless oddities of real life: what makes an innocent key look strange for a while.

They fall evenly over the whole span, the review week like any other, so that earlier weeks are
a fair comparison; a share of them brings a second one on the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import api, habits, owners, places
from .keys import Failure, Key, Move, Release, Sessions, Slot, Spell
from .places import DAY_US, HOUR_US, MINUTE_US, AddressBook, Source

SECOND_ODDITY_SHARE = 0.3
SECOND_WITHIN_DAYS = 2.0
SETTLED_DAYS = 5.0
"""No oddity in the first days of the span: there is nothing yet to be odd against."""

_FOREVER_US = 1 << 62
_SERVICES = ("dashboard", "ci", "iac", "alert_bridge", "fleet", "weekly_report", "monthly_job",
             "synthetic_monitor", "sleeper")  # fmt: skip
_STAFF = ("person", "mobile_app")


@dataclass
class Scene:
    """All that an oddity may touch. `start_us`, `end_us` bound the span."""

    rng: np.random.Generator
    keys: list[Key]
    start_us: int
    end_us: int
    book: AddressBook


Oddity = Callable[[Scene, Key, int], list[Key]]
"""Makes the oddity begin at the time; returns the keys it touched, none where it does not fit."""


def isp_address_change(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """The line keeps its network and gets other addresses; everybody on it moves."""
    old = _line_of(key, when_us, "isp business mobile")
    if old is None or not (old.pool or old.lease_days):
        return []
    if old.pool:
        new = places.fixed(scene.rng, old.network, len(old.pool))
    else:
        new = places.leased(scene.rng, old.network, days=old.lease_days)
    return _replace_everywhere(scene, old, new, when_us)


def office_move(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """An office with a line of another network; all the owner's keys used there move."""
    old = next((o for o in key.owner.offices if _uses(key, o, when_us)), None)
    if old is None:
        return []
    country = key.owner.country
    without = (old.network.asn,)
    network = places.pick_network(scene.rng, "business isp", country, without=without)
    new = places.fixed(scene.rng, network, int(scene.rng.integers(1, 4)))
    return _replace_everywhere(scene, old, new, when_us)


def cloud_migration(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """The owner's keys leave one provider for another within two days."""
    old = _line_of(key, when_us, "cloud")
    if old is None or old.network not in key.owner.clouds:
        return []
    rng = scene.rng
    new_cloud = owners.near_cloud(rng, key.owner.country, without=(old.network.asn,))
    egress = places.fixed(rng, new_cloud, int(rng.integers(1, 4)))
    touched = []
    for other in _of_owner(scene, key):
        source = other.slots[0].source_at(when_us)
        if source.network != old.network or other.habit in ("ci", "synthetic_monitor"):
            continue
        new = egress
        if not source.pool:
            new = places.fresh(rng, new_cloud, blocks=len(source.blocks), length=24)
        at = when_us + int(rng.uniform(0, 2) * DAY_US)
        other.slots[0].sources.append((at, new))
        other.slots[0].sources.sort(key=lambda pair: pair[0])
        touched.append(other)
    return touched


def agent_upgrade(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """The owner's keys with one agent go to its next version within three days."""
    old = key.slots[0].agent_at(when_us)
    new = habits.newer_agent(old)
    if new == old:
        return []
    touched = []
    for other in _of_owner(scene, key):
        at = when_us + int(scene.rng.uniform(0, 3) * DAY_US)
        slots = [slot for slot in other.slots if slot.agent_at(when_us) == old]
        for slot in slots:
            slot.agents.append((at, new))
            slot.agents.sort(key=lambda pair: pair[0])
        if slots:
            touched.append(other)
    return touched


def release_new_endpoint(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """A release adds a call to keys of one habit, the owner's and some others'."""
    reads = [i for i, e in enumerate(api.ENDPOINTS) if e.method == "GET" and e.scope != api.ADMIN]
    unused = [i for i in reads if key.mix[i] == 0 and api.ENDPOINTS[i].scope in key.scopes]
    if not unused or key.habit not in _SERVICES:
        return []
    endpoint = int(scene.rng.choice(unused))
    share = float(scene.rng.uniform(0.05, 0.4))
    alike = [
        k for k in scene.keys
        if k.habit == key.habit and k.mix[endpoint] == 0
        and api.ENDPOINTS[endpoint].scope in k.scopes
        and (k.owner is key.owner or scene.rng.random() < 0.1)
    ]  # fmt: skip
    for other in alike:
        at = when_us + int(scene.rng.uniform(0, 1.5) * DAY_US)
        other.releases.append(Release(at, _FOREVER_US, endpoint, share))
    return alike


def incident_day(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """For some hours the owner's people and bridges look at alerts far more than usual."""
    touched = []
    for other in _of_owner(scene, key):
        if other.habit not in ("alert_bridge", "person", "mobile_app", "dashboard"):
            continue
        names = ["GET /v1/alerts", "GET /v1/alerts/{id}", "GET /v1/alerts/{id}"]
        if api.WRITE_ALERTS in other.scopes:
            names.append("POST /v1/alerts/{id}/ack")
        if api.READ_ALERTS not in other.scopes:
            names = ["GET /v1/checks", "GET /v1/checks/{id}", "GET /v1/checks/{id}/results"]
        times = when_us + scene.rng.uniform(0, scene.rng.uniform(2, 9), 30) * HOUR_US
        count = int(scene.rng.integers(6, 30))
        _by_hand(other, names, times[:count], scene.rng.integers(2, 9, count), 0)
        touched.append(other)
    return touched


def journey(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """A person is abroad for days: a hotel's line, a roaming mobile, perhaps a VPN."""
    if key.habit not in _STAFF:
        return []
    rng = scene.rng
    abroad = [c for c in places.UTC_OFFSET_HOURS if c != key.owner.country]
    country = abroad[int(rng.integers(len(abroad)))]
    until_us = when_us + int(rng.uniform(2, 9) * DAY_US)
    agent = key.slots[0].agent_at(when_us)
    hotel = places.leased(rng, places.pick_network(rng, "isp business", country), days=3)
    roaming = places.fresh(rng, places.pick_network(rng, "mobile", country), blocks=2, length=22)
    ways = [(hotel, 0.97), (roaming, 0.35)]
    if rng.random() < 0.25:
        ways.append((places.fresh(rng, key.owner.vpn, blocks=1, length=24), 0.4))
    for source, share in ways:
        key.slots.append(Slot([(0, source)], [(0, agent)]))
        key.moves.append(Move(when_us, until_us, len(key.slots) - 1, share))
    return [key]


def engineer_by_hand(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """A service's key is tried with curl or the like from the office or from home."""
    if key.habit not in _SERVICES:
        return []
    rng = scene.rng
    line = key.owner.offices[0]
    if rng.random() < 0.35:
        isp = key.owner.homes[int(rng.integers(len(key.owner.homes)))]
        line = places.leased(rng, isp, days=30, v6=rng.random() < 0.2)
    family = ("curl", "httpie", "postman")[int(rng.integers(3))]
    versions = habits.AGENTS[family]
    agent = versions[int(rng.integers(len(versions)))]
    key.slots.append(Slot([(0, line)], [(0, agent)]))
    times = when_us + np.cumsum(rng.exponential(1.5, int(rng.integers(1, 4)))) * HOUR_US
    own = [api.ENDPOINTS[i].name for i in rng.choice(len(key.mix), size=4, p=key.mix)]
    reads = [name for name in own if not name.startswith("DELETE")]
    _by_hand(key, ["GET /v1/me", *reads], times, rng.integers(2, 12, len(times)),
             len(key.slots) - 1)  # fmt: skip
    return [key]


def late_lines(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """Most lines of some hours reach the log hours later."""
    until_us = when_us + int(scene.rng.uniform(3, 24) * HOUR_US)
    delay_us = int(scene.rng.uniform(0.3, 20) * HOUR_US)
    key.late.append(Spell(when_us, until_us, 0.8, delay_us))
    return [key]


def duplicate_lines(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """Most lines of some hours reach the log twice."""
    until_us = when_us + int(scene.rng.uniform(3, 24) * HOUR_US)
    key.twice.append(Spell(when_us, until_us, 0.9, int(scene.rng.uniform(1, 120) * MINUTE_US)))
    return [key]


def new_region(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """The provider stays, a part of the use comes from another country from now on."""
    old = _line_of(key, when_us, "cloud")
    if old is None:
        return []
    regions = [
        n for n in places.networks_of("cloud")
        if n.asn == old.network.asn and n.country != old.network.country
    ]  # fmt: skip
    if not regions:
        return []
    rng = scene.rng
    region = regions[int(rng.integers(len(regions)))]
    new = places.fixed(rng, region) if old.pool else places.fresh(rng, region, blocks=3, length=24)
    key.slots.append(Slot([(0, new)], list(key.slots[0].agents)))
    share = float(rng.uniform(0.2, 0.6))
    key.moves.append(Move(when_us, _FOREVER_US, len(key.slots) - 1, share))
    return [key]


def retry_storm(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """The API fails or limits for a while, and the client tries again and again."""
    if key.habit not in _SERVICES or key.habit == "sleeper":
        return []
    rng = scene.rng
    lasts_us = int(rng.uniform(10, 120) * MINUTE_US)
    status = 503 if rng.random() < 0.6 else 429
    key.failures.append(Failure(when_us, when_us + lasts_us, status, 0.93))
    times = when_us + rng.uniform(0, 0.9, int(rng.integers(10, 60))) * lasts_us
    step = int(np.argmax(key.mix))
    _by_hand(key, [api.ENDPOINTS[step].name], times, rng.integers(2, 7, len(times)), 0)
    return [key]


def stale_config_403(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """For some days a part of the calls is outside the key's scopes."""
    if key.habit not in _SERVICES or api.ADMIN in key.scopes:
        return []
    outside = [
        i for i, e in enumerate(api.ENDPOINTS)
        if e.scope not in (*key.scopes, api.ANY, api.ADMIN) and e.method in ("GET", "PATCH")
    ]  # fmt: skip
    if not outside:
        return []
    until_us = when_us + int(scene.rng.uniform(0.5, 12) * DAY_US)
    share = float(scene.rng.uniform(0.03, 0.25))
    endpoint = int(scene.rng.choice(outside))
    key.releases.append(Release(when_us, until_us, endpoint, share))
    return [key]


def backfill(scene: Scene, key: Key, when_us: int) -> list[Key]:
    """Bulk reading of the key's own objects, once."""
    if api.READ_CHECKS not in key.scopes or key.habit in ("mobile_app", "synthetic_monitor"):
        return []
    names = ["GET /v1/checks/{id}/results"]
    if scene.rng.random() < 0.3:
        names = ["GET /v1/export", *names * 40]
    lengths = scene.rng.integers(60, 400, 1)
    _by_hand(key, names, np.array([float(when_us)]), lengths, 0)
    return [key]


def stale_consumer(rng: np.random.Generator, key: Key, start_us: int, end_us: int) -> None:
    """A consumer of the owner's was not told of the revocation: 401 from a known place."""
    if key.revoked_us is None or not start_us < key.revoked_us < end_us - DAY_US:
        return
    times = key.revoked_us + rng.uniform(0.01, 4, 6) * DAY_US
    step = api.ENDPOINTS[int(np.argmax(key.mix))].name
    _by_hand(key, [step], times, np.full(6, 2), 0)
    key.oddities.append(("stale_consumer", key.revoked_us))


ODDITIES: dict[str, tuple[Oddity, float]] = {
    "isp_address_change": (isp_address_change, 5.0),
    "office_move": (office_move, 0.9),
    "cloud_migration": (cloud_migration, 1.3),
    "agent_upgrade": (agent_upgrade, 1.8),
    "release_new_endpoint": (release_new_endpoint, 0.6),
    "incident_day": (incident_day, 1.1),
    "journey": (journey, 21.0),
    "engineer_by_hand": (engineer_by_hand, 7.0),
    "late_lines": (late_lines, 2.5),
    "duplicate_lines": (duplicate_lines, 2.5),
    "new_region": (new_region, 7.0),
    "retry_storm": (retry_storm, 6.0),
    "stale_config_403": (stale_config_403, 6.0),
    "backfill": (backfill, 5.0),
}
"""Kind → how it is made, and attempts per 1,000 keys and week (one attempt may touch many keys
or, where it does not fit the key, none). `rotation_overlap` and `stale_consumer` come with the
rotations."""


def happen(scene: Scene) -> None:
    """Let oddities happen to the keys over the whole span."""
    rng = scene.rng
    weeks = (scene.end_us - scene.start_us) / (7 * DAY_US)
    first_us = scene.start_us + int(SETTLED_DAYS * DAY_US)
    kinds = list(ODDITIES)
    for kind, (_, rate) in ODDITIES.items():
        for _ in range(int(rng.poisson(rate * len(scene.keys) / 1000 * weeks))):
            key = scene.keys[int(rng.integers(len(scene.keys)))]
            when_us = int(rng.uniform(first_us, scene.end_us - 2 * HOUR_US))
            if _try(scene, kind, key, when_us) and rng.random() < SECOND_ODDITY_SHARE:
                other = kinds[int(rng.integers(len(kinds)))]
                near_us = when_us + int(rng.normal(0, SECOND_WITHIN_DAYS / 2) * DAY_US)
                if other != kind and near_us < scene.end_us - 2 * HOUR_US:
                    _try(scene, other, key, max(near_us, first_us))


def _try(scene: Scene, kind: str, key: Key, when_us: int) -> bool:
    if not key.created_us + DAY_US < when_us < (key.revoked_us or _FOREVER_US):
        return False
    touched = ODDITIES[kind][0](scene, key, when_us)
    for other in touched:
        other.oddities.append((kind, when_us))
    return bool(touched)


def _of_owner(scene: Scene, key: Key) -> list[Key]:
    return [k for k in scene.keys if k.owner is key.owner]


def _line_of(key: Key, when_us: int, kinds: str) -> Source | None:
    for slot in key.slots[:2]:
        source = slot.source_at(when_us)
        if source.network.kind in kinds.split():
            return source
    return None


def _uses(key: Key, source: Source, when_us: int) -> bool:
    return any(slot.source_at(when_us) is source for slot in key.slots)


def _replace_everywhere(scene: Scene, old: Source, new: Source, when_us: int) -> list[Key]:
    touched = []
    for key in scene.keys:
        slots = [slot for slot in key.slots if slot.source_at(when_us) is old]
        for slot in slots:
            slot.sources.append((when_us, new))
            slot.sources.sort(key=lambda pair: pair[0])
        if slots:
            touched.append(key)
    return touched


def _by_hand(
    key: Key, names: list[str], times: npt.NDArray[np.float64], lengths: places.Ints, slot: int
) -> None:
    key.routines.append(np.array(api.numbers(*names), dtype=np.int64))
    key.extra.append(Sessions.of(times, lengths, len(key.routines) - 1, slot))
