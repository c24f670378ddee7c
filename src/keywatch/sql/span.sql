-- What the windows of a span have in common: made once, however many of its windows are judged.
-- Variables: span_start, span_end (days, half open); windows and their baselines lie inside.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: address; numbered, so that min(place_id) is the most telling of many
CREATE OR REPLACE TEMP TABLE places AS
SELECT
    row_number() OVER (
        ORDER BY list_position(['tor', 'vpn', 'proxy', 'relay', 'hosting'], class) NULLS LAST, address
    )::INTEGER AS place_id,
    *
FROM known_places();

-- grain: key, day, place
CREATE OR REPLACE TEMP TABLE span_places AS
SELECT a.key_id, a.day, p.place_id
FROM lake.activity AS a
JOIN places AS p USING (address)
WHERE a.day >= getvariable('span_start') AND a.day < getvariable('span_end')
GROUP BY ALL;
