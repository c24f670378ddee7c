"""Evidence made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pyarrow as pa

from keywatch.detect.scoring import VISITS


def visits_of(rows: Iterable[tuple[str, date, str, str]]) -> pa.Table:
    """Of key, day, prefix and network the visits of a `WindowEvidence`."""
    return pa.Table.from_pylist(
        [dict(zip(VISITS.names, row, strict=True)) for row in rows], schema=VISITS
    )
