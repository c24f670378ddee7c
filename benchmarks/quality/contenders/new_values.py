"""Rules on a value that the key did not show for so many days.

As Elastic's "new terms" rules (10 and 30 days here), and as Panther's and Datadog's "new value"
rules (90 days). Like those they know no better of a key without history than that all of it is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from benchmarks.quality.worlds import World
from keywatch.settings import Settings

Unit = Literal["requests", "values"]


def score(
    world: World, settings: Settings, *, columns: Sequence[str], history_days: int, unit: Unit
) -> pd.DataFrame:
    """How many `unit` of the review week bring a new value of `columns`; an alert if any."""
    events = world.events(settings)
    found = pd.concat([_new(events, column, history_days, world) for column in columns])
    if unit == "values":
        found = found.drop_duplicates()
    count = found.groupby("key_id").size()
    return pd.DataFrame({"key_id": count.index, "score": count.to_numpy(float), "alert": True})


def _new(events: pd.DataFrame, column: str, history_days: int, world: World) -> pd.DataFrame:
    """Key, value and day of the week's requests with a value unseen in the days before theirs."""
    had = events[["key_id", column, "day"]].rename(columns={column: "value"})
    days = had.drop_duplicates().sort_values("day")
    since = days["day"] - days.groupby(["key_id", "value"])["day"].shift()
    is_new = since.isna() | (since > pd.Timedelta(days=history_days))
    new_days = days[is_new & (days["day"] >= world.review_start)]
    return had.merge(new_days, on=["key_id", "value", "day"])
