-- grain: visit; reads visits, baseline_networks, baseline_days, key_history
-- Less than 0 bits: since the key came to a network that is new to it, nothing comes from where it always
-- ran, and the new place does the work. A thief seldom makes the owner stop. The bits are how improbable the
-- silence is where the owner goes on as ever: no request where the least of what is usual and what the new
-- place did is expected, by a Gamma-Poisson (days are uneven).
WITH placed AS (
    SELECT v.*, b.key_id IS NOT NULL AS is_known
    FROM visits AS v
    LEFT JOIN (SELECT DISTINCT key_id, network FROM baseline_networks) AS b USING (key_id, network)
    WHERE v.key_id IN (SELECT key_id FROM baseline_networks)
),

moved AS (
    SELECT key_id, min(first_ts) AS since, sum(succeeded)::BIGINT AS done
    FROM placed
    WHERE NOT is_known
    GROUP BY key_id
),

silent AS (
    SELECT m.*
    FROM moved AS m
    WHERE NOT EXISTS (
        FROM placed AS p
        WHERE p.key_id = m.key_id AND p.is_known
            AND p.last_ts > m.since + to_hours($handover_hours::INTEGER))
),

-- grain: key, weekend or not; requests in an hour of such a day
rates AS (
    SELECT h.key_id, isodow(d.day) > 5 AS is_weekend, coalesce(sum(b.events), 0) / count(*) / 24 AS an_hour
    FROM key_history AS h
    SEMI JOIN silent USING (key_id)
    CROSS JOIN LATERAL (
        SELECT unnest(generate_series(h.first_day, $start::DATE - 1, INTERVAL 1 DAY))::DATE AS day) AS d
    LEFT JOIN baseline_days AS b ON b.key_id = h.key_id AND b.day = d.day
    GROUP BY ALL
),

-- grain: key; what was to be expected of its usual place, hour by hour
expected AS (
    SELECT s.key_id, s.since, s.done, sum(r.an_hour) AS events
    FROM silent AS s
    CROSS JOIN LATERAL (
        SELECT unnest(generate_series(s.since, (SELECT max(last_ts) FROM visits), INTERVAL 1 HOUR)) AS hour)
        AS t
    JOIN rates AS r ON r.key_id = s.key_id AND r.is_weekend = (isodow(t.hour) > 5)
    GROUP BY ALL
)

SELECT
    p.key_id, p.day, p.prefix,
    -least($most_bits, $shape * log2(1 + least(e.done, e.events) / $shape)) AS bits,
    format('about {} until the window''s end, mostly {}', counted(round(e.events)::BIGINT, 'request'), h.usual_place)
        AS typical,
    format('none from there since {}, but {} from {}', strftime(e.since, '%Y-%m-%d %H:%M'),
        counted(e.done, 'request'), p.place) AS actual,
    'the key moved: its usual place fell silent and the new one does the work' AS explanation
FROM placed AS p
JOIN expected AS e USING (key_id)
JOIN key_history AS h USING (key_id)
WHERE NOT p.is_known
