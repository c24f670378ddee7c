"""The lake: Parquet files in one folder with a DuckLake catalogue. The only home of connections.

A lake folder holds ``catalog.sqlite`` (or the settings name another catalogue; ``-wal`` and
``-shm`` are beside it while it is open), ``data/`` (Parquet, and ``lake.id``), ``tmp/`` (spill),
``key-hash.secret`` (0600), ``writer.lock`` and the locks of reviews (`keywatch.lake.locks`),
``writer.journal`` (`keywatch.lake.folder`), and what `keywatch.deliver` keeps: ``deliver.lock`` and
``outbox.journal``. Every connection attaches the lake as the catalogue ``lake``; temporary tables
are the connection's own. No connection may touch a file outside the place of the Parquet files, but
for the catalogue that it opened.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from keywatch.errors import (
    LakeBusyError,
    LakeDamagedError,
    LakeError,
    LakeReadOnlyError,
    SettingsError,
    UsageError,
)
from keywatch.lake import attach, key_hash, reached
from keywatch.lake import folder as files
from keywatch.lake.catalogue_copies import keep_copy
from keywatch.lake.explaining import explained, first_line
from keywatch.lake.key_macros import key_macros
from keywatch.lake.literals import quoted, with_values
from keywatch.lake.locks import TurnLock, WriterLock
from keywatch.lake.server import CatalogueServer
from keywatch.notices import is_stopping
from keywatch.settings import LakeSettings
from keywatch.settings.secret_ref import SecretRef

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 8
_TABLES = ("schema", "schema_alerts", "schema_questions")
_MACROS = ("macros", "in_force", "verdicts")
_UPGRADES = {
    2: ("upgrade_2_to_3", "schema_alerts"), 3: ("upgrade_3_to_4",), 4: ("upgrade_4_to_5",),
    5: ("upgrade_5_to_6",), 6: ("upgrade_6_to_7",), 7: ("schema_questions",),
}  # fmt: skip
"""What makes the next format of a lake's format, as files of ``sql/``."""
METADATA = "__ducklake_metadata_lake"
"""Where DuckLake has attached its catalogue."""
_SMALL_ROWS = 100_000
"""Of ``activity``: what is read of so many costs less on one core than to share it out."""
_LEFT_ALONE_MS = 86_400_000
_BATCH_ROWS = 20_480
_RECORDS_AT_ONCE = 10_000
_FIRST_RETRY_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 2.0

_CHECKED: set[str] = set()
"""Queries that were found to be one SELECT which reaches for nothing, in whatever lake."""

Row = tuple[Any, ...]


def utc_now() -> datetime:
    """Now, UTC, naive, as every time in the lake is."""
    return datetime.now(UTC).replace(tzinfo=None)


def duckdb_version() -> str:
    """The version of the DuckDB library."""
    return str(duckdb.__version__)


@cache
def sql_text(name: str, package: str = "keywatch.lake") -> str:
    """The SQL of ``<name>.sql``, which lies beside the code of `package` that runs it."""
    return resources.files(package).joinpath(f"{name}.sql").read_text(encoding="utf-8")


@cache
def sql_statements(name: str, package: str) -> tuple[str, ...]:
    """The statements of ``<name>.sql`` of `package`, each with the comment before it."""
    return tuple(each.query for each in duckdb.extract_statements(sql_text(name, package)))


