"""How sure a case is: earlier windows are replayed, and their scores say what ordinary weeks give.

Three steps, all free of assumptions about how evidence is distributed:

1. What each detector says is put on one scale: the bits of how rare so much of it was among the
   keys of the replayed windows, or its own bits where those are fewer: neither may claim more than
   the other. Keys are in two folds, and a key's scale is made of the other fold's.
2. What is strange about *where* a visit comes from and about *what* it does are apart, and add up.
   Of the detectors of origin the strongest counts; the others see one strange deed from several
   sides, so they add up as the root of their squares. What speaks for the owner is taken off. A
   case's score is its worst visit's. Its conformal p-value is the share of replayed cases with a
   score at least as high, itself included (Bates, Candès, Lei, Romano and Sesia 2023, "Testing for
   outliers with conformal p-values", eq. 2). It is never below 1/(n + 1): with few replayed cases
   nothing strong can be claimed.
3. Benjamini and Hochberg's step-up (1995) over all keys in use turns p-values into q-values, the
   false discovery rate at which a case would still be alerted.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from keywatch.model import FAMILIES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FOLDS = 2


@dataclass(frozen=True)
class Visits:
    """The evidence of the visits of one window or of several; a row a visit.

    `case` numbers the row's case (a key in a window); `fold` is its key's. `bits` has a column a
    detector, 0 where it says nothing. `cases` counts all keys in use, those without a row too,
    in each fold.
    """

    case: Ints
    fold: Ints
    bits: Floats
    cases: Ints

    @property
    def total(self) -> int:
        """Cases of both folds."""
        return int(self.cases.sum())


def fold_of(key_id: str) -> int:
    """The fold a key is in, whatever lake it is in."""
    return zlib.crc32(key_id.encode()) % FOLDS


def concatenate(parts: Sequence[Visits], detectors: int) -> Visits:
    """The visits of several windows; their cases stay apart."""
    cases: list[Ints] = []
    first = 0
    for part in parts:
        cases.append(part.case + first)
        first += int(part.case.max(initial=-1)) + 1
    empty = np.zeros(0, np.int64)
    return Visits(
        case=np.concatenate([empty, *cases]),
        fold=np.concatenate([empty, *(part.fold for part in parts)]),
        bits=np.concatenate([np.zeros((0, detectors)), *(part.bits for part in parts)]),
        cases=np.sum([part.cases for part in parts], axis=0)
        if parts
        else np.zeros(FOLDS, np.int64),
    )


@dataclass(frozen=True)
class Families:
    """Which family each detector is of, by number, and the most that one of each family can add."""

    of_detector: Ints
    caps: Floats
    origin: int = FAMILIES.index("origin")

    def capped(self, detectors: Floats) -> Floats:
        """What counts of each detector, a row a visit; nothing of a family with the cap 0."""
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
        against = np.maximum(counted, 0.0)
        is_origin = self.of_detector == self.origin
        where = np.where(is_origin, against, 0.0)
        strongest = where.max(axis=1, initial=0.0, keepdims=True)
        squares = np.where(is_origin, 0.0, against) ** 2
        root = np.sqrt(squares.sum(axis=1, keepdims=True))
        adds = strongest * _parts(where) + root * _parts(squares)
        left = np.maximum(
            adds.sum(axis=1, keepdims=True) + np.minimum(counted, 0.0).sum(axis=1, keepdims=True),
            0.0,
        )
        shared: Floats = left * _parts(adds)
        return shared

    def total(self, detectors: Floats) -> Floats:
        """The bits of each visit, never below 0."""
        total: Floats = self.shares(detectors).sum(axis=1)
        return total


@dataclass(frozen=True)
class Calibration:
    """What the replayed windows give: `replayed` are their visits."""

    replayed: Visits
    families: Families

    def calibrated(self, visits: Visits) -> Floats:
        """What each detector says on the common scale: bits of how rare so much was.

        Same shape as ``visits.bits``; what is not above 0 stays. What exceeds all that the n
        replayed cases of the other fold had gives ``log2(n + 1)``, and the bits that it exceeds by.
        Never more than the detector's own bits.
        """
        out = visits.bits.copy()
        for fold in range(FOLDS):
            rows = visits.fold == fold
            others = self.replayed.fold != fold
            count = int(self.replayed.cases.sum() - self.replayed.cases[fold])
            for column in range(visits.bits.shape[1]):
                most = most_of_case(self.replayed.case[others], self.replayed.bits[others, column])
                ordered = np.sort(most[most > 0])
                bits = visits.bits[rows, column]
                as_much = len(ordered) - np.searchsorted(ordered, bits, side="left")
                rare = np.log2((count + 1) / (as_much + 1))
                beyond = np.maximum(bits - ordered[-1], 0.0) if len(ordered) else bits
                out[rows, column] = np.minimum(bits, rare + beyond)
        return out

    def p_values(self, scores: Floats) -> Floats:
        """Conformal p-values of case `scores`, higher being stranger."""
        ordered = self._ordered_scores
        as_high = np.where(
            scores > 0,
            len(ordered) - np.searchsorted(ordered, scores, side="left"),
            self.replayed.total,
        )
        p: Floats = (1 + as_high) / (self.replayed.total + 1)
        return p

    @cached_property
    def replayed_bits(self) -> Floats:
        """The replayed visits on the common scale."""
        return self.calibrated(self.replayed)

    @cached_property
    def _ordered_scores(self) -> Floats:
        scores = most_of_case(self.replayed.case, self.families.total(self.replayed_bits))
        return np.sort(scores[scores > 0])


def _parts(rows: Floats) -> Floats:
    """Each value's part of its row's sum; 0 where that is 0."""
    sums = rows.sum(axis=1, keepdims=True)
    parts: Floats = rows / np.where(sums > 0, sums, 1.0)
    return parts


def most_of_case(case: Ints, values: Floats) -> Floats:
    """The largest of the values of each case."""
    most = np.zeros(int(case.max(initial=-1)) + 1)
    np.maximum.at(most, case, values)
    return most


def q_values(p_values: Floats, tests: int) -> Floats:
    """Benjamini and Hochberg's adjusted p-values of `tests` tests, of which these are the smallest.

    Tests that are not among `p_values` have p-value 1.
    """
    order = np.argsort(p_values, kind="stable")
    ranked = p_values[order] * tests / np.arange(1, len(order) + 1)
    q = np.empty_like(ranked)
    q[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return q
