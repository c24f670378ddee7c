"""What Keywatch says: frozen dataclasses, the shape of the JSON contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

ATTRIBUTION = "IP Geolocation by DB-IP (https://db-ip.com)"
"""Must stand wherever located addresses are shown."""

Action = Literal["revoke", "rotate", "investigate", "none"]
ACTIONS: tuple[Action, ...] = ("revoke", "rotate", "investigate", "none")
"""From the most to the least urgent."""

Status = Literal["draft", "test", "stable"]
"""How far a detector has come: tried by its author only, shown and not counted, counted."""

OwnerAnswer = Literal["yes", "no", "not_mine"]
Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""How grave a case is, the gravest first."""

Confidence = Literal["high", "medium", "low"]
"""How sure it is that somebody else uses the key, the surest first."""
_HALF = 0.5
_RARE_BITS = 10.0

KeyOrder = Literal["rotation", "key", "name", "owner", "created", "last-use", "requests", "state"]
"""What a list of keys is sorted by."""

Standing = Literal["assessed", "warming_up", "not_assessable", "silent"]
Family = Literal["origin", "endpoints", "volume", "client", "policy", "all"]
FAMILIES: tuple[Family, ...] = ("origin", "endpoints", "volume", "client", "policy", "all")
"""Kinds of evidence that can be strange independently of each other."""


def most_urgent(actions: Iterable[Action]) -> Action:
    """The most urgent of `actions`; ``none`` of none."""
    return min(actions, key=ACTIONS.index, default="none")


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

    `cases` are the keys in use in the `windows` replayed; what fewer than five of them reach is
    extrapolated.
    `replayed_revokes` of them would have been revoked at the `nominal_rate`, the false discovery
    rate of ``revoke``, by statistics; `left_out` are those of them that are no part of ordinary
    weeks, and `remaining_revokes` what would have been revoked of the rest. `noisy_keys` were
    strange in several of the windows and are compared with themselves only; `outlying_windows` had
    more strange keys than the others and are left out. `judged` of the revokes so far have a
    verdict, of which `judged_benign` were no theft: the realised rate.
    """

    windows: int
    cases: int
    nominal_rate: float
    replayed_revokes: int = 0
    left_out: int = 0
    remaining_revokes: int = 0
    noisy_keys: int = 0
    outlying_windows: int = 0
    judged: int = 0
    judged_benign: int = 0


@dataclass(frozen=True)
class Suppression:
    """What is expected of a key from an origin (a prefix, or a network that was named).

    `owner` says so, and why; from `starts_on` to `ends_on`, both included. What these `families` of
    evidence say against the key there does not count.
    """

    key_id: str
    origin: str
    owner: str
    because: str
    starts_on: date
    ends_on: date
    families: tuple[Family, ...] = ()


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
    """What was assessed and what could not be; counts of keys, events and addresses."""

    keys: int
    assessed: int
    warming_up: int
    not_assessable: int
    silent: int
    events: int
    unlocated_addresses: int
    keyless_events: int = 0
    rejected_lines: int = 0
    held_back_events: int = 0
    """Of all of the lake: ahead of the clock."""
    history_days: float = 0.0
    notes: tuple[str, ...] = ()
    calibration: CalibrationSummary | None = None
    suppressions: tuple[Suppression, ...] = ()
    power: tuple[Power, ...] = ()
    keys_without_past: int = 0
    """Keys in use of which nothing was seen before: no network of theirs is listed as new."""
    proxy_addresses: tuple[str, ...] = ()
    """Private addresses that nearly all requests come from: no place can be assessed, and no power
    is computed."""


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
    requests_suspicious: int = 0
    """Of the suspicious visits."""


@dataclass(frozen=True)
class BlastRadius:
    """What a key may do, and what was done with it in the suspicious visits.

    `scopes_granted` are the inventory's, None where it does not say; `scopes_used` those that its
    accepted requests needed. `lines_unread` are lines of the key in the window that could not be
    read: what they did is not known. Of the suspicious requests some were accepted, some denied
    (401 or 403), and the rest failed; `sensitive_endpoints_suspicious` accepted one.
    """

    scopes_granted: tuple[str, ...] | None = None
    scopes_used: tuple[str, ...] = ()
    sensitive_endpoints_used: tuple[str, ...] = ()
    requests_suspicious: int = 0
    objects_suspicious: int = 0
    response_bytes_suspicious: int = 0
    lines_unread: int = 0
    requests_accepted: int = 0
    requests_denied: int = 0
    sensitive_endpoints_suspicious: tuple[str, ...] = ()

    @property
    def is_unrestricted(self) -> bool:
        """Whether a scope is a wildcard."""
        return any("*" in scope for scope in self.scopes_granted or ())


@dataclass(frozen=True)
class Consumer:
    """Who uses a key in the ordinary way: a client, and where it runs."""

    agent: str
    origin: str
    requests_per_day: float


def _is_only_refused(radius: BlastRadius) -> bool:
    return radius.requests_suspicious > 0 and radius.requests_accepted == 0


def severity_of(action: Action, radius: BlastRadius | None, *, is_shared: bool = False) -> Severity:
    """How grave a case is by what was done, the same in reports, messages and OCSF.

    It *is grave* where requests were accepted and a sensitive endpoint was among them, the key has
    a wildcard scope, or several keys are used from the place (`is_shared`). To revoke: *critical*
    if it is grave, *medium* if all requests failed, else *high*. To investigate: *high* if it is
    grave by what was called or by the number of keys, else *medium*. To rotate: *medium*. Without
    an action: *low*.
    """
    if action == "none":
        return "low"
    radius = radius or BlastRadius()
    misused = is_shared or bool(radius.sensitive_endpoints_suspicious)
    if action == "rotate" or _is_only_refused(radius):
        return "medium"
    if action == "investigate":
        return "high" if misused else "medium"
    is_used = radius.requests_accepted > 0
    return "critical" if misused or (is_used and radius.is_unrestricted) else "high"


@dataclass(frozen=True)
class Impact:
    """What would break if a key were revoked now.

    `consumers` are the busiest of `consumers_total`; `scopes_needed` are those that ordinary use
    needs, and so a replacement.
    """

    legitimate_requests_per_day: float = 0.0
    consumers: tuple[Consumer, ...] = ()
    consumers_total: int = 0
    successor_key_id: str | None = None
    scopes_needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Milestone:
    """A step of the suspicious activity: what happened for the first time then, or the last."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Technique:
    """A technique of MITRE ATT&CK; `tactics` are (id, name), `part` the sub-technique's name.

    Of one that is not known here the id alone.
    """

    uid: str
    name: str = ""
    part: str = ""
    tactics: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """``T1078.004 Valid Accounts: Cloud Accounts (Initial Access, Persistence)``."""
        named = ": ".join(part for part in (self.name, self.part) if part)
        serves = f" ({', '.join(name for _, name in self.tactics)})" if self.tactics else ""
        return f"{self.uid} {named}{serves}".strip()


