"""A case as text: all that a review found on one key.

Every value that comes from a log or an inventory goes through `printable`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from keywatch.model import Case, Evidence, Origin, Review
from keywatch.report.layout import Cell, Grid, Page, Stack, styled
from keywatch.report.parts import (
    BITS_MEANING,
    ID_LENGTH,
    NAME_LENGTH,
    SENTENCE_LENGTH,
    STANDINGS,
    STORY_LENGTH,
    STYLES,
    TRIAL,
    action_label,
    add_attribution,
    add_title,
    compared,
    graded,
    has_weight,
    if_revoked,
    numbered,
    on_trial,
    reasons_of,
    some_names,
    steps_in_time,
    strength,
    sureness,
    techniques_of,
    upkeep_of,
    weight,
    what_else,
    what_was_done,
)
from keywatch.report.text_charts import add_charts
from keywatch.review.history import Details
from keywatch.text.phrases import asked_words, count, sentence, span, verdict_words
from keywatch.text.safe_text import printable

_MOST_ORIGINS = 20
_MOST_CONSUMERS = 8
_QUERY_LENGTH = 20_000

_BAR_LENGTH = 28
_BAR_BITS = 14.0
"""Bits of a full bar; more is shown as a full one."""


def render_case(
    case: Case,
    review: Review,
    details: Details | None = None,
    *,
    color: bool = False,
    width: int = 100,
    lake: Path | None = None,
) -> str:
    """Everything that `review` found on one key, as text that ends with a line break.

    With `details` there are small charts. Lines and commands are as in `render_review`.
    """
    page = Page(width, color=color, lake=lake)
    add_title(page, f"Keywatch case {printable(case.key_id, ID_LENGTH)}", review)
    page.blank()
    head = f"  {graded(case)}" if case.action != "none" else strength(case.bits, "  ")
    page.add(styled((action_label(case.action), STYLES[case.action]), head))
    page.add(sentence(printable(case.story or case.summary, STORY_LENGTH)))
    if case.chronology:
        page.heading("Chronology, UTC")
        page.add(Grid(steps_in_time(case)), indent=2)
    page.heading("Key")
    page.add(Grid(_key_facts(case, review)), indent=2)
    _add_why(page, case, review)
    if details is not None:
        add_charts(page, case, review.window, details, width)
    _add_origins(page, case)
    _add_stakes(page, case)
    if case.steps:
        page.heading("Next steps")
        steps = numbered([page.with_commands(step) for step in case.steps])
        page.add(Grid(steps, align=("right",)), indent=2)
    if case.events_query:
        page.heading("Query for the events")
        page.add(_query(page, case), indent=2)
    add_attribution(page, review)
    return page.text


def _key_facts(case: Case, review: Review) -> list[list[Cell]]:
    groups = [
        f"{group.kind} with {count(len(group.key_ids) - 1, 'other key')}: {printable(group.origin)}"
        for group in review.groups
        if case.key_id in group.key_ids
    ]
    facts = [
        ("id", printable(case.key_id, NAME_LENGTH * 2)),
        ("key", printable(case.key or "")),
        ("sessions", printable(", ".join(case.sessions), NAME_LENGTH * 4)),
        ("name", printable(case.name or "")),
        ("owner", printable(case.owner or "")),
        ("environment", printable(case.environment or "")),
        ("status", STANDINGS[case.standing]),
        ("confidence", sureness(case)),
        ("verdict", printable(verdict_words(case.verdict)) if case.verdict else ""),
        *(("owner", printable(asked_words(one), SENTENCE_LENGTH)) for one in case.asked),
        *(("part of", group) for group in groups),
    ]
    return [[styled((label, "dim")), value] for label, value in facts if value]


def _add_why(page: Page, case: Case, review: Review) -> None:
    reasons = reasons_of(case, review)
    page.heading("Why")
    if not reasons:
        page.add("Nothing unusual in this window.", indent=2)
    families: dict[str, list[Evidence]] = defaultdict(list)
    for item in reasons:
        families[item.family].append(item)
    sums = {family: sum(item.bits for item in items) for family, items in families.items()}
    ranked = sorted(families, key=lambda family: -sums[family])
    if reasons:
        bars: list[list[Cell]] = [
            [family, f"{sums[family]:.1f}", styled((_bar(sums[family]), STYLES[case.action]))]
            for family in ranked
            if sums[family]
        ]
        bars.append([styled(("total", "bold")), styled((f"{case.bits:.1f}", "bold")), ""])
        page.add(Grid(bars, align=("left", "right")), indent=2)
        page.add(styled((BITS_MEANING, "dim")), indent=2)
    rows: list[list[Cell]] = []
    for family in ranked:
        heavy = [_reason(item) for item in families[family] if has_weight(item)]
        rows += [["", "", ""], *heavy] if heavy else []
    if light := sum(not has_weight(item) for item in reasons):
        rows += [["", "", ""], ["0.0", "", f"{count(light, 'more reason')} without weight"]]
    if rows:
        page.add(Grid(rows, align=("right",)), indent=2)
    _add_about(page, reasons)
    if trial := on_trial(case):
        page.heading(TRIAL.capitalize())
        page.add(Grid([_reason(item) for item in trial], align=("right",)), indent=2)
    upkeep = [item for item in case.evidence if item.detector in upkeep_of(case, review)]
    if upkeep:
        page.heading("Key hygiene, not counted")
        page.add(Grid([_reason(item) for item in upkeep], align=("right",)), indent=2)


def _add_about(page: Page, reasons: Sequence[Evidence]) -> None:
    """Possible false positives of the strongest detectors, and the techniques of all."""
    if others := what_else(reasons):
        page.heading("Possible false positives")
        page.add(Grid([[printable(text, SENTENCE_LENGTH)] for text in others]), indent=2)
    if named := techniques_of(reasons):
        page.heading("MITRE ATT&CK")
        page.add(Grid([[printable(text, SENTENCE_LENGTH)] for text in named]), indent=2)


def _bar(bits: float) -> str:
    length = round(min(bits, _BAR_BITS) / _BAR_BITS * _BAR_LENGTH)
    return "━" * max(length, 1)


def _reason(item: Evidence) -> list[Cell]:
    detector = printable(item.detector, NAME_LENGTH).replace("_", " ")
    return [
        styled((weight(item), "bold")),
        Stack((detector, styled((item.family, "dim")))),
        compared(item),
    ]


def _add_origins(page: Page, case: Case) -> None:
    if not case.origins:
        return
    page.heading("Origins in this window")
    heads = ("requests", "first and last, UTC", "address and network")
    rows: list[list[Cell]] = [[styled((head, "dim")) for head in heads]]
    rows += [
        [
            f"{origin.requests:,}",
            span(origin.first_seen, origin.last_seen),
            Stack((_address(origin), styled((_network(origin), "dim")))),
        ]
        for origin in case.origins[:_MOST_ORIGINS]
    ]
    page.add(Grid(rows, align=("right",)), indent=2)
    if more := max(len(case.origins) - _MOST_ORIGINS, 0) + case.more_origins:
        page.add(f"and {count(more, 'more address', 'more addresses')}", indent=2)


def _address(origin: Origin) -> Cell:
    """The address, and how many of its requests are suspicious where some are."""
    address = printable(origin.ip, ID_LENGTH)
    if not origin.requests_suspicious:
        return address
    whole = origin.requests_suspicious == origin.requests
    return f"{address} · {'suspicious' if whole else f'{origin.requests_suspicious:,} suspicious'}"


def _network(origin: Origin) -> str:
    asn = f"AS{origin.asn}" if origin.asn is not None else None
    network = [asn, origin.organization, origin.country, origin.origin_class]
    return " · ".join(printable(part, NAME_LENGTH) for part in network if part)


def _add_stakes(page: Page, case: Case) -> None:
    if radius := case.blast_radius:
        granted = radius.scopes_granted
        facts = [
            ("activity", what_was_done(radius) or "no suspicious visits"),
            ("scopes granted", "unknown" if granted is None else some_names(granted) or "none"),
            ("scopes used", some_names(radius.scopes_used) or "none known"),
            ("sensitive calls", some_names(radius.sensitive_endpoints_used) or "none"),
        ]
        page.heading("Blast radius")
        page.add(Grid([[styled((label, "dim")), text] for label, text in facts]), indent=2)
    if impact := case.impact:
        page.heading("If revoked")
        page.add(sentence(if_revoked(impact)), indent=2)
        consumers: list[list[Cell]] = [
            [f"{consumer.requests_per_day:,.1f} a day",
             printable(consumer.agent, NAME_LENGTH), printable(consumer.origin)]
            for consumer in impact.consumers[:_MOST_CONSUMERS]
        ]  # fmt: skip
        if consumers:
            page.add(Grid(consumers, align=("right",)), indent=2)
        if (more := impact.consumers_total - len(consumers)) > 0:
            page.add(f"and {count(more, 'more consumer')}", indent=2)
        if impact.scopes_needed:
            needed = some_names(impact.scopes_needed)
            page.add(f"Scopes needed by a replacement: {needed}", indent=2)


def _query(page: Page, case: Case) -> str:
    """The query; a truncated one would be useless."""
    if len(case.events_query) > _QUERY_LENGTH:
        return f"Too long to show here: see {page.command('case', 'KEY', '--format json')}."
    return printable(case.events_query, 10 * _QUERY_LENGTH)
