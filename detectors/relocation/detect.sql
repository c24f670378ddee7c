-- grain: visit; reads visits, stays, key_history
-- Less than 0 bits: while the key is at a network that is new to it, and around that time, nothing
-- comes from where it always ran, and the new place does the work. A thief seldom makes the owner
-- stop. The bits are how improbable the silence is where the owner goes on as ever (stays), and no
-- more than a silence of as many requests as the new place did.
SELECT
    v.key_id, v.day, v.prefix,
    -least($most_bits, s.silence_bits, silence_bits(s.done)) AS bits,
    format('about {} in that time, mostly from {}',
        counted(round(s.missing_events)::BIGINT, 'request'),
        h.usual_place)
        AS typical,
    format('none from its usual place {} {}, but {} from {}',
        CASE WHEN s.silent_until IS NULL THEN 'since' ELSE 'from' END,
        strftime(s.silent_since, '%Y-%m-%d %H:%M')
            || coalesce(strftime(s.silent_until, ' to %Y-%m-%d %H:%M'), ''),
        counted(s.done, 'request'), v.place) AS actual,
    CASE WHEN s.silent_until IS NULL
        THEN 'key moved: its usual place went silent and the new one took over'
        ELSE 'key used elsewhere for a time while its usual place was silent'
    END AS explanation
FROM visits AS v
JOIN stays AS s USING (key_id, network)
JOIN key_history AS h USING (key_id)
WHERE NOT s.is_beside
