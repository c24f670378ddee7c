-- What detectors read: small temporary tables of one window and the baseline before it.
-- Variables: baseline_start, window_start, window_end (days, half open). Reads what span.sql made.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: key, day, address, endpoint, status class, agent, in parts that add up; the window only
CREATE OR REPLACE TEMP TABLE window_activity AS
SELECT
    a.key_id, a.day, p.prefix, p.place_id, a.endpoint, a.status_class, a.agent,
    a.events, a.objects AS object_hashes, a.object_count AS objects, a.response_bytes, a.exposed,
    a.first_ts, a.last_ts
FROM lake.activity AS a
JOIN places AS p USING (address)
WHERE a.day >= getvariable('window_start') AND a.day < getvariable('window_end');

-- grain: key, day, address
CREATE OR REPLACE TEMP TABLE visit_addresses AS
WITH used AS (
    SELECT key_id, day, place_id, sum(events) AS events FROM window_activity GROUP BY ALL
)

SELECT u.key_id, u.day, p.prefix, u.place_id, p.address, p.ip, u.events
FROM used AS u
JOIN places AS p USING (place_id);

-- grain: key, day, prefix, endpoint
CREATE OR REPLACE TEMP TABLE visit_endpoints AS
SELECT
    key_id, day, prefix, endpoint,
    sum(events)::BIGINT AS events,
    coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied,
    coalesce(sum(events) FILTER (status_class = '404'), 0)::BIGINT AS not_found,
    coalesce(sum(events) FILTER (status_class = '429'), 0)::BIGINT AS throttled,
    coalesce(sum(events) FILTER (status_class LIKE '2%'), 0)::BIGINT AS succeeded,
    sum(objects)::BIGINT AS objects, sum(response_bytes)::BIGINT AS response_bytes,
    sum(exposed)::BIGINT AS exposed,
    min(first_ts) AS first_ts, max(last_ts) AS last_ts,
    min(place_id) AS place_id
FROM window_activity
GROUP BY ALL;

-- grain: key, day, prefix, agent
CREATE OR REPLACE TEMP TABLE visit_agents AS
SELECT key_id, day, prefix, agent, split_part(agent, '/', 1) AS product, sum(events) AS events
FROM window_activity
GROUP BY ALL;

-- grain: key, day, prefix: the unit that is scored; its most telling address says what place it is
CREATE OR REPLACE TEMP TABLE visits AS
WITH totals AS (
    SELECT
        key_id, day, prefix, min(place_id) AS place_id, count(*) AS endpoints,
        sum(events)::BIGINT AS events, sum(denied)::BIGINT AS denied,
        sum(not_found)::BIGINT AS not_found, sum(throttled)::BIGINT AS throttled,
        sum(succeeded)::BIGINT AS succeeded,
        sum(objects)::BIGINT AS objects, sum(response_bytes)::BIGINT AS response_bytes,
        sum(exposed)::BIGINT AS exposed,
        min(first_ts) AS first_ts, max(last_ts) AS last_ts
    FROM visit_endpoints
    GROUP BY key_id, day, prefix
)

SELECT t.* EXCLUDE (place_id), p.network, p.country, p.class, p.located,
    p.latitude, p.longitude, p.accuracy_km,
    place_of(p.class, p.asn, p.organization, p.country, p.located) AS place
FROM totals AS t
JOIN places AS p USING (place_id);

-- grain: key in use in the window
CREATE OR REPLACE TEMP TABLE window_keys AS SELECT DISTINCT key_id FROM visits;

-- grain: key; the inventory in force, and keys that no inventory knows
CREATE OR REPLACE TEMP TABLE keys AS
WITH inventory AS (
    SELECT * FROM lake.keys QUALIFY row_number() OVER (PARTITION BY key_id ORDER BY import_id DESC) = 1
),

shown AS (
    SELECT key_id, arg_max("key", ts) AS "key"
    FROM lake.events
    WHERE day >= getvariable('window_start') AND day < getvariable('window_end')
    GROUP BY key_id
)

SELECT
    key_id, coalesce(i."key", s."key") AS "key", i.name, i.owner,
    coalesce(i.environment, environment_of(s."key")) AS environment,
    environment_of(s."key") AS logged_environment,
    i.scopes, i.created_at, i.expires_at, i.revoked_at, i.replaces,
    i.key_id IS NOT NULL AS in_inventory
FROM inventory AS i
FULL JOIN shown AS s USING (key_id);

-- grain: successor of a rotated key; by the inventory, or a guess where the inventory does not say and it
-- is clear: one older and one younger key of the same owner, environment, scopes and name, less what is
-- added at a rotation (-v2, -new, a date)
CREATE OR REPLACE TEMP TABLE successors AS
WITH named AS (
    SELECT *, regexp_replace(lower(name), '[-_ .]?(v?\d{1,2}|old|new|next|rotated|\d{4}-\d\d(-\d\d)?)$', '')
        AS stem
    FROM keys
    WHERE in_inventory AND name IS NOT NULL AND owner IS NOT NULL AND created_at IS NOT NULL
),

