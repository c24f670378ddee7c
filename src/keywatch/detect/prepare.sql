-- What detectors read: small temporary tables of one window and the baseline before it.
-- Variables: baseline_start, window_start, window_end (days, half open), only_keys, beside_keys.
-- Reads what span.sql made.
-- A tie is broken by name wherever one of many is shown: the same lake gives the same review.

-- grain: key_id, day, place_id, endpoint, status_class, agent, in parts that add up; the window
-- only
CREATE OR REPLACE TEMP TABLE window_activity AS
SELECT
    a.key_id, a.day, p.prefix, p.place_id, a.endpoint, a.status_class, a.agent,
    a.events, a.objects AS object_hashes, a.object_count AS objects, a.response_bytes, a.exposed,
    a.peak_per_minute, a.first_ts, a.last_ts
FROM span_activity AS a
JOIN places AS p USING (address)
WHERE a.day >= getvariable('window_start') AND a.day < getvariable('window_end');

-- grain: key_id, day, address
CREATE OR REPLACE TEMP TABLE visit_addresses AS
WITH used AS (
    SELECT key_id, day, place_id, sum(events) AS events FROM window_activity GROUP BY ALL
)

SELECT u.key_id, u.day, p.prefix, u.place_id, p.address, p.ip, u.events
FROM used AS u
JOIN places AS p USING (place_id);

-- grain: key_id, day, prefix, endpoint
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

-- grain: key_id, day, prefix, agent
CREATE OR REPLACE TEMP TABLE visit_agents AS
SELECT key_id, day, prefix, agent, split_part(agent, '/', 1) AS product, sum(events) AS events
FROM window_activity
GROUP BY ALL;

-- grain: key_id, day, prefix; the unit that is scored; its most telling address says what place it
-- is
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

-- grain: key_id
CREATE OR REPLACE TEMP TABLE window_keys AS SELECT DISTINCT key_id FROM visits;

-- grain: key_id; all keys in use, also where the tables are of some
CREATE OR REPLACE TEMP TABLE keys_in_use AS FROM window_keys;

-- grain: last_ts; one row: how far the log of the window reaches
CREATE OR REPLACE TEMP TABLE window_reach AS
SELECT max(last_ts) AS last_ts FROM visits;

-- grain: day; of the window: requests of all keys
CREATE OR REPLACE TEMP TABLE requests_by_day AS
SELECT day, sum(events)::BIGINT AS events FROM visits GROUP BY day;

-- grain: key_id; the inventory in force, and keys that no inventory knows; environments by one word
-- each; of `only_keys`, a list, or where it is null of all
CREATE OR REPLACE TEMP TABLE keys AS
WITH shown AS (
    SELECT coalesce(principal, key_id) AS key_id,
        arg_max("key", ts) FILTER (principal IS NULL) AS "key", arg_max(source, ts) AS source
    FROM span_events
    WHERE day >= getvariable('window_start') AND day < getvariable('window_end')
    GROUP BY ALL
)

SELECT
    key_id, coalesce(i."key", s."key") AS "key", i.name, i.owner,
    environment_word(coalesce(i.environment, environment_of(s."key"))) AS environment,
    environment_word(environment_of(s."key")) AS logged_environment,
    i.scopes, i.created_at, i.expires_at, i.revoked_at, i.replaces,
    coalesce(i.honey, false) AS honey,
    i.key_id IS NOT NULL AS in_inventory,
    -- Where the events have been pruned, the lake's only log format.
    coalesce(s.source, (
        SELECT any_value(source) FROM lake.ingested_files HAVING count(DISTINCT source) = 1
    )) AS source
FROM inventory_in_force() AS i
FULL JOIN shown AS s USING (key_id)
FULL JOIN window_keys AS w USING (key_id)
WHERE getvariable('only_keys') IS NULL
    OR key_id IN (SELECT unnest(getvariable('only_keys')::VARCHAR[]));

-- grain: key_id; one that has leaked: how often it was found, and the first find whose day is known
CREATE OR REPLACE TEMP TABLE leaks AS
SELECT k.key_id, count(*) AS finds, min(l.found_at) AS found_at,
    arg_min(l.source, (coalesce(l.found_at, l.imported_at), l.leak_id)) AS source,
    arg_min(l.location, (coalesce(l.found_at, l.imported_at), l.leak_id)) AS location
FROM leaks_of('keys') AS k
JOIN lake.leaked_keys AS l USING (leak_id)
GROUP BY k.key_id;

-- grain: key_id, imported_at; what an import changed of its scopes, both lists sorted
CREATE OR REPLACE TEMP TABLE scope_changes AS
SELECT key_id, imported_at, previous, scopes
FROM (
    SELECT key_id, import_id, imported_at, list_sort(scopes) AS scopes,
        lag(list_sort(scopes)) OVER (PARTITION BY key_id ORDER BY import_id) AS previous
    FROM lake.keys
)
WHERE previous <> scopes;

-- grain: key_id, day; of the window and the baseline: lines of the key that could not be read, and
-- mostly why
CREATE OR REPLACE TEMP TABLE unread_lines AS
SELECT key_id, ts::DATE AS day, count(*) AS lines, mode(reason ORDER BY reason) AS reason
FROM lake.rejects
WHERE key_id IS NOT NULL AND ts >= getvariable('baseline_start') AND ts < getvariable('window_end')
GROUP BY ALL;

-- grain: key_id; what is left of a full key where it was masked
CREATE OR REPLACE TEMP TABLE key_forms AS
SELECT key_id, split_part("key", '#', 1) AS shown, in_inventory FROM keys;

