-- grain: visit; reads visits, visit_addresses, visit_endpoints, visit_agents, baseline_prefixes,
--   baseline_endpoints, baseline_agents, keys
-- How improbable it is that so many owners' keys come upon one address that is new to all of them and
-- do there what they never did: tail of a Gamma-Poisson whose mean is how many do at the other new
-- addresses of the same network. Keys that behave as ever share the new exit of their provider.
WITH strangers AS (
    SELECT v.key_id, v.day, v.prefix, v.network, v.place, a.address, a.ip,
        coalesce(k.owner, v.key_id) AS owner
    FROM visits AS v
    JOIN visit_addresses AS a USING (key_id, day, prefix)
    LEFT JOIN keys AS k USING (key_id)
    WHERE v.located
        AND (EXISTS (
            FROM visit_agents AS g
            ANTI JOIN baseline_agents AS b ON b.key_id = g.key_id AND b.product = g.product
            WHERE g.key_id = v.key_id AND g.day = v.day AND g.prefix = v.prefix)
        OR EXISTS (
            FROM visit_endpoints AS e
            ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
            WHERE e.key_id = v.key_id AND e.day = v.day AND e.prefix = v.prefix))
),

-- Where an owner's key came from before is no new address to the others.
fresh AS (
    SELECT s.*
    FROM strangers AS s
    ANTI JOIN (
        SELECT DISTINCT coalesce(k.owner, b.key_id) AS owner, b.prefix
        FROM baseline_prefixes AS b
        LEFT JOIN keys AS k USING (key_id)
    ) AS o ON o.owner = s.owner AND o.prefix = s.prefix
),

shared AS (
    SELECT address, any_value(network) AS network, count(DISTINCT owner) AS owners,
        count(DISTINCT key_id) AS keys
    FROM fresh
    GROUP BY address
),

networks AS (
    SELECT network, sum(owners - 1) AS others, count(*) AS addresses FROM shared GROUP BY network
),

scored AS (
    SELECT s.*,
        (n.others - (s.owners - 1) + $prior_sharing * $prior_addresses)
            / (n.addresses - 1 + $prior_addresses) AS mean
    FROM shared AS s
    JOIN networks AS n USING (network)
    WHERE s.owners > 1
)

SELECT
    f.key_id, f.day, f.prefix,
    least($most_bits, tail_bits(s.owners - 1, s.mean, $shape)) AS bits,
    format('a new address of {} is shared by {:.2f} more owners', f.place, s.mean) AS typical,
    format('{} is new to {} of {}', f.ip, counted(s.keys, 'key'), counted(s.owners, 'owner')) AS actual,
    'one new address uses the keys of several owners' AS explanation
FROM fresh AS f
JOIN scored AS s USING (address)
QUALIFY row_number() OVER (PARTITION BY f.key_id, f.day, f.prefix ORDER BY bits DESC, f.ip) = 1
