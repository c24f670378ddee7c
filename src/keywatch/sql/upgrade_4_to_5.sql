-- Format 5: what must never be lost.
CREATE TABLE lake.identity AS SELECT uuid()::VARCHAR AS id;
