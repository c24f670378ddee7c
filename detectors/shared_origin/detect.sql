-- grain: visit; reads visits, visit_addresses, visit_endpoints, visit_agents, baseline_prefixes,
--   baseline_networks, baseline_endpoints, baseline_agents, keys
-- How improbable it is that so many owners' keys come upon one place (an address or its prefix)
-- that is new to all of them, and that so many of them do there what they never did. The first is
-- the tail of a Gamma-Poisson of shape 1 (a geometric distribution) whose mean is how many owners
-- come upon the other new places of the same network; the second Chernoff's bound of a binomial
-- whose rate is that of the network's new places with one owner, backing off to all networks. Keys
-- that behave as ever are the campaign's only as far as the others are.
-- To a key without a past nothing is new.
WITH new_endpoints AS (
    SELECT e.key_id, e.day, e.prefix, e.endpoint
    FROM visit_endpoints AS e
    SEMI JOIN baseline_networks AS n ON n.key_id = e.key_id
    ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
),

-- What several owners' keys begin to call from where they always ran.
released AS (
    SELECT n.endpoint
    FROM new_endpoints AS n
    JOIN visits AS v USING (key_id, day, prefix)
    SEMI JOIN baseline_networks AS b ON b.key_id = v.key_id AND b.network = v.network
    LEFT JOIN keys AS k USING (key_id)
    GROUP BY n.endpoint
    HAVING count(DISTINCT coalesce(k.owner, n.key_id)) >= $release_owners
),

-- What a key never did.
deeds AS (
    SELECT key_id, day, prefix FROM new_endpoints ANTI JOIN released USING (endpoint)
    UNION
    SELECT g.key_id, g.day, g.prefix
    FROM visit_agents AS g
    SEMI JOIN baseline_networks AS n ON n.key_id = g.key_id
    ANTI JOIN baseline_agents AS b ON b.key_id = g.key_id AND b.product = g.product
),

arrivals AS (
    SELECT v.key_id, v.day, v.prefix, v.network, v.place, a.address, a.ip,
        coalesce(k.owner, v.key_id) AS owner,
        EXISTS (FROM deeds AS d
            WHERE d.key_id = v.key_id AND d.day = v.day AND d.prefix = v.prefix) AS is_stranger
    FROM visits AS v
    JOIN visit_addresses AS a USING (key_id, day, prefix)
    LEFT JOIN keys AS k USING (key_id)
    WHERE v.located
),

-- Where an owner's key came from before is no new place to the others.
fresh AS (
    SELECT a.*
    FROM arrivals AS a
    ANTI JOIN (
        SELECT DISTINCT coalesce(k.owner, b.key_id) AS owner, b.prefix
        FROM baseline_prefixes AS b
        LEFT JOIN keys AS k USING (key_id)
    ) AS o ON o.owner = a.owner AND o.prefix = a.prefix
),

at_places AS (
    SELECT *, address AS shared, ip AS shown, $prior_sharing_of_address AS prior FROM fresh
    UNION ALL
    SELECT *, prefix, prefix, $prior_sharing_of_prefix FROM fresh WHERE prefix <> ip
),

shared AS (
    SELECT shared, prior, min(network) AS network, count(DISTINCT owner) AS owners,
        count(DISTINCT owner) FILTER (is_stranger) AS strangers,
        count(DISTINCT key_id) FILTER (is_stranger) AS keys
    FROM at_places
    GROUP BY ALL
),

networks AS (
    SELECT network, prior, sum(owners - 1) AS others, count(*) AS places,
        count(*) FILTER (owners = 1) AS alone,
        coalesce(sum(strangers) FILTER (owners = 1), 0) AS strange
    FROM shared
    GROUP BY ALL
),

everywhere AS (
    SELECT prior, predictive(sum(strange), sum(alone), $stranger_prior, $prior_places) AS rate
    FROM networks
    GROUP BY prior
),

scored AS (
    SELECT s.*,
        (n.others - (s.owners - 1) + prior * $prior_places)
            / (n.places - 1 + $prior_places) AS mean,
        predictive(n.strange, n.alone, e.rate, $prior_places) AS rate,
        s.strangers / s.owners AS strange_share
    FROM shared AS s
    JOIN networks AS n USING (network, prior)
    JOIN everywhere AS e USING (prior)
    WHERE s.strangers > 1
)

SELECT
    a.key_id, a.day, a.prefix,
    least($most_bits, (s.owners - 1) * log2((1 + s.mean) / s.mean)
        + binomial_tail_bits(s.strangers, s.owners, s.rate))
        * CASE WHEN a.is_stranger THEN 1 ELSE s.strange_share END AS bits,
    format('a new address or prefix of {} is shared by {:.2f} more owners', a.place, s.mean)
        AS typical,
    format('{} is new to {} of {}', a.shown, counted(s.keys, 'key'),
        counted(s.strangers, 'owner')) AS actual,
    'one new origin uses keys of several owners' AS explanation, a.shown AS subject
FROM at_places AS a
JOIN scored AS s USING (shared)
QUALIFY row_number()
    OVER (PARTITION BY a.key_id, a.day, a.prefix ORDER BY bits DESC, s.prior, a.shown) = 1
