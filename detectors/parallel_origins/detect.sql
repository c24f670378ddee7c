-- grain: visit; reads visits, baseline_days_abroad, key_history, baseline_networks, owner_places
-- Beta-binomial predictive of a day on which the key is used in two countries, by its own days.
-- Said of the visit in a country that is new to the key, while another visit is under way
-- elsewhere.
WITH pairs AS (
    SELECT a.key_id, a.day, a.prefix, a.country, a.place, b.country AS other_country,
        b.place AS other_place, b.prefix AS other_prefix
    FROM visits AS a
    JOIN visits AS b ON b.key_id = a.key_id AND b.day = a.day AND b.country <> a.country
    WHERE a.country <> '-' AND b.country <> '-' AND a.first_ts <= b.last_ts
        AND b.first_ts <= a.last_ts
        AND NOT EXISTS (FROM baseline_networks AS p WHERE p.key_id = a.key_id
            AND p.country = a.country)
        AND NOT EXISTS (FROM owner_places AS o WHERE o.key_id = a.key_id AND o.prefix = a.prefix)
)

SELECT
    p.key_id, p.day, p.prefix,
    bits(predictive(coalesce(d.days, 0), h.active_days, $parallel_prior,
        $prior_strength_days)) AS bits,
    format('used from two countries at once on {} of {}', coalesce(d.days, 0),
        counted(h.active_days, 'day'))
        AS typical,
    format('{} ({}) while at {} ({})', p.prefix, p.place, p.other_prefix, p.other_place) AS actual,
    'activity from two distant places at once' AS explanation
FROM pairs AS p
JOIN key_history AS h USING (key_id)
LEFT JOIN baseline_days_abroad AS d USING (key_id)
WHERE h.active_days > 0
QUALIFY row_number() OVER (PARTITION BY p.key_id, p.day, p.prefix ORDER BY other_prefix) = 1
