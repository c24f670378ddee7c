"""Earlier windows, judged as they would have been then: what ordinary weeks give.

A replayed window is kept in the lake and used again by later reviews; it is judged anew when the
detectors are others, or when a load has added to it since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from keywatch import __version__
from keywatch.calibration import (
    Calibration,
    Families,
    concatenate,
)
from keywatch.detectors import Detector
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.scoring import (
    ScoredCase,
    WindowEvidence,
    counting,
    judge_cases,
    visit_table,
)
from keywatch.settings import Settings

Judge = Callable[[Window], WindowEvidence]

THEFT_RATE = 0.02
"""Cases of a replayed window that would be revoked at this false discovery rate are no part of
ordinary weeks. Below the rate of ``revoke``: what is left out in error makes the rest look quieter.
"""


def thefts(judged: Sequence[Sequence[ScoredCase]]) -> list[set[str]]:
    """Of each window's cases the keys that are no part of ordinary weeks."""
    return [
        {
            case.key_id
            for case in cases
            if case.action == "revoke" and (case.q_value or 0.0) <= THEFT_RATE
        }
        for cases in judged
    ]


def revokes(judged: Sequence[Sequence[ScoredCase]]) -> int:
    """How many of the windows' cases would have been revoked."""
    return sum(case.action == "revoke" for cases in judged for case in cases)


@dataclass(frozen=True)
class Replay:
    """One replayed window; `is_new` where the lake does not have it yet.

    `stolen` are the keys that a verdict says were stolen in it.
    """

    window: Window
    evidence: WindowEvidence
    is_new: bool
    stolen: frozenset[str] = frozenset()

    @property
    def ordinary(self) -> WindowEvidence:
        """Its evidence less thefts, and less what goes on from windows before."""
        return self.evidence.without(self.stolen).begun()


@dataclass(frozen=True)
class Replays:
    """The replayed windows of a review and how they were judged."""

    method: str
    load_id: int
    replays: tuple[Replay, ...]

    def calibration(
        self, families: Families, left_out: Sequence[Set[str]] = ()
    ) -> Calibration | None:
        """What they give, less the keys `left_out` of each; None where nothing can be replayed.

        What is strange is not learnt: `left_out` is what `thefts` finds.
        """
        parts = [part.as_visits() for part in self._ordinary(left_out)]
        visits = concatenate(parts, len(families.of_detector))
        return Calibration(visits, families) if visits.total else None

    def judged(
        self, families: Families, settings: Settings, left_out: Sequence[Set[str]] = ()
    ) -> list[list[ScoredCase]]:
        """The cases of each window as the others judge it, less the keys `left_out` of each."""
        parts = self._ordinary(left_out)
        visits = [part.as_visits() for part in parts]
        judged: list[list[ScoredCase]] = []
        for nth, part in enumerate(parts):
            others = concatenate(visits[:nth] + visits[nth + 1 :], len(families.of_detector))
            judged.append(
                judge_cases(part, Calibration(others, families), settings.scoring)[0]
                if others.total
                else []
            )
        return judged

    def _ordinary(self, left_out: Sequence[Set[str]]) -> list[WindowEvidence]:
        parts = [replay.ordinary for replay in self.replays]
        if not left_out:
            return parts
        return [part.without(keys) for part, keys in zip(parts, left_out, strict=True)]

    def keep(self, lake: Lake) -> None:
        """Store those that are new; call it inside `Lake.writing`."""
        for replay in self.replays:
            if replay.is_new:
                self._keep(lake, replay)

    def _keep(self, lake: Lake, replay: Replay) -> None:
        named = {
            "method": self.method,
            "start": replay.window.start,
            "end": replay.window.end,
        }
        same = "method = $method AND window_start = $start AND window_end = $end"
        for table in ("replays", "replayed_visits"):
            lake.execute(f"DELETE FROM lake.{table} WHERE {same}", **named)
        lake.execute(
            "INSERT INTO lake.replays VALUES ($method, $start, $end, $load_id, $cases)",
            **named,
            load_id=self.load_id,
            cases=replay.evidence.cases.tolist(),
        )
        bits = pa.array(replay.evidence.bits.tolist(), pa.list_(pa.float64()))
        table = visit_table(replay.evidence, bits)
        table = table.append_column("network", pa.array(replay.evidence.networks, pa.string()))
        for name in ("goes_on", "ruled", "moved"):
            table = table.append_column(name, pa.array(getattr(replay.evidence, name), pa.bool_()))
        with lake.registered("replay_rows", table):
            lake.execute(
                "INSERT INTO lake.replayed_visits "
                "SELECT $method, $start, $end, key_id, day, prefix, bits, network, goes_on, ruled, "
                "moved FROM replay_rows",
                **named,
            )


