"""Where requests come from: real networks, prefixes of theirs, and sources of addresses.

IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0.
An address is an int64 code: an IPv4 address is its number, an IPv6 address is negative and
stands in the `AddressBook`.
"""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

DAY_US = 86_400_000_000
WEEK_US = 7 * DAY_US
HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
SECOND_US = 1_000_000

NETWORKS_FILE = Path(__file__).parent / "networks.csv"

# Hours ahead of UTC in September. Countries not listed take no part as owners or travellers' ends.
UTC_OFFSET_HOURS: dict[str, int] = {
    "DE": 2, "US": -5, "GB": 1, "FR": 2, "NL": 2, "PL": 2, "ES": 2, "IT": 2, "SE": 2, "CH": 2,
    "AT": 2, "IE": 1, "CA": -4, "BR": -3, "IN": 5, "JP": 9, "AU": 10, "SG": 8, "MX": -6, "KR": 9,
    "PT": 1, "CZ": 2, "TR": 3, "ZA": 2, "DK": 2, "NO": 2, "FI": 3, "BE": 2, "RO": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network in one country: its class, number, holder and some of its prefixes."""

    kind: str
    asn: int
    organisation: str
    country: str
    prefixes: tuple[tuple[int, int], ...]
    """(first address, prefix length) of IPv4 prefixes."""
    prefixes_v6: tuple[tuple[int, int], ...]


@cache
def networks() -> tuple[Network, ...]:
    """All networks of `networks.csv`, in the file's order."""
    with NETWORKS_FILE.open(encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return tuple(
            Network(
                row["class"],
                int(row["asn"]),
                row["organisation"],
                row["country"],
                tuple(_first_and_length(text) for text in row["prefixes"].split()),
                tuple(_first_and_length(text) for text in row["prefixes_v6"].split()),
            )
            for row in rows
        )


def _first_and_length(text: str) -> tuple[int, int]:
    net = ipaddress.ip_network(text)
    return int(net.network_address), net.prefixlen


@cache
def networks_of(kinds: str, country: str | None = None) -> tuple[Network, ...]:
    """Networks of the classes (space between), in one country or in all."""
    wanted = kinds.split()
    return tuple(
        n for n in networks() if n.kind in wanted and (country is None or n.country == country)
    )


def pick_network(
    rng: np.random.Generator, kinds: str, country: str | None = None, *, without: Sequence[int] = ()
) -> Network:
    """One network at random, of the classes and country, whose ASN is not in `without`.

    Where the country has none of the class, any country serves.
    """
    for place in (country, None):
        fitting = [n for n in networks_of(kinds, place) if n.asn not in without]
        if fitting:
            return fitting[int(rng.integers(len(fitting)))]
    raise LookupError(f"networks.csv has no network of class {kinds!r} left")


@dataclass
class AddressBook:
    """Gives IPv6 addresses their negative codes and all codes their text."""

    texts: list[str] = field(default_factory=list)
    _codes: dict[int, int] = field(default_factory=dict)

    def code_of_v6(self, number: int) -> int:
        code = self._codes.get(number)
        if code is None:
            self.texts.append(str(ipaddress.IPv6Address(number)))
            code = self._codes[number] = -len(self.texts)
        return code

    def text(self, code: int) -> str:
        if code < 0:
            return self.texts[-code - 1]
        return f"{code >> 24}.{code >> 16 & 255}.{code >> 8 & 255}.{code & 255}"


def mix64(values: Ints, salt: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 of `values` under `salt`: the same inputs give the same 64 bits."""
    with np.errstate(over="ignore"):
        x = values.astype(np.uint64) + np.uint64(int(salt) & (2**64 - 1))
        x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Source:
    """Gives the address of each session.

    `fixed`: one of `pool`, by session. `leased`: an address out of `blocks` that changes every
    `lease_days`. `fresh`: another address out of `blocks` for each session.
    """

    network: Network
    pool: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    """(first address, size) of IPv4 blocks."""
    lease_days: float = 0.0
    v6: bool = False
    salt: int = 0

    def draw(self, sessions: Ints, starts_us: Ints, book: AddressBook) -> Ints:
        """Address codes of sessions numbered `sessions` that begin at `starts_us`."""
        if self.pool:
            bits = mix64(sessions, self.salt)
            # The first address of a pool carries most of the load.
            at = np.where(bits % np.uint64(10) < 7, 0, bits // np.uint64(10) % len(self.pool))
            return np.asarray(self.pool, dtype=np.int64)[at.astype(np.int64)]
        if self.lease_days:
            phase_us = self.salt % DAY_US
            ticks = (starts_us + phase_us) // int(self.lease_days * DAY_US)
        else:
            ticks = sessions
        bits = mix64(ticks, self.salt)
        if self.v6:
            return self._draw_v6(bits, book)
        first = np.asarray([b[0] for b in self.blocks], dtype=np.int64)
        size = np.asarray([b[1] for b in self.blocks], dtype=np.uint64)
        at = (bits % np.uint64(len(self.blocks))).astype(np.int64)
        host = (bits >> np.uint64(16)) % (size[at] - np.uint64(2))
        return first[at] + 1 + host.astype(np.int64)

    def _draw_v6(self, bits: npt.NDArray[np.uint64], book: AddressBook) -> Ints:
        net, length = self.network.prefixes_v6[self.salt % len(self.network.prefixes_v6)]
        # A customer keeps one /64; the interface part changes as privacy addresses do.
        subnet = (self.salt >> 8) % (1 << (64 - length)) << 64
        distinct, back = np.unique(bits, return_inverse=True)
        codes = [book.code_of_v6(net + subnet + int(b)) for b in distinct]
        return np.asarray(codes, dtype=np.int64)[back]


def _salt(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 62))


def _subnet(rng: np.random.Generator, network: Network, length: int) -> tuple[int, int]:
    """(first address, size) of a random subnet of the length, or the prefix if that is smaller."""
    first, own = network.prefixes[int(rng.integers(len(network.prefixes)))]
    if own >= length:
        return first, 1 << (32 - own)
    size = 1 << (32 - length)
    return first + int(rng.integers(1 << (length - own))) * size, size


def fixed(rng: np.random.Generator, network: Network, count: int = 1) -> Source:
    """`count` unchanging IPv4 addresses in one /24 of the network."""
    first, size = _subnet(rng, network, 24)
    hosts = rng.choice(size - 2, size=min(count, size - 2), replace=False)
    return Source(network, pool=tuple(first + 1 + int(h) for h in hosts), salt=_salt(rng))


def fixed_v6(rng: np.random.Generator, network: Network, book: AddressBook) -> Source:
    """One unchanging IPv6 address, or an IPv4 one where the network has no IPv6 prefix."""
    if not network.prefixes_v6:
        return fixed(rng, network)
    net, length = network.prefixes_v6[0]
    subnet = int(rng.integers(1 << min(60, 64 - length))) << 64
    code = book.code_of_v6(net + subnet + int(rng.integers(1, 1 << 16)))
    return Source(network, pool=(code,), salt=_salt(rng))


def leased(rng: np.random.Generator, network: Network, *, days: float, v6: bool = False) -> Source:
    """A home line: a new address every `days` out of two regional pools (or one IPv6 /64)."""
    blocks = tuple(_subnet(rng, network, 21) for _ in range(2))
    usable_v6 = v6 and bool(network.prefixes_v6)
    return Source(network, blocks=blocks, lease_days=days, v6=usable_v6, salt=_salt(rng))


def fresh(rng: np.random.Generator, network: Network, *, blocks: int, length: int) -> Source:
    """Another address each session, out of `blocks` subnets of the prefix length."""
    drawn = tuple(_subnet(rng, network, length) for _ in range(blocks))
    return Source(network, blocks=drawn, salt=_salt(rng))
