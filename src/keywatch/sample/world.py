"""A made world: owners, keys, what happens to them, and every line of the log.

Owners, keys, oddities, each key's traffic and thefts draw from random streams of their own, so
that other thefts leave the innocent world as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from . import api, attackers, habits, odd_use, oddities, owners, thefts
from .keys import Batch, Happening, Key, Pools, Slot, own_traffic
from .owners import Owner
from .places import DAY_US, HOUR_US
from .scene import SERVICES
from .thefts import Planned

Floats = npt.NDArray[np.float64]

REVIEW_DAYS = 7
EVENTS_PER_KEY_DAY = 15.0
THEFTS_PER_KEY = 0.036
KEYS_PER_THEFT_SMALL = 12.5
"""In a small world one key in so many is stolen, until there is one of each kind."""
THEFTS_OF_EACH_KIND = 16

RATE_SPREAD = 0.6
"""Spread (sigma of the log) of the keys' rates around their habit's."""
RATE_MOST = 6.0
ROTATED_SHARE_9_WEEKS = 0.1
RETIRED_SHARE = 0.02
YOUNG_SHARE = 0.06
OVERDUE_SHARE = 0.2
ROTATION_DAYS = 90
STAGING_SHARE, DEV_SHARE = 0.13, 0.03
WILDCARD_SHARE = 0.04
UNUSED_SCOPE_SHARE = 0.3
DENIED_SCOPE_SHARE = 0.03
EXPIRY_SHARE = 0.2
STALE_CONSUMER_SHARE = 0.25
TWO_CONSUMERS_SHARE = 0.04
OVERSTAY_SHARE = 0.15
NEW_DAYS = 14
"""So long a key is called new in the truth."""
OBJECTS_READ = {"panel": (3, 12), "walk": (8, 60), "zipf": (6, 50)}


@dataclass
class Made:
    """A world before it is written. Batches stand by key, the owner's use and the attacker's."""

    keys: list[Key]
    own: list[Batch]
    thefts: list[attackers.Theft]
    stolen: list[Batch]
    """Beside `thefts`."""
    pools: Pools
    start_us: int
    review_us: int
    end_us: int
    seed: int


def default_thefts(keys: int) -> int:
    """How many keys are stolen where it is not said."""
    small = min(int(keys / KEYS_PER_THEFT_SMALL), THEFTS_OF_EACH_KIND)
    return max(round(keys * THEFTS_PER_KEY), small, 1)


def make(
    *,
    keys: int,
    weeks: int,
    seed: int,
    thefts_wanted: int | Sequence[Planned],
    end: date,
    events_per_key_day: float,
) -> Made:
    """The whole world in memory; the span is `weeks` up to `end` (excluded)."""
    midnight = datetime(end.year, end.month, end.day, tzinfo=UTC)
    end_us = int(midnight.timestamp()) * 1_000_000
    start_us = end_us - weeks * 7 * DAY_US
    review_us = end_us - REVIEW_DAYS * DAY_US
    streams = np.random.SeedSequence(seed).spawn(5)
    pools = Pools()
    rng = np.random.default_rng(streams[0])
    count = max(2, round(keys / owners.KEYS_PER_OWNER))
    teams = owners.make_owners(rng, count, weeks, pools.book)
    rng = np.random.default_rng(streams[1])
    planner = _Planner(rng, teams, keys, weeks, start_us, end_us, streams[3], pools)
    all_keys = planner.plan()
    _scale(all_keys, events_per_key_day)
    planner.give_past(all_keys)
    scene = oddities.Scene(
        np.random.default_rng(streams[2]), list(all_keys), start_us, end_us, pools.book
    )
    oddities.happen(scene)
    all_keys = planner.rotate_and_retire(all_keys)
    own = []
    for key in all_keys:
        rng = np.random.default_rng(key.seed)
        use = habits.sessions(key, start_us, end_us, rng)
        own.append(own_traffic(key, start_us, end_us, use, pools, rng))
    innocent = Made(all_keys, own, [], [], pools, start_us, review_us, end_us, seed)
    return _stolen_from(innocent, thefts_wanted, np.random.default_rng(streams[4]), set())


def steal(
    made: Made, wanted: int | Sequence[Planned], draw: int, without: Iterable[int] = ()
) -> Made:
    """The innocent world of `made` with other thefts, and with the thieves' lines alone.

    Another `draw` gives other thefts of the same kinds; `without` are numbers of keys that are
    not to be stolen, unless they are planned by name.
    """
    rng = np.random.default_rng(np.random.SeedSequence((made.seed, draw)))
    stolen = _stolen_from(made, wanted, rng, set(without))
    return replace(stolen, own=[Batch.empty()] * len(made.keys))


def _stolen_from(
    made: Made, wanted: int | Sequence[Planned], rng: np.random.Generator, taken: set[int]
) -> Made:
    stage = attackers.Scene(
        rng, made.keys, made.start_us, made.end_us, made.review_us, made.end_us, made.pools, taken
    )
    done = thefts.happen(stage, wanted)
    return replace(made, thefts=done, stolen=[theft.batch() for theft in done])


def _scale(keys: list[Key], events_per_key_day: float) -> None:
    """Set the rates of the busy habits so that the world has the wanted volume."""
    busy = [k for k in keys if habits.HABITS[k.habit].busy]
    quiet_events = sum(k.rate * k.use_share for k in keys if not habits.HABITS[k.habit].busy)
    busy_events = sum(k.rate * k.use_share for k in busy)
    if not busy_events:
        return
    factor = max((events_per_key_day * len(keys) - quiet_events) / busy_events, 0.1)
    for key in busy:
        key.rate *= factor


@dataclass
class _Planner:
    rng: np.random.Generator
    teams: list[Owner]
    count: int
    weeks: int
    start_us: int
    end_us: int
    streams: np.random.SeedSequence
    pools: Pools

    def plan(self) -> list[Key]:
        """All keys but the successors of rotated ones."""
        seeds = self.streams.spawn(self.count)
        count = self.count - self._rotations()
        names = self._habits(count)
        weights = self.rng.gamma(0.9, size=len(self.teams)) + 0.1
        teams = self.rng.choice(len(self.teams), size=count, p=weights / weights.sum())
        numbers = self.rng.choice(9_000_000, size=self.count, replace=False) + 500_000
        self._ids = [f"key_{n:07d}" for n in numbers.tolist()]
        self._seeds = seeds
        admin = set(self.rng.permutation(count)[: max(2, round(count * WILDCARD_SHARE))].tolist())
        staging = self.rng.permutation(count)
        cut = max(2, round(count * STAGING_SHARE))
        dev = cut + round(count * DEV_SHARE)
        environments = {int(i): "stg" for i in staging[:cut]}
        environments |= {int(i): "dev" for i in staging[cut:dev]}
        return [
            self._key(i, names[i], self.teams[int(teams[i])], environments.get(i, "prod"),
                      i in admin and names[i] != "sleeper")
            for i in range(count)
        ]  # fmt: skip

    def _rotations(self) -> int:
        share = min(ROTATED_SHARE_9_WEEKS * self.weeks / 9, 0.2)
        return max(round(self.count * share), 1 if self.count >= 12 else 0)

    def _habits(self, count: int) -> list[str]:
        shares = np.array([h.share for h in habits.HABITS.values()])
        exact = shares / shares.sum() * count
        each = np.floor(exact).astype(int)
        each[np.argsort(each - exact, kind="stable")[: count - int(each.sum())]] += 1
        names = [name for name, n in zip(habits.HABITS, each.tolist(), strict=True)
                 for _ in range(n)]  # fmt: skip
        return [names[i] for i in self.rng.permutation(count)]

    def _key(
        self, number: int, habit_name: str, owner: Owner, environment: str, is_admin: bool
    ) -> Key:
        rng, habit = self.rng, habits.HABITS[habit_name]
        mix = habits.endpoint_mix(rng, habit)
        admin_calls = np.array([e.scope == api.ADMIN for e in api.ENDPOINTS])
        if is_admin:
            reads = admin_calls & np.array([e.method == "GET" for e in api.ENDPOINTS])
            mix = 0.93 * mix + 0.07 * reads * rng.dirichlet(np.ones(len(mix)))
            mix[mix < 0.004] = 0
        else:
            mix[admin_calls] = 0
        mix /= mix.sum()
        routines = habits.make_routines(rng, habit, mix)
        slots, traits = habits.make_slots(rng, habit, owner, self.pools.book)
        rate = habit.events * min(float(rng.lognormal(0, RATE_SPREAD)), RATE_MOST)
        created_us, expires_us = self._life()
        objects, usual = self._objects(owner, habit.objects)
        return Key(
            number=number,
            key_id=self._ids[number],
            masked=self._masked(environment),
            name=f"{owner.name.removeprefix('team-')}-{habit_name.replace('_', '-')}-{number}",
            environment=environment,
            scopes=self._scopes(mix, is_admin),
            created_us=created_us,
            expires_us=expires_us,
            revoked_us=None,
            replaces=None,
            owner=owner,
            habit=habit_name,
            seed=self._seeds[number],
            rate=rate,
            use_share=self._use_share(habit_name, traits),
            traits=traits,
            slots=slots,
            mix=mix,
            routines=routines,
            objects=objects,
            usual=usual,
            object_style=habit.objects,
            gap_s=habit.gap_s * float(rng.lognormal(0, 0.4)),
        )

    def _masked(self, environment: str) -> str:
        live = "live_prod" if environment == "prod" else f"test_{environment}"
        return f"ply_{live}_{self.rng.bytes(3).hex()}…{self.rng.bytes(2).hex()}"

    def _life(self) -> tuple[int, int | None]:
        rng, luck = self.rng, self.rng.random()
        if luck < YOUNG_SHARE:
            created_us = self.end_us - int(rng.uniform(0.5, 21) * DAY_US)
        elif luck < YOUNG_SHARE + OVERDUE_SHARE:
            created_us = self.start_us - int(rng.uniform(30, 600) * DAY_US)
        else:  # rotated shortly before the log begins
            room_days = max(ROTATION_DAYS - self.weeks * 7, 5)
            created_us = self.start_us - int(rng.uniform(0.1, room_days) * DAY_US)
        expires_us = None
        if rng.random() < EXPIRY_SHARE:
            after_us = max(created_us + 365 * DAY_US, self.end_us + 10 * DAY_US)
            expires_us = after_us // DAY_US * DAY_US
        return created_us, expires_us

    def _scopes(self, mix: Floats, is_admin: bool) -> tuple[str, ...]:
        if is_admin:
            return (api.ADMIN,)
        share: dict[str, float] = {}
        for endpoint, p in zip(api.ENDPOINTS, mix.tolist(), strict=True):
            if p > 0 and endpoint.scope != api.ANY:
                share[endpoint.scope] = share.get(endpoint.scope, 0) + p
        granted = set(share)
        rarest = min(share, key=lambda s: share[s]) if share else None
        if rarest and share[rarest] < 0.3 and self.rng.random() < DENIED_SCOPE_SHARE:
            granted.discard(rarest)
        for scope in api.SCOPES[:-1]:
            if self.rng.random() < UNUSED_SCOPE_SHARE:
                granted.add(scope)
        return tuple(s for s in api.SCOPES if s in granted) or (api.READ_CHECKS,)

    def _use_share(self, habit: str, traits: dict[str, float]) -> float:
        if habit in ("person", "mobile_app", "vpn_user"):
            return float(self.rng.uniform(0.2, 0.95))
        if habit == "sleeper":
            return 0.0 if self.rng.random() < 0.6 else float(self.rng.uniform(0.005, 0.05))
        if habit == "dashboard":
            return 1.0 if traits["all_day"] else 0.35
        return {"ci": 0.74, "weekly_report": 1 / 7, "monthly_job": 1 / 30}.get(habit, 1.0)

    def _objects(self, owner: Owner, style: str) -> tuple[dict[str, list[str]], dict[str, int]]:
        low, high = OBJECTS_READ[style]
        objects, usual = dict(owner.objects), {}
        for kind in ("check", "metric", "channel"):
            whole = owner.objects[kind]
            size = min(int(self.rng.integers(low, high + 1)), len(whole))
            chosen = np.sort(self.rng.choice(len(whole), size=size, replace=False))
            others = np.setdiff1d(np.arange(len(whole)), chosen)
            objects[kind] = [whole[i] for i in (*chosen, *others)]
            usual[kind] = size
        return objects, usual

    def give_past(self, keys: list[Key]) -> None:
        """What is odd about some keys from their beginning: being new, and a second consumer."""
        for key in keys:
            if key.created_us > self.start_us:
                until_us = key.created_us + NEW_DAYS * DAY_US
                key.oddities.append(Happening("new_key", key.created_us, until_us))
            if key.habit in SERVICES and self.rng.random() < TWO_CONSUMERS_SHARE:
                odd_use.add_consumer(self.rng, key, self.start_us, self.end_us)
                since_us = max(key.created_us, self.start_us)
                key.oddities.append(Happening("two_consumers", since_us, None))

    def rotate_and_retire(self, keys: list[Key]) -> list[Key]:
        """Give some keys a successor, retire some, and let a few consumers miss the revocation."""
        rng = self.rng
        old_enough = [
            k for k in keys
            if k.created_us < self.start_us and k.habit not in ("sleeper", "monthly_job")
        ]  # fmt: skip
        order = [old_enough[i] for i in rng.permutation(len(old_enough))]
        for nth in range(self._rotations()):
            early = 0.35 if nth == 0 else float(rng.uniform(0.12, 0.995))
            turn_us = self.start_us + int(early * (self.end_us - self.start_us))
            keys.append(self._successor(order[nth], len(keys), turn_us))
        retired = order[self._rotations() :][: round(self.count * RETIRED_SHARE)]
        for key in retired:
            revoked_us = self.start_us + int(
                rng.uniform(0.15, 0.99) * (self.end_us - self.start_us)
            )
            key.ramp = (revoked_us - 6 * DAY_US, revoked_us - DAY_US, False)
            self._revoke(key, revoked_us)
        for key in keys:
            if key.revoked_us is not None and rng.random() < STALE_CONSUMER_SHARE:
                odd_use.stale_consumer(rng, key, self.start_us, self.end_us)
        return keys

    def _revoke(self, key: Key, revoked_us: int) -> None:
        last_us = revoked_us - HOUR_US
        key.revoked_us = revoked_us
        key.expires_us = None
        key.extra = [e.where(e.start_us < last_us) for e in key.extra]
        key.oddities = [o for o in key.oddities if o.start_us < last_us]

    def _successor(self, key: Key, number: int, turn_us: int) -> Key:
        rng = self.rng
        overlap_us = int(rng.uniform(1, 14) * DAY_US)
        over_us = turn_us + overlap_us
        is_overstay = rng.random() < OVERSTAY_SHARE
        key.ramp = (turn_us, over_us + (4 * overlap_us if is_overstay else -HOUR_US), False)
        new = copy.copy(key)
        new.extra = [e.where(e.start_us >= over_us) for e in key.extra]
        new.oddities = [o for o in key.oddities if o.start_us >= turn_us]
        new.slots = [Slot(list(s.sources), list(s.agents)) for s in key.slots]
        new.routines = list(key.routines)
        new.late, new.twice = list(key.late), list(key.twice)
        key.extra = [e.where(e.start_us < over_us) for e in key.extra]
        if not is_overstay and over_us < self.end_us:
            self._revoke(key, over_us)
        result = replace(
            new,
            number=number,
            key_id=self._ids[number],
            masked=self._masked(key.environment),
            created_us=turn_us - int(rng.uniform(0, 3) * HOUR_US),
            replaces=key.key_id,
            ramp=(turn_us, max(over_us - HOUR_US, turn_us + 1), True),
            seed=self._seeds[number],
        )
        for each in (key, result):
            each.oddities.append(Happening("rotation_overlap", turn_us, over_us))
        return result


def at(time_us: int | None) -> str | None:
    """RFC 3339 with Z, to the second; None stays None."""
    if time_us is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(time_us))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def inventory_line(key: Key) -> dict[str, object]:
    """The key as the inventory has it; absent facts are left out."""
    line: dict[str, object] = {
        "key_id": key.key_id,
        "key": key.masked,
        "name": key.name,
        "environment": key.environment,
        "scopes": list(key.scopes),
        "created_at": at(key.created_us),
        "expires_at": at(key.expires_us),
        "revoked_at": at(key.revoked_us),
        "replaces": key.replaces,
        "owner": key.owner.name,
    }
    return {name: value for name, value in line.items() if value is not None}


def truth_line(key: Key, made: Made) -> dict[str, object]:
    """What really happened to the key; of several thefts of it, the last one planned."""
    theft, times, addresses = None, np.zeros(0, dtype=np.int64), []
    for candidate, batch in zip(made.thefts, made.stolen, strict=True):
        if candidate.key.number == key.number:
            theft, times = candidate.kind, batch.time_us
            codes = dict.fromkeys(batch.address.tolist())
            addresses = [made.pools.book.text(code) for code in codes]
    return {
        "key_id": key.key_id,
        "stolen": theft is not None,
        "theft": theft,
        "theft_start": at(int(times.min())) if theft else None,
        "theft_end": at(int(times.max()) + 999_999) if theft else None,
        "theft_days": [str(day) for day in np.unique(times // DAY_US).astype("M8[D]")],
        "theft_addresses": addresses,
        "theft_requests": len(times),
        "habit": key.habit,
        "oddities": [
            {
                "kind": o.kind,
                "start": at(o.start_us),
                "end": at(o.end_us),
                "in_review_week": o.is_current(made.review_us),
            }
            for o in sorted(key.oddities, key=lambda o: (o.start_us, o.kind))
        ],
    }


__all__ = ["Made", "default_thefts", "inventory_line", "make", "steal", "truth_line"]
