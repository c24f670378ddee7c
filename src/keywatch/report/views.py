"""What the page shows of a review, as plain values: the templates hold the words around them."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keywatch.model import (
    ACTIONS,
    FAMILIES,
    About,
    Case,
    Evidence,
    Family,
    HygieneFinding,
    NewNetwork,
    OpenAlert,
    Review,
)
from keywatch.report.alert_list import MOST_NAMES, age
from keywatch.report.networks import known_of, network_of, places_of
from keywatch.report.outcome import power_sentences
from keywatch.report.parts import (
    STANDINGS,
    has_weight,
    if_revoked,
    on_trial,
    reasons_of,
    sureness,
    upkeep_of,
    what_was_done,
    when_and_where,
)
from keywatch.report.upkeep import rule_counts, rule_name
from keywatch.review.history import Details, ShownKey
from keywatch.text.phrases import (
    count,
    duration,
    listed,
    minute,
    named,
    percent,
    unlike_the_rest,
    window_options,
)
from keywatch.text.safe_text import printable

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_WATCHED = 25
_MOST_UPKEEP = 1_000
_MOST_UNASSESSED = 500
_MOST_ORIGINS = 12
_MOST_ENDPOINTS = 20
_MOST_SCOPES = 12
_ALWAYS_COUNTED = 5  # the others are shown where there are any


@dataclass(frozen=True)
class CaseView:
    """A case as the page shows it; `facts` are label and text, `families` add up to its bits."""

    case: Case
    facts: tuple[tuple[str, str], ...]
    families: tuple[tuple[Family, float], ...]
    trial: tuple[Evidence, ...]
    upkeep: tuple[Evidence, ...]
    about: tuple[About, ...]
    when: str
    where: str
    heavy: tuple[Evidence, ...]
    """The reasons with weight; `light` are the rest."""
    light: tuple[Evidence, ...]
    activity: str
    impact: str
    origins: tuple[Mapping[str, Any], ...]
    more_origins: int
    endpoints: tuple[Mapping[str, Any], ...]
    more_endpoints: int
    command: str
    told: Mapping[str, str]
    """What each chart shows, in words."""


@dataclass(frozen=True)
class NetworkRow:
    """A network that is new to a key, and what to say of it."""

    one: NewNetwork
    network: str
    known: str
    places: str


@dataclass(frozen=True)
class UpkeepRow:
    """A key that breaks a rule of upkeep, and what a successor of it needs."""

    key_id: str
    name: str | None
    owner: str | None
    findings: tuple[tuple[str, str], ...]
    due: str
    """The first day of its rules, and how far it is; empty where they have none."""
    needed: str
    spare: str
    """What it may do and did not need."""


@dataclass(frozen=True)
class CoverageView:
    """What was assessed: counts with their words, sentences, and the keys that could not be."""

    counts: tuple[tuple[int, str], ...]
    sure: tuple[str, ...]
    power: tuple[str, ...]
    unassessed: tuple[tuple[str, str, str], ...]
    more_unassessed: int


def by_key(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The rows of a table of `keywatch.review.history`, by key."""
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        grouped[row["key_id"]].append(row)
    return grouped


def verdict_of(review: Review) -> str:
    """The week in a sentence."""
    coverage = review.coverage
    in_use = coverage.keys - coverage.silent
    if not in_use:
        return "No key was in use in this window: there is nothing to assess."
    numbers = [
        (action, sum(case.action == action for case in review.cases))
        for action in ACTIONS
        if action != "none"
    ]
    told = [f"{number:,} to {action}" for action, number in numbers if number]
    found = (
        f"{', '.join(told)}, out of "
        if told
        else "No key to revoke, rotate or investigate, out of "
    )
    return f"{found}{count(in_use, 'key')} in use."


def case_views(cases: Sequence[Case], review: Review, details: Details) -> list[CaseView]:
    """The `cases` of `details`, as they are shown."""
    origins, endpoints = by_key(details.origins), by_key(details.endpoints)
    return [
        _case_view(case, review, details, origins[case.key_id], endpoints[case.key_id])
        for case in cases
    ]


