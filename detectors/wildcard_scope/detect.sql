-- grain: key; reads keys, visits, visit_agents, baseline_agents, baseline_networks
WITH wildcards AS (
    SELECT key_id, scopes,
        array_to_string(list_filter(scopes, lambda s: contains(s, '*')), ', ') AS wildcards
    FROM keys
    WHERE coalesce(least(revoked_at, expires_at), $end::TIMESTAMP) >= $end AND wildcards <> ''
),

-- Programs, and hosting networks, where programs are deployed; days seen, those of the window one
-- by one
used AS (
    SELECT DISTINCT key_id, 'program' AS kind, product AS consumer, product AS shown, day, 1 AS days
    FROM visit_agents
    UNION ALL
    SELECT key_id, 'network', network, min(place), day, 1 FROM visits WHERE class = 'hosting'
    GROUP BY key_id, network, day
    UNION ALL
    SELECT key_id, 'program', product, NULL, NULL, days FROM baseline_agents
    UNION ALL
    SELECT key_id, 'network', network, NULL, NULL, days FROM baseline_networks
        WHERE class = 'hosting'
),

consumers AS (
    SELECT key_id, kind, min(shown) AS shown
    FROM used
    SEMI JOIN wildcards USING (key_id)
    GROUP BY key_id, kind, consumer
    HAVING count(day) > 0 AND sum(days) >= $fewest_days
),

shared AS (
    SELECT key_id, kind, count(*) AS consumers, string_agg(shown, '; ' ORDER BY shown) AS named
    FROM consumers
    GROUP BY key_id, kind
    HAVING count(*) >= $fewest_consumers
    QUALIFY row_number() OVER (PARTITION BY key_id ORDER BY count(*) DESC, kind DESC) = 1
)

SELECT
    key_id, NULL AS day, NULL AS prefix,
    CASE WHEN kind IS NULL THEN $wildcard_bits ELSE $shared_bits END AS bits,
    'scopes listed one by one' AS typical,
    wildcards || CASE WHEN kind IS NULL THEN ''
        ELSE format(', used by {}: {}', counted(consumers, kind), named) END AS actual,
    CASE WHEN list_has_any(scopes, ['*', 'admin:*']) THEN 'anyone with this key can do everything'
        ELSE format('anyone with this key can do all of {}', wildcards) END
        || CASE WHEN kind IS NULL THEN '; limit it to the scopes it uses'
            ELSE format(', and {} share it: give each its own key with the scopes it uses',
                counted(consumers, kind)) END AS explanation,
    kind IS NOT NULL AS rotate
FROM wildcards
LEFT JOIN shared USING (key_id)
