"""Key-days that are easy to tell from the key's own past, by an isolation forest.

Liu, Ting and Zhou 2008, "Isolation Forest". Each feature is first put in terms of the key's own
past (robust z-scores), so that one forest serves all keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

Floats = npt.NDArray[np.float64]

_FIXED = ("key_id", "day", "is_window")
_LEAST_SPREAD = 0.25
"""Of a logarithm: about a quarter more or less is never strange."""


@dataclass(frozen=True)
class Fitted:
    """A forest, and how strange the days before the window are to it, in order."""

    forest: IsolationForest
    ordinary: Floats


@dataclass(frozen=True)
class KeyDays:
    """Key-days of a query: each feature as it is, and relative to the key's past.

    `rows` has key_id, day, is_window and one column a feature (counts ≥ 0), a row a key-day, in
    order of key and day.
    """

    rows: pa.Table
    features: list[str]
    values: Floats
    codes: npt.NDArray[np.int64]
    middle: Floats
    relative: Floats
    is_window: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: pa.Table) -> KeyDays:
        """Those of a detector's query."""
        features = [name for name in rows.column_names if name not in _FIXED]
        values = np.log1p(
            np.column_stack([rows[name].cast(pa.float64()).to_numpy() for name in features])
        )
        is_window = rows["is_window"].to_numpy(zero_copy_only=False)
        codes = rows["key_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        middle, spread = _by_key(values, codes, ~is_window)
        relative = (values - middle[codes]) / spread[codes]
        return cls(rows, features, values, codes, middle, relative, is_window)

    @property
    def _have_past(self) -> npt.NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.relative).all(axis=1))

    @property
    def past(self) -> Floats:
        """The days before the window."""
        return self.relative[self._have_past & ~self.is_window]

    @property
    def now(self) -> npt.NDArray[np.int64]:
        """The rows of the window's days, of keys that have a past."""
        return np.flatnonzero(self._have_past & self.is_window)


def fit(days: KeyDays, params: Mapping[str, float | str]) -> Fitted | None:
    """The forest that has learned the days before the window; None where it has none to score."""
    past = days.past
    return _fit(past, params) if len(past) and len(days.now) else None


def key_day_evidence(
    days: KeyDays, params: Mapping[str, float | str], fitted: Fitted | None
) -> pa.Table:
    """Evidence of the window's key-days.

    A day's bits are those of the share of the days that were learned that score at least as
    strange, less those of ``ordinary_share``: 0 where so many do.
    """
    rows, now = days.rows, days.now
    if fitted is None or not len(now):
        return _table(rows, now[:0], np.zeros(0), [], [])
    features, values, codes = days.features, days.values, days.codes
    middle, relative = days.middle, days.relative
    ordinary, strange = fitted.ordinary, _strangeness(fitted.forest, relative[now])
    as_strange = len(ordinary) - np.searchsorted(ordinary, strange, side="left")
    share = (as_strange + 1) / (len(ordinary) + 1)
    bits = np.maximum(np.log2(float(params["ordinary_share"]) / share), 0.0)
    now, bits = now[bits > 0], bits[bits > 0]
    most_odd = np.abs(relative[now]).argmax(axis=1) if len(now) else np.zeros(0, np.int64)
    names = [features[column].replace("_", " ") for column in most_odd]
    typical = np.expm1(middle[codes[now], most_odd])
    actual = np.expm1(values[now, most_odd])
    return _table(
        rows,
        now,
        bits,
        [f"{value:.0f} {name} a day" for value, name in zip(typical, names, strict=True)],
        [f"{value:.0f} {name}" for value, name in zip(actual, names, strict=True)],
    )


def _fit(past: Floats, params: Mapping[str, float | str]) -> Fitted:
    trees, rows_a_tree, most, seed = (
        int(params[name]) for name in ("trees", "rows_a_tree", "most_training_rows", "seed")
    )
    most = min(len(past), most)
    rng = np.random.default_rng(seed)
    past = past[np.sort(rng.choice(len(past), most, replace=False))]
    return _grown(past.tobytes(), past.shape[1], trees, min(rows_a_tree, most), seed)


@lru_cache(maxsize=8)
def _grown(past: bytes, features: int, trees: int, rows_a_tree: int, seed: int) -> Fitted:
    """The forest of these days, of which each has so many features.

    It is kept: for a standing feed, the days before the week are the same at each step.
    """
    # scikit-learn takes a second to load: only where there is something to fit.
    from sklearn import config_context
    from sklearn.ensemble import IsolationForest

    days = np.frombuffer(past).reshape(-1, features)
    # The values are finite and the parameters right: to check both anew for each tree takes longer
    # than to grow it.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        forest = IsolationForest(
            n_estimators=trees, max_samples=rows_a_tree, random_state=seed
        ).fit(days)
    return Fitted(forest, np.sort(_strangeness(forest, days)))


def _strangeness(forest: IsolationForest, days: Floats) -> Floats:
    from sklearn import config_context

    with config_context(assume_finite=True, skip_parameter_validation=True):
        strangeness: Floats = -forest.score_samples(days)
    return strangeness


def _by_key(
    values: Floats, codes: npt.NDArray[np.int64], is_past: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Median and spread (1.48 median absolute deviations) of each key's past; NaN without one."""
    shape = (int(codes.max(initial=-1)) + 1, values.shape[1])
    middle, spread = np.full(shape, np.nan), np.full(shape, np.nan)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(shape[0] + 1))
    for code in range(shape[0]):
        own = order[bounds[code] : bounds[code + 1]]
        own = own[is_past[own]]
        if len(own):
            middle[code] = np.median(values[own], axis=0)
            deviation = np.median(np.abs(values[own] - middle[code]), axis=0)
            spread[code] = np.maximum(1.4826 * deviation, _LEAST_SPREAD)
    return middle, spread


def _table(
    rows: pa.Table,
    which: npt.NDArray[np.int64],
    bits: Floats,
    typical: list[str],
    actual: list[str],
) -> pa.Table:
    return pa.table(
        {
            "key_id": rows["key_id"].take(pa.array(which)),
            "day": rows["day"].take(pa.array(which)),
            "prefix": pa.nulls(len(which), pa.string()),
            "bits": bits,
            "typical": pa.array(typical, pa.string()),
            "actual": pa.array(actual, pa.string()),
            "explanation": pa.array(
                ["a day that is easy to tell from this key's others"] * len(which), pa.string()
            ),
        }
    )