-- grain: shown, sender, fields, endpoint; a full key that a key sent. A full key in a URL, an agent
-- or another text was masked on its way in; whose it is (key_id) is null where that is not clear.
CREATE OR REPLACE TEMP TABLE exposures AS
WITH sent AS (
    SELECT key_id AS sender, day, endpoint, shown, list_sort(list(DISTINCT field)) AS fields
    FROM (
        SELECT row_number() OVER () AS n, coalesce(principal, key_id) AS key_id, day, endpoint,
            unnest(list_concat(
            list_transform(exposed_keys(path), lambda k: {'shown': k, 'field': 'the URL'}),
            list_transform(exposed_keys(user_agent),
                lambda k: {'shown': k, 'field': 'the user agent'}),
            list_transform(exposed_keys(concat_ws(' ', key_id, address, request_id)),
                lambda k: {'shown': k, 'field': 'another field'})), recursive := true)
        FROM lake.events
        WHERE exposed AND day >= getvariable('window_start') AND day < getvariable('window_end')
    )
    GROUP BY n, key_id, day, endpoint, shown
),

-- Of keys that are shown alike the one in the inventory; two of these are told apart by nobody.
known AS (
    SELECT shown, coalesce(min(key_id) FILTER (in_inventory), min(key_id)) AS key_id
    -- A part's table has the inventory's other keys twice.
    FROM (SELECT DISTINCT * FROM key_forms)
    GROUP BY shown
    HAVING count(*) = 1 OR count(*) FILTER (in_inventory) = 1
)

SELECT k.key_id, s.shown, s.sender, s.fields, s.endpoint, count(*) AS requests,
    min(s.day) AS first_day, max(s.day) AS last_day
FROM sent AS s
LEFT JOIN known AS k USING (shown)
GROUP BY ALL;

-- grain: key_id; the successor of a rotated key, by the inventory, or a guess where the inventory
-- does not say and it is clear: one older and one younger key of the same owner, environment and
-- scopes, made on different days, and of the same name less what is added at a rotation (-v2, -new,
-- a date). A plain number is a name: web-1 and web-2 are two keys. So are two that are still used
-- side by side when the younger one is as old as the baseline: no rotation takes so long. Of v1, v2
-- and v3 each replaces the one before it.
-- Whoever can make keys can make one that looks like a successor: its past makes strange use of it
-- stranger, never less so, and overlap_overstay says that it is a guess.
CREATE OR REPLACE TEMP TABLE successors AS
WITH named AS (
    SELECT *, lower(trim(name)) AS title, list_sort(scopes) AS granted,
        regexp_extract(title, rotation_pattern(), 1) AS kept,
        regexp_extract(title, rotation_pattern(), 2) AS mark
    FROM keys
    WHERE in_inventory AND name IS NOT NULL AND owner IS NOT NULL AND created_at IS NOT NULL
),

-- turn: -old, no mark, -new or -v1, -v2, and so on, a date (its digits)
turns AS (
    SELECT *, coalesce(nullif(kept, ''), title) AS stem,
        CASE
            WHEN mark = '' THEN 0
            WHEN mark = 'old' THEN -1
            WHEN mark IN ('new', 'next', 'rotated') THEN 1
            WHEN starts_with(mark, 'v') THEN mark[2:]::INTEGER
            ELSE rpad(replace(mark, '-', ''), 8, '0')::INTEGER
        END AS turn
    FROM named
),

pairs AS (
    SELECT younger.key_id, older.key_id AS replaces, younger.created_at
    FROM turns AS younger
    JOIN turns AS older USING (owner, environment, stem, granted)
    WHERE older.created_at::DATE < younger.created_at::DATE
        AND (older.turn < younger.turn OR older.title = younger.title)
        AND younger.replaces IS NULL
        AND (younger.created_at >= getvariable('baseline_start')
            OR older.key_id NOT IN (FROM keys_in_use))
        AND older.key_id NOT IN (SELECT replaces FROM keys WHERE replaces IS NOT NULL)
    QUALIFY older.turn = younger.turn
        OR older.turn = max(older.turn) FILTER (older.turn < younger.turn)
            OVER (PARTITION BY younger.key_id)
)

SELECT key_id, replaces, created_at, false AS is_guess FROM keys WHERE replaces IS NOT NULL
UNION ALL
SELECT key_id, replaces, created_at, true FROM pairs
QUALIFY count(*) OVER (PARTITION BY key_id) = 1 AND count(*) OVER (PARTITION BY replaces) = 1;

-- grain: key_id, ancestor; a key in use, and keys whose past is its own too: itself, its
-- predecessor, and so on. Of `beside_keys` (a list or null) only the past places are known.
CREATE OR REPLACE TEMP TABLE lineage AS
WITH RECURSIVE ancestors AS (
    SELECT key_id, key_id AS ancestor FROM window_keys
    UNION
    SELECT key_id, key_id FROM keys_in_use
    WHERE key_id IN (SELECT unnest(getvariable('beside_keys')::VARCHAR[]))
    UNION
    SELECT a.key_id, s.replaces FROM ancestors AS a JOIN successors AS s ON s.key_id = a.ancestor
)

FROM ancestors;

-- grain: key_id, day, place_id; flagged in an earlier review, and no verdict says it
-- is the owner's
CREATE OR REPLACE TEMP VIEW quarantine AS
FROM flagged_places WHERE day < getvariable('window_start');

-- grain: key_id, ancestor, day, place_id; before the window; is_flagged: as in quarantine, or late
-- and no review has scored it
CREATE OR REPLACE TEMP TABLE past_places AS
SELECT l.key_id, l.ancestor, s.day, s.place_id,
    q.day IS NOT NULL OR late.day IS NOT NULL AS is_flagged
FROM place_days AS s
JOIN lineage AS l ON l.ancestor = s.key_id
LEFT JOIN quarantine AS q ON q.key_id = s.key_id AND q.day = s.day AND q.place_id = s.place_id
LEFT JOIN late_places AS late ON late.key_id = s.key_id AND late.day = s.day
    AND late.place_id = s.place_id
WHERE s.day >= getvariable('baseline_start') AND s.day < getvariable('window_start');

