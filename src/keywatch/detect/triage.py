"""Keys that belong together: one theft on many keys, or one move of many keys.

Reads the temporary tables of `detectors.prepare` and ``evidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keywatch.detect.scoring import ScoredCase
from keywatch.lake import Lake
from keywatch.model import Action, Group

FEWEST_KEYS = 2
_CAMPAIGN = "shared_origin"
_MIGRATION = "fleet_move"
_MOST_ORIGINS = 3

_GROUPS = """
    SELECT v.network, min(v.place) AS place, e.detector,
        list(DISTINCT e.key_id ORDER BY e.key_id) AS key_ids,
        list(DISTINCT coalesce(e.shared, a.ip) ORDER BY coalesce(e.shared, a.ip)) AS origins
    FROM (
        -- A campaign's evidence begins with what is shared: an address or a prefix.
        SELECT *, CASE WHEN detector = $campaign THEN split_part(actual, ' ', 1) END AS shared
        FROM evidence
        WHERE detector IN ($campaign, $migration) AND status = 'stable'
    ) AS e
    JOIN visits AS v USING (key_id, day, prefix)
    JOIN visit_addresses AS a USING (key_id, day, prefix)
    GROUP BY e.detector, v.network, e.shared
    ORDER BY e.detector, len(key_ids) DESC, v.network, origins
"""


def find_groups(lake: Lake) -> list[Group]:
    """Migrations, then campaigns, the larger first; each of `FEWEST_KEYS` keys at least."""
    groups = []
    for network, place, detector, key_ids, origins in lake.rows(
        _GROUPS, campaign=_CAMPAIGN, migration=_MIGRATION
    ):
        if len(key_ids) < FEWEST_KEYS:
            continue
        if detector == _CAMPAIGN:
            groups.append(
                Group(
                    "campaign",
                    tuple(key_ids),
                    f"{', '.join(origins)} ({place})",
                    f"one new origin is used with {len(key_ids)} keys of several owners: "
                    "one thief, until somebody explains it",
                    network,
                )
            )
        else:
            shown = ", ".join(origins[:_MOST_ORIGINS]) + (
                ", …" if len(origins) > _MOST_ORIGINS else ""
            )
            groups.append(
                Group(
                    "migration",
                    tuple(key_ids),
                    f"{network}: {shown} ({place})",
                    f"{len(key_ids)} keys moved together and otherwise behave as ever: "
                    "confirm the move once for all of them",
                    network,
                )
            )
    return groups


def raise_together(cases: Sequence[ScoredCase], groups: Sequence[Group]) -> list[ScoredCase]:
    """`cases`, in which a campaign with one key to act on has all of its keys looked at."""
    acted = {case.key_id for case in cases if case.action != "none"}
    raised = {
        key_id
        for group in groups
        if group.kind == "campaign" and acted.intersection(group.key_ids)
        for key_id in group.key_ids
    }
    look: Action = "investigate"
    return [
        replace(case, action=look) if case.action == "none" and case.key_id in raised else case
        for case in cases
    ]
