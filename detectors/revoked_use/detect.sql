-- grain: visit; reads visits, visit_agents, keys, baseline_prefixes, baseline_agents
-- A revoked key that still works is a failed revocation; one that is tried from a strange place is
-- in a thief's hands; one that is tried from the usual place has a forgotten consumer.
WITH ended AS (
    SELECT *, least(revoked_at, expires_at) AS ended_at,
        CASE WHEN expires_at IS NULL OR revoked_at <= expires_at THEN 'revoked' ELSE 'expired' END
            AS how
    FROM keys
    WHERE revoked_at IS NOT NULL OR expires_at IS NOT NULL
),

used AS (
    SELECT
        v.*, e.ended_at, e.how,
        EXISTS (FROM baseline_prefixes AS b
            WHERE b.key_id = v.key_id AND b.network = v.network AND b.first_day < e.ended_at)
        -- A roaming consumer: the same client in the same country.
        OR EXISTS (FROM baseline_prefixes AS b
            WHERE b.key_id = v.key_id AND b.country = v.country AND b.first_day < e.ended_at)
        AND NOT EXISTS (FROM visit_agents AS a
            ANTI JOIN baseline_agents AS g ON g.key_id = a.key_id AND g.product = a.product
            WHERE a.key_id = v.key_id AND a.day = v.day AND a.prefix = v.prefix) AS familiar
    FROM visits AS v
    JOIN ended AS e USING (key_id)
    WHERE v.last_ts > e.ended_at
)

SELECT
    key_id, day, prefix,
    CASE WHEN succeeded > 0 AND first_ts > ended_at THEN $accepted_bits
        WHEN NOT familiar THEN $stranger_bits
        ELSE $forgotten_consumer_bits END AS bits,
    format('no use since it {} on {}', CASE how WHEN 'revoked' THEN 'was revoked' ELSE how END,
        strftime(ended_at, '%Y-%m-%d %H:%M')) AS typical,
    format('{} from {} ({}), {} accepted', counted(events, 'request'), prefix, place, succeeded) AS actual,
    CASE WHEN succeeded > 0 AND first_ts > ended_at
            THEN format('the {} key is still accepted: revoke it again', how)
        WHEN NOT familiar THEN format('somebody tries the {} key from a strange network', how)
        ELSE 'a consumer still has the old key' END AS explanation
FROM used
