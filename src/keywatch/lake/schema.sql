-- The lake's tables. Times are UTC. Text from a log is redacted before it gets here, and hostile.

-- grain: ts, key_id, request_id; one request, counted once
CREATE TABLE lake.events (
    day            DATE,       -- of ts
    ts             TIMESTAMP,
    key_id         VARCHAR,    -- the credential, as logged
    key            VARCHAR,    -- masked
    principal      VARCHAR,    -- whose it is, of a short-lived credential; null: the key's own
    address        VARCHAR,    -- as logged, less the port
    method         VARCHAR,
    endpoint       VARCHAR,    -- method and path template
    object         VARCHAR,    -- the ids that the template left out, joined with '/'
    path           VARCHAR,    -- as called
    status         SMALLINT,
    user_agent     VARCHAR,
    agent          VARCHAR,    -- product and major version
    response_bytes BIGINT,
    duration_ms    DOUBLE,
    request_id     VARCHAR,    -- as logged; where the log has none, '#' and a digest of the row
    exposed        BOOLEAN,    -- a full key stood in the path, the agent or another text field
    source         VARCHAR,
    load_id        BIGINT
);

-- grain: ts, request_id, source; one request made without a key (services acting for themselves)
CREATE TABLE lake.keyless_events AS FROM lake.events WITH NO DATA;

-- grain: ts, key_id, request_id; one that is ahead of the clock; it is let in when its time has
-- come
CREATE TABLE lake.held_back AS FROM lake.events WITH NO DATA;

-- grain: file_id; one file of one load
CREATE TABLE lake.ingested_files (
    file_id BIGINT, load_id BIGINT, path VARCHAR, sha256 VARCHAR, size_bytes BIGINT, source VARCHAR,
    lines BIGINT, events BIGINT, duplicates BIGINT, keyless BIGINT, rejects BIGINT,
    first_ts TIMESTAMP, last_ts TIMESTAMP, loaded_at TIMESTAMP,
    held_back BIGINT,          -- lines that were ahead of the clock
    waits_until TIMESTAMP      -- its last line was half written; then it is taken as it is
);

-- grain: path, size_bytes, modified_at, tried_by; a state of a file that was found and not loaded
CREATE TABLE lake.left_out_files (
    path VARCHAR, size_bytes BIGINT, modified_at TIMESTAMP, reason VARCHAR,
    tried_by VARCHAR,          -- Keywatch's version and the settings that it depends on
    seen_at TIMESTAMP
);

-- grain: file_id, line; one line that could not be read as an event
CREATE TABLE lake.rejects (
    load_id BIGINT, file_id BIGINT, line BIGINT, reason VARCHAR,
    -- JSON: those of its fields that may be kept, its size and keyed digest
    text VARCHAR,
    key_id VARCHAR,            -- whose it is, where that can be told
    ts TIMESTAMP               -- its own, else of the readable line before it in its file
);

-- grain: import_id, key_id; of the imports of the inventory the newest import_id of a key is in
-- force
CREATE TABLE lake.keys (
    import_id BIGINT, imported_at TIMESTAMP, key_id VARCHAR, key VARCHAR, name VARCHAR,
    owner VARCHAR, environment VARCHAR, scopes VARCHAR[], created_at TIMESTAMP,
    expires_at TIMESTAMP, revoked_at TIMESTAMP, replaces VARCHAR,
    honey BOOLEAN,            -- planted: nobody has a reason to use it
    inventory VARCHAR         -- the list that named it first; null: one in Keywatch's own form
);

-- grain: leak_id; a find of a leaked key, in a secret scanner's report
CREATE TABLE lake.leaked_keys (
    leak_id VARCHAR,           -- a digest of the find
    imported_at TIMESTAMP,
    key_id VARCHAR,            -- where the find names it; else null
    key VARCHAR,               -- masked, with its keyed hash where the find held the full key
    found_at TIMESTAMP,        -- null: the report does not say
    source VARCHAR,            -- which scanner, for people
    location VARCHAR           -- a URL, or file and commit
);

-- grain: key_id; one that is not revoked and that the last whole inventory did not list
CREATE TABLE lake.unlisted_keys (
    key_id VARCHAR, since TIMESTAMP -- when an inventory was imported without it for the first time
);

