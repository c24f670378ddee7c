-- What else an analyst has to know of the cases that are told in full: origins, what was done from
-- them, and what would break. Reads the window's tables (detect/prepare.sql), scored_cases and
-- case_visits. Events are read for the objects of suspicious visits alone.
SET VARIABLE most_origins = 20;
SET VARIABLE most_sessions = 10;
SET VARIABLE most_consumers = 5;

-- grain: key_id, ip, prefix, class; origins = how many there are, of which these are the first
CREATE OR REPLACE TEMP TABLE case_origins AS
WITH seen AS (
    SELECT w.key_id, p.ip, nullif(p.prefix, p.ip) AS prefix, p.asn, p.organization,
        nullif(p.country, '-') AS country, p.class,
        min(w.first_ts) AS first_seen, max(w.last_ts) AS last_seen,
        sum(w.events)::BIGINT AS requests,
        coalesce(sum(w.events) FILTER (v.suspicious), 0)::BIGINT AS requests_suspicious,
        bool_or(v.worst) AS worst, bool_or(v.suspicious) AS suspicious
    FROM window_activity AS w
    JOIN places AS p USING (place_id)
    JOIN case_visits AS v ON v.key_id = w.key_id AND v.day = w.day AND v.prefix = w.prefix
    GROUP BY ALL
)

SELECT *, count(*) OVER (PARTITION BY key_id) AS origins,
    row_number() OVER (
        PARTITION BY key_id ORDER BY worst DESC, suspicious DESC, requests DESC, ip) AS nth
FROM seen
QUALIFY nth <= getvariable('most_origins');

-- grain: key_id, suspicious; its visits, added up
CREATE OR REPLACE TEMP TABLE case_totals AS
SELECT key_id, suspicious, sum(events)::BIGINT AS events,
    sum(response_bytes)::BIGINT AS response_bytes, count(DISTINCT day) AS days,
    list(DISTINCT prefix ORDER BY prefix) AS prefixes
FROM case_visits
GROUP BY ALL;

-- grain: key_id, endpoint, object; that its suspicious visits asked for; accepted: once at least.
-- Roll-ups count an object once a day, address and endpoint: of several days only the events can
-- tell how many they are.
CREATE OR REPLACE TEMP TABLE case_touched AS
SELECT e.key_id, e.endpoint, e.object, bool_or(coalesce(e.status, 0) < 400) AS accepted
FROM (
    SELECT coalesce(principal, key_id) AS key_id, day, address, endpoint, object, status
    FROM lake.events
) AS e
SEMI JOIN (
    FROM visit_addresses
    SEMI JOIN (FROM case_visits WHERE suspicious) USING (key_id, day, prefix)
) USING (key_id, day, address)
WHERE e.day >= getvariable('window_start') AND e.day < getvariable('window_end')
    AND e.object IS NOT NULL
GROUP BY ALL;

-- grain: key_id, endpoint; what its suspicious visits called, when first, and how many objects its
-- accepted requests were about
CREATE OR REPLACE TEMP TABLE case_calls AS
WITH called AS (
    SELECT w.key_id, w.endpoint, sum(w.events)::BIGINT AS requests,
        coalesce(sum(w.events) FILTER (is_denied(w.status_class)), 0)::BIGINT AS denied,
        coalesce(sum(w.events) FILTER (is_accepted(w.status_class)), 0)::BIGINT AS accepted,
        min(w.first_ts) FILTER (is_denied(w.status_class)) AS denied_at,
        min(w.first_ts) FILTER (is_accepted(w.status_class)) AS accepted_at,
        max(w.last_ts) FILTER (is_accepted(w.status_class)) AS accepted_until
    FROM window_activity AS w
    SEMI JOIN (FROM case_visits WHERE suspicious) USING (key_id, day, prefix)
    GROUP BY ALL
),

touched AS (
    SELECT key_id, endpoint, count(*) AS objects FROM case_touched WHERE accepted GROUP BY ALL
)

SELECT c.*, coalesce(t.objects, 0) AS objects, s.sensitivity, s.why
FROM called AS c
LEFT JOIN touched AS t USING (key_id, endpoint)
LEFT JOIN keys AS k USING (key_id)
LEFT JOIN source_catalogue AS s USING (source, endpoint);

-- grain: key_id; distinct objects of its suspicious visits, and those that an accepted request was
-- about, other than a sensitive call
CREATE OR REPLACE TEMP TABLE case_objects AS
SELECT t.key_id, count(DISTINCT t.object) AS objects,
    count(DISTINCT t.object) FILTER (
        t.accepted AND coalesce(c.sensitivity NOT IN ('critical', 'high'), true)) AS accessed
FROM case_touched AS t
LEFT JOIN case_calls AS c USING (key_id, endpoint)
GROUP BY t.key_id;

-- grain: key_id, suspicious, network, country, class; where its suspicious visits came from, and
-- the others of the same days
CREATE OR REPLACE TEMP TABLE case_places AS
WITH days AS (
    SELECT key_id, min(day) AS first_day, max(day) AS last_day
    FROM case_visits WHERE suspicious GROUP BY key_id
)

