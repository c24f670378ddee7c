"""Earlier windows, scored as they would have been then: what ordinary weeks give.

A replayed window is kept in the lake and used again by later reviews, and so is the reviewed one,
which is the next week's first replay. A window is scored anew when the detectors or the vendors'
catalogues are others, when the analysts now say something else of it, or when the log or the
inventory now says something else of many of its keys (`MOST_CHANGED_KEYS`).

What is no part of ordinary weeks is left out (`LeftOut`), or whoever holds one key could hide the
theft of the next behind it: a case that would have been revoked, a key that is strange again and
again, and a window in which more keys are strange than in the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa

from keywatch import __version__
from keywatch.detect.calibration import Calibration, Families, alike, bits_of
from keywatch.detect.detectors import Detector
from keywatch.detect.scoring import (
    ScoredCase,
    WindowEvidence,
    counting,
    score_cases,
    score_of_keys,
    visits_in,
)
from keywatch.lake import Lake
from keywatch.model import Window
from keywatch.settings import Settings
from keywatch.vendors import catalogue_by_source

ScoreWindows = Callable[[Sequence[Window]], Sequence[WindowEvidence]]
"""Windows → what the detectors say of each."""

THEFT_RATE = 0.02
"""Cases of a replayed window that would be revoked at this false discovery rate are no part of
ordinary weeks. Below the rate of ``revoke``: what is left out in error makes the rest look quieter.
"""


STRANGE_SHARE = 0.05
"""A case is strange where at most this share of the other windows' cases have as many bits."""
NOISY_WINDOWS = 2
"""A key that is strange in so many windows is noisy."""
OUTLYING_SHARE = 0.02
OUTLYING_CHANCE = 0.001
"""A window is outlying where it has so many cases as rare as the share above that, at the rate of
the other windows, chance gives as many in one window of a thousand."""
MOST_OUTLYING = 1 / 3
"""Of the windows: more of them are no exception."""
MOST_CHANGED_KEYS = 0.01
"""A replay stays as it is while at most this share of its keys have late lines, or are another row
of the inventory.

A window is reviewed before its late lines come, and by the inventory of its day: so its own replay
is no worse a comparison. It moves no p-value by more than this. Chosen, not tuned; 0 would have a
single line with an old time, or a new owner of one key, replay all windows.
"""


@dataclass(frozen=True)
class LeftOut:
    """What of the replayed windows is no part of ordinary weeks.

    `thefts` are keys of each window; `noisy` keys speak for themselves only, in all windows;
    `outlying` windows, by number, speak for none. `weight` makes up for keys that are noisy by
    chance: what is left is weighted by it.
    """

    thefts: tuple[frozenset[str], ...] = ()
    noisy: frozenset[str] = frozenset()
    outlying: frozenset[int] = frozenset()
    weight: float = 1.0

    def __bool__(self) -> bool:
        return bool(any(self.thefts) or self.noisy or self.outlying)


NOTHING = LeftOut()
_DIGITS = 16
"""Of what is known of a window (`_known_of`): so many say the inventory's part, so many the
analysts'."""


def to_leave_out(scored: Sequence[Sequence[ScoredCase]]) -> LeftOut:
    """Of the cases of each window, each scored by the others, what is not ordinary."""
    strange = [{case.key_id for case in cases if _is_rare(case, STRANGE_SHARE)} for cases in scored]
    times = Counter(key_id for keys in strange for key_id in keys)
    noisy = frozenset(key_id for key_id, count in times.items() if count >= NOISY_WINDOWS)
    return LeftOut(
        thefts=tuple(frozenset(_thefts(cases)) for cases in scored),
        noisy=noisy,
        outlying=_outlying(scored),
        weight=_weight(times, noisy, len(scored)),
    )


def _thefts(cases: Sequence[ScoredCase]) -> set[str]:
    return {
        case.key_id
        for case in cases
        if case.action == "revoke" and (case.q_value or 0.0) <= THEFT_RATE
    }


def _is_rare(case: ScoredCase, share: float) -> bool:
    return case.p_value is not None and case.p_value <= share


def _outlying(scored: Sequence[Sequence[ScoredCase]]) -> frozenset[int]:
    """The windows with too many rare cases, the worst of them where there are many."""
    from scipy.special import pdtrc

    counts = [sum(_is_rare(case, OUTLYING_SHARE) for case in cases) for cases in scored]
    found = []
    for nth, count in enumerate(counts):
        others = counts[:nth] + counts[nth + 1 :]
        usual = max(float(np.median(others)), 1.0) if others else float("inf")
        if pdtrc(count - 1, usual) < OUTLYING_CHANCE:
            found.append(nth)
    most = int(len(counts) * MOST_OUTLYING)
    return frozenset(sorted(found, key=lambda nth: -counts[nth])[:most])


