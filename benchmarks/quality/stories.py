"""Short stories of one key among steady ones: what a review makes of each, beside what is right.

    python -m benchmarks.quality.stories
    python -m benchmarks.quality.stories --keys 5 30 --subject person --only tor "the journey"

A world of steady keys is made and loaded once for each number of keys, and its earlier weeks are
replayed once. Each story is then told in a copy: the last week of five keys is loaded, among them
the story's own, and that week is reviewed. Addresses are real ones of real networks
(`keywatch.sample.places`), so that the bundled databases place them. Every story is told of a
fleet's key and of a person's.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, cached_property
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.load.ingest import load_files
from keywatch.load.origins import OriginReader
from keywatch.model import Review, Window
from keywatch.review.making import make_review
from keywatch.sample import api, places
from keywatch.settings import Settings
from keywatch.vendors import find_files

Subject = Literal["fleet", "person"]
Action = Literal["revoke", "rotate", "investigate", "none"]

SIZES = (5, 30, 200, 1000)
SUBJECTS: tuple[Subject, ...] = ("fleet", "person")
WEEKS = 9
START = datetime(2026, 8, 3)
"""A Monday; the log begins here."""
WEEK = Window(START + timedelta(weeks=WEEKS - 1), START + timedelta(weeks=WEEKS))
"""The week that is reviewed: the log's last one."""
STRANGER = "91.234.56.78"
"""The unfamiliar address of the vendor's page."""
COUNTRY = "FR"
"""Where the cast's first owner is."""
SEED = 9
CAST = 5
"""Keys whose last week is loaded with the story: those that a story may be of."""

_DAY_S = 86_400
_HOUR_S = 3_600
_SHORT_AGENT = "curl/8.5.0"
_COMPANY_ASN, _CLOUD_ASN = 8220, 16509
_COUNTRIES = ("FR", "US", "GB", "NL", "ES", "IT", "SE", "CA", "CH")
_CLIENTS = (
    "pulsely-python/3.2.1", "Go-http-client/2.0", "axios/1.7.7", "Grafana/10.4.3",
    "python-httpx/0.27.2", "okhttp/4.12.0",
)  # fmt: skip
_TOOLS_OF_PEOPLE = (
    "python-requests/2.32.3",
    "PostmanRuntime/7.41.2",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "HTTPie/3.2.2",
)
_CALLS_OF_FLEETS = (
    "GET /v1/checks", "GET /v1/alerts", "GET /v1/checks/{id}", "GET /v1/checks/{id}/results",
    "GET /v1/metrics/{id}", "POST /v1/checks/{id}/run",
)  # fmt: skip
_CALLS_OF_PEOPLE = (
    "GET /v1/me", "GET /v1/checks", "GET /v1/alerts", "GET /v1/checks/{id}", "GET /v1/alerts/{id}",
    "GET /v1/checks/{id}/results", "GET /v1/reports/{id}", "PATCH /v1/checks/{id}",
)  # fmt: skip
_CALLS_OF_A_RELEASE = ("GET /v1/status-pages", "PATCH /v1/status-pages/{id}", "GET /v1/metrics")
_READS = ("read:checks", "read:alerts", "read:metrics")
_SCOPES = (
    (*_READS, "write:checks"),
    (*_READS, "write:checks", "write:alerts"),
    ("admin:*",),
)


class Call(NamedTuple):
    """One request; `at` is in seconds since `START`."""

    at: float
    address: str
    agent: str
    endpoint: str
    object: int | None


