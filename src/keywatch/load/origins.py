"""Origins: what an address is, where it is, and whose network it belongs to.

The only module that reads GeoIP databases. It reads addresses as logs write them, looks up
the distinct ones in GeoIP2-layout databases (the user's own before the bundled DB-IP Lite)
and in the bundled hosting and VPN lists, and gives one table. No lake in here.
"""

from __future__ import annotations

import csv
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from functools import cache
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import geoip2.database
import maxminddb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from geoip2.errors import AddressNotFoundError

from keywatch.content import content_path
from keywatch.errors import ContentError, GeoIPError
from keywatch.vendors import service_words

__all__ = [
    "ATTRIBUTION",
    "ATTRIBUTION_URL",
    "ORIGIN_CLASSES",
    "ORIGIN_SCHEMA",
    "DatabaseInfo",
    "GeoIPPaths",
    "OriginReader",
    "ParsedAddress",
    "parse_address",
    "prefix_of",
]

ATTRIBUTION = "IP Geolocation by DB-IP"
ATTRIBUTION_URL = "https://db-ip.com"

AddressKind = Literal["global", "private", "reserved", "service", "invalid", "none"]

ORIGIN_CLASSES = (
    *("tor", "vpn", "proxy", "relay", "hosting", "isp", "unknown"),
    *("private", "reserved", "service", "invalid", "none"),
)

ORIGIN_SCHEMA = pa.schema(
    [
        pa.field("address", pa.string(), nullable=False),
        pa.field("ip", pa.string()),
        pa.field("prefix", pa.string()),
        pa.field("asn", pa.int64()),
        pa.field("organization", pa.string()),
        pa.field("country", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("accuracy_km", pa.int32()),
        pa.field("class", pa.string(), nullable=False),
        pa.field("provider", pa.string()),
        pa.field("located", pa.bool_(), nullable=False),
        pa.field("database", pa.string()),
        pa.field("built_on", pa.date32()),
        pa.field("asked", pa.string()),
    ]
)


# --- addresses ---------------------------------------------------------------------------

_LONGEST_HOST = 253
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::([0-9]{1,5}))?")
_HOST_PORT = re.compile(r"([^:]*):([0-9]{1,5})")
_HOST_NAME = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])\.?",
    re.IGNORECASE | re.ASCII,
)

