-- grain: visit; reads visits, stays, stay_hours, baseline_rhythms, baseline_hours_of_week,
-- baseline_days, window_reach
-- Log-likelihood ratio of a stay at a network that is new to the key: requests in an hour with
-- requests, and the hours with requests of a day, each log-normal; as keys at large have them
-- against as this key has them. A stay that begins at noon is compared with the key's hours after
-- noon, and what is not logged yet with nothing.
WITH at_large AS (
    SELECT avg(exact(rate)) AS rate, avg(exact(hours)) AS hours,
        avg(exact(rate_variance))
            + (exact_var(billionths(rate)) / 1e18 * count(*)
                + $prior_strength_keys * pow($spread_at_large, 2))
            / (count(*) + $prior_strength_keys) AS rate_variance,
        avg(exact(hours_variance))
            + (exact_var(billionths(hours)) / 1e18 * count(*)
                + $prior_strength_keys * pow($spread_at_large, 2))
            / (count(*) + $prior_strength_keys) AS hours_variance
    FROM baseline_rhythms
    WHERE days >= $fewest_days
),

own AS (
    SELECT key_id, days, rate, hours,
        (days * rate_variance + $prior_strength_days * pow($own_spread, 2))
            / (days + $prior_strength_days)
            AS rate_variance,
        (days * hours_variance + $prior_strength_days * pow($own_spread, 2))
            / (days + $prior_strength_days)
            AS hours_variance
    FROM baseline_rhythms
    WHERE days >= $fewest_days
),

-- Of all days on which the key is used, weekends apart, the share on which it is so in that hour of
-- the day.
shares AS (
    SELECT w.key_id, w.is_weekend, w.hour_of_day, w.days / d.days AS share
    FROM baseline_hours_of_week AS w
    JOIN (SELECT key_id, isodow(day) > 5 AS is_weekend, count(*) AS days FROM baseline_days
        GROUP BY ALL) AS d
        USING (key_id, is_weekend)
),

stay_days AS (
    SELECT key_id, network, hour::DATE AS day, sum(events) AS events, count(*) AS hours
    FROM stay_hours
    GROUP BY ALL
),

expected AS (
    SELECT d.key_id, d.network, d.day, d.events, d.hours,
        -- A filter, not a condition of the join, which would become a nested loop of all keys.
        greatest(1.0, sum(exact(s.share)) FILTER (
            d.day + to_hours(s.hour_of_day) >= date_trunc('hour', y.since)
            AND d.day + to_hours(s.hour_of_day) <= l.last_hour
        )) AS expected_hours
    FROM stay_days AS d
    JOIN stays AS y USING (key_id, network)
    CROSS JOIN (
        SELECT coalesce(date_trunc('hour', last_ts), getvariable('window_end')) AS last_hour
        FROM window_reach
    ) AS l
    LEFT JOIN shares AS s ON s.key_id = d.key_id AND s.is_weekend = (isodow(d.day) > 5)
    GROUP BY ALL
),

seen AS (
    SELECT key_id, network, sum(events) AS events, sum(events) / sum(hours) AS rate,
        sum(hours) / count(*) AS hours,
        avg(exact(expected_hours)) AS expected_hours
    FROM expected
    GROUP BY ALL
),

scored AS (
    SELECT s.*, exp(o.rate) AS own_rate,
        -- Of n requests the logarithm of the rate is known to a variance of 1 / n.
        (log_density(ln(s.rate), a.rate, a.rate_variance + 1 / s.events)
            - log_density(ln(s.rate), o.rate, o.rate_variance + 1 / s.events)) / ln(2) AS rate_bits,
        (log_density(ln(s.hours), a.hours, a.hours_variance)
            - log_density(ln(s.hours), ln(s.expected_hours), o.hours_variance))
                / ln(2) AS hours_bits,
        -- A short visit is anybody's: it is no habit where no more is to be expected.
        rate_bits + CASE WHEN s.expected_hours < $fewest_hours THEN greatest(hours_bits, 0)
            ELSE hours_bits END
            AS bits
    FROM seen AS s
    JOIN own AS o USING (key_id)
    CROSS JOIN at_large AS a
)

SELECT
    v.key_id, v.day, v.prefix, greatest(least(s.bits, $most_bits), -$most_familiar_bits) AS bits,
    format('about {} an hour, in {} of that part of a day',
        counted(greatest(1, round(own_rate)), 'request'),
        counted(round(expected_hours), 'hour')) AS typical,
    format('about {} an hour, in {} of a day', counted(greatest(1, round(rate)), 'request'),
        counted(round(s.hours), 'hour')) AS actual,
    CASE WHEN s.bits > 0 THEN 'request rhythm unlike the program of this key'
        ELSE 'request rhythm of the program of this key' END AS explanation
FROM visits AS v
JOIN scored AS s USING (key_id, network)
