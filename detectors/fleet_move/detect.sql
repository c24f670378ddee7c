-- grain: visit; reads visits, visit_endpoints, visit_agents, baseline_networks, baseline_endpoints,
--   baseline_agents, keys
-- Less than 0 bits: the other keys of the owner that come upon the same new network in this window,
-- and call nothing new there by no new client, speak for a move. Of keys without an owner nothing
-- is said.
WITH moved AS (
    SELECT v.key_id, v.day, v.prefix, v.network, v.place, k.owner
    FROM visits AS v
    JOIN keys AS k USING (key_id)
    WHERE k.owner IS NOT NULL AND v.located
        AND EXISTS (FROM baseline_networks AS b WHERE b.key_id = v.key_id)
        AND NOT EXISTS (
            FROM baseline_networks AS b WHERE b.key_id = v.key_id AND b.network = v.network)
),

strange AS (
    SELECT DISTINCT m.key_id, m.network
    FROM moved AS m
    WHERE EXISTS (
            FROM visit_endpoints AS e
            ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
            WHERE e.key_id = m.key_id AND e.day = m.day AND e.prefix = m.prefix)
        OR EXISTS (
            FROM visit_agents AS a
            ANTI JOIN baseline_agents AS b ON b.key_id = a.key_id AND b.product = a.product
            WHERE a.key_id = m.key_id AND a.day = m.day AND a.prefix = m.prefix)
),

as_ever AS (SELECT * FROM moved ANTI JOIN strange USING (key_id, network)),

fleets AS (
    SELECT owner, network, count(DISTINCT key_id) - 1 AS others
    FROM as_ever
    GROUP BY ALL
    HAVING count(DISTINCT key_id) > $fewest_others
)

SELECT
    m.key_id, m.day, m.prefix, -least($most_bits, $bits_a_key * f.others) AS bits,
    'keys of one owner move one by one' AS typical,
    format('{} of the owner''s keys moved to {}', f.others + 1, m.place) AS actual,
    'the owner''s keys moved together and behave as usual' AS explanation
FROM as_ever AS m
JOIN fleets AS f USING (owner, network)
