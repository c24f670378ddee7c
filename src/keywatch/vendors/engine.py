"""The database that reads lines: it never touches the disk, and serves one load after another.

To open it and to plan its queries takes longer than to read a short log.
"""

from __future__ import annotations

from collections.abc import Callable

from keywatch.lake import Lake
from keywatch.text.secrets import Redactor
from keywatch.vendors.endpoints import plain_path

_MOST_PLANS = 50
"""A database with more planned queries is not kept, for each takes memory."""

_idle: list[Engine] = []
"""One at most; `pop` and `append` are safe between threads."""


class Engine:
    """A database without tables whose functions redact; one thread at a time may use it."""

    def __init__(self, time_zone: str | None) -> None:
        self.scratch = Lake.scratch()
        self.time_zone = time_zone
        self.redactor: Redactor | None = None
        self.scratch.execute("SET VARIABLE time_zone = $zone", zone=time_zone)
        # A function that is made anew would have all queries planned anew.
        for name in ("redact", "mask_key", "exposes", "key_hash"):
            self.scratch.create_text_function(name, self._by_redactor(name))
        self.scratch.create_text_function("plain_path", plain_path)

    def _by_redactor(self, name: str) -> Callable[[str], str]:
        return lambda text: getattr(self.redactor, name)(text)

    @classmethod
    def take(cls, redactor: Redactor, time_zone: str | None) -> Engine:
        """One that redacts as `redactor` does; times without an offset are of `time_zone`."""
        try:
            engine = _idle.pop()
        except IndexError:
            engine = cls(time_zone)
        if engine.time_zone != time_zone:
            engine.close()
            engine = cls(time_zone)
        engine.redactor = redactor
        return engine

    def give_back(self) -> None:
        """Keep it for the next load, without the secret; nothing may run on it any more."""
        self.redactor = None
        if not _idle and self.scratch.plan_count <= _MOST_PLANS:
            _idle.append(self)
        else:
            self.close()

    def close(self) -> None:
        """Close the database."""
        self.scratch.close()