def _weight(times: Counter[str], noisy: frozenset[str], windows: int) -> float:
    """By how much the strange cases that are left stand for those of the noisy keys too.

    At most as if strange weeks befell keys by chance: of as many as were strange in one window,
    ``(1 - STRANGE_SHARE) ** (windows - 1)`` are in no other.
    """
    left = sum(count for key_id, count in times.items() if key_id not in noisy)
    by_chance = (1 - STRANGE_SHARE) ** (1 - windows)
    return float(min(times.total() / left, by_chance)) if left else 1.0


def _revokes(scored: Sequence[Sequence[ScoredCase]]) -> int:
    return sum(case.action == "revoke" for cases in scored for case in cases)


@dataclass(frozen=True)
class Replay:
    """One replayed window; `is_new` where the lake does not have it yet.

    `known` names what the inventory and the analysts say of it (`_known_of`); `stolen` are the keys
    that a verdict says were stolen in it.
    """

    window: Window
    evidence: WindowEvidence
    is_new: bool
    known: str = ""
    stolen: frozenset[str] = frozenset()

    @property
    def ordinary(self) -> WindowEvidence:
        """Its evidence less thefts, and less what goes on from windows before."""
        return self.evidence.without(self.stolen).begun()


@dataclass(frozen=True)
class Replays:
    """The replayed windows of a review and how they were scored, after which load and import.

    `known` names what is said of the reviewed window (`_known_of`); None where too little of the
    log lies before it for a replay.
    """

    method: str
    load_id: int
    import_id: int
    replays: tuple[Replay, ...]
    known: str | None = None

    def and_reviewed(self, window: Window, evidence: WindowEvidence) -> Replays:
        """These and the reviewed window with its evidence: what the next review replays."""
        if self.known is None:
            return self
        own = Replay(window, evidence.without_facts(), is_new=True, known=self.known)
        return replace(self, replays=(own, *self.replays))

    def calibration(self, families: Families, without: LeftOut) -> Calibration | None:
        """What they give, less what is left out; None where nothing can be replayed."""
        kept = self._kept(without)
        calibration = _calibration([part.without(without.noisy) for part in kept], families)
        if calibration is None:
            return None
        own: dict[str, list[float]] = {}
        for part in kept:
            for key_id, bits in score_of_keys(part.of(without.noisy), calibration).items():
                own.setdefault(key_id, []).append(bits)
        return replace(calibration, own=own, windows=len(kept), weight=without.weight)

    def scored(
        self, families: Families, settings: Settings, without: LeftOut = NOTHING
    ) -> list[list[ScoredCase]]:
        """The cases of each window as the others score it, less what is left out.

        They do not say what of them is from which family and detector.
        """
        parts = self._kept(without)
        quiet = [part.without(without.noisy) for part in parts]
        scored: list[list[ScoredCase]] = []
        for nth, part in enumerate(parts):
            others = _calibration(quiet[:nth] + quiet[nth + 1 :], families)
            cases = score_cases(part, others, settings.scoring, told=False)[0] if others else []
            scored.append(cases)
        return scored

    def _kept(self, without: LeftOut) -> list[WindowEvidence]:
        thefts = without.thefts or (frozenset(),) * len(self.replays)
        return [
            each.ordinary.without(keys)
            for nth, (each, keys) in enumerate(zip(self.replays, thefts, strict=True))
            if nth not in without.outlying
        ]

    def keep(self, lake: Lake) -> None:
        """Store those that are new; call it inside `Lake.writing`."""
        new = [each for each in self.replays if each.is_new]
        if not new:
            return
        # Whatever was said of it. To delete where nothing is takes longer than to look.
        for table in ("replays", "replayed_visits"):
            same = f"FROM lake.{table} WHERE starts_with(method, $method)"
            there = lake.rows(
                f"SELECT DISTINCT window_start, window_end {same}", method=self.method
            )
            for window in (each.window for each in new):
                if (window.start, window.end) in there:
                    lake.execute(
                        f"DELETE {same} AND window_start = $start AND window_end = $end",
                        method=self.method,
                        start=window.start,
                        end=window.end,
                    )
        for replay in new:
            self._keep(lake, replay)

    def _keep(self, lake: Lake, replay: Replay) -> None:
        named = {
            "method": f"{self.method}-{replay.known}-{self.import_id}",
            "start": replay.window.start,
            "end": replay.window.end,
        }
        lake.execute(
            "INSERT INTO lake.replays VALUES ($method, $start, $end, $load_id, $cases)",
            **named,
            load_id=self.load_id,
            cases=replay.evidence.cases.tolist(),
        )
        rows, detectors = replay.evidence.bits.shape
        each = np.arange(rows + 1, dtype=np.int32) * detectors
        bits = pa.ListArray.from_arrays(each, pa.array(replay.evidence.bits.toarray().ravel()))
        table = replay.evidence.visits.append_column("bits", bits)
        for name in ("goes_on", "ruled", "moved"):
            table = table.append_column(name, pa.array(getattr(replay.evidence, name), pa.bool_()))
        with lake.registered("replay_rows", table):
            lake.execute(
                "INSERT INTO lake.replayed_visits "
                "SELECT $method, $start, $end, key_id, day, prefix, bits, network, goes_on, ruled, "
                "moved FROM replay_rows",
                **named,
            )


