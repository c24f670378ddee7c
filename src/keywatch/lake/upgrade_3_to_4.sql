-- Format 4 knows from where a key was used in each hour, and how fast; honey keys; what a
-- suppression covers; which networks were new.
ALTER TABLE lake.keys ADD COLUMN honey BOOLEAN;
ALTER TABLE lake.activity ADD COLUMN peak_per_minute BIGINT;
ALTER TABLE lake.verdicts ADD COLUMN origins VARCHAR[];
ALTER TABLE lake.verdicts ADD COLUMN families VARCHAR[];
ALTER TABLE lake.suppressions ADD COLUMN families VARCHAR[];
ALTER TABLE lake.replayed_visits ADD COLUMN network VARCHAR;
ALTER TABLE lake.replayed_visits ADD COLUMN goes_on BOOLEAN;
ALTER TABLE lake.replayed_visits ADD COLUMN ruled BOOLEAN;
ALTER TABLE lake.replayed_visits ADD COLUMN moved BOOLEAN;
DELETE FROM lake.replayed_visits;
DELETE FROM lake.replays;
-- What was expected goes on as it did, but not for longer than half a year from now.
UPDATE lake.suppressions SET families = ['origin', 'endpoints', 'client', 'all'],
    ends_on = least(ends_on, current_date + 180);

DROP TABLE lake.activity_hours;
CREATE TABLE lake.activity_hours (
    key_id VARCHAR, hour TIMESTAMP, address VARCHAR, events BIGINT, load_id BIGINT
);
INSERT INTO lake.activity_hours
SELECT key_id, date_trunc('hour', ts), address, count(*), load_id
FROM lake.events
GROUP BY ALL
ORDER BY ALL;

CREATE TABLE lake.new_networks (
    run_id VARCHAR, key_id VARCHAR, key VARCHAR, name VARCHAR, owner VARCHAR, network VARCHAR,
    organization VARCHAR, countries VARCHAR[], class VARCHAR, prefixes VARCHAR[], addresses BIGINT,
    requests BIGINT, first_seen TIMESTAMP, last_seen TIMESTAMP, old_place_in_use BOOLEAN,
    owner_keys BIGINT, owner_since DATE, open_since DATE, action VARCHAR, bits DOUBLE,
    outcome VARCHAR
);
