"""When a log has a proxy's address in place of the clients'."""

from __future__ import annotations

from datetime import date

import pytest

from keywatch.detect.proxies import proxy_addresses
from keywatch.lake import Lake


@pytest.mark.parametrize(
    ("uses", "proxies"),
    [
        ({"10.0.0.7": 60, "10.0.0.8": 40}, ("10.0.0.7", "10.0.0.8")),
        ({"10.0.0.7": 99, "81.2.69.1": 1}, ("10.0.0.7",)),
        ({"10.0.0.7": 98, "81.2.69.1": 2}, ()),
        # The proxies' own checks are a client of their own.
        ({"10.0.0.7": 995, "10.0.0.9": 5}, ("10.0.0.7",)),
        # Many private addresses are clients' of a network of one's own.
        ({"10.0.0.7": 40, "10.0.0.8": 40, "10.0.0.9": 20}, ()),
        ({"fd00::7": 100}, ("fd00::7",)),
        ({"81.2.69.1": 100}, ()),
        # Who has no address may be anybody; a service is no client.
        ({"10.0.0.7": 50, "": 50}, ()),
        ({"10.0.0.7": 50, "AWS Internal": 50}, ("10.0.0.7",)),
        ({}, ()),
    ],
)
def test_proxies(uses: dict[str, int], proxies: tuple[str, ...]) -> None:
    classes = {"": "none", "AWS Internal": "service", "81.2.69.1": "isp"}
    with Lake.in_memory() as lake:
        for address, events in uses.items():
            lake.execute(
                "INSERT INTO lake.activity BY NAME SELECT 'key_1' AS key_id, $address AS address, "
                "DATE '2026-09-30' AS day, $events AS events",
                address=address,
                events=events,
            )
            lake.execute(
                "INSERT INTO lake.origins BY NAME SELECT $address AS address, $address AS ip, "
                "$class AS class, 1 AS load_id",
                **{"address": address, "class": classes.get(address, "private")},
            )
        week = date(2026, 9, 28), date(2026, 10, 5)
        assert proxy_addresses(lake, *week) == proxies
        assert proxy_addresses(lake, date(2026, 10, 5), date(2026, 10, 12)) == ()
