-- grain: visit; reads visits, visit_agents, keys, baseline_networks, baseline_agents
-- A revoked key that still works is a failed revocation, an expired one a check that the vendor
-- fails; one that is tried from a strange place is in a thief's hands; one that is tried from the
-- usual place has a forgotten consumer. What is usual is known only of a key that was used before
-- it ended.
WITH ended AS (
    SELECT *, least(revoked_at, expires_at) AS ended_at,
        CASE WHEN expires_at IS NULL OR revoked_at <= expires_at THEN 'revoked' ELSE 'expired' END
            AS how
    FROM keys
    WHERE revoked_at IS NOT NULL OR expires_at IS NOT NULL
),

usual AS (
    SELECT b.* FROM baseline_networks AS b
    JOIN ended AS e ON e.key_id = b.key_id AND b.first_day < e.ended_at
),

used AS (
    SELECT
        v.*, e.ended_at, e.how,
        -- Before its end it may have been used all day: then nobody knows who was let in after.
        v.succeeded > 0 AND v.first_ts > e.ended_at AS accepted,
        EXISTS (FROM usual AS u WHERE u.key_id = v.key_id) AS known,
        EXISTS (FROM usual AS u WHERE u.key_id = v.key_id AND u.network = v.network)
        -- A roaming consumer: the same client in the same country.
        OR (
            EXISTS (FROM usual AS u
                WHERE u.key_id = v.key_id AND u.country = v.country AND v.country <> '-')
            AND NOT EXISTS (FROM visit_agents AS a
                ANTI JOIN baseline_agents AS g ON g.key_id = a.key_id AND g.product = a.product
                WHERE a.key_id = v.key_id AND a.day = v.day AND a.prefix = v.prefix)
        ) AS familiar
    FROM visits AS v
    JOIN ended AS e USING (key_id)
    WHERE v.last_ts > e.ended_at
)

SELECT
    key_id, day, prefix,
    CASE WHEN accepted THEN $accepted_bits
        WHEN known AND NOT familiar THEN $stranger_bits
        ELSE $forgotten_consumer_bits END AS bits,
    format('no use since it {} on {}', CASE how WHEN 'revoked' THEN 'was revoked' ELSE how END,
        strftime(ended_at, '%Y-%m-%d %H:%M')) AS typical,
    format('{} from {} ({}), {} accepted, {} denied{}', counted(events, 'request'), prefix, place,
        succeeded, denied, CASE WHEN first_ts <= ended_at
            THEN strftime(last_ts, ', last at %H:%M') ELSE '' END) AS actual,
    CASE
        WHEN accepted AND how = 'expired'
            THEN 'expired key still accepted, so the vendor does not enforce expiry: revoke it'
        WHEN accepted THEN 'revoked key still accepted: revoke it again'
        WHEN known AND NOT familiar
            THEN format('{} key used from an unfamiliar network', how)
        WHEN known THEN 'old key still used by one of its consumers'
        ELSE format('{} key used; its earlier consumers are unknown', how)
    END AS explanation
FROM used
