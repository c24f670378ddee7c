-- Format 7: alerts have notes: who works on one, and comments.
CREATE TABLE IF NOT EXISTS lake.alert_notes (
    alert_id VARCHAR, kind VARCHAR, text VARCHAR, noted_by VARCHAR, noted_at TIMESTAMP,
    sequence BIGINT
);
