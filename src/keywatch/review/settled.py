"""What verdicts make of a review's cases: what was cleared is not to be acted on any more.

*benign* and *expected* clear a case as long as they are about all that is suspicious in it and
nothing worse has come since; *compromised* makes it one to revoke, also where no review named it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from keywatch.detect.scored_window import Scored
from keywatch.lake import Lake, sql_text
from keywatch.model import ACTIONS, Action, Case, GivenVerdict, Verdict, Window
from keywatch.review.missed import missed_case
from keywatch.settings import Settings


@dataclass(frozen=True)
class _InForce:
    """A row of ``settled.sql``."""

    key_id: str
    verdict: Verdict
    by: str
    because: str
    given_at: datetime
    is_own_window: bool
    is_unexplained: bool
    action_before: Action | None
    bits_before: float | None


def with_verdicts(
    lake: Lake, scored: Scored, cases: Sequence[Case], settings: Settings
) -> tuple[Case, ...]:
    """`cases` of `scored`, in their order, with the verdicts in force and what is left to do.

    A stolen key that is no case becomes the last one.
    """
    window = scored.window
    with scored.tables(lake):
        rows = lake.records(sql_text("settled", __package__), start=window.start, end=window.end)
    given = {row["key_id"]: _InForce(**row) for row in rows}
    settled = [
        _settled(lake, window, case, given[case.key_id], settings) if case.key_id in given else case
        for case in cases
    ]
    there = {case.key_id for case in cases}
    missed = [
        replace(
            missed_case(lake, key_id, window, settings.review),
            verdict=_verdict(row, ""),
            scored_action="none",
        )
        for key_id, row in given.items()
        if row.verdict == "compromised" and row.is_own_window and key_id not in there
    ]
    return (*settled, *missed)


def _settled(lake: Lake, window: Window, case: Case, row: _InForce, settings: Settings) -> Case:
    if row.verdict == "compromised":
        if case.action != "revoke" and row.is_own_window:
            missed = missed_case(lake, case.key_id, window, settings.review)
            stolen = replace(missed, bits=case.bits) if case.action == "none" else case
            case = replace(stolen, action="revoke", scored_action=case.action, steps=missed.steps)
        return replace(case, verdict=_verdict(row, ""))
    verdict = _verdict(row, _still_open(case, row, settings.deliver.grow_bits))
    if not verdict.clears or case.action == "none":
        return replace(case, verdict=verdict)
    return replace(case, verdict=verdict, action="none", scored_action=case.action, steps=())


def _verdict(row: _InForce, still_open: str) -> GivenVerdict:
    return GivenVerdict(row.verdict, row.by, row.because, row.given_at, still_open)


def worsened(
    before: tuple[Action, float], now: tuple[Action, float], grow_bits: float
) -> Literal["action", "bits"] | None:
    """What of a case, its action and bits, is worse than it was told; None where neither is.

    An alert is told again for it, and a verdict clears the case no longer: the review and the
    channels agree.
    """
    if ACTIONS.index(now[0]) < ACTIONS.index(before[0]):
        return "action"
    return "bits" if now[1] >= before[1] + grow_bits else None


def _still_open(case: Case, row: _InForce, grow_bits: float) -> str:
    """Why such a verdict does not clear the case, as a clause; empty if it does."""
    if row.is_unexplained:
        return "it does not cover all suspicious visits"
    before, bits_before = row.action_before, row.bits_before
    if before is None or bits_before is None:
        return ""
    worse = worsened((before, bits_before), (case.action, case.bits), grow_bits)
    if worse == "action":
        return f"the case has since risen from {before} to {case.action}"
    if worse == "bits":
        return f"the case has since grown from {bits_before:.1f} to {case.bits:.1f} bits"
    return ""
