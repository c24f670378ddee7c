"""How sure a case is: earlier windows are replayed, and their scores say what ordinary weeks give.

Three steps; only the tail assumes how evidence is distributed:

1. What each detector says is put on one scale: the bits of how rare so much of it was among the
   keys of the replayed windows, or its own bits where those are fewer: neither may claim more than
   the other. Keys are in two folds, and a key's scale is made of the other fold's.
2. What is strange about *where* a visit comes from and about *what* it does are apart, and add up.
   Either is one strange thing seen from several sides, so its detectors add up as the root of their
   squares; of those that ask the same question the strongest counts. What a visit does is one
   likelihood ratio: the root of what speaks against the owner less the root of what speaks for it
   is B bits, but a thief has the owner's program or its log with probability pi, and then does as
   the owner does: log2(pi + (1 - pi) * 2^B), never below log2(pi). So habits excuse no place by
   more than that. A case's score is its worst visit's. Its conformal p-value is the share of
   replayed cases with a score at least as high, itself included (Bates, Candès, Lei, Romano and
   Sesia 2023, "Testing for outliers with conformal p-values", eq. 2). Where few replayed scores are
   as high an exponential tail says how rare so much is (peaks over a threshold: Pickands 1975,
   with the shape 0: scores are bits, and capped). With few cases the rate is mostly the prior's.
3. Benjamini and Hochberg's step-up (1995) over all keys in use turns p-values into q-values, the
   false discovery rate at which a case would still be alerted. A campaign is one hypothesis, with
   Simes's p-value (1986).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from keywatch.model import FAMILIES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from scipy.sparse import csc_array

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bits: TypeAlias = "csc_array"
"""Of each visit (a row) and detector (a column), by columns: five of six say nothing of a visit."""

FOLDS = 2

# The tail: the largest 2 % of the replayed scores, 20 at least where there are as many above 0.
TAIL_SHARE = 0.02
TAIL_CASES = 20
# It is asked only where fewer replayed scores than this are as high: else their rank is known.
RANK_CASES = 5
# What is believed of its rate before: as of 5 cases of a tail half as steep as bits promise (ln 2).
PRIOR_CASES = 5.0
PRIOR_RATE = math.log(2) / 2
# The rate is a quantile of what is then believed of it, and never steeper than bits promise.
TAIL_QUANTILE = 0.1


@dataclass(frozen=True)
class Visits:
    """The evidence of a window's visits; a row a visit.

    `case` numbers the row's case (its key); `fold` is its key's; `group` numbers the
    visits that are scored as one (a key at a network that is new to it). `bits` has a column a
    detector. `cases` counts all keys in use, those without a row too, in each fold. `ruled` says
    where a rule speaks against the key.
    """

    case: Ints
    fold: Ints
    group: Ints
    bits: Bits
    cases: Ints
    ruled: Flags

    @cached_property
    def most_by_case(self) -> list[tuple[Floats, Ints]]:
        """Of each detector what it says at most against each case, and the case's fold.

        Of cases that it says something against; in order of case.
        """
        return [_most_by_case(self, column) for column in range(self.bits.shape[1])]


def bits_of(rows: Floats) -> Bits:
    """What detectors say, a row a visit and a column a detector, as it is kept.

    >>> bits_of(np.array([[0.0, 2.0], [-1.0, 0.0]])).toarray(order="F")
    array([[ 0.,  2.],
           [-1.,  0.]])
    """
    from scipy.sparse import csc_array

    return csc_array(rows)


def bits_at(columns: pa.ChunkedArray, bits: pa.ChunkedArray, detectors: int) -> Bits:
    """What detectors say, of a list a visit of the columns that are not 0, and one of the bits.

    >>> bits_at(pa.chunked_array([[[1], [0]]]), pa.chunked_array([[[2.0], [-1.0]]]), 2).toarray()
    array([[ 0.,  2.],
           [-1.,  0.]])
    """
    from scipy.sparse import csr_array

    at, said = columns.combine_chunks(), bits.combine_chunks()
    rows = (said.flatten().to_numpy(), at.flatten().to_numpy(), at.offsets.to_numpy())
    return csr_array(rows, shape=(len(at), detectors)).tocsc()


def fold_of(key_id: str) -> int:
    """The fold a key is in, whatever lake it is in.

    >>> [fold_of(key_id) for key_id in ("key_1", "key_4")]
    [0, 1]
    """
    return zlib.crc32(key_id.encode()) % FOLDS


def alike(one: DataclassInstance, other: DataclassInstance) -> bool:
    """Whether two of one class have the same values, arrays the same elements.

    >>> ones, others = (Families(np.array([0]), caps=np.full(1, cap)) for cap in (20.0, 10.0))
    >>> alike(ones, ones), alike(ones, others)
    (True, False)
    """
    return all(_equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))


def _equal(one: Any, other: Any) -> bool:
    from scipy.sparse import issparse

    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if type(one) is not type(other):
        return False
    if issparse(one):
        return bool(one.shape == other.shape and (one != other).nnz == 0)
    return bool(one == other)


def together(bits: Floats, group: Ints) -> Floats:
    """What each detector says of the group that each row is in; same shape as `bits`.

    What speaks against the owner does so once: the strongest of its visits. Where none does, what
    speaks for the owner is the mean.

    >>> bits = np.array([[3.0], [1.0], [-2.0], [-1.0]])
    >>> together(bits, np.array([0, 0, 1, 1])).ravel().tolist()
    [3.0, 3.0, -1.5, -1.5]
    """
    said = bits.copy(order="K")
    is_several = np.bincount(group, minlength=1)[group] > 1
    _, group = np.unique(group[is_several], return_inverse=True)
    bits = bits[is_several]
    count = int(group.max(initial=-1)) + 1
    most = np.full((count, bits.shape[1]), -np.inf)
    np.maximum.at(most, group, bits)
    total = np.zeros_like(most)
    np.add.at(total, group, bits)
    mean = total / np.maximum(np.bincount(group, minlength=count), 1)[:, np.newaxis]
    said[is_several] = np.where(most > 0, most, mean)[group]
    return said


@dataclass(frozen=True)
class Families:
    """Which family each detector is of, by number, and the most that one of each family can add.

    A place that is 6 bits strange, alone, with deeds that are 4 bits strange and with deeds that
    are 4 bits more the owner's, which excuse little, for a thief may know what the owner calls:

    >>> of_detector = np.array([FAMILIES.index("origin"), FAMILIES.index("endpoints")])
    >>> families = Families(of_detector, caps=np.full(len(FAMILIES), 20.0))
    >>> families.total(np.array([[6.0, 0.0], [6.0, 4.0], [6.0, -4.0]])).round(2).tolist()
    [6.0, 9.86, 3.32]
    """

    of_detector: Ints
    caps: Floats
    of_question: Ints | None = None
    """Detectors with the same number ask the same question; None: each its own."""
    of_move: Flags | None = None
    """What they say for the owner is that the key moved, which no thief can imitate; None: none."""
    imitators: float = 0.1
    """The share of thieves who call what the owner calls, as the owner does."""
    origin: int = FAMILIES.index("origin")

    def capped(self, detectors: Floats) -> Floats:
        """What counts of each detector, a row a visit; nothing of a family with the cap 0.

        >>> Families(np.array([0, 0, 1]), np.array([5.0, 0.0])).capped(np.array([[9.0, -1, 7]]))
        array([[ 5., -1.,  0.]])
        """
        most = self.caps[self.of_detector]
        counted: Floats = np.where(most > 0, np.minimum(detectors, most), 0.0)
        return counted

    def bits(self, detectors: Floats) -> Floats:
        """The bits of each family, a row a visit: its strongest detector's, and what is below 0."""
        counted = self.capped(detectors)
        out = np.zeros((len(counted), len(self.caps)))
        for family in range(len(self.caps)):
            of_family = counted[:, self.of_detector == family]
            strongest = of_family.max(axis=1, initial=0.0)
            out[:, family] = strongest + np.minimum(of_family, 0.0).sum(axis=1)
        return out

    def shares(self, detectors: Floats) -> Floats:
        """What each detector adds to the total of a visit: 0 or more; same shape as `detectors`."""
        counted = self.capped(detectors)
        is_origin = self.of_detector == self.origin
        squares = self._against(counted) ** 2
        adds = np.zeros_like(counted)
        for part in (np.where(is_origin, squares, 0.0), np.where(is_origin, 0.0, squares)):
            adds += np.sqrt(part.sum(axis=1, keepdims=True)) * _parts(part)
        for_owner = np.minimum(counted, 0.0)
        is_move = np.zeros(len(is_origin), bool) if self.of_move is None else self.of_move
        move = np.where(is_move, for_owner, 0.0).sum(axis=1, keepdims=True)
        habits = np.sqrt(np.where(is_move, 0.0, for_owner**2).sum(axis=1, keepdims=True))
        where = np.where(is_origin, adds, 0.0).sum(axis=1, keepdims=True)
        what = np.where(is_origin, 0.0, adds).sum(axis=1, keepdims=True)
        shared: Floats = self._left(where, move, what, habits) * _parts(adds)
        return shared

    def _left(self, where: Floats, move: Floats, what: Floats, habits: Floats) -> Floats:
        """What is left of a strange place and strange deeds by what speaks for the owner."""
        deeds = np.log2(self.imitators + (1 - self.imitators) * np.exp2(what - habits))
        left: Floats = np.maximum(where + move + deeds, 0.0)
        return left

    def _against(self, counted: Floats) -> Floats:
        """What speaks against the owner: of each question the strongest detector's bits."""
        against: Floats = np.maximum(counted, 0.0)
        for columns in self._questions:
            if len(columns) > 1:
                strongest = columns[against[:, columns].argmax(axis=1)]
                for column in columns:
                    against[strongest != column, column] = 0.0
        return against

    def findings(self, detectors: Floats, least: float) -> tuple[Ints, Ints]:
        """How many questions of origin and other families give `least` bits or more.

        And how many of the other families alone.
        """
        origin = self._against(self.capped(detectors))[:, self.of_detector == self.origin]
        others: Ints = (np.delete(self.bits(detectors), self.origin, axis=1) >= least).sum(axis=1)
        return (origin >= least).sum(axis=1) + others, others

    def total(self, detectors: Floats) -> Floats:
        """The bits of each visit, never below 0: the sum of `shares`, a column at a time."""
        counted = self.capped(detectors)
        where, what, move, habits = np.zeros((4, len(counted)))
        for columns in self._questions:
            for column in columns:
                for_owner = np.minimum(counted[:, column], 0.0)
                if self.of_move is not None and self.of_move[column]:
                    move += for_owner
                else:
                    habits += for_owner**2
            is_origin = self.of_detector[columns] == self.origin
            if len(columns) == 1:
                (where if is_origin[0] else what)[:] += np.maximum(counted[:, columns[0]], 0.0) ** 2
                continue
            said = counted[:, columns]
            against = np.maximum(said.max(axis=1), 0.0) ** 2
            is_where = is_origin[said.argmax(axis=1)]
            where += np.where(is_where, against, 0.0)
            what += np.where(is_where, 0.0, against)
        where, what, habits = np.sqrt(where), np.sqrt(what), np.sqrt(habits)
        total: Floats = np.where(where + what > 0, self._left(where, move, what, habits), 0.0)
        return total

    @cached_property
    def _questions(self) -> list[Ints]:
        """The detectors of each question."""
        if self.of_question is None:
            return [np.array([column]) for column in range(len(self.of_detector))]
        return [np.flatnonzero(self.of_question == each) for each in np.unique(self.of_question)]


