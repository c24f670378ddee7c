"""Key hygiene as people read it: by rule, with the keys, their owners and the days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from keywatch.model import HygieneFinding, Review
from keywatch.report.layout import Cell, Grid, Page, styled
from keywatch.report.parts import CELL_LENGTH, ID_LENGTH, NAME_LENGTH, SENTENCE_LENGTH
from keywatch.text.phrases import count, window_options
from keywatch.text.safe_text import printable

_MOST_KEYS = 5


def rule_name(detector: str) -> str:
    """``rotation overdue``: the folder's name as words."""
    return printable(detector, NAME_LENGTH).replace("_", " ")


def by_rule(findings: Iterable[HygieneFinding]) -> dict[str, list[HygieneFinding]]:
    """The findings of each rule in their order; what is overdue for longest first."""
    rules: dict[str, list[HygieneFinding]] = defaultdict(list)
    for finding in findings:
        rules[finding.detector].append(finding)

    def rank(rule: str) -> tuple[bool, int, int, str]:
        days = [finding.days for finding in rules[rule] if finding.days is not None]
        return not days, -max(days, default=0), -len(rules[rule]), rule

    ranked = sorted(rules, key=rank)
    return {rule: rules[rule] for rule in ranked}


def rule_counts(findings: Iterable[HygieneFinding]) -> str:
    """``12 rotation overdue, 1 wildcard scope``; empty where there is nothing to do."""
    return ", ".join(
        f"{key_count(found):,} {rule_name(rule)}" for rule, found in by_rule(findings).items()
    )


def key_count(findings: Iterable[HygieneFinding]) -> int:
    """How many keys they are of."""
    return len({finding.key_id for finding in findings})


def whose(name: str | None, owner: str | None) -> str:
    """``board, team-a``; of a key that nobody owns it says so."""
    parts = (printable(name or "", CELL_LENGTH), printable(owner or "no owner", CELL_LENGTH))
    return ", ".join(part for part in parts if part)


def add_upkeep(page: Page, review: Review) -> None:
    """The findings of key hygiene, rule by rule, the first few of each."""
    if not review.hygiene:
        return
    page.heading("Key hygiene, no suspicion")
    cut = False
    for rule, found in by_rule(review.hygiene).items():
        keys = count(key_count(found), "key")
        page.add(styled((rule_name(rule), "bold"), f", {keys}"), indent=2)
        page.add(Grid([_row(finding) for finding in found[:_MOST_KEYS]]), indent=4)
        if len(found) > _MOST_KEYS:
            page.add(f"and {len(found) - _MOST_KEYS:,} more", indent=4)
            cut = True
    if cut:
        command = page.command("review", window_options(review.window), "--format json")
        page.add(f"Full list with dates: {command}", indent=2)


def _row(finding: HygieneFinding) -> Sequence[Cell]:
    return (
        printable(finding.key_id, ID_LENGTH),
        whose(finding.name, finding.owner),
        printable(finding.explanation, SENTENCE_LENGTH),
    )
