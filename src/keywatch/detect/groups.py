"""Keys that belong together: one theft on many keys, or one move of many keys.

Their members are found in the temporary tables of `detectors.prepare_window` and ``evidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from keywatch.detect.detectors import Detector
from keywatch.detect.scoring import ScoredCase
from keywatch.lake import Lake
from keywatch.model import Action, Group, GroupKind

FEWEST_KEYS = 2
_MOST_ORIGINS = 3

_MEMBERS = """
    SELECT DISTINCT g.kind, v.network, v.place, e.key_id, e.subject,
        coalesce(e.subject, a.ip) AS origin
    FROM evidence AS e
    JOIN (
        SELECT unnest($detectors::VARCHAR[]) AS detector, unnest($kinds::VARCHAR[]) AS kind
    ) AS g USING (detector)
    JOIN visits AS v USING (key_id, day, prefix)
    JOIN visit_addresses AS a USING (key_id, day, prefix)
"""
_GROUPS = """
    SELECT kind, network, min(place) AS place,
        list(DISTINCT key_id ORDER BY key_id) AS key_ids,
        list(DISTINCT origin ORDER BY origin) AS origins
    FROM group_members
    GROUP BY kind, network, subject
    ORDER BY kind = 'campaign', len(key_ids) DESC, network, origins
"""


def find_members(lake: Lake, loaded: Sequence[Detector]) -> pa.Table:
    """The keys that may belong together: kind, network, place, key_id, subject, origin.

    The detectors among `loaded` that say `groups_as` find them, but for those on trial.
    """
    grouping = [each for each in loaded if each.groups_as and each.status == "stable"]
    return lake.table(
        _MEMBERS,
        detectors=[each.id for each in grouping],
        kinds=[each.groups_as for each in grouping],
    )


def groups_of(lake: Lake, members: pa.Table) -> list[Group]:
    """Migrations, then campaigns, the larger first; each of `FEWEST_KEYS` keys at least.

    `members` are as of `find_members`; of the lake nothing is read.
    """
    with lake.registered("group_members", members):
        rows = lake.rows(_GROUPS)
    return [
        _group(kind, network, place, key_ids, origins)
        for kind, network, place, key_ids, origins in rows
        if len(key_ids) >= FEWEST_KEYS
    ]


def _group(
    kind: GroupKind, network: str, place: str, key_ids: Sequence[str], origins: Sequence[str]
) -> Group:
    if kind == "campaign":
        origin = f"{', '.join(origins)} ({place})"
        explanation = (
            f"one new origin uses {len(key_ids)} keys of several owners: "
            "treat it as one thief until it is explained"
        )
    else:
        more = ", …" if len(origins) > _MOST_ORIGINS else ""
        origin = f"{network}: {', '.join(origins[:_MOST_ORIGINS])}{more} ({place})"
        explanation = (
            f"{len(key_ids)} keys moved together and otherwise behave as usual: "
            "confirm the move once for all of them"
        )
    return Group(kind, tuple(key_ids), origin, explanation, network)


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
