-- grain: visit; reads visit_transitions, baseline_transitions, key_history,
-- everybody, everybody_in_all
-- Log-likelihood ratio of a visit's steps from one call to the next: somebody who knows the API,
-- and what this key calls, against the key's own routine (order 1, backing off to the key's own
-- calls; the mass of new steps by Witten and Bell 1991). A step counts once a day, and adds to
-- those of the days before in the window. Steps to or from endpoints that are new to the key are
-- unfamiliar_endpoint's. Less than 0 bits speaks for the owner.
WITH calls AS (
    SELECT key_id, endpoint, sum(days) AS days FROM baseline_transitions GROUP BY ALL
),

totals AS (
    SELECT key_id, sum(days) AS days, count(*) AS endpoints FROM calls GROUP BY ALL
),

at_large AS (
    SELECT e.value AS endpoint, e.keys / i.uses AS share
    FROM everybody AS e
    JOIN everybody_in_all AS i USING (kind)
    WHERE kind = 'call'
),

befores AS (
    SELECT key_id, previous, sum(days) AS days, count(*) AS endpoints
    FROM baseline_transitions
    GROUP BY ALL
),

steps AS (
    SELECT
        v.key_id, v.day, v.prefix, v.previous, v.endpoint, b.days IS NULL AS is_new,
        e.share AS of_everybody,
        (c.days + t.endpoints * e.share) / (t.days + t.endpoints) AS of_key,
        coalesce(p.endpoints, 1) / (coalesce(p.days, 0) + coalesce(p.endpoints, 1)) AS new,
        (1 - new) * coalesce(b.days / p.days, 0) + new * of_key AS of_routine
    FROM visit_transitions AS v
    JOIN calls AS c ON c.key_id = v.key_id AND c.endpoint = v.endpoint
    JOIN totals AS t ON t.key_id = v.key_id
    JOIN at_large AS e ON e.endpoint = v.endpoint
    LEFT JOIN befores AS p ON p.key_id = v.key_id AND p.previous = v.previous
    LEFT JOIN baseline_transitions AS b
        ON b.key_id = v.key_id AND b.previous = v.previous AND b.endpoint = v.endpoint
    LEFT JOIN calls AS f ON f.key_id = v.key_id AND f.endpoint = v.previous
    WHERE v.previous = '' OR f.endpoint IS NOT NULL
),

scored AS (
    SELECT key_id, day, prefix, count(*) AS steps, count(*) FILTER (is_new) AS new_steps,
        arg_max(CASE WHEN previous = '' THEN format('starts with {}', endpoint)
            ELSE format('{} after {}', endpoint, previous) END,
            (is_new::INT, -of_routine, endpoint, previous)) AS strangest,
        sum(exact(log2((of_key + of_everybody) / 2 / of_routine))) AS ratio_bits
    FROM steps
    GROUP BY ALL
),

summed AS (
    SELECT *, (sum(ratio_bits) OVER (PARTITION BY key_id, prefix ORDER BY day))::DOUBLE AS bits
    FROM scored
)

SELECT
    s.key_id, s.day, s.prefix,
    greatest(s.bits, -$most_familiar_bits) AS bits,
    format('{} over {}', counted(b.steps, 'distinct step'),
        counted(h.active_days, 'day')) AS typical,
    CASE WHEN new_steps = 0 THEN counted(s.steps, 'step') || ', none of them new'
        ELSE format('{}, {} new: {}', counted(s.steps, 'step'), new_steps,
            strangest) END AS actual,
    CASE WHEN s.bits > 0 THEN 'requests in an order unusual for this key'
        ELSE 'requests in the usual order of this key' END AS explanation
FROM summed AS s
JOIN key_history AS h USING (key_id)
JOIN (SELECT key_id, count(*) AS steps FROM baseline_transitions GROUP BY ALL) AS b USING (key_id)
