-- grain: key; the verdict in force on its case in a window, that window's own before one that
-- overlaps. Inputs: the case_visits of the window from $start to $end.
WITH given AS (
    SELECT * FROM verdicts_in_force() WHERE window_start < $end AND window_end > $start
),

newest AS (
    FROM given
    QUALIFY row_number() OVER (
        PARTITION BY key_id
        ORDER BY window_start = $start AND window_end = $end DESC, given_at DESC,
            verdict_id DESC) = 1
),

-- Suspicious visits that no verdict explains.
unexplained AS (
    SELECT DISTINCT v.key_id
    FROM case_visits AS v
    WHERE v.suspicious AND NOT EXISTS (
        FROM given AS g
        WHERE g.key_id = v.key_id AND g.verdict <> 'compromised'
            AND v.day >= g.window_start::DATE AND v.day < g.window_end
            AND is_about(g.origins, v.prefix, v.network, v.class))
)

SELECT n.key_id, n.verdict, n.by_whom AS "by", n.because, n.given_at,
    n.window_start = $start AND n.window_end = $end AS is_own_window,
    u.key_id IS NOT NULL AS is_unexplained, n.action AS action_before, n.bits AS bits_before
FROM newest AS n
LEFT JOIN unexplained AS u USING (key_id)
ORDER BY n.key_id
