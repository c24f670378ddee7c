"""Findings of health as people read them: a sentence each, of many of a kind the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from keywatch.model import HealthFinding
from keywatch.text.phrases import sentence
from keywatch.text.safe_text import printable

_MOST_OF_A_CHECK = 5


def health_lines(findings: Iterable[HealthFinding]) -> list[str]:
    """A sentence a finding, less notes; of more than five of a check a last one says how many."""
    lines = []
    found = [one for one in findings if not one.is_note]
    left = Counter(one.check for one in found)
    shown: Counter[str] = Counter()
    for one in found:
        shown[one.check] += 1
        if shown[one.check] <= _MOST_OF_A_CHECK:
            lines.append(sentence(printable(one.text)))
        elif shown[one.check] == left[one.check]:
            more = left[one.check] - _MOST_OF_A_CHECK
            lines.append(f"And {more:,} more of this kind: keywatch doctor lists them.")
    return lines