-- grain: key_id, day, network; before the window, less what was flagged, and calls by services
CREATE OR REPLACE TEMP TABLE network_days AS
SELECT DISTINCT l.key_id, l.day, p.network
FROM past_places AS l
JOIN places AS p USING (place_id)
WHERE NOT is_flagged AND p.class <> 'service';

-- grain: key_id, network; of its past, since when, and whether it came after the key's beginning:
-- its first settling_days, and five days of use
SET VARIABLE settling_days = 7;
CREATE OR REPLACE TEMP TABLE first_networks AS
WITH beginnings AS (
    SELECT key_id,
        greatest(min(day) + getvariable('settling_days'),
            list_sort(list(DISTINCT day))[5] + 1) AS until
    FROM (SELECT l.key_id, unnest(d.days) AS day FROM lineage AS l
        JOIN first_days AS d ON d.key_id = l.ancestor)
    WHERE day < getvariable('window_start')
    GROUP BY key_id
    HAVING count(DISTINCT day) >= 5
)

SELECT l.key_id, p.network, min(f.first_day) AS first_day,
    coalesce(min(f.first_day) >= any_value(b.until), false) AS is_late
FROM lineage AS l
JOIN first_places AS f ON f.key_id = l.ancestor
JOIN places AS p USING (place_id)
LEFT JOIN beginnings AS b ON b.key_id = l.key_id
WHERE f.first_day < getvariable('window_start')
GROUP BY l.key_id, p.network;

-- grain: key_id, network; a late one that did the key's work (on three days) while every older one
-- was silent, for longer than settling_days, and than twice what the key ever rested before
CREATE OR REPLACE TEMP TABLE moved_networks AS
WITH late AS (FROM first_networks SEMI JOIN network_days USING (key_id, network) WHERE is_late),

-- Days on which the key was at an older network, with the ends of the time to look at.
older_days AS (
    SELECT l.key_id, l.network, l.first_day, o.day
    FROM late AS l
    JOIN (
        SELECT d.key_id, d.day, min(f.first_day) AS oldest
        FROM network_days AS d
        JOIN first_networks AS f USING (key_id, network)
        GROUP BY ALL
    ) AS o ON o.key_id = l.key_id AND o.oldest < l.first_day
    UNION
    SELECT key_id, network, first_day,
        greatest(first_day, getvariable('baseline_start')) - 1 FROM late
    UNION
    SELECT key_id, network, first_day, getvariable('window_start') FROM late
),

silences AS (
    SELECT key_id, network, first_day, day AS until,
        lag(day) OVER (PARTITION BY key_id, network ORDER BY day) AS since
    FROM older_days
),

rests AS (
    SELECT key_id, network, max(until - since) AS longest
    FROM silences
    WHERE until < first_day - 1
    GROUP BY ALL
)

SELECT DISTINCT s.key_id, s.network
FROM silences AS s
JOIN network_days AS d ON d.key_id = s.key_id AND d.network = s.network AND d.day > s.since
    AND d.day < s.until
LEFT JOIN rests AS r ON r.key_id = s.key_id AND r.network = s.network
WHERE s.since >= s.first_day - 1
    AND s.until - s.since > greatest(getvariable('settling_days'), 2 * coalesce(r.longest, 0))
GROUP BY s.key_id, s.network, s.since
HAVING count(*) >= 3;

-- grain: key_id, network; one that is not usual for it yet. Since the lake is reviewed (what was
-- before is what is learnt from), a network is usual that the key used from its beginning, or once
-- two other keys of its owner use it, or once the key moved there. It never is by lasting alone. A
-- window before the log begins says nothing of what was reviewed.
CREATE OR REPLACE TEMP TABLE unsettled_networks AS
WITH owners AS (
    SELECT k.owner, d.network, list(DISTINCT d.key_id) AS key_ids
    FROM (SELECT key_id, network FROM network_days GROUP BY ALL HAVING count(*) >= 3) AS d
    JOIN keys AS k USING (key_id)
    WHERE k.owner IS NOT NULL
    GROUP BY ALL
)

SELECT f.key_id, f.network, f.first_day
FROM first_networks AS f
SEMI JOIN network_days AS d ON d.key_id = f.key_id AND d.network = f.network
LEFT JOIN keys AS k USING (key_id)
LEFT JOIN owners AS o ON o.owner = k.owner AND o.network = f.network
ANTI JOIN moved_networks AS m ON m.key_id = f.key_id AND m.network = f.network
WHERE f.is_late AND f.first_day >= (
        SELECT min(window_start)::DATE FROM lake.runs
        WHERE window_end > (SELECT min(day) FROM lake.activity)
    )
    AND coalesce(len(list_filter(o.key_ids, lambda other: other <> f.key_id)), 0) < 2;

-- grain: key_id, ancestor, day, place_id; what is out of the baseline: flagged, or from a network
-- that is not usual yet
CREATE OR REPLACE TEMP TABLE strange_days AS
SELECT l.key_id, l.ancestor, l.day, l.place_id, p.address
FROM past_places AS l
JOIN places AS p USING (place_id)
WHERE l.is_flagged OR (
    EXISTS (FROM unsettled_networks AS u WHERE u.key_id = l.key_id AND u.network = p.network)
    AND NOT EXISTS (FROM settled_prefixes AS b WHERE b.key_id = l.ancestor
        AND b.prefix = p.prefix));

-- grain: key_id, day, address, endpoint, status_class, agent, in parts that add up; the baseline of
-- the keys in use, with what they inherit. A view: to read three columns twice costs less than to
-- keep all of them once.
CREATE OR REPLACE TEMP VIEW baseline AS
SELECT l.key_id, a.* EXCLUDE (key_id)
FROM span_activity AS a
JOIN lineage AS l ON l.ancestor = a.key_id
ANTI JOIN strange_days AS q
    ON q.key_id = l.key_id AND q.ancestor = a.key_id AND q.day = a.day AND q.address = a.address
WHERE a.day >= getvariable('baseline_start') AND a.day < getvariable('window_start');

