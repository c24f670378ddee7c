-- What detectors read: small temporary tables of one window and the baseline before it.
-- Variables: baseline_start, window_start, window_end (days, half open).

-- grain: address; every address has a prefix, a network and a country, if only its own name
CREATE OR REPLACE TEMP TABLE places AS
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
    class, asn, organization, coalesce(located, false) AS located,
    CASE
        WHEN located THEN concat_ws(', ', concat_ws(' ', 'AS' || asn, organization), country)
        ELSE class || ' address'
    END AS place
FROM lake.origins;

-- grain: key, day, address, endpoint, status class, agent; the window only
CREATE OR REPLACE TEMP TABLE window_activity AS
SELECT
    key_id, day, address, endpoint, status_class, agent,
    sum(events) AS events, sum(objects) AS objects, sum(response_bytes) AS response_bytes,
    sum(exposed) AS exposed, min(first_ts) AS first_ts, max(last_ts) AS last_ts
FROM lake.activity
WHERE day >= getvariable('window_start') AND day < getvariable('window_end')
GROUP BY ALL;

-- grain: key, day, prefix: the unit that is scored
CREATE OR REPLACE TEMP TABLE visits AS
SELECT
    w.key_id, w.day, p.prefix,
    any_value(p.network) AS network, any_value(p.country) AS country,
    any_value(p.class) AS class, any_value(p.place) AS place,
    bool_or(p.located) AS located,
    sum(w.events) AS events,
    sum(w.events) FILTER (is_denied(w.status_class)) AS denied,
    sum(w.events) FILTER (w.status_class = '404') AS not_found,
    sum(w.events) FILTER (w.status_class LIKE '2%') AS succeeded,
    sum(w.objects) AS objects, sum(w.response_bytes) AS response_bytes,
    sum(w.exposed) AS exposed,
    count(DISTINCT w.endpoint) AS endpoints,
    min(w.first_ts) AS first_ts, max(w.last_ts) AS last_ts
FROM window_activity AS w
JOIN places AS p USING (address)
GROUP BY w.key_id, w.day, p.prefix;
UPDATE visits SET denied = coalesce(denied, 0), not_found = coalesce(not_found, 0),
    succeeded = coalesce(succeeded, 0);

-- grain: key, day, prefix, address
CREATE OR REPLACE TEMP TABLE visit_addresses AS
SELECT w.key_id, w.day, p.prefix, w.address, p.ip, sum(w.events) AS events
FROM window_activity AS w
JOIN places AS p USING (address)
GROUP BY ALL;

-- grain: key, day, prefix, endpoint
CREATE OR REPLACE TEMP TABLE visit_endpoints AS
SELECT
    w.key_id, w.day, p.prefix, w.endpoint,
    sum(w.events) AS events,
    coalesce(sum(w.events) FILTER (is_denied(w.status_class)), 0) AS denied,
    coalesce(sum(w.events) FILTER (w.status_class LIKE '2%'), 0) AS succeeded,
    sum(w.objects) AS objects
FROM window_activity AS w
JOIN places AS p USING (address)
GROUP BY ALL;

-- grain: key, day, prefix, agent
CREATE OR REPLACE TEMP TABLE visit_agents AS
SELECT w.key_id, w.day, p.prefix, w.agent, split_part(w.agent, '/', 1) AS product,
    sum(w.events) AS events
FROM window_activity AS w
JOIN places AS p USING (address)
GROUP BY ALL;

-- grain: key in use in the window
CREATE OR REPLACE TEMP TABLE window_keys AS SELECT DISTINCT key_id FROM visits;

-- grain: key, day, address, endpoint, agent; the baseline of the keys in use
CREATE OR REPLACE TEMP TABLE baseline AS
SELECT
    key_id, day, address, endpoint, agent,
    sum(events) AS events,
    coalesce(sum(events) FILTER (is_denied(status_class)), 0) AS denied,
    sum(objects) AS objects
FROM lake.activity
SEMI JOIN window_keys USING (key_id)
WHERE day >= getvariable('baseline_start') AND day < getvariable('window_start')
GROUP BY ALL;

-- grain: key, day
CREATE OR REPLACE TEMP TABLE baseline_days AS
SELECT key_id, day, sum(events) AS events, sum(denied) AS denied, sum(objects) AS objects,
    count(DISTINCT endpoint) AS endpoints
FROM baseline
GROUP BY ALL;

-- grain: key, address; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_addresses AS
SELECT key_id, address, p.prefix, p.network, p.country, p.class, p.place,
    days, first_day, last_day
