"""A PostgreSQL of a test's own: as a user of its own, on a free port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from keywatch.lake.attach import extension_file

USER = "keywatch"


def programs() -> Path | None:
    """The folder of Debian's server programs, or of those on the path; None without any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _as_who() -> list[str]:
    """What a command begins with: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["runuser", "-u", "postgres", "--"]


@contextmanager
def server(password: str | None = None) -> Iterator[str]:
    """A server; gives the connection string of its empty database, as settings have it.

    With a `password` it asks for it, which is not in the string.
    """
    where = programs()
    assert where is not None
    with tempfile.TemporaryDirectory(prefix="keywatch-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = str(folder / "data")
        asks = ["-A", "trust"]
        if password is not None:
            file = folder / "password"
            file.write_text(password)
            file.chmod(0o644)
            asks = ["-A", "scram-sha-256", f"--pwfile={file}"]
        _run(where / "initdb", "-D", data, *asks, "-U", USER, "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run(where / "pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgres:host=127.0.0.1 port={port} user={USER} dbname=postgres"
        finally:
            with suppress(subprocess.CalledProcessError):
                _run(where / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def database(catalog: str, name: str) -> str:
    """An empty database of its own, beside that of `catalog`; its connection string."""
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as admin:
        admin.execute(f"LOAD '{extension_file('postgres_scanner')}'")
        admin.execute(f"ATTACH '{catalog.removeprefix('postgres:')}' AS pg (TYPE postgres)")
        made = f"CREATE DATABASE {name}"
        admin.execute(f"CALL postgres_execute('pg', '{made}', use_transaction := false)")
    return catalog.replace("dbname=postgres", f"dbname={name}")


def _run(*command: str | Path) -> None:
    subprocess.run(
        [*_as_who(), *map(str, command)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
