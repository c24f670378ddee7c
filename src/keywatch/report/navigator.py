"""What the detectors cover of MITRE ATT&CK, as a layer for the ATT&CK Navigator.

Format 4.5: ``layers/spec/v4.5/layerformat.md`` of mitre-attack/attack-navigator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from keywatch.detect.detectors import Detector
from keywatch.lake import Lake
from keywatch.text import attack

__all__ = ["cases_by_detector", "navigator_layer"]

_LAYER, _NAVIGATOR = "4.5", "5.1.0"
_COLORS = ["#e8f1fa", "#1f5f99"]

CaseId = tuple[str, str]
"""A key and the first day of a window."""

# A window's newest run counts, whoever made it.
_CASES = """
    SELECT DISTINCT item ->> 'detector' AS detector, key_id, window_start::DATE::VARCHAR AS window
    FROM (
        SELECT c.key_id, r.window_start, unnest(c.document -> '$.evidence[*]') AS item
        FROM lake.recommendations AS c
        JOIN (
            FROM lake.runs QUALIFY row_number() OVER (
                PARTITION BY window_start, window_end ORDER BY made_at DESC, run_id DESC) = 1
        ) AS r USING (run_id)
    )
    WHERE (item ->> 'bits')::DOUBLE > 0 OR (item ->> 'action') IS NOT NULL
"""


def cases_by_detector(lake: Lake) -> dict[str, set[CaseId]]:
    """The cases with an action that reviews have stored, by each detector that counts in them."""
    found = defaultdict[str, set[CaseId]](set)
    for detector, key_id, window in lake.rows(_CASES):
        found[detector].add((key_id, window))
    return dict(found)


def navigator_layer(
    detectors: Iterable[Detector], cases: Mapping[str, set[CaseId]]
) -> dict[str, Any]:
    """The layer: each technique with its detectors, scored by the cases that they count in.

    Drafts and key hygiene cover nothing.
    """
    covering = defaultdict[str, list[Detector]](list)
    for detector in detectors:
        if detector.status != "draft" and not detector.hygiene:
            covering[detector.technique].append(detector)
    scores = {
        uid: len(set[CaseId]().union(*(cases.get(each.id, set()) for each in each_of)))
        for uid, each_of in covering.items()
    }
    return {
        "name": "Keywatch detectors",
        "versions": {"attack": attack.version(), "navigator": _NAVIGATOR, "layer": _LAYER},
        "domain": "enterprise-attack",
        "description": "Techniques that Keywatch detects; the score is the number of cases "
        "with an action in which a detector of the technique counts.",
        "techniques": [
            {
                "techniqueID": uid,
                "score": scores[uid],
                "comment": "\n".join(f"{each.id}: {each.title}" for each in covering[uid]),
            }
            for uid in sorted(covering)
        ],
        "layout": {"layout": "side", "expandedSubtechniques": "annotated"},
        "gradient": {"colors": _COLORS, "minValue": 0, "maxValue": max([1, *scores.values()])},
    }
