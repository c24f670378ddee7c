"""JSON Lines in a file, one message a line, on the disk before it counts as sent."""

from __future__ import annotations

import fcntl
import json
import os
from typing import BinaryIO

from keywatch.deliver.channel import Envelope, SendError
from keywatch.deliver.credentials import Vault
from keywatch.settings.deliver import FileChannel


class FileWriter:
    """Appends to one file (0600); a message whose id is there already is not written again."""

    def __init__(self, settings: FileChannel, _: Vault) -> None:
        self._path = settings.path
        self._file: BinaryIO | None = None
        self._ids: set[str] = set()

    def send(self, envelope: Envelope) -> None:
        message = envelope.message
        try:
            file = self._file or self._open()
            if message.id in self._ids:
                return
            file.write(message.to_json().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as e:
            self.close()
            raise SendError(f"{self._path}: {e.strerror}") from None
        self._ids.add(message.id)

    def _open(self) -> BinaryIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._file = file = os.fdopen(os.open(self._path, flags, 0o600), "r+b")
        # Held until the run ends: two writers would not see each other's ids.
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        whole = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                self._ids.add(json.loads(line)["id"])
            except (ValueError, KeyError, TypeError):
                continue
        file.truncate(whole)  # a line that a crash cut short is no message
        file.seek(0, os.SEEK_END)
        return file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
