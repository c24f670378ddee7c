"""The server of a shared lake's catalogue, for the few rows that are not the lake's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import duckdb

from keywatch.errors import LakeError, LakeReadOnlyError, LakeUnreachableError
from keywatch.lake import attach
from keywatch.lake.literals import quoted, with_values
from keywatch.settings.storage import LakeSettings

_AT_ONCE = "use_transaction := false"
"""Not DuckDB's transaction, which is *repeatable read* and fails where two machines meet."""
_INDEXES = {
    "keywatch_files": "ducklake_data_file (table_id)",
    "keywatch_file_statistics": "ducklake_file_column_stats (table_id, column_id)",
}
_PERMISSION_DENIED = "permission denied"


class CatalogueServer:
    """A connection of its own to a catalogue's PostgreSQL; threads may share it.

    What is executed is one transaction, seen by all machines at once; it waits for no writer of the
    lake. Its isolation is *read committed*.
    """

    def __init__(self, folder: Path, settings: LakeSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._lock = threading.Lock()
        try:
            self._connection = attach.server_connection(settings, read_only=False)
        except duckdb.Error as e:
            raise self._told(e) from None  # its cause may hold a password

    def execute(self, statements: str, **parameters: str | int | None) -> None:
        """Run statements of PostgreSQL, all or none of them; `parameters` are their ``$names``.

        Raises:
            LakeReadOnlyError: the role may not.
            LakeUnreachableError: the server does not answer.
        """
        said = quoted(with_values(statements, parameters))
        self._run(f"CALL postgres_execute('catalogue', {said}, {_AT_ONCE})")

    def rows(self, query: str, **parameters: str | int | None) -> list[tuple[Any, ...]]:
        """The rows of a query of PostgreSQL; `parameters` are its ``$names``.

        Raises:
            LakeReadOnlyError, LakeUnreachableError: as of `execute`.
        """
        said = quoted(with_values(query, parameters))
        return self._run(f"FROM postgres_query('catalogue', {said}, {_AT_ONCE})")

    def index_files(self) -> None:
        """Have the server find the files of a table by index: DuckLake's tables have none.

        Without it, each query of the lake reads the rows of all files, a second for a million.

        Raises:
            LakeReadOnlyError, LakeUnreachableError: as of `execute`.
        """
        found = {name for (name,) in self.rows("SELECT indexname FROM pg_indexes")}
        for name, columns in _INDEXES.items():
            # To ask for one that is there would wait for whoever writes.
            if name not in found:
                self.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")

    def close(self) -> None:
        """Close the connection, when no thread uses it."""
        with self._lock:
            self._connection.close()

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql).fetchall()
        except duckdb.Error as e:
            raise self._told(e) from None

    def _told(self, error: duckdb.Error) -> LakeError:
        if told := attach.unreachable(error, self._folder, self._settings, ""):
            return told
        place = attach.catalogue_place(self._folder, self._settings)
        # Before it is the statement, with all that was to be stored.
        _, _, why = str(error).rpartition("ERROR:")
        why = (why.strip().splitlines() or ["it gave no answer"])[0]
        if _PERMISSION_DENIED in why:
            return LakeReadOnlyError(f"{place}: {why}; nothing was stored")
        return LakeUnreachableError(f"{place}: {why}")
