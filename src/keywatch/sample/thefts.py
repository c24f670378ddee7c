"""Ways of theft: an attacker uses the key, most often beside its owner.

Loud ones are meant to be loud; `slow_reader`, `same_provider` and `insider` to be hard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import api, habits, places
from .keys import Batch, Calls, Key, Pools, answered
from .places import DAY_US, HOUR_US, SECOND_US, Source

START_SHARES = (0.4, 0.35, 0.25)
"""Thefts that begin in the first two days of the review week, in its middle, on its last day."""
CAMPAIGN_KEYS = (3, 5)

_TOOLS = ("requests", "curl", "go", "httpx", "node", "httpie", "browser")
_DENIED_BAIT = ("GET /v1/members", "GET /v1/keys", "GET /v1/billing", "GET /v1/audit-log")


@dataclass
class Scene:
    """What a theft is made from. The review week is [`review_us`, `end_us`)."""

    rng: np.random.Generator
    keys: list[Key]
    review_us: int
    end_us: int
    pools: Pools
    taken: set[int] = field(default_factory=set)
    """Numbers of keys that are stolen already."""


@dataclass
class Theft:
    """The attacker's requests with one key, being written down call by call."""

    kind: str
    key: Key
    scene: Scene
    time_us: list[int] = field(default_factory=list)
    address: list[int] = field(default_factory=list)
    agent: list[int] = field(default_factory=list)
    endpoint: list[int] = field(default_factory=list)
    object: list[int] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=dict)

    def visit(
        self, start_us: int, source: Source, agent: str,
        steps: list[str | tuple[str, str, bool]], gap_s: float,
    ) -> None:  # fmt: skip
        """Requests one after the other; a step is an endpoint, or one with object and missing."""
        rng = self.scene.rng
        start = np.array([start_us])
        address = int(source.draw(start // SECOND_US, start, self.scene.pools.book)[0])
        agent_number = self.scene.pools.agents.number(agent)
        now_us = start_us
        for step in steps:
            if now_us >= self.scene.end_us:
                return
            name, text, is_missing = step if isinstance(step, tuple) else (step, None, False)
            endpoint = api.ENDPOINTS[api.NUMBER_OF[name]]
            at = 0
            if endpoint.objects:
                known = self.objects.setdefault(endpoint.objects, [])
                known.append(text or _some(rng, self.key.objects[endpoint.objects]))
                at = len(known) - 1
            self.time_us.append(now_us)
            self.address.append(address)
            self.agent.append(agent_number)
            self.endpoint.append(api.NUMBER_OF[name])
            self.object.append(at)
            self.missing.append(is_missing)
            now_us += int(rng.gamma(1.5, gap_s / 1.5) * SECOND_US) + 1000

    def batch(self) -> Batch:
        """The requests with the API's answers."""
        time_us, address, agent, endpoint, chosen = (
            np.array(column, dtype=np.int64)
            for column in (self.time_us, self.address, self.agent, self.endpoint, self.object)
        )
        variant = self.scene.rng.integers(0, 5, len(time_us))
        calls = Calls(time_us, address, agent, endpoint, chosen, variant)
        missing = np.array(self.missing, dtype=bool)
        return answered(self.key, calls, self.objects, self.scene.pools, self.scene.rng,
                        missing=missing)  # fmt: skip


def scan(theft: Theft) -> None:
    """Every endpoint it can think of, again and again: many 403."""
    rng = theft.scene.rng
    start, source, agent = _start(theft), _loud_source(theft), _agent(theft, 0.05)
    names = [e.name for e in api.ENDPOINTS if e.method == "GET" or rng.random() < 0.3]
    for day in range(int(rng.integers(1, 4))):
        order = [names[i] for i in rng.integers(len(names), size=int(rng.integers(60, 400)))]
        theft.visit(start + day * DAY_US, source, agent, [*order], 0.4)


def bulk_read(theft: Theft) -> None:
    """The export and the results of most checks."""
    rng = theft.scene.rng
    start, source, agent = _start(theft), _loud_source(theft), _agent(theft, 0.1)
    for day in range(int(rng.integers(1, 3))):
        steps: list[str | tuple[str, str, bool]] = ["GET /v1/me", "GET /v1/export"]
        checks = theft.key.owner.objects["check"]
        reads = rng.permutation(len(checks))[: int(rng.integers(30, len(checks) + 1))]
        steps += [("GET /v1/checks/{id}/results", checks[i], False) for i in np.sort(reads)]
        steps += ["GET /v1/export"] * int(rng.integers(0, 4))
        theft.visit(start + day * DAY_US, source, agent, steps, 0.5)


def sabotage(theft: Theft) -> None:
    """Deletes or pauses the owner's checks."""
    rng = theft.scene.rng
    checks = theft.key.owner.objects["check"]
    victims = rng.permutation(len(checks))[: int(rng.integers(5, 40))]
    deed = ("DELETE /v1/checks/{id}", "POST /v1/checks/{id}/pause")[int(rng.integers(2))]
    steps = [(deed, checks[i], False) for i in victims]
    theft.visit(_start(theft), _loud_source(theft), _agent(theft, 0.1),
                ["GET /v1/me", "GET /v1/checks", *steps], 1.5)  # fmt: skip


def mute_alerts(theft: Theft) -> None:
    """Mutes the newest alerts and changes where they are sent."""
    rng = theft.scene.rng
    count = int(rng.integers(3, 25))
    mutes = [("POST /v1/alerts/{id}/mute", a, False) for a in theft.key.objects["alert"][-count:]]
    deed = ("PATCH /v1/alert-channels/{id}", "DELETE /v1/alert-channels/{id}")[int(rng.integers(2))]
    channels = [deed] * int(rng.integers(1, 5))
    theft.visit(_start(theft), _loud_source(theft), _agent(theft, 0.15),
                ["GET /v1/alerts", *mutes, "GET /v1/alert-channels", *channels], 2.0)  # fmt: skip


def takeover(theft: Theft) -> None:
    """Makes members and keys of its own, deletes the owner's."""
    rng = theft.scene.rng
    steps = ["GET /v1/me", "GET /v1/members", "GET /v1/keys", "POST /v1/members", "POST /v1/keys"]
    steps += ["POST /v1/keys"] * int(rng.integers(0, 3))
    steps += ["DELETE /v1/keys/{id}"] * int(rng.integers(1, 6))
    steps += ["DELETE /v1/members/{id}"] * int(rng.integers(0, 3))
    if rng.random() < 0.4:
        steps += ["GET /v1/billing", "PATCH /v1/billing"]
    theft.visit(_start(theft), _loud_source(theft), _agent(theft, 0.1), [*steps], 8.0)


def revoked_use(theft: Theft) -> None:
    """Tries a key that was revoked; at times the first tries still work."""
    rng = theft.scene.rng
    revoked = max(theft.key.revoked_us or 0, theft.scene.review_us)
    last = theft.scene.end_us - 2 * HOUR_US
    start = int(rng.uniform(revoked, max(last, revoked + 1)))
    if rng.random() < 0.25:
        start = max(theft.scene.review_us, revoked - int(rng.uniform(0, 8) * HOUR_US))
    source = _loud_source(theft)
    for at in start + np.cumsum(rng.exponential(8, int(rng.integers(1, 5)))) * HOUR_US:
        names = _own_steps(theft, int(rng.integers(2, 12)))
        theft.visit(min(int(at), last), source, _agent(theft, 0.2), ["GET /v1/me", *names], 5.0)


def slow_reader(theft: Theft) -> None:
    """A few of the key's usual reads a day from a home line, mostly in the owner's country."""
    rng = theft.scene.rng
    key = theft.key
    country = key.owner.country if rng.random() < 0.75 else None
    known = [slot.sources[-1][1].network.asn for slot in key.slots]
    network = places.pick_network(rng, "isp mobile", country, without=known)
    source = places.leased(rng, network, days=float(rng.choice([1, 2, 30])))
    agent = _agent(theft, 0.5)
    start = _start(theft, early=True)
    for day in range(int(rng.integers(2, 8))):
        for _ in range(int(rng.integers(1, 4))):
            at = start + int((day + rng.normal(0, 0.12)) * DAY_US)
            at = max(at, theft.scene.review_us)
            steps = _own_steps(theft, int(rng.integers(1, 6)))
            theft.visit(at, source, agent, [*steps], 40.0)


def same_provider(theft: Theft) -> None:
    """Much the key's usual reads, from another machine of the owner's cloud and region."""
    rng = theft.scene.rng
    network = theft.key.slots[0].sources[-1][1].network
    source = places.fixed(rng, network)
    own = theft.key.slots[0].sources[-1][1]
    while any(a >> 8 == source.pool[0] >> 8 for a in own.pool):
        source = places.fixed(rng, network)
    agent = _agent(theft, 0.4)
    start = _start(theft, early=True)
    for day in range(int(rng.integers(1, 6))):
        at = start + int((day + rng.uniform(-0.2, 0.2)) * DAY_US)
        steps = _own_steps(theft, int(rng.integers(4, 30)))
        steps += _other_reads(theft, int(rng.integers(1, 10)))
        theft.visit(max(at, theft.scene.review_us), source, agent, [*steps], 12.0)


def insider(theft: Theft) -> None:
    """From the owner's office in the evening: other reads, results of any check of the team."""
    rng = theft.scene.rng
    key = theft.key
    source = key.owner.offices[0]
    for other in (k for k in theft.scene.keys if k.owner is key.owner):
        for slot in other.slots[:1]:
            if slot.sources[0][1] is source:
                source = slot.sources[-1][1]
    agent = _agent(theft, 0.35)
    shift_us = key.owner.utc_offset_hours * HOUR_US
    day = (_start(theft) + shift_us) // DAY_US
    for i in range(int(rng.integers(1, 4))):
        at = (day + i) * DAY_US - shift_us + int(rng.uniform(18.5, 23.5) * HOUR_US)
        at = min(max(at, theft.scene.review_us), theft.scene.end_us - HOUR_US)
        steps: list[str | tuple[str, str, bool]] = [*_other_reads(theft, int(rng.integers(2, 10)))]
        for _ in range(int(rng.integers(4, 30))):
            check = _some(rng, key.owner.objects["check"])
            steps.append(("GET /v1/checks/{id}/results", check, False))
        theft.visit(at, source, agent, steps, 15.0)


def vpn_probe(theft: Theft) -> None:
    """A handful of calls from a VPN or Tor exit to learn what the key can do."""
    rng = theft.scene.rng
    kinds = "vpn" if rng.random() < 0.75 else "tor"
    source = places.fresh(rng, places.pick_network(rng, kinds), blocks=2, length=24)
    names = ["GET /v1/me", "GET /v1/checks", "GET /v1/alerts", *_DENIED_BAIT]
    start = _start(theft)
    for i in range(int(rng.integers(1, 3))):
        picked = [names[j] for j in rng.permutation(len(names))[: int(rng.integers(2, 7))]]
        at = min(start + i * 9 * HOUR_US, theft.scene.end_us - HOUR_US)
        theft.visit(at, source, _agent(theft, 0.1), [*picked], 12.0)


def enumeration(theft: Theft) -> None:
    """Walks through check ids, most of which do not exist or are not the owner's."""
    rng = theft.scene.rng
    owned = theft.key.owner.objects["check"]
    first = int(owned[0]) - int(rng.integers(20, 400))
    ids = first + np.arange(int(rng.integers(80, 900)))
    real = set(owned)
    name = "GET /v1/checks/{id}"
    steps = [(name, str(i), str(i) not in real) for i in ids.tolist()]
    kind = "hosting cloud vpn"
    source = places.fixed(rng, _foreign(theft, kind), int(rng.integers(1, 3)))
    gap_s = float(rng.choice([0.2, 1.0, 8.0]))
    theft.visit(_start(theft), source, _agent(theft, 0.15), ["GET /v1/checks", *steps], gap_s)


def dormant_wake(theft: Theft) -> None:
    """A key that is hardly used comes alive from elsewhere."""
    rng = theft.scene.rng
    source = places.fixed(rng, _foreign(theft, "hosting vpn isp cloud"))
    start = _start(theft, early=True)
    for day in range(int(rng.integers(1, 5))):
        steps = ["GET /v1/me", "GET /v1/checks", *_own_steps(theft, int(rng.integers(3, 25)))]
        steps += _other_reads(theft, int(rng.integers(0, 6)))
        theft.visit(start + day * DAY_US, source, _agent(theft, 0.2), [*steps], 6.0)


def test_to_prod(theft: Theft) -> None:
    """A staging key is tried on many endpoints."""
    rng = theft.scene.rng
    source = places.fixed(rng, _foreign(theft, "hosting vpn cloud"))
    names = [e.name for e in api.ENDPOINTS if e.method in ("GET", "PATCH", "POST")]
    picked = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(8, len(names)))]]
    picked *= int(rng.integers(1, 5))
    theft.visit(_start(theft), source, _agent(theft, 0.15), ["GET /v1/me", *picked], 3.0)


