"""Origins: reading addresses, and what the databases and lists say of them."""

from __future__ import annotations

import gzip
import ipaddress
import itertools
import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywatch.content import content_path
from keywatch.errors import GeoIPError
from keywatch.load.origins import (
    ATTRIBUTION,
    ATTRIBUTION_URL,
    ORIGIN_CLASSES,
    ORIGIN_SCHEMA,
    GeoIPPaths,
    OriginReader,
    ParsedAddress,
    parse_address,
    prefix_of,
    role_of,
)
from tests.conftest import SHARED_DATA
from tools.make_ip_lists import CLASSES, PROVIDERS, Label, Range, flatten, read_ranges, to_table

BUNDLED = "dbip-country-lite+dbip-asn-lite"
BUILT_ON = date(2026, 9, 1)


@pytest.fixture(scope="module")
def reader() -> Iterator[OriginReader]:
    with OriginReader() as reader:
        yield reader


def _maxmind(name: str) -> Path:
    path = SHARED_DATA / "mmdb-test-maxmind" / f"{name}.mmdb"
    if not path.exists():
        pytest.skip(f"{path.name} absent")
    return path


def _one(reader: OriginReader, address: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = reader.locate([address]).to_pylist()
    assert len(rows) == 1
    return rows[0]


# --- parsing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ip", "version", "kind"),
    [
        ("91.234.56.78", "91.234.56.78", 4, "global"),
        ("  91.234.56.78\t", "91.234.56.78", 4, "global"),
        ("91.234.56.78:443", "91.234.56.78", 4, "global"),
        ("91.234.56.78:65536", None, None, "invalid"),
        ("91.234.56.78:", None, None, "invalid"),
        (":443", None, None, "invalid"),
        ("2600:1F18::A", "2600:1f18::a", 6, "global"),
        ("2600:1f18:0:0:0:0:0:a", "2600:1f18::a", 6, "global"),
        ("[2600:1f18::a]", "2600:1f18::a", 6, "global"),
        ("[2600:1f18::a]:443", "2600:1f18::a", 6, "global"),
        ("[2600:1f18::a]443", None, None, "invalid"),
        ("[2600:1f18::a", None, None, "invalid"),
        ("[]", None, None, "invalid"),
        ("::ffff:91.234.56.78", "91.234.56.78", 4, "global"),
        ("[::FFFF:5bea:384e]:80", "91.234.56.78", 4, "global"),
        ("::ffff:10.0.0.1", "10.0.0.1", 4, "private"),
        ("2002:5bea:384e::1", "2002:5bea:384e::1", 6, "global"),
        ("2001:0:5bea:384e::1", "2001:0:5bea:384e::1", 6, "global"),
        ("64:ff9b::5bea:384e", "64:ff9b::5bea:384e", 6, "global"),
        ("10.0.0.1", "10.0.0.1", 4, "private"),
        ("172.31.255.255", "172.31.255.255", 4, "private"),
        ("172.32.0.0", "172.32.0.0", 4, "global"),
        ("192.168.1.1", "192.168.1.1", 4, "private"),
        ("100.64.0.1", "100.64.0.1", 4, "private"),
        ("100.128.0.0", "100.128.0.0", 4, "global"),
        ("fd00::1", "fd00::1", 6, "private"),
        ("0.0.0.0", "0.0.0.0", 4, "reserved"),
        ("127.0.0.1", "127.0.0.1", 4, "reserved"),
        ("169.254.169.254", "169.254.169.254", 4, "reserved"),
        ("203.0.113.9", "203.0.113.9", 4, "reserved"),
        ("224.0.0.1", "224.0.0.1", 4, "reserved"),
        ("255.255.255.255", "255.255.255.255", 4, "reserved"),
        ("::", "::", 6, "reserved"),
        ("::1", "::1", 6, "reserved"),
        ("::1.2.3.4", "::102:304", 6, "reserved"),
        ("fe80::1%eth0", "fe80::1", 6, "reserved"),
        ("[fe80::1%25eth0]:80", "fe80::1", 6, "reserved"),
        ("2001:db8::1", "2001:db8::1", 6, "reserved"),
        ("3fff::1", "3fff::1", 6, "reserved"),
        ("ff02::1", "ff02::1", 6, "reserved"),
        ("cloudformation.amazonaws.com", None, None, "service"),
        ("Config.amazonaws.com", None, None, "service"),
        ("AWS Internal", None, None, "service"),
        ("035.249.253.232", None, None, "invalid"),
        ("1.2.3", None, None, "invalid"),
        ("1.2.3.256", None, None, "invalid"),
        ("1.2.3.4, 5.6.7.8", None, None, "invalid"),
        ("1.2.3.4/24", None, None, "invalid"),
        ("\u0661.2.3.4", None, None, "invalid"),
        ("2001:db8:::1", None, None, "invalid"),
        ("2600::1\0", None, None, "invalid"),
        ("\ud800::1", None, None, "invalid"),
        ("localhost", None, None, "invalid"),
        ("a" * 10_000, None, None, "invalid"),
        ("", None, None, "none"),
        ("   ", None, None, "none"),
    ],
)
def test_parse_address(text: str, ip: str | None, version: Any, kind: Any) -> None:
    assert parse_address(text) == ParsedAddress(text, ip, version, kind)


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(st.text() | st.text(alphabet="0123456789abcdef:.[]%/ ", max_size=50))
def test_parse_address_never_raises(text: str) -> None:
    parsed = parse_address(text)
    assert parsed.text == text
    assert (parsed.ip is None) == (parsed.version is None)
    assert (parsed.ip is None) == (parsed.kind in {"service", "invalid", "none"})
    if parsed.ip is not None:
        assert str(ipaddress.ip_address(parsed.ip)) == parsed.ip
        assert parse_address(parsed.ip).ip == parsed.ip


