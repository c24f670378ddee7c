-- grain: visit; reads visits, window_sessions, baseline_sessions
-- Beta-binomial predictive of a session that is used in a second network, by how often the
-- principal's sessions were, backing off to those of all principals.
WITH everybody AS (
    SELECT predictive(coalesce(sum(elsewhere), 0), coalesce(sum(sessions), 0), $elsewhere_prior,
        $everybody_strength_sessions) AS rate
    FROM baseline_sessions
),

moved AS (
    SELECT key_id, day, prefix, count(*) AS sessions, min(session) AS session,
        arg_min(first_prefix, (session, first_prefix)) AS first_prefix,
        arg_min(first_place, (session, first_place)) AS first_place
    FROM window_sessions
    WHERE network <> first_network
    GROUP BY ALL
)

SELECT
    m.key_id, m.day, m.prefix,
    bits(predictive(coalesce(b.elsewhere, 0), coalesce(b.sessions, 0), e.rate,
        $prior_strength_sessions)) AS bits,
    CASE WHEN b.sessions IS NULL THEN 'no session before the window'
        ELSE format('{} of {} used in a second network', b.elsewhere,
            counted(b.sessions, 'session')) END AS typical,
    format('session {}{} at {} ({}), first used at {} ({})', m.session,
        CASE WHEN m.sessions > 1 THEN format(' and {} more', m.sessions - 1) ELSE '' END,
        m.prefix, v.place, m.first_prefix, m.first_place) AS actual,
    'one short-lived credential is used in a second network' AS explanation
FROM moved AS m
JOIN visits AS v USING (key_id, day, prefix)
CROSS JOIN everybody AS e
LEFT JOIN baseline_sessions AS b USING (key_id)
