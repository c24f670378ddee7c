-- grain: key; reads keys, source_catalogue, visit_endpoints
-- A key belongs to a catalogue's vendor where the catalogue knows another scope of it, or a call
-- that it makes.
WITH documented AS (SELECT DISTINCT scope FROM source_catalogue WHERE scope IS NOT NULL),

-- Of a vendor whose catalogue states no scopes, none can be told to be unknown.
callers AS (
    SELECT DISTINCT key_id
    FROM visit_endpoints
    JOIN keys USING (key_id)
    SEMI JOIN (FROM source_catalogue WHERE scope IS NOT NULL) USING (source, endpoint)
),

granted AS (
    SELECT key_id, unnest(scopes) AS scope
    FROM keys
    WHERE coalesce(least(revoked_at, expires_at), $end::TIMESTAMP) >= $end
)

SELECT
    g.key_id, NULL AS day, NULL AS prefix, $unknown_bits AS bits,
    'scopes in the API catalogue' AS typical,
    string_agg(DISTINCT g.scope, ', ' ORDER BY g.scope) FILTER (d.scope IS NULL) AS actual,
    'inventory lists a scope unknown to the vendor: check what the key is allowed to do'
        AS explanation
FROM granted AS g
LEFT JOIN documented AS d USING (scope)
GROUP BY g.key_id
HAVING count(*) FILTER (d.scope IS NULL) > 0
    AND (count(d.scope) > 0 OR g.key_id IN (SELECT key_id FROM callers))
