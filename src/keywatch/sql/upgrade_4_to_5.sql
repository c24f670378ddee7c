-- Format 5: what must never be lost.

-- Lines that can't be read have a key and a time where these can be told; what is found and can't be read at
-- all is remembered.
ALTER TABLE lake.rejects ADD COLUMN key_id VARCHAR;
ALTER TABLE lake.rejects ADD COLUMN ts TIMESTAMP;
ALTER TABLE lake.ingested_files ADD COLUMN waits_until TIMESTAMP;
CREATE TABLE lake.left_out_files (
    path VARCHAR, size_bytes BIGINT, modified_at TIMESTAMP, reason VARCHAR, tried_by VARCHAR, seen_at TIMESTAMP
);
