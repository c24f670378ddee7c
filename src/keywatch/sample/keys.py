"""What a key is in the sample, and how a use of it becomes log lines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from . import api
from .owners import Owner
from .places import MINUTE_US, SECOND_US, AddressBook, Ints, Source, mix64

SERVER_ERROR_SHARE = 0.002
NOT_FOUND_SHARE = 0.002
DURATION_MEDIAN_MS = 55.0
NOISE_STEP_SHARE = 0.03
"""Share of steps that are another call than the routine's."""
BORN_KINDS = ("alert", "report")
"""Objects that come into being over the whole span; their ids stand oldest first."""


@dataclass
class Slot:
    """A place a key is used from, and with what agent; both change at times."""

    sources: list[tuple[int, Source]]
    """(from, source) in time order, times in µs since 1970 UTC."""
    agents: list[tuple[int, str]]

    def source_at(self, time_us: int) -> Source:
        return [s for since, s in self.sources if since <= time_us or since == 0][-1]

    def agent_at(self, time_us: int) -> str:
        return [a for since, a in self.agents if since <= time_us or since == 0][-1]


@dataclass
class Sessions:
    """Runs of requests, column by column: start (µs), how many, which routine, from which slot."""

    start_us: Ints
    length: Ints
    routine: Ints
    slot: Ints

    @staticmethod
    def of(
        start_us: Ints | npt.NDArray[np.float64],
        length: Ints | int,
        routine: Ints | int = 0,
        slot: Ints | int = 0,
    ) -> Sessions:
        shape = np.shape(start_us)
        return Sessions(
            np.asarray(start_us).astype(np.int64),
            np.broadcast_to(np.asarray(length, dtype=np.int64), shape),
            np.broadcast_to(np.asarray(routine, dtype=np.int64), shape),
            np.broadcast_to(np.asarray(slot, dtype=np.int64), shape),
        )

    def where(self, keep: npt.NDArray[np.bool_]) -> Sessions:
        return Sessions(self.start_us[keep], self.length[keep], self.routine[keep], self.slot[keep])

    def in_order(self) -> Sessions:
        order = np.argsort(self.start_us, kind="stable")
        return Sessions(
            self.start_us[order], self.length[order], self.routine[order], self.slot[order]
        )

    @staticmethod
    def joined(parts: list[Sessions]) -> Sessions:
        return Sessions(
            np.concatenate([p.start_us for p in parts]),
            np.concatenate([p.length for p in parts]),
            np.concatenate([p.routine for p in parts]),
            np.concatenate([p.slot for p in parts]),
        )


@dataclass
class Release:
    """From a time on, a share of the key's calls goes to an endpoint it did not call before."""

    since_us: int
    until_us: int
    endpoint: int
    share: float


@dataclass
class Move:
    """Between two times, a share of the sessions comes from this slot instead."""

    start_us: int
    end_us: int
    slot: int
    share: float


@dataclass
class Spell:
    """Between two times, a share of the lines reaches the log late, or twice."""

    start_us: int
    end_us: int
    share: float
    delay_us: int


@dataclass
class Failure:
    """Between two times, a share of the answers is this status."""

    start_us: int
    end_us: int
    status: int
    share: float


@dataclass(frozen=True)
class Happening:
    """A harmless oddity of a key: [`start_us`, `end_us`), or for good where `end_us` is None."""

    kind: str
    start_us: int
    end_us: int | None

    def is_current(self, since_us: int, until_us: int = 1 << 62) -> bool:
        """Whether it begins in [`since_us`, `until_us`), or is passing and lasts into it."""
        begins_or_lasts = self.start_us >= since_us or (self.end_us or 0) > since_us
        return begins_or_lasts and self.start_us < until_us