def _case_view(
    case: Case,
    review: Review,
    details: Details,
    origins: list[dict[str, Any]],
    endpoints: list[dict[str, Any]],
) -> CaseView:
    reasons = reasons_of(case, review)
    sums: dict[Family, float] = defaultdict(float)
    for item in reasons:
        sums[item.family] += item.bits
    # A case's bits are what counts of the evidence; the bar adds up to them.
    total = sum(sums.values())
    kept = case.bits / total if total else 0.0
    upkeep = upkeep_of(case, review)
    window = window_options(review.window)
    when, where = when_and_where(case)
    return CaseView(
        case=case,
        facts=tuple(_facts(case, review, details)),
        families=tuple(
            (family, sums[family] * kept) for family in FAMILIES if sums[family] * kept > 0.05
        ),
        trial=tuple(on_trial(case)),
        upkeep=tuple(item for item in case.evidence if item.detector in upkeep),
        about=tuple(dict.fromkeys(item.about for item in reasons if item.about)),
        when=when,
        where=where,
        heavy=tuple(item for item in reasons if has_weight(item)),
        light=tuple(item for item in reasons if not has_weight(item)),
        activity=what_was_done(case.blast_radius),
        impact=if_revoked(case.impact) if case.impact else "",
        origins=tuple(origins[:_MOST_ORIGINS]),
        more_origins=max(len(origins) - _MOST_ORIGINS, 0),
        endpoints=tuple(endpoints[:_MOST_ENDPOINTS]),
        more_endpoints=max(len(endpoints) - _MOST_ENDPOINTS, 0),
        command=f"keywatch case {shlex.quote(case.key_id)} {window}".rstrip(),
        told=_told(case, origins, endpoints, details),
    )


def _facts(case: Case, review: Review, details: Details) -> list[tuple[str, str]]:
    key = details.keys.get(case.key_id)
    facts = [
        ("id", case.key_id),
        ("key", case.key or ""),
        ("sessions", ", ".join(case.sessions)),
        ("owner", case.owner or ""),
        ("environment", case.environment or ""),
        ("scopes", _names(key.scopes) if key else ""),
        ("age", _age(key, review.window.end) if key else ""),
        ("seen", _seen(key) if key else ""),
        ("replaces", (key.replaces or "") if key else ""),
        ("status", STANDINGS[case.standing]),
        ("confidence", sureness(case)),
        *(
            ("part of", f"{group.kind} with {count(len(group.key_ids) - 1, 'other key')}: "
             f"{group.origin}")
            for group in review.groups
            if case.key_id in group.key_ids
        ),
    ]  # fmt: skip
    return [(label, text) for label, text in facts if text]


def _names(scopes: Sequence[str] | None) -> str:
    if scopes is None:
        return "unknown"
    return listed(scopes, _MOST_SCOPES) or "none"


def _age(key: ShownKey, at: datetime) -> str:
    if key.created_at is None:
        return ""
    parts = [f"created {key.created_at.date()}, {duration((at - key.created_at).days)} old"]
    if key.revoked_at is not None:
        parts.append(f"revoked {minute(key.revoked_at)}")
    if key.expires_at is not None:
        parts.append(f"expires {key.expires_at.date()}")
    return "; ".join(parts)


def _seen(key: ShownKey) -> str:
    return f"since {key.first_day}" if key.first_day else ""


def _told(
    case: Case,
    origins: Sequence[Mapping[str, Any]],
    endpoints: Sequence[Mapping[str, Any]],
    details: Details,
) -> dict[str, str]:
    """The charts in words, for whoever can't see them."""
    name = printable(case.name or case.key_id)
    new = [row for row in origins if not row["known"]]
    flagged = sum(bool(row["flagged"]) for row in origins)
    fresh = [row for row in endpoints if not row["requests_before"]]
    called = sum(bool(row["requests_flagged"]) for row in endpoints)
    since = max(min(row["first_seen"] for row in origins).date(), details.first_day)
    return {
        "timeline": f"Requests of {name} by day and network since {since}: "
        f"{count(len(origins), 'network')}, {len(new):,} of them new in the window, "
        f"{flagged:,} suspicious.",
        "map": f"Origins of the requests of {name}: "
        f"{listed(dict.fromkeys(row['country'] or 'unknown' for row in origins), 12)}.",
        "endpoints": f"Requests a day by endpoint, before and in the window: "
        f"{count(len(endpoints), 'endpoint')}, {len(fresh):,} of them new to the key, "
        f"{called:,} called by suspicious activity.",
    }


def watched(review: Review) -> tuple[tuple[Case, ...], int]:
    """Cases with unusual activity and no action, and how many more there are."""
    found = review.watched()
    return found[:_MOST_WATCHED], max(len(found) - _MOST_WATCHED, 0)


def open_alerts(review: Review) -> list[tuple[OpenAlert, str, str]]:
    """Each alert that is not closed, the most urgent first, its keys by name, and its age."""
    found = review.response
    if found is None:
        return []
    return [(one, listed(one.names, MOST_NAMES), age(one, found.as_of)) for one in found.open]


def network_rows(review: Review) -> list[NetworkRow]:
    """Every network that is new to a key, in the review's order."""
    return [
        NetworkRow(one, network_of(one), known_of(one), places_of(one))
        for one in review.new_networks
    ]


