"""Which web addresses messages may be sent to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

Address = IPv4Address | IPv6Address

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAT64 = ip_network("64:ff9b::/96")
# Of EC2 (its user guide, "Instance metadata") and, by their manuals, Alibaba Cloud, Oracle Cloud
# and Azure; the others' are link-local.
_METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
_METADATA_NAMES = ("metadata.google.internal", "instance-data.ec2.internal")


def web_address(url: str) -> str:
    """`url`, where messages may be sent to it.

    Raises:
        ValueError: it is not https (http on this machine), or is never a receiver's; the text does
            not hold it, for it may be a secret.
    """
    parts = _split(url)
    host = parts.hostname if parts else None
    if (
        parts is None
        or not host
        or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
    ):
        raise ValueError("an https:// address is needed (http:// on this machine only)")
    address = _literal(host)
    if host.rstrip(".") in _METADATA_NAMES or (address is not None and is_refused(address)):
        raise ValueError(
            "it is a link-local or cloud metadata address, which is not allowed; set the "
            "receiver's own address"
        )
    return url


def is_refused(address: Address) -> bool:
    """Whether nothing is sent there: link-local, a cloud's metadata, or no host's address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_refused(address.ipv4_mapped)
        if address in _NAT64:
            return is_refused(IPv4Address(int(address) & 0xFFFFFFFF))
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in _METADATA
    )


def nearness(url: str) -> str:
    """``on this machine``, ``in a private network``, or empty where the address shows neither."""
    parts = _split(url)
    host = (parts.hostname if parts else None) or ""
    address = _literal(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return "on this machine"
    return "in a private network" if address is not None and address.is_private else ""


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts if url.isprintable() and " " not in url else None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None