@dataclass(frozen=True)
class Tail:
    """Exponential beyond `start` bits: the `share` of cases there, and the `rate` by bit.

    `cases` is the number of replayed scores that it was made from, beside the prior.
    """

    start: float
    share: float
    rate: float
    cases: int


@dataclass(frozen=True)
class Calibration:
    """What replayed windows give (`of`), so far as others are scored by it.

    `ordered_by_fold` has what the cases of the other folds had at most, in order, by fold and
    detector; `cases` counts all keys in use by fold, those without evidence too. `scores` are those
    above 0 of the cases, and `ruled_scores` all of those that a rule speaks against, in order.
    `own` are the scores of each noisy key in the `windows`: they speak for that key only. `weight`
    is how many cases each of the strange replayed ones stands for.

    99 keys in use, of which forty were 0.1 to 4 bits strange at a new place. What forty cases reach
    has the p-value of its rank, (40 + 1) / (99 + 1); what none reached that of the tail:

    >>> nth = np.arange(40)
    >>> replayed = Visits(nth, nth % 2, nth, bits_of((nth[:, np.newaxis] + 1) / 10),
    ...                   np.array([50, 49]), ruled=np.zeros(40, bool))
    >>> families = Families(np.array([FAMILIES.index("origin")]), np.full(len(FAMILIES), 20.0))
    >>> calibration = Calibration.of([replayed], families)
    >>> calibration.p_values(np.array([0.0, 0.01, 2.0, 10.0])).round(4).tolist()
    [1.0, 0.41, 0.22, 0.0029]
    >>> calibration.cases_of(1.0), calibration.tail.start
    (31, 2.0)
    """

    families: Families
    ordered_by_fold: Sequence[Sequence[Floats]]
    cases: Ints
    scores: Floats
    ruled_scores: Floats
    own: Mapping[str, Sequence[float]] = field(default_factory=dict)
    windows: int = 0
    weight: float = 1.0

    @classmethod
    def of(cls, replayed: Sequence[Visits], families: Families) -> Calibration:
        """That of the visits of each replayed window, less those of noisy keys.

        Windows are read one after the other, for the sake of memory: a row in full takes 8 bytes a
        detector.
        """
        none = np.empty(0)
        cases = np.sum([part.cases for part in replayed], axis=0)
        scale = cls(families, _ordered_by_fold(replayed), cases, none, none)
        scores = [
            most_of_case(part.case, families.total(together(scale.calibrated(part), part.group)))
            for part in replayed
        ]
        ruled = [
            of_cases[np.unique(part.case[part.ruled])]
            for part, of_cases in zip(replayed, scores, strict=True)
        ]
        every = np.concatenate(scores)
        return replace(
            scale, scores=np.sort(every[every > 0]), ruled_scores=np.sort(np.concatenate(ruled))
        )

    def calibrated(self, visits: Visits) -> Floats:
        """What each detector says on the common scale: bits of how rare so much was.

        Same shape as ``visits.bits``, in full; what is not above 0 stays. What exceeds all that the
        n replayed cases of the other fold had gives ``log2(n + 1)``, and the bits that it exceeds
        by. Never more than the detector's own bits.
        """
        out: Floats = visits.bits.toarray(order="F")
        for column in range(out.shape[1]):
            rows, said = _said_against(visits, column)
            for fold in range(FOLDS):
                count = self.total - int(self.cases[fold])
                of_fold = visits.fold[rows] == fold
                bits = said[of_fold]
                ordered = self.ordered_by_fold[fold][column]
                as_much = len(ordered) - np.searchsorted(ordered, bits, side="left")
                rare = np.log2((count + 1) / (as_much + 1))
                beyond = np.maximum(bits - ordered[-1], 0.0) if len(ordered) else bits
                out[rows[of_fold], column] = np.minimum(bits, rare + beyond)
        return out

    def p_values(self, scores: Floats) -> Floats:
        """P-values of case `scores`, higher being stranger: conformal, or the tail's where less."""
        ordered = self.scores
        as_high = np.where(
            scores > 0,
            len(ordered) - np.searchsorted(ordered, scores, side="left"),
            self.total,
        )
        p: Floats = (1 + as_high) / (self.total + 1)
        tail = self.tail
        beyond = tail.share * np.exp(-tail.rate * np.maximum(scores - tail.start, 0.0))
        p = np.where(as_high < RANK_CASES, np.minimum(p, beyond), p)
        return np.minimum(p * self.weight, 1)

    def p_values_of(self, key_ids: Sequence[str], scores: Floats) -> Floats:
        """As `p_values`; of a noisy key at least the share of its own windows that were as strange.

        What exceeds all that such a key ever did is scored as any other key's.
        """
        p = self.p_values(scores)
        for nth, (key_id, score) in enumerate(zip(key_ids, scores.tolist(), strict=True)):
            as_high = sum(own >= score for own in self.own.get(key_id, ()))
            if as_high:
                p[nth] = max(p[nth], as_high / self.windows)
        return p

    def cases_of(self, bits: float) -> int:
        """How many replayed cases have a score of at least `bits`."""
        return int((self.scores >= bits).sum())

    @property
    def ruled_share(self) -> float:
        """The share of replayed cases that a rule speaks against, the scored one included."""
        return (1 + len(self.ruled_scores)) / (self.total + 1)

    def ruled_below(self, scores: Floats) -> Floats:
        """The share of replayed cases that a rule speaks against and that have less than each.

        That much more is looked at where those that a rule speaks against come first.
        """
        return np.searchsorted(self.ruled_scores, scores, side="left") / (self.total + 1)

    @cached_property
    def tail(self) -> Tail:
        """What is said of scores that few replayed ones reach."""
        from scipy.special import gammaincinv

        ordered = self.scores
        most = max(TAIL_CASES, math.ceil(TAIL_SHARE * self.total))
        start = float(ordered[-most - 1]) if len(ordered) > most else 0.0
        over = ordered[ordered > start] - start
        bits = over.sum() + PRIOR_CASES / PRIOR_RATE
        rate = float(gammaincinv(len(over) + PRIOR_CASES, TAIL_QUANTILE) / bits)
        share = (len(over) + 1) / (self.total + 1)
        return Tail(start, share, min(rate, math.log(2)), len(over))

    @property
    def total(self) -> int:
        """Cases of all windows, those without a row too."""
        return int(self.cases.sum())


