"""What a review finds, as the JSON contract says it, less its texts, times and ids of runs.

`GOLDEN` has one file a lake. After a change that is meant, ``KEYWATCH_RENEW_GOLDEN=1 pytest
tests/test_findings.py`` writes them anew: read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keywatch.lake import Lake
from keywatch.review import alerts

GOLDEN = Path(__file__).parent / "golden"
_TEXTS = {
    "summary", "explanation", "typical", "actual", "steps", "events_query", "notes", "attribution",
    "organization", "text", "version", "name", "key", "owner", "environment", "outcome",
    "asked", "title", "technique", "false_positives", "known_gaps", "story", "done", "chronology",
}  # fmt: skip
_OF_A_RUN = {
    "run",
    "health",
    "response",
    "first_seen",
    "last_seen",
    "given_at",
    "unlocated_addresses",
}
_NEAR = 0.011
"""Bits and probabilities are rounded to two digits and more: the last one may be another's."""


def findings(document: dict[str, Any]) -> dict[str, Any]:
    """The findings of a review's JSON: whole cases where there is an action, else bits alone."""
    cases = [_told(case) for case in document["cases"] if case["action"] != "none"]
    others = {
        case["key_id"]: [case["standing"], case["bits"]]
        for case in document["cases"]
        if case["action"] == "none"
    }
    told: dict[str, Any] = _without(
        document | {"cases": cases, "others": others}, _TEXTS | _OF_A_RUN
    )
    return told


def _told(case: dict[str, Any]) -> dict[str, Any]:
    """A case; of its places the suspicious ones by address, and all in numbers."""
    origins = case["origins"]
    return case | {
        "origins": [origin for origin in origins if origin["requests_suspicious"]],
        "places": len(origins) + case["more_origins"],
        "requests": sum(origin["requests"] for origin in origins),
        "evidence": {
            item["detector"]: [
                item["bits"], item["said_bits"], *filter(None, (item["action"],)),
                *({item["status"]} - {"stable"}),
            ]
            for item in case["evidence"]
            if item["said_bits"] or item["action"]
        },
    }  # fmt: skip


def alerted(lake: Path) -> list[dict[str, Any]]:
    """The alerts of a lake as they stand, in a stable order."""
    with Lake.open(lake) as opened:
        found = alerts.in_force(opened, [row[0] for row in _alert_ids(opened)])
    rows = [
        {
            "kind": alert.kind,
            "changes": alert.change,
            "action": alert.action,
            "bits": round(alert.bits, 2),
            "window": f"{alert.window.start:%Y-%m-%d}",
            "state": alert.state,
            "keys": sorted(alert.key_ids),
        }
        for alert in found
    ]
    return sorted(rows, key=lambda row: (row["window"], row["keys"], row["kind"]))


def _alert_ids(lake: Lake) -> list[tuple[str]]:
    return lake.rows("SELECT DISTINCT alert_id FROM lake.alerts")


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if k not in names}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return value


def assert_golden(name: str, found: dict[str, Any]) -> None:
    """`found` is what the golden file of this name has; else what differs is listed."""
    file = GOLDEN / f"{name}.json"
    if os.environ.get("KEYWATCH_RENEW_GOLDEN"):
        file.write_text(_as_lines(found), encoding="utf-8")
    known = json.loads(file.read_text(encoding="utf-8"))
    differing = list(_differences(known, json.loads(json.dumps(found)), name))
    assert not differing, "\n".join(differing[:40])


def _as_lines(found: dict[str, Any]) -> str:
    """JSON with a line for each entry of a list: what changed shows in a diff."""
    parts = []
    for name, value in found.items():
        if isinstance(value, list) and value:
            lines = ",\n  ".join(json.dumps(each) for each in value)
            parts.append(f"{json.dumps(name)}: [\n  {lines}\n]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _differences(known: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(known, dict) and isinstance(found, dict):
        for name in sorted(known.keys() | found.keys()):
            yield from _differences(known.get(name), found.get(name), f"{where}.{name}")
    elif isinstance(known, list) and isinstance(found, list):
        if len(known) != len(found):
            yield f"{where}: {len(known)} entries were known, {len(found)} are found"
        for n, (one, other) in enumerate(zip(known, found, strict=False)):
            label = one.get("key_id") or one.get("detector") if isinstance(one, dict) else None
            yield from _differences(one, other, f"{where}[{label or n}]")
    elif isinstance(known, float) and isinstance(found, (int, float)):
        if abs(known - found) > _NEAR:
            yield f"{where}: {known} was known, {found} is found"
    elif known != found:
        yield f"{where}: {known!r} was known, {found!r} is found"
