-- grain: visit; reads visits, keys, owner_prefixes
-- A prefix belongs to an environment when the owner's keys of that environment alone used it: a key
-- that came from there before has made it a shared one.
WITH prefix_environment AS (
    SELECT owner, prefix, min(environment) AS environment
    FROM owner_prefixes
    WHERE environment IS NOT NULL
    GROUP BY owner, prefix
    HAVING count(DISTINCT environment) = 1 AND sum(days) >= $fewest_days
)

SELECT
    v.key_id, v.day, v.prefix, $crossing_bits AS bits,
    format('a {} key', k.environment) AS typical,
    format('{} ({}), where only {} keys live', v.prefix, v.place, p.environment) AS actual,
    format('a {} key is used from the {} environment', k.environment, p.environment)
        AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
JOIN prefix_environment AS p ON p.owner = k.owner AND p.prefix = v.prefix
WHERE k.environment <> p.environment
UNION ALL
SELECT
    v.key_id, v.day, v.prefix, $label_bits AS bits,
    format('{} in the inventory', k.environment) AS typical,
    format('{} in the key itself', k.logged_environment) AS actual,
    'the inventory and the key disagree about its environment' AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
WHERE k.in_inventory AND k.environment <> k.logged_environment
