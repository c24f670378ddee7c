-- grain: visit; reads visits, window_hours, baseline_hours, baseline_week_hours
-- Tail of a Gamma-Poisson with the mean of the same hour of the week, which backs off to the key's
-- mean hour while it has few weeks.
WITH expected AS (
    SELECT
        w.key_id, w.hour, w.events, h.largest, h.mean_hour,
        (coalesce(b.events, 0) + $prior_hours * greatest(h.mean_hour, $prior_events_per_hour))
            / (h.weeks + $prior_hours) AS mu
    FROM window_hours AS w
    JOIN baseline_hours AS h USING (key_id)
    LEFT JOIN baseline_week_hours AS b
        ON b.key_id = w.key_id AND b.hour_of_week = isodow(w.hour) * 24 + hour(w.hour)
    WHERE w.events >= $fewest_events AND w.events > h.largest * $times_the_largest_hour
)

SELECT
    e.key_id, e.hour::DATE AS day, v.prefix,
    least($most_bits, tail_bits(e.events, e.mu, $shape)) AS bits,
    format('{:.0f} requests at that hour of the week, {} at most in any', e.mu, e.largest)
        AS typical,
    format('{} requests from {:02d}:00 to {:02d}:00 UTC', e.events, hour(e.hour), hour(e.hour) + 1)
        AS actual,
    'the busiest hour so far by far' AS explanation
FROM expected AS e
-- Whose burst it is: the visit that made most of it. None did: it belongs to the whole day.
LEFT JOIN visits AS v
    ON v.key_id = e.key_id AND v.day = e.hour::DATE AND v.events * 2 > e.events
    AND v.first_ts < e.hour + INTERVAL 1 HOUR AND v.last_ts >= e.hour
QUALIFY row_number() OVER (PARTITION BY e.key_id, day, v.prefix ORDER BY bits DESC, e.hour) = 1