@dataclass(frozen=True)
class Replayed:
    """The windows that were replayed for a window, how they were scored, and what they give.

    `revokes` counts the cases of all windows that would have been revoked, each as the others score
    it; `left_out` is what of them is no part of ordinary weeks, and `calibration` what the rest
    give: None where nothing can be replayed.
    Where the last call of this process was about the like windows, `of` gives the same object: the
    feed scores one week again and again.
    """

    replays: Replays
    families: Families
    settings: Settings
    revokes: int
    left_out: LeftOut
    calibration: Calibration | None

    @classmethod
    def of(cls, replays: Replays, families: Families, settings: Settings) -> Replayed:
        """What `replays` give."""
        for last in _last:
            if last._is_of(replays, families, settings):
                return last
        cases = replays.scored(families, settings)
        left_out = to_leave_out(cases)
        calibration = replays.calibration(families, left_out)
        _last[:] = [cls(replays, families, settings, _revokes(cases), left_out, calibration)]
        return _last[0]

    def _is_of(self, replays: Replays, families: Families, settings: Settings) -> bool:
        return (
            self.settings.scoring == settings.scoring
            and alike(self.families, families)
            and len(self.replays.replays) == len(replays.replays)
            and all(
                (one.window, one.stolen) == (other.window, other.stolen)
                and alike(one.evidence, other.evidence)
                for one, other in zip(self.replays.replays, replays.replays, strict=True)
            )
        )

    @property
    def scale(self) -> Calibration | Families:
        """What a window is scored by: the calibration, or the families alone."""
        return self.calibration or self.families

    @cached_property
    def remaining_revokes(self) -> int:
        """`revokes`, less what is left out, as what remains scores them."""
        if not self.left_out:
            return self.revokes
        return _revokes(self.replays.scored(self.families, self.settings, self.left_out))


_last: list[Replayed] = []
"""What `Replayed.of` gave last, if anything."""


def _calibration(parts: Sequence[WindowEvidence], families: Families) -> Calibration | None:
    visits = [part.as_visits() for part in parts]
    return Calibration.of(visits, families) if any(each.cases.any() for each in visits) else None


def replay(
    lake: Lake,
    window: Window,
    settings: Settings,
    detectors: Sequence[Detector],
    score: ScoreWindows,
) -> Replays:
    """The windows before `window`, scored by `score` where the lake does not have them."""
    method = _method(settings, detectors)
    load_id, import_id = (
        lake.value(f"SELECT coalesce(max({last}), 0) FROM lake.{table}")
        for last, table in (("load_id", "ingested_files"), ("import_id", "keys"))
    )
    names = tuple(detector.id for detector in counting(detectors))
    windows = windows_before(lake, window, settings)
    first = _first_replayed(lake, settings)
    has_past = first is not None and window.start.date() >= first
    said = _known_of(lake, [window, *windows] if has_past else windows)
    stored = _stored(lake, method, {each: said[each] for each in windows}, names)
    missing = [each for each in windows if each not in stored]
    # A fact is a theft, and no ordinary week.
    found = stored | {
        each: Replay(each, evidence.without_facts(), is_new=True)
        for each, evidence in zip(missing, score(missing), strict=True)
    }
    stolen = _stolen(lake)
    return Replays(
        method,
        load_id,
        import_id,
        tuple(
            replace(each, known=said[each.window], stolen=_within(stolen, each.window))
            for each in map(found.__getitem__, windows)
        ),
        said.get(window),
    )