test_to_prod.__test__ = False  # type: ignore[attr-defined]


def campaign(thefts: list[Theft]) -> None:
    """One new address on several keys, a few requests each."""
    first = thefts[0]
    rng = first.scene.rng
    kind = "hosting" if rng.random() < 0.5 else "vpn isp"
    source = places.fixed(rng, places.pick_network(rng, kind))
    agent = _agent(first, 0.0)
    start = _start(first)
    for theft in thefts:
        at = min(start + int(rng.exponential(5) * HOUR_US), first.scene.end_us - HOUR_US)
        names = ["GET /v1/me", "GET /v1/checks", *_own_steps(theft, 2)]
        theft.visit(at, source, agent, [*names[: int(rng.integers(1, 5))]], 3.0)


Steal = Callable[[Theft], None]


def _is_used(key: Key) -> bool:
    return key.habit != "sleeper" and key.revoked_us is None


def _has(scope: str) -> Callable[[Key], bool]:
    return lambda key: _is_used(key) and (scope in key.scopes or api.ADMIN in key.scopes)


def _in_cloud(key: Key) -> bool:
    own = key.slots[0].sources[-1][1]
    return _is_used(key) and own.network.kind == "cloud" and key.habit != "ci"


def _is_revoked(key: Key) -> bool:
    return key.revoked_us is not None


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
}
"""Kind → how, and which keys it can happen to. `campaign` takes several keys at once."""

