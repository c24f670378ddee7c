"""Why lines of a load could not be read: by reason, with the first of each and the value there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from keywatch.text.phrases import count
from keywatch.vendors.rejected import LOOKS_LIKE

_MOST_REASONS = 50
_OTHER = "other reasons"


@dataclass(frozen=True)
class RejectGroup:
    """Lines that could not be read for one reason; a secret in them is replaced.

    Attributes:
        path: The file of the first of them, which is `line`.
        told: What is kept of that one (`keywatch.vendors.rejected`), as JSON.
    """

    reason: str
    lines: int
    path: str
    line: int
    told: str

    @property
    def value(self) -> str:
        """What stood in the field that the reason names; empty where that is not kept."""
        field = self.reason.partition(" ")[0].rpartition(".")[2]
        return self._kept().get(field, "") if "missing" not in self.reason else ""

    def __str__(self) -> str:
        """``480 lines: timestamp has no offset, like 2026-09-30 10:00:00; … (a.jsonl, line 3)``."""
        what, semicolon, mend = self.reason.partition("; ")
        if value := self.value:
            what += f", like {value}"
        elif alike := self._kept().get(LOOKS_LIKE):
            what += f"; {alike} looks like it"
        return (
            f"{count(self.lines, 'line')}: {what}{semicolon}{mend} ({self.path}, line {self.line})"
        )

    def _kept(self) -> Mapping[str, str]:
        kept = json.loads(self.told)
        return {name: value for name, value in kept.items() if isinstance(value, str)}


class Rejects:
    """The rejects of one file so far, by reason."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._groups: dict[str, RejectGroup] = {}

    def add(self, reason: str, line: int, told: str) -> None:
        """Count a line; a reason that comes after very many others is *other*."""
        if reason not in self._groups and len(self._groups) >= _MOST_REASONS:
            reason = _OTHER
        known = self._groups.get(reason)
        self._groups[reason] = (
            replace(known, lines=known.lines + 1)
            if known
            else RejectGroup(reason, 1, self._path, line, told)
        )

    @property
    def groups(self) -> tuple[RejectGroup, ...]:
        """By reason, the most frequent first."""
        return merged([self])


def merged(of_files: Iterable[Rejects]) -> tuple[RejectGroup, ...]:
    """The groups of several files by reason, the most frequent first."""
    groups: dict[str, RejectGroup] = {}
    for group in (one for rejects in of_files for one in rejects._groups.values()):
        known = groups.get(group.reason)
        groups[group.reason] = replace(known, lines=known.lines + group.lines) if known else group
    return tuple(sorted(groups.values(), key=lambda group: -group.lines))