-- grain: key_id, day
CREATE OR REPLACE TEMP TABLE window_days AS
SELECT
    key_id, day, sum(events)::BIGINT AS events, sum(objects)::BIGINT AS objects,
    sum(response_bytes)::BIGINT AS response_bytes,
    coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied,
    count(DISTINCT place_id) AS addresses, count(DISTINCT endpoint) AS endpoints,
    count(DISTINCT agent) AS agents
FROM window_activity
GROUP BY ALL;

-- grain: endpoint; as the log format in which it is most sensitive has it. `source_catalogue` says
-- it by log format; this view serves detectors that were written before.
CREATE OR REPLACE TEMP VIEW catalogue AS
SELECT endpoint, scope, sensitivity, why, requests_per_minute
FROM source_catalogue
QUALIFY row_number() OVER (PARTITION BY endpoint
    ORDER BY list_position(['critical', 'high', 'low', 'none'], sensitivity), source) = 1;

-- grain: key_id, day, prefix, scope; requests in the fullest minute, and of
-- those let in.
-- Of one address, endpoint and agent, so the key's own minute had as many at least; null before
-- format 4
CREATE OR REPLACE TEMP TABLE visit_rates AS
SELECT a.key_id, a.day, a.prefix, c.scope, c.requests_per_minute, max(a.peak_per_minute) AS peak,
    max(a.peak_per_minute) FILTER (a.status_class LIKE '2%') AS peak_succeeded
FROM window_activity AS a
JOIN keys AS k USING (key_id)
JOIN source_catalogue AS c USING (source, endpoint)
WHERE c.requests_per_minute IS NOT NULL
GROUP BY ALL;

-- grain: key_id, scope; the same of the past
CREATE OR REPLACE TEMP TABLE baseline_rates AS
SELECT b.key_id, c.scope, max(b.peak_per_minute) AS peak
FROM baseline AS b
JOIN keys AS k USING (key_id)
JOIN source_catalogue AS c USING (source, endpoint)
WHERE c.requests_per_minute IS NOT NULL
GROUP BY ALL;

-- grain: key_id, place_id; days = days seen. A service that calls for the key says nothing of
-- where the key is used.
CREATE OR REPLACE TEMP TABLE baseline_places AS
SELECT l.key_id, l.place_id, count(DISTINCT l.day) AS days, min(l.day) AS first_day,
    max(l.day) AS last_day
FROM past_places AS l
ANTI JOIN strange_days AS q USING (key_id, ancestor, day, place_id)
ANTI JOIN (FROM places WHERE class = 'service') AS s USING (place_id)
GROUP BY ALL;

-- grain: key_id, address; a view, because few are asked for by name
CREATE OR REPLACE TEMP VIEW baseline_addresses AS
SELECT b.*, p.address, p.prefix, p.network, p.country, p.class
FROM baseline_places AS b
JOIN places AS p USING (place_id);

-- grain: key_id, prefix, network, country, class; days = days seen, added up over its addresses
CREATE OR REPLACE TEMP TABLE baseline_prefixes AS
SELECT
    key_id, prefix, network, country, class,
    count(*) AS addresses, sum(days)::BIGINT AS days, min(first_day) AS first_day,
    min(address) AS address
FROM baseline_addresses
GROUP BY ALL;

-- grain: key_id, network, country, class
CREATE OR REPLACE TEMP TABLE baseline_networks AS
SELECT
    key_id, network, country, class,
    sum(addresses)::BIGINT AS addresses, sum(days)::BIGINT AS days, min(first_day) AS first_day,
    min(address) AS address
FROM baseline_prefixes
GROUP BY ALL;

-- grain: key_id, session, day, prefix; short-lived credentials of the key, of the window and the
-- baseline, where a client has used them. Calls that a service makes for them are from nowhere.
CREATE OR REPLACE TEMP TABLE session_places AS
SELECT l.key_id, s.session, s.day, p.prefix, min(p.network) AS network,
    min(place_of(p.class, p.asn, p.organization, p.country, p.located)) AS place,
    min(s.first_ts) AS first_ts, max(s.last_ts) AS last_ts
FROM lake.sessions AS s
JOIN (FROM lineage SEMI JOIN window_keys USING (key_id)) AS l ON l.ancestor = s.key_id
JOIN places AS p USING (address)
ANTI JOIN strange_days AS q
    ON q.key_id = l.key_id AND q.ancestor = s.key_id AND q.day = s.day AND q.address = s.address
WHERE s.day >= getvariable('baseline_start') AND s.day < getvariable('window_end')
    AND p.class NOT IN ('service', 'reserved', 'invalid', 'none')
GROUP BY l.key_id, s.session, s.day, p.prefix;

-- grain: key_id, session, day, prefix; the window only; first_prefix, first_network and first_place
-- are where the session was used first
CREATE OR REPLACE TEMP TABLE window_sessions AS
SELECT *
FROM (
    SELECT *, first(prefix) OVER in_time AS first_prefix, first(network) OVER in_time
        AS first_network, first(place) OVER in_time AS first_place
    FROM session_places
    WINDOW in_time AS (PARTITION BY key_id, session ORDER BY first_ts, prefix)
)
WHERE day >= getvariable('window_start');

-- grain: key_id; sessions of the past, and how many of them were used in several networks
CREATE OR REPLACE TEMP TABLE baseline_sessions AS
SELECT key_id, count(*) AS sessions, count(*) FILTER (networks > 1) AS elsewhere
FROM (
    SELECT key_id, session, count(DISTINCT network) AS networks
    FROM session_places
    WHERE day < getvariable('window_start')
    GROUP BY ALL
)
GROUP BY key_id;

-- grain: key_id, endpoint, agent, is_service; a bit for each day seen, and for each day with a
-- denied call; is_service: a service called for the key
SET VARIABLE baseline_days = getvariable('window_start') - getvariable('baseline_start');
CREATE OR REPLACE TEMP TABLE baseline_uses AS
SELECT
    key_id, endpoint, agent, is_service, sum(events) AS events, min(day) AS first_day,
    bitstring_agg(day_number, 0, getvariable('baseline_days')) AS days,
    bitstring_agg(day_number, 0, getvariable('baseline_days')) FILTER (is_denied(status_class))
        AS denied_days
