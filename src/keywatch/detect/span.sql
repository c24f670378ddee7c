-- What the windows of a span have in common: made once, however many of its windows are scored.
-- Variables: span_start, span_end (days, half open), windows and their baselines lie inside;
-- span_addresses, a list of those to know the places of, or null: of all.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: address; numbered, so that min(place_id) is the most telling of many
CREATE OR REPLACE TEMP TABLE places AS
SELECT row_number() OVER ()::INTEGER AS place_id, *
FROM (
    FROM known_places(among := getvariable('span_addresses'))
    ORDER BY list_position(['tor', 'vpn', 'proxy', 'relay', 'hosting'], class) NULLS LAST, address
);

-- grain: key_id, day, place_id; of all days until the span's end
CREATE OR REPLACE TEMP TABLE kept_place_days AS
SELECT a.key_id, a.day, p.place_id
FROM known_addresses AS a
JOIN places AS p USING (address)
GROUP BY ALL;
-- grain: key_id, day, place_id; a view, for `detect/buckets.py` to show a part of them
CREATE OR REPLACE TEMP VIEW place_days AS FROM kept_place_days;

-- grain: key_id, window_start, window_end; the verdict in force
CREATE OR REPLACE TEMP TABLE span_verdicts AS FROM verdicts_in_force();

-- grain: key_id, day, place_id; flagged in a review, and no verdict says it is the owner's
CREATE OR REPLACE TEMP TABLE flagged_places AS
SELECT DISTINCT f.key_id, f.day, p.place_id, p.address
FROM lake.flagged_visits AS f
JOIN places AS p USING (prefix)
WHERE NOT EXISTS (
    FROM span_verdicts AS v
    WHERE v.key_id = f.key_id AND v.verdict IN ('benign', 'expected')
        AND v.window_start = f.window_start AND v.window_end = f.window_end
        AND is_about(v.origins, p.prefix, p.network, p.class)
);

-- grain: key_id, prefix; one that a verdict says is the owner's: it was flagged, or is of a network
-- that is expected
CREATE OR REPLACE TEMP TABLE settled_prefixes AS
SELECT f.key_id, f.prefix
FROM lake.flagged_visits AS f
JOIN span_verdicts AS v USING (key_id, window_start, window_end)
JOIN places AS p USING (prefix)
WHERE v.verdict IN ('benign', 'expected') AND is_about(v.origins, p.prefix, p.network, p.class)
UNION
SELECT v.key_id, p.prefix
FROM span_verdicts AS v
JOIN places AS p ON is_about(v.origins, p.prefix, p.network, p.class)
WHERE v.verdict = 'expected' AND v.origins IS NOT NULL;

-- grain: key_id, day, place_id; with lines that came late and that no review has scored yet
CREATE OR REPLACE TEMP TABLE late_places AS
SELECT DISTINCT a.key_id, a.day, p.place_id
FROM lake.review_queue AS q
JOIN known_addresses AS a ON a.load_id = q.load_id AND a.day >= q.window_start
    AND a.day < q.window_end
JOIN places AS p USING (address)
WHERE q.is_late;

-- grain: key_id, place_id; when the key first came from there, in all of the lake: a baseline
-- forgets
CREATE OR REPLACE TEMP TABLE kept_first_places AS
SELECT key_id, place_id, min(day) AS first_day
FROM place_days
ANTI JOIN flagged_places USING (key_id, day, place_id)
ANTI JOIN late_places USING (key_id, day, place_id)
GROUP BY ALL;
-- grain: key_id, place_id; a view, for `detect/buckets.py` to show a part of them
CREATE OR REPLACE TEMP VIEW first_places AS FROM kept_first_places;

-- grain: key_id; its first five days of use, in all of the lake
CREATE OR REPLACE TEMP TABLE kept_first_days AS
SELECT key_id, list_sort(list(DISTINCT day))[:5] AS days
FROM place_days
GROUP BY key_id;
-- grain: key_id; a view, for `detect/buckets.py` to show a part of them
CREATE OR REPLACE TEMP VIEW first_days AS FROM kept_first_days;
