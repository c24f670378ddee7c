"""What analysts say of cases, and what follows from it.

*benign* makes the flagged visits familiar, no more: not the provider they came from. *expected* (a
change) also expects more of it from the same prefixes, or from a network that is named, in the
families of evidence that it is about, until an end. *compromised* keeps the visits out of the
baseline for good, and asks what else came from there; of a theft that no review named, those from
networks that were new to the key, or those that are named.

Nothing that was said is taken out of ``lake.verdicts``: *undo* is one more row, which withdraws the
newest verdict in force on that key's case; the one before it, if any, is in force again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal, cast, get_args

from keywatch.errors import UsageError
from keywatch.hints import unknown
from keywatch.lake import Lake, utc_now
from keywatch.model import FAMILIES, Family, Suppression, Verdict, Window
from keywatch.review.verdict_visits import (
    Subject,
    Used,
    key_ids,
    named_origin,
    places,
    refuse_rented,
    subject,
    the_one,
    used_from,
)

Undo = Literal["undo"]

SUPPRESSION_DAYS = 90
"""How long an expected change is expected, where nobody says."""
MOST_SUPPRESSION_DAYS = 180
"""How long it can be expected, from the day on which somebody says so."""

_MOVE: tuple[Family, ...] = ("origin", "client")
"""What a move of place explains: where calls come from and by what, not what is called there."""
_FAMILIES_BEFORE_FORMAT_4: tuple[Family, ...] = ("origin", "endpoints", "client", "all")


@dataclass(frozen=True)
class AlsoFromThere:
    """Another key that was used from an address of the flagged visits."""

    key_id: str
    ip: str
    requests: int
    last_seen: datetime


@dataclass(frozen=True)
class Given:
    """A verdict as it was given; `origins` None: on all of the case."""

    verdict_id: str
    verdict: Verdict | Undo
    by: str
    because: str
    given_at: datetime
    until: date | None
    origins: tuple[str, ...] | None = None
    families: tuple[Family, ...] | None = None


@dataclass(frozen=True)
class VerdictReport:
    """What a verdict changed; `flagged` visits (day, prefix) it is about, `left` those it isn't.

    `unused` are the origins that it expects and that the key was not used from in the window;
    `earlier_days` on how many days before the window a stolen key came from the flagged prefixes.
    `alert` is what became of the key's alert (an `alerts.What`), empty where nothing did.
    Of an undo: the verdict that is `withdrawn`, and the one before it, which is `restored`.
    """

    key_id: str
    window: Window
    verdict: Verdict | Undo
    flagged: tuple[tuple[date, str], ...]
    left: tuple[tuple[date, str], ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    unused: tuple[str, ...] = ()
    also: tuple[AlsoFromThere, ...] = ()
    earlier_days: int = 0
    alert: str = ""
    withdrawn: Given | None = None
    restored: Given | None = None


def latest_end(today: date | None = None) -> date:
    """The last day until which a change can be expected, if somebody says so `today`."""
    return (today or utc_now().date()) + timedelta(days=MOST_SUPPRESSION_DAYS)


def give(
    lake: Lake,
    key: str,
    verdict: Verdict,
    *,
    by: str,
    because: str,
    until: date | None = None,
    window: Window | None = None,
    origins: Iterable[str] = (),
    families: Iterable[str] = (),
) -> VerdictReport:
    """Keep the verdict on a key's case and what follows; the newest of a case is in force.

    `key` is the key's id, masked form or name; without a window, its newest alert is meant, or, of
    a key that has none, the week reviewed last. `origins` (addresses, prefixes, networks) are what
    it is about, else the visits that were flagged, else those from networks new to the key. Of an
    expected change, `families` are what is expected from there: the key's place and client where
    its place was strange, else what was strange about it, less policy. Call it inside
    `Lake.writing`.

    Raises:
        UsageError: no such key or no use to give a verdict on; nobody or nothing is named; an
            origin that the key was not used from, or is too wide; an end that is past or too far.
    """
    _who_and_why(by, because)
    expected_families = _named_families(families)
    if verdict != "expected" and (until is not None or expected_families):
        raise UsageError(f"{'--until' if until else '--family'} can be used with expected only")
    _check_end(until)
    case = subject(lake, key, window)
    used = used_from(lake, case.key_id, case.window)
    named = {named_origin(each) for each in origins}
    about = _origins(lake, case, verdict, named, used)
    if verdict == "expected" and not expected_families:
        expected_families = _expected_families(lake, case)
    given = _keep(
        lake, case.key_id, case.window, verdict, by, because, until, about, expected_families
    )
    return _follow(lake, case.key_id, case.window, given, used)


def undo(
    lake: Lake, key: str, *, by: str, because: str, window: Window | None = None
) -> VerdictReport:
    """Withdraw the newest verdict on a key's case; the one before it is in force again.

    `key` is as of `give`; without a window, the case of the last verdict is meant. Call it inside
    `Lake.writing`.

    Raises:
        UsageError: no such key, no verdict on it is in force, or nobody or nothing is named.
    """
    _who_and_why(by, because)
    key_id, of = _last_with_verdict(lake, key, window)
    withdrawn = _in_force(lake, key_id, of)
    _keep(lake, key_id, of, "undo", by, because)
    restored = _in_force(lake, key_id, of)
    report = VerdictReport(key_id, of, "undo", _flagged(lake, key_id, of))
    if restored is not None:
        report = _follow(lake, key_id, of, restored, used_from(lake, key_id, of))
    return replace(report, verdict="undo", withdrawn=withdrawn, restored=restored)


# ------------------------------------------------------------------------------- what it is about


def _who_and_why(by: str, because: str) -> None:
    if not by.strip() or not because.strip():
        raise UsageError("a verdict needs --by NAME and --because REASON")


def _named_families(families: Iterable[str]) -> tuple[Family, ...]:
    named = set(families)
    for name in sorted(named - set(get_args(Family))):
        raise UsageError(unknown("family", name, FAMILIES))
    return tuple(family for family in FAMILIES if family in named)


def _check_end(until: date | None) -> None:
    today = utc_now().date()
    latest = latest_end(today)
    if until is not None and not today < until <= latest:
        raise UsageError(
            f"--until {until} is {'past' if until <= today else 'too far'}: it must be after today "
            f"and no later than {latest}, {MOST_SUPPRESSION_DAYS} days from now"
        )


def _origins(
    lake: Lake, case: Subject, verdict: Verdict, named: set[str], used: Sequence[Used]
) -> tuple[str, ...]:
    """The prefixes that a verdict is about; of an expected change also networks that are named."""
    if named and verdict == "expected":
        refuse_rented(lake, named, used)
        return tuple(sorted(named))
    if named:
        for origin in sorted(named):
            if not any(visit.is_from({origin}) for visit in used):
                raise UsageError(
                    f"{case.key_id} was not used from {origin} in that window, but from "
                    f"{places(used) or 'nowhere'}"
                )
        return _prefixes(visit for visit in used if visit.is_from(named))
    if flagged := _flagged(lake, case.key_id, case.window):
        return tuple(sorted({prefix for _, prefix in flagged}))
    if verdict == "benign":
        return ()
    new = _prefixes(visit for visit in used if visit.is_new)
    if not new and not case.is_alerted:
        raise UsageError(
            f"{case.key_id} has no flagged visit and no visit from a new network in that window: "
            f"give the origin with --origin; it was used from {places(used)}"
        )
    return new


def _prefixes(visits: Iterable[Used]) -> tuple[str, ...]:
    return tuple(sorted({visit.prefix for visit in visits}))


def _expected_families(lake: Lake, case: Subject) -> tuple[Family, ...]:
    """What is expected where nobody says: a move of place, else what was strange, less policy."""
    rows = lake.rows(
        """
        SELECT DISTINCT item ->> 'family'
        FROM (
            SELECT unnest((document -> 'evidence')::JSON[]) AS item
            FROM (
                SELECT c.document
                FROM lake.recommendations AS c
                JOIN lake.runs AS r USING (run_id)
                WHERE c.key_id = $key_id AND r.window_start = $start AND r.window_end = $end
                ORDER BY r.made_at DESC
                LIMIT 1
            )
        )
        WHERE (item ->> 'bits')::DOUBLE > 0
        """,
        key_id=case.key_id,
        start=case.window.start,
        end=case.window.end,
    )
    strange = {family for (family,) in rows}
    if not strange or "origin" in strange:
        return _MOVE
    expected = tuple(family for family in FAMILIES if family in strange - {"policy"})
    if not expected:
        raise UsageError(
            f"all evidence on {case.key_id} is of the family policy, which is expected only if "
            "requested: --family policy"
        )
    return expected


# ------------------------------------------------------------------------------------ what is kept


def _keep(
    lake: Lake,
    key_id: str,
    window: Window,
    verdict: Verdict | Undo,
    by: str,
    because: str,
    until: date | None = None,
    origins: Sequence[str] | None = None,
    families: Sequence[Family] = (),
) -> Given:
    """Add it to what was said of the case; what followed from the one before it ends."""
    named = {"key_id": key_id, "start": window.start, "end": window.end}
    case = "key_id = $key_id AND window_start = $start AND window_end = $end"
    of_case = f"IN (SELECT verdict_id FROM lake.verdicts WHERE {case})"
    lake.execute(f"DELETE FROM lake.suppressions WHERE verdict_id {of_case}", **named)
    lake.execute(f"DELETE FROM lake.flagged_visits WHERE run_id {of_case}", **named)
    # Their order is the meaning: a clock that is slow must not put an undo before its verdict.
    last = lake.value(f"SELECT max(given_at) FROM lake.verdicts WHERE {case}", **named)
    now = utc_now() if last is None else max(utc_now(), last + timedelta(microseconds=1))
    if verdict == "expected" and until is None:
        until = now.date() + timedelta(days=SUPPRESSION_DAYS)
    verdict_id = secrets.token_hex(6)
    lake.execute(
        """
        WITH scored AS (
            SELECT action, bits
            FROM lake.cases
            JOIN lake.runs USING (run_id)
            WHERE key_id = $key_id AND window_start < $end AND window_end > $start
            ORDER BY lake_snapshot DESC, made_at DESC
            LIMIT 1
        )

        INSERT INTO lake.verdicts VALUES ($id, $key_id, $start, $end, $verdict, $by, $because,
            $now, $until, $origins::VARCHAR[], $families::VARCHAR[],
            (SELECT action FROM scored), (SELECT bits FROM scored))
        """,
        **named, id=verdict_id, verdict=verdict, by=by, because=because, now=now, until=until,
        origins=None if origins is None else list(origins), families=list(families) or None,
    )  # fmt: skip
    return Given(
        verdict_id,
        verdict,
        by,
        because,
        now,
        until,
        origins=None if origins is None else tuple(origins),
        families=tuple(families) or None,
    )


def _in_force(lake: Lake, key_id: str, window: Window) -> Given | None:
    rows = lake.records(
        "SELECT verdict_id, verdict, by_whom AS by, because, given_at, until, origins, families "
        "FROM verdicts_in_force() "
        "WHERE key_id = $key_id AND window_start = $start AND window_end = $end",
        key_id=key_id,
        start=window.start,
        end=window.end,
    )
    if not rows:
        return None
    lists = {name: rows[0][name] for name in ("origins", "families")}
    return Given(
        **rows[0] | {name: each if each is None else tuple(each) for name, each in lists.items()}
    )


def _last_with_verdict(lake: Lake, key: str, window: Window | None) -> tuple[str, Window]:
    """The case of the one such key on which a verdict is in force; the one of the last verdict."""
    candidates = key_ids(lake, key)
    rows = lake.rows(
        "SELECT key_id, window_start, window_end FROM verdicts_in_force() "
        "WHERE list_contains($key_ids, key_id) "
        "AND ($start::TIMESTAMP IS NULL OR window_start = $start AND window_end = $end) "
        "ORDER BY given_at DESC, verdict_id DESC",
        key_ids=[key] if key in candidates else candidates,
        start=window and window.start,
        end=window and window.end,
    )
    if not rows:
        raise UsageError(f"no verdict on {key} is in force: nothing to undo")
    key_id = the_one(key, (row[0] for row in rows))
    return key_id, Window(*rows[0][1:])


def _flagged(
    lake: Lake, key_id: str, window: Window, origins: Sequence[str] | None = None
) -> tuple[tuple[date, str], ...]:
    """The flagged visits of a case, by day and prefix; where `origins` are named, those of them."""
    return tuple(
        lake.rows(
            """
            SELECT DISTINCT f.day, f.prefix
            FROM lake.flagged_visits AS f
            LEFT JOIN known_places() AS p USING (prefix)
            WHERE f.key_id = $key_id AND f.window_start = $start AND f.window_end = $end
                AND is_about($origins::VARCHAR[], f.prefix, p.network, p.class)
            ORDER BY ALL
            """,
            key_id=key_id,
            start=window.start,
            end=window.end,
            origins=None if origins is None else list(origins),
        )
    )


# ------------------------------------------------------------------------------------ what follows


def _follow(
    lake: Lake, key_id: str, window: Window, given: Given, used: Sequence[Used]
) -> VerdictReport:
    """What comes of a verdict that is in force from now on."""
    if given.verdict == "compromised":
        _flag(lake, key_id, window, given, used)
        report = VerdictReport(key_id, window, "compromised", _flagged(lake, key_id, window))
        return replace(
            report,
            also=_also_from_there(lake, report),
            earlier_days=_earlier_days(lake, report),
        )
    flagged = _flagged(lake, key_id, window, given.origins)
    left = tuple(visit for visit in _flagged(lake, key_id, window) if visit not in flagged)
    report = VerdictReport(key_id, window, cast(Verdict, given.verdict), flagged, left)
    if given.verdict == "benign":
        return report
    origins = given.origins
    if origins is None:
        origins = tuple(sorted({prefix for _, prefix in flagged}))
    return replace(
        report,
        suppressions=_suppress(lake, key_id, window, given, origins, used),
        unused=tuple(
            origin for origin in origins if not any(visit.is_from({origin}) for visit in used)
        ),
    )


def _flag(lake: Lake, key_id: str, window: Window, given: Given, used: Iterable[Used]) -> None:
    """The visits of the theft that no review has flagged."""
    flagged = set(_flagged(lake, key_id, window))
    for visit in used:
        if (visit.day, visit.prefix) not in flagged and visit.is_from(given.origins or ()):
            lake.execute(
                "INSERT INTO lake.flagged_visits "
                "VALUES ($verdict_id, $start, $end, $key_id, $day, $prefix)",
                verdict_id=given.verdict_id, start=window.start, end=window.end, key_id=key_id,
                day=visit.day, prefix=visit.prefix,
            )  # fmt: skip


def _suppress(
    lake: Lake,
    key_id: str,
    window: Window,
    given: Given,
    origins: Iterable[str],
    used: Iterable[Used],
) -> tuple[Suppression, ...]:
    families = given.families or _FAMILIES_BEFORE_FORMAT_4
    there = [visit.day for visit in used if visit.is_from(origins)]
    starts = min(there, default=window.start.date())
    said_until = given.until or given.given_at.date() + timedelta(days=SUPPRESSION_DAYS)
    ends = min(said_until, latest_end())
    for origin in origins:
        lake.execute(
            "INSERT INTO lake.suppressions VALUES "
            "($id, $verdict, $key_id, $origin, $by, $because, $starts, $ends, $families)",
            id=secrets.token_hex(6), verdict=given.verdict_id, key_id=key_id, origin=origin,
            by=given.by, because=given.because, starts=starts, ends=ends, families=list(families),
        )  # fmt: skip
    return tuple(
        Suppression(key_id, origin, given.by, given.because, starts, ends, families)
        for origin in origins
    )


def _also_from_there(lake: Lake, report: VerdictReport) -> tuple[AlsoFromThere, ...]:
    rows = lake.rows(
        """
        WITH addresses AS (
            SELECT DISTINCT a.address
            FROM lake.flagged_visits AS f
            JOIN known_places() AS o USING (prefix)
            JOIN lake.activity AS a
                ON a.key_id = f.key_id AND a.day = f.day AND a.address = o.address
            WHERE f.key_id = $key_id AND f.window_start = $start AND f.window_end = $end
        )
        SELECT a.key_id, a.address, sum(a.events)::BIGINT, max(a.last_ts)
        FROM lake.activity AS a
        SEMI JOIN addresses USING (address)
        WHERE a.key_id <> $key_id
        GROUP BY ALL
        ORDER BY 3 DESC, 1, 2
        """,
        key_id=report.key_id,
        start=report.window.start,
        end=report.window.end,
    )
    return tuple(AlsoFromThere(*row) for row in rows)


def _earlier_days(lake: Lake, report: VerdictReport) -> int:
    days: int = lake.value(
        """
        SELECT count(DISTINCT a.day)
        FROM lake.activity AS a
        JOIN known_places() AS p USING (address)
        ANTI JOIN lake.flagged_visits AS f
            ON f.key_id = a.key_id AND f.day = a.day AND f.prefix = p.prefix
        WHERE a.key_id = $key_id AND a.day < $start AND list_contains($prefixes, p.prefix)
        """,
        key_id=report.key_id,
        start=report.window.start,
        prefixes=sorted({prefix for _, prefix in report.flagged}),
    )
    return days


def in_force(lake: Lake, window: Window) -> tuple[Suppression, ...]:
    """The suppressions that touch `window`, by key."""
    return _suppressions(
        lake, "starts_on < $end AND ends_on >= $start", start=window.start, end=window.end
    )


def ending(lake: Lake, first: date, last: date) -> tuple[Suppression, ...]:
    """The suppressions that end from `first` to `last`, the soonest first."""
    found = _suppressions(lake, "ends_on BETWEEN $first AND $last", first=first, last=last)
    return tuple(sorted(found, key=lambda each: (each.ends_on, each.key_id, each.origin)))


def _suppressions(lake: Lake, condition: str, **parameters: object) -> tuple[Suppression, ...]:
    rows = lake.records(
        "SELECT key_id, origin, owner, because, starts_on, ends_on, families "
        f"FROM lake.suppressions WHERE {condition} ORDER BY ALL",
        **parameters,
    )
    return tuple(Suppression(**row | {"families": tuple(row["families"])}) for row in rows)


def realised(lake: Lake) -> tuple[int, int]:
    """Of the keys that were to be revoked: how many have a verdict, and how many were benign."""
    given, benign = lake.rows(
        """
        WITH revoked AS (
            SELECT DISTINCT c.key_id, r.window_start, r.window_end
            FROM lake.recommendations AS c
            JOIN lake.runs AS r USING (run_id)
            WHERE c.action = 'revoke'
        )

        SELECT count(*), count(*) FILTER (verdict <> 'compromised')
        FROM revoked
        JOIN verdicts_in_force() USING (key_id, window_start, window_end)
        """
    )[0]
    return given, benign