FROM (
    SELECT *, (day - getvariable('baseline_start'))::INTEGER AS day_number,
        address IN (SELECT address FROM places WHERE class = 'service') AS is_service
    FROM baseline
)
GROUP BY key_id, endpoint, agent, is_service;

-- grain: key_id, day
CREATE OR REPLACE TEMP TABLE baseline_days AS
WITH sums AS (
    SELECT
        key_id, day, sum(events)::BIGINT AS events, sum(object_count)::BIGINT AS objects,
        sum(response_bytes)::BIGINT AS response_bytes,
        coalesce(sum(events) FILTER (is_denied(status_class)), 0)::BIGINT AS denied,
        coalesce(sum(events) FILTER (status_class = '429'), 0)::BIGINT AS throttled
    FROM baseline
    GROUP BY ALL
),

-- To count what is different on a day is quicker where each is there once.
addresses AS (
    SELECT key_id, day, count(DISTINCT place_id) AS addresses
    FROM past_places
    ANTI JOIN strange_days USING (key_id, ancestor, day, place_id)
    GROUP BY ALL
),

uses AS (
    SELECT key_id, day, count(endpoint) AS endpoints, count(agent) AS agents
    FROM (
        SELECT key_id, endpoint, agent,
            unnest(days_in(days, getvariable('baseline_start'))) AS day
        FROM (
            SELECT key_id, endpoint, agent, bit_or(days) AS days
            FROM baseline_uses
            GROUP BY GROUPING SETS ((key_id, endpoint), (key_id, agent))
        )
    )
    GROUP BY ALL
)

SELECT s.*, a.addresses, u.endpoints, u.agents
FROM sums AS s
JOIN addresses AS a USING (key_id, day)
JOIN uses AS u USING (key_id, day);

-- grain: key_id, endpoint; days = days seen, of which denied_days with a denied call
CREATE OR REPLACE TEMP TABLE baseline_endpoints AS
SELECT key_id, endpoint, bit_count(bit_or(days)) AS days,
    coalesce(bit_count(bit_or(denied_days)), 0) AS denied_days,
    sum(events) AS events, min(first_day) AS first_day
FROM baseline_uses
GROUP BY ALL;

-- grain: key_id, agent
CREATE OR REPLACE TEMP TABLE baseline_agents AS
SELECT key_id, agent, split_part(agent, '/', 1) AS product,
    bit_count(bit_or(days)) AS days, min(first_day) AS first_day
FROM baseline_uses
WHERE NOT is_service
GROUP BY ALL;

-- grain: key_id; how much it is seen and how often something about it is new
CREATE OR REPLACE TEMP TABLE key_history AS
WITH days AS (
    SELECT key_id, count(*) AS active_days, min(day) AS first_day, max(day) AS last_day,
        avg(events) AS mean_events, avg(denied) AS mean_denied, exact_var(denied) AS var_denied,
        avg(objects) AS mean_objects, exact_var(objects) AS var_objects,
        max(objects) AS max_objects,
        max(denied) AS max_denied, max(events) AS max_events,
        max(response_bytes) AS max_response_bytes, max(throttled) AS max_throttled
    FROM baseline_days GROUP BY key_id
),

origins AS (
    SELECT key_id, sum(days) AS address_days, sum(addresses) AS addresses,
        count(DISTINCT network) AS networks, count(DISTINCT country) AS countries,
        max(network_first_day) AS newest_network_day
    FROM (
        SELECT *, min(first_day) OVER (PARTITION BY key_id, network) AS network_first_day
        FROM baseline_networks
    )
    GROUP BY key_id
),

prefixes AS (
    SELECT key_id, count(DISTINCT prefix) AS prefixes FROM baseline_prefixes GROUP BY key_id
),

