-- grain: visit; reads window_activity, visits, baseline_hours_of_week, key_history
-- Log-likelihood ratio of the hours of a visit: any hour of the week alike, against the key's own
-- (days seen in that hour, smoothed over the hours beside it and over the other kind of day). The
-- hours a key keeps tell its time zone: noon is the middle of them.
WITH near AS (
    SELECT 0 AS shift, 1.0 AS weight
    UNION ALL SELECT unnest([-1, 1]), $neighbouring_hour_weight
),

smoothed AS (
    SELECT b.key_id, d.is_weekend, (b.hour_of_day + n.shift + 24) % 24 AS hour_of_day,
        sum(exact(b.days * n.weight
            * CASE WHEN b.is_weekend = d.is_weekend THEN 1
                ELSE $other_kind_of_day_weight END))::DOUBLE AS days
    FROM baseline_hours_of_week AS b
    CROSS JOIN near AS n
    CROSS JOIN (SELECT unnest([true, false]) AS is_weekend) AS d
    GROUP BY ALL
),

totals AS (
    SELECT key_id, is_weekend, sum(exact(days))::DOUBLE AS days, max(days) AS most FROM smoothed
    GROUP BY ALL
),

hours AS (
    SELECT DISTINCT key_id, day, prefix, isodow(day) > 5 AS is_weekend, hour(moment) AS hour_of_day
    FROM (
        SELECT key_id, day, prefix, unnest([first_ts, last_ts]) AS moment
        FROM window_activity
        -- A service calls when it has to, not when the key's owner is at work.
        SEMI JOIN (FROM visits WHERE class <> 'service') USING (key_id, day, prefix)
    )
),

scored AS (
    SELECT v.key_id, v.day, v.prefix,
        avg(exact(log2((1.0 / 24)
            / ((coalesce(s.days, 0) + $prior_hours / 24)
                / (coalesce(t.days, 0) + $prior_hours))))) AS bits,
        string_agg(DISTINCT format('{:02d}:00', v.hour_of_day), ', '
            ORDER BY format('{:02d}:00', v.hour_of_day))
            AS seen
    FROM hours AS v
    LEFT JOIN smoothed AS s USING (key_id, is_weekend, hour_of_day)
    LEFT JOIN totals AS t USING (key_id, is_weekend)
    GROUP BY ALL
),

-- The middle of the hours that the key keeps, around the clock (circular mean), is its noon.
habits AS (
    SELECT key_id,
        atan2(sum(days * sin(hour_of_day * pi() / 12)), sum(days * cos(hour_of_day * pi() / 12)))
            * 12 / pi() AS middle,
        sqrt(pow(sum(days * sin(hour_of_day * pi() / 12)), 2)
            + pow(sum(days * cos(hour_of_day * pi() / 12)), 2)) / sum(days) AS concentration
    FROM baseline_hours_of_week
    GROUP BY ALL
)

SELECT
    s.key_id, s.day, s.prefix, least(s.bits, $most_bits) AS bits,
    CASE WHEN h.concentration < 0.2 THEN 'used around the clock'
        ELSE format('mostly around {:02d}:00 UTC',
            ((round(middle)::INTEGER + 24) % 24)) END AS typical,
    format('at {} UTC on a {}', seen, dayname(s.day)) AS actual,
    'hours at which this key is rarely used' AS explanation
FROM scored AS s
JOIN habits AS h USING (key_id)
JOIN key_history AS k USING (key_id)
WHERE s.bits > 0 AND k.active_days >= $fewest_days
