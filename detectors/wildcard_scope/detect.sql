-- grain: key; reads keys
SELECT
    key_id, NULL AS day, NULL AS prefix, $wildcard_bits AS bits,
    'scopes named one by one' AS typical,
    array_to_string(list_filter(scopes, lambda s: contains(s, '*')), ', ') AS actual,
    'whoever has this key can do everything; give it the scopes it uses' AS explanation
FROM keys
WHERE revoked_at IS NULL AND len(list_filter(coalesce(scopes, []), lambda s: contains(s, '*'))) > 0