KINDS = ("campaign", *THEFTS)


def happen(scene: Scene, count: int) -> list[Theft]:
    """`count` keys are stolen, by every kind in turn as far as keys fit."""
    done: list[Theft] = []
    kinds = list(THEFTS)
    if count >= 6:
        drawn = int(scene.rng.integers(CAMPAIGN_KEYS[0], CAMPAIGN_KEYS[1] + 1))
        size = min(drawn, max(count - len(THEFTS), 2))
        victims = [v for v in (_victim(scene, _is_used) for _ in range(size)) if v]
        done += [Theft("campaign", victim, scene) for victim in victims]
        campaign(done)
    misses = 0
    turn = 0
    while len(done) < count and misses < len(kinds):
        if turn and turn % len(kinds) == 0:
            kinds = [kinds[i] for i in scene.rng.permutation(len(kinds))]
        steal, fits = THEFTS[kinds[turn % len(kinds)]]
        kind = kinds[turn % len(kinds)]
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


def _victim(scene: Scene, fits: Callable[[Key], bool]) -> Key | None:
    fitting = [
        k for k in scene.keys
        if k.number not in scene.taken and k.created_us < scene.review_us and fits(k)
    ]  # fmt: skip
    if not fitting:
        return None
    victim = fitting[int(scene.rng.integers(len(fitting)))]
    scene.taken.add(victim.number)
    return victim


