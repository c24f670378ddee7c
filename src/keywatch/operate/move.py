"""`keywatch lake move`: a lake copied into a new one, in another place or kept in another way.

All rows of all tables arrive in one transaction, and are counted and hashed on both sides before it
is committed. The old lake is only read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from keywatch.deliver.claims import Claims, claims_of
from keywatch.deliver.journal import Journal, Record
from keywatch.deliver.sender import only_sender
from keywatch.errors import LakeBusyError, LakeError, SecretError
from keywatch.lake import Lake
from keywatch.lake.folder import write_safely
from keywatch.lake.key_hash import OwnSecret, fingerprint
from keywatch.review.watch import HOURS_FILE
from keywatch.settings import LakeSettings
from keywatch.settings.deliver import DeliverSettings
from keywatch.text.phrases import count
from keywatch.text.secrets import SECRET_FILE

_OF_THE_LAKE = ("format", "identity")
"""Tables that each lake has of its own."""


@dataclass(frozen=True)
class Moved:
    """What was copied: rows by table, and the folders of the old and the new lake."""

    rows: dict[str, int]
    old: Path
    new: Path


def move(
    old_folder: Path, old_settings: LakeSettings, new_folder: Path, new_settings: LakeSettings
) -> Moved:
    """Copy the lake of `old_folder` into a new one; other writers of both wait meanwhile.

    What is killed or fails leaves the new lake empty, and can be repeated.

    Raises:
        LakeError: the new lake is not empty, or what arrived is not what was read.
        LakeBusyError: another process kept writing to one of them.
        SecretError: this machine does not have the old lake's secret, or the settings of the new
            lake name another.
    """
    with ExitStack() as stack:
        old = stack.enter_context(Lake.open(old_folder, old_settings))
        outcomes = Journal(old_folder).waiting()
        if not old.read_only:
            stack.enter_context(only_sender(old, old_settings.wait_seconds))
            stack.enter_context(old.alone())
            outcomes = _stop_sending(old, stack.enter_context(claims_of(old, DeliverSettings())))
        stack.enter_context(old.reading())
        handed_over = _hand_over_secret(old, old_folder, new_folder, new_settings)
        try:
            new = stack.enter_context(Lake.open(new_folder, new_settings, create=True))
            _refuse_what_is_there(new, new_folder)
        except BaseException:
            if handed_over is not None:
                handed_over.unlink()
            raise
        with new.alone():
            new.continue_after(old.snapshot)
        with new.writing():
            rows = {table: _copy(old, new, table) for table in _tables(new)}
        with claims_of(new, DeliverSettings()) as there:
            for record in outcomes:
                there.journal.add(record)
        if (old_folder / HOURS_FILE).exists():
            shutil.copyfile(old_folder / HOURS_FILE, new_folder / HOURS_FILE)
            (new_folder / HOURS_FILE).chmod(0o600)
    return Moved(rows, old_folder, new_folder)


def render_moved(moved: Moved) -> Iterator[str]:
    """What was done and what is left to do, a line each."""
    yield (
        f"{count(sum(moved.rows.values()), 'row')} of {count(len(moved.rows), 'table')} copied "
        f"from {moved.old} to {moved.new}; counts and hashes of each table agree."
    )
    yield (
        "The old lake is unchanged. Use the new one from now on (--lake and settings of all "
        "schedules): what is stored in the old one does not get there. Then delete the old one."
    )


def _stop_sending(old: Lake, claims: Claims) -> list[Record]:
    """Claim all channels with messages; what became of messages that the lake does not have yet.

    Raises:
        LakeBusyError: another machine sends.
    """
    channels = {channel for (channel,) in old.rows("SELECT DISTINCT channel FROM lake.deliveries")}
    if left := channels - claims.take(channels):
        sending = [str(one) for name, one in claims.others().items() if name in left]
        who = sending[0] if sending else "another machine has been sending"
        raise LakeBusyError(f"{old.folder}: {who}; nothing was copied: try again later")
    return claims.journal.waiting()


def _hand_over_secret(
    old: Lake, old_folder: Path, new_folder: Path, new_settings: LakeSettings
) -> Path | None:
    """See that the new lake gets the old one's secret; the file that was written for it, if any."""
    old.check_secret()
    known = old.secret_fingerprint
    own = OwnSecret(new_folder, new_settings)
    if (secret := own.find()) is not None:
        if known is not None and fingerprint(secret) != known:
            raise SecretError(
                f"{own.place}: not the key-hash secret of {old_folder} (fingerprint {known}): "
                "keys would get another hash. Store the old lake's secret there, or remove it"
            )
        return None
    new_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_safely(new_folder / SECRET_FILE, f"{old.secret.hex()}\n".encode())
    return new_folder / SECRET_FILE


def _refuse_what_is_there(new: Lake, folder: Path) -> None:
    filled = [table for table in _tables(new) if new.rows(f"SELECT 1 FROM lake.{table} LIMIT 1")]
    if filled:
        raise LakeError(
            f"{folder}: there is a lake already ({', '.join(filled[:5])} have rows); nothing was "
            "copied: choose another folder and another place of catalogue and data"
        )


def _tables(lake: Lake) -> list[str]:
    found = lake.rows(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' ORDER BY table_name"
    )
    return [table for (table,) in found if table not in _OF_THE_LAKE]


def _copy(old: Lake, new: Lake, table: str) -> int:
    """Copy the rows of a table, in their order; returns how many there are on both sides."""
    columns = _columns(new, table)
    if sorted(columns) != sorted(_columns(old, table)):
        raise LakeError(f"table {table} has other columns in the two lakes; nothing was copied")
    names = ", ".join(f'"{name}"' for name, _ in columns)
    new.append_stream(table, old.stream(f"SELECT {names} FROM lake.{table}"))
    read, arrived = _digest(old, table, names), _digest(new, table, names)
    if read != arrived:
        raise LakeError(
            f"table {table}: {arrived[0]:,} rows arrived of {read[0]:,}, or other ones (hashes "
            f"{read[1]:x} and {arrived[1]:x}); nothing was copied"
        )
    return read[0]


def _columns(lake: Lake, table: str) -> Sequence[tuple[str, str]]:
    return lake.rows(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = 'lake' AND table_name = $table ORDER BY column_index",
        table=table,
    )


def _digest(lake: Lake, table: str, names: str) -> tuple[int, int]:
    """How many rows, and a hash of them all, whatever their order; equal rows count each."""
    rows, hashed = lake.rows(
        f"SELECT count(*), coalesce(sum(hash({names})::HUGEINT), 0) FROM lake.{table}"
    )[0]
    return rows, int(hashed)