def _ordered_by_fold(replayed: Sequence[Visits]) -> list[list[Floats]]:
    found: list[list[Floats]] = [[] for _ in range(FOLDS)]
    for most in zip(*(part.most_by_case for part in replayed), strict=True):
        for fold in range(FOLDS):
            others = [bits[folds != fold] for bits, folds in most]
            found[fold].append(np.sort(np.concatenate(others)))
    return found


def _most_by_case(visits: Visits, column: int) -> tuple[Floats, Ints]:
    """The most that a detector says of each case that it says something against, and its fold."""
    rows, bits = _said_against(visits, column)
    order = np.lexsort((bits, visits.case[rows]))
    # The last of each case.
    last = order[np.append(np.diff(visits.case[rows[order]]) != 0, True)[: len(order)]]
    return bits[last], visits.fold[rows[last]]


def _said_against(visits: Visits, column: int) -> tuple[Ints, Floats]:
    """The rows that a detector says something against, and how much."""
    said = slice(*visits.bits.indptr[column : column + 2])
    rows, bits = visits.bits.indices[said], visits.bits.data[said]
    return rows[bits > 0], bits[bits > 0]


def _parts(rows: Floats) -> Floats:
    """Each value's part of its row's sum; 0 where that is 0."""
    sums = rows.sum(axis=1, keepdims=True)
    parts: Floats = rows / np.where(sums > 0, sums, 1.0)
    return parts


