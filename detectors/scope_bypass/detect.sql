-- grain: key; reads visit_endpoints, source_catalogue, keys
-- Either the inventory is wrong or the vendor's check is. Neither says that a thief is at work, so
-- the key is not revoked for it; but who is right decides what every key can do, so somebody has to
-- look.
-- A granted scope that the catalogue does not know may be the one that allows the request;
-- unknown_scope asks for it.
WITH unclear AS (
    SELECT DISTINCT key_id
    FROM (SELECT key_id, source, unnest(scopes) AS scope FROM keys)
    ANTI JOIN source_catalogue USING (source, scope)
    WHERE scope <> '*' AND NOT ends_with(scope, ':*')
),

beyond AS (
    SELECT e.key_id, e.endpoint, c.scope, sum(e.succeeded) AS succeeded, min(e.day) AS first_day,
        max(e.day) AS last_day
    FROM visit_endpoints AS e
    JOIN keys AS k USING (key_id)
    JOIN source_catalogue AS c USING (source, endpoint)
    ANTI JOIN unclear AS u ON u.key_id = e.key_id
    WHERE e.succeeded > 0 AND c.scope IS NOT NULL AND k.scopes IS NOT NULL
        AND NOT grants(k.scopes, c.scope)
    GROUP BY ALL
),

named AS (
    SELECT *, row_number() OVER (PARTITION BY key_id ORDER BY succeeded DESC, endpoint) AS nth
    FROM beyond
)

SELECT
    n.key_id, NULL AS day, NULL AS prefix, $bypass_bits AS bits,
    format('granted {}',
        coalesce(nullif(array_to_string(any_value(k.scopes), ', '), ''), 'nothing'))
        AS typical,
    format('{} accepted {}: {}{}', counted(sum(n.succeeded), 'request'),
        days_between(min(n.first_day), max(n.last_day)),
        string_agg(format('{} (needs {})', n.endpoint, n.scope), ', ' ORDER BY n.nth)
            FILTER (n.nth <= $most_named),
        CASE WHEN count(*) > $most_named
            THEN format(' and {} more', count(*) - $most_named::INTEGER)
        ELSE '' END) AS actual,
    'requests outside its scopes accepted: the inventory is wrong, or the vendor does not '
        'enforce scopes'
        AS explanation
FROM named AS n
JOIN keys AS k USING (key_id)
GROUP BY n.key_id
