"""What an attacker has: machines to come from, tools, what is known of the key, and patience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from . import api, habits, places
from .keys import (
    BORN_KINDS,
    Batch,
    Calls,
    Key,
    Pools,
    Sessions,
    Slot,
    answered,
    calls_of,
    newest_object,
)
from .places import DAY_US, HOUR_US, MINUTE_US, SECOND_US, WEEK_US, Network, Source, mix64

START_SHARES = (0.4, 0.35, 0.25)
"""Thefts that begin in the first two days of the review week, in its middle, on its last day."""
SEVERAL_DAYS_SHARE = 0.4
"""Share of loud thefts that come back on other days."""
KNOWS_CODE_SHARE = 0.3
"""Share of keys that leaked together with the program that uses them."""
EXITS_KEEP_US = (20 * SECOND_US, 2 * MINUTE_US, 10 * MINUTE_US)
"""How long an attacker with several addresses may stay with one."""

_TOOLS = ("requests", "requests", "curl", "curl", "go", "httpx", "node", "httpie", "postman",
          "okhttp", "browser")  # fmt: skip
_WAYS = {
    "hosting": 0.3,
    "residential": 0.2,
    "vpn": 0.14,
    "vpn_near": 0.12,
    "own_provider": 0.12,
    "cloud": 0.12,
}
_POPULAR = {
    "GET /v1/me": 3.0,
    "GET /v1/checks": 5.0,
    "GET /v1/checks/{id}": 4.0,
    "GET /v1/checks/{id}/results": 3.0,
    "GET /v1/alerts": 3.0,
    "GET /v1/export": 0.5,
}
"""What the documentation shows first; every other read weighs 1."""

Step = str | tuple[str, str]
"""An endpoint's name, with the object where the attacker chooses it."""


@dataclass
class Scene:
    """What a theft is made from: a span, and the week of it in which the theft lies."""

    rng: np.random.Generator
    keys: list[Key]
    start_us: int
    end_us: int
    week_us: int
    week_end_us: int
    pools: Pools
    taken: set[int] = field(default_factory=set)
    """Numbers of keys that are stolen already."""

    def in_week(self, number: int) -> Scene:
        """The same for a week of the span: the first is 0, the last -1."""
        first_us = self.end_us if number < 0 else self.start_us
        week_us = first_us + number * WEEK_US
        if not self.start_us <= week_us < self.end_us:
            raise ValueError(f"the span has no week {number}")
        return replace(self, week_us=week_us, week_end_us=week_us + WEEK_US)