def most_of_case(case: Ints, values: Floats) -> Floats:
    """The largest of the values of each case.

    >>> most_of_case(np.array([0, 0, 2]), np.array([1.0, 5.0, 3.0])).tolist()
    [5.0, 0.0, 3.0]
    """
    most = np.zeros(int(case.max(initial=-1)) + 1)
    np.maximum.at(most, case, values)
    return most


def q_values(p_values: Floats, tests: int) -> Floats:
    """Benjamini and Hochberg's adjusted p-values of `tests` tests, of which these are the smallest.

    Tests that are not among `p_values` have p-value 1.

    >>> q_values(np.array([0.001, 0.03, 0.008]), tests=100).round(3).tolist()
    [0.1, 1.0, 0.4]
    """
    order = np.argsort(p_values, kind="stable")
    ranked = p_values[order] * tests / np.arange(1, len(order) + 1)
    q = np.empty_like(ranked)
    q[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return q


def q_values_of_groups(
    p_values: Floats, tests: int, groups: Sequence[Ints], begun: Flags
) -> Floats:
    """As `q_values`, where each of the disjoint `groups` (positions in `p_values`) is one test.

    A group's p-value is Simes's. Its members are no surer than it is, nor than they are alone.
    Alone, what has not `begun` in this window is scored beside what has, and makes nothing surer.

    Three keys alone, and where two of them are a campaign, which is one test:

    >>> p, begun = np.array([0.001, 0.002, 0.002]), np.ones(3, bool)
    >>> q_values_of_groups(p, 100, [], begun).round(3).tolist()
    [0.067, 0.067, 0.067]
    >>> q_values_of_groups(p, 100, [np.array([1, 2])], begun).round(3).tolist()
    [0.099, 0.099, 0.099]
    """
    simes = np.array(
        [np.min(np.sort(p_values[g]) * len(g) / np.arange(1, len(g) + 1)) for g in groups]
    )
    is_alone = np.ones(len(p_values), bool)
    for group in groups:
        is_alone[group] = False
    tested = np.sort(np.concatenate([p_values[is_alone & begun], simes]))
    tests -= sum(len(group) - 1 for group in groups)
    at = np.append(q_values(tested, tests), 1.0)

    def step_up(p: Floats) -> Floats:
        rank = np.searchsorted(tested, p, side="right")
        q: Floats = np.minimum(at[rank], p * tests / np.maximum(rank, 1))
        return q

    q: Floats = np.minimum(step_up(p_values), 1.0)
    for group, p in zip(groups, simes, strict=True):
        q[group] = np.maximum(q[group], step_up(np.array([p])))
    return np.minimum(q, 1.0)
