"""All keys that the inventory or the log knows: last use, places, rotation, scopes in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

from keywatch.detect.detectors import load_detectors
from keywatch.lake import Lake, utc_now
from keywatch.lake.weeks import last_event
from keywatch.model import KeyOrder, Window
from keywatch.review.history import used_scopes
from keywatch.settings import Settings

__all__ = ["LISTED_DAYS", "ListedKey", "list_keys"]

LISTED_DAYS = 90
"""Before the log's end: of these, requests, places and scopes in use are told."""

State = Literal["in force", "revoked", "expired", "unlisted", "not in inventory", "never used"]


@dataclass(frozen=True)
class ListedKey:
    """A key, or the principal of short-lived credentials.

    Attributes:
        last_use: In the log, whenever that was; None: never there.
        requests, networks, countries: In the last `LISTED_DAYS` of the log.
        rotation_in_days: Until the rotation rule's day, negative where it is overdue; None where
            the key is not in force, or it is not known when it was created.
        scopes: As granted; None where the inventory does not say.
        scopes_used: How many of them what it called needs; None where that is not known.
        state: The first that is so: revoked, expired, unlisted (the whole inventory does not have
            it any more), not in inventory, never used, in force.
        leaked: Whether a scanner has found it.
    """

    key_id: str
    key: str | None
    name: str | None
    owner: str | None
    environment: str | None
    created_at: datetime | None
    last_use: datetime | None
    requests: int
    networks: int
    countries: tuple[str, ...]
    rotation_in_days: int | None
    scopes: tuple[str, ...] | None
    scopes_used: int | None
    state: State
    leaked: bool


def list_keys(
    lake: Lake, settings: Settings, sort: KeyOrder = "rotation", now: datetime | None = None
) -> list[ListedKey]:
    """Every key, sorted; `now` says what is expired and how far off rotation is."""
    now = now or utc_now()
    end = (last_event(lake, now) or now).date() + timedelta(days=1)
    rows = _rows(lake, now, end - timedelta(days=LISTED_DAYS), end)
    window = Window(_midnight(end), _midnight(end))
    used = used_scopes(lake, None, window, LISTED_DAYS)
    leaked = _leaked(lake, rows)
    rotation_days = _rotation_days(settings)
    keys = [
        ListedKey(
            **{
                **row,
                "countries": tuple(row["countries"] or ()),
                "scopes": None if row["scopes"] is None else tuple(row["scopes"]),
            },
            rotation_in_days=_rotation_in(row, rotation_days, now.date()),
            scopes_used=_used_of(row["scopes"], used.get(row["key_id"])),
            leaked=row["key_id"] in leaked,
        )
        for row in rows
    ]
    return sorted(keys, key=lambda one: _order(one, sort))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _rows(lake: Lake, now: datetime, first: date, end: date) -> list[dict[str, Any]]:
    rows = lake.records(
        """
        WITH inventory AS (FROM inventory_in_force()),

        used AS (
            SELECT key_id, max(last_ts) AS last_use,
                coalesce(sum(events) FILTER (day >= $first AND day < $end), 0)::BIGINT AS requests
            FROM lake.activity
            ANTI JOIN unknown_credentials_until($end::DATE) USING (key_id)
            GROUP BY key_id
        ),

        -- Of an origin no more is read than what is named before the join.
        located AS (SELECT address, network, country FROM known_places()),

        places AS (
            SELECT key_id, count(DISTINCT network) AS networks,
                list(DISTINCT country ORDER BY country) FILTER (country <> '-') AS countries
            FROM (
                SELECT DISTINCT a.key_id, p.network, p.country
                FROM (
                    SELECT DISTINCT key_id, address FROM lake.activity
                    WHERE day >= $first AND day < $end
                ) AS a
                JOIN located AS p USING (address)
            )
            GROUP BY key_id
        ),

        known AS (
            SELECT key_id, i."key", i.name, i.owner, environment_word(i.environment) AS environment,
                i.created_at, i.scopes, i.revoked_at, i.expires_at, i.key_id IS NOT NULL AS listed,
                u.last_use, coalesce(u.requests, 0) AS requests
            FROM inventory AS i
            FULL JOIN used AS u USING (key_id)
        )

        SELECT k.* EXCLUDE (revoked_at, expires_at),
            coalesce(p.networks, 0) AS networks, p.countries,
            CASE
                WHEN k.revoked_at <= $now THEN 'revoked'
                WHEN k.expires_at <= $now THEN 'expired'
                WHEN key_id IN (SELECT key_id FROM lake.unlisted_keys) THEN 'unlisted'
                WHEN NOT k.listed THEN 'not in inventory'
                WHEN k.last_use IS NULL THEN 'never used'
                ELSE 'in force'
            END AS state
        FROM known AS k
        LEFT JOIN places AS p USING (key_id)
        """,
        now=now,
        first=first,
        end=end,
    )
    shown = _shown(lake, [row["key_id"] for row in rows if not row["listed"]], first, end)
    for row in rows:
        if not row.pop("listed"):
            row["key"], row["environment"] = shown.get(row["key_id"], (None, None))
    return rows


