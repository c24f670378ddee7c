"""The feed's week, scored again for new lines: the keys that they are about, or all.

A process that stays (`keywatch.feed`) knows what its last run found of all keys. As long as nothing
else has changed, a run scores the keys with new lines or in them, their kin, and those that are
alerted (`keywatch.detect.part`). All keys are scored where more has changed, and once an hour: what
a key says of others, such as a call that many begin to make, reaches these then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keywatch.detect.part import Known, score_part
from keywatch.detect.scored_window import ScoredWindow
from keywatch.lake import Lake
from keywatch.model import Coverage, NewNetwork, Review, Window
from keywatch.review import making
from keywatch.settings import Settings

_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True)
class _Found:
    """What the last run found: until which load, and what else it rests on."""

    known: Known
    config_hash: str
    load_id: int
    state: tuple[Any, ...]
    coverage: Coverage
    new_networks: tuple[NewNetwork, ...]
    looked_at: frozenset[str]
    """Keys with a recommendation or a verdict."""
    whole_at: float


class LastScoring:
    """What a run of the feed leaves for the next one in the same process.

    `clock` tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: _Found | None = None
        self._next: _Found | None = None

    def keep(self) -> None:
        """Go on from the last review: call it once the lake keeps what it said."""
        self._found = self._next

    def review(self, lake: Lake, window: Window, settings: Settings) -> tuple[Review, ScoredWindow]:
        """As `making.make_review` without `whole`, of the keys that new lines are about or of all.

        Call it inside `Lake.reading`.
        """
        return self._of_part(lake, window, settings) or self._of_all(lake, window, settings)

    def _of_all(
        self, lake: Lake, window: Window, settings: Settings
    ) -> tuple[Review, ScoredWindow]:
        load_id = _newest_load(lake)
        answer, scored = making.make_review(lake, window, settings, whole=False)
        self._next = _Found(
            known=Known.of(lake, scored),
            config_hash=settings.config_hash,
            load_id=load_id,
            state=_state(lake, window, load_id),
            coverage=answer.coverage,
            new_networks=answer.new_networks,
            looked_at=_looked_at(answer),
            whole_at=self._clock(),
        )
        return answer, scored

    def _of_part(
        self, lake: Lake, window: Window, settings: Settings
    ) -> tuple[Review, ScoredWindow] | None:
        last = self._found
        if (
            last is None
            or (last.known.window, last.config_hash) != (window, settings.config_hash)
            or self._clock() - last.whole_at > _LONGEST_SECONDS
            or _state(lake, window, last.load_id) != last.state
        ):
            return None
        new = _keys_with_new_lines(lake, window, last.load_id)
        if new is None:
            return None
        load_id = _newest_load(lake)
        # Whoever has flagged them, what is suspicious in the week is told of all of them.
        asked = new | _exposed(lake, last) | last.looked_at | _flagged(lake, window)
        part = score_part(lake, last.known, asked, settings)
        if part is None:
            return None
        answer = making.review_of(lake, part.scored, settings, whole=False, covered=last.coverage)
        others = tuple(one for one in last.new_networks if one.key_id not in part.key_ids)
        answer = replace(answer, new_networks=answer.new_networks + others)
        self._next = _Found(
            known=part.known,
            config_hash=last.config_hash,
            load_id=load_id,
            state=_state(lake, window, load_id),
            coverage=last.coverage,
            new_networks=answer.new_networks,
            looked_at=_looked_at(answer),
            whole_at=last.whole_at,
        )
        return answer, part.scored


def _looked_at(answer: Review) -> frozenset[str]:
    return frozenset(
        case.key_id
        for case in answer.cases
        if case.action != "none" or case.as_scored != "none" or case.verdict is not None
    )


def _exposed(lake: Lake, last: _Found) -> frozenset[str]:
    """The known keys that new lines contain in full, whoever sent them."""
    with lake.registered("forms", last.known.rows["key_forms"]):
        rows = lake.rows(
            """
            WITH sent AS (
                SELECT DISTINCT unnest(list_concat(exposed_keys(path), exposed_keys(user_agent),
                    exposed_keys(concat_ws(' ', key_id, address, request_id)))) AS shown
                FROM lake.events
                WHERE exposed AND load_id > $load_id
            )

            SELECT key_id FROM forms SEMI JOIN sent USING (shown)
            """,
            load_id=last.load_id,
        )
    return frozenset(key_id for (key_id,) in rows)


def _flagged(lake: Lake, window: Window) -> frozenset[str]:
    rows = lake.rows(
        "SELECT DISTINCT key_id FROM lake.flagged_visits "
        "WHERE window_start = $start AND window_end = $end",
        start=window.start,
        end=window.end,
    )
    return frozenset(key_id for (key_id,) in rows)


def _newest_load(lake: Lake) -> int:
    return int(lake.value("SELECT coalesce(max(load_id), 0) FROM lake.ingested_files"))


def _state(lake: Lake, window: Window, load_id: int) -> tuple[Any, ...]:
    """What a scoring rests on beside new lines.

    These are the loads until `load_id`, and what the inventory, the analysts and the reports of
    leaks say.
    """
    return lake.rows(
        """
        SELECT
            (SELECT (count(*), sum(events), sum(object_count)) FROM lake.activity
                WHERE load_id <= $load_id),
            (SELECT count(*) FROM lake.path_templates),
            (SELECT max(import_id) FROM lake.keys),
            (SELECT count(*) FROM lake.unlisted_keys),
            (SELECT count(*) FROM lake.leaked_keys),
            (SELECT count(*) FROM lake.verdicts),
            (SELECT (count(*), bit_xor(hash(key_id, origin, families, starts_on, ends_on)))
                FROM lake.suppressions),
            (SELECT bit_xor(hash(key_id, day, prefix, window_start)) FROM lake.flagged_visits
                WHERE day < $start)
        """,
        load_id=load_id,
        start=window.start,
    )[0]


def _keys_with_new_lines(lake: Lake, window: Window, load_id: int) -> frozenset[str] | None:
    """The keys that lines after load `load_id` are about; None where others are touched too.

    Lines before the window change what is usual, and an address that is placed anew was perhaps
    everybody's.
    """
    named = {"load_id": load_id, "start": window.start.date(), "end": window.end.date()}
    touches_others = lake.value(
        """
        SELECT EXISTS (FROM lake.activity
                WHERE load_id > $load_id AND (day < $start OR day >= $end))
            OR EXISTS (FROM lake.origins AS o
                SEMI JOIN (FROM lake.origins WHERE load_id <= $load_id) AS b
                    ON b.address = o.address
                WHERE o.load_id > $load_id)
        """,
        **named,
    )
    if touches_others:
        return None
    rows = lake.rows(
        """
        SELECT DISTINCT key_id FROM lake.activity
        ANTI JOIN unknown_credentials_until($end::DATE) USING (key_id)
        WHERE load_id > $load_id
        UNION
        SELECT key_id FROM lake.rejects WHERE load_id > $load_id AND key_id IS NOT NULL
        """,
        load_id=load_id,
        end=named["end"],
    )
    return frozenset(key_id for (key_id,) in rows)
