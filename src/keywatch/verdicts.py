"""What analysts say of cases, and what follows from it.

*benign* makes the flagged visits familiar, no more: not the provider they came from. *expected* (a
change) also makes their way familiar from its first day until an end. *compromised* keeps them out
of the baseline for good, and asks what else came from there.

Nothing that was said is taken out of ``lake.verdicts``: *undo* is one more row, which withdraws the
newest verdict in force on that key's case; the one before it, if any, is in force again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from keywatch.errors import UsageError
from keywatch.lake import Lake, utc_now
from keywatch.model import Suppression, Window

Verdict = Literal["benign", "compromised", "expected"]
Undo = Literal["undo"]

SUPPRESSION_DAYS = 90
"""How long an expected change is expected, where nobody says."""


@dataclass(frozen=True)
class AlsoFromThere:
    """Another key that was used from an address of the flagged visits."""

    key_id: str
    ip: str
    requests: int
    last_seen: datetime


@dataclass(frozen=True)
class Given:
    """A verdict as it was given."""

    verdict_id: str
    verdict: Verdict | Undo
    by: str
    because: str
    given_at: datetime
    until: date | None


@dataclass(frozen=True)
class VerdictReport:
    """What a verdict changed; `flagged` visits (day, prefix) it is about.

    Of an undo: the verdict that is `withdrawn`, and the one before it, which is `restored`.
    """

    key_id: str
    window: Window
    verdict: Verdict | Undo
    flagged: tuple[tuple[date, str], ...]
    suppressions: tuple[Suppression, ...] = ()
    also: tuple[AlsoFromThere, ...] = ()
    withdrawn: Given | None = None
    restored: Given | None = None


def give(
    lake: Lake,
    key: str,
    verdict: Verdict,
    *,
    by: str,
    because: str,
    until: date | None = None,
    window: Window | None = None,
) -> VerdictReport:
    """Keep the verdict on a key's case and what follows; the newest of a case is in force.

    `key` is the key's id, masked form or name; without a window, its newest alert is meant. Call it
    inside `Lake.writing`.

    Raises:
        UsageError: no alert of such a key, or nobody or nothing is named.
    """
    if until is not None and verdict != "expected":
        raise UsageError("--until goes with expected only")
    _who_and_why(by, because)
    key_id, judged = _alert(lake, key, window)
    given = _keep(lake, key_id, judged, verdict, by, because, until)
    report = VerdictReport(key_id, judged, verdict, _flagged(lake, key_id, judged))
    if verdict == "expected":
        return replace(report, suppressions=_suppress(lake, given, report))
    if verdict == "compromised":
        return replace(report, also=_also_from_there(lake, report))
    return report


def undo(
    lake: Lake, key: str, *, by: str, because: str, window: Window | None = None
) -> VerdictReport:
    """Withdraw the newest verdict on a key's case; the one before it is in force again.

    `key` is as of `give`; without a window, the case judged last is meant. Call it inside
    `Lake.writing`.

    Raises:
        UsageError: no verdict on such a key is in force, or nobody or nothing is named.
    """
    _who_and_why(by, because)
    key_id, alerted = _alert(lake, key, window)
    judged = window or _judged_last(lake, key_id) or alerted
    withdrawn = _in_force(lake, key_id, judged)
    if withdrawn is None:
        raise UsageError(f"no verdict on {key_id} is in force: there is nothing to undo")
    _keep(lake, key_id, judged, "undo", by, because)
    restored = _in_force(lake, key_id, judged)
    report = VerdictReport(
        key_id, judged, "undo", _flagged(lake, key_id, judged), withdrawn=withdrawn,
        restored=restored,
    )  # fmt: skip
    if restored is not None and restored.verdict == "expected":
        return replace(report, suppressions=_suppress(lake, restored, report))
    return report


def _who_and_why(by: str, because: str) -> None:
    if not by.strip() or not because.strip():
        raise UsageError("a verdict needs --by WHO and --because WHY")


def _keep(
    lake: Lake,
    key_id: str,
    window: Window,
    verdict: Verdict | Undo,
    by: str,
    because: str,
    until: date | None = None,
) -> Given:
    """Add it to what was said of the case; what followed from the one before it ends."""
    named = {"key_id": key_id, "start": window.start, "end": window.end}
    case = "key_id = $key_id AND window_start = $start AND window_end = $end"
    lake.execute(
        "DELETE FROM lake.suppressions WHERE verdict_id IN (SELECT verdict_id "
        f"FROM lake.verdicts WHERE {case})",
        **named,
    )
    # Their order is the meaning: a clock that is slow must not put an undo before its verdict.
    last = lake.value(f"SELECT max(given_at) FROM lake.verdicts WHERE {case}", **named)
    now = utc_now() if last is None else max(utc_now(), last + timedelta(microseconds=1))
    verdict_id = secrets.token_hex(6)
    lake.execute(
        "INSERT INTO lake.verdicts VALUES "
        "($id, $key_id, $start, $end, $verdict, $by, $because, $now, $until, NULL, NULL)",
        **named, id=verdict_id, verdict=verdict, by=by, because=because, now=now, until=until,
    )  # fmt: skip
    return Given(verdict_id, verdict, by, because, now, until)


def _in_force(lake: Lake, key_id: str, window: Window) -> Given | None:
    rows = lake.rows(
        "SELECT verdict_id, verdict, by_whom, because, given_at, until FROM verdicts_in_force() "
        "WHERE key_id = $key_id AND window_start = $start AND window_end = $end",
        key_id=key_id,
        start=window.start,
        end=window.end,
    )
    return Given(*rows[0]) if rows else None


def _judged_last(lake: Lake, key_id: str) -> Window | None:
    rows = lake.rows(
        "SELECT window_start, window_end FROM verdicts_in_force() WHERE key_id = $key_id "
        "ORDER BY given_at DESC LIMIT 1",
        key_id=key_id,
    )
    return Window(*rows[0]) if rows else None


def _flagged(lake: Lake, key_id: str, window: Window) -> tuple[tuple[date, str], ...]:
    return tuple(
        lake.rows(
            "SELECT DISTINCT day, prefix FROM lake.flagged_visits WHERE key_id = $key_id "
            "AND window_start = $start AND window_end = $end ORDER BY ALL",
            key_id=key_id,
            start=window.start,
            end=window.end,
        )
    )


def _alert(lake: Lake, key: str, window: Window | None) -> tuple[str, Window]:
    rows = lake.rows(
        """
        WITH alerted AS (
            SELECT c.key_id, c.document ->> 'key' AS key, c.document ->> 'name' AS name,
                r.window_start, r.window_end, r.made_at
            FROM lake.recommendations AS c
            JOIN lake.runs AS r USING (run_id)
            -- A move is to be confirmed though none of its keys needs an action.
            UNION ALL
            SELECT m ->> 'key_id', m ->> 'key', m ->> 'name', window_start, window_end, changed_at
            FROM (
                SELECT unnest(members::JSON[]) AS m, window_start, window_end, changed_at
                FROM lake.alerts
                WHERE kind = 'migration'
            )
        )

        SELECT key_id, window_start, window_end
        FROM alerted
        WHERE $key IN (key_id, key, name)
            AND ($start::TIMESTAMP IS NULL OR window_start = $start AND window_end = $end)
        ORDER BY window_start DESC, made_at DESC
        LIMIT 1
        """,
        key=key,
        start=window and window.start,
        end=window and window.end,
    )
    if not rows:
        raise UsageError(
            f"no alert of a key {key!r} to judge; give its key_id, masked form or name, and review "
            "the week first"
        )
    key_id, start, end = rows[0]
    return key_id, Window(start, end)


_SITES = """
    SELECT DISTINCT CASE
            WHEN o.asn IS NULL OR o.class IN ('hosting', 'vpn', 'proxy', 'tor', 'relay')
                THEN f.prefix
            ELSE 'AS' || o.asn
        END AS origin
    FROM lake.flagged_visits AS f
    JOIN lake.origins AS o USING (prefix)
    WHERE f.key_id = $key_id AND f.window_start = $start AND f.window_end = $end
    ORDER BY origin
