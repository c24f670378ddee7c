"""The key inventory: who owns which key, what it may do, and until when.

Keywatch's own form is ``inventory.schema.json``; vendors' lists are told in
``vendors/NAME/inventories``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.lake import Lake, utc_now
from keywatch.notices import notice
from keywatch.text.phrases import count
from keywatch.text.secrets import Redactor
from keywatch.vendors.listed import Listed, list_text, listed_records
from keywatch.vendors.listing import Listing, listing_of, mapped_listing, tell_absent, unknown_list
from keywatch.vendors.registry import INVENTORY_COLUMNS, inventories

__all__ = ["import_keys", "insert_keys", "inventory_schema", "times_of"]

_TIMES = ("created_at", "expires_at", "revoked_at")
_SCHEMA = pa.schema(
    [
        ("key_id", pa.string()),
        ("key", pa.string()),
        ("name", pa.string()),
        ("owner", pa.string()),
        ("environment", pa.string()),
        ("scopes", pa.list_(pa.string())),
        ("created_at", pa.timestamp("us")),
        ("expires_at", pa.timestamp("us")),
        ("revoked_at", pa.timestamp("us")),
        ("replaces", pa.string()),
        ("honey", pa.bool_()),
        ("inventory", pa.string()),
    ]
)
_STATED = ("expires_at", "revoked_at", "replaces", "honey")
"""Of these null says something (it does not expire, is not revoked); of the others, not known."""
_DESCRIBING = ("key", "name", "owner", "environment", "scopes", "created_at")
_SEPARATOR = re.compile(r"[\s,;]+")
_OWN = Listing(
    "keywatch", "generic", "Keywatch's own", {name: (name,) for name in INVENTORY_COLUMNS}
)


@cache
def inventory_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a key in Keywatch's own form."""
    text = resources.files(__package__).joinpath("inventory.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def import_keys(lake: Lake, file: Path, mapping: Sequence[str] = ()) -> tuple[int, int]:
    """Import an inventory; all or nothing; returns keys read and keys changed.

    Its form is told by its content, or by `mapping` (``column=field``). A key that is as it was
    adds nothing, so importing a file again changes nothing. What the form does not tell stays as
    another inventory said. A file with at least half of the keys in force of its form is taken for
    all of them: what it does not list is remembered as unlisted. A smaller one only adds to it.

    Raises:
        InputError: a line is wrong; names file, line and field.
    """
    text = list_text(file)
    known = inventories()
    if mapping:
        form = mapped_listing(mapping, INVENTORY_COLUMNS, "key_id", "as --map says")
        tell_absent(form, text, str(file))
    else:
        form = listing_of(known, text, str(file)) or _OWN
    told = form.told(_SCHEMA.names) | ({"revoked_at"} if form.inactive else set())
    if form is _OWN:
        listed = [_in_our_case(one) for one in listed_records(text, str(file))]
        if listed and not any("key_id" in record for _, record in listed):
            raise unknown_list(listed[0], (_OWN, *known), "key_id")
        _refuse_lacking(listed)
    else:
        listed = list(form.rows(text, str(file)))
    if not listed:
        raise InputError(f"{file}: no keys found; keywatch keys schema shows what is expected")
    rows = _rows(lake, listed, None if form is _OWN else form.name)
    with lake.writing():
        if "key_id" not in told:
            rows = _named_by_creation(lake, rows, form, file)
        changed = insert_keys(lake, rows, told=told)
        _note_unlisted(lake, [row["key_id"] for row in rows], rows[0]["inventory"])
        return len(rows), changed


def _in_our_case(one: Listed) -> Listed:
    """Names of ours in any case, as a spreadsheet may write them, as the schema has them."""
    names = {name: name.lower() for name in one.record if name.lower() in INVENTORY_COLUMNS}
    return Listed(one.where, {names.get(name, name): each for name, each in one.record.items()})


def _refuse_lacking(listed: Iterable[Listed]) -> None:
    required = inventory_schema()["required"]
    for where, record in listed:
        missing = [name for name in required if record.get(name, "") == ""]
        if record.get("key_id", "") is None:
            missing.insert(0, "key_id")
        if missing:
            raise InputError(
                f"{where}: {', '.join(missing)} missing; what is not known but the key_id is null "
                "(in CSV an empty field); --map reads files that have other fields"
            )


def _note_unlisted(lake: Lake, listed: Sequence[str], inventory: str | None) -> None:
    in_force = {
        key_id
        for (key_id,) in lake.rows(
            "SELECT key_id FROM inventory_in_force() "
            "WHERE revoked_at IS NULL AND inventory IS NOT DISTINCT FROM $inventory",
            inventory=inventory,
        )
    }
    before = {key_id for (key_id,) in lake.rows("SELECT key_id FROM lake.unlisted_keys")}
    is_whole = 2 * len(in_force.intersection(listed)) >= len(in_force)
    gone = (in_force if is_whole else before & in_force).difference(listed)
    if found := sorted((before & in_force.union(listed)) - gone):
        lake.execute("DELETE FROM lake.unlisted_keys WHERE list_contains($ids, key_id)", ids=found)
    if new := sorted(gone - before):
        lake.execute(
            "INSERT INTO lake.unlisted_keys SELECT unnest($ids::VARCHAR[]), $now",
            ids=new,
            now=utc_now(),
        )


def insert_keys(
    lake: Lake,
    rows: Sequence[Mapping[str, Any]],
    imported_at: datetime | None = None,
    *,
    told: Collection[str] = _SCHEMA.names,
) -> int:
    """Add what is new of `rows` as one import of now, or of the time given.

    Of a key that is known, what is not among `told`, and what describes it and is null, stays; so
    does what another inventory said of it, but for what Keywatch's own form says. A row that is
    `inactive` was revoked at the latest now.

    Returns how many keys are new or changed.
    """
    if not rows:
        return 0
    now = imported_at or utc_now()
    schema = _SCHEMA.append(pa.field("inactive", pa.bool_()))
    complete = [{name: row.get(name) for name in schema.names} for row in rows]
    columns = ", ".join(f'"{name}"' for name in _SCHEMA.names)
    merged = ",\n".join(f'{_merged(name, told)} AS "{name}"' for name in _SCHEMA.names)
    import_id = 1 + (lake.value("SELECT max(import_id) FROM lake.keys") or 0)
    with lake.registered("imported", pa.Table.from_pylist(complete, schema=schema)):
        lake.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE new_keys AS
            SELECT {merged}
            FROM imported AS i
            LEFT JOIN (
                SELECT *, true AS is_known,
                    inventory IS DISTINCT FROM (SELECT any_value(inventory) FROM imported)
                        AND (SELECT any_value(inventory) FROM imported) IS NOT NULL AS is_anothers
                FROM inventory_in_force()
            ) AS f USING (key_id)
            EXCEPT SELECT {columns} FROM inventory_in_force()
            """,
            **({"now": now} if "$now" in merged else {}),
        )
    lake.execute(
        f"INSERT INTO lake.keys BY NAME SELECT $id AS import_id, $now AS imported_at, {columns} "
        "FROM new_keys ORDER BY key_id",
        id=import_id,
        now=now,
    )
    return int(lake.value("SELECT count(*) FROM new_keys"))


def _merged(name: str, told: Collection[str]) -> str:
    """What is stored of a column: `i` is what is imported, `f` what is in force."""
    new, old = f'i."{name}"', f'f."{name}"'
    if name == "key_id":
        return new
    if name == "inventory":
        # The list that named a key first answers for it; Keywatch's own form for all it names.
        return f"CASE WHEN f.is_anothers THEN {old} ELSE {new} END"
    if name not in told:
        return old
    if name in _DESCRIBING:
        return (
            f"CASE WHEN f.is_anothers THEN coalesce({old}, {new}) ELSE coalesce({new}, {old}) END"
        )
    if name == "revoked_at":
        return f"""CASE
            WHEN i.inactive THEN coalesce({new}, {old}, $now)
            WHEN f.is_anothers THEN coalesce({old}, {new})
            ELSE {new} END"""
    return f"CASE WHEN f.is_anothers THEN coalesce({old}, {new}) ELSE {new} END"


def _named_by_creation(
    lake: Lake, rows: Sequence[dict[str, Any]], form: Listing, file: Path
) -> list[dict[str, Any]]:
    """Those of `rows` that are about one known key: of the same user, created at the same time.

    Raises:
        InputError: none is.
    """
    known: dict[tuple[str, datetime], list[str]] = {}
    for key_id, owner, created_at in lake.rows(
        "SELECT key_id, owner, created_at FROM inventory_in_force() "
        "WHERE owner IS NOT NULL AND created_at IS NOT NULL"
    ):
        known.setdefault((owner.rpartition("/")[2], created_at), []).append(key_id)
    named = []
    for row in rows:
        found = known.get((row["name"], row["created_at"]), [])
        if len(found) == 1:
            named.append({**row, "key_id": found[0]})
    hint = (
        f"this form ({form.title}) has no key ids, so keys are matched by user and creation "
        f"time: {form.hint or 'import a list with key ids first'}"
    )
    if not named:
        raise InputError(f"{file}: none of its {count(len(rows), 'key')} is known; {hint}")
    if left := len(rows) - len(named):
        notice(f"{file}: {count(left, 'key')} of {len(rows)} left out; {hint}")
    return named


def _rows(lake: Lake, listed: Sequence[Listed], inventory: str | None) -> list[dict[str, Any]]:
    """What is stored of the records.

    Raises:
        InputError: a value is wrong, or a key is listed twice.
    """
    redactor = Redactor(lake.secret)
    times = times_of(lake, (row.get(name) for _, row in listed for name in _TIMES))
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for where, values in listed:
        row = {**_row(values, where, redactor, times), "inventory": inventory}
        if (key_id := row["key_id"]) is not None:
            if key_id in seen:
                raise InputError(f"{where}: key_id {key_id} is listed twice; remove one")
            seen.add(key_id)
        elif "key_id" in values:
            raise InputError(f"{where}: key_id missing; each key needs one")
        rows.append(row)
    return rows


def _row(
    values: Mapping[str, Any],
    where: str,
    redactor: Redactor,
    times: Mapping[str, datetime | None],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: _text(values.get(name), f"{where}: {name}", redactor)
        for name in ("key_id", "name", "owner", "environment", "replaces")
    }
    for name in _TIMES:
        row[name] = _time(values.get(name), f"{where}: {name}", times, redactor)
    key = values.get("key")
    _text(key, f"{where}: key", redactor)
    return {
        **row,
        "key": None if key is None else redactor.mask_key(str(key)),
        "scopes": _scopes(values.get("scopes"), where, redactor),
        "honey": _flag(values.get("honey"), f"{where}: honey", redactor),
        "inactive": values.get("inactive"),
    }


def _text(value: object, where: str, redactor: Redactor) -> str | None:
    """A text, or a number as one, less what is blank around it; None where nothing is left."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where} must be text, not {redactor.redact(json.dumps(value))[:100]}")
    return redactor.redact(str(value).strip()) or None


