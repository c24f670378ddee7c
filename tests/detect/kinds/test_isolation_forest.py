"""A day that is easy to tell from the key's others."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from keywatch.detect.kinds import isolation_forest
from keywatch.detect.kinds.isolation_forest import Fitted, KeyDays, fit, key_day_evidence

PARAMS = {
    "trees": 50, "rows_a_tree": 128, "most_training_rows": 5000, "ordinary_share": 0.05, "seed": 1,
}  # fmt: skip


def days(
    rng: np.random.Generator, key_id: str, mean: float, count: int = 50
) -> list[dict[str, object]]:
    first = date(2026, 8, 1)
    return [
        {
            "key_id": key_id, "day": first + timedelta(days=i), "is_window": i >= count - 7,
            "events": int(rng.poisson(mean)), "endpoints": int(rng.integers(1, 5)),
            "addresses": int(rng.integers(1, 4)),
        }
        for i in range(count)
    ]  # fmt: skip


def evidence_of(rows: pa.Table, fitted: Fitted | None = None) -> tuple[pa.Table, Fitted | None]:
    read = KeyDays.of(rows)
    fitted = fitted or fit(read, PARAMS)
    return key_day_evidence(read, PARAMS, fitted), fitted


def test_the_strange_day_stands_out_and_the_others_do_not() -> None:
    rng = np.random.default_rng(3)
    rows = [row for k in range(20) for row in days(rng, f"key_{k}", 10 + 30 * k)]
    strange = next(row for row in rows if row["key_id"] == "key_3" and row["is_window"])
    strange.update(events=9_000, endpoints=25, addresses=12)
    evidence, _ = evidence_of(pa.Table.from_pylist(rows))
    found = evidence.to_pylist()
    (said,) = [r for r in found if (r["key_id"], r["day"]) == ("key_3", strange["day"])]
    # A forest can't tell how far beyond all it saw a day is: it ties with the strangest.
    assert said["bits"] > 0.5 * max(row["bits"] for row in found)
    assert said["actual"] in ("9000 events", "25 endpoints", "12 addresses")
    assert len(found) < 0.2 * 20 * 7
    assert all(row["bits"] > 0 and row["prefix"] is None for row in found)


def test_the_same_days_give_the_same_evidence() -> None:
    rows = pa.Table.from_pylist(days(np.random.default_rng(1), "key_1", 20))
    found, fitted = evidence_of(rows)
    assert fit(KeyDays.of(rows), PARAMS) is fitted, "a forest of the same days is kept"
    isolation_forest._grown.cache_clear()
    assert evidence_of(rows)[0] == found
    assert evidence_of(rows, fitted)[0] == found


def test_without_a_past_or_a_present_nothing_is_said() -> None:
    rows = days(np.random.default_rng(1), "key_1", 20)
    for is_window in (True, False):
        only = [row for row in rows if row["is_window"] is is_window]
        assert evidence_of(pa.Table.from_pylist(only))[0].num_rows == 0
