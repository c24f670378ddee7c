-- What a few keys did in a window and in the days before it. No more than the lake's tables are
-- read. Variables: history_start, history_window_start, history_window_end (days, half open). Reads
-- history_keys (key_id), history_flags (key_id, day, prefix) and history_catalogue (endpoint,
-- scope, sensitivity), made before.

-- grain: key_id, ancestor; a key whose past is shown as its own: itself, and by the inventory its
-- predecessors
CREATE OR REPLACE TEMP TABLE history_lineage AS
WITH RECURSIVE ancestors AS (
    SELECT key_id, key_id AS ancestor FROM history_keys
    UNION
    SELECT a.key_id, k.replaces
    FROM ancestors AS a
    JOIN inventory_in_force() AS k ON k.key_id = a.ancestor
    WHERE k.replaces IS NOT NULL
)

FROM ancestors;

-- grain: key_id, day, address, endpoint, agent
CREATE OR REPLACE TEMP TABLE history_activity AS
SELECT
    l.key_id, a.day, a.address, a.endpoint, a.agent,
    a.day >= getvariable('history_window_start') AS in_window,
    sum(a.events)::BIGINT AS requests,
    coalesce(sum(a.events) FILTER (is_denied(a.status_class)), 0)::BIGINT AS refused,
    sum(a.response_bytes)::BIGINT AS response_bytes,
    min(a.first_ts) AS first_ts, max(a.last_ts) AS last_ts
FROM lake.activity AS a
JOIN history_lineage AS l ON l.ancestor = a.key_id
WHERE a.day >= getvariable('history_start') AND a.day < getvariable('history_window_end')
    AND (l.key_id = l.ancestor OR a.day < getvariable('history_window_start'))
GROUP BY ALL;

SET VARIABLE history_addresses = (SELECT list(DISTINCT address) FROM history_activity);

-- grain: address; `origin` is its network, or what kind of address it is where none is known
CREATE OR REPLACE TEMP TABLE history_places AS
SELECT
    address, coalesce(ip, nullif(address, ''), '(none)') AS ip,
    coalesce(prefix, nullif(address, ''), '(none)') AS prefix,
    asn, organization, country, class, latitude, longitude, accuracy_km,
    place_of(class, asn, organization, country, coalesce(located, false)) AS origin
FROM origins_in_force(among := coalesce(getvariable('history_addresses'), []::VARCHAR[]));

-- grain: key_id, day, address, endpoint, agent; `known`: from its network in the days before the
-- window
CREATE OR REPLACE TEMP TABLE history AS
SELECT
    a.*, p.* EXCLUDE (address),
    f.key_id IS NOT NULL AS flagged,
    bool_or(NOT a.in_window AND f.key_id IS NULL) OVER (PARTITION BY a.key_id, p.origin) AS known
FROM history_activity AS a
JOIN history_places AS p USING (address)
LEFT JOIN history_flags AS f ON f.key_id = a.key_id AND f.day = a.day AND f.prefix = p.prefix;
