-- grain: key; reads exposures, keys
-- The key that was exposed is to be replaced, whoever sent it. One of which it is not known whose
-- it is is told beside the key that sent it.
WITH told AS (
    SELECT
        coalesce(e.key_id, e.sender) AS key_id, e.key_id IS NOT NULL AS known,
        min(e.shown) AS shown,
        count(DISTINCT e.shown) AS shown_keys,
        sum(e.requests) AS requests, min(e.first_day) AS first_day, max(e.last_day) AS last_day,
        array_to_string(list_reverse_sort(list_distinct(flatten(list(e.fields)))),
            ' and ') AS fields,
        arg_max(e.endpoint, (e.requests, e.endpoint)) AS endpoint,
        list(DISTINCT e.sender ORDER BY e.sender) FILTER (e.sender <> e.key_id) AS others
    FROM exposures AS e
    GROUP BY ALL
)

SELECT
    t.key_id, NULL AS day, NULL AS prefix,
    CASE WHEN t.known THEN $exposed_bits ELSE $unknown_bits END AS bits,
    'key sent in its own header only' AS typical,
    format('{}{} in {} of {} {}{}, mostly at {}', t.shown,
        CASE WHEN t.shown_keys > 1 THEN format(' and {} more', t.shown_keys - 1)
            ELSE '' END, t.fields,
        counted(t.requests, 'request'), days_between(t.first_day, t.last_day),
        CASE WHEN t.known AND len(t.others) > 0 THEN format(', sent by {}{}', t.others[1],
            CASE WHEN len(t.others) > 1 THEN format(' and {} more', len(t.others) - 1) ELSE '' END)
        ELSE '' END,
        t.endpoint) AS actual,
    CASE WHEN t.known
        THEN format('full key exposed in {}, where logs and proxies store it: send it in a '
            'header, and replace it', t.fields)
        ELSE format('full key of an unknown owner exposed in {}: identify it', t.fields)
    END AS explanation
FROM told AS t
LEFT JOIN keys AS k USING (key_id)
WHERE NOT t.known OR coalesce(least(k.revoked_at, k.expires_at), $end::TIMESTAMP) >= $end
