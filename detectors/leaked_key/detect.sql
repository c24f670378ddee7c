-- grain: key; reads leaks, keys, visits
-- Whoever reads the place where it was found can use it. Of a revoked or expired key only its use
-- since is of interest: then it was not revoked, or somebody tries it.
WITH leaked AS (
    SELECT l.*, least(k.revoked_at, k.expires_at) AS ended_at,
        coalesce(ended_at, $end::TIMESTAMP) >= $end AS in_force
    FROM leaks AS l
    JOIN keys AS k USING (key_id)
),

used AS (
    SELECT l.key_id, sum(v.events)::BIGINT AS events, count(DISTINCT v.prefix) AS prefixes
    FROM leaked AS l
    JOIN visits AS v ON v.key_id = l.key_id AND (l.in_force OR v.last_ts > l.ended_at)
    GROUP BY l.key_id
)

SELECT
    l.key_id, NULL AS day, NULL AS prefix, $leaked_bits AS bits,
    'known to its owner only' AS typical,
    format('leaked: found by {}{}{}{}; {}', l.source,
        coalesce(' on ' || l.found_at::DATE, ''),
        coalesce(' at ' || nullif(l.location, ''), ''),
        CASE WHEN l.finds > 1 THEN format(', and {}', counted(l.finds - 1, 'more finding'))
            ELSE '' END,
        CASE WHEN u.events IS NULL THEN 'not used in this window'
            ELSE format('{} from {}', counted(u.events, 'request'),
                counted(u.prefixes, 'prefix', 'es')) END) AS actual,
    CASE
        WHEN NOT l.in_force THEN 'leaked key used after its end: check that it is revoked, and who '
            || 'uses it'
        WHEN u.events IS NULL THEN 'leaked key still in force: revoke it, for anyone who finds it '
            || 'can use it'
        ELSE 'leaked key in use: revoke it, for anyone who finds it can use it'
    END AS explanation
FROM leaked AS l
LEFT JOIN used AS u USING (key_id)
WHERE l.in_force OR u.events IS NOT NULL
