-- grain: key; reads keys
WITH wildcards AS (
    SELECT key_id, scopes,
        array_to_string(list_filter(scopes, lambda s: contains(s, '*')), ', ') AS wildcards
    FROM keys
    WHERE coalesce(least(revoked_at, expires_at), $end::TIMESTAMP) >= $end
)

SELECT
    key_id, NULL AS day, NULL AS prefix, $wildcard_bits AS bits,
    'scopes named one by one' AS typical,
    wildcards AS actual,
    CASE WHEN list_has_any(scopes, ['*', 'admin:*']) THEN 'whoever has this key can do everything'
        ELSE format('whoever has this key can do all of {}', wildcards) END
        || '; give it the scopes it uses' AS explanation
FROM wildcards
WHERE wildcards <> ''