@given(st.text(alphabet="0123456789abcdefF:.", max_size=45))
def test_parse_address_agrees_with_the_standard_library(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        return
    mapped = getattr(expected, "ipv4_mapped", None)
    assert parse_address(text).ip == str(mapped or expected)


@given(ADDRESSES, st.integers(0, 65535), st.booleans())
def test_dress_does_not_change_the_address(address: Any, port: int, upper: bool) -> None:
    bare = parse_address(str(address))
    dressed = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    parsed = parse_address(f" {dressed.upper() if upper else dressed} ")
    assert (parsed.ip, parsed.version, parsed.kind) == (bare.ip, bare.version, bare.kind)


@given(st.ip_addresses(v=4))
def test_no_address_is_global_against_the_standard_library(address: ipaddress.IPv4Address) -> None:
    assert address.is_global or parse_address(str(address)).kind != "global"


@given(ADDRESSES)
def test_prefix_holds_the_address(address: Any) -> None:
    parsed = parse_address(str(address))
    assert parsed.ip is not None
    network = ipaddress.ip_network(prefix_of(parsed.ip))
    assert network.prefixlen == {4: 24, 6: 48}[network.version]
    assert ipaddress.ip_address(parsed.ip) in network


def test_prefix_of() -> None:
    assert prefix_of("203.0.113.77") == "203.0.113.0/24"
    assert prefix_of("2001:db8:1:2::3") == "2001:db8:1::/48"
    with pytest.raises(ValueError, match="not an IP address"):
        prefix_of("203.0.113.77:80")


# --- the bundled databases and lists -----------------------------------------------------


def test_the_vendors_example_is_located_whole(reader: OriginReader) -> None:
    assert _one(reader, "91.234.56.78") == {
        "address": "91.234.56.78",
        "ip": "91.234.56.78",
        "prefix": "91.234.56.0/24",
        "asn": 49074,
        "organization": "SC TECHNOLOGICAL SRL",
        "country": "DE",
        # The middle of the country's people, for the bundled database knows no more.
        "latitude": 51.3,
        "longitude": 9.6,
        "accuracy_km": 380,
        "class": "isp",
        "provider": None,
        "located": True,
        "database": BUNDLED,
        "built_on": BUILT_ON,
        "asked": ", ".join(f"{each.name} {each.built_on}" for each in reader.databases),
    }


@pytest.mark.parametrize(
    ("address", "class_", "provider", "country"),
    [
        ("52.45.102.28", "hosting", "amazon", "US"),
        ("2600:1f18::1", "hosting", "amazon", "US"),
        ("45.153.78.122", "hosting", "google", "DK"),
        ("140.82.112.3", "hosting", "github", "US"),
        ("4.148.0.1", "hosting", "microsoft", "US"),
        ("20.171.206.5", "hosting", "openai", "US"),
        ("104.28.28.1", "relay", "apple", "AU"),
        ("2a02:26f7:b00a:4000::5", "relay", "apple", "US"),
        ("2.58.241.66", "vpn", "protonvpn", None),
        ("3.112.0.0", "hosting", "amazon", None),
    ],
)
def test_classes_and_providers(
    reader: OriginReader, address: str, class_: str, provider: str, country: str | None
) -> None:
    row = _one(reader, address)
    assert (row["class"], row["provider"]) == (class_, provider)
    if country:
        assert row["country"] == country
    assert row["located"]


@pytest.mark.parametrize(
    ("address", "class_"),
    [
        ("10.1.2.3", "private"),
        ("203.0.113.5", "reserved"),
        ("cloudformation.amazonaws.com", "service"),
        ("AWS Internal", "service"),
        ("035.249.253.232", "invalid"),
        ("", "none"),
    ],
)
def test_what_is_no_global_address_is_said_to_be_so(
    reader: OriginReader, address: str, class_: str
) -> None:
    row = _one(reader, address)
    assert (row["address"], row["class"], row["located"]) == (address, class_, False)
    assert row["ip"] == parse_address(address).ip
    told = ("asn", "organization", "country", "latitude", "provider", "database", "built_on")
    assert [row[field] for field in told] == [None] * len(told)


def test_an_address_that_no_database_knows(reader: OriginReader) -> None:
    row = _one(reader, "192.88.99.1")
    assert (row["class"], row["located"], row["database"]) == ("unknown", False, None)
    assert row["prefix"] == "192.88.99.0/24"


def test_one_row_for_each_distinct_text_in_order(reader: OriginReader) -> None:
    texts = ["8.8.8.8:53", "10.0.0.1", "8.8.8.8", "8.8.8.8:53", "::ffff:8.8.8.8"]
    table = reader.locate(texts)
    assert table.schema.equals(ORIGIN_SCHEMA)
    assert table["address"].to_pylist() == ["8.8.8.8:53", "10.0.0.1", "8.8.8.8", "::ffff:8.8.8.8"]
    assert table["asn"].to_pylist() == [15169, None, 15169, 15169]


def test_nothing_to_locate(reader: OriginReader) -> None:
    assert reader.locate([]).equals(ORIGIN_SCHEMA.empty_table())
    assert reader.locate(["x"]).num_rows == 1


def test_many_at_once_are_as_one_by_one(reader: OriginReader) -> None:
    texts = [f"{first}.{step}.{step}.7" for first in range(1, 224, 3) for step in (0, 90, 200)]
    texts += [f"2a0{first}:{step:x}::1" for first in range(8) for step in range(0, 0xFFFF, 9000)]
    together = reader.locate(texts).to_pylist()
    assert together == [_one(reader, text) for text in texts]
    assert {row["class"] for row in together} <= set(ORIGIN_CLASSES)


def test_databases_for_the_doctor(reader: OriginReader) -> None:
    assert [(each.name, each.built_on) for each in reader.databases] == [
        ("dbip-country-lite", BUILT_ON),
        ("dbip-asn-lite", BUILT_ON),
        ("ip-lists", date(2026, 8, 22)),
    ]
    assert all(each.path.exists() for each in reader.databases)


def test_attribution_stands_beside_the_data() -> None:
    readme = content_path("data/geoip/README.md").read_text(encoding="utf-8")
    assert f"<a href='{ATTRIBUTION_URL}'>{ATTRIBUTION}</a>" in readme
    notice = content_path("data/ip-lists/LICENSE-X4BNet").read_text(encoding="utf-8")
    assert "Copyright (c) 2024 X4B (Mathew Heard)" in notice


# --- the user's own databases ------------------------------------------------------------


def test_a_users_city_file_comes_first_and_the_bundled_fill_in() -> None:
    path = _maxmind("GeoLite2-City-Test")
    with OriginReader(GeoIPPaths(city=path)) as reader:
        known, unknown = reader.locate(["89.160.20.112", "91.234.56.78"]).to_pylist()
        built_on = reader.databases[0].built_on
    assert (known["country"], known["latitude"], known["longitude"]) == ("SE", 58.4167, 15.6167)
    assert known["accuracy_km"] == 76
    assert known["database"] == "GeoLite2-City-Test+dbip-asn-lite"
    assert known["built_on"] == built_on < BUILT_ON
    assert (unknown["country"], unknown["database"]) == ("DE", BUNDLED)
    assert unknown["built_on"] == BUILT_ON


def test_a_users_country_and_asn_files() -> None:
    paths = GeoIPPaths(country=_maxmind("GeoLite2-Country-Test"), asn=_maxmind("GeoLite2-ASN-Test"))
    with OriginReader(paths) as reader:
        row = _one(reader, "2.125.160.216")
        assert (row["country"], row["database"]) == ("GB", "GeoLite2-Country-Test+dbip-asn-lite")
        row = _one(reader, "1.128.0.1")
        assert (row["asn"], row["organization"]) == (1221, "Telstra Pty Ltd")
        assert row["database"] == "dbip-country-lite+GeoLite2-ASN-Test"


def test_an_isp_file_serves_as_asn_file() -> None:
    with OriginReader(GeoIPPaths(asn=_maxmind("GeoIP2-ISP-Test"))) as reader:
        assert _one(reader, "1.128.0.1")["database"] == "dbip-country-lite+GeoIP2-ISP-Test"


@pytest.mark.parametrize(
    ("address", "class_"),
    [
        ("65.4.3.2", "tor"),
        ("1.124.213.1", "tor"),  # also a VPN
        ("81.2.69.160", "tor"),  # every flag at once
        ("1.2.0.1", "vpn"),
        ("186.30.236.9", "proxy"),
        ("6.1.0.4", "proxy"),
        ("71.160.223.5", "hosting"),
        ("52.45.102.28", "hosting"),  # no flag: the lists decide
        ("91.234.56.78", "isp"),
    ],
)
@pytest.mark.parametrize("name", ["GeoIP-Anonymous-Plus-Test"])
def test_anonymous_flags(name: str, address: str, class_: str) -> None:
    with OriginReader(GeoIPPaths(anonymous_ip=_maxmind(name))) as reader:
        row = _one(reader, address)
    assert row["class"] == class_
    assert (row["database"] or "").endswith(name) == (
        address not in {"52.45.102.28", "91.234.56.78"}
    )


def test_a_flag_outranks_the_lists_and_names_its_provider(tmp_path: Path) -> None:
    plus = _maxmind("GeoIP-Anonymous-Plus-Test")
    with OriginReader(GeoIPPaths(anonymous_ip=plus)) as reader:
        assert _one(reader, "1.2.0.1")["provider"] == "foo"
    with OriginReader(GeoIPPaths(anonymous_ip=_maxmind("GeoIP2-Anonymous-IP-Test"))) as reader:
        row = _one(reader, "1.2.0.1")
    assert (row["class"], row["provider"]) == ("vpn", None)
    assert row["database"].endswith("+GeoIP2-Anonymous-IP-Test")


def test_a_missing_file_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.mmdb"
    with pytest.raises(GeoIPError, match="correct the path") as caught:
        OriginReader(GeoIPPaths(city=path))
    assert str(path) in str(caught.value)


def test_a_damaged_file_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(b"not a database")
    with pytest.raises(GeoIPError, match="download it again") as caught:
        OriginReader(GeoIPPaths(city=path))
    assert str(path) in str(caught.value)


def test_a_file_that_breaks_on_look_up_is_named(tmp_path: Path) -> None:
    whole = content_path("data/geoip/dbip-country-lite.mmdb").read_bytes()
    path = tmp_path / "country.mmdb"
    tail = whole[-4000:]
    middle = len(whole) * 2 // 3
    path.write_bytes(whole[:middle] + b"\xff" * (len(whole) - middle - len(tail)) + tail)
    texts = [f"{first}.{second}.1.1" for first in range(1, 224) for second in (1, 77, 150)]
    with (
        OriginReader(GeoIPPaths(country=path)) as reader,
        pytest.raises(GeoIPError, match="download it again") as caught,
    ):
        reader.locate(texts)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["GeoIP2-City-Test-Invalid-Node-Count", "GeoIP2-Connection-Type-Test"]
)
def test_maxminds_own_bad_files(name: str) -> None:
    path = _maxmind(name)
    with pytest.raises(GeoIPError, match=name):
        OriginReader(GeoIPPaths(city=path))