@dataclass(frozen=True)
class About:
    """What a detector's author says of it: what else sets it off, and what it does not see."""

    title: str
    technique: Technique
    false_positives: str
    known_gaps: str


@dataclass(frozen=True)
class Evidence:
    """What one detector says; `bits` ≥ 0, and 0 is ordinary.

    `bits` are what it adds to the case, `said_bits` what the detector itself gives: upkeep, a
    detector on trial (`status` ``test``) and a fact that is no theft add nothing. `action` is what
    a fact asks for by itself, None where it is no fact; `about` the detector, where that is known.
    `subject` is the address, prefix or network that other keys share, where it is about one.
    """

    detector: str
    family: Family
    bits: float
    typical: str
    actual: str
    explanation: str
    said_bits: float | None = None
    status: Status = "stable"
    action: Action | None = None
    about: About | None = None
    subject: str | None = None

    @property
    def order(self) -> tuple[int, float, str]:
        """Facts before the rest, the most urgent first; then by bits; then by name."""
        return ACTIONS.index(self.action or "none"), -self.bits, self.detector


Verdict = Literal["benign", "compromised", "expected"]
"""What a person says of a case: the owner's use, a theft, or the owner's from now on."""


@dataclass(frozen=True)
class GivenVerdict:
    """A verdict in force on a key's case.

    `still_open` says why one of *benign* or *expected* does not clear the case: what came since, or
    what it is not about.
    """

    verdict: Verdict
    by: str
    because: str
    given_at: datetime
    still_open: str = ""

    @property
    def clears(self) -> bool:
        """Whether nothing is left to do about the case."""
        return self.verdict != "compromised" and not self.still_open


@dataclass(frozen=True)
class AskedOwner:
    """That a key's owner was asked whether unusual use was theirs, and the answer.

    `answer` is None while it is awaited; *unanswered*: the time is over, or nobody could be asked.
    `until` goes with *yes*: None means this once. `way` is how it was answered, `note` what came of
    it. Times are UTC.
    """

    owner: str
    asked_at: datetime
    answer: OwnerAnswer | Literal["unanswered"] | None = None
    until: date | None = None
    answered_at: datetime | None = None
    way: str = ""
    note: str = ""