def _shown(
    lake: Lake, key_ids: Sequence[str], first: date, end: date
) -> dict[str, tuple[str | None, str | None]]:
    """Masked form and environment of keys of no inventory, as the log has them.

    Events are read for it, which are many, so there is no question where there is no such key.
    """
    if not key_ids:
        return {}
    rows = lake.rows(
        """
        SELECT key_id, "key", environment_word(environment_of("key"))
        FROM (
            SELECT key_id, arg_max("key", ts) AS "key"
            FROM lake.events
            SEMI JOIN (SELECT unnest($key_ids::VARCHAR[]) AS key_id) USING (key_id)
            WHERE principal IS NULL AND day >= $first AND day < $end
            GROUP BY key_id
        )
        """,
        key_ids=list(key_ids),
        first=first,
        end=end,
    )
    return {key_id: (key, environment) for key_id, key, environment in rows}


def _leaked(lake: Lake, rows: Sequence[dict[str, Any]]) -> set[str]:
    if not lake.value("SELECT count(*) FROM lake.leaked_keys"):
        return set()
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE listed_keys AS SELECT unnest($key_ids::VARCHAR[]) AS key_id, "
        'unnest($keys::VARCHAR[]) AS "key"',
        key_ids=[row["key_id"] for row in rows],
        keys=[row["key"] for row in rows],
    )
    return {key_id for (key_id,) in lake.rows("SELECT key_id FROM leaks_of('listed_keys')")}


def _rotation_days(settings: Settings) -> int | None:
    """The period of the rule that the reviews go by; None where it is not there."""
    loaded = load_detectors(settings.content.folders)
    rules = (each.params for each in loaded if each.id == "rotation_overdue")
    return next((int(params["rotation_days"]) for params in rules), None)


def _rotation_in(row: dict[str, Any], rotation_days: int | None, today: date) -> int | None:
    if row["created_at"] is None or rotation_days is None or row["state"] in ("revoked", "expired"):
        return None
    due: date = row["created_at"].date() + timedelta(days=rotation_days)
    return (due - today).days


def _used_of(granted: Sequence[str] | None, used: Sequence[str] | None) -> int | None:
    """How many of the scopes `granted` the scopes that were `used` need."""
    if granted is None or used is None:
        return None
    return sum(
        scope in (*used, "*", "admin:*")
        or (scope.endswith(":*") and any(one.startswith(scope[:-1]) for one in used))
        for scope in granted
    )


def _order(one: ListedKey, sort: KeyOrder) -> tuple[Any, ...]:
    """What is not known comes last; of uses the newest, of counts the most first."""
    by: dict[KeyOrder, Any] = {
        "rotation": one.rotation_in_days,
        "key": one.key_id,
        "name": one.name,
        "owner": one.owner,
        "created": one.created_at,
        "last-use": None if one.last_use is None else -one.last_use.timestamp(),
        "requests": -one.requests,
        "state": one.state,
    }
    return (by[sort] is None, by[sort], one.key_id)
