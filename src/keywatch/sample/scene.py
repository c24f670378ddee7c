"""The stage oddities happen on, and the ways in which they change a key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import api
from .keys import Key, Sessions, Slot
from .owners import Owner
from .places import DAY_US, HOUR_US, AddressBook, Ints, Source

FOREVER_US = 1 << 62
SERVICES = ("dashboard", "ci", "iac", "alert_bridge", "fleet", "weekly_report", "monthly_job",
            "synthetic_monitor", "sleeper")  # fmt: skip
STAFF = ("person", "mobile_app")
CLOUDS = ("cloud", "hosting")


@dataclass
class Scene:
    """All that an oddity may touch. `start_us`, `end_us` bound the span."""

    rng: np.random.Generator
    keys: list[Key]
    start_us: int
    end_us: int
    book: AddressBook
    _by_owner: dict[str, list[Key]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_owner = defaultdict(list)
        for key in self.keys:
            self._by_owner[key.owner.name].append(key)

    def of_owner(self, owner: Owner) -> list[Key]:
        """The keys of the owner."""
        return self._by_owner[owner.name]


Trace = tuple[Key, int, int | None]
"""A key that an oddity touched, from when, and until when (None: for good)."""
Oddity = Callable[[Scene, Key, int], list[Trace]]
"""Makes the oddity begin at the time on the key and those that share in it; where it does not
fit the key, nothing changes and the list is empty."""


def office_at(keys: list[Key], office: Source, when_us: int) -> Source:
    """The line that the office has at the time, as the owner's `keys` show it."""
    for key in keys:
        for slot in key.slots:
            source = slot.source_at(when_us)
            if slot.sources[0][1] is office and source.network.kind not in CLOUDS:
                return source
    return office


def change_source(slot: Slot, when_us: int, new: Source) -> None:
    """From the time on, until its next change, the slot is somewhere else."""
    slot.sources.append((when_us, new))
    slot.sources.sort(key=lambda pair: pair[0])


def replace_line(scene: Scene, key: Key, old: Source, new: Source, when_us: int) -> list[Trace]:
    """All of the owner's keys that use the line move with it, as the key does."""
    touched: list[Trace] = []
    for other in scene.of_owner(key.owner):
        slots = [slot for slot in other.slots if slot.source_at(when_us) is old]
        for slot in slots:
            change_source(slot, when_us, new)
        if slots:
            touched.append((other, when_us, None))
    return touched


def add_slot(key: Key, source: Source, agent: str) -> int:
    """One more place the key is used from; its number."""
    key.slots.append(Slot([(0, source)], [(0, agent)]))
    return len(key.slots) - 1


def add_sessions(
    key: Key, names: list[str], times_us: npt.NDArray[np.float64], lengths: Ints | int, slot: int
) -> int:
    """Sessions that go through the named endpoints again and again; their routine's number."""
    key.routines.append(np.array(api.numbers(*names), dtype=np.int64))
    key.extra.append(Sessions.of(times_us, lengths, len(key.routines) - 1, slot))
    return len(key.routines) - 1


def own_calls(rng: np.random.Generator, key: Key, count: int) -> list[str]:
    """Names of endpoints out of the key's own mix, without deletions."""
    drawn = [api.ENDPOINTS[i] for i in rng.choice(len(key.mix), size=count, p=key.mix)]
    return [e.name for e in drawn if e.method != "DELETE"] or ["GET /v1/me"]


def working_hour(rng: np.random.Generator, when_us: int, utc_offset_hours: int) -> int:
    """A time in the working hours of the same local day."""
    shift_us = utc_offset_hours * HOUR_US
    midnight_us = (when_us + shift_us) // DAY_US * DAY_US - shift_us
    return midnight_us + int(rng.uniform(8.5, 18) * HOUR_US)
