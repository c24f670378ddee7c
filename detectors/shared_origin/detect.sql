-- grain: visit; reads arrivals, new_endpoints
-- How improbable it is that so many owners' keys come upon one place (an address or its prefix)
-- that is new to all of them, and that so many of them do there what they never did. The first is
-- the tail of a Gamma-Poisson of shape 1 (a geometric distribution) whose mean is how many owners
-- come upon the other new places of the same network; the second Chernoff's bound of a binomial
-- whose rate is that of the network's new places with one owner, backing off to all networks. Keys
-- that behave as ever are the campaign's only as far as the others are.
-- To a key without a past nothing is new.
-- Released are endpoints that several owners' keys begin to call from where they always ran.
WITH released AS (
    SELECT endpoint
    FROM new_endpoints
    WHERE at_usual
    GROUP BY endpoint
    HAVING count(DISTINCT owner) >= $release_owners
),

-- What a key never did.
deeds AS (
    SELECT DISTINCT key_id, day, prefix
    FROM new_endpoints ANTI JOIN released USING (endpoint)
    WHERE has_past
),

fresh AS (
    SELECT a.*, a.new_client OR d.key_id IS NOT NULL AS is_stranger
    FROM arrivals AS a
    LEFT JOIN deeds AS d USING (key_id, day, prefix)
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