def _scopes(value: object, where: str, redactor: Redactor) -> list[str] | None:
    """Scopes of a list, a text, or a table of permissions: ``{"issues": "read"}``."""
    if value is None:
        return None
    if isinstance(value, str):
        with suppress(json.JSONDecodeError):
            if value.startswith("[") and isinstance(inner := json.loads(value), list):
                return _scopes(inner, where, redactor)
        value = [each for each in _SEPARATOR.split(value) if each]
    elif isinstance(value, Mapping):
        value = list(_permissions(value))
    if not isinstance(value, list) or not all(isinstance(scope, str) for scope in value):
        met = redactor.redact(json.dumps(value))
        raise InputError(f"{where}: scopes must be a list of strings, not {met}")
    return [*map(redactor.redact, value)]


def _permissions(value: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _permissions(inner, (*before, name))
        else:
            yield ":".join((*before, name, str(inner)))


def _flag(value: object, where: str, redactor: Redactor) -> bool | None:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value is not None and not isinstance(value, bool):
        met = redactor.redact(json.dumps(value))
        raise InputError(f"{where} is {met}; use true or false, or omit it")
    return value


def times_of(lake: Lake, values: Iterable[object]) -> dict[str, datetime | None]:
    """The times that texts say, in UTC: as logs have them, or a day; None for what is none."""
    texts = sorted({str(value) for value in values if value is not None})
    if not texts:
        return {}
    with lake.registered("time_texts", pa.table({"text": texts})):
        rows = lake.rows(
            r"""
            SELECT text, coalesce(utc(text), CASE WHEN regexp_full_match(text, '\d{4}-\d\d-\d\d')
                THEN try_cast(text AS TIMESTAMP) END)
            FROM time_texts
            """
        )
    return dict(rows)


def _time(
    value: object, where: str, times: Mapping[str, datetime | None], redactor: Redactor
) -> datetime | None:
    if value is None or (moment := times[str(value)]) is not None:
        return None if value is None else moment
    met = redactor.redact(str(value))[:100]
    with suppress(ValueError):
        if datetime.fromisoformat(str(value)).tzinfo is None:
            raise InputError(f"{where} is {met}, which has no offset; write 2026-09-30T00:00:04Z")
    raise InputError(f"{where} is not RFC 3339 (2026-09-30T00:00:04Z), but {met}")
