"""Reports of leaked keys: what a secret scanner found, as hashes and masked forms."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.lake import Lake, utc_now
from keywatch.load import late
from keywatch.load.inventory import times_of
from keywatch.text.secrets import Redactor, is_masked
from keywatch.vendors.listed import list_text, listed_records
from keywatch.vendors.listing import Listing, listing_of, mapped_listing, tell_absent, unknown_list
from keywatch.vendors.registry import LEAK_COLUMNS, leak_reports, logged_ids

__all__ = ["LeakReport", "LeakedKey", "import_leaks", "insert_leaks"]

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){4,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ZONE_TWICE = re.compile(r"([+-]\d{4}) ([A-Z]{2,5}|[+-]\d{2,4})$")
_MASK = re.compile(r"\.{3}|\*{2,}")
_LONGEST_LOCATION = 500
_SCHEMA = pa.schema(
    [
        ("leak_id", pa.string()),
        ("key_id", pa.string()),
        ("key", pa.string()),
        ("found_at", pa.timestamp("us")),
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)


@dataclass(frozen=True)
class LeakedKey:
    """A key that is known, and that has leaked; `is_in_force` where nothing says that it ended."""

    key_id: str
    name: str | None
    owner: str | None
    is_in_force: bool


@dataclass(frozen=True)
class LeakReport:
    """What an import came to.

    Attributes:
        title: The report's form.
        finds: In the report.
        new: Finds that were not there.
        keys: Known keys among them.
        unknown: Finds of no key that the inventory, or the log of the last 90 days, knows.
    """

    title: str
    finds: int
    new: int
    keys: tuple[LeakedKey, ...]
    unknown: int


def import_leaks(lake: Lake, file: Path, mapping: Sequence[str] = ()) -> LeakReport:
    """Import a scanner's report; all or nothing; what is there already is not added again.

    Its form is told by its content, or by `mapping` (``column=field``). No secret is stored: a find
    is the key's id or its masked form with its keyed hash, and where it was found.

    Raises:
        InputError: the report is of no known form, or has no secrets in it.
    """
    text = list_text(file)
    known = leak_reports()
    if mapping:
        needed = "key_id" if _has_no_secret(mapping) else "secret"
        form: Listing | None = mapped_listing(mapping, LEAK_COLUMNS, needed, "another scanner")
    else:
        form = listing_of(known, text, str(file))
    if form is None:
        first = next(listed_records(text, str(file)), None)
        if first is None:
            return LeakReport("empty report", 0, 0, (), 0)
        raise unknown_list(first, known, "secret")
    if mapping:
        tell_absent(form, text, str(file))
    finds = list(form.rows(text, str(file)))
    rows = [*_finds(lake, form, finds)]
    if finds and not rows:
        raise InputError(
            f"{file}: a {form.title} report without secrets, so no key can be identified; have the "
            f"scanner leave them in ({form.command or 'without redaction'}). They are not stored"
        )
    unique = {row["leak_id"]: row for row in rows}
    with lake.writing():
        new = insert_leaks(lake, [*unique.values()])
        if new:
            late.enqueue_newest(lake, utc_now())
        return _told(lake, form.title, len(finds), new, [*unique])


def _has_no_secret(mapping: Sequence[str]) -> bool:
    return not any(one.startswith("secret=") for one in mapping)


def _finds(
    lake: Lake, form: Listing, finds: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    redactor = Redactor(lake.secret)
    times = times_of(lake, (_time_text(row.get("found_at")) for _, row in finds))
    for where, row in finds:
        secret, found_at = _secret_text(row.get("secret")), _time_text(row.get("found_at"))
        if found_at is not None and times[found_at] is None:
            met = redactor.redact(found_at)[:100]
            raise InputError(f"{where}: found_at is no time ({met}); 2026-09-30T00:00:04Z is one")
        ids = [str(row["key_id"])] if row.get("key_id") is not None else []
        ids += [] if secret is None else logged_ids(secret)
        key = None if secret is None else _shown(secret, redactor)
        location = redactor.redact(str(row.get("location") or ""))[:_LONGEST_LOCATION]
        for key_id in dict.fromkeys(map(redactor.redact, ids)) or ([None] if key else []):
            parts = (key_id, key, form.title, location)
            yield {
                "leak_id": redactor.key_hash(repr(parts)),
                "key_id": key_id,
                "key": key,
                "found_at": None if found_at is None else times[found_at],
                "source": form.title,
                "location": location or None,
            }


def _secret_text(value: object) -> str | None:
    """A secret, less its base64: Kubernetes has secrets so, and older versions of TruffleHog."""
    if value is None or not (text := str(value).strip()):
        return None
    plain = base64.b64decode(text) if _BASE64.fullmatch(text) else b""
    # Of a key that has only letters of base64 anything comes but text.
    is_text = plain.isascii() and plain.decode("ascii").replace("\n", "").isprintable()
    return plain.decode("ascii").strip() if plain and is_text else text


def _time_text(value: object) -> str | None:
    """A time as it is read, of ``Mon Jul 5 12:54:43 2021 +0530`` (git's) and of what Go writes.

    That is ``2026-09-30 07:05:14 +0000 UTC`` or ``2026-09-30 07:05:14 -0700 -0700``.
    """
    if value is None:
        return None
    text = str(value).strip()
    with suppress(ValueError):
        return datetime.strptime(text, "%a %b %d %H:%M:%S %Y %z").isoformat()
    return _ZONE_TWICE.sub(r"\1", text)


def _shown(secret: str, redactor: Redactor) -> str:
    """What is stored of a secret: its masked form, or that of the key that it holds."""
    if is_masked(secret):
        return _MASK.sub("…", secret)
    return redactor.exposes(secret) or redactor.mask_key(secret.strip())


def insert_leaks(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add the finds that are not there yet, by their ``leak_id``; returns how many those are."""
    with lake.registered("finds", pa.Table.from_pylist([*rows], schema=_SCHEMA)):
        lake.execute(
            "CREATE OR REPLACE TEMP TABLE new_finds AS SELECT * FROM finds "
            "WHERE leak_id NOT IN (SELECT leak_id FROM lake.leaked_keys)"
        )
    lake.execute(
        "INSERT INTO lake.leaked_keys BY NAME SELECT *, $now AS imported_at FROM new_finds "
        "ORDER BY leak_id",
        now=utc_now(),
    )
    return int(lake.value("SELECT count(*) FROM new_finds"))


def _told(lake: Lake, title: str, finds: int, new: int, leak_ids: Sequence[str]) -> LeakReport:
    lake.execute(
        """
        CREATE OR REPLACE TEMP TABLE known_keys AS
        SELECT key_id, "key" FROM inventory_in_force()
        UNION
        SELECT DISTINCT coalesce(principal, key_id), CASE WHEN principal IS NULL THEN "key" END
        FROM lake.events
        WHERE day > (SELECT max(day) FROM lake.activity) - 90
        """
    )
    rows = lake.rows(
        """
        SELECT DISTINCT l.leak_id, l.key_id, i.name, i.owner,
            coalesce(least(i.revoked_at, i.expires_at) > $now, true)
        FROM leaks_of('known_keys') AS l
        LEFT JOIN inventory_in_force() AS i USING (key_id)
        WHERE list_contains($ids, l.leak_id)
        ORDER BY l.key_id
        """,
        ids=leak_ids,
        now=utc_now(),
    )
    keys = tuple(dict.fromkeys(LeakedKey(*row[1:]) for row in rows))
    return LeakReport(title, finds, new, keys, len(leak_ids) - len({row[0] for row in rows}))