def upkeep(review: Review, details: Details) -> tuple[list[UpkeepRow], int]:
    """A row a key with upkeep to do, those with most first, and how many more there are."""
    findings: dict[str, list[HygieneFinding]] = defaultdict(list)
    for finding in review.hygiene:
        findings[finding.key_id].append(finding)
    rows = [_upkeep_row(key_id, found, details) for key_id, found in findings.items()]
    rows.sort(key=lambda row: (-len(row.findings), row.owner or "~", row.key_id))
    return rows[:_MOST_UPKEEP], max(len(rows) - _MOST_UPKEEP, 0)


def upkeep_line(review: Review) -> str:
    """How many keys break which rule, in a sentence."""
    return f"{rule_counts(review.hygiene)}."


def _due(findings: Sequence[HygieneFinding]) -> str:
    dated = [(each.due_on, each.days) for each in findings if each.due_on is not None]
    if not dated:
        return ""
    day, days = min(dated)
    if days is None or days == 0:
        return f"{day}"
    return f"{day}, {count(abs(days), 'day')} {'ago' if days > 0 else 'left'}"


def _upkeep_row(key_id: str, findings: list[HygieneFinding], details: Details) -> UpkeepRow:
    key = details.keys.get(key_id)
    used = details.used_scopes.get(key_id)
    granted = key.scopes if key else None
    spare = None if used is None or granted is None else [one for one in granted if one not in used]
    return UpkeepRow(
        key_id=key_id,
        name=key.name if key else None,
        owner=key.owner if key else None,
        findings=tuple(
            dict.fromkeys((rule_name(each.detector), each.explanation) for each in findings)
        ),
        due=_due(findings),
        needed=_names(used),
        spare=_names(spare),
    )


def coverage_view(review: Review, details: Details) -> CoverageView:
    """What the review's silence is worth."""
    coverage = review.coverage
    history = duration(coverage.history_days) if coverage.history_days else "no days"
    counts = [
        (coverage.assessed, "key", "assessed against their own history"),
        (coverage.warming_up, "key", "warming up: assessed by policy and peers only"),
        (coverage.not_assessable, "key", "in use, but not assessable"),
        (coverage.silent, "key", "silent: no requests in this window"),
        (coverage.events, "request", f"in this window, with {history} of history"),
        (coverage.keyless_events, "request", "without a key, stored separately"),
        (coverage.unlocated_addresses, "address", "not located"),
        (coverage.rejected_lines, "log line", "rejected"),
        (coverage.held_back_events, "event", "dated in the future, held back"),
    ]
    told = [
        (number, f"{named(number, noun, 'addresses' if noun == 'address' else None)} {what}")
        for number, noun, what in counts
    ]
    unassessed = [
        (key_id, (key.name if key else None) or "", STANDINGS[standing].partition(":")[0])
        for key_id, standing in sorted(review.standings.items(), key=lambda it: (it[1], it[0]))
        if standing in ("warming_up", "not_assessable")
        for key in [details.keys.get(key_id)]
    ]
    return CoverageView(
        counts=tuple(told[:_ALWAYS_COUNTED] + [one for one in told[_ALWAYS_COUNTED:] if one[0]]),
        sure=tuple(_sureness(review)),
        power=tuple(power_sentences(coverage.power)),
        unassessed=tuple(unassessed[:_MOST_UNASSESSED]),
        more_unassessed=max(len(unassessed) - _MOST_UNASSESSED, 0),
    )


def _sureness(review: Review) -> list[str]:
    """What `revoke` claims, and how it has held so far."""
    calibration = review.coverage.calibration
    if calibration is None:
        return ["Not calibrated: too little history to replay."]
    told = [
        f"{count(calibration.windows, 'earlier window')} replayed, with {calibration.cases:,} "
        f"cases. Of the keys to revoke, at most {percent(calibration.nominal_rate)} are expected "
        f"to be false alarms; in the replayed windows {calibration.replayed_revokes:,} "
        f"{named(calibration.replayed_revokes, 'key')} would have been revoked."
    ]
    if calibration.left_out:
        told.append(
            f"{calibration.left_out:,} of the cases {named(calibration.left_out, 'is', 'are')} "
            "excluded from calibration as thefts; of the rest "
            f"{calibration.remaining_revokes:,} would have been revoked."
        )
    told += [f"{said[0].upper()}{said[1:]}." for said in unlike_the_rest(calibration)]
    if calibration.judged:
        share = calibration.judged_benign / calibration.judged
        told.append(
            f"Observed false-alarm rate: {percent(share)} ({calibration.judged_benign:,} of "
            f"{count(calibration.judged, 'revoke')} with a verdict so far)."
        )
    else:
        told.append("Observed false-alarm rate: no revoke has a verdict yet.")
    return told
