-- What is in force of tables that only grow: the newest word of each key and address.

-- grain: key_id; the inventory in force, as its newest import says, or the newest until `import`
CREATE OR REPLACE TEMP MACRO inventory_in_force(import := NULL::BIGINT) AS TABLE
FROM lake.keys
WHERE import IS NULL OR import_id <= import
QUALIFY row_number() OVER (PARTITION BY key_id ORDER BY import_id DESC) = 1;

-- grain: key_id; what was tried before the day `until` and is no key: no inventory has it, and each
-- request with it was denied (401; where there is an inventory, or 403). Whoever guesses makes as
-- many of them as they like.
CREATE OR REPLACE TEMP MACRO unknown_credentials_until(until) AS TABLE
SELECT key_id
FROM (
    SELECT key_id, bool_and(status_class = '401') AS unauthenticated,
        bool_and(is_denied(status_class)) AS denied
    FROM lake.activity
    WHERE day < until
    GROUP BY key_id
)
ANTI JOIN inventory_in_force() USING (key_id)
WHERE unauthenticated OR (denied AND EXISTS (FROM lake.keys));

-- grain: address; the origin in force, as the newest databases that were asked say; of the
-- addresses in the list `among`, or of all. To choose a few afterwards takes much longer.
CREATE OR REPLACE TEMP MACRO origins_in_force(among := NULL::VARCHAR[]) AS TABLE
FROM lake.origins
WHERE among IS NULL OR address IN (SELECT unnest(among))
QUALIFY row_number() OVER (PARTITION BY address ORDER BY load_id DESC) = 1;

-- grain: address; of those `among`, as the newest databases place it; every one has a prefix, a
-- network and a country, if only its own name.
CREATE OR REPLACE TEMP MACRO known_places(among := NULL::VARCHAR[]) AS TABLE
SELECT
    address,
    coalesce(ip, nullif(address, ''), '(none)') AS ip,
    coalesce(prefix, nullif(address, ''), '(none)') AS prefix,
    CASE
        WHEN asn IS NOT NULL THEN 'AS' || asn
        WHEN class IN ('private', 'reserved', 'service', 'invalid', 'none') THEN class
        ELSE coalesce(prefix, address)
    END AS network,
    coalesce(country, '-') AS country,
    class, asn, organization, coalesce(located, false) AS located, latitude, longitude, accuracy_km
FROM origins_in_force(among := among);

-- grain: leak_id, key_id; a find of a leaked key, and the key of `known` (the name of a table with
-- key_id and key) that it is: the one that it names, or the one with its hash, or the only one that
-- is shown like it. Two hashes are two keys.
CREATE OR REPLACE TEMP MACRO leaks_of(known) AS TABLE
WITH leaked AS MATERIALIZED (FROM lake.leaked_keys),

shown AS (
    SELECT DISTINCT key_id, "key", masked_part("key") AS masked FROM query_table(known)
),

lone AS (
    SELECT masked, min(key_id) AS key_id, min("key") AS "key"
    FROM shown
    WHERE length(masked) > 12 AND contains(masked, '…')
    GROUP BY masked
    HAVING count(DISTINCT key_id) = 1
)

SELECT l.leak_id, s.key_id
FROM leaked AS l
JOIN shown AS s ON s.key_id = l.key_id
UNION
SELECT l.leak_id, s.key_id
FROM leaked AS l
JOIN shown AS s ON s.key_id = l."key"
UNION
SELECT l.leak_id, s.key_id
FROM leaked AS l
JOIN shown AS s ON s."key" = l."key" AND contains(l."key", '#')
UNION
SELECT l.leak_id, o.key_id
FROM leaked AS l
JOIN lone AS o ON o.masked = masked_part(l."key")
WHERE NOT (contains(l."key", '#') AND contains(o."key", '#'));
