"""A log that has a proxy's address in place of the client's: nothing can be said of places."""

from __future__ import annotations

from datetime import date

from keywatch.lake import Lake
from keywatch.text.phrases import named
from keywatch.text.safe_text import printable

LEAST_SHARE = 0.99
"""Of the requests, from so few addresses that are not public."""
_MOST_ADDRESSES = 2
_SHOWN = 60


def proxy_addresses(lake: Lake, start: date, end: date) -> tuple[str, ...]:
    """The one or two private addresses that nearly all requests in ``[start, end)`` come from.

    The busiest is first; none where there are clients' addresses too. A client without an address
    counts as one; a service that calls for a key does not count.
    """
    rows = lake.rows(
        """
        WITH uses AS (
            SELECT address, sum(events) AS events FROM lake.activity
            WHERE day >= $start AND day < $end GROUP BY ALL
        ),
        placed AS (
            SELECT u.address, p.ip, u.events, p.class IN ('private', 'reserved') AS is_private
            FROM uses AS u JOIN known_places() AS p USING (address)
            WHERE p.class <> 'service'
        )
        SELECT ip, sum(events) / (SELECT sum(events) FROM placed)
        FROM placed
        WHERE is_private
        GROUP BY ip
        ORDER BY 2 DESC, ip
        LIMIT $most
        """,
        start=start,
        end=end,
        most=_MOST_ADDRESSES,
    )
    if sum(share for _, share in rows) < LEAST_SHARE:
        return ()
    # One that has nearly all alone is the proxy; the other is a client of its own.
    return tuple(ip for ip, _ in (rows[:1] if rows[0][1] >= LEAST_SHARE else rows))


def proxy_sentence(addresses: tuple[str, ...]) -> str:
    """What follows from `addresses`, and the mend; a clause without a full stop."""
    shown = " and ".join(printable(address, max_length=_SHOWN) for address in addresses)
    kind = named(len(addresses), "a private address", "private addresses")
    return (
        f"places cannot be assessed: nearly all requests come from {shown}, {kind}. The log has "
        "the address of a proxy, and not the client's. Have it log X-Forwarded-For, and name the "
        "proxies in [ingest] trusted_proxies"
    )
