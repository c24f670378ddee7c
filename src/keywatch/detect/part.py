"""Some keys of a window, scored beside what the last scoring of all of them found of the others.

What a key's own past and its owner's say is as in a scoring of all: a key is scored with those
whose past is its own too, and with those of its owner that came upon a new network, which may have
moved with it. Of the owner's other keys the tables have where they were. What rests on keys at
large is as of the last scoring: who else calls what (`detectors.BY_KEY`) and the fitted models
(`detectors.OF_ALL`, and those of the kinds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from keywatch.detect import detectors, scoring
from keywatch.detect.detectors import Detector
from keywatch.detect.replay import Replayed, Replays
from keywatch.detect.scored_window import Said, ScoredWindow, mark_visits, scored_of
from keywatch.detect.scoring import WindowEvidence
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import Settings
from keywatch.vendors import catalogue_by_source

_MOST_SHARE = 0.5
"""Of the keys in use: to score more of them takes no less than to score all."""
_MOST_ROUNDS = 3


@dataclass(frozen=True)
class Known:
    """What is known of all keys of a window, for a part of them to be scored anew.

    `key_ids` are those in use; `window_evidence` is what the detectors said of them; `rows` are the
    tables of `detectors.BY_KEY`, `OF_KIN` and `OF_ALL`, and `fitted` the models of the detectors
    that have one. `arrived` came upon a new network; `heirs` are pairs of keys, the first of which
    has the past of the second one, too.
    """

    window: Window
    detectors: tuple[Detector, ...]
    replays: Replays
    replayed: Replayed
    window_evidence: WindowEvidence
    key_ids: Set[str]
    rows: Mapping[str, pa.Table]
    fitted: Mapping[str, Any]
    arrived: Set[str]
    heirs: Set[tuple[str, str]]

    @classmethod
    def of(cls, lake: Lake, scored: ScoredWindow) -> Known:
        """What `scored` leaves once it is stored: all keys, whose tables the temporary ones are."""
        names = (*detectors.BY_KEY, *detectors.OF_KIN, *detectors.OF_ALL)
        return cls._of(lake, scored, {name: lake.table(f"FROM {name}") for name in names})

    @classmethod
    def _of(cls, lake: Lake, scored: ScoredWindow, rows: Mapping[str, pa.Table]) -> Known:
        stored = tuple(replace(each, is_new=False) for each in scored.replays.replays)
        return cls(
            window=scored.window,
            detectors=scored.detectors,
            replays=replace(scored.replays, replays=stored),
            replayed=scored.replayed,
            window_evidence=scored.window_evidence,
            key_ids={key_id for (key_id,) in lake.rows("FROM window_keys")},
            rows=rows,
            fitted=scored.fitted,
            arrived={key_id for (key_id,) in lake.rows("SELECT DISTINCT key_id FROM new_networks")},
            heirs={*lake.rows("FROM lineage SEMI JOIN window_keys USING (key_id) "
                              "WHERE key_id <> ancestor")},
        )  # fmt: skip

    def after(self, lake: Lake, scored: ScoredWindow, part: Set[str]) -> Known:
        """The same once a part was `scored`; the temporary tables are the part's."""
        rows = {name: lake.table(f"FROM {name}") for name in (*detectors.BY_KEY, *detectors.OF_ALL)}
        for name in detectors.OF_KIN:
            own = lake.table(f"FROM {name} SEMI JOIN window_keys USING (key_id)")
            rows[name] = pa.concat_tables([own, _without(self.rows[name], part)])
        new = self._of(lake, scored, rows)
        return replace(
            new,
            key_ids=self.key_ids | new.key_ids,
            arrived=(self.arrived - part) | new.arrived,
            heirs={pair for pair in self.heirs if pair[0] not in part} | new.heirs,
        )

    def beside(self, part: Set[str], kin: Set[str]) -> dict[str, pa.Table]:
        """The rows of all keys beside the part, of `OF_KIN` its kin's; and what is of all."""
        import pyarrow.compute as pc

        def of_others(name: str, rows: pa.Table) -> pa.Table:
            if name in detectors.OF_ALL:
                return rows
            if name in detectors.OF_KIN:
                return rows.filter(pc.is_in(rows["key_id"], _array(kin)))
            return _without(rows, part)

        found = {name: of_others(name, rows) for name, rows in self.rows.items()}
        return found | {"keys_in_use": pa.table({"key_id": _array(self.key_ids - part)})}

    def drawn_in(self, lake: Lake, key_ids: Set[str]) -> tuple[Set[str], Set[str]]:
        """The keys to score for these, and the other kin of all of them.

        A detector that is not ours may read any table of an owner's other keys: then all kin are
        scored.
        """
        reads_kin = any(each.history == "owner" and not each.is_bundled for each in self.detectors)
        part = key_ids
        while True:
            kin = frozenset(detectors.kin(lake, sorted(part)))
            if reads_kin:
                return kin, frozenset()
            # What a key has that was not in use yet, no table says.
            new = part - self.key_ids
            found = part | (frozenset(detectors.kin(lake, sorted(new))) if new else frozenset())
            found |= kin & self.arrived
            found |= {each for pair in self.heirs if not found.isdisjoint(pair) for each in pair}
            if found == part:
                return part, kin - part
            part = found