-- grain: address, load_id; as logged, and the databases that were asked of it; the newest load_id
-- is in force
CREATE TABLE lake.origins (
    address VARCHAR, ip VARCHAR, prefix VARCHAR, asn BIGINT, organization VARCHAR, country VARCHAR,
    latitude DOUBLE, longitude DOUBLE, accuracy_km INTEGER, class VARCHAR, provider VARCHAR,
    located BOOLEAN, database VARCHAR, built_on DATE, asked VARCHAR, load_id BIGINT
);

-- grain: key_id, day, address, endpoint, status_class, agent, in parts that add up: one a chunk of
-- a load. In the roll-ups, and in all that is made of them, key_id is a short-lived credential's
-- principal.
CREATE TABLE lake.activity (
    key_id VARCHAR, day DATE, address VARCHAR, endpoint VARCHAR, status_class VARCHAR,
    agent VARCHAR,
    events BIGINT,
    -- hashes of its distinct objects, sorted; the 64 smallest: unite them
    objects        UINTEGER[],
    object_count   BIGINT,     -- distinct objects; one that two parts saw counts twice in the sum
    response_bytes BIGINT, exposed BIGINT,
    first_ts TIMESTAMP, last_ts TIMESTAMP, load_id BIGINT,
    peak_per_minute BIGINT     -- requests in its fullest minute; null before format 4
);

-- grain: key_id, day, address, previous, endpoint, in parts that add up: one a chunk of a load
CREATE TABLE lake.transitions (
    key_id VARCHAR, day DATE, address VARCHAR,
    -- endpoint of the key's request from there before, less than 30 minutes ago; else
    -- '': a session begins. Chunks don't know of each other, nor loads.
    previous VARCHAR,
    endpoint VARCHAR, events BIGINT, load_id BIGINT
);

-- grain: key_id, hour, address, in parts that add up: one a chunk of a load
CREATE TABLE lake.activity_hours (
    key_id VARCHAR, hour TIMESTAMP, address VARCHAR, events BIGINT, load_id BIGINT
);

-- grain: key_id, session, day, address, in parts that add up: one a chunk of a load
CREATE TABLE lake.sessions (
    key_id VARCHAR,            -- the principal, as in the other roll-ups
    session VARCHAR,           -- the credential's id
    day DATE, address VARCHAR, events BIGINT, first_ts TIMESTAMP, last_ts TIMESTAMP, load_id BIGINT
);

-- grain: path; a place in paths that holds an id, as the log has shown. Events, and roll-ups, have
-- {id} there.
CREATE TABLE lake.path_templates (
    path VARCHAR,              -- method and path up to the place, as 'GET /users/'
    kept VARCHAR[],            -- what stands there and is no id
    load_id BIGINT             -- the load that it was learnt by
);

-- grain: run_id; one review of one window on one state of the lake
CREATE TABLE lake.runs (
    run_id VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP, lake_snapshot BIGINT,
    config_hash VARCHAR, version VARCHAR, made_at TIMESTAMP, coverage JSON
);

-- grain: window_start, load_id; an ISO week and a load that touched it, until a review has scored
-- it
CREATE TABLE lake.review_queue (
    window_start TIMESTAMP, window_end TIMESTAMP, load_id BIGINT,
    is_late BOOLEAN            -- the week had been over for a day
);

-- grain: run_id, key_id, day, prefix, detector; what it says of them (day and prefix null: of the
-- key)
CREATE TABLE lake.evidence (
    run_id VARCHAR, key_id VARCHAR, day DATE, prefix VARCHAR, detector VARCHAR, family VARCHAR,
    bits DOUBLE, typical VARCHAR, actual VARCHAR, explanation VARCHAR
);

-- grain: run_id, key_id
CREATE TABLE lake.cases (
    run_id VARCHAR, key_id VARCHAR, action VARCHAR, bits DOUBLE, p_value DOUBLE, q_value DOUBLE
);

-- grain: run_id, key_id; a case with an action; document is the case of the JSON contract
CREATE TABLE lake.recommendations (
    run_id VARCHAR, key_id VARCHAR, action VARCHAR, document JSON
);