def test_a_database_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "asn.mmdb"
    shutil.copy(content_path("data/geoip/dbip-country-lite.mmdb"), path)
    with pytest.raises(GeoIPError, match="`asn` needs one of GeoLite2-ASN"):
        OriginReader(GeoIPPaths(asn=path))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("GeoLite2-City-Test", "city"), ("GeoLite2-Country-Test", "country"),
        ("GeoLite2-ASN-Test", "asn"), ("GeoIP2-ISP-Test", "asn"),
        ("GeoIP2-Anonymous-IP-Test", "anonymous_ip"), ("GeoIP-Anonymous-Plus-Test", "anonymous_ip"),
    ],
)  # fmt: skip
def test_the_setting_of_a_database_follows_from_its_type(name: str, role: str) -> None:
    assert role_of(_maxmind(name)) == role


def test_the_setting_of_the_bundled_databases_and_of_none(tmp_path: Path) -> None:
    assert role_of(content_path("data/geoip/dbip-country-lite.mmdb")) == "country"
    assert role_of(content_path("data/geoip/dbip-asn-lite.mmdb")) == "asn"
    (tmp_path / "x.mmdb").write_bytes(b"not a database")
    with pytest.raises(GeoIPError, match="download it again"):
        role_of(tmp_path / "x.mmdb")
    with pytest.raises(GeoIPError, match="is a 'GeoIP2-Connection-Type' database; expected is one"):
        role_of(_maxmind("GeoIP2-Connection-Type-Test"))


