"""What became of messages, on the disk at once, until the lake has it.

A commit to the lake may have to wait minutes for a load, and costs tens of milliseconds; a line
here costs a few. So the time in which a crash makes a message be sent again is that of one line.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

Outcome = Literal["sent", "unanswered", "failed", "dead", "held", "summarised", "superseded"]
"""*unanswered*: it may have arrived, and is tried again as one that *failed* is."""


@dataclass(frozen=True)
class Record:
    """One thing that became of a message; `next_due_at` None: it is never due again.

    `summary_id` is the summary that tells of it, `recipients` each recipient's answer so far where
    a mail has not reached all.
    """

    delivery_id: str
    recorded_at: datetime
    outcome: Outcome
    tries: int
    error: str | None = None
    remote: str | None = None
    next_due_at: datetime | None = None
    summary_id: str | None = None
    recipients: tuple[tuple[str, str], ...] = ()


class Journal:
    """Records in a file of the lake's folder; threads may add to it."""

    def __init__(self, folder: Path) -> None:
        self._new = folder / "outbox.journal"
        self._old = folder / "outbox.journal.committing"
        self._lock = threading.Lock()

    def add(self, record: Record) -> None:
        """Keep `record`; it is on the disk when this returns."""
        # A line that a crash cut short may stand before it.
        line = f"\n{as_line(record)}\n".encode()
        with self._lock:
            descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def waiting(self) -> list[Record]:
        """All records that the lake may not have yet; nothing is changed."""
        with self._lock:
            return [
                record for file in (self._old, self._new) if file.exists() for record in _read(file)
            ]

    def set_aside(self) -> list[Record]:
        """All records so far, which stay on the disk until `forget`."""
        with self._lock:
            if self._new.exists():
                if self._old.exists():
                    with self._old.open("ab") as old:
                        old.write(self._new.read_bytes())
                        old.flush()
                        os.fsync(old.fileno())
                    self._new.unlink()
                else:
                    self._new.rename(self._old)
            return _read(self._old) if self._old.exists() else []

    def forget(self) -> None:
        """Drop what was set aside: the lake has it."""
        self._old.unlink(missing_ok=True)


def _read(file: Path) -> list[Record]:
    return list(parse_lines(file.read_bytes().splitlines()))


def as_line(record: Record) -> str:
    """`record` as JSON in one line of ASCII."""
    return json.dumps(asdict(record), default=datetime.isoformat)


def parse_lines(lines: Iterable[str | bytes]) -> Iterator[Record]:
    """The records of lines as `as_line` writes them; one that is cut or damaged is left out."""
    for line in lines:
        try:
            values = json.loads(line)
            due = values["next_due_at"]
            yield Record(
                **values
                | {
                    "recorded_at": datetime.fromisoformat(values["recorded_at"]),
                    "next_due_at": due and datetime.fromisoformat(due),
                    "recipients": tuple((to, said) for to, said in values.get("recipients", ())),
                }
            )
        except (ValueError, KeyError, TypeError):
            continue  # empty, or a crash or the disk damaged it: at worst a message is sent again
