"""The key inventory: who owns which key, what it may do, and until when."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from keywatch.errors import InputError
from keywatch.lake import Lake, utc_now
from keywatch.text.secrets import Redactor

_REQUIRED = ("key_id", "key", "name", "environment", "scopes", "created_at")
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
    ]
)


def import_keys(lake: Lake, file: Path) -> tuple[int, int]:
    """Import an inventory file (JSON Lines); all or nothing; returns keys read and keys changed.

    A key that is as it was adds nothing, so importing a file again changes nothing. A file with at
    least half of the keys in force is taken for the whole inventory: what it does not list is
    remembered as unlisted. A smaller one only adds to it.

    Raises:
        InputError: a line is wrong; names file, line and field.
    """
    redactor = Redactor(lake.secret)
    rows = _read(file, redactor)
    with lake.writing():
        changed = insert_keys(lake, rows)
        _note_unlisted(lake, [row["key_id"] for row in rows])
        return len(rows), changed


def _note_unlisted(lake: Lake, listed: Sequence[str]) -> None:
    in_force = {
        key_id
        for (key_id,) in lake.rows(
            "SELECT key_id FROM inventory_in_force() WHERE revoked_at IS NULL"
        )
    }
    before = {key_id for (key_id,) in lake.rows("SELECT key_id FROM lake.unlisted_keys")}
    is_whole = 2 * len(in_force.intersection(listed)) >= len(in_force)
    gone = (in_force if is_whole else before & in_force).difference(listed)
    if found := sorted(before - gone):
        lake.execute("DELETE FROM lake.unlisted_keys WHERE list_contains($ids, key_id)", ids=found)
    if new := sorted(gone - before):
        lake.execute(
            "INSERT INTO lake.unlisted_keys SELECT unnest($ids::VARCHAR[]), $now",
            ids=new,
            now=utc_now(),
        )


def insert_keys(
    lake: Lake, rows: Sequence[Mapping[str, Any]], imported_at: datetime | None = None
) -> int:
    """Add what is new of `rows` as one import of now, or of the time given.

    Returns how many keys are new or changed.
    """
    if not rows:
        return 0
    complete = [{name: row.get(name) for name in _SCHEMA.names} for row in rows]
    lake.connection.register("imported", pa.Table.from_pylist(complete, schema=_SCHEMA))
    columns = ", ".join(_SCHEMA.names)
    import_id = 1 + (lake.value("SELECT max(import_id) FROM lake.keys") or 0)
    lake.execute(
        f"CREATE OR REPLACE TEMP TABLE new_keys AS SELECT {columns} FROM imported EXCEPT "
        f"SELECT {columns} FROM inventory_in_force()"
    )
    lake.connection.unregister("imported")
    lake.execute(
        f"INSERT INTO lake.keys BY NAME SELECT $id AS import_id, $now AS imported_at, {columns} "
        "FROM new_keys ORDER BY key_id",
        id=import_id,
        now=imported_at or utc_now(),
    )
    return int(lake.value("SELECT count(*) FROM new_keys"))


def _read(file: Path, redactor: Redactor) -> list[dict[str, Any]]:
    try:
        # Not splitlines: names may hold U+2028 and the like.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{file}: can't be read: {e}") from e
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _row(line, f"{file}, line {number}", redactor)
            if row["key_id"] in rows:
                raise InputError(f"{file}, line {number}: key_id {row['key_id']} is listed twice")
            rows[row["key_id"]] = row
    if not rows:
        raise InputError(f"{file}: no keys found; one JSON object per line is expected")
    return list(rows.values())


def _row(line: str, where: str, redactor: Redactor) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as e:
        raise InputError(f"{where}: not valid JSON: {e}") from e
    if not isinstance(values, dict):
        raise InputError(f"{where}: a JSON object is expected")
    missing = [name for name in _REQUIRED if values.get(name) in (None, "")]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing")
    scopes = values["scopes"]
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise InputError(f"{where}: scopes must be a list of strings")
    honey = values.get("honey")
    if honey is not None and not isinstance(honey, bool):
        met = redactor.redact(json.dumps(honey))
        raise InputError(f"{where}: honey is {met}; use true or false, or omit it")
    row: dict[str, Any] = {
        name: redactor.redact(str(values[name])) if values.get(name) is not None else None
        for name in ("key_id", "name", "owner", "environment", "replaces")
    }
    row |= {name: _time(values.get(name), f"{where}: {name}") for name in _TIMES}
    row |= {"key": redactor.mask_key(str(values["key"])), "scopes": [*map(redactor.redact, scopes)]}
    return {**row, "honey": honey}


def _time(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as e:
        raise InputError(f"{where} is not RFC 3339 (2026-09-30T00:00:04Z)") from e
    if moment.tzinfo is None:
        if len(str(value)) > len("2026-09-30"):
            raise InputError(f"{where} has no offset; write 2026-09-30T00:00:04Z")
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
