"""Evidence adds up: per visit, then per case, then an action.

How it adds up stands in `keywatch.calibration`. A cap on each detector keeps one oddity from making
a case by itself; ``revoke`` needs two families. A fact (evidence of a detector's ``certain_bits``
or more) has no cap and needs no second family. Where earlier windows could be replayed, a detector
counts by how rare so much of it was in them, and actions follow the false discovery rate and the
analysts' budget; else it counts as it says, nothing but facts is revoked, and a threshold makes the
rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

import numpy as np
import pyarrow as pa

from keywatch.calibration import (
    FOLDS,
    Calibration,
    Families,
    Floats,
    Ints,
    Visits,
    fold_of,
    q_values,
)
from keywatch.detectors import Detector
from keywatch.lake import Lake
from keywatch.model import FAMILIES, Action, Family
from keywatch.settings import ScoringSettings

_Name = TypeVar("_Name", bound=str)

_BITS_DIGITS = 6
"""A sum of doubles depends on their order: rounded, so that a tie is one and is broken by name."""


@dataclass(frozen=True)
class WindowEvidence:
    """What the detectors say of one window's visits.

    `visits` (key_id, day, prefix) stand beside the rows of `bits` (a column each of the counting
    `detectors` in their order) and of `facts` (bits that have no cap). `cases` counts all keys in
    use by fold, those without evidence too.
    """

    detectors: tuple[str, ...]
    visits: tuple[tuple[str, date, str], ...]
    bits: Floats
    facts: Floats
    cases: Ints

    @property
    def keys(self) -> int:
        """How many keys are in use."""
        return int(self.cases.sum())

    def as_visits(self) -> Visits:
        """The same for calibration."""
        numbers: dict[str, int] = {}
        key_ids = [key_id for key_id, _, _ in self.visits]
        return Visits(
            case=np.array([numbers.setdefault(each, len(numbers)) for each in key_ids], np.int64),
            fold=np.array([fold_of(each) for each in key_ids], np.int64),
            bits=self.bits,
            cases=self.cases,
        )

    def without_facts(self) -> WindowEvidence:
        """The same less the keys of which facts are known."""
        known = {visit[0] for visit, bits in zip(self.visits, self.facts, strict=True) if bits}
        kept = np.array([visit[0] not in known for visit in self.visits], bool)
        dropped = np.bincount([fold_of(key_id) for key_id in known], minlength=FOLDS)
        return WindowEvidence(
            self.detectors,
            tuple(visit for visit in self.visits if visit[0] not in known),
            self.bits[kept],
            self.facts[kept],
            self.cases - dropped,
        )


@dataclass(frozen=True)
class ScoredCase:
    """One key's worst visit; `day` and `prefix` are None where all evidence is the key's own.

    Facts apart: `families` are the bits of each family that says something, less than 0 where it
    speaks for the owner; `shares` what each detector adds to the case's bits.
    """

    key_id: str
    day: date | None
    prefix: str | None
    bits: float
    families: dict[Family, float]
    shares: dict[str, float]
    certain: bool
    action: Action
    p_value: float | None = None
    q_value: float | None = None


def counting(detectors: Iterable[Detector]) -> list[Detector]:
    """Those that add to the suspicion; the others are upkeep."""
    return [detector for detector in detectors if not detector.hygiene]


def families_of(detectors: Iterable[Detector], settings: ScoringSettings) -> Families:
    """The families of `counting` detectors, and the most that one of each can add."""
    return Families(
        of_detector=np.array(
            [FAMILIES.index(each.family) for each in counting(detectors)], np.int64
        ),
        caps=np.array([settings.family_caps_bits.get(family, math.inf) for family in FAMILIES]),
    )


def gather(lake: Lake, detectors: Iterable[Detector]) -> WindowEvidence:
    """The temporary table ``evidence`` by visit and detector; upkeep is left out.

    So are visits of which nothing speaks against the owner, and what an analyst expects of a key:
    where it comes from, and how it is used from there.
    Makes the temporary table ``facts`` (detector, certain_bits).
    """
    columns = [detector.id for detector in counting(detectors)]
    certain = {d.id: d.certain_bits for d in detectors if d.certain_bits is not None}
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE facts AS "
        "SELECT unnest($detectors::VARCHAR[]) AS detector, unnest($bits::DOUBLE[]) AS certain_bits",
        detectors=list(certain),
        bits=[float(bits) for bits in certain.values()],
    )
    sums = ", ".join(
        f"coalesce(sum(bits) FILTER (detector = '{name}' AND NOT certain), 0)" for name in columns
    )
    rows = lake.rows(
        f"""
        WITH graded AS (
            SELECT e.*, coalesce(e.bits >= f.certain_bits, false) AS certain
            FROM evidence AS e
            LEFT JOIN facts AS f USING (detector)
            WHERE NOT e.hygiene
        ),

        -- What is said of a whole day, or of the key, belongs to each of its visits.
        by_visit AS (
            SELECT key_id, day, prefix, detector, family, bits, certain
            FROM graded WHERE prefix IS NOT NULL
            UNION ALL
            SELECT g.key_id, v.day, v.prefix, g.detector, g.family, g.bits, g.certain
            FROM graded AS g
            JOIN visits AS v ON v.key_id = g.key_id AND v.day = coalesce(g.day, v.day)
            WHERE g.prefix IS NULL
        ),

        expected AS (
            SELECT DISTINCT v.key_id, v.day, v.prefix
            FROM visits AS v
            JOIN lake.suppressions AS s
                ON s.key_id = v.key_id AND s.origin IN (v.network, v.prefix)
                AND v.day BETWEEN s.starts_on AND s.ends_on
        )

        SELECT key_id, day, prefix, {sums}, coalesce(sum(bits) FILTER (certain), 0)
        FROM by_visit AS b
        WHERE certain OR family IN ('volume', 'policy') OR NOT EXISTS (
            FROM expected AS e WHERE e.key_id = b.key_id AND e.day = b.day AND e.prefix = b.prefix)
        GROUP BY key_id, day, prefix
        HAVING bool_or(bits > 0)
        ORDER BY key_id, day, prefix
        """
    )
    folds = [fold_of(key_id) for (key_id,) in lake.rows("SELECT key_id FROM window_keys")]
    numbers = np.array([row[3:] for row in rows], np.float64).reshape(-1, len(columns) + 1)
    return WindowEvidence(
        detectors=tuple(columns),
        visits=tuple(row[:3] for row in rows),
        bits=numbers[:, :-1],
        facts=numbers[:, -1],
        cases=np.bincount(np.array(folds, np.int64), minlength=FOLDS),
    )


def score(
    lake: Lake,
    evidence: WindowEvidence,
    scale: Calibration | Families,
    settings: ScoringSettings,
) -> list[ScoredCase]:
    """Cases of every key with evidence or upkeep, most suspicious first.

    Makes the temporary table ``visit_scores`` (key_id, day, prefix, bits).
    """
    counted, bits = visit_bits(evidence, scale)
    _keep_visit_scores(lake, evidence, bits)
    cases = decide(
        _strangest(evidence, families_in(scale), counted, bits), evidence.keys, scale, settings
    )
    scored = {case.key_id for case in cases}
    return cases + [
        ScoredCase(key_id, None, None, 0.0, {}, {}, certain=False, action="none")
        for (key_id,) in lake.rows(
            "SELECT DISTINCT key_id FROM evidence WHERE bits > 0 ORDER BY key_id"
        )
        if key_id not in scored
    ]


def _strangest(
    evidence: WindowEvidence, families: Families, counted: Floats, bits: Floats
) -> list[ScoredCase]:
    """The strangest visit of each key as a case, most suspicious first; nothing is decided yet.

    A visit with a fact goes before any without. A tie is broken by what the detectors say before
    calibration, then by name.
    """
    raw = np.round(evidence.bits.sum(axis=1), _BITS_DIGITS)
    worst: dict[str, int] = {}
    for i in sorted(
        range(len(bits)),
        key=lambda i: (evidence.facts[i] == 0, -bits[i], -raw[i], evidence.visits[i]),
    ):
        worst.setdefault(evidence.visits[i][0], i)
    rows = sorted(worst.values(), key=lambda i: (-bits[i], -raw[i], evidence.visits[i]))
    of_family, shares = families.bits(counted[rows]), families.shares(counted[rows])
    return [
        ScoredCase(
            *evidence.visits[i],
            bits=float(bits[i]),
            families=_said(FAMILIES, of_family[row]),
            shares=_said(evidence.detectors, shares[row]),
            certain=bool(evidence.facts[i] > 0),
            action="none",
        )
        for row, i in enumerate(rows)
    ]


def _said(names: Sequence[_Name], bits: Floats) -> dict[_Name, float]:
    return {name: value for name, value in zip(names, bits.tolist(), strict=True) if value}


def families_in(scale: Calibration | Families) -> Families:
    """The families of a scale."""
    return scale.families if isinstance(scale, Calibration) else scale


def visit_bits(evidence: WindowEvidence, scale: Calibration | Families) -> tuple[Floats, Floats]:
    """What each detector says of each visit on the scale, and the visit's bits in all."""
    counted = evidence.bits
    if isinstance(scale, Calibration):
        counted = scale.calibrated(evidence.as_visits())
    total = families_in(scale).total(counted)
    return counted, np.round(total + evidence.facts, _BITS_DIGITS)


