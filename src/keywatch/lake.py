"""The lake: Parquet files in one folder with a DuckLake catalogue. The only home of connections.

A lake folder holds ``catalog.sqlite`` (or the settings name another catalogue; ``-wal`` and
``-shm`` are beside it while it is open), ``data/`` (Parquet), ``tmp/`` (spill),
``key-hash.secret`` (0600), ``writer.lock``, and what `keywatch.deliver` keeps: ``deliver.lock`` and
``outbox.journal``. Every connection attaches the lake as the catalogue
``lake``; temporary tables are the connection's own.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from keywatch.errors import LakeBusyError, LakeDamagedError, LakeError
from keywatch.secrets import load_or_create_secret
from keywatch.settings import LakeSettings

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 5
_TABLES = ("schema", "schema_alerts")
_MACROS = ("macros", "places", "verdicts")
_UPGRADES = {2: ("upgrade_2_to_3", "schema_alerts"), 3: ("upgrade_3_to_4",), 4: ("upgrade_4_to_5",)}
"""What makes the next format of a lake's format, as files of ``sql/``."""
_LOCAL_CATALOG = "catalog.sqlite"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "produce_arrow_string_view": "true",
}
_BATCH_ROWS = 20_480
_FIRST_RETRY_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 2.0

Row = tuple[Any, ...]


def utc_now() -> datetime:
    """Now, UTC, naive, as every time in the lake is."""
    return datetime.now(UTC).replace(tzinfo=None)


def duckdb_version() -> str:
    """The version of the DuckDB library."""
    return str(duckdb.__version__)


