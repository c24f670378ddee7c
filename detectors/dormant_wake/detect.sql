-- grain: key_day; reads visits, keys, key_history, lake.ingested_files (how far back the log
-- reaches)
-- Gaps between active days as exponential with an unknown rate: the predictive tail of the next gap
-- is Lomax, (T / (T + gap))^n after n gaps of T days in all. A key without history has slept since
-- it was made, or since the log begins: what was before nobody knows.
WITH days_used AS (SELECT DISTINCT key_id, day FROM visits),

log_reach AS (
    SELECT greatest(getvariable('baseline_start'), min(first_ts)::DATE) AS first_logged
    FROM lake.ingested_files
),

gaps AS (
    SELECT
        d.key_id, d.day, h.active_days, h.first_day, h.last_day,
        d.day - coalesce(
            lag(d.day) OVER (PARTITION BY d.key_id ORDER BY d.day),
            h.last_day,
            CASE WHEN k.created_at IS NOT NULL
                THEN greatest(k.created_at::DATE, r.first_logged) END
        ) AS gap_days,
        coalesce(h.last_day - h.first_day, 0) + $prior_gap_days AS all_gaps_days
    FROM days_used AS d
    JOIN key_history AS h USING (key_id)
    LEFT JOIN keys AS k USING (key_id)
    CROSS JOIN log_reach AS r
)

SELECT
    key_id, day, NULL AS prefix,
    least($most_bits, greatest(active_days, 1) * log2(1 + gap_days / all_gaps_days)) AS bits,
    CASE WHEN active_days = 0 THEN 'no use before the window'
        WHEN active_days = 1 THEN 'used on 1 day'
        ELSE format('used on {} days, {:.1f} days apart', active_days,
            (last_day - first_day) / (active_days - 1)) END AS typical,
    format('first use in {} days', gap_days) AS actual,
    'dormant key used again' AS explanation
FROM gaps
WHERE gap_days >= $shortest_gap_days
