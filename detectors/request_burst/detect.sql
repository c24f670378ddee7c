-- grain: visit; reads visits, key_history, window_hours, baseline_hours
-- Tail of a Gamma-Poisson with the mean of the same hour of the week, which backs off to the key's
-- mean hour while it has few weeks.
WITH candidates AS (SELECT DISTINCT key_id FROM window_hours WHERE events >= $fewest_events),

past AS (
    SELECT key_id, hour, sum(events) AS events
    FROM baseline_hours
    SEMI JOIN candidates USING (key_id)
    GROUP BY key_id, hour
),

past_by_key AS (
    SELECT key_id, max(events) AS largest, avg(events) AS mean_hour FROM past GROUP BY key_id
),

past_by_week_hour AS (
    SELECT key_id, isodow(hour) * 24 + hour(hour) AS hour_of_week, sum(events) AS events
    FROM past GROUP BY ALL
),

expected AS (
    SELECT
        w.key_id, w.hour, w.events, p.largest,
        (coalesce(b.events, 0) + $prior_hours * greatest(p.mean_hour, $prior_events_per_hour))
            / (greatest(1.0, (h.last_day - h.first_day + 1) / 7.0) + $prior_hours) AS mu
    FROM window_hours AS w
    JOIN past_by_key AS p USING (key_id)
    JOIN key_history AS h USING (key_id)
    LEFT JOIN past_by_week_hour AS b
        ON b.key_id = w.key_id AND b.hour_of_week = isodow(w.hour) * 24 + hour(w.hour)
    WHERE w.events >= $fewest_events AND w.events > p.largest * $times_the_largest_hour
)

SELECT
    e.key_id, e.hour::DATE AS day, v.prefix,
    least($most_bits, tail_bits(e.events, e.mu, $shape)) AS bits,
    format('{} expected at that hour of the week, at most {} in any hour',
        counted(round(e.mu), 'request'), e.largest) AS typical,
    format('{} requests from {:02d}:00 to {:02d}:00 UTC', e.events, hour(e.hour), hour(e.hour) + 1)
        AS actual,
    'by far the busiest hour on record' AS explanation
FROM expected AS e
-- Whose burst it is: the visit that can have made most of it. None can: it is the whole day's.
LEFT JOIN visits AS v
    ON v.key_id = e.key_id AND v.day = e.hour::DATE AND v.events * 2 > e.events
    AND v.first_ts < e.hour + INTERVAL 1 HOUR AND v.last_ts >= e.hour
QUALIFY row_number()
    OVER (PARTITION BY e.key_id, e.hour::DATE, v.prefix ORDER BY bits DESC, e.hour) = 1
