"""How a detector runs: a kind is a function from its query's rows to evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Params = Mapping[str, float | str]


@dataclass(frozen=True)
class Kind:
    """A kind that takes the rows of the detector's query for features.

    `read` makes what the others take of them; `fit` a model of all keys by the detector's
    parameters, None where there is nothing to learn from; `evidence` rows of the evidence's
    columns, of any keys, by a model.
    """

    read: Callable[[pa.Table], Any]
    fit: Callable[[Any, Params], Any]
    evidence: Callable[[Any, Params, Any], pa.Table]


def _key_days(rows: pa.Table) -> Any:
    from keywatch.detect.kinds.isolation_forest import KeyDays

    return KeyDays.of(rows)


def _fit_isolation_forest(days: Any, params: Params) -> Any:
    from keywatch.detect.kinds.isolation_forest import fit

    return fit(days, params)


def _isolation_forest(days: Any, params: Params, fitted: Any) -> pa.Table:
    from keywatch.detect.kinds.isolation_forest import key_day_evidence

    return key_day_evidence(days, params, fitted)


def expected_endpoints(used: pa.Table) -> pa.Table:
    """What keys like each key call (`keywatch.detect.kinds.peers`)."""
    from keywatch.detect.kinds.peers import expected_endpoints

    return expected_endpoints(used)


KINDS: dict[str, Kind | None] = {
    "sql": None,
    "isolation_forest": Kind(_key_days, _fit_isolation_forest, _isolation_forest),
}
"""A kind's name → what makes evidence of the query's rows; None where the rows are evidence."""

QUERY_PARAMETERS: dict[str, frozenset[str]] = {
    "sql": frozenset(),
    "isolation_forest": frozenset(
        {"trees", "rows_a_tree", "most_training_rows", "ordinary_share", "seed"}
    ),
}
"""Parameters that a kind takes for itself; the rest are the query's."""
