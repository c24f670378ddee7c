"""A network that is new to a key in words; the text is as it came, for a renderer to make safe."""

from __future__ import annotations

from keywatch.model import NewNetwork
from keywatch.text.phrases import count, listed, span

_MOST_COUNTRIES = 5
_MOST_PREFIXES = 3


def network_of(one: NewNetwork) -> str:
    """``AS9009 M247 Europe SRL, RO, hosting``."""
    if one.network == one.origin_class:
        return f"{one.network} address"
    name = f"{one.network} {one.organization}" if one.organization else one.network
    parts = (name, listed(one.countries, _MOST_COUNTRIES), one.origin_class)
    return ", ".join(part for part in parts if part)


def came_from(one: NewNetwork) -> str:
    """``40 requests, 2026-09-30 03:00 to 03:40, from 45.153.78.0/24 (1 address)``."""
    when = span(one.first_seen, one.last_seen)
    return f"{count(one.requests, 'request')}, {when}, from {places_of(one)}"


def places_of(one: NewNetwork) -> str:
    """``45.153.78.0/24 (1 address)``; of many prefixes the busiest."""
    more = ", …" if len(one.prefixes) > _MOST_PREFIXES else ""
    addresses = count(one.addresses, "address", "addresses")
    return f"{', '.join(one.prefixes[:_MOST_PREFIXES])}{more} ({addresses})"


def known_of(one: NewNetwork) -> str:
    """Whether the key's usual places are still in use, and whether its owner is known there."""
    old = "usual places still in use" if one.old_place_in_use else "usual places silent since"
    if not one.owner_keys:
        return old
    keys = count(one.owner_keys, "other key")
    return f"{old}; {keys} of the owner used from there since {one.owner_since}"
