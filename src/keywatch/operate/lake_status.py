"""`keywatch lake init` and `status`: where a lake is, what it holds, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from keywatch.errors import LakeDamagedError, SecretError
from keywatch.lake import FORMAT_VERSION, METADATA, Lake, quoted
from keywatch.lake.attach import catalogue_place, s3_place
from keywatch.lake.folder import WriterJournal
from keywatch.lake.key_hash import OwnSecret
from keywatch.operate import maintain
from keywatch.settings import LakeSettings
from keywatch.text.phrases import count, size


class LakeStatus(BaseModel):
    """A lake as `keywatch lake status` shows it; times are UTC, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    """The lake's id; the place of its Parquet files contains the same one."""
    folder: str
    """The folder of this machine."""
    catalogue: str
    """Where the catalogue is: a file, or server, database and user; never a password."""
    data: str
    """Where the Parquet files are; of an object store, also how it is reached."""
    is_shared: bool
    """The catalogue is a server, or a file that the settings name."""
    is_encrypted: bool
    """The Parquet files are encrypted, with keys that are in the catalogue."""
    is_read_only: bool
    """Nothing can be stored from this machine."""
    format_version: int
    """The format of the lake's tables."""
    snapshot: int
    """The newest one."""
    snapshots: int
    """How many are kept."""
    oldest_snapshot: datetime | None
    """When the oldest one that is kept was stored."""
    events: int
    """Requests that are stored; pruned ones are not counted."""
    log_files: int
    """Files that were loaded."""
    days: int
    """Days with activity."""
    first_day: date | None
    """The first day with activity."""
    last_day: date | None
    """The last day with activity."""
    keys: int
    """Keys with activity."""
    reviews: int
    """Stored runs."""
    alerts: int
    """Alerts that were ever opened."""
    parquet_files: int
    """Files of the newest snapshot."""
    data_bytes: int
    """Size of the Parquet files of the newest snapshot."""
    catalogue_bytes: int
    """Size of the catalogue's file or database."""
    secret_fingerprint: str | None
    """Of the secret that keys are hashed with."""
    secret: Literal["same", "other", "missing", "damaged"]
    """This machine's secret, compared with the lake's."""
    secret_place: str
    """Where this machine has its secret, or would have it."""
    writer: str | None
    """Who writes now."""
    last_maintained: datetime | None
    """When keywatch lake maintain was last completed."""
    needs: tuple[str, ...]
    """What has to be done, a sentence each."""


def status_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `keywatch lake status --format json`."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return draft | LakeStatus.model_json_schema(mode="serialization")


def lake_status(lake: Lake, settings: LakeSettings) -> LakeStatus:
    """The status of an open lake; nothing is changed.

    Raises:
        LakeError: the catalogue or the files can't be read.
    """
    assert lake.folder is not None
    secret = _secret_state(lake)
    return LakeStatus(
        id=lake.value("SELECT id FROM lake.identity"),
        folder=str(lake.folder),
        catalogue=catalogue_place(lake.folder, settings),
        data=data_place(lake, settings),
        is_shared=settings.catalog is not None,
        is_encrypted=lake.is_encrypted,
        is_read_only=lake.read_only,
        format_version=FORMAT_VERSION,
        **_counts(lake),
        **_sizes(lake),
        secret_fingerprint=lake.secret_fingerprint,
        secret=secret,
        secret_place=OwnSecret(lake.folder, settings).place,
        writer=lake.writer(),
        last_maintained=lake.value("SELECT max(made_at) FROM lake.maintenance"),
        needs=tuple(_needs(lake, lake.folder, secret)),
    )


def data_place(lake: Lake, settings: LakeSettings) -> str:
    """Where the Parquet files are, in words."""
    if lake.data_path.startswith("s3://"):
        return s3_place(lake.data_path, settings.s3)
    return lake.data_path


def _counts(lake: Lake) -> dict[str, Any]:
    return lake.records(
        """
        SELECT (SELECT count(*) FROM lake.events) AS events,
            (SELECT count(*) FROM lake.ingested_files) AS log_files,
            count(DISTINCT day) AS days, min(day) AS first_day, max(day) AS last_day,
            count(DISTINCT key_id) AS keys,
            (SELECT count(*) FROM lake.runs) AS reviews,
            (SELECT count(DISTINCT alert_id) FROM lake.alerts) AS alerts
        FROM lake.activity
        """
    )[0]


