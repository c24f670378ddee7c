"""Earlier windows, judged as they would have been then: what ordinary weeks give.

A replayed window is kept in the lake and used again by later reviews; it is judged anew when the
detectors are others, or when a load has added to it since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from keywatch import __version__
from keywatch.calibration import (
    Calibration,
    Families,
    concatenate,
    q_values,
)
from keywatch.detectors import Detector
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.scoring import WindowEvidence, counting, visit_table
from keywatch.settings import Settings

Judge = Callable[[Window], WindowEvidence]


@dataclass(frozen=True)
class Replay:
    """One replayed window; `is_new` where the lake does not have it yet."""

    window: Window
    evidence: WindowEvidence
    is_new: bool


@dataclass(frozen=True)
class Replays:
    """The replayed windows of a review and how they were judged."""

    method: str
    load_id: int
    replays: tuple[Replay, ...]

    def calibration(self, families: Families, settings: Settings) -> Calibration | None:
        """What they give; None where they are too few to tell what the analysts' budget is of.

        The budget looks at one case in so many: with fewer cases no p-value is as small.
        """
        visits = concatenate(
            [replay.evidence.as_visits() for replay in self.replays], len(families.of_detector)
        )
        share = settings.scoring.investigate_per_1000_keys / 1000
        if not visits.total or 0 < (visits.total + 1) * share < 1:
            return None
        return Calibration(visits, families)

    def revoked(self, calibration: Calibration, settings: Settings) -> int:
        """How many replayed cases would have been revoked: false alarms, if all was well then."""
        scoring = settings.scoring
        revoked, first = 0, 0
        for replay in self.replays:
            count = len(replay.evidence.visits)
            bits = calibration.replayed_bits[first : first + count]
            case = calibration.replayed.case[first : first + count]
            first += count
            total = calibration.families.total(bits)
            worst = np.lexsort((-total, case))
            worst = worst[np.diff(case[worst], prepend=-1) != 0]
            q = q_values(calibration.p_values(total[worst]), replay.evidence.keys)
            of_family = calibration.families.bits(bits[worst])
            has_two = (of_family >= scoring.second_family_bits).sum(axis=1) >= 2
            revoked += int(((q <= scoring.false_revoke_rate) & has_two).sum())
        return revoked

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
        with lake.registered("replay_rows", visit_table(replay.evidence, bits)):
            lake.execute(
                "INSERT INTO lake.replayed_visits "
                "SELECT $method, $start, $end, key_id, day, prefix, bits FROM replay_rows",
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
    return Replays(method, load_id, tuple(found))


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
        f"SELECT key_id, day, prefix, bits FROM lake.replayed_visits WHERE {same} "
        "ORDER BY key_id, day, prefix",
        **named,
    )
    columns = [rows[name].to_pylist() for name in ("key_id", "day", "prefix")]
    bits = rows["bits"].combine_chunks().flatten().to_numpy()
    evidence = WindowEvidence(
        detectors=detectors,
        visits=tuple(zip(*columns, strict=True)),
        bits=bits.reshape(-1, len(detectors)),
        facts=np.zeros(len(rows)),
        cases=np.array(found[0][0], np.int64),
    )
    return Replay(window, evidence, is_new=False)


def _method(settings: Settings, detectors: Sequence[Detector]) -> str:
    """Names how windows are judged: 16 hex digits."""
    parts: list[object] = [__version__, settings.review.baseline_days]
    parts += [(each.id, each.sql, sorted(each.params.items())) for each in detectors]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
