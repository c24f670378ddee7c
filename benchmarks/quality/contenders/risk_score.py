"""How much likelier a session's address and client are for anybody than for this key.

Freeman, Jain, Dürmuth, Biggio and Giacinto 2016, "Who Are You? A Statistical Approach to Measuring
User Authenticity", section IV, with back-off to the network, the country and the product. A session
is one key, day, address and user agent. What the paper says of the attacker's side is taken at its
simplest: an attacker comes from anywhere as anybody does, and takes any key.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from benchmarks.quality.worlds import REVIEW_DAYS, World
from keywatch.settings import Settings

CHAINS = (("country", "network", "address"), ("product", "agent", "user_agent"))
PRIOR_SESSIONS = 1.0
ALERT_QUANTILE = 0.99
"""Of the keys' worst sessions in the week before: an analyst's budget of 10 keys in 1,000."""


def score(world: World, settings: Settings) -> pd.DataFrame:
    """Each key's riskiest session of the week, in bits."""
    values = [column for chain in CHAINS for column in chain]
    sessions = world.events(settings)[["key_id", "day", *values]].drop_duplicates()
    week_before = world.review_start - timedelta(days=REVIEW_DAYS)
    before = _worst(sessions, week_before, world.review_start)
    now = _worst(sessions, world.review_start, world.end)
    limit = before.quantile(ALERT_QUANTILE)
    return pd.DataFrame(
        {"key_id": now.index, "score": now.to_numpy(), "alert": (now > limit).to_numpy()}
    )


def _worst(sessions: pd.DataFrame, start: datetime, end: datetime) -> pd.Series[float]:
    """Each key's highest risk in [start, end), learnt from the days before."""
    history = sessions[sessions["day"] < start]
    week = sessions[(sessions["day"] >= start) & (sessions["day"] < end)]
    risk = pd.concat([_log_ratio(history, week, chain) for chain in CHAINS], axis=1).sum(axis=1)
    return risk.groupby(week["key_id"]).max()


def _log_ratio(
    history: pd.DataFrame, week: pd.DataFrame, chain: tuple[str, ...]
) -> pd.Series[float]:
    """log2 p(value) / p(value | key) of each session of the week; the chain from coarse to fine.

    Interpolated: what the key's own counts leave over at each level goes to the level above it,
    and from there down as with everybody. A value nobody had weighs as much as one seen once.
    """
    own_total = _counts(history, ["key_id"], week)
    anybody = pd.Series(1.0, week.index)
    own = pd.Series(1.0, week.index)
    for nth, column in enumerate(chain):
        above = list(chain[:nth])
        path = [*above, column]
        children = history[path].drop_duplicates()
        total = _counts(history, above, week) if above else float(len(history))
        kinds = _counts(children, above, week) if above else float(len(children))
        below = (_counts(history, path, week) + 1) / (total + kinds + 1)
        anybody = anybody * below
        seen = _counts(history, ["key_id", *path], week)
        own = (seen + PRIOR_SESSIONS * own * below) / (own_total + PRIOR_SESSIONS)
    return pd.Series(np.log2(anybody / own), week.index)


def _counts(history: pd.DataFrame, columns: list[str], week: pd.DataFrame) -> pd.Series[float]:
    """How often each row's values of `columns` stand in the history."""
    counts = history.groupby(columns).size().rename("count")
    joined = week[columns].merge(counts, how="left", left_on=columns, right_index=True)
    return joined["count"].fillna(0.0)