SELECT c.key_id, c.suspicious, v.network, nullif(v.country, '-') AS country, v.class,
    min(v.place) AS place, sum(v.events)::BIGINT AS requests,
    min(v.first_ts) AS first_seen, max(v.last_ts) AS last_seen
FROM case_visits AS c
JOIN days AS d USING (key_id)
JOIN visits AS v ON v.key_id = c.key_id AND v.day = c.day AND v.prefix = c.prefix
WHERE c.day BETWEEN d.first_day AND d.last_day
GROUP BY ALL;

-- grain: log_ends_at; one row
CREATE OR REPLACE TEMP TABLE case_log AS SELECT last_ts AS log_ends_at FROM window_reach;

-- grain: key_id, client; that its suspicious visits were made with; is_new: the key had no such
-- client before
CREATE OR REPLACE TEMP TABLE case_clients AS
SELECT key_id, a.product AS client, sum(a.events)::BIGINT AS requests,
    NOT EXISTS (
        FROM baseline_agents AS b WHERE b.key_id = a.key_id AND b.product = a.product) AS is_new
FROM visit_agents AS a
SEMI JOIN (FROM case_visits WHERE suspicious) USING (key_id, day, prefix)
GROUP BY ALL;

-- grain: key_id, addresses; the days on which its visits to show came from just these
CREATE OR REPLACE TEMP TABLE case_addresses AS
SELECT key_id, addresses, list(day ORDER BY day) AS days
FROM (
    SELECT v.key_id, v.day, list(DISTINCT a.address ORDER BY a.address) AS addresses
    FROM case_visits AS v
    JOIN visit_addresses AS a USING (key_id, day, prefix)
    JOIN scored_cases AS c USING (key_id)
    WHERE v.suspicious OR c.action = 'none' AND v.worst
    GROUP BY v.key_id, v.day
)
GROUP BY key_id, addresses;

-- grain: key_id; short-lived credentials of its suspicious visits, the busiest first
CREATE OR REPLACE TEMP TABLE case_sessions AS
SELECT key_id,
    list(session ORDER BY events DESC, session)[:getvariable('most_sessions')] AS sessions
FROM (
    SELECT s.key_id, s.session, sum(s.events) AS events
    FROM lake.sessions AS s
    JOIN visit_addresses AS a USING (key_id, day, address)
    JOIN case_visits AS v USING (key_id, day, prefix)
    WHERE v.suspicious AND s.day >= getvariable('window_start')
        AND s.day < getvariable('window_end')
    GROUP BY ALL
)
GROUP BY key_id;

-- grain: key_id, nth; who uses it in the ordinary way, the busiest first; consumers = how many
-- there are
CREATE OR REPLACE TEMP TABLE case_consumers AS
WITH ordinary AS (
    SELECT *, count(DISTINCT day) OVER (PARTITION BY key_id) AS days
    FROM case_visits WHERE NOT suspicious
),

used AS (
    SELECT v.key_id, a.agent, min(v.place) AS origin,
        sum(a.events) / any_value(v.days) AS requests_per_day
    FROM ordinary AS v
    JOIN visit_agents AS a USING (key_id, day, prefix)
    GROUP BY v.key_id, a.agent, v.network
)

SELECT *, count(*) OVER (PARTITION BY key_id) AS consumers,
    row_number() OVER (PARTITION BY key_id ORDER BY requests_per_day DESC, agent, origin) AS nth
FROM used
QUALIFY nth <= getvariable('most_consumers');

-- grain: key_id, suspicious, scope, endpoint, sensitivity; that its accepted requests needed
CREATE OR REPLACE TEMP TABLE case_scopes AS
WITH used AS (
    SELECT v.key_id, e.endpoint, v.suspicious
    FROM case_visits AS v
    JOIN visit_endpoints AS e USING (key_id, day, prefix)
    WHERE e.succeeded > 0
    UNION
    SELECT key_id, endpoint, false FROM baseline_endpoints
    SEMI JOIN case_visits USING (key_id)
)

SELECT DISTINCT u.key_id, u.suspicious, c.scope, c.endpoint, c.sensitivity
FROM used AS u
JOIN keys AS k USING (key_id)
JOIN source_catalogue AS c USING (source, endpoint);

-- grain: key_id; what the inventory and the log say of it
CREATE OR REPLACE TEMP TABLE case_keys AS
SELECT key_id, "key", name, owner, environment, scopes, revoked_at, source
FROM keys
SEMI JOIN scored_cases USING (key_id);

-- grain: key_id; its lines of the window that could not be read
CREATE OR REPLACE TEMP TABLE case_unread AS
SELECT key_id, sum(lines)::BIGINT AS lines
FROM unread_lines
SEMI JOIN scored_cases USING (key_id)
WHERE day >= getvariable('window_start')
GROUP BY key_id;

-- grain: key_id; the newest key that the inventory says replaces it
CREATE OR REPLACE TEMP TABLE case_successors AS
SELECT replaces AS key_id, arg_max(key_id, (created_at, key_id)) AS successor
FROM keys
WHERE replaces IS NOT NULL AND created_at IS NOT NULL
GROUP BY replaces;