@dataclass
class Key:
    """One key: its inventory facts, how it is used, and what happens to it.

    Times are µs since 1970 UTC; None means never.
    """

    number: int
    key_id: str
    masked: str
    name: str
    environment: str
    scopes: tuple[str, ...]
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    replaces: str | None
    owner: Owner
    habit: str
    seed: np.random.SeedSequence
    rate: float
    """Requests on a day of use."""
    use_share: float
    """Share of days with use."""
    traits: dict[str, float]
    """What one habit wants to remember of the key: hours, weekdays, probabilities."""
    slots: list[Slot]
    mix: npt.NDArray[np.float64]
    """Probability of each endpoint of `api.ENDPOINTS`."""
    routines: list[Ints]
    """Endpoint numbers, in the order they are called. Routine −1 draws from the mix."""
    objects: dict[str, list[str]]
    """All of the team's, the key's usual ones first."""
    usual: dict[str, int]
    """How many of a kind the key usually calls; kinds not named: all."""
    object_style: str
    """panel (each step its own object), walk (one after the other), zipf (favourites)."""
    gap_s: float
    ramp: tuple[int, int, bool] | None = None
    """Rotation: use fades between the two times, out (False) or in (True)."""
    extra: list[Sessions] = field(default_factory=list)
    """Sessions beside the habit's."""
    moves: list[Move] = field(default_factory=list)
    late: list[Spell] = field(default_factory=list)
    twice: list[Spell] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    wide: list[int] = field(default_factory=list)
    """Routines that walk through all of the team's objects."""
    oddities: list[Happening] = field(default_factory=list)

    def may_call(self, endpoint: api.Endpoint) -> bool:
        """Whether the key's scopes cover the endpoint."""
        return endpoint.scope == api.ANY or not {endpoint.scope, api.ADMIN}.isdisjoint(self.scopes)

    def other_reads(self) -> list[str]:
        """Names of the reads that the key may make and its owner does not."""
        return [
            e.name for e, share in zip(api.ENDPOINTS, self.mix.tolist(), strict=True)
            if e.method == "GET" and not share and self.may_call(e)
        ]  # fmt: skip


@dataclass
class Texts:
    """Gives each distinct text a number."""

    texts: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found


@dataclass
class Pools:
    """What the columns of a batch point into."""

    book: AddressBook = field(default_factory=AddressBook)
    calls: Texts = field(default_factory=Texts)
    """Method and path with a space between."""
    agents: Texts = field(default_factory=Texts)


@dataclass
class Batch:
    """Requests, column by column, in no promised order."""

    time_us: Ints
    address: Ints
    call: Ints
    agent: Ints
    status: Ints
    bytes: Ints
    duration_ms: Ints

    def __len__(self) -> int:
        return len(self.time_us)

    @staticmethod
    def empty() -> Batch:
        return Batch(*(np.zeros(0, np.int64) for _ in fields(Batch)))


@dataclass
class Calls:
    """Which endpoint with which object, before it is answered. `variant` chooses the query."""

    time_us: Ints
    address: Ints
    agent: Ints
    endpoint: Ints
    object: Ints
    variant: Ints

    def where(self, keep: npt.NDArray[np.bool_]) -> Calls:
        return Calls(*(column[keep] for column in vars(self).values()))


def own_traffic(key: Key, start_us: int, end_us: int, sessions: Sessions, pools: Pools,
                rng: np.random.Generator) -> Batch:  # fmt: skip
    """The key's own use: its sessions, thinned by rotation, made into answered requests."""
    sessions = _in_life(key, start_us, end_us, sessions, rng)
    sessions = Sessions.joined([sessions, *key.extra])
    sessions = sessions.where(sessions.start_us >= key.created_us).in_order()
    calls = calls_of(key, start_us, end_us, sessions, pools, rng)
    return answered(key, calls, key.objects, pools, rng)


