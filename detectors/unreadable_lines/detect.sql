-- grain: key_day; reads unread_lines, visits, requests_by_day, key_history
-- How improbable the count is (tail of a Gamma-Poisson): expected are as many as on the key's own
-- days, or, where more of them, as many as of the other keys' lines of that day could not be read.
WITH by_day AS (SELECT key_id, day, sum(events) AS events FROM visits GROUP BY ALL),

unread AS (SELECT * FROM unread_lines WHERE day >= $start AND day < $end),

past AS (
    SELECT key_id, sum(lines) AS lines, max(lines) AS most FROM unread_lines WHERE day < $start
        GROUP BY key_id
),

lines_by_day AS (
    SELECT day, r.events AS read, u.lines AS unread
    FROM (SELECT day, sum(lines) AS lines FROM unread GROUP BY day) AS u
    LEFT JOIN requests_by_day AS r USING (day)
),

expected AS (
    SELECT
        u.key_id, u.day, u.lines, u.reason, d.events IS NOT NULL AS in_use, h.active_days,
        coalesce(p.lines, 0) AS past_lines, coalesce(p.most, 0) AS most,
        greatest(
            (past_lines + $prior_lines_a_day * $prior_days) / (h.active_days + $prior_days),
            coalesce((u.lines + coalesce(d.events, 0)) * (t.unread - u.lines)
                / nullif(t.unread - u.lines + coalesce(t.read, 0) - coalesce(d.events, 0), 0), 0)
        ) AS mu
    FROM unread AS u
    JOIN key_history AS h USING (key_id)
    JOIN lines_by_day AS t USING (day)
    LEFT JOIN past AS p USING (key_id)
    LEFT JOIN by_day AS d ON d.key_id = u.key_id AND d.day = u.day
)

SELECT
    -- On a day without any line that could be read it is said of the key.
    key_id, CASE WHEN in_use THEN day END AS day, NULL AS prefix,
    least($most_bits, tail_bits(lines, mu, $shape)) AS bits,
    CASE WHEN active_days = 0 THEN 'no history'
        WHEN past_lines = 0
            THEN format('no unreadable lines over {}', counted(active_days, 'day'))
        ELSE format('{} over {}, at most {} on one',
            counted(past_lines::BIGINT, 'unreadable line'),
            counted(active_days, 'day'), most) END AS typical,
    format('{} of this key on {}, mostly: {}', counted(lines, 'unreadable line'), day,
        reason) AS actual,
    'unreadable log lines of this key: what it did there is unknown' AS explanation
FROM expected
WHERE lines >= $fewest_lines
