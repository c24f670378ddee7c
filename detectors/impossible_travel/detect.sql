-- grain: visit; reads visits, baseline_days_abroad, baseline_networks, key_history, owner_places
-- Great-circle distance between consecutive visits, less both accuracy radii, over the time between
-- them. Never by geography alone: the network must be new to the key too. Beta-binomial predictive
-- by the days on which the key is in several countries anyhow.
WITH placed AS (
    SELECT key_id, day, prefix, network, class, place, first_ts, last_ts, latitude, longitude,
        accuracy_km
    FROM visits
    WHERE latitude IS NOT NULL AND class NOT IN ('vpn', 'proxy', 'tor', 'relay')
),

legs AS (
    SELECT
        b.*, a.place AS from_place, a.prefix AS from_prefix, a.class AS from_class,
        greatest(epoch(b.first_ts) - epoch(a.last_ts), 60) / 3600 AS hours,
        great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)
            - coalesce(a.accuracy_km, 0) - coalesce(b.accuracy_km, 0) AS km
    FROM placed AS b
    ASOF JOIN placed AS a ON a.key_id = b.key_id AND a.first_ts < b.first_ts
),

impossible AS (
    SELECT l.*
    FROM legs AS l
    WHERE l.km / l.hours > $fastest_km_per_hour
        AND NOT (l.class = 'hosting' AND l.from_class = 'hosting')
        AND NOT EXISTS (FROM baseline_networks AS p
            WHERE p.key_id = l.key_id AND p.network = l.network)
        AND NOT EXISTS (FROM owner_places AS o WHERE o.key_id = l.key_id AND o.prefix = l.prefix)
)

SELECT
    i.key_id, i.day, i.prefix,
    bits(predictive(coalesce(d.days, 0), h.active_days, $travel_prior,
        $prior_strength_days)) AS bits,
    format('used from several countries on {} of {}', coalesce(d.days, 0),
        counted(h.active_days, 'day'))
        AS typical,
    format('{} ({}) {:.1f} hours after {} ({}), at least {:.0f} km away', i.prefix,
        i.place, i.hours,
        i.from_prefix, i.from_place, i.km) AS actual,
    'impossible travel between two places' AS explanation
FROM impossible AS i
JOIN key_history AS h USING (key_id)
LEFT JOIN baseline_days_abroad AS d USING (key_id)
WHERE h.active_days > 0
