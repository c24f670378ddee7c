-- Format 5: what must never be lost.
CREATE TABLE lake.held_back AS FROM lake.events WITH NO DATA;
ALTER TABLE lake.ingested_files ADD COLUMN held_back BIGINT;
