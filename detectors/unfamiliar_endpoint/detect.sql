-- grain: visit; reads visit_endpoints, key_history, baseline_endpoints, peers, peer_endpoints,
--   all_endpoints, catalogue
-- A key does something new today (own past), and then for each new endpoint, rarest first, how rare
-- it is with its peers, backing off to all keys. Or its peers begin with it too: a release. The
-- more probable story counts.
WITH candidates AS (
    SELECT e.*, g.peer_group
    FROM visit_endpoints AS e
    ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
    LEFT JOIN peers AS g ON g.key_id = e.key_id
    LEFT JOIN catalogue AS c ON c.endpoint = e.endpoint
    -- What any key may call and what gives nothing away (who am I?) is nobody's habit.
    WHERE c.endpoint IS NULL OR c.scope IS NOT NULL OR c.sensitivity <> 'none'
),

beginners AS (
    SELECT peer_group, endpoint, count(DISTINCT key_id) AS keys
    FROM candidates
    WHERE succeeded > 0
    GROUP BY peer_group, endpoint
),

-- This key's own use is taken out everywhere: a key is no peer of itself.
fresh AS (
    SELECT
        e.*, h.active_days, h.endpoints, h.usual_endpoint,
        bits(CASE WHEN h.active_days = 0 THEN pow(2, -$cold_day_bits) ELSE predictive(
            h.endpoint_new_days, h.active_days - 1, $new_day_prior, $prior_strength_days) END)
            AS day_bits,
        greatest(coalesce(a.users, 0) - (e.succeeded > 0)::INT, 0)
            / greatest(coalesce(a.all_keys, 1) - 1, 1) AS all_share,
        greatest(coalesce(p.users, 0) - (e.succeeded > 0)::INT, 0) AS peer_users,
        greatest(coalesce(p.peer_keys, 1) - 1, 0) AS peer_keys,
        greatest(coalesce(n.keys, 0) - (e.succeeded > 0)::INT, 0) AS peers_beginning
    FROM candidates AS e
    JOIN key_history AS h USING (key_id)
    LEFT JOIN peer_endpoints AS p ON p.endpoint = e.endpoint AND p.peer_group = e.peer_group
    LEFT JOIN all_endpoints AS a ON a.endpoint = e.endpoint
    LEFT JOIN beginners AS n ON n.endpoint = e.endpoint AND n.peer_group = e.peer_group
),

scored AS (
    SELECT
        *,
        bits((peer_users + $peer_strength_keys * greatest(all_share, $least_share))
            / (peer_keys + $peer_strength_keys)) AS endpoint_bits,
        bits(peers_beginning / (peer_keys + $peer_strength_keys)) AS release_bits
    FROM fresh
),

ranked AS (
    SELECT
        *,
        peers_beginning > 1 AND release_bits < day_bits + endpoint_bits AS released,
        row_number() OVER (
            PARTITION BY key_id, day, prefix ORDER BY endpoint_bits DESC, endpoint) AS rank
    FROM scored
)

SELECT
    key_id, day, prefix,
    coalesce(max(release_bits) FILTER (released), 0)
        + coalesce(any_value(day_bits) FILTER (NOT released), 0)
        + coalesce(sum(endpoint_bits) FILTER (NOT released AND rank <= $most_endpoints_counted), 0)
        AS bits,
    CASE WHEN any_value(active_days) = 0 THEN 'no history yet; compared with its peers'
        ELSE format('{} on {}, mostly {}', counted(any_value(endpoints), 'endpoint'),
            counted(any_value(active_days), 'day'), any_value(usual_endpoint)) END AS typical,
    format('{} new: {}', count(*), string_agg(endpoint, ', ' ORDER BY rank) FILTER (rank <= 3))
        || CASE WHEN count(*) > 3 THEN ', …' ELSE '' END AS actual,
    CASE WHEN bool_and(released) THEN 'endpoints that this key''s peers begin to call as well'
        WHEN any_value(active_days) = 0 THEN 'endpoints that keys like this one seldom call'
        ELSE 'endpoints that this key never called, and its peers seldom' END AS explanation
FROM ranked
GROUP BY key_id, day, prefix
