"""scikit-learn's IsolationForest on key-days, as an analyst would write it with pandas."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from benchmarks.quality.worlds import REVIEW_DAYS, World
from keywatch.settings import Settings

TREES = 300
SAMPLES = 4096
FIRST_DAYS = 7
LEAST_SPREAD = 0.5
"""Of log(1 + amount): a key that is alike every day may still differ by this much."""
ALERT_QUANTILE = 0.99
"""Of the keys' strangest days in the weeks before: an analyst's budget of 10 keys in 1,000."""


def score(world: World, settings: Settings) -> pd.DataFrame:
    """Each key's strangest day of the week: scikit-learn's anomaly score, in 0 to 1."""
    days = features(world.events(settings))
    day = days.index.get_level_values("day")
    is_week = np.asarray(day >= world.review_start)
    # On a key's first days all is new; learnt as ordinary, that hides the thefts.
    is_learnt = ~is_week & np.asarray(days["days_before"] >= np.log1p(FIRST_DAYS))
    samples = min(SAMPLES, int(is_learnt.sum()))
    forest = IsolationForest(n_estimators=TREES, max_samples=samples, random_state=0)
    forest.fit(days[is_learnt])
    strangeness = pd.Series(-forest.score_samples(days), days.index)
    week = strangeness[is_week].groupby("key_id").max()
    is_before = ~is_week & np.asarray(day >= world.review_start - pd.Timedelta(days=REVIEW_DAYS))
    limit = strangeness[is_before].groupby("key_id").max().quantile(ALERT_QUANTILE)
    return pd.DataFrame(
        {"key_id": week.index, "score": week.to_numpy(), "alert": (week > limit).to_numpy()}
    )


def features(events: pd.DataFrame) -> pd.DataFrame:
    """One row a key and day: how much, from how many, how much of it new, at what hours."""
    events = events.assign(
        hour=events["ts"].dt.hour,
        refused=events["status"].isin([401, 403]),
        failed=events["status"] >= 400,
        night=(events["ts"].dt.hour < 6) | (events["ts"].dt.hour >= 20),
        write=~events["endpoint"].str.startswith("GET "),
    )
    by_day = events.groupby(["key_id", "day"])
    counted = by_day.agg(
        requests=("ts", "size"),
        addresses=("address", "nunique"),
        networks=("network", "nunique"),
        countries=("country", "nunique"),
        endpoints=("endpoint", "nunique"),
        agents=("agent", "nunique"),
        hours=("hour", "nunique"),
        refused=("refused", "sum"),
        failed=("failed", "sum"),
        writes=("write", "sum"),
        night=("night", "sum"),
        response_bytes=("response_bytes", "sum"),
    )
    for column in ("address", "network", "country", "endpoint", "agent"):
        counted[f"new_{column}"] = _new(events, column).reindex(counted.index, fill_value=0)
    amounts = counted.astype(float).apply(np.log1p)
    relative = amounts - _past(amounts, "mean")
    spread = _past(amounts, "std")
    relative = (relative / (spread + LEAST_SPREAD)).fillna(0.0).add_suffix("_relative")
    amounts["mean_hour"] = by_day["hour"].mean()
    amounts["days_before"] = np.log1p(amounts.groupby("key_id").cumcount())
    return amounts.join(relative)


def _new(events: pd.DataFrame, column: str) -> pd.Series[int]:
    """How many values the key shows for the first time, by key and day."""
    first = events.groupby(["key_id", column], observed=True)["day"].min().reset_index()
    return first.groupby(["key_id", "day"]).size()


def _past(amounts: pd.DataFrame, statistic: Literal["mean", "std"]) -> pd.DataFrame:
    """The statistic of each key's earlier days."""
    shifted = amounts.groupby("key_id").shift()
    return shifted.groupby("key_id").expanding().agg(statistic).droplevel(0)
