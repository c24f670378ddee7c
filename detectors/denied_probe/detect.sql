-- grain: visit; reads visits, visit_endpoints, key_history, baseline_endpoints
-- How improbable the count is (tail of a Gamma-Poisson with the key's own mean), and how many
-- endpoints refused that never refused before: retries are many of one, probes are one of many.
WITH refused AS (
    SELECT
        e.key_id, e.day, e.prefix, sum(e.denied) AS denied,
        count(*) FILTER (b.endpoint IS NULL OR b.denied_days = 0) AS new_endpoints,
        arg_min(e.endpoint, (-e.denied, e.endpoint)) AS most_refused
    FROM visit_endpoints AS e
    LEFT JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
    WHERE e.denied > 0
    GROUP BY e.key_id, e.day, e.prefix
)

SELECT
    r.key_id, r.day, r.prefix,
    least($most_count_bits, tail_bits(r.denied,
        (h.mean_denied * h.active_days + $prior_denied_per_day * $prior_days)
            / (h.active_days + $prior_days), $shape))
        + $endpoint_bits * greatest(r.new_endpoints - 1, 0)
        AS bits,
    CASE WHEN h.active_days = 0 THEN 'no history'
        WHEN h.max_denied = 0
            THEN format('no denied requests over {}', counted(h.active_days, 'day'))
        ELSE format('{:.1f} denied requests a day, at most {}', h.mean_denied, h.max_denied)
        END AS typical,
    format('{} denied', counted(r.denied, 'request'))
        || CASE WHEN r.new_endpoints = 0 THEN '' ELSE format(', at {} never denied before',
            counted(r.new_endpoints, 'endpoint')) END
        || format(', mostly at {}', r.most_refused) AS actual,
    'requests beyond the permissions of this key (401 or 403)' AS explanation
FROM refused AS r
JOIN key_history AS h USING (key_id)
WHERE r.denied > h.max_denied OR r.new_endpoints > 1
