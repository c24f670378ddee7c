"""The client's address, as a log has it: with a port, in a list of proxies, or none at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PLAIN = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_BRACKETED = re.compile(r"\[([^\]]*)\](?::\d{1,5})?")
_WITH_PORT = re.compile(r"([\d.]{7,15}):\d{1,5}")
_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;]*)', re.IGNORECASE)
_LONGEST = 100
_NOTHING = ("", "-")
"""What stands in a list where nothing is to be said."""


def client_address(text: str, trusted: Sequence[Network] = ()) -> str:
    """The client's address in `text`, in its canonical form; other text, at most 100 characters.

    `text` is an address, or the value of ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239). Each
    proxy adds to such a list on the right, and what stands further left may be forged: the client
    is the first from the right that is in no network of `trusted`, whatever it is; if there are
    none, the first that is a public address.

    >>> client_address("2001:DB8:0::7%eth0")
    '2001:db8::7'
    >>> client_address("[::ffff:81.2.69.144]:443")
    '81.2.69.144'
    >>> client_address("1.1.1.1, 81.2.69.144:51234, 10.0.0.7")
    '81.2.69.144'
    >>> client_address('for="[2a00::1]:80";proto=https, for=10.0.0.7')
    '2a00::1'
    >>> client_address(" n/a ")
    'n/a'
    """
    if _PLAIN.fullmatch(text):
        return text
    elements = [hop.strip() for hop in text.split(",") if hop.strip() not in _NOTHING]
    hops = [address for hop in elements if (address := _address(hop)) is not None]
    if not hops:
        return text.strip()[:_LONGEST]
    for element in reversed(elements):
        hop = _address(element)
        if hop is None and trusted:
            # A proxy of ours did not know its client: what stands further left is the client's.
            return element[:_LONGEST]
        if hop is None:
            continue
        if not any(hop in network for network in trusted) if trusted else hop.is_global:
            return str(hop)
    # All are proxies or private: the first is the nearest to the client.
    return str(hops[0])


def is_address(text: str) -> bool:
    """Whether `text`, as `client_address` gives it, is an address."""
    return bool(_PLAIN.fullmatch(text)) or _address(text) is not None


def _address(hop: str) -> _Address | None:
    """The address of one element of a list."""
    hop = hop.strip()
    if forwarded := _FORWARDED_FOR.search(hop):
        hop = forwarded[1]
    hop = hop.strip(" \t\"'")
    if bare := _BRACKETED.fullmatch(hop) or _WITH_PORT.fullmatch(hop):
        hop = bare[1]
    try:
        address = ip_address(hop.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