"""


def _suppress(lake: Lake, given: Given, report: VerdictReport) -> tuple[Suppression, ...]:
    starts = min((day for day, _ in report.flagged), default=report.window.start.date())
    ends = given.until or given.given_at.date() + timedelta(days=SUPPRESSION_DAYS)
    sites = [
        origin
        for (origin,) in lake.rows(
            _SITES, key_id=report.key_id, start=report.window.start, end=report.window.end
        )
    ]
    for site in sites:
        lake.execute(
            "INSERT INTO lake.suppressions VALUES "
            "($id, $verdict, $key_id, $origin, $by, $because, $starts, $ends, NULL)",
            id=secrets.token_hex(6), verdict=given.verdict_id, key_id=report.key_id, origin=site,
            by=given.by, because=given.because, starts=starts, ends=ends,
        )  # fmt: skip
    return tuple(
        Suppression(report.key_id, site, given.by, given.because, starts, ends) for site in sites
    )


def _also_from_there(lake: Lake, report: VerdictReport) -> tuple[AlsoFromThere, ...]:
    rows = lake.rows(
        """
        WITH addresses AS (
            SELECT DISTINCT a.address
            FROM lake.flagged_visits AS f
            JOIN lake.origins AS o USING (prefix)
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


def in_force(lake: Lake, window: Window) -> tuple[Suppression, ...]:
    """The suppressions that touch `window`, by key."""
    return tuple(
        Suppression(*row)
        for row in lake.rows(
            "SELECT key_id, origin, owner, because, starts_on, ends_on FROM lake.suppressions "
            "WHERE starts_on < $end AND ends_on >= $start ORDER BY ALL",
            start=window.start,
            end=window.end,
        )
    )


def realised(lake: Lake) -> tuple[int, int]:
    """Of the keys that were to be revoked: how many have a verdict, and how many were benign."""
    judged, benign = lake.rows(
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
    return judged, benign
