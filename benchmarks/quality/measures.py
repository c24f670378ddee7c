"""Figures of a ranking. A tie counts as its members in random order: what is expected of it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def average_precision(scores: Floats, stolen: Flags) -> float:
    """The mean of the precision at each stolen key, in [0, 1]; nan where none is stolen.

    Within a tie the expectation over all orders (McSherry and Najork 2008, section 3).
    """
    found = ranked = 0
    total = 0.0
    for size, hits in _ties(scores, stolen):
        places = np.arange(size)
        # A hit has, at each place of its tie, as many of the other hits before it as is expected.
        before = found + places * (hits - 1) / max(size - 1, 1)
        total += float(np.sum(hits / size * (before + 1) / (ranked + places + 1)))
        found, ranked = found + hits, ranked + size
    return total / found if found else float("nan")


def caught(scores: Floats, stolen: Flags, false_alarms: int) -> Floats:
    """How probable it is for each stolen key to stand before false alarm `false_alarms` + 1.

    One number in [0, 1] for each True of `stolen`, in order; it is fractional only in the tie in
    which that false alarm lies. A key with a score of 0 or less is not named at all.
    """
    innocent = scores[~stolen]
    result = np.zeros(int(stolen.sum()))
    for nth, score in enumerate(scores[stolen].tolist()):
        left = false_alarms - int((innocent > score).sum())
        if score > 0 and left >= 0:
            result[nth] = min(1.0, (left + 1) / (int((innocent == score).sum()) + 1))
    return result


def share(part: float, whole: float) -> float:
    """`part` of `whole`; nan of nothing."""
    return part / whole if whole else float("nan")


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """A 95 % interval of a share (Wilson 1927); [0, 1] of nothing."""
    if not tries:
        return 0.0, 1.0
    z = 1.959964
    middle = (hits + z**2 / 2) / (tries + z**2)
    half = z / (tries + z**2) * math.sqrt(hits * (tries - hits) / tries + z**2 / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _ties(scores: Floats, stolen: Flags) -> list[tuple[int, int]]:
    """Each tie's size and how many of it are stolen, the highest score first."""
    _, tie = np.unique(-scores, return_inverse=True)
    hits = np.bincount(tie, weights=stolen)
    return list(zip(np.bincount(tie).tolist(), hits.astype(int).tolist(), strict=True))
