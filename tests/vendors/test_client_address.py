"""The client's address, as logs have it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from keywatch.vendors.client_address import client_address, is_address
from tests.conftest import Loading, event

SIX_SPELLINGS = (
    "2001:4860:4860::8888",
    "2001:4860:4860:0000:0000:0000:0000:8888",
    "2001:4860:4860:0:0:0:0:8888",
    "2001:4860:4860:0::8888",
    "[2001:4860:4860::8888]:443",
    "2001:4860:4860::8888%eth0",
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        *((spelling, "2001:4860:4860::8888") for spelling in SIX_SPELLINGS),
        ("2001:DB8::A", "2001:db8::a"),
        ("81.2.69.144:51234", "81.2.69.144"),
        ("::ffff:81.2.69.144", "81.2.69.144"),
        ("[::ffff:81.2.69.144]:80", "81.2.69.144"),
        (' "81.2.69.144" ', "81.2.69.144"),
        # Of a list the first public one from the right.
        ("81.2.69.144, 10.0.0.7", "81.2.69.144"),
        ("9.9.9.9, 81.2.69.144,172.16.0.1, 10.1.1.1", "81.2.69.144"),
        ("unknown, 81.2.69.144", "81.2.69.144"),
        ("10.0.0.7, 192.168.1.1", "10.0.0.7"),
        ('for=81.2.69.144;proto=https;by=10.0.0.1, For="[fd00::1]:8080"', "81.2.69.144"),
        ("proto=https;for=81.2.69.144", "81.2.69.144"),
        ("for=_hidden", "for=_hidden"),
        # No address.
        ("ec2.amazonaws.com", "ec2.amazonaws.com"),
        (" n/a ", "n/a"),
        ("081.002.069.144", "081.002.069.144"),
        ("300.1.1.1", "300.1.1.1"),
        ("a, b", "a, b"),
        ("x" * 300, "x" * 100),
        ("", ""),
    ],
)
def test_the_client_is_the_first_public_one_from_the_right(text: str, address: str) -> None:
    assert client_address(text) == address
    assert client_address(address) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.1.1.1, 81.2.69.144, 203.0.113.9", "81.2.69.144"),
        ("81.2.69.144, 10.0.0.7", "10.0.0.7"),
        ("203.0.113.8, 203.0.113.9", "203.0.113.8"),
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 2001:db8::1, 203.0.113.9", "1.1.1.1"),
        # What stands left of it, anybody can have sent.
        ("1.1.1.1, unknown, 203.0.113.9", "unknown"),
        ("1.1.1.1, for=_hidden, 203.0.113.9", "for=_hidden"),
        ("1.1.1.1, , -, 203.0.113.9", "1.1.1.1"),
    ],
)
def test_what_is_no_trusted_proxy_is_the_client(text: str, address: str) -> None:
    trusted = [ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")]
    assert client_address(text, trusted) == address


@pytest.mark.parametrize("text", ["300.1.1.1", "", "-", "ec2.amazonaws.com", "1.2.3"])
def test_other_text_is_no_address(text: str) -> None:
    assert not is_address(text)
    assert is_address("81.2.69.144")
    assert is_address("2001:db8::1")


def test_six_spellings_are_one_address_and_what_is_none_is_counted(quick: Loading) -> None:
    texts = [*SIX_SPELLINGS, "n/a", "n/a", "unknown", "8.8.8.8, 10.0.0.1"]
    report = quick.take([event(ip=text, request_id=str(n)) for n, text in enumerate(texts)])
    assert quick.lake.rows("SELECT address, count(*) FROM lake.events GROUP BY 1 ORDER BY 1") == [
        ("2001:4860:4860::8888", 6),
        ("8.8.8.8", 1),
        ("n/a", 2),
        ("unknown", 1),
    ]
    assert report.no_address == {"n/a": 2, "unknown": 1}
    assert report.address_lists == 1
