"""Daily roll-ups: what everything after ingestion reads instead of the raw history."""

from __future__ import annotations

from keywatch.lake import Lake

# A chunk of a load is rolled up on its own; adding the parts up again is exact, but for objects:
# an object seen in two parts of the same row counts twice.
_ACTIVITY_OF_EVENTS = """
    INSERT INTO lake.activity
    SELECT
        key_id, day, address, endpoint,
        CASE
            WHEN status IS NULL THEN '-'
            WHEN status IN (401, 403, 404, 429) THEN status::VARCHAR
            ELSE status // 100 || 'xx'
        END AS status_class,
        agent,
        count(*) AS events,
        count(DISTINCT hash(object)) FILTER (object IS NOT NULL) AS objects,
        coalesce(sum(response_bytes), 0)::BIGINT AS response_bytes,
        count(*) FILTER (exposed) AS exposed,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        $load_id
    FROM {events}
    WHERE key_id IS NOT NULL
    GROUP BY ALL
"""
_HOURS_OF_EVENTS = """
    INSERT INTO lake.activity_hours
    SELECT key_id, date_trunc('hour', ts) AS hour, count(*) AS events, $load_id
    FROM {events}
    WHERE key_id IS NOT NULL
    GROUP BY ALL
"""


def add_activity(lake: Lake, events: str, load_id: int) -> None:
    """Roll up the table or view `events` (columns as in ``lake.events``), a part of a load."""
    for query in (_ACTIVITY_OF_EVENTS, _HOURS_OF_EVENTS):
        lake.execute(query.format(events=events), load_id=load_id)
