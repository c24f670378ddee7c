-- grain: key; reads scope_changes, keys
-- Scopes are fixed when a key is made. What the inventory said before the first change of the last
-- weeks stands against what it says now.
WITH before AS (
    SELECT key_id, arg_min(previous, imported_at) AS scopes, max(imported_at) AS imported_at
    FROM scope_changes
    WHERE imported_at >= $end - to_days($remember_days)
    GROUP BY key_id
),

changed AS (
    SELECT
        b.key_id, b.scopes AS old, k.scopes AS new, b.imported_at,
        list_filter(k.scopes, lambda s: NOT list_contains(b.scopes, s)) AS gained,
        list_filter(b.scopes, lambda s: NOT list_contains(k.scopes, s)) AS lost
    FROM before AS b
    JOIN keys AS k USING (key_id)
    WHERE coalesce(least(k.revoked_at, k.expires_at), $end::TIMESTAMP) >= $end
)

SELECT
    key_id, NULL AS day, NULL AS prefix,
    CASE WHEN len(gained) > 0 THEN $gained_bits ELSE $lost_bits END AS bits,
    format('{} since its creation',
        coalesce(nullif(array_to_string(old, ', '), ''), 'no scope')) AS typical,
    concat_ws('; ',
        'gained ' || nullif(array_to_string(list_sort(gained), ', '), ''),
        'lost ' || nullif(array_to_string(list_sort(lost), ', '), ''),
        format('imported on {}', imported_at::DATE)) AS actual,
    CASE WHEN len(gained) > 0
        THEN 'more scopes than when the key was created: find out who changed it, or correct '
            'the inventory'
        ELSE 'fewer scopes in the inventory than when the key was created: correct it, or create '
            'a new key'
    END AS explanation
FROM changed
WHERE len(gained) > 0 OR len(lost) > 0
