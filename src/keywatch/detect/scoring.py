"""Evidence adds up: per visit, then per case, then an action.

How it adds up stands in `calibration`. A cap on each detector keeps one oddity from making
a case by itself; ``revoke`` needs two findings (families, or questions of origin) and a least of
bits. A fact (evidence of a detector's ``certain_bits`` or more) needs no statistics: one that asks
for ``revoke`` is a theft and has no cap; one that asks for less adds nothing to the suspicion, and
the more urgent of both is recommended. Where earlier windows could be replayed, a detector counts
by how rare so much of it was in them, and actions follow the false discovery rate and the analysts'
budget; else it counts as it says, and a threshold says what to look at. Rules (``backstop``) decide
where too little was ordinary yet to tell how rare a score is; elsewhere what a rule speaks against
is looked at first, as long as it seldom speaks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa

from keywatch.detect.calibration import (
    FOLDS,
    Bits,
    Calibration,
    Families,
    Flags,
    Floats,
    Ints,
    Visits,
    bits_at,
    fold_of,
    most_of_case,
    q_values_of_groups,
    together,
)
from keywatch.detect.detectors import Detector
from keywatch.lake import Lake
from keywatch.model import FAMILIES, Action, Family, most_urgent
from keywatch.settings import ScoringSettings

_Name = TypeVar("_Name", bound=str)

_FEWEST_FINDINGS = 2
FEWEST_ODD_CASES = 5
ODD_BITS = -math.log2(0.01)
"""Where fewer replayed cases have so many bits (1 in 100), rules decide what statistics can't.

