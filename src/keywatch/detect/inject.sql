-- Thefts injected into keys' own past, in place of the window's visits: what would be caught, and
-- after how many requests. Runs after prepare.sql, whose tables are kept as own_…, with the
-- variables injected_keys (at most, or null) and injected_sizes. Each key gets one visit of each
-- kind and size, from a prefix that names them.

-- grain: kind of theft
CREATE OR REPLACE TEMP TABLE injected_kinds AS
SELECT * FROM (VALUES
    ('scan', 'hosting', 'new', 'catalogue', 'curl/8'),
    ('bulk_read', 'hosting', 'new', 'own', 'curl/8'),
    -- The quiet ones copy the owner's client.
    ('home_reader', 'isp', 'country', 'own', NULL),
    ('same_provider', 'usual', 'network', 'own', NULL)
) AS kinds (theft, class, known, calls, agent);

-- grain: key, kind, size; keys with a past, no more than some, drawn by their hash
CREATE OR REPLACE TEMP TABLE injected AS
WITH drawn AS (
    SELECT h.key_id, h.usual_agent, u.network, u.country, u.class
    FROM key_history AS h
    JOIN (
        SELECT key_id,
            unnest(arg_max({network: network, country: country, class: class},
                (days, prefix, network)))
        FROM baseline_prefixes GROUP BY key_id
    ) AS u USING (key_id)
    WHERE h.active_days > 0
    QUALIFY coalesce(
        row_number() OVER (ORDER BY hash(h.key_id), h.key_id) <= getvariable('injected_keys'), true)
)

SELECT
    d.key_id, k.theft, s.size, getvariable('window_end') - 1 AS day,
    format('{}:{}', k.theft, s.size) AS prefix,
    k.calls, coalesce(k.agent, d.usual_agent) AS agent,
    CASE k.known WHEN 'network' THEN d.network
        ELSE format('{} {} {}', k.theft, s.size, d.key_id) END AS network,
    CASE k.known WHEN 'new' THEN 'new country' ELSE d.country END AS country,
    CASE k.class WHEN 'usual' THEN d.class ELSE k.class END AS class
FROM drawn AS d
CROSS JOIN injected_kinds AS k
CROSS JOIN (SELECT unnest(getvariable('injected_sizes')) AS size) AS s;

-- grain: request; own calls by how often the key makes them, in no order; a scan's by the catalogue
CREATE OR REPLACE TEMP TABLE injected_calls AS
WITH own AS (
    SELECT key_id, endpoint,
        sum(events) OVER by_key / sum(events) OVER (PARTITION BY key_id) AS upto,
        (sum(events) OVER by_key - events) / sum(events) OVER (PARTITION BY key_id) AS beyond
    FROM baseline_endpoints
    WINDOW by_key AS (PARTITION BY key_id ORDER BY events DESC, endpoint ROWS UNBOUNDED PRECEDING)
),

scanned AS (
    SELECT endpoint, scope, row_number() OVER (ORDER BY hash(endpoint), endpoint) - 1 AS nth,
        count(*) OVER () AS endpoints
    FROM (SELECT endpoint, min(scope) AS scope FROM source_catalogue GROUP BY endpoint)
    -- Requests of HTTP APIs (GET /v1/checks), no calls that a log names.
    WHERE contains(endpoint, ' /')
),

requests AS (
    SELECT *, unnest(range(size)) AS nth, (hash(key_id, theft, size, nth) % 1000000) / 1e6 AS luck
    FROM injected
)

SELECT r.key_id, r.day, r.prefix, r.nth, o.endpoint, true AS allowed,
    hash(r.prefix, r.nth) AS object
FROM requests AS r
JOIN own AS o ON o.key_id = r.key_id AND r.luck >= o.beyond AND r.luck < o.upto
WHERE r.calls = 'own'
UNION ALL
SELECT r.key_id, r.day, r.prefix, r.nth, s.endpoint,
    s.scope IS NULL OR coalesce(grants(k.scopes, s.scope), true), hash(r.prefix, r.nth)
FROM requests AS r
JOIN scanned AS s ON s.nth = r.nth % s.endpoints
LEFT JOIN keys AS k USING (key_id)
WHERE r.calls = 'catalogue';

