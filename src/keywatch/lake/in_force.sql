-- What is in force of tables that only grow: the newest word of each key and address.

-- grain: key_id; the inventory in force, as its newest import says
CREATE OR REPLACE TEMP MACRO inventory_in_force() AS TABLE
FROM lake.keys QUALIFY row_number() OVER (PARTITION BY key_id ORDER BY import_id DESC) = 1;

-- grain: address; the origin in force, as the newest databases that were asked say
CREATE OR REPLACE TEMP MACRO origins_in_force() AS TABLE
FROM lake.origins QUALIFY row_number() OVER (PARTITION BY address ORDER BY load_id DESC) = 1;

-- grain: address; as the newest databases place it; every one has a prefix, a network and a
-- country, if only its own name.
CREATE OR REPLACE TEMP MACRO known_places() AS TABLE
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
FROM origins_in_force();