def calls_of(key: Key, start_us: int, end_us: int, sessions: Sessions, pools: Pools,
             rng: np.random.Generator) -> Calls:  # fmt: skip
    """The requests of `sessions` (in time order), by the key's routines at its objects.

    The span is [`start_us`, `end_us`); what lies after it is left out.
    """
    address, agent = _places(key, sessions, pools)
    total = int(sessions.length.sum())
    session = np.repeat(np.arange(len(sessions.length)), sessions.length)
    first = np.cumsum(sessions.length) - sessions.length
    position = np.arange(total) - first[session]
    gaps_us = (rng.gamma(2.0, key.gap_s / 2, size=total) * SECOND_US).astype(np.int64)
    so_far = np.cumsum(gaps_us)
    time_us = sessions.start_us[session] + so_far - so_far[first[session]]
    endpoint = _steps(key, sessions.routine[session], position, time_us, rng)
    lived = np.clip((time_us - start_us) / (end_us - start_us), 0, 1)
    chosen = _objects(key, endpoint, session, position, lived, rng)
    wide = np.isin(sessions.routine, key.wide)[session]
    chosen[wide] = _walked(key, endpoint[wide], position[wide], lived[wide])
    variant = key.number % 5 + (mix64(endpoint + position % 3, key.number).astype(np.int64) & 1)
    calls = Calls(time_us, address[session], agent[session], endpoint, chosen, variant)
    return calls.where(time_us < end_us)


def _in_life(
    key: Key, start_us: int, end_us: int, sessions: Sessions, rng: np.random.Generator
) -> Sessions:
    start = sessions.start_us
    keep = (start >= max(start_us, key.created_us)) & (start < end_us)
    if key.ramp:
        since, until, is_in = key.ramp
        moved = rng.random(len(start)) < (start - since) / max(until - since, 1)
        keep &= moved if is_in else ~moved
    slot = sessions.slot.copy()
    for move in key.moves:
        moved = (start >= move.start_us) & (start < move.end_us)
        slot[moved & (rng.random(len(start)) < move.share)] = move.slot
    return Sessions(start, sessions.length, sessions.routine, slot).where(keep)


def _places(key: Key, sessions: Sessions, pools: Pools) -> tuple[Ints, Ints]:
    address = np.zeros(len(sessions.start_us), dtype=np.int64)
    agent = np.zeros(len(sessions.start_us), dtype=np.int64)
    numbers = np.arange(len(address))
    for number, slot in enumerate(key.slots):
        here = sessions.slot == number
        for since, source in slot.sources:
            at = here & (sessions.start_us >= since)
            if at.any():
                address[at] = source.draw(numbers[at], sessions.start_us[at], pools.book)
        for since, name in slot.agents:
            agent[here & (sessions.start_us >= since)] = pools.agents.number(name)
    return address, agent


def _steps(
    key: Key, routine: Ints, position: Ints, time_us: Ints, rng: np.random.Generator
) -> Ints:
    drawn = rng.choice(len(key.mix), size=len(position), p=key.mix)
    endpoint = drawn.copy()
    noise = rng.random(len(position)) < NOISE_STEP_SHARE
    for number, steps in enumerate(key.routines):
        at = (routine == number) & ~noise
        endpoint[at] = steps[position[at] % len(steps)]
    for release in key.releases:
        during = (time_us >= release.since_us) & (time_us < release.until_us)
        endpoint[during & (rng.random(len(position)) < release.share)] = release.endpoint
    return endpoint


def newest_object(count: Ints | int, lived: npt.NDArray[np.float64]) -> Ints:
    """The newest of `count` alerts or reports when that share (0 to 1) of the span has passed."""
    newest: Ints = (lived * (count - 4)).astype(np.int64) + 3
    return newest


