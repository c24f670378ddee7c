"""Ways of theft: an attacker uses the key, most often beside its owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import api, places
from .attackers import Scene, Step, Theft, some
from .keys import Key
from .places import DAY_US, HOUR_US
from .scene import CLOUDS, SERVICES, office_at

CAMPAIGN_KEYS = (3, 8)
CAMPAIGNS = (1, 3)
"""Fewest and most campaigns for every so many stolen keys:"""
CAMPAIGNS_PER_THEFTS = 30
SINGLE_SHARE = 0.3
"""Share of planned campaigns that use each key once."""
THEFTS_WITH_CAMPAIGN = 6
"""From so many stolen keys on, a world has a campaign."""
ODD_VICTIMS_SHARE, YOUNG_VICTIMS_SHARE, CHANGING_VICTIMS_SHARE = 0.2, 0.08, 0.12
"""Shares of victims chosen because they have an oddity in that week, are a few days old,
or have new addresses all the time; the others are any keys."""
YOUNG_DAYS = 10.0
YOUNGEST_DAYS = 2.0
CHANGING_HABITS = ("ci", "fleet")

_DENIED_BAIT = ("GET /v1/members", "GET /v1/keys", "GET /v1/billing", "GET /v1/audit-log")
_EACH_CHECK = "GET /v1/checks/{id}/results"


def scan(theft: Theft) -> None:
    """Every endpoint it can think of, again and again: many 403."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.15)
    names = [e.name for e in api.ENDPOINTS if e.method == "GET" or rng.random() < 0.3]
    for start_us in theft.loud_days():
        order = [names[i] for i in rng.integers(len(names), size=int(rng.integers(60, 400)))]
        theft.visit(start_us, source, agent, order, 0.4)


def bulk_read(theft: Theft) -> None:
    """The export and the results of most checks."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    checks = theft.key.owner.objects["check"]
    for start_us in theft.loud_days():
        reads = rng.permutation(len(checks))[: int(rng.integers(30, len(checks) + 1))]
        steps: list[Step] = ["GET /v1/me", "GET /v1/checks"]
        steps += [(_EACH_CHECK, checks[i]) for i in np.sort(reads)]
        steps += ["GET /v1/export"] * int(rng.integers(0, 4))
        theft.visit(start_us, source, agent, steps, float(rng.choice([0.3, 0.5, 3.0])))


def sabotage(theft: Theft) -> None:
    """Deletes or pauses the owner's checks."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    checks = theft.key.owner.objects["check"]
    deed = ("DELETE /v1/checks/{id}", "POST /v1/checks/{id}/pause")[int(rng.integers(2))]
    victims = [checks[i] for i in rng.permutation(len(checks))[: int(rng.integers(5, 40))]]
    days = theft.loud_days()
    for nth, start_us in enumerate(days):
        steps: list[Step] = [(deed, victim) for victim in victims[nth :: len(days)]]
        theft.visit(start_us, source, agent, ["GET /v1/me", "GET /v1/checks", *steps], 1.5)


def mute_alerts(theft: Theft) -> None:
    """Mutes the newest alerts and changes where they are sent."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    deed = ("PATCH /v1/alert-channels/{id}", "DELETE /v1/alert-channels/{id}")[int(rng.integers(2))]
    for start_us in theft.loud_days():
        newest = theft.existing("alert", start_us)[-int(rng.integers(3, 25)) :]
        steps: list[Step] = [("POST /v1/alerts/{id}/mute", alert) for alert in newest]
        steps += ["GET /v1/alert-channels", *[deed] * int(rng.integers(1, 5))]
        theft.visit(start_us, source, agent, ["GET /v1/alerts", *steps], 2.0)


def takeover(theft: Theft) -> None:
    """Makes members and keys of its own, deletes the owner's."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    for start_us in theft.loud_days():
        steps: list[Step] = ["GET /v1/me", "GET /v1/members", "GET /v1/keys", "POST /v1/members"]
        steps += ["POST /v1/keys"] * int(rng.integers(1, 4))
        steps += ["DELETE /v1/keys/{id}"] * int(rng.integers(1, 6))
        steps += ["DELETE /v1/members/{id}"] * int(rng.integers(0, 3))
        if rng.random() < 0.4:
            steps += ["GET /v1/billing", "PATCH /v1/billing"]
        theft.visit(start_us, source, agent, steps, 8.0)


