-- grain: visit; reads visits, keys, owner_prefixes, visit_objects, baseline_objects
-- A prefix belongs to an environment when the owner's keys of that environment alone used it: a key
-- that came from there before has made it a shared one.
WITH prefix_environment AS (
    SELECT owner, prefix, min(environment) AS environment
    FROM owner_prefixes
    WHERE environment IS NOT NULL
    GROUP BY owner, prefix
    HAVING count(DISTINCT environment) = 1 AND sum(days) >= $fewest_days
),

-- So does an object: a check, an alert. Where all keys of an owner are of one environment none is
-- strange.
divided AS (
    SELECT owner FROM keys
    WHERE owner IS NOT NULL GROUP BY owner HAVING count(DISTINCT environment) > 1
),

known_objects AS (
    SELECT k.owner, b.endpoint, b.object, min(k.environment) AS environment,
        min(k.environment) = max(k.environment) AND sum(b.days) >= $fewest_days AS is_of_one
    FROM baseline_objects AS b
    JOIN keys AS k USING (key_id)
    SEMI JOIN divided AS d ON d.owner = k.owner
    SEMI JOIN visit_objects AS v ON v.object = b.object
    WHERE k.environment IS NOT NULL
    GROUP BY ALL
),

touched AS (
    SELECT
        o.key_id, o.day, o.prefix, k.environment, count(*) AS known,
        count(*) FILTER (n.is_of_one AND n.environment <> k.environment) AS strange,
        min(n.environment) FILTER (n.is_of_one AND n.environment <> k.environment) AS whose,
        min(o.endpoint) FILTER (n.is_of_one AND n.environment <> k.environment) AS endpoint
    FROM visit_objects AS o
    JOIN keys AS k USING (key_id)
    JOIN known_objects AS n ON n.owner = k.owner AND n.endpoint = o.endpoint AND n.object = o.object
    WHERE k.environment IS NOT NULL
    GROUP BY ALL
)

SELECT
    v.key_id, v.day, v.prefix, $crossing_bits AS bits,
    format('{} key', k.environment) AS typical,
    format('{} ({}), used by {} keys only', v.prefix, v.place, p.environment) AS actual,
    format('{} key used from the {} environment', k.environment, p.environment)
        AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
JOIN prefix_environment AS p ON p.owner = k.owner AND p.prefix = v.prefix
WHERE k.environment <> p.environment
UNION ALL
SELECT
    key_id, day, prefix, $objects_bits AS bits,
    format('objects of the {} environment', environment) AS typical,
    format('{} of {} belong to {} keys only, for example at {}', strange,
        counted(known, 'known object'), whose,
        endpoint) AS actual,
    format('{} key used on objects of the {} environment', environment, whose) AS explanation
FROM touched
WHERE strange >= $fewest_objects AND strange > $foreign_share * known
UNION ALL
SELECT
    v.key_id, v.day, v.prefix, $label_bits AS bits,
    format('{} in the inventory', k.environment) AS typical,
    format('{} in the key itself', k.logged_environment) AS actual,
    'inventory and key disagree about the environment' AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
WHERE k.in_inventory AND k.environment <> k.logged_environment
