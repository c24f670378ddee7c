"""The windows of a large lake, scored some keys after the other.

A window's tables of 5,000 keys take half a gigabyte. What does not fit into `storage.memory_limit`
is on disk, and to join such tables takes long. So the keys are put into buckets that are closed
under kinship (`detect/kin.sql`), the roll-ups are read once and kept in order of the buckets, and
`detect/prepare.sql` runs for each bucket, on tables that fit, and so do the detectors, with what
keys at large do beside them. In the end all tables are as if they had been made at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from keywatch.detect import detectors, scoring
from keywatch.detect.detectors import Detector
from keywatch.detect.scoring import WindowEvidence
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.vendors.catalogue import Endpoint

_ROLL_UPS = ("span_activity", "span_hours", "span_transitions")
_ROWS = (*_ROLL_UPS, "place_days", "first_places", "first_days")
"""Views of many rows that the window's tables are made of; those of a bucket take their place."""
_AT_ONCE = frozenset(
    ("window_reach", "requests_by_day", "keys", "leaks", "scope_changes", "unread_lines",
     "key_forms", "exposures", "everybody", "everybody_in_all")
)  # fmt: skip
"""Tables of the window that are made of all keys: small, or they say what keys at large do."""
_WHOLE = frozenset(detectors.BY_KEY) - _AT_ONCE
"""Tables that detectors read of all keys."""
_READ_WHOLE = ("visits", "baseline_endpoints")
"""Tables that those of `_AT_ONCE` and ``expected_endpoints`` are made of, beside `_WHOLE`."""
_WINDOW = "day >= getvariable('window_start') AND day < getvariable('window_end')"


@dataclass(frozen=True)
class Buckets:
    """How many there are; the temporary table ``key_buckets`` has each key's: key_id, bucket."""

    count: int

    @classmethod
    def of_span(
        cls,
        lake: Lake,
        start: date,
        end: date,
        catalogue: Sequence[tuple[str, Endpoint]],
        keys_at_once: int,
    ) -> Buckets:
        """As `detectors.prepare_span`, in buckets of at most `keys_at_once` keys.

        Kin stay together: the keys of one owner are in one bucket, however many.
        """
        detectors.prepare_span(lake, start, end, catalogue)
        if lake.value("SELECT count(DISTINCT key_id) FROM span_activity") <= keys_at_once:
            return cls(1)
        buckets = dict(_filled(lake, keys_at_once))
        key_ids, numbers = pa.array(buckets, pa.string()), pa.array(buckets.values(), pa.int32())
        with lake.registered("bucket_rows", pa.table([key_ids, numbers], ["key_id", "bucket"])):
            lake.execute("CREATE OR REPLACE TEMP TABLE key_buckets AS FROM bucket_rows")
        for name in _ROWS:
            lake.execute(
                f"CREATE OR REPLACE TEMP TABLE kept_{name} AS "
                f"FROM {name} JOIN key_buckets USING (key_id) ORDER BY bucket"
            )
        _read_rows(lake)
        return cls(max(buckets.values()) + 1)

    def score(
        self,
        lake: Lake,
        window: Window,
        baseline_days: int,
        asked: Sequence[Detector],
        loaded: Sequence[Detector],
        fitted: dict[str, Any],
        drawn: Set[str] | None,
        *,
        is_last: bool,
    ) -> WindowEvidence:
        """What the detectors `asked` say of a window, of which the `loaded` ones count.

        `fitted` and `drawn` are as of `detectors.run`. Of the last window all tables are there
        afterwards, as of `detectors.prepare_window`, and ``evidence``.
        """
        if self.count == 1 or any(each.may_read_all_keys for each in asked):
            self.prepare_window(lake, window, baseline_days)
            for each in asked:
                detectors.run(lake, each, window, fitted, drawn)
            return scoring.gather(lake, loaded)
        self._make(lake, window, baseline_days)
        self._put_together(lake, _WHOLE)
        self._put_together(lake, _READ_WHOLE, keep=True)
        detectors.make_again(lake, _AT_ONCE - {"window_reach", "keys"})
        detectors.expect_endpoints(lake)
        _set_aside(lake, ("keys", "places"))
        for each in detectors.to_fit(asked):
            rows = []
            for bucket in range(self.count):
                with _shown(lake, bucket):
                    rows.append(detectors.rows_to_fit(lake, each, window, drawn))
            fitted[each.id] = detectors.fitted_to(each, pa.concat_tables(rows))
        detectors.begin_evidence(lake)
        lake.execute("CREATE OR REPLACE TEMP TABLE all_evidence AS FROM evidence")
        parts = []
        for bucket in range(self.count):
            with _shown(lake, bucket):
                detectors.begin_evidence(lake)
                for each in asked:
                    detectors.run(lake, each, window, fitted)
                # What is known of all keys may speak of others too.
                lake.execute("DELETE FROM evidence WHERE key_id NOT IN (SELECT key_id FROM keys)")
                parts.append(scoring.gather(lake, loaded))
                lake.execute("INSERT INTO all_evidence FROM evidence")
        _put_back(lake, ("keys", "places", "evidence"))
        if is_last:
            _let_go(lake)
            self._put_together(lake, _by_key() - _WHOLE)
        return WindowEvidence.together(parts)

    def prepare_window(self, lake: Lake, window: Window, baseline_days: int) -> None:
        """As `detectors.prepare_window`."""
        if self.count == 1:
            detectors.prepare_window(lake, window, baseline_days)
            return
        self._make(lake, window, baseline_days)
        self._put_together(lake, _by_key())
        detectors.make_again(lake, _AT_ONCE - {"window_reach", "keys"})
        detectors.expect_endpoints(lake)
        detectors.begin_evidence(lake)

    def _make(self, lake: Lake, window: Window, baseline_days: int) -> None:
        """Make the tables of each bucket, as ``of_NUMBER_…``, and ``keys`` of all."""
        detectors.set_window(lake, window, baseline_days)
        lake.execute(
            "CREATE OR REPLACE TEMP TABLE window_keys AS SELECT DISTINCT key_id "
            f"FROM span_activity SEMI JOIN places USING (address) WHERE {_WINDOW}; "
            "CREATE OR REPLACE TEMP TABLE window_reach AS "
            f"SELECT max(last_ts) AS last_ts FROM span_activity WHERE {_WINDOW}"
        )
        detectors.make_again(lake, ["keys"])
        _set_aside(lake, ("keys", "places"))
        for bucket in range(self.count):
            _show_rows(lake, bucket)
            detectors.make_again(lake, detectors.tables_of_window().keys() - _AT_ONCE)
            detectors.rename(lake, _by_key(), "{}", f"of_{bucket}_{{}}")
        _read_rows(lake)
        _put_back(lake, ("keys", "places"))

    def _put_together(self, lake: Lake, names: Iterable[str], *, keep: bool = False) -> None:
        """Make tables of all keys of those of the buckets, which are dropped unless `keep`."""
        for name in names:
            parts = [f"of_{bucket}_{name}" for bucket in range(self.count)]
            lake.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS FROM {' UNION ALL FROM '.join(parts)}"
            )
            if not keep:
                lake.execute("".join(f"DROP TABLE {part};" for part in parts))