pairs AS (
    SELECT younger.key_id, older.key_id AS replaces, younger.created_at
    FROM named AS younger
    JOIN named AS older USING (owner, environment, stem)
    WHERE older.created_at < younger.created_at
        AND list_sort(older.scopes) = list_sort(younger.scopes)
        AND younger.replaces IS NULL
        AND older.key_id NOT IN (SELECT replaces FROM keys WHERE replaces IS NOT NULL)
)

SELECT key_id, replaces, created_at, false AS is_guess FROM keys WHERE replaces IS NOT NULL
UNION ALL
SELECT key_id, replaces, created_at, true FROM pairs
QUALIFY count(*) OVER (PARTITION BY key_id) = 1 AND count(*) OVER (PARTITION BY replaces) = 1;

-- grain: key in use, key whose past is its own too: itself, its predecessor, and so on
CREATE OR REPLACE TEMP TABLE lineage AS
WITH RECURSIVE ancestors AS (
    SELECT key_id, key_id AS ancestor FROM window_keys
    UNION
    SELECT a.key_id, s.replaces FROM ancestors AS a JOIN successors AS s ON s.key_id = a.ancestor
)

FROM ancestors;

-- grain: key, day, place; flagged in an earlier review and not judged to be the owner's
CREATE OR REPLACE TEMP TABLE quarantine AS
SELECT DISTINCT f.key_id, f.day, p.place_id, p.address
FROM lake.flagged_visits AS f
JOIN places AS p USING (prefix)
WHERE f.window_start < getvariable('window_start')
    AND NOT EXISTS (
        FROM verdicts_in_force() AS v
        WHERE v.key_id = f.key_id AND v.verdict IN ('benign', 'expected')
            AND v.window_start = f.window_start AND v.window_end = f.window_end
    );

-- grain: as lake.activity; the baseline of the keys in use, with what they inherit. A view: to read three
-- columns twice costs less than to keep all of them once.
CREATE OR REPLACE TEMP VIEW baseline AS
SELECT l.key_id, a.* EXCLUDE (key_id)
FROM lake.activity AS a
JOIN lineage AS l ON l.ancestor = a.key_id
ANTI JOIN quarantine AS q ON q.key_id = a.key_id AND q.day = a.day AND q.address = a.address
WHERE a.day >= getvariable('baseline_start') AND a.day < getvariable('window_start');

-- grain: key, day
CREATE OR REPLACE TEMP TABLE window_days AS
SELECT
    key_id, day, sum(events)::BIGINT AS events, sum(objects)::BIGINT AS objects,
    sum(response_bytes)::BIGINT AS response_bytes,
    coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied,
    count(DISTINCT place_id) AS addresses, count(DISTINCT endpoint) AS endpoints,
    count(DISTINCT agent) AS agents
FROM window_activity
GROUP BY ALL;

-- grain: key, day
CREATE OR REPLACE TEMP TABLE baseline_days AS
SELECT
    key_id, day, sum(events)::BIGINT AS events, sum(object_count)::BIGINT AS objects,
    sum(response_bytes)::BIGINT AS response_bytes,
    coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied,
    coalesce(sum(events) FILTER (status_class = '429'), 0)::BIGINT AS throttled,
    count(DISTINCT address) AS addresses, count(DISTINCT endpoint) AS endpoints,
    count(DISTINCT agent) AS agents
FROM baseline
GROUP BY ALL;

-- grain: key, place; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_places AS
SELECT l.key_id, s.place_id, count(DISTINCT s.day) AS days, min(s.day) AS first_day,
    max(s.day) AS last_day
FROM span_places AS s
JOIN lineage AS l ON l.ancestor = s.key_id
ANTI JOIN quarantine AS q ON q.key_id = s.key_id AND q.day = s.day AND q.place_id = s.place_id
WHERE s.day >= getvariable('baseline_start') AND s.day < getvariable('window_start')
GROUP BY ALL;

-- grain: key, address; a view, because few are asked for by name
CREATE OR REPLACE TEMP VIEW baseline_addresses AS
SELECT b.*, p.address, p.prefix, p.network, p.country, p.class
FROM baseline_places AS b
JOIN places AS p USING (place_id);

-- grain: key, prefix, network, country, class; days = days seen, added up over its addresses
CREATE OR REPLACE TEMP TABLE baseline_prefixes AS
SELECT
    key_id, prefix, network, country, class,
    count(*) AS addresses, sum(days)::BIGINT AS days, min(first_day) AS first_day, min(address) AS address
