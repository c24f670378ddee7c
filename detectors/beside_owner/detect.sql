-- grain: visit; reads visits, new_networks, baseline_networks, owner_places, key_history,
-- baseline_days_beside
-- Log-likelihood ratio of a visit in a network that is new to the key, while a visit to a usual one
-- is under way: the share of thieves who come so, against the larger of the share of owners' new
-- networks and the key's own days at two of its networks at once (Beta-binomial predictive). That
-- the network is new is unfamiliar_origin's.
WITH pairs AS (
    SELECT a.key_id, a.day, a.prefix, a.place, b.prefix AS other_prefix, b.place AS other_place,
        greatest(a.first_ts, b.first_ts) AS both_since
    FROM visits AS a
    JOIN new_networks AS n ON n.key_id = a.key_id AND n.network = a.network
    JOIN visits AS b ON b.key_id = a.key_id AND b.day = a.day
    SEMI JOIN baseline_networks AS k ON k.key_id = b.key_id AND k.network = b.network
    ANTI JOIN owner_places AS o ON o.key_id = a.key_id AND o.prefix = a.prefix
    WHERE a.located AND a.first_ts <= b.last_ts AND b.first_ts <= a.last_ts
)

SELECT
    p.key_id, p.day, p.prefix,
    greatest(0, log2($thieves_beside / greatest($owners_beside,
        predictive(coalesce(d.days, 0), h.active_days, $owners_beside,
            $prior_strength_days)))) AS bits,
    format('used from two networks at once on {} of {}', coalesce(d.days, 0),
        counted(h.active_days, 'day')) AS typical,
    format('{} ({}) while at {} ({})', p.prefix, p.place, p.other_prefix, p.other_place) AS actual,
    'used from an unfamiliar network while its owner is active' AS explanation
FROM pairs AS p
JOIN key_history AS h USING (key_id)
LEFT JOIN baseline_days_beside AS d USING (key_id)
QUALIFY row_number()
    OVER (PARTITION BY p.key_id, p.day, p.prefix ORDER BY both_since, other_prefix) = 1
