"""Who owns keys: teams with offices, clouds, staff lines and the objects they watch."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np

from . import places
from .places import AddressBook, Network, Source

KEYS_PER_OWNER = 6.0
COUNTRIES: dict[str, float] = {
    "DE": 16, "US": 24, "GB": 12, "FR": 8, "NL": 6, "PL": 4, "ES": 4, "IT": 4, "SE": 4, "CA": 5,
    "BR": 3, "IN": 5, "JP": 3, "AU": 4, "CH": 3, "AT": 2, "IE": 2,
}  # fmt: skip
CLOUD_REGIONS_NEAR: dict[str, str] = {
    "DE": "DE", "AT": "DE", "CH": "DE", "FR": "FR", "GB": "GB", "IE": "IE", "NL": "NL",
    "PL": "DE", "ES": "ES", "IT": "DE", "SE": "SE", "US": "US", "CA": "CA", "BR": "BR",
    "IN": "IN", "JP": "JP", "AU": "AU",
}  # fmt: skip
BIG_CLOUDS = (16509, 14618, 8075, 396982)
HOSTING_SHARE = 0.1
"""Share of the owners' clouds that are machines at a smaller hosting provider."""
OFFICE_VPN_SHARE = 0.1
"""Share of offices that leave through a shared VPN."""

_TEAMS = (
    "billing", "checkout", "search", "identity", "platform", "data", "mobile", "edge", "growth",
    "infra", "observability", "payments", "logistics", "catalog", "media", "support",
    "messaging", "security", "storefront", "warehouse", "ledger", "analytics", "partner",
    "onboarding", "content", "risk", "fraud", "pricing", "routing", "fleet",
)  # fmt: skip
_BASE32 = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))


@dataclass
class Owner:
    """A team. Its keys share offices, clouds, staff lines and objects."""

    name: str
    country: str
    offices: list[Source]
    clouds: list[Network]
    egress: list[Source]
    """The fixed way out of each cloud, beside `clouds`."""
    homes: list[Network]
    mobile: Network
    vpn: Network
    objects: dict[str, list[str]]
    """Object kind → ids, oldest first. Alerts and reports come into being over the whole span."""

    @property
    def utc_offset_hours(self) -> int:
        return places.UTC_OFFSET_HOURS[self.country]


def make_owners(rng: np.random.Generator, count: int, weeks: int, book: AddressBook) -> list[Owner]:
    """`count` owners; alert and report ids suffice for `weeks`."""
    names, weights = list(COUNTRIES), np.array(list(COUNTRIES.values()))
    drawn = rng.choice(len(names), size=count, p=weights / weights.sum())
    return [_owner(rng, i, names[int(c)], weeks, book) for i, c in enumerate(drawn)]


def _owner(
    rng: np.random.Generator, number: int, country: str, weeks: int, book: AddressBook
) -> Owner:
    team = _TEAMS[number % len(_TEAMS)]
    name = team if number < len(_TEAMS) else f"{team}-{number // len(_TEAMS) + 1}"
    offices = [make_office(rng, country, book)]
    if rng.random() < 0.2:
        offices.append(make_office(rng, country, book))
    clouds = [near_cloud(rng, country)]
    if rng.random() < 0.35:
        clouds.append(near_cloud(rng, country))
    return Owner(
        name=f"team-{name}",
        country=country,
        offices=offices,
        clouds=clouds,
        egress=[places.fixed(rng, cloud, int(rng.integers(1, 4))) for cloud in clouds],
        homes=[places.pick_network(rng, "isp", country) for _ in range(3)],
        mobile=places.pick_network(rng, "mobile", country),
        vpn=places.pick_network(rng, "vpn"),
        objects=make_objects(rng, weeks),
    )


def make_office(rng: np.random.Generator, country: str, book: AddressBook) -> Source:
    """An office line: one to three fixed addresses; one in twelve speaks IPv6."""
    kinds = "vpn" if rng.random() < OFFICE_VPN_SHARE else "business isp"
    network = places.pick_network(rng, kinds, country)
    if rng.random() < 1 / 12:
        return places.fixed_v6(rng, network, book)
    return places.fixed(rng, network, int(rng.integers(1, 4)))


def near_cloud(rng: np.random.Generator, country: str, without: tuple[int, ...] = ()) -> Network:
    """A cloud region an owner in the country would take; mostly of the large providers."""
    region = CLOUD_REGIONS_NEAR[country] if rng.random() < 0.75 else "US"
    if rng.random() < HOSTING_SHARE:
        return places.pick_network(rng, "hosting", region, without=without)
    near = [n for n in places.networks_of("cloud", region) if n.asn not in without]
    if not near:
        return places.pick_network(rng, "cloud", without=without)
    weights = np.array([4.0 if n.asn in BIG_CLOUDS else 1.0 for n in near])
    return near[int(rng.choice(len(near), p=weights / weights.sum()))]


def make_objects(rng: np.random.Generator, weeks: int) -> dict[str, list[str]]:
    """Ids of everything a team watches."""
    first = int(rng.integers(1_000, 900_000))
    checks = first + np.cumsum(rng.integers(1, 9, size=int(rng.integers(40, 260))))
    return {
        "check": [str(c) for c in checks],
        "alert": _ids(rng, "alr_", 12 * weeks + 20),
        "channel": _ids(rng, "ch_", int(rng.integers(3, 12)), 8),
        "metric": _ids(rng, "mtr_", int(rng.integers(20, 80)), 8),
        "page": _ids(rng, "sp_", 3, 8),
        "report": [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(3 * weeks + 5)],
        "member": _ids(rng, "mem_", int(rng.integers(5, 40)), 10),
        "key": [f"key_{int(n):07d}" for n in rng.integers(1_000_000, size=12)],
    }


def _ids(rng: np.random.Generator, prefix: str, count: int, length: int = 10) -> list[str]:
    letters = _BASE32[rng.integers(32, size=(count, length))]
    return [prefix + "".join(row) for row in letters]
