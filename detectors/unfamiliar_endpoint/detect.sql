-- grain: visit; reads visit_endpoints, key_history, baseline_endpoints, peers, peer_endpoints,
--   all_endpoints, catalogue
-- Bits that this key does something new today (own past), and then for each new endpoint, rarest
-- first, how rare it is with its peers, backing off to all keys.
WITH fresh AS (
    SELECT
        e.*, h.active_days, h.endpoints, h.usual_endpoint,
        bits(CASE WHEN h.active_days = 0 THEN pow(2, -$cold_day_bits) ELSE predictive(
            h.endpoint_new_days, h.active_days - 1, $new_day_prior, $prior_strength_days) END)
            AS day_bits,
        -- This key's own use is taken out: a key is no peer of itself.
        greatest(coalesce(a.users, 0) - (e.succeeded > 0)::INT, 0)
            / greatest(coalesce(a.all_keys, 1) - 1, 1) AS all_share,
        greatest(coalesce(p.users, 0) - (e.succeeded > 0)::INT, 0) AS peer_users,
        greatest(coalesce(p.peer_keys, 1) - 1, 0) AS peer_keys
    FROM visit_endpoints AS e
    JOIN key_history AS h USING (key_id)
    ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
    LEFT JOIN peers AS g ON g.key_id = e.key_id
    LEFT JOIN peer_endpoints AS p ON p.endpoint = e.endpoint AND p.peer_group = g.peer_group
    LEFT JOIN all_endpoints AS a ON a.endpoint = e.endpoint
    LEFT JOIN catalogue AS c ON c.endpoint = e.endpoint
    -- What any key may call and what gives nothing away (who am I?) is nobody's habit.
    WHERE c.endpoint IS NULL OR c.scope IS NOT NULL OR c.sensitivity <> 'none'
),

scored AS (
    SELECT
        *,
        bits((peer_users + $peer_strength_keys * greatest(all_share, 1e-3))
            / (peer_keys + $peer_strength_keys)) AS endpoint_bits
    FROM fresh
),

ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY key_id, day, prefix ORDER BY endpoint_bits DESC, endpoint) AS rank
    FROM scored
)

SELECT
    key_id, day, prefix,
    any_value(day_bits) + sum(endpoint_bits) FILTER (rank <= $most_endpoints_counted) AS bits,
    CASE WHEN any_value(active_days) = 0 THEN 'no history yet; compared with its peers'
        ELSE format('{} endpoint{} on {} days, mostly {}', any_value(endpoints),
            CASE WHEN any_value(endpoints) = 1 THEN '' ELSE 's' END, any_value(active_days),
            any_value(usual_endpoint)) END AS typical,
    format('{} new: {}', count(*), string_agg(endpoint, ', ' ORDER BY rank) FILTER (rank <= 3))
        || CASE WHEN count(*) > 3 THEN ', …' ELSE '' END AS actual,
    CASE WHEN any_value(active_days) = 0 THEN 'endpoints that keys like this one seldom call'
        ELSE 'endpoints that this key never called, and its peers seldom' END AS explanation
FROM ranked
GROUP BY key_id, day, prefix
