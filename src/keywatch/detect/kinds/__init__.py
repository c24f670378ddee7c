"""How a detector runs: a kind is a function from its query's rows to evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

Kind = Callable[[pa.Table, Mapping[str, float | str], Any], tuple[pa.Table, Any]]
"""The rows of the detector's query, its parameters and what was fitted before, or None → rows of
the evidence's columns, and what was fitted."""


def _isolation_forest(
    rows: pa.Table, params: Mapping[str, float | str], fitted: Any
) -> tuple[pa.Table, Any]:
    from keywatch.detect.kinds.isolation_forest import key_day_evidence

    return key_day_evidence(rows, params, fitted)


def expected_endpoints(used: pa.Table) -> pa.Table:
    """What keys like each key call (`keywatch.detect.kinds.peers`)."""
    from keywatch.detect.kinds.peers import expected_endpoints

    return expected_endpoints(used)


KINDS: dict[str, Kind | None] = {"sql": None, "isolation_forest": _isolation_forest}
"""A kind's name → what makes evidence of the query's rows; None where the rows are evidence."""

QUERY_PARAMETERS: dict[str, frozenset[str]] = {
    "sql": frozenset(),
    "isolation_forest": frozenset(
        {"trees", "rows_a_tree", "most_training_rows", "ordinary_share", "seed"}
    ),
}
"""Parameters that a kind takes for itself; the rest are the query's."""