def _make_macros(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(key_macros())
    for name in _MACROS:
        connection.execute(sql_text(name))


class _Slot:
    """What a registered name reads: an Arrow table that can be changed under it.

    To drop and register the name again would keep each table in memory until the transaction ends.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_schema__(self) -> object:
        return self.table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Lake:
    """An open connection to a lake; a context manager.

    `connection` is a DuckDB connection with the tables of ``lake/schema.sql`` under ``lake.``.
    """

    Error = duckdb.Error
    """What a failed statement raises."""
    ResourceError = (duckdb.OutOfMemoryException, duckdb.InterruptException, duckdb.IOException)
    """What has nothing to do with the statement or its rows."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Path | None, settings: LakeSettings
    ) -> None:
        # It would write to standard output, which is the report's. No option of the whole database.
        # In Jupyter without ipywidgets DuckDB refuses to be told, and has no bar.
        with suppress(duckdb.InvalidInputException):
            connection.execute("SET enable_progress_bar = false")
        self.connection = connection
        self.folder = folder
        self._settings = settings
        self.read_only = False
        """Nothing can be written: the folder is not to be written to."""
        self.is_new = False
        """Its tables were created when it was opened."""
        self.is_encrypted = False
        """Its Parquet files are, with keys that are in the catalogue."""
        self._slots: dict[str, _Slot] = {}
        self._plans: dict[str, str] = {}
        self._plan_numbers = itertools.count()
        self._values: dict[str, Any] = {}
        self._is_brief = False
        self._undoing = False
        self._snapshot: int | None = None
        self._copied: Path | None = None
        self._spill: Path | None = None
        self._closing = ExitStack()
        self._lock = WriterLock(folder or Path(), settings)
        self._own_secret = key_hash.OwnSecret(folder or Path(), settings)
        self.secret_fingerprint: str | None = None
        """Of the secret that the lake's keys are hashed with; None where there was none yet."""

    @classmethod
    def in_memory(cls) -> Lake:
        """An empty lake that lives and dies with the connection; for detector cases and tests."""
        connection = duckdb.connect(config=attach.CONFIG | {"threads": 1})
        connection.execute("ATTACH ':memory:' AS lake")
        for name in _TABLES:
            connection.execute(sql_text(name))
        _make_macros(connection)
        return cls(connection, None, LakeSettings())

    @classmethod
    def scratch(cls) -> Lake:
        """A database without tables that never touches the disk: for text not yet redacted."""
        # Arrow has no dictionary of string views: they would be copied once more.
        connection = duckdb.connect(
            config=attach.CONFIG
            | {"temp_directory": "", "threads": 1, "produce_arrow_string_view": "false"}
        )
        connection.execute(sql_text("macros"))
        return cls(connection, None, LakeSettings())

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: LakeSettings | None = None,
        *,
        create: bool = False,
    ) -> Lake:
        """The lake in `folder`; with `create`, made (0700) where there is none.

        A lake of an older Keywatch is upgraded.

        Raises:
            LakeError: there is no lake in `folder`.
            LakeBusyError: another process kept the catalogue locked.
            LakeDamagedError: the catalogue is missing beside Parquet files, not a lake's, another
                lake's than the files, or of a format that is not known.
        """
        settings = settings or LakeSettings()
        lake = cls(duckdb.connect(config=attach.CONFIG), folder, settings)
        try:
            lake._open(create)
        except BaseException:
            lake.close()
            raise
        return lake

    @classmethod
    def open_damaged(cls, folder: Path, settings: LakeSettings) -> Lake:
        """What there is of a lake, to be looked at or repaired: nothing is read of it or made yet.

        Raises:
            LakeDamagedError: it has no catalogue, or one that can't be opened.
        """
        lake = cls(duckdb.connect(config=attach.CONFIG), folder, settings)
        try:
            with lake._explaining():
                lake._load_extensions()
                if not lake._find_catalogue() or not lake._attach(make=False):
                    raise lake._damaged("the catalogue is missing or empty")
        except BaseException:
            lake.close()
            raise
        return lake

    def attach_again(self) -> None:
        """Read the catalogue anew, after it was changed beside DuckLake."""
        self._read_at(self._snapshot)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The writer's lock, and no transaction: for who repairs."""
        with self._explaining(), self._writer_lock():
            yield

    def keep_copy(self, now: datetime) -> None:
        """Copy the catalogue where the last copy is an hour old (`catalogue_copies`)."""
        if self.folder is not None and self.sqlite_file is not None and not self.read_only:
            keep_copy(self.sqlite_file, now)

    def _open(self, create: bool) -> None:
        with self._explaining():
            self._load_extensions()
            if not self._find_catalogue() or not self._attach(make=False):
                self._make(create)
            if self.sqlite_file is None and not self.read_only and not self._may_write():
                self.read_only = True
                self._read_at(None)
            self._check_format(create)
            # Each transaction opens the catalogue anew, which takes 2 ms.
            self.connection.execute("BEGIN")
            self._check_owner()
            _make_macros(self.connection)
            is_small = self.is_small()
            self.connection.execute("COMMIT")
            if self._settings.threads is None and is_small:
                self.connection.execute("SET threads = 1")
            if self.sqlite_file is not None:
                self._lock_down()

    @property
    def _catalog(self) -> str:
        return self._settings.catalog or f"sqlite:{self.sqlite_file}"

    @property
    def sqlite_file(self) -> Path | None:
        """The catalogue where it is a file; of a lake that is read-only, a copy of it."""
        if self._copied is not None:
            return self._copied
        assert self.folder is not None
        return attach.catalogue_file(self.folder, self._settings)

    @property
    def data_path(self) -> str:
        """Where the Parquet files are: a folder or an URL."""
        return self._settings.data_path or f"{self.folder}/data"

    @property
    def data_folder(self) -> Path | None:
        """Where the Parquet files are; None where that is no folder of this machine."""
        return None if "://" in self.data_path else Path(self.data_path)

    def _load_extensions(self) -> None:
        scanner = "sqlite_scanner" if self.sqlite_file else "postgres_scanner"
        remote = ["httpfs"] if "://" in self.data_path else []
        for name in ("ducklake", scanner, *remote):
            attach.load_extension(self.connection, name)
        if self.data_path.startswith("s3://"):
            attach.grant_s3(self.connection, self.data_path, self._settings.s3)

    def _find_catalogue(self) -> bool:
        """Whether there may be a catalogue; one in a folder that is read-only is copied.

        SQLite can't read a catalogue with a write-ahead log where it can make no file.
        """
        assert self.folder is not None
        file = self.sqlite_file
        self.read_only = self.folder.exists() and not os.access(self.folder, os.W_OK)
        if file is None:
            return True
        if not file.exists() or not file.stat().st_size:
            return False
        if self.read_only or not os.access(file.parent, os.W_OK):
            self.read_only = True
            place = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
            for each in (file, file.with_name(f"{file.name}-wal")):
                if each.exists():
                    shutil.copyfile(each, place / each.name)
            self._copied = place / file.name
        return True

    def _set_up(self) -> None:
        """Make the folders that are not there, and say where to spill."""
        assert self.folder is not None
        if self._spill is None and self.read_only:
            self._spill = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        elif self._spill is None:
            # The folder of the Parquet files is made with the lake alone: where it is gone, or its
            # disk is not there, nothing may look as if it were.
            for path in (self.folder, self.folder / "tmp"):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            spill = files.spill_folder(self.folder / "tmp")
            self._spill = self._closing.enter_context(spill)
        self.connection.execute(f"SET temp_directory = {quoted(str(self._spill))}")
        try:
            self.connection.execute(f"SET memory_limit = {quoted(self._settings.memory_limit)}")
        except duckdb.Error as e:
            raise UsageError(
                f"storage.memory_limit {self._settings.memory_limit!r}: {first_line(e)}; "
                'write it as "1GB"'
            ) from e
        if self._settings.threads:
            self.connection.execute(f"SET threads = {self._settings.threads}")

    def _attach(self, *, make: bool | None = None) -> bool:
        """Attach the lake: at the snapshot that is read, else at its newest state.

        Returns False where there is no catalogue and, with `make` False, none is to be made.
        """
        if make is not None:
            self._set_up()
        # A lake may be moved, and named by another path than when it was made.
        options = f"DATA_PATH {quoted(self.data_path)}, OVERRIDE_DATA_PATH true"
        options += f", DATA_INLINING_ROW_LIMIT 0, CREATE_IF_NOT_EXISTS {bool(make)}"
        if self._settings.encrypted is not None:
            options += f", ENCRYPTED {self._settings.encrypted}"
        if self.sqlite_file:
            # Write-ahead logging, or a commit would fail while another process reads.
            wait_ms = int(1000 * self._settings.wait_seconds)
            options += f", META_JOURNAL_MODE 'WAL', META_BUSY_TIMEOUT {wait_ms}"
        if self._snapshot is not None:
            options += f", SNAPSHOT_VERSION {self._snapshot}"
        if self._snapshot is not None or self.read_only:
            options += ", READ_ONLY"
        statement = f"ATTACH {quoted(f'ducklake:{self._catalog}')} AS lake ({options})"
        try:
            self._retry(lambda: self.connection.execute(statement))
        except duckdb.Error as e:
            if "creating a new DuckLake is explicitly disabled" in str(e):
                return False
            if told := self._unreachable(e):
                raise told from None
            if told := self._explained(e):
                raise told from e
            if "Failed to set encryption" in str(e):
                raise self._encrypted_otherwise() from None
            raise self._damaged(f"the catalogue can't be opened: {first_line(e)}") from e
        if make is not None:
            self._prepare_encryption()
        return True

    def _encrypted_otherwise(self) -> SettingsError:
        is_wanted = bool(self._settings.encrypted)
        return SettingsError(
            f"storage.encrypted is {str(is_wanted).lower()}, but the lake in {self.folder} is "
            f"{'not ' * is_wanted}encrypted; a lake stays as it was created. Remove the setting, "
            "or copy the lake into a new one: keywatch lake move"
        )

    def _prepare_encryption(self) -> None:
        """See whether the lake is encrypted; if so, load the cipher, and encrypt what spills."""
        found = f"FROM {METADATA}.ducklake_metadata WHERE key = 'encrypted' AND value = 'true'"
        self.is_encrypted = bool(self.rows(found))
        if self.is_encrypted:
            # DuckDB reads encrypted files by itself, and writes them with the cipher of httpfs.
            attach.load_extension(self.connection, "httpfs")
            self.connection.execute("SET temp_file_encryption = true")

    def is_small(self) -> bool:
        """Whether it costs less to read its roll-ups whole than to look for a part of them."""
        return bool(self.value("SELECT count(*) FROM lake.activity") <= _SMALL_ROWS)

    def _may_write(self) -> bool:
        """Whether the role in PostgreSQL may commit, or only read."""
        asked = "SELECT has_table_privilege(''ducklake_snapshot'', ''INSERT'')"
        row = self.connection.execute(f"FROM postgres_query('{METADATA}', '{asked}')").fetchone()
        return bool(row and row[0])

    def _make(self, create: bool) -> None:
        """Make the catalogue of a new lake: only where nothing of an old one is left.

        Raises:
            LakeDamagedError: there are Parquet files, or a lake's id, but no catalogue.
            LakeError: there is nothing, and nothing is to be made.
        """
        assert self.folder is not None
        if not create:
            self._refuse_remains(self._begun())
            raise LakeError(
                f"{self.folder}: no lake found there; load a log first "
                f"(keywatch ingest PATH --lake {self.folder})"
            )
        if self.read_only:
            raise LakeReadOnlyError(
                f"{self.folder}: the folder is read-only; no lake can be created there"
            )
        self._refuse_remains(self._begun())
        self._set_up()
        with self._writer_lock():
            if self._find_catalogue() and self._attach(make=False):
                return  # somebody else was faster
            self._clear_the_place()
            self._attach(make=True)
            self._make_tables()

    def _clear_the_place(self) -> None:
        """Make the place of the Parquet files, without what a writer left that died at this."""
        begun = self._journal.close()
        self._refuse_remains(begun)
        # Nothing is removed from an object store: there the journal still excuses the files if
        # this try fails too.
        if self.data_folder is not None:
            self.data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.remove_remains(self.data_folder, [one for one in begun if one.creates], ())
            self._journal.forget(begun)

    def _make_tables(self) -> None:
        """The tables of a new lake, then its mark; call it under the writer's lock."""
        self._journal.begin("", creates=True)
        self._state_fingerprint(self._own_secret.find_or_make())
        self.connection.execute("BEGIN")
        for name in (*_TABLES, "layout"):
            self.connection.execute(sql_text(name))
        self._commit()
        self._state_empty_tables()
        self.index_files()
        self._mark(self._identity_in_catalogue())
        self._journal.end()
        self.is_new = True

    def _state_empty_tables(self) -> None:
        """Have the catalogue state that a table without rows has none.

        DuckLake 1.5 caches a table's statistics, but not that there are none: each plan that reads
        an empty table asks the catalogue once a column, 2 ms each time.
        """
        self.connection.execute(
            f"INSERT INTO {METADATA}.ducklake_table_stats "
            "(table_id, record_count, next_row_id, file_size_bytes) "
            f"SELECT table_id, 0, 0, 0 FROM {METADATA}.ducklake_table "
            f"ANTI JOIN {METADATA}.ducklake_table_stats USING (table_id) "
            "WHERE end_snapshot IS NULL"
        )

    def _begun(self) -> list[files.Writing]:
        """Transactions that have not ended, as if their writers were gone."""
        now = int(1000 * time.time())
        return [replace(one, until=one.until or now) for one in self._journal.unfinished()]

    def _refuse_remains(self, begun: list[files.Writing]) -> None:
        """A place of Parquet files without their catalogue is damage, and is never written.

        What a writer left that died as it made the lake is nothing, for no log was loaded yet.
        """
        mark, count = self._mark_there(), self._count_files([one for one in begun if one.creates])
        if mark is None and not count:
            return
        what = f"{count:,} Parquet files" if count else f"the mark of lake {mark}"
        raise LakeDamagedError(
            f"{self.data_path}: contains {what}, but the catalogue that lists them "
            f"({self._catalogue_name}) is missing or empty; nothing was written. Is its disk "
            "mounted? If so, restore it from a backup, or run keywatch lake repair to use its last "
            "copy; for a new lake, choose another folder"
        )

    @property
    def _catalogue_name(self) -> str:
        assert self.folder is not None
        return attach.catalogue_place(self.folder, self._settings)

    def _count_files(self, begun: list[files.Writing]) -> int:
        """How many Parquet files there are, less those that were written by `begun`."""
        folder = self.data_folder
        if folder is None:
            pattern = f"{self.data_path.rstrip('/')}/**/*.parquet"
            names = self.rows("SELECT parse_filename(file) FROM glob($pattern)", pattern=pattern)
            return sum(not any(one.named(name) for one in begun) for (name,) in names)
        return sum(
            not any(one.wrote(file) for one in begun) for file in files.parquet_files(folder)
        )

    def _mark_there(self) -> str | None:
        """The id in the place of the Parquet files; None where there is none."""
        if self.data_folder is not None:
            file = self.data_folder / files.MARKER
            try:
                return files.parse_marker(file.read_text("utf-8", "replace"), file)
            except (FileNotFoundError, NotADirectoryError):
                return None
        where = f"{self.data_path.rstrip('/')}/{files.MARKER}"
        # A name without a wildcard is not looked for in an object store.
        if (where,) not in self.rows("FROM glob($pattern)", pattern=f"{where}*"):
            return None
        text = self.value("SELECT content FROM read_text($where)", where=where)
        return files.parse_marker(str(text), where)

    def _mark(self, lake_id: str) -> None:
        if self.data_folder is not None:
            files.write_safely(self.data_folder / files.MARKER, f"{lake_id}\n".encode())
            return
        where = f"{self.data_path.rstrip('/')}/{files.MARKER}"
        self.connection.execute(
            f"COPY (SELECT {quoted(lake_id)}) TO {quoted(where)} (FORMAT csv, HEADER false)"
        )

    def _identity_in_catalogue(self) -> str:
        found = self.rows("SELECT id, secret_fingerprint FROM lake.identity")
        lake_id, self.secret_fingerprint = found[0] if found else (None, None)
        return str(lake_id)

    def write_identity(self) -> None:
        """Write the id again that the mark has, or a new one; for who repairs."""
        self.execute(
            "INSERT INTO lake.identity BY NAME SELECT coalesce($kept, uuid()::VARCHAR) AS id",
            kept=self._mark_there(),
        )

    def adopt_secret(self) -> None:
        """State that this machine's secret, made if it has none, is the lake's."""
        assert self.folder is not None
        self._own_secret = key_hash.OwnSecret(self.folder, self._settings)
        self.secret_fingerprint = key_hash.fingerprint(self._own_secret.find_or_make())
        self.execute(
            "UPDATE lake.identity SET secret_fingerprint = $known", known=self.secret_fingerprint
        )

    def _check_owner(self) -> str:
        """The lake's id, which the place of its Parquet files must not deny.

        Raises:
            LakeDamagedError: the files are another lake's.
        """
        lake_id, mark = self._identity_in_catalogue(), self._mark_there()
        if mark not in (None, lake_id):
            raise LakeDamagedError(
                f"{self.data_path}: contains the files of lake {mark}, but the catalogue "
                f"({self._catalogue_name}) is of lake {lake_id}; nothing was written. Two lakes "
                "can't share one place: set another storage.data_path. If an older catalogue of "
                f"this lake was restored, remove {files.MARKER} there"
            )
        return lake_id

    def _check_format(self, create: bool) -> None:
        # Each look at it is 5 ms and more.
        version = self._format()
        if version is None:
            self._refuse_remains(self._begun())
            if not create:
                raise LakeError(f"{self.folder}: the lake is empty; load a log first")
            with self._writer_lock():
                if self._format() is None:
                    self._clear_the_place()
                    self._make_tables()
            version = self._format()
        if version in _UPGRADES:
            self._upgrade()
            version = self._format()
        if version != FORMAT_VERSION:
            raise LakeDamagedError(
                f"{self.folder}: lake format {version}, but this Keywatch reads {FORMAT_VERSION}"
            )

    def _upgrade(self) -> None:
        """Bring the tables of an older Keywatch to this format; all or nothing, no row is lost."""
        with self._transaction():
            self._state_fingerprint(self._own_secret.find())
            while names := _UPGRADES.get(self._format() or 0):
                for name in names:
                    self.connection.execute(sql_text(name))
                self.connection.execute("UPDATE lake.format SET version = version + 1")
        self._state_empty_tables()

    def _format(self) -> int | None:
        """The lake's format; None while it has no tables."""
        try:
            version: int | None = self.value("SELECT version FROM lake.format")
        except duckdb.CatalogException:
            return None
        return version

    def _lock_down(self) -> None:
        """From here on the connection reaches no file but the Parquet files, whatever it runs.

        A catalogue that is a SQLite file can still be attached anew, one in PostgreSQL can't.
        """
        self.connection.execute("SELECT count(*) FROM duckdb_secrets()")  # read from disk, once
        place = self.data_path.rstrip("/") + "/"
        self.connection.execute(f"SET allowed_directories = [{quoted(place)}]")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Lake:
        """The lake itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
        self._closing.close()

    @property
    def secret(self) -> bytes:
        """The HMAC secret of this lake.

        Raises:
            SecretError: this machine has another, or none of a shared lake.
            LakeDamagedError: it is gone or no secret.
        """
        if self.folder is None:
            return b"in-memory".ljust(32, b"\0")
        self.check_secret()
        return self._own_secret.find_or_make()

    @property
    def secret_ref(self) -> SecretRef | None:
        """Where the settings say that the secret is; None where it is in the folder."""
        return self._settings.key_hash_secret

    def check_secret(self) -> bool:
        """Whether this machine has the lake's secret; of an older lake nobody may have one yet.

        Raises:
            SecretError, LakeDamagedError: as `secret` says.
        """
        if self.has_secret:
            self._own_secret.refuse_other(self.secret_fingerprint)
            return True
        if self.secret_fingerprint is not None or self._has_hashed_keys():
            raise self._own_secret.missing(self.secret_fingerprint)
        return False

    @property
    def has_secret(self) -> bool:
        """Whether this machine has a secret, the lake's or another."""
        return self._own_secret.find() is not None

    def _has_hashed_keys(self) -> bool:
        return bool(self.rows("SELECT 1 FROM lake.events WHERE key LIKE '%#%' OR exposed LIMIT 1"))

    def _state_fingerprint(self, secret: bytes | None) -> None:
        """Make it known to the statements that create or upgrade the lake's tables."""
        known = quoted(key_hash.fingerprint(secret)) if secret else "NULL"
        self.connection.execute(f"SET VARIABLE secret_fingerprint = {known}")

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """All rows of a query; `parameters` are its ``$names``."""
        with self._explaining():
            return self._run(sql, parameters).fetchall()

    def records(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """All rows of a query, each as a dict."""
        with self._explaining():
            cursor = self._run(sql, parameters)
            names = [column[0] for column in cursor.description or []]
            found: list[dict[str, Any]] = []
            # Some at a time: all of them as tuples too would take twice the memory.
            while rows := cursor.fetchmany(_RECORDS_AT_ONCE):
                found += (dict(zip(names, row, strict=True)) for row in rows)
            return found

    def table(self, sql: str, **parameters: object) -> pa.Table:
        """All rows of a query as an Arrow table, in batches that DuckDB reads in parallel."""
        with self._explaining():
            return self._run(sql, parameters).to_arrow_table(_BATCH_ROWS)

    def planned(self, sql: str, **parameters: object) -> pa.Table:
        """`table` of a query of registered names that is asked often; it is planned once.

        To plan a long query takes longer than to run it on some lines. Variables keep the values
        that they had when it was planned.
        """
        text = with_values(sql, parameters)
        with self._explaining():
            if text not in self._plans:
                name = f"plan_{next(self._plan_numbers)}"
                self.connection.execute(f"PREPARE {name} AS {text}")
                self._plans[text] = name
            return self.connection.execute(f"EXECUTE {self._plans[text]}").to_arrow_table(
                _BATCH_ROWS
            )

    @property
    def plan_count(self) -> int:
        """How many queries of `planned` are kept."""
        return len(self._plans)

    def _forget_plans(self, registered: str = "") -> None:
        """Forget the plans that may read what is `registered`, by default all of them."""
        # DuckDB does not notice that a registered name means another table.
        for text in [each for each in self._plans if registered in each]:
            self.connection.execute(f"DEALLOCATE {self._plans.pop(text)}")

    def batches(self, sql: str, **parameters: object) -> Iterator[pa.RecordBatch]:
        """The rows of a query as Arrow batches, not all in memory at once.

        No other query may be asked of this connection before the last one was read.
        """
        with self._explaining():
            yield from self._run(sql, parameters).to_arrow_reader(_BATCH_ROWS)

    def select(self, sql: str, **parameters: object) -> pa.Table:
        """`table` of a query that somebody else wrote: one SELECT, of tables and no more.

        Raises:
            UsageError: it is another statement, or several, or asks a function that reaches out.
        """
        self.check_select(sql)
        return self.table(sql, **parameters)

    @contextmanager
    def stopped_after(self, seconds: float) -> Iterator[None]:
        """Stop a query inside that runs for longer.

        Raises:
            UsageError: it was stopped.
        """
        timer = threading.Timer(seconds, self.connection.interrupt)
        timer.start()
        try:
            yield
        except duckdb.InterruptException:
            raise UsageError(f"the query was stopped after {seconds:g} s") from None
        finally:
            timer.cancel()

    def check_select(self, sql: str) -> None:
        """See that `sql` is one SELECT whose table functions make rows, and reach for nothing.

        Raises:
            UsageError: it is not.
        """
        if sql in _CHECKED:
            return
        statements = self.connection.extract_statements(sql)
        kinds = [each.type for each in statements]
        if kinds != [duckdb.StatementType.SELECT]:
            named = ", ".join(kind.name for kind in kinds) or "nothing"
            raise UsageError(f"one SELECT is run here, and nothing else; this is: {named}")
        # A $name is a value in the tree, and what it stands for no part of it.
        asked = "SELECT json_serialize_sql($text::VARCHAR, skip_null => true)"
        tree = json.loads(self.value(asked, text=statements[0].query))
        if tree["error"]:
            raise UsageError(f"one plain SELECT is run here: {tree['error_message']}")
        if files_named := sorted(name for name in reached.tables(tree) if set(name) & set("/.:*?")):
            raise UsageError(f"{', '.join(files_named)}: a query here reads tables, and no files")
        strange = set(reached.table_functions(tree)) - reached.TABLE_FUNCTIONS
        # Asking for the macros takes longer than all the rest.
        if strange and (strange := strange - self._macros()):
            raise UsageError(
                f"{', '.join(sorted(strange))}: a query here reads tables and these table "
                f"functions: {', '.join(sorted(reached.TABLE_FUNCTIONS))}"
            )
        _CHECKED.add(sql)

    def _macros(self) -> set[str]:
        found = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal"
        return {name for (name,) in self.rows(f"{found} AND function_type = 'table_macro'")}

    def value(self, sql: str, **parameters: object) -> Any:
        """The first column of the first row; None where there is no row."""
        with self._explaining():
            row = self._run(sql, parameters).fetchone()
        return row[0] if row else None

    def steady_value(self, sql: str, **parameters: object) -> Any:
        """`value` of the lake's tables, asked once as long as one snapshot is read."""
        if self._snapshot is None and not self._is_brief:
            return self.value(sql, **parameters)
        text = with_values(sql, parameters)
        if text not in self._values:
            self._values[text] = self.value(text)
        return self._values[text]

    def execute(self, sql: str, **parameters: object) -> None:
        """Run a statement for its effect."""
        with self._explaining():
            self._run(sql, parameters)

    def _run(self, sql: str, parameters: Mapping[str, object]) -> duckdb.DuckDBPyConnection:
        # For a bound value DuckDB imports pandas, to know its NaT: longer than most queries take.
        return self.connection.execute(with_values(sql, parameters) if parameters else sql)

    def append(self, table: str, rows: pa.Table) -> None:
        """Add `rows` to a table of the lake, in their order; columns go by name."""
        import pyarrow as pa

        batches = pa.Table.from_batches(
            rows.combine_chunks().to_batches(_BATCH_ROWS), schema=rows.schema
        )
        name = f"new_{table}"
        with self.registered(name, batches):
            self.execute(f"INSERT INTO lake.{table} BY NAME SELECT * FROM {name}")

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """The rows of a query for `append_stream` of another lake, not all in memory at once."""
        with self._explaining():
            return self._run(sql, {}).to_arrow_reader(_BATCH_ROWS)

    def append_stream(self, table: str, rows: pa.RecordBatchReader) -> None:
        """Add `rows` to a table of the lake, in their order; columns go by name."""
        self.connection.register("streamed", rows)
        self.execute(f"INSERT INTO lake.{table} BY NAME FROM streamed")
        self.connection.unregister("streamed")

    def create_text_function(self, name: str, function: Callable[[str], str]) -> None:
        """Make `function` callable from SQL as `name`, in place of an older one."""
        from duckdb.sqltypes import VARCHAR

        with suppress(duckdb.InvalidInputException):
            self.connection.remove_function(name)
        self.connection.create_function(name, function, [VARCHAR], VARCHAR)

    @contextmanager
    def registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """`table` under `name` in SQL, for the time inside; not copied. It's empty after."""
        slot = self._slots.get(name)
        if slot is None or slot.table.schema != table.schema:
            if slot is not None:
                self._forget_plans(name)
            slot = self._slots[name] = _Slot(table)
            self.connection.register(name, slot)
        slot.table = table
        try:
            yield
        finally:
            slot.table = table.schema.empty_table()

    @property
    def snapshot(self) -> int:
        """The id of the snapshot that is read, else of the newest one; 0 for a lake in memory."""
        if self.folder is None:
            return 0
        if self._snapshot is not None:
            return self._snapshot
        return int(self.value("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')"))

    def continue_after(self, snapshot: int) -> None:
        """Number what comes next as if it followed `snapshot`; only under the writer's lock.

        So the runs of a lake that is copied here stay older than those to come.
        """
        newest = self.snapshot
        if snapshot <= newest:
            return
        self.execute("BEGIN")
        for table in ("ducklake_snapshot", "ducklake_snapshot_changes"):
            self.execute(
                f"UPDATE {METADATA}.{table} SET snapshot_id = {snapshot} "
                f"WHERE snapshot_id = {newest}"
            )
        self.execute("COMMIT")
        self.attach_again()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One snapshot for everything read inside, where nothing can be written.

        Temporary tables made inside stay.
        """
        if self.folder is None:
            yield
            return
        # No transaction: as long as a temporary table is not committed, one thread alone reads it.
        self._read_at(self.snapshot)
        try:
            yield
        finally:
            self._read_at(None)

    @contextmanager
    def reading_briefly(self) -> Iterator[None]:
        """One snapshot for some short queries, which share a transaction: half the time of each.

        Nothing can be written inside, and no temporary table is made.
        """
        if self.folder is None or self._snapshot is not None or self._is_brief:
            yield
            return
        self.connection.execute("BEGIN TRANSACTION READ ONLY")
        self._is_brief = True
        try:
            yield
        finally:
            self._is_brief = False
            self._values.clear()
            self._abandon()

    def look(self, snapshot: int | None = None) -> Lake:
        """Read this snapshot, by default the newest, from now on; returns the lake itself."""
        self._read_at(self.snapshot if snapshot is None else snapshot)
        if self.sqlite_file is None:
            self._lock_down()
        return self

    def _read_at(self, snapshot: int | None) -> None:
        self._snapshot = snapshot
        self._values.clear()
        self.connection.execute("DETACH lake")
        self._attach()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, and the only writer on this machine; all or nothing.

        There is one notice when another writer has to be waited for.

        Raises:
            LakeBusyError: another process kept writing for longer than ``storage.wait_seconds``.
        """
        with self._transaction():
            yield

    @contextmanager
    def undone(self) -> Iterator[None]:
        """One transaction that is undone at its end, with all that is written inside.

        Of a lake in memory, which serves one case after another this way: to make one takes longer
        than many a case. Variables and functions stay.
        """
        assert self.folder is None
        self.connection.execute("BEGIN")
        self._undoing = True
        try:
            yield
        finally:
            self._undoing = False
            self._abandon()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._undoing:
            yield
            return
        if self.read_only:
            raise LakeReadOnlyError(
                f"{self.folder}: the lake is read-only, so nothing can be stored; make it writable "
                "for this user (its disk, its folder, or its role in PostgreSQL)"
            )
        with self._explaining(), self._writer_lock():
            lake_id = self._settle() if self.folder is not None else ""
            if self.folder is not None:
                self._journal.begin(lake_id)
            self.connection.execute("BEGIN")
            try:
                if lake_id and self.secret_fingerprint is None and self.has_secret:
                    self.adopt_secret()  # an older lake's, which nobody has stated yet
                yield
                self._commit()
            except BaseException:
                # What it may have left is removed by the next writer, by its line in the journal.
                self._abandon()
                raise
            if self.folder is not None:
                self._journal.end()

    @property
    def _journal(self) -> files.WriterJournal:
        assert self.folder is not None
        return files.WriterJournal(self.folder)

    def _settle(self) -> str:
        """See whose the files are, and remove what writers left that died here; the lake's id.

        Only under the writer's lock, and only files that such a writer of this lake wrote, as its
        journal and their names say, and that the catalogue does not know. Where other machines
        write too, a writer may live on that has lost its lock: then only after a day.
        """
        if self._format() != FORMAT_VERSION:  # to be upgraded: it has no id yet
            return ""
        lake_id = self._check_owner()
        self._own_secret.refuse_other(self.secret_fingerprint)
        if self._mark_there() is None:
            # Its own table was read there, so the files are this lake's.
            self._mark(lake_id)
        died = self._journal.close()
        if died and self.data_folder is not None:
            oldest = time.time() * 1000 - (0 if self.sqlite_file else _LEFT_ALONE_MS)
            settled = [each for each in died if (each.until or 0) <= oldest]
            own = [each for each in settled if each.lake in ("", lake_id)]
            if own:
                files.remove_remains(self.data_folder, own, self.known_files())
            self._journal.forget(settled)
        elif died:  # nothing is removed from an object store
            self._journal.forget(died)
        return lake_id

    def known_files(self) -> set[str]:
        """The names of all Parquet files that the catalogue has, in whatever snapshot, or had."""
        tables = ("data_file", "delete_file", "files_scheduled_for_deletion")
        found = " UNION ALL ".join(
            f"SELECT path FROM {METADATA}.ducklake_{name}" for name in tables
        )
        return {path.rpartition("/")[2] for (path,) in self.rows(found)}

    def _commit(self) -> None:
        # Not to be tried again: SQLite has waited, and a commit that failed ends its transaction.
        try:
            self._lock.check()
            self.connection.execute("COMMIT")
        except duckdb.Error as e:
            if "database is locked" in str(e):
                raise self._still_locked() from e
            raise

    def _still_locked(self) -> LakeBusyError:
        return LakeBusyError(
            f"{self.folder}: the catalogue stayed locked for {self._settings.wait_seconds:g} s; "
            "nothing was stored: try again"
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say in words, with the mend, what is wrong with the disk, the memory or a file."""
        try:
            yield
        except (duckdb.Error, OSError, MemoryError) as e:
            if told := self._unreachable(e):
                raise told from None  # its cause may hold a password
            if told := self._explained(e):
                raise told from e
            raise

    def _unreachable(self, error: Exception) -> LakeError | None:
        """`error` as one of ours where it is of a server that does not answer, or refuses."""
        if self.folder is None:
            return None
        return attach.unreachable(error, self.folder, self._settings, self.data_path)

    def _explained(self, error: Exception) -> LakeError | None:
        """`error` as one of ours; None where it says nothing of the lake's files or the machine."""
        return explained(error, self.folder, self.data_path) if self.folder else None

    def _damaged(self, what: str) -> LakeDamagedError:
        return LakeDamagedError(
            f"{self.folder}: {what}; keywatch doctor lists the damage, keywatch lake repair "
            "repairs what it can; otherwise restore the folder from a backup, or load the logs "
            "into a new one"
        )

    def _abandon(self) -> None:
        # A commit that failed has ended its transaction already, and a server may be gone.
        with suppress(duckdb.Error):
            self._roll_back()

    def _roll_back(self) -> None:
        self._slots.clear()  # names registered in the transaction go with it
        self._forget_plans()
        self.connection.execute("ROLLBACK")

    @contextmanager
    def _writer_lock(self) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        with self._lock.held():
            yield

    @contextmanager
    def turn(self, what: str, words: str) -> Iterator[None]:
        """One process at a time, of all machines, does the work that `what` names; others write.

        `words` say it to those who wait: *reviewing the week …*. Take it before the writer's lock.

        Raises:
            LakeBusyError: another process took longer than ``storage.wait_seconds``.
        """
        if self.folder is None or self.read_only:
            yield
            return
        lock = TurnLock(self.folder, self._settings, what, words)
        with ExitStack() as stack:
            with self._explaining():
                stack.enter_context(lock.held())
            yield

    def writer(self) -> str | None:
        """Who writes to the lake now, in words; None where nobody does."""
        with self._explaining():
            return self._lock.holder(self.connection, METADATA)

    def server(self) -> CatalogueServer | None:
        """A connection of its own to the catalogue's server; None where the catalogue is a file.

        Raises:
            LakeUnreachableError: it does not answer.
        """
        if self.folder is None or self.sqlite_file is not None:
            return None
        return CatalogueServer(self.folder, self._settings)

    def index_files(self) -> None:
        """Have the catalogue's server, if it has one, find a table's files by index."""
        if (server := self.server()) is not None:
            with closing(server):
                server.index_files()

    def _retry(self, act: Callable[[], object]) -> None:
        """Run `act` until the catalogue is free; SQLite says `database is locked` meanwhile."""
        deadline = time.monotonic() + self._settings.wait_seconds
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                act()
            except duckdb.Error as e:
                if "database is locked" not in str(e):
                    raise
                if time.monotonic() >= deadline or is_stopping():
                    raise self._still_locked() from e
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
            else:
                return
