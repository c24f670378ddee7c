"""Detection power: which thefts of a key would be caught, and after how many requests.

Made visits stand in for the window's, each of one kind and size, and go through the same
detectors, the same calibration and the same decision as a review's. A theft counts as caught where
the review would name it, to revoke or to investigate, if it came alone while its owner goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from keywatch.detect import detectors
from keywatch.detect.calibration import Calibration
from keywatch.detect.detectors import Detector
from keywatch.detect.scoring import WindowEvidence, as_cases, decide_alone, gather, visit_bits
from keywatch.lake import Lake, sql_text
from keywatch.model import Power, Window
from keywatch.settings import ScoringSettings

SIZES = (1, 3, 10, 30, 100)
"""Requests of the injected thefts."""

THEFTS = {
    "scan": "a scan from a new hosting network",
    "bulk_read": "a bulk read from a new hosting network",
    "home_reader": "a reader on a home line in the usual country, with the owner's client,",
    "same_provider": "a reader at the key's own provider, with the owner's client,",
}
"""Kinds of injected thefts, as they are said to people; ``detect/inject.sql`` makes them."""


@dataclass(frozen=True)
class Injected:
    """What the detectors say of the injected thefts, and the keys that have them, by key."""

    evidence: WindowEvidence
    key_ids: tuple[str, ...]

    @classmethod
    def together(cls, parts: Sequence[Injected]) -> Injected:
        """That of parts that have no key in common."""
        evidence = WindowEvidence.together([each.evidence for each in parts])
        return cls(evidence, tuple(sorted(key_id for each in parts for key_id in each.key_ids)))


@dataclass(frozen=True)
class KeyPower:
    """How many requests of a kind of theft it takes to catch it; None: 100 are not enough."""

    key_id: str
    requests: dict[str, int | None]


def inject(
    lake: Lake,
    window: Window,
    loaded: Sequence[Detector],
    most_keys: int | None = None,
    others: Mapping[str, pa.Table] | None = None,
) -> Injected:
    """Inject thefts into all keys with a past, or into `most_keys` drawn of them.

    Runs after `detectors.prepare_window`, whose tables are as before at the end. Where they are of
    a part of the keys, `others` has rows of the others, as of `detectors.prepare_part`.
    """
    with _set_aside(lake):
        drawn = "NULL" if most_keys is None else int(most_keys)
        lake.execute(f"SET VARIABLE injected_keys = {drawn}")
        lake.execute(f"SET VARIABLE injected_sizes = {list(SIZES)}")
        lake.execute(sql_text("inject", __package__))
        detectors.make_again(lake, _FOLLOWING, others)
        for detector in loaded:
            if detector.grain == "visit" and not detector.needs_other_visits:
                detectors.run(lake, detector, window)
        evidence = gather(lake, loaded)
    drawn_keys = lake.rows("SELECT DISTINCT key_id FROM injected ORDER BY key_id")
    return Injected(evidence, tuple(key_id for (key_id,) in drawn_keys))


def power_of_keys(
    injected: Injected, keys: int, calibration: Calibration, settings: ScoringSettings
) -> list[KeyPower]:
    """What of the injected thefts is caught, by key, where `keys` are in use."""
    evidence = injected.evidence
    counted, bits = visit_bits(evidence, calibration)
    visits = range(len(evidence.visits))
    cases = as_cases(evidence, calibration.families, counted, bits, settings, visits)
    named = decide_alone(cases, keys, calibration, settings)
    found: dict[str, dict[str, int | None]] = {
        key_id: dict.fromkeys(THEFTS) for key_id in injected.key_ids
    }
    for (key_id, _, prefix), case in zip(evidence.names(), named, strict=True):
        theft, _, size = prefix.partition(":")
        if case.action != "none":
            least = found[key_id][theft]
            found[key_id][theft] = min(int(size), least or int(size))
    return [KeyPower(key_id, requests) for key_id, requests in found.items()]


_OF_WINDOW = (
    "evidence", "visits", "visit_endpoints", "visit_addresses", "visit_agents", "visit_transitions",
    "visit_objects", "visit_rates", "window_activity", "window_hours", "window_days",
    "window_reach", "new_networks", "stays", "stay_hours",
)  # fmt: skip
"""What ``detect/inject.sql`` makes in place of the window's tables."""
_FOLLOWING = ("new_endpoints", "new_calls", "uses", "arrivals")
"""What ``detect/prepare.sql`` makes of them."""


@contextmanager
def _set_aside(lake: Lake) -> Iterator[None]:
    """Keep the window's tables under another name, ``own_…``, for the time inside."""
    names = (*_OF_WINDOW, *_FOLLOWING)
    detectors.rename(lake, names, "{}", "own_{}")
    try:
        yield
    finally:
        detectors.rename(lake, names, "own_{}", "{}")


def summary(powers: Sequence[KeyPower]) -> tuple[Power, ...]:
    """By kind of theft: the share of keys at which it is caught, and the median of the requests."""
    kinds = []
    for theft, words in THEFTS.items():
        needed = [power.requests[theft] for power in powers]
        enough = [requests for requests in needed if requests is not None]
        kinds.append(
            Power(
                theft=theft,
                words=words,
                keys=len(needed),
                caught=len(enough),
                median_requests=float(np.median(enough)) if enough else None,
            )
        )
    return tuple(kinds)