def _sizes(lake: Lake) -> dict[str, Any]:
    found = lake.records(
        """
        SELECT max(snapshot_id) AS snapshot, count(*) AS snapshots,
            min(snapshot_time)::TIMESTAMPTZ AS oldest_snapshot
        FROM ducklake_snapshots('lake')
        """
    )[0]
    found["parquet_files"] = maintain.file_count(lake)
    found["data_bytes"] = lake.value(
        "SELECT coalesce(sum(file_size_bytes + delete_file_size_bytes), 0)::BIGINT "
        "FROM ducklake_table_info('lake')"
    )
    file = lake.sqlite_file
    if file is not None:
        return found | {"catalogue_bytes": file.stat().st_size}
    asked = quoted("SELECT pg_database_size(current_database())")
    return found | {"catalogue_bytes": lake.value(f"FROM postgres_query('{METADATA}', {asked})")}


def _secret_state(lake: Lake) -> Literal["same", "other", "missing", "damaged"]:
    try:
        return "same" if lake.check_secret() else "missing"
    except SecretError:
        return "other" if lake.has_secret else "missing"
    except LakeDamagedError:
        return "damaged"


def _needs(lake: Lake, folder: Path, secret: str) -> Iterator[str]:
    if secret in ("other", "missing"):
        yield (
            f"This machine's key-hash secret is {secret}: it can't load logs. Name the lake's in "
            "storage.key_hash_secret"
        )
    if secret == "damaged":
        yield "The key-hash secret is missing or damaged: see keywatch doctor"
    if maintain.is_due(lake):
        yield "Maintenance is due: keywatch lake maintain"
    if maintain.is_purge_due(lake):
        yield "An erasure is not complete: keywatch lake maintain"
    if unfinished := len(WriterJournal(folder).unfinished()):
        yield (
            f"{count(unfinished, 'transaction')} of this machine did not end: the next writer "
            "removes what is left"
        )


# ------------------------------------------------------------------------------------------- text


def render_status(status: LakeStatus) -> Iterator[str]:
    """The status, a line each."""
    kind = "shared" if status.is_shared else "local"
    kind += ", read-only" if status.is_read_only else ""
    yield f"Lake {status.id} ({kind}, format {status.format_version})"
    days = ""
    if status.days:
        days = f" on {count(status.days, 'day')}, {status.first_day} to {status.last_day}"
    rows = {
        "folder": status.folder,
        "catalogue": f"{status.catalogue}, {size(status.catalogue_bytes)}",
        "data": f"{status.data}, {count(status.parquet_files, 'file')}, {size(status.data_bytes)}",
        "encrypted": "yes" if status.is_encrypted else "no",
        "events": f"{count(status.events, 'event')} of {count(status.keys, 'key')}{days}, "
        f"from {count(status.log_files, 'log file')}",
        "reviews": f"{count(status.reviews, 'run')}, {count(status.alerts, 'alert')}",
        "snapshots": f"{count(status.snapshots, 'snapshot')}, the newest {status.snapshot}"
        + (f", the oldest of {status.oldest_snapshot:%Y-%m-%d}" if status.oldest_snapshot else ""),
        "secret": f"fingerprint {status.secret_fingerprint or 'none yet'}; this machine's "
        f"({status.secret_place}) is {'the same' if status.secret == 'same' else status.secret}",
        "writer": status.writer or "none now",
        "maintained": f"{status.last_maintained:%Y-%m-%d %H:%M} UTC"
        if status.last_maintained
        else "never",
    }
    for name, text in rows.items():
        yield f"  {name:12}{text}"
    yield from status.needs


def render_made(status: LakeStatus, *, is_new: bool) -> Iterator[str]:
    """What `keywatch lake init` made or found, and what the other machines need."""
    yield f"Lake {status.id} {'created' if is_new else 'found'}, format {status.format_version}."
    yield f"  catalogue   {status.catalogue}"
    yield f"  data        {status.data}"
    yield f"  encrypted   {'yes' if status.is_encrypted else 'no'}"
    yield f"  secret      {status.secret_place}, fingerprint {status.secret_fingerprint}"
    if not status.is_shared:
        yield f"Load a log: keywatch ingest PATH --lake {status.folder}"
        return
    yield (
        "Each other machine needs these [storage] settings, access to catalogue and data, and the "
        f"secret of {status.secret_place} (storage.key_hash_secret). keywatch lake init checks it."
    )