def _objects(
    key: Key, endpoint: Ints, session: Ints, position: Ints, lived: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> Ints:  # fmt: skip
    chosen = np.zeros(len(endpoint), dtype=np.int64)
    for number in np.unique(endpoint):
        kind = api.ENDPOINTS[number].objects
        if kind is None:
            continue
        at = endpoint == number
        count = key.usual.get(kind, len(key.objects[kind]))
        size = int(at.sum())
        if kind in BORN_KINDS:
            back = np.minimum(rng.geometric(0.5, size) - 1, 3)
            chosen[at] = np.maximum(newest_object(count, lived[at]) - back, 0)
            continue
        # A tenth of the objects comes into being during the span.
        now = np.maximum((count * (0.9 + 0.1 * lived[at])).astype(np.int64), 1)
        if key.object_style == "panel":
            at_object = mix64(position[at], number).astype(np.int64) & 0xFFFF
            chosen[at] = at_object % max(int(count * 0.9), 1)
        elif key.object_style == "walk":
            chosen[at] = (position[at] + (session[at] % 2) * 3) % now
        else:
            chosen[at] = (now * rng.random(size) ** 2.2).astype(np.int64)
    return chosen


def _walked(key: Key, endpoint: Ints, position: Ints, lived: npt.NDArray[np.float64]) -> Ints:
    kinds = [e.objects for e in api.ENDPOINTS]
    count = np.array([len(key.objects[kind]) if kind else 1 for kind in kinds])[endpoint]
    is_born = np.array([kind in BORN_KINDS for kind in kinds])[endpoint]
    walked: Ints = position % np.where(is_born, newest_object(count, lived) + 1, count)
    return walked


def answered(
    key: Key, calls: Calls, objects: dict[str, list[str]], pools: Pools,
    rng: np.random.Generator, *, missing: npt.NDArray[np.bool_] | None = None,
) -> Batch:  # fmt: skip
    """What the API answers: scopes, life of the key, rate limit, failures.

    `missing` marks calls for objects that do not exist.
    """
    count = len(calls.time_us)
    ok = np.array([e.ok for e in api.ENDPOINTS])
    size = np.array([float(e.bytes) for e in api.ENDPOINTS])
    granted = np.array([key.may_call(e) for e in api.ENDPOINTS])
    status = ok[calls.endpoint]
    luck = rng.random(count)
    status[luck < SERVER_ERROR_SHARE] = 503
    has_object = np.array([e.objects is not None for e in api.ENDPOINTS])[calls.endpoint]
    status[has_object & (luck > 1 - NOT_FOUND_SHARE)] = 404
    if missing is not None:
        status[missing] = 404
    for failure in key.failures:
        during = (calls.time_us >= failure.start_us) & (calls.time_us < failure.end_us)
        status[during & (rng.random(count) < failure.share)] = failure.status
    status[_over_limit(calls)] = 429
    status[~granted[calls.endpoint]] = 403
    ends = [t for t in (key.revoked_us, key.expires_us) if t is not None]
    if ends:
        status[calls.time_us >= min(ends)] = 401
    worked = status < 300
    body = np.where(worked, size[calls.endpoint] * rng.lognormal(0, 0.25, count), 160)
    slow = rng.lognormal(np.log(DURATION_MEDIAN_MS), 0.6, count) + body / 20_000
    return Batch(
        calls.time_us, calls.address, _call_numbers(calls, objects, pools), calls.agent,
        status, body.astype(np.int64), slow.astype(np.int64) + 1,
    )  # fmt: skip


def _over_limit(calls: Calls) -> npt.NDArray[np.bool_]:
    over = np.zeros(len(calls.time_us), dtype=bool)
    at = np.flatnonzero(np.isin(calls.endpoint, api.METRICS_ENDPOINTS))
    if len(at) <= api.METRICS_PER_MINUTE:
        return over
    at = at[np.argsort(calls.time_us[at], kind="stable")]
    minute = calls.time_us[at] // MINUTE_US
    _, first, back = np.unique(minute, return_index=True, return_inverse=True)
    over[at[np.arange(len(at)) - first[back] >= api.METRICS_PER_MINUTE]] = True
    return over


def _call_numbers(calls: Calls, objects: dict[str, list[str]], pools: Pools) -> Ints:
    packed = (calls.endpoint << 40) | (calls.variant << 36) | calls.object
    distinct, back = np.unique(packed, return_inverse=True)
    numbers = np.empty(len(distinct), dtype=np.int64)
    for i, code in enumerate(distinct.tolist()):
        endpoint = api.ENDPOINTS[code >> 40]
        query = endpoint.queries[(code >> 36 & 15) % len(endpoint.queries)]
        path = endpoint.template
        if endpoint.objects:
            path = path.replace("{id}", objects[endpoint.objects][code & 0xFFFFFFFF])
        numbers[i] = pools.calls.number(f"{endpoint.method} {path}{query}")
    return numbers[back]
