-- Format 5: what must never be lost.
-- Of the events that are there the credential stands for itself: who used it was not stored.
ALTER TABLE lake.events ADD COLUMN IF NOT EXISTS principal VARCHAR;
ALTER TABLE lake.keyless_events ADD COLUMN IF NOT EXISTS principal VARCHAR;
CREATE TABLE IF NOT EXISTS lake.sessions (
    key_id VARCHAR, session VARCHAR, day DATE, address VARCHAR, events BIGINT,
    first_ts TIMESTAMP, last_ts TIMESTAMP, load_id BIGINT
);
CREATE TABLE lake.held_back AS FROM lake.events WITH NO DATA;
CREATE TABLE lake.review_queue (
    window_start TIMESTAMP, window_end TIMESTAMP, load_id BIGINT, is_late BOOLEAN
);
-- What the feed had not looked at: it scored two weeks at most, the first time one.
CREATE TABLE IF NOT EXISTS lake.watches (load_id BIGINT, made_at TIMESTAMP);
INSERT INTO lake.review_queue
SELECT date_trunc('week', day)::TIMESTAMP AS monday, monday + INTERVAL 7 DAY, max(load_id), false
FROM lake.activity
WHERE day <= current_date AND load_id > coalesce((SELECT max(load_id) FROM lake.watches), -1)
GROUP BY monday
ORDER BY monday DESC
LIMIT CASE WHEN (SELECT count(*) FROM lake.watches) = 0 THEN 1 ELSE 2 END;
DROP TABLE lake.watches;
CREATE TABLE lake.maintenance (made_at TIMESTAMP, what VARCHAR, events_before DATE);
ALTER TABLE lake.ingested_files ADD COLUMN held_back BIGINT;
ALTER TABLE lake.verdicts ADD COLUMN IF NOT EXISTS action VARCHAR;
ALTER TABLE lake.verdicts ADD COLUMN IF NOT EXISTS bits DOUBLE;

-- Lines that can't be read have a key and a time where these can be told; what is found and can't
-- be read at all is remembered.
ALTER TABLE lake.rejects ADD COLUMN key_id VARCHAR;
ALTER TABLE lake.rejects ADD COLUMN ts TIMESTAMP;
ALTER TABLE lake.ingested_files ADD COLUMN waits_until TIMESTAMP;
CREATE TABLE lake.left_out_files (
    path VARCHAR, size_bytes BIGINT, modified_at TIMESTAMP, reason VARCHAR, tried_by VARCHAR,
    seen_at TIMESTAMP
);
CREATE TABLE lake.identity AS SELECT uuid()::VARCHAR AS id;

-- What became of messages is in the order in which it was stored, whatever the clock says.
ALTER TABLE lake.alerts ADD COLUMN IF NOT EXISTS is_late BOOLEAN;
ALTER TABLE lake.alerts ADD COLUMN IF NOT EXISTS sequence BIGINT;
ALTER TABLE lake.delivery_outcomes ADD COLUMN IF NOT EXISTS sequence BIGINT;
ALTER TABLE lake.delivery_outcomes ADD COLUMN IF NOT EXISTS summary_id VARCHAR;
ALTER TABLE lake.delivery_outcomes ADD COLUMN IF NOT EXISTS recipients JSON;

-- Which keys the inventory no longer lists.
CREATE TABLE IF NOT EXISTS lake.unlisted_keys (key_id VARCHAR, since TIMESTAMP);

-- Where paths hold ids; learnt by the next load.
CREATE TABLE IF NOT EXISTS lake.path_templates (path VARCHAR, kept VARCHAR[], load_id BIGINT);

-- Which list named a key, and which keys have leaked.
ALTER TABLE lake.keys ADD COLUMN IF NOT EXISTS inventory VARCHAR;
CREATE TABLE IF NOT EXISTS lake.leaked_keys (
    leak_id VARCHAR, imported_at TIMESTAMP, key_id VARCHAR, key VARCHAR, found_at TIMESTAMP,
    source VARCHAR, location VARCHAR
);

-- What reviews said, to be read again; of earlier runs it is scored anew.
CREATE TABLE IF NOT EXISTS lake.reviews (
    run_id VARCHAR, state VARCHAR, load_id BIGINT, nth BIGINT, key_id VARCHAR, key VARCHAR,
    name VARCHAR, day DATE, prefix VARCHAR, document JSON
);