def _known_of(lake: Lake, windows: Sequence[Window]) -> dict[Window, str]:
    """Names what the inventory and the analysts say of the keys of each window; 32 hex digits.

    Of what came after the window, such as a new key, a revocation or a later theft, nothing: what
    is about today leaves the replays of earlier weeks as they are.
    """
    if not windows:
        return {}
    rows = lake.rows(
        f"""
        WITH windows AS (
            SELECT DISTINCT unnest($starts::TIMESTAMP[]) AS window_start,
                unnest($ends::TIMESTAMP[]) AS window_end
        ),

        used AS (SELECT key_id, min(day) AS first_day FROM lake.activity GROUP BY key_id),

        inventory AS (
            SELECT w.window_start, w.window_end, bit_xor({_row_until("w.window_end")}) AS said
            FROM windows AS w, inventory_in_force() AS i
            LEFT JOIN used AS u USING (key_id)
            WHERE created_at IS NULL OR created_at < w.window_end OR u.first_day < w.window_end
            GROUP BY ALL
        ),

        flagged AS (
            SELECT w.window_start, w.window_end, bit_xor(hash(f.key_id, f.day, f.prefix)) AS said
            FROM windows AS w
            JOIN (SELECT DISTINCT key_id, day, prefix FROM lake.flagged_visits) AS f
                ON f.day < w.window_start
            GROUP BY ALL
        ),

        verdicts AS (
            SELECT w.window_start, w.window_end, bit_xor(hash(
                v.key_id, v.window_start, v.window_end, v.verdict, v.origins)) AS said
            FROM windows AS w
            JOIN verdicts_in_force() AS v ON v.window_start < w.window_start
            GROUP BY ALL
        ),

        expected AS (
            SELECT w.window_start, w.window_end, bit_xor(hash(
                s.key_id, s.origin, s.families, s.starts_on, s.ends_on)) AS said
            FROM windows AS w
            JOIN lake.suppressions AS s
                ON s.starts_on < w.window_end AND s.ends_on >= w.window_start
            GROUP BY ALL
        )

        SELECT w.window_start, w.window_end, coalesce(i.said, 0),
            hash(coalesce(f.said, 0), coalesce(v.said, 0), coalesce(e.said, 0))
        FROM windows AS w
        LEFT JOIN inventory AS i USING (window_start, window_end)
        LEFT JOIN flagged AS f USING (window_start, window_end)
        LEFT JOIN verdicts AS v USING (window_start, window_end)
        LEFT JOIN expected AS e USING (window_start, window_end)
        """,
        starts=[each.start for each in windows],
        ends=[each.end for each in windows],
    )
    return {
        Window(start, end): f"{inventory:0{_DIGITS}x}{analysts:0{_DIGITS}x}"
        for start, end, inventory, analysts in rows
    }


def _row_until(end: str) -> str:
    """What a row of the inventory says of the time until `end`, hashed; in SQL."""
    return (
        'hash(key_id, "key", name, owner, environment, list_sort(scopes), created_at, replaces, '
        f"honey, CASE WHEN expires_at < {end} THEN expires_at END, "
        f"CASE WHEN revoked_at < {end} THEN revoked_at END)"
    )


def _stolen(lake: Lake) -> list[tuple[str, Window]]:
    """The keys that a verdict says were stolen, each with the window it is about."""
    rows = lake.rows(
        "SELECT key_id, window_start, window_end FROM verdicts_in_force() "
        "WHERE verdict = 'compromised'"
    )
    return [(key_id, Window(start, end)) for key_id, start, end in rows]


def _within(stolen: Sequence[tuple[str, Window]], window: Window) -> frozenset[str]:
    return frozenset(
        key_id for key_id, about in stolen if about.start < window.end and about.end > window.start
    )


def windows_before(lake: Lake, window: Window, settings: Settings) -> list[Window]:
    """The windows before `window`, of its length and back to back, the newest first.

    At most ``review.replayed_windows``, each with ``review.replay_history_days`` of log before it.
    """
    first = _first_replayed(lake, settings)
    if first is None:
        return []
    length = window.end - window.start
    earlier = (
        Window(window.start - nth * length, window.end - nth * length)
        for nth in range(1, settings.review.replayed_windows + 1)
    )
    return [each for each in earlier if each.start.date() >= first]