It is no matter of the analysts' budget: who looks at less must not revoke more.
"""
MOST_RULED = 0.5
"""Of the budget: a rule that speaks more often in ordinary weeks finds nothing by itself."""
_MOST_SHARE = 0.5
"""Of the keys in use, however many an analyst wants to look at: a case has a bit at least."""
MOVED_BITS = 3.0
"""From so improbable a silence of the usual places on, a key may have moved."""
_BITS_DIGITS = 6
"""A sum of doubles depends on their order: rounded, so that a tie is one and is broken by name."""


VISITS = pa.schema(
    {"key_id": pa.string(), "day": pa.date32(), "prefix": pa.string(), "network": pa.string()}
)


@dataclass(frozen=True)
class WindowEvidence:
    """What the detectors say of one window's visits.

    `visits` (columns: `VISITS`) stand beside the rows of `bits` (a column each of the counting
    `detectors` in their order), of `facts` (the bits, without a cap, of facts that are thefts), of
    `ruled` (what a rule says, where it is asked) and of `moved` (the key's usual places were silent
    meanwhile). The network of a visit is given where it is new to its key, else empty; `goes_on`
    says which of them were there before the window. `cases` counts all keys in use by fold, those
    without evidence too. `fact_actions` has what facts ask for, the most urgent of each key that
    has any; a key in it may have no visit.

    Of 50,000 keys there are some 200,000 visits: so there is no object of Python for each.
    """

    detectors: tuple[str, ...]
    visits: pa.Table
    goes_on: Flags
    bits: Bits
    facts: Floats
    ruled: Flags
    moved: Flags
    cases: Ints
    fact_actions: Mapping[str, Action] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """How many keys are in use."""
        return int(self.cases.sum())

    def as_visits(self) -> Visits:
        """The same for calibration."""
        return self._as_visits

    @cached_property
    def _as_visits(self) -> Visits:
        case, key_ids = self._keys
        group, networks = _numbered(self.visits["network"])
        # Those of no network, or of one that is known to the key, are each for themselves.
        is_new = np.array(networks, bool)[group]
        group = case * len(networks) + group
        group[~is_new] = np.arange(len(group))[~is_new] + len(key_ids) * len(networks)
        return Visits(
            case=case,
            fold=np.array([fold_of(each) for each in key_ids], np.int64)[case],
            group=np.unique(group, return_inverse=True)[1],
            bits=self.bits,
            cases=self.cases,
            ruled=self.ruled,
        )

    @cached_property
    def _keys(self) -> tuple[Ints, list[str]]:
        return _numbered(self.visits["key_id"])

    @cached_property
    def by_name(self) -> Ints:
        """The place of each visit in their order by key, day and prefix."""
        key_id, prefix = (_ranked(self.visits[name]) for name in ("key_id", "prefix"))
        places = np.empty(len(self.visits), np.int64)
        places[np.lexsort((prefix, self.visits["day"].to_numpy(), key_id))] = np.arange(
            len(self.visits)
        )
        return places

    def names(self, rows: Sequence[int] | Ints | None = None) -> list[tuple[str, date, str]]:
        """Key, day and prefix of the visits of these `rows`, or of all."""
        visits = self.visits if rows is None else self.visits.take(np.asarray(rows, np.int64))
        columns = (visits[name].to_pylist() for name in ("key_id", "day", "prefix"))
        return list(zip(*columns, strict=True))

    def most_by_key(self, bits: Floats) -> dict[str, float]:
        """The most of the `bits` of each key's visits."""
        case, key_ids = self._keys
        return dict(zip(key_ids, most_of_case(case, bits).tolist(), strict=True))

    def places(self, of: Flags) -> set[tuple[str, str]]:
        """The networks, new to their keys, of the visits that are chosen: (key_id, network)."""
        visits = self.visits.filter(of)
        pairs = zip(visits["key_id"].to_pylist(), visits["network"].to_pylist(), strict=True)
        return {(key_id, network) for key_id, network in pairs if network}

    def without_facts(self) -> WindowEvidence:
        """The same less the keys that are known to be stolen."""
        return self.without({key_id for key_id, _, _ in self.names(np.flatnonzero(self.facts))})

    def without(self, key_ids: Set[str]) -> WindowEvidence:
        """The same less some of its keys."""
        if not key_ids:
            return self
        folds = np.array([fold_of(key_id) for key_id in key_ids], np.int64)
        kept = self._only(~self.is_of(key_ids))
        left = self.cases - np.bincount(folds, minlength=FOLDS)
        return replace(kept, cases=np.maximum(left, 0))

    def of(self, key_ids: Set[str]) -> WindowEvidence:
        """The visits of some of its keys."""
        return self._only(self.is_of(key_ids))

    def is_of(self, key_ids: Set[str]) -> Flags:
        """Which visits are of one of the keys."""
        case, names = self._keys
        return np.array([key_id in key_ids for key_id in names], bool)[case]

    def begun(self) -> WindowEvidence:
        """The same less what goes on from earlier windows, which have scored it."""
        return self._only(~self.goes_on)

    def at(self, places: Set[tuple[str, str]]) -> WindowEvidence:
        """The visits of some keys at networks that are new to them: (key_id, network)."""
        case, key_ids = self._keys
        number, networks = _numbered(self.visits["network"])
        at = {key_id: nth for nth, key_id in enumerate(key_ids)}
        also = {network: nth for nth, network in enumerate(networks)}
        wanted = [
            at[key_id] * len(networks) + also[network]
            for key_id, network in places
            if key_id in at and network in also
        ]
        return self._only(np.isin(case * len(networks) + number, wanted))

    def and_visits_of(self, others: Iterable[WindowEvidence]) -> WindowEvidence:
        """The same with the visits of `others` after its own."""
        from scipy.sparse import vstack

        parts = [self, *others]
        return replace(
            self,
            visits=pa.concat_tables([part.visits for part in parts]),
            goes_on=np.concatenate([part.goes_on for part in parts]),
            bits=vstack([part.bits for part in parts], format="csc"),
            facts=np.concatenate([part.facts for part in parts]),
            ruled=np.concatenate([part.ruled for part in parts]),
            moved=np.concatenate([part.moved for part in parts]),
        )

    @classmethod
    def together(cls, parts: Sequence[WindowEvidence]) -> WindowEvidence:
        """That of parts that have no key in common, in order of key, day and prefix."""
        joined = parts[0].and_visits_of(parts[1:])
        order = np.argsort(joined.by_name)
        return replace(
            joined,
            visits=joined.visits.take(order).combine_chunks(),
            goes_on=joined.goes_on[order],
            bits=joined.bits[order],
            facts=joined.facts[order],
            ruled=joined.ruled[order],
            moved=joined.moved[order],
            cases=np.sum([part.cases for part in parts], axis=0),
            fact_actions={
                key_id: action for part in parts for key_id, action in part.fact_actions.items()
            },
        )

    def _only(self, kept: Flags) -> WindowEvidence:
        if kept.all():
            return self
        return replace(
            self,
            visits=self.visits.filter(kept),
            goes_on=self.goes_on[kept],
            bits=self.bits[kept],
            facts=self.facts[kept],
            ruled=self.ruled[kept],
            moved=self.moved[kept],
        )


