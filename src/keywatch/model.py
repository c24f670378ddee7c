"""What Keywatch says: frozen dataclasses, the shape of the JSON contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

ATTRIBUTION = "IP Geolocation by DB-IP (https://db-ip.com)"
"""Must stand wherever located addresses are shown."""

Action = Literal["revoke", "rotate", "investigate", "none"]
ACTIONS: tuple[Action, ...] = ("revoke", "rotate", "investigate", "none")
"""From the most to the least urgent."""

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""How soon somebody has to hear of it, the soonest first."""

Standing = Literal["assessed", "warming_up", "not_assessable", "silent"]
Family = Literal["origin", "endpoints", "volume", "client", "policy", "all"]
FAMILIES: tuple[Family, ...] = ("origin", "endpoints", "volume", "client", "policy", "all")
"""Kinds of evidence that can be strange independently of each other."""


@dataclass(frozen=True)
class Window:
    """``[start, end)`` in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Run:
    """What a review was made with; the same run id means the same answer."""

    id: str
    lake_snapshot: int
    config_hash: str
    version: str


@dataclass(frozen=True)
class CalibrationSummary:
    """What the claims of a review rest on.

    `cases` are the keys in use in the `windows` replayed; no p-value is below ``1 / (cases + 1)``.
    `replayed_revokes` of them would have been revoked at the `nominal_rate`, the false discovery
    rate of ``revoke``, by statistics. `judged` of the revokes so far have a verdict, of which
    `judged_benign` were no theft: the realised rate.
    """

    windows: int
    cases: int
    nominal_rate: float
    replayed_revokes: int = 0
    judged: int = 0
    judged_benign: int = 0


@dataclass(frozen=True)
class Suppression:
    """An origin that is expected of a key: who says so, why, and from when until when."""

    key_id: str
    origin: str
    owner: str
    because: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True)
class Power:
    """At how many of `keys` a kind of theft would be caught, and after how many requests.

    `median_requests` is over the keys at which it is caught; None where it is at none.
    """

    theft: str
    words: str
    keys: int
    caught: int
    median_requests: float | None


@dataclass(frozen=True)
class Coverage:
    """What was judged and what could not be; counts of keys, events and addresses."""

    keys: int
    assessed: int
    warming_up: int
    not_assessable: int
    silent: int
    events: int
    unlocated_addresses: int
    keyless_events: int = 0
    rejected_lines: int = 0
    history_days: float = 0.0
    notes: tuple[str, ...] = ()
    calibration: CalibrationSummary | None = None
    suppressions: tuple[Suppression, ...] = ()
    power: tuple[Power, ...] = ()


@dataclass(frozen=True)
class Origin:
    """An address that a key was used from inside the window."""

    ip: str
    prefix: str | None
    asn: int | None
    organization: str | None
    country: str | None
    origin_class: str
    first_seen: datetime
    last_seen: datetime
    requests: int


@dataclass(frozen=True)
class Evidence:
    """What one detector says; `bits` ≥ 0, and 0 is ordinary."""

    detector: str
    family: Family
    bits: float
    typical: str
    actual: str
    explanation: str


@dataclass(frozen=True)
class Case:
    """One key in one window: everything an analyst needs to decide."""

    key_id: str
    key: str | None
    name: str | None
    owner: str | None
    environment: str | None
    standing: Standing
    action: Action
    bits: float
    p_value: float | None
    q_value: float | None
    summary: str
    origins: tuple[Origin, ...]
    evidence: tuple[Evidence, ...]
    blast_radius: dict[str, Any]
    impact: dict[str, Any]
    steps: tuple[str, ...]
    events_query: str


@dataclass(frozen=True)
class Group:
    """Keys that share an origin: a campaign (one theft) or a migration (to confirm)."""

    kind: Literal["campaign", "migration"]
    key_ids: tuple[str, ...]
    origin: str
    explanation: str


@dataclass(frozen=True)
class HygieneFinding:
    """A key that breaks a rule of upkeep and is not suspected for it."""

    key_id: str
    detector: str
    explanation: str


@dataclass(frozen=True)
class Review:
    """The answer of ``keywatch review``; cases are the most suspicious first."""

    window: Window
    run: Run
    coverage: Coverage
    cases: tuple[Case, ...]
    groups: tuple[Group, ...] = ()
    hygiene: tuple[HygieneFinding, ...] = ()
    attribution: str = ATTRIBUTION
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """What could be said of each key, silent ones too."""

    def alerted(self) -> tuple[Case, ...]:
        """The cases with an action."""
        return tuple(case for case in self.cases if case.action != "none")


@dataclass(frozen=True)
class RehearsedAlert:
    """What a review of `window` would have said of a key that needs an action."""

    window: Window
    key_id: str
    name: str | None
    action: Action
    bits: float
    summary: str


@dataclass(frozen=True)
class Rehearsal:
    """What reviews of past windows would have alerted: as set up, and by other settings."""

    windows: tuple[Window, ...]
    alerts: tuple[RehearsedAlert, ...]
    against: tuple[RehearsedAlert, ...] | None = None

    def changes(self) -> tuple[tuple[RehearsedAlert | None, RehearsedAlert | None], ...]:
        """The alerts that differ, as set up and by the other settings; None: not alerted there."""
        ours = {(alert.window, alert.key_id): alert for alert in self.alerts}
        theirs = {(alert.window, alert.key_id): alert for alert in self.against or ()}
        both = sorted(ours.keys() | theirs.keys(), key=lambda at: (at[0].start, at[1]))
        pairs = ((ours.get(at), theirs.get(at)) for at in both)
        return tuple(
            (one, other) for one, other in pairs if (one and one.action) != (other and other.action)
        )
