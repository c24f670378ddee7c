"""Harmless oddities of use: other clients, endpoints, volumes and hours, and unlucky lines."""

from __future__ import annotations

import numpy as np

from . import api, habits, owners, places
from .keys import Failure, Happening, Key, Release, Slot, Spell
from .places import DAY_US, HOUR_US, MINUTE_US
from .scene import (
    FOREVER_US,
    SERVICES,
    STAFF,
    Scene,
    Trace,
    add_sessions,
    add_slot,
    office_at,
    own_calls,
    working_hour,
)

QUARTER_US = 91 * DAY_US
RELEASE_SHARE = 0.2
"""Share of other owners' keys of the habit that take up the same release."""
CURIOUS_SHARE = 0.15
"""Share of engineers who try whether the key can do what administrators can."""
EXPLORING_SHARE = 0.3
"""Share of engineers who also read what the key may read and its service does not."""
ELSEWHERE_SHARE, HOME_SHARE = 0.25, 0.25
"""Shares of engineers who work where any key of the team is used, and at home; else the office."""


def agent_upgrade(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The owner's keys with one agent go to its next version within three days."""
    old = key.slots[0].agent_at(when_us)
    new = habits.newer_agent(old)
    if new == old:
        return []
    touched: list[Trace] = []
    for other in scene.of_owner(key.owner):
        at_us = when_us + int(scene.rng.uniform(0, 3) * DAY_US)
        slots = [slot for slot in other.slots if slot.agent_at(when_us) == old]
        for slot in slots:
            slot.agents.append((at_us, new))
            slot.agents.sort(key=lambda pair: pair[0])
        if slots:
            touched.append((other, at_us, None))
    return touched


def release_new_endpoint(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A release adds a call to keys of one habit, the owner's and some others'."""
    unused = key.other_reads()
    if not unused or key.habit not in SERVICES or api.ADMIN in key.scopes:
        return []
    rng = scene.rng
    endpoint = api.NUMBER_OF[str(rng.choice(unused))]
    share = float(rng.uniform(0.05, 0.4))
    touched: list[Trace] = []
    for other in scene.keys:
        is_alike = other.habit == key.habit and not other.mix[endpoint]
        if not is_alike or not other.may_call(api.ENDPOINTS[endpoint]):
            continue
        if other.owner is key.owner or rng.random() < RELEASE_SHARE:
            at_us = when_us + int(rng.uniform(0, 1.5) * DAY_US)
            other.releases.append(Release(at_us, FOREVER_US, endpoint, share))
            touched.append((other, at_us, None))
    return touched


def incident_day(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """For some hours the owner's people and bridges look at alerts far more than usual."""
    rng = scene.rng
    lasts_hours = float(rng.uniform(2, 9))
    until_us = when_us + int(lasts_hours * HOUR_US)
    touched: list[Trace] = []
    for other in scene.of_owner(key.owner):
        if other.habit not in (*STAFF, "alert_bridge", "dashboard"):
            continue
        names = ["GET /v1/alerts", "GET /v1/alerts/{id}", "GET /v1/alerts/{id}"]
        if api.WRITE_ALERTS in other.scopes:
            names.append("POST /v1/alerts/{id}/ack")
        if api.READ_ALERTS not in other.scopes:
            names = ["GET /v1/checks", "GET /v1/checks/{id}", "GET /v1/checks/{id}/results"]
        count = int(rng.integers(6, 30))
        times_us = when_us + rng.uniform(0, lasts_hours, count) * HOUR_US
        add_sessions(other, names, times_us, rng.integers(2, 9, count), 0)
        touched.append((other, when_us, until_us))
    return touched


def engineer_by_hand(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A service's key is tried by hand, by day, where the team is: office, home, other machines."""
    if key.habit not in SERVICES:
        return []
    rng = scene.rng
    when_us = working_hour(rng, when_us, key.owner.utc_offset_hours)
    line = office_at(scene.of_owner(key.owner), key.owner.offices[0], when_us)
    luck = rng.random()
    if luck < ELSEWHERE_SHARE:
        known = [
            slot.source_at(when_us) for other in scene.of_owner(key.owner) for slot in other.slots
        ] + [*key.owner.offices, *key.owner.egress]
        line = known[int(rng.integers(len(known)))]
    elif luck < ELSEWHERE_SHARE + HOME_SHARE:
        isp = key.owner.homes[int(rng.integers(len(key.owner.homes)))]
        line = places.leased(rng, isp, days=30, v6=rng.random() < 0.2)
    agent = habits.any_agent(rng, "curl", "curl", "httpie", "postman", "browser")
    times_us = when_us + np.cumsum(rng.exponential(1.5, int(rng.integers(1, 4)))) * HOUR_US
    names = ["GET /v1/me", *own_calls(rng, key, 4)]
    if rng.random() < CURIOUS_SHARE:
        names.insert(1, str(rng.choice([e.name for e in api.ENDPOINTS if e.scope == api.ADMIN
                                        and e.method == "GET"])))  # fmt: skip
    others = key.other_reads()
    if others and rng.random() < EXPLORING_SHARE:
        names += [str(each) for each in rng.choice(others, size=2)]
    lengths = rng.integers(2, 12, len(times_us))
    add_sessions(key, names, times_us, lengths, add_slot(key, line, agent))
    return [(key, when_us, int(times_us[-1]) + HOUR_US)]


def new_consumer(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """A second service of the owner's, in another cloud, uses the key as well from now on."""
    if key.habit not in SERVICES:
        return []
    add_consumer(scene.rng, key, when_us, scene.end_us)
    return [(key, when_us, None)]


def add_consumer(rng: np.random.Generator, key: Key, since_us: int, end_us: int) -> None:
    """A service with its own client and rhythm, in another cloud than the key's main one."""
    main = key.slots[0].source_at(since_us).network
    known = [egress for egress in key.owner.egress if egress.network != main]
    source = places.fixed(rng, owners.near_cloud(rng, key.owner.country, without=(main.asn,)))
    if known and rng.random() < 0.6:
        source = known[int(rng.integers(len(known)))]
    slot = add_slot(key, source, habits.any_agent(rng, "go", "node", "sdk", "requests", "okhttp"))
    names = own_calls(rng, key, int(rng.integers(1, 5)))
    others = key.other_reads()
    if others and rng.random() < 0.35:
        names.append(str(rng.choice(others)))
    every_us = rng.uniform(1, 8) * HOUR_US
    times_us = np.arange(since_us, end_us, every_us)
    times_us = times_us + rng.uniform(0, 0.05 * every_us, len(times_us))
    add_sessions(key, names, times_us, len(names), slot)


def retry_storm(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The API fails or limits for a while, and the client tries again and again."""
    if key.habit not in SERVICES or key.habit == "sleeper":
        return []
    rng = scene.rng
    lasts_us = int(rng.uniform(10, 120) * MINUTE_US)
    status = 503 if rng.random() < 0.6 else 429
    key.failures.append(Failure(when_us, when_us + lasts_us, status, 0.93))
    times_us = when_us + rng.uniform(0, 0.9, int(rng.integers(10, 60))) * lasts_us
    step = api.ENDPOINTS[int(np.argmax(key.mix))].name
    add_sessions(key, [step], times_us, rng.integers(2, 7, len(times_us)), 0)
    return [(key, when_us, when_us + lasts_us)]


def stale_config_403(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """For some days a part of the calls is outside the key's scopes."""
    if key.habit not in SERVICES:
        return []
    outside = [
        i for i, e in enumerate(api.ENDPOINTS)
        if not key.may_call(e) and e.sensitivity != "critical" and e.method in ("GET", "PATCH")
    ]  # fmt: skip
    if not outside:
        return []
    until_us = when_us + int(scene.rng.uniform(0.5, 12) * DAY_US)
    share = float(scene.rng.uniform(0.03, 0.25))
    endpoint = int(scene.rng.choice(outside))
    key.releases.append(Release(when_us, until_us, endpoint, share))
    return [(key, when_us, until_us)]


def backfill(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """The owner reads all the team's objects once, from the usual place, at times by a script."""
    if api.READ_CHECKS not in key.scopes or key.habit in ("mobile_app", "synthetic_monitor"):
        return []
    rng = scene.rng
    names = ["GET /v1/checks/{id}/results"]
    if rng.random() < 0.3:
        names = ["GET /v1/export", *names * 40]
    slot = 0
    if rng.random() < 0.25:
        script = habits.any_agent(rng, "requests", "sdk", "httpx")
        key.slots.append(Slot(list(key.slots[0].sources), [(0, script)]))
        slot = len(key.slots) - 1
    length = int(rng.integers(60, 900))
    key.wide.append(add_sessions(key, names, np.array([float(when_us)]), length, slot))
    return [(key, when_us, when_us + int(2 * length * key.gap_s * 1e6))]


def quarterly_job(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """Every 13 weeks the key makes reports of everything; the last time may be out of sight."""
    if api.READ_CHECKS not in key.scopes or key.habit not in (
        "weekly_report", "monthly_job", "iac", "sleeper",
    ):  # fmt: skip
        return []
    rng = scene.rng
    times_us = np.arange(when_us, scene.start_us, -QUARTER_US)[::-1]
    names = ["GET /v1/reports/{id}"] * 3 + ["GET /v1/checks/{id}/results"] * 4 + ["GET /v1/export"]
    length = int(rng.integers(30, 250))
    key.wide.append(add_sessions(key, names, times_us.astype(np.float64), length, 0))
    return [(key, int(at), int(at) + int(2 * length * key.gap_s * 1e6)) for at in times_us]


def late_lines(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """Most lines of some hours reach the log hours later."""
    until_us = when_us + int(scene.rng.uniform(3, 24) * HOUR_US)
    delay_us = int(scene.rng.uniform(0.3, 20) * HOUR_US)
    key.late.append(Spell(when_us, until_us, 0.8, delay_us))
    return [(key, when_us, until_us)]


def duplicate_lines(scene: Scene, key: Key, when_us: int) -> list[Trace]:
    """Most lines of some hours reach the log twice."""
    until_us = when_us + int(scene.rng.uniform(3, 24) * HOUR_US)
    key.twice.append(Spell(when_us, until_us, 0.9, int(scene.rng.uniform(1, 120) * MINUTE_US)))
    return [(key, when_us, until_us)]


def stale_consumer(rng: np.random.Generator, key: Key, start_us: int, end_us: int) -> None:
    """A consumer of the owner's was not told of the revocation: 401 from a known place."""
    if key.revoked_us is None or not start_us < key.revoked_us < end_us - DAY_US:
        return
    times_us = key.revoked_us + rng.uniform(0.01, 4, 6) * DAY_US
    step = api.ENDPOINTS[int(np.argmax(key.mix))].name
    add_sessions(key, [step], times_us, 2, 0)
    key.oddities.append(Happening("stale_consumer", key.revoked_us, key.revoked_us + 4 * DAY_US))