def _numbered(texts: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Each text's number, equal where the texts are, and the texts in order of their numbers."""
    found = texts.combine_chunks().dictionary_encode()
    return found.indices.to_numpy().astype(np.int64), found.dictionary.to_pylist()


def _ranked(texts: pa.ChunkedArray) -> Ints:
    """The place of each text's like among them all, in order."""
    numbers, found = _numbered(texts)
    ranks = np.empty(len(found), np.int64)
    ranks[sorted(range(len(found)), key=found.__getitem__)] = np.arange(len(found))
    return ranks[numbers]


@dataclass(frozen=True, slots=True)
class ScoredCase:
    """One key's worst visit; `day` and `prefix` are None where all evidence is the key's own.

    Facts apart: `families` are the bits of each family that says something, less than 0 where it
    speaks for the owner; `shares` what each detector adds to the case's bits; `findings` counts the
    families and the questions of origin that say enough, `deeds` the families without origin.
    `ruled`: a rule speaks against the key, and decides it (`by_rule`) where statistics can't;
    `moved`: its usual places were silent meanwhile; `goes_on`: it was at that network, new to it,
    before the window. `action` is what its use asks for, `fact_action` what the key's facts ask
    for, thefts or not.
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
    findings: int = 0
    deeds: int = 0
    ruled: bool = False
    by_rule: bool = False
    moved: bool = False
    goes_on: bool = False
    fact_action: Action = "none"

    @property
    def recommended(self) -> Action:
        """What to do about the key: the more urgent of both.

        >>> case = ScoredCase("key_1", None, None, 0.0, {}, {}, certain=False, action="investigate")
        >>> replace(case, fact_action="rotate").recommended
        'rotate'
        """
        return most_urgent((self.action, self.fact_action))


def counting(detectors: Iterable[Detector]) -> list[Detector]:
    """Those that add to the suspicion; the others are upkeep, rules, or on trial."""
    return [detector for detector in detectors if detector.counts]


def gathered(detectors: Iterable[Detector]) -> list[Detector]:
    """Those whose evidence `gather` reads: what counts, and the rules."""
    return [each for each in detectors if each.counts or each.backstop]


def families_of(detectors: Iterable[Detector], settings: ScoringSettings) -> Families:
    """The families of `counting` detectors, and the most that one of each can add."""
    return Families(
        of_detector=np.array(
            [FAMILIES.index(each.family) for each in counting(detectors)], np.int64
        ),
        caps=np.array([settings.family_caps_bits.get(family, math.inf) for family in FAMILIES]),
        of_question=np.unique([each.question for each in counting(detectors)], return_inverse=True)[
            1
        ],
        of_move=np.array([each.speaks_of_moves for each in counting(detectors)], bool),
        imitators=settings.imitators,
    )


def name_roles(lake: Lake, detectors: Sequence[Detector]) -> None:
    """Make the tables ``facts`` (detector, certain_bits, action) and ``rules`` (detector)."""
    counted = counting(detectors)
    certain = [each for each in counted if each.certain_bits is not None and each.action]
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE facts AS SELECT unnest($detectors::VARCHAR[]) AS detector, "
        "unnest($bits::DOUBLE[]) AS certain_bits, unnest($actions::VARCHAR[]) AS action",
        detectors=[each.id for each in certain],
        bits=[each.certain_bits for each in certain],
        actions=[each.action for each in certain],
    )
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE rules AS SELECT unnest($rules::VARCHAR[]) AS detector",
        rules=[each.id for each in detectors if each.backstop and each.status == "stable"],
    )


def visits_in(rows: pa.Table) -> pa.Table:
    """The columns of `VISITS` of a large query, copied: all columns of a batch are freed at once.

    So what else was read would stay in memory with them.
    """
    return rows.select(VISITS.names).cast(VISITS).combine_chunks()


def gather(lake: Lake, detectors: Sequence[Detector]) -> WindowEvidence:
    """The temporary table ``evidence`` by visit and detector; only what counts.

    Left out are visits of which nothing speaks against the owner, and what speaks against it in the
    families of evidence that an analyst expects from there. Makes the tables of `name_roles`.
    """
    name_roles(lake, detectors)
    columns = [detector.id for detector in counting(detectors)]
    said = lake.table(
        """
        WITH graded AS (
            SELECT e.*, coalesce(e.bits >= f.certain_bits, false) AS certain
            FROM evidence AS e
            LEFT JOIN facts AS f USING (detector)
            WHERE (list_contains($columns::VARCHAR[], e.detector)
                    OR e.detector IN (FROM rules))
                -- A fact that asks for less than to revoke is no theft, nor is one of the key as
                -- such: it makes no visit strange.
                AND NOT coalesce(e.bits >= f.certain_bits
                    AND (f.action <> 'revoke' OR e.day IS NULL), false)
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
            SELECT DISTINCT v.key_id, v.day, v.prefix, unnest(s.families) AS family
            FROM visits AS v
            JOIN lake.suppressions AS s
                ON s.key_id = v.key_id AND is_about([s.origin], v.prefix, v.network, v.class)
                AND v.day BETWEEN s.starts_on AND s.ends_on
        ),

        by_detector AS (
            SELECT key_id, day, prefix, list_position($columns::VARCHAR[], detector) - 1 AS nth,
                detector IN (FROM rules) AS ruled,
                sum(exact(bits)) FILTER (certain) AS facts,
                coalesce(sum(exact(bits)) FILTER (NOT certain), 0)::DOUBLE AS bits,
                bool_or(bits > 0) AS speaks
            FROM by_visit AS b
            WHERE certain OR bits < 0 OR NOT EXISTS (
                FROM expected AS e WHERE e.key_id = b.key_id AND e.day = b.day
                    AND e.prefix = b.prefix AND e.family = b.family)
            GROUP BY key_id, day, prefix, detector
        ),

        by_all AS (
            SELECT key_id, day, prefix, bool_or(ruled) AS ruled,
                coalesce(sum(facts), 0)::DOUBLE AS facts,
                coalesce(list(nth ORDER BY nth) FILTER (nth >= 0 AND bits <> 0), []) AS columns,
                coalesce(list(bits ORDER BY nth) FILTER (nth >= 0 AND bits <> 0), []) AS bits
            FROM by_detector
            GROUP BY key_id, day, prefix
            HAVING bool_or(speaks)
        )

        SELECT a.*, coalesce(n.network, '') AS network, coalesce(n.goes_on, false) AS goes_on,
            coalesce(t.silence_bits, 0) >= $moved_bits AS moved
        FROM by_all AS a
        LEFT JOIN visits AS v USING (key_id, day, prefix)
        LEFT JOIN new_networks AS n USING (key_id, network)
        LEFT JOIN stays AS t USING (key_id, network)
        ORDER BY key_id, day, prefix
        """,
        columns=columns,
        moved_bits=MOVED_BITS,
    )
    folds = [fold_of(key_id) for (key_id,) in lake.rows("SELECT key_id FROM window_keys")]
    return WindowEvidence(
        detectors=tuple(columns),
        visits=visits_in(said),
        goes_on=said["goes_on"].to_numpy(),
        ruled=said["ruled"].to_numpy(),
        moved=said["moved"].to_numpy(),
        bits=bits_at(said["columns"], said["bits"], len(columns)),
        facts=said["facts"].to_numpy(),
        cases=np.bincount(np.array(folds, np.int64), minlength=FOLDS),
        fact_actions=_fact_actions(lake),
    )


def _fact_actions(lake: Lake) -> dict[str, Action]:
    """The most urgent action that facts ask for, of each key of which there are any."""
    asked: dict[str, list[Action]] = defaultdict(list)
    for key_id, action in lake.rows(
        "SELECT DISTINCT e.key_id, f.action FROM evidence AS e "
        "JOIN facts AS f ON f.detector = e.detector AND e.bits >= f.certain_bits ORDER BY ALL"
    ):
        asked[key_id].append(action)
    return {key_id: most_urgent(actions) for key_id, actions in asked.items()}


def score(
    evidence: WindowEvidence,
    told: Iterable[str],
    scale: Calibration | Families,
    settings: ScoringSettings,
    campaigns: Sequence[Sequence[str]] = (),
    earlier: Sequence[WindowEvidence] = (),
) -> tuple[list[ScoredCase], pa.Table]:
    """Cases of every key with evidence or upkeep, most suspicious first, and the visits' bits.

    `told` are the keys of which any detector says something. The keys of a campaign are one test;
    `earlier` is as of `visit_bits`. The visits are as of `visit_table`.
    """
    cases, bits = score_cases(evidence, scale, settings, campaigns, earlier)
    scored = {case.key_id for case in cases}
    cases += [
        ScoredCase(key_id, None, None, 0.0, {}, {}, certain=False, action="none")
        for key_id in sorted({*told})
        if key_id not in scored
    ]
    asked = evidence.fact_actions
    cases = [replace(case, fact_action=asked.get(case.key_id, "none")) for case in cases]
    return _by_urgency(cases), visit_table(evidence, pa.array(bits))


def _by_urgency(cases: Sequence[ScoredCase]) -> list[ScoredCase]:
    """`cases`, with keys that a fact alone revokes behind those to revoke for what they did."""
    by_fact: list[ScoredCase] = []
    others: list[ScoredCase] = []
    for case in cases:
        is_by_fact = case.action == "none" and case.fact_action == "revoke"
        (by_fact if is_by_fact else others).append(case)
    to_revoke = [n for n, case in enumerate(others, start=1) if case.recommended == "revoke"]
    last = max(to_revoke, default=0)
    return [*others[:last], *by_fact, *others[last:]]


def score_cases(
    evidence: WindowEvidence,
    scale: Calibration | Families,
    settings: ScoringSettings,
    campaigns: Sequence[Sequence[str]] = (),
    earlier: Sequence[WindowEvidence] = (),
    *,
    told: bool = True,
) -> tuple[list[ScoredCase], Floats]:
    """The decided cases, most suspicious first, and the bits of each visit.

    Without `told`, no case says what of it is from which family and detector.
    """
    counted, bits = visit_bits(evidence, scale, earlier)
    cases = _strangest(evidence, families_in(scale), counted, bits, settings, told=told)
    cases = decide(cases, evidence.keys, scale, settings, campaigns)
    if isinstance(scale, Calibration):
        cases = _as_they_began(cases, evidence, scale, settings, earlier)
    return cases, bits


def _as_they_began(
    cases: Sequence[ScoredCase],
    evidence: WindowEvidence,
    scale: Calibration,
    settings: ScoringSettings,
    earlier: Sequence[WindowEvidence],
) -> list[ScoredCase]:
    """`cases`, of which none is revoked by statistics for going on.

    The replayed cases are of first windows. Of a visitor who stays for weeks more is seen than in
    one, so such a case is revoked only where the window that it began in would have been.
    """
    more = {
        case.key_id
        for case in cases
        if case.goes_on and case.action == "revoke" and not (case.certain or case.by_rule)
    }
    if not more:
        return list(cases)
    places = evidence.places(evidence.is_of(more))
    stolen: set[str] = set()
    for window in earlier:
        began = window.begun().at(places)
        counted, bits = visit_bits(began, scale)
        alone = _strangest(began, scale.families, counted, bits, settings)
        decided = decide_alone(alone, evidence.keys, scale, settings)
        stolen.update(case.key_id for case in decided if case.action == "revoke")
    return [
        replace(case, action="investigate") if case.key_id in more - stolen else case
        for case in cases
    ]


def _strangest(
    evidence: WindowEvidence,
    families: Families,
    counted: Floats,
    bits: Floats,
    settings: ScoringSettings,
    *,
    told: bool = False,
) -> list[ScoredCase]:
    """The strangest visit of each key as a case, most suspicious first; nothing is decided yet.

    A visit with a fact goes before any without. A tie is broken by what the detectors say before
    calibration, then by name.
    """
    raw = np.round(evidence.bits.sum(axis=1), _BITS_DIGITS)
    case = evidence.as_visits().case
    order = np.lexsort((evidence.by_name, -raw, -bits, evidence.facts == 0))
    _, first = np.unique(case[order], return_index=True)
    worst = order[first]
    rows = worst[np.lexsort((evidence.by_name[worst], -raw[worst], -bits[worst]))]
    is_ruled = np.isin(case[rows], case[evidence.ruled])
    return as_cases(evidence, families, counted, bits, settings, rows.tolist(), is_ruled, told=told)


def as_cases(
    evidence: WindowEvidence,
    families: Families,
    counted: Floats,
    bits: Floats,
    settings: ScoringSettings,
    rows: Sequence[int],
    is_ruled: Flags | None = None,
    *,
    told: bool = False,
) -> list[ScoredCase]:
    """The visits of these `rows`, each as a case; nothing is decided yet.

    `is_ruled` says of each whether a rule speaks against its key; by default, against the visit.
    Only with `told` have they their `families` and `shares`, which nothing is decided by.
    """
    ruled = evidence.ruled[list(rows)] if is_ruled is None else is_ruled
    chosen = counted[list(rows)]
    of_family: list[dict[Family, float]] = [{} for _ in rows]
    shares: list[dict[str, float]] = [{} for _ in rows]
    if told:
        of_family = _said(FAMILIES, families.bits(chosen))
        shares = _said(evidence.detectors, families.shares(chosen))
    findings, deeds = families.findings(chosen, settings.second_family_bits)
    names = evidence.names(rows)
    return [
        ScoredCase(
            *names[row],
            bits=float(bits[i]),
            families=of_family[row],
            shares=shares[row],
            certain=bool(evidence.facts[i] > 0),
            action="none",
            findings=int(findings[row]),
            deeds=int(deeds[row]),
            ruled=bool(ruled[row]),
            moved=bool(evidence.moved[i]),
            goes_on=bool(evidence.goes_on[i]),
        )
        for row, i in enumerate(rows)
    ]


def _said(names: Sequence[_Name], bits: Floats) -> list[dict[_Name, float]]:
    """Of each row the names of the columns that are not 0, with what they have."""
    said: list[dict[_Name, float]] = [{} for _ in bits]
    for row, column in np.argwhere(bits).tolist():
        said[row][names[column]] = float(bits[row, column])
    return said


def families_in(scale: Calibration | Families) -> Families:
    """The families of a scale."""
    return scale.families if isinstance(scale, Calibration) else scale


def visit_bits(
    evidence: WindowEvidence,
    scale: Calibration | Families,
    earlier: Sequence[WindowEvidence] = (),
) -> tuple[Floats, Floats]:
    """What each detector says of each visit on the scale, and the visit's bits in all.

    The visits of a key at a network that is new to it are scored as one, with those of `earlier`
    windows where it goes on.

    >>> from keywatch.detect.calibration import bits_of
    >>> flags, day = np.zeros(3, bool), date(2026, 10, 1)
    >>> evidence = WindowEvidence(
    ...     detectors=("unfamiliar_origin",),
    ...     visits=pa.table(
    ...         [["key_1", "key_1", "key_2"], [day] * 3, ["a", "b", "a"], ["AS1", "AS1", ""]],
    ...         schema=VISITS,
    ...     ),
    ...     goes_on=flags,
    ...     bits=bits_of(np.array([[2.0], [7.0], [3.0]])),
    ...     facts=np.zeros(3), ruled=flags, moved=flags, cases=np.array([1, 1]),
    ... )
    >>> scale = Families(np.array([FAMILIES.index("origin")]), np.full(len(FAMILIES), 20.0))
    >>> said, bits = visit_bits(evidence, scale)
    >>> bits.tolist()
    [7.0, 7.0, 3.0]
    >>> visit_bits(evidence.without({"key_1"}), scale)[1].tolist()
    [3.0]
    """
    going_on = evidence.places(evidence.goes_on)
    whole = evidence
    if going_on:
        whole = evidence.and_visits_of(one.at(going_on) for one in earlier)
    visits = whole.as_visits()
    if isinstance(scale, Calibration):
        counted = scale.calibrated(visits)
    else:
        counted = visits.bits.toarray(order="F")
    said = together(counted, visits.group)[: len(evidence.visits)]
    total = families_in(scale).total(said)
    return said, np.round(total + evidence.facts, _BITS_DIGITS)


def score_of_keys(evidence: WindowEvidence, scale: Calibration) -> dict[str, float]:
    """The bits of each key's strangest visit."""
    _, bits = visit_bits(evidence, scale)
    return evidence.most_by_key(bits)


def decide(
    cases: Sequence[ScoredCase],
    keys: int,
    scale: Calibration | Families,
    settings: ScoringSettings,
    campaigns: Sequence[Sequence[str]] = (),
) -> list[ScoredCase]:
    """`cases`, most suspicious first, with p-value, q-value and action; `keys` are in use."""
    if not isinstance(scale, Calibration):
        return [_uncalibrated(case, settings) for case in cases]
    p_values = _p_values(cases, scale)
    # What goes on from earlier windows was counted there, and makes nothing else surer.
    begun = np.array([not case.goes_on for case in cases], bool)
    q = q_values_of_groups(
        p_values, keys, _groups([case.key_id for case in cases], campaigns), begun
    )
    return _decided(cases, p_values, q, keys, scale, settings)


def decide_alone(
    cases: Sequence[ScoredCase], keys: int, scale: Calibration, settings: ScoringSettings
) -> list[ScoredCase]:
    """As `decide`, each of the cases as if nothing else were strange among the `keys`."""
    p_values = _p_values(cases, scale)
    return _decided(cases, p_values, np.minimum(p_values * keys, 1.0), keys, scale, settings)


def _p_values(cases: Sequence[ScoredCase], scale: Calibration) -> Floats:
    bits = np.array([case.bits for case in cases])
    return scale.p_values_of([case.key_id for case in cases], bits)


def _decided(
    cases: Sequence[ScoredCase],
    p_values: Floats,
    q_values: Floats,
    keys: int,
    scale: Calibration,
    settings: ScoringSettings,
) -> list[ScoredCase]:
    share = settings.investigate_per_1000_keys / 1000
    if share:
        share = min(max(share, settings.investigate_at_least / max(keys, 1)), _MOST_SHARE)
    # Where ordinary weeks give nothing at all, the least trifle is rarer than the budget.
    look_bits = -math.log2(share) if share else math.inf
    is_quiet = scale.cases_of(ODD_BITS) < FEWEST_ODD_CASES
    # A rule that is rare goes first, and takes its part of the budget.
    rule = settings.unfamiliar_place != "none" and scale.ruled_share <= share * MOST_RULED
    below = np.zeros(len(cases))
    if rule:
        below = scale.ruled_below(np.array([case.bits for case in cases]))
        below[[case.ruled for case in cases]] = 0.0
    decided = []
    for case, p_value, q_value, ruled_below in zip(
        cases, p_values.tolist(), q_values.tolist(), below.tolist(), strict=True
    ):
        action: Action = "none"
        by_rule = False
        if case.certain or (q_value <= settings.false_revoke_rate and _is_enough(case, settings)):
            action = "revoke"
        elif is_quiet and case.ruled and settings.unfamiliar_place != "none":
            action, by_rule = settings.unfamiliar_place, True
        elif p_value + ruled_below <= share and case.bits >= look_bits:
            action = "investigate"
        elif rule and case.ruled:
            action, by_rule = "investigate", True
        decided.append(
            replace(case, action=action, p_value=p_value, q_value=q_value, by_rule=by_rule)
        )
    return decided


def _is_enough(case: ScoredCase, settings: ScoringSettings) -> bool:
    """Whether a case is strange enough, and in enough ways, to revoke it by statistics.

    A key that may have moved takes more than strange places: its owner was silent meanwhile.
    """
    return (
        case.bits >= settings.revoke_bits
        and case.findings >= _FEWEST_FINDINGS
        and (not case.moved or case.deeds > 0)
    )


def _groups(key_ids: Sequence[str], campaigns: Sequence[Sequence[str]]) -> list[Ints]:
    """The positions of each campaign's keys; campaigns that share a key are one."""
    at = {key_id: position for position, key_id in enumerate(key_ids)}
    joined: list[set[int]] = []
    for campaign in campaigns:
        members = {at[key_id] for key_id in campaign if key_id in at}
        members.update(*(group for group in joined if group & members))
        joined = [group for group in joined if not group & members] + [members]
    return [np.array(sorted(group), np.int64) for group in joined if len(group) > 1]


def _uncalibrated(case: ScoredCase, settings: ScoringSettings) -> ScoredCase:
    if case.certain:
        return replace(case, action="revoke")
    if case.ruled and settings.unfamiliar_place != "none":
        return replace(case, action=settings.unfamiliar_place, by_rule=True)
    return replace(case, action="investigate" if case.bits >= settings.investigate_bits else "none")


def visit_table(evidence: WindowEvidence, bits: pa.Array) -> pa.Table:
    """The visits (key_id, day, prefix) with their `bits`."""
    return evidence.visits.drop_columns("network").append_column("bits", bits)