# --- the lists' tool ---------------------------------------------------------------------


def test_flatten_keeps_the_strongest_label() -> None:
    vpn, amazon, other = Label(0, 12), Label(2, 3), Label(2, 12)
    flat = flatten([Range(0, 99, other), Range(10, 29, amazon), Range(20, 39, vpn)])
    assert flat == [
        Range(0, 9, other),
        Range(10, 19, amazon),
        Range(20, 39, vpn),
        Range(40, 99, other),
    ]
    assert flatten([Range(0, 3, vpn), Range(4, 7, vpn)]) == [Range(0, 7, vpn)]


LABELS = st.builds(Label, st.integers(0, len(CLASSES) - 1), st.integers(0, len(PROVIDERS) - 1))
SPANS = st.builds(
    lambda first, length, label: Range(first, first + length, label),
    st.integers(0, 60),
    st.integers(0, 30),
    LABELS,
)


@given(st.lists(SPANS, max_size=12))
def test_flatten_says_of_each_address_what_the_lists_say(spans: list[Range]) -> None:
    flat = flatten(spans)
    assert all(a.last < b.first for a, b in itertools.pairwise(flat))
    for at in range(100):
        expected = min((s.label for s in spans if s.first <= at <= s.last), default=None)
        assert next((s.label for s in flat if s.first <= at <= s.last), None) == expected