def revoked_use(theft: Theft) -> None:
    """Tries a key that was revoked; at times the first tries still work."""
    rng, scene = theft.scene.rng, theft.scene
    revoked_us = max(theft.key.revoked_us or 0, scene.week_us)
    start_us = int(rng.uniform(revoked_us, max(scene.week_end_us - 2 * HOUR_US, revoked_us + 1)))
    if rng.random() < 0.25:
        start_us = max(scene.week_us, revoked_us - int(rng.uniform(0, 8) * HOUR_US))
    source, agent = theft.loud_source(), theft.agent(0.25)
    pauses_us = np.cumsum(rng.exponential(8, int(rng.integers(1, 5)))) * HOUR_US
    times_us = start_us + pauses_us - pauses_us[0]
    for at_us in times_us[times_us < scene.week_end_us]:
        steps = ["GET /v1/me", *theft.reads(int(rng.integers(2, 12)))]
        theft.visit(int(at_us), source, agent, steps, 5.0)


def slow_reader(theft: Theft) -> None:
    """A few reads a day from a home line, mostly in the owner's country."""
    rng = theft.scene.rng
    source = theft.residential(theft.key.owner.country if rng.random() < 0.75 else None)
    agent = theft.agent(0.45)
    for day_us in theft.days(theft.start(early=True), 2, 7):
        for _ in range(int(rng.integers(1, 4))):
            at_us = theft.in_week(day_us + int(rng.exponential(2) * HOUR_US))
            theft.visit(at_us, source, agent, theft.reads(int(rng.integers(2, 7))), 40.0)


def same_provider(theft: Theft) -> None:
    """Reads by and by, from another machine of the owner's cloud and region."""
    rng = theft.scene.rng
    source, agent = theft.near_machine(), theft.agent(0.4)
    for start_us in theft.days(theft.start(early=True), 1, 5):
        steps = theft.reads(int(rng.integers(4, 30))) + theft.other_reads(int(rng.integers(1, 10)))
        theft.visit(start_us, source, agent, steps, 12.0)


def insider(theft: Theft) -> None:
    """From the owner's office or a colleague's home, mostly in the evening: what others watch."""
    rng, key, scene = theft.scene.rng, theft.key, theft.scene
    agent = theft.agent(0.35)
    start_us = theft.start()
    team = [k for k in scene.keys if k.owner is key.owner]
    source = office_at(team, key.owner.offices[0], start_us)
    if rng.random() < 0.25:
        home = key.owner.homes[int(rng.integers(len(key.owner.homes)))]
        source = places.leased(rng, home, days=30, v6=rng.random() < 0.2)
    shift_us = key.owner.utc_offset_hours * HOUR_US
    hours = (18.5, 23.5) if rng.random() < 0.75 else (8.5, 18.5)
    for day_us in theft.days(start_us, 1, 3):
        midnight_us = (day_us + shift_us) // DAY_US * DAY_US - shift_us
        at_us = max(midnight_us + int(rng.uniform(*hours) * HOUR_US), start_us)
        steps = theft.other_reads(int(rng.integers(2, 10)))
        checks = key.owner.objects["check"]
        steps += [(_EACH_CHECK, some(rng, checks)) for _ in range(int(rng.integers(4, 30)))]
        theft.visit(theft.in_week(at_us), source, agent, steps, 15.0)


def vpn_probe(theft: Theft) -> None:
    """A handful of calls from a VPN or Tor exit to learn what the key can do."""
    rng = theft.scene.rng
    kinds = "vpn" if rng.random() < 0.75 else "tor"
    near = theft.key.owner.country if rng.random() < 0.3 else None
    source = places.fresh(rng, theft.foreign(kinds, near), blocks=2, length=24)
    agent = theft.agent(0.1)
    names = ["GET /v1/me", "GET /v1/checks", "GET /v1/alerts", *_DENIED_BAIT]
    for start_us in theft.days(theft.start(), 1, 2):
        picked = [names[j] for j in rng.permutation(len(names))[: int(rng.integers(2, 7))]]
        theft.visit(start_us, source, agent, picked, 12.0)


def enumeration(theft: Theft) -> None:
    """Walks through check ids, most of which do not exist or are not the owner's."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    first = int(theft.key.owner.objects["check"][0]) - int(rng.integers(20, 400))
    ids = [str(i) for i in range(first, first + int(rng.integers(80, 900)))]
    gap_s = float(rng.choice([0.2, 1.0, 8.0]))
    days = theft.loud_days()
    for start_us, part in zip(days, np.array_split(ids, len(days)), strict=True):
        steps: list[Step] = [("GET /v1/checks/{id}", str(each)) for each in part]
        theft.visit(start_us, source, agent, ["GET /v1/checks", *steps], gap_s)


def dormant_wake(theft: Theft) -> None:
    """A key that is hardly used comes alive from elsewhere."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    for start_us in theft.days(theft.start(early=True), 1, 4):
        steps = ["GET /v1/me", "GET /v1/checks", *theft.reads(int(rng.integers(3, 25)))]
        theft.visit(start_us, source, agent, steps, 6.0)


