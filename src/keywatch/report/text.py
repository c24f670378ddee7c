"""A review as text: for a terminal and for a log file.

Every value that comes from a log or an inventory goes through `printable`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from keywatch.model import (
    ACTIONS,
    CalibrationSummary,
    Case,
    Coverage,
    Evidence,
    Group,
    NewNetwork,
    Review,
)
from keywatch.report.alert_list import add_response
from keywatch.report.health import health_lines
from keywatch.report.layout import Cell, Grid, Page, Stack, styled
from keywatch.report.networks import came_from, known_of, network_of
from keywatch.report.outcome import power_sentences
from keywatch.report.parts import (
    BITS_MEANING,
    CELL_LENGTH,
    ID_LENGTH,
    NAME_LENGTH,
    NEW_NETWORKS_MEANING,
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
    sureness,
    techniques_of,
    weight,
    what_was_done,
    when_and_where,
)
from keywatch.report.upkeep import add_upkeep
from keywatch.text.phrases import (
    asked_words,
    count,
    duration,
    listed,
    named,
    percent,
    sentence,
    unlike_the_rest,
    verdict_words,
    window_options,
)
from keywatch.text.safe_text import printable

_MOST_BLOCKS = 25
_MOST_REASONS = 4
_MOST_STEPS = 3
_MOST_TECHNIQUES = 3
_MOST_WATCHED = 10
_MOST_GROUP_KEYS = 12
_MOST_NETWORKS = 20


def render_review(
    review: Review, *, color: bool = False, width: int = 100, lake: Path | None = None
) -> str:
    """The review as text that ends with a line break.

    No line is wider than `width` terminal cells (at least 40), and there are no escape sequences
    unless `color`. The commands in it ask the lake in the folder `lake`, or the default one.
    """
    page = Page(width, color=color, lake=lake)
    alerted = review.alerted()
    add_title(page, "Keywatch review", review)
    page.blank()
    _add_verdict(page, review)
    _add_health(page, review)
    if alerted:
        page.blank()
        page.add(Grid([_finding(case) for case in alerted]), indent=2)
    _add_cleared(page, review)
    if review.groups:
        page.heading("Related keys")
        page.add(Grid([_group(group) for group in review.groups]), indent=2)
    for case in alerted[:_MOST_BLOCKS]:
        _add_block(page, case, review)
    if len(alerted) > _MOST_BLOCKS:
        more = count(len(alerted) - _MOST_BLOCKS, "more key")
        page.blank()
        command = page.command("case", "KEY")
        page.add(f"{more} with an action, listed at the top: details with {command}")
    if alerted:
        page.blank()
        page.rule()
    add_response(page, review.response)
    _add_new_networks(page, review, _MOST_NETWORKS)
    _add_watched(page, review)
    add_upkeep(page, review)
    _add_coverage(page, review.coverage)
    add_attribution(page, review)
    return page.text


def render_new_networks(
    review: Review, *, color: bool = False, width: int = 100, lake: Path | None = None
) -> str:
    """Every network that is new to a key, as text; lines are as in `render_review`."""
    page = Page(width, color=color, lake=lake)
    add_title(page, "Keywatch new networks", review)
    _add_new_networks(page, review, len(review.new_networks))
    add_attribution(page, review)
    return page.text


def _add_verdict(page: Page, review: Review) -> None:
    coverage = review.coverage
    in_use = coverage.assessed + coverage.warming_up + coverage.not_assessable
    numbers = {
        action: sum(case.action == action for case in review.cases)
        for action in ACTIONS
        if action != "none"
    }
    found: list[str] = []
    for action, number in numbers.items():
        if number:
            found.append(
                f"{number:,} to {action}" if found else f"{count(number, 'key')} to {action}"
            )
    if found:
        page.add(styled((f"{', '.join(found)}, out of {in_use:,} in use.", "bold")))
        page.add(styled((BITS_MEANING, "dim")))
    elif in_use:
        nothing = f"No key to revoke, rotate or investigate, out of {in_use:,} in use."
        page.add(styled((nothing, "bold")))
    else:
        nothing = "No key was in use in this window: there is nothing to assess."
        page.add(styled((nothing, "bold")))
    unassessed = in_use - coverage.assessed
    if unassessed and (not found or not coverage.assessed):
        which = f"{unassessed:,} of them" if coverage.assessed else "None of them"
        could = "could not" if coverage.assessed else "could"
        page.add(
            f"{which} {could} be assessed against their own history (see Coverage): "
            "the absence of findings does not mean that these keys are clean."
        )


def _add_health(page: Page, review: Review) -> None:
    """Before the keys: if the log has stopped, no findings means nothing."""
    if lines := health_lines(review.health):
        page.heading("Health")
        page.add(Grid([["-", page.with_commands(line)] for line in lines]), indent=2)


def _finding(case: Case) -> list[Cell]:
    """A key with an action: what, how grave, which key, when and where, what was done."""
    when, where = when_and_where(case)
    key_id = printable(case.key_id, CELL_LENGTH)
    name = printable(case.name or "", CELL_LENGTH)
    key: Cell = Stack((styled((name, "bold")), key_id)) if name else styled((key_id, "bold"))
    head = " · ".join(part for part in (when, where) if part)
    done = sentence(printable(case.done or case.summary, SENTENCE_LENGTH))
    return [
        styled((action_label(case.action), STYLES[case.action])),
        case.severity,
        key,
        Stack((head, done) if head else (done,)),
    ]


def _glance(case: Case) -> list[Cell]:
    """A key in one line: bits, id, name and the reason as far as it goes."""
    name = f"{printable(case.name, CELL_LENGTH)}: " if case.name else ""
    return [
        f"{case.bits:.1f}",
        printable(case.key_id, CELL_LENGTH),
        styled((name, "bold"), printable(case.summary)),
    ]


def _group(group: Group) -> list[Cell]:
    keys = listed((printable(key, ID_LENGTH) for key in group.key_ids), _MOST_GROUP_KEYS)
    head = f"{count(len(group.key_ids), 'key')}, {printable(group.origin)}"
    explanation = sentence(printable(group.explanation, SENTENCE_LENGTH))
    return [styled((group.kind, "bold")), Stack((head, explanation, keys))]


def _add_block(page: Page, case: Case, review: Review) -> None:
    page.blank()
    page.rule()
    key_id = printable(case.key_id, ID_LENGTH)
    page.add(
        styled((action_label(case.action), STYLES[case.action]), "  ", (key_id, "bold"),
               f"  {graded(case)}")
    )  # fmt: skip
    if who := _who(case):
        page.add(who)
    page.add(sentence(printable(case.story or case.summary, STORY_LENGTH)))
    reasons = reasons_of(case, review)
    trial = on_trial(case)
    page.blank()
    rows: list[tuple[str, Cell]] = []
    if case.verdict:
        rows.append(("verdict", printable(verdict_words(case.verdict), SENTENCE_LENGTH)))
    rows += [("owner", printable(asked_words(one), SENTENCE_LENGTH)) for one in case.asked]
    if reasons:
        rows.append(("why", _why_in_short(reasons)))
    if reasons:
        rows.append(("confidence", sureness(case)))
    if trial:
        rows.append((TRIAL, _why_in_short(trial, total=False)))
    if case.chronology:
        rows.append(("chronology", Grid(steps_in_time(case))))
    if techniques := techniques_of(reasons):
        short = (printable(one.partition(" (")[0], NAME_LENGTH) for one in techniques)
        told = listed(short, _MOST_TECHNIQUES)
        rows.append(("ATT&CK", told))
    if done := what_was_done(case.blast_radius):
        rows.append(("activity", done))
    if case.blast_radius and case.blast_radius.scopes_granted:
        rows.append(("scopes", some_names(case.blast_radius.scopes_granted)))
    if case.impact:
        rows.append(("if revoked", if_revoked(case.impact)))
    if case.steps:
        steps = numbered([page.with_commands(step) for step in case.steps[:_MOST_STEPS]])
        rows.append(("next steps", Grid(steps, align=("right",))))
    command = page.command("case", shlex.quote(key_id), window_options(review.window))
    rows.append(("details", command))
    page.add(Grid([[styled((label, "dim")), cell] for label, cell in rows]), indent=2)


def _who(case: Case) -> str:
    """Name, owner, environment and masked key, and the standing where it says less than usual."""
    parts = [
        printable(case.name or "", NAME_LENGTH),
        f"owner {printable(case.owner, NAME_LENGTH)}" if case.owner else "",
        printable(case.environment or "", CELL_LENGTH),
        printable(case.key or "", NAME_LENGTH),
        "" if case.standing == "assessed" else STANDINGS[case.standing].partition(":")[0],
    ]
    return " · ".join(part for part in parts if part)


def _why_in_short(reasons: Sequence[Evidence], *, total: bool = True) -> Cell:
    """The first reasons, and what the rest have in `total`."""
    shown = [one for one in reasons if not total or has_weight(one)][:_MOST_REASONS]
    rest = reasons[len(shown) :]
    rows: list[list[Cell]] = [
        [styled((weight(item), "bold")), item.family, compared(item)] for item in shown
    ]
    if rest:
        bits = sum(item.bits for item in rest)
        rows.append([f"{bits:.1f}" if total else "", "", count(len(rest), "more reason")])
    return Grid(rows, align=("right",))


def _add_new_networks(page: Page, review: Review, most: int) -> None:
    """Alerted or not: the vendor asks for a weekly look at them."""
    networks, coverage = review.new_networks, review.coverage
    in_use = coverage.keys - coverage.silent
    if not in_use:
        return
    page.heading(f"New networks: {len(networks):,}")
    if networks:
        page.add(styled((NEW_NETWORKS_MEANING, "dim")), indent=2)
        page.add(
            Grid([_new_network(one) for one in networks[:most]], align=("left", "right")), indent=2
        )
    elif coverage.keys_without_past < in_use:
        page.add("No key was used from a network that is new to it.", indent=2)
    if more := max(len(networks) - most, 0):
        command = page.command("review", window_options(review.window), "--networks")
        page.add(f"and {more:,} more: {command}", indent=2)
    if coverage.keys_without_past:
        left_out = count(coverage.keys_without_past, "key")
        page.add(
            f"Not listed: {left_out} with no history, to which every network is new.", indent=2
        )


def _new_network(one: NewNetwork) -> list[Cell]:
    label = "–" if one.action == "none" else action_label(one.action)
    name = f"{printable(one.name, NAME_LENGTH)} " if one.name else ""
    key_id = printable(one.key_id, ID_LENGTH)
    return [
        styled((label, STYLES[one.action])),
        f"{one.bits:.1f}",
        Stack((
            styled((f"{name}{key_id}", "bold"), "  ", printable(network_of(one), SENTENCE_LENGTH)),
            printable(came_from(one), SENTENCE_LENGTH),
            sentence(printable(f"{one.outcome}; {known_of(one)}", SENTENCE_LENGTH)),
        )),
    ]  # fmt: skip


def _add_cleared(page: Page, review: Review) -> None:
    """Keys that a verdict has cleared of an action."""
    cleared = review.cleared()
    if not cleared:
        return
    page.heading("Cleared by a verdict")
    rows: list[list[Cell]] = [
        [
            f"was {case.as_scored}",
            f"{case.bits:.1f}",
            printable(case.key_id, CELL_LENGTH),
            printable(verdict_words(case.verdict), SENTENCE_LENGTH),
        ]
        for case in cleared[:_MOST_WATCHED]
        if case.verdict
    ]
    page.add(Grid(rows, align=("left", "right")), indent=2)
    if len(cleared) > _MOST_WATCHED:
        page.add(f"and {len(cleared) - _MOST_WATCHED:,} more", indent=2)


def _add_watched(page: Page, review: Review) -> None:
    """Keys with unusual activity below the action threshold; hygiene findings come below."""
    watched = review.watched()
    if not watched:
        return
    page.heading("Watched, no action")
    rows = [_glance(case) for case in watched[:_MOST_WATCHED]]
    page.add(Grid(rows, align=("right",), one_line=True), indent=2)
    if len(watched) > _MOST_WATCHED:
        page.add(f"and {len(watched) - _MOST_WATCHED:,} more with fewer bits", indent=2)


def _add_coverage(page: Page, coverage: Coverage) -> None:
    history = duration(coverage.history_days) if coverage.history_days else "no days"
    lines = [
        (coverage.assessed, "assessed against their own history"),
        (coverage.warming_up, "warming up: too little history, assessed by policy and peers only"),
        (coverage.not_assessable, "not assessable: in use, but could not be assessed"),
        (coverage.silent, "silent: no requests in this window"),
        (
            coverage.events,
            f"{named(coverage.events, 'request')} in this window, with {history} of history",
        ),
    ]
    left_out = [
        (coverage.keyless_events, "request", None, "without a key, stored separately"),
        (coverage.unlocated_addresses, "address", "addresses", "not located"),
        (coverage.rejected_lines, "log line", None, "rejected"),
        (coverage.held_back_events, "event", None, "dated in the future, held back"),
    ]
    lines += [
        (number, f"{named(number, noun, plural)} {what}")
        for number, noun, plural, what in left_out
        if number
    ]
    page.heading(f"Coverage: {count(coverage.keys, 'key')}")
    rows: list[list[Cell]] = [[f"{number:,}", text] for number, text in lines]
    page.add(Grid(rows, align=("right",)), indent=2)
    if coverage.calibration:
        page.add(Grid([["Confidence:", _sureness(coverage.calibration)]]), indent=2)
    for told in power_sentences(coverage.power):
        page.add(Grid([["Detection power:", told]]), indent=2)
    for suppression in coverage.suppressions:
        text = (
            f"{printable(suppression.origin, CELL_LENGTH)} for "
            f"{printable(suppression.key_id, ID_LENGTH)} until {suppression.ends_on} "
            f"({', '.join(suppression.families)}), confirmed by "
            f"{printable(suppression.owner, NAME_LENGTH)}: "
            f"{printable(suppression.because, SENTENCE_LENGTH)}"
        )
        page.add(Grid([["Expected:", text]]), indent=2)
    for note in coverage.notes:
        told = page.with_commands(printable(note, SENTENCE_LENGTH))
        page.add(Grid([["Note:", told]]), indent=2)


def _sureness(calibration: CalibrationSummary) -> str:
    told = (
        f"{count(calibration.windows, 'earlier window')} replayed, with {calibration.cases:,} "
        f"cases; a false discovery rate of {calibration.nominal_rate:g} would have revoked "
        f"{calibration.replayed_revokes:,} of them"
    )
    if calibration.left_out:
        told += (
            f" ({calibration.remaining_revokes:,} without the {calibration.left_out:,} excluded "
            "as thefts)"
        )
    told += "".join(f"; {said}" for said in unlike_the_rest(calibration))
    if calibration.judged:
        told += (
            f"; {calibration.judged_benign:,} of {calibration.judged:,} revokes with a verdict "
            f"were false alarms ({percent(calibration.judged_benign / calibration.judged)})"
        )
    return told