@dataclass
class Theft:
    """The attacker's requests with one key, being written down visit by visit."""

    kind: str
    key: Key
    scene: Scene
    knows_code: bool = field(init=False)
    """Whether the attacker knows the owner's agent and calls; never the routines and hours."""
    calls: list[Calls] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=dict)
    _exit_keeps_us: int = field(init=False)
    _salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.knows_code = bool(self.scene.rng.random() < KNOWS_CODE_SHARE)
        self._exit_keeps_us = int(self.scene.rng.choice(EXITS_KEEP_US))
        self._salt = int(self.scene.rng.integers(1 << 62))

    def visit(
        self, start_us: int, source: Source, agent: str, steps: Sequence[Step], gap_s: float
    ) -> None:
        """Requests one after the other, as far as the week and the steps go."""
        scene = self.scene
        gaps_us = (scene.rng.gamma(1.5, gap_s / 1.5, len(steps)) * SECOND_US).astype(np.int64)
        time_us = start_us + np.cumsum(gaps_us) - gaps_us[0]
        time_us = time_us[time_us < scene.week_end_us]
        steps = steps[: len(time_us)]
        names = [step if isinstance(step, str) else step[0] for step in steps]
        endpoint = np.array([api.NUMBER_OF[name] for name in names], dtype=np.int64)
        self.calls.append(Calls(
            time_us=time_us,
            address=source.draw(time_us // self._exit_keeps_us, time_us, scene.pools.book),
            agent=np.full(len(time_us), scene.pools.agents.number(agent)),
            endpoint=endpoint,
            object=np.array([
                self._object(step, at_us) for step, at_us in zip(steps, time_us, strict=True)
            ], dtype=np.int64),
            variant=self._salt % 5
            + (mix64(endpoint + np.arange(len(steps)) % 3, self._salt).astype(np.int64) & 1),
        ))  # fmt: skip

    def _object(self, step: Step, at_us: int) -> int:
        kind = api.ENDPOINTS[api.NUMBER_OF[step if isinstance(step, str) else step[0]]].objects
        if kind is None:
            self.missing.append(False)
            return 0
        existing = self.existing(kind, at_us)
        chosen = step[1] if isinstance(step, tuple) else some(self.scene.rng, existing)
        self.missing.append(chosen not in existing)
        known = self.objects.setdefault(kind, [])
        known.append(chosen)
        return len(known) - 1

    def run_program(self, start_us: int, until_us: int, source: Source) -> None:
        """The leaked program, started elsewhere: client, calls, objects and rhythm are its own."""
        scene, slot = self.scene, self.key.slots[0]
        program = replace(
            self.key, slots=[Slot([(0, source)], [(0, slot.agent_at(scene.week_us))])],
            ramp=None, extra=[], moves=[], releases=[],
        )  # fmt: skip
        runs = habits.sessions(program, start_us, until_us, scene.rng)
        later = runs.where((runs.start_us > start_us) & (runs.start_us < until_us))
        usual = int(np.median(runs.length)) if len(runs.length) else max(int(program.rate), 2)
        times_us = np.append(start_us, later.start_us)
        both = Sessions.of(times_us, np.append(usual, later.length), np.append(0, later.routine))
        calls = calls_of(program, scene.start_us, scene.end_us, both.in_order(), scene.pools,
                         scene.rng)  # fmt: skip
        calls = calls.where(calls.time_us < scene.week_end_us)
        self.calls.append(calls)
        self.missing += [False] * len(calls.time_us)
        self.objects = program.objects

    def existing(self, kind: str, at_us: int) -> list[str]:
        """Ids of the team's objects that there are at the time, oldest first."""
        ids = self.key.owner.objects[kind]
        if kind not in BORN_KINDS:
            return ids
        scene = self.scene
        lived = np.array([(at_us - scene.start_us) / (scene.end_us - scene.start_us)])
        return ids[: int(newest_object(len(ids), lived)[0]) + 1]

    def batch(self) -> Batch:
        """The requests with the API's answers."""
        columns = zip(*(vars(calls).values() for calls in self.calls), strict=True)
        calls = Calls(*(np.concatenate(column) for column in columns))
        missing = np.array(self.missing, dtype=bool)
        return answered(self.key, calls, self.objects, self.scene.pools, self.scene.rng,
                        missing=missing)  # fmt: skip

    def start(self, *, early: bool = False) -> int:
        """When it begins: in the week, and not before the key is some hours old."""
        rng, scene = self.scene.rng, self.scene
        part = 0 if early else int(rng.choice(3, p=START_SHARES))
        low, high = (0.0, 3.0) if early else ((0.0, 2.0), (2.0, 6.0), (6.0, 6.9))[part]
        start_us = scene.week_us + int(rng.uniform(low, high) * DAY_US)
        youngest_us = self.key.created_us + int(rng.uniform(3, 30) * HOUR_US)
        return self.in_week(max(start_us, youngest_us))

    def in_week(self, at_us: int) -> int:
        """The time itself, or one shortly before the week's end where it is too late."""
        latest_us = self.scene.week_end_us - HOUR_US
        if at_us < latest_us:
            return at_us
        return latest_us - int(self.scene.rng.uniform(0, 4) * HOUR_US)

    def days(self, start_us: int, fewest: int, most: int, spread_days: float = 0.2) -> list[int]:
        """Times about a day apart, from `start_us` on, as far as they lie in the week."""
        rng = self.scene.rng
        count = int(rng.integers(fewest, most + 1))
        later = start_us + (np.arange(1, count) + rng.normal(0, spread_days, count - 1)) * DAY_US
        later = later[(later > start_us) & (later < self.scene.week_end_us - HOUR_US)]
        return [start_us, *(int(at_us) for at_us in later)]

    def loud_days(self) -> list[int]:
        """Starts of the visits of a loud theft: one, or some on the days after."""
        most = 5 if self.scene.rng.random() < SEVERAL_DAYS_SHARE else 1
        return self.days(self.start(), min(most, 2), most)

    def loud_source(self) -> Source:
        """A machine to be loud from: rented, a proxy at somebody's home, a VPN, or near by."""
        rng = self.scene.rng
        way = list(_WAYS)[int(rng.choice(len(_WAYS), p=list(_WAYS.values())))]
        country = self.key.owner.country
        if way == "residential":
            return self.residential(country if rng.random() < 0.5 else None)
        if way == "vpn_near":
            return places.fixed(rng, self.foreign("vpn", country))
        if way == "own_provider":
            return self.near_machine()
        return places.fixed(rng, self.foreign(way), int(rng.choice([1, 1, 1, 3])))

    def residential(self, country: str | None) -> Source:
        """A line of a home: one that stays, or a proxy network's with many exits."""
        rng = self.scene.rng
        network = self.foreign("isp isp mobile", country)
        if rng.random() < 0.4:
            return places.fresh(rng, network, blocks=6, length=20)
        days = float(rng.choice([1, 2, 30]))
        return places.leased(rng, network, days=days, v6=rng.random() < 0.2)

    def near_machine(self) -> Source:
        """Another customer's address in the owner's network and region; if it can, not near by."""
        own = self.key.slots[0].source_at(self.scene.week_us)
        drawn = [places.fixed(self.scene.rng, own.network) for _ in range(8)]
        taken = {address >> 8 for address in own.pool}
        return next((s for s in drawn if s.pool[0] >> 8 not in taken), drawn[0])

    def foreign(self, kinds: str, country: str | None = None) -> Network:
        """A network of the classes that the key was never used from."""
        known = [s.network.asn for slot in self.key.slots for _, s in slot.sources]
        return places.pick_network(self.scene.rng, kinds, country, without=known)

    def agent(self, as_owner: float) -> str:
        """The owner's agent with that probability, half as often another version, else a tool."""
        rng = self.scene.rng
        luck = rng.random() / (2 if self.knows_code else 1)
        owners = self.key.slots[0].agent_at(self.scene.week_us)
        if luck < as_owner:
            return owners
        if luck < 1.5 * as_owner:
            return some(rng, habits.versions_of(owners))
        return habits.any_agent(rng, *_TOOLS)

    def reads(self, count: int) -> list[Step]:
        """Reads the key may make: those of its owner where the code is known, else any."""
        rng = self.scene.rng
        weights = np.array([
            (share if self.knows_code else _POPULAR.get(e.name, 1.0))
            * (e.method == "GET" and self.key.may_call(e))
            for e, share in zip(api.ENDPOINTS, self.key.mix.tolist(), strict=True)
        ])  # fmt: skip
        if not weights.sum():
            return ["GET /v1/me"] * count
        drawn = np.sort(rng.choice(len(weights), size=count, p=weights / weights.sum()))
        if rng.random() < 0.5:
            drawn = rng.permutation(drawn)
        return [api.ENDPOINTS[i].name for i in drawn]

    def other_reads(self, count: int) -> list[Step]:
        """Reads within the key's scopes that its owner does not make."""
        names = self.key.other_reads()
        return [some(self.scene.rng, names) for _ in range(count)] if names else []


def some(rng: np.random.Generator, texts: Sequence[str]) -> str:
    """One of the texts."""
    return texts[int(rng.integers(len(texts)))]