@dataclass(frozen=True, eq=False)
class SteadyKey:
    """A key that does the same from week to week."""

    number: int
    owner: str
    is_person: bool
    addresses: tuple[str, ...]
    """Where it comes from: the first as a rule, the second on Mondays and Fridays."""
    agent: str
    scopes: tuple[str, ...]
    routines: tuple[tuple[str, ...], ...]
    objects: dict[str, list[int]]
    """Kind of object → ids it works on, the usual ones first."""
    every_s: int
    """Seconds between two runs of a fleet's."""
    seed: int

    @property
    def key_id(self) -> str:
        return f"key_{self.number:07}"

    @property
    def masked(self) -> str:
        return f"ply_live_prod_{self.number:06x}…{self.number:04x}"

    def usual(self, first_day: int, days: int) -> list[Call]:
        """Its requests on `days` days from `first_day` (0: that of `START`)."""
        calls: list[Call] = []
        for day in range(first_day, first_day + days):
            rng = np.random.default_rng([self.seed, self.number, day])
            starts = self._working_starts(rng, day) if self.is_person else self._runs(rng, day)
            at_other = len(self.addresses) > 1 and day % 7 in (0, 4)
            for start in starts:
                calls += self.run(rng, start, self.addresses[at_other])
        return calls

    def _runs(self, rng: np.random.Generator, day: int) -> Iterable[float]:
        """Round the clock, as a timer goes."""
        phase_s = (self.seed + self.number) * 7919 % self.every_s
        for nth in range(_DAY_S // self.every_s):
            yield day * _DAY_S + phase_s + nth * self.every_s + float(rng.uniform(0, 8))

    def _working_starts(self, rng: np.random.Generator, day: int) -> Iterable[float]:
        """Spells of work between 7:00 and 15:30 UTC on weekdays."""
        if day % 7 < 5:
            count = int(rng.integers(4, 8))
            yield from day * _DAY_S + np.sort(rng.uniform(7.0, 15.5, count)) * _HOUR_S

    def run(
        self, rng: np.random.Generator, start: float, address: str, agent: str | None = None
    ) -> list[Call]:
        """One routine from its first call to its last."""
        gap_s = 14.0 if self.is_person else 0.7
        at = start
        calls = []
        for endpoint in self.routines[int(rng.integers(len(self.routines)))]:
            chosen = self._object(rng, endpoint)
            calls.append(Call(at, address, agent or self.agent, endpoint, chosen))
            at += gap_s * float(rng.gamma(2.0, 0.5)) + 0.05
        return calls

    def _object(self, rng: np.random.Generator, endpoint: str) -> int | None:
        kind = api.ENDPOINTS[api.NUMBER_OF[endpoint]].objects
        if kind is None:
            return None
        ids = self.objects[kind]
        # A person looks at some more often than at others, a program at all of its list.
        at = float(rng.random()) ** (2 if self.is_person else 1)
        return ids[int(at * len(ids))]


class _Places:
    """Hands out addresses of real networks, none of them twice."""

    def __init__(self, rng: np.random.Generator, taken: Iterable[str] = ()) -> None:
        self._rng = rng
        self._taken = {int(ipaddress.ip_address(each)) >> 8 for each in (STRANGER, *taken)}

    def address(self, kinds: str, country: str, *, asn: int | None = None, without: int = 0) -> str:
        """An address whose /24 is not taken, of the classes and of the country or the network.

        Where the country has no such network, any country serves. `without`: a network that is not
        meant.
        """
        right = [
            net
            for net in places.networks_of(kinds)
            if net.asn != without and asn in (None, net.asn)
        ]
        fitting = [net for net in right if net.country == country] or right
        while True:
            net = fitting[int(self._rng.integers(len(fitting)))]
            first, length = net.prefixes[int(self._rng.integers(len(net.prefixes)))]
            number = first + int(self._rng.integers(1 << (32 - length)))
            if number >> 8 not in self._taken and 0 < number % 256 < 255:
                self._taken.add(number >> 8)
                return str(ipaddress.IPv4Address(number))


class _Owner(NamedTuple):
    name: str
    country: str
    office: str
    objects: dict[str, list[int]]
    is_behind_one_exit: bool


@dataclass(frozen=True)
class World:
    """Steady keys of owners with one to six keys each.

    `behind_one_exit`: the cast is one owner's, and all of it comes from one address of a company's
    network. Otherwise the first owner has three of the cast and the second one two.
    """

    keys: int
    seed: int = SEED
    behind_one_exit: bool = False

    @cached_property
    def cast(self) -> tuple[SteadyKey, ...]:
        return self.all_keys[:CAST]

    def subject(self, kind: Subject) -> SteadyKey:
        """The key that a story is of."""
        return self.cast[SUBJECTS.index(kind)]

    @cached_property
    def all_keys(self) -> tuple[SteadyKey, ...]:
        """All keys; the first five are the cast.

        The cast: a fleet at its company's, an engineer with an office and a home, a fleet in a
        cloud, and another owner's engineer and fleet.
        """
        rng = np.random.default_rng([self.seed, self.keys, self.behind_one_exit])
        where = _Places(rng)
        sizes = [CAST] if self.behind_one_exit else [3, 2]
        while sum(sizes) < self.keys:
            sizes.append(min(int(rng.integers(1, 7)), self.keys - sum(sizes)))
        keys: list[SteadyKey] = []
        for nth, size in enumerate(sizes):
            owner = self._owner(rng, where, nth)
            keys += [self._key(rng, where, len(keys) + one, owner) for one in range(size)]
        return tuple(keys)

    def _owner(self, rng: np.random.Generator, where: _Places, nth: int) -> _Owner:
        country = COUNTRY if nth == 0 else _COUNTRIES[int(rng.integers(len(_COUNTRIES)))]
        office = where.address("business", country, asn=None if nth else _COMPANY_ASN)
        kinds = sorted({each.objects for each in api.ENDPOINTS if each.objects})
        objects = {kind: _some(rng, range(1_000, 99_000), 800) for kind in kinds}
        is_behind_one_exit = self.behind_one_exit and nth == 0
        return _Owner(f"team-{nth:03}", country, office, objects, is_behind_one_exit)

    def _key(
        self, rng: np.random.Generator, where: _Places, number: int, owner: _Owner
    ) -> SteadyKey:
        is_in_cast = number < CAST
        is_person = number in (1, 3) if is_in_cast else bool(rng.random() < 0.45)
        is_at_company = number == 0 if is_in_cast else bool(rng.random() < 0.3)
        if owner.is_behind_one_exit:
            addresses: tuple[str, ...] = (owner.office,)
        elif is_person:
            home = where.address("isp", owner.country)
            choice = 0 if number == 1 else int(rng.integers(3))
            addresses = ((owner.office, home), (owner.office,), (home,))[choice]
        elif is_at_company:
            asn = _COMPANY_ASN if is_in_cast else None
            addresses = (where.address("business", owner.country, asn=asn),)
        else:
            asn = _CLOUD_ASN if is_in_cast else None
            addresses = (where.address("cloud", owner.country, asn=asn),)
        clients = _TOOLS_OF_PEOPLE if is_person else _CLIENTS
        return SteadyKey(
            number=number,
            owner=owner.name,
            is_person=is_person,
            addresses=addresses,
            agent=clients[int(rng.integers(len(clients)))],
            scopes=("admin:*",) if is_in_cast else _SCOPES[int(rng.integers(len(_SCOPES)))],
            routines=_routines(rng, _CALLS_OF_PEOPLE if is_person else _CALLS_OF_FLEETS),
            objects={kind: _some(rng, ids, 60) for kind, ids in owner.objects.items()},
            every_s=_HOUR_S * (1 if is_in_cast else int(rng.integers(1, 4))),
            seed=self.seed,
        )

    def elsewhere(
        self, kinds: str, country: str, *, asn: int | None = None, without: int = 0
    ) -> str:
        """An address as `_Places.address` gives it, in a /24 where no key of the world is."""
        taken = [address for key in self.all_keys for address in key.addresses]
        where = _Places(np.random.default_rng([self.seed, 77]), taken)
        return where.address(kinds, country, asn=asn, without=without)

    def make(self, folder: Path, settings: Settings) -> Path:
        """The world's lake in `folder`: all but the cast's last week is loaded and replayed."""
        folder.mkdir(parents=True, exist_ok=True)
        log, inventory, lake = folder / "past.jsonl", folder / "keys.jsonl", folder / "lake"
        with log.open("w", encoding="utf-8") as out:
            for key in self.all_keys:
                days = 7 * (WEEKS - 1 if key in self.cast else WEEKS)
                out.writelines(_lines(key, key.usual(0, days)))
        inventory.write_text("".join(map(_inventory_line, self.all_keys)), encoding="utf-8")
        pipeline.ingest(lake, [str(log)], settings)
        pipeline.import_keys(lake, inventory, settings)
        log.unlink()
        # What it keeps of the earlier weeks is what the stories' reviews rest on.
        pipeline.review(lake, WEEK, settings)
        return lake


def _some(rng: np.random.Generator, ids: Sequence[int], count: int) -> list[int]:
    # Of a range NumPy would ask for each number by itself.
    among = np.arange(ids.start, ids.stop) if isinstance(ids, range) else ids
    return [int(each) for each in rng.permutation(among)[:count]]


def _routines(rng: np.random.Generator, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Three orders in which a key calls; lists come before single objects."""
    used = sorted(rng.choice(len(names), size=len(names) - 1, replace=False).tolist())
    sizes = rng.integers(2, 5, 3)
    return tuple(
        tuple(names[at] for at in sorted(rng.choice(used, size=size, replace=False).tolist()))
        for size in sizes
    )


def _inventory_line(key: SteadyKey) -> str:
    kind = "laptop" if key.is_person else "service"
    created = START - timedelta(days=1 + key.number % 12)
    line = {
        "key_id": key.key_id, "key": key.masked, "name": f"{key.owner}-{kind}-{key.number}",
        "environment": "prod", "scopes": key.scopes, "owner": key.owner,
        "created_at": f"{created.isoformat()}Z",
    }  # fmt: skip
    return json.dumps(line, ensure_ascii=False) + "\n"


@cache
def _endpoint(name: str) -> tuple[str, str, api.Endpoint]:
    found = api.ENDPOINTS[api.NUMBER_OF[name]]
    return found.method, found.template, found


def _lines(key: SteadyKey, calls: Iterable[Call]) -> Iterator[str]:
    """The calls as the API logs them; one outside the key's scopes is refused."""
    for call in calls:
        method, template, endpoint = _endpoint(call.endpoint)
        is_allowed = endpoint.scope == api.ANY or {endpoint.scope, api.ADMIN} & set(key.scopes)
        path = template if call.object is None else template.replace("{id}", str(call.object))
        # The same object is as large from call to call, but for what changes in it.
        size = endpoint.bytes * (0.8 + (call.object or 7) % 41 / 100 + call.at % 11 / 1000)
        moment = START + timedelta(seconds=round(call.at, 3))
        line = {
            "timestamp": f"{moment.isoformat(timespec='milliseconds')}Z",
            "request_id": f"req_{key.number:x}_{int(call.at * 1000):x}",
            "key_id": key.key_id, "key": key.masked, "ip": call.address, "method": method,
            "endpoint": path, "status": endpoint.ok if is_allowed else 403,
            "user_agent": call.agent, "response_bytes": round(size) if is_allowed else 97,
        }  # fmt: skip
        yield json.dumps(line, ensure_ascii=False) + "\n"


# ----------------------------------------------------------------------------------------- stories

_FIRST_DAY = 7 * (WEEKS - 1)
_TUESDAY, _WEDNESDAY, _FRIDAY = _FIRST_DAY + 1, _FIRST_DAY + 2, _FIRST_DAY + 4


def _at(day: int, hour: float) -> float:
    return day * _DAY_S + hour * _HOUR_S


@dataclass
class Telling:
    """A story being told: what the cast does in the week, one list of calls a key."""

    world: World
    key: SteadyKey
    """The one that the story is of."""
    calls: dict[int, list[Call]] = field(default_factory=dict)
    about: set[int] = field(default_factory=set)
    """The numbers of the keys that the story is of."""
    database_changes: bool = False

    def __post_init__(self) -> None:
        self.calls = {key.number: key.usual(_FIRST_DAY, 7) for key in self.world.cast}
        self.about = {self.key.number}
        self.rng = np.random.default_rng([self.world.seed, self.key.number, 4711])

    def visit(
        self, address: str, requests: int, *, agent: str | None = None, day: int = _WEDNESDAY,
        hour: float = 9.2,
    ) -> None:  # fmt: skip
        """So many requests of the key's own routines, run after run, from an address."""
        visit: list[Call] = []
        at = _at(day, hour)
        while len(visit) < requests:
            visit += self.key.run(self.rng, at, address, agent)
            at = visit[-1].at + float(self.rng.uniform(20, 90))
        self.calls[self.key.number] += visit[:requests]

    def call(
        self, endpoints: Sequence[str], address: str | None = None, *, agent: str | None = None,
        hour: float = 9.2, gap_s: float = 6.0,
    ) -> None:  # fmt: skip
        """These calls, one after the other, from an address or from the key's own."""
        at = _at(_WEDNESDAY, hour)
        place, client = address or self.key.addresses[0], agent or self.key.agent
        for nth, name in enumerate(endpoints):
            kind = _endpoint(name)[2].objects
            chosen = self.key.objects[kind][nth % 5] if kind else None
            self.calls[self.key.number].append(Call(at, place, client, name, chosen))
            at += gap_s * float(self.rng.uniform(0.5, 1.5))

    def move(self, address: str, *, day: int = _TUESDAY, key: SteadyKey | None = None) -> None:
        """From a Tuesday's noon on everything comes from the address; the old place is silent."""
        key = key or self.key
        self.calls[key.number] = [
            call._replace(address=address) if call.at >= _at(day, 12) else call
            for call in self.calls[key.number]
        ]

    def silence(self, start: float, end: float) -> None:
        """Nothing comes from the key's usual places in [start, end)."""
        self.calls[self.key.number] = [
            call for call in self.calls[self.key.number] if not start <= call.at < end
        ]


Tell = Callable[[Telling], None]


@dataclass(frozen=True)
class Story:
    """What happens to a key in a week, and which actions are right."""

    name: str
    allowed: frozenset[Action]
    tell: Tell
    is_migration: bool = False
    """Whether the review has to group the keys as a migration."""
    behind_one_exit: bool = False
    """Whether it is told in the world where the cast is one owner's, behind one exit."""
    is_of_the_cast: bool = False
    """Whether it is of all five keys, and so the same whoever is asked."""

    @property
    def rights(self) -> str:
        return " or ".join(sorted(self.allowed, key=["revoke", "investigate", "none"].index))


STORIES: dict[str, Story] = {}


def _story(name: str, *allowed: Action, **how: bool) -> Callable[[Tell], Tell]:
    def register(tell: Tell) -> Tell:
        STORIES[name] = Story(name, frozenset(allowed), tell, **how)
        return tell

    return register


@_story("40 requests from 91.234.56.78", "revoke")
def _stranger(t: Telling) -> None:
    t.visit(STRANGER, 40)


@_story("3 requests from 91.234.56.78", "investigate", "revoke")
def _stranger_seldom(t: Telling) -> None:
    t.visit(STRANGER, 3)


@_story("40 requests from a Tor exit", "revoke")
def _tor(t: Telling) -> None:
    t.visit(t.world.elsewhere("tor", "DE"), 40)


@_story("40 requests with curl", "revoke")
def _curl(t: Telling) -> None:
    t.visit(STRANGER, 40, agent=_SHORT_AGENT)


@_story("curl: members, channels, export", "revoke")
def _curl_sensitive(t: Telling) -> None:
    t.visit(STRANGER, 34, agent=_SHORT_AGENT)
    names = ["GET /v1/members", "GET /v1/alert-channels", "GET /v1/export"] * 2
    t.call(names, STRANGER, agent=_SHORT_AGENT, hour=10.4)


@_story("own place: members, export, new key", "investigate", "revoke")
def _sensitive_at_home(t: Telling) -> None:
    names = ["GET /v1/members", "GET /v1/export", "GET /v1/alert-channels"]
    t.call([*names * 3, "GET /v1/keys", "POST /v1/alert-channels", "POST /v1/keys"])


@_story("a release: new endpoints, 4 keys", "none")
def _release(t: Telling) -> None:
    others = sorted(t.world.cast, key=lambda key: key.is_person != t.key.is_person)
    for key in [t.key, *(each for each in others if each is not t.key)][:4]:
        t.about.add(key.number)
        calls = t.calls[key.number]
        runs = [now for now, after in pairwise(calls) if after.at - now.at > 300]
        for last in runs:
            if last.at >= _at(_WEDNESDAY, 8) and t.rng.random() < 0.5:
                for nth, name in enumerate(_CALLS_OF_A_RELEASE):
                    kind = _endpoint(name)[2].objects
                    chosen = key.objects[kind][int(t.rng.integers(10))] if kind else None
                    calls.append(Call(last.at + 1 + nth, last.address, key.agent, name, chosen))


@_story("own place: 400 objects never read", "investigate", "revoke")
def _enumeration(t: Telling) -> None:
    at = _at(_WEDNESDAY, 9.2)
    for nth in range(400):
        call = Call(at, t.key.addresses[0], t.key.agent, "GET /v1/checks/{id}", 200_000 + nth)
        t.calls[t.key.number].append(call)
        at += float(t.rng.uniform(1, 5))


@_story("a new address of the same /24", "none")
def _neighbour(t: Telling) -> None:
    first = t.key.addresses[0]
    number = int(ipaddress.ip_address(first))
    other = str(ipaddress.IPv4Address(number ^ 0b10100))
    t.calls[t.key.number] = [
        call._replace(address=other)
        if call.at >= _at(_TUESDAY, 12) and call.address == first
        else call
        for call in t.calls[t.key.number]
    ]


@_story("another provider, the old place silent", "none", "investigate")
def _provider(t: Telling) -> None:
    t.move(t.world.elsewhere("business isp", COUNTRY, without=_COMPANY_ASN))


@_story("the journey: 5 requests abroad", "none", "investigate")
def _journey(t: Telling) -> None:
    t.silence(_at(_WEDNESDAY, 0), _at(_FRIDAY, 12))
    abroad = t.world.elsewhere("isp", "PT")
    t.visit(abroad, 3, day=_WEDNESDAY, hour=18.5)
    t.visit(abroad, 2, day=_WEDNESDAY + 1, hour=8.1)


@_story("moved into hosting, old place silent", "none", "investigate")
def _hosting(t: Telling) -> None:
    t.move(t.world.elsewhere("cloud", COUNTRY, without=_CLOUD_ASN))


@_story("a second region of the provider", "none", "investigate")
def _region(t: Telling) -> None:
    # Of fleets, one that is in a cloud already.
    key = t.key if t.key.is_person else t.world.cast[2]
    t.key, t.about = key, {key.number}
    kinds, asn = ("business", _COMPANY_ASN) if key.is_person else ("cloud", _CLOUD_ASN)
    address = t.world.elsewhere(kinds, "GB", asn=asn)
    shifted = [
        call._replace(at=call.at + 900 + 0.0013 * nth, address=address)
        for nth, call in enumerate(t.calls[key.number])
        if call.at >= _at(_TUESDAY, 12) and call.address == key.addresses[0]
    ]
    t.calls[key.number] += [call for call in shifted if call.at < 7 * WEEKS * _DAY_S]


@_story(
    "the VPN exit of 5 keys changes",
    "none",
    is_migration=True,
    behind_one_exit=True,
    is_of_the_cast=True,
)
def _exit(t: Telling) -> None:
    address = t.world.elsewhere("business", COUNTRY, without=_COMPANY_ASN)
    for key in t.world.cast:
        t.move(address, key=key)


@_story("at the place of the owner's other key", "none")
def _sibling(t: Telling) -> None:
    t.visit(t.world.cast[2].addresses[0], 40)


@_story("only the GeoIP database changes", "none", is_of_the_cast=True)
def _database(t: Telling) -> None:
    t.database_changes = True


# ----------------------------------------------------------------------------------------- reviews


@dataclass(frozen=True)
class Outcome:
    """What the review made of a story."""

    story: Story
    subject: Subject
    keys: int
    action: Action
    """The gravest of the story's keys."""
    bits: float
    others: tuple[str, ...]
    """Keys that the story is not of, but are to be revoked or looked at: ``action key_id``."""
    is_grouped: bool
    """Whether the story's keys are in one migration."""
    seconds: float

    @property
    def is_right(self) -> bool:
        return self.action in self.story.allowed


class _OtherDatabase:
    """The bundled databases as another build might be: other numbers, and a neighbour country."""

    def __init__(self, reader: OriginReader) -> None:
        self._reader = reader

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        table = self._reader.locate(addresses)
        changed = {
            "asn": [asn and asn + 1_000_000 for asn in table["asn"].to_pylist()],
            "country": [
                "BE" if country == COUNTRY else country for country in table["country"].to_pylist()
            ],
            "asked": ["another build"] * len(table),
        }
        for name, values in changed.items():
            at = table.schema.get_field_index(name)
            column = table.schema.field(name)
            table = table.set_column(at, column, pa.array(values, column.type))
        return table


def review(
    base: Path, scratch: Path, world: World, story: Story, subject: Subject, settings: Settings
) -> tuple[Telling, Review]:
    """Tell the story in a copy of the lake `base`, made under `scratch`, and review its week."""
    telling = Telling(world, world.subject(subject))
    if story.is_of_the_cast:
        telling.about = {key.number for key in world.cast}
    story.tell(telling)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        lake = Path(shutil.copytree(base, folder / "lake"))
        log = folder / "week.jsonl"
        with log.open("w", encoding="utf-8") as out:
            for key in world.cast:
                out.writelines(_lines(key, sorted(telling.calls[key.number])))
        # As many reviews run at once as there are processors.
        storage = settings.storage.model_copy(update={"threads": 1})
        with Lake.open(lake, storage) as opened:
            locator = _OtherDatabase(_reader()) if telling.database_changes else _reader()
            load_files(opened, find_files([str(log)]), settings.ingest, locator)
            with opened.reading():
                return telling, make_review(opened, WEEK, settings, whole=False)[0]


@cache
def _reader() -> OriginReader:
    return OriginReader()


def outcome(
    base: Path, scratch: Path, world: World, story: Story, subject: Subject, settings: Settings
) -> Outcome:
    """What the review makes of the story told of such a key."""
    began = time.perf_counter()
    telling, answer = review(base, scratch, world, story, subject, settings)
    about = {key.key_id for key in world.cast if key.number in telling.about}
    ours = [case for case in answer.cases if case.key_id in about]
    order = ["revoke", "investigate", "rotate", "none"]
    return Outcome(
        story=story,
        subject=subject,
        keys=world.keys,
        action=min((case.action for case in ours), key=order.index, default="none"),
        bits=max((case.bits for case in ours), default=0.0),
        others=tuple(
            f"{case.action} {case.key_id}" for case in answer.alerted() if case.key_id not in about
        ),
        is_grouped=any(
            group.kind == "migration" and about <= set(group.key_ids) for group in answer.groups
        ),
        seconds=time.perf_counter() - began,
    )


def _settings() -> Settings:
    return Settings().without_power()


@dataclass(frozen=True)
class _Task:
    base: Path
    scratch: Path
    world: World
    story: str
    subject: Subject


def _outcome(task: _Task) -> Outcome:
    story = STORIES[task.story]
    return outcome(task.base, task.scratch, task.world, story, task.subject, _settings())


def _make(world: World, folder: Path) -> Path:
    return world.make(folder, _settings())


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="keywatch-stories-") as name:
        yield Path(name)


def _wanted(only: Sequence[str]) -> list[Story]:
    """The stories whose name has one of the texts in it; all where none is given."""
    found = [
        story
        for story in STORIES.values()
        if not only or any(text.casefold() in story.name.casefold() for text in only)
    ]
    if not found:
        raise SystemExit(f"no story has {' or '.join(only)} in its name; there are: "
                         + "; ".join(STORIES))  # fmt: skip
    return found


def run(
    sizes: Sequence[int],
    subjects: Sequence[Subject],
    stories: Sequence[Story],
    jobs: int,
    seed: int = SEED,
) -> Iterator[list[Outcome]]:
    """The outcomes, one list a number of keys, as they come."""
    with (
        _scratch() as scratch,
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
    ):
        for keys in sizes:
            worlds = {
                is_one: World(keys, seed, is_one)
                for is_one in sorted({story.behind_one_exit for story in stories})
            }
            folders = [scratch / f"{keys}-{is_one}" for is_one in worlds]
            bases = dict(zip(worlds, pool.map(_make, worlds.values(), folders), strict=True))
            tasks = [
                _Task(bases[story.behind_one_exit], scratch, worlds[story.behind_one_exit],
                      story.name, subject)
                for story in stories
                for subject in subjects
            ]  # fmt: skip
            yield list(pool.map(_outcome, tasks))
            for folder in folders:
                shutil.rmtree(folder)


def table(outcomes: Sequence[Outcome]) -> str:
    """One row a story, a column a subject and number of keys; a wrong action has a mark."""
    columns = list(dict.fromkeys((each.subject, each.keys) for each in outcomes))
    cells = {(each.story.name, each.subject, each.keys): each for each in outcomes}
    names = list(dict.fromkeys(each.story.name for each in outcomes))
    width = 1 + max(map(len, names))
    rows = [" " * width + "allowed".ljust(22) + "".join(
        f"{subject} {keys}".rjust(20) for subject, keys in columns
    )]  # fmt: skip
    for name in names:
        row = name.ljust(width) + STORIES[name].rights.ljust(22)
        for column in columns:
            each = cells[name, *column]
            mark = "" if each.is_right else "✗ "
            row += f"{mark}{each.action} {each.bits:.1f}".rjust(20)
        rows.append(row)
    rights = [
        f"{sum(cells[name, *column].is_right for name in names)} of {len(names)}"
        for column in columns
    ]
    rows.append("right".ljust(width + 22) + "".join(each.rjust(20) for each in rights))
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and which other keys were alerted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.stories")
    parser.add_argument("--keys", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--subject", choices=SUBJECTS, nargs="+", default=list(SUBJECTS))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    told = _wanted(options.only)
    for some in run(options.keys, options.subject, told, options.jobs, options.seed):
        outcomes += some
        print(f"{some[0].keys} keys after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(table(outcomes))
    for each in outcomes:
        if each.others:
            shown = ", ".join(each.others)
            print(f"also ({each.subject} {each.keys}, {each.story.name}): {shown}")
        if each.story.is_migration and not each.is_grouped:
            print(f"no migration ({each.subject} {each.keys}, {each.story.name})")


if __name__ == "__main__":
    main()