@dataclass(frozen=True)
class Case:
    """One key in one window: everything an analyst needs to decide.

    `origins` are the first of them, the suspicious ones before the others, and `more_origins`
    counts the rest. `action` is what is to be done now: none where a verdict clears the case, and
    ``revoke`` where it confirms a theft, whatever was scored (`scored_action`; None: the same).
    `blast_radius` and `impact` are None where the case is told in brief.
    """

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
    blast_radius: BlastRadius | None
    impact: Impact | None
    steps: tuple[str, ...]
    events_query: str
    sessions: tuple[str, ...] = ()
    """The short-lived credentials that the suspicious requests were made with, the busiest first;
    the key is then the principal that they belong to."""
    goes_on: bool = False
    """It is of a network, new to the key, that it came from before the window as well."""
    more_origins: int = 0
    verdict: GivenVerdict | None = None
    scored_action: Action | None = None
    story: str = ""
    """What happened, in sentences: what was done, from where, when and with what client."""
    done: str = ""
    """The same in short: ``read 226 objects and exported all data in one call``."""
    chronology: tuple[Milestone, ...] = ()
    in_campaign: bool = False
    """Other keys were used from the same new place."""
    asked: tuple[AskedOwner, ...] = ()
    """Whom an alert about it asked, the first question first; as of when the case is read."""

    @property
    def severity(self) -> Severity:
        """How grave it is (`severity_of`)."""
        return severity_of(self.action, self.blast_radius, is_shared=self.in_campaign)

    @property
    def confidence(self) -> Confidence:
        """How sure it is that somebody else uses the key, or that the fact asks for its action.

        *high*: a verdict or a fact, or it is to be revoked by statistics, of which at most the
        configured share is innocent; *medium*: of the cases that are as unusual at most half are
        expected to be innocent (its q-value; 10 bits while there is no calibration); *low*: the
        rest.
        """
        if self.action in ("revoke", "rotate") or any(one.action for one in self.evidence):
            return "high"
        likely = self.bits >= _RARE_BITS if self.q_value is None else self.q_value <= _HALF
        return "medium" if likely else "low"

    @property
    def urgency(self) -> tuple[int, int, bool, float, str]:
        """What comes first has less: by action, severity, whether anything was accepted, bits."""
        radius = self.blast_radius
        only_refused = radius is not None and _is_only_refused(radius)
        return (
            ACTIONS.index(self.action), SEVERITIES.index(self.severity), only_refused,
            -self.bits, self.key_id,
        )  # fmt: skip

    @property
    def as_scored(self) -> Action:
        """The action without any verdict."""
        return self.scored_action or self.action


GroupKind = Literal["campaign", "migration"]
"""One theft of several keys; a move of several keys, which somebody has to confirm."""


@dataclass(frozen=True)
class Group:
    """Keys that share an origin."""

    kind: GroupKind
    key_ids: tuple[str, ...]
    origin: str
    explanation: str
    network: str = ""


@dataclass(frozen=True)
class NewNetwork:
    """A network that a key came from for the first time, as far as its baseline goes back.

    `network` is an AS number (``AS9009``), or what stands for one; `prefixes` are the busiest.
    `requests`, `first_seen` and `last_seen` are the window's. `owner_keys` of the owner's other
    keys came from there before, the first one on `owner_since`; `open_since` is the day on which
    this key's use of it was flagged and has not been explained since. `action` is the case's where
    use from there is part of it, `bits` are the strangest visit's, and `outcome` is what was made
    of it.
    """

    key_id: str
    key: str | None
    name: str | None
    owner: str | None
    network: str
    organization: str | None
    countries: tuple[str, ...]
    origin_class: str
    prefixes: tuple[str, ...]
    addresses: int
    requests: int
    first_seen: datetime
    last_seen: datetime
    old_place_in_use: bool
    """Whether a network of the baseline was used after `first_seen`."""
    owner_keys: int
    owner_since: date | None
    open_since: date | None
    action: Action
    bits: float
    outcome: str