def _by_key() -> Set[str]:
    """The tables of the window that are made bucket by bucket."""
    made = detectors.tables_of_window()
    return {name for name, is_table in made.items() if is_table and name not in _AT_ONCE}


@contextmanager
def _shown(lake: Lake, bucket: int) -> Iterator[None]:
    """The tables of a bucket under their own names, but for those that are read of all keys."""
    names = _by_key() - _WHOLE
    _show_rows(lake, bucket)
    detectors.rename(lake, names, f"of_{bucket}_{{}}", "{}")
    yield
    detectors.rename(lake, names, "{}", f"of_{bucket}_{{}}")
    _read_rows(lake)


def _show_rows(lake: Lake, bucket: int) -> None:
    """Have the roll-ups, ``keys`` and ``places`` be those of a bucket."""
    _read_rows(lake, f"WHERE bucket = {bucket}")
    lake.execute(
        "CREATE OR REPLACE TEMP TABLE keys AS FROM all_keys "
        f"SEMI JOIN (FROM key_buckets WHERE bucket = {bucket}) USING (key_id); "
        "CREATE OR REPLACE TEMP TABLE places AS FROM all_places "
        "WHERE place_id IN (SELECT place_id FROM place_days)"
    )


def _read_rows(lake: Lake, of: str = "") -> None:
    for name in _ROWS:
        lake.execute(
            f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * EXCLUDE (bucket) FROM kept_{name} {of}"
        )


def _let_go(lake: Lake) -> None:
    """Have the roll-ups be read from the lake again: in order of the buckets they are large."""
    detectors.show_roll_ups(lake)
    lake.execute("".join(f"DROP TABLE kept_{name};" for name in _ROLL_UPS))


def _set_aside(lake: Lake, names: Iterable[str]) -> None:
    """Keep these tables under another name, ``all_…``."""
    detectors.rename(lake, names, "{}", "all_{}")


def _put_back(lake: Lake, names: Iterable[str]) -> None:
    detectors.rename(lake, names, "all_{}", "{}")


def _filled(lake: Lake, keys_at_once: int) -> Iterator[tuple[str, int]]:
    """Each key of the span and of the inventory, and the number of its bucket."""
    bucket = 0
    filled = 0
    for family in families(lake):
        if filled and filled + len(family) > keys_at_once:
            bucket += 1
            filled = 0
        filled += len(family)
        yield from ((key_id, bucket) for key_id in family)


def families(lake: Lake) -> list[list[str]]:
    """The keys of the span and of the inventory, those together that are kin, by the first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = lake.rows(
        """
        SELECT key_id, owner, replaces
        FROM (SELECT DISTINCT key_id FROM span_activity)
        FULL JOIN inventory_in_force() USING (key_id)
        ORDER BY key_id
        """
    )
    if not rows:
        return []
    nodes: dict[tuple[str, str], int] = {}
    links = [
        (nodes.setdefault(("key", key_id), len(nodes)), nodes.setdefault(other, len(nodes)))
        for key_id, owner, replaces in rows
        for other in (("key", key_id), ("owner", owner), ("key", replaces))
        if other[1] is not None
    ]
    ends = np.array(links).T
    graph = coo_matrix((np.ones(len(links), bool), ends), (len(nodes), len(nodes)))
    _, of_node = connected_components(graph, directed=False)
    families: dict[int, list[str]] = {}
    for key_id, _, _ in rows:
        families.setdefault(int(of_node[nodes["key", key_id]]), []).append(key_id)
    return list(families.values())