-- How often something is new includes what is not usual yet.
seen AS (
    SELECT l.key_id, sum(l.days)::BIGINT AS seen_address_days, count(*) AS seen_addresses,
        count(DISTINCT p.prefix) AS seen_prefixes,
        count(DISTINCT p.network) AS seen_networks, count(DISTINCT p.country) AS seen_countries
    FROM (
        SELECT key_id, place_id, count(DISTINCT day) AS days
        FROM past_places
        WHERE NOT is_flagged
        GROUP BY ALL
    ) AS l
    JOIN places AS p USING (place_id)
    WHERE p.class <> 'service'
    GROUP BY l.key_id
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
    SELECT key_id, count(DISTINCT product) AS products,
        arg_min(agent, (-days, agent)) AS usual_agent,
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
    newest_network_day, coalesce(seen_address_days, 0) AS seen_address_days,
    coalesce(seen_addresses, 0) AS seen_addresses, coalesce(seen_prefixes, 0) AS seen_prefixes,
    coalesce(seen_networks, 0) AS seen_networks, coalesce(seen_countries, 0) AS seen_countries,
    CASE WHEN p.address IS NOT NULL
        THEN place_of(p.class, p.asn, p.organization, p.country, p.located)
        WHEN active_days > 0 THEN 'calls by services' END AS usual_place,
    coalesce(endpoints, 0) AS endpoints, coalesce(endpoint_new_days, 0) AS endpoint_new_days,
    usual_endpoint,
    coalesce(products, 0) AS products, coalesce(agent_new_days, 0) AS agent_new_days, usual_agent
FROM window_keys
LEFT JOIN days USING (key_id)
LEFT JOIN origins USING (key_id)
LEFT JOIN prefixes USING (key_id)
LEFT JOIN seen USING (key_id)
LEFT JOIN usual_places USING (key_id)
LEFT JOIN places AS p USING (address)
LEFT JOIN endpoints USING (key_id)
LEFT JOIN agents USING (key_id);

-- grain: key_id; keys of like scopes and like main use
CREATE OR REPLACE TEMP TABLE peers AS
SELECT h.key_id,
    concat_ws('|', array_to_string(list_sort(k.scopes), ' '), h.usual_endpoint) AS peer_group
FROM key_history AS h
LEFT JOIN keys AS k USING (key_id);

-- grain: owner, key_id, prefix; days = baseline days on which the owner's key came from there
CREATE OR REPLACE TEMP TABLE owner_prefixes AS
SELECT k.owner, b.key_id, b.prefix, min(b.network) AS network, min(b.class) AS class,
    any_value(k.environment) AS environment, sum(b.days) AS days
FROM baseline_prefixes AS b
JOIN keys AS k USING (key_id)
WHERE k.owner IS NOT NULL
GROUP BY k.owner, b.key_id, b.prefix;

-- grain: key_id, prefix; where another key of its owner was seen on three days or more: a place of
-- the owner's
CREATE OR REPLACE TEMP TABLE owner_places AS
SELECT DISTINCT k.key_id, o.prefix
FROM keys AS k
JOIN (
    SELECT m.owner, l.key_id, p.prefix
    FROM (FROM past_places ANTI JOIN strange_days USING (key_id, ancestor, day, place_id)) AS l
    JOIN places AS p USING (place_id)
    JOIN keys AS m ON m.key_id = l.key_id
    WHERE m.owner IS NOT NULL
    GROUP BY ALL
    HAVING count(DISTINCT l.day) >= 3
) AS o ON o.owner = k.owner AND o.key_id <> k.key_id;

-- grain: key_id, hour; the window only
CREATE OR REPLACE TEMP TABLE window_hours AS
SELECT key_id, hour, sum(events)::BIGINT AS events
FROM span_hours
WHERE hour >= getvariable('window_start') AND hour < getvariable('window_end')
GROUP BY ALL;

-- grain: key_id, hour, in parts that add up; a view, because few keys are asked for
CREATE OR REPLACE TEMP VIEW baseline_hours AS
SELECT l.key_id, a.hour, a.events
FROM span_hours AS a
JOIN lineage AS l ON l.ancestor = a.key_id
ANTI JOIN strange_days AS q
    ON q.key_id = l.key_id AND q.ancestor = a.key_id AND q.day = a.hour::DATE
        AND q.address = a.address
WHERE hour >= getvariable('baseline_start') AND hour < getvariable('window_start');

-- grain: key_id, day, prefix, previous, endpoint; previous is '' where a session begins
CREATE OR REPLACE TEMP TABLE visit_transitions AS
SELECT t.key_id, t.day, p.prefix, t.previous, t.endpoint, sum(t.events) AS events
FROM span_transitions AS t
JOIN places AS p USING (address)
WHERE t.day >= getvariable('window_start') AND t.day < getvariable('window_end')
GROUP BY ALL;

-- grain: key_id, previous, endpoint; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_transitions AS
SELECT l.key_id, t.previous, t.endpoint, count(DISTINCT t.day) AS days
FROM span_transitions AS t
JOIN lineage AS l ON l.ancestor = t.key_id
ANTI JOIN strange_days AS q
    ON q.key_id = l.key_id AND q.ancestor = t.key_id AND q.day = t.day AND q.address = t.address
WHERE t.day >= getvariable('baseline_start') AND t.day < getvariable('window_start')
GROUP BY ALL;

-- grain: key_id, day, prefix, endpoint, object; its hash, of many objects the 64 smallest
CREATE OR REPLACE TEMP TABLE visit_objects AS
SELECT DISTINCT key_id, day, prefix, endpoint, unnest(object_hashes) AS object
FROM window_activity;

-- grain: key_id, endpoint, object; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_objects AS
SELECT key_id, endpoint, object, count(DISTINCT day) AS days
FROM (SELECT key_id, day, endpoint, unnest(objects) AS object FROM baseline)
GROUP BY ALL;

-- grain: key_id, is_weekend, hour_of_day; in UTC; days = days seen
CREATE OR REPLACE TEMP TABLE baseline_hours_of_week AS
SELECT key_id, isodow(hour) > 5 AS is_weekend, hour(hour) AS hour_of_day,
    count(DISTINCT hour::DATE) AS days
FROM baseline_hours
GROUP BY ALL;

-- grain: key_id; days = days on which it was used in several countries
CREATE OR REPLACE TEMP TABLE baseline_days_abroad AS
SELECT key_id, count(*) AS days
FROM (
    SELECT l.key_id, l.day
    FROM past_places AS l
    JOIN places AS p USING (place_id)
    ANTI JOIN strange_days AS q USING (key_id, ancestor, day, place_id)
    WHERE p.country <> '-'
    GROUP BY l.key_id, l.day
    HAVING min(p.country) <> max(p.country)
)
GROUP BY key_id;

-- grain: key_id, network; of the window, that is not usual for it; goes_on: it was there before the
-- window
CREATE OR REPLACE TEMP TABLE new_networks AS
SELECT DISTINCT v.key_id, v.network, p.network IS NOT NULL AS goes_on
FROM visits AS v
SEMI JOIN baseline_networks AS k ON k.key_id = v.key_id
ANTI JOIN baseline_networks AS b ON b.key_id = v.key_id AND b.network = v.network
LEFT JOIN (
    SELECT DISTINCT l.key_id, p.network FROM past_places AS l JOIN places AS p USING (place_id)
) AS p ON p.key_id = v.key_id AND p.network = v.network
WHERE v.class <> 'service';

-- grain: key_id, network; one that is new to it: from when until when the key was there, what it
-- did (requests that were answered), whether a usual place was used after its first request and
-- until a day after its last one (owner_goes_on), and how long all usual places were silent around
-- it, give or take handover_hours: silent_until is when the next one was used, null where none was;
-- missing_events is what their hours let expect in that time. silence_bits is how improbable it is:
-- the requests that are missing, or the days, whichever says less, for a key may rest for days.
SET VARIABLE handover_hours = 3;
CREATE OR REPLACE TEMP TABLE stays AS
WITH arrived AS (
    SELECT v.key_id, v.network, n.goes_on,
        CASE WHEN n.goes_on THEN getvariable('window_start')::TIMESTAMP
            ELSE min(v.first_ts) END AS since,
        max(v.last_ts) AS until, sum(v.succeeded)::BIGINT AS done
    FROM new_networks AS n
    JOIN visits AS v USING (key_id, network)
    GROUP BY v.key_id, v.network, n.goes_on
),

usual_visits AS (
    SELECT v.key_id, v.first_ts, v.last_ts
    FROM visits AS v
    SEMI JOIN arrived AS a ON a.key_id = v.key_id
    SEMI JOIN baseline_networks AS b ON b.key_id = v.key_id AND b.network = v.network
),

usual_hours AS (
    SELECT DISTINCT h.key_id, h.hour
    FROM span_hours AS h
    JOIN places AS p USING (address)
    SEMI JOIN arrived AS a ON a.key_id = h.key_id
    SEMI JOIN baseline_networks AS b ON b.key_id = h.key_id AND b.network = p.network
    WHERE h.hour >= getvariable('window_start') AND h.hour < getvariable('window_end')
),

silences AS (
    SELECT a.key_id, a.network,
        greatest(any_value(a.first_hour),
            max(u.hour) FILTER (u.hour <= a.handed_over)) AS silent_since,
        min(u.hour) FILTER (u.hour > a.handed_over) AS silent_until
    FROM (
        SELECT *, date_trunc('hour', since) AS first_hour,
            first_hour + to_hours(getvariable('handover_hours')) AS handed_over
        FROM arrived
    ) AS a
    LEFT JOIN usual_hours AS u USING (key_id)
    GROUP BY a.key_id, a.network
),

-- grain: key_id, is_weekend; share = of such days since its first one, those on which it is used
kinds_of_day AS (
    SELECT d.key_id, d.is_weekend, count(*) AS days, (count(u.day) + 0.5) / (count(*) + 1) AS share
    FROM (
        SELECT key_id, day, isodow(day) > 5 AS is_weekend
        FROM (
            SELECT h.key_id, unnest(generate_series(
                h.first_day, getvariable('window_start') - 1, INTERVAL 1 DAY))::DATE AS day
            FROM key_history AS h
            SEMI JOIN arrived AS a ON a.key_id = h.key_id
        )
    ) AS d
    LEFT JOIN baseline_days AS u USING (key_id, day)
    GROUP BY ALL
),

-- grain: key_id, is_weekend, hour_of_day; requests in such an hour
rates AS (
    SELECT d.key_id, d.is_weekend, any_value(d.share) AS share, h.hour_of_day,
        coalesce(sum(b.events), 0) / any_value(d.days) AS an_hour
    FROM kinds_of_day AS d
    CROSS JOIN (SELECT unnest(range(24)) AS hour_of_day) AS h
    LEFT JOIN (SELECT * FROM baseline_hours SEMI JOIN arrived USING (key_id)) AS b
        ON b.key_id = d.key_id AND (isodow(b.hour) > 5) = d.is_weekend
            AND hour(b.hour) = h.hour_of_day
    GROUP BY ALL
),

missing_days AS (
    SELECT a.key_id, a.network, sum(exact(r.an_hour))::DOUBLE AS events, any_value(r.share) AS share
    FROM arrived AS a
    JOIN silences AS s USING (key_id, network)
    CROSS JOIN LATERAL (
        SELECT unnest(generate_series(
            s.silent_since + INTERVAL 1 HOUR,
            coalesce(s.silent_until - INTERVAL 1 HOUR,
                date_trunc('hour', (SELECT last_ts FROM window_reach))),
            INTERVAL 1 HOUR)) AS hour) AS t
    JOIN rates AS r
        ON r.key_id = a.key_id AND r.is_weekend = (isodow(t.hour) > 5)
            AND r.hour_of_day = hour(t.hour)
    GROUP BY a.key_id, a.network, t.hour::DATE
),

-- A day is silent where the key is not used on it at all, or only in other hours.
missing AS (
    SELECT key_id, network, sum(exact(events))::DOUBLE AS events,
        sum(exact(bits(1 - share + share * pow(2, -silence_bits(events / share)))))::DOUBLE AS bits
    FROM missing_days
    GROUP BY ALL
)

SELECT a.*,
    CASE WHEN s.silent_since > a.since THEN s.silent_since + INTERVAL 1 HOUR
        ELSE a.since END AS silent_since,
    s.silent_until, coalesce(m.events, 0) AS missing_events,
    -- Who goes on at both places leaves no silence around the stay.
    s.silent_until IS NOT NULL
        AND s.silent_until < date_trunc('hour', a.until)
            - to_hours(getvariable('handover_hours')) AS is_beside,
    CASE WHEN is_beside THEN 0.0 ELSE least(silence_bits(missing_events), coalesce(m.bits, 0)) END
        AS silence_bits,
    EXISTS (FROM usual_visits AS u WHERE u.key_id = a.key_id AND u.last_ts > a.since
        AND u.first_ts <= a.until + INTERVAL 1 DAY) AS owner_goes_on
FROM arrived AS a
JOIN silences AS s USING (key_id, network)
LEFT JOIN missing AS m USING (key_id, network);

-- grain: key_id, network, hour; of networks that are new to it, the window only
CREATE OR REPLACE TEMP TABLE stay_hours AS
SELECT h.key_id, p.network, h.hour, sum(h.events)::BIGINT AS events
FROM span_hours AS h
JOIN places AS p USING (address)
SEMI JOIN new_networks AS n ON n.key_id = h.key_id AND n.network = p.network
WHERE h.hour >= getvariable('window_start') AND h.hour < getvariable('window_end')
GROUP BY ALL;

-- grain: key_id; at a new network; days = days on which its use of one network began before
-- that of another one ended
CREATE OR REPLACE TEMP TABLE baseline_days_beside AS
WITH spans AS (
    SELECT b.key_id, b.day, p.network, min(b.first_ts) AS first_ts, max(b.last_ts) AS last_ts
    FROM baseline AS b
    JOIN places AS p USING (address)
    SEMI JOIN new_networks AS n ON n.key_id = b.key_id
    GROUP BY ALL
)

SELECT key_id, count(DISTINCT day) AS days
FROM (
    SELECT *, max(last_ts) OVER (
        PARTITION BY key_id, day ORDER BY first_ts, network
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS others_until
    FROM spans
)
WHERE first_ts <= others_until
GROUP BY key_id;

-- grain: key_id; days = days seen; of these the mean and the variance of the (natural) logarithms
-- of requests in an hour with requests, and of the number of such hours
CREATE OR REPLACE TEMP TABLE baseline_rhythms AS
WITH days AS (
    SELECT key_id, hour::DATE AS day, ln(sum(events) / count(DISTINCT hour)) AS rate,
        ln(count(DISTINCT hour)) AS hours
    FROM baseline_hours
    GROUP BY ALL
)

SELECT key_id, count(*) AS days, avg(exact(rate)) AS rate,
    exact_var(billionths(rate)) / 1e18 AS rate_variance,
    avg(exact(hours)) AS hours,
    exact_var(billionths(hours)) / 1e18 AS hours_variance
FROM days
GROUP BY key_id;

-- What keys at large do. Each table by key is small: what a key says of itself to all others.

-- grain: key_id, kind, value; what the key used before: the prefix, network and country of its
-- places, each agent, and each call of its routine
CREATE OR REPLACE TEMP TABLE traits AS
SELECT DISTINCT key_id, unnest(['prefix', 'network', 'country']) AS kind,
    unnest([prefix, network, country]) AS value
FROM baseline_prefixes
SEMI JOIN window_keys USING (key_id)
UNION ALL
SELECT key_id, 'agent', agent FROM baseline_agents
UNION ALL
SELECT DISTINCT key_id, 'call', endpoint FROM baseline_transitions;

-- grain: kind, value; keys that used it
CREATE OR REPLACE TEMP TABLE everybody AS
SELECT kind, value, count(*) AS keys FROM traits GROUP BY ALL;

-- grain: kind; keys with any value, and what everybody's keys add up to
CREATE OR REPLACE TEMP TABLE everybody_in_all AS
SELECT kind, count(DISTINCT key_id) AS keys, count(*) AS uses FROM traits GROUP BY kind;

-- grain: key_id, day, prefix, endpoint; of the window, that the key never called; at_usual: from a
-- network that is usual for it, which a key without a past has none of (has_past)
CREATE OR REPLACE TEMP TABLE new_endpoints AS
SELECT e.key_id, e.day, e.prefix, e.endpoint, e.succeeded, coalesce(k.owner, e.key_id) AS owner,
    n.key_id IS NOT NULL AS at_usual, p.key_id IS NOT NULL AS has_past
FROM visit_endpoints AS e
JOIN visits AS v USING (key_id, day, prefix)
ANTI JOIN baseline_endpoints AS b ON b.key_id = e.key_id AND b.endpoint = e.endpoint
LEFT JOIN keys AS k ON k.key_id = e.key_id
LEFT JOIN (SELECT DISTINCT key_id, network FROM baseline_networks) AS n
    ON n.key_id = v.key_id AND n.network = v.network
LEFT JOIN (SELECT DISTINCT key_id FROM baseline_networks) AS p ON p.key_id = v.key_id;

-- grain: key_id, day, prefix, endpoint; the same as far as a call can be a habit: what any key may
-- call and what gives nothing away (who am I?) is none
CREATE OR REPLACE TEMP TABLE new_calls AS
SELECT e.*
FROM new_endpoints AS e
JOIN keys AS k ON k.key_id = e.key_id
ANTI JOIN (FROM source_catalogue WHERE any_key AND sensitivity = 'none') AS c
    ON c.source = k.source AND c.endpoint = e.endpoint;

-- grain: key_id, endpoint; use that others may go by: before the window, or in it (begins) from
-- where the key always ran. One thief with many keys is no release; nor are keys without a past,
-- which begin with everything.
CREATE OR REPLACE TEMP TABLE uses AS
SELECT key_id, endpoint, false AS begins FROM baseline_endpoints
UNION ALL
SELECT DISTINCT c.key_id, c.endpoint, h.active_days > 0
FROM new_calls AS c
JOIN key_history AS h USING (key_id)
WHERE c.succeeded > 0 AND (h.active_days = 0 OR c.at_usual);

-- grain: key_id, day, address; of the window, at a prefix where no key of the owner was before;
-- new_client: with a product that the key never used, if it has a past
CREATE OR REPLACE TEMP TABLE arrivals AS
SELECT v.key_id, v.day, v.prefix, v.network, v.place, a.address, a.ip,
    coalesce(k.owner, v.key_id) AS owner, c.key_id IS NOT NULL AS new_client
FROM visits AS v
JOIN visit_addresses AS a USING (key_id, day, prefix)
LEFT JOIN keys AS k USING (key_id)
LEFT JOIN (
    SELECT DISTINCT g.key_id, g.day, g.prefix
    FROM visit_agents AS g
    SEMI JOIN baseline_networks AS n ON n.key_id = g.key_id
    ANTI JOIN baseline_agents AS b ON b.key_id = g.key_id AND b.product = g.product
) AS c USING (key_id, day, prefix)
ANTI JOIN (
    SELECT DISTINCT coalesce(k.owner, b.key_id) AS owner, b.prefix
    FROM baseline_prefixes AS b
    LEFT JOIN keys AS k USING (key_id)
) AS o ON o.owner = coalesce(k.owner, v.key_id) AND o.prefix = v.prefix
WHERE v.located;