def replay(
    lake: Lake, window: Window, settings: Settings, detectors: Sequence[Detector], judge: Judge
) -> Replays:
    """The windows before `window`, judged by `judge` where the lake does not have them."""
    method = _method(settings, detectors)
    load_id = lake.value("SELECT coalesce(max(load_id), 0) FROM lake.ingested_files")
    names = tuple(detector.id for detector in counting(detectors))
    found = [
        _stored(lake, method, earlier, names) or _judged(earlier, judge)
        for earlier in windows_before(lake, window, settings)
    ]
    return Replays(
        method,
        load_id,
        tuple(replace(each, stolen=_stolen(lake, each.window)) for each in found),
    )


def _stolen(lake: Lake, window: Window) -> frozenset[str]:
    rows = lake.rows(
        "SELECT DISTINCT key_id FROM verdicts_in_force() "
        "WHERE verdict = 'compromised' AND window_start < $end AND window_end > $start",
        start=window.start,
        end=window.end,
    )
    return frozenset(key_id for (key_id,) in rows)


def windows_before(lake: Lake, window: Window, settings: Settings) -> list[Window]:
    """The windows before `window`, of its length and back to back, the newest first.

    At most ``review.replayed_windows``, each with ``review.replay_history_days`` of log before it.
    """
    first = lake.value("SELECT min(first_ts) FROM lake.ingested_files")
    if first is None:
        return []
    length = window.end - window.start
    enough = first.date() + timedelta(days=settings.review.replay_history_days)
    earlier = (
        Window(window.start - nth * length, window.end - nth * length)
        for nth in range(1, settings.review.replayed_windows + 1)
    )
    return [each for each in earlier if each.start.date() >= enough]


def _judged(window: Window, judge: Judge) -> Replay:
    # A fact is a theft, and no ordinary week.
    return Replay(window, judge(window).without_facts(), is_new=True)


def _stored(lake: Lake, method: str, window: Window, detectors: tuple[str, ...]) -> Replay | None:
    named = {"method": method, "start": window.start, "end": window.end}
    same = "method = $method AND window_start = $start AND window_end = $end"
    found = lake.rows(
        f"SELECT cases FROM lake.replays AS r WHERE {same} AND NOT EXISTS ("
        "SELECT * FROM lake.ingested_files AS f "
        "WHERE f.load_id > r.load_id AND f.first_ts < r.window_end)",
        **named,
    )
    if not found:
        return None
    rows = lake.table(
        "SELECT key_id, day, prefix, bits, network, goes_on, ruled, moved "
        f"FROM lake.replayed_visits WHERE {same} ORDER BY key_id, day, prefix",
        **named,
    )
    columns = [rows[name].to_pylist() for name in ("key_id", "day", "prefix")]
    bits = rows["bits"].combine_chunks().flatten().to_numpy()
    evidence = WindowEvidence(
        detectors=detectors,
        visits=tuple(zip(*columns, strict=True)),
        networks=tuple(rows["network"].to_pylist()),
        goes_on=np.array(rows["goes_on"].to_pylist(), bool),
        bits=bits.reshape(-1, len(detectors)),
        facts=np.zeros(len(rows)),
        ruled=np.array(rows["ruled"].to_pylist(), bool),
        moved=np.array(rows["moved"].to_pylist(), bool),
        cases=np.array(found[0][0], np.int64),
    )
    return Replay(window, evidence, is_new=False)


def _method(settings: Settings, detectors: Sequence[Detector]) -> str:
    """Names how windows are judged: 16 hex digits."""
    parts: list[object] = [__version__, settings.review.baseline_days]
    parts += [each.identity for each in counting(detectors)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
