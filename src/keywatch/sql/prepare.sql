-- What detectors read: small temporary tables of one window and the baseline before it.
-- Variables: baseline_start, window_start, window_end (days, half open). Reads what span.sql made.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: key, day, address, endpoint, status class, agent, in parts that add up; the window only
CREATE OR REPLACE TEMP TABLE window_activity AS
SELECT
    a.key_id, a.day, p.prefix, p.place_id, a.endpoint, a.status_class, a.agent,
    a.events, a.objects, a.response_bytes, a.exposed, a.first_ts, a.last_ts
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
        sum(not_found)::BIGINT AS not_found, sum(succeeded)::BIGINT AS succeeded,
        sum(objects)::BIGINT AS objects, sum(response_bytes)::BIGINT AS response_bytes,
        sum(exposed)::BIGINT AS exposed,
        min(first_ts) AS first_ts, max(last_ts) AS last_ts
    FROM visit_endpoints
    GROUP BY key_id, day, prefix
)

SELECT t.* EXCLUDE (place_id), p.network, p.country, p.class, p.located,
    place_of(p.class, p.asn, p.organization, p.country, p.located) AS place
FROM totals AS t
JOIN places AS p USING (place_id);

-- grain: key in use in the window
CREATE OR REPLACE TEMP TABLE window_keys AS SELECT DISTINCT key_id FROM visits;

-- grain: as lake.activity; the baseline. A view: to read three columns twice costs less than to keep
-- all of them once, and the keys that are not in use are fewer than it takes to leave them out first.
CREATE OR REPLACE TEMP VIEW baseline AS
FROM lake.activity
WHERE day >= getvariable('baseline_start') AND day < getvariable('window_start');

-- grain: key, day
CREATE OR REPLACE TEMP TABLE baseline_days AS
WITH days AS (
    SELECT
        key_id, day, sum(events)::BIGINT AS events, sum(objects)::BIGINT AS objects,
        coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied
    FROM baseline
    GROUP BY ALL
)

FROM days SEMI JOIN window_keys USING (key_id);

-- grain: key, place; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_places AS
WITH seen AS (
    SELECT key_id, place_id, count(*) AS days, min(day) AS first_day, max(day) AS last_day
    FROM span_places
    WHERE day >= getvariable('baseline_start') AND day < getvariable('window_start')
    GROUP BY ALL
)

FROM seen SEMI JOIN window_keys USING (key_id);

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
WITH uses AS (
    SELECT
        key_id, endpoint, agent, sum(events) AS events, min(day) AS first_day,
        bitstring_agg(day_number, 0, getvariable('baseline_days')) AS days,
        bitstring_agg(day_number, 0, getvariable('baseline_days')) FILTER (is_denied(status_class))
            AS denied_days
    FROM (SELECT *, (day - getvariable('baseline_start'))::INTEGER AS day_number FROM baseline)
    GROUP BY key_id, endpoint, agent
)

FROM uses SEMI JOIN window_keys USING (key_id);

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

-- grain: key in use; how much it is seen and how often something about it is new
CREATE OR REPLACE TEMP TABLE key_history AS
WITH days AS (
    SELECT key_id, count(*) AS active_days, min(day) AS first_day, max(day) AS last_day,
        avg(events) AS mean_events, avg(denied) AS mean_denied, var_pop(denied) AS var_denied,
        avg(objects) AS mean_objects, var_pop(objects) AS var_objects, max(objects) AS max_objects,
        max(denied) AS max_denied, max(events) AS max_events
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

-- grain: endpoint, peer group; how many of its keys used it, before or in the window
CREATE OR REPLACE TEMP VIEW peer_endpoints AS
WITH used AS (
    SELECT key_id, endpoint FROM baseline_endpoints
    UNION
    SELECT key_id, endpoint FROM visit_endpoints WHERE succeeded > 0
),

sizes AS (SELECT peer_group, count(*) AS peer_keys FROM peers GROUP BY peer_group)

SELECT u.endpoint, p.peer_group, count(*) AS users, any_value(s.peer_keys) AS peer_keys
FROM used AS u
JOIN peers AS p USING (key_id)
JOIN sizes AS s USING (peer_group)
GROUP BY u.endpoint, p.peer_group;

-- grain: endpoint; how many of all keys in use used it
CREATE OR REPLACE TEMP VIEW all_endpoints AS
SELECT endpoint, sum(users) AS users, (SELECT count(*) FROM window_keys) AS all_keys
FROM peer_endpoints
GROUP BY endpoint;

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
SELECT key_id, hour, sum(events) AS events
FROM lake.activity_hours
WHERE hour >= getvariable('window_start') AND hour < getvariable('window_end')
GROUP BY ALL;

-- grain: key, hour, in parts that add up; a view, because few keys are asked for
CREATE OR REPLACE TEMP VIEW baseline_hours AS
SELECT key_id, hour, events
FROM lake.activity_hours
WHERE hour >= getvariable('baseline_start') AND hour < getvariable('window_start');
