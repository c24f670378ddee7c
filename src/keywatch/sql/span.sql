-- What the windows of a span have in common: made once, however many of its windows are judged.
-- Variables: span_start, span_end (days, half open); windows and their baselines lie inside.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: address; every address has a prefix, a network and a country, if only its own name.
-- Numbered, so that min(place_id) is the most telling of many
CREATE OR REPLACE TEMP TABLE places AS
SELECT
    row_number() OVER (
        ORDER BY list_position(['tor', 'vpn', 'proxy', 'relay', 'hosting'], class) NULLS LAST, address
    )::INTEGER AS place_id,
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

-- grain: key, day, place
CREATE OR REPLACE TEMP TABLE span_places AS
SELECT a.key_id, a.day, p.place_id
FROM lake.activity AS a
JOIN places AS p USING (address)
WHERE a.day >= getvariable('span_start') AND a.day < getvariable('span_end')
GROUP BY ALL;
