-- grain: key; reads keys, key_history, baseline_endpoints, visit_endpoints, catalogue
WITH used AS (
    SELECT DISTINCT key_id, scope
    FROM (
        SELECT key_id, endpoint FROM baseline_endpoints
        UNION SELECT key_id, endpoint FROM visit_endpoints
    )
    JOIN catalogue USING (endpoint)
    WHERE scope IS NOT NULL
),

granted AS (
    SELECT k.key_id, k.scopes, h.active_days, unnest(k.scopes) AS scope
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
ANTI JOIN used AS u ON u.key_id = g.key_id AND u.scope = g.scope
WHERE NOT contains(g.scope, '*')
GROUP BY g.key_id
