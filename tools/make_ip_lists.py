"""Make data/ip-lists from the public lists of hosting, VPN and relay ranges.

    python tools/make_ip_lists.py SOURCE [OUT]

SOURCE holds the lists as `x4bnet_*.txt.gz` and `ipranges_*.txt.gz` (one CIDR or ASN a line);
OUT is data/ip-lists of this checkout by default. Writes `ranges.parquet` (sorted, disjoint
ranges: first, last, class, provider) and `asns.csv` (asn, class, provider, name). Where
lists overlap, the first class of CLASSES holds, then the first provider of PROVIDERS.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from keywatch.load.origins import parse_address

OUT = Path(__file__).resolve().parents[1] / "data" / "ip-lists"
BUILT_ON = "2026-08-22"  # the day of both sources' commits
CLASSES = ("vpn", "relay", "hosting")
# OpenAI rents from Microsoft in ranges of its own, so it comes first; GitHub lists all of
# the Azure ranges its runners may get, which are anybody's, so it comes last.
PROVIDERS = (
    *("protonvpn", "apple", "openai", "amazon", "google", "microsoft", "digitalocean"),
    *("linode", "oracle", "vultr", "cloudflare", "github", None),
)
LISTS = {
    "x4bnet_vpn": ("vpn", None),
    "x4bnet_datacenter": ("hosting", None),
    "ipranges_protonvpn": ("vpn", "protonvpn"),
    "ipranges_apple-proxy": ("relay", "apple"),
} | {f"ipranges_{name}": ("hosting", name) for name in PROVIDERS[2:-1]}
ASN_PROVIDERS = {
    8075: "microsoft",
    14061: "digitalocean",
    14618: "amazon",
    15169: "google",
    16509: "amazon",
    20473: "vultr",
    31898: "oracle",
    62567: "digitalocean",
    63949: "linode",
    136787: "nordvpn",
    207137: "nordvpn",
    208172: "protonvpn",
    209854: "surfshark",
    396982: "google",
}
TOR_ASNS = {60729}  # the VPN list's own words: "Tor Servers (Tor exit nodes)"
# Vultr's list holds these special ranges (they are in its BGP filter); 6to4 is anybody's.
SIX_TO_FOUR = "2002::/16"
IPV4_MAPPED = 0xFFFF << 32


class Label(NamedTuple):
    """Who a range belongs to; the smaller place in CLASSES and PROVIDERS wins."""

    class_at: int
    provider_at: int


class Range(NamedTuple):
    first: int
    last: int
    label: Label


def read_lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())


def read_ranges(source: Path) -> Iterator[Range]:
    """Yield every global range as 128-bit numbers, IPv4 as IPv4-mapped IPv6."""
    for name, (class_name, provider) in LISTS.items():
        label = Label(CLASSES.index(class_name), PROVIDERS.index(provider))
        paths = sorted(source.glob(f"{name}_ipv?.txt.gz"))
        if not paths:
            raise SystemExit(f"{source}: no {name}_ipv4.txt.gz or {name}_ipv6.txt.gz in it")
        for path in paths:
            for line in read_lines(path):
                network = ip_network(line)
                is_global = parse_address(str(network.network_address)).kind == "global"
                if is_global and line != SIX_TO_FOUR:
                    base = IPV4_MAPPED if network.version == 4 else 0
                    first = base + int(network.network_address)
                    yield Range(first, base + int(network.broadcast_address), label)


def flatten(ranges: list[Range]) -> list[Range]:
    """Cut overlapping ranges into disjoint ones, each with its strongest label."""
    changes = sorted(
        [(each.first, 1, each.label) for each in ranges]
        + [(each.last + 1, -1, each.label) for each in ranges]
    )
    flat: list[Range] = []
    active: Counter[Label] = Counter()
    previous = 0
    for at, change, label in changes:
        if active and at > previous:
            best = min(active)
            if flat and flat[-1].last + 1 == previous and flat[-1].label == best:
                flat[-1] = flat[-1]._replace(last=at - 1)
            else:
                flat.append(Range(previous, at - 1, best))
        active[label] += change
        if not active[label]:
            del active[label]
        previous = at
    return flat


def to_table(flat: list[Range]) -> pa.Table:
    labels = pa.dictionary(pa.int8(), pa.string())
    columns = {
        "first": pa.array([each.first.to_bytes(16) for each in flat], pa.binary(16)),
        "last": pa.array([each.last.to_bytes(16) for each in flat], pa.binary(16)),
        "class": pa.array([CLASSES[each.label.class_at] for each in flat]).cast(labels),
        "provider": pa.array([PROVIDERS[each.label.provider_at] or "" for each in flat]).cast(
            labels
        ),
    }
    return pa.table(columns).replace_schema_metadata({"built_on": BUILT_ON})


def read_asns(source: Path) -> list[tuple[int, str, str, str]]:
    """Return (asn, class, provider or "", name), by number; VPN before datacenter."""
    rows: dict[int, tuple[int, str, str, str]] = {}
    for name, class_name in (("datacenter", "hosting"), ("vpn", "vpn")):
        for line in read_lines(source / f"x4bnet_asn_{name}_ASN.txt.gz"):
            number, _, comment = line.partition("#")
            asn = int(number.strip().removeprefix("AS"))
            kind = "tor" if asn in TOR_ASNS else class_name
            rows[asn] = (asn, kind, ASN_PROVIDERS.get(asn, ""), comment.strip("# "))
    unlisted = set(ASN_PROVIDERS) - set(rows)
    if unlisted:
        raise SystemExit(f"ASN_PROVIDERS names {sorted(unlisted)}, which no list holds")
    return [rows[asn] for asn in sorted(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    options = parser.parse_args()
    pq.write_table(
        to_table(flatten(list(read_ranges(options.source)))),
        options.out / "ranges.parquet",
        compression="zstd",
        compression_level=19,
        use_dictionary=["class", "provider"],
        column_encoding={"first": "DELTA_BYTE_ARRAY", "last": "DELTA_BYTE_ARRAY"},
    )
    with (options.out / "asns.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("asn", "class", "provider", "name"))
        writer.writerows(read_asns(options.source))


if __name__ == "__main__":
    main()