FROM (
    SELECT key_id, address, count(DISTINCT day) AS days, min(day) AS first_day,
        max(day) AS last_day
    FROM baseline
    GROUP BY ALL
)
JOIN places AS p USING (address);

-- grain: key, endpoint; days = days seen, of which denied_days with a denied call
CREATE OR REPLACE TEMP TABLE baseline_endpoints AS
SELECT key_id, endpoint, count(DISTINCT day) AS days,
    count(DISTINCT day) FILTER (denied > 0) AS denied_days,
    sum(events) AS events, min(day) AS first_day
FROM baseline
GROUP BY ALL;

-- grain: key, agent
CREATE OR REPLACE TEMP TABLE baseline_agents AS
SELECT key_id, agent, split_part(agent, '/', 1) AS product, count(DISTINCT day) AS days,
    min(day) AS first_day
FROM baseline
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
    SELECT key_id, sum(days) AS address_days, count(*) AS addresses,
        count(DISTINCT prefix) AS prefixes, count(DISTINCT network) AS networks,
        count(DISTINCT country) AS countries, arg_max(place, days) AS usual_place
    FROM baseline_addresses GROUP BY key_id
),

endpoints AS (
    SELECT key_id, count(*) AS endpoints, count(DISTINCT first_day) - 1 AS endpoint_new_days,
        arg_max(endpoint, days * 1e9 + events) AS usual_endpoint
    FROM baseline_endpoints GROUP BY key_id
),

agents AS (
    SELECT key_id, count(DISTINCT product) AS products, arg_max(agent, days) AS usual_agent,
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
    coalesce(countries, 0) AS countries, usual_place,
    coalesce(endpoints, 0) AS endpoints, coalesce(endpoint_new_days, 0) AS endpoint_new_days,
    usual_endpoint,
    coalesce(products, 0) AS products, coalesce(agent_new_days, 0) AS agent_new_days, usual_agent
FROM window_keys
LEFT JOIN days USING (key_id)
LEFT JOIN origins USING (key_id)
LEFT JOIN endpoints USING (key_id)
LEFT JOIN agents USING (key_id);

-- grain: key in use; keys of like scopes and like main use
CREATE OR REPLACE TEMP TABLE peers AS
SELECT h.key_id,
    concat_ws('|', array_to_string(list_sort(k.scopes), ' '), h.usual_endpoint) AS peer_group
FROM key_history AS h
LEFT JOIN keys AS k USING (key_id);

-- grain: endpoint, peer group; how many of its keys used it, before or in the window
CREATE OR REPLACE TEMP TABLE peer_endpoints AS
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
CREATE OR REPLACE TEMP TABLE all_endpoints AS
SELECT endpoint, sum(users) AS users, (SELECT count(*) FROM window_keys) AS all_keys
FROM peer_endpoints
GROUP BY endpoint;

-- grain: owner, prefix; baseline days on which any of the owner's keys came from there
CREATE OR REPLACE TEMP TABLE owner_prefixes AS
SELECT k.owner, b.key_id, b.prefix, any_value(b.network) AS network, any_value(b.class) AS class,
    any_value(k.environment) AS environment, sum(b.days) AS days
FROM baseline_addresses AS b
JOIN keys AS k USING (key_id)
WHERE k.owner IS NOT NULL
GROUP BY k.owner, b.key_id, b.prefix;

-- grain: key, hour; the window only
CREATE OR REPLACE TEMP TABLE window_hours AS
SELECT key_id, hour, sum(events) AS events
FROM lake.activity_hours
WHERE hour >= getvariable('window_start') AND hour < getvariable('window_end')
GROUP BY ALL;

-- grain: key, hour of the week (ISO day × 24 + hour); events over the whole baseline
CREATE OR REPLACE TEMP TABLE baseline_week_hours AS
SELECT key_id, isodow(hour) * 24 + hour(hour) AS hour_of_week, sum(events) AS events,
    count(*) AS hours, max(events) AS largest
FROM lake.activity_hours
SEMI JOIN window_keys USING (key_id)
WHERE hour >= getvariable('baseline_start') AND hour < getvariable('window_start')
GROUP BY ALL;

-- grain: key; mean_hour over active hours
CREATE OR REPLACE TEMP TABLE baseline_hours AS
SELECT b.key_id, max(b.largest) AS largest, sum(b.events) / sum(b.hours) AS mean_hour,
    greatest(1.0, (any_value(h.last_day) - any_value(h.first_day) + 1) / 7.0) AS weeks
FROM baseline_week_hours AS b
JOIN key_history AS h USING (key_id)
GROUP BY b.key_id;