@dataclass(frozen=True)
class HygieneFinding:
    """A key that breaks a rule of upkeep, or soon will, and is not suspected for it.

    `action` is ``rotate`` where a rotation mends it, else ``none``; it is advice and never the
    action of a case. `days` have gone by since `due_on` at the window's end; less than 0 are left.
    """

    key_id: str
    detector: str
    explanation: str
    key: str | None = None
    name: str | None = None
    owner: str | None = None
    environment: str | None = None
    action: Action = "none"
    due_on: date | None = None
    days: int | None = None


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is not closed, as of `Response.as_of`.

    `names` are its keys, by name where they have one; `assignee` who works on it, and `comment` the
    last one, both with None where there is none.
    """

    alert_id: str
    kind: str
    key_ids: tuple[str, ...]
    names: tuple[str, ...]
    action: Action
    severity: Severity
    state: str
    opened_at: datetime
    window: Window
    story: str
    assignee: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class DetectorRecord:
    """How often a detector's evidence was part of an alert that a verdict called right or wrong."""

    detector: str
    right: int
    wrong: int


@dataclass(frozen=True)
class Response:
    """How alerts are answered: those not closed, and the figures of the last `days`.

    `detect_hours` (from the first suspicious request to the alert) and `close_hours` (from the
    alert to its end) are medians, None of no alert. An alert is right if a verdict on one of its
    keys is *compromised*, wrong if all are *benign* or *expected*.
    """

    as_of: datetime = field(compare=False)
    days: int
    open: tuple[OpenAlert, ...] = ()
    alerts: int = 0
    closed: int = 0
    right: int = 0
    wrong: int = 0
    detect_hours: float | None = None
    close_hours: float | None = None
    detectors: tuple[DetectorRecord, ...] = ()


HEALTH_CHECKS = (
    "log_ended",
    "place_silent",
    "key_silent",
    "review_overdue",
    "feed_stopped",
    "outbox_dead",
    "outbox_waiting",
    "question_overdue",
    "place_unreadable",
    "file_left_out",
    "ip_data_old",
    "clients_hidden",
    "scores_drifted",
)
"""What `HealthFinding.check` can be."""


@dataclass(frozen=True)
class HealthFinding:
    """Something wrong with the running of Keywatch itself, and the mend.

    `subject` is what it is about: a place, a key, a channel, a file, a week; empty where that is
    the whole lake. A note asks for nothing soon.
    """

    check: str
    subject: str
    text: str
    is_note: bool = False

    @property
    def status(self) -> Literal["warn", "note"]:
        """As the doctor and the JSON have it."""
        return "note" if self.is_note else "warn"


@dataclass(frozen=True)
class Review:
    """The answer of ``keywatch review``; cases are the most suspicious first."""

    window: Window
    run: Run
    coverage: Coverage
    cases: tuple[Case, ...]
    groups: tuple[Group, ...] = ()
    hygiene: tuple[HygieneFinding, ...] = ()
    new_networks: tuple[NewNetwork, ...] = ()
    attribution: str = ATTRIBUTION
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """What could be said of each key, silent ones too."""
    health: tuple[HealthFinding, ...] = ()
    """As of when the review was asked for, whatever its window; no part of the run."""
    response: Response | None = None
    """As `health`: alerts that are not closed, and how fast and how rightly they are answered."""

    def alerted(self) -> tuple[Case, ...]:
        """The cases with an action, the most urgent first (`Case.urgency`)."""
        found = (case for case in self.cases if case.action != "none")
        return tuple(sorted(found, key=lambda case: case.urgency))

    def watched(self) -> tuple[Case, ...]:
        """The cases with something strange, too little to act on."""
        return tuple(case for case in self.cases if case.as_scored == "none" and case.bits > 0)

    def cleared(self) -> tuple[Case, ...]:
        """The cases that would have an action but for a verdict."""
        return tuple(
            case
            for case in self.cases
            if case.verdict and case.verdict.clears and case.as_scored != "none"
        )


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
    """What reviews of past windows would have alerted: as set up, and by others.

    `against` is by other settings (`other_settings`), or with detectors that were `added` or
    `replaced` (ids), or both; None where there is no comparison.
    """

    windows: tuple[Window, ...]
    alerts: tuple[RehearsedAlert, ...]
    against: tuple[RehearsedAlert, ...] | None = None
    other_settings: bool = False
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def changes(self) -> tuple[tuple[RehearsedAlert | None, RehearsedAlert | None], ...]:
        """The alerts that differ, as set up and by the others; None: not alerted there."""
        ours = {(alert.window, alert.key_id): alert for alert in self.alerts}
        theirs = {(alert.window, alert.key_id): alert for alert in self.against or ()}
        both = sorted(ours.keys() | theirs.keys(), key=lambda at: (at[0].start, at[1]))
        pairs = ((ours.get(at), theirs.get(at)) for at in both)
        return tuple(
            (one, other) for one, other in pairs if (one and one.action) != (other and other.action)
        )
