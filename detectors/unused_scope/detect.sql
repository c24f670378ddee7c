-- grain: key; reads keys, key_history, baseline_endpoints, visit_endpoints, source_catalogue
WITH used AS (
    SELECT DISTINCT key_id, c.scope
    FROM (
        SELECT key_id, endpoint FROM baseline_endpoints
        UNION SELECT key_id, endpoint FROM visit_endpoints
    )
    JOIN keys AS k USING (key_id)
    -- Of a key that is silent the window does not tell the log format.
    JOIN source_catalogue AS c USING (endpoint)
    WHERE c.scope IS NOT NULL AND c.source = coalesce(k.source, c.source)
),

granted AS (
    SELECT k.key_id, k.source, k.scopes, h.active_days, unnest(k.scopes) AS scope
    FROM keys AS k
    JOIN key_history AS h USING (key_id)
    WHERE h.last_day - h.first_day >= $fewest_days AND k.revoked_at IS NULL
)

SELECT
    g.key_id, NULL AS day, NULL AS prefix, $unused_bits AS bits,
    'only scopes in use' AS typical,
    format('{} unused over {}', string_agg(g.scope, ', ' ORDER BY g.scope),
        counted(any_value(g.active_days), 'day')) AS actual,
    'omit unused scopes from its successor' AS explanation
FROM granted AS g
-- The use of a scope shows where the catalogue names a call that needs it.
SEMI JOIN source_catalogue AS c
    ON c.scope = g.scope AND c.source = coalesce(g.source, c.source)
ANTI JOIN used AS u ON u.key_id = g.key_id AND u.scope = g.scope
WHERE NOT contains(g.scope, '*')
GROUP BY g.key_id