@dataclass(frozen=True)
class Part:
    """Keys that were scored; `known` is what is known of all keys then.

    The cases, groups and evidence of `scored` are theirs, without upkeep.
    """

    key_ids: Set[str]
    scored: ScoredWindow
    known: Known


def score_part(lake: Lake, known: Known, key_ids: Set[str], settings: Settings) -> Part | None:
    """The window's scoring of these keys; how rare each is, is told among all keys.

    Afterwards the temporary tables are those of the part, with the others' rows in
    `detectors.BY_KEY`. None where this is no less work than to score all keys, or does not do: a
    key beside the part would be acted on, or a detector that is not ours compares with peers, by
    tables that may not have them.
    """
    if any(each.may_read_all_keys for each in known.detectors):
        return None
    part = key_ids
    for _ in range(_MOST_ROUNDS):
        part, beside = known.drawn_in(lake, part)
        if len(part & known.key_ids) > _MOST_SHARE * len(known.key_ids):
            return None
        companions = _score(lake, known, part, beside, settings)
        if not companions:
            break
        part |= companions
    else:
        return None
    merged = _merged(known, scoring.gather(lake, known.detectors), part)
    said = Said.of(lake, known.detectors, merged)
    scored = scored_of(
        lake, known.window, known.detectors, known.replays, known.replayed, said, settings,
        known.fitted,
    )  # fmt: skip
    scored = replace(scored, case_visits=mark_visits(lake, scored, whole=False))
    if any(case.recommended != "none" for case in scored.cases if case.key_id not in part):
        return None
    own = tuple(case for case in scored.cases if case.key_id in part)
    return Part(part, replace(scored, cases=own), known.after(lake, scored, part))


def _array(key_ids: Iterable[str]) -> pa.Array:
    return pa.array(sorted(key_ids), pa.string())


def _without(rows: pa.Table, key_ids: Set[str]) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.invert(pc.is_in(rows["key_id"], _array(key_ids))))


def _score(
    lake: Lake, known: Known, part: Set[str], beside: Set[str], settings: Settings
) -> frozenset[str]:
    """Have the detectors score the part; other keys that came upon the same new place with one."""
    window = known.window
    detectors.prepare_part(
        lake,
        sorted(part),
        sorted(beside),
        window,
        settings.review.baseline_days,
        catalogue_by_source(),
        known.beside(part, beside) | detectors.of_whole_window(lake, window),
    )
    fitted = dict(known.fitted)
    for detector in known.detectors:
        if not detector.hygiene:
            detectors.run(lake, detector, window, fitted)
    others = "key_id NOT IN (SELECT unnest($part::VARCHAR[]))"
    rows = lake.rows(
        f"""
        SELECT DISTINCT key_id FROM evidence
        WHERE {others} AND (detector, subject) IN (
            SELECT (detector, subject) FROM evidence WHERE NOT {others})
        """,
        part=sorted(part),
    )
    lake.execute(f"DELETE FROM evidence WHERE {others}", part=sorted(part))
    return frozenset(key_id for (key_id,) in rows)


def _merged(known: Known, evidence: WindowEvidence, part: Set[str]) -> WindowEvidence:
    """What is said of all keys: of the part anew."""
    others = known.window_evidence.without(part & known.key_ids)
    return replace(
        others.and_visits_of([evidence]),
        cases=others.cases + evidence.cases,
        fact_actions={
            key_id: action
            for key_id, action in known.window_evidence.fact_actions.items()
            if key_id not in part
        }
        | dict(evidence.fact_actions),
    )