def _first_replayed(lake: Lake, settings: Settings) -> date | None:
    """The first day with enough of the log before it; None for an empty lake."""
    begin = lake.steady_value("SELECT min(first_ts) FROM lake.ingested_files")
    if begin is None:
        return None
    first: date = begin.date() + timedelta(days=settings.review.replay_history_days)
    return first


def _stored(
    lake: Lake, method: str, known: Mapping[Window, str], detectors: tuple[str, ...]
) -> dict[Window, Replay]:
    """Those of the windows, of which this is `known`, that the lake has and of few changed keys."""
    if not known:
        return {}
    found = lake.rows(
        "SELECT window_start, window_end, method, cases, load_id, EXISTS ("
        "FROM lake.ingested_files AS f "
        "WHERE f.load_id > r.load_id AND f.first_ts < r.window_end) AS is_added_to "
        "FROM lake.replays AS r WHERE starts_with(method, $method) "
        "AND window_start >= $first AND window_end <= $last",
        method=f"{method}-",
        first=min(each.start for each in known),
        last=max(each.end for each in known),
    )
    stored = {}
    for start, end, named, cases, load_id, is_added_to in found:
        window = Window(start, end)
        then, _, import_id = named.removeprefix(f"{method}-").partition("-")
        now = known.get(window)
        if now is None or then[_DIGITS:] != now[_DIGITS:] or not (import_id or then == now):
            continue
        changed = 0
        if then != now:
            changed += _keys_of_other_rows(lake, window, int(import_id))
        if is_added_to:
            changed += _late_keys(lake, window, load_id)
        if changed <= MOST_CHANGED_KEYS * sum(cases):
            stored[window] = _from_lake(lake, window, named, detectors, cases)
    return stored


def _keys_of_other_rows(lake: Lake, window: Window, import_id: int) -> int:
    """Of how many keys the inventory says something else of the window than at an import."""
    now, before = (
        f"SELECT key_id, {_row_until('$end')} AS said FROM {inventory} "
        "WHERE created_at IS NULL OR created_at < $end "
        "OR key_id IN (SELECT key_id FROM lake.activity WHERE day < $end)"
        for inventory in ("inventory_in_force()", "inventory_in_force(import := $import_id)")
    )
    found: int = lake.value(
        f"SELECT count(*) FROM ({before}) AS b FULL JOIN ({now}) AS n USING (key_id) "
        "WHERE b.said IS DISTINCT FROM n.said",
        end=window.end,
        import_id=import_id,
    )
    return found


def _late_keys(lake: Lake, window: Window, load_id: int) -> int:
    """How many keys have lines until the window's end in loads after `load_id`.

    However old these are: when a key was first seen somewhere is read of all of the lake.
    """
    found: int = lake.value(
        "SELECT count(DISTINCT key_id) FROM lake.activity "
        "ANTI JOIN unknown_credentials_until($end) USING (key_id) "
        "WHERE load_id > $load_id AND day < $end",
        load_id=load_id,
        end=window.end.date(),
    )
    return found


def _from_lake(
    lake: Lake, window: Window, method: str, detectors: tuple[str, ...], cases: Sequence[int]
) -> Replay:
    """The replay of `window`, which the lake has: a window at a time, for in full it is large."""
    rows = lake.table(
        "SELECT key_id, day, prefix, bits, network, goes_on, ruled, moved "
        "FROM lake.replayed_visits "
        "WHERE method = $method AND window_start = $start AND window_end = $end "
        "ORDER BY key_id, day, prefix",
        method=method,
        start=window.start,
        end=window.end,
    )
    bits = rows["bits"].combine_chunks().flatten().to_numpy()
    evidence = WindowEvidence(
        detectors=detectors,
        visits=visits_in(rows),
        goes_on=rows["goes_on"].to_numpy(),
        bits=bits_of(bits.reshape(-1, len(detectors))),
        facts=np.zeros(len(rows)),
        ruled=rows["ruled"].to_numpy(),
        moved=rows["moved"].to_numpy(),
        cases=np.array(cases, np.int64),
    )
    return Replay(window, evidence, is_new=False)


def _method(settings: Settings, detectors: Sequence[Detector]) -> str:
    """Names how windows are scored: 16 hex digits."""
    parts: list[object] = [__version__, settings.review.baseline_days]
    parts += [each.identity for each in counting(detectors)]
    parts += catalogue_by_source()
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
