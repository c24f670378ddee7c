-- grain: visit; reads visit_endpoints, keys, source_catalogue, key_history, baseline_endpoints
-- Bits of a sensitive call under a Beta-binomial predictive of the days on which the key made it.
WITH scored AS (
    SELECT
        e.key_id, e.day, e.prefix, e.endpoint, e.events, e.denied, c.sensitivity, c.why,
        h.active_days, coalesce(b.days, 0) AS days,
        bits(predictive(coalesce(b.days, 0), h.active_days,
            CASE c.sensitivity WHEN 'critical' THEN $critical_prior WHEN 'high' THEN $high_prior
                ELSE $low_prior END, $prior_strength_days)) AS call_bits
    FROM visit_endpoints AS e
    JOIN keys AS k USING (key_id)
    JOIN source_catalogue AS c USING (source, endpoint)
    JOIN key_history AS h USING (key_id)
    LEFT JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
    WHERE c.sensitivity IN ('critical', 'high', 'low')
        AND (coalesce(b.days, 0) = 0 OR b.days * $usual_from_one_day_in < h.active_days)
        -- Without a history a look round is not yet a finding.
        AND (h.active_days > 0 OR c.sensitivity <> 'low')
),

ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY key_id, day, prefix ORDER BY call_bits DESC, events DESC, endpoint) AS rank
    FROM scored
)

SELECT
    key_id, day, prefix,
    sum(call_bits) FILTER (rank <= $most_endpoints_counted) AS bits,
    CASE WHEN any_value(active_days) = 0 THEN 'no history'
        ELSE format('called on {} of {}', max(days),
            counted(any_value(active_days), 'day')) END AS typical,
    string_agg(format('{} ×{}{}', endpoint, events,
        CASE WHEN denied = events THEN ' (denied)' ELSE '' END), ', ' ORDER BY rank)
        FILTER (rank <= 3) || CASE WHEN count(*) > 3 THEN format(' and {} more', count(*) - 3)
        ELSE '' END AS actual,
    arg_min(CASE WHEN denied = events THEN 'denied attempt: ' || why ELSE why END, rank)
        AS explanation
FROM ranked
GROUP BY key_id, day, prefix