-- grain: run_id, nth; all that a review said: nth 0 is the review, the others are its cases in
-- order, those without an action in brief
CREATE TABLE lake.reviews (
    run_id VARCHAR,
    state VARCHAR,             -- a digest of all that it rests on
    load_id BIGINT,            -- the lake's last load then
    nth BIGINT, key_id VARCHAR, key VARCHAR, name VARCHAR,
    day DATE, prefix VARCHAR,  -- of the worst visit
    document JSON              -- keywatch.review.stored.ToldReview, keywatch.model.Case
);

-- grain: run_id, key_id, network; one that was new to the key; countries, prefixes (the busiest)
-- and the rest as of keywatch.model.NewNetwork
CREATE TABLE lake.new_networks (
    run_id VARCHAR, key_id VARCHAR, key VARCHAR, name VARCHAR, owner VARCHAR, network VARCHAR,
    organization VARCHAR, countries VARCHAR[], class VARCHAR, prefixes VARCHAR[], addresses BIGINT,
    requests BIGINT, first_seen TIMESTAMP, last_seen TIMESTAMP, old_place_in_use BOOLEAN,
    owner_keys BIGINT, owner_since DATE, open_since DATE, action VARCHAR, bits DOUBLE,
    outcome VARCHAR
);

-- grain: run_id, key_id, day, prefix; one visit that the newest review of its window found
-- suspicious, or a verdict says was a theft (run_id is the verdict's then); no baseline until
-- a verdict
CREATE TABLE lake.flagged_visits (
    run_id VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP,
    key_id VARCHAR, day DATE, prefix VARCHAR
);

-- grain: method, window_start, window_end, load_id; an earlier window, replayed when loads up to
-- load_id were in the lake; cases = keys in use, by fold; method says by which detectors, what was
-- known of the window, and after which import of the inventory (`detect/replay.py`)
CREATE TABLE lake.replays (
    method VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP, load_id BIGINT, cases BIGINT[]
);

-- grain: method, window_start, window_end, key_id, day, prefix; a replayed visit with evidence,
-- less facts; bits by detector, in order of ids
CREATE TABLE lake.replayed_visits (
    method VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP,
    key_id VARCHAR, day DATE, prefix VARCHAR, bits DOUBLE[],
    network VARCHAR, goes_on BOOLEAN, -- a network that is new to the key, else ''; was there before
    -- a rule speaks against it; the usual places were silent meanwhile
    ruled BOOLEAN, moved BOOLEAN
);

-- grain: verdict_id; what an analyst said of a key's case in a window; it only grows. 'undo'
-- withdraws the newest that is in force; verdicts.sql has verdicts_in_force()
CREATE TABLE lake.verdicts (
    verdict_id VARCHAR, key_id VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP,
    verdict VARCHAR, by_whom VARCHAR, because VARCHAR, given_at TIMESTAMP, until DATE,
    -- prefixes and networks that it is about; null: all of the case (before format 4)
    origins VARCHAR[],
    families VARCHAR[],        -- kinds of evidence that are expected from there; null: none is
    -- the case's when it was given; null: there was none (or before format 5)
    action VARCHAR, bits DOUBLE
);
-- grain: suppression_id; an origin of a key (a prefix, or a network that was named) that is
-- expected from a day on, for these families
CREATE TABLE lake.suppressions (
    suppression_id VARCHAR, verdict_id VARCHAR, key_id VARCHAR, origin VARCHAR, owner VARCHAR,
    because VARCHAR, starts_on DATE, ends_on DATE,
    families VARCHAR[]
);

-- grain: made_at, what; an upkeep of the lake; events of days before events_before were pruned,
-- their roll-ups stay
CREATE TABLE lake.maintenance (
    made_at TIMESTAMP,
    -- maintained; to purge: something was erased, and is in old files still
    what VARCHAR,
    events_before DATE
);

-- grain: id; the lake's; lake.id, beside its Parquet files, says the same. The fingerprint is of
-- the secret that keys are hashed with.
CREATE TABLE lake.identity AS
SELECT uuid()::VARCHAR AS id, getvariable('secret_fingerprint')::VARCHAR AS secret_fingerprint;

-- grain: version; the lake's
CREATE TABLE lake.format (version INTEGER);
INSERT INTO lake.format VALUES (8);
