-- grain: key_day; reads visits, keys, key_history
-- Gaps between active days as exponential with an unknown rate: the predictive tail of the next gap
-- is Lomax, (T / (T + gap))^n after n gaps of T days in all. A key never seen counts from its making.
WITH first_use AS (
    SELECT key_id, min(day) AS day FROM visits GROUP BY key_id
),

gaps AS (
    SELECT
        f.key_id, f.day, h.active_days, h.first_day, h.last_day,
        f.day - coalesce(h.last_day, k.created_at::DATE) AS gap_days,
        coalesce(h.last_day - h.first_day, 0) + $prior_gap_days AS all_gaps_days
    FROM first_use AS f
    JOIN key_history AS h USING (key_id)
    LEFT JOIN keys AS k USING (key_id)
)

SELECT
    key_id, day, NULL AS prefix,
    least($most_bits, greatest(active_days, 1) * log2(1 + gap_days / all_gaps_days)) AS bits,
    CASE WHEN active_days = 0 THEN 'never used since it was made'
        WHEN active_days = 1 THEN 'used on 1 day'
        ELSE format('used on {} days, {:.1f} days apart', active_days,
            (last_day - first_day) / (active_days - 1)) END AS typical,
    format('used again after {} days', gap_days) AS actual,
    'a key that nobody was thought to use any more' AS explanation
FROM gaps
WHERE gap_days >= $shortest_gap_days