def sql_text(name: str) -> str:
    """The text of ``keywatch/sql/<name>.sql``."""
    return resources.files("keywatch").joinpath(f"sql/{name}.sql").read_text(encoding="utf-8")


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

    `connection` is a DuckDB connection with the tables of ``sql/schema.sql`` under ``lake.``.
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
        self._slots: dict[str, _Slot] = {}
        self._snapshot: int | None = None

    @classmethod
    def in_memory(cls) -> Lake:
        """An empty lake that lives and dies with the connection; for detector cases and tests."""
        connection = duckdb.connect(config=_CONFIG | {"threads": 1})
        connection.execute("ATTACH ':memory:' AS lake")
        for name in _TABLES:
            connection.execute(sql_text(name))
        for name in _MACROS:
            connection.execute(sql_text(name))
        return cls(connection, None, LakeSettings())

    @classmethod
    def scratch(cls) -> Lake:
        """A database without tables that never touches the disk: for text not yet redacted."""
        connection = duckdb.connect(config=_CONFIG | {"temp_directory": "", "threads": 1})
        connection.execute(sql_text("macros"))
        return cls(connection, None, LakeSettings())

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: LakeSettings | None = None,
        *,
        create: bool = False,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Lake:
        """The lake in `folder`; with `create`, made (0700) where there is none.

        A lake of an older Keywatch is upgraded.

        Raises:
            LakeError: there is no lake in `folder`.
            LakeBusyError: another process kept the catalogue locked.
            LakeDamagedError: the catalogue is not a lake's, or of a format that is not known.
        """
        settings = settings or LakeSettings()
        if settings.catalog is None and not create and not (folder / _LOCAL_CATALOG).exists():
            raise LakeError(
                f"{folder}: no lake there; load a log first (keywatch ingest PATH --lake {folder})"
            )
        for path in (folder, folder / "tmp", folder / "data"):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = duckdb.connect(
            config=_CONFIG
            | {"memory_limit": settings.memory_limit, "temp_directory": str(folder / "tmp")}
            | ({"threads": settings.threads} if settings.threads else {})
        )
        lake = cls(connection, folder, settings)
        try:
            lake._load_extensions()
            lake._attach()
            lake._check_format(create, on_wait)
        except BaseException:
            connection.close()
            raise
        for name in _MACROS:
            connection.execute(sql_text(name))
        return lake

    @property
    def _catalog(self) -> str:
        return self._settings.catalog or f"sqlite:{self.folder}/{_LOCAL_CATALOG}"

    @property
    def _data_path(self) -> str:
        return self._settings.data_path or f"{self.folder}/data"

    def _load_extensions(self) -> None:
        scanner = "postgres_scanner" if self._catalog.startswith("postgres:") else "sqlite_scanner"
        remote = ["httpfs"] if "://" in self._data_path else []
        for name in ("ducklake", scanner, *remote):
            self.connection.execute(f"LOAD '{_extension_file(name)}'")

    def _attach(self) -> None:
        """Attach the lake: at the snapshot that is read, else at its newest state."""
        # A lake may be moved, and named by another path than when it was made.
        options = f"DATA_PATH {_quoted(self._data_path)}, OVERRIDE_DATA_PATH true"
        options += ", DATA_INLINING_ROW_LIMIT 0"
        if self._catalog.startswith("sqlite:"):
            # Write-ahead logging, or a commit would fail while another process reads.
            wait_ms = int(1000 * self._settings.wait_seconds)
            options += f", META_JOURNAL_MODE 'WAL', META_BUSY_TIMEOUT {wait_ms}"
        if self._snapshot is not None:
            options += f", SNAPSHOT_VERSION {self._snapshot}"
        attach = f"ATTACH {_quoted(f'ducklake:{self._catalog}')} AS lake ({options})"
        try:
            self._retry(lambda: self.connection.execute(attach))
        except duckdb.Error as e:
            raise LakeDamagedError(
                f"{self.folder}: the catalogue can't be opened: {_first_line(e)}; "
                "restore the folder from a backup, or load the logs into a new one"
            ) from e

    def _check_format(self, create: bool, on_wait: Callable[[str], None]) -> None:
        if self._format() is None:
            if not create:
                raise LakeError(f"{self.folder}: the lake is empty; load a log first")
            with self.writing(on_wait):
                if self._format() is None:
                    for name in (*_TABLES, "layout"):
                        self.connection.execute(sql_text(name))
        if self._format() in _UPGRADES:
            self._upgrade(on_wait)
        version = self._format()
        if version != FORMAT_VERSION:
            raise LakeDamagedError(
                f"{self.folder}: lake format {version}, but this Keywatch reads {FORMAT_VERSION}"
            )

    def _upgrade(self, on_wait: Callable[[str], None]) -> None:
        """Bring the tables of an older Keywatch to this format; all or nothing, no row is lost."""
        with self.writing(on_wait):
            while names := _UPGRADES.get(self._format() or 0):
                for name in names:
                    self.connection.execute(sql_text(name))
                self.execute("UPDATE lake.format SET version = version + 1")

    def _format(self) -> int | None:
        """The lake's format; None while it has no tables."""
        try:
            version: int | None = self.value("SELECT version FROM lake.format")
        except duckdb.CatalogException:
            return None
        return version

    def __enter__(self) -> Lake:
        """The lake itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.connection.close()

    @property
    def secret(self) -> bytes:
        """The HMAC secret of this lake; made on first use."""
        if self.folder is None:
            return b"in-memory".ljust(32, b"\0")
        return load_or_create_secret(self.folder / "key-hash.secret")

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """All rows of a query; `parameters` are its ``$names``."""
        return self._run(sql, parameters).fetchall()

    def records(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """All rows of a query, each as a dict."""
        cursor = self._run(sql, parameters)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def table(self, sql: str, **parameters: object) -> pa.Table:
        """All rows of a query as an Arrow table, in batches that DuckDB reads in parallel."""
        return self._run(sql, parameters).to_arrow_table(_BATCH_ROWS)

    def value(self, sql: str, **parameters: object) -> Any:
        """The first column of the first row; None where there is no row."""
        row = self._run(sql, parameters).fetchone()
        return row[0] if row else None

    def execute(self, sql: str, **parameters: object) -> None:
        """Run a statement for its effect."""
        self._run(sql, parameters)

    def _run(self, sql: str, parameters: Mapping[str, object]) -> duckdb.DuckDBPyConnection:
        # For a bound value DuckDB imports pandas, to know its NaT: longer than most queries take.
        return self.connection.execute(_with_values(sql, parameters) if parameters else sql)

    def append(self, table: str, rows: pa.Table) -> None:
        """Add `rows` to a table of the lake, in their order; columns go by name."""
        import pyarrow as pa

        batches = pa.Table.from_batches(
            rows.combine_chunks().to_batches(_BATCH_ROWS), schema=rows.schema
        )
        name = f"new_{table}"
        with self.registered(name, batches):
            self.execute(f"INSERT INTO lake.{table} BY NAME SELECT * FROM {name}")

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

    def _read_at(self, snapshot: int | None) -> None:
        self._snapshot = snapshot
        self.connection.execute("DETACH lake")
        self._attach()

    @contextmanager
    def writing(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """One transaction, and the only writer on this machine; all or nothing.

        `on_wait` is told once, in words, when another writer has to be waited for.

        Raises:
            LakeBusyError: another process kept writing for longer than ``storage.wait_seconds``.
        """
        with self._writer_lock(on_wait):
            self.connection.execute("BEGIN")
            try:
                yield
                self._commit()
            except BaseException:
                self._abandon()
                raise

    def _commit(self) -> None:
        # Not to be tried again: SQLite has waited, and a commit that failed ends its transaction.
        try:
            self.connection.execute("COMMIT")
        except duckdb.Error as e:
            if "database is locked" in str(e):
                raise self._still_locked() from e
            raise

    def _still_locked(self) -> LakeBusyError:
        return LakeBusyError(
            f"{self.folder}: the catalogue stayed locked for {self._settings.wait_seconds:g} s; "
            "nothing was kept: try again"
        )

    def _abandon(self) -> None:
        # A commit that failed has ended its transaction already.
        with suppress(duckdb.TransactionException):
            self._roll_back()

    def _roll_back(self) -> None:
        self._slots.clear()  # names registered in the transaction go with it
        self.connection.execute("ROLLBACK")

    @contextmanager
    def _writer_lock(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        file = self.folder / "writer.lock"
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
            self._wait_for(lock.fileno(), file, on_wait)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _wait_for(self, descriptor: int, file: Path, on_wait: Callable[[str], None]) -> None:
        deadline = time.monotonic() + self._settings.wait_seconds
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                writer = file.read_text(encoding="ascii").strip() or "unknown"
                if time.monotonic() >= deadline:
                    raise LakeBusyError(
                        f"{self.folder}: process {writer} is still writing after "
                        f"{self._settings.wait_seconds:g} s; try again, "
                        "or raise storage.wait_seconds"
                    ) from None
                if not told:
                    on_wait(f"process {writer} is writing to {self.folder}; waiting for it")
                    told = True
                time.sleep(_FIRST_RETRY_SECONDS)
            else:
                return

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
                if time.monotonic() >= deadline:
                    raise self._still_locked() from e
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
            else:
                return

    def delete_orphans(self) -> int:
        """Remove Parquet files that no snapshot names (a writer died); returns how many.

        Call it only inside `writing`: nobody else has uncommitted files then.
        """
        if self.folder is None:
            return 0
        return len(self.rows("CALL ducklake_delete_orphaned_files('lake', cleanup_all => true)"))


def _extension_file(name: str) -> Path:
    """The extension's file in its PyPI package: nothing is fetched or put into the home folder."""
    try:
        package = importlib.import_module(f"duckdb_extension_{name}")
    except ModuleNotFoundError as e:
        raise LakeError(
            f"the package duckdb-extension-{name.replace('_', '-')} is missing; "
            "install keywatch[shared] for a catalogue in PostgreSQL or files on S3"
        ) from e
    folder = Path(next(iter(package.__path__)))
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


# What a $name is never looked for in, or a $name.
_TOKENS = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([a-z_][a-z0-9_]*)""", re.DOTALL
)


def _with_values(sql: str, values: Mapping[str, object]) -> str:
    """`sql` with a literal in place of each ``$name``, but in comments and quotes."""

    def token(match: re.Match[str]) -> str:
        return _literal(values[match[1]]) if match[1] else match[0]

    return _TOKENS.sub(token, sql)


def _literal(value: object) -> str:
    """`value` as SQL that means just that, whatever it holds.

    Raises:
        TypeError: it is no text, number, truth value, time, None or list of those.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value)
        case int():
            return f"({value})"
        case float():
            return f"'{value}'::DOUBLE"
        case str():
            return "(" + _quoted(value).replace("\0", "' || chr(0) || '") + ")"
        case datetime():
            return f"TIMESTAMP '{value.isoformat(' ')}'"
        case date():
            return f"DATE '{value}'"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            raise TypeError(f"no SQL literal for {type(value).__name__}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