FROM baseline_addresses
GROUP BY ALL;

-- grain: key, network, country, class
CREATE OR REPLACE TEMP TABLE baseline_networks AS
SELECT
    key_id, network, country, class,
    sum(addresses)::BIGINT AS addresses, sum(days)::BIGINT AS days, min(first_day) AS first_day,
    min(address) AS address
FROM baseline_prefixes
GROUP BY ALL;

-- grain: key, endpoint, agent; a bit for each day seen, and for each day with a denied call
SET VARIABLE baseline_days = getvariable('window_start') - getvariable('baseline_start');
CREATE OR REPLACE TEMP TABLE baseline_uses AS
SELECT
    key_id, endpoint, agent, sum(events) AS events, min(day) AS first_day,
    bitstring_agg(day_number, 0, getvariable('baseline_days')) AS days,
    bitstring_agg(day_number, 0, getvariable('baseline_days')) FILTER (is_denied(status_class))
        AS denied_days
FROM (SELECT *, (day - getvariable('baseline_start'))::INTEGER AS day_number FROM baseline)
GROUP BY key_id, endpoint, agent;

-- grain: key, endpoint; days = days seen, of which denied_days with a denied call
CREATE OR REPLACE TEMP TABLE baseline_endpoints AS
SELECT key_id, endpoint, bit_count(bit_or(days)) AS days,
    coalesce(bit_count(bit_or(denied_days)), 0) AS denied_days,
    sum(events) AS events, min(first_day) AS first_day
FROM baseline_uses
GROUP BY ALL;

-- grain: key, agent
CREATE OR REPLACE TEMP TABLE baseline_agents AS
SELECT key_id, agent, split_part(agent, '/', 1) AS product,
    bit_count(bit_or(days)) AS days, min(first_day) AS first_day
FROM baseline_uses
GROUP BY ALL;

-- grain: key in use; how much it is seen and how often something about it is new
CREATE OR REPLACE TEMP TABLE key_history AS
WITH days AS (
    SELECT key_id, count(*) AS active_days, min(day) AS first_day, max(day) AS last_day,
        avg(events) AS mean_events, avg(denied) AS mean_denied, var_pop(denied) AS var_denied,
        avg(objects) AS mean_objects, var_pop(objects) AS var_objects, max(objects) AS max_objects,
        max(denied) AS max_denied, max(events) AS max_events,
        max(response_bytes) AS max_response_bytes, max(throttled) AS max_throttled
    FROM baseline_days GROUP BY key_id
),

origins AS (
    SELECT key_id, sum(days) AS address_days, sum(addresses) AS addresses,
        count(DISTINCT network) AS networks, count(DISTINCT country) AS countries
    FROM baseline_networks GROUP BY key_id
),

prefixes AS (
    SELECT key_id, count(DISTINCT prefix) AS prefixes FROM baseline_prefixes GROUP BY key_id
),

usual_places AS (
    SELECT key_id, arg_min(address, (-days, address)) AS address
    FROM (
        SELECT key_id, network, country, sum(days) AS days, min(address) AS address
        FROM baseline_networks GROUP BY ALL
    )
    GROUP BY key_id
),

endpoints AS (
    SELECT key_id, count(*) AS endpoints, count(DISTINCT first_day) - 1 AS endpoint_new_days,
        arg_min(endpoint, (-days, -events, endpoint)) AS usual_endpoint
    FROM baseline_endpoints GROUP BY key_id
),

agents AS (
    SELECT key_id, count(DISTINCT product) AS products, arg_min(agent, (-days, agent)) AS usual_agent,
        count(DISTINCT first_day) - 1 AS agent_new_days
    FROM baseline_agents GROUP BY key_id
)

SELECT
    key_id,
    coalesce(active_days, 0) AS active_days, first_day, last_day,
    coalesce(mean_events, 0) AS mean_events, coalesce(max_events, 0) AS max_events,
    coalesce(mean_denied, 0) AS mean_denied, coalesce(var_denied, 0) AS var_denied,
    coalesce(max_denied, 0) AS max_denied,
    coalesce(mean_objects, 0) AS mean_objects, coalesce(var_objects, 0) AS var_objects,
    coalesce(max_objects, 0) AS max_objects,
    coalesce(max_response_bytes, 0) AS max_response_bytes,
    coalesce(max_throttled, 0) AS max_throttled,
    coalesce(address_days, 0) AS address_days, coalesce(addresses, 0) AS addresses,
    coalesce(prefixes, 0) AS prefixes, coalesce(networks, 0) AS networks,
    coalesce(countries, 0) AS countries,
    CASE WHEN p.address IS NOT NULL
        THEN place_of(p.class, p.asn, p.organization, p.country, p.located) END AS usual_place,
    coalesce(endpoints, 0) AS endpoints, coalesce(endpoint_new_days, 0) AS endpoint_new_days,
    usual_endpoint,
    coalesce(products, 0) AS products, coalesce(agent_new_days, 0) AS agent_new_days, usual_agent