def decide(
    cases: Sequence[ScoredCase],
    keys: int,
    scale: Calibration | Families,
    settings: ScoringSettings,
) -> list[ScoredCase]:
    """`cases`, most suspicious first, with p-value, q-value and action; `keys` are in use."""
    if not isinstance(scale, Calibration):
        return [replace(case, action=_uncalibrated(case, settings)) for case in cases]
    p_values = scale.p_values(np.array([case.bits for case in cases]))
    q = q_values(p_values, keys)
    share = settings.investigate_per_1000_keys / 1000
    decided = []
    for case, p_value, q_value in zip(cases, p_values.tolist(), q.tolist(), strict=True):
        action: Action = "none"
        if case.certain or (q_value <= settings.false_revoke_rate and _has_two(case, settings)):
            action = "revoke"
        # Where ordinary weeks give nothing at all, the least trifle is rarer than the budget.
        elif 0 < p_value <= share and case.bits >= -math.log2(share):
            action = "investigate"
        decided.append(replace(case, action=action, p_value=p_value, q_value=q_value))
    return decided


def _has_two(case: ScoredCase, settings: ScoringSettings) -> bool:
    return sum(bits >= settings.second_family_bits for bits in case.families.values()) >= 2


def _uncalibrated(case: ScoredCase, settings: ScoringSettings) -> Action:
    if case.certain:
        return "revoke"
    return "investigate" if case.bits >= settings.investigate_bits else "none"


def visit_table(evidence: WindowEvidence, bits: pa.Array) -> pa.Table:
    """The visits (key_id, day, prefix) with their `bits`."""
    columns = zip(*evidence.visits, strict=True) if evidence.visits else ((), (), ())
    types = (pa.string(), pa.date32(), pa.string())
    arrays = [pa.array(column, type) for column, type in zip(columns, types, strict=True)]
    return pa.table([*arrays, bits], ["key_id", "day", "prefix", "bits"])


def _keep_visit_scores(lake: Lake, evidence: WindowEvidence, bits: Floats) -> None:
    with lake.registered("scored_visits", visit_table(evidence, pa.array(bits))):
        lake.execute("CREATE OR REPLACE TEMP TABLE visit_scores AS FROM scored_visits")
