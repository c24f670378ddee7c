-- grain: visit; reads visits, key_history, visit_rates, baseline_rates
-- As bulk_read: a record after n days, and by how much it is over the largest day so far. Where the
-- vendor's limiter is off nothing is refused, and the fullest minute tells: over the limit, and
-- over all minutes so far.
WITH said AS (
    SELECT
        v.key_id, v.day, v.prefix,
        log2(h.active_days + 1)
            + $tail_index * log2(v.throttled / greatest(h.max_throttled, 1)) AS bits,
        format('at most {} a day over {}', counted(h.max_throttled, 'throttled request'),
            counted(h.active_days, 'day')) AS typical,
        counted(v.throttled, 'throttled request') AS actual,
        'more throttled requests (429) than on any previous day' AS explanation
    FROM visits AS v
    JOIN key_history AS h USING (key_id)
    WHERE v.throttled > h.max_throttled AND h.active_days > 0
    UNION ALL
    SELECT
        r.key_id, r.day, r.prefix,
        log2(h.active_days + 1)
            + $tail_index * log2(r.peak / greatest(coalesce(b.peak, 0), r.requests_per_minute)),
        format('at most {} a minute with {} over {}', counted(coalesce(b.peak, 0), 'request'),
            r.scope,
            counted(h.active_days, 'day')),
        format('{} in one minute, {} accepted', counted(r.peak, 'request'),
            coalesce(r.peak_succeeded, 0)),
        format('more requests a minute than ever before, and than the {} that the API allows',
            r.requests_per_minute)
    FROM visit_rates AS r
    JOIN key_history AS h USING (key_id)
    LEFT JOIN baseline_rates AS b USING (key_id, scope)
    WHERE r.peak > greatest(coalesce(b.peak, 0), r.requests_per_minute) AND h.active_days > 0
        -- Lines that were loaded before the roll-up knew the fullest minute say nothing of it.
        AND (b.key_id IS NULL OR b.peak IS NOT NULL)
)

SELECT key_id, day, prefix, least($most_bits, bits) AS bits, typical, actual, explanation
FROM said
-- Two sides of one rush: the stranger one counts.
QUALIFY row_number() OVER (PARTITION BY key_id, day, prefix ORDER BY bits DESC, explanation) = 1