FROM window_keys
LEFT JOIN days USING (key_id)
LEFT JOIN origins USING (key_id)
LEFT JOIN prefixes USING (key_id)
LEFT JOIN usual_places USING (key_id)
LEFT JOIN places AS p USING (address)
LEFT JOIN endpoints USING (key_id)
LEFT JOIN agents USING (key_id);

-- grain: key in use; keys of like scopes and like main use
CREATE OR REPLACE TEMP TABLE peers AS
SELECT h.key_id,
    concat_ws('|', array_to_string(list_sort(k.scopes), ' '), h.usual_endpoint) AS peer_group
FROM key_history AS h
LEFT JOIN keys AS k USING (key_id);

-- grain: owner, key, prefix; days = baseline days on which the owner's key came from there
CREATE OR REPLACE TEMP TABLE owner_prefixes AS
SELECT k.owner, b.key_id, b.prefix, min(b.network) AS network, min(b.class) AS class,
    any_value(k.environment) AS environment, sum(b.days) AS days
FROM baseline_prefixes AS b
JOIN keys AS k USING (key_id)
WHERE k.owner IS NOT NULL
GROUP BY k.owner, b.key_id, b.prefix;

-- grain: key, hour; the window only
CREATE OR REPLACE TEMP TABLE window_hours AS
SELECT key_id, hour, sum(events)::BIGINT AS events
FROM lake.activity_hours
WHERE hour >= getvariable('window_start') AND hour < getvariable('window_end')
GROUP BY ALL;

-- grain: key, hour, in parts that add up; a view, because few keys are asked for
CREATE OR REPLACE TEMP VIEW baseline_hours AS
SELECT l.key_id, a.hour, a.events
FROM lake.activity_hours AS a
JOIN lineage AS l ON l.ancestor = a.key_id
ANTI JOIN quarantine AS q ON q.key_id = a.key_id AND q.day = a.hour::DATE AND q.address = a.address
WHERE hour >= getvariable('baseline_start') AND hour < getvariable('window_start');

-- grain: key, day, prefix, previous endpoint ('' where a session begins), endpoint
CREATE OR REPLACE TEMP TABLE visit_transitions AS
SELECT t.key_id, t.day, p.prefix, t.previous, t.endpoint, sum(t.events) AS events
FROM lake.transitions AS t
JOIN places AS p USING (address)
WHERE t.day >= getvariable('window_start') AND t.day < getvariable('window_end')
GROUP BY ALL;

-- grain: key, previous endpoint, endpoint; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_transitions AS
SELECT l.key_id, t.previous, t.endpoint, count(DISTINCT t.day) AS days
FROM lake.transitions AS t
JOIN lineage AS l ON l.ancestor = t.key_id
ANTI JOIN quarantine AS q ON q.key_id = t.key_id AND q.day = t.day AND q.address = t.address
WHERE t.day >= getvariable('baseline_start') AND t.day < getvariable('window_start')
GROUP BY ALL;

-- grain: key, day, prefix, endpoint, object (its hash; of many objects the 64 smallest)
CREATE OR REPLACE TEMP TABLE visit_objects AS
SELECT DISTINCT key_id, day, prefix, endpoint, unnest(object_hashes) AS object
FROM window_activity;

-- grain: key, endpoint, object; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_objects AS
SELECT key_id, endpoint, object, count(DISTINCT day) AS days
FROM (SELECT key_id, day, endpoint, unnest(objects) AS object FROM baseline)
GROUP BY ALL;

-- grain: key, weekend or not, hour of the day (UTC); days = days seen
CREATE OR REPLACE TEMP TABLE baseline_hours_of_week AS
SELECT key_id, isodow(hour) > 5 AS is_weekend, hour(hour) AS hour_of_day,
    count(DISTINCT hour::DATE) AS days
FROM baseline_hours
GROUP BY ALL;

-- grain: key; days = days on which it was used in several countries
CREATE OR REPLACE TEMP TABLE baseline_days_abroad AS
SELECT key_id, count(*) AS days
FROM (
    SELECT l.key_id, s.day
    FROM span_places AS s
    JOIN lineage AS l ON l.ancestor = s.key_id
    JOIN places AS p USING (place_id)
    ANTI JOIN quarantine AS q ON q.key_id = s.key_id AND q.day = s.day AND q.place_id = s.place_id
    WHERE s.day >= getvariable('baseline_start') AND s.day < getvariable('window_start')
        AND p.country <> '-'
    GROUP BY l.key_id, s.day
    HAVING min(p.country) <> max(p.country)
)
GROUP BY key_id;