def test_the_bundled_ranges_are_what_the_tool_makes() -> None:
    source = SHARED_DATA / "ip-lists-hosting-vpn"
    if not source.exists():
        pytest.skip(f"{source.name} absent")
    bundled = pq.ParquetFile(content_path("data/ip-lists/ranges.parquet")).read()
    made: pa.Table = to_table(flatten(list(read_ranges(source))))
    assert made.to_pydict() == bundled.to_pydict()
    assert made.schema.metadata[b"built_on"] == bundled.schema.metadata[b"built_on"]


def test_every_real_hosting_client_of_a_web_log_is_classed(reader: OriginReader) -> None:
    source = SHARED_DATA / "web-access-elastic-apache" / "apache_access.log.gz"
    if not source.exists():
        pytest.skip(f"{source.name} absent")
    with gzip.open(source, "rt", encoding="utf-8", errors="replace") as file:
        clients = [line.split(" ", 1)[0] for line in file]
    table = reader.locate(clients)
    assert table.num_rows == 1753
    located = sum(table["located"].to_pylist())
    assert located / table.num_rows > 0.99
    hosting = sum(name == "hosting" for name in table["class"].to_pylist())
    assert 350 < hosting < 700


def test_stratus_addresses_give_no_crash_and_no_garbage(reader: OriginReader) -> None:
    source = SHARED_DATA / "aws-cloudtrail-stratus-detonations" / "cloudtrail.ndjson.gz"
    if not source.exists():
        pytest.skip(f"{source.name} absent")
    with gzip.open(source, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["sourceIPAddress"] for line in file]
    for row in reader.locate(texts).to_pylist():
        parts = row["address"].split(".")
        if any(part.startswith("0") and len(part) > 1 for part in parts):
            assert (row["class"], row["located"]) == ("invalid", False)