CREATE OR REPLACE TEMP TABLE evidence AS FROM own_evidence LIMIT 0;

CREATE OR REPLACE TEMP TABLE visit_endpoints AS
SELECT c.key_id, c.day, c.prefix, c.endpoint, count(*) AS events,
    count(*) FILTER (NOT allowed) AS denied,
    0::HUGEINT AS not_found, 0::HUGEINT AS throttled, count(*) FILTER (allowed) AS succeeded,
    count(*) AS objects,
    0::HUGEINT AS response_bytes, 0::HUGEINT AS exposed,
    c.day + INTERVAL 12 HOUR AS first_ts, c.day + INTERVAL 13 HOUR AS last_ts, 0 AS place_id
FROM injected_calls AS c
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE visits AS
SELECT i.key_id, i.day, i.prefix, count(*) AS endpoints, sum(e.events) AS events,
    sum(e.denied) AS denied,
    sum(e.not_found) AS not_found, sum(e.throttled) AS throttled, sum(e.succeeded) AS succeeded,
    sum(e.objects) AS objects, sum(e.response_bytes) AS response_bytes, sum(e.exposed) AS exposed,
    min(e.first_ts) AS first_ts, max(e.last_ts) AS last_ts, i.network, i.country, i.class,
    i.network AS place, true AS located, NULL::DOUBLE AS latitude, NULL::DOUBLE AS longitude,
    NULL::INTEGER AS accuracy_km
FROM injected AS i
JOIN visit_endpoints AS e USING (key_id, day, prefix)
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE visit_addresses AS
SELECT key_id, day, prefix, format('{} {}', prefix, key_id) AS address, prefix AS ip,
    events
FROM visits;

CREATE OR REPLACE TEMP TABLE visit_agents AS
SELECT key_id, day, prefix, agent, split_part(agent, '/', 1) AS product, size AS events
FROM injected;

CREATE OR REPLACE TEMP TABLE visit_transitions AS
SELECT key_id, day, prefix, previous, endpoint, count(*) AS events
FROM (
    SELECT key_id, day, prefix, endpoint, coalesce(lag(endpoint) OVER visit, '') AS previous
    FROM injected_calls
    WINDOW visit AS (PARTITION BY key_id, day, prefix ORDER BY nth)
)
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE visit_objects AS
SELECT DISTINCT c.key_id, c.day, c.prefix, c.endpoint, (c.object & 4294967295)::UINTEGER AS object
FROM injected_calls AS c
SEMI JOIN baseline_objects AS b ON b.key_id = c.key_id AND b.endpoint = c.endpoint;

CREATE OR REPLACE TEMP TABLE window_activity AS
SELECT key_id, day, prefix, first_ts, last_ts, objects,
    NULL::UINTEGER[] AS object_hashes
FROM visits;
CREATE OR REPLACE TEMP TABLE visit_rates AS FROM own_visit_rates LIMIT 0;
CREATE OR REPLACE TEMP TABLE window_hours AS
SELECT key_id, first_ts AS hour, events FROM visits LIMIT 0;
CREATE OR REPLACE TEMP TABLE window_days AS FROM own_window_days LIMIT 0;
CREATE OR REPLACE TEMP TABLE window_reach AS SELECT NULL::TIMESTAMP AS last_ts;

-- The owner goes on meanwhile.
CREATE OR REPLACE TEMP TABLE new_networks AS
SELECT DISTINCT key_id, network, false AS goes_on FROM visits
ANTI JOIN baseline_networks AS b USING (key_id, network);
CREATE OR REPLACE TEMP TABLE stays AS
SELECT n.key_id, n.network, n.goes_on, v.first_ts AS since, v.last_ts AS until,
    v.succeeded::BIGINT AS done,
    v.first_ts AS silent_since, NULL::TIMESTAMP AS silent_until, 0.0::DOUBLE AS missing_events,
    true AS is_beside, 0.0::DOUBLE AS silence_bits, true AS owner_goes_on
FROM new_networks AS n
JOIN visits AS v USING (key_id, network);
CREATE OR REPLACE TEMP TABLE stay_hours AS
SELECT n.key_id, n.network, date_trunc('hour', v.first_ts) AS hour, v.events
FROM new_networks AS n
JOIN visits AS v USING (key_id, network);