def _start(theft: Theft, *, early: bool = False) -> int:
    rng = theft.scene.rng
    part = 0 if early else int(rng.choice(3, p=START_SHARES))
    low, high = ((0.0, 2.0), (2.0, 6.0), (6.0, 6.9))[part]
    if early:
        high = 3.0
    return theft.scene.review_us + int(rng.uniform(low, high) * DAY_US)


def _foreign(theft: Theft, kinds: str) -> places.Network:
    known = [s.network.asn for slot in theft.key.slots for _, s in slot.sources]
    return places.pick_network(theft.scene.rng, kinds, without=known)


def _loud_source(theft: Theft) -> Source:
    rng = theft.scene.rng
    kinds = ("hosting", "vpn", "cloud")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
    return places.fixed(rng, _foreign(theft, kinds), 1)


def _agent(theft: Theft, as_owner: float) -> str:
    """The attacker's agent: the owner's with the probability, else a tool's."""
    rng = theft.scene.rng
    if rng.random() < as_owner:
        return theft.key.slots[0].agents[-1][1]
    versions = habits.AGENTS[_TOOLS[int(rng.integers(len(_TOOLS)))]]
    return versions[int(rng.integers(len(versions)))]


def _own_steps(theft: Theft, count: int) -> list[str]:
    """Reads out of the key's own mix."""
    key, rng = theft.key, theft.scene.rng
    reads = np.array([e.method == "GET" for e in api.ENDPOINTS]) * key.mix
    if reads.sum() == 0:
        return ["GET /v1/me"] * count
    drawn = rng.choice(len(reads), size=count, p=reads / reads.sum())
    return [api.ENDPOINTS[i].name for i in drawn]


def _other_reads(theft: Theft, count: int) -> list[str]:
    """Reads within the key's scopes that its owner does not make."""
    key, rng = theft.key, theft.scene.rng
    names = [
        e.name for i, e in enumerate(api.ENDPOINTS)
        if e.method == "GET" and key.mix[i] == 0
        and (e.scope in key.scopes or api.ADMIN in key.scopes)
    ]  # fmt: skip
    return [names[int(i)] for i in rng.integers(len(names), size=count)] if names else []


def _some(rng: np.random.Generator, texts: list[str]) -> str:
    return texts[int(rng.integers(len(texts)))]