# IANA special-purpose address registries, IPv4 and IPv6; the first range that fits decides.
# CGNAT (100.64.0.0/10) counts as private. Teredo, 6to4 and NAT64 pass as plain IPv6.
_SPECIAL: dict[int, tuple[tuple[str, AddressKind], ...]] = {
    4: (
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("0.0.0.0/8", "reserved"),
        ("127.0.0.0/8", "reserved"),
        ("169.254.0.0/16", "reserved"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/3", "reserved"),
        ("0.0.0.0/0", "global"),
    ),
    6: (
        ("2001:2::/48", "reserved"),
        ("2001:10::/28", "reserved"),
        ("2001:20::/28", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("3fff::/20", "reserved"),
        ("2000::/3", "global"),
        ("64:ff9b::/96", "global"),
        ("64:ff9b:1::/48", "private"),
        ("fc00::/7", "private"),
        ("fec0::/10", "private"),
        ("::/0", "reserved"),
    ),
}
_MAPPED = bytes(10) + b"\xff\xff"
_IPV4_BASE = int.from_bytes(_MAPPED + bytes(4))


def _bounds(text: str) -> tuple[int, int]:
    """Return the first and last address of a network as numbers, IPv4 as IPv4-mapped."""
    network = ip_network(text)
    base = _IPV4_BASE if network.version == 4 else 0
    return base + int(network.network_address), base + int(network.broadcast_address)


_SPECIAL_BOUNDS: dict[int, list[tuple[int, int, AddressKind]]] = {
    version: [(*_bounds(text), kind) for text, kind in ranges]
    for version, ranges in _SPECIAL.items()
}

_ORDINARY_OCTETS = frozenset(
    str(octet)
    for octet in range(256)
    if not any(
        first >> 24 <= (_IPV4_BASE >> 24) + octet <= last >> 24
        for first, last, kind in _SPECIAL_BOUNDS[4]
        if kind != "global"
    )
)
"""What IPv4 addresses begin with that are global, whatever follows: most are of these."""
_ORDINARY = rf"^(?:{'|'.join(sorted(_ORDINARY_OCTETS))})(?:\.{_OCTET}){{3}}$"
"""These, for RE2."""


@dataclass(frozen=True, slots=True)
class ParsedAddress:
    """What a log's address field holds.

    `ip` is canonical (lower case, shortest form, no port, no zone) and `version` 4 or 6 for
    the kinds global, private and reserved; both are None for service, invalid and none.
    """

    text: str
    ip: str | None
    version: Literal[4, 6] | None
    kind: AddressKind


def parse_address(text: str) -> ParsedAddress:
    """Read an address as logs write it; never raises, whatever the text.

    Takes spaces around it, a port (`1.2.3.4:443`, `[2001:db8::1]:443`), brackets, a zone
    id, either case; an IPv4-mapped IPv6 address becomes the IPv4 one. Host names and
    a vendor's `service_addresses` are of kind `service`. Leading zeros are `invalid`:
    readers disagree whether they mean octal.
    """
    if text.partition(".")[0] in _ORDINARY_OCTETS and _IPV4.fullmatch(text):
        return ParsedAddress(text, text, 4, "global")
    host = _without_port(text.strip())
    if host is None or len(host) > _LONGEST_HOST:
        return ParsedAddress(text, None, None, "invalid")
    if not host:
        return ParsedAddress(text, None, None, "none" if not text.strip() else "invalid")
    ip = _canonical(host)
    if ip is None:
        is_service = host.lower() in service_words() or _HOST_NAME.fullmatch(host) is not None
        return ParsedAddress(text, None, None, "service" if is_service else "invalid")
    version: Literal[4, 6] = 6 if ":" in ip else 4
    number = int.from_bytes(_packed(ip))
    for first, last, kind in _SPECIAL_BOUNDS[version]:
        if first <= number <= last:
            return ParsedAddress(text, ip, version, kind)
    raise AssertionError(f"no special range of IPv{version} holds {ip}")


def _without_port(text: str) -> str | None:
    """Strip brackets and the port; None when either is malformed."""
    if text.startswith("["):
        match = _BRACKETED.fullmatch(text)
    elif text.count(":") == 1:
        match = _HOST_PORT.fullmatch(text)
    else:
        return text
    if match is None or int(match[2] or 0) > 65535:
        return None
    host: str = match[1]
    return host


def _canonical(host: str) -> str | None:
    """Return the canonical text of a bare address, or None when it isn't one."""
    if ":" not in host:
        return host if _IPV4.fullmatch(host) else None
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return None
    if packed.startswith(_MAPPED):
        return socket.inet_ntoa(packed[12:])
    if packed.startswith(bytes(8)):
        return str(IPv6Address(packed))  # systems write ::1.2.3.4 in different ways
    return socket.inet_ntop(socket.AF_INET6, packed)


def _packed(ip: str) -> bytes:
    """Return a canonical address as 16 bytes that sort as it does, IPv4 as IPv4-mapped."""
    if ":" in ip:
        return socket.inet_pton(socket.AF_INET6, ip)
    return _MAPPED + socket.inet_aton(ip)


def prefix_of(ip: str) -> str:
    """Return the /24 (IPv4) or /48 (IPv6) that an address lies in: `203.0.113.0/24`.

    Raises ValueError when `ip` isn't a bare address, as `ParsedAddress.ip` gives it.
    """
    bare = _canonical(ip)
    if bare is None:
        raise ValueError(f"{ip!r} is not an IP address")
    if ":" not in bare:
        return bare.rpartition(".")[0] + ".0/24"
    return socket.inet_ntop(socket.AF_INET6, _packed(bare)[:6] + bytes(10)) + "/48"


class _Parsed(NamedTuple):
    """Address texts as columns of equal length, as `ParsedAddress` has them."""

    text: pa.StringArray
    ip: pa.StringArray
    kind: pa.StringArray

    @classmethod
    def of(cls, addresses: Sequence[str]) -> Self:
        """The distinct ones of `addresses`, in their order; ordinary ones are read at once."""
        text = pa.array([*dict.fromkeys(addresses)], pa.string())
        others = pc.invert(pc.match_substring_regex(text, _ORDINARY))
        parsed = [parse_address(one) for one in text.filter(others).to_pylist()]
        ips, kinds = [one.ip for one in parsed], [one.kind for one in parsed]
        return cls(
            text,
            pc.replace_with_mask(text, others, pa.array(ips, pa.string())),
            pc.replace_with_mask(
                pa.repeat(pa.scalar("global"), len(text)), others, pa.array(kinds, pa.string())
            ),
        )

    def prefixes(self) -> pa.StringArray:
        """`prefix_of` each address."""
        short = pc.replace_substring_regex(self.ip, r"\.[0-9]+$", ".0/24")
        is_ipv6 = pc.match_substring(self.ip, ":").fill_null(False)
        long = [prefix_of(ip) for ip in self.ip.filter(is_ipv6).to_pylist()]
        return pc.replace_with_mask(short, is_ipv6, pa.array(long, pa.string()))


# --- the hosting and VPN lists -----------------------------------------------------------

# Who says what, strongest first: a place in this order, not a score. The user's
# Anonymous-IP flags come before the bundled lists; a hosting range comes last, since
# relays and VPNs run on hosting.
_TOR, _VPN_FLAG, _PROXY, _VPN_LIST, _RELAY, _HOSTING, _ISP, _UNKNOWN = range(8)
_CLASS_OF_RANK = np.array(
    ["tor", "vpn", "proxy", "vpn", "relay", "hosting", "isp", "unknown"], dtype=object
)
_RANK_OF_LIST = {"tor": _TOR, "vpn": _VPN_LIST, "relay": _RELAY, "hosting": _HOSTING}

_Bytes16 = npt.NDArray[np.bytes_]
_Ints = npt.NDArray[np.int64]
_Names = npt.NDArray[np.object_]
_NO_NAME: _Names = np.array(None, dtype=object)


class _Lists:
    """The bundled ranges and ASNs: who runs an address, by rank and provider."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        table = _read_ranges(folder / "ranges.parquet")
        self.built_on = date.fromisoformat(table.schema.metadata[b"built_on"].decode())
        self._first = _bytes16(table["first"])
        self._last = _bytes16(table["last"])
        classes, providers = _encoded(table["class"]), _encoded(table["provider"])
        self._rank = np.array([_RANK_OF_LIST[name] for name in classes.words])[classes.codes]
        names = np.array([name or None for name in providers.words], dtype=object)
        self._provider = names[providers.codes]
        with (folder / "asns.csv").open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["asn"]))
        self._asn = np.array([int(row["asn"]) for row in rows])
        self._asn_rank = np.array([_RANK_OF_LIST[row["class"]] for row in rows])
        self._asn_provider = np.array([row["provider"] or None for row in rows], dtype=object)

    def by_range(self, packed: _Bytes16) -> tuple[_Ints, _Names]:
        """Return rank and provider for each address (`_UNKNOWN` and None where unlisted)."""
        at = np.searchsorted(self._first, packed, side="right") - 1
        hit = (at >= 0) & (packed <= self._last[at])
        return np.where(hit, self._rank[at], _UNKNOWN), np.where(hit, self._provider[at], _NO_NAME)

    def by_asn(self, asns: _Ints) -> tuple[_Ints, _Names]:
        """Return rank and provider for each AS number, as `by_range` does."""
        at = np.minimum(np.searchsorted(self._asn, asns), len(self._asn) - 1)
        hit = self._asn[at] == asns
        rank = np.where(hit, self._asn_rank[at], _UNKNOWN)
        return rank, np.where(hit, self._asn_provider[at], _NO_NAME)


def _read_ranges(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise ContentError(
            f"{path}: {error}. Make it again with tools/make_ip_lists.py, or install again."
        ) from error


class _Encoded(NamedTuple):
    words: list[str]
    codes: npt.NDArray[np.int8]


def _encoded(column: pa.ChunkedArray) -> _Encoded:
    """Take a dictionary column without nulls apart; Arrow's own way would load pandas."""
    chunk = column.combine_chunks()
    codes = np.frombuffer(chunk.indices.buffers()[1], dtype=np.int8)
    return _Encoded(chunk.dictionary.to_pylist(), codes[chunk.offset : chunk.offset + len(chunk)])


def _bytes16(column: pa.ChunkedArray) -> _Bytes16:
    """View a column of 16-byte values as numpy bytes."""
    chunk = column.combine_chunks()
    data = np.frombuffer(chunk.buffers()[1], dtype="S16")
    return data[chunk.offset : chunk.offset + len(chunk)]


# --- the GeoIP databases -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GeoIPPaths:
    """The user's own GeoIP2-layout databases; what is None falls to the bundled ones.

    `asn` may be a GeoLite2-ASN or GeoIP2-ISP file, `anonymous_ip` an Anonymous-IP or
    Anonymous-Plus one.
    """

    city: Path | None = None
    country: Path | None = None
    asn: Path | None = None
    anonymous_ip: Path | None = None
    enterprise: Path | None = None


class DatabaseInfo(NamedTuple):
    """One database in use: its name, the UTC day it was built, and where it lies."""

    name: str
    built_on: date
    path: Path


class _Place(NamedTuple):
    country: str
    latitude: float | None
    longitude: float | None
    accuracy_km: int | None


class _Network(NamedTuple):
    asn: int
    organization: str | None


class _Anonymity(NamedTuple):
    rank: int
    provider: str | None


_NOT_SAID = _Anonymity(_UNKNOWN, None)


class _Said(NamedTuple):
    """What one database says of one address."""

    place: _Place | None = None
    network: _Network | None = None
    anonymity: _Anonymity | None = None


_NOTHING = _Said()


@cache
def _middles_of_countries() -> dict[str, _Place]:
    """Where a country's people live, and within how many km of it 95 % of them do."""
    with content_path("data/geoip/countries.csv").open(encoding="utf-8") as file:
        return {
            row["country"]: _Place(
                row["country"],
                float(row["latitude"]),
                float(row["longitude"]),
                int(row["accuracy_km"]),
            )
            for row in csv.DictReader(file)
        }


def _said_of_place(model: Any) -> _Said:
    """Read a Country, City or Enterprise answer."""
    location = getattr(model, "location", None)
    country = model.country.iso_code
    place = None
    if country and location and location.latitude is not None:
        place = _Place(country, location.latitude, location.longitude, location.accuracy_radius)
    elif country:
        place = _middles_of_countries().get(country, _Place(country, None, None, None))
    return _Said(place, _network_in(model.traits), _anonymity_in(model.traits))


def _said_of_network(model: Any) -> _Said:
    """Read an ASN or ISP answer."""
    return _Said(network=_network_in(model))


def _said_of_anonymity(model: Any) -> _Said:
    """Read an Anonymous-IP or Anonymous-Plus answer."""
    return _Said(anonymity=_anonymity_in(model))


def _network_in(record: Any) -> _Network | None:
    asn = record.autonomous_system_number
    return None if asn is None else _Network(asn, record.autonomous_system_organization)


def _anonymity_in(record: Any) -> _Anonymity | None:
    for rank, is_so in (
        (_TOR, record.is_tor_exit_node),
        (_VPN_FLAG, record.is_anonymous_vpn),
        (_PROXY, record.is_public_proxy or record.is_residential_proxy),
        (_HOSTING, record.is_hosting_provider),
    ):
        if is_so:
            return _Anonymity(rank, getattr(record, "provider_name", None))
    return None


class _Layout(NamedTuple):
    """How to read one type of database, known by a word in its `database_type`."""

    method: str
    read: Callable[[Any], _Said]
    says: frozenset[str]


_LAYOUTS = {
    "Enterprise": _Layout("enterprise", _said_of_place, frozenset(_Said._fields)),
    "City": _Layout("city", _said_of_place, frozenset({"place"})),
    "Country": _Layout("country", _said_of_place, frozenset({"place"})),
    "GeoLite2-ASN": _Layout("asn", _said_of_network, frozenset({"network"})),
    "GeoIP2-ISP": _Layout("isp", _said_of_network, frozenset({"network"})),
    "GeoIP2-Anonymous-IP": _Layout("anonymous_ip", _said_of_anonymity, frozenset({"anonymity"})),
    "GeoIP-Anonymous-Plus": _Layout("anonymous_plus", _said_of_anonymity, frozenset({"anonymity"})),
}
# In order of precedence for each thing said.
_ROLES = {
    "enterprise": ("Enterprise",),
    "city": ("City",),
    "country": ("Country",),
    "asn": ("GeoLite2-ASN", "GeoIP2-ISP"),
    "anonymous_ip": ("GeoIP2-Anonymous-IP", "GeoIP-Anonymous-Plus"),
}
_BUNDLED = {
    "country": "data/geoip/dbip-country-lite.mmdb",
    "asn": "data/geoip/dbip-asn-lite.mmdb",
}


@contextmanager
def _private_copy(path: Path) -> Iterator[Path]:
    """The file to open in place of a database of the user's: one that nobody overwrites.

    It is read by mapping it into memory, and the process would die by a signal when the file gets
    shorter meanwhile. Once it is open it needs no name. The bundled ones are nobody's to overwrite.
    """
    if path in map(_bundled, _BUNDLED):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="keywatch-geoip-") as folder:
        yield Path(shutil.copy(path, folder))


def _read(path: Path) -> tuple[geoip2.database.Reader, date]:
    """A reader of the database, and the day that it was built on (UTC)."""
    try:
        with _private_copy(path) as copy:
            reader = geoip2.database.Reader(copy)
        return reader, datetime.fromtimestamp(reader.metadata().build_epoch, UTC).date()
    except (OSError, ValueError, OverflowError, maxminddb.InvalidDatabaseError) as error:
        # It names the copy, which is gone by now.
        raise _damaged(path, re.sub(r"\S*/keywatch-geoip-[^/]*/", "", str(error))) from error


def _damaged(path: Path, why: str) -> GeoIPError:
    mend = "download it again" if path.is_file() else "correct the path"
    return GeoIPError(
        f"{path}: can't be read as a GeoIP database ({why}); {mend}, or remove it "
        "from the GeoIP settings to use the bundled one"
    )


def role_of(path: Path) -> str:
    """The GeoIP setting that a database is for, by its type, such as ``city``.

    Raises:
        GeoIPError: it can't be read, or is of a type that no setting is for.
    """
    reader, _ = _read(path)
    with reader:
        kind = reader.metadata().database_type
    for role, words in _ROLES.items():
        if any(word in kind for word in words):
            return role
    known = ", ".join(word for words in _ROLES.values() for word in words)
    raise GeoIPError(f"{path}: is a {kind!r} database; expected is one of {known}")


class _Database:
    """One open database."""

    def __init__(self, role: str, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(".mmdb")
        self._reader, self.built_on = _read(path)
        metadata = self._reader.metadata()
        self._has_ipv6 = metadata.ip_version == 6
        kind = next((word for word in _ROLES[role] if word in metadata.database_type), None)
        if kind is None:
            self._reader.close()
            raise GeoIPError(
                f"{path}: is a {metadata.database_type!r} database; the GeoIP setting "
                f"`{role}` needs one of {', '.join(_ROLES[role])} in GeoIP2 layout"
            )
        self._layout = _LAYOUTS[kind]
        self.says = self._layout.says

    def look_up(self, packed: _Bytes16) -> tuple[list[_Said], _Ints]:
        """Return what it says, and which of that of each address; these must be sorted.

        A network is looked up once.
        """
        said: dict[_Said, int] = {}
        of_row = np.empty(len(packed), np.int64)
        row = 0
        while row < len(packed):
            one, last = self._look_up(packed[row].ljust(16, b"\0"))
            end = max(row + 1, int(np.searchsorted(packed, last, side="right")))
            of_row[row:end] = said.setdefault(one, len(said))
            row = end
        return [*said], of_row

    def _look_up(self, packed: bytes) -> tuple[_Said, bytes]:
        """What it says of an address, and the last address of which it says the same."""
        is_ipv4 = packed.startswith(_MAPPED)
        if not self._has_ipv6 and not is_ipv4:
            return _NOTHING, packed
        if is_ipv4:
            ip = socket.inet_ntoa(packed[12:])
        else:
            ip = socket.inet_ntop(socket.AF_INET6, packed)
        try:
            model = getattr(self._reader, self._layout.method)(ip)
            said, network = self._layout.read(model), getattr(model, "traits", model).network
        except AddressNotFoundError as error:
            said, network = _NOTHING, error.network
        except (maxminddb.InvalidDatabaseError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        return said, _packed(str(network.broadcast_address)) if network else packed

    def close(self) -> None:
        self._reader.close()


class _Known:
    """What is known of each distinct address, one row each, gathered database by database."""

    def __init__(self, packed: _Bytes16) -> None:
        """`packed` is sorted, each address once."""
        self.packed = packed
        self.values: dict[str, list[Any]] = {what: [None] for what in _Said._fields}
        """What databases said, of each of `_Said`; the first stands for nothing."""
        self.of_row = {what: np.zeros(len(packed), np.int64) for what in _Said._fields}
        """Which of the values is known of each row."""
        self.said_by = np.zeros(len(packed), np.int64)  # bit n: the nth database said something

    def ask(self, database: _Database, bit: int) -> None:
        """Fill in what is still lacking and this database can say."""
        rows = np.flatnonzero(np.any([self.of_row[what] == 0 for what in database.says], axis=0))
        answers, of_row = database.look_up(self.packed[rows])
        for what in database.says:
            values, known = self.values[what], self.of_row[what]
            said = [getattr(answer, what) for answer in answers]
            at = np.array([0 if one is None else len(values) + n for n, one in enumerate(said)])
            values += said
            new = at[of_row] if len(rows) else of_row
            lacking = (known[rows] == 0) & (new > 0)
            known[rows[lacking]] = new[lacking]
            self.said_by[rows[lacking]] |= 1 << bit

    def column(self, what: str, field: str) -> _Names:
        """A field of what is known of each row, None where nothing is."""
        values = [None if one is None else getattr(one, field) for one in self.values[what]]
        return _objects(values)[self.of_row[what]]

    @property
    def located(self) -> npt.NDArray[np.bool_]:
        """Whether the place or the network of each row is known."""
        return (self.of_row["place"] > 0) | (self.of_row["network"] > 0)

    def classify(self, lists: _Lists) -> tuple[_Names, _Names]:
        """Return class and provider of each address, the strongest source first."""
        asns = [one.asn if one else -1 for one in self.values["network"]]
        flags = [one or _NOT_SAID for one in self.values["anonymity"]]
        flagged = self.of_row["anonymity"]
        said = [
            (
                np.array([one.rank for one in flags])[flagged],
                _objects([one.provider for one in flags])[flagged],
            ),
            lists.by_range(self.packed),
            lists.by_asn(np.array(asns)[self.of_row["network"]]),
        ]
        best = np.where(self.located, _ISP, _UNKNOWN)
        for rank, _ in said:
            best = np.minimum(best, rank)
        classes = _CLASS_OF_RANK[best]
        provider = np.full(len(best), None, dtype=object)
        for rank, name in reversed(said):
            agrees = (_CLASS_OF_RANK[rank] == classes) & np.not_equal(name, _NO_NAME)
            provider = np.where(agrees, name, provider)
        return classes, provider


def _objects(values: list[Any]) -> _Names:
    """`values` as an array of objects, whatever they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


class OriginReader:
    """Looks addresses up in the user's and the bundled databases and the bundled lists.

    A context manager. The user's files come first, each for what it can say: place
    (Enterprise, City, Country), network (Enterprise, ASN), anonymity (Enterprise,
    Anonymous-IP); what they don't know of an address falls to the bundled DB-IP Lite.
    Raises GeoIPError, naming the file and the mend, when a database is missing, damaged or
    of another type; ContentError when a bundled file is missing.
    """

    def __init__(self, geoip: GeoIPPaths | None = None) -> None:
        paths = geoip or GeoIPPaths()
        assert {field.name for field in fields(paths)} == set(_ROLES)
        self._lists = _Lists(content_path("data/ip-lists"))
        self._open = ExitStack()
        self._databases: list[_Database] = []
        try:
            for role in _ROLES:
                for path in (getattr(paths, role), _bundled(role)):
                    if path is not None:
                        self._add(_Database(role, path))
        except GeoIPError:
            self.close()
            raise

    def _add(self, database: _Database) -> None:
        self._open.callback(database.close)
        self._databases.append(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the databases; the reader can't be used after."""
        self._open.close()

    @property
    def databases(self) -> list[DatabaseInfo]:
        """The databases in order of precedence, then the lists: what `keywatch doctor` shows."""
        used = [DatabaseInfo(each.name, each.built_on, each.path) for each in self._databases]
        return [*used, DatabaseInfo("ip-lists", self._lists.built_on, self._lists.path)]

    def locate(self, addresses: Sequence[str]) -> pa.Table:
        """Return one row of ORIGIN_SCHEMA for each distinct address text, in first-seen order.

        Only `global` addresses are looked up. `class` is the strongest of: tor, then the
        vpn/proxy flags of the user's Anonymous-IP data, then the bundled lists (vpn, relay,
        hosting), then `isp` for any other located address, `unknown` for the rest; texts
        that are no global address have their kind as class. `provider` is who runs the
        range, where the source of the class names it. `located` says that the country or
        the ASN is known; `database` which databases said so, joined by `+`; `built_on` the
        UTC build day of the oldest of them (null when none said anything). `asked` names all
        databases and lists that were asked, with their days.
        """
        parsed = _Parsed.of(addresses)
        is_global = pc.equal(parsed.kind, "global")
        packed = b"".join(map(_packed, parsed.ip.filter(is_global).to_pylist()))
        distinct, row_of = np.unique(np.frombuffer(packed, dtype="S16"), return_inverse=True)
        known = _Known(distinct)
        for bit, database in enumerate(self._databases):
            known.ask(database, bit)
        rows = np.full(len(parsed.text), -1)
        rows[is_global.to_numpy(zero_copy_only=False)] = row_of
        asked = ", ".join(f"{each.name} {each.built_on}" for each in self.databases)
        return _to_table(parsed, rows, known, known.classify(self._lists), self._databases, asked)


def _bundled(role: str) -> Path | None:
    return content_path(_BUNDLED[role]) if role in _BUNDLED else None


def _sources(bits: int, databases: Sequence[_Database]) -> tuple[str | None, date | None]:
    """Return the joined names and the oldest build day of the databases whose bit is set."""
    used = [database for bit, database in enumerate(databases) if bits >> bit & 1]
    names = "+".join(database.name for database in used)
    return names or None, min((database.built_on for database in used), default=None)


def _to_table(
    parsed: _Parsed,
    rows: _Ints,
    known: _Known,
    classified: tuple[_Names, _Names],
    databases: Sequence[_Database],
    asked: str,
) -> pa.Table:
    """Join the parsed texts with what is known of their addresses, as ORIGIN_SCHEMA.

    `rows` are those of `known`, -1 for an address that is not looked up.
    """

    def column(name: str, of_known: _Names) -> pa.Array:
        # Last, where -1 leads to.
        return pa.array(np.append(of_known, _NO_NAME)[rows], ORIGIN_SCHEMA.field(name).type)

    classes, providers = classified
    said_by, which = np.unique(known.said_by, return_inverse=True)
    sources = [_sources(int(bits), databases) for bits in said_by]
    located = np.append(known.located, False)[rows]
    columns = {
        "address": parsed.text,
        "ip": parsed.ip,
        "prefix": parsed.prefixes(),
        "class": pc.coalesce(column("class", classes), parsed.kind),
        "provider": column("provider", providers),
        "located": pa.array(located),
        "database": column("database", _objects([name for name, _ in sources])[which]),
        "built_on": column("built_on", _objects([built for _, built in sources])[which]),
        "asked": pa.repeat(pa.scalar(asked), len(rows)),
    }
    for what, kind in (("network", _Network), ("place", _Place)):
        columns |= {name: column(name, known.column(what, name)) for name in kind._fields}
    return pa.table([columns[name] for name in ORIGIN_SCHEMA.names], schema=ORIGIN_SCHEMA)
