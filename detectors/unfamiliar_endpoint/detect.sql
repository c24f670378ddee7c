-- grain: visit; reads new_calls, uses, key_history, peers, expected_endpoints
-- A key does something new today (own past), and then for each new endpoint, rarest first, how rare
-- it is with its peers, backing off to keys that are used alike (non-negative matrix factorisation)
-- and to all keys, whichever expect it more. Or its peers, or some keys of any kind, begin with it
-- too (few suffice where nobody called it before): a release. The more probable story counts.
WITH peer_users AS (
    SELECT g.peer_group, u.endpoint, count(*) AS keys, count(*) FILTER (u.begins) AS beginning
    FROM uses AS u
    JOIN peers AS g USING (key_id)
    GROUP BY ALL
),

all_users AS (
    SELECT endpoint, sum(keys) AS keys, sum(beginning) AS beginning FROM peer_users
        GROUP BY endpoint
),

groups AS (
    SELECT key_id, peer_group, count(*) OVER (PARTITION BY peer_group) - 1 AS peer_keys,
        count(*) OVER () - 1 AS all_keys
    FROM peers
),

-- This key's own use is taken out everywhere: a key is no peer of itself.
fresh AS (
    SELECT
        c.*, h.active_days, h.endpoints, h.usual_endpoint, g.peer_keys,
        bits(CASE WHEN h.active_days = 0 THEN pow(2, -$cold_day_bits) ELSE predictive(
            h.endpoint_new_days, h.active_days - 1, $new_day_prior, $prior_strength_days) END)
            AS day_bits,
        -- Two other keys that don't call it are no proof that nobody does.
        predictive(coalesce(a.keys, 0) - (o.key_id IS NOT NULL)::INT, g.all_keys, $all_prior,
            $all_strength_keys) AS all_share,
        coalesce(x.share, 0) AS expected_share,
        coalesce(p.keys, 0) - (o.key_id IS NOT NULL)::INT AS peers_calling,
        coalesce(p.beginning, 0) - (o.key_id IS NOT NULL)::INT AS peers_beginning,
        coalesce(a.beginning, 0) - (o.key_id IS NOT NULL)::INT AS all_beginning, g.all_keys,
        coalesce(a.keys, 0) = coalesce(a.beginning, 0) AS is_new_to_all
    FROM new_calls AS c
    JOIN key_history AS h USING (key_id)
    JOIN groups AS g USING (key_id)
    LEFT JOIN peer_users AS p ON p.endpoint = c.endpoint AND p.peer_group = g.peer_group
    LEFT JOIN all_users AS a ON a.endpoint = c.endpoint
    LEFT JOIN expected_endpoints AS x ON x.key_id = c.key_id AND x.endpoint = c.endpoint
    LEFT JOIN uses AS o ON o.key_id = c.key_id AND o.endpoint = c.endpoint
),

scored AS (
    SELECT
        *,
        bits((peers_calling + $peer_strength_keys * greatest(all_share, expected_share))
            / (peer_keys + $peer_strength_keys)) AS endpoint_bits,
        least(
            CASE WHEN peers_beginning >= $release_peers
                THEN bits(peers_beginning / (peer_keys + $peer_strength_keys)) END,
            CASE WHEN all_beginning >= greatest($release_keys, $release_share * all_keys)
                THEN bits(all_beginning / (all_keys + $peer_strength_keys)) END,
            CASE WHEN is_new_to_all AND all_beginning >= $release_keys
                THEN $new_to_all_bits END) AS release_bits,
        coalesce(release_bits < day_bits + endpoint_bits, false) AS released
    FROM fresh
),

ranked AS (
    SELECT
        *,
        row_number() OVER by_visit AS rank,
        row_number() OVER by_kind AS rank_of_kind
    FROM scored
    WINDOW
        by_visit AS (PARTITION BY key_id, day, prefix ORDER BY endpoint_bits DESC, endpoint),
        by_kind AS (
            PARTITION BY key_id, day, prefix, released ORDER BY endpoint_bits DESC, endpoint)
)

SELECT
    key_id, day, prefix,
    coalesce(max(release_bits) FILTER (released), 0)
        + coalesce(any_value(day_bits) FILTER (NOT released), 0)
        + coalesce(sum(exact(endpoint_bits))
            FILTER (NOT released AND rank_of_kind <= $most_endpoints_counted), 0) AS bits,
    CASE WHEN any_value(active_days) = 0 THEN 'no history; compared with its peers'
        ELSE format('{} over {}, mostly {}', counted(any_value(endpoints), 'endpoint'),
            counted(any_value(active_days), 'day'), any_value(usual_endpoint)) END AS typical,
    format('{} new: {}', count(*), string_agg(endpoint, ', ' ORDER BY rank) FILTER (rank <= 3))
        || CASE WHEN count(*) > 3 THEN ', …' ELSE '' END AS actual,
    CASE WHEN bool_and(released) THEN 'endpoints that other keys start to call as well'
        WHEN max(endpoint_bits) FILTER (NOT released) < 1
            THEN 'endpoints new to this key, though most of its peers call them'
        WHEN any_value(active_days) = 0 THEN 'endpoints rarely called by keys like this one'
        ELSE 'endpoints new to this key and rare among its peers' END AS explanation
FROM ranked
GROUP BY key_id, day, prefix
