-- Format 4 knows from where a key was used in each hour, and how fast; honey keys; what a suppression covers.
ALTER TABLE lake.keys ADD COLUMN honey BOOLEAN;
ALTER TABLE lake.activity ADD COLUMN peak_per_minute BIGINT;
ALTER TABLE lake.verdicts ADD COLUMN origins VARCHAR[];
ALTER TABLE lake.verdicts ADD COLUMN families VARCHAR[];
ALTER TABLE lake.suppressions ADD COLUMN families VARCHAR[];

DROP TABLE lake.activity_hours;
CREATE TABLE lake.activity_hours (
    key_id VARCHAR, hour TIMESTAMP, address VARCHAR, events BIGINT, load_id BIGINT
);
INSERT INTO lake.activity_hours
SELECT key_id, date_trunc('hour', ts), address, count(*), load_id
FROM lake.events
GROUP BY ALL
ORDER BY ALL;
