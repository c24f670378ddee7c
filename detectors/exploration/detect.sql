-- grain: visit; reads visits, new_networks, owner_places, key_history, visit_transitions,
-- keys, source_catalogue, baseline_transitions, baseline_endpoints
-- Log-likelihood ratio of what explorers do, in a network that is new to the key: the share of
-- strangers who do it, against the larger of the key's own days with that step (Beta-binomial) and
-- the share of the owner's new programs. Asking is calling what any key may call and what is worth
-- nothing (who am I); listing is GET X and then GET X/{id}. Of each the strangest counts; a session
-- that begins by asking more than one that asks later.
WITH steps AS (
    SELECT t.key_id, t.day, t.prefix, t.previous, t.endpoint, h.active_days
    FROM visit_transitions AS t
    JOIN visits AS v USING (key_id, day, prefix)
    SEMI JOIN new_networks AS n ON n.key_id = v.key_id AND n.network = v.network
    ANTI JOIN owner_places AS o ON o.key_id = v.key_id AND o.prefix = v.prefix
    JOIN key_history AS h ON h.key_id = t.key_id
),

acts AS (
    SELECT s.*, 'asks' AS act, previous = '' AS is_first,
        CASE WHEN is_first THEN $strangers_asking_first
            ELSE $strangers_asking_later END AS of_strangers,
        CASE WHEN is_first THEN $programs_asking_first
            ELSE $programs_asking_later END AS of_programs
    FROM steps AS s
    JOIN keys AS k USING (key_id)
    SEMI JOIN source_catalogue AS c
        ON c.source = k.source AND c.endpoint = s.endpoint AND c.any_key
            AND c.sensitivity = 'none'
    UNION ALL
    SELECT s.*, 'lists', false, $strangers_listing, $programs_listing
    FROM steps AS s
    WHERE starts_with(previous, 'GET ') AND starts_with(endpoint, previous || '/{')
        AND NOT contains(endpoint[strlen(previous) + 2:], '/')
),

scored AS (
    SELECT a.*,
        CASE WHEN a.act = 'asks' AND NOT a.is_first THEN coalesce(e.days, 0)
            ELSE coalesce(b.days, 0) END
            AS own_days,
        log2(of_strangers / greatest(of_programs,
            predictive(own_days, a.active_days, of_programs, $prior_strength_days))) AS bits,
        CASE WHEN a.is_first THEN format('starts with {}', a.endpoint)
            WHEN a.act = 'asks' THEN a.endpoint
            ELSE format('{} after {}', a.endpoint, a.previous) END AS step
    FROM acts AS a
    LEFT JOIN baseline_transitions AS b USING (key_id, previous, endpoint)
    LEFT JOIN baseline_endpoints AS e ON e.key_id = a.key_id AND e.endpoint = a.endpoint
    QUALIFY row_number()
        OVER (PARTITION BY a.key_id, a.day, a.prefix, a.act ORDER BY bits DESC, step) = 1
)

SELECT
    key_id, day, prefix,
    greatest(least(sum(exact(bits))::DOUBLE, $most_bits), -$most_familiar_bits) AS bits,
    string_agg(format('{} on {} of {}', step, own_days, counted(active_days, 'day')), '; '
        ORDER BY act) AS typical,
    string_agg(step, '; ' ORDER BY act) AS actual,
    CASE WHEN sum(bits) <= 0 THEN 'identity checks and listings usual for this key'
        WHEN count(*) = 2 THEN 'checks whose key it is, and lists resources before reading them'
        WHEN min(act) = 'asks' THEN 'checks whose key it is'
        ELSE 'lists resources before reading them' END AS explanation
FROM scored
GROUP BY ALL
