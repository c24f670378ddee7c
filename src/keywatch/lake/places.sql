-- grain: address, as the newest databases place it; every one has a prefix, a network and a country, if only
-- its own name.
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
FROM (
    FROM lake.origins
    QUALIFY row_number() OVER (PARTITION BY address ORDER BY load_id DESC) = 1
);
