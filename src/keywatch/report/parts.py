"""What the texts of a review and of a case have in common.

Every value that comes from a log or an inventory goes through `printable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keywatch.model import Action, BlastRadius, Case, Evidence, Impact, Review, Standing
from keywatch.report.layout import Cell, Grid, Page, Stack, styled
from keywatch.text.countries import country_name
from keywatch.text.phrases import count, days, listed, minute, rate, sentence, size, window_label
from keywatch.text.safe_text import printable

ID_LENGTH = 48
NAME_LENGTH = 60
CELL_LENGTH = 24
SENTENCE_LENGTH = 400
STORY_LENGTH = 1200
"""Characters of a value that are shown: of an id, a name, a cell, a sentence, a story."""

_MOST_LISTED = 8
_MOST_EXPLAINED = 3

STYLES: dict[Action, str] = {
    "revoke": "bold red",
    "rotate": "bold magenta",
    "investigate": "bold yellow",
    "none": "bold",
}
STANDINGS: dict[Standing, str] = {
    "assessed": "assessed against its own history",
    "warming_up": "warming up: too little history, assessed by policy and peers only",
    "not_assessable": "could not be assessed, which does not mean it is clean",
    "silent": "silent: no requests in this window",
}
BITS_MEANING = (
    "Bits measure how unusual this is for the key: 10 bits is about 1 in 1,000, and bits add up."
)
TRIAL = "test, not counted"
"""Of detectors that are not stable yet."""
NEW_NETWORKS_MEANING = (
    "Not used before by the key or by a key it replaces. Ask the owner about networks that you do "
    "not recognise, alerted or not."
)
_ABBREVIATED = {"isp": "ISP", "vpn": "VPN", "tor": "Tor"}
_NO_ACTION_LABEL = "NO ACTION"


def add_title(page: Page, title: str, review: Review) -> None:
    """Title, window, and the run it belongs to."""
    page.add(styled((title, "bold"), f" · {window_label(review.window)}"))
    run = review.run
    made_with = (
        f"run {printable(run.id, ID_LENGTH)} · snapshot {run.lake_snapshot} · "
        f"settings {printable(run.config_hash, ID_LENGTH)} · "
        f"keywatch {printable(run.version, CELL_LENGTH)}"
    )
    page.add(styled((made_with, "dim")))


def add_attribution(page: Page, review: Review) -> None:
    """The credit that must stand wherever located addresses are shown."""
    page.blank()
    page.add(styled((printable(review.attribution), "dim")))


def action_label(action: Action) -> str:
    """``REVOKE``."""
    return _NO_ACTION_LABEL if action == "none" else action.upper()


def strength(bits: float, before: str = "") -> str:
    """``40.7 bits``; empty where a fact alone says what to do, which has none."""
    return f"{before}{bits:.1f} bits" if bits else ""


def graded(case: Case) -> str:
    """``high severity, medium confidence``."""
    return f"{case.severity} severity, {case.confidence} confidence"


def sureness(case: Case) -> str:
    """The numbers behind the confidence: ``medium (31.8 bits, p 0.0013, q 0.073)``."""
    numbers = [strength(case.bits)]
    if case.p_value is None:
        numbers.append("not calibrated: decided by thresholds")
    else:
        numbers.append(f"p {case.p_value:.2g}")
    numbers += [f"q {case.q_value:.2g}"] if case.q_value is not None else []
    told = ", ".join(each for each in numbers if each)
    return f"{case.confidence} ({told})" if case.action != "none" else told


def when_and_where(case: Case) -> tuple[str, str]:
    """``28–30 Sep`` and ``China, ISP, AS4134 Chinanet``; empty without suspicious activity."""
    if not case.chronology:
        return "", ""
    when = days(case.chronology[0].at, case.chronology[-1].at)
    suspicious = [origin for origin in case.origins if origin.requests_suspicious]
    if not suspicious:
        return when, ""
    first = suspicious[0]
    asn = f"AS{first.asn}" if first.asn is not None else ""
    network = " ".join(part for part in (asn, first.organization or "") if part)
    country = country_name(first.country).removeprefix("the ") if first.country else ""
    origin_class = _ABBREVIATED.get(first.origin_class, first.origin_class)
    parts = (country, origin_class, network or first.ip)
    return when, ", ".join(printable(part, NAME_LENGTH) for part in parts if part)


def numbered(steps: Sequence[str]) -> list[list[Cell]]:
    """Rows of a number and a sentence."""
    return [
        [f"{number}.", sentence(printable(step, SENTENCE_LENGTH))]
        for number, step in enumerate(steps, start=1)
    ]


def upkeep_of(case: Case, review: Review) -> set[str]:
    """Detectors whose evidence on this key is shown and not counted."""
    return {finding.detector for finding in review.hygiene if finding.key_id == case.key_id}


def reasons_of(case: Case, review: Review) -> list[Evidence]:
    """The evidence that counts: facts, then the strongest first."""
    upkeep = upkeep_of(case, review)
    counted = (
        item for item in case.evidence if item.status == "stable" and item.detector not in upkeep
    )
    return sorted(counted, key=lambda item: item.order)


def on_trial(case: Case) -> list[Evidence]:
    """What detectors on trial say, the strongest first: shown and not counted."""
    return sorted(
        (item for item in case.evidence if item.status == "test"),
        key=lambda item: (-(item.said_bits or 0.0), item.detector),
    )


def what_else(reasons: Sequence[Evidence]) -> list[str]:
    """What sets the strongest detectors off that is no theft, each once."""
    known = [item.about.false_positives for item in reasons if item.about]
    return [text for text in dict.fromkeys(known) if text][:_MOST_EXPLAINED]


def techniques_of(reasons: Sequence[Evidence]) -> list[str]:
    """The ATT&CK techniques of the evidence, the strongest first, each once."""
    return list(dict.fromkeys(str(item.about.technique) for item in reasons if item.about))


def weight(item: Evidence) -> str:
    """What stands in the column of bits: ``fact`` where a fact asks for less than to revoke.

    Of a detector on trial it is what the detector says.
    """
    if item.action and not item.bits:
        return "fact"
    return f"{item.said_bits or 0.0 if item.status == 'test' else item.bits:.1f}"


def has_weight(item: Evidence) -> bool:
    """Whether it is a fact, or adds bits that are seen with one decimal."""
    return bool(item.action) or round(item.bits, 1) > 0


def steps_in_time(case: Case) -> list[list[Cell]]:
    """Rows of a time and what happened then."""
    return [[minute(step.at), printable(step.text, SENTENCE_LENGTH)] for step in case.chronology]


def compared(item: Evidence) -> Cell:
    """The explanation, and under it typical against actual."""
    parts: list[Cell] = [printable(item.explanation)]
    rows: list[list[Cell]] = [
        [styled((label, "dim")), printable(value)]
        for label, value in (("typical", item.typical), ("actual", item.actual))
        if value
    ]
    if rows:
        parts.append(Grid(rows))
    return Stack(tuple(parts))


def what_was_done(radius: BlastRadius | None) -> str:
    """What was done in the suspicious visits, in one line; empty when there were none.

    And how many lines of the key could not be read: what they did is not known.
    """
    if radius is None:
        return ""
    parts = []
    if radius.requests_suspicious:
        parts = [
            count(radius.requests_suspicious, "suspicious request"),
            count(radius.objects_suspicious, "object"),
        ]
    if size_bytes := radius.response_bytes_suspicious:
        parts.append(f"{size(size_bytes)} of response data")
    if unread := radius.lines_unread:
        parts.append(f"{count(unread, 'unreadable line')}")
    return ", ".join(parts)


def if_revoked(impact: Impact) -> str:
    """What would break, in one line."""
    per_day, consumers = impact.legitimate_requests_per_day, impact.consumers_total
    if not per_day and not consumers:
        stops = "no ordinary use in this window"
    else:
        stops = f"about {rate(per_day)} by {count(consumers, 'consumer')} would fail"
    if successor := impact.successor_key_id:
        return f"{stops}; {printable(successor, ID_LENGTH)} already replaces this key"
    return f"{stops}; no key replaces this one yet"


def some_names(values: Iterable[str]) -> str:
    """The first few, and how many more."""
    return listed((printable(value, NAME_LENGTH) for value in values), _MOST_LISTED)
