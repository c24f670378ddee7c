"""The locks of a lake, where its catalogue is: one writes at a time, and one reviews a window."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

from keywatch.errors import LakeBusyError
from keywatch.lake import attach
from keywatch.lake.literals import quoted
from keywatch.notices import is_stopping, notice
from keywatch.settings.storage import LakeSettings

_ADVISORY_LOCK = 0x6B65797761746368  # "keywatch": one lake a database
_LOOK_AGAIN_SECONDS = 0.05
_LOOK_FOR_TURN_SECONDS = 0.25
_HOLDER = f"""
    SELECT 'process ' || a.pid || ' of the server, user ' || a.usename
        || coalesce(', from ' || host(a.client_addr), '')
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid::BIGINT << 32 | l.objid::BIGINT) = {_ADVISORY_LOCK}
"""


class WriterLock:
    """Beside a catalogue that is a file: ``flock``; in PostgreSQL an advisory lock, and the file.

    Both end with the process that has them.
    """

    def __init__(self, folder: Path, settings: LakeSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._in_postgres: duckdb.DuckDBPyConnection | None = None
        catalogue = attach.catalogue_file(folder, settings)
        self._is_shared = catalogue is None
        self._file = folder / "writer.lock"
        if settings.catalog is not None and catalogue is not None:
            self._file = catalogue.with_name(f"{catalogue.name}.lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for the time inside.

        Raises:
            LakeBusyError: another process kept it for longer than ``storage.wait_seconds``.
        """
        with os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
            self._wait(lambda: _taken(lock.fileno()), lambda: f"process {self._process()}", "")
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            if not self._is_shared:
                yield
                return
            connection = attach.server_connection(self._settings)
            try:
                self._wait(
                    lambda: _taken_in_postgres(connection, _ADVISORY_LOCK),
                    lambda: "another machine",
                    "the catalogue of ",
                )
                self._in_postgres = connection
                yield
            finally:
                self._in_postgres = None
                _let_go(connection)

    def check(self) -> None:
        """See that the lock in PostgreSQL is still held: its server may have dropped it.

        Raises:
            LakeBusyError: it was dropped.
        """
        if self._in_postgres is None:
            return
        try:
            self._in_postgres.execute("SELECT * FROM postgres_query('catalogue', 'SELECT 1')")
        except duckdb.Error:
            raise LakeBusyError(
                f"{self._folder}: the connection to the catalogue was lost; nothing was stored: "
                "try again"
            ) from None

    def holder(self, connection: duckdb.DuckDBPyConnection, catalogue: str) -> str | None:
        """Who has the lock now, in words; None where nobody has it.

        `catalogue` is the name under which `connection` has a catalogue in PostgreSQL.
        """
        if self._is_shared:
            asked = f"FROM postgres_query({quoted(catalogue)}, {quoted(_HOLDER)})"
            row = connection.execute(asked).fetchone()
            return str(row[0]) if row else None
        if not self._file.exists():
            return None
        with self._file.open("rb") as lock:
            try:
                # Shared, and let go at once: a writer that comes meanwhile tries again.
                fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"process {self._process()}"
        return None

    def _process(self) -> str:
        return self._file.read_text(encoding="ascii").strip() or "unknown"

    def _wait(self, take: Callable[[], bool], who: Callable[[], str], what: str) -> None:
        _wait(
            take,
            self._settings.wait_seconds,
            _LOOK_AGAIN_SECONDS,
            still=lambda: f"{self._folder}: {who()} is still writing",
            waiting=lambda: f"{who()} is writing to {what}{self._folder}",
        )


class TurnLock:
    """Of several who would do the same work at once, one does it, and the others wait.

    `what` names the work, `words` are for people. Beside a catalogue that is a file it is a file of
    its own, removed afterwards; in PostgreSQL an advisory lock. Both end with the process.
    """

    def __init__(self, folder: Path, settings: LakeSettings, what: str, words: str) -> None:
        self._folder = folder
        self._settings = settings
        self._words = words
        digest = hashlib.sha256(what.encode()).digest()
        self._number = int.from_bytes(digest[:8], "big", signed=True)
        catalogue = attach.catalogue_file(folder, settings)
        self._file = catalogue and catalogue.with_name(f"{catalogue.name}.{digest[:8].hex()}.lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """The turn, for the time inside.

        Raises:
            LakeBusyError: another process kept it for longer than ``storage.wait_seconds``.
        """
        with ExitStack() as stack:
            if self._file is None:
                connection = attach.server_connection(self._settings)
                stack.callback(_let_go, connection)
                self._wait(lambda: _taken_in_postgres(connection, self._number))
            else:
                file = self._file
                self._wait(lambda: _taken_file(file, stack))
            yield

    def _wait(self, take: Callable[[], bool]) -> None:
        _wait(
            take,
            self._settings.wait_seconds,
            _LOOK_FOR_TURN_SECONDS,
            still=lambda: f"{self._folder}: another process is still {self._words}",
            waiting=lambda: f"another process is {self._words}",
        )


def _wait(
    take: Callable[[], bool],
    seconds: float,
    pause_seconds: float,
    *,
    still: Callable[[], str],
    waiting: Callable[[], str],
) -> None:
    """Take a lock, with one notice to those who wait for it.

    Raises:
        LakeBusyError: it could not be taken for so many `seconds`, or a signal ends the wait.
    """
    deadline = time.monotonic() + seconds
    told = False
    while not take():
        if time.monotonic() >= deadline or is_stopping():
            raise LakeBusyError(
                f"{still()} after {seconds:g} s; try again, or raise storage.wait_seconds"
            )
        if not told:
            notice(f"{waiting()}; waiting for it")
            told = True
        time.sleep(pause_seconds)


def _taken_file(file: Path, stack: ExitStack) -> bool:
    """Whether `file` is locked now; then `stack` removes it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    # Who had it may have removed the file that was opened here.
    if _taken(descriptor) and file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
        stack.callback(os.close, descriptor)
        stack.callback(file.unlink)
        return True
    os.close(descriptor)
    return False


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken_in_postgres(connection: duckdb.DuckDBPyConnection, number: int) -> bool:
    take = f"SELECT pg_try_advisory_xact_lock({number})"
    connection.execute("BEGIN")  # one session, which has the lock until its end
    asked = f"SELECT * FROM postgres_query('catalogue', {quoted(take)})"
    if (row := connection.execute(asked).fetchone()) and row[0]:
        return True
    connection.execute("ROLLBACK")
    return False


def _let_go(connection: duckdb.DuckDBPyConnection) -> None:
    # DuckDB aborts where a connection is closed with a transaction that a server that is gone has.
    with suppress(duckdb.Error):
        connection.execute("ROLLBACK")
    connection.close()
