"""Which machine sends for a channel of a shared lake, and what became of it until the lake has it.

One machine at a time sends for a channel, so messages keep their order, and budgets, summaries and
ends count what all machines sent. It has claimed the channel, with a lease by the server's clock,
which it renews for as long as it lives; each message is begun under the claim. Outcomes are seen by
the next one who claims the channel, whoever writes to the lake meanwhile.

Both are tables of their own in the catalogue's PostgreSQL. In the lake a claim would have to wait
for its writer, for minutes where that is a load, and leave a Parquet file and a snapshot.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keywatch.deliver.journal import Journal, Record, as_line, parse_lines
from keywatch.errors import LakeBusyError, LakeError
from keywatch.lake import CatalogueServer, Lake
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.safe_text import printable

LEASE_MARGIN_SECONDS = 60.0
"""A lease is so much longer than the longest time that a channel waits for an answer."""
_RENEWED_IN_A_LEASE = 4
_NAME_LENGTH = 100

# One at a time: two that create the same table fail.
_TABLES = """
    SELECT pg_advisory_xact_lock(x'6B657977636C6D73'::bigint);
    CREATE TABLE IF NOT EXISTS keywatch_claims (
        channel     text PRIMARY KEY,
        claim_id    text NOT NULL,
        claimed_by  text NOT NULL,
        claimed_at  timestamptz NOT NULL,
        lease_until timestamptz NOT NULL
    );
    CREATE TABLE IF NOT EXISTS keywatch_outcomes (
        place  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- their order
        record text NOT NULL
    );
"""
_TAKE = """
    INSERT INTO keywatch_claims AS c (channel, claim_id, claimed_by, claimed_at, lease_until)
    SELECT channel, $id, $by, now(), now() + $lease_ms * interval '1 ms'
    FROM jsonb_array_elements_text($channels::jsonb) AS wanted (channel)
    ON CONFLICT (channel) DO UPDATE SET
        claim_id = excluded.claim_id, claimed_by = excluded.claimed_by,
        claimed_at = excluded.claimed_at, lease_until = excluded.lease_until
    WHERE c.lease_until <= now()
"""
_OWN = "claim_id = $id AND lease_until > now()"
_RENEW = f"""
    UPDATE keywatch_claims SET lease_until = now() + $lease_ms * interval '1 ms' WHERE {_OWN}
"""
_RENEW_OR_FAIL = f"""
    {_RENEW};
    SELECT 1 / count(*) FROM keywatch_claims WHERE {_OWN} AND channel = $channel
"""
"""Fails where the claim is lost: to run this takes half as long as to ask."""
_HELD = """
    SELECT channel, claimed_by, claimed_at AT TIME ZONE 'UTC' AS since,
        lease_until AT TIME ZONE 'UTC' AS until
    FROM keywatch_claims
    WHERE lease_until > now() AND claim_id <> $id
    ORDER BY channel
