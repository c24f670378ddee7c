"""Write `networks.csv`: real networks and some of their prefixes, from the bundled databases.

Run by hand when the databases are renewed:
`python -m keywatch.sample.make_networks GEOIP_DIR LISTS_DIR`.
A prefix is kept only when the whole of it is announced by one network, lies in one country
and does not contradict the public lists of hosting and VPN ranges.

IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0.
"""

from __future__ import annotations

import bisect
import csv
import gzip
import ipaddress
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import maxminddb

from .places import NETWORKS_FILE, AddressBook, networks

_V4 = dict[int, list[ipaddress.IPv4Network]]
_V6 = dict[int, list[ipaddress.IPv6Network]]

PREFIXES_PER_NETWORK = 10
PREFIXES_V6_PER_NETWORK = 2
MOST_MOVED_SHARE = 0.05
"""Prefixes change hands; more than this share of them means it is time to run this again."""
WIDEST_V4 = {
    "isp": 17,
    "mobile": 17,
    "business": 19,
    "cloud": 18,
    "hosting": 22,
    "vpn": 24,
    "tor": 24,
}
NARROWEST_V4 = 24
WIDEST_V6, NARROWEST_V6 = 32, 48

# class → "asn:COUNTRY,COUNTRY": the networks that are wanted. Countries are where the network's
# customers sit, for clouds the regions.
WANTED: dict[str, str] = {
    "isp": "3320:DE 3209:DE 6805:DE 8881:DE 7922:US 7018:US 20115:US 22773:US 5650:US "
    "5089:GB 2856:GB 5607:GB 13285:GB 3215:FR 12322:FR 5410:FR 15557:FR 3352:ES 12479:ES 12430:ES "
    "3269:IT 12874:IT 1136:NL 33915:NL 50266:NL 5617:PL 12741:PL 29314:PL 3301:SE 1257:SE "
    "577:CA 812:CA 852:CA 28573:BR 27699:BR 18881:BR 9829:IN 24560:IN 4713:JP 17676:JP 2516:JP "
    "1221:AU 7545:AU 4804:AU 3303:CH 6730:CH 8447:AT 8412:AT 5466:IE 15502:IE 8151:MX 17072:MX "
    "4766:KR 3786:KR 3243:PT 2860:PT 5610:CZ 16019:CZ 3292:DK 2119:NO 1759:FI 719:FI "
    "5432:BE 6848:BE 8708:RO 12389:RU 8359:RU 4134:CN 4837:CN 45899:VN 7552:VN 17974:ID 7303:AR "
    "9121:TR 47331:TR 3741:ZA 5713:ZA 9299:PH 6849:UA 13188:UA 37148:NG 36873:NG 7470:TH 9506:SG",
    "mobile": "21928:US 22394:US 20057:US 3209:DE 6805:DE 12576:GB 60339:GB 206067:GB 25135:GB "
    "51207:FR 25117:FR 16232:IT 30722:IT 50266:NL 31615:NL 39603:PL 8374:PL 44034:SE 55836:IN "
    "45609:IN 26599:BR 26615:BR 2516:JP 9605:JP 1221:AU 133612:AU 812:CA 3651:US 12430:ES "
    "3303:CH 8447:AT 15502:IE 28403:MX 9644:KR 13036:CZ 29465:NG 16135:TR 29975:ZA",
    "business": "174:US 3356:US 209:US 701:US 6461:US 4323:US 7029:US 20676:DE 8220:DE,FR,GB,ES,IT,"
    "NL,CH,IE 15366:DE 8893:DE 9145:DE 8928:GB 5413:GB 2818:GB 6871:GB 8218:FR 35632:FR 16347:FR "
    "15830:NL,GB 286:NL 12695:SE 2119:SE 39369:SE 1299:SE 8968:IT 12637:IT 13194:ES 6939:US "
    "6327:CA 5769:CA 6549:CA 16735:BR 4230:BR 9498:IN 4755:IN 17561:AU 9443:AU 4739:AU 2497:JP "
    "2914:JP 13030:CH 15796:CH 8437:AT 8245:AT 8473:SE 43766:PL 8865:PL 20960:PL 13237:DE 2110:IE "
    "6830:IE,NL,PL",
    "cloud": "16509:US,DE,IE,GB,FR,SE,JP,SG,AU,IN,BR,CA,ES,CH 14618:US 8075:US,NL,IE,GB,DE,FR,IN,"
    "AU,JP,SG,BR,CA,SE 396982:US,DE,BE,NL,GB,FI,JP,SG,IN,BR,AU,CA,PL 24940:DE,FI 16276:FR,CA,DE,"
    "PL,GB,US 14061:US,NL,GB,DE,SG,CA,IN 63949:US,GB,SG,DE,JP 20473:US,SG,NL,DE,JP,AU,GB "
    "31898:US,DE,GB,BR,JP 12876:FR,NL 51167:DE,GB 197540:DE,AT 45102:SG,HK,US 132203:HK,SG",
    "hosting": "202425:NL 62904:US 36352:US,NL 53667:US,LU 210644:SE,NL,FI,DE 49981:NL 58061:NL,FI "
    "30860:UA 200019:MD,NL 399629:NL,US 200651:RO 210558:NL,PL,US 29802:US,NL 46562:US "
    "61317:DE,GB 60404:NL 9123:RU 49505:RU 48282:RU 204428:US 207566:RU,US 134548:HK 135377:HK "
    "42831:GB 16125:LT 62282:LT 8100:US 23470:US 55286:US,CA 64267:US 395954:US 40021:US 206264:SC "
    "197414:KZ,NL 198953:NL 213790:IR 47890:RO,GB 51396:DE,NL 49870:NL 211252:SC,NL 44592:SK",
    "vpn": "9009:US,DE,GB,FR,NL,CH,RO,JP,SE,ES,IT,CA,SG,AU 212238:US,DE,GB,JP,FR,NL,SE,ES,IT,CA,PL,"
    "AU 60068:US,JP,DE,GB,CZ,FR,NL 39351:SE,DE,GB 137409:US,AU,SG,JP 207137:US,GB,DE,FR,NL "
    "136787:US,GB,DE,FR,NL,JP 209854:US,GB,DE,NL,FR 208172:US,CH,NL,DE 50525:US,CH,NL,DE",
    "tor": "60729:DE 208323:AT 401401:US 210558:NL 53667:US,LU",
}  # fmt: skip


