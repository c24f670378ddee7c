"""Who is compared: each scores the keys of one world's review week.

A contender returns a frame of `key_id`, `score` (the higher, the more suspicious; a key that is
left out has 0) and `alert` (whether a human is told).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import pandas as pd

from benchmarks.quality.contenders import isolation_forest, keywatch_review, new_values, risk_score
from benchmarks.quality.worlds import World
from keywatch.settings import Settings


@dataclass(frozen=True)
class Contender:
    """`module` is where its code is: what is kept of it is kept under a digest of that file."""

    title: str
    short: str
    score: Callable[[World, Settings], pd.DataFrame]
    module: ModuleType


def _new(
    title: str, short: str, *columns: str, days: int, unit: new_values.Unit = "requests"
) -> Contender:
    rule = partial(new_values.score, columns=columns, history_days=days, unit=unit)
    return Contender(f"{title}, {days} days", f"{short} {days}", rule, new_values)


# A rule says yes or no; it is ranked by what ranks it best on the seeds that we tune on.
CONTENDERS = {
    "keywatch": Contender("Keywatch", "Keywatch", keywatch_review.score, keywatch_review),
    "new-address-10": _new("new address", "addr", "address", days=10),
    "new-address-30": _new("new address", "addr", "address", days=30),
    "new-network-90": _new("new ASN", "ASN", "network", days=90),
    "new-endpoint-90": _new("ASN/endpoint", "+endp", "network", "endpoint", days=90,
                            unit="values"),
    "risk-score": Contender("Freeman's risk score", "Freeman", risk_score.score, risk_score),
    "isolation-forest": Contender("IsolationForest", "forest", isolation_forest.score,
                                  isolation_forest),
}  # fmt: skip