def test_to_prod(theft: Theft) -> None:
    """A staging key is tried on many endpoints."""
    rng = theft.scene.rng
    source, agent = theft.loud_source(), theft.agent(0.2)
    names = [e.name for e in api.ENDPOINTS if e.method in ("GET", "PATCH", "POST")]
    picked = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(8, len(names)))]]
    for start_us in theft.loud_days():
        steps = ["GET /v1/me", *picked * int(rng.integers(1, 5))]
        theft.visit(start_us, source, agent, steps, 3.0)


test_to_prod.__test__ = False  # type: ignore[attr-defined]


def replayed_program(theft: Theft) -> None:
    """The program that leaked with the key runs elsewhere: client, calls, objects, rhythm."""
    start_us = theft.start()
    until_us = start_us + int(theft.scene.rng.uniform(0.1, 5) * DAY_US)
    theft.run_program(start_us, until_us, theft.loud_source())


def campaign(thefts: list[Theft], *, single: bool) -> None:
    """One new address, or three near each other, on several keys: a few requests or one each."""
    first = thefts[0]
    rng = first.scene.rng
    kinds = ("hosting", "vpn", "isp")[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
    source = places.fixed(rng, first.foreign(kinds), int(rng.choice([1, 1, 3])))
    agent = first.agent(0.0)
    start_us = first.start()
    left_us = first.scene.week_end_us - HOUR_US - start_us
    spread_us = min(left_us, int(rng.choice([8 * HOUR_US, 3 * DAY_US])))
    for theft in thefts:
        at_us = start_us + int(rng.uniform(0, 1) * spread_us)
        count = 1 if single else int(rng.integers(2, 7))
        steps = ["GET /v1/me", "GET /v1/checks", *theft.reads(4)][:count]
        theft.visit(at_us, source, agent, steps, 3.0)


Steal = Callable[[Theft], None]


def _is_used(key: Key) -> bool:
    return key.habit != "sleeper" and key.revoked_us is None


def _has(scope: str) -> Callable[[Key], bool]:
    return lambda key: _is_used(key) and (scope in key.scopes or api.ADMIN in key.scopes)


def _in_cloud(key: Key) -> bool:
    kinds = {source.network.kind for _, source in key.slots[0].sources}
    return _is_used(key) and kinds <= set(CLOUDS) and key.habit != "ci"


def _is_revoked(key: Key) -> bool:
    return key.revoked_us is not None


def _is_program(key: Key) -> bool:
    return _is_used(key) and key.habit in SERVICES


def _is_dormant(key: Key) -> bool:
    return key.habit == "sleeper" and key.revoked_us is None


THEFTS: dict[str, tuple[Steal, Callable[[Key], bool]]] = {
    "scan": (scan, _is_used),
    "slow_reader": (slow_reader, _has(api.READ_CHECKS)),
    "bulk_read": (bulk_read, _has(api.READ_CHECKS)),
    "same_provider": (same_provider, _in_cloud),
    "sabotage": (sabotage, _has(api.WRITE_CHECKS)),
    "insider": (insider, _has(api.READ_CHECKS)),
    "takeover": (takeover, _has(api.ADMIN)),
    "revoked_use": (revoked_use, _is_revoked),
    "mute_alerts": (mute_alerts, _has(api.WRITE_ALERTS)),
    "vpn_probe": (vpn_probe, _is_used),
    "enumeration": (enumeration, _has(api.READ_CHECKS)),
    "dormant_wake": (dormant_wake, _is_dormant),
    "test_to_prod": (test_to_prod, lambda k: _is_used(k) and k.environment != "prod"),
    "replayed_program": (replayed_program, _is_program),
}
"""Kind → how, and which keys it can happen to. `campaign` takes several keys at once."""

KINDS = ("campaign", *THEFTS)
SLOW_KINDS = ("slow_reader", "same_provider", "insider", "replayed_program")

LOUDNESS: dict[str, Literal["loud", "slow", "probe"]] = {
    kind: "slow" if kind in SLOW_KINDS else "probe" if kind == "vpn_probe" else "loud"
    for kind in KINDS
}
"""How a theft can be expected to be found. A slow one hides in time, or does what the owner does.
A probe is as little as two harmless calls and does
nothing yet, so it is held to neither: it is short, but not hidden."""


@dataclass(frozen=True)
class Planned:
    """A theft of one kind that is to happen in a week of the span: 0 is the first, -1 the last.

    A campaign takes `keys` keys. `victim` is the number of the key; None draws one that fits.
    """

    kind: str
    week: int = -1
    keys: int = 1
    victim: int | None = None


def happen(scene: Scene, wanted: int | Sequence[Planned]) -> list[Theft]:
    """That many keys are stolen, by campaigns and by every other kind in turn, or those planned.

    A theft that no key fits does not happen.
    """
    if isinstance(wanted, int):
        return _of_all_kinds(scene, wanted)
    return [theft for planned in wanted for theft in _as_planned(scene, planned)]


def _as_planned(scene: Scene, planned: Planned) -> Iterator[Theft]:
    scene = scene.in_week(planned.week)
    if planned.kind == "campaign":
        yield from _gang(scene, planned.keys, single=bool(scene.rng.random() < SINGLE_SHARE))
        return
    steal, fits = THEFTS[planned.kind]
    victim = (
        _victim(scene, fits)
        if planned.victim is None
        else next(key for key in scene.keys if key.number == planned.victim)
    )
    if victim is not None:
        theft = Theft(planned.kind, victim, scene)
        steal(theft)
        yield theft


def _gang(scene: Scene, size: int, *, single: bool) -> list[Theft]:
    def is_settled(key: Key) -> bool:
        return _is_used(key) and key.created_us < scene.week_us

    victims = [_victim(scene, is_settled, by_chance=True) for _ in range(size)]
    gang = [Theft("campaign", victim, scene) for victim in victims if victim]
    if gang:
        campaign(gang, single=single)
    return gang


def _of_all_kinds(scene: Scene, count: int) -> list[Theft]:
    done: list[Theft] = []
    for size, single in _campaigns(scene.rng, count):
        done += _gang(scene, size, single=single)
    kinds = list(THEFTS)
    misses = turn = 0
    while len(done) < count and misses < len(kinds):
        if turn and turn % len(kinds) == 0:
            kinds = [kinds[i] for i in scene.rng.permutation(len(kinds))]
        kind = kinds[turn % len(kinds)]
        steal, fits = THEFTS[kind]
        turn += 1
        victim = _victim(scene, fits)
        if victim is None:
            misses += 1
            continue
        misses = 0
        theft = Theft(kind, victim, scene)
        steal(theft)
        done.append(theft)
    return done


def _campaigns(rng: np.random.Generator, count: int) -> list[tuple[int, bool]]:
    """How many keys each campaign takes, and whether with a single request each."""
    if count < THEFTS_WITH_CAMPAIGN:
        return []
    room = max(count - len(THEFTS), 2)
    low, high = CAMPAIGNS
    many = 1
    if count >= CAMPAIGNS_PER_THEFTS:
        many = int(rng.integers(low, high + 1, count // CAMPAIGNS_PER_THEFTS).sum())
    sizes = rng.integers(CAMPAIGN_KEYS[0], CAMPAIGN_KEYS[1] + 1, many)
    fitting = [int(size) for size, total in zip(sizes, np.cumsum(sizes), strict=True)
               if total <= room] or [room]  # fmt: skip
    return [(size, nth > 0 and nth == len(fitting) - 1) for nth, size in enumerate(fitting)]


def _victim(scene: Scene, fits: Callable[[Key], bool], *, by_chance: bool = False) -> Key | None:
    """A key that fits; at times one that is hard to tell, unless `by_chance`."""
    latest_us = scene.week_end_us - int(YOUNGEST_DAYS * DAY_US)
    fitting = [
        k for k in scene.keys
        if k.number not in scene.taken and k.created_us < latest_us and fits(k)
        and (k.revoked_us is None or k.revoked_us < scene.week_end_us)
    ]  # fmt: skip
    if not by_chance:
        fitting = _hard_to_tell(scene, fitting) or fitting
    if not fitting:
        return None
    victim = fitting[int(scene.rng.integers(len(fitting)))]
    scene.taken.add(victim.number)
    return victim


def _hard_to_tell(scene: Scene, keys: list[Key]) -> list[Key]:
    """Those of the keys that are hard in one way, drawn by its share; most often none."""
    luck = scene.rng.random() - ODD_VICTIMS_SHARE
    if luck < 0:
        week = scene.week_us, scene.week_end_us
        return [k for k in keys if any(o.is_current(*week) for o in k.oddities)]
    if luck < YOUNG_VICTIMS_SHARE:
        return [k for k in keys if k.created_us > scene.week_end_us - YOUNG_DAYS * DAY_US]
    if luck < YOUNG_VICTIMS_SHARE + CHANGING_VICTIMS_SHARE:
        return [k for k in keys if k.habit in CHANGING_HABITS]
    return []