@dataclass
class _Ranges:
    """Disjoint closed IPv4 ranges in rising order."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def add(self, start: int, end: int, value: str) -> None:
        if self.ends and self.ends[-1] + 1 == start and self.values[-1] == value:
            self.ends[-1] = end
            return
        self.starts.append(start)
        self.ends.append(end)
        self.values.append(value)

    def covering(self, start: int, end: int) -> str | None:
        """The value that holds for the whole of [start, end], else None."""
        at = bisect.bisect_right(self.starts, start) - 1
        return self.values[at] if at >= 0 and self.ends[at] >= end else None

    def touches(self, start: int, end: int) -> bool:
        at = bisect.bisect_right(self.starts, end) - 1
        return at >= 0 and self.ends[at] >= start


def main(geoip: Path, lists: Path) -> None:
    """Write the file from the databases in `geoip` and the range lists in `lists`."""
    countries, countries_v6 = _countries(geoip / "dbip-country-lite.mmdb")
    vpn = _listed(lists / "x4bnet_vpn_ipv4.txt.gz")
    hosting = _listed(lists / "x4bnet_datacenter_ipv4.txt.gz")
    wanted = [
        (kind, int(item.split(":")[0]), country)
        for kind, items in WANTED.items()
        for item in items.split()
        for country in item.split(":")[1].split(",")
    ]
    nets, nets_v6, names = _announced(geoip / "dbip-asn-lite.mmdb", {asn for _, asn, _ in wanted})
    with NETWORKS_FILE.open("w", newline="", encoding="utf-8") as out:
        out.write("# IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["class", "asn", "organisation", "country", "prefixes", "prefixes_v6"])
        taken: set[str] = set()
        for kind, asn, country in wanted:
            found = []
            for net in nets[asn]:
                net = _narrowed(net, WIDEST_V4[kind])
                start, end = int(net.network_address), int(net.broadcast_address)
                if countries.covering(start, end) != country or str(net) in taken:
                    continue
                if kind in ("isp", "mobile", "business") and (
                    vpn.touches(start, end) or hosting.touches(start, end)
                ):
                    continue
                if kind in ("cloud", "hosting") and vpn.touches(start, end):
                    continue
                if kind == "vpn" and not vpn.touches(start, end):
                    continue
                found.append(net)
            found.sort(key=lambda net: (net.prefixlen, int(net.network_address)))
            step = max(1, min(len(found) // PREFIXES_PER_NETWORK, 6))
            chosen = found[::step][:PREFIXES_PER_NETWORK]
            taken |= {str(net) for net in chosen}
            six = [net for net in nets_v6[asn] if countries_v6(net) == country]
            if not chosen:
                print(f"nothing for {kind} AS{asn} {country}", file=sys.stderr)
                continue
            writer.writerow(
                [
                    kind,
                    asn,
                    names[asn],
                    country,
                    " ".join(map(str, chosen)),
                    " ".join(map(str, six[:PREFIXES_V6_PER_NETWORK])),
                ]
            )


def _narrowed(net: ipaddress.IPv4Network, widest: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((int(net.network_address), max(net.prefixlen, widest)))


def _countries(
    path: Path,
) -> tuple[_Ranges, Callable[[ipaddress.IPv6Network], object]]:
    ranges, reader = _Ranges(), maxminddb.open_database(str(path))
    for net, record in reader:
        code = _iso_code(record)
        if net.version == 4 and isinstance(code, str):
            start = int(net.network_address)
            ranges.add(start, start + net.num_addresses - 1, code)

    def of_v6(net: ipaddress.IPv6Network) -> object:
        record, prefix = reader.get_with_prefix_len(str(net.network_address))
        return _iso_code(record) if prefix <= net.prefixlen else None

    return ranges, of_v6


def _iso_code(record: object) -> object:
    country = record.get("country") if isinstance(record, dict) else None
    return country.get("iso_code") if isinstance(country, dict) else None


def _announced(path: Path, asns: set[int]) -> tuple[_V4, _V6, dict[int, str]]:
    nets: _V4 = defaultdict(list)
    nets_v6: _V6 = defaultdict(list)
    names: dict[int, str] = {}
    for net, record in maxminddb.open_database(str(path)):
        if not isinstance(record, dict):
            continue
        asn = int(str(record["autonomous_system_number"]))
        if asn not in asns:
            continue
        names[asn] = str(record["autonomous_system_organization"])
        if net.version == 4 and net.prefixlen <= NARROWEST_V4:
            nets[asn].append(ipaddress.IPv4Network(str(net)))
        elif net.version == 6 and WIDEST_V6 - 8 <= net.prefixlen <= NARROWEST_V6:
            six = ipaddress.IPv6Network(str(net))
            nets_v6[asn].append(
                ipaddress.IPv6Network((int(six.network_address), max(six.prefixlen, WIDEST_V6)))
            )
    return nets, nets_v6, names


def _listed(path: Path) -> _Ranges:
    text = gzip.decompress(path.read_bytes()).decode()
    nets = [ipaddress.IPv4Network(line) for line in text.split()]
    ranges = _Ranges()
    for net in ipaddress.collapse_addresses(nets):
        ranges.add(int(net.network_address), int(net.broadcast_address), "listed")
    return ranges


def moved_prefixes(geoip_dir: Path) -> list[str]:
    """Prefixes whose first address the databases give to another network or country."""
    book, moved = AddressBook(), []
    with (
        maxminddb.open_database(str(geoip_dir / "dbip-asn-lite.mmdb")) as asns,
        maxminddb.open_database(str(geoip_dir / "dbip-country-lite.mmdb")) as countries,
    ):
        for network in networks():
            for first, length in network.prefixes:
                address = book.text(first + 1)
                asn, code = asns.get(address), _iso_code(countries.get(address))
                number = asn["autonomous_system_number"] if isinstance(asn, dict) else None
                if (number, code) != (network.asn, network.country):
                    moved.append(f"{book.text(first)}/{length}")
    return moved


def compare_networks(geoip_dir: Path) -> None:
    """LookupError when the databases disagree with more than a few prefixes."""
    moved = moved_prefixes(geoip_dir)
    total = sum(len(network.prefixes) for network in networks())
    if len(moved) > MOST_MOVED_SHARE * total:
        raise LookupError(
            f"{geoip_dir}: {len(moved)} of {total} prefixes of the sample lie elsewhere; "
            "renew networks.csv with python -m keywatch.sample.make_networks"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