"""
_ARE_THERE = "SELECT to_regclass('keywatch_outcomes') IS NOT NULL"
_MAY_READ = "SELECT has_table_privilege(to_regclass('keywatch_claims'), 'SELECT')"
"""Null where the table is not there."""


@dataclass(frozen=True)
class Claim:
    """A channel that a machine sends for: who and since when, and how long if it dies; UTC."""

    channel: str
    by: str
    since: datetime
    until: datetime

    def __str__(self) -> str:
        """In words."""
        return f"{self.by} has been sending since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Claims:
    """Of a lake on one machine: who has its lock sends for all channels (`sender.only_sender`)."""

    is_shared = False

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)

    def take(self, channels: Collection[str]) -> set[str]:
        """Claim those of `channels` that nobody else has; returns them."""
        return set(channels)

    def begin(self, channel: str) -> bool:
        """Whether this process still has `channel`, and may send a message now."""
        return True

    def check(self, channels: Collection[str]) -> None:
        """See that this process still has `channels`.

        Raises:
            LakeBusyError: another has taken one over.
        """

    def others(self) -> dict[str, Claim]:
        """The channels that others send for now."""
        return {}

    def release(self) -> None:
        """Leave the channels to others."""


class SharedClaims(Claims):
    """Of a shared lake: this process is one of several that send from it."""

    is_shared = True

    def __init__(self, folder: Path, server: CatalogueServer, lease_seconds: float) -> None:
        super().__init__(folder)
        if not server.rows(_ARE_THERE)[0][0]:
            server.execute(_TABLES)
        self._server = server
        self._lease_ms = int(1000 * lease_seconds)
        self._claim_id = str(uuid.uuid4())
        self._by = printable(f"{platform.node()}, process {os.getpid()}", _NAME_LENGTH)
        self.journal = _SharedJournal(folder, server)
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="renew claims", daemon=True)

    def take(self, channels: Collection[str]) -> set[str]:
        if not self._renewing.is_alive():
            self._renewing.start()
        self._server.execute(
            _TAKE,
            id=self._claim_id,
            by=self._by,
            lease_ms=self._lease_ms,
            # In one order, or two machines could wait for each other's rows.
            channels=json.dumps(sorted(channels)),
        )
        return self._own() & set(channels)

    def begin(self, channel: str) -> bool:
        try:
            self._server.execute(
                _RENEW_OR_FAIL, id=self._claim_id, lease_ms=self._lease_ms, channel=channel
            )
        except LakeError:
            if channel in self._own():
                raise
            return False
        return True

    def check(self, channels: Collection[str]) -> None:
        if lost := sorted(set(channels) - self._own()):
            raise LakeBusyError(
                f"channel {', '.join(lost)}: another machine sends now, because this one did not "
                "answer for too long; try again later"
            )

    def others(self) -> dict[str, Claim]:
        return _held(self._server, but=self._claim_id)

    def release(self) -> None:
        self._server.execute("DELETE FROM keywatch_claims WHERE claim_id = $id", id=self._claim_id)

    def close(self) -> None:
        """Leave the channels to others; where the server gives no answer, when the lease ends."""
        self._over.set()
        if self._renewing.is_alive():
            self._renewing.join()
            with suppress(LakeError):
                self.release()

    def _own(self) -> set[str]:
        found = self._server.rows(
            f"SELECT channel FROM keywatch_claims WHERE {_OWN}", id=self._claim_id
        )
        return {channel for (channel,) in found}

    def _renew(self) -> None:
        while not self._over.wait(self._lease_ms / 1000 / _RENEWED_IN_A_LEASE):
            # If the server is away for longer than a lease, `begin` sends nothing any more.
            with suppress(LakeError):
                self._server.execute(_RENEW, id=self._claim_id, lease_ms=self._lease_ms)


class _SharedJournal(Journal):
    """Records in the catalogue's server; in the file of this machine where it gives no answer."""

    def __init__(self, folder: Path, server: CatalogueServer) -> None:
        super().__init__(folder)
        self._server = server
        self._places: list[int] = []

    def add(self, record: Record) -> None:
        try:
            self._server.execute(
                "INSERT INTO keywatch_outcomes (record) VALUES ($record)", record=as_line(record)
            )
        except LakeError:
            super().add(record)

    def waiting(self) -> list[Record]:
        return super().waiting() + list(parse_lines(line for _, line in self._kept()))

    def set_aside(self) -> list[Record]:
        records = super().set_aside()
        kept = self._kept()
        self._places = [place for place, _ in kept]
        return records + list(parse_lines(line for _, line in kept))

    def _kept(self) -> list[tuple[int, str]]:
        found = self._server.rows("SELECT place, record FROM keywatch_outcomes ORDER BY place")
        return [(place, record) for place, record in found]

    def forget(self) -> None:
        # Not all up to the last: one with a lower place may have come since.
        if self._places:
            self._server.execute(
                "DELETE FROM keywatch_outcomes WHERE place IN (SELECT place::bigint "
                "FROM jsonb_array_elements_text($places::jsonb) AS kept (place))",
                places=json.dumps(self._places),
            )
        super().forget()


@contextmanager
def claims_of(lake: Lake, settings: DeliverSettings) -> Iterator[Claims]:
    """The claims of this process, which end with it.

    Raises:
        LakeUnreachableError: the server of a shared lake's catalogue does not answer.
    """
    assert lake.folder is not None
    server = lake.server()
    if server is None:
        yield Claims(lake.folder)
        return
    longest = max((one.timeout_seconds for one in settings.channels.values()), default=0.0)
    with ExitStack() as stack:
        stack.callback(server.close)
        claims = SharedClaims(lake.folder, server, longest + LEASE_MARGIN_SECONDS)
        stack.callback(claims.close)
        yield claims


def claimed(lake: Lake) -> dict[str, Claim]:
    """The channels that machines send for now; nothing is known of a lake on one machine."""
    server = lake.server()
    if server is None:
        return {}
    try:
        return _held(server) if server.rows(_MAY_READ)[0][0] else {}
    finally:
        server.close()


def _held(server: CatalogueServer, but: str = "") -> dict[str, Claim]:
    return {row[0]: Claim(*row) for row in server.rows(_HELD, id=but)}
