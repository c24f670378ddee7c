-- grain: visit; reads visits, key_history, baseline_networks, owner_places
-- Bits of the network's class under a Dirichlet predictive over the days of the key's own past;
-- without a past only the prior speaks. A place of the owner's other keys hides nobody.
WITH class_days AS (
    SELECT key_id, class, sum(days) AS days FROM baseline_networks GROUP BY key_id, class
),

scored AS (
    SELECT
        v.key_id, v.day, v.prefix, v.class, v.place, h.active_days,
        least(coalesce(c.days, 0), h.active_days) AS days,
        CASE v.class
            WHEN 'hosting' THEN $hosting_prior
            WHEN 'vpn' THEN $vpn_prior
            WHEN 'proxy' THEN $proxy_prior
            WHEN 'tor' THEN $tor_prior
            ELSE $relay_prior
        END AS prior,
        CASE v.class WHEN 'vpn' THEN 'VPN' WHEN 'tor' THEN 'Tor' ELSE v.class END AS kind
    FROM visits AS v
    JOIN key_history AS h USING (key_id)
    LEFT JOIN class_days AS c ON c.key_id = v.key_id AND c.class = v.class
    WHERE v.class IN ('hosting', 'vpn', 'proxy', 'tor', 'relay')
        AND NOT EXISTS (FROM owner_places AS o WHERE o.key_id = v.key_id AND o.prefix = v.prefix)
)

SELECT
    key_id, day, prefix,
    bits(predictive(days, active_days, prior, $prior_strength_days)) AS bits,
    CASE WHEN active_days = 0 THEN 'no history'
        ELSE format('{} of {} from a {} network', days, counted(active_days, 'day'), kind)
        END AS typical,
    format('{} ({})', prefix, place) AS actual,
    CASE
        WHEN active_days = 0 THEN format('key with no history used from a {} network', kind)
        WHEN days = 0 THEN format('first use from a {} network', kind)
        ELSE format('rarely used from a {} network', kind)
    END AS explanation
FROM scored
WHERE days = 0 OR days * $usual_from_one_day_in < active_days
