"""A labelled CloudTrail trail of a Stratus Red Team run: which attacking keys a review names.

    python -m benchmarks.quality.cloudtrail [FOLDER]

FOLDER has ``cloudtrail.ndjson.gz`` and ``labels.csv.gz`` (a row an event: ``accessKeyId`` and
``label``); without it, that of the checkout's neighbour ``shared/data``. Where there is none, the
benchmark says so and has nothing to do. The trail is Invictus IR's ``aws_dataset`` (MIT); the
labels were derived from the tool's mark in the agent.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from keywatch import pipeline
from keywatch.lake import Lake
from keywatch.model import Case, Window
from keywatch.settings import Settings
from keywatch.text.safe_text import printable

FOLDER = Path(__file__).resolve().parents[2].parent / (
    "shared/data/aws-cloudtrail-invictus-stratus"
)
DAY = Window(datetime(2023, 7, 10), datetime(2023, 7, 11))
"""The day of the trail."""

LIMITS = (
    "What this can't say: how well stolen keys are told from others. The log is 55 minutes long, "
    "so no key has a past that it could differ from and no score is calibrated; the clients' "
    "addresses are private ones, so no place is known; the attacker makes three of four requests, "
    "so that its ways are the usual ones of the trail. A session's case is that of its role or "
    "person, so that keys of one principal are named together."
)

Side = Literal["attacking", "attacker's own", "innocent"]
_SIDES: dict[str, Side] = {
    "attack_tool": "attacking",
    "attack_stolen_instance_key": "attacking",
    "attack_infra_setup_or_cleanup": "attacking",
    "attacker_identity_other": "attacker's own",
}
"""A key's side by the labels of its requests, the gravest first; any other is innocent."""


@dataclass(frozen=True)
class Finding:
    """What the review says of one key of the trail, beside what it did."""

    key_id: str
    principal: str
    """The user, or the role and its session, without the account."""
    side: Side
    labels: Counter[str]
    """Label → its requests."""
    case: Case | None

    @property
    def action(self) -> str:
        return self.case.action if self.case else "none"

    @property
    def is_named(self) -> bool:
        return self.action != "none"


def findings(folder: Path, settings: Settings) -> list[Finding]:
    """Load the trail of `folder` into a lake of its own and review its day; one row a key."""
    principals = _principals(folder / "cloudtrail.ndjson.gz")
    labels: dict[str, Counter[str]] = {}
    with gzip.open(folder / "labels.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["accessKeyId"]:
                labels.setdefault(row["accessKeyId"], Counter())[row["label"]] += 1
    with tempfile.TemporaryDirectory(prefix="keywatch-cloudtrail-") as scratch:
        lake = Path(scratch) / "lake"
        pipeline.ingest(lake, [str(folder / "cloudtrail.ndjson.gz")], settings)
        answer = pipeline.review(lake, DAY, settings, keep=False, whole=True)
        with Lake.open(lake) as opened:
            of_whom: dict[str, str] = dict(
                opened.rows("SELECT DISTINCT key_id, coalesce(principal, key_id) FROM lake.events")
            )
    cases = {case.key_id: case for case in answer.cases}
    found = [
        Finding(key_id, principals[key_id], _side(counts), counts, cases.get(of_whom[key_id]))
        for key_id, counts in labels.items()
    ]
    return sorted(found, key=lambda each: (-(each.case.bits if each.case else 0), each.key_id))


def _principals(trail: Path) -> dict[str, str]:
    with gzip.open(trail, "rt", encoding="utf-8") as lines:
        identities = [json.loads(line)["userIdentity"] for line in lines]
    return {
        each["accessKeyId"]: each.get("arn", each["type"]).split(":")[-1]
        for each in identities
        if "accessKeyId" in each
    }


def _side(labels: Iterable[str]) -> Side:
    return next((side for label, side in _SIDES.items() if label in labels), "innocent")


def report(found: Sequence[Finding]) -> str:
    """The keys of each side: those named and those not, with the evidence there is."""
    lines = []
    for side in ("attacking", "attacker's own", "innocent"):
        keys = [each for each in found if each.side == side]
        named = [each for each in keys if each.is_named]
        lines.append(f"{side}: {len(named)} of {len(keys)} keys named")
        # Of the innocent only the false alarms are news.
        for each in named if side == "innocent" else keys:
            lines += [f"  {line}" for line in _told(each)]
    return "\n".join([*lines, "", *textwrap.wrap(LIMITS, 100)])


def _told(each: Finding) -> list[str]:
    done = ", ".join(f"{label} ×{count}" for label, count in each.labels.most_common())
    bits = each.case.bits if each.case else 0.0
    evidence = [item for item in each.case.evidence if item.bits > 0] if each.case else []
    said = [
        f"    {item.bits:5.1f}  {item.detector}: {printable(item.actual)}"
        for item in sorted(evidence, key=lambda item: -item.bits)[:4]
    ]
    who = f"{printable(each.key_id)}  {printable(each.principal)}"
    head = f"{each.action:<11} {bits:5.1f}  {who}"
    return [head, f"    did    {done}", *(said or ["    no evidence"])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the report, or that there is no trail."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.cloudtrail")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args(arguments).folder
    if not (folder / "labels.csv.gz").exists():
        print(f"{folder}: no labelled trail there; nothing to do")
        return
    print(report(findings(folder, Settings().without_power())))


if __name__ == "__main__":
    main()
